//! Connections and the sessions behind them: who comes, who comes back, who goes.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{Broker, Conn, ConnId, Effect, Ends, Timer, Turn};
use crate::bus::{Client, Principal};
use crate::mqtt::packet::{ConnAck, Connect, Outgoing, Reason, Version};
use crate::mqtt::session::{Session, SessionId};
use crate::mqtt::{ID_BYTES_MAX, INFLIGHT_MAX, SESSIONS_PER_ACCOUNT_MAX};

impl Broker {
    pub(super) fn connect(
        &mut self,
        conn: ConnId,
        connect: Connect,
        login: Result<Principal, Reason>,
        ends: Ends,
        turn: &mut Turn<'_>,
    ) {
        let (id, assigned) = match connect.id.as_str() {
            "" => (format!("auto-{}", conn.0), true),
            id => (id.to_owned(), false),
        };
        let client = login.and_then(|principal| {
            let client = Client {
                principal,
                id,
                local: ends.local,
                remote: ends.remote,
            };
            self.may_connect(&connect, &client)?;
            Ok(client)
        });
        let client = match client {
            Ok(client) => client,
            Err(reason) => return self.refuse(conn, reason, turn),
        };
        let present = self.enter(conn, &connect, (client.clone(), ends.known_as), turn);
        let expiry = connect.session_expiry.min(self.limits.session_expiry);
        let id = client.id.clone();
        turn.effects.push(Effect::Connected(client));
        let asked = connect.version == Version::V5;
        turn.send(
            conn,
            Outgoing::ConnAck(ConnAck {
                present,
                reason: Reason::Success,
                assigned: assigned.then_some(id),
                session_expiry: (asked && expiry < connect.session_expiry).then_some(expiry),
            }),
        );
        self.counters.connected += 1;
        if let Some(session) = self.conns.get(&conn).map(|conn| conn.session) {
            self.pump(session, turn);
        }
    }

    fn may_connect(&self, connect: &Connect, client: &Client) -> Result<(), Reason> {
        // MQTT 3.1.1 §3.1.3.1: who has no name has nothing to come back to.
        let nameless = connect.id.is_empty() && connect.version == Version::V4 && !connect.clean;
        if nameless || connect.id.len() > ID_BYTES_MAX || connect.id.contains('\0') {
            return Err(Reason::ClientId);
        }
        let known = self.names.get(&client.id);
        let owner = known.and_then(|session| self.sessions.get(session));
        match owner.map(|session| &session.client.principal) {
            // A name is not enough to take over what is somebody else's.
            Some(owner) if !same(owner, &client.principal) => Err(Reason::ClientId),
            Some(_) => Ok(()),
            None if self.is_room(&client.principal) => Ok(()),
            None => Err(Reason::Busy),
        }
    }

    /// Whether there is room for a session of its, or will be once an old one is forgotten.
    fn is_room(&self, of: &Principal) -> bool {
        let spare = |session: &Session| session.conn.is_none();
        let own = || self.sessions.values().filter(|s| s.client.principal == *of);
        let few = match of {
            Principal::Anonymous(_) => true,
            Principal::Account(_)
            | Principal::Server(_)
            | Principal::Operator(_)
            | Principal::Viewer(_) => own().count() < SESSIONS_PER_ACCOUNT_MAX,
        };
        let any = self.sessions.len() < self.limits.clients || self.sessions.values().any(spare);
        any && (few || own().any(spare))
    }

    /// Forgets, if it must, the session that would have ended first.
    fn make_room(&mut self, of: &Principal, turn: &mut Turn<'_>) {
        let own = self.sessions.values().filter(|s| s.client.principal == *of);
        let many = own.count() >= SESSIONS_PER_ACCOUNT_MAX;
        let many = many && !matches!(of, Principal::Anonymous(_));
        if !many && self.sessions.len() < self.limits.clients {
            return;
        }
        let candidates = self.sessions.iter().filter(|(_, session)| {
            session.conn.is_none() && (!many || session.client.principal == *of)
        });
        let first = candidates.min_by_key(|(_, session)| session.ends);
        if let Some(first) = first.map(|(id, _)| *id) {
            self.counters.forgotten += 1;
            self.end(first, turn);
        }
    }

    fn refuse(&mut self, conn: ConnId, reason: Reason, turn: &mut Turn<'_>) {
        self.counters.refuse(reason);
        let refusal = ConnAck {
            present: false,
            reason,
            assigned: None,
            session_expiry: None,
        };
        turn.send(conn, Outgoing::ConnAck(refusal));
        turn.effects.push(Effect::Close { conn });
    }

    /// Gives the connection its session; true if there was one.
    fn enter(
        &mut self,
        conn: ConnId,
        connect: &Connect,
        (client, known_as): (Client, IpAddr),
        turn: &mut Turn<'_>,
    ) -> bool {
        if let Some(old) = self.names.get(&client.id).copied() {
            // §3.1.4: the newer connection is the client's.
            let open = self.sessions.get(&old).and_then(|session| session.conn);
            if let Some(open) = open {
                turn.send(open, Outgoing::Disconnect(Reason::TakenOver));
                turn.effects.push(Effect::Close { conn: open });
                self.gone(open, false, turn);
            }
            if connect.clean {
                self.end(old, turn);
            }
        }
        let known = self.names.get(&client.id).copied();
        let id = known.unwrap_or_else(|| {
            self.make_room(&client.principal, turn);
            self.last_session += 1;
            let id = SessionId(self.last_session);
            let session = Session::new(client.clone(), conn, known_as);
            self.names.insert(client.id.clone(), id);
            self.sessions.insert(id, session);
            id
        });
        if let Some(session) = self.sessions.get_mut(&id) {
            session.client = client;
            session.known_as = known_as;
            session.conn = Some(conn);
            session.expiry = connect.session_expiry.min(self.limits.session_expiry);
            session.will = connect.will.clone();
            session.will_at = None;
            session.ends = None;
            session.rewind();
        }
        let receive_max = connect.receive_max.min(INFLIGHT_MAX);
        self.conns.insert(
            conn,
            Conn {
                session: id,
                version: connect.version,
                keep_alive: connect.keep_alive,
                heard: turn.now,
                receive_max: usize::from(receive_max),
                packet_max: connect.packet_max,
                unsent: 0,
                aliases: std::collections::BTreeMap::new(),
                pending: 0,
            },
        );
        if let Some(keep_alive) = connect.keep_alive {
            let at = turn.now + patience(keep_alive);
            self.timers.insert((at, Timer::KeepAlive(conn)));
        }
        known.is_some()
    }

    /// Nothing may have come for one and a half times the keep alive (§3.1.2.10).
    pub(super) fn silent(&mut self, id: ConnId, turn: &mut Turn<'_>) {
        let Some(conn) = self.conns.get(&id) else {
            return;
        };
        let Some(keep_alive) = conn.keep_alive else {
            return;
        };
        let due = conn.heard + patience(keep_alive);
        if due <= turn.now {
            self.expel(id, Reason::KeepAlive, turn);
        } else {
            self.timers.insert((due, Timer::KeepAlive(id)));
        }
    }

    /// Ends a connection that did wrong, or cannot be served; its will is published.
    pub(super) fn expel(&mut self, conn: ConnId, reason: Reason, turn: &mut Turn<'_>) {
        if !self.conns.contains_key(&conn) {
            return;
        }
        self.counters.expel(reason);
        turn.send(conn, Outgoing::Disconnect(reason));
        turn.effects.push(Effect::Close { conn });
        self.gone(conn, false, turn);
    }

    /// The client says good-bye.
    pub(super) fn disconnect(
        &mut self,
        conn: ConnId,
        quiet: bool,
        session_expiry: Option<Duration>,
        turn: &mut Turn<'_>,
    ) {
        let most = self.limits.session_expiry;
        let Some((_, session)) = self.session_of(conn) else {
            return;
        };
        if let Some(expiry) = session_expiry {
            // §3.14.2.2.2: what was to end with the connection cannot outlive it after all.
            if session.expiry.is_zero() && !expiry.is_zero() {
                return self.expel(conn, Reason::Protocol, turn);
            }
            session.expiry = expiry.min(most);
        }
        turn.effects.push(Effect::Close { conn });
        self.gone(conn, quiet, turn);
    }

    /// A connection is no more; what becomes of its session and its will.
    pub(super) fn gone(&mut self, conn: ConnId, quiet: bool, turn: &mut Turn<'_>) {
        let Some(known) = self.conns.remove(&conn) else {
            return;
        };
        let id = known.session;
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        session.conn = None;
        session.replays.clear();
        turn.effects
            .push(Effect::Disconnected(session.client.clone()));
        if quiet {
            session.will = None;
        }
        if session.expiry.is_zero() {
            return self.end(id, turn);
        }
        let ends = later(turn.now, session.expiry);
        session.ends = Some(ends);
        self.timers.insert((ends, Timer::Expiry(id)));
        let delay = session.will.as_ref().map(|will| will.delay);
        if let Some(delay) = delay.filter(|delay| *delay < session.expiry) {
            let at = later(turn.now, delay);
            session.will_at = Some(at);
            if delay.is_zero() {
                self.will_due(id, turn);
            } else {
                self.timers.insert((at, Timer::Will(id)));
            }
        }
    }

    pub(super) fn will_due(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if session.will_at.take_if(|at| *at <= turn.now).is_some() {
            self.publish_will(id, turn);
        }
    }

    pub(super) fn expiry_due(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        let session = self.sessions.get(&id);
        let ends = session.and_then(|session| session.ends);
        if ends.is_some_and(|ends| ends <= turn.now) {
            self.end(id, turn);
        }
    }

    /// A session is forgotten; a will that waited is published now (§3.1.2.5).
    pub(super) fn end(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        self.publish_will(id, turn);
        let Some(session) = self.sessions.remove(&id) else {
            return;
        };
        self.names.remove(&session.client.id);
        for filter in &session.filters {
            self.tree.remove(filter, id);
        }
        if let Some(ends) = session.ends {
            self.timers.remove(&(ends, Timer::Expiry(id)));
        }
        if let Some(at) = session.will_at {
            self.timers.remove(&(at, Timer::Will(id)));
        }
    }
}

/// Whether two are the same, as far as anybody knows.
fn same(one: &Principal, other: &Principal) -> bool {
    match (one, other) {
        (Principal::Anonymous(_), Principal::Anonymous(_)) => true,
        _ => one == other,
    }
}

fn patience(keep_alive: Duration) -> Duration {
    keep_alive + keep_alive / 2
}

/// Expiry is bounded by configuration, so this does not overflow; if it did, now is safe.
fn later(now: Instant, by: Duration) -> Instant {
    now.checked_add(by).unwrap_or(now)
}
