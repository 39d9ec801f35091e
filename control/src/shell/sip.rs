//! SIP sockets.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::id::Listener;
use crate::shell::Event;
use crate::shell::device::{self, Link};

/// The largest datagram there is; what the core makes of it is the core's business.
const DATAGRAM_BYTES_MAX: usize = 65_535;

pub(crate) struct Sip {
    sockets: BTreeMap<Listener, Open>,
    events: mpsc::Sender<Event>,
    pub(crate) send_failed: u64,
}

/// A socket, and the task that reads it.
struct Open {
    socket: Arc<UdpSocket>,
    reading: JoinHandle<()>,
}

impl Sip {
    pub(crate) fn new(events: mpsc::Sender<Event>) -> Self {
        Self {
            sockets: BTreeMap::new(),
            events,
            send_failed: 0,
        }
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
                    let reading = tokio::spawn(read(*on, socket.clone(), self.events.clone()));
                    self.sockets.insert(*on, Open { socket, reading });
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
            if let Some(Open { socket, reading }) = self.sockets.remove(on) {
                reading.abort();
                // The task holds the socket until it has ended; that it was aborted is known.
                drop(reading.await);
                drop(socket);
            }
        }
    }

    pub(crate) fn listeners(&self) -> impl Iterator<Item = Listener> {
        self.sockets.keys().copied()
    }

    pub(crate) async fn send(
        &mut self,
        on: Listener,
        to: SocketAddr,
        bytes: &[u8],
        link: Option<Link>,
    ) {
        let Some(Open { socket, .. }) = self.sockets.get(&on) else {
            return;
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
