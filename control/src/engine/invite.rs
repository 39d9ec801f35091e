//! The INVITE that makes a call: who is asked, in which order, and what comes back.

use std::time::Instant;

use bytes::Bytes;

use crate::effect::{Effect, Effects};
use crate::engine::admin::text;
use crate::engine::call::{Call, Setup, Sources, Success};
use crate::engine::event::Kind;
use crate::engine::fork::{EARLY_DIALOGS_MAX, TARGETS_MAX};
use crate::engine::journal::Journal;
use crate::engine::media::{NO_BODY, Part, TIMER_C, capabilities, refusal_code, sdp_range};
use crate::engine::refresh::SessionTimer;
use crate::engine::relay::{Origin, REPEATS};
use crate::engine::route::Target;
use crate::engine::{CallKey, Engine, Request};
use crate::id::{NetworkId, Path};
use crate::media::session::{Both, Side};
use crate::sip::b2bua::{self, Back};
use crate::sip::dialog::{Leg, Numbers, contact_uri, record_routes};
use crate::sip::index::{Message, Name};
use crate::sip::transaction::ClientKey;
use crate::sip::uri::Uri;
use crate::sip::vocabulary;

impl Engine {
    pub(super) fn invite(&mut self, request: Request, now: Instant, effects: &mut Effects) {
        if let Some(why) = self.takes_no_call() {
            self.counters.count("sip_refused", why);
            return self.answer(&request, 503, now, effects);
        }
        if !self.admit(&request, now, effects) {
            return;
        }
        let from = (request.path, request.network);
        let mut targets = match self.targets_of(&request.message, from, now) {
            Ok(targets) => self.uncongested(targets, &request.message),
            Err(nowhere) => {
                self.counters.count("sip_refused", nowhere.reason());
                return self.answer(&request, nowhere.code(), now, effects);
            }
        };
        targets.truncate(TARGETS_MAX);
        if self.loops(&request) {
            self.counters.count("sip_refused", "loop");
            return self.answer(&request, 482, now, effects);
        }
        let mut call = self.new_call(&request, targets, now);
        if let Err(full) = self.hold_invite(&mut call, &request.message, now) {
            return self.answer_full(&request, full.what, now, effects);
        }
        self.answer(&request, 100, now, effects);
        let key = CallKey(self.shard.number(self.calls_made));
        self.calls_made += 1;
        let parties = vec![("from", call.from.clone()), ("to", call.to.clone())];
        self.note(now, Kind::CallStarted, key.0.to_string(), parties);
        self.dialogs
            .entry(call.call_id.clone())
            .or_default()
            .push(key);
        match self.ask_next(key, &mut call, now, effects) {
            Ok(()) => {
                self.calls.insert(key, call);
            }
            Err(code) => self.refuse(key, call, code, None, now, effects),
        }
    }

    /// The same request by another way (RFC 3261 §8.2.2.2), or back after a round (RFC 5393 §4.2).
    /// One that asks for somebody else is a spiral, and welcome.
    fn loops(&self, request: &Request) -> bool {
        let message = &request.message;
        let uri = |message: &Message| message.uri_range().map(|r| message.slice(&r).to_vec());
        let keys = self.dialogs.get(message.call_id()).into_iter().flatten();
        let mut setups = keys.filter_map(|key| self.calls.get(key)?.setup.as_ref());
        setups.any(|setup| {
            let open = &setup.origin.request;
            setup.first
                && open.cseq() == message.cseq()
                && open.from_tag() == message.from_tag()
                && uri(open) == uri(message)
        })
    }

    fn new_call(&mut self, request: &Request, targets: Vec<Target>, now: Instant) -> Box<Call> {
        let message = &request.message;
        let value = |name| {
            message
                .get(name)
                .map(Bytes::copy_from_slice)
                .unwrap_or_default()
        };
        let caller = Leg {
            network: request.network,
            path: request.path,
            natted: self.natted(request.network, message, request.path),
            tag: message.from_tag().map(Bytes::copy_from_slice),
            party: value(Name::From),
            target: contact_uri(message).unwrap_or_default(),
            routes: record_routes(message),
            numbers: Numbers::after(message.cseq().0),
        };
        Box::new(Call {
            call_id: Bytes::copy_from_slice(message.call_id()),
            token: self.names.token(),
            from: user_of(message.get(Name::From)),
            to: user_of(message.get(Name::To)),
            caller,
            callee: None,
            branch: 0,
            rivals: Vec::new(),
            session: None,
            claims: Vec::new(),
            journal: Journal::default(),
            setup: Some(Box::new(Setup {
                first: true,
                origin: Origin {
                    key: request.key.clone(),
                    request: message.clone(),
                },
                from: Side::A,
                asked: Vec::new(),
                targets,
                best: None,
                redirects: 0,
                offered: sdp_range(message).is_some(),
                crowded: false,
                cancelled: false,
                give_up_at: now + TIMER_C,
            })),
            success: None,
            acked: None,
            delayed: None,
            offers: 0,
            refresh: None,
            timer: None,
            refreshed: now,
            alive: Both { a: now, b: now },
            sources: Sources::default(),
            started: now,
            answered: None,
            status: 0,
            ended_by: None,
        })
    }

    /// Our Contact towards a network: the user part the party chose, our address, the call's token.
    pub(super) fn contact(
        &self,
        network: NetworkId,
        path: Path,
        call: &Call,
        theirs: Option<&[u8]>,
    ) -> Option<String> {
        let address = self.advertised(self.network(network)?, path.on);
        let user = theirs.and_then(Uri::parse).and_then(|uri| uri.user);
        let user = user.and_then(|user| std::str::from_utf8(user).ok());
        let user = user.map(|user| format!("{user}@")).unwrap_or_default();
        let transport = path.on.transport.param();
        Some(format!(
            "<sip:{user}{address};{TOKEN}={}{transport}>",
            call.token
        ))
    }

    pub(super) fn invite_response(
        &mut self,
        key: CallKey,
        client: &ClientKey,
        code: u16,
        message: &Message,
        now: Instant,
        effects: &mut Effects,
    ) {
        if code >= 200
            && let Some(relay) = self.relays.get_mut(client)
        {
            relay.until = Some(now + REPEATS);
        }
        let Some(mut call) = self.calls.remove(&key) else {
            // The call is over; a late 2xx still made a dialog at the callee, and an INVITE that
            // could not be cancelled before now can.
            match code {
                100..=199 => self.send_cancel(client, now, effects),
                200..=299 => self.turn_away(client, message, now, effects),
                _ => {}
            }
            return;
        };
        let setup = call.setup.as_mut();
        let open = setup.is_some_and(|setup| setup.asking(client).is_some());
        let kept = match code {
            100..=199 if !open => {
                // Another one has answered since: §16.7 step 10.
                let winner = call.success.as_ref().map(|success| &success.client);
                if winner != Some(client) {
                    self.send_cancel(client, now, effects);
                }
                Some(call)
            }
            _ if !open => {
                self.repeated_success(&call, client, code, message, now, effects);
                Some(call)
            }
            100..=199 => {
                self.provisional(key, &mut call, client, code, message, now, effects);
                Some(call)
            }
            200..=299 => self.success(key, call, client, code, message, now, effects),
            _ => self.failure(key, call, client, code, Some(message), now, effects),
        };
        if let Some(call) = kept {
            self.calls.insert(key, call);
        }
    }

    fn provisional(
        &mut self,
        key: CallKey,
        call: &mut Call,
        client: &ClientKey,
        code: u16,
        message: &Message,
        now: Instant,
        effects: &mut Effects,
    ) {
        let Some(setup) = call.setup.as_mut() else {
            return;
        };
        if setup.cancelled {
            return self.send_cancel(client, now, effects);
        }
        if code == 100 {
            return;
        }
        setup.give_up_at = now + TIMER_C;
        let origin = setup.origin.clone();
        let (from, first) = (setup.from, setup.first);
        let Some(asked) = setup.asking(client) else {
            return;
        };
        asked.status = code;
        let branch = asked.branch;
        if first {
            if call.rivals.len() >= EARLY_DIALOGS_MAX && !call.has_tag(message.to_tag()) {
                return self.counters.count("call_setup", "early_dialogs_max");
            }
            call.turn_to(branch, message.to_tag());
        }
        learn_callee(call, message);
        let body = match self.response_body(key, call, from, message, now, effects) {
            Ok(body) => body,
            // An early answer we cannot serve: the final one decides.
            Err(_) => return,
        };
        let reply = self.back(call, from, &origin, message, body);
        self.respond(&origin.key, code, reply, now, effects);
    }

    fn success(
        &mut self,
        key: CallKey,
        mut call: Box<Call>,
        client: &ClientKey,
        code: u16,
        message: &Message,
        now: Instant,
        effects: &mut Effects,
    ) -> Option<Box<Call>> {
        let setup = call.setup.as_mut()?;
        let (origin, from) = (setup.origin.clone(), setup.from);
        let (first, cancelled) = (setup.first, setup.cancelled);
        if cancelled && first {
            self.turn_away(client, message, now, effects);
            self.finish(key, call, now, effects);
            return None;
        }
        if first && let Some(branch) = setup.asking(client).map(|asked| asked.branch) {
            call.turn_to(branch, message.to_tag());
        }
        learn_callee(&mut call, message);
        if let Some(other) = call.leg_mut(from.other()) {
            other.refresh_target(message);
        }
        let body = match self.response_body(key, &mut call, from, message, now, effects) {
            Ok(body) => body,
            Err(refusal) if first => {
                self.turn_away(client, message, now, effects);
                let code = refusal_code(refusal);
                return self.branch_failed(key, call, client, code, None, now, effects);
            }
            Err(_) => Some(NO_BODY),
        };
        let reply = self.back(&call, from, &origin, message, body);
        let setup = call.setup.take();
        if first {
            let mut others = setup.map(|setup| setup.open()).unwrap_or_default();
            others.retain(|other| other != client);
            self.decide(key, &mut call, others, now, effects);
        }
        self.settle(key, &mut call, now, effects);
        if first {
            call.answered = Some(now);
            call.status = code;
            self.note(now, Kind::CallAnswered, key.0.to_string(), Vec::new());
        }
        call.success = Some(Box::new(Success {
            client: client.clone(),
            origin: origin.clone(),
            to_tag: message.to_tag().map(Bytes::copy_from_slice),
            code,
            reply: reply.clone(),
            acked: false,
        }));
        call.timer = SessionTimer::read(message, from);
        call.refreshed = now;
        call.alive = Both { a: now, b: now };
        self.journal(key);
        self.respond(&origin.key, code, reply, now, effects);
        Some(call)
    }

    /// A repeat of a 2xx we passed on is passed on again; one from another fork is turned away.
    fn repeated_success(
        &mut self,
        call: &Call,
        client: &ClientKey,
        code: u16,
        message: &Message,
        now: Instant,
        effects: &mut Effects,
    ) {
        if !(200..300).contains(&code) {
            return;
        }
        match &call.success {
            Some(s) if s.client == *client && s.to_tag.as_deref() == message.to_tag() => {
                let (origin, reply) = (s.origin.key.clone(), s.reply.clone());
                self.respond(&origin, s.code, reply, now, effects);
            }
            // An earlier one of this dialog, whose ACK was lost.
            _ if call.has_tag(message.to_tag()) => {
                let ack = self.relays.get(client).and_then(|relay| relay.ack.clone());
                if let Some((Path { on, to }, bytes)) = ack {
                    effects.push(Effect::Send { on, to, bytes });
                }
            }
            _ => self.turn_away(client, message, now, effects),
        }
    }

    /// The SDP of a response: the answer to an offer in the INVITE, else an offer of its own.
    fn response_body(
        &mut self,
        key: CallKey,
        call: &mut Call,
        from: Side,
        message: &Message,
        now: Instant,
        effects: &mut Effects,
    ) -> Result<Option<Vec<u8>>, crate::media::session::Refusal> {
        let offered = call.setup.as_ref().is_some_and(|s| s.offered);
        if sdp_range(message).is_none() {
            return Ok(None);
        }
        let part = if offered { Part::Answer } else { Part::Offer };
        let body = self.exchange(key, call, from.other(), part, message, now, effects)?;
        if part == Part::Offer {
            call.delayed = Some(from.other());
        }
        Ok(body)
    }

    /// A response as the leg that asked gets it.
    pub(super) fn back(
        &self,
        call: &Call,
        to: Side,
        origin: &Origin,
        message: &Message,
        body: Option<Vec<u8>>,
    ) -> Bytes {
        let uri = contact_uri(message);
        let contact = call
            .leg(to)
            .and_then(|leg| self.contact(leg.network, leg.path, call, uri.as_deref()));
        let back = Back {
            request: &origin.request,
            contact: contact.as_deref(),
            told: self.told_back(&origin.request),
            body,
        };
        b2bua::response(message, back)
    }

    /// A final failure. Returns the call if it lives.
    pub(super) fn failure(
        &mut self,
        key: CallKey,
        mut call: Box<Call>,
        client: &ClientKey,
        code: u16,
        message: Option<&Message>,
        now: Instant,
        effects: &mut Effects,
    ) -> Option<Box<Call>> {
        if call.setup.as_ref().is_none_or(|setup| setup.first) {
            return self.branch_failed(key, call, client, code, message, now, effects);
        }
        self.roll_back(key, &mut call, now, effects);
        let setup = call.setup.take()?;
        let reply = match message {
            Some(message) => {
                let body = capabilities(message);
                self.back(&call, setup.from, &setup.origin, message, body)
            }
            None => vocabulary::response(&setup.origin.request, code, None, None, &[], None),
        };
        self.respond(&setup.origin.key, code, reply, now, effects);
        Some(call)
    }

    /// Puts the places a peer names before those that are left.
    pub(super) fn redirect(&mut self, call: &mut Call, message: &Message, now: Instant) -> bool {
        let callee = call.callee.as_ref();
        let targets = callee.map(|callee| self.redirected(callee, message, now));
        let targets = targets.filter(|targets| !targets.is_empty());
        let setup = call.setup.as_mut();
        let setup = setup.filter(|setup| setup.redirects < REDIRECTS_MAX);
        let (Some(targets), Some(setup)) = (targets, setup) else {
            return false;
        };
        setup.redirects += 1;
        setup.targets.splice(..0, targets);
        setup.targets.truncate(TARGETS_MAX);
        self.counters.count("call_setup", "redirected");
        true
    }

    /// The call does not come about: the caller gets the final response, everything is let go.
    pub(super) fn refuse(
        &mut self,
        key: CallKey,
        mut call: Box<Call>,
        code: u16,
        message: Option<&Message>,
        now: Instant,
        effects: &mut Effects,
    ) {
        // A redirection names addresses of another network: the caller could not use them.
        let code = if (300..400).contains(&code) {
            480
        } else {
            code
        };
        if let Some(setup) = call.setup.as_ref() {
            let origin = setup.origin.clone();
            let reply = match message {
                Some(message) if message.code() == Some(code) => {
                    let back = Back {
                        request: &origin.request,
                        contact: None,
                        told: self.told_back(&origin.request),
                        body: capabilities(message),
                    };
                    b2bua::response(message, back)
                }
                _ => {
                    let tag = self.names.token();
                    let request = &origin.request;
                    let extra = self.refusal_fields(code, setup.crowded);
                    let extra = extra.as_slice();
                    vocabulary::response(request, code, None, Some(&tag), extra, None)
                }
            };
            self.respond(&origin.key, code, reply, now, effects);
        }
        call.status = code;
        self.finish(key, call, now, effects);
    }

    /// Lets go of everything a call holds.
    pub(super) fn finish(
        &mut self,
        key: CallKey,
        mut call: Box<Call>,
        now: Instant,
        effects: &mut Effects,
    ) {
        self.close_media(key, &mut call, now, effects);
        self.forget_kept(key, &call, effects);
        if let Some(keys) = self.dialogs.get_mut(&call.call_id) {
            keys.retain(|other| *other != key);
            if keys.is_empty() {
                self.dialogs.remove(&call.call_id);
            }
        }
        let record = call.record(now);
        let fields = vec![
            ("why", record.ended_by.to_owned()),
            ("status", record.status.to_string()),
            ("from", record.from.clone()),
            ("to", record.to.clone()),
        ];
        self.note(now, Kind::CallEnded, key.0.to_string(), fields);
        effects.push(Effect::Record(record));
    }
}

/// Redirections followed in one call: two peers may name each other.
const REDIRECTS_MAX: u8 = 5;

/// Our URI parameter in Contacts.
pub(super) const TOKEN: &str = "tp";

/// What a response to the first INVITE tells of the callee (RFC 3261 §12.1.2).
fn learn_callee(call: &mut Call, message: &Message) {
    let first = call.setup.as_ref().is_some_and(|s| s.first);
    let (Some(callee), true) = (call.callee.as_mut(), first) else {
        return;
    };
    let Some(tag) = message.to_tag() else { return };
    callee.tag = Some(Bytes::copy_from_slice(tag));
    callee.party = message
        .get(Name::To)
        .map(Bytes::copy_from_slice)
        .unwrap_or_default();
    callee.routes = record_routes(message);
    callee.routes.reverse();
    callee.refresh_target(message);
}

fn user_of(value: Option<&[u8]>) -> String {
    value
        .and_then(crate::sip::value::NameAddr::parse)
        .map(|n| match Uri::parse(n.uri) {
            Some(uri) => uri.user_decoded().unwrap_or_else(|| text(n.uri)),
            None => text(n.uri),
        })
        .unwrap_or_default()
}
