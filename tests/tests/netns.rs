//! The real daemon in the lab: real sockets, real netlink, the program attached and without it.
//! Needs root.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]
#![allow(clippy::panic, reason = "helpers of tests fail the test")]
#![allow(
    clippy::indexing_slicing,
    reason = "an index that is wrong fails the test"
)]

#[path = "netns/attack.rs"]
mod attack;
#[path = "netns/bpf.rs"]
mod bpf;
#[path = "netns/call.rs"]
mod call;
#[path = "netns/capture.rs"]
mod capture;
#[path = "netns/doctor.rs"]
mod doctor;
#[path = "netns/explain.rs"]
mod explain;
#[path = "netns/full.rs"]
mod full;
#[path = "netns/garbage.rs"]
mod garbage;
#[path = "netns/life.rs"]
mod life;
#[path = "netns/maps.rs"]
mod maps;
#[path = "netns/nat.rs"]
mod nat;
#[path = "netns/neighbour.rs"]
mod neighbour;
#[path = "netns/nic.rs"]
mod nic;
#[path = "netns/phones.rs"]
mod phones;
#[path = "netns/quality.rs"]
mod quality;
#[path = "netns/refusal.rs"]
mod refusal;
#[path = "netns/registrar.rs"]
mod registrar;
#[path = "netns/reload.rs"]
mod reload;
#[path = "netns/restart.rs"]
mod restart;
#[path = "netns/soak.rs"]
mod soak;
#[path = "netns/stage.rs"]
mod stage;
#[path = "netns/stream.rs"]
mod stream;
#[path = "netns/toobig.rs"]
mod toobig;
#[path = "netns/trouble.rs"]
mod trouble;
#[path = "netns/twins.rs"]
mod twins;
#[path = "netns/upgrade.rs"]
mod upgrade;
#[cfg(feature = "vlan")]
#[path = "netns/vlan.rs"]
mod vlan;
