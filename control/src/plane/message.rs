//! Messages of clients. Each command has one answer; what cannot be placed is counted, shown, and
//! said to whoever sent it.

use bytes::Bytes;

use crate::bus::moment::Now;
use crate::bus::topic::{Part, Topic};
use crate::bus::{Client, Principal, Publication, Qos};
use crate::conference::From;
use crate::conference::envelope::{Answer, Command, Malformed, Status};
use crate::conference::roster::Role;
use crate::engine::event::Kind;
use crate::engine::glob;

use super::access::pid;
use super::member::Whose;
use super::{Effect, Effects, Plane};

/// An answer is worth nothing to who was away for longer.
const ANSWER_FOR: std::time::Duration = std::time::Duration::from_secs(30);

/// Why a message belongs to nothing we know.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unplaced {
    /// Its topic is none that is written to us.
    NotACommand,
    /// It is written in another's name.
    NotYours,
    /// Its conference is that of a server we do not know.
    ForeignServer,
    /// Its home shares it with no server that leads here.
    NotShared,
    /// Its conference is over, or never was.
    NoSuchConference,
    Malformed(&'static str),
}

impl Unplaced {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::NotACommand => "not_a_command",
            Self::NotYours => "not_yours",
            Self::ForeignServer => "foreign_server",
            Self::NotShared => "not_shared",
            Self::NoSuchConference => "no_such_conference",
            Self::Malformed(code) => code,
        }
    }

    /// What to do about it.
    fn help(self) -> &'static str {
        match self {
            Self::NotACommand => "commands are published to c/{cid}/cmd/{pid}; all else is ours",
            Self::NotYours => "publish under the participant id of the account you logged in with",
            Self::ForeignServer => {
                "the part of the conference id before the last ~ is its home \
                server; we have no link to that one"
            }
            Self::NotShared => {
                "its home, the part of its id before the last ~, does not share it with this \
                server: `towpath conf share CID SERVER` there does"
            }
            Self::NoSuchConference => {
                "read c/+/roster/{pid} for the conferences you are in; they \
                end when nobody has been in them for a minute"
            }
            Self::Malformed(_) => "see the envelope in docs/conference.md",
        }
    }
}

impl Plane {
    pub(super) fn published(
        &mut self,
        ticket: u64,
        by: &Client,
        publication: &Publication,
        now: Now,
        effects: &mut Effects,
    ) {
        let topic = publication.topic.as_str();
        let named = match Topic::parse(topic) {
            Some(Topic::Conference {
                cid,
                part: Part::Command { pid },
            }) => Ok((cid, pid)),
            _ => Err(Unplaced::NotACommand),
        };
        let operator = matches!(by.principal, Principal::Operator(_));
        let own = |named: &(&str, &str)| operator || pid(by).is_some_and(|own| own == named.1);
        let named = named.and_then(|named| own(&named).then_some(named).ok_or(Unplaced::NotYours));
        let (cid, pid) = match named {
            Ok(named) => named,
            Err(why) => {
                self.unplaced(why, topic, &by.id, now);
                effects.push(Effect::Acknowledge {
                    ticket,
                    refused: Some(why.word()),
                });
                return;
            }
        };
        let name = name_of(&by.principal).unwrap_or(pid);
        let from = From {
            pid,
            name,
            role: self.role(name),
            connected: !operator,
        };
        if self.is_elsewhere(cid) {
            let whose = Whose::Client { ticket };
            let command = publication.payload.as_ref();
            return self.forward(cid, from, command, (whose, &by.id), now, effects);
        }
        let answer = self.command(cid, from, &publication.payload, &by.id, now, effects);
        effects.push(Effect::Publish(response(cid, pid, answer)));
        effects.push(Effect::Acknowledge {
            ticket,
            refused: None,
        });
    }

    /// The broker let them publish under this topic, so they are who it says.
    pub(super) fn beyond(
        &mut self,
        ticket: u64,
        publication: &Publication,
        now: Now,
        effects: &mut Effects,
    ) {
        let topic = publication.topic.as_str();
        if let Some(Topic::Conference {
            cid,
            part: Part::Command { pid },
        }) = Topic::parse(topic)
        {
            let from = From {
                pid,
                name: pid,
                role: self.role(pid),
                connected: true,
            };
            if self.is_elsewhere(cid) {
                let whose = Whose::Client { ticket };
                let command = publication.payload.as_ref();
                return self.forward(cid, from, command, (whose, "broker"), now, effects);
            }
            let answer = self.command(cid, from, &publication.payload, "broker", now, effects);
            effects.push(Effect::Publish(response(cid, pid, answer)));
        } else {
            self.unplaced(Unplaced::NotACommand, topic, "broker", now);
        }
        effects.push(Effect::Acknowledge {
            ticket,
            refused: None,
        });
    }

    /// Carries out a command, or says why not: one answer, in any case.
    pub(super) fn command(
        &mut self,
        cid: &str,
        from: From<'_>,
        bytes: &[u8],
        client: &str,
        now: Now,
        effects: &mut Effects,
    ) -> Bytes {
        match Command::read(bytes) {
            Ok(command) => self.carry(cid, from, &command, client, now, effects),
            Err(Malformed { id, code }) => self.malformed(cid, from.pid, (id, code), client, now),
        }
    }

    /// What is no command has an answer too.
    pub(super) fn malformed(
        &mut self,
        cid: &str,
        pid: &str,
        (id, code): (Option<String>, &'static str),
        client: &str,
        now: Now,
    ) -> Bytes {
        let subject = format!("{cid}/{pid}");
        self.unplaced(Unplaced::Malformed(code), &subject, client, now);
        let answer = Answer::refused(Status::Error, code);
        answer.document(&self.sid, id.as_deref(), None, now)
    }

    /// Carries out a command of a conference of ours.
    pub(super) fn carry(
        &mut self,
        cid: &str,
        from: From<'_>,
        command: &Command,
        client: &str,
        now: Now,
        effects: &mut Effects,
    ) -> Bytes {
        let subject = format!("{cid}/{}", from.pid);
        let carried = self.with(cid, now, effects, |conference, steps| {
            conference.command(from, command, now, steps)
        });
        if let Some(answer) = carried {
            return answer;
        }
        let home = cid.rsplit_once('~').map_or("", |(home, _)| home);
        let why = if home == self.sid {
            Unplaced::NoSuchConference
        } else {
            Unplaced::ForeignServer
        };
        self.unplaced(why, &subject, client, now);
        let answer = Answer::refused(Status::Error, why.word());
        answer.document(&self.sid, command.id.as_deref(), None, now)
    }

    pub(super) fn connected(&mut self, client: &Client, now: Now, effects: &mut Effects) {
        let Some(pid) = pid(client) else { return };
        let clients = self.clients.entry(pid.clone()).or_default();
        clients.insert(client.id.clone());
        for cid in self.memberships_of(&pid) {
            self.with(&cid, now, effects, |conference, steps| {
                conference.connected(&pid, now, steps);
            });
        }
        self.attend_everywhere(&pid, now, effects);
    }

    pub(super) fn disconnected(&mut self, client: &Client, now: Now, effects: &mut Effects) {
        let Some(pid) = pid(client) else { return };
        if let Some(clients) = self.clients.get_mut(&pid) {
            clients.remove(&client.id);
            if !clients.is_empty() {
                return;
            }
            self.clients.remove(&pid);
        }
        for cid in self.memberships_of(&pid) {
            if self.is_connected(&cid, &pid) {
                continue;
            }
            self.with(&cid, now, effects, |conference, steps| {
                conference.disconnected(&pid, now, steps);
            });
        }
        self.attend_everywhere(&pid, now, effects);
    }

    pub(super) fn memberships_of(&self, pid: &str) -> Vec<String> {
        let cids = self.memberships.get(pid);
        cids.map_or_else(Vec::new, |cids| cids.iter().cloned().collect())
    }

    /// What an account may do in conferences.
    pub(super) fn role(&self, account: &str) -> Role {
        let chairs = self.settings.chairs.iter();
        let mut chairs = chairs.map(|pattern| glob(pattern.as_bytes(), account.as_bytes()));
        if chairs.any(|is| is) {
            Role::Chair
        } else {
            Role::Participant
        }
    }

    /// Counted always, shown now and then.
    pub(super) fn unplaced(&mut self, why: Unplaced, subject: &str, client: &str, now: Now) {
        *self.counts.unplaced.entry(why.word()).or_default() += 1;
        let kind = Kind::MessageUnplaced;
        if !self.events.said(now.at, kind, subject) {
            let fields = vec![
                ("client", client.to_owned()),
                ("why", why.word().to_owned()),
                ("help", why.help().to_owned()),
            ];
            self.events.push(now.at, kind, subject.to_owned(), fields);
        }
    }
}

fn name_of(principal: &Principal) -> Option<&str> {
    match principal {
        Principal::Account(name) | Principal::Anonymous(name) => Some(name),
        Principal::Server(_) | Principal::Operator(_) | Principal::Viewer(_) => None,
    }
}

pub(super) fn response(cid: &str, pid: &str, answer: Bytes) -> Publication {
    let part = Part::Response { pid };
    Publication {
        topic: Topic::Conference { cid, part }.to_string(),
        payload: answer,
        qos: Qos::AtLeastOnce,
        retain: false,
        expiry: Some(ANSWER_FOR),
    }
}
