//! A ban, as octets that outlive the process.
//!
//! ```text
//! key    kind: m by hand, a by us    prefix    0, account: only for that account
//! record version  since: i64  until: i64, none: 0x7f…  times: u32  why: u8
//! ```
//!
//! Numbers are big-endian. Times are milliseconds after the record was written, negative before.

use std::time::{Duration, Instant};

use bytes::Bytes;
use ipnet::IpNet;

/// Records of another version are not read.
const VERSION: u8 = 1;
/// The time that never comes.
const NEVER: i64 = i64::MAX;
/// In the order in which they are numbered.
const WHY: [&str; 5] = ["manual", "passwords", "password", "scanner", "malformed"];

/// Whom a ban concerns, and who made it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Key {
    pub(super) by_hand: bool,
    pub(super) net: IpNet,
    pub(super) account: Option<String>,
}

/// What is kept of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Kept {
    pub(super) since: Instant,
    pub(super) until: Option<Instant>,
    pub(super) times: u32,
    pub(super) why: &'static str,
}

pub(super) fn key(key: &Key) -> Bytes {
    let kind = if key.by_hand { "m" } else { "a" };
    let account = key.account.as_ref();
    let account = account.map(|account| format!("\0{account}"));
    format!("{kind}{}{}", key.net, account.unwrap_or_default()).into()
}

/// None if it is not what this program writes.
pub(super) fn read_key(bytes: &[u8]) -> Option<Key> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (by_hand, rest) = match text.strip_prefix('m') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('a')?),
    };
    let (net, account) = match rest.split_once('\0') {
        Some((net, account)) => (net, Some(account.to_owned())),
        None => (rest, None),
    };
    let net = net.parse().ok()?;
    Some(Key {
        by_hand,
        net,
        account,
    })
}

pub(super) fn encode(kept: &Kept, at: Instant) -> Bytes {
    let why = WHY.iter().position(|why| *why == kept.why);
    let why = why.and_then(|why| u8::try_from(why).ok());
    let mut bytes = vec![VERSION];
    bytes.extend(offset(kept.since, at).to_be_bytes());
    let until = kept.until.map_or(NEVER, |until| offset(until, at));
    bytes.extend(until.to_be_bytes());
    bytes.extend(kept.times.to_be_bytes());
    bytes.push(why.unwrap_or(u8::MAX));
    bytes.into()
}

/// None if it is not what this program writes.
pub(super) fn decode(bytes: &[u8], at: Instant) -> Option<Kept> {
    let (version, rest) = bytes.split_first()?;
    let (since, rest) = rest.split_first_chunk()?;
    let (until, rest) = rest.split_first_chunk()?;
    let (times, rest) = rest.split_first_chunk()?;
    let [why] = *rest else { return None };
    let until = match i64::from_be_bytes(*until) {
        NEVER => None,
        until => Some(moment(until, at)?),
    };
    let kept = Kept {
        since: moment(i64::from_be_bytes(*since), at).unwrap_or(at),
        until,
        times: u32::from_be_bytes(*times),
        why: WHY.get(usize::from(why)).copied()?,
    };
    (*version == VERSION).then_some(kept)
}

fn offset(time: Instant, at: Instant) -> i64 {
    let ms = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(NEVER - 1);
    match time.checked_duration_since(at) {
        Some(after) => ms(after),
        None => -ms(at.saturating_duration_since(time)),
    }
}

fn moment(offset: i64, at: Instant) -> Option<Instant> {
    let span = Duration::from_millis(offset.unsigned_abs());
    match offset >= 0 {
        true => at.checked_add(span),
        false => at.checked_sub(span),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant can be had from the clock only; the tests count from this one"
    )]
    fn start() -> Instant {
        Instant::now() + 1000 * S
    }

    #[test]
    fn what_is_written_is_read() {
        let at = start();
        for (until, why) in [
            (None, "manual"),
            (Some(at + 90 * S), "scanner"),
            (Some(at - 9 * S), "passwords"),
        ] {
            let kept = Kept {
                since: at - 10 * S,
                until,
                times: 3,
                why,
            };
            let bytes = encode(&kept, at);
            assert_eq!(decode(&bytes, at), Some(kept.clone()));
            // Another clock: as long as it was.
            let later = decode(&bytes, at + 5 * S).unwrap();
            assert_eq!(later.until, until.map(|until| until + 5 * S));
            for cut in 0..bytes.len() {
                assert_eq!(decode(&bytes[..cut], at), None, "{cut}");
            }
            assert_eq!(decode(&[&bytes[..], b"x"].concat(), at), None);
        }
    }

    #[test]
    fn keys_are_read_back() {
        for net in ["192.0.2.0/24", "2001:db8::/64"] {
            for account in [None, Some(""), Some("1001"), Some("m\0x")] {
                let one = Key {
                    by_hand: account.is_none(),
                    net: net.parse().unwrap(),
                    account: account.map(str::to_owned),
                };
                assert_eq!(read_key(&key(&one)), Some(one));
            }
        }
        for odd in ["", "m", "x192.0.2.0/24", "a192.0.2", "a\0"] {
            assert_eq!(read_key(odd.as_bytes()), None, "{odd:?}");
        }
    }
}
