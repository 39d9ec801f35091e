//! What enters and leaves at the media ports of one call, as a pcapng file: bounded in packets,
//! bytes and time. Meanwhile its flows go through userspace, which sees both sides of a packet.

pub(crate) mod pcapng;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::shell::clock;
use crate::shell::media::Marks;

use self::pcapng::{Direction, File, Packet};

pub(crate) const PACKETS_DEFAULT: u32 = 1_000;
pub(crate) const PACKETS_MAX: u32 = 100_000;
pub(crate) const SECONDS_DEFAULT: u32 = 10;
pub(crate) const SECONDS_MAX: u32 = 60;
/// Of a file; a capture that comes so far is over.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// Captures at once.
pub(crate) const CAPTURES_MAX: usize = 4;

/// How long a capture goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) packets: u32,
    pub(crate) time: Duration,
}

/// A capture under way, shared by the ports it taps.
pub(crate) struct Capture {
    until: Instant,
    state: Mutex<State>,
}

struct State {
    file: File,
    packets_left: u32,
    /// Gone once the file is on its way.
    done: Option<oneshot::Sender<Vec<u8>>>,
}

/// What one port adds to a capture.
#[derive(Clone)]
pub(crate) struct Tap {
    pub(crate) capture: Arc<Capture>,
    /// Positions among the interfaces of the capture.
    pub(crate) entry: u32,
    pub(crate) exit: u32,
    /// Whose media it is: `caller audio rtp`.
    pub(crate) whose: Arc<str>,
}

impl Capture {
    /// Begins; the file goes to `done`.
    pub(crate) fn new(
        interfaces: &[String],
        limits: Limits,
        now: Instant,
        done: oneshot::Sender<Vec<u8>>,
    ) -> Self {
        Self {
            until: now + limits.time,
            state: Mutex::new(State {
                file: File::new(interfaces),
                packets_left: limits.packets,
                done: Some(done),
            }),
        }
    }

    /// Whether it is over: full, out of time, or nobody waits for it.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        now >= self.until || state.done.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    /// Hands the file over, if that has not been done.
    pub(crate) fn finish(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.finish();
    }

    fn add(&self, packet: &Packet<'_>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.done.is_none() {
            return;
        }
        state.file.add(packet);
        state.packets_left = state.packets_left.saturating_sub(1);
        if state.packets_left == 0 || state.file.bytes() >= BYTES_MAX {
            state.finish();
        }
    }
}

impl State {
    fn finish(&mut self) {
        if let Some(done) = self.done.take() {
            // Whoever asked may have gone.
            drop(done.send(self.file.take()));
        }
    }
}

impl Tap {
    /// A packet came in, and a rule claimed it or none did.
    pub(crate) fn enters(
        &self,
        [from, to]: [SocketAddr; 2],
        marks: Marks,
        payload: &[u8],
        claimed: bool,
    ) {
        let what = if claimed {
            "enters"
        } else {
            "enters, claimed by no flow"
        };
        self.add(Direction::In, [from, to], marks, payload, what);
    }

    /// A packet was sent on.
    pub(crate) fn leaves(&self, ends: [SocketAddr; 2], marks: Marks, payload: &[u8]) {
        self.add(Direction::Out, ends, marks, payload, "leaves");
    }

    fn add(
        &self,
        direction: Direction,
        [from, to]: [SocketAddr; 2],
        marks: Marks,
        payload: &[u8],
        what: &str,
    ) {
        let interface = match direction {
            Direction::In => self.entry,
            Direction::Out => self.exit,
        };
        self.capture.add(&Packet {
            at: clock::wall(),
            interface,
            direction,
            from,
            to,
            marks,
            payload,
            comment: &format!("{} {what}", self.whose),
        });
    }
}
