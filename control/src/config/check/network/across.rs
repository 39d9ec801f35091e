//! Networks against each other: what one of them has, no other may have too.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::{ADDRESSES_MAX, Draft};
use crate::config::PortRange;
use crate::config::problem::{Problems, Span};

pub(super) fn check(drafts: &[Draft], problems: &mut Problems<'_>) {
    few_addresses(drafts, problems);
    distinct_names(drafts, problems);
    distinct_prefixes(drafts, problems);
    distinct_gateways(drafts, problems);
    disjoint_ports(drafts, problems);
    disjoint_ports_told(drafts, problems);
}

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
            if !overlap(a.value, b.value) {
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

/// A router can map a port of one address to one of us only.
fn disjoint_ports_told(drafts: &[Draft], problems: &mut Problems<'_>) {
    for (index, draft) in drafts.iter().enumerate() {
        for other in drafts.iter().take(index) {
            let (Some(first), Some(second)) = (other.media_told(), draft.media_told()) else {
                continue;
            };
            let (a, b) = (first.ports, second.ports);
            if first.address != second.address || !overlap(a, b) {
                continue;
            }
            // That their own ports overlap was said.
            let own = |draft: &Draft| draft.ports.as_ref().map(|ports| ports.value);
            let own = own(other).zip(own(draft));
            if other.address == draft.address && own.is_some_and(|(a, b)| overlap(a, b)) {
                continue;
            }
            let message = format!(
                "`{}` tells the media ports {}-{} of {}, `{}` tells {}-{} of it (line {})",
                draft.label(),
                b.first,
                b.last,
                second.address,
                other.label(),
                a.first,
                a.last,
                problems.line(&first.span),
            );
            let help = "the router maps each port to one of them: give one network other \
                        `advertise_ports`, or another address";
            problems.add(&second.span, second.key, message, help);
        }
    }
}

fn overlap(a: PortRange, b: PortRange) -> bool {
    a.first <= b.last && b.first <= a.last
}
