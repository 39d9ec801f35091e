//! SIP sockets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use crate::id::Listener;
use crate::shell::Event;
use crate::shell::device::{self, Link};

/// The largest datagram there is; what the core makes of it is the core's business.
const DATAGRAM_BYTES_MAX: usize = 65_535;

pub(crate) struct Sip {
    sockets: BTreeMap<Listener, Arc<UdpSocket>>,
    pub(crate) send_failed: u64,
}

impl Sip {
    /// Opens every listener and starts reading.
    pub(crate) async fn open(
        listeners: &[Listener],
        events: &mpsc::Sender<Event>,
    ) -> anyhow::Result<Self> {
        let mut sockets = BTreeMap::new();
        for on in listeners {
            let socket = UdpSocket::bind(on.local)
                .await
                .with_context(|| format!("cannot listen on {on}"))?;
            let socket = Arc::new(socket);
            tokio::spawn(read(*on, socket.clone(), events.clone()));
            sockets.insert(*on, socket);
        }
        Ok(Self {
            sockets,
            send_failed: 0,
        })
    }

    pub(crate) async fn send(
        &mut self,
        on: Listener,
        to: SocketAddr,
        bytes: &[u8],
        link: Option<Link>,
    ) {
        let Some(socket) = self.sockets.get(&on) else {
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
