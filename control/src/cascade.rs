//! Which servers share a conference, and what crosses between them.
//!
//! A conference's home is the server its id names. It alone decides: who else is a member, and
//! what the conference's state is. Commands of members' clients go up to it, its word comes down.
//! Each server takes what comes down from one neighbour only (the home, if it is linked; else the
//! one it first heard of the conference from), so nothing goes in circles, however servers are
//! wired; what comes another way is dropped and counted. [`Cascade`] says what crosses,
//! [`link::Link`] brings it to the neighbour, in order and once. Neither does any I/O.

mod conference;
pub mod frame;
mod heal;
pub mod link;
mod reason;
mod seen;
pub mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::bus::topic::is_id;
use conference::Conference;
use seen::Seen;

pub use frame::{Body, Change, Document, Frame, Id, Mark};
pub use reason::Reason;

/// Servers that a frame may pass.
pub const PATH_MAX: usize = 4;
/// A frame that was seen is known again for so long.
pub const SEEN_FOR: Duration = Duration::from_secs(600);
/// And so many; the oldest are forgotten first.
pub const SEEN_MAX: usize = 262_144;
/// Conferences that servers share here.
pub const CONFERENCES_MAX: usize = 65_536;
/// Servers that share one.
pub const MEMBERS_MAX: usize = 64;
/// Documents that one keeps: its state, roster, floors and views.
pub const DOCUMENTS_MAX: usize = 8192;
/// The last changes of each, for those who missed no more.
pub const CHANGES_MAX: usize = 64;
/// Commands of one that wait for the home's answer.
pub const PENDING_MAX: usize = 1024;
/// How long a command waits for it.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The home is asked again for what was missed after this time.
pub const ASK_AGAIN: Duration = Duration::from_secs(2);

/// What this server learns of conferences it shares.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Up {
    /// Its home says so; to be published here as it is.
    Changed {
        cid: String,
        documents: Vec<Document>,
    },
    /// A client at another server wants something of a conference that is ours.
    Command {
        cid: String,
        origin: Origin,
        document: Bytes,
    },
    /// The home's answer to a command of a client here.
    Answered {
        cid: String,
        re: Id,
        document: Bytes,
    },
    /// There will be none: the client may try again.
    Unreachable { cid: String, re: Id },
    /// The home cannot be reached, or can be again: what only it may do is frozen meanwhile.
    Home { cid: String, there: bool },
    /// The same of a member; told where the conference is at home.
    Member {
        cid: String,
        sid: String,
        there: bool,
    },
    /// We share it no more: these parts of it are forgotten.
    Ended { cid: String, parts: Vec<String> },
    /// A member says who of its clients is there; told where the conference is at home.
    Attended {
        cid: String,
        sid: String,
        document: Bytes,
    },
    /// We have all there is of it, and the home hears us: it is to be told who is here.
    Caught { cid: String },
}

/// Where a command came from, for its answer.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Origin {
    pub sid: String,
    pub id: Id,
}

/// For a neighbour.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Out {
    pub to: String,
    pub frame: Frame,
}

/// Why a command was not sent up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refused {
    /// We share no such conference.
    NotMember,
    /// Its home cannot be reached: later, perhaps.
    HomeUnreachable,
    /// Too many wait for an answer.
    Busy,
}

/// What one server knows of shared conferences.
#[derive(Debug)]
pub struct Cascade {
    own: String,
    boot: u64,
    numbered: u64,
    /// Neighbours, and whether they are there.
    links: BTreeMap<String, bool>,
    conferences: BTreeMap<String, Conference>,
    /// Those that wait for something.
    waiting: BTreeSet<String>,
    seen: Seen,
    dropped: BTreeMap<Reason, u64>,
}

impl Cascade {
    /// `boot` is another one at every start.
    #[must_use]
    pub fn new(own: &str, boot: u64) -> Self {
        Self {
            own: own.to_owned(),
            boot,
            numbered: 0,
            links: BTreeMap::new(),
            conferences: BTreeMap::new(),
            waiting: BTreeSet::new(),
            seen: Seen::default(),
            dropped: BTreeMap::new(),
        }
    }

    /// Our own id.
    #[must_use]
    pub fn own(&self) -> &str {
        &self.own
    }

    /// Servers that may be linked to us, whether they are now or not.
    pub fn neighbours<'a>(&mut self, sids: impl IntoIterator<Item = &'a str>) {
        for sid in sids {
            self.links.entry(sid.to_owned()).or_insert(false);
        }
    }

    /// Who shares a conference that is at home here, from now on: `version` grows with each such
    /// decision. Whoever is not named any more is told so.
    pub fn share(&mut self, cid: &str, members: &[&str], version: Mark, out: &mut Vec<Out>) {
        let Some(conference) = self.at_home(cid) else {
            return;
        };
        let members: BTreeSet<String> = members
            .iter()
            .filter(|sid| is_id(sid))
            .take(MEMBERS_MAX)
            .map(|&sid| sid.to_owned())
            .collect();
        let before = conference.take_members(members.clone(), version);
        let body = Body::Members {
            cid: cid.to_owned(),
            version,
            members: members.into_iter().collect(),
        };
        let frame = self.frame(body);
        self.fan_out(&frame, &before, out);
    }

    /// What was decided of a conference of ours before the start, as it is: nobody is told.
    pub fn restore(&mut self, cid: &str, state: Change) {
        if let Some(conference) = self.at_home(cid) {
            conference.replace(state);
        }
    }

    /// A conference at home elsewhere that was shared with us before the start, by the neighbour on
    /// the way: its home is asked once it can be.
    pub fn recall(&mut self, cid: &str, via: &str) {
        let Some(home) = Self::home(cid).filter(|home| *home != self.own) else {
            return;
        };
        if self.conferences.len() < CONFERENCES_MAX {
            let own = self.own.clone();
            let known = self.conferences.entry(cid.to_owned());
            known.or_insert_with(|| Conference::recalled(home, via, own));
        }
    }

    /// The neighbour on the way to a conference's home.
    #[must_use]
    pub fn via(&self, cid: &str) -> Option<&str> {
        self.conferences.get(cid)?.via.as_deref()
    }

    /// Something has changed in a conference that is at home here.
    pub fn change(&mut self, cid: &str, change: Change, out: &mut Vec<Out>) {
        let Some(conference) = self.at_home(cid) else {
            return;
        };
        conference.keep(&change);
        if conference.members.is_empty() {
            return;
        }
        let members = conference.members.clone();
        let frame = self.frame(Body::Change {
            cid: cid.to_owned(),
            change,
        });
        self.fan_out(&frame, &members, out);
    }

    /// A conference of ours is over.
    pub fn end(&mut self, cid: &str, version: Mark, out: &mut Vec<Out>) {
        if self.conferences.contains_key(cid) {
            self.share(cid, &[], version, out);
            self.conferences.remove(cid);
            self.waiting.remove(cid);
        }
    }

    /// A client here wants something of a conference that is at home elsewhere.
    ///
    /// # Errors
    /// Nothing was sent.
    pub fn command(
        &mut self,
        cid: &str,
        document: Bytes,
        now: Instant,
        out: &mut Vec<Out>,
    ) -> Result<Id, Refused> {
        let conference = self.conferences.get(cid).ok_or(Refused::NotMember)?;
        let via = conference.via.clone().ok_or(Refused::NotMember)?;
        if !conference.home_there || !self.is_up(&via) {
            return Err(Refused::HomeUnreachable);
        }
        if conference.pending.len() >= PENDING_MAX {
            return Err(Refused::Busy);
        }
        let frame = self.frame(Body::Command {
            cid: cid.to_owned(),
            document,
        });
        let id = frame.id;
        if let Some(conference) = self.conferences.get_mut(cid) {
            conference.pending.insert(id, now + ANSWER_WITHIN);
            self.waiting.insert(cid.to_owned());
        }
        out.push(Out { to: via, frame });
        Ok(id)
    }

    /// Who of the clients here is there, for the home. What it does not get now is said anew once
    /// it is reached ([`Up::Caught`]).
    pub fn attend(&mut self, cid: &str, document: Bytes, out: &mut Vec<Out>) {
        let known = self.conferences.get(cid).filter(|c| c.home_there);
        let via = known.and_then(|c| c.via.clone());
        if let Some(to) = via.filter(|via| self.is_up(via)) {
            let cid = cid.to_owned();
            let frame = self.frame(Body::Attend { cid, document });
            out.push(Out { to, frame });
        }
    }

    /// The one answer to a command of [`Up::Command`].
    pub fn answer(&mut self, cid: &str, origin: &Origin, document: Bytes, out: &mut Vec<Out>) {
        let frame = self.frame(Body::Answer {
            cid: cid.to_owned(),
            to: origin.sid.clone(),
            re: origin.id,
            document,
        });
        self.send_down(cid, &origin.sid, frame, out);
    }

    /// The home of a conference, if it has an id as conferences have.
    #[must_use]
    pub fn home(cid: &str) -> Option<&str> {
        let (home, own) = cid.rsplit_once('~')?;
        (is_id(cid) && !home.is_empty() && !own.is_empty()).then_some(home)
    }

    /// Who shares a conference, beside its home.
    pub fn members(&self, cid: &str) -> impl Iterator<Item = &str> {
        let conference = self.conferences.get(cid);
        let members = conference.into_iter().flat_map(|c| c.members.iter());
        members.map(String::as_str)
    }

    /// Whether others share a conference that is at home here.
    #[must_use]
    pub fn is_shared(&self, cid: &str) -> bool {
        let known = self.conferences.get(cid);
        known.is_some_and(|c| c.via.is_none() && !c.members.is_empty())
    }

    /// Conferences of other homes that are shared with us.
    pub fn foreign(&self) -> impl Iterator<Item = &str> {
        let all = self.conferences.iter().filter(|(_, c)| c.via.is_some());
        all.map(|(cid, _)| cid.as_str())
    }

    /// Conferences at home here that others share.
    #[must_use]
    pub fn shared(&self) -> usize {
        let all = self.conferences.values();
        all.filter(|c| c.via.is_none() && !c.members.is_empty())
            .count()
    }

    /// What is known of a conference, by its parts, and how far it has come.
    #[must_use]
    pub fn documents(&self, cid: &str) -> Option<Change> {
        let known = self.conferences.get(cid)?;
        Some(Change {
            mark: known.mark?,
            documents: known.documents(),
        })
    }

    /// Whether a member can be reached; none: nothing was heard of it.
    #[must_use]
    pub fn reaches(&self, cid: &str, sid: &str) -> Option<bool> {
        if let Some(up) = self.links.get(sid) {
            return Some(*up);
        }
        let known = self.conferences.get(cid)?;
        let by = known.routes.get(sid)?;
        Some(self.is_up(by) && !known.away.contains(sid))
    }

    /// Whether every server that may be linked to us is, and there is one.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.links.is_empty() && self.links.values().all(|up| *up)
    }

    /// Whether its home can be reached; our own always is.
    #[must_use]
    pub fn home_there(&self, cid: &str) -> bool {
        let known = self.conferences.get(cid);
        known.is_some_and(|c| c.via.is_none() || c.home_there)
    }

    /// Conferences shared with a neighbour.
    #[must_use]
    pub fn shared_with(&self, sid: &str) -> usize {
        let with = |c: &&Conference| c.members.contains(sid) || c.home == sid;
        self.conferences.values().filter(with).count()
    }

    #[must_use]
    pub fn dropped(&self) -> &BTreeMap<Reason, u64> {
        &self.dropped
    }

    /// Somebody else found a frame wanting.
    pub fn drop_for(&mut self, reason: Reason) {
        let count = self.dropped.entry(reason).or_default();
        *count = count.saturating_add(1);
    }

    fn at_home(&mut self, cid: &str) -> Option<&mut Conference> {
        if Self::home(cid) != Some(self.own.as_str()) {
            return None;
        }
        let full = self.conferences.len() >= CONFERENCES_MAX;
        if full && !self.conferences.contains_key(cid) {
            self.drop_for(Reason::Full);
            return None;
        }
        let own = &self.own;
        let conferences = self.conferences.entry(cid.to_owned());
        Some(conferences.or_insert_with(|| Conference::new(own, None)))
    }

    fn frame(&mut self, body: Body) -> Frame {
        self.numbered += 1;
        Frame {
            id: Id {
                boot: self.boot,
                number: self.numbered,
            },
            path: vec![self.own.clone()],
            body,
        }
    }

    fn is_up(&self, sid: &str) -> bool {
        self.links.get(sid).is_some_and(|up| *up)
    }

    /// To every neighbour among them that has not had it. A link that is down keeps it.
    fn fan_out(&self, frame: &Frame, members: &BTreeSet<String>, out: &mut Vec<Out>) {
        let has_had = |sid: &&String| frame.path.contains(sid);
        let neighbours = self.links.keys();
        for to in neighbours.filter(|sid| members.contains(*sid) && !has_had(sid)) {
            out.push(Out {
                to: to.clone(),
                frame: frame.clone(),
            });
        }
    }

    /// To one member, by the way it is known to be at.
    fn send_down(&mut self, cid: &str, sid: &str, frame: Frame, out: &mut Vec<Out>) {
        let learnt = self.conferences.get(cid).and_then(|c| c.routes.get(sid));
        let direct = self.links.get_key_value(sid).map(|(sid, _)| sid);
        match direct.or(learnt).cloned() {
            Some(to) => out.push(Out { to, frame }),
            None => self.drop_for(Reason::NoRoute),
        }
    }
}

/// What arrives.
impl Cascade {
    /// A neighbour sent this, whole and once as far as the link knows.
    pub fn receive(
        &mut self,
        from: &str,
        frame: Frame,
        now: Instant,
        out: &mut Vec<Out>,
    ) -> Vec<Up> {
        match self.judge(from, frame, now, out) {
            Ok(up) => up,
            Err(reason) => {
                self.drop_for(reason);
                Vec::new()
            }
        }
    }

    fn judge(
        &mut self,
        from: &str,
        frame: Frame,
        now: Instant,
        out: &mut Vec<Out>,
    ) -> Result<Vec<Up>, Reason> {
        if frame.path.contains(&self.own) {
            return Err(Reason::Loop);
        }
        if frame.path.len() > PATH_MAX {
            return Err(Reason::TooFar);
        }
        if frame.path.last().is_none_or(|last| last != from) {
            return Err(Reason::Forged);
        }
        let cid = frame.body.cid().to_owned();
        let home = Self::home(&cid).ok_or(Reason::ForeignTopic)?.to_owned();
        let may = self.may(from, &cid, &home, &frame);
        if may == Err(Reason::NotMember) && home == self.own {
            self.show_the_door(&cid, from, out);
        }
        may?;
        if !self.seen.first(frame.id, now) {
            return Err(Reason::Duplicate);
        }
        let mut onward = frame;
        let path = onward.path.clone();
        onward.path.push(self.own.clone());
        match onward.body.clone() {
            Body::Members {
                version, members, ..
            } => self.hear_members((from, &home, &cid), members, version, &onward, now, out),
            Body::Change { change, .. } => self.hear_change(&cid, &change, &onward, now, out),
            Body::Snapshot { to, catch_up, .. } => {
                Ok(self.hear_snapshot(&cid, &to, catch_up, onward, now, out))
            }
            Body::Ask { have, .. } => self.hear_ask(&cid, have, &path, onward, out),
            Body::Command { document, .. } => self.hear_command(&cid, document, &path, onward, out),
            Body::Attend { document, .. } => self.hear_attend(&cid, document, &path, onward, out),
            Body::Answer {
                to, re, document, ..
            } => {
                if to != self.own {
                    self.send_down(&cid, &to, onward, out);
                    return Ok(Vec::new());
                }
                self.settle(&cid, re)?;
                Ok(vec![Up::Answered { cid, re, document }])
            }
            Body::Refused { to, re, .. } => {
                if to != self.own {
                    self.send_down(&cid, &to, onward, out);
                    return Ok(Vec::new());
                }
                self.settle(&cid, re)?;
                Ok(vec![Up::Unreachable { cid, re }])
            }
            Body::Reach { sid, there, .. } => {
                self.hear_reach((from, &cid), &sid, there, onward, now, out)
            }
        }
    }

    /// Whether that neighbour may say this.
    fn may(&self, from: &str, cid: &str, home: &str, frame: &Frame) -> Result<(), Reason> {
        if frame.body.foreign_part().is_some() {
            return Err(Reason::ForeignTopic);
        }
        let known = self.conferences.get(cid);
        let linked = self.links.contains_key(home);
        let via = match known.and_then(|c| c.via.as_deref()) {
            _ if linked => Some(home),
            // Another way, once the one we had is gone.
            Some(via) if !self.is_up(via) && matches!(frame.body, Body::Members { .. }) => {
                Some(from)
            }
            Some(via) => Some(via),
            None => Some(from),
        };
        let from_home = match &frame.body {
            Body::Members { .. }
            | Body::Change { .. }
            | Body::Snapshot { .. }
            | Body::Answer { .. }
            | Body::Refused { .. } => true,
            Body::Reach { sid, .. } => sid == home,
            Body::Command { .. } | Body::Attend { .. } | Body::Ask { .. } => false,
        };
        if from_home {
            if home == self.own {
                return Err(Reason::ForeignTopic);
            }
            if via != Some(from) {
                return Err(Reason::Detour);
            }
            let announces = matches!(frame.body, Body::Members { .. });
            let begins_there = frame.path.first().is_some_and(|first| first == home);
            // A server on the way may speak for itself, but not for the home.
            let own_word = matches!(frame.body, Body::Reach { .. } | Body::Refused { .. });
            if !begins_there && !own_word && !announces {
                return Err(Reason::ForeignTopic);
            }
            if known.is_none() && !announces {
                return Err(Reason::NotMember);
            }
            return Ok(());
        }
        let known = known.ok_or(Reason::NotMember)?;
        let origin = frame.path.first().map(String::as_str);
        let members = [Some(from), origin];
        if !members
            .into_iter()
            .flatten()
            .all(|sid| known.members.contains(sid))
        {
            return Err(Reason::NotMember);
        }
        if home != self.own && via == Some(from) {
            return Err(Reason::Detour);
        }
        Ok(())
    }

    /// Who takes itself for a member has missed that it is none any more.
    fn show_the_door(&mut self, cid: &str, sid: &str, out: &mut Vec<Out>) {
        let known = self.conferences.get(cid);
        if !self.links.contains_key(sid) || known.is_some_and(|c| c.members.contains(sid)) {
            return;
        }
        let last = Mark {
            epoch: u64::MAX,
            rev: 0,
            seq: 0,
        };
        let version = known.map_or(Some(last), |c| c.version).unwrap_or(last);
        let frame = self.frame(Body::Members {
            cid: cid.to_owned(),
            version,
            members: Vec::new(),
        });
        let to = sid.to_owned();
        out.push(Out { to, frame });
    }

    fn hear_command(
        &mut self,
        cid: &str,
        document: Bytes,
        path: &[String],
        onward: Frame,
        out: &mut Vec<Out>,
    ) -> Result<Vec<Up>, Reason> {
        let (Some(origin), Some(from)) = (path.first(), path.last()) else {
            return Err(Reason::Forged);
        };
        let conference = self.conferences.get_mut(cid).ok_or(Reason::NotMember)?;
        conference.learn(origin, from);
        let Some(via) = conference.via.clone() else {
            let origin = Origin {
                sid: origin.clone(),
                id: onward.id,
            };
            let cid = cid.to_owned();
            return Ok(vec![Up::Command {
                cid,
                origin,
                document,
            }]);
        };
        if conference.home_there && self.is_up(&via) {
            out.push(Out {
                to: via,
                frame: onward,
            });
            return Ok(Vec::new());
        }
        let (re, to) = (onward.id, origin.clone());
        let refused = self.frame(Body::Refused {
            cid: cid.to_owned(),
            to: to.clone(),
            re,
        });
        self.send_down(cid, &to, refused, out);
        Ok(Vec::new())
    }

    fn hear_attend(
        &mut self,
        cid: &str,
        document: Bytes,
        path: &[String],
        onward: Frame,
        out: &mut Vec<Out>,
    ) -> Result<Vec<Up>, Reason> {
        let (Some(origin), Some(from)) = (path.first(), path.last()) else {
            return Err(Reason::Forged);
        };
        let conference = self.conferences.get_mut(cid).ok_or(Reason::NotMember)?;
        conference.learn(origin, from);
        let Some(to) = conference.via.clone() else {
            let (cid, sid) = (cid.to_owned(), origin.clone());
            return Ok(vec![Up::Attended { cid, sid, document }]);
        };
        if self.is_up(&to) {
            out.push(Out { to, frame: onward });
        }
        Ok(Vec::new())
    }

    /// A command is answered once.
    fn settle(&mut self, cid: &str, re: Id) -> Result<(), Reason> {
        let conference = self.conferences.get_mut(cid).ok_or(Reason::NotMember)?;
        conference.pending.remove(&re).ok_or(Reason::Late)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
