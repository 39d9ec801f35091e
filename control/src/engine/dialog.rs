//! Requests inside a call: ACK, BYE, re-INVITE and everything else that crosses it.

use std::time::Instant;

use bytes::Bytes;

use crate::effect::{Effect, Effects};
use crate::engine::call::{Call, Setup};
use crate::engine::capacity::What;
use crate::engine::fork::Asked;
use crate::engine::invite::TOKEN;
use crate::engine::media::{NO_BODY, Part, TIMER_C, refusal_code, sdp_range};
use crate::engine::refresh::SessionTimer;
use crate::engine::relay::{Hop, Origin, Purpose};
use crate::engine::{CallKey, Engine, Request, forwards_left};
use crate::id::Path;
use crate::media::session::{Refusal, Side};
use crate::sip::b2bua::{self, Onward};
use crate::sip::dialog::{Leg, contact_uri};
use crate::sip::index::Message;
use crate::sip::uri::Uri;
use crate::sip::vocabulary::{self, Method};

impl Engine {
    /// The call a message belongs to and who sent it: Call-ID and tags, and where those are not
    /// enough (a call that crosses twice) the token of our Contact.
    fn find(&self, message: &Message) -> Option<(CallKey, Side)> {
        let keys = self.dialogs.get(message.call_id())?;
        let found = || {
            keys.iter().filter_map(|key| {
                let call = self.calls.get(key)?;
                Some((*key, call.sender(message)?, call))
            })
        };
        let token = token(message);
        found()
            .find(|(_, _, call)| token == Some(call.token.as_bytes()))
            .or_else(|| found().next())
            .map(|(key, side, _)| (key, side))
    }

    /// The same, and the call with it, to be put back by whoever keeps it alive.
    fn take(&mut self, message: &Message) -> Option<(CallKey, Side, Box<Call>)> {
        let (key, from) = self.find(message)?;
        let mut call = self.calls.remove(&key)?;
        call.face(message);
        Some((key, from, call))
    }

    pub(super) fn in_dialog(&mut self, request: Request, now: Instant, effects: &mut Effects) {
        let Some((key, from, mut call)) = self.take(&request.message) else {
            if self.in_subscription(&request, now, effects) {
                return;
            }
            self.counters.count("sip_refused", "no_dialog");
            return self.answer(&request, 481, now, effects);
        };
        follow_flow(&mut call, from, request.path);
        *call.alive.of_mut(from) = now;
        let kept = match request.message.method() {
            Some(Method::Invite) => {
                self.renegotiate(key, &mut call, from, &request, now, effects);
                Some(call)
            }
            // One of several early dialogs (RFC 3261 §15): its own INVITE ends with it.
            Some(Method::Bye) if call.answered.is_none() && !call.rivals.is_empty() => {
                self.through(key, &mut call, from, &request, now, effects);
                Some(call)
            }
            Some(Method::Bye) => {
                self.bye(key, call, from, &request, now, effects);
                None
            }
            _ => {
                self.through(key, &mut call, from, &request, now, effects);
                Some(call)
            }
        };
        if let Some(call) = kept {
            self.calls.insert(key, call);
            self.journal(key);
        }
    }

    /// A re-INVITE (RFC 3261 §14).
    fn renegotiate(
        &mut self,
        key: CallKey,
        call: &mut Call,
        from: Side,
        request: &Request,
        now: Instant,
        effects: &mut Effects,
    ) {
        if call.setup.is_some() || call.answered.is_none() || call.is_refreshing() {
            self.counters.count("sip_refused", "glare");
            return self.answer(request, 491, now, effects);
        }
        if let Some(leg) = call.leg_mut(from) {
            leg.refresh_target(&request.message);
        }
        self.answer(request, 100, now, effects);
        let part = Part::Offer;
        let body = match self.exchange(key, call, from, part, &request.message, now, effects) {
            Ok(body) => body,
            Err(refusal) => return self.answer_refusal(request, refusal, now, effects),
        };
        let origin = Origin {
            key: request.key.clone(),
            request: request.message.clone(),
        };
        let purpose = Purpose::Invite {
            origin: origin.clone(),
            call: key,
        };
        let client = self.pass_on(call, from, &request.message, body, purpose, now, effects);
        let Some(client) = client else {
            self.roll_back(key, call, now, effects);
            return self.answer(request, 503, now, effects);
        };
        let asked = call.leg(from.other());
        let asked = asked.map(|leg| Asked::new(call.branch, client, leg));
        let asked = asked.into_iter().collect();
        call.setup = Some(Box::new(Setup {
            first: false,
            origin,
            from,
            asked,
            targets: Vec::new(),
            best: None,
            redirects: 0,
            offered: sdp_range(&request.message).is_some(),
            crowded: false,
            cancelled: false,
            give_up_at: now + TIMER_C,
        }));
    }

    /// BYE ends the call here and now; the other side is told, its answer is passed back.
    fn bye(
        &mut self,
        key: CallKey,
        mut call: Box<Call>,
        from: Side,
        request: &Request,
        now: Instant,
        effects: &mut Effects,
    ) {
        let origin = Origin {
            key: request.key.clone(),
            request: request.message.clone(),
        };
        let purpose = Purpose::InDialog {
            origin,
            call: key,
            from,
            offered: false,
        };
        if self
            .pass_on(
                &mut call,
                from,
                &request.message,
                None,
                purpose,
                now,
                effects,
            )
            .is_none()
        {
            self.answer(request, 200, now, effects);
        }
        self.abandon_setup(&mut call, now, effects);
        self.cancel_if_proceeding(call.refreshing(), now, effects);
        call.ended_by = Some(match from {
            Side::A => "caller",
            Side::B => "callee",
        });
        self.finish(key, call, now, effects);
    }

    /// Its SDP is not accepted: the call goes on as it was.
    fn answer_refusal(
        &mut self,
        request: &Request,
        refusal: Refusal,
        now: Instant,
        effects: &mut Effects,
    ) {
        match refusal {
            Refusal::NoBandwidth => self.answer_full(request, What::Bandwidth, now, effects),
            Refusal::NoPorts(_)
            | Refusal::Malformed(_)
            | Refusal::TooLarge
            | Refusal::NotAnAnswer
            | Refusal::Glare => self.answer(request, refusal_code(refusal), now, effects),
        }
    }

    /// Any other request: edited and forwarded; UPDATE and PRACK may carry SDP (RFC 3311, 3262).
    fn through(
        &mut self,
        key: CallKey,
        call: &mut Call,
        from: Side,
        request: &Request,
        now: Instant,
        effects: &mut Effects,
    ) {
        let message = &request.message;
        let part = match message.method() {
            Some(Method::Update) => {
                if let Some(leg) = call.leg_mut(from) {
                    leg.refresh_target(message);
                }
                Some(Part::Offer)
            }
            Some(Method::Prack) if call.delayed == Some(from.other()) => {
                call.delayed = None;
                Some(Part::Answer)
            }
            Some(Method::Prack) => Some(Part::Offer),
            _ => None,
        };
        let offers = part == Some(Part::Offer) && sdp_range(message).is_some();
        if offers && call.is_refreshing() {
            // RFC 3311 §5.2: our offer is open.
            self.counters.count("sip_refused", "glare");
            return self.answer(request, 491, now, effects);
        }
        let body = match part {
            Some(part) => self.exchange(key, call, from, part, message, now, effects),
            None => Ok(None),
        };
        let body = match body {
            Ok(body) => body,
            Err(refusal) => return self.answer_refusal(request, refusal, now, effects),
        };
        let offered = part == Some(Part::Offer) && body.is_some();
        let origin = Origin {
            key: request.key.clone(),
            request: message.clone(),
        };
        let purpose = Purpose::InDialog {
            origin,
            call: key,
            from,
            offered,
        };
        if self
            .pass_on(call, from, message, body, purpose, now, effects)
            .is_none()
        {
            return self.answer(request, 503, now, effects);
        }
        call.offers += usize::from(offered);
    }

    /// Sends an in-dialog request to the other leg.
    fn pass_on(
        &mut self,
        call: &mut Call,
        from: Side,
        message: &Message,
        body: Option<Vec<u8>>,
        purpose: Purpose,
        now: Instant,
        effects: &mut Effects,
    ) -> Option<crate::sip::transaction::ClientKey> {
        let moved = renumbered(call, from, message);
        let message = moved.as_ref().unwrap_or(message);
        let leg = call.leg_mut(from.other())?;
        let (theirs, method) = message.cseq();
        let cseq = leg.numbers.pass(theirs, method);
        let leg = leg.clone();
        let uri = contact_uri(message);
        let contact = self.contact(leg.network, leg.path, call, uri.as_deref());
        let hop = Hop {
            uri: &leg.target,
            path: leg.next_hop(),
            network: leg.network,
            contact: contact.as_deref(),
            routes: &leg.routes,
            cseq,
            invite_cseq: b2bua::rack_cseq(message).map(|theirs| leg.numbers.of_invite(theirs)),
            speaker: None,
            body,
        };
        self.send_on(message, hop, purpose, now, effects)
    }

    /// The final response to an in-dialog request other than INVITE.
    #[allow(
        clippy::too_many_arguments,
        reason = "the parts of one relay, taken apart once"
    )]
    pub(super) fn in_dialog_response(
        &mut self,
        origin: &Origin,
        key: CallKey,
        from: Side,
        offered: bool,
        code: u16,
        message: &Message,
        now: Instant,
        effects: &mut Effects,
    ) {
        let mut body = None;
        let mut reply = None;
        if let Some(mut call) = self.calls.remove(&key) {
            call.offers = call.offers.saturating_sub(usize::from(offered));
            call.face(&origin.request);
            if (200..300).contains(&code) {
                if origin.request.method() == Some(Method::Update)
                    && let Some(leg) = call.leg_mut(from.other())
                {
                    leg.refresh_target(message);
                    call.timer = SessionTimer::read(message, from);
                    call.refreshed = now;
                }
                if offered {
                    let (side, part) = (from.other(), Part::Answer);
                    let sdp = self.exchange(key, &mut call, side, part, message, now, effects);
                    body = sdp.unwrap_or(Some(NO_BODY));
                }
            } else if offered {
                self.roll_back(key, &mut call, now, effects);
            }
            reply = Some(self.back(&call, from, origin, message, body.take()));
            self.journal(key);
            self.calls.insert(key, call);
        }
        let reply = reply.unwrap_or_else(|| {
            let back = b2bua::Back {
                request: &origin.request,
                contact: None,
                told: self.told_back(&origin.request),
                body: offered.then_some(NO_BODY),
            };
            b2bua::response(message, back)
        });
        self.respond(&origin.key, code, reply, now, effects);
    }

    /// ACK for a 2xx: goes on to the callee, with the answer to a delayed offer (RFC 3261
    /// §13.2.2.4).
    pub(super) fn ack(
        &mut self,
        message: &Message,
        path: Path,
        now: Instant,
        effects: &mut Effects,
    ) {
        let Some((key, from, mut call)) = self.take(message) else {
            return self.counters.count("sip_transaction", "stray_ack");
        };
        follow_flow(&mut call, from, path);
        let (cseq, _) = message.cseq();
        let invite = call.success.as_mut().filter(|success| {
            let request = &success.origin.request;
            request.cseq().0 == cseq && request.from_tag() == message.from_tag()
        });
        let invite = invite.map(|success| {
            success.acked = true;
            success.client.clone()
        });
        let repeat = call.acked.as_ref();
        let repeat = repeat.filter(|(side, number, _)| (*side, *number) == (from, cseq));
        let repeat = repeat.map(|(_, _, bytes)| bytes.clone());
        let mut body = None;
        if repeat.is_none() && sdp_range(message).is_some() {
            call.delayed = None;
            let answer = self.exchange(key, &mut call, from, Part::Answer, message, now, effects);
            // An answer we cannot serve leaves the call without media; the parties notice.
            body = answer.unwrap_or(Some(NO_BODY));
            self.settle(key, &mut call, now, effects);
        }
        if let Some(leg) = call.leg(from.other()).cloned()
            && let Some(bytes) = repeat.or_else(|| self.ack_onward(&call, &leg, message, body))
        {
            let hop = leg.next_hop();
            call.acked = Some((from, cseq, bytes.clone()));
            if let Some(relay) = invite.and_then(|client| self.relays.get_mut(&client)) {
                relay.ack = Some((hop, bytes.clone()));
            }
            effects.push(Effect::Send {
                on: hop.on,
                to: hop.to,
                bytes,
            });
        }
        self.calls.insert(key, call);
        self.journal(key);
    }

    fn ack_onward(
        &mut self,
        call: &Call,
        leg: &Leg,
        message: &Message,
        body: Option<Vec<u8>>,
    ) -> Option<Bytes> {
        let branch = self.names.branch();
        let via = self.via(leg.network, leg.next_hop(), &branch)?;
        let uri = contact_uri(message);
        let contact = self.contact(leg.network, leg.path, call, uri.as_deref());
        let onward = Onward {
            uri: &leg.target,
            via: &via,
            contact: contact.as_deref(),
            routes: &leg.routes,
            max_forwards: forwards_left(message),
            realm: self.realm_kept(leg.path),
            cseq: leg.numbers.of_invite(message.cseq().0),
            invite_cseq: None,
            told: self.told(leg.next_hop().to.ip()),
            body,
        };
        Some(b2bua::request(message, onward))
    }

    /// Ends a call from here: BYE to both parties, or CANCEL and a refusal while it rings.
    pub(super) fn hang_up_call(
        &mut self,
        key: CallKey,
        why: &'static str,
        now: Instant,
        effects: &mut Effects,
    ) -> bool {
        let Some(call) = self.calls.get(&key) else {
            return false;
        };
        if call.answered.is_none() {
            self.give_up(key, 480, why, now, effects);
            return true;
        }
        let Some(mut call) = self.calls.remove(&key) else {
            return false;
        };
        for side in [Side::A, Side::B] {
            self.send_bye(&mut call, side, now, effects);
        }
        self.abandon_setup(&mut call, now, effects);
        self.cancel_if_proceeding(call.refreshing(), now, effects);
        call.ended_by = Some(why);
        self.finish(key, call, now, effects);
        true
    }

    /// The call ends while an INVITE is open: whoever sent it gets its final response (RFC 3261
    /// §15.1.2), whoever was asked a CANCEL.
    fn abandon_setup(&mut self, call: &mut Call, now: Instant, effects: &mut Effects) {
        let Some(setup) = call.setup.take() else {
            return;
        };
        if call.answered.is_none() {
            call.status = 487;
        }
        if !(setup.first && setup.cancelled) {
            let tag = self.names.token();
            let request = &setup.origin.request;
            let bytes = vocabulary::response(request, 487, None, Some(&tag), &[], None);
            self.respond(&setup.origin.key, 487, bytes, now, effects);
        }
        for client in setup.open() {
            self.cancel_if_proceeding(Some(client), now, effects);
        }
    }
}

/// A NAT may give a phone a new port in mid-call: same address, same tags, new flow. A new address
/// is not followed: that takes a registration or a Contact of its own.
fn follow_flow(call: &mut Call, from: Side, path: Path) {
    if let Some(leg) = call.leg_mut(from)
        && (leg.natted || path.on.transport.is_reliable())
        && leg.path.to.ip() == path.to.ip()
    {
        leg.path = path;
    }
}

/// A NOTIFY or SUBSCRIBE about a REFER that bore another number on the other leg.
fn renumbered(call: &Call, from: Side, message: &Message) -> Option<Message> {
    let (at, id) = b2bua::refer_id(message)?;
    let number = match message.method()?.as_bytes() {
        b"NOTIFY" => call.leg(from)?.numbers.refer_of(id),
        b"SUBSCRIBE" => call.leg(from.other())?.numbers.of_refer(id),
        _ => return None,
    };
    if number == id {
        return None;
    }
    b2bua::with_refer_id(message, at, number)
}

/// The token of our Contact in a request-URI.
fn token(message: &Message) -> Option<&[u8]> {
    let uri = Uri::parse(message.slice(&message.uri_range()?))?;
    uri.param(TOKEN.as_bytes()).flatten()
}
