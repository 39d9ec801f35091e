//! Sources that are not heard.

use std::net::IpAddr;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::Path;
use axum::routing::{delete, get, post};
use ipnet::IpNet;
use serde_json::Value;

use crate::engine::admin::Command;
use crate::shell::api::What;
use crate::shell::api::error::Problem;
use crate::shell::api::route::{Loop, Reply, ask};
use crate::shell::api::table::{Answer, Body, CHANGE, Route, VIEW, Verb, schema};

pub(super) const ROUTES: &[Route] = &[
    Route {
        path: "/api/v1/bans",
        about: "Sources that are not heard",
        answer: Answer::Document(schema!("bans")),
        handler: || get(bans),
        ..VIEW
    },
    Route {
        path: "/api/v1/bans",
        about: "Bans an address or a prefix; without seconds until it is lifted",
        body: Body::Document(
            schema!("ban-order"),
            r#"{"source": "192.0.2.0/24", "seconds": 600}"#,
        ),
        refuses: &[Problem::BAD_BAN, Problem::TOO_MANY_BANS],
        handler: || post(ban),
        ..CHANGE
    },
    Route {
        verb: Verb::Delete,
        path: "/api/v1/bans/{source}",
        about: "Lifts a ban; the `/` of a prefix is written %2F",
        refuses: &[Problem::BAD_BAN, Problem::NO_SUCH_BAN],
        handler: || delete(unban),
        ..CHANGE
    },
];

async fn bans(events: Loop) -> Reply {
    ask(&events, What::Bans).await.map(Json)
}

/// `{"source": "192.0.2.0/24", "seconds": 600}`; without seconds, until it is lifted.
async fn ban(events: Loop, body: Bytes) -> Reply {
    let (net, time) = ban_order(&body).ok_or(Problem::BAD_BAN)?;
    ask(&events, What::Order(Command::Ban { net, time }))
        .await
        .map(Json)
}

fn ban_order(body: &[u8]) -> Option<(IpNet, Option<Duration>)> {
    let order: Value = serde_json::from_slice(body).ok()?;
    let net = source(order.get("source")?.as_str()?)?;
    let time = match order.get("seconds") {
        None | Some(Value::Null) => None,
        Some(seconds) => Some(seconds.as_u64().filter(|s| (1..=BAN_S_MAX).contains(s))?),
    };
    Some((net, time.map(Duration::from_secs)))
}

/// A year; what is to last longer is banned until it is lifted.
const BAN_S_MAX: u64 = 366 * 24 * 3600;

/// An address or a prefix.
fn source(text: &str) -> Option<IpNet> {
    let ip = text.parse::<IpAddr>().ok().map(IpNet::from);
    ip.or_else(|| Some(text.parse::<IpNet>().ok()?.trunc()))
}

async fn unban(events: Loop, Path(text): Path<String>) -> Reply {
    let net = source(&text).ok_or(Problem::BAD_BAN)?;
    ask(&events, What::Order(Command::Unban { net }))
        .await
        .map(Json)
}
