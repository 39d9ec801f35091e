//! Names of things. A name is never an address: identity survives a change of network.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// A configured `[[network]]`, for the life of the daemon: it stays when the file changes.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NetworkId(pub u16);

/// One call's media, unique for the life of the daemon.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionId(pub u64);

/// How a SIP message travels.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Transport {
    Udp,
    Tcp,
    Tls,
}

impl Transport {
    /// The token of a Via header (RFC 3261 §20.42).
    #[must_use]
    pub fn token(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
        }
    }

    /// The word of a listener, a URI parameter (RFC 3261 §19.1.1) and a metric's label.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }

    /// What a URI of ours says of it: UDP is what a URI means that says nothing.
    #[must_use]
    pub fn param(self) -> &'static str {
        match self {
            Self::Udp => "",
            Self::Tcp => ";transport=tcp",
            Self::Tls => ";transport=tls",
        }
    }

    /// Where a URI without a port leads (RFC 3261 §19.1.2).
    #[must_use]
    pub fn port(self) -> u16 {
        match self {
            Self::Udp | Self::Tcp => 5060,
            Self::Tls => 5061,
        }
    }

    /// Whether retransmission is the transport's business (RFC 3261 §17).
    #[must_use]
    pub fn is_reliable(self) -> bool {
        match self {
            Self::Udp => false,
            Self::Tcp | Self::Tls => true,
        }
    }
}

/// A local SIP socket: the address the peer used is the address we answer from.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Listener {
    pub transport: Transport,
    pub local: SocketAddr,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.transport.word(), self.local)
    }
}

/// The way back to whoever sent a message: our socket and their address. Over TCP and TLS this
/// names a connection, from `Input::Connected` to `Input::Closed`: no other bears it meanwhile.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Path {
    pub on: Listener,
    pub to: SocketAddr,
}

/// One of the engines that share a node's work: which, and of how many.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Shard {
    index: u16,
    of: u16,
}

impl Shard {
    /// The only one there is.
    pub const ONLY: Self = Self { index: 0, of: 1 };

    /// All there are, in order; one at least.
    pub fn all(of: u16) -> impl Iterator<Item = Self> {
        let of = of.max(1);
        (0..of).map(move |index| Self { index, of })
    }

    #[must_use]
    pub fn index(self) -> usize {
        self.index.into()
    }

    #[must_use]
    pub fn of(self) -> u16 {
        self.of
    }

    /// Whether it is the one that keeps what there is once in a node: the registrations.
    #[must_use]
    pub fn is_first(self) -> bool {
        self.index == 0
    }

    /// The `n`th number that is this shard's alone, from zero.
    #[must_use]
    pub fn number(self, n: u64) -> u64 {
        let first = u64::from(self.index) + 1;
        n.saturating_mul(self.of.into()).saturating_add(first)
    }

    /// Whether a number is one of those.
    #[must_use]
    pub fn owns_number(self, number: u64) -> bool {
        let of = u64::from(self.of);
        number
            .checked_sub(1)
            .is_some_and(|n| n % of == u64::from(self.index))
    }

    /// Whether the pair that a media port is in is this shard's, at every address of ours.
    #[must_use]
    pub fn owns_port(self, port: u16) -> bool {
        (port >> 1) % self.of == self.index
    }

    /// This shard's part of what a node may have in all; the parts add up to it.
    #[must_use]
    pub fn share(self, whole: usize) -> usize {
        let of = usize::from(self.of);
        whole / of + usize::from(usize::from(self.index) < whole % of)
    }
}

/// Address-of-record: `user@domain`, user percent-decoded, domain lower-case (RFC 3261 §10.3).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Aor(Arc<str>);

impl Aor {
    #[must_use]
    pub fn new(user: &str, domain: &str) -> Self {
        Self(format!("{user}@{}", domain.to_ascii_lowercase()).into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Aor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a node's id can stand in the ids of conferences and in topics: then other servers can
/// share conferences with it.
#[must_use]
pub fn is_server_id(text: &str) -> bool {
    let fits = |c: u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-');
    (1..=SERVER_ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(fits)
}

/// The id of a conference has the server's, and more, in 64 characters.
const SERVER_ID_BYTES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_divide_without_rest() {
        for of in 1..=8 {
            let shards: Vec<Shard> = Shard::all(of).collect();
            let owners = |owns: &dyn Fn(&Shard) -> bool| shards.iter().filter(|s| owns(s)).count();
            for port in 20_000..20_100 {
                assert_eq!(owners(&|shard| shard.owns_port(port)), 1, "{port} of {of}");
                assert_eq!(owners(&|shard| shard.owns_number(port.into())), 1);
            }
            let first: Vec<u64> = shards.iter().map(|shard| shard.number(0)).collect();
            assert_eq!(first, (1..=u64::from(of)).collect::<Vec<_>>());
            for shard in &shards {
                assert!((0..9).all(|n| shard.owns_number(shard.number(n))));
                assert!(!shard.owns_number(0));
            }
            for whole in [0, 1, 7, 100_000] {
                assert_eq!(shards.iter().map(|s| s.share(whole)).sum::<usize>(), whole);
            }
        }
        // Both ports of a pair.
        let second = Shard { index: 1, of: 2 };
        let owned: Vec<u16> = (20_000..20_008).filter(|p| second.owns_port(*p)).collect();
        assert_eq!(owned, [20_002, 20_003, 20_006, 20_007]);
    }
}
