//! Forking (RFC 3261 §16.6, §16.7): several places are asked, one of them becomes the callee. Its
//! tag makes each answer a dialog of its own, which the caller sees as it is.

use std::time::Instant;

use bytes::Bytes;

use crate::effect::Effects;
use crate::engine::admin::{BranchView, text};
use crate::engine::call::{Call, Setup};
use crate::engine::journal::Journal;
use crate::engine::media::{Part, refusal_code};
use crate::engine::relay::{Hop, Purpose};
use crate::engine::route::Target;
use crate::engine::{CallKey, Engine};
use crate::id::{NetworkId, SessionId};
use crate::media::session::{Session, Side};
use crate::sip::dialog::{Leg, Numbers, contact_uri};
use crate::sip::edit::Edit;
use crate::sip::index::{Message, Name};
use crate::sip::transaction::ClientKey;

/// Places one call is offered to, whether at the same time or one after the other.
pub(super) const TARGETS_MAX: usize = 20;
/// Dialogs that one call may have before it is answered.
pub(super) const EARLY_DIALOGS_MAX: usize = 40;
/// Branches at a time below one INVITE that does not say (RFC 5393 §5.3.3).
const MAX_BREADTH: u32 = 60;

/// One who may become the callee: a dialog in a branch of the first INVITE.
pub(super) struct Rival {
    pub(super) branch: u32,
    pub(super) leg: Leg,
    /// The caller's sequence numbers in that dialog.
    numbers: Numbers,
    delayed: Option<Side>,
    journal: Journal,
}

/// A branch of an INVITE.
pub(super) struct Asked {
    pub(super) branch: u32,
    pub(super) client: ClientKey,
    network: NetworkId,
    target: Bytes,
    signalling: std::net::SocketAddr,
    /// Its latest response; zero while there is none.
    pub(super) status: u16,
}

impl Asked {
    pub(super) fn new(branch: u32, client: ClientKey, leg: &Leg) -> Self {
        Self {
            branch,
            client,
            network: leg.network,
            target: leg.target.clone(),
            signalling: leg.path.to,
            status: 0,
        }
    }

    fn is_open(&self) -> bool {
        self.status < 200
    }

    fn state(&self) -> &'static str {
        match self.status {
            0..=100 => "trying",
            101..=199 => "ringing",
            200..=299 => "answered",
            _ => "refused",
        }
    }
}

/// A final response to a branch.
pub(super) struct Refusal {
    pub(super) code: u16,
    pub(super) message: Option<Message>,
    /// Challenges of other branches (§16.7 step 7).
    challenges: Vec<(&'static str, Bytes)>,
}

impl Setup {
    /// The branch of a client transaction that has no final response yet.
    pub(super) fn asking(&mut self, client: &ClientKey) -> Option<&mut Asked> {
        let mut asked = self.asked.iter_mut();
        asked.find(|asked| asked.client == *client && asked.is_open())
    }

    /// Client transactions without a final response.
    pub(super) fn open(&self) -> Vec<ClientKey> {
        let open = self.asked.iter().filter(|asked| asked.is_open());
        open.map(|asked| asked.client.clone()).collect()
    }

    /// The next places to try together (§16.6): those of one preference, as many as the INVITE's
    /// Max-Breadth allows (RFC 5393 §5.3.3).
    fn next_group(&mut self, breadth: u32) -> Vec<Target> {
        let first = self.targets.first().and_then(|target| target.q);
        let alike = |target: &&Target| first.is_some() && target.q == first;
        let count = self.targets.iter().take_while(alike).count().max(1);
        let count = count.min(usize::try_from(breadth).unwrap_or(usize::MAX).max(1));
        self.targets
            .drain(..count.min(self.targets.len()))
            .collect()
    }
}

/// The lower the better.
fn rank(code: u16) -> (u16, u16) {
    match code {
        600.. => (0, 0),
        // An answer about the request itself: asking again with a change may help.
        401 | 407 | 415 | 420 | 484 => (4, 0),
        // What we say ourselves when nobody answers tells least.
        300..=399 | 408 | 480 => (4, 2),
        400..=499 => (4, 1),
        _ => (code / 100, 1),
    }
}

fn challenges(message: &Message) -> Vec<(&'static str, Bytes)> {
    let names = [
        (Name::WwwAuthenticate, "WWW-Authenticate"),
        (Name::ProxyAuthenticate, "Proxy-Authenticate"),
    ];
    let of = |(name, text)| {
        let fields = message.all(name);
        fields.map(move |field| (text, message.bytes().slice(field.value.clone())))
    };
    names.into_iter().flat_map(of).collect()
}

impl Refusal {
    /// Keeps the better of two refusals: 6xx, else the lowest class, and of that what the caller
    /// can do something about (§16.7 step 6). A redirection that leads nowhere says no more than
    /// that nobody is there.
    pub(super) fn weigh(kept: &mut Option<Self>, code: u16, message: Option<&Message>) {
        let mut fresh = Self {
            code,
            message: message.cloned(),
            challenges: message.map(challenges).unwrap_or_default(),
        };
        let Some(mut old) = kept.take() else {
            *kept = Some(fresh);
            return;
        };
        let better = rank(fresh.code) < rank(old.code);
        let (best, other) = if better {
            (&mut fresh, &mut old)
        } else {
            (&mut old, &mut fresh)
        };
        if matches!(best.code, 401 | 407) {
            best.challenges.append(&mut other.challenges);
        }
        *kept = Some(if better { fresh } else { old });
    }

    /// The response with the challenges of all branches.
    pub(super) fn aggregated(self) -> (u16, Option<Message>) {
        let message = self.message.and_then(|message| {
            let own = challenges(&message);
            let more = self.challenges.iter().filter(|other| !own.contains(other));
            let mut edit = Edit::new(&message);
            for (name, value) in more {
                edit.append(name, value);
            }
            Message::parse(edit.finish()).ok()
        });
        (self.code, message)
    }
}

impl Call {
    /// Puts the dialog with this tag on this branch in front, for signalling and for media. A tag
    /// not known yet is another dialog of the branch.
    pub(super) fn turn_to(&mut self, branch: u32, tag: Option<&[u8]>) {
        let suits = |leg: &Leg| tag.is_none() || leg.tag.is_none() || leg.tag.as_deref() == tag;
        let on = self.branch == branch;
        if !(on && self.callee.as_ref().is_some_and(suits)) {
            let known = |rival: &Rival| rival.branch == branch && suits(&rival.leg);
            let rival = match self.rivals.iter().position(known) {
                Some(at) => Some(self.rivals.remove(at)),
                None => self.another_dialog(branch),
            };
            if let Some(rival) = rival {
                self.put_in_front(rival);
            }
        }
        if let Some(session) = self.session.as_mut() {
            session.turn_to(branch);
        }
    }

    /// A second tag on a branch: somebody beyond has forked too.
    fn another_dialog(&self, branch: u32) -> Option<Rival> {
        let own = self.callee.as_ref().filter(|_| self.branch == branch);
        let mut rivals = self.rivals.iter().filter(|rival| rival.branch == branch);
        let own = own.map(|leg| (leg, &self.journal));
        let (leg, journal) =
            own.or_else(|| rivals.next().map(|rival| (&rival.leg, &rival.journal)))?;
        let setup = self.setup.as_ref()?;
        let cseq = setup.origin.request.cseq().0;
        Some(Rival {
            branch,
            leg: Leg {
                tag: None,
                routes: Vec::new(),
                numbers: Numbers::with_invite(cseq),
                ..leg.clone()
            },
            numbers: Numbers::after(cseq),
            delayed: None,
            journal: journal.another(),
        })
    }

    fn put_in_front(&mut self, rival: Rival) {
        let numbers = std::mem::replace(&mut self.caller.numbers, rival.numbers);
        let delayed = std::mem::replace(&mut self.delayed, rival.delayed);
        let journal = std::mem::replace(&mut self.journal, rival.journal);
        let branch = std::mem::replace(&mut self.branch, rival.branch);
        if let Some(leg) = self.callee.replace(rival.leg) {
            self.rivals.push(Rival {
                branch,
                leg,
                numbers,
                delayed,
                journal,
            });
        }
    }

    /// Puts the dialog in front that a request belongs to.
    pub(super) fn face(&mut self, message: &Message) {
        let tags = [message.from_tag(), message.to_tag()];
        let has = |leg: &Leg| leg.tag.is_some() && tags.contains(&leg.tag.as_deref());
        if self.callee.as_ref().is_some_and(has) {
            return;
        }
        let rival = self.rivals.iter().find(|rival| has(&rival.leg));
        if let Some((branch, tag)) = rival.map(|rival| (rival.branch, rival.leg.tag.clone())) {
            self.turn_to(branch, tag.as_deref());
        }
    }

    /// A branch is over: its dialogs are.
    fn forget_branch(&mut self, branch: u32) {
        self.rivals.retain(|rival| rival.branch != branch);
        if self.branch == branch
            && let Some(rival) = self.rivals.pop()
        {
            self.put_in_front(rival);
            self.rivals.retain(|rival| rival.branch != branch);
            let front = self.branch;
            if let Some(session) = self.session.as_mut() {
                session.turn_to(front);
            }
        }
    }

    pub(super) fn branches(&self) -> Vec<BranchView> {
        let setup = self.setup.as_ref().filter(|setup| setup.first);
        let asked = setup.map(|setup| setup.asked.as_slice());
        let view = |asked: &Asked| BranchView {
            network: asked.network,
            target: text(&asked.target),
            signalling: asked.signalling,
            state: asked.state(),
            status: asked.status,
        };
        asked.unwrap_or_default().iter().map(view).collect()
    }
}

impl Engine {
    /// Asks the next places. The error is the response for the caller if that cannot be done.
    pub(super) fn ask_next(
        &mut self,
        key: CallKey,
        call: &mut Call,
        now: Instant,
        effects: &mut Effects,
    ) -> Result<(), u16> {
        loop {
            let outcome = self.ask_group(key, call, now, effects);
            let setup = call.setup.as_ref();
            // Where there is no room, others are next.
            let next = setup.is_some_and(|setup| setup.crowded && !setup.targets.is_empty());
            if outcome.is_ok() || !next {
                return outcome;
            }
            self.counters.count("call_setup", "next_target");
        }
    }

    fn ask_group(
        &mut self,
        key: CallKey,
        call: &mut Call,
        now: Instant,
        effects: &mut Effects,
    ) -> Result<(), u16> {
        let setup = call.setup.as_mut().ok_or(500_u16)?;
        let request = setup.origin.request.clone();
        let breadth = max_breadth(&request).unwrap_or(MAX_BREADTH);
        let group = setup.next_group(breadth);
        let count = u32::try_from(group.len()).unwrap_or(u32::MAX);
        let request = match count {
            0 => return Err(480),
            1 => request,
            _ => with_breadth(&request, breadth / count).ok_or(513_u16)?,
        };
        if count > 1 {
            self.counters.count("call_setup", "forked");
        }
        let mut outcome = Err(480);
        for target in group {
            let asked = self.ask(key, call, target, &request, now, effects);
            outcome = outcome.or(asked);
        }
        outcome
    }

    fn ask(
        &mut self,
        key: CallKey,
        call: &mut Call,
        target: Target,
        request: &Message,
        now: Instant,
        effects: &mut Effects,
    ) -> Result<(), u16> {
        let setup = call.setup.as_ref().ok_or(500_u16)?;
        let branch = setup.asked.last().map_or(0, |asked| asked.branch + 1);
        let origin = setup.origin.clone();
        let leg = self.seat_callee(key, call, branch, &target, request.cseq().0)?;
        let outcome = match self.hold_invite(call, request, now) {
            Ok(()) => {
                let part = Part::Offer;
                let body = self.exchange(key, call, Side::A, part, request, now, effects);
                body.map_err(refusal_code)
            }
            Err(full) => {
                if let Some(setup) = call.setup.as_mut() {
                    setup.crowded = true;
                }
                Err(full.what.code())
            }
        };
        let client = match outcome {
            Ok(body) => {
                let from = (call.caller.path, call.caller.network);
                let speaker = self.speaker(&origin.request, from);
                let uri = contact_uri(request);
                let contact = self.contact(target.network, target.path, call, uri.as_deref());
                let hop = Hop {
                    uri: &target.uri,
                    path: target.path,
                    network: target.network,
                    contact: contact.as_deref(),
                    routes: &[],
                    cseq: request.cseq().0,
                    invite_cseq: None,
                    speaker: speaker.as_deref(),
                    body,
                };
                let purpose = Purpose::Invite { origin, call: key };
                let client = self.send_on(request, hop, purpose, now, effects);
                client.ok_or(503)
            }
            Err(code) => Err(code),
        };
        match client {
            Ok(client) => {
                self.attempted(&client, leg.path, now);
                let asked = Asked::new(branch, client, &leg);
                if let Some(setup) = call.setup.as_mut() {
                    setup.asked.push(asked);
                }
                Ok(())
            }
            Err(code) => {
                self.drop_branch(key, call, branch, now, effects);
                Err(code)
            }
        }
    }

    /// Makes a target one who may become the callee of a call, for signalling and for media.
    fn seat_callee(
        &self,
        key: CallKey,
        call: &mut Call,
        branch: u32,
        target: &Target,
        cseq: u32,
    ) -> Result<Leg, u16> {
        let callee = Leg {
            network: target.network,
            path: target.path,
            natted: target.natted,
            tag: None,
            party: Bytes::new(),
            target: target.uri.clone(),
            routes: Vec::new(),
            numbers: Numbers::with_invite(cseq),
        };
        let settings = (self.leg_settings(&call.caller), self.leg_settings(&callee));
        let (Some(a), Some(b)) = settings else {
            return Err(500);
        };
        match call.session.as_mut() {
            Some(session) => session.fork(branch, b),
            None => call.session = Some(Session::new(SessionId(key.0), a, b)),
        }
        call.put_in_front(Rival {
            branch,
            leg: callee.clone(),
            numbers: Numbers::after(cseq),
            delayed: None,
            journal: Journal::default(),
        });
        Ok(callee)
    }

    /// A branch is over, without a callee.
    pub(super) fn drop_branch(
        &mut self,
        key: CallKey,
        call: &mut Call,
        branch: u32,
        now: Instant,
        effects: &mut Effects,
    ) {
        call.forget_branch(branch);
        self.with_session(key, call, effects, |session, pools, effects| {
            session.drop_branch(branch, pools, now, effects);
        });
    }

    /// One has answered: everybody else who was asked is told so (§16.7 step 10), and what they
    /// were given is let go.
    pub(super) fn decide(
        &mut self,
        key: CallKey,
        call: &mut Call,
        others: Vec<ClientKey>,
        now: Instant,
        effects: &mut Effects,
    ) {
        call.rivals.clear();
        self.with_session(key, call, effects, |session, pools, effects| {
            session.decide(pools, now, effects);
        });
        for client in others {
            self.counters.count("call_setup", "branch_cancelled");
            self.cancel_if_proceeding(Some(client), now, effects);
        }
    }

    /// A branch of the first INVITE was refused: others go on or are asked, or the caller hears
    /// the best of what was said. Returns the call if it lives.
    pub(super) fn branch_failed(
        &mut self,
        key: CallKey,
        mut call: Box<Call>,
        client: &ClientKey,
        code: u16,
        message: Option<&Message>,
        now: Instant,
        effects: &mut Effects,
    ) -> Option<Box<Call>> {
        let asked = call.setup.as_mut().and_then(|setup| setup.asking(client));
        let Some(asked) = asked else {
            return Some(call);
        };
        asked.status = code;
        let branch = asked.branch;
        call.turn_to(branch, None);
        let redirected = (300..400).contains(&code)
            && message.is_some_and(|message| self.redirect(&mut call, message, now));
        let setup = call.setup.as_mut()?;
        if !redirected {
            Refusal::weigh(&mut setup.best, code, message);
        }
        if code >= 600 {
            // §16.7 step 5: nobody else need be asked.
            setup.targets.clear();
        }
        let open = setup.open();
        let next = setup.targets.first().map(|target| target.q.is_some());
        let elsewhere = redirected || elsewhere(code);
        let next = next.is_some_and(|preference| preference || elsewhere) && !setup.cancelled;
        if code >= 600 {
            for client in &open {
                self.cancel_if_proceeding(Some(client.clone()), now, effects);
            }
        }
        let mut outcome = Err(code);
        if open.is_empty() && next {
            self.counters.count("call_setup", "next_target");
            outcome = self.ask_next(key, &mut call, now, effects);
        }
        if !open.is_empty() || outcome.is_ok() {
            self.drop_branch(key, &mut call, branch, now, effects);
            return Some(call);
        }
        if let (Some(setup), Err(own)) = (call.setup.as_mut(), outcome)
            && next
        {
            Refusal::weigh(&mut setup.best, own, None);
        }
        let best = call.setup.as_mut().and_then(|setup| setup.best.take());
        let cancelled = call.setup.as_ref().is_some_and(|setup| setup.cancelled);
        if cancelled {
            self.finish(key, call, now, effects);
            return None;
        }
        let (code, message) = best.map_or((code, None), Refusal::aggregated);
        self.refuse(key, call, code, message.as_ref(), now, effects);
        None
    }
}

/// Whether somebody else may serve where this was said.
pub(super) fn elsewhere(code: u16) -> bool {
    matches!(code, 404 | 408 | 410 | 430 | 480 | 500..=599)
}

fn max_breadth(message: &Message) -> Option<u32> {
    let text = std::str::from_utf8(message.get(Name::MaxBreadth)?).ok()?;
    text.trim().parse().ok()
}

/// The same request for a branch that may fork into so many.
fn with_breadth(message: &Message, breadth: u32) -> Option<Message> {
    let mut edit = Edit::new(message);
    edit.set(Name::MaxBreadth, breadth.max(1).to_string().as_bytes());
    Message::parse(edit.finish()).ok()
}
