//! Many calls at once: pairs of user agents whose every call uses the same two media sockets, and
//! numbered streams through all of them, so that one thread can send and two can listen.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::socket::{setsockopt, sockopt};

use crate::clock;
use crate::rtp::{Header, Stream};
use crate::ua::{Dialog, Ua};

/// How long receivers wait for what is still on its way.
const LINGER: Duration = Duration::from_millis(500);
/// What a side's socket holds.
const RECEIVE_BYTES: usize = 32 * 1024 * 1024;
/// No sequence number comes twice.
const PACKETS_MAX: u32 = 60_000;

/// What came of all streams.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sum {
    pub streams: usize,
    pub sent: u64,
    /// Each once.
    pub received: u64,
    pub duplicates: u64,
    /// Of no stream of ours.
    pub foreign: u64,
}

/// Streams under way.
#[derive(Debug)]
pub struct Crowd {
    stop: Arc<AtomicBool>,
    received: Arc<AtomicU64>,
    streams: usize,
    sender: JoinHandle<Result<u64>>,
    receivers: Vec<JoinHandle<Result<Heard>>>,
}

#[derive(Debug, Default)]
struct Heard {
    seen: BTreeMap<u32, Vec<u64>>,
    duplicates: u64,
    foreign: u64,
}

impl Crowd {
    /// Both parties of every call send, a packet each in every `every`.
    ///
    /// # Errors
    /// No more threads or descriptors.
    pub fn start(caller: &Ua, callee: &Ua, calls: &[Dialog], every: Duration) -> Result<Self> {
        let (stop, received) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let sides = [caller.rtp.socket()?, callee.rtp.socket()?];
        for side in &sides {
            // All streams come to one socket: a receiver that is not scheduled must lose nothing.
            setsockopt(side, sockopt::RcvBufForce, &RECEIVE_BYTES).context("receive buffer")?;
        }
        let mut ways: Vec<(usize, SocketAddr, u32)> = Vec::new();
        for (call, number) in calls.iter().zip(0..) {
            ways.push((0, call.caller_sends_to, CALLER | number));
            ways.push((1, call.callee_sends_to, CALLEE | number));
        }
        let streams = ways.len();
        let mut receivers = Vec::new();
        for (side, expected) in sides.iter().zip([CALLEE, CALLER]) {
            let (socket, stop) = (side.try_clone()?, Arc::clone(&stop));
            let received: Arc<AtomicU64> = Arc::clone(&received);
            receivers.push(thread::spawn(move || {
                listen(&socket, expected, &stop, &received)
            }));
        }
        let stopped = Arc::clone(&stop);
        let sender = thread::spawn(move || speak(&sides, &ways, every, &stopped));
        Ok(Self {
            stop,
            received,
            streams,
            sender,
            receivers,
        })
    }

    /// Waits until so many more packets of every stream have arrived, on the average.
    ///
    /// # Errors
    /// They have not, within `limit`.
    pub fn hear(&self, packets: u64, limit: Duration) -> Result<()> {
        let wanted = self.received.load(Ordering::Relaxed) + packets * self.streams as u64;
        clock::until("packets of every stream", limit, || {
            Ok((self.received.load(Ordering::Relaxed) >= wanted).then_some(()))
        })
    }

    /// All stop.
    ///
    /// # Errors
    /// A socket failed.
    pub fn finish(self) -> Result<Sum> {
        self.stop.store(true, Ordering::Relaxed);
        let panicked = |_| anyhow!("a thread of the crowd panicked");
        let mut sum = Sum {
            streams: self.streams,
            sent: self.sender.join().map_err(panicked)??,
            ..Sum::default()
        };
        for receiver in self.receivers {
            let heard = receiver.join().map_err(panicked)??;
            let packets = heard.seen.values().flatten().map(|word| word.count_ones());
            sum.received += packets.map(u64::from).sum::<u64>();
            sum.duplicates += heard.duplicates;
            sum.foreign += heard.foreign;
        }
        Ok(sum)
    }
}

/// SSRCs of the two directions; the rest is the call's number.
const CALLER: u32 = 0x0a00_0000;
const CALLEE: u32 = 0x0b00_0000;
const CALL: u32 = 0x00ff_ffff;

fn speak(
    sides: &[UdpSocket; 2],
    ways: &[(usize, SocketAddr, u32)],
    every: Duration,
    stop: &AtomicBool,
) -> Result<u64> {
    let start = clock::now();
    let streams: Vec<Stream> = ways
        .iter()
        .map(|(_, _, ssrc)| Stream::voice(*ssrc, PACKETS_MAX))
        .collect();
    let step = every / u32::try_from(ways.len().max(1))?;
    let mut sent = 0;
    for number in 0..PACKETS_MAX {
        for (index, ((side, to, _), stream)) in (0..).zip(ways.iter().zip(&streams)) {
            if stop.load(Ordering::Relaxed) {
                return Ok(sent);
            }
            // Spread over the period: a burst would fill the queues of the links.
            clock::wait_until(start + every * number + step * index);
            let socket = sides.get(*side).context("two sides")?;
            match socket.send_to(&stream.packet(number), to) {
                Err(e) if crate::rtp::is_quiet(e.kind()) => {}
                done => {
                    done.with_context(|| format!("send to {to}"))?;
                    sent += 1;
                }
            }
        }
    }
    ensure!(false, "{PACKETS_MAX} packets in every stream are the most");
    Ok(sent)
}

fn listen(
    socket: &UdpSocket,
    expected: u32,
    stop: &AtomicBool,
    received: &AtomicU64,
) -> Result<Heard> {
    socket.set_read_timeout(Some(LINGER))?;
    let mut heard = Heard::default();
    let mut buffer = [0; 2048];
    let mut stopped = None;
    loop {
        if stop.load(Ordering::Relaxed) {
            let since = *stopped.get_or_insert_with(clock::now);
            if clock::now() > since + LINGER {
                return Ok(heard);
            }
        }
        let length = match socket.recv(&mut buffer) {
            Ok(length) => length,
            Err(e) if crate::rtp::is_quiet(e.kind()) => continue,
            Err(e) => return Err(e).context("receive"),
        };
        match Header::parse(buffer.get(..length).unwrap_or_default()) {
            Some(header) if header.ssrc & !CALL == expected => {
                let seen = heard.seen.entry(header.ssrc).or_default();
                let word = usize::from(header.sequence / 64);
                if seen.len() <= word {
                    seen.resize(word + 1, 0);
                }
                let bit = 1 << (header.sequence % 64);
                if let Some(word) = seen.get_mut(word) {
                    heard.duplicates += u64::from(*word & bit != 0);
                    *word |= bit;
                }
                received.fetch_add(1, Ordering::Relaxed);
            }
            _ => heard.foreign += 1,
        }
    }
}
