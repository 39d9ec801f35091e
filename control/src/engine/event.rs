//! What an operator would want to have seen: the last events of an engine, each with a number, and
//! those of all the engines of a node in one row.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::engine::Engine;

/// Events kept; older ones are forgotten.
pub const EVENTS_MAX: usize = 1_000;

/// How long the same is not said again of what repeats itself.
const REPEATED: Duration = Duration::from_secs(60);

/// One event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    /// Counts from 1 without gaps.
    pub seq: u64,
    pub at: Instant,
    pub kind: Kind,
    /// Whom it is about: a call's number, an address-of-record, a network.
    pub subject: String,
    /// What else is known, by name.
    pub fields: Vec<(&'static str, String)>,
}

/// What happened.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    RegistrationNew,
    RegistrationMoved,
    RegistrationEnded,
    RegistrationRefused,
    /// Bindings of an earlier process go on.
    RegistrationsRestored,
    /// Calls of an earlier process go on.
    CallsRestored,
    CallStarted,
    CallAnswered,
    CallEnded,
    /// A party was told another address, or could not be told.
    CallRefreshed,
    SourceLocked,
    SourceChanged,
    /// A packet nobody expects, the first from there.
    Stranger,
    /// A party is heard for the first time, not any more, alone not, again, as another source.
    MediaFirst,
    MediaSilent,
    MediaOneWay,
    MediaResumed,
    MediaSource,
    PortsExhausted,
    /// A peer or a network carries as much as it may, and something was refused.
    CapacityReached,
    ConfigurationApplied,
    NetworkRetired,
    NetworkGone,
    GatewaySuspected,
    GatewayCleared,
    /// An address of a peer answers again, or does not any more.
    PeerUp,
    PeerDown,
    /// Nobody is heard from there for a while.
    SourceBanned,
    /// An operator lifted a ban.
    SourceReleased,
    /// The broker behind us is reached, or not any more.
    BrokerUp,
    BrokerDown,
    /// An MQTT client was not let in.
    MqttRefused,
    /// An MQTT client named a server that nobody knows: `reason` is `foreign_server`.
    MqttDropped,
    /// A conference began, goes on after a start, or is over.
    ConferenceStarted,
    ConferenceRestored,
    ConferenceEnded,
    /// Another server shares one with us, or not any more.
    ConferenceShared,
    ConferenceUnshared,
    /// A participant came, is not heard of, is gone.
    ConferenceJoined,
    ConferenceLost,
    ConferenceLeft,
    /// What became of a request to speak.
    FloorRequested,
    FloorGranted,
    FloorEnded,
    /// A message of the conference plane belongs to nothing we know.
    MessageUnplaced,
    /// Another server of the cascade can be reached, or not any more, or was not let in.
    LinkUp,
    LinkDown,
    LinkRefused,
    /// New calls are refused from now on, or taken again.
    NodeDraining,
    NodeUndrained,
}

impl Kind {
    /// Its stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RegistrationNew => "registration.new",
            Self::RegistrationMoved => "registration.moved",
            Self::RegistrationEnded => "registration.ended",
            Self::RegistrationRefused => "registration.refused",
            Self::RegistrationsRestored => "registration.restored",
            Self::CallsRestored => "call.restored",
            Self::CallStarted => "call.started",
            Self::CallAnswered => "call.answered",
            Self::CallEnded => "call.ended",
            Self::CallRefreshed => "call.refreshed",
            Self::SourceLocked => "source.locked",
            Self::SourceChanged => "source.changed",
            Self::Stranger => "source.stranger",
            Self::MediaFirst => "media.first",
            Self::MediaSilent => "media.silent",
            Self::MediaOneWay => "media.one_way",
            Self::MediaResumed => "media.resumed",
            Self::MediaSource => "media.source",
            Self::PortsExhausted => "ports.exhausted",
            Self::CapacityReached => "capacity.reached",
            Self::ConfigurationApplied => "configuration.applied",
            Self::NetworkRetired => "network.retired",
            Self::NetworkGone => "network.gone",
            Self::GatewaySuspected => "gateway.suspected",
            Self::GatewayCleared => "gateway.cleared",
            Self::PeerUp => "peer.up",
            Self::PeerDown => "peer.down",
            Self::SourceBanned => "source.banned",
            Self::SourceReleased => "source.released",
            Self::BrokerUp => "broker.up",
            Self::BrokerDown => "broker.down",
            Self::MqttRefused => "mqtt.refused",
            Self::MqttDropped => "mqtt.dropped",
            Self::ConferenceStarted => "conference.started",
            Self::ConferenceRestored => "conference.restored",
            Self::ConferenceEnded => "conference.ended",
            Self::ConferenceShared => "conference.shared",
            Self::ConferenceUnshared => "conference.unshared",
            Self::ConferenceJoined => "conference.joined",
            Self::ConferenceLost => "conference.lost",
            Self::ConferenceLeft => "conference.left",
            Self::FloorRequested => "floor.requested",
            Self::FloorGranted => "floor.granted",
            Self::FloorEnded => "floor.ended",
            Self::MessageUnplaced => "message.unplaced",
            Self::LinkUp => "link.up",
            Self::LinkDown => "link.down",
            Self::LinkRefused => "link.refused",
            Self::NodeDraining => "node.draining",
            Self::NodeUndrained => "node.undrained",
        }
    }
}

/// The ring.
#[derive(Debug, Default)]
pub(crate) struct Events {
    last: u64,
    ring: VecDeque<Event>,
}

impl Events {
    /// Notes one.
    pub(crate) fn push(
        &mut self,
        at: Instant,
        kind: Kind,
        subject: String,
        fields: Vec<(&'static str, String)>,
    ) {
        if self.ring.len() >= EVENTS_MAX {
            self.ring.pop_front();
        }
        self.last += 1;
        self.ring.push_back(Event {
            seq: self.last,
            at,
            kind,
            subject,
            fields,
        });
    }

    /// Numbers may be missing before the first one only, or where a shard forgot some.
    pub(crate) fn after(&self, since: u64) -> impl Iterator<Item = &Event> {
        let known = self.ring.partition_point(|event| event.seq <= since);
        self.ring.range(known..)
    }

    /// Number of the last one; zero before the first.
    #[cfg(feature = "daemon")]
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// Whether the same was noted about a subject not long ago.
    pub(crate) fn said(&self, at: Instant, kind: Kind, subject: &str) -> bool {
        let recent = |event: &&Event| at.saturating_duration_since(event.at) < REPEATED;
        let mut recent = self.ring.iter().rev().take_while(recent);
        recent.any(|event| event.kind == kind && event.subject == subject)
    }
}

/// The events of all shards, numbered anew in the order they happened.
#[derive(Debug, Default)]
pub struct Log {
    /// The last one known of each shard.
    seen: Vec<u64>,
    events: Events,
}

impl Log {
    /// The last event of a shard that is in it.
    #[must_use]
    pub fn seen(&self, shard: usize) -> u64 {
        self.seen.get(shard).copied().unwrap_or(0)
    }

    /// Takes in what all shards have noted since, in order: of each its last number, and the events
    /// that it still knows.
    pub fn take(&mut self, shards: Vec<(u64, Vec<Event>)>) {
        self.seen.resize(shards.len(), 0);
        let mut news: Vec<Event> = Vec::new();
        for ((last, events), seen) in shards.into_iter().zip(&mut self.seen) {
            let known = u64::try_from(events.len()).unwrap_or(u64::MAX);
            // What a shard forgot before it was asked has its number all the same.
            self.events.last += last.saturating_sub(*seen).saturating_sub(known);
            *seen = last;
            news.extend(events);
        }
        news.sort_by_key(|event| event.at);
        for event in news {
            let Event { at, kind, .. } = event;
            self.events.push(at, kind, event.subject, event.fields);
        }
    }

    /// What no engine notes; once in a while is enough for what repeats itself about one subject.
    pub fn note_rarely(&mut self, event: Event) {
        let Event { at, kind, .. } = event;
        let recent = |known: &&Event| at.saturating_duration_since(known.at) < REPEATED;
        let mut recent = self.events.ring.iter().rev().take_while(recent);
        if !recent.any(|known| known.kind == kind && known.subject == event.subject) {
            self.events.push(at, kind, event.subject, event.fields);
        }
    }

    /// As [`Engine::events`].
    pub fn after(&self, since: u64) -> impl Iterator<Item = &Event> {
        self.events.after(since)
    }

    /// As [`Engine::last_event`].
    #[must_use]
    pub fn last(&self) -> u64 {
        self.events.last
    }
}

impl Engine {
    /// Events after number `since` that are still known, in order. A first number greater than
    /// `since + 1` says that some were forgotten.
    pub fn events(&self, since: u64) -> impl Iterator<Item = &Event> {
        self.events.after(since)
    }

    /// Number of the last event; zero before the first.
    #[must_use]
    pub fn last_event(&self) -> u64 {
        self.events.last
    }

    /// Once in a while is enough for what repeats itself about one subject.
    pub(super) fn note_rarely(
        &mut self,
        at: Instant,
        kind: Kind,
        subject: &str,
        fields: Vec<(&'static str, String)>,
    ) {
        if !self.events.said(at, kind, subject) {
            self.note(at, kind, subject, fields);
        }
    }

    /// Notes an event; whoever looks after the engine may have one too.
    pub fn note(
        &mut self,
        at: Instant,
        kind: Kind,
        subject: impl Into<String>,
        fields: Vec<(&'static str, String)>,
    ) {
        self.events.push(at, kind, subject.into(), fields);
    }
}
