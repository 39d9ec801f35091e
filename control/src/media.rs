//! A call's media: ports, legs, latches and the flows they want.

pub mod plan;
pub mod port;
pub mod session;
