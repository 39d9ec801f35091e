//! Two parties that send each other a numbered stream until they are told to stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::clock;
use crate::rtp::{Judgement, Progress, Report, RtpSocket, Stream};

/// No stream is longer.
pub const PACKETS_MAX: u32 = 30_000;

/// How long a receiver waits for what is still on its way.
const LINGER: Duration = Duration::from_millis(300);

/// SSRCs are unique within a run.
static SSRC: AtomicU32 = AtomicU32::new(0x1000);

/// One direction's end: who sends, and where to.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    pub socket: &'a RtpSocket,
    pub sends_to: SocketAddr,
}

/// A conversation under way.
#[derive(Debug)]
pub struct Talk {
    stop: Arc<AtomicBool>,
    sides: Vec<Side>,
}

#[derive(Debug)]
struct Side {
    ssrc: u32,
    progress: Arc<Progress>,
    thread: JoinHandle<Result<Report>>,
}

/// What came of one direction.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    pub sent: u32,
    pub judgement: Judgement,
    /// RTP of others, and what was not RTP: nothing a phone should ever hear.
    pub foreign: u64,
}

impl Heard {
    /// Everything that was sent and did not come, before the first and after the last too.
    #[must_use]
    pub fn missing(&self) -> u64 {
        let arrived = self.judgement.packets - self.judgement.duplicates;
        u64::from(self.sent).saturating_sub(arrived)
    }
}

impl Talk {
    /// Both begin; `every` is the time between packets.
    ///
    /// # Errors
    /// No more threads or descriptors.
    pub fn start(ends: [End<'_>; 2], every: Duration) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut sides = Vec::new();
        for end in ends {
            let ssrc = SSRC.fetch_add(1, Ordering::Relaxed);
            let stream = Stream {
                every,
                ..Stream::voice(ssrc, PACKETS_MAX)
            };
            let progress = Arc::new(Progress::default());
            let (socket, to) = (end.socket.try_clone()?, end.sends_to);
            let (stop, theirs) = (Arc::clone(&stop), Arc::clone(&progress));
            let body = move || socket.exchange_until(to, stream, &stop, LINGER, &theirs);
            let thread = thread::Builder::new().name("talk".to_owned()).spawn(body)?;
            sides.push(Side {
                ssrc,
                progress,
                thread,
            });
        }
        Ok(Self { stop, sides })
    }

    /// Waits until each party has heard so many more packets.
    ///
    /// # Errors
    /// They have not, within `limit`.
    pub fn hear(&self, packets: u64, limit: Duration) -> Result<()> {
        let count = |side: &Side| side.progress.received.load(Ordering::Relaxed);
        let before: Vec<u64> = self.sides.iter().map(count).collect();
        let more = || std::iter::zip(&self.sides, &before).map(|(side, b)| count(side) - b);
        let enough = || Ok(more().all(|m| m >= packets).then_some(()));
        let what = format!("{packets} more packets each way");
        clock::until(&what, limit, enough).map_err(|e| {
            let heard: Vec<u64> = more().collect();
            anyhow!("{e:#}; heard {heard:?}")
        })
    }

    /// Both stop; what the second party heard of the first, and the first of the second.
    ///
    /// # Errors
    /// A party that heard nothing, or whose socket failed.
    pub fn finish(mut self) -> Result<[Heard; 2]> {
        self.stop.store(true, Ordering::Relaxed);
        let mut reports = Vec::new();
        for side in std::mem::take(&mut self.sides) {
            let report = side
                .thread
                .join()
                .map_err(|_| anyhow!("a talker panicked"))??;
            reports.push((side.ssrc, report));
        }
        let [(a, by_a), (b, by_b)] =
            <[_; 2]>::try_from(reports).map_err(|_| anyhow!("two talk"))?;
        Ok([heard(a, &by_a, &by_b)?, heard(b, &by_b, &by_a)?])
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What `receiver` heard of `ssrc`, which `sender` sent.
fn heard(ssrc: u32, sender: &Report, receiver: &Report) -> Result<Heard> {
    let mut judgement = None;
    let mut foreign = receiver.other;
    for ((_, from), judged) in &receiver.received {
        if *from == ssrc && judgement.is_none() {
            judgement = Some(*judged);
        } else {
            foreign += judged.packets;
        }
    }
    Ok(Heard {
        sent: sender.sent,
        judgement: judgement.context("a party heard nothing of the other")?,
        foreign,
    })
}
