//! The sums over all flows there ever were, for `/metrics`: nothing here names a call or a peer.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::effect::MediaKind;
use crate::id::NetworkId;

/// What was carried, lost, late.
#[derive(Default)]
pub(crate) struct Books {
    pub(crate) carried: BTreeMap<Line, Carried>,
    pub(crate) streams: BTreeMap<(Option<NetworkId>, MediaKind), Streams>,
    pub(crate) jitter: BTreeMap<MediaKind, Histogram<{ JITTER_US.len() }>>,
    pub(crate) loss: BTreeMap<MediaKind, Histogram<{ LOSS_PPM.len() }>>,
}

/// What packets are told apart by. A network is none of a flow of an earlier run.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Line {
    pub(crate) network: Option<NetworkId>,
    /// `in` or `out`, as seen from us.
    pub(crate) direction: &'static str,
    pub(crate) kind: MediaKind,
    /// `xdp` or `user`.
    pub(crate) path: &'static str,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Carried {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

/// What became of RTP on its way to us (RFC 3550 §A.3).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Streams {
    pub(crate) received: u64,
    pub(crate) lost: u64,
    pub(crate) reordered: u64,
    pub(crate) ssrc_changes: u64,
}

impl Carried {
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            packets: self.packets.saturating_sub(before.packets),
            bytes: self.bytes.saturating_sub(before.bytes),
        }
    }
}

impl Streams {
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            received: self.received.saturating_sub(before.received),
            // What comes late makes up for what was lost: never less than nothing.
            lost: self.lost.saturating_sub(before.lost),
            reordered: self.reordered.saturating_sub(before.reordered),
            ssrc_changes: self.ssrc_changes.saturating_sub(before.ssrc_changes),
        }
    }

    /// Of what was sent, in millionths.
    pub(super) fn loss_ppm(self) -> Option<u64> {
        let lost = self.lost.saturating_mul(MILLION);
        lost.checked_div(self.received.saturating_add(self.lost))
    }
}

impl Books {
    /// A flow carried this from one network to another.
    pub(super) fn carry(
        &mut self,
        [from, to]: [Option<NetworkId>; 2],
        kind: MediaKind,
        path: &'static str,
        more: Carried,
    ) {
        if more.packets == 0 {
            return;
        }
        for (direction, network) in [("in", from), ("out", to)] {
            let line = Line {
                network,
                direction,
                kind,
                path,
            };
            let carried = self.carried.entry(line).or_default();
            carried.packets += more.packets;
            carried.bytes += more.bytes;
        }
    }

    pub(super) fn count(&mut self, from: Option<NetworkId>, kind: MediaKind, more: Streams) {
        if more == Streams::default() {
            return;
        }
        let streams = self.streams.entry((from, kind)).or_default();
        streams.received += more.received;
        streams.lost += more.lost;
        streams.reordered += more.reordered;
        streams.ssrc_changes += more.ssrc_changes;
    }

    /// How a stream fared over the last `SAMPLE_EVERY`.
    pub(super) fn sample(&mut self, kind: MediaKind, lately: Streams, jitter: Option<Duration>) {
        let Some(loss) = lately.loss_ppm() else {
            return;
        };
        let histogram = self.loss.entry(kind).or_default();
        histogram.observe(&LOSS_PPM, loss);
        if let Some(jitter) = jitter {
            let jitter = u64::try_from(jitter.as_micros()).unwrap_or(u64::MAX);
            let histogram = self.jitter.entry(kind).or_default();
            histogram.observe(&JITTER_US, jitter);
        }
    }
}

pub(crate) const MILLION: u64 = 1_000_000;
/// How often a stream's loss and jitter go into the histograms; about that often its receiver
/// reports them (RFC 3550 §6.2).
pub(crate) const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// Upper bounds, in microseconds: a phone's buffer holds some tens of milliseconds.
pub(crate) const JITTER_US: [u64; 9] = [
    1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000,
];
/// Upper bounds, in millionths: a hundredth is heard, a twentieth is bad.
pub(crate) const LOSS_PPM: [u64; 8] = [0, 1_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000];

/// Observations up to each bound, beyond the last too, and their sum.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Histogram<const N: usize> {
    pub(crate) up_to: [u64; N],
    pub(crate) all: u64,
    pub(crate) sum: u64,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self {
            up_to: [0; N],
            all: 0,
            sum: 0,
        }
    }
}

impl<const N: usize> Histogram<N> {
    fn observe(&mut self, bounds: &[u64; N], value: u64) {
        for (bound, count) in bounds.iter().zip(&mut self.up_to) {
            *count += u64::from(value <= *bound);
        }
        self.all += 1;
        self.sum = self.sum.saturating_add(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_goes_into_every_bucket_that_holds_it() {
        let mut books = Books::default();
        let mut sample = |received, lost, jitter_ms: Option<u64>| {
            let lately = Streams {
                received,
                lost,
                ..Streams::default()
            };
            books.sample(
                MediaKind::Audio,
                lately,
                jitter_ms.map(Duration::from_millis),
            );
        };
        sample(250, 0, Some(2));
        sample(98, 2, Some(700));
        sample(0, 0, Some(3)); // nothing came: nothing is known
        sample(1, 1, None);
        let loss = books.loss[&MediaKind::Audio];
        assert_eq!(loss.up_to, [1, 1, 1, 1, 2, 2, 2, 2]);
        assert_eq!((loss.all, loss.sum), (3, 520_000));
        let jitter = books.jitter[&MediaKind::Audio];
        assert_eq!(jitter.up_to, [0, 1, 1, 1, 1, 1, 1, 1, 1]);
        assert_eq!((jitter.all, jitter.sum), (2, 702_000));
    }

    #[test]
    fn both_networks_of_a_flow_are_credited() {
        let mut books = Books::default();
        let more = Carried {
            packets: 3,
            bytes: 600,
        };
        let networks = [Some(NetworkId(1)), None];
        books.carry(networks, MediaKind::Video, "xdp", more);
        books.carry(networks, MediaKind::Video, "xdp", more);
        books.carry(networks, MediaKind::Rtcp, "user", Carried::default());
        let lines = books.carried.iter();
        let lines: Vec<_> = lines
            .map(|(l, c)| (l.network, l.direction, l.path, c.packets, c.bytes))
            .collect();
        assert_eq!(
            lines,
            [
                (None, "out", "xdp", 6, 1200),
                (Some(NetworkId(1)), "in", "xdp", 6, 1200)
            ]
        );
    }
}
