//! SIP sockets: datagrams here, connections of TCP and TLS below.

mod connection;
mod table;
pub(super) mod tls;
mod validity;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use self::table::Shared;
pub(crate) use self::table::{Sent, View};
pub(crate) use self::tls::{Tls, Wrong, client_config, one_way};
use crate::config::Config;
use crate::id::{Listener, Path, Transport};
use crate::shell::device;
use crate::shell::netlink::Links;
use crate::shell::shard::Queues;
use crate::shell::trace::Copies;

/// The largest datagram there is; what the core makes of it is the core's business.
const DATAGRAM_BYTES_MAX: usize = 65_535;

pub(crate) struct Sip {
    sockets: BTreeMap<Listener, Open>,
    tls: Option<Arc<Tls>>,
    queues: Queues,
    out: Arc<Out>,
}

/// The way out, for all shards.
pub(crate) struct Out {
    sockets: RwLock<BTreeMap<Listener, Arc<UdpSocket>>>,
    connections: Arc<Shared>,
    links: RwLock<Links>,
    failed: AtomicU64,
    /// For a capture server.
    pub(crate) copies: Copies,
}

/// The task that reads a socket, or accepts connections.
struct Open {
    reading: JoinHandle<()>,
}

impl Sip {
    pub(crate) fn new(queues: Queues, links: Links) -> Self {
        Self {
            sockets: BTreeMap::new(),
            tls: None,
            out: Arc::new(Out {
                sockets: RwLock::default(),
                connections: Arc::new(Shared::new(queues.clone())),
                links: RwLock::new(links),
                failed: AtomicU64::new(0),
                copies: Copies::default(),
            }),
            queues,
        }
    }

    pub(crate) fn out(&self) -> Arc<Out> {
        self.out.clone()
    }

    /// What connections may do from now on, and the certificates of those to come.
    pub(crate) fn configure(&mut self, config: &Config, tls: Option<Tls>) {
        self.tls = tls.map(Arc::new);
        let bounds = config.sip.tcp.clone();
        self.out.connections.configure(bounds, self.tls.clone());
        self.out.copies.configure(&config.trace);
    }

    /// Opens those listeners that are not open, all of them or none, and reads them. Returns which.
    pub(crate) async fn open(&mut self, listeners: &[Listener]) -> Result<Vec<Listener>, Busy> {
        let mut opened = Vec::new();
        for on in listeners {
            if self.sockets.contains_key(on) {
                continue;
            }
            match self.listen(*on).await {
                Ok(open) => {
                    self.sockets.insert(*on, open);
                    opened.push(*on);
                }
                Err(error) => {
                    self.close(&opened).await;
                    return Err(Busy { on: *on, error });
                }
            }
        }
        Ok(opened)
    }

    async fn listen(&self, on: Listener) -> io::Result<Open> {
        if on.transport.is_reliable() {
            let listener = connection::bind(on.local)?;
            let accepting = connection::accept(listener, on, self.out.connections.clone());
            let reading = tokio::spawn(accepting);
            return Ok(Open { reading });
        }
        let socket = Arc::new(UdpSocket::bind(on.local).await?);
        let reading = tokio::spawn(read(on, socket.clone(), self.queues.clone()));
        self.out.insert(on, socket);
        Ok(Open { reading })
    }

    /// When it returns, the ports are free; connections end.
    pub(crate) async fn close(&mut self, listeners: &[Listener]) {
        for on in listeners {
            if let Some(Open { reading }) = self.sockets.remove(on) {
                let socket = self.out.remove(*on);
                reading.abort();
                // The task holds the socket until it has ended; that it was aborted is known.
                drop(reading.await);
                if let Some(socket) = socket {
                    released(socket).await;
                }
                self.out.connections.withdraw(*on);
            }
        }
    }

    pub(crate) fn listeners(&self) -> impl Iterator<Item = Listener> {
        self.sockets.keys().copied()
    }

    pub(crate) fn connections(&self) -> View {
        self.out.connections.view()
    }

    /// When our certificate ends, in seconds since 1970.
    pub(crate) fn certificate_expires_s(&self) -> Option<u64> {
        let listens = |on: Listener| on.transport == Transport::Tls;
        let tls = self.tls.as_ref()?;
        self.listeners().any(listens).then(|| tls.expires_s())
    }
}

impl Out {
    fn insert(&self, on: Listener, socket: Arc<UdpSocket>) {
        let mut sockets = self.sockets.write().unwrap_or_else(PoisonError::into_inner);
        sockets.insert(on, socket);
    }

    fn remove(&self, on: Listener) -> Option<Arc<UdpSocket>> {
        let mut sockets = self.sockets.write().unwrap_or_else(PoisonError::into_inner);
        sockets.remove(&on)
    }

    fn socket(&self, on: Listener) -> Option<Arc<UdpSocket>> {
        let sockets = self.sockets.read().unwrap_or_else(PoisonError::into_inner);
        sockets.get(&on).cloned()
    }

    /// The links there are now.
    pub(crate) fn set_links(&self, links: Links) {
        *self.links.write().unwrap_or_else(PoisonError::into_inner) = links;
    }

    fn link_for(&self, source: IpAddr, target: IpAddr) -> Option<device::Link> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        links.link_for(source, target)
    }

    /// Of a datagram nothing is known once it has left.
    pub(crate) async fn send(&self, on: Listener, to: SocketAddr, bytes: &Bytes) -> Sent {
        if on.transport.is_reliable() {
            return self.connections.queue(Path { on, to }, bytes.clone());
        }
        let Some(socket) = self.socket(on) else {
            return Sent::Queued;
        };
        let sent = match self.link_for(on.local.ip(), to.ip()) {
            None => socket.send_to(bytes, to).await,
            link => device::try_send(&socket, bytes, to, on.local.ip(), link),
        };
        if let Err(error) = sent {
            // A lost datagram is the transaction's business: it repeats or times out.
            self.failed.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%on, %to, %error, "cannot send");
        }
        Sent::Queued
    }

    /// Connects to a peer; what is sent meanwhile waits.
    pub(crate) fn dial(&self, path: Path, name: Option<String>) {
        let link = self.link_for(path.on.local.ip(), path.to.ip());
        self.connections.dial(path, name, link);
    }

    /// Messages the network did not take.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

/// Waits until whoever is just sending through it has done so.
async fn released(socket: Arc<UdpSocket>) {
    let last = Arc::downgrade(&socket);
    drop(socket);
    while last.strong_count() > 0 {
        tokio::task::yield_now().await;
    }
}

/// A listener that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {on}: {error}")]
pub(crate) struct Busy {
    pub(crate) on: Listener,
    pub(crate) error: io::Error,
}

async fn read(on: Listener, socket: Arc<UdpSocket>, queues: Queues) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, from)) => {
                let bytes = Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default());
                if !queues.datagram(on, from, bytes) {
                    return;
                }
            }
            Err(error) => tracing::debug!(%on, %error, "SIP socket"),
        }
    }
}
