//! SDP as a phone writes and reads it: audio, video, floor control. Shares no code with
//! `control::sdp`.

use std::net::{IpAddr, SocketAddr};

/// The direction attribute (RFC 3264 §5.1).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Direction {
    #[default]
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Direction {
    const ALL: [(Self, &'static str); 4] = [
        (Self::SendRecv, "sendrecv"),
        (Self::SendOnly, "sendonly"),
        (Self::RecvOnly, "recvonly"),
        (Self::Inactive, "inactive"),
    ];

    fn word(self) -> &'static str {
        let mut all = Self::ALL.iter();
        all.find(|(d, _)| *d == self).map_or("", |(_, word)| word)
    }

    fn read(word: &str) -> Option<Self> {
        let mut all = Self::ALL.iter();
        all.find(|(_, w)| *w == word).map(|(d, _)| *d)
    }

    /// What answers it (§6.1).
    #[must_use]
    pub fn mirrored(self) -> Self {
        match self {
            Self::SendOnly => Self::RecvOnly,
            Self::RecvOnly => Self::SendOnly,
            Self::SendRecv | Self::Inactive => self,
        }
    }

    #[must_use]
    pub fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    #[must_use]
    pub fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }
}

/// What an `m=` line is for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    Audio,
    Video,
    /// Floor control over datagrams (RFC 8856).
    Floor,
}

impl Kind {
    const ALL: [(Self, &'static str, &'static str); 3] = [
        (Self::Audio, "audio", "RTP/AVP 0 101"),
        (Self::Video, "video", "RTP/AVP 96"),
        (Self::Floor, "application", "UDP/BFCP *"),
    ];

    fn words(self) -> (&'static str, &'static str) {
        let mut all = Self::ALL.iter();
        let words = all.find(|(kind, ..)| *kind == self);
        words.map_or(("", ""), |(_, name, rest)| (name, rest))
    }

    fn attributes(self) -> &'static str {
        match self {
            Self::Audio => {
                "a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n"
            }
            Self::Video => "a=rtpmap:96 H264/90000\r\na=content:main\r\n",
            Self::Floor => "a=floorctrl:c-s\r\na=confid:1\r\na=setup:actpass\r\n",
        }
    }

    /// RFC 3550, and so with RTCP on the next port.
    #[must_use]
    pub fn is_rtp(self) -> bool {
        self != Self::Floor
    }
}

/// One `m=` line; port 0 rejects it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Line {
    pub kind: Kind,
    pub at: SocketAddr,
    pub direction: Direction,
    /// Named as the line's only source (RFC 5576).
    pub ssrc: Option<u32>,
}

/// A description.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Description {
    /// At least one.
    pub lines: Vec<Line>,
    pub version: u32,
    /// Each line with a `c=` of its own.
    pub apart: bool,
}

impl Description {
    /// One audio stream.
    #[must_use]
    pub fn audio(at: SocketAddr, direction: Direction, version: u32) -> Self {
        let line = Line {
            kind: Kind::Audio,
            at,
            direction,
            ssrc: None,
        };
        Self {
            lines: vec![line],
            version,
            apart: false,
        }
    }

    /// Where the first line's media goes.
    ///
    /// # Panics
    /// If there is no line.
    #[must_use]
    pub fn at(&self) -> SocketAddr {
        self.lines.first().expect("a line").at
    }

    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let (version, home) = (self.version, connection(self.at().ip()));
        let mut out = format!("v=0\r\no=- 77 {version} IN {home}\r\ns=-\r\n");
        if !self.apart {
            out.push_str(&format!("c=IN {home}\r\n"));
        }
        out.push_str("t=0 0\r\n");
        for line in &self.lines {
            let (name, rest) = line.kind.words();
            out.push_str(&format!("m={name} {} {rest}\r\n", line.at.port()));
            if self.apart {
                out.push_str(&format!("c=IN {}\r\n", connection(line.at.ip())));
            }
            out.push_str(line.kind.attributes());
            if let Some(ssrc) = line.ssrc {
                out.push_str(&format!("a=ssrc:{ssrc} cname:x\r\n"));
            }
            out.push_str("a=x-vendor:keep  me\r\n");
            out.push_str(&format!("a={}\r\n", line.direction.word()));
        }
        out.into_bytes()
    }

    /// Reads a body; none without a line that has an address.
    #[must_use]
    pub fn read(body: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).ok()?;
        let (mut lines, mut session, mut version) = (Vec::<Line>::new(), None, None);
        let mut apart = false;
        for line in text.lines() {
            let (key, value) = line.split_once('=')?;
            match (key, lines.last_mut()) {
                ("o", _) => version = value.split(' ').nth(2).and_then(|v| v.parse().ok()),
                ("c", None) => session = value.split(' ').nth(2).and_then(|ip| ip.parse().ok()),
                ("c", Some(line)) => {
                    apart = true;
                    line.at
                        .set_ip(value.split(' ').nth(2).and_then(|ip| ip.parse().ok())?);
                }
                ("m", _) => {
                    let mut words = value.split(' ');
                    let (name, port) = (words.next()?, words.next()?.parse().ok()?);
                    let (kind, ..) = Kind::ALL.iter().find(|(_, word, _)| *word == name)?;
                    let ip = session.unwrap_or(IpAddr::from([0, 0, 0, 0]));
                    lines.push(Line {
                        kind: *kind,
                        at: SocketAddr::new(ip, port),
                        direction: Direction::SendRecv,
                        ssrc: None,
                    });
                }
                ("a", Some(line)) => {
                    line.direction = Direction::read(value).unwrap_or(line.direction);
                }
                _ => {}
            }
        }
        lines.first()?;
        Some(Self {
            lines,
            version: version?,
            apart,
        })
    }
}

fn connection(ip: IpAddr) -> String {
    let kind = if ip.is_ipv4() { "IP4" } else { "IP6" };
    format!("{kind} {ip}")
}
