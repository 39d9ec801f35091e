//! Requests of our own inside calls.

use std::time::Instant;

use bytes::Bytes;

use crate::effect::{Effect, Effects};
use crate::engine::call::Call;
use crate::engine::relay::Purpose;
use crate::engine::{CallKey, Engine};
use crate::id::Path;
use crate::media::session::Side;
use crate::sip::dialog::{Leg, contact_uri, record_routes};
use crate::sip::index::{Message, Name};
use crate::sip::transaction::ClientKey;
use crate::sip::vocabulary::{Method, NewRequest};

/// A request of our own, written.
struct Own {
    branch: String,
    bytes: Bytes,
    hop: Path,
}

impl Engine {
    /// BYE to one party (RFC 3261 §15.1.1).
    pub(super) fn send_bye(
        &mut self,
        call: &mut Call,
        to: Side,
        now: Instant,
        effects: &mut Effects,
    ) {
        if let Some(own) = self.own_request(call, to, Method::Bye, &[], None) {
            self.launch(own.branch, own.bytes, own.hop, Purpose::Own, now, effects);
        }
    }

    /// OPTIONS to one party, inside the call: 481 if it knows nothing of it (RFC 3261 §12.2.2).
    pub(super) fn send_probe(
        &mut self,
        key: CallKey,
        call: &mut Call,
        to: Side,
        now: Instant,
        effects: &mut Effects,
    ) {
        let purpose = Purpose::Probe {
            call: key,
            side: to,
        };
        if let Some(own) = self.own_request(call, to, Method::Options, &[], None) {
            self.launch(own.branch, own.bytes, own.hop, purpose, now, effects);
        }
    }

    /// A request of our own to one party, in the other one's name.
    fn own_request(
        &mut self,
        call: &mut Call,
        to: Side,
        method: Method<'_>,
        extra: &[(&str, String)],
        offer: Option<&[u8]>,
    ) -> Option<Own> {
        let other = call.leg(to.other())?;
        let (from, user) = (other.party.clone(), other.target.clone());
        let leg = call.leg_mut(to)?;
        let cseq = leg.numbers.take();
        let leg = leg.clone();
        let hop = leg.next_hop();
        let branch = self.names.branch();
        let via = self.via(leg.network, hop, &branch)?;
        let contact = match offer {
            Some(_) => Some(self.contact(leg.network, leg.path, call, Some(&user))?),
            None => None,
        };
        let routes: Vec<&[u8]> = leg.routes.iter().map(|route| &route[..]).collect();
        let bytes = NewRequest {
            method,
            uri: &leg.target,
            via: via.as_bytes(),
            from: &from,
            to: &leg.party,
            call_id: &call.call_id,
            cseq,
            max_forwards: super::MAX_FORWARDS,
            contact: contact.as_ref().map(String::as_bytes),
            routes: &routes,
            extra,
            body: offer.map(|offer| ("application/sdp", offer)),
        }
        .build();
        Some(Own { branch, bytes, hop })
    }

    /// An INVITE of ours to one party, with what it was told last at our present address.
    pub(super) fn reinvite(
        &mut self,
        key: CallKey,
        call: &mut Call,
        to: Side,
        now: Instant,
        effects: &mut Effects,
    ) -> Option<ClientKey> {
        let mut offer = None;
        self.with_session(key, call, effects, |session, pools, effects| {
            offer = session.reoffer(to, pools, now, effects);
        });
        let offer = offer?;
        let client = self.own_invite(key, call, to, &offer, now, effects);
        if client.is_none() {
            self.roll_back(key, call, now, effects);
        }
        client
    }

    fn own_invite(
        &mut self,
        key: CallKey,
        call: &mut Call,
        to: Side,
        offer: &[u8],
        now: Instant,
        effects: &mut Effects,
    ) -> Option<ClientKey> {
        let timer = call.timer.as_ref().map(|timer| {
            let value = timer.value(to);
            [
                ("Supported", "timer".to_owned()),
                ("Session-Expires", value),
            ]
        });
        let extra = timer.as_ref().map_or(&[][..], |timer| &timer[..]);
        let own = self.own_request(call, to, Method::Invite, extra, Some(offer))?;
        let purpose = Purpose::Refresh {
            call: key,
            side: to,
        };
        self.launch(own.branch, own.bytes, own.hop, purpose, now, effects)
    }

    /// ACK for the 2xx to an INVITE of ours (RFC 3261 §13.2.2.4), kept for its repeats.
    pub(super) fn acknowledge(
        &mut self,
        client: &ClientKey,
        key: CallKey,
        side: Side,
        message: &Message,
        effects: &mut Effects,
    ) {
        let branch = self.names.branch();
        let leg = self.calls.get(&key).and_then(|call| call.leg(side));
        let Some(relay) = self.relays.get(client) else {
            return;
        };
        // The call may be over: then it goes where the INVITE went.
        let path = leg.map_or(relay.path, Leg::next_hop);
        let sent = &relay.sent;
        let contact = contact_uri(message);
        let uri = contact.as_deref();
        let uri = uri.or_else(|| Some(sent.slice(&sent.uri_range()?)));
        let Some(via) = self
            .network_of_path(path)
            .and_then(|network| self.via(network, path, &branch))
        else {
            return;
        };
        let routes: Vec<&[u8]> = sent
            .all(Name::Route)
            .map(|field| sent.slice(&field.value))
            .collect();
        let bytes = NewRequest {
            method: Method::Ack,
            uri: uri.unwrap_or_default(),
            via: via.as_bytes(),
            from: sent.get(Name::From).unwrap_or_default(),
            to: message.get(Name::To).unwrap_or_default(),
            call_id: sent.call_id(),
            cseq: sent.cseq().0,
            max_forwards: super::MAX_FORWARDS,
            contact: None,
            routes: &routes,
            extra: &[],
            body: None,
        }
        .build();
        let (on, to) = (path.on, path.to);
        effects.push(Effect::Send {
            on,
            to,
            bytes: bytes.clone(),
        });
        if let Some(relay) = self.relays.get_mut(client) {
            relay.ack = Some((path, bytes));
        }
    }

    /// A 2xx nobody wants any more: ACK it, then BYE (RFC 3261 §13.2.2.4, §15).
    pub(super) fn turn_away(
        &mut self,
        client: &ClientKey,
        message: &Message,
        now: Instant,
        effects: &mut Effects,
    ) {
        self.counters.count("call_setup", "late_success");
        let Some(relay) = self.relays.get(client) else {
            return;
        };
        let path = relay.path;
        let Some(network) = self.network_of_path(path) else {
            return;
        };
        let value = |name| message.get(name).unwrap_or_default().to_vec();
        let (cseq, _) = message.cseq();
        let uri = contact_uri(message).unwrap_or_default();
        let recorded = record_routes(message);
        let routes: Vec<&[u8]> = recorded.iter().rev().map(|route| &route[..]).collect();
        for (method, cseq) in [(Method::Ack, cseq), (Method::Bye, cseq.saturating_add(1))] {
            let branch = self.names.branch();
            let Some(via) = self.via(network, path, &branch) else {
                return;
            };
            let bytes = NewRequest {
                method,
                uri: &uri,
                via: via.as_bytes(),
                from: &value(Name::From),
                to: &value(Name::To),
                call_id: message.call_id(),
                cseq,
                max_forwards: super::MAX_FORWARDS,
                contact: None,
                routes: &routes,
                extra: &[],
                body: None,
            }
            .build();
            if method == Method::Ack {
                effects.push(Effect::Send {
                    on: path.on,
                    to: path.to,
                    bytes,
                });
            } else {
                self.launch(branch, bytes, path, Purpose::Own, now, effects);
            }
        }
    }
}
