//! Everything that can happen to the relay.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use ipnet::IpNet;

use crate::effect::{Kept, PeerSign, Spent};
use crate::id::{Aor, Listener, Path};
use crate::sip::registrar::Binding;

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
    /// Flows found in the kernel at start, each with its source: those of calls that are restored
    /// are theirs, others go on until they fall silent.
    Adopted(Vec<(SocketAddr, SocketAddr)>),
    /// What an earlier process kept, at start.
    Restored(Vec<Kept>),
    /// All that an address-of-record has at the first shard now.
    Published { aor: Aor, bindings: Arc<[Binding]> },
    /// Another shard has banned somebody.
    Banned {
        net: IpNet,
        account: Option<String>,
        why: &'static str,
    },
    /// What another shard found of an address of a peer.
    Peer { address: SocketAddr, sign: PeerSign },
    /// Another shard has taken credentials: here they are none any more.
    Spent(Spent),
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
