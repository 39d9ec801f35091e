//! The messages: read, believed or not, and written for the other side.

use std::net::{IpAddr, SocketAddr};

use common::flow::UDP;

/// A packet of ours did not fit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TooBig {
    /// Whence and whither it went.
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    /// What would have fitted, from the IP header on.
    pub(crate) mtu: u32,
    /// How long it was.
    pub(crate) bytes: u32,
}

/// Less is not believed: Linux does not either.
const MTU_V4_MIN: u32 = 552;
/// RFC 8200 §5.
const MTU_V6_MIN: u32 = 1280;
/// What a header of IPv6 has more than one of IPv4 (RFC 7915 §4.2).
const LONGER: u32 = 20;

const IPV4_BYTES: u16 = 20;
const ICMP_BYTES: usize = 8;

impl TooBig {
    /// As a raw socket shows it: with an IP header in front.
    pub(super) fn read_v4(packet: &[u8]) -> Option<Self> {
        let message = packet.get(header_bytes(packet)?..)?;
        let [3, 4, _, _, _, _, high, low] = *message.first_chunk::<ICMP_BYTES>()? else {
            return None;
        };
        let quoted = message.get(ICMP_BYTES..)?;
        let udp = quoted.get(header_bytes(quoted)?..)?;
        if *quoted.get(9)? != UDP {
            return None;
        }
        let address = |at: usize| -> Option<IpAddr> {
            let octets: [u8; 4] = quoted.get(at..at + 4)?.try_into().ok()?;
            Some(octets.into())
        };
        let news = Self {
            from: SocketAddr::new(address(12)?, halfword(udp, 0)?),
            to: SocketAddr::new(address(16)?, halfword(udp, 2)?),
            mtu: u16::from_be_bytes([high, low]).into(),
            bytes: halfword(quoted, 2)?.into(),
        };
        Some(news).filter(|news| news.is_credible(MTU_V4_MIN))
    }

    /// As a raw socket shows it: from the ICMP header on.
    pub(super) fn read_v6(message: &[u8]) -> Option<Self> {
        let [2, 0, _, _, mtu @ ..] = *message.first_chunk::<ICMP_BYTES>()? else {
            return None;
        };
        let quoted = message.get(ICMP_BYTES..)?;
        let (header, udp) = quoted.split_first_chunk::<40>()?;
        if header[0] >> 4 != 6 || header[6] != UDP {
            return None;
        }
        let address = |at: usize| -> Option<IpAddr> {
            let octets: [u8; 16] = header.get(at..at + 16)?.try_into().ok()?;
            Some(octets.into())
        };
        let news = Self {
            from: SocketAddr::new(address(8)?, halfword(udp, 0)?),
            to: SocketAddr::new(address(24)?, halfword(udp, 2)?),
            mtu: u32::from_be_bytes(mtu),
            bytes: u32::from(halfword(header, 4)?) + 40,
        };
        Some(news).filter(|news| news.is_credible(MTU_V6_MIN))
    }

    /// What did not fit is longer than what does; nobody lowers us to nothing.
    fn is_credible(&self, least: u32) -> bool {
        least <= self.mtu && self.mtu < self.bytes
    }
}

/// The same about the packet as its sender knows it, from `peer` to `at`. None if the sender could
/// not send anything shorter anyway.
pub(super) fn about(peer: SocketAddr, at: SocketAddr, news: TooBig) -> Option<Vec<u8>> {
    let TooBig { mtu, bytes, .. } = news;
    match (peer.ip(), at.ip(), news.to.is_ipv4()) {
        (IpAddr::V4(from), IpAddr::V4(to), true) => {
            Some(v4(from.octets(), to.octets(), [peer, at], mtu, bytes))
        }
        (IpAddr::V4(from), IpAddr::V4(to), false) => {
            let (mtu, bytes) = (mtu.checked_sub(LONGER)?, bytes.checked_sub(LONGER)?);
            Some(v4(from.octets(), to.octets(), [peer, at], mtu, bytes))
        }
        (IpAddr::V6(from), IpAddr::V6(to), is_v4) => {
            let longer = if is_v4 { LONGER } else { 0 };
            let (mtu, bytes) = (mtu + longer, bytes + longer);
            let ends = [from.octets(), to.octets()];
            (mtu >= MTU_V6_MIN).then(|| v6(ends, [peer, at], mtu, bytes))
        }
        (IpAddr::V4(_), IpAddr::V6(_), _) | (IpAddr::V6(_), IpAddr::V4(_), _) => None,
    }
}

fn v4(from: [u8; 4], to: [u8; 4], ends: [SocketAddr; 2], mtu: u32, bytes: u32) -> Vec<u8> {
    let [length, mtu] = [bytes, mtu].map(|n| u16::try_from(n).unwrap_or(u16::MAX));
    let mut quoted = vec![0x45, 0];
    quoted.extend(length.to_be_bytes());
    // Identification unknown; don't fragment; hops left; no checksum yet.
    quoted.extend([0, 0, 0x40, 0, 63, UDP, 0, 0]);
    quoted.extend(from);
    quoted.extend(to);
    seal(&mut quoted, 10);
    quoted.extend(udp(ends, length.saturating_sub(IPV4_BYTES)));
    let mut message = vec![3, 4, 0, 0, 0, 0];
    message.extend(mtu.to_be_bytes());
    message.extend(quoted);
    seal(&mut message, 2);
    message
}

/// The kernel fills in the checksum (RFC 3542 §3.1).
fn v6(ends: [[u8; 16]; 2], at: [SocketAddr; 2], mtu: u32, bytes: u32) -> Vec<u8> {
    let length = u16::try_from(bytes.saturating_sub(40)).unwrap_or(u16::MAX);
    let mut message = vec![2, 0, 0, 0];
    message.extend(mtu.to_be_bytes());
    message.extend([0x60, 0, 0, 0]);
    message.extend(length.to_be_bytes());
    message.extend([UDP, 63]);
    message.extend(ends.concat());
    message.extend(udp(at, length));
    message
}

fn udp([from, to]: [SocketAddr; 2], length: u16) -> Vec<u8> {
    [from.port(), to.port(), length, 0]
        .map(u16::to_be_bytes)
        .concat()
}

/// Writes the checksum of all (RFC 1071) at that place, which holds zeros.
fn seal(bytes: &mut [u8], at: usize) {
    let words = bytes.chunks(2).map(|pair| match *pair {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(high) << 8,
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = !u16::try_from(sum).unwrap_or(u16::MAX);
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&sum.to_be_bytes());
    }
}

/// Of an IPv4 header.
fn header_bytes(packet: &[u8]) -> Option<usize> {
    let first = *packet.first()?;
    let bytes = usize::from(first & 0xf) * 4;
    (first >> 4 == 4 && bytes >= usize::from(IPV4_BYTES)).then_some(bytes)
}

fn halfword(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes(pair.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER_V4: &str = "10.1.0.30:10000";
    const AT_V4: &str = "10.1.0.1:20000";
    const PEER_V6: &str = "[2001:db8:a::30]:10000";
    const AT_V6: &str = "[2001:db8:a::1]:20000";

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// What was learnt is what is told, in the words of the sender's family.
    #[test]
    fn what_is_told_is_read_back() {
        check(PEER_V4, AT_V4, AT_V4, (1000, 1400), Some((1000, 1400)));
        check(PEER_V6, AT_V6, AT_V6, (1300, 1500), Some((1300, 1500)));
        // To the other family a header is longer, or shorter.
        check(PEER_V6, AT_V6, AT_V4, (1400, 1480), Some((1420, 1500)));
        check(PEER_V4, AT_V4, AT_V6, (1280, 1500), Some((1260, 1480)));
        // IPv6 cannot be asked for less than 1280.
        check(PEER_V6, AT_V6, AT_V4, (1000, 1400), None);
        check(PEER_V4, AT_V6, AT_V6, (1300, 1400), None);

        fn check(
            peer: &str,
            local: &str,
            to: &str,
            (mtu, bytes): (u32, u32),
            expected: Option<(u32, u32)>,
        ) {
            let news = TooBig {
                from: at(to),
                to: at(to),
                mtu,
                bytes,
            };
            let message = about(at(peer), at(local), news);
            let read = message.map(|message| match at(peer) {
                SocketAddr::V4(_) => {
                    let mut packet = vec![0x45; 20];
                    packet.extend(message);
                    TooBig::read_v4(&packet).unwrap()
                }
                SocketAddr::V6(_) => TooBig::read_v6(&message).unwrap(),
            });
            let expected = expected.map(|(mtu, bytes)| TooBig {
                from: at(peer),
                to: at(local),
                mtu,
                bytes,
            });
            assert_eq!(read, expected);
        }
    }

    #[test]
    fn what_cannot_be_is_not_believed() {
        let news = TooBig {
            from: at(PEER_V4),
            to: at(AT_V4),
            mtu: 1000,
            bytes: 1400,
        };
        let mut packet = vec![0x45; 20];
        packet.extend(about(news.from, news.to, news).unwrap());
        assert_eq!(TooBig::read_v4(&packet), Some(news));
        let mut sum = packet[20..].to_vec();
        seal(&mut sum, 4);
        assert_eq!(sum[4..6], [0, 0], "the checksum of all is none");
        for (place, byte, why) in [
            (20, 11, "time exceeded"),
            (21, 3, "port unreachable"),
            (26, 1, "lowered to less than IPv4 needs"),
            (26, 6, "what did not fit would have"),
            (28, 0x65, "another version"),
            (28, 0x44, "a header too short"),
            (37, 6, "TCP"),
        ] {
            let mut other = packet.clone();
            other[place] = byte;
            assert_eq!(TooBig::read_v4(&other), None, "{why}");
        }
        for end in 0..packet.len() - 4 {
            assert_eq!(TooBig::read_v4(&packet[..end]), None, "{end} bytes");
        }
    }
}
