//! Methods, status phrases, and the bridge to rsip.
//!
//! rsip is a vocabulary here, never the wire: it is shown only what it reads and prints without
//! loss, and every answer of its is compared with the bytes it came from. `tests` pins the faults
//! that make this necessary; when one of those tests fails, the bridge may widen.

use std::str;

pub use super::build::{NewRequest, ack_non2xx, cancel, refusal, response};
pub use super::build::{stamp_received, stamp_received_forced};
use super::index::Message;
use super::uri::Uri;
use super::value::is_lws;

/// A request method; extension methods are as good as any other (RFC 3261 §7.1).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Method<'m> {
    Invite,
    Ack,
    Cancel,
    Bye,
    Register,
    Options,
    Info,
    Update,
    Prack,
    Refer,
    Subscribe,
    Notify,
    Message,
    Publish,
    Other(&'m [u8]),
}

const METHODS: [(Method<'static>, &[u8]); 14] = [
    (Method::Invite, b"INVITE"),
    (Method::Ack, b"ACK"),
    (Method::Cancel, b"CANCEL"),
    (Method::Bye, b"BYE"),
    (Method::Register, b"REGISTER"),
    (Method::Options, b"OPTIONS"),
    (Method::Info, b"INFO"),
    (Method::Update, b"UPDATE"),
    (Method::Prack, b"PRACK"),
    (Method::Refer, b"REFER"),
    (Method::Subscribe, b"SUBSCRIBE"),
    (Method::Notify, b"NOTIFY"),
    (Method::Message, b"MESSAGE"),
    (Method::Publish, b"PUBLISH"),
];

impl<'m> Method<'m> {
    /// Methods are case-sensitive (RFC 3261 §7.1).
    #[must_use]
    pub fn parse(bytes: &'m [u8]) -> Self {
        let known = METHODS.iter().find(|(_, name)| *name == bytes);
        known.map_or(Self::Other(bytes), |&(method, _)| method)
    }

    #[must_use]
    pub fn as_bytes(&self) -> &'m [u8] {
        match *self {
            Self::Invite => b"INVITE",
            Self::Ack => b"ACK",
            Self::Cancel => b"CANCEL",
            Self::Bye => b"BYE",
            Self::Register => b"REGISTER",
            Self::Options => b"OPTIONS",
            Self::Info => b"INFO",
            Self::Update => b"UPDATE",
            Self::Prack => b"PRACK",
            Self::Refer => b"REFER",
            Self::Subscribe => b"SUBSCRIBE",
            Self::Notify => b"NOTIFY",
            Self::Message => b"MESSAGE",
            Self::Publish => b"PUBLISH",
            Self::Other(name) => name,
        }
    }
}

/// The reason phrase registered for a status code; for an unregistered one, its class's.
#[must_use]
pub fn phrase(code: u16) -> &'static str {
    let known = PHRASES.iter().find(|(registered, _)| *registered == code);
    known.map_or_else(|| class_phrase(code), |&(_, phrase)| phrase)
}

/// RFC 3261 §8.1.3.2: an unknown code means what the x00 of its class means.
const fn class_phrase(code: u16) -> &'static str {
    match code / 100 {
        1 => "Session Progress",
        2 => "OK",
        3 => "Multiple Choices",
        4 => "Bad Request",
        5 => "Server Internal Error",
        6 => "Busy Everywhere",
        _ => "Unknown",
    }
}

/// RFC 3261 §21 and the SIP response code registry.
const PHRASES: [(u16, &str); 75] = [
    (100, "Trying"),
    (180, "Ringing"),
    (181, "Call Is Being Forwarded"),
    (182, "Queued"),
    (183, "Session Progress"),
    (199, "Early Dialog Terminated"),
    (200, "OK"),
    (202, "Accepted"),
    (204, "No Notification"),
    (300, "Multiple Choices"),
    (301, "Moved Permanently"),
    (302, "Moved Temporarily"),
    (305, "Use Proxy"),
    (380, "Alternative Service"),
    (400, "Bad Request"),
    (401, "Unauthorized"),
    (402, "Payment Required"),
    (403, "Forbidden"),
    (404, "Not Found"),
    (405, "Method Not Allowed"),
    (406, "Not Acceptable"),
    (407, "Proxy Authentication Required"),
    (408, "Request Timeout"),
    (410, "Gone"),
    (412, "Conditional Request Failed"),
    (413, "Request Entity Too Large"),
    (414, "Request-URI Too Long"),
    (415, "Unsupported Media Type"),
    (416, "Unsupported URI Scheme"),
    (417, "Unknown Resource-Priority"),
    (420, "Bad Extension"),
    (421, "Extension Required"),
    (422, "Session Interval Too Small"),
    (423, "Interval Too Brief"),
    (424, "Bad Location Information"),
    (425, "Bad Alert Message"),
    (428, "Use Identity Header"),
    (429, "Provide Referrer Identity"),
    (430, "Flow Failed"),
    (433, "Anonymity Disallowed"),
    (436, "Bad Identity Info"),
    (437, "Unsupported Credential"),
    (438, "Invalid Identity Header"),
    (439, "First Hop Lacks Outbound Support"),
    (440, "Max-Breadth Exceeded"),
    (469, "Bad Info Package"),
    (470, "Consent Needed"),
    (480, "Temporarily Unavailable"),
    (481, "Call/Transaction Does Not Exist"),
    (482, "Loop Detected"),
    (483, "Too Many Hops"),
    (484, "Address Incomplete"),
    (485, "Ambiguous"),
    (486, "Busy Here"),
    (487, "Request Terminated"),
    (488, "Not Acceptable Here"),
    (489, "Bad Event"),
    (491, "Request Pending"),
    (493, "Undecipherable"),
    (494, "Security Agreement Required"),
    (500, "Server Internal Error"),
    (501, "Not Implemented"),
    (502, "Bad Gateway"),
    (503, "Service Unavailable"),
    (504, "Server Time-out"),
    (505, "Version Not Supported"),
    (513, "Message Too Large"),
    (555, "Push Notification Service Not Supported"),
    (580, "Precondition Failure"),
    (600, "Busy Everywhere"),
    (603, "Decline"),
    (604, "Does Not Exist Anywhere"),
    (606, "Not Acceptable"),
    (607, "Unwanted"),
    (608, "Rejected"),
];

/// rsip's reading of a URI, when printing it gives the same bytes back.
#[must_use]
pub fn view_uri(uri: &[u8]) -> Option<rsip::Uri> {
    // It takes URI headers for a part of the host and prints them back unharmed.
    let text = str::from_utf8(uri).ok().filter(|_| ours(uri).is_some())?;
    let view = rsip::Uri::try_from(text).ok()?;
    (view.to_string().as_bytes() == uri).then_some(view)
}

/// A URI that has nothing but what rsip knows.
fn ours(uri: &[u8]) -> Option<Uri<'_>> {
    Uri::parse(uri).filter(|parsed| parsed.headers.is_none())
}

/// rsip's reading of a whole message, when printing it gives the same bytes back.
#[must_use]
pub fn view(message: &Message) -> Option<rsip::SipMessage> {
    // Its refusals cost more than its successes, so the plain ones are refused here.
    let folded = |range| {
        message
            .slice(range)
            .iter()
            .any(|&byte| matches!(byte, b'\r' | b'\n'))
    };
    if str::from_utf8(message.bytes()).is_err()
        || message.fields().iter().any(|field| folded(&field.value))
        || message
            .uri_range()
            .is_some_and(|uri| ours(message.slice(&uri)).is_none())
    {
        return None;
    }
    let view = rsip::SipMessage::try_from(&message.bytes()[..]).ok()?;
    (view.to_string().as_bytes() == message.bytes()).then_some(view)
}

/// The header line rsip prints, without its line end, for a name and value it does not damage.
#[must_use]
pub fn view_header(name: &str, value: &[u8]) -> Option<String> {
    use rsip::headers::{self as typed, UntypedHeader as _};
    let value = str::from_utf8(value).ok()?;
    if value.bytes().any(|byte| is_lws(byte) && byte != b' ') {
        return None;
    }
    let header: rsip::Header = match name {
        "Via" => typed::Via::new(value).into(),
        "From" => typed::From::new(value).into(),
        "To" => typed::To::new(value).into(),
        "Call-ID" => typed::CallId::new(value).into(),
        "CSeq" => typed::CSeq::new(value).into(),
        "Max-Forwards" => typed::MaxForwards::new(value).into(),
        "Contact" => typed::Contact::new(value).into(),
        "Route" => typed::Route::new(value).into(),
        "Expires" => typed::Expires::new(value).into(),
        "Content-Type" => typed::ContentType::new(value).into(),
        "Content-Length" => typed::ContentLength::new(value).into(),
        "User-Agent" => typed::UserAgent::new(value).into(),
        _ => rsip::Header::Other(name.to_owned(), value.to_owned()),
    };
    let line = header.to_string();
    let same = line
        .strip_prefix(name)
        .and_then(|rest| rest.strip_prefix(": "))
        == Some(value);
    same.then_some(line)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn methods() {
        for (method, name) in METHODS {
            assert_eq!(Method::parse(name), method);
            assert_eq!(method.as_bytes(), name);
        }
        assert_eq!(Method::parse(b"invite"), Method::Other(b"invite"));
        assert_eq!(Method::parse(b"invite").as_bytes(), b"invite");
    }

    #[test]
    fn phrases() {
        fn check(code: u16, expected: &str) {
            assert_eq!(phrase(code), expected, "{code}");
        }
        check(480, "Temporarily Unavailable");
        check(481, "Call/Transaction Does Not Exist");
        check(504, "Server Time-out");
        check(299, "OK");
        check(499, "Bad Request");
        check(0, "Unknown");
        assert!(PHRASES.is_sorted_by_key(|(code, _)| *code));
    }

    fn sip(uri: &str, lines: &str, body: &[u8]) -> Bytes {
        let head = format!(
            "OPTIONS {uri} SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\n\
             From: <sip:a@a>;tag=1\r\nTo: <sip:b@b>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n{lines}\r\n"
        );
        Bytes::from([head.as_bytes(), body].concat())
    }

    /// Whether rsip alone takes the bytes, and whether the bridge shows its view of them.
    fn check(bytes: Bytes, parses: bool, shown: bool) {
        assert_eq!(
            rsip::SipMessage::try_from(&bytes[..]).is_ok(),
            parses,
            "{bytes:?}"
        );
        let message = Message::parse(bytes).unwrap();
        assert_eq!(view(&message).is_some(), shown, "{:?}", message.bytes());
    }

    #[test]
    fn plain_messages_are_shown() {
        check(sip("sip:b@b", "X: y\r\n", b"body"), true, true);
    }

    // What follows pins faults of rsip 0.4.0. A failure here is good news: widen the bridge.

    #[test]
    fn rsip_refuses_folds() {
        check(sip("sip:b@b", "X: y\r\n z\r\n", b""), false, false);
    }

    #[test]
    fn rsip_does_not_know_compact_names() {
        use rsip::message::HeadersExt as _;
        let bytes = Bytes::from_static(b"OPTIONS sip:b SIP/2.0\r\ni: c\r\n\r\n");
        assert!(
            rsip::Request::try_from(&bytes[..])
                .unwrap()
                .call_id_header()
                .is_err()
        );
    }

    #[test]
    fn rsip_inflates_binary_bodies() {
        let body = vec![0xff; 4];
        let bytes = sip("sip:b@b", "", &body);
        let printed = rsip::SipMessage::try_from(&bytes[..]).unwrap().to_string();
        assert_eq!(printed.len(), bytes.len() + 2 * body.len());
        check(bytes, true, false);
    }

    #[test]
    fn rsip_refuses_header_bytes_that_are_not_utf8() {
        let mut bytes = sip("sip:b@b", "X: y\r\n", b"").to_vec();
        let place = bytes.iter().rposition(|&byte| byte == b'y').unwrap();
        bytes[place] = 0xb0;
        check(bytes.into(), false, false);
    }

    #[test]
    fn rsip_refuses_extension_methods() {
        let bytes = sip("sip:b@b", "", b"");
        let text = str::from_utf8(&bytes).unwrap().replace("OPTIONS", "DANCE");
        check(Bytes::from(text), false, false);
    }

    #[test]
    fn rsip_loses_reason_phrases() {
        let wire = "SIP/2.0 486 Busy Here\r\n\r\n";
        let printed = rsip::SipMessage::try_from(wire.as_bytes())
            .unwrap()
            .to_string();
        assert!(printed.starts_with("SIP/2.0 486 BusyHere"), "{printed}");
    }

    #[test]
    fn rsip_does_not_read_ipv6() {
        check(sip("sip:[2001:db8::10]", "", b""), false, false);
        assert_eq!(view_uri(b"sip:[2001:db8::10]"), None);
        assert_eq!(view_uri(b"sip:a@b?Replaces=x%40y"), None);
        assert!(view_uri(b"sip:a@b:5060").is_some());
        let swallowed = rsip::Uri::try_from("sip:a@b?X=y").unwrap();
        assert_eq!(swallowed.host().to_string(), "b?X=y");
    }
}
