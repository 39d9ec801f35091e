//! Which other servers a conference is shared with: those the configuration names, and what an
//! operator has said of this one conference, which goes before.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Conference, Steps, What};

/// Servers a conference is shared with, beside its home.
pub const MEMBERS_MAX: usize = 64;

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Sharing {
    members: BTreeSet<String>,
    /// By an operator's word, whatever the configuration says.
    added: BTreeSet<String>,
    removed: BTreeSet<String>,
    /// Of `members`; grows with each change.
    version: u64,
}

impl Sharing {
    #[must_use]
    pub fn members(&self) -> &BTreeSet<String> {
        &self.members
    }

    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn document(&self) -> Value {
        json!({
            "members": self.members,
            "added": self.added,
            "removed": self.removed,
            "version": self.version,
        })
    }

    /// Records from before there was sharing say nothing of it.
    pub(super) fn read(value: Option<&Value>) -> Self {
        let Some(value) = value else {
            return Self::default();
        };
        let names = |name: &str| {
            let names = value.get(name).and_then(Value::as_array);
            let names = names.into_iter().flatten().filter_map(Value::as_str);
            names.map(str::to_owned).collect()
        };
        Self {
            members: names("members"),
            added: names("added"),
            removed: names("removed"),
            version: value.get("version").and_then(Value::as_u64).unwrap_or(0),
        }
    }
}

impl Conference {
    #[must_use]
    pub fn sharing(&self) -> &Sharing {
        &self.sharing
    }

    /// It is shared with a server from now on, or not any more. False: there are too many.
    pub fn share(&mut self, sid: &str, on: bool, always: &[String], steps: &mut Steps) -> bool {
        let Sharing {
            members,
            added,
            removed,
            ..
        } = &mut self.sharing;
        if on && members.len() >= MEMBERS_MAX && !members.contains(sid) {
            return false;
        }
        if on {
            removed.remove(sid);
            added.insert(sid.to_owned());
        } else {
            added.remove(sid);
            if removed.len() < MEMBERS_MAX {
                removed.insert(sid.to_owned());
            }
        }
        self.share_as_told(always, steps);
        // Also where members stay the same: the operator's word is kept.
        self.keep_head(steps);
        true
    }

    /// Takes what the configuration says; true if members are others now.
    pub fn share_as_told(&mut self, always: &[String], steps: &mut Steps) -> bool {
        let Sharing { added, removed, .. } = &self.sharing;
        let named = always.iter().filter(|sid| !removed.contains(*sid));
        let wanted: BTreeSet<String> = named.chain(added).take(MEMBERS_MAX).cloned().collect();
        if wanted == self.sharing.members {
            return false;
        }
        let before = std::mem::replace(&mut self.sharing.members, wanted);
        self.sharing.version += 1;
        let members = &self.sharing.members;
        let news = members.difference(&before);
        let news = news.map(|sid| (What::Shared, sid.clone()));
        let gone = before.difference(members);
        let gone = gone.map(|sid| (What::Unshared, sid.clone()));
        let notes: Vec<(What, String)> = news.chain(gone).collect();
        for (what, sid) in notes {
            let fields = vec![("server", sid), ("uri", self.uri.clone())];
            self.note(what, fields, steps);
        }
        self.keep_head(steps);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use crate::bus::moment::Now;
    use crate::conference::Names;

    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a base for virtual time")]
    fn an_operators_word_goes_before_the_configuration() {
        let now = Now {
            at: Instant::now(),
            wall_ms: 0,
        };
        let names = Names {
            sid: "a",
            cid: "a~1",
            uri: "8001",
        };
        let mut steps = Steps::default();
        let mut conference = Conference::start(names, false, &[], now, &mut steps);
        let always = |sids: &[&str]| sids.iter().map(|&sid| sid.to_owned()).collect::<Vec<_>>();
        let mut check = |word: Option<(&str, bool)>, told: &[&str], expected: &[&str], version| {
            let told = always(told);
            match word {
                Some((sid, on)) => assert!(conference.share(sid, on, &told, &mut steps)),
                None => {
                    conference.share_as_told(&told, &mut steps);
                }
            }
            let sharing = conference.sharing();
            let members: Vec<&str> = sharing.members().iter().map(String::as_str).collect();
            assert_eq!((&*members, sharing.version()), (expected, version));
            assert_eq!(Sharing::read(Some(&sharing.document())), *sharing);
        };
        check(None, &["b"], &["b"], 1);
        check(None, &["b"], &["b"], 1);
        check(Some(("c", true)), &["b"], &["b", "c"], 2);
        check(Some(("b", false)), &["b"], &["c"], 3);
        check(None, &["b", "d"], &["c", "d"], 4);
        check(None, &[], &["c"], 5);
        check(Some(("b", true)), &[], &["b", "c"], 6);
    }
}
