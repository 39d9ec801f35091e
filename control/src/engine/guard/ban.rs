//! Who is not heard, until when, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ipnet::IpNet;

use super::prefix_of;
use super::record::{self, Key};
use crate::effect::Record;

/// Bans made by ourselves; of more, the one that ends first is lifted.
pub(super) const BANS_MAX: usize = 65_536;
/// Bans made by an operator; one more is refused.
pub(super) const MANUAL_MAX: usize = 1_024;
/// Each ban of the same source is twice as long as the one before, up to this.
pub(super) const BAN_MAX: Duration = Duration::from_secs(24 * 3600);
/// How long it is remembered that somebody was banned before.
const MEMORY: Duration = Duration::from_secs(24 * 3600);

/// Whom a ban concerns: a prefix, and one account from there or all.
type Whom = (IpNet, Option<String>);

#[derive(Clone, Debug, Eq, PartialEq)]
struct Ban {
    since: Instant,
    until: Instant,
    why: &'static str,
    times: u32,
}

/// One ban, as an operator sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BanView {
    pub net: IpNet,
    pub account: Option<String>,
    /// `manual`, `passwords`, `password`, `scanner`, `malformed`.
    pub why: &'static str,
    pub age: Duration,
    /// None lasts until it is lifted.
    pub left: Option<Duration>,
    /// How often it was banned lately.
    pub times: u32,
}

#[derive(Debug, Default)]
pub(in crate::engine) struct Bans {
    automatic: BTreeMap<Whom, Ban>,
    /// Since when, and until when if not for ever.
    manual: BTreeMap<IpNet, (Instant, Option<Instant>)>,
    /// Of which it has yet to be written what they are now.
    changed: BTreeSet<Key>,
}

impl Bans {
    /// For how long; none if it is banned already.
    pub(super) fn add(
        &mut self,
        net: IpNet,
        account: Option<String>,
        why: &'static str,
        time: Duration,
        now: Instant,
    ) -> Option<Duration> {
        let whom = (net, account);
        let before = self.automatic.get(&whom);
        if before.is_some_and(|ban| now < ban.until) {
            return None;
        }
        let times = before.map_or(0, |ban| ban.times).saturating_add(1);
        if before.is_none() && self.automatic.len() >= BANS_MAX {
            let ends = |(_, ban): &(&Whom, &Ban)| ban.until;
            let first = self.automatic.iter().min_by_key(ends);
            let first = first.map(|(whom, _)| whom.clone());
            if let Some(whom) = first {
                self.automatic.remove(&whom);
                self.changed.insert(by_us(&whom));
            }
        }
        let factor = 1_u32.checked_shl(times - 1).unwrap_or(u32::MAX);
        let time = time.saturating_mul(factor).min(BAN_MAX.max(time));
        let ban = Ban {
            since: now,
            until: now + time,
            why,
            times,
        };
        self.changed.insert(by_us(&whom));
        self.automatic.insert(whom, ban);
        Some(time)
    }

    /// An operator's. False if there are too many.
    pub(in crate::engine) fn add_manual(
        &mut self,
        net: IpNet,
        time: Option<Duration>,
        now: Instant,
    ) -> bool {
        if self.manual.len() >= MANUAL_MAX && !self.manual.contains_key(&net) {
            return false;
        }
        let until = time.map(|time| now + time);
        self.manual.insert(net, (now, until));
        self.changed.insert(by_hand(net));
        true
    }

    /// Lifts every ban of this prefix, and forgets what was before. False if there was none.
    pub(in crate::engine) fn remove(&mut self, net: IpNet, now: Instant) -> bool {
        let manual = self.manual.remove(&net).is_some();
        let mut lifted = manual;
        self.changed.extend(manual.then(|| by_hand(net)));
        let changed = &mut self.changed;
        self.automatic.retain(|whom, ban| {
            let this = whom.0 == net;
            lifted |= this && now < ban.until;
            changed.extend(this.then(|| by_us(whom)));
            !this
        });
        lifted
    }

    /// Whether an operator shut out this address.
    pub(in crate::engine) fn by_hand(&self, ip: IpAddr, now: Instant) -> bool {
        let lasts = |until: &Option<Instant>| until.is_none_or(|until| now < until);
        let mut manual = self.manual.iter();
        manual.any(|(net, (_, until))| net.contains(&ip) && lasts(until))
    }

    /// Whether this address is shut out by what it did; only for `account` if one is named.
    pub(in crate::engine) fn by_us(
        &self,
        ip: IpAddr,
        account: Option<&[u8]>,
        now: Instant,
    ) -> bool {
        if self.automatic.is_empty() {
            return false;
        }
        let account = account.map(|account| String::from_utf8_lossy(account).into_owned());
        let ban = self.automatic.get(&(prefix_of(ip), account));
        ban.is_some_and(|ban| now < ban.until)
    }

    /// Bans in force.
    pub(in crate::engine) fn count(&self, now: Instant) -> usize {
        let manual = self.manual.len();
        let automatic = self.automatic.values().filter(|ban| now < ban.until);
        manual + automatic.count()
    }

    pub(in crate::engine) fn list(&self, now: Instant) -> Vec<BanView> {
        let ago = |since| now.saturating_duration_since(since);
        let left = |until: Instant| until.saturating_duration_since(now);
        let manual = self.manual.iter().map(|(net, (since, until))| BanView {
            net: *net,
            account: None,
            why: "manual",
            age: ago(*since),
            left: until.map(left),
            times: 1,
        });
        let lasting = self.automatic.iter().filter(|(_, ban)| now < ban.until);
        let automatic = lasting.map(|((net, account), ban)| BanView {
            net: *net,
            account: account.clone(),
            why: ban.why,
            age: ago(ban.since),
            left: Some(left(ban.until)),
            times: ban.times,
        });
        manual.chain(automatic).collect()
    }

    pub(super) fn sweep(&mut self, now: Instant) {
        let changed = &mut self.changed;
        self.manual.retain(|net, (_, until)| {
            let lasts = until.is_none_or(|until| now < until);
            changed.extend((!lasts).then(|| by_hand(*net)));
            lasts
        });
        self.automatic.retain(|whom, ban| {
            let counts = now < ban.until + MEMORY;
            changed.extend((!counts).then(|| by_us(whom)));
            counts
        });
    }

    /// What has changed since it was last asked for: what is to be kept under which key, or
    /// nothing any more.
    pub(in crate::engine) fn changes(&mut self, now: Instant) -> Vec<(Bytes, Option<Record>)> {
        let changed = std::mem::take(&mut self.changed).into_iter();
        let change = |key: Key| {
            let kept = self.kept(&key);
            let bytes = kept.map(|kept| record::encode(&kept, now));
            let record = bytes.map(|bytes| Record { at: now, bytes });
            (record::key(&key), record)
        };
        changed.map(change).collect()
    }

    fn kept(&self, key: &Key) -> Option<record::Kept> {
        if key.by_hand {
            let (since, until) = *self.manual.get(&key.net)?;
            return Some(record::Kept {
                since,
                until,
                times: 1,
                why: "manual",
            });
        }
        let ban = self.automatic.get(&(key.net, key.account.clone()))?;
        Some(record::Kept {
            since: ban.since,
            until: Some(ban.until),
            times: ban.times,
            why: ban.why,
        })
    }

    /// One that an earlier process kept goes on. False if it is over, or cannot be read.
    pub(in crate::engine) fn restore(&mut self, key: &[u8], record: &Record, now: Instant) -> bool {
        let Some((key, kept)) = record::read_key(key).zip(record::decode(&record.bytes, record.at))
        else {
            return false;
        };
        let left = |until: Instant| now < until;
        if key.by_hand {
            let lasts = kept.until.is_none_or(left) && self.manual.len() < MANUAL_MAX;
            if lasts {
                self.manual.insert(key.net, (kept.since, kept.until));
            }
            return lasts;
        }
        let Some(until) = kept.until.filter(|until| left(*until + MEMORY)) else {
            return false;
        };
        let room = self.automatic.len() < BANS_MAX;
        if room {
            let ban = Ban {
                since: kept.since,
                until,
                why: kept.why,
                times: kept.times,
            };
            self.automatic.insert((key.net, key.account), ban);
        }
        room
    }
}

fn by_us((net, account): &Whom) -> Key {
    Key {
        by_hand: false,
        net: *net,
        account: account.clone(),
    }
}

fn by_hand(net: IpNet) -> Key {
    Key {
        by_hand: true,
        net,
        account: None,
    }
}
