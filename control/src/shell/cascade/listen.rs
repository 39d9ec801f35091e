//! The upper side: a port of its own for servers, so that it can be opened to other sites while the
//! API is not, and may ask for certificates that no operator has.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::body::{Body, Bytes};
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::{IncomingStream, Listener};
use axum::{Json, Router};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{interval, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::line::{LINE_BYTES_MAX, Line};
use super::tls::{Wrong, server};
use super::who::{self, Refusal};
use super::{Kind, Links, PING_EVERY, SILENCE_MAX};
use crate::shell::clock;

pub(super) const PING: &str = "/api/v1/cascade/ping";
pub(super) const UP: &str = "/api/v1/cascade/up";
pub(super) const DOWN: &str = "/api/v1/cascade/down";

/// Of one request.
pub(super) const UP_BYTES_MAX: usize = 2 * LINE_BYTES_MAX;
/// Connections that wait to be answered.
const WAITING_MAX: usize = 32;
/// Connections that have not shown who they are.
const HANDSHAKES_MAX: usize = 64;
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Lines on their way down that the connection has not taken.
const LINES_MAX: usize = 32;
/// After an error of the listener.
const REST: Duration = Duration::from_millis(100);
const NDJSON: &str = "application/x-ndjson";

pub(super) async fn open(links: &Links) -> Result<(), Wrong> {
    let settings = &links.0.settings;
    let tls = server(settings)?;
    for listener in &settings.listen {
        let socket = TcpListener::bind(listener.local).await;
        let socket = socket.with_context(|| format!("cannot listen on {listener}"));
        let socket = socket.map_err(|error| Wrong {
            key: "cascade.listen",
            error,
        })?;
        let tls = tls.clone().filter(|_| listener.tls);
        let (sender, streams) = mpsc::channel(WAITING_MAX);
        tokio::spawn(accept(socket, tls, sender, links.clone()));
        let door = Door {
            local: listener.local,
            streams,
        };
        let router = Router::new()
            .route(PING, get(ping))
            .route(UP, post(up))
            .route(DOWN, get(down))
            .layer(DefaultBodyLimit::max(UP_BYTES_MAX))
            .with_state(links.clone());
        let service = router.into_make_service_with_connect_info::<Caller>();
        tokio::spawn(async move {
            if let Err(error) = axum::serve(door, service).await {
                tracing::error!(%error, "servers are not answered any more");
            }
        });
        tracing::info!(%listener, "other servers may connect");
    }
    Ok(())
}

/// Handshakes beside one another; whoever is slow holds nobody up.
async fn accept(
    socket: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    sender: mpsc::Sender<(Stream, Caller)>,
    links: Links,
) {
    let tls = tls.map(TlsAcceptor::from);
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    loop {
        let (stream, from) = match socket.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a server's connection");
                sleep(REST).await;
                continue;
            }
        };
        let Ok(permit) = handshakes.clone().acquire_owned().await else {
            return;
        };
        let (tls, sender, links) = (tls.clone(), sender.clone(), links.clone());
        tokio::spawn(async move {
            drop(stream.set_nodelay(true));
            match timeout(HANDSHAKE_MAX, handshake(stream, from, tls)).await {
                Ok(Ok(ready)) => drop(sender.send(ready).await),
                Ok(Err(error)) => {
                    links.refuse("tls", from, &format!("TLS: {error}"));
                }
                Err(_) => links.refuse("tls", from, "TLS: no handshake in time"),
            }
            drop(permit);
        });
    }
}

async fn handshake(
    stream: TcpStream,
    remote: SocketAddr,
    tls: Option<TlsAcceptor>,
) -> std::io::Result<(Stream, Caller)> {
    let Some(tls) = tls else {
        let certificate = None;
        let stream: Stream = Box::new(stream);
        return Ok((
            stream,
            Caller {
                remote,
                certificate,
            },
        ));
    };
    let stream = tls.accept(stream).await?;
    let shown = stream.get_ref().1.peer_certificates();
    let certificate = shown.and_then(|chain| chain.first()).cloned();
    let certificate = certificate.map(CertificateDer::into_owned);
    let stream: Stream = Box::new(stream);
    Ok((
        stream,
        Caller {
            remote,
            certificate,
        },
    ))
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

type Stream = Box<dyn Io>;

/// Connections whose handshake is done.
struct Door {
    local: SocketAddr,
    streams: mpsc::Receiver<(Stream, Caller)>,
}

impl Listener for Door {
    type Io = Stream;
    type Addr = Caller;

    async fn accept(&mut self) -> (Stream, Caller) {
        match self.streams.recv().await {
            Some(accepted) => accepted,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<Caller> {
        Ok(Caller {
            remote: self.local,
            certificate: None,
        })
    }
}

/// Who is at the other end.
#[derive(Clone, Debug)]
struct Caller {
    remote: SocketAddr,
    certificate: Option<CertificateDer<'static>>,
}

impl Connected<IncomingStream<'_, Door>> for Caller {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        stream.remote_addr().clone()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self { code, detail } = self;
        let body = json!({ "status": 401, "code": code, "detail": detail });
        let kind = [(CONTENT_TYPE, "application/problem+json")];
        (Self::STATUS, kind, Json(body)).into_response()
    }
}

impl Links {
    /// Somebody was not let in.
    fn refuse(&self, code: &'static str, from: SocketAddr, detail: &str) {
        let mut state = self.state();
        let count = state.refused.entry(code).or_default();
        *count += 1;
        tracing::warn!(%from, code, detail, "a server was not let in");
        let fields = vec![("why", code.to_owned()), ("detail", detail.to_owned())];
        state.note(Kind::LinkRefused, &from.to_string(), fields);
    }

    fn check(&self, caller: &Caller, headers: &HeaderMap) -> Result<String, Refusal> {
        let lowers = &self.0.settings.lowers;
        let checked = who::check(lowers, headers, caller.certificate.as_ref());
        if let Err(refusal) = checked {
            self.refuse(refusal.code, caller.remote, refusal.detail);
        }
        checked.map(str::to_owned)
    }

    /// Of a neighbour, without a frame.
    fn plain(&self, sid: &str) -> Vec<u8> {
        self.due(sid, 0).iter().flat_map(Line::write).collect()
    }
}

async fn ping(
    State(links): State<Links>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    headers: HeaderMap,
) -> Result<Vec<u8>, Refusal> {
    let sid = links.check(&caller, &headers)?;
    if let Some(neighbour) = links.state().neighbours.get_mut(&sid) {
        neighbour.heard = Some(clock::now());
    }
    Ok(links.plain(&sid))
}

async fn up(
    State(links): State<Links>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Vec<u8>, Refusal> {
    let sid = links.check(&caller, &headers)?;
    for text in body.split(|byte| *byte == b'\n').filter(|t| !t.is_empty()) {
        let line = Line::read(text).filter(|line| line.sid == sid);
        let Some(line) = line else {
            tracing::warn!(server = sid, "it sent what is no line of a link");
            break;
        };
        links.hear(&sid, &line).await;
    }
    Ok(links.plain(&sid))
}

async fn down(
    State(links): State<Links>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let sid = links.check(&caller, &headers)?;
    let (sender, receiver) = mpsc::channel::<Bytes>(LINES_MAX);
    tokio::spawn(pour(links, sid, sender));
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async {
        let bytes = receiver.recv().await?;
        Some((Ok::<Bytes, Infallible>(bytes), receiver))
    });
    Ok(([(CONTENT_TYPE, NDJSON)], Body::from_stream(stream)).into_response())
}

/// What is due, as long as the connection is there and the lower server is heard.
async fn pour(links: Links, sid: String, sender: mpsc::Sender<Bytes>) {
    let connection = links.connected(&sid);
    links.turn(&sid, true, None).await;
    let wake = links.wake(&sid);
    let mut ticks = interval(PING_EVERY);
    let why = loop {
        tokio::select! {
            () = wake.notified() => {}
            _ = ticks.tick() => {}
            () = sender.closed() => break "the lower server has hung up".to_owned(),
        }
        if !links.is_current(&sid, connection) {
            // Another connection has taken its place.
            return;
        }
        let heard = links.silent_since(&sid);
        let silent = heard.map(|at| clock::now().saturating_duration_since(at));
        if silent.is_none_or(|silent| silent > SILENCE_MAX) {
            break format!("nothing from below for {} s", SILENCE_MAX.as_secs());
        }
        for line in links.due(&sid, UP_BYTES_MAX) {
            let sent = timeout(SILENCE_MAX, sender.send(line.write().into())).await;
            if !matches!(sent, Ok(Ok(()))) {
                break;
            }
        }
    };
    if links.is_current(&sid, connection) {
        links.turn(&sid, false, Some(why)).await;
    }
}
