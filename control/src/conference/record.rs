//! A conference as octets that outlive the process: one record for what it is, and one for each
//! floor, view, participant and answer, so that a command writes little. A version, then JSON;
//! times are milliseconds before or after the record was written.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};

use crate::bus::moment::Now;

use super::envelope::Revision;
use super::floor::{Floor, Policy, Request, State};
use super::legacy::Turns;
use super::log::Log;
use super::roster::{GRACE_AT_START, Participant, Presence, Role, Roster, lost};
use super::seen::{Answered, Seen};
use super::sharing::Sharing;
use super::view::{Target, View};
use super::{Conference, Steps, What};

/// Records of another version are not read.
const VERSION: u8 = 1;

/// One that was kept: its key below the conference's, when it was written, and what.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Kept {
    pub key: String,
    pub at: Instant,
    pub bytes: Bytes,
}

/// An answer, as it was kept.
struct Remembered {
    pid: String,
    inst: String,
    answered: Answered,
    /// The number of its command, and what that was for.
    gate: Option<(String, u64)>,
}

/// The key of what a conference is.
pub const HEAD: &str = "";

#[must_use]
pub fn participant_key(pid: &str) -> String {
    format!("r/{pid}")
}

#[must_use]
pub fn answer_key(pid: &str, inst: &str, id: &str) -> String {
    format!("a/{pid}/{inst}/{id}")
}

pub(super) type Keep = (String, Option<Bytes>);

fn keep(key: String, value: &Value) -> Keep {
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(value.to_string().as_bytes());
    (key, Some(bytes.into()))
}

pub(super) fn participant(pid: &str, participant: &Participant) -> Keep {
    let value = json!({
        "name": participant.name,
        "role": participant.role.word(),
        "bus": participant.bus,
        "since_ms": participant.since_ms,
        "revision": participant.revision.to_string(),
    });
    keep(participant_key(pid), &value)
}

pub(super) fn floor(fid: &str, floor: &Floor, at: Instant) -> Keep {
    let one = |request: &Request| {
        json!({
            "id": request.id,
            "pid": request.pid,
            "asked_by": request.asked_by,
            "priority": request.priority,
            "text": request.text,
            "state": request.state.word(),
            "since_ms": request.since_ms,
            "asked": millis(at.saturating_duration_since(request.asked)),
            "until": request.until.map(|until| millis(until.saturating_duration_since(at))),
        })
    };
    let requests = floor.holders().iter().chain(floor.queue());
    let value = json!({
        "revision": floor.revision.to_string(),
        "requests": requests.map(one).collect::<Vec<_>>(),
    });
    keep(format!("f/{fid}"), &value)
}

pub(super) fn view(vid: &str, view: &View) -> Keep {
    let value = json!({
        "revision": view.revision.to_string(),
        "by": view.by,
        "target": view.target.document(),
    });
    keep(format!("v/{vid}"), &value)
}

pub(super) fn answer(
    pid: &str,
    inst: &str,
    answered: &Answered,
    gate: Option<(String, u64)>,
) -> Keep {
    let value = json!({
        "answer": String::from_utf8_lossy(&answered.answer),
        "gate": gate,
    });
    keep(answer_key(pid, inst, &answered.id), &value)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl Conference {
    pub(super) fn keep_head(&self, steps: &mut Steps) {
        if steps.keep.iter().any(|(key, _)| key == HEAD) {
            steps.keep.retain(|(key, _)| key != HEAD);
        }
        let value = json!({
            "uri": self.uri,
            "pinned": self.pinned,
            "began_ms": self.began_ms,
            "revision": self.revision.to_string(),
            "seq": self.seq,
            "requests": self.requests,
            "sharing": self.sharing.document(),
        });
        steps.keep.push(keep(HEAD.to_owned(), &value));
    }

    /// Every key there is something under.
    pub(super) fn keys(&self) -> Vec<String> {
        let floors = self.floors.keys().map(|fid| format!("f/{fid}"));
        let views = self.views.keys().map(|vid| format!("v/{vid}"));
        let roster = self
            .roster
            .participants
            .keys()
            .map(|pid| participant_key(pid));
        let answers = self.seen.answers();
        let answers = answers.map(|(pid, inst, known)| answer_key(pid, inst, &known.id));
        let all = floors.chain(views).chain(roster).chain(answers);
        all.chain([HEAD.to_owned()]).collect()
    }

    /// Goes on where an earlier process was: under another epoch, because what that one published
    /// last may be more than it kept. Everybody has to come back. None: there is no telling what it
    /// was.
    #[must_use]
    pub fn restore(
        (sid, cid): (&str, &str),
        kept: &[Kept],
        floors: &[(String, Policy)],
        now: Now,
        steps: &mut Steps,
    ) -> Option<Self> {
        let head = kept.iter().find(|kept| kept.key == HEAD)?;
        let head = value(&head.bytes)?;
        let last = revision(&head)?;
        let mut conference = Self {
            sid: sid.to_owned(),
            cid: cid.to_owned(),
            uri: head.get("uri")?.as_str()?.to_owned(),
            pinned: head.get("pinned")?.as_bool()?,
            began_ms: head.get("began_ms")?.as_u64()?,
            revision: Revision {
                epoch: last.epoch + 1,
                rev: last.rev + 1,
            },
            seq: head.get("seq")?.as_u64()?,
            requests: head.get("requests")?.as_u64()?,
            roster: Roster::default(),
            floors: BTreeMap::new(),
            views: BTreeMap::new(),
            seen: Seen::default(),
            log: Log::default(),
            turns: BTreeMap::<_, Turns>::new(),
            empty_since: Some(now.at),
            sharing: Sharing::read(head.get("sharing")),
        };
        let mut answers = Vec::new();
        for kept in kept {
            conference.take(kept, floors, now, &mut answers);
        }
        answers.sort_by_key(|known: &Remembered| known.answered.at);
        for known in answers {
            let (pid, inst) = (&known.pid, &known.inst);
            if let Some((object, cseq)) = known.gate {
                let at = known.answered.at;
                conference.seen.is_stale(pid, inst, &object, cseq, at);
            }
            conference.seen.remember(pid, inst, known.answered);
        }
        for (fid, policy) in floors {
            let floor = || Floor::new(policy.clone(), last);
            conference.floors.entry(fid.clone()).or_insert_with(floor);
        }
        conference.go_on(now, steps);
        Some(conference)
    }

    /// Tells everything anew, under the new epoch.
    fn go_on(&mut self, now: Now, steps: &mut Steps) {
        let count = vec![
            ("uri", self.uri.clone()),
            ("participants", self.roster.participants.len().to_string()),
        ];
        self.note(What::Restored, count, steps);
        self.tell_conference("conference.restored", None, now, steps);
        let pids: Vec<String> = self.roster.participants.keys().cloned().collect();
        for pid in pids {
            steps.admitted.push((pid.clone(), true));
            self.empty_since = None;
            self.tell_participant(&pid, None, now, steps);
        }
        let fids: Vec<String> = self.floors.keys().cloned().collect();
        for fid in fids {
            self.show_floor(&fid, None, now, steps);
        }
        let vids: Vec<String> = self.views.keys().cloned().collect();
        for vid in vids {
            self.tell_view(&vid, None, now, steps);
        }
    }

    /// One record.
    fn take(
        &mut self,
        kept: &Kept,
        floors: &[(String, Policy)],
        now: Now,
        answers: &mut Vec<Remembered>,
    ) -> Option<()> {
        let value = value(&kept.bytes)?;
        let (kind, name) = kept.key.split_once('/')?;
        match kind {
            "f" => {
                let policy = floors.iter().find(|(fid, _)| fid == name);
                let policy = policy.map_or_else(Policy::default, |(_, policy)| policy.clone());
                let requests = value.get("requests")?.as_array()?;
                let requests = requests.iter().filter_map(|r| request(r, kept.at));
                let floor = Floor::restored(policy, revision(&value)?, requests.collect());
                self.floors.insert(name.to_owned(), floor);
            }
            "v" => {
                let view = View {
                    target: Target::read(value.get("target")?.as_object()?)?,
                    by: value.get("by")?.as_str()?.to_owned(),
                    revision: revision(&value)?,
                };
                self.views.insert(name.to_owned(), view);
            }
            "r" => {
                let participant = restored_participant(&value, now.at)?;
                self.roster
                    .participants
                    .insert(name.to_owned(), participant);
            }
            "a" => {
                let mut names = name.splitn(3, '/').map(str::to_owned);
                let (pid, inst, id) = (names.next()?, names.next()?, names.next()?);
                let answer = value.get("answer")?.as_str()?.to_owned().into();
                let gate = value.get("gate").and_then(Value::as_array);
                let gate = gate.and_then(|gate| match gate.as_slice() {
                    [object, cseq] => Some((object.as_str()?.to_owned(), cseq.as_u64()?)),
                    _ => None,
                });
                let at = kept.at;
                let answered = Answered { id, at, answer };
                answers.push(Remembered {
                    pid,
                    inst,
                    answered,
                    gate,
                });
            }
            _ => {}
        }
        Some(())
    }
}

fn restored_participant(value: &Value, now: Instant) -> Option<Participant> {
    Some(Participant {
        name: value.get("name")?.as_str()?.to_owned(),
        role: match value.get("role")?.as_str()? {
            "chair" => Role::Chair,
            _ => Role::Participant,
        },
        presence: restored_presence(now),
        calls: BTreeSet::new(),
        bus: value.get("bus")?.as_bool()?,
        since_ms: value.get("since_ms")?.as_u64()?,
        media: BTreeMap::new(),
        revision: revision(value)?,
    })
}

/// Calls are not known any more, and nobody has connected yet.
fn restored_presence(now: Instant) -> Presence {
    lost(now, GRACE_AT_START)
}

fn request(value: &Value, at: Instant) -> Option<Request> {
    let text = |name: &str| value.get(name)?.as_str().map(str::to_owned);
    let span = |name: &str| value.get(name)?.as_u64().map(Duration::from_millis);
    Some(Request {
        id: text("id")?,
        pid: text("pid")?,
        asked_by: text("asked_by"),
        priority: u8::try_from(value.get("priority")?.as_u64()?).ok()?,
        text: text("text"),
        state: match value.get("state")?.as_str()? {
            "pending" => State::Pending,
            "accepted" => State::Accepted,
            "granted" => State::Granted,
            _ => return None,
        },
        since_ms: value.get("since_ms")?.as_u64()?,
        asked: at.checked_sub(span("asked")?).unwrap_or(at),
        until: span("until").and_then(|span| at.checked_add(span)),
    })
}

/// What a record of this version says.
fn value(bytes: &[u8]) -> Option<Value> {
    let (version, json) = bytes.split_first()?;
    (*version == VERSION).then(|| serde_json::from_slice(json).ok())?
}

fn revision(value: &Value) -> Option<Revision> {
    value.get("revision")?.as_str()?.parse().ok()
}
