//! Frames that have come already.

use std::collections::{HashSet, VecDeque};
use std::time::Instant;

use super::frame::Id;
use super::{SEEN_FOR, SEEN_MAX};

#[derive(Debug, Default)]
pub(super) struct Seen {
    ids: HashSet<Id>,
    order: VecDeque<(Instant, Id)>,
}

impl Seen {
    /// Whether it comes for the first time.
    pub(super) fn first(&mut self, id: Id, now: Instant) -> bool {
        while let Some((at, oldest)) = self.order.front()
            && (*at + SEEN_FOR <= now || self.order.len() >= SEEN_MAX)
        {
            self.ids.remove(oldest);
            self.order.pop_front();
        }
        let first = self.ids.insert(id);
        if first {
            self.order.push_back((now, id));
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn for_ten_minutes_and_so_many() {
        let (mut seen, begin) = (Seen::default(), super::super::tests::start());
        let id = |number| Id { boot: 1, number };
        let at = |s| begin + Duration::from_secs(s);
        assert!(seen.first(id(1), at(0)));
        assert!(!seen.first(id(1), at(599)));
        assert!(seen.first(id(1), at(600)));
        let most = u64::try_from(SEEN_MAX).unwrap();
        for number in 2..=most {
            assert!(seen.first(id(number), at(600)));
        }
        assert!(!seen.first(id(most), at(600)));
        assert_eq!(seen.ids.len(), seen.order.len());
        assert!(seen.first(id(most + 1), at(600)));
        assert!(seen.first(id(1), at(600)), "the oldest was forgotten");
        assert!(seen.ids.len() <= SEEN_MAX);
    }
}
