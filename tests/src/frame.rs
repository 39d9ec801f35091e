//! Frames for tests: a builder, and a reader that trusts nothing: it parses byte by byte and adds
//! up every checksum from scratch. It shares no code with `common`, so that it can contradict it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// How a sender fills in the UDP checksum.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Checksum {
    Full,
    /// Zero: none.
    None,
    /// The pseudo-header alone, the rest left to a card.
    Partial,
}

/// A UDP datagram in Ethernet.
#[derive(Clone, Debug)]
pub struct Datagram {
    pub eth_dst: [u8; 6],
    pub eth_src: [u8; 6],
    /// A tag's priority and VLAN (IEEE 802.1Q), if there is a tag.
    pub tag: Option<u16>,
    /// Both of one family.
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub tos: u8,
    pub hops: u8,
    pub checksum: Checksum,
    pub payload: Vec<u8>,
}

impl Datagram {
    #[must_use]
    pub fn new(from: SocketAddr, to: SocketAddr, payload: Vec<u8>) -> Self {
        Self {
            eth_dst: [0x02, 0x11, 0x22, 0x33, 0x44, 0x55],
            eth_src: [0x02, 0xaa, 0xbb, 0xcc, 0xdd, 0xee],
            tag: None,
            from,
            to,
            tos: 0,
            hops: 64,
            checksum: Checksum::Full,
            payload,
        }
    }

    /// The frame's bytes.
    ///
    /// # Panics
    /// If the families differ or the payload does not fit a datagram.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let udp_bytes = u16::try_from(self.payload.len() + 8).expect("the payload fits a datagram");
        let mut udp = Vec::with_capacity(self.payload.len() + 8);
        udp.extend(self.from.port().to_be_bytes());
        udp.extend(self.to.port().to_be_bytes());
        udp.extend(udp_bytes.to_be_bytes());
        udp.extend([0, 0]);
        udp.extend(&self.payload);
        let pseudo = pseudo_header(self.from.ip(), self.to.ip(), udp_bytes);
        let checksum = match self.checksum {
            Checksum::None => 0,
            Checksum::Partial => sum(&pseudo),
            Checksum::Full => match !sum(&[pseudo, udp.clone()].concat()) {
                0 => 0xffff,
                sum => sum,
            },
        };
        udp.splice(6..8, checksum.to_be_bytes());
        let mut frame = [self.eth_dst, self.eth_src].concat();
        if let Some(tag) = self.tag {
            frame.extend([0x81, 0x00]);
            frame.extend(tag.to_be_bytes());
        }
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => frame.extend(self.ip4(from, to, udp_bytes)),
            (IpAddr::V6(from), IpAddr::V6(to)) => frame.extend(self.ip6(from, to, udp_bytes)),
            (from, to) => unreachable!("{from} and {to} are of two families"),
        }
        frame.extend(udp);
        frame
    }

    /// Changes two bytes of the payload so that its whole checksum is the one a partial checksum
    /// would be, as happens to one packet in 65,536.
    ///
    /// # Panics
    /// If the payload has fewer than six bytes or does not fit a datagram.
    pub fn disguise(&mut self) {
        let udp_bytes = u16::try_from(self.payload.len() + 8).expect("the payload fits a datagram");
        self.set_halfword([0, 0]);
        let pseudo = pseudo_header(self.from.ip(), self.to.ip(), udp_bytes);
        let (from, to) = (self.from.port().to_be_bytes(), self.to.port().to_be_bytes());
        let rest = [
            &pseudo,
            &from[..],
            &to,
            &udp_bytes.to_be_bytes(),
            &self.payload,
        ]
        .concat();
        // What is missing from the rest to the complement of the pseudo-header's sum.
        let missing = [(!sum(&pseudo)).to_be_bytes(), (!sum(&rest)).to_be_bytes()].concat();
        self.set_halfword(sum(&missing).to_be_bytes());
    }

    fn set_halfword(&mut self, bytes: [u8; 2]) {
        let place = self.payload.get_mut(4..6).expect("six bytes of payload");
        place.copy_from_slice(&bytes);
    }

    fn ip4(&self, from: Ipv4Addr, to: Ipv4Addr, udp_bytes: u16) -> Vec<u8> {
        let total = udp_bytes
            .checked_add(20)
            .expect("the payload fits a packet");
        let mut ip = vec![0x45, self.tos];
        ip.extend(total.to_be_bytes());
        ip.extend([0x12, 0x34, 0x40, 0x00, self.hops, 17, 0, 0]);
        ip.extend(from.octets());
        ip.extend(to.octets());
        let checksum = !sum(&ip);
        ip.splice(10..12, checksum.to_be_bytes());
        [vec![0x08, 0x00], ip].concat()
    }

    fn ip6(&self, from: Ipv6Addr, to: Ipv6Addr, udp_bytes: u16) -> Vec<u8> {
        let mut ip = vec![0x60 | self.tos >> 4, self.tos << 4 | 0x0a, 0xbc, 0xde];
        ip.extend(udp_bytes.to_be_bytes());
        ip.extend([17, self.hops]);
        ip.extend(from.octets());
        ip.extend(to.octets());
        [vec![0x86, 0xdd], ip].concat()
    }
}

/// An RTP packet: version 2, dynamic payload type 96 (RFC 3550 §5.1).
#[must_use]
pub fn rtp(sequence: u16, media: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend(sequence.to_be_bytes());
    packet.extend([0, 0, 0x10, 0x20, 0xde, 0xad, 0xbe, 0xef]);
    packet.extend(media);
    packet
}

/// An RTCP sender report without blocks (RFC 3550 §6.4.1).
#[must_use]
pub fn rtcp() -> Vec<u8> {
    let mut packet = vec![0x80, 200, 0, 6];
    packet.extend(1..=24);
    packet
}

/// A STUN binding request without attributes (RFC 8489 §5).
#[must_use]
pub fn stun() -> Vec<u8> {
    let mut packet = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    packet.extend(1..=12);
    packet
}

/// What a frame says, read independently.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Seen {
    pub eth_dst: [u8; 6],
    pub eth_src: [u8; 6],
    pub tag: Option<u16>,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub tos: u8,
    pub hops: u8,
    /// False if the UDP checksum is zero.
    pub checksum: bool,
    pub payload: Vec<u8>,
}

/// Reads a whole UDP datagram and refuses whatever a receiver would.
///
/// # Errors
/// What is wrong with the frame.
pub fn read(frame: &[u8]) -> Result<Seen, String> {
    let mac = |at: usize| frame.get(at..at + 6).and_then(|mac| mac.try_into().ok());
    let eth_dst = mac(0).ok_or("no Ethernet destination")?;
    let eth_src = mac(6).ok_or("no Ethernet source")?;
    let (tag, packet) = match halfword(frame, 12)? {
        0x8100 => (Some(halfword(frame, 14)?), frame.get(16..)),
        _ => (None, frame.get(12..)),
    };
    let packet = packet.ok_or("no type")?;
    let (src, dst, tos, hops, udp) = match halfword(packet, 0)? {
        0x0800 => read_ip4(packet.get(2..).ok_or("no IPv4 header")?)?,
        0x86dd => read_ip6(packet.get(2..).ok_or("no IPv6 header")?)?,
        other => return Err(format!("type {other:#06x}")),
    };
    let bytes = halfword(udp, 4)?;
    let udp = udp.get(..usize::from(bytes)).ok_or("the UDP length lies")?;
    let checksum = halfword(udp, 6)?;
    if checksum == 0 && src.is_ipv6() {
        return Err("no UDP checksum in IPv6".into());
    }
    let whole = [pseudo_header(src, dst, bytes), udp.to_vec()].concat();
    if checksum != 0 && sum(&whole) != 0xffff {
        return Err(format!("UDP checksum {checksum:#06x} is wrong"));
    }
    Ok(Seen {
        eth_dst,
        eth_src,
        tag,
        from: SocketAddr::new(src, halfword(udp, 0)?),
        to: SocketAddr::new(dst, halfword(udp, 2)?),
        tos,
        hops,
        checksum: checksum != 0,
        payload: udp.get(8..).ok_or("no UDP payload")?.to_vec(),
    })
}

type Ip<'a> = (IpAddr, IpAddr, u8, u8, &'a [u8]);

fn read_ip4(ip: &[u8]) -> Result<Ip<'_>, String> {
    let [version, tos, _, _, _, _, _, _, hops, protocol, ..] = *ip else {
        return Err("half an IPv4 header".into());
    };
    if version != 0x45 || protocol != 17 {
        return Err(format!(
            "version and length {version:#04x}, protocol {protocol}"
        ));
    }
    let header = ip.get(..20).ok_or("half an IPv4 header")?;
    if sum(header) != 0xffff {
        return Err("the IPv4 header checksum is wrong".into());
    }
    // A header checksum of all ones is what a sum of zero would leave; no header adds up to it.
    if halfword(header, 10)? == 0xffff {
        return Err("the IPv4 header checksum is negative zero".into());
    }
    let total = usize::from(halfword(ip, 2)?);
    let address = |at: usize| -> Result<IpAddr, String> {
        let octets: [u8; 4] = header
            .get(at..at + 4)
            .and_then(|o| o.try_into().ok())
            .ok_or("half an address")?;
        Ok(Ipv4Addr::from(octets).into())
    };
    let udp = ip.get(20..total).ok_or("the IPv4 length lies")?;
    Ok((address(12)?, address(16)?, tos, hops, udp))
}

fn read_ip6(ip: &[u8]) -> Result<Ip<'_>, String> {
    let [first, second, _, _, _, _, next, hops, ..] = *ip else {
        return Err("half an IPv6 header".into());
    };
    if first >> 4 != 6 || next != 17 {
        return Err(format!("version {}, next header {next}", first >> 4));
    }
    let address = |at: usize| -> Result<IpAddr, String> {
        let octets: [u8; 16] = ip
            .get(at..at + 16)
            .and_then(|o| o.try_into().ok())
            .ok_or("half an address")?;
        Ok(Ipv6Addr::from(octets).into())
    };
    let end = 40 + usize::from(halfword(ip, 4)?);
    let udp = ip.get(40..end).ok_or("the IPv6 length lies")?;
    Ok((
        address(8)?,
        address(24)?,
        first << 4 | second >> 4,
        hops,
        udp,
    ))
}

/// RFC 768 and RFC 8200 §8.1.
fn pseudo_header(src: IpAddr, dst: IpAddr, udp_bytes: u16) -> Vec<u8> {
    let octets = |ip| match ip {
        IpAddr::V4(v4) => Ipv4Addr::octets(&v4).to_vec(),
        IpAddr::V6(v6) => Ipv6Addr::octets(&v6).to_vec(),
    };
    let mut pseudo = [octets(src), octets(dst)].concat();
    pseudo.extend([0, 17]);
    pseudo.extend(udp_bytes.to_be_bytes());
    pseudo
}

/// RFC 1071, the plain way: big-endian words in a wide sum.
fn sum(bytes: &[u8]) -> u16 {
    let mut sum: u64 = 0;
    for pair in bytes.chunks(2) {
        let high = pair.first().copied().unwrap_or(0);
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u64::from(high) * 256 + u64::from(low);
    }
    while sum > 0xffff {
        sum = sum % 0x1_0000 + sum / 0x1_0000;
    }
    u16::try_from(sum).unwrap_or(u16::MAX)
}

fn halfword(bytes: &[u8], at: usize) -> Result<u16, String> {
    match bytes.get(at..at + 2) {
        Some(&[high, low]) => Ok(u16::from_be_bytes([high, low])),
        _ => Err(format!("the frame ends before byte {}", at + 2)),
    }
}
