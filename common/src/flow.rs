//! A flow: what to do with the media that arrives at one local endpoint, as a rewrite with nothing
//! left to work out.

use core::net::SocketAddr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::checksum::{Update, fold};
use crate::wire::{Be16, Ip, Mac};

/// UDP's protocol number, for the pseudo-header.
pub const UDP: u8 = 17;

/// What one hop takes from the halfword that begins with the hop limit.
const ONE_HOP: u16 = u16::from_ne_bytes([1, 0]);

/// An address and port, in network byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout)]
pub struct Endpoint {
    pub ip: Ip,
    pub port: Be16,
    zero: [u8; 2],
}

const _: () = assert!(size_of::<Endpoint>() == 20);

impl Endpoint {
    #[must_use]
    #[inline(always)]
    pub const fn new(ip: Ip, port: Be16) -> Self {
        Self {
            ip,
            port,
            zero: [0; 2],
        }
    }
}

impl PartialEq for Endpoint {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        self.port.0 == other.port.0 && self.ip == other.ip
    }
}

impl From<SocketAddr> for Endpoint {
    /// Flow label and scope of an IPv6 socket address are not part of an endpoint.
    fn from(at: SocketAddr) -> Self {
        Self::new(at.ip().into(), Be16::new(at.port()))
    }
}

impl From<Endpoint> for SocketAddr {
    fn from(at: Endpoint) -> Self {
        Self::new(at.ip.into(), at.port.get())
    }
}

/// Bits of a flow.
#[repr(transparent)]
#[derive(
    Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout,
)]
pub struct Flags(u8);

impl Flags {
    pub const NONE: Self = Self(0);
    /// The kernel leaves this flow to userspace: another family, several receivers, a recording.
    pub const USERSPACE: Self = Self(1);
    /// Write `dscp`.
    pub const DSCP: Self = Self(2);
    /// Show a stranger to userspace now and then, so that the latch may judge whether the peer
    /// moved. Without it strangers are only counted.
    pub const SHOW_STRANGERS: Self = Self(4);
    /// Write `hops` instead of taking one off.
    pub const HOPS: Self = Self(8);
    /// Keep account of the RTP stream: loss, order, jitter (`Media`).
    pub const MEASURE: Self = Self(16);

    #[must_use]
    #[inline(always)]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[must_use]
    #[inline(always)]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// A compiled rewrite. The only source let in is `peer`, so everything a packet's headers held
/// before is known when the flow is made, and the checksum differences are constants.
///
/// All zeros forwards nothing: nobody sends from port 0, and nothing fits an MTU of zero.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout,
)]
pub struct Flow {
    /// The only source allowed in (the latched one).
    pub peer: Endpoint,
    /// Rewritten source: our other leg.
    pub source: Endpoint,
    /// Rewritten destination: the other party.
    pub target: Endpoint,
    /// Index into STATS and MEDIA; kept when the flow is replaced, so that counting goes on.
    pub stats: u32,
    /// Which use of `stats` this is: the kernel starts counting anew when it changes.
    pub generation: u32,
    /// Interface index the peer's packets come in by, and in which VLAN: zero is any interface, and
    /// no VLAN.
    pub ingress: u32,
    pub vlan_in: Be16,
    /// VLAN to leave in; zero is none.
    pub vlan_out: Be16,
    /// Interface index to leave by.
    pub egress: u32,
    pub eth_src: Mac,
    pub eth_dst: Mac,
    /// Difference of the IPv4 header checksum: addresses and, without `Flags::HOPS`, one hop.
    pub delta_l3: u16,
    /// Difference of the UDP checksum: addresses and ports.
    pub delta_l4: u16,
    /// Pseudo-header of the packet as it arrives, without the length (RFC 768, RFC 8200 §8.1).
    pub pseudo: u16,
    /// Longest IP packet the egress carries.
    pub mtu: u16,
    /// Differentiated services field to write, if `Flags::DSCP`; its two ECN bits are the sender's
    /// (RFC 3168 §5).
    pub tos: u8,
    pub flags: Flags,
    /// Hop limit to write, if `Flags::HOPS`.
    pub hops: u8,
    zero: u8,
    /// Rate of the RTP clock (RFC 3550 §4); zero: not known, and no jitter is kept.
    pub clock_hz: u32,
    /// Where the media arrives: our socket. The kernel does not read it; whoever finds the flow in
    /// its map does.
    pub local: Endpoint,
}

/// Two cache lines: the map begins at one.
const _: () = assert!(size_of::<Flow>() == 128);

/// The addresses of a flow: what the control plane decides.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rewrite {
    pub peer: Endpoint,
    pub source: Endpoint,
    pub target: Endpoint,
    /// Differentiated services field; its ECN bits are ignored.
    pub tos: Option<u8>,
    pub flags: Flags,
}

/// The next hop of a flow: what routes and neighbours decide.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Hop {
    pub eth_src: Mac,
    pub eth_dst: Mac,
    pub egress: u32,
    pub mtu: u16,
}

impl Flow {
    /// Works out everything that is constant over the life of a flow. `stats` and `generation` are
    /// the loader's to fill in. Two families make it a flow for userspace.
    #[must_use]
    pub fn compile(local: Endpoint, rewrite: Rewrite, hop: Hop) -> Self {
        let Rewrite {
            peer,
            source,
            target,
            tos,
            flags,
        } = rewrite;
        let Hop {
            eth_src,
            eth_dst,
            egress,
            mtu,
        } = hop;
        let addresses = Update::new().ip(peer.ip, source.ip).ip(local.ip, target.ip);
        let v4 = local.ip.is_v4();
        let one_family = [peer, source, target].iter().all(|e| e.ip.is_v4() == v4);
        Self {
            local,
            peer,
            source,
            target,
            eth_src,
            eth_dst,
            egress,
            stats: 0,
            generation: 0,
            delta_l3: addresses.halfword(Be16(ONE_HOP), Be16(0)).folded(),
            delta_l4: addresses
                .halfword(peer.port, source.port)
                .halfword(local.port, target.port)
                .folded(),
            pseudo: pseudo(peer.ip, local.ip),
            mtu,
            tos: tos.unwrap_or(0),
            flags: flags
                .with(if tos.is_some() {
                    Flags::DSCP
                } else {
                    Flags::NONE
                })
                .with(if one_family {
                    Flags::NONE
                } else {
                    Flags::USERSPACE
                }),
            hops: 0,
            zero: 0,
            clock_hz: 0,
            ingress: 0,
            vlan_in: Be16(0),
            vlan_out: Be16(0),
        }
    }

    /// Sends every packet on with this hop limit, however far it came; one whose own is spent is
    /// dropped all the same.
    #[must_use]
    pub fn with_hops(self, hops: u8) -> Self {
        let Self {
            peer,
            source,
            target,
            local,
            ..
        } = self;
        let addresses = Update::new().ip(peer.ip, source.ip).ip(local.ip, target.ip);
        Self {
            hops,
            flags: self.flags.with(Flags::HOPS),
            delta_l3: addresses.folded(),
            ..self
        }
    }

    /// Lets in what comes by one interface and VLAN only; zero is any interface, and no VLAN.
    #[must_use]
    pub const fn arriving(self, ingress: u32, vlan: u16) -> Self {
        Self {
            ingress,
            vlan_in: Be16::new(vlan),
            ..self
        }
    }

    /// Sends packets in a VLAN; zero is none.
    #[must_use]
    pub const fn leaving(self, vlan: u16) -> Self {
        Self {
            vlan_out: Be16::new(vlan),
            ..self
        }
    }

    /// Keeps account of the RTP stream, whose clock runs at `clock_hz` if that is known.
    #[must_use]
    pub fn measured(self, clock_hz: u32) -> Self {
        Self {
            clock_hz,
            flags: self.flags.with(Flags::MEASURE),
            ..self
        }
    }
}

/// The pseudo-header's sum without the length. The prefix of a mapped address is not on the wire,
/// but it is all ones: in ones' complement that adds nothing to a sum that is not zero.
fn pseudo(src: Ip, dst: Ip) -> u16 {
    let protocol = u16::from_be_bytes([0, UDP]).to_be();
    fold(u32::from(src.sum()) + u32::from(dst.sum()) + u32::from(protocol))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_lie_as_on_the_wire() {
        check(
            "10.1.2.3:20000",
            &[
                0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 2, 3, 0x4e, 0x20, 0, 0,
            ],
        );
        check(
            "[2001:db8::3]:5004",
            &[
                0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0x13, 0x8c, 0, 0,
            ],
        );
    }

    fn check(text: &str, bytes: &[u8]) {
        let at: SocketAddr = text.parse().unwrap();
        assert_eq!(Endpoint::from(at).as_bytes(), bytes);
        assert_eq!(SocketAddr::from(Endpoint::from(at)), at);
    }

    #[test]
    fn two_families_are_for_userspace() {
        let v4 = || "192.0.2.7:5004".parse::<SocketAddr>().unwrap().into();
        let v6 = || "[2001:db8::3]:5004".parse::<SocketAddr>().unwrap().into();
        let flow = |local, peer, source, target| {
            let rewrite = Rewrite {
                peer,
                source,
                target,
                tos: None,
                flags: Flags::NONE,
            };
            Flow::compile(local, rewrite, Hop::default())
                .flags
                .has(Flags::USERSPACE)
        };
        assert!(!flow(v4(), v4(), v4(), v4()));
        assert!(!flow(v6(), v6(), v6(), v6()));
        assert!(flow(v4(), v4(), v6(), v6()));
        assert!(flow(v6(), v6(), v6(), v4()));
        assert!(flow(v4(), v6(), v4(), v4()));
    }
}
