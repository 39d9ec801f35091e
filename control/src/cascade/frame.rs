//! What one server tells another.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

use crate::bus::topic::{PREFIX, Part, Topic};

/// A frame's name, the same wherever it goes.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Id {
    /// Of the server it comes from: another one at every start.
    pub boot: u64,
    pub number: u64,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.boot, self.number)
    }
}

/// It is not written so.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NoId;

impl FromStr for Id {
    type Err = NoId;

    fn from_str(text: &str) -> Result<Self, NoId> {
        let (boot, number) = text.split_once('-').ok_or(NoId)?;
        if boot.len() != 16 {
            return Err(NoId);
        }
        Ok(Self {
            boot: u64::from_str_radix(boot, 16).map_err(|_| NoId)?,
            number: number.parse().map_err(|_| NoId)?,
        })
    }
}

/// How far a conference has come; compared from left to right.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Mark {
    pub epoch: u64,
    pub rev: u64,
    /// Of its event log, without gaps.
    pub seq: u64,
}

/// One document of a conference, as it is published.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Document {
    /// Which: `state`, `roster/p1`, `evt`: what follows `c/{cid}/` in its topic.
    pub part: String,
    /// Empty: what was retained there is forgotten.
    pub payload: Bytes,
}

impl Document {
    /// Whether its last version is kept for whoever comes later.
    #[must_use]
    pub fn is_retained(&self) -> bool {
        self.part != "evt"
    }
}

/// What one event of the log brought about: the event, and every document that differs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// Afterwards.
    pub mark: Mark,
    pub documents: Vec<Document>,
}

/// What a server that was away gets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CatchUp {
    /// Nothing: it has all.
    Nothing,
    /// The changes it missed, in order.
    Changes(Vec<Change>),
    /// Everything, in place of what it has.
    State(Change),
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    pub id: Id,
    /// The servers it has passed, its origin first.
    pub path: Vec<String>,
    pub body: Body,
}

/// What is said, each of one conference.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Body {
    /// The home: these share it.
    Members {
        cid: String,
        version: Mark,
        members: Vec<String>,
    },
    /// The home: this has changed.
    Change { cid: String, change: Change },
    /// A member: a client of mine wants this.
    Command { cid: String, document: Bytes },
    /// A member: of my clients these are there.
    Attend { cid: String, document: Bytes },
    /// The home: this is the answer to the command `re` of member `to`.
    Answer {
        cid: String,
        to: String,
        re: Id,
        document: Bytes,
    },
    /// A member on the way: the home of the command `re` cannot be reached.
    Refused { cid: String, to: String, re: Id },
    /// A member: I have this; what have I missed?
    Ask { cid: String, have: Option<Mark> },
    /// The home, to one that asked.
    Snapshot {
        cid: String,
        to: String,
        catch_up: CatchUp,
    },
    /// A neighbour of `sid`: it can be reached here, or cannot.
    Reach {
        cid: String,
        sid: String,
        there: bool,
    },
}

impl Body {
    #[must_use]
    pub fn cid(&self) -> &str {
        match self {
            Self::Members { cid, .. }
            | Self::Change { cid, .. }
            | Self::Command { cid, .. }
            | Self::Attend { cid, .. }
            | Self::Answer { cid, .. }
            | Self::Refused { cid, .. }
            | Self::Ask { cid, .. }
            | Self::Snapshot { cid, .. }
            | Self::Reach { cid, .. } => cid,
        }
    }

    /// A part in it that a home does not publish.
    #[must_use]
    pub fn foreign_part(&self) -> Option<&str> {
        let changes: &[Change] = match self {
            Self::Change { change, .. } => std::slice::from_ref(change),
            Self::Snapshot { catch_up, .. } => match catch_up {
                CatchUp::Nothing => &[],
                CatchUp::Changes(changes) => changes,
                CatchUp::State(state) => std::slice::from_ref(state),
            },
            Self::Members { .. }
            | Self::Command { .. }
            | Self::Attend { .. }
            | Self::Answer { .. }
            | Self::Refused { .. }
            | Self::Ask { .. }
            | Self::Reach { .. } => &[],
        };
        let documents = changes.iter().flat_map(|change| &change.documents);
        let mut parts = documents.map(|document| document.part.as_str());
        parts.find(|part| !is_published(self.cid(), part))
    }
}

fn is_published(cid: &str, part: &str) -> bool {
    match Topic::parse(&format!("{PREFIX}/c/{cid}/{part}")) {
        Some(Topic::Conference { part, .. }) => match part {
            Part::State
            | Part::Roster { .. }
            | Part::Floor { .. }
            | Part::View { .. }
            | Part::Events => true,
            Part::Command { .. } | Part::Response { .. } => false,
        },
        _ => false,
    }
}
