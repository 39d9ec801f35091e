//! A host with no business here: sprays media ports, keeps what it gets.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use super::Packet;
use super::rtp;

/// The source strangers' packets carry unless they copy one.
pub const SSRC: u32 = 0x0bad_cafe;

#[derive(Debug)]
pub struct Stranger {
    pub at: SocketAddr,
    pub received: Vec<Packet>,
    spray: Option<Spray>,
}

#[derive(Debug)]
struct Spray {
    towards: SocketAddr,
    ports: RangeInclusive<u16>,
    every: Duration,
    next: Instant,
    ssrc: u32,
    round: u32,
}

impl Stranger {
    #[must_use]
    pub fn new(at: SocketAddr) -> Self {
        Self {
            at,
            received: Vec::new(),
            spray: None,
        }
    }

    /// From now on, a packet to every one of these ports, again and again.
    pub fn spray(
        &mut self,
        towards: SocketAddr,
        ports: RangeInclusive<u16>,
        every: Duration,
        ssrc: u32,
        now: Instant,
    ) {
        self.spray = Some(Spray {
            towards,
            ports,
            every,
            next: now,
            ssrc,
            round: 0,
        });
    }

    pub fn stop(&mut self) {
        self.spray = None;
    }

    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.spray.as_ref().map(|spray| spray.next)
    }

    pub fn expire(&mut self, now: Instant, out: &mut Vec<Packet>) {
        let Some(spray) = self.spray.as_mut().filter(|spray| spray.next <= now) else {
            return;
        };
        spray.next = now + spray.every;
        spray.round += 1;
        for port in spray.ports.clone() {
            let bytes = if port % 2 == 0 {
                rtp::forged(spray.ssrc, spray.round)
            } else {
                rtp::forged_report(spray.ssrc)
            };
            let (from, to) = (self.at, SocketAddr::new(spray.towards.ip(), port));
            let bytes = bytes.into();
            out.push(Packet { from, to, bytes });
        }
    }
}
