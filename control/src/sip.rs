//! SIP (RFC 3261): which section lives in which file.
//!
//! The wire layer, in the order a message meets it: `framing` and `connection` (§18.3), `index`
//! (§7) with `name` and `malformed`, `value` and `uri` (§19.1, §20, §25), `verdict` (§8.2), `edit`,
//! `build` (§8, §17.1.1.3, §18.2.1), `vocabulary` (§21 and the bridge to rsip).
//!
//! Beside it `shard`: which of several workers a message belongs to.
//!
//! Behind it: `transaction` (§17), `registrar` (§10), `digest` (§22), and for calls `dialog` (§12)
//! and `b2bua`, the same message on the other leg; `identity`: what each side is told of the other.

pub mod b2bua;
pub mod build;
pub mod connection;
pub mod dialog;
pub mod digest;
pub mod edit;
pub mod framing;
pub mod identity;
pub mod index;
pub mod malformed;
pub mod name;
pub mod registrar;
pub mod shard;
pub mod terse;
pub mod transaction;
pub mod uri;
pub mod value;
pub mod verdict;
pub mod vocabulary;
