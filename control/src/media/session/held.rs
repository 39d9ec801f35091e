//! The pairs of ports that a call holds: a few, for as long as it lasts.

use crate::media::stream::Pair;

use super::exchange::Transport;

/// In order of the pairs.
#[derive(Clone, Debug, Default)]
pub(super) struct Held(Vec<(Pair, Transport)>);

impl Held {
    pub(super) fn iter(&self) -> impl Iterator<Item = (Pair, Transport)> {
        self.0.iter().copied()
    }

    pub(super) fn get(&self, pair: Pair) -> Option<Transport> {
        let known = self.place(pair).ok().and_then(|place| self.0.get(place));
        known.map(|(_, transport)| *transport)
    }

    pub(super) fn insert(&mut self, pair: Pair, transport: Transport) {
        match self.place(pair) {
            Ok(place) => self
                .0
                .splice(place..=place, [(pair, transport)])
                .for_each(drop),
            Err(place) => {
                self.0.reserve_exact(1);
                self.0.insert(place, (pair, transport));
            }
        }
    }

    /// Takes out those that are not needed.
    pub(super) fn let_go(&mut self, needed: impl Fn(&Pair) -> bool) -> Vec<(Pair, Transport)> {
        let gone = self.0.extract_if(.., |(pair, _)| !needed(pair));
        gone.collect()
    }

    fn place(&self, pair: Pair) -> Result<usize, usize> {
        self.0.binary_search_by_key(&pair, |(pair, _)| *pair)
    }
}
