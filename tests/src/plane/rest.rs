//! What holds once everybody is still.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use control::bus::Access;
use control::conference::roster::Presence;

use super::links::Wiring;
use super::node::Node;
use super::{World, oracle};

/// Of two seconds, until everybody has come to rest.
const ROUNDS_MAX: u32 = 300;

impl World {
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
        // What was under way when a link broke ends after 10 s and is sent again, twice at worst.
        let patience = if self.wiring == Wiring::Alone { 5 } else { 25 };
        self.run(Duration::from_secs(patience));
        for client in 0..self.clients.len() {
            self.act(client, false);
            self.reread(client);
        }
        // Until nothing more is decided: what is, is yet to be kept, told and read.
        for round in 0.. {
            assert!(round < ROUNDS_MAX, "somebody never comes to rest");
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
