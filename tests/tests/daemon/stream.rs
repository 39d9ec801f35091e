//! SIP over TCP and TLS: connections that carry calls, connections that end, and those that only
//! take up room.

use std::net::{TcpListener, TcpStream};

use towpath_tests::pki::Authority;

use super::wire::connect;
use super::*;

pub(super) const LAN: &str = "10.0.0.3:5060";
pub(super) const WAN: &str = "10.0.1.3:5060";
/// TLS comes from an address without a name of its own here: `openssl` binds none.
pub(super) const TLS: &str = "10.0.0.3:5061";

/// Listens for all three; `more` goes into `[sip]` and behind it.
pub(super) fn config(more: &str) -> String {
    let listen = "listen = [\"udp:0.0.0.0:5060\", \"tcp:0.0.0.0:5060\"]";
    CONFIG.replace(
        "auth = \"none\"",
        &format!("auth = \"none\"\n{listen}\n{more}"),
    )
}

pub(super) fn with_tls(authority: &Authority, directory: &Path, more: &str) -> String {
    let names = "IP:10.0.0.3,IP:10.0.1.3";
    let issued = authority.issue("edge", names, 30).unwrap();
    let (certificate, key) = (issued.certificate, issued.key);
    let tls = format!(
        "[sip.tls]\ncertificate = {certificate:?}\nkey = {key:?}\nca = {:?}\n{more}",
        directory.join("ca.pem")
    );
    config(&tls).replace("\"tcp:0", "\"tls:0.0.0.0:5061\", \"tcp:0")
}

pub(super) fn directory(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("towpath-pki-{name}-{}", std::process::id()));
    fs::create_dir(&directory).unwrap();
    directory
}

fn test(name: &str, body: fn()) {
    in_private_network(&format!("stream::{name}"), || {
        ip(LINKS)?;
        body();
        Ok(())
    })
    .unwrap();
}

pub(super) fn options(more: &str) -> String {
    format!(
        "OPTIONS sip:10.0.0.3 SIP/2.0\r\nVia: SIP/2.0/TCP 10.0.0.20;branch=z9hG4bKo\r\n\
         From: <sip:a@example.com>;tag=1\r\nTo: <sip:10.0.0.3>\r\nCall-ID: o\r\n\
         CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\n{more}\r\n"
    )
}

impl Daemon {
    /// Waits until the metrics hold this line.
    #[track_caller]
    pub(super) fn counts(&self, line: &str) {
        let mut last = String::new();
        let counted = clock::until(line, LIMIT, || {
            last = self.metrics();
            Ok(last.lines().any(|l| l == line).then_some(()))
        });
        assert!(counted.is_ok(), "{line}\n{last}");
    }

    fn descriptors(&self) -> usize {
        let path = format!("/proc/{}/fd", self.child.id());
        fs::read_dir(path).unwrap().count()
    }
}

/// The other party hangs up, and is answered.
fn hang_up(call: &Call<'_>, answer: &str) {
    let contact = header(answer, "Contact:");
    let target = contact.trim().trim_matches(['<', '>']);
    let caller = call.caller;
    let lines = [
        format!("BYE {target} SIP/2.0"),
        format!("Via: {}", caller.via("bye")),
        "Max-Forwards: 70".to_owned(),
        format!("From:{}", header(answer, "From:")),
        format!("To:{}", header(answer, "To:")),
        format!("Call-ID:{}", header(answer, "Call-ID:")),
        "CSeq: 2 BYE".to_owned(),
    ];
    caller.send(&lines.join(CRLF), "", "");
    let bye = call.callee.receive("BYE ");
    call.callee.answer(&bye, "200 OK", "");
    caller.receive("SIP/2.0 200");
}

#[test]
fn calls_cross_from_transport_to_transport() {
    test("calls_cross_from_transport_to_transport", || {
        let files = directory("cross");
        let authority = Authority::new(&files).unwrap();
        let daemon = Daemon::with("stream-cross", &with_tls(&authority, &files, ""));
        let udp = Phone::register(&daemon, "1001", "10.0.0.20", "10.0.0.3");
        let tcp = Phone::over(Wire::tcp("10.0.1.20", WAN), "1002", "10.0.1.20");
        let tls = Wire::tls(TLS, &authority.certificate(), &[]);
        let tls = Phone::over(tls, "1003", "10.0.0.3");
        for (caller, callee) in [(&udp, &tcp), (&tcp, &tls), (&tls, &udp)] {
            let uri = format!("sip:{}@example.com", callee.user);
            let cseq = 10;
            let number = format!("INVITE-{}", caller.user);
            caller.request("INVITE", &uri, callee.user, cseq, SDP_TYPE, &caller.sdp());
            let invite = callee.receive("INVITE ");
            assert_eq!(header(&invite, "Call-ID:").trim(), number);
            let via = format!(" SIP/2.0/{} ", callee.sip.transport());
            assert!(invite.contains(&via), "{via} in {invite}");
            let contact = header(&invite, "Contact:");
            assert!(contact.contains(&callee.sip.param()), "{contact}");
            callee.answer(&invite, "200 OK", &callee.sdp());
            let answer = caller.receive("SIP/2.0 200");
            let contact = header(&answer, "Contact:");
            assert!(contact.contains(&caller.sip.param()), "{contact}");
            let target = contact.trim().trim_matches(['<', '>']);
            let lines = [
                format!("ACK {target} SIP/2.0"),
                format!("Via: {}", caller.via("ack")),
                "Max-Forwards: 70".to_owned(),
                format!("From:{}", header(&answer, "From:")),
                format!("To:{}", header(&answer, "To:")),
                format!("Call-ID:{}", header(&answer, "Call-ID:")),
                format!("CSeq: {cseq} ACK"),
            ];
            caller.send(&lines.join(CRLF), "", "");
            callee.receive("ACK ");
            let word = |line: &str, n: usize| line.split(' ').nth(n).unwrap().trim().to_owned();
            let at = word(answer.lines().find(|l| l.starts_with("c=")).unwrap(), 2);
            let port = word(answer.lines().find(|l| l.starts_with("m=")).unwrap(), 1);
            let to = format!("{at}:{port}").parse().unwrap();
            let call = Call { caller, callee, to };
            call.speak();
            hang_up(&call, &answer.replace("CSeq: 10", "CSeq: 11"));
        }
        let (_, shown) = daemon.ask(&["reg", "list"]);
        for via in [
            "udp:10.0.0.3:5060",
            "tcp:10.0.1.3:5060",
            "tls:10.0.0.3:5061",
        ] {
            let found = http::text(&daemon.socket(), "/api/v1/registrations").unwrap();
            assert!(found.contains(via), "{via} in {found}\n{shown}");
        }
        daemon.counts("towpath_sip_connections{transport=\"tls\",state=\"open\"} 1");
        fs::remove_dir_all(files).unwrap();
    });
}

#[test]
fn bytes_are_cut_into_messages() {
    test("bytes_are_cut_into_messages", || {
        let daemon = Daemon::with("stream-bytes", &config(""));
        let wire = Wire::tcp("10.0.0.20", LAN);
        let whole = options("Content-Length: 0\r\n");
        let second = whole.replace("bKo", "bKp");
        wire.send(format!("{whole}{second}").as_bytes());
        for branch in ["bKo", "bKp"] {
            let answer = wire.receive();
            assert!(answer.starts_with("SIP/2.0 200 OK\r\n"), "{answer}");
            assert!(answer.contains(branch), "{answer}");
        }
        let (head, tail) = whole.split_at(100);
        let (head, tail) = (head.replace("bKo", "bKq"), tail.replace("bKo", "bKq"));
        wire.send(head.as_bytes());
        wire.send(tail.as_bytes());
        assert!(wire.receive().contains("bKq"));
        // A ping is answered by one line end, wherever it stands.
        wire.send(b"\r\n\r\n");
        wire.send(options("").as_bytes());
        let rest = wire.rest();
        let answer = rest.strip_prefix("\r\n").unwrap();
        assert!(
            answer.starts_with("SIP/2.0 400 Missing Header\r\n"),
            "{rest}"
        );
        let wire = Wire::tcp("10.0.0.20", LAN);
        wire.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(wire.rest(), "");
        daemon.counts("towpath_sip_connections_closed_total{reason=\"malformed\"} 2");
        daemon.counts("towpath_sip_connection_pings_total 1");
        daemon.counts("towpath_sip_connections{transport=\"tcp\",state=\"open\"} 0");
        parse_metrics(&daemon.metrics());
    });
}

/// A client is reached on its connection and on no other; a new one takes its place, in the middle
/// of a call too.
#[test]
fn a_connection_that_ends_is_followed_by_the_next() {
    test("a_connection_that_ends_is_followed_by_the_next", || {
        let daemon = Daemon::with("stream-cut", &config(""));
        let caller = Phone::register(&daemon, "1001", "10.0.0.20", "10.0.0.3");
        let wire = || Wire::tcp("10.0.1.20", WAN);
        let mut callee = Phone::over(wire(), "1002", "10.0.1.20");
        let uri = "sip:1002@example.com";
        caller.request("INVITE", uri, "1002", 1, SDP_TYPE, &caller.sdp());
        let invite = callee.receive("INVITE ");
        callee.answer(&invite, "200 OK", &callee.sdp());
        let answer = caller.receive("SIP/2.0 200");
        callee.sip = wire();
        daemon.counts("towpath_sip_connections_closed_total{reason=\"ended\"} 1");
        let (_, shown) = daemon.ask(&["reg", "show", "1002@example.com"]);
        assert!(shown.contains(", when it connects again"), "{shown}");
        // Nobody is called where nobody listens.
        caller.request("MESSAGE", uri, "1002", 3, "", "");
        caller.receive("SIP/2.0 480");
        callee.registers(2);
        caller.request("MESSAGE", uri, "1002", 4, "", "");
        let message = callee.receive("MESSAGE ");
        callee.answer(&message, "200 OK", "");
        caller.receive("SIP/2.0 200");
        let to = caller.audio.local_addr().unwrap();
        let (caller, callee) = (&caller, &callee);
        hang_up(&Call { caller, callee, to }, &answer);
    });
}

#[test]
fn connections_leave_nothing_behind() {
    test("connections_leave_nothing_behind", || {
        let limits = "[sip.tcp]\nidle = \"1s\"\nconnections_per_source = 60\n";
        let daemon = Daemon::with("stream-many", &config(limits));
        let before = daemon.descriptors();
        for _ in 0..20 {
            let open: Vec<TcpStream> = (0..50).map(|_| connect("10.0.0.20", LAN)).collect();
            let half = "towpath_sip_connections{transport=\"tcp\",state=\"half_open\"} 50";
            daemon.counts(half);
            drop(open);
            daemon.counts(&half.replace("50", "0"));
        }
        let text = "towpath_sip_connections_opened_total{transport=\"tcp\",side=\"accepted\"} 1000";
        daemon.counts(text);
        daemon.counts("towpath_sip_connections_closed_total{reason=\"ended\"} 1000");
        // One address may not have them all; another still gets in.
        let open: Vec<TcpStream> = (0..70).map(|_| connect("10.0.0.20", LAN)).collect();
        let limit = "connections_per_source";
        daemon.counts(&format!(
            "towpath_sip_connections_refused_total{{limit=\"{limit}\"}} 10"
        ));
        let other = Wire::tcp("10.0.1.20", WAN);
        other.send(options("Content-Length: 0\r\n").as_bytes());
        assert!(other.receive().starts_with("SIP/2.0 200"));
        // Nothing more comes on it.
        assert_eq!(other.rest(), "");
        daemon.counts("towpath_sip_connections_closed_total{reason=\"idle\"} 1");
        drop(open);
        clock::until("all descriptors given back", LIMIT, || {
            Ok((daemon.descriptors() <= before + 1).then_some(()))
        })
        .unwrap();
    });
}

#[test]
fn peers_are_connected_to() {
    test("peers_are_connected_to", || {
        let peers = "[[sip.peer]]\nname = \"mcu\"\nuri = \"sip:10.0.0.20:5080;transport=tcp\"\n\
                     routes = [\"8*\"]\n[[sip.peer]]\nname = \"pbx\"\n\
                     uri = \"sip:10.0.0.20:5090\"\nroutes = [\"9*\"]\n";
        let daemon = Daemon::with("stream-peer", &config(peers));
        let caller = Phone::register(&daemon, "1001", "10.0.1.20", "10.0.1.3");
        let waiting = TcpListener::bind("10.0.0.20:5080").unwrap();
        caller.request("MESSAGE", "sip:8001@example.com", "8001", 2, "", "");
        let (stream, _) = waiting.accept().unwrap();
        let peer = Phone {
            user: "8001",
            host: "10.0.0.20",
            sip: Wire::accepted(stream),
            audio: bind("10.0.0.20", 6000),
        };
        let message = peer.receive("MESSAGE sip:8001@10.0.0.20:5080;transport=tcp SIP/2.0");
        assert!(
            message.contains("Via: SIP/2.0/TCP 10.0.0.3:5060;"),
            "{message}"
        );
        peer.answer(&message, "200 OK", "");
        caller.receive("SIP/2.0 200");
        // The next goes by the same connection, and a call comes back on it.
        caller.request("MESSAGE", "sip:8001@example.com", "8001", 3, "", "");
        let message = peer.receive("MESSAGE ");
        peer.answer(&message, "200 OK", "");
        caller.receive("SIP/2.0 200");
        let uri = "sip:1001@example.com";
        peer.request("INVITE", uri, "1001", 1, SDP_TYPE, &peer.sdp());
        let invite = caller.receive("INVITE ");
        caller.answer(&invite, "486 Busy Here", "");
        peer.receive("SIP/2.0 486");
        drop((peer, waiting));
        daemon.counts("towpath_sip_connections_closed_total{reason=\"ended\"} 1");
        // Nobody listens any more: that is known at once.
        caller.request("MESSAGE", "sip:8001@example.com", "8001", 4, "", "");
        caller.receive("SIP/2.0 503");
        daemon.counts("towpath_sip_connections_closed_total{reason=\"unreachable\"} 1");
        large_requests(&caller);
    });
}

/// Too large for a datagram: TCP, or UDP after all if nobody listens there (RFC 3261 §18.1.1).
fn large_requests(caller: &Phone) {
    let peer = bind("10.0.0.20", 5090);
    let large = format!("{}a=x:{}\r\n", caller.sdp(), "y".repeat(1300));
    let invite = |cseq: u32| {
        let uri = "sip:9001@example.com";
        caller.request("INVITE", uri, "9001", cseq, SDP_TYPE, &large);
    };
    invite(20);
    let mut buffer = [0; 4096];
    let length = peer.recv(&mut buffer).unwrap();
    let first = String::from_utf8(buffer[..length].to_vec()).unwrap();
    assert!(first.starts_with("INVITE sip:9001@"), "{first}");
    assert!(first.contains("Via: SIP/2.0/UDP "), "{first}");
}

#[test]
fn certificates_are_verified_and_replaced() {
    test("certificates_are_verified_and_replaced", || {
        let files = directory("certificates");
        let authority = Authority::new(&files).unwrap();
        let peers = "verify = \"peers\"\n[[sip.peer]]\nname = \"upper\"\n\
             uri = \"sips:10.0.0.3:5999\"\n";
        let text = with_tls(&authority, &files, peers);
        let mut daemon = Daemon::with("stream-tls", &text);
        let ca = authority.certificate();
        let ask = |wire: &Wire| {
            wire.send(options("Content-Length: 0\r\n").as_bytes());
            wire.receive()
        };
        // The test's own address is the peer's: without a certificate nobody gets in.
        assert_eq!(ask(&Wire::tls(TLS, &ca, &[])), "");
        let upper = authority.issue("upper", "IP:10.0.0.3", 30).unwrap();
        let paths = [&upper.certificate, &upper.key].map(|p| p.to_str().unwrap());
        let shown = ["-cert", paths[0], "-key", paths[1]];
        let wire = Wire::tls(TLS, &ca, &shown);
        assert!(ask(&wire).starts_with("SIP/2.0 200 OK\r\n"));
        daemon.counts("towpath_sip_connections_closed_total{reason=\"tls_handshake\"} 1");
        // What cannot be used is said at its key, and nothing changes.
        let key = files.join("edge.key");
        let good = fs::read_to_string(&key).unwrap();
        fs::write(&key, fs::read_to_string(&upper.key).unwrap()).unwrap();
        daemon.reloads("the key does not belong to the certificate");
        assert!(ask(&Wire::tls(TLS, &ca, &shown)).starts_with("SIP/2.0 200"));
        fs::write(&key, good).unwrap();
        let before = expiry(&daemon);
        assert_eq!(daemon.ask(&["status"]).0, 1);
        authority.issue("edge", "IP:10.0.0.3", 10).unwrap();
        daemon.reloads("configuration applied");
        let after = expiry(&daemon);
        assert!(before > after + 15 * 86_400, "{before} {after}");
        let (_, status) = daemon.ask(&["status"]);
        assert!(
            status.contains("the certificate for SIP over TLS expires at"),
            "{status}"
        );
        // Connections that stood still stand.
        assert!(ask(&wire).starts_with("SIP/2.0 200"));
        assert!(ask(&Wire::tls(TLS, &ca, &shown)).starts_with("SIP/2.0 200"));
        fs::remove_dir_all(files).unwrap();
    });
}

fn expiry(daemon: &Daemon) -> u64 {
    let name = "towpath_sip_tls_certificate_expiry_timestamp_seconds ";
    let text = daemon.metrics();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().parse().unwrap()
}
