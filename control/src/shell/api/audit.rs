//! The audit log, as far as it is asked for.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Query, State};
use axum::routing::get;
use serde_json::{Value, json};

use crate::shell::api::Api;
use crate::shell::api::error::Problem;
use crate::shell::api::route::Reply;
use crate::shell::api::table::{Answer, Kind, Parameter, Role, Route, VIEW, schema};

pub(super) const ROUTES: &[Route] = &[
    Route {
        path: "/api/v1/audit",
        role: Role::Admin,
        about: "Who changed what, and who was not let; the last thousand lines",
        query: &[
            Parameter {
                name: "since",
                kind: Kind::Number,
                required: false,
                about: "only lines after this number",
            },
            Parameter {
                name: "limit",
                kind: Kind::Number,
                required: false,
                about: "at most so many, the newest",
            },
        ],
        answer: Answer::Document(schema!("audit")),
        refuses: &[Problem::BAD_NUMBER],
        handler: || get(list),
        ..VIEW
    },
    Route {
        path: "/api/v1/audit/verify",
        role: Role::Admin,
        about: "Whether every line of the audit log is as it was written",
        answer: Answer::Document(schema!("audit-verify")),
        handler: || get(verify),
        ..VIEW
    },
];

async fn list(State(api): State<Api>, Query(query): Query<BTreeMap<String, String>>) -> Reply {
    let number = |name: &str, default: u64| match query.get(name) {
        Some(text) => text.parse::<u64>().map_err(|_| Problem::BAD_NUMBER),
        None => Ok(default),
    };
    let (since, limit) = (number("since", 0)?, number("limit", u64::MAX)?);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    Ok(Json(json!({ "lines": api.audit.list(since, limit) })))
}

async fn verify(State(api): State<Api>) -> Result<Json<Value>, Problem> {
    // Files are read: not by those who answer others.
    let verdict = tokio::task::spawn_blocking(move || api.audit.verify());
    let verdict = verdict.await.map_err(|_| Problem::BUSY)?;
    Ok(Json(json!({
        "whole": verdict.problem.is_none(),
        "lines": verdict.lines,
        "first": verdict.first,
        "last": verdict.last,
        "problem": verdict.problem,
    })))
}
