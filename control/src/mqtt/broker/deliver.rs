//! Delivery: from a session's queue to its connection, as fast as that one takes it.

use std::net::IpAddr;
use std::time::Instant;

use bytes::Bytes;

use super::{Broker, Dropped, Effect, Turn};
use crate::bus::Qos;
use crate::mqtt::UNSENT_BYTES_MAX;
use crate::mqtt::address::written_for;
use crate::mqtt::packet::{Delivery, Message, Outgoing, Reason};
use crate::mqtt::retained::Retained;
use crate::mqtt::session::{Queued, Room, Session, SessionId};

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
            let Some(queued) = next(session, retained, conn.receive_max, turn.now) else {
                return;
            };
            if is_over(queued.expires, turn.now) {
                counters.drop(Dropped::Expired);
                continue;
            }
            if !turn.access.may_read(&session.client, &queued.message.topic) {
                continue;
            }
            let delivery = deliver(session, queued, conn.packet_max, turn.now);
            let Some(delivery) = delivery else {
                // §3.1.2.11.4: as if it had been delivered.
                counters.drop(Dropped::TooLarge);
                continue;
            };
            conn.unsent += delivery.size();
            counters.sent += 1;
            turn.effects.push(Effect::Send {
                conn: id,
                packet: Outgoing::Publish(delivery),
            });
        }
    }
}

/// What a client is to get next: of its queue, and when that is empty of what is retained.
fn next(
    session: &mut Session,
    retained: &Retained,
    receive_max: usize,
    now: Instant,
) -> Option<Queued> {
    let full = session.inflight.len() >= receive_max;
    if let Some(front) = session.front() {
        let waits = full && front.qos == Qos::AtLeastOnce && !is_over(front.expires, now);
        return if waits { None } else { session.pop() };
    }
    loop {
        let replaying = session.replays.front_mut()?;
        if full {
            return None;
        }
        let after = replaying.after.as_deref();
        let found = match replaying.goes_on() {
            true => retained.next(&replaying.filter, after, now),
            false => None,
        };
        let Some(kept) = found else {
            session.replays.pop_front();
            continue;
        };
        replaying.after = Some(kept.message.topic.clone());
        return Some(Queued {
            message: kept.message.clone(),
            qos: replaying.qos.min(kept.message.qos),
            retain: true,
            ids: replaying.id.into_iter().collect(),
            expires: kept.expires,
            pkid: None,
        });
    }
}

/// A message as it leaves, noted as in flight if it is to be acknowledged; none: it is larger than
/// the client takes.
fn deliver(
    session: &mut Session,
    mut queued: Queued,
    packet_max: usize,
    now: Instant,
) -> Option<Delivery> {
    let again = queued.pkid.is_some();
    let mut delivery = Delivery {
        message: queued.message.clone(),
        payload: written(&queued.message, session.known_as),
        pkid: None,
        again,
        retain: queued.retain,
        ids: queued.ids.clone(),
        expiry: queued.expires.map(|at| at.saturating_duration_since(now)),
    };
    if delivery.size() > packet_max {
        return None;
    }
    if queued.qos == Qos::AtLeastOnce {
        let pkid = queued.pkid.unwrap_or_else(|| session.fresh_pkid());
        queued.pkid = Some(pkid);
        delivery.pkid = Some(pkid);
        session.inflight.push_back(queued);
    }
    Some(delivery)
}

/// The payload with the address that this receiver knows us by, if it names us.
fn written(message: &Message, known_as: IpAddr) -> Option<Bytes> {
    let names_us = !message.spans.is_empty();
    names_us.then(|| written_for(&message.payload, &message.spans, known_as))
}

fn is_over(expires: Option<Instant>, now: Instant) -> bool {
    expires.is_some_and(|expires| expires <= now)
}
