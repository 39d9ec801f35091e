//! SIP sockets.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::id::Listener;
use crate::shell::device;
use crate::shell::netlink::Links;
use crate::shell::shard::Queues;

/// The largest datagram there is; what the core makes of it is the core's business.
const DATAGRAM_BYTES_MAX: usize = 65_535;

pub(crate) struct Sip {
    sockets: BTreeMap<Listener, Open>,
    queues: Queues,
    out: Arc<Out>,
}

/// The way out, for all shards.
#[derive(Default)]
pub(crate) struct Out {
    sockets: RwLock<BTreeMap<Listener, Arc<UdpSocket>>>,
    links: RwLock<Links>,
    failed: AtomicU64,
}

/// The task that reads a socket.
struct Open {
    reading: JoinHandle<()>,
}

impl Sip {
    pub(crate) fn new(queues: Queues, links: Links) -> Self {
        let out = Out::default();
        out.set_links(links);
        Self {
            sockets: BTreeMap::new(),
            queues,
            out: Arc::new(out),
        }
    }

    pub(crate) fn out(&self) -> Arc<Out> {
        self.out.clone()
    }

    /// Opens those listeners that are not open, all of them or none, and reads them. Returns which.
    pub(crate) async fn open(&mut self, listeners: &[Listener]) -> Result<Vec<Listener>, Busy> {
        let mut opened = Vec::new();
        for on in listeners {
            if self.sockets.contains_key(on) {
                continue;
            }
            match UdpSocket::bind(on.local).await {
                Ok(socket) => {
                    let socket = Arc::new(socket);
                    let reading = tokio::spawn(read(*on, socket.clone(), self.queues.clone()));
                    self.sockets.insert(*on, Open { reading });
                    self.out.insert(*on, socket);
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

    /// When it returns, the ports are free.
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
            }
        }
    }

    pub(crate) fn listeners(&self) -> impl Iterator<Item = Listener> {
        self.sockets.keys().copied()
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

    pub(crate) async fn send(&self, on: Listener, to: SocketAddr, bytes: &[u8]) {
        let Some(socket) = self.socket(on) else {
            return;
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
    error: io::Error,
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
