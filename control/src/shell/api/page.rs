//! The dashboard: static files compiled in. They hold no data; what the page shows it asks the API
//! for, like any other client.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::shell::api::error::Problem;
use crate::shell::api::table::{Answer, Role, Route, VIEW};
use crate::shell::hex::sha256;

struct File {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

macro_rules! files {
    ($($name:literal $kind:expr,)*) => {
        &[$(File {
            name: $name,
            kind: $kind,
            bytes: include_bytes!(concat!("page/", $name)),
        },)*]
    };
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const JSON: &str = "application/json";
const SVG: &str = "image/svg+xml";

/// The first is the page itself.
const FILES: &[File] = files![
    "index.html" HTML,
    "api.js" SCRIPT,
    "ask.js" SCRIPT,
    "dom.js" SCRIPT,
    "en.json" JSON,
    "icon.svg" SVG,
    "ladder.js" SCRIPT,
    "main.js" SCRIPT,
    "part.js" SCRIPT,
    "past.js" SCRIPT,
    "plot.js" SCRIPT,
    "style.css" CSS,
    "table.js" SCRIPT,
    "uplot.css" CSS,
    "uplot.js" SCRIPT,
    "view-audit.js" SCRIPT,
    "view-call.js" SCRIPT,
    "view-calls.js" SCRIPT,
    "view-cascade.js" SCRIPT,
    "view-conferences.js" SCRIPT,
    "view-configuration.js" SCRIPT,
    "view-datapath.js" SCRIPT,
    "view-doctor.js" SCRIPT,
    "view-events.js" SCRIPT,
    "view-networks.js" SCRIPT,
    "view-overview.js" SCRIPT,
    "view-registrations.js" SCRIPT,
    "words.js" SCRIPT,
    "zh.json" JSON,
];

/// Everything from here and nothing inline; strings never become markup (Trusted Types).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";

/// Entity tags, in the order of `FILES` (RFC 9110 §8.8.3).
static TAGS: LazyLock<Vec<String>> = LazyLock::new(|| FILES.iter().map(tag).collect());

fn tag(file: &File) -> String {
    format!("\"{}\"", sha256(file.bytes))
}

pub(super) const ROUTES: &[Route] = &[
    Route {
        path: "/",
        role: Role::Anyone,
        about: "The dashboard",
        answer: Answer::Page,
        handler: || get(|head: HeaderMap| async move { file("index.html", &head) }),
        ..VIEW
    },
    Route {
        path: "/page/{name}",
        role: Role::Anyone,
        about: "What the dashboard is made of: scripts, styles, dictionaries",
        answer: Answer::Page,
        refuses: &[Problem::NOT_FOUND],
        handler: || {
            get(|Path(name): Path<String>, head: HeaderMap| async move { file(&name, &head) })
        },
        ..VIEW
    },
];

fn file(name: &str, head: &HeaderMap) -> Response {
    let mut files = FILES.iter().zip(TAGS.iter());
    let Some((file, tag)) = files.find(|(file, _)| file.name == name) else {
        return Problem::NOT_FOUND.into_response();
    };
    let held = head.get(IF_NONE_MATCH).and_then(|held| held.to_str().ok());
    let fields = [
        (CONTENT_TYPE, file.kind),
        (ETAG, tag.as_str()),
        // Asked for anew every time, and answered with 304: another version shows at once.
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    if held.is_some_and(|held| held.split(',').any(|held| held.trim() == tag)) {
        return (StatusCode::NOT_MODIFIED, fields).into_response();
    }
    (fields, file.bytes).into_response()
}

#[cfg(test)]
mod tests;
