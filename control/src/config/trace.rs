//! `[trace]`: what is kept of calls for those who ask later what happened.

use super::entry::{Entry, Value, count, plain};

/// `[trace]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trace {
    /// SIP messages of calls are kept.
    pub ladder: bool,
    /// Calls whose messages are kept after their end.
    pub calls: usize,
}

impl Trace {
    pub(super) fn entries(&self) -> Vec<Entry> {
        let Self { ladder, calls } = self;
        vec![
            plain("trace.ladder", Value::Flag(*ladder)),
            plain("trace.calls", count(*calls)),
        ]
    }
}
