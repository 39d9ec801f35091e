//! The conference plane: whom of those who publish it hears, and what becomes of it. One for a
//! node, on a task of its own.

pub mod access;
mod attend;
mod cascade;
pub mod count;
mod member;
mod message;
mod name;
mod order;
mod restore;
mod sip;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use bytes::Bytes;

use crate::bus::moment::Now;
use crate::bus::topic::id_of;
use crate::bus::{Client, Publication};
use crate::cascade::{self as shared, Cascade};
use crate::conference::floor::Policy;
use crate::conference::{Conference, Names, Note, Steps, What};
use crate::config::Config;
use crate::effect::{Kept, Record, Table};
use crate::engine::event::{Event, Events, Kind};
use crate::mqtt::address;

use count::Counts;
pub use order::{Order, Outcome, Refused};

/// The bit that tickets of the broker behind us have, and those of the edge have not.
pub const BEYOND: u64 = 1 << 63;

/// Conferences of a node.
pub const CONFERENCES_MAX: usize = 20_000;

/// What happens to the plane.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Input {
    /// A client of the edge published; it is acknowledged once [`Effect::Acknowledge`] says so.
    Published {
        ticket: u64,
        by: Client,
        publication: Publication,
    },
    /// A client is there.
    Connected(Client),
    /// It is gone: its connection ended, was taken over or timed out.
    Disconnected(Client),
    /// Somebody published at the broker behind us (`mqtt.mode = "external"`); the broker is
    /// acknowledged once [`Effect::Acknowledge`] says so. The ticket has [`BEYOND`] set.
    Beyond {
        ticket: u64,
        publication: Publication,
    },
    /// What the engines noted of registrations, calls and media, in order.
    Noted(Event),
    /// Another server sent this over the link between us.
    Frame { from: String, frame: Bytes },
    /// A link to another server came up or went down.
    Link { to: String, up: bool },
    /// What was kept of conferences before the start.
    Restored(Vec<Kept>),
    /// A client of the API wants something; [`Effect::Answer`] answers it.
    Asked { ticket: u64, order: Order },
    /// The configuration is another.
    Reconfigured(Settings),
    /// The time that [`Plane::next`] named has come.
    Tick,
}

/// What the plane wants done, in order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Effect {
    /// To whoever subscribed and may read it, and to the broker behind us.
    Publish(Publication),
    /// What a client published is accepted, or not; the reason is for the log and MQTT 5 clients.
    Acknowledge {
        ticket: u64,
        refused: Option<&'static str>,
    },
    /// Over the link to another server; kept until that one has it, or it is worth nothing.
    Frame {
        to: String,
        frame: Bytes,
        expires: Option<Instant>,
    },
    /// Keep this, as `effect::Effect::Store`: effects behind it in the list wait until it is kept.
    Store {
        table: Table,
        key: Bytes,
        record: Option<Record>,
    },
    /// From now on a participant may read what is published of a conference ([`access::Rules`]).
    Admit { cid: String, pid: String },
    /// It may not any more.
    Dismiss { cid: String, pid: String },
    /// What became of an order.
    Answer { ticket: u64, outcome: Outcome },
    /// The view that was accepted is the conference server's to show.
    HandOver {
        cid: String,
        vid: String,
        document: Bytes,
    },
}

/// The list effects are pushed into.
pub type Effects = Vec<Effect>;

/// What the plane was told by the configuration.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Settings {
    /// Patterns of the user parts of URIs that name a conference.
    pub uris: Vec<String>,
    /// Patterns of accounts that chair conferences.
    pub chairs: Vec<String>,
    pub floors: Vec<(String, Policy)>,
    /// Servers every conference of ours is shared with.
    pub share: Vec<String>,
    /// Servers that may be linked to us, as far as they are known by name.
    pub neighbours: Vec<String>,
    /// Whether there may be any.
    pub linked: bool,
    /// Where old clients look for the address of their server, each a path of names.
    pub address_fields: Vec<Vec<String>>,
}

impl Settings {
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let conference = &config.conference;
        Self {
            uris: conference.uris.clone(),
            chairs: conference.chairs.clone(),
            floors: conference.floors.clone(),
            share: conference.share.clone(),
            neighbours: config.cascade.lowers.iter().map(|l| l.id.clone()).collect(),
            linked: config.cascade.upper.is_some() || !config.cascade.listen.is_empty(),
            address_fields: config
                .mqtt
                .legacy_address_fields
                .iter()
                .map(|field| address::levels(field))
                .collect(),
        }
    }
}

/// The plane.
#[derive(Debug)]
pub struct Plane {
    /// Our own.
    sid: String,
    settings: Settings,
    /// What the time of day was, and when.
    began: Now,
    /// Of ids.
    random: u64,
    conferences: BTreeMap<String, Conference>,
    /// Live ones, by the user part of their URI.
    by_uri: BTreeMap<String, String>,
    /// Conferences a participant is in.
    memberships: BTreeMap<String, BTreeSet<String>>,
    /// Clients of a participant that are connected.
    clients: BTreeMap<String, BTreeSet<String>>,
    /// Calls to conferences, by their number.
    calls: BTreeMap<u64, sip::Call>,
    /// When something happens by itself, and in which conference.
    schedule: BTreeSet<(Instant, String)>,
    due: BTreeMap<String, Instant>,
    /// What servers share.
    cascade: Cascade,
    /// Conferences at home elsewhere.
    foreign: BTreeMap<String, member::Foreign>,
    foreign_by_uri: BTreeMap<String, String>,
    /// Commands that are under way to a home elsewhere.
    awaited: BTreeMap<shared::Id, member::Awaited>,
    /// Homes elsewhere that were told of a participant here.
    attends: BTreeMap<String, BTreeSet<String>>,
    /// Of conferences of ours: who is there at which member.
    attendance: BTreeMap<String, BTreeMap<String, attend::Guests>>,
    events: Events,
    counts: Counts,
}

impl Plane {
    /// `seed` makes ids unique.
    #[must_use]
    pub fn new(node: &str, settings: Settings, seed: u64, now: Now) -> Self {
        let sid = id_of(node);
        let mut cascade = Cascade::new(&sid, seed);
        cascade.neighbours(settings.neighbours.iter().map(String::as_str));
        Self {
            sid,
            settings,
            began: now,
            random: seed,
            conferences: BTreeMap::new(),
            by_uri: BTreeMap::new(),
            memberships: BTreeMap::new(),
            clients: BTreeMap::new(),
            calls: BTreeMap::new(),
            schedule: BTreeSet::new(),
            due: BTreeMap::new(),
            cascade,
            foreign: BTreeMap::new(),
            foreign_by_uri: BTreeMap::new(),
            awaited: BTreeMap::new(),
            attends: BTreeMap::new(),
            attendance: BTreeMap::new(),
            events: Events::default(),
            counts: Counts::default(),
        }
    }

    /// Handles one input; time is the caller's.
    pub fn handle(&mut self, input: Input, now: Instant, effects: &mut Effects) {
        let now = self.now(now);
        match input {
            Input::Published {
                ticket,
                by,
                publication,
            } => self.published(ticket, &by, &publication, now, effects),
            Input::Beyond {
                ticket,
                publication,
            } => self.beyond(ticket, &publication, now, effects),
            Input::Connected(client) => self.connected(&client, now, effects),
            Input::Disconnected(client) => self.disconnected(&client, now, effects),
            Input::Noted(event) => self.noted(&event, now, effects),
            Input::Restored(kept) => self.restored(kept, now, effects),
            Input::Asked { ticket, order } => self.asked(ticket, order, now, effects),
            Input::Reconfigured(settings) => self.reconfigured(settings, now, effects),
            Input::Tick => self.tick(now, effects),
            Input::Frame { from, frame } => self.frame(&from, &frame, now, effects),
            Input::Link { to, up } => self.link(&to, up, now, effects),
        }
    }

    /// When it wants [`Input::Tick`].
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        let own = self.schedule.first().map(|(at, _)| *at);
        own.into_iter().chain(self.cascade.next()).min()
    }

    #[must_use]
    pub fn sid(&self) -> &str {
        &self.sid
    }

    #[must_use]
    pub fn conference(&self, cid: &str) -> Option<&Conference> {
        self.conferences.get(cid)
    }

    /// In the order of their ids.
    pub fn conferences(&self) -> impl Iterator<Item = &Conference> {
        self.conferences.values()
    }

    /// What servers share.
    #[must_use]
    pub fn cascade(&self) -> &Cascade {
        &self.cascade
    }

    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// What an operator would want to have seen.
    #[cfg(feature = "daemon")]
    #[must_use]
    pub(crate) fn events(&self) -> &Events {
        &self.events
    }

    fn now(&self, at: Instant) -> Now {
        let since = at.saturating_duration_since(self.began.at).as_millis();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        Now {
            at,
            wall_ms: self.began.wall_ms.saturating_add(since),
        }
    }

    fn tick(&mut self, now: Now, effects: &mut Effects) {
        if self.cascade.next().is_some_and(|at| at <= now.at) {
            self.cascade_expire(now, effects);
        }
        while let Some((at, cid)) = self.schedule.first().cloned() {
            if at > now.at {
                return;
            }
            if self
                .conferences
                .get(&cid)
                .is_some_and(|c| c.is_over(now.at))
            {
                self.end(&cid, "empty", now, effects);
                continue;
            }
            self.with(&cid, now, effects, |conference, steps| {
                conference.expire(now, steps);
            });
            // What is not done by now is not done by asking at once again.
            if self.due.get(&cid).is_some_and(|next| *next <= now.at) {
                self.schedule(&cid, Some(now.at + RECHECK));
            }
        }
    }

    fn reconfigured(&mut self, settings: Settings, now: Now, effects: &mut Effects) {
        let known = settings.neighbours.iter().map(String::as_str);
        self.cascade.neighbours(known);
        self.settings = settings;
        let floors = self.settings.floors.clone();
        let cids: Vec<String> = self.conferences.keys().cloned().collect();
        for cid in cids {
            self.with(&cid, now, effects, |conference, steps| {
                conference.reconfigure(&floors, now, steps);
            });
            self.share_as_told(&cid, now, effects);
        }
    }

    /// The conference of a URI: the one there is, or a new one. None: there are too many.
    fn conference_of(
        &mut self,
        uri: &str,
        pinned: bool,
        now: Now,
        effects: &mut Effects,
    ) -> Option<String> {
        if let Some(cid) = self.by_uri.get(uri) {
            return Some(cid.clone());
        }
        if self.conferences.len() >= CONFERENCES_MAX {
            return None;
        }
        let cid = format!("{}~{}", self.sid, name::ulid(now.wall_ms, &mut self.random));
        let names = Names {
            sid: &self.sid,
            cid: &cid,
            uri,
        };
        let mut steps = Steps::default();
        let mut conference =
            Conference::start(names, pinned, &self.settings.floors, now, &mut steps);
        conference.share_as_told(&self.settings.share, &mut steps);
        let next = conference.next();
        self.conferences.insert(cid.clone(), conference);
        self.by_uri.insert(uri.to_owned(), cid.clone());
        self.schedule(&cid, next);
        self.perform(&cid, steps, now, effects);
        self.announce(&cid, now, effects);
        Some(cid)
    }

    /// It is over.
    fn end(&mut self, cid: &str, reason: &str, now: Now, effects: &mut Effects) {
        let Some(mut conference) = self.conferences.remove(cid) else {
            return;
        };
        self.by_uri.remove(conference.uri());
        self.schedule(cid, None);
        self.calls
            .retain(|_, call| call.cid.as_deref() != Some(cid));
        let mut steps = Steps::default();
        conference.end(reason, now, &mut steps);
        self.perform(cid, steps, now, effects);
        self.share_no_more(&conference, now, effects);
    }

    /// Does something with a conference that is there, and what follows from it.
    fn with<T>(
        &mut self,
        cid: &str,
        now: Now,
        effects: &mut Effects,
        act: impl FnOnce(&mut Conference, &mut Steps) -> T,
    ) -> Option<T> {
        let conference = self.conferences.get_mut(cid)?;
        let mut steps = Steps::default();
        let done = act(conference, &mut steps);
        let next = conference.next();
        self.schedule(cid, next);
        self.perform(cid, steps, now, effects);
        Some(done)
    }

    fn schedule(&mut self, cid: &str, at: Option<Instant>) {
        if let Some(old) = self.due.remove(cid) {
            self.schedule.remove(&(old, cid.to_owned()));
        }
        if let Some(at) = at {
            self.schedule.insert((at, cid.to_owned()));
            self.due.insert(cid.to_owned(), at);
        }
    }

    /// What is kept goes before what is published, and who is let in sees it.
    fn perform(&mut self, cid: &str, steps: Steps, now: Now, effects: &mut Effects) {
        for (key, bytes) in steps.keep {
            effects.push(Effect::Store {
                table: Table::Conferences,
                key: format!("{cid}/{key}").into(),
                record: bytes.map(|bytes| Record { at: now.at, bytes }),
            });
        }
        let (admitted, dismissed): (Vec<_>, Vec<_>) = steps
            .admitted
            .into_iter()
            .partition(|(_, admitted)| *admitted);
        for (pid, _) in admitted {
            let cids = self.memberships.entry(pid.clone()).or_default();
            cids.insert(cid.to_owned());
            let cid = cid.to_owned();
            effects.push(Effect::Admit { cid, pid });
        }
        self.pass_on(cid, &steps.publish, &steps.events, now, effects);
        effects.extend(steps.publish.into_iter().map(Effect::Publish));
        for (vid, document) in steps.shown {
            let cid = cid.to_owned();
            effects.push(Effect::HandOver { cid, vid, document });
        }
        for (pid, _) in dismissed {
            self.no_membership(cid, &pid);
            let cid = cid.to_owned();
            effects.push(Effect::Dismiss { cid, pid });
        }
        self.counts
            .count(&steps.outcomes, &steps.waits, &steps.stale);
        for Note { what, fields } in steps.notes {
            self.events.push(now.at, kind(what), cid.to_owned(), fields);
        }
    }
}

impl Plane {
    fn no_membership(&mut self, cid: &str, pid: &str) {
        if let Some(cids) = self.memberships.get_mut(pid) {
            cids.remove(cid);
            if cids.is_empty() {
                self.memberships.remove(pid);
            }
        }
    }
}

/// A time-out that nothing came of is looked at again.
const RECHECK: std::time::Duration = std::time::Duration::from_millis(100);

fn kind(what: What) -> Kind {
    match what {
        What::Started => Kind::ConferenceStarted,
        What::Restored => Kind::ConferenceRestored,
        What::Ended => Kind::ConferenceEnded,
        What::Shared => Kind::ConferenceShared,
        What::Unshared => Kind::ConferenceUnshared,
        What::Joined => Kind::ConferenceJoined,
        What::Lost => Kind::ConferenceLost,
        What::Left => Kind::ConferenceLeft,
        What::FloorRequested => Kind::FloorRequested,
        What::FloorGranted => Kind::FloorGranted,
        What::FloorEnded => Kind::FloorEnded,
    }
}
