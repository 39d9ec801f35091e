//! Identity in place of addresses, for clients that know a server by one. What they send names the
//! address they know us by: it becomes our id. What they are sent names the id: it becomes the
//! address that receiver knows us by.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::json;

/// Which members of messages hold an address, and which addresses are, or were, ours.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Book {
    sid: String,
    fields: Vec<Vec<String>>,
    /// None: it is ours now; else until when it is still taken for ours.
    own: BTreeMap<IpAddr, Option<Instant>>,
}

/// What a configuration says of it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Identity {
    /// Our id.
    pub sid: String,
    /// JSON pointers.
    pub fields: Vec<String>,
    /// All addresses of all networks, our own and advertised ones.
    pub addresses: Vec<IpAddr>,
    /// How long one that is not ours any more is taken for ours.
    pub grace: Duration,
}

/// A message names a server that is not this one, nor any that we know.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Foreign(pub IpAddr);

/// A message in which every address of ours is our id.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Placed {
    /// None: it named none.
    pub payload: Option<Bytes>,
    /// Where the id stands that each receiver gets an address for.
    pub spans: Vec<Range<usize>>,
}

impl Book {
    /// Addresses that were ours stay in it for a while.
    pub fn configure(&mut self, identity: Identity, now: Instant) {
        let Identity {
            sid,
            fields,
            addresses,
            grace,
        } = identity;
        self.sid = sid;
        self.fields = fields.iter().map(|field| levels(field)).collect();
        self.own
            .retain(|_, until| until.is_none_or(|until| until > now));
        for until in self.own.values_mut() {
            if until.is_none() {
                *until = now.checked_add(grace);
            }
        }
        self.own.extend(addresses.into_iter().map(|ip| (ip, None)));
    }

    /// Puts our id where a sender wrote an address of ours.
    ///
    /// # Errors
    /// It is the address of a server that we do not know.
    pub fn place(&self, payload: &[u8], now: Instant) -> Result<Placed, Foreign> {
        let mut named: Vec<(Range<usize>, bool)> = Vec::new();
        for field in &self.fields {
            let Some(range) = json::string(payload, field) else {
                continue;
            };
            let text = payload.get(range.clone()).unwrap_or_default();
            let Ok(text) = std::str::from_utf8(text) else {
                continue;
            };
            let host = host(text);
            let at = range.start..range.start + host.len();
            if host == self.sid {
                named.push((at, false));
            } else if let Some(ip) = address(host) {
                if !self.is_own(ip, now) {
                    return Err(Foreign(ip));
                }
                named.push((at, true));
            }
        }
        named.sort_by_key(|(range, _)| range.start);
        named.dedup();
        if named.is_empty() {
            return Ok(Placed::default());
        }
        let wanted: Vec<Range<usize>> = named.iter().map(|(range, _)| range.clone()).collect();
        let (bytes, spans) = splice(payload, &wanted, |_| self.sid.clone());
        let changed = named.iter().any(|(_, changed)| *changed);
        Ok(Placed {
            payload: changed.then_some(bytes),
            spans,
        })
    }

    fn is_own(&self, ip: IpAddr, now: Instant) -> bool {
        let known = self.own.get(&ip.to_canonical());
        known.is_some_and(|until| until.is_none_or(|until| until > now))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}

/// The payload as a receiver is to see it that knows us by this address.
#[must_use]
pub fn written_for(payload: &[u8], spans: &[Range<usize>], known_as: IpAddr) -> Bytes {
    let (bytes, _) = splice(payload, spans, |span| {
        let port = payload.get(span.end) == Some(&b':');
        match known_as {
            IpAddr::V6(ip) if port => format!("[{ip}]"),
            IpAddr::V4(_) | IpAddr::V6(_) => known_as.to_string(),
        }
    });
    bytes
}

/// Replaces parts of a text; returned is where their replacements stand.
fn splice(
    payload: &[u8],
    spans: &[Range<usize>],
    by: impl Fn(&Range<usize>) -> String,
) -> (Bytes, Vec<Range<usize>>) {
    let mut written = Vec::with_capacity(payload.len() + 64);
    let (mut from, mut placed) = (0, Vec::with_capacity(spans.len()));
    for span in spans {
        written.extend_from_slice(payload.get(from..span.start).unwrap_or_default());
        let start = written.len();
        written.extend_from_slice(by(span).as_bytes());
        placed.push(start..written.len());
        from = span.end;
    }
    written.extend_from_slice(payload.get(from..).unwrap_or_default());
    (written.into(), placed)
}

/// What stands before a port, if one is there.
fn host(text: &str) -> &str {
    let port = |rest: &str| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit());
    match text.rsplit_once(':') {
        Some((host, rest)) if port(rest) && (!host.contains(':') || host.ends_with(']')) => host,
        _ => text,
    }
}

/// `10.0.0.3`, `2001:db8::1` or `[2001:db8::1]`.
fn address(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    bare.unwrap_or(host).parse().ok()
}

/// RFC 6901 §3, §4.
#[must_use]
pub fn levels(pointer: &str) -> Vec<String> {
    let unescaped = |level: &str| level.replace("~1", "/").replace("~0", "~");
    pointer.split('/').skip(1).map(unescaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::disallowed_methods, reason = "any moment will do")]
    fn now() -> Instant {
        Instant::now()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn identity(addresses: &[&str]) -> Identity {
        Identity {
            sid: "edge-01".to_owned(),
            fields: vec!["/server/ip".to_owned(), "/serverIp".to_owned()],
            addresses: addresses.iter().map(|a| ip(a)).collect(),
            grace: Duration::from_secs(60),
        }
    }

    fn message(address: &str) -> String {
        format!(
            r#"{{"server":{{"ip":"{address}","x":1}},"serverIp": "{address}","m":"{address}"}}"#
        )
    }

    /// Three networks: a LAN, the same address behind a mapping, a second card; and one of IPv6.
    const NETWORKS: [&str; 4] = ["10.0.0.3", "203.0.113.9", "192.168.7.1", "2001:db8::3"];

    /// Whoever sends, each receiver reads the address that it knows us by; without that, only those
    /// of the sender's network would.
    #[test]
    fn every_receiver_reads_its_own_address() {
        let (mut book, now) = (Book::default(), now());
        book.configure(identity(&NETWORKS), now);
        for sender in NETWORKS {
            let sent = message(sender);
            let placed = book.place(sent.as_bytes(), now).unwrap();
            let inside = placed.payload.unwrap();
            let expected =
                message("edge-01").replace(r#""m":"edge-01""#, &format!(r#""m":"{sender}""#));
            assert_eq!(std::str::from_utf8(&inside).unwrap(), expected);
            for receiver in NETWORKS {
                let written = written_for(&inside, &placed.spans, ip(receiver));
                let expected = message(receiver).replace(
                    &format!(r#""m":"{receiver}""#),
                    &format!(r#""m":"{sender}""#),
                );
                assert_eq!(
                    std::str::from_utf8(&written).unwrap(),
                    expected,
                    "{sender} {receiver}"
                );
            }
        }
    }

    #[test]
    fn ports_stay_and_brackets_are_as_they_must_be() {
        let (mut book, now) = (Book::default(), now());
        book.configure(identity(&NETWORKS), now);
        for (sent, receiver, expected) in [
            ("10.0.0.3:5060", "203.0.113.9", "203.0.113.9:5060"),
            ("10.0.0.3:5060", "2001:db8::3", "[2001:db8::3]:5060"),
            ("[2001:db8::3]:5060", "10.0.0.3", "10.0.0.3:5060"),
            ("2001:db8::3", "10.0.0.3", "10.0.0.3"),
            ("edge-01", "10.0.0.3", "10.0.0.3"),
            ("edge-01:5060", "2001:db8::3", "[2001:db8::3]:5060"),
            ("edge-02", "10.0.0.3", "edge-02"),
            ("", "10.0.0.3", ""),
        ] {
            let sent = format!(r#"{{"serverIp":"{sent}"}}"#);
            let placed = book.place(sent.as_bytes(), now).unwrap();
            let inside = placed.payload.unwrap_or(Bytes::from(sent.clone()));
            let written = written_for(&inside, &placed.spans, ip(receiver));
            let expected = format!(r#"{{"serverIp":"{expected}"}}"#);
            assert_eq!(std::str::from_utf8(&written).unwrap(), expected, "{sent}");
        }
    }

    #[test]
    fn an_address_of_before_is_ours_for_a_while() {
        let (mut book, now) = (Book::default(), now());
        book.configure(identity(&["10.0.0.3", "203.0.113.9"]), now);
        book.configure(identity(&["10.0.0.3", "203.0.113.10"]), now);
        let old = message("203.0.113.9");
        assert!(book.place(old.as_bytes(), now).is_ok());
        let later = now + Duration::from_secs(60);
        assert_eq!(
            book.place(old.as_bytes(), later),
            Err(Foreign(ip("203.0.113.9")))
        );
        assert!(
            book.place(message("203.0.113.10").as_bytes(), later)
                .is_ok()
        );
    }

    #[test]
    fn what_names_nobody_is_left_alone() {
        let (mut book, now) = (Book::default(), now());
        book.configure(identity(&NETWORKS), now);
        for text in [
            "",
            "x",
            "{}",
            r#"{"server":"10.9.9.9"}"#,
            r#"{"serverIp":5}"#,
            "\u{0}\u{1}",
        ] {
            assert_eq!(
                book.place(text.as_bytes(), now),
                Ok(Placed::default()),
                "{text}"
            );
        }
        let foreign = message("10.9.9.9");
        assert_eq!(
            book.place(foreign.as_bytes(), now),
            Err(Foreign(ip("10.9.9.9")))
        );
    }
}
