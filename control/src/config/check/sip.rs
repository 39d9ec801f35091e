//! `[sip]`: who listens where, and which systems are trusted.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use super::choice::{ALGORITHM, AUTH, choose};
use super::network::Draft;
use super::{account, lifetime, list, parsed, peer, protection, shards, stream, value};
use crate::config::problem::{At, Problems, Span};
use crate::config::{Algorithm, Auth, Sip, file};
use crate::id::{Listener, Transport};

pub(super) fn read(
    sip: file::Sip,
    networks: &[Draft],
    secrets: &mut dyn FnMut(&Path) -> io::Result<String>,
    problems: &mut Problems<'_>,
) -> Option<Sip> {
    let at = sip.at.clone();
    let listen = listeners(sip.listen, networks, problems);
    let tls_written = stream::is_written(&sip.tls);
    let tls = stream::tls(sip.tls, secrets, problems);
    let secured = |on: &&At<Listener>| on.value.transport == Transport::Tls;
    if let (Some(on), false) = (listen.iter().find(secured), tls_written) {
        let help = "add [sip.tls] with certificate and key";
        let message = "TLS needs a certificate";
        problems.add(&on.span, "sip.listen", message, help);
    }
    let range = EXPIRES_MIN..=EXPIRES_MAX;
    let minimum = sip.expires_min.clone();
    let expires_min = lifetime(sip.expires_min, "sip.expires_min", 60, &range, problems);
    let expires_max = lifetime(sip.expires_max, "sip.expires_max", 3600, &range, problems);
    let (natted, key) = (sip.expires_natted_max, "sip.expires_natted_max");
    let expires_natted_max = lifetime(natted, key, 60, &range, problems);
    if expires_min > expires_max {
        let (min, max) = (value::spell(expires_min), value::spell(expires_max));
        let message = format!("expires_min ({min}) is longer than expires_max ({max})");
        let span = minimum.map_or(at.clone(), |m| m.span);
        problems.add(
            &span,
            "sip.expires_min",
            message,
            "exchange them, or lower expires_min",
        );
    }
    let (grace, key) = (sip.address_grace, "sip.address_grace");
    let range = Duration::ZERO..=ADDRESS_GRACE_MAX;
    let address_grace = lifetime(grace, key, 3600, &range, problems);
    let domain = domain(sip.domain, &at, problems);
    Some(Sip {
        listen: listen.iter().map(|l| l.value).collect(),
        auth: choose(sip.auth, "sip.auth", Auth::Digest, &AUTH, problems),
        algorithm: choose(
            sip.algorithm,
            "sip.algorithm",
            Algorithm::Md5,
            &ALGORITHM,
            problems,
        ),
        dns: servers(sip.dns, problems),
        accounts: account::read(sip.accounts, secrets, problems),
        peers: peer::read(sip.peers, networks, &listen, problems),
        protection: protection::read(sip.protection, problems),
        expires_min,
        expires_max,
        expires_natted_max,
        address_grace,
        shards: shards::read(sip.shards, networks, problems),
        tcp: stream::tcp(sip.tcp, problems),
        tls,
        domain: domain?,
    })
}

/// A week.
const ADDRESS_GRACE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Bounds of `expires_min` and `expires_max`.
pub(super) const EXPIRES_MIN: Duration = Duration::from_secs(1);
pub(super) const EXPIRES_MAX: Duration = Duration::from_secs(24 * 3600);

fn domain(domain: Option<At<String>>, at: &Span, problems: &mut Problems<'_>) -> Option<String> {
    const KEY: &str = "sip.domain";
    let help = "write the part after the @ of your SIP addresses: domain = \"example.com\"";
    let Some(domain) = domain else {
        if problems.mentions(KEY) {
            return None;
        }
        problems.add(at, KEY, "`domain` is missing from [sip]", help);
        return None;
    };
    let label = |l: &str| !l.is_empty() && !l.starts_with('-') && !l.ends_with('-');
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let name = domain.value.split('.').all(label) && domain.value.chars().all(allowed);
    let fits = domain.value.len() <= DOMAIN_BYTES_MAX;
    let bare = domain.value.trim_start_matches('[').trim_end_matches(']');
    if !(fits && (name || bare.parse::<IpAddr>().is_ok())) {
        let message = format!("`{}` is not a domain", domain.value);
        problems.add(&domain.span, KEY, message, help);
        return None;
    }
    Some(domain.value.to_ascii_lowercase())
}

/// RFC 1035 §2.3.4.
const DOMAIN_BYTES_MAX: usize = 253;

/// Wildcards spelt out: one listener per network address they cover.
fn listeners(
    written: Option<At<Vec<At<String>>>>,
    networks: &[Draft],
    problems: &mut Problems<'_>,
) -> Vec<At<Listener>> {
    const KEY: &str = "sip.listen";
    let written = written.unwrap_or_else(|| At {
        value: LISTEN.map(|text| At::new(text.to_owned(), 0..0)).to_vec(),
        span: 0..0,
    });
    let understood = networks.iter().all(|n| n.address.is_some());
    let mut listeners = Vec::new();
    let mut refused = false;
    for text in &written.value {
        let parsed = parsed(&text.value, &text.span, KEY, value::listen, problems);
        let Some(value) = parsed else {
            refused = true;
            continue;
        };
        let span = text.span.clone();
        let (new, known) = expand(&At::new(value, span), networks, &mut listeners);
        if let (0, Some(line)) = (new, known.map(|span| problems.line(&span))) {
            let message = format!("{} is already listened on (line {line})", text.value);
            problems.add(&text.span, KEY, message, "remove one of the two");
        } else if new == 0 && !value.local.ip().is_unspecified() && understood {
            let message = format!("{} covers no network", text.value);
            problems.add(&text.span, KEY, message, own_addresses(networks));
        }
    }
    ports_free(&listeners, networks, problems);
    let covered = |ip| listeners.iter().any(|l| Some(l.value.local.ip()) == ip);
    let mut uncovered = networks
        .iter()
        .filter(|n| n.address.is_some() && !covered(n.address));
    if let (Some(network), true) = (uncovered.next(), !refused) {
        let message = format!("nothing listens in network `{}`", network.label());
        let address = list(network.address.into_iter());
        let help = format!("its address is {address}: add it, or a wildcard of its family");
        problems.add(&written.span, KEY, message, help);
    }
    listeners
}

/// The default of `sip.listen`.
const LISTEN: [&str; 2] = ["udp:0.0.0.0:5060", "udp:[::]:5060"];

/// Adds what a listener covers; returns how many were new and where another one was known.
fn expand(
    listen: &At<Listener>,
    networks: &[Draft],
    listeners: &mut Vec<At<Listener>>,
) -> (usize, Option<Span>) {
    let (mut new, mut known) = (0, None);
    let Listener { transport, local } = listen.value;
    let (ip, port) = (local.ip(), local.port());
    for address in networks.iter().filter_map(|network| network.address) {
        let wildcard = ip.is_unspecified() && ip.is_ipv4() == address.is_ipv4();
        if !wildcard && ip != address {
            continue;
        }
        let value = Listener {
            transport,
            local: (address, port).into(),
        };
        match listeners.iter().find(|l| l.value == value) {
            Some(first) if first.span == listen.span => {}
            Some(first) => known = Some(first.span.clone()),
            None => {
                let span = listen.span.clone();
                listeners.push(At { value, span });
                new += 1;
            }
        }
    }
    (new, known)
}

/// No media port may be a SIP port.
fn ports_free(listeners: &[At<Listener>], networks: &[Draft], problems: &mut Problems<'_>) {
    for network in networks {
        let Some(ports) = &network.ports else {
            continue;
        };
        for listener in listeners {
            let (ip, port) = (listener.value.local.ip(), listener.value.local.port());
            let inside = (ports.value.first..=ports.value.last).contains(&port);
            // Media over TCP has ports of the same range.
            if network.address == Some(ip) && inside {
                let (first, last) = (ports.value.first, ports.value.last);
                let message = format!("the media ports {first}-{last} hold the SIP port {port}");
                let help = "move one of them: media_ports = \"20000-29999\" is free of SIP's 5060";
                problems.add(&ports.span, "network.media_ports", message, help);
            } else if network.address == Some(ip) && listener.value.transport != Transport::Tls {
                network.sip_port_told(port, problems);
            }
        }
    }
}

fn own_addresses(networks: &[Draft]) -> String {
    let own = list(networks.iter().filter_map(|network| network.address));
    format!("the networks' addresses are: {own}")
}

/// Who is asked for names.
fn servers(written: Option<At<Vec<At<String>>>>, problems: &mut Problems<'_>) -> Vec<SocketAddr> {
    let texts = written.map_or(Vec::new(), |servers| servers.value);
    let mut servers = Vec::new();
    for text in texts {
        let read = value::name_server;
        servers.extend(parsed(&text.value, &text.span, "sip.dns", read, problems));
    }
    servers
}
