//! Two parties that send each other a numbered stream, and reports beside it, until they are told
//! to stop.

mod reports;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::clock;
use crate::rtp::{Judgement, Progress, Report, RtpSocket, Stream};
use reports::Reports;

/// No stream is longer.
pub const PACKETS_MAX: u32 = 30_000;

/// How long a receiver waits for what is still on its way.
const LINGER: Duration = Duration::from_millis(300);

/// SSRCs are unique within a run.
static SSRC: AtomicU32 = AtomicU32::new(0x1000);

/// An SSRC that nobody else has.
#[must_use]
pub fn ssrc() -> u32 {
    SSRC.fetch_add(1, Ordering::Relaxed)
}

/// One direction's end: who sends, where to, and as whom.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    pub rtp: &'a RtpSocket,
    pub rtcp: &'a UdpSocket,
    /// Of RTP; RTCP goes to the port above. Whatever comes from elsewhere is foreign.
    pub sends_to: SocketAddr,
    pub ssrc: u32,
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
    sends_to: SocketAddr,
    progress: Arc<Progress>,
    reports_received: Arc<AtomicU64>,
    rtp: JoinHandle<Result<Report>>,
    rtcp: JoinHandle<Result<Reports>>,
}

/// What one side has at the end.
struct Ended {
    ssrc: u32,
    sends_to: SocketAddr,
    rtp: Report,
    rtcp: Reports,
}

/// What came of one direction.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    pub sent: u32,
    pub judgement: Judgement,
    /// RTP of others, what was not RTP, and what did not come from where the party sends to:
    /// nothing a phone should ever hear.
    pub foreign: u64,
    pub reports: ReportsHeard,
}

/// The same for RTCP.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ReportsHeard {
    pub sent: u64,
    /// Different ones.
    pub heard: u64,
    pub duplicates: u64,
    pub foreign: u64,
}

impl Heard {
    /// Everything that was sent and did not come, before the first and after the last too.
    #[must_use]
    pub fn missing(&self) -> u64 {
        u64::from(self.sent).saturating_sub(self.arrived())
    }

    /// Different packets that came; never more than were sent, unless someone added his own.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.judgement.packets - self.judgement.duplicates
    }
}

impl Talk {
    /// Both begin; `every` is the time between packets.
    ///
    /// # Errors
    /// No more threads or descriptors.
    pub fn start(ends: [End<'_>; 2], every: Duration) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let sides = ends.map(|end| Side::start(end, every, &stop));
        let sides = sides.into_iter().collect::<Result<_>>()?;
        Ok(Self { stop, sides })
    }

    /// Waits until each party has heard so many more packets.
    ///
    /// # Errors
    /// They have not, within `limit`.
    pub fn hear(&self, packets: u64, limit: Duration) -> Result<()> {
        self.more(packets, limit, "packets", |side| &side.progress.received)
    }

    /// Waits until each party has had so many more reports.
    ///
    /// # Errors
    /// They have not, within `limit`.
    pub fn hear_reports(&self, reports: u64, limit: Duration) -> Result<()> {
        self.more(reports, limit, "reports", |side| &side.reports_received)
    }

    fn more(
        &self,
        least: u64,
        limit: Duration,
        what: &str,
        counter: impl Fn(&Side) -> &AtomicU64,
    ) -> Result<()> {
        let count = |side: &Side| counter(side).load(Ordering::Relaxed);
        let before: Vec<u64> = self.sides.iter().map(count).collect();
        let more = || std::iter::zip(&self.sides, &before).map(|(side, b)| count(side) - b);
        let enough = || Ok(more().all(|m| m >= least).then_some(()));
        let what = format!("{least} more {what} each way");
        clock::until(&what, limit, enough).map_err(|e| {
            let heard: Vec<u64> = more().collect();
            anyhow!("{e:#}; heard {heard:?}")
        })
    }

    /// Both stop; what the second party heard of the first, and the first of the second.
    ///
    /// # Errors
    /// A party that heard nothing, or whose socket failed.
    pub fn finish(self) -> Result<[Heard; 2]> {
        let [a, b] = self.end()?;
        let heard = |sender, receiver| heard(sender, receiver).context("a party heard nothing");
        Ok([heard(&a, &b)?, heard(&b, &a)?])
    }

    /// Both stop; how many packets the second party heard of the first, and the first of the
    /// second, be it none.
    ///
    /// # Errors
    /// A party's socket failed.
    pub fn finish_counting(self) -> Result<[u64; 2]> {
        let [a, b] = self.end()?;
        let count = |sender, receiver| heard(sender, receiver).map_or(0, |h| h.arrived());
        Ok([count(&a, &b), count(&b, &a)])
    }

    fn end(mut self) -> Result<[Ended; 2]> {
        self.stop.store(true, Ordering::Relaxed);
        let sides = std::mem::take(&mut self.sides).into_iter();
        let ended = sides.map(Side::end).collect::<Result<Vec<_>>>()?;
        ended.try_into().map_err(|_| anyhow!("two talk"))
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Side {
    fn start(end: End<'_>, every: Duration, stop: &Arc<AtomicBool>) -> Result<Self> {
        let End { sends_to, ssrc, .. } = end;
        let stream = Stream {
            every,
            ..Stream::voice(ssrc, PACKETS_MAX)
        };
        let progress = Arc::new(Progress::default());
        let (socket, halt, theirs) = (end.rtp.try_clone()?, Arc::clone(stop), progress.clone());
        let rtp = move || socket.exchange_until(sends_to, stream, &halt, LINGER, &theirs);
        let reports_received = Arc::new(AtomicU64::new(0));
        let (socket, halt) = (end.rtcp.try_clone()?, Arc::clone(stop));
        let (theirs, to) = (reports_received.clone(), above(sends_to));
        let rtcp = move || reports::exchange(&socket, to, ssrc, &halt, LINGER, &theirs);
        Ok(Self {
            ssrc,
            sends_to,
            progress,
            reports_received,
            rtp: thread::Builder::new().name("talk".to_owned()).spawn(rtp)?,
            rtcp: thread::Builder::new()
                .name("reports".to_owned())
                .spawn(rtcp)?,
        })
    }

    fn end(self) -> Result<Ended> {
        let panicked = |_| anyhow!("a talker panicked");
        Ok(Ended {
            ssrc: self.ssrc,
            sends_to: self.sends_to,
            rtp: self.rtp.join().map_err(panicked)??,
            rtcp: self.rtcp.join().map_err(panicked)??,
        })
    }
}

/// Where RTCP goes, beside RTP (RFC 3550 §11).
fn above(rtp: SocketAddr) -> SocketAddr {
    SocketAddr::new(rtp.ip(), rtp.port() + 1)
}

/// What `receiver` heard of `sender`; none if it was nothing.
fn heard(sender: &Ended, receiver: &Ended) -> Option<Heard> {
    let expected = (receiver.sends_to, sender.ssrc);
    let all = || receiver.rtp.received.iter();
    let judgement = *all().find(|(from, _)| **from == expected)?.1;
    let others = all().filter(|(from, _)| **from != expected);
    let foreign: u64 = others.map(|(_, judged)| judged.packets).sum();
    Some(Heard {
        sent: sender.rtp.sent,
        judgement,
        foreign: foreign + receiver.rtp.other,
        reports: reports_heard(
            &sender.rtcp,
            &receiver.rtcp,
            (above(expected.0), expected.1),
        ),
    })
}

fn reports_heard(sender: &Reports, receiver: &Reports, from: (SocketAddr, u32)) -> ReportsHeard {
    let all = || receiver.received.iter();
    let expected = all().find(|(source, _)| **source == from);
    let (heard, came) =
        expected.map_or((0, 0), |(_, (numbers, came))| (numbers.len() as u64, *came));
    let others = all().filter(|(source, _)| **source != from);
    let foreign: u64 = others.map(|(_, (_, came))| came).sum();
    ReportsHeard {
        sent: sender.sent.into(),
        heard,
        duplicates: came - heard,
        foreign: foreign + receiver.other,
    }
}
