//! Scripted RTP: a socket in a namespace that sends numbered packets and judges what it receives.

pub mod oracle;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

pub use oracle::{Judgement, Oracle};

use crate::clock;
use crate::netns::Namespace;

/// A fixed RTP header (RFC 3550 §5.1).
pub const HEADER_BYTES: usize = 12;

/// Streams one receiver keeps apart; packets of further ones are counted only.
pub const STREAMS_MAX: usize = 64;

/// How long a port may be taken.
const BIND_LIMIT: Duration = Duration::from_millis(500);

/// Shortest time a socket waits: zero would mean for ever.
const WAIT_MIN: Duration = Duration::from_micros(100);

/// What an RTP header says that matters here (RFC 3550 §5.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    pub payload_type: u8,
    pub marker: bool,
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: u32,
}

impl Header {
    /// Reads a datagram; none if it is not RTP (RFC 7983 §7, RFC 5761 §4).
    #[must_use]
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        let head: &[u8; HEADER_BYTES] = datagram.first_chunk()?;
        let [first, second, s0, s1, t0, t1, t2, t3, i0, i1, i2, i3] = *head;
        if first >> 6 != 2 || (192..=223).contains(&second) {
            return None;
        }
        Some(Self {
            payload_type: second & 0x7f,
            marker: second & 0x80 != 0,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([i0, i1, i2, i3]),
        })
    }

    /// A packet with this header and `payload`.
    #[must_use]
    pub fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let mut packet = Vec::with_capacity(HEADER_BYTES + payload.len());
        packet.extend([0x80, u8::from(self.marker) << 7 | self.payload_type & 0x7f]);
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(self.timestamp.to_be_bytes());
        packet.extend(self.ssrc.to_be_bytes());
        packet.extend(payload);
        packet
    }
}

/// What to send: a constant stream.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    pub ssrc: u32,
    pub payload_type: u8,
    /// The first sequence number; near 65535 it wraps.
    pub sequence: u16,
    pub payload_bytes: usize,
    /// Time between packets.
    pub every: Duration,
    /// Timestamp units between packets.
    pub timestamp_step: u32,
    pub packets: u32,
}

impl Stream {
    /// G.711: 50 packets a second of 160 bytes.
    #[must_use]
    pub fn voice(ssrc: u32, packets: u32) -> Self {
        Self {
            ssrc,
            payload_type: 0,
            sequence: 65_500,
            payload_bytes: 160,
            every: Duration::from_millis(20),
            timestamp_step: 160,
            packets,
        }
    }

    /// The packet with this number, counted from 0.
    #[must_use]
    pub fn packet(&self, number: u32) -> Vec<u8> {
        // Sequence numbers wrap (RFC 3550 §5.1).
        let offset = (number & 0xffff) as u16;
        let header = Header {
            payload_type: self.payload_type,
            marker: number == 0,
            sequence: self.sequence.wrapping_add(offset),
            timestamp: number.wrapping_mul(self.timestamp_step),
            ssrc: self.ssrc,
        };
        let [.., filling] = number.to_be_bytes();
        header.packet(&vec![filling; self.payload_bytes])
    }
}

/// A UDP socket in a namespace.
#[derive(Debug)]
pub struct RtpSocket {
    socket: UdpSocket,
}

/// What a socket received.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub sent: u32,
    /// By source address and SSRC.
    pub received: BTreeMap<(SocketAddr, u32), Judgement>,
    /// Datagrams that were not RTP, or of too many streams.
    pub other: u64,
}

impl Report {
    /// The only stream that came from `source`.
    #[must_use]
    pub fn from(&self, source: SocketAddr, ssrc: u32) -> Option<&Judgement> {
        self.received.get(&(source, ssrc))
    }

    /// RTP packets from anyone but `source`.
    #[must_use]
    pub fn unexpected(&self, source: SocketAddr) -> u64 {
        let others = self
            .received
            .iter()
            .filter(|((from, _), _)| *from != source);
        others.map(|(_, j)| j.packets).sum()
    }
}

impl RtpSocket {
    /// Binds in `namespace`; port 0 lets the kernel choose.
    ///
    /// # Errors
    /// The address is not there, or taken.
    pub fn bind(namespace: &Namespace, address: SocketAddr) -> Result<Self> {
        // A child that another thread just forked holds our closed sockets until it executes.
        let what = format!("bind {address} in {}", namespace.name());
        let socket = clock::until(&what, BIND_LIMIT, || {
            match namespace.enter(|| UdpSocket::bind(address))? {
                Err(e) if e.kind() == ErrorKind::AddrInUse => Ok(None),
                bound => bound.map(Some).with_context(|| what.clone()),
            }
        })?;
        Ok(Self { socket })
    }

    /// Where it is bound.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn address(&self) -> Result<SocketAddr> {
        self.socket.local_addr().context("local address")
    }

    /// Another handle of the same socket.
    ///
    /// # Errors
    /// No more descriptors.
    pub fn try_clone(&self) -> Result<Self> {
        let socket = self.socket.try_clone().context("clone a socket")?;
        Ok(Self { socket })
    }

    /// Its bare socket.
    ///
    /// # Errors
    /// No more descriptors.
    pub fn socket(&self) -> Result<UdpSocket> {
        self.socket.try_clone().context("clone a socket")
    }

    /// Sends a stream at its pace and receives meanwhile; goes on receiving for `linger` after the
    /// last packet.
    ///
    /// # Errors
    /// A send fails: no route, for one. An ICMP error from the other end is not one.
    pub fn exchange(&self, to: SocketAddr, stream: Stream, linger: Duration) -> Result<Report> {
        let (never, nobody) = (AtomicBool::new(false), Progress::default());
        self.exchange_until(to, stream, &never, linger, &nobody)
    }

    /// The same, but sends no more once `stop` is set; `progress` shows how far it is.
    ///
    /// # Errors
    /// As `exchange`.
    pub fn exchange_until(
        &self,
        to: SocketAddr,
        stream: Stream,
        stop: &AtomicBool,
        linger: Duration,
        progress: &Progress,
    ) -> Result<Report> {
        let start = clock::now();
        let mut receiver = Receiver::default();
        for number in 0..stream.packets {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            self.receive_until(start + stream.every * number, &mut receiver)?;
            progress.received.store(receiver.packets, Ordering::Relaxed);
            match self.socket.send_to(&stream.packet(number), to) {
                // An earlier packet met a closed port; this one was not sent.
                Err(e) if e.kind() == ErrorKind::ConnectionRefused => {}
                sent => {
                    sent.with_context(|| format!("send to {to}"))?;
                    receiver.report.sent += 1;
                }
            }
        }
        self.receive_until(clock::now() + linger, &mut receiver)?;
        Ok(receiver.finish())
    }

    /// Receives only.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn receive(&self, time: Duration) -> Result<Report> {
        let mut receiver = Receiver::default();
        self.receive_until(clock::now() + time, &mut receiver)?;
        Ok(receiver.finish())
    }

    fn receive_until(&self, deadline: Instant, receiver: &mut Receiver) -> Result<()> {
        let mut buffer = [0; 2048];
        loop {
            let left = deadline.saturating_duration_since(clock::now());
            if left.is_zero() {
                return Ok(());
            }
            self.socket.set_read_timeout(Some(left.max(WAIT_MIN)))?;
            match self.socket.recv_from(&mut buffer) {
                Ok((length, from)) => {
                    receiver.datagram(from, buffer.get(..length).unwrap_or_default());
                }
                Err(e) if is_quiet(e.kind()) => {}
                Err(e) => return Err(e).context("receive"),
            }
        }
    }
}

/// Nothing there yet, or an ICMP error that an earlier send caused.
pub(crate) fn is_quiet(kind: ErrorKind) -> bool {
    [
        ErrorKind::WouldBlock,
        ErrorKind::TimedOut,
        ErrorKind::Interrupted,
        ErrorKind::ConnectionRefused,
    ]
    .contains(&kind)
}

/// How far an exchange is, for those who watch it.
#[derive(Debug, Default)]
pub struct Progress {
    /// RTP packets of all streams.
    pub received: AtomicU64,
}

#[derive(Default)]
struct Receiver {
    packets: u64,
    report: Report,
    oracles: BTreeMap<(SocketAddr, u32), Oracle>,
}

impl Receiver {
    fn datagram(&mut self, from: SocketAddr, datagram: &[u8]) {
        let now = clock::now();
        let Some(header) = Header::parse(datagram) else {
            self.report.other += 1;
            return;
        };
        let key = (from, header.ssrc);
        if self.oracles.len() >= STREAMS_MAX && !self.oracles.contains_key(&key) {
            self.report.other += 1;
            return;
        }
        self.packets += 1;
        let rate = oracle::clock_rate(header.payload_type);
        self.oracles
            .entry(key)
            .or_insert_with(|| Oracle::new(rate))
            .packet(&header, now);
    }

    fn finish(mut self) -> Report {
        self.report.received = self.oracles.iter().map(|(k, o)| (*k, o.judge())).collect();
        self.report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(datagram: &[u8], is_rtp: bool) {
        assert_eq!(Header::parse(datagram).is_some(), is_rtp, "{datagram:02x?}");
    }

    #[test]
    fn rtp_is_told_from_its_neighbours() {
        let header = Header {
            payload_type: 96,
            marker: true,
            sequence: 65_535,
            timestamp: 7,
            ssrc: 0x0102_0304,
        };
        let packet = header.packet(b"abc");
        assert_eq!(Header::parse(&packet), Some(header));
        check(&packet, true);
        check(&packet[..12], true);
        check(&packet[..11], false);
        check(&[], false);
        check(&[0x80, 200, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0], false); // RTCP sender report
        check(
            &[0x00, 0x01, 0, 0, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0],
            false,
        ); // STUN
        check(&[22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0], false); // DTLS
    }

    #[test]
    fn a_stream_wraps() {
        let stream = Stream::voice(1, 100);
        let sequence = |n| Header::parse(&stream.packet(n)).unwrap().sequence;
        assert_eq!(
            (sequence(0), sequence(35), sequence(36)),
            (65_500, 65_535, 0)
        );
    }
}
