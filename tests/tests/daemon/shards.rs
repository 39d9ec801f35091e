//! Several engines in one daemon: which of them has a call is nobody else's business.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// Calls at a time, and how often.
const CALLS: usize = 40;
const ROUNDS: usize = 5;

/// What a phone receives goes by in the order it was sent in, for every call, whichever engine it
/// is in; and all engines have calls.
#[test]
fn acks_and_byes_stay_in_order() {
    in_private_network("shards::acks_and_byes_stay_in_order", || {
        ip(LINKS)?;
        let config = CONFIG.replace("auth = \"none\"", "auth = \"none\"\nshards = 3");
        let daemon = Daemon::with("shards", &config);
        let caller = Phone::register(&daemon, "1001", "10.0.0.20", "10.0.0.3");
        let callee = Phone::register(&daemon, "1002", "10.0.1.20", "10.0.1.3");
        for round in 0..ROUNDS {
            let names: Vec<String> = (0..CALLS).map(|n| format!("{round}-{n}@x")).collect();
            let answers: Vec<String> = names.iter().map(|id| dial(&caller, &callee, id)).collect();
            spread(&daemon);
            for (id, answer) in names.iter().zip(&answers) {
                caller.within(answer, "ACK", 1, id);
                caller.within(answer, "BYE", 2, id);
            }
            in_order(&callee, &names);
        }
        let gone = || Ok((daemon.ask(&["call", "list"]).1 == "no calls\n").then_some(()));
        clock::until("the calls to end", LIMIT, gone)?;
        let status = http::get(&daemon.socket(), "/api/v1/status").unwrap();
        assert_eq!(status["counters"]["sip_datagram.queue_full"], 0);
        assert_eq!(status["registrations"], 2);
        parse_metrics(&daemon.metrics());
        Ok(())
    })
    .unwrap();
}

/// A call up to the 200, which is returned.
pub(super) fn dial(caller: &Phone, callee: &Phone, id: &str) -> String {
    let host = caller.host;
    let lines = [
        "INVITE sip:1002@example.com SIP/2.0".to_owned(),
        format!("Via: SIP/2.0/UDP {host}:5070;branch=z9hG4bKi{id}"),
        "Max-Forwards: 70".to_owned(),
        "From: <sip:1001@example.com>;tag=f".to_owned(),
        "To: <sip:1002@example.com>".to_owned(),
        format!("i: {id}"),
        "CSeq: 1 INVITE".to_owned(),
        format!("Contact: <sip:1001@{host}:5070>"),
    ];
    caller.send(&lines.join(CRLF), SDP_TYPE, &caller.sdp());
    let invite = callee.receive("INVITE ");
    callee.answer(
        &invite.replace("\ni: ", "\nCall-ID: "),
        "200 OK",
        &callee.sdp(),
    );
    caller.receive("SIP/2.0 200")
}

impl Phone {
    /// A request within the call that this answered.
    pub(super) fn within(&self, answer: &str, method: &str, cseq: u32, id: &str) {
        let contact = header(answer, "Contact:");
        let target = contact.trim().trim_matches(['<', '>']);
        let lines = [
            format!("{method} {target} SIP/2.0"),
            format!(
                "Via: SIP/2.0/UDP {}:5070;branch=z9hG4bK{method}{id}",
                self.host
            ),
            "Max-Forwards: 70".to_owned(),
            format!("From:{}", header(answer, "From:")),
            format!("To:{}", header(answer, "To:")),
            format!("Call-ID: {id}"),
            format!("CSeq: {cseq} {method}"),
        ];
        self.send(&lines.join(CRLF), "", "");
    }
}

/// Every engine has calls; together they have them all, each with a number of its own.
fn spread(daemon: &Daemon) {
    let status = http::get(&daemon.socket(), "/api/v1/status").unwrap();
    let shards = status["shards"].as_array().unwrap();
    let calls: Vec<u64> = shards
        .iter()
        .map(|s| s["calls"].as_u64().unwrap())
        .collect();
    assert_eq!(calls.len(), 3);
    assert!(calls.iter().all(|calls| *calls > 0), "{calls:?}");
    let listed = http::get(&daemon.socket(), "/api/v1/calls").unwrap();
    let listed = listed["calls"].as_array().unwrap().clone();
    let numbers: BTreeSet<u64> = listed.iter().map(|c| c["id"].as_u64().unwrap()).collect();
    assert!(numbers.len() >= CALLS, "{numbers:?}");
    let last = numbers.last().unwrap();
    let path = format!("/api/v1/calls/{last}");
    assert_eq!(http::get(&daemon.socket(), &path).unwrap()["id"], *last);
}

/// Of every call the ACK comes first, then the BYE.
fn in_order(callee: &Phone, names: &[String]) {
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    while seen.values().map(Vec::len).sum::<usize>() < 2 * names.len() {
        let message = callee.receive("");
        let method = message.split(' ').next().unwrap().to_owned();
        let id = header(&message, "Call-ID:").trim().to_owned();
        if method == "BYE" {
            callee.answer(&message, "200 OK", "");
        }
        let seen = seen.entry(id).or_default();
        // A BYE that was not answered in time is repeated.
        if seen.last() != Some(&method) {
            seen.push(method);
        }
    }
    for id in names {
        assert_eq!(seen[id], ["ACK", "BYE"], "{id}");
    }
}
