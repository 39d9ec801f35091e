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
