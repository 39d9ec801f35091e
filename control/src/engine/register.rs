//! REGISTER (RFC 3261 §10.3): who is where.

pub(super) mod forward;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::config::{self, Auth, KeepAlive, NatMode};
use crate::effect::{Effect, Effects};
use crate::engine::admin::text;
use crate::engine::event::Kind;
use crate::engine::relay::Purpose;
use crate::engine::{Engine, Request};
use crate::id::{Aor, NetworkId, Path};
use crate::nat::policy::{Seen, natted};
use crate::sip::dialog::contact_uri;
use crate::sip::index::{Message, Name};
use crate::sip::registrar::{self, Binding, Change, Registration};
use crate::sip::uri::Uri;
use crate::sip::value::{Contact, NameAddr, delta_seconds};
use crate::sip::vocabulary::{Method, NewRequest};

/// Who registered. After a reboot it is another client.
#[derive(Eq, PartialEq)]
struct Client {
    call_id: Vec<u8>,
    /// Its instance, or else its contact.
    name: Vec<u8>,
}

pub(super) fn settings(sip: &config::Sip) -> registrar::Settings {
    registrar::Settings {
        expires_min: sip.expires_min,
        expires_max: sip.expires_max,
        expires_natted_max: sip.expires_natted_max,
    }
}

impl Engine {
    pub(super) fn register(&mut self, request: Request, now: Instant, effects: &mut Effects) {
        let aor = self.aor(&request.message, now);
        let forwarded = aor.clone().filter(|aor| self.is_forwarded(aor, &request));
        let heard = if forwarded.is_some() {
            let account = self.account_of(&request.message, Name::Authorization);
            self.may_try(&request, &account, now)
        } else {
            self.admit(&request, now, effects)
        };
        if !heard {
            return;
        }
        let message = &request.message;
        let Some(aor) = aor else {
            self.counters.count("sip_refused", "not_our_domain");
            return self.answer(&request, 404, now, effects);
        };
        let Some((changes, star)) = changes(message) else {
            self.counters.count("sip_malformed", "contact");
            return self.answer(&request, 400, now, effects);
        };
        let registration = self.registration(&request, changes, star);
        if forwarded.is_some() {
            self.forward_registration(&request, aor, registration, now, effects);
        } else {
            self.accept_registration(&request, &aor, &registration, now, effects);
        }
    }

    fn registration(&self, request: &Request, contacts: Vec<Change>, star: bool) -> Registration {
        let message = &request.message;
        Registration {
            contacts,
            star,
            call_id: message.call_id().to_vec(),
            cseq: message.cseq().0,
            path: request.path,
            network: request.network,
            natted: self.natted(request.network, message, request.path),
            via: seen(message, request.path.to).via.map(SocketAddr::from),
            route: message
                .values(Name::Path)
                .iter()
                .map(|range| message.slice(range).to_vec())
                .collect(),
            expires: message
                .get(Name::Expires)
                .and_then(delta_seconds)
                .map(|s| Duration::from_secs(s.into())),
            user_agent: message.get(Name::UserAgent).map(text),
        }
    }

    /// A REGISTER that may be obeyed.
    fn accept_registration(
        &mut self,
        request: &Request,
        aor: &Aor,
        registration: &Registration,
        now: Instant,
        effects: &mut Effects,
    ) {
        let before = self.flows_of(aor, now);
        let known = self.clients_of(aor, now);
        let outcome = self.registrar.register(aor, registration, now);
        match outcome.map(|bindings| listed(&bindings, now)) {
            Ok(mut headers) => {
                self.counters.count("sip_registration", "accepted");
                for _ in 0..self.follow_registration(&before, &self.flows_of(aor, now)) {
                    self.counters.count("sip_registration", "moved");
                }
                self.note_clients(aor, &known, now);
                self.tell_registrations(now, effects);
                if is_outbound(&request.message, registration) {
                    headers.push(("Require", "outbound".to_owned()));
                }
                self.answer_with(request, 200, &headers, now, effects);
            }
            Err(refused) => self.refuse_registration(request, aor, refused, now, effects),
        }
    }

    fn refuse_registration(
        &mut self,
        request: &Request,
        aor: &Aor,
        refused: registrar::Refused,
        now: Instant,
        effects: &mut Effects,
    ) {
        self.counters.count("sip_registration", reason(refused));
        let why = vec![("why", reason(refused).to_owned())];
        self.note_rarely(now, Kind::RegistrationRefused, aor.as_str(), why);
        let extra: &[(&str, String)] = match refused {
            registrar::Refused::IntervalTooBrief(least) => {
                &[("Min-Expires", least.as_secs().to_string())]
            }
            registrar::Refused::OutOfOrder
            | registrar::Refused::TooMany
            | registrar::Refused::TooLong
            | registrar::Refused::BadStar => &[],
        };
        self.answer_with(request, refused.code(), extra, now, effects);
    }

    /// Whether a REGISTER refreshes a binding that was made along another flow.
    pub(super) fn is_elsewhere(&self, message: &Message, path: Path, now: Instant) -> bool {
        let Some(aor) = self.aor(message, now) else {
            return false;
        };
        let changes = changes(message).map(|(changes, _)| changes);
        let mut known = changes
            .iter()
            .flatten()
            .filter_map(|change| self.registrar.find(&aor, change));
        known.any(|binding| binding.expires_at > now && binding.path != path)
    }

    /// Each client of an address-of-record, and the way to it.
    fn clients_of(&self, aor: &Aor, now: Instant) -> Vec<(String, Path)> {
        let bindings = self.registrar.fetch(aor, now).into_iter();
        let name = |b: &Binding| {
            let flow = b.reg_id.map(|id| format!(" {id}")).unwrap_or_default();
            text(b.instance.as_ref().unwrap_or(&b.contact)) + &flow
        };
        bindings.map(|b| (name(b), b.path)).collect()
    }

    /// Says which clients are new, came another way, or left.
    fn note_clients(&mut self, aor: &Aor, before: &[(String, Path)], now: Instant) {
        let after = self.clients_of(aor, now);
        for (client, path) in &after {
            let old = before.iter().find(|(known, _)| known == client);
            let (kind, was) = match old {
                None => (Kind::RegistrationNew, None),
                Some((_, old)) if old != path => (Kind::RegistrationMoved, Some(old.to)),
                Some(_) => continue,
            };
            let mut fields = vec![("client", client.clone()), ("source", path.to.to_string())];
            fields.extend(was.map(|was| ("before", was.to_string())));
            self.note(now, kind, aor.as_str(), fields);
        }
        for (client, _) in before {
            if !after.iter().any(|(known, _)| known == client) {
                let fields = vec![("client", client.clone()), ("why", "client".to_owned())];
                self.note(now, Kind::RegistrationEnded, aor.as_str(), fields);
            }
        }
    }

    /// Each client of an address-of-record that is behind NAT or came by a connection, and the way
    /// to it.
    fn flows_of(&self, aor: &Aor, now: Instant) -> Vec<(Client, Path)> {
        let bindings = self.registrar.fetch(aor, now).into_iter();
        bindings
            .filter(|binding| binding.natted || binding.path.on.transport.is_reliable())
            .map(|binding| {
                let name = binding.instance.as_ref().unwrap_or(&binding.contact);
                let client = Client {
                    call_id: binding.call_id.clone(),
                    name: name.clone(),
                };
                (client, binding.path)
            })
            .collect()
    }

    /// A NAT gave a phone another port, and its registration says so: requests of its calls go
    /// there too. Media follows by itself. Returns how many have moved.
    fn follow_registration(
        &mut self,
        before: &[(Client, Path)],
        after: &[(Client, Path)],
    ) -> usize {
        let mut moved = 0;
        for (client, new) in after {
            let mut old = before.iter().filter(|(other, _)| other == client);
            let Some((_, old)) = old.find(|(_, old)| old != new) else {
                continue;
            };
            moved += 1;
            for leg in self.calls.values_mut().flat_map(|call| call.legs_mut()) {
                if (leg.natted || old.on.transport.is_reliable()) && leg.path == *old {
                    leg.path = *new;
                }
            }
        }
        moved
    }

    /// What an address-of-record has, for the other shards.
    #[must_use]
    pub fn bindings(&self, aor: &Aor) -> Arc<[Binding]> {
        self.registrar.list(aor)
    }

    /// The first shard's registrations have changed: calls that are here follow.
    pub(super) fn published(&mut self, aor: Aor, bindings: Arc<[Binding]>, now: Instant) {
        if self.config.sip.auth != Auth::None {
            for binding in bindings.iter() {
                self.guard.registered(binding.path.to, binding.expires_at);
            }
        }
        let before = self.flows_of(&aor, now);
        self.registrar.mirror(aor.clone(), bindings);
        let after = self.flows_of(&aor, now);
        self.follow_registration(&before, &after);
    }

    /// Whether the sender of a request is behind a NAT, as its network has it.
    pub(super) fn natted(&self, network: NetworkId, message: &Message, path: Path) -> bool {
        match self.network(network).map(|network| network.nat) {
            Some(NatMode::Always) => true,
            Some(NatMode::Never) => false,
            Some(NatMode::Auto) | None => {
                let mut seen = seen(message, path.to);
                if path.on.transport.is_reliable() {
                    // A connection comes from any port: only hosts can contradict each other.
                    let port = path.to.port();
                    seen.via = seen.via.map(|(ip, _)| (ip, port));
                    seen.contact = seen.contact.map(|(ip, _)| (ip, port));
                }
                natted(&seen)
            }
        }
    }

    /// The address-of-record a REGISTER speaks of, if it is in our domain.
    fn aor(&self, message: &Message, now: Instant) -> Option<Aor> {
        let to = NameAddr::parse(message.get(Name::To)?)?;
        let uri = Uri::parse(to.uri).filter(|uri| self.is_ours(uri, now))?;
        Some(Aor::new(&uri.user_decoded()?, &self.config.sip.domain))
    }

    pub(super) fn sweep_registrations(&mut self, now: Instant, effects: &mut Effects) {
        for (aor, binding) in self.registrar.expire(now) {
            self.counters.count("sip_registration", "expired");
            let why = vec![("why", "expired".to_owned())];
            self.note(now, Kind::RegistrationEnded, aor.as_str(), why);
            self.withdraw(&aor, &binding, now, effects);
        }
        self.tell_registrations(now, effects);
        self.keep_alive(now, effects);
    }

    /// Forgets every binding of an address-of-record. Returns how many there were.
    pub(super) fn drop_registration(
        &mut self,
        aor: &Aor,
        now: Instant,
        effects: &mut Effects,
    ) -> usize {
        let bindings = self.registrar.fetch(aor, now).into_iter().cloned();
        for binding in bindings.collect::<Vec<_>>() {
            self.withdraw(aor, &binding, now, effects);
        }
        let count = self.registrar.remove(aor);
        self.tell_registrations(now, effects);
        count
    }

    /// Keeps the way open to clients behind a NAT, each when it is due.
    fn keep_alive(&mut self, now: Instant, effects: &mut Effects) {
        let mut asked = Vec::new();
        // A connection is kept open by its client, and by TCP itself.
        let datagrams = |b: &Binding| b.natted && !b.path.on.transport.is_reliable();
        for (aor, binding) in self.registrar.iter().filter(|(_, b)| datagrams(b)) {
            let Path { on, to } = binding.path;
            let Some(network) = self.network(binding.network) else {
                continue;
            };
            // Spread over the period by port, so that a full registrar sends no bursts.
            let every = network.keepalive_interval.as_secs().max(1);
            if u64::from(to.port()) % every != self.sweeps % every {
                continue;
            }
            match network.keepalive {
                KeepAlive::Off => {}
                KeepAlive::Crlf => {
                    self.counters.count("sip_keep_alive", "sent");
                    // RFC 5626 §4.4.1.
                    let bytes = Bytes::from_static(b"\r\n\r\n");
                    effects.push(Effect::Send { on, to, bytes });
                }
                KeepAlive::Options => asked.push((aor.clone(), binding.clone())),
            }
        }
        for (aor, binding) in asked {
            self.counters.count("sip_keep_alive", "asked");
            self.prod(&aor, &binding, now, effects);
        }
    }

    /// OPTIONS to a client: what it answers does not matter, that it does keeps the way open.
    fn prod(&mut self, aor: &Aor, binding: &Binding, now: Instant, effects: &mut Effects) {
        let branch = self.names.branch();
        let Some(via) = self.via(binding.network, binding.path, &branch) else {
            return;
        };
        let (tag, call_id) = (self.names.token(), self.own_call_id());
        let domain = &self.config.sip.domain;
        let user = aor.as_str().rsplit_once('@').map_or("", |(user, _)| user);
        let bytes = NewRequest {
            method: Method::Options,
            uri: &binding.contact,
            via: via.as_bytes(),
            from: format!("<sip:{domain}>;tag={tag}").as_bytes(),
            to: format!("<sip:{}@{domain}>", forward::escaped(user)).as_bytes(),
            call_id: call_id.as_bytes(),
            cseq: 1,
            max_forwards: super::MAX_FORWARDS,
            contact: None,
            routes: &[],
            extra: &[],
            body: None,
        }
        .build();
        self.launch(branch, bytes, binding.path, Purpose::Own, now, effects);
    }
}

/// Whether the answer must say that flows are kept apart (RFC 5626 §6).
fn is_outbound(message: &Message, registration: &Registration) -> bool {
    let flow = |change: &Change| change.instance.is_some() && change.reg_id.is_some();
    message.has_option(Name::Supported, b"outbound") && registration.contacts.iter().any(flow)
}

/// The Contacts of a 200 (RFC 3261 §10.3 step 8).
fn listed(bindings: &[&Binding], now: Instant) -> Vec<(&'static str, String)> {
    let one = |b: &&Binding| {
        let left = b.expires_at.saturating_duration_since(now).as_secs();
        ("Contact", format!("<{}>;expires={left}", text(&b.contact)))
    };
    bindings.iter().map(one).collect()
}

/// What a message claims about its sender, and what the packet says.
fn seen(message: &Message, source: SocketAddr) -> Seen {
    let via = message.top_via();
    let via = via.host_ip().map(|ip| (ip, via.port.unwrap_or(5060)));
    let contact = contact_uri(message);
    Seen {
        source,
        via,
        contact: contact.as_deref().and_then(uri_address),
    }
}

/// Host and port of a URI, if the host is an address.
fn uri_address(uri: &[u8]) -> Option<(IpAddr, u16)> {
    let uri = Uri::parse(uri)?;
    Some((uri.host.ip()?, uri.port.unwrap_or(5060)))
}

/// Contact elements of a REGISTER; None if one cannot be read.
fn changes(message: &Message) -> Option<(Vec<Change>, bool)> {
    let mut changes = Vec::new();
    let mut star = false;
    for range in message.values(Name::Contact) {
        match Contact::parse(message.slice(&range))? {
            Contact::Star => star = true,
            Contact::Addr(contact) => changes.push(Change {
                contact: contact.uri.to_vec(),
                claimed: uri_address(contact.uri).map(SocketAddr::from),
                instance: contact.instance().map(<[u8]>::to_vec),
                reg_id: contact.reg_id(),
                expires: contact.expires().map(|s| Duration::from_secs(s.into())),
                q: contact.q().unwrap_or(registrar::Q_DEFAULT),
                granted_max: None,
                upstream: None,
            }),
        }
    }
    Some((changes, star))
}

/// A refusal's name in the counters.
fn reason(refused: registrar::Refused) -> &'static str {
    match refused {
        registrar::Refused::IntervalTooBrief(_) => "interval_too_brief",
        registrar::Refused::OutOfOrder => "out_of_order",
        registrar::Refused::TooMany => "too_many",
        registrar::Refused::BadStar => "bad_star",
        registrar::Refused::TooLong => "too_long",
    }
}
