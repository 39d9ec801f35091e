//! A name server that knows a few records, on a socket of its own.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// How soon it notices that it is to end.
const PATIENCE: Duration = Duration::from_millis(50);
const TTL_S: u32 = 300;

/// What is known of a name.
#[derive(Clone, Debug)]
pub enum Record {
    Address(IpAddr),
    /// Priority, weight, port, target.
    Server(u16, u16, u16, &'static str),
    /// Order, preference, service, replacement.
    Service(u16, u16, &'static str, &'static str),
}

impl Record {
    /// Its type (RFC 1035 §3.2.2, RFC 3596, RFC 2782, RFC 3403).
    fn kind(&self) -> u16 {
        match self {
            Self::Address(IpAddr::V4(_)) => 1,
            Self::Address(IpAddr::V6(_)) => 28,
            Self::Server(..) => 33,
            Self::Service(..) => 35,
        }
    }

    fn data(&self) -> Vec<u8> {
        match self {
            Self::Address(IpAddr::V4(ip)) => ip.octets().to_vec(),
            Self::Address(IpAddr::V6(ip)) => ip.octets().to_vec(),
            Self::Server(priority, weight, port, target) => {
                let numbers = [priority, weight, port].map(|n| n.to_be_bytes());
                [numbers.concat(), name(target)].concat()
            }
            Self::Service(order, preference, service, replacement) => {
                let numbers = [order, preference].map(|n| n.to_be_bytes());
                let strings = [text("s"), text(service), text("")];
                [numbers.concat(), strings.concat(), name(replacement)].concat()
            }
        }
    }
}

/// Answers until dropped.
pub struct NameServer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    /// # Errors
    /// The address cannot be had.
    pub fn start(at: SocketAddr, zone: &[(&'static str, Record)]) -> Result<Self> {
        let socket = UdpSocket::bind(at).with_context(|| format!("bind {at}"))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (ends, zone) = (stop.clone(), zone.to_vec());
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while !ends.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else {
                    continue;
                };
                let answer = buffer.get(..length).and_then(|query| answer(query, &zone));
                if let Some(answer) = answer {
                    // Who has gone asks again or not.
                    drop(socket.send_to(&answer, from));
                }
            }
        });
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// None: it is no question.
fn answer(query: &[u8], zone: &[(&'static str, Record)]) -> Option<Vec<u8>> {
    let id = query.get(..2)?;
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*query.get(at)?);
        let label = query.get(at + 1..at + 1 + length)?;
        at += 1 + length;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
    }
    let asked = labels.join(".");
    let kind = u16::from_be_bytes(query.get(at..at + 2)?.try_into().ok()?);
    let question = query.get(12..at + 4)?;
    let known = zone.iter().any(|(name, _)| *name == asked);
    let found = zone
        .iter()
        .filter(|(name, record)| *name == asked && record.kind() == kind);
    let mut records = Vec::new();
    let mut count = 0_u16;
    for (_, record) in found {
        let data = record.data();
        count += 1;
        // The name of the question.
        records.extend([0xc0, 12]);
        records.extend(kind.to_be_bytes());
        records.extend(1_u16.to_be_bytes());
        records.extend(TTL_S.to_be_bytes());
        records.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
        records.extend(data);
    }
    // A response with authority; NXDOMAIN for what is not known at all.
    let flags: u16 = 0x8400 | if known { 0 } else { 3 };
    let numbers = [flags, 1, count, 0, 0].map(u16::to_be_bytes).concat();
    Some([id, &numbers, question, &records].concat())
}

fn text(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
    [&[length], text.as_bytes()].concat()
}

fn name(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut octets: Vec<u8> = labels.flat_map(text).collect();
    octets.push(0);
    octets
}
