//! What must reach a broker, until it has: one queue for a link, in the order it was filled. What
//! the link's client keeps for itself is not trusted; what it had when a connection ended is
//! submitted anew, in order.

pub mod backoff;
pub mod record;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::bus::{Publication, Qos};

/// What a message costs beside its topic and payload: its place in the queue, and in the indices.
pub const MESSAGE_OVERHEAD: usize = 200;

/// What a link may hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    pub messages: usize,
    /// Topics, payloads and [`MESSAGE_OVERHEAD`] of each.
    pub bytes: usize,
    /// Messages submitted and not acknowledged: as many may come twice after a connection ended.
    pub window: u16,
}

/// What the outbox wants done, in order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Keep this under a number beyond the end of the process; none forgets it. Times in it count
    /// from the call's.
    Keep { id: u64, record: Option<Bytes> },
    /// Hand this to the link; its expiry is what is left of it.
    Submit(Publication),
    /// This is given up, and will not reach anybody.
    GiveUp { topic: String, why: Lost },
}

/// The list effects are pushed into.
pub type Effects = Vec<Effect>;

/// Why a message that was accepted is given up.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Lost {
    /// Its time was over.
    Expired,
    /// It was sent at most once, and there was no room.
    Displaced,
    /// The broker takes no packet of this size.
    TooLarge,
    /// The broker does not let us publish it.
    Refused,
}

/// There is no room, and nothing that could make some.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Full;

/// For the books.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    pub accepted: u64,
    pub delivered: u64,
    /// Producers that were told [`Full`].
    pub full: u64,
    /// Submitted once more after a connection ended.
    pub redelivered: u64,
    pub lost: BTreeMap<Lost, u64>,
}

/// The queue of one link.
#[derive(Debug)]
pub struct Outbox {
    limits: Limits,
    queue: BTreeMap<u64, Entry>,
    bytes: usize,
    /// The number of the next message.
    next: u64,
    /// What is in the queue below this number is in flight.
    cursor: u64,
    flights: VecDeque<Flight>,
    /// What the broker takes; none: there is no connection.
    broker: Option<Broker>,
    /// Those that may be displaced.
    loose: BTreeSet<u64>,
    deadlines: BTreeSet<(Instant, u64)>,
    counts: Counts,
}

#[derive(Debug)]
struct Entry {
    publication: Publication,
    since: Instant,
    deadline: Option<Instant>,
    /// It was submitted before.
    again: bool,
}

/// One submission.
#[derive(Debug)]
struct Flight {
    id: u64,
    /// As soon as the client has given it one; zero for what nobody acknowledges.
    packet: Option<u16>,
}

#[derive(Clone, Copy, Debug)]
struct Broker {
    window: usize,
    packet_max: usize,
}

impl Lost {
    pub const ALL: [Self; 4] = [
        Self::Expired,
        Self::Displaced,
        Self::TooLarge,
        Self::Refused,
    ];

    /// Its stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Displaced => "displaced",
            Self::TooLarge => "too_large",
            Self::Refused => "refused",
        }
    }
}

impl Outbox {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            queue: BTreeMap::new(),
            bytes: 0,
            next: 1,
            cursor: 1,
            flights: VecDeque::new(),
            broker: None,
            loose: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            counts: Counts::default(),
        }
    }

    /// Other limits, for what comes from now on; those of what is in flight on the next connection.
    pub fn limit(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Takes in what an earlier process kept, whatever the limits are now. In the order of numbers,
    /// and before anything else. False: it cannot be read.
    pub fn restore(&mut self, id: u64, record: &[u8], at: Instant) -> bool {
        let Some(publication) = record::decode(record) else {
            return false;
        };
        self.next = self.next.max(id.saturating_add(1));
        self.insert(id, publication, at);
        true
    }

    /// Takes a message for the link.
    ///
    /// # Errors
    /// There is no room, though what may be given up has been.
    pub fn push(
        &mut self,
        publication: Publication,
        now: Instant,
        effects: &mut Effects,
    ) -> Result<(), Full> {
        if !self.make_room(cost(&publication), now, effects) {
            self.counts.full += 1;
            return Err(Full);
        }
        let id = self.next;
        self.next += 1;
        if publication.qos == Qos::AtLeastOnce {
            let record = Some(record::encode(&publication));
            effects.push(Effect::Keep { id, record });
        }
        self.insert(id, publication, now);
        self.counts.accepted += 1;
        self.submit(now, effects);
        Ok(())
    }

    /// There is a connection: what was in flight on the last one goes first, then the others.
    pub fn connected(
        &mut self,
        receive_max: Option<u16>,
        packet_max: Option<u32>,
        now: Instant,
        effects: &mut Effects,
    ) {
        self.disconnected();
        let window = receive_max.map_or(self.limits.window, |max| max.min(self.limits.window));
        let packet_max = packet_max.and_then(|max| usize::try_from(max).ok());
        self.broker = Some(Broker {
            window: usize::from(window),
            packet_max: packet_max.unwrap_or(usize::MAX),
        });
        self.submit(now, effects);
    }

    /// There is none any more; of what was in flight nobody knows whether it arrived.
    pub fn disconnected(&mut self) {
        self.broker = None;
        self.flights.clear();
        self.cursor = 0;
    }

    /// The link's client has written the next submission and given it this number, zero if nobody
    /// acknowledges it.
    pub fn sent(&mut self, packet: u16, now: Instant, effects: &mut Effects) {
        let mut flights = self.flights.iter_mut();
        let Some(flight) = flights.find(|flight| flight.packet.is_none()) else {
            return;
        };
        flight.packet = Some(packet);
        if packet == 0 {
            self.landed(0, effects);
            self.counts.delivered += 1;
            self.submit(now, effects);
        }
    }

    /// The broker has it, or will not have it. False: it has nothing under this number.
    pub fn acknowledged(
        &mut self,
        packet: u16,
        refused: bool,
        now: Instant,
        effects: &mut Effects,
    ) -> bool {
        let Some(entry) = self.landed(packet, effects) else {
            return false;
        };
        if refused {
            self.give_up(entry, Lost::Refused, effects);
        } else {
            self.counts.delivered += 1;
        }
        self.submit(now, effects);
        true
    }

    /// Time passed: what is worth nothing any more goes.
    pub fn expire(&mut self, now: Instant, effects: &mut Effects) {
        while let Some(&(deadline, id)) = self.deadlines.first() {
            if deadline > now {
                return;
            }
            self.deadlines.remove(&(deadline, id));
            // What is in flight is looked at if it must be submitted again.
            if id >= self.cursor {
                self.lose(id, Lost::Expired, effects);
            }
        }
    }

    /// When it wants [`Outbox::expire`].
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// As the limit counts them.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How long the oldest message has waited.
    #[must_use]
    pub fn oldest(&self, now: Instant) -> Duration {
        let first = self.queue.values().next();
        first.map_or(Duration::ZERO, |entry| {
            now.saturating_duration_since(entry.since)
        })
    }

    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    fn insert(&mut self, id: u64, publication: Publication, since: Instant) {
        self.bytes = self.bytes.saturating_add(cost(&publication));
        let expiry = publication.expiry;
        let deadline = expiry.and_then(|expiry| since.checked_add(expiry));
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, id));
        }
        if publication.qos == Qos::AtMostOnce {
            self.loose.insert(id);
        }
        let entry = Entry {
            publication,
            since,
            deadline,
            again: false,
        };
        self.queue.insert(id, entry);
    }

    /// What has expired goes first, then what may be sent at most once, the oldest first.
    fn make_room(&mut self, cost: usize, now: Instant, effects: &mut Effects) -> bool {
        let fits = |outbox: &Self| {
            let bytes = outbox.bytes.saturating_add(cost);
            outbox.queue.len() < outbox.limits.messages && bytes <= outbox.limits.bytes
        };
        if !fits(self) {
            self.expire(now, effects);
        }
        while !fits(self) {
            let Some(&id) = self.loose.range(self.cursor..).next() else {
                return false;
            };
            self.lose(id, Lost::Displaced, effects);
        }
        true
    }

    /// Fills the window.
    fn submit(&mut self, now: Instant, effects: &mut Effects) {
        let Some(broker) = self.broker else {
            return;
        };
        while self.flights.len() < broker.window {
            let Some((&id, entry)) = self.queue.range_mut(self.cursor..).next() else {
                return;
            };
            self.cursor = id + 1;
            let left = entry
                .deadline
                .map(|deadline| deadline.saturating_duration_since(now));
            if left.is_some_and(|left| left.is_zero()) {
                self.lose(id, Lost::Expired, effects);
                continue;
            }
            if wire_size(&entry.publication) > broker.packet_max {
                self.lose(id, Lost::TooLarge, effects);
                continue;
            }
            if std::mem::replace(&mut entry.again, true) {
                self.counts.redelivered += 1;
            }
            let expiry = left;
            effects.push(Effect::Submit(Publication {
                expiry,
                ..entry.publication.clone()
            }));
            self.flights.push_back(Flight { id, packet: None });
        }
    }

    /// A submission is over.
    fn landed(&mut self, packet: u16, effects: &mut Effects) -> Option<Entry> {
        let mut flights = self.flights.iter();
        let index = flights.position(|flight| flight.packet == Some(packet))?;
        let flight = self.flights.remove(index)?;
        self.remove(flight.id, effects)
    }

    fn lose(&mut self, id: u64, why: Lost, effects: &mut Effects) {
        if let Some(entry) = self.remove(id, effects) {
            self.give_up(entry, why, effects);
        }
    }

    fn give_up(&mut self, entry: Entry, why: Lost, effects: &mut Effects) {
        *self.counts.lost.entry(why).or_default() += 1;
        let topic = entry.publication.topic;
        effects.push(Effect::GiveUp { topic, why });
    }

    fn remove(&mut self, id: u64, effects: &mut Effects) -> Option<Entry> {
        let entry = self.queue.remove(&id)?;
        self.bytes = self.bytes.saturating_sub(cost(&entry.publication));
        self.loose.remove(&id);
        if let Some(deadline) = entry.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        if entry.publication.qos == Qos::AtLeastOnce {
            effects.push(Effect::Keep { id, record: None });
        }
        Some(entry)
    }
}

fn cost(publication: &Publication) -> usize {
    let texts = publication
        .topic
        .len()
        .saturating_add(publication.payload.len());
    texts.saturating_add(MESSAGE_OVERHEAD)
}

/// MQTT 5 §3.3: at most five octets of fixed header, the topic's length, a packet identifier, the
/// length of properties and one of five octets.
fn wire_size(publication: &Publication) -> usize {
    5 + 2 + publication.topic.len() + 2 + 1 + 5 + publication.payload.len()
}

#[cfg(test)]
mod tests;
