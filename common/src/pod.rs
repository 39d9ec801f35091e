//! Leave for aya to copy the map types. The only `unsafe` of this crate.

#![allow(unsafe_code, reason = "aya::Pod is an unsafe trait")]

use crate::event::Event;
use crate::flow::Flow;
use crate::map::{Port, Settings};
use crate::media::Media;
use crate::stats::FlowStats;

// SAFETY: `Settings` derives `FromBytes` and `IntoBytes`: no padding, any bytes are valid.
unsafe impl aya::Pod for Settings {}
// SAFETY: as for `Settings`.
unsafe impl aya::Pod for Flow {}
// SAFETY: as for `Settings`.
unsafe impl aya::Pod for FlowStats {}
// SAFETY: as for `Settings`.
unsafe impl aya::Pod for Event {}
// SAFETY: as for `Settings`.
unsafe impl aya::Pod for Media {}
// SAFETY: as for `Settings`.
unsafe impl aya::Pod for Port {}
