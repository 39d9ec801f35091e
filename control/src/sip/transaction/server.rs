//! The non-INVITE server transaction: RFC 3261 §17.2.2 as corrected by RFC 4320.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::timer::{Timers, Timing};
use super::{Class, Incoming, ServerEnd, send};
use crate::effect::Effects;
use crate::id::Path;

#[derive(Debug)]
pub(super) struct Server {
    path: Path,
    timing: Timing,
    reliable: bool,
    state: State,
    timers: Timers<Timer>,
}

#[derive(Debug)]
enum State {
    /// No 100 before this time.
    Trying {
        quiet_until: Instant,
    },
    Proceeding {
        last: Bytes,
    },
    Completed {
        response: Bytes,
    },
}

/// In the RFC's letters. `Unanswered` has none: after 64*T1 the client's timer F has fired and no
/// answer is of use (RFC 4320 §4.2).
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Timer {
    J,
    Unanswered,
}

impl Server {
    pub(super) fn new(path: Path, reliable: bool, timing: Timing, now: Instant) -> Self {
        let quiet = if reliable {
            Duration::ZERO
        } else {
            timing.until_t2()
        };
        Self {
            path,
            timing,
            reliable,
            state: State::Trying {
                quiet_until: now + quiet,
            },
            timers: Timers::none().with(Timer::Unanswered, now + timing.patience()),
        }
    }

    /// The request again: answered as before.
    pub(super) fn repeat(&self, effects: &mut Effects) -> Incoming {
        match &self.state {
            State::Trying { .. } => {}
            State::Proceeding { last } => send(&self.path, last, effects),
            State::Completed { response } => send(&self.path, response, effects),
        }
        Incoming::Absorbed
    }

    /// Sends the TU's response. False: it comes too late, or RFC 4320 forbids it, and it was not
    /// sent.
    pub(super) fn respond(
        &mut self,
        code: u16,
        response: Bytes,
        now: Instant,
        effects: &mut Effects,
    ) -> bool {
        // RFC 4320 §4.1 knows 100 only, §4.2 forbids 408.
        let allowed = match code {
            100 => true,
            101..=199 | 408 => false,
            _ => true,
        };
        let Some(class) = Class::of(code).filter(|_| allowed) else {
            return false;
        };
        match (&self.state, class) {
            (State::Trying { quiet_until }, Class::Provisional) if now < *quiet_until => {
                return false;
            }
            (State::Trying { .. } | State::Proceeding { .. }, Class::Provisional) => {
                send(&self.path, &response, effects);
                self.state = State::Proceeding { last: response };
            }
            (State::Trying { .. } | State::Proceeding { .. }, Class::Success | Class::Failure) => {
                send(&self.path, &response, effects);
                let wait = if self.reliable {
                    Duration::ZERO
                } else {
                    self.timing.patience()
                };
                self.state = State::Completed { response };
                self.timers = Timers::none().with(Timer::J, now + wait);
            }
            (State::Completed { .. }, Class::Provisional | Class::Success | Class::Failure) => {
                return false;
            }
        }
        true
    }

    /// Fires the timer that was due first, if one is.
    pub(super) fn expire(&mut self, now: Instant) -> Option<ServerEnd> {
        match self.timers.pop(now)? {
            Timer::J => Some(ServerEnd::Gone),
            Timer::Unanswered => Some(ServerEnd::Unanswered),
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Table, ms, path, schedule, sent, start};
    use super::*;

    /// When RFC 4320 allows the first 100.
    const LOUD: Duration = Duration::from_millis(3_500);

    fn respond(machine: &mut Server, code: u16, at: Duration, effects: &mut Effects) -> bool {
        machine.respond(code, Bytes::from(code.to_string()), start() + at, effects)
    }

    fn in_state(name: &str, reliable: bool) -> Server {
        let mut machine = Server::new(path(), reliable, Timing::default(), start());
        let mut effects = Vec::new();
        match name {
            "Trying" => {}
            "Proceeding" => assert!(respond(&mut machine, 100, LOUD, &mut effects)),
            "Completed" => assert!(respond(&mut machine, 200, LOUD, &mut effects)),
            other => panic!("no state {other}"),
        }
        machine
    }

    fn name(machine: &Server) -> &'static str {
        match machine.state {
            State::Trying { .. } => "Trying",
            State::Proceeding { .. } => "Proceeding",
            State::Completed { .. } => "Completed",
        }
    }

    fn table() -> String {
        let mut table = Table::default();
        for state in ["Trying", "Proceeding", "Completed"] {
            for input in ["request", "100", "183", "202", "404", "408"] {
                let mut machine = in_state(state, false);
                let mut effects = Vec::new();
                let up = match input.parse() {
                    Ok(code) => respond(&mut machine, code, LOUD, &mut effects).to_string(),
                    Err(_) => format!("{:?}", machine.repeat(&mut effects)),
                };
                let timers = machine.timers.describe(start());
                table.row(&[state, input, name(&machine), &up, &sent(&effects), &timers]);
            }
            for timer in [Timer::J, Timer::Unanswered] {
                let mut machine = in_state(state, false);
                if !machine.timers.only(timer, start()) {
                    continue;
                }
                let up = format!("{:?}", machine.expire(start()));
                let timers = machine.timers.describe(start());
                let input = format!("{timer:?}");
                table.row(&[state, &input, name(&machine), &up, "-", &timers]);
            }
        }
        table.text()
    }

    #[test]
    fn transitions_over_udp() {
        assert_eq!(table(), include_str!("golden/server.txt"));
    }

    #[test]
    fn a_hundred_waits_until_timer_e_reached_t2() {
        let check = |reliable, after: Duration, expected: bool| {
            let mut machine = in_state("Trying", reliable);
            let mut effects = Vec::new();
            let sent_it = respond(&mut machine, 100, after, &mut effects);
            assert_eq!(sent_it, expected, "{reliable} {after:?}");
            assert_eq!(effects.len(), usize::from(expected));
        };
        check(false, Duration::ZERO, false);
        check(false, LOUD - ms(1), false);
        check(false, LOUD, true);
        check(true, Duration::ZERO, true);
    }

    #[test]
    fn each_end_comes_at_its_time() {
        let check = |state, reliable, expected: &str| {
            let mut machine = in_state(state, reliable);
            let seen = schedule(|now, _| (machine.expire(now), machine.next_timeout()));
            assert_eq!(seen, expected, "{state}");
        };
        check("Trying", false, "32000 Unanswered");
        check("Proceeding", false, "32000 Unanswered");
        check("Completed", false, "35500 Gone");
        check("Completed", true, "3500 Gone");
    }
}
