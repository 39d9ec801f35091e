use super::*;
use crate::doctor::firewall::{Outcome, Packet, Protocol};

/// Printed by nft 1.0.6.
const RULESET: &str = include_str!("ruleset.json");

fn ruleset(text: &str) -> Ruleset {
    let document = serde_json::from_str(text).unwrap();
    read(&document, &|_, _| false).unwrap()
}

/// A ruleset of one base chain `input` with these rules (their expressions), and a named set.
fn chain(policy: &str, rules: &[&str]) -> Ruleset {
    let rule = |(number, expressions): (usize, &&str)| {
        format!(
            "{{\"rule\": {{\"family\": \"inet\", \"table\": \"t\", \"chain\": \"input\", \
             \"handle\": {number}, \"expr\": [{expressions}]}}}}"
        )
    };
    let rules: Vec<String> = rules.iter().enumerate().map(rule).collect();
    ruleset(&format!(
        "{{\"nftables\": [{{\"chain\": {{\"family\": \"inet\", \"table\": \"t\", \
         \"name\": \"input\", \"type\": \"filter\", \"hook\": \"input\", \"prio\": 0, \
         \"policy\": \"{policy}\"}}}}, {{\"set\": {{\"family\": \"inet\", \"table\": \"t\", \
         \"name\": \"ours\", \"elem\": [5060, {{\"range\": [20000, 20199]}}]}}}}{}{}]}}",
        if rules.is_empty() { "" } else { ", " },
        rules.join(", ")
    ))
}

fn packet(port: u16) -> Packet {
    Packet {
        arrives_at: Some("eth0".to_owned()),
        leaves_by: None,
        source: "10.1.0.10".parse().unwrap(),
        target: "10.1.0.1".parse().unwrap(),
        protocol: Protocol::Udp,
        source_port: 40_000,
        target_port: port,
    }
}

fn spell(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Passes => "passes".to_owned(),
        Outcome::Stopped(place) => place.to_string(),
        Outcome::Unknown(place, why) => format!("unknown: {place} ({why})"),
    }
}

#[track_caller]
fn check(policy: &str, rule: &str, port: u16, expected: &str) {
    let found = chain(policy, &[rule]).judge(&packet(port));
    assert_eq!(spell(&found), expected, "{rule}");
}

fn matched(left: &str, op: &str, right: &str) -> String {
    format!("{{\"match\": {{\"op\": \"{op}\", \"left\": {left}, \"right\": {right}}}}}")
}

const DPORT: &str = r#"{"payload": {"protocol": "udp", "field": "dport"}}"#;
const SADDR: &str = r#"{"payload": {"protocol": "ip", "field": "saddr"}}"#;
const SADDR6: &str = r#"{"payload": {"protocol": "ip6", "field": "saddr"}}"#;
const TCP: &str = r#"{"payload": {"protocol": "tcp", "field": "dport"}}"#;

#[test]
fn conditions() {
    let stops = |left: &str, op: &str, right: &str| {
        let rule = format!("{}, {{\"drop\": null}}", matched(left, op, right));
        spell(&chain("accept", &[&rule]).judge(&packet(5060))) != "passes"
    };
    let meta = |key: &str| format!("{{\"meta\": {{\"key\": \"{key}\"}}}}");
    let state = r#"{"ct": {"key": "state"}}"#;
    for (left, op, right, expected) in [
        (DPORT, "==", "5060", true),
        (DPORT, "==", "\"sip\"", true),
        (DPORT, "==", "5061", false),
        (DPORT, "!=", "5061", true),
        (DPORT, "==", r#"{"set": [53, 5060]}"#, true),
        (DPORT, "==", r#"{"range": [5000, 6000]}"#, true),
        (DPORT, "!=", r#"{"range": [5000, 6000]}"#, false),
        (DPORT, "==", "\"@ours\"", true),
        (DPORT, ">", "1023", true),
        (DPORT, "<=", "1023", false),
        // Not a packet of TCP: neither it nor its opposite holds.
        (TCP, "==", "5060", false),
        (TCP, "!=", "5060", false),
        (
            SADDR,
            "==",
            r#"{"prefix": {"addr": "10.0.0.0", "len": 8}}"#,
            true,
        ),
        (SADDR, "!=", "\"10.1.0.10\"", false),
        (SADDR6, "!=", "\"2001:db8::1\"", false),
        (&meta("iifname"), "==", "\"eth*\"", true),
        (&meta("iif"), "!=", "\"lo\"", true),
        (&meta("l4proto"), "==", r#"{"set": ["tcp", "udp"]}"#, true),
        (&meta("nfproto"), "==", "\"ipv6\"", false),
        (state, "in", "\"new\"", true),
        (state, "in", r#"["established", "related"]"#, false),
    ] {
        assert_eq!(stops(left, op, right), expected, "{left} {op} {right}");
    }
}

#[test]
fn the_rule_is_named_as_nft_writes_it() {
    let rule = format!(
        "{}, {{\"counter\": {{}}}}, {{\"reject\": {{\"type\": \"icmpx\", \
                        \"expr\": \"admin-prohibited\"}}}}",
        matched(DPORT, "==", "\"@ours\"")
    );
    check(
        "accept",
        &rule,
        20_100,
        "table inet t, chain input, rule 1: udp dport @ours reject \
                                    with icmpx admin-prohibited",
    );
    check("accept", &rule, 20_200, "passes");
    check(
        "drop",
        &rule,
        20_200,
        "table inet t, chain input: its policy is drop",
    );
    let mark = format!(
        "{}, {{\"accept\": null}}",
        matched(r#"{"meta": {"key": "mark"}}"#, "==", "1")
    );
    check(
        "drop",
        &mark,
        5060,
        "unknown: table inet t, chain input: its policy is drop (mark 1)",
    );
    check("accept", &mark, 5060, "passes");
    check(
        "accept",
        r#"{"xt": {"type": "target", "name": "REJECT"}}"#,
        5060,
        "unknown: table inet t, chain input, rule 1: xt REJECT (xt REJECT)",
    );
    let vmap = format!(
        "{{\"vmap\": {{\"key\": {DPORT}, \"data\": {{\"set\": [[5060, {{\"drop\": \
                        null}}], [5061, {{\"accept\": null}}]]}}}}}}"
    );
    check(
        "accept",
        &vmap,
        5060,
        "table inet t, chain input, rule 1: udp dport vmap { 5060 : drop, \
                                  5061 : accept }",
    );
    check("drop", &vmap, 5061, "passes");
    check("accept", &vmap, 5062, "passes");
}

/// A ruleset with everything nft prints differently: sets, verdict maps, jumps, concatenations.
#[test]
fn a_real_ruleset() {
    let rules = ruleset(RULESET);
    assert_eq!(rules.remarks, [""; 0]);
    let ingress = |packet: &Packet| spell(&rules.judge(packet));
    let dropped = "table netdev n, chain ing, rule 1: udp dport 5060 drop";
    assert_eq!(
        ingress(&packet(5060)),
        format!("unknown: {dropped} (device of the chain)")
    );
    assert_eq!(ingress(&packet(20_000)), "passes");
    let odd = "table inet filter, chain input, rule 8: ip saddr 10.1.0.0/24 udp dport != \
               20000-29999 drop";
    assert_eq!(ingress(&packet(5063)), odd);
    let elsewhere = |port| Packet {
        source: "10.2.0.10".parse().unwrap(),
        ..packet(port)
    };
    let vmap = "table inet filter, chain input, rule 9: udp dport vmap { 5062 : drop, \
                30000-39999 : jump services }";
    assert_eq!(ingress(&elsewhere(5062)), vmap);
    let rejected =
        "table inet filter, chain input, rule 13: log reject with icmpx admin-prohibited";
    assert_eq!(
        ingress(&elsewhere(5063)),
        format!("unknown: {rejected} (mark 1)")
    );
}

#[test]
fn tables_that_another_program_shows_better_are_left_to_it() {
    let document = serde_json::from_str(RULESET).unwrap();
    let foreign = |family: Family, table: &str| family == Family::Inet && table == "filter";
    let rules = read(&document, &foreign).unwrap();
    assert_eq!(rules.chains.len(), 1);
}
