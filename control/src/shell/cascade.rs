//! Links to other servers. The lower one dials (`dial`), the upper one listens (`listen`); frames
//! go up in requests and come down in one answer that does not end. What is put in comes out in
//! order and once (`cascade::link`), whatever becomes of connections.

pub(crate) mod client;
mod dial;
mod line;
mod listen;
pub(crate) mod tls;
pub(crate) mod trip;
mod who;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::cascade::link::Link;
use crate::config::{Cascade as Settings, Config};
use crate::engine::event::{Event, Kind};
use crate::plane::Input;
use crate::shell::clock;
use crate::shell::plane::Inbox;

use client::Remote;
use line::Line;

/// How often each side says that it is there; also measures the way.
const PING_EVERY: Duration = Duration::from_secs(5);
/// Nothing heard for so long: the link is down.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// Events that wait to be fetched.
const EVENTS_MAX: usize = 256;

/// The links of this server. Clones are the same.
#[derive(Clone)]
pub(crate) struct Links(Arc<Shared>);

struct Shared {
    own: String,
    boot: u64,
    settings: Settings,
    inbox: Inbox,
    state: Mutex<State>,
    /// The way to the upper server.
    remote: Option<Remote>,
    /// Ask at once instead of in a while.
    hurry: Notify,
}

#[derive(Default)]
struct State {
    neighbours: BTreeMap<String, Neighbour>,
    /// The upper server's id, once it has said it.
    upper: Option<String>,
    /// Why there is no link to it.
    why: Option<String>,
    refused: BTreeMap<&'static str, u64>,
    events: Vec<Event>,
}

struct Neighbour {
    link: Link,
    side: Side,
    up: bool,
    since: Instant,
    why: Option<String>,
    /// When it was heard last.
    heard: Option<Instant>,
    /// Of connections: an older one says nothing any more.
    connection: u64,
    /// It does not know yet how far we have heard it.
    unacknowledged: bool,
    sent: u64,
    received: u64,
    overflowed: u64,
    wake: Arc<Notify>,
    /// Held while its frames are handed on, so that their order stays.
    order: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    Upper,
    Lower,
}

impl Side {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Upper => "upper",
            Self::Lower => "lower",
        }
    }
}

/// A link as it is shown.
pub(crate) struct View {
    /// None: the upper one was never reached.
    pub(crate) sid: Option<String>,
    pub(crate) side: Side,
    /// Where it is dialled.
    pub(crate) url: Option<String>,
    pub(crate) up: bool,
    pub(crate) since: Option<Instant>,
    pub(crate) heard: Option<Instant>,
    pub(crate) why: Option<String>,
    pub(crate) queued: usize,
    pub(crate) in_flight: usize,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) overflowed: u64,
}

/// What keeps links from being opened, and at which key.
pub(crate) use tls::Wrong;

/// Opens what is configured; none if nothing is.
pub(crate) async fn start(
    config: &Config,
    inbox: Inbox,
    boot: u64,
) -> Result<Option<Links>, Wrong> {
    let settings = config.cascade.clone();
    if settings.upper.is_none() && settings.listen.is_empty() {
        return Ok(None);
    }
    let own = config.node.id.clone();
    let remote = match &settings.upper {
        None => None,
        Some(upper) => {
            let headers = who::headers(&own, settings.token.as_ref());
            let tls = tls::client(&settings)?;
            Some(Remote::new(upper.to_string(), headers, tls, boot))
        }
    };
    let links = Links(Arc::new(Shared {
        own,
        boot,
        settings,
        inbox,
        state: Mutex::default(),
        remote,
        hurry: Notify::new(),
    }));
    for lower in &links.0.settings.lowers {
        links.meet(&lower.id, Side::Lower);
    }
    listen::open(&links).await?;
    if let Some(remote) = links.0.remote.clone() {
        tokio::spawn(dial::run(links.clone(), remote));
    }
    Ok(Some(links))
}

impl Links {
    /// To a neighbour; what is not sent by `expires` is not sent any more. False: there is no room,
    /// or no such neighbour.
    pub(crate) fn send(&self, to: &str, frame: Bytes, expires: Option<Instant>) -> bool {
        let mut state = self.state();
        let Some(neighbour) = state.neighbours.get_mut(to) else {
            return false;
        };
        let taken = neighbour.link.push(frame, expires).is_ok();
        neighbour.overflowed += u64::from(!taken);
        neighbour.wake.notify_one();
        taken
    }

    /// The way to the upper server, for requests of one's own.
    pub(crate) fn remote(&self) -> Option<&Remote> {
        self.0.remote.as_ref()
    }

    /// Asks the upper server now; false if that is not its name.
    pub(crate) fn probe(&self, name: &str) -> bool {
        let is_upper = self.state().upper.as_deref() == Some(name);
        let asked = self.0.remote.is_some() && (is_upper || name == "upper");
        if asked {
            self.0.hurry.notify_one();
        }
        asked
    }

    pub(crate) fn views(&self) -> Vec<View> {
        let state = self.state();
        let url = |side| match (side, &self.0.remote) {
            (Side::Upper, Some(remote)) => Some(remote.base().to_owned()),
            _ => None,
        };
        let mut views: Vec<View> = Vec::new();
        if self.0.remote.is_some() && state.upper.is_none() {
            views.push(View {
                sid: None,
                side: Side::Upper,
                url: url(Side::Upper),
                up: false,
                since: None,
                heard: None,
                why: state.why.clone(),
                queued: 0,
                in_flight: 0,
                sent: 0,
                received: 0,
                overflowed: 0,
            });
        }
        views.extend(state.neighbours.iter().map(|(sid, neighbour)| View {
            sid: Some(sid.clone()),
            side: neighbour.side,
            url: url(neighbour.side),
            up: neighbour.up,
            since: Some(neighbour.since),
            heard: neighbour.heard,
            why: neighbour.why.clone(),
            queued: neighbour.link.queued(),
            in_flight: neighbour.link.in_flight(),
            sent: neighbour.sent,
            received: neighbour.received,
            overflowed: neighbour.overflowed,
        }));
        views
    }

    /// Connections that were refused, by reason.
    pub(crate) fn refused(&self) -> BTreeMap<&'static str, u64> {
        self.state().refused.clone()
    }

    /// What has happened since this was asked last.
    pub(crate) fn events(&self) -> Vec<Event> {
        std::mem::take(&mut self.state().events)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let state = self.0.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }

    fn meet(&self, sid: &str, side: Side) {
        let link = || Link::new(self.0.boot);
        let mut state = self.state();
        let neighbour = state.neighbours.entry(sid.to_owned());
        neighbour.or_insert_with(|| Neighbour {
            link: link(),
            side,
            up: false,
            since: clock::now(),
            why: None,
            heard: None,
            connection: 0,
            unacknowledged: false,
            sent: 0,
            received: 0,
            overflowed: 0,
            wake: Arc::default(),
            order: Arc::default(),
        });
    }

    /// A connection to a neighbour begins: older ones are over, and what they may have lost is due
    /// again. Returned is its number.
    fn connected(&self, sid: &str) -> u64 {
        let mut state = self.state();
        let Some(neighbour) = state.neighbours.get_mut(sid) else {
            return 0;
        };
        neighbour.connection += 1;
        neighbour.link.rewind();
        neighbour.heard = Some(clock::now());
        neighbour.wake.notify_one();
        neighbour.connection
    }

    fn is_current(&self, sid: &str, connection: u64) -> bool {
        let state = self.state();
        let neighbour = state.neighbours.get(sid);
        neighbour.is_some_and(|neighbour| neighbour.connection == connection)
    }

    /// It can be used, or not any more; the plane is told of what is new.
    async fn turn(&self, sid: &str, up: bool, why: Option<String>) {
        let changed = {
            let mut state = self.state();
            let Some(neighbour) = state.neighbours.get_mut(sid) else {
                return;
            };
            neighbour.why.clone_from(&why);
            let changed = neighbour.up != up;
            if changed {
                neighbour.up = up;
                neighbour.since = clock::now();
                let side = neighbour.side.word().to_owned();
                let mut fields = vec![("side", side)];
                fields.extend(why.clone().map(|why| ("why", why)));
                let kind = if up { Kind::LinkUp } else { Kind::LinkDown };
                state.note(kind, sid, fields);
            }
            changed
        };
        if changed {
            let reason = why.unwrap_or_default();
            if up {
                tracing::info!(server = sid, "the link is up");
            } else {
                tracing::warn!(server = sid, why = reason, "the link is down");
            }
            let to = sid.to_owned();
            self.0.inbox.tell(Input::Link { to, up }).await;
        }
    }

    /// A line of a neighbour: what it has heard, and perhaps a frame. Returned is whether it has to
    /// be told how far we have heard it.
    async fn hear(&self, sid: &str, line: &Line) -> bool {
        let Some(boot) = line.boot() else {
            return false;
        };
        let order = {
            let state = self.state();
            state.neighbours.get(sid).map(|n| n.order.clone())
        };
        let Some(order) = order else { return false };
        let _held = order.lock().await;
        let (frames, recovered) = {
            let mut state = self.state();
            let Some(neighbour) = state.neighbours.get_mut(sid) else {
                return false;
            };
            neighbour.heard = Some(clock::now());
            if let Some(had) = line.had() {
                neighbour.link.acknowledged(had);
                if neighbour.link.is_due() {
                    neighbour.wake.notify_one();
                }
            }
            // Another run of it: it may know nothing of what the one before was told.
            let heard = neighbour.link.heard();
            let reborn = heard.is_some_and(|had| had.boot != boot);
            let numbered = line.numbered();
            let frames = numbered.map(|n| neighbour.link.receive(boot, line.oldest, n));
            let count = frames.as_ref().map_or(0, Vec::len);
            neighbour.received += u64::try_from(count).unwrap_or(0);
            (frames, neighbour.link.recovered() || reborn)
        };
        if recovered {
            // Both sides catch up, with what there was no room for too.
            let (to, up) = (sid.to_owned(), true);
            self.0.inbox.tell(Input::Link { to, up }).await;
        }
        let asked = frames.is_some();
        for frame in frames.into_iter().flatten() {
            let from = sid.to_owned();
            self.0.inbox.tell(Input::Frame { from, frame }).await;
        }
        asked
    }

    /// What is due to a neighbour now, as far as it fits, behind a line without a frame.
    fn due(&self, sid: &str, bytes_max: usize) -> Vec<Line> {
        let (now, own) = (clock::now(), &self.0.own);
        let mut state = self.state();
        let Some(neighbour) = state.neighbours.get_mut(sid) else {
            return Vec::new();
        };
        let mut lines = vec![Line::of(own, &neighbour.link, None)];
        let mut bytes = 0;
        while bytes < bytes_max
            && let Some(numbered) = neighbour.link.take(now)
        {
            bytes += numbered.frame.len();
            neighbour.sent += 1;
            lines.push(Line::of(own, &neighbour.link, Some(numbered)));
        }
        lines
    }

    fn is_due(&self, sid: &str) -> bool {
        let state = self.state();
        let neighbour = state.neighbours.get(sid);
        neighbour.is_some_and(|neighbour| neighbour.link.is_due())
    }

    /// Whether it waits to be told how far we have heard it.
    fn owes(&self, sid: &str) -> bool {
        let state = self.state();
        let neighbour = state.neighbours.get(sid);
        neighbour.is_some_and(|neighbour| neighbour.unacknowledged)
    }

    /// It is being told.
    fn paid(&self, sid: &str) {
        if let Some(neighbour) = self.state().neighbours.get_mut(sid) {
            neighbour.unacknowledged = false;
        }
    }

    fn wake(&self, sid: &str) -> Arc<Notify> {
        let state = self.state();
        let neighbour = state.neighbours.get(sid);
        neighbour.map(|n| n.wake.clone()).unwrap_or_default()
    }

    fn silent_since(&self, sid: &str) -> Option<Instant> {
        let state = self.state();
        state.neighbours.get(sid).and_then(|n| n.heard)
    }
}

impl State {
    fn note(&mut self, kind: Kind, subject: &str, fields: Vec<(&'static str, String)>) {
        if self.events.len() < EVENTS_MAX {
            self.events.push(Event {
                // Numbered where it is taken in.
                seq: 0,
                at: clock::now(),
                kind,
                subject: subject.to_owned(),
                fields,
            });
        }
    }
}
