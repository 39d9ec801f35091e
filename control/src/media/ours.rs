//! The media ports that are ours, by every name: media sent to one of them would come back to us,
//! and go round for ever.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

/// Ranges of ports of the edge, whichever call they belong to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Ours(Vec<(IpAddr, RangeInclusive<u16>)>);

impl Ours {
    /// Addresses with their first and last port.
    pub fn new(ranges: impl IntoIterator<Item = (IpAddr, u16, u16)>) -> Self {
        let range = |(ip, first, last): (IpAddr, u16, u16)| (ip.to_canonical(), first..=last);
        Self(ranges.into_iter().map(range).collect())
    }

    #[must_use]
    pub fn holds(&self, at: SocketAddr) -> bool {
        let ip = at.ip().to_canonical();
        let mut ranges = self.0.iter();
        ranges.any(|(ours, ports)| *ours == ip && ports.contains(&at.port()))
    }
}

/// Ports of ours that are a party's all the same: its call crosses the edge more than once (a
/// spiral, RFC 3261 §6), and the server in between leaves SDP alone. By the name it was told, which
/// socket.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Passages(BTreeMap<SocketAddr, SocketAddr>);

impl Passages {
    /// Names with the sockets they mean.
    pub fn new(sockets: impl IntoIterator<Item = (SocketAddr, SocketAddr)>) -> Self {
        Self(sockets.into_iter().collect())
    }

    /// The socket that is meant by a name.
    #[must_use]
    pub fn socket(&self, told: SocketAddr) -> Option<SocketAddr> {
        self.0.get(&told).copied()
    }

    /// Whether a socket is one of them.
    #[must_use]
    pub fn leads_to(&self, socket: SocketAddr) -> bool {
        self.0.values().any(|known| *known == socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_an_address() {
        let ip = |text: &str| text.parse().unwrap();
        let ours = Ours::new([
            (ip("10.0.0.3"), 20_000, 20_009),
            (ip("203.0.113.9"), 40_000, 40_009),
        ]);
        for (at, expected) in [
            ("10.0.0.3:20000", true),
            ("10.0.0.3:20009", true),
            ("[::ffff:10.0.0.3]:20005", true),
            ("10.0.0.3:20010", false),
            ("10.0.0.3:40000", false),
            ("203.0.113.9:40001", true),
            // A phone behind the same router as we are.
            ("203.0.113.9:1024", false),
        ] {
            assert_eq!(ours.holds(at.parse().unwrap()), expected, "{at}");
        }
    }
}
