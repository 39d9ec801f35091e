//! The conference plane in virtual time: servers, their stores and clients, and a network between
//! them that loses, repeats, reorders and parts. What must always hold is checked at every step.

#![allow(
    clippy::indexing_slicing,
    reason = "a member that a document lacks is null"
)]
#![allow(clippy::panic, reason = "an oracle that is contradicted ends the test")]

pub mod client;
pub mod links;
mod node;
pub mod oracle;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use control::bus::{Access, Client as Peer, Principal, Publication};
use control::cascade::Cascade;
use control::conference::floor::{Mode, Policy};
use control::conference::roster::Presence;
use control::effect::Kept;
use control::engine::event::{Event, Kind};
use control::plane::{Effect, Effects, Input, Order, Outcome, Settings};

use crate::sim::rng::Rng;
use client::Client;

use links::{Packet, Wiring};
use node::{Node, Write};
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
    Committed { node: usize, life: u64 },
    /// At a server: something of a neighbour.
    Packet {
        from: usize,
        to: usize,
        packet: Packet,
    },
    /// A server finds that a neighbour is there, or is not.
    Notice { at: usize, of: usize, up: bool },
    /// What is not acknowledged is sent again.
    Resend { at: usize, of: usize, life: u64 },
    /// A client does something.
    Turn { client: usize },
}

/// Servers, what is between them, and their clients.
pub struct World {
    pub chance: Rng,
    pub link: Link,
    wiring: Wiring,
    began: Instant,
    now: Duration,
    ahead: BTreeMap<(Duration, u64), Ahead>,
    last: u64,
    nodes: Vec<Node>,
    /// Paths over which nothing comes, and until when.
    broken: BTreeMap<(usize, usize), Duration>,
    /// That servers have told each other.
    pub frames: u64,
    pub clients: Vec<Client>,
    pub oracle: Oracle,
    opened: Vec<String>,
    calls: u64,
}

impl World {
    /// One server.
    #[must_use]
    pub fn new(seed: u64, link: Link, floors: Vec<(String, Policy)>) -> Self {
        Self::wired(seed, link, floors, Wiring::Alone)
    }

    /// Servers that share all their conferences.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "a base for virtual time")]
    pub fn wired(seed: u64, link: Link, floors: Vec<(String, Policy)>, wiring: Wiring) -> Self {
        let began = Instant::now();
        let names = wiring.nodes();
        let node = |(index, sid): (usize, &&'static str)| {
            let neighbours = wiring.neighbours(index);
            let settings = Settings {
                uris: vec!["8*".to_owned()],
                chairs: vec!["10?0".to_owned()],
                floors: floors.clone(),
                share: names
                    .iter()
                    .filter(|other| *other != sid)
                    .map(|&other| other.to_owned())
                    .collect(),
                neighbours: neighbours.iter().map(|of| names[*of].to_owned()).collect(),
                linked: !neighbours.is_empty(),
                address_fields: Vec::new(),
            };
            let seed = (seed << 8) + u64::try_from(index).unwrap_or(0) * 16;
            Node::new(sid, settings, seed, began, &neighbours)
        };
        let nodes = names.iter().enumerate().map(node).collect();
        let mut world = Self {
            chance: Rng::new(seed),
            link,
            wiring,
            began,
            now: Duration::ZERO,
            ahead: BTreeMap::new(),
            last: 0,
            nodes,
            broken: BTreeMap::new(),
            frames: 0,
            clients: Vec::new(),
            oracle: Oracle::default(),
            opened: Vec::new(),
            calls: 0,
        };
        world.heal();
        world
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

    /// Makes the conference of a URI at the first server, that stays.
    ///
    /// # Panics
    /// If it is refused.
    pub fn open(&mut self, uri: &str) -> String {
        self.open_at(0, uri)
    }

    /// The same at any server.
    ///
    /// # Panics
    /// If it is refused.
    pub fn open_at(&mut self, node: usize, uri: &str) -> String {
        let order = Order::Open {
            uri: uri.to_owned(),
        };
        self.give(node, Input::Asked { ticket: 1, order });
        self.settle();
        self.opened.last().expect("a conference is made").clone()
    }

    /// A client of an account at the first server, whose conference is this one.
    pub fn client(&mut self, account: &str, cid: &str) -> usize {
        self.client_at(0, account, cid)
    }

    /// The same at any server.
    pub fn client_at(&mut self, node: usize, account: &str, cid: &str) -> usize {
        let index = self.clients.len();
        self.clients.push(Client::new(account, cid, node));
        self.connect(index);
        index
    }

    /// A call of a client to its conference, answered at once. Returned is its number.
    pub fn call(&mut self, client: usize, uri: &str) -> u64 {
        self.calls += 1;
        let number = self.calls;
        let node = self.clients[client].node;
        let from = self.clients[client].account.clone();
        let fields = vec![("from", from), ("to", uri.to_owned())];
        self.note(node, Kind::CallStarted, number, fields);
        self.note(node, Kind::CallAnswered, number, Vec::new());
        number
    }

    /// Whether a client's server knows its conference.
    #[must_use]
    pub fn knows(&self, client: usize) -> bool {
        let client = &self.clients[client];
        let plane = &self.nodes[client.node].plane;
        let shared = plane.cascade().documents(&client.cid);
        plane.conference(&client.cid).is_some() || shared.is_some()
    }

    pub fn hang_up(&mut self, client: usize, call: u64, why: &str) {
        let node = self.clients[client].node;
        self.note(node, Kind::CallEnded, call, vec![("why", why.to_owned())]);
    }

    fn note(&mut self, node: usize, kind: Kind, call: u64, fields: Vec<(&'static str, String)>) {
        let event = Event {
            seq: 0,
            at: self.at(),
            kind,
            subject: call.to_string(),
            fields,
        };
        self.give(node, Input::Noted(event));
    }

    /// A client's connection is there: what is retained comes to it.
    pub fn connect(&mut self, client: usize) {
        if std::mem::replace(&mut self.clients[client].connected, true) {
            return;
        }
        let peer = self.peer(client);
        self.give(self.clients[client].node, Input::Connected(peer));
        self.reread(client);
    }

    /// It is gone, with all that was on its way.
    pub fn disconnect(&mut self, client: usize) {
        if !std::mem::replace(&mut self.clients[client].connected, false) {
            return;
        }
        self.ahead.retain(|_, ahead| match ahead {
            Ahead::Command { client: of, .. } | Ahead::Delivery { client: of, .. } => *of != client,
            Ahead::Committed { .. }
            | Ahead::Turn { .. }
            | Ahead::Packet { .. }
            | Ahead::Notice { .. }
            | Ahead::Resend { .. } => true,
        });
        let peer = self.peer(client);
        self.give(self.clients[client].node, Input::Disconnected(peer));
    }

    /// The first server ends without warning and starts again.
    pub fn restart(&mut self) {
        self.restart_at(0);
    }

    /// A server ends without warning and starts again: what is not on disk is gone.
    pub fn restart_at(&mut self, node: usize) {
        self.oracle.restarts += 1;
        let clients = &mut self.clients;
        for client in clients.iter_mut().filter(|client| client.node == node) {
            client.connected = false;
        }
        self.ahead.retain(|_, ahead| match ahead {
            Ahead::Command { client, .. } | Ahead::Delivery { client, .. } => {
                clients[*client].node != node
            }
            // Packets it has sent may still arrive.
            Ahead::Packet { to, .. } => *to != node,
            Ahead::Notice { at, .. } => *at != node,
            Ahead::Committed { .. } | Ahead::Resend { .. } | Ahead::Turn { .. } => true,
        });
        let (seed, now) = (self.chance.number(), self.at());
        self.nodes[node].begin(seed, now);
        self.oracle.reborn(node);
        let kept = self.nodes[node].disk.iter().map(|(key, record)| Kept {
            table: control::effect::Table::Conferences,
            key: key.clone(),
            record: record.clone(),
        });
        let kept = kept.collect();
        self.give(node, Input::Restored(kept));
        self.oracle.after_restart(&self.nodes[node].plane);
        self.unlink(node);
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
            let ticks = self.nodes.iter().enumerate().filter_map(|(node, is)| {
                let at = is.plane.next()?;
                Some((at.saturating_duration_since(self.began), node))
            });
            let tick = ticks.min();
            let next = event.into_iter().chain(tick.map(|(at, _)| at)).min();
            let Some(next) = next.filter(|next| *next <= until) else {
                break;
            };
            self.now = self.now.max(next);
            if let Some((_, node)) = tick.filter(|(at, _)| *at <= self.now) {
                self.give(node, Input::Tick);
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
                let (by, node) = (self.peer(client), self.clients[client].node);
                if self.nodes[node].rules.may_publish(&by, &publication.topic) {
                    let ticket = self.later();
                    self.nodes[node].tickets.insert(ticket);
                    let input = Input::Published {
                        ticket,
                        by,
                        publication,
                    };
                    self.give(node, input);
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
            Ahead::Committed { node, life } if life == self.nodes[node].life => {
                if let Some((writes, then)) = self.nodes[node].writes.pop_front() {
                    for (key, record) in writes {
                        match record {
                            Some(record) => self.nodes[node].disk.insert(key, record),
                            None => self.nodes[node].disk.remove(&key),
                        };
                    }
                    self.perform(node, then);
                }
            }
            Ahead::Committed { .. } => {}
            Ahead::Turn { client } => self.turn(client),
            Ahead::Packet { from, to, packet } => self.arrive(from, to, packet),
            Ahead::Notice { at, of, up } => self.notice(at, of, up),
            Ahead::Resend { at, of, life } => {
                if life == self.nodes[at].life {
                    self.resend(at, of);
                }
            }
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

    fn give(&mut self, node: usize, input: Input) {
        let mut effects = Effects::new();
        let at = self.at();
        self.nodes[node].plane.handle(input, at, &mut effects);
        self.oracle.state(&self.nodes[node].plane, &effects);
        let (mut writes, mut then) = (Vec::new(), Effects::new());
        for effect in effects {
            if let Effect::Store { key, record, .. } = effect {
                if !then.is_empty() {
                    self.keep(node, std::mem::take(&mut writes), std::mem::take(&mut then));
                }
                writes.push((key, record));
            } else {
                then.push(effect);
            }
        }
        self.keep(node, writes, then);
    }

    fn keep(&mut self, node: usize, writes: Vec<Write>, then: Effects) {
        if writes.is_empty() && self.nodes[node].writes.is_empty() {
            self.perform(node, then);
            return;
        }
        // One after the other, as the store's writer does.
        self.nodes[node].writes.push_back((writes, then));
        let waits = self.nodes[node].writes.len();
        let pause = self.chance.duration(Duration::from_millis(5));
        let behind = Duration::from_millis(5) * u32::try_from(waits).unwrap_or(1);
        let life = self.nodes[node].life;
        self.after(behind + pause / 8, Ahead::Committed { node, life });
    }

    fn perform(&mut self, node: usize, effects: Effects) {
        for effect in effects {
            match effect {
                Effect::Publish(publication) => self.publish(node, publication),
                Effect::Acknowledge { ticket, refused } => {
                    let of = &mut self.nodes[node];
                    assert!(of.tickets.remove(&ticket), "acknowledged twice");
                    assert_eq!(refused, None);
                    of.acknowledged += 1;
                    assert_eq!(of.acknowledged, of.answers, "one answer each");
                }
                Effect::Admit { cid, pid } => self.nodes[node].rules.admit(&cid, &pid),
                Effect::Dismiss { cid, pid } => self.nodes[node].rules.dismiss(&cid, &pid),
                Effect::Answer { outcome, .. } => {
                    if let Outcome::Opened { cid } = outcome {
                        self.opened.push(cid);
                    }
                }
                Effect::Frame { to, frame, expires } => self.push(node, &to, frame, expires),
                Effect::HandOver { .. } | Effect::Store { .. } => {}
            }
        }
    }

    fn publish(&mut self, node: usize, publication: Publication) {
        let cid = publication.topic.split('/').nth(3).unwrap_or_default();
        let home = Cascade::home(cid).expect("a conference has a home");
        if publication.topic.contains("/rsp/") {
            self.nodes[node].answers += 1;
        }
        if home == self.nodes[node].sid {
            self.oracle.published(&publication);
        } else {
            let home = self.nodes.iter().find(|node| node.sid == home);
            let home = home.and_then(|home| home.plane.conference(cid));
            self.oracle.relayed(node, &publication, home);
        }
        if publication.retain {
            let retained = &mut self.nodes[node].retained;
            if publication.payload.is_empty() {
                retained.remove(&publication.topic);
            } else {
                retained.insert(publication.topic.clone(), publication.payload.clone());
            }
        }
        for client in 0..self.clients.len() {
            let is = &self.clients[client];
            let here = is.node == node && is.connected;
            let rules = &self.nodes[node].rules;
            if here && rules.may_read(&self.peer(client), &publication.topic) {
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
        let readable = self.readable(client);
        self.clients[client].reread(&readable, &mut self.oracle);
    }

    fn readable(&self, client: usize) -> BTreeMap<String, Bytes> {
        let (peer, node) = (self.peer(client), &self.nodes[self.clients[client].node]);
        let readable = node.retained.iter();
        let readable = readable.filter(|(topic, _)| node.rules.may_read(&peer, topic));
        readable
            .map(|(topic, payload)| (topic.clone(), payload.clone()))
            .collect()
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
    /// and it is what is, at every server.
    ///
    /// # Panics
    /// If not.
    pub fn converge(&mut self) {
        self.link.loss = 0;
        self.heal();
        for client in 0..self.clients.len() {
            self.connect(client);
            self.act(client, true);
            self.clients[client].only_repeat = true;
        }
        let patience = if self.wiring == Wiring::Alone { 5 } else { 15 };
        self.run(Duration::from_secs(patience));
        for client in 0..self.clients.len() {
            self.act(client, false);
            self.reread(client);
        }
        // Until nothing more is decided: what is, is yet to be kept, told and read.
        loop {
            let before: Vec<_> = self.nodes.iter().map(|n| n.retained.clone()).collect();
            let frames = self.frames;
            self.run(Duration::from_secs(2));
            let after = self.nodes.iter().map(|n| &n.retained);
            let still = self.nodes.iter().all(|node| node.writes.is_empty());
            if still && after.eq(before.iter()) && self.frames == frames {
                break;
            }
            for client in 0..self.clients.len() {
                self.reread(client);
            }
        }
        for client in 0..self.clients.len() {
            self.sees_what_is(client);
        }
        for node in 0..self.nodes.len() {
            let is = &self.nodes[node];
            assert!(is.tickets.is_empty(), "{}: not acknowledged", is.sid);
            self.oracle.at_rest(&is.plane);
            self.is_told(node);
        }
    }

    fn sees_what_is(&self, client: usize) {
        let (peer, readable) = (self.peer(client), self.readable(client));
        let client = &self.clients[client];
        assert!(
            client.waiting().is_none(),
            "no answer: {:?}",
            client.waiting()
        );
        // Who is not a participant any more is told nothing, and keeps what it saw last.
        let rules = &self.nodes[client.node].rules;
        let states = client.states.iter();
        let states = states.filter(|(topic, _)| rules.may_read(&peer, topic));
        let states: BTreeMap<&String, _> = states.collect();
        let seen: BTreeSet<&String> = states.keys().copied().collect();
        let there: BTreeSet<&String> = readable.keys().collect();
        assert_eq!(seen, there, "{}", client.account);
        for (topic, state) in states {
            assert_eq!(
                oracle::data(state),
                oracle::data(&readable[topic]),
                "{topic}"
            );
        }
    }

    /// Every other server shows of a server's conferences what that one does, and everybody whose
    /// client is connected is there.
    fn is_told(&self, home: usize) {
        let node = &self.nodes[home];
        for conference in node.plane.conferences() {
            let of = format!("towpath/v1/c/{}/", conference.cid());
            let shown = |node: &Node| -> BTreeMap<String, _> {
                let shown = node.retained.iter();
                let shown = shown.filter(|(topic, _)| topic.starts_with(&of));
                shown
                    .map(|(topic, payload)| (topic.clone(), oracle::data(payload)))
                    .collect()
            };
            for other in &self.nodes {
                assert_eq!(shown(other), shown(node), "at {}", other.sid);
            }
            for client in &self.clients {
                let known = conference.roster().find(&client.account);
                let joined = known.is_none_or(|p| !p.bus || p.presence == Presence::Joined);
                assert!(joined, "{} is lost: {known:?}", client.account);
            }
        }
    }
}
