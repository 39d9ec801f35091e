//! The TOML shape: which sections and keys there are, and of what type. Reads the whole text and
//! reports every key it does not know and every value of a wrong type, not only the first, which
//! is why it walks the parsed table instead of deserialising into structs.

pub(super) mod api;
mod conference;
mod mqtt;
mod table;
pub(super) mod trace;

use toml::de::DeTable;

pub(super) use self::conference::{Conference, Floor};
use self::mqtt::{BROKER_KEYS, MQTT_KEYS};
pub(super) use self::mqtt::{Mqtt, MqttBroker, MqttTls};
use self::table::Table;
use super::origin::Origins;
use super::problem::{At, Problems, Span};

/// `[node]`
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) id: Option<At<String>>,
    pub(super) state_dir: Option<At<String>>,
    pub(super) socket: Option<At<String>>,
    pub(super) watch: Option<At<bool>>,
}

/// `[sip]`
#[derive(Debug, Default)]
pub(super) struct Sip {
    /// The section's header; the file's beginning if there is none.
    pub(super) at: Span,
    pub(super) domain: Option<At<String>>,
    pub(super) listen: Option<At<Vec<At<String>>>>,
    pub(super) auth: Option<At<String>>,
    pub(super) algorithm: Option<At<String>>,
    pub(super) dns: Option<At<Vec<At<String>>>>,
    pub(super) expires_min: Option<At<String>>,
    pub(super) expires_max: Option<At<String>>,
    pub(super) expires_natted_max: Option<At<String>>,
    pub(super) address_grace: Option<At<String>>,
    pub(super) shards: Option<At<i64>>,
    pub(super) tcp: Tcp,
    pub(super) tls: Tls,
    pub(super) accounts: Vec<Account>,
    pub(super) peers: Vec<Peer>,
    pub(super) protection: Protection,
}

/// `[sip.protection]`
#[derive(Debug, Default)]
pub(super) struct Protection {
    pub(super) source_rate: Option<At<i64>>,
    pub(super) account_rate: Option<At<i64>>,
    pub(super) ban_after: Option<At<i64>>,
    pub(super) ban_window: Option<At<String>>,
    pub(super) ban_time: Option<At<String>>,
    pub(super) exempt: Option<At<Vec<At<String>>>>,
    pub(super) scanners: Option<At<Vec<At<String>>>>,
}

/// `[sip.tcp]`
#[derive(Debug, Default)]
pub(super) struct Tcp {
    pub(super) idle: Option<At<String>>,
    pub(super) connections: Option<At<i64>>,
    pub(super) connections_per_source: Option<At<i64>>,
}

/// `[sip.tls]`
#[derive(Debug, Default)]
pub(super) struct Tls {
    /// The section's header; empty if there is none.
    pub(super) at: Span,
    pub(super) certificate: Option<At<String>>,
    pub(super) key: Option<At<String>>,
    pub(super) ca: Option<At<String>>,
    pub(super) verify: Option<At<String>>,
}

/// `[[sip.account]]`
#[derive(Debug)]
pub(super) struct Account {
    pub(super) at: Span,
    pub(super) user: Option<At<String>>,
    pub(super) password: Option<At<String>>,
    pub(super) password_file: Option<At<String>>,
    pub(super) ha1_md5: Option<At<String>>,
    pub(super) ha1_sha256: Option<At<String>>,
    pub(super) algorithm: Option<At<String>>,
}

/// `[[sip.peer]]`
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) name: Option<At<String>>,
    pub(super) uri: Option<At<String>>,
    pub(super) uris: Option<At<Vec<At<String>>>>,
    pub(super) sources: Option<At<Vec<At<String>>>>,
    pub(super) probe: Option<At<String>>,
    pub(super) probe_failures: Option<At<i64>>,
    pub(super) max_calls: Option<At<i64>>,
    pub(super) max_bandwidth: Option<At<i64>>,
    pub(super) tls_name: Option<At<String>>,
    pub(super) assert_identity: Option<At<bool>>,
    pub(super) register: Option<At<String>>,
    pub(super) register_by: Option<At<String>>,
    pub(super) register_expires: Option<At<String>>,
    pub(super) routes: Option<At<Vec<At<String>>>>,
}

/// `[[network]]`
#[derive(Debug)]
pub(super) struct Network {
    pub(super) at: Span,
    pub(super) name: Option<At<String>>,
    pub(super) interface: Option<At<String>>,
    pub(super) address: Option<At<String>>,
    pub(super) advertise: Option<At<String>>,
    pub(super) advertise_media: Option<At<String>>,
    pub(super) peers: Option<At<Vec<At<String>>>>,
    pub(super) source_rewriting_gateways: Option<At<Vec<At<String>>>>,
    pub(super) media_ports: Option<At<String>>,
    pub(super) advertise_ports: Option<At<String>>,
    pub(super) nat: Option<At<String>>,
    pub(super) keepalive: Option<At<String>>,
    pub(super) keepalive_interval: Option<At<String>>,
    pub(super) media: Option<At<String>>,
    pub(super) media_from: Option<At<String>>,
    pub(super) media_senders: Option<At<Vec<At<String>>>>,
    pub(super) ice: Option<At<String>>,
    pub(super) address_change: Option<At<String>>,
    pub(super) dscp: Option<At<i64>>,
    pub(super) hop_limit: Option<At<i64>>,
    pub(super) max_calls: Option<At<i64>>,
    pub(super) max_bandwidth: Option<At<i64>>,
}

/// `[datapath]`
#[derive(Debug, Default)]
pub(super) struct Datapath {
    pub(super) mode: Option<At<String>>,
    pub(super) xdp: Option<At<String>>,
    pub(super) object: Option<At<String>>,
    pub(super) pin_dir: Option<At<String>>,
    pub(super) flows: Option<At<i64>>,
    pub(super) media_timeout: Option<At<String>>,
}

/// `[store]`
#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) path: Option<At<String>>,
    pub(super) sync: Option<At<String>>,
}

/// `[cascade]`
#[derive(Debug, Default)]
pub(super) struct Cascade {
    /// The section's header; empty if there is none.
    pub(super) at: Span,
    pub(super) listen: Option<At<Vec<At<String>>>>,
    pub(super) certificate: Option<At<String>>,
    pub(super) key: Option<At<String>>,
    pub(super) ca: Option<At<String>>,
    pub(super) upper: Option<At<String>>,
    pub(super) token_file: Option<At<String>>,
    pub(super) deadline: Option<At<String>>,
    pub(super) lowers: Vec<CascadeLower>,
}

/// `[[cascade.lower]]`
#[derive(Debug)]
pub(super) struct CascadeLower {
    pub(super) at: Span,
    pub(super) id: Option<At<String>>,
    pub(super) token_sha256: Option<At<String>>,
    pub(super) tls_name: Option<At<String>>,
}

/// The whole file.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) node: Node,
    pub(super) sip: Sip,
    pub(super) networks: Vec<Network>,
    pub(super) datapath: Datapath,
    pub(super) store: Store,
    pub(super) conference: Conference,
    pub(super) api: api::Api,
    pub(super) log: api::Log,
    pub(super) trace: trace::Trace,
    pub(super) mqtt: Mqtt,
    pub(super) cascade: Cascade,
    /// Where each of it stands.
    pub(super) origins: Origins,
}

/// Every section and its keys. The example file and the handbook are tested against it.
pub(super) const KEYS: [(&str, &[&str]); 21] = [
    ("node", &["id", "state_dir", "socket", "watch"]),
    (
        "sip",
        &[
            "domain",
            "listen",
            "auth",
            "algorithm",
            "dns",
            "expires_min",
            "expires_max",
            "expires_natted_max",
            "address_grace",
            "shards",
        ],
    ),
    (
        "sip.tcp",
        &["idle", "connections", "connections_per_source"],
    ),
    ("sip.tls", &["certificate", "key", "ca", "verify"]),
    (
        "sip.protection",
        &[
            "source_rate",
            "account_rate",
            "ban_after",
            "ban_window",
            "ban_time",
            "exempt",
            "scanners",
        ],
    ),
    (
        "sip.account",
        &[
            "user",
            "password",
            "password_file",
            "ha1_md5",
            "ha1_sha256",
            "algorithm",
        ],
    ),
    (
        "sip.peer",
        &[
            "name",
            "uri",
            "uris",
            "tls_name",
            "sources",
            "probe",
            "probe_failures",
            "max_calls",
            "max_bandwidth",
            "assert_identity",
            "register",
            "register_by",
            "register_expires",
            "routes",
        ],
    ),
    (
        "network",
        &[
            "name",
            "interface",
            "address",
            "advertise",
            "advertise_media",
            "peers",
            "source_rewriting_gateways",
            "media_ports",
            "advertise_ports",
            "nat",
            "keepalive",
            "keepalive_interval",
            "media",
            "media_from",
            "media_senders",
            "ice",
            "address_change",
            "dscp",
            "hop_limit",
            "max_calls",
            "max_bandwidth",
        ],
    ),
    (
        "datapath",
        &["mode", "xdp", "object", "pin_dir", "flows", "media_timeout"],
    ),
    ("store", &["path", "sync"]),
    ("conference", &["uris", "chairs", "share", "view_hook"]),
    (
        "conference.floor",
        &[
            "id",
            "policy",
            "max_holders",
            "max_queue",
            "grant_ttl",
            "request_ttl",
            "priority",
            "preempt",
        ],
    ),
    ("api", &["listen", "plaintext", "metrics", "rate"]),
    ("api.tls", &["certificate", "key"]),
    ("log", &["format", "level"]),
    ("trace", trace::TRACE_KEYS),
    ("mqtt", MQTT_KEYS),
    ("mqtt.tls", &["certificate", "key"]),
    ("mqtt.broker", BROKER_KEYS),
    (
        "cascade",
        &[
            "listen",
            "certificate",
            "key",
            "ca",
            "upper",
            "token_file",
            "deadline",
        ],
    ),
    ("cascade.lower", &["id", "token_sha256", "tls_name"]),
];

/// A larger text is refused unread.
pub const TEXT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Entries of one list or array of tables.
pub const ENTRIES_MAX: usize = 65_536;

impl File {
    /// Reads the text; values that cannot be read are reported and left out. None if it is not
    /// TOML: what else would be said about it follows from that alone.
    pub(super) fn read(text: &str, problems: &mut Problems<'_>) -> Option<Self> {
        if text.len() > TEXT_BYTES_MAX {
            let message = format!("the file is larger than {TEXT_BYTES_MAX} bytes");
            problems.add(&(0..0), "", message, "is this the right file?");
            return None;
        }
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            let help = "see https://toml.io for how TOML is written";
            problems.add(&span, "", error.message(), help);
        }
        if !problems.none() {
            return None;
        }
        let root = Table {
            section: "",
            at: 0..0,
            table: root.get_ref(),
        };
        let origins = Origins::read(text, problems.file(), root.table);
        root.refuse_unknown(
            &[
                "node",
                "sip",
                "network",
                "datapath",
                "store",
                "conference",
                "api",
                "log",
                "trace",
                "mqtt",
                "cascade",
            ],
            problems,
        );
        Some(Self {
            node: root.table("node", problems, Node::read),
            sip: root.table("sip", problems, Sip::read),
            networks: root.tables("network", problems, Network::read),
            datapath: root.table("datapath", problems, Datapath::read),
            store: root.table("store", problems, Store::read),
            conference: root.table("conference", problems, Conference::read),
            api: root.table("api", problems, api::Api::read),
            log: root.table("log", problems, api::Log::read),
            trace: root.table("trace", problems, trace::Trace::read),
            mqtt: root.table("mqtt", problems, Mqtt::read),
            cascade: root.table("cascade", problems, Cascade::read),
            origins,
        })
    }
}

impl Node {
    fn read(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Self {
        Self {
            id: table.text("id", problems),
            state_dir: table.text("state_dir", problems),
            socket: table.text("socket", problems),
            watch: table.boolean("watch", problems),
        }
    }
}

impl Sip {
    fn read(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Self {
        Self {
            at: table.at.clone(),
            domain: table.text("domain", problems),
            listen: table.texts("listen", problems),
            auth: table.text("auth", problems),
            algorithm: table.text("algorithm", problems),
            dns: table.texts("dns", problems),
            expires_min: table.text("expires_min", problems),
            expires_max: table.text("expires_max", problems),
            expires_natted_max: table.text("expires_natted_max", problems),
            address_grace: table.text("address_grace", problems),
            shards: table.integer("shards", problems),
            tcp: table.table("tcp", problems, Tcp::read),
            tls: table.table("tls", problems, Tls::read),
            accounts: table.tables("account", problems, Account::read),
            peers: table.tables("peer", problems, Peer::read),
            protection: table.table("protection", problems, Protection::read),
        }
    }
}

impl Protection {
    fn read(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Self {
        Self {
            source_rate: table.integer("source_rate", problems),
            account_rate: table.integer("account_rate", problems),
            ban_after: table.integer("ban_after", problems),
            ban_window: table.text("ban_window", problems),
            ban_time: table.text("ban_time", problems),
            exempt: table.texts("exempt", problems),
            scanners: table.texts("scanners", problems),
        }
    }
}

impl Tcp {
    fn read(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Self {
        Self {
            idle: table.text("idle", problems),
            connections: table.integer("connections", problems),
            connections_per_source: table.integer("connections_per_source", problems),
        }
    }
}

impl Tls {
    fn read(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Self {
        Self {
            at: table.at.clone(),
            certificate: table.text("certificate", problems),
            key: table.text("key", problems),
            ca: table.text("ca", problems),
            verify: table.text("verify", problems),
        }
    }
}

impl Account {
    fn read(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Self {
        Self {
            at: table.at.clone(),
            user: table.required("user", problems),
            password: table.text("password", problems),
            password_file: table.text("password_file", problems),
            ha1_md5: table.text("ha1_md5", problems),
            ha1_sha256: table.text("ha1_sha256", problems),
            algorithm: table.text("algorithm", problems),
        }
    }
}

impl Peer {
    fn read(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Self {
        Self {
            name: table.required("name", problems),
            uri: table.required("uri", problems),
            uris: table.texts("uris", problems),
            sources: table.texts("sources", problems),
            probe: table.text("probe", problems),
            probe_failures: table.integer("probe_failures", problems),
            max_calls: table.integer("max_calls", problems),
            max_bandwidth: table.integer("max_bandwidth", problems),
            tls_name: table.text("tls_name", problems),
            assert_identity: table.boolean("assert_identity", problems),
            register: table.text("register", problems),
            register_by: table.text("register_by", problems),
            register_expires: table.text("register_expires", problems),
            routes: table.texts("routes", problems),
        }
    }
}

impl Network {
    fn read(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Self {
        Self {
            at: table.at.clone(),
            name: table.required("name", problems),
            interface: table.required("interface", problems),
            address: table.text("address", problems),
            advertise: table.text("advertise", problems),
            advertise_media: table.text("advertise_media", problems),
            peers: table.texts("peers", problems),
            source_rewriting_gateways: table.texts("source_rewriting_gateways", problems),
            media_ports: table.text("media_ports", problems),
            advertise_ports: table.text("advertise_ports", problems),
            nat: table.text("nat", problems),
            keepalive: table.text("keepalive", problems),
            keepalive_interval: table.text("keepalive_interval", problems),
            media: table.text("media", problems),
            media_from: table.text("media_from", problems),
            media_senders: table.texts("media_senders", problems),
            ice: table.text("ice", problems),
            address_change: table.text("address_change", problems),
            dscp: table.integer("dscp", problems),
            hop_limit: table.integer("hop_limit", problems),
            max_calls: table.integer("max_calls", problems),
            max_bandwidth: table.integer("max_bandwidth", problems),
        }
    }
}

impl Datapath {
    fn read(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Self {
        Self {
            mode: table.text("mode", problems),
            xdp: table.text("xdp", problems),
            object: table.text("object", problems),
            pin_dir: table.text("pin_dir", problems),
            flows: table.integer("flows", problems),
            media_timeout: table.text("media_timeout", problems),
        }
    }
}

impl Cascade {
    fn read(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Self {
        Self {
            at: table.at.clone(),
            listen: table.texts("listen", problems),
            certificate: table.text("certificate", problems),
            key: table.text("key", problems),
            ca: table.text("ca", problems),
            upper: table.text("upper", problems),
            token_file: table.text("token_file", problems),
            deadline: table.text("deadline", problems),
            lowers: table.tables("lower", problems, CascadeLower::read),
        }
    }
}

impl CascadeLower {
    fn read(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Self {
        Self {
            at: table.at.clone(),
            id: table.required("id", problems),
            token_sha256: table.text("token_sha256", problems),
            tls_name: table.text("tls_name", problems),
        }
    }
}

impl Store {
    fn read(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Self {
        Self {
            path: table.text("path", problems),
            sync: table.text("sync", problems),
        }
    }
}
