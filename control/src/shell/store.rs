//! The embedded store: what outlives the process, in one file. A thread of its own writes, many
//! records to a commit; signalling never waits for the disk, only answers do, and not for long.
//! Whoever has something to keep has a near end of its own, a `Keeper`: all share the commits, and
//! each gets back, in its own order, what waited for one.

mod file;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;

use crate::config::{self, Sync};
use crate::effect::{Kept, Record, Table};
use crate::shell::clock;

use file::{File, Trouble};

/// What may wait for a commit at one near end; more is done without it.
const HELD_MAX: usize = 16_384;
/// Records that wait for the disk; beyond it new keys are not kept.
const PENDING_MAX: usize = 262_144;
/// How long answers of SIP wait at most. Its own repeats come after half a second, and are answered
/// at once.
pub(crate) const SIP_WAITS: Duration = Duration::from_secs(1);
/// Commits of many records are no closer than this, so that more share the next one.
const GATHER: Duration = Duration::from_millis(5);
/// So many are many. Fewer are on disk as soon as can be: a call that has just ended must not come
/// back after a kill.
const MANY: usize = 8;
/// How often `sync = "behind"` commits.
const BEHIND: Duration = Duration::from_millis(50);
/// When a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// What it is there for, in the words of health.
const KEPT: &str = "registrations, calls, bans, conferences and undelivered messages";

/// One thing to keep, or to forget.
pub(crate) type Write = ((Table, Bytes), Option<Record>);

/// What was kept, by table.
pub(crate) type Tables = BTreeMap<Table, Vec<Kept>>;

type Batch = BTreeMap<(Table, Bytes), Option<Record>>;

pub(crate) struct Store {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
    /// What was wrong with the file at start.
    found: Option<String>,
    /// Why nothing is kept.
    off: Option<String>,
}

/// Takes what is to be kept, and gives back what waited for it.
pub(crate) struct Keeper<T> {
    shared: Arc<Shared>,
    progress: watch::Receiver<Progress>,
    /// What waits, in order: for which batch, and since when.
    held: VecDeque<(u64, Instant, T)>,
    /// It waits no longer than this for a slow disk.
    patience: Option<Duration>,
    /// There is a file.
    writes: bool,
}

/// What became of the batches.
#[derive(Clone, Copy, Default)]
struct Progress {
    /// All up to this one are on disk.
    written: u64,
    /// The last one is not: nobody waits.
    failing: bool,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    progress: watch::Sender<Progress>,
    counts: Counts,
}

#[derive(Default)]
struct State {
    /// The latest word for each key, not yet on its way to disk.
    pending: Batch,
    /// How many batches went on their way before it.
    taken: u64,
    /// Somebody waits for the next one, be there something in it or not.
    awaited: bool,
    /// The writer sleeps until it is woken. While it does not, nobody need make a system call.
    idle: bool,
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
    /// Opens the file and returns what it holds, by table. What cannot be used is moved aside;
    /// without a file nothing is kept, and health says so.
    pub(crate) fn open(config: &config::Store) -> (Self, Tables) {
        let (file, records, found, off) = match usable(&config.path) {
            Ok((file, records, found)) => (Some(file), records, found, None),
            Err(why) => (None, Vec::new(), None, Some(why)),
        };
        if let Some(why) = &found {
            tracing::error!(why, "the store begins anew");
        }
        if let Some(why) = &off {
            tracing::warn!(why, "{KEPT} are kept in memory only: a restart loses them");
        }
        let behind = config.sync == Sync::Behind;
        let state = State {
            behind,
            ..State::default()
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            wake: Condvar::new(),
            progress: watch::Sender::default(),
            counts: Counts::default(),
        });
        let writer = file.map(|file| {
            let (shared, path) = (shared.clone(), config.path.clone());
            std::thread::spawn(move || write(&shared, file, &path))
        });
        let store = Self {
            shared,
            writer,
            found,
            off,
        };
        let mut tables = Tables::new();
        for kept in records {
            tables.entry(kept.table).or_default().push(kept);
        }
        (store, tables)
    }

    /// A near end. What waits there waits for as long as `patience` says, none: until it is written
    /// or cannot be.
    pub(crate) fn keeper<T>(&self, patience: Option<Duration>) -> Keeper<T> {
        Keeper {
            shared: self.shared.clone(),
            progress: self.shared.progress.subscribe(),
            held: VecDeque::new(),
            patience,
            writes: self.writer.is_some(),
        }
    }

    /// Takes another configuration's wish.
    pub(crate) fn set(&self, sync: Sync) {
        self.shared.lock().behind = sync == Sync::Behind;
    }

    /// What an operator should know.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let failing = self.shared.lock().failing.clone();
        let failing = failing.map(|why| {
            format!("the store cannot be written, {KEPT} would not outlive a restart: {why}")
        });
        let off = self.off.as_ref();
        let off = off.map(|why| format!("{KEPT} are kept in memory only: {why}"));
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

impl<T> Keeper<T> {
    /// Has these written. What must wait for that, or for what waits already, is taken; returned is
    /// what need not, in order.
    pub(crate) fn write(&mut self, writes: Vec<Write>, then: Vec<T>) -> Vec<T> {
        if !self.writes {
            return then;
        }
        let nothing = writes.is_empty();
        let shared = self.shared.clone();
        let mut state = shared.lock();
        for (key, record) in writes {
            shared.put(&mut state, key, record);
        }
        let waits = !state.behind && state.failing.is_none() && !(nothing && self.held.is_empty());
        // What comes after others with nothing of its own to keep has their batch.
        state.awaited |= waits && !nothing && !then.is_empty();
        let batch = if nothing { 0 } else { state.taken + 1 };
        let asleep = state.idle && state.has_work();
        state.idle &= !asleep;
        drop(state);
        if asleep {
            shared.wake.notify_one();
        }
        if !waits || self.held.len().saturating_add(then.len()) > HELD_MAX {
            let mut all = self.let_go(|_, _| true);
            if waits {
                self.late(then.len().saturating_add(all.len()));
            }
            all.extend(then);
            return all;
        }
        let batch = self.held.back().map_or(batch, |(its, ..)| batch.max(*its));
        let now = clock::now();
        let then = then.into_iter().map(|one| (batch, now, one));
        self.held.extend(then);
        Vec::new()
    }

    /// What need not wait any more, in order; waits until there is something.
    pub(crate) async fn kept(&mut self) -> Vec<T> {
        loop {
            let Progress { written, failing } = *self.progress.borrow_and_update();
            let kept = self.let_go(|batch, _| failing || batch <= written);
            if !kept.is_empty() {
                return kept;
            }
            if self.progress.changed().await.is_err() {
                // The store is closed: the daemon ends.
                return std::future::pending().await;
            }
        }
    }

    /// What has waited long enough for a slow disk.
    pub(crate) fn overdue(&mut self, now: Instant) -> Vec<T> {
        let Some(patience) = self.patience else {
            return Vec::new();
        };
        let overdue = self.let_go(|_, since| now.saturating_duration_since(since) >= patience);
        self.late(overdue.len());
        overdue
    }

    fn let_go(&mut self, may: impl Fn(u64, Instant) -> bool) -> Vec<T> {
        let held = self.held.iter();
        let count = held.take_while(|(batch, since, _)| may(*batch, *since));
        let count = count.count();
        self.held.drain(..count).map(|(_, _, one)| one).collect()
    }

    fn late(&self, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        let late = &self.shared.counts.late;
        late.fetch_add(count, Ordering::Relaxed);
    }
}

impl State {
    fn has_work(&self) -> bool {
        !self.pending.is_empty() || self.awaited
    }
}

impl Shared {
    /// State is whole whenever the lock is free.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, state: &mut State, key: (Table, Bytes), record: Option<Record>) {
        // Its keys are written once: what was not on its way to disk yet need not go there.
        if key.0 == Table::Outbox
            && record.is_none()
            && matches!(state.pending.get(&key), Some(Some(_)))
        {
            state.pending.remove(&key);
            return;
        }
        if state.pending.len() >= PENDING_MAX && !state.pending.contains_key(&key) {
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.pending.insert(key, record);
    }

    /// Waits for work, and for more of it if `before`, when many were committed last, is just now.
    /// None: there is none left, and no more will come.
    fn next(&self, before: Option<Instant>) -> Option<Batch> {
        let mut state = self.lock();
        while !state.has_work() && !state.closing {
            state.idle = true;
            state = self
                .wake
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.idle = false;
        let rest = match before {
            _ if state.behind => BEHIND,
            Some(before) => GATHER.saturating_sub(clock::now().saturating_duration_since(before)),
            None => Duration::ZERO,
        };
        if !rest.is_zero() && !state.closing {
            let wait = self
                .wake
                .wait_timeout_while(state, rest, |state| !state.closing);
            (state, _) = wait.unwrap_or_else(PoisonError::into_inner);
        }
        let batch = std::mem::take(&mut state.pending);
        state.taken += 1;
        state.awaited = false;
        (!batch.is_empty() || !state.closing).then_some(batch)
    }

    /// There was nothing in a batch, and nothing before it is yet to be written.
    fn passed(&self) {
        let taken = self.lock().taken;
        self.progress
            .send_modify(|progress| progress.written = taken);
    }

    /// A commit ended.
    fn done(&self, failing: Option<String>) {
        let mut state = self.lock();
        match (&failing, &state.failing) {
            (Some(why), None) => tracing::error!(why, "cannot write the store"),
            (None, Some(_)) => tracing::info!("the store is written again"),
            (Some(_), Some(_)) | (None, None) => {}
        }
        state.failing = failing;
        let (taken, failing) = (state.taken, state.failing.is_some());
        self.progress.send_modify(|progress| {
            progress.failing = failing;
            if !failing {
                progress.written = taken;
            }
        });
    }

    /// What could not be written waits, unless there is a newer word.
    fn put_back(&self, batch: Batch) -> bool {
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
fn write(shared: &Shared, file: File, path: &Path) {
    let mut file = Some(file);
    let mut before = None;
    while let Some(batch) = shared.next(before) {
        if batch.is_empty() {
            shared.passed();
            continue;
        }
        before = (batch.len() >= MANY).then(clock::now);
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
        shared.done(failing);
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
