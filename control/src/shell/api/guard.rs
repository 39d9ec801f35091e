//! What stands before every operation: who asks, whether they may, how much they send; and behind
//! it: a count, a line in the audit log, headers.

use std::time::Duration;

use axum::body::{Body as Sent, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::shell::api::Api;
use crate::shell::api::access::{Origin, Principal, Refusal};
use crate::shell::api::error::{Code, Problem};
use crate::shell::api::openapi::shape;
use crate::shell::api::table::{Body, DOCUMENT_BYTES_MAX, Role, Route, Verb};
use crate::shell::audit::Entry;
use crate::shell::clock;

/// How long a document may take to come.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// Before and behind one operation.
pub(super) async fn guard(
    State((api, route)): State<(Api, &'static Route)>,
    mut request: Request,
    next: Next,
) -> Response {
    let origin = request.extensions().get::<Origin>().copied();
    let origin = origin.unwrap_or(UNKNOWN);
    let what = format!("{} {}", route.verb.name(), request.uri().path());
    let known = match api.access.is_open(route) {
        // Whoever it is; a token that is shown all the same is not looked at.
        true => Ok(nobody(origin)),
        false => identify(&api, origin, request.headers()),
    };
    let (who, answer) = match known {
        Ok(who) => {
            let answer = match api.access.admit(&who, route, clock::now()) {
                Ok(()) => {
                    request.extensions_mut().insert(who.clone());
                    told(perform(&api, route, &who, request, next).await)
                }
                Err(refusal) => refused(&api, refusal),
            };
            (who, answer)
        }
        Err(refusal) => (nobody(origin), refused(&api, refusal)),
    };
    api.access.count(route, answer.status().as_u16());
    // What only looks is not written down, nor are those who were not even let in to be refused.
    if route.verb != Verb::Get && answer.status() != StatusCode::TOO_MANY_REQUESTS {
        let code = answer.extensions().get::<Code>().map(|code| code.0);
        let result = match answer.status().is_success() {
            true => "done",
            false => code.unwrap_or("refused"),
        };
        api.audit.note(&Entry {
            who: &who.name,
            address: &who.address,
            what: &what,
            result,
        });
    }
    answer
}

/// What could not be taken apart is refused in our form too.
fn told(answer: Response) -> Response {
    let is_ours = answer.extensions().get::<Code>().is_some();
    match answer.status() == StatusCode::BAD_REQUEST && !is_ours {
        true => Problem::BAD_REQUEST.into_response(),
        false => answer,
    }
}

const UNKNOWN: Origin = Origin::User {
    uid: None,
    owner: false,
};

fn identify(api: &Api, origin: Origin, head: &HeaderMap) -> Result<Principal, Refusal> {
    let shown = head.get(AUTHORIZATION).map(|value| {
        let text = value.to_str().unwrap_or_default();
        let scheme = text.get(..BEARER.len()).unwrap_or_default();
        match scheme.eq_ignore_ascii_case(BEARER) {
            true => text.get(BEARER.len()..).unwrap_or_default().trim(),
            // Of another kind: nobody's.
            false => "",
        }
    });
    let now = (clock::now(), clock::wall_s());
    api.access.principal(origin, shown, now)
}

/// RFC 6750 §2.1.
const BEARER: &str = "Bearer ";

fn nobody(origin: Origin) -> Principal {
    Principal {
        name: super::access::NOBODY.to_owned(),
        role: Role::Anyone,
        address: origin.address(),
    }
}

fn refused(api: &Api, (problem, wait): Refusal) -> Response {
    api.access.count_refused(problem.code);
    let mut answer = problem.into_response();
    if problem.status == StatusCode::UNAUTHORIZED {
        let how = HeaderValue::from_static("Bearer realm=\"towpath\"");
        answer.headers_mut().insert(WWW_AUTHENTICATE, how);
    }
    if let Some(wait) = wait {
        let seconds = wait.as_secs_f64().ceil().max(1.0);
        if let Ok(value) = HeaderValue::from_str(&format!("{seconds:.0}")) {
            answer.headers_mut().insert(RETRY_AFTER, value);
        }
    }
    answer
}

/// Reads what is sent, as much as may be, then does it; an order that was given before under the
/// same key is not carried out twice.
async fn perform(
    api: &Api,
    route: &'static Route,
    who: &Principal,
    request: Request,
    next: Next,
) -> Response {
    // A configuration is larger, and has a limit of its own.
    if matches!(route.body, Body::Toml) {
        return next.run(request).await;
    }
    let (head, body) = request.into_parts();
    let read = tokio::time::timeout(BODY_WITHIN, to_bytes(body, DOCUMENT_BYTES_MAX)).await;
    let body = match read {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return refused(api, (Problem::BODY_TOO_LARGE, None)),
        Err(_) => return refused(api, (Problem::BODY_TOO_SLOW, None)),
    };
    // What the document that describes the API does not permit is refused here.
    if let Body::Document(schema, _) = route.body
        && !shape::fits(schema.lines, &body)
    {
        let own = route.refuses.iter().rev();
        let mut own = own.filter(|problem| problem.status == StatusCode::BAD_REQUEST);
        return own.next().unwrap_or(&Problem::BAD_REQUEST).into_response();
    }
    let ticket = match route.verb {
        Verb::Post => match api.repeats.ticket(who, &head, &body) {
            Ok(ticket) => ticket,
            Err(answer) => return *answer,
        },
        Verb::Get | Verb::Put | Verb::Patch | Verb::Delete => None,
    };
    let answer = next.run(Request::from_parts(head, Sent::from(body))).await;
    match ticket {
        Some(ticket) => api.repeats.keep(ticket, answer).await,
        None => answer,
    }
}

/// Behind everything, pages and refusals too.
pub(super) async fn dress(request: Request, next: Next) -> Response {
    let is_page = !request.uri().path().starts_with("/api/");
    let mut answer = next.run(request).await;
    let head = answer.headers_mut();
    let policy = if is_page { PAGE } else { DOCUMENT };
    for (name, value) in HEADERS.iter().chain(policy) {
        let name = HeaderName::from_static(name);
        head.entry(name).or_insert(HeaderValue::from_static(value));
    }
    answer
}

const HEADERS: &[(&str, &str)] = &[
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
];
/// Nothing in a document is to be run or shown by a browser.
const DOCUMENT: &[(&str, &str)] = &[
    (
        "content-security-policy",
        "default-src 'none'; frame-ancestors 'none'",
    ),
    ("cache-control", "no-store"),
];
/// A page has what comes with it, and nothing else.
const PAGE: &[(&str, &str)] = &[(
    "content-security-policy",
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'",
)];
