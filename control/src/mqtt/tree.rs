//! Who subscribed to what: one level of a filter, one level of the tree. What nobody asks for any
//! longer is cut off, so that it holds what is subscribed and nothing else.

use std::collections::BTreeMap;

use crate::bus::Qos;

use super::session::SessionId;

/// How somebody subscribed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Subscription {
    pub(super) qos: Qos,
    pub(super) no_local: bool,
    pub(super) as_published: bool,
    pub(super) id: Option<u32>,
}

#[derive(Debug, Default)]
pub(super) struct Tree {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    levels: BTreeMap<Box<str>, Self>,
    /// Those whose filter ends here.
    here: BTreeMap<SessionId, Subscription>,
    /// Those whose filter goes on with `#`.
    below: BTreeMap<SessionId, Subscription>,
}

impl Node {
    fn is_empty(&self) -> bool {
        self.levels.is_empty() && self.here.is_empty() && self.below.is_empty()
    }
}

impl Tree {
    /// True if it is new.
    pub(super) fn insert(&mut self, filter: &str, of: SessionId, how: Subscription) -> bool {
        let mut node = &mut self.root;
        for level in filter.split('/') {
            if level == "#" {
                return node.below.insert(of, how).is_none();
            }
            node = node.levels.entry(level.into()).or_default();
        }
        node.here.insert(of, how).is_none()
    }

    pub(super) fn remove(&mut self, filter: &str, of: SessionId) {
        let levels: Vec<&str> = filter.split('/').collect();
        remove(&mut self.root, &levels, of);
    }

    /// Every subscription that a topic meets, each session's together.
    pub(super) fn matching(&self, topic: &str) -> BTreeMap<SessionId, Vec<&Subscription>> {
        let mut found = BTreeMap::new();
        let levels: Vec<&str> = topic.split('/').collect();
        let reserved = topic.starts_with('$');
        collect(&self.root, &levels, reserved, &mut found);
        found
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.root.is_empty()
    }
}

fn remove(node: &mut Node, levels: &[&str], of: SessionId) {
    match levels {
        ["#"] => {
            node.below.remove(&of);
        }
        [level, rest @ ..] => {
            let Some(next) = node.levels.get_mut(*level) else {
                return;
            };
            remove(next, rest, of);
            if next.is_empty() {
                node.levels.remove(*level);
            }
        }
        [] => {
            node.here.remove(&of);
        }
    }
}

fn collect<'a>(
    node: &'a Node,
    levels: &[&str],
    reserved: bool,
    found: &mut BTreeMap<SessionId, Vec<&'a Subscription>>,
) {
    let mut take = |some: &'a BTreeMap<SessionId, Subscription>| {
        for (of, how) in some {
            found.entry(*of).or_default().push(how);
        }
    };
    // §4.7.2: topics of the server's own are not everybody's.
    if !reserved {
        take(&node.below);
    }
    let [level, rest @ ..] = levels else {
        take(&node.here);
        return;
    };
    if let Some(next) = node.levels.get(*level) {
        collect(next, rest, false, found);
    }
    if let (false, Some(next)) = (reserved, node.levels.get("+")) {
        collect(next, rest, false, found);
    }
}

#[cfg(test)]
mod tests {
    use super::super::filter;
    use super::*;

    const HOW: Subscription = Subscription {
        qos: Qos::AtLeastOnce,
        no_local: false,
        as_published: false,
        id: None,
    };

    #[test]
    fn finds_what_matches_and_forgets_all() {
        let filters = [
            "#", "+", "a", "a/#", "a/+", "+/b", "a/b", "a/b/#", "+/+/c", "/", "/+", "$SYS/#",
            "a//b",
        ];
        let topics = [
            "a", "a/b", "a/b/c", "/", "/x", "$SYS/x", "$SYS", "a//b", "b", "x/b",
        ];
        let mut tree = Tree::default();
        for (at, filter) in filters.iter().enumerate() {
            assert!(tree.insert(filter, SessionId(at as u64), HOW));
            assert!(!tree.insert(filter, SessionId(at as u64), HOW));
        }
        for topic in topics {
            let found: Vec<u64> = tree.matching(topic).keys().map(|of| of.0).collect();
            let all = filters.iter().zip(0u64..);
            let expected: Vec<u64> = all
                .filter(|(filter, _)| filter::matches(filter, topic))
                .map(|(_, at)| at)
                .collect();
            assert_eq!(found, expected, "{topic}");
        }
        for (at, filter) in filters.iter().enumerate() {
            tree.remove(filter, SessionId(at as u64));
            tree.remove(filter, SessionId(at as u64));
        }
        assert!(tree.is_empty());
    }
}
