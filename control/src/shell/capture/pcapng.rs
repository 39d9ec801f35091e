//! The file: pcapng (IETF draft-ietf-opsawg-pcapng) with raw IP packets, interface names, and a
//! comment with the direction on every packet.

use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use crate::shell::media::Marks;

const SECTION: u32 = 0x0a0d_0d0a;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;
/// Packets begin with an IP header (LINKTYPE_RAW).
const RAW_IP: u16 = 101;
const UDP: u8 = 17;
const UDP_BYTES: usize = 8;

/// Options: of any block, of a section, of an interface, of a packet.
const COMMENT: u16 = 1;
const APPLICATION: u16 = 4;
const NAME: u16 = 2;
const FLAGS: u16 = 2;

/// Said at the head of every file.
const NOTICE: &str = "Media of one call at its media ports. While it was captured its flows went \
                      through userspace. IP and UDP headers are rebuilt: addresses, ports, DSCP \
                      and hop limit are those of the packets, IPv4 identification and UDP \
                      checksum are not.";

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Direction {
    In,
    Out,
}

pub(crate) struct Packet<'a> {
    pub(crate) at: SystemTime,
    /// Position among the file's interfaces.
    pub(crate) interface: u32,
    pub(crate) direction: Direction,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) marks: Marks,
    pub(crate) payload: &'a [u8],
    pub(crate) comment: &'a str,
}

pub(crate) struct File(Vec<u8>);

impl File {
    pub(crate) fn new(interfaces: &[String]) -> Self {
        let mut file = Self(Vec::new());
        let mut body = Vec::new();
        body.extend(BYTE_ORDER.to_le_bytes());
        body.extend([1, 0, 0, 0]);
        // How long the section is, is not known before its end.
        body.extend(u64::MAX.to_le_bytes());
        option(&mut body, COMMENT, NOTICE.as_bytes());
        let version = concat!("towpath ", env!("CARGO_PKG_VERSION"));
        option(&mut body, APPLICATION, version.as_bytes());
        file.block(SECTION, &mut body);
        for name in interfaces {
            let mut body = Vec::new();
            body.extend(RAW_IP.to_le_bytes());
            body.extend([0; 6]);
            option(&mut body, NAME, name.as_bytes());
            file.block(INTERFACE, &mut body);
        }
        file
    }

    pub(crate) fn add(&mut self, packet: &Packet<'_>) {
        let data = raw(packet);
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX).to_le_bytes();
        let since = packet.at.duration_since(SystemTime::UNIX_EPOCH);
        let micros = since.map_or(0, |since| since.as_micros());
        let [high, low] = [micros >> 32, micros].map(|half| (half & 0xffff_ffff).to_le_bytes());
        let mut body = Vec::new();
        body.extend(packet.interface.to_le_bytes());
        body.extend(high.iter().take(4));
        body.extend(low.iter().take(4));
        body.extend(length);
        body.extend(length);
        body.extend(&data);
        pad(&mut body);
        let flags: u32 = match packet.direction {
            Direction::In => 1,
            Direction::Out => 2,
        };
        option(&mut body, COMMENT, packet.comment.as_bytes());
        option(&mut body, FLAGS, &flags.to_le_bytes());
        self.block(PACKET, &mut body);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }

    /// Adds a block whose options are complete.
    fn block(&mut self, kind: u32, body: &mut Vec<u8>) {
        // The end of the options.
        body.extend([0; 4]);
        let bytes = u32::try_from(body.len() + 12)
            .unwrap_or(u32::MAX)
            .to_le_bytes();
        self.0.extend(kind.to_le_bytes());
        self.0.extend(bytes);
        self.0.append(body);
        self.0.extend(bytes);
    }
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = value.get(..usize::from(u16::MAX)).unwrap_or(value);
    body.extend(code.to_le_bytes());
    body.extend(u16::try_from(value.len()).unwrap_or_default().to_le_bytes());
    body.extend(value);
    pad(body);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

/// The packet with headers made of what is known of them.
fn raw(packet: &Packet<'_>) -> Vec<u8> {
    let Marks { tos, hops } = packet.marks;
    let udp_bytes = packet.payload.len() + UDP_BYTES;
    let be = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes();
    let mut raw = Vec::with_capacity(udp_bytes + 40);
    match (packet.from.ip(), packet.to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let [high, low] = be(udp_bytes + 20);
            raw.extend([0x45, tos, high, low, 0, 0, 0x40, 0, hops, UDP, 0, 0]);
            raw.extend(from.octets());
            raw.extend(to.octets());
            let sum = header_checksum(&raw);
            raw.splice(10..12, sum);
        }
        (from, to) => {
            let v6 = |ip: IpAddr| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            let [high, low] = be(udp_bytes);
            raw.extend([0x60 | (tos >> 4), tos << 4, 0, 0, high, low, UDP, hops]);
            raw.extend(v6(from).octets());
            raw.extend(v6(to).octets());
        }
    }
    raw.extend(packet.from.port().to_be_bytes());
    raw.extend(packet.to.port().to_be_bytes());
    raw.extend(be(udp_bytes));
    raw.extend([0, 0]);
    raw.extend(packet.payload);
    raw
}

/// RFC 791 §3.1.
fn header_checksum(header: &[u8]) -> [u8; 2] {
    let halves = header.as_chunks::<2>().0.iter();
    let mut sum: u32 = halves
        .map(|half| u32::from(u16::from_be_bytes(*half)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap_or_default()).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_file_is_read_back_by_its_definition() {
        let mut file = File::new(&["lan".to_owned(), "wan".to_owned()]);
        file.add(&Packet {
            at: SystemTime::UNIX_EPOCH + Duration::from_micros(0x0005_1234_5678_9abc),
            interface: 1,
            direction: Direction::Out,
            from: "192.0.2.1:30000".parse().unwrap(),
            to: "192.0.2.9:5004".parse().unwrap(),
            marks: Marks {
                tos: 0xb8,
                hops: 63,
            },
            payload: b"abcde",
            comment: "x",
        });
        let bytes = file.take();
        let mut blocks = Vec::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let word = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
            let length = word(4) as usize;
            assert_eq!(word(length - 4) as usize, length);
            blocks.push((word(0), &rest[8..length - 4]));
            rest = &rest[length..];
        }
        let kinds: Vec<u32> = blocks.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [SECTION, INTERFACE, INTERFACE, PACKET]);
        assert_eq!(blocks[2].1[..8], [101, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(blocks[2].1[8..16], [2, 0, 3, 0, b'w', b'a', b'n', 0]);
        let packet = blocks[3].1;
        assert_eq!(
            packet[..12],
            [1, 0, 0, 0, 0x34, 0x12, 5, 0, 0xbc, 0x9a, 0x78, 0x56]
        );
        assert_eq!(packet[12..20], [33, 0, 0, 0, 33, 0, 0, 0]);
        let ip = [
            0x45, 0xb8, 0, 33, 0, 0, 0x40, 0, 63, 17, 0xb7, 0x09, 192, 0, 2, 1, 192, 0, 2, 9,
        ];
        assert_eq!(packet[20..40], ip);
        assert_eq!(packet[40..48], [0x75, 0x30, 0x13, 0x8c, 0, 13, 0, 0]);
        assert_eq!(&packet[48..56], b"abcde\0\0\0");
        assert_eq!(
            packet[56..],
            [
                1, 0, 1, 0, b'x', 0, 0, 0, 2, 0, 4, 0, 2, 0, 0, 0, 0, 0, 0, 0
            ]
        );
    }
}
