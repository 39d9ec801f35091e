//! Topics and filters (MQTT 5 §4.7).

use super::{TOPIC_BYTES_MAX, TOPIC_LEVELS_MAX};

/// Shared subscriptions (§4.8.2) are refused by name.
pub const SHARED: &str = "$share/";

/// Whether a text may be published under.
#[must_use]
pub fn is_topic(text: &str) -> bool {
    fits(text) && !text.contains(['+', '#'])
}

/// Whether a text may be subscribed to.
#[must_use]
pub fn is_filter(text: &str) -> bool {
    let last = text.split('/').count().saturating_sub(1);
    let level = |(at, level): (usize, &str)| match level {
        "+" => true,
        "#" => at == last,
        _ => !level.contains(['+', '#']),
    };
    fits(text) && text.split('/').enumerate().all(level)
}

/// §1.5.4: no U+0000, and no more than we keep.
fn fits(text: &str) -> bool {
    (1..=TOPIC_BYTES_MAX).contains(&text.len())
        && !text.contains('\0')
        && text.bytes().filter(|byte| *byte == b'/').count() < TOPIC_LEVELS_MAX
}

#[must_use]
pub fn has_wildcard(filter: &str) -> bool {
    filter.contains(['+', '#'])
}

/// Whether a topic is one of those a filter names; both are valid.
#[must_use]
pub fn matches(filter: &str, topic: &str) -> bool {
    // §4.7.2: what the server has for itself is not what everybody asked for.
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let (mut wanted, mut levels) = (filter.split('/'), topic.split('/'));
    loop {
        match (wanted.next(), levels.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_name_topics() {
        for (filter, topic, expected) in [
            ("a", "a", true),
            ("a", "a/b", false),
            ("a/b", "a", false),
            ("a/+", "a/b", true),
            ("a/+", "a/", true),
            ("a/+", "a", false),
            ("a/+", "a/b/c", false),
            ("+/+", "/a", true),
            ("+", "/a", false),
            ("/+", "/a", true),
            ("#", "a/b/c", true),
            ("#", "/", true),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("a/#", "ab", false),
            ("a/+/c", "a/b/c", true),
            ("a/+/#", "a", false),
            ("a/+/#", "a/b", true),
            ("+/b/#", "a/b/c/d", true),
            ("#", "$SYS/a", false),
            ("+/a", "$SYS/a", false),
            ("$SYS/#", "$SYS/a", true),
            ("a//b", "a//b", true),
            ("a/+/b", "a//b", true),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }

    #[test]
    fn what_may_be_asked_for() {
        for (text, topic, filter) in [
            ("a", true, true),
            ("a/b", true, true),
            ("/", true, true),
            ("a//b", true, true),
            ("a b", true, true),
            ("", false, false),
            ("a\0b", false, false),
            ("+", false, true),
            ("#", false, true),
            ("a/+/b", false, true),
            ("a/#", false, true),
            ("a/#/b", false, false),
            ("a#", false, false),
            ("a/b#", false, false),
            ("a+/b", false, false),
            ("a/+b", false, false),
            ("a/##", false, false),
        ] {
            assert_eq!(
                (is_topic(text), is_filter(text)),
                (topic, filter),
                "{text:?}"
            );
        }
        let deep = vec!["a"; TOPIC_LEVELS_MAX].join("/");
        assert!(is_topic(&deep) && !is_topic(&format!("{deep}/a")));
        assert!(
            is_topic(&"a".repeat(TOPIC_BYTES_MAX)) && !is_topic(&"a".repeat(TOPIC_BYTES_MAX + 1))
        );
    }
}
