//! A NAT box between two links, with every behaviour of RFC 4787: the kernel's masquerading has
//! one of them only. What to do with a packet is decided by the simulator's `Nat`; here are the
//! frames, the neighbours and the clock.
//!
//! It translates UDP in IPv4. Everything else, ICMP and fragments among it, is dropped and counted.

mod link;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;

pub use link::Face;

use crate::clock;
use crate::frame::{self, Checksum, Datagram, Seen};
use crate::netns::Namespace;
use crate::packet::{self, FRAME_BYTES_MAX};
use crate::sim::nat::{Behaviour, Nat};
use crate::sim::rng::Rng;
use link::{Arrived, Link};

/// How long a box may take to notice that it shall stop.
const STOP_LIMIT: Duration = Duration::from_millis(20);

/// Frames read from one link before the other gets its turn.
const BURST_FRAMES_MAX: usize = 256;

/// Of the ports a box draws.
const SEED: u64 = 4787;

/// What a box did so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Translated, in either direction.
    pub translated: u64,
    /// No mapping, or not let in by the filter.
    pub refused: u64,
    /// Not UDP in IPv4, or broken.
    pub other: u64,
}

/// A running box; stops on drop.
#[derive(Debug)]
pub struct NatBox {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    nat: Mutex<Nat>,
    translated: AtomicU64,
    refused: AtomicU64,
    other: AtomicU64,
}

impl NatBox {
    /// Starts to translate between two interfaces of `namespace`, which have no addresses of their
    /// own: the box answers for its faces itself.
    ///
    /// # Errors
    /// An interface does not exist, or no CAP_NET_RAW.
    pub fn start(
        namespace: &Namespace,
        inside: &Face<'_>,
        outside: &Face<'_>,
        behaviour: Behaviour,
    ) -> Result<Self> {
        let nat = Nat::new(outside.address()?.into(), behaviour);
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            nat: Mutex::new(nat),
            translated: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            other: AtomicU64::new(0),
        });
        let theirs = Arc::clone(&shared);
        let mac = |face: &Face<'_>| namespace.mac(face.interface);
        let macs = (mac(inside)?, mac(outside)?);
        let open = || Ok((Link::open(inside, macs.0)?, Link::open(outside, macs.1)?));
        let body = move |(inside, outside)| {
            Work {
                inside,
                outside,
                rng: Rng::new(SEED),
                shared: theirs,
            }
            .run();
        };
        let thread = Some(namespace.spawn("NAT box", open, body)?);
        Ok(Self { shared, thread })
    }

    /// As after a power cut, or on another uplink: every mapping is gone.
    pub fn rebind(&self) {
        self.shared.nat().rebind();
    }

    /// Another box at the same place: it behaves like this and knows nobody.
    pub fn replace(&self, behaviour: Behaviour) {
        let mut nat = self.shared.nat();
        nat.behaviour = behaviour;
        nat.rebind();
    }

    #[must_use]
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            translated: read(&self.shared.translated),
            refused: read(&self.shared.refused),
            other: read(&self.shared.other),
        }
    }
}

impl Drop for NatBox {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if self.thread.take().is_some_and(|t| t.join().is_err()) {
            eprintln!("lab: a NAT box panicked");
        }
    }
}

impl Shared {
    fn nat(&self) -> MutexGuard<'_, Nat> {
        self.nat.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A side of the box.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Side {
    Inside,
    Outside,
}

/// The box at work.
struct Work {
    inside: Link,
    outside: Link,
    rng: Rng,
    shared: Arc<Shared>,
}

impl Work {
    fn run(mut self) {
        let mut buffer = [0; FRAME_BYTES_MAX];
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.drain(Side::Inside, &mut buffer);
            self.drain(Side::Outside, &mut buffer);
            let sockets = [self.inside.socket(), self.outside.socket()];
            if packet::wait(&sockets, STOP_LIMIT).is_err() {
                return;
            }
        }
    }

    fn drain(&mut self, side: Side, buffer: &mut [u8]) {
        for _ in 0..BURST_FRAMES_MAX {
            let Ok(Some(arrived)) = self.link(side).receive(buffer) else {
                return;
            };
            let counter = match arrived {
                Arrived::Neighbour => continue,
                Arrived::Packet(frame) => match frame::read(frame) {
                    Ok(seen) => self.packet(side, seen),
                    Err(_) => &self.shared.other,
                },
                Arrived::Other => &self.shared.other,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sends a packet on, or not; the counter of what became of it.
    fn packet(&mut self, side: Side, seen: Seen) -> &AtomicU64 {
        let decided = decide(&mut self.shared.nat(), side, &seen, &mut self.rng);
        let Some((to_side, from, to)) = decided.filter(|_| seen.hops > 1) else {
            return &self.shared.refused;
        };
        let onward = Datagram {
            tos: seen.tos,
            hops: seen.hops - 1,
            checksum: if seen.checksum {
                Checksum::Full
            } else {
                Checksum::None
            },
            ..Datagram::new(from, to, seen.payload)
        };
        match self.link(to_side).send(onward) {
            Ok(()) => &self.shared.translated,
            Err(_) => &self.shared.refused,
        }
    }

    fn link(&mut self, side: Side) -> &mut Link {
        match side {
            Side::Inside => &mut self.inside,
            Side::Outside => &mut self.outside,
        }
    }
}

/// Where a packet goes on to, from whom and to whom it is then.
fn decide(
    nat: &mut Nat,
    side: Side,
    seen: &Seen,
    rng: &mut Rng,
) -> Option<(Side, SocketAddr, SocketAddr)> {
    let (now, hairpin) = (clock::now(), seen.to.ip() == nat.outside);
    match side {
        Side::Inside if hairpin && !nat.behaviour.hairpin => None,
        Side::Inside => {
            let from = nat.outbound(seen.from, seen.to, now, rng);
            if !hairpin {
                return Some((Side::Outside, from, seen.to));
            }
            // RFC 4787 §6: as if it had come from outside, with its outside address.
            let to = nat.inbound(from, seen.to, now)?;
            Some((Side::Inside, from, to))
        }
        Side::Outside if !hairpin => None,
        Side::Outside => {
            let to = nat.inbound(seen.from, seen.to, now)?;
            Some((Side::Inside, seen.from, to))
        }
    }
}
