//! Where every column is measured: three hosts in a row, the middle one forwards.
//!
//! ```text
//! source a1 ── a0 relay b0 ── b1 sink
//! ```

use std::path::Path as File;
use std::time::Duration;

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::maps::{Array, PerCpuArray, xdp::DevMap};
use aya::programs::links::FdLink;
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp, xdp::XdpMode};
use nix::net::if_::if_nametoindex;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::clock;
use crate::netns::{Namespace, stale};
use crate::packet::PacketSocket;

pub(super) const SOURCE: &str = "10.80.1.2";
pub(super) const RELAY_IN: &str = "10.80.1.1";
pub(super) const RELAY_OUT: &str = "10.80.2.1";
pub(super) const SINK: &str = "10.80.2.2";
pub(super) const SOURCE_PORT: u16 = 4000;
pub(super) const SINK_PORT: u16 = 5004;

pub(super) const MAC_A0: [u8; 6] = [0x02, 0x80, 0, 0, 0, 0xa0];
pub(super) const MAC_A1: [u8; 6] = [0x02, 0x80, 0, 0, 0, 0xa1];
pub(super) const MAC_B0: [u8; 6] = [0x02, 0x80, 0, 0, 0, 0xb0];
pub(super) const MAC_B1: [u8; 6] = [0x02, 0x80, 0, 0, 0, 0xb1];

/// What the source hands over at once; a poll takes as many.
const BATCH: u32 = 64;

/// The core everything of a column runs on.
pub(super) const CORE: usize = 1;

const DROP: u32 = 1;
const PASS: u32 = 2;

/// Three hosts, a source and a sink.
pub(super) struct Path {
    source_programs: Ebpf,
    sink_programs: Ebpf,
    _links: [FdLink; 2],
    pub(super) source: Namespace,
    pub(super) relay: Namespace,
    pub(super) sink: Namespace,
}

impl Path {
    /// Lays the links; `bench` is the object with the source and the sink.
    pub(super) fn lay(bench: &File) -> Result<Self> {
        let name = stale::unique_name();
        let [source, relay, sink] =
            ["source", "relay", "sink"].map(|host| Namespace::create(&format!("{name}-{host}")));
        let (source, relay, sink) = (source?, relay?, sink?);
        relay.veth("a0", &source, "a1")?;
        relay.veth("b0", &sink, "b1")?;
        source.veth("g0", &sink, "g1")?;
        let hex = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
        let [a0, a1, b0, b1] = [MAC_A0, MAC_A1, MAC_B0, MAC_B1].map(hex);
        source.ip(&format!(
            "link set a1 address {a1}\naddr add {SOURCE}/24 dev a1\n\
             neigh add {RELAY_IN} lladdr {a0} dev a1 nud permanent\n\
             route add default via {RELAY_IN}"
        ))?;
        relay.ip(&format!(
            "link set a0 address {a0}\nlink set b0 address {b0}\n\
             addr add {RELAY_IN}/24 dev a0\naddr add {RELAY_OUT}/24 dev b0\n\
             neigh add {SOURCE} lladdr {a1} dev a0 nud permanent\n\
             neigh add {SINK} lladdr {b1} dev b0 nud permanent"
        ))?;
        sink.ip(&format!(
            "link set b1 address {b1}\naddr add {SINK}/24 dev b1\n\
             neigh add {RELAY_OUT} lladdr {b0} dev b1 nud permanent\n\
             route add default via {RELAY_OUT}"
        ))?;
        // What comes from a program reaches an interface that polls; one with GRO does.
        relay.run("ethtool", &["-K", "a0", "gro", "on"])?;
        let (source_programs, source_link) = source.enter(|| source_programs(bench))??;
        let (sink_programs, link) = sink.enter(|| attached(bench, "sink", "b1"))??;
        let mut path = Self {
            source_programs,
            sink_programs,
            _links: [source_link, link],
            source,
            relay,
            sink,
        };
        path.sink_passes(false)?;
        Ok(path)
    }

    /// Sends so many copies of a frame, as fast as the core allows that does everything; the time
    /// it took, without that of setting up.
    pub(super) fn send(&mut self, frame: &[u8], packets: u32) -> Result<Duration> {
        let generate = generator(&mut self.source_programs, frame)?;
        self.source.enter(|| {
            pin(Pid::from_raw(0), &[CORE])?;
            let options = TestRunOptions {
                data_in: Some(frame),
                repeat: packets,
                attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
                ..TestRunOptions::default()
            };
            let sent = generate.test_run(options);
            let sent = sent.context("send live frames (Linux 5.18 or newer is needed)")?;
            Ok(sent.duration * packets)
        })?
    }

    /// Sends bursts with a time from one to the next, through a socket: live frames take longer to
    /// set up than a burst lasts. Returns false if the time was not enough.
    pub(super) fn send_paced(
        &self,
        frame: &[u8],
        packets: u32,
        bursts: u32,
        every: Duration,
    ) -> Result<bool> {
        let late = self.source.enter(|| -> Result<Duration> {
            pin(Pid::from_raw(0), &[CORE])?;
            let socket = PacketSocket::open("a1")?;
            let mut frame = frame.to_vec();
            let mut sequence: u16 = 0;
            let begin = clock::now();
            for count in 0..bursts {
                clock::wait_until(begin + every * count);
                for _ in 0..packets {
                    sequence = sequence.wrapping_add(1);
                    number(&mut frame, sequence);
                    socket.send(&frame)?;
                }
            }
            Ok(begin.elapsed().saturating_sub(every * bursts))
        })??;
        Ok(late <= every * bursts / 20)
    }

    /// Packets the sink has seen.
    pub(super) fn seen(&self) -> Result<u64> {
        let map = self.sink_programs.map("SEEN").context("no map SEEN")?;
        let seen = PerCpuArray::<_, u64>::try_from(map)?;
        Ok(seen.get(&0, 0)?.iter().sum())
    }

    /// Whether what the sink has seen goes on to its sockets.
    pub(super) fn sink_passes(&mut self, passes: bool) -> Result<()> {
        let map = self.sink_programs.map_mut("VERDICT").context("no map")?;
        let verdict = if passes { PASS } else { DROP };
        Array::<_, u32>::try_from(map)?.set(0, verdict, 0)?;
        Ok(())
    }
}

/// The program that sends this frame.
fn generator<'p>(programs: &'p mut Ebpf, frame: &[u8]) -> Result<&'p mut Xdp> {
    let head: &[u8; HEAD_BYTES] = frame.first_chunk().context("a frame of media")?;
    let mut words = [0; HEAD_BYTES / 8];
    for (word, bytes) in words.iter_mut().zip(head.as_chunks::<8>().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    let map = programs.map_mut("HEAD").context("no map HEAD")?;
    Array::<_, [u64; HEAD_BYTES / 8]>::try_from(map)?.set(0, words, 0)?;
    let program = programs.program_mut("generate");
    Ok(program.context("no program `generate`")?.try_into()?)
}

/// Headers of Ethernet, IPv4, UDP and RTP, and the first halfword of media.
const HEAD_BYTES: usize = 56;

/// Gives a frame a sequence number as `generate` does.
pub(super) fn number(frame: &mut [u8], sequence: u16) {
    for (at, halfword) in [(44, sequence), (54, !sequence)] {
        if let Some(bytes) = frame.get_mut(at..at + 2) {
            bytes.copy_from_slice(&halfword.to_be_bytes());
        }
    }
}

fn source_programs(bench: &File) -> Result<(Ebpf, FdLink)> {
    // To an interface where nothing arrives: the kernel need not be made ready for every run.
    let (mut programs, link) = attached(bench, "generate", "g0")?;
    let mut out = DevMap::try_from(programs.map_mut("OUT").context("no map OUT")?)?;
    out.set(0, if_nametoindex("a1")?, None, 0)?;
    Ok((programs, link))
}

/// A program of an object, loaded and attached to an interface of the namespace we are in.
pub(super) fn attached(object: &File, name: &str, interface: &str) -> Result<(Ebpf, FdLink)> {
    let mut programs = load(object, name)?;
    let link = attach(&mut programs, name, interface)?;
    Ok((programs, link))
}

pub(super) fn attach(programs: &mut Ebpf, name: &str, interface: &str) -> Result<FdLink> {
    let program: &mut Xdp = programs
        .program_mut(name)
        .with_context(|| format!("no program `{name}`"))?
        .try_into()?;
    let link = program.attach_to_if_index(if_nametoindex(interface)?, XdpMode::Driver)?;
    Ok(program.take_link(link)?.try_into()?)
}

pub(super) fn load(object: &File, name: &str) -> Result<Ebpf> {
    let mut programs =
        Ebpf::load_file(object).with_context(|| format!("load {}", object.display()))?;
    let program: &mut Xdp = programs
        .program_mut(name)
        .with_context(|| format!("{}: no program `{name}`", object.display()))?
        .try_into()?;
    program.load()?;
    Ok(programs)
}

/// Lets a thread run on these cores only; thread 0 is the calling one.
pub(super) fn pin(thread: Pid, cores: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core)?;
    }
    sched_setaffinity(thread, &set).context("choose a core")?;
    Ok(())
}
