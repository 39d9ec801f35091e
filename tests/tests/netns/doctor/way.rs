//! Ways to others, and to the disk: there, not there, refused, slow; and SIP that is rewritten.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use towpath_tests::clock;
use towpath_tests::lab::{Role, plan};
use towpath_tests::process::{self, Towpath};

use super::super::stage::{Config, Mode, Net};
use super::{CASE, Case, Patient};

/// Each write takes so long; the program that delays it stands before the doctor.
const SLOW_DISK: &[Case] = &[
    Case {
        name: "a disk that takes most of a second",
        under: "set -- strace -qq -f -o /dev/null -e trace=fdatasync \
                -e inject=fdatasync:delay_exit=700000 \"$@\"",
        finds: &[("store.path", "warn")],
        says: "phones repeat their REGISTER",
        ..CASE
    },
    Case {
        name: "a disk that takes more than a second",
        under: "set -- strace -qq -f -o /dev/null -e trace=fdatasync \
                -e inject=fdatasync:delay_exit=1300000 \"$@\"",
        finds: &[("store.path", "fail")],
        says: "iostat -x 1 5",
        ..CASE
    },
];

/// Somebody sends to a port of ours, as long as the case lasts.
const fn flooded(
    name: &'static str,
    does: &'static str,
    undoes: &'static str,
    says: &'static str,
) -> Case {
    Case {
        name,
        does,
        undoes,
        finds: &[("fw.live", "warn")],
        says,
        ..CASE
    }
}

const DROPPED: &[Case] = &[
    flooded(
        "a rule of nftables drops what comes from here",
        "nft 'add table inet f; add chain inet f in { type filter hook input priority 0; }; \
         add rule inet f in iifname lo udp dport 5060 counter drop'; \
         python3 -c 'import socket, time\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         for n in range(600): s.sendto(b\"x\", (\"203.0.113.10\", 5060)); time.sleep(0.01)' \
         </dev/null >/dev/null 2>&1 & echo $! > /tmp/towpath-flood.pid",
        "kill $(cat /tmp/towpath-flood.pid); rm /tmp/towpath-flood.pid; nft flush ruleset",
        "table inet f, chain in: iifname \"lo\" udp dport 5060 drop",
    ),
    flooded(
        "a program that does not read its socket",
        "python3 -c 'import socket, time\n\
         r = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); r.bind((\"127.0.0.1\", 9999))\n\
         r.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)\n\
         s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         for n in range(600): s.sendto(b\"x\" * 999, (\"127.0.0.1\", 9999)); time.sleep(0.01)' \
         </dev/null >/dev/null 2>&1 & echo $! > /tmp/towpath-flood.pid",
        "kill $(cat /tmp/towpath-flood.pid); rm /tmp/towpath-flood.pid",
        "UdpRcvbufErrors",
    ),
];

#[test]
fn a_slow_disk_and_what_is_dropped_now_are_named() {
    let patient = Patient::new();
    patient.all(SLOW_DISK);
    patient.all(DROPPED);
}

const BROKER: &str = "[mqtt]\nmode = \"external\"\nurl = \"mqtt://10.9.0.20:1883\"\n\
                      [mqtt.broker]\nuser = \"edge\"\npassword_file = \"broker.password\"\n\n";

/// mosquitto in the core network, with one account; ends on drop.
struct Broker(Child);

impl Broker {
    fn start(patient: &Patient) -> Self {
        let directory = patient.lab.directory("broker").unwrap();
        let (config, accounts) = (directory.join("m.conf"), directory.join("accounts"));
        let core = patient.lab.namespace(Role::Mcu).unwrap();
        let accounts = accounts.to_str().unwrap();
        let made = core.run("mosquitto_passwd", &["-b", "-c", accounts, "edge", "right"]);
        made.unwrap();
        let text = format!("listener 1883 10.9.0.20\npassword_file {accounts}\nuser root\n");
        std::fs::write(&config, text).unwrap();
        let mut command = core.command("mosquitto").unwrap();
        command.arg("-c").arg(&config);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let this = Self(command.spawn().unwrap());
        let open = || {
            let tried = || std::net::TcpStream::connect("10.9.0.20:1883").is_ok();
            Ok(core.enter(tried)?.then_some(()))
        };
        clock::until("the broker", Duration::from_secs(10), open).unwrap();
        this
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn password(patient: &Patient, word: &str) {
    let file = patient.file.with_file_name("broker.password");
    std::fs::write(file, word).unwrap();
}

#[test]
fn a_broker_that_cannot_be_used_is_named() {
    let patient = Patient::new();
    password(&patient, "right\n");
    let gone = Case {
        name: "no broker",
        config: |config| config.sip = BROKER,
        finds: &[("mqtt.path", "fail")],
        says: "mqtt://10.9.0.20:1883: ",
        ..CASE
    };
    patient.broken(&gone, &[]);
    let broker = Broker::start(&patient);
    let well = Case {
        name: "a broker that is well",
        finds: &[],
        says: "",
        ..gone
    };
    patient.broken(&well, &[]);
    password(&patient, "wrong\n");
    let refused = Case {
        name: "a broker that does not know us",
        says: "mosquitto_pub -h 10.9.0.20 -p 1883 -u edge -P PASSWORD",
        ..gone
    };
    patient.broken(&refused, &[]);
    drop(broker);
}

/// An upper server that takes its time; until it is dropped.
struct Upper {
    stop: Arc<AtomicBool>,
    at: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Upper {
    fn start(patient: &Patient, takes: Duration) -> Self {
        let at: SocketAddr = "10.9.0.20:8443".parse().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&stop);
        let open = move || {
            let socket = TcpListener::bind(at)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let serve = move |listener: TcpListener| {
            while !over.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => answer(&stream, takes),
                    Err(_) => clock::wait_until(clock::now() + Duration::from_millis(5)),
                }
            }
        };
        let core = patient.lab.namespace(Role::Mcu).unwrap();
        let thread = Some(core.spawn("upper", open, serve).unwrap());
        Self { stop, at, thread }
    }
}

/// Every request of one connection, each after its time.
fn answer(stream: &std::net::TcpStream, takes: Duration) {
    stream.set_nonblocking(false).unwrap();
    let patience = Some(Duration::from_secs(2));
    stream.set_read_timeout(patience).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut stream = stream;
    while let Some(Ok(line)) = lines.next() {
        if !line.is_empty() {
            continue;
        }
        clock::wait_until(clock::now() + takes);
        let body = "{\"v\":1,\"sid\":\"core\",\"boot\":\"0000000000000001\",\"oldest\":0}\n";
        let length = body.len();
        let text = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
        if stream.write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}

impl Drop for Upper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

#[test]
fn an_upper_server_that_is_not_there_or_late_is_named() {
    let patient = Patient::new();
    assert_eq!(plan::ip(plan::MCU_V4), "10.9.0.20");
    password(&patient, "0123456789abcdef0123\n");
    let gone = Case {
        name: "no upper server",
        config: |config| {
            config.sip = "[cascade]\nupper = \"http://10.9.0.20:8443\"\ndeadline = \"200ms\"\n\
                          token_file = \"broker.password\"\n\n";
        },
        finds: &[("upstream.path", "fail")],
        says: "curl -v http://10.9.0.20:8443/api/v1/cascade/ping",
        ..CASE
    };
    patient.broken(&gone, &[]);
    for (takes, finds, says) in [
        (5, &[][..], ""),
        (130, &[("upstream.path", "warn")][..], "limit 200 ms"),
        (
            350,
            &[("upstream.path", "fail")][..],
            "[cascade] deadline = \"",
        ),
    ] {
        let upper = Upper::start(&patient, Duration::from_millis(takes));
        assert_eq!(upper.at.port(), 8443);
        let case = Case {
            name: "an upper server that takes its time",
            finds,
            says,
            ..gone
        };
        patient.broken(&case, &[]);
    }
}

/// Takes what is sent to the mapped SIP port apart, and puts another address in: python, between
/// the router's two sides.
const GATEWAY: &str = "import socket\n\
    i = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); i.bind((\"0.0.0.0\", 5999))\n\
    o = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
    while True:\n    \
        data, peer = i.recvfrom(4096)\n    \
        data = data.replace(b\"Contact: <sip:doctor@198.51.100.7\", \
               b\"Contact: <sip:doctor@10.1.0.254\")\n    \
        o.sendto(data, (\"10.1.0.1\", 5060))\n";

#[test]
fn sip_that_is_rewritten_or_does_not_arrive_is_named() {
    let patient = super::nat::behind_a_router(&super::nat::inside_and_outside());
    let mut config = Config::new(&patient.lab, Mode::Userspace);
    config.networks = vec![Net {
        name: "far",
        interface: "eth0",
        address: "198.51.100.7",
        peers: "0.0.0.0/0",
        ports: (30_000, 30_199),
        more: "",
    }];
    config.sip = "[api]\nlisten = [\"198.51.100.7:8080\"]\nplaintext = true\n\n";
    let directory = patient.lab.directory("far").unwrap();
    let outside = patient.lab.namespace(Role::Outside).unwrap();
    config.store = directory.join("state.redb");
    let binary = process::binary().unwrap();
    let far = Towpath::start(outside, &binary, &directory, &config.toml()).unwrap();
    let by_socket = ["--peer", far.socket().to_str().unwrap()];
    assert_eq!(patient.healthy(&by_socket), patient.usual);

    // The same over TCP, with a token of its.
    let token = ["token", "create", "doctor", "--role", "operator"];
    let token = far.client(outside, &token).unwrap();
    let file = patient.file.with_file_name("far.token");
    std::fs::write(&file, &token.stdout).unwrap();
    let url = "http://198.51.100.7:8080";
    let by_url = ["--peer", url, "--peer-token", file.to_str().unwrap()];
    assert_eq!(patient.healthy(&by_url), patient.usual);
    std::fs::write(&file, "no such token\n").unwrap();
    let case = Case {
        name: "a node that does not know our token",
        finds: &[
            ("nat.inbound", "unknown"),
            ("sip.alg", "unknown"),
            ("sip.inbound", "unknown"),
        ],
        says: "http://198.51.100.7:8080: refused (401 Unauthorized)",
        ..CASE
    };
    patient.broken(&case, &by_url);

    let router = patient.lab.namespace(Role::PortMap).unwrap();
    let redirect = |rule: &str| router.nft(rule).unwrap();
    redirect(
        "table ip alg {\nchain pre {\ntype filter hook prerouting priority -150;\n\
              iifname \"out\" udp dport 5060 drop\n}\n}",
    );
    let case = Case {
        name: "the router does not map SIP",
        finds: &[("sip.inbound", "fail")],
        says: "# on the router: map udp 198.51.100.1:5060 to this host",
        ..CASE
    };
    patient.broken(&case, &by_socket);
    redirect("delete table ip alg");
    redirect(
        "table ip alg {\nchain pre {\ntype nat hook prerouting priority -150;\n\
              iifname \"out\" udp dport 5060 redirect to :5999\n}\n}",
    );
    let mut gateway = router.command("python3").unwrap();
    let mut gateway = gateway.args(["-c", GATEWAY]).spawn().unwrap();
    let bound = || {
        let sockets = router.run("ss", &["-lun"])?;
        Ok(sockets.contains(":5999").then_some(()))
    };
    clock::until("the gateway", Duration::from_secs(10), bound).unwrap();
    let case = Case {
        name: "the router rewrites SIP",
        finds: &[("sip.alg", "fail")],
        says: "came: Contact: <sip:doctor@10.1.0.254",
        ..CASE
    };
    patient.broken(&case, &by_socket);
    gateway.kill().unwrap();
    gateway.wait().unwrap();
}
