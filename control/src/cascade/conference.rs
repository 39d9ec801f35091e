//! One conference that servers share.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use bytes::Bytes;

use super::frame::{CatchUp, Change, Document, Id, Mark};
use super::{CHANGES_MAX, DOCUMENTS_MAX, MEMBERS_MAX};

#[derive(Debug)]
pub(super) struct Conference {
    pub(super) home: String,
    /// The neighbour on the way to its home; none: it is at home here.
    pub(super) via: Option<String>,
    /// The home can be reached, as far as is known.
    pub(super) home_there: bool,
    /// Beside the home.
    pub(super) members: BTreeSet<String>,
    pub(super) version: Option<Mark>,
    /// Members of whom their neighbour says that they cannot be reached.
    pub(super) away: BTreeSet<String>,
    /// Members behind neighbours, as their commands have shown.
    pub(super) routes: BTreeMap<String, String>,
    /// What is known of it; none: nothing yet.
    pub(super) mark: Option<Mark>,
    retained: BTreeMap<String, Bytes>,
    changes: VecDeque<Change>,
    /// When the home is asked again for what was missed.
    pub(super) ask_again: Option<Instant>,
    /// Commands from here, and how long they wait.
    pub(super) pending: BTreeMap<Id, Instant>,
}

/// Whether a change follows what is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Follows {
    Next,
    /// Known already.
    Old,
    /// Something between is missing.
    Gap,
}

impl Conference {
    pub(super) fn new(home: &str, via: Option<&str>) -> Self {
        Self {
            home: home.to_owned(),
            via: via.map(str::to_owned),
            home_there: true,
            members: BTreeSet::new(),
            version: None,
            away: BTreeSet::new(),
            routes: BTreeMap::new(),
            mark: None,
            retained: BTreeMap::new(),
            changes: VecDeque::new(),
            ask_again: None,
            pending: BTreeMap::new(),
        }
    }

    /// Known of from before the start; nobody has confirmed it yet.
    pub(super) fn recalled(home: &str, via: &str, own: String) -> Self {
        Self {
            home_there: false,
            members: BTreeSet::from([own]),
            ..Self::new(home, Some(via))
        }
    }

    /// Returned is who was a member before or is one now.
    pub(super) fn take_members(
        &mut self,
        members: BTreeSet<String>,
        version: Mark,
    ) -> BTreeSet<String> {
        self.away.retain(|sid| members.contains(sid));
        self.routes.retain(|sid, _| members.contains(sid));
        self.version = Some(version);
        let before = std::mem::replace(&mut self.members, members);
        before.union(&self.members).cloned().collect()
    }

    /// When something is waited for no longer. Of commands the first one has waited longest.
    pub(super) fn next(&self) -> Option<Instant> {
        let first = self.pending.first_key_value().map(|(_, at)| *at);
        first.into_iter().chain(self.ask_again).min()
    }

    pub(super) fn learn(&mut self, sid: &str, neighbour: &str) {
        if self.routes.len() < MEMBERS_MAX || self.routes.contains_key(sid) {
            self.routes.insert(sid.to_owned(), neighbour.to_owned());
        }
    }

    pub(super) fn follows(&self, next: Mark) -> Follows {
        let Some(known) = self.mark else {
            return Follows::Gap;
        };
        if next.epoch != known.epoch {
            return if next.epoch < known.epoch {
                Follows::Old
            } else {
                Follows::Gap
            };
        }
        match next.seq.checked_sub(known.seq) {
            // Documents that no event tells of.
            Some(0) if next.rev >= known.rev => Follows::Next,
            Some(1) => Follows::Next,
            Some(0) | None => Follows::Old,
            Some(_) => Follows::Gap,
        }
    }

    pub(super) fn keep(&mut self, change: &Change) {
        self.mark = self.mark.max(Some(change.mark));
        for document in &change.documents {
            self.retain(document);
        }
        if self.changes.len() == CHANGES_MAX {
            self.changes.pop_front();
        }
        self.changes.push_back(change.clone());
    }

    fn retain(&mut self, Document { part, payload }: &Document) {
        if part == "evt" {
            return;
        }
        if payload.is_empty() {
            self.retained.remove(part);
        } else if self.retained.len() < DOCUMENTS_MAX || self.retained.contains_key(part) {
            self.retained.insert(part.clone(), payload.clone());
        }
    }

    /// Everything in place of what was there; returned is what differs for those who watch, the
    /// roster first: who is in it may see the rest.
    pub(super) fn replace(&mut self, state: Change) -> Vec<Document> {
        let new: BTreeSet<&String> = state.documents.iter().map(|d| &d.part).collect();
        let gone = self.retained.keys().filter(|part| !new.contains(part));
        let mut documents: Vec<Document> = gone
            .map(|part| Document {
                part: part.clone(),
                payload: Bytes::new(),
            })
            .collect();
        let before = std::mem::take(&mut self.retained);
        self.changes.clear();
        self.mark = Some(state.mark);
        for document in &state.documents {
            self.retain(document);
        }
        let other = |document: &Document| before.get(&document.part) != Some(&document.payload);
        documents.extend(state.documents.into_iter().filter(other));
        documents.sort_by_key(|document| !document.part.starts_with("roster/"));
        documents
    }

    /// What somebody who has this has missed.
    pub(super) fn missed(&self, have: Option<Mark>) -> CatchUp {
        let mark = self.mark.unwrap_or_default();
        if have == Some(mark) {
            return CatchUp::Nothing;
        }
        let missing = have.filter(|have| have.epoch == mark.epoch && have.seq < mark.seq);
        if let Some(have) = missing {
            let after = |change: &&Change| change.mark.epoch == mark.epoch && change.mark > have;
            let changes: Vec<Change> = self.changes.iter().filter(after).cloned().collect();
            // All of them, or they are worth nothing.
            let first = changes.first().map(|change| change.mark.seq);
            if first.is_some_and(|first| first <= have.seq + 1) {
                return CatchUp::Changes(changes);
            }
        }
        CatchUp::State(Change {
            mark,
            documents: self.documents(),
        })
    }

    pub(super) fn documents(&self) -> Vec<Document> {
        let each = self.retained.iter();
        each.map(|(part, payload)| Document {
            part: part.clone(),
            payload: payload.clone(),
        })
        .collect()
    }

    pub(super) fn part(&self, name: &str) -> Option<&[u8]> {
        self.retained.get(name).map(|payload| &payload[..])
    }

    pub(super) fn parts(&self) -> Vec<String> {
        self.retained.keys().cloned().collect()
    }
}
