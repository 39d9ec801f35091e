//! Whether the daemon is alive, and whether calls may be sent to it: what the loop said last, so
//! that whoever asks waits for nobody. Neither the store nor a broker is asked.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;

use crate::shell::api::Api;
use crate::shell::api::error::Problem;
use crate::shell::api::health::{Health, health};
use crate::shell::api::table::{Answer, Role, Route, VIEW, schema};
use crate::shell::{Shell, clock};

/// The loop turns once a second; this long without a turn and it hangs.
const HANGS_AFTER: Duration = Duration::from_secs(5);

pub(super) const ROUTES: &[Route] = &[
    Route {
        path: "/livez",
        role: Role::Anyone,
        about: "Says that the process answers; asks nothing else",
        answer: Answer::Other(TEXT),
        handler: || get(|| async { "ok\n" }),
        ..VIEW
    },
    Route {
        path: "/readyz",
        role: Role::Anyone,
        about: "Whether calls may be sent here: the loop turns, a network is there, and it does \
                not drain; asks neither the store nor a broker",
        answer: Answer::Other(TEXT),
        refuses: &[Problem::NOT_READY],
        handler: || get(ready),
        ..VIEW
    },
    Route {
        path: "/healthz",
        about: "The state and every warning, as of the last second",
        answer: Answer::Document(schema!("healthz")),
        handler: || get(healthy),
        ..VIEW
    },
];

const TEXT: &str = "text/plain; charset=utf-8";

/// What the loop said last.
#[derive(Default)]
pub(super) struct Pulse {
    last: Mutex<Option<(Instant, Health)>>,
}

impl Pulse {
    fn beat(&self, now: Instant, health: Health) {
        *self.lock() = Some((now, health));
    }

    /// State and warnings, if the loop turns.
    fn now(&self) -> Option<(&'static str, Vec<String>)> {
        let last = self.lock();
        let (at, health) = last.as_ref()?;
        let age = clock::now().saturating_duration_since(*at);
        (age < HANGS_AFTER).then(|| (health.state, health.warnings.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Instant, Health)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ready(State(api): State<Api>) -> Result<&'static str, Problem> {
    match api.pulse.now() {
        Some((state, _)) if state != DOWN => Ok("ok\n"),
        Some(_) | None => Err(Problem::NOT_READY),
    }
}

async fn healthy(State(api): State<Api>) -> Response {
    let (state, warnings) = match api.pulse.now() {
        Some(found) => found,
        None => {
            let seconds = HANGS_AFTER.as_secs();
            let hangs = format!("the loop has not turned for {seconds} s; restart the daemon");
            (DOWN, vec![hangs])
        }
    };
    Json(json!({ "state": state, "warnings": warnings })).into_response()
}

const DOWN: &str = "down";

impl Shell {
    /// The loop has turned.
    pub(in crate::shell) fn beat(&mut self) {
        let now = clock::now();
        let events = self.engine.events();
        self.api.news.tell(events.last());
        crate::shell::log::events(events);
        self.sample(now);
        self.api.pulse.beat(now, health(self, now));
    }
}
