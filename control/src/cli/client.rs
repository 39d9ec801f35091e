//! HTTP over the daemon's Unix socket.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

/// The daemon answers from memory; longer than this and it is not well.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Client<'a> {
    socket: &'a Path,
}

impl<'a> Client<'a> {
    pub(super) fn new(socket: &'a Path) -> Self {
        Self { socket }
    }

    pub(super) fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.ask(Method::GET, path)
    }

    pub(super) fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.ask(Method::DELETE, path)
    }

    fn ask(&self, method: Method, path: &str) -> anyhow::Result<Value> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            tokio::time::timeout(PATIENCE, self.exchange(method, path))
                .await
                .map_err(|_| {
                    anyhow::anyhow!("the daemon did not answer within {} s", PATIENCE.as_secs())
                })?
        })
    }

    async fn exchange(&self, method: Method, path: &str) -> anyhow::Result<Value> {
        let stream = UnixStream::connect(self.socket).await.with_context(|| {
            format!(
                "cannot reach the daemon on {}: is it running (`systemctl status towpath`), and \
                 may you use the socket? Another place: --socket PATH",
                self.socket.display()
            )
        })?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "towpath")
            .body(Empty::<Bytes>::new())?;
        let response = sender
            .send_request(request)
            .await
            .context("the daemon hung up")?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        let value: Value =
            serde_json::from_slice(&body).context("the daemon's answer is not JSON")?;
        if !status.is_success() {
            let detail = value
                .get("detail")
                .and_then(Value::as_str)
                .unwrap_or("no detail");
            bail!("{status}: {detail}");
        }
        Ok(value)
    }
}
