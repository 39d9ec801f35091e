use super::super::file::KEYS;
use super::*;
use crate::config::check::check as read;

/// Every key is written, so that every one can be changed.
const TEXT: &str = "[node]
id = 'edge'
state_dir = '/var/lib/towpath'
socket = '/run/towpath.sock'
watch = false
[sip]
domain = 'example.com'
listen = ['udp:0.0.0.0:5060', 'tls:0.0.0.0:5061']
auth = 'digest'
algorithm = 'md5'
dns = []
expires_min = '60s'
expires_max = '1h'
expires_natted_max = '60s'
address_grace = '1h'
shards = 2
[sip.tcp]
idle = '65m'
connections = 16384
connections_per_source = 512
[sip.tls]
certificate = 'old'
key = 'old'
ca = 'old'
verify = 'none'
[sip.protection]
source_rate = 100
account_rate = 5
ban_after = 20
ban_window = '60s'
ban_time = '10m'
exempt = []
scanners = []
[[sip.account]]
user = '1001'
password = 'hunter2'
[[sip.account]]
user = '1002'
ha1_sha256 = '0000000000000000000000000000000000000000000000000000000000000000'
[[sip.account]]
user = '1004'
ha1_md5 = '00000000000000000000000000000000'
[[sip.account]]
user = '1003'
password_file = 'old'
algorithm = 'sha256'
[[sip.peer]]
name = 'mcu'
uri = 'sip:10.0.0.20'
uris = []
sources = []
probe = '0s'
probe_failures = 3
max_calls = 30
max_bandwidth = 60000
assert_identity = false
register = 'forward'
register_by = 'contact'
register_expires = '1h'
routes = ['8???']
[[sip.peer]]
name = 'pbx'
uri = 'sip:10.0.0.30'
[[sip.peer]]
name = 'upper'
uri = 'sips:10.0.0.40'
tls_name = 'upper.example.com'
[[network]]
name = 'lan'
interface = 'eth1'
address = '10.0.0.3'
advertise = '10.0.0.3'
advertise_media = '10.0.0.3'
peers = ['10.0.0.0/8']
source_rewriting_gateways = []
media_ports = '20000-29999'
advertise_ports = '20000-29999'
nat = 'auto'
keepalive = 'crlf'
keepalive_interval = '25s'
media = 'sdp'
media_from = 'signalling'
media_senders = []
ice = 'strip'
address_change = 'reinvite'
dscp = 34
hop_limit = 64
max_calls = 200
max_bandwidth = 400000
[[network]]
name = 'wan'
interface = 'eth0'
address = '192.0.2.10'
[datapath]
mode = 'auto'
xdp = 'native'
object = '/relay.o'
pin_dir = '/sys/fs/bpf/towpath'
flows = 65536
media_timeout = '60s'
[store]
path = '/var/lib/towpath/state.redb'
sync = 'before'
[conference]
uris = ['8*']
chairs = ['1000']
share = ['core-01']
view_hook = 'http://10.0.0.20/views'
[[conference.floor]]
id = 'audio'
policy = 'fifo'
max_holders = 1
max_queue = 32
grant_ttl = '0s'
request_ttl = '60s'
priority = 2
preempt = false
[api]
listen = ['127.0.0.1:8080']
plaintext = false
metrics = 'token'
rate = 100
[api.tls]
certificate = 'old'
key = 'old'
[log]
format = 'text'
level = 'info,kernel=warn'
[trace]
ladder = true
calls = 1000
hep = 'udp:h:9060'
hep_id = 1
hep_password_file = 'old'
hep_secrets = false
[mqtt]
mode = 'embedded'
url = 'mqtts://broker:8883'
listen = ['tcp:0.0.0.0:1883']
topics = []
legacy_address_fields = ['/a']
clients = 4096
queue_messages = 1000
queue_bytes = 1048576
filters = 100
retained_bytes = 67108864
session_expiry = '1h'
[mqtt.tls]
certificate = 'new'
key = 'new'
[mqtt.broker]
user = 'a'
password_file = 'old'
ca = 'old'
certificate = 'old'
key = 'old'
outbox_messages = 65536
outbox_bytes = 67108864
[cascade]
listen = ['tls:10.0.0.3:8443']
certificate = './old'
key = '././old'
ca = './././old'
upper = 'https://core:8443'
token_file = 'token'
deadline = '3s'
[[cascade.lower]]
id = 'edge-02'
token_sha256 = '0000000000000000000000000000000000000000000000000000000000000000'
tls_name = 'edge-02.example.com'
";

fn config(text: &str) -> Config {
    let mut secrets = |path: &std::path::Path| match path.to_str() {
        Some("old" | "./old" | "././old" | "./././old") => Ok("first".to_owned()),
        Some("new") => Ok("second".to_owned()),
        Some("token") => Ok("0123456789abcdef".to_owned()),
        Some("other") => Ok("fedcba9876543210".to_owned()),
        _ => Err(std::io::ErrorKind::NotFound.into()),
    };
    read("t", text, None, &mut secrets).unwrap_or_else(|problems| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        panic!("{}", problems.join("\n"))
    })
}

/// 3 calls in `lan`, 5 in `wan`, 7 in all.
fn calls(concerns: Concerns<'_>) -> usize {
    match concerns {
        Concerns::Nobody => 0,
        Concerns::Network("lan") => 3,
        Concerns::Network("wan") => 5,
        Concerns::Network(_) => 100,
        Concerns::Everybody => 7,
    }
}

fn shown(changes: &[Change]) -> Vec<String> {
    let one = |c: &Change| {
        let (key, takes, old, new) = (&c.key, c.takes.word(), &c.old, &c.new);
        format!("{key} {takes} {old} -> {new} ({})", c.calls)
    };
    changes.iter().map(one).collect()
}

#[track_caller]
fn check(from: &str, to: &str, expected: &[&str]) {
    assert!(TEXT.contains(from), "{from}");
    let new = config(&TEXT.replacen(from, to, 1));
    assert_eq!(shown(&changes(&config(TEXT), &new, &calls)), expected);
}

/// Section, key, another value, and what is said.
const EACH: &[(&str, &str, &str, &str)] = &[
    (
        "node",
        "id",
        "'other'",
        "node.id restart \"edge\" -> \"other\" (7)",
    ),
    (
        "node",
        "state_dir",
        "'/srv'",
        "node.state_dir restart \"/var/lib/towpath\" -> \"/srv\" (7)",
    ),
    (
        "node",
        "socket",
        "'/s'",
        "node.socket restart \"/run/towpath.sock\" -> \"/s\" (7)",
    ),
    ("node", "watch", "true", "node.watch hot false -> true (0)"),
    (
        "sip",
        "domain",
        "'example.net'",
        "sip.domain restart \"example.com\" -> \"example.net\" (7)",
    ),
    (
        "sip",
        "listen",
        "['udp:0.0.0.0:5070', 'tls:0.0.0.0:5061']",
        "sip.listen hot [\"udp:10.0.0.3:5060\", \"udp:192.0.2.10:5060\", \
         \"tls:10.0.0.3:5061\", \"tls:192.0.2.10:5061\"] -> [\"udp:10.0.0.3:5070\", \
         \"udp:192.0.2.10:5070\", \"tls:10.0.0.3:5061\", \"tls:192.0.2.10:5061\"] (0)",
    ),
    (
        "sip",
        "auth",
        "'none'",
        "sip.auth hot \"digest\" -> \"none\" (0)",
    ),
    (
        "sip",
        "algorithm",
        "'sha256'",
        "sip.algorithm hot \"md5\" -> \"sha256\" (0)",
    ),
    (
        "sip",
        "dns",
        "['10.0.0.53']",
        "sip.dns hot [] -> [\"10.0.0.53:53\"] (0)",
    ),
    (
        "sip",
        "expires_min",
        "'90s'",
        "sip.expires_min hot \"1m\" -> \"90s\" (0)",
    ),
    (
        "sip",
        "expires_max",
        "'2h'",
        "sip.expires_max hot \"1h\" -> \"2h\" (0)",
    ),
    (
        "sip",
        "expires_natted_max",
        "'2m'",
        "sip.expires_natted_max hot \"1m\" -> \"2m\" (0)",
    ),
    (
        "sip",
        "address_grace",
        "'0s'",
        "sip.address_grace hot \"1h\" -> \"0s\" (0)",
    ),
    ("sip", "shards", "3", "sip.shards restart 2 -> 3 (7)"),
    (
        "sip.tcp",
        "idle",
        "'5m'",
        "sip.tcp.idle hot \"65m\" -> \"5m\" (0)",
    ),
    (
        "sip.tcp",
        "connections",
        "100",
        "sip.tcp.connections hot 16384 -> 100 (0)",
    ),
    (
        "sip.tcp",
        "connections_per_source",
        "10",
        "sip.tcp.connections_per_source hot 512 -> 10 (0)",
    ),
    (
        "sip.tls",
        "certificate",
        "'new'",
        "sip.tls.certificate hot \"old (SHA-256 a7937b64)\" -> \
         \"new (SHA-256 16367aac)\" (0)",
    ),
    (
        "sip.tls",
        "key",
        "'new'",
        "sip.tls.key hot \"old (SHA-256 a7937b64)\" -> \"new (SHA-256 16367aac)\" (0)",
    ),
    (
        "sip.tls",
        "ca",
        "'new'",
        "sip.tls.ca hot \"old (SHA-256 a7937b64)\" -> \"new (SHA-256 16367aac)\" (0)",
    ),
    (
        "sip.tls",
        "verify",
        "'peers'",
        "sip.tls.verify hot \"none\" -> \"peers\" (0)",
    ),
    (
        "sip.protection",
        "source_rate",
        "50",
        "sip.protection.source_rate hot 100 -> 50 (0)",
    ),
    (
        "sip.protection",
        "account_rate",
        "9",
        "sip.protection.account_rate hot 5 -> 9 (0)",
    ),
    (
        "sip.protection",
        "ban_after",
        "0",
        "sip.protection.ban_after hot 20 -> 0 (0)",
    ),
    (
        "sip.protection",
        "ban_window",
        "'30s'",
        "sip.protection.ban_window hot \"1m\" -> \"30s\" (0)",
    ),
    (
        "sip.protection",
        "ban_time",
        "'1h'",
        "sip.protection.ban_time hot \"10m\" -> \"1h\" (0)",
    ),
    (
        "sip.protection",
        "exempt",
        "['10.0.0.0/24']",
        "sip.protection.exempt hot [] -> [\"10.0.0.0/24\"] (0)",
    ),
    (
        "sip.protection",
        "scanners",
        "['evilphone']",
        "sip.protection.scanners hot [] -> [\"evilphone\"] (0)",
    ),
    (
        "sip.account",
        "user",
        "'1009'",
        "sip.account.1001 hot … -> - (0); sip.account.1009 hot - -> … (0)",
    ),
    (
        "sip.account",
        "password",
        "'hunter3'",
        "sip.account.1001.password hot … -> … (0)",
    ),
    (
        "sip.account",
        "password_file",
        "'new'",
        "sip.account.1003.password hot … -> … (0)",
    ),
    (
        "sip.account",
        "ha1_md5",
        "'11111111111111111111111111111111'",
        "sip.account.1004.ha1_md5 hot … -> … (0)",
    ),
    (
        "sip.account",
        "ha1_sha256",
        "'1111111111111111111111111111111111111111111111111111111111111111'",
        "sip.account.1002.ha1_sha256 hot … -> … (0)",
    ),
    (
        "sip.account",
        "algorithm",
        "'md5'",
        "sip.account.1003.algorithm hot \"sha256\" -> \"md5\" (0)",
    ),
    (
        "sip.peer",
        "name",
        "'room'",
        "sip.peer.mcu hot \"sip:10.0.0.20:5060\" -> - (0); \
         sip.peer.room hot - -> \"sip:10.0.0.20:5060\" (0)",
    ),
    (
        "sip.peer",
        "uri",
        "'sip:10.0.0.21'",
        "sip.peer.mcu.uri hot \"sip:10.0.0.20:5060\" -> \"sip:10.0.0.21:5060\" (0)",
    ),
    (
        "sip.peer",
        "uris",
        "['sip:10.0.0.22']",
        "sip.peer.mcu.uris hot [] -> [\"sip:10.0.0.22:5060;priority=1;weight=1\"] (0)",
    ),
    (
        "sip.peer",
        "tls_name",
        "'room.example.com'",
        "sip.peer.upper.tls_name hot \"upper.example.com\" -> \"room.example.com\" (0)",
    ),
    (
        "sip.peer",
        "sources",
        "['10.0.0.24/29']",
        "sip.peer.mcu.sources hot [] -> [\"10.0.0.24/29\"] (0)",
    ),
    (
        "sip.peer",
        "probe",
        "'30s'",
        "sip.peer.mcu.probe hot \"0s\" -> \"30s\" (0)",
    ),
    (
        "sip.peer",
        "probe_failures",
        "5",
        "sip.peer.mcu.probe_failures hot 3 -> 5 (0)",
    ),
    (
        "sip.peer",
        "max_calls",
        "40",
        "sip.peer.mcu.max_calls hot 30 -> 40 (0)",
    ),
    (
        "sip.peer",
        "max_bandwidth",
        "80000",
        "sip.peer.mcu.max_bandwidth hot 60000 -> 80000 (0)",
    ),
    (
        "sip.peer",
        "assert_identity",
        "true",
        "sip.peer.mcu.assert_identity hot false -> true (0)",
    ),
    ("sip.peer", "register", "'forward' #", ""),
    (
        "sip.peer",
        "register_by",
        "'path'",
        "sip.peer.mcu.register_by hot \"contact\" -> \"path\" (0)",
    ),
    (
        "sip.peer",
        "register_expires",
        "'2h'",
        "sip.peer.mcu.register_expires hot \"1h\" -> \"2h\" (0)",
    ),
    (
        "sip.peer",
        "routes",
        "['9*']",
        "sip.peer.mcu.routes hot [\"8???\"] -> [\"9*\"] (0)",
    ),
    (
        "network",
        "name",
        "'office'",
        "network.lan drain \"10.0.0.3 on eth1\" -> - (3); \
         network.office hot - -> \"10.0.0.3 on eth1\" (0)",
    ),
    (
        "network",
        "interface",
        "'eth2'",
        "network.lan.interface drain \"eth1\" -> \"eth2\" (3)",
    ),
    (
        "network",
        "address",
        "'10.0.0.4'",
        "sip.listen hot [\"udp:10.0.0.3:5060\", \"udp:192.0.2.10:5060\", \
         \"tls:10.0.0.3:5061\", \"tls:192.0.2.10:5061\"] -> \
         [\"udp:10.0.0.4:5060\", \"udp:192.0.2.10:5060\", \
         \"tls:10.0.0.4:5061\", \"tls:192.0.2.10:5061\"] (0); \
         network.lan.address drain \"10.0.0.3\" -> \"10.0.0.4\" (3)",
    ),
    (
        "network",
        "advertise",
        "'203.0.113.9:15060'",
        "network.lan.advertise hot \"10.0.0.3\" -> \"203.0.113.9:15060\" (3)",
    ),
    (
        "network",
        "advertise_media",
        "'203.0.113.9'",
        "network.lan.advertise_media hot \"10.0.0.3\" -> \"203.0.113.9\" (3)",
    ),
    (
        "network",
        "peers",
        "['10.0.0.0/16']",
        "network.lan.peers hot [\"10.0.0.0/8\"] -> [\"10.0.0.0/16\"] (3)",
    ),
    (
        "network",
        "source_rewriting_gateways",
        "['10.0.0.1']",
        "network.lan.source_rewriting_gateways hot [] -> [\"10.0.0.1\"] (3)",
    ),
    (
        "network",
        "media_ports",
        "'30000-39999'",
        "network.lan.media_ports drain \"20000-29999\" -> \"30000-39999\" (3)",
    ),
    (
        "network",
        "advertise_ports",
        "'40000-49999'",
        "network.lan.advertise_ports hot \"20000-29999\" -> \"40000-49999\" (3)",
    ),
    (
        "network",
        "nat",
        "'never'",
        "network.lan.nat hot \"auto\" -> \"never\" (3)",
    ),
    (
        "network",
        "keepalive",
        "'options'",
        "network.lan.keepalive hot \"crlf\" -> \"options\" (3)",
    ),
    (
        "network",
        "keepalive_interval",
        "'40s'",
        "network.lan.keepalive_interval hot \"25s\" -> \"40s\" (3)",
    ),
    (
        "network",
        "media",
        "'auto'",
        "network.lan.media drain \"sdp\" -> \"auto\" (3)",
    ),
    (
        "network",
        "media_from",
        "'subnet'",
        "network.lan.media_from drain \"signalling\" -> \"subnet\" (3)",
    ),
    (
        "network",
        "media_senders",
        "['10.1.0.0/16']",
        "network.lan.media_senders drain [] -> [\"10.1.0.0/16\"] (3)",
    ),
    (
        "network",
        "ice",
        "'pass'",
        "network.lan.ice drain \"strip\" -> \"pass\" (3)",
    ),
    (
        "network",
        "address_change",
        "'drop'",
        "network.lan.address_change hot \"reinvite\" -> \"drop\" (3)",
    ),
    (
        "network",
        "dscp",
        "46",
        "network.lan.dscp drain 34 -> 46 (3)",
    ),
    (
        "network",
        "hop_limit",
        "32",
        "network.lan.hop_limit drain 64 -> 32 (3)",
    ),
    (
        "network",
        "max_calls",
        "300",
        "network.lan.max_calls hot 200 -> 300 (3)",
    ),
    (
        "network",
        "max_bandwidth",
        "500000",
        "network.lan.max_bandwidth hot 400000 -> 500000 (3)",
    ),
    (
        "datapath",
        "mode",
        "'xdp'",
        "datapath.mode restart \"auto\" -> \"xdp\" (7)",
    ),
    (
        "datapath",
        "xdp",
        "'generic'",
        "datapath.xdp restart \"native\" -> \"generic\" (7)",
    ),
    (
        "datapath",
        "object",
        "'/other.o'",
        "datapath.object restart \"/relay.o\" -> \"/other.o\" (7)",
    ),
    (
        "datapath",
        "pin_dir",
        "'/sys/fs/bpf/b'",
        "datapath.pin_dir restart \"/sys/fs/bpf/towpath\" -> \"/sys/fs/bpf/b\" (7)",
    ),
    (
        "datapath",
        "flows",
        "64",
        "datapath.flows restart 65536 -> 64 (7)",
    ),
    (
        "datapath",
        "media_timeout",
        "'30s'",
        "datapath.media_timeout hot \"1m\" -> \"30s\" (7)",
    ),
    (
        "store",
        "path",
        "'other.redb'",
        "store.path restart \"/var/lib/towpath/state.redb\" -> \
         \"/var/lib/towpath/other.redb\" (7)",
    ),
    (
        "store",
        "sync",
        "'behind'",
        "store.sync hot \"before\" -> \"behind\" (0)",
    ),
    (
        "conference",
        "uris",
        "['9*']",
        "conference.uris hot [\"8*\"] -> [\"9*\"] (0)",
    ),
    (
        "conference",
        "chairs",
        "[]",
        "conference.chairs hot [\"1000\"] -> [] (0)",
    ),
    (
        "conference",
        "share",
        "[]",
        "conference.share hot [\"core-01\"] -> [] (0)",
    ),
    (
        "conference",
        "view_hook",
        "'http://b:81/'",
        "conference.view_hook hot \"http://10.0.0.20/views\" -> \
         \"http://b:81/\" (0)",
    ),
    (
        "conference.floor",
        "id",
        "'slides'",
        "conference.floor.audio hot \"fifo\" -> - (0); \
         conference.floor.slides hot - -> \"fifo\" (0)",
    ),
    (
        "conference.floor",
        "policy",
        "'chair'",
        "conference.floor.audio.policy hot \"fifo\" -> \"chair\" (0)",
    ),
    (
        "conference.floor",
        "max_holders",
        "2",
        "conference.floor.audio.max_holders hot 1 -> 2 (0)",
    ),
    (
        "conference.floor",
        "max_queue",
        "0",
        "conference.floor.audio.max_queue hot 32 -> 0 (0)",
    ),
    (
        "conference.floor",
        "grant_ttl",
        "'5m'",
        "conference.floor.audio.grant_ttl hot \"0s\" -> \"5m\" (0)",
    ),
    (
        "conference.floor",
        "request_ttl",
        "'5m'",
        "conference.floor.audio.request_ttl hot \"1m\" -> \"5m\" (0)",
    ),
    (
        "conference.floor",
        "priority",
        "4",
        "conference.floor.audio.priority hot 2 -> 4 (0)",
    ),
    (
        "conference.floor",
        "preempt",
        "true",
        "conference.floor.audio.preempt hot false -> true (0)",
    ),
    (
        "api",
        "listen",
        "['[::1]:8080']",
        "api.listen hot [\"127.0.0.1:8080\"] -> [\"[::1]:8080\"] (0)",
    ),
    (
        "api",
        "plaintext",
        "true",
        "api.plaintext hot false -> true (0)",
    ),
    (
        "api",
        "metrics",
        "'open'",
        "api.metrics hot \"token\" -> \"open\" (0)",
    ),
    ("api", "rate", "5", "api.rate hot 100 -> 5 (0)"),
    (
        "api.tls",
        "certificate",
        "'new'",
        "api.tls.certificate hot \"old (SHA-256 a7937b64)\" -> \"new (SHA-256 16367aac)\" (0)",
    ),
    (
        "api.tls",
        "key",
        "'new'",
        "api.tls.key hot \"old (SHA-256 a7937b64)\" -> \"new (SHA-256 16367aac)\" (0)",
    ),
    (
        "log",
        "format",
        "'json'",
        "log.format hot \"text\" -> \"json\" (0)",
    ),
    (
        "log",
        "level",
        "'debug'",
        "log.level hot \"info,kernel=warn\" -> \"debug\" (0)",
    ),
    (
        "trace",
        "ladder",
        "false",
        "trace.ladder hot true -> false (0)",
    ),
    ("trace", "calls", "10", "trace.calls hot 1000 -> 10 (0)"),
    (
        "trace",
        "hep",
        "'udp:[::1]:9060'",
        "trace.hep hot \"udp:h:9060\" -> \"udp:[::1]:9060\" (0)",
    ),
    ("trace", "hep_id", "2", "trace.hep_id hot 1 -> 2 (0)"),
    (
        "trace",
        "hep_password_file",
        "'new'",
        "trace.hep_password_file hot … -> … (0)",
    ),
    (
        "trace",
        "hep_secrets",
        "true",
        "trace.hep_secrets hot false -> true (0)",
    ),
    (
        "mqtt",
        "mode",
        "'external'",
        "mqtt.mode hot \"embedded\" -> \"external\" (0)",
    ),
    (
        "mqtt",
        "url",
        "'mqtts://[::1]'",
        "mqtt.url hot \"mqtts://broker:8883\" -> \"mqtts://[::1]:8883\" (0)",
    ),
    (
        "mqtt",
        "listen",
        "['tls:[::]:8883']",
        "mqtt.listen hot [\"tcp:0.0.0.0:1883\"] -> [\"tls:[::]:8883\"] (0)",
    ),
    (
        "mqtt",
        "topics",
        "['room/#']",
        "mqtt.topics hot [] -> [\"room/#\"] (0)",
    ),
    (
        "mqtt",
        "legacy_address_fields",
        "['/b']",
        "mqtt.legacy_address_fields hot [\"/a\"] -> [\"/b\"] (0)",
    ),
    ("mqtt", "clients", "5", "mqtt.clients hot 4096 -> 5 (0)"),
    (
        "mqtt",
        "queue_messages",
        "5",
        "mqtt.queue_messages hot 1000 -> 5 (0)",
    ),
    (
        "mqtt",
        "queue_bytes",
        "70000",
        "mqtt.queue_bytes hot 1048576 -> 70000 (0)",
    ),
    ("mqtt", "filters", "5", "mqtt.filters hot 100 -> 5 (0)"),
    (
        "mqtt",
        "retained_bytes",
        "70000",
        "mqtt.retained_bytes hot 67108864 -> 70000 (0)",
    ),
    (
        "mqtt",
        "session_expiry",
        "'5m'",
        "mqtt.session_expiry hot \"1h\" -> \"5m\" (0)",
    ),
    (
        "mqtt.tls",
        "certificate",
        "'old'",
        "mqtt.tls.certificate hot \"new (SHA-256 16367aac)\" -> \
         \"old (SHA-256 a7937b64)\" (0)",
    ),
    (
        "mqtt.tls",
        "key",
        "'old'",
        "mqtt.tls.key hot \"new (SHA-256 16367aac)\" -> \
         \"old (SHA-256 a7937b64)\" (0)",
    ),
    (
        "mqtt.broker",
        "user",
        "'b'",
        "mqtt.broker.user hot \"a\" -> \"b\" (0)",
    ),
    (
        "mqtt.broker",
        "password_file",
        "'new'",
        "mqtt.broker.password_file hot … -> … (0)",
    ),
    (
        "mqtt.broker",
        "ca",
        "'new'",
        "mqtt.broker.ca hot \"old (SHA-256 a7937b64)\" -> \
         \"new (SHA-256 16367aac)\" (0)",
    ),
    (
        "mqtt.broker",
        "certificate",
        "'new'",
        "mqtt.broker.certificate hot \"old (SHA-256 a7937b64)\" -> \
         \"new (SHA-256 16367aac)\" (0)",
    ),
    (
        "mqtt.broker",
        "key",
        "'new'",
        "mqtt.broker.key hot \"old (SHA-256 a7937b64)\" -> \
         \"new (SHA-256 16367aac)\" (0)",
    ),
    (
        "mqtt.broker",
        "outbox_messages",
        "5",
        "mqtt.broker.outbox_messages hot 65536 -> 5 (0)",
    ),
    (
        "mqtt.broker",
        "outbox_bytes",
        "1048576",
        "mqtt.broker.outbox_bytes hot 67108864 -> 1048576 (0)",
    ),
    (
        "cascade",
        "listen",
        "['tcp:10.0.0.3:8444']",
        "cascade.listen restart [\"tls:10.0.0.3:8443\"] -> [\"tcp:10.0.0.3:8444\"] (7)",
    ),
    (
        "cascade",
        "certificate",
        "'new'",
        "cascade.certificate restart \"./old (SHA-256 a7937b64)\" \
         -> \"new (SHA-256 16367aac)\" (7)",
    ),
    (
        "cascade",
        "key",
        "'new'",
        "cascade.key restart \"././old (SHA-256 a7937b64)\" -> \"new (SHA-256 16367aac)\" (7)",
    ),
    (
        "cascade",
        "ca",
        "'new'",
        "cascade.ca restart \"./././old (SHA-256 a7937b64)\" -> \"new (SHA-256 16367aac)\" (7)",
    ),
    (
        "cascade",
        "upper",
        "'http://other:8443'",
        "cascade.upper restart \"https://core:8443\" -> \"http://other:8443\" (7)",
    ),
    (
        "cascade",
        "token_file",
        "'other'",
        "cascade.token_file restart … -> … (7)",
    ),
    (
        "cascade",
        "deadline",
        "'2s'",
        "cascade.deadline restart \"3s\" -> \"2s\" (7)",
    ),
    (
        "cascade.lower",
        "id",
        "'edge-03'",
        "cascade.lower.edge-02 restart \"edge-02\" \
         -> - (7); cascade.lower.edge-03 restart - -> \"edge-03\" (7)",
    ),
    (
        "cascade.lower",
        "token_sha256",
        "'1111111111111111111111111111111111111111111111111111111111111111'",
        "cascade.lower.edge-02.token_sha256 restart … -> … (7)",
    ),
    (
        "cascade.lower",
        "tls_name",
        "'b.example.com'",
        "cascade.lower.edge-02.tls_name restart \"edge-02.example.com\" -> \"b.example.com\" (7)",
    ),
];

#[test]
fn each_key_says_what_it_takes() {
    for (section, key, to, expected) in EACH {
        let at = TEXT.find(&format!("[{section}]")).unwrap();
        let at = at + TEXT[at..].find(&format!("\n{key} = ")).unwrap() + 1;
        let line = TEXT[at..].lines().next().unwrap();
        let (before, after) = (&TEXT[..at], &TEXT[at + line.len()..]);
        let new = config(&format!("{before}{key} = {to}{after}"));
        let found = changes(&config(TEXT), &new, &calls);
        assert_eq!(shown(&found).join("; "), *expected, "{section}.{key}");
        // What is declared is what is done.
        let declared = takes(&format!("{section}.{key}"));
        let done = found.iter().map(|change| change.takes).max();
        assert_eq!(done.unwrap_or(declared), declared, "{section}.{key}");
    }
}

#[test]
fn every_key_of_the_file_is_declared_and_tried() {
    let keys: Vec<String> = KEYS
        .iter()
        .flat_map(|(section, keys)| keys.iter().map(move |key| format!("{section}.{key}")))
        .collect();
    let declared: Vec<&str> = TAKES.iter().map(|(key, _)| *key).collect();
    assert_eq!(keys, declared);
    let tried = EACH.iter();
    let tried: Vec<_> = tried
        .map(|(section, key, ..)| format!("{section}.{key}"))
        .collect();
    assert_eq!(keys, tried);
}

#[test]
fn the_handbook_says_the_same() {
    const HANDBOOK: &str = include_str!("../../../../docs/configuration.md");
    let mut section = "";
    let mut said = Vec::new();
    for line in HANDBOOK.lines() {
        if line.starts_with('#') {
            section = line.trim_matches(['#', ' ', '`', '[', ']']);
        } else if let Some((key, rest)) = line
            .strip_prefix("| `")
            .and_then(|line| line.split_once("` |"))
        {
            let takes = rest
                .trim_end_matches([' ', '|'])
                .rsplit("| ")
                .next()
                .unwrap();
            said.push((format!("{section}.{key}"), takes.to_owned()));
        }
    }
    let declared = TAKES.iter();
    let declared = declared.map(|(key, takes)| ((*key).to_owned(), takes.word().to_owned()));
    let declared: Vec<_> = declared.collect();
    assert_eq!(said, declared);
}

#[test]
fn networks_peers_and_accounts_are_known_by_name() {
    check("", "", &[]);
    let dmz = "[[network]]\nname = 'dmz'\ninterface = 'eth2'\naddress = '10.9.0.3'\n";
    check(
        "[[network]]\nname = 'lan'",
        &format!("{dmz}[[network]]\nname = 'lan'"),
        &[
            "sip.listen hot [\"udp:10.0.0.3:5060\", \"udp:192.0.2.10:5060\", \
             \"tls:10.0.0.3:5061\", \"tls:192.0.2.10:5061\"] -> \
             [\"udp:10.9.0.3:5060\", \"udp:10.0.0.3:5060\", \"udp:192.0.2.10:5060\", \
             \"tls:10.9.0.3:5061\", \"tls:10.0.0.3:5061\", \"tls:192.0.2.10:5061\"] (0)",
            "network.dmz hot - -> \"10.9.0.3 on eth2\" (0)",
        ],
    );
    let wan = "[[network]]\nname = 'wan'\ninterface = 'eth0'\naddress = '192.0.2.10'\n";
    check(
        wan,
        "",
        &[
            "sip.listen hot [\"udp:10.0.0.3:5060\", \"udp:192.0.2.10:5060\", \
             \"tls:10.0.0.3:5061\", \"tls:192.0.2.10:5061\"] -> \
             [\"udp:10.0.0.3:5060\", \"tls:10.0.0.3:5061\"] (0)",
            "network.wan drain \"192.0.2.10 on eth0\" -> - (5)",
        ],
    );
    // The order counts where two match.
    let pbx = "[[sip.peer]]\nname = 'pbx'\nuri = 'sip:10.0.0.30'\n";
    let swapped = TEXT.replacen(pbx, "", 1).replacen(
        "[[sip.peer]]\nname = 'mcu'",
        &format!("{pbx}[[sip.peer]]\nname = 'mcu'"),
        1,
    );
    let found = changes(&config(TEXT), &config(&swapped), &calls);
    let expected = ["sip.peer hot [\"mcu\", \"pbx\", \"upper\"] -> \
                    [\"pbx\", \"mcu\", \"upper\"] (0)"];
    assert_eq!(shown(&found), expected);
    check(
        "password = 'hunter2'",
        "ha1_sha256 = '2222222222222222222222222222222222222222222222222222222222222222'",
        &[
            "sip.account.1001.ha1_sha256 hot … -> … (0)",
            "sip.account.1001.algorithm hot - -> \"sha256\" (0)",
        ],
    );
}

#[test]
fn secrets_are_never_shown() {
    let old = config(TEXT);
    let new = config(&TEXT.replace("hunter2", "hunter3"));
    let all = format!("{:?} {:?}", old.entries(), changes(&old, &new, &calls));
    assert!(all.contains("sip.account.1001.password"), "{all}");
    for secret in ["hunter", "first", "00000000"] {
        assert!(!all.contains(secret), "{secret} in {all}");
    }
}
