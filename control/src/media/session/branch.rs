//! A forked offer: several parties are asked, one of them becomes the other side.
//!
//! The caller has one port pair for each line, whoever answers; each branch has pairs of its own,
//! so that two phones behind one address cannot be mistaken for each other. What is agreed is what
//! was answered last, until one branch is decided for.

use std::collections::BTreeMap;
use std::time::Instant;

use ipnet::IpNet;

use super::exchange::Exchange;
use super::{LegSettings, Mode, Session, Side};
use crate::effect::Effects;
use crate::media::port::Pools;
use crate::media::stream::{Pair, Stream};
use crate::media::told::Told;

/// What a session knows of one party it asks, while another one is in front.
#[derive(Clone, Debug)]
pub(super) struct Branch {
    leg: LegSettings,
    prefixes: Vec<IpNet>,
    configured: Mode,
    told: Told,
    exchange: Option<Exchange>,
}

/// The branches of a session, the one in front aside.
#[derive(Clone, Debug, Default)]
pub(super) struct Branches {
    others: BTreeMap<u32, Branch>,
    front: u32,
    /// The one that stood in front is gone.
    vacant: bool,
    /// Whose answer is agreed.
    agreed: u32,
    /// What was agreed with others before that.
    kept: BTreeMap<u32, Vec<Option<Stream>>>,
}

impl Branches {
    /// Nobody is decided for yet.
    pub(super) fn is_forked(&self) -> bool {
        !self.others.is_empty()
    }

    /// The party in front has answered; `before` is what was agreed until now.
    pub(super) fn agree(&mut self, before: &[Option<Stream>]) {
        if self.agreed != self.front && self.others.contains_key(&self.agreed) {
            self.kept.insert(self.agreed, before.to_vec());
        }
        self.agreed = self.front;
    }

    /// Every pair an offer of another branch still needs.
    pub(super) fn needed(&self) -> impl Iterator<Item = Pair> {
        let exchanges = self.others.values().filter_map(|b| b.exchange.as_ref());
        let lines = exchanges.flat_map(|exchange| &exchange.lines);
        let offered = lines.filter_map(|line| line.offered.as_ref());
        offered.flat_map(|offered| [offered.pairs.a, offered.pairs.b])
    }

    /// The pairs the caller has for a line in other branches.
    pub(super) fn callers(&self, index: usize) -> impl Iterator<Item = Pair> {
        let exchanges = self.others.values().filter_map(|b| b.exchange.as_ref());
        let lines = exchanges.filter_map(move |exchange| exchange.lines.get(index));
        lines.filter_map(|line| Some(line.offered.as_ref()?.pairs.a))
    }
}

impl Session {
    /// Another party is asked beside those that are. It stands in front until `turn_to`.
    pub fn fork(&mut self, number: u32, mut leg: LegSettings) {
        let fresh = Branch {
            configured: leg.mode,
            leg: {
                leg.mode = self.modes.b.unwrap_or(leg.mode);
                leg
            },
            prefixes: Vec::new(),
            told: Told::default(),
            exchange: None,
        };
        self.stash(fresh, number);
    }

    /// Puts a branch in front: what comes now is its.
    pub fn turn_to(&mut self, number: u32) {
        if let Some(branch) = self.branches.others.remove(&number) {
            self.stash(branch, number);
        }
    }

    fn stash(&mut self, next: Branch, number: u32) {
        let before = Branch {
            leg: std::mem::replace(&mut self.legs.b, next.leg),
            prefixes: std::mem::replace(&mut self.prefixes.b, next.prefixes),
            configured: std::mem::replace(&mut self.configured.b, next.configured),
            told: std::mem::replace(&mut self.told.b, next.told),
            exchange: std::mem::replace(&mut self.exchange, next.exchange),
        };
        let before_number = std::mem::replace(&mut self.branches.front, number);
        if !std::mem::take(&mut self.branches.vacant) {
            self.branches.others.insert(before_number, before);
        }
    }

    /// A branch has refused: what it was offered, and what it had answered, is let go.
    pub fn drop_branch(
        &mut self,
        number: u32,
        pools: &mut Pools,
        now: Instant,
        effects: &mut Effects,
    ) {
        if number != self.branches.front {
            self.branches.others.remove(&number);
        } else if let Some(next) = self.branches.others.keys().next().copied() {
            self.turn_to(next);
            self.branches.others.remove(&number);
        } else {
            self.exchange = None;
            self.told.b = Told::default();
            self.branches.vacant = true;
        }
        self.branches.kept.remove(&number);
        if self.branches.agreed == number {
            self.agreed.clear();
            self.replan(effects);
        }
        self.settle_ports(pools, now, effects);
    }

    /// The party in front it is: the ports of all others rest.
    pub fn decide(&mut self, pools: &mut Pools, now: Instant, effects: &mut Effects) {
        self.branches.others.clear();
        if self.branches.agreed != self.branches.front {
            // Another one has answered since, but in vain.
            let front = self.branches.front;
            self.agreed = self.branches.kept.remove(&front).unwrap_or_default();
            self.branches.agreed = front;
            self.replan(effects);
        }
        self.branches.kept.clear();
        self.settle_ports(pools, now, effects);
    }

    /// What was agreed for a line with the party in front.
    pub(super) fn before(&self, index: usize) -> Option<&Stream> {
        let own = self.branches.agreed == self.branches.front;
        self.agreed.get(index).filter(|_| own)?.as_ref()
    }

    /// The pair that a line has already on a side, of those that `fit`.
    pub(super) fn held_pair(
        &self,
        index: usize,
        side: Side,
        fits: impl Fn(&Pair) -> bool,
    ) -> Option<Pair> {
        let agreed = self.before(index);
        let agreed = agreed.map(|stream| *stream.terms().pairs.of(side));
        // An offer repeated before it was answered: the same ports.
        let foreign = self.branches.agreed != self.branches.front;
        let offered = self.exchange.as_ref();
        let offered = offered.filter(|exchange| exchange.is_open() || foreign);
        let offered = offered.and_then(|e| e.lines.get(index)?.offered.as_ref());
        let offered = offered.map(|line| *line.pairs.of(side));
        let mut held = agreed.filter(&fits).or(offered.filter(&fits));
        if side == Side::A {
            held = held.or_else(|| self.branches.callers(index).find(&fits));
        }
        held
    }
}
