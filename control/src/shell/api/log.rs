//! What is written down, changed while the daemon runs.

use std::collections::BTreeSet;

use axum::Json;
use axum::body::Bytes;
use axum::routing::{get, put};
use serde_json::{Value, json};

use crate::config::check::levels;
use crate::shell::api::error::Problem;
use crate::shell::api::route::Reply;
use crate::shell::api::table::{Answer, Body, CHANGE, Route, VIEW, Verb, schema};
use crate::shell::log;

pub(super) const ROUTES: &[Route] = &[
    Route {
        path: "/api/v1/log",
        about: "What is logged now: levels, and calls that are followed",
        answer: Answer::Document(schema!("log")),
        handler: || get(|| async { Json(shown()) }),
        ..VIEW
    },
    Route {
        verb: Verb::Put,
        path: "/api/v1/log",
        about: "Logs more or less until the next start or change of log.level, and every event \
                of some calls",
        body: Body::Document(
            schema!("log-order"),
            r#"{"level": "info,control::shell=debug", "calls": [7]}"#,
        ),
        answer: Answer::Document(schema!("log")),
        refuses: &[Problem::BAD_LOG_ORDER],
        handler: || put(change),
        ..CHANGE
    },
];

async fn change(body: Bytes) -> Reply {
    let (level, calls) = order(&body).ok_or(Problem::BAD_LOG_ORDER)?;
    if let Some(level) = level {
        log::set_level(&level).map_err(|_| Problem::BAD_LOG_ORDER)?;
    }
    if let Some(calls) = calls {
        log::follow(calls);
    }
    Ok(Json(shown()))
}

/// `{"level": "debug"}`, `{"calls": [7]}` or both.
fn order(body: &[u8]) -> Option<(Option<String>, Option<BTreeSet<u64>>)> {
    let order: Value = serde_json::from_slice(body).ok()?;
    let level = match order.get("level") {
        None | Some(Value::Null) => None,
        Some(level) => Some(levels(level.as_str()?).ok()?),
    };
    let calls = match order.get("calls") {
        None | Some(Value::Null) => None,
        Some(calls) => {
            let calls = calls
                .as_array()
                .filter(|calls| calls.len() <= log::CALLS_MAX)?;
            Some(calls.iter().map(Value::as_u64).collect::<Option<_>>()?)
        }
    };
    Some((level, calls))
}

fn shown() -> Value {
    let (level, calls) = log::state();
    json!({ "level": level, "calls": calls })
}
