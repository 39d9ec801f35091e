//! The link to the broker behind us (`mqtt.mode = "external"`): whoever has something for it leaves
//! it in the outbox, under one lock; a task of its own keeps a connection and empties it.

mod client;
mod session;
pub(crate) mod trip;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::bus::Publication;
use crate::config::broker::Broker;
use crate::effect::{Kept, Record, Table};
use crate::engine::event::Kind;
use crate::outbox::backoff::Backoff;
use crate::outbox::{self, Counts, Effect, Effects, Full, Limits};
use crate::shell::clock;
use crate::shell::plane::Inbox;
use crate::shell::store::Keeper;

pub(crate) use client::Settings;

/// What the store knows the link by: there is one.
const LINK: &str = "broker";
/// Messages submitted and not acknowledged; the broker may take fewer.
const WINDOW: u16 = 100;
/// How long the last word may take at the daemon's end.
const CLOSING: Duration = Duration::from_secs(1);

/// The near end of the link, for all who have something for the broker.
#[derive(Clone)]
pub(crate) struct Outbox(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// There is something for the link's task.
    wake: Notify,
}

struct State {
    outbox: outbox::Outbox,
    keeper: Keeper<()>,
    /// None: there is no broker behind us.
    settings: Option<Arc<Settings>>,
    /// Grows with `settings`.
    generation: u64,
    /// For the client, in order.
    submits: VecDeque<Publication>,
    /// Answers of the plane to what came from the broker.
    answers: VecDeque<(u64, Option<&'static str>)>,
    /// The retained word about this server, said anew on each connection.
    standing: Option<Publication>,
    link: Link,
    /// What happened to the link and has not been told yet.
    news: VecDeque<News>,
    closing: bool,
    task: Option<JoinHandle<()>>,
}

/// How the link is.
#[derive(Clone, Debug)]
pub(crate) enum Link {
    Up {
        since: Instant,
        /// The broker refused us this filter, or nothing.
        refused: Option<String>,
    },
    Down {
        since: Instant,
        why: String,
    },
}

/// The link came up or went down.
#[derive(Clone, Debug)]
pub(crate) struct News {
    pub(crate) at: Instant,
    pub(crate) broker: String,
    /// None: it is up.
    pub(crate) down: Option<String>,
}

impl News {
    pub(crate) fn event(&self) -> (Kind, Vec<(&'static str, String)>) {
        match &self.down {
            None => (Kind::BrokerUp, Vec::new()),
            Some(why) => (Kind::BrokerDown, vec![("why", why.clone())]),
        }
    }
}

/// News nobody asked for; older ones are forgotten.
const NEWS_MAX: usize = 64;

/// What there is to see.
pub(crate) struct View {
    pub(crate) broker: String,
    pub(crate) link: Link,
    pub(crate) depth: usize,
    pub(crate) bytes: usize,
    pub(crate) oldest: Duration,
    pub(crate) counts: Counts,
}

impl Outbox {
    /// Takes in what was kept, and starts the link's task.
    pub(crate) fn start(limits: Limits, keeper: Keeper<()>, kept: Vec<Kept>, inbox: Inbox) -> Self {
        let mut outbox = outbox::Outbox::new(limits);
        let mut writes = Vec::new();
        for Kept { key, record, .. } in kept {
            let read = id_of(&key).is_some_and(|id| outbox.restore(id, &record.bytes, record.at));
            if !read {
                tracing::warn!("a message of an earlier run cannot be read, and is given up");
                writes.push(((Table::Outbox, key), None));
            }
        }
        if !outbox.is_empty() {
            tracing::info!(
                messages = outbox.len(),
                "messages of before the start go on"
            );
        }
        let mut state = State {
            outbox,
            keeper,
            settings: None,
            generation: 0,
            submits: VecDeque::new(),
            answers: VecDeque::new(),
            standing: None,
            link: Link::Down {
                since: clock::now(),
                why: "it has not been tried yet".to_owned(),
            },
            news: VecDeque::new(),
            closing: false,
            task: None,
        };
        state.keeper.write(writes, Vec::new());
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            wake: Notify::new(),
        });
        let task = tokio::spawn(run(shared.clone(), inbox));
        shared.lock().task = Some(task);
        Self(shared)
    }

    /// Takes another configuration's broker; none: there is none.
    pub(crate) fn configure(&self, limits: Limits, settings: Option<Settings>) {
        let mut state = self.0.lock();
        state.outbox.limit(limits);
        if state.settings.as_deref() == settings.as_ref() {
            return;
        }
        state.settings = settings.map(Arc::new);
        state.generation += 1;
        drop(state);
        self.0.wake.notify_one();
    }

    /// Leaves a message for the broker. It is kept, and its record is on disk no later than what is
    /// given to a `Keeper` after this returns.
    ///
    /// # Errors
    /// There is no room. It is counted; who published it is to be told.
    pub(crate) fn push(&self, publication: Publication) -> Result<(), Full> {
        let mut state = self.0.lock();
        if state.settings.is_none() {
            return Ok(());
        }
        let done = state.push(publication);
        drop(state);
        self.0.wake.notify_one();
        done
    }

    /// Says how this server is: now, and whenever a connection begins.
    pub(crate) fn announce(&self, state_now: Publication) {
        let mut state = self.0.lock();
        if state.standing.as_ref() == Some(&state_now) {
            return;
        }
        let up = matches!(state.link, Link::Up { .. });
        state.standing = Some(state_now.clone());
        if up && state.push(state_now).is_err() {
            tracing::debug!("no room for the server's state; the next connection gets it");
        }
        drop(state);
        self.0.wake.notify_one();
    }

    /// What came from the broker is accepted, or not: it is acknowledged either way.
    pub(crate) fn acknowledge(&self, ticket: u64, refused: Option<&'static str>) {
        self.0.lock().answers.push_back((ticket, refused));
        self.0.wake.notify_one();
    }

    /// None: there is no broker behind us.
    pub(crate) fn view(&self, now: Instant) -> Option<View> {
        let state = self.0.lock();
        let settings = state.settings.as_ref()?;
        Some(View {
            broker: settings.to_string(),
            link: state.link.clone(),
            depth: state.outbox.len(),
            bytes: state.outbox.bytes(),
            oldest: state.outbox.oldest(now),
            counts: state.outbox.counts().clone(),
        })
    }

    /// What happened to the link since the last time.
    pub(crate) fn news(&self) -> Vec<News> {
        self.0.lock().news.drain(..).collect()
    }

    /// Says the last word, and ends the link's task.
    pub(crate) async fn close(&self) {
        let task = {
            let mut state = self.0.lock();
            state.closing = true;
            state.task.take()
        };
        self.0.wake.notify_one();
        if let Some(mut task) = task
            && tokio::time::timeout(CLOSING * 2, &mut task).await.is_err()
        {
            task.abort();
        }
    }
}

/// What may wait, as it is configured.
pub(crate) fn limits(broker: &Broker) -> Limits {
    Limits {
        messages: broker.outbox_messages,
        bytes: broker.outbox_bytes,
        window: WINDOW,
    }
}

impl Shared {
    /// State is whole whenever the lock is free.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, publication: Publication) -> Result<(), Full> {
        let now = clock::now();
        let mut effects = Effects::new();
        let done = self.outbox.push(publication, now, &mut effects);
        self.perform(effects, now);
        done
    }

    /// Has the outbox told of something, and does what it wants done.
    fn tell<T>(&mut self, told: impl FnOnce(&mut outbox::Outbox, Instant, &mut Effects) -> T) -> T {
        let now = clock::now();
        let mut effects = Effects::new();
        let answer = told(&mut self.outbox, now, &mut effects);
        self.perform(effects, now);
        answer
    }

    fn perform(&mut self, effects: Effects, now: Instant) {
        let mut writes = Vec::new();
        for effect in effects {
            match effect {
                Effect::Keep { id, record } => {
                    let record = record.map(|bytes| Record { at: now, bytes });
                    writes.push(((Table::Outbox, key_of(id)), record));
                }
                Effect::Submit(publication) => self.submits.push_back(publication),
                Effect::GiveUp { topic, why } => {
                    let why = why.name();
                    tracing::debug!(topic, why, "a message for the broker is given up");
                }
            }
        }
        if !writes.is_empty() {
            self.keeper.write(writes, Vec::new());
        }
    }

    fn up(&mut self, broker: String) {
        let since = clock::now();
        tracing::info!(broker, waiting = self.outbox.len(), "the broker is reached");
        self.link = Link::Up {
            since,
            refused: None,
        };
        self.note(News {
            at: since,
            broker,
            down: None,
        });
    }

    /// News only if it was up, or was never tried: each attempt that fails says nothing new.
    fn down(&mut self, broker: String, why: String) {
        self.outbox.disconnected();
        self.submits.clear();
        self.answers.clear();
        let now = clock::now();
        let since = match &self.link {
            Link::Down { since, why: last } if *last == why => *since,
            Link::Down { since, .. } => {
                tracing::warn!(broker, why, "the broker is not reached");
                *since
            }
            Link::Up { .. } => {
                tracing::warn!(broker, why, "the broker is lost");
                let down = Some(why.clone());
                let at = now;
                self.note(News { at, broker, down });
                now
            }
        };
        self.link = Link::Down { since, why };
    }

    fn note(&mut self, news: News) {
        if self.news.len() >= NEWS_MAX {
            self.news.pop_front();
        }
        self.news.push_back(news);
    }
}

/// The link's life: one connection after the other.
async fn run(shared: Arc<Shared>, inbox: Inbox) {
    let mut backoff = Backoff::default();
    let mut tickets = crate::plane::BEYOND;
    loop {
        let (settings, generation, closing) = {
            let state = shared.lock();
            (state.settings.clone(), state.generation, state.closing)
        };
        if closing {
            return;
        }
        let Some(settings) = settings else {
            shared.wake.notified().await;
            continue;
        };
        let broker = settings.to_string();
        let mut session = session::Session::new(&shared, &inbox, &settings, generation);
        let ended = session.run(&mut tickets, &mut backoff).await;
        let why = match ended {
            session::Ended::Closed => return,
            session::Ended::Reconfigured => {
                let why = "another configuration is in force".to_owned();
                shared.lock().down(broker, why);
                continue;
            }
            session::Ended::Lost(why) => why,
        };
        shared.lock().down(broker, why);
        let random = clock::random();
        let random = random.first_chunk().copied().map_or(0, u64::from_be_bytes);
        let wait = backoff.next(random);
        wait_for(&shared, generation, wait).await;
    }
}

/// Until the time is over, unless there is another configuration or the daemon ends.
async fn wait_for(shared: &Shared, generation: u64, wait: Duration) {
    let until = clock::now() + wait;
    loop {
        let timeout = {
            let mut state = shared.lock();
            state.tell(|outbox, now, effects| outbox.expire(now, effects));
            if state.closing || state.generation != generation {
                return;
            }
            state
                .outbox
                .next_timeout()
                .map_or(until, |at| at.min(until))
        };
        tokio::select! {
            () = tokio::time::sleep_until(timeout.into()) => {}
            () = shared.wake.notified() => {}
        }
        if clock::now() >= until {
            return;
        }
    }
}

fn key_of(id: u64) -> Bytes {
    [LINK.as_bytes(), b"/", &id.to_be_bytes()].concat().into()
}

fn id_of(key: &[u8]) -> Option<u64> {
    let id = key.strip_prefix(LINK.as_bytes())?.strip_prefix(b"/")?;
    id.try_into().ok().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests;
