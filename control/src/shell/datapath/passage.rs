//! Calls that cross the edge more than once (a spiral, RFC 3261 §6): what one flow sends to another
//! of ours goes through the kernel in one step, from where it came in to where it leaves for good.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::Datapath;
use crate::effect::Rule;

/// Passages of one call that are followed; a longer way goes through userspace.
const PASSAGES_MAX: usize = 4;

/// Which flow leads to which, by the ports they arrive at.
#[derive(Debug, Default)]
pub(super) struct Passages {
    next: BTreeMap<SocketAddr, SocketAddr>,
    before: BTreeMap<SocketAddr, SocketAddr>,
}

impl Passages {
    /// What arrives at a port is sent to that other port of ours, or leaves.
    pub(super) fn lead(&mut self, at: SocketAddr, to: Option<SocketAddr>) {
        if let Some(old) = self.next.remove(&at)
            && self.before.get(&old) == Some(&at)
        {
            self.before.remove(&old);
        }
        if let Some(to) = to {
            self.next.insert(at, to);
            self.before.insert(to, at);
        }
    }

    /// Whether the packets of a port come from another one of ours.
    pub(super) fn is_fed(&self, at: SocketAddr) -> bool {
        self.before.contains_key(&at)
    }

    /// A port, and those its packets arrive at after it.
    pub(super) fn of(&self, at: SocketAddr) -> impl Iterator<Item = SocketAddr> + '_ {
        std::iter::successors(Some(at), |at| self.next.get(at).copied()).take(PASSAGES_MAX)
    }

    /// Where the packets of a port came in first.
    pub(super) fn first(&self, at: SocketAddr) -> SocketAddr {
        self.feeders(at).last().unwrap_or(at)
    }

    /// A port, and those its packets arrived at before it.
    fn feeders(&self, at: SocketAddr) -> impl Iterator<Item = SocketAddr> + '_ {
        std::iter::successors(Some(at), |at| self.before.get(at).copied()).take(PASSAGES_MAX)
    }
}

impl Datapath {
    /// What a rule comes to with all those that its packets meet after it.
    pub(super) fn through(&self, at: SocketAddr, rule: Rule) -> Rule {
        let after = self.passages.of(at).skip(1);
        let rules = after.map_while(|at| self.flows.get(&at).map(|flow| flow.rule));
        rules.fold(rule, |rule, next| {
            // Whoever was not let in there is not let through here.
            if next.peer != rule.source {
                return rule;
            }
            Rule {
                peer: rule.peer,
                kind: rule.kind,
                tos: next.tos.or(rule.tos),
                hops: next.hops.or(rule.hops),
                rtcp: rule.rtcp.or(next.rtcp),
                ..next
            }
        })
    }

    /// Places a flow, and those that lead to it.
    pub(super) async fn place_with_feeders(&mut self, at: SocketAddr) {
        let all: Vec<SocketAddr> = self.passages.feeders(at).collect();
        for at in all {
            self.place(at).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn ports_lead_to_each_other_until_they_do_not() {
        let mut passages = Passages::default();
        passages.lead(at(1), Some(at(2)));
        passages.lead(at(2), Some(at(3)));
        let all: Vec<SocketAddr> = passages.of(at(1)).collect();
        assert_eq!(all, [at(1), at(2), at(3)]);
        assert_eq!(passages.first(at(3)), at(1));
        assert!(passages.is_fed(at(2)) && !passages.is_fed(at(1)));
        // Another takes its place.
        passages.lead(at(5), Some(at(2)));
        passages.lead(at(1), None);
        assert_eq!(passages.first(at(3)), at(5));
        passages.lead(at(5), None);
        assert_eq!(passages.first(at(3)), at(2));
        // A circle is left to userspace, where every round costs a hop.
        passages.lead(at(3), Some(at(2)));
        assert_eq!(passages.of(at(2)).count(), PASSAGES_MAX);
    }
}
