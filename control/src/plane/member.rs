//! Conferences at home elsewhere: what their home says is published here as it is, and commands of
//! clients here go up to it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::bus::moment::Now;
use crate::bus::topic::PREFIX;
use crate::bus::{Publication, Qos};
use crate::cascade::{Cascade, Document, Id};
use crate::conference::From;
use crate::conference::envelope::{Answer, Command, Malformed, Status};
use crate::conference::record::{HEAD, Kept};
use crate::conference::tell::EVENT_FOR;
use crate::effect::{Record, Table};
use crate::engine::event::Kind;
use crate::mqtt::json;

use super::attend::{Attendee, Caller};
use super::cascade::{Forwarded, UNREACHABLE};
use super::message::{Unplaced, response};
use super::{Effect, Effects, Outcome, Plane, name};

/// What is known of a conference that is at home elsewhere, beside its documents.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Foreign {
    uri: Option<String>,
    /// What is kept of it: its URI, and the neighbour on the way to its home.
    kept: Option<(String, String)>,
    pub(super) roster: BTreeSet<String>,
    /// Participants whose clients here mean to be in it.
    pub(super) here: BTreeSet<String>,
    pub(super) callers: BTreeMap<String, Caller>,
    /// What the home was told of them.
    pub(super) told: BTreeMap<String, Attendee>,
}

/// A command that is under way to its home.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Awaited {
    cid: String,
    pid: String,
    /// The id its client gave it.
    id: Option<String>,
    whose: Whose,
}

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Whose {
    /// A client of the bus; its publication is acknowledged with the answer.
    Client { ticket: u64 },
    /// A client of the API.
    Api { ticket: u64 },
}

impl Plane {
    /// Whether another server decides about a conference.
    pub(super) fn is_elsewhere(&self, cid: &str) -> bool {
        Cascade::home(cid).is_some_and(|home| home != self.sid) && self.settings.linked
    }

    /// A command for a conference at home elsewhere goes there.
    pub(super) fn forward(
        &mut self,
        cid: &str,
        from: From<'_>,
        bytes: &[u8],
        (whose, client): (Whose, &str),
        now: Now,
        effects: &mut Effects,
    ) {
        let command = match Command::read(bytes) {
            Ok(command) => command,
            Err(Malformed { id, code }) => {
                let answer = self.malformed(cid, from.pid, (id, code), client, now);
                return answered(cid, from.pid, whose, answer, effects);
            }
        };
        if from.connected && command.kind == "conference.join" {
            self.attend_from(cid, from.pid, now, effects);
        }
        let key = match command.id {
            Some(_) => None,
            None => Some(name::ulid(now.wall_ms, &mut self.random)),
        };
        let document = document(from, key, bytes);
        let mut out = Vec::new();
        let sent = self.cascade.command(cid, document, now.at, &mut out);
        self.send(out, now, effects);
        let awaited = Awaited {
            cid: cid.to_owned(),
            pid: from.pid.to_owned(),
            id: command.id,
            whose,
        };
        match sent {
            Ok(id) => {
                self.awaited.insert(id, awaited);
            }
            Err(refused) => match self.not_sent(refused) {
                Some(code) => self.refuse(&awaited, code, now, effects),
                None => {
                    let subject = format!("{cid}/{}", from.pid);
                    self.unplaced(Unplaced::NotShared, &subject, client, now);
                    self.refuse(&awaited, Unplaced::NotShared.word(), now, effects);
                }
            },
        }
    }

    /// The answer to a command that was sent up, or that there will be none.
    pub(super) fn settle(
        &mut self,
        re: Id,
        answer: Option<Bytes>,
        now: Now,
        effects: &mut Effects,
    ) {
        let Some(awaited) = self.awaited.remove(&re) else {
            return;
        };
        let Some(answer) = answer else {
            return self.refuse(&awaited, UNREACHABLE, now, effects);
        };
        *self.counts.forwarded.entry("answered").or_default() += 1;
        let answer = match awaited.id {
            Some(_) => answer,
            // The home knows it by a key that its client does not know.
            None => without_cause(&answer),
        };
        let Awaited {
            cid, pid, whose, ..
        } = awaited;
        answered(&cid, &pid, whose, answer, effects);
    }

    fn refuse(&mut self, awaited: &Awaited, code: &'static str, now: Now, effects: &mut Effects) {
        *self.counts.forwarded.entry(code).or_default() += 1;
        let answer = Answer::refused(Status::Error, code);
        let answer = answer.document(&self.sid, awaited.id.as_deref(), None, now);
        let Awaited {
            cid, pid, whose, ..
        } = awaited;
        answered(cid, pid, *whose, answer, effects);
    }

    /// Its home says what is new: it is published here. Who is let in sees it.
    pub(super) fn show(
        &mut self,
        cid: &str,
        documents: Vec<Document>,
        now: Now,
        effects: &mut Effects,
    ) {
        if !self.foreign.contains_key(cid) {
            let home = Cascade::home(cid).unwrap_or_default().to_owned();
            let (kind, fields) = (Kind::ConferenceShared, vec![("home", home)]);
            self.events.push(now.at, kind, cid.to_owned(), fields);
        }
        self.foreign.entry(cid.to_owned()).or_default();
        let mut news = Vec::new();
        for document in documents {
            let pid = document.part.strip_prefix("roster/").map(str::to_owned);
            let gone = document.payload.is_empty();
            if let (Some(pid), false) = (&pid, gone)
                && self.enters(cid, pid, effects)
            {
                news.push(pid.clone());
            }
            if document.part == "state" && !gone {
                self.name_foreign(cid, &document.payload);
            }
            let publication = self.publication(cid, document);
            effects.push(Effect::Publish(publication));
            if let (Some(pid), true) = (&pid, gone) {
                self.leaves(cid, pid, effects);
            }
        }
        for pid in news {
            self.attend(cid, &pid, true, now, effects);
        }
        self.keep_foreign(cid, now, effects);
    }

    /// After a start, calls to its URI are still calls to it, and its home is asked.
    fn keep_foreign(&mut self, cid: &str, now: Now, effects: &mut Effects) {
        let via = self.cascade.via(cid).map(str::to_owned);
        let Some(foreign) = self.foreign.get_mut(cid) else {
            return;
        };
        let is = foreign.uri.clone().zip(via);
        if is.is_none() || foreign.kept == is {
            return;
        }
        foreign.kept.clone_from(&is);
        let (uri, via) = is.unwrap_or_default();
        let bytes = serde_json::json!({ "uri": uri, "via": via }).to_string();
        let record = Record {
            at: now.at,
            bytes: bytes.into(),
        };
        effects.push(stored(cid, Some(record)));
    }

    /// What was kept of a conference at home elsewhere.
    pub(super) fn recall(&mut self, cid: &str, kept: &[Kept], effects: &mut Effects) {
        let head = kept.iter().find(|kept| kept.key == HEAD);
        let head = head.and_then(|kept| serde_json::from_slice::<Value>(&kept.bytes).ok());
        let word = |name: &str| {
            let word = head.as_ref()?.get(name)?.as_str()?;
            Some(word.to_owned())
        };
        let (Some(uri), Some(via), true) = (word("uri"), word("via"), self.is_elsewhere(cid))
        else {
            effects.push(stored(cid, None));
            return;
        };
        self.cascade.recall(cid, &via);
        self.foreign_by_uri.insert(uri.clone(), cid.to_owned());
        let foreign = Foreign {
            uri: Some(uri.clone()),
            kept: Some((uri, via)),
            ..Foreign::default()
        };
        self.foreign.insert(cid.to_owned(), foreign);
    }

    fn enters(&mut self, cid: &str, pid: &str, effects: &mut Effects) -> bool {
        let Some(foreign) = self.foreign.get_mut(cid) else {
            return false;
        };
        let news = foreign.roster.insert(pid.to_owned());
        if news {
            let cids = self.memberships.entry(pid.to_owned()).or_default();
            cids.insert(cid.to_owned());
            let (cid, pid) = (cid.to_owned(), pid.to_owned());
            effects.push(Effect::Admit { cid, pid });
        }
        news
    }

    fn leaves(&mut self, cid: &str, pid: &str, effects: &mut Effects) {
        let foreign = self.foreign.get_mut(cid);
        if foreign.is_some_and(|foreign| foreign.roster.remove(pid)) {
            self.no_membership(cid, pid);
            let (cid, pid) = (cid.to_owned(), pid.to_owned());
            effects.push(Effect::Dismiss { cid, pid });
        }
    }

    /// Calls here to its URI are calls to it.
    fn name_foreign(&mut self, cid: &str, state: &[u8]) {
        let state: Value = serde_json::from_slice(state).unwrap_or_default();
        let uri = state.pointer("/data/uri").and_then(Value::as_str);
        let Some(foreign) = self.foreign.get_mut(cid) else {
            return;
        };
        if foreign.uri.as_deref() == uri {
            return;
        }
        if let Some(uri) = uri {
            self.foreign_by_uri.insert(uri.to_owned(), cid.to_owned());
        }
        foreign.uri = uri.map(str::to_owned);
    }

    fn publication(&self, cid: &str, document: Document) -> Publication {
        let retain = document.is_retained();
        let Document { part, payload } = document;
        Publication {
            topic: format!("{PREFIX}/c/{cid}/{part}"),
            payload: self.as_ours(cid, payload),
            qos: Qos::AtLeastOnce,
            retain,
            expiry: (!retain).then_some(EVENT_FOR),
        }
    }

    /// Where clients look for the address of their server, the home's id becomes ours: the edge
    /// puts in the address each receiver knows us by.
    fn as_ours(&self, cid: &str, payload: Bytes) -> Bytes {
        let home = Cascade::home(cid).unwrap_or_default();
        let mut payload = payload;
        for field in &self.settings.address_fields {
            let found = json::string(&payload, field);
            let found = found.filter(|at| payload.get(at.clone()) == Some(home.as_bytes()));
            if let Some(at) = found {
                let before = payload.get(..at.start).unwrap_or_default();
                let behind = payload.get(at.end..).unwrap_or_default();
                payload = [before, self.sid.as_bytes(), behind].concat().into();
            }
        }
        payload
    }

    /// We share it no more.
    pub(super) fn unshared(
        &mut self,
        cid: &str,
        parts: Vec<String>,
        now: Now,
        effects: &mut Effects,
    ) {
        for part in parts {
            let payload = Bytes::new();
            let publication = self.publication(cid, Document { part, payload });
            effects.push(Effect::Publish(publication));
        }
        let Some(foreign) = self.foreign.remove(cid) else {
            return;
        };
        effects.push(stored(cid, None));
        if let Some(uri) = foreign.uri
            && self.foreign_by_uri.get(&uri).is_some_and(|of| of == cid)
        {
            self.foreign_by_uri.remove(&uri);
        }
        for pid in foreign.told.into_keys() {
            if let Some(attends) = self.attends.get_mut(&pid) {
                attends.remove(cid);
                if attends.is_empty() {
                    self.attends.remove(&pid);
                }
            }
        }
        for pid in foreign.roster {
            self.no_membership(cid, &pid);
            let cid = cid.to_owned();
            effects.push(Effect::Dismiss { cid, pid });
        }
        let home = Cascade::home(cid).unwrap_or_default().to_owned();
        let (kind, fields) = (Kind::ConferenceUnshared, vec![("home", home)]);
        self.events.push(now.at, kind, cid.to_owned(), fields);
    }
}

fn stored(cid: &str, record: Option<Record>) -> Effect {
    Effect::Store {
        table: Table::Conferences,
        key: format!("{cid}/{HEAD}").into(),
        record,
    }
}

/// What waits for an answer has it now.
fn answered(cid: &str, pid: &str, whose: Whose, answer: Bytes, effects: &mut Effects) {
    match whose {
        Whose::Client { ticket } => {
            effects.push(Effect::Publish(response(cid, pid, answer)));
            effects.push(Effect::Acknowledge {
                ticket,
                refused: None,
            });
        }
        Whose::Api { ticket } => effects.push(Effect::Answer {
            ticket,
            outcome: Outcome::Answered(answer),
        }),
    }
}

/// A command as it travels between servers.
fn document(from: From<'_>, key: Option<String>, bytes: &[u8]) -> Bytes {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let Ok(msg) = RawValue::from_string(text) else {
        return Bytes::new();
    };
    let forwarded = Forwarded {
        pid: from.pid.to_owned(),
        name: from.name.to_owned(),
        connected: from.connected,
        key,
        msg,
    };
    serde_json::to_vec(&forwarded).unwrap_or_default().into()
}

fn without_cause(answer: &Bytes) -> Bytes {
    let Ok(mut document) = serde_json::from_slice::<Value>(answer) else {
        return answer.clone();
    };
    if let Some(cause) = document.get_mut("cause") {
        *cause = Value::Null;
    }
    document.to_string().into()
}
