//! What became of media: sums and distributions over all streams.

use std::sync::atomic::Ordering;

use common::forward::Reason;

use super::{Kind, Text, count};
use crate::effect::MediaKind;
use crate::engine::shard::Silence;
use crate::id::NetworkId;
use crate::shell::Shell;
use crate::shell::datapath::{Books, Carried, Histogram, JITTER_US, LOSS_PPM, MILLION};

pub(super) fn streams(shell: &Shell, text: &mut Text) {
    let books = &shell.datapath.books;
    carried(shell, books, text);
    received(shell, books, text);
    dropped(shell, text);
    too_big(shell, text);
    let help = "Jitter of streams that carry media, each every 5 s.";
    text.family("jitter_seconds", Kind::Histogram, help);
    for (kind, histogram) in &books.jitter {
        distribution(*kind, &JITTER_US, histogram, text);
    }
    let help = "Share of packets lost before us, over 5 s, of streams that carry media.";
    text.family("loss_ratio", Kind::Histogram, help);
    for (kind, histogram) in &books.loss {
        distribution(*kind, &LOSS_PPM, histogram, text);
    }
    sources(shell, text);
    silence(shell, text);
}

/// What is not heard, by network.
fn silence(shell: &Shell, text: &mut Text) {
    let silence = shell.engine.silence();
    let mut gauge = |name, help, of: fn(Silence) -> usize| {
        text.family(name, Kind::Gauge, help);
        for (id, network) in shell.engine.config().networks() {
            let here = silence.get(&id).copied().unwrap_or_default();
            text.series(&[("network", &network.name)], count(of(here)));
        }
    };
    let help = "Directions of streams that should carry media and carry none.";
    gauge("silent_streams", help, |here| here.streams);
    let help = "Calls whose party in this network is not heard while the other is.";
    gauge("one_way_calls", help, |here| here.one_way);
}

/// Packets and bytes of media, by way.
fn carried(shell: &Shell, books: &Books, text: &mut Text) {
    let mut counter = |name, help, of: fn(&Carried) -> u64| {
        text.family(name, Kind::Counter, help);
        for (line, carried) in &books.carried {
            let labels = [
                ("network", network(shell, line.network)),
                ("direction", line.direction),
                ("kind", line.kind.name()),
                ("path", line.path),
            ];
            text.series(&labels, of(carried));
        }
    };
    let help = "Media packets that were forwarded, by where they came from or went to.";
    counter("rtp_packets_total", help, |carried| carried.packets);
    let help = "Their bytes, in the kernel from the IP header on, in userspace from UDP's on.";
    counter("rtp_bytes_total", help, |carried| carried.bytes);
}

/// How RTP came to us.
fn received(shell: &Shell, books: &Books, text: &mut Text) {
    let help = "RTP packets by how they came: as counted, missing, late or twice.";
    text.family("rtp_received_total", Kind::Counter, help);
    for ((id, kind), streams) in &books.streams {
        for (result, packets) in [
            ("received", streams.received),
            ("lost", streams.lost),
            ("reordered", streams.reordered),
        ] {
            let labels = [
                ("network", network(shell, *id)),
                ("kind", kind.name()),
                ("result", result),
            ];
            text.series(&labels, packets);
        }
    }
    let help = "Streams that went on with another source.";
    text.family("rtp_source_changes_total", Kind::Counter, help);
    for ((id, kind), streams) in &books.streams {
        let labels = [("network", network(shell, *id)), ("kind", kind.name())];
        text.series(&labels, streams.ssrc_changes);
    }
}

/// What the latches of all calls said.
fn sources(shell: &Shell, text: &mut Text) {
    let counters = shell.engine.counters();
    let help = "Streams whose packets come from another address than before.";
    text.family("source_relock_total", Kind::Counter, help);
    text.series(&[], counters.get("media_source", "changed"));
    let help = "Packets at media ports that were judged, and not their party's.";
    text.family("source_reject_total", Kind::Counter, help);
    let rejected = counters.iter().filter(|(what, which, _)| {
        let party = ["held", "tentative", "passed", "not_media"];
        *what == "media_unclaimed" && !party.contains(which)
    });
    text.series(&[], rejected.map(|(_, _, packets)| packets).sum());
}

/// Packets at media ports that went no further.
fn dropped(shell: &Shell, text: &mut Text) {
    let user = shell.datapath.media.total();
    let kernel = shell.datapath.kernel.as_ref().ok();
    let kernel = kernel.map(|kernel| kernel.reasons());
    let of = |reason: Reason| {
        let place = Reason::ALL.iter().position(|r| *r == reason);
        let counted = place.and_then(|place| kernel.as_ref()?.get(place));
        counted.copied().unwrap_or_default()
    };
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let help = "Packets at media ports that went no further, by reason.";
    text.family("rtp_dropped_total", Kind::Counter, help);
    for (reason, packets) in [
        ("bad_source", of(Reason::WrongSource)),
        (
            "wrong_interface",
            of(Reason::WrongInterface) + load(&user.wrong_interface),
        ),
        ("banned", of(Reason::Banned)),
        ("ttl", of(Reason::HopLimit) + load(&user.hop_limit)),
        ("redirect_err", of(Reason::NoEgress)),
        ("send_failed", load(&user.send_failed)),
        ("rate", load(&user.queue_full)),
    ] {
        text.series(&[("reason", reason)], packets);
    }
}

/// What became of "too big" from routers beyond us.
fn too_big(shell: &Shell, text: &mut Text) {
    let count = shell.datapath.icmp.count;
    let help = "ICMP too-big about packets we sent on, by what became of it.";
    text.family("icmp_too_big_total", Kind::Counter, help);
    for (result, messages) in [
        ("told", count.told),
        ("unmatched", count.unmatched),
        ("limited", count.limited),
        ("failed", count.failed),
    ] {
        text.series(&[("result", result)], messages);
    }
}

fn network(shell: &Shell, id: Option<NetworkId>) -> &str {
    let network = id.and_then(|id| shell.engine.config().network(id));
    network.map_or("", |network| network.name.as_str())
}

/// Bounds and sum are millionths of the unit.
fn distribution<const N: usize>(
    kind: MediaKind,
    bounds: &[u64; N],
    histogram: &Histogram<N>,
    text: &mut Text,
) {
    let kind = kind.name();
    let name = text.name;
    for (bound, up_to) in bounds.iter().zip(&histogram.up_to) {
        let bound = millionths(*bound);
        text.line(&format!(
            "{name}_bucket{{kind=\"{kind}\",le=\"{bound}\"}} {up_to}"
        ));
    }
    let all = histogram.all;
    text.line(&format!(
        "{name}_bucket{{kind=\"{kind}\",le=\"+Inf\"}} {all}"
    ));
    let sum = millionths(histogram.sum);
    text.line(&format!("{name}_sum{{kind=\"{kind}\"}} {sum}"));
    text.line(&format!("{name}_count{{kind=\"{kind}\"}} {all}"));
}

/// As a decimal fraction without trailing zeros.
fn millionths(value: u64) -> String {
    let whole = value / MILLION;
    match value % MILLION {
        0 => whole.to_string(),
        part => format!("{whole}.{part:06}")
            .trim_end_matches('0')
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions() {
        for (value, expected) in [
            (0, "0"),
            (1, "0.000001"),
            (20_000, "0.02"),
            (500_000, "0.5"),
            (1_000_000, "1"),
            (12_000_340, "12.00034"),
        ] {
            assert_eq!(millionths(value), expected);
        }
    }

    #[test]
    fn a_distribution_has_its_bounds_its_sum_and_its_count() {
        let mut text = Text::default();
        text.family("loss_ratio", Kind::Histogram, "Loss.");
        let histogram = Histogram {
            up_to: [1, 2],
            all: 3,
            sum: 520_000,
        };
        distribution(MediaKind::Video, &[0, 50_000], &histogram, &mut text);
        let expected = "# HELP towpath_loss_ratio Loss.\n# TYPE towpath_loss_ratio histogram\n\
                        towpath_loss_ratio_bucket{kind=\"video\",le=\"0\"} 1\n\
                        towpath_loss_ratio_bucket{kind=\"video\",le=\"0.05\"} 2\n\
                        towpath_loss_ratio_bucket{kind=\"video\",le=\"+Inf\"} 3\n\
                        towpath_loss_ratio_sum{kind=\"video\"} 0.52\n\
                        towpath_loss_ratio_count{kind=\"video\"} 3\n";
        assert_eq!(text.text, expected);
    }
}
