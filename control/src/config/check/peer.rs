//! `[[sip.peer]]`: which systems are trusted, and where they are.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::choice::{REGISTER, REGISTER_BY, choose};
use super::network::Draft;
use super::sip::{EXPIRES_MAX, EXPIRES_MIN};
use super::value::{self, Place};
use super::{is_label, lifetime, limits, parsed};
use crate::config::problem::{At, Problems, Span};
use crate::config::{Forward, Peer, PeerAddress, PeerHost, RegisterBy, file};
use crate::id::{Listener, Transport};

/// Addresses of one peer.
const ADDRESSES_MAX: usize = 32;
const PROBE_MAX: Duration = Duration::from_secs(3600);
const PROBE_FAILURES: u32 = 3;
const PROBE_FAILURES_MAX: i64 = 100;

pub(super) fn read(
    written: Vec<file::Peer>,
    networks: &[Draft],
    listeners: &[At<Listener>],
    problems: &mut Problems<'_>,
) -> Vec<Peer> {
    let mut names: BTreeMap<String, Span> = BTreeMap::new();
    let mut known: BTreeMap<SocketAddr, Span> = BTreeMap::new();
    let mut peers = Vec::new();
    let mut forwarding: Option<Span> = None;
    for mut peer in written {
        let forward = forward(&peer, &mut forwarding, problems);
        if let Some(name) = &peer.name {
            named(name, &mut names, problems);
        }
        let mut routes = Vec::new();
        for text in peer.routes.take().map_or(Vec::new(), |r| r.value) {
            let key = "sip.peer.routes";
            routes.extend(parsed(&text.value, &text.span, key, value::route, problems));
        }
        let mut sources = Vec::new();
        for text in peer.sources.take().map_or(Vec::new(), |s| s.value) {
            let key = "sip.peer.sources";
            let prefix = parsed(&text.value, &text.span, key, value::prefix, problems);
            sources.extend(prefix);
        }
        let range = Duration::ZERO..=PROBE_MAX;
        let probe = lifetime(peer.probe.take(), "sip.peer.probe", 0, &range, problems);
        let probe_failures = failures(peer.probe_failures.take(), problems);
        let limits = limits::read(
            (peer.max_calls.take(), peer.max_bandwidth.take()),
            ("sip.peer.max_calls", "sip.peer.max_bandwidth"),
            problems,
        );
        let assert_identity = peer.assert_identity.take().is_some_and(|word| word.value);
        let Places { addresses, host } = places(&peer, networks, listeners, &mut known, problems);
        if addresses.is_empty() && host.is_none() {
            continue;
        }
        let of_host = host.iter().map(|host| host.transport);
        let transports = addresses.iter().map(|a| a.transport).chain(of_host);
        let tls_name = tls_name(peer.tls_name, transports.collect(), problems);
        peers.extend(peer.name.map(|name| Peer {
            name: name.value,
            addresses,
            host,
            forward,
            tls_name,
            sources,
            probe,
            probe_failures,
            limits,
            assert_identity,
            routes,
        }));
    }
    peers
}

fn named(name: &At<String>, names: &mut BTreeMap<String, Span>, problems: &mut Problems<'_>) {
    const KEY: &str = "sip.peer.name";
    if !is_label(&name.value) {
        let message = format!("`{}` is not a name", name.value);
        let help = "use letters, digits, `-`, `_` and `.`: name = \"mcu\"";
        problems.add(&name.span, KEY, message, help);
    } else if let Some(first) = names.insert(name.value.clone(), name.span.clone()) {
        let line = problems.line(&first);
        let message = format!("the name `{}` is taken in line {line}", name.value);
        problems.add(&name.span, KEY, message, "give each its own name");
    }
}

/// Where a peer is.
#[derive(Default)]
struct Places {
    addresses: Vec<PeerAddress>,
    host: Option<PeerHost>,
}

/// `uri`, then `uris`: those without a priority are tried one after the other. A name stands alone.
fn places(
    peer: &file::Peer,
    networks: &[Draft],
    listeners: &[At<Listener>],
    known: &mut BTreeMap<SocketAddr, Span>,
    problems: &mut Problems<'_>,
) -> Places {
    let first = peer.uri.iter().map(|uri| ("sip.peer.uri", uri));
    let others = peer.uris.iter().flat_map(|uris| &uris.value);
    let others = others.map(|uri| ("sip.peer.uris", uri));
    if let Some(uris) = &peer.uris
        && uris.value.len() >= ADDRESSES_MAX
    {
        let message = format!("a peer has at most {ADDRESSES_MAX} addresses");
        problems.add(&uris.span, "sip.peer.uris", message, "make it two peers");
    }
    let alone = peer.uris.as_ref().is_none_or(|uris| uris.value.is_empty());
    let mut places = Places::default();
    for (place, (key, uri)) in (0_u16..).zip(first.chain(others).take(ADDRESSES_MAX)) {
        let Some(found) = parsed(&uri.value, &uri.span, key, value::peer_uri, problems) else {
            continue;
        };
        let transport = found.transport;
        let address = match found.place {
            Place::Address(address) => address,
            Place::Host(host) => {
                if !alone || key != "sip.peer.uri" {
                    let message = format!("`{}` is a name beside other places", host.name);
                    let help = "a peer is either known by one name, whose records say where it is, \
                                or by addresses";
                    problems.add(&uri.span, key, message, help);
                }
                heard((key, &uri.span), transport, listeners, problems);
                places.host = Some(host);
                continue;
            }
        };
        let written = (key, &uri.span);
        reachable(written, address, transport, networks, listeners, problems);
        if let Some(first) = known.insert(address, uri.span.clone()) {
            let line = problems.line(&first);
            let message = format!("{address} is the peer of line {line} too");
            problems.add(&uri.span, key, message, "join their routes under one peer");
        }
        places.addresses.push(PeerAddress {
            address,
            transport,
            priority: found.priority.unwrap_or(place),
            weight: found.weight.unwrap_or(1),
        });
    }
    places
}

fn tls_name(
    written: Option<At<String>>,
    transports: Vec<Option<Transport>>,
    problems: &mut Problems<'_>,
) -> Option<String> {
    let name = written?;
    if !transports.contains(&Some(Transport::Tls)) {
        let help = "write uri = \"sips:…\", or remove it";
        let message = "the peer is not reached over TLS";
        problems.add(&name.span, "sip.peer.tls_name", message, help);
    }
    Some(name.value)
}

fn failures(written: Option<At<i64>>, problems: &mut Problems<'_>) -> u32 {
    let Some(written) = written else {
        return PROBE_FAILURES;
    };
    if !(1..=PROBE_FAILURES_MAX).contains(&written.value) {
        let message = format!("{} is out of range", written.value);
        let help = format!("write 1 to {PROBE_FAILURES_MAX}");
        problems.add(&written.span, "sip.peer.probe_failures", message, help);
    }
    u32::try_from(written.value).unwrap_or(PROBE_FAILURES)
}

/// How a peer keeps registrations, if it does. One peer may: where else would they be forwarded?
fn forward(
    peer: &file::Peer,
    forwarding: &mut Option<Span>,
    problems: &mut Problems<'_>,
) -> Option<Forward> {
    const KEY: &str = "sip.peer.register";
    let register = peer.register.clone();
    let span = register
        .as_ref()
        .map_or(0..0, |register| register.span.clone());
    let forward = choose(register, KEY, false, &REGISTER, problems);
    let (by, key) = (peer.register_by.clone(), "sip.peer.register_by");
    let range = EXPIRES_MIN..=EXPIRES_MAX;
    for (key, written) in [
        (key, &peer.register_by),
        ("sip.peer.register_expires", &peer.register_expires),
    ] {
        if let Some(written) = written.as_ref().filter(|_| !forward) {
            let help = "write register = \"forward\" beside it, or remove it";
            problems.add(&written.span, key, "registrations stay here", help);
        }
    }
    let by = choose(by, key, RegisterBy::Contact, &REGISTER_BY, problems);
    let (expires, key) = (peer.register_expires.clone(), "sip.peer.register_expires");
    let expires = lifetime(expires, key, 3600, &range, problems);
    if !forward {
        return None;
    }
    if let Some(first) = forwarding {
        let message = format!(
            "the peer of line {} keeps them already",
            problems.line(first)
        );
        problems.add(
            &span,
            KEY,
            message,
            "registrations are forwarded to one peer",
        );
    }
    *forwarding = Some(span);
    Some(Forward { by, expires })
}

fn reachable(
    (key, span): (&str, &Span),
    address: SocketAddr,
    transport: Option<Transport>,
    networks: &[Draft],
    listeners: &[At<Listener>],
    problems: &mut Problems<'_>,
) {
    if listeners.iter().any(|l| l.value.local == address) {
        let help = "name the other system's address";
        problems.add(span, key, format!("{address} is ourselves"), help);
        return;
    }
    let holds = |n: &Draft| n.peers.iter().any(|p| p.value.contains(&address.ip()));
    let understood = !networks.is_empty() && networks.iter().all(|n| n.address.is_some());
    if understood && !networks.iter().any(holds) {
        let ip = address.ip();
        let message = format!("{ip} belongs to no [[network]]");
        let help = format!("add a prefix that holds {ip} to the `peers` of a network");
        problems.add(span, key, message, help);
    }
    if understood {
        heard((key, span), transport, listeners, problems);
    }
}

/// Something of ours must listen for what a peer is reached by.
fn heard(
    (key, span): (&str, &Span),
    transport: Option<Transport>,
    listeners: &[At<Listener>],
    problems: &mut Problems<'_>,
) {
    let wanted = transport.unwrap_or(Transport::Udp);
    if !listeners.is_empty() && !listeners.iter().any(|l| l.value.transport == wanted) {
        let word = wanted.word();
        let message = format!("nothing listens for {word}: the peer could not call back");
        let help = format!("add \"{word}:0.0.0.0:{}\" to `listen`", wanted.port());
        problems.add(span, key, message, help);
    }
}
