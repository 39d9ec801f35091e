//! The INVITE client transaction: RFC 3261 §17.1.1 with the Accepted state of RFC 6026 §7.2.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::timer::{Timers, Timing};
use super::{Class, ClientEnd, Response, send};
use crate::effect::Effects;
use crate::id::Path;

#[derive(Debug)]
pub(super) struct ClientInvite {
    path: Path,
    timing: Timing,
    reliable: bool,
    state: State,
    timers: Timers<Timer>,
}

#[derive(Debug)]
enum State {
    Calling { request: Bytes, interval: Duration },
    Proceeding,
    Completed { ack: Bytes },
    Accepted,
}

/// In the RFC's letters. `Cancelled` has none: the wait of §9.1 for the answer to a CANCEL.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Timer {
    A,
    B,
    D,
    M,
    Cancelled,
}

impl ClientInvite {
    pub(super) fn start(
        request: Bytes,
        path: Path,
        reliable: bool,
        timing: Timing,
        now: Instant,
        effects: &mut Effects,
    ) -> Self {
        send(&path, &request, effects);
        let mut timers = Timers::none().with(Timer::B, now + timing.patience());
        if !reliable {
            timers.start(Timer::A, now + timing.t1);
        }
        Self {
            path,
            timing,
            reliable,
            state: State::Calling {
                request,
                interval: timing.t1,
            },
            timers,
        }
    }

    pub(super) fn receive(
        &mut self,
        class: Class,
        ack: impl FnOnce() -> Bytes,
        now: Instant,
        effects: &mut Effects,
    ) -> Response {
        match (&self.state, class) {
            (State::Calling { .. }, Class::Provisional) => {
                self.enter(State::Proceeding, Timers::none())
            }
            (State::Proceeding, Class::Provisional) => Response::Up,
            (State::Calling { .. } | State::Proceeding, Class::Success) => {
                let timers = Timers::none().with(Timer::M, now + self.timing.patience());
                self.enter(State::Accepted, timers)
            }
            (State::Calling { .. } | State::Proceeding, Class::Failure) => {
                let ack = ack();
                send(&self.path, &ack, effects);
                let wait = if self.reliable {
                    Duration::ZERO
                } else {
                    self.timing.completed_invite()
                };
                let timers = Timers::none().with(Timer::D, now + wait);
                self.enter(State::Completed { ack }, timers)
            }
            (State::Completed { ack }, Class::Failure) => {
                send(&self.path, ack, effects);
                Response::Absorbed
            }
            // RFC 6026 §7.2: every 2xx, of every fork, is the TU's to acknowledge.
            (State::Accepted, Class::Success) => Response::Up,
            (State::Completed { .. }, Class::Provisional | Class::Success)
            | (State::Accepted, Class::Provisional | Class::Failure) => Response::Absorbed,
        }
    }

    /// A CANCEL went out: the final response has 64*T1 to come (RFC 3261 §9.1). False if it may
    /// not be sent now.
    pub(super) fn cancel(&mut self, now: Instant) -> bool {
        let proceeding = self.is_proceeding();
        if proceeding && self.timers.next().is_none() {
            let wait = self.timing.patience();
            self.timers.start(Timer::Cancelled, now + wait);
        }
        proceeding
    }

    /// Fires the timer that was due first, if one is.
    pub(super) fn expire(&mut self, now: Instant, effects: &mut Effects) -> Option<ClientEnd> {
        match self.timers.pop(now)? {
            Timer::A => {
                if let State::Calling { request, interval } = &mut self.state {
                    send(&self.path, request, effects);
                    // §17.1.1.2: doubles without a cap. Counted from now, so that a stall of
                    // ours is not followed by a burst.
                    *interval *= 2;
                    self.timers.start(Timer::A, now + *interval);
                }
                None
            }
            Timer::B | Timer::Cancelled => Some(ClientEnd::TimedOut),
            Timer::D | Timer::M => Some(ClientEnd::Gone),
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    pub(super) fn is_proceeding(&self) -> bool {
        matches!(self.state, State::Proceeding)
    }

    fn enter(&mut self, state: State, timers: Timers<Timer>) -> Response {
        self.state = state;
        self.timers = timers;
        Response::Up
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Table, ms, path, schedule, sent, start};
    use super::*;

    fn calling(reliable: bool, effects: &mut Effects) -> ClientInvite {
        let request = Bytes::from_static(b"INVITE");
        let timing = Timing::default();
        ClientInvite::start(request, path(), reliable, timing, start(), effects)
    }

    fn receive(machine: &mut ClientInvite, code: u16, effects: &mut Effects) -> Response {
        let class = Class::of(code).unwrap();
        machine.receive(class, || Bytes::from_static(b"ACK"), start(), effects)
    }

    /// A machine in each state, by the shortest way there.
    fn in_state(name: &str, reliable: bool) -> ClientInvite {
        let mut effects = Vec::new();
        let mut machine = calling(reliable, &mut effects);
        match name {
            "Calling" => None,
            "Proceeding" | "Cancelled" => Some(receive(&mut machine, 180, &mut effects)),
            "Accepted" => Some(receive(&mut machine, 200, &mut effects)),
            "Completed" => Some(receive(&mut machine, 486, &mut effects)),
            other => panic!("no state {other}"),
        };
        if name == "Cancelled" {
            assert!(machine.cancel(start()));
        }
        machine
    }

    /// `Cancelled` is Proceeding after a CANCEL.
    fn name(machine: &ClientInvite) -> &'static str {
        match machine.state {
            State::Calling { .. } => "Calling",
            State::Proceeding if machine.next_timeout().is_some() => "Cancelled",
            State::Proceeding => "Proceeding",
            State::Completed { .. } => "Completed",
            State::Accepted => "Accepted",
        }
    }

    fn table(reliable: bool) -> String {
        let mut table = Table::default();
        for state in [
            "Calling",
            "Proceeding",
            "Cancelled",
            "Completed",
            "Accepted",
        ] {
            for input in ["180", "200", "486", "cancel"] {
                let mut machine = in_state(state, reliable);
                let mut effects = Vec::new();
                let up = match input.parse() {
                    Ok(code) => format!("{:?}", receive(&mut machine, code, &mut effects)),
                    Err(_) => machine.cancel(start()).to_string(),
                };
                let timers = machine.timers.describe(start());
                table.row(&[state, input, name(&machine), &up, &sent(&effects), &timers]);
            }
            for timer in [Timer::A, Timer::B, Timer::D, Timer::M, Timer::Cancelled] {
                let mut machine = in_state(state, reliable);
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
        let golden = include_str!("golden/client_invite.txt");
        assert_eq!(table(false), golden);
    }

    #[test]
    fn a_reliable_transport_needs_no_retransmission() {
        let mut effects = Vec::new();
        let machine = calling(true, &mut effects);
        assert_eq!(sent(&effects), "INVITE");
        assert_eq!(machine.timers.describe(start()), "B+32000");
        let mut machine = in_state("Completed", true);
        assert_eq!(machine.timers.describe(start()), "D+0");
        assert_eq!(machine.expire(start(), &mut effects), Some(ClientEnd::Gone));
    }

    #[test]
    fn an_unanswered_invite_doubles_without_a_cap_for_64_t1() {
        let mut machine = calling(false, &mut Vec::new());
        let seen = schedule(|now, effects| (machine.expire(now, effects), machine.next_timeout()));
        assert_eq!(
            seen,
            "500 INVITE, 1500 INVITE, 3500 INVITE, 7500 INVITE, 15500 INVITE, 31500 INVITE, \
             32000 TimedOut"
        );
    }

    #[test]
    fn a_ringing_call_waits_for_its_user() {
        assert_eq!(in_state("Proceeding", false).next_timeout(), None);
    }

    #[test]
    fn a_cancelled_call_ends_after_64_t1_even_if_it_keeps_ringing() {
        let mut machine = in_state("Proceeding", false);
        let mut effects = Vec::new();
        assert!(machine.cancel(start()));
        assert_eq!(receive(&mut machine, 180, &mut effects), Response::Up);
        assert!(machine.cancel(start() + ms(20_000)), "again: no new wait");
        let seen = schedule(|now, effects| (machine.expire(now, effects), machine.next_timeout()));
        assert_eq!(seen, "32000 TimedOut");
    }

    #[test]
    fn each_repeated_failure_is_acknowledged_and_the_ack_is_made_once() {
        let mut machine = in_state("Completed", false);
        let mut effects = Vec::new();
        for _ in 0..3 {
            let made = || panic!("the ACK was made already");
            let up = machine.receive(Class::Failure, made, start(), &mut effects);
            assert_eq!(up, Response::Absorbed);
        }
        assert_eq!(sent(&effects), "ACK ACK ACK");
    }

    #[test]
    fn a_stall_is_not_followed_by_a_burst() {
        let mut machine = calling(false, &mut Vec::new());
        let late = start() + ms(10_000);
        let mut effects = Vec::new();
        assert_eq!(machine.expire(late, &mut effects), None);
        assert_eq!(machine.expire(late, &mut effects), None);
        assert_eq!(sent(&effects), "INVITE");
        assert_eq!(machine.next_timeout(), Some(late + ms(1_000)));
    }
}
