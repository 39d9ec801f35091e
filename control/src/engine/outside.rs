//! Everything outside INVITE dialogs: stateful forwarding (RFC 3261 §16, with our own Via alone),
//! to the next place where one does not serve.

use std::time::Instant;

use bytes::Bytes;

use crate::effect::Effects;
use crate::engine::fork::{Refusal, TARGETS_MAX, elsewhere};
use crate::engine::relay::{ALLOW, Hop, Origin, Purpose, Relay};
use crate::engine::route::Target;
use crate::engine::subscription::{self, Place};
use crate::engine::{Engine, RETRY_AFTER_S, Request, max_forwards};
use crate::sip::b2bua::{self, Back};
use crate::sip::index::{Message, Start};
use crate::sip::transaction::ClientKey;
use crate::sip::uri::Uri;
use crate::sip::vocabulary::{self, Method};

/// A request outside calls that was sent on.
pub(super) struct Outside {
    pub(super) origin: Origin,
    /// The account that has proved to be the asker.
    speaker: Option<String>,
    /// Asker and asked, of a dialog that is no call.
    pub(super) between: Option<(Place, Place)>,
    /// Places not tried yet, best first.
    pub(super) targets: Vec<Target>,
    /// The best of what was said at others.
    pub(super) best: Option<Refusal>,
}

impl Outside {
    /// One that goes where it must, and nowhere else.
    pub(super) fn new(request: &Request) -> Self {
        Self {
            origin: Origin {
                key: request.key.clone(),
                request: request.message.clone(),
            },
            speaker: None,
            between: None,
            targets: Vec::new(),
            best: None,
        }
    }
}

impl Engine {
    /// What we can do, or that we take no calls: whoever asks before it sends them here sends them
    /// elsewhere.
    fn say_what_we_can(&mut self, request: &Request, now: Instant, effects: &mut Effects) {
        if self.drain.is_some() {
            return self.answer(request, 503, now, effects);
        }
        let extra = [
            ("Allow", ALLOW.to_owned()),
            ("Accept", "application/sdp".to_owned()),
        ];
        self.answer_with(request, 200, &extra, now, effects);
    }

    /// A request outside any dialog (RFC 3261 §16, with our own Via alone).
    pub(super) fn outside(&mut self, request: Request, now: Instant, effects: &mut Effects) {
        let Start::Request { method, uri } = request.message.start() else {
            return;
        };
        // RFC 3261 §11: an OPTIONS that may go no further asks whoever it has reached.
        let stranded = max_forwards(&request.message) == Some(0);
        let ours = |uri: Uri<'_>| uri.user.is_none() && self.is_ours(&uri, now);
        let for_us = stranded || Uri::parse(uri).is_some_and(ours);
        match method {
            b"OPTIONS" if for_us => return self.say_what_we_can(&request, now, effects),
            b"OPTIONS" | b"MESSAGE" | b"PUBLISH" => {}
            _ if subscription::begins(request.message.method()) => {}
            // RFC 3261 §16.1: what a method means is the far end's affair.
            _ if matches!(request.message.method(), Some(Method::Other(_))) => {}
            _ => {
                self.counters.count("sip_refused", "method");
                let extra = [("Allow", ALLOW.to_owned())];
                return self.answer_with(&request, 501, &extra, now, effects);
            }
        }
        if !self.admit(&request, now, effects) {
            return;
        }
        let from = (request.path, request.network);
        let targets = self.targets_of(&request.message, from, now);
        let targets = targets.map(|targets| self.uncongested(targets, &request.message));
        let mut targets = match targets {
            Ok(targets) => targets,
            Err(nowhere) => {
                self.counters.count("sip_refused", nowhere.reason());
                return self.answer(&request, nowhere.code(), now, effects);
            }
        };
        if targets.is_empty() {
            return self.answer(&request, 480, now, effects);
        }
        targets.truncate(TARGETS_MAX);
        let mut outside = Outside::new(&request);
        if subscription::begins(request.message.method())
            && let Some(first) = targets.first()
        {
            outside.between = Some((self.place_of(&request), Place::of(first)));
        }
        outside.targets = targets;
        let from = (request.path, request.network);
        outside.speaker = self.speaker(&request.message, from);
        self.ask_outside(outside, now, effects);
    }

    /// Asks the next place, of which there is one.
    fn ask_outside(&mut self, mut outside: Outside, now: Instant, effects: &mut Effects) {
        if outside.targets.is_empty() {
            return self.answer_unreached(&outside.origin, 480, now, effects);
        }
        let target = outside.targets.remove(0);
        if let Some((_, asked)) = outside.between.as_mut() {
            *asked = Place::of(&target);
        }
        let to = Place::of(&target);
        self.send_outside(outside, to, (&target.uri, &[]), now, effects);
    }

    /// Sends it to one place.
    pub(super) fn send_outside(
        &mut self,
        outside: Outside,
        to: Place,
        (uri, routes): (&[u8], &[Bytes]),
        now: Instant,
        effects: &mut Effects,
    ) {
        let (origin, speaker) = (outside.origin.clone(), outside.speaker.clone());
        let contact = match outside.between {
            Some((from, _)) => self.contact_beyond(&origin.request, from, to, now),
            None => Ok(None),
        };
        let Ok(contact) = contact else {
            self.counters.count("sip_refused", "overload");
            return self.answer_overloaded(&origin, now, effects);
        };
        let hop = Hop {
            uri,
            path: to.path,
            network: to.network,
            contact: contact.as_deref(),
            routes,
            cseq: origin.request.cseq().0,
            invite_cseq: None,
            speaker: speaker.as_deref(),
            body: None,
        };
        let more = !outside.targets.is_empty();
        let purpose = Purpose::Outside(Box::new(outside));
        match self.send_on(&origin.request, hop, purpose, now, effects) {
            Some(client) if more => self.attempted(&client, to.path, now),
            Some(_) => {}
            None => self.answer_overloaded(&origin, now, effects),
        }
    }

    /// A final response.
    pub(super) fn outside_answered(
        &mut self,
        mut outside: Outside,
        code: u16,
        message: &Message,
        now: Instant,
        effects: &mut Effects,
    ) {
        if elsewhere(code) {
            Refusal::weigh(&mut outside.best, code, Some(message));
            return self.outside_failed(outside, code, now, effects);
        }
        let origin = &outside.origin;
        self.relayed.remove(&origin.key);
        let between = outside.between.filter(|_| (200..300).contains(&code));
        let contact = between.and_then(|between| self.answering_contact(message, between, now));
        let back = Back {
            request: &origin.request,
            contact: contact.as_deref(),
            told: self.told_back(&origin.request),
            body: None,
        };
        let bytes = b2bua::response(message, back);
        self.respond(&origin.key, code, bytes, now, effects);
    }

    /// A place does not serve: the next one is asked, or the asker hears the best of what was said.
    pub(super) fn outside_failed(
        &mut self,
        mut outside: Outside,
        code: u16,
        now: Instant,
        effects: &mut Effects,
    ) {
        if !outside.targets.is_empty() {
            self.counters.count("sip_forward", "next_target");
            return self.ask_outside(outside, now, effects);
        }
        let origin = outside.origin;
        let best = outside.best.take().map(Refusal::aggregated);
        let Some((code, Some(message))) = best else {
            return self.answer_unreached(&origin, code, now, effects);
        };
        self.relayed.remove(&origin.key);
        let back = Back {
            request: &origin.request,
            contact: None,
            told: self.told_back(&origin.request),
            body: None,
        };
        let bytes = b2bua::response(&message, back);
        self.respond(&origin.key, code, bytes, now, effects);
    }

    /// A place has said nothing for a while. One that is the last may still answer.
    pub(super) fn pass_over(&mut self, key: &ClientKey, now: Instant, effects: &mut Effects) {
        let others = |relay: &Relay| match &relay.purpose {
            Purpose::Outside(outside) => !outside.targets.is_empty(),
            Purpose::Register { forwarded, .. } => forwarded.has_other_ways(),
            Purpose::Invite { .. }
            | Purpose::InDialog { .. }
            | Purpose::Refresh { .. }
            | Purpose::Probe { .. }
            | Purpose::Own => false,
        };
        if !self.relays.get(key).is_some_and(|relay| others(relay)) {
            return;
        }
        self.transactions.forget_client(key);
        match self.relays.remove(key).map(|relay| relay.purpose) {
            Some(Purpose::Outside(outside)) => self.outside_failed(*outside, 408, now, effects),
            Some(Purpose::Register { origin, forwarded }) => {
                self.register_elsewhere(&origin, *forwarded, now, effects);
            }
            _ => {}
        }
    }

    /// Answers a request outside dialogs in its receiver's place.
    pub(super) fn answer_unreached(
        &mut self,
        origin: &Origin,
        code: u16,
        now: Instant,
        effects: &mut Effects,
    ) {
        self.answer_outside(origin, code, &[], now, effects);
    }

    fn answer_overloaded(&mut self, origin: &Origin, now: Instant, effects: &mut Effects) {
        let later = [("Retry-After", RETRY_AFTER_S.to_owned())];
        self.answer_outside(origin, 503, &later, now, effects);
    }

    fn answer_outside(
        &mut self,
        origin: &Origin,
        code: u16,
        extra: &[(&str, String)],
        now: Instant,
        effects: &mut Effects,
    ) {
        self.relayed.remove(&origin.key);
        let tag = self.names.token();
        let tag = Some(tag.as_str());
        let bytes = vocabulary::response(&origin.request, code, None, tag, extra, None);
        self.respond(&origin.key, code, bytes, now, effects);
    }
}
