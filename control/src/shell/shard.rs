//! One task for each engine. It does itself what needs nobody else: messages leave from here. What
//! concerns media goes to the one who owns the datapath, in order.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::effect::{Effect, Effects};
use crate::engine::Engine;
use crate::engine::input::Input;
use crate::engine::shard::Shards;
use crate::engine::trace::Direction;
use crate::id::{Listener, Path, Shard};
use crate::shell::media::Marks;
use crate::shell::sip::Sent;
use crate::shell::store::{Keeper, SIP_WAITS, Store};
use crate::shell::{Event, clock, log, sip};

/// Events that wait for one shard; beyond it datagrams and stray media are dropped.
const EVENTS_MAX: usize = 4096;
/// Events that wait, beyond which no new calls are taken: about as many as are handled before a
/// sender repeats itself (T1, RFC 3261 §17.1.1.1).
const EVENTS_OVERLOAD: usize = EVENTS_MAX / 2;
/// Events of one shard that are handled before it looks at its timers again.
const EVENTS_AT_ONCE: usize = 32;
/// Pieces of work that wait for the owner of the datapath; beyond it shards wait.
const WORK_MAX: usize = 1024;

/// Where events wait, each for the shard it belongs to.
#[derive(Clone)]
pub(crate) struct Queues {
    whose: Shards,
    queues: Arc<[mpsc::Sender<Event>]>,
    /// Datagrams nobody had time for.
    dropped: Arc<AtomicU64>,
    /// An engine has noted something.
    noted: Arc<Notify>,
}

impl Queues {
    pub(super) fn new(whose: Shards) -> (Self, Vec<mpsc::Receiver<Event>>) {
        let shards = Shard::all(whose.count());
        let (queues, receivers): (Vec<_>, _) = shards.map(|_| mpsc::channel(EVENTS_MAX)).unzip();
        let queues = Self::of(whose, queues);
        (queues, receivers)
    }

    pub(super) fn of(whose: Shards, queues: Vec<mpsc::Sender<Event>>) -> Self {
        Self {
            whose,
            queues: queues.into(),
            dropped: Arc::default(),
            noted: Arc::default(),
        }
    }

    /// Notified when there is something new in `Engine::events`.
    pub(super) fn noted(&self) -> Arc<Notify> {
        self.noted.clone()
    }

    /// Hands on what a socket received. A full queue drops it, as the socket's own buffer would:
    /// one shard that has too much to do does not hold up the others, and SIP repeats. False: there
    /// is nobody any more.
    pub(crate) fn datagram(&self, on: Listener, from: SocketAddr, bytes: Bytes) -> bool {
        let Some(queue) = self.queues.get(self.whose.of(&bytes)) else {
            return false;
        };
        match queue.try_send(Event::Sip { on, from, bytes }) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }

    /// The same for a message of a stream, which waits.
    pub(crate) async fn message(&self, on: Listener, from: SocketAddr, bytes: Bytes) {
        if let Some(queue) = self.queues.get(self.whose.of(&bytes)) {
            // At the daemon's end there is nobody to tell.
            drop(queue.send(Event::Sip { on, from, bytes }).await);
        }
    }

    /// Something that every shard must know, behind all that it was told before.
    pub(crate) async fn tell_all(&self, input: &Input) {
        for queue in self.queues.iter() {
            drop(queue.send(Event::Told(input.clone())).await);
        }
    }

    /// The queue of the shard that has a media port; none once they are gone.
    pub(crate) fn of_port(&self, port: u16) -> Option<&mpsc::Sender<Event>> {
        let mut all = Shard::all(self.whose.count()).zip(self.queues.iter());
        all.find(|(shard, _)| shard.owns_port(port))
            .map(|(_, queue)| queue)
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// How many events wait for each shard.
    pub(crate) fn depths(&self) -> impl Iterator<Item = usize> {
        let queues = self.queues.iter();
        queues.map(|queue| queue.max_capacity() - queue.capacity())
    }
}

/// What a shard leaves to the owner of the datapath.
pub(super) enum Work {
    /// In order. Whoever must know is told the addresses that could not be opened.
    Media {
        effects: Effects,
        failed: Option<oneshot::Sender<Vec<SocketAddr>>>,
    },
    /// The packet that taught a latch is media too.
    Taught {
        at: SocketAddr,
        from: SocketAddr,
        marks: Marks,
        packet: Bytes,
    },
}

/// An engine, for its own task and for those who ask it something. What it wants done is left
/// beside it and done by its task alone, so that it is done in order.
pub(super) struct Slot {
    state: Mutex<State>,
    left: Notify,
}

pub(super) struct State {
    pub(super) engine: Engine,
    pub(super) effects: Effects,
}

impl Slot {
    pub(super) fn new(engine: Engine) -> Self {
        Self {
            state: Mutex::new(State {
                engine,
                effects: Effects::new(),
            }),
            left: Notify::new(),
        }
    }

    /// Held for as long as one question or one event takes, and never across an `await`.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be done now.
    fn take(&self) -> Effects {
        let mut state = self.lock();
        let effects = std::mem::take(&mut state.effects);
        if !effects.is_empty() {
            state.engine.trace(&effects, clock::now());
        }
        effects
    }

    /// There may be something to do, or another time-out.
    pub(super) fn wake(&self) {
        self.left.notify_one();
    }
}

/// Starts a task for each engine with its events. Returned beside them is what they leave to the
/// owner of the datapath.
pub(super) fn start<'s>(
    shards: impl Iterator<Item = (&'s Arc<Slot>, mpsc::Receiver<Event>)>,
    queues: &Queues,
    sip: &Arc<sip::Out>,
    store: &Store,
) -> (JoinSet<()>, mpsc::Receiver<Work>) {
    let (work, works) = mpsc::channel(WORK_MAX);
    let mut tasks = JoinSet::new();
    for (shard, (slot, events)) in shards.enumerate() {
        let worker = Worker {
            shard,
            slot: slot.clone(),
            events,
            queues: queues.clone(),
            sip: sip.clone(),
            work: work.clone(),
            keeper: store.keeper(Some(SIP_WAITS)),
            last_event: 0,
        };
        tasks.spawn(worker.run());
    }
    (tasks, works)
}

/// The task.
struct Worker {
    /// Its index.
    shard: usize,
    slot: Arc<Slot>,
    events: mpsc::Receiver<Event>,
    queues: Queues,
    sip: Arc<sip::Out>,
    work: mpsc::Sender<Work>,
    keeper: Keeper<Effect>,
    /// Its number.
    last_event: u64,
}

impl Worker {
    /// Runs until nobody has anything for it.
    async fn run(mut self) {
        loop {
            let timeout = Instant::from_std(self.slot.lock().engine.next_timeout());
            let mut kept = Effects::new();
            let event = tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => Some(event),
                    None => return,
                },
                () = self.slot.left.notified() => None,
                effects = self.keeper.kept() => {
                    kept = effects;
                    None
                }
                () = sleep_until(timeout) => {
                    kept = self.expire(clock::now());
                    None
                }
            };
            self.turn(event, kept).await;
            // What has come meanwhile needs neither a timer nor a look at everything else.
            for _ in 1..EVENTS_AT_ONCE {
                let Ok(event) = self.events.try_recv() else {
                    break;
                };
                self.turn(Some(event), Effects::new()).await;
            }
        }
    }

    /// One event and what follows from it; `kept` need not wait any more.
    async fn turn(&mut self, event: Option<Event>, kept: Effects) {
        let taught = event.and_then(|event| self.event(event));
        let last_event = self.slot.lock().engine.last_event();
        if last_event != self.last_event {
            self.last_event = last_event;
            self.queues.noted.notify_one();
        }
        self.release(kept).await;
        self.perform().await;
        if let Some(taught) = taught {
            self.leave(taught).await;
        }
    }

    /// Returns what is to be done after the effects.
    fn event(&self, event: Event) -> Option<Work> {
        match event {
            Event::Sip { on, from, bytes } => {
                let path = Path { on, to: from };
                self.sip.copies.copy(Direction::In, path, &bytes);
                let overloaded = self.events.len() > EVENTS_OVERLOAD;
                let mut state = self.slot.lock();
                let State { engine, effects } = &mut *state;
                engine.set_overloaded(overloaded);
                engine.handle(Input::Sip { on, from, bytes }, clock::now(), effects);
                None
            }
            Event::Told(input) => {
                self.handle(input);
                None
            }
            Event::Unclaimed {
                at,
                from,
                marks,
                packet,
            } => {
                let shown = packet.clone();
                self.handle(Input::Media {
                    at,
                    from,
                    packet: shown,
                });
                Some(Work::Taught {
                    at,
                    from,
                    marks,
                    packet,
                })
            }
        }
    }

    /// Time passed. Returned are messages that have waited long enough for the disk.
    fn expire(&mut self, now: std::time::Instant) -> Effects {
        let mut state = self.slot.lock();
        let State { engine, effects } = &mut *state;
        engine.expire(now, effects);
        drop(state);
        self.keeper.overdue(now)
    }

    fn handle(&self, input: Input) {
        let mut state = self.slot.lock();
        let State { engine, effects } = &mut *state;
        engine.handle(input, clock::now(), effects);
    }

    /// In order; what fails comes back as input.
    async fn perform(&mut self) {
        loop {
            let effects = self.slot.take();
            if effects.is_empty() {
                return;
            }
            let mut media = Effects::new();
            let (mut writes, mut then) = (Vec::new(), Effects::new());
            for effect in effects {
                match effect {
                    Effect::Store { table, key, record } => writes.push(((table, key), record)),
                    Effect::Send { .. } if !writes.is_empty() => then.push(effect),
                    Effect::Send { on, to, bytes } => {
                        self.media(&mut media).await;
                        self.send(Path { on, to }, bytes).await;
                    }
                    Effect::Dial { on, to, name } => self.sip.dial(Path { on, to }, name),
                    Effect::Publish { aor } => {
                        let bindings = self.slot.lock().engine.bindings(&aor);
                        for other in self.queues.queues.iter().skip(1) {
                            let (aor, bindings) = (aor.clone(), bindings.clone());
                            let told = Event::Told(Input::Published { aor, bindings });
                            // It is gone when all are.
                            drop(other.send(told).await);
                        }
                    }
                    Effect::Ban { net, account, why } => {
                        self.tell_others(&Input::Banned { net, account, why });
                    }
                    Effect::Peer { address, sign } => {
                        self.tell_others(&Input::Peer { address, sign });
                    }
                    Effect::Spent(spent) => self.tell_others(&Input::Spent(spent)),
                    Effect::Record(record) => log::call(&record),
                    Effect::Open { .. }
                    | Effect::Close { .. }
                    | Effect::Install { .. }
                    | Effect::Remove { .. }
                    | Effect::KeepAlive { .. }
                    | Effect::Forward { .. }
                    | Effect::Listen { .. }
                    | Effect::Unlisten { .. } => media.push(effect),
                }
            }
            self.media(&mut media).await;
            let now = match writes.is_empty() {
                true => then,
                false => self.keeper.write(writes, then),
            };
            self.release(now).await;
        }
    }

    /// Sends what waited until something was kept.
    async fn release(&self, kept: Effects) {
        for effect in kept {
            if let Effect::Send { on, to, bytes } = effect {
                self.send(Path { on, to }, bytes).await;
            }
        }
    }

    fn tell_others(&self, input: &Input) {
        let (its, queues) = (self.shard, self.queues.queues.iter().enumerate());
        for (_, other) in queues.filter(|(index, _)| *index != its) {
            // One that has too much to do finds out for itself.
            drop(other.try_send(Event::Told(input.clone())));
        }
    }

    /// What found no connection is the core's again.
    async fn send(&self, path: Path, bytes: Bytes) {
        self.sip.copies.copy(Direction::Out, path, &bytes);
        match self.sip.send(path.on, path.to, &bytes).await {
            Sent::Queued => {}
            Sent::Nowhere => self.handle(Input::Unsent { path, bytes }),
            Sent::Failed => self.handle(Input::Closed(path)),
        }
    }

    /// Leaves what has come together to the owner of the datapath. A port is open before anybody is
    /// told of it.
    async fn media(&self, effects: &mut Effects) {
        if effects.is_empty() {
            return;
        }
        let effects = std::mem::take(effects);
        let opens = |e: &Effect| matches!(e, Effect::Open { .. } | Effect::Listen { .. });
        let opens = effects.iter().any(opens);
        let (failed, answer) = oneshot::channel();
        let failed = opens.then_some(failed);
        self.leave(Work::Media { effects, failed }).await;
        if opens {
            for at in answer.await.unwrap_or_default() {
                self.handle(Input::OpenFailed { at });
            }
        }
    }

    async fn leave(&self, work: Work) {
        // The owner is gone when the daemon ends.
        drop(self.work.send(work).await);
    }
}
