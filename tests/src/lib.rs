//! Whole-system tests: the lab, the simulator, frames.

pub mod frame;
pub mod table;
