//! Networks as documents, with who uses them and what is wrong with them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use serde_json::{Value, json};

use crate::config::{MediaMode, NatMode, Network, PortRange};
use crate::engine::explain::usage::{NetworkUsage, PEERS_SHOWN_MAX};
use crate::engine::gateway::{Example, Suspect, remedy};
use crate::id::NetworkId;
use crate::shell::Shell;
use crate::shell::api::health::{self, port_pairs};

pub(in crate::shell::api) fn networks(shell: &Shell, now: Instant) -> Value {
    let usage = shell.engine.network_usage(now);
    let suspects = shell.engine.suspected_gateways();
    let config = shell.engine.config();
    let networks: Vec<Value> = config
        .networks()
        .map(|(id, network)| one(shell, (id, network), &usage, &suspects, now))
        .collect();
    json!({ "networks": networks })
}

fn one(
    shell: &Shell,
    (id, network): (NetworkId, &Network),
    usage: &BTreeMap<NetworkId, NetworkUsage>,
    suspects: &[Suspect],
    now: Instant,
) -> Value {
    let used = usage.get(&id).cloned().unwrap_or_default();
    let here = suspects.iter().filter(|s| s.network == id);
    let shown = used.peers.iter().take(PEERS_SHOWN_MAX);
    json!({
        "name": network.name,
        "place": shell.engine.place(&format!("network.{}", network.name)),
        "interface": network.interface,
        "address": network.address.to_string(),
        "advertise": network.advertise.to_string(),
        "advertise_media": network.advertise_media.to_string(),
        "peers": network.peers.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "source_rewriting_gateways": ips(network.source_rewriting_gateways.iter()),
        "nat": nat(network.nat),
        "media": media(network.media),
        "media_ports": range(network.media_ports),
        "advertise_ports": range(network.advertise_ports),
        "pairs": port_pairs(network),
        "pairs_used": used.ports.used,
        "pairs_resting": used.ports.resting,
        "pairs_free": used.ports.free,
        "registrations": used.registrations,
        "calls": used.calls,
        "max_calls": network.limits.calls,
        "bandwidth_kbps": shell.engine.network_load(id).bandwidth,
        "max_bandwidth_kbps": network.limits.bandwidth,
        "peers_seen": { "count": used.peers.len(), "examples": ips(shown) },
        "suspected_gateways":
            here.map(|suspect| suspected(shell, suspect, now)).collect::<Vec<_>>(),
        "warnings": health::network_warnings(shell, (id, network), suspects, now),
    })
}

pub(super) fn suspected(shell: &Shell, suspect: &Suspect, now: Instant) -> Value {
    let remedy = remedy(shell.engine.config(), suspect);
    let place = remedy.network.as_ref();
    let example = |example: &Example| {
        json!({
            "aor": example.aor,
            "seen": example.seen.to_string(),
            "claimed": example.claimed.to_string(),
        })
    };
    json!({
        "address": suspect.address.to_string(),
        "local": suspect.local.to_string(),
        "since_s": now.saturating_duration_since(suspect.since).as_secs(),
        "clients": suspect.clients,
        "claimed_hosts": suspect.hosts,
        "examples": suspect.examples.iter().map(example).collect::<Vec<_>>(),
        "remedy": {
            "network": remedy.network,
            "place": place.and_then(|name| shell.engine.place(&format!("network.{name}"))),
            "lines": remedy.lines,
        },
    })
}

fn ips<'a>(ips: impl Iterator<Item = &'a IpAddr>) -> Vec<String> {
    ips.map(ToString::to_string).collect()
}

fn range(ports: PortRange) -> String {
    format!("{}-{}", ports.first, ports.last)
}

fn nat(mode: NatMode) -> &'static str {
    match mode {
        NatMode::Auto => "auto",
        NatMode::Always => "always",
        NatMode::Never => "never",
    }
}

fn media(mode: MediaMode) -> &'static str {
    match mode {
        MediaMode::Auto => "auto",
        MediaMode::Sdp => "sdp",
        MediaMode::Symmetric => "symmetric",
    }
}
