//! The embedded store: what outlives the process, in one file. A thread of its own writes, many
//! records to a commit; signalling never waits for the disk, only answers do, and not for long.
//! The shard with the registrations has the near end of it, the `Keeper`.

mod file;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::config::{self, Sync};
use crate::effect::{Effects, Kept, Record, Table};
use crate::shell::clock;

use file::{File, Trouble};

/// Messages that wait for a commit; more are sent without it.
const HELD_MAX: usize = 16_384;
/// Records that wait for the disk; beyond it new keys are not kept.
const PENDING_MAX: usize = 262_144;
/// A message waits no longer. SIP's own repeats come after half a second, and are answered at once.
const HELD_FOR: Duration = Duration::from_secs(1);
/// How often `sync = "behind"` commits.
const BEHIND: Duration = Duration::from_millis(50);
/// When a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Batches of messages on their way back to the shard.
const KEPT_MAX: usize = 64;

/// One thing to keep, or to forget.
pub(crate) type Write = ((Table, Bytes), Option<Record>);

pub(crate) struct Store {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
    /// What was wrong with the file at start.
    found: Option<String>,
    /// Why nothing is kept.
    off: Option<String>,
}

/// Takes what is to be kept, and gives back the messages that waited for it.
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    kept: mpsc::Receiver<Effects>,
    /// There is a file.
    writes: bool,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    counts: Counts,
}

#[derive(Default)]
struct State {
    /// The latest word for each key, not yet on its way to disk.
    pending: BTreeMap<(Table, Bytes), Option<Record>>,
    /// Messages that wait for `pending`, and since when.
    held: Effects,
    /// Those that wait for the commit under way.
    in_flight: Effects,
    oldest: Option<Instant>,
    behind: bool,
    closing: bool,
    failing: Option<String>,
}

/// For `/metrics`.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) commits: AtomicU64,
    pub(crate) kept: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) late: AtomicU64,
    pub(crate) errors: AtomicU64,
}

impl Store {
    /// Opens the file and returns what it holds. What cannot be used is moved aside; without a file
    /// nothing is kept, and health says so.
    pub(crate) fn open(config: &config::Store) -> (Self, Keeper, Vec<Kept>) {
        let (file, records, found, off) = match usable(&config.path) {
            Ok((file, records, found)) => (Some(file), records, found, None),
            Err(why) => (None, Vec::new(), None, Some(why)),
        };
        if let Some(why) = &found {
            tracing::error!(why, "the store begins anew");
        }
        if let Some(why) = &off {
            tracing::warn!(
                why,
                "registrations are kept in memory only: a restart loses them"
            );
        }
        let behind = config.sync == Sync::Behind;
        let state = State {
            behind,
            ..State::default()
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            wake: Condvar::new(),
            counts: Counts::default(),
        });
        let (sender, kept) = mpsc::channel(KEPT_MAX);
        let writer = file.map(|file| {
            let (shared, path) = (shared.clone(), config.path.clone());
            std::thread::spawn(move || write(&shared, file, &path, &sender))
        });
        let keeper = Keeper {
            shared: shared.clone(),
            kept,
            writes: writer.is_some(),
        };
        let store = Self {
            shared,
            writer,
            found,
            off,
        };
        (store, keeper, records)
    }

    /// Takes another configuration's wish.
    pub(crate) fn set(&self, sync: Sync) {
        self.shared.lock().behind = sync == Sync::Behind;
    }

    /// What an operator should know.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let failing = self.shared.lock().failing.clone();
        let failing = failing.map(|why| {
            format!("the store cannot be written, registrations would not outlive a restart: {why}")
        });
        let off = self.off.as_ref();
        let off = off.map(|why| format!("registrations are kept in memory only: {why}"));
        let found = self.found.clone();
        failing.into_iter().chain(off).chain(found).collect()
    }

    /// Whether what is written now outlives the process.
    pub(crate) fn is_up(&self) -> bool {
        self.writer.is_some() && self.shared.lock().failing.is_none()
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    pub(crate) fn pending(&self) -> usize {
        self.shared.lock().pending.len()
    }

    /// Writes what is left.
    pub(crate) fn close(mut self) {
        self.shared.lock().closing = true;
        self.shared.wake.notify_one();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the store's writer ended before its work was done");
        }
    }
}

impl Keeper {
    /// Has these written. What must wait for that is taken; returned is what need not.
    pub(crate) fn write(&self, writes: Vec<Write>, then: Effects) -> Effects {
        if !self.writes {
            return then;
        }
        let mut state = self.shared.lock();
        for (key, record) in writes {
            if state.pending.len() >= PENDING_MAX && !state.pending.contains_key(&key) {
                self.shared.counts.lost.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            state.pending.insert(key, record);
        }
        self.shared.wake.notify_one();
        if state.behind || state.failing.is_some() {
            return then;
        }
        if state.held.len().saturating_add(then.len()) > HELD_MAX {
            self.shared.counts.late.fetch_add(1, Ordering::Relaxed);
            return then;
        }
        state.held.extend(then);
        state.oldest.get_or_insert_with(clock::now);
        Vec::new()
    }

    /// Messages whose records are on disk.
    pub(crate) async fn kept(&mut self) -> Effects {
        match self.kept.recv().await {
            Some(effects) => effects,
            None => std::future::pending().await,
        }
    }

    /// Messages that have waited long enough for a slow disk.
    pub(crate) fn overdue(&self, now: Instant) -> Effects {
        let mut state = self.shared.lock();
        let waited = state.oldest.map(|at| now.saturating_duration_since(at));
        if waited.is_none_or(|waited| waited < HELD_FOR) {
            return Vec::new();
        }
        state.oldest = None;
        let mut overdue = std::mem::take(&mut state.in_flight);
        overdue.append(&mut state.held);
        let count = u64::try_from(overdue.len()).unwrap_or(u64::MAX);
        self.shared.counts.late.fetch_add(count, Ordering::Relaxed);
        overdue
    }
}

impl Shared {
    /// State is whole whenever the lock is free.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for work. None: there is none left, and no more will come.
    fn next(&self) -> Option<BTreeMap<(Table, Bytes), Option<Record>>> {
        let mut state = self.lock();
        while state.pending.is_empty() && !state.closing {
            state = self
                .wake
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if state.behind && !state.closing {
            let wait = self
                .wake
                .wait_timeout_while(state, BEHIND, |state| !state.closing);
            (state, _) = wait.unwrap_or_else(PoisonError::into_inner);
        }
        let batch = std::mem::take(&mut state.pending);
        let mut held = std::mem::take(&mut state.held);
        state.in_flight.append(&mut held);
        (!batch.is_empty()).then_some(batch)
    }

    /// A commit ended. Returns the messages that waited for it.
    fn done(&self, failing: Option<String>) -> Effects {
        let mut state = self.lock();
        match (&failing, &state.failing) {
            (Some(why), None) => tracing::error!(why, "cannot write the store"),
            (None, Some(_)) => tracing::info!("the store is written again"),
            (Some(_), Some(_)) | (None, None) => {}
        }
        state.failing = failing;
        let mut done = std::mem::take(&mut state.in_flight);
        if state.failing.is_some() {
            done.append(&mut state.held);
        }
        state.oldest = (!state.held.is_empty()).then(clock::now);
        done
    }

    /// What could not be written waits, unless there is a newer word.
    fn put_back(&self, batch: BTreeMap<(Table, Bytes), Option<Record>>) -> bool {
        let mut state = self.lock();
        for (key, record) in batch {
            state.pending.entry(key).or_insert(record);
        }
        let wait = self
            .wake
            .wait_timeout_while(state, RETRY, |state| !state.closing);
        let (state, _) = wait.unwrap_or_else(PoisonError::into_inner);
        state.closing
    }
}

/// The writer's life.
fn write(shared: &Shared, file: File, path: &Path, kept: &mpsc::Sender<Effects>) {
    let mut file = Some(file);
    while let Some(batch) = shared.next() {
        let result = match file.take() {
            Some(file) => Ok(file),
            None => File::open(path).map(|(file, _)| file),
        };
        let result = result.and_then(|open| {
            open.commit(&batch)?;
            Ok(open)
        });
        let failing = match result {
            Ok(open) => {
                file = Some(open);
                shared.counts.commits.fetch_add(1, Ordering::Relaxed);
                let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
                shared.counts.kept.fetch_add(count, Ordering::Relaxed);
                None
            }
            Err(trouble) => {
                shared.counts.errors.fetch_add(1, Ordering::Relaxed);
                Some(trouble.to_string())
            }
        };
        let failed = failing.is_some();
        let done = shared.done(failing);
        // Nobody listens any more: the daemon ends.
        if !done.is_empty() && kept.blocking_send(done).is_err() {
            tracing::debug!("answers were not sent, the daemon ends");
        }
        if failed && shared.put_back(batch) {
            return;
        }
    }
}

/// The file and what is in it, if need be after the one that was there has been moved aside; and
/// what is to be said about that.
fn usable(path: &Path) -> Result<(File, Vec<Kept>, Option<String>), String> {
    let why = match File::open(path) {
        Ok((file, records)) => return Ok((file, records, None)),
        Err(Trouble::Unusable(why)) => why,
        Err(trouble @ Trouble::Refused(_)) => return Err(trouble.to_string()),
    };
    let aside = aside(path);
    std::fs::rename(path, &aside)
        .map_err(|error| format!("{why}; it cannot be moved aside: {error}"))?;
    let found = format!(
        "the store could not be used ({why}) and is now {}: registrations of before the start come \
         back when clients refresh them",
        aside.display()
    );
    let (file, records) = File::open(path).map_err(|trouble| trouble.to_string())?;
    Ok((file, records, Some(found)))
}

/// Beside the file, with the time.
fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".unusable-{}", clock::wall_s()));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests;
