//! A conference by itself: its roster, floors and views, one log of what happened to them, and one
//! revision. Time is an argument; what is to be kept and published is returned in [`Steps`].

pub mod commands;
pub mod envelope;
pub mod floor;
pub mod legacy;
pub mod log;
pub mod presence;
pub mod record;
pub mod roster;
pub mod seen;
pub mod sharing;
pub mod tell;
pub mod view;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::bus::Publication;
use crate::bus::moment::Now;

use envelope::{Command, Revision};
use floor::{Floor, Policy};
use legacy::Turns;
use log::Log;
use roster::Roster;
use seen::Seen;
use sharing::Sharing;
use view::View;

/// How long a conference that nobody is in is kept.
pub const EMPTY_FOR: Duration = Duration::from_secs(60);
/// Floors of one conference.
pub const FLOORS_MAX: usize = 16;

/// A conference.
#[derive(Clone, Debug, PartialEq)]
pub struct Conference {
    /// The home server: this one.
    sid: String,
    cid: String,
    /// The user part of the URI that calls to it name; it is found again by that.
    uri: String,
    /// It stays though nobody is in it.
    pinned: bool,
    began_ms: u64,
    revision: Revision,
    /// The number of the last event.
    seq: u64,
    /// Floor requests so far.
    requests: u64,
    roster: Roster,
    floors: BTreeMap<String, Floor>,
    views: BTreeMap<String, View>,
    seen: Seen,
    log: Log,
    /// Clients that know neither sequence nor revision, by participant and view.
    turns: BTreeMap<(String, String), Turns>,
    empty_since: Option<Instant>,
    sharing: Sharing,
}

/// What follows from something that happened, beside its answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Steps {
    /// Below the conference's key; none: forget it. Before anything is published.
    pub keep: Vec<(String, Option<Bytes>)>,
    pub publish: Vec<Publication>,
    /// Where each event stands in `publish`, as the count of what is before it and it.
    pub events: Vec<Place>,
    /// Who may read it from now on, and who not any more.
    pub admitted: Vec<(String, bool)>,
    /// Views that were accepted, and their documents.
    pub shown: Vec<(String, Bytes)>,
    pub notes: Vec<Note>,
    /// Outcomes of floor requests, for the metric.
    pub outcomes: Vec<&'static str>,
    /// How long those waited that were granted.
    pub waits: Vec<Duration>,
    /// Commands that came too late, and why.
    pub stale: Vec<&'static str>,
}

/// An event's place in its conference's log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    pub published: usize,
    pub revision: Revision,
    pub seq: u64,
}

/// What an operator would want to have seen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Note {
    pub what: What,
    pub fields: Vec<(&'static str, String)>,
}

/// What happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum What {
    Started,
    Restored,
    Ended,
    /// Another server shares it, or not any more.
    Shared,
    Unshared,
    Joined,
    Lost,
    Left,
    FloorRequested,
    FloorGranted,
    FloorEnded,
}

impl Conference {
    /// A new one, told to those who may read it.
    #[must_use]
    pub fn start(
        names: Names<'_>,
        pinned: bool,
        floors: &[(String, Policy)],
        now: Now,
        steps: &mut Steps,
    ) -> Self {
        let revision = Revision { epoch: 1, rev: 0 };
        let floor =
            |(fid, policy): &(String, Policy)| (fid.clone(), Floor::new(policy.clone(), revision));
        let mut conference = Self {
            sid: names.sid.to_owned(),
            cid: names.cid.to_owned(),
            uri: names.uri.to_owned(),
            pinned,
            began_ms: now.wall_ms,
            revision,
            seq: 0,
            requests: 0,
            roster: Roster::default(),
            floors: floors.iter().take(FLOORS_MAX).map(floor).collect(),
            views: BTreeMap::new(),
            seen: Seen::default(),
            log: Log::default(),
            turns: BTreeMap::new(),
            empty_since: Some(now.at),
            sharing: Sharing::default(),
        };
        let fields = vec![("uri", conference.uri.clone())];
        conference.note(What::Started, fields, steps);
        conference.advance();
        conference.tell_conference("conference.started", None, now, steps);
        let fids: Vec<String> = conference.floors.keys().cloned().collect();
        for fid in fids {
            conference.show_floor(&fid, None, now, steps);
        }
        conference
    }

    /// Carries out a command of a participant, or says what it was answered when it came first.
    pub fn command(
        &mut self,
        from: From<'_>,
        command: &Command,
        now: Now,
        steps: &mut Steps,
    ) -> Bytes {
        let id = command.id.as_deref();
        if let Some(id) = id
            && let Some(first) = self.seen.answer(from.pid, &command.inst, id, now.at)
        {
            return first.clone();
        }
        let answer = self.carry_out(from, command, now, steps);
        let document = answer.document(&self.sid, id, Some(self.revision), now);
        if let Some(id) = id {
            self.remember(from.pid, command, id, document.clone(), now, steps);
        }
        document
    }

    #[must_use]
    pub fn cid(&self) -> &str {
        &self.cid
    }

    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }

    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    #[must_use]
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    #[must_use]
    pub fn floors(&self) -> &BTreeMap<String, Floor> {
        &self.floors
    }

    #[must_use]
    pub fn views(&self) -> &BTreeMap<String, View> {
        &self.views
    }

    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The number of the last event.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Policies of another configuration; floors it has no more stay to the end.
    pub fn reconfigure(&mut self, floors: &[(String, Policy)], now: Now, steps: &mut Steps) {
        for (fid, policy) in floors.iter().take(FLOORS_MAX) {
            match self.floors.get_mut(fid) {
                Some(floor) if floor.policy == *policy => {}
                Some(floor) => floor.policy = policy.clone(),
                None => {
                    self.advance();
                    let floor = Floor::new(policy.clone(), self.revision);
                    self.floors.insert(fid.clone(), floor);
                    self.show_floor(fid, None, now, steps);
                    self.keep_head(steps);
                }
            }
        }
    }

    /// Time passed.
    pub fn expire(&mut self, now: Now, steps: &mut Steps) {
        for pid in self.roster.expire(now.at) {
            self.gone(&pid, "presence_lost", None, now, steps);
        }
        let due = |floor: &Floor| floor.next().is_some_and(|at| at <= now.at);
        let fids: Vec<String> = self
            .floors
            .iter()
            .filter(|(_, f)| due(f))
            .map(|(fid, _)| fid.clone())
            .collect();
        for fid in fids {
            let changes = self.floors.get_mut(&fid).map(|floor| floor.expire(now));
            self.floor_changed(&fid, changes.unwrap_or_default(), None, now, steps);
        }
        self.repeat_last_words(now, steps);
        for forgotten in self.seen.expire(now.at) {
            steps.keep.push((
                record::answer_key(&forgotten.pid, &forgotten.inst, &forgotten.id),
                None,
            ));
        }
    }

    /// When something happens by itself; [`Conference::is_over`] may hold then.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        let floors = self.floors.values().filter_map(Floor::next);
        let turns = self.turns.values().filter_map(Turns::next);
        let empty = self.empty_since.filter(|_| !self.pinned);
        let empty = empty.and_then(|since| since.checked_add(EMPTY_FOR));
        floors
            .chain(turns)
            .chain(empty)
            .chain(self.roster.next())
            .min()
    }

    /// Nobody has been in it for long.
    #[must_use]
    pub fn is_over(&self, now: Instant) -> bool {
        let empty = self.empty_since.filter(|_| !self.pinned);
        empty.is_some_and(|since| now.saturating_duration_since(since) >= EMPTY_FOR)
    }

    /// One step on: whatever changes now bears this revision.
    fn advance(&mut self) {
        self.revision.rev += 1;
    }

    fn note(&self, what: What, fields: Vec<(&'static str, String)>, steps: &mut Steps) {
        steps.notes.push(Note { what, fields });
    }
}

/// What a conference is called.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    pub sid: &'a str,
    pub cid: &'a str,
    pub uri: &'a str,
}

/// Whose command it is.
#[derive(Clone, Copy, Debug)]
pub struct From<'a> {
    pub pid: &'a str,
    /// As it is shown.
    pub name: &'a str,
    /// What they are if they join now.
    pub role: roster::Role,
    /// It came over a connection that stays: who joins by it is there as long as that is.
    pub connected: bool,
}

#[cfg(test)]
mod tests;
