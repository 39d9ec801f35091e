//! Whether new calls are taken: not while the node is drained, nor while more waits than is soon
//! done. What is there goes on, and registrations are taken as ever.

use std::time::{Duration, Instant};

use crate::effect::Effects;
use crate::engine::event::Kind;
use crate::engine::{CALLS_MAX, CallKey, Engine};

/// Being drained: what is new goes elsewhere.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Drain {
    since: Instant,
    /// Calls that are still there then are ended.
    until: Option<Instant>,
}

/// How far a node is drained.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DrainView {
    pub age: Duration,
    /// Until calls are ended; none: they may last.
    pub left: Option<Duration>,
}

impl Engine {
    /// Why a new call is not taken now; 503 says so, and when to ask again (RFC 3261 §21.5.4).
    pub(super) fn takes_no_call(&self) -> Option<&'static str> {
        if self.drain.is_some() {
            Some("draining")
        } else if self.overloaded {
            Some("overloaded")
        } else {
            let full = self.calls.len() >= self.shard.share(CALLS_MAX);
            full.then_some("calls_max")
        }
    }

    /// Whether more messages wait than are soon handled: their senders repeat them meanwhile, and a
    /// call that is taken now would be one more that comes too late.
    pub fn set_overloaded(&mut self, overloaded: bool) {
        self.overloaded = overloaded;
    }

    /// Takes no new call from now on.
    pub(super) fn begin_drain(&mut self, deadline: Option<Duration>, now: Instant) {
        let until = deadline.and_then(|deadline| now.checked_add(deadline));
        self.drain = Some(Drain { since: now, until });
        if self.shard.is_first() {
            let seconds = deadline.map(|deadline| ("seconds", deadline.as_secs().to_string()));
            self.note(now, Kind::NodeDraining, "", seconds.into_iter().collect());
        }
    }

    /// Takes calls again.
    pub(super) fn end_drain(&mut self, now: Instant) {
        if self.drain.take().is_some() && self.shard.is_first() {
            self.note(now, Kind::NodeUndrained, "", Vec::new());
        }
    }

    #[must_use]
    pub fn draining(&self, now: Instant) -> Option<DrainView> {
        let Drain { since, until } = self.drain?;
        Some(DrainView {
            age: now.saturating_duration_since(since),
            left: until.map(|until| until.saturating_duration_since(now)),
        })
    }

    /// Ends the calls that have had their time.
    pub(super) fn sweep_drain(&mut self, now: Instant, effects: &mut Effects) {
        let drain = self.drain.as_mut();
        // Once: none comes after them, and who is still rung is let go when that has ended.
        let over = drain.and_then(|drain| drain.until.take_if(|until| now >= *until));
        if over.is_some() {
            let left: Vec<CallKey> = self.calls.keys().copied().collect();
            for key in left {
                self.counters.count("call_ended", "drain");
                self.hang_up_call(key, "drain", now, effects);
            }
        }
    }
}
