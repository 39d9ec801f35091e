//! Interfaces with what their drivers say, and the kernel's parameters about them.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "netlink lists everything a kernel knows; few of it concerns us, and more will come"
)]

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp,
};
use rtnetlink::{Handle, new_connection};

use super::{Part, blocking, files, genl};
use crate::config::Config;
use crate::doctor::facts::{Conntrack, Link};

/// A connection to the kernel, for a few questions.
pub(super) fn handle() -> Result<Handle, String> {
    let (connection, handle, _) = new_connection().map_err(|e| format!("netlink: {e}"))?;
    tokio::spawn(connection);
    Ok(handle)
}

pub(super) async fn read(config: &Config) -> Result<Part, String> {
    let mut links = links().await?;
    let mut keys: Vec<String> = [
        "net/ipv4/ip_forward",
        "net/ipv4/ip_local_port_range",
        "net/ipv4/ip_local_reserved_ports",
        "net/core/bpf_jit_enable",
        "kernel/unprivileged_bpf_disabled",
    ]
    .map(str::to_owned)
    .to_vec();
    let own: Vec<String> = config
        .networks
        .iter()
        .map(|n| n.interface.clone())
        .collect();
    let names = links.iter().map(|link| link.name.as_str()).chain(["all"]);
    for name in names {
        for key in ["rp_filter", "arp_ignore", "arp_announce"] {
            keys.push(format!("net/ipv4/conf/{name}/{key}"));
        }
    }
    blocking(move || {
        for link in links.iter_mut().filter(|link| own.contains(&link.name)) {
            link.xdp_features = genl::xdp_features(link.index);
            link.ethtool = genl::ethtool(link.index);
        }
        let values = keys.into_iter().filter_map(|key| {
            let value = files::line(format!("/proc/sys/{key}"))?;
            Some((key, value))
        });
        Ok(Part::Links(links, values.collect(), conntrack()))
    })
    .await
}

/// Every interface with its addresses.
pub(super) async fn links() -> Result<Vec<Link>, String> {
    let handle = handle()?;
    let told = |error| format!("netlink: {error}");
    let links: Vec<LinkMessage> = handle
        .link()
        .get()
        .execute()
        .try_collect()
        .await
        .map_err(told)?;
    let addresses: Vec<AddressMessage> = handle
        .address()
        .get()
        .execute()
        .try_collect()
        .await
        .map_err(told)?;
    let mut links: Vec<Link> = links.iter().map(link).collect();
    for message in &addresses {
        let found = links
            .iter_mut()
            .find(|link| link.index == message.header.index);
        if let (Some(link), Some(net)) = (found, address(message)) {
            link.addresses.push(net);
        }
    }
    links.sort_by_key(|link| link.index);
    Ok(links)
}

fn link(message: &LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        up: flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        loopback: flags.contains(LinkFlags::Loopback),
        ..Link::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::LinkInfo(infos) => {
                link.kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind_name(kind)),
                    _ => None,
                });
            }
            LinkAttribute::Xdp(parts) => {
                link.xdp = parts.iter().find_map(|part| match part {
                    LinkXdp::ProgId(id) => Some(*id),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    link
}

fn kind_name(kind: &InfoKind) -> String {
    match kind {
        InfoKind::Veth => "veth".to_owned(),
        InfoKind::Vlan => "vlan".to_owned(),
        InfoKind::Bond => "bond".to_owned(),
        InfoKind::Bridge => "bridge".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    }
}

fn address(message: &AddressMessage) -> Option<IpNet> {
    let local = message.attributes.iter().find_map(|a| match a {
        AddressAttribute::Local(ip) => Some(*ip),
        _ => None,
    });
    let other = message.attributes.iter().find_map(|a| match a {
        AddressAttribute::Address(ip) => Some(*ip),
        _ => None,
    });
    IpNet::new(local.or(other)?, message.header.prefix_len).ok()
}

fn conntrack() -> Option<Conntrack> {
    let number = |name: &str| {
        let path = format!("/proc/sys/net/netfilter/nf_conntrack_{name}");
        files::line(path)?.parse::<u64>().ok()
    };
    Some(Conntrack {
        count: number("count")?,
        max: number("max")?,
        udp_stream_s: number("udp_timeout_stream"),
        udp_s: number("udp_timeout"),
    })
}
