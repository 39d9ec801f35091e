//! The SIP messages of a call, while it goes on and afterwards, for those who may see them.

use super::api::{code, open};
use super::*;

/// Every message as `in caller INVITE`.
fn messages(ladder: &Value) -> Vec<String> {
    let messages = ladder["messages"].as_array().unwrap().iter();
    let words = messages.map(|message| {
        let party = usize::try_from(message["party"].as_u64().unwrap()).unwrap();
        let role = ladder["parties"][party]["role"].as_str().unwrap();
        let what = match message["code"].as_u64() {
            Some(code) => code.to_string(),
            None => message["method"].as_str().unwrap().to_owned(),
        };
        format!("{} {role} {what}", message["direction"].as_str().unwrap())
    });
    words.collect()
}

const SETUP: [&str; 9] = [
    "in caller INVITE",
    "out caller 100",
    "out callee INVITE",
    "in callee 200",
    "out caller 200",
    "in caller ACK",
    "out callee ACK",
    "out caller BYE",
    "out callee BYE",
];

#[test]
fn messages_of_a_call_are_shown_also_after_its_end() {
    let name = "trace::messages_of_a_call_are_shown_also_after_its_end";
    in_private_network(name, || {
        ip(LINKS)?;
        let daemon = open("trace", "[trace]\ncalls = 1\n");
        let caller = Phone::register(&daemon, "1001", "10.0.0.20", "10.0.0.3");
        let callee = Phone::register(&daemon, "1002", "10.0.1.20", "10.0.1.3");
        let call = caller.call(&callee);
        let number = daemon.call();
        let path = format!("calls/{number}/ladder");
        let found = daemon.documented("ladder", &format!("{path}?full=true"));
        assert_eq!(messages(&found), SETUP[..7], "{found:#}");
        assert_eq!(
            (&found["live"], &found["call_id"]),
            (&true.into(), &"INVITE-1001".into())
        );
        assert_eq!(found["parties"][0]["address"], "10.0.0.20:5070");
        assert_eq!(found["parties"][1]["network"], "wan");
        let invite = found["messages"][0]["text"].as_str().unwrap();
        assert!(
            invite.starts_with("INVITE sip:user1@example.com SIP/2.0\n"),
            "{invite}"
        );
        assert!(
            invite.contains("From: <sip:user2@example.com>;tag=f1001\n"),
            "{invite}"
        );
        let metrics = daemon.metrics();
        assert!(metrics.contains("\ntowpath_trace_calls 1\n"), "{metrics}");

        // Names are for operators.
        let viewer = daemon.token("viewer", "viewer");
        let operator = daemon.token("operator", "operator");
        let ask = |query: &str, token: &str| {
            let path = format!("/api/v1/{path}{query}");
            daemon.tcp(("GET", &path), Some(token), "")
        };
        assert_eq!(ask("", &viewer).status, 200);
        assert_eq!(code(&ask("?numbers=true", &viewer)), "forbidden");
        assert_eq!(code(&ask("?numbers=yes", &operator)), "bad_ladder");
        let named = ask("?numbers=true", &operator).json().unwrap();
        assert_eq!(named["messages"][0]["uri"], "sip:1002@example.com");

        let (code, drawn) = daemon.ask(&["trace", &number]);
        assert_eq!(code, 0, "{drawn}");
        let arrow = "│──── INVITE, SDP ────▶│";
        assert!(drawn.contains(arrow), "{drawn}");
        assert!(drawn.starts_with(&format!("call {number}, goes on, Call-ID INVITE-1001\n7 ")));
        let (_, lines) = daemon.ask(&["trace", &number, "-o", "jsonl"]);
        assert_eq!(lines.lines().count(), 7, "{lines}");
        let (code, gone) = daemon.ask(&["trace", "nobody@nowhere"]);
        assert!(code == 1 && gone.contains("trace.calls"), "{gone}");

        daemon.ask(&["call", "kill", &number]);
        for phone in [call.caller, call.callee] {
            let bye = phone.receive("BYE sip:");
            phone.answer(&bye, "200 OK", "");
        }
        clock::until("both answers are there", LIMIT, || {
            let found = http::get(&daemon.socket(), &format!("/api/v1/{path}"))?;
            let over = found["live"] == false && messages(&found).len() == 11;
            Ok(over.then(|| assert_eq!(messages(&found)[..9], SETUP)))
        })?;
        let (_, drawn) = daemon.ask(&["trace", "INVITE-1001", "--full", "--numbers"]);
        assert!(
            drawn.contains("over, Call-ID INVITE-1001\n11 messages"),
            "{drawn}"
        );
        assert!(
            drawn.contains("\n    INVITE sip:1002@example.com SIP/2.0\n"),
            "{drawn}"
        );

        // The next that ends takes its place; one that is refused has no number.
        caller.request("INVITE", "sip:1003@example.com", "1003", 2, "", "");
        caller.receive("SIP/2.0 404");
        let path = "/api/v1/calls/INVITE-1001/ladder";
        clock::until("a call that was refused", LIMIT, || {
            let found = http::get(&daemon.socket(), path)?;
            let last = messages(&found).pop();
            Ok((last.as_deref() == Some("out caller 404")).then_some(()))
        })?;
        Ok(())
    })
    .unwrap();
}

/// Type and value of every chunk (HEP version 3).
fn chunks(packet: &[u8]) -> std::collections::BTreeMap<u16, Vec<u8>> {
    assert_eq!(&packet[..4], b"HEP3");
    let two = |at: usize| usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
    assert_eq!(two(4), packet.len());
    let (mut at, mut chunks) = (6, std::collections::BTreeMap::new());
    while at < packet.len() {
        let kind = u16::try_from(two(at + 2)).unwrap();
        assert!(
            chunks
                .insert(kind, packet[at + 6..at + two(at + 4)].to_vec())
                .is_none()
        );
        at += two(at + 4);
    }
    chunks
}

/// The next copy of a message that begins like this.
fn copied(server: &UdpSocket, begins: &str) -> std::collections::BTreeMap<u16, Vec<u8>> {
    let mut buffer = [0; 65_536];
    loop {
        let length = server.recv(&mut buffer).unwrap();
        let chunks = chunks(&buffer[..length]);
        if chunks[&15].starts_with(begins.as_bytes()) {
            return chunks;
        }
    }
}

#[test]
fn a_capture_server_gets_every_message() {
    let name = "trace::a_capture_server_gets_every_message";
    in_private_network(name, || {
        ip(LINKS)?;
        let (ipv4, ipv6) = (bind("127.0.0.1", 9060), bind("::1", 9060));
        let secret = std::env::temp_dir().join(format!("towpath-homer-{}", std::process::id()));
        fs::write(&secret, "homer\n")?;
        let section = |hep: &str, secrets: bool| {
            let secret = secret.display();
            format!(
                "{CONFIG}[trace]\nhep = \"{hep}\"\nhep_id = 2001\n\
                 hep_password_file = \"{secret}\"\nhep_secrets = {secrets}\n"
            )
        };
        let mut daemon = Daemon::with("hep", &section("udp:127.0.0.1:9060", false));
        let phone = Phone::register(&daemon, "1001", "10.0.0.20", "10.0.0.3");
        let request = copied(&ipv4, "REGISTER ");
        assert_eq!(
            (&*request[&1], &*request[&2], &*request[&11]),
            (&[2][..], &[17][..], &[1][..])
        );
        assert_eq!(
            (&*request[&3], &*request[&4]),
            (&[10, 0, 0, 20][..], &[10, 0, 0, 3][..])
        );
        let (from, to) = (5070_u16.to_be_bytes(), 5060_u16.to_be_bytes());
        assert_eq!((&*request[&7], &*request[&8]), (&from[..], &to[..]));
        assert_eq!(
            (&*request[&12], &*request[&14]),
            (&2001_u32.to_be_bytes()[..], &b"homer"[..])
        );
        let answer = copied(&ipv4, "SIP/2.0 200");
        assert_eq!(
            (&*answer[&3], &*answer[&4]),
            (&[10, 0, 0, 3][..], &[10, 0, 0, 20][..])
        );

        let digest = "Authorization: Digest username=\"1001\", response=\"0123456789abcdef\"\r\n";
        phone.request("OPTIONS", "sip:10.0.0.3", "1001", 7, digest, "");
        let options = copied(&ipv4, "OPTIONS ");
        assert_eq!(&*options[&17], b"OPTIONS-1001");
        let text = String::from_utf8(options[&15].clone())?;
        assert!(text.contains("response=\"****************\""), "{text}");
        assert!(text.contains("username=\"1001\""), "{text}");

        // Elsewhere, and with the secrets, without a restart.
        daemon.configure(&section("udp:[::1]:9060", true));
        daemon.reloads("trace.hep");
        phone.request("OPTIONS", "sip:10.0.0.3", "1001", 8, digest, "");
        let options = copied(&ipv6, "OPTIONS ");
        let text = String::from_utf8(options[&15].clone())?;
        assert!(text.contains("response=\"0123456789abcdef\""), "{text}");
        clock::until("copies are counted", LIMIT, || {
            let metrics = daemon.metrics();
            let sent = "\ntowpath_hep_messages_total{result=\"sent\"} ";
            let (_, sent) = metrics.split_once(sent).unwrap();
            let sent: u32 = sent.lines().next().unwrap().parse()?;
            Ok((sent >= 5).then_some(()))
        })?;

        // Not any more.
        daemon.configure(CONFIG);
        daemon.reloads("configuration applied");
        fs::remove_file(&secret)?;
        Ok(())
    })
    .unwrap();
}
