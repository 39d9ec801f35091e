//! The media of a call that an earlier process began: made again from what its parties said, at
//! the ports they were told.

use std::net::SocketAddr;
use std::time::Instant;

use super::exchange::{Exchange, Line, Offered, Stage};
use super::{Both, Session, Side};
use crate::effect::Effects;
use crate::media::port::Pools;
use crate::media::stream::{Pair, Terms};
use crate::sdp::lines::Sdp;

/// What must be known beside the SDP of both parties.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Lines {
    /// The even ports of each `m=` line that is agreed.
    pub ports: Vec<Option<Both<u16>>>,
    /// What each party's version in `o=` is ahead of its sender's.
    pub shifts: Both<u64>,
}

impl Session {
    #[must_use]
    pub fn lines(&self) -> Lines {
        let ports = self.agreed.iter().map(|stream| {
            let pairs = &stream.as_ref()?.terms().pairs;
            Some(pairs.map(|_, pair| pair.port))
        });
        Lines {
            ports: ports.collect(),
            shifts: self.told.map(|_, told| told.shift()),
        }
    }

    /// Agrees what `offerer` offered and the other answered, at these ports. False: it cannot be
    /// done, and what is open must be closed.
    pub fn restore(
        &mut self,
        offerer: Side,
        lines: &Lines,
        said: Both<&[u8]>,
        pools: &mut Pools,
        now: Instant,
        effects: &mut Effects,
    ) -> bool {
        let other = offerer.other();
        let answer = *said.of(other);
        let Some(offer) = without_refused(said.of(offerer), answer) else {
            return false;
        };
        let Ok(sdp) = Sdp::parse(&offer) else {
            return false;
        };
        let ports = lines.ports.iter().copied().chain(std::iter::repeat(None));
        let offered = sdp.media.iter().zip(ports).map(|(media, ports)| {
            let pairs = ports?.map(|side, port| self.pair_at(side, *port));
            Some(Offered {
                kind: Terms::kind(&offer, media),
                protocol: media.protocol,
                pairs,
                remote: self.remote(offerer, &sdp, media).ok()?,
                mux: false,
            })
        });
        let offered = offered.map(|offered| Line {
            rejected: offered.is_none(),
            offered,
        });
        let offered: Vec<Line> = offered.collect();
        let pairs = offered.iter().filter_map(|line| line.offered.as_ref());
        let pairs: Vec<Pair> = pairs.flat_map(|o| [o.pairs.a, o.pairs.b]).collect();
        for pair in &pairs {
            // Those of flows that go on are reserved already.
            pools.reserve(Some(pair.network), pair.local, pair.port);
        }
        self.open(pairs, &offered, effects);
        self.exchange = Some(Exchange {
            from: offerer,
            stage: Stage::Offered,
            lines: offered,
            own: false,
        });
        // As if both were repeated: at the same ports.
        let agreed = self.offer(offerer, &offer, pools, now, effects).is_ok()
            && self.answer(other, answer, pools, now, effects).is_ok();
        if agreed {
            self.settle(pools, now, effects);
            for side in Side::BOTH {
                self.told.of_mut(side).set_shift(*lines.shifts.of(side));
            }
        }
        agreed
    }

    /// A flow that went on meanwhile: its source is its party's.
    pub fn adopt(&mut self, at: SocketAddr, from: SocketAddr, now: Instant, effects: &mut Effects) {
        if let Some((stream, place)) = self.find(at) {
            stream.adopt(place, from, now);
            self.replan(effects);
        }
    }

    fn pair_at(&self, side: Side, port: u16) -> Pair {
        let leg = self.legs.of(side);
        Pair {
            network: leg.network,
            local: leg.local,
            port,
        }
    }
}

/// The offer with port 0 where the answer has it: nothing is opened for a line that is refused, at
/// a port that may be another call's. None: they cannot be read.
fn without_refused(offer: &[u8], answer: &[u8]) -> Option<Vec<u8>> {
    let (offered, answered) = (Sdp::parse(offer).ok()?, Sdp::parse(answer).ok()?);
    let lines = offered.media.iter().zip(&answered.media);
    let refused = lines.filter(|(_, answer)| answer.port == 0);
    let mut text = offer.to_vec();
    // From the end: what is before stays in its place.
    for (line, _) in refused.collect::<Vec<_>>().into_iter().rev() {
        text.splice(line.port_at.clone(), *b"0");
    }
    Some(text)
}
