//! Events as documents.

use std::time::Instant;

use serde_json::{Map, Value, json};

use crate::shell::api::stream::Filter;
use crate::shell::{Shell, clock};

/// Events after number `since`. `forgotten` says that there were more, which are not known any
/// more.
pub(in crate::shell::api) fn events(
    shell: &mut Shell,
    since: u64,
    filter: &Filter,
    now: Instant,
) -> Value {
    shell.gather_events();
    let log = shell.engine.events();
    let wall = clock::wall_s();
    let events: Vec<Value> = log
        .after(since)
        .filter(|event| filter.takes(event.kind.name(), &event.subject))
        .map(|event| {
            let age = now.saturating_duration_since(event.at).as_secs();
            let fields = event.fields.iter();
            let fields: Map<String, Value> = fields
                .map(|(name, value)| ((*name).to_owned(), value.as_str().into()))
                .collect();
            json!({
                "seq": event.seq,
                "at": clock::rfc3339(wall.saturating_sub(age)),
                "kind": event.kind.name(),
                "subject": event.subject,
                "fields": fields,
            })
        })
        .collect();
    let first = log.after(since).next().map(|event| event.seq);
    json!({
        "events": events,
        "last": log.last(),
        "forgotten": first.is_some_and(|first| first > since.saturating_add(1)),
    })
}
