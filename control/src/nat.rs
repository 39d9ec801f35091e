//! Who is behind what, and where their media really comes from.

pub mod latch;
pub mod packet;
pub mod policy;
pub mod stun;
