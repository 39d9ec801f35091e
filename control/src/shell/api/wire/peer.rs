//! Peers, one entry for each of their addresses.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::config::PeerAddress;
use crate::engine::PeerView;
use crate::id::Transport;
use crate::shell::Shell;

pub(in crate::shell::api) fn peers(shell: &Shell, now: Instant) -> Value {
    let peers = shell.engine.peers(now);
    let peers: Vec<Value> = peers.iter().map(peer).collect();
    json!({ "peers": peers })
}

fn peer(view: &PeerView) -> Value {
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
        "state": view.state,
        "failures": view.failures,
        "why": view.why,
        "answered_s": view.answered.map(|time| time.as_secs()),
        "rtt_ms": view.rtt.map(ms),
    })
}
