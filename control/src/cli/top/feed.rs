//! What the daemon says, asked by threads of their own so that keys are never waited for.

use std::path::{Path, PathBuf};
use std::process::exit;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::model::{State, Update, list, number};
use crate::cli::client::Client;
use crate::cli::output;
use crate::shell::clock;

/// How soon it is asked again where it is heard no more.
const AGAIN: Duration = Duration::from_secs(1);
/// Events from before the start that are shown.
const EVENTS_BEFORE: u64 = 20;

type Query = Vec<(&'static str, String)>;

/// The threads end with the process.
pub(super) struct Feed {
    pub(super) updates: Receiver<Update>,
    sender: Sender<Update>,
    socket: PathBuf,
    wanted: Arc<Wanted>,
}

/// What is to be asked next.
#[derive(Default)]
struct Wanted {
    query: Mutex<(Query, bool)>,
    now: Condvar,
}

impl Wanted {
    fn set(&self, query: Query, now: bool) {
        let mut wanted = self.query.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.0 = query;
        if now {
            wanted.1 = true;
            self.now.notify_one();
        }
    }

    /// Waits for so long, or until somebody wants to know at once.
    fn wait(&self, time: Duration) -> Query {
        let wanted = self.query.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.now.wait_timeout_while(wanted, time, |(_, now)| !*now);
        let (mut wanted, _) = waited.unwrap_or_else(PoisonError::into_inner);
        wanted.1 = false;
        wanted.0.clone()
    }
}

impl Feed {
    pub(super) fn start(socket: &Path, every: Duration) -> Self {
        let (sender, updates) = channel();
        let feed = Self {
            updates,
            sender,
            socket: socket.to_owned(),
            wanted: Arc::default(),
        };
        let (socket, wanted, out) = (
            feed.socket.clone(),
            feed.wanted.clone(),
            feed.sender.clone(),
        );
        thread::spawn(move || looks(&socket, &wanted, every, &out));
        let (socket, out) = (feed.socket.clone(), feed.sender.clone());
        thread::spawn(move || tail(&socket, &out));
        feed
    }

    /// From the next look on.
    pub(super) fn ask(&self, query: Query) {
        self.wanted.set(query, false);
    }

    pub(super) fn ask_now(&self, query: Query) {
        self.wanted.set(query, true);
    }

    pub(super) fn explain(&self, call: u64) {
        let (socket, out) = (self.socket.clone(), self.sender.clone());
        thread::spawn(move || {
            let found = Client::new(&socket).get(&["calls", &call.to_string(), "explain"]);
            let found = found.map(|found| output::explained(&found));
            let found = found.map_err(|error| format!("{error:#}"));
            // Nobody waits for it once the screen is gone.
            drop(out.send(Update::Explained(call, found)));
        });
    }
}

fn looks(socket: &Path, wanted: &Wanted, every: Duration, out: &Sender<Update>) {
    let client = Client::new(socket);
    // What is on the screen decides what is asked, so the first one waits for it.
    let mut time = AGAIN;
    loop {
        let query = wanted.wait(time);
        let update = look(&client, &query);
        time = if update.is_ok() { every } else { AGAIN };
        let update = update.unwrap_or_else(|error| Update::Gone(format!("{error:#}")));
        if out.send(update).is_err() {
            return;
        }
    }
}

/// One look at everything.
pub(super) fn look(client: &Client<'_>, query: &Query) -> anyhow::Result<Update> {
    let status = client.get(&["status"])?;
    let bpf = client.get(&["bpf"])?;
    let top = client.query(&["top"], query)?;
    Ok(Update::Look {
        at: clock::now(),
        status,
        bpf,
        top,
    })
}

/// What has happened since; the number of the last event.
pub(super) fn events(
    client: &Client<'_>,
    seen: Option<u64>,
    state: &mut State,
) -> anyhow::Result<Option<u64>> {
    let since = match seen {
        Some(seen) => seen,
        None => begin(client)?,
    };
    let found = client.query(&["events"], &[("since", since.to_string())])?;
    for event in list(&found, "events") {
        state.update(Update::Event(event.clone()));
    }
    Ok(Some(number(&found, "last").max(since)))
}

fn begin(client: &Client<'_>) -> anyhow::Result<u64> {
    let last = client.query(&["events"], &[("since", u64::MAX.to_string())])?;
    Ok(number(&last, "last").saturating_sub(EVENTS_BEFORE))
}

/// Events as they happen; when the daemon comes back, those since.
fn tail(socket: &Path, out: &Sender<Update>) {
    let client = Client::new(socket);
    let seen = AtomicU64::new(0);
    let mut known = false;
    loop {
        if !known && let Ok(since) = begin(&client) {
            seen.store(since, Ordering::Relaxed);
            known = true;
        }
        let since = seen.load(Ordering::Relaxed).to_string();
        let mut each = |kind: &str, data: &str| -> anyhow::Result<()> {
            if kind == "gap" {
                // Another daemon counts from one again.
                seen.store(0, Ordering::Relaxed);
                return Ok(());
            }
            let event: Value = serde_json::from_str(data)?;
            seen.store(number(&event, "seq"), Ordering::Relaxed);
            out.send(Update::Event(event))?;
            Ok(())
        };
        if known {
            // It ended, or cannot be reached; the other thread says so.
            drop(client.stream(&["events"], &[("since", since)], &mut each));
        }
        thread::sleep(AGAIN);
    }
}

/// Whether the process was told to end: the terminal is given back first.
pub(super) struct Signals(Arc<AtomicBool>);

impl Signals {
    pub(super) fn watch() -> anyhow::Result<Self> {
        let came = Arc::new(AtomicBool::new(false));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let watched = came.clone();
        let guard = runtime.enter();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        drop(guard);
        thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = terminate.recv() => {}
                    // There is no terminal to give back, and waiting for its keys never ends.
                    _ = hangup.recv() => exit(0),
                    _ = interrupt.recv() => {}
                }
            });
            watched.store(true, Ordering::Relaxed);
        });
        Ok(Self(came))
    }

    pub(super) fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
