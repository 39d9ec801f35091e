//! What must always hold, whatever the network and the node do.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use control::bus::Publication;
use control::cascade::Cascade;
use control::conference::Conference;
use control::conference::envelope::Revision;
use control::plane::{Effect, Effects, Plane};
use serde_json::Value;

use super::client::QUERY;

/// Keeps account.
#[derive(Debug, Default)]
pub struct Oracle {
    pub restarts: u64,
    /// Commands whose home could not be asked.
    pub unreachable: u64,
    /// What servers published of conferences at home elsewhere: by server and topic.
    relayed: BTreeMap<(usize, String), (Revision, u64)>,
    /// Of these, how many.
    pub shown: u64,
    /// The answer to each command, as it arrived somewhere.
    answers: BTreeMap<String, Bytes>,
    /// The last revision published, by topic.
    revisions: BTreeMap<String, Revision>,
    /// The last event published, by conference.
    events: BTreeMap<String, (Revision, u64)>,
    /// Requests that were told to their owners as made.
    made: BTreeSet<(String, String)>,
    /// Requests that have ended, in the node or in the log.
    decided: BTreeSet<(String, String)>,
    ended: BTreeMap<(String, String), String>,
    pub terminals: u64,
    /// Types of what was published.
    pub kinds: BTreeSet<String>,
    /// Why commands were not done.
    pub codes: BTreeSet<String>,
}

impl Oracle {
    /// After each step of the node.
    pub(super) fn state(&mut self, plane: &Plane, effects: &Effects) {
        for conference in plane.conferences() {
            for (fid, floor) in conference.floors() {
                let holders = floor.holders().len();
                assert!(holders <= floor.policy.holders_max, "{holders} hold {fid}");
                assert!(
                    floor.queue().len() <= floor.policy.queue_max.max(32),
                    "{fid}"
                );
                let all = || floor.holders().iter().chain(floor.queue());
                let pids: BTreeSet<&String> = all().map(|request| &request.pid).collect();
                assert_eq!(
                    pids.len(),
                    all().count(),
                    "somebody has two requests for {fid}"
                );
                for request in all() {
                    let known = conference.roster().find(&request.pid);
                    assert!(known.is_some(), "{} asks from outside", request.pid);
                }
            }
        }
        // What the node has decided, though nobody may have been told.
        for effect in effects {
            if let Effect::Publish(publication) = effect
                && let Some(cid) = log_of(&publication.topic)
            {
                let event = document(&publication.payload);
                for end in event["data"]["terminal"].as_array().into_iter().flatten() {
                    self.decided.insert((cid.to_owned(), id(end)));
                }
            }
        }
    }

    /// Something leaves the node.
    pub(super) fn published(&mut self, publication: &Publication) {
        let topic = publication.topic.as_str();
        if !publication.payload.is_empty() {
            let message = document(&publication.payload);
            let word = |name: &str| message[name].as_str().map(str::to_owned);
            self.kinds.extend(word("type"));
            self.codes.extend(word("code"));
        }
        if let Some(cid) = log_of(topic) {
            self.event(cid, &publication.payload);
        } else if topic.contains("/rsp/") {
            self.answer(topic, &publication.payload);
        } else if !publication.payload.is_empty() {
            let now = revision(&publication.payload);
            let before = self.revisions.insert(topic.to_owned(), now);
            assert!(
                before.is_none_or(|before| before <= now),
                "{topic}: {before:?}, {now}"
            );
        }
    }

    /// A server begins anew: what it showed before is forgotten.
    pub(super) fn reborn(&mut self, node: usize) {
        self.relayed.retain(|(of, _), _| *of != node);
    }

    /// Something of a conference at home elsewhere leaves a server. It is never ahead of the home,
    /// and does not go back.
    pub(super) fn relayed(
        &mut self,
        (node, sid): (usize, &str),
        publication: &Publication,
        home: Option<&Conference>,
    ) {
        let topic = publication.topic.as_str();
        if topic.contains("/rsp/") {
            return self.answer(topic, &publication.payload);
        }
        self.shown += 1;
        if publication.payload.is_empty() {
            return;
        }
        let now = revision(&publication.payload);
        let home = home.expect("its home has it");
        // Where its clients look for their server's address.
        assert_eq!(document(&publication.payload)["src"]["sid"], sid, "{topic}");
        assert!(now <= home.revision(), "{topic} is ahead of its home");
        let seq = document(&publication.payload)["seq"].as_u64().unwrap_or(0);
        let before = self.relayed.insert((node, topic.to_owned()), (now, seq));
        if let Some((before, last)) = before {
            assert!(before <= now, "{topic} goes back: {before}, {now}");
            let events = log_of(topic).is_some();
            assert!(!events || seq > last, "{topic}: {last}, then {seq}");
        }
    }

    fn event(&mut self, cid: &str, payload: &Bytes) {
        let event = document(payload);
        let now = revision(payload);
        let seq = event["seq"].as_u64().expect("a number");
        if let Some((before, last)) = self.events.insert(cid.to_owned(), (now, seq)) {
            assert!(before <= now, "{cid}: {before}, then {now}");
            if before.epoch == now.epoch {
                assert_eq!(seq, last + 1, "{cid}: a gap in the log");
            } else {
                assert!(seq > last, "{cid}: the log goes back");
            }
        }
        for end in event["data"]["terminal"].as_array().into_iter().flatten() {
            let state = end["state"].as_str().expect("a state").to_owned();
            let key = (cid.to_owned(), id(end));
            let before = self.ended.insert(key.clone(), state);
            assert_eq!(before, None, "{key:?} ended twice");
            self.terminals += 1;
        }
    }

    fn answer(&mut self, topic: &str, payload: &Bytes) {
        let answer = document(payload);
        let cid = topic.split('/').nth(3).expect("a conference");
        let data = &answer["data"];
        if matches!(answer["status"].as_str(), Some("ok" | "accepted"))
            && data["state"].is_string()
            && let Some(id) = data["request_id"].as_str()
        {
            self.made.insert((cid.to_owned(), id.to_owned()));
        }
    }

    /// At a client.
    pub(super) fn answered(&mut self, cause: &str, payload: &Bytes) {
        let before = self.answers.insert(cause.to_owned(), payload.clone());
        if let Some(before) = before.filter(|_| !cause.ends_with(QUERY)) {
            assert_eq!(before, *payload, "{cause} is answered in two ways");
        }
    }

    /// What was acknowledged is there, or had ended.
    pub(super) fn after_restart(&self, plane: &Plane) {
        for (cid, id) in &self.made {
            let elsewhere = Cascade::home(cid) != Some(plane.sid());
            if elsewhere || self.decided.contains(&(cid.clone(), id.clone())) {
                continue;
            }
            let conference = plane.conference(cid);
            let conference = conference.unwrap_or_else(|| panic!("{cid} is lost"));
            let found = conference
                .floors()
                .values()
                .any(|floor| floor.find(id).is_some());
            assert!(found, "request {id} was acknowledged and is lost");
        }
    }

    /// Every request that was made has ended, or is open.
    pub(super) fn at_rest(&self, plane: &Plane) {
        for key in &self.made {
            if Cascade::home(&key.0) != Some(plane.sid()) {
                continue;
            }
            let conference = plane.conference(&key.0).expect("it stays");
            let open = conference
                .floors()
                .values()
                .any(|floor| floor.find(&key.1).is_some());
            let ended = self.ended.contains_key(key);
            assert!(!(open && ended), "{key:?} goes on after its end");
            assert!(open || ended || self.restarts > 0, "{key:?} came to no end");
        }
    }

    /// Commands that were answered.
    #[must_use]
    pub fn answers(&self) -> usize {
        self.answers.len()
    }
}

fn id(end: &Value) -> String {
    end["request_id"].as_str().expect("an id").to_owned()
}

fn log_of(topic: &str) -> Option<&str> {
    topic.strip_prefix("towpath/v1/c/")?.strip_suffix("/evt")
}

fn document(payload: &Bytes) -> Value {
    serde_json::from_slice(payload).expect("a document")
}

pub(super) fn data(payload: &Bytes) -> Value {
    document(payload)["data"].take()
}

pub(super) fn revision(payload: &Bytes) -> Revision {
    let state = document(payload);
    let number = |name: &str| state[name].as_u64().expect("a number");
    Revision {
        epoch: number("epoch"),
        rev: number("rev"),
    }
}
