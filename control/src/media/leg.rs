//! The two parties of a call, and from whom each one's media is accepted.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;

use crate::id::NetworkId;
use crate::nat::latch::{Policy, Reach};
use crate::nat::policy::{believable, is_routable};

pub use crate::nat::latch::Accept;

/// One of the two parties.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Side {
    /// Usually the caller.
    A,
    /// Usually the callee.
    B,
}

impl Side {
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// One of something for each side.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Both<T> {
    pub a: T,
    pub b: T,
}

impl<T> Both<T> {
    #[must_use]
    pub fn of(&self, side: Side) -> &T {
        match side {
            Side::A => &self.a,
            Side::B => &self.b,
        }
    }

    #[must_use]
    pub fn of_mut(&mut self, side: Side) -> &mut T {
        match side {
            Side::A => &mut self.a,
            Side::B => &mut self.b,
        }
    }

    /// `first` belongs to `side`, `second` to the other.
    #[must_use]
    pub fn new(side: Side, first: T, second: T) -> Self {
        match side {
            Side::A => Self {
                a: first,
                b: second,
            },
            Side::B => Self {
                a: second,
                b: first,
            },
        }
    }

    #[must_use]
    pub fn map<U>(&self, mut f: impl FnMut(Side, &T) -> U) -> Both<U> {
        Both {
            a: f(Side::A, &self.a),
            b: f(Side::B, &self.b),
        }
    }
}

/// Where media is sent, as the network is configured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// Where SDP says, and accepted from there only.
    Sdp,
    /// Back along the path the packets came from (RFC 4961); SDP's address is ignored.
    Symmetric,
    /// SDP for a party that is where it says it is, symmetric for the others.
    Auto,
}

/// One party, as signalling sees it now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LegSettings {
    pub network: NetworkId,
    /// Our address there: sockets bind to it.
    pub local: IpAddr,
    /// The address this party is told.
    pub advertise: IpAddr,
    /// Added to a local port, it is the port this party is told.
    pub port_offset: i32,
    /// Where this party's SIP really comes from.
    pub signalled_from: IpAddr,
    /// Its signalling contradicts its source (`nat::policy::natted`).
    pub natted: bool,
    pub mode: Mode,
    /// From where a source may be learnt.
    pub accept: Accept,
    /// Declared senders: accepted wherever SDP and signalling point.
    pub senders: Vec<IpNet>,
    /// Its network keeps ICE.
    pub ice: bool,
    /// The DS field of media sent to this party; none leaves the sender's (RFC 2474).
    pub tos: Option<u8>,
    /// The hop limit of media sent to this party; none takes one off the sender's.
    pub hops: Option<u8>,
}

impl LegSettings {
    /// What this party is told for a local port.
    #[must_use]
    pub fn told(&self, port: u16) -> SocketAddr {
        let told = i32::from(port).saturating_add(self.port_offset);
        // A range that maps beyond the last port is refused with the configuration.
        let told = u16::try_from(told).unwrap_or(port);
        SocketAddr::new(self.advertise, told)
    }

    /// From whom media is accepted, given the address in SDP and the prefixes of the network; and
    /// why, for the operator.
    #[must_use]
    pub fn policy(
        &self,
        signalled: Option<SocketAddr>,
        network: &[IpNet],
    ) -> (Policy, &'static str) {
        let source = self.signalled_from.to_canonical();
        let learn = Policy::Learn {
            from: source,
            signalled,
            first: None,
        };
        // Another family than our socket's, or our own host, is no place to send to.
        let usable = signalled.filter(|at| {
            at.is_ipv4() == self.local.is_ipv4()
                && (self.local.is_loopback() || !at.ip().is_loopback())
                && at.ip() != IpAddr::V4(Ipv4Addr::BROADCAST)
        });
        let at = match (self.mode, usable) {
            (Mode::Sdp, Some(at)) => return (Policy::Strict { at }, "media = \"sdp\""),
            (Mode::Sdp, None) => return (Policy::Nobody, UNUSABLE),
            (Mode::Symmetric, _) => return (learn, "media = \"symmetric\""),
            (Mode::Auto, None) => return (learn, UNUSABLE),
            (Mode::Auto, Some(at)) => at,
        };
        if self.natted && at.ip() == source {
            // STUN or a router wrote the public address: as good a first guess as any.
            let first = Policy::Learn {
                from: source,
                signalled,
                first: Some(at),
            };
            (
                first,
                "signalling shows a NAT, SDP names its public address",
            )
        } else if self.natted {
            (learn, "signalling shows a NAT")
        } else if at.ip() == source {
            let believed = Policy::Believe { at, also: None };
            (believed, "SDP names the address signalling comes from")
        } else if believable(source, at.ip(), network) {
            let also = Some(source);
            let why = "SDP names another address of its network";
            (Policy::Believe { at, also }, why)
        } else if is_routable(at.ip()) {
            (learn, "SDP names an address outside its network")
        } else {
            (learn, "SDP names a private address, signalling another one")
        }
    }

    /// Whom the operator allows beyond SDP and signalling.
    #[must_use]
    pub fn reach(&self) -> Reach {
        Reach {
            accept: self.accept,
            senders: self.senders.clone(),
        }
    }
}

const UNUSABLE: &str = "SDP names no address we can send to";

/// The policy for RTCP beside one for RTP, given where SDP puts RTCP (RFC 3605). Unless SDP is
/// taken by the letter, RTCP comes from the IP that RTP comes from.
#[must_use]
pub fn rtcp_policy(rtp: Policy, signalled: Option<SocketAddr>) -> Policy {
    match (rtp, signalled) {
        (Policy::Strict { .. }, Some(at)) => Policy::Strict { at },
        (Policy::Believe { at: rtp, also }, Some(at)) if at.ip() == rtp.ip() => {
            Policy::Believe { at, also }
        }
        (Policy::Believe { at, .. }, _) => Policy::Learn {
            from: at.ip(),
            signalled,
            first: None,
        },
        (Policy::Learn { from, first, .. }, _) => Policy::Learn {
            from,
            signalled,
            first: signalled.filter(|at| first.is_some_and(|first| first.ip() == at.ip())),
        },
        (Policy::Nobody, _) | (Policy::Strict { .. }, None) => Policy::Nobody,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        let own = "203.0.113.9:4000";
        let other = "198.51.100.2:4000";
        let private = "192.168.1.2:4000";
        check(Mode::Sdp, true, Some(private), "Strict 192.168.1.2:4000");
        check(Mode::Sdp, false, None, "Nobody");
        check(Mode::Sdp, false, Some("[2001:db8::1]:4000"), "Nobody");
        check(Mode::Sdp, false, Some("127.0.0.1:4000"), "Nobody");
        check(Mode::Sdp, false, Some("255.255.255.255:4000"), "Nobody");
        check(Mode::Symmetric, false, Some(own), "Learn 203.0.113.9");
        check(Mode::Auto, false, Some(own), "Believe 203.0.113.9:4000");
        check(
            Mode::Auto,
            true,
            Some(own),
            "Learn 203.0.113.9, first 203.0.113.9:4000",
        );
        check(Mode::Auto, false, Some(private), "Learn 203.0.113.9");
        check(
            Mode::Auto,
            false,
            Some(other),
            "Believe 198.51.100.2:4000, 203.0.113.9",
        );
        check(Mode::Auto, false, None, "Learn 203.0.113.9");
        check(
            Mode::Auto,
            false,
            Some("127.0.0.1:4000"),
            "Learn 203.0.113.9",
        );

        fn check(mode: Mode, natted: bool, signalled: Option<&str>, expected: &str) {
            let leg = LegSettings {
                network: NetworkId(0),
                local: "192.0.2.1".parse().unwrap(),
                advertise: "192.0.2.1".parse().unwrap(),
                signalled_from: "203.0.113.9".parse().unwrap(),
                natted,
                mode,
                port_offset: 0,
                accept: Accept::Signalling,
                senders: Vec::new(),
                ice: false,
                tos: None,
                hops: None,
            };
            let everybody = ["0.0.0.0/0".parse().unwrap()];
            let signalled = signalled.map(|at| at.parse().unwrap());
            let got = match leg.policy(signalled, &everybody).0 {
                Policy::Nobody => "Nobody".to_owned(),
                Policy::Strict { at } => format!("Strict {at}"),
                Policy::Believe { at, also: None } => format!("Believe {at}"),
                Policy::Believe { at, also: Some(ip) } => format!("Believe {at}, {ip}"),
                Policy::Learn {
                    from, first: None, ..
                } => format!("Learn {from}"),
                Policy::Learn {
                    from,
                    first: Some(at),
                    ..
                } => format!("Learn {from}, first {at}"),
            };
            assert_eq!(got, expected, "{mode:?} {natted} {signalled:?}");
        }
    }

    #[test]
    fn rtcp_shares_the_ip() {
        let (rtp, rtcp) = (at("203.0.113.9:4000"), at("203.0.113.9:4007"));
        let elsewhere = at("198.51.100.2:4001");
        let strict = |at| Policy::Strict { at };
        let believe = |at| Policy::Believe { at, also: None };
        let learn = |signalled| Policy::Learn {
            from: rtp.ip(),
            signalled,
            first: None,
        };
        check(strict(rtp), Some(rtcp), strict(rtcp));
        check(strict(rtp), Some(elsewhere), strict(elsewhere));
        check(strict(rtp), None, Policy::Nobody);
        check(believe(rtp), Some(rtcp), believe(rtcp));
        check(believe(rtp), Some(elsewhere), learn(Some(elsewhere)));
        check(believe(rtp), None, learn(None));
        check(learn(Some(rtp)), Some(elsewhere), learn(Some(elsewhere)));
        check(Policy::Nobody, Some(rtcp), Policy::Nobody);

        fn check(rtp: Policy, signalled: Option<SocketAddr>, expected: Policy) {
            assert_eq!(
                rtcp_policy(rtp, signalled),
                expected,
                "{rtp:?} {signalled:?}"
            );
        }

        fn at(text: &str) -> SocketAddr {
            text.parse().unwrap()
        }
    }
}
