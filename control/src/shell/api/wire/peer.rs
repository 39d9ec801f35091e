//! Peers, one entry for each of their addresses.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::config::{Limits, PeerAddress};
use crate::engine::PeerView;
use crate::id::Transport;
use crate::shell::Shell;

pub(in crate::shell::api) fn peers(shell: &Shell, now: Instant) -> Value {
    let peers = shell.engine.peers(now);
    let peers: Vec<Value> = peers.iter().map(|view| peer(shell, view)).collect();
    json!({ "peers": peers })
}

fn peer(shell: &Shell, view: &PeerView) -> Value {
    // Of the peer, not of one of its addresses.
    let load = shell.engine.peer_load(&view.name);
    let mut peers = shell.engine.config().sip.peers.iter();
    let limits = peers.find(|peer| peer.name == view.name);
    let limits = limits.map_or(Limits::default(), |peer| peer.limits);
    let ms = |rtt: Duration| u64::try_from(rtt.as_millis()).unwrap_or(u64::MAX);
    let PeerAddress {
        address, transport, ..
    } = view.address;
    json!({
        "name": view.name,
        "address": address.to_string(),
        "transport": transport.unwrap_or(Transport::Udp).word(),
        "priority": view.address.priority,
        "weight": view.address.weight,
        "calls": load.calls,
        "max_calls": limits.calls,
        "bandwidth_kbps": load.bandwidth,
        "max_bandwidth_kbps": limits.bandwidth,
        "state": view.state,
        "failures": view.failures,
        "why": view.why,
        "answered_s": view.answered.map(|time| time.as_secs()),
        "rtt_ms": view.rtt.map(ms),
    })
}
