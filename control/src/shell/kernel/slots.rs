//! Slots of a map. One that is given back rests before it is used again: a packet may be on its
//! way through the program with a reference into it.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::time::{Duration, Instant};

/// Far longer than the program takes for a batch of packets.
pub(super) const REST: Duration = Duration::from_millis(100);

pub(super) struct Slots {
    /// Never used, or adopted by nobody.
    fresh: Range<u32>,
    taken: BTreeSet<u32>,
    resting: VecDeque<(Instant, u32)>,
}

impl Slots {
    /// The slots of a range without those that are taken.
    pub(super) fn new(range: Range<u32>, taken: BTreeSet<u32>) -> Self {
        Self {
            fresh: range,
            taken,
            resting: VecDeque::new(),
        }
    }

    /// A slot nobody uses; none if all are taken or resting.
    pub(super) fn take(&mut self, now: Instant) -> Option<u32> {
        let slot = self.rested(now).or_else(|| {
            let taken = &self.taken;
            self.fresh.by_ref().find(|slot| !taken.contains(slot))
        })?;
        self.taken.insert(slot);
        Some(slot)
    }

    /// Slots that are taken or rest.
    pub(super) fn used(&self) -> usize {
        self.taken.len() + self.resting.len()
    }

    /// Lets a slot rest. One that is not taken is nobody's to give.
    pub(super) fn give(&mut self, slot: u32, now: Instant) {
        if self.taken.remove(&slot) {
            self.resting.push_back((now, slot));
        }
    }

    fn rested(&mut self, now: Instant) -> Option<u32> {
        let (since, slot) = *self.resting.front()?;
        if now.saturating_duration_since(since) < REST {
            return None;
        }
        self.resting.pop_front();
        Some(slot)
    }
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "a test needs one instant to count from"
)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_slot_rests() {
        let now = Instant::now();
        let mut slots = Slots::new(1..3, BTreeSet::new());
        assert_eq!(
            [slots.take(now), slots.take(now), slots.take(now)],
            [Some(1), Some(2), None]
        );
        slots.give(2, now);
        slots.give(2, now);
        assert_eq!(slots.take(now + REST - Duration::from_nanos(1)), None);
        assert_eq!(slots.take(now + REST), Some(2));
        assert_eq!(slots.take(now + REST), None);
    }

    #[test]
    fn adopted_slots_are_taken() {
        let now = Instant::now();
        let mut slots = Slots::new(1..4, BTreeSet::from([1, 3]));
        assert_eq!([slots.take(now), slots.take(now)], [Some(2), None]);
        slots.give(3, now);
        assert_eq!(slots.take(now + REST), Some(3));
    }

    proptest! {
        /// No slot is out twice, none is lost, none comes back before it has rested.
        #[test]
        fn one_owner(steps in proptest::collection::vec((any::<bool>(), 0..60u64), 1..200)) {
            let mut now = Instant::now();
            let mut slots = Slots::new(1..9, BTreeSet::new());
            let (mut out, mut given) = (BTreeSet::new(), std::collections::BTreeMap::new());
            for (take, ms) in steps {
                now += Duration::from_millis(ms);
                if take {
                    if let Some(slot) = slots.take(now) {
                        prop_assert!(out.insert(slot) && (1..9).contains(&slot));
                        let since = given.remove(&slot);
                        prop_assert!(since.is_none_or(|since| now - since >= REST));
                    }
                } else if let Some(slot) = out.pop_first() {
                    slots.give(slot, now);
                    given.insert(slot, now);
                }
            }
            let later = now + REST;
            while slots.take(later).is_some_and(|slot| out.insert(slot)) {}
            prop_assert_eq!(out.len(), 8);
        }
    }
}
