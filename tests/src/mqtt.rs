//! MQTT as a client speaks it, packet by packet and in both versions, and brokers to speak to.

pub mod broker;
pub mod client;
pub mod script;
pub mod wire;
