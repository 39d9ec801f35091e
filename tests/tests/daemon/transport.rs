//! Connections that carry registrations of others, are not read, or lose their listener.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};

use nix::sys::socket::{setsockopt, sockopt};
use towpath_tests::pki::Authority;

use super::stream::{LAN, TLS, WAN, config, directory, options, with_tls};
use super::wire::connect_with;
use super::*;

fn test(name: &str, body: fn()) {
    in_private_network(&format!("transport::{name}"), || {
        ip(LINKS)?;
        body();
        Ok(())
    })
    .unwrap();
}

/// Phones on connections, a registrar on one of ours: each registers there, and is called from
/// there along its own connection.
#[test]
fn registrations_are_forwarded_between_connections() {
    test("registrations_are_forwarded_between_connections", || {
        let files = directory("forward");
        let authority = Authority::new(&files).unwrap();
        let peer = "[[sip.peer]]\nname = \"pbx\"\nuri = \"sip:10.0.0.20:5080;transport=tcp\"\n\
                    register = \"forward\"\nregister_by = \"BY\"\n";
        for by in ["contact", "path"] {
            let text = with_tls(&authority, &files, &peer.replace("BY", by));
            let daemon = Daemon::with(&format!("forward-{by}"), &text);
            let listener = TcpListener::bind("10.0.0.20:5080").unwrap();
            let tls = || Wire::tls(TLS, &authority.certificate(), &[]);
            let phones = [
                ("1001", Wire::tcp("10.0.1.20", WAN), "10.0.1.20", 6000),
                ("1002", tls(), "10.0.0.3", 6002),
            ];
            let mut registrar = None;
            for (user, sip, host, port) in phones {
                let audio = bind(host, port);
                let phone = Phone {
                    user,
                    host,
                    sip,
                    audio,
                };
                let more = "Expires: 600\r\n";
                phone.request("REGISTER", "sip:example.com", user, 1, more, "");
                let registrar = registrar.get_or_insert_with(|| Phone {
                    user: "pbx",
                    host: "10.0.0.20",
                    sip: Wire::accepted(listener.accept().unwrap().0),
                    audio: bind("10.0.0.20", 6010),
                });
                let asked = registrar.receive("REGISTER sip:example.com ");
                assert!(asked.contains("Via: SIP/2.0/TCP 10.0.0.3:5060;"), "{asked}");
                let way = granted(registrar, &asked, by);
                assert!(way.contains(";transport=tcp"), "{way}");
                let answer = phone.receive("SIP/2.0 200");
                assert!(header(&answer, "Contact:").contains(host), "{answer}");
                called(registrar, &phone, &way, by);
            }
            let (_, shown) = daemon.ask(&["reg", "list"]);
            assert!(
                shown.contains("1001@") && shown.contains("1002@"),
                "{shown}"
            );
        }
        fs::remove_dir_all(files).unwrap();
    });
}

/// The registrar grants what it was asked for; returned is how it reaches the phone.
fn granted(registrar: &Phone, asked: &str, by: &str) -> String {
    let name = if by == "path" { "Path:" } else { "Contact:" };
    let way = header(asked, name).trim().to_owned();
    let copied = ["Via:", "From:", "Call-ID:", "CSeq:", "Contact:", "Path:"];
    let lines = asked.lines();
    let lines = lines.filter(|line| copied.iter().any(|name| line.starts_with(name)));
    let lines: Vec<&str> = lines.map(str::trim_end).collect();
    let to = header(asked, "To:").trim();
    let head = format!("SIP/2.0 200 OK\r\n{}\r\nTo: {to};tag=r", lines.join(CRLF));
    registrar.send(&head, "", "");
    way
}

fn called(registrar: &Phone, phone: &Phone, way: &str, by: &str) {
    let way = way.split(['<', '>']).nth(1).unwrap();
    let user = phone.user;
    let (uri, route) = match by {
        "path" => (phone.contact(), format!("Route: <{way}>\r\n")),
        _ => (format!("<{way}>"), String::new()),
    };
    let uri = uri.trim_matches(['<', '>']);
    registrar.request("MESSAGE", uri, user, 7, &route, "");
    let message = phone.receive("MESSAGE ");
    let via = format!("Via: SIP/2.0/{} ", phone.sip.transport());
    assert!(message.contains(&via), "{message}");
    phone.answer(&message, "200 OK", "");
    registrar.receive("SIP/2.0 200");
}

/// What it is sent piles up: it is cut off, and nobody else waits for it.
#[test]
fn who_does_not_read_is_cut_off() {
    test("who_does_not_read_is_cut_off", || {
        let exempt = "[sip.protection]\nexempt = [\"10.0.0.0/24\"]\n";
        let daemon = Daemon::with("stream-slow", &config(exempt));
        let mut deaf = connect_with("10.0.0.20", LAN, |socket| {
            setsockopt(socket, sockopt::RcvBuf, &4096).unwrap();
        });
        deaf.set_write_timeout(Some(LIMIT)).unwrap();
        let many = options("Content-Length: 0\r\n").repeat(100);
        let cut = (0..ROUNDS).find(|_| deaf.write_all(many.as_bytes()).is_err());
        assert!(
            cut.is_some(),
            "{} requests were answered into the void",
            ROUNDS * 100
        );
        daemon.counts("towpath_sip_connections_closed_total{reason=\"slow_reader\"} 1");
        daemon.counts("towpath_sip_connections{transport=\"tcp\",state=\"open\"} 0");
        let other = Wire::tcp("10.0.0.20", LAN);
        // A repeat of the last request would have its answer where that was sent.
        let its = options("Content-Length: 0\r\n").replace("z9hG4bKo", "z9hG4bKother");
        other.send(its.as_bytes());
        assert!(other.receive().starts_with("SIP/2.0 200"));
    });
}

/// Of a hundred requests each: far more than sockets and queues hold.
const ROUNDS: usize = 2_000;

/// A listener is taken away while it runs: nobody new gets in once nothing uses it, and what is
/// there is closed.
#[test]
fn a_listener_goes_when_nothing_uses_it() {
    test("a_listener_goes_when_nothing_uses_it", || {
        let mut daemon = Daemon::with("stream-gone", &config(GRACE));
        let wire = Wire::tcp("10.0.0.20", LAN);
        wire.send(options("Content-Length: 0\r\n").as_bytes());
        assert!(wire.receive().starts_with("SIP/2.0 200"));
        daemon.configure(&config(GRACE).replace(", \"tcp:0.0.0.0:5060\"", ""));
        daemon.reloads("configuration applied");
        let gone = || Ok(TcpStream::connect(LAN).is_err().then_some(()));
        clock::until("nobody listens", 6 * LIMIT, gone).unwrap();
        assert_eq!(wire.rest(), "");
        daemon.counts("towpath_sip_connections_closed_total{reason=\"withdrawn\"} 1");
        assert!(
            daemon.log().contains("no longer listened on"),
            "{}",
            daemon.log()
        );
        // By UDP it is there, and over TCP again if it is told to be.
        let phone = Phone::register(&daemon, "1001", "10.0.0.20", "10.0.0.3");
        daemon.configure(&config(GRACE));
        daemon.reloads("configuration applied");
        let wire = Wire::tcp("10.0.1.20", WAN);
        wire.send(options("Content-Length: 0\r\n").as_bytes());
        assert!(wire.receive().starts_with("SIP/2.0 200"));
        phone.registers(2);
    });
}

/// Nothing is kept for the sake of old addresses; answers may be repeated for 32 seconds.
const GRACE: &str = "address_grace = \"0s\"\n";
