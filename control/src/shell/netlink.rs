//! Links, addresses, routes and neighbours, as the kernel tells them.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "netlink lists everything a kernel knows; few of it concerns us, and more will come"
)]

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::{Deref, DerefMut};
use std::pin::Pin;

use anyhow::Context;
use common::wire::Mac;
use futures_util::{FutureExt, Stream, StreamExt, TryStreamExt};
use ipnet::IpNet;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, VlanProtocol,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::proto::sys::SocketAddr as NetlinkAddr;
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder, new_multicast_connection};

use crate::config::check::Interface;

/// How a packet leaves: everything a compiled flow needs below IP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct NextHop {
    pub(crate) ifindex: u32,
    pub(crate) eth_src: Mac,
    pub(crate) eth_dst: Mac,
    /// Largest IP packet in bytes.
    pub(crate) mtu: u32,
}

/// Why there is no next hop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unresolved {
    NoRoute,
    /// The target is this host.
    Local,
    LinkDown,
    /// No link-layer address of 6 bytes: a tunnel, the loopback.
    NotEthernet,
    /// Asked for; an event follows when the neighbour answers.
    NoNeighbour,
}

impl Unresolved {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::NoRoute => "no route to the peer",
            Self::Local => "the peer is this host",
            Self::LinkDown => "egress link is down",
            Self::NotEthernet => "egress is not Ethernet",
            Self::NoNeighbour => "neighbour not resolved yet",
        }
    }
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Link {
    name: String,
    mac: Option<Mac>,
    mtu: u32,
    up: bool,
    /// The link whose VLAN it is, and which.
    vlan: Option<(u32, u16)>,
    /// Frames come in by its members.
    is_bond: bool,
    /// Each with the prefix that is its neighbourhood.
    addresses: Vec<IpNet>,
}

/// The links of this host, by index.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Links(HashMap<u32, Link>);

impl Deref for Links {
    type Target = HashMap<u32, Link>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Links {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl Links {
    /// The link that must be named when sending, because the destination does not tell: several
    /// links have it for a neighbour (two LANs with one private range). It is the one with our
    /// source address. None where routing knows better, as it does for our own addresses.
    pub(crate) fn link_for(&self, source: IpAddr, target: IpAddr) -> Option<u32> {
        let near = |link: &&Link| link.addresses.iter().any(|net| net.contains(&target));
        let is_target = |net: &IpNet| net.addr() == target;
        if self.0.values().any(|l| l.addresses.iter().any(is_target)) {
            return None;
        }
        if self.0.values().filter(|l| l.up).filter(near).count() < 2 {
            return None;
        }
        let ours = |net: &IpNet| net.addr() == source && net.contains(&target);
        let mut links = self.0.iter().filter(|(_, link)| link.up);
        let (index, _) = links.find(|(_, link)| link.addresses.iter().any(ours))?;
        Some(*index)
    }
}

pub(crate) struct Netlink {
    handle: Handle,
    events: Pin<Box<dyn Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + Send + Sync>>,
    /// What is wrong with networks, as far as it was said.
    pub(crate) said: BTreeSet<String>,
    /// Events have ended, and that was said.
    closed: bool,
    links: Links,
    neighbours: HashMap<(u32, IpAddr), Mac>,
    /// Answers since the last event: (target, source) → next hop.
    routes: HashMap<(IpAddr, IpAddr), Result<(u32, IpAddr), Unresolved>>,
}

/// Messages taken in one go before the loop gets its turn again.
const EVENTS_MAX: usize = 1024;
/// Cached route answers; when full, the cache starts anew.
const ROUTES_MAX: usize = 65_536;

impl Netlink {
    /// Subscribes first and reads the tables after, so that nothing is missed.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Neigh,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ];
        let (connection, handle, events) =
            new_multicast_connection(&groups).context("cannot open a netlink socket")?;
        tokio::spawn(connection);
        let first = |(message, _): (NetlinkMessage<RouteNetlinkMessage>, NetlinkAddr)| message;
        let mut netlink = Self {
            events: Box::pin(events.map(first)),
            handle,
            said: BTreeSet::new(),
            closed: false,
            links: Links::default(),
            neighbours: HashMap::new(),
            routes: HashMap::new(),
        };
        netlink
            .read_tables()
            .await
            .context("cannot read links, addresses and neighbours")?;
        Ok(netlink)
    }

    async fn read_tables(&mut self) -> Result<(), rtnetlink::Error> {
        let links: Vec<LinkMessage> = self.handle.link().get().execute().try_collect().await?;
        let addresses: Vec<AddressMessage> =
            self.handle.address().get().execute().try_collect().await?;
        let neighbours: Vec<NeighbourMessage> = self
            .handle
            .neighbours()
            .get()
            .execute()
            .try_collect()
            .await?;
        for link in links {
            self.link(&link);
        }
        for address in addresses {
            self.address(&address, true);
        }
        for neighbour in neighbours {
            self.neighbour(&neighbour, true);
        }
        Ok(())
    }

    /// Reads the tables again: events get lost when the kernel's queue overflows. True if what we
    /// knew was not what is.
    pub(crate) async fn resync(&mut self) -> bool {
        let links = std::mem::take(&mut self.links);
        let neighbours = std::mem::take(&mut self.neighbours);
        if let Err(error) = self.read_tables().await {
            tracing::warn!(%error, "cannot read links and neighbours again; the old ones stay");
            (self.links, self.neighbours) = (links, neighbours);
            return false;
        }
        // Routes are not kept: asking again is how they are read again.
        self.routes.clear();
        links != self.links || neighbours != self.neighbours
    }

    /// Interfaces with their addresses, for the configuration check.
    pub(crate) fn interfaces(&self) -> Vec<Interface> {
        let mut interfaces: Vec<Interface> = self
            .links
            .values()
            .map(|link| Interface {
                name: link.name.clone(),
                up: link.up,
                addresses: link.addresses.iter().map(IpNet::addr).collect(),
            })
            .collect();
        interfaces.sort_by(|a, b| a.name.cmp(&b.name));
        interfaces
    }

    /// Whether an interface and its other end are switched on.
    pub(crate) fn is_up(&self, name: &str) -> bool {
        self.links.values().any(|link| link.name == name && link.up)
    }

    pub(crate) fn index_of(&self, name: &str) -> Option<u32> {
        self.links
            .iter()
            .find(|(_, link)| link.name == name)
            .map(|(index, _)| *index)
    }

    /// What carries the frames of a link, and in which VLAN (IEEE 802.1Q); itself and zero, if it
    /// is none of the VLANs the kernel program knows.
    pub(crate) fn carrier(&self, index: u32) -> (u32, u16) {
        let link = self.links.get(&index);
        let carrier = link.and_then(|link| link.vlan);
        let stacked = |(carrier, _): &(u32, u16)| {
            let below = self.links.get(carrier);
            below.is_none_or(|link| link.vlan.is_some())
        };
        carrier.filter(|c| !stacked(c)).unwrap_or((index, 0))
    }

    pub(crate) fn addresses_of(&self, index: u32) -> impl Iterator<Item = IpAddr> {
        let link = self.links.get(&index).into_iter();
        link.flat_map(|link| link.addresses.iter().map(IpNet::addr))
    }

    /// The link that has one of our addresses; none if several have.
    pub(crate) fn home(&self, address: IpAddr) -> Option<u32> {
        let has = |net: &IpNet| net.addr() == address;
        let mut links = self
            .links
            .iter()
            .filter(|(_, l)| l.addresses.iter().any(has));
        let (index, _) = links.next()?;
        links.next().is_none().then_some(*index)
    }

    /// How frames to one of our addresses come in: interface and VLAN; interface zero if that may
    /// be any, as with the members of a bond.
    pub(crate) fn ingress(&self, address: IpAddr) -> (u32, u16) {
        let carrier = self.home(address).map(|index| self.carrier(index));
        let is_bond = |index: &u32| self.links.get(index).is_some_and(|link| link.is_bond);
        carrier.filter(|(i, _)| !is_bond(i)).unwrap_or_default()
    }

    /// The links of VLANs that a link carries.
    pub(crate) fn vlans_on(&self, carrier: u32) -> impl Iterator<Item = u32> {
        let on = move |index: &&u32| self.carrier(**index).0 == carrier && **index != carrier;
        self.links.keys().filter(on).copied()
    }

    pub(crate) fn name_of(&self, index: u32) -> Option<String> {
        self.links.get(&index).map(|link| link.name.clone())
    }

    /// Waits until something a next hop depends on has changed.
    pub(crate) async fn changed(&mut self) {
        loop {
            let Some(message) = self.events.next().await else {
                if !std::mem::replace(&mut self.closed, true) {
                    tracing::error!(
                        "netlink closed: changes are found by looking every now and then"
                    );
                }
                return std::future::pending().await;
            };
            let mut relevant = self.apply(&message);
            for _ in 0..EVENTS_MAX {
                match self.events.next().now_or_never().flatten() {
                    Some(message) => relevant |= self.apply(&message),
                    None => break,
                }
            }
            if relevant {
                self.routes.clear();
                return;
            }
        }
    }

    fn apply(&mut self, message: &NetlinkMessage<RouteNetlinkMessage>) -> bool {
        let NetlinkPayload::InnerMessage(message) = &message.payload else {
            return false;
        };
        match message {
            RouteNetlinkMessage::NewNeighbour(n) => self.neighbour(n, true),
            RouteNetlinkMessage::DelNeighbour(n) => self.neighbour(n, false),
            RouteNetlinkMessage::NewLink(link) => {
                self.link(link);
                true
            }
            RouteNetlinkMessage::DelLink(link) => self.links.remove(&link.header.index).is_some(),
            RouteNetlinkMessage::NewAddress(address) => self.address(address, true),
            RouteNetlinkMessage::DelAddress(address) => self.address(address, false),
            RouteNetlinkMessage::NewRoute(_) | RouteNetlinkMessage::DelRoute(_) => true,
            _ => false,
        }
    }

    fn link(&mut self, message: &LinkMessage) {
        let link = self.links.entry(message.header.index).or_default();
        link.up = message
            .header
            .flags
            .contains(LinkFlags::Up | LinkFlags::LowerUp);
        link.vlan = vlan(message);
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::LinkInfo(infos) => {
                    link.is_bond = infos.contains(&LinkInfo::Kind(InfoKind::Bond));
                }
                LinkAttribute::Address(bytes) => link.mac = mac(bytes),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                _ => {}
            }
        }
    }

    fn address(&mut self, message: &AddressMessage, added: bool) -> bool {
        let local = message.attributes.iter().find_map(|a| match a {
            AddressAttribute::Local(ip) => Some(*ip),
            _ => None,
        });
        let address = local.or_else(|| {
            message.attributes.iter().find_map(|a| match a {
                AddressAttribute::Address(ip) => Some(*ip),
                _ => None,
            })
        });
        let (Some(ip), Some(link)) = (address, self.links.get_mut(&message.header.index)) else {
            return false;
        };
        link.addresses.retain(|known| known.addr() != ip);
        if added && let Ok(net) = IpNet::new(ip, message.header.prefix_len) {
            link.addresses.push(net);
        }
        true
    }

    /// True if what we know of the neighbour changed.
    fn neighbour(&mut self, message: &NeighbourMessage, added: bool) -> bool {
        let mut ip = None;
        let mut address = None;
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                    ip = Some((*v4).into())
                }
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                    ip = Some((*v6).into());
                }
                NeighbourAttribute::LinkLayerAddress(bytes) => address = mac(bytes),
                _ => {}
            }
        }
        let Some(ip) = ip else { return false };
        let key = (message.header.ifindex, ip);
        let usable = added
            && !matches!(
                message.header.state,
                NeighbourState::Incomplete | NeighbourState::Failed | NeighbourState::None
            );
        match address.filter(|_| usable) {
            Some(address) => self.neighbours.insert(key, address) != Some(address),
            None => self.neighbours.remove(&key).is_some(),
        }
    }

    pub(crate) fn link_for(&self, source: IpAddr, target: IpAddr) -> Option<u32> {
        self.links.link_for(source, target)
    }

    /// As they are now.
    pub(crate) fn links(&self) -> Links {
        self.links.clone()
    }

    /// Where a packet from `source` to `target` leaves. An unknown neighbour is asked for.
    pub(crate) async fn next_hop(
        &mut self,
        target: IpAddr,
        source: IpAddr,
    ) -> Result<NextHop, Unresolved> {
        let route = match self.routes.get(&(target, source)) {
            Some(route) => *route,
            None => {
                let route = match self.link_for(source, target) {
                    Some(index) => Ok((index, target)),
                    None => self.route(target, source).await,
                };
                if self.routes.len() >= ROUTES_MAX {
                    self.routes.clear();
                }
                self.routes.insert((target, source), route);
                route
            }
        };
        let (ifindex, hop) = route?;
        let link = self.links.get(&ifindex).ok_or(Unresolved::NoRoute)?;
        if !link.up {
            return Err(Unresolved::LinkDown);
        }
        let eth_src = link.mac.ok_or(Unresolved::NotEthernet)?;
        let mtu = link.mtu;
        match self.neighbours.get(&(ifindex, hop)) {
            Some(eth_dst) => Ok(NextHop {
                ifindex,
                eth_src,
                eth_dst: *eth_dst,
                mtu,
            }),
            None => {
                self.solicit(ifindex, hop).await;
                Err(Unresolved::NoNeighbour)
            }
        }
    }

    /// Keeps the neighbour of a flow that only the kernel program uses from going stale for good.
    pub(crate) async fn refresh(&mut self, target: IpAddr, source: IpAddr) {
        if let Some(Ok((ifindex, hop))) = self.routes.get(&(target, source)).copied() {
            self.solicit(ifindex, hop).await;
        }
    }

    /// Has the kernel resolve a neighbour as if a packet were waiting (NTF_USE).
    async fn solicit(&self, ifindex: u32, hop: IpAddr) {
        let request = self
            .handle
            .neighbours()
            .add(ifindex, hop)
            .flags(NeighbourFlags::Use)
            .state(NeighbourState::None)
            .replace();
        if let Err(error) = request.execute().await {
            tracing::debug!(%hop, %error, "neighbour could not be asked for");
        }
    }

    /// Asks the kernel: (egress, next hop).
    async fn route(&self, target: IpAddr, source: IpAddr) -> Result<(u32, IpAddr), Unresolved> {
        let message = match (target, source) {
            (IpAddr::V4(to), IpAddr::V4(from)) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(to, 32)
                .source_prefix(from, 32)
                .build(),
            (IpAddr::V6(to), IpAddr::V6(from)) => RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(to, 128)
                .source_prefix(from, 128)
                .build(),
            _ => return Err(Unresolved::NoRoute),
        };
        let mut answers = self.handle.route().get(message).execute().boxed();
        let route: RouteMessage = match answers.try_next().await {
            Ok(Some(route)) => route,
            Ok(None) | Err(_) => return Err(Unresolved::NoRoute),
        };
        if route.header.kind == RouteType::Local {
            return Err(Unresolved::Local);
        }
        if route.header.kind != RouteType::Unicast {
            return Err(Unresolved::NoRoute);
        }
        let mut egress = None;
        let mut hop = target;
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Oif(index) => egress = Some(*index),
                RouteAttribute::Gateway(RouteAddress::Inet(ip)) => hop = (*ip).into(),
                RouteAttribute::Gateway(RouteAddress::Inet6(ip)) => hop = (*ip).into(),
                _ => {}
            }
        }
        egress.map(|index| (index, hop)).ok_or(Unresolved::NoRoute)
    }
}

/// The link a VLAN's link is on, and its number.
fn vlan(message: &LinkMessage) -> Option<(u32, u16)> {
    let (mut carrier, mut id, mut standard) = (None, None, false);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Link(index) => carrier = Some(*index),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    let LinkInfo::Data(InfoData::Vlan(vlan)) = info else {
                        continue;
                    };
                    for part in vlan {
                        match part {
                            InfoVlan::Id(number) => id = Some(*number),
                            InfoVlan::Protocol(protocol) => {
                                standard = *protocol == VlanProtocol::Ieee8021Q;
                            }
                            _ => {}
                        }
                    }
                }
            }
            _ => {}
        }
    }
    carrier.zip(id).filter(|_| standard)
}

fn mac(bytes: &[u8]) -> Option<Mac> {
    let octets: [u8; 6] = bytes.try_into().ok()?;
    (octets != [0; 6]).then(|| Mac::from(octets))
}
