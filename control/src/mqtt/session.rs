//! What is kept for one client, whether it is connected or not (MQTT 5 §4.1).

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::broker::ConnId;
use super::packet::{Message, Will};
use super::{INFLIGHT_MAX, Limits, filter};
use crate::bus::{Client, Qos};

/// One session, for the life of the daemon.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct SessionId(pub(super) u64);

#[derive(Debug)]
pub(super) struct Session {
    /// Of the connection it has or had last.
    pub(super) client: Client,
    pub(super) conn: Option<ConnId>,
    /// The address it knows us by.
    pub(super) known_as: IpAddr,
    /// How long it outlives its connection.
    pub(super) expiry: Duration,
    pub(super) filters: BTreeSet<String>,
    pub(super) will: Option<Will>,
    /// When it is published, if the client does not come back.
    pub(super) will_at: Option<Instant>,
    /// When the session is forgotten, if the client does not come back.
    pub(super) ends: Option<Instant>,
    /// Publications of QoS 2 of which the second half is still to come.
    pub(super) received: BTreeSet<u16>,
    /// Sent and not acknowledged, in the order they were sent.
    pub(super) inflight: VecDeque<Queued>,
    queue: VecDeque<Queued>,
    queue_bytes: usize,
    /// Retained messages still to be sent.
    pub(super) replays: VecDeque<Replaying>,
    last_pkid: u16,
}

/// A message that waits for a client.
#[derive(Clone, Debug)]
pub(super) struct Queued {
    pub(super) message: Arc<Message>,
    pub(super) qos: Qos,
    pub(super) retain: bool,
    pub(super) ids: Vec<u32>,
    pub(super) expires: Option<Instant>,
    /// It was sent under this identifier before.
    pub(super) pkid: Option<u16>,
}

/// A new subscription whose retained messages are being sent.
#[derive(Debug)]
pub(super) struct Replaying {
    pub(super) filter: String,
    pub(super) qos: Qos,
    pub(super) id: Option<u32>,
    /// The topic that was sent last.
    pub(super) after: Option<String>,
}

/// What became of a message for a client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Room {
    Made,
    /// An older message of QoS 0 made room.
    Dropped,
    /// It is of QoS 0, and there is no room for it.
    Refused,
    /// It must not be lost, and there is no room for it.
    Overflow,
}

impl Session {
    pub(super) fn new(client: Client, conn: ConnId, known_as: IpAddr) -> Self {
        Self {
            client,
            conn: Some(conn),
            known_as,
            expiry: Duration::ZERO,
            filters: BTreeSet::new(),
            will: None,
            will_at: None,
            ends: None,
            received: BTreeSet::new(),
            inflight: VecDeque::new(),
            queue: VecDeque::new(),
            queue_bytes: 0,
            replays: VecDeque::new(),
            last_pkid: 0,
        }
    }

    pub(super) fn push(&mut self, queued: Queued, limits: &Limits) -> Room {
        let size = queued.message.size();
        let mut room = Room::Made;
        while self.queue.len() >= limits.queue_messages
            || self.queue_bytes + size > limits.queue_bytes
        {
            let mut waiting = self.queue.iter();
            match waiting.position(|q| q.qos == Qos::AtMostOnce) {
                Some(at) => {
                    let gone = self.queue.remove(at);
                    self.queue_bytes -= gone.map_or(0, |q| q.message.size());
                    room = Room::Dropped;
                }
                None if queued.qos == Qos::AtMostOnce => return Room::Refused,
                None => return Room::Overflow,
            }
        }
        self.queue_bytes += size;
        self.queue.push_back(queued);
        room
    }

    pub(super) fn front(&self) -> Option<&Queued> {
        self.queue.front()
    }

    pub(super) fn pop(&mut self) -> Option<Queued> {
        let queued = self.queue.pop_front()?;
        self.queue_bytes -= queued.message.size();
        Some(queued)
    }

    /// §4.4: what was sent and not acknowledged is sent again, first and in its order.
    pub(super) fn rewind(&mut self) {
        while let Some(sent) = self.inflight.pop_back() {
            self.queue_bytes += sent.message.size();
            self.queue.push_front(sent);
        }
    }

    /// An identifier that no message in flight has.
    pub(super) fn fresh_pkid(&mut self) -> u16 {
        loop {
            self.last_pkid = self.last_pkid.checked_add(1).unwrap_or(1);
            let next = Some(self.last_pkid);
            let waiting = self.queue.iter().take(usize::from(INFLIGHT_MAX));
            let taken = |q: &Queued| q.pkid == next;
            if !self.inflight.iter().any(taken) && !waiting.clone().any(taken) {
                return self.last_pkid;
            }
        }
    }

    pub(super) fn acknowledged(&mut self, pkid: u16) -> bool {
        let mut sent = self.inflight.iter();
        let at = sent.position(|q| q.pkid == Some(pkid));
        at.and_then(|at| self.inflight.remove(at)).is_some()
    }

    pub(super) fn queue_len(&self) -> usize {
        self.queue.len() + self.inflight.len()
    }

    pub(super) fn queue_bytes(&self) -> usize {
        let sent = self.inflight.iter().map(|q| q.message.size());
        self.queue_bytes + sent.sum::<usize>()
    }

    /// Whoever subscribes again begins again.
    pub(super) fn replay(&mut self, filter: &str, qos: Qos, id: Option<u32>) {
        self.replays.retain(|replaying| replaying.filter != filter);
        self.replays.push_back(Replaying {
            filter: filter.to_owned(),
            qos,
            id,
            after: None,
        });
    }

    pub(super) fn no_replay(&mut self, filter: &str) {
        self.replays.retain(|replaying| replaying.filter != filter);
    }
}

impl Replaying {
    /// Another message may follow.
    pub(super) fn goes_on(&self) -> bool {
        self.after.is_none() || filter::has_wildcard(&self.filter)
    }
}
