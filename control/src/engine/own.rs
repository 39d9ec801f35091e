//! Requests of our own inside calls.

use std::time::Instant;

use crate::effect::{Effect, Effects};
use crate::engine::Engine;
use crate::engine::call::Call;
use crate::engine::relay::Purpose;
use crate::media::session::Side;
use crate::sip::dialog::{contact_uri, record_routes};
use crate::sip::index::{Message, Name};
use crate::sip::transaction::ClientKey;
use crate::sip::vocabulary::{Method, NewRequest};

impl Engine {
    /// BYE to one party (RFC 3261 §15.1.1).
    pub(super) fn send_bye(
        &mut self,
        call: &mut Call,
        to: Side,
        now: Instant,
        effects: &mut Effects,
    ) {
        let call_id = call.call_id.clone();
        let Some(from) = call.leg(to.other()).map(|leg| leg.party.clone()) else {
            return;
        };
        let Some(leg) = call.leg_mut(to) else { return };
        let cseq = leg.numbers.take();
        let leg = leg.clone();
        let hop = leg.next_hop();
        let branch = self.names.branch();
        let Some(via) = self.via(leg.network, hop, &branch) else {
            return;
        };
        let routes: Vec<&[u8]> = leg.routes.iter().map(|route| &route[..]).collect();
        let bytes = NewRequest {
            method: Method::Bye,
            uri: &leg.target,
            via: via.as_bytes(),
            from: &from,
            to: &leg.party,
            call_id: &call_id,
            cseq,
            max_forwards: super::MAX_FORWARDS,
            contact: None,
            routes: &routes,
            extra: &[],
            body: None,
        }
        .build();
        self.launch(branch, bytes, hop, Purpose::Own, now, effects);
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
        let Some(network) = self.config.network_of(path.on.local.ip(), path.to.ip()) else {
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
