//! SIP messages as a phone writes them. Shares nothing with the edge's own builders, so that it can
//! contradict them; reading is `control::sip::index`'s.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use control::sip::index::{Message, Name};

/// A message being written.
#[derive(Clone, Debug)]
pub struct Draft {
    out: Vec<u8>,
}

impl Draft {
    #[must_use]
    pub fn request(method: &str, uri: &str) -> Self {
        Self {
            out: format!("{method} {uri} SIP/2.0\r\n").into_bytes(),
        }
    }

    /// A response with what it takes from its request (RFC 3261 §8.2.6.2). `tag` is added to a To
    /// that has none.
    #[must_use]
    pub fn response(request: &Message, code: u16, tag: &str) -> Self {
        let out = format!("SIP/2.0 {code} Because\r\n").into_bytes();
        let mut draft = Self { out };
        for name in [Name::Via, Name::From, Name::To, Name::CallId, Name::CSeq] {
            for field in request.all(name) {
                let mut value = request.slice(&field.value).to_vec();
                if name == Name::To && request.to_tag().is_none() && code > 100 {
                    value.extend(format!(";tag={tag}").into_bytes());
                }
                draft.raw(request.slice(&field.name_range), &value);
            }
        }
        draft
    }

    /// A header line.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.raw(name.as_bytes(), value.as_ref());
        self
    }

    /// Whole header lines, each with its line end, as they are.
    #[must_use]
    pub fn lines(mut self, lines: &[u8]) -> Self {
        self.out.extend(lines);
        self
    }

    #[must_use]
    pub fn body(self, body: Option<(&str, &[u8])>) -> Bytes {
        let (kind, body) = body.unwrap_or(("", b""));
        let mut draft = if body.is_empty() {
            self
        } else {
            self.with("Content-Type", kind)
        };
        draft = draft.with("Content-Length", body.len().to_string());
        draft.out.extend(b"\r\n");
        draft.out.extend(body);
        draft.out.into()
    }

    fn raw(&mut self, name: &[u8], value: &[u8]) {
        for part in [name, b": ", value, b"\r\n"] {
            self.out.extend(part);
        }
    }
}

/// ACK for a failure and CANCEL: same Via, same CSeq number (RFC 3261 §9.1, §17.1.1.3).
#[must_use]
pub fn same_transaction(request: &Message, method: &str, to: &[u8]) -> Bytes {
    let value = |name| request.get(name).unwrap_or_default().to_vec();
    let uri = request.uri_range().map(|uri| request.slice(&uri).to_vec());
    let uri = String::from_utf8_lossy(&uri.unwrap_or_default()).into_owned();
    Draft::request(method, &uri)
        .with("Via", request.slice(&request.top_via_range()))
        .with("From", value(Name::From))
        .with("To", to)
        .with("Call-ID", request.call_id())
        .with("CSeq", format!("{} {method}", request.cseq().0))
        .with("Max-Forwards", "70")
        .body(None)
}

/// What a header says, as text.
#[must_use]
pub fn text(message: &Message, name: Name) -> String {
    String::from_utf8_lossy(message.get(name).unwrap_or_default()).into_owned()
}

/// The URI of a message's Contact.
#[must_use]
pub fn contact(message: &Message) -> Option<String> {
    let value = text(message, Name::Contact);
    let (_, rest) = value.split_once('<')?;
    rest.split_once('>').map(|(uri, _)| uri.to_owned())
}

/// Host and port of a `sip:` URI whose host is an address.
#[must_use]
pub fn address(uri: &str) -> Option<SocketAddr> {
    let rest = uri.strip_prefix("sip:")?;
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let host = host.split([';', '?']).next()?;
    host.parse().ok().or_else(|| {
        let ip: IpAddr = host.trim_matches(['[', ']']).parse().ok()?;
        Some(SocketAddr::new(ip, 5060))
    })
}
