//! Configurations, changes and refusals as documents.

use serde_json::{Value, json};

use super::code;
use crate::config::change::Change;
use crate::config::check::Problem;
use crate::config::entry::{self, Entry};
use crate::config::redact::redact;
use crate::shell::configuration::history::{By, Generation};
use crate::shell::reload::Refusal;
use crate::shell::{Shell, clock};

/// Changes shown of one plan; the others are counted.
pub(super) const CHANGES_MAX: usize = 1000;

pub(super) fn changes(changes: &[Change]) -> Vec<Value> {
    let one = |change: &Change| {
        json!({
            "key": change.key,
            "takes": change.takes.word(),
            "old": value(&change.old),
            "new": value(&change.new),
            "calls": change.calls,
        })
    };
    changes.iter().take(CHANGES_MAX).map(one).collect()
}

fn value(value: &entry::Value) -> Value {
    match value {
        entry::Value::Unset => Value::Null,
        entry::Value::Flag(flag) => json!(flag),
        entry::Value::Number(number) => json!(number),
        entry::Value::Text(text) => json!(text),
        entry::Value::List(list) => json!(list),
        entry::Value::Secret(_) => json!(value.to_string()),
    }
}

pub(super) fn problem(problem: &Problem) -> Value {
    json!({
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "key": problem.key,
        "message": problem.message,
        "help": problem.help,
        "excerpt": problem.excerpt,
        "indent": problem.indent,
        "width": problem.width,
    })
}

/// What `GET /api/v1/config` shows.
pub(super) fn shown(shell: &Shell) -> Value {
    let mut shown = summary(shell);
    let config = shell.engine.config();
    let takes = |kind: &str| {
        let mut classes = crate::config::change::TAKES.iter();
        classes.find(|(key, _)| *key == kind).map(|(_, t)| t.word())
    };
    let values = config.entries();
    let values = values.iter().map(|entry: &Entry| {
        // A password may stand in a file of its own.
        let beside = entry.key.replace(".password", ".password_file");
        let origin = config.origin(&entry.key).or_else(|| config.origin(&beside));
        json!({
            "key": entry.key,
            "value": value(&entry.value),
            "takes": takes(entry.kind),
            "origin": origin,
        })
    });
    let values: Vec<Value> = values.collect();
    if let Some(shown) = shown.as_object_mut() {
        shown.insert("values".to_owned(), values.into());
        shown.insert("after_restart".to_owned(), after_restart(shell).into());
    }
    shown
}

/// What `status` says of it, from memory.
pub(in crate::shell::api) fn summary(shell: &Shell) -> Value {
    let reloads = &shell.reloads;
    let last = reloads.history.last();
    let file = shell.options.config.as_ref();
    json!({
        "generation": reloads.generation(),
        "hash": last.map(|last| last.hash.as_str()),
        "at": last.map(|last| clock::rfc3339(last.at)),
        "source": last.map(|last| last.by.source()),
        "who": last.and_then(|last| last.by.who()),
        "file": file.map(|file| file.display().to_string()),
        "not_stored": reloads.history.in_memory(),
        "refused": reloads.refused.as_ref().map(refusal),
    })
}

/// What a restart would use.
fn after_restart(shell: &Shell) -> &'static str {
    let now = shell.options.file_hash();
    let history = &shell.reloads.history;
    let stays = history.last().is_some_and(|last| {
        let over = last.by.is_api() && history.in_memory().is_none() && last.file_hash == now;
        over || now.as_ref() == Some(&last.hash)
    });
    if stays || shell.options.config.is_none() {
        "this"
    } else {
        "file"
    }
}

fn refusal(refusal: &Refusal) -> Value {
    json!({
        "at": clock::rfc3339(refusal.at),
        "source": refusal.by.source(),
        "code": code(refusal.why).1,
        "detail": refusal.detail,
        "problems": refusal.problems.iter().map(problem).collect::<Vec<_>>(),
    })
}

pub(super) fn listed(shell: &Shell) -> Value {
    let generations = shell.reloads.history.iter().rev();
    let generations: Vec<Value> = generations.map(|g| one(g, shell, false)).collect();
    json!({ "generations": generations })
}

pub(super) fn one(generation: &Generation, shell: &Shell, whole: bool) -> Value {
    let mut one = json!({
        "generation": generation.number,
        "at": clock::rfc3339(generation.at),
        "source": generation.by.source(),
        "who": generation.by.who(),
        "rollback_to": match generation.by {
            By::Rollback { to, .. } => Some(to),
            By::Start | By::Sighup | By::Watch | By::Api { .. } => None,
        },
        "name": generation.name,
        "hash": generation.hash,
        "bytes": generation.text.len(),
        "running": generation.number == shell.reloads.generation(),
    });
    if let (true, Some(one)) = (whole, one.as_object_mut()) {
        one.insert("text".to_owned(), redact(&generation.text).into());
    }
    one
}
