//! Where calls meet their media: SDP in messages, packets nobody claimed, silence.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{Ice, MediaFrom, MediaMode, Network};
use crate::effect::{Effect, Effects};
use crate::engine::call::Call;
use crate::engine::event::Kind;
use crate::engine::input::Activity;
use crate::engine::{Adopted, CallKey, Engine, SWEEP};
use crate::media::ours::Passages;
use crate::media::port::Pools;
use crate::media::session::{Accept, Learned, LegSettings, Mode, Refusal, Session, Side};
use crate::sdp::multipart;
use crate::sip::dialog::Leg;
use crate::sip::index::{Message, Name};

/// What a body is in the offer/answer exchange (RFC 3264).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Part {
    Offer,
    Answer,
}

impl Engine {
    pub(super) fn configure_pools(&mut self) {
        for (id, network) in self.config.networks() {
            let range = network.media_ports;
            self.pools
                .configure(id, network.address, range.first, range.last);
        }
        self.ours = Arc::new(self.all_ours());
    }

    pub(super) fn leg_settings(&self, leg: &Leg) -> Option<LegSettings> {
        let network = self.network(leg.network)?;
        Some(LegSettings {
            network: leg.network,
            local: network.address,
            advertise: network.advertise_media,
            port_offset: i32::from(network.advertise_ports.first)
                - i32::from(network.media_ports.first),
            signalled_from: leg.path.to.ip(),
            natted: leg.natted,
            mode: mode(network),
            accept: accept(network),
            senders: network.media_senders.clone(),
            ice: network.ice == Ice::Pass,
            tos: network.dscp.map(|dscp| dscp << 2),
            hops: network.hop_limit,
        })
    }

    /// Tells a call's session where its parties are now, and what we are called now.
    pub(super) fn inform(&self, call: &mut Call) {
        let passages = self.passages(call);
        for side in Side::BOTH {
            let leg = call.leg(side);
            let trusted = leg.is_some_and(|leg| self.peer_from(leg.path.to.ip()).is_some());
            let known = leg.and_then(|leg| Some((self.leg_settings(leg)?, leg.network)));
            let (Some((settings, network)), Some(session)) = (known, call.session.as_mut()) else {
                continue;
            };
            session.inform(side, settings);
            let peers = self.network(network).map(|network| network.peers.clone());
            session.set_prefixes(side, peers.unwrap_or_default());
            session.set_ours(self.ours.clone());
            let passages = passages.as_ref().filter(|_| trusted);
            session.set_passages(side, passages.cloned().unwrap_or_default());
        }
    }

    /// Where else a call is with us: it went out to a server that sent it back.
    fn passages(&self, call: &Call) -> Option<Passages> {
        let keys = self.dialogs.get(&call.call_id).filter(|k| k.len() > 1)?;
        let all = keys.iter().filter_map(|key| self.calls.get(key));
        let others = all.filter(|other| other.token != call.token);
        let sessions = others.filter_map(|other| other.session.as_ref());
        Some(Passages::new(sessions.flat_map(Session::sockets)))
    }

    /// Takes the SDP out of a message from `from`, and returns the body for the other side. None:
    /// the message has no SDP and its body crosses untouched.
    pub(super) fn exchange(
        &mut self,
        key: CallKey,
        call: &mut Call,
        from: Side,
        part: Part,
        message: &Message,
        now: Instant,
        effects: &mut Effects,
    ) -> Result<Option<Vec<u8>>, Refusal> {
        let Some(range) = sdp_range(message) else {
            return Ok(None);
        };
        self.inform(call);
        if call.session.is_none() {
            return Ok(None);
        }
        let Some(sdp) = message.body().get(range.clone()) else {
            return Ok(None);
        };
        if part == Part::Offer && !self.hold_offer(call, sdp, now) {
            return Err(Refusal::NoBandwidth);
        }
        let Some(session) = call.session.as_mut() else {
            return Ok(None);
        };
        let before = effects.len();
        let pools = &mut self.pools;
        let outcome = match part {
            Part::Offer => session.offer(from, sdp, pools, now, effects),
            Part::Answer => session.answer(from, sdp, pools, now, effects),
        };
        self.index_sockets(key, effects.get(before..).unwrap_or_default());
        call.sources
            .expect(effects.get(before..).unwrap_or_default());
        self.hold_agreed(call);
        match outcome {
            Ok(told) => {
                call.journal.hear(from, part, sdp);
                Ok(Some(multipart::splice(message.body(), &range, &told)))
            }
            Err(refusal) => {
                self.counters.count("sdp_refused", refusal_reason(refusal));
                if let Refusal::NoPorts(network) = refusal {
                    let name = self.network(network).map(|n| n.name.clone());
                    let name = name.unwrap_or_default();
                    self.note_rarely(now, Kind::PortsExhausted, &name, Vec::new());
                }
                Err(refusal)
            }
        }
    }

    /// The offer was refused: what was agreed before stays.
    pub(super) fn roll_back(
        &mut self,
        key: CallKey,
        call: &mut Call,
        now: Instant,
        effects: &mut Effects,
    ) {
        call.journal.forget_offer();
        self.with_session(key, call, effects, |session, pools, effects| {
            session.roll_back(pools, now, effects);
        });
    }

    /// The request that carried an offer died: no answer will come.
    pub(super) fn withdraw_offer(
        &mut self,
        key: CallKey,
        request: &Message,
        now: Instant,
        effects: &mut Effects,
    ) {
        if let Some(mut call) = self.calls.remove(&key) {
            call.face(request);
            call.offers = call.offers.saturating_sub(1);
            self.roll_back(key, &mut call, now, effects);
            self.calls.insert(key, call);
        }
    }

    /// The answer was final.
    pub(super) fn settle(
        &mut self,
        key: CallKey,
        call: &mut Call,
        now: Instant,
        effects: &mut Effects,
    ) {
        self.with_session(key, call, effects, |session, pools, effects| {
            session.settle(pools, now, effects);
        });
    }

    pub(super) fn close_media(
        &mut self,
        key: CallKey,
        call: &mut Call,
        now: Instant,
        effects: &mut Effects,
    ) {
        self.with_session(key, call, effects, |session, pools, effects| {
            session.close(pools, now, effects);
        });
        call.session = None;
    }

    /// Lets a call's session open and close ports, and keeps the index of them in step.
    pub(super) fn with_session(
        &mut self,
        key: CallKey,
        call: &mut Call,
        effects: &mut Effects,
        work: impl FnOnce(&mut Session, &mut Pools, &mut Effects),
    ) {
        let before = effects.len();
        if let Some(session) = call.session.as_mut() {
            work(session, &mut self.pools, effects);
            self.hold_agreed(call);
        }
        call.sources
            .expect(effects.get(before..).unwrap_or_default());
        self.index_sockets(key, effects.get(before..).unwrap_or_default());
    }

    /// Keeps the index of media addresses in step with what was just opened and closed.
    fn index_sockets(&mut self, key: CallKey, done: &[Effect]) {
        for effect in done {
            match effect {
                Effect::Open { at, .. } | Effect::Listen { at, .. } => {
                    self.sockets.insert(*at, key);
                }
                Effect::Close { at } | Effect::Unlisten { at } => {
                    self.sockets.remove(at);
                }
                Effect::Send { .. }
                | Effect::Install { .. }
                | Effect::Remove { .. }
                | Effect::KeepAlive { .. }
                | Effect::Forward { .. }
                | Effect::Publish { .. }
                | Effect::Ban { .. }
                | Effect::Peer { .. }
                | Effect::Spent(_)
                | Effect::Dial { .. }
                | Effect::Store { .. }
                | Effect::Record(_) => {}
            }
        }
    }

    /// A packet that no flow claimed: the latch decides.
    pub(super) fn media(
        &mut self,
        at: SocketAddr,
        from: SocketAddr,
        packet: &[u8],
        now: Instant,
        effects: &mut Effects,
    ) {
        let key = self.sockets.get(&at).copied();
        let call = key.and_then(|key| Some((key, self.calls.get_mut(&key)?)));
        let Some((key, session, sources)) =
            call.and_then(|(key, call)| Some((key, call.session.as_mut()?, &mut call.sources)))
        else {
            return self.counters.count("media_unclaimed", "no_call");
        };
        let before = effects.len();
        let label = match session.media(at, from, packet, now, effects) {
            Learned::Held => "held",
            Learned::Tentative => "tentative",
            Learned::Stranger(reason) => reason,
            Learned::Passed => "passed",
            Learned::NotMedia => "not_media",
        };
        let learned = sources.learn(at, from, label, effects.get(before..).unwrap_or_default());
        if let Some((kind, mut fields)) = learned
            && (kind != Kind::Stranger || self.strangers.take(now))
        {
            let call = self.calls.get(&key);
            let leg = call.map_or("", |call| call.leg_at(at)).to_owned();
            let (at, source) = (at.to_string(), from.to_string());
            fields.extend([("at", at), ("source", source), ("leg", leg)]);
            if kind == Kind::SourceChanged {
                self.counters.count("media_source", "changed");
            }
            self.note(now, kind, key.0.to_string(), fields);
        }
        self.counters.count("media_unclaimed", label);
    }

    pub(super) fn active(&mut self, flows: &[Activity]) {
        for Activity { at, last, ssrc } in flows {
            if let Some(adopted) = self.adopted.get_mut(at) {
                adopted.heard = adopted.heard.max(*last);
            }
            let call = self.sockets.get(at).and_then(|key| self.calls.get_mut(key));
            if let Some(session) = call.and_then(|call| call.session.as_mut()) {
                session.note_activity(*at, *ssrc, *last);
            }
        }
    }

    pub(super) fn open_failed(&mut self, at: SocketAddr, now: Instant, effects: &mut Effects) {
        self.counters.count("media_socket", "open_failed");
        let Some(key) = self.sockets.get(&at).copied() else {
            return;
        };
        // Nobody has been told of it: as if there were no port.
        if self
            .calls
            .get(&key)
            .is_some_and(|call| call.answered.is_none())
        {
            let network = self.network_at(at).and_then(|id| self.network(id));
            let name = network.map(|n| n.name.clone()).unwrap_or_default();
            let why = vec![("why", "no_socket".to_owned())];
            self.note_rarely(now, Kind::PortsExhausted, &name, why);
            self.give_up(key, 503, "media port", now, effects);
        } else {
            self.hang_up_call(key, "media port", now, effects);
        }
    }

    /// Flows of a daemon that died: their ports are taken, and they go on while packets come.
    pub(super) fn adopt(&mut self, flows: &[(SocketAddr, SocketAddr)], now: Instant) {
        for (at, peer) in flows {
            let network = self.network_at(*at);
            if !self.pools.reserve(network, at.ip(), at.port() & !1) {
                // Its pair holds the other port of it already.
                self.counters.count("media_adopted", "shares_a_pair");
            }
            let (heard, peer) = (now, *peer);
            self.adopted.insert(*at, Adopted { heard, peer });
        }
    }

    pub(super) fn sweep_adopted(&mut self, now: Instant, effects: &mut Effects) {
        let timeout = self.config.datapath.media_timeout;
        let silent: Vec<SocketAddr> = self
            .adopted
            .iter()
            .filter(|(_, flow)| now.saturating_duration_since(flow.heard) >= timeout)
            .map(|(at, _)| *at)
            .collect();
        for at in silent {
            self.adopted.remove(&at);
            effects.push(Effect::Remove { at });
            effects.push(Effect::Close { at });
            if !self.adopted.contains_key(&sibling(at)) {
                self.pools.give_back(at.ip(), at.port() & !1, now);
            }
        }
    }

    /// Ends calls whose media fell silent, and set-ups that took too long.
    pub(super) fn sweep_calls(&mut self, now: Instant, effects: &mut Effects) {
        for call in self.calls.values_mut() {
            call.forget_repeats(now);
            if let Some(session) = call.session.as_mut() {
                session.keep_alive(now, effects);
            }
        }
        let timeout = self.config.datapath.media_timeout;
        let silent = |call: &Call| {
            call.answered.is_some()
                && call
                    .session
                    .as_ref()
                    .and_then(Session::idle_since)
                    .is_some_and(|since| now.saturating_duration_since(since) >= timeout)
        };
        let silent: Vec<CallKey> = self
            .calls
            .iter()
            .filter(|(_, c)| silent(c))
            .map(|(key, _)| *key)
            .collect();
        for key in silent {
            self.counters.count("call_ended", "media_timeout");
            self.hang_up_call(key, "media timeout", now, effects);
        }
        self.sweep_abandoned(now, effects);
        let late: Vec<(CallKey, bool)> = self
            .calls
            .iter()
            .filter_map(|(key, call)| {
                let setup = call.setup.as_ref()?;
                (now >= setup.give_up_at).then_some((*key, setup.cancelled))
            })
            .collect();
        for (key, cancelled) in late {
            if cancelled {
                // The callee never closed its INVITE: nothing more to wait for.
                self.invite_failed(key, now, effects);
            } else {
                self.give_up(key, 408, "no answer", now, effects);
            }
        }
    }
}

/// The other port of an RTP/RTCP pair.
fn sibling(at: SocketAddr) -> SocketAddr {
    SocketAddr::new(at.ip(), at.port() ^ 1)
}

fn mode(network: &Network) -> Mode {
    match network.media {
        MediaMode::Sdp => Mode::Sdp,
        MediaMode::Symmetric => Mode::Symmetric,
        MediaMode::Auto => Mode::Auto,
    }
}

fn accept(network: &Network) -> Accept {
    match network.media_from {
        MediaFrom::Signalling => Accept::Signalling,
        MediaFrom::Subnet => Accept::Subnet,
        MediaFrom::Anywhere => Accept::Anywhere,
    }
}

/// Where the SDP of a message lies in its body: all of it, or one part of a multipart (RFC 5621).
pub(super) fn sdp_range(message: &Message) -> Option<std::ops::Range<usize>> {
    let body = message.body();
    if body.is_empty() {
        return None;
    }
    multipart::find(message.get(Name::ContentType)?, body)
}

/// Instead of SDP that could not be rewritten: as it is it would lead media past us, and its
/// addresses into the other network.
pub(super) const NO_BODY: Vec<u8> = Vec::new();

/// The body of a failure response in place of SDP: capabilities (RFC 3261 §21.4.26) are neither
/// offer nor answer, and their addresses are the other network's.
pub(super) fn capabilities(message: &Message) -> Option<Vec<u8>> {
    sdp_range(message).map(|_| NO_BODY)
}

/// How long an unanswered INVITE may ring: timer C (RFC 3261 §16.6 step 11: over three minutes).
pub(super) const TIMER_C: Duration = Duration::from_secs(185).saturating_add(SWEEP);

/// The response a media refusal becomes.
pub(super) fn refusal_code(refusal: Refusal) -> u16 {
    match refusal {
        Refusal::NoPorts(_) => 503,
        Refusal::TooLarge => 513,
        Refusal::Malformed(_) | Refusal::NotAnAnswer | Refusal::NoBandwidth => 488,
        Refusal::Glare => 491,
    }
}

fn refusal_reason(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NoPorts(_) => "no_ports",
        Refusal::NoBandwidth => "no_bandwidth",
        Refusal::TooLarge => "too_large",
        Refusal::Malformed(why) => why,
        Refusal::NotAnAnswer => "not_an_answer",
        Refusal::Glare => "glare",
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn capabilities_stay_on_their_side() {
        check("application/sdp", Some(NO_BODY));
        check("text/plain", None);
    }

    fn check(content_type: &str, expected: Option<Vec<u8>>) {
        let message = format!(
            "SIP/2.0 488 Not Acceptable Here\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n\
             From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n\
             Content-Type: {content_type}\r\nContent-Length: 5\r\n\r\nv=0\r\n"
        );
        let message = Message::parse(Bytes::from(message)).unwrap();
        assert_eq!(capabilities(&message), expected, "{content_type}");
    }
}
