//! From whom media is expected, and how patiently.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::peer::Sign;

/// Packets in a row, of one source, that a sender must show whom no address speaks for.
pub const ANYWHERE_PACKETS: u8 = 25;
/// What a neighbour has in common with an address.
const SUBNET_BITS_V4: u8 = 24;
const SUBNET_BITS_V6: u8 = 64;

/// From whom media is expected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Policy {
    /// No address is known and none may be learnt.
    Nobody,
    /// Exactly the signalled address, for good.
    Strict { at: SocketAddr },
    /// The signalled address; another port of it counts at once, `also` (where signalling comes
    /// from) after probation, both only while the signalled one was never heard.
    Believe {
        at: SocketAddr,
        also: Option<IpAddr>,
    },
    /// Any port of the address signalling comes from. What SDP said is not used as an address; a
    /// change of it reopens the search. `first`: where to send until packets come.
    Learn {
        from: IpAddr,
        signalled: Option<SocketAddr>,
        first: Option<SocketAddr>,
    },
}

/// From where a media source may be learnt, beside the address in SDP.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Accept {
    /// The address signalling comes from.
    #[default]
    Signalling,
    /// Its neighbourhood too: /24 in IPv4, /64 in IPv6.
    Subnet,
    /// Anyone who passes a long probation.
    Anywhere,
}

/// Whom the operator allows beyond SDP and signalling.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Reach {
    pub accept: Accept,
    /// Their packets are taken; media still goes where SDP says.
    pub senders: Vec<IpNet>,
}

/// How patient a latch is with a kind of traffic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pace {
    /// An old peer quiet this long may have been given another port by its NAT.
    pub silence: Duration,
    /// Packets a candidate must show.
    pub probation: u8,
    /// A candidate quiet this long is forgotten.
    pub patience: Duration,
}

impl Pace {
    /// A stream of packets.
    pub const RTP: Self = Self {
        silence: Duration::from_secs(2),
        probation: 3,
        patience: Duration::from_secs(2),
    };
    /// A report every 5 s, give or take (RFC 3550 §6.2).
    pub const RTCP: Self = Self {
        silence: Duration::from_secs(12),
        probation: 2,
        patience: Duration::from_secs(15),
    };
    /// Now and then a message and its retransmissions, as BFCP (RFC 8855 §8.3).
    pub const DATAGRAM: Self = Self {
        silence: Duration::from_secs(30),
        probation: 3,
        patience: Duration::from_secs(15),
    };

    /// A DTLS handshake among a stream goes at its own pace (RFC 9147 §5.8).
    pub(super) fn patience(self, sign: Sign) -> Duration {
        match sign.ssrc {
            Some(_) => self.patience,
            None => self.patience.max(Self::DATAGRAM.patience),
        }
    }
}

impl Reach {
    /// RTCP comes from where RTP does, so that nothing more is allowed to it.
    #[must_use]
    pub fn of_rtcp(&self) -> Self {
        Self {
            accept: Accept::Signalling,
            senders: self.senders.clone(),
        }
    }

    pub(super) fn declares(&self, ip: IpAddr) -> bool {
        self.senders.iter().any(|prefix| prefix.contains(&ip))
    }
}

/// Whether two addresses share their subnet.
pub(super) fn are_neighbours(a: IpAddr, b: IpAddr) -> bool {
    match a {
        IpAddr::V4(ip) => {
            Ipv4Net::new(ip, SUBNET_BITS_V4).is_ok_and(|net| IpNet::from(net).contains(&b))
        }
        IpAddr::V6(ip) => {
            Ipv6Net::new(ip, SUBNET_BITS_V6).is_ok_and(|net| IpNet::from(net).contains(&b))
        }
    }
}
