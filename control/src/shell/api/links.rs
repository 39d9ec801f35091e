//! Links to other servers: documents, numbers, and asking them now.

use std::time::{Duration, Instant};

use axum::Json;
use axum::routing::get;
use serde_json::{Value, json};

use super::What;
use super::metrics::{Kind, Text, count};
use super::route::{Loop, Reply, ask};
use super::table::{Answer, Route, VIEW, schema};
use crate::cascade::Cascade;
use crate::conference::tell::put;
use crate::plane::Plane;
use crate::shell::Shell;
use crate::shell::cascade::{Links, Side, View};
use crate::upstream::{Class, Counts, Upstream};

pub(super) const ROUTES: &[Route] = &[Route {
    path: "/api/v1/links",
    about: "Links to other servers of the cascade, and what is known of the way to the upper one",
    answer: Answer::Document(schema!("links")),
    handler: || get(list),
    ..VIEW
}];

async fn list(events: Loop) -> Reply {
    ask(&events, What::Links).await.map(Json)
}

/// Asks the upper server of that name now, if there is one.
pub(super) fn probe(shell: &Shell, name: &str) -> bool {
    shell.links.as_ref().is_some_and(|links| links.probe(name))
}

pub(super) fn links(shell: &Shell, now: Instant) -> Value {
    let links = shell.links.iter();
    let each = links.flat_map(|links| links.views().into_iter().map(move |view| (links, view)));
    let plane = shell.plane.lock();
    let links: Vec<Value> = each
        .map(|(links, view)| {
            let mut document = document(links, &view, now);
            let crossing = view.sid.as_deref().map(|sid| plane.cascade().over(sid));
            let crossing: Option<Vec<_>> = crossing.map(Iterator::collect);
            put(
                &mut document,
                "conferences",
                crossing.as_ref().map(Vec::len),
            );
            let first = crossing.iter().flatten().take(CROSSING_MAX);
            let first = first.map(|(cid, beyond)| crosses(&plane, cid, beyond));
            put(&mut document, "crossing", first.collect::<Vec<_>>());
            document
        })
        .collect();
    json!({ "links": links })
}

/// Conferences of one link that are named; `conferences` says how many there are.
const CROSSING_MAX: usize = 100;

/// A conference that goes over a link, and who shares it beyond.
fn crosses(plane: &Plane, cid: &str, beyond: &[&str]) -> Value {
    let cascade = plane.cascade();
    let (role, told) = match plane.conference(cid) {
        Some(own) => ("home", own.document()),
        None => {
            let told = cascade.told(cid).unwrap_or_default();
            let told: Value = serde_json::from_slice(told).unwrap_or_default();
            ("member", told.get("data").cloned().unwrap_or_default())
        }
    };
    let servers = beyond.iter().map(|sid| {
        let state = match cascade.shares(cid, sid) {
            Some(true) => "up",
            Some(false) => "down",
            None => "unknown",
        };
        json!({ "server": sid, "state": state })
    });
    json!({
        "cid": cid,
        "uri": told.get("uri"),
        "home": Cascade::home(cid),
        "role": role,
        "servers": servers.collect::<Vec<_>>(),
    })
}

fn document(links: &Links, view: &View, now: Instant) -> Value {
    let ago = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at).as_secs());
    let mut document = json!({
        "server": view.sid,
        "side": view.side.word(),
        "url": view.url,
        "state": if view.up { "up" } else { "down" },
        "since_s": ago(view.since),
        "heard_s": ago(view.heard),
        "why": view.why,
        "queued": view.queued,
        "in_flight": view.in_flight,
        "sent": view.sent,
        "received": view.received,
        "overflowed": view.overflowed,
        "rtt_ms": null,
        "variation_ms": null,
        "samples_ms": [],
        "timeout_ms": null,
        "breaker": null,
        "retries_left": null,
        "requests": null,
    });
    if let (Side::Upper, Some(remote)) = (view.side, links.remote()) {
        let upstream = remote.upstream();
        if let Some(document) = document.as_object_mut() {
            document.extend(way(&upstream, now));
        }
    }
    document
}

/// What is known of the way to the upper server.
fn way(upstream: &Upstream, now: Instant) -> [(String, Value); 7] {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let ping = upstream.estimator(Class::Ping);
    let samples = ping.into_iter().flat_map(|ping| ping.samples());
    let samples: Vec<u64> = samples.map(ms).collect();
    let Counts {
        answered,
        unanswered,
        broken,
        refused,
        abandoned,
        attempts,
        retries,
        timeouts,
        unaffordable,
    } = upstream.counts();
    let requests = json!({
        "answered": answered,
        "unanswered": unanswered,
        "broken": broken,
        "refused": refused,
        "abandoned": abandoned,
        "attempts": attempts,
        "retries": retries,
        "timeouts": timeouts,
        "unaffordable": unaffordable,
        "breaker_opened": upstream.breaker().opened(),
    });
    let name = str::to_owned;
    [
        (name("rtt_ms"), upstream.rtt().map(ms).into()),
        (
            name("variation_ms"),
            ping.and_then(|ping| ping.variation()).map(ms).into(),
        ),
        (name("samples_ms"), samples.into()),
        (name("timeout_ms"), ms(upstream.timeout(Class::Link)).into()),
        (name("breaker"), upstream.breaker().word().into()),
        (name("retries_left"), upstream.retries_left(now).into()),
        (name("requests"), requests),
    ]
}

pub(super) fn metrics(shell: &Shell, text: &mut Text) {
    let Some(links) = &shell.links else { return };
    let views = links.views();
    let mut each = |name, kind, help, of: fn(&View) -> u64| {
        text.family(name, kind, help);
        for view in &views {
            let server = view.sid.as_deref().unwrap_or("");
            let side = view.side.word();
            text.series(&[("server", server), ("side", side)], of(view));
        }
    };
    let help = "Whether the link to another server of the cascade is up.";
    each("cascade_link_up", Kind::Gauge, help, |view| view.up.into());
    let help = "Frames that wait for a link, those under way among them.";
    each("cascade_link_queued", Kind::Gauge, help, |view| {
        count(view.queued)
    });
    let help = "Frames sent over a link.";
    each("cascade_link_sent_total", Kind::Counter, help, |view| {
        view.sent
    });
    let help = "Frames received over a link.";
    each("cascade_link_received_total", Kind::Counter, help, |view| {
        view.received
    });
    let help = "Frames a link had no room for.";
    each(
        "cascade_link_overflowed_total",
        Kind::Counter,
        help,
        |view| view.overflowed,
    );
    let help = "Servers that were not let in.";
    text.family("cascade_link_refused_total", Kind::Counter, help);
    for (reason, count) in links.refused() {
        text.series(&[("reason", reason)], count);
    }
    if let Some(remote) = links.remote() {
        upstream(&remote.upstream(), text);
    }
}

fn upstream(upstream: &Upstream, text: &mut Text) {
    let help = "The way to the upper server and back, smoothed.";
    text.family("upstream_rtt_seconds", Kind::Gauge, help);
    if let Some(rtt) = upstream.rtt() {
        text.fraction(&[], rtt.as_secs_f64());
    }
    let help = "How long an attempt waits for its answer now.";
    text.family("upstream_timeout_seconds", Kind::Gauge, help);
    for class in [Class::Ping, Class::Link] {
        let timeout = upstream.timeout(class).as_secs_f64();
        text.fraction(&[("class", class.word())], timeout);
    }
    let help = "Whether the breaker lets requests through.";
    text.family("upstream_breaker_closed", Kind::Gauge, help);
    text.series(&[], upstream.breaker().is_closed().into());
    let counts = upstream.counts();
    let help = "Requests to the upper server, by what became of them.";
    text.family("upstream_requests_total", Kind::Counter, help);
    for (result, count) in [
        ("answered", counts.answered),
        ("unanswered", counts.unanswered),
        ("broken", counts.broken),
        ("refused", counts.refused),
    ] {
        text.series(&[("result", result)], count);
    }
    let help = "Requests that were sent again.";
    text.family("upstream_retries_total", Kind::Counter, help);
    text.series(&[], counts.retries);
    let help = "Attempts that were not answered in time.";
    text.family("upstream_timeouts_total", Kind::Counter, help);
    text.series(&[], counts.timeouts);
}
