//! Who is connected, how many may be, and what became of those who were.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::connection::Carrier;
use super::tls::Tls;
use crate::config;
use crate::engine::flow::Why;
use crate::engine::input::Input;
use crate::id::{Listener, Path, Transport};
use crate::shell::device::Link;
use crate::shell::shard::Queues;

/// Connections without a valid message, of everybody and of one source.
const HALF_OPEN_MAX: usize = 1024;
const HALF_OPEN_PER_SOURCE_MAX: usize = 64;
/// Messages and bytes that wait to be written on one connection: a slow reader is cut off.
const QUEUE_MAX: usize = 256;
pub(super) const QUEUE_BYTES_MAX: usize = 1024 * 1024;

/// A line end answers a ping (RFC 5626 §4.4.1).
const PONG: Bytes = Bytes::from_static(b"\r\n");

/// Why somebody who connects is turned away at once.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Full {
    All,
    Source,
    HalfOpen,
}

impl Full {
    const ALL: [Self; 3] = [Self::All, Self::Source, Self::HalfOpen];

    fn word(self) -> &'static str {
        match self {
            Self::All => "connections",
            Self::Source => "connections_per_source",
            Self::HalfOpen => "half_open",
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum State {
    /// Without a valid message yet, or without an answer from a peer we dial.
    HalfOpen,
    Open,
    /// Over; the core is still to be told.
    Gone,
}

/// What became of a message for a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sent {
    Queued,
    /// There is no connection, or no longer.
    Nowhere,
    /// The connection we wanted did not come about, and nobody has been told yet.
    Failed,
}

/// What the tasks of all connections share.
pub(super) struct Shared {
    queues: Queues,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    lines: BTreeMap<Path, Line>,
    /// Of those that others made: all, and those half open.
    sources: HashMap<IpAddr, (usize, usize)>,
    accepted: usize,
    half_open: usize,
    next: u64,
    bounds: Option<config::Tcp>,
    tls: Option<Arc<Tls>>,
    counts: Counts,
}

struct Line {
    id: u64,
    state: State,
    /// It was open once.
    opened: bool,
    /// Made by us.
    dialled: bool,
    queue: mpsc::Sender<Bytes>,
    waiting: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<Why>>,
}

/// For metrics.
#[derive(Clone, Debug, Default)]
struct Counts {
    opened: BTreeMap<(Transport, &'static str), u64>,
    refused: BTreeMap<Full, u64>,
    closed: BTreeMap<Why, u64>,
    pings: u64,
}

/// The table as metrics show it.
pub(crate) struct View {
    /// Transport, state, how many.
    pub(crate) now: Vec<(&'static str, &'static str, u64)>,
    /// Transport, by whom, how many since the start.
    pub(crate) opened: Vec<(&'static str, &'static str, u64)>,
    pub(crate) refused: Vec<(&'static str, u64)>,
    pub(crate) closed: Vec<(&'static str, u64)>,
    pub(crate) pings: u64,
}

impl Shared {
    pub(super) fn new(queues: Queues) -> Self {
        Self {
            queues,
            table: Mutex::default(),
        }
    }

    pub(super) fn configure(&self, bounds: config::Tcp, tls: Option<Arc<Tls>>) {
        let mut table = self.table();
        table.bounds = Some(bounds);
        table.tls = tls;
    }

    /// Makes room for somebody who connects, if there is some.
    pub(super) fn admit(self: &Arc<Self>, path: Path) -> Option<Carrier> {
        let mut table = self.table();
        if let Err(full) = table.room_for(path.to.ip()) {
            let refused = table.counts.refused.entry(full).or_default();
            *refused = refused.saturating_add(1);
            let (on, from) = (path.on, path.to);
            tracing::debug!(%on, %from, why = full.word(), "a connection is refused");
            return None;
        }
        let source = table.sources.entry(path.to.ip()).or_default();
        *source = (source.0 + 1, source.1 + 1);
        table.accepted += 1;
        table.half_open += 1;
        Some(table.insert(self, path, false))
    }

    /// Connects to a peer; nothing happens if we are, or try to be, already.
    pub(super) fn dial(self: &Arc<Self>, path: Path, name: Option<String>, link: Option<Link>) {
        let mut table = self.table();
        let there = table.lines.get(&path);
        if there.is_some_and(|line| line.state != State::Gone) {
            return;
        }
        let carrier = table.insert(self, path, true);
        drop(table);
        tokio::spawn(carrier.dial(name, link));
    }

    pub(super) fn queue(&self, path: Path, bytes: Bytes) -> Sent {
        let mut table = self.table();
        let Some(line) = table.lines.get_mut(&path) else {
            return Sent::Nowhere;
        };
        if line.state == State::Gone {
            // Whoever ends it tells all that it is over.
            return if line.opened {
                Sent::Nowhere
            } else {
                Sent::Failed
            };
        }
        let length = bytes.len().min(QUEUE_BYTES_MAX);
        let waiting = line.waiting.fetch_add(length, Ordering::Relaxed);
        let room = waiting + length <= QUEUE_BYTES_MAX;
        if (!room || line.queue.try_send(bytes).is_err())
            && let Some(stop) = line.stop.take()
        {
            end(stop, Why::SlowReader);
        }
        Sent::Queued
    }

    pub(super) fn pong(&self, path: Path) {
        self.queue(path, PONG);
        let mut table = self.table();
        table.counts.pings = table.counts.pings.saturating_add(1);
    }

    pub(super) fn set(&self, path: Path, id: u64, state: State) {
        self.table().set(path, id, state);
    }

    pub(super) fn state(&self, path: Path, id: u64) -> Option<State> {
        let table = self.table();
        let line = table.lines.get(&path).filter(|line| line.id == id)?;
        Some(line.state)
    }

    /// A connection's task is done: whoever used it is told.
    pub(super) async fn end(&self, path: Path, id: u64, why: Why) {
        let told = self.table().end(path, id, why);
        if told && self.forget(path, id) {
            self.queues.tell_all(&Input::Closed(path)).await;
        }
    }

    /// Whether those who used a connection are to be told that it is over: they are told once.
    fn forget(&self, path: Path, id: u64) -> bool {
        let mut table = self.table();
        let same = table.lines.get(&path).is_some_and(|line| line.id == id);
        same && table.lines.remove(&path).is_some()
    }

    /// Ends every connection of a listener.
    pub(super) fn withdraw(&self, on: Listener) {
        let mut table = self.table();
        let lines = table.lines.iter_mut();
        for (_, line) in lines.filter(|(path, _)| path.on == on) {
            if let Some(stop) = line.stop.take() {
                end(stop, Why::Withdrawn);
            }
        }
    }

    pub(super) fn tls(&self) -> Option<Arc<Tls>> {
        self.table().tls.clone()
    }

    pub(super) fn idle(&self) -> Duration {
        let table = self.table();
        table.bounds.as_ref().map_or(Duration::MAX / 4, |b| b.idle)
    }

    /// It can be used: every shard knows before its first message is read.
    pub(super) async fn connected(&self, path: Path) {
        self.queues.tell_all(&Input::Connected(path)).await;
    }

    /// Waits for room in the queue of the message's shard: the connection waits with it.
    pub(super) async fn received(&self, path: Path, bytes: Bytes) {
        self.queues.message(path.on, path.to, bytes).await;
    }

    pub(super) fn view(&self) -> View {
        self.table().view()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn end(stop: oneshot::Sender<Why>, why: Why) {
    if stop.send(why).is_err() {
        tracing::trace!(why = why.word(), "it had ended by itself");
    }
}

impl Table {
    fn room_for(&self, source: IpAddr) -> Result<(), Full> {
        let (mine, half_open) = self.sources.get(&source).copied().unwrap_or_default();
        let Some(bounds) = &self.bounds else {
            return Err(Full::All);
        };
        if self.accepted >= bounds.connections {
            Err(Full::All)
        } else if mine >= bounds.connections_per_source {
            Err(Full::Source)
        } else if self.half_open >= HALF_OPEN_MAX || half_open >= HALF_OPEN_PER_SOURCE_MAX {
            Err(Full::HalfOpen)
        } else {
            Ok(())
        }
    }

    fn insert(&mut self, shared: &Arc<Shared>, path: Path, dialled: bool) -> Carrier {
        let id = self.next;
        self.next = id.wrapping_add(1);
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        let (stop, stopped) = oneshot::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let line = Line {
            id,
            state: State::HalfOpen,
            opened: false,
            dialled,
            queue: sender,
            waiting: waiting.clone(),
            stop: Some(stop),
        };
        // A new connection of the same addresses: the old one is over, whether or not its task has
        // seen it.
        self.end_now(path);
        self.lines.insert(path, line);
        let side = if dialled { "dialled" } else { "accepted" };
        let opened = self.counts.opened.entry((path.on.transport, side));
        let opened = opened.or_default();
        *opened = opened.saturating_add(1);
        Carrier {
            shared: shared.clone(),
            path,
            id,
            queue,
            waiting,
            stop: stopped,
        }
    }

    fn set(&mut self, path: Path, id: u64, state: State) {
        let line = self.lines.get_mut(&path).filter(|line| line.id == id);
        let Some(line) = line else { return };
        if line.state == State::HalfOpen && !line.dialled {
            self.half_open = self.half_open.saturating_sub(1);
            if let Some((_, half_open)) = self.sources.get_mut(&path.to.ip()) {
                *half_open = half_open.saturating_sub(1);
            }
        }
        line.state = state;
        line.opened |= state == State::Open;
    }

    /// Whether the core knows of it and must be told.
    fn end(&mut self, path: Path, id: u64, why: Why) -> bool {
        let closed = self.counts.closed.entry(why).or_default();
        *closed = closed.saturating_add(1);
        let line = self.lines.get(&path).filter(|line| line.id == id);
        let Some(line) = line else { return false };
        let known = line.dialled || line.state == State::Open;
        self.end_now(path);
        if !known {
            self.lines.remove(&path);
        }
        known
    }

    /// It no longer counts.
    fn end_now(&mut self, path: Path) {
        let Some(line) = self.lines.get(&path) else {
            return;
        };
        let (id, dialled, state) = (line.id, line.dialled, line.state);
        self.set(path, id, State::Gone);
        if !dialled && state != State::Gone {
            self.accepted = self.accepted.saturating_sub(1);
            let source = path.to.ip();
            if let Some((all, _)) = self.sources.get_mut(&source) {
                *all = all.saturating_sub(1);
                if *all == 0 {
                    self.sources.remove(&source);
                }
            }
        }
    }

    fn view(&self) -> View {
        let streams = [Transport::Tcp, Transport::Tls];
        let states = [(State::HalfOpen, "half_open"), (State::Open, "open")];
        let mut now = Vec::new();
        for transport in streams {
            for (state, word) in states {
                let lines = self.lines.iter();
                let these = lines
                    .filter(|(path, line)| path.on.transport == transport && line.state == state);
                let count = u64::try_from(these.count()).unwrap_or(u64::MAX);
                now.push((transport.word(), word, count));
            }
        }
        let sides = ["accepted", "dialled"];
        let each = streams
            .into_iter()
            .flat_map(|t| sides.map(|side| (t, side)));
        let opened = each.map(|(transport, side)| {
            let count = self.counts.opened.get(&(transport, side));
            (transport.word(), side, count.copied().unwrap_or(0))
        });
        let refused = Full::ALL.map(|full| {
            let count = self.counts.refused.get(&full).copied();
            (full.word(), count.unwrap_or(0))
        });
        let closed = Why::ALL.map(|why| {
            let count = self.counts.closed.get(&why).copied();
            (why.word(), count.unwrap_or(0))
        });
        View {
            now,
            opened: opened.collect(),
            refused: refused.to_vec(),
            closed: closed.to_vec(),
            pings: self.counts.pings,
        }
    }
}
