//! One side of a NAT box: an Ethernet interface, its address, and who its neighbours are (ARP,
//! RFC 826).

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result};

use crate::frame::Datagram;
use crate::packet::{Direction, PacketSocket};

const BROADCAST: [u8; 6] = [0xff; 6];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
/// Ethernet and IPv4, six and four bytes of address.
const ARP_HEAD: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];
const ARP_REQUEST: [u8; 2] = [0, 1];
const ARP_REPLY: [u8; 2] = [0, 2];
/// Ethernet header, ARP header and both pairs of addresses.
const ARP_BYTES: usize = 42;

/// Datagrams that wait for a neighbour to be found; more are refused.
const WAITING_MAX: usize = 256;

/// Neighbours a side remembers.
const NEIGHBOURS_MAX: usize = 64;

/// What a box shows to one side.
#[derive(Clone, Copy, Debug)]
pub struct Face<'a> {
    pub interface: &'a str,
    /// Its address there: `192.168.1.1/24`.
    pub prefix: &'a str,
    /// Where everything goes that is no neighbour.
    pub gateway: Option<Ipv4Addr>,
}

impl Face<'_> {
    pub(super) fn address(&self) -> Result<Ipv4Addr> {
        self.parts().map(|(address, _)| address)
    }

    fn parts(&self) -> Result<(Ipv4Addr, u32)> {
        let parse = || {
            let (address, length) = self.prefix.split_once('/')?;
            let host_bits = 32_u32.checked_sub(length.parse().ok()?)?;
            let mask = u32::MAX.checked_shl(host_bits);
            Some((address.parse().ok()?, mask.unwrap_or(0)))
        };
        parse().with_context(|| format!("{}: not an IPv4 address with its length", self.prefix))
    }
}

/// What a frame was.
pub(super) enum Arrived<'b> {
    /// About neighbours, and dealt with.
    Neighbour,
    /// IPv4, for us to forward.
    Packet(&'b [u8]),
    Other,
}

/// An open side.
pub(super) struct Link {
    socket: PacketSocket,
    mac: [u8; 6],
    address: Ipv4Addr,
    mask: u32,
    gateway: Option<Ipv4Addr>,
    neighbours: BTreeMap<Ipv4Addr, [u8; 6]>,
    waiting: Vec<(Ipv4Addr, Datagram)>,
}

impl Link {
    /// Opens the side in the namespace the calling thread is in; `mac` is its interface's.
    pub(super) fn open(face: &Face<'_>, mac: [u8; 6]) -> Result<Self> {
        let (address, mask) = face.parts()?;
        Ok(Self {
            socket: PacketSocket::open(face.interface)?,
            mac,
            address,
            mask,
            gateway: face.gateway,
            neighbours: BTreeMap::new(),
            waiting: Vec::new(),
        })
    }

    pub(super) fn socket(&self) -> &PacketSocket {
        &self.socket
    }

    /// The next frame that concerns us, or none.
    pub(super) fn receive<'b>(&mut self, buffer: &'b mut [u8]) -> io::Result<Option<Arrived<'b>>> {
        let Some((frame, direction)) = self.socket.receive(buffer)? else {
            return Ok(None);
        };
        // What we sent ourselves, and what a switch floods.
        let to = frame.first_chunk::<6>();
        let for_us = to.is_some_and(|to| [self.mac, BROADCAST].contains(to));
        if direction == Direction::Out || !for_us {
            return Ok(Some(Arrived::Neighbour));
        }
        if let Some(arp) = Arp::read(frame) {
            self.learn(&arp)?;
            return Ok(Some(Arrived::Neighbour));
        }
        let is_ipv4 = frame.get(12..14) == Some(&ETHERTYPE_IPV4);
        Ok(Some(if is_ipv4 {
            Arrived::Packet(frame)
        } else {
            Arrived::Other
        }))
    }

    /// Sends a datagram to the next hop of its destination, as soon as that is known.
    pub(super) fn send(&mut self, datagram: Datagram) -> io::Result<()> {
        let IpAddr::V4(to) = datagram.to.ip() else {
            return Err(io::Error::other("not IPv4"));
        };
        let is_neighbour = (to.to_bits() ^ self.address.to_bits()) & self.mask == 0;
        let hop = if is_neighbour { Some(to) } else { self.gateway };
        let hop = hop.ok_or_else(|| io::Error::other("no gateway"))?;
        if let Some(mac) = self.neighbours.get(&hop) {
            return self.emit(datagram, *mac);
        }
        if self.waiting.len() >= WAITING_MAX {
            return Err(io::Error::other("too many wait"));
        }
        self.waiting.push((hop, datagram));
        self.say(ARP_REQUEST, BROADCAST, hop)
    }

    fn emit(&self, datagram: Datagram, to: [u8; 6]) -> io::Result<()> {
        let framed = Datagram {
            eth_dst: to,
            eth_src: self.mac,
            ..datagram
        };
        self.socket.send(&framed.build())
    }

    /// What another host says about itself, and whether it asks about us.
    fn learn(&mut self, arp: &Arp) -> io::Result<()> {
        if self.neighbours.len() < NEIGHBOURS_MAX {
            self.neighbours.insert(arp.sender, arp.sender_mac);
        }
        let known = |(hop, _): &mut (Ipv4Addr, Datagram)| *hop == arp.sender;
        let ready: Vec<_> = self.waiting.extract_if(.., known).collect();
        for (_, datagram) in ready {
            self.emit(datagram, arp.sender_mac)?;
        }
        if arp.asks && arp.target == self.address {
            self.say(ARP_REPLY, arp.sender_mac, arp.sender)?;
        }
        Ok(())
    }

    fn say(&self, operation: [u8; 2], to: [u8; 6], target: Ipv4Addr) -> io::Result<()> {
        let mut frame = Vec::with_capacity(ARP_BYTES);
        frame.extend(to);
        frame.extend(self.mac);
        frame.extend(ETHERTYPE_ARP);
        frame.extend(ARP_HEAD);
        frame.extend(operation);
        frame.extend(self.mac);
        frame.extend(self.address.octets());
        frame.extend(to);
        frame.extend(target.octets());
        self.socket.send(&frame)
    }
}

/// An ARP message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Arp {
    asks: bool,
    sender: Ipv4Addr,
    sender_mac: [u8; 6],
    target: Ipv4Addr,
}

impl Arp {
    fn read(frame: &[u8]) -> Option<Self> {
        let arp = frame.get(12..ARP_BYTES)?.strip_prefix(&ETHERTYPE_ARP)?;
        let arp = arp.strip_prefix(&ARP_HEAD)?;
        let operation = arp.first_chunk::<2>()?;
        let ip = |at: usize| arp.get(at..)?.first_chunk::<4>().copied();
        Some(Self {
            asks: *operation == ARP_REQUEST,
            sender_mac: *arp.get(2..)?.first_chunk()?,
            sender: ip(8)?.into(),
            target: ip(18)?.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arp_is_read_and_what_is_not_is_left() {
        let mut frame = [BROADCAST, [2; 6]].concat();
        frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
        frame.extend([2; 6]);
        frame.extend([192, 168, 1, 10]);
        frame.extend([0; 6]);
        frame.extend([192, 168, 1, 1]);
        let expected = Arp {
            asks: true,
            sender: "192.168.1.10".parse().unwrap(),
            sender_mac: [2; 6],
            target: "192.168.1.1".parse().unwrap(),
        };
        assert_eq!(Arp::read(&frame), Some(expected));
        for cut in 0..frame.len() {
            assert_eq!(Arp::read(&frame[..cut]), None, "{cut}");
        }
        frame[12] = 0x86;
        assert_eq!(Arp::read(&frame), None);
    }

    #[test]
    fn a_face_has_an_address_and_a_length() {
        check("192.168.1.1/24", Some(("192.168.1.1", 0xffff_ff00)));
        check("100.64.0.1/10", Some(("100.64.0.1", 0xffc0_0000)));
        check("10.0.0.1/0", Some(("10.0.0.1", 0)));
        check("10.0.0.1", None);
        check("10.0.0.1/33", None);
        check("::1/64", None);

        fn check(prefix: &str, expected: Option<(&str, u32)>) {
            let face = Face {
                interface: "eth0",
                prefix,
                gateway: None,
            };
            let expected = expected.map(|(address, mask)| (address.parse().unwrap(), mask));
            assert_eq!(face.parts().ok(), expected, "{prefix}");
        }
    }
}
