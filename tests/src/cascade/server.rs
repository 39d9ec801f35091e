//! One server: the cascade as shipped, a plane that decides for its conferences, and clients.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use control::cascade::link::Link;
use control::cascade::{Cascade, Change, Document, Id, Mark, Out, Reason, Up, wire};

/// A conference at its home: what is decided, kept over restarts.
#[derive(Clone, Debug, Default)]
pub(super) struct Decided {
    pub(super) mark: Mark,
    pub(super) parts: BTreeMap<String, Mark>,
    /// Envelopes that were carried out.
    pub(super) done: BTreeSet<u64>,
    pub(super) members: BTreeSet<String>,
    version: u64,
}

/// What clients at a server see of a conference.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    pub(super) parts: BTreeMap<String, Mark>,
    seq: u64,
}

pub(super) struct Server {
    pub(super) sid: String,
    pub(super) cascade: Cascade,
    pub(super) links: BTreeMap<String, Neighbour>,
    /// By conference; outlives the process.
    pub(super) decided: BTreeMap<String, Decided>,
    pub(super) shown: BTreeMap<String, Shown>,
    /// Commands sent up: envelope and conference.
    waiting: BTreeMap<Id, (u64, String)>,
    /// Envelopes that clients will send again.
    pub(super) again: BTreeMap<u64, (Instant, String)>,
    pub(super) answered: BTreeSet<u64>,
    pub(super) told: u64,
    pub(super) unreachable: u64,
    /// Of those that restarts have taken.
    pub(super) dropped: BTreeMap<Reason, u64>,
}

pub(super) struct Neighbour {
    pub(super) link: Link,
    pub(super) up: bool,
    /// Nothing was acknowledged since then.
    pub(super) quiet_since: Instant,
}

/// A client that was told to try again does so after this.
const AGAIN: Duration = Duration::from_secs(1);

impl Server {
    pub(super) fn new(sid: &str, neighbours: &[&str], boot: u64, now: Instant) -> Self {
        let mut server = Self {
            sid: sid.to_owned(),
            cascade: Cascade::new(sid, boot),
            links: BTreeMap::new(),
            decided: BTreeMap::new(),
            shown: BTreeMap::new(),
            waiting: BTreeMap::new(),
            again: BTreeMap::new(),
            answered: BTreeSet::new(),
            told: 0,
            unreachable: 0,
            dropped: BTreeMap::new(),
        };
        server.begin(neighbours, boot, now);
        server
    }

    fn begin(&mut self, neighbours: &[&str], boot: u64, now: Instant) {
        self.cascade = Cascade::new(&self.sid, boot);
        self.cascade.neighbours(neighbours.iter().copied());
        let neighbour = |sid: &&str| {
            let link = Link::new(boot);
            let up = false;
            let quiet_since = now;
            (
                (*sid).to_owned(),
                Neighbour {
                    link,
                    up,
                    quiet_since,
                },
            )
        };
        self.links = neighbours.iter().map(neighbour).collect();
    }

    /// The process ends and another begins: what was in memory is gone.
    pub(super) fn restart(&mut self, neighbours: &[&str], boot: u64, now: Instant) {
        for (reason, count) in self.cascade.dropped() {
            *self.dropped.entry(*reason).or_default() += count;
        }
        self.begin(neighbours, boot, now);
        self.shown.clear();
        // Their clients notice, and ask again.
        for (envelope, cid) in std::mem::take(&mut self.waiting).into_values() {
            self.again.insert(envelope, (now + AGAIN, cid));
        }
        let mut out = Vec::new();
        for (cid, decided) in &self.decided {
            let documents = decided.parts.iter().map(|(part, mark)| Document {
                part: part.clone(),
                payload: payload(cid, *mark),
            });
            let change = Change {
                mark: decided.mark,
                documents: documents.collect(),
            };
            self.cascade.restore(cid, change);
            share(&mut self.cascade, cid, decided, &mut out);
        }
        self.put(out, now);
    }

    /// A conference of ours is shared with these from now on.
    pub(super) fn share(&mut self, cid: &str, members: BTreeSet<String>, now: Instant) {
        let decided = self.decided.entry(cid.to_owned()).or_default();
        decided.members = members;
        decided.version += 1;
        let mut out = Vec::new();
        share(&mut self.cascade, cid, decided, &mut out);
        self.put(out, now);
    }

    /// A client at this server wants something of a conference.
    pub(super) fn want(&mut self, cid: &str, envelope: u64, now: Instant) {
        if Cascade::home(cid) == Some(self.sid.as_str()) {
            let mut out = Vec::new();
            self.carry_out(cid, envelope, &mut out);
            self.answer(envelope);
            self.put(out, now);
            return;
        }
        let mut out = Vec::new();
        let document = Bytes::from(format!(r#"{{"cid":"{cid}","id":{envelope}}}"#));
        match self.cascade.command(cid, document, now, &mut out) {
            Ok(id) => {
                self.waiting.insert(id, (envelope, cid.to_owned()));
            }
            Err(_) => self.try_again(envelope, cid, now),
        }
        self.put(out, now);
    }

    fn try_again(&mut self, envelope: u64, cid: &str, now: Instant) {
        self.told += 1;
        self.unreachable += 1;
        self.again.insert(envelope, (now + AGAIN, cid.to_owned()));
    }

    fn answer(&mut self, envelope: u64) {
        self.told += 1;
        self.answered.insert(envelope);
        self.again.remove(&envelope);
    }

    /// Idempotent by the envelope, as the plane is.
    fn carry_out(&mut self, cid: &str, envelope: u64, out: &mut Vec<Out>) {
        let decided = self.decided.entry(cid.to_owned()).or_default();
        if !decided.done.insert(envelope) {
            return;
        }
        let Mark { epoch, rev, seq } = decided.mark;
        let mark = Mark {
            epoch,
            rev: rev + 1,
            seq: seq + 1,
        };
        decided.mark = mark;
        let part = format!("roster/p{}", envelope % 5);
        let gone = envelope.is_multiple_of(7);
        if gone {
            decided.parts.remove(&part);
        } else {
            decided.parts.insert(part.clone(), mark);
        }
        let state = if gone {
            Bytes::new()
        } else {
            payload(cid, mark)
        };
        let documents = vec![
            Document {
                part,
                payload: state,
            },
            Document {
                part: "evt".to_owned(),
                payload: payload(cid, mark),
            },
        ];
        self.cascade.change(cid, Change { mark, documents }, out);
    }

    pub(super) fn link(&mut self, to: &str, up: bool, now: Instant) -> Result<u64, String> {
        if let Some(neighbour) = self.links.get_mut(to) {
            neighbour.up = up;
            neighbour.link.rewind();
            neighbour.quiet_since = now;
        }
        let mut out = Vec::new();
        let told = self.cascade.link(to, up, now, &mut out);
        self.heard(told, out, now)
    }

    pub(super) fn expire(&mut self, now: Instant) -> Result<u64, String> {
        let mut out = Vec::new();
        let told = self.cascade.expire(now, &mut out);
        let reminded: Vec<String> = self
            .links
            .iter_mut()
            .filter_map(|(sid, n)| n.link.recovered().then(|| sid.clone()))
            .collect();
        for sid in reminded {
            self.cascade.remind(&sid, &mut out);
        }
        self.heard(told, out, now)
    }

    /// A frame of a neighbour; returned is how many documents it made visible.
    pub(super) fn frame(&mut self, from: &str, text: &[u8], now: Instant) -> Result<u64, String> {
        let frame = wire::decode(text).map_err(|wrong| format!("{wrong:?}"))?;
        let mut out = Vec::new();
        let told = self.cascade.receive(from, frame, now, &mut out);
        self.heard(told, out, now)
    }

    fn heard(&mut self, told: Vec<Up>, mut out: Vec<Out>, now: Instant) -> Result<u64, String> {
        let mut shown = 0;
        for up in told {
            match up {
                Up::Changed { cid, documents } => {
                    for document in documents {
                        self.show(&cid, &document)?;
                        shown += 1;
                    }
                }
                Up::Command {
                    cid,
                    origin,
                    document,
                } => {
                    let envelope = envelope(&cid, &document)?;
                    self.carry_out(&cid, envelope, &mut out);
                    self.cascade.answer(&cid, &origin, document, &mut out);
                }
                Up::Answered { re, cid, document } => {
                    let (asked, of) = self.waiting.remove(&re).ok_or("an answer to nothing")?;
                    if (envelope(&cid, &document)?, &cid) != (asked, &of) {
                        return Err(format!("another's answer: {asked} of {of}"));
                    }
                    self.answer(asked);
                }
                Up::Unreachable { re, .. } => {
                    let (asked, cid) = self.waiting.remove(&re).ok_or("no such command")?;
                    self.try_again(asked, &cid, now);
                }
                Up::Ended { cid, .. } => {
                    self.shown.remove(&cid);
                }
                Up::Home { .. } | Up::Member { .. } | Up::Attended { .. } | Up::Caught { .. } => {}
            }
        }
        self.put(out, now);
        Ok(shown)
    }

    fn show(&mut self, cid: &str, document: &Document) -> Result<(), String> {
        let shown = self.shown.entry(cid.to_owned()).or_default();
        if document.payload.is_empty() {
            shown.parts.remove(&document.part);
            return Ok(());
        }
        let (of, mark) = read(&document.payload)?;
        if of != cid {
            return Err(format!("{of} is shown in {cid} at {}", self.sid));
        }
        if document.part == "evt" {
            if mark.seq <= shown.seq {
                return Err(format!("{cid} at {}: event {} again", self.sid, mark.seq));
            }
            shown.seq = mark.seq;
            return Ok(());
        }
        let before = shown.parts.insert(document.part.clone(), mark);
        if before.is_some_and(|before| before > mark) {
            return Err(format!(
                "{cid} at {}: {} goes back",
                self.sid, document.part
            ));
        }
        // A snapshot says how far the log is, too.
        shown.seq = shown.seq.max(mark.seq.saturating_sub(1));
        Ok(())
    }

    fn put(&mut self, out: Vec<Out>, now: Instant) {
        for Out { to, frame } in out {
            let command = matches!(frame.body, control::cascade::Body::Command { .. });
            let expires = command.then(|| now + control::cascade::ANSWER_WITHIN);
            let text = wire::encode(&frame).expect("what is decided here is JSON");
            if let Some(neighbour) = self.links.get_mut(&to) {
                let had = neighbour.link.queued();
                if neighbour.link.push(text, expires).is_err() {
                    self.cascade.drop_for(Reason::Full);
                } else if had == 0 {
                    neighbour.quiet_since = now;
                }
            }
        }
    }
}

fn share(cascade: &mut Cascade, cid: &str, decided: &Decided, out: &mut Vec<Out>) {
    let members: Vec<&str> = decided.members.iter().map(String::as_str).collect();
    let version = Mark {
        rev: decided.version,
        ..Mark::default()
    };
    cascade.share(cid, &members, version, out);
}

fn payload(cid: &str, mark: Mark) -> Bytes {
    let Mark { epoch, rev, seq } = mark;
    Bytes::from(format!(
        r#"{{"cid":"{cid}","epoch":{epoch},"rev":{rev},"seq":{seq}}}"#
    ))
}

fn read(payload: &[u8]) -> Result<(String, Mark), String> {
    let value: serde_json::Value = serde_json::from_slice(payload).map_err(|e| e.to_string())?;
    let number = |name: &str| value.get(name).and_then(|v| v.as_u64()).unwrap_or_default();
    let mark = Mark {
        epoch: number("epoch"),
        rev: number("rev"),
        seq: number("seq"),
    };
    let cid = value.get("cid").and_then(|cid| cid.as_str());
    Ok((cid.unwrap_or_default().to_owned(), mark))
}

fn envelope(cid: &str, document: &[u8]) -> Result<u64, String> {
    let value: serde_json::Value = serde_json::from_slice(document).map_err(|e| e.to_string())?;
    if value.get("cid").and_then(|of| of.as_str()) != Some(cid) {
        return Err(format!("{value} in {cid}"));
    }
    let id = value.get("id").and_then(serde_json::Value::as_u64);
    id.ok_or_else(|| "no id".to_owned())
}
