//! A call at a glance: what a list of very many is made of, without a copy of anything.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::engine::call::Call;
use crate::engine::{CallKey, Engine};
use crate::id::NetworkId;

/// One call as it is now.
#[derive(Clone, Copy)]
pub struct Glance<'c> {
    pub id: u64,
    call: &'c Call,
    now: Instant,
}

impl<'c> Glance<'c> {
    #[must_use]
    pub fn call_id(&self) -> &'c [u8] {
        &self.call.call_id
    }

    #[must_use]
    pub fn from(&self) -> &'c str {
        &self.call.from
    }

    #[must_use]
    pub fn to(&self) -> &'c str {
        &self.call.to
    }

    #[must_use]
    pub fn state(&self) -> &'static str {
        self.call.state()
    }

    #[must_use]
    pub fn age(&self) -> Duration {
        self.now.saturating_duration_since(self.call.started)
    }

    /// Of the caller, and of the callee if there is one.
    #[must_use]
    pub fn networks(&self) -> (NetworkId, Option<NetworkId>) {
        let callee = self.call.callee.as_ref();
        (self.call.caller.network, callee.map(|leg| leg.network))
    }

    /// Where its media arrives, and how long it has been silent there while the other party is not.
    pub fn flows(&self, each: &mut dyn FnMut(SocketAddr, Option<Duration>)) {
        if let Some(session) = &self.call.session {
            session.flows(&mut |at, silent| {
                each(
                    at,
                    silent.map(|since| self.now.saturating_duration_since(since)),
                );
            });
        }
    }
}

impl Engine {
    /// Shows every call, in the order of their numbers.
    pub fn glance(&self, now: Instant, each: &mut dyn FnMut(Glance<'_>)) {
        for (key, call) in &self.calls {
            each(Glance {
                id: key.0,
                call,
                now,
            });
        }
    }

    /// Shows one call.
    #[must_use]
    pub fn glance_at(&self, id: u64, now: Instant) -> Option<Glance<'_>> {
        let call = self.calls.get(&CallKey(id))?;
        Some(Glance { id, call, now })
    }
}
