//! Who may use the edge: trusted peers by address, everybody else by digest (RFC 3261 §22).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::config::{self, Account, Auth, Peer, Secret};
use crate::effect::{Effect, Effects};
use crate::engine::event::Kind;
use crate::engine::{Engine, Request};
use crate::id::{Aor, NetworkId, Path};
use crate::sip::digest::{self, Algorithm, Credentials, Verdict};
use crate::sip::index::{Message, Name};
use crate::sip::uri::{Host, Uri};
use crate::sip::value::NameAddr;
use crate::sip::vocabulary::Method;

impl Engine {
    /// Whether the request may pass; if not, it has been answered.
    pub(super) fn admit(&mut self, request: &Request, now: Instant, effects: &mut Effects) -> bool {
        if self.config.sip.auth == Auth::None
            || self.peer_at(request.path, request.network).is_some()
            || self.is_vouched(&request.message, request.path, request.network, now)
        {
            self.accepted(request.path.to, now);
            return true;
        }
        let (field, challenge, code) = match request.message.method() {
            Some(Method::Register) => (Name::Authorization, "WWW-Authenticate", 401),
            _ => (Name::ProxyAuthorization, "Proxy-Authenticate", 407),
        };
        let account = self.account_of(&request.message, field);
        self.challenger.set_algorithm(self.algorithm_for(&account));
        if !self.may_try(request, &account, now) {
            return false;
        }
        let verdict = self.verify(&request.message, field, now);
        let stale = match verdict {
            // Who comes another way proves itself anew, not with what may have been overheard.
            Some(Verdict::Ok) if self.has_moved(request, now) => {
                self.counters.count("sip_auth", "moved");
                true
            }
            Some(Verdict::Ok) => {
                self.proven(request.path.to, &account, now);
                self.tell_spent(&request.message, field, now, effects);
                let ours = self.speaks_for_itself(&request.message, field);
                if !ours {
                    self.counters.count("sip_refused", "someone_elses_identity");
                    self.answer(request, 403, now, effects);
                }
                return ours;
            }
            Some(Verdict::Stale) => true,
            Some(Verdict::Wrong) => {
                self.counters.count("sip_auth", "wrong");
                self.wrong(request.path.to, &account, now, effects);
                self.note_wrong(&request.message, now);
                false
            }
            Some(Verdict::Replay) => {
                self.counters.count("sip_auth", "replay");
                true
            }
            None => false,
        };
        self.counters.count("sip_auth", "challenged");
        let at = now.saturating_duration_since(self.started);
        let value = self.challenger.challenge(at, stale);
        self.answer_with(request, code, &[(challenge, value)], now, effects);
        false
    }

    /// Other shards are told what they could be asked to take again: a REGISTER comes here only,
    /// and its credentials are good for nothing else.
    fn tell_spent(&self, message: &Message, field: Name, now: Instant, effects: &mut Effects) {
        if self.shard.of() == 1 || field == Name::Authorization {
            return;
        }
        let at = now.saturating_duration_since(self.started);
        let credentials = credentials(message, field, &self.config.sip.domain);
        let spent = credentials.and_then(|c| self.challenger.spent(&c, at));
        effects.extend(spent.map(Effect::Spent));
    }

    /// The trusted peer a request comes from, by its address in a network that holds it.
    pub(super) fn peer_at(&self, path: Path, network: NetworkId) -> Option<&Peer> {
        let from = path.to.ip();
        self.peer_from(from)
            .filter(|_| self.config.network_to(from) == Some(network))
    }

    /// Checks the credentials that name our realm, if there are any.
    fn verify(&mut self, message: &Message, field: Name, now: Instant) -> Option<Verdict> {
        let credentials = credentials(message, field, &self.config.sip.domain)?;
        // RFC 7616 §3.4.3: a proof for another resource is none for this one.
        if !is_asked_for(message, &credentials.uri) {
            return Some(Verdict::Wrong);
        }
        let user = std::str::from_utf8(&credentials.username);
        let place = user.ok().and_then(|user| self.accounts.get(user));
        let account = place.and_then(|place| self.config.sip.accounts.get(*place));
        let secret = account.map(|a| match &a.secret {
            Secret::Password(password) => digest::Secret::Password(password),
            Secret::Ha1Md5(ha1) | Secret::Ha1Sha256(ha1) => digest::Secret::Ha1(ha1.as_bytes()),
        });
        let method = message
            .method()
            .map(|m| m.as_bytes().to_vec())
            .unwrap_or_default();
        let at = now.saturating_duration_since(self.started);
        Some(
            self.challenger
                .verify(&method, &credentials, secret, message.body(), at),
        )
    }

    pub(super) fn account(&self, user: &str) -> Option<&Account> {
        self.config.sip.accounts.get(*self.accounts.get(user)?)
    }

    /// The hash that whoever sends a request is asked for: its account's. Who has none is asked as
    /// one of those who have, always the same way, so that it cannot be told from them.
    fn algorithm_for(&self, user: &[u8]) -> Algorithm {
        let sip = &self.config.sip;
        let name = std::str::from_utf8(user);
        let account = name.ok().and_then(|name| self.account(name)).or_else(|| {
            let number = u64::from_str_radix(&self.names.name_of(&[user]), 16);
            let count = u64::try_from(sip.accounts.len()).ok()?;
            let place = number.ok()?.checked_rem(count)?;
            sip.accounts.get(usize::try_from(place).ok()?)
        });
        match account.and_then(|a| a.algorithm).unwrap_or(sip.algorithm) {
            config::Algorithm::Md5 => Algorithm::Md5,
            config::Algorithm::Sha256 => Algorithm::Sha256,
        }
    }

    /// Whether a REGISTER refreshes a binding by another flow, with a nonce that was not asked for
    /// just now.
    fn has_moved(&self, request: &Request, now: Instant) -> bool {
        let message = &request.message;
        let moved = message.method() == Some(Method::Register)
            && self.is_elsewhere(message, request.path, now);
        let domain = &self.config.sip.domain;
        let Some(credentials) = credentials(message, Name::Authorization, domain).filter(|_| moved)
        else {
            return false;
        };
        let at = now.saturating_duration_since(self.started);
        let age = self.challenger.age(&credentials.nonce, at);
        age.is_none_or(|age| age > FRESH)
    }

    /// A wrong password of a user there is: strangers' guesses are only counted.
    fn note_wrong(&mut self, message: &Message, now: Instant) {
        let to = message.get(Name::To).and_then(NameAddr::parse);
        let user = to.and_then(|to| Uri::parse(to.uri)?.user_decoded());
        let register = message.method() == Some(Method::Register);
        let known = |user: &str| self.account(user).is_some();
        if let Some(user) = user.filter(|user| register && known(user)) {
            let aor = Aor::new(&user, &self.config.sip.domain);
            let why = vec![("why", "wrong password".to_owned())];
            self.note_rarely(now, Kind::RegistrationRefused, aor.as_str(), why);
        }
    }

    /// The account a request speaks for: in its credentials, or else in To or From.
    pub(super) fn account_of(&self, message: &Message, field: Name) -> Vec<u8> {
        if let Some(credentials) = credentials(message, field, &self.config.sip.domain) {
            return credentials.username;
        }
        let user = speaker(message).and_then(|uri| Uri::parse(uri)?.user_decoded());
        user.map(String::into_bytes).unwrap_or_default()
    }

    /// The user that proved itself is the one the message speaks for: To in REGISTER, else From.
    pub(super) fn speaks_for_itself(&self, message: &Message, field: Name) -> bool {
        let uri = speaker(message).and_then(Uri::parse);
        let Some(credentials) = credentials(message, field, &self.config.sip.domain) else {
            return false;
        };
        // RFC 3323 §4.1.1.3: who it is need not be said to everybody.
        let anonymous = |uri: &Uri<'_>| matches!(uri.host, Host::Name(b"anonymous.invalid"));
        if field == Name::ProxyAuthorization && uri.as_ref().is_some_and(anonymous) {
            return true;
        }
        let user = uri.and_then(|uri| uri.user_decoded());
        user.is_some_and(|user| user.as_bytes() == credentials.username)
    }
}

/// Whether the URI in credentials names what a request asks for. Parameters and ports may differ:
/// phones write the URI of a registrar in more than one way.
fn is_asked_for(message: &Message, uri: &[u8]) -> bool {
    let asked = message.uri_range().map(|range| message.slice(&range));
    let asked = asked.unwrap_or_default();
    let same = |one: Uri<'_>, two: Uri<'_>| {
        let hosts = match (one.host, two.host) {
            (Host::Name(one), Host::Name(two)) => one.eq_ignore_ascii_case(two),
            (one, two) => one == two,
        };
        hosts && one.user_decoded() == two.user_decoded()
    };
    let parsed = Uri::parse(asked).zip(Uri::parse(uri));
    asked == uri || parsed.is_some_and(|(one, two)| same(one, two))
}

/// A nonce this young was asked for by the way it comes back.
const FRESH: Duration = Duration::from_secs(10);

/// Where accounts stand in the configuration, by user.
pub(super) fn places(sip: &config::Sip) -> BTreeMap<String, usize> {
    let users = sip.accounts.iter().enumerate();
    users
        .map(|(at, account)| (account.user.clone(), at))
        .collect()
}

/// Whom a request speaks for: To in REGISTER, else From.
fn speaker(message: &Message) -> Option<&[u8]> {
    let named = match message.method() {
        Some(Method::Register) => Name::To,
        _ => Name::From,
    };
    Some(NameAddr::parse(message.get(named)?)?.uri)
}

/// The credentials for `realm` among those a message carries.
pub(super) fn credentials(message: &Message, field: Name, realm: &str) -> Option<Credentials> {
    message
        .all(field)
        .filter_map(|f| Credentials::parse(message.slice(&f.value)))
        .find(|c| c.realm == realm.as_bytes())
}
