//! Every operation, and the handlers of those that only pass a question to the loop.

use std::collections::BTreeMap;
use std::net::IpAddr;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, patch, post};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::engine::admin::{Command, Mode, Side};
use crate::shell::Question;
use crate::shell::api::error::Problem;
use crate::shell::api::guard::{dress, guard};
use crate::shell::api::table::{Answer, Body, CHANGE, Kind, Parameter, Route, VIEW, Verb, schema};
use crate::shell::api::{
    Api, Ask, What, audit, ban, capture, conference, config, doctor, drain, history, ladder, links,
    log, mqtt, openapi, page, pulse, stream, token, top,
};
use crate::shell::capture::{PACKETS_MAX, SECONDS_MAX};

pub(super) type Loop = State<mpsc::Sender<Question>>;
pub(super) type Reply = Result<Json<Value>, Problem>;

/// Every operation: the root, then what is below `/api/v1`, each part in a line of its own.
const TABLES: &[&[Route]] = &[
    ROOT,
    NODE,
    links::ROUTES,
    doctor::ROUTES,
    ban::ROUTES,
    mqtt::ROUTES,
    drain::ROUTES,
    PHONES,
    CALLS,
    conference::ROUTES,
    config::ROUTES,
    token::ROUTES,
    audit::ROUTES,
    openapi::ROUTES,
    pulse::ROUTES,
    stream::ROUTES,
    history::ROUTES,
    log::ROUTES,
    page::ROUTES,
    top::ROUTES,
    ladder::ROUTES,
];

/// One after the other.
pub(in crate::shell) fn all() -> impl Iterator<Item = &'static Route> {
    TABLES.iter().copied().flatten()
}

pub(super) fn router(api: Api) -> Router {
    let mut router = Router::new();
    for route in all() {
        let state = (api.clone(), route);
        let guarded = (route.handler)().route_layer(from_fn_with_state(state, guard));
        router = router.route(route.path, guarded);
    }
    router
        .fallback(|| async { Problem::NOT_FOUND })
        .method_not_allowed_fallback(|| async { Problem::METHOD_NOT_ALLOWED })
        .layer(from_fn(dress))
        .with_state(api)
}

const ROOT: &[Route] = &[Route {
    path: "/metrics",
    about: "Every metric, in the text form of Prometheus",
    answer: Answer::Other(METRICS),
    handler: || get(metrics),
    ..VIEW
}];

const NODE: &[Route] = &[
    Route {
        path: "/api/v1/status",
        about: "How the node is: state, warnings, counters",
        answer: Answer::Document(schema!("status")),
        handler: || get(status),
        ..VIEW
    },
    Route {
        path: "/api/v1/networks",
        about: "Networks as they are used",
        answer: Answer::Document(schema!("networks")),
        handler: || get(networks),
        ..VIEW
    },
    Route {
        path: "/api/v1/networks/explain",
        about: "What happens to a peer at an address, seen before or not",
        query: &[
            Parameter {
                name: "ip",
                kind: Kind::Like("ip"),
                required: true,
                about: "the address its packets come from",
            },
            Parameter {
                name: "local",
                kind: Kind::Like("ip"),
                required: false,
                about: "only at this address of ours",
            },
        ],
        answer: Answer::Document(schema!("network-explain")),
        refuses: &[Problem::BAD_ADDRESS, Problem::NO_SUCH_ADDRESS],
        handler: || get(explain_peer),
        ..VIEW
    },
    Route {
        path: "/api/v1/peers",
        about: "Trusted SIP systems, their addresses, and whether they answer",
        answer: Answer::Document(schema!("peers")),
        handler: || get(peers),
        ..VIEW
    },
    Route {
        path: "/api/v1/peers/{name}/probe",
        about: "Sends OPTIONS to every address of a peer now, or asks the upper server",
        refuses: &[Problem::NO_SUCH_PEER],
        handler: || post(probe),
        ..CHANGE
    },
    Route {
        path: "/api/v1/bpf",
        about: "The kernel program: where it runs, maps, verdicts",
        answer: Answer::Document(schema!("bpf")),
        handler: || get(bpf),
        ..VIEW
    },
];

const PHONES: &[Route] = &[
    Route {
        path: "/api/v1/registrations",
        about: "Who is registered, from where",
        answer: Answer::Document(schema!("registrations")),
        handler: || get(registrations),
        ..VIEW
    },
    Route {
        path: "/api/v1/registrations/{aor}",
        about: "Everything one account is registered with",
        answer: Answer::Document(schema!("registration")),
        refuses: &[Problem::NO_SUCH_REGISTRATION],
        handler: || get(registration),
        ..VIEW
    },
    Route {
        verb: Verb::Delete,
        path: "/api/v1/registrations/{aor}",
        about: "Forgets where someone is registered; the phone may register again",
        refuses: &[Problem::NO_SUCH_REGISTRATION],
        handler: || delete(drop_registration),
        ..CHANGE
    },
    Route {
        path: "/api/v1/registrations/{aor}/explain",
        about: "With which address an account is registered, and why",
        answer: Answer::Document(schema!("registration-explain")),
        refuses: &[Problem::NO_SUCH_REGISTRATION],
        handler: || get(explain_registration),
        ..VIEW
    },
];

const CALLS: &[Route] = &[
    Route {
        path: "/api/v1/calls",
        about: "Calls that are being set up or go on",
        answer: Answer::Document(schema!("calls")),
        handler: || get(calls),
        ..VIEW
    },
    Route {
        path: "/api/v1/calls/{id}",
        about: "One call: its parties and every flow",
        answer: Answer::Document(schema!("call")),
        refuses: &[Problem::BAD_ID, Problem::NO_SUCH_CALL],
        handler: || get(call),
        ..VIEW
    },
    Route {
        verb: Verb::Patch,
        path: "/api/v1/calls/{id}",
        about: "Says where a party's media is sent, for this call and at once",
        body: Body::Document(
            schema!("media-order"),
            r#"{"leg": "caller", "media": "symmetric"}"#,
        ),
        refuses: &[
            Problem::BAD_ID,
            Problem::BAD_MEDIA,
            Problem::NO_SUCH_CALL,
            Problem::NO_MEDIA,
        ],
        handler: || patch(set_media),
        ..CHANGE
    },
    Route {
        verb: Verb::Delete,
        path: "/api/v1/calls/{id}",
        about: "Ends a call: BYE to both parties",
        refuses: &[Problem::BAD_ID, Problem::NO_SUCH_CALL],
        handler: || delete(hang_up),
        ..CHANGE
    },
    Route {
        path: "/api/v1/calls/{id}/refresh",
        about: "Tells both parties once more where we are, by a re-INVITE",
        refuses: &[
            Problem::BAD_ID,
            Problem::NO_SUCH_CALL,
            Problem::NOT_ANSWERED,
        ],
        handler: || post(refresh),
        ..CHANGE
    },
    Route {
        path: "/api/v1/calls/{id}/explain",
        about: "Where each stream of a call goes, and why",
        answer: Answer::Document(schema!("call-explain")),
        refuses: &[Problem::BAD_ID, Problem::NO_SUCH_CALL],
        handler: || get(explain_call),
        ..VIEW
    },
    Route {
        path: "/api/v1/calls/{id}/capture",
        about: "Writes the media of a call to a file, what enters and leaves at its ports; answers \
                when it is full",
        query: &[
            Parameter {
                name: "packets",
                kind: Kind::Within(1, PACKETS_MAX as u64),
                required: false,
                about: "at most so many, 1 to 100000",
            },
            Parameter {
                name: "seconds",
                kind: Kind::Within(1, SECONDS_MAX as u64),
                required: false,
                about: "for at most so long, 1 to 60",
            },
        ],
        answer: Answer::Other("application/x-pcapng"),
        refuses: &[
            Problem::BAD_ID,
            Problem::BAD_LIMITS,
            Problem::NO_SUCH_CALL,
            Problem::TOO_MANY_CAPTURES,
            Problem::BEING_CAPTURED,
        ],
        handler: || post(capture),
        ..CHANGE
    },
];

const METRICS: &str = "text/plain; version=0.0.4";

async fn status(events: Loop) -> Reply {
    ask(&events, What::Status).await.map(Json)
}

async fn networks(events: Loop) -> Reply {
    ask(&events, What::Networks).await.map(Json)
}

async fn peers(events: Loop) -> Reply {
    ask(&events, What::Peers).await.map(Json)
}

async fn probe(events: Loop, Path(name): Path<String>) -> Reply {
    ask(&events, What::Order(Command::ProbePeer { name }))
        .await
        .map(Json)
}

async fn bpf(events: Loop) -> Reply {
    ask(&events, What::Bpf).await.map(Json)
}

async fn explain_peer(events: Loop, Query(query): Query<BTreeMap<String, String>>) -> Reply {
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

async fn registrations(events: Loop) -> Reply {
    ask(&events, What::Registrations).await.map(Json)
}

async fn registration(events: Loop, Path(aor): Path<String>) -> Reply {
    ask(&events, What::Registration(aor)).await.map(Json)
}

async fn explain_registration(events: Loop, Path(aor): Path<String>) -> Reply {
    ask(&events, What::RegistrationExplained(aor))
        .await
        .map(Json)
}

async fn drop_registration(events: Loop, Path(aor): Path<String>) -> Reply {
    ask(&events, What::Order(Command::DropRegistration { aor }))
        .await
        .map(Json)
}

async fn calls(events: Loop) -> Reply {
    ask(&events, What::Calls).await.map(Json)
}

async fn call(events: Loop, Path(id): Path<String>) -> Reply {
    ask(&events, What::Call(number(&id)?)).await.map(Json)
}

async fn explain_call(events: Loop, Path(id): Path<String>) -> Reply {
    ask(&events, What::CallExplained(number(&id)?))
        .await
        .map(Json)
}

fn number(id: &str) -> Result<u64, Problem> {
    id.parse().map_err(|_| Problem::BAD_ID)
}

async fn hang_up(events: Loop, Path(id): Path<String>) -> Reply {
    let call = number(&id)?;
    ask(&events, What::Order(Command::HangUp { call }))
        .await
        .map(Json)
}

/// `{"leg": "caller", "media": "symmetric"}`: where its media is sent, for this call.
async fn set_media(events: Loop, Path(id): Path<String>, body: Bytes) -> Reply {
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

async fn refresh(events: Loop, Path(id): Path<String>) -> Reply {
    let order = Command::Refresh { call: number(&id)? };
    ask(&events, What::Order(order)).await.map(Json)
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
    Ok(([(CONTENT_TYPE, METRICS)], text).into_response())
}

/// Sends a question to the loop and waits. A full queue is an answer too.
pub(super) async fn ask(questions: &mpsc::Sender<Question>, what: What) -> Result<Value, Problem> {
    let (reply, answer) = oneshot::channel();
    questions
        .try_send(Question::Api(Ask { what, reply }))
        .map_err(|_| Problem::BUSY)?;
    answer.await.map_err(|_| Problem::BUSY)?
}
