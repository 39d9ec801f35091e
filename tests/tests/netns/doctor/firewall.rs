//! Rules of all three programs that stop calls, and some that only look so.

use super::{CASE, Case, Patient};

const FLUSH: &str = "nft flush ruleset; iptables-legacy -P INPUT ACCEPT; \
                     iptables-legacy -F; iptables-legacy -t raw -F; \
                     iptables-legacy -X";

const fn rules(
    name: &'static str,
    does: &'static str,
    finds: &'static [(&'static str, &'static str)],
    says: &'static str,
) -> Case {
    Case {
        name,
        does,
        undoes: FLUSH,
        finds,
        says,
        ..CASE
    }
}

const NFT: &[(&str, &str)] = &[("fw.nft", "fail")];
const XT: &[(&str, &str)] = &[("fw.xt", "fail")];
const LEGACY: &[(&str, &str)] = &[("fw.legacy", "fail")];

const CASES: &[Case] = &[
    rules(
        "legacy iptables rejects SIP",
        "iptables-legacy -A INPUT -i lo -j ACCEPT; \
         iptables-legacy -A INPUT -p udp --dport 5060 -j REJECT",
        LEGACY,
        "table filter, chain INPUT, rule 2: -A INPUT -p udp -m udp --dport 5060 -j REJECT",
    ),
    rules(
        "legacy iptables drops by default",
        "iptables-legacy -A INPUT -p udp --dport 5060 -j ACCEPT; iptables-legacy -P INPUT DROP",
        LEGACY,
        "table filter, chain INPUT: its policy is drop",
    ),
    rules(
        "legacy iptables drops in a chain of its own",
        "iptables-legacy -N WAN; iptables-legacy -A INPUT -i wan -j WAN; \
         iptables-legacy -A WAN -p udp -m multiport --dports 22100:22200 -j DROP",
        LEGACY,
        "iptables-legacy -t filter -I WAN 1 -i wan -p udp -m multiport --dports 5060,22000:22199 \
         -j ACCEPT",
    ),
    rules(
        "legacy iptables drops before it tracks",
        "iptables-legacy -t raw -A PREROUTING -p udp -s 10.9.0.0/24 -j DROP",
        LEGACY,
        "network core",
    ),
    rules(
        "iptables-nft rejects what is left",
        "iptables-nft -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; \
         iptables-nft -A INPUT -p udp --dport 5060 -j ACCEPT; \
         iptables-nft -A INPUT -j REJECT --reject-with icmp-host-prohibited; \
         iptables-nft -A FORWARD -j REJECT --reject-with icmp-host-prohibited",
        XT,
        "rule 3: -A INPUT -j REJECT --reject-with icmp-host-prohibited",
    ),
    rules(
        "iptables-nft drops what we send",
        "iptables-nft -A OUTPUT -o core -p udp -j DROP",
        XT,
        "The firewall stops SIP that we send into network core.",
    ),
    rules(
        "iptables-nft knows only some neighbours",
        "iptables-nft -A INPUT -i lan ! -s 10.1.0.128/25 -j DROP",
        XT,
        "-A INPUT ! -s 10.1.0.128/25 -i lan -j DROP",
    ),
    rules(
        "nftables drops by default",
        "nft 'add table inet f; add chain inet f in { type filter hook input priority 0; \
         policy drop; }; add rule inet f in ct state established accept; \
         add rule inet f in udp dport 5060 accept'",
        NFT,
        "media of network wan: udp 203.0.113.10 port 22000 from 198.51.100.77: table inet f, \
         chain in: its policy is drop",
    ),
    rules(
        "nftables opens half of the media ports",
        "nft 'add table inet f; add set inet f ours { type inet_service; flags interval; \
         elements = { 5060, 20000-20199, 22000-22100, 24000-24199 }; }; add chain inet f in { \
         type filter hook input priority 0; policy drop; }; \
         add rule inet f in udp dport @ours accept'",
        NFT,
        "udp 203.0.113.10 port 22199",
    ),
    rules(
        "nftables rejects SIP by a verdict map",
        "nft 'add table ip f; add chain ip f no; add rule ip f no reject; add chain ip f in { \
         type filter hook input priority 0; }; \
         add rule ip f in iifname wan udp dport vmap { 5060 : goto no, 53 : accept }'",
        NFT,
        "table ip f, chain no, rule 1: reject",
    ),
    rules(
        "nftables sends our port elsewhere",
        "nft 'add table ip n; add chain ip n pre { type nat hook prerouting priority dstnat; }; \
         add rule ip n pre udp dport 5060 dnat to 10.9.0.20:5070'",
        NFT,
        "A rule sends SIP of network wan elsewhere.",
    ),
    rules(
        "nftables drops at a device; which, this nft does not print",
        "nft 'add table netdev d; add chain netdev d in { type filter hook ingress device wan \
         priority 0; }; add rule netdev d in udp dport 22000-22199 drop'",
        &[("fw.nft", "unknown")],
        "cannot be told",
    ),
    rules(
        "nftables limits a rate",
        "nft 'add table inet f; add chain inet f in { type filter hook input priority 0; }; \
         add rule inet f in udp dport 5060 limit rate over 100/second drop'",
        &[("fw.nft", "unknown")],
        "limit rate",
    ),
    rules(
        "both iptables at once",
        "iptables-legacy -A INPUT -p tcp --dport 23 -j DROP; \
         iptables-nft -A INPUT -p tcp --dport 23 -j DROP",
        &[("fw.other", "warn")],
        "iptables-nft: 1 rules, iptables-legacy: 1 rules",
    ),
    Case {
        undoes: "nft flush ruleset; sysctl -qw net.netfilter.nf_conntrack_udp_timeout=30",
        ..rules(
            "the firewall forgets clients",
            "nft 'add table inet f; add chain inet f in { type filter hook input priority 0; }; \
             add rule inet f in ct state established accept'; \
             sysctl -qw net.netfilter.nf_conntrack_udp_timeout=10",
            &[("fw.conntrack", "warn")],
            "nf_conntrack_udp_timeout = 10, keepalive_interval = 25s",
        )
    },
];

/// Rules that let calls pass, however they look.
const HARMLESS: &[Case] = &[
    rules(
        "a careful host",
        "nft 'add table inet f; add chain inet f in { type filter hook input priority 0; policy \
         drop; }; add rule inet f in ct state vmap { invalid : drop, established : accept }; \
         add rule inet f in iif lo accept; \
         add rule inet f in meta l4proto { icmp, ipv6-icmp } accept; \
         add rule inet f in tcp dport 22 limit rate 10/minute accept; \
         add rule inet f in udp dport { 5060, 20000-20199, 22000-22199, 24000-24199 } accept'",
        &[],
        "",
    ),
    rules(
        "a host that forwards nothing",
        "iptables-nft -P FORWARD DROP; iptables-nft -A FORWARD -j REJECT; \
         iptables-nft -A INPUT -m conntrack --ctstate INVALID -j DROP; \
         iptables-nft -A INPUT -p tcp -m tcp --dport 5060 -j DROP",
        &[],
        "",
    ),
];

#[test]
fn what_stops_calls_is_named_with_its_rule() {
    let patient = Patient::new();
    patient.all(CASES);
    patient.all(HARMLESS);
}
