//! How long one packet takes from the source's socket to the sink's, with nothing else under way.

use std::time::Duration;

use anyhow::Result;
use nix::unistd::Pid;

use super::path::{self, CORE};
use super::stand::Stand;
use crate::clock;
use crate::packet::{Direction, FRAME_BYTES_MAX, PacketSocket};

/// Nanoseconds that so many of a hundred packets took at most.
#[derive(Clone, Copy, Debug, Default)]
pub struct Latency {
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub packets: u32,
    pub lost: u32,
}

/// A packet that has not come by then never will.
const LIMIT_NS: u128 = 20_000_000;
/// The process is elsewhere: the sink waits without sleeping.
const OTHER_CORE: usize = 0;
/// So many at the beginning teach and warm.
const WARM: u32 = 100;

/// Packets a second under which latency is looked at, beside one at a time.
pub const LOADS: [u32; 3] = [1_000, 10_000, 40_000];

/// One at a time, and at every load for so long.
pub(super) fn measure(
    stand: &mut Stand,
    packets: u32,
    time: Duration,
) -> Result<(Latency, Vec<Latency>)> {
    if let Some(process) = stand.held.process() {
        pin_all(process, OTHER_CORE)?;
    }
    stand.path.sink_passes(true)?;
    let measured = one_by_one(stand, packets).and_then(|alone| {
        let loaded = LOADS.iter().map(|load| under(stand, *load, time));
        Ok((alone, loaded.collect::<Result<_>>()?))
    });
    stand.path.sink_passes(false)?;
    if let Some(process) = stand.held.process() {
        pin_all(process, CORE)?;
    }
    measured
}

fn one_by_one(stand: &Stand, packets: u32) -> Result<Latency> {
    let sink = stand.path.sink.enter(|| PacketSocket::open("b1"))??;
    let frame = &stand.frame;
    let (mut taken, lost) = stand.path.source.enter(|| -> Result<(Vec<u64>, u32)> {
        path::pin(Pid::from_raw(0), &[CORE])?;
        let source = PacketSocket::open("a1")?;
        let mut frame = frame.clone();
        let (mut taken, mut lost) = (Vec::new(), 0);
        for count in 0..packets + WARM {
            let sequence = u16::try_from(count % 0x1_0000)?;
            path::number(&mut frame, sequence);
            let begin = clock::now();
            source.send(&frame)?;
            let arrived = loop {
                if came(&sink, sequence)? {
                    break Some(begin.elapsed());
                }
                if begin.elapsed().as_nanos() > LIMIT_NS {
                    break None;
                }
            };
            if count < WARM {
                continue;
            }
            match arrived {
                Some(time) => taken.push(u64::try_from(time.as_nanos())?),
                None => lost += 1,
            }
        }
        Ok((taken, lost))
    })??;
    Ok(percentiles(&mut taken, packets, lost))
}

/// Packets at a steady rate, whether those before have arrived or not.
fn under(stand: &Stand, load: u32, time: Duration) -> Result<Latency> {
    let sink = stand.path.sink.enter(|| PacketSocket::open("b1"))??;
    let packets = load.saturating_mul(u32::try_from(time.as_millis())?) / 1000;
    let mut taken = stand.path.source.enter(|| -> Result<Vec<u64>> {
        path::pin(Pid::from_raw(0), &[CORE])?;
        let source = PacketSocket::open("a1")?;
        let mut frame = stand.frame.clone();
        // When the latest packet with a sequence number was due.
        let mut due = vec![None; 0x1_0000];
        let mut taken = Vec::new();
        let begin = clock::now();
        let end = Duration::from_nanos(1_000_000_000 / u64::from(load));
        for count in 0..packets {
            let next = begin + end * count;
            while clock::now() < next {
                arrivals(&sink, &mut due, &mut taken)?;
            }
            let sequence = u16::try_from(count % 0x1_0000)?;
            path::number(&mut frame, sequence);
            if let Some(due) = due.get_mut(usize::from(sequence)) {
                *due = Some(next);
            }
            source.send(&frame)?;
            arrivals(&sink, &mut due, &mut taken)?;
        }
        let last = clock::now();
        while last.elapsed().as_nanos() < LIMIT_NS {
            arrivals(&sink, &mut due, &mut taken)?;
        }
        Ok(taken)
    })??;
    let lost = packets - u32::try_from(taken.len())?.min(packets);
    Ok(percentiles(&mut taken, packets, lost))
}

/// Takes what has arrived.
fn arrivals(
    sink: &PacketSocket,
    due: &mut [Option<std::time::Instant>],
    taken: &mut Vec<u64>,
) -> Result<()> {
    let mut buffer = [0; FRAME_BYTES_MAX];
    while let Some((frame, direction)) = sink.receive(&mut buffer)? {
        let number = frame.get(44..46).filter(|_| direction == Direction::In);
        let Some([high, low]) = number else { continue };
        let due = due.get_mut(usize::from(u16::from_be_bytes([*high, *low])));
        if let Some(due) = due.and_then(Option::take) {
            taken.push(u64::try_from(due.elapsed().as_nanos())?);
        }
    }
    Ok(())
}

fn percentiles(taken: &mut [u64], packets: u32, lost: u32) -> Latency {
    taken.sort_unstable();
    let at = |thousandth: usize| {
        let place = taken.len() * thousandth / 1000;
        taken.get(place).copied().unwrap_or_default()
    };
    Latency {
        p50: at(500),
        p90: at(900),
        p99: at(990),
        p999: at(999),
        packets,
        lost,
    }
}

/// Whether the packet with this sequence number is there.
fn came(sink: &PacketSocket, sequence: u16) -> Result<bool> {
    let mut buffer = [0; FRAME_BYTES_MAX];
    while let Some((frame, direction)) = sink.receive(&mut buffer)? {
        let number = frame.get(44..46);
        if direction == Direction::In && number == Some(&sequence.to_be_bytes()[..]) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Every thread of a process.
pub(super) fn pin_all(process: u32, core: usize) -> Result<()> {
    for thread in std::fs::read_dir(format!("/proc/{process}/task"))? {
        let id = thread?.file_name();
        if let Some(id) = id.to_str().and_then(|id| id.parse().ok()) {
            path::pin(Pid::from_raw(id), &[core])?;
        }
    }
    Ok(())
}
