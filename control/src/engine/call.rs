//! One call: two legs, their media, and the INVITE in progress.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::effect::{CallRecord, Effect, Rule};
use crate::engine::admin::{CallView, LegView, flows, text};
use crate::engine::capacity::Claim;
use crate::engine::event::Kind;
use crate::engine::fork::{Asked, Refusal, Rival};
use crate::engine::journal::Journal;
use crate::engine::pulse::STRANGERS_MAX;
use crate::engine::refresh::{Refresh, SessionTimer};
use crate::engine::relay::{Origin, REPEATS};
use crate::engine::route::Target;
use crate::media::session::{Both, Session, Side};
use crate::sip::dialog::Leg;
use crate::sip::index::Message;
use crate::sip::transaction::ClientKey;

pub(super) struct Call {
    pub(super) call_id: Bytes,
    /// In our Contacts, so that a call that crosses the edge twice is told apart.
    pub(super) token: String,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) caller: Leg,
    pub(super) callee: Option<Leg>,
    /// The branch of the first INVITE that the callee is on.
    pub(super) branch: u32,
    /// Others who may become the callee.
    pub(super) rivals: Vec<Rival>,
    pub(super) session: Option<Session>,
    /// What it holds of peers and networks.
    pub(super) claims: Vec<Claim>,
    /// What another process will have to know.
    pub(super) journal: Journal,
    /// The INVITE transaction that is open, the first or a later one.
    pub(super) setup: Option<Box<Setup>>,
    /// The last 2xx to an INVITE, for its repeats.
    pub(super) success: Option<Box<Success>>,
    /// The last ACK for a 2xx that was passed on, by its sender and CSeq: repeated as it was.
    pub(super) acked: Option<(Side, u32, Bytes)>,
    /// Who sent an offer in a response: the answer comes in PRACK or ACK (RFC 3261 §13.2.1).
    pub(super) delayed: Option<Side>,
    /// Requests other than INVITE under way whose bodies are offers.
    pub(super) offers: usize,
    /// What the parties are still to be told of our address.
    pub(super) refresh: Option<Box<Refresh>>,
    /// The session timer they have agreed on.
    pub(super) timer: Option<SessionTimer>,
    /// When they agreed on it last.
    pub(super) refreshed: Instant,
    /// When each party was last known to be there.
    pub(super) alive: Both<Instant>,
    /// Where its media comes from, as far as it was said.
    pub(super) sources: Sources,
    pub(super) started: Instant,
    pub(super) answered: Option<Instant>,
    pub(super) status: u16,
    pub(super) ended_by: Option<&'static str>,
}

/// What was said of the sources of a call's media.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// Our sockets, a few, each with its source.
    locked: Vec<(SocketAddr, SocketAddr)>,
    strangers: Vec<SocketAddr>,
}

impl Sources {
    /// What is new in a packet from `from` at `at`, and in what followed from it.
    pub(super) fn learn(
        &mut self,
        at: SocketAddr,
        from: SocketAddr,
        verdict: &'static str,
        done: &[Effect],
    ) -> Option<(Kind, Vec<(&'static str, String)>)> {
        let mine = |there: &SocketAddr, rule: &Rule| *there == at && rule.peer == from;
        let installed = done
            .iter()
            .any(|effect| matches!(effect, Effect::Install { at, rule } if mine(at, rule)));
        if installed {
            return match self.lock(at, from) {
                None => Some((Kind::SourceLocked, Vec::new())),
                Some(old) if old != from => {
                    Some((Kind::SourceChanged, vec![("before", old.to_string())]))
                }
                Some(_) => None,
            };
        }
        let stranger = !matches!(verdict, "held" | "tentative" | "passed" | "not_media");
        let named = self.strangers.len();
        let first = stranger && named < STRANGERS_MAX && !self.strangers.contains(&from);
        if first {
            self.strangers.push(from);
        }
        first.then(|| (Kind::Stranger, vec![("verdict", verdict.to_owned())]))
    }

    /// Sources that SDP has settled are nobody's news, but what comes after them is.
    pub(super) fn expect(&mut self, done: &[Effect]) {
        for effect in done {
            if let Effect::Install { at, rule } = effect {
                self.lock(*at, rule.peer);
            }
        }
    }

    /// Which one was there before.
    fn lock(&mut self, at: SocketAddr, from: SocketAddr) -> Option<SocketAddr> {
        let known = self.locked.iter_mut().find(|(known, _)| *known == at);
        if let Some((_, source)) = known {
            return Some(std::mem::replace(source, from));
        }
        self.locked.reserve_exact(1);
        self.locked.push((at, from));
        None
    }
}

/// An INVITE on its way.
pub(super) struct Setup {
    pub(super) first: bool,
    pub(super) origin: Origin,
    pub(super) from: Side,
    /// Who is being asked, or was; a later INVITE asks one.
    pub(super) asked: Vec<Asked>,
    /// Places not yet tried; the first INVITE only.
    pub(super) targets: Vec<Target>,
    /// The best refusal so far.
    pub(super) best: Option<Refusal>,
    /// Redirections that were followed.
    pub(super) redirects: u8,
    /// It carried an offer.
    pub(super) offered: bool,
    /// Somebody could not be asked, because there was no room for the call.
    pub(super) crowded: bool,
    pub(super) cancelled: bool,
    /// Timer C (§16.6 step 11), or the end of our patience after a CANCEL.
    pub(super) give_up_at: Instant,
}

/// A 2xx that was passed on.
pub(super) struct Success {
    pub(super) client: ClientKey,
    pub(super) origin: Origin,
    pub(super) to_tag: Option<Bytes>,
    pub(super) code: u16,
    pub(super) reply: Bytes,
    /// Its ACK has passed.
    pub(super) acked: bool,
}

impl Call {
    /// Forgets what only repeats of the last INVITE's 2xx and ACK would be answered with, once
    /// there are none any more.
    pub(super) fn forget_repeats(&mut self, now: Instant) {
        let over = now.saturating_duration_since(self.refreshed) >= REPEATS;
        if over && self.success.as_ref().is_some_and(|success| success.acked) {
            self.success = None;
            self.acked = None;
        }
    }

    pub(super) fn leg(&self, side: Side) -> Option<&Leg> {
        match side {
            Side::A => Some(&self.caller),
            Side::B => self.callee.as_ref(),
        }
    }

    pub(super) fn leg_mut(&mut self, side: Side) -> Option<&mut Leg> {
        match side {
            Side::A => Some(&mut self.caller),
            Side::B => self.callee.as_mut(),
        }
    }

    pub(super) fn legs_mut(&mut self) -> impl Iterator<Item = &mut Leg> {
        let parties = [Some(&mut self.caller), self.callee.as_mut()];
        let rivals = self.rivals.iter_mut().map(|rival| &mut rival.leg);
        parties.into_iter().flatten().chain(rivals)
    }

    pub(super) fn legs(&self) -> impl Iterator<Item = &Leg> {
        let parties = [Some(&self.caller), self.callee.as_ref()];
        let rivals = self.rivals.iter().map(|rival| &rival.leg);
        parties.into_iter().flatten().chain(rivals)
    }

    /// One of the parties bears this tag.
    pub(super) fn has_tag(&self, tag: Option<&[u8]>) -> bool {
        tag.is_some() && self.legs().any(|leg| leg.tag.as_deref() == tag)
    }

    /// Which party sent an in-dialog request, by its tags (RFC 3261 §12.2.2).
    pub(super) fn sender(&self, message: &Message) -> Option<Side> {
        let caller = self.caller.tag.as_deref();
        let (from, to) = (message.from_tag(), message.to_tag());
        let mut callees = self.legs().skip(1).map(|leg| leg.tag.as_deref());
        callees.find_map(|callee| {
            if from == caller && to == callee {
                Some(Side::A)
            } else if from == callee && to == caller {
                Some(Side::B)
            } else {
                None
            }
        })
    }

    pub(super) fn state(&self) -> &'static str {
        match (&self.setup, self.answered) {
            (Some(setup), _) if setup.cancelled => "cancelled",
            (Some(_), Some(_)) => "renegotiating",
            (Some(_), None) if self.legs().skip(1).any(|leg| leg.tag.is_some()) => "ringing",
            (Some(_), None) => "calling",
            (None, _) => "established",
        }
    }

    pub(super) fn view(&self, id: u64, now: Instant) -> CallView {
        let session = self.session.as_ref();
        let streams = session.map(Session::streams).unwrap_or_default();
        let leg = |side: Side, leg: &Leg| LegView {
            network: leg.network,
            signalling: leg.path,
            natted: leg.natted,
            target: text(&leg.target),
            media: session.map(|session| session.leg(side).mode),
            ordered: streams
                .iter()
                .any(|stream| stream.side(side).mode.is_some()),
        };
        CallView {
            id,
            call_id: text(&self.call_id),
            from: self.from.clone(),
            to: self.to.clone(),
            state: self.state(),
            age: now.saturating_duration_since(self.started),
            setup: self
                .answered
                .map(|at| at.saturating_duration_since(self.started)),
            caller: leg(Side::A, &self.caller),
            callee: self.callee.as_ref().map(|callee| leg(Side::B, callee)),
            branches: self.branches(),
            flows: streams
                .iter()
                .flat_map(|s| {
                    flows(
                        s,
                        self.caller.network,
                        self.callee.as_ref().map(|c| c.network),
                        now,
                    )
                })
                .collect(),
        }
    }

    /// Its last line in the books.
    pub(super) fn record(&self, now: Instant) -> CallRecord {
        CallRecord {
            call_id: text(&self.call_id),
            from: self.from.clone(),
            to: self.to.clone(),
            status: self.status,
            setup: self
                .answered
                .unwrap_or(now)
                .saturating_duration_since(self.started),
            length: self
                .answered
                .map_or(Duration::ZERO, |at| now.saturating_duration_since(at)),
            ended_by: self.ended_by.unwrap_or("refused"),
        }
    }
}
