//! The last events of a conference, in order, their numbers without gaps.

use std::collections::VecDeque;

use bytes::Bytes;

/// Events known; who is further behind takes a snapshot.
pub const EVENTS_MAX: usize = 256;

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Log {
    events: VecDeque<(u64, Bytes)>,
}

impl Log {
    pub(super) fn push(&mut self, seq: u64, event: Bytes) {
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back((seq, event));
    }

    /// Those after number `seq`, in order; none if some of them are not known any more.
    #[must_use]
    pub fn after(&self, seq: u64) -> Option<Vec<Bytes>> {
        let first = self.events.front().map_or(u64::MAX, |(first, _)| *first);
        let last = self.events.back().map_or(0, |(last, _)| *last);
        if seq.saturating_add(1) < first && seq != last {
            return None;
        }
        let after = self.events.iter().filter(|(number, _)| *number > seq);
        Some(after.map(|(_, event)| event.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forgotten_is_said() {
        let mut log = Log::default();
        assert_eq!(log.after(0), Some(Vec::new()));
        for seq in 1..=300u64 {
            log.push(seq, Bytes::from(seq.to_string()));
        }
        assert_eq!(log.after(300), Some(Vec::new()));
        assert_eq!(log.after(298).map(|events| events.len()), Some(2));
        assert_eq!(log.after(44).map(|events| events.len()), Some(256));
        assert_eq!(log.after(43), None);
    }
}
