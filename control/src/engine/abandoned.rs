//! Calls whose parties are gone: no media need flow on hold, and no BYE comes from who has crashed.

use std::time::{Duration, Instant};

use crate::effect::Effects;
use crate::engine::call::Call;
use crate::engine::{CallKey, Engine};
use crate::media::session::{Session, Side};

/// A party of a call without session timer and without media that must flow is asked after this
/// whether it is still there.
pub(super) const PROBE_AFTER: Duration = Duration::from_secs(15 * 60);

impl Engine {
    pub(super) fn sweep_abandoned(&mut self, now: Instant, effects: &mut Effects) {
        let expired = |call: &Call| {
            let timer = call.timer.as_ref().filter(|_| call.answered.is_some());
            timer.is_some_and(|timer| now >= call.refreshed + timer.interval())
        };
        let calls = self.calls.iter();
        let expired: Vec<CallKey> = calls
            .filter(|(_, call)| expired(call))
            .map(|(key, _)| *key)
            .collect();
        for key in expired {
            // RFC 4028 §10, by who stands between: neither party will.
            self.counters.count("call_ended", "session_timer");
            self.hang_up_call(key, "session timer", now, effects);
        }
        let doubtful = |call: &Call, side: Side| {
            now.saturating_duration_since(*call.alive.of(side)) >= PROBE_AFTER && is_quiet(call)
        };
        let calls = self.calls.iter();
        let doubtful: Vec<(CallKey, Side)> = calls
            .flat_map(|(key, call)| Side::BOTH.map(|side| (*key, side, call)))
            .filter(|(_, side, call)| doubtful(call, *side))
            .map(|(key, side, _)| (key, side))
            .collect();
        for (key, side) in doubtful {
            let Some(mut call) = self.calls.remove(&key) else {
                continue;
            };
            *call.alive.of_mut(side) = now;
            self.counters.count("call_probe", "sent");
            self.send_probe(key, &mut call, side, now, effects);
            self.journal(key);
            self.calls.insert(key, call);
        }
    }

    /// What a party says to our question, or that it says nothing (408).
    pub(super) fn probed(
        &mut self,
        key: CallKey,
        side: Side,
        code: u16,
        now: Instant,
        effects: &mut Effects,
    ) {
        // RFC 3261 §12.2.1.2. Whatever else it answers, it is there.
        if matches!(code, 408 | 481) {
            self.counters.count("call_probe", "gone");
            self.counters.count("call_ended", "party_gone");
            self.hang_up_call(key, "party gone", now, effects);
        } else if let Some(call) = self.calls.get_mut(&key) {
            self.counters.count("call_probe", "alive");
            *call.alive.of_mut(side) = now;
        }
    }
}

/// Nothing else would tell that a party is gone.
fn is_quiet(call: &Call) -> bool {
    let settled = call.answered.is_some() && call.setup.is_none() && !call.is_refreshing();
    let silent = call
        .session
        .as_ref()
        .is_none_or(|s| Session::idle_since(s).is_none());
    settled && call.timer.is_none() && silent
}
