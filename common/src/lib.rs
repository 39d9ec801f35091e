//! What the kernel program and userspace agree on.
#![no_std]
