//! One function per route.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use ipnet::IpNet;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::engine::admin::{Command, Mode, Side};
use crate::shell::Question;
use crate::shell::api::error::Problem;
use crate::shell::api::{Ask, What, capture, config, page, top::Wanted};

type Loop = State<mpsc::Sender<Question>>;
type Answer = Result<Json<Value>, Problem>;

pub(super) fn router(questions: mpsc::Sender<Question>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics))
        .route("/api/v1/status", get(status))
        .route("/api/v1/networks", get(networks))
        .route("/api/v1/bans", get(bans).post(ban))
        .route("/api/v1/bans/{source}", delete(unban))
        .route("/api/v1/peers", get(peers))
        .route("/api/v1/peers/{name}/probe", post(probe))
        .route("/api/v1/bpf", get(bpf))
        .route("/api/v1/networks/explain", get(explain_peer))
        .route("/api/v1/registrations", get(registrations))
        .route(
            "/api/v1/registrations/{aor}",
            get(registration).delete(drop_registration),
        )
        .route(
            "/api/v1/registrations/{aor}/explain",
            get(explain_registration),
        )
        .route("/api/v1/calls", get(calls))
        .route("/api/v1/top", get(top))
        .route(
            "/api/v1/calls/{id}",
            get(call).patch(set_media).delete(hang_up),
        )
        .route("/api/v1/calls/{id}/refresh", post(refresh))
        .route("/api/v1/events", get(list_events))
        .route("/api/v1/calls/{id}/explain", get(explain_call))
        .route("/api/v1/calls/{id}/capture", post(capture))
        .merge(config::router())
        .merge(page::router())
        .fallback(|| async { Problem::NOT_FOUND })
        .with_state(questions)
}

async fn status(events: Loop) -> Answer {
    ask(&events, What::Status).await.map(Json)
}

async fn networks(events: Loop) -> Answer {
    ask(&events, What::Networks).await.map(Json)
}

async fn bans(events: Loop) -> Answer {
    ask(&events, What::Bans).await.map(Json)
}

/// `{"source": "192.0.2.0/24", "seconds": 600}`; without seconds, until it is lifted.
async fn ban(events: Loop, body: Bytes) -> Answer {
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

async fn unban(events: Loop, Path(text): Path<String>) -> Answer {
    let net = source(&text).ok_or(Problem::BAD_BAN)?;
    ask(&events, What::Order(Command::Unban { net }))
        .await
        .map(Json)
}

async fn peers(events: Loop) -> Answer {
    ask(&events, What::Peers).await.map(Json)
}

async fn probe(events: Loop, Path(name): Path<String>) -> Answer {
    ask(&events, What::Order(Command::ProbePeer { name }))
        .await
        .map(Json)
}

async fn bpf(events: Loop) -> Answer {
    ask(&events, What::Bpf).await.map(Json)
}

async fn explain_peer(events: Loop, Query(query): Query<BTreeMap<String, String>>) -> Answer {
    let address = |name: &str| match query.get(name).map(|text| text.parse::<IpAddr>()) {
        Some(Err(_)) => Err(Problem::BAD_ADDRESS),
        Some(Ok(ip)) => Ok(Some(ip)),
        None => Ok(None),
    };
    let ip = address("ip")?.ok_or(Problem::BAD_ADDRESS)?;
    let local = address("local")?;
    let what = What::PeerExplained { ip, local };
    ask(&events, what).await.map(Json)
}

async fn registrations(events: Loop) -> Answer {
    ask(&events, What::Registrations).await.map(Json)
}

async fn registration(events: Loop, Path(aor): Path<String>) -> Answer {
    ask(&events, What::Registration(aor)).await.map(Json)
}

async fn explain_registration(events: Loop, Path(aor): Path<String>) -> Answer {
    ask(&events, What::RegistrationExplained(aor))
        .await
        .map(Json)
}

async fn drop_registration(events: Loop, Path(aor): Path<String>) -> Answer {
    ask(&events, What::Order(Command::DropRegistration { aor }))
        .await
        .map(Json)
}

async fn calls(events: Loop) -> Answer {
    ask(&events, What::Calls).await.map(Json)
}

/// `?n=20&offset=0&sort=bits_per_s&order=desc&q=1001`, each of which may be left out.
async fn top(events: Loop, Query(query): Query<BTreeMap<String, String>>) -> Answer {
    let wanted = Wanted::of(&query).ok_or(Problem::BAD_TOP)?;
    ask(&events, What::Top(wanted)).await.map(Json)
}

async fn call(events: Loop, Path(id): Path<String>) -> Answer {
    ask(&events, What::Call(number(&id)?)).await.map(Json)
}

async fn explain_call(events: Loop, Path(id): Path<String>) -> Answer {
    ask(&events, What::CallExplained(number(&id)?))
        .await
        .map(Json)
}

fn number(id: &str) -> Result<u64, Problem> {
    id.parse().map_err(|_| Problem::BAD_ID)
}

async fn hang_up(events: Loop, Path(id): Path<String>) -> Answer {
    let call = number(&id)?;
    ask(&events, What::Order(Command::HangUp { call }))
        .await
        .map(Json)
}

/// `{"leg": "caller", "media": "symmetric"}`: where its media is sent, for this call.
async fn set_media(events: Loop, Path(id): Path<String>, body: Bytes) -> Answer {
    let call = number(&id)?;
    let (leg, mode) = media_order(&body).ok_or(Problem::BAD_MEDIA)?;
    let order = Command::SetMedia { call, leg, mode };
    ask(&events, What::Order(order)).await.map(Json)
}

fn media_order(body: &[u8]) -> Option<(Side, Option<Mode>)> {
    let order: Value = serde_json::from_slice(body).ok()?;
    let leg = match order.get("leg")?.as_str()? {
        "caller" => Side::A,
        "callee" => Side::B,
        _ => return None,
    };
    let mode = match order.get("media")?.as_str()? {
        "sdp" => Some(Mode::Sdp),
        "symmetric" => Some(Mode::Symmetric),
        "auto" => Some(Mode::Auto),
        "default" => None,
        _ => return None,
    };
    Some((leg, mode))
}

async fn refresh(events: Loop, Path(id): Path<String>) -> Answer {
    let order = Command::Refresh { call: number(&id)? };
    ask(&events, What::Order(order)).await.map(Json)
}

async fn list_events(events: Loop, Query(query): Query<BTreeMap<String, String>>) -> Answer {
    let since = match query.get("since").map(|text| text.parse()) {
        Some(Ok(since)) => since,
        Some(Err(_)) => return Err(Problem::BAD_NUMBER),
        None => 0,
    };
    ask(&events, What::Events(since)).await.map(Json)
}

async fn capture(
    events: Loop,
    Path(id): Path<String>,
    Query(query): Query<capture::Query>,
) -> Result<Response, Problem> {
    let call = id.parse().map_err(|_| Problem::BAD_ID)?;
    let limits = query.limits().ok_or(Problem::BAD_LIMITS)?;
    let (done, file) = oneshot::channel();
    ask(&events, What::Capture { call, limits, done }).await?;
    let file = file.await.map_err(|_| Problem::BUSY)?;
    Ok(([(CONTENT_TYPE, "application/x-pcapng")], file).into_response())
}

async fn metrics(events: Loop) -> Result<Response, Problem> {
    let answer = ask(&events, What::Metrics).await?;
    let text = answer.as_str().unwrap_or_default().to_owned();
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

/// Sends a question to the loop and waits. A full queue is an answer too.
async fn ask(questions: &mpsc::Sender<Question>, what: What) -> Result<Value, Problem> {
    let (reply, answer) = oneshot::channel();
    questions
        .try_send(Question::Api(Ask { what, reply }))
        .map_err(|_| Problem::BUSY)?;
    answer.await.map_err(|_| Problem::BUSY)?
}
