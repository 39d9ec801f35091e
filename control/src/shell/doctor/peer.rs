//! A second node that is given orders: by its socket on this machine, or by its API over TCP.

use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::config::Config;
use crate::shell::cascade::client::{Question, Remote};
use crate::shell::cascade::tls;
use crate::upstream::{Class, Terms};

/// Where the second node is.
#[derive(Clone, Debug)]
pub enum Peer {
    Socket(PathBuf),
    /// `https://host:port`, and an operator's token there.
    Url {
        base: String,
        token: String,
    },
}

/// Within which an order over TCP is carried out.
const DEADLINE: Duration = Duration::from_secs(8);
/// A node takes one order in a second, whoever gives it.
const ORDERS_EVERY: Duration = Duration::from_millis(1100);
const TRIES_MAX: usize = 2;

impl Peer {
    fn name(&self) -> String {
        match self {
            Self::Socket(path) => path.display().to_string(),
            Self::Url { base, .. } => base.clone(),
        }
    }

    /// Gives an order; its answer.
    pub(super) async fn order(
        &self,
        config: &Config,
        path: &'static str,
        order: String,
    ) -> Result<Value, String> {
        let told = |why: String| format!("{}: {why}", self.name());
        let mut tries = 0;
        let (status, body) = loop {
            let order = order.clone();
            let done = match self {
                Self::Socket(socket) => by_socket(socket.clone(), path, order).await,
                Self::Url { base, token } => by_url(config, base, token, path, order).await,
            };
            let (status, body) = done.map_err(told)?;
            tries += 1;
            if status != StatusCode::TOO_MANY_REQUESTS || tries == TRIES_MAX {
                break (status, body);
            }
            // Somebody else's order, or our own for another network.
            tokio::time::sleep(ORDERS_EVERY).await;
        };
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| told(error.to_string()));
        }
        let body = String::from_utf8_lossy(&body);
        Err(told(format!("refused ({status}): {body}")))
    }
}

type Answered = Result<(StatusCode, Bytes), String>;

async fn by_socket(socket: PathBuf, path: &str, order: String) -> Answered {
    let exchange = async {
        let stream = UnixStream::connect(socket).await?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header("host", "towpath")
            .body(Full::new(Bytes::from(order)))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        Ok::<_, anyhow::Error>((status, body))
    };
    exchange.await.map_err(|error| error.to_string())
}

async fn by_url(
    config: &Config,
    base: &str,
    token: &str,
    path: &'static str,
    order: String,
) -> Answered {
    let tls = tls::client(&config.cascade).map_err(|wrong| {
        let (key, error) = (wrong.key, wrong.error);
        format!("{key}: {error:#}")
    })?;
    let headers = vec![("authorization", format!("Bearer {token}"))];
    let remote = Remote::new(base.to_owned(), headers, tls, 0);
    let question = Question {
        method: Method::POST,
        path,
        body: Bytes::from(order),
    };
    let terms = Terms {
        class: Class::Link,
        deadline: DEADLINE,
        // A second order is a second probe.
        repeatable: false,
    };
    let answer = remote.ask(terms, &question).await;
    let answer = answer.map_err(|error| error.to_string())?;
    Ok((answer.status, answer.body))
}
