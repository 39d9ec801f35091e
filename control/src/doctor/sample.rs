//! Which packets stand for all: a few peers of every network, and every port that must be reached.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::firewall::{Packet, Protocol};
use crate::config::{Config, Network, PortRange};
use crate::id::Transport;

/// Prefixes of a network that are tried.
const PREFIXES_MAX: usize = 4;
/// The host of a prefix that stands for its peers: not the first, which is often a router.
const HOST: u32 = 10;
/// Who stands for everybody (RFC 5737, RFC 3849).
const ANYBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 77));
const ANYBODY_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x77));
/// The port a peer sends from.
const PEER_PORT: u16 = 49_170;

/// A packet that must arrive or leave, and what for.
#[derive(Clone, Debug)]
pub struct Sample {
    pub network: String,
    /// `SIP`, `media`.
    pub what: &'static str,
    pub packet: Packet,
}

impl Sample {
    #[must_use]
    pub fn text(&self) -> String {
        let Packet {
            source,
            target,
            source_port,
            target_port,
            protocol,
            ..
        } = &self.packet;
        let protocol = protocol.name();
        let (way, far, own) = match &self.packet.arrives_at {
            Some(_) => ("from", source, (target, target_port)),
            None => ("to", target, (source, source_port)),
        };
        let (own, port) = own;
        let (network, what) = (&self.network, self.what);
        format!("{what} of network {network}: {protocol} {own} port {port} {way} {far}")
    }
}

/// Peers that stand for a network.
#[must_use]
pub fn peers(network: &Network) -> Vec<IpAddr> {
    let of_family = network
        .peers
        .iter()
        .filter(|net| net.addr().is_ipv4() == network.address.is_ipv4());
    let mut found: Vec<IpAddr> = of_family
        .take(PREFIXES_MAX)
        .map(|net| peer(*net, network.address))
        .collect();
    found.dedup();
    found
}

fn peer(net: IpNet, own: IpAddr) -> IpAddr {
    if net.prefix_len() == 0 {
        return if net.addr().is_ipv4() {
            ANYBODY
        } else {
            ANYBODY_V6
        };
    }
    let host = |step: u32| match net.trunc().addr() {
        IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from(u32::from(ip).saturating_add(step))),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from(u128::from(ip).saturating_add(step.into()))),
    };
    let mut steps = [HOST, HOST + 1, 2, 1, 0].into_iter().map(host);
    let found = steps.find(|ip| net.contains(ip) && *ip != own);
    found.unwrap_or(net.addr())
}

/// First, middle and last.
#[must_use]
pub fn ports(range: PortRange) -> [u16; 3] {
    let PortRange { first, last } = range;
    [first, first + (last - first) / 2, last]
}

/// Packets that must arrive at us, then those that must leave.
#[must_use]
pub fn samples(config: &Config) -> Vec<Sample> {
    let mut samples = Vec::new();
    for network in &config.networks {
        for peer in peers(network) {
            for (what, protocol, port) in services(config, network) {
                for arrives in [true, false] {
                    samples.push(Sample {
                        network: network.name.clone(),
                        what,
                        packet: packet(network, peer, protocol, port, arrives),
                    });
                }
            }
        }
    }
    samples
}

/// What a network offers: kind, protocol and port.
#[must_use]
pub fn services(config: &Config, network: &Network) -> Vec<(&'static str, Protocol, u16)> {
    let listeners = config.sip.listen.iter();
    let here = listeners.filter(|listener| listener.local.ip() == network.address);
    let mut services: Vec<_> = here
        .map(|listener| {
            let protocol = match listener.transport {
                Transport::Udp => Protocol::Udp,
                Transport::Tcp | Transport::Tls => Protocol::Tcp,
            };
            ("SIP", protocol, listener.local.port())
        })
        .collect();
    let media = ports(network.media_ports).into_iter();
    services.extend(media.map(|port| ("media", Protocol::Udp, port)));
    services
}

fn packet(net: &Network, peer: IpAddr, protocol: Protocol, port: u16, arrives: bool) -> Packet {
    let own = net.address;
    let (source, target) = if arrives { (peer, own) } else { (own, peer) };
    let (source_port, target_port) = if arrives {
        (PEER_PORT, port)
    } else {
        (port, PEER_PORT)
    };
    let interface = Some(net.interface.clone());
    let (arrives_at, leaves_by) = if arrives {
        (interface, None)
    } else {
        (None, interface)
    };
    Packet {
        arrives_at,
        leaves_by,
        source,
        target,
        protocol,
        source_port,
        target_port,
    }
}
