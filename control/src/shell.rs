//! The shell: sockets, clock, kernel.

pub mod kernel;
