//! One flow: where it is placed, what is counted of it, how its stream fares.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::books::{Books, Carried, SAMPLE_EVERY, Streams};
use crate::effect::Rule;
use crate::id::NetworkId;
use crate::shell::kernel::{Position, Stream, Totals};
use crate::shell::media::Port;

pub(super) struct Installed {
    pub(super) rule: Rule,
    pub(super) placement: Placement,
    /// What the kernel counted before the flow last left it.
    pub(super) before: Counted,
    pub(super) clock: Clock,
    seen: Seen,
}

/// What is known about the clock of a stream.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Clock {
    /// Zero: not known yet.
    pub(super) hz: u32,
    pub(super) looked: Option<Position>,
}

/// Which path a flow takes now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Placement {
    Kernel,
    User(&'static str),
}

/// What had been counted when it was looked at last.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    kernel: Carried,
    user: Carried,
    streams: Streams,
    jitter: Option<Duration>,
    at: Option<Instant>,
    bits_per_s: u64,
    /// At the last sample.
    sampled: Streams,
    sampled_at: Option<Instant>,
}

/// One flow with its numbers.
pub(crate) struct FlowNow {
    pub(crate) at: SocketAddr,
    pub(crate) rule: Rule,
    pub(crate) placement: Placement,
    pub(crate) kernel: Counted,
    pub(crate) user_packets: u64,
    pub(crate) user_bytes: u64,
    pub(crate) unclaimed: u64,
    /// None before the first RTP packet.
    pub(crate) stream: Option<Stream>,
    pub(crate) bits_per_s: u64,
}

/// What the last look found of a flow: nobody is asked anew.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Glance {
    pub(crate) placement: Placement,
    pub(crate) bits_per_s: u64,
    /// Of all its stream ever sent; none before the first RTP packet.
    pub(crate) lost_ppm: Option<u64>,
    pub(crate) jitter: Option<Duration>,
}

/// What the kernel program did with the packets of a flow.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) strangers: u64,
    pub(crate) punted: u64,
    pub(crate) stream: Option<Stream>,
}

impl Counted {
    pub(super) fn of(totals: &Totals) -> Self {
        Self {
            packets: totals.packets,
            bytes: totals.bytes,
            strangers: totals.strangers,
            punted: totals.punted,
            stream: totals.stream,
        }
    }

    /// This, and what was counted later.
    pub(super) fn plus(self, later: Self) -> Self {
        Self {
            packets: self.packets.saturating_add(later.packets),
            bytes: self.bytes.saturating_add(later.bytes),
            strangers: self.strangers.saturating_add(later.strangers),
            punted: self.punted.saturating_add(later.punted),
            stream: joined(self.stream, later.stream),
        }
    }
}

fn joined(before: Option<Stream>, later: Option<Stream>) -> Option<Stream> {
    match (before, later) {
        (Some(before), Some(later)) => Some(before.followed_by(later)),
        (one, other) => one.or(other),
    }
}

impl Installed {
    pub(super) fn new(rule: Rule, placement: Placement) -> Self {
        Self {
            rule,
            placement,
            before: Counted::default(),
            clock: Clock::default(),
            seen: Seen::default(),
        }
    }

    /// What the kernel forwarded, now and before the flow last left it.
    pub(super) fn counted(&self, now: &Totals) -> Counted {
        match self.placement {
            Placement::Kernel => self.before.plus(Counted::of(now)),
            Placement::User(_) => self.before,
        }
    }

    /// The port of ours that packets leave from: in the kernel, that of the last passage.
    pub(super) fn left_by(&self, through: impl FnOnce(Rule) -> Rule) -> SocketAddr {
        match self.placement {
            Placement::Kernel => through(self.rule).source,
            Placement::User(_) => self.rule.source,
        }
    }

    /// What was carried before a daemon that is no more handed it over is not ours to count.
    pub(super) fn adopted(mut self, kernel: &Totals) -> Self {
        let counted = Counted::of(kernel);
        self.seen.kernel = carried(&counted);
        self.seen.streams = streams(counted.stream);
        self.seen.sampled = self.seen.streams;
        self
    }

    /// Everything that is known of it now.
    pub(super) fn now(&self, at: SocketAddr, kernel: &Totals, port: Option<&Arc<Port>>) -> FlowNow {
        let counted = self.counted(kernel);
        let user = port.map(|port| by_user(port)).unwrap_or_default();
        let unclaimed = port.map_or(0, |p| p.count.unclaimed.load(Ordering::Relaxed));
        FlowNow {
            at,
            rule: self.rule,
            placement: self.placement,
            kernel: counted,
            user_packets: user.packets,
            user_bytes: user.bytes,
            unclaimed,
            stream: stream(counted.stream, kernel, port),
            bits_per_s: self.seen.bits_per_s,
        }
    }

    pub(super) fn glance(&self) -> Glance {
        Glance {
            placement: self.placement,
            bits_per_s: self.seen.bits_per_s,
            lost_ppm: self.seen.streams.loss_ppm(),
            jitter: self.seen.jitter,
        }
    }

    /// Enters into the books what was counted since the last look; true if packets were.
    pub(super) fn look(
        &mut self,
        kernel: &Totals,
        port: Option<&Arc<Port>>,
        networks: [Option<NetworkId>; 2],
        now: Instant,
        books: &mut Books,
    ) -> bool {
        let counted = self.counted(kernel);
        let (in_kernel, user) = (
            carried(&counted),
            port.map(|port| by_user(port)).unwrap_or_default(),
        );
        let stream = stream(counted.stream, kernel, port);
        let streams = streams(stream);
        let (rule, seen) = (&self.rule, &mut self.seen);
        let (xdp, by_user) = (in_kernel.since(seen.kernel), user.since(seen.user));
        books.carry(networks, rule.kind, "xdp", xdp);
        books.carry(networks, rule.kind, "user", by_user);
        books.count(networks[0], rule.kind, streams.since(seen.streams));
        if let Some(passed) = seen.at.map(|at| now.saturating_duration_since(at))
            && passed >= RATE_OVER_MIN
        {
            // The kernel counts from the IP header on.
            let headers = if rule.peer.is_ipv4() { 28 } else { 48 };
            let bytes = xdp.bytes + by_user.bytes + by_user.packets * headers;
            seen.bits_per_s = per_second(bytes.saturating_mul(8), passed);
        }
        if seen
            .sampled_at
            .is_none_or(|at| now.saturating_duration_since(at) >= SAMPLE_EVERY)
        {
            if seen.sampled_at.is_some() {
                let jitter = stream.and_then(|stream| stream.jitter);
                books.sample(rule.kind, streams.since(seen.sampled), jitter);
            }
            (seen.sampled, seen.sampled_at) = (streams, Some(now));
        }
        (seen.kernel, seen.user, seen.streams) = (in_kernel, user, streams);
        seen.jitter = stream.and_then(|stream| stream.jitter);
        seen.at = Some(now);
        xdp.packets > 0 || by_user.packets > 0
    }
}

/// A rate over less says nothing.
const RATE_OVER_MIN: Duration = Duration::from_millis(100);

fn per_second(count: u64, passed: Duration) -> u64 {
    let passed_ms = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
    let count = count.saturating_mul(1000);
    count.checked_div(passed_ms).unwrap_or(0)
}

fn carried(counted: &Counted) -> Carried {
    Carried {
        packets: counted.packets,
        bytes: counted.bytes,
    }
}

fn by_user(port: &Port) -> Carried {
    Carried {
        packets: port.count.packets.load(Ordering::Relaxed),
        bytes: port.count.bytes.load(Ordering::Relaxed),
    }
}

fn streams(stream: Option<Stream>) -> Streams {
    stream.map_or_else(Streams::default, |stream| Streams {
        received: stream.received,
        lost: stream.lost.into(),
        reordered: stream.reordered.into(),
        ssrc_changes: stream.ssrc_changes.into(),
    })
}

/// Both paths' accounts, with the source and the jitter of the later one.
fn stream(in_kernel: Option<Stream>, kernel: &Totals, port: Option<&Arc<Port>>) -> Option<Stream> {
    let by_user = port.and_then(|port| port.account().stream());
    let user_ns = port.map_or(0, |port| port.count.last_ns.load(Ordering::Relaxed));
    if user_ns > kernel.last_ns {
        joined(in_kernel, by_user)
    } else {
        joined(by_user, in_kernel)
    }
}
