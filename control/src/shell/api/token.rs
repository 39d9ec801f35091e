//! Tokens: who may ask over TCP.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::routing::{delete, get, post};
use serde_json::{Value, json};

use crate::shell::api::Api;
use crate::shell::api::access::token::{Token, role};
use crate::shell::api::error::Problem;
use crate::shell::api::route::Reply;
use crate::shell::api::table::{Answer, Body, CHANGE, Role, Route, VIEW, Verb, schema};
use crate::shell::clock;

/// Ten years; what is to last longer has no end.
const LASTS_S_MAX: u64 = 10 * 366 * 86_400;

pub(super) const ROUTES: &[Route] = &[
    Route {
        path: "/api/v1/tokens",
        role: Role::Admin,
        about: "Tokens that were given out, without what is secret of them",
        answer: Answer::Document(schema!("tokens")),
        handler: || get(list),
        ..VIEW
    },
    Route {
        path: "/api/v1/tokens",
        role: Role::Admin,
        about: "Makes a token; its text is shown this once",
        body: Body::Document(
            schema!("token-order"),
            r#"{"name": "grafana", "role": "viewer", "seconds": 2592000}"#,
        ),
        answer: Answer::Document(schema!("token")),
        refuses: &[
            Problem::BAD_TOKEN_ORDER,
            Problem::TOKEN_EXISTS,
            Problem::TOO_MANY_TOKENS,
            Problem::NOT_STORED,
        ],
        handler: || post(create),
        ..CHANGE
    },
    Route {
        verb: Verb::Delete,
        path: "/api/v1/tokens/{name}",
        role: Role::Admin,
        about: "Takes a token back: it is nobody's from now on",
        refuses: &[Problem::NO_SUCH_TOKEN, Problem::NOT_STORED],
        handler: || delete(revoke),
        ..CHANGE
    },
];

async fn list(State(api): State<Api>) -> Json<Value> {
    let tokens = api
        .access
        .tokens(|tokens| -> Vec<Value> { tokens.iter().map(shown).collect() });
    Json(json!({ "tokens": tokens }))
}

async fn create(State(api): State<Api>, body: Bytes) -> Reply {
    let (name, role, lasts_s) = order(&body).ok_or(Problem::BAD_TOKEN_ORDER)?;
    let secret = clock::seed().map_err(|_| Problem::BUSY)?;
    let made =
        |tokens: &mut super::access::token::Tokens| tokens.create(&name, role, lasts_s, &secret);
    let (text, token) = api.access.tokens(made)?;
    let mut document = shown(&token);
    if let Some(document) = document.as_object_mut() {
        document.insert("token".to_owned(), text.into());
    }
    Ok(Json(document))
}

/// `{"name": "grafana", "role": "viewer", "seconds": 2592000}`; without seconds, until it is
/// revoked.
fn order(body: &[u8]) -> Option<(String, Role, Option<u64>)> {
    let order: Value = serde_json::from_slice(body).ok()?;
    let name = order.get("name")?.as_str()?.to_owned();
    let role = role(order.get("role")?.as_str()?)?;
    let lasts_s = match order.get("seconds") {
        None | Some(Value::Null) => None,
        Some(lasts) => Some(lasts.as_u64().filter(|s| (1..=LASTS_S_MAX).contains(s))?),
    };
    Some((name, role, lasts_s))
}

async fn revoke(State(api): State<Api>, Path(name): Path<String>) -> Reply {
    api.access.tokens(|tokens| tokens.revoke(&name))?;
    Ok(Json(json!({ "done": true })))
}

fn shown(token: &Token) -> Value {
    json!({
        "name": token.name,
        "role": token.role,
        "created": clock::rfc3339(token.created),
        "expires": token.expires.map(clock::rfc3339),
        "used": token.used.map(clock::rfc3339),
    })
}
