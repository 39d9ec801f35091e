//! What differs between two configurations, what each difference takes, and how many calls it
//! touches.

use std::collections::BTreeMap;

use super::entry::{Entry, Value, floor_entries};
use super::{Account, Conference, Config, Lower, Network, Peer, PeerAddress};

use crate::conference::floor::Policy;

#[cfg(test)]
mod tests;

/// One key that differs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// With its network, peer or account: `sip.auth`, `network.wan.advertise`, `network.wan`.
    pub key: String,
    pub takes: Takes,
    pub old: Value,
    pub new: Value,
    /// Running calls that it concerns.
    pub calls: usize,
}

/// What a change takes. Later ones disturb more.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Takes {
    /// Nothing: the next message uses it.
    Hot,
    /// New calls use it, running ones keep what they have.
    Drain,
    /// The daemon must be started again.
    Restart,
}

impl Takes {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Drain => "drain",
            Self::Restart => "restart",
        }
    }
}

/// Whose calls a change concerns.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Concerns<'a> {
    Nobody,
    /// Calls with a party in the network of this name.
    Network(&'a str),
    Everybody,
}

/// What a change of each key takes, in the order of the file. The handbook is tested against it.
pub const TAKES: &[(&str, Takes)] = &[
    ("node.id", Takes::Restart),
    ("node.state_dir", Takes::Restart),
    ("node.socket", Takes::Restart),
    ("node.watch", Takes::Hot),
    ("sip.domain", Takes::Restart),
    ("sip.listen", Takes::Hot),
    ("sip.auth", Takes::Hot),
    ("sip.algorithm", Takes::Hot),
    ("sip.dns", Takes::Hot),
    ("sip.expires_min", Takes::Hot),
    ("sip.expires_max", Takes::Hot),
    ("sip.expires_natted_max", Takes::Hot),
    ("sip.address_grace", Takes::Hot),
    ("sip.shards", Takes::Restart),
    ("sip.tcp.idle", Takes::Hot),
    ("sip.tcp.connections", Takes::Hot),
    ("sip.tcp.connections_per_source", Takes::Hot),
    ("sip.tls.certificate", Takes::Hot),
    ("sip.tls.key", Takes::Hot),
    ("sip.tls.ca", Takes::Hot),
    ("sip.tls.verify", Takes::Hot),
    ("sip.protection.source_rate", Takes::Hot),
    ("sip.protection.account_rate", Takes::Hot),
    ("sip.protection.ban_after", Takes::Hot),
    ("sip.protection.ban_window", Takes::Hot),
    ("sip.protection.ban_time", Takes::Hot),
    ("sip.protection.exempt", Takes::Hot),
    ("sip.protection.scanners", Takes::Hot),
    ("sip.account.user", Takes::Hot),
    ("sip.account.password", Takes::Hot),
    ("sip.account.password_file", Takes::Hot),
    ("sip.account.ha1_md5", Takes::Hot),
    ("sip.account.ha1_sha256", Takes::Hot),
    ("sip.account.algorithm", Takes::Hot),
    ("sip.peer.name", Takes::Hot),
    ("sip.peer.uri", Takes::Hot),
    ("sip.peer.uris", Takes::Hot),
    ("sip.peer.tls_name", Takes::Hot),
    ("sip.peer.sources", Takes::Hot),
    ("sip.peer.probe", Takes::Hot),
    ("sip.peer.probe_failures", Takes::Hot),
    ("sip.peer.max_calls", Takes::Hot),
    ("sip.peer.max_bandwidth", Takes::Hot),
    ("sip.peer.assert_identity", Takes::Hot),
    ("sip.peer.register", Takes::Hot),
    ("sip.peer.register_by", Takes::Hot),
    ("sip.peer.register_expires", Takes::Hot),
    ("sip.peer.routes", Takes::Hot),
    // Another name is another network: the old one drains.
    ("network.name", Takes::Drain),
    ("network.interface", Takes::Drain),
    ("network.address", Takes::Drain),
    ("network.advertise", Takes::Hot),
    ("network.advertise_media", Takes::Hot),
    ("network.peers", Takes::Hot),
    ("network.source_rewriting_gateways", Takes::Hot),
    ("network.media_ports", Takes::Drain),
    ("network.advertise_ports", Takes::Hot),
    ("network.nat", Takes::Hot),
    ("network.keepalive", Takes::Hot),
    ("network.keepalive_interval", Takes::Hot),
    ("network.media", Takes::Drain),
    ("network.media_from", Takes::Drain),
    ("network.media_senders", Takes::Drain),
    ("network.ice", Takes::Drain),
    ("network.address_change", Takes::Hot),
    ("network.dscp", Takes::Drain),
    ("network.hop_limit", Takes::Drain),
    ("network.max_calls", Takes::Hot),
    ("network.max_bandwidth", Takes::Hot),
    ("datapath.mode", Takes::Restart),
    ("datapath.xdp", Takes::Restart),
    ("datapath.object", Takes::Restart),
    ("datapath.pin_dir", Takes::Restart),
    ("datapath.flows", Takes::Restart),
    ("datapath.media_timeout", Takes::Hot),
    ("store.path", Takes::Restart),
    ("store.sync", Takes::Hot),
    ("conference.uris", Takes::Hot),
    ("conference.chairs", Takes::Hot),
    ("conference.share", Takes::Hot),
    ("conference.view_hook", Takes::Hot),
    ("conference.floor.id", Takes::Hot),
    ("conference.floor.policy", Takes::Hot),
    ("conference.floor.max_holders", Takes::Hot),
    ("conference.floor.max_queue", Takes::Hot),
    ("conference.floor.grant_ttl", Takes::Hot),
    ("conference.floor.request_ttl", Takes::Hot),
    ("conference.floor.priority", Takes::Hot),
    ("conference.floor.preempt", Takes::Hot),
    ("api.listen", Takes::Hot),
    ("api.plaintext", Takes::Hot),
    ("api.metrics", Takes::Hot),
    ("api.rate", Takes::Hot),
    ("api.tls.certificate", Takes::Hot),
    ("api.tls.key", Takes::Hot),
    ("log.format", Takes::Hot),
    ("log.level", Takes::Hot),
    ("trace.ladder", Takes::Hot),
    ("trace.calls", Takes::Hot),
    ("trace.hep", Takes::Hot),
    ("trace.hep_id", Takes::Hot),
    ("trace.hep_password_file", Takes::Hot),
    ("trace.hep_secrets", Takes::Hot),
    ("mqtt.mode", Takes::Hot),
    ("mqtt.url", Takes::Hot),
    ("mqtt.listen", Takes::Hot),
    ("mqtt.topics", Takes::Hot),
    ("mqtt.legacy_address_fields", Takes::Hot),
    ("mqtt.clients", Takes::Hot),
    ("mqtt.queue_messages", Takes::Hot),
    ("mqtt.queue_bytes", Takes::Hot),
    ("mqtt.filters", Takes::Hot),
    ("mqtt.retained_bytes", Takes::Hot),
    ("mqtt.session_expiry", Takes::Hot),
    ("mqtt.tls.certificate", Takes::Hot),
    ("mqtt.tls.key", Takes::Hot),
    ("mqtt.broker.user", Takes::Hot),
    ("mqtt.broker.password_file", Takes::Hot),
    ("mqtt.broker.ca", Takes::Hot),
    ("mqtt.broker.certificate", Takes::Hot),
    ("mqtt.broker.key", Takes::Hot),
    ("mqtt.broker.outbox_messages", Takes::Hot),
    ("mqtt.broker.outbox_bytes", Takes::Hot),
    ("cascade.listen", Takes::Restart),
    ("cascade.certificate", Takes::Restart),
    ("cascade.key", Takes::Restart),
    ("cascade.ca", Takes::Restart),
    ("cascade.upper", Takes::Restart),
    ("cascade.token_file", Takes::Restart),
    ("cascade.deadline", Takes::Restart),
    ("cascade.lower.id", Takes::Restart),
    ("cascade.lower.token_sha256", Takes::Restart),
    ("cascade.lower.tls_name", Takes::Restart),
];

/// Every key that differs, in the order of the file. `calls` counts those a change concerns.
#[must_use]
pub fn changes(old: &Config, new: &Config, calls: &dyn Fn(Concerns<'_>) -> usize) -> Vec<Change> {
    // Taken apart by name, so that a new section must be thought about.
    let Config {
        node,
        sip,
        networks,
        datapath,
        store,
        conference,
        api,
        log,
        trace,
        mqtt,
        cascade,
        origins: _,
    } = old;
    let mut changes = Changes {
        calls,
        found: Vec::new(),
    };
    changes.section(Concerns::Nobody, &node.entries(), &new.node.entries());
    changes.section(Concerns::Nobody, &sip.entries(), &new.sip.entries());
    let accounts =
        |accounts: &[Account]| -> Vec<Member> { accounts.iter().map(Member::account).collect() };
    changes.members(
        "sip.account",
        &accounts(&sip.accounts),
        &accounts(&new.sip.accounts),
    );
    let peers = |peers: &[Peer]| -> Vec<Member> { peers.iter().map(Member::peer).collect() };
    changes.members("sip.peer", &peers(&sip.peers), &peers(&new.sip.peers));
    let all =
        |networks: &[Network]| -> Vec<Member> { networks.iter().map(Member::network).collect() };
    changes.members("network", &all(networks), &all(&new.networks));
    changes.section(
        Concerns::Nobody,
        &datapath.entries(),
        &new.datapath.entries(),
    );
    changes.section(Concerns::Nobody, &store.entries(), &new.store.entries());
    let other = &new.conference;
    changes.section(Concerns::Nobody, &conference.entries(), &other.entries());
    let floors = |conference: &Conference| -> Vec<Member> {
        conference.floors.iter().map(Member::floor).collect()
    };
    changes.members("conference.floor", &floors(conference), &floors(other));
    changes.section(Concerns::Nobody, &api.entries(), &new.api.entries());
    changes.section(Concerns::Nobody, &log.entries(), &new.log.entries());
    changes.section(Concerns::Nobody, &trace.entries(), &new.trace.entries());
    changes.section(Concerns::Nobody, &mqtt.entries(), &new.mqtt.entries());
    changes.section(Concerns::Nobody, &cascade.entries(), &new.cascade.entries());
    let lowers = |lowers: &[Lower]| -> Vec<Member> { lowers.iter().map(Member::lower).collect() };
    changes.members(
        "cascade.lower",
        &lowers(&cascade.lowers),
        &lowers(&new.cascade.lowers),
    );
    changes.found
}

/// One of a section that stands many times, known by its name and not by its place.
struct Member {
    name: String,
    /// What is said of it when it comes or goes.
    summary: Value,
    entries: Vec<Entry>,
}

impl Member {
    fn account(account: &Account) -> Self {
        Self {
            name: account.user.clone(),
            summary: Value::Secret(account.secret.clone()),
            entries: account.entries(),
        }
    }

    fn peer(peer: &Peer) -> Self {
        Self {
            name: peer.name.clone(),
            summary: Value::Text(
                peer.addresses
                    .first()
                    .map_or_else(String::new, PeerAddress::uri),
            ),
            entries: peer.entries(),
        }
    }

    fn floor((fid, policy): &(String, Policy)) -> Self {
        let entries = floor_entries(fid, policy);
        Self {
            name: fid.clone(),
            summary: entries.first().map_or(Value::Unset, |e| e.value.clone()),
            entries,
        }
    }

    fn lower(lower: &Lower) -> Self {
        Self {
            name: lower.id.clone(),
            summary: Value::Text(lower.id.clone()),
            entries: lower.entries(),
        }
    }

    fn network(network: &Network) -> Self {
        Self {
            name: network.name.clone(),
            summary: Value::Text(format!("{} on {}", network.address, network.interface)),
            entries: network.entries(),
        }
    }
}

struct Changes<'a> {
    calls: &'a dyn Fn(Concerns<'_>) -> usize,
    found: Vec<Change>,
}

impl Changes<'_> {
    /// Keys that are always there, in one order; those of an account are one of two.
    fn section(&mut self, of: Concerns<'_>, old: &[Entry], new: &[Entry]) {
        for (old, new) in old.iter().zip(new) {
            if old.value != new.value {
                self.change(of, &new.key, new.kind, (&old.value, &new.value));
            }
        }
    }

    fn members(&mut self, section: &'static str, old: &[Member], new: &[Member]) {
        let by_name = |members: &'_ [Member]| -> BTreeMap<String, usize> {
            let named = members.iter().enumerate();
            named
                .map(|(at, member)| (member.name.clone(), at))
                .collect()
        };
        let (before, after) = (by_name(old), by_name(new));
        for gone in old.iter().filter(|m| !after.contains_key(&m.name)) {
            let key = format!("{section}.{}", gone.name);
            let of = concerned(section, &gone.name);
            self.change(of, &key, naming(section), (&gone.summary, &Value::Unset));
        }
        for member in new {
            match before.get(&member.name).and_then(|at| old.get(*at)) {
                Some(known) => {
                    let of = concerned(section, &member.name);
                    self.section(of, &known.entries, &member.entries);
                }
                None => self.come(section, member),
            }
        }
        // Where two hold the same prefix or route, the first in the file counts.
        let order = |members: &[Member], others: &BTreeMap<String, usize>| -> Vec<String> {
            let both = members.iter().filter(|m| others.contains_key(&m.name));
            both.map(|m| m.name.clone()).collect()
        };
        let (before, after) = (order(old, &after), order(new, &before));
        let ordered = matches!(
            section,
            "sip.account" | "conference.floor" | "cascade.lower"
        );
        if before != after && !ordered {
            let (old, new) = (Value::List(before), Value::List(after));
            self.found.push(Change {
                key: section.to_owned(),
                takes: Takes::Hot,
                old,
                new,
                calls: 0,
            });
        }
    }

    /// What is new is used by what is new.
    fn come(&mut self, section: &str, member: &Member) {
        let key = format!("{section}.{}", member.name);
        if takes(naming(section)) == Takes::Restart {
            let values = (&Value::Unset, &member.summary);
            return self.change(Concerns::Nobody, &key, naming(section), values);
        }
        self.found.push(Change {
            key,
            takes: Takes::Hot,
            old: Value::Unset,
            new: member.summary.clone(),
            calls: 0,
        });
    }

    fn change(&mut self, of: Concerns<'_>, key: &str, kind: &str, values: (&Value, &Value)) {
        let takes = takes(kind);
        let concerns = match takes {
            Takes::Restart => Concerns::Everybody,
            Takes::Hot if kind == "datapath.media_timeout" => Concerns::Everybody,
            Takes::Hot | Takes::Drain => of,
        };
        self.found.push(Change {
            key: key.to_owned(),
            takes,
            old: values.0.clone(),
            new: values.1.clone(),
            calls: (self.calls)(concerns),
        });
    }
}

fn concerned<'a>(section: &str, name: &'a str) -> Concerns<'a> {
    match section {
        "network" => Concerns::Network(name),
        _ => Concerns::Nobody,
    }
}

/// The key that names a member of a section.
fn naming(section: &str) -> &'static str {
    match section {
        "sip.account" => "sip.account.user",
        "sip.peer" => "sip.peer.name",
        "conference.floor" => "conference.floor.id",
        "cascade.lower" => "cascade.lower.id",
        _ => "network.name",
    }
}

fn takes(kind: &str) -> Takes {
    let class = TAKES.iter().find(|(key, _)| *key == kind);
    debug_assert!(class.is_some(), "{kind} has no class");
    class.map_or(Takes::Restart, |(_, takes)| *takes)
}
