//! Messages that begin here: responses, ACK, CANCEL and new requests (RFC 3261 §8).
//!
//! What is copied from a peer's message is copied byte by byte, folds and compact names included;
//! what is ours is written on one line each.

use std::net::SocketAddr;

use bytes::Bytes;

use super::edit::{Edit, header_line, one_line};
use super::index::{Malformed, Message, Name, Start};
use super::value::MAX_FORWARDS;
use super::vocabulary::{Method, phrase, view_header};

/// A response (RFC 3261 §8.2.6): Vias, From, To, Call-ID and CSeq as the request has them.
///
/// `to_tag` is added only where `To` has none. A missing reason is the registered phrase.
#[must_use]
pub fn response(
    request: &Message,
    code: u16,
    reason: Option<&str>,
    to_tag: Option<&str>,
    extra: &[(&str, String)],
    body: Option<(&str, &[u8])>,
) -> Bytes {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(format!("SIP/2.0 {code} ").as_bytes());
    out.extend_from_slice(&one_line(reason.unwrap_or_else(|| phrase(code)).as_bytes()));
    out.extend_from_slice(b"\r\n");
    for name in [Name::Via, Name::From, Name::To, Name::CallId, Name::CSeq] {
        let tag = to_tag.filter(|_| name == Name::To && request.to_tag().is_none());
        copy_fields(&mut out, request, name, tag);
    }
    if code == 100 {
        // RFC 3261 §8.2.6.1.
        copy_fields(&mut out, request, Name::Timestamp, None);
    }
    finish(out, extra, body)
}

/// The answer to a request that [`Message::parse`] refused, if one is due and can be addressed:
/// never to an ACK, never to a response, never without a `Via`.
#[must_use]
pub fn refusal(bytes: &Bytes, fault: Malformed, to_tag: Option<&str>) -> Option<Bytes> {
    let code = fault.status()?;
    let request = Message::salvage(bytes.clone())?;
    request.get(Name::Via)?;
    match request.method()? {
        Method::Ack => None,
        _ => Some(response(
            &request,
            code,
            Some(fault.reason()),
            to_tag,
            &[],
            None,
        )),
    }
}

/// ACK for a final response that is not 2xx (RFC 3261 §17.1.1.3).
#[must_use]
pub fn ack_non2xx(invite: &Message, response: &Message) -> Bytes {
    within_transaction(invite, Method::Ack, response)
}

/// CANCEL for a request that was sent (RFC 3261 §9.1).
#[must_use]
pub fn cancel(invite: &Message) -> Bytes {
    within_transaction(invite, Method::Cancel, invite)
}

/// A request of the same transaction: one `Via`, the request's own, and its route set.
fn within_transaction(request: &Message, method: Method<'_>, to_from: &Message) -> Bytes {
    let uri = match request.start() {
        Start::Request { uri, .. } => uri,
        Start::Response { .. } => &[],
    };
    let mut out = request_line(method, uri);
    out.extend_from_slice(&header_line("Via", request.slice(&request.top_via_range())));
    out.extend_from_slice(&header_line(
        "Max-Forwards",
        MAX_FORWARDS.to_string().as_bytes(),
    ));
    copy_fields(&mut out, request, Name::Route, None);
    copy_fields(&mut out, request, Name::From, None);
    copy_fields(&mut out, to_from, Name::To, None);
    copy_fields(&mut out, request, Name::CallId, None);
    out.extend_from_slice(&header_line("CSeq", &cseq(request.cseq().0, method)));
    finish(out, &[], None)
}

/// A request that begins here (RFC 3261 §8.1.1). Values are header values without line ends.
#[derive(Clone, Copy, Debug)]
pub struct NewRequest<'a> {
    pub method: Method<'a>,
    pub uri: &'a [u8],
    pub via: &'a [u8],
    pub from: &'a [u8],
    pub to: &'a [u8],
    pub call_id: &'a [u8],
    pub cseq: u32,
    pub max_forwards: u8,
    pub contact: Option<&'a [u8]>,
    /// Topmost first.
    pub routes: &'a [&'a [u8]],
    pub extra: &'a [(&'a str, String)],
    /// Content type and bytes.
    pub body: Option<(&'a str, &'a [u8])>,
}

impl NewRequest<'_> {
    #[must_use]
    pub fn build(&self) -> Bytes {
        let mut out = request_line(self.method, self.uri);
        push(&mut out, "Via", self.via);
        push(
            &mut out,
            "Max-Forwards",
            self.max_forwards.to_string().as_bytes(),
        );
        for route in self.routes {
            push(&mut out, "Route", route);
        }
        push(&mut out, "From", self.from);
        push(&mut out, "To", self.to);
        push(&mut out, "Call-ID", self.call_id);
        push(&mut out, "CSeq", &cseq(self.cseq, self.method));
        if let Some(contact) = self.contact {
            push(&mut out, "Contact", contact);
        }
        finish(out, self.extra, self.body)
    }
}

/// Notes in the topmost `Via` where the request came from: `received` when the sent-by says
/// otherwise or `rport` asks for it, `rport` when asked for (RFC 3261 §18.2.1, RFC 3581 §4).
/// A `received` the sender wrote itself is not believed.
#[must_use]
pub fn stamp_received(message: &Message, from: SocketAddr) -> Bytes {
    stamp(message, from, false)
}

/// The same, as if `rport` had been asked for: for clients behind a NAT that do not know it.
#[must_use]
pub fn stamp_received_forced(message: &Message, from: SocketAddr) -> Bytes {
    stamp(message, from, true)
}

fn stamp(message: &Message, from: SocketAddr, force: bool) -> Bytes {
    let via = message.top_via();
    let ip = from.ip().to_canonical();
    let differs = via.host_ip() != Some(ip);
    if !(differs || force || via.rport.is_some() || via.received.is_some()) {
        return message.bytes().clone();
    }
    let range = message.top_via_range();
    let mut edit = Edit::new(message);
    for param in via.params.clone() {
        let received = param.name.eq_ignore_ascii_case(b"received");
        if received || param.name.eq_ignore_ascii_case(b"rport") {
            edit.replace(
                range.start + param.range.start..range.start + param.range.end,
                [],
            );
        }
    }
    let mut stamp = format!(";received={ip}");
    if force || via.rport.is_some() {
        stamp.push_str(&format!(";rport={}", from.port()));
    }
    edit.replace(range.end..range.end, stamp);
    edit.finish()
}

fn request_line(method: Method<'_>, uri: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(&one_line(method.as_bytes()));
    out.push(b' ');
    out.extend_from_slice(&one_line(uri));
    out.extend_from_slice(b" SIP/2.0\r\n");
    out
}

fn cseq(number: u32, method: Method<'_>) -> Vec<u8> {
    let mut value = format!("{number} ").into_bytes();
    value.extend_from_slice(method.as_bytes());
    value
}

/// A header line by rsip where it keeps every byte, by us where it does not.
fn push(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    match view_header(name, value) {
        Some(line) => {
            out.extend_from_slice(line.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        None => out.extend_from_slice(&header_line(name, value)),
    }
}

/// Copies all fields of a name; `tag` is added to the value.
fn copy_fields(out: &mut Vec<u8>, message: &Message, name: Name, tag: Option<&str>) {
    for field in message.all(name) {
        out.extend_from_slice(message.slice(&(field.line.start..field.value.end)));
        if let Some(tag) = tag {
            out.extend_from_slice(b";tag=");
            out.extend_from_slice(&one_line(tag.as_bytes()));
        }
        out.extend_from_slice(b"\r\n");
    }
}

fn finish(mut out: Vec<u8>, extra: &[(&str, String)], body: Option<(&str, &[u8])>) -> Bytes {
    for (name, value) in extra {
        out.extend_from_slice(&header_line(name, value.as_bytes()));
    }
    if let Some((kind, _)) = body {
        out.extend_from_slice(&header_line("Content-Type", kind.as_bytes()));
    }
    let body = body.map_or(&[][..], |(_, body)| body);
    out.extend_from_slice(&header_line(
        "Content-Length",
        body.len().to_string().as_bytes(),
    ));
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
    Bytes::from(out)
}
