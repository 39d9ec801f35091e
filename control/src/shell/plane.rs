//! The conference plane's task: one inbox, one plane, and those who do what it wants done.

mod hook;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::bus::{Access, Client};
use crate::effect::Kept;
use crate::plane::access::Rules;
use crate::plane::{BEYOND, Effect, Effects, Input, Order, Outcome, Plane, Settings};
use crate::shell::cascade::Links;
use crate::shell::clock;
use crate::shell::publish::Publisher;
use crate::shell::store::{Keeper, Write};

pub(crate) use hook::Hook;

/// Inputs that wait for the plane; beyond it whoever can wait does.
const INBOX_MAX: usize = 4096;

/// Where the plane is told what happens.
#[derive(Clone, Debug)]
pub(crate) struct Inbox {
    sender: mpsc::Sender<Input>,
    dropped: Arc<AtomicU64>,
}

/// What of it is not taken yet.
pub(crate) struct Mail(mpsc::Receiver<Input>);

/// Makes both ends, so that those who tell the plane and those it tells can be made in any order.
pub(crate) fn inbox() -> (Inbox, Mail) {
    let (sender, receiver) = mpsc::channel(INBOX_MAX);
    let inbox = Inbox {
        sender,
        dropped: Arc::default(),
    };
    (inbox, Mail(receiver))
}

impl Inbox {
    /// Waits for room. Once the daemon ends there is nobody to tell.
    pub(crate) async fn tell(&self, input: Input) {
        drop(self.sender.send(input).await);
    }

    /// For those who cannot wait: false, and counted, if there was no room.
    pub(crate) fn try_tell(&self, input: Input) -> bool {
        let told = self.sender.try_send(input).is_ok();
        if !told {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        told
    }

    /// Inputs there was no room for.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// What identities may do now, for those who ask at every message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<RwLock<Rules>>);

impl Gate {
    fn change(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Access for Gate {
    fn may_publish(&self, client: &Client, topic: &str) -> bool {
        let rules = self.0.read().unwrap_or_else(PoisonError::into_inner);
        rules.may_publish(client, topic)
    }

    fn may_read(&self, client: &Client, topic: &str) -> bool {
        let rules = self.0.read().unwrap_or_else(PoisonError::into_inner);
        rules.may_read(client, topic)
    }
}

/// Those who wait for what became of their orders.
type Waiting = Arc<Mutex<BTreeMap<u64, oneshot::Sender<Outcome>>>>;

/// The plane, for those who ask it something or want something of it.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) inbox: Inbox,
    pub(crate) hook: Hook,
    plane: Arc<Mutex<Plane>>,
    waiting: Waiting,
    tickets: Arc<AtomicU64>,
}

impl Handle {
    /// Held for as long as one question takes, and never across an `await`.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Plane> {
        self.plane.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// None: there is more to do than can wait.
    pub(crate) async fn order(&self, order: Order) -> Option<Outcome> {
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        let (sender, outcome) = oneshot::channel();
        self.waiting().insert(ticket, sender);
        if !self.inbox.try_tell(Input::Asked { ticket, order }) {
            self.waiting().remove(&ticket);
        }
        outcome.await.ok()
    }

    /// Another configuration.
    pub(crate) fn reconfigure(&self, config: &crate::config::Config) {
        self.hook.set(config.conference.view_hook.as_deref());
        let settings = Settings::of(config);
        if !self.inbox.try_tell(Input::Reconfigured(settings)) {
            tracing::warn!("the conference plane has too much to do to take the new configuration");
        }
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<u64, oneshot::Sender<Outcome>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, ticket: u64, outcome: Outcome) {
        if let Some(sender) = self.waiting().remove(&ticket) {
            // The client may have gone; nothing is owed to it then.
            drop(sender.send(outcome));
        }
    }
}

/// Those who do what the plane wants done.
pub(crate) struct Ends {
    pub(crate) gate: Gate,
    pub(crate) publisher: Publisher,
    pub(crate) links: Option<Links>,
    pub(crate) keeper: Keeper<Effect>,
}

/// Starts the task with what was kept; it ends when nobody can tell it anything any more.
pub(crate) fn start(
    plane: Plane,
    hook: Hook,
    (inbox, mail): (Inbox, Mail),
    ends: Ends,
    kept: Vec<Kept>,
) -> (Handle, JoinHandle<()>) {
    let handle = Handle {
        inbox,
        hook,
        plane: Arc::new(Mutex::new(plane)),
        waiting: Waiting::default(),
        tickets: Arc::default(),
    };
    let mut task = Task {
        handle: handle.clone(),
        ends,
    };
    // Before anybody can ask for it.
    task.handle(Input::Restored(kept));
    (handle, tokio::spawn(task.run(mail)))
}

struct Task {
    handle: Handle,
    ends: Ends,
}

impl Task {
    async fn run(mut self, Mail(mut mail): Mail) {
        loop {
            let next = self.handle.lock().next().map(Instant::from_std);
            tokio::select! {
                input = mail.recv() => match input {
                    Some(input) => self.handle(input),
                    None => return,
                },
                effects = self.ends.keeper.kept() => self.perform(effects),
                () = due(next) => self.handle(Input::Tick),
            }
        }
    }

    fn handle(&mut self, input: Input) {
        let mut effects = Effects::new();
        self.handle.lock().handle(input, clock::now(), &mut effects);
        let (mut writes, mut then): (Vec<Write>, Effects) = (Vec::new(), Effects::new());
        for effect in effects {
            if let Effect::Store { table, key, record } = effect {
                if !then.is_empty() {
                    self.keep(std::mem::take(&mut writes), std::mem::take(&mut then));
                }
                writes.push(((table, key), record));
            } else {
                then.push(effect);
            }
        }
        self.keep(writes, then);
    }

    /// What comes after something that is kept waits for that.
    fn keep(&mut self, writes: Vec<Write>, then: Effects) {
        let now = self.ends.keeper.write(writes, then);
        self.perform(now);
    }

    fn perform(&self, effects: Effects) {
        for effect in effects {
            match effect {
                Effect::Admit { cid, pid } => {
                    self.ends.gate.change(|rules| rules.admit(&cid, &pid));
                }
                Effect::Dismiss { cid, pid } => {
                    self.ends.gate.change(|rules| rules.dismiss(&cid, &pid));
                }
                Effect::Answer { ticket, outcome } => self.handle.answer(ticket, outcome),
                Effect::HandOver { cid, vid, document } => {
                    self.handle.hook.hand_over(cid, vid, document);
                }
                Effect::Publish(publication) => self.ends.publisher.publish(publication),
                Effect::Acknowledge { ticket, refused } => {
                    let Publisher { edge, outbox } = &self.ends.publisher;
                    if ticket & BEYOND != 0 {
                        outbox.acknowledge(ticket, refused);
                    } else {
                        edge.acknowledge(ticket, refused);
                    }
                }
                Effect::Frame { to, frame, expires } => {
                    if let Some(links) = &self.ends.links {
                        // What there is no room for is counted there.
                        links.send(&to, frame, expires);
                    }
                }
                Effect::Store { .. } => {}
            }
        }
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
