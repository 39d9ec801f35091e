//! The daemon dies, and another goes on with what was kept.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Life;
use crate::sim::edge::Edge;
use crate::sim::phone::State;

/// Longer than it takes until what has changed is kept.
const KEPT_WITHIN: Duration = Duration::from_millis(1_200);

impl Life {
    /// Calls in which nothing has changed lately are up again, with all that they had. Of others
    /// something may be lost.
    pub(super) fn restart(&mut self) {
        let before = self.settled();
        let calm = self.site.chance.permille(700);
        if calm {
            self.run(KEPT_WITHIN);
        }
        let after = self.settled();
        let still: BTreeSet<String> = before.intersection(&after).cloned().collect();
        let still = if calm { still } else { BTreeSet::new() };
        let up = self.known();
        let (sim, edge) = (&mut self.site.sim, self.site.edge);
        let config = sim.edge(edge).engine.config().clone();
        let begin = |edge: &mut Edge, now, out: &mut _| edge.restart(config, now, out);
        sim.order(edge, begin);
        let known = self.known();
        for call in &still {
            assert!(
                known.contains(call) || !up.contains(call),
                "{call} is not known any more\n{}",
                self.site.sim.story()
            );
        }
        let open = self.site.sim.phones().flat_map(|(_, phone)| {
            let open = phone.calls.iter().filter(|c| c.state != State::Over);
            open.map(|c| c.call_id.clone())
        });
        let lost: Vec<String> = open.filter(|call| !still.contains(call)).collect();
        self.report.count("restarts", 1);
        self.report
            .count("calls that outlive one", known.len() as u64);
        self.forgotten.extend(lost);
    }

    /// Call-IDs of calls that both parties take to be up, with nothing under way.
    fn settled(&self) -> BTreeSet<String> {
        let mut calls = BTreeSet::new();
        for (node, phone) in self.site.sim.phones() {
            for (index, call) in phone.calls.iter().enumerate() {
                let other = self.other_side(node, index);
                let other = other.filter(|_| call.outgoing && phone.is_settled(index));
                if other.is_some_and(|(peer, its)| self.site.sim.phone(peer).is_settled(its)) {
                    calls.insert(call.call_id.clone());
                }
            }
        }
        calls
    }

    /// Call-IDs of calls that the edge has.
    fn known(&self) -> BTreeSet<String> {
        let views = self.views().into_iter();
        views.map(|view| view.call_id).collect()
    }
}
