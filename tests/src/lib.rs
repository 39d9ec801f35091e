//! Whole-system tests: the lab, the simulator, frames.
