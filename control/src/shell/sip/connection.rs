//! SIP connections of TCP and TLS: one task reads and writes each, the table knows them all.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::table::{QUEUE_BYTES_MAX, Shared, State};
use crate::engine::flow::{Close, Connection, Limits, Unit, Why};
use crate::id::{Path, Transport};
use crate::shell::clock;
use crate::shell::device::Link;

/// To the first valid message, TLS included.
const FIRST: Duration = Duration::from_secs(30);
/// From the first byte of a message to its last.
const MESSAGE: Duration = Duration::from_secs(20);
/// For TLS to come about.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// To reach a peer: well within timers B and F, so that another can be asked.
const CONNECT: Duration = Duration::from_secs(4);
/// A receiver that takes nothing.
const STALL: Duration = Duration::from_secs(20);
/// For what is queued to leave before a connection is closed.
const LINGER: Duration = Duration::from_secs(1);
/// How long to wait when the system has no descriptor left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;
/// Bytes read at once.
const READ_BYTES: usize = 4 * 1024;
/// When TCP itself asks an idle peer whether it is there, and how often.
const PROBE_AFTER: Duration = Duration::from_secs(120);
const PROBE_EVERY: Duration = Duration::from_secs(30);
const PROBES: u32 = 4;

/// What a connection's task needs.
pub(super) struct Carrier {
    pub(super) shared: Arc<Shared>,
    pub(super) path: Path,
    pub(super) id: u64,
    pub(super) queue: mpsc::Receiver<Bytes>,
    /// Bytes in the queue.
    pub(super) waiting: Arc<AtomicUsize>,
    pub(super) stop: oneshot::Receiver<Why>,
}

pub(super) fn bind(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(at)?;
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    socket.listen(BACKLOG)
}

fn socket(at: SocketAddr) -> io::Result<TcpSocket> {
    match at {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }
}

/// Takes in who connects, for as long as the listener is configured.
pub(super) async fn accept(listener: TcpListener, on: crate::id::Listener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                let to = SocketAddr::new(from.ip(), from.port());
                if let Some(carrier) = shared.admit(Path { on, to }) {
                    tokio::spawn(carrier.accepted(stream));
                }
            }
            Err(error) => {
                tracing::warn!(%on, %error, "cannot accept a SIP connection");
                sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

impl Carrier {
    async fn accepted(mut self, stream: TcpStream) {
        prepare(&stream);
        let why = match self.shared.tls().filter(|_| self.is_tls()) {
            None if self.is_tls() => Why::Handshake,
            None => self.carry(stream).await,
            Some(tls) => {
                let acceptor = TlsAcceptor::from(tls.server(self.path.to.ip()));
                match timeout(HANDSHAKE, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => self.carry(stream).await,
                    Ok(Err(error)) => self.no_handshake(&error),
                    Err(_) => Why::Handshake,
                }
            }
        };
        self.end(why).await;
    }

    /// Connects to a peer, from the address its network knows us by.
    pub(super) async fn dial(mut self, name: Option<String>, link: Option<Link>) {
        let reached = timeout(CONNECT, connect(self.path, link)).await;
        let why = match reached {
            Ok(Ok(stream)) => {
                prepare(&stream);
                self.dialled(stream, name).await
            }
            Ok(Err(error)) => {
                let to = self.path.to;
                tracing::warn!(on = %self.path.on, %to, %error, "cannot connect to a SIP peer");
                Why::Unreachable
            }
            Err(_) => {
                let to = self.path.to;
                tracing::warn!(on = %self.path.on, %to, "a SIP peer does not answer");
                Why::Unreachable
            }
        };
        self.end(why).await;
    }

    async fn dialled(&mut self, stream: TcpStream, name: Option<String>) -> Why {
        if !self.is_tls() {
            self.prove().await;
            return self.carry(stream).await;
        }
        let Some(tls) = self.shared.tls() else {
            return Why::Handshake;
        };
        let named = match name {
            Some(name) => ServerName::try_from(name).ok(),
            None => Some(ServerName::from(self.path.to.ip())),
        };
        let Some(named) = named else {
            tracing::warn!(to = %self.path.to, "tls_name is no name a certificate can bear");
            return Why::Handshake;
        };
        let connector = TlsConnector::from(tls.client());
        match timeout(HANDSHAKE, connector.connect(named, stream)).await {
            Ok(Ok(stream)) => {
                self.prove().await;
                self.carry(stream).await
            }
            Ok(Err(error)) => self.no_handshake(&error),
            Err(_) => Why::Handshake,
        }
    }

    fn is_tls(&self) -> bool {
        self.path.on.transport == Transport::Tls
    }

    fn no_handshake(&self, error: &io::Error) -> Why {
        tracing::warn!(on = %self.path.on, to = %self.path.to, %error, "TLS did not come about");
        Why::Handshake
    }

    /// Bytes both ways until either ends; what is queued goes out first.
    async fn carry<S: AsyncRead + AsyncWrite>(&mut self, stream: S) -> Why {
        let (mut from, mut to) = tokio::io::split(stream);
        let mut half = Bytes::new();
        let (stop, waiting) = (&mut self.stop, &self.waiting);
        let receiving = receive(&mut from, &self.shared, self.path, self.id);
        let why = tokio::select! {
            why = receiving => why,
            why = transmit(&mut to, &mut self.queue, &mut half, waiting) => why,
            why = stop => why.unwrap_or(Why::Withdrawn),
        };
        if matches!(why, Why::SlowReader | Why::Broken) {
            return why;
        }
        let flush = async {
            to.write_all(&half).await?;
            while let Ok(bytes) = self.queue.try_recv() {
                to.write_all(&bytes).await?;
            }
            to.shutdown().await?;
            // What is not read when it closes would undo what was just sent.
            let mut rest = [0; READ_BYTES];
            while from.read(&mut rest).await? > 0 {}
            io::Result::Ok(())
        };
        // It is closed either way.
        drop(timeout(LINGER, flush).await);
        why
    }

    async fn prove(&self) {
        self.shared.set(self.path, self.id, State::Open);
        self.shared.connected(self.path).await;
    }

    async fn end(self, why: Why) {
        let Path { on, to } = self.path;
        tracing::debug!(%on, %to, why = why.word(), "a SIP connection ended");
        self.shared.end(self.path, self.id, why).await;
    }
}

async fn connect(path: Path, link: Option<Link>) -> io::Result<TcpStream> {
    let socket = socket(path.to)?;
    if let Some(link) = link.and_then(NonZeroU32::new) {
        let socket = SockRef::from(&socket);
        match path.to {
            SocketAddr::V4(_) => socket.bind_device_by_index_v4(Some(link))?,
            SocketAddr::V6(_) => socket.bind_device_by_index_v6(Some(link))?,
        }
    }
    socket.bind(SocketAddr::new(path.on.local.ip(), 0))?;
    socket.connect(path.to).await
}

/// SIP is small and wants no delay; a peer that has vanished is noticed.
fn prepare(stream: &TcpStream) {
    let probes = TcpKeepalive::new()
        .with_time(PROBE_AFTER)
        .with_interval(PROBE_EVERY)
        .with_retries(PROBES);
    let set = stream
        .set_nodelay(true)
        .and_then(|()| SockRef::from(stream).set_tcp_keepalive(&probes));
    if let Err(error) = set {
        tracing::debug!(%error, "a SIP connection keeps the system's defaults");
    }
}

async fn receive<R: AsyncRead + Unpin>(from: &mut R, shared: &Shared, path: Path, id: u64) -> Why {
    let limits = Limits {
        first: FIRST,
        message: MESSAGE,
        idle: shared.idle(),
    };
    let mut connection = Connection::new(limits, format!("c{id:x}"), clock::now());
    let mut buffer = vec![0; READ_BYTES];
    let mut proven = shared.state(path, id) == Some(State::Open);
    loop {
        let deadline = Instant::from_std(connection.next_timeout());
        let read = tokio::select! {
            // Whoever has sent in time is not late because we were.
            biased;
            read = from.read(&mut buffer) => read,
            () = sleep_until(deadline) => match connection.overdue(clock::now()) {
                Some(why) => return why,
                None => continue,
            },
        };
        let bytes = match read {
            Ok(0) => return Why::Ended,
            Ok(length) => buffer.get(..length).unwrap_or_default(),
            Err(_) => return Why::Broken,
        };
        if let Err(close) = connection.push(bytes, clock::now()) {
            return refuse(shared, path, close);
        }
        loop {
            match connection.pop(clock::now()) {
                Ok(Some(Unit::Message(bytes))) => {
                    if connection.is_proven() && !proven {
                        proven = true;
                        shared.set(path, id, State::Open);
                        shared.connected(path).await;
                    }
                    // What is kept of a message must not keep the whole buffer.
                    let bytes = Bytes::copy_from_slice(&bytes);
                    // A full queue stops reading: TCP makes the sender wait.
                    shared.received(path, bytes).await;
                }
                // RFC 5626 §4.4.1.
                Ok(Some(Unit::Ping)) => shared.pong(path),
                Ok(Some(Unit::KeepAlive)) => {}
                Ok(None) => break,
                Err(close) => return refuse(shared, path, close),
            }
        }
    }
}

/// The answer goes out before the connection is closed.
fn refuse(shared: &Shared, path: Path, close: Close) -> Why {
    if let Some(answer) = close.answer {
        shared.queue(path, answer);
    }
    close.why
}

/// Writes what is queued; `half` is what of a message is not written yet.
async fn transmit<W: AsyncWrite + Unpin>(
    to: &mut W,
    queue: &mut mpsc::Receiver<Bytes>,
    half: &mut Bytes,
    waiting: &AtomicUsize,
) -> Why {
    while let Some(bytes) = queue.recv().await {
        let length = bytes.len().min(QUEUE_BYTES_MAX);
        *half = bytes;
        while half.has_remaining() {
            match timeout(STALL, to.write_buf(half)).await {
                Ok(Ok(0) | Err(_)) => return Why::Broken,
                Ok(Ok(_)) => {}
                Err(_) => return Why::SlowReader,
            }
        }
        if to.flush().await.is_err() {
            return Why::Broken;
        }
        waiting.fetch_sub(length, Ordering::Relaxed);
    }
    Why::Withdrawn
}
