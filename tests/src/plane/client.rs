//! A client of the plane: it sends commands until they are answered, and shows only states that are
//! newer than what it shows.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use control::bus::{Publication, Qos};
use serde_json::{Value, json};

use super::oracle::{Oracle, revision};
use crate::sim::rng::Rng;

/// What the ids of questions end with: each time they are answered by what is then.
pub(super) const QUERY: &str = "-query";

/// One participant's program.
#[derive(Debug)]
pub struct Client {
    pub account: String,
    pub cid: String,
    /// The server it is a client of.
    pub node: usize,
    pub connected: bool,
    /// It acts by itself.
    pub busy: bool,
    /// It says nothing new.
    pub only_repeat: bool,
    /// What it shows, by topic.
    pub states: BTreeMap<String, Bytes>,
    /// The last event it saw, of which epoch.
    log: Option<(u64, u64)>,
    cseq: u64,
    waiting: Option<(String, Bytes)>,
    /// The request of its own that it knows of.
    request: BTreeMap<String, String>,
    /// Requests of all that it has seen, for a chair to decide about.
    seen: Vec<(String, String)>,
}

impl Client {
    pub(super) fn new(account: &str, cid: &str, node: usize) -> Self {
        Self {
            account: account.to_owned(),
            cid: cid.to_owned(),
            node,
            connected: false,
            busy: false,
            only_repeat: false,
            states: BTreeMap::new(),
            log: None,
            cseq: 0,
            waiting: None,
            request: BTreeMap::new(),
            seen: Vec::new(),
        }
    }

    /// The command that is not answered.
    #[must_use]
    pub fn waiting(&self) -> Option<&(String, Bytes)> {
        self.waiting.as_ref()
    }

    /// Says this next.
    pub fn say(&mut self, kind: &str, data: &Value) {
        self.cseq += 1;
        let what = if kind.ends_with(".query") { QUERY } else { "" };
        let id = format!("{}-{}{what}", self.account, self.cseq);
        let payload = json!({
            "v": 1, "id": id, "type": kind, "cseq": self.cseq,
            "src": { "pid": self.account, "inst": "i1" }, "data": data,
        });
        self.waiting = Some((id, payload.to_string().into()));
    }

    /// What it sends now: again what is not answered, or something new.
    pub(super) fn next(&mut self, chance: &mut Rng) -> Option<Publication> {
        if self.waiting.is_none() && !self.only_repeat {
            self.invent(chance);
        }
        let (_, payload) = self.waiting.as_ref()?;
        Some(Publication {
            topic: format!("towpath/v1/c/{}/cmd/{}", self.cid, self.account),
            payload: payload.clone(),
            qos: Qos::AtLeastOnce,
            retain: false,
            expiry: Some(Duration::from_secs(10)),
        })
    }

    fn invent(&mut self, chance: &mut Rng) {
        let fid = chance.pick(&["audio", "slides"]);
        let known = self.request.get(fid).cloned();
        let chair = self.account.ends_with('0');
        match chance.below(if chair { 12 } else { 9 }) {
            0 => self.say("conference.join", &json!({})),
            1 if chance.permille(200) => self.say("conference.leave", &json!({})),
            1..=3 => {
                let priority = chance.below(5);
                self.say(
                    "floor.request",
                    &json!({ "fid": fid, "priority": priority }),
                );
            }
            4 => self.say("floor.release", &json!({ "fid": fid, "request_id": known })),
            5 => self.say("floor.cancel", &json!({ "fid": fid })),
            6 => self.say("floor.query", &json!({})),
            7 | 8 => {
                let zoom = 1 + chance.below(4);
                let target = json!({ "layout": "focus", "focus": "1001", "zoom": zoom });
                self.say("view.set", &json!({ "vid": "main", "target": target }));
            }
            9 => self.say(chance.pick(&["zoom_in", "zoom_out", "toggle"]), &json!({})),
            _ => {
                let Some((fid, id)) = self.seen.pop() else {
                    return;
                };
                let action = chance.pick(&["grant", "grant", "deny", "revoke"]);
                self.say(
                    "floor.decide",
                    &json!({ "fid": fid, "request_id": id, "action": action }),
                );
            }
        }
    }

    /// Something arrives. True if it has missed something.
    pub(super) fn take(&mut self, publication: &Publication, oracle: &mut Oracle) -> bool {
        let topic = publication.topic.as_str();
        let below = topic.strip_prefix("towpath/v1/c/").expect("a conference's");
        let (cid, part) = below.split_once('/').expect("a part");
        assert_eq!(
            cid, self.cid,
            "{} is shown another conference",
            self.account
        );
        if part == "evt" {
            return self.event(&publication.payload);
        }
        if part.starts_with("rsp/") {
            self.answered(&publication.payload, oracle);
            return false;
        }
        self.state(topic, &publication.payload);
        false
    }

    fn state(&mut self, topic: &str, payload: &Bytes) {
        if payload.is_empty() {
            // An empty one has no revision: who missed what came after reads again.
            self.states.remove(topic);
            return;
        }
        let newer = |shown: &Bytes| revision(payload) > revision(shown);
        if self.states.get(topic).is_none_or(newer) {
            self.states.insert(topic.to_owned(), payload.clone());
        }
        self.learn(payload);
    }

    fn learn(&mut self, payload: &Bytes) {
        let state: Value = serde_json::from_slice(payload).expect("a document");
        let data = &state["data"];
        if let (Some(fid), Some(queue)) = (data["fid"].as_str(), data["queue"].as_array()) {
            let waiting = queue
                .iter()
                .chain(data["holders"].as_array().into_iter().flatten());
            for request in waiting {
                let id = request["request_id"].as_str().expect("an id").to_owned();
                self.seen.push((fid.to_owned(), id));
            }
            self.seen.truncate(8);
        }
    }

    /// True if there is a gap before it.
    fn event(&mut self, payload: &Bytes) -> bool {
        let event: Value = serde_json::from_slice(payload).expect("a document");
        let epoch = event["epoch"].as_u64().expect("an epoch");
        let seq = event["seq"].as_u64().expect("a number");
        let expected = self.log.map(|(epoch, seq)| (epoch, seq + 1));
        if self.log.is_some_and(|last| (epoch, seq) <= last) {
            return false;
        }
        self.log = Some((epoch, seq));
        expected != Some((epoch, seq))
    }

    fn answered(&mut self, payload: &Bytes, oracle: &mut Oracle) {
        let answer: Value = serde_json::from_slice(payload).expect("a document");
        let cause = answer["cause"].as_str().expect("a cause");
        if matches!(
            answer["code"].as_str(),
            Some("home_unreachable" | "not_shared")
        ) {
            // It tries again.
            oracle.unreachable += 1;
            return;
        }
        oracle.answered(cause, payload);
        if self.waiting.as_ref().is_none_or(|(id, _)| id != cause) {
            return;
        }
        self.waiting = None;
        if let (Some(fid), Some(id)) = (
            answer["data"]["fid"].as_str(),
            answer["data"]["request_id"].as_str(),
        ) {
            self.request.insert(fid.to_owned(), id.to_owned());
        }
    }

    /// What is retained, all of it.
    pub(super) fn reread(&mut self, retained: &BTreeMap<String, Bytes>, _: &mut Oracle) {
        self.states.retain(|topic, _| retained.contains_key(topic));
        for (topic, payload) in retained {
            assert!(topic.contains(&self.cid), "{topic} is another conference's");
            self.state(topic, payload);
        }
    }
}
