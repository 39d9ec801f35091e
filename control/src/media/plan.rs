//! Wanted flows − installed flows → effects, and the same for TCP. The only producer of them.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;

use crate::effect::{Effect, Effects, JoinRule, Rule};

/// What the shell was told to forward: each local address with the hash of its rule, by which
/// another one is known. Every call has these, for as long as it lasts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Installed(Box<[(SocketAddr, u64)]>);

impl Installed {
    /// Pushes what turns the installed flows into the wanted ones: removals, then installations,
    /// each in the order of addresses.
    pub fn reconcile(&mut self, wanted: BTreeMap<SocketAddr, Rule>, effects: &mut Effects) {
        let gone = self.0.iter().filter(|(at, _)| !wanted.contains_key(at));
        effects.extend(gone.map(|(at, _)| Effect::Remove { at: *at }));
        let mut known = Vec::with_capacity(wanted.len());
        for (at, rule) in wanted {
            let hash = hash(&rule);
            if self.hash_at(at) != Some(hash) {
                effects.push(Effect::Install { at, rule });
            }
            known.push((at, hash));
        }
        self.0 = known.into();
    }

    fn hash_at(&self, at: SocketAddr) -> Option<u64> {
        let mut known = self.0.iter();
        known.find(|(known, _)| *known == at).map(|(_, hash)| *hash)
    }

    /// Whether a flow was asked for at a local address.
    #[must_use]
    pub fn has(&self, at: SocketAddr) -> bool {
        self.hash_at(at).is_some()
    }
}

fn hash(rule: &Rule) -> u64 {
    let mut hasher = DefaultHasher::new();
    rule.hash(&mut hasher);
    hasher.finish()
}

/// Where the shell was told to listen for TCP.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Listening(BTreeMap<SocketAddr, JoinRule>);

impl Listening {
    /// Pushes what turns the present state into the wanted one.
    pub fn reconcile(&mut self, wanted: BTreeMap<SocketAddr, JoinRule>, effects: &mut Effects) {
        let gone = self.0.keys().filter(|at| !wanted.contains_key(at));
        effects.extend(gone.map(|at| Effect::Unlisten { at: *at }));
        let new = wanted
            .iter()
            .filter(|(at, rule)| self.0.get(at) != Some(rule));
        effects.extend(new.map(|(at, rule)| Effect::Listen {
            at: *at,
            rule: rule.clone(),
        }));
        self.0 = wanted;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::MediaKind;

    #[test]
    fn emits_the_difference() {
        check(&[], &[(1, 5)], "+1>5");
        check(&[(1, 5)], &[(1, 5)], "");
        check(&[(1, 5)], &[(1, 6)], "+1>6");
        check(
            &[(1, 5), (2, 5), (3, 5)],
            &[(3, 5), (4, 7), (2, 8)],
            "-1 +2>8 +4>7",
        );
        check(&[(2, 5), (1, 5)], &[], "-1 -2");

        fn check(before: &[(u16, u16)], after: &[(u16, u16)], expected: &str) {
            let mut installed = Installed::default();
            installed.reconcile(table(before), &mut Vec::new());
            let mut effects = Vec::new();
            installed.reconcile(table(after), &mut effects);
            let words: Vec<_> = effects.iter().map(word).collect();
            assert_eq!(words.join(" "), expected);
        }
    }

    fn word(effect: &Effect) -> String {
        match effect {
            Effect::Install { at, rule } => format!("+{}>{}", at.port(), rule.target.port()),
            Effect::Remove { at } => format!("-{}", at.port()),
            Effect::Send { .. }
            | Effect::Open { .. }
            | Effect::Close { .. }
            | Effect::KeepAlive { .. }
            | Effect::Forward { .. }
            | Effect::Listen { .. }
            | Effect::Unlisten { .. }
            | Effect::Publish { .. }
            | Effect::Ban { .. }
            | Effect::Peer { .. }
            | Effect::Spent(_)
            | Effect::Dial { .. }
            | Effect::Store { .. }
            | Effect::Record(_) => {
                panic!("not a flow effect: {effect:?}")
            }
        }
    }

    fn table(flows: &[(u16, u16)]) -> BTreeMap<SocketAddr, Rule> {
        let at = |port: u16| SocketAddr::from(([192, 0, 2, 1], port));
        let rule = |target| Rule {
            peer: at(9),
            source: at(8),
            target: at(target),
            tos: None,
            hops: None,
            kind: MediaKind::Audio,
            rtcp: None,
        };
        flows
            .iter()
            .map(|(local, target)| (at(*local), rule(*target)))
            .collect()
    }
}
