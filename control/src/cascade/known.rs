//! What is known of servers and what they share.

use std::collections::BTreeMap;

use crate::bus::topic::is_id;

use super::conference::Conference;
use super::frame::Change;
use super::{Cascade, Reason};

impl Cascade {
    /// Our own id.
    #[must_use]
    pub fn own(&self) -> &str {
        &self.own
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

    /// Conferences that cross the link to a neighbour, with the servers beyond it that share each:
    /// the home first, if it is one.
    pub fn over<'a>(&'a self, sid: &'a str) -> impl Iterator<Item = (&'a str, Vec<&'a str>)> {
        let each = self.conferences.iter();
        each.filter_map(move |(cid, known)| {
            let beyond = beyond(known, sid);
            (!beyond.is_empty()).then_some((cid.as_str(), beyond))
        })
    }

    /// Whether a server that shares a conference can be reached, its home among them.
    #[must_use]
    pub fn shares(&self, cid: &str, sid: &str) -> Option<bool> {
        match self.conferences.get(cid) {
            Some(known) if known.home == sid => Some(self.home_there(cid)),
            _ => self.reaches(cid, sid),
        }
    }

    /// What the home of a conference that is not ours has told of it.
    #[must_use]
    pub fn told(&self, cid: &str) -> Option<&[u8]> {
        self.conferences.get(cid)?.part("state")
    }

    #[must_use]
    pub fn dropped(&self) -> &BTreeMap<Reason, u64> {
        &self.dropped
    }

    /// The neighbour on the way to a conference's home.
    #[must_use]
    pub fn via(&self, cid: &str) -> Option<&str> {
        self.conferences.get(cid)?.via.as_deref()
    }
}

/// Servers behind a neighbour, or it itself.
fn beyond<'a>(known: &'a Conference, neighbour: &str) -> Vec<&'a str> {
    let home = known.via.as_deref().filter(|via| *via == neighbour);
    let home = home.map(|_| known.home.as_str());
    let members = known.members.iter().filter(|sid| {
        let by = known.routes.get(*sid).unwrap_or(sid);
        by == neighbour && **sid != known.home
    });
    home.into_iter()
        .chain(members.map(String::as_str))
        .collect()
}
