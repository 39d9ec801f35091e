//! `max_calls` and `max_bandwidth`.

/// What a peer or a network can carry; none is no limit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Limits {
    pub calls: Option<u32>,
    /// In kbit/s, as `b=AS` has it.
    pub bandwidth: Option<u32>,
}
