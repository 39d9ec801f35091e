//! Whole-system tests: the lab that builds networks out of namespaces, the phones in it, and the
//! instruments that prove what arrived. Never shipped.
//!
//! Everything the lab makes lies inside network namespaces it created itself; the machine's own
//! interfaces, addresses, routes and firewall are never touched.

pub mod attacker;
pub mod bench;
pub mod browser;
pub mod calls;
pub mod cascade;
pub mod clock;
pub mod crowd;
pub mod delay;
pub mod demo;
pub mod dns;
pub mod frame;
pub mod http;
pub mod lab;
pub mod metrics;
pub mod mqtt;
pub mod natbox;
pub mod netns;
pub mod observer;
pub mod packet;
pub mod path;
pub mod pattern;
pub mod phone;
pub mod pki;
pub mod plane;
pub mod private;
pub mod process;
pub mod rtp;
pub mod schema;
pub mod scratch;
pub mod sim;
mod sys;
pub mod table;
pub mod talk;
pub mod ua;
pub mod wav;
pub mod xdp;
