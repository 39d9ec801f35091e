//! Everything that can happen to the relay.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

use crate::id::{Listener, Path};

#[derive(Clone, Debug)]
pub enum Input {
    /// A datagram arrived at a SIP listener, or a whole message on a connection of one.
    Sip {
        on: Listener,
        from: SocketAddr,
        bytes: Bytes,
    },
    /// A connection can be used: its first message is whole, or what we dialled has answered.
    Connected(Path),
    /// It is gone, or never came about. Told once.
    Closed(Path),
    /// There was no connection to send this on.
    Unsent { path: Path, bytes: Bytes },
    /// A media packet arrived that no flow claimed.
    Media {
        at: SocketAddr,
        from: SocketAddr,
        packet: Bytes,
    },
    /// Flows at these local addresses carried packets since the last such input.
    Active(Vec<Activity>),
    /// A socket could not be opened: the call that wanted it cannot be served.
    OpenFailed { at: SocketAddr },
    /// Flows found in the kernel at start: they go on until they fall silent.
    Adopted(Vec<SocketAddr>),
}

/// What a flow carried past the engine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Activity {
    pub at: SocketAddr,
    /// When its latest packet came.
    pub last: Instant,
    /// That packet's source, of RTP, if it was looked at.
    pub ssrc: Option<u32>,
}
