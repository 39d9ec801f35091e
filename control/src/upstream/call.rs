//! One request, from the caller's point of view: attempts within its deadline.
//!
//! Whoever performs it asks [`Call::next`] what to do after everything that happens, and again at
//! the time it was told to wait for. An attempt whose time is over is not broken off: over
//! HTTP/1.1 that would close the connection, and the next request would wait for a new one. It
//! goes on beside the second, and whichever is answered first counts.

use std::time::{Duration, Instant};

use super::{Class, Upstream};

/// Times one request is sent.
pub const ATTEMPTS_MAX: u8 = 2;
/// Before a request is sent again it rests for a random time up to this (full jitter), doubled
/// with each attempt.
pub const PAUSE_MIN: Duration = Duration::from_millis(50);
pub const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What is asked of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Terms {
    pub class: Class,
    /// The whole of what the caller waits.
    pub deadline: Duration,
    /// Sent twice it does what it does sent once, by its nature or because it carries a key.
    pub repeatable: bool,
}

/// What to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Next {
    /// Send the request; this is the number of the attempt.
    Send(u8),
    /// Nothing, until something happens or this time has come.
    Wait(Instant),
    /// The caller is told.
    Over(Result<(), Failure>),
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failure {
    /// The deadline has passed.
    Unanswered,
    /// Every attempt was refused or broken off.
    Broken,
}

/// The breaker is open: nothing was sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refused {
    pub until: Instant,
}

/// A request under way.
#[derive(Clone, Debug)]
pub struct Call {
    terms: Terms,
    deadline: Instant,
    state: State,
    sent: u8,
    /// Attempts that may still be answered.
    pending: u8,
    last_sent: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// The request is sent as soon as this time has come.
    Due(Instant),
    /// The last attempt has time until then.
    Waiting(Instant),
    /// Nothing more is sent; what is under way has time until the deadline.
    Last,
    Over(Result<(), Failure>),
}

impl Call {
    /// Begins a request.
    ///
    /// # Errors
    /// The breaker is open.
    pub fn begin(terms: Terms, upstream: &mut Upstream, now: Instant) -> Result<Self, Refused> {
        if let Err(until) = upstream.breaker.permit(now) {
            upstream.counts.refused += 1;
            return Err(Refused { until });
        }
        upstream.budget.earn(now);
        Ok(Self {
            terms,
            deadline: now + terms.deadline,
            state: State::Due(now),
            sent: 0,
            pending: 0,
            last_sent: None,
        })
    }

    /// What is to be done now.
    pub fn next(&mut self, upstream: &mut Upstream, now: Instant) -> Next {
        if now >= self.deadline {
            self.end(Err(Failure::Unanswered), upstream, now);
        }
        if let State::Waiting(until) = self.state
            && now >= until
        {
            upstream.counts.timeouts += 1;
            upstream.estimator_mut(self.terms.class).timed_out();
            self.again(upstream, now);
        }
        match self.state {
            State::Due(at) if now < at => Next::Wait(at.min(self.deadline)),
            State::Due(_) => self.send(upstream, now),
            State::Waiting(until) => Next::Wait(until.min(self.deadline)),
            State::Last => Next::Wait(self.deadline),
            State::Over(result) => Next::Over(result),
        }
    }

    /// An attempt was answered, whatever it says.
    pub fn answered(&mut self, upstream: &mut Upstream, now: Instant) {
        if let (1, Some(sent)) = (self.sent, self.last_sent) {
            // RFC 6298 §3: what was sent twice gives no sample.
            let rtt = now.saturating_duration_since(sent);
            upstream.estimator_mut(self.terms.class).sample(rtt);
        }
        self.end(Ok(()), upstream, now);
    }

    /// An attempt was refused or broken off: nobody will answer it.
    pub fn broken(&mut self, attempt: u8, upstream: &mut Upstream, now: Instant) {
        self.pending = self.pending.saturating_sub(1);
        if matches!(self.state, State::Waiting(_)) && attempt == self.sent {
            self.again(upstream, now);
        }
        if self.pending == 0 && self.state == State::Last {
            self.end(Err(Failure::Broken), upstream, now);
        }
    }

    /// Nobody waits any more: that says nothing about the server.
    pub fn abandon(self, upstream: &mut Upstream) {
        if !matches!(self.state, State::Over(_)) {
            upstream.counts.abandoned += 1;
        }
    }

    /// When it ends at the latest.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    fn send(&mut self, upstream: &mut Upstream, now: Instant) -> Next {
        self.sent += 1;
        self.pending += 1;
        self.last_sent = Some(now);
        upstream.counts.attempts += 1;
        let until = now + upstream.timeout(self.terms.class);
        self.state = State::Waiting(until);
        Next::Send(self.sent)
    }

    /// The last attempt has come to nothing so far.
    fn again(&mut self, upstream: &mut Upstream, now: Instant) {
        self.state = State::Last;
        if !self.terms.repeatable || self.sent >= ATTEMPTS_MAX {
            return;
        }
        let doubled = PAUSE_MIN * 2_u32.pow(u32::from(self.sent.saturating_sub(1)));
        let at = now + upstream.pause(doubled.min(PAUSE_MAX));
        if at >= self.deadline {
            return;
        }
        if !upstream.budget.spend(now) {
            upstream.counts.unaffordable += 1;
            return;
        }
        upstream.counts.retries += 1;
        self.state = State::Due(at);
    }

    fn end(&mut self, result: Result<(), Failure>, upstream: &mut Upstream, now: Instant) {
        if matches!(self.state, State::Over(_)) {
            return;
        }
        let count = match result {
            Ok(()) => &mut upstream.counts.answered,
            Err(Failure::Unanswered) => &mut upstream.counts.unanswered,
            Err(Failure::Broken) => &mut upstream.counts.broken,
        };
        *count += 1;
        upstream.breaker.note(result.is_ok(), now);
        self.state = State::Over(result);
    }
}
