//! Transactions (RFC 3261 §17): match a message to its machine.

pub mod client;
pub mod client_invite;
pub mod server;
pub mod server_invite;
pub mod timer;
