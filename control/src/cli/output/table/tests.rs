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
USER              NETWORK  SEEN AT           SAYS IT IS AT      NAT  EXPIRES
1001@example.com  wan      203.0.113.2:1024  192.168.1.10:5060  yes  59m 50s
1003@example.com  lan      10.1.0.30:5060    10.1.0.30:5060     no       59s
",
    );
}

#[test]
fn what_is_too_wide_for_a_terminal_is_a_block_for_each_row() {
    let shown = registrations(&json!({ "registrations": [
        { "aor": "1001@example.com", "network": "wan", "seen": "[2001:db8:1:2:3:4:5:6]:54321",
          "claimed": "[2001:db8:1:2:3:4:5:7]:54321", "nat": true, "expires_s": 3590 },
    ]}));
    check(
        &shown,
        "
  USER           1001@example.com
  NETWORK        wan
  SEEN AT        [2001:db8:1:2:3:4:5:6]:54321
  SAYS IT IS AT  [2001:db8:1:2:3:4:5:7]:54321
  NAT            yes
  EXPIRES        59m 50s
",
    );
}

#[test]
fn a_call_is_a_line_with_its_networks_and_paths() {
    let flow = |path: &str| json!({ "path": path });
    let leg = |network: &str| json!({ "network": network });
    let shown = calls(&json!({ "calls": [
        { "id": 7, "from": "1001", "to": "9000", "state": "established", "age_s": 75,
          "caller": leg("wan"), "callee": leg("core"),
          "flows": [flow("xdp"), flow("xdp"), flow("user"), flow("none")] },
        { "id": 12, "from": "1", "to": "2", "state": "calling", "age_s": 1,
          "caller": leg("wan"), "callee": null, "flows": [] },
    ]}));
    check(
        &shown,
        "
ID  CALLER  CALLEE  STATE           FOR  NETWORKS    MEDIA
 7  1001    9000    established  1m 15s  wan → core  2 kernel, 1 user, 1 waiting
12  1       2       calling          1s  wan → -     -
",
    );
}

#[test]
fn status_fits_a_screen_and_counters_come_when_asked() {
    let document = json!({
        "node": "edge-01", "version": "0.1.0", "pid": 42, "uptime_s": 3725, "state": "degraded",
        "warnings": ["the kernel path is off: no kernel program", "network lan: write\n  a = 1"],
        "config": { "generation": 4, "source": "SIGHUP", "at": "2026-11-22T19:10:44Z",
                    "refused": { "problems": [{ "file": "towpath.toml", "line": 3, "column": 8,
                                                "message": "`x` is not a choice" }] } },
        "datapath": { "interfaces": [], "why": "no kernel program" },
        "flows": { "kernel": 0, "user": 8, "adopted": 0 },
        "calls": { "now": 2, "answered": 1 }, "registrations": 3, "media_sockets": 16,
        "transactions": 1, "verdicts": {},
        "broker": { "url": "mqtt://127.0.0.1:1883", "state": "down", "since_s": 75, "why": "x",
                    "waiting": 1200 },
        "shards": [{ "shard": 0, "calls": 2, "transactions": 1, "queue": 0 },
                   { "shard": 1, "calls": 0, "transactions": 0, "queue": 1200 }],
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
broker         mqtt://127.0.0.1:1883, not reached for 1m 15s; 1200 messages wait
warning        the kernel path is off: no kernel program
warning        network lan: write
                 a = 1
               towpath.toml:3:8: `x` is not a choice

shards
SHARD  CALLS  TRANSACTIONS  WAITING
    0      2             1        0
    1      0             0     1200

packets by verdict: none

counters
  sip_auth.challenged  1003
  sip_request.INVITE     12
",
    );
    assert!(verbose.starts_with(&brief));
}
