//! Whether new calls are taken.

use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Bytes;
use axum::routing::{delete, get, post};
use serde_json::{Value, json};

use crate::engine::admin::Command;
use crate::shell::Shell;
use crate::shell::api::What;
use crate::shell::api::error::Problem;
use crate::shell::api::route::{Loop, Reply, ask};
use crate::shell::api::table::{Answer, Body, CHANGE, Route, VIEW, Verb, schema};

pub(super) const ROUTES: &[Route] = &[
    Route {
        path: "/api/v1/drain",
        about: "Whether the node is being drained, and how many calls are left",
        answer: Answer::Document(schema!("drain")),
        handler: || get(drain),
        ..VIEW
    },
    Route {
        path: "/api/v1/drain",
        about: "Takes no new calls; ends those that are left after `seconds`, if there are any",
        body: Body::Document(schema!("drain-order"), r#"{"seconds": 600}"#),
        refuses: &[Problem::BAD_DRAIN],
        handler: || post(begin),
        ..CHANGE
    },
    Route {
        verb: Verb::Delete,
        path: "/api/v1/drain",
        about: "Takes calls again",
        handler: || delete(end),
        ..CHANGE
    },
];

/// A week; what is to last longer has no deadline.
const DRAIN_S_MAX: u64 = 7 * 24 * 3600;

async fn drain(events: Loop) -> Reply {
    ask(&events, What::Drain).await.map(Json)
}

async fn begin(events: Loop, body: Bytes) -> Reply {
    let deadline = order(&body).ok_or(Problem::BAD_DRAIN)?;
    let order = Command::Drain { deadline };
    ask(&events, What::Order(order)).await.map(Json)
}

async fn end(events: Loop) -> Reply {
    ask(&events, What::Order(Command::Undrain)).await.map(Json)
}

fn order(body: &[u8]) -> Option<Option<Duration>> {
    let order: Value = serde_json::from_slice(body).ok()?;
    match order.as_object()?.get("seconds") {
        None | Some(Value::Null) => Some(None),
        Some(seconds) => {
            let seconds = seconds.as_u64().filter(|s| *s <= DRAIN_S_MAX)?;
            Some(Some(Duration::from_secs(seconds)))
        }
    }
}

/// The document; also a part of `status`.
pub(super) fn document(shell: &Shell, now: Instant) -> Value {
    let draining = shell.engine.draining(now);
    json!({
        "draining": draining.is_some(),
        "since_s": draining.map(|drain| drain.age.as_secs()),
        "ends_calls_in_s": draining.and_then(|drain| drain.left).map(|left| left.as_secs()),
        "calls": shell.engine.totals().calls,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_have_a_time_or_none() {
        for (text, expected) in [
            ("{}", Some(None)),
            (r#"{"seconds": null}"#, Some(None)),
            (r#"{"seconds": 0}"#, Some(Some(Duration::ZERO))),
            (
                r#"{"seconds": 604800}"#,
                Some(Some(Duration::from_secs(604_800))),
            ),
            (r#"{"seconds": 604801}"#, None),
            (r#"{"seconds": -1}"#, None),
            (r#"{"seconds": "5"}"#, None),
            ("[]", None),
            ("", None),
        ] {
            assert_eq!(order(text.as_bytes()), expected, "{text}");
        }
    }
}
