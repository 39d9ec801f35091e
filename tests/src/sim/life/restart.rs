//! The daemon dies, and another goes on with what was kept.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Life;
use crate::sim::NodeId;
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
        // A party may not know yet that the edge has ended it.
        let mut still = self.known();
        still.retain(|call| calm && before.contains(call) && after.contains(call));
        let open = self.site.sim.phones().flat_map(|(_, phone)| {
            let open = phone.calls.iter().filter(|c| c.state != State::Over);
            open.map(|c| c.call_id.clone())
        });
        let unsure = open.filter(|call| !still.contains(call));
        let unsure: Vec<String> = unsure.collect();
        self.forget(unsure);
        self.no_port_rests(&still);
        let before = self.homeless();
        let (sim, edge) = (&mut self.site.sim, self.site.edge);
        let config = sim.edge(edge).engine.config().clone();
        let begin = |edge: &mut Edge, now, out: &mut _| edge.restart(config, now, out);
        sim.order(edge, begin);
        let phones: Vec<NodeId> = sim.phones().map(|(node, _)| node).collect();
        for phone in phones {
            sim.phone_mut(phone).forget_finals();
        }
        let (after, known) = (self.homeless(), self.known());
        let missing: Vec<String> = still.difference(&known).cloned().collect();
        assert!(
            missing.len() as u64 <= after - before,
            "not known any more: {missing:?}, {:?}\n{}",
            self.restored(),
            self.site.sim.story()
        );
        self.forget(missing);
        self.report.count("restarts", 1);
        self.report
            .count("calls that outlive one", known.len() as u64);
    }

    /// Nothing is known of calls that are over: their ports may be others' at once.
    fn no_port_rests(&mut self, still: &BTreeSet<String>) {
        let all = self.site.sim.phones().flat_map(|(_, phone)| {
            let calls = phone.calls.iter();
            calls.map(|c| c.call_id.clone())
        });
        let over: Vec<String> = all.filter(|call| !still.contains(call)).collect();
        if let Some(oracle) = &mut self.site.sim.oracle {
            oracle.forgotten.extend(over);
        }
    }

    fn forget(&mut self, calls: Vec<String>) {
        self.forgotten.extend(calls);
        if let Some(oracle) = &mut self.site.sim.oracle {
            oracle.forgotten.extend(self.forgotten.iter().cloned());
        }
    }

    /// What became of calls that were kept.
    fn restored(&self) -> Vec<(&'static str, u64)> {
        let counters = self.site.sim.edge(self.site.edge).counters();
        let restored = counters
            .iter()
            .filter(|(what, ..)| *what == "call_restored");
        restored.map(|(_, which, n)| (which, n)).collect()
    }

    /// Calls that had no place any more: a network or listener of theirs is not configured now.
    fn homeless(&self) -> u64 {
        let restored = self.restored().into_iter();
        let gone = restored.filter(|(which, _)| *which == "network_gone");
        gone.map(|(_, times)| times).sum()
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
