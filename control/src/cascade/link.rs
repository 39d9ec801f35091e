//! A link to a neighbour: what is put in comes out at the other side in order and once, whatever
//! happens to connections meanwhile. Both sides number what they send and keep it until the other
//! says that it has it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;

/// Frames under way, not acknowledged yet.
pub const WINDOW: usize = 16;
/// Frames that wait, those under way among them.
pub const QUEUE_MAX: usize = 4096;
/// And their octets.
pub const QUEUE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// One side of a link.
#[derive(Clone, Debug)]
pub struct Link {
    boot: u64,
    /// Not acknowledged, oldest first.
    queue: VecDeque<Queued>,
    bytes: usize,
    /// Number of the next frame that is put in.
    next: u64,
    /// Frames of the queue that were sent since the connection is there.
    sent: usize,
    heard: Option<Had>,
    /// Came before what is missing.
    early: BTreeMap<u64, Bytes>,
    overflowed: bool,
}

#[derive(Clone, Debug)]
struct Queued {
    number: u64,
    frame: Bytes,
    expires: Option<Instant>,
}

/// How far one side has heard the other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Had {
    /// Of the one heard: its numbers begin anew at every start.
    pub boot: u64,
    pub number: u64,
}

/// A frame on its way. An empty one was not worth sending any more.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Numbered {
    pub number: u64,
    pub frame: Bytes,
}

/// The queue is full: the frame was not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Full;

impl Link {
    /// `boot` is another one at every start, as [`super::Cascade::new`]'s.
    #[must_use]
    pub fn new(boot: u64) -> Self {
        Self {
            boot,
            queue: VecDeque::new(),
            bytes: 0,
            next: 1,
            sent: 0,
            heard: None,
            early: BTreeMap::new(),
            overflowed: false,
        }
    }

    /// Puts in a frame; after `expires` it is not sent any more.
    ///
    /// # Errors
    /// The queue is full.
    pub fn push(&mut self, frame: Bytes, expires: Option<Instant>) -> Result<(), Full> {
        let bytes = self.bytes.saturating_add(frame.len());
        if self.queue.len() >= QUEUE_MAX || bytes > QUEUE_BYTES_MAX {
            self.overflowed = true;
            return Err(Full);
        }
        self.bytes = bytes;
        self.queue.push_back(Queued {
            number: self.next,
            frame,
            expires,
        });
        self.next += 1;
        Ok(())
    }

    /// The next frame to be sent, if the window allows one.
    pub fn take(&mut self, now: Instant) -> Option<Numbered> {
        if self.sent >= WINDOW {
            return None;
        }
        let queued = self.queue.get_mut(self.sent)?;
        self.sent += 1;
        if queued.expires.is_some_and(|at| at <= now) {
            self.bytes -= queued.frame.len();
            queued.frame = Bytes::new();
        }
        Some(Numbered {
            number: queued.number,
            frame: queued.frame.clone(),
        })
    }

    /// Whether [`Link::take`] has something.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.sent < WINDOW && self.sent < self.queue.len()
    }

    /// Another connection, or nothing was heard of what was sent: all of it is due again.
    pub fn rewind(&mut self) {
        self.sent = 0;
    }

    /// The number of the oldest frame that is kept, or of the next.
    #[must_use]
    pub fn oldest(&self) -> u64 {
        self.queue.front().map_or(self.next, |queued| queued.number)
    }

    /// The other side has so much of ours.
    pub fn acknowledged(&mut self, had: Had) {
        if had.boot != self.boot {
            return;
        }
        while let Some(first) = self.queue.front()
            && first.number <= had.number
        {
            self.bytes -= first.frame.len();
            self.queue.pop_front();
            self.sent = self.sent.saturating_sub(1);
        }
    }

    /// A frame of the other side; returned is what is to be handled now, in order: nothing that
    /// came already, nothing before what is missing. `oldest` is the number of the oldest frame
    /// that the sender keeps.
    pub fn receive(&mut self, boot: u64, oldest: u64, numbered: Numbered) -> Vec<Bytes> {
        let mut heard = match self.heard {
            Some(heard) if heard.boot == boot => heard.number,
            // What came before, we had before our start, or nobody will ever have.
            _ => {
                self.early.clear();
                oldest.saturating_sub(1)
            }
        };
        // What the sender has given up it had been told was here.
        heard = heard.max(oldest.saturating_sub(1));
        let ahead = numbered.number.saturating_sub(heard);
        if ahead == 1 || (ahead > 1 && self.early.len() < WINDOW) {
            self.early.insert(numbered.number, numbered.frame);
        }
        let mut frames = Vec::new();
        self.early.retain(|number, _| *number > heard);
        while let Some(frame) = self.early.remove(&(heard + 1)) {
            heard += 1;
            // An empty one was not worth sending any more.
            if !frame.is_empty() {
                frames.push(frame);
            }
        }
        self.heard = Some(Had {
            boot,
            number: heard,
        });
        frames
    }

    /// What the other side is told it need not send again.
    #[must_use]
    pub fn heard(&self) -> Option<Had> {
        self.heard
    }

    #[must_use]
    pub fn boot(&self) -> u64 {
        self.boot
    }

    /// Frames that wait or are under way.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Frames under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.sent
    }

    /// Whether frames were refused, and there is room again. Says so once.
    pub fn recovered(&mut self) -> bool {
        let recovered = self.overflowed && self.queue.len() < QUEUE_MAX / 2;
        if recovered {
            self.overflowed = false;
        }
        recovered
    }
}

#[cfg(test)]
mod tests;
