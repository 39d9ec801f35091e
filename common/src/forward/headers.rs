//! The headers of the two families: what they say, and how they are rewritten.

use super::Reason;
use crate::checksum::{apply, apply_udp, fold};
use crate::flow::{Endpoint, Flags, Flow, UDP};
use crate::wire::{Be16, Ethernet, Ip, Udp, Udp4, Udp6, View};

/// What the two families have in common.
pub(super) trait Headers: View {
    /// Whether it is what its view claims: the version, UDP, whole, without options.
    fn shape(&self) -> Result<(), Reason>;
    /// Whether it is TCP, whole up to its ports, without options.
    fn is_tcp(&self) -> bool;
    fn source(&self) -> Endpoint;
    fn destination(&self) -> Endpoint;
    fn udp(&self) -> &Udp;
    /// From the IP header on, as the IP header says.
    fn ip_bytes(&self) -> u16;
    /// Of those, before the UDP header.
    fn before_udp(&self) -> u16;
    fn hops(&self) -> u8;
    /// What a UDP checksum of zero means.
    fn without_checksum(&self) -> Reason;
    /// Everything but the hardware addresses.
    fn rewrite(&mut self, flow: &Flow);
    /// What is before the IP header, of a frame without a tag.
    fn ethernet(&mut self) -> &mut Ethernet;
}

impl Headers for Udp4 {
    #[inline(always)]
    fn shape(&self) -> Result<(), Reason> {
        if self.ip.version_ihl >> 4 != 4 {
            return Err(Reason::NotIp);
        }
        if self.ip.protocol != UDP {
            return Err(Reason::NotUdp);
        }
        if self.ip.version_ihl != 0x45 {
            return Err(Reason::Options);
        }
        if self.ip.fragment.0 & FRAGMENT.0 != 0 {
            return Err(Reason::Fragment);
        }
        Ok(())
    }

    #[inline(always)]
    fn is_tcp(&self) -> bool {
        self.ip.version_ihl == 0x45
            && self.ip.protocol == TCP
            && self.ip.fragment.0 & FRAGMENT.0 == 0
    }

    #[inline(always)]
    fn source(&self) -> Endpoint {
        Endpoint::new(Ip::mapped(self.ip.src), self.udp.src)
    }

    #[inline(always)]
    fn destination(&self) -> Endpoint {
        Endpoint::new(Ip::mapped(self.ip.dst), self.udp.dst)
    }

    #[inline(always)]
    fn udp(&self) -> &Udp {
        &self.udp
    }

    #[inline(always)]
    fn ip_bytes(&self) -> u16 {
        self.ip.total_bytes.get()
    }

    #[inline(always)]
    fn before_udp(&self) -> u16 {
        IP4_BYTES
    }

    #[inline(always)]
    fn hops(&self) -> u8 {
        self.ip.ttl
    }

    #[inline(always)]
    fn without_checksum(&self) -> Reason {
        Reason::Forwarded
    }

    #[inline(always)]
    fn rewrite(&mut self, flow: &Flow) {
        let mut delta_l3 = flow.delta_l3;
        if flow.flags.has(Flags::DSCP) {
            let tos = with_dscp(self.ip.tos, flow.tos);
            let halfword = |tos| u16::from_ne_bytes([self.ip.version_ihl, tos]);
            let change = u32::from(!halfword(self.ip.tos)) + u32::from(halfword(tos));
            delta_l3 = fold(u32::from(delta_l3) + change);
            self.ip.tos = tos;
        }
        if flow.flags.has(Flags::HOPS) {
            let halfword = |ttl| u16::from_ne_bytes([ttl, UDP]);
            let change = u32::from(!halfword(self.ip.ttl)) + u32::from(halfword(flow.hops));
            delta_l3 = fold(u32::from(delta_l3) + change);
            self.ip.ttl = flow.hops;
        } else {
            self.ip.ttl -= 1;
        }
        self.ip.src = flow.source.ip.0[3];
        self.ip.dst = flow.target.ip.0[3];
        self.ip.checksum = apply(self.ip.checksum, delta_l3);
        rewrite_udp(&mut self.udp, flow);
    }

    #[inline(always)]
    fn ethernet(&mut self) -> &mut Ethernet {
        &mut self.ethernet
    }
}

impl Headers for Udp6 {
    #[inline(always)]
    fn shape(&self) -> Result<(), Reason> {
        if self.ip.version_class[0] >> 4 != 6 {
            return Err(Reason::NotIp);
        }
        match self.ip.next_header {
            UDP => Ok(()),
            44 => Err(Reason::Fragment),
            // Extension headers (RFC 8200 §4, RFC 4302, RFC 6275).
            0 | 43 | 51 | 60 | 135 => Err(Reason::Options),
            _ => Err(Reason::NotUdp),
        }
    }

    #[inline(always)]
    fn is_tcp(&self) -> bool {
        self.ip.version_class[0] >> 4 == 6 && self.ip.next_header == TCP
    }

    #[inline(always)]
    fn source(&self) -> Endpoint {
        Endpoint::new(Ip(self.ip.src), self.udp.src)
    }

    #[inline(always)]
    fn destination(&self) -> Endpoint {
        Endpoint::new(Ip(self.ip.dst), self.udp.dst)
    }

    #[inline(always)]
    fn udp(&self) -> &Udp {
        &self.udp
    }

    #[inline(always)]
    fn ip_bytes(&self) -> u16 {
        self.ip.payload_bytes.get().saturating_add(IP6_BYTES)
    }

    #[inline(always)]
    fn before_udp(&self) -> u16 {
        IP6_BYTES
    }

    #[inline(always)]
    fn hops(&self) -> u8 {
        self.ip.hop_limit
    }

    #[inline(always)]
    fn without_checksum(&self) -> Reason {
        Reason::NoChecksum
    }

    #[inline(always)]
    fn rewrite(&mut self, flow: &Flow) {
        if flow.flags.has(Flags::DSCP) {
            // Version, class and label share these bytes: vvvvcccc ccccllll.
            let [first, second] = self.ip.version_class;
            let tos = with_dscp((first << 4) | (second >> 4), flow.tos);
            self.ip.version_class = [(first & 0xf0) | (tos >> 4), (tos << 4) | (second & 0x0f)];
        }
        if flow.flags.has(Flags::HOPS) {
            self.ip.hop_limit = flow.hops;
        } else {
            self.ip.hop_limit -= 1;
        }
        let [a, b, c, d] = flow.source.ip.0;
        self.ip.src = [a, b, c, d];
        let [a, b, c, d] = flow.target.ip.0;
        self.ip.dst = [a, b, c, d];
        rewrite_udp(&mut self.udp, flow);
    }

    #[inline(always)]
    fn ethernet(&mut self) -> &mut Ethernet {
        &mut self.ethernet
    }
}

#[inline(always)]
fn rewrite_udp(udp: &mut Udp, flow: &Flow) {
    udp.src = flow.source.port;
    udp.dst = flow.target.port;
    if udp.checksum.0 != 0 {
        udp.checksum = apply_udp(udp.checksum, flow.delta_l4);
    }
}

/// The sender's two ECN bits stay (RFC 3168 §5).
#[inline(always)]
const fn with_dscp(old: u8, new: u8) -> u8 {
    (new & 0xfc) | (old & 3)
}

/// TCP's protocol number.
const TCP: u8 = 6;
const IP4_BYTES: u16 = 20;
const IP6_BYTES: u16 = 40;

/// Everything but the offset's don't-fragment and reserved bits (RFC 791 §3.1).
const FRAGMENT: Be16 = Be16::new(0x3fff);
