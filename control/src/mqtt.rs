//! The edge's broker: sessions, subscriptions, retained messages and queues of the clients that
//! connect to us. Pure: time is an argument, packets are ours, sockets are somebody else's.

pub mod address;
pub mod broker;
pub mod filter;
pub mod json;
pub mod packet;
mod retained;
mod session;
mod tree;

use std::time::Duration;

pub use self::broker::Broker;

/// What one client, or all of them together, may cost us.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Sessions, of clients that are there and of those that may come back.
    pub clients: usize,
    /// That wait for one client.
    pub queue_messages: usize,
    pub queue_bytes: usize,
    /// Subscriptions of one client.
    pub filters: usize,
    pub retained_bytes: usize,
    /// How long a session outlives its connection at most.
    pub session_expiry: Duration,
}

impl Limits {
    pub const DEFAULT: Self = Self {
        clients: 4096,
        queue_messages: 1000,
        queue_bytes: 1024 * 1024,
        filters: 100,
        retained_bytes: 64 * 1024 * 1024,
        session_expiry: Duration::from_secs(3600),
    };
}

/// One packet, whole; told to MQTT 5 clients (§3.2.2.3.6).
pub const PACKET_BYTES_MAX: usize = 64 * 1024;
/// What comes before we know who it is, and how long it may take.
pub const CONNECT_BYTES_MAX: usize = 1024;
pub const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// Of a topic or a filter.
pub const TOPIC_BYTES_MAX: usize = 1024;
pub const TOPIC_LEVELS_MAX: usize = 64;
/// Of a client identifier.
pub const ID_BYTES_MAX: usize = 256;
/// Publications of a client that are not acknowledged yet; told to MQTT 5 clients as Receive
/// Maximum (§3.2.2.3.3).
pub const RECEIVE_MAX: u16 = 256;
/// To a client that wants no other number.
pub const INFLIGHT_MAX: u16 = 64;
/// Aliases of topics that a client may use (§3.2.2.3.8).
pub const TOPIC_ALIAS_MAX: u16 = 16;
/// Bytes handed to a connection that have not left yet; what is more waits in the session's queue.
pub const UNSENT_BYTES_MAX: usize = 128 * 1024;
/// Retained messages, whatever their size.
pub const RETAINED_MAX: usize = 65_536;
/// Sessions of one account: its devices, and what they left behind.
pub const SESSIONS_PER_ACCOUNT_MAX: usize = 64;
