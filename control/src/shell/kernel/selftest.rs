//! The program proves itself before it takes over: over maps of its own, it is shown packets whose
//! fate `forward` decides on this side, and has to do the same to the byte.

pub(super) mod bench;

use std::net::SocketAddr;

use aya::maps::{Array, DevMapHash, Map, MapData, PerCpuArray};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use aya_obj::Object;
use common::event::EventKind;
use common::flow::{Endpoint, Flags, Flow, Hop, Rewrite};
use common::forward::{Action, Flows, Reason, forward};
use common::map::{self, ABI, Port, SLOT_NONE, Settings, port_index};
use common::rtp::Rtp;
use common::stats::FlowStats;
use common::wire::{Buffer, Ip, Mac};

use super::{KernelError, adopt};

/// A test run's packets come in by the loopback interface, which every host has.
const LOOPBACK: u32 = 1;
/// A number in EGRESS; what leaves by it is only said, never sent.
const ELSEWHERE: u32 = 0x7057;
/// Slots of the private FLOWS and STATS.
const SLOTS: u32 = 8;
/// Room for a packet that comes out of a test run.
const FRAME_BYTES_MAX: usize = 2_048;
/// Before a packet on this side; a tag takes four bytes.
const HEADROOM: usize = 16;
const NOW_NS: u64 = 0;

/// Opens an object over maps of its own, beside whatever runs.
///
/// # Errors
/// That it is no object, or one of another ABI: nothing may be pinned for it.
pub(super) fn open(object: &[u8]) -> Result<Ebpf, KernelError> {
    let mut ebpf = EbpfLoader::new()
        .map_max_entries(map::FLOWS, SLOTS)
        .map_max_entries(map::STATS, SLOTS)
        .load(object)
        .map_err(KernelError::load)?;
    check_abi(object)?;
    check_maps(&mut ebpf)?;
    Ok(ebpf)
}

/// Tries the program of an object that was opened for it.
///
/// # Errors
/// What it does otherwise than it should.
pub(super) fn check(mut ebpf: Ebpf) -> Result<(), KernelError> {
    adopt::verify(&mut ebpf)?;
    let table = Table::new();
    fill(&mut ebpf, &table)?;
    let mut reasons = [0_u64; Reason::COUNT as usize];
    for (what, frame) in frames() {
        let (action, reason, bytes) = table.run(&frame);
        if let Some(count) = reasons.get_mut(reason as usize) {
            *count += 1;
        }
        let (kernel_action, kernel_bytes) = run(&mut ebpf, &frame)?;
        if kernel_action != action {
            let expected = Reason::name(reason);
            return Err(failed(format!(
                "{what}: the action is {kernel_action}, not {action} ({expected})"
            )));
        }
        if kernel_bytes != bytes {
            let at = kernel_bytes.iter().zip(&bytes).position(|(a, b)| a != b);
            let at = at.unwrap_or(bytes.len().min(kernel_bytes.len()));
            return Err(failed(format!("{what}: byte {at} comes out wrong")));
        }
    }
    check_counts(&mut ebpf, &reasons)
}

/// Maps of the same sizes may mean something else: the object says by itself which ABI it has.
fn check_abi(object: &[u8]) -> Result<(), KernelError> {
    let found = abi(object);
    if found == Some(ABI) {
        return Ok(());
    }
    let found = found.map_or_else(|| "none".to_owned(), |abi| abi.to_string());
    Err(KernelError::Object {
        why: format!("it says it has ABI {found}, not {ABI}"),
    })
}

/// Which one an object says it has.
pub(in crate::shell) fn abi(object: &[u8]) -> Option<u32> {
    let object = Object::parse(object).ok()?;
    let bytes = object.maps.get(map::ABI_SECTION)?.data();
    Some(u32::from_le_bytes(*bytes.first_chunk()?))
}

/// Maps of another ABI would be read beside what they hold.
fn check_maps(ebpf: &mut Ebpf) -> Result<(), KernelError> {
    /// Whether the map is of that type, and holds values of that size.
    fn is<'a, M: TryFrom<&'a mut Map>>(ebpf: &'a mut Ebpf, name: &str) -> bool {
        ebpf.map_mut(name)
            .is_some_and(|map| M::try_from(map).is_ok())
    }
    type Own<'a> = &'a mut MapData;
    for (name, fits) in [
        (
            map::SETTINGS,
            is::<Array<Own<'_>, Settings>>(ebpf, map::SETTINGS),
        ),
        (map::PORTS, is::<Array<Own<'_>, Port>>(ebpf, map::PORTS)),
        (map::FLOWS, is::<Array<Own<'_>, Flow>>(ebpf, map::FLOWS)),
        (
            map::STATS,
            is::<PerCpuArray<Own<'_>, FlowStats>>(ebpf, map::STATS),
        ),
        (
            map::REASONS,
            is::<PerCpuArray<Own<'_>, u64>>(ebpf, map::REASONS),
        ),
        (map::EGRESS, is::<DevMapHash<Own<'_>>>(ebpf, map::EGRESS)),
    ] {
        if !fits {
            return Err(KernelError::Object {
                why: format!("its map {name} is not that of ABI {ABI}"),
            });
        }
    }
    Ok(())
}

fn fill(ebpf: &mut Ebpf, table: &Table) -> Result<(), KernelError> {
    let error = |name| move |e| KernelError::map(name, e);
    array(ebpf, map::SETTINGS)?
        .set(0, table.settings, 0)
        .map_err(error(map::SETTINGS))?;
    for (slot, flow) in (1..).zip(&table.flows) {
        array(ebpf, map::FLOWS)?
            .set(slot, *flow, 0)
            .map_err(error(map::FLOWS))?;
        array(ebpf, map::PORTS)?
            .set(
                table.index(flow.local),
                table.port(table.index(flow.local)),
                0,
            )
            .map_err(error(map::PORTS))?;
    }
    let mut egress: DevMapHash<&mut MapData> = ebpf
        .map_mut(map::EGRESS)
        .and_then(|map| map.try_into().ok())
        .ok_or_else(|| failed("no map EGRESS".to_owned()))?;
    egress
        .insert(ELSEWHERE, LOOPBACK, None, 0)
        .map_err(|e| KernelError::map(map::EGRESS, e))
}

fn array<'a, V: aya::Pod>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<Array<&'a mut MapData, V>, KernelError> {
    ebpf.map_mut(name)
        .and_then(|map| map.try_into().ok())
        .ok_or_else(|| failed(format!("no map {name}")))
}

/// What the program does with a packet: its action, and the packet afterwards.
fn run(ebpf: &mut Ebpf, frame: &[u8]) -> Result<(u32, Vec<u8>), KernelError> {
    let program: &Xdp = ebpf
        .program(map::PROGRAM)
        .and_then(|program| program.try_into().ok())
        .ok_or_else(|| failed("no program".to_owned()))?;
    let mut out = vec![0; FRAME_BYTES_MAX];
    let result = program
        .test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ..TestRunOptions::default()
        })
        .map_err(KernelError::test_run)?;
    out.truncate(usize::try_from(result.data_size_out).unwrap_or_default());
    Ok((result.return_value, out))
}

fn check_counts(
    ebpf: &mut Ebpf,
    expected: &[u64; Reason::COUNT as usize],
) -> Result<(), KernelError> {
    let reasons: PerCpuArray<&mut MapData, u64> = ebpf
        .map_mut(map::REASONS)
        .and_then(|map| map.try_into().ok())
        .ok_or_else(|| failed("no map REASONS".to_owned()))?;
    for (reason, expected) in Reason::ALL.iter().zip(expected) {
        let cpus = reasons
            .get(&(*reason as u32), 0)
            .map_err(|e| KernelError::map(map::REASONS, e))?;
        let counted: u64 = cpus.iter().sum();
        if counted != *expected {
            let name = reason.name();
            return Err(failed(format!(
                "{counted} packets were counted as {name}, not {expected}"
            )));
        }
    }
    Ok(())
}

fn failed(why: String) -> KernelError {
    KernelError::SelfTest { why }
}

/// The maps on this side. The flow of slot n is the nth.
struct Table {
    settings: Settings,
    flows: Vec<Flow>,
}

impl Table {
    fn new() -> Self {
        let flow = |number: u32, ends: Ends, egress, tos| {
            let [peer, local, source, target] = ends.map(endpoint);
            let rewrite = Rewrite {
                peer,
                source,
                target,
                tos,
                flags: Flags::NONE,
            };
            let hop = Hop {
                eth_src: Mac::from([2, 0x70, 1, 2, 3, 4]),
                eth_dst: Mac::from([2, 0x70, 5, 6, 7, 8]),
                egress,
                mtu: 1_500,
            };
            let mut flow = Flow::compile(local, rewrite, hop);
            flow.stats = number;
            flow.generation = number;
            flow
        };
        let flows = vec![
            flow(1, V4, ELSEWHERE, None),
            flow(2, V4_BACK, LOOPBACK, Some(0xb8)),
            flow(3, V6, ELSEWHERE, Some(0x88)),
            flow(4, V6_BACK, LOOPBACK, None),
            flow(5, TAGGED, ELSEWHERE, None).arriving(LOOPBACK, VLAN),
            flow(6, TAGGED_BACK, LOOPBACK, None).leaving(VLAN),
        ];
        let locals = [V4[1], V4_BACK[1], V6[1], V6_BACK[1]].map(|at| endpoint(at).ip);
        let settings = Settings::new(&locals);
        Self { settings, flows }
    }

    fn index(&self, at: Endpoint) -> u32 {
        port_index(self.settings.slot(at.ip), at.port)
    }

    /// What `forward` does with a packet, as the program says it (linux/bpf.h, `xdp_action`).
    fn run(&self, frame: &[u8]) -> (u32, Reason, Vec<u8>) {
        let mut bytes = [&[0; HEADROOM], frame].concat();
        let mut buffer = Buffer::new(&mut bytes, HEADROOM);
        let verdict = forward(&mut buffer, LOOPBACK, &self.settings, self, NOW_NS);
        let action = match verdict.action {
            Action::Drop => 1,
            Action::Pass => 2,
            Action::Transmit => 3,
            Action::Redirect => 4,
        };
        (action, verdict.reason, buffer.frame().to_vec())
    }
}

impl Flows for Table {
    fn port(&self, index: u32) -> Port {
        let slots = (1..).zip(&self.flows);
        let mut found = slots.filter(|(_, flow)| self.index(flow.local) == index);
        let none = Port {
            flow: SLOT_NONE,
            stats: SLOT_NONE,
        };
        found.next().map_or(none, |(slot, flow)| Port {
            flow: slot,
            stats: flow.stats,
        })
    }

    fn flow(&self, port: Port) -> Option<&Flow> {
        self.flows
            .get(usize::try_from(port.flow).ok()?.checked_sub(1)?)
    }

    /// Nobody is.
    fn is_banned(&self, _: Ip) -> bool {
        false
    }

    /// No flow here asks.
    fn show_stranger(&self, _: &Flow, _: &Settings, _: u64) -> bool {
        false
    }

    fn stranger(&self, _: &Flow, _: Endpoint, _: Option<&Rtp>, _: u64) {}

    /// Nor for this.
    fn measure(&self, _: &Flow, _: &Rtp, _: u64) -> EventKind {
        EventKind::NONE
    }
}

/// Peer, our address it sends to, our address it is sent from, target.
type Ends = [&'static str; 4];

const V4: Ends = [
    "192.0.2.10:4000",
    "198.51.100.1:20000",
    "203.0.113.1:30002",
    "203.0.113.77:5004",
];
const V4_BACK: Ends = [V4[3], V4[2], V4[1], V4[0]];
/// In a VLAN, at the ports next to those.
const TAGGED: Ends = [
    "192.0.2.10:4002",
    "198.51.100.1:20002",
    "203.0.113.1:30004",
    "203.0.113.77:5006",
];
const TAGGED_BACK: Ends = [TAGGED[3], TAGGED[2], TAGGED[1], TAGGED[0]];
const VLAN: u16 = 100;
const V6: Ends = [
    "[2001:db8:a::10]:4000",
    "[2001:db8:a::1]:20000",
    "[2001:db8:b::1]:30002",
    "[2001:db8:b::77]:5004",
];
const V6_BACK: Ends = [V6[3], V6[2], V6[1], V6[0]];

fn endpoint(text: &str) -> Endpoint {
    let nowhere = SocketAddr::from(([0; 4], 0));
    text.parse::<SocketAddr>().unwrap_or(nowhere).into()
}

/// An RTP packet of twelve bytes' header and some voice (RFC 3550 §5.1).
const RTP: [u8; 20] = *b"\x80\x00\x12\x34\0\0\x10\0\xde\xad\xbe\xefG711data";
/// A STUN binding request (RFC 8489 §5).
const STUN: [u8; 20] = *b"\x00\x01\x00\x00\x21\x12\xa4\x42transaction!";

/// Every way a packet can take, with its name.
fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let mut frames = Vec::new();
    for (family, ends) in [("IPv4", [V4, V4_BACK]), ("IPv6", [V6, V6_BACK])] {
        for [peer, local, ..] in ends {
            let frame = |payload: &[u8]| datagram(peer, local, 64, payload);
            let changed = |at: usize, to: u8| {
                let mut frame = frame(&RTP);
                if let Some(byte) = frame.get_mut(at) {
                    *byte = to;
                }
                frame
            };
            let protocol_at = if family == "IPv4" { 23 } else { 20 };
            let all = [
                frame(&RTP),
                frame(&[&RTP[..], &[7; 1_200]].concat()),
                frame(&STUN),
                frame(&[]),
                datagram(local, local, 64, &RTP),
                datagram(peer, peer, 64, &RTP),
                datagram(peer, local, 1, &RTP),
                frame(&[&RTP[..], &[7; 1_500]].concat()),
                datagram(peer, local, 2, &RTP),
                changed(protocol_at, 6),
                changed(14, 0x55),
                changed(12, 0x81),
                frame(&RTP).drain(..30).collect(),
            ];
            let names = [
                "media",
                "long media",
                "STUN",
                "nothing",
                "a stranger",
                "another port",
                "a spent hop limit",
                "more than the MTU",
                "two hops left",
                "TCP",
                "another version",
                "another protocol",
                "half a header",
            ];
            frames.extend(std::iter::zip(names, all));
        }
    }
    frames.extend(odd_frames());
    frames
}

/// What there is one of.
fn odd_frames() -> [(&'static str, Vec<u8>); 7] {
    let mut fragment = datagram(V4[0], V4[1], 64, &RTP);
    let tagged = |kind: u8, vlan: u16, ends: Ends| {
        let mut frame = datagram(ends[0], ends[1], 64, &RTP);
        let [high, low] = vlan.to_be_bytes();
        frame.splice(12..12, [kind, 0, high, low]);
        frame
    };
    if let Some(more) = fragment.get_mut(20) {
        *more = 0x20;
    }
    let mut options = datagram(V6[0], V6[1], 64, &RTP);
    if let Some(next) = options.get_mut(20) {
        *next = 0;
    }
    [
        ("a fragment", fragment),
        ("a tag of another kind", tagged(0x91, VLAN, V4)),
        ("a tag, popped", tagged(0x81, VLAN, TAGGED)),
        ("another VLAN", tagged(0x81, VLAN + 1, TAGGED)),
        (
            "no tag, pushed",
            datagram(TAGGED_BACK[0], TAGGED_BACK[1], 64, &RTP),
        ),
        ("a tag, translated", tagged(0x81, VLAN + 2, TAGGED_BACK)),
        ("an extension header", options),
    ]
}

/// An Ethernet frame with a datagram whose checksums are right.
fn datagram(from: &str, to: &str, hops: u8, payload: &[u8]) -> Vec<u8> {
    let (from, to) = (endpoint(from), endpoint(to));
    let bytes = u16::try_from(payload.len() + 8).unwrap_or(u16::MAX);
    let mut udp = Vec::new();
    for half in [from.port.get(), to.port.get(), bytes, 0] {
        udp.extend(half.to_be_bytes());
    }
    udp.extend(payload);
    let addresses = [from, to].map(|end| match std::net::IpAddr::from(end.ip) {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    });
    let addresses = addresses.concat();
    let pseudo = [&addresses[..], &[0, 17], &bytes.to_be_bytes(), &udp].concat();
    udp.splice(6..8, checksum(&pseudo).to_be_bytes());
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    if from.ip.is_v4() {
        let total = bytes.saturating_add(20).to_be_bytes();
        let start = [0x45, 0, total[0], total[1], 0, 7, 0x40, 0, hops, 17, 0, 0];
        let mut header = [&start[..], &addresses].concat();
        header.splice(10..12, checksum(&header).to_be_bytes());
        frame.extend([8, 0]);
        frame.extend(header);
    } else {
        let length = bytes.to_be_bytes();
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, length[0], length[1], 17, hops]);
        frame.extend(addresses);
    }
    frame.extend(udp);
    frame
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u64 = 0;
    for pair in bytes.chunks(2) {
        let half = [pair.first(), pair.get(1)].map(|byte| byte.copied().unwrap_or(0));
        sum += u64::from(u16::from_be_bytes(half));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The canned packets meet every verdict that needs no other set-up, and those that are sent
    /// on are good afterwards.
    #[test]
    fn canned_packets_take_every_way() {
        let table = Table::new();
        let mut seen = std::collections::BTreeSet::new();
        for (what, frame) in frames() {
            let (action, reason, bytes) = table.run(&frame);
            seen.insert(reason);
            if action < 3 {
                assert_eq!(bytes, frame, "{what}");
                continue;
            }
            assert_ne!(bytes, frame, "{what}");
            let mut bytes = bytes;
            if bytes[12] == 0x81 {
                assert_eq!(bytes[14..16], VLAN.to_be_bytes(), "{what}");
                bytes.drain(12..16);
            }
            let (udp, addresses) = if bytes[12] == 8 {
                (34, 26..34)
            } else {
                (54, 22..54)
            };
            if udp == 34 {
                assert_eq!(checksum(&bytes[14..34]), 0, "{what}");
            }
            let length = (bytes.len() - udp).to_be_bytes();
            let pseudo = [&bytes[addresses], &[0, 17], &length[6..], &bytes[udp..]].concat();
            assert_eq!(checksum(&pseudo), 0, "{what}");
        }
        let expected = [
            Reason::Forwarded,
            Reason::NotIp,
            Reason::Vlan,
            Reason::NotUdp,
            Reason::Fragment,
            Reason::Options,
            Reason::Truncated,
            Reason::NoFlow,
            Reason::WrongSource,
            Reason::NotRtp,
            Reason::HopLimit,
            Reason::TooBig,
            Reason::WrongInterface,
        ];
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected);
    }
}
