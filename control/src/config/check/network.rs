//! `[[network]]`: one by one against the host, then all against each other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::value::{self, Refusal};
use super::{Interface, choose};
use crate::config::file;
use crate::config::problem::{At, Problems, Span, nearest};
use crate::config::{AddressChange, Ice, MediaFrom, MediaMode, NatMode, Network, PortRange};
use crate::id::NetworkId;

pub const NETWORKS_MAX: usize = 64;
/// Different addresses of all networks: the kernel program compares with each of them.
pub const ADDRESSES_MAX: usize = 16;

/// A network as far as it could be understood; what could not be was reported.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) name: Option<At<String>>,
    interface: Option<String>,
    pub(super) address: Option<IpAddr>,
    advertise: Option<IpAddr>,
    pub(super) peers: Vec<At<IpNet>>,
    gateways: Vec<At<IpAddr>>,
    pub(super) ports: Option<At<PortRange>>,
    media: MediaMode,
    dscp: Option<u8>,
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
    few_addresses(&drafts, problems);
    distinct_names(&drafts, problems);
    distinct_prefixes(&drafts, problems);
    distinct_gateways(&drafts, problems);
    disjoint_ports(&drafts, problems);
    drafts
}

impl Draft {
    /// For messages.
    pub(super) fn label(&self) -> &str {
        self.name.as_ref().map_or("?", |name| &name.value)
    }

    /// The checked form; nothing if a part is missing, which was reported.
    pub(super) fn finish(self, id: NetworkId) -> Option<Network> {
        let advertise = self.advertise.or(self.address)?;
        let media_ports = self.ports?.value;
        Some(Network {
            id,
            name: self.name?.value,
            interface: self.interface?,
            address: self.address?,
            advertise,
            advertise_port: None,
            advertise_media: advertise,
            peers: self.peers.into_iter().map(|p| p.value).collect(),
            source_rewriting_gateways: self.gateways.into_iter().map(|g| g.value).collect(),
            media_ports,
            advertise_ports: media_ports,
            nat: NatMode::Auto,
            media: self.media,
            media_from: MediaFrom::Signalling,
            media_senders: Vec::new(),
            ice: Ice::Strip,
            address_change: AddressChange::Reinvite,
            dscp: self.dscp,
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
    let advertise = network.advertise.and_then(|text| {
        let advertise = parse(&text, "network.advertise", value::host, problems)?;
        same_family(
            &text.span,
            "network.advertise",
            advertise,
            address,
            problems,
        );
        Some(advertise)
    });
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
    Draft {
        name,
        interface: network.interface.map(|interface| interface.value),
        address,
        advertise,
        peers: prefixes(&network.at, network.peers, address, problems),
        gateways: gateways(network.source_rewriting_gateways, address, problems),
        ports,
        media: choose(
            network.media,
            "network.media",
            MediaMode::Auto,
            &MEDIA,
            problems,
        ),
        dscp: network.dscp.and_then(|dscp| codepoint(&dscp, problems)),
    }
}

/// The default of `media_ports`.
const MEDIA_PORTS: PortRange = PortRange {
    first: 20_000,
    last: 29_999,
};

const MEDIA: [(&str, MediaMode); 3] = [
    ("auto", MediaMode::Auto),
    ("sdp", MediaMode::Sdp),
    ("symmetric", MediaMode::Symmetric),
];

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

fn codepoint(dscp: &At<i64>, problems: &mut Problems<'_>) -> Option<u8> {
    let good = u8::try_from(dscp.value).ok().filter(|d| *d <= DSCP_MAX);
    if good.is_none() {
        let message = format!("{} is not a DSCP", dscp.value);
        let help = "write 0 to 63; 46 is expedited forwarding, 34 is AF41 for video";
        problems.add(&dscp.span, "network.dscp", message, help);
    }
    good
}

/// RFC 2474 §3: six bits.
const DSCP_MAX: u8 = 63;

fn few_addresses(drafts: &[Draft], problems: &mut Problems<'_>) {
    let mut seen = BTreeSet::new();
    for draft in drafts {
        let Some(address) = draft.address else {
            continue;
        };
        seen.insert(address);
        if let (Some(name), true) = (&draft.name, seen.len() > ADDRESSES_MAX) {
            let message = format!("network `{}` brings one address too many", name.value);
            let help = format!("all networks together may have {ADDRESSES_MAX}");
            problems.add(&name.span, "network.address", message, help);
            return;
        }
    }
}

fn distinct_names(drafts: &[Draft], problems: &mut Problems<'_>) {
    let mut seen = BTreeMap::new();
    for name in drafts.iter().filter_map(|draft| draft.name.as_ref()) {
        if let Some(first) = seen.insert(&name.value, &name.span) {
            let line = problems.line(first);
            let message = format!("the name `{}` is taken in line {line}", name.value);
            problems.add(
                &name.span,
                "network.name",
                message,
                "give each its own name",
            );
        }
    }
}

/// A peer that sends to one of our addresses belongs to one network by its source alone.
fn distinct_prefixes(drafts: &[Draft], problems: &mut Problems<'_>) {
    let mut seen: BTreeMap<(Option<IpAddr>, IpNet), (&Draft, &Span)> = BTreeMap::new();
    for draft in drafts.iter().filter(|draft| draft.address.is_some()) {
        for peers in &draft.peers {
            let Some((other, span)) = seen.get(&(draft.address, peers.value)) else {
                seen.insert((draft.address, peers.value), (draft, &peers.span));
                continue;
            };
            let (line, net) = (problems.line(span), peers.value);
            let (message, help) = if std::ptr::eq(*other, draft) {
                let message = format!("{net} is already listed, in line {line}");
                (message, "remove it".to_owned())
            } else {
                let (ours, theirs) = (draft.label(), other.label());
                let message = format!(
                    "the networks `{theirs}` and `{ours}` overlap: both hold {net} (line {line})"
                );
                let help = "they share an address, so each needs prefixes of its own; \
                            give one a longer prefix or another address";
                (message, help.to_owned())
            };
            problems.add(&peers.span, "network.peers", message, help);
        }
    }
}

fn distinct_gateways(drafts: &[Draft], problems: &mut Problems<'_>) {
    let mut seen = BTreeMap::new();
    for draft in drafts {
        for gateway in &draft.gateways {
            let key = (draft.address, gateway.value);
            if let Some(first) = seen.insert(key, &gateway.span) {
                let line = problems.line(first);
                let message = format!("the gateway {} is listed in line {line}", gateway.value);
                let help = "traffic from it can belong to one network only: remove one";
                let key = "network.source_rewriting_gateways";
                problems.add(&gateway.span, key, message, help);
            }
        }
    }
}

fn disjoint_ports(drafts: &[Draft], problems: &mut Problems<'_>) {
    const KEY: &str = "network.media_ports";
    for (index, draft) in drafts.iter().enumerate() {
        let earlier = drafts.iter().take(index);
        let same_address = earlier.filter(|d| d.address.is_some() && d.address == draft.address);
        for other in same_address {
            let (Some(a), Some(b)) = (&other.ports, &draft.ports) else {
                continue;
            };
            if a.value.first > b.value.last || b.value.first > a.value.last {
                continue;
            }
            let message = format!(
                "the media ports {}-{} overlap {}-{} of network `{}` (line {}) on the same address",
                b.value.first,
                b.value.last,
                a.value.first,
                a.value.last,
                other.label(),
                problems.line(&a.span),
            );
            let help = "give each network of an address its own range: \
                        media_ports = \"30000-39999\"";
            problems.add(&b.span, KEY, message, help);
        }
    }
}
