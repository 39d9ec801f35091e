//! Delivery: from a session's queue to its connection, as fast as that one takes it.

use std::net::IpAddr;
use std::time::Instant;

use bytes::Bytes;

use super::{Broker, Dropped, Effect, Turn};
use crate::bus::Qos;
use crate::mqtt::UNSENT_BYTES_MAX;
use crate::mqtt::address::written_for;
use crate::mqtt::packet::{Delivery, Message, Outgoing, Reason};
use crate::mqtt::session::{Queued, Room, SessionId};

impl Broker {
    /// Puts a message into a session's queue and sends what may be sent.
    pub(super) fn push(&mut self, to: SessionId, queued: Queued, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(&to) else {
            return;
        };
        match session.push(queued, &self.limits) {
            Room::Made => {}
            Room::Dropped | Room::Refused => self.counters.drop(Dropped::QueueFull),
            Room::Overflow => {
                self.counters.drop(Dropped::QueueFull);
                return self.overflow(to, turn);
            }
        }
        self.pump(to, turn);
    }

    /// What must not be lost has no room. The client finds its session gone when it comes back, and
    /// knows that it must ask anew.
    fn overflow(&mut self, of: SessionId, turn: &mut Turn<'_>) {
        let conn = self.sessions.get(&of).and_then(|session| session.conn);
        if let Some(conn) = conn {
            self.expel(conn, Reason::Quota, turn);
        }
        self.end(of, turn);
    }

    /// Sends as much of the queue, and then of what is retained, as the client takes now.
    pub(super) fn pump(&mut self, of: SessionId, turn: &mut Turn<'_>) {
        let Self {
            sessions,
            conns,
            retained,
            counters,
            ..
        } = self;
        let Some(session) = sessions.get_mut(&of) else {
            return;
        };
        let Some(id) = session.conn else {
            return;
        };
        let Some(conn) = conns.get_mut(&id) else {
            return;
        };
        while conn.unsent < UNSENT_BYTES_MAX {
            let from_queue = match session.front() {
                Some(front) if is_over(front.expires, turn.now) => {
                    session.pop();
                    counters.drop(Dropped::Expired);
                    continue;
                }
                Some(front) => {
                    let waits = front.qos == Qos::AtLeastOnce;
                    if waits && session.inflight.len() >= conn.receive_max {
                        return;
                    }
                    session.pop()
                }
                None => None,
            };
            let next = from_queue.or_else(|| {
                let replaying = session.replays.front_mut()?;
                let after = replaying.after.as_deref();
                let found = match replaying.goes_on() {
                    true => retained.next(&replaying.filter, after, turn.now),
                    false => None,
                };
                let kept = found?;
                if session.inflight.len() >= conn.receive_max {
                    return None;
                }
                replaying.after = Some(kept.message.topic.clone());
                Some(Queued {
                    message: kept.message.clone(),
                    qos: replaying.qos.min(kept.message.qos),
                    retain: true,
                    ids: replaying.id.into_iter().collect(),
                    expires: kept.expires,
                    pkid: None,
                })
            });
            let Some(mut queued) = next else {
                if session.inflight.len() < conn.receive_max
                    && session.replays.pop_front().is_some()
                {
                    continue;
                }
                return;
            };
            if !turn.access.may_read(&session.client, &queued.message.topic) {
                continue;
            }
            let again = queued.pkid.is_some();
            let expiry = queued
                .expires
                .map(|at| at.saturating_duration_since(turn.now));
            let delivery = |pkid, queued: &Queued| Delivery {
                message: queued.message.clone(),
                payload: written(&queued.message, session.known_as),
                pkid,
                again,
                retain: queued.retain,
                ids: queued.ids.clone(),
                expiry,
            };
            let mut delivery = delivery(None, &queued);
            let size = delivery.size();
            if size > conn.packet_max {
                // §3.1.2.11.4: as if it had been delivered.
                counters.drop(Dropped::TooLarge);
                continue;
            }
            if queued.qos == Qos::AtLeastOnce {
                let pkid = queued.pkid.unwrap_or_else(|| session.fresh_pkid());
                queued.pkid = Some(pkid);
                delivery.pkid = Some(pkid);
                session.inflight.push_back(queued);
            }
            conn.unsent += size;
            counters.sent += 1;
            turn.effects.push(Effect::Send {
                conn: id,
                packet: Outgoing::Publish(delivery),
            });
        }
    }
}

/// The payload with the address that this receiver knows us by, if it names us.
fn written(message: &Message, known_as: IpAddr) -> Option<Bytes> {
    let names_us = !message.spans.is_empty();
    names_us.then(|| written_for(&message.payload, &message.spans, known_as))
}

fn is_over(expires: Option<Instant>, now: Instant) -> bool {
    expires.is_some_and(|expires| expires <= now)
}
