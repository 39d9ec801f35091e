//! SDP as a phone writes and reads it: one audio stream. Shares no code with `control::sdp`.

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

/// A description of one audio stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Description {
    pub at: SocketAddr,
    pub direction: Direction,
    pub version: u32,
}

impl Description {
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let Self {
            at,
            direction,
            version,
        } = self;
        let (ip, port, word) = (at.ip(), at.port(), direction.word());
        let kind = if at.is_ipv4() { "IP4" } else { "IP6" };
        format!(
            "v=0\r\no=- 77 {version} IN {kind} {ip}\r\ns=-\r\nc=IN {kind} {ip}\r\nt=0 0\r\n\
             m=audio {port} RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\n\
             a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n\
             a=x-vendor:keep  me\r\na={word}\r\n"
        )
        .into_bytes()
    }

    /// Reads a body; none without a usable address and port.
    #[must_use]
    pub fn read(body: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).ok()?;
        let line = |prefix: &str| {
            text.lines()
                .filter_map(move |l| l.strip_prefix(prefix))
                .next_back()
        };
        let ip: IpAddr = line("c=IN IP4 ").or(line("c=IN IP6 "))?.parse().ok()?;
        let port = line("m=audio ")?.split(' ').next()?.parse().ok()?;
        let version = line("o=")?.split(' ').nth(2)?.parse().ok()?;
        let direction = Direction::ALL
            .iter()
            .find(|(_, word)| text.contains(&format!("\r\na={word}\r\n")));
        Some(Self {
            at: SocketAddr::new(ip, port),
            direction: direction.map_or(Direction::SendRecv, |(d, _)| *d),
            version,
        })
    }
}
