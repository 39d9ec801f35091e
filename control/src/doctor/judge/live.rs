//! What is dropped while we look. Rules that would stop a call are those of `fw.nft` and its
//! siblings; here is what they cannot know: that it happens now, and what no rule says.

use std::ops::RangeInclusive;

use super::{Config, Facts, Verdict};
use crate::doctor::facts::{Dropped, Dropper};
use crate::doctor::firewall::Backend;

/// Fewer in a second are strangers' odds and ends.
const NOISE_PER_S: u64 = 10;
const SHOWN_MAX: usize = 8;

pub(super) fn live(config: &Config, facts: &Facts) -> Verdict {
    let drops = &facts.drops;
    let seconds = drops.within.as_secs().max(1);
    let line = |dropped: &Dropped| {
        let Dropped { what, packets, .. } = dropped;
        format!("{what}: {packets} packets in {seconds} s")
    };
    let evidence: Vec<String> = drops.counted.iter().take(SHOWN_MAX).map(line).collect();
    let own = own_ports(config);
    let counts = |dropped: &&Dropped| match dropped.by {
        // A table that is full, or a buffer, drops nobody by chance.
        Dropper::Connections | Dropper::Buffer => true,
        Dropper::Firewall(_) => names_a_port(&dropped.what, &own),
        Dropper::Sources | Dropper::Checksum | Dropper::Backlog | Dropper::Route => {
            dropped.packets >= NOISE_PER_S * seconds
        }
    };
    let worst = drops.counted.iter().filter(counts).max_by_key(|dropped| {
        let full = matches!(dropped.by, Dropper::Connections);
        (full, dropped.packets)
    });
    let Some(worst) = worst else {
        let meaning = match evidence.is_empty() {
            true => "The kernel counted no packet as dropped while it was looked at.",
            false => "What the kernel drops now is not sent to ports of ours.",
        };
        return Verdict::pass(meaning).seen(evidence);
    };
    let (meaning, fix) = cure(worst);
    let verdict = if worst.by == Dropper::Connections {
        Verdict::fail(meaning)
    } else {
        Verdict::warn(meaning)
    };
    verdict
        .seen([line(worst)])
        .seen(evidence.into_iter().filter(|other| *other != line(worst)))
        .fix(fix.into_iter().map(str::to_owned))
}

fn cure(dropped: &Dropped) -> (&'static str, Vec<&'static str>) {
    match dropped.by {
        Dropper::Firewall(backend) => (
            "A rule drops packets to our ports now: from strangers, or from a party that is not \
             heard.",
            match backend {
                Backend::Nft => vec!["nft -a list ruleset"],
                Backend::Xt => vec!["iptables-nft -L -v -n --line-numbers"],
                Backend::Legacy => vec!["iptables-legacy -L -v -n --line-numbers"],
            },
        ),
        Dropper::Sources => (
            "The reverse path filter drops packets now, before any firewall: their sender is \
             reached by another card.",
            vec![
                "nstat -az TcpExtIPReversePathFilter",
                "towpath doctor --check net.rp_filter,net.routes",
            ],
        ),
        Dropper::Connections => (
            "Connection tracking drops packets now: its table has no room for them.",
            vec![
                "sysctl net.netfilter.nf_conntrack_count net.netfilter.nf_conntrack_max",
                "conntrack -S",
            ],
        ),
        Dropper::Buffer => (
            "Sockets lose packets now: they come faster than their program takes them.",
            vec![
                "ss -anump",
                "sysctl -w net.core.rmem_default=1048576",
                "towpath bpf status",
            ],
        ),
        Dropper::Checksum => (
            "Packets come with wrong checksums now: a sender on this machine leaves them to a \
             card, or a line is broken.",
            vec![
                "nstat -az UdpInCsumErrors",
                "ethtool -K NAME tx off   # in the sender",
            ],
        ),
        Dropper::Backlog => (
            "A processor drops packets now: its queue is full before they are looked at.",
            vec![
                "cat /proc/net/softnet_stat",
                "sysctl -w net.core.netdev_max_backlog=10000",
            ],
        ),
        Dropper::Route => (
            "The kernel has no route for packets now.",
            vec!["nstat -az IpInNoRoutes IpOutNoRoutes", "ip route"],
        ),
    }
}

fn own_ports(config: &Config) -> Vec<RangeInclusive<u16>> {
    let listeners = config.sip.listen.iter().map(|listener| {
        let port = listener.local.port();
        port..=port
    });
    let media = config.networks.iter().map(|network| {
        let ports = network.media_ports;
        ports.first..=ports.last
    });
    listeners.chain(media).collect()
}

/// Whether a rule's text names a port of ours, alone or in a range.
fn names_a_port(rule: &str, own: &[RangeInclusive<u16>]) -> bool {
    let Some((_, ports)) = rule.split_once("dport") else {
        return false;
    };
    let is_range = |c: char| c.is_ascii_digit() || c == '-' || c == ':';
    let words = ports.split(|c: char| !is_range(c));
    let ranges = words.filter_map(|word| {
        let (first, last) = word.split_once(['-', ':']).unwrap_or((word, word));
        Some((first.parse::<u16>().ok()?, last.parse::<u16>().ok()?))
    });
    let mut ranges = ranges;
    ranges.any(|(first, last)| {
        own.iter()
            .any(|own| first <= *own.end() && *own.start() <= last)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::doctor::Status;
    use crate::doctor::facts::Drops;
    use crate::doctor::tests::two;

    #[test]
    fn what_is_dropped_is_judged_by_who_drops_it() {
        let check = |by: Dropper, what: &str, packets: u64, expected: Status| {
            let what = what.to_owned();
            let drops = Drops {
                within: Duration::from_secs(2),
                counted: vec![Dropped { by, what, packets }],
            };
            let facts = Facts {
                drops,
                ..Facts::default()
            };
            assert_eq!(live(&two(), &facts).status, expected, "{facts:?}");
        };
        let nft = Dropper::Firewall(Backend::Nft);
        check(nft, "inet f, in: udp dport 5060 drop", 1, Status::Warn);
        check(nft, "inet f, in: udp dport 5000-5100 drop", 1, Status::Warn);
        check(
            nft,
            "inet f, in: udp dport { 22, 20010 } drop",
            1,
            Status::Warn,
        );
        check(nft, "inet f, in: tcp dport 22 drop", 500, Status::Pass);
        check(
            nft,
            "inet f, in: ip saddr 192.0.2.5 drop",
            500,
            Status::Pass,
        );
        let xt = Dropper::Firewall(Backend::Xt);
        check(
            xt,
            "-A INPUT -p udp --dport 20000:29999 -j DROP",
            1,
            Status::Warn,
        );
        check(Dropper::Connections, "nf_conntrack drop", 1, Status::Fail);
        check(Dropper::Buffer, "UdpRcvbufErrors", 1, Status::Warn);
        check(
            Dropper::Sources,
            "TcpExtIPReversePathFilter",
            19,
            Status::Pass,
        );
        check(
            Dropper::Sources,
            "TcpExtIPReversePathFilter",
            20,
            Status::Warn,
        );
    }
}
