//! Where a request goes: peers by pattern of the user part, accounts by their bindings.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use bytes::Bytes;

use crate::config::{Network, Peer};
use crate::engine::Engine;
use crate::engine::explain::words::told_sip;
use crate::id::{Aor, Listener, NetworkId, Path, Transport};
use crate::sip::dialog::Leg;
use crate::sip::index::{Message, Name};
use crate::sip::registrar::Binding;
use crate::sip::uri::{Host, Scheme, Uri};
use crate::sip::value::NameAddr;

/// One place to try.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) uri: Bytes,
    pub(super) path: Path,
    pub(super) network: NetworkId,
    pub(super) natted: bool,
    /// Preference (RFC 3261 §20.10): those who follow each other with the same one are asked at the
    /// same time. None: asked alone.
    pub(super) q: Option<u16>,
}

/// Why there is nowhere to go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Nowhere {
    /// 416: not a SIP URI.
    Scheme,
    /// 403: a domain that is not ours.
    NotOurs,
    /// 404: nobody has this name.
    Unknown,
    /// 480: the account exists and is not registered.
    Offline,
    /// 503: no address of the peers that serve it is well.
    PeerDown,
}

impl Nowhere {
    pub(super) fn code(self) -> u16 {
        match self {
            Self::Scheme => 416,
            Self::NotOurs => 403,
            Self::Unknown => 404,
            Self::Offline => 480,
            Self::PeerDown => 503,
        }
    }

    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Scheme => "scheme",
            Self::NotOurs => "foreign_domain",
            Self::Unknown => "unknown_user",
            Self::Offline => "not_registered",
            Self::PeerDown => "peer_down",
        }
    }
}

impl Engine {
    /// Places to try for a request-URI, best first: a peer, or the bindings by preference, and the
    /// newest first among equals.
    pub(super) fn targets(&self, uri: &[u8], now: Instant) -> Result<Vec<Target>, Nowhere> {
        let uri = Uri::parse(uri).ok_or(Nowhere::Scheme)?;
        if !matches!(uri.scheme, Scheme::Sip | Scheme::Sips) {
            return Err(Nowhere::Scheme);
        }
        if !self.is_ours(&uri, now) {
            return Err(Nowhere::NotOurs);
        }
        if let Some(bound) = self.bound_by(&uri, now) {
            return if bound.is_empty() {
                Err(Nowhere::Offline)
            } else {
                Ok(bound)
            };
        }
        // A peer that takes everybody takes what is asked of the domain itself.
        let user = match uri.user {
            None => String::new(),
            Some(_) => uri.user_decoded().ok_or(Nowhere::Unknown)?,
        };
        // RFC 3261 §26.2.2: what asks for TLS goes by nothing else.
        let secure = |path: Path| uri.scheme != Scheme::Sips || path.on.transport == Transport::Tls;
        if let Some(targets) = self.peer_targets(&uri, &user, now) {
            let well = Some(targets).filter(|targets| !targets.is_empty());
            let mut targets = well.ok_or(Nowhere::PeerDown)?;
            targets.retain(|target| secure(target.path));
            let any = Some(targets).filter(|targets| !targets.is_empty());
            return any.ok_or(Nowhere::Offline);
        }
        let aor = Aor::new(&user, &self.config.sip.domain);
        let mut bindings = self.registrar.fetch(&aor, now);
        // RFC 3261 §16.6: by preference; of equals the newest first.
        bindings.sort_by_key(|binding| std::cmp::Reverse(binding.q));
        if bindings.is_empty() {
            return Err(if self.account(&user).is_some() {
                Nowhere::Offline
            } else {
                Nowhere::Unknown
            });
        }
        let bindings = bindings.into_iter();
        let bindings = bindings.filter(|binding| self.is_reachable(binding.path));
        let bindings = bindings.filter(|binding| secure(binding.path));
        let mut instances = std::collections::BTreeSet::new();
        let mut targets: Vec<Target> = Vec::new();
        for binding in bindings {
            let Some(mut target) = self.target(binding) else {
                continue;
            };
            // RFC 5626 §7: another flow of the same phone only if the first one fails.
            let instance = binding.instance.as_ref();
            if instance.is_some_and(|instance| !instances.insert(instance)) {
                target.q = None;
            }
            targets.push(target);
        }
        if targets.is_empty() {
            return Err(Nowhere::Offline);
        }
        targets.sort_by_key(|target| std::cmp::Reverse(target.q));
        Ok(targets)
    }

    /// Where a binding is reached.
    pub(super) fn target(&self, binding: &Binding) -> Option<Target> {
        Some(Target {
            uri: Bytes::copy_from_slice(binding.contact.as_ref()),
            path: way_to(binding),
            network: self.home(binding.network, binding.path)?,
            natted: binding.natted,
            q: Some(binding.q),
        })
    }

    /// Places to try for a request that came in. Whom only a peer vouches for may ask nobody but
    /// that peer, and anybody at it.
    pub(super) fn targets_of(
        &self,
        message: &Message,
        from: (Path, NetworkId),
        now: Instant,
    ) -> Result<Vec<Target>, Nowhere> {
        let uri = self.asked(message, now);
        if self.is_vouched(message, from.0, from.1, now)
            && let Some(peer) = self.registrar_peer()
            && let Some(user) = Uri::parse(uri).and_then(|uri| uri.user_decoded())
            && !self.is_routed(&user)
        {
            return Ok(self.at_peer(peer, uri, message, now));
        }
        self.targets(uri, now)
    }

    /// Where a peer we trust sends a call instead (RFC 3261 §8.1.3.4): to somebody of ours, or to a
    /// neighbour of the peer's.
    pub(super) fn redirected(&self, callee: &Leg, message: &Message, now: Instant) -> Vec<Target> {
        if self.peer_at(callee.path, callee.network).is_none() {
            return Vec::new();
        }
        let mut targets = Vec::new();
        for range in message.values(Name::Contact) {
            let Some(contact) = NameAddr::parse(message.slice(&range)) else {
                continue;
            };
            let Some(uri) = Uri::parse(contact.uri) else {
                continue;
            };
            if self.is_ours(&uri, now) {
                targets.extend(self.targets(contact.uri, now).unwrap_or_default());
            } else if let Some(ip) = uri.host.ip()
                && self.config.network_to(ip) == Some(callee.network)
            {
                targets.push(Target {
                    uri: Bytes::copy_from_slice(contact.uri),
                    path: Path {
                        on: callee.path.on,
                        to: SocketAddr::new(ip, uri.port.unwrap_or(5060)),
                    },
                    network: callee.network,
                    natted: false,
                    q: None,
                });
            }
        }
        targets
    }

    fn is_routed(&self, user: &str) -> bool {
        let matches = |pattern: &String| glob(pattern.as_bytes(), user.as_bytes());
        let mut peers = self.config.sip.peers.iter();
        peers.any(|p| p.routes.iter().any(matches))
    }

    /// A peer that is asked for the URI as it was written: it judges credentials made for that.
    fn at_peer(&self, peer: &Peer, uri: &[u8], message: &Message, now: Instant) -> Vec<Target> {
        let from = message.get(Name::From).and_then(NameAddr::parse);
        let from = from.and_then(|from| Uri::parse(from.uri)?.user_decoded());
        let ways = self.ways_to_peer(peer, from.unwrap_or_default().as_bytes(), now);
        let at = |(network, path)| Target {
            uri: Bytes::copy_from_slice(uri),
            path,
            network,
            natted: false,
            q: None,
        };
        ways.into_iter().map(at).collect()
    }

    /// Whether a URI names this edge: its domain, or an address it is known by or was until lately.
    pub(super) fn is_ours(&self, uri: &Uri<'_>, now: Instant) -> bool {
        let ip = match &uri.host {
            Host::Name(name) => {
                return name.eq_ignore_ascii_case(self.config.sip.domain.as_bytes());
            }
            Host::V4(ip) => IpAddr::from(*ip),
            Host::V6(ip) => IpAddr::from(*ip),
        };
        self.config
            .networks
            .iter()
            .any(|n| n.address == ip || n.advertise == ip)
            || self.is_former(ip, now)
            || self.config.sip.domain == ip.to_string()
    }

    /// The SIP socket of a network: the one for UDP, if there is one.
    pub(super) fn listener(&self, network: NetworkId) -> Option<Listener> {
        let every = [Transport::Udp, Transport::Tcp, Transport::Tls];
        let mut found = every.iter().filter_map(|t| self.listener_of(network, *t));
        found.next()
    }

    pub(super) fn listener_of(&self, id: NetworkId, transport: Transport) -> Option<Listener> {
        let local = self.config.network(id)?.address;
        let mut listen = self.config.sip.listen.iter();
        listen
            .find(|on| on.local.ip() == local && on.transport == transport)
            .copied()
    }

    /// Our SIP address as a peer of `network` is told it.
    pub(super) fn advertised(&self, network: &Network, on: Listener) -> SocketAddr {
        told_sip(network, on)
    }
}

/// Where requests to a binding go.
pub(super) fn way_to(binding: &Binding) -> Path {
    match binding.claimed {
        // A client has no other way than the connection it made.
        Some(to) if !binding.natted && !binding.path.on.transport.is_reliable() => Path {
            on: binding.path.on,
            to,
        },
        _ => binding.path,
    }
}

/// `*` is any run of characters, `?` exactly one.
pub(crate) fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where the last `*` stood, and how much of the text it has swallowed.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == b'?' || Some(&c) == text.get(t) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, swallowed)) => {
                    star = Some((at, swallowed + 1));
                    p = at + 1;
                    t = swallowed + 1;
                }
                None => return false,
            },
        }
    }
    pattern
        .get(p..)
        .is_some_and(|rest| rest.iter().all(|&c| c == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_the_user_part() {
        for (pattern, text, expected) in [
            ("9*", "9000", true),
            ("9*", "8000", false),
            ("8???", "8123", true),
            ("8???", "812", false),
            ("8???", "81234", false),
            ("conf-*", "conf-", true),
            ("conf-*-x", "conf-a-b-x", true),
            ("conf-*-x", "conf-a-b-y", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("**a", "bba", true),
        ] {
            assert_eq!(
                glob(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern} {text}"
            );
        }
    }
}
