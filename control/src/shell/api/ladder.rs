//! `GET calls/{id}/ladder`: the SIP messages of a call, also of one that has ended.

use std::collections::BTreeMap;
use std::time::{Instant, UNIX_EPOCH};

use axum::extract::{Path, Query};
use axum::routing::get;
use axum::{Extension, Json};
use serde_json::{Value, json};

use crate::bus::moment::rfc3339_ms;
use crate::engine::trace::{LadderView, Party, Start, Step};
use crate::shell::Shell;
use crate::shell::api::What;
use crate::shell::api::access::Principal;
use crate::shell::api::error::Problem;
use crate::shell::api::route::{Loop, Reply, ask};
use crate::shell::api::table::{Answer, Kind, Parameter, Role, Route, VIEW, schema};
use crate::shell::clock;

pub(super) const ROUTES: &[Route] = &[Route {
    path: "/api/v1/calls/{id}/ladder",
    about: "The SIP messages of a call, by its number or its Call-ID, and for a while after its \
            end; secrets are written over, names and numbers are others unless they are asked for",
    query: &[
        Parameter {
            name: "full",
            kind: Kind::Flag,
            required: false,
            about: "true: with the text of each message",
        },
        Parameter {
            name: "numbers",
            kind: Kind::Flag,
            required: false,
            about: "true: names and numbers as they are; for operators",
        },
    ],
    answer: Answer::Document(schema!("ladder")),
    refuses: &[Problem::BAD_LADDER, Problem::NO_LADDER],
    handler: || get(handle),
    ..VIEW
}];

/// What is asked for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Wanted {
    call: String,
    full: bool,
    numbers: bool,
}

impl Wanted {
    /// None if a parameter is unknown or says neither yes nor no.
    fn of(call: String, query: &BTreeMap<String, String>) -> Option<Self> {
        let mut wanted = Self {
            call,
            ..Self::default()
        };
        for (name, value) in query {
            let asked = value.parse().ok()?;
            match name.as_str() {
                "full" => wanted.full = asked,
                "numbers" => wanted.numbers = asked,
                _ => return None,
            }
        }
        Some(wanted)
    }
}

async fn handle(
    events: Loop,
    Extension(who): Extension<Principal>,
    Path(call): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Reply {
    let wanted = Wanted::of(call, &query).ok_or(Problem::BAD_LADDER)?;
    if wanted.numbers && who.role < Role::Operator {
        return Err(Problem::FORBIDDEN);
    }
    ask(&events, What::Ladder(wanted)).await.map(Json)
}

pub(super) fn ladder(shell: &Shell, wanted: &Wanted, now: Instant) -> Result<Value, Problem> {
    let view = shell.engine.ladder(&wanted.call, wanted.numbers);
    let view = view.ok_or(Problem::NO_LADDER)?;
    let parties: Vec<Value> = view.parties.iter().map(|p| party(shell, p)).collect();
    let first = view.steps.first().map_or(now, |step| step.at);
    let wall = clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default();
    let messages = view.steps.iter().map(|step| {
        let at = wall.saturating_sub(now.saturating_duration_since(step.at));
        let at = rfc3339_ms(u64::try_from(at.as_millis()).unwrap_or(u64::MAX));
        let after = step.at.saturating_duration_since(first);
        message(step, at, after.as_secs_f64() * 1000.0, wanted.full)
    });
    let messages: Vec<Value> = messages.collect();
    Ok(document(shell, &view, &parties, &messages))
}

fn document(shell: &Shell, view: &LadderView, parties: &[Value], messages: &[Value]) -> Value {
    json!({
        "call_id": view.call_id,
        "calls": view.calls,
        "live": view.live,
        "numbers": view.names,
        "node": shell.engine.config().node.id,
        "parties": parties,
        "left_out": view.left_out.map_or(0, |(count, _)| count),
        "left_out_before": view.left_out.map(|(_, index)| index),
        "messages": messages,
    })
}

fn party(shell: &Shell, party: &Party) -> Value {
    let Party { path, role } = party;
    let networks = &shell.engine.config().networks;
    let network = networks.iter().find(|n| n.address == path.on.local.ip());
    json!({
        "role": role,
        "transport": path.on.transport.word(),
        "address": path.to.to_string(),
        "local": path.on.local.to_string(),
        "network": network.map(|network| &network.name),
    })
}

fn message(step: &Step, at: String, after_ms: f64, full: bool) -> Value {
    let (mut method, mut uri, mut code, mut words) = (None, None, None, None);
    match &step.start {
        Start::Request { method: m, uri: u } => (method, uri) = (Some(m), Some(u)),
        Start::Response { code: c, reason } => (code, words) = (Some(*c), Some(reason)),
        Start::Other(line) => words = Some(line),
    }
    json!({
        "at": at,
        "after_ms": (after_ms * 1000.0).round() / 1000.0,
        "direction": step.direction.word(),
        "party": step.party,
        "method": method,
        "uri": uri,
        "code": code,
        "words": words,
        "cseq": step.cseq,
        "sdp": step.has_sdp,
        "repeats": step.repeats,
        "unsent": step.unsent,
        "octets": step.length,
        "cut": step.cut,
        "text": full.then_some(&step.text),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_questions_are_refused() {
        let ask = |query: &[(&str, &str)]| {
            let pairs = query
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            Wanted::of("7".to_owned(), &pairs.collect()).map(|w| (w.full, w.numbers))
        };
        assert_eq!(ask(&[]), Some((false, false)));
        assert_eq!(ask(&[("full", "true")]), Some((true, false)));
        assert_eq!(
            ask(&[("numbers", "true"), ("full", "false")]),
            Some((false, true))
        );
        assert_eq!(ask(&[("full", "yes")]), None);
        assert_eq!(ask(&[("text", "true")]), None);
    }
}
