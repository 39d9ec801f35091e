//! How many packets a second one core carries and loses none.

use std::time::Duration;

use anyhow::Result;

use super::stand::Stand;
use crate::clock;

/// Without loss, in one round.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rate {
    pub(super) packets_per_s: f64,
    /// Of the packets sent at that rate; zero unless no rate was found without loss.
    pub(super) lost: u64,
}

/// What becomes of packets at a part of that rate.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sustained {
    pub packets_per_s: f64,
    pub packets: u64,
    pub lost: u64,
}

/// How much is spent on one round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    packets: u32,
    /// One trial of a rate.
    trial: Duration,
    trials: u32,
}

impl Effort {
    pub(super) const FULL: Self = Self {
        packets: 400_000,
        trial: Duration::from_millis(250),
        trials: 9,
    };
    pub(super) const QUICK: Self = Self {
        packets: 40_000,
        trial: Duration::from_millis(60),
        trials: 5,
    };
}

/// What a process finds waiting at most: the default socket buffer holds so many frames.
const BURST: u32 = 32;
/// From below: not every process recovers from an overflow.
const RATE_FIRST: f64 = 20_000.0;
const RATE_STEP: f64 = 1.5;
/// No process forwards more.
const RATE_MAX: f64 = 1_000_000.0;
/// How long the last packets may take to arrive.
const ARRIVAL_LIMIT: Duration = Duration::from_millis(200);

/// The kernel takes what it is given before it takes more; a process is found the rate at which
/// its socket does not overflow.
pub(super) fn measure(stand: &mut Stand, effort: Effort) -> Result<Rate> {
    if !stand.column.has_process() {
        let wanted = stand.path.seen()? + u64::from(effort.packets);
        let took = stand.path.send(&stand.frame, effort.packets)?.as_secs_f64();
        let lost = wanted - arrived(stand, wanted)?.min(wanted);
        let delivered = f64::from(effort.packets) - lost as f64;
        return Ok(Rate {
            packets_per_s: delivered / took,
            lost,
        });
    }
    let (mut good, mut bad) = (0.0, RATE_MAX);
    let mut guess = RATE_FIRST;
    for _ in 0..effort.trials {
        if lossless(stand, guess, effort.trial)? {
            good = guess;
        } else {
            bad = guess;
        }
        guess = if bad < RATE_MAX {
            f64::midpoint(good, bad)
        } else {
            guess * RATE_STEP
        };
    }
    Ok(Rate {
        packets_per_s: good,
        lost: 0,
    })
}

/// Of the rate that a column carries, what it is given for a while in which it must lose nothing.
pub const SHARE: f64 = 0.8;
/// A while is so many rounds.
const WHILE: u32 = 8;
/// What the kernel is given at once, at full speed, before it is given time to rest.
const CHUNK: u32 = 20_000;

/// Sends at a share of a rate for longer than a round.
pub(super) fn sustain(stand: &mut Stand, rate: f64, effort: Effort) -> Result<Sustained> {
    let rate = (rate * SHARE).max(1.0);
    let before = stand.path.seen()?;
    let packets = if stand.column.has_process() {
        let time = effort.trial * WHILE;
        #[allow(
            clippy::cast_possible_truncation,
            reason = "seconds of a million packets"
        )]
        let bursts = (rate * time.as_secs_f64() / f64::from(BURST)).ceil() as u32;
        let between = Duration::from_secs_f64(f64::from(BURST) / rate);
        stand
            .path
            .send_paced(&stand.frame, BURST, bursts, between)?;
        u64::from(bursts) * u64::from(BURST)
    } else {
        let chunks = (effort.packets * WHILE).div_ceil(CHUNK);
        let between = Duration::from_secs_f64(f64::from(CHUNK) / rate);
        let begin = clock::now();
        for count in 0..chunks {
            clock::wait_until(begin + between * count);
            stand.path.send(&stand.frame, CHUNK)?;
        }
        u64::from(chunks) * u64::from(CHUNK)
    };
    let arrived = arrived(stand, before + packets)? - before;
    let lost = packets - arrived.min(packets);
    if lost > 0 {
        stand.revive()?;
    }
    Ok(Sustained {
        packets_per_s: rate,
        packets,
        lost,
    })
}

/// Whether nothing is lost at a rate. A loss is looked at twice: the machine has other things to
/// do as well.
fn lossless(stand: &mut Stand, rate: f64, time: Duration) -> Result<bool> {
    for _ in 0..2 {
        if trial(stand, rate, time)? {
            return Ok(true);
        }
        stand.revive()?;
    }
    Ok(false)
}

/// Sends at a rate for a while; false if a packet was lost or the rate could not be kept.
fn trial(stand: &mut Stand, rate: f64, time: Duration) -> Result<bool> {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "a fraction of a second of a million packets"
    )]
    let bursts = (rate * time.as_secs_f64() / f64::from(BURST)).ceil() as u32;
    let between = Duration::from_secs_f64(f64::from(BURST) / rate);
    let wanted = stand.path.seen()? + u64::from(bursts) * u64::from(BURST);
    let in_time = stand
        .path
        .send_paced(&stand.frame, BURST, bursts, between)?;
    let lossless = arrived(stand, wanted)? == wanted;
    Ok(in_time && lossless)
}

/// What the sink has seen when so many have come, or no more do.
fn arrived(stand: &Stand, wanted: u64) -> Result<u64> {
    let mut last = stand.path.seen()?;
    let mut deadline = clock::now() + ARRIVAL_LIMIT;
    while last < wanted && clock::now() < deadline {
        let seen = stand.path.seen()?;
        if seen > last {
            deadline = clock::now() + ARRIVAL_LIMIT;
            last = seen;
        }
    }
    Ok(last)
}
