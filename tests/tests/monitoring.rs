//! What comes with the package for those who watch: the handbook's metrics, the dashboard, the
//! alerts and the runbook are of one mind with the code.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]
#![allow(
    clippy::indexing_slicing,
    reason = "an index that is wrong fails the test"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use towpath_tests::metrics::{documented, unknown};

const DASHBOARD: &str = include_str!("../../control/monitoring/grafana.json");
const ALERTS: &str = include_str!("../../control/monitoring/alerts.yml");
const RUNBOOK: &str = include_str!("../../docs/runbook.md");

/// The text of every file of the shell.
fn shell(directory: &Path, text: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            shell(&path, text);
        } else {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn the_handbook_lists_every_metric_and_no_other() {
    let mut code = String::new();
    shell(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("../control/src/shell"),
        &mut code,
    );
    let begun = code.split(".family(").skip(1);
    let literal = begun.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next());
    let named: BTreeSet<&str> = literal.collect();
    assert!(named.len() > 30, "{named:?}");
    let documented = documented();
    for name in named {
        assert!(
            documented.contains_key(name),
            "not in docs/metrics.md: {name}"
        );
    }
    for name in documented.keys() {
        assert!(
            code.contains(&format!("\"{name}\"")),
            "no such metric: {name}"
        );
    }
}

/// Every query in a document, whatever it stands in.
fn queries<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                if let ("expr", Value::String(query)) = (key.as_str(), value) {
                    found.push(query);
                }
                queries(value, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| queries(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn the_dashboard_asks_for_what_there_is() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut found = Vec::new();
    queries(&dashboard, &mut found);
    assert!(found.len() > 30, "{}", found.len());
    for query in found {
        assert_eq!(unknown(query), [""; 0], "{query}");
        assert!(query.contains("instance=~\"$instance\""), "{query}");
    }
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        assert!(!panel["title"].as_str().unwrap().is_empty(), "{panel}");
    }
}

/// Whoever looks at the dashboard misses nothing that is measured.
#[test]
fn every_metric_is_on_the_dashboard() {
    let parts = DASHBOARD.split("towpath_").skip(1);
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let shown: BTreeSet<&str> = parts
        .map(|rest| &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())])
        .map(|name| name.trim_end_matches("_bucket"))
        .collect();
    for name in documented().keys() {
        let plain = shown.contains(name.as_str());
        let mean = shown.contains(format!("{name}_sum").as_str());
        assert!(plain || mean, "not on the dashboard: {name}");
    }
}

/// What a key says in each rule.
fn rules(key: &str) -> Vec<&'static str> {
    let lines = ALERTS.lines().map(str::trim);
    lines
        .filter_map(|line| line.trim_start_matches("- ").strip_prefix(key))
        .collect()
}

#[test]
fn every_alert_asks_for_what_there_is_and_has_its_entry_in_the_runbook() {
    let names = rules("alert: ");
    let queries = rules("expr: ");
    let entries: Vec<&str> = RUNBOOK
        .lines()
        .filter_map(|l| l.strip_prefix("## "))
        .collect();
    assert_eq!(names, entries, "the runbook has the order of the alerts");
    assert_eq!(names.len(), queries.len());
    assert_eq!(names.len(), rules("summary: ").len());
    for query in queries {
        assert_eq!(unknown(query), [""; 0], "{query}");
    }
    let anchors: Vec<_> = names
        .iter()
        .map(|n| format!("runbook.md#{}", n.to_lowercase()))
        .collect();
    assert_eq!(rules("runbook: "), anchors);
    for severity in rules("labels: ") {
        let known = ["info", "warning", "critical"];
        let is_known = known
            .iter()
            .any(|s| severity == format!("{{ severity: {s} }}"));
        assert!(is_known, "{severity}");
    }
}
