//! Where clients connect, and our certificate.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_rustls::rustls::ServerConfig;

use super::{Edge, Shared, Task, connection};
use crate::config::Config;
use crate::id::{Listener, Transport};
use crate::shell::sip::{Wrong, one_way};
use crate::shell::tcp;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// How long to wait when the system has no descriptor left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// The sockets that clients connect to.
pub(crate) struct Listeners {
    edge: Edge,
    open: BTreeMap<Listener, Task>,
}

/// A listener that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {on} for MQTT: {error}")]
pub(crate) struct Busy {
    pub(crate) on: Listener,
    pub(crate) error: io::Error,
}

/// What TLS connections are made with; none: nothing is configured.
pub(crate) fn tls(config: &Config) -> Result<Option<Arc<ServerConfig>>, Wrong> {
    let own = config.mqtt.tls.as_ref();
    let (certificate, key) = match (own, &config.sip.tls) {
        (Some(own), _) => (
            (&own.certificate, "mqtt.tls.certificate"),
            (&own.key, "mqtt.tls.key"),
        ),
        (None, Some(sip)) => (
            (&sip.certificate, "sip.tls.certificate"),
            (&sip.key, "sip.tls.key"),
        ),
        (None, None) => return Ok(None),
    };
    one_way(certificate, key).map(Some)
}

impl Listeners {
    pub(crate) fn new(edge: Edge) -> Self {
        Self {
            edge,
            open: BTreeMap::new(),
        }
    }

    /// Opens those that are not open, all of them or none. Returns which.
    pub(crate) fn open(&mut self, listeners: &[Listener]) -> Result<Vec<Listener>, Busy> {
        let mut opened = Vec::new();
        for on in listeners {
            if self.open.contains_key(on) {
                continue;
            }
            match tcp::listen(on.local, BACKLOG) {
                Ok(listener) => {
                    let accepting = accept(listener, *on, self.edge.0.clone());
                    self.open.insert(*on, Task(tokio::spawn(accepting)));
                    opened.push(*on);
                }
                Err(error) => {
                    self.close(&opened);
                    return Err(Busy { on: *on, error });
                }
            }
        }
        Ok(opened)
    }

    pub(crate) fn close(&mut self, listeners: &[Listener]) {
        for on in listeners {
            self.open.remove(on);
        }
    }

    /// Closes all others; who connected there stays.
    pub(crate) fn keep(&mut self, listeners: &[Listener]) {
        self.open.retain(|on, _| listeners.contains(on));
    }
}

async fn accept(listener: TcpListener, on: Listener, shared: Arc<Shared>) {
    let secure = on.transport == Transport::Tls;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection::serve(shared.clone(), stream, secure));
            }
            Err(error) => {
                tracing::warn!(%on, %error, "cannot accept an MQTT connection");
                sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}
