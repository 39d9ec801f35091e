//! Two copies of one message, line by line, by a reading of bytes that shares nothing with the
//! code under test.

use std::collections::BTreeSet;
use std::net::IpAddr;

/// The compact names (RFC 3261 §7.3.3 and the registry) of headers that are looked at here.
const COMPACT: [(&str, &str); 9] = [
    ("v", "via"),
    ("f", "from"),
    ("t", "to"),
    ("m", "contact"),
    ("i", "call-id"),
    ("e", "content-encoding"),
    ("l", "content-length"),
    ("c", "content-type"),
    ("s", "subject"),
];

/// What a hop writes anew or takes away.
const OURS: [&str; 4] = ["via", "max-forwards", "route", "record-route"];

/// The header lines, folds and line ends included, with their names in full and small letters.
pub(super) fn lines(message: &[u8]) -> Vec<(String, &[u8])> {
    let head = &message[..body_at(message)];
    let mut found: Vec<(String, &[u8])> = Vec::new();
    let mut at = 0;
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        let start = at;
        at += line.len();
        let bare = line.trim_ascii_end();
        if bare.is_empty() && line.len() <= 2 {
            continue;
        }
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            if let Some(last) = found.last_mut() {
                let from = start - last.1.len();
                last.1 = &head[from..at];
            }
            continue;
        }
        let name = line.split(|byte| *byte == b':').next().unwrap();
        let name = String::from_utf8_lossy(name).trim().to_ascii_lowercase();
        let long = COMPACT.iter().find(|(short, _)| *short == name);
        found.push((long.map_or(name, |(_, long)| (*long).to_owned()), line));
    }
    // The start line has no name.
    found.remove(0);
    found
}

/// The value of the first header of that name.
pub(super) fn value<'m>(message: &'m [u8], name: &str) -> Option<&'m [u8]> {
    let line = lines(message).into_iter().find(|(n, _)| n == name)?.1;
    let colon = line.iter().position(|byte| *byte == b':')?;
    Some(line[colon + 1..].trim_ascii())
}

/// The message with another first Via.
pub(super) fn with_via(message: &[u8], via: &[u8]) -> bytes::Bytes {
    let mut replaced = false;
    let mut out = start_line(message).to_vec();
    out.extend_from_slice(b"\r\nVia: ");
    out.extend_from_slice(via);
    out.extend_from_slice(b"\r\n");
    for (name, line) in lines(message) {
        if name != "via" || std::mem::replace(&mut replaced, true) {
            out.extend_from_slice(line);
        }
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&message[body_at(message)..]);
    out.into()
}

/// A request at the peer. In a dialog it is sent where the peer said; elsewhere the user stays.
pub(super) fn request(name: &str, sent: &[u8], got: &[u8], told: IpAddr, target: &[u8]) {
    let (method, uri, version) = request_line(start_line(sent));
    let (to_method, to_uri, to_version) = request_line(start_line(got));
    assert_eq!(to_method, method, "{name}");
    assert_eq!(to_version, version, "{name}");
    let is_register = method == b"REGISTER";
    if is_register {
        assert_eq!(to_uri, uri, "{name}");
    } else if to_uri != target {
        assert_eq!(user(to_uri), user(uri), "{name}: {}", text(to_uri));
    }
    let hops = value(sent, "max-forwards").map_or(71, |n| text(n).parse::<u32>().unwrap());
    let left = text(value(got, "max-forwards").unwrap());
    assert_eq!(left, (hops - 1).to_string(), "{name}");
    // RFC 3325 §5: a phone's word about itself goes no further.
    let claims = |(name, _): &(String, &[u8])| CLAIMS.contains(&name.as_str());
    assert!(!lines(got).iter().any(claims), "{name}");
    compare(name, sent, got, told, is_register);
}

pub(super) fn response(name: &str, sent: &[u8], got: &[u8], told: IpAddr) {
    assert_eq!(start_line(got), start_line(sent), "{name}");
    compare(name, sent, got, told, false);
}

const CLAIMS: [&str; 3] = [
    "p-asserted-identity",
    "p-preferred-identity",
    "remote-party-id",
];

/// Everything below the start line.
fn compare(name: &str, sent: &[u8], got: &[u8], told: IpAddr, is_register: bool) {
    let before = body_of(sent);
    let after = &got[body_at(got)..];
    let mut changing: BTreeSet<&str> = OURS.into();
    if is_register {
        // RFC 3327; how long is asked for is the edge's affair.
        changing.extend(["path", "expires", "supported"]);
    }
    if before != after {
        changing.insert("content-length");
        let length = value(got, "content-length").unwrap();
        assert_eq!(text(length), after.len().to_string(), "{name}");
        sdp(name, before, after, told);
    }
    let vias = lines(got).into_iter().filter(|(n, _)| n == "via").count();
    assert_eq!(vias, 1, "{name}: of ours alone");
    let kept = |message| {
        let lines = lines(message).into_iter();
        lines.filter(|(n, _)| !changing.contains(n.as_str()))
    };
    let from_phone = !sent.starts_with(b"SIP/2.0 ");
    let mut had = kept(sent).filter(|(n, _)| !(from_phone && CLAIMS.contains(&n.as_str())));
    let mut has = kept(got);
    loop {
        match (had.next(), has.next()) {
            (None, None) => return,
            (Some((n, old)), Some((m, new))) if n == "contact" && m == n => {
                assert!(
                    old == new || is_register || names(new, told),
                    "{name}: {}",
                    text(new)
                );
            }
            (old, new) => {
                let (old, new) = (old.map(|l| text(l.1)), new.map(|l| text(l.1)));
                assert_eq!(old, new, "{name}");
            }
        }
    }
}

/// Whether a Contact line of ours names the edge.
fn names(line: &[u8], told: IpAddr) -> bool {
    let host = match told {
        IpAddr::V4(ip) => format!("@{ip}:5060"),
        IpAddr::V6(ip) => format!("@[{ip}]:5060"),
    };
    text(line).contains(&host)
}

/// SDP with other addresses and ports, and nothing else.
fn sdp(name: &str, before: &[u8], after: &[u8], told: IpAddr) {
    let old: Vec<&[u8]> = before.split(|byte| *byte == b'\n').collect();
    let new: Vec<&[u8]> = after.split(|byte| *byte == b'\n').collect();
    assert_eq!(old.len(), new.len(), "{name}: {}", text(after));
    for (old, new) in old.into_iter().zip(new) {
        if old == new {
            continue;
        }
        let (old, new) = (text(old), text(new));
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (mut was, mut is) = (words(&old), words(&new));
        let family = if told.is_ipv4() { "IP4" } else { "IP6" };
        match old.get(..2) {
            Some("c=" | "o=") => {
                let end = if old.ends_with('\r') { "\r" } else { "" };
                assert_eq!(is.pop(), Some(format!("{told}{end}")), "{name}: {new}");
                let kind = is.pop().unwrap();
                assert!(
                    kind == family || kind == format!("c=IN {family}"),
                    "{name}: {new}"
                );
                was.truncate(is.len());
            }
            Some("m=") => {
                let port = is.remove(1).parse::<u16>();
                assert!(port.is_ok_and(|port| port >= 20_000), "{name}: {new}");
                was.remove(1);
            }
            _ => {}
        }
        assert_eq!(was, is, "{name}: {old} became {new}");
    }
}

fn request_line(line: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let mut words = line
        .split(|byte| *byte == b' ')
        .filter(|word| !word.is_empty());
    let mut next = || words.next().unwrap();
    (next(), next(), next())
}

/// What stands between the scheme and the host of a URI.
fn user(uri: &[u8]) -> &[u8] {
    let at = uri.iter().rposition(|byte| *byte == b'@');
    let colon = uri.iter().position(|byte| *byte == b':').unwrap();
    at.map_or(b"", |at| &uri[colon + 1..at])
}

/// Without line ends before it, and without its own.
fn start_line(message: &[u8]) -> &[u8] {
    let line = message
        .trim_ascii_start()
        .split(|byte| *byte == b'\n')
        .next();
    let line = line.unwrap();
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// What the message says is its body; the rest of the datagram where it says nothing.
fn body_of(message: &[u8]) -> &[u8] {
    let body = &message[body_at(message)..];
    let length = value(message, "content-length").map(|n| text(n).parse::<usize>().unwrap());
    &body[..length.unwrap_or(body.len())]
}

fn body_at(message: &[u8]) -> usize {
    let start = message.len() - message.trim_ascii_start().len();
    let mut at = start;
    for line in message[start..].split_inclusive(|byte| *byte == b'\n') {
        at += line.len();
        if line == b"\r\n" || line == b"\n" {
            break;
        }
    }
    at
}

fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}
