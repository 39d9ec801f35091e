//! Views for clients that know neither sequence nor revision. Of each such client and view one
//! command is under way at a time, a later one waits in place of those before it, and once it has
//! been quiet the last word is said again: whatever order answers came in, that is the last.

use std::time::{Duration, Instant};

use super::view::{Legacy, Target};

/// No command for so long, and the state is said again.
pub const QUIET: Duration = Duration::from_millis(300);

/// One client and one view.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Turns {
    /// What the client wants to see, by all it has said.
    wanted: Target,
    under_way: bool,
    /// What is to be asked for next.
    waiting: Option<Target>,
    repeat_at: Option<Instant>,
}

impl Turns {
    /// A command came. Returned is what is to be asked for now; none: one is under way.
    pub fn command(&mut self, legacy: Legacy, focus: Option<&str>, now: Instant) -> Option<Target> {
        self.wanted = legacy.target(&self.wanted, focus);
        self.repeat_at = now.checked_add(QUIET);
        if self.under_way {
            self.waiting = Some(self.wanted.clone());
            return None;
        }
        self.under_way = true;
        Some(self.wanted.clone())
    }

    /// What was under way is answered. Returned is what is to be asked for next.
    pub fn answered(&mut self, now: Instant) -> Option<Target> {
        let next = self.waiting.take();
        self.under_way = next.is_some();
        self.repeat_at = now.checked_add(QUIET);
        next
    }

    /// Whether the state is to be said again now.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let due = !self.under_way && self.repeat_at.is_some_and(|at| at <= now);
        if due {
            self.repeat_at = None;
        }
        due
    }

    /// When that may be.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.repeat_at.filter(|_| !self.under_way)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a base for virtual time")]
    fn one_at_a_time_and_the_last_word_twice() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let mut turns = Turns::default();
        let first = turns.command(Legacy::ZoomIn, Some("p3"), at(0));
        assert_eq!(first.map(|target| target.zoom), Some(2.0));
        assert_eq!(turns.command(Legacy::ZoomOut, None, at(20)), None);
        assert_eq!(turns.command(Legacy::Toggle, None, at(30)), None);
        assert_eq!(turns.command(Legacy::ZoomOut, None, at(40)), None);
        // While one is under way nothing is repeated.
        assert_eq!(turns.next(), None);
        assert!(!turns.is_due(at(1000)));
        assert_eq!(
            turns.answered(at(1000)).map(|target| target.zoom),
            Some(1.0)
        );
        assert_eq!(turns.answered(at(1050)), None);
        assert!(!turns.is_due(at(1349)));
        assert_eq!(turns.next(), Some(at(1350)));
        assert!(turns.is_due(at(1350)));
        assert!(!turns.is_due(at(9999)));
        assert_eq!(turns.next(), None);
    }
}
