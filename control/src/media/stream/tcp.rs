//! Media over TCP (RFC 4145): BFCP, MRCP, RTP in frames (RFC 4571). Each party is told a port of
//! ours and takes the part it took in SDP; the party that connects is joined to the one that waits.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use ipnet::IpNet;

use super::{Component, Stream};
use crate::effect::JoinRule;
use crate::media::leg::Side;
use crate::nat::latch::Policy;
use crate::sdp::lines::{Protocol, Setup};

/// What a party writes that only connects (RFC 4145 §4.1: the discard port).
pub const ACTIVE_PORT: u16 = 9;

impl Stream {
    #[must_use]
    pub fn is_tcp(&self) -> bool {
        self.terms.protocol == Protocol::Stream
    }

    /// Where to listen, and what for.
    pub fn add_listening(&self, wanted: &mut BTreeMap<SocketAddr, JoinRule>) {
        if !self.is_tcp() {
            return;
        }
        for side in Side::BOTH {
            let (accept, other) = (self.may_connect(side), side.other());
            if accept.is_empty() {
                continue;
            }
            if let Some(to) = self.listens_at(other) {
                let from = self.terms.pairs.of(other).local;
                let at = self.terms.pairs.of(side).at(Component::Rtp);
                wanted.insert(at, JoinRule { accept, from, to });
            }
        }
    }

    /// Where a party waits for a connection; none if it does not.
    pub(super) fn listens_at(&self, side: Side) -> Option<SocketAddr> {
        match self.terms.remote.of(side).setup {
            Some(Setup::Active | Setup::None) => return None,
            Some(Setup::Passive | Setup::Either) | None => {}
        }
        let at = match *self.terms.policy.of(side) {
            Policy::Strict { at } | Policy::Believe { at, .. } => at,
            // Behind a NAT that maps the port: there is no other way in.
            Policy::Learn {
                from,
                signalled: Some(at),
                ..
            } => SocketAddr::new(from, at.port()),
            Policy::Learn {
                signalled: None, ..
            }
            | Policy::Nobody => return None,
        };
        (at.port() != ACTIVE_PORT).then_some(at)
    }

    /// From where a party may connect: there is no probation, so that only named addresses count.
    fn may_connect(&self, side: Side) -> Vec<IpNet> {
        match self.terms.remote.of(side).setup {
            Some(Setup::Passive | Setup::None) => return Vec::new(),
            Some(Setup::Active | Setup::Either) | None => {}
        }
        let mut accept: Vec<IpNet> = match *self.terms.policy.of(side) {
            Policy::Nobody => return Vec::new(),
            Policy::Strict { at } => vec![at.ip().into()],
            Policy::Believe { at, also } => {
                let also = also.map(IpNet::from);
                [IpNet::from(at.ip())].into_iter().chain(also).collect()
            }
            Policy::Learn { from, .. } => vec![from.into()],
        };
        accept.extend(&self.terms.reach.of(side).senders);
        accept
    }
}
