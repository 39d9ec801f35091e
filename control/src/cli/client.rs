//! HTTP over the daemon's Unix socket.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, StatusCode};
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

    pub(super) fn socket(&self) -> &'a Path {
        self.socket
    }

    /// Asks for a resource, named by the parts of its path below `/api/v1`.
    pub(super) fn get(&self, parts: &[&str]) -> anyhow::Result<Value> {
        self.ask(Method::GET, &path(parts), String::new(), None)
    }

    /// The same, with a query: pairs of a name and a value that needs no encoding.
    pub(super) fn query(&self, parts: &[&str], query: &[(&str, String)]) -> anyhow::Result<Value> {
        let query: Vec<String> = query.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let path = format!("{}?{}", path(parts), query.join("&"));
        self.ask(Method::GET, &path, String::new(), None)
    }

    pub(super) fn delete(&self, parts: &[&str]) -> anyhow::Result<Value> {
        self.ask(Method::DELETE, &path(parts), String::new(), None)
    }

    /// Sends something; `if_match` is the entity tag of what it replaces.
    pub(super) fn send(
        &self,
        method: Method,
        parts: &[&str],
        body: String,
        if_match: Option<&str>,
    ) -> anyhow::Result<Value> {
        self.ask(method, &path(parts), body, if_match)
    }

    /// Asks for a file that takes `time` to become.
    pub(super) fn file(
        &self,
        parts: &[&str],
        query: &str,
        time: Duration,
    ) -> anyhow::Result<Bytes> {
        let path = format!("{}?{query}", path(parts));
        let request = request(Method::POST, &path, String::new(), None)?;
        Self::within(PATIENCE + time, self.exchange(request))
    }

    /// Reads server-sent events until the daemon ends: kind and data of each.
    pub(super) fn stream(
        &self,
        parts: &[&str],
        query: &[(&str, String)],
        each: &mut dyn FnMut(&str, &str) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let query: Vec<String> = query.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let path = format!("{}?{}", path(parts), query.join("&"));
        let mut request = request(Method::GET, &path, String::new(), None)?;
        let kind = hyper::header::HeaderValue::from_static("text/event-stream");
        request.headers_mut().insert("accept", kind);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let mut body = self.open(request).await?;
            let mut rest = Vec::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.context("the daemon hung up")?;
                rest.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
                while let Some(end) = rest.windows(2).position(|two| two == b"\n\n") {
                    let event: Vec<u8> = rest.drain(..end + 2).collect();
                    let event = String::from_utf8_lossy(&event);
                    let field = |name: &str| event.lines().find_map(|l| l.strip_prefix(name));
                    if let (Some(kind), Some(data)) = (field("event: "), field("data: ")) {
                        each(kind, data)?;
                    }
                }
            }
            anyhow::bail!("the daemon ended")
        })
    }

    fn ask(
        &self,
        method: Method,
        path: &str,
        body: String,
        if_match: Option<&str>,
    ) -> anyhow::Result<Value> {
        let request = request(method, path, body, if_match)?;
        let body = Self::within(PATIENCE, self.exchange(request))?;
        serde_json::from_slice(&body).context("the daemon's answer is not JSON")
    }

    fn within<T>(
        time: Duration,
        exchange: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            tokio::time::timeout(time, exchange).await.map_err(|_| {
                anyhow::anyhow!("the daemon did not answer within {} s", time.as_secs())
            })?
        })
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Bytes> {
        let body = self.open(request).await?;
        Ok(body.collect().await?.to_bytes())
    }

    /// The body of an answer that is none of refusal.
    async fn open(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Incoming> {
        let stream = UnixStream::connect(self.socket).await;
        let stream = stream.map_err(|error| {
            let told = unreachable(&error, self.socket);
            anyhow::Error::new(error).context(told)
        })?;
        let asked = request.uri().path().to_owned();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let response = sender
            .send_request(request)
            .await
            .context("the daemon hung up")?;
        let status = response.status();
        let body = response.into_body();
        if !status.is_success() {
            let body = body.collect().await?.to_bytes();
            let mut value: Value = serde_json::from_slice(&body).unwrap_or_default();
            let of = subject(&asked).filter(|_| status == StatusCode::NOT_FOUND);
            if let (Some(of), Some(document)) = (of, value.as_object_mut()) {
                document.insert(SUBJECT.to_owned(), of.into());
            }
            return Err(Refusal(value).into());
        }
        Ok(body)
    }
}

/// What the daemon would not do: its problem document (RFC 9457).
#[derive(Debug)]
pub(super) struct Refusal(pub(super) Value);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |name: &str| self.0.get(name).and_then(Value::as_str);
        if let Some(subject) = word(SUBJECT) {
            write!(f, "{subject}: ")?;
        }
        f.write_str(word("detail").unwrap_or("the daemon gives no reason"))
    }
}

impl std::error::Error for Refusal {}

/// What was not found, in the document of a refusal; ours, not the daemon's.
const SUBJECT: &str = "subject";

/// What a path names: `call 7`.
fn subject(path: &str) -> Option<String> {
    let mut parts = path.strip_prefix("/api/v1/")?.split('/');
    let kind = match parts.next()? {
        "calls" => "call ",
        "conferences" => "conference ",
        "peers" => "peer ",
        "tokens" => "token ",
        "bans" | "registrations" => "",
        _ => return None,
    };
    Some(format!("{kind}{}", decoded(parts.next()?)))
}

/// The reverse of [`encoded`].
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        bytes.extend(u8::from_str_radix(digits, 16));
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Why there is nobody to ask, and what to do about it.
fn unreachable(error: &io::Error, socket: &Path) -> String {
    let at = socket.display();
    let other = "or name its socket (`--socket PATH`, node.socket)";
    let kind = error.kind();
    if kind == io::ErrorKind::NotFound {
        return format!(
            "no daemon has its socket at {at}: start it (`systemctl start towpath`; `systemctl \
             status towpath` says why it ended), {other}"
        );
    }
    if kind == io::ErrorKind::PermissionDenied {
        return format!(
            "this user may not use the daemon's socket {at}: use `sudo`, or join the group that \
             `ls -l {at}` shows, {other}"
        );
    }
    format!(
        "no daemon answers on {at}: start it (`systemctl start towpath`; `systemctl status \
         towpath` says why it ended), {other}"
    )
}

fn request(
    method: Method,
    path: &str,
    body: String,
    if_match: Option<&str>,
) -> anyhow::Result<Request<Full<Bytes>>> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "towpath");
    if let Some(tag) = if_match {
        request = request.header("if-match", tag);
    }
    Ok(request.body(Full::new(Bytes::from(body)))?)
}

/// Joins the parts of a path, each percent-encoded (RFC 3986 §2.1) but for what needs it not.
fn path(parts: &[&str]) -> String {
    let mut path = "/api/v1".to_owned();
    for part in parts {
        path.push('/');
        path.push_str(&encoded(part));
    }
    path
}

/// Percent-encoded (RFC 3986 §2.1) but for what needs it not.
pub(super) fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~@:,".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_found_is_named() {
        let check = |parts: &[&str], expected: Option<&str>| {
            assert_eq!(subject(&path(parts)).as_deref(), expected, "{parts:?}");
        };
        check(&["calls", "7", "explain"], Some("call 7"));
        check(&["registrations", "zoë @[::1]"], Some("zoë @[::1]"));
        check(&["bans", "192.0.2.0/24"], Some("192.0.2.0/24"));
        check(&["config", "history", "7"], None);
        assert_eq!(decoded("a%2"), "a\u{2}");
    }

    #[test]
    fn names_become_one_part_of_a_path() {
        let check = |name: &str, expected: &str| {
            assert_eq!(path(&["registrations", name]), expected, "{name}");
        };
        check("1001@example.com", "/api/v1/registrations/1001@example.com");
        check("a/../b?x#y", "/api/v1/registrations/a%2F..%2Fb%3Fx%23y");
        check("zoë @[::1]", "/api/v1/registrations/zo%C3%AB%20@%5B::1%5D");
    }
}
