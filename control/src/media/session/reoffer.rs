//! Offers of our own: one party is told another address of ours, and the other does not notice.

use std::time::Instant;

use super::exchange::{Exchange, Line, Offered, Stage, is_relayed, unrelayed};
use super::{Both, Refusal, Session, Side};
use crate::effect::Effects;
use crate::media::port::Pools;
use crate::media::stream::{Pair, Stream, Terms};
use crate::sdp::edit::{Anchor, rewrite};
use crate::sdp::lines::Sdp;

impl Session {
    /// An offer of our own to `to`, on behalf of the other party, who will not notice: what `to`
    /// was told last, with our present address and ports, and the next version. Its answer goes to
    /// `answer`, whose result is for nobody; a refusal is `roll_back`. None while another exchange
    /// is open, before anything was agreed, or without a free port.
    pub fn reoffer(
        &mut self,
        to: Side,
        pools: &mut Pools,
        now: Instant,
        effects: &mut Effects,
    ) -> Option<Vec<u8>> {
        let open = |exchange: &Exchange| exchange.stage != Stage::Answered;
        if self.exchange.as_ref().is_some_and(open) {
            return None;
        }
        let plain = self.told.of(to).agreed()?.to_vec();
        let sdp = Sdp::parse(&plain).ok()?;
        let mut fresh = Vec::new();
        let mut lines = Vec::with_capacity(sdp.media.len());
        for index in 0..sdp.media.len() {
            match self.own_line(index, to, pools, now, &mut fresh) {
                Ok(offered) => lines.push(Line { offered }),
                Err(_) => {
                    for pair in fresh.into_iter().rev() {
                        pools.untake(pair.network, pair.port);
                    }
                    return None;
                }
            }
        }
        for pair in fresh {
            self.open(pair, effects);
        }
        let anchors = sdp.media.iter().zip(&lines);
        let anchors = anchors.map(|(media, line)| match &line.offered {
            Some(offered) => self.anchor(to, *offered.pairs.of(to)),
            None if is_relayed(&sdp, media) => Anchor::Refused,
            None => unrelayed(media),
        });
        let mut rewriting = self.rewriting(to, anchors.collect());
        let out = rewrite(&plain, &sdp, &rewriting);
        rewriting.version = self.told.of_mut(to).next_version(&sdp, &plain);
        let told = match rewriting.version {
            Some(_) => rewrite(&plain, &sdp, &rewriting),
            None => out.clone(),
        };
        self.told.of_mut(to).offer(out);
        self.exchange = Some(Exchange {
            from: to.other(),
            stage: Stage::Offered,
            lines,
            own: true,
        });
        self.settle_ports(pools, now, effects);
        Some(told)
    }

    /// An agreed line as we offer it again to `to`: the other party keeps its port and its terms.
    fn own_line(
        &self,
        index: usize,
        to: Side,
        pools: &mut Pools,
        now: Instant,
        fresh: &mut Vec<Pair>,
    ) -> Result<Option<Offered>, Refusal> {
        let Some(stream) = self.agreed.get(index).and_then(Option::as_ref) else {
            return Ok(None);
        };
        let terms = stream.terms();
        let from = to.other();
        let pair = self.pair(index, to, pools, now, fresh)?;
        Ok(Some(Offered {
            kind: terms.kind.clone(),
            protocol: terms.protocol,
            pairs: Both::new(to, pair, *terms.pairs.of(from)),
            remote: terms.remote.of(from).clone(),
        }))
    }

    /// Lines that `side` rejected when we offered them again: it is absent there, and the other
    /// party keeps its port until it is told in an exchange of its own.
    pub(super) fn with_absent(&self, agreed: Vec<Option<Terms>>, side: Side) -> Vec<Option<Terms>> {
        let before = self.agreed.iter().map(Option::as_ref);
        let pairs = agreed
            .into_iter()
            .zip(before.chain(std::iter::repeat(None)));
        let absent = |before: &Stream| before.terms().without(side);
        pairs
            .map(|(terms, before)| terms.or_else(|| before.map(absent)))
            .collect()
    }
}
