//! SIP sockets: datagrams here, connections of TCP and TLS below.

mod connection;
mod table;
mod tls;
mod validity;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::table::Shared;
pub(crate) use self::table::{Sent, View};
pub(crate) use self::tls::{Tls, Wrong};
use crate::config::Config;
use crate::id::{Listener, Path, Transport};
use crate::shell::Event;
use crate::shell::device::{self, Link};

/// The largest datagram there is; what the core makes of it is the core's business.
const DATAGRAM_BYTES_MAX: usize = 65_535;

pub(crate) struct Sip {
    sockets: BTreeMap<Listener, Open>,
    connections: Arc<Shared>,
    tls: Option<Arc<Tls>>,
    events: mpsc::Sender<Event>,
    pub(crate) send_failed: u64,
}

/// A socket, and the task that reads it; of connections, the task that accepts them.
struct Open {
    socket: Option<Arc<UdpSocket>>,
    reading: JoinHandle<()>,
}

impl Sip {
    pub(crate) fn new(events: mpsc::Sender<Event>) -> Self {
        Self {
            sockets: BTreeMap::new(),
            connections: Arc::new(Shared::new(events.clone())),
            tls: None,
            events,
            send_failed: 0,
        }
    }

    /// What connections may do from now on, and the certificates of those to come.
    pub(crate) fn configure(&mut self, config: &Config, tls: Option<Tls>) {
        self.tls = tls.map(Arc::new);
        let bounds = config.sip.tcp.clone();
        self.connections.configure(bounds, self.tls.clone());
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
            let accepting = connection::accept(listener, on, self.connections.clone());
            return Ok(Open {
                socket: None,
                reading: tokio::spawn(accepting),
            });
        }
        let socket = Arc::new(UdpSocket::bind(on.local).await?);
        let reading = tokio::spawn(read(on, socket.clone(), self.events.clone()));
        Ok(Open {
            socket: Some(socket),
            reading,
        })
    }

    /// When it returns, the ports are free; connections end.
    pub(crate) async fn close(&mut self, listeners: &[Listener]) {
        for on in listeners {
            if let Some(Open { socket, reading }) = self.sockets.remove(on) {
                reading.abort();
                // The task holds the socket until it has ended; that it was aborted is known.
                drop(reading.await);
                drop(socket);
                self.connections.withdraw(*on);
            }
        }
    }

    pub(crate) fn listeners(&self) -> impl Iterator<Item = Listener> {
        self.sockets.keys().copied()
    }

    /// Of a datagram nothing is known once it has left.
    pub(crate) async fn send(
        &mut self,
        on: Listener,
        to: SocketAddr,
        bytes: &Bytes,
        link: Option<Link>,
    ) -> Sent {
        if on.transport.is_reliable() {
            return self.connections.queue(Path { on, to }, bytes.clone());
        }
        let socket = self.sockets.get(&on).and_then(|open| open.socket.as_ref());
        let Some(socket) = socket else {
            return Sent::Queued;
        };
        let sent = match link {
            None => socket.send_to(bytes, to).await,
            Some(_) => device::try_send(socket, bytes, to, on.local.ip(), link),
        };
        if let Err(error) = sent {
            // A lost datagram is the transaction's business: it repeats or times out.
            self.send_failed = self.send_failed.saturating_add(1);
            tracing::debug!(%on, %to, %error, "cannot send");
        }
        Sent::Queued
    }

    /// Connects to a peer; what is sent meanwhile waits.
    pub(crate) fn dial(&self, path: Path, name: Option<String>, link: Option<Link>) {
        self.connections.dial(path, name, link);
    }

    /// Whether the core is to be told that this connection is over.
    pub(crate) fn forget(&self, path: Path, id: u64) -> bool {
        self.connections.forget(path, id)
    }

    pub(crate) fn connections(&self) -> View {
        self.connections.view()
    }

    /// When our certificate ends, in seconds since 1970.
    pub(crate) fn certificate_expires_s(&self) -> Option<u64> {
        let listens = |on: Listener| on.transport == Transport::Tls;
        let tls = self.tls.as_ref()?;
        self.listeners().any(listens).then(|| tls.expires_s())
    }
}

/// A listener that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {on}: {error}")]
pub(crate) struct Busy {
    pub(crate) on: Listener,
    error: io::Error,
}

async fn read(on: Listener, socket: Arc<UdpSocket>, events: mpsc::Sender<Event>) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, from)) => {
                let bytes = Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default());
                // A full queue makes the socket's own buffer the queue: the kernel drops, SIP
                // repeats.
                if events.send(Event::Sip { on, from, bytes }).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::debug!(%on, %error, "SIP socket"),
        }
    }
}
