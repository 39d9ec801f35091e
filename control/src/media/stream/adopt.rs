//! A stream whose flows were there before this process.

use std::net::SocketAddr;
use std::time::Instant;

use super::{Component, Side, Stream};

impl Stream {
    /// A flow at this socket was there before us, from this source.
    pub fn adopt(&mut self, (side, component): (Side, Component), from: SocketAddr, now: Instant) {
        let latches = self.latches.of_mut(side);
        match component {
            Component::Rtp => latches.rtp.adopt(from, now),
            Component::Rtcp => latches.rtcp.adopt(from, now),
        }
    }
}
