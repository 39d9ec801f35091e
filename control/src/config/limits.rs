//! `max_calls` and `max_bandwidth`.

use super::entry::Value;

/// What a peer or a network can carry; none is no limit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Limits {
    pub calls: Option<u32>,
    /// In kbit/s, as `b=AS` has it.
    pub bandwidth: Option<u32>,
}

/// A number that need not be there, as it would be written.
pub(super) fn optional(number: Option<impl Into<u64>>) -> Value {
    number.map_or(Value::Unset, |number| Value::Number(number.into()))
}
