//! The packets of HEP version 3: chunks behind a head, each with its vendor, its type and its
//! length.

use std::net::{IpAddr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

/// A message and what is said of it.
pub(super) struct Message<'m> {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) is_udp: bool,
    pub(super) at: SystemTime,
    /// Of this node.
    pub(super) id: u32,
    pub(super) password: Option<&'m str>,
    pub(super) call_id: Option<&'m [u8]>,
    pub(super) sip: &'m [u8],
}

/// Of a message that is copied; with everything else a packet stays below 65,507 octets, which
/// is what UDP carries.
const SIP_BYTES_MAX: usize = 64_000;
/// Of a Call-ID and of a password.
const TEXT_BYTES_MAX: usize = 512;

const FAMILY: u16 = 1;
const PROTOCOL: u16 = 2;
const FROM_IPV4: u16 = 3;
const TO_IPV4: u16 = 4;
const FROM_IPV6: u16 = 5;
const TO_IPV6: u16 = 6;
const FROM_PORT: u16 = 7;
const TO_PORT: u16 = 8;
const SECONDS: u16 = 9;
const MICROSECONDS: u16 = 10;
const KIND: u16 = 11;
const NODE: u16 = 12;
const PASSWORD: u16 = 14;
const PAYLOAD: u16 = 15;
const CORRELATION: u16 = 17;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;
const KIND_SIP: u8 = 1;

/// Vendor, type, length.
const CHUNK_HEAD: usize = 6;

pub(super) fn packet(message: &Message<'_>) -> Vec<u8> {
    let mut packet = b"HEP3\0\0".to_vec();
    let (from, to) = (
        message.from.ip().to_canonical(),
        message.to.ip().to_canonical(),
    );
    let family = if from.is_ipv4() { AF_INET } else { AF_INET6 };
    let protocol = if message.is_udp {
        IPPROTO_UDP
    } else {
        IPPROTO_TCP
    };
    chunk(&mut packet, FAMILY, &[family]);
    chunk(&mut packet, PROTOCOL, &[protocol]);
    address(&mut packet, from, [FROM_IPV4, FROM_IPV6]);
    address(&mut packet, to, [TO_IPV4, TO_IPV6]);
    chunk(&mut packet, FROM_PORT, &message.from.port().to_be_bytes());
    chunk(&mut packet, TO_PORT, &message.to.port().to_be_bytes());
    let at = message.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = u32::try_from(at.as_secs()).unwrap_or(u32::MAX);
    chunk(&mut packet, SECONDS, &seconds.to_be_bytes());
    chunk(&mut packet, MICROSECONDS, &at.subsec_micros().to_be_bytes());
    chunk(&mut packet, KIND, &[KIND_SIP]);
    chunk(&mut packet, NODE, &message.id.to_be_bytes());
    if let Some(password) = message.password {
        chunk(
            &mut packet,
            PASSWORD,
            first(password.as_bytes(), TEXT_BYTES_MAX),
        );
    }
    if let Some(call_id) = message.call_id {
        chunk(&mut packet, CORRELATION, first(call_id, TEXT_BYTES_MAX));
    }
    chunk(&mut packet, PAYLOAD, first(message.sip, SIP_BYTES_MAX));
    let length = u16::try_from(packet.len()).unwrap_or(u16::MAX);
    if let Some(place) = packet.get_mut(4..6) {
        place.copy_from_slice(&length.to_be_bytes());
    }
    packet
}

fn first(bytes: &[u8], most: usize) -> &[u8] {
    bytes.get(..most).unwrap_or(bytes)
}

fn address(packet: &mut Vec<u8>, ip: IpAddr, [ipv4, ipv6]: [u16; 2]) {
    match ip {
        IpAddr::V4(ip) => chunk(packet, ipv4, &ip.octets()),
        IpAddr::V6(ip) => chunk(packet, ipv6, &ip.octets()),
    }
}

/// Of the general vendor.
fn chunk(packet: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(CHUNK_HEAD + value.len()).unwrap_or(u16::MAX);
    packet.extend_from_slice(&[0, 0]);
    packet.extend_from_slice(&kind.to_be_bytes());
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Type and value of every chunk, as the document of the format lays them out.
    fn decoded(packet: &[u8]) -> Vec<(u16, Vec<u8>)> {
        assert_eq!(&packet[..4], b"HEP3");
        let two = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        assert_eq!(usize::from(two(4)), packet.len());
        let (mut at, mut chunks) = (6, Vec::new());
        while at < packet.len() {
            let (vendor, kind, length) = (two(at), two(at + 2), usize::from(two(at + 4)));
            assert_eq!(vendor, 0);
            chunks.push((kind, packet[at + 6..at + length].to_vec()));
            at += length;
        }
        assert_eq!(at, packet.len());
        chunks
    }

    fn message<'m>(from: &str, to: &str, sip: &'m [u8]) -> Message<'m> {
        Message {
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            is_udp: true,
            at: UNIX_EPOCH + Duration::new(1_795_413_845, 123_456_789),
            id: 2_001,
            password: None,
            call_id: None,
            sip,
        }
    }

    #[test]
    fn a_message_over_ipv4() {
        let message = Message {
            password: Some("secret"),
            call_id: Some(b"a@b"),
            ..message("10.0.0.5:5070", "10.0.0.3:5060", b"BYE")
        };
        let expected: [(u16, &[u8]); 13] = [
            (1, &[2]),
            (2, &[17]),
            (3, &[10, 0, 0, 5]),
            (4, &[10, 0, 0, 3]),
            (7, &[0x13, 0xce]),
            (8, &[0x13, 0xc4]),
            (9, &[0x6b, 0x03, 0xd7, 0x55]),
            (10, &[0, 1, 0xe2, 0x40]),
            (11, &[1]),
            (12, &[0, 0, 7, 0xd1]),
            (14, b"secret"),
            (17, b"a@b"),
            (15, b"BYE"),
        ];
        let expected = expected.map(|(kind, value)| (kind, value.to_vec()));
        assert_eq!(decoded(&packet(&message)), expected);
    }

    #[test]
    fn a_message_over_ipv6_and_tcp() {
        let message = Message {
            is_udp: false,
            ..message("[2001:db8::5]:5070", "[2001:db8::3]:5061", b"BYE")
        };
        let chunks = decoded(&packet(&message));
        let kinds: Vec<u16> = chunks.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 15]);
        assert_eq!((&*chunks[0].1, &*chunks[1].1), (&[10][..], &[6][..]));
        let mut from = [0; 16];
        (from[0], from[1], from[2], from[3], from[15]) = (0x20, 1, 0x0d, 0xb8, 5);
        assert_eq!(chunks[2].1, from);
        // IPv4 in its mapped form is IPv4.
        let mapped = super::tests::message("[::ffff:10.0.0.5]:1", "10.0.0.3:2", b"");
        assert_eq!(decoded(&packet(&mapped))[2], (3, vec![10, 0, 0, 5]));
    }

    #[test]
    fn what_is_too_long_is_cut() {
        let (long, name) = (vec![b'x'; 200_000], vec![b'i'; 9_000]);
        let password = "p".repeat(9_000);
        let message = Message {
            password: Some(&password),
            call_id: Some(&name),
            ..message("[::1]:1", "[::2]:2", &long)
        };
        let packet = packet(&message);
        assert!(packet.len() <= 65_507, "{}", packet.len());
        assert_eq!(decoded(&packet).last().unwrap().1.len(), SIP_BYTES_MAX);
    }
}
