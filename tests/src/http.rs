//! One HTTP request over a Unix socket: all the lab needs of HTTP.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Longest answer read.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// How long one read may take.
const READ_LIMIT: Duration = Duration::from_secs(5);

/// Asks for `path` and reads the JSON that comes back.
///
/// # Errors
/// Nobody listens, an answer other than 200, or something that is not JSON.
pub fn get(socket: &Path, path: &str) -> Result<Value> {
    let body = ask(socket, path)?;
    serde_json::from_slice(&body).with_context(|| format!("GET {path}: not JSON"))
}

/// Asks for `path` and reads the text that comes back.
///
/// # Errors
/// As `get`.
pub fn text(socket: &Path, path: &str) -> Result<String> {
    Ok(String::from_utf8(ask(socket, path)?)?)
}

/// An answer of whatever status.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// The entity tag, if there is one.
    pub etag: Option<String>,
    pub body: Value,
}

/// Sends any request, with further header lines, and reads the JSON that comes back.
///
/// # Errors
/// Nobody listens, or something that is not JSON.
pub fn send(socket: &Path, method: &str, path: &str, head: &str, body: &str) -> Result<Answer> {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: towpath\r\nConnection: close\r\nContent-Length: \
         {length}\r\n{head}\r\n{body}"
    );
    let answer = exchange(socket, &request)?;
    let (status, fields, body) = parts(&answer)?;
    let etag = fields.lines().find_map(|line| line.strip_prefix("etag: "));
    let body = serde_json::from_slice(&body).with_context(|| format!("{method} {path}"))?;
    Ok(Answer {
        status,
        etag: etag.map(str::to_owned),
        body,
    })
}

/// Status and JSON of an answer that was read elsewhere.
///
/// # Errors
/// It is not one.
pub fn document(answer: &[u8]) -> Result<(u16, Value)> {
    let (status, _, body) = parts(answer)?;
    let body = serde_json::from_slice(&body).context("not JSON")?;
    Ok((status, body))
}

/// Whether an answer has been read to its end, by its own `Content-Length`.
#[must_use]
pub fn is_whole(answer: &[u8]) -> bool {
    let Ok((_, fields, body)) = parts(answer) else {
        return false;
    };
    let mut lengths = fields
        .lines()
        .filter_map(|l| l.strip_prefix("content-length:"));
    let length = lengths.next().and_then(|length| length.trim().parse().ok());
    length.is_some_and(|length: usize| body.len() >= length)
}

/// An answer as it came.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// Header fields, one a line, in lower case.
    pub fields: String,
    pub body: Vec<u8>,
}

impl Reply {
    /// The value of a header field, in lower case.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.lines().filter_map(|line| line.split_once(": "));
        fields
            .find(|(field, _)| *field == name)
            .map(|(_, value)| value)
    }

    /// The body, if it is JSON.
    #[must_use]
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// Sends any request over TCP, with further header lines, and reads whatever comes back.
///
/// # Errors
/// Nobody listens, or something that is not HTTP.
pub fn over_tcp(
    to: std::net::SocketAddr,
    (method, path): (&str, &str),
    head: &str,
    body: &[u8],
) -> Result<Reply> {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: towpath\r\nConnection: close\r\nContent-Length: \
         {length}\r\n{head}\r\n"
    );
    let mut stream = std::net::TcpStream::connect_timeout(&to, READ_LIMIT)?;
    stream.set_read_timeout(Some(READ_LIMIT))?;
    stream.write_all(request.as_bytes())?;
    // Whoever refuses a body need not read it.
    drop(stream.write_all(body));
    let mut answer = Vec::new();
    let read = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer);
    // The rest of what was not read makes the other side reset the connection.
    if answer.is_empty() {
        read.context("read the answer")?;
    }
    let (status, fields, body) = parts(&answer)?;
    Ok(Reply {
        status,
        fields,
        body,
    })
}

fn ask(socket: &Path, path: &str) -> Result<Vec<u8>> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: towpath\r\nConnection: close\r\n\r\n");
    exchange(socket, &request)
        .and_then(|answer| body(&answer))
        .with_context(|| format!("GET {path}"))
}

fn exchange(socket: &Path, request: &str) -> Result<Vec<u8>> {
    let mut stream =
        UnixStream::connect(socket).with_context(|| format!("connect to {}", socket.display()))?;
    stream.set_read_timeout(Some(READ_LIMIT))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_end(&mut answer)
        .context("read the answer")?;
    Ok(answer)
}

/// The body of an answer with status 200.
fn body(answer: &[u8]) -> Result<Vec<u8>> {
    let (status, _, body) = parts(answer)?;
    if status != 200 {
        bail!("{status}: {}", String::from_utf8_lossy(&body).trim());
    }
    Ok(body)
}

/// Status, header fields in lower case, body.
fn parts(answer: &[u8]) -> Result<(u16, String, Vec<u8>)> {
    let end = answer
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .context("no end of the head")?;
    let (head, rest) = answer.split_at(end);
    let body = rest.get(4..).unwrap_or_default();
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let (status, fields) = head.split_once("\r\n").unwrap_or((&head, ""));
    let code = status.split(' ').nth(1).context("no status")?.parse()?;
    let chunked =
        |field: &str| field.starts_with("transfer-encoding:") && field.contains("chunked");
    let body = match fields.lines().any(chunked) {
        true => dechunk(body)?,
        false => body.to_vec(),
    };
    Ok((code, fields.to_owned(), body))
}

/// RFC 9112 §7.1; trailers are ignored.
fn dechunk(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let end = rest
            .windows(2)
            .position(|w| w == b"\r\n")
            .context("chunk without size")?;
        let (size, after) = rest.split_at(end);
        let size = std::str::from_utf8(size)?
            .split(';')
            .next()
            .unwrap_or_default()
            .trim();
        let size = usize::from_str_radix(size, 16).context("chunk size")?;
        if size == 0 {
            return Ok(whole);
        }
        whole.extend(after.get(2..2 + size).context("cut chunk")?);
        rest = after.get(4 + size..).context("cut chunk")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(answer: &str, expected: Option<&str>) {
        let found = body(answer.as_bytes()).ok();
        assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{answer:?}");
    }

    #[test]
    fn bodies_are_found() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", Some("{}"));
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1;x\r\n}\r\n0\r\n\r\n",
            Some("{}"),
        );
        check("HTTP/1.1 503 No\r\n\r\n{}", None);
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{",
            None,
        );
        check("", None);
    }
}
