//! Conferences of ours that other servers share: they are told what changes, their clients'
//! commands are carried out here, and each has one answer.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::bus::Publication;
use crate::bus::moment::Now;
use crate::bus::topic::{PREFIX, is_id};
use crate::cascade::{
    ANSWER_WITHIN, Body, Change, Document, Mark, Origin, Out, Reason, Refused, Up, wire,
};
use crate::conference::envelope::{Command, Malformed, TEXT_BYTES_MAX};
use crate::conference::{Conference, From, Place, Steps};

use super::{Effect, Effects, Plane};

/// A command on its way to the home: whose it is, as its server vouches, and the command as it was
/// sent.
#[derive(Deserialize, Serialize)]
pub(super) struct Forwarded {
    pub(super) pid: String,
    pub(super) name: String,
    pub(super) connected: bool,
    /// In place of the id that the command lacks, so that it is carried out once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    pub(super) msg: Box<RawValue>,
}

impl Plane {
    /// Another server sent something.
    pub(super) fn frame(&mut self, from: &str, frame: &[u8], now: Now, effects: &mut Effects) {
        let Ok(frame) = wire::decode(frame) else {
            self.cascade.drop_for(Reason::Malformed);
            return;
        };
        let mut out = Vec::new();
        let heard = self.cascade.receive(from, frame, now.at, &mut out);
        self.heard(heard, out, now, effects);
    }

    /// A link came up, also one that was up and may have lost something; or it went down.
    pub(super) fn link(&mut self, to: &str, up: bool, now: Now, effects: &mut Effects) {
        let mut out = Vec::new();
        let heard = self.cascade.link(to, up, now.at, &mut out);
        self.heard(heard, out, now, effects);
    }

    pub(super) fn cascade_expire(&mut self, now: Now, effects: &mut Effects) {
        let mut out = Vec::new();
        let heard = self.cascade.expire(now.at, &mut out);
        self.heard(heard, out, now, effects);
    }

    fn heard(&mut self, heard: Vec<Up>, out: Vec<Out>, now: Now, effects: &mut Effects) {
        self.send(out, now, effects);
        for up in heard {
            match up {
                Up::Changed { cid, documents } => self.show(&cid, documents, now, effects),
                Up::Command {
                    cid,
                    origin,
                    document,
                } => self.forwarded(&cid, &origin, &document, now, effects),
                Up::Answered { re, document, .. } => self.settle(re, Some(document), now, effects),
                Up::Unreachable { re, .. } => self.settle(re, None, now, effects),
                Up::Member { cid, sid, there } => {
                    if !there {
                        self.member_away(&cid, &sid, now, effects);
                    }
                }
                Up::Ended { cid, parts } => self.unshared(&cid, parts, now, effects),
                Up::Attended { cid, sid, document } => {
                    self.attended(&cid, &sid, &document, now, effects);
                }
                Up::Caught { cid } => self.attend_all(&cid, now, effects),
                // What only the home may do is asked of it, and it is not there.
                Up::Home { .. } => {}
            }
        }
    }

    /// Puts frames on their links.
    pub(super) fn send(&mut self, out: Vec<Out>, now: Now, effects: &mut Effects) {
        for Out { to, frame } in out {
            let command = matches!(frame.body, Body::Command { .. });
            let expires = command.then(|| now.at.checked_add(ANSWER_WITHIN)).flatten();
            match wire::encode(&frame) {
                Ok(frame) => effects.push(Effect::Frame { to, frame, expires }),
                Err(_) => self.cascade.drop_for(Reason::Malformed),
            }
        }
    }

    /// A command of a client at a member.
    fn forwarded(
        &mut self,
        cid: &str,
        origin: &Origin,
        document: &[u8],
        now: Now,
        effects: &mut Effects,
    ) {
        let fits = |f: &Forwarded| is_id(&f.pid) && f.name.len() <= TEXT_BYTES_MAX;
        let forwarded = serde_json::from_slice::<Forwarded>(document);
        let Some(forwarded) = forwarded.ok().filter(fits) else {
            self.cascade.drop_for(Reason::Malformed);
            return;
        };
        let from = From {
            pid: &forwarded.pid,
            name: &forwarded.name,
            role: self.role(&forwarded.name),
            connected: forwarded.connected,
        };
        let command = Command::read(forwarded.msg.get().as_bytes());
        let answer = match command {
            Ok(mut command) => {
                if command.id.is_none() {
                    command.id = forwarded.key;
                }
                self.carry(cid, from, &command, &origin.sid, now, effects)
            }
            Err(Malformed { id, code }) => {
                self.malformed(cid, &forwarded.pid, (id, code), &origin.sid, now)
            }
        };
        let mut out = Vec::new();
        self.cascade.answer(cid, origin, answer, &mut out);
        self.send(out, now, effects);
    }

    /// A conference of ours is shared with a server, or not any more, by an operator's word.
    ///
    /// # Errors
    /// Nothing was done.
    pub(super) fn share(
        &mut self,
        cid: &str,
        sid: &str,
        on: bool,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), super::Refused> {
        let Some(conference) = self.conferences.get_mut(cid) else {
            return Err(if self.foreign.contains_key(cid) {
                super::Refused::NotHome
            } else {
                super::Refused::NoSuchConference
            });
        };
        if !is_id(sid) || sid == self.sid {
            return Err(super::Refused::NotAServer);
        }
        let mut steps = Steps::default();
        if !conference.share(sid, on, &self.settings.share, &mut steps) {
            return Err(super::Refused::TooManyMembers);
        }
        self.members_changed(cid, steps, now, effects);
        Ok(())
    }

    /// What the configuration says of all.
    pub(super) fn share_as_told(&mut self, cid: &str, now: Now, effects: &mut Effects) {
        let Some(conference) = self.conferences.get_mut(cid) else {
            return;
        };
        let mut steps = Steps::default();
        if conference.share_as_told(&self.settings.share, &mut steps) {
            self.members_changed(cid, steps, now, effects);
        }
    }

    /// Members are others now: it is kept, then told.
    fn members_changed(&mut self, cid: &str, steps: Steps, now: Now, effects: &mut Effects) {
        let known: Vec<String> = self.cascade.members(cid).map(str::to_owned).collect();
        self.perform(cid, steps, now, effects);
        self.announce(cid, now, effects);
        for sid in known {
            let conference = self.conferences.get(cid);
            if conference.is_none_or(|c| !c.sharing().members().contains(&sid)) {
                self.member_gone(cid, &sid, now, effects);
            }
        }
    }

    /// Tells the servers that share a conference that they do, and those that do no more.
    pub(super) fn announce(&mut self, cid: &str, now: Now, effects: &mut Effects) {
        let Some(conference) = self.conferences.get(cid) else {
            return;
        };
        let (sharing, sid) = (conference.sharing(), &self.sid);
        let members: Vec<&str> = sharing.members().iter().map(String::as_str).collect();
        let members: Vec<&str> = members.into_iter().filter(|m| m != sid).collect();
        if members.is_empty() && !self.cascade.is_shared(cid) {
            return;
        }
        if !self.cascade.is_shared(cid) {
            let state = state(conference, now);
            self.cascade.restore(cid, state);
        }
        let version = version(conference);
        let mut out = Vec::new();
        self.cascade.share(cid, &members, version, &mut out);
        self.send(out, now, effects);
    }

    /// What has changed goes to the servers that share it.
    pub(super) fn pass_on(
        &mut self,
        cid: &str,
        published: &[Publication],
        events: &[Place],
        now: Now,
        effects: &mut Effects,
    ) {
        if !self.cascade.is_shared(cid) {
            return;
        }
        let mut out = Vec::new();
        let mut from = 0;
        for place in events {
            let mark = mark(place);
            let documents = documents(published.get(from..place.published).unwrap_or_default());
            from = place.published;
            let change = Change { mark, documents };
            self.cascade.change(cid, change, &mut out);
        }
        // What no event tells of.
        let rest = documents(published.get(from..).unwrap_or_default());
        let known = self.cascade.documents(cid).map(|known| known.mark);
        if let (false, Some(last)) = (rest.is_empty(), known) {
            let rev = self.conferences.get(cid).map(|c| c.revision());
            let mark = Mark {
                rev: rev.map_or(last.rev, |revision| revision.rev),
                ..last
            };
            let documents = rest;
            self.cascade
                .change(cid, Change { mark, documents }, &mut out);
        }
        self.send(out, now, effects);
    }

    /// A conference of ours is over.
    pub(super) fn share_no_more(
        &mut self,
        conference: &Conference,
        now: Now,
        effects: &mut Effects,
    ) {
        let mut out = Vec::new();
        let version = Mark {
            rev: conference.sharing().version() + 1,
            ..Mark::default()
        };
        self.cascade.end(conference.cid(), version, &mut out);
        self.send(out, now, effects);
        self.attendance.remove(conference.cid());
    }

    /// Why a command does not go up to its home.
    pub(super) fn not_sent(&self, refused: Refused) -> Option<&'static str> {
        match refused {
            Refused::HomeUnreachable => Some(UNREACHABLE),
            Refused::Busy => Some("busy"),
            // Whoever shares it may not have said so yet.
            Refused::NotMember if self.settings.linked && !self.cascade.is_whole() => {
                Some(UNREACHABLE)
            }
            Refused::NotMember => None,
        }
    }
}

/// The code of answers that the home did not give.
pub(super) const UNREACHABLE: &str = "home_unreachable";

fn version(conference: &Conference) -> Mark {
    Mark {
        rev: conference.sharing().version(),
        ..Mark::default()
    }
}

fn mark(place: &Place) -> Mark {
    Mark {
        epoch: place.revision.epoch,
        rev: place.revision.rev,
        seq: place.seq,
    }
}

/// All of a conference, for servers that know nothing of it.
fn state(conference: &Conference, now: Now) -> Change {
    let revision = conference.revision();
    Change {
        mark: Mark {
            epoch: revision.epoch,
            rev: revision.rev,
            seq: conference.seq(),
        },
        documents: documents(&conference.retained(now)),
    }
}

fn documents(published: &[Publication]) -> Vec<Document> {
    let part = |topic: &str| {
        let below = topic.strip_prefix(PREFIX)?.strip_prefix("/c/")?;
        below.split_once('/').map(|(_, part)| part.to_owned())
    };
    let one = |publication: &Publication| {
        Some(Document {
            part: part(&publication.topic)?,
            payload: publication.payload.clone(),
        })
    };
    published.iter().filter_map(one).collect()
}
