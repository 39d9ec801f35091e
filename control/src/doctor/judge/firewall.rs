//! Whether the first packet of everybody gets in, and ours out. Media that the kernel path carries
//! meets no firewall; its first packets, SIP and the userspace path do.

use super::{Config, Facts, Verdict};
use crate::config::Network;
use crate::doctor::facts::Conntrack;
use crate::doctor::firewall::{Backend, Outcome, Place, Protocol, Ruleset};
use crate::doctor::sample::{Sample, samples, services};

/// Lines of evidence; packets that are stopped alike are told once.
const SHOWN_MAX: usize = 6;

pub(super) fn nft(config: &Config, facts: &Facts) -> Verdict {
    judged(config, facts, facts.nft.as_ref(), "nftables")
}

pub(super) fn xt(config: &Config, facts: &Facts) -> Verdict {
    judged(config, facts, facts.xt.as_ref(), "iptables (nf_tables)")
}

pub(super) fn legacy(config: &Config, facts: &Facts) -> Verdict {
    judged(config, facts, facts.legacy.as_ref(), "iptables (legacy)")
}

fn judged(config: &Config, facts: &Facts, rules: Option<&Ruleset>, name: &str) -> Verdict {
    let Some(rules) = rules.filter(|rules| !rules.chains.is_empty()) else {
        return Verdict::pass(format!("{name} has no rules.")).seen(remarks(rules));
    };
    let (mut stopped, mut unknown) = (Vec::new(), Vec::new());
    let mut first = None;
    for sample in samples(config) {
        match rules.judge(&sample.packet) {
            Outcome::Passes => {}
            Outcome::Stopped(place) => {
                told(&mut stopped, &sample, &place);
                first.get_or_insert((sample, place));
            }
            Outcome::Unknown(place, why) => {
                let line = format!("{place} (cannot be told: {why})");
                if !unknown.contains(&line) {
                    unknown.push(line);
                }
            }
        }
    }
    if let Some((sample, place)) = first {
        let network = config.networks.iter().find(|n| n.name == sample.network);
        let fix = network.map(|network| opening(config, network, &sample, &place, rules));
        return Verdict::fail(meaning(&sample, &place))
            .seen(stopped.into_iter().take(SHOWN_MAX))
            .fix(managed(facts).map(str::to_owned))
            .fix(fix.into_iter().flatten());
    }
    if !unknown.is_empty() {
        return Verdict::unknown(format!(
            "{name} has rules that cannot be evaluated: they may stop calls."
        ))
        .seen(unknown.into_iter().take(SHOWN_MAX))
        .fix([list(rules.backend, false).to_owned()]);
    }
    let rules_count: usize = rules.chains.iter().map(|chain| chain.rules.len()).sum();
    Verdict::pass(format!(
        "{name} lets SIP and media of every network in and out."
    ))
    .seen([format!(
        "{rules_count} rules in {} chains",
        rules.chains.len()
    )])
    .seen(beside(config, facts, rules))
    .seen(remarks(Some(rules)))
}

fn remarks(rules: Option<&Ruleset>) -> Vec<String> {
    rules.map(|rules| rules.remarks.clone()).unwrap_or_default()
}

fn told(stopped: &mut Vec<String>, sample: &Sample, place: &Place) {
    let line = format!("{}: {place}", sample.text());
    let same = format!(": {place}");
    // The first of each kind is enough.
    let known = stopped
        .iter()
        .any(|known| known.ends_with(&same) && known.starts_with(sample.what));
    if !known {
        stopped.push(line);
    }
}

fn meaning(sample: &Sample, place: &Place) -> String {
    let (what, network) = (sample.what, &sample.network);
    match (place.verb, &sample.packet.arrives_at) {
        ("divert", _) => format!("A rule sends {what} of network {network} elsewhere."),
        (_, Some(_)) => format!("The firewall stops {what} that arrives in network {network}."),
        (_, None) => format!("The firewall stops {what} that we send into network {network}."),
    }
}

/// What forwarding would meet: said, because neither path of ours is forwarding.
fn beside(config: &Config, facts: &Facts, rules: &Ruleset) -> Option<String> {
    if facts.number("net/ipv4/ip_forward") == Some(0) {
        return None;
    }
    let [from, to] = [config.networks.first()?, config.networks.last()?];
    let sample = samples(config)
        .into_iter()
        .find(|sample| sample.network == from.name && sample.packet.arrives_at.is_some())?;
    let mut packet = sample.packet;
    packet.leaves_by = Some(to.interface.clone());
    match rules.forwarded(&packet) {
        Outcome::Stopped(place) | Outcome::Unknown(place, _) => Some(format!(
            "{place}; Towpath's packets are not forwarded by the stack and do not meet it"
        )),
        Outcome::Passes => None,
    }
}

/// Commands that let a network's calls in before the rule that stops them.
fn opening(
    config: &Config,
    network: &Network,
    sample: &Sample,
    place: &Place,
    rules: &Ruleset,
) -> Vec<String> {
    let v6 = network.address.is_ipv6();
    let mut fix = Vec::new();
    if place.verb == "divert" {
        fix.push(list(rules.backend, v6).to_owned());
        return fix;
    }
    let arrives = sample.packet.arrives_at.is_some();
    let interface = &network.interface;
    for protocol in [Protocol::Udp, Protocol::Tcp] {
        let mut ports: Vec<String> = services(config, network)
            .into_iter()
            .filter(|(what, own, _)| *own == protocol && *what != "media")
            .map(|(_, _, port)| port.to_string())
            .collect();
        let media = network.media_ports;
        let between = if rules.backend == Backend::Nft {
            '-'
        } else {
            ':'
        };
        if protocol == Protocol::Udp {
            ports.push(format!("{}{between}{}", media.first, media.last));
        }
        ports.dedup();
        if ports.is_empty() {
            continue;
        }
        let (protocol, chain, table) = (protocol.name(), &place.chain, &place.table);
        fix.push(match rules.backend {
            Backend::Nft => {
                let (way, port) = if arrives {
                    ("iifname", "dport")
                } else {
                    ("oifname", "sport")
                };
                format!(
                    "nft insert rule {} {table} {chain} {way} {interface} {protocol} {port} \
                     '{{ {} }}' accept",
                    place.family.name(),
                    ports.join(", ")
                )
            }
            Backend::Xt | Backend::Legacy => {
                let (way, port) = if arrives {
                    ("-i", "--dports")
                } else {
                    ("-o", "--sports")
                };
                format!(
                    "{} -t {table} -I {chain} 1 {way} {interface} -p {protocol} -m multiport \
                     {port} {} -j ACCEPT",
                    program(rules.backend, v6),
                    ports.join(",")
                )
            }
        });
    }
    fix
}

fn program(backend: Backend, v6: bool) -> &'static str {
    match (backend, v6) {
        (Backend::Nft, _) => "nft",
        (Backend::Xt, false) => "iptables-nft",
        (Backend::Xt, true) => "ip6tables-nft",
        (Backend::Legacy, false) => "iptables-legacy",
        (Backend::Legacy, true) => "ip6tables-legacy",
    }
}

fn list(backend: Backend, v6: bool) -> &'static str {
    match (backend, v6) {
        (Backend::Nft, _) => "nft -a list ruleset",
        (Backend::Xt, false) => "iptables-nft-save",
        (Backend::Xt, true) => "ip6tables-nft-save",
        (Backend::Legacy, false) => "iptables-legacy-save",
        (Backend::Legacy, true) => "ip6tables-legacy-save",
    }
}

/// Who would undo a rule added by hand.
fn managed(facts: &Facts) -> Option<&'static str> {
    let manager = managers(facts).into_iter().next()?;
    Some(match manager {
        "firewalld" => {
            "# firewalld owns these rules: firewall-cmd --permanent --add-port=PORTS/udp; \
                        firewall-cmd --reload"
        }
        "ufw" => "# ufw owns these rules: ufw allow PORTS/udp",
        _ => return None,
    })
}

fn managers(facts: &Facts) -> Vec<&'static str> {
    let all = [&facts.nft, &facts.xt, &facts.legacy];
    let chains = || all.into_iter().flatten().flat_map(|rules| &rules.chains);
    let mut found = Vec::new();
    if chains().any(|chain| chain.table == "firewalld") {
        found.push("firewalld");
    }
    if chains().any(|chain| chain.name.starts_with("ufw-")) {
        found.push("ufw");
    }
    if chains().any(|chain| chain.name.starts_with("DOCKER")) {
        found.push("docker");
    }
    found
}

pub(super) fn other(_: &Config, facts: &Facts) -> Verdict {
    let managers = managers(facts);
    let evidence = managers.iter().map(|name| format!("{name} has rules here"));
    let count = |rules: &Option<Ruleset>| {
        let chains = rules.iter().flat_map(|rules| &rules.chains);
        chains.map(|chain| chain.rules.len()).sum::<usize>()
    };
    let (new, old) = (count(&facts.xt), count(&facts.legacy));
    if new > 0 && old > 0 {
        return Verdict::warn(
            "Rules of both iptables are in force, and each of them shows only its own.",
        )
        .seen(evidence)
        .seen([format!(
            "iptables-nft: {new} rules, iptables-legacy: {old} rules"
        )])
        .fix([
            "iptables-legacy-save".to_owned(),
            "iptables-nft-save".to_owned(),
        ]);
    }
    match managers.first() {
        Some(name) => Verdict::pass(format!("Rules are {name}'s: change them there.")),
        None => Verdict::pass("No program that manages firewalls has rules here."),
    }
    .seen(evidence)
}

/// Parts of the table in use.
const FULL_PERCENT: u64 = 95;
const CROWDED_PERCENT: u64 = 80;

pub(super) fn conntrack(config: &Config, facts: &Facts) -> Verdict {
    let Some(table) = facts.conntrack else {
        return Verdict::pass("The kernel tracks no connections.");
    };
    let Conntrack { count, max, .. } = table;
    let mut evidence = vec![format!(
        "nf_conntrack_count = {count}, nf_conntrack_max = {max}"
    )];
    let grow = format!(
        "sysctl -w net.netfilter.nf_conntrack_max={}",
        max.saturating_mul(4)
    );
    if max > 0 && count * 100 >= max * FULL_PERCENT {
        return Verdict::fail(
            "The table is full: the kernel drops the first packets of everybody.",
        )
        .seen(evidence)
        .fix([grow]);
    }
    if max > 0 && count * 100 >= max * CROWDED_PERCENT {
        return Verdict::warn("The table of connections is nearly full.")
            .seen(evidence)
            .fix([grow]);
    }
    let keepalive = config
        .networks
        .iter()
        .map(|n| n.keepalive_interval.as_secs())
        .max();
    let (Some(life), Some(keepalive)) = (table.udp_s, keepalive) else {
        return Verdict::pass("The table of connections has room.").seen(evidence);
    };
    evidence.push(format!(
        "nf_conntrack_udp_timeout = {life}, keepalive_interval = {keepalive}s"
    ));
    let stateful = [&facts.nft, &facts.xt, &facts.legacy].into_iter().flatten();
    if life <= keepalive && stateful.map(|rules| rules.chains.len()).sum::<usize>() > 0 {
        return Verdict::warn(
            "The firewall forgets a client before we keep its way open: calls to it are stopped.",
        )
        .seen(evidence)
        .fix([format!(
            "sysctl -w net.netfilter.nf_conntrack_udp_timeout={}",
            keepalive * 2
        )]);
    }
    Verdict::pass("The table of connections has room.").seen(evidence)
}
