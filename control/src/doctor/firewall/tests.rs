use super::iptables::read;
use super::*;

fn packet(source: &str, target: &str, port: u16) -> Packet {
    Packet {
        arrives_at: Some("eth0".to_owned()),
        leaves_by: None,
        source: source.parse().unwrap(),
        target: target.parse().unwrap(),
        protocol: Protocol::Udp,
        source_port: 40_000,
        target_port: port,
    }
}

/// What becomes of a packet of UDP from a neighbour, in words.
#[track_caller]
fn check(rules: &str, port: u16, expected: &str) {
    let text = format!("*filter\n{rules}\nCOMMIT\n");
    let rules = read(&text, Backend::Legacy, Family::Ip);
    assert_eq!(rules.remarks, [""; 0]);
    let shown = match rules.judge(&packet("10.1.0.10", "10.1.0.1", port)) {
        Outcome::Passes => "passes".to_owned(),
        Outcome::Stopped(place) => format!("{place}"),
        Outcome::Unknown(place, why) => format!("unknown: {place} ({why})"),
    };
    assert_eq!(shown, expected);
}

const OPEN: &str = ":INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n";
const SHUT: &str = ":INPUT DROP [0:0]\n";

#[test]
fn the_first_rule_that_holds_counts() {
    let one = |rule: &str| format!("{OPEN}-A INPUT {rule}");
    let place = |rule: &str| format!("table filter, chain INPUT, rule 1: -A INPUT {rule}");
    check(OPEN, 5060, "passes");
    check(SHUT, 5060, "table filter, chain INPUT: its policy is drop");
    for rule in [
        "-j DROP",
        "-p udp -m udp --dport 5060 -j REJECT --reject-with icmp-port-unreachable",
        "-s 10.0.0.0/8 -j DROP",
        "-s 10.1.0.10/32 -d 10.1.0.1/255.255.255.255 -i eth+ -j DROP",
        "! -i lo -j REJECT --reject-with icmp-host-prohibited",
        "-p udp -m multiport --dports 80,5000:6000 -m comment --comment \"no \\\"SIP\\\"\" -j DROP",
        "-m conntrack --ctstate NEW -j DROP",
        "-m state --state INVALID,NEW -j DROP",
        "-m iprange --src-range 10.1.0.1-10.1.0.20 -j DROP",
        "-p udp -m udp ! --sport 1:1024 -j DROP",
        "-m addrtype --dst-type LOCAL -j DROP",
        "-p udp -m udp --dport 5060 -j REDIRECT --to-ports 5070",
    ] {
        check(&one(rule), 5060, &place(rule));
    }
    for rule in [
        "-p tcp -j DROP",
        "-p udp -m udp --dport 5061 -j DROP",
        "! -s 10.0.0.0/8 -j DROP",
        "-i eth1 -j DROP",
        "-m conntrack --ctstate RELATED,ESTABLISHED -j DROP",
        "-m addrtype --dst-type BROADCAST -j DROP",
        "-j LOG --log-prefix \"in: \" --log-level 7",
        "-j ACCEPT",
    ] {
        check(&one(rule), 5060, "passes");
    }
}

#[test]
fn chains_lead_into_each_other() {
    let chains = ":SIP - [0:0]\n:BLOCK - [0:0]\n-A INPUT -p udp -j SIP\n-A INPUT -j BLOCK\n\
                  -A SIP -p udp -m udp --dport 5060 -j ACCEPT\n\
                  -A SIP -p udp -m udp --dport 5061 -j RETURN\n\
                  -A SIP -p udp --dport 5062 -g BLOCK\n\
                  -A BLOCK -j DROP";
    let rules = format!("{OPEN}{chains}");
    let blocked = "table filter, chain BLOCK, rule 1: -A BLOCK -j DROP";
    check(&rules, 5060, "passes");
    check(&rules, 5061, blocked);
    check(&rules, 5062, blocked);
    check(&rules, 5063, blocked);
    let past = format!("{OPEN}:LOOP - [0:0]\n-A INPUT -j LOOP\n-A LOOP -j LOOP");
    check(
        &past,
        5060,
        "unknown: table filter, chain LOOP, rule 1: -A LOOP -j LOOP (too many rules)",
    );
}

#[test]
fn what_cannot_be_told_is_unknown_only_where_it_matters() {
    let limited = "-A INPUT -m limit --limit 10/sec -j ACCEPT";
    check(&format!("{OPEN}{limited}"), 5060, "passes");
    check(
        &format!("{SHUT}{limited}"),
        5060,
        "unknown: table filter, chain INPUT: its policy is drop (--limit 10/sec)",
    );
    let marked = "-A INPUT -m mark --mark 0x1 -j DROP";
    check(
        &format!("{OPEN}{marked}"),
        5060,
        "unknown: table filter, chain INPUT, rule 1: -A INPUT -m mark --mark 0x1 -j DROP \
         (--mark 0x1)",
    );
    // It holds for other ports only, whatever the mark.
    check(
        &format!("{OPEN}-A INPUT -p udp --dport 99 -m mark --mark 0x1 -j DROP"),
        5060,
        "passes",
    );
    check(
        &format!("{OPEN}-A INPUT -m mystery -j DROP"),
        5060,
        "unknown: table filter, chain INPUT, rule 1: -A INPUT -m mystery -j DROP (-m mystery)",
    );
}

#[test]
fn every_table_has_to_let_it_pass() {
    let rules = "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p udp -j DROP\nCOMMIT\n\
                 *filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j ACCEPT\nCOMMIT\n";
    let rules = read(rules, Backend::Xt, Family::Ip);
    let found = rules.judge(&packet("10.1.0.10", "10.1.0.1", 5060));
    let Outcome::Stopped(place) = found else {
        panic!("{found:?}");
    };
    assert_eq!(
        place.to_string(),
        "table raw, chain PREROUTING, rule 1: -A PREROUTING -p udp -j DROP"
    );
    // Rules of the other family do not see it.
    let v6 = rules.judge(&packet("2001:db8::10", "2001:db8::1", 5060));
    assert_eq!(v6, Outcome::Passes);
}

#[test]
fn what_we_send_meets_other_chains() {
    let rules = format!("*filter\n{SHUT}:OUTPUT ACCEPT [0:0]\n-A OUTPUT -o eth0 -p udp -j DROP\n");
    let rules = read(&rules, Backend::Xt, Family::Ip);
    let mut out = packet("10.1.0.1", "10.1.0.10", 40_000);
    (out.arrives_at, out.leaves_by) = (None, Some("eth0".to_owned()));
    let Outcome::Stopped(place) = rules.judge(&out) else {
        panic!("it passes");
    };
    assert_eq!(place.chain, "OUTPUT");
    out.leaves_by = Some("eth1".to_owned());
    assert_eq!(rules.judge(&out), Outcome::Passes);
}

#[test]
fn lines_that_make_no_sense_are_told() {
    let rules = read(
        "*filter\n:INPUT ACCEPT [0:0]\nwhat is this\nCOMMIT\n",
        Backend::Xt,
        Family::Ip,
    );
    assert_eq!(rules.remarks, ["not understood: what is this"]);
}
