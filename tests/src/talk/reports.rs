//! RTCP beside a stream: numbered sender reports (RFC 3550 §6.4.1), and who sent what came.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::clock;
use crate::rtp::is_quiet;

/// Time between reports; RFC 3550 §6.2 has seconds, for which no scenario waits.
const EVERY: Duration = Duration::from_millis(20);

/// Shortest time a socket waits: zero would mean for ever.
const WAIT_MIN: Duration = Duration::from_micros(100);

/// Senders kept apart; reports of further ones are counted only.
const SENDERS_MAX: usize = 64;

/// In the place of the octet count: a report of ours, not one that looks like it.
const MARK: [u8; 4] = *b"mark";

/// What one party sent and got.
#[derive(Clone, Debug, Default)]
pub(super) struct Reports {
    pub(super) sent: u32,
    /// By source address and SSRC: the numbers, and how many came in all.
    pub(super) received: BTreeMap<(SocketAddr, u32), (BTreeSet<u32>, u64)>,
    /// Datagrams that are not such reports, or of too many senders.
    pub(super) other: u64,
}

/// Sends reports until `stop` is set and receives meanwhile, and for `linger` after; `received`
/// shows how many came.
///
/// # Errors
/// A send fails: no route, for one.
pub(super) fn exchange(
    socket: &UdpSocket,
    to: SocketAddr,
    ssrc: u32,
    stop: &AtomicBool,
    linger: Duration,
    received: &AtomicU64,
) -> Result<Reports> {
    let start = clock::now();
    let mut reports = Reports::default();
    while !stop.load(Ordering::Relaxed) {
        receive(socket, start + EVERY * reports.sent, &mut reports, received)?;
        match socket.send_to(&report(ssrc, reports.sent), to) {
            // An earlier one met a closed port; this one was not sent.
            Err(e) if is_quiet(e.kind()) => {}
            sent => {
                sent.with_context(|| format!("send a report to {to}"))?;
                reports.sent += 1;
            }
        }
    }
    receive(socket, clock::now() + linger, &mut reports, received)?;
    Ok(reports)
}

fn receive(
    socket: &UdpSocket,
    deadline: Instant,
    reports: &mut Reports,
    received: &AtomicU64,
) -> Result<()> {
    let mut buffer = [0; 2048];
    loop {
        let left = deadline.saturating_duration_since(clock::now());
        if left.is_zero() {
            return Ok(());
        }
        socket.set_read_timeout(Some(left.max(WAIT_MIN)))?;
        match socket.recv_from(&mut buffer) {
            Ok((length, from)) => {
                reports.datagram(from, buffer.get(..length).unwrap_or_default());
                received.fetch_add(1, Ordering::Relaxed);
            }
            Err(e) if is_quiet(e.kind()) => {}
            Err(e) => return Err(e).context("receive reports"),
        }
    }
}

impl Reports {
    fn datagram(&mut self, from: SocketAddr, datagram: &[u8]) {
        let known = self.received.len();
        match read(datagram) {
            Some((ssrc, number))
                if known < SENDERS_MAX || self.received.contains_key(&(from, ssrc)) =>
            {
                let (numbers, count) = self.received.entry((from, ssrc)).or_default();
                numbers.insert(number);
                *count += 1;
            }
            Some(_) | None => self.other += 1,
        }
    }
}

/// A sender report without blocks; its packet count is its number.
fn report(ssrc: u32, number: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 200, 0, 6];
    packet.extend(ssrc.to_be_bytes());
    packet.extend([0; 12]); // NTP and RTP time
    packet.extend(number.to_be_bytes());
    packet.extend(MARK);
    packet
}

/// SSRC and number of such a report.
fn read(datagram: &[u8]) -> Option<(u32, u32)> {
    let word = |at: usize| datagram.get(at..at + 4)?.try_into().ok();
    (word(0)? == [0x80, 200, 0, 6] && word(24)? == MARK && datagram.len() == 28).then_some(())?;
    Some((u32::from_be_bytes(word(4)?), u32::from_be_bytes(word(20)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let written = report(0x0102_0304, 77);
        assert_eq!(read(&written), Some((0x0102_0304, 77)));
        assert_eq!(read(&crate::frame::rtcp()), None);
        for cut in 0..written.len() {
            assert_eq!(read(&written[..cut]), None, "{cut}");
        }
    }
}
