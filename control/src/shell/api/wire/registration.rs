//! Registrations as documents.

use std::time::Instant;

use serde_json::{Value, json};

use super::network_name;
use crate::engine::admin::{Refused, RegistrationView};
use crate::shell::Shell;
use crate::shell::api::error::Problem;

pub(in crate::shell::api) fn registrations(shell: &Shell, now: Instant) -> Value {
    json!({ "registrations": rows(shell, &shell.engine.registrations(now)) })
}

/// Everything one account is registered with.
pub(in crate::shell::api) fn registrations_of(
    shell: &Shell,
    aor: &str,
    now: Instant,
) -> Result<Value, Problem> {
    let found = shell.engine.registrations_of(aor, now);
    let first = found.first().ok_or(Refused::NoSuchRegistration)?;
    Ok(json!({ "aor": first.aor.as_str(), "bindings": rows(shell, &found) }))
}

pub(super) fn rows(shell: &Shell, views: &[RegistrationView]) -> Vec<Value> {
    views.iter().map(|view| registration(shell, view)).collect()
}

pub(super) fn registration(shell: &Shell, view: &RegistrationView) -> Value {
    json!({
        "aor": view.aor.as_str(),
        "contact": view.contact,
        "instance": view.instance,
        "seen": view.seen.to.to_string(),
        "via": view.seen.on.to_string(),
        "claimed": view.claimed.map(|claimed| claimed.to_string()),
        "claimed_via": view.via.map(|claimed| claimed.to_string()),
        "network": network_name(shell, view.network),
        "nat": view.natted,
        "nat_why": view.nat_why,
        "reached_at": view.reached_at.to_string(),
        "reachable": view.reachable,
        "told": view.told.map(|told| told.to_string()),
        "age_s": view.age.as_secs(),
        "expires_s": view.expires_in.as_secs(),
        "user_agent": view.user_agent,
        "transport": view.seen.on.transport.token().to_ascii_lowercase(),
        "reg_id": view.reg_id,
        "q": f64::from(view.q) / 1000.0,
        "moved_from": view.moved_from.map(|from| from.to_string()),
        "upstream": view.upstream.as_ref().map(|(peer, left)| json!({
            "peer": peer,
            "expires_s": left.as_secs(),
        })),
    })
}
