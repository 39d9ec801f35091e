//! Which nonce counts were used (RFC 7616 §3.4, §5.12).

use std::collections::BTreeMap;
use std::time::Duration;

use super::Verdict;

/// Nonces in use, one per client and cnonce.
const USED_MAX: usize = 65_536;

/// Counts below the highest that are told apart: requests overtake each other over UDP.
const WINDOW: u32 = 64;

/// The counts used with each nonce. What was forgotten is stale, so forgetting is safe.
#[derive(Debug, Default)]
pub(super) struct Replays {
    used: BTreeMap<(Duration, [u8; 32]), Window>,
    /// A nonce made before this or at this time is stale.
    floor: Option<Duration>,
}

/// Bit n of `seen` is the count `highest - n`.
#[derive(Clone, Copy, Debug)]
struct Window {
    highest: u32,
    seen: u64,
}

impl Replays {
    /// Takes a count once. `used` tells clients that share a nonce apart.
    pub(super) fn judge(&mut self, issued: Duration, used: [u8; 32], count: u32) -> Verdict {
        if self.floor.is_some_and(|floor| issued <= floor) {
            return Verdict::Stale;
        }
        if let Some(window) = self.used.get_mut(&(issued, used)) {
            return if window.take(count) {
                Verdict::Ok
            } else {
                Verdict::Replay
            };
        }
        let window = Window {
            highest: count,
            seen: 1,
        };
        self.used.insert((issued, used), window);
        self.bound(USED_MAX);
        Verdict::Ok
    }

    /// Forgets nonces made before a time from which on they are stale anyway.
    pub(super) fn forget(&mut self, before: Duration) {
        while self
            .used
            .first_key_value()
            .is_some_and(|((issued, _), _)| *issued < before)
        {
            self.used.pop_first();
        }
    }

    /// Nonces remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.used.len()
    }

    /// At the limit the oldest nonce goes, and with it every nonce of its time and before.
    fn bound(&mut self, max: usize) {
        while self.used.len() > max {
            let Some(((issued, _), _)) = self.used.pop_first() else {
                return;
            };
            self.floor = Some(issued);
        }
    }
}

impl Window {
    fn take(&mut self, count: u32) -> bool {
        if let Some(ahead) = count.checked_sub(self.highest).filter(|ahead| *ahead > 0) {
            self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
            self.highest = count;
            return true;
        }
        let behind = self.highest - count;
        if behind >= WINDOW || self.seen >> behind & 1 == 1 {
            return false;
        }
        self.seen |= 1 << behind;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Duration = Duration::from_secs(7);

    #[test]
    fn each_count_is_taken_once() {
        let mut replays = Replays::default();
        let mut check = |count: u32, fresh: bool| {
            let expected = if fresh { Verdict::Ok } else { Verdict::Replay };
            assert_eq!(replays.judge(T, [0; 32], count), expected, "{count}");
        };
        check(1, true);
        check(1, false);
        check(3, true);
        check(2, true);
        check(2, false);
        check(66, true);
        check(3, false);
        check(4, true);
        check(66 + 64, true);
        check(66, false);
        check(67, true);
        check(u32::MAX, true);
        check(u32::MAX, false);
        check(u32::MAX - 63, true);
        check(u32::MAX - 64, false);
        check(0, false);
    }

    #[test]
    fn clients_that_share_a_nonce_count_for_themselves() {
        let mut replays = Replays::default();
        assert_eq!(replays.judge(T, [1; 32], 1), Verdict::Ok);
        assert_eq!(replays.judge(T, [2; 32], 1), Verdict::Ok);
        assert_eq!(replays.judge(T * 2, [1; 32], 1), Verdict::Ok);
        assert_eq!(replays.judge(T, [1; 32], 1), Verdict::Replay);
    }

    #[test]
    fn what_is_forgotten_for_want_of_room_is_stale() {
        let mut replays = Replays::default();
        for n in 1..=3 {
            assert_eq!(replays.judge(T * n, [0; 32], 1), Verdict::Ok);
        }
        replays.bound(2);
        assert_eq!(replays.judge(T, [0; 32], 1), Verdict::Stale);
        assert_eq!(replays.judge(T, [0; 32], 2), Verdict::Stale);
        assert_eq!(replays.judge(T * 2, [0; 32], 1), Verdict::Replay);
        assert_eq!(replays.judge(T * 2, [0; 32], 2), Verdict::Ok);
    }

    #[test]
    fn the_table_has_a_limit() {
        let mut replays = Replays::default();
        let made = |n: usize| Duration::from_nanos(n as u64);
        for n in 0..=USED_MAX {
            assert_eq!(replays.judge(made(n), [0; 32], 1), Verdict::Ok);
        }
        assert_eq!(replays.len(), USED_MAX);
        assert_eq!(replays.judge(made(0), [0; 32], 2), Verdict::Stale);
        replays.forget(made(USED_MAX));
        assert_eq!(replays.len(), 1);
    }
}
