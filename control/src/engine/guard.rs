//! What strangers may cost us: requests, replies and guesses, each by where they come from. Nothing
//! here answers or sends; it only says who is heard.
//!
//! What proves itself is not counted: a request that authenticates gives back what it took, and
//! where it came from is known from then on. A known flow (address and port) has an allowance of
//! its own and passes automatic bans, so that whoever shares its address, or forges it, cannot take
//! it away.

pub(super) mod ban;
mod border;
mod record;
mod table;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use self::ban::Bans;
use self::table::{Hash, Table};
use crate::config::Protection;

/// Flows that have authenticated; of more, later ones are treated as strangers.
const KNOWN_MAX: usize = 262_144;
/// Requests at once, in seconds of the rate.
const BURST_S: u32 = 10;
/// A proven request gives back its own cost and that of its challenge.
const PROVEN: u32 = 2;
/// What bytes received may earn for replies.
const CREDIT_BYTES_MAX: usize = 65_535;

/// Strikes of what can hardly be a mistake: a scanner, another account's wrong password. Ten times
/// what a message that cannot be read counts.
const DELIBERATE: u32 = 10;
const ACCIDENTAL: u32 = 1;

/// Where a request comes from, as limits see it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Origin {
    /// A peer, or exempt by configuration: not limited.
    Trusted,
    /// It has authenticated from this very address and port.
    Known,
    Stranger,
}

/// What a source has cost lately.
#[derive(Clone, Copy, Debug)]
struct Source {
    allowance: Allowance,
    /// Bytes we may send it unproven: no more than it sent us.
    credit: usize,
    strikes: u32,
    /// When the first of the strikes was.
    since: Instant,
}

/// What one source has cost one account.
#[derive(Clone, Copy, Debug)]
struct Pair {
    allowance: Allowance,
    failures: u32,
    since: Instant,
}

/// A token bucket: when it will be full again.
#[derive(Clone, Copy, Debug)]
struct Allowance(Instant);

impl Allowance {
    fn take(&mut self, per_second: u32, now: Instant) -> bool {
        let Some(each) = Duration::from_secs(1).checked_div(per_second) else {
            return true;
        };
        let free = self.0.max(now);
        if free.saturating_duration_since(now) + each > Duration::from_secs(BURST_S.into()) {
            return false;
        }
        self.0 = free + each;
        true
    }

    fn give_back(&mut self, tokens: u32, per_second: u32) {
        if let Some(each) = Duration::from_secs(1).checked_div(per_second) {
            self.0 = self.0.checked_sub(each * tokens).unwrap_or(self.0);
        }
    }

    /// Until it is full.
    fn spent(&self, now: Instant) -> Duration {
        self.0.saturating_duration_since(now)
    }
}

pub(super) struct Guard {
    hash: Hash,
    sources: Table<Source>,
    pairs: Table<Pair>,
    known: BTreeMap<SocketAddr, Instant>,
    pub(super) bans: Bans,
}

impl Guard {
    pub(super) fn new(secret: [u8; 32]) -> Self {
        Self {
            hash: Hash::new(secret),
            sources: Table::default(),
            pairs: Table::default(),
            known: BTreeMap::new(),
            bans: Bans::default(),
        }
    }

    /// Whether something authenticated from this address and port, not too long ago.
    pub(super) fn knows(&self, from: SocketAddr, now: Instant) -> bool {
        self.known.get(&from).is_some_and(|until| now < *until)
    }

    /// So many bytes came.
    pub(super) fn received(&mut self, from: SocketAddr, bytes: usize, now: Instant) {
        self.source(from.ip(), None, now, |source| {
            source.credit = source.credit.saturating_add(bytes).min(CREDIT_BYTES_MAX);
        });
    }

    /// Whether so many bytes may be sent to whom nothing is proven of.
    pub(super) fn may_send(&mut self, to: SocketAddr, bytes: usize, now: Instant) -> bool {
        self.source(to.ip(), None, now, |source| {
            let left = source.credit.checked_sub(bytes);
            source.credit = left.unwrap_or(source.credit);
            left.is_some()
        })
    }

    /// Whether a request is heard.
    pub(super) fn may_ask(
        &mut self,
        from: SocketAddr,
        origin: Origin,
        settings: &Protection,
        now: Instant,
    ) -> bool {
        let port = match origin {
            Origin::Trusted => return true,
            Origin::Known => Some(from.port()),
            Origin::Stranger => None,
        };
        self.source(from.ip(), port, now, |source| {
            source.allowance.take(settings.source_rate, now)
        })
    }

    /// Whether a request that speaks for `account` is looked at.
    pub(super) fn may_try(
        &mut self,
        from: IpAddr,
        account: &[u8],
        settings: &Protection,
        now: Instant,
    ) -> bool {
        self.pair(from, account, now, |pair| {
            pair.allowance.take(settings.account_rate, now)
        })
    }

    /// A request has proved who sent it.
    pub(super) fn proven(
        &mut self,
        from: SocketAddr,
        account: &[u8],
        until: Instant,
        settings: &Protection,
        now: Instant,
    ) {
        let port = self.knows(from, now).then_some(from.port());
        self.source(from.ip(), port, now, |source| {
            source.allowance.give_back(PROVEN, settings.source_rate);
        });
        self.pair(from.ip(), account, now, |pair| {
            pair.allowance.give_back(PROVEN, settings.account_rate);
        });
        self.registered(from, until);
    }

    /// Somebody has registered from there, at another shard.
    pub(super) fn registered(&mut self, from: SocketAddr, until: Instant) {
        if self.known.len() < KNOWN_MAX || self.known.contains_key(&from) {
            let known = self.known.entry(from).or_insert(until);
            *known = until.max(*known);
        }
    }

    /// It needs no proof: what it took is given back.
    pub(super) fn accepted(
        &mut self,
        from: SocketAddr,
        origin: Origin,
        settings: &Protection,
        now: Instant,
    ) {
        let port = (origin == Origin::Known).then_some(from.port());
        self.source(from.ip(), port, now, |source| {
            source.allowance.give_back(1, settings.source_rate);
        });
    }

    /// A message nobody can read. Says who is banned for it, if it was the last straw.
    pub(super) fn unreadable(
        &mut self,
        from: SocketAddr,
        settings: &Protection,
        now: Instant,
    ) -> Option<Banned> {
        self.strike(from.ip(), ACCIDENTAL, "malformed", settings, now)
    }

    /// A message of a scanner.
    pub(super) fn scanned(
        &mut self,
        from: SocketAddr,
        settings: &Protection,
        now: Instant,
    ) -> Option<Banned> {
        self.strike(from.ip(), DELIBERATE, "scanner", settings, now)
    }

    /// A wrong password. Guesses at one account shut out that account from there; guesses at many
    /// shut out the source, unless more phones than that are known there.
    pub(super) fn wrong(
        &mut self,
        from: SocketAddr,
        account: &[u8],
        settings: &Protection,
        now: Instant,
    ) -> Option<Banned> {
        let window = settings.ban_window;
        let failures = self.pair(from.ip(), account, now, |pair| {
            if now.saturating_duration_since(pair.since) > window {
                (pair.failures, pair.since) = (0, now);
            }
            pair.failures = pair.failures.saturating_add(1);
            pair.failures
        });
        if failures == 1 {
            return self.strike(from.ip(), DELIBERATE, "passwords", settings, now);
        }
        if settings.ban_after == 0 || failures < settings.ban_after {
            return None;
        }
        let net = prefix_of(from.ip());
        let account = String::from_utf8_lossy(account).into_owned();
        self.ban(net, Some(account), "password", settings, now)
    }

    fn strike(
        &mut self,
        from: IpAddr,
        strikes: u32,
        why: &'static str,
        settings: &Protection,
        now: Instant,
    ) -> Option<Banned> {
        let enough = settings.ban_after.saturating_mul(DELIBERATE);
        let all = self.source(from, None, now, |source| {
            if now.saturating_duration_since(source.since) > settings.ban_window {
                (source.strikes, source.since) = (0, now);
            }
            source.strikes = source.strikes.saturating_add(strikes);
            let all = source.strikes;
            if all >= enough {
                source.strikes = 0;
            }
            all
        });
        if settings.ban_after == 0 || all < enough {
            return None;
        }
        // A NAT with many phones: some are set up wrongly, others scan nobody.
        let (first, last) = (SocketAddr::new(from, 0), SocketAddr::new(from, u16::MAX));
        let phones = self.known.range(first..=last).filter(|(_, t)| now < **t);
        let phones = u32::try_from(phones.count()).unwrap_or(u32::MAX);
        if phones.saturating_mul(DELIBERATE) >= all {
            return None;
        }
        self.ban(prefix_of(from), None, why, settings, now)
    }

    pub(super) fn ban(
        &mut self,
        net: IpNet,
        account: Option<String>,
        why: &'static str,
        settings: &Protection,
        now: Instant,
    ) -> Option<Banned> {
        let time = self
            .bans
            .add(net, account.clone(), why, settings.ban_time, now)?;
        Some(Banned {
            net,
            account,
            why,
            time,
        })
    }

    /// Forgets what is over.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.known.retain(|_, until| now < *until);
        self.bans.sweep(now);
    }

    fn source<R>(
        &mut self,
        ip: IpAddr,
        port: Option<u16>,
        now: Instant,
        act: impl FnOnce(&mut Source) -> R,
    ) -> R {
        let key = self.hash.of(prefix_of(ip), port, &[]);
        let fresh = Source {
            allowance: Allowance(now),
            credit: 0,
            strikes: 0,
            since: now,
        };
        let worth = |s: &Source| s.allowance.spent(now) + Duration::from_millis(s.strikes.into());
        self.sources.with(key, fresh, worth, act)
    }

    fn pair<R>(
        &mut self,
        ip: IpAddr,
        account: &[u8],
        now: Instant,
        act: impl FnOnce(&mut Pair) -> R,
    ) -> R {
        let key = self.hash.of(prefix_of(ip), None, account);
        let fresh = Pair {
            allowance: Allowance(now),
            failures: 0,
            since: now,
        };
        let worth = |p: &Pair| p.allowance.spent(now) + Duration::from_secs(p.failures.into());
        self.pairs.with(key, fresh, worth, act)
    }
}

/// Somebody who is not heard from now on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Banned {
    pub(super) net: IpNet,
    /// Only when it speaks for this account.
    pub(super) account: Option<String>,
    pub(super) why: &'static str,
    pub(super) time: Duration,
}

/// What one customer has: an IPv4 address, an IPv6 /64.
pub(super) fn prefix_of(ip: IpAddr) -> IpNet {
    let length = if ip.is_ipv4() { 32 } else { 64 };
    IpNet::new(ip, length).map_or(IpNet::from(ip), |net| net.trunc())
}

#[cfg(test)]
mod tests;
