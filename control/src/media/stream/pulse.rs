//! Who is heard and who is not: changes of a stream that an operator would want to have seen.

use std::time::Instant;

use super::{SILENT, Stream};
use crate::media::leg::{Both, Side};

/// A change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// The party is heard for the first time.
    First,
    /// Neither party is heard any more, or none ever was.
    Silent,
    /// This party is not heard, while the other one is.
    OneWay,
    /// It is heard again.
    Resumed,
    /// It sends as another source (RFC 3550 §8).
    Source { before: u32, now: u32 },
}

/// What was said of the parties last.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Pulse {
    state: Both<State>,
    /// Whose the latest packets are.
    ssrc: Both<Option<u32>>,
    /// Whose they were before, while that was not said.
    before: Both<Option<u32>>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum State {
    #[default]
    Waiting,
    Flowing,
    /// While the other party was heard, or not.
    Silent {
        one_way: bool,
    },
}

/// Silence now.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Silence {
    /// Directions that should carry media and carry none.
    pub streams: usize,
    /// Of those, while the other direction does.
    pub one_way: usize,
}

impl Pulse {
    pub(super) fn source(&mut self, side: Side, ssrc: u32) {
        let known = self.ssrc.of_mut(side).replace(ssrc);
        if let Some(other) = known.filter(|known| *known != ssrc) {
            self.before.of_mut(side).get_or_insert(other);
        }
    }
}

impl Stream {
    /// What has changed since it was last asked. On hold, silence is no news.
    pub fn changes(&mut self, now: Instant) -> Vec<(Side, Change)> {
        let mut changes = Vec::new();
        let flows = Both::new(Side::A, self.flows(Side::A, now), self.flows(Side::B, now));
        for side in Side::BOTH {
            let was = *self.pulse.state.of(side);
            let one_way = *flows.of(side.other());
            let is = match (*flows.of(side), self.is_missed(side, now)) {
                (true, _) => State::Flowing,
                (false, true) => State::Silent { one_way },
                (false, false) => was,
            };
            *self.pulse.state.of_mut(side) = is;
            changes.extend(was.became(is).map(|change| (side, change)));
            let (before, now) = (
                self.pulse.before.of_mut(side).take(),
                *self.pulse.ssrc.of(side),
            );
            if let (Some(before), Some(now)) = (before, now)
                && before != now
            {
                changes.push((side, Change::Source { before, now }));
            }
        }
        changes
    }

    /// Whether a party is silent, as it was last found, and whether it alone is.
    #[must_use]
    pub fn silence(&self, side: Side) -> Silence {
        match self.pulse.state.of(side) {
            State::Silent { one_way } if self.idle_since().is_some() => Silence {
                streams: 1,
                one_way: usize::from(*one_way),
            },
            State::Silent { .. } | State::Waiting | State::Flowing => Silence::default(),
        }
    }

    fn flows(&self, side: Side, now: Instant) -> bool {
        let heard = self.latches.of(side).rtp.last_heard();
        heard.is_some_and(|heard| now.saturating_duration_since(heard) < SILENT)
    }

    /// Not heard for too long, though it may send.
    fn is_missed(&self, side: Side, now: Instant) -> bool {
        let rtp = &self.latches.of(side).rtp;
        let since = rtp.last_heard().unwrap_or(rtp.opened()).max(self.agreed);
        self.idle_since().is_some() && now.saturating_duration_since(since) >= SILENT
    }
}

impl State {
    fn became(self, now: Self) -> Option<Change> {
        match (self, now) {
            (Self::Waiting, Self::Flowing) => Some(Change::First),
            (Self::Silent { .. }, Self::Flowing) => Some(Change::Resumed),
            (Self::Waiting | Self::Flowing, Self::Silent { one_way: true }) => Some(Change::OneWay),
            (Self::Waiting | Self::Flowing, Self::Silent { one_way: false }) => {
                Some(Change::Silent)
            }
            // The other party came, or went, meanwhile: only the first says anything new.
            (Self::Silent { one_way: false }, Self::Silent { one_way: true }) => {
                Some(Change::OneWay)
            }
            (Self::Silent { .. }, Self::Silent { .. })
            | (Self::Flowing, Self::Flowing)
            | (_, Self::Waiting) => None,
        }
    }
}
