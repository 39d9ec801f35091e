use super::*;
use serde_json::json;

#[track_caller]
fn check(shown: &str, expected: &str) {
    let expected = expected.strip_prefix('\n').unwrap_or(expected);
    assert_eq!(shown, expected, "\n{shown}");
}

#[test]
fn durations_are_spelt() {
    let check = |s, expected| assert_eq!(seconds(s), expected);
    check(0, "0s");
    check(59, "59s");
    check(60, "1m 0s");
    check(3725, "1h 2m 5s");
    check(86_400 * 3 + 3600, "3d 1h 0m");
}

#[test]
fn nothing_says_so() {
    check(&calls(&json!({ "calls": [] })), "no calls\n");
    check(&registrations(&json!({})), "nobody is registered\n");
}

#[test]
fn what_a_peer_sent_does_not_reach_the_terminal() {
    let agent = json!({ "user_agent": "x\u{1b}[2Jy\r" });
    assert_eq!(cell(agent.get("user_agent"), Show::Text), "x�[2Jy�");
}

#[test]
fn registrations_are_a_table() {
    let shown = registrations(&json!({ "registrations": [
        { "aor": "1001@example.com", "network": "wan", "seen": "203.0.113.2:1024",
          "claimed": "192.168.1.10:5060", "nat": true, "expires_s": 3590, "user_agent": null },
        { "aor": "1003@example.com", "network": "lan", "seen": "10.1.0.30:5060",
          "claimed": "10.1.0.30:5060", "nat": false, "expires_s": 59, "user_agent": "phone 1" },
    ]}));
    check(
        &shown,
        "
USER              NETWORK  SEEN AT           SAYS IT IS AT      NAT  EXPIRES IN  USER AGENT
1001@example.com  wan      203.0.113.2:1024  192.168.1.10:5060  yes     59m 50s  -
1003@example.com  lan      10.1.0.30:5060    10.1.0.30:5060     no          59s  phone 1
",
    );
}

#[test]
fn a_call_shows_why_a_flow_is_not_in_the_kernel() {
    let flow = |leg: &str, path: &str, why: Value| {
        json!({ "leg": leg, "kind": "audio", "component": "rtp", "peer": "192.0.2.2:24",
                "at": "192.0.2.1:30000", "target": "10.9.0.20:78", "path": path,
                "packets_xdp": 51234, "packets_user": 2, "why": why })
    };
    let signalling = "203.0.113.2:1025";
    let leg = |network: &str, nat: bool| {
        json!({ "network": network, "signalling": signalling,
                "nat": nat })
    };
    let shown = calls(&json!({ "calls": [
        { "id": 7, "from": "1001@example.com", "to": "9000@example.com", "state": "answered",
          "age_s": 75, "setup_ms": 212, "caller": leg("wan", true), "callee": leg("core", false),
          "flows": [flow("caller", "xdp", Value::Null),
                    flow("callee", "user", "neighbour not resolved yet".into())] },
        { "id": 8, "from": "a@b", "to": "c@d", "state": "ringing", "age_s": 1, "setup_ms": null,
          "caller": leg("wan", true), "callee": null, "flows": [] },
    ]}));
    check(
        &shown,
        "
call 7: 1001@example.com → 9000@example.com, answered for 1m 15s, set up in 212 ms
  caller in wan, signalling with 203.0.113.2:1025, behind a NAT
  callee in core, signalling with 203.0.113.2:1025
  FROM    MEDIA  PART  PEER          ARRIVES AT       SENT TO       PATH  XDP PKTS  USER PKTS
  caller  audio  rtp   192.0.2.2:24  192.0.2.1:30000  10.9.0.20:78  xdp      51234          2
  callee  audio  rtp   192.0.2.2:24  192.0.2.1:30000  10.9.0.20:78  user     51234          2
  not in the kernel (callee audio rtp): neighbour not resolved yet

call 8: a@b → c@d, ringing for 1s
  caller in wan, signalling with 203.0.113.2:1025, behind a NAT
  no media yet
",
    );
}

#[test]
fn status_fits_a_screen_and_counters_come_when_asked() {
    let document = json!({
        "node": "edge-01", "version": "0.1.0", "pid": 42, "uptime_s": 3725, "state": "degraded",
        "warnings": ["the kernel path is off: no kernel program"],
        "config": { "generation": 4, "source": "SIGHUP", "at": "2026-11-22T19:10:44Z",
                    "refused": { "problems": [{ "file": "towpath.toml", "line": 3, "column": 8,
                                                "message": "`x` is not a choice" }] } },
        "datapath": { "interfaces": [], "why": "no kernel program" },
        "flows": { "kernel": 0, "user": 8, "adopted": 0 },
        "calls": { "now": 2, "answered": 1 }, "registrations": 3, "media_sockets": 16,
        "transactions": 1, "verdicts": {},
        "counters": { "sip_request.INVITE": 12, "sip_auth.challenged": 1003, "x.y": 0 },
    });
    let brief = status(&document, false);
    let verbose = status(&document, true);
    check(
        &verbose,
        "
state          DEGRADED
node           edge-01, version 0.1.0, process 42
up for         1h 2m 5s
configuration  generation 4, SIGHUP at 2026-11-22T19:10:44Z
kernel path    off: no kernel program
flows          0 in the kernel, 8 in userspace; 0 of them from before the start
calls          2, 1 of them answered
registrations  3
media sockets  16
transactions   1
warning        the kernel path is off: no kernel program
               towpath.toml:3:8: `x` is not a choice

packets by verdict: none

counters
  sip_auth.challenged  1003
  sip_request.INVITE     12
",
    );
    assert!(verbose.starts_with(&brief));
}
