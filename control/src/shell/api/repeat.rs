//! `Idempotency-Key`: an order that is sent again, because its answer was lost, is answered as it
//! was and not carried out twice.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, to_bytes};
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::shell::api::access::Principal;
use crate::shell::api::error::Problem;
use crate::shell::clock;

/// How long an answer is kept.
const KEPT: Duration = Duration::from_secs(600);
/// Answers kept at a time.
const ANSWERS_MAX: usize = 1024;
/// A larger answer is not kept: the order can be given again.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const KEY_BYTES_MAX: usize = 128;

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

#[derive(Default)]
pub(super) struct Repeats {
    /// By whom, where and under which key.
    known: Mutex<BTreeMap<String, Known>>,
}

struct Known {
    at: Instant,
    /// Of what was sent.
    digest: [u8; 32],
    /// None while it is carried out.
    answer: Option<(StatusCode, HeaderMap, Bytes)>,
}

/// An order that is being carried out.
pub(super) struct Ticket(String);

impl Repeats {
    /// None without a key.
    ///
    /// # Errors
    /// The answer of before, or why there is none.
    pub(super) fn ticket(
        &self,
        who: &Principal,
        head: &Parts,
        body: &[u8],
    ) -> Result<Option<Ticket>, Box<Response>> {
        let Some(key) = head.headers.get(&KEY) else {
            return Ok(None);
        };
        let key = key.to_str().unwrap_or_default();
        let refuse = |problem: Problem| Err(Box::new(problem.into_response()));
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return refuse(Problem::BAD_KEY);
        }
        let name = format!("{} {} {key}", who.name, head.uri);
        let (now, digest) = (clock::now(), Sha256::digest(body).into());
        let mut known = self.lock();
        known.retain(|_, known| now.saturating_duration_since(known.at) < KEPT);
        match known.get(&name) {
            Some(known) if known.digest != digest => refuse(Problem::KEY_REUSED),
            Some(Known { answer: None, .. }) => refuse(Problem::IN_PROGRESS),
            Some(Known {
                answer: Some((status, head, body)),
                ..
            }) => {
                let mut answer = (*status, head.clone(), body.clone()).into_response();
                let yes = HeaderValue::from_static("true");
                answer.headers_mut().insert(REPLAYED, yes);
                Err(Box::new(answer))
            }
            None if known.len() >= ANSWERS_MAX => refuse(Problem::BUSY),
            None => {
                let new = Known {
                    at: now,
                    digest,
                    answer: None,
                };
                known.insert(name.clone(), new);
                Ok(Some(Ticket(name)))
            }
        }
    }

    /// Remembers the answer. One that says "come back" is none.
    pub(super) async fn keep(&self, Ticket(name): Ticket, answer: Response) -> Response {
        let (head, body) = answer.into_parts();
        let read = to_bytes(body, ANSWER_BYTES_MAX).await;
        let mut known = self.lock();
        let Ok(body) = read else {
            known.remove(&name);
            return Problem::BUSY.into_response();
        };
        if head.status.is_server_error() {
            known.remove(&name);
        } else if let Some(known) = known.get_mut(&name) {
            let kind = head.headers.get(CONTENT_TYPE).cloned();
            let kind = kind.map(|kind| (CONTENT_TYPE, kind));
            known.answer = Some((head.status, kind.into_iter().collect(), body.clone()));
        }
        Response::from_parts(head, Body::from(body))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
