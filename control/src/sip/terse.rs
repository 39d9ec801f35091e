//! The same response in fewer bytes (RFC 3261 §7.3.3), for somebody who may never have asked.

use bytes::Bytes;

/// Names a header may be written with instead (RFC 3261 §20).
const COMPACT: [(&[u8], &[u8]); 4] = [
    (b"via", b"v"),
    (b"from", b"f"),
    (b"to", b"t"),
    (b"call-id", b"i"),
];

/// What a response needs, and what makes it worth sending; Content-Length is optional in a datagram
/// (RFC 3261 §18.3).
const NEEDED: [&[u8]; 12] = [
    b"v",
    b"f",
    b"t",
    b"i",
    b"via",
    b"from",
    b"to",
    b"call-id",
    b"cseq",
    b"www-authenticate",
    b"proxy-authenticate",
    b"retry-after",
];

/// Compact names, no headers that can be spared, no body.
#[must_use]
pub fn terse(response: &Bytes) -> Bytes {
    let mut out = Vec::with_capacity(response.len());
    let mut kept = true;
    for (number, line) in response.split_inclusive(|&byte| byte == b'\n').enumerate() {
        if line == b"\r\n" {
            break;
        }
        let folded = line.starts_with(b" ") || line.starts_with(b"\t");
        if number == 0 || folded {
            if kept {
                out.extend_from_slice(line);
            }
            continue;
        }
        let colon = line.iter().position(|&byte| byte == b':');
        let (name, value) = line.split_at(colon.unwrap_or(0));
        let name = name.trim_ascii().to_ascii_lowercase();
        kept = NEEDED.contains(&&name[..]);
        if !kept {
            continue;
        }
        let short = COMPACT.iter().find(|(long, _)| *long == name);
        out.extend_from_slice(short.map_or(&name[..], |(_, short)| short));
        out.push(b':');
        let value = value.strip_prefix(b":").unwrap_or(value);
        out.extend_from_slice(value.trim_ascii_start());
    }
    out.extend_from_slice(b"\r\n");
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(long: &'static str, expected: &str) {
        let short = terse(&Bytes::from_static(long.as_bytes()));
        assert_eq!(str::from_utf8(&short).unwrap(), expected);
        assert_eq!(terse(&short), short);
    }

    #[test]
    fn what_is_needed_stays() {
        check(
            "SIP/2.0 401 Unauthorized\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\n\
             v: SIP/2.0/UDP b\r\nFrom: <sip:a@a>\r\n ;tag=1\r\nTo : <sip:b@b>;tag=2\r\n\
             Call-ID: c\r\nCSeq: 1 REGISTER\r\n\
             WWW-Authenticate: Digest realm=\"a\"\r\nAllow: INVITE,\r\n ACK\r\n\
             Content-Length: 4\r\n\r\nbody",
            "SIP/2.0 401 Unauthorized\r\nv:SIP/2.0/UDP a;branch=z9hG4bK1\r\nv:SIP/2.0/UDP b\r\n\
             f:<sip:a@a>\r\n ;tag=1\r\nt:<sip:b@b>;tag=2\r\ni:c\r\ncseq:1 REGISTER\r\n\
             www-authenticate:Digest realm=\"a\"\r\n\r\n",
        );
    }
}
