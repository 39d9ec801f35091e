//! The INVITE server transaction: RFC 3261 §17.2.1 with the Accepted state of RFC 6026 §7.1.
//! It sends no 100 Trying of its own: the TU hands one over as the first response.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::timer::{Timers, Timing};
use super::{Class, Incoming, ServerEnd, send};
use crate::effect::Effects;
use crate::id::Path;

#[derive(Debug)]
pub(super) struct ServerInvite {
    path: Path,
    timing: Timing,
    reliable: bool,
    state: State,
    timers: Timers<Timer>,
}

#[derive(Debug)]
enum State {
    Proceeding { last: Option<Bytes> },
    Completed { response: Bytes, interval: Duration },
    Confirmed,
    Accepted,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Timer {
    G,
    H,
    I,
    L,
}

impl ServerInvite {
    pub(super) fn new(path: Path, reliable: bool, timing: Timing) -> Self {
        Self {
            path,
            timing,
            reliable,
            state: State::Proceeding { last: None },
            timers: Timers::none(),
        }
    }

    /// The INVITE again: answered as before, once only.
    pub(super) fn repeat(&self, effects: &mut Effects) -> Incoming {
        match &self.state {
            State::Proceeding { last: Some(last) } => send(&self.path, last, effects),
            State::Completed { response, .. } => send(&self.path, response, effects),
            // RFC 6026 §7.1: repeating a 2xx is the TU's business.
            State::Proceeding { last: None } | State::Confirmed | State::Accepted => {}
        }
        Incoming::Absorbed
    }

    pub(super) fn acknowledge(&mut self, now: Instant) -> Incoming {
        match self.state {
            State::Completed { .. } => {
                let wait = if self.reliable {
                    Duration::ZERO
                } else {
                    self.timing.t4
                };
                self.state = State::Confirmed;
                self.timers = Timers::none().with(Timer::I, now + wait);
                Incoming::Absorbed
            }
            State::Accepted => Incoming::AckForSuccess,
            // Before a final response an ACK acknowledges nothing.
            State::Proceeding { .. } | State::Confirmed => Incoming::Absorbed,
        }
    }

    /// Sends the TU's response. False: it comes too late and was not sent.
    pub(super) fn respond(
        &mut self,
        class: Class,
        response: Bytes,
        now: Instant,
        effects: &mut Effects,
    ) -> bool {
        match (&self.state, class) {
            (State::Proceeding { .. }, Class::Provisional) => {
                send(&self.path, &response, effects);
                self.state = State::Proceeding {
                    last: Some(response),
                };
            }
            (State::Proceeding { .. }, Class::Success) => {
                send(&self.path, &response, effects);
                self.state = State::Accepted;
                self.timers = Timers::none().with(Timer::L, now + self.timing.patience());
            }
            (State::Proceeding { .. }, Class::Failure) => {
                send(&self.path, &response, effects);
                self.timers = Timers::none().with(Timer::H, now + self.timing.patience());
                let interval = self.timing.t1;
                if !self.reliable {
                    self.timers.start(Timer::G, now + interval);
                }
                self.state = State::Completed { response, interval };
            }
            (State::Accepted, Class::Success) => send(&self.path, &response, effects),
            (State::Accepted, Class::Provisional | Class::Failure)
            | (
                State::Completed { .. } | State::Confirmed,
                Class::Provisional | Class::Success | Class::Failure,
            ) => return false,
        }
        true
    }

    /// Fires the timer that was due first, if one is.
    pub(super) fn expire(&mut self, now: Instant, effects: &mut Effects) -> Option<ServerEnd> {
        match self.timers.pop(now)? {
            Timer::G => {
                if let State::Completed { response, interval } = &mut self.state {
                    send(&self.path, response, effects);
                    *interval = self.timing.doubled(*interval);
                    self.timers.start(Timer::G, now + *interval);
                }
                None
            }
            Timer::H => Some(ServerEnd::NoAck),
            Timer::I | Timer::L => Some(ServerEnd::Gone),
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Table, path, schedule, sent, start};
    use super::*;

    fn respond(machine: &mut ServerInvite, code: u16, effects: &mut Effects) -> bool {
        let response = Bytes::from(code.to_string());
        machine.respond(Class::of(code).unwrap(), response, start(), effects)
    }

    fn in_state(name: &str, reliable: bool) -> ServerInvite {
        let mut machine = ServerInvite::new(path(), reliable, Timing::default());
        let mut effects = Vec::new();
        match name {
            "New" => {}
            "Proceeding" => assert!(respond(&mut machine, 100, &mut effects)),
            "Accepted" => assert!(respond(&mut machine, 200, &mut effects)),
            "Completed" => assert!(respond(&mut machine, 486, &mut effects)),
            "Confirmed" => {
                assert!(respond(&mut machine, 486, &mut effects));
                assert_eq!(machine.acknowledge(start()), Incoming::Absorbed);
            }
            other => panic!("no state {other}"),
        }
        machine
    }

    /// `New` is Proceeding before the TU's first response.
    fn name(machine: &ServerInvite) -> &'static str {
        match machine.state {
            State::Proceeding { last: None } => "New",
            State::Proceeding { last: Some(_) } => "Proceeding",
            State::Completed { .. } => "Completed",
            State::Confirmed => "Confirmed",
            State::Accepted => "Accepted",
        }
    }

    fn table() -> String {
        let mut table = Table::default();
        for state in ["New", "Proceeding", "Completed", "Confirmed", "Accepted"] {
            for input in ["INVITE", "ACK", "180", "200", "603"] {
                let mut machine = in_state(state, false);
                let mut effects = Vec::new();
                let up = match input {
                    "INVITE" => format!("{:?}", machine.repeat(&mut effects)),
                    "ACK" => format!("{:?}", machine.acknowledge(start())),
                    code => respond(&mut machine, code.parse().unwrap(), &mut effects).to_string(),
                };
                let timers = machine.timers.describe(start());
                table.row(&[state, input, name(&machine), &up, &sent(&effects), &timers]);
            }
            for timer in [Timer::G, Timer::H, Timer::I, Timer::L] {
                let mut machine = in_state(state, false);
                if !machine.timers.only(timer, start()) {
                    continue;
                }
                let mut effects = Vec::new();
                let up = format!("{:?}", machine.expire(start(), &mut effects));
                let timers = machine.timers.describe(start());
                let input = format!("{timer:?}");
                table.row(&[state, &input, name(&machine), &up, &sent(&effects), &timers]);
            }
        }
        table.text()
    }

    #[test]
    fn transitions_over_udp() {
        assert_eq!(table(), include_str!("golden/server_invite.txt"));
    }

    #[test]
    fn a_reliable_transport_needs_no_retransmission() {
        let timers = |state| in_state(state, true).timers.describe(start());
        assert_eq!(timers("Completed"), "H+32000");
        assert_eq!(timers("Confirmed"), "I+0");
        assert_eq!(timers("Accepted"), "L+32000");
    }

    #[test]
    fn an_unacknowledged_failure_is_repeated_up_to_t2_for_64_t1() {
        let mut machine = in_state("Completed", false);
        let seen = schedule(|now, effects| (machine.expire(now, effects), machine.next_timeout()));
        assert_eq!(
            seen,
            "500 486, 1500 486, 3500 486, 7500 486, 11500 486, 15500 486, 19500 486, 23500 486, \
             27500 486, 31500 486, 32000 NoAck"
        );
    }

    #[test]
    fn each_end_comes_at_its_time() {
        let check = |state, expected: &str| {
            let mut machine = in_state(state, false);
            let seen =
                schedule(|now, effects| (machine.expire(now, effects), machine.next_timeout()));
            assert_eq!(seen, expected, "{state}");
        };
        check("Proceeding", "");
        check("Confirmed", "5000 Gone");
        check("Accepted", "32000 Gone");
    }
}
