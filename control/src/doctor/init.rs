//! The first configuration: what a host's interfaces and routes suggest, as a file with comments,
//! and what was assumed.

use std::net::IpAddr;

use super::facts::Link;
use crate::config::PortRange;

/// What is looked at.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub hostname: String,
    pub links: Vec<Link>,
    /// Where default routes lead: interface and gateway.
    pub defaults: Vec<(String, IpAddr)>,
    /// `ip_local_port_range`.
    pub local_ports: Option<(u16, u16)>,
}

/// A file, and what its reader should know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Draft {
    pub text: String,
    pub assumed: Vec<String>,
}

/// An address that only its own site can reach (RFC 1918, RFC 6598, RFC 4193).
#[must_use]
pub fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let shared = a == 100 && (64..128).contains(&b);
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || shared
        }
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_loopback(),
    }
}

/// What containers and virtual machines bring along.
const VIRTUAL: [&str; 7] = ["docker", "br-", "virbr", "veth", "cni", "flannel", "lxc"];

/// An address of ours that becomes a network.
struct Place<'a> {
    link: &'a Link,
    net: ipnet::IpNet,
    /// The gateway of a default route.
    gateway: Option<IpAddr>,
    name: String,
}

/// Writes a configuration that `check` accepts on the host that was looked at.
#[must_use]
pub fn draft(seen: &Seen) -> Draft {
    let mut assumed = Vec::new();
    let places = places(seen, &mut assumed);
    let mut text = String::from(HEAD);
    node(seen, &mut text, &mut assumed);
    let listen = listen(&places);
    sip(seen, &listen, &mut text, &mut assumed);
    let ports = media_ports(seen, &mut assumed);
    for place in &places {
        network(place, ports, &places, &mut text, &mut assumed);
    }
    if places.is_empty() {
        assumed.push("no interface has an address: give one an address and try again".to_owned());
    }
    text.push_str(TAIL);
    Draft { text, assumed }
}

const HEAD: &str = "\
# Written by `towpath init`. What it assumed is said beside each line: read those, then
#   towpath check      says what is wrong
#   towpath doctor     says whether the host lets it work
# Every key is explained in docs/configuration.md.

";

const TAIL: &str = "\
[datapath]
# The kernel path where it can be had, else userspace; `towpath status` says which.
mode = \"auto\"
";

fn places<'a>(seen: &'a Seen, assumed: &mut Vec<String>) -> Vec<Place<'a>> {
    let mut places: Vec<Place<'_>> = Vec::new();
    for link in seen.links.iter().filter(|link| !link.loopback) {
        if VIRTUAL.iter().any(|begin| link.name.starts_with(begin)) {
            assumed.push(format!(
                "{} is for containers or machines inside: left out",
                link.name
            ));
            continue;
        }
        for ipv4 in [true, false] {
            let usable = |net: &&ipnet::IpNet| match net.addr() {
                IpAddr::V4(ip) => ipv4 && !ip.is_link_local(),
                IpAddr::V6(ip) => !ipv4 && !ip.is_unicast_link_local(),
            };
            let Some(net) = link.addresses.iter().find(usable) else {
                continue;
            };
            let leads = |(name, gateway): &&(String, IpAddr)| {
                *name == link.name && gateway.is_ipv4() == ipv4
            };
            let gateway = seen
                .defaults
                .iter()
                .find(leads)
                .map(|(_, gateway)| *gateway);
            let base = match (gateway, is_private(net.addr())) {
                (Some(_), false) => "wan",
                (_, true) => "lan",
                (None, false) => "net",
            };
            let family = if ipv4 { "" } else { "6" };
            let mut name = format!("{base}{family}");
            if places.iter().any(|place| place.name == name) {
                name = format!("{base}{family}-{}", label(&link.name));
            }
            places.push(Place {
                link,
                net: *net,
                gateway,
                name,
            });
        }
    }
    places
}

/// A name for the file: letters, digits and a few signs.
fn label(text: &str) -> String {
    let allowed = |c: char| {
        if c.is_ascii_alphanumeric() || "-_.".contains(c) {
            c
        } else {
            '-'
        }
    };
    text.chars().map(allowed).take(48).collect()
}

fn node(seen: &Seen, text: &mut String, assumed: &mut Vec<String>) {
    let host = seen.hostname.split('.').next().unwrap_or_default();
    let id = match label(host) {
        id if id.is_empty() || id.parse::<IpAddr>().is_ok() => "edge-01".to_owned(),
        id => id,
    };
    assumed.push(format!(
        "node.id = \"{id}\": this host's name; it stays when addresses change"
    ));
    text.push_str("[node]\n# Its identity, for ever: never an address.\n");
    line(text, &format!("id = \"{id}\""));
    text.push('\n');
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn listen(places: &[Place<'_>]) -> Vec<&'static str> {
    let mut listen = Vec::new();
    for (ipv4, here) in [
        (true, ["udp:0.0.0.0:5060", "tcp:0.0.0.0:5060"]),
        (false, ["udp:[::]:5060", "tcp:[::]:5060"]),
    ] {
        if places
            .iter()
            .any(|place| place.net.addr().is_ipv4() == ipv4)
        {
            listen.extend(here);
        }
    }
    listen
}

fn sip(seen: &Seen, listen: &[&str], text: &mut String, assumed: &mut Vec<String>) {
    let domain = match seen.hostname.split_once('.') {
        Some((_, domain)) if domain.contains('.') => domain.to_owned(),
        _ => "towpath.internal".to_owned(),
    };
    assumed.push(format!(
        "sip.domain = \"{domain}\": what follows the @ of your users"
    ));
    let listen: Vec<String> = listen.iter().map(|at| format!("\"{at}\"")).collect();
    line(
        text,
        "[sip]\n# What follows the @ of your users' addresses.",
    );
    line(text, &format!("domain = \"{domain}\""));
    line(text, &format!("listen = [{}]", listen.join(", ")));
    text.push_str(
        "# \"none\" lets everybody register whom the firewall lets in.\nauth = \"digest\"\n\n\
         # One for each user; without any nobody may register.\n\
         # [[sip.account]]\n# user = \"1001\"\n# password = \"…\"\n\n\
         # The conference server, if there is one: who calls these users is sent there.\n\
         # [[sip.peer]]\n# name = \"mcu\"\n# uri = \"sip:10.0.0.20:5060\"\n\
         # routes = [\"conf-*\"]\n\n",
    );
}

/// Ranges that are tried, widest known first.
const RANGES: [(u16, u16); 4] = [
    (20_000, 29_999),
    (10_000, 19_999),
    (40_000, 49_999),
    (50_000, 59_999),
];

fn media_ports(seen: &Seen, assumed: &mut Vec<String>) -> PortRange {
    let (low, high) = seen.local_ports.unwrap_or((32_768, 60_999));
    let apart = |(first, last): &&(u16, u16)| *last < low || high < *first;
    let found = RANGES.iter().find(apart);
    if found.is_none() {
        assumed.push(format!(
            "every range of media ports meets ip_local_port_range {low}-{high}: `towpath doctor \
             --check port.range` says how to reserve it"
        ));
    }
    let (first, last) = found.copied().unwrap_or((20_000, 29_999));
    PortRange { first, last }
}

fn network(
    place: &Place<'_>,
    ports: PortRange,
    all: &[Place<'_>],
    text: &mut String,
    assumed: &mut Vec<String>,
) {
    let (name, link, address) = (&place.name, &place.link.name, place.net.addr());
    let private = is_private(address);
    let everyone = if address.is_ipv4() {
        "0.0.0.0/0"
    } else {
        "::/0"
    };
    let (peers, why) = match (place.gateway, private) {
        (Some(_), false) => (
            vec![everyone.to_owned()],
            "has a public address and the default route: everybody belongs here",
        ),
        (Some(_), true) => (
            inside(place, all),
            "has a private address and the default route: every private address that is not \
             another network's belongs here",
        ),
        (None, _) => (
            vec![place.net.trunc().to_string()],
            "has no default route: its own neighbours belong here",
        ),
    };
    assumed.push(format!("network {name}: {link} ({address}) {why}"));
    let peers: Vec<String> = peers.iter().map(|net| format!("\"{net}\"")).collect();
    let PortRange { first, last } = ports;
    text.push_str(&format!(
        "[[network]]\n# {link} {why}.\nname = \"{name}\"\ninterface = \"{link}\"\n\
         address = \"{address}\"\n# Who belongs here: the longest prefix wins, over all networks.\n\
         peers = [{}]\n# One rule of a firewall covers these; no program gets one by chance.\n\
         media_ports = \"{first}-{last}\"\n",
        peers.join(", ")
    ));
    if let Some(gateway) = place.gateway {
        gateway_comment(gateway, text);
        if private && address.is_ipv4() {
            outside(place, ports, text);
            assumed.push(format!(
                "network {name}: clients outside need the address the router maps to {address}; \
                 the block for them is in the file, commented out"
            ));
        }
    }
    text.push('\n');
}

fn inside(place: &Place<'_>, all: &[Place<'_>]) -> Vec<String> {
    let nets: &[&str] = match place.net.addr() {
        IpAddr::V4(_) => &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"],
        IpAddr::V6(_) => &["fc00::/7"],
    };
    let mut nets: Vec<String> = nets.iter().map(|net| (*net).to_owned()).collect();
    let own = place.net.trunc();
    let covered = |net: &String| {
        net.parse::<ipnet::IpNet>()
            .is_ok_and(|net| net.contains(&own))
    };
    if !nets.iter().any(covered) {
        nets.insert(0, own.to_string());
    }
    // Two networks may not claim the same prefix.
    let others = all.iter().filter(|other| other.name != place.name);
    let taken: Vec<String> = others.map(|other| other.net.trunc().to_string()).collect();
    nets.retain(|net| !taken.contains(net));
    nets
}

fn gateway_comment(gateway: IpAddr, text: &mut String) {
    text.push_str(&format!(
        "# Does the router {gateway} also rewrite the source of what it maps to us? Then everybody \
         outside\n# looks like it; say so, in the network of those outside (`towpath status` \
         notices it too):\n# source_rewriting_gateways = [\"{gateway}\"]\n"
    ));
}

fn outside(place: &Place<'_>, ports: PortRange, text: &mut String) {
    let (link, address) = (&place.link.name, place.net.addr());
    // Beside the others, at the same address.
    let (first, last) = match ports.first {
        20_000 => (16_384, 19_999),
        _ => (ports.last.saturating_sub(999), ports.last),
    };
    text.push_str(&format!(
        "\n# Clients outside, if the router maps UDP and TCP 5060 and UDP {first}-{last} to \
         {address}:\n# [[network]]\n# name = \"outside\"\n# interface = \"{link}\"\n\
         # address = \"{address}\"\n# advertise = \"203.0.113.9\"   # the router's public address\n\
         # peers = [\"0.0.0.0/0\"]\n# media_ports = \"{first}-{last}\"\n"
    ));
}

#[cfg(test)]
mod tests;
