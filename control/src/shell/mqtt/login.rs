//! Who a client is: an account of ours, by user and password.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use md5::{Digest, Md5};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::bus::Principal;
use crate::config::{Auth, Config, Secret};
use crate::mqtt::packet::Reason;
use crate::shell::hex::hex;

/// Whoever failed as often from one source waits (`sip.protection.ban_after`, `ban_window`).
#[derive(Debug, Default)]
pub(super) struct Failures(BTreeMap<IpAddr, (u32, Instant)>);

/// Sources that are remembered.
const SOURCES_MAX: usize = 4096;

impl Failures {
    pub(super) fn may_try(&self, from: IpAddr, config: &Config, now: Instant) -> bool {
        let protection = &config.sip.protection;
        let exempt = protection.exempt.iter().any(|net| net.contains(&from));
        let recent = self
            .0
            .get(&from)
            .filter(|(_, since)| now.saturating_duration_since(*since) < protection.ban_window);
        let many = |(count, _): &(u32, Instant)| *count >= protection.ban_after;
        exempt || protection.ban_after == 0 || !recent.is_some_and(many)
    }

    pub(super) fn failed(&mut self, from: IpAddr, config: &Config, now: Instant) {
        let window = config.sip.protection.ban_window;
        if self.0.len() >= SOURCES_MAX {
            self.0
                .retain(|_, (_, since)| now.saturating_duration_since(*since) < window);
            if self.0.len() >= SOURCES_MAX {
                self.0.clear();
            }
        }
        let (count, since) = self.0.entry(from).or_insert((0, now));
        if now.saturating_duration_since(*since) >= window {
            (*count, *since) = (0, now);
        }
        *count = count.saturating_add(1);
    }
}

/// Whom the login proves; `id` is the client identifier.
pub(super) fn principal(
    config: &Config,
    login: Option<(String, String)>,
    id: &str,
) -> Result<Principal, Reason> {
    if config.sip.auth == Auth::None {
        let user = login.map(|(user, _)| user).filter(|user| !user.is_empty());
        return Ok(Principal::Anonymous(user.unwrap_or_else(|| id.to_owned())));
    }
    let (user, password) = login.ok_or(Reason::NotAuthorized)?;
    let account = config.sip.accounts.iter().find(|a| a.user == user);
    // Whoever is unknown costs as much, and is told the same.
    let nobody = Secret::Password(String::new());
    let secret = account.map_or(&nobody, |account| &account.secret);
    let right = is_right(secret, &user, &config.sip.domain, &password);
    if account.is_some() && right {
        Ok(Principal::Account(user))
    } else {
        Err(Reason::NotAuthorized)
    }
}

/// Compares hashes of both, so that neither length nor beginning shows.
fn is_right(secret: &Secret, user: &str, realm: &str, password: &str) -> bool {
    let whole = format!("{user}:{realm}:{password}");
    let (md5, sha256) = (hex(&Md5::digest(&whole)), hex(&Sha256::digest(&whole)));
    let (kept, shown) = match secret {
        Secret::Password(kept) => (kept.as_str(), password),
        Secret::Ha1Md5(kept) => (kept.as_str(), md5.as_str()),
        Secret::Ha1Sha256(kept) => (kept.as_str(), sha256.as_str()),
    };
    let hash = |text: &str| Sha256::digest(text);
    hash(kept).ct_eq(&hash(shown)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_secret_is_compared() {
        let (user, realm, password) = ("1001", "example.com", "hunter2");
        let md5 = hex(&Md5::digest("1001:example.com:hunter2"));
        let sha256 = hex(&Sha256::digest("1001:example.com:hunter2"));
        for secret in [
            Secret::Password(password.to_owned()),
            Secret::Ha1Md5(md5),
            Secret::Ha1Sha256(sha256),
        ] {
            assert!(is_right(&secret, user, realm, password));
            for wrong in ["", "hunter", "hunter22", "Hunter2"] {
                assert!(!is_right(&secret, user, realm, wrong));
            }
        }
    }
}
