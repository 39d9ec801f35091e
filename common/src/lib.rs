//! What the kernel program and userspace agree on: the types the maps hold, and `forward`, the one
//! function that decides about a media packet. It runs unchanged in the XDP program, in tests and
//! in the simulator.
//!
//! Code reachable from `forward` speaks the kernel dialect:
//!
//! - Look-ups return references into the map; a flow or a header is never copied (512 bytes of
//!   stack).
//! - Addresses are four words, hardware addresses three halfwords, compared and assigned word by
//!   word: BPF has no `memcmp` and no `memmove`.
//! - One view per packet shape, borrowed in place: one bounds check.
//! - No recursion, no slices of run-time length, no formatting, no undefined payloads: results are
//!   flat structures whose every field is set.
//! - Check everything, then change, then transmit. What goes to the stack goes as it came.

#![no_std]
#![cfg_attr(not(feature = "user"), forbid(unsafe_code))]

pub mod checksum;
pub mod event;
pub mod flow;
pub mod forward;
pub mod map;
pub mod media;
#[cfg(feature = "user")]
mod pod;
pub mod rtp;
pub mod stats;
pub mod wire;
