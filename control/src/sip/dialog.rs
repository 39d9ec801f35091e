//! Dialogs (RFC 3261 §12): what we know of one party of a call.

use bytes::Bytes;

use crate::id::{NetworkId, Path};
use crate::sip::index::{Message, Name};
use crate::sip::uri::Uri;
use crate::sip::value::NameAddr;

/// Routes kept per leg; a longer Record-Route is refused where it arrives.
pub const ROUTES_MAX: usize = 64;

/// One party's half of a call. Call-ID and tags are the same on both legs; everything here is not.
#[derive(Clone, Debug)]
pub struct Leg {
    pub network: NetworkId,
    /// Where its signalling really comes from, and the socket it came to.
    pub path: Path,
    /// Contact or Via did not say where the packets came from.
    pub natted: bool,
    /// Its tag, once known (§12.1).
    pub tag: Option<Bytes>,
    /// Its From or To value with tag, as it stands in its own requests.
    pub party: Bytes,
    /// Remote target: the URI of its last Contact (§12.2.1.1).
    pub target: Bytes,
    /// Route set, in the order it is written into requests (§12.1).
    pub routes: Vec<Bytes>,
    /// Highest sequence number sent towards it; requests of our own continue from here.
    pub cseq: u32,
}

impl Leg {
    /// Takes over the Contact of a message from this party (§12.2.1.2: target refresh).
    pub fn refresh_target(&mut self, message: &Message) {
        if let Some(uri) = contact_uri(message) {
            self.target = uri;
        }
    }

    /// Where the next request goes: the first route, else the recorded flow of a party behind NAT,
    /// else its remote target. Host names go along the recorded flow.
    #[must_use]
    pub fn next_hop(&self) -> Path {
        let hop = match self.routes.first() {
            Some(route) => NameAddr::parse(route).map(|n| n.uri),
            None if self.natted => None,
            None => Some(&self.target[..]),
        };
        let address = hop
            .and_then(Uri::parse)
            .and_then(|uri| Some((uri.host.ip()?, uri.port.unwrap_or(5060)).into()));
        match address {
            Some(to) => Path {
                on: self.path.on,
                to,
            },
            None => self.path,
        }
    }
}

/// The URI of the first Contact, as sent.
#[must_use]
pub fn contact_uri(message: &Message) -> Option<Bytes> {
    let value = message.values(Name::Contact).into_iter().next()?;
    let contact = NameAddr::parse(message.slice(&value))?;
    Some(Bytes::copy_from_slice(contact.uri))
}

/// Record-Route values in message order.
#[must_use]
pub fn record_routes(message: &Message) -> Vec<Bytes> {
    message
        .values(Name::RecordRoute)
        .iter()
        .take(ROUTES_MAX)
        .map(|range| message.bytes().slice(range.clone()))
        .collect()
}
