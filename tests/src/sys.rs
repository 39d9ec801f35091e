//! The only `unsafe` of this package: four system calls that have no safe wrapper.

use std::fs::File;
use std::io;
use std::mem::{size_of, size_of_val, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

/// Makes the child enter a network namespace before it executes. The mount namespace stays ours,
/// so that paths on our BPF file system mean the same to the child.
pub(crate) fn enter_before_exec(command: &mut Command, namespace: File) {
    let enter = move || setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(io::Error::from);
    // SAFETY: between fork and exec the closure makes one system call, setns, on a descriptor it
    // owns; it neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(enter);
    }
}

/// Binds an AF_PACKET socket to one interface, for every protocol.
pub(crate) fn bind_packet(socket: BorrowedFd<'_>, interface: u32) -> io::Result<()> {
    // SAFETY: sockaddr_ll is plain integers, for which all zeros is a valid value.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
    address.sll_protocol = u16::try_from(libc::ETH_P_ALL)
        .map_err(io::Error::other)?
        .to_be();
    address.sll_ifindex = i32::try_from(interface).map_err(io::Error::other)?;
    let bytes = u32::try_from(size_of::<libc::sockaddr_ll>()).map_err(io::Error::other)?;
    // SAFETY: the pointer and the length describe `address`, which lives across the call.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), bytes) };
    checked(result).map(drop)
}

/// Waits until one of the descriptors is readable; false when `limit` passed or a signal came.
pub(crate) fn wait_readable(sockets: &[BorrowedFd<'_>], limit: Duration) -> io::Result<bool> {
    let mut polled: Vec<libc::pollfd> = sockets
        .iter()
        .map(|s| libc::pollfd {
            fd: s.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    let limit = libc::timespec {
        tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(limit.subsec_nanos()),
    };
    let count = polled.len() as libc::nfds_t;
    let no_mask = std::ptr::null();
    // SAFETY: pointer and count describe `polled`; the time-out lives across the call; a null
    // signal mask means that the mask stays as it is.
    let result = unsafe { libc::ppoll(polled.as_mut_ptr(), count, &raw const limit, no_mask) };
    match checked(result) {
        Ok(ready) => Ok(ready > 0),
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(false),
        Err(e) => Err(e),
    }
}

/// The system call `bpf` for commands that return a descriptor. `attributes` is the kernel's
/// `union bpf_attr`, as long as the command needs; pointers in it must point to what the command
/// reads, which none of ours outlives.
pub(crate) fn bpf(command: i32, attributes: &[u64]) -> io::Result<OwnedFd> {
    let (pointer, bytes) = (attributes.as_ptr(), size_of_val(attributes));
    // SAFETY: the pointer and the length describe `attributes`; the kernel copies them, and what
    // they point to, with checked copies that fail with EFAULT on a wrong pointer.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, pointer, bytes) };
    let descriptor = checked(i32::try_from(result).map_err(io::Error::other)?)?;
    // SAFETY: the kernel just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn checked(result: i32) -> io::Result<i32> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
