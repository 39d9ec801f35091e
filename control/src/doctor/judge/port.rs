//! Ports: whose they are by the kernel's rules, and who has them now.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use super::{Config, Facts, Verdict};
use crate::config::Network;
use crate::doctor::facts::Socket;
use crate::id::Transport;

const LOCAL: &str = "net/ipv4/ip_local_port_range";
const RESERVED: &str = "net/ipv4/ip_local_reserved_ports";

pub(super) fn range(config: &Config, facts: &Facts) -> Verdict {
    let Some((first, last)) = facts.sysctls.get(LOCAL).and_then(|text| pair(text)) else {
        return Verdict::unknown("The range of ports that programs get by chance cannot be read.");
    };
    let reserved = facts.sysctls.get(RESERVED).map_or("", |text| text.trim());
    let mut evidence = vec![format!("net.ipv4.ip_local_port_range = {first} {last}")];
    if !reserved.is_empty() {
        evidence.push(format!("net.ipv4.ip_local_reserved_ports = {reserved}"));
    }
    let reserves = ranges(reserved);
    let is_reserved = |port: u16| reserves.iter().any(|range| range.contains(&port));
    let mut open: Vec<String> = Vec::new();
    for network in &config.networks {
        let ports = network.media_ports;
        let (from, to) = (ports.first.max(first), ports.last.min(last));
        if from <= to && !(from..=to).all(is_reserved) {
            evidence.push(format!(
                "network {}: media_ports {}-{}",
                network.name, ports.first, ports.last
            ));
            open.push(format!("{}-{}", ports.first, ports.last));
        }
    }
    if open.is_empty() {
        return Verdict::pass("No program is given a media port by chance.").seen(evidence);
    }
    open.dedup();
    let mut list = open;
    if !reserved.is_empty() {
        list.insert(0, reserved.to_owned());
    }
    let line = format!("net.ipv4.ip_local_reserved_ports = {}", list.join(","));
    Verdict::warn("Any program's outgoing packet may take a media port, and a call then lacks it.")
        .seen(evidence)
        .fix([
            format!("echo '{line}' > /etc/sysctl.d/60-towpath.conf"),
            "sysctl --system".to_owned(),
        ])
}

fn pair(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_whitespace().map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// `1,2,10-20`
fn ranges(list: &str) -> Vec<RangeInclusive<u16>> {
    let one = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    };
    list.split(',').filter_map(one).collect()
}

/// Sockets shown of those in the way.
const SHOWN_MAX: usize = 5;

pub(super) fn busy(config: &Config, facts: &Facts) -> Verdict {
    let daemon = facts.daemon();
    let others = || {
        let strange = move |socket: &&Socket| daemon.is_none() || socket.pid != daemon;
        facts.sockets.iter().filter(strange)
    };
    let mut listeners = Vec::new();
    for listener in &config.sip.listen {
        let tcp = listener.transport != Transport::Udp;
        let local = listener.local;
        let on =
            |s: &&Socket| s.tcp == tcp && s.at.port() == local.port() && meets(s.at, local.ip());
        listeners.extend(
            others()
                .filter(on)
                .map(|s| taken(s, &format!("SIP {listener}"))),
        );
    }
    let media: Vec<String> = config
        .networks
        .iter()
        .flat_map(|network| {
            let within = move |socket: &&Socket| in_media(socket, network);
            let what = format!("media of network {}", network.name);
            others()
                .filter(within)
                .map(move |socket| taken(socket, &what))
        })
        .collect();
    let fix = ["ss -anup".to_owned(), "ss -lntp".to_owned()];
    let shown = |found: &[String]| {
        let mut shown: Vec<String> = found.iter().take(SHOWN_MAX).cloned().collect();
        if let Some(more) = found.len().checked_sub(SHOWN_MAX + 1) {
            shown.push(format!("and {} more", more + 1));
        }
        shown
    };
    if !listeners.is_empty() && daemon.is_some() && facts.kernel.uid != 0 {
        // Who owns a socket is shown to root only.
        return Verdict::unknown("The daemon runs; whose sockets these are only root may see.")
            .seen(shown(&listeners));
    }
    if !listeners.is_empty() {
        return Verdict::fail("Another program has our SIP port: the daemon cannot start.")
            .seen(shown(&listeners))
            .fix(fix);
    }
    if !media.is_empty() && (daemon.is_none() || facts.kernel.uid == 0) {
        return Verdict::warn("Other programs have media ports: a call that is given one fails.")
            .seen(shown(&media))
            .fix(fix);
    }
    Verdict::pass("Nobody else has a port of ours.")
}

fn in_media(socket: &Socket, network: &Network) -> bool {
    let ports = network.media_ports.first..=network.media_ports.last;
    !socket.tcp && ports.contains(&socket.at.port()) && meets(socket.at, network.address)
}

/// A socket on every address is in the way of each.
fn meets(at: SocketAddr, own: IpAddr) -> bool {
    at.ip() == own || (at.ip().is_unspecified() && (at.ip().is_ipv6() || own.is_ipv4()))
}

fn taken(socket: &Socket, what: &str) -> String {
    let owner = socket.owner.as_deref().unwrap_or("owner not visible");
    let protocol = if socket.tcp { "tcp" } else { "udp" };
    format!("{protocol} {} is held by {owner}; it is {what}", socket.at)
}
