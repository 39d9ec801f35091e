//! One connection: a task reads it, writes it, and tells the broker.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::bridge::{self, First};
use super::{FOR_PLANE_MAX, Line, STRANGERS_MAX, Shared, UNREAD_BYTES_MAX, login, note};
use crate::engine::event::Kind;
use crate::mqtt::broker::{ConnId, Input};
use crate::mqtt::packet::Reason;
use crate::mqtt::{CONNECT_BYTES_MAX, CONNECT_TIME_MAX};
use crate::shell::clock;

/// For what is queued to leave before a connection is closed.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes read at once.
const READ_BYTES: usize = 8 * 1024;

/// Serves who connected until either side ends it.
pub(super) async fn serve(shared: Arc<Shared>, stream: TcpStream, secure: bool) {
    let (Ok(local), Ok(remote)) = (stream.local_addr(), stream.peer_addr()) else {
        return;
    };
    let (local, remote) = (canonical(local), canonical(remote));
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%remote, %error, "an MQTT connection waits to send small packets");
    }
    let Some(stranger) = Stranger::enter(&shared) else {
        tracing::debug!(%remote, "too many that have not said who they are");
        return;
    };
    let ends = Ends { local, remote };
    if !secure {
        return admit(shared, stream, ends, stranger).await;
    }
    let Some(tls) = shared.state().tls.clone() else {
        return;
    };
    match timeout(CONNECT_TIME_MAX, TlsAcceptor::from(tls).accept(stream)).await {
        Ok(Ok(stream)) => admit(shared, stream, ends, stranger).await,
        Ok(Err(error)) => tracing::debug!(%remote, %error, "no TLS with an MQTT client"),
        Err(_) => tracing::debug!(%remote, "no TLS with an MQTT client in time"),
    }
}

#[derive(Clone, Copy)]
struct Ends {
    local: SocketAddr,
    remote: SocketAddr,
}

/// A listener for both families sees IPv4 as a part of IPv6.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Somebody who has not said who it is; there are not too many of them.
struct Stranger(Arc<Shared>);

impl Stranger {
    fn enter(shared: &Arc<Shared>) -> Option<Self> {
        let mut state = shared.state();
        if state.strangers >= STRANGERS_MAX {
            state.turned_away += 1;
            return None;
        }
        state.strangers += 1;
        Some(Self(shared.clone()))
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.0.state().strangers -= 1;
    }
}

/// Waits for the first packet.
async fn admit<S>(shared: Arc<Shared>, stream: S, ends: Ends, stranger: Stranger)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut reader, mut writer) = split(stream);
    let mut buffer = BytesMut::with_capacity(CONNECT_BYTES_MAX);
    let first = timeout(CONNECT_TIME_MAX, first(&mut reader, &mut buffer)).await;
    let first = match first {
        Ok(Ok(first)) => first,
        Ok(Err(reason)) => {
            let remote = ends.remote;
            tracing::debug!(%remote, reason = reason.word(), "no MQTT client");
            // Whoever does not wait for it does not need it.
            drop(writer.write_all(&bridge::refused(reason)).await);
            return;
        }
        Err(_) => return,
    };
    drop(stranger);
    let (conn, wake) = enter(&shared, first, ends);
    let gone = Gone {
        shared: shared.clone(),
        conn,
    };
    let mut carrier = Carrier {
        shared,
        conn,
        wake,
        reader,
        writer,
        buffer,
        out: BytesMut::new(),
    };
    carrier.carry().await;
    drop(gone);
}

async fn first<R: AsyncRead + Unpin>(
    reader: &mut R,
    buffer: &mut BytesMut,
) -> Result<First, Reason> {
    loop {
        if let Some(first) = bridge::first(buffer)? {
            return Ok(first);
        }
        match reader.read_buf(buffer).await {
            Ok(0) | Err(_) => return Err(Reason::Malformed),
            Ok(_) => {}
        }
    }
}

/// Tells the broker who is there.
fn enter(shared: &Arc<Shared>, first: First, ends: Ends) -> (ConnId, Arc<Notify>) {
    let First { connect, login } = first;
    let Ends { local, remote } = ends;
    let now = clock::now();
    let (config, may_try) = {
        let state = shared.state();
        let config = state.config.clone();
        let may_try = state.failures.may_try(remote.ip(), &config, now);
        (config, may_try)
    };
    let login = match may_try {
        true => match shared.known.token(login.as_ref()) {
            Some(tool) => Ok(tool),
            None => login::principal(&config, login, &connect.id),
        },
        false => Err(Reason::NotAuthorized),
    };
    let who = login.as_ref().ok().cloned();
    let domain = &config.sip.domain;
    let told = who
        .as_ref()
        .and_then(|who| shared.known.told(who, domain, remote.ip()));
    let mut state = shared.state();
    state.last += 1;
    let conn = ConnId(state.last);
    if let Err(reason) = login {
        state.failures.failed(remote.ip(), &config, now);
        let fields = vec![("reason", reason.word().to_owned())];
        note(
            &mut state.notes,
            Kind::MqttRefused,
            remote.ip(),
            fields,
            now,
        );
        tracing::debug!(%remote, reason = reason.word(), "an MQTT client is not let in");
    }
    let wake = Arc::new(Notify::new());
    let line = Line {
        version: connect.version,
        who,
        local,
        remote,
        out: BytesMut::new(),
        closing: false,
        wake: wake.clone(),
    };
    state.lines.insert(conn, line);
    let known_as = told.unwrap_or_else(|| state.known_as(local, remote));
    let input = Input::Connect {
        conn,
        connect,
        login,
        local,
        remote,
        known_as,
    };
    shared.handle(&mut state, input);
    (conn, wake)
}

/// Writes as much as is taken; when there is nothing more, sees to it that it leaves.
async fn send<W: AsyncWrite + Unpin>(writer: &mut W, bytes: &[u8]) -> io::Result<usize> {
    if bytes.is_empty() {
        return writer.flush().await.map(|()| 0);
    }
    match writer.write(bytes).await {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        written => written,
    }
}

/// However a connection ends, the broker is told.
struct Gone {
    shared: Arc<Shared>,
    conn: ConnId,
}

impl Drop for Gone {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.lines.remove(&self.conn);
        let conn = self.conn;
        self.shared.handle(&mut state, Input::Closed { conn });
    }
}

struct Carrier<S> {
    shared: Arc<Shared>,
    conn: ConnId,
    wake: Arc<Notify>,
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    /// What was read and is not a packet yet.
    buffer: BytesMut,
    /// What is being written.
    out: BytesMut,
}

/// What a connection does next.
struct Next {
    reads: bool,
    closing: bool,
    /// It waits for the plane.
    waits: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Carrier<S> {
    async fn carry(&mut self) {
        // What came with the first packet.
        self.decode();
        let shared = self.shared.clone();
        let mut unflushed = false;
        loop {
            // Before looking: what happens after it is not missed.
            let room = shared.room.notified();
            let Some(next) = self.look() else { return };
            if next.closing {
                return self.end().await;
            }
            let writes = !self.out.is_empty();
            tokio::select! {
                read = self.reader.read_buf(&mut self.buffer), if next.reads => match read {
                    Ok(0) | Err(_) => return,
                    Ok(_) => self.decode(),
                },
                sent = send(&mut self.writer, &self.out), if writes || unflushed => match sent {
                    Err(_) => return,
                    Ok(count) => {
                        self.out.advance(count);
                        unflushed = count > 0;
                        if !unflushed {
                            self.drained();
                        }
                    }
                },
                () = self.wake.notified() => {}
                () = room, if next.waits => {}
            }
        }
    }

    /// Takes what there is to write.
    fn look(&mut self) -> Option<Next> {
        let mut state = self.shared.state();
        let waits = state.for_plane.len() >= FOR_PLANE_MAX;
        let busy = state.broker.is_busy(self.conn);
        let line = state.lines.get_mut(&self.conn)?;
        if self.out.is_empty() {
            self.out = std::mem::take(&mut line.out);
        }
        let unread = self.out.len() + line.out.len() >= UNREAD_BYTES_MAX;
        Some(Next {
            reads: !(waits || busy || unread || line.closing),
            closing: line.closing,
            waits,
        })
    }

    fn decode(&mut self) {
        let version = {
            let state = self.shared.state();
            match state.lines.get(&self.conn) {
                Some(line) => line.version,
                None => return,
            }
        };
        let mut packets = Vec::new();
        let fault = loop {
            match bridge::next(&mut self.buffer, version) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => break None,
                Err(reason) => break Some(reason),
            }
        };
        self.buffer.reserve(READ_BYTES);
        if !packets.is_empty() || fault.is_some() {
            self.shared.packets(self.conn, packets, fault);
        }
    }

    /// What was taken has left.
    fn drained(&mut self) {
        let mut state = self.shared.state();
        let conn = self.conn;
        let left = state.lines.get(&conn).map_or(0, |line| line.out.len());
        self.shared
            .handle(&mut state, Input::Drained { conn, left });
    }

    /// What is still to be said leaves, if the other side takes it soon.
    async fn end(&mut self) {
        let rest = {
            let mut state = self.shared.state();
            let line = state.lines.get_mut(&self.conn);
            line.map(|line| std::mem::take(&mut line.out))
        };
        self.out.extend_from_slice(&rest.unwrap_or_default());
        let said = async {
            self.writer.write_all(&self.out).await?;
            self.writer.shutdown().await
        };
        match timeout(LINGER, said).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::trace!(%error, "it had ended by itself"),
            Err(_) => tracing::trace!("the other side takes nothing"),
        }
    }
}
