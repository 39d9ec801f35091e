//! The program in the kernel against `forward` on the host: the same frames, the same verdicts,
//! bytes and counters. Needs root: it loads a program and makes a network namespace.

#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;

use aya::maps::{Array, MapData, PerCpuArray, xdp::DevMapHash};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use common::flow::{Endpoint, Flags, Flow, Hop, Rewrite};
use common::forward::{Action, Reason, Verdict};
use common::map::{self, Settings, port_index};
use common::media::Media;
use common::stats::FlowStats;
use common::wire::Mac;
use towpath_tests::frame::{Checksum, Datagram, read, rtcp, rtp, stun};
use towpath_tests::process;
use towpath_tests::table::Table;

/// Frames the differential test sends; `TOWPATH_DIFFERENTIAL_FRAMES` changes it, and
/// `TOWPATH_DIFFERENTIAL_SEED` which.
const FRAMES_DEFAULT: u32 = 200_000;
const FLOWS: u32 = 64;
/// A test run's frames come in by the loopback interface.
const INGRESS: u32 = 1;
/// The kernel refuses to test-run frames shorter than an Ethernet header.
const FRAME_BYTES_MIN: usize = 14;
/// Room for a frame in the kernel's one page.
const FRAME_BYTES_MAX: usize = 3000;
const NOW_NS: u64 = 0;
/// A timer tick, near enough: budgets here never come back.
const TICK_NS: u64 = 4_000_000;

#[test]
fn host_and_kernel_agree() {
    let mut both = Both::new();
    let seed = std::env::var("TOWPATH_DIFFERENTIAL_SEED");
    let seed = seed.map_or(1, |seed| seed.parse().expect("the seed is a number"));
    let mut random = Random(0x7091_a7b3_5eed_0000 ^ seed);
    both.install(&flows(&mut random, both.egress));
    let frames = match std::env::var("TOWPATH_DIFFERENTIAL_FRAMES") {
        Ok(count) => count
            .parse()
            .expect("TOWPATH_DIFFERENTIAL_FRAMES is a number"),
        Err(_) => FRAMES_DEFAULT,
    };
    let flows: Vec<Flow> = both.table.flows.values().copied().collect();
    let mut sent = 0;
    for index in 0..frames {
        let frame = random.frame(&flows, index);
        sent += u32::from(both.check(&frame));
    }
    both.check_counters();
    for reason in Reason::ALL {
        assert!(
            both.table.reasons[reason as usize] > 0,
            "no frame came to {reason:?}"
        );
    }
    assert!(sent > frames / 8, "only {sent} of {frames} were sent on");
}

/// One whole frame of each family, cut to every length.
#[test]
fn host_and_kernel_agree_at_every_length() {
    let mut both = Both::new();
    let mut random = Random(0x7091_a7b3_5eed_0002);
    both.install(&flows(&mut random, both.egress));
    for flow in both.table.flows.clone().into_values() {
        let frame = datagram(&flow, rtp(9, b"media")).build();
        for bytes in FRAME_BYTES_MIN..=frame.len() {
            both.check(&frame[..bytes]);
        }
    }
    both.check_counters();
}

/// A stranger is shown once for each flow when the budget never comes back, and never without the
/// flag: the time stamps are the kernel's own.
#[test]
fn strangers_are_shown_within_the_budget() {
    let mut both = Both::new();
    let mut random = Random(0x7091_a7b3_5eed_0003);
    let flow = |flags| {
        let mut flow = flows(&mut random.clone(), both.egress).remove(0);
        flow.flags = flags;
        flow
    };
    let (silent, shown) = (flow(Flags::NONE), flow(Flags::SHOW_STRANGERS));
    random.next();
    for (flow, expected) in [(silent, vec![1, 1, 1]), (shown, vec![2, 1, 1])] {
        both.install(&[flow]);
        let mut stranger = datagram(&flow, rtp(1, b"media"));
        stranger.from.set_port(stranger.from.port() ^ 1);
        let frame = stranger.build();
        let actions: Vec<u32> = (0..3).map(|_| both.run(&frame).0).collect();
        assert_eq!(actions, expected, "XDP_DROP is 1, XDP_PASS is 2");
    }
}

/// A frame the size of a page and what follows the first packet: the event, once.
#[test]
fn a_first_packet_is_reported_once() {
    let mut both = Both::new();
    let mut random = Random(0x7091_a7b3_5eed_0004);
    both.install(&flows(&mut random, both.egress));
    let mut events =
        aya::maps::RingBuf::try_from(both.ebpf.take_map(map::EVENTS).unwrap()).unwrap();
    let flow = *both
        .table
        .flows
        .values()
        .find(|f| !f.flags.has(Flags::USERSPACE) && f.egress == both.egress)
        .unwrap();
    for sequence in 0..3 {
        assert!(both.check(&datagram(&flow, rtp(sequence, b"media")).build()));
    }
    let event = events.next().expect("an event");
    let (stats, kind) = (
        u32::from_ne_bytes(event[8..12].try_into().unwrap()),
        event[16],
    );
    assert_eq!((stats, kind), (flow.stats, 1));
    drop(event);
    // Each CPU may report its own first packet, and the thread may have moved once.
    let more = std::iter::from_fn(|| events.next().map(drop)).count();
    assert!(more < 3, "{more} more events");
}

/// What the verifier goes through and what comes out of it, as it was when somebody last looked: a
/// tenth more fails. The file is written anew with `TOWPATH_BUDGET=write`.
#[test]
fn the_program_stays_within_its_budget() {
    let mut both = Both::new();
    let program: &mut Xdp = both
        .ebpf
        .program_mut(map::PROGRAM)
        .unwrap()
        .try_into()
        .unwrap();
    let info = program.info().unwrap();
    let verified = info.verified_instruction_count().expect("Linux 5.16");
    let bytes = info.size_translated().expect("the size");
    let found = format!("verified instructions {verified}\ntranslated bytes {bytes}\n");
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/relay.budget");
    if std::env::var_os("TOWPATH_BUDGET").is_some_and(|what| what == "write") {
        std::fs::write(&file, &found).unwrap();
    }
    let recorded = std::fs::read_to_string(&file).unwrap();
    let number = |line: &str| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
    assert_eq!(recorded.lines().count(), 2);
    for (now, then) in found.lines().zip(recorded.lines()) {
        assert!(
            number(now) * 10 <= number(then) * 11,
            "{now}; recorded: {then}"
        );
    }
}

/// The program in the kernel and the table on the host, holding the same.
struct Both {
    ebpf: Ebpf,
    table: Table,
    /// Another interface than the frames come in by.
    egress: u32,
}

impl Both {
    fn new() -> Self {
        let egress = own_network();
        let object = std::fs::read(process::object().unwrap()).unwrap();
        let mut ebpf = EbpfLoader::new()
            .map_max_entries(map::FLOWS, FLOWS + 1)
            .map_max_entries(map::STATS, FLOWS + 1)
            .map_max_entries(map::MEDIA, FLOWS + 1)
            .load(&object)
            .unwrap_or_else(|e| panic!("the object does not load: {e:?}; needs CAP_BPF"));
        let program: &mut Xdp = ebpf.program_mut(map::PROGRAM).unwrap().try_into().unwrap();
        program
            .load()
            .unwrap_or_else(|e| panic!("the verifier refuses the program: {e:?}"));
        let mut devices = DevMapHash::try_from(ebpf.map_mut(map::EGRESS).unwrap()).unwrap();
        devices.insert(egress, egress, None, 0).unwrap();
        let mut table = Table::default();
        table.egress.insert(egress);
        Self {
            ebpf,
            table,
            egress,
        }
    }

    /// Flows at slots 1…, and the addresses they are at.
    fn install(&mut self, flows: &[Flow]) {
        let mut locals: Vec<_> = flows.iter().map(|f| f.local.ip).collect();
        locals.dedup();
        self.table.settings = Settings::new(&locals).with_tick(TICK_NS);
        self.table.settings.stranger_flow_ns = u64::MAX;
        self.table.settings.stranger_all_ns = 0;
        self.table.settings.silence_ns = u64::MAX;
        for (slot, flow) in (1..).zip(flows) {
            let address = self.table.settings.slot(flow.local.ip);
            self.table
                .ports
                .insert(port_index(address, flow.local.port), slot);
            self.table.flows.insert(slot, *flow);
        }
        let settings = self.table.settings;
        self.array::<Settings>(map::SETTINGS)
            .set(0, settings, 0)
            .unwrap();
        for (slot, flow) in self.table.flows.clone() {
            self.array::<Flow>(map::FLOWS).set(slot, flow, 0).unwrap();
        }
        for (index, slot) in self.table.ports.clone() {
            self.array::<u32>(map::PORTS).set(index, slot, 0).unwrap();
        }
    }

    fn array<V: aya::Pod>(&mut self, name: &str) -> Array<&mut MapData, V> {
        self.ebpf.map_mut(name).unwrap().try_into().unwrap()
    }

    /// The kernel's answer: action and bytes.
    fn run(&mut self, frame: &[u8]) -> (u32, Vec<u8>) {
        let program: &mut Xdp = self
            .ebpf
            .program_mut(map::PROGRAM)
            .unwrap()
            .try_into()
            .unwrap();
        let mut out = vec![0; FRAME_BYTES_MAX];
        let result = program
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut out),
                ..TestRunOptions::default()
            })
            .unwrap();
        out.truncate(result.data_size_out as usize);
        (result.return_value, out)
    }

    /// Compares the two for one frame, and what is sent on with the oracle; true if it is.
    fn check(&mut self, frame: &[u8]) -> bool {
        let (action, bytes) = self.run(frame);
        let mut expected = frame.to_vec();
        let verdict = self.table.run(&mut expected, INGRESS, NOW_NS);
        assert_eq!(action, code(verdict.action), "{verdict:?} for {frame:02x?}");
        assert_eq!(bytes, expected, "{verdict:?} for {frame:02x?}");
        let sent = verdict.reason == Reason::Forwarded;
        if sent {
            self.check_sent(frame, &bytes, verdict);
        }
        sent
    }

    /// A good frame leaves good, and says what its flow wants; a bad one does not leave good.
    fn check_sent(&self, frame: &[u8], bytes: &[u8], verdict: Verdict) {
        let (before, after) = (read(frame), read(bytes));
        assert_eq!(before.is_ok(), after.is_ok(), "{before:?} became {after:?}");
        let (Ok(before), Ok(after)) = (before, after) else {
            return;
        };
        let flow = self
            .table
            .flows
            .values()
            .find(|f| f.stats == verdict.stats)
            .unwrap();
        assert_eq!(Endpoint::from(before.from), flow.peer);
        assert_eq!(Endpoint::from(after.from), flow.source);
        assert_eq!(Endpoint::from(after.to), flow.target);
        assert_eq!(Mac::from(after.eth_src), flow.eth_src);
        assert_eq!(Mac::from(after.eth_dst), flow.eth_dst);
        let hops = if flow.flags.has(Flags::HOPS) {
            flow.hops
        } else {
            before.hops - 1
        };
        assert_eq!(after.hops, hops);
        let tos = if flow.flags.has(Flags::DSCP) {
            flow.tos & 0xfc | before.tos & 3
        } else {
            before.tos
        };
        assert_eq!(after.tos, tos);
        assert_eq!(
            (after.checksum, after.payload),
            (before.checksum, before.payload)
        );
    }

    /// Every counter of the kernel, added over its CPUs, is the host's.
    fn check_counters(&self) {
        let reasons =
            PerCpuArray::<_, u64>::try_from(self.ebpf.map(map::REASONS).unwrap()).unwrap();
        for reason in Reason::ALL {
            let kernel: u64 = reasons.get(&(reason as u32), 0).unwrap().iter().sum();
            assert_eq!(kernel, self.table.reasons[reason as usize], "{reason:?}");
        }
        let stats =
            PerCpuArray::<_, FlowStats>::try_from(self.ebpf.map(map::STATS).unwrap()).unwrap();
        let media = Array::<_, Media>::try_from(self.ebpf.map(map::MEDIA).unwrap()).unwrap();
        for flow in self.table.flows.values() {
            let kernel = stats.get(&flow.stats, 0).unwrap();
            let host = self.table.stats(flow.stats);
            let sum = |of: fn(&FlowStats) -> u64| kernel.iter().map(of).sum::<u64>();
            assert_eq!(sum(|s| s.packets), host.packets);
            assert_eq!(sum(|s| s.bytes), host.bytes);
            assert_eq!(sum(|s| s.strangers), host.strangers);
            assert_eq!(sum(|s| s.punted), host.punted);
            // The kernel has clocks of its own.
            let timeless = |mut media: Media| {
                (media.arrival_ns, media.jitter) = (0, 0);
                media
            };
            let kernel_media = media.get(&flow.stats, 0).unwrap();
            assert_eq!(
                timeless(kernel_media),
                timeless(self.table.media(flow.stats))
            );
            for cpu in kernel.iter().filter(|s| **s != FlowStats::default()) {
                assert_eq!(cpu.generation, flow.generation);
            }
        }
    }
}

fn code(action: Action) -> u32 {
    match action {
        Action::Drop => 1,
        Action::Pass => 2,
        Action::Transmit => 3,
        Action::Redirect => 4,
    }
}

/// Gives this thread a network namespace of its own with one more interface, and says its index.
fn own_network() -> u32 {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
        .unwrap_or_else(|e| panic!("cannot make a network namespace ({e}); run as root"));
    let made = Command::new("ip")
        .args("link add out type veth peer name outside".split(' '))
        .status();
    assert!(
        made.expect("iproute2 is installed").success(),
        "cannot add a veth pair"
    );
    nix::net::if_::if_nametoindex("out").unwrap()
}

/// Flows of both families at four addresses, some of every kind.
fn flows(random: &mut Random, egress: u32) -> Vec<Flow> {
    let locals: [IpAddr; 4] = std::array::from_fn(|i| random.ip(i % 2 == 1));
    let mut at = BTreeMap::new();
    while at.len() < FLOWS as usize {
        let local = locals[at.len() * locals.len() / FLOWS as usize];
        let v6 = local.is_ipv6();
        let local = SocketAddr::new(local, random.port());
        let rewrite = Rewrite {
            peer: SocketAddr::new(random.ip(v6), random.port()).into(),
            source: SocketAddr::new(random.ip(v6), random.port()).into(),
            target: SocketAddr::new(random.ip(v6), random.port()).into(),
            tos: random.one_in(2).then(|| random.byte()),
            flags: if random.one_in(16) {
                Flags::USERSPACE
            } else {
                Flags::NONE
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
        flow.stats = at.len() as u32 + 1;
        flow.generation = random.next() as u32;
        at.insert(at.len(), flow);
    }
    at.into_values().collect()
}

fn datagram(flow: &Flow, payload: Vec<u8>) -> Datagram {
    Datagram::new(flow.peer.into(), flow.local.into(), payload)
}

/// SplitMix64: reproducible, and all a test needs.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
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
    fn frame(&mut self, flows: &[Flow], index: u32) -> Vec<u8> {
        let flow = &flows[self.below(flows.len() as u64) as usize];
        let mut datagram = datagram(flow, self.payload(index as u16));
        datagram.tos = self.byte();
        datagram.hops = if self.one_in(12) {
            self.below(3) as u8
        } else {
            self.byte()
        };
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
        match self.below(24) {
            0 => drop(frame.splice(12..12, [0x81, 0x00, 0x00, 0x07])),
            1 => frame.truncate(FRAME_BYTES_MIN + self.below(frame.len() as u64 - 13) as usize),
            2 => frame.extend([0; 18]),
            3 => frame[14] = self.byte(), // version, IPv4 header length
            4 => frame[20] = [0, 44, 60, 0x20, 0x1f][self.below(5) as usize],
            5 => frame[23] = self.byte(), // IPv4 protocol
            6 => frame[17] = self.byte(), // IPv4 total length
            7 => {
                let udp = if flow.local.ip.is_v4() { 34 } else { 54 };
                frame[udp + 4 + self.below(2) as usize] = self.byte(); // UDP length
            }
            8 => frame[12..14].copy_from_slice(&[0x08, 0x06]),
            9 | 10 => {
                let at = self.below(frame.len() as u64) as usize;
                frame[at] ^= 1 << self.below(8);
            }
            _ => {}
        }
        frame
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
