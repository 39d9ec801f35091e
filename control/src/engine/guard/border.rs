//! Bans as a packet filter can enforce them, which knows addresses and nothing of phones.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::Guard;

impl Guard {
    /// Prefixes and whether they are banned, at most `max`; of those a source is in, the longest
    /// counts. A trusted prefix within a ban is heard. A ban of ours stays ours alone while phones
    /// are known behind its prefix: they are heard. Of too many bans those that end first are left
    /// out.
    pub(in crate::engine) fn at_border(
        &self,
        trusted: &[IpNet],
        max: usize,
        now: Instant,
    ) -> BTreeMap<IpNet, bool> {
        let mut bans = self.bans.list(now);
        bans.retain(|ban| {
            ban.account.is_none()
                && !trusted.iter().any(|net| net.contains(&ban.net))
                && (ban.why == "manual" || !self.knows_any(ban.net, now))
        });
        bans.sort_by_key(|ban| std::cmp::Reverse(ban.left.unwrap_or(Duration::MAX)));
        let inside = |net: &&IpNet| bans.iter().any(|ban| ban.net.contains(*net));
        let heard = trusted.iter().filter(inside).map(|net| (*net, false));
        let mut border: BTreeMap<IpNet, bool> = heard.take(max).collect();
        let room = max - border.len();
        border.extend(bans.iter().take(room).map(|ban| (ban.net, true)));
        border
    }

    /// Whether a phone is known behind a prefix.
    fn knows_any(&self, net: IpNet, now: Instant) -> bool {
        let first = SocketAddr::new(net.network(), 0);
        let last = SocketAddr::new(net.broadcast(), u16::MAX);
        let mut known = self.known.range(first..=last);
        known.any(|(_, until)| now < *until)
    }
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "a test needs one instant to count from"
)]
mod tests {
    use super::*;

    #[test]
    fn what_a_packet_filter_is_told() {
        let now = Instant::now();
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let mut guard = Guard::new([1; 32]);
        let hour = Duration::from_secs(3600);
        // By hand: also where phones are known.
        guard.bans.add_manual(net("10.0.0.0/8"), None, now);
        guard.bans.add_manual(net("192.0.2.0/24"), Some(hour), now);
        guard.registered("192.0.2.7:5060".parse().unwrap(), now + hour);
        // Ours: the second has a phone behind it, the third is of one account, the fourth is
        // trusted.
        let mut ours = |text: &str, account: Option<&str>| {
            let account = account.map(str::to_owned);
            guard.bans.add(net(text), account, "scanner", hour / 2, now);
        };
        ours("203.0.113.1/32", None);
        ours("203.0.113.2/32", None);
        ours("203.0.113.3/32", Some("1001"));
        ours("198.51.100.9/32", None);
        ours("2001:db8:a:b::/64", None);
        guard.registered("203.0.113.2:5060".parse().unwrap(), now + hour);
        let trusted = [
            net("10.0.0.20/32"),
            net("198.51.100.0/24"),
            net("172.16.0.0/12"),
        ];
        let expected = [
            ("10.0.0.0/8", true),
            ("10.0.0.20/32", false),
            ("192.0.2.0/24", true),
            ("203.0.113.1/32", true),
            ("2001:db8:a:b::/64", true),
        ];
        let check = |max, at, expected: &[(&str, bool)]| {
            let expected = expected.iter().map(|(text, banned)| (net(text), *banned));
            assert_eq!(guard.at_border(&trusted, max, at), expected.collect());
        };
        check(100, now, &expected);
        // For ever is longer than an hour, and that than half of one.
        check(3, now, &expected[..3]);
        // The phone is gone, and with it what kept the ban.
        check(100, now + hour, &expected[..2]);
    }
}
