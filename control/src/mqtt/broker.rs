//! The broker: what clients, the plane and time ask of it, and what it wants done.

mod connect;
mod deliver;
mod publish;
mod subscribe;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::Limits;
use super::address::{Book, Identity};
use super::packet::{Connect, Incoming, Outgoing, Reason, Version};
use super::retained::Retained;
use super::session::{Session, SessionId};
use super::tree::Tree;
use crate::bus::{Access, Client, Principal, Publication};

pub use self::view::{ClientView, Counters, Dropped, Totals};

/// One connection, for the life of the daemon.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ConnId(pub u64);

/// What happens to the broker.
#[derive(Clone, Debug)]
pub enum Input {
    /// The first packet of a connection, and who sent it, or why nobody may.
    Connect {
        conn: ConnId,
        connect: Connect,
        login: Result<Principal, Reason>,
        local: SocketAddr,
        remote: SocketAddr,
        /// The address this client knows us by.
        known_as: IpAddr,
    },
    Packet {
        conn: ConnId,
        packet: Incoming,
    },
    /// What came is no packet, or not now.
    Fault {
        conn: ConnId,
        reason: Reason,
    },
    /// The connection is gone.
    Closed {
        conn: ConnId,
    },
    /// Of what was sent on it, so many bytes have not left yet.
    Drained {
        conn: ConnId,
        left: usize,
    },
    /// The plane publishes.
    Publish(Publication),
    /// What became of a publication that was submitted; the reason is for the log.
    Acknowledge {
        ticket: u64,
        refused: Option<&'static str>,
    },
    Configure(Limits, Identity),
    /// A client knows us by another address from now on.
    KnownAs {
        conn: ConnId,
        known_as: IpAddr,
    },
    /// We are about to end.
    Shutdown,
    /// The time that [`Broker::next`] named has come.
    Tick,
}

/// What the broker wants done, in order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Effect {
    Send {
        conn: ConnId,
        packet: Outgoing,
    },
    /// Once what was sent has left.
    Close {
        conn: ConnId,
    },
    /// The plane's to judge.
    Submit {
        ticket: u64,
        by: Client,
        publication: Publication,
    },
    /// What it published names a server that nobody knows, and went nowhere.
    Foreign {
        by: Client,
        topic: String,
        address: IpAddr,
    },
    Connected(Client),
    Disconnected(Client),
}

/// The list effects are pushed into.
pub type Effects = Vec<Effect>;

/// Whom to ask, what time it is, and where effects go.
struct Turn<'a> {
    access: &'a dyn Access,
    now: Instant,
    effects: &'a mut Effects,
}

impl Turn<'_> {
    fn send(&mut self, conn: ConnId, packet: Outgoing) {
        self.effects.push(Effect::Send { conn, packet });
    }
}

#[derive(Debug)]
struct Conn {
    session: SessionId,
    version: Version,
    keep_alive: Option<Duration>,
    heard: Instant,
    receive_max: usize,
    packet_max: usize,
    /// Bytes it was handed since it said that all had left.
    unsent: usize,
    aliases: BTreeMap<u16, String>,
    /// Publications that the plane has not judged yet.
    pending: usize,
}

/// Where a connection is.
#[derive(Clone, Copy, Debug)]
struct Ends {
    local: SocketAddr,
    remote: SocketAddr,
    /// The address of ours that the client knows.
    known_as: IpAddr,
}

/// What a ticket is for.
#[derive(Debug)]
struct Pending {
    conn: ConnId,
    pkid: u16,
    exactly: bool,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Timer {
    KeepAlive(ConnId),
    Will(SessionId),
    Expiry(SessionId),
}

/// The broker.
#[derive(Debug)]
pub struct Broker {
    limits: Limits,
    conns: BTreeMap<ConnId, Conn>,
    sessions: BTreeMap<SessionId, Session>,
    names: BTreeMap<String, SessionId>,
    tree: Tree,
    retained: Retained,
    book: Book,
    timers: BTreeSet<(Instant, Timer)>,
    tickets: BTreeMap<u64, Pending>,
    last_ticket: u64,
    last_session: u64,
    counters: Counters,
}

impl Broker {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            conns: BTreeMap::new(),
            sessions: BTreeMap::new(),
            names: BTreeMap::new(),
            tree: Tree::default(),
            retained: Retained::default(),
            book: Book::default(),
            timers: BTreeSet::new(),
            tickets: BTreeMap::new(),
            last_ticket: 0,
            last_session: 0,
            counters: Counters::default(),
        }
    }

    /// Handles one input; time is the caller's.
    pub fn handle(
        &mut self,
        input: Input,
        access: &dyn Access,
        now: Instant,
        effects: &mut Effects,
    ) {
        let turn = &mut Turn {
            access,
            now,
            effects,
        };
        match input {
            Input::Connect {
                conn,
                connect,
                login,
                local,
                remote,
                known_as,
            } => {
                let ends = Ends {
                    local,
                    remote,
                    known_as,
                };
                self.connect(conn, connect, login, ends, turn);
            }
            Input::Packet { conn, packet } => self.packet(conn, packet, turn),
            Input::Fault { conn, reason } => self.expel(conn, reason, turn),
            Input::Closed { conn } => self.gone(conn, false, turn),
            Input::Drained { conn, left } => {
                if let Some(known) = self.conns.get_mut(&conn) {
                    known.unsent = left;
                    let session = known.session;
                    self.pump(session, turn);
                }
            }
            Input::Publish(publication) => self.publish_ours(publication, turn),
            Input::Acknowledge { ticket, refused } => self.acknowledge(ticket, refused, turn),
            Input::Configure(limits, identity) => {
                self.limits = limits;
                self.book.configure(identity, turn.now);
            }
            Input::KnownAs { conn, known_as } => {
                if let Some((_, session)) = self.session_of(conn) {
                    session.known_as = known_as;
                }
            }
            Input::Shutdown => {
                let all: Vec<ConnId> = self.conns.keys().copied().collect();
                for conn in all {
                    self.expel(conn, Reason::ShuttingDown, turn);
                }
            }
            Input::Tick => self.tick(turn),
        }
    }

    /// When it wants [`Input::Tick`].
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Whether the client has published as much as may wait: nothing more is read from it.
    #[must_use]
    pub fn is_busy(&self, conn: ConnId) -> bool {
        let known = self.conns.get(&conn);
        known.is_some_and(|conn| conn.pending >= usize::from(super::RECEIVE_MAX))
    }

    fn packet(&mut self, id: ConnId, packet: Incoming, turn: &mut Turn<'_>) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        conn.heard = turn.now;
        let session = conn.session;
        match packet {
            Incoming::Publish(publish) => self.publish(id, publish, turn),
            Incoming::PubAck { pkid } => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.acknowledged(pkid);
                }
                self.pump(session, turn);
            }
            Incoming::PubRel { pkid } => self.release(id, pkid, turn),
            Incoming::Subscribe {
                pkid,
                id: of,
                filters,
            } => {
                self.subscribe(id, pkid, of, filters, turn);
            }
            Incoming::Unsubscribe { pkid, filters } => self.unsubscribe(id, pkid, filters, turn),
            Incoming::Ping => turn.send(id, Outgoing::Pong),
            Incoming::Disconnect {
                quiet,
                session_expiry,
            } => self.disconnect(id, quiet, session_expiry, turn),
        }
    }

    fn tick(&mut self, turn: &mut Turn<'_>) {
        while let Some((at, timer)) = self.timers.first().copied() {
            if at > turn.now {
                return;
            }
            self.timers.remove(&(at, timer));
            match timer {
                Timer::KeepAlive(conn) => self.silent(conn, turn),
                Timer::Will(session) => self.will_due(session, turn),
                Timer::Expiry(session) => self.expiry_due(session, turn),
            }
        }
    }

    fn session_of(&mut self, conn: ConnId) -> Option<(&mut Conn, &mut Session)> {
        let conn = self.conns.get_mut(&conn)?;
        let session = self.sessions.get_mut(&conn.session)?;
        Some((conn, session))
    }
}
