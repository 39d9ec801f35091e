//! A peer that is known by name: looked up, shown, reached, and looked up elsewhere when asked.

use towpath_tests::dns::{NameServer, Record};

use super::*;

const PEER: &str = r#"[node]
state_dir = "DIRECTORY"
[sip]
domain = "example.com"
auth = "none"
dns = ["127.0.0.1:5353"]
[[sip.peer]]
name = "pbx"
uri = "sip:pbx.example.test"
routes = ["9*"]
[[network]]
name = "lan"
interface = "eth1"
address = "10.0.0.3"
peers = ["10.0.0.0/24"]
[datapath]
mode = "userspace"
"#;

#[test]
fn a_peer_is_found_by_its_records() {
    in_private_network("dns::a_peer_is_found_by_its_records", || {
        ip(LINKS)?;
        let (daemon_asks, another) = ("127.0.0.1:5353".parse()?, "127.0.0.1:5354".parse()?);
        let address = |text: &str| Record::Address(text.parse().unwrap());
        let service = Record::Service(10, 10, "SIP+D2U", "_sip._udp.pbx.example.test");
        let server = |priority, port, target| Record::Server(priority, 1, port, target);
        let server_of_names = NameServer::start(
            daemon_asks,
            &[
                ("pbx.example.test", service),
                (
                    "_sip._udp.pbx.example.test",
                    server(20, 5062, "b.example.test"),
                ),
                (
                    "_sip._udp.pbx.example.test",
                    server(10, 5061, "a.example.test"),
                ),
                ("a.example.test", address("10.0.0.20")),
                ("b.example.test", address("10.0.0.20")),
                // In no network: left out.
                ("b.example.test", address("192.0.2.1")),
            ],
        )?;
        let elsewhere = [("pbx.example.test", address("10.0.0.21"))];
        let other_names = NameServer::start(another, &elsewhere)?;
        let daemon = Daemon::with("dns", PEER);
        let places = |daemon: &Daemon| {
            let peers = http::get(&daemon.socket(), "/api/v1/peers").unwrap();
            let rows = peers["peers"].as_array().unwrap().clone();
            let mut places: Vec<String> = rows
                .iter()
                .map(|row| {
                    let text = |name: &str| row[name].as_str().unwrap_or_default();
                    format!("{} {}", text("transport"), text("address"))
                })
                .collect();
            places.sort();
            places
        };
        let found = ["udp 10.0.0.20:5061", "udp 10.0.0.20:5062"];
        let looked_up = || Ok((places(&daemon) == found).then_some(()));
        clock::until("the records are found", LIMIT, looked_up)?;
        daemon.documented("peers", "peers");
        let (_, shown) = daemon.ask(&["config", "show"]);
        assert!(shown.contains(" sip:pbx.example.test "), "{shown}");
        // A call for it goes to the server that comes first.
        let pbx = UdpSocket::bind("10.0.0.20:5061")?;
        pbx.set_read_timeout(Some(LIMIT))?;
        let phone = UdpSocket::bind("10.0.0.20:5099")?;
        let invite = "INVITE sip:900@example.com SIP/2.0\r\n\
                      Via: SIP/2.0/UDP 10.0.0.20:5099;branch=z9hG4bK1\r\n\
                      From: <sip:1001@example.com>;tag=1\r\nTo: <sip:900@example.com>\r\n\
                      Call-ID: dns\r\nCSeq: 1 INVITE\r\nContact: <sip:1001@10.0.0.20:5099>\r\n\
                      Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n";
        phone.send_to(invite.as_bytes(), "10.0.0.3:5060")?;
        let mut buffer = [0; 2048];
        let length = pbx.recv(&mut buffer)?;
        assert!(buffer[..length].starts_with(b"INVITE sip:900@10.0.0.20:5061 SIP/2.0\r\n"));
        // Asked elsewhere, it is elsewhere; the name's own address where there are no services.
        daemon.configure(&PEER.replace("5353", "5354"));
        daemon.signal(Signal::SIGHUP);
        let moved = || Ok((places(&daemon) == ["udp 10.0.0.21:5060"]).then_some(()));
        clock::until("the name is looked up elsewhere", LIMIT, moved)?;
        drop((server_of_names, other_names));
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_name_that_is_not_found_is_a_warning() {
    in_private_network("dns::a_name_that_is_not_found_is_a_warning", || {
        ip(LINKS)?;
        let nothing = NameServer::start("127.0.0.1:5353".parse()?, &[])?;
        let daemon = Daemon::with("dns-none", PEER);
        let warned = || {
            let status = http::get(&daemon.socket(), "/api/v1/status")?.to_string();
            let warning = "peer pbx: pbx.example.test is not found (it has no records that lead \
                           anywhere); nothing can be sent to it";
            Ok(status.contains(warning).then_some(()))
        };
        clock::until("the name is missed", LIMIT, warned)
            .unwrap_or_else(|e| panic!("{e:#}: {}", daemon.ask(&["status"]).1));
        drop(nothing);
        Ok(())
    })
    .unwrap();
}
