//! Nanoseconds a packet costs in the program itself, by the kernel's own test runs, above a program
//! that does nothing. A run gives the program the same buffer again and again: every flow rewrites
//! its packets to the next flow's address, so that one buffer walks through all of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use common::flow::{Flags, Flow, Hop, Rewrite};
use common::map;
use common::wire::Mac;
use nix::net::if_::if_nametoindex;
use nix::unistd::Pid;

use super::path::{self, CORE, MAC_A0, MAC_A1};
use super::stand::{CLOCK_HZ, Programs, install, loaded, place, with_room};
use super::{median, quantile};
use crate::frame::{Datagram, rtp};
use crate::netns::{Namespace, stale};

/// What one number of flows costs.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub v6: bool,
    /// Whether loss and jitter are kept.
    pub measured: bool,
    pub flows: u32,
    /// Above the program that does nothing: the median, and the tenth that was disturbed least.
    pub ns: f64,
    pub ns_p10: f64,
    pub nop_ns: f64,
    /// What looking up alone costs above it: port, flow, counters. Taken of plain IPv4.
    pub floor_ns: Option<f64>,
}

/// The hop limit ends after so many.
const RUN: u32 = 250;
const PORTS_FIRST: u16 = 10_000;
const PORTS: u32 = 50_000;
const MEDIA_BYTES: usize = 160;

/// Costs for each family and number of flows. The program's maps have room for the largest.
pub fn measure(programs: &Programs, flows: &[u32], runs: u32) -> Result<Vec<Cost>> {
    let host = Namespace::create(&stale::unique_name())?;
    let peer = Namespace::create(&stale::unique_name())?;
    host.veth("b0", &peer, "b1")?;
    host.veth("c0", &peer, "c1")?;
    host.veth("d0", &peer, "d1")?;
    host.enter(|| {
        path::pin(Pid::from_raw(0), &[CORE])?;
        let mut costs = Vec::new();
        for (v6, measured) in [(false, false), (true, false), (false, true), (true, true)] {
            for count in flows {
                costs.push(cost(programs, (v6, measured), *count, runs)?);
            }
        }
        Ok(costs)
    })?
}

fn cost(programs: &Programs, (v6, measured): (bool, bool), count: u32, runs: u32) -> Result<Cost> {
    let mut nop = nop(programs)?;
    let mut relay = loaded(programs, count)?;
    let mut floor = match v6 || measured {
        true => None,
        false => Some(floor_loaded(programs, count)?),
    };
    let mut random = Random(0x70b3_a7b3_5eed_0001);
    let order = shuffled(count, &mut random)?;
    let mut flows = ring(v6, &order, if_nametoindex("b0")?);
    if measured {
        flows = flows.into_iter().map(|f| f.measured(CLOCK_HZ)).collect();
    }
    install(&mut relay, &flows)?;
    if let Some(floor) = &mut floor {
        place(floor, &flows)?;
    }
    // Attached, as in real life: the kernel calls such programs directly, and does not wait for
    // everybody else before and after a run.
    let _links = [
        path::attach(&mut relay, map::PROGRAM, "b0")?,
        path::attach(&mut nop, "nop", "c0")?,
    ];
    let _link = floor.as_mut().map(|floor| path::attach(floor, FLOOR, "d0"));
    let frame = |place: u32| -> Result<Vec<u8>> {
        let index = order.get(place as usize).context("a flow")?;
        let payload = rtp(1, &[0x5a; MEDIA_BYTES]);
        let mut datagram = Datagram::new(peer(v6), local(v6, *index), payload);
        datagram.hops = u8::MAX;
        Ok(datagram.build())
    };
    // Every flow has seen its first packet, which is told to userspace and costs more.
    for place in (0..count).step_by(RUN as usize) {
        run(&mut relay, map::PROGRAM, &frame(place)?, REDIRECT)?;
    }
    let (mut with, mut without, mut looked) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        let frame = frame(random.below(count))?;
        with.push(run(&mut relay, map::PROGRAM, &frame, REDIRECT)?);
        if let Some(floor) = &mut floor {
            looked.push(run(floor, FLOOR, &frame, PASS)?);
        }
        without.push(run(&mut nop, "nop", &frame, PASS)?);
    }
    let nop_ns = median(&mut without);
    Ok(Cost {
        v6,
        measured,
        flows: count,
        ns: median(&mut with) - nop_ns,
        ns_p10: quantile(&mut with, 0.1) - quantile(&mut without, 0.1),
        nop_ns,
        floor_ns: floor.map(|_| median(&mut looked) - nop_ns),
    })
}

pub(super) fn nop(programs: &Programs) -> Result<Ebpf> {
    path::load(&programs.bench, "nop")
}

/// The program that looks up and does nothing else, with the relay's room.
fn floor_loaded(programs: &Programs, count: u32) -> Result<Ebpf> {
    let mut ebpf = with_room(&programs.bench.with_file_name(FLOOR), count)?;
    let program: &mut Xdp = ebpf.program_mut(FLOOR).context("no program")?.try_into()?;
    program.load()?;
    Ok(ebpf)
}

const FLOOR: &str = "floor";

pub(super) const DROP: u32 = 1;
pub(super) const PASS: u32 = 2;
const REDIRECT: u32 = 4;

pub(super) fn run(programs: &mut Ebpf, name: &str, frame: &[u8], verdict: u32) -> Result<f64> {
    let program: &mut Xdp = programs
        .program_mut(name)
        .context("no program")?
        .try_into()?;
    let result = program.test_run(TestRunOptions {
        data_in: Some(frame),
        repeat: RUN,
        ..TestRunOptions::default()
    })?;
    anyhow::ensure!(
        result.return_value == verdict,
        "{name}: the last of {RUN} packets came to {}, not {verdict}",
        result.return_value
    );
    Ok(result.duration.as_secs_f64() * 1e9)
}

/// Numbers in an order without a pattern.
fn shuffled(count: u32, random: &mut Random) -> Result<Vec<u32>> {
    let mut order: Vec<u32> = (0..count).collect();
    for last in (1..order.len()).rev() {
        let other = random.below(u32::try_from(last)? + 1) as usize;
        order.swap(last, other);
    }
    Ok(order)
}

/// Flows that follow each other in this order, the last by the first.
fn ring(v6: bool, order: &[u32], egress: u32) -> Vec<Flow> {
    let hop = Hop {
        eth_src: Mac::from(MAC_A0),
        eth_dst: Mac::from(MAC_A1),
        egress,
        mtu: 1500,
    };
    let flow = |index: u32, next: u32| {
        let rewrite = Rewrite {
            peer: peer(v6).into(),
            source: peer(v6).into(),
            target: local(v6, next).into(),
            tos: Some(0xb8),
            flags: Flags::SHOW_STRANGERS,
        };
        Flow::compile(local(v6, index).into(), rewrite, hop)
    };
    let after = order.iter().skip(1).chain(order.first());
    let mut flows: Vec<(u32, Flow)> = order
        .iter()
        .zip(after)
        .map(|(i, n)| (*i, flow(*i, *n)))
        .collect();
    flows.sort_by_key(|(index, _)| *index);
    flows.into_iter().map(|(_, flow)| flow).collect()
}

fn peer(v6: bool) -> SocketAddr {
    SocketAddr::new(address(v6, 200), 4000)
}

/// Where a flow is: all ports of one address, then those of the next.
fn local(v6: bool, index: u32) -> SocketAddr {
    let port = PORTS_FIRST + u16::try_from(index % PORTS).unwrap_or_default();
    let host = u8::try_from(index / PORTS).unwrap_or_default();
    SocketAddr::new(address(v6, host + 1), port)
}

fn address(v6: bool, host: u8) -> IpAddr {
    if v6 {
        Ipv6Addr::new(0xfd00, 0x80, 1, 0, 0, 0, 0, host.into()).into()
    } else {
        Ipv4Addr::new(10, 80, 3, host).into()
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from((z ^ (z >> 31)) % u64::from(end)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_ring_visits_every_flow() {
        for count in [1, 2, 1000] {
            let order = shuffled(count, &mut Random(3)).unwrap();
            let flows = ring(false, &order, 7);
            let at = |to| flows.iter().find(|flow| flow.local == to).unwrap();
            let mut seen = BTreeSet::new();
            let mut flow = &flows[0];
            while seen.insert(SocketAddr::from(flow.local)) {
                flow = at(flow.target);
            }
            assert_eq!(seen.len(), count as usize);
        }
    }
}
