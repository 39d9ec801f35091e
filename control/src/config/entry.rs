//! A configuration key by key: what is shown to people, and what two configurations are compared
//! by.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::check::choice::{
    ADDRESS_CHANGE, ALGORITHM, AUTH, ICE, KEEPALIVE, MEDIA, MEDIA_FROM, MODE, MQTT_MODE, NAT,
    POLICY, REGISTER, REGISTER_BY, SYNC, VERIFY, XDP,
};
use super::check::spell;
use super::limits::optional;
use super::{
    Account, Cascade, Conference, Config, Datapath, Lower, Network, Node, Peer, PeerAddress, Pem,
    PortRange, Protection, Secret, Sip, Store, Tcp,
};
use crate::conference::floor::Policy;
use crate::config::Mqtt;
use crate::config::broker::Broker;

/// One key and its effective value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// With the names of networks, peers and accounts in it: `network.wan.advertise`.
    pub key: String,
    /// Without them: `network.advertise`.
    pub kind: &'static str,
    pub value: Value,
}

/// As it would be written; a secret is compared, never shown.
#[derive(Clone, Eq, PartialEq)]
pub enum Value {
    Unset,
    Flag(bool),
    Number(u64),
    Text(String),
    List(Vec<String>),
    Secret(Secret),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unset => f.write_str("-"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "\"{}\"", text.escape_default()),
            Self::List(list) => {
                let quoted = |text: &String| format!("\"{}\"", text.escape_default());
                let quoted: Vec<String> = list.iter().map(quoted).collect();
                write!(f, "[{}]", quoted.join(", "))
            }
            Self::Secret(_) => f.write_str("…"),
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Config {
    /// Every key, in the order of the handbook.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        // Taken apart by name, so that a new key must be thought about.
        let Self {
            node: _,
            sip,
            networks,
            datapath: _,
            store: _,
            conference,
            api: _,
            log: _,
            trace: _,
            mqtt: _,
            cascade: _,
            origins: _,
        } = self;
        let mut entries = self.node.entries();
        entries.extend(sip.entries());
        entries.extend(sip.accounts.iter().flat_map(Account::entries));
        entries.extend(sip.peers.iter().flat_map(Peer::entries));
        entries.extend(networks.iter().flat_map(Network::entries));
        entries.extend(self.datapath.entries());
        entries.extend(self.store.entries());
        entries.extend(conference.entries());
        let floors = conference.floors.iter();
        entries.extend(floors.flat_map(|(fid, policy)| floor_entries(fid, policy)));
        entries.extend([self.api.entries(), self.log.entries(), self.trace.entries()].concat());
        entries.extend(self.mqtt.entries());
        entries.extend(self.cascade.entries());
        entries.extend(self.cascade.lowers.iter().flat_map(Lower::entries));
        entries
    }
}

impl Node {
    pub(super) fn entries(&self) -> Vec<Entry> {
        let Self {
            id,
            state_dir,
            socket,
            watch,
        } = self;
        let path = |path: &Path| text(path.display());
        vec![
            plain("node.id", text(id)),
            plain("node.state_dir", path(state_dir)),
            plain("node.socket", path(socket)),
            plain("node.watch", Value::Flag(*watch)),
        ]
    }
}

impl Sip {
    /// Without accounts and peers.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let Self {
            domain,
            listen,
            auth,
            algorithm,
            dns,
            accounts: _,
            peers: _,
            expires_min,
            expires_max,
            expires_natted_max,
            address_grace,
            shards,
            tcp,
            tls,
            protection,
        } = self;
        let Tcp {
            idle,
            connections,
            connections_per_source,
        } = tcp;
        let tls = tls.as_ref();
        let optional = |value: Option<Value>| value.unwrap_or(Value::Unset);
        let mut entries = vec![
            plain("sip.domain", text(domain)),
            plain("sip.listen", texts(listen)),
            plain("sip.auth", word(&AUTH, *auth)),
            plain("sip.algorithm", word(&ALGORITHM, *algorithm)),
            plain("sip.dns", texts(dns)),
            plain("sip.expires_min", span(*expires_min)),
            plain("sip.expires_max", span(*expires_max)),
            plain("sip.expires_natted_max", span(*expires_natted_max)),
            plain("sip.address_grace", span(*address_grace)),
            plain(
                "sip.shards",
                shards.map_or(Value::Unset, |shards| Value::Number(shards.into())),
            ),
            plain("sip.tcp.idle", span(*idle)),
            plain("sip.tcp.connections", count(*connections)),
            plain(
                "sip.tcp.connections_per_source",
                count(*connections_per_source),
            ),
            plain(
                "sip.tls.certificate",
                optional(tls.map(|tls| file(&tls.certificate))),
            ),
            plain("sip.tls.key", optional(tls.map(|tls| file(&tls.key)))),
            plain(
                "sip.tls.ca",
                optional(tls.and_then(|tls| tls.ca.as_ref()).map(file)),
            ),
            plain(
                "sip.tls.verify",
                optional(tls.map(|tls| word(&VERIFY, tls.verify))),
            ),
        ];
        entries.extend(protection.entries());
        entries
    }
}

impl Protection {
    fn entries(&self) -> Vec<Entry> {
        let Self {
            source_rate,
            account_rate,
            ban_after,
            ban_window,
            ban_time,
            exempt,
            scanners,
        } = self;
        let number = |number: u32| Value::Number(number.into());
        vec![
            plain("sip.protection.source_rate", number(*source_rate)),
            plain("sip.protection.account_rate", number(*account_rate)),
            plain("sip.protection.ban_after", number(*ban_after)),
            plain("sip.protection.ban_window", span(*ban_window)),
            plain("sip.protection.ban_time", span(*ban_time)),
            plain("sip.protection.exempt", texts(exempt)),
            plain("sip.protection.scanners", texts(scanners)),
        ]
    }
}

impl Account {
    pub(super) fn entries(&self) -> Vec<Entry> {
        let Self {
            user,
            secret,
            algorithm,
        } = self;
        let (name, kind) = match secret {
            Secret::Password(_) => ("password", "sip.account.password"),
            Secret::Ha1Md5(_) => ("ha1_md5", "sip.account.ha1_md5"),
            Secret::Ha1Sha256(_) => ("ha1_sha256", "sip.account.ha1_sha256"),
        };
        let entry = |name: &str, kind, value| Entry {
            key: format!("sip.account.{user}.{name}"),
            kind,
            value,
        };
        let algorithm = algorithm.map_or(Value::Unset, |algorithm| word(&ALGORITHM, algorithm));
        vec![
            entry(name, kind, Value::Secret(secret.clone())),
            entry("algorithm", "sip.account.algorithm", algorithm),
        ]
    }
}

impl Peer {
    pub(super) fn entries(&self) -> Vec<Entry> {
        let Self {
            name,
            addresses,
            host,
            forward,
            tls_name,
            sources,
            probe,
            probe_failures,
            limits,
            assert_identity,
            routes,
        } = self;
        let entry = |key: &str, kind, value| Entry {
            key: format!("sip.peer.{name}.{key}"),
            kind,
            value,
        };
        // What `uri` says beside the address, if it is not what goes without saying.
        let found = addresses.first().filter(|_| host.is_none());
        let uri = host.as_ref().map_or(Value::Unset, text);
        let uri = found.map_or(uri, |first| match first {
            PeerAddress {
                priority: 0,
                weight: 1,
                ..
            } => Value::Text(first.uri()),
            _ => text(first),
        });
        let others = addresses.iter().skip(1).filter(|_| host.is_none());
        let uris: Vec<PeerAddress> = others.copied().collect();
        let tls_name = tls_name.as_ref().map_or(Value::Unset, text);
        let failures = Value::Number((*probe_failures).into());
        let bandwidth = optional(limits.bandwidth);
        let told = Value::Flag(*assert_identity);
        vec![
            entry("uri", "sip.peer.uri", uri),
            entry("uris", "sip.peer.uris", texts(&uris)),
            entry(
                "register",
                "sip.peer.register",
                word(&REGISTER, forward.is_some()),
            ),
            entry(
                "register_by",
                "sip.peer.register_by",
                forward.map_or(Value::Unset, |forward| word(&REGISTER_BY, forward.by)),
            ),
            entry(
                "register_expires",
                "sip.peer.register_expires",
                forward.map_or(Value::Unset, |forward| span(forward.expires)),
            ),
            entry("tls_name", "sip.peer.tls_name", tls_name),
            entry("sources", "sip.peer.sources", texts(sources)),
            entry("probe", "sip.peer.probe", span(*probe)),
            entry("probe_failures", "sip.peer.probe_failures", failures),
            entry("max_calls", "sip.peer.max_calls", optional(limits.calls)),
            entry("max_bandwidth", "sip.peer.max_bandwidth", bandwidth),
            entry("assert_identity", "sip.peer.assert_identity", told),
            entry("routes", "sip.peer.routes", texts(routes)),
        ]
    }
}

pub(super) fn count(count: usize) -> Value {
    Value::Number(u64::try_from(count).unwrap_or(u64::MAX))
}

/// Its path, and of what is in it as much as tells one version from another.
pub(super) fn file(pem: &Pem) -> Value {
    let digest = Sha256::digest(&pem.text);
    let start = digest.iter().take(4);
    let start: String = start.map(|byte| format!("{byte:02x}")).collect();
    text(format_args!("{} (SHA-256 {start})", pem.path.display()))
}

impl Network {
    pub(super) fn entries(&self) -> Vec<Entry> {
        let Self {
            id: _,
            name,
            interface,
            address,
            advertise: _,
            advertise_port: _,
            advertise_media,
            peers,
            source_rewriting_gateways,
            media_ports,
            advertise_ports,
            nat,
            keepalive,
            keepalive_interval,
            media,
            media_from,
            media_senders,
            ice,
            address_change,
            dscp,
            hop_limit,
            limits,
        } = self;
        let entries = [
            ("network.interface", text(interface)),
            ("network.address", text(address)),
            ("network.advertise", self.advertised()),
            ("network.advertise_media", text(advertise_media)),
            ("network.peers", texts(peers)),
            (
                "network.source_rewriting_gateways",
                texts(source_rewriting_gateways),
            ),
            ("network.media_ports", ports(*media_ports)),
            ("network.advertise_ports", ports(*advertise_ports)),
            ("network.nat", word(&NAT, *nat)),
            ("network.keepalive", word(&KEEPALIVE, *keepalive)),
            ("network.keepalive_interval", span(*keepalive_interval)),
            ("network.media", word(&MEDIA, *media)),
            ("network.media_from", word(&MEDIA_FROM, *media_from)),
            ("network.media_senders", texts(media_senders)),
            ("network.ice", word(&ICE, *ice)),
            (
                "network.address_change",
                word(&ADDRESS_CHANGE, *address_change),
            ),
            ("network.dscp", optional(*dscp)),
            ("network.hop_limit", optional(*hop_limit)),
            ("network.max_calls", optional(limits.calls)),
            ("network.max_bandwidth", optional(limits.bandwidth)),
        ];
        let named = |(kind, value): (&'static str, Value)| Entry {
            key: kind.replacen("network.", &format!("network.{name}."), 1),
            kind,
            value,
        };
        entries.into_iter().map(named).collect()
    }

    fn advertised(&self) -> Value {
        text(match self.advertise_port {
            Some(port) => std::net::SocketAddr::new(self.advertise, port).to_string(),
            None => self.advertise.to_string(),
        })
    }
}

impl Datapath {
    pub(super) fn entries(&self) -> Vec<Entry> {
        let Self {
            mode,
            xdp,
            object,
            pin_dir,
            flows_max,
            media_timeout,
        } = self;
        let path = |path: &Path| text(path.display());
        vec![
            plain("datapath.mode", word(&MODE, *mode)),
            plain("datapath.xdp", word(&XDP, *xdp)),
            plain(
                "datapath.object",
                object.as_deref().map_or(Value::Unset, path),
            ),
            plain("datapath.pin_dir", path(pin_dir)),
            plain("datapath.flows", Value::Number((*flows_max).into())),
            plain("datapath.media_timeout", span(*media_timeout)),
        ]
    }
}

impl Cascade {
    /// Without lower servers.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let Self {
            listen,
            certificate,
            key,
            ca,
            upper,
            token,
            deadline,
            lowers: _,
        } = self;
        let pem = |pem: &Option<Pem>| pem.as_ref().map_or(Value::Unset, file);
        let token = token.clone().map_or(Value::Unset, Value::Secret);
        vec![
            plain("cascade.listen", texts(listen)),
            plain("cascade.certificate", pem(certificate)),
            plain("cascade.key", pem(key)),
            plain("cascade.ca", pem(ca)),
            plain("cascade.upper", upper.as_ref().map_or(Value::Unset, text)),
            plain("cascade.token_file", token),
            plain("cascade.deadline", span(*deadline)),
        ]
    }
}

impl Lower {
    pub(super) fn entries(&self) -> Vec<Entry> {
        let Self {
            id,
            token,
            tls_name,
        } = self;
        let entry = |name: &str, kind, value| Entry {
            key: format!("cascade.lower.{id}.{name}"),
            kind,
            value,
        };
        let token = token.clone().map_or(Value::Unset, Value::Secret);
        let name = tls_name.as_ref().map_or(Value::Unset, text);
        vec![
            entry("token_sha256", "cascade.lower.token_sha256", token),
            entry("tls_name", "cascade.lower.tls_name", name),
        ]
    }
}

impl Store {
    pub(super) fn entries(&self) -> Vec<Entry> {
        let Self { path, sync } = self;
        vec![
            plain("store.path", text(path.display())),
            plain("store.sync", word(&SYNC, *sync)),
        ]
    }
}

impl Mqtt {
    pub(super) fn entries(&self) -> Vec<Entry> {
        let Self {
            mode,
            broker,
            listen,
            topics,
            legacy_address_fields,
            limits,
            tls,
        } = self;
        let certificate = tls.as_ref().map(|tls| file(&tls.certificate));
        let key = tls.as_ref().map(|tls| file(&tls.key));
        let Broker {
            url,
            user,
            password,
            ca,
            identity,
            outbox_messages,
            outbox_bytes,
        } = broker;
        let optional = |pem: Option<&Pem>| pem.map_or(Value::Unset, file);
        let password = password.as_ref();
        let password = password.map(|pem| Value::Secret(Secret::Password(pem.text.clone())));
        let password = password.unwrap_or(Value::Unset);
        let (own, own_key) = identity.as_ref().map(|(own, key)| (own, key)).unzip();
        vec![
            plain("mqtt.mode", word(&MQTT_MODE, *mode)),
            plain("mqtt.url", url.as_ref().map_or(Value::Unset, text)),
            plain("mqtt.listen", texts(listen)),
            plain("mqtt.topics", texts(topics)),
            plain("mqtt.legacy_address_fields", texts(legacy_address_fields)),
            plain("mqtt.clients", count(limits.clients)),
            plain("mqtt.queue_messages", count(limits.queue_messages)),
            plain("mqtt.queue_bytes", count(limits.queue_bytes)),
            plain("mqtt.filters", count(limits.filters)),
            plain("mqtt.retained_bytes", count(limits.retained_bytes)),
            plain("mqtt.session_expiry", span(limits.session_expiry)),
            plain("mqtt.tls.certificate", certificate.unwrap_or(Value::Unset)),
            plain("mqtt.tls.key", key.unwrap_or(Value::Unset)),
            plain("mqtt.broker.user", user.as_ref().map_or(Value::Unset, text)),
            plain("mqtt.broker.password_file", password),
            plain("mqtt.broker.ca", optional(ca.as_ref())),
            plain("mqtt.broker.certificate", optional(own)),
            plain("mqtt.broker.key", optional(own_key)),
            plain("mqtt.broker.outbox_messages", count(*outbox_messages)),
            plain("mqtt.broker.outbox_bytes", count(*outbox_bytes)),
        ]
    }
}

impl Conference {
    /// Without floors.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let Self {
            uris,
            chairs,
            share,
            view_hook,
            floors: _,
        } = self;
        let hook = view_hook.as_ref().map_or(Value::Unset, text);
        vec![
            plain("conference.uris", texts(uris)),
            plain("conference.chairs", texts(chairs)),
            plain("conference.share", texts(share)),
            plain("conference.view_hook", hook),
        ]
    }
}

pub(super) fn floor_entries(fid: &str, policy: &Policy) -> Vec<Entry> {
    let Policy {
        mode,
        holders_max,
        queue_max,
        grant_ttl,
        request_ttl,
        priority_max,
        preempt,
    } = policy;
    let entries = [
        ("conference.floor.policy", word(&POLICY, *mode)),
        ("conference.floor.max_holders", count(*holders_max)),
        ("conference.floor.max_queue", count(*queue_max)),
        (
            "conference.floor.grant_ttl",
            span(grant_ttl.unwrap_or_default()),
        ),
        ("conference.floor.request_ttl", span(*request_ttl)),
        ("conference.floor.priority", optional(Some(*priority_max))),
        ("conference.floor.preempt", Value::Flag(*preempt)),
    ];
    let named = |(kind, value): (&'static str, Value)| Entry {
        key: kind.replacen("floor.", &format!("floor.{fid}."), 1),
        kind,
        value,
    };
    entries.into_iter().map(named).collect()
}

pub(super) fn plain(kind: &'static str, value: Value) -> Entry {
    Entry {
        key: kind.to_owned(),
        kind,
        value,
    }
}

pub(super) fn text(text: impl ToString) -> Value {
    Value::Text(text.to_string())
}

/// The word a choice is written with.
pub(super) fn word<T: PartialEq>(choices: &[(&str, T)], choice: T) -> Value {
    let word = choices.iter().find(|(_, value)| *value == choice);
    word.map_or(Value::Unset, |(word, _)| text(word))
}

fn span(duration: Duration) -> Value {
    text(spell(duration))
}

fn ports(range: PortRange) -> Value {
    text(format_args!("{}-{}", range.first, range.last))
}

pub(super) fn texts<T: ToString>(list: &[T]) -> Value {
    Value::List(list.iter().map(ToString::to_string).collect())
}
