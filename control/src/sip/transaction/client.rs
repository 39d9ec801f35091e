//! The non-INVITE client transaction: RFC 3261 §17.1.2.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::timer::{Timers, Timing};
use super::{Class, ClientEnd, Response, send};
use crate::effect::Effects;
use crate::id::Path;

#[derive(Debug)]
pub(super) struct Client {
    path: Path,
    timing: Timing,
    reliable: bool,
    state: State,
    timers: Timers<Timer>,
}

#[derive(Debug)]
enum State {
    Trying { request: Bytes, interval: Duration },
    Proceeding { request: Bytes },
    Completed,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Timer {
    E,
    F,
    K,
}

impl Client {
    pub(super) fn start(
        request: Bytes,
        path: Path,
        reliable: bool,
        timing: Timing,
        now: Instant,
        effects: &mut Effects,
    ) -> Self {
        send(&path, &request, effects);
        let mut timers = Timers::none().with(Timer::F, now + timing.patience());
        if !reliable {
            timers.start(Timer::E, now + timing.t1);
        }
        Self {
            path,
            timing,
            reliable,
            state: State::Trying {
                request,
                interval: timing.t1,
            },
            timers,
        }
    }

    pub(super) fn receive(&mut self, class: Class, now: Instant) -> Response {
        match (&self.state, class) {
            (State::Trying { request, .. }, Class::Provisional) => {
                // §17.1.2.2: timers E and F run on; E slows down when it next fires.
                let request = request.clone();
                self.state = State::Proceeding { request };
                Response::Up
            }
            (State::Proceeding { .. }, Class::Provisional) => Response::Up,
            (State::Trying { .. } | State::Proceeding { .. }, Class::Success | Class::Failure) => {
                let wait = if self.reliable {
                    Duration::ZERO
                } else {
                    self.timing.t4
                };
                self.state = State::Completed;
                self.timers = Timers::none().with(Timer::K, now + wait);
                Response::Up
            }
            (State::Completed, Class::Provisional | Class::Success | Class::Failure) => {
                Response::Absorbed
            }
        }
    }

    /// Fires the timer that was due first, if one is.
    pub(super) fn expire(&mut self, now: Instant, effects: &mut Effects) -> Option<ClientEnd> {
        match self.timers.pop(now)? {
            Timer::E => {
                self.retransmit(now, effects);
                None
            }
            Timer::F => Some(ClientEnd::TimedOut),
            Timer::K => Some(ClientEnd::Gone),
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    pub(super) fn is_proceeding(&self) -> bool {
        matches!(self.state, State::Proceeding { .. })
    }

    fn retransmit(&mut self, now: Instant, effects: &mut Effects) {
        let next = match &mut self.state {
            State::Trying { request, interval } => {
                send(&self.path, request, effects);
                *interval = self.timing.doubled(*interval);
                *interval
            }
            State::Proceeding { request } => {
                send(&self.path, request, effects);
                self.timing.t2
            }
            State::Completed => return,
        };
        self.timers.start(Timer::E, now + next);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Table, ms, path, schedule, sent, start};
    use super::*;

    fn trying(reliable: bool, effects: &mut Effects) -> Client {
        let request = Bytes::from_static(b"BYE");
        Client::start(
            request,
            path(),
            reliable,
            Timing::default(),
            start(),
            effects,
        )
    }

    fn receive(machine: &mut Client, code: u16, at_ms: u64) -> Response {
        machine.receive(Class::of(code).unwrap(), start() + ms(at_ms))
    }

    fn in_state(name: &str, reliable: bool) -> Client {
        let mut machine = trying(reliable, &mut Vec::new());
        match name {
            "Trying" => None,
            "Proceeding" => Some(receive(&mut machine, 100, 0)),
            "Completed" => Some(receive(&mut machine, 200, 0)),
            other => panic!("no state {other}"),
        };
        machine
    }

    fn name(machine: &Client) -> &'static str {
        match machine.state {
            State::Trying { .. } => "Trying",
            State::Proceeding { .. } => "Proceeding",
            State::Completed => "Completed",
        }
    }

    fn table() -> String {
        let mut table = Table::default();
        for state in ["Trying", "Proceeding", "Completed"] {
            for code in [100, 200, 404] {
                let mut machine = in_state(state, false);
                let up = format!("{:?}", receive(&mut machine, code, 0));
                let timers = machine.timers.describe(start());
                let input = code.to_string();
                table.row(&[state, &input, name(&machine), &up, "-", &timers]);
            }
            for timer in [Timer::E, Timer::F, Timer::K] {
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
        assert_eq!(table(), include_str!("golden/client.txt"));
    }

    #[test]
    fn a_reliable_transport_needs_no_retransmission() {
        let mut effects = Vec::new();
        let machine = trying(true, &mut effects);
        assert_eq!(sent(&effects), "BYE");
        assert_eq!(machine.timers.describe(start()), "F+32000");
        let machine = in_state("Completed", true);
        assert_eq!(machine.timers.describe(start()), "K+0");
    }

    #[test]
    fn an_unanswered_request_doubles_up_to_t2_for_64_t1() {
        let mut machine = trying(false, &mut Vec::new());
        let seen = schedule(|now, effects| (machine.expire(now, effects), machine.next_timeout()));
        assert_eq!(
            seen,
            "500 BYE, 1500 BYE, 3500 BYE, 7500 BYE, 11500 BYE, 15500 BYE, 19500 BYE, 23500 BYE, \
             27500 BYE, 31500 BYE, 32000 TimedOut"
        );
    }

    #[test]
    fn a_provisional_response_slows_down_but_does_not_silence() {
        let mut machine = trying(false, &mut Vec::new());
        assert_eq!(receive(&mut machine, 100, 400), Response::Up);
        let seen = schedule(|now, effects| (machine.expire(now, effects), machine.next_timeout()));
        assert_eq!(
            seen,
            "500 BYE, 4500 BYE, 8500 BYE, 12500 BYE, 16500 BYE, 20500 BYE, 24500 BYE, 28500 BYE, \
             32000 TimedOut"
        );
    }
}
