//! The last word under each topic (MQTT 5 §3.3.1.3).

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use super::packet::Message;
use super::{RETAINED_MAX, filter};

#[derive(Debug, Default)]
pub(super) struct Retained {
    messages: BTreeMap<String, Kept>,
    bytes: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) message: Arc<Message>,
    pub(super) expires: Option<Instant>,
}

impl Kept {
    fn is_over(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

impl Retained {
    /// Keeps a message in place of an earlier one. False: there is no room for it, and nothing is
    /// kept under the topic.
    pub(super) fn set(&mut self, kept: Kept, bytes_max: usize, now: Instant) -> bool {
        let topic = kept.message.topic.clone();
        self.forget(&topic);
        if kept.message.payload.is_empty() {
            return true;
        }
        let size = kept.message.size() + topic.len();
        let full = |own: &Self| own.bytes + size > bytes_max || own.messages.len() >= RETAINED_MAX;
        if full(self) {
            self.sweep(now);
        }
        if full(self) {
            return false;
        }
        self.bytes += size;
        self.messages.insert(topic, kept);
        true
    }

    fn forget(&mut self, topic: &str) {
        if let Some(old) = self.messages.remove(topic) {
            self.bytes -= old.message.size() + topic.len();
        }
    }

    fn sweep(&mut self, now: Instant) {
        let over = self.messages.iter().filter(|(_, kept)| kept.is_over(now));
        let over: Vec<String> = over.map(|(topic, _)| topic.clone()).collect();
        for topic in over {
            self.forget(&topic);
        }
    }

    /// The first message that a filter names, behind a topic.
    pub(super) fn next(&self, wanted: &str, after: Option<&str>, now: Instant) -> Option<&Kept> {
        if !filter::has_wildcard(wanted) {
            let kept = self.messages.get(wanted).filter(|_| after.is_none());
            return kept.filter(|kept| !kept.is_over(now));
        }
        // All topics that it names begin with what stands before its first wildcard.
        let prefix = wanted.split(['+', '#']).next().unwrap_or_default();
        // `a/#` names `a` too.
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let from = match after {
            Some(topic) => Bound::Excluded(topic),
            None => Bound::Included(prefix),
        };
        self.messages
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(topic, _)| topic.starts_with(prefix))
            .filter(|(topic, kept)| filter::matches(wanted, topic) && !kept.is_over(now))
            .map(|(_, kept)| kept)
            .next()
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::bus::Qos;

    #[allow(clippy::disallowed_methods, reason = "any moment will do")]
    fn now() -> Instant {
        Instant::now()
    }

    fn kept(topic: &str, payload: &'static str, expires: Option<Instant>) -> Kept {
        Kept {
            message: Arc::new(Message {
                topic: topic.to_owned(),
                payload: Bytes::from_static(payload.as_bytes()),
                qos: Qos::AtLeastOnce,
                retain: true,
                properties: None,
                spans: Vec::new(),
            }),
            expires,
        }
    }

    fn all(store: &Retained, filter: &str, now: Instant) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        while let Some(kept) = store.next(filter, found.last().map(String::as_str), now) {
            found.push(kept.message.topic.clone());
        }
        found
    }

    #[test]
    fn filters_find_what_is_kept() {
        let (mut store, now) = (Retained::default(), now());
        for topic in ["a", "a/b", "a/b/c", "ab", "b/c", "a-/x"] {
            assert!(store.set(kept(topic, "x", None), 100_000, now));
        }
        for (filter, expected) in [
            ("a", vec!["a"]),
            ("a/#", vec!["a", "a/b", "a/b/c"]),
            ("a/+", vec!["a/b"]),
            ("+/c", vec!["b/c"]),
            ("#", vec!["a", "a-/x", "a/b", "a/b/c", "ab", "b/c"]),
            ("x", vec![]),
        ] {
            assert_eq!(all(&store, filter, now), expected, "{filter}");
        }
    }

    #[test]
    fn what_is_gone_takes_no_room() {
        let (mut store, now) = (Retained::default(), now());
        let later = now + Duration::from_secs(1);
        let size = kept("a", "x", None).message.size() + 1;
        assert!(store.set(kept("a", "x", Some(later)), size, now));
        assert!(store.set(kept("a", "y", Some(later)), size, now));
        assert!(!store.set(kept("b", "x", None), size, now));
        assert!(store.set(kept("b", "x", None), size, later));
        assert_eq!(all(&store, "#", later), ["b"]);
        assert!(store.set(kept("b", "", None), size, later));
        assert_eq!((store.len(), store.bytes()), (0, 0));
    }
}
