//! The link to the broker behind us.

use std::time::Instant;

use serde_json::{Value, json};

use crate::shell::Shell;
use crate::shell::outbox::Link;

/// For `status`; null where there is none.
pub(super) fn summary(shell: &Shell, now: Instant) -> Value {
    let Some(view) = shell.publisher.outbox.view(now) else {
        return Value::Null;
    };
    let (state, since, why) = match &view.link {
        Link::Up { since, refused } => ("up", since, refused.as_ref()),
        Link::Down { since, why } => ("down", since, Some(why)),
    };
    json!({
        "url": view.broker,
        "state": state,
        "since_s": now.saturating_duration_since(*since).as_secs(),
        "why": why,
        "waiting": view.depth,
        "waiting_bytes": view.bytes,
        "oldest_s": view.oldest.as_secs(),
    })
}
