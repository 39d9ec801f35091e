//! Registrations kept by a peer, with us in front of it (RFC 3261 §16, RFC 3327): the phone is
//! granted a short time, the registrar asked for a long one, and a refresh answered here while the
//! registrar's word on that phone is fresh. Only the registrar judges credentials.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use crate::config::{Peer, RegisterBy};
use crate::effect::Effects;
use crate::engine::event::Kind;
use crate::engine::relay::{Origin, Purpose};
use crate::engine::route::Target;
use crate::engine::{Engine, Request, forwards_left};
use crate::id::{Aor, NetworkId, Path};
use crate::sip::b2bua::{self, Back};
use crate::sip::digest::Credentials;
use crate::sip::index::{Message, Name};
use crate::sip::registrar::upstream::{self, By, Onward, Upstream};
use crate::sip::registrar::{Binding, Change, Registration};
use crate::sip::transaction::ClientKey;
use crate::sip::uri::Uri;
use crate::sip::value::NameAddr;
use crate::sip::vocabulary::{Method, NewRequest};

/// In a Contact or Path of ours: the binding it stands for.
pub(in crate::engine) const BINDING: &str = "tpr";

/// A REGISTER on its way to the registrar.
pub(in crate::engine) struct Forwarded {
    aor: Aor,
    registration: Registration,
    peer: String,
    by: By,
    /// One for each contact.
    tokens: Vec<String>,
    onward: Vec<Onward>,
    vouched: u64,
    /// Ways to the registrar not tried yet, best first.
    ways: VecDeque<(NetworkId, Path)>,
}

impl Forwarded {
    pub(in crate::engine) fn has_other_ways(&self) -> bool {
        !self.ways.is_empty()
    }
}

/// What a REGISTER asks for, and whose word that is.
struct Asked {
    aor: Aor,
    registration: Registration,
    vouched: u64,
}

impl Engine {
    /// The peer that keeps the registrations of whoever has no account here.
    pub(in crate::engine) fn registrar_peer(&self) -> Option<&Peer> {
        self.config.sip.peers.iter().find(|p| p.forward.is_some())
    }

    /// Whether a REGISTER is the peer's to judge: of nobody with an account here, nor the peer's.
    pub(super) fn is_forwarded(&self, aor: &Aor, request: &Request) -> bool {
        let user = aor.as_str().rsplit_once('@').map(|(user, _)| user);
        self.registrar_peer().is_some()
            && user.is_some_and(|user| self.account(user).is_none())
            && self.peer_at(request.path, request.network).is_none()
    }

    pub(super) fn forward_registration(
        &mut self,
        request: &Request,
        aor: Aor,
        registration: Registration,
        now: Instant,
        effects: &mut Effects,
    ) {
        let bindings = match self.registrar.weigh(&aor, &registration, now) {
            Ok(bindings) => bindings,
            Err(refused) => return self.refuse_registration(request, &aor, refused, now, effects),
        };
        let vouched = vouched(&request.message);
        if self.is_fresh(&aor, &registration, &bindings, vouched, now) {
            self.counters.count("sip_registration", "refreshed_here");
            return self.accept_registration(request, &aor, &registration, now, effects);
        }
        let peer = self.registrar_peer();
        let ways = peer.map(|peer| self.ways_to_peer(peer, user_of(&aor), now));
        let asked = Asked {
            aor,
            registration,
            vouched,
        };
        let ways = ways.unwrap_or_default().into();
        self.ask_registrar(request, asked, ways, now, effects);
    }

    /// Passes it on by the first of these ways, or says that there is none.
    fn ask_registrar(
        &mut self,
        request: &Request,
        asked: Asked,
        ways: VecDeque<(NetworkId, Path)>,
        now: Instant,
        effects: &mut Effects,
    ) {
        if self
            .pass_to_registrar(request, asked, ways, now, effects)
            .is_none()
        {
            self.counters
                .count("sip_registration", "registrar_unreachable");
            self.answer(request, 503, now, effects);
        }
    }

    /// One address of the registrar does not serve: the next is asked.
    pub(in crate::engine) fn register_elsewhere(
        &mut self,
        origin: &Origin,
        forwarded: Forwarded,
        now: Instant,
        effects: &mut Effects,
    ) {
        self.counters.count("sip_registration", "next_target");
        let request = Request {
            key: origin.key.clone(),
            message: origin.request.clone(),
            path: forwarded.registration.path,
            network: forwarded.registration.network,
        };
        let asked = Asked {
            aor: forwarded.aor,
            registration: forwarded.registration,
            vouched: forwarded.vouched,
        };
        self.ask_registrar(&request, asked, forwarded.ways, now, effects);
    }

    /// Whether a REGISTER does nothing but prolong bindings which the registrar keeps for longer,
    /// by the flow and the credentials that it took lately (RFC 5626 §5.2, RFC 7616 §5.12).
    fn is_fresh(
        &self,
        aor: &Aor,
        registration: &Registration,
        after: &[Binding],
        vouched: u64,
        now: Instant,
    ) -> bool {
        let before = self.registrar.fetch(aor, now);
        let same = |change: &Change| {
            let old = before.iter().find(|b| b.contact == change.contact);
            let new = after.iter().find(|b| b.contact == change.contact);
            let (Some(old), Some(new)) = (old, new) else {
                return false;
            };
            let granted = new.expires_at.saturating_duration_since(now);
            let covered = |upstream: &Upstream| {
                let peer = self.registrar_peer();
                peer.is_some_and(|peer| peer.name == upstream.peer)
                    && upstream.covers(vouched, granted, now)
            };
            old.path == registration.path
                && old.call_id == registration.call_id
                && (&old.instance, old.reg_id, old.q) == (&change.instance, change.reg_id, change.q)
                && old.upstream.as_deref().is_some_and(covered)
        };
        !registration.star
            && !registration.contacts.is_empty()
            && registration.contacts.iter().all(same)
    }

    /// Sends it on. None: there is no way, or no room for another transaction.
    fn pass_to_registrar(
        &mut self,
        request: &Request,
        asked: Asked,
        mut ways: VecDeque<(NetworkId, Path)>,
        now: Instant,
        effects: &mut Effects,
    ) -> Option<ClientKey> {
        let Asked {
            aor,
            registration,
            vouched,
        } = asked;
        let message = &request.message;
        let peer = self.registrar_peer()?;
        let forward = peer.forward?;
        let name = peer.name.clone();
        let (network, path) = ways.pop_front()?;
        let more = !ways.is_empty();
        let tokens: Vec<String> = registration
            .contacts
            .iter()
            .map(|change| self.binding_token(&aor, change))
            .collect();
        let us = self.told_at(network, path)?;
        let user = to_user(message)?;
        let wish = |change: &Change| match change.expires.or(registration.expires) {
            Some(wish) if wish.is_zero() => wish,
            wish => wish.unwrap_or_default().max(forward.expires),
        };
        let onward: Vec<Onward> = std::iter::zip(&registration.contacts, &tokens)
            .map(|(change, token)| Onward {
                uri: format!("sip:{user}@{us};{BINDING}={token}"),
                expires: wish(change),
            })
            .collect();
        let branch = self.names.branch();
        let via = self.via(network, path, &branch)?;
        let left = forwards_left(message);
        let by = match forward.by {
            RegisterBy::Contact => By::Contact,
            RegisterBy::Path => By::Path,
        };
        let bytes = upstream::request(message, &via, left, by, &onward);
        let origin = Origin {
            key: request.key.clone(),
            request: message.clone(),
        };
        let forwarded = Forwarded {
            aor,
            registration,
            peer: name,
            by,
            tokens,
            onward,
            vouched,
            ways,
        };
        let purpose = Purpose::Register {
            origin,
            forwarded: Box::new(forwarded),
        };
        self.counters.count("sip_registration", "forwarded");
        let client = self.launch(branch, bytes, path, purpose, now, effects)?;
        if more {
            self.attempted(&client, path, now);
        }
        Some(client)
    }

    /// The registrar's final word.
    pub(in crate::engine) fn registrar_answered(
        &mut self,
        origin: &Origin,
        forwarded: Forwarded,
        code: u16,
        answer: &Message,
        now: Instant,
        effects: &mut Effects,
    ) {
        let request = Request {
            key: origin.key.clone(),
            message: origin.request.clone(),
            path: forwarded.registration.path,
            network: forwarded.registration.network,
        };
        let serves = !matches!(code, 408 | 500..=599);
        if !serves && forwarded.has_other_ways() {
            return self.register_elsewhere(origin, forwarded, now, effects);
        }
        if !(200..300).contains(&code) {
            return self.registrar_refused(&request, &forwarded, code, answer, now, effects);
        }
        let Forwarded {
            aor,
            mut registration,
            peer,
            by,
            tokens,
            onward,
            vouched,
            ..
        } = forwarded;
        for (change, (token, onward)) in registration
            .contacts
            .iter_mut()
            .zip(tokens.iter().zip(&onward))
        {
            let uri = match by {
                By::Contact => onward.uri.as_bytes(),
                By::Path => &change.contact,
            };
            let granted = upstream::granted(answer, uri, onward.expires);
            if onward.expires.is_zero() || granted.is_zero() {
                change.expires = Some(Duration::ZERO);
                continue;
            }
            change.granted_max = Some(granted);
            change.upstream = Some(Box::new(Upstream {
                peer: peer.clone(),
                token: token.clone(),
                expires_at: now + granted,
                vouched_at: now,
                vouched,
            }));
        }
        if by == By::Path && !onward.is_empty() && answer.get(Name::Path).is_none() {
            self.counters.count("sip_registration", "path_ignored");
            let why = vec![("why", format!("{peer} does not know Path: calls bypass us"))];
            self.note_rarely(now, Kind::RegistrationRefused, aor.as_str(), why);
        }
        let account = self.account_of(&request.message, Name::Authorization);
        self.proven(request.path.to, &account, now);
        self.accept_registration(&request, &aor, &registration, now, effects);
    }

    /// A challenge is for the client to answer, and no refusal takes away what there is.
    fn registrar_refused(
        &mut self,
        request: &Request,
        forwarded: &Forwarded,
        code: u16,
        answer: &Message,
        now: Instant,
        effects: &mut Effects,
    ) {
        if !matches!(code, 401 | 407 | 423) {
            self.counters.count("sip_registration", "registrar_refused");
            let why = vec![("why", format!("{} answered {code}", forwarded.peer))];
            let aor = forwarded.aor.as_str();
            self.note_rarely(now, Kind::RegistrationRefused, aor, why);
        }
        let back = Back {
            request: &request.message,
            contact: None,
            told: self.told_back(&request.message),
            body: None,
        };
        let bytes = b2bua::response(answer, back);
        if self.is_unproven(request.path, now) {
            return self.answer_stranger(request, code, bytes, now, effects);
        }
        self.respond(&request.key, code, bytes, now, effects);
    }

    /// The registrar did not answer; nor is the client, whose own transaction has ended too
    /// (RFC 4320 §4.2).
    pub(in crate::engine) fn registrar_silent(&mut self, forwarded: &Forwarded, now: Instant) {
        self.counters.count("sip_registration", "registrar_silent");
        let why = vec![("why", format!("{} does not answer", forwarded.peer))];
        let aor = forwarded.aor.as_str();
        self.note_rarely(now, Kind::RegistrationRefused, aor, why);
    }

    /// A binding is over here that the registrar would go on with: it is told (RFC 3261 §10.2.2).
    pub(super) fn withdraw(
        &mut self,
        aor: &Aor,
        binding: &Binding,
        now: Instant,
        effects: &mut Effects,
    ) -> Option<ClientKey> {
        let upstream = binding.upstream.as_deref().filter(|u| u.expires_at > now)?;
        let peers = self.config.sip.peers.iter();
        let peer = peers.clone().find(|peer| peer.name == upstream.peer)?;
        let forward = peer.forward?;
        let ways = self.ways_to_peer(peer, user_of(aor), now);
        let (network, path) = *ways.first()?;
        let us = self.told_at(network, path)?;
        let (user, domain) = aor.as_str().rsplit_once('@')?;
        let user = escaped(user);
        let way = format!("sip:{user}@{us};{BINDING}={}", upstream.token);
        let (contact, extra) = match forward.by {
            RegisterBy::Contact => (format!("<{way}>;expires=0"), None),
            RegisterBy::Path => {
                let theirs = String::from_utf8_lossy(&binding.contact);
                (
                    format!("<{theirs}>;expires=0"),
                    Some(("Path", format!("<{way};lr>"))),
                )
            }
        };
        let party = format!("<sip:{user}@{domain}>");
        let tag = self.names.token();
        let branch = self.names.branch();
        let via = self.via(network, path, &branch)?;
        let bytes = NewRequest {
            method: Method::Register,
            uri: format!("sip:{domain}").as_bytes(),
            via: via.as_bytes(),
            from: format!("{party};tag={tag}").as_bytes(),
            to: party.as_bytes(),
            call_id: &binding.call_id,
            cseq: binding.cseq.saturating_add(1),
            max_forwards: crate::engine::MAX_FORWARDS,
            contact: Some(contact.as_bytes()),
            routes: &[],
            extra: extra.as_slice(),
            body: None,
        }
        .build();
        self.counters.count("sip_registration", "withdrawn");
        self.launch(branch, bytes, path, Purpose::Own, now, effects)
    }

    /// Where the registrar reaches us, as a URI says it.
    fn told_at(&self, network: NetworkId, path: Path) -> Option<String> {
        let host = self.advertised(self.network(network)?, path.on);
        Some(format!("{host}{}", path.on.transport.param()))
    }

    /// The same for the same client, whatever its address; nobody else can guess it.
    fn binding_token(&self, aor: &Aor, change: &Change) -> String {
        let known = self.registrar.find(aor, change);
        if let Some(upstream) = known.and_then(|binding| binding.upstream.as_deref()) {
            return upstream.token.clone();
        }
        let reg_id = change.reg_id.unwrap_or(0).to_be_bytes();
        let name = change.instance.as_ref().unwrap_or(&change.contact);
        self.names
            .name_of(&[aor.as_str().as_bytes(), name, &reg_id])
    }

    /// The binding that a URI of ours stands for: a keyed hash in it proves that we gave it away.
    /// None: it stands for none; an empty list: for one that is over.
    pub(in crate::engine) fn bound_by(&self, uri: &Uri<'_>, now: Instant) -> Option<Vec<Target>> {
        let token = uri.param(BINDING.as_bytes()).flatten()?;
        let aor = Aor::new(&uri.user_decoded()?, &self.config.sip.domain);
        let bindings = self.registrar.fetch(&aor, now).into_iter();
        let named = |b: &&Binding| {
            let upstream = b.upstream.as_deref();
            let named = upstream.is_some_and(|upstream| upstream.token.as_bytes() == token);
            named && self.is_reachable(b.path)
        };
        Some(
            bindings
                .filter(named)
                .filter_map(|b| self.target(b))
                .collect(),
        )
    }

    /// The URI that says where a request goes: a Route of ours that stands for a binding (RFC 3327
    /// §5.4), or else its request-URI.
    pub(in crate::engine) fn asked<'m>(&self, message: &'m Message, now: Instant) -> &'m [u8] {
        let routes = message.values(Name::Route);
        let top = routes.first().map(|range| message.slice(range));
        let route = top.and_then(NameAddr::parse).map(|route| route.uri);
        let ours = |uri: &&[u8]| {
            let uri = Uri::parse(uri);
            uri.is_some_and(|uri| {
                uri.param(BINDING.as_bytes()).is_some() && self.is_ours(&uri, now)
            })
        };
        let range = || message.uri_range().map(|range| message.slice(&range));
        route.filter(ours).or_else(range).unwrap_or_default()
    }

    /// Whether a request comes along the flow of a binding that a peer keeps: who sends it, the
    /// registrar has said; whether it may, it says again.
    pub(in crate::engine) fn is_vouched(
        &self,
        message: &Message,
        path: Path,
        network: NetworkId,
        now: Instant,
    ) -> bool {
        let from = message.get(Name::From).and_then(NameAddr::parse);
        let uri = from.and_then(|from| Uri::parse(from.uri));
        let Some(user) = uri.and_then(|uri| uri.user_decoded()) else {
            return false;
        };
        let aor = Aor::new(&user, &self.config.sip.domain);
        let bindings = self.registrar.fetch(&aor, now).into_iter();
        let mut flows = bindings.filter(|b| b.upstream.is_some());
        self.registrar_peer().is_some() && flows.any(|b| (b.path, b.network) == (path, network))
    }
}

/// Which credentials a REGISTER carries: who, for which realm, by which nonce.
fn vouched(message: &Message) -> u64 {
    let mut hash = Sha256::new();
    for field in message.all(Name::Authorization) {
        if let Some(credentials) = Credentials::parse(message.slice(&field.value)) {
            for part in [
                &credentials.username,
                &credentials.realm,
                &credentials.nonce,
            ] {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
        }
    }
    let hash = hash.finalize();
    let first = hash.first_chunk().copied().unwrap_or_default();
    u64::from_be_bytes(first)
}

/// The user part of an address-of-record.
fn user_of(aor: &Aor) -> &[u8] {
    let parts = aor.as_str().rsplit_once('@');
    parts.map_or(b"", |(user, _)| user.as_bytes())
}

/// The user part of To, as it was written.
fn to_user(message: &Message) -> Option<String> {
    let to = NameAddr::parse(message.get(Name::To)?)?;
    let user = Uri::parse(to.uri)?.user?;
    String::from_utf8(user.to_vec()).ok()
}

/// A user part as it may stand in a URI (RFC 3261 §25.1).
pub(in crate::engine) fn escaped(user: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&byte);
    user.bytes()
        .map(|byte| match plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}
