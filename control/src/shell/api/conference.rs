//! Conferences: who is in them, who may speak, what is seen; and the same commands that clients of
//! the bus have, in the name of a participant.

mod wire;

use std::ops::RangeInclusive;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::header::{ETAG, IF_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use serde_json::{Map, Value, json};

use crate::conference::envelope::Revision;
use crate::plane::{Order, Outcome, Refused};
use crate::shell::api::error::Problem;
use crate::shell::api::route::Reply;
use crate::shell::api::table::{Answer, Body, CHANGE, IfMatch, Route, VIEW, Verb, schema};
use crate::shell::plane::Handle;

const REFUSES: &[Problem] = &[
    Problem::NO_SUCH_CONFERENCE,
    Problem::NO_SUCH_FLOOR,
    Problem::NO_SUCH_REQUEST,
    Problem::BAD_COMMAND,
    Problem::COMMAND_DENIED,
    Problem::STALE,
    Problem::CONFLICT,
    Problem::HOME_UNREACHABLE,
];

const SHARE_REFUSES: &[Problem] = &[
    Problem::NO_SUCH_CONFERENCE,
    Problem::NOT_HOME,
    Problem::NOT_A_SERVER,
    Problem::TOO_MANY_MEMBERS,
];

pub(super) const ROUTES: &[Route] = &[
    Route {
        path: "/api/v1/conferences",
        about: "Conferences that go on",
        answer: Answer::Document(schema!("conferences")),
        handler: || get(list),
        ..VIEW
    },
    Route {
        path: "/api/v1/conferences",
        about: "Makes the conference of a URI, or finds it; it stays until it is ended",
        body: Body::Document(schema!("conference-order"), r#"{"uri": "8001"}"#),
        answer: Answer::Document(schema!("conference")),
        refuses: &[Problem::BAD_CONFERENCE, Problem::TOO_MANY_CONFERENCES],
        handler: || post(open),
        ..CHANGE
    },
    Route {
        path: "/api/v1/conferences/{cid}",
        about: "All of one conference at once, its revision as the entity tag",
        answer: Answer::Document(schema!("conference")),
        refuses: &[Problem::NO_SUCH_CONFERENCE],
        handler: || get(show),
        ..VIEW
    },
    Route {
        verb: Verb::Delete,
        path: "/api/v1/conferences/{cid}",
        about: "Ends a conference; calls go on",
        refuses: &[Problem::NO_SUCH_CONFERENCE, Problem::CONFLICT],
        if_match: IfMatch::May,
        handler: || delete(end),
        ..CHANGE
    },
    Route {
        verb: Verb::Put,
        path: "/api/v1/conferences/{cid}/members/{sid}",
        about: "Shares a conference with a server, whatever the configuration says. Every server \
                on the way must share it",
        refuses: SHARE_REFUSES,
        handler: || put(share),
        ..CHANGE
    },
    Route {
        verb: Verb::Delete,
        path: "/api/v1/conferences/{cid}/members/{sid}",
        about: "Shares a conference with a server no more; participants there are lost",
        refuses: SHARE_REFUSES,
        handler: || delete(unshare),
        ..CHANGE
    },
    Route {
        path: "/api/v1/conferences/{cid}/roster",
        about: "Who is in a conference",
        answer: Answer::Document(schema!("conference-roster")),
        refuses: &[Problem::NO_SUCH_CONFERENCE],
        handler: || get(roster),
        ..VIEW
    },
    Route {
        path: "/api/v1/conferences/{cid}/floor",
        about: "Who may speak in a conference, and who waits to",
        answer: Answer::Document(schema!("conference-floor")),
        refuses: &[Problem::NO_SUCH_CONFERENCE],
        handler: || get(floors),
        ..VIEW
    },
    Route {
        path: "/api/v1/conferences/{cid}/floor/{fid}/requests",
        about: "Asks for a floor in the name of a participant",
        body: Body::Document(
            schema!("floor-request"),
            r#"{"pid": "1001", "priority": 2, "text": "a question"}"#,
        ),
        answer: Answer::Document(schema!("conference-answer")),
        refuses: REFUSES,
        if_match: IfMatch::May,
        handler: || post(request),
        ..CHANGE
    },
    Route {
        verb: Verb::Delete,
        path: "/api/v1/conferences/{cid}/floor/{fid}/requests/{rid}",
        about: "Gives up a request, or the floor it was granted",
        answer: Answer::Document(schema!("conference-answer")),
        refuses: REFUSES,
        if_match: IfMatch::May,
        handler: || delete(give_up),
        ..CHANGE
    },
    Route {
        path: "/api/v1/conferences/{cid}/floor/{fid}/requests/{rid}/decision",
        about: "Decides about a request in the name of a chair",
        body: Body::Document(
            schema!("floor-decision"),
            r#"{"pid": "1000", "action": "grant", "reason": "your turn"}"#,
        ),
        answer: Answer::Document(schema!("conference-answer")),
        refuses: REFUSES,
        if_match: IfMatch::May,
        handler: || post(decide),
        ..CHANGE
    },
    Route {
        path: "/api/v1/conferences/{cid}/views",
        about: "What is seen in a conference",
        answer: Answer::Document(schema!("conference-views")),
        refuses: &[Problem::NO_SUCH_CONFERENCE],
        handler: || get(views),
        ..VIEW
    },
    Route {
        path: "/api/v1/conferences/{cid}/views/{vid}",
        about: "One view, its revision as the entity tag",
        answer: Answer::Document(schema!("conference-view")),
        refuses: &[Problem::NO_SUCH_CONFERENCE, Problem::NO_SUCH_VIEW],
        handler: || get(view),
        ..VIEW
    },
    Route {
        verb: Verb::Put,
        path: "/api/v1/conferences/{cid}/views/{vid}",
        about: "Sets what is to be seen, in the name of a participant. With If-Match only if the \
                view is still that one; with X-Client-Seq and X-Client-Instance never after a \
                later one of the same client",
        body: Body::Document(
            schema!("view-order"),
            r#"{"pid": "1001", "target": {"layout": "focus", "focus": "1002", "zoom": 2.0}}"#,
        ),
        answer: Answer::Document(schema!("conference-answer")),
        refuses: REFUSES,
        if_match: IfMatch::May,
        handler: || put(set_view),
        ..CHANGE
    },
];

type Plane = State<Handle>;

async fn list(State(plane): Plane) -> Json<Value> {
    let plane = plane.lock();
    let own = plane.conferences().map(wire::summary);
    let cascade = plane.cascade();
    let foreign = cascade.foreign();
    let foreign = foreign.filter_map(|cid| wire::foreign(cascade, cid));
    let foreign = foreign.map(|whole| wire::summary_of(&whole));
    let conferences: Vec<Value> = own.chain(foreign).collect();
    Json(json!({ "conferences": conferences }))
}

async fn open(State(plane): Plane, body: Bytes) -> Reply {
    let order: Value = serde_json::from_slice(&body).map_err(|_| Problem::BAD_CONFERENCE)?;
    let uri = order.get("uri").and_then(Value::as_str);
    let fits =
        |uri: &&str| (1..=URI_LETTERS_MAX).contains(&uri.chars().count()) && !uri.contains(' ');
    let uri = uri.filter(fits).ok_or(Problem::BAD_CONFERENCE)?.to_owned();
    match plane.order(Order::Open { uri }).await {
        Some(Outcome::Opened { cid }) => of(&plane, &cid, wire::whole),
        Some(Outcome::Refused(Refused::TooMany)) => Err(Problem::TOO_MANY_CONFERENCES),
        _ => Err(Problem::BUSY),
    }
}

/// Of the user part of a conference's URI.
const URI_LETTERS_MAX: usize = 128;

async fn show(State(plane): Plane, Path(cid): Path<String>) -> Result<Response, Problem> {
    let Json(whole) = of(&plane, &cid, wire::whole)?;
    let revision = whole.get("revision").and_then(Value::as_str);
    let tag = format!("\"{}\"", revision.unwrap_or_default());
    Ok(([(ETAG, tag)], Json(whole)).into_response())
}

async fn end(
    State(plane): Plane,
    Path(cid): Path<String>,
    head: HeaderMap,
) -> Result<Response, Problem> {
    let current = plane
        .lock()
        .conference(&cid)
        .map(|conference| conference.revision());
    let current = current.ok_or(Problem::NO_SUCH_CONFERENCE)?;
    if is_past(&head, &(current..=current)) {
        return Ok(conflict(&plane, &cid, wire::whole));
    }
    match plane.order(Order::End { cid }).await {
        Some(Outcome::Ended) => Ok(Json(json!({ "done": true })).into_response()),
        Some(_) => Err(Problem::NO_SUCH_CONFERENCE),
        None => Err(Problem::BUSY),
    }
}

async fn roster(State(plane): Plane, Path(cid): Path<String>) -> Reply {
    of(&plane, &cid, wire::roster)
}

async fn floors(State(plane): Plane, Path(cid): Path<String>) -> Reply {
    of(&plane, &cid, wire::floors)
}

async fn views(State(plane): Plane, Path(cid): Path<String>) -> Reply {
    of(&plane, &cid, wire::views)
}

async fn view(
    State(plane): Plane,
    Path((cid, vid)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let Json(views) = of(&plane, &cid, wire::views)?;
    let mut views = views.get("views").and_then(Value::as_array).into_iter();
    let mut views = views.by_ref().flatten();
    let view = views.find(|view| view.get("vid").and_then(Value::as_str) == Some(&*vid));
    let view = view.ok_or(Problem::NO_SUCH_VIEW)?.clone();
    let number = |name: &str| view.get(name).and_then(Value::as_u64).unwrap_or(0);
    let tag = format!("\"{}.{}\"", number("epoch"), number("rev"));
    Ok(([(ETAG, tag)], Json(view)).into_response())
}

/// A part of a conference, at home here or not.
fn of(plane: &Handle, cid: &str, part: fn(Value) -> Value) -> Reply {
    let plane = plane.lock();
    let whole = match plane.conference(cid) {
        Some(conference) => Some(wire::home(conference, plane.cascade())),
        None => wire::foreign(plane.cascade(), cid),
    };
    let whole = whole.ok_or(Problem::NO_SUCH_CONFERENCE)?;
    Ok(Json(part(whole)))
}

async fn share(State(plane): Plane, Path((cid, sid)): Path<(String, String)>) -> Reply {
    shared(&plane, cid, sid, true).await
}

async fn unshare(State(plane): Plane, Path((cid, sid)): Path<(String, String)>) -> Reply {
    shared(&plane, cid, sid, false).await
}

async fn shared(plane: &Handle, cid: String, sid: String, on: bool) -> Reply {
    match plane.order(Order::Share { cid, sid, on }).await {
        Some(Outcome::Shared) => Ok(Json(json!({ "done": true }))),
        Some(Outcome::Refused(Refused::NotHome)) => Err(Problem::NOT_HOME),
        Some(Outcome::Refused(Refused::NotAServer)) => Err(Problem::NOT_A_SERVER),
        Some(Outcome::Refused(Refused::TooManyMembers)) => Err(Problem::TOO_MANY_MEMBERS),
        Some(_) => Err(Problem::NO_SUCH_CONFERENCE),
        None => Err(Problem::BUSY),
    }
}

/// Whether `If-Match` names a state that is not there any more.
fn is_past(head: &HeaderMap, held: &RangeInclusive<Revision>) -> bool {
    let fields = head.get_all(IF_MATCH).iter();
    let tags = fields.filter_map(|field| field.to_str().ok());
    let mut tags = tags.flat_map(|field| field.split(',')).map(str::trim);
    let means = |tag: &str| tag.trim_matches('"').parse().ok();
    let is_held = |tag: &str| tag == "*" || means(tag).is_some_and(|meant| held.contains(&meant));
    head.contains_key(IF_MATCH) && !tags.any(is_held)
}

/// The same of a floor: it is what it was, whatever else has changed since in the conference.
fn is_past_floor(plane: &Handle, cid: &str, fid: &str, head: &HeaderMap) -> bool {
    let plane = plane.lock();
    let conference = plane.conference(cid);
    let held = conference.and_then(|conference| {
        let floor = conference.floors().get(fid)?;
        Some(floor.revision..=conference.revision())
    });
    // What is not there is refused by its name.
    held.is_some_and(|held| is_past(head, &held))
}

fn conflict(plane: &Handle, cid: &str, part: fn(Value) -> Value) -> Response {
    let current = of(plane, cid, part).ok().map(|Json(part)| part);
    Problem::CONFLICT.with(json!({ "reason": "rev_conflict", "answer": current }))
}

async fn request(
    State(plane): Plane,
    Path((cid, fid)): Path<(String, String)>,
    head: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    if is_past_floor(&plane, &cid, &fid, &head) {
        return Ok(conflict(&plane, &cid, wire::floors));
    }
    command(&plane, cid, "floor.request", &[("fid", fid)], &head, &body).await
}

async fn give_up(
    State(plane): Plane,
    Path((cid, fid, rid)): Path<(String, String, String)>,
    head: HeaderMap,
) -> Result<Response, Problem> {
    if is_past_floor(&plane, &cid, &fid, &head) {
        return Ok(conflict(&plane, &cid, wire::floors));
    }
    // Whose it is follows from the request.
    let Json(floors) = of(&plane, &cid, wire::floors)?;
    let owner = wire::owner(&floors, &fid, &rid).ok_or(Problem::NO_SUCH_REQUEST)?;
    let body = json!({ "pid": owner }).to_string();
    let named = [("fid", fid), ("request_id", rid)];
    command(&plane, cid, "floor.release", &named, &head, body.as_bytes()).await
}

async fn decide(
    State(plane): Plane,
    Path((cid, fid, rid)): Path<(String, String, String)>,
    head: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    if is_past_floor(&plane, &cid, &fid, &head) {
        return Ok(conflict(&plane, &cid, wire::floors));
    }
    let named = [("fid", fid), ("request_id", rid)];
    command(&plane, cid, "floor.decide", &named, &head, &body).await
}

async fn set_view(
    State(plane): Plane,
    Path((cid, vid)): Path<(String, String)>,
    head: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    command(&plane, cid, "view.set", &[("vid", vid)], &head, &body).await
}

/// One command of the bus, made of a request: what is named by the path, the body, and headers for
/// what stands in the envelope.
async fn command(
    plane: &Handle,
    cid: String,
    kind: &str,
    named: &[(&str, String)],
    head: &HeaderMap,
    body: &[u8],
) -> Result<Response, Problem> {
    let data: Map<String, Value> =
        serde_json::from_slice(body).map_err(|_| Problem::BAD_COMMAND)?;
    let pid = data.get("pid").and_then(Value::as_str);
    let pid = pid.ok_or(Problem::BAD_COMMAND)?.to_owned();
    let mut data = data;
    for (name, value) in named {
        data.insert((*name).to_owned(), value.as_str().into());
    }
    let header = |name: &str| head.get(name).and_then(|value| value.to_str().ok());
    let tag = header(IF_MATCH.as_str()).filter(|tag| *tag != "*");
    let cseq = header("x-client-seq").map(|cseq| cseq.parse::<u64>());
    let cseq = cseq.transpose().map_err(|_| Problem::BAD_COMMAND)?;
    let envelope = json!({
        "v": 1,
        "id": header("idempotency-key"),
        "type": kind,
        "src": { "inst": header("x-client-instance") },
        "cseq": cseq,
        "if_rev": tag.map(|tag| tag.trim_matches('"')),
        "data": data,
    });
    let command = envelope.to_string().into();
    match plane.order(Order::Command { cid, pid, command }).await {
        Some(Outcome::Answered(answer)) => answered(&answer),
        Some(_) => Err(Problem::NO_SUCH_CONFERENCE),
        None => Err(Problem::BUSY),
    }
}

/// The answer as it would travel on the bus, its status said in the words of HTTP too.
fn answered(answer: &Bytes) -> Result<Response, Problem> {
    let document: Value = serde_json::from_slice(answer).map_err(|_| Problem::BUSY)?;
    let word = |name: &str| document.get(name).and_then(Value::as_str).unwrap_or("");
    let problem = match (word("status"), word("code")) {
        ("ok" | "accepted", _) => None,
        ("stale", _) => Some(Problem::STALE),
        ("conflict", _) => Some(Problem::CONFLICT),
        ("denied", _) => Some(Problem::COMMAND_DENIED),
        (_, "home_unreachable") => Some(Problem::HOME_UNREACHABLE),
        (_, "busy") => Some(Problem::BUSY),
        (_, "no_such_request") => Some(Problem::NO_SUCH_REQUEST),
        (_, "no_such_floor") => Some(Problem::NO_SUCH_FLOOR),
        (_, _) => Some(Problem::BAD_COMMAND),
    };
    if let Some(problem) = problem {
        return Ok(problem.with(json!({ "reason": word("code"), "answer": document })));
    }
    let number = |name: &str| document.get(name).and_then(Value::as_u64).unwrap_or(0);
    let tag = format!("\"{}.{}\"", number("epoch"), number("rev"));
    let status = match word("status") {
        "accepted" => StatusCode::ACCEPTED,
        _ => StatusCode::OK,
    };
    Ok((status, [(ETAG, tag)], Json(document)).into_response())
}
