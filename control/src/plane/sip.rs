//! SIP meets conference: a call to a conference's URI makes the conference and an entry in its
//! roster; what is heard of the call is shown there.

use crate::bus::moment::Now;
use crate::bus::topic::id_of;
use crate::conference::roster::Way;
use crate::engine::event::{Event, Kind};
use crate::engine::glob;

use super::{Effects, Plane};

/// Calls to conferences that are known at a time.
const CALLS_MAX: usize = 100_000;

/// A call to a conference.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Call {
    uri: String,
    /// The account that called, or was called by the conference's server.
    account: String,
    /// The leg of the participant.
    leg: &'static str,
    /// Once it is answered.
    pub(super) cid: Option<String>,
}

impl Plane {
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "other events are no conference's"
    )]
    pub(super) fn noted(&mut self, event: &Event, now: Now, effects: &mut Effects) {
        let Ok(number) = event.subject.parse::<u64>() else {
            return;
        };
        let heard = match event.kind {
            Kind::MediaFirst | Kind::MediaResumed => "heard",
            Kind::MediaSilent => "silent",
            Kind::MediaOneWay => "one_way",
            Kind::CallStarted => return self.call_started(number, event),
            Kind::CallAnswered => return self.call_answered(number, now, effects),
            Kind::CallEnded => return self.call_ended(number, event, now, effects),
            _ => return,
        };
        self.call_heard(number, event, heard, now, effects);
    }

    fn call_started(&mut self, number: u64, event: &Event) {
        let (from, to) = (field(event, "from"), field(event, "to"));
        let (uri, account, leg) = if self.is_conference(to) {
            (to, from, "caller")
        } else if self.is_conference(from) {
            (from, to, "callee")
        } else {
            return;
        };
        if self.calls.len() < CALLS_MAX {
            let call = Call {
                uri: uri.to_owned(),
                account: account.to_owned(),
                leg,
                cid: None,
            };
            self.calls.insert(number, call);
        }
    }

    fn call_answered(&mut self, number: u64, now: Now, effects: &mut Effects) {
        let Some(call) = self.calls.get(&number).cloned() else {
            return;
        };
        // One that another server shares with us, unless people are in one of our own.
        let foreign = self.foreign_by_uri.get(&call.uri).cloned();
        let foreign = foreign.filter(|_| !self.by_uri.contains_key(&call.uri));
        if let Some(cid) = foreign {
            return self.call_elsewhere(number, &call, cid, now, effects);
        }
        let Some(cid) = self.conference_of(&call.uri, false, now, effects) else {
            return;
        };
        let (pid, role) = (id_of(&call.account), self.role(&call.account));
        let who = (pid.as_str(), call.account.as_str());
        self.with(&cid, now, effects, |conference, steps| {
            conference.join(who, role, Way::Call(number), None, now, steps)
        });
        if let Some(call) = self.calls.get_mut(&number) {
            call.cid = Some(cid);
        }
    }

    /// It is a call to a conference at home elsewhere: the home is told.
    fn call_elsewhere(
        &mut self,
        number: u64,
        call: &Call,
        cid: String,
        now: Now,
        effects: &mut Effects,
    ) {
        let pid = id_of(&call.account);
        if let Some(foreign) = self.foreign.get_mut(&cid) {
            let caller = foreign.callers.entry(pid.clone()).or_default();
            caller.name.clone_from(&call.account);
            caller.calls.insert(number);
        }
        self.attend(&cid, &pid, true, now, effects);
        if let Some(call) = self.calls.get_mut(&number) {
            call.cid = Some(cid);
        }
    }

    fn call_ended(&mut self, number: u64, event: &Event, now: Now, effects: &mut Effects) {
        let Some(call) = self.calls.remove(&number) else {
            return;
        };
        let Some(cid) = call.cid else { return };
        // Somebody hung up, or the operator did; else the line went dead.
        let meant = matches!(field(event, "why"), "caller" | "callee" | "administrator");
        let pid = id_of(&call.account);
        if let Some(foreign) = self.foreign.get_mut(&cid) {
            if let Some(caller) = foreign.callers.get_mut(&pid) {
                caller.calls.remove(&number);
                if caller.calls.is_empty() {
                    foreign.callers.remove(&pid);
                }
            }
            return self.attend(&cid, &pid, meant, now, effects);
        }
        self.with(&cid, now, effects, |conference, steps| {
            conference.hung_up(&pid, number, meant, now, steps);
        });
    }

    fn call_heard(
        &mut self,
        number: u64,
        event: &Event,
        what: &'static str,
        now: Now,
        effects: &mut Effects,
    ) {
        let call = self.calls.get(&number);
        let Some((cid, call)) = call.and_then(|call| Some((call.cid.clone()?, call))) else {
            return;
        };
        if field(event, "leg") == call.leg {
            let (pid, kind) = (id_of(&call.account), field(event, "kind").to_owned());
            if let Some(foreign) = self.foreign.get_mut(&cid) {
                if let Some(caller) = foreign.callers.get_mut(&pid) {
                    caller.media.insert(kind, what.to_owned());
                }
                return self.attend(&cid, &pid, true, now, effects);
            }
            self.with(&cid, now, effects, |conference, steps| {
                conference.heard(&pid, &kind, what, now, steps);
            });
        }
    }

    fn is_conference(&self, user: &str) -> bool {
        let mut uris = self.settings.uris.iter();
        uris.any(|pattern| glob(pattern.as_bytes(), user.as_bytes()))
    }
}

fn field<'e>(event: &'e Event, name: &str) -> &'e str {
    let found = event.fields.iter().find(|(known, _)| *known == name);
    found.map_or("", |(_, value)| value)
}
