//! What clients of the API want: the same as those of the bus, and conferences made and ended.

use bytes::Bytes;

use crate::bus::moment::Now;
use crate::conference::From;

use super::member::Whose;
use super::{Effect, Effects, Plane};

/// What is wanted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Order {
    /// The conference of a URI, made if there is none; it stays until it is ended.
    Open { uri: String },
    /// Everybody out.
    End { cid: String },
    /// A server shares a conference from now on, or not any more.
    Share { cid: String, sid: String, on: bool },
    /// A command in the name of a participant, in its envelope.
    Command {
        cid: String,
        pid: String,
        command: Bytes,
    },
}

/// What became of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    Opened {
        cid: String,
    },
    Ended,
    Shared,
    /// The answer a client of the bus would have got.
    Answered(Bytes),
    Refused(Refused),
}

/// Why nothing did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refused {
    NoSuchConference,
    TooMany,
    /// Its home is another server; only that one says who shares it.
    NotHome,
    /// That is no server's id, or our own.
    NotAServer,
    TooManyMembers,
}

impl Plane {
    pub(super) fn asked(&mut self, ticket: u64, order: Order, now: Now, effects: &mut Effects) {
        let outcome = match order {
            Order::Open { uri } => match self.conference_of(&uri, true, now, effects) {
                Some(cid) => Outcome::Opened { cid },
                None => Outcome::Refused(Refused::TooMany),
            },
            Order::End { cid } if self.conferences.contains_key(&cid) => {
                self.end(&cid, "ended", now, effects);
                Outcome::Ended
            }
            Order::Share { cid, sid, on } => match self.share(&cid, &sid, on, now, effects) {
                Ok(()) => Outcome::Shared,
                Err(refused) => Outcome::Refused(refused),
            },
            Order::Command { cid, pid, command } if self.foreign.contains_key(&cid) => {
                let from = From {
                    pid: &pid,
                    name: &pid,
                    role: self.role(&pid),
                    connected: false,
                };
                let whose = Whose::Api { ticket };
                return self.forward(&cid, from, &command, (whose, "api"), now, effects);
            }
            Order::Command { cid, pid, command } if self.conferences.contains_key(&cid) => {
                let from = From {
                    pid: &pid,
                    name: &pid,
                    role: self.role(&pid),
                    connected: false,
                };
                Outcome::Answered(self.command(&cid, from, &command, "api", now, effects))
            }
            Order::End { .. } | Order::Command { .. } => {
                Outcome::Refused(Refused::NoSuchConference)
            }
        };
        effects.push(Effect::Answer { ticket, outcome });
    }
}
