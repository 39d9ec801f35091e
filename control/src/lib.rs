//! Towpath's control plane: a pure core that turns (time, input) into effects, and a thin shell
//! (feature `daemon`) that performs them. Modules in layer order; nothing points back.

#![forbid(unsafe_code)]

// Vocabulary.
pub mod bus;
pub mod effect;
pub mod id;
pub mod upstream;

// Languages and policies: siblings that do not know each other.
pub mod cascade;
pub mod conference;
pub mod mqtt;
pub mod nat;
pub mod outbox;
pub mod sdp;
pub mod sip;

// Composition.
pub mod config;
pub mod doctor;
pub mod engine;
pub mod media;
pub mod plane;

// Shell.
#[cfg(feature = "daemon")]
pub mod cli;
#[cfg(feature = "daemon")]
pub mod shell;
