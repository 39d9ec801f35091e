//! JSON: what clients see of the core's values.

mod ban;
mod event;
mod explain;
mod network;
mod peer;
mod registration;

use std::net::SocketAddr;
use std::time::Instant;

use common::forward::Reason;
use serde_json::{Map, Value, json};

use crate::engine::admin::{BranchView, CallView, FlowView, LegView, Refused, Totals};
use crate::engine::explain::words;
use crate::id::NetworkId;
use crate::shell::Shell;
use crate::shell::api::error::Problem;
use crate::shell::api::health::health;
use crate::shell::datapath::{FlowNow, MILLION, Placement};
use crate::shell::kernel::Stream;

pub(super) use ban::bans;
pub(super) use event::events;
pub(super) use explain::{call_explained, peer_explained, registration_explained};
pub(super) use network::networks;
pub(super) use peer::peers;
pub(super) use registration::{registrations, registrations_of};

pub(super) fn status(shell: &Shell, now: Instant) -> Value {
    let totals = shell.engine.totals();
    let config = shell.engine.config();
    let (kernel, user) = shell.datapath.placements();
    let (interfaces, why) = match &shell.datapath.kernel {
        Ok(_) => (shell.datapath.interfaces(), None),
        Err(why) => (Vec::new(), Some(why.as_str())),
    };
    let health = health(shell, now);
    let counters: Map<String, Value> = shell
        .engine
        .counters()
        .iter()
        .map(|(what, which, count)| (format!("{what}.{}", super::label(which)), count.into()))
        .chain([
            (
                "sip_send.failed".to_owned(),
                shell.sip.out().failed().into(),
            ),
            (
                "sip_datagram.queue_full".to_owned(),
                shell.queues.dropped().into(),
            ),
        ])
        .collect();
    json!({
        "node": config.node.id,
        "version": env!("CARGO_PKG_VERSION"),
        "state": health.state,
        "warnings": health.warnings,
        "config": super::config::summary(shell),
        "uptime_s": now.saturating_duration_since(shell.started).as_secs(),
        "pid": std::process::id(),
        "drain": super::drain::document(shell, now),
        "calls": { "now": totals.calls, "answered": totals.calls_answered },
        "registrations": totals.registrations,
        "transactions": totals.transactions,
        "shards": shards(shell),
        "media_sockets": shell.datapath.media.len(),
        "flows": { "kernel": kernel, "user": user, "adopted": totals.adopted_flows },
        "datapath": {
            "interfaces": interfaces,
            "why": why,
            "pin_dir": config.datapath.pin_dir.display().to_string(),
        },
        "verdicts": verdicts(shell),
        "counters": counters,
    })
}

/// What each engine has to do.
fn shards(shell: &Shell) -> Vec<Value> {
    let totals = shell.engine.shard_totals().into_iter();
    let shards = totals.zip(shell.queues.depths()).enumerate();
    let one = |(shard, (totals, queue)): (usize, (Totals, usize))| {
        json!({
            "shard": shard,
            "calls": totals.calls,
            "transactions": totals.transactions,
            "queue": queue,
        })
    };
    shards.map(one).collect()
}

fn verdicts(shell: &Shell) -> Map<String, Value> {
    let Ok(kernel) = &shell.datapath.kernel else {
        return Map::new();
    };
    Reason::ALL
        .iter()
        .zip(kernel.reasons())
        .map(|(reason, packets)| (reason.name().to_owned(), packets.into()))
        .collect()
}

pub(super) fn calls(shell: &mut Shell, now: Instant) -> Value {
    let calls: Vec<Value> = shell
        .engine
        .calls(now)
        .iter()
        .map(|view| call(shell, view))
        .collect();
    json!({ "calls": calls })
}

/// One call, as it is in the list.
pub(super) fn call_of(shell: &mut Shell, id: u64, now: Instant) -> Result<Value, Problem> {
    let view = shell.engine.call(id, now).ok_or(Refused::NoSuchCall)?;
    Ok(call(shell, &view))
}

fn call(shell: &mut Shell, view: &CallView) -> Value {
    let flows: Vec<Value> = view.flows.iter().map(|f| flow(shell, f)).collect();
    let branches = view.branches.iter().map(|b| branch(shell, b));
    let branches: Vec<Value> = branches.collect();
    json!({
        "id": view.id,
        "call_id": view.call_id,
        "from": view.from,
        "to": view.to,
        "state": view.state,
        "age_s": view.age.as_secs(),
        "setup_ms": view.setup.map(|setup| u64::try_from(setup.as_millis()).unwrap_or(u64::MAX)),
        "caller": leg(shell, &view.caller),
        "callee": view.callee.as_ref().map(|callee| leg(shell, callee)),
        "branches": branches,
        "flows": flows,
    })
}

/// One of those who are asked.
fn branch(shell: &Shell, view: &BranchView) -> Value {
    json!({
        "network": network_name(shell, view.network),
        "target": view.target,
        "signalling": view.signalling.to_string(),
        "state": view.state,
        "status": (view.status > 0).then_some(view.status),
    })
}

fn leg(shell: &Shell, view: &LegView) -> Value {
    json!({
        "network": network_name(shell, view.network),
        "signalling": view.signalling.to.to_string(),
        "via": view.signalling.on.to_string(),
        "nat": view.natted,
        "target": view.target,
        "media": view.media.map(words::mode),
        "media_by": if view.ordered { "operator" } else { "network" },
    })
}

/// One direction: what arrives at one of our addresses.
fn flow(shell: &mut Shell, view: &FlowView) -> Value {
    let now = shell.datapath.flow(view.at);
    let text = |address: Option<SocketAddr>| address.map(|a| a.to_string());
    let (path, why) = match now.as_ref().map(|f| f.placement) {
        Some(Placement::Kernel) => ("xdp", None),
        Some(Placement::User(why)) => ("user", Some(why)),
        None => ("none", Some(no_flow(view.latch))),
    };
    let count = |pick: fn(&FlowNow) -> u64| now.as_ref().map_or(0, pick);
    json!({
        "at": now.as_ref().map_or(view.at, |f| f.at).to_string(),
        "network": network_name(shell, view.network),
        "leg": view.leg,
        "media": view.media,
        "kind": view.kind,
        "component": view.component,
        "latch": view.latch,
        "code": view.code,
        "believed_why": view.why,
        "since_s": view.since.map(|time| time.as_secs()),
        "heard_s": view.heard.map(|time| time.as_secs()),
        "silent_s": view.silent.map(|time| time.as_secs()),
        "candidate": view.candidate.map(|(at, shown, needs)| {
            json!({ "at": at.to_string(), "packets": shown, "needs": needs })
        }),
        "risk": view.risk,
        "rule": view.rule,
        "advertised": view.advertised.to_string(),
        "signalled": text(view.signalled),
        "held": text(view.held),
        "reached_at": text(view.reached_at),
        "strangers": view.strangers,
        "peer": text(now.as_ref().map(|f| f.rule.peer)),
        "source": text(now.as_ref().map(|f| f.rule.source)),
        "target": text(now.as_ref().map(|f| f.rule.target)),
        "path": path,
        "why": why,
        "packets_xdp": count(|f| f.kernel.packets),
        "bytes_xdp": count(|f| f.kernel.bytes),
        "packets_user": count(|f| f.user_packets),
        "bytes_user": count(|f| f.user_bytes),
        "strangers_xdp": count(|f| f.kernel.strangers),
        "punted_xdp": count(|f| f.kernel.punted),
        "packets_unclaimed": count(|f| f.unclaimed),
        "bits_per_s": count(|f| f.bits_per_s),
        "stream": now.as_ref().and_then(|f| f.stream).map(stream),
    })
}

/// How the RTP of one direction comes to us (RFC 3550 §A.3, §A.8).
fn stream(stream: Stream) -> Value {
    let sent = stream.received.saturating_add(stream.lost.into());
    json!({
        "ssrc": format!("{:#010x}", stream.ssrc),
        "ssrc_changes": stream.ssrc_changes,
        "received": stream.received,
        "lost": stream.lost,
        "lost_ppm": (u64::from(stream.lost) * MILLION).checked_div(sent).unwrap_or(0),
        "reordered": stream.reordered,
        "jitter_us": stream.jitter.map(|jitter| u64::try_from(jitter.as_micros()).ok()),
    })
}

/// Why there is no flow yet where a stream is agreed, by the latch of the party that sends.
fn no_flow(latch: &str) -> &'static str {
    match latch {
        "held" => "the other party's media address is not known yet",
        "tentative" => "one packet came from a new address; the next decides",
        _ => "no packet has come from this party yet",
    }
}

fn network_name(shell: &Shell, id: NetworkId) -> String {
    shell
        .engine
        .config()
        .network(id)
        .map(|n| n.name.clone())
        .unwrap_or_default()
}
