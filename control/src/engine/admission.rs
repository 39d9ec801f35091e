//! Who is heard at all, before anything is looked up: bans, scanners, rates, and how much strangers
//! are told.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ipnet::IpNet;

use crate::config::Auth;
use crate::effect::{Effect, Effects};
use crate::engine::admin::Refused;
use crate::engine::event::Kind;
use crate::engine::guard::ban::BanView;
use crate::engine::guard::{Banned, Origin};
use crate::engine::{Engine, Request};
use crate::id::{Listener, Path};
use crate::sip::index::{Message, Name};
use crate::sip::terse::terse;
use crate::sip::vocabulary::Method;

/// What scanners call themselves, in lower case; `sip.protection.scanners` adds to it.
const SCANNERS: [&str; 9] = [
    "friendly-scanner",
    "friendly-request",
    "sipvicious",
    "sip-scan",
    "sipcli",
    "sundayddr",
    "vaxsipuseragent",
    "pplsip",
    "sipptk",
];

impl Engine {
    /// Whether a datagram is looked at; its sender may be banned.
    pub(super) fn hears(&mut self, from: SocketAddr, bytes: usize, now: Instant) -> bool {
        if self.trusts(from.ip()) {
            return true;
        }
        let bans = &self.guard.bans;
        let banned = bans.by_hand(from.ip(), now)
            || bans.by_us(from.ip(), None, now) && !self.guard.knows(from, now);
        if banned {
            self.counters.count("sip_dropped", "banned");
            return false;
        }
        self.guard.received(from, bytes, now);
        true
    }

    /// Whether a request is looked at: not that of a scanner, nor of a source that asks too much.
    /// What belongs to a call, or is dropped without an answer, takes nothing.
    pub(super) fn may_ask(
        &mut self,
        message: &Message,
        path: Path,
        now: Instant,
        effects: &mut Effects,
    ) -> bool {
        let from = path.to;
        let origin = self.origin(from, now);
        if origin == Origin::Trusted {
            return true;
        }
        if self.is_scanner(message) {
            self.counters.count("sip_dropped", "scanner");
            let settings = &self.protection;
            let banned = self.guard.scanned(from, settings, now);
            self.note_banned(banned, now, effects);
            return false;
        }
        let of_a_call = message.to_tag().is_some() && self.dialogs.contains_key(message.call_id());
        if of_a_call || message.method() == Some(Method::Ack) {
            return true;
        }
        let settings = &self.protection;
        let heard = self.guard.may_ask(from, origin, settings, now);
        if !heard {
            self.counters.count("sip_dropped", "source_rate");
        }
        heard
    }

    /// Something nobody can read came.
    pub(super) fn unreadable(&mut self, from: SocketAddr, now: Instant, effects: &mut Effects) {
        if self.origin(from, now) == Origin::Stranger {
            let settings = &self.protection;
            let banned = self.guard.unreadable(from, settings, now);
            self.note_banned(banned, now, effects);
        }
    }

    /// Whether a request that speaks for `account` may try to prove it. If not, it has no answer.
    pub(super) fn may_try(&mut self, request: &Request, account: &[u8], now: Instant) -> bool {
        let from = request.path.to;
        let origin = self.origin(from, now);
        if origin == Origin::Trusted {
            return true;
        }
        let bans = &self.guard.bans;
        let banned = origin == Origin::Stranger && bans.by_us(from.ip(), Some(account), now);
        let settings = &self.protection;
        let heard = !banned && self.guard.may_try(from.ip(), account, settings, now);
        if !heard {
            let why = if banned {
                "account_banned"
            } else {
                "account_rate"
            };
            self.counters.count("sip_dropped", why);
            self.transactions.forget_server(&request.key);
        }
        heard
    }

    /// A request has proved that it speaks for `account`.
    pub(super) fn proven(&mut self, from: SocketAddr, account: &[u8], now: Instant) {
        if !self.trusts(from.ip()) {
            let sip = &self.config.sip;
            let until = now + sip.expires_max;
            self.guard
                .proven(from, account, until, &self.protection, now);
        }
    }

    /// Nothing had to be proved.
    pub(super) fn accepted(&mut self, from: SocketAddr, now: Instant) {
        let origin = self.origin(from, now);
        if origin != Origin::Trusted {
            let settings = &self.protection;
            self.guard.accepted(from, origin, settings, now);
        }
    }

    /// Credentials were wrong.
    pub(super) fn wrong(
        &mut self,
        from: SocketAddr,
        account: &[u8],
        now: Instant,
        effects: &mut Effects,
    ) {
        if !self.trusts(from.ip()) {
            let settings = &self.protection;
            let banned = self.guard.wrong(from, account, settings, now);
            self.note_banned(banned, now, effects);
        }
    }

    /// Whether what we send there might go to somebody who never asked: an address that may be
    /// forged, and has proved nothing.
    pub(super) fn is_unproven(&self, path: Path, now: Instant) -> bool {
        self.config.sip.auth != Auth::None
            && !path.on.transport.is_reliable()
            && self.origin(path.to, now) == Origin::Stranger
    }

    /// RFC 3261 §8.2.7: the same for the same request, although nothing is kept of it.
    pub(super) fn stateless_tag(&self, message: &Message) -> String {
        let branch = message.top_via().branch.unwrap_or_default();
        let from = message.from_tag().unwrap_or_default();
        let (cseq, method) = message.cseq();
        let parts = [branch, from, message.call_id(), &cseq.to_be_bytes(), method];
        self.names.name_of(&parts)
    }

    /// Answers a stranger: once, and with no more bytes than it sent (RFC 3261 §26.3.2.4). What is
    /// sent again is asked again.
    pub(super) fn answer_stranger(
        &mut self,
        request: &Request,
        code: u16,
        bytes: Bytes,
        now: Instant,
        effects: &mut Effects,
    ) {
        match self.affordable(request.path.to, bytes, now) {
            Some(bytes) => self.respond(&request.key, code, bytes, now, effects),
            None => self.counters.count("sip_dropped", "reply_too_large"),
        }
        self.transactions.forget_server(&request.key);
    }

    /// A reply without a transaction, as its receiver can be sent it.
    pub(super) fn sendable(
        &mut self,
        on: Listener,
        to: SocketAddr,
        reply: Bytes,
        now: Instant,
    ) -> Option<Bytes> {
        if self.is_unproven(Path { on, to }, now) {
            return self.affordable(to, reply, now);
        }
        Some(reply)
    }

    /// The reply as a stranger can be sent it.
    fn affordable(&mut self, to: SocketAddr, reply: Bytes, now: Instant) -> Option<Bytes> {
        if self.guard.may_send(to, reply.len(), now) {
            return Some(reply);
        }
        let short = terse(&reply);
        self.guard.may_send(to, short.len(), now).then_some(short)
    }

    /// Another shard does not hear them any more.
    pub(super) fn banned(
        &mut self,
        net: IpNet,
        account: Option<String>,
        why: &'static str,
        now: Instant,
    ) {
        self.guard.ban(net, account, why, &self.protection, now);
    }

    /// # Errors
    /// There are as many as may be.
    pub(super) fn ban(
        &mut self,
        net: IpNet,
        time: Option<Duration>,
        now: Instant,
        effects: &mut Effects,
    ) -> Result<(), Refused> {
        if !self.guard.bans.add_manual(net, time, now) {
            return Err(Refused::TooManyBans);
        }
        self.keep_bans(now, effects);
        if self.shard.is_first() {
            let fields = vec![("why", "manual".to_owned())];
            self.note(now, Kind::SourceBanned, net.to_string(), fields);
        }
        Ok(())
    }

    /// # Errors
    /// This prefix is not banned.
    pub(super) fn unban(
        &mut self,
        net: IpNet,
        now: Instant,
        effects: &mut Effects,
    ) -> Result<(), Refused> {
        if !self.guard.bans.remove(net, now) {
            return Err(Refused::NoSuchBan);
        }
        self.keep_bans(now, effects);
        if self.shard.is_first() {
            self.note(now, Kind::SourceReleased, net.to_string(), Vec::new());
        }
        Ok(())
    }

    /// Bans in force, an operator's first.
    #[must_use]
    pub fn bans(&self, now: Instant) -> Vec<BanView> {
        self.guard.bans.list(now)
    }

    /// Prefixes that are banned, or heard though one around them is, as a packet filter takes
    /// them.
    #[must_use]
    pub fn bans_at_border(&self, max: usize, now: Instant) -> BTreeMap<IpNet, bool> {
        let sip = &self.config.sip;
        let peers = sip.peers.iter().flat_map(|peer| peer.nets());
        let trusted: Vec<IpNet> = sip.protection.exempt.iter().copied().chain(peers).collect();
        self.guard.at_border(&trusted, max, now)
    }

    #[must_use]
    pub fn bans_count(&self, now: Instant) -> usize {
        self.guard.bans.count(now)
    }

    fn origin(&self, from: SocketAddr, now: Instant) -> Origin {
        if self.trusts(from.ip()) {
            Origin::Trusted
        } else if self.guard.knows(from, now) {
            Origin::Known
        } else {
            Origin::Stranger
        }
    }

    /// Whether an address is a peer's, or exempt.
    fn trusts(&self, ip: IpAddr) -> bool {
        let sip = &self.config.sip;
        sip.protection.exempt.iter().any(|net| net.contains(&ip)) || self.peer_from(ip).is_some()
    }

    fn is_scanner(&self, message: &Message) -> bool {
        let Some(agent) = message.get(Name::UserAgent) else {
            return false;
        };
        let agent = String::from_utf8_lossy(agent).to_ascii_lowercase();
        let added = &self.config.sip.protection.scanners;
        SCANNERS.iter().any(|name| agent.contains(name))
            || added.iter().any(|name| agent.contains(name))
    }

    fn note_banned(&mut self, banned: Option<Banned>, now: Instant, effects: &mut Effects) {
        let Some(banned) = banned else { return };
        if self.shard.of() > 1 {
            let (net, account, why) = (banned.net, banned.account.clone(), banned.why);
            effects.push(Effect::Ban { net, account, why });
        }
        self.keep_bans(now, effects);
        self.counters.count("sip_banned", banned.why);
        let time = banned.time.as_secs().to_string();
        let mut fields = vec![("why", banned.why.to_owned()), ("seconds", time)];
        fields.extend(banned.account.map(|account| ("account", account)));
        self.note(now, Kind::SourceBanned, banned.net.to_string(), fields);
    }
}

#[cfg(test)]
mod tests;
