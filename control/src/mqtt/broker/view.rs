//! What people and metrics see of the broker.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Broker;
use crate::bus::Client;
use crate::mqtt::packet::{Reason, Version};

/// Why a message did not reach somebody.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Dropped {
    /// The sender may not publish there.
    NotAuthorized,
    /// The plane did not take it.
    Refused,
    QueueFull,
    /// Of QoS 0, for somebody who is not there.
    Offline,
    Expired,
    /// The receiver takes no packets of that size.
    TooLarge,
    /// It went to whoever was there, and is not kept.
    RetainedFull,
    /// It names a server that nobody knows.
    ForeignServer,
}

impl Dropped {
    pub const ALL: [Self; 8] = [
        Self::NotAuthorized,
        Self::Refused,
        Self::QueueFull,
        Self::Offline,
        Self::Expired,
        Self::TooLarge,
        Self::RetainedFull,
        Self::ForeignServer,
    ];

    /// The label of a metric.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::NotAuthorized => "not_authorized",
            Self::Refused => "refused",
            Self::QueueFull => "queue_full",
            Self::Offline => "offline",
            Self::Expired => "expired",
            Self::TooLarge => "too_large",
            Self::RetainedFull => "retained_full",
            Self::ForeignServer => "foreign_server",
        }
    }
}

/// What happened since the start.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    pub connected: u64,
    /// Publications of clients.
    pub received: u64,
    /// Messages sent to clients.
    pub sent: u64,
    pub wills: u64,
    /// Sessions that made room for others.
    pub forgotten: u64,
    /// Connections that were not let in.
    pub refused: BTreeMap<Reason, u64>,
    /// Connections that we ended.
    pub expelled: BTreeMap<Reason, u64>,
    pub dropped: BTreeMap<Dropped, u64>,
}

impl Counters {
    pub(super) fn drop(&mut self, why: Dropped) {
        *self.dropped.entry(why).or_default() += 1;
    }

    pub(super) fn refuse(&mut self, why: Reason) {
        *self.refused.entry(why).or_default() += 1;
    }

    pub(super) fn expel(&mut self, why: Reason) {
        *self.expelled.entry(why).or_default() += 1;
    }
}

/// What there is now.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Totals {
    pub connected: usize,
    pub sessions: usize,
    pub subscriptions: usize,
    pub queue_messages: usize,
    pub queue_bytes: usize,
    pub retained: usize,
    pub retained_bytes: usize,
}

/// One session.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientView {
    pub client: Client,
    /// None: it is not connected.
    pub version: Option<Version>,
    /// The address of ours that it knows.
    pub known_as: IpAddr,
    pub filters: usize,
    pub queue_messages: usize,
    pub queue_bytes: usize,
    /// When its session ends, if it does not come back.
    pub ends_in: Option<Duration>,
}

impl Broker {
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals {
            connected: self.conns.len(),
            sessions: self.sessions.len(),
            retained: self.retained.len(),
            retained_bytes: self.retained.bytes(),
            ..Totals::default()
        };
        for session in self.sessions.values() {
            totals.subscriptions += session.filters.len();
            totals.queue_messages += session.queue_len();
            totals.queue_bytes += session.queue_bytes();
        }
        totals
    }

    /// In the order they came.
    #[must_use]
    pub fn clients(&self, now: Instant) -> Vec<ClientView> {
        let view = |session: &super::Session| ClientView {
            client: session.client.clone(),
            version: session
                .conn
                .and_then(|conn| Some(self.conns.get(&conn)?.version)),
            known_as: session.known_as,
            filters: session.filters.len(),
            queue_messages: session.queue_len(),
            queue_bytes: session.queue_bytes(),
            ends_in: session.ends.map(|ends| ends.saturating_duration_since(now)),
        };
        self.sessions.values().map(view).collect()
    }
}
