//! Addresses, routes, and what the kernel's parameters make of them.

use super::{Config, Facts, Verdict};
use crate::doctor::facts::{Link, Route};

pub(super) fn link(config: &Config, facts: &Facts) -> Verdict {
    let (mut evidence, mut wrong, mut fix) = (Vec::new(), Vec::new(), Vec::new());
    for network in &config.networks {
        let (name, address) = (&network.interface, network.address);
        let Some(link) = facts.link(name) else {
            wrong.push(format!(
                "network {}: there is no interface {name}",
                network.name
            ));
            fix.push("ip -brief address".to_owned());
            continue;
        };
        if !link.addresses.iter().any(|net| net.addr() == address) {
            wrong.push(format!(
                "network {}: {address} is not on {name}",
                network.name
            ));
            fix.push(format!("ip address show dev {name}"));
        } else if !link.up {
            wrong.push(format!("network {}: {name} is down", network.name));
            fix.push(format!("ip link set dev {name} up"));
        } else {
            evidence.push(format!("network {}: {address} on {name}", network.name));
        }
    }
    if wrong.is_empty() {
        return Verdict::pass("Every network has its interface and its address.").seen(evidence);
    }
    Verdict::fail("Nobody reaches us in this network.")
        .seen(wrong)
        .fix(fix)
}

/// What a network's own card should carry.
fn expected<'a>(config: &'a Config, route: &Route) -> Option<&'a str> {
    let network = config.networks.iter().find(|n| n.name == route.network)?;
    Some(&network.interface)
}

pub(super) fn routes(config: &Config, facts: &Facts) -> Verdict {
    let (mut evidence, mut wrong, mut fix) = (Vec::new(), Vec::new(), Vec::new());
    let mut elsewhere = Vec::new();
    for route in &facts.routes {
        let Some(interface) = expected(config, route) else {
            continue;
        };
        let (network, target, source) = (&route.network, route.target, route.source);
        let what = format!("network {network}: {source} to {target}");
        match &route.answer {
            Err(why) => {
                wrong.push(format!("{what}: {why}"));
                fix.push(format!("ip route get {target} from {source}"));
                fix.push(format!("ip route add {target} via GATEWAY dev {interface}"));
            }
            Ok(hop) => {
                let via = hop
                    .gateway
                    .map_or("directly".to_owned(), |ip| format!("via {ip}"));
                let said = format!("{what}: {via} by {}", hop.interface);
                let dead = hop.neighbour.as_deref() == Some("failed");
                if let (true, Some(gateway)) = (dead, hop.gateway) {
                    wrong.push(format!("{said}: the gateway does not answer ARP"));
                    fix.push(format!("ip neigh show {gateway}"));
                    fix.push(format!("ping -c 3 {gateway}"));
                } else if hop.interface != interface && !hop.direct {
                    elsewhere.push(said);
                    fix.push(format!("ip route get {target} from {source}"));
                } else {
                    evidence.push(said);
                }
            }
        }
    }
    if !wrong.is_empty() {
        return Verdict::fail("We hear these peers and cannot answer them.")
            .seen(wrong)
            .fix(fix);
    }
    // Where sources are checked strictly that is worse, and net.rp_filter says so.
    if !elsewhere.is_empty() && strict(config, facts).is_empty() {
        return Verdict::warn(
            "Answers leave by another card than the network's: the kernel path sends them there \
             too, and a router that checks sources drops them.",
        )
        .seen(elsewhere)
        .fix(fix);
    }
    if facts.routes.is_empty() {
        return Verdict::unknown("The routing table was not asked.");
    }
    Verdict::pass("There is a way back to every network.").seen(evidence)
}

/// Interfaces of networks that check sources strictly (the larger of two parameters counts).
fn strict<'a>(config: &'a Config, facts: &Facts) -> Vec<(&'a str, i64)> {
    let mut found: Vec<(&str, i64)> = Vec::new();
    for network in config.networks.iter().filter(|n| n.address.is_ipv4()) {
        let name = network.interface.as_str();
        let one = |who: &str| facts.number(&format!("net/ipv4/conf/{who}/rp_filter"));
        let value = one("all").unwrap_or(0).max(one(name).unwrap_or(0));
        if value == 1 && !found.contains(&(name, value)) {
            found.push((name, value));
        }
    }
    found
}

pub(super) fn rp_filter(config: &Config, facts: &Facts) -> Verdict {
    let strict = strict(config, facts);
    let names: Vec<String> = strict
        .iter()
        .map(|(name, value)| format!("net.ipv4.conf.{name}.rp_filter = {value} (or all)"))
        .collect();
    if strict.is_empty() {
        return Verdict::pass("No card of a network refuses sources strictly.");
    }
    let (mut evidence, mut fix) = (names.clone(), Vec::new());
    for route in &facts.routes {
        let Some(interface) = expected(config, route) else {
            continue;
        };
        let is_strict = strict.iter().any(|(name, _)| *name == interface);
        let back = match &route.answer {
            Ok(hop) if hop.interface == interface => continue,
            Ok(hop) => hop.interface.clone(),
            Err(why) => why.clone(),
        };
        if is_strict && route.source.is_ipv4() {
            evidence.push(format!(
                "network {}: {} comes in by {interface}, the way back is {back}",
                route.network, route.target
            ));
            let line = format!("net.ipv4.conf.{interface}.rp_filter=2");
            fix.push(format!("sysctl -w {line} net.ipv4.conf.all.rp_filter=2"));
            fix.push(format!("echo {line} >> /etc/sysctl.d/60-towpath.conf"));
        }
    }
    if fix.is_empty() {
        return Verdict::pass("Sources are checked strictly, and every way back is the way in.")
            .seen(names);
    }
    fix.dedup();
    Verdict::fail(
        "The kernel drops what comes in here, because it would answer by another card (strict \
         reverse path filter).",
    )
    .seen(evidence)
    .fix(fix)
}

pub(super) fn forward(_: &Config, facts: &Facts) -> Verdict {
    let Some(value) = facts.number("net/ipv4/ip_forward") else {
        return Verdict::unknown("Whether the stack forwards cannot be read.");
    };
    let evidence = [format!("net.ipv4.ip_forward = {value}")];
    let meaning = if value == 0 {
        "The stack forwards nothing; Towpath does not need it to, in the kernel or in userspace."
    } else {
        "The stack forwards too: what the firewall's FORWARD lets through crosses beside Towpath, \
         which needs none of it."
    };
    Verdict::pass(meaning).seen(evidence)
}

/// Two cards in one subnet: either may answer ARP for the other's address.
pub(super) fn arp(config: &Config, facts: &Facts) -> Verdict {
    let networks = config.networks.iter();
    let used = |link: &&Link| networks.clone().any(|n| n.interface == link.name);
    let (mut evidence, mut fix) = (Vec::new(), Vec::new());
    for link in facts.links.iter().filter(used) {
        for other in facts
            .links
            .iter()
            .filter(|o| o.index != link.index && o.up && !o.loopback)
        {
            let shared = link.addresses.iter().find(|net| {
                let same = |o: &ipnet::IpNet| o.trunc() == net.trunc();
                net.addr().is_ipv4() && other.addresses.iter().any(same)
            });
            let Some(net) = shared else { continue };
            for name in [&link.name, &other.name] {
                let value = |key: &str| {
                    let one = |who: &str| facts.number(&format!("net/ipv4/conf/{who}/{key}"));
                    one("all").unwrap_or(0).max(one(name).unwrap_or(0))
                };
                let (ignore, announce) = (value("arp_ignore"), value("arp_announce"));
                if ignore < 1 || announce < 2 {
                    let set = format!(
                        "net.ipv4.conf.{name}.arp_ignore=1 net.ipv4.conf.{name}.arp_announce=2"
                    );
                    evidence.push(format!(
                        "{} is on {} and {}; {name}: arp_ignore = {ignore}, \
                         arp_announce = {announce}",
                        net.trunc(),
                        link.name,
                        other.name
                    ));
                    fix.push(format!("sysctl -w {set}"));
                }
            }
        }
    }
    fix.sort();
    fix.dedup();
    evidence.sort();
    evidence.dedup();
    if evidence.is_empty() {
        return Verdict::pass("No two cards answer for each other.");
    }
    Verdict::warn("Neighbours may send to the wrong card, which has no program and no route back.")
        .seen(evidence)
        .fix(fix)
}
