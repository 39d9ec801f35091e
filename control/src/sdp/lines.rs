//! Bytes → the session section and the media sections, as ranges into the body (RFC 8866 §5).
//! Only the lines we act on are looked into; the others, text or not, are only stepped over.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use super::understand::{self, Meaning};

/// Longest body that is looked at.
pub const SDP_BYTES_MAX: usize = 32 * 1024;
/// Most lines in a body.
pub const LINES_MAX: usize = 1000;
/// Most `m=` lines in a body.
pub const MEDIA_MAX: usize = 32;
/// Most synchronisation sources remembered per `m=` line; with more, none is checked.
pub const SSRCS_MAX: usize = 16;

/// Why a body is not usable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// More bytes, lines or `m=` lines than the limits above.
    TooLarge,
    /// What is wrong, for the reason phrase and the log.
    Malformed(&'static str),
}

/// A body, taken apart.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Sdp {
    /// `o=`: what names the session, the version's place and the address.
    pub session_at: Option<Range<usize>>,
    pub version_at: Option<Range<usize>>,
    pub origin: Option<Connection>,
    /// Session-level `c=`.
    pub connection: Option<Connection>,
    pub direction: Option<Direction>,
    pub setup: Option<Setup>,
    /// Session-level `b=`, in kbit/s: all media together.
    pub bandwidth: Option<u32>,
    pub media: Vec<Media>,
    /// Whole lines, line end included, that belong to ICE (RFC 8839), at any level.
    pub ice: Vec<Range<usize>>,
    /// The same of `a=rtcp` lines nobody can act on: they may name an address all the same.
    pub stray_rtcp: Vec<Range<usize>>,
}

/// The `IP4 192.0.2.1` of an `o=`, `c=` or `a=rtcp` line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Connection {
    /// The address type token.
    pub family_at: Range<usize>,
    /// The address token, without a multicast suffix.
    pub address_at: Range<usize>,
    /// None for a host name, which we do not resolve.
    pub ip: Option<IpAddr>,
}

/// One `m=` line and what belongs to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Media {
    /// `audio`, `video`, `application`…
    pub kind: Range<usize>,
    pub port: u16,
    /// The port number's place, and with it that of a `/count` of more than one pair.
    pub port_at: Range<usize>,
    pub protocol: Protocol,
    /// RTP payload types of the `m=` line, one bit each.
    pub payload_types: u128,
    /// Media-level `c=` lines; more than one only for layered multicast.
    pub connections: Vec<Connection>,
    pub rtcp: Option<Rtcp>,
    /// `a=rtcp-mux` or `a=rtcp-mux-only` (RFC 5761, RFC 8858): whole lines.
    pub mux: Vec<Range<usize>>,
    /// One of them was the latter.
    pub mux_only: bool,
    pub direction: Option<Direction>,
    pub setup: Option<Setup>,
    /// `b=`, in kbit/s.
    pub bandwidth: Option<u32>,
    /// From `a=ssrc` (RFC 5576); empty if there are none, or too many.
    pub ssrcs: Vec<u32>,
    /// Where a media-level `c=` would have to stand.
    pub connection_goes_at: usize,
    /// Where the section's lines end.
    pub ends_at: usize,
}

/// `a=rtcp:53020 IN IP4 192.0.2.1` (RFC 3605).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rtcp {
    pub port: u16,
    pub port_at: Range<usize>,
    pub connection: Option<Connection>,
}

/// What the relay has to know about a transport protocol (RFC 8866 §8.2.4).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// `RTP/AVP`, `RTP/SAVPF`…
    Rtp,
    /// `UDP/TLS/RTP/…`: a DTLS handshake comes first (RFC 5764).
    DtlsRtp,
    /// `UDP/BFCP` (RFC 8856), `UDP/TLS/BFCP`.
    Bfcp,
    /// Other datagrams: `udptl` (RFC 3362), `UDP/DTLS/SCTP`, `udp`.
    Datagram,
    /// Connection-oriented (RFC 4145, RFC 4571): relayed byte by byte.
    Stream,
}

/// Which party opens a connection (RFC 4145 §4).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Setup {
    /// This one does.
    Active,
    /// The other does.
    Passive,
    /// Either may.
    Either,
    /// Nobody for now.
    None,
}

/// Media direction (RFC 8866 §6.7).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Sdp {
    /// Takes a body apart. Bare LF is accepted as a line end, bytes beyond ASCII anywhere.
    pub fn parse(body: &[u8]) -> Result<Self, Fault> {
        if body.len() > SDP_BYTES_MAX {
            return Err(Fault::TooLarge);
        }
        let mut sdp = Self::default();
        let mut begun = false;
        for (count, line) in lines(body).enumerate() {
            if count >= LINES_MAX {
                return Err(Fault::TooLarge);
            }
            if !begun {
                // RFC 8866 §5.1: the version comes first; blank lines before it do no harm.
                match line.kind {
                    Some(b'v') => begun = true,
                    None if line.value.is_empty() => {}
                    Some(_) | None => return Err(Fault::Malformed("SDP does not begin with v=")),
                }
            }
            sdp.take(body, &line)?;
            if let Some(media) = sdp.media.last_mut() {
                media.ends_at = line.whole.end;
            }
        }
        if begun {
            Ok(sdp)
        } else {
            Err(Fault::Malformed("SDP is empty"))
        }
    }

    /// The connection that holds for a media section (RFC 8866 §5.7).
    #[must_use]
    pub fn connection_of<'a>(&'a self, media: &'a Media) -> Option<&'a Connection> {
        media.connections.first().or(self.connection.as_ref())
    }

    /// The version in `o=`; none if it is not a number that can be counted on.
    #[must_use]
    pub fn version(&self, body: &[u8]) -> Option<u64> {
        let text = slice(body, self.version_at.as_ref()?);
        let digits = text.iter().all(u8::is_ascii_digit);
        std::str::from_utf8(text)
            .ok()?
            .parse()
            .ok()
            .filter(|_| digits)
    }

    /// The direction that holds for a media section; `sendrecv` unless told.
    #[must_use]
    pub fn direction_of(&self, media: &Media) -> Direction {
        media
            .direction
            .or(self.direction)
            .unwrap_or(Direction::SendRecv)
    }

    /// Who connects, as a media section has it.
    #[must_use]
    pub fn setup_of(&self, media: &Media) -> Option<Setup> {
        media.setup.or(self.setup)
    }

    fn take(&mut self, body: &[u8], line: &Line) -> Result<(), Fault> {
        match line.kind {
            Some(b'm') => {
                if self.media.len() >= MEDIA_MAX {
                    return Err(Fault::TooLarge);
                }
                self.media.push(Media::parse(body, line)?);
            }
            Some(b'o') if self.media.is_empty() => self.take_origin(body, line),
            Some(b'i') => {
                if let Some(media) = self.media.last_mut() {
                    media.connection_goes_at = line.whole.end;
                }
            }
            Some(b'c') => {
                let mut words = words(body, &line.value).skip(1);
                let (Some(family_at), Some(address)) = (words.next(), words.next()) else {
                    return Err(Fault::Malformed("c= line without an address"));
                };
                let connection = Connection::parse(body, family_at, address);
                match self.media.last_mut() {
                    Some(media) => media.connections.push(connection),
                    None => self.connection = Some(connection),
                }
            }
            Some(b'b') => {
                let bandwidth = match self.media.last_mut() {
                    Some(media) => &mut media.bandwidth,
                    None => &mut self.bandwidth,
                };
                // Several say the same in different ways: the largest holds.
                *bandwidth = (*bandwidth).max(kbits(slice(body, &line.value)));
            }
            Some(b'a') => self.take_attribute(body, line),
            Some(_) | None => {}
        }
        Ok(())
    }

    /// `o=<username> <sess-id> <sess-version> IN IP4 <address>`, read from the right: real
    /// devices put blanks into the user name.
    fn take_origin(&mut self, body: &[u8], line: &Line) {
        let words: Vec<_> = words(body, &line.value).collect();
        if let [.., version, _net, family, address] = words.as_slice() {
            self.session_at = Some(line.value.start..version.start);
            self.version_at = Some(version.clone());
            self.origin = Some(Connection::parse(body, family.clone(), address.clone()));
        }
    }

    fn take_attribute(&mut self, body: &[u8], line: &Line) {
        let value = slice(body, &line.value);
        if understand::is_ice(value) {
            self.ice.push(line.whole.clone());
            return;
        }
        let Some(meaning) = understand::attribute(value) else {
            return;
        };
        match (meaning, self.media.last_mut()) {
            (Meaning::Direction(direction), Some(media)) => media.direction = Some(direction),
            (Meaning::Direction(direction), None) => self.direction = Some(direction),
            (Meaning::Setup(setup), Some(media)) => media.setup = Some(setup),
            (Meaning::Setup(setup), None) => self.setup = Some(setup),
            (Meaning::Mux | Meaning::MuxOnly, Some(media)) => {
                media.mux.push(line.whole.clone());
                media.mux_only |= meaning == Meaning::MuxOnly;
            }
            (Meaning::Ssrc(ssrc), Some(media)) => media.take_ssrc(ssrc),
            (Meaning::Rtcp, Some(media)) if media.rtcp.is_none() => {
                media.rtcp = Rtcp::parse(body, &line.value);
                if media.rtcp.is_none() {
                    self.stray_rtcp.push(line.whole.clone());
                }
            }
            (Meaning::Rtcp, _) => self.stray_rtcp.push(line.whole.clone()),
            (Meaning::Mux | Meaning::MuxOnly | Meaning::Ssrc(_), None) => {}
        }
    }
}

impl Media {
    /// `m=<media> <port>[/<count>] <proto> <fmt> …` (RFC 8866 §5.14).
    fn parse(body: &[u8], line: &Line) -> Result<Self, Fault> {
        let mut words = words(body, &line.value);
        let (Some(kind), Some(port), Some(protocol)) = (words.next(), words.next(), words.next())
        else {
            return Err(Fault::Malformed("m= line without port or protocol"));
        };
        let (word, number_at) = (port.clone(), until(body, &port, b'/'));
        let port = number(slice(body, &number_at))
            .and_then(|n| u16::try_from(n).ok())
            .ok_or(Fault::Malformed("m= line whose port is not a port"))?;
        // Layers on further ports (RFC 8866 §5.14) are not relayed, so that none may be announced.
        let one = matches!(slice(body, &(number_at.end..word.end)), b"" | b"/1");
        let port_at = if one { number_at } else { word };
        let payload_types = words
            .filter_map(|w| number(slice(body, &w)))
            .filter(|n| *n < 128)
            .fold(0, |bits, n| bits | 1u128 << n);
        Ok(Self {
            kind,
            port,
            port_at,
            protocol: Protocol::read(slice(body, &protocol)),
            payload_types,
            connections: Vec::new(),
            rtcp: None,
            mux: Vec::new(),
            mux_only: false,
            direction: None,
            setup: None,
            bandwidth: None,
            ssrcs: Vec::new(),
            connection_goes_at: line.whole.end,
            ends_at: line.whole.end,
        })
    }

    /// Remembers a source once. Past the limit none is checked: better no filter than a wrong one.
    fn take_ssrc(&mut self, ssrc: u32) {
        if self.ssrcs.len() <= SSRCS_MAX && !self.ssrcs.contains(&ssrc) {
            self.ssrcs.push(ssrc);
        }
    }

    /// The sources this party said it sends with; none if it did not say.
    #[must_use]
    pub fn known_ssrcs(&self) -> &[u32] {
        if self.ssrcs.len() > SSRCS_MAX {
            &[]
        } else {
            &self.ssrcs
        }
    }
}

impl Rtcp {
    fn parse(body: &[u8], value: &Range<usize>) -> Option<Self> {
        let port_from = value.start + "rtcp:".len();
        let mut words = words(body, &(port_from..value.end));
        let port_at = words.next()?;
        let port = u16::try_from(number(slice(body, &port_at))?).ok()?;
        let connection = match (words.next(), words.next(), words.next()) {
            (Some(_net), Some(family), Some(address)) => {
                Some(Connection::parse(body, family, address))
            }
            _ => None,
        };
        Some(Self {
            port,
            port_at,
            connection,
        })
    }
}

/// `b=AS:…` and `b=CT:…` in kbit/s, `b=TIAS:…` in bit/s (RFC 8866 §5.8, RFC 3890); what others
/// there are, such as `RS` and `RR`, is not media. More than can be counted is as much as can be.
fn kbits(value: &[u8]) -> Option<u32> {
    let colon = value.iter().position(|b| *b == b':')?;
    let (kind, amount) = (value.get(..colon)?, value.get(colon + 1..)?.trim_ascii());
    let digits = !amount.is_empty() && amount.iter().all(u8::is_ascii_digit);
    let amount = std::str::from_utf8(amount).ok().filter(|_| digits)?;
    let amount: u64 = amount.parse().unwrap_or(u64::MAX);
    let amount = match kind {
        b"AS" | b"CT" => amount,
        b"TIAS" => amount.div_ceil(1000),
        _ => return None,
    };
    Some(u32::try_from(amount).unwrap_or(u32::MAX))
}

impl Connection {
    fn parse(body: &[u8], family_at: Range<usize>, address: Range<usize>) -> Self {
        let address_at = until(body, &address, b'/');
        let ip = std::str::from_utf8(slice(body, &address_at))
            .ok()
            .and_then(|text| text.parse().ok());
        Self {
            family_at,
            address_at,
            ip,
        }
    }

    /// `0.0.0.0` or `::`: "send me nothing" of RFC 2543 and RFC 3725, to be passed on as it is.
    #[must_use]
    pub fn is_nowhere(&self) -> bool {
        self.ip.is_some_and(|ip| ip.is_unspecified())
    }

    /// Multicast is never relayed.
    #[must_use]
    pub fn is_multicast(&self) -> bool {
        self.ip.is_some_and(|ip| ip.is_multicast())
    }

    /// Where this connection says a port is; none for names, "nowhere" and multicast.
    #[must_use]
    pub fn at(&self, port: u16) -> Option<SocketAddr> {
        let ip = self
            .ip
            .filter(|ip| !ip.is_unspecified() && !ip.is_multicast())?;
        (port != 0).then(|| SocketAddr::new(ip.to_canonical(), port))
    }
}

impl Protocol {
    fn read(token: &[u8]) -> Self {
        let token = token.to_ascii_uppercase();
        let has = |part: &[u8]| token.split(|b| *b == b'/').any(|word| word == part);
        if has(b"TCP") || has(b"TLS") && !has(b"UDP") {
            Self::Stream
        } else if has(b"RTP") {
            if has(b"TLS") {
                Self::DtlsRtp
            } else {
                Self::Rtp
            }
        } else if has(b"BFCP") {
            Self::Bfcp
        } else {
            Self::Datagram
        }
    }

    #[must_use]
    pub fn is_rtp(self) -> bool {
        match self {
            Self::Rtp | Self::DtlsRtp => true,
            Self::Bfcp | Self::Datagram | Self::Stream => false,
        }
    }
}

impl Direction {
    #[must_use]
    pub fn receives(self) -> bool {
        match self {
            Self::SendRecv | Self::RecvOnly => true,
            Self::SendOnly | Self::Inactive => false,
        }
    }

    #[must_use]
    pub fn sends(self) -> bool {
        match self {
            Self::SendRecv | Self::SendOnly => true,
            Self::RecvOnly | Self::Inactive => false,
        }
    }
}

/// The bytes of a range; empty if it is not inside.
#[must_use]
pub fn slice<'a>(body: &'a [u8], at: &Range<usize>) -> &'a [u8] {
    body.get(at.clone()).unwrap_or_default()
}

struct Line {
    /// The letter before `=`; none if the line has no such form.
    kind: Option<u8>,
    /// With the line end.
    whole: Range<usize>,
    /// After the `=`, without the line end; the whole text if there is no `=`.
    value: Range<usize>,
}

fn lines(body: &[u8]) -> impl Iterator<Item = Line> {
    let mut start = 0;
    body.split_inclusive(|b| *b == b'\n').map(move |text| {
        let whole = start..start + text.len();
        start = whole.end;
        let bare = text.strip_suffix(b"\n").unwrap_or(text);
        let bare = bare.strip_suffix(b"\r").unwrap_or(bare);
        let (kind, skip) = match bare {
            [kind, b'=', ..] => (Some(*kind), 2),
            _ => (None, 0),
        };
        let value = whole.start + skip..whole.start + bare.len();
        Line { kind, whole, value }
    })
}

/// The blank-separated words of a range.
fn words<'a>(body: &'a [u8], at: &Range<usize>) -> impl Iterator<Item = Range<usize>> + 'a {
    let mut start = at.start;
    slice(body, at)
        .split(|b| matches!(b, b' ' | b'\t'))
        .filter_map(move |word| {
            let range = start..start + word.len();
            start = range.end + 1;
            (!word.is_empty()).then_some(range)
        })
}

/// The part of a word before a mark.
fn until(body: &[u8], at: &Range<usize>, mark: u8) -> Range<usize> {
    let length = slice(body, at).iter().take_while(|b| **b != mark).count();
    at.start..at.start + length
}

/// Decimal digits only, no sign.
fn number(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_media_lines() {
        check("audio 5000 RTP/AVP 0 8", Ok((5000, Protocol::Rtp, 0x101)));
        check("audio 5000/2 RTP/AVP 0", Ok((5000, Protocol::Rtp, 1)));
        check("audio  0  RTP/SAVPF 127", Ok((0, Protocol::Rtp, 1 << 127)));
        check(
            "video 9 UDP/TLS/RTP/SAVPF 96",
            Ok((9, Protocol::DtlsRtp, 1 << 96)),
        );
        check("application 5070 UDP/BFCP *", Ok((5070, Protocol::Bfcp, 0)));
        check("application 9 TCP/BFCP *", Ok((9, Protocol::Stream, 0)));
        check("application 9 TCP/TLS/BFCP *", Ok((9, Protocol::Stream, 0)));
        check("application 9 UDP/TLS/BFCP *", Ok((9, Protocol::Bfcp, 0)));
        check("image 4000 udptl t38", Ok((4000, Protocol::Datagram, 0)));
        check("audio 5000 TCP/RTP/AVP 0", Ok((5000, Protocol::Stream, 1)));
        check(
            "audio 65536 RTP/AVP 0",
            Err("m= line whose port is not a port"),
        );
        check(
            "audio +5 RTP/AVP 0",
            Err("m= line whose port is not a port"),
        );
        check("audio", Err("m= line without port or protocol"));

        fn check(line: &str, expected: Result<(u16, Protocol, u128), &'static str>) {
            let body = format!("v=0\nm={line}\n");
            let got = Sdp::parse(body.as_bytes()).map(|sdp| {
                let m = &sdp.media[0];
                (m.port, m.protocol, m.payload_types)
            });
            assert_eq!(got, expected.map_err(Fault::Malformed), "{line}");
        }
    }

    #[test]
    fn refuses_what_is_no_sdp() {
        check(b"", Fault::Malformed("SDP is empty"));
        check(b"\r\n\r\n", Fault::Malformed("SDP is empty"));
        check(b"<xml/>", Fault::Malformed("SDP does not begin with v="));
        check(
            b"v=0\nc=IN\n",
            Fault::Malformed("c= line without an address"),
        );
        check(&[b'v'; SDP_BYTES_MAX + 1], Fault::TooLarge);
        check("v=0\n".repeat(LINES_MAX + 1).as_bytes(), Fault::TooLarge);
        let many = format!("v=0\n{}", "m=audio 1 RTP/AVP 0\n".repeat(MEDIA_MAX + 1));
        check(many.as_bytes(), Fault::TooLarge);

        fn check(body: &[u8], expected: Fault) {
            assert_eq!(Sdp::parse(body), Err(expected));
        }
    }

    #[test]
    fn media_lines_override_the_session() {
        let body = b"v=0\no=Polycom HDX 9006 1 2 IN IP4 10.0.0.9\nc=IN IP4 10.0.0.1\na=sendonly\n\
            m=audio 4000 RTP/AVP 0\nm=video 4002 RTP/AVP 96\nc=IN IP6 2001:db8::1\na=recvonly\n\
            a=rtcp:4010 IN IP4 10.0.0.3\na=ssrc:77 cname:x\na=rtcp-mux\nx\xff\xfe\n";
        let sdp = Sdp::parse(body).unwrap();
        let at = |i: usize| {
            sdp.connection_of(&sdp.media[i])
                .unwrap()
                .at(4000)
                .unwrap()
                .to_string()
        };
        assert_eq!(
            (at(0), at(1)),
            ("10.0.0.1:4000".into(), "[2001:db8::1]:4000".into())
        );
        assert_eq!(sdp.direction_of(&sdp.media[0]), Direction::SendOnly);
        assert_eq!(sdp.direction_of(&sdp.media[1]), Direction::RecvOnly);
        assert_eq!(slice(body, sdp.version_at.as_ref().unwrap()), b"2");
        assert_eq!(sdp.origin.unwrap().ip, Some("10.0.0.9".parse().unwrap()));
        let video = &sdp.media[1];
        assert_eq!(
            (!video.mux.is_empty(), video.known_ssrcs()),
            (true, [77].as_slice())
        );
        let rtcp = video.rtcp.as_ref().unwrap();
        assert_eq!(
            (rtcp.port, rtcp.connection.as_ref().unwrap().ip.is_some()),
            (4010, true)
        );
    }
}
