//! A delay line between two interfaces: delay, jitter, loss and reordering for kernels without
//! netem. Frames are read from one interface and sent on the other, both ways.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::clock;
use crate::netns::Namespace;
use crate::packet::{self, Direction, FRAME_BYTES_MAX, PacketSocket};

/// Frames one direction holds; more are dropped and counted.
pub const QUEUE_FRAMES_MAX: usize = 20_000;

/// How long the line may take to notice that it shall stop.
const STOP_LIMIT: Duration = Duration::from_millis(20);

/// Frames read from one interface before the other gets its turn.
const BURST_FRAMES_MAX: usize = 256;

/// What happens to frames, in each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Impairment {
    /// One way.
    pub delay: Duration,
    /// Uniform around `delay`; alone it does not reorder.
    pub jitter: Duration,
    /// Probability 0..=1 that a frame is lost.
    pub loss: f64,
    /// Probability 0..=1 that a frame skips the queue and overtakes those in it.
    pub reorder: f64,
    /// The same seed and frames give the same fate.
    pub seed: u64,
}

/// What the line did so far, both directions.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    pub forwarded: u64,
    /// By chance, as asked for.
    pub lost: u64,
    pub reordered: u64,
    /// The queue was full, or the interface refused.
    pub dropped: u64,
}

/// A running delay line; stops on drop.
#[derive(Debug)]
pub struct DelayLine {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    forwarded: AtomicU64,
    lost: AtomicU64,
    reordered: AtomicU64,
    dropped: AtomicU64,
}

impl DelayLine {
    /// Starts to forward between two interfaces of `namespace`.
    ///
    /// # Errors
    /// An interface does not exist, or no CAP_NET_RAW.
    pub fn start(namespace: &Namespace, ends: (&str, &str), how: Impairment) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let open = || Ok((PacketSocket::open(ends.0)?, PacketSocket::open(ends.1)?));
        let body = move |(a, b)| forward(&a, &b, how, &theirs);
        let thread = Some(namespace.spawn("delay line", open, body)?);
        Ok(Self { shared, thread })
    }

    #[must_use]
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            forwarded: read(&self.shared.forwarded),
            lost: read(&self.shared.lost),
            reordered: read(&self.shared.reordered),
            dropped: read(&self.shared.dropped),
        }
    }
}

impl Drop for DelayLine {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if self.thread.take().is_some_and(|t| t.join().is_err()) {
            eprintln!("lab: the delay line panicked");
        }
    }
}

fn forward(a: &PacketSocket, b: &PacketSocket, how: Impairment, shared: &Shared) {
    let mut there = Queue::new(how, 0);
    let mut back = Queue::new(how, 1);
    let mut buffer = [0; FRAME_BYTES_MAX];
    while !shared.stop.load(Ordering::Relaxed) {
        take_in(a, &mut there, &mut buffer, shared);
        take_in(b, &mut back, &mut buffer, shared);
        there.send_due(b, shared);
        back.send_due(a, shared);
        let due = [there.next_due(), back.next_due()]
            .into_iter()
            .flatten()
            .min();
        let left = due.map_or(STOP_LIMIT, |at| at.saturating_duration_since(clock::now()));
        if packet::wait(&[a, b], left.min(STOP_LIMIT)).is_err() {
            return;
        }
    }
}

fn take_in(from: &PacketSocket, queue: &mut Queue, buffer: &mut [u8], shared: &Shared) {
    for _ in 0..BURST_FRAMES_MAX {
        match from.receive(buffer) {
            Ok(Some((frame, Direction::In))) => queue.push(frame, clock::now(), shared),
            // What we sent ourselves.
            Ok(Some((_, Direction::Out))) => {}
            Ok(None) | Err(_) => return,
        }
    }
}

/// One direction.
struct Queue {
    how: Impairment,
    random: Random,
    waiting: BinaryHeap<Reverse<Waiting>>,
    last_due: Option<Instant>,
    count: u64,
}

/// Ordered by time, then by arrival.
#[derive(Eq, Ord, PartialEq, PartialOrd)]
struct Waiting {
    due: Instant,
    count: u64,
    frame: Vec<u8>,
}

impl Queue {
    fn new(how: Impairment, direction: u64) -> Self {
        let random = Random(how.seed.wrapping_mul(2).wrapping_add(direction));
        Self {
            how,
            random,
            waiting: BinaryHeap::new(),
            last_due: None,
            count: 0,
        }
    }

    fn push(&mut self, frame: &[u8], now: Instant, shared: &Shared) {
        // Always three draws, so that a frame's fate depends on its number only.
        let (loss, reorder, jitter) = (self.random.unit(), self.random.unit(), self.random.unit());
        if loss < self.how.loss {
            shared.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if self.waiting.len() >= QUEUE_FRAMES_MAX {
            shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let due = if reorder < self.how.reorder {
            shared.reordered.fetch_add(1, Ordering::Relaxed);
            now
        } else {
            let after = self.how.delay + self.how.jitter.mul_f64(2.0 * jitter);
            let due = now + after.saturating_sub(self.how.jitter);
            let due = self.last_due.map_or(due, |last| last.max(due));
            self.last_due = Some(due);
            due
        };
        self.count += 1;
        self.waiting.push(Reverse(Waiting {
            due,
            count: self.count,
            frame: frame.to_vec(),
        }));
    }

    fn next_due(&self) -> Option<Instant> {
        self.waiting.peek().map(|Reverse(w)| w.due)
    }

    fn pop_due(&mut self, now: Instant) -> Option<Vec<u8>> {
        let due = self.next_due()?;
        if due > now {
            return None;
        }
        self.waiting.pop().map(|Reverse(w)| w.frame)
    }

    fn send_due(&mut self, to: &PacketSocket, shared: &Shared) {
        while let Some(frame) = self.pop_due(clock::now()) {
            let counter = match to.send(&frame) {
                Ok(()) => &shared.forwarded,
                Err(_) => &shared.dropped,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// SplitMix64: small, seeded, good enough to lose packets with.
struct Random(u64);

impl Random {
    /// Uniform in 0..1.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let bits = (z ^ (z >> 31)) >> 11;
        bits as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAMES: u8 = 100;

    /// Pushes numbered frames 1 ms apart; the numbers in the order they leave, and what was lost.
    fn check(how: Impairment, expected: impl Fn(&[u8], u64) -> bool) {
        let pass = |how| {
            let (mut queue, shared, start) = (Queue::new(how, 0), Shared::default(), clock::now());
            let mut left = Vec::new();
            for i in 0..FRAMES {
                let now = start + Duration::from_millis(u64::from(i));
                left.extend(std::iter::from_fn(|| queue.pop_due(now)).flatten());
                queue.push(&[i], now, &shared);
            }
            let end = start + Duration::from_secs(60);
            left.extend(std::iter::from_fn(|| queue.pop_due(end)).flatten());
            (left, shared.lost.load(Ordering::Relaxed))
        };
        let (left, lost) = pass(how);
        assert!(expected(&left, lost), "{how:?}: {left:?}, lost {lost}");
        assert_eq!(pass(how), (left, lost), "the same seed gives the same fate");
    }

    fn in_order(left: &[u8]) -> bool {
        left.windows(2).all(|w| w[0] < w[1])
    }

    #[test]
    fn impairments_do_what_they_are_called() {
        let delay = Duration::from_millis(20);
        let jitter = Duration::from_millis(10);
        let plain = Impairment {
            delay,
            seed: 1,
            ..Impairment::default()
        };
        check(plain, |left, lost| {
            left.len() == 100 && in_order(left) && lost == 0
        });
        check(Impairment { jitter, ..plain }, |left, _| {
            left.len() == 100 && in_order(left)
        });
        check(
            Impairment {
                reorder: 0.1,
                ..plain
            },
            |left, _| left.len() == 100 && !in_order(left),
        );
        check(Impairment { loss: 0.2, ..plain }, |left, lost| {
            (10..=30).contains(&lost) && left.len() as u64 + lost == 100 && in_order(left)
        });
        check(Impairment { loss: 1.0, ..plain }, |left, lost| {
            left.is_empty() && lost == 100
        });
    }
}
