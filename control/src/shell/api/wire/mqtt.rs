//! Clients of the MQTT edge.

use std::time::Instant;

use serde_json::{Value, json};

use crate::bus::Principal;
use crate::mqtt::broker::ClientView;
use crate::mqtt::packet::Version;
use crate::shell::Shell;

pub(in crate::shell::api) fn clients(shell: &Shell, now: Instant) -> Value {
    let clients = shell.publisher.edge.clients(now);
    let clients: Vec<Value> = clients.iter().map(client).collect();
    json!({ "clients": clients })
}

/// For `status`.
pub(super) fn summary(shell: &Shell) -> Value {
    let totals = shell.publisher.edge.totals();
    json!({
        "connected": totals.connected,
        "sessions": totals.sessions,
        "queue_messages": totals.queue_messages,
        "retained": totals.retained,
    })
}

fn client(view: &ClientView) -> Value {
    let (kind, who) = match &view.client.principal {
        Principal::Account(user) => ("account", user),
        Principal::Server(id) => ("server", id),
        Principal::Operator(name) => ("operator", name),
        Principal::Viewer(name) => ("viewer", name),
        Principal::Anonymous(word) => ("anonymous", word),
    };
    json!({
        "id": view.client.id,
        "who": who,
        "kind": kind,
        "state": if view.version.is_some() { "connected" } else { "away" },
        "version": view.version.map(Version::word),
        "local": view.client.local.to_string(),
        "remote": view.client.remote.to_string(),
        "known_as": view.known_as.to_string(),
        "filters": view.filters,
        "queue_messages": view.queue_messages,
        "queue_bytes": view.queue_bytes,
        "ends_in_s": view.ends_in.map(|left| left.as_secs()),
    })
}
