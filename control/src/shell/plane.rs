//! The conference plane's task: one inbox, one plane, and those who do what it wants done.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::bus::{Access, Client};
use crate::plane::access::Rules;
use crate::plane::{Effect, Effects, Input, Plane};
use crate::shell::clock;

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
    #[allow(dead_code, reason = "for those who bring what cannot be lost")]
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

/// Those who do what the plane wants done.
pub(crate) struct Ends {
    pub(crate) gate: Gate,
}

/// Starts the task; it ends when nobody can tell it anything any more.
pub(crate) fn start(plane: Plane, mail: Mail, ends: Ends) -> JoinHandle<()> {
    tokio::spawn(run(plane, mail, ends))
}

async fn run(mut plane: Plane, Mail(mut mail): Mail, ends: Ends) {
    loop {
        let next = plane.next().map(Instant::from_std);
        let input = tokio::select! {
            input = mail.recv() => match input {
                Some(input) => input,
                None => return,
            },
            () = due(next) => Input::Tick,
        };
        let mut effects = Effects::new();
        plane.handle(input, clock::now(), &mut effects);
        for effect in effects {
            perform(effect, &ends);
        }
    }
}

fn perform(effect: Effect, ends: &Ends) {
    match effect {
        Effect::Admit { cid, pid } => ends.gate.change(|rules| rules.admit(&cid, &pid)),
        Effect::Dismiss { cid, pid } => ends.gate.change(|rules| rules.dismiss(&cid, &pid)),
        Effect::Publish(_)
        | Effect::Acknowledge { .. }
        | Effect::Frame { .. }
        | Effect::Store { .. }
        | Effect::HandOver { .. } => {}
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
