//! `[[network]]`: one by one against the host, then all against each other.

mod across;
mod told;

use std::net::IpAddr;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Interface;
use super::choice::{ADDRESS_CHANGE, ICE, KEEPALIVE, MEDIA, MEDIA_FROM, NAT, choose};
use super::lifetime;
use super::value::{self, Refusal};
use crate::config::file;
use crate::config::problem::{At, Problems, Span, nearest};
use crate::config::{
    AddressChange, Ice, KeepAlive, Limits, MediaFrom, MediaMode, NatMode, Network, PortRange,
};
use crate::id::NetworkId;

use told::Told;

pub const NETWORKS_MAX: usize = 64;
/// Bounds of `keepalive_interval`.
const KEEPALIVE_MIN: Duration = Duration::from_secs(5);
const KEEPALIVE_MAX: Duration = Duration::from_secs(600);
/// Different addresses of all networks: the kernel program compares with each of them.
pub const ADDRESSES_MAX: usize = 16;

/// A network as far as it could be understood; what could not be was reported.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) name: Option<At<String>>,
    interface: Option<String>,
    pub(super) address: Option<IpAddr>,
    told: Told,
    pub(super) peers: Vec<At<IpNet>>,
    gateways: Vec<At<IpAddr>>,
    pub(super) ports: Option<At<PortRange>>,
    nat: NatMode,
    keepalive: KeepAlive,
    keepalive_interval: Duration,
    media: MediaMode,
    media_from: MediaFrom,
    media_senders: Vec<IpNet>,
    ice: Ice,
    address_change: AddressChange,
    dscp: Option<u8>,
    hop_limit: Option<u8>,
    limits: Limits,
}

pub(super) fn read(
    networks: Vec<file::Network>,
    host: Option<&[Interface]>,
    problems: &mut Problems<'_>,
) -> Vec<Draft> {
    if networks.is_empty() && !problems.mentions("network") {
        let help = "add one: [[network]] with name, interface and peers";
        problems.add(&(0..0), "network", "there is no [[network]]", help);
    }
    if let Some(beyond) = networks.get(NETWORKS_MAX) {
        let message = format!("there are {} networks", networks.len());
        let help = format!("at most {NETWORKS_MAX} are possible");
        problems.add(&beyond.at, "network", message, help);
    }
    let drafts: Vec<_> = networks
        .into_iter()
        .take(NETWORKS_MAX)
        .map(|network| draft(network, host, problems))
        .collect();
    across::check(&drafts, problems);
    drafts
}

impl Draft {
    /// For messages.
    pub(super) fn label(&self) -> &str {
        self.name.as_ref().map_or("?", |name| &name.value)
    }

    /// The checked form; nothing if a part is missing, which was reported.
    pub(super) fn finish(self, id: NetworkId) -> Option<Network> {
        let advertise = self.told.sip().or(self.address)?;
        let advertise_media = self.told.media().or(self.address)?;
        let media_ports = self.ports?.value;
        Some(Network {
            id,
            name: self.name?.value,
            interface: self.interface?,
            address: self.address?,
            advertise,
            advertise_port: self.told.sip_port(),
            advertise_media,
            peers: self.peers.into_iter().map(|p| p.value).collect(),
            source_rewriting_gateways: self.gateways.into_iter().map(|g| g.value).collect(),
            media_ports,
            advertise_ports: self.told.ports.map_or(media_ports, |ports| ports.value),
            nat: self.nat,
            keepalive: self.keepalive,
            keepalive_interval: self.keepalive_interval,
            media: self.media,
            media_from: self.media_from,
            media_senders: self.media_senders,
            ice: self.ice,
            address_change: self.address_change,
            dscp: self.dscp,
            hop_limit: self.hop_limit,
            limits: self.limits,
        })
    }
}

fn draft(network: file::Network, host: Option<&[Interface]>, problems: &mut Problems<'_>) -> Draft {
    let name = network.name.filter(|name| named(name, problems));
    let address = address(
        &network.at,
        network.interface.as_ref(),
        network.address.as_ref(),
        host,
        problems,
    );
    let ports = match network.media_ports {
        Some(text) => parse(&text, "network.media_ports", value::ports, problems).map(|value| At {
            value,
            span: text.span,
        }),
        None => Some(At {
            value: MEDIA_PORTS,
            span: network.at.clone(),
        }),
    };
    let told = Told::read(
        network.advertise.as_ref(),
        network.advertise_media.as_ref(),
        network.advertise_ports.as_ref(),
        (address, ports.as_ref()),
        problems,
    );
    let (nat, media) = ("network.nat", "network.media");
    let from = "network.media_from";
    let (ice, change) = ("network.ice", "network.address_change");
    let alive = "network.keepalive";
    Draft {
        name,
        interface: network.interface.map(|interface| interface.value),
        address,
        told,
        peers: prefixes(&network.at, network.peers, address, problems),
        gateways: gateways(network.source_rewriting_gateways, address, problems),
        ports,
        nat: choose(network.nat, nat, NatMode::Auto, &NAT, problems),
        keepalive: choose(
            network.keepalive,
            alive,
            KeepAlive::Crlf,
            &KEEPALIVE,
            problems,
        ),
        keepalive_interval: interval(network.keepalive_interval, problems),
        media: choose(network.media, media, MediaMode::Auto, &MEDIA, problems),
        media_from: choose(
            network.media_from,
            from,
            MediaFrom::Signalling,
            &MEDIA_FROM,
            problems,
        ),
        media_senders: senders(network.media_senders, address, problems),
        ice: choose(network.ice, ice, Ice::Strip, &ICE, problems),
        address_change: choose(
            network.address_change,
            change,
            AddressChange::Reinvite,
            &ADDRESS_CHANGE,
            problems,
        ),
        dscp: network.dscp.and_then(|dscp| codepoint(&dscp, problems)),
        hop_limit: network.hop_limit.and_then(|hops| reach(&hops, problems)),
        limits: limits(network.max_calls, network.max_bandwidth, problems),
    }
}

fn limits(
    calls: Option<At<i64>>,
    bandwidth: Option<At<i64>>,
    problems: &mut Problems<'_>,
) -> Limits {
    let keys = ("network.max_calls", "network.max_bandwidth");
    super::limits::read((calls, bandwidth), keys, problems)
}

fn interval(written: Option<At<String>>, problems: &mut Problems<'_>) -> Duration {
    let range = KEEPALIVE_MIN..=KEEPALIVE_MAX;
    lifetime(written, "network.keepalive_interval", 25, &range, problems)
}

/// The default of `media_ports`.
const MEDIA_PORTS: PortRange = PortRange {
    first: 20_000,
    last: 29_999,
};

fn parse<T>(
    text: &At<String>,
    key: &str,
    parse: fn(&str) -> Result<T, Refusal>,
    problems: &mut Problems<'_>,
) -> Option<T> {
    super::parsed(&text.value, &text.span, key, parse, problems)
}

fn named(name: &At<String>, problems: &mut Problems<'_>) -> bool {
    let good = super::is_label(&name.value);
    if !good {
        let message = format!("`{}` is not a name", name.value);
        let help = "use letters, digits, `-`, `_` and `.`: name = \"lan\"";
        problems.add(&name.span, "network.name", message, help);
    }
    good
}

/// The network's own address: as written, else the interface's first.
fn address(
    at: &Span,
    interface: Option<&At<String>>,
    written: Option<&At<String>>,
    host: Option<&[Interface]>,
    problems: &mut Problems<'_>,
) -> Option<IpAddr> {
    const KEY: &str = "network.address";
    let wanted = match written {
        Some(text) => Some(parse(text, KEY, value::host, problems)?),
        None => None,
    };
    let Some(host) = host else {
        if wanted.is_none() {
            let help = "add address = \"…\", or check on the host itself";
            problems.add(at, KEY, "the interface's address is not known here", help);
        }
        return wanted;
    };
    let interface = interface?;
    let Some(found) = host.iter().find(|i| i.name == interface.value) else {
        missing_interface(interface, host, problems);
        return wanted;
    };
    match (wanted, written) {
        (Some(wanted), Some(text)) if !found.addresses.contains(&wanted) => {
            let message = format!("{wanted} is not an address of {}", found.name);
            problems.add(&text.span, KEY, message, where_is(wanted, found, host));
            None
        }
        (Some(wanted), _) => Some(wanted),
        (None, _) => found.usable().next().or_else(|| {
            let message = format!("the interface {} has no address", found.name);
            let help = format!("give it one: ip address add ADDRESS dev {}", found.name);
            problems.add(&interface.span, "network.interface", message, help);
            None
        }),
    }
}

fn missing_interface(interface: &At<String>, host: &[Interface], problems: &mut Problems<'_>) {
    let names: Vec<&str> = host.iter().map(|i| i.name.as_str()).collect();
    let help = match nearest(&interface.value, &names) {
        Some(near) => format!("did you mean `{near}`? This host has: {}", names.join(", ")),
        None => format!("this host has: {}", names.join(", ")),
    };
    let message = format!("there is no interface `{}`", interface.value);
    problems.add(&interface.span, "network.interface", message, help);
}

fn where_is(wanted: IpAddr, found: &Interface, host: &[Interface]) -> String {
    if let Some(other) = host.iter().find(|i| i.addresses.contains(&wanted)) {
        return format!(
            "it is on {}: change the interface or the address",
            other.name
        );
    }
    match super::list(found.usable()) {
        has if has.is_empty() => format!("{} has no address", found.name),
        has => format!(
            "{} has: {has}. An address that only peers see belongs in `advertise`",
            found.name
        ),
    }
}

fn same_family(
    span: &Span,
    key: &str,
    ip: IpAddr,
    address: Option<IpAddr>,
    problems: &mut Problems<'_>,
) -> bool {
    let Some(address) = address else {
        return true;
    };
    let same = ip.is_ipv4() == address.is_ipv4();
    if !same {
        let message = format!("{ip} and the network's address {address} are of two families");
        let help = "a network is IPv4 or IPv6; describe the other family as another [[network]]";
        problems.add(span, key, message, help);
    }
    same
}

/// Without `peers` everyone belongs to the network.
fn prefixes(
    at: &Span,
    written: Option<At<Vec<At<String>>>>,
    address: Option<IpAddr>,
    problems: &mut Problems<'_>,
) -> Vec<At<IpNet>> {
    const KEY: &str = "network.peers";
    let everyone = [Ipv4Net::default().into(), Ipv6Net::default().into()];
    let Some(written) = written else {
        return everyone
            .into_iter()
            .filter(|net: &IpNet| address.is_some_and(|a| a.is_ipv4() == net.addr().is_ipv4()))
            .map(|value| At {
                value,
                span: at.clone(),
            })
            .collect();
    };
    let mut prefixes = Vec::new();
    let mut refused = false;
    for text in &written.value {
        let Some(value) = parse(text, KEY, value::prefix, problems) else {
            refused = true;
            continue;
        };
        // "Everyone" is written for both families; the other one cannot be in this network.
        let other_family = address.is_some_and(|a| a.is_ipv4() != value.addr().is_ipv4());
        if other_family && everyone.contains(&value) {
            continue;
        }
        if same_family(&text.span, KEY, value.addr(), address, problems) {
            let span = text.span.clone();
            prefixes.push(At { value, span });
        } else {
            refused = true;
        }
    }
    if prefixes.is_empty() && !refused {
        let help = "say who belongs here: peers = [\"10.0.0.0/8\"]";
        problems.add(&written.span, KEY, "nobody belongs to this network", help);
    }
    prefixes
}

fn gateways(
    written: Option<At<Vec<At<String>>>>,
    address: Option<IpAddr>,
    problems: &mut Problems<'_>,
) -> Vec<At<IpAddr>> {
    const KEY: &str = "network.source_rewriting_gateways";
    let mut gateways = Vec::new();
    for text in written.map_or(Vec::new(), |w| w.value) {
        let Some(value) = parse(&text, KEY, value::host, problems) else {
            continue;
        };
        if address == Some(value) {
            let message = format!("{value} is our own address");
            let help = "name the router that replaces the sources of what it maps to us";
            problems.add(&text.span, KEY, message, help);
        } else if same_family(&text.span, KEY, value, address, problems) {
            let span = text.span;
            gateways.push(At { value, span });
        }
    }
    gateways
}

/// Prefixes media may come from although nobody names them.
fn senders(
    written: Option<At<Vec<At<String>>>>,
    address: Option<IpAddr>,
    problems: &mut Problems<'_>,
) -> Vec<IpNet> {
    const KEY: &str = "network.media_senders";
    let mut senders: Vec<IpNet> = Vec::new();
    for text in written.map_or(Vec::new(), |w| w.value) {
        let Some(value) = parse(&text, KEY, value::prefix, problems) else {
            continue;
        };
        if senders.contains(&value) {
            let message = format!("{value} is already listed");
            problems.add(&text.span, KEY, message, "remove it");
        } else if same_family(&text.span, KEY, value.addr(), address, problems) {
            senders.push(value);
        }
    }
    senders
}

fn codepoint(dscp: &At<i64>, problems: &mut Problems<'_>) -> Option<u8> {
    let good = u8::try_from(dscp.value).ok().filter(|d| *d <= DSCP_MAX);
    if good.is_none() {
        let message = format!("{} is not a DSCP", dscp.value);
        let help = "write 0 to 63; 46 is expedited forwarding, 34 is AF41 for video";
        problems.add(&dscp.span, "network.dscp", message, help);
    }
    good
}

/// None is never sent (RFC 791 §3.2).
fn reach(hops: &At<i64>, problems: &mut Problems<'_>) -> Option<u8> {
    let good = u8::try_from(hops.value).ok().filter(|hops| *hops > 0);
    if good.is_none() {
        let message = format!("{} is not a hop limit", hops.value);
        let help = "write 1 to 255; 64 reaches every place there is";
        problems.add(&hops.span, "network.hop_limit", message, help);
    }
    good
}

/// RFC 2474 §3: six bits.
const DSCP_MAX: u8 = 63;
