//! `GET events`: what happened, as a document or, with `Accept: text/event-stream`, as it happens.
//! A reader is told again only when it has taken what it was told before, so a slow one costs
//! nothing; what was forgotten meanwhile is said.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE, HeaderName};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::shell::Question;
use crate::shell::api::error::Problem;
use crate::shell::api::route::ask;
use crate::shell::api::table::{Answer, Kind, Parameter, Route, VIEW, schema};
use crate::shell::api::{Api, What};

/// Readers of the stream at a time.
const READERS_MAX: usize = 64;
/// Something is sent this often, so that both sides notice when the other is gone.
const PULSE_EVERY: Duration = Duration::from_secs(15);
/// When the loop has more to do than it can queue.
const REST: Duration = Duration::from_secs(1);
/// Of each part of a filter.
pub(super) const FILTER_LETTERS_MAX: usize = 256;

pub(super) const ROUTES: &[Route] = &[Route {
    path: "/api/v1/events",
    about: "What happened, each event with a number; with Accept: text/event-stream as it \
            happens, from Last-Event-ID on",
    query: &[
        Parameter {
            name: "since",
            kind: Kind::Number,
            required: false,
            about: "only those after this number",
        },
        Parameter {
            name: "kind",
            kind: Kind::Like("kinds"),
            required: false,
            about: "only of these kinds, with commas: `call,media.silent`",
        },
        Parameter {
            name: "subject",
            kind: Kind::Short,
            required: false,
            about: "only about this call, account or network",
        },
    ],
    answer: Answer::Stream(schema!("events")),
    refuses: &[
        Problem::BAD_NUMBER,
        Problem::BAD_FILTER,
        Problem::TOO_MANY_READERS,
    ],
    handler: || get(events),
    ..VIEW
}];

/// Which events are asked for.
#[derive(Clone, Debug, Default)]
pub(in crate::shell) struct Filter {
    kinds: Vec<String>,
    subject: Option<String>,
}

impl Filter {
    fn of(query: &BTreeMap<String, String>) -> Option<Self> {
        let kinds = query.get("kind").map_or("", String::as_str);
        let subject = query.get("subject").cloned();
        let fits = |text: &str| text.chars().count() <= FILTER_LETTERS_MAX;
        let kinds_fit = kinds
            .chars()
            .all(|c| c.is_ascii_lowercase() || "._,".contains(c));
        let kinds_fit = kinds_fit && fits(kinds);
        let kinds = kinds.split(',').filter(|kind| !kind.is_empty());
        let filter = Self {
            kinds: kinds.map(str::to_owned).collect(),
            subject,
        };
        let fit = filter.subject.as_deref().is_none_or(fits);
        (fit && kinds_fit).then_some(filter)
    }

    /// `call` is all that happens to calls, `call.ended` one of it.
    pub(in crate::shell) fn takes(&self, kind: &str, subject: &str) -> bool {
        let is = |wanted: &String| {
            let rest = kind.strip_prefix(wanted.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let of_kind = self.kinds.is_empty() || self.kinds.iter().any(is);
        of_kind
            && self
                .subject
                .as_deref()
                .is_none_or(|wanted| wanted == subject)
    }
}

/// Where readers wait for what happens.
pub(super) struct News {
    last: watch::Sender<u64>,
    places: Arc<Semaphore>,
}

impl Default for News {
    fn default() -> Self {
        Self {
            last: watch::Sender::new(0),
            places: Arc::new(Semaphore::new(READERS_MAX)),
        }
    }
}

impl News {
    /// The number of the last event.
    pub(super) fn tell(&self, last: u64) {
        self.last
            .send_if_modified(|known| std::mem::replace(known, last) != last);
    }
}

async fn events(
    State(api): State<Api>,
    Query(query): Query<BTreeMap<String, String>>,
    head: HeaderMap,
) -> Result<Response, Problem> {
    let filter = Filter::of(&query).ok_or(Problem::BAD_FILTER)?;
    let accepted = head.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let streamed = accepted.is_some_and(|accept| {
        let kinds = accept.split(',').map(|kind| kind.split(';').next());
        kinds.flatten().any(|kind| kind.trim() == STREAM)
    });
    let id = head.get(LAST_EVENT_ID).filter(|_| streamed);
    let since = match (id, query.get("since")) {
        (Some(id), _) => id.to_str().unwrap_or_default(),
        (None, Some(since)) => since,
        (None, None) => "0",
    };
    let since = since.parse().map_err(|_| Problem::BAD_NUMBER)?;
    if !streamed {
        let found = ask(&api.questions, What::Events { since, filter }).await?;
        return Ok(Json(found).into_response());
    }
    let place = api.news.places.clone().try_acquire_owned();
    let reader = Reader {
        since,
        filter,
        questions: api.questions.clone(),
        news: api.news.last.subscribe(),
        _place: place.map_err(|_| Problem::TOO_MANY_READERS)?,
    };
    let body = Body::from_stream(stream::unfold(reader, Reader::next));
    Ok(([(CONTENT_TYPE, STREAM)], body).into_response())
}

const STREAM: &str = "text/event-stream";
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// One who reads the stream.
struct Reader {
    since: u64,
    filter: Filter,
    questions: mpsc::Sender<Question>,
    news: watch::Receiver<u64>,
    _place: OwnedSemaphorePermit,
}

impl Reader {
    /// What happened since, or a sign of life.
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        loop {
            self.news.mark_unchanged();
            let (since, filter) = (self.since, self.filter.clone());
            let text = match ask(&self.questions, What::Events { since, filter }).await {
                Ok(found) => self.told(&found),
                Err(_) if self.questions.is_closed() => return None,
                Err(_) => {
                    tokio::time::sleep(REST).await;
                    continue;
                }
            };
            if !text.is_empty() {
                return Some((Ok(text.into()), self));
            }
            match tokio::time::timeout(PULSE_EVERY, self.news.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return None,
                Err(_) => return Some((Ok(Bytes::from_static(b": \n\n")), self)),
            }
        }
    }

    /// The form of WHATWG HTML §9.2.6.
    fn told(&mut self, found: &Value) -> String {
        let number = |name: &str| found.get(name).and_then(Value::as_u64).unwrap_or(0);
        let last = number("last");
        let mut text = String::new();
        let forgotten = found.get("forgotten").and_then(Value::as_bool) == Some(true);
        if last < self.since {
            // Another daemon counts from one again: all it knows is new.
            text.push_str(&format!("id: 0\n{}", gap(self.since)));
            self.since = 0;
            return text;
        }
        // Who asks for everything misses nothing it knew of.
        if forgotten && self.since > 0 {
            text.push_str(&gap(self.since));
        }
        let events = found.get("events").and_then(Value::as_array);
        for event in events.into_iter().flatten() {
            let seq = event.get("seq").and_then(Value::as_u64).unwrap_or(0);
            let kind = event
                .get("kind")
                .and_then(Value::as_str)
                .unwrap_or_default();
            text.push_str(&format!("id: {seq}\nevent: {kind}\ndata: {event}\n\n"));
        }
        self.since = last;
        text
    }
}

/// Events after this number are not known any more.
fn gap(after: u64) -> String {
    format!("event: gap\ndata: {{\"after\":{after}}}\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_name_kinds_and_subjects() {
        let check = |query: &[(&str, &str)], expected: Option<[bool; 3]>| {
            let query = query
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            let found = Filter::of(&query.collect()).map(|filter| {
                [
                    filter.takes("call.ended", "7"),
                    filter.takes("call.started", "8"),
                    filter.takes("callback", "7"),
                ]
            });
            assert_eq!(found, expected);
        };
        check(&[], Some([true; 3]));
        check(&[("kind", "call")], Some([true, true, false]));
        check(&[("kind", "x,call.ended")], Some([true, false, false]));
        check(&[("subject", "7")], Some([true, false, true]));
        check(&[("kind", "call"), ("subject", "9")], Some([false; 3]));
        check(&[("kind", "Call")], None);
        check(&[("subject", &"x".repeat(257))], None);
    }
}
