//! Who is in a conference, by identity: through calls, or over the bus, or both.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bus::moment::{Now, rfc3339_ms};

use super::envelope::Revision;

/// Of one conference.
pub const PARTICIPANTS_MAX: usize = 1_000;
/// How long a participant who was lost is waited for.
pub const GRACE: Duration = Duration::from_secs(8);
/// The same after a start: everybody has to come back.
pub const GRACE_AT_START: Duration = Duration::from_secs(30);

/// What a participant may do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    Participant,
    /// Decides about floors.
    Chair,
}

impl Role {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Participant => "participant",
            Self::Chair => "chair",
        }
    }
}

/// Whether somebody is there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Presence {
    Joined,
    /// Not heard of; gone for good at this time.
    Lost {
        until: Instant,
    },
}

/// How somebody is there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// By a call, by its number.
    Call(u64),
    /// By a command over the bus, for as long as a client of theirs is connected.
    Bus,
}

/// One who is in it, or was until a moment ago.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Participant {
    /// The account, as it is written.
    pub name: String,
    pub role: Role,
    pub presence: Presence,
    pub calls: BTreeSet<u64>,
    pub bus: bool,
    /// Joined at, time of day.
    pub since_ms: u64,
    /// What is heard of each kind of media in a call.
    pub media: BTreeMap<String, &'static str>,
    pub revision: Revision,
}

impl Participant {
    /// The data of its state.
    #[must_use]
    pub fn document(&self, pid: &str) -> Value {
        let by = [("call", !self.calls.is_empty()), ("bus", self.bus)];
        let by: Vec<&str> = by
            .into_iter()
            .filter_map(|(way, on)| on.then_some(way))
            .collect();
        json!({
            "pid": pid,
            "name": self.name,
            "role": self.role.word(),
            "state": match self.presence {
                Presence::Joined => "joined",
                Presence::Lost { .. } => "lost",
            },
            "by": by,
            "since": rfc3339_ms(self.since_ms),
            "media": self.media,
        })
    }

    fn is_there(&self) -> bool {
        self.bus || !self.calls.is_empty()
    }
}

/// What became of somebody who was there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Became {
    /// Still there, or never was.
    Same,
    /// There by fewer ways.
    Less,
    Lost,
    Left,
}

/// By participant id.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Roster {
    pub participants: BTreeMap<String, Participant>,
}

impl Roster {
    #[must_use]
    pub fn find(&self, pid: &str) -> Option<&Participant> {
        self.participants.get(pid)
    }

    #[must_use]
    pub fn is_chair(&self, pid: &str) -> bool {
        self.find(pid).is_some_and(|p| p.role == Role::Chair)
    }

    /// Somebody is there. True if the roster says something else now; none if it is full.
    pub fn join(&mut self, pid: &str, name: &str, role: Role, way: Way, now: Now) -> Option<bool> {
        if self.participants.len() >= PARTICIPANTS_MAX && !self.participants.contains_key(pid) {
            return None;
        }
        let known = self.participants.get(pid).cloned();
        let participant = self.participants.entry(pid.to_owned());
        let participant = participant.or_insert_with(|| Participant {
            name: name.to_owned(),
            role,
            presence: Presence::Joined,
            calls: BTreeSet::new(),
            bus: false,
            since_ms: now.wall_ms,
            media: BTreeMap::new(),
            revision: Revision::default(),
        });
        participant.presence = Presence::Joined;
        participant.role = role;
        match way {
            Way::Call(call) => {
                participant.calls.insert(call);
            }
            Way::Bus => participant.bus = true,
        }
        Some(known.as_ref() != Some(participant))
    }

    /// A client of theirs is connected again: who was lost is back.
    pub fn back(&mut self, pid: &str) -> bool {
        let Some(participant) = self.participants.get_mut(pid) else {
            return false;
        };
        let lost = matches!(participant.presence, Presence::Lost { .. });
        if lost && participant.bus {
            participant.presence = Presence::Joined;
            return true;
        }
        false
    }

    /// A call is over. Who hung up has left; who only fell silent may come back.
    pub fn hung_up(&mut self, pid: &str, call: u64, meant: bool, now: Instant) -> Became {
        let Some(participant) = self.participants.get_mut(pid) else {
            return Became::Same;
        };
        if !participant.calls.remove(&call) {
            return Became::Same;
        }
        if participant.calls.is_empty() {
            participant.media.clear();
        }
        if participant.is_there() {
            return Became::Less;
        }
        if meant {
            self.participants.remove(pid);
            return Became::Left;
        }
        participant.presence = lost(now, GRACE);
        Became::Lost
    }

    /// No client of theirs is connected any more.
    pub fn disconnected(&mut self, pid: &str, now: Instant) -> Became {
        let Some(participant) = self.participants.get_mut(pid) else {
            return Became::Same;
        };
        let alone = participant.bus && participant.calls.is_empty();
        if !alone || participant.presence != Presence::Joined {
            return Became::Same;
        }
        participant.presence = lost(now, GRACE);
        Became::Lost
    }

    /// They say that they go; a call of theirs stays.
    pub fn leave(&mut self, pid: &str) -> Became {
        let Some(participant) = self.participants.get_mut(pid) else {
            return Became::Same;
        };
        if !participant.calls.is_empty() {
            return if std::mem::take(&mut participant.bus) {
                Became::Less
            } else {
                Became::Same
            };
        }
        self.participants.remove(pid);
        Became::Left
    }

    /// Those who are gone for good now.
    pub fn expire(&mut self, now: Instant) -> Vec<String> {
        let over = |participant: &Participant| match participant.presence {
            Presence::Joined => false,
            Presence::Lost { until } => until <= now,
        };
        let gone = self.participants.iter().filter(|(_, p)| over(p));
        let gone: Vec<String> = gone.map(|(pid, _)| pid.clone()).collect();
        for pid in &gone {
            self.participants.remove(pid);
        }
        gone
    }

    /// When the next is.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        let until = |participant: &Participant| match participant.presence {
            Presence::Joined => None,
            Presence::Lost { until } => Some(until),
        };
        self.participants.values().filter_map(until).min()
    }
}

/// Gone for good if they are not back within `grace`.
#[must_use]
pub fn lost(now: Instant, grace: Duration) -> Presence {
    Presence::Lost {
        until: now.checked_add(grace).unwrap_or(now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::disallowed_methods, reason = "a base for virtual time")]
    fn began() -> Now {
        Now {
            at: Instant::now(),
            wall_ms: 0,
        }
    }

    #[test]
    fn presence_has_grace() {
        let (mut roster, now) = (Roster::default(), began());
        let join = |roster: &mut Roster, way| roster.join("p", "P", Role::Participant, way, now);
        assert_eq!(join(&mut roster, Way::Bus), Some(true));
        assert_eq!(join(&mut roster, Way::Bus), Some(false));
        assert_eq!(roster.disconnected("p", now.at), Became::Lost);
        assert_eq!(roster.disconnected("p", now.at), Became::Same);
        assert_eq!(roster.next(), Some(now.at + GRACE));
        assert!(roster.back("p"));
        assert!(!roster.back("p"));
        assert_eq!(roster.expire(now.at + GRACE), [""; 0]);
        assert_eq!(roster.disconnected("p", now.at), Became::Lost);
        assert_eq!(roster.expire(now.at + GRACE), ["p"]);
        assert_eq!(roster, Roster::default());
    }

    #[test]
    fn who_is_there_twice_leaves_twice() {
        let (mut roster, now) = (Roster::default(), began());
        for way in [Way::Call(1), Way::Call(2), Way::Bus] {
            roster.join("p", "P", Role::Participant, way, now);
        }
        assert_eq!(roster.hung_up("p", 1, true, now.at), Became::Less);
        assert_eq!(roster.hung_up("p", 1, true, now.at), Became::Same);
        assert_eq!(roster.disconnected("p", now.at), Became::Same);
        assert_eq!(roster.leave("p"), Became::Less);
        assert_eq!(roster.leave("p"), Became::Same);
        assert_eq!(roster.hung_up("p", 2, false, now.at), Became::Lost);
        assert!(
            !roster.back("p"),
            "only a call brings back who was there by a call"
        );
        assert_eq!(
            roster.join("p", "P", Role::Participant, Way::Call(3), now),
            Some(true)
        );
        assert_eq!(roster.hung_up("p", 3, true, now.at), Became::Left);
        assert_eq!(roster.hung_up("p", 3, true, now.at), Became::Same);
    }

    #[test]
    fn a_full_roster_takes_nobody_new() {
        let (mut roster, now) = (Roster::default(), began());
        for n in 0..PARTICIPANTS_MAX {
            assert!(
                roster
                    .join(&n.to_string(), "", Role::Chair, Way::Bus, now)
                    .is_some()
            );
        }
        assert_eq!(
            roster.join("one-more", "", Role::Chair, Way::Bus, now),
            None
        );
        assert_eq!(
            roster.join("0", "", Role::Chair, Way::Bus, now),
            Some(false)
        );
    }
}
