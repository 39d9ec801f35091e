//! Changes addresses and ports in a body and keeps every other byte.

use std::net::IpAddr;
use std::ops::Range;

use super::lines::{Connection, Media, Sdp, slice};

/// What to write.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rewrite {
    /// Goes into `o=`, `c=` and `a=rtcp`.
    pub address: IpAddr,
    /// Goes into `o=`; none keeps the sender's (RFC 3264 §8).
    pub version: Option<u64>,
    /// One per `m=` line, in order; lines without one pass untouched.
    pub media: Vec<Anchor>,
    /// Whether candidates and the rest of ICE are taken out.
    pub strip_ice: bool,
}

/// What becomes of an `m=` line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Anchor {
    /// Its media goes through these ports of ours.
    Here { rtp: u16, rtcp: u16 },
    /// Port 0 stays port 0 (RFC 3264 §6).
    Rejected,
    /// Port 0 instead of the one it has.
    Refused,
    /// Not relayed: it keeps its own address, also if that stood at session level.
    Untouched,
}

/// The body with the changes made. `0.0.0.0`, `::` and multicast addresses stay as they are.
#[must_use]
pub fn rewrite(body: &[u8], sdp: &Sdp, to: &Rewrite) -> Vec<u8> {
    let mut edits = Edits::default();
    if let (Some(at), Some(version)) = (&sdp.version_at, to.version) {
        edits.replace(at, version.to_string());
    }
    if let Some(origin) = &sdp.origin {
        edits.address(origin, to.address);
    }
    if let Some(connection) = &sdp.connection {
        edits.address(connection, to.address);
    }
    for (index, media) in sdp.media.iter().enumerate() {
        match to.media.get(index).copied().unwrap_or(Anchor::Untouched) {
            Anchor::Here { rtp, rtcp } => edits.anchor(media, to.address, rtp, rtcp),
            refused @ (Anchor::Rejected | Anchor::Refused) => {
                if refused == Anchor::Refused {
                    edits.replace(&media.port_at, "0".to_owned());
                }
                for connection in &media.connections {
                    edits.address(connection, to.address);
                }
            }
            Anchor::Untouched => edits.keep_address(body, sdp, media),
        }
    }
    if to.strip_ice {
        for line in &sdp.ice {
            edits.replace(line, String::new());
        }
    }
    edits.apply(body)
}

#[derive(Default)]
struct Edits(Vec<(Range<usize>, Vec<u8>)>);

impl Edits {
    fn replace(&mut self, at: &Range<usize>, text: String) {
        self.0.push((at.clone(), text.into_bytes()));
    }

    fn address(&mut self, connection: &Connection, ip: IpAddr) {
        if connection.is_nowhere() || connection.is_multicast() {
            return;
        }
        self.replace(&connection.family_at, family(ip).to_owned());
        self.replace(&connection.address_at, ip.to_string());
    }

    fn anchor(&mut self, media: &Media, ip: IpAddr, rtp: u16, rtcp: u16) {
        self.replace(&media.port_at, rtp.to_string());
        for connection in &media.connections {
            self.address(connection, ip);
        }
        if let Some(line) = &media.rtcp {
            // RFC 5761 §5.1.1: an equal port says that RTCP is multiplexed.
            let port = if line.port == media.port { rtp } else { rtcp };
            if line.port != 0 {
                self.replace(&line.port_at, port.to_string());
            }
            if let Some(connection) = &line.connection {
                self.address(connection, ip);
            }
        }
    }

    /// A section that lived off the session's `c=` gets that line for itself before the session's
    /// is changed.
    fn keep_address(&mut self, body: &[u8], sdp: &Sdp, media: &Media) {
        let (true, Some(session)) = (media.connections.is_empty(), &sdp.connection) else {
            return;
        };
        let mut line = b"c=IN ".to_vec();
        line.extend_from_slice(slice(body, &session.family_at));
        line.push(b' ');
        line.extend_from_slice(slice(body, &session.address_at));
        line.extend_from_slice(b"\r\n");
        let at = media.connection_goes_at;
        // Behind a last line that lacks its end there is no place for another.
        if slice(body, &(at.saturating_sub(1)..at)) == b"\n" {
            self.0.push((at..at, line));
        }
    }

    fn apply(mut self, body: &[u8]) -> Vec<u8> {
        self.0.sort_by_key(|(at, _)| (at.start, at.end));
        let mut out = Vec::with_capacity(body.len() + 64);
        let mut done = 0;
        for (at, text) in self.0 {
            debug_assert!(at.start >= done, "edits overlap");
            out.extend_from_slice(slice(body, &(done..at.start)));
            out.extend_from_slice(&text);
            done = at.end;
        }
        out.extend_from_slice(slice(body, &(done..body.len())));
        out
    }
}

fn family(ip: IpAddr) -> &'static str {
    match ip {
        IpAddr::V4(_) => "IP4",
        IpAddr::V6(_) => "IP6",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn writes_addresses_and_ports_only() {
        check("o=- 1 2 IN IP4 10.0.0.1", "o=- 1 2 IN IP4 192.0.2.7");
        check("c=IN IP6 2001:db8::5", "c=IN IP4 192.0.2.7");
        check("c=IN IP4 media.example.com", "c=IN IP4 192.0.2.7");
        check("c=IN IP4 0.0.0.0", "c=IN IP4 0.0.0.0");
        check("c=IN IP6 ::", "c=IN IP6 ::");
        check("c=IN IP4 224.2.1.1/127", "c=IN IP4 224.2.1.1/127");
        check("m=audio 5000/2 RTP/AVP 0", "m=audio 30000/2 RTP/AVP 0");
        check("m=audio  5000\tRTP/AVP  0 ", "m=audio  30000\tRTP/AVP  0 ");
        check(
            "m=audio 5000 RTP/AVP 0\na=rtcp:5007",
            "m=audio 30000 RTP/AVP 0\na=rtcp:30001",
        );
        check(
            "m=audio 5000 RTP/AVP 0\na=rtcp:5000",
            "m=audio 30000 RTP/AVP 0\na=rtcp:30000",
        );
        check(
            "m=audio 5000 RTP/AVP 0\na=rtcp:5001 IN IP6 2001:db8::1",
            "m=audio 30000 RTP/AVP 0\na=rtcp:30001 IN IP4 192.0.2.7",
        );
        check(
            "m=audio 5000 RTP/AVP 0\na=candidate:1 1 UDP 1 10.0.0.1 5 typ host\na=x",
            "m=audio 30000 RTP/AVP 0\na=x",
        );
        check("y=0100000001\nf=v/1/2", "y=0100000001\nf=v/1/2");
        check(
            "a=content:slides\n\nnonsense",
            "a=content:slides\n\nnonsense",
        );

        fn check(lines: &str, expected: &str) {
            for end in ["\n", "\r\n"] {
                let body = format!("v=0\n{lines}\n").replace('\n', end);
                let expected = format!("v=0\n{expected}\n").replace('\n', end);
                let out = write(body.as_bytes(), &[HERE], None);
                assert_eq!(String::from_utf8(out).unwrap(), expected);
            }
        }
    }

    #[test]
    fn a_section_that_is_not_relayed_keeps_its_address() {
        let body = b"v=0\r\nc=IN IP4 10.0.0.1\r\nm=application 9 TCP/BFCP *\r\ni=floor\r\n\
            a=setup:active\r\n";
        let out = write(body, &[Anchor::Untouched], None);
        let expected = "v=0\r\nc=IN IP4 192.0.2.7\r\nm=application 9 TCP/BFCP *\r\ni=floor\r\n\
            c=IN IP4 10.0.0.1\r\na=setup:active\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn writes_the_version_when_told() {
        let out = write(b"v=0\no=a b 1 9 IN IP4 10.0.0.1\n", &[], Some(44));
        assert_eq!(out, b"v=0\no=a b 1 44 IN IP4 192.0.2.7\n");
    }

    proptest! {
        /// Whatever arrives: no panic, and lines of other kinds come through bytewise.
        #[test]
        fn other_lines_survive(lines in proptest::collection::vec(line(), 0..40)) {
            let mut body = b"v=0\r\n".to_vec();
            for line in &lines {
                body.extend_from_slice(line);
                body.extend_from_slice(b"\r\n");
            }
            if let Ok(sdp) = Sdp::parse(&body) {
                let to = rewriting(&[HERE; 40], None);
                let out = rewrite(&body, &sdp, &to);
                prop_assert_eq!(others(&out), others(&body));
                // Writing the same twice changes nothing more.
                let again = Sdp::parse(&out).unwrap();
                prop_assert_eq!(rewrite(&out, &again, &to), out);
            }
        }
    }

    const HERE: Anchor = Anchor::Here {
        rtp: 30000,
        rtcp: 30001,
    };

    fn rewriting(media: &[Anchor], version: Option<u64>) -> Rewrite {
        Rewrite {
            address: "192.0.2.7".parse().unwrap(),
            version,
            media: media.to_vec(),
            strip_ice: true,
        }
    }

    fn write(body: &[u8], media: &[Anchor], version: Option<u64>) -> Vec<u8> {
        rewrite(body, &Sdp::parse(body).unwrap(), &rewriting(media, version))
    }

    fn line() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            Just(b"m=audio 5000 RTP/AVP 0".to_vec()),
            Just(b"m=application 9 TCP/BFCP *".to_vec()),
            Just(b"c=IN IP4 10.0.0.1".to_vec()),
            Just(b"o=x y z 1 2 IN IP6 2001:db8::1".to_vec()),
            Just(b"a=rtcp:5001 IN IP4 10.0.0.1".to_vec()),
            Just(b"a=rtcp:bad".to_vec()),
            Just(b"a=ice-lite".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..30),
        ]
    }

    fn others(body: &[u8]) -> Vec<Vec<u8>> {
        body.split(|b| *b == b'\n')
            .filter(|l| !matches!(l, [b'm' | b'c' | b'o', b'=', ..]))
            .filter(|l| !l.starts_with(b"a=rtcp:") && !l.starts_with(b"a=ice-"))
            .map(<[u8]>::to_vec)
            .collect()
    }
}
