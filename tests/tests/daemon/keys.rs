//! Every key of the configuration is changed under a daemon that runs: it is in force, or refused,
//! as the handbook declares.

use control::config::change::{TAKES, Takes};

use towpath_tests::pki::Authority;

use super::*;

/// Every key written once; `FIRST` and `SECOND` are password files.
const EVERY_KEY: &str = r#"[node]
id = "edge"
state_dir = "DIRECTORY"
socket = "/run/towpath.sock"
watch = false
[sip]
domain = "example.com"
listen = ["udp:0.0.0.0:5060", "tls:0.0.0.0:5061"]
auth = "digest"
algorithm = "md5"
dns = []
expires_min = "60s"
expires_max = "1h"
expires_natted_max = "60s"
address_grace = "1h"
shards = 2
[sip.tcp]
idle = "65m"
connections = 16384
connections_per_source = 512
[sip.tls]
certificate = "PKI/one.pem"
key = "PKI/one.key"
ca = "PKI/ca.pem"
verify = "none"
[sip.protection]
source_rate = 100
account_rate = 5
ban_after = 20
ban_window = "60s"
ban_time = "10m"
exempt = []
scanners = []
[[sip.account]]
user = "1001"
password = "hunter2"
[[sip.account]]
user = "1002"
ha1_sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
[[sip.account]]
user = "1004"
ha1_md5 = "00000000000000000000000000000000"
[[sip.account]]
user = "1003"
password_file = "FIRST"
algorithm = "sha256"
[[sip.peer]]
name = "mcu"
uri = "sips:10.0.0.20"
uris = []
tls_name = "mcu.example.com"
sources = []
probe = "0s"
probe_failures = 3
max_calls = 30
max_bandwidth = 60000
assert_identity = false
register = "forward"
register_by = "contact"
register_expires = "1h"
routes = ["8???"]
[[network]]
name = "lan"
interface = "eth1"
address = "10.0.0.3"
advertise = "10.0.0.3"
advertise_media = "10.0.0.3"
peers = ["10.0.0.0/8"]
source_rewriting_gateways = []
media_ports = "20000-29999"
advertise_ports = "20000-29999"
nat = "auto"
keepalive = "crlf"
keepalive_interval = "25s"
media = "sdp"
media_from = "signalling"
media_senders = []
ice = "strip"
address_change = "ignore"
dscp = 34
hop_limit = 64
max_calls = 200
max_bandwidth = 400000
[datapath]
mode = "userspace"
xdp = "native"
object = "/relay.o"
pin_dir = "/sys/fs/bpf/towpath"
flows = 65536
media_timeout = "60s"
[store]
path = "state.redb"
sync = "before"
[conference]
uris = ["8*"]
chairs = ["1000"]
share = ["core-01"]
view_hook = "http://10.0.0.20/views"
[[conference.floor]]
id = "audio"
policy = "fifo"
max_holders = 1
max_queue = 32
grant_ttl = "0s"
request_ttl = "60s"
priority = 2
preempt = false
[api]
listen = ["127.0.0.1:8080"]
plaintext = false
metrics = "token"
rate = 100
[api.tls]
certificate = "PKI/one.pem"
key = "PKI/one.key"
[log]
format = "text"
level = "info"
[trace]
ladder = true
calls = 1000
hep = "udp:127.0.0.1:9"
hep_id = 1
hep_password_file = "FIRST"
hep_secrets = false
[mqtt]
mode = "external"
url = "mqtts://127.0.0.1:9"
listen = ["tcp:0.0.0.0:1883"]
topics = []
legacy_address_fields = ["/server/ip"]
clients = 4096
queue_messages = 1000
queue_bytes = 1048576
filters = 100
retained_bytes = 67108864
session_expiry = "1h"
[mqtt.tls]
certificate = "PKI/more.pem"
key = "PKI/two.key"
[mqtt.broker]
user = "towpath"
password_file = "FIRST"
ca = "PKI/more.pem"
certificate = "PKI/one.pem"
key = "PKI/one.key"
outbox_messages = 65536
outbox_bytes = 67108864
[cascade]
listen = ["tls:10.0.0.3:8443"]
certificate = "PKI/more.pem"
key = "PKI/two.key"
ca = "PKI/one.pem"
upper = "https://10.0.0.20:8443"
token_file = "TOKEN"
deadline = "3s"
[[cascade.lower]]
id = "edge-02"
token_sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
tls_name = "edge-02.example.com"
"#;

/// Another value for each, and the value that is in force then, by its key with names.
const OTHERS: &[(&str, &str, &str, &str)] = &[
    ("node.id", "\"other\"", "node.id", "other"),
    ("node.state_dir", "\"/tmp\"", "node.state_dir", "/tmp"),
    // The command line overrules it.
    ("node.socket", "\"/run/b.sock\"", "node.socket", "socket"),
    ("node.watch", "true", "node.watch", "true"),
    ("sip.domain", "\"example.net\"", "sip.domain", "example.net"),
    (
        "sip.listen",
        "[\"udp:10.0.0.3:5070\", \"tls:10.0.0.3:5061\"]",
        "sip.listen",
        "[\"udp:10.0.0.3:5070\",\"tls:10.0.0.3:5061\"]",
    ),
    ("sip.auth", "\"none\"", "sip.auth", "none"),
    ("sip.algorithm", "\"sha256\"", "sip.algorithm", "sha256"),
    (
        "sip.dns",
        "[\"10.0.0.53\"]",
        "sip.dns",
        "[\"10.0.0.53:53\"]",
    ),
    ("sip.expires_min", "\"30s\"", "sip.expires_min", "30s"),
    ("sip.expires_max", "\"2h\"", "sip.expires_max", "2h"),
    (
        "sip.expires_natted_max",
        "\"2m\"",
        "sip.expires_natted_max",
        "2m",
    ),
    ("sip.address_grace", "\"2h\"", "sip.address_grace", "2h"),
    ("sip.shards", "3", "sip.shards", "3"),
    ("sip.tcp.idle", "\"5m\"", "sip.tcp.idle", "5m"),
    ("sip.tcp.connections", "100", "sip.tcp.connections", "100"),
    (
        "sip.tcp.connections_per_source",
        "10",
        "sip.tcp.connections_per_source",
        "10",
    ),
    // The same, with more behind it: another file.
    (
        "sip.tls.certificate",
        "\"PKI/more.pem\"",
        "sip.tls.certificate",
        "MORE",
    ),
    ("sip.tls.key", "\"PKI/two.key\"", "sip.tls.key", "TWO"),
    ("sip.tls.ca", "\"PKI/one.pem\"", "sip.tls.ca", "ONE"),
    ("sip.tls.verify", "\"all\"", "sip.tls.verify", "all"),
    (
        "sip.protection.source_rate",
        "50",
        "sip.protection.source_rate",
        "50",
    ),
    (
        "sip.protection.account_rate",
        "9",
        "sip.protection.account_rate",
        "9",
    ),
    (
        "sip.protection.ban_after",
        "0",
        "sip.protection.ban_after",
        "0",
    ),
    (
        "sip.protection.ban_window",
        "\"30s\"",
        "sip.protection.ban_window",
        "30s",
    ),
    (
        "sip.protection.ban_time",
        "\"1h\"",
        "sip.protection.ban_time",
        "1h",
    ),
    (
        "sip.protection.exempt",
        "[\"10.0.0.0/24\"]",
        "sip.protection.exempt",
        "[\"10.0.0.0/24\"]",
    ),
    (
        "sip.protection.scanners",
        "[\"evilphone\"]",
        "sip.protection.scanners",
        "[\"evilphone\"]",
    ),
    (
        "sip.account.user",
        "\"1009\"",
        "sip.account.1009.password",
        "…",
    ),
    (
        "sip.account.password",
        "\"other\"",
        "sip.account.1001.password",
        "…",
    ),
    (
        "sip.account.password_file",
        "\"SECOND\"",
        "sip.account.1003.password",
        "…",
    ),
    (
        "sip.account.ha1_md5",
        "\"11111111111111111111111111111111\"",
        "sip.account.1004.ha1_md5",
        "…",
    ),
    (
        "sip.account.ha1_sha256",
        "\"1111111111111111111111111111111111111111111111111111111111111111\"",
        "sip.account.1002.ha1_sha256",
        "…",
    ),
    (
        "sip.account.algorithm",
        "\"md5\"",
        "sip.account.1003.algorithm",
        "md5",
    ),
    (
        "sip.peer.name",
        "\"room\"",
        "sip.peer.room.uri",
        "sip:10.0.0.20:5061;transport=tls",
    ),
    (
        "sip.peer.uri",
        "\"sips:10.0.0.21\"",
        "sip.peer.mcu.uri",
        "sip:10.0.0.21:5061;transport=tls",
    ),
    (
        "sip.peer.uris",
        "[\"sip:10.0.0.22\"]",
        "sip.peer.mcu.uris",
        "[\"sip:10.0.0.22:5060;priority=1;weight=1\"]",
    ),
    (
        "sip.peer.tls_name",
        "\"room.example.com\"",
        "sip.peer.mcu.tls_name",
        "room.example.com",
    ),
    (
        "sip.peer.sources",
        "[\"10.0.0.24/29\"]",
        "sip.peer.mcu.sources",
        "[\"10.0.0.24/29\"]",
    ),
    ("sip.peer.probe", "\"30s\"", "sip.peer.mcu.probe", "30s"),
    (
        "sip.peer.probe_failures",
        "5",
        "sip.peer.mcu.probe_failures",
        "5",
    ),
    ("sip.peer.max_calls", "40", "sip.peer.mcu.max_calls", "40"),
    (
        "sip.peer.max_bandwidth",
        "80000",
        "sip.peer.mcu.max_bandwidth",
        "80000",
    ),
    (
        "sip.peer.assert_identity",
        "true",
        "sip.peer.mcu.assert_identity",
        "true",
    ),
    (
        "sip.peer.register",
        "'forward'",
        "sip.peer.mcu.register",
        "forward",
    ),
    (
        "sip.peer.register_by",
        "\"path\"",
        "sip.peer.mcu.register_by",
        "path",
    ),
    (
        "sip.peer.register_expires",
        "\"2h\"",
        "sip.peer.mcu.register_expires",
        "2h",
    ),
    (
        "sip.peer.routes",
        "[\"9*\"]",
        "sip.peer.mcu.routes",
        "[\"9*\"]",
    ),
    (
        "network.name",
        "\"office\"",
        "network.office.address",
        "10.0.0.3",
    ),
    (
        "network.interface",
        "\"eth2\"",
        "network.lan.interface",
        "eth2",
    ),
    (
        "network.address",
        "\"10.0.1.3\"",
        "network.lan.address",
        "10.0.1.3",
    ),
    (
        "network.advertise",
        "\"192.0.2.1:5070\"",
        "network.lan.advertise",
        "192.0.2.1:5070",
    ),
    (
        "network.advertise_media",
        "\"192.0.2.2\"",
        "network.lan.advertise_media",
        "192.0.2.2",
    ),
    (
        "network.peers",
        "[\"10.0.0.0/9\"]",
        "network.lan.peers",
        "[\"10.0.0.0/9\"]",
    ),
    (
        "network.source_rewriting_gateways",
        "[\"10.0.0.1\"]",
        "network.lan.source_rewriting_gateways",
        "[\"10.0.0.1\"]",
    ),
    (
        "network.media_ports",
        "\"30000-39999\"",
        "network.lan.media_ports",
        "30000-39999",
    ),
    (
        "network.advertise_ports",
        "\"40000-49999\"",
        "network.lan.advertise_ports",
        "40000-49999",
    ),
    ("network.nat", "\"never\"", "network.lan.nat", "never"),
    (
        "network.keepalive",
        "\"options\"",
        "network.lan.keepalive",
        "options",
    ),
    (
        "network.keepalive_interval",
        "\"40s\"",
        "network.lan.keepalive_interval",
        "40s",
    ),
    ("network.media", "\"auto\"", "network.lan.media", "auto"),
    (
        "network.media_from",
        "\"subnet\"",
        "network.lan.media_from",
        "subnet",
    ),
    (
        "network.media_senders",
        "[\"10.1.0.0/16\"]",
        "network.lan.media_senders",
        "[\"10.1.0.0/16\"]",
    ),
    ("network.ice", "\"pass\"", "network.lan.ice", "pass"),
    (
        "network.address_change",
        "\"drop\"",
        "network.lan.address_change",
        "drop",
    ),
    ("network.dscp", "46", "network.lan.dscp", "46"),
    ("network.hop_limit", "32", "network.lan.hop_limit", "32"),
    ("network.max_calls", "300", "network.lan.max_calls", "300"),
    (
        "network.max_bandwidth",
        "500000",
        "network.lan.max_bandwidth",
        "500000",
    ),
    ("datapath.mode", "\"auto\"", "datapath.mode", "auto"),
    ("datapath.xdp", "\"generic\"", "datapath.xdp", "generic"),
    ("datapath.object", "\"/b.o\"", "datapath.object", "/b.o"),
    (
        "datapath.pin_dir",
        "\"/sys/b\"",
        "datapath.pin_dir",
        "/sys/b",
    ),
    ("datapath.flows", "64", "datapath.flows", "64"),
    (
        "datapath.media_timeout",
        "\"30s\"",
        "datapath.media_timeout",
        "30s",
    ),
    ("store.path", "\"/b.redb\"", "store.path", "/b.redb"),
    ("store.sync", "\"behind\"", "store.sync", "behind"),
    ("conference.uris", "[\"9*\"]", "conference.uris", "[\"9*\"]"),
    (
        "conference.chairs",
        "[\"1001\"]",
        "conference.chairs",
        "[\"1001\"]",
    ),
    (
        "conference.share",
        "[\"core-02\"]",
        "conference.share",
        "[\"core-02\"]",
    ),
    (
        "conference.view_hook",
        "\"http://10.0.0.9/\"",
        "conference.view_hook",
        "http://10.0.0.9/",
    ),
    (
        "conference.floor.id",
        "\"slides\"",
        "conference.floor.slides.policy",
        "fifo",
    ),
    (
        "conference.floor.policy",
        "\"chair\"",
        "conference.floor.audio.policy",
        "chair",
    ),
    (
        "conference.floor.max_holders",
        "2",
        "conference.floor.audio.max_holders",
        "2",
    ),
    (
        "conference.floor.max_queue",
        "0",
        "conference.floor.audio.max_queue",
        "0",
    ),
    (
        "conference.floor.grant_ttl",
        "\"5m\"",
        "conference.floor.audio.grant_ttl",
        "5m",
    ),
    (
        "conference.floor.request_ttl",
        "\"5m\"",
        "conference.floor.audio.request_ttl",
        "5m",
    ),
    (
        "conference.floor.priority",
        "4",
        "conference.floor.audio.priority",
        "4",
    ),
    (
        "conference.floor.preempt",
        "true",
        "conference.floor.audio.preempt",
        "true",
    ),
    (
        "api.listen",
        "[\"127.0.0.1:8081\", \"[::1]:8080\"]",
        "api.listen",
        "[\"127.0.0.1:8081\",\"[::1]:8080\"]",
    ),
    ("api.plaintext", "true", "api.plaintext", "true"),
    ("api.metrics", "\"open\"", "api.metrics", "open"),
    ("api.rate", "0", "api.rate", "0"),
    (
        "api.tls.certificate",
        "\"PKI/more.pem\"",
        "api.tls.certificate",
        "MORE",
    ),
    ("api.tls.key", "\"PKI/two.key\"", "api.tls.key", "TWO"),
    ("log.format", "\"json\"", "log.format", "json"),
    ("log.level", "\"warn\"", "log.level", "warn"),
    ("trace.ladder", "false", "trace.ladder", "false"),
    ("trace.calls", "10", "trace.calls", "10"),
    ("trace.hep", "\"udp:[::1]:9\"", "trace.hep", "udp:[::1]:9"),
    ("trace.hep_id", "7", "trace.hep_id", "7"),
    (
        "trace.hep_password_file",
        "\"SECOND\"",
        "trace.hep_password_file",
        "…",
    ),
    ("trace.hep_secrets", "true", "trace.hep_secrets", "true"),
    ("mqtt.mode", "\"embedded\"", "mqtt.mode", "embedded"),
    (
        "mqtt.url",
        "\"mqtts://[::1]\"",
        "mqtt.url",
        "mqtts://[::1]:8883",
    ),
    (
        "mqtt.listen",
        "[\"tls:10.0.0.3:8883\"]",
        "mqtt.listen",
        "[\"tls:10.0.0.3:8883\"]",
    ),
    ("mqtt.topics", "[\"room/#\"]", "mqtt.topics", "[\"room/#\"]"),
    (
        "mqtt.legacy_address_fields",
        "[\"/serverIp\"]",
        "mqtt.legacy_address_fields",
        "[\"/serverIp\"]",
    ),
    ("mqtt.clients", "10", "mqtt.clients", "10"),
    ("mqtt.queue_messages", "10", "mqtt.queue_messages", "10"),
    ("mqtt.queue_bytes", "100000", "mqtt.queue_bytes", "100000"),
    ("mqtt.filters", "10", "mqtt.filters", "10"),
    (
        "mqtt.retained_bytes",
        "100000",
        "mqtt.retained_bytes",
        "100000",
    ),
    (
        "mqtt.session_expiry",
        "\"30m\"",
        "mqtt.session_expiry",
        "30m",
    ),
    (
        "mqtt.tls.certificate",
        "\"PKI/one.pem\"",
        "mqtt.tls.certificate",
        "ONE",
    ),
    ("mqtt.tls.key", "\"PKI/one.key\"", "mqtt.tls.key", "KEY"),
    ("mqtt.broker.user", "\"t\"", "mqtt.broker.user", "t"),
    (
        "mqtt.broker.password_file",
        "\"SECOND\"",
        "mqtt.broker.password_file",
        "…",
    ),
    ("mqtt.broker.ca", "\"PKI/one.pem\"", "mqtt.broker.ca", "ONE"),
    (
        "mqtt.broker.certificate",
        "\"PKI/more.pem\"",
        "mqtt.broker.certificate",
        "MORE",
    ),
    (
        "mqtt.broker.key",
        "\"PKI/two.key\"",
        "mqtt.broker.key",
        "TWO",
    ),
    (
        "mqtt.broker.outbox_messages",
        "10",
        "mqtt.broker.outbox_messages",
        "10",
    ),
    (
        "mqtt.broker.outbox_bytes",
        "2000000",
        "mqtt.broker.outbox_bytes",
        "2000000",
    ),
    (
        "cascade.listen",
        "[\"tcp:10.0.0.3:8444\"]",
        "cascade.listen",
        "",
    ),
    (
        "cascade.certificate",
        "\"PKI/one.pem\"",
        "cascade.certificate",
        "",
    ),
    ("cascade.key", "\"PKI/one.key\"", "cascade.key", ""),
    ("cascade.ca", "\"PKI/ca.pem\"", "cascade.ca", ""),
    (
        "cascade.upper",
        "\"https://10.0.0.21:8443\"",
        "cascade.upper",
        "",
    ),
    ("cascade.token_file", "\"OTHER\"", "cascade.token_file", ""),
    ("cascade.deadline", "\"2s\"", "cascade.deadline", ""),
    (
        "cascade.lower.id",
        "\"edge-03\"",
        "cascade.lower.edge-02.tls_name",
        "",
    ),
    (
        "cascade.lower.token_sha256",
        "\"1111111111111111111111111111111111111111111111111111111111111111\"",
        "cascade.lower.edge-02.token_sha256",
        "",
    ),
    (
        "cascade.lower.tls_name",
        "\"edge.example.com\"",
        "cascade.lower.edge-02.tls_name",
        "",
    ),
];

#[test]
fn each_key_is_applied_or_refused_as_declared() {
    in_private_network("keys::each_key_is_applied_or_refused_as_declared", || {
        ip(LINKS)?;
        ip("address add 10.0.0.3/24 dev eth2")?;
        let secret = |name: &str, text: &str| -> String {
            let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
            fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let secrets = [
            secret("towpath-first", "a"),
            secret("towpath-second", "b"),
            secret("towpath-token", "0123456789abcdef"),
            secret("towpath-other", "fedcba9876543210"),
        ];
        let pki = Pki::new();
        let text = EVERY_KEY.replace("FIRST", &secrets[0]);
        let text = text.replace("TOKEN", &secrets[2]);
        let text = text.replace("PKI", pki.directory());
        let daemon = Daemon::with("keys", &text);
        let text = text.replace("DIRECTORY", daemon.directory.to_str().unwrap());
        for ((kind, takes), (tried, to, key, expected)) in TAKES.iter().zip(OTHERS) {
            assert_eq!(kind, tried);
            let (section, name) = kind.rsplit_once('.').unwrap();
            let at = text.find(&format!("[{section}]")).unwrap();
            let at = at + text[at..].find(&format!("\n{name} = ")).unwrap() + 1;
            let line = text[at..].lines().next().unwrap();
            let to = to.replace("SECOND", &secrets[1]);
            let to = to.replace("OTHER", &secrets[3]);
            let to = to.replace("PKI", pki.directory());
            let expected = &pki.shown(expected);
            let (front, back) = (&text[..at], &text[at + line.len()..]);
            let new = format!("{front}{name} = {to}{back}");
            let before = daemon.value(key);
            let answer = daemon.put(&new);
            let overruled = *kind == "node.socket";
            let value = daemon.value(key);
            let value = value.as_str().map_or(value.to_string(), str::to_owned);
            if *takes == Takes::Restart && !overruled {
                assert_eq!(
                    answer.body["code"], "takes_restart",
                    "{kind}: {:#}",
                    answer.body
                );
                assert_eq!(daemon.value(key), before, "{kind}");
                continue;
            }
            assert_eq!(
                (answer.status, value.as_str()),
                (200, expected.as_str()),
                "{kind}: {answer:#?}"
            );
            let word = |change: &Value| change["takes"].as_str().unwrap().to_owned();
            let changes = answer.body["changes"].as_array().unwrap();
            let drains = changes.iter().any(|change| word(change) == "drain");
            assert_eq!(drains, *takes == Takes::Drain, "{kind}: {:#}", answer.body);
            assert_eq!(daemon.put(&text).status, 200, "{kind}");
        }
        for path in secrets {
            fs::remove_file(path)?;
        }
        fs::remove_dir_all(pki.directory())?;
        Ok(())
    })
    .unwrap();
}

/// Certificates, their files in a directory.
struct Pki(String);

impl Pki {
    fn new() -> Self {
        let directory =
            std::env::temp_dir().join(format!("towpath-pki-keys-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let authority = Authority::new(&directory).unwrap();
        let one = authority.issue("one", "IP:10.0.0.3", 30).unwrap();
        let text = |path: &Path| fs::read_to_string(path).unwrap();
        let chain = text(&one.certificate) + &text(&authority.certificate());
        fs::write(directory.join("more.pem"), chain).unwrap();
        // The same key, and a comment.
        let key = format!("the edge's\n{}", text(&one.key));
        fs::write(directory.join("two.key"), key).unwrap();
        Self(directory.to_str().unwrap().to_owned())
    }

    fn directory(&self) -> &str {
        &self.0
    }

    /// A file's name, and as much of its digest as is shown.
    fn shown(&self, name: &str) -> String {
        let name = match name {
            "MORE" => "more.pem",
            "TWO" => "two.key",
            "ONE" => "one.pem",
            "KEY" => "one.key",
            other => return other.to_owned(),
        };
        let path = format!("{}/{name}", self.0);
        let output = Command::new("sha256sum").arg(&path).output().unwrap();
        let digest = String::from_utf8(output.stdout).unwrap();
        format!("{path} (SHA-256 {})", &digest[..8])
    }
}
