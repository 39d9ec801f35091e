use super::super::wrap::WIDTH;
use super::*;
use serde_json::json;

#[track_caller]
fn check(shown: &str, expected: &str) {
    let expected = expected.strip_prefix('\n').unwrap_or(expected);
    assert_eq!(shown, expected, "\n{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= WIDTH));
}

#[test]
fn a_call_shows_each_flow_and_why_it_is_not_in_the_kernel() {
    let stream = json!({ "ssrc": "0x0badcafe", "ssrc_changes": 1, "received": 990, "lost": 10,
                         "lost_ppm": 10_000, "reordered": 3, "jitter_us": 2_340 });
    let flow = |leg: &str, path: &str, why: Value| {
        let stream = if why.is_null() {
            stream.clone()
        } else {
            Value::Null
        };
        json!({ "leg": leg, "stream": stream, "bits_per_s": 80_000, "silent_s": 12,
                "kind": "audio", "component": "rtp", "held": "192.0.2.2:24",
                "at": "192.0.2.1:30000", "target": "10.9.0.20:78", "path": path,
                "advertised": "203.0.113.9:30000", "signalled": "192.168.1.10:24",
                "latch": "held", "rule": "as SDP says", "strangers": 3, "strangers_xdp": 4,
                "packets_xdp": 51234, "packets_user": 2, "why": why })
    };
    let leg = |network: &str, nat: bool| {
        json!({ "network": network, "signalling": "203.0.113.2:1025", "nat": nat,
                "via": "udp:192.0.2.1:5060", "target": "sip:1001@192.168.1.10",
                "media": "auto", "media_by": "network" })
    };
    let shown = call(&json!({
        "id": 7, "call_id": "abc", "from": "1001@example.com", "to": "9000@example.com",
        "state": "answered", "age_s": 75, "setup_ms": 212, "caller": leg("wan", true),
        "callee": leg("core", false),
        "flows": [flow("caller", "xdp", Value::Null),
                  flow("callee", "user", "neighbour not resolved yet".into())],
    }));
    check(
        &shown,
        "
call 7: 1001@example.com → 9000@example.com, answered for 1m 15s, set up in
  212 ms
  Call-ID      abc
  caller       in wan, signalling with 203.0.113.2:1025 by udp:192.0.2.1:5060,
               behind a NAT; sip:1001@192.168.1.10; media auto
  callee       in core, signalling with 203.0.113.2:1025 by udp:192.0.2.1:5060;
               sip:1001@192.168.1.10; media auto

audio rtp from the caller
  told to send to  203.0.113.9:30000
  arrives at       192.0.2.1:30000
  SDP says         192.168.1.10:24
  held at          192.0.2.2:24
  latch            held: as SDP says
  sent to          10.9.0.20:78
  path             the kernel
  packets          51234 in the kernel, 2 by the daemon; refused: 4 and 3
  stream           80 kbit/s, 10 lost (1.00 %), 3 late or twice, jitter 2.3 ms;
                   source 0x0badcafe after 1 others; silent for 12 s while the
                   other party is not

audio rtp from the callee
  told to send to  203.0.113.9:30000
  arrives at       192.0.2.1:30000
  SDP says         192.168.1.10:24
  held at          192.0.2.2:24
  latch            held: as SDP says
  sent to          10.9.0.20:78
  path             the daemon: neighbour not resolved yet
  packets          51234 in the kernel, 2 by the daemon; refused: 4 and 3
",
    );
    let early = json!({ "id": 8, "from": "a@b", "to": "c@d", "state": "ringing", "age_s": 1,
                        "call_id": "x", "setup_ms": null, "caller": leg("wan", true),
                        "callee": null, "flows": [],
                        "branches": [{ "network": "lan", "target": "sip:c@10.0.0.2",
                                       "signalling": "10.0.0.2:5060", "state": "ringing",
                                       "status": 180 }] });
    let asked = "  asked        sip:c@10.0.0.2 in lan, at 10.0.0.2:5060: ringing (180)\n";
    assert!(call(&early).ends_with(&format!("{asked}  no media yet\n")));
}

#[test]
fn a_decision_has_its_facts_its_rule_and_its_place() {
    let step = json!({
        "topic": "network", "question": "Which network?", "decision": "wan",
        "facts": ["packets arrive at 10.1.0.2 from 192.168.1.1", "x\u{1b}[2J"],
        "rule": "192.168.1.1 rewrites sources: what comes from there is of this network",
        "key": "network.wan.source_rewriting_gateways[0]", "place": "towpath.toml:31",
        "losers": [{ "network": "lan", "why": "192.168.0.0/16 holds 192.168.1.1, but a gateway \
                                               comes before any prefix" }],
        "means": "it is told 203.0.113.9 in Contact, Via and SDP",
    });
    let default = json!({ "topic": "media", "question": "Where?", "decision": "there", "facts": [],
                          "rule": "so it is", "key": "network.wan.media", "place": null,
                          "losers": [], "means": null });
    let shown = explained(&json!({
        "bindings": [{ "answer": ["One line.", "Another."], "steps": [step, default] }],
    }));
    check(
        &shown,
        "
One line.
Another.

Which network?  wan
  seen     packets arrive at 10.1.0.2 from 192.168.1.1
           x�[2J
  because  192.168.1.1 rewrites sources: what comes from there is of this
           network
  written  towpath.toml:31, network.wan.source_rewriting_gateways[0]
  not      lan: 192.168.0.0/16 holds 192.168.1.1, but a gateway comes before any
           prefix
  so       it is told 203.0.113.9 in Contact, Via and SDP
Where?  there
  because  so it is
  default  network.wan.media is not written
",
    );
}

#[test]
fn a_network_is_a_block_with_its_warnings() {
    let shown = networks(&json!({ "networks": [
        { "name": "lan", "interface": "eth1", "address": "10.0.0.3", "place": "t.toml:7",
          "advertise": "10.0.0.3", "advertise_media": "10.0.0.3",
          "media_ports": "20000-20099", "advertise_ports": "20000-20099", "media": "auto",
          "peers": ["10.0.0.0/8", "192.168.1.0/24"], "source_rewriting_gateways": [],
          "pairs_used": 1, "pairs_resting": 0, "pairs_free": 49, "registrations": 1, "calls": 2,
          "peers_seen": { "count": 0, "examples": [] },
          "warnings": ["network lan: write\na = [\"1\"]\u{1b}"] },
    ]}));
    check(
        &shown,
        "
lan on eth1: 10.0.0.3 (t.toml:7)
  is told      10.0.0.3
  media        10.0.0.3, ports 20000-20099 (ours 20000-20099), mode auto
  peers        10.0.0.0/8, 192.168.1.0/24
  port pairs   1 in use, 0 resting, 49 free
  used by      1 registration, 2 calls
  seen         nobody
  warning      network lan: write
               a = [\"1\"]�
",
    );
}

#[test]
fn an_event_is_a_line() {
    let shown = events(&json!({ "last": 8, "forgotten": true, "events": [
        { "seq": 8, "at": "2026-11-22T19:31:05Z", "kind": "call.started", "subject": "1",
          "fields": { "from": "1001", "to": "1002\n" } },
    ]}));
    check(
        &shown,
        "
(older ones are forgotten)
8 2026-11-22T19:31:05Z call.started 1 from=1001 to=1002�
",
    );
}
