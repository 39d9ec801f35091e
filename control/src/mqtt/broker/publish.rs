//! Publications: of clients, of the plane, and of those who went without a word.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Broker, ConnId, Dropped, Effect, Pending, Turn};
use crate::bus::topic::PREFIX;
use crate::bus::{Client, Publication, Qos};
use crate::mqtt::address::Foreign;
use crate::mqtt::packet::{Message, Outgoing, Publish, Reason, Version};
use crate::mqtt::retained::Kept;
use crate::mqtt::session::{Queued, SessionId};
use crate::mqtt::{RECEIVE_MAX, TOPIC_ALIAS_MAX, filter};

impl Broker {
    pub(super) fn publish(&mut self, id: ConnId, mut publish: Publish, turn: &mut Turn<'_>) {
        if let Err(reason) = self.name(id, &mut publish) {
            return self.expel(id, reason, turn);
        }
        let most = usize::from(RECEIVE_MAX);
        let Some((conn, session)) = self.session_of(id) else {
            return;
        };
        if let (Some(pkid), true) = (publish.pkid, publish.exactly) {
            if session.received.contains(&pkid) {
                let reason = Reason::Success;
                return turn.send(id, Outgoing::PubRec { pkid, reason });
            }
            if session.received.len() >= most {
                return self.expel(id, Reason::ReceiveMaximum, turn);
            }
            session.received.insert(pkid);
        }
        if conn.version == Version::V5 && conn.pending >= most && publish.pkid.is_some() {
            return self.expel(id, Reason::ReceiveMaximum, turn);
        }
        let (client, of) = (session.client.clone(), conn.session);
        self.counters.received += 1;
        let Publish {
            message, expiry, ..
        } = publish;
        let pending = publish.pkid.map(|pkid| Pending {
            conn: id,
            pkid,
            exactly: publish.exactly,
        });
        let may = turn.access.may_publish(&client, &message.topic);
        if may && is_planes(&message.topic) {
            return self.submit(pending, client, &message, expiry, turn);
        }
        let reason = if may {
            self.pass_on(message, expiry, (client, of), turn)
        } else {
            self.counters.drop(Dropped::NotAuthorized);
            Reason::NotAuthorized
        };
        if let Some(pending) = pending {
            self.settle(&pending, reason, turn);
        }
    }

    /// What clients have for each other.
    fn pass_on(
        &mut self,
        message: Message,
        expiry: Option<Duration>,
        (by, of): (Client, SessionId),
        turn: &mut Turn<'_>,
    ) -> Reason {
        let expires = expiry.and_then(|expiry| turn.now.checked_add(expiry));
        match self.place(message, turn.now) {
            Ok(message) => match self.route(message, expires, Some(of), turn) {
                true => Reason::Success,
                false => Reason::NoMatch,
            },
            Err((Foreign(address), topic)) => {
                self.counters.drop(Dropped::ForeignServer);
                turn.effects.push(Effect::Foreign { by, topic, address });
                Reason::Implementation
            }
        }
    }

    /// Our id in place of our address, where clients look for it.
    fn place(&self, mut message: Message, now: Instant) -> Result<Message, (Foreign, String)> {
        if self.book.is_empty() {
            return Ok(message);
        }
        match self.book.place(&message.payload, now) {
            Ok(placed) => {
                message.payload = placed.payload.unwrap_or(message.payload);
                message.spans = placed.spans;
                Ok(message)
            }
            Err(foreign) => Err((foreign, message.topic)),
        }
    }

    /// Finds the topic behind an alias, or learns one (§3.3.2.3.4).
    fn name(&mut self, id: ConnId, publish: &mut Publish) -> Result<(), Reason> {
        let Some(conn) = self.conns.get_mut(&id) else {
            return Ok(());
        };
        let topic = &mut publish.message.topic;
        if let Some(alias) = publish.alias {
            if !(1..=TOPIC_ALIAS_MAX).contains(&alias) {
                return Err(Reason::AliasInvalid);
            }
            if topic.is_empty() {
                let known = conn.aliases.get(&alias).ok_or(Reason::Protocol)?;
                topic.clone_from(known);
                return Ok(());
            }
        }
        if !filter::is_topic(topic) {
            return Err(Reason::TopicInvalid);
        }
        if let Some(alias) = publish.alias {
            conn.aliases.insert(alias, topic.clone());
        }
        Ok(())
    }

    fn submit(
        &mut self,
        pending: Option<Pending>,
        by: Client,
        message: &Message,
        expiry: Option<Duration>,
        turn: &mut Turn<'_>,
    ) {
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        if let Some(pending) = pending {
            if let Some(conn) = self.conns.get_mut(&pending.conn) {
                conn.pending += 1;
            }
            self.tickets.insert(ticket, pending);
        }
        let publication = Publication {
            topic: message.topic.clone(),
            payload: message.payload.clone(),
            qos: message.qos,
            retain: message.retain,
            expiry,
        };
        turn.effects.push(Effect::Submit {
            ticket,
            by,
            publication,
        });
    }

    pub(super) fn acknowledge(
        &mut self,
        ticket: u64,
        refused: Option<&'static str>,
        turn: &mut Turn<'_>,
    ) {
        if refused.is_some() {
            self.counters.drop(Dropped::Refused);
        }
        let Some(pending) = self.tickets.remove(&ticket) else {
            return;
        };
        if let Some(conn) = self.conns.get_mut(&pending.conn) {
            conn.pending = conn.pending.saturating_sub(1);
        }
        let reason = refused.map_or(Reason::Success, |_| Reason::Implementation);
        self.settle(&pending, reason, turn);
    }

    /// What the client is told of its publication.
    fn settle(&mut self, pending: &Pending, reason: Reason, turn: &mut Turn<'_>) {
        let Pending {
            conn,
            pkid,
            exactly,
        } = *pending;
        let Some((known, session)) = self.session_of(conn) else {
            return;
        };
        // MQTT 3.1.1 has no word for no: the message is taken, and nobody gets it.
        let taken = matches!(reason, Reason::Success | Reason::NoMatch);
        let over = !taken && known.version == Version::V5;
        if exactly && over {
            session.received.remove(&pkid);
        }
        let packet = match exactly {
            true => Outgoing::PubRec { pkid, reason },
            false => Outgoing::PubAck { pkid, reason },
        };
        turn.send(conn, packet);
    }

    pub(super) fn release(&mut self, id: ConnId, pkid: u16, turn: &mut Turn<'_>) {
        let Some((_, session)) = self.session_of(id) else {
            return;
        };
        let reason = match session.received.remove(&pkid) {
            true => Reason::Success,
            false => Reason::PacketIdNotFound,
        };
        turn.send(id, Outgoing::PubComp { pkid, reason });
    }

    pub(super) fn publish_ours(&mut self, publication: Publication, turn: &mut Turn<'_>) {
        let Publication {
            topic,
            payload,
            qos,
            retain,
            expiry,
        } = publication;
        let expires = expiry.and_then(|expiry| turn.now.checked_add(expiry));
        let message = Message {
            topic,
            payload,
            qos,
            retain,
            properties: None,
            spans: Vec::new(),
        };
        // What is ours names no other server.
        if let Ok(message) = self.place(message, turn.now) {
            self.route(message, expires, None, turn);
        }
    }

    pub(super) fn publish_will(&mut self, id: SessionId, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let Some(will) = session.will.take() else {
            return;
        };
        let client = session.client.clone();
        if !turn.access.may_publish(&client, &will.message.topic) {
            self.counters.drop(Dropped::NotAuthorized);
            return;
        }
        self.counters.wills += 1;
        if is_planes(&will.message.topic) {
            return self.submit(None, client, &will.message, will.expiry, turn);
        }
        let expires = will.expiry.and_then(|expiry| turn.now.checked_add(expiry));
        match self.place(will.message, turn.now) {
            Ok(message) => {
                self.route(message, expires, Some(id), turn);
            }
            Err(_) => self.counters.drop(Dropped::ForeignServer),
        }
    }

    /// To everybody who subscribed and may read it. False: nobody did.
    fn route(
        &mut self,
        message: Message,
        expires: Option<Instant>,
        from: Option<SessionId>,
        turn: &mut Turn<'_>,
    ) -> bool {
        let message = Arc::new(message);
        if message.retain {
            let kept = Kept {
                message: message.clone(),
                expires,
            };
            if !self
                .retained
                .set(kept, self.limits.retained_bytes, turn.now)
            {
                self.counters.drop(Dropped::RetainedFull);
            }
        }
        let mut receivers: Vec<(SessionId, Queued)> = Vec::new();
        let matching = self.tree.matching(&message.topic);
        let any = !matching.is_empty();
        for (to, subscriptions) in matching {
            let own = from == Some(to);
            let heard = || subscriptions.iter().filter(|s| !(s.no_local && own));
            let Some(qos) = heard().map(|s| s.qos).max() else {
                continue;
            };
            let queued = Queued {
                message: message.clone(),
                qos: qos.min(message.qos),
                retain: message.retain && heard().any(|s| s.as_published),
                ids: heard().filter_map(|s| s.id).collect(),
                expires,
                pkid: None,
            };
            receivers.push((to, queued));
        }
        for (to, queued) in receivers {
            self.enqueue(to, queued, turn);
        }
        any
    }

    /// Queues a message for a client, and makes room for it.
    fn enqueue(&mut self, to: SessionId, queued: Queued, turn: &mut Turn<'_>) {
        let Some(session) = self.sessions.get_mut(&to) else {
            return;
        };
        if !turn.access.may_read(&session.client, &queued.message.topic) {
            return;
        }
        if session.conn.is_none() && queued.qos == Qos::AtMostOnce {
            self.counters.drop(Dropped::Offline);
            return;
        }
        self.push(to, queued, turn);
    }
}

/// Whether what is published under a topic is for the plane to judge.
fn is_planes(topic: &str) -> bool {
    let rest = topic.strip_prefix(PREFIX);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
