//! Raw frames on one interface: what the delay line forwards and the observer reads.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recvfrom, send,
    setsockopt, socket, sockopt,
};

use crate::sys;

/// Longer frames are cut; the lab's links carry 1500 bytes and no merged segments.
pub const FRAME_BYTES_MAX: usize = 2048;

/// What the kernel may queue for us before it drops.
const RECEIVE_BYTES: usize = 8 << 20;

/// A raw socket on one interface.
#[derive(Debug)]
pub struct PacketSocket {
    socket: OwnedFd,
}

/// Which way a frame went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    In,
    Out,
}

impl PacketSocket {
    /// Opens a socket on `interface` of the network namespace the calling thread is in.
    ///
    /// # Errors
    /// No such interface, or no CAP_NET_RAW.
    pub fn open(interface: &str) -> Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        // No protocol yet: an unbound socket would receive from every interface.
        let none: Option<SockProtocol> = None;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, none)
            .context("AF_PACKET socket (needs CAP_NET_RAW)")?;
        setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BYTES).context("SO_RCVBUFFORCE")?;
        let index = if_nametoindex(interface).with_context(|| format!("interface {interface}"))?;
        sys::bind_packet(socket.as_fd(), index).with_context(|| format!("bind to {interface}"))?;
        Ok(Self { socket })
    }

    /// The next waiting frame, or none.
    ///
    /// # Errors
    /// Whatever the kernel says, a vanished interface for one.
    pub fn receive<'b>(&self, buffer: &'b mut [u8]) -> io::Result<Option<(&'b [u8], Direction)>> {
        use std::os::fd::AsRawFd;
        let (length, from) = match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), buffer) {
            Ok(received) => received,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let outgoing = from.is_some_and(|a| a.pkttype() == libc::PACKET_OUTGOING);
        let direction = if outgoing {
            Direction::Out
        } else {
            Direction::In
        };
        Ok(buffer.get(..length).map(|frame| (frame, direction)))
    }

    /// Sends one frame as it is.
    ///
    /// # Errors
    /// Whatever the kernel says; a full queue is one of them.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        use std::os::fd::AsRawFd;
        send(self.socket.as_raw_fd(), frame, MsgFlags::empty()).map_err(io::Error::from)?;
        Ok(())
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Waits until one of the sockets has something, at most `limit`.
///
/// # Errors
/// Whatever the kernel says.
pub fn wait(sockets: &[&PacketSocket], limit: Duration) -> io::Result<bool> {
    let descriptors: Vec<_> = sockets.iter().map(|s| s.as_fd()).collect();
    sys::wait_readable(&descriptors, limit)
}
