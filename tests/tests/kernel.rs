//! The program in the kernel against `forward` on the host: the same frames, the same verdicts,
//! bytes and counters. Needs root: it loads a program and makes a network namespace.

#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "kernel/random.rs"]
mod random;
#[path = "kernel/wire.rs"]
mod wire;

use std::process::Command;
use std::thread;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, MapData, PerCpuArray, xdp::DevMapHash};
use aya::programs::xdp::XdpMode;
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use common::flow::{Endpoint, Flags, Flow};
use common::forward::{Action, Reason, Verdict};
use common::map::{self, BANNED, Guarded, HEARD, Port, Settings, ban_prefix, port_index};
use common::media::Media;
use common::stats::FlowStats;
use common::wire::Mac;
use towpath_tests::frame::{read, rtp};
use towpath_tests::table::Table;
use towpath_tests::{clock, process};

use self::random::{Random, datagram, flows};

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

/// Threads that send them, each with programs and maps of its own.
const THREADS: u32 = 2;

#[test]
fn host_and_kernel_agree() {
    let seed = std::env::var("TOWPATH_DIFFERENTIAL_SEED");
    let seed: u64 = seed.map_or(1, |seed| seed.parse().expect("the seed is a number"));
    let frames = match std::env::var("TOWPATH_DIFFERENTIAL_FRAMES") {
        Ok(count) => count
            .parse()
            .expect("TOWPATH_DIFFERENTIAL_FRAMES is a number"),
        Err(_) => FRAMES_DEFAULT,
    };
    let began = clock::now();
    let agree = |thread: u32| agree(seed << 8 | u64::from(thread), frames / THREADS);
    let seen = thread::scope(|scope| {
        let threads = (0..THREADS).map(|thread| scope.spawn(move || agree(thread)));
        let threads: Vec<_> = threads.collect();
        let seen = threads.into_iter().map(|thread| thread.join().unwrap());
        seen.reduce(|a, b| std::array::from_fn(|i| a[i] + b[i]))
    });
    let took = began.elapsed().as_secs_f64();
    println!("{frames} frames, {:.0} a second", f64::from(frames) / took);
    for reason in Reason::ALL {
        // A test run leaves room.
        let wanted = reason != Reason::NoRoom;
        assert_eq!(seen.unwrap()[reason as usize] > 0, wanted, "{reason:?}");
    }
}

/// Sends generated frames both ways; how many came to what.
fn agree(seed: u64, frames: u32) -> [u64; Reason::COUNT as usize] {
    let mut both = Both::new();
    let mut random = Random::new(seed);
    both.install(&flows(&mut random, both.egress));
    let flows: Vec<Flow> = both.table.flows.values().copied().collect();
    let mut sent = 0;
    for index in 0..frames {
        let frame = random.frame(&flows, index);
        sent += u32::from(both.check(&frame));
    }
    both.check_counters();
    assert!(sent > frames / 8, "only {sent} of {frames} were sent on");
    both.table.reasons
}

/// One whole frame of each family, cut to every length.
#[test]
fn host_and_kernel_agree_at_every_length() {
    let mut both = Both::new();
    let mut random = Random::new(2);
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
    both.tick_ns = Some(4_000_000);
    let mut random = Random::new(3);
    let flow = |flags| {
        let mut flow = flows(&mut random.clone(), both.egress).remove(0);
        flow.flags = flags;
        flow
    };
    let (silent, shown) = (flow(Flags::NONE), flow(Flags::SHOW_STRANGERS));
    random.next();
    for (flow, expected) in [(silent, vec![1, 1, 1]), (shown, vec![2, 1, 1])] {
        both.install(&[flow.arriving(0, 0)]);
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
    let mut random = Random::new(4);
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
    let mut found = format!("verified instructions {verified}\ntranslated bytes {bytes}\n");
    for (function, bytes) in stacks() {
        found += &format!("stack of {function} {bytes}\n");
    }
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/relay.budget");
    if std::env::var_os("TOWPATH_BUDGET").is_some_and(|what| what == "write") {
        std::fs::write(&file, &found).unwrap();
    }
    let recorded = std::fs::read_to_string(&file).unwrap();
    let number = |line: &str| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
    assert_eq!(found.lines().count(), recorded.lines().count(), "{found}");
    for (now, then) in found.lines().zip(recorded.lines()) {
        let name = |line: &str| line.rsplit_once(' ').unwrap().0.to_owned();
        assert_eq!(name(now), name(then));
        assert!(
            number(now) * 10 <= number(then) * 11,
            "{now}; recorded: {then}"
        );
    }
}

/// How deep each function of the program writes or reads below its frame pointer, as the verifier
/// counts it: 512 bytes are all a chain of calls may take together.
fn stacks() -> Vec<(String, u32)> {
    const FRAME: u8 = 10;
    /// `MOV` and `ADD` of 64 bits.
    const COPY: u8 = 0xbf;
    const ADD: u8 = 0x07;
    let object = std::fs::read(process::object().unwrap()).unwrap();
    let object = aya_obj::Object::parse(&object).unwrap();
    let deepest = |function: &aya_obj::Function| {
        let code = &function.instructions;
        let direct = code.iter().filter_map(|insn| {
            let class = insn.code & 7;
            let base = match class {
                1 => insn.src_reg(),
                2 | 3 => insn.dst_reg(),
                _ => return None,
            };
            (base == FRAME).then_some(i32::from(insn.off))
        });
        let copied = code.windows(2).filter_map(|pair| {
            let from_frame = pair[0].code == COPY && pair[0].src_reg() == FRAME;
            let same = pair[1].code == ADD && pair[1].dst_reg() == pair[0].dst_reg();
            (from_frame && same).then_some(pair[1].imm)
        });
        direct
            .chain(copied)
            .min()
            .unwrap_or(0)
            .min(0)
            .unsigned_abs()
    };
    let functions = object.functions.values();
    let mut all: Vec<_> = functions
        .map(|function| (function.name.clone(), deepest(function)))
        .filter(|(_, bytes)| *bytes > 0)
        .collect();
    all.sort();
    all
}

/// The program in the kernel and the table on the host, holding the same.
struct Both {
    ebpf: Ebpf,
    table: Table,
    /// Where time passes.
    tick_ns: Option<u64>,
    /// Another interface than the frames come in by.
    egress: u32,
}

impl Both {
    fn new() -> Self {
        let egress = own_network();
        let mut both = Self::beside(egress);
        // Attached, or the kernel would make ready anew for every run.
        both.attach("out");
        both
    }

    /// In the network namespace the thread is in, attached to nothing, with a way out.
    fn beside(egress: u32) -> Self {
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
            tick_ns: None,
            egress,
        }
    }

    /// Until it is dropped.
    fn attach(&mut self, interface: &str) {
        let program = self.ebpf.program_mut(map::PROGRAM).unwrap();
        let program: &mut Xdp = program.try_into().unwrap();
        program.attach(interface, XdpMode::Driver).unwrap();
    }

    /// Flows at slots 1…, and the addresses they are at.
    fn install(&mut self, flows: &[Flow]) {
        let mut locals: Vec<_> = flows.iter().map(|f| f.local.ip).collect();
        locals.dedup();
        self.table.settings = Settings {
            // The kernel's time stands still as the host's does.
            tick_ns: 0,
            silence_ns: u64::MAX,
            stranger_flow_ns: u64::MAX,
            stranger_all_ns: 0,
            ..Settings::new(&locals)
        };
        if let Some(tick_ns) = self.tick_ns {
            self.table.settings = self.table.settings.with_tick(tick_ns);
        }
        self.ban(flows);
        for (slot, flow) in (1..).zip(flows) {
            let address = self.table.settings.slot(flow.local.ip);
            self.table.ports.insert(
                port_index(address, flow.local.port),
                Port {
                    flow: slot,
                    stats: flow.stats,
                },
            );
            self.table.flows.insert(slot, *flow);
        }
        let settings = self.table.settings;
        self.array::<Settings>(map::SETTINGS)
            .set(0, settings, 0)
            .unwrap();
        for (slot, flow) in self.table.flows.clone() {
            self.array::<Flow>(map::FLOWS).set(slot, flow, 0).unwrap();
        }
        for (index, port) in self.table.ports.clone() {
            self.array::<Port>(map::PORTS).set(index, port, 0).unwrap();
        }
    }

    /// A quarter of the peers are banned, one by one or by a prefix; some prefixes are heard within
    /// a banned one. Nothing is where there is but one flow.
    fn ban(&mut self, flows: &[Flow]) {
        for flow in flows.iter().step_by(4).skip(1) {
            let v4 = flow.peer.ip.is_v4();
            let bits = [8, 13, 24, 32][flow.stats as usize / 4 % 4];
            let mut words = flow.peer.ip.0;
            let all = ban_prefix(v4, bits);
            for (word, first) in words.iter_mut().zip([0, 32, 64, 96]) {
                let kept = all.saturating_sub(first).min(32);
                let mask = u32::MAX.checked_shl(32 - kept).unwrap_or_default();
                *word &= mask.to_be();
            }
            self.table.bans.insert((all, words), BANNED);
            let inside = (128, flow.source.ip.0);
            self.table.bans.entry(inside).or_insert(HEARD);
        }
        let (_, bans) = self
            .ebpf
            .maps_mut()
            .find(|(name, _)| *name == map::BANS)
            .unwrap();
        let mut bans: LpmTrie<_, [u32; 4], u32> = bans.try_into().unwrap();
        for ((bits, words), word) in &self.table.bans {
            bans.insert(&Key::new(*bits, *words), word, 0).unwrap();
        }
        let settings = &mut self.table.settings;
        settings.bans = self.table.bans.len() as u32;
        settings.guarded_used = 2;
        settings.guarded[0] = Guarded {
            first: 5060,
            last: 5061,
        };
        settings.guarded[1] = Guarded {
            first: 20_000,
            last: 49_999,
        };
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
        let marks = before.tag.unwrap_or(0) & 0xf000;
        let vlan = flow.vlan_out.get();
        assert_eq!(after.tag, (vlan != 0).then_some(marks | vlan));
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
            // The kernel reads a clock of its own.
            let timeless = |mut media: Media| {
                media.arrival_ns = 0;
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
