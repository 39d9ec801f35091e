//! The shell: sockets, clock, kernel.
