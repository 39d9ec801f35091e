//! The smallest XDP programs, one verdict for every packet, to try what a link can do.

use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use nix::net::if_::if_nametoindex;

use crate::netns::Namespace;
use crate::sys;

/// What the program says to every packet (`enum xdp_action`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    Drop = 1,
    Pass = 2,
    /// Back out of the interface it came from.
    Transmit = 3,
}

/// An attached program; detached on drop.
#[derive(Debug)]
pub struct Attached {
    _link: OwnedFd,
}

const PROG_LOAD: i32 = 5;
const LINK_CREATE: i32 = 28;
const PROG_TYPE_XDP: u64 = 6;
const ATTACH_TYPE_XDP: u64 = 37;
const DRIVER_MODE: u64 = 1 << 2;

/// Attaches a program to an interface of `namespace`, in native mode.
///
/// # Errors
/// No such interface, no CAP_BPF and CAP_NET_ADMIN, or a program is attached already.
pub fn attach(namespace: &Namespace, interface: &str, verdict: Verdict) -> Result<Attached> {
    // r0 = verdict; exit
    let instructions = [0xb7 | (verdict as u64) << 32, 0x95];
    let license = *b"Dual MIT/GPL\0";
    let [program, license] = [instructions.as_ptr() as u64, license.as_ptr() as u64];
    // Type and number of instructions, then two pointers; the rest is zero.
    let load = [PROG_TYPE_XDP | 2 << 32, program, license, 0, 0, 0, 0, 0, 0];
    let program = sys::bpf(PROG_LOAD, &load).context("load an XDP program")?;
    let descriptor = u64::try_from(program.as_raw_fd())?;
    let create = || -> Result<OwnedFd> {
        let index = u64::from(if_nametoindex(interface)?);
        // Program and interface, then attach type and flags.
        let link = [
            descriptor | index << 32,
            ATTACH_TYPE_XDP | DRIVER_MODE << 32,
            0,
            0,
        ];
        Ok(sys::bpf(LINK_CREATE, &link)?)
    };
    let link = namespace
        .enter(create)?
        .with_context(|| format!("attach XDP to {interface}"))?;
    Ok(Attached { _link: link })
}
