//! The edge's networks, and the file that says so.

use std::net::IpAddr;

use super::{MEDIA_TIMEOUT, NETWORKS_MAX, OUTSIDE, PHONES_MAX, ip};
use crate::sim::rng::Rng;
use crate::sim::world::DOMAIN;

/// How the edge is reached from the internet over IPv4.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Uplink {
    None,
    /// It has the public address itself.
    Direct,
    /// A router maps every port of the public address to an address of its own.
    Mapped,
    /// The same, and the router's host is the address the LAN uses too.
    Shared,
    /// The same again, and the router puts itself in the place of every outside source.
    Rewritten,
}

/// One `[[network]]`.
#[derive(Clone, Debug)]
pub struct Planned {
    pub name: &'static str,
    pub address: IpAddr,
    pub advertise: IpAddr,
    pub(super) peers: &'static str,
    pub(super) gateway: Option<IpAddr>,
    pub ports: (u16, u16),
    pub media: &'static str,
    pub(super) dscp: Option<u8>,
}

pub(super) fn networks(chance: &mut Rng) -> (Uplink, Vec<Planned>) {
    let mut uplink = chance.pick(&[
        Uplink::None,
        Uplink::Direct,
        Uplink::Direct,
        Uplink::Mapped,
        Uplink::Shared,
        Uplink::Rewritten,
    ]);
    let lan = chance.permille(600) || matches!(uplink, Uplink::Shared | Uplink::Rewritten);
    let host = match uplink {
        Uplink::None | Uplink::Direct => OUTSIDE,
        Uplink::Mapped => "172.16.0.2",
        Uplink::Shared | Uplink::Rewritten => "10.0.0.3",
    };
    let mut all: Vec<(&str, &str, &str)> = Vec::new();
    if uplink != Uplink::None {
        all.push(("wan", host, "0.0.0.0/0"));
        if uplink != Uplink::Rewritten && chance.permille(300) {
            all.push(("branch", host, "198.51.100.0/24"));
        }
    }
    if lan {
        all.push(("lan", "10.0.0.3", "10.0.0.0/8"));
    }
    if chance.permille(350) {
        all.push(("twin", "192.168.1.3", "192.168.1.0/24"));
        all.push(("twin2", "192.168.1.4", "192.168.1.0/24"));
    }
    if chance.permille(350) {
        all.push(("wan6", "2001:db8::9", "::/0"));
    }
    if chance.permille(250) {
        all.push(("lan6", "fd00::3", "fd00::/8"));
    }
    if all.is_empty() {
        uplink = Uplink::Direct;
        all.push(("wan", OUTSIDE, "0.0.0.0/0"));
    }
    all.truncate(NETWORKS_MAX);
    let turn = usize::try_from(chance.below(all.len() as u64)).unwrap_or(0);
    all.rotate_left(turn);
    let planned = (0..).zip(all).map(|(index, (name, address, peers))| {
        let pairs = chance.pick(&[3, 8, 40, 40, 100]);
        let first = 20_000 + 1000 * index;
        let outside = matches!(name, "wan" | "branch");
        let gateway = (uplink == Uplink::Rewritten && name == "wan").then(|| ip("10.0.0.1"));
        Planned {
            name,
            address: ip(address),
            advertise: ip(if outside { OUTSIDE } else { address }),
            peers,
            gateway,
            ports: (first, first + 2 * pairs - 1),
            media: chance.pick(&["auto", "auto", "auto", "symmetric", "symmetric", "sdp"]),
            dscp: chance.pick(&[None, None, Some(46)]),
        }
    });
    let planned = planned.collect();
    (uplink, planned)
}

/// The whole file.
pub(super) fn text(networks: &[Planned], mcu: bool) -> String {
    let mut text = format!(
        "[sip]\ndomain = \"{DOMAIN}\"\nlisten = [\"udp:0.0.0.0:5060\", \"udp:[::]:5060\"]\n\
         [datapath]\nmedia_timeout = \"{}s\"\n",
        MEDIA_TIMEOUT.as_secs()
    );
    if mcu {
        text.push_str("[[sip.peer]]\nname = \"mcu\"\nuri = \"sip:10.0.0.20:5060\"\n");
        text.push_str("routes = [\"8???\"]\n");
    }
    for number in 1..=PHONES_MAX {
        let user = 1000 + number;
        let account = format!("[[sip.account]]\nuser = \"{user}\"\npassword = \"secret-{user}\"\n");
        text.push_str(&account);
    }
    for (index, network) in networks.iter().enumerate() {
        text.push_str(&network.text(index));
    }
    text
}

impl Planned {
    fn text(&self, index: usize) -> String {
        let Self {
            name,
            address,
            advertise,
            peers,
            ports: (first, last),
            media,
            ..
        } = self;
        let mut text = format!(
            "[[network]]\nname = \"{name}\"\ninterface = \"eth{index}\"\n\
             address = \"{address}\"\nadvertise = \"{advertise}\"\npeers = [\"{peers}\"]\n\
             media_ports = \"{first}-{last}\"\nmedia = \"{media}\"\n"
        );
        if let Some(gateway) = self.gateway {
            text.push_str(&format!("source_rewriting_gateways = [\"{gateway}\"]\n"));
        }
        if let Some(dscp) = self.dscp {
            text.push_str(&format!("dscp = {dscp}\n"));
        }
        // Some have a limit that life runs into.
        if index % 2 == 1 {
            text.push_str("max_calls = 4\nmax_bandwidth = 6000\n");
        }
        text
    }
}

/// By the rule of `docs/networks.md`, in other words than the edge's.
pub(super) fn belongs(networks: &[Planned], local: IpAddr, seen: IpAddr) -> Option<&Planned> {
    let here: Vec<&Planned> = networks.iter().filter(|n| n.address == local).collect();
    if let Some(found) = here.iter().find(|n| n.gateway == Some(seen)) {
        return Some(found);
    }
    let narrow = here.iter().find(|n| {
        let text = seen.to_string();
        match n.peers {
            "198.51.100.0/24" => text.starts_with("198.51.100."),
            "192.0.2.0/24" => text.starts_with("192.0.2."),
            "10.0.0.0/8" => text.starts_with("10."),
            "192.168.1.0/24" => text.starts_with("192.168.1."),
            "fd00::/8" => text.starts_with("fd"),
            _ => false,
        }
    });
    let broad = || here.iter().find(|n| n.peers.ends_with("/0"));
    narrow.or_else(broad).copied()
}
