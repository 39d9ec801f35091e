//! What the differential test sends: flows of every kind, and frames to them that are whole, or
//! wrong in one way, or damaged anywhere.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use common::flow::{Flags, Flow, Hop, Rewrite};
use common::wire::Mac;
use towpath_tests::frame::{Checksum, Datagram, rtcp, rtp, stun};

use super::{FRAME_BYTES_MIN, INGRESS};

/// Flows of both families at four addresses, some of every kind.
pub(crate) fn flows(random: &mut Random, egress: u32) -> Vec<Flow> {
    const FLOWS: usize = super::FLOWS as usize;
    let locals: [IpAddr; 4] = std::array::from_fn(|i| random.ip(i % 2 == 1));
    let mut at = BTreeMap::new();
    while at.len() < FLOWS {
        let local = locals[at.len() * locals.len() / FLOWS];
        let v6 = local.is_ipv6();
        let local = SocketAddr::new(local, random.port());
        let rewrite = Rewrite {
            peer: SocketAddr::new(random.ip(v6), random.port()).into(),
            source: SocketAddr::new(random.ip(v6), random.port()).into(),
            target: SocketAddr::new(random.ip(v6), random.port()).into(),
            tos: random.one_in(2).then(|| random.byte()),
            flags: match random.below(16) {
                0 => Flags::USERSPACE,
                1..8 => Flags::SHOW_STRANGERS,
                _ => Flags::NONE,
            },
        };
        let hop = Hop {
            eth_src: Mac::from(std::array::from_fn(|_| random.byte())),
            eth_dst: Mac::from(std::array::from_fn(|_| random.byte())),
            egress: match random.below(8) {
                0 => 4711,
                1..4 => INGRESS,
                _ => egress,
            },
            mtu: if random.one_in(4) { 80 } else { 1500 },
        };
        let mut flow = Flow::compile(local.into(), rewrite, hop);
        if random.one_in(4) {
            flow = flow.with_hops(random.byte());
        }
        if random.one_in(2) {
            flow = flow.measured([0, 8000, 90_000][random.below(3) as usize]);
        }
        if random.one_in(2) {
            let other = if random.one_in(16) { 4711 } else { INGRESS };
            flow = flow.arriving(other, random.vlan());
        }
        flow = flow.leaving(random.vlan());
        flow.stats = at.len() as u32 + 1;
        flow.generation = random.next() as u32;
        at.insert(at.len(), flow);
    }
    at.into_values().collect()
}

pub(crate) fn datagram(flow: &Flow, payload: Vec<u8>) -> Datagram {
    let vlan = flow.vlan_in.get();
    Datagram {
        tag: (flow.ingress != 0 && vlan != 0).then_some(vlan),
        ..Datagram::new(flow.peer.into(), flow.local.into(), payload)
    }
}

/// SplitMix64: reproducible, and all a test needs.
#[derive(Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(0x7091_a7b3_5eed_0000 ^ seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn byte(&mut self) -> u8 {
        self.next() as u8
    }

    /// Half of all flows are in none, half of the rest in the same one.
    fn vlan(&mut self) -> u16 {
        [0, 0, 100, 1 + self.below(4094) as u16][self.below(4) as usize]
    }

    fn port(&mut self) -> u16 {
        (self.next() as u16).max(1)
    }

    /// Random bytes are no palindromes.
    fn ip(&mut self, v6: bool) -> IpAddr {
        if v6 {
            Ipv6Addr::from((u128::from(self.next()) << 64) | u128::from(self.next()) | 1 << 125)
                .into()
        } else {
            Ipv4Addr::from(self.next() as u32).into()
        }
    }

    /// A frame to one of the flows: whole, or wrong in one way, or damaged anywhere.
    pub(crate) fn frame(&mut self, flows: &[Flow], index: u32) -> Vec<u8> {
        let flow = &flows[self.below(flows.len() as u64) as usize];
        let mut datagram = datagram(flow, self.payload(index as u16));
        datagram.tos = self.byte();
        let marks = (self.byte() as u16) << 12;
        datagram.tag = match self.below(32) {
            0 => Some(self.next() as u16),
            1 => Some(marks),
            2 => None,
            _ => match flow.vlan_in.get() {
                0 => None,
                vlan => Some(marks | vlan),
            },
        };
        datagram.hops = if self.one_in(12) {
            self.below(3) as u8
        } else {
            self.byte()
        };
        // Another flow's peer, who may be banned, to this one's port or to one of SIP's.
        if self.one_in(8) {
            let other = &flows[self.below(flows.len() as u64) as usize];
            if other.local.ip.is_v4() == flow.local.ip.is_v4() {
                datagram.from = other.peer.into();
            }
            if self.one_in(2) {
                datagram.to.set_port(5060 + self.below(3) as u16);
            }
        }
        match self.below(24) {
            0 => datagram.from.set_port(self.port()),
            1 => datagram.from.set_ip(self.ip(datagram.from.is_ipv6())),
            2 => datagram.from.set_port(0),
            3 => datagram.to.set_port(self.port()),
            4 => datagram.to.set_ip(self.ip(datagram.from.is_ipv6())),
            5 => datagram.checksum = Checksum::Partial,
            6 | 7 => datagram.checksum = Checksum::None,
            8 if datagram.payload.len() >= 6 => datagram.disguise(),
            _ => {}
        }
        let mut frame = datagram.build();
        // Where the header is behind which the frame has no tag.
        let at = if datagram.tag.is_some() { 4 } else { 0 };
        let udp = at + if flow.local.ip.is_v4() { 34 } else { 54 };
        match self.below(24) {
            0 => self.tag(&mut frame),
            1 => frame.truncate(FRAME_BYTES_MIN + self.below(frame.len() as u64 - 13) as usize),
            2 => frame.extend([0; 18]),
            3 => frame[at + 14] = self.byte(), // version, IPv4 header length
            4 => frame[at + 20] = [0, 44, 60, 0x20, 0x1f][self.below(5) as usize],
            5 => frame[at + 23] = self.byte(), // IPv4 protocol
            13 => frame[at + if flow.local.ip.is_v4() { 23 } else { 20 }] = 6, // TCP
            6 => frame[at + 17] = self.byte(), // IPv4 total length
            7 => frame[udp + 4 + self.below(2) as usize] = self.byte(), // UDP length
            8 => frame[at + 12..at + 14].copy_from_slice(&[0x08, 0x06]),
            9 | 10 => {
                let at = self.below(frame.len() as u64) as usize;
                frame[at] ^= 1 << self.below(8);
            }
            11 if !flow.local.ip.is_v4() => self.extend(&mut frame, at),
            12 => frame[at + 18 + self.below(2) as usize] = self.byte(), // IPv6 payload length
            _ => {}
        }
        frame
    }

    /// One more tag in front, of one of the kinds there are.
    fn tag(&mut self, frame: &mut Vec<u8>) {
        let kind = [[0x81, 0x00], [0x88, 0xa8], [0x91, 0x00]][self.below(3) as usize];
        let vlan = self.vlan().to_be_bytes();
        frame.splice(12..12, [kind, vlan].concat());
    }

    /// An IPv6 extension header between IPv6 and UDP: hop-by-hop, routing, fragment,
    /// authentication, destination or mobility, whole and of eight bytes.
    fn extend(&mut self, frame: &mut Vec<u8>, at: usize) {
        let kind = [0, 43, 44, 51, 60, 135][self.below(6) as usize];
        frame[at + 20] = kind;
        let bytes = u16::from_be_bytes([frame[at + 18], frame[at + 19]]) + 8;
        frame[at + 18..at + 20].copy_from_slice(&bytes.to_be_bytes());
        let more = if self.one_in(2) { 1 } else { 0 };
        frame.splice(at + 54..at + 54, [17, 0, 0, more, 0, 0, 0, 0]);
    }

    fn payload(&mut self, sequence: u16) -> Vec<u8> {
        match self.below(16) {
            0 => stun(),
            1 => vec![],
            2 => (0..self.below(40)).map(|_| self.byte()).collect(),
            3 => rtcp(),
            4 => rtp(sequence, &vec![0x5a; 1400 + self.below(200) as usize]),
            _ => {
                let media: Vec<u8> = (0..self.below(64)).map(|_| self.byte()).collect();
                rtp(sequence, &media)
            }
        }
    }
}
