//! Whose word about who somebody is counts (RFC 3325): that of peers, and our own about those who
//! have proved to be one of our accounts. What phones say of themselves goes no further.

use std::net::IpAddr;

use crate::config::Auth;
use crate::engine::Engine;
use crate::engine::gate::credentials;
use crate::engine::register::forward::escaped;
use crate::id::{NetworkId, Path};
use crate::sip::identity::{self, Told};
use crate::sip::index::{Message, Name};

impl Engine {
    /// What is believed of a message; none: all of it.
    pub(super) fn believed(&mut self, message: &Message, from: IpAddr) -> Option<Message> {
        if !identity::is_claimed(message) || self.peer_from(from).is_some() {
            return None;
        }
        self.counters.count("sip_identity", "disbelieved");
        Message::parse(identity::unclaimed(message)).ok()
    }

    /// The account that has proved to be the sender of a request which was let in, if peers are
    /// told so. What a peer sends speaks for itself.
    pub(super) fn speaker(&self, message: &Message, from: (Path, NetworkId)) -> Option<String> {
        let sip = &self.config.sip;
        let wanted = sip.peers.iter().any(|peer| peer.assert_identity);
        if !wanted || sip.auth == Auth::None || self.peer_at(from.0, from.1).is_some() {
            return None;
        }
        let field = Name::ProxyAuthorization;
        let proof = credentials(message, field, &sip.domain)?;
        let proven = self.speaks_for_itself(message, field);
        String::from_utf8(proof.username).ok().filter(|_| proven)
    }

    /// What a peer is told of it (RFC 3325 §9.1).
    pub(super) fn asserted(&self, user: &str, to: Path) -> Option<String> {
        let peer = self.peer_from(to.to.ip())?;
        let domain = &self.config.sip.domain;
        let identity = format!("<sip:{}@{domain}>", escaped(user));
        peer.assert_identity.then_some(identity)
    }

    /// What whoever is at an address may know.
    pub(super) fn told(&self, to: IpAddr) -> Told<'static> {
        match self.peer_from(to) {
            Some(_) => Told::All,
            None => Told::Public,
        }
    }

    /// The same of whoever sent a request.
    pub(super) fn told_back(&self, request: &Message) -> Told<'static> {
        // Where it really came from (RFC 3261 §18.2.1).
        let received = request.top_via().received;
        let from = received.and_then(|ip| std::str::from_utf8(ip).ok());
        let from = from.and_then(|ip| ip.parse().ok());
        from.map_or(Told::Public, |from| self.told(from))
    }

    pub(super) fn count_told(&mut self, message: &Message, told: Told<'_>) {
        match told {
            Told::Asserted(_) => self.counters.count("sip_identity", "asserted"),
            Told::Public if identity::is_private(message) => {
                self.counters.count("sip_identity", "withheld");
            }
            Told::Public | Told::All => {}
        }
    }
}
