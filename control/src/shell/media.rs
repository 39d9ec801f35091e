//! Media sockets: the userspace path. One socket per local media address; what a rule claims is
//! forwarded here and now, the rest goes to the engine.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::effect::Rule;
use crate::shell::Event;
use crate::shell::device::{self, Link};

/// Larger than any media datagram on an Ethernet with jumbo frames.
const DATAGRAM_BYTES_MAX: usize = 9_216;

/// Every open media address.
pub(crate) struct Media {
    ports: HashMap<SocketAddr, Arc<Port>>,
    tasks: HashMap<SocketAddr, AbortHandle>,
    events: mpsc::Sender<Event>,
}

pub(crate) struct Port {
    at: SocketAddr,
    socket: UdpSocket,
    out: RwLock<Option<Out>>,
    pub(crate) count: Count,
}

/// What the userspace path did at one address.
#[derive(Default)]
pub(crate) struct Count {
    pub(crate) packets: AtomicU64,
    pub(crate) bytes: AtomicU64,
    /// Packets no rule claimed.
    pub(crate) unclaimed: AtomicU64,
    /// Claimed, and the network would not take them.
    pub(crate) send_failed: AtomicU64,
    /// Unclaimed, and the engine's queue was full.
    pub(crate) queue_full: AtomicU64,
}

#[derive(Clone)]
struct Out {
    rule: Rule,
    /// The link to the target, where the routing table could not tell.
    link: Option<Link>,
    port: Arc<Port>,
}

impl Media {
    pub(crate) fn new(events: mpsc::Sender<Event>) -> Self {
        Self {
            ports: HashMap::new(),
            tasks: HashMap::new(),
            events,
        }
    }

    /// Opens the socket and starts reading. An address that is open already stays as it is.
    pub(crate) fn open(&mut self, at: SocketAddr) -> io::Result<()> {
        if self.ports.contains_key(&at) {
            return Ok(());
        }
        let port = Arc::new(Port {
            at,
            socket: bind(at)?,
            out: RwLock::new(None),
            count: Count::default(),
        });
        let task = tokio::spawn(read(port.clone(), self.events.clone()));
        self.tasks.insert(at, task.abort_handle());
        self.ports.insert(at, port);
        Ok(())
    }

    pub(crate) fn close(&mut self, at: SocketAddr) {
        self.ports.remove(&at);
        if let Some(task) = self.tasks.remove(&at) {
            task.abort();
        }
    }

    /// False if either address is not open.
    pub(crate) fn install(&self, at: SocketAddr, rule: Rule, link: Option<Link>) -> bool {
        let (Some(port), Some(source)) = (self.ports.get(&at), self.ports.get(&rule.source)) else {
            return false;
        };
        if let Some(tos) = rule.tos {
            source.mark(tos);
        }
        port.set(Some(Out {
            rule,
            link,
            port: source.clone(),
        }));
        true
    }

    pub(crate) fn remove(&self, at: SocketAddr) {
        if let Some(port) = self.ports.get(&at) {
            port.set(None);
        }
    }

    /// Sends an empty datagram; a full socket buffer loses it like the network would.
    pub(crate) fn keep_alive(&self, at: SocketAddr, to: SocketAddr, link: Option<Link>) {
        if let Some(port) = self.ports.get(&at)
            && let Err(error) = device::try_send(&port.socket, &[], to, at.ip(), link)
        {
            tracing::debug!(%at, %to, %error, "cannot keep a pinhole open");
        }
    }

    pub(crate) fn port(&self, at: SocketAddr) -> Option<&Arc<Port>> {
        self.ports.get(&at)
    }

    pub(crate) fn len(&self) -> usize {
        self.ports.len()
    }
}

impl Port {
    fn set(&self, out: Option<Out>) {
        *self.out.write().unwrap_or_else(PoisonError::into_inner) = out;
    }

    /// Forwards a packet if a rule claims it.
    pub(crate) fn forward(&self, from: SocketAddr, packet: &[u8]) -> bool {
        let out = self
            .out
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let Some(out) = out.filter(|out| out.rule.peer == from) else {
            return false;
        };
        // UDP sends at once or not at all: a full socket buffer is loss, and counted.
        let Rule { target, source, .. } = out.rule;
        match device::try_send(&out.port.socket, packet, target, source.ip(), out.link) {
            Ok(bytes) => {
                self.count.packets.fetch_add(1, Ordering::Relaxed);
                self.count.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            }
            Err(_) => {
                self.count.send_failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        true
    }

    /// Differentiated services field of everything sent from here (RFC 2474).
    fn mark(&self, tos: u8) {
        let socket = SockRef::from(&self.socket);
        let set = match self.at {
            SocketAddr::V4(_) => socket.set_tos_v4(tos.into()),
            SocketAddr::V6(_) => socket.set_tclass_v6(tos.into()),
        };
        if let Err(error) = set {
            tracing::warn!(at = %self.at, %error, "cannot set the DSCP of a media socket");
        }
    }
}

async fn read(port: Arc<Port>, events: mpsc::Sender<Event>) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let (length, from) = match port.socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(at = %port.at, %error, "media socket");
                continue;
            }
        };
        let packet = buffer.get(..length).unwrap_or_default();
        if port.forward(from, packet) {
            continue;
        }
        port.count.unclaimed.fetch_add(1, Ordering::Relaxed);
        let packet = Bytes::copy_from_slice(packet);
        if events
            .try_send(Event::Unclaimed {
                at: port.at,
                from,
                packet,
            })
            .is_err()
        {
            port.count.queue_full.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn bind(at: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(at), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.bind(&at.into())?;
    UdpSocket::from_std(socket.into())
}
