//! Dialogs that are no calls (RFC 6665, RFC 3515): SUBSCRIBE, REFER and NOTIFY cross with our
//! Contact in place of the party's, so that what follows comes back this way. Nothing is known of
//! them but where each Contact of ours leads.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::effect::Effects;
use crate::engine::invite::TOKEN;
use crate::engine::outside::Outside;
use crate::engine::route::Target;
use crate::engine::{Engine, Request};
use crate::id::{NetworkId, Path};
use crate::sip::dialog::{Leg, Numbers, contact_uri, record_routes};
use crate::sip::index::{Message, Name};
use crate::sip::uri::Uri;
use crate::sip::value::delta_seconds;
use crate::sip::vocabulary::Method;

/// Parties of such dialogs; the next request that would begin one is answered 503.
const PARTIES_MAX: usize = 65_536;
/// How long a party is remembered after it was last heard of, if nothing says otherwise.
const LIFETIME: Duration = Duration::from_secs(3_600);
/// The longest a request may ask for.
const LIFETIME_MAX: Duration = Duration::from_secs(86_400);

/// Where Contacts of ours lead, by their token.
#[derive(Debug, Default)]
pub(super) struct Parties(BTreeMap<String, Party>);

#[derive(Debug)]
struct Party {
    leg: Leg,
    until: Instant,
}

impl Parties {
    pub(super) fn expire(&mut self, now: Instant) {
        self.0.retain(|_, party| now < party.until);
    }
}

/// Whether a request makes a dialog, or may be part of one that is no call.
pub(super) fn begins(method: Option<Method<'_>>) -> bool {
    matches!(
        method,
        Some(Method::Subscribe | Method::Refer | Method::Notify)
    )
}

impl Engine {
    /// A request inside such a dialog; false if its request-URI is no Contact of ours.
    pub(super) fn in_subscription(
        &mut self,
        request: &Request,
        now: Instant,
        effects: &mut Effects,
    ) -> bool {
        let message = &request.message;
        let uri = message.uri_range().map(|range| message.slice(&range));
        let uri = uri.and_then(Uri::parse);
        let token = uri.and_then(|uri| uri.param(TOKEN.as_bytes()).flatten());
        let token = token.and_then(|token| std::str::from_utf8(token).ok());
        let Some(party) = token.and_then(|token| self.parties.0.get_mut(token)) else {
            return false;
        };
        party.until = party.until.max(now + lifetime(message));
        let leg = party.leg.clone();
        let to = Place {
            network: leg.network,
            path: leg.next_hop(),
            natted: leg.natted,
        };
        let mut outside = Outside::new(request);
        outside.between = Some((self.place_of(request), to));
        let hop = (&leg.target[..], &leg.routes[..]);
        self.send_outside(outside, to, hop, now, effects);
        true
    }

    /// Where a request came from.
    pub(super) fn place_of(&self, request: &Request) -> Place {
        Place {
            network: request.network,
            path: request.path,
            natted: self.natted(request.network, &request.message, request.path),
        }
    }

    /// Our Contact in such a request, as the asked gets it.
    pub(super) fn contact_beyond(
        &mut self,
        message: &Message,
        from: Place,
        to: Place,
        now: Instant,
    ) -> Result<Option<String>, Full> {
        let tag = message.from_tag().unwrap_or_default();
        let routes_back = record_routes(message);
        self.meet(message, tag, from, to, routes_back, now)
    }

    /// The Contact of a response to such a request, as the asker gets it.
    pub(super) fn answering_contact(
        &mut self,
        message: &Message,
        (asker, answerer): (Place, Place),
        now: Instant,
    ) -> Option<String> {
        let mut routes = record_routes(message);
        routes.reverse();
        let tag = message.to_tag().unwrap_or_default();
        let contact = self.meet(message, tag, answerer, asker, routes, now);
        contact.ok().flatten()
    }

    /// Remembers the party behind a Contact, and gives the one that takes its place towards `to`.
    fn meet(
        &mut self,
        message: &Message,
        tag: &[u8],
        from: Place,
        to: Place,
        routes: Vec<Bytes>,
        now: Instant,
    ) -> Result<Option<String>, Full> {
        let Some(target) = contact_uri(message) else {
            return Ok(None);
        };
        let token = self.names.name_of(&[message.call_id(), tag]);
        if self.parties.0.len() >= PARTIES_MAX && !self.parties.0.contains_key(&token) {
            return Err(Full);
        }
        let user = Uri::parse(&target).and_then(|uri| uri.user);
        let user = user.and_then(|user| std::str::from_utf8(user).ok());
        let user = user.map(|user| format!("{user}@")).unwrap_or_default();
        let leg = Leg {
            network: from.network,
            path: from.path,
            natted: from.natted,
            tag: None,
            party: Bytes::new(),
            target,
            routes,
            numbers: Numbers::default(),
        };
        let until = now + lifetime(message);
        self.parties.0.insert(token.clone(), Party { leg, until });
        let Some(network) = self.network(to.network) else {
            return Ok(None);
        };
        let address = self.advertised(network, to.path.on);
        let transport = to.path.on.transport.param();
        Ok(Some(format!(
            "<sip:{user}{address};{TOKEN}={token}{transport}>"
        )))
    }
}

/// `PARTIES_MAX` is reached.
pub(super) struct Full;

/// One end of a request's way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) network: NetworkId,
    pub(super) path: Path,
    pub(super) natted: bool,
}

impl Place {
    pub(super) fn of(target: &Target) -> Self {
        Self {
            network: target.network,
            path: target.path,
            natted: target.natted,
        }
    }
}

fn lifetime(message: &Message) -> Duration {
    let expires = message.get(Name::Expires).and_then(delta_seconds);
    let expires = expires.map(|s| Duration::from_secs(s.into()));
    expires.unwrap_or(LIFETIME).clamp(LIFETIME, LIFETIME_MAX)
}

#[cfg(test)]
mod tests;
