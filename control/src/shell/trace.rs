//! Copies of SIP messages for a capture server (HEP version 3, as Homer takes it): what comes and
//! goes is left in a bounded queue, and one task sends it on. Nobody waits for it.

mod hep;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tokio::net::{UdpSocket, lookup_host};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::config::trace::{Collector, Trace};
use crate::engine::trace::{Direction, call_id, secrets_out};
use crate::id::Path;
use crate::shell::clock;

/// Messages that wait to be sent on; beyond it they are dropped.
const QUEUE_MAX: usize = 4_096;
/// How long the addresses of the server's name count.
const NAMED_FOR: Duration = Duration::from_secs(60);

/// One message.
struct Copy {
    at: SystemTime,
    direction: Direction,
    path: Path,
    bytes: Bytes,
}

/// For metrics.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) sent: AtomicU64,
    /// Too many waited.
    pub(crate) dropped: AtomicU64,
    /// The server's name is unknown, or the network did not take it.
    pub(crate) failed: AtomicU64,
}

/// The near end, for all shards.
#[derive(Default)]
pub(crate) struct Copies {
    running: RwLock<Option<Running>>,
    pub(crate) counts: Arc<Counts>,
}

struct Running {
    settings: Settings,
    queue: mpsc::Sender<Copy>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Settings {
    to: Collector,
    id: u32,
    password: Option<String>,
    /// They leave as they came.
    secrets: bool,
}

impl Settings {
    fn of(trace: &Trace) -> Option<Self> {
        let password = trace.hep_password.as_ref();
        Some(Self {
            to: trace.hep.clone()?,
            id: trace.hep_id,
            // The first line counts.
            password: password.map(|pem| pem.text.lines().next().unwrap_or_default().to_owned()),
            secrets: trace.hep_secrets,
        })
    }
}

impl Copies {
    /// From now on to there, if anywhere.
    pub(crate) fn configure(&self, trace: &Trace) {
        let mut running = self.running.write().unwrap_or_else(PoisonError::into_inner);
        let settings = Settings::of(trace);
        if running.as_ref().map(|running| &running.settings) == settings.as_ref() {
            return;
        }
        *running = settings.map(|settings| {
            let (queue, waiting) = mpsc::channel(QUEUE_MAX);
            let task = tokio::spawn(send(settings.clone(), waiting, self.counts.clone()));
            Running {
                settings,
                queue,
                task,
            }
        });
    }

    /// A message came or goes.
    pub(crate) fn copy(&self, direction: Direction, path: Path, bytes: &Bytes) {
        let running = self.running.read().unwrap_or_else(PoisonError::into_inner);
        // Keep-alives are none.
        let Some(running) = running.as_ref().filter(|_| bytes.len() > KEEP_ALIVE_BYTES) else {
            return;
        };
        let copy = Copy {
            at: clock::wall(),
            direction,
            path,
            bytes: bytes.clone(),
        };
        if running.queue.try_send(copy).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// RFC 5626 §4.4.1: two line ends, or one.
const KEEP_ALIVE_BYTES: usize = 4;

/// Sends what waits, until it is aborted.
async fn send(settings: Settings, mut waiting: mpsc::Receiver<Copy>, counts: Arc<Counts>) {
    let mut out = Out {
        settings,
        socket: None,
        warned: false,
    };
    while let Some(copy) = waiting.recv().await {
        let count = match out.send(&copy).await {
            Ok(()) => &counts.sent,
            Err(error) => {
                out.warn(&error);
                &counts.failed
            }
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

struct Out {
    settings: Settings,
    /// Connected, and since when.
    socket: Option<(UdpSocket, Instant)>,
    /// Said once, until it works again.
    warned: bool,
}

impl Out {
    async fn send(&mut self, copy: &Copy) -> std::io::Result<()> {
        let now = clock::now();
        let fresh = |since: &Instant| now.saturating_duration_since(*since) < NAMED_FOR;
        let named = self.settings.to.host.parse::<IpAddr>().is_err();
        let keep = self.socket.take();
        let keep = keep.filter(|(_, since)| !named || fresh(since));
        let (socket, since) = match keep {
            Some(kept) => kept,
            None => (self.connect().await?, now),
        };
        let packet = self.packet(copy);
        let sent = socket.send(&packet).await;
        self.socket = Some((socket, since));
        sent?;
        self.warned = false;
        Ok(())
    }

    async fn connect(&self) -> std::io::Result<UdpSocket> {
        let Collector { host, port } = &self.settings.to;
        let mut found = lookup_host((host.as_str(), *port)).await?;
        let to = found.next().ok_or(std::io::ErrorKind::NotFound)?;
        let any = match to {
            SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(to).await?;
        Ok(socket)
    }

    fn packet(&self, copy: &Copy) -> Vec<u8> {
        let bytes = match self.settings.secrets {
            true => copy.bytes.clone(),
            false => secrets_out(&copy.bytes),
        };
        let (ours, theirs) = (copy.path.on.local, copy.path.to);
        let (from, to) = match copy.direction {
            Direction::In => (theirs, ours),
            Direction::Out => (ours, theirs),
        };
        hep::packet(&hep::Message {
            from,
            to,
            is_udp: !copy.path.on.transport.is_reliable(),
            at: copy.at,
            id: self.settings.id,
            password: self.settings.password.as_deref(),
            call_id: call_id(&copy.bytes),
            sip: &bytes,
        })
    }

    fn warn(&mut self, error: &std::io::Error) {
        if !std::mem::replace(&mut self.warned, true) {
            let to = &self.settings.to;
            tracing::warn!(%to, %error, "SIP messages do not reach the capture server");
        }
    }
}
