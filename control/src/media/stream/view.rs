//! A stream as it is shown: every address, where it was seen, and which rule chose it.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use ipnet::IpNet;

use super::{Component, SILENT, Stream};
use crate::media::leg::{Both, Mode, Side};
use crate::nat::latch::Candidate;

/// A stream, for status and explanation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StreamView {
    /// Index of the `m=` line.
    pub index: usize,
    /// `audio`, `video`, `application`…
    pub kind: String,
    pub mux: bool,
    pub a: SideView,
    pub b: SideView,
}

/// One side of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SideView {
    /// The address this party was told.
    pub advertised: SocketAddr,
    /// Our socket.
    pub local: SocketAddr,
    /// What its SDP said.
    pub signalled: Option<SocketAddr>,
    /// The prefix of its network that holds that address.
    pub signalled_in: Option<IpNet>,
    /// Where its signalling comes from.
    pub signalling: IpAddr,
    /// The prefix of its network that holds that one.
    pub signalling_in: Option<IpNet>,
    /// An operator's word, if there is one.
    pub mode: Option<Mode>,
    /// Why its policy is what it is.
    pub why: &'static str,
    /// Which rule chose the address: a name that stays.
    pub code: &'static str,
    /// The same in words.
    pub rule: &'static str,
    /// Where its media is taken from.
    pub held: Option<SocketAddr>,
    /// Where media is sent to it.
    pub target: Option<SocketAddr>,
    pub latch: &'static str,
    /// When the held address was found, or lost.
    pub since: Instant,
    /// When it was heard last.
    pub heard: Option<Instant>,
    /// Since when it is silent, while the other party is not and it may send.
    pub silent: Option<Instant>,
    /// The source on probation.
    pub candidate: Option<Candidate>,
    /// What may go wrong, in words.
    pub risk: Option<&'static str>,
    /// Packets refused, RTP and RTCP.
    pub strangers: u64,
    /// Whether a flow was asked for at `local`.
    pub flow: bool,
    pub rtcp_held: Option<SocketAddr>,
    pub rtcp_target: Option<SocketAddr>,
    pub rtcp_code: &'static str,
    pub rtcp_flow: bool,
}

impl StreamView {
    #[must_use]
    pub fn side(&self, side: Side) -> &SideView {
        match side {
            Side::A => &self.a,
            Side::B => &self.b,
        }
    }
}

/// What is known of a party beside its SDP.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub signalling: IpAddr,
    pub mode: Option<Mode>,
    /// The prefixes of its network.
    pub network: &'a [IpNet],
}

impl Stream {
    #[must_use]
    pub fn view(
        &self,
        index: usize,
        seen: Both<Seen<'_>>,
        has_flow: impl Fn(SocketAddr) -> bool,
    ) -> StreamView {
        let sides = seen.map(|side, seen| self.side_view(side, *seen, &has_flow));
        StreamView {
            index,
            kind: self.terms.kind.clone(),
            mux: self.terms.is_mux(),
            a: sides.a,
            b: sides.b,
        }
    }

    /// Both sides' addresses, those of RTCP unless it shares the port.
    pub fn flow_ends(&self, each: &mut dyn FnMut(SocketAddr, Option<Instant>)) {
        for side in Side::BOTH {
            let pair = self.terms.pairs.of(side);
            each(pair.at(Component::Rtp), self.silent(side));
            if !self.terms.is_mux() {
                each(pair.at(Component::Rtcp), None);
            }
        }
    }

    fn side_view(
        &self,
        side: Side,
        seen: Seen<'_>,
        has_flow: impl Fn(SocketAddr) -> bool,
    ) -> SideView {
        let terms = &self.terms;
        let latches = self.latches.of(side);
        let (rtp, rtcp) = (&latches.rtp, &latches.rtcp);
        let pair = terms.pairs.of(side);
        let signalled = terms.remote.of(side).rtp;
        let guessed = rtp.target().is_none() && self.guess(side).is_some();
        let (code, rule) = match (self.is_tcp(), guessed) {
            (true, _) => TCP,
            (false, true) => GUESS,
            (false, false) => rtp.rule(),
        };
        SideView {
            advertised: *terms.advertise.of(side),
            local: pair.at(Component::Rtp),
            signalled,
            signalled_in: signalled.and_then(|at| longest(seen.network, at.ip())),
            signalling: seen.signalling,
            signalling_in: longest(seen.network, seen.signalling),
            mode: seen.mode,
            why: terms.why.of(side),
            code,
            rule,
            held: rtp.peer().filter(|_| !self.is_tcp()),
            target: if self.is_tcp() {
                self.listens_at(side)
            } else {
                self.target(side, Component::Rtp)
            },
            latch: if self.is_tcp() { "tcp" } else { rtp.state() },
            since: rtp.since(),
            heard: rtp.last_heard(),
            silent: self.silent(side),
            candidate: rtp.candidate(),
            risk: (self.is_mute(side) && rtp.target().is_none()).then_some(MUTE),
            strangers: rtp.strangers().saturating_add(rtcp.strangers()),
            flow: has_flow(pair.at(Component::Rtp)),
            rtcp_held: rtcp.peer(),
            rtcp_target: self.target(side, Component::Rtcp),
            rtcp_code: rtcp.rule().0,
            rtcp_flow: has_flow(pair.at(Component::Rtcp)),
        }
    }

    /// Since when a party is silent that may send, while the other one is heard.
    fn silent(&self, side: Side) -> Option<Instant> {
        self.idle_since()?;
        let rtp = &self.latches.of(side).rtp;
        let since = rtp.last_heard().unwrap_or(rtp.opened());
        let one_way = self.active.saturating_duration_since(since) >= SILENT;
        one_way.then_some(since)
    }
}

const TCP: (&str, &str) = (
    "tcp-relay",
    "connects to us, or we connect to it, as its a=setup says",
);

const GUESS: (&str, &str) = (
    "rtcp-guess",
    "one port below where its RTCP comes from: a guess, one-way risk",
);

const MUTE: &str = "one-way risk: the party is behind a NAT and only receives, so that no packet \
    shows where its media port is";

/// The longest prefix that holds an address.
fn longest(network: &[IpNet], ip: IpAddr) -> Option<IpNet> {
    let ip = ip.to_canonical();
    let holding = network.iter().filter(|prefix| prefix.contains(&ip));
    holding.max_by_key(|prefix| prefix.prefix_len()).copied()
}
