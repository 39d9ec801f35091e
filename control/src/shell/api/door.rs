//! Where the API is listened at: the Unix socket, and addresses that come and go with the
//! configuration, with TLS or without.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use super::access::Origin;
use crate::config::api::Api;
use crate::shell::sip::{Wrong, one_way};
use crate::shell::tcp::listen;

/// Connections at a time, of all addresses; as many again of the Unix socket.
const CONNECTIONS_MAX: usize = 256;
/// The head of a request comes within this time, also the next one on a connection.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of a head.
const HEAD_BYTES_MAX: usize = 32 * 1024;
const BACKLOG: i32 = 128;
/// After accepting failed: descriptors may be short.
const REST: Duration = Duration::from_millis(100);

pub(crate) type Certificate = Option<Arc<ServerConfig>>;

/// What those who connect are shown.
///
/// # Errors
/// What is wrong with it, and at which key.
pub(crate) fn certificate(settings: &Api) -> Result<Certificate, Wrong> {
    let tls = settings.tls.as_ref().map(|tls| {
        one_way(
            (&tls.certificate, "api.tls.certificate"),
            (&tls.key, "api.tls.key"),
        )
    });
    tls.transpose()
}

/// Every place that is listened at; nothing listens any more once it is dropped.
pub(crate) struct Doors {
    router: Router,
    tcp: BTreeMap<SocketAddr, AbortHandle>,
    certificate: watch::Sender<Certificate>,
    places: Arc<Semaphore>,
    tasks: JoinSet<()>,
}

impl Doors {
    /// The Unix socket is open from the start; who owns it is an administrator.
    pub(crate) fn new(router: Router, socket: UnixListener, path: &Path) -> Self {
        let owner = path.metadata().ok().map(|found| found.uid());
        let mut tasks = JoinSet::new();
        tasks.spawn(unix(socket, owner, router.clone()));
        Self {
            router,
            tcp: BTreeMap::new(),
            certificate: watch::Sender::new(None),
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            tasks,
        }
    }

    /// Opens those of the addresses that are not yet. Nobody is answered at them before `admit`.
    ///
    /// # Errors
    /// Which address cannot be had.
    pub(crate) fn open(&self, wanted: &[SocketAddr]) -> Result<Vec<TcpListener>, Busy> {
        let new = wanted.iter().filter(|at| !self.tcp.contains_key(at));
        new.map(|at| listen(*at, BACKLOG).map_err(|error| Busy { at: *at, error }))
            .collect()
    }

    /// Answers at what was opened, no longer where nothing is wanted, and with this certificate.
    /// Connections that are open go on.
    pub(crate) fn admit(
        &mut self,
        opened: Vec<TcpListener>,
        wanted: &[SocketAddr],
        certificate: Certificate,
    ) {
        self.certificate.send_replace(certificate);
        self.tcp.retain(|at, task| {
            let stays = wanted.contains(at);
            if !stays {
                tracing::info!(%at, "the API is no longer listened at");
                task.abort();
            }
            stays
        });
        for listener in opened {
            let Ok(at) = listener.local_addr() else {
                continue;
            };
            let tls = self.certificate.borrow().is_some();
            tracing::info!(%at, tls, "the API is listened at");
            let (router, places) = (self.router.clone(), self.places.clone());
            let certificate = self.certificate.subscribe();
            let task = self.tasks.spawn(tcp(listener, certificate, router, places));
            self.tcp.insert(at, task);
        }
    }
}

/// An address that cannot be had.
#[derive(Debug)]
pub(crate) struct Busy {
    at: SocketAddr,
    pub(in crate::shell) error: io::Error,
}

impl std::fmt::Display for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot listen at {}: {}", self.at, self.error)
    }
}

async fn tcp(
    listener: TcpListener,
    certificate: watch::Receiver<Certificate>,
    router: Router,
    places: Arc<Semaphore>,
) {
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let (stream, from) = match listener.accept().await {
            Ok(found) => found,
            Err(error) => {
                rest(&error).await;
                continue;
            }
        };
        let origin = Origin::Address(from);
        let router = router.clone();
        let certificate = certificate.borrow().clone();
        tokio::spawn(async move {
            match certificate {
                None => converse(stream, origin, router, place).await,
                Some(certificate) => {
                    let hello = TlsAcceptor::from(certificate).accept(stream);
                    match tokio::time::timeout(HANDSHAKE_WITHIN, hello).await {
                        Ok(Ok(stream)) => converse(stream, origin, router, place).await,
                        Ok(Err(error)) => tracing::debug!(%from, %error, "no TLS with the API"),
                        Err(_) => tracing::debug!(%from, "no TLS with the API in time"),
                    }
                }
            }
        });
    }
}

async fn unix(listener: UnixListener, owner: Option<u32>, router: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                rest(&error).await;
                continue;
            }
        };
        let uid = stream.peer_cred().ok().map(|credentials| credentials.uid());
        let origin = Origin::User {
            uid,
            owner: uid.is_some() && uid == owner,
        };
        tokio::spawn(converse(stream, origin, router.clone(), place));
    }
}

async fn rest(error: &io::Error) {
    tracing::warn!(%error, "the API cannot accept a connection: `ulimit -n` limits how many");
    tokio::time::sleep(REST).await;
}

/// One connection, until either side ends it.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    origin: Origin,
    router: Router,
    place: OwnedSemaphorePermit,
) {
    let inner = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(origin);
        inner.call(request)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the API broke");
    }
    drop(place);
}
