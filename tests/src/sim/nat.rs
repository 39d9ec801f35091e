//! NAT boxes by their behaviour (RFC 4787): how they map, what they let in, whether they hairpin.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::rng::Rng;

/// What a mapping or a filter depends on (RFC 4787 §4.1, §5).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dependence {
    Endpoint,
    Address,
    AddressAndPort,
}

impl Dependence {
    pub const ALL: [Self; 3] = [Self::Endpoint, Self::Address, Self::AddressAndPort];

    fn same(self, one: SocketAddr, other: SocketAddr) -> bool {
        match self {
            Self::Endpoint => true,
            Self::Address => one.ip() == other.ip(),
            Self::AddressAndPort => one == other,
        }
    }
}

/// How a box behaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Behaviour {
    pub mapping: Dependence,
    pub filtering: Dependence,
    /// Keep the inside port where it is free (§4.2.1).
    pub preserve: bool,
    /// Packets from inside to a mapped address come back in (§6).
    pub hairpin: bool,
    /// A mapping unused this long is forgotten (§4.3).
    pub timeout: Duration,
    /// Packets from outside count as use, as they do for Linux.
    pub inbound_refresh: bool,
}

impl Behaviour {
    /// The kindest box: full cone.
    pub const CONE: Self = Self {
        mapping: Dependence::Endpoint,
        filtering: Dependence::Endpoint,
        preserve: true,
        hairpin: true,
        timeout: Duration::from_secs(120),
        inbound_refresh: false,
    };
    /// The harshest one: symmetric, random ports.
    pub const SYMMETRIC: Self = Self {
        mapping: Dependence::AddressAndPort,
        filtering: Dependence::AddressAndPort,
        preserve: false,
        hairpin: false,
        timeout: Duration::from_secs(30),
        inbound_refresh: true,
    };
}

/// A box with one address outside.
#[derive(Debug)]
pub struct Nat {
    pub outside: IpAddr,
    pub behaviour: Behaviour,
    /// Whatever arrives from outside and fits no mapping goes to this host: static port mapping,
    /// port by port.
    pub mapped: Option<IpAddr>,
    /// Our address inside, if what is mapped statically seems to come from there.
    pub rewrites: Option<IpAddr>,
    /// Who is meant by our ports inside.
    outsiders: Vec<SocketAddr>,
    mappings: Vec<Mapping>,
    /// Which host had a port last: no other one ever gets it.
    given: BTreeMap<u16, IpAddr>,
}

/// Where our ports inside begin.
const OUTSIDERS: u16 = 40_000;
/// Where dynamic ports begin if the others are mapped statically.
const DYNAMIC: u64 = 50_000;

#[derive(Debug)]
struct Mapping {
    inside: SocketAddr,
    /// The first destination: what a dependent mapping is bound to.
    towards: SocketAddr,
    port: u16,
    /// Who was written to from inside.
    known: BTreeSet<SocketAddr>,
    used: Instant,
}

impl Nat {
    #[must_use]
    pub fn new(outside: IpAddr, behaviour: Behaviour) -> Self {
        Self {
            outside,
            behaviour,
            mapped: None,
            rewrites: None,
            outsiders: Vec::new(),
            mappings: Vec::new(),
            given: BTreeMap::new(),
        }
    }

    /// The source a packet from inside gets outside.
    pub fn outbound(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        now: Instant,
        rng: &mut Rng,
    ) -> SocketAddr {
        if self.mapped == Some(from.ip()) {
            return SocketAddr::new(self.outside, from.port());
        }
        self.forget(now);
        let kind = self.behaviour.mapping;
        let fits = |m: &&mut Mapping| m.inside == from && kind.same(m.towards, to);
        if let Some(mapping) = self.mappings.iter_mut().find(fits) {
            mapping.known.insert(to);
            mapping.used = now;
            return SocketAddr::new(self.outside, mapping.port);
        }
        let port = self.free_port(from, rng);
        self.given.insert(port, from.ip());
        self.mappings.push(Mapping {
            inside: from,
            towards: to,
            port,
            known: BTreeSet::from([to]),
            used: now,
        });
        SocketAddr::new(self.outside, port)
    }

    /// The inside host a packet from outside is for, if it is let in.
    pub fn inbound(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        now: Instant,
    ) -> Option<SocketAddr> {
        self.forget(now);
        let Some(mapping) = self.mappings.iter_mut().find(|m| m.port == to.port()) else {
            return self.mapped.map(|ip| SocketAddr::new(ip, to.port()));
        };
        let filtering = self.behaviour.filtering;
        let known = mapping.known.iter().any(|k| filtering.same(*k, from));
        if filtering != Dependence::Endpoint && !known {
            return None;
        }
        if self.behaviour.inbound_refresh {
            mapping.used = now;
        }
        Some(mapping.inside)
    }

    /// The source a packet that is mapped statically has inside.
    pub fn disguise(&mut self, from: SocketAddr) -> SocketAddr {
        let Some(ip) = self.rewrites else {
            return from;
        };
        let known = self.outsiders.iter().position(|at| *at == from);
        let index = known.unwrap_or_else(|| {
            self.outsiders.push(from);
            self.outsiders.len() - 1
        });
        SocketAddr::new(
            ip,
            OUTSIDERS.saturating_add(u16::try_from(index).unwrap_or(0)),
        )
    }

    /// Who is meant by a port of ours inside.
    #[must_use]
    pub fn outsider(&self, port: u16) -> Option<SocketAddr> {
        let index = port.checked_sub(OUTSIDERS)?;
        self.outsiders.get(usize::from(index)).copied()
    }

    /// Restarted, or moved to another uplink: every mapping is gone.
    pub fn rebind(&mut self) {
        self.mappings.clear();
    }

    fn forget(&mut self, now: Instant) {
        let timeout = self.behaviour.timeout;
        self.mappings
            .retain(|m| now.saturating_duration_since(m.used) < timeout);
    }

    fn free_port(&self, from: SocketAddr, rng: &mut Rng) -> u16 {
        let taken = |port: u16| {
            let others = self.given.get(&port).is_some_and(|ip| *ip != from.ip());
            others || self.mappings.iter().any(|m| m.port == port)
        };
        let (first, count) = match self.mapped {
            Some(_) => (DYNAMIC, 15_000),
            None => (1024, 64_000),
        };
        if self.behaviour.preserve && self.mapped.is_none() && !taken(from.port()) {
            return from.port();
        }
        loop {
            let port = u16::try_from(first + rng.below(count)).unwrap_or(1024);
            if !taken(port) {
                return port;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_depend_on_what_they_should() {
        use Dependence::{Address, AddressAndPort, Endpoint};
        // Whether two destinations see one mapping: another port, another address.
        check(Endpoint, true, true);
        check(Address, true, false);
        check(AddressAndPort, false, false);

        fn check(mapping: Dependence, other_port: bool, other_address: bool) {
            let (mut nat, mut rng) = (make(mapping, Endpoint), Rng::new(1));
            let now = crate::clock::now();
            let mut out = |to: &str| nat.outbound(at("192.168.1.2:5060"), at(to), now, &mut rng);
            let first = out("198.51.100.1:1000");
            assert_eq!(out("198.51.100.1:1000"), first, "{mapping:?}");
            assert_eq!(out("198.51.100.1:2000") == first, other_port, "{mapping:?}");
            assert_eq!(
                out("198.51.100.2:1000") == first,
                other_address,
                "{mapping:?}"
            );
        }
    }

    #[test]
    fn filters_let_in_whom_they_should() {
        use Dependence::{Address, AddressAndPort, Endpoint};
        check(Endpoint, [true, true, true]);
        check(Address, [true, true, false]);
        check(AddressAndPort, [true, false, false]);

        fn check(filtering: Dependence, expected: [bool; 3]) {
            let (mut nat, mut rng) = (make(Endpoint, filtering), Rng::new(1));
            let now = crate::clock::now();
            let inside = at("192.168.1.2:5060");
            let mapped = nat.outbound(inside, at("198.51.100.1:1000"), now, &mut rng);
            let senders = [
                "198.51.100.1:1000",
                "198.51.100.1:2000",
                "198.51.100.2:1000",
            ];
            let got = senders.map(|from| nat.inbound(at(from), mapped, now) == Some(inside));
            assert_eq!(got, expected, "{filtering:?}");
            let later = now + Behaviour::CONE.timeout;
            assert_eq!(nat.inbound(at(senders[0]), mapped, later), None);
        }
    }

    #[test]
    fn ports_are_preserved_while_free_and_rebinding_moves_them() {
        let mut rng = Rng::new(1);
        let now = crate::clock::now();
        let to = at("198.51.100.1:1000");
        let mut nat = make(Dependence::Endpoint, Dependence::Endpoint);
        assert_eq!(
            nat.outbound(at("192.168.1.2:5060"), to, now, &mut rng)
                .port(),
            5060
        );
        assert_ne!(
            nat.outbound(at("192.168.1.3:5060"), to, now, &mut rng)
                .port(),
            5060
        );
        nat.behaviour.preserve = false;
        let before = nat.outbound(at("192.168.1.2:5060"), to, now, &mut rng);
        nat.rebind();
        assert_ne!(
            nat.outbound(at("192.168.1.2:5060"), to, now, &mut rng),
            before
        );
        assert_eq!(nat.inbound(to, before, now), None);
    }

    fn make(mapping: Dependence, filtering: Dependence) -> Nat {
        let behaviour = Behaviour {
            mapping,
            filtering,
            ..Behaviour::CONE
        };
        Nat::new("203.0.113.77".parse().unwrap(), behaviour)
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }
}
