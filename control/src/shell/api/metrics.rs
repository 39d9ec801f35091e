//! Numbers for Prometheus, in its text format 0.0.4. Labels have few values: none names a call, a
//! party or an address; peers are those of the configuration.

mod broker;
mod conference;
mod mqtt;
mod requests;
mod streams;
mod trace;

use std::sync::atomic::Ordering;
use std::time::Instant;

use common::forward::Reason;

use crate::shell::api::health;
use crate::shell::{Shell, object};

pub(super) fn metrics(shell: &Shell, now: Instant) -> String {
    let mut text = Text::default();
    configuration(shell, &mut text);
    signalling(shell, now, &mut text);
    store(shell, &mut text);
    mqtt::mqtt(shell, &mut text);
    conference::conference(shell, &mut text);
    broker::broker(shell, now, &mut text);
    trace::trace(shell, &mut text);
    doctor(shell, &mut text);
    media(shell, now, &mut text);
    requests::requests(shell, &mut text);
    text.text
}

fn signalling(shell: &Shell, now: Instant, text: &mut Text) {
    let totals = shell.engine.totals();
    let uptime = now.saturating_duration_since(shell.started).as_secs();
    let version = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("commit", object::commit()),
    ];
    text.family("build_info", Kind::Gauge, "The version that runs.");
    text.series(&version, 1);
    text.family("uptime_seconds", Kind::Gauge, "Time since the start.");
    text.series(&[], uptime);
    text.family("calls", Kind::Gauge, "Calls now.");
    text.series(&[("state", "answered")], count(totals.calls_answered));
    let pending = totals.calls.saturating_sub(totals.calls_answered);
    text.series(&[("state", "pending")], count(pending));
    text.family("draining", Kind::Gauge, "Whether new calls are refused.");
    text.series(&[], shell.engine.draining(now).is_some().into());
    text.family("registrations", Kind::Gauge, "Bindings now.");
    text.series(&[], count(totals.registrations));
    text.family("transactions", Kind::Gauge, "SIP transactions now.");
    text.series(&[], count(totals.transactions));
    shards(shell, text);
    let help = "SIP messages the network did not take from us.";
    text.family("sip_send_failed_total", Kind::Counter, help);
    text.series(&[], shell.sip.out().failed());
    peers(shell, now, text);
    super::links::metrics(shell, text);
    text.family("banned_sources", Kind::Gauge, "Sources that are not heard.");
    text.series(&[], count(shell.engine.bans_count(now)));
    connections(shell, text);
    let help = "What signalling and media logic did, by kind and reason.";
    text.family("events_total", Kind::Counter, help);
    for (what, which, count) in shell.engine.counters().iter() {
        text.series(&[("what", what), ("which", &super::label(which))], count);
    }
}

/// Checks that were made; every check has a number from the first minute on.
fn doctor(shell: &Shell, text: &mut Text) {
    let help = "What doctor found: 0 well or nothing to check, 1 warning, 2 failure, 3 unknown.";
    text.family("doctor_check_status", Kind::Gauge, help);
    for (check, status) in shell.doctor.statuses() {
        text.series(&[("check", check)], status);
    }
}

fn store(shell: &Shell, text: &mut Text) {
    let counts = shell.store.counts();
    let help = "Whether what is registered now outlives a restart.";
    text.family("store_up", Kind::Gauge, help);
    text.series(&[], shell.store.is_up().into());
    let help = "Records that wait for the disk.";
    text.family("store_pending", Kind::Gauge, help);
    text.series(&[], count(shell.store.pending()));
    let help = "Commits, many records to each.";
    text.family("store_commits_total", Kind::Counter, help);
    text.series(&[], counts.commits.load(Ordering::Relaxed));
    let help = "Commits that failed and are tried again.";
    text.family("store_errors_total", Kind::Counter, help);
    text.series(&[], counts.errors.load(Ordering::Relaxed));
    let help = "Records on disk, records there was no room for, messages sent before they were.";
    text.family("store_records_total", Kind::Counter, help);
    for (result, records) in [
        ("kept", &counts.kept),
        ("lost", &counts.lost),
        ("late", &counts.late),
    ] {
        text.series(&[("result", result)], records.load(Ordering::Relaxed));
    }
}

fn peers(shell: &Shell, now: Instant, text: &mut Text) {
    let help = "Whether any address of the peer is asked; zero: all are down or away.";
    text.family("peer_up", Kind::Gauge, help);
    let views = shell.engine.peers(now);
    for peer in &shell.engine.config().sip.peers {
        let mut own = views.iter().filter(|view| view.name == peer.name);
        let up = own.any(|view| !matches!(view.state, "down" | "away"));
        text.series(&[("peer", &peer.name)], up.into());
    }
}

/// What each engine has to do.
fn shards(shell: &Shell, text: &mut Text) {
    let numbers: Vec<String> = (0..shell.engine.len()).map(|n| n.to_string()).collect();
    let totals = shell.engine.shard_totals();
    text.family("shard_calls", Kind::Gauge, "Calls now, by engine.");
    for (number, totals) in numbers.iter().zip(&totals) {
        text.series(&[("shard", number)], count(totals.calls));
    }
    let help = "Events that wait for an engine.";
    text.family("shard_queue", Kind::Gauge, help);
    for (number, depth) in numbers.iter().zip(shell.queues.depths()) {
        text.series(&[("shard", number)], count(depth));
    }
    let help = "Datagrams dropped because too many wait for the engine they belong to.";
    text.family("sip_queue_full_total", Kind::Counter, help);
    text.series(&[], shell.queues.dropped());
    let help = "Events the conference plane was not told because too many waited for it.";
    text.family("plane_inbox_full_total", Kind::Counter, help);
    text.series(&[], shell.plane.inbox.dropped());
}

fn connections(shell: &Shell, text: &mut Text) {
    let view = shell.sip.connections();
    let help = "SIP connections now; half open is one without a valid message.";
    text.family("sip_connections", Kind::Gauge, help);
    for (transport, state, count) in view.now {
        text.series(&[("transport", transport), ("state", state)], count);
    }
    let help = "SIP connections since the start, by who made them.";
    text.family("sip_connections_opened_total", Kind::Counter, help);
    for (transport, side, count) in view.opened {
        text.series(&[("transport", transport), ("side", side)], count);
    }
    let help = "SIP connections turned away at once, by the limit that was reached.";
    text.family("sip_connections_refused_total", Kind::Counter, help);
    for (limit, count) in view.refused {
        text.series(&[("limit", limit)], count);
    }
    let help = "SIP connections that ended, by reason.";
    text.family("sip_connections_closed_total", Kind::Counter, help);
    for (reason, count) in view.closed {
        text.series(&[("reason", reason)], count);
    }
    let help = "Keep-alives of clients that were answered on connections.";
    text.family("sip_connection_pings_total", Kind::Counter, help);
    text.series(&[], view.pings);
    if let Some(expires_s) = shell.sip.certificate_expires_s() {
        let help = "When the certificate for SIP over TLS ends, in seconds since 1970.";
        text.family(
            "sip_tls_certificate_expiry_timestamp_seconds",
            Kind::Gauge,
            help,
        );
        text.series(&[], expires_s);
    }
}

fn configuration(shell: &Shell, text: &mut Text) {
    let help = "Number of the configuration in force.";
    text.family("config_generation", Kind::Gauge, help);
    text.series(&[], shell.reloads.generation());
    let help = "Whether the file that was read last is in force or would be.";
    text.family("config_last_reload_successful", Kind::Gauge, help);
    text.series(&[], shell.reloads.refused.is_none().into());
    let help = "Configurations read again, by what became of them.";
    text.family("config_reloads_total", Kind::Counter, help);
    for (result, count) in shell.reloads.counts {
        text.series(&[("result", result)], count);
    }
}

fn media(shell: &Shell, now: Instant, text: &mut Text) {
    let config = shell.engine.config();
    let (kernel, user) = shell.datapath.placements();
    text.family(
        "flows",
        Kind::Gauge,
        "Media flows now, by the path they take.",
    );
    text.series(&[("path", "xdp")], count(kernel));
    text.series(&[("path", "user")], count(user));
    let help = "Flows of an earlier run, whose calls are not known.";
    text.family("flows_adopted", Kind::Gauge, help);
    text.series(&[], count(shell.engine.totals().adopted_flows));
    text.family("media_sockets", Kind::Gauge, "Open media sockets.");
    text.series(&[], count(shell.datapath.media.len()));
    let help = "Whether the network's address is on its interface.";
    text.family("network_up", Kind::Gauge, help);
    let interfaces = shell.datapath.netlink.interfaces();
    for network in &config.networks {
        let up = health::missing(network, &interfaces).is_none();
        text.series(&[("network", &network.name)], up.into());
    }
    text.family("port_pairs", Kind::Gauge, "Pairs of media ports there are.");
    for network in &config.networks {
        let pairs = health::port_pairs(network);
        text.series(&[("network", &network.name)], count(pairs));
    }
    text.family("port_pairs_in_use", Kind::Gauge, "Pairs that calls hold.");
    for (id, network) in config.networks() {
        let used = shell.engine.ports_used(id, now);
        text.series(&[("network", &network.name)], count(used));
    }
    let help = "Calls with a party in the network, or asked there.";
    text.family("network_calls", Kind::Gauge, help);
    for (id, network) in config.networks() {
        let load = shell.engine.network_load(id);
        text.series(&[("network", &network.name)], load.calls);
    }
    let help = "Bandwidth of their legs in it, by what SDP says.";
    text.family("network_bandwidth_bits", Kind::Gauge, help);
    for (id, network) in config.networks() {
        let bits = shell.engine.network_load(id).bandwidth * 1000;
        text.series(&[("network", &network.name)], bits);
    }
    let help = "Neighbours that look like routers which rewrite sources.";
    text.family("gateways_suspected", Kind::Gauge, help);
    let suspects = shell.engine.suspected_gateways();
    for (id, network) in config.networks() {
        let here = suspects.iter().filter(|s| s.network == id).count();
        text.series(&[("network", &network.name)], count(here));
    }
    links(shell, text);
    userspace(shell, text);
    streams::streams(shell, text);
    verdicts(shell, text);
}

/// Links of networks, and which of them the kernel program is attached to.
fn links(shell: &Shell, text: &mut Text) {
    let config = shell.engine.config();
    let help = "Whether the kernel program is attached.";
    text.family("xdp_attached", Kind::Gauge, help);
    let attached = shell.datapath.interfaces();
    let mut interfaces: Vec<&str> = config
        .networks
        .iter()
        .map(|n| n.interface.as_str())
        .collect();
    interfaces.sort_unstable();
    interfaces.dedup();
    for interface in &interfaces {
        let is_attached = attached.iter().any(|name| name == interface);
        text.series(&[("interface", interface)], is_attached.into());
    }
    let help = "Whether the interface and its other end are switched on.";
    text.family("link_up", Kind::Gauge, help);
    for interface in &interfaces {
        let is_up = shell.datapath.netlink.is_up(interface);
        text.series(&[("interface", interface)], is_up.into());
    }
}

fn verdicts(shell: &Shell, text: &mut Text) {
    if let Ok(kernel) = &shell.datapath.kernel {
        let help = "Packets the kernel program judged, by verdict.";
        text.family("xdp_packets_total", Kind::Counter, help);
        for (reason, packets) in Reason::ALL.iter().zip(kernel.reasons()) {
            text.series(&[("reason", reason.name())], packets);
        }
        let fills = kernel.fills();
        let help = "Entries of the kernel program's maps that are in use.";
        text.family("bpf_map_entries", Kind::Gauge, help);
        for fill in &fills {
            if let Some(used) = fill.used {
                text.series(&[("map", fill.name)], count(used));
            }
        }
        let help = "Entries of the kernel program's maps; of a ring, its bytes.";
        text.family("bpf_map_capacity", Kind::Gauge, help);
        for fill in &fills {
            text.series(&[("map", fill.name)], fill.capacity.into());
        }
    }
}

/// What became of packets at media sockets.
fn userspace(shell: &Shell, text: &mut Text) {
    let total = shell.datapath.media.total();
    let help = "Packets at media sockets, by what became of them.";
    text.family("user_packets_total", Kind::Counter, help);
    for (result, packets) in [
        ("forwarded", &total.packets),
        ("unclaimed", &total.unclaimed),
        ("hop_limit", &total.hop_limit),
        ("wrong_interface", &total.wrong_interface),
        ("send_failed", &total.send_failed),
        ("queue_full", &total.queue_full),
    ] {
        text.series(&[("result", result)], packets.load(Ordering::Relaxed));
    }
    let help = "Bytes of media that were forwarded in userspace.";
    text.family("user_bytes_total", Kind::Counter, help);
    text.series(&[], total.bytes.load(Ordering::Relaxed));
}

pub(super) fn count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// The exposition: families, each with its series below it.
#[derive(Default)]
pub(super) struct Text {
    text: String,
    /// The family that series are added to.
    name: &'static str,
}

impl Text {
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.name = name;
        let head = format!("# HELP towpath_{name} {help}\n# TYPE towpath_{name} {kind}\n");
        self.text.push_str(&head);
    }

    pub(super) fn series(&mut self, labels: &[(&str, &str)], value: u64) {
        self.written(labels, &value);
    }

    /// The same of what is not counted in whole numbers.
    pub(super) fn fraction(&mut self, labels: &[(&str, &str)], value: f64) {
        self.written(labels, &value);
    }

    fn written(&mut self, labels: &[(&str, &str)], value: &dyn std::fmt::Display) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
            .collect();
        let labels = match labels.as_slice() {
            [] => String::new(),
            some => format!("{{{}}}", some.join(",")),
        };
        self.line(&format!("{}{labels} {value}", self.name));
    }

    fn line(&mut self, line: &str) {
        self.text.push_str("towpath_");
        self.text.push_str(line);
        self.text.push('\n');
    }
}

/// A label's value may hold anything.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_and_series() {
        let mut text = Text::default();
        text.family("calls", Kind::Gauge, "Calls now.");
        text.series(&[], 3);
        text.series(&[("a", "x\"y\\\n"), ("b", "")], 0);
        let expected = "# HELP towpath_calls Calls now.\n# TYPE towpath_calls gauge\n\
                        towpath_calls 3\ntowpath_calls{a=\"x\\\"y\\\\\\n\",b=\"\"} 0\n";
        assert_eq!(text.text, expected);
    }
}
