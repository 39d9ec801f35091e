//! What the daemon says about why things are as they are.

use super::*;

/// One address of ours for neighbours and for everybody else.
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
address = "10.0.0.3"
advertise = "203.0.113.9"
peers = ["0.0.0.0/0"]
media_ports = "30000-39999"

[datapath]
mode = "userspace"
"#;

/// The line that makes the router at 10.0.0.20 known.
const LINE: &str = "source_rewriting_gateways = [\"10.0.0.20\"]";

/// A phone behind that router: its packets come from there, its words do not.
fn mapped(user: &str, claimed: &str) {
    let socket = UdpSocket::bind("10.0.0.20:0").unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let lines = [
        "REGISTER sip:example.com SIP/2.0".to_owned(),
        format!("Via: SIP/2.0/UDP {claimed}:5060;branch=z9hG4bK{user}"),
        "Max-Forwards: 70".to_owned(),
        format!("From: <sip:{user}@example.com>;tag=f{user}"),
        format!("To: <sip:{user}@example.com>"),
        format!("Call-ID: mapped-{user}"),
        "CSeq: 1 REGISTER".to_owned(),
        format!("Contact: <sip:{user}@{claimed}:5060>"),
        "Expires: 600".to_owned(),
        "Content-Length: 0\r\n\r\n".to_owned(),
    ];
    socket
        .send_to(lines.join(CRLF).as_bytes(), "10.0.0.3:5060")
        .unwrap();
    let mut buffer = [0; 1024];
    let length = socket.recv(&mut buffer).unwrap();
    assert!(buffer[..length].starts_with(b"SIP/2.0 200"));
}

const MAPPED: [(&str, &str); 3] = [
    ("1001", "192.168.3.12"),
    ("1002", "192.168.3.13"),
    ("1003", "192.168.9.2"),
];

#[test]
fn a_router_that_rewrites_sources_is_named_with_the_line_against_it() {
    in_private_network(
        "explain::a_router_that_rewrites_sources_is_named_with_the_line_against_it",
        || {
            ip(LINKS)?;
            let daemon = Daemon::with("rewrites", CONFIG);
            for (user, claimed) in MAPPED {
                mapped(user, claimed);
            }
            daemon.becomes(1);
            let (_, status) = daemon.ask(&["status"]);
            let warning = "warning        network lan: 10.0.0.20 looks like a router that rewrites \
                           sources:\n";
            assert!(status.contains(warning), "{status}");
            assert!(
                status.contains(&format!("\n               {LINE}\n")),
                "{status}"
            );
            let networks = daemon.documented("networks", "networks");
            let suspects = &networks["networks"][0]["suspected_gateways"];
            let expected = serde_json::json!({
                "network": "wan",
                "lines": [LINE],
                "place": suspects[0]["remedy"]["place"],
            });
            assert_eq!(suspects[0]["remedy"], expected);
            let peer = daemon.documented("network-explain", "networks/explain?ip=10.0.0.20");
            assert_eq!(peer["suspected_gateway"]["clients"], 3);
            let line = "towpath_gateways_suspected{network=\"lan\"} 1\n";
            assert!(daemon.metrics().contains(line));
            let (_, told) = daemon.ask(&["explain", "reg", "1001@example.com"]);
            let told = told.split("\n\n").next().unwrap().replace('\n', " ");
            for expected in [
                "so it is told 10.0.0.3 in Contact, Via and SDP.",
                "But 3 clients come from 10.0.0.20 and say they are elsewhere",
            ] {
                assert!(told.contains(expected), "{told}");
            }
            Ok(())
        },
    )
    .unwrap();
}

#[test]
fn with_the_line_its_clients_are_outside() {
    in_private_network("explain::with_the_line_its_clients_are_outside", || {
        ip(LINKS)?;
        let config = CONFIG.replace("advertise =", &format!("{LINE}\nadvertise ="));
        let daemon = Daemon::with("outside", &config);
        for (user, claimed) in MAPPED {
            mapped(user, claimed);
        }
        let (code, told) = daemon.ask(&["explain", "reg", "1001@example.com"]);
        assert_eq!(code, 0);
        let first = told.split("\n\n").next().unwrap().replace('\n', " ");
        let claims = "Its Contact says 192.168.3.12:5060; the packets decide.";
        let network =
            "It belongs to network wan, so it is told 203.0.113.9 in Contact, Via and SDP.";
        for expected in [claims, network] {
            assert!(first.contains(expected), "{told}");
        }
        assert!(
            told.lines().all(|line| line.chars().count() <= 80),
            "{told}"
        );
        Ok(())
    })
    .unwrap();
}

#[test]
fn what_is_not_there_is_a_problem_document() {
    in_private_network("explain::what_is_not_there_is_a_problem_document", || {
        ip(LINKS)?;
        let daemon = Daemon::with("problems", CONFIG);
        let refused = |arguments: &[&str], expected: &str| {
            assert_eq!(daemon.ask(arguments), (1, format!("error: {expected}\n")));
        };
        let nobody = |who: &str| {
            let list = "`towpath reg list` shows who is (user@domain)";
            format!("{who}: nobody is registered under this name; {list}")
        };
        let aor = "1001@example.com";
        refused(&["explain", "reg", aor], &nobody(aor));
        refused(&["reg", "show", "1001"], &nobody("1001"));
        let gone = "call 7: no such call, or it ended; `towpath call list` shows those that go on";
        refused(&["explain", "call", "7"], gone);
        refused(&["call", "show", "7"], gone);
        refused(
            &["explain", "peer", "192.0.2.1", "--local", "192.0.2.2"],
            "no network has this address of ours; `towpath network list` shows them",
        );
        let (_, never) = daemon.ask(&["explain", "peer", "198.51.100.7"]);
        let expected = "A packet from 198.51.100.7 that arrives at 10.0.0.3 belongs to network \
                        wan; its\nsender is told 203.0.113.9 in Contact, Via and SDP.\n";
        assert!(never.starts_with(expected), "{never}");
        Ok(())
    })
    .unwrap();
}

/// Where a party's media is sent, for one call: said, shown, explained and taken back.
pub(super) fn overridden(daemon: &Daemon) {
    let number = daemon.call();
    let media = |party: &str, mode: &str| daemon.ask(&["call", "media", &number, party, mode]);
    let done =
        |party: &str, mode: &str| (0, format!("call {number}: media of the {party}: {mode}\n"));
    let believed = |leg: &str| {
        let path = format!("/api/v1/calls/{number}/explain");
        let call = http::get(&daemon.socket(), &path).unwrap();
        let flows = call["flows"].as_array().unwrap().iter();
        let mut rtp = flows.filter(|f| f["leg"] == leg && f["component"] == "rtp");
        let steps = rtp.next().unwrap()["steps"].as_array().unwrap().clone();
        let step = steps.into_iter().find(|s| s["topic"] == "claimed").unwrap();
        let key = step["key"].as_str().unwrap_or_default().to_owned();
        let text = |name: &str| step[name].as_str().unwrap().to_owned();
        (text("decision"), text("rule"), key)
    };
    let auto = "SDP names the address signalling comes from".to_owned();
    let yes = ("yes".to_owned(), auto, "network.lan.media".to_owned());
    assert_eq!(believed("caller"), yes);
    assert_eq!(media("caller", "symmetric"), done("caller", "symmetric"));
    let word = "an operator said so for this call: media = \"symmetric\"";
    let no = ("no".to_owned(), word.to_owned(), String::new());
    assert_eq!(believed("caller"), no);
    let (_, shown) = daemon.ask(&["call", "show", &number]);
    let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        shown.contains("media symmetric, as an operator said"),
        "{shown}"
    );
    assert!(shown.contains("; media auto audio"), "{shown}");
    assert_eq!(media("caller", "default"), done("caller", "default"));
    assert_eq!(believed("caller"), yes);
    let (code, told) = daemon.ask(&["call", "media", "9", "callee", "sdp"]);
    assert!(
        code == 1 && told.starts_with("error: call 9: no such call"),
        "{told}"
    );
    let path = format!("/api/v1/calls/{number}");
    let bad = http::send(&daemon.socket(), "PATCH", &path, "", "{}").unwrap();
    assert_eq!(bad.status, 400);
    let (_, events) = daemon.ask(&["events", "--since", "1"]);
    let first = events.lines().next().unwrap();
    assert!(first.starts_with("2 2"), "{events}");
    let answered = format!(" call.answered {number}");
    assert!(events.contains(&answered), "{events}");
}
