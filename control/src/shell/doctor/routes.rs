//! What the routing table answers for a few peers of every network.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "netlink lists everything a kernel knows; few of it concerns us, and more will come"
)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::{Handle, RouteMessageBuilder};

use super::links::{handle, links};
use crate::config::{Config, Network};
use crate::doctor::facts::{Hop, Link, Route};
use crate::doctor::sample::peers;

/// The kernel asks three times, a second apart, before it gives a neighbour up.
const SOLICIT: Duration = Duration::from_millis(3500);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// `discard` (RFC 863): whoever is there need not listen.
const DISCARD: u16 = 9;

pub(super) async fn read(config: &Config) -> Result<Vec<Route>, String> {
    let (handle, links) = (handle()?, links().await?);
    let mut routes = Vec::new();
    for network in &config.networks {
        for target in peers(network) {
            let answer = ask(&handle, &links, network, target).await;
            routes.push(Route {
                network: network.name.clone(),
                source: network.address,
                target,
                answer,
            });
        }
    }
    solicit(&handle, &mut routes).await?;
    Ok(routes)
}

/// One lookup, as the kernel would do it for a packet of ours.
async fn ask(
    handle: &Handle,
    links: &[Link],
    network: &Network,
    target: IpAddr,
) -> Result<Hop, String> {
    let message = match (target, network.address) {
        (IpAddr::V4(to), IpAddr::V4(from)) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(to, 32)
            .source_prefix(from, 32)
            .build(),
        (IpAddr::V6(to), IpAddr::V6(from)) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(to, 128)
            .source_prefix(from, 128)
            .build(),
        _ => return Err("of another family".to_owned()),
    };
    let mut answers = handle.route().get(message).execute().boxed();
    let route: RouteMessage = match answers.try_next().await {
        Ok(Some(route)) => route,
        Ok(None) => return Err("no route".to_owned()),
        Err(error) => return Err(format!("no route: {error}")),
    };
    match route.header.kind {
        RouteType::Unicast | RouteType::Local => {}
        kind => return Err(format!("the route is {kind:?}").to_lowercase()),
    }
    let mut hop = Hop::default();
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => {
                let link = links.iter().find(|link| link.index == *index);
                hop.interface = link.map_or_else(|| format!("#{index}"), |l| l.name.clone());
            }
            RouteAttribute::Gateway(RouteAddress::Inet(ip)) => hop.gateway = Some((*ip).into()),
            RouteAttribute::Gateway(RouteAddress::Inet6(ip)) => hop.gateway = Some((*ip).into()),
            _ => {}
        }
    }
    // A neighbour by our own card: the daemon names the card itself (two LANs, one range).
    let own = links.iter().find(|link| link.name == network.interface);
    let near = |net: &ipnet::IpNet| net.addr() == network.address && net.contains(&target);
    hop.direct = own.is_some_and(|link| link.addresses.iter().any(near));
    Ok(hop)
}

/// Has the kernel find out whether the gateways are there, by a packet to each.
async fn solicit(handle: &Handle, routes: &mut [Route]) -> Result<(), String> {
    let mut gateways = BTreeMap::new();
    for route in routes.iter() {
        if let Ok(Hop {
            gateway: Some(gateway),
            ..
        }) = &route.answer
        {
            gateways.insert(*gateway, route.source);
        }
    }
    if gateways.is_empty() {
        return Ok(());
    }
    for (gateway, source) in &gateways {
        // What cannot be sent shows as a neighbour that is missing.
        drop(
            UdpSocket::bind(SocketAddr::new(*source, 0))
                .and_then(|socket| socket.send_to(&[0], (*gateway, DISCARD))),
        );
    }
    let mut states = BTreeMap::new();
    let looks = SOLICIT.as_millis() / LOOK_EVERY.as_millis();
    for _ in 0..looks {
        states = neighbours(handle).await?;
        let settled = |gateway: &IpAddr| states.get(gateway).is_some_and(|s| *s != "incomplete");
        if gateways.keys().all(settled) {
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    for route in routes {
        if let Ok(hop) = &mut route.answer
            && let Some(gateway) = hop.gateway
        {
            let state = states.get(&gateway).copied().unwrap_or("failed");
            let state = if state == "incomplete" {
                "failed"
            } else {
                state
            };
            hop.neighbour = Some(state.to_owned());
        }
    }
    Ok(())
}

/// States of neighbours that have one worth telling.
async fn neighbours(handle: &Handle) -> Result<BTreeMap<IpAddr, &'static str>, String> {
    let told = |error| format!("netlink: {error}");
    let all = handle.neighbours().get().execute();
    let all: Vec<NeighbourMessage> = all.try_collect().await.map_err(told)?;
    let mut states = BTreeMap::new();
    for message in &all {
        let ip = message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some((*ip).into()),
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => Some((*ip).into()),
                _ => None,
            });
        let state = match message.header.state {
            NeighbourState::Failed => "failed",
            NeighbourState::Incomplete | NeighbourState::None => "incomplete",
            _ => "reachable",
        };
        states.extend(ip.map(|ip: IpAddr| (ip, state)));
    }
    Ok(states)
}

/// Where default routes lead: interface and gateway.
pub(super) async fn defaults() -> Result<Vec<(String, IpAddr)>, String> {
    let (handle, links) = (handle()?, links().await?);
    let told = |error| format!("netlink: {error}");
    let mut found = Vec::new();
    let v4 = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let v6 = RouteMessageBuilder::<Ipv6Addr>::new().build();
    for message in [v4, v6] {
        let all = handle.route().get(message).execute();
        let all: Vec<RouteMessage> = all.try_collect().await.map_err(told)?;
        for route in all {
            let is_default = route.header.destination_prefix_length == 0
                && route.header.kind == RouteType::Unicast;
            let (mut interface, mut gateway) = (None, None);
            for attribute in &route.attributes {
                match attribute {
                    RouteAttribute::Oif(index) => {
                        interface = links.iter().find(|link| link.index == *index);
                    }
                    RouteAttribute::Gateway(RouteAddress::Inet(ip)) => {
                        gateway = Some(IpAddr::from(*ip));
                    }
                    RouteAttribute::Gateway(RouteAddress::Inet6(ip)) => {
                        gateway = Some(IpAddr::from(*ip));
                    }
                    _ => {}
                }
            }
            if let (true, Some(link), Some(gateway)) = (is_default, interface, gateway) {
                found.push((link.name.clone(), gateway));
            }
        }
    }
    Ok(found)
}
