//! What the kernel counts as dropped between two looks: rules with counters, and its own numbers.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use super::command;
use crate::doctor::facts::{Dropped, Dropper, Drops};
use crate::doctor::firewall::Backend;
use crate::shell::clock;

/// Between the two looks at least; probes may make it longer.
const WINDOW: Duration = Duration::from_secs(2);

/// The first look.
pub(super) struct Before {
    at: Instant,
    counts: Counts,
}

type Counts = BTreeMap<(Dropper, String), u64>;

pub(super) async fn before() -> Before {
    let counts = counts().await;
    Before {
        at: clock::now(),
        counts,
    }
}

/// The second look, when time enough has passed.
pub(super) async fn since(before: Before) -> Drops {
    tokio::time::sleep_until((before.at + WINDOW).into()).await;
    let within = before.at.elapsed();
    let after = counts().await;
    let counted = after.into_iter().filter_map(|((by, what), count)| {
        let old = before.counts.get(&(by, what.clone())).copied();
        // A rule that was not there before has counted nothing of before.
        let packets = count.checked_sub(old.unwrap_or(0)).filter(|n| *n > 0)?;
        Some(Dropped { by, what, packets })
    });
    let mut counted: Vec<Dropped> = counted.collect();
    counted.sort_by_key(|dropped| std::cmp::Reverse(dropped.packets));
    Drops { within, counted }
}

async fn counts() -> Counts {
    let mut counts = kernel();
    let legacy = fs::read_to_string("/proc/self/net/ip_tables_names");
    // Asking them where no table is would make one.
    let has_legacy = legacy.is_ok_and(|names| !names.is_empty());
    let (nft, v4, v6) = tokio::join!(
        command::output("nft", &["list", "ruleset"]),
        command::output("iptables-nft-save", &["-c"]),
        command::output("ip6tables-nft-save", &["-c"]),
    );
    if let Ok(text) = nft {
        listed(&text, &mut counts);
    }
    for text in [v4, v6].into_iter().flatten() {
        saved(&text, Backend::Xt, &mut counts);
    }
    if has_legacy && let Ok(text) = command::output("iptables-legacy-save", &["-c"]).await {
        saved(&text, Backend::Legacy, &mut counts);
    }
    counts
}

/// Tables that iptables-nft shows better.
const TABLES_OF_IPTABLES: [&str; 5] = ["filter", "nat", "mangle", "raw", "security"];

/// `nft list ruleset`: rules that drop and count.
fn listed(text: &str, counts: &mut Counts) {
    let (mut table, mut chain) = (String::new(), String::new());
    let mut is_theirs = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("table ") {
            table = name.trim_end_matches(" {").to_owned();
            let (family, name) = table.split_once(' ').unwrap_or_default();
            is_theirs = family != "inet" && TABLES_OF_IPTABLES.contains(&name);
        } else if let Some(name) = line.strip_prefix("chain ") {
            chain = name.trim_end_matches(" {").to_owned();
        } else if let Some((before, rest)) = line.split_once("counter packets ")
            && (rest.contains(" drop") || rest.contains(" reject"))
            && !is_theirs
        {
            let mut words = rest.splitn(4, ' ');
            let count = words.next().and_then(|n| n.parse().ok()).unwrap_or(0);
            let verdict = words.nth(2).unwrap_or_default();
            let rule = format!("table {table}, chain {chain}: {before}{verdict}");
            *counts
                .entry((Dropper::Firewall(Backend::Nft), rule))
                .or_default() += count;
        }
    }
}

/// `iptables-save -c`: every rule counts.
fn saved(text: &str, backend: Backend, counts: &mut Counts) {
    for line in text.lines() {
        let drops = line.contains("-j DROP") || line.contains("-j REJECT");
        let counted = line
            .strip_prefix('[')
            .and_then(|rest| rest.split_once("] "));
        let Some((numbers, rule)) = counted.filter(|_| drops) else {
            continue;
        };
        let packets = numbers.split(':').next().and_then(|n| n.parse().ok());
        let key = (Dropper::Firewall(backend), rule.to_owned());
        *counts.entry(key).or_default() += packets.unwrap_or(0);
    }
}

/// The kernel's numbers that mean a loss, by file, group and name.
const NUMBERS: [(&str, &str, &str, Dropper); 5] = [
    ("netstat", "TcpExt", "IPReversePathFilter", Dropper::Sources),
    ("netstat", "IpExt", "InNoRoutes", Dropper::Route),
    ("snmp", "Ip", "OutNoRoutes", Dropper::Route),
    ("snmp", "Udp", "RcvbufErrors", Dropper::Buffer),
    ("snmp", "Udp", "InCsumErrors", Dropper::Checksum),
];

fn kernel() -> Counts {
    let mut counts = Counts::new();
    for (file, group, name, by) in NUMBERS {
        let text = fs::read_to_string(format!("/proc/self/net/{file}")).unwrap_or_default();
        if let Some(count) = number(&text, group, name) {
            counts.insert((by, format!("{group}{name}")), count);
        }
    }
    let text = fs::read_to_string("/proc/self/net/snmp6").unwrap_or_default();
    for (name, by) in [
        ("Udp6RcvbufErrors", Dropper::Buffer),
        ("Udp6InCsumErrors", Dropper::Checksum),
    ] {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        if let Some(count) = line.and_then(|rest| rest.trim().parse().ok()) {
            counts.insert((by, name.to_owned()), count);
        }
    }
    let text = fs::read_to_string("/proc/self/net/stat/nf_conntrack").unwrap_or_default();
    for name in ["drop", "early_drop"] {
        if let Some(count) = column(&text, name) {
            let what = format!("nf_conntrack {name}");
            counts.insert((Dropper::Connections, what), count);
        }
    }
    let text = fs::read_to_string("/proc/self/net/softnet_stat").unwrap_or_default();
    let dropped = text.lines().filter_map(|line| {
        let field = line.split_whitespace().nth(1)?;
        u64::from_str_radix(field, 16).ok()
    });
    counts.insert(
        (Dropper::Backlog, "softnet dropped".to_owned()),
        dropped.sum(),
    );
    counts
}

/// Two lines for a group: names, then numbers.
fn number(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| {
        let (found, rest) = line.split_once(": ")?;
        (found == group).then_some(rest)
    });
    let (names, numbers) = (lines.next()?, lines.next()?);
    let at = names.split(' ').position(|found| found == name)?;
    numbers.split(' ').nth(at)?.parse().ok()
}

/// A line of names, then one of hexadecimal numbers for each processor.
fn column(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines();
    let at = lines
        .next()?
        .split_whitespace()
        .position(|found| found == name)?;
    let numbers = lines.filter_map(|line| {
        let field = line.split_whitespace().nth(at)?;
        u64::from_str_radix(field, 16).ok()
    });
    Some(numbers.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found() {
        let snmp = "Udp: InDatagrams NoPorts RcvbufErrors\nUdp: 7 8 9\nUdpLite: A\nUdpLite: 1\n";
        assert_eq!(number(snmp, "Udp", "RcvbufErrors"), Some(9));
        assert_eq!(number(snmp, "Udp", "None"), None);
        let stat = "entries  drop early_drop\n0000000a 00000010 00000001\n0000000a 00000001 0\n";
        assert_eq!(column(stat, "drop"), Some(17));
    }

    #[test]
    fn rules_that_drop_and_count() {
        let text = "table inet f {\n\tchain in {\n\t\ttype filter hook input priority 0;\n\t\tudp \
                    dport 5060 counter packets 3 bytes 84 drop\n\t\tudp dport 22 counter packets 9 \
                    bytes 8 accept\n\t}\n}\ntable ip filter {\n\tchain INPUT {\n\t\tcounter \
                    packets 1 bytes 2 drop\n\t}\n}\n";
        let mut counts = Counts::new();
        listed(text, &mut counts);
        saved(
            "*filter\n:INPUT ACCEPT [5:6]\n[7:70] -A INPUT -p udp -j DROP\n[1:2] -A INPUT -j \
             ACCEPT\n",
            Backend::Xt,
            &mut counts,
        );
        let found: Vec<(String, u64)> = counts.into_iter().map(|((_, w), n)| (w, n)).collect();
        let expected = [
            ("table inet f, chain in: udp dport 5060 drop", 3),
            ("-A INPUT -p udp -j DROP", 7),
        ];
        assert_eq!(found, expected.map(|(what, n)| (what.to_owned(), n)));
    }
}
