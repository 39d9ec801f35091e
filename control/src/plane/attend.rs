//! Who of a member's clients is in a conference that is at home elsewhere: the member tells the
//! home, each change and all of it once more whenever something may have been lost. To the home
//! they are there as its own clients are, and lost with the same grace, also when the member is.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::bus::moment::Now;
use crate::bus::topic::is_id;
use crate::cascade::Reason;
use crate::conference::envelope::TEXT_BYTES_MAX;
use crate::conference::roster::{PARTICIPANTS_MAX, Role, Way};

use super::{Effects, Plane};

/// What a member says of one of its own. By neither way: it is there no more.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Attendee {
    name: String,
    /// A client of theirs is connected.
    bus: bool,
    /// A call of theirs goes on.
    call: bool,
    /// What is heard of each kind of media.
    #[serde(default)]
    media: BTreeMap<String, String>,
    /// They hung up.
    #[serde(default)]
    meant: bool,
}

/// What is said at a time.
#[derive(Deserialize, Serialize)]
struct Attendance {
    /// Whoever is not named is not there.
    whole: bool,
    who: BTreeMap<String, Attendee>,
}

/// Calls of one participant here.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Caller {
    pub(super) name: String,
    pub(super) calls: BTreeSet<u64>,
    pub(super) media: BTreeMap<String, String>,
}

/// What a home knows of those at one member.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Guests {
    there: BTreeMap<String, Attendee>,
    /// Those who had joined by the bus when the member was lost: it brings them back.
    waited_for: BTreeMap<String, (String, Role)>,
}

/// At a member.
impl Plane {
    /// A client of a participant means to be in it.
    pub(super) fn attend_from(&mut self, cid: &str, pid: &str, now: Now, effects: &mut Effects) {
        if let Some(foreign) = self.foreign.get_mut(cid) {
            if foreign.here.len() >= PARTICIPANTS_MAX {
                return;
            }
            foreign.here.insert(pid.to_owned());
            self.attend(cid, pid, true, now, effects);
        }
    }

    /// Tells the home how a participant is there, if that is news to it.
    pub(super) fn attend(
        &mut self,
        cid: &str,
        pid: &str,
        meant: bool,
        now: Now,
        effects: &mut Effects,
    ) {
        let is = self.attendee(cid, pid);
        let Some(foreign) = self.foreign.get_mut(cid) else {
            return;
        };
        if foreign.told.get(pid) == is.as_ref() {
            return;
        }
        match &is {
            Some(is) => foreign.told.insert(pid.to_owned(), is.clone()),
            None => foreign.told.remove(pid),
        };
        let attends = self.attends.entry(pid.to_owned()).or_default();
        if is.is_some() {
            attends.insert(cid.to_owned());
        } else {
            attends.remove(cid);
        }
        if attends.is_empty() {
            self.attends.remove(pid);
        }
        let mut is = is.unwrap_or_default();
        is.meant = meant;
        let who = BTreeMap::from([(pid.to_owned(), is)]);
        self.tell_home(cid, &Attendance { whole: false, who }, now, effects);
    }

    /// Tells the home of all of them.
    pub(super) fn attend_all(&mut self, cid: &str, now: Now, effects: &mut Effects) {
        let foreign = self.foreign.entry(cid.to_owned()).or_default();
        let named = foreign.told.keys().chain(&foreign.here);
        let named = named.chain(&foreign.roster).chain(foreign.callers.keys());
        let pids: BTreeSet<String> = named.cloned().collect();
        let mut who = BTreeMap::new();
        for pid in pids {
            if let Some(is) = self.attendee(cid, &pid) {
                let attends = self.attends.entry(pid.clone()).or_default();
                attends.insert(cid.to_owned());
                who.insert(pid, is);
            }
        }
        if let Some(foreign) = self.foreign.get_mut(cid) {
            foreign.told.clone_from(&who);
        }
        self.tell_home(cid, &Attendance { whole: true, who }, now, effects);
    }

    fn tell_home(&mut self, cid: &str, all: &Attendance, now: Now, effects: &mut Effects) {
        let document = serde_json::to_vec(all).unwrap_or_default();
        let mut out = Vec::new();
        self.cascade.attend(cid, document.into(), &mut out);
        self.send(out, now, effects);
    }

    /// How a participant is there, here.
    fn attendee(&self, cid: &str, pid: &str) -> Option<Attendee> {
        let foreign = self.foreign.get(cid)?;
        let means = foreign.here.contains(pid) || foreign.roster.contains(pid);
        let bus = means && self.clients.contains_key(pid);
        let caller = foreign.callers.get(pid);
        (bus || caller.is_some()).then(|| Attendee {
            name: caller.map_or_else(String::new, |caller| caller.name.clone()),
            bus,
            call: caller.is_some(),
            media: caller.map_or_else(BTreeMap::new, |caller| caller.media.clone()),
            meant: false,
        })
    }

    /// A client of a participant came or went: homes elsewhere learn it.
    pub(super) fn attend_everywhere(&mut self, pid: &str, now: Now, effects: &mut Effects) {
        let here = self.clients.contains_key(pid);
        let mut cids = self.memberships_of(pid);
        cids.extend(self.attends.get(pid).into_iter().flatten().cloned());
        for cid in cids {
            if let Some(foreign) = self.foreign.get_mut(&cid)
                && !here
            {
                foreign.here.remove(pid);
            }
            self.attend(&cid, pid, false, now, effects);
        }
    }
}

/// At home.
impl Plane {
    /// A member says who is there.
    pub(super) fn attended(
        &mut self,
        cid: &str,
        sid: &str,
        document: &[u8],
        now: Now,
        effects: &mut Effects,
    ) {
        let fits = |all: &Attendance| {
            let name = |(pid, is): (&String, &Attendee)| {
                is_id(pid) && is.name.len() <= TEXT_BYTES_MAX && is.media.len() <= KINDS_MAX
            };
            all.who.len() <= PARTICIPANTS_MAX && all.who.iter().all(name)
        };
        let all = serde_json::from_slice::<Attendance>(document);
        let Some(Attendance { whole, mut who }) = all.ok().filter(fits) else {
            self.cascade.drop_for(Reason::Malformed);
            return;
        };
        if !self.conferences.contains_key(cid) {
            return;
        }
        if whole {
            for pid in self.guests(cid, sid).there.keys() {
                who.entry(pid.clone()).or_default();
            }
        }
        for (pid, is) in who {
            self.guest(cid, (sid, &pid), is, now, effects);
        }
        if whole {
            self.guests(cid, sid).waited_for.clear();
        }
    }

    /// One of them.
    fn guest(
        &mut self,
        cid: &str,
        (sid, pid): (&str, &str),
        is: Attendee,
        now: Now,
        effects: &mut Effects,
    ) {
        let guests = self.guests(cid, sid);
        let was = guests.there.remove(pid).unwrap_or_default();
        let back = guests.waited_for.remove(pid);
        if (is.bus || is.call) && guests.there.len() < PARTICIPANTS_MAX {
            guests.there.insert(pid.to_owned(), is.clone());
        }
        let (role, call) = (self.role(&is.name), call_of(sid, pid));
        let stays = self.is_connected(cid, pid);
        self.with(cid, now, effects, |conference, steps| {
            let name = match is.name.as_str() {
                "" => pid,
                name => name,
            };
            if let (true, Some((name, role))) = (is.bus, &back) {
                conference.join((pid, name), *role, Way::Bus, None, now, steps);
            } else if is.bus {
                conference.connected(pid, now, steps);
            } else if was.bus && !stays {
                conference.disconnected(pid, now, steps);
            }
            if is.call {
                conference.join((pid, name), role, Way::Call(call), None, now, steps);
            } else if was.call {
                conference.hung_up(pid, call, is.meant, now, steps);
            }
            for (kind, what) in &is.media {
                let known = HEARD.iter().find(|known| *known == what);
                if let (Some(what), true) = (known, is_id(kind)) {
                    conference.heard(pid, kind, what, now, steps);
                }
            }
        });
    }

    /// A member cannot be reached: whoever is there is lost, and waited for.
    pub(super) fn member_away(&mut self, cid: &str, sid: &str, now: Now, effects: &mut Effects) {
        let Some(guests) = self
            .attendance
            .get_mut(cid)
            .and_then(|all| all.get_mut(sid))
        else {
            return;
        };
        let there = std::mem::take(&mut guests.there);
        let conference = self.conferences.get(cid);
        let joined = |(pid, was): (&String, &Attendee)| {
            let known = conference.and_then(|c| c.roster().find(pid));
            let known = known.filter(|participant| was.bus && participant.bus)?;
            Some((pid.clone(), (known.name.clone(), known.role)))
        };
        guests.waited_for.extend(there.iter().filter_map(joined));
        for (pid, was) in there {
            let (stays, call) = (self.is_connected(cid, &pid), call_of(sid, &pid));
            self.with(cid, now, effects, |conference, steps| {
                if was.call {
                    conference.hung_up(&pid, call, false, now, steps);
                }
                if was.bus && !stays {
                    conference.disconnected(&pid, now, steps);
                }
            });
        }
    }

    /// A server shares it no more: nobody is waited for there.
    pub(super) fn member_gone(&mut self, cid: &str, sid: &str, now: Now, effects: &mut Effects) {
        self.member_away(cid, sid, now, effects);
        if let Some(all) = self.attendance.get_mut(cid) {
            all.remove(sid);
        }
    }

    /// Whether a client of a participant is connected, here or at a member that can be reached.
    pub(super) fn is_connected(&self, cid: &str, pid: &str) -> bool {
        let mut elsewhere = self.attendance.get(cid).into_iter().flatten();
        self.clients.contains_key(pid)
            || elsewhere.any(|(_, guests)| guests.there.get(pid).is_some_and(|is| is.bus))
    }

    fn guests(&mut self, cid: &str, sid: &str) -> &mut Guests {
        let all = self.attendance.entry(cid.to_owned()).or_default();
        all.entry(sid.to_owned()).or_default()
    }
}

/// What may be heard of a kind of media.
const HEARD: [&str; 3] = ["heard", "silent", "one_way"];
/// Kinds of media of one participant.
const KINDS_MAX: usize = 16;

/// Calls of a participant at a member, as one: our own have small numbers.
fn call_of(sid: &str, pid: &str) -> u64 {
    // FNV-1a.
    let octets = sid.bytes().chain([b'/']).chain(pid.bytes());
    let hash = octets.fold(0xcbf2_9ce4_8422_2325u64, |hash, octet| {
        (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3)
    });
    hash | 1 << 63
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_elsewhere_are_none_of_ours() {
        assert_ne!(call_of("edge-01", "1001"), call_of("edge-01", "1002"));
        assert_ne!(call_of("edge-01", "1001"), call_of("edge-02", "1001"));
        assert!(call_of("edge-01", "1001") > 1 << 63);
    }
}
