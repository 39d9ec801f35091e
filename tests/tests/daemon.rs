//! The running daemon as operators and their programs see it: documents, tables, metrics, signals,
//! exit codes. Needs no root: media goes through userspace in a private network.

#![allow(clippy::panic, reason = "helpers of tests fail the test")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]
#![allow(
    clippy::indexing_slicing,
    reason = "an index that is wrong fails the test"
)]

use std::collections::BTreeSet;
use std::fs;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use towpath_tests::private::{in_private_network, ip};
use towpath_tests::{clock, http, metrics, process, schema};
use wire::Wire;

#[path = "daemon/api.rs"]
mod api;
#[path = "daemon/broker.rs"]
mod broker;
#[path = "daemon/cascade.rs"]
mod cascade;
#[path = "daemon/conference.rs"]
mod conference;
#[path = "daemon/dns.rs"]
mod dns;
#[path = "daemon/drain.rs"]
mod drain;
#[path = "daemon/explain.rs"]
mod explain;
#[path = "daemon/files.rs"]
mod files;
#[path = "daemon/keys.rs"]
mod keys;
#[path = "daemon/printed.rs"]
mod printed;
#[path = "daemon/protection.rs"]
mod protection;
#[path = "daemon/reload.rs"]
mod reload;
#[path = "daemon/restart.rs"]
mod restart;
#[path = "daemon/shards.rs"]
mod shards;
#[path = "daemon/store.rs"]
mod store;
#[path = "daemon/stream.rs"]
mod stream;
#[path = "daemon/top.rs"]
mod top;
#[path = "daemon/trace.rs"]
mod trace;
#[path = "daemon/transport.rs"]
mod transport;
#[path = "daemon/watchdog.rs"]
mod watchdog;
#[path = "daemon/wire.rs"]
mod wire;
#[path = "daemon/wrong.rs"]
mod wrong;

const LIMIT: Duration = Duration::from_secs(10);

/// The daemon's addresses and, on the loopback interface, two phones'.
const LINKS: &str = "link add eth1 type veth peer name eth2\nlink set eth1 up\nlink set eth2 up\n\
                     address add 10.0.0.3/24 dev eth1\naddress add 10.0.1.3/24 dev eth1\n\
                     address add 10.0.0.20/32 dev lo\naddress add 10.0.1.20/32 dev lo";

/// `DIRECTORY` is the daemon's own.
const CONFIG: &str = r#"[node]
state_dir = "DIRECTORY"

[sip]
domain = "example.com"
auth = "none"

[[network]]
name = "lan"
interface = "eth1"
address = "10.0.0.3"
peers = ["10.0.0.0/24"]

[[network]]
name = "wan"
interface = "eth1"
address = "10.0.1.3"
peers = ["10.0.1.0/24"]
media_ports = "30000-39999"

[datapath]
mode = "userspace"
"#;

#[test]
fn documents_keep_their_shape_and_orders_are_carried_out() {
    in_private_network(
        "documents_keep_their_shape_and_orders_are_carried_out",
        || {
            ip(LINKS)?;
            let daemon = Daemon::with("documents", &format!("{CONFIG}{PEER}"));
            let caller = Phone::register(&daemon, "1001", "10.0.0.20", "10.0.0.3");
            let callee = Phone::register(&daemon, "1002", "10.0.1.20", "10.0.1.3");
            let call = caller.call(&callee);
            call.speak();
            let number = daemon.call();
            for (document, path) in [
                ("status", "status"),
                ("calls", "calls"),
                ("top", "top?n=1&sort=age_s&order=asc&q=1001"),
                ("call", &*format!("calls/{number}")),
                ("call-explain", &*format!("calls/{number}/explain")),
                ("registrations", "registrations"),
                ("registration", "registrations/1001@example.com"),
                (
                    "registration-explain",
                    "registrations/1001@example.com/explain",
                ),
                ("events", "events?since=1"),
                ("networks", "networks"),
                ("network-explain", "networks/explain?ip=10.0.0.20"),
                ("peers", "peers"),
            ] {
                daemon.documented(document, path);
            }
            shown(&daemon);
            let text = daemon.metrics();
            parse_metrics(&text);
            for line in [
                "towpath_calls{state=\"answered\"} 1",
                "towpath_registrations 2",
                "towpath_flows{path=\"user\"} 4",
                "towpath_port_pairs_in_use{network=\"lan\"} 1",
                "towpath_network_up{network=\"wan\"} 1",
                "towpath_peer_up{peer=\"mcu\"} 1",
                "towpath_xdp_attached{interface=\"eth1\"} 0",
                "towpath_user_packets_total{result=\"send_failed\"} 0",
            ] {
                assert!(text.lines().any(|l| l == line), "{line}\n{text}");
            }
            ordered(&daemon, &call);
            probed(&daemon);
            Ok(())
        },
    )
    .unwrap();
}

/// What the tables say while the call is up.
fn shown(daemon: &Daemon) {
    let (code, status) = daemon.ask(&["status", "-v"]);
    assert_eq!(code, 0, "{status}");
    assert!(status.starts_with("state          OK\nnode           towpath, "));
    assert!(status.contains("\nkernel path    off: datapath.mode = \"userspace\"\n"));
    assert!(status.contains("\ncalls          1, 1 of them answered\n"));
    assert!(
        status.contains("\n  sip_request.INVITE         1\n"),
        "{status}"
    );
    let (code, calls) = daemon.ask(&["call", "list"]);
    assert_eq!(code, 0);
    let row = columns(calls.lines().nth(1).unwrap());
    let number = daemon.call();
    assert_eq!(
        row[..4],
        [&*number, "1001", "1002", "established"],
        "{calls}"
    );
    assert_eq!(row[5..], ["lan", "→", "wan", "4", "user"], "{calls}");
    let (code, call) = daemon.ask(&["call", "show", &number]);
    assert_eq!(code, 0);
    let head = format!("call {number}: 1001 → 1002, established for ");
    assert!(call.starts_with(&head), "{call}");
    let path = "  path             the daemon: the kernel path is off\n";
    assert_eq!(call.matches(path).count(), 4, "{call}");
    let (_, lines) = daemon.ask(&["reg", "list", "-o", "jsonl"]);
    let users: Vec<String> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["aor"].to_string())
        .collect();
    assert_eq!(users, ["\"1001@example.com\"", "\"1002@example.com\""]);
    let (_, networks) = daemon.ask(&["network", "list"]);
    let wan = networks.split("\n\n").nth(1).unwrap();
    let expected = "wan on eth1: 10.0.1.3";
    assert!(wan.starts_with(expected), "{networks}");
    for line in [
        "  is told      10.0.1.3\n",
        "  media        10.0.1.3, ports 30000-39999 (ours 30000-39999), mode auto\n",
        "  peers        10.0.1.0/24\n",
        "  port pairs   1 in use, 0 resting, 4999 free\n",
        "  used by      1 registration, 1 call\n",
        "  seen         1 peer from 10.0.1.20",
    ] {
        assert!(wan.contains(line), "{line}{networks}");
    }
}

fn columns(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// Changes the call and ends it, then a registration.
fn ordered(daemon: &Daemon, call: &Call<'_>) {
    let answer = |code: i32, text: &str| (code, text.to_owned());
    explain::overridden(daemon);
    let number = daemon.call();
    assert_eq!(
        daemon.ask(&["call", "refresh", &number]),
        answer(0, &format!("call {number}: both parties are told\n"))
    );
    call.caller.receive("INVITE sip:1001@");
    assert_eq!(
        daemon.ask(&["call", "kill", &number]),
        answer(0, &format!("call {number}: ended\n"))
    );
    for phone in [call.caller, call.callee] {
        let bye = phone.receive("BYE sip:");
        phone.answer(&bye, "200 OK", "");
    }
    let gone = answer(
        1,
        &format!(
            "error: call {number}: no such call, or it ended; `towpath call list` shows those \
             that go on\n"
        ),
    );
    assert_eq!(daemon.ask(&["call", "kill", &number]), gone);
    assert_eq!(daemon.ask(&["call", "list"]), answer(0, "no calls\n"));
    let dropped = answer(0, "1001@example.com: no longer registered\n");
    assert_eq!(daemon.ask(&["reg", "drop", "1001@example.com"]), dropped);
    let gone = answer(
        1,
        "error: 1001@example.com: nobody is registered under this name; `towpath reg list` shows \
         who is (user@domain)\n",
    );
    assert_eq!(daemon.ask(&["reg", "drop", "1001@example.com"]), gone);
    let odd = answer(
        1,
        "error: a/b c@d?e: nobody is registered under this name; `towpath reg list` shows \
         who is (user@domain)\n",
    );
    assert_eq!(daemon.ask(&["reg", "drop", "a/b c@d?e"]), odd);
}

/// A peer where nobody is.
const PEER: &str = r#"
[[sip.peer]]
name = "mcu"
uri = "sip:10.0.0.77"
uris = ["sip:10.0.0.78:5070;weight=2"]
probe_failures = 1
"#;

fn probed(daemon: &Daemon) {
    let answer = |code: i32, text: &str| (code, text.to_owned());
    let (code, list) = daemon.ask(&["peer", "list"]);
    assert_eq!(code, 0, "{list}");
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = list.lines().skip(1).map(words).collect();
    assert_eq!(
        lines,
        [
            "mcu 10.0.0.77:5060 udp 0 1 0 unknown - - -",
            "mcu 10.0.0.78:5070 udp 1 2 0 unknown - - -",
        ]
    );
    let asked = answer(0, "mcu: asked\n");
    assert_eq!(daemon.ask(&["peer", "probe", "mcu"]), asked);
    let line = "towpath_events_total{what=\"peer\",which=\"probed\"} 2";
    let text = daemon.metrics();
    assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    let nobody = "error: peer x: no [[sip.peer]] has this name; `towpath peer list` shows them\n";
    assert_eq!(daemon.ask(&["peer", "probe", "x"]), answer(1, nobody));
    let down = || {
        let text = daemon.metrics();
        let down = text.lines().any(|l| l == "towpath_peer_up{peer=\"mcu\"} 0");
        Ok(down.then_some(()))
    };
    clock::until("nobody answers at the peer", LIMIT, down).unwrap();
}

#[test]
fn signals_and_health() {
    in_private_network("signals_and_health", || {
        ip(LINKS)?;
        let mut daemon = Daemon::start("signals");
        daemon.reloads("SIGHUP: the configuration is the one that runs");

        // A second one is refused before it touches anything.
        let (code, told) = daemon.ask(&["run", "--config", "/dev/null"]);
        assert_eq!(code, 78);
        assert!(told.contains("there is no [[network]]"), "{told}");
        daemon.configure(CONFIG);
        let config = daemon.directory.join("towpath.toml");
        let (code, told) = daemon.ask(&["run", "--config", config.to_str().unwrap()]);
        assert_eq!(code, 69);
        assert!(told.contains("another towpath is running"), "{told}");

        let warned = |(code, text): (i32, String), expected: i32, warning: &str| {
            assert_eq!(code, expected, "{text}");
            assert!(text.contains(warning), "{text}");
        };
        ip("address del 10.0.1.3/24 dev eth1")?;
        let missing = "warning        network wan: 10.0.1.3 is not on eth1 any more\n";
        daemon.becomes(1);
        warned(daemon.ask(&["status"]), 1, missing);
        ip("link del eth1")?;
        daemon.becomes(2);
        let gone = "warning        network lan: interface eth1 is gone\n";
        warned(daemon.ask(&["status"]), 2, gone);

        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.told(), "STOPPING=1");
        let status = clock::until("the daemon to end", LIMIT, || {
            Ok(daemon.child.try_wait()?)
        });
        assert!(status?.success());
        assert!(!daemon.socket().exists());
        assert_eq!(daemon.ask(&["status"]).0, 3);
        Ok(())
    })
    .unwrap();
}

/// Checks the text format: every series belongs to the family announced above it.
fn parse_metrics(text: &str) {
    let documented = metrics::documented();
    let mut families = BTreeSet::new();
    let mut family = String::new();
    let (mut typed, mut distributed) = (false, false);
    let mut counted = false;
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').unwrap();
            assert!(
                name.starts_with("towpath_") && words.ends_with('.'),
                "{line}"
            );
            assert!(families.insert(name.to_owned()), "{name} twice");
            (family, typed) = (name.to_owned(), false);
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(name, family);
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            (typed, distributed) = (true, kind == "histogram");
            counted = kind == "counter";
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let known = documented.get(family.strip_prefix("towpath_").unwrap());
            let known = known.unwrap_or_else(|| panic!("not in docs/metrics.md: {family}"));
            for label in labels
                .split("\",")
                .filter_map(|pair| Some(pair.split_once('=')?.0))
            {
                assert!(
                    label == "le" || known.contains_key(label),
                    "{line}: {label}"
                );
            }
            assert!(
                known.keys().all(|label| labels.contains(label)),
                "{line}: {known:?}"
            );
            let part = name.strip_prefix(&family);
            assert!(typed, "{line}");
            if distributed {
                assert!(
                    matches!(part, Some("_bucket" | "_sum" | "_count")),
                    "{line}"
                );
                assert!(value.parse::<f64>().is_ok(), "{line}");
            } else {
                assert_eq!(part, Some(""), "{line}");
                // Seconds are fractions; what is counted is whole.
                let whole = value.parse::<u64>().is_ok();
                let fraction = value.contains('.') && value.parse::<f64>().is_ok();
                assert!(whole || (!counted && fraction), "{line}");
            }
        }
    }
    assert!(families.len() >= 10, "{families:?}");
}

/// A daemon in this private network; killed on drop.
struct Daemon {
    directory: PathBuf,
    notify: UnixDatagram,
    child: Child,
}

impl Daemon {
    /// Starts it and waits until it tells the service manager that it is ready.
    fn start(name: &str) -> Self {
        Self::with(name, CONFIG)
    }

    fn with(name: &str, config: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("towpath-{name}-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let config = config.replace("DIRECTORY", directory.to_str().unwrap());
        fs::write(directory.join("towpath.toml"), config).unwrap();
        let notify = UnixDatagram::bind(directory.join("notify")).unwrap();
        notify.set_read_timeout(Some(LIMIT)).unwrap();
        let log = fs::File::create(directory.join("log")).unwrap();
        let child = spawn(&directory, log).spawn().unwrap();
        let daemon = Self {
            directory,
            notify,
            child,
        };
        assert_eq!(daemon.told(), "READY=1");
        daemon
    }

    /// Ends it and starts it anew.
    fn restart(&mut self) {
        self.signal(Signal::SIGTERM);
        assert_eq!(self.told(), "STOPPING=1");
        assert!(self.child.wait().unwrap().success());
        let log = fs::File::options()
            .append(true)
            .open(self.directory.join("log"));
        self.child = spawn(&self.directory, log.unwrap()).spawn().unwrap();
        assert_eq!(self.told(), "READY=1");
    }

    /// Kills it, lets `meanwhile` happen, and starts it anew.
    fn kill(&mut self, meanwhile: impl FnOnce(&Path)) {
        self.signal(Signal::SIGKILL);
        self.child.wait().unwrap();
        meanwhile(&self.directory);
        // A killed daemon leaves its socket.
        let log = fs::File::options()
            .append(true)
            .open(self.directory.join("log"));
        self.child = spawn(&self.directory, log.unwrap()).spawn().unwrap();
        assert_eq!(self.told(), "READY=1");
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("socket")
    }

    /// What it tells the service manager next.
    fn told(&self) -> String {
        let mut buffer = [0; 64];
        let length = self.notify.recv(&mut buffer).unwrap_or_else(|e| {
            panic!("{e}\n{}", self.log());
        });
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap()
    }

    fn configure(&self, text: &str) {
        let text = text.replace("DIRECTORY", self.directory.to_str().unwrap());
        fs::write(self.directory.join("towpath.toml"), text).unwrap();
    }

    fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(id, signal).unwrap();
    }

    /// SIGHUP is survived, told to the service manager, and answered in the log.
    fn reloads(&mut self, expected: &str) {
        self.signal(Signal::SIGHUP);
        let told = self.told();
        assert!(told.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{told}");
        assert_eq!(self.told(), "READY=1");
        clock::until(expected, LIMIT, || {
            assert!(self.child.try_wait()?.is_none(), "{}", self.log());
            Ok(self.log().contains(expected).then_some(()))
        })
        .unwrap();
    }

    /// Waits until `status` exits with this code.
    fn becomes(&self, code: i32) {
        let ask = || Ok((self.ask(&["status"]).0 == code).then_some(()));
        clock::until(&format!("status {code}"), LIMIT, ask).unwrap();
    }

    /// Runs another command against it: exit code, and what it prints.
    fn ask(&self, arguments: &[&str]) -> (i32, String) {
        let output = Command::new(process::binary().unwrap())
            .args(arguments)
            .arg("--socket")
            .arg(self.socket())
            .env("TOWPATH_LOG", "off")
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code().unwrap(),
            String::from_utf8(text).unwrap(),
        )
    }

    /// The document has the shape that is written down; returns it.
    #[track_caller]
    fn documented(&self, document: &str, path: &str) -> Value {
        let found = http::get(&self.socket(), &format!("/api/v1/{path}")).unwrap();
        let schema = format!(
            "{}/vectors/api/{document}.schema",
            env!("CARGO_MANIFEST_DIR")
        );
        let schema = fs::read_to_string(schema).unwrap();
        let differences = schema::differences(&schema, &found);
        assert!(
            differences.is_empty(),
            "{document}: {differences:#?}\n{found:#}"
        );
        found
    }

    /// The number of the only call: which it has is its engine's business.
    fn call(&self) -> String {
        let calls = http::get(&self.socket(), "/api/v1/calls").unwrap();
        assert_eq!(calls["calls"].as_array().unwrap().len(), 1, "{calls:#}");
        calls["calls"][0]["id"].to_string()
    }

    fn metrics(&self) -> String {
        http::text(&self.socket(), "/metrics").unwrap()
    }
}

fn spawn(directory: &Path, log: fs::File) -> Command {
    let mut command = Command::new(process::binary().unwrap());
    command
        .args(["run", "--config", "towpath.toml", "--socket", "socket"])
        .current_dir(directory)
        .env("NOTIFY_SOCKET", directory.join("notify"))
        .env_remove("TOWPATH_LOG")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    command
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        // It may have ended already; then there is nothing to kill.
        drop(self.child.kill());
        drop(self.child.wait());
        drop(fs::remove_dir_all(&self.directory));
    }
}

/// A phone of few words: one wire for SIP, one socket for audio.
struct Phone {
    user: &'static str,
    host: &'static str,
    sip: Wire,
    audio: UdpSocket,
}

/// An established call.
struct Call<'p> {
    caller: &'p Phone,
    callee: &'p Phone,
    /// Where the caller was told to send its audio.
    to: std::net::SocketAddr,
}

const CRLF: &str = "\r\n";

impl Phone {
    fn register(_: &Daemon, user: &'static str, host: &'static str, registrar: &str) -> Self {
        let sip = bind(host, 5070);
        sip.connect((registrar, 5060)).unwrap();
        Self::over(Wire::Udp(sip), user, host)
    }

    /// Registers by a wire of its own.
    fn over(sip: Wire, user: &'static str, host: &'static str) -> Self {
        let audio = bind(host, 6000);
        let phone = Self {
            user,
            host,
            sip,
            audio,
        };
        phone.registers(1);
        phone
    }

    fn registers(&self, cseq: u32) {
        let more = "Expires: 600\r\n";
        self.request("REGISTER", "sip:example.com", self.user, cseq, more, "");
        self.receive("SIP/2.0 200");
    }

    /// Sends a request; `more` is further header lines.
    fn request(&self, method: &str, uri: &str, to: &str, cseq: u32, more: &str, body: &str) {
        let user = self.user;
        let lines = [
            format!("{method} {uri} SIP/2.0"),
            format!("Via: {}", self.via(&format!("{method}{cseq}{user}"))),
            "Max-Forwards: 70".to_owned(),
            format!("From: <sip:{user}@example.com>;tag=f{user}"),
            format!("To: <sip:{to}@example.com>"),
            format!("Call-ID: {method}-{user}"),
            format!("CSeq: {cseq} {method}"),
            format!("Contact: {}", self.contact()),
        ];
        self.send(&lines.join(CRLF), more, body);
    }

    fn via(&self, branch: &str) -> String {
        let (transport, host) = (self.sip.transport(), self.host);
        format!("SIP/2.0/{transport} {host}:5070;branch=z9hG4bK{branch}")
    }

    fn contact(&self) -> String {
        let (user, host, param) = (self.user, self.host, self.sip.param());
        format!("<sip:{user}@{host}:5070{param}>")
    }

    fn send(&self, head: &str, more: &str, body: &str) {
        let length = body.len();
        let message = format!("{head}\r\n{more}Content-Length: {length}\r\n\r\n{body}");
        self.sip.send(message.as_bytes());
    }

    /// The next message that begins like this; others are skipped.
    fn receive(&self, begins: &str) -> String {
        loop {
            let message = self.sip.receive();
            if message.starts_with(begins) {
                return message;
            }
        }
    }

    fn answer(&self, request: &str, status: &str, body: &str) {
        let tag = if header(request, "To:").contains("tag=") {
            ""
        } else {
            ";tag=t1"
        };
        let vias: String = request
            .lines()
            .filter(|line| line.starts_with("Via:"))
            .map(|line| format!("{line}\r\n"))
            .collect();
        let lines = [
            format!("SIP/2.0 {status}"),
            format!("{vias}From:{}", header(request, "From:")),
            format!("To:{}{tag}", header(request, "To:")),
            format!("Call-ID:{}", header(request, "Call-ID:")),
            format!("CSeq:{}", header(request, "CSeq:")),
            format!("Contact: {}", self.contact()),
        ];
        let more = if body.is_empty() { "" } else { SDP_TYPE };
        self.send(&lines.join(CRLF), more, body);
    }

    fn sdp(&self) -> String {
        let host = self.host;
        format!(
            "v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n\
             m=audio 6000 RTP/AVP 0\r\n"
        )
    }

    fn call<'p>(&'p self, callee: &'p Self) -> Call<'p> {
        let uri = format!("sip:{}@example.com", callee.user);
        self.request("INVITE", &uri, callee.user, 1, SDP_TYPE, &self.sdp());
        let invite = callee.receive("INVITE ");
        callee.answer(&invite, "200 OK", &callee.sdp());
        let answer = self.receive("SIP/2.0 200");
        let contact = header(&answer, "Contact:");
        let target = contact.trim().trim_matches(['<', '>']);
        let lines = [
            format!("ACK {target} SIP/2.0"),
            format!("Via: {}", self.via("ack")),
            "Max-Forwards: 70".to_owned(),
            format!("From:{}", header(&answer, "From:")),
            format!("To:{}", header(&answer, "To:")),
            format!("Call-ID:{}", header(&answer, "Call-ID:")),
            "CSeq: 1 ACK".to_owned(),
        ];
        self.send(&lines.join(CRLF), "", "");
        callee.receive("ACK ");
        let word = |line: &str, n: usize| line.split(' ').nth(n).unwrap().trim().to_owned();
        let at = word(answer.lines().find(|l| l.starts_with("c=")).unwrap(), 2);
        let port = word(answer.lines().find(|l| l.starts_with("m=")).unwrap(), 1);
        Call {
            caller: self,
            callee,
            to: format!("{at}:{port}").parse().unwrap(),
        }
    }
}

fn bind(host: &str, port: u16) -> UdpSocket {
    let socket = UdpSocket::bind((host, port)).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket
}

impl Call<'_> {
    /// One packet of audio arrives at the other party.
    fn speak(&self) {
        let mut packet = [0x55; 172];
        packet[..2].copy_from_slice(&[0x80, 0]);
        self.caller.audio.send_to(&packet, self.to).unwrap();
        let mut buffer = [0; 200];
        let length = self.callee.audio.recv(&mut buffer).unwrap();
        assert_eq!(buffer[..length], packet);
    }
}

const SDP_TYPE: &str = "Content-Type: application/sdp\r\n";

/// What stands after a header's name.
fn header<'m>(message: &'m str, name: &str) -> &'m str {
    let line = message.lines().find(|line| line.starts_with(name));
    line.unwrap_or_else(|| panic!("no {name} in\n{message}"))
        .split_at(name.len())
        .1
}
