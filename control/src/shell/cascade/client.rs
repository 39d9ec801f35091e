//! Requests to another server over HTTP, by the rules of `upstream`: connections are kept, an
//! attempt whose time is over is not broken off, and the breaker answers where nobody else would.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep_until, timeout};
use tokio_rustls::rustls::ClientConfig;

use crate::shell::clock;
use crate::upstream::call::ATTEMPTS_MAX;
use crate::upstream::{Call, Failure, Next, Terms, Upstream};

/// An answer longer than this is none.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Attempts that go on though nobody waits any more.
const BEHIND_MAX: usize = 32;
/// And for how long.
const BEHIND_FOR: Duration = Duration::from_secs(30);
/// A connection that is not there by then will not come.
const CONNECT_MAX: Duration = Duration::from_secs(10);
const IDLE_MAX: Duration = Duration::from_secs(90);

type Https = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Another server, and what is known of the way to it. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Remote(Arc<Inner>);

struct Inner {
    /// `https://host:port`
    base: String,
    headers: Vec<(&'static str, String)>,
    client: Https,
    upstream: Mutex<Upstream>,
    behind: Arc<Semaphore>,
}

/// What is asked: of which resource, with which body.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) body: Bytes,
}

/// What was answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// Why there is no answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Unanswered {
    #[error("home_unreachable: too many failed; the next is tried in {} s", .0.as_secs().max(1))]
    Refused(Duration),
    #[error("no answer within {} ms", .0.as_millis())]
    Late(Duration),
    #[error("{0}")]
    Broken(String),
}

impl Remote {
    pub(crate) fn new(
        base: String,
        headers: Vec<(&'static str, String)>,
        tls: Arc<ClientConfig>,
        seed: u64,
    ) -> Self {
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        http.enforce_http(false);
        http.set_connect_timeout(Some(CONNECT_MAX));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls.as_ref().clone())
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .build(connector);
        Self(Arc::new(Inner {
            base,
            headers,
            client,
            upstream: Mutex::new(Upstream::new(seed, clock::now())),
            behind: Arc::new(Semaphore::new(BEHIND_MAX)),
        }))
    }

    pub(crate) fn base(&self) -> &str {
        &self.0.base
    }

    /// What is known of the way; not to be held.
    pub(crate) fn upstream(&self) -> MutexGuard<'_, Upstream> {
        let upstream = self.0.upstream.lock();
        upstream.unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks, within the terms. Whatever is answered is an answer, but for a gateway's word that
    /// nobody is there.
    pub(crate) async fn ask(
        &self,
        terms: Terms,
        question: &Question,
    ) -> Result<Answer, Unanswered> {
        let began = clock::now();
        let call = Call::begin(terms, &mut self.upstream(), began);
        let call = call.map_err(|refused| {
            Unanswered::Refused(refused.until.saturating_duration_since(began))
        })?;
        let mut call = Guard {
            call: Some(call),
            remote: self,
        };
        let (sender, mut results) = mpsc::channel(usize::from(ATTEMPTS_MAX));
        let mut why = None;
        loop {
            match call.next(clock::now()) {
                Next::Send(number) => self.launch(number, question.clone(), sender.clone()),
                Next::Over(Err(Failure::Broken)) => {
                    return Err(Unanswered::Broken(why.unwrap_or_default()));
                }
                Next::Over(_) => return Err(Unanswered::Late(terms.deadline)),
                Next::Wait(until) => {
                    let result = tokio::select! {
                        result = results.recv() => result,
                        () = sleep_until(until.into()) => None,
                    };
                    match result {
                        Some((_, Ok(answer))) => {
                            call.answered(clock::now());
                            return Ok(answer);
                        }
                        Some((number, Err(error))) => {
                            why = Some(error);
                            call.broken(number, clock::now());
                        }
                        None => {}
                    }
                }
            }
        }
    }

    /// One attempt, on a task of its own: it goes on when its time is over.
    fn launch(
        &self,
        number: u8,
        question: Question,
        sender: mpsc::Sender<(u8, Result<Answer, String>)>,
    ) {
        let remote = self.clone();
        tokio::spawn(async move {
            let Ok(_permit) = remote.0.behind.clone().try_acquire_owned() else {
                let busy = "too many requests are still under way".to_owned();
                drop(sender.send((number, Err(busy))).await);
                return;
            };
            let attempt = timeout(BEHIND_FOR, remote.exchange(&question)).await;
            let result = match attempt {
                Ok(Ok(answer)) if is_gateway(answer.status) => {
                    Err(format!("the way there answers {}", answer.status))
                }
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(error)) => Err(format!("{error:#}")),
                Err(_) => return,
            };
            // Nobody may wait any more.
            drop(sender.send((number, result)).await);
        });
    }

    pub(super) async fn exchange(&self, question: &Question) -> anyhow::Result<Answer> {
        let response = self.request(question).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
        let body = body.collect().await.map_err(anyhow::Error::from_boxed);
        let body = body.context("the answer broke off")?.to_bytes();
        Ok(Answer { status, body })
    }

    /// A request whose answer is read while it comes.
    pub(crate) async fn request(&self, question: &Question) -> anyhow::Result<Response<Incoming>> {
        let Inner {
            base,
            headers,
            client,
            ..
        } = &*self.0;
        let request = Request::builder().method(question.method.clone());
        let mut request = request.uri(format!("{base}{}", question.path));
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(question.body.clone()))?;
        Ok(client.request(request).await?)
    }
}

fn is_gateway(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

/// A call that is given up when nobody waits for it.
struct Guard<'a> {
    call: Option<Call>,
    remote: &'a Remote,
}

impl Guard<'_> {
    fn next(&mut self, now: Instant) -> Next {
        let mut upstream = self.remote.upstream();
        match &mut self.call {
            Some(call) => call.next(&mut upstream, now),
            None => Next::Over(Err(Failure::Unanswered)),
        }
    }

    fn answered(&mut self, now: Instant) {
        if let Some(call) = &mut self.call {
            call.answered(&mut self.remote.upstream(), now);
        }
    }

    fn broken(&mut self, number: u8, now: Instant) {
        if let Some(call) = &mut self.call {
            call.broken(number, &mut self.remote.upstream(), now);
        }
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            call.abandon(&mut self.remote.upstream());
        }
    }
}
