//! A passive observer: reads every RTP packet that passes one interface and judges each stream,
//! without being a party to the call.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;

use crate::clock;
use crate::netns::Namespace;
use crate::packet::{self, Direction, FRAME_BYTES_MAX, PacketSocket};
use crate::rtp::oracle::{self, Judgement, Oracle};
use crate::rtp::{Header, STREAMS_MAX};

/// How long the observer may take to notice that it shall stop.
const STOP_LIMIT: Duration = Duration::from_millis(20);

/// One stream as it passed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observed {
    pub direction: Direction,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub ssrc: u32,
    pub judgement: Judgement,
}

impl Observed {
    /// Audio, by its payload type; else video.
    #[must_use]
    pub fn is_audio(&self) -> bool {
        oracle::is_audio(self.judgement.payload_type)
    }
}

/// A running observer; stops on drop.
#[derive(Debug)]
pub struct Observer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    streams: Mutex<BTreeMap<Key, Oracle>>,
}

/// Direction (true: out), source, destination, SSRC.
type Key = (bool, SocketAddr, SocketAddr, u32);

impl Observer {
    /// Starts to observe an interface of `namespace`.
    ///
    /// # Errors
    /// No such interface, or no CAP_NET_RAW.
    pub fn start(namespace: &Namespace, interface: &str) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let open = || PacketSocket::open(interface);
        let body = move |socket| observe(&socket, &theirs);
        let thread = Some(namespace.spawn("observer", open, body)?);
        Ok(Self { shared, thread })
    }

    /// Everything observed so far.
    #[must_use]
    pub fn streams(&self) -> Vec<Observed> {
        let streams = self
            .shared
            .streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let observed = |(key, oracle): (&Key, &Oracle)| {
            let (outgoing, from, to, ssrc) = *key;
            let direction = if outgoing {
                Direction::Out
            } else {
                Direction::In
            };
            Observed {
                direction,
                from,
                to,
                ssrc,
                judgement: oracle.judge(),
            }
        };
        streams.iter().map(observed).collect()
    }

    /// What came in.
    #[must_use]
    pub fn received(&self) -> Vec<Observed> {
        let all = self.streams().into_iter();
        all.filter(|s| s.direction == Direction::In).collect()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if self.thread.take().is_some_and(|t| t.join().is_err()) {
            eprintln!("lab: an observer panicked");
        }
    }
}

fn observe(socket: &PacketSocket, shared: &Shared) {
    let mut buffer = [0; FRAME_BYTES_MAX];
    while !shared.stop.load(Ordering::Relaxed) {
        while let Ok(Some((frame, direction))) = socket.receive(&mut buffer) {
            let at = clock::now();
            let Some((from, to, header)) = dissect(frame) else {
                continue;
            };
            let key = (direction == Direction::Out, from, to, header.ssrc);
            let mut streams = shared
                .streams
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if streams.len() < STREAMS_MAX || streams.contains_key(&key) {
                let new = || Oracle::new(oracle::clock_rate(header.payload_type));
                streams.entry(key).or_insert_with(new).packet(&header, at);
            }
        }
        if packet::wait(&[socket], STOP_LIMIT).is_err() {
            return;
        }
    }
}

/// Source, destination and RTP header of an Ethernet frame that carries RTP over UDP.
fn dissect(frame: &[u8]) -> Option<(SocketAddr, SocketAddr, Header)> {
    let packet = frame.get(14..)?;
    let (from, to, udp): (IpAddr, IpAddr, &[u8]) = match frame.get(12..14)? {
        [0x08, 0x00] => {
            let header_bytes = usize::from(packet.first()? & 0x0f) * 4;
            (*packet.get(9)? == 17).then_some(())?;
            let from: [u8; 4] = *packet.get(12..)?.first_chunk()?;
            let to: [u8; 4] = *packet.get(16..)?.first_chunk()?;
            let udp = packet.get(header_bytes..)?;
            (Ipv4Addr::from(from).into(), Ipv4Addr::from(to).into(), udp)
        }
        [0x86, 0xdd] => {
            (*packet.get(6)? == 17).then_some(())?;
            let from: [u8; 16] = *packet.get(8..)?.first_chunk()?;
            let to: [u8; 16] = *packet.get(24..)?.first_chunk()?;
            (
                Ipv6Addr::from(from).into(),
                Ipv6Addr::from(to).into(),
                packet.get(40..)?,
            )
        }
        _ => return None,
    };
    let [s0, s1, d0, d1, ..] = *udp.first_chunk::<8>()?;
    let header = Header::parse(udp.get(8..)?)?;
    let source = SocketAddr::new(from, u16::from_be_bytes([s0, s1]));
    let target = SocketAddr::new(to, u16::from_be_bytes([d0, d1]));
    Some((source, target, header))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame_v4(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0]);
        frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([0x0f, 0xa0, 0x0f, 0xa2, 0, 0, 0, 0]);
        frame.extend(payload);
        frame
    }

    fn check(frame: &[u8], expected: Option<(&str, &str)>) {
        let found = dissect(frame).map(|(from, to, _)| (from.to_string(), to.to_string()));
        assert_eq!(found, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }

    #[test]
    fn only_rtp_is_dissected() {
        let rtp = [0x80, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        let good = frame_v4(17, &rtp);
        check(&good, Some(("10.0.0.1:4000", "10.0.0.2:4002")));
        check(&frame_v4(6, &rtp), None);
        check(&frame_v4(17, b"INVITE sip:a@b SIP/2.0"), None);
        let mut v6 = vec![0; 12];
        v6.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 17, 64]);
        v6.extend(Ipv6Addr::LOCALHOST.octets());
        v6.extend(Ipv6Addr::UNSPECIFIED.octets());
        v6.extend([0x0f, 0xa0, 0x0f, 0xa2, 0, 0, 0, 0]);
        v6.extend(rtp);
        check(&v6, Some(("[::1]:4000", "[::]:4002")));
        for cut in 0..good.len() {
            check(&good[..cut], None);
        }
    }
}
