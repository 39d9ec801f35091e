//! Views that were accepted, on their way to the conference's server over HTTP. Of each view one is
//! under way at a time, and the latest takes the place of those that wait: what arrives last is
//! what is meant to be seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Views of different conferences that are under way at a time.
const UNDER_WAY_MAX: usize = 16;
/// Views that wait; beyond it new ones are not handed over.
const WAITING_MAX: usize = 4096;
/// One request.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often one view is tried.
const ATTEMPTS: u32 = 3;
/// Before it is tried again.
const PAUSE: Duration = Duration::from_millis(500);

/// A view of a conference.
type View = (String, String);

/// The near end.
#[derive(Clone, Default)]
pub(crate) struct Hook(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    wake: Notify,
    failed: AtomicU64,
}

#[derive(Default)]
struct State {
    url: Option<String>,
    waiting: BTreeMap<View, Bytes>,
}

impl Hook {
    /// Starts the task that sends.
    pub(crate) fn start(url: Option<&str>) -> Self {
        let hook = Self::default();
        hook.set(url);
        tokio::spawn(run(hook.clone()));
        hook
    }

    /// Where to; none: nowhere.
    pub(crate) fn set(&self, url: Option<&str>) {
        self.state(|state| state.url = url.map(str::to_owned));
    }

    pub(super) fn hand_over(&self, cid: String, vid: String, document: Bytes) {
        self.state(|state| {
            let view = (cid, vid);
            let room = state.waiting.len() < WAITING_MAX || state.waiting.contains_key(&view);
            if state.url.is_some() && room {
                state.waiting.insert(view, document);
            }
        });
        self.0.wake.notify_one();
    }

    /// Views that did not arrive.
    pub(crate) fn failed(&self) -> u64 {
        self.0.failed.load(Ordering::Relaxed)
    }

    fn state<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// One that is not under way already.
    fn next(&self, under_way: &BTreeSet<View>) -> Option<(String, View, Bytes)> {
        self.state(|state| {
            let free = state.waiting.keys().find(|view| !under_way.contains(*view));
            let view = free?.clone();
            let document = state.waiting.remove(&view)?;
            Some((state.url.clone()?, view, document))
        })
    }
}

async fn run(hook: Hook) {
    let (mut tasks, mut under_way) = (JoinSet::new(), BTreeSet::new());
    loop {
        while tasks.len() < UNDER_WAY_MAX
            && let Some((url, view, document)) = hook.next(&under_way)
        {
            under_way.insert(view.clone());
            tasks.spawn(send(hook.clone(), url, view, document));
        }
        tokio::select! {
            () = hook.0.wake.notified() => {}
            Some(sent) = tasks.join_next() => match sent {
                Ok(view) => {
                    under_way.remove(&view);
                }
                Err(error) => tracing::error!(%error, "a view was not handed over"),
            },
        }
    }
}

/// Tries until it has arrived or a later one waits.
async fn send(hook: Hook, url: String, view: View, document: Bytes) -> View {
    for attempt in 1..=ATTEMPTS {
        let posted = tokio::time::timeout(PATIENCE, post(&url, &view, document.clone())).await;
        let error = match posted {
            Ok(Ok(())) => return view,
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
        };
        let (cid, vid) = &view;
        tracing::warn!(cid, vid, url, attempt, error, "a view was not taken");
        if hook.state(|state| state.waiting.contains_key(&view)) {
            return view;
        }
        tokio::time::sleep(PAUSE).await;
    }
    hook.0.failed.fetch_add(1, Ordering::Relaxed);
    view
}

async fn post(url: &str, (cid, vid): &View, document: Bytes) -> anyhow::Result<()> {
    let rest = url.strip_prefix("http://").context("not an http URL")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let port = if host.ends_with(']') || !host.contains(':') {
        ":80"
    } else {
        ""
    };
    let stream = TcpStream::connect(format!("{host}{port}")).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::post(format!("/{path}"))
        .header(HOST, host)
        .header(CONTENT_TYPE, "application/json")
        .header("X-Conference", cid)
        .header("X-View", vid)
        .body(Full::new(document))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    drop(response.into_body().collect().await?);
    ensure!(status.is_success(), "it answered {status}");
    Ok(())
}
