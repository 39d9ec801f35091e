//! What a message is matched to its transaction by.

use std::sync::Arc;

use bytes::Bytes;

/// What a request is matched by (RFC 3261 §17.2.3).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ServerKey {
    pub branch: Bytes,
    pub sent_by: Bytes,
    /// Of an ACK: INVITE.
    pub method: Bytes,
}

/// What a response is matched by: our own branch and the CSeq method (RFC 3261 §17.1.3).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ClientKey {
    pub branch: Bytes,
    pub method: Bytes,
}

/// Either.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Key {
    Server(Arc<ServerKey>),
    Client(Arc<ClientKey>),
}

impl ServerKey {
    /// The key of a request with the magic cookie: an ACK is matched as its INVITE, a host name
    /// in any case.
    #[must_use]
    pub fn new(branch: Bytes, sent_by: &[u8], method: Bytes) -> Self {
        Self {
            branch,
            sent_by: Bytes::from(sent_by.to_ascii_lowercase()),
            method: match method.as_ref() {
                b"ACK" => Bytes::from_static(b"INVITE"),
                _ => method,
            },
        }
    }

    /// The key of a request without the magic cookie (RFC 3261 §17.2.3): `fields` are Request-URI,
    /// From tag, Call-ID, CSeq number and the top Via. The To tag is left out: it differs between
    /// an INVITE and its ACK, and tells no two transactions of one sender apart.
    #[must_use]
    pub fn without_cookie(fields: &[&[u8]], sent_by: &[u8], method: Bytes) -> Self {
        Self::new(Bytes::from(fields.join(&0)), sent_by, method)
    }

    /// The INVITE a CANCEL with this key is about (RFC 3261 §9.2).
    #[must_use]
    pub fn of_invite(&self) -> Self {
        Self {
            method: Bytes::from_static(b"INVITE"),
            ..self.clone()
        }
    }

    /// The same key in memory of its own: it outlives the datagram it was read from.
    pub(super) fn detached(&self) -> Self {
        let [branch, sent_by, method] = apart([&self.branch, &self.sent_by, &self.method]);
        Self {
            branch,
            sent_by,
            method,
        }
    }
}

impl ClientKey {
    pub(super) fn detached(&self) -> Self {
        let [branch, method] = apart([&self.branch, &self.method]);
        Self { branch, method }
    }
}

/// The parts one behind the other, in memory of their own.
fn apart<const N: usize>(parts: [&Bytes; N]) -> [Bytes; N] {
    let mut all = Bytes::from(parts.map(|part| &part[..]).concat());
    parts.map(|part| all.split_to(part.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(branch: &'static str, sent_by: &str, method: &'static str) -> ServerKey {
        let branch = Bytes::from_static(branch.as_bytes());
        ServerKey::new(
            branch,
            sent_by.as_bytes(),
            Bytes::from_static(method.as_bytes()),
        )
    }

    #[test]
    fn requests_of_one_transaction_have_one_key() {
        let check =
            |a: ServerKey, b: ServerKey, same: bool| assert_eq!(a == b, same, "{a:?} {b:?}");
        let invite = || key("z9hG4bK1", "host.example:5060", "INVITE");
        check(invite(), key("z9hG4bK1", "host.example:5060", "ACK"), true);
        check(
            invite(),
            key("z9hG4bK1", "HOST.example:5060", "INVITE"),
            true,
        );
        check(
            invite(),
            key("z9hG4bK1", "host.example:5060", "CANCEL"),
            false,
        );
        check(invite(), key("z9hG4bK1", "host.example", "INVITE"), false);
        check(
            invite(),
            key("z9hG4bK2", "host.example:5060", "INVITE"),
            false,
        );
        check(
            invite(),
            key("z9hG4bK1", "host.example:5060", "CANCEL").of_invite(),
            true,
        );
    }

    #[test]
    fn old_requests_are_told_apart_by_every_field() {
        let old = |fields: &[&[u8]], method| {
            ServerKey::without_cookie(fields, b"host", Bytes::from_static(method))
        };
        let fields: [&[u8]; 5] = [b"sip:a", b"tag", b"id", b"1", b"via"];
        assert_eq!(old(&fields, b"INVITE"), old(&fields, b"ACK"));
        for changed in 0..fields.len() {
            let mut other = fields;
            other[changed] = b"x";
            assert_ne!(old(&fields, b"INVITE"), old(&other, b"INVITE"), "{changed}");
        }
        assert_ne!(old(&[b"ab", b"c"], b"BYE"), old(&[b"a", b"bc"], b"BYE"));
    }

    #[test]
    fn a_kept_key_does_not_hold_the_datagram() {
        let datagram = Bytes::from_static(b"branch method");
        let ours = ClientKey {
            branch: datagram.slice(..6),
            method: datagram.slice(7..),
        };
        let kept = ours.detached();
        assert_eq!(kept, ours);
        assert_ne!(kept.branch.as_ptr(), ours.branch.as_ptr());
    }
}
