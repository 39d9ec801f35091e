//! The decision about one packet: leave it to the stack, drop it, or rewrite it and send it on.

use crate::checksum::{apply, apply_udp, fold};
use crate::event::EventKind;
use crate::flow::{Endpoint, Flags, Flow, UDP};
use crate::map::{LOCALS_MAX, SLOT_NONE, Settings, port_index};
use crate::rtp::{Kind, Rtp};
use crate::wire::{Be16, ETHERNET_BYTES, Ethernet, Frame, Ip, Udp, Udp4, Udp6, View};

/// Decides about a frame that came in by interface `ingress`. Everything is checked before
/// anything is changed: a frame that is passed to the stack is as it came.
#[inline(always)]
pub fn forward(
    frame: &mut (impl Frame + ?Sized),
    ingress: u32,
    flows: &impl Flows,
    now_ns: u64,
) -> Verdict {
    let Some(ethernet) = frame.view::<Ethernet>(0) else {
        return Verdict::pass(Reason::Truncated);
    };
    match ethernet.ethertype {
        IPV4 => forward_as::<Udp4>(frame, ingress, flows, now_ns),
        IPV6 => forward_as::<Udp6>(frame, ingress, flows, now_ns),
        VLAN | VLAN_OUTER | VLAN_OLD => Verdict::pass(Reason::Vlan),
        _ => Verdict::pass(Reason::NotIp),
    }
}

/// What `forward` looks things up in.
pub trait Flows {
    fn settings(&self) -> Option<&Settings>;

    /// PORTS; `SLOT_NONE` where there is nothing.
    fn port(&self, index: u32) -> u32;

    fn flow(&self, slot: u32) -> Option<&Flow>;

    /// Whether a stranger to this flow may be shown to userspace now, by the flow's budget and by
    /// the one all flows share (`FlowStats::show`).
    fn show_stranger(&self, flow: &Flow, settings: &Settings, now_ns: u64) -> bool;

    /// A stranger's packet that is shown: who sent it, and how its payload begins.
    fn stranger(&self, flow: &Flow, from: Endpoint, head: Option<&Rtp>, now_ns: u64);

    /// A packet for the flow's account of its stream (`Media::receive`).
    fn measure(&self, flow: &Flow, rtp: &Rtp) -> EventKind;
}

/// What becomes of a packet, and why. Flat, every field set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Verdict {
    pub action: Action,
    pub reason: Reason,
    /// Index into STATS of the flow it belongs to; `SLOT_NONE` if it belongs to none.
    pub stats: u32,
    pub generation: u32,
    /// Interface to leave by, if it is sent on.
    pub egress: u32,
    /// From the IP header on, if it is sent on.
    pub bytes: u16,
    /// What changed with its stream.
    pub change: EventKind,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// To the stack, unchanged.
    Pass,
    Drop,
    /// Back out of the interface it came in by.
    Transmit,
    /// Out of another one.
    Redirect,
}

/// Why. Every packet is counted under exactly one.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Reason {
    Forwarded = 0,
    /// Neither IPv4 nor IPv6, or a version that contradicts the type field.
    NotIp = 1,
    /// Tagged (IEEE 802.1Q).
    Vlan = 2,
    NotUdp = 3,
    Fragment = 4,
    /// IPv4 options or IPv6 extension headers.
    Options = 5,
    /// The frame ends before its headers do, or lengths contradict each other.
    Truncated = 6,
    /// Not one of our media ports.
    NoFlow = 7,
    /// Not the flow's peer.
    WrongSource = 8,
    /// STUN, DTLS, a keep-alive, something unknown.
    NotRtp = 9,
    /// The hop limit is spent.
    HopLimit = 10,
    /// The sender left the checksum to its network card, and there was none on the way.
    PartialChecksum = 11,
    /// IPv6 without a UDP checksum (RFC 8200 §8.1).
    NoChecksum = 12,
    /// Longer than the egress carries.
    TooBig = 13,
    /// The flow is marked for userspace.
    Userspace = 14,
    /// The interface to leave by is not in EGRESS.
    NoEgress = 15,
}

impl Reason {
    pub const ALL: [Self; 16] = [
        Self::Forwarded,
        Self::NotIp,
        Self::Vlan,
        Self::NotUdp,
        Self::Fragment,
        Self::Options,
        Self::Truncated,
        Self::NoFlow,
        Self::WrongSource,
        Self::NotRtp,
        Self::HopLimit,
        Self::PartialChecksum,
        Self::NoChecksum,
        Self::TooBig,
        Self::Userspace,
        Self::NoEgress,
    ];
    /// Entries of REASONS.
    pub const COUNT: u32 = 16;

    /// The name it has in metrics and in the interface.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::NotIp => "not-ip",
            Self::Vlan => "vlan",
            Self::NotUdp => "not-udp",
            Self::Fragment => "fragment",
            Self::Options => "options",
            Self::Truncated => "truncated",
            Self::NoFlow => "no-flow",
            Self::WrongSource => "wrong-source",
            Self::NotRtp => "not-rtp",
            Self::HopLimit => "hop-limit",
            Self::PartialChecksum => "partial-checksum",
            Self::NoChecksum => "no-checksum",
            Self::TooBig => "too-big",
            Self::Userspace => "userspace",
            Self::NoEgress => "no-egress",
        }
    }
}

const _: () = assert!(Reason::ALL.len() == Reason::COUNT as usize);

impl Verdict {
    #[inline(always)]
    const fn pass(reason: Reason) -> Self {
        Self::of(Action::Pass, reason, SLOT_NONE, 0)
    }

    #[inline(always)]
    const fn of(action: Action, reason: Reason, stats: u32, generation: u32) -> Self {
        Self {
            action,
            reason,
            stats,
            generation,
            egress: 0,
            bytes: 0,
            change: EventKind::NONE,
        }
    }

    /// What a redirect comes to when the egress is not there. The packet has been rewritten, so
    /// the stack must not see it.
    #[must_use]
    #[inline(always)]
    pub const fn without_egress(self) -> Self {
        Self::of(Action::Drop, Reason::NoEgress, self.stats, self.generation)
    }
}

#[inline(always)]
fn forward_as<H: Headers>(
    frame: &mut (impl Frame + ?Sized),
    ingress: u32,
    flows: &impl Flows,
    now_ns: u64,
) -> Verdict {
    let frame_bytes = frame.bytes();
    // The payload's first bytes; nothing there is nothing known.
    let head = match frame.view::<[u8; 2]>(size_of::<H>()) {
        Some(head) => *head,
        None => [0xff; 2],
    };
    let Some(headers) = frame.view::<H>(0) else {
        return Verdict::pass(Reason::Truncated);
    };
    if let Err(reason) = headers.shape() {
        return Verdict::pass(reason);
    }
    let Some(settings) = flows.settings() else {
        return Verdict::pass(Reason::NoFlow);
    };
    let Some(flow) = find(headers, settings, flows) else {
        return Verdict::pass(Reason::NoFlow);
    };
    let verdict = |action, reason| Verdict::of(action, reason, flow.stats, flow.generation);
    let reason = judge(headers, frame_bytes, head, flow);
    if reason == Reason::HopLimit {
        return verdict(Action::Drop, reason);
    }
    if reason == Reason::WrongSource {
        let from = headers.source();
        // Nobody can be answered at port 0 (RFC 768), so there is nothing to show.
        let show = flow.flags.has(Flags::SHOW_STRANGERS)
            && from.port.0 != 0
            && flows.show_stranger(flow, settings, now_ns);
        if show {
            let head = frame.view::<Rtp>(size_of::<H>());
            flows.stranger(flow, from, head.map(|head| &*head), now_ns);
        }
        return verdict(if show { Action::Pass } else { Action::Drop }, reason);
    }
    if reason == Reason::PartialChecksum {
        let bytes = headers.udp().bytes;
        if !is_whole(frame, size_of::<H>() - size_of::<Udp>(), bytes, flow.pseudo) {
            return verdict(Action::Pass, reason);
        }
    } else if reason != Reason::Forwarded {
        return verdict(Action::Pass, reason);
    }
    let Some(headers) = frame.view::<H>(0) else {
        return verdict(Action::Pass, Reason::Truncated);
    };
    let sent = send(headers, flow, ingress);
    if !flow.flags.has(Flags::MEASURE) || Kind::is_rtcp(head[1]) {
        return sent;
    }
    match frame.view::<Rtp>(size_of::<H>()) {
        Some(rtp) => Verdict {
            change: flows.measure(flow, rtp),
            ..sent
        },
        None => sent,
    }
}

/// Rewrites, and says where to.
#[inline(always)]
fn send(headers: &mut impl Headers, flow: &Flow, ingress: u32) -> Verdict {
    let bytes = headers.ip_bytes();
    headers.rewrite(flow);
    let action = if flow.egress == ingress {
        Action::Transmit
    } else {
        Action::Redirect
    };
    Verdict {
        egress: flow.egress,
        bytes,
        ..Verdict::of(action, Reason::Forwarded, flow.stats, flow.generation)
    }
}

/// Whether a UDP checksum that looks partial is whole after all, as one in 65,536 is: adds up the
/// segment (RFC 768). One that is longer than `SUMMED_BYTES_MAX` is taken for what it looks like.
#[inline(always)]
fn is_whole(frame: &mut (impl Frame + ?Sized), udp: usize, bytes: Be16, pseudo: u16) -> bool {
    let mut sum = u32::from(pseudo) + u32::from(bytes.0);
    let (mut at, mut left) = (udp, bytes.get());
    for _ in 0..SUMMED_BYTES_MAX / BLOCK_BYTES {
        if left < BLOCK_BYTES {
            break;
        }
        let Some(block) = frame.view::<[[u8; 2]; BLOCK_BYTES as usize / 2]>(at) else {
            return false;
        };
        for half in block {
            sum += u32::from(u16::from_ne_bytes(*half));
        }
        at += BLOCK_BYTES as usize;
        left -= BLOCK_BYTES;
    }
    for _ in 0..BLOCK_BYTES / 2 {
        if left < 2 {
            break;
        }
        let Some(half) = frame.view::<[u8; 2]>(at) else {
            return false;
        };
        sum += u32::from(u16::from_ne_bytes(*half));
        at += 2;
        left -= 2;
    }
    if left == 1 {
        // With its neighbour: the verifier follows no check of a single byte.
        let Some([_, last]) = frame.view::<[u8; 2]>(at - 1) else {
            return false;
        };
        sum += u32::from(u16::from_ne_bytes([*last, 0]));
        left = 0;
    }
    left == 0 && fold(sum) == 0xffff
}

/// What `is_whole` adds up at most: a segment on an Ethernet without jumbo frames.
const SUMMED_BYTES_MAX: u16 = 1504;
const BLOCK_BYTES: u16 = 32;

/// The flow of the endpoint a packet was sent to.
#[inline(always)]
fn find<'f>(
    headers: &impl Headers,
    settings: &Settings,
    flows: &'f impl Flows,
) -> Option<&'f Flow> {
    let local = headers.destination();
    let address = settings.slot(local.ip);
    if address >= LOCALS_MAX {
        return None;
    }
    match flows.port(port_index(address, local.port)) {
        SLOT_NONE => None,
        slot => flows.flow(slot),
    }
}

/// Whether a packet may go the flow's way; `Forwarded` if nothing speaks against it.
#[inline(always)]
fn judge(headers: &impl Headers, frame_bytes: usize, head: [u8; 2], flow: &Flow) -> Reason {
    if flow.flags.has(Flags::USERSPACE) {
        return Reason::Userspace;
    }
    let udp = headers.udp();
    let (ip_bytes, udp_bytes) = (headers.ip_bytes(), udp.bytes.get());
    if usize::from(ETHERNET_BYTES) + usize::from(ip_bytes) > frame_bytes
        || udp_bytes < UDP_BYTES
        || u32::from(udp_bytes) + u32::from(headers.before_udp()) > u32::from(ip_bytes)
    {
        return Reason::Truncated;
    }
    if !Kind::of(head, udp_bytes - UDP_BYTES).is_media() {
        return Reason::NotRtp;
    }
    if udp.src.0 == 0 || headers.source() != flow.peer {
        return Reason::WrongSource;
    }
    if headers.hops() <= 1 {
        return Reason::HopLimit;
    }
    if ip_bytes > flow.mtu {
        return Reason::TooBig;
    }
    if udp.checksum.0 == 0 {
        return headers.without_checksum();
    }
    // A sender that leaves the checksum to its card stores the sum of the pseudo-header alone.
    if fold(u32::from(flow.pseudo) + u32::from(udp.bytes.0)) == udp.checksum.0 {
        return Reason::PartialChecksum;
    }
    Reason::Forwarded
}

const IPV4: Be16 = Be16::new(0x0800);
const IPV6: Be16 = Be16::new(0x86dd);
const VLAN: Be16 = Be16::new(0x8100);
const VLAN_OUTER: Be16 = Be16::new(0x88a8);
const VLAN_OLD: Be16 = Be16::new(0x9100);

const UDP_BYTES: u16 = 8;
const IP4_BYTES: u16 = 20;
const IP6_BYTES: u16 = 40;

/// Everything but the offset's don't-fragment and reserved bits (RFC 791 §3.1).
const FRAGMENT: Be16 = Be16::new(0x3fff);

/// What the two families have in common.
trait Headers: View {
    /// Whether it is what its view claims: the version, UDP, whole, without options.
    fn shape(&self) -> Result<(), Reason>;
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
    fn rewrite(&mut self, flow: &Flow);
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
        rewrite_ends(&mut self.ethernet, &mut self.udp, flow);
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
        rewrite_ends(&mut self.ethernet, &mut self.udp, flow);
    }
}

/// What lies before and behind the IP header.
#[inline(always)]
fn rewrite_ends(ethernet: &mut Ethernet, udp: &mut Udp, flow: &Flow) {
    ethernet.dst = flow.eth_dst;
    ethernet.src = flow.eth_src;
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
