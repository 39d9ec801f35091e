//! What a request server refuses before it looks at the method (RFC 3261 §8.2, §16.3).

use super::index::{Message, Name, Start};
use super::uri::{Scheme, Uri};
use super::value::Contact;
use super::vocabulary::Method;

/// Why a well-formed request goes no further.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refused {
    /// The Request-URI is not one, or carries headers (RFC 4475 §3.1.2.11).
    RequestUri,
    /// RFC 3261 §8.2.2.1.
    Scheme,
    /// RFC 3261 §16.3, step 3; an OPTIONS is for us to answer instead.
    MaxForwards,
    /// RFC 3261 §8.2.2.3, §16.3, step 5: list the tags in `Unsupported`.
    Extension,
    /// A registration's `Contact` cannot be read (RFC 3261 §10.3).
    Contact,
}

impl Refused {
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::RequestUri | Self::Contact => 400,
            Self::Scheme => 416,
            Self::MaxForwards => 483,
            Self::Extension => 420,
        }
    }
}

/// Judges a request; responses are never refused. `supported` are the option tags we know as a
/// proxy; `Require` speaks to the far end and is not looked at.
#[must_use]
pub fn judge(message: &Message, supported: &[&[u8]]) -> Option<Refused> {
    let Start::Request { method, uri } = message.start() else {
        return None;
    };
    let method = Method::parse(method);
    match Uri::parse(uri) {
        None => return Some(Refused::RequestUri),
        Some(Uri {
            headers: Some(_), ..
        }) => return Some(Refused::RequestUri),
        Some(Uri {
            scheme: Scheme::Other(_),
            ..
        }) => return Some(Refused::Scheme),
        Some(_) => {}
    }
    let spent = message
        .get(Name::MaxForwards)
        .is_some_and(|left| left.iter().all(|&d| d == b'0'));
    if spent && method != Method::Options {
        return Some(Refused::MaxForwards);
    }
    if !unsupported(message, Name::ProxyRequire, supported).is_empty() {
        return Some(Refused::Extension);
    }
    let contacts = message.values(Name::Contact);
    if method == Method::Register && !contacts.iter().all(|value| readable(message.slice(value))) {
        return Some(Refused::Contact);
    }
    None
}

/// The option tags of `Require` or `Proxy-Require` that are not in `supported`.
#[must_use]
pub fn unsupported<'m>(message: &'m Message, name: Name, supported: &[&[u8]]) -> Vec<&'m [u8]> {
    let known = |tag: &[u8]| supported.iter().any(|have| have.eq_ignore_ascii_case(tag));
    let tags = message
        .values(name)
        .into_iter()
        .map(|range| message.slice(&range));
    tags.filter(|tag| !known(tag)).collect()
}

fn readable(contact: &[u8]) -> bool {
    match Contact::parse(contact) {
        Some(Contact::Addr(addr)) => Uri::parse(addr.uri).is_some(),
        Some(Contact::Star) => true,
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn verdicts() {
        fn check(method: &str, uri: &str, line: &str, expected: Option<Refused>) {
            let text = format!(
                "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP a\r\nFrom: <sip:a>\r\nTo: <sip:a>\r\n\
                 Call-ID: c\r\nCSeq: 1 {method}\r\n{line}\r\n\r\n"
            );
            let message = Message::parse(Bytes::from(text)).unwrap();
            assert_eq!(
                judge(&message, &[b"path"]),
                expected,
                "{method} {uri} {line}"
            );
        }
        check("INVITE", "sip:a", "Max-Forwards: 1", None);
        check("INVITE", "tel:+1", "Contact: ???", None);
        check("INVITE", "sip:", "X: y", Some(Refused::RequestUri));
        check("INVITE", "sip:a?Route=b", "X: y", Some(Refused::RequestUri));
        check("INVITE", "urn:x", "X: y", Some(Refused::Scheme));
        check(
            "INVITE",
            "sip:a",
            "Max-Forwards: 00",
            Some(Refused::MaxForwards),
        );
        check("OPTIONS", "sip:a", "Max-Forwards: 0", None);
        check("INVITE", "sip:a", "Require: x", None);
        check("INVITE", "sip:a", "Proxy-Require: Path", None);
        check(
            "INVITE",
            "sip:a",
            "Proxy-Require: path, x",
            Some(Refused::Extension),
        );
        check("REGISTER", "sip:a", "Contact: *", None);
        check("REGISTER", "sip:a", "m: <sip:b>, <sip:c>;q=1", None);
        check(
            "REGISTER",
            "sip:a",
            "m: <sip:b>, sip:c?x=y",
            Some(Refused::Contact),
        );
        check("REGISTER", "sip:a", "m: <sip:>", Some(Refused::Contact));
    }
}
