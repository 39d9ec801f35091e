//! The decision about one packet: leave it to the stack, drop it, or rewrite it and send it on.

mod headers;

use self::headers::Headers;
use crate::checksum::fold;
use crate::event::EventKind;
use crate::flow::{Endpoint, Flags, Flow};
use crate::map::{LOCALS_MAX, Port, SLOT_NONE, Settings, port_index};
use crate::rtp::{Kind, Rtp};
use crate::wire::{Be16, ETHERNET_BYTES, Ethernet, Frame, Ip, TAG_BYTES, Tagged, Udp, Udp4, Udp6};

/// Decides about a frame that came in by interface `ingress`. Everything is checked before
/// anything is changed: a frame that is passed to the stack is as it came.
#[inline(always)]
pub fn forward(
    frame: &mut impl Frame,
    ingress: u32,
    settings: &Settings,
    flows: &impl Flows,
    now_ns: u64,
) -> Verdict {
    let Some(ethernet) = frame.view::<Ethernet>(0) else {
        return Verdict::pass(Reason::Truncated);
    };
    let mut ethertype = ethernet.ethertype;
    let mut came = Came {
        ingress,
        tag: Be16(0),
        at: 0,
    };
    if ethertype == VLAN {
        let Some(inner) = frame.view::<Ethernet>(TAG_BYTES) else {
            return Verdict::pass(Reason::Truncated);
        };
        ethertype = inner.ethertype;
        // The header behind the tag, seen as if there were none: the tag is where a source would
        // end.
        came.tag = Be16(inner.src.0[2]);
        came.at = TAG_BYTES;
    }
    match ethertype {
        IPV4 => forward_as::<Udp4>(frame, &came, settings, flows, now_ns),
        IPV6 => forward_as::<Udp6>(frame, &came, settings, flows, now_ns),
        VLAN | VLAN_OUTER | VLAN_OLD => Verdict::pass(Reason::Vlan),
        _ => Verdict::pass(Reason::NotIp),
    }
}

/// `forward` for the packets there are most of: those that are sent on, without tags. None: the
/// frame is as it came, and `forward` has the answer. A result has no reason but one, so nothing is
/// carried along on the way to it: it takes half the time.
#[inline(always)]
pub fn forward_plain(
    frame: &mut impl Frame,
    ingress: u32,
    settings: &Settings,
    flows: &impl Flows,
    now_ns: u64,
) -> Option<Verdict> {
    let came = Came {
        ingress,
        tag: Be16(0),
        at: 0,
    };
    match frame.view::<Ethernet>(0)?.ethertype {
        IPV4 => forward_plain_as::<Udp4>(frame, &came, settings, flows, now_ns),
        IPV6 => forward_plain_as::<Udp6>(frame, &came, settings, flows, now_ns),
        _ => None,
    }
}

/// How a frame came.
struct Came {
    ingress: u32,
    /// Zero without a tag; one that has nothing but a priority is none either (IEEE 802.1Q §6.9).
    tag: Be16,
    /// Where its headers begin, as if it had no tag.
    at: usize,
}

/// What `forward` looks things up in.
pub trait Flows {
    /// PORTS.
    fn port(&self, index: u32) -> Port;

    /// FLOWS, and what else will be needed of the flow in a while.
    fn flow(&self, port: Port) -> Option<&Flow>;

    /// Whether BANS shuts this source out.
    fn is_banned(&self, source: Ip) -> bool;

    /// Whether a stranger to this flow may be shown to userspace now, by the flow's budget and by
    /// the one all flows share (`FlowStats::show`).
    fn show_stranger(&self, flow: &Flow, settings: &Settings, now_ns: u64) -> bool;

    /// A stranger's packet that is shown: who sent it, and how its payload begins.
    fn stranger(&self, flow: &Flow, from: Endpoint, head: Option<&Rtp>, now_ns: u64);

    /// A packet for the flow's account of its stream (`Media::receive`).
    fn measure(&self, flow: &Flow, rtp: &Rtp, now_ns: u64) -> EventKind;
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
    /// Two tags, one that is not IEEE 802.1Q's, or none where there should be one.
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
    /// Came by another interface or VLAN than the flow's peer is at.
    WrongInterface = 16,
    /// The driver leaves no room for the tag it has to be sent with.
    NoRoom = 17,
    /// Its sender is banned, and it is of no flow.
    Banned = 18,
}

impl Reason {
    pub const ALL: [Self; 19] = [
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
        Self::WrongInterface,
        Self::NoRoom,
        Self::Banned,
    ];
    /// Entries of REASONS.
    pub const COUNT: u32 = 19;

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
            Self::WrongInterface => "wrong-interface",
            Self::NoRoom => "no-room",
            Self::Banned => "banned",
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
    frame: &mut impl Frame,
    came: &Came,
    settings: &Settings,
    flows: &impl Flows,
    now_ns: u64,
) -> Verdict {
    let payload = came.at + size_of::<H>();
    let frame_bytes = frame.bytes();
    // The payload's first bytes; nothing there is nothing known.
    let head = match frame.view::<[u8; 2]>(payload) {
        Some(head) => *head,
        None => [0xff; 2],
    };
    let Some(headers) = frame.view::<H>(came.at) else {
        return Verdict::pass(Reason::Truncated);
    };
    if let Err(reason) = headers.shape() {
        if headers.is_tcp() && is_shut_out(headers, settings, flows) {
            return Verdict::of(Action::Drop, Reason::Banned, SLOT_NONE, 0);
        }
        return Verdict::pass(reason);
    }
    let Some(flow) = find(headers, settings, flows) else {
        if is_shut_out(headers, settings, flows) {
            return Verdict::of(Action::Drop, Reason::Banned, SLOT_NONE, 0);
        }
        return Verdict::pass(Reason::NoFlow);
    };
    let verdict = |action, reason| Verdict::of(action, reason, flow.stats, flow.generation);
    let reason = judge(headers, frame_bytes, came, head, flow);
    // The flow's own peer is heard to the end of the call, banned or not.
    if reason != Reason::Forwarded
        && settings.bans != 0
        && headers.source() != flow.peer
        && flows.is_banned(headers.source().ip)
    {
        return verdict(Action::Drop, Reason::Banned);
    }
    if reason == Reason::HopLimit || reason == Reason::WrongInterface {
        return verdict(Action::Drop, reason);
    }
    if reason == Reason::WrongSource {
        let from = headers.source();
        // Nobody can be answered at port 0 (RFC 768), so there is nothing to show.
        let show = flow.flags.has(Flags::SHOW_STRANGERS)
            && from.port.0 != 0
            && flows.show_stranger(flow, settings, now_ns);
        if show {
            let head = frame.view::<Rtp>(payload);
            flows.stranger(flow, from, head.map(|head| &*head), now_ns);
        }
        return verdict(if show { Action::Pass } else { Action::Drop }, reason);
    }
    if reason == Reason::PartialChecksum {
        let bytes = headers.udp().bytes;
        if !frame.is_whole(payload - size_of::<Udp>(), bytes, flow.pseudo) {
            return verdict(Action::Pass, reason);
        }
    } else if reason != Reason::Forwarded {
        return verdict(Action::Pass, reason);
    }
    send::<H>(frame, came, flow, flows, now_ns)
}

#[inline(always)]
fn forward_plain_as<H: Headers>(
    frame: &mut impl Frame,
    came: &Came,
    settings: &Settings,
    flows: &impl Flows,
    now_ns: u64,
) -> Option<Verdict> {
    let frame_bytes = frame.bytes();
    let head = *frame.view::<[u8; 2]>(size_of::<H>())?;
    let headers = frame.view::<H>(0)?;
    headers.shape().ok()?;
    let flow = find(headers, settings, flows)?;
    let reason = judge(headers, frame_bytes, came, head, flow);
    if reason != Reason::Forwarded || flow.vlan_out.0 != 0 {
        return None;
    }
    Some(send::<H>(frame, came, flow, flows, now_ns))
}

/// Rewrites, and says where to.
#[inline(always)]
fn send<H: Headers>(
    frame: &mut impl Frame,
    came: &Came,
    flow: &Flow,
    flows: &impl Flows,
    now_ns: u64,
) -> Verdict {
    let verdict = |action, reason| Verdict::of(action, reason, flow.stats, flow.generation);
    let mut at = came.at;
    let leaves_at = if flow.vlan_out.0 == 0 { 0 } else { TAG_BYTES };
    if at != leaves_at {
        let by = if at == 0 { -TAG_SHIFT } else { TAG_SHIFT };
        if !frame.shift(by) {
            return verdict(Action::Pass, Reason::NoRoom);
        }
        at = leaves_at;
    }
    let Some(headers) = frame.view::<H>(at) else {
        return verdict(Action::Drop, Reason::Truncated);
    };
    let bytes = headers.ip_bytes();
    headers.rewrite(flow);
    if flow.vlan_out.0 == 0 {
        let ethernet = headers.ethernet();
        (ethernet.dst, ethernet.src) = (flow.eth_dst.halfwords(), flow.eth_src.halfwords());
    } else {
        let Some(tagged) = frame.view::<Tagged>(0) else {
            return verdict(Action::Drop, Reason::Truncated);
        };
        (tagged.dst, tagged.src) = (flow.eth_dst.halfwords(), flow.eth_src.halfwords());
        tagged.tag_type = VLAN;
        // Priority and drop eligibility are the sender's.
        tagged.tag = Be16(came.tag.0 & !VLAN_ID.0 | flow.vlan_out.0);
    }
    let action = if flow.egress == came.ingress {
        Action::Transmit
    } else {
        Action::Redirect
    };
    let sent = Verdict {
        egress: flow.egress,
        bytes,
        ..verdict(action, Reason::Forwarded)
    };
    if !flow.flags.has(Flags::MEASURE) {
        return sent;
    }
    match frame.view::<Rtp>(at + size_of::<H>()) {
        Some(rtp) if !Kind::is_rtcp(rtp.second()) => Verdict {
            change: flows.measure(flow, rtp, now_ns),
            ..sent
        },
        Some(_) | None => sent,
    }
}

/// Whether a packet of no flow is for a port of ours that its sender may not speak to. TCP has its
/// ports where UDP does (RFC 9293 §3.1).
#[inline(always)]
fn is_shut_out(headers: &impl Headers, settings: &Settings, flows: &impl Flows) -> bool {
    if settings.bans == 0 {
        return false;
    }
    let local = headers.destination();
    settings.guards(local.port)
        && settings.slot(local.ip) < LOCALS_MAX
        && flows.is_banned(headers.source().ip)
}

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
    let port = flows.port(port_index(address, local.port));
    if port.flow == SLOT_NONE {
        return None;
    }
    // The two numbers are written at once; were they ever read half, nobody's counts would suffer.
    flows.flow(port).filter(|flow| flow.stats == port.stats)
}

/// Whether a packet may go the flow's way; `Forwarded` if nothing speaks against it.
#[inline(always)]
fn judge(
    headers: &impl Headers,
    frame_bytes: usize,
    came: &Came,
    head: [u8; 2],
    flow: &Flow,
) -> Reason {
    if flow.ingress != 0 {
        let vlan = came.tag.0 & VLAN_ID.0;
        if flow.ingress != came.ingress || vlan != 0 && vlan != flow.vlan_in.0 {
            return Reason::WrongInterface;
        }
        // The card may have taken the tag off; the stack knows.
        if vlan != flow.vlan_in.0 {
            return Reason::Vlan;
        }
    }
    if flow.flags.has(Flags::USERSPACE) {
        return Reason::Userspace;
    }
    let udp = headers.udp();
    let (ip_bytes, udp_bytes) = (headers.ip_bytes(), udp.bytes.get());
    if came.at + usize::from(ETHERNET_BYTES) + usize::from(ip_bytes) > frame_bytes
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
/// The VLAN's number in a tag.
const VLAN_ID: Be16 = Be16::new(0x0fff);
/// As `Frame::shift` takes it.
const TAG_SHIFT: i32 = 4;
const _: () = assert!(TAG_SHIFT as usize == TAG_BYTES);

const UDP_BYTES: u16 = 8;
