//! Subscriptions (MQTT 5 §3.8 to §3.11).

use super::{Broker, ConnId, Turn};
use crate::bus::Qos;
use crate::mqtt::filter;
use crate::mqtt::packet::{Outgoing, Reason, Replay, Wanted};
use crate::mqtt::tree::Subscription;

impl Broker {
    pub(super) fn subscribe(
        &mut self,
        conn: ConnId,
        pkid: u16,
        id: Option<u32>,
        filters: Vec<Wanted>,
        turn: &mut Turn<'_>,
    ) {
        let Some(session) = self.conns.get(&conn).map(|conn| conn.session) else {
            return;
        };
        let mut codes = Vec::with_capacity(filters.len());
        for wanted in filters {
            codes.push(self.subscribe_one(conn, id, &wanted, turn));
        }
        turn.send(conn, Outgoing::SubAck { pkid, codes });
        self.pump(session, turn);
    }

    fn subscribe_one(
        &mut self,
        conn: ConnId,
        id: Option<u32>,
        wanted: &Wanted,
        turn: &mut Turn<'_>,
    ) -> Result<Qos, Reason> {
        let most = self.limits.filters;
        let Some((conn, session)) = self.session_of(conn) else {
            return Err(Reason::Unspecified);
        };
        let asked = &wanted.filter;
        if asked.starts_with(filter::SHARED) {
            return Err(Reason::SharedSubscription);
        }
        if !filter::is_filter(asked) {
            return Err(Reason::FilterInvalid);
        }
        // With wildcards, each message is judged when it is delivered.
        let exact = !filter::has_wildcard(asked);
        if exact && !turn.access.may_read(&session.client, asked) {
            return Err(Reason::NotAuthorized);
        }
        if session.filters.len() >= most && !session.filters.contains(asked) {
            return Err(Reason::Quota);
        }
        session.filters.insert(asked.clone());
        let of = conn.session;
        let subscription = Subscription {
            qos: wanted.qos,
            no_local: wanted.no_local,
            as_published: wanted.as_published,
            id,
        };
        let new = self.tree.insert(asked, of, subscription);
        let replay = match wanted.replay {
            Replay::Always => true,
            Replay::New => new,
            Replay::Never => false,
        };
        if let (true, Some(session)) = (replay, self.sessions.get_mut(&of)) {
            session.replay(asked, wanted.qos, id);
        }
        Ok(wanted.qos)
    }

    pub(super) fn unsubscribe(
        &mut self,
        conn: ConnId,
        pkid: u16,
        filters: Vec<String>,
        turn: &mut Turn<'_>,
    ) {
        let Some(of) = self.conns.get(&conn).map(|conn| conn.session) else {
            return;
        };
        let mut codes = Vec::with_capacity(filters.len());
        for filter in filters {
            let Some(session) = self.sessions.get_mut(&of) else {
                return;
            };
            session.no_replay(&filter);
            codes.push(if session.filters.remove(&filter) {
                self.tree.remove(&filter, of);
                Reason::Success
            } else if filter::is_filter(&filter) {
                Reason::NoSubscription
            } else {
                Reason::FilterInvalid
            });
        }
        turn.send(conn, Outgoing::UnsubAck { pkid, codes });
    }
}
