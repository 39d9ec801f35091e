//! Messages that begin here: responses, ACK, CANCEL and new requests (RFC 3261 §8).
//!
//! What is copied from a peer's message is copied byte by byte, folds and compact names included;
//! what is ours is written on one line each.

use std::net::SocketAddr;

use bytes::Bytes;

use super::edit::{Edit, header_line, one_line, tight};
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
    if request.method()? == Method::Ack {
        return None;
    }
    Some(response(
        &request,
        code,
        Some(fault.reason()),
        to_tag,
        &[],
        None,
    ))
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
    tight(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INVITE: &str = "INVITE sip:b@b:5;lr SIP/2.0\r\n\
        v: SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bKa;rport,\r\n SIP/2.0/UDP 10.0.0.9\r\n\
        Route: <sip:p;lr>\r\nf: \"A\" <sip:a@a>;tag=1\r\nTo :\r\n sip:b@b\r\n\
        Call-ID: c@d\r\nCSeq: 0007 INVITE\r\nRequire: x\r\nTimestamp: 5\r\nl: 4\r\n\r\nbody";

    fn parse(text: &str) -> Message {
        Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    const COPIED: &str = "v: SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bKa;rport,\r\n \
        SIP/2.0/UDP 10.0.0.9\r\nf: \"A\" <sip:a@a>;tag=1\r\nTo :\r\n sip:b@b";

    #[test]
    fn responses_copy_bytewise() {
        let request = parse(INVITE);
        let extra = [("Retry-After", "5\r\nEvil: 1".to_owned())];
        let busy = response(
            &request,
            486,
            None,
            Some("t1"),
            &extra,
            Some(("text/plain", b"hm")),
        );
        let expected = format!(
            "SIP/2.0 486 Busy Here\r\n{COPIED};tag=t1\r\nCall-ID: c@d\r\nCSeq: 0007 INVITE\r\n\
             Retry-After: 5  Evil: 1\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhm"
        );
        assert_eq!(text(&busy), expected);
        let parsed = Message::parse(busy).unwrap();
        assert_eq!(parsed.to_tag(), Some(&b"t1"[..]));
        // A tag that is there stays.
        let tagged = INVITE.replace("sip:b@b\r\nCall", "<sip:b@b>;tag=mine\r\nCall");
        let ok = response(&parse(&tagged), 200, Some("Fine"), Some("other"), &[], None);
        assert!(text(&ok).starts_with("SIP/2.0 200 Fine\r\n"));
        assert!(text(&ok).contains("<sip:b@b>;tag=mine\r\nCall"));
    }

    #[test]
    fn trying_echoes_the_timestamp() {
        let trying = response(&parse(INVITE), 100, None, None, &[], None);
        let expected = format!(
            "SIP/2.0 100 Trying\r\n{COPIED}\r\nCall-ID: c@d\r\nCSeq: 0007 INVITE\r\n\
             Timestamp: 5\r\nContent-Length: 0\r\n\r\n"
        );
        assert_eq!(text(&trying), expected);
    }

    #[test]
    fn ack_and_cancel_stay_in_the_transaction() {
        let invite = parse(INVITE);
        let busy = Message::parse(response(&invite, 486, None, Some("t1"), &[], None)).unwrap();
        let expected = |method: &str, to: &str| {
            format!(
                "{method} sip:b@b:5;lr SIP/2.0\r\n\
                 Via: SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bKa;rport\r\nMax-Forwards: 70\r\n\
                 Route: <sip:p;lr>\r\nf: \"A\" <sip:a@a>;tag=1\r\nTo :\r\n sip:b@b{to}\r\n\
                 Call-ID: c@d\r\nCSeq: 7 {method}\r\nContent-Length: 0\r\n\r\n"
            )
        };
        assert_eq!(
            text(&ack_non2xx(&invite, &busy)),
            expected("ACK", ";tag=t1")
        );
        assert_eq!(text(&cancel(&invite)), expected("CANCEL", ""));
    }

    #[test]
    fn new_requests() {
        let request = NewRequest {
            method: Method::Options,
            uri: b"sip:[2001:db8::1]",
            via: b"SIP/2.0/UDP e;branch=z9hG4bK1",
            from: b"\"\xb0\" <sip:e@e>;tag=2",
            to: b"<sip:x@y>",
            call_id: b"q",
            cseq: 3,
            max_forwards: 70,
            contact: Some(b"<sip:e@[2001:db8::2]>"),
            routes: &[b"<sip:r1;lr>", b"<sip:r2;lr>"],
            extra: &[("X-Y", "z".to_owned())],
            body: None,
        };
        let expected =
            b"OPTIONS sip:[2001:db8::1] SIP/2.0\r\nVia: SIP/2.0/UDP e;branch=z9hG4bK1\r\n\
            Max-Forwards: 70\r\nRoute: <sip:r1;lr>\r\nRoute: <sip:r2;lr>\r\n\
            From: \"\xb0\" <sip:e@e>;tag=2\r\nTo: <sip:x@y>\r\nCall-ID: q\r\nCSeq: 3 OPTIONS\r\n\
            Contact: <sip:e@[2001:db8::2]>\r\nX-Y: z\r\nContent-Length: 0\r\n\r\n";
        let bytes = request.build();
        assert_eq!(bytes, &expected[..]);
        assert_eq!(
            Message::parse(bytes).unwrap().method(),
            Some(Method::Options)
        );
    }

    #[test]
    fn received_and_rport() {
        fn check(via: &str, from: &str, force: bool, expected: &str) {
            let message = parse(&INVITE.replace(";branch=z9hG4bKa;rport", via));
            let from = from.parse().unwrap();
            let bytes = stamp(&message, from, force);
            let stamped = Message::parse(bytes).unwrap();
            let seen = text(stamped.slice(&stamped.top_via_range())).to_owned();
            assert_eq!(seen, format!("SIP/2.0/UDP 10.0.0.1:5070{expected}"));
            assert_eq!(stamped.values(Name::Via).len(), 2);
            assert_eq!(stamped.body(), b"body");
        }
        let (same, other) = ("10.0.0.1:5070", "192.0.2.7:1024");
        check(";branch=x", same, false, ";branch=x");
        check(";branch=x", other, false, ";branch=x;received=192.0.2.7");
        check(";branch=x", "[::ffff:10.0.0.1]:1", false, ";branch=x");
        check(
            ";rport;branch=x",
            same,
            false,
            ";branch=x;received=10.0.0.1;rport=5070",
        );
        check(
            ";rport=9;branch=x",
            other,
            false,
            ";branch=x;received=192.0.2.7;rport=1024",
        );
        check(
            ";branch=x",
            other,
            true,
            ";branch=x;received=192.0.2.7;rport=1024",
        );
        check("", same, true, ";received=10.0.0.1;rport=5070");
        check(";received=6.6.6.6", same, false, ";received=10.0.0.1");
        check(
            ";received=6.6.6.6;rport",
            other,
            false,
            ";received=192.0.2.7;rport=1024",
        );
        check("", "[2001:db8::7]:5", false, ";received=2001:db8::7");
    }

    #[test]
    fn refusals() {
        fn check(wire: &str, expected: Option<&str>) {
            let bytes = Bytes::copy_from_slice(wire.as_bytes());
            let fault = Message::parse(bytes.clone()).unwrap_err();
            let answer = refusal(&bytes, fault, Some("t"));
            let line = answer.map(|answer| text(&answer).lines().next().unwrap().to_owned());
            assert_eq!(line.as_deref(), expected, "{wire}");
        }
        let bad = |from: &str, to: &str| INVITE.replace(from, to);
        check(&bad("l: 4", "l: 5"), Some("SIP/2.0 400 Bad Content-Length"));
        check(
            &bad("SIP/2.0\r\nv", "SIP/7.0\r\nv"),
            Some("SIP/2.0 505 Version Not Supported"),
        );
        check(
            &bad("0007 INVITE", "7 BYE"),
            Some("SIP/2.0 400 CSeq Method Mismatch"),
        );
        check(
            &bad("Call-ID: c@d\r\n", ""),
            Some("SIP/2.0 400 Missing Call-ID"),
        );
        check(
            &bad("Require", "no colon\r\nX"),
            Some("SIP/2.0 400 Bad Header Line"),
        );
        check(
            &bad("Require: ", &format!("X: {}", "y".repeat(9000))),
            Some("SIP/2.0 513 Header Line Too Long"),
        );
        check(
            &bad("sip:b@b:5;lr SIP", "<sip:b> SIP"),
            Some("SIP/2.0 400 Bad Start Line"),
        );
        check(&bad("INVITE", "ACK").replace("c@d", "c d"), None);
        check(&bad("v: ", "X: "), None);
        check("SIP/2.0 200 OK\r\nv: SIP/2.0/UDP a\r\n\r\n", None);
        check("hello\r\n\r\n", None);
    }

    proptest! {
        /// rsip writes what we write, for every value it is shown; its wire is never trusted alone.
        #[test]
        fn rsip_and_we_agree(value in "[ -~]{0,40}") {
            for name in ["Via", "From", "To", "Call-ID", "CSeq", "Contact", "Route", "X"] {
                let mut line = Vec::new();
                push(&mut line, name, value.as_bytes());
                prop_assert_eq!(line, header_line(name, value.as_bytes()));
            }
        }
    }
}
