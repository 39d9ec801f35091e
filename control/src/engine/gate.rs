//! Who may use the edge: trusted peers by address, everybody else by digest (RFC 3261 §22).

use std::time::Instant;

use crate::config::{self, Auth, Peer, Secret};
use crate::effect::Effects;
use crate::engine::event::Kind;
use crate::engine::{Engine, Request};
use crate::id::{Aor, NetworkId, Path};
use crate::sip::digest::{self, Algorithm, Credentials, Verdict};
use crate::sip::index::{Message, Name};
use crate::sip::uri::Uri;
use crate::sip::value::NameAddr;
use crate::sip::vocabulary::Method;

impl Engine {
    /// Whether the request may pass; if not, it has been answered.
    pub(super) fn admit(&mut self, request: &Request, now: Instant, effects: &mut Effects) -> bool {
        if self.config.sip.auth == Auth::None
            || self.peer_at(request.path, request.network).is_some()
        {
            self.accepted(request.path.to, now);
            return true;
        }
        let (field, challenge, code) = match request.message.method() {
            Some(Method::Register) => (Name::Authorization, "WWW-Authenticate", 401),
            _ => (Name::ProxyAuthorization, "Proxy-Authenticate", 407),
        };
        let account = self.account_of(&request.message, field);
        if !self.may_try(request, &account, now) {
            return false;
        }
        let verdict = self.verify(&request.message, field, now);
        let stale = match verdict {
            Some(Verdict::Ok) => {
                self.proven(request.path.to, &account, now);
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

    /// The trusted peer a request comes from, by its address in a network that holds it.
    pub(super) fn peer_at(&self, path: Path, network: NetworkId) -> Option<&Peer> {
        let from = path.to.ip();
        self.peer_from(from)
            .filter(|_| self.config.network_to(from) == Some(network))
    }

    /// Checks the credentials that name our realm, if there are any.
    fn verify(&mut self, message: &Message, field: Name, now: Instant) -> Option<Verdict> {
        let credentials = credentials(message, field, &self.config.sip.domain)?;
        let account = self
            .config
            .sip
            .accounts
            .iter()
            .find(|a| a.user.as_bytes() == credentials.username);
        let secret = account.map(|a| match &a.secret {
            Secret::Password(password) => digest::Secret::Password(password),
            Secret::Ha1Sha256(ha1) => digest::Secret::Ha1(ha1.as_bytes()),
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

    /// A wrong password of a user there is: strangers' guesses are only counted.
    fn note_wrong(&mut self, message: &Message, now: Instant) {
        let to = message.get(Name::To).and_then(NameAddr::parse);
        let user = to.and_then(|to| Uri::parse(to.uri)?.user_decoded());
        let register = message.method() == Some(Method::Register);
        let known = |user: &str| self.config.sip.accounts.iter().any(|a| a.user == user);
        if let Some(user) = user.filter(|user| register && known(user)) {
            let aor = Aor::new(&user, &self.config.sip.domain);
            let why = vec![("why", "wrong password".to_owned())];
            self.note_rarely(now, Kind::RegistrationRefused, aor.as_str(), why);
        }
    }

    /// The account a request speaks for: in its credentials, or else in To or From.
    fn account_of(&self, message: &Message, field: Name) -> Vec<u8> {
        if let Some(credentials) = credentials(message, field, &self.config.sip.domain) {
            return credentials.username;
        }
        let user = speaker(message).and_then(|uri| Uri::parse(uri)?.user_decoded());
        user.map(String::into_bytes).unwrap_or_default()
    }

    /// The user that proved itself is the one the message speaks for: To in REGISTER, else From.
    fn speaks_for_itself(&self, message: &Message, field: Name) -> bool {
        let user = speaker(message).and_then(|uri| Uri::parse(uri)?.user_decoded());
        credentials(message, field, &self.config.sip.domain)
            .is_some_and(|c| user.is_some_and(|user| user.as_bytes() == c.username))
    }
}

/// MD5, which every phone knows; SHA-256 for the whole domain as soon as one account is given as a
/// SHA-256 hash: most phones give up when both are offered.
pub(super) fn algorithm(sip: &config::Sip) -> Algorithm {
    let hashed = |account: &config::Account| matches!(account.secret, Secret::Ha1Sha256(_));
    if sip.accounts.iter().any(hashed) {
        Algorithm::Sha256
    } else {
        Algorithm::Md5
    }
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
fn credentials(message: &Message, field: Name, realm: &str) -> Option<Credentials> {
    message
        .all(field)
        .filter_map(|f| Credentials::parse(message.slice(&f.value)))
        .find(|c| c.realm == realm.as_bytes())
}
