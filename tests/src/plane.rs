//! The conference plane in virtual time: a node, its store and its clients, and a network between
//! them that loses, repeats, reorders and parts. What must always hold is checked at every step.

#![allow(
    clippy::indexing_slicing,
    reason = "a member that a document lacks is null"
)]
#![allow(clippy::panic, reason = "an oracle that is contradicted ends the test")]

pub mod client;
pub mod oracle;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use control::bus::moment::Now;
use control::bus::{Access, Client as Peer, Principal, Publication};
use control::conference::floor::{Mode, Policy};
use control::effect::{Kept, Record};
use control::engine::event::{Event, Kind};
use control::plane::access::Rules;
use control::plane::{Effect, Effects, Input, Order, Outcome, Plane, Settings};

use crate::sim::rng::Rng;
use client::Client;

/// What is kept under a key, or not any more.
type Write = (Bytes, Option<Record>);
use oracle::Oracle;

/// How the network treats messages.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    pub delay: Duration,
    pub jitter: Duration,
    /// In a thousand.
    pub loss: u64,
    pub duplicates: u64,
}

/// What lies ahead.
#[derive(Clone, Debug)]
enum Ahead {
    /// At the node: a command of a client.
    Command {
        client: usize,
        publication: Publication,
    },
    /// At a client: something it subscribed to.
    Delivery {
        client: usize,
        publication: Publication,
    },
    /// The disk has it.
    Committed { life: u64 },
    /// A client does something.
    Turn { client: usize },
}

/// A node with its store and clients.
pub struct World {
    pub chance: Rng,
    pub link: Link,
    began: Instant,
    now: Duration,
    ahead: BTreeMap<(Duration, u64), Ahead>,
    last: u64,
    settings: Settings,
    plane: Plane,
    /// Which run of the node this is.
    life: u64,
    rules: Rules,
    /// What is on disk.
    disk: BTreeMap<Bytes, Record>,
    /// Writes on their way to it, and what waits for each.
    writes: VecDeque<(Vec<Write>, Effects)>,
    /// What the edge retains.
    retained: BTreeMap<String, Bytes>,
    pub clients: Vec<Client>,
    pub oracle: Oracle,
    tickets: BTreeMap<u64, ()>,
    opened: Vec<String>,
    calls: u64,
}

impl World {
    /// # Panics
    /// Never: the seed is any.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "a base for virtual time")]
    pub fn new(seed: u64, link: Link, floors: Vec<(String, Policy)>) -> Self {
        let settings = Settings {
            uris: vec!["8*".to_owned()],
            chairs: vec!["10?0".to_owned()],
            floors,
        };
        let began = Instant::now();
        let now = Now {
            at: began,
            wall_ms: 1_700_000_000_000,
        };
        Self {
            chance: Rng::new(seed),
            link,
            began,
            now: Duration::ZERO,
            ahead: BTreeMap::new(),
            last: 0,
            plane: Plane::new("edge-01", settings.clone(), seed, now),
            settings,
            life: 1,
            rules: Rules::default(),
            disk: BTreeMap::new(),
            writes: VecDeque::new(),
            retained: BTreeMap::new(),
            clients: Vec::new(),
            oracle: Oracle::default(),
            tickets: BTreeMap::new(),
            opened: Vec::new(),
            calls: 0,
        }
    }

    /// The floors of a test: one that anybody takes, one with a chair and two holders.
    #[must_use]
    pub fn floors(preempt: bool) -> Vec<(String, Policy)> {
        let audio = Policy {
            queue_max: 3,
            request_ttl: Duration::from_secs(20),
            priority_max: 4,
            preempt,
            ..Policy::default()
        };
        let slides = Policy {
            mode: Mode::Chair,
            holders_max: 2,
            grant_ttl: Some(Duration::from_secs(15)),
            request_ttl: Duration::from_secs(20),
            ..Policy::default()
        };
        vec![("audio".to_owned(), audio), ("slides".to_owned(), slides)]
    }

    #[must_use]
    pub fn at(&self) -> Instant {
        self.began + self.now
    }

    /// Makes the conference of a URI, that stays.
    ///
    /// # Panics
    /// If it is refused.
    pub fn open(&mut self, uri: &str) -> String {
        let order = Order::Open {
            uri: uri.to_owned(),
        };
        self.give(Input::Asked { ticket: 1, order });
        self.settle();
        self.opened.last().expect("a conference is made").clone()
    }

    /// A client of an account, whose conference is this one.
    pub fn client(&mut self, account: &str, cid: &str) -> usize {
        let index = self.clients.len();
        self.clients.push(Client::new(account, cid));
        self.connect(index);
        index
    }

    /// A call of a client to its conference, answered at once. Returned is its number.
    pub fn call(&mut self, client: usize, uri: &str) -> u64 {
        self.calls += 1;
        let number = self.calls;
        let from = self.clients[client].account.clone();
        let fields = vec![("from", from), ("to", uri.to_owned())];
        self.note(Kind::CallStarted, number, fields);
        self.note(Kind::CallAnswered, number, Vec::new());
        number
    }

    pub fn hang_up(&mut self, call: u64, why: &str) {
        self.note(Kind::CallEnded, call, vec![("why", why.to_owned())]);
    }

    fn note(&mut self, kind: Kind, call: u64, fields: Vec<(&'static str, String)>) {
        let event = Event {
            seq: 0,
            at: self.at(),
            kind,
            subject: call.to_string(),
            fields,
        };
        self.give(Input::Noted(event));
    }

    /// A client's connection is there: what is retained comes to it.
    pub fn connect(&mut self, client: usize) {
        if std::mem::replace(&mut self.clients[client].connected, true) {
            return;
        }
        let peer = self.peer(client);
        self.give(Input::Connected(peer));
        self.reread(client);
    }

    /// It is gone, with all that was on its way.
    pub fn disconnect(&mut self, client: usize) {
        if !std::mem::replace(&mut self.clients[client].connected, false) {
            return;
        }
        self.ahead.retain(|_, ahead| match ahead {
            Ahead::Command { client: of, .. } | Ahead::Delivery { client: of, .. } => *of != client,
            Ahead::Committed { .. } | Ahead::Turn { .. } => true,
        });
        let peer = self.peer(client);
        self.give(Input::Disconnected(peer));
    }

    /// The node ends without warning and starts again: what is not on disk is gone.
    pub fn restart(&mut self) {
        self.life += 1;
        self.oracle.restarts += 1;
        self.writes.clear();
        self.retained.clear();
        self.rules = Rules::default();
        for client in &mut self.clients {
            client.connected = false;
        }
        self.ahead
            .retain(|_, ahead| matches!(ahead, Ahead::Turn { .. }));
        let now = Now {
            at: self.at(),
            wall_ms: 1_700_000_000_000,
        };
        let seed = self.chance.number();
        self.plane = Plane::new("edge-01", self.settings.clone(), seed, now);
        let kept = self.disk.iter().map(|(key, record)| Kept {
            table: control::effect::Table::Conferences,
            key: key.clone(),
            record: record.clone(),
        });
        let kept = kept.collect();
        self.give(Input::Restored(kept));
        self.oracle.after_restart(&self.plane);
    }

    fn peer(&self, client: usize) -> Peer {
        let at = ([127, 0, 0, 1], 1883).into();
        Peer {
            principal: Principal::Account(self.clients[client].account.clone()),
            id: format!("client-{client}"),
            local: at,
            remote: at,
        }
    }

    /// What happens until then.
    pub fn run(&mut self, span: Duration) {
        let until = self.now + span;
        loop {
            let event = self.ahead.first_key_value().map(|((at, _), _)| *at);
            let tick = self
                .plane
                .next()
                .map(|at| at.saturating_duration_since(self.began));
            let next = event
                .into_iter()
                .chain(tick)
                .min()
                .filter(|next| *next <= until);
            let Some(next) = next else { break };
            self.now = self.now.max(next);
            if tick.is_some_and(|tick| tick <= self.now) {
                self.give(Input::Tick);
            } else if let Some((_, ahead)) = self.ahead.pop_first() {
                self.happen(ahead);
            }
        }
        self.now = until;
    }

    /// Until nothing is on its way; time stands still for who waits longer.
    pub fn settle(&mut self) {
        self.run(Duration::from_millis(50) + (self.link.delay + self.link.jitter) * 4);
    }

    fn happen(&mut self, ahead: Ahead) {
        match ahead {
            Ahead::Command {
                client,
                publication,
            } => {
                let by = self.peer(client);
                if self.rules.may_publish(&by, &publication.topic) {
                    let ticket = self.later();
                    self.tickets.insert(ticket, ());
                    self.give(Input::Published {
                        ticket,
                        by,
                        publication,
                    });
                }
            }
            Ahead::Delivery {
                client,
                publication,
            } => {
                let gap = self.clients[client].take(&publication, &mut self.oracle);
                if gap {
                    self.reread(client);
                }
            }
            Ahead::Committed { life } if life == self.life => {
                if let Some((writes, then)) = self.writes.pop_front() {
                    for (key, record) in writes {
                        match record {
                            Some(record) => self.disk.insert(key, record),
                            None => self.disk.remove(&key),
                        };
                    }
                    self.perform(then);
                }
            }
            Ahead::Committed { .. } => {}
            Ahead::Turn { client } => self.turn(client),
        }
    }

    /// A client sends something new, or again what is not answered.
    fn turn(&mut self, client: usize) {
        let connected = self.clients[client].connected;
        let command = self.clients[client].next(&mut self.chance);
        if let Some(publication) = command.filter(|_| connected) {
            self.travel(
                |publication| Ahead::Command {
                    client,
                    publication,
                },
                publication,
            );
        }
        if self.clients[client].busy {
            let pause = self.chance.duration(Duration::from_millis(400));
            self.after(pause + Duration::from_millis(20), Ahead::Turn { client });
        }
    }

    /// From now on it acts, or not any more.
    pub fn act(&mut self, client: usize, busy: bool) {
        let was = std::mem::replace(&mut self.clients[client].busy, busy);
        if busy && !was {
            self.after(Duration::ZERO, Ahead::Turn { client });
        }
    }

    fn give(&mut self, input: Input) {
        let mut effects = Effects::new();
        let at = self.at();
        self.plane.handle(input, at, &mut effects);
        self.oracle.state(&self.plane, &effects);
        let (mut writes, mut then) = (Vec::new(), Effects::new());
        for effect in effects {
            if let Effect::Store { key, record, .. } = effect {
                if !then.is_empty() {
                    self.keep(std::mem::take(&mut writes), std::mem::take(&mut then));
                }
                writes.push((key, record));
            } else {
                then.push(effect);
            }
        }
        self.keep(writes, then);
    }

    fn keep(&mut self, writes: Vec<(Bytes, Option<Record>)>, then: Effects) {
        if writes.is_empty() && self.writes.is_empty() {
            self.perform(then);
            return;
        }
        // One after the other, as the store's writer does.
        self.writes.push_back((writes, then));
        let waits = self.writes.len();
        let pause = self.chance.duration(Duration::from_millis(5));
        let behind = Duration::from_millis(5) * u32::try_from(waits).unwrap_or(1);
        self.after(behind + pause / 8, Ahead::Committed { life: self.life });
    }

    fn perform(&mut self, effects: Effects) {
        for effect in effects {
            match effect {
                Effect::Publish(publication) => self.publish(publication),
                Effect::Acknowledge { ticket, refused } => {
                    assert!(self.tickets.remove(&ticket).is_some(), "acknowledged twice");
                    assert_eq!(refused, None);
                }
                Effect::Admit { cid, pid } => self.rules.admit(&cid, &pid),
                Effect::Dismiss { cid, pid } => self.rules.dismiss(&cid, &pid),
                Effect::Answer { outcome, .. } => {
                    if let Outcome::Opened { cid } = outcome {
                        self.opened.push(cid);
                    }
                }
                Effect::HandOver { .. } | Effect::Frame { .. } | Effect::Store { .. } => {}
            }
        }
    }

    fn publish(&mut self, publication: Publication) {
        self.oracle.published(&publication);
        if publication.retain {
            if publication.payload.is_empty() {
                self.retained.remove(&publication.topic);
            } else {
                let payload = publication.payload.clone();
                self.retained.insert(publication.topic.clone(), payload);
            }
        }
        for client in 0..self.clients.len() {
            let may = self.rules.may_read(&self.peer(client), &publication.topic);
            if may && self.clients[client].connected {
                let ahead = |publication| Ahead::Delivery {
                    client,
                    publication,
                };
                self.travel(ahead, publication.clone());
            }
        }
    }

    /// All that is retained and that it may read, as after a new subscription.
    fn reread(&mut self, client: usize) {
        let peer = self.peer(client);
        let readable = self.retained.iter();
        let readable = readable.filter(|(topic, _)| self.rules.may_read(&peer, topic));
        let readable: BTreeMap<String, Bytes> = readable
            .map(|(topic, payload)| (topic.clone(), payload.clone()))
            .collect();
        self.clients[client].reread(&readable, &mut self.oracle);
    }

    /// Over the network: lost, repeated, late.
    fn travel(&mut self, ahead: impl Fn(Publication) -> Ahead, publication: Publication) {
        let copies = 1 + u64::from(self.chance.permille(self.link.duplicates));
        for _ in 0..copies {
            if !self.chance.permille(self.link.loss) {
                let jitter = self.chance.duration(self.link.jitter);
                self.after(self.link.delay + jitter, ahead(publication.clone()));
            }
        }
    }

    fn after(&mut self, span: Duration, ahead: Ahead) {
        let number = self.later();
        self.ahead.insert((self.now + span, number), ahead);
    }

    fn later(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Everybody is still and connected; who missed something reads again. Then all see the same,
    /// and it is what is.
    ///
    /// # Panics
    /// If not.
    pub fn converge(&mut self) {
        self.link.loss = 0;
        for client in 0..self.clients.len() {
            self.connect(client);
            self.act(client, true);
            self.clients[client].only_repeat = true;
        }
        self.run(Duration::from_secs(5));
        for client in 0..self.clients.len() {
            self.act(client, false);
            self.reread(client);
        }
        // Until nothing more is decided: what is, is yet to be kept, told and read.
        loop {
            let before = self.retained.clone();
            self.run(Duration::from_secs(2));
            if self.writes.is_empty() && self.retained == before {
                break;
            }
            for client in 0..self.clients.len() {
                self.reread(client);
            }
        }
        assert!(
            self.tickets.is_empty() || self.oracle.restarts > 0,
            "not acknowledged"
        );
        for client in 0..self.clients.len() {
            let peer = self.peer(client);
            let client = &self.clients[client];
            assert!(
                client.waiting().is_none(),
                "no answer: {:?}",
                client.waiting()
            );
            let readable = self.retained.iter();
            let readable = readable.filter(|(topic, _)| self.rules.may_read(&peer, topic));
            let readable: BTreeMap<&String, &Bytes> = readable.collect();
            // Who is not a participant any more is told nothing, and keeps what it saw last.
            let states = client.states.iter();
            let states = states.filter(|(topic, _)| self.rules.may_read(&peer, topic));
            let states: BTreeMap<&String, _> = states.collect();
            let seen: BTreeSet<&String> = states.keys().copied().collect();
            let there: BTreeSet<&String> = readable.keys().copied().collect();
            assert_eq!(seen, there, "{}", client.account);
            for (topic, state) in states {
                assert_eq!(
                    oracle::data(state),
                    oracle::data(readable[topic]),
                    "{topic}"
                );
            }
        }
        self.oracle.at_rest(&self.plane);
    }
}
