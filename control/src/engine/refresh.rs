//! Telling the parties of running calls that our address has changed: re-INVITEs of our own, one
//! leg of a call after the other, at a steady pace over all calls.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::config::AddressChange;
use crate::effect::{Effect, Effects};
use crate::engine::call::Call;
use crate::engine::event::Kind;
use crate::engine::media::{Part, TIMER_C, sdp_range};
use crate::engine::relay::{Purpose, REPEATS};
use crate::engine::{CallKey, Engine};
use crate::id::{NetworkId, Shard};
use crate::media::session::Side;
use crate::sip::index::Message;
use crate::sip::transaction::ClientKey;

/// Calls that are told, or ended, in a second: over all calls and shards, so that neither phones
/// nor a conference server meet a burst.
pub(super) const REFRESHES_PER_S: u32 = 20;
/// Times a party that is busy with another offer, or overloaded, is asked.
pub(super) const REFRESH_ATTEMPTS_MAX: u32 = 5;
/// How soon a call is looked at again that is busy with a request of its parties.
const BUSY: Duration = Duration::from_secs(1);
/// How soon a party is asked again that answered 500 or 503.
const OVERLOADED: Duration = Duration::from_secs(10);

/// Which call is next, and when.
#[derive(Debug)]
pub(super) struct Schedule {
    due: BTreeSet<(Instant, CallKey)>,
    /// Not before: the pace.
    next: Option<Instant>,
    /// Shards that tell parties at the same time.
    shards: u32,
}

impl Schedule {
    pub(super) fn new(shard: Shard) -> Self {
        Self {
            due: BTreeSet::new(),
            next: None,
            shards: shard.of().into(),
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let (due, _) = self.due.first()?;
        Some(self.next.map_or(*due, |next| next.max(*due)))
    }

    fn pop(&mut self, now: Instant) -> Option<CallKey> {
        self.next_timeout().filter(|at| *at <= now)?;
        self.due.pop_first().map(|(_, key)| key)
    }

    /// One was sent: the next one has to wait.
    fn pace(&mut self, now: Instant) {
        self.next = Some(now + Duration::from_secs(1) / REFRESHES_PER_S * self.shards);
    }
}

/// What a call's parties are still to be told.
#[derive(Debug)]
pub(super) struct Refresh {
    /// Its place in the schedule, while no INVITE of ours is open.
    due: Instant,
    sides: Vec<Side>,
    /// The call is to end instead.
    cut: bool,
    /// Times the first of `sides` was asked.
    attempts: u32,
    open: Option<Open>,
}

/// Our INVITE.
#[derive(Debug)]
struct Open {
    client: ClientKey,
    /// Timer C, as for the INVITEs of others.
    give_up_at: Instant,
    cancelled: bool,
}

impl Refresh {
    fn is_open(&self) -> bool {
        self.open.is_some()
    }

    fn is_for(&self, client: &ClientKey) -> bool {
        self.open
            .as_ref()
            .is_some_and(|open| open.client == *client)
    }
}

impl Call {
    /// An INVITE of our own is open.
    pub(super) fn is_refreshing(&self) -> bool {
        self.refresh.as_deref().is_some_and(Refresh::is_open)
    }

    /// Our own INVITE, to be cancelled when the call ends.
    pub(super) fn refreshing(&self) -> Option<ClientKey> {
        let open = self.refresh.as_ref()?.open.as_ref();
        open.map(|open| open.client.clone())
    }

    /// No INVITE or UPDATE of the parties is open: ours may go (RFC 3261 §14.1).
    fn is_idle(&self) -> bool {
        let acked = self.success.as_ref().is_none_or(|success| success.acked);
        let delayed = self.delayed.is_some();
        self.answered.is_some() && self.setup.is_none() && acked && !delayed && self.offers == 0
    }
}

impl Engine {
    /// Brings what calls tell their parties up to date, and lets those parties know whose network
    /// wants it: `changed` ones are told otherwise, `retired` ones have moved if they have an heir.
    pub(super) fn tell_calls(
        &mut self,
        changed: &[NetworkId],
        retired: &[NetworkId],
        now: Instant,
    ) {
        let keys: Vec<CallKey> = self.calls.keys().copied().collect();
        for key in keys {
            let Some(mut call) = self.calls.remove(&key) else {
                continue;
            };
            let mut sides = Vec::new();
            let mut cut = false;
            for side in Side::BOTH {
                let Some(leg) = call.leg(side) else { continue };
                let home = self.home(leg.network, leg.path);
                let Some(home) = home.and_then(|home| self.config.network(home)) else {
                    continue;
                };
                let moved = retired.contains(&leg.network);
                if !moved && !changed.contains(&leg.network) {
                    continue;
                }
                match home.address_change {
                    // A NAT lets nobody in whom the party has not written to: it stays. So does a
                    // party that is about to be told the ports it was given.
                    AddressChange::Reinvite if moved && (leg.natted || !call.is_idle()) => continue,
                    AddressChange::Reinvite => sides.push(side),
                    AddressChange::Drop if moved => {
                        cut = true;
                        continue;
                    }
                    AddressChange::Drop => cut = true,
                    AddressChange::Ignore if moved => continue,
                    AddressChange::Ignore => {}
                }
                let home = home.id;
                self.bring_up_to_date(&mut call, side, home);
            }
            self.schedule(key, &mut call, &sides, cut, now);
            self.calls.insert(key, call);
        }
    }

    /// From now on this side is told of its network, or of the one it has moved to.
    fn bring_up_to_date(&self, call: &mut Call, side: Side, home: NetworkId) {
        let listener = self.listener(home);
        let Some(leg) = call.leg_mut(side) else {
            return;
        };
        if leg.network != home {
            leg.network = home;
            // A connection stays where it was made.
            let listener = listener.filter(|_| !leg.path.on.transport.is_reliable());
            leg.path.on = listener.unwrap_or(leg.path.on);
        }
        let told = self.leg_settings(leg);
        if let (Some(session), Some(told)) = (call.session.as_mut(), told) {
            session.inform(side, told);
        }
    }

    /// Puts a call on the schedule: these sides are told, or it ends.
    pub(super) fn schedule(
        &mut self,
        key: CallKey,
        call: &mut Call,
        sides: &[Side],
        cut: bool,
        at: Instant,
    ) {
        if sides.is_empty() && !cut {
            return;
        }
        let refresh = call.refresh.get_or_insert_with(|| {
            Box::new(Refresh {
                due: at,
                sides: Vec::new(),
                cut: false,
                attempts: 0,
                open: None,
            })
        });
        refresh.cut |= cut;
        // What is on its way may be out of date already: that side is told once more.
        let asked = usize::from(refresh.is_open());
        for side in sides {
            if !refresh.sides.iter().skip(asked).any(|known| known == side) {
                refresh.sides.push(*side);
            }
        }
        if !refresh.is_open() {
            self.refreshes.due.remove(&(refresh.due, key));
            refresh.due = at;
            self.refreshes.due.insert((at, key));
        }
    }

    /// Tells whoever is next, if it is time.
    pub(super) fn run_refreshes(&mut self, now: Instant, effects: &mut Effects) {
        while let Some(key) = self.refreshes.pop(now) {
            let Some(mut call) = self.calls.remove(&key) else {
                continue;
            };
            let Some(refresh) = call.refresh.take() else {
                self.calls.insert(key, call);
                continue;
            };
            if refresh.cut {
                self.calls.insert(key, call);
                self.counters.count("call_refresh", "dropped");
                self.hang_up_call(key, "address change", now, effects);
                self.refreshes.pace(now);
                continue;
            }
            if self.refresh(key, &mut call, refresh, now, effects) {
                self.refreshes.pace(now);
            }
            self.calls.insert(key, call);
        }
    }

    /// Asks the first side that is left. False if nothing was sent.
    fn refresh(
        &mut self,
        key: CallKey,
        call: &mut Call,
        mut refresh: Box<Refresh>,
        now: Instant,
        effects: &mut Effects,
    ) -> bool {
        let Some(side) = refresh.sides.first().copied() else {
            return false;
        };
        if !call.is_idle() {
            self.counters.count("call_refresh", "busy");
            self.put_back(key, call, refresh, now + BUSY);
            return false;
        }
        refresh.attempts += 1;
        match self.reinvite(key, call, side, now, effects) {
            Some(client) => {
                self.counters.count("call_refresh", "sent");
                refresh.open = Some(Open {
                    client,
                    give_up_at: now + TIMER_C,
                    cancelled: false,
                });
                call.refresh = Some(refresh);
                true
            }
            None if refresh.attempts < REFRESH_ATTEMPTS_MAX => {
                self.put_back(key, call, refresh, now + BUSY);
                false
            }
            None => {
                self.side_done(key, call, refresh, "not_sent", now);
                false
            }
        }
    }

    /// The answer to an INVITE of ours.
    pub(super) fn refresh_response(
        &mut self,
        client: &ClientKey,
        code: u16,
        message: &Message,
        now: Instant,
        effects: &mut Effects,
    ) {
        if code < 200 {
            return;
        }
        let Some(relay) = self.relays.get_mut(client) else {
            return;
        };
        relay.until = Some(now + REPEATS);
        let Purpose::Refresh { call: key, side } = relay.purpose else {
            return;
        };
        let ack = relay.ack.clone();
        if (200..300).contains(&code) {
            if let Some((path, bytes)) = ack {
                let (on, to) = (path.on, path.to);
                return effects.push(Effect::Send { on, to, bytes });
            }
            if let Some(leg) = self.calls.get_mut(&key).and_then(|c| c.leg_mut(side)) {
                leg.refresh_target(message);
            }
            self.acknowledge(client, key, side, message, effects);
        }
        self.refreshed(key, client, side, code, Some(message), now, effects);
    }

    /// What an answer, or none, means for the call.
    pub(super) fn refreshed(
        &mut self,
        key: CallKey,
        client: &ClientKey,
        side: Side,
        code: u16,
        message: Option<&Message>,
        now: Instant,
        effects: &mut Effects,
    ) {
        let Some(mut call) = self.calls.remove(&key) else {
            return;
        };
        self.journal(key);
        let ours = |refresh: &mut Box<Refresh>| refresh.is_for(client);
        let Some(mut refresh) = call.refresh.take_if(ours) else {
            self.calls.insert(key, call);
            return;
        };
        let cancelled = refresh.open.take().is_some_and(|open| open.cancelled);
        let again = refresh.attempts < REFRESH_ATTEMPTS_MAX;
        match code {
            200..=299 => {
                let agreed =
                    message.is_some_and(|m| self.settle_own(key, &mut call, side, m, now, effects));
                let outcome = if agreed { "accepted" } else { "no_answer" };
                self.side_done(key, &mut call, refresh, outcome, now);
            }
            408 | 481 if !cancelled => {
                self.roll_back(key, &mut call, now, effects);
                self.calls.insert(key, call);
                // RFC 3261 §12.2.1.2.
                self.counters.count("call_refresh", "dialog_gone");
                self.hang_up_call(key, "party gone", now, effects);
                return;
            }
            491 if again => {
                self.counters.count("call_refresh", "glare");
                self.roll_back(key, &mut call, now, effects);
                let wait = self.glare_wait(side);
                self.put_back(key, &mut call, refresh, now + wait);
            }
            500 | 503 if again => {
                self.counters.count("call_refresh", "overloaded");
                self.roll_back(key, &mut call, now, effects);
                self.put_back(key, &mut call, refresh, now + OVERLOADED);
            }
            _ => {
                self.roll_back(key, &mut call, now, effects);
                self.side_done(key, &mut call, refresh, "refused", now);
            }
        }
        self.calls.insert(key, call);
    }

    /// Takes the answer to our offer in; it is for nobody else.
    fn settle_own(
        &mut self,
        key: CallKey,
        call: &mut Call,
        side: Side,
        message: &Message,
        now: Instant,
        effects: &mut Effects,
    ) -> bool {
        let sdp = sdp_range(message).and_then(|range| message.body().get(range));
        let mut agreed = false;
        self.with_session(key, call, effects, |session, pools, effects| {
            let answer = sdp.map(|sdp| session.answer(side, sdp, pools, now, effects));
            agreed = answer.is_some_and(|answer| answer.is_ok());
            if agreed {
                session.settle(pools, now, effects);
            } else {
                session.roll_back(pools, now, effects);
            }
        });
        if let Some(sdp) = sdp.filter(|_| agreed) {
            call.journal.hear(side, Part::Answer, sdp);
        }
        agreed
    }

    /// One side knows, or will not know: on to the other.
    fn side_done(
        &mut self,
        key: CallKey,
        call: &mut Call,
        mut refresh: Box<Refresh>,
        outcome: &'static str,
        now: Instant,
    ) {
        self.counters.count("call_refresh", outcome);
        let side = refresh.sides.remove(0);
        let leg = match side {
            Side::A => "caller",
            Side::B => "callee",
        };
        let fields = vec![("leg", leg.to_owned()), ("outcome", outcome.to_owned())];
        self.note(now, Kind::CallRefreshed, key.0.to_string(), fields);
        refresh.attempts = 0;
        if !refresh.sides.is_empty() || refresh.cut {
            self.put_back(key, call, refresh, now);
        }
    }

    fn put_back(&mut self, key: CallKey, call: &mut Call, mut refresh: Box<Refresh>, at: Instant) {
        refresh.due = at;
        self.refreshes.due.insert((at, key));
        call.refresh = Some(refresh);
    }

    /// RFC 3261 §14.1, in units of 10 ms: towards the callee we stand where the owner of the
    /// Call-ID does.
    fn glare_wait(&mut self, to: Side) -> Duration {
        let chance = self.names.number();
        Duration::from_millis(
            10 * match to {
                Side::B => 210 + chance % 191,
                Side::A => chance % 201,
            },
        )
    }

    /// An INVITE of ours that rings for ever is cancelled.
    pub(super) fn sweep_refreshes(&mut self, now: Instant, effects: &mut Effects) {
        let mut late = Vec::new();
        for call in self.calls.values_mut() {
            let open = call.refresh.as_mut().and_then(|r| r.open.as_mut());
            if let Some(open) = open.filter(|open| !open.cancelled && open.give_up_at <= now) {
                open.cancelled = true;
                late.push(open.client.clone());
            }
        }
        for client in late {
            self.counters.count("call_refresh", "unanswered");
            self.cancel_if_proceeding(Some(client), now, effects);
        }
    }
}

/// What `Session-Expires` in a 2xx agreed (RFC 4028): a re-INVITE that did not repeat it would end
/// the timer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct SessionTimer {
    pub(super) interval: Bytes,
    pub(super) refresher: Side,
}

impl SessionTimer {
    /// From the 2xx to a request of `asked`.
    pub(super) fn read(message: &Message, asked: Side) -> Option<Self> {
        let value = message.get(crate::sip::index::Name::SessionExpires)?;
        let mut parts = value.split(|b| *b == b';').map(<[u8]>::trim_ascii);
        let interval = parts.next().filter(|i| i.iter().all(u8::is_ascii_digit))?;
        let by_answerer = parts.any(|part| part.eq_ignore_ascii_case(b"refresher=uas"));
        Some(Self {
            interval: Bytes::copy_from_slice(interval),
            refresher: if by_answerer { asked.other() } else { asked },
        })
    }

    /// How long the call lives without a refresh. Nobody may ask for less than 90 s (RFC 4028 §5).
    pub(super) fn interval(&self) -> Duration {
        let text = std::str::from_utf8(&self.interval).unwrap_or_default();
        Duration::from_secs(text.parse().unwrap_or(u32::MAX).max(90).into())
    }

    /// As a request of ours to `to` says it.
    pub(super) fn value(&self, to: Side) -> String {
        let refresher = if self.refresher == to { "uas" } else { "uac" };
        let interval = String::from_utf8_lossy(&self.interval);
        format!("{interval};refresher={refresher}")
    }
}
