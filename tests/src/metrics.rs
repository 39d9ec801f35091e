//! What the handbook says of metrics, and whether those who ask for them ask for what there is.

use std::collections::{BTreeMap, BTreeSet};

const HANDBOOK: &str = include_str!("../../docs/metrics.md");

/// Labels, each with its values where the handbook lists them.
pub type Labels = BTreeMap<String, BTreeSet<String>>;

/// Every metric of the handbook, without prefix.
#[must_use]
pub fn documented() -> BTreeMap<String, Labels> {
    let mut metrics = BTreeMap::new();
    for line in HANDBOOK
        .lines()
        .filter(|line| line.starts_with("| `towpath_"))
    {
        let mut cells = line.trim_matches('|').split(" | ");
        let (names, labels) = (cells.next().unwrap_or(""), cells.next().unwrap_or(""));
        for name in quoted(names) {
            let name = name.strip_prefix("towpath_").unwrap_or(name);
            metrics.insert(name.to_owned(), labels_of(labels));
        }
    }
    metrics
}

/// `` `a`: x, y; `b`, `c` ``
fn labels_of(cell: &str) -> Labels {
    let mut labels = Labels::new();
    for part in cell.split(';') {
        let (names, values) = part.split_once(':').unwrap_or((part, ""));
        let names: Vec<&str> = quoted(names).collect();
        let words: BTreeSet<String> = match values.contains(' ') && !values.contains('[') {
            true => values
                .split(',')
                .map(|word| word.trim().to_owned())
                .collect(),
            false => BTreeSet::new(),
        };
        for (at, name) in names.iter().enumerate() {
            // What stands before the colon last has the values.
            let is_last = at + 1 == names.len();
            let values = if is_last {
                words.clone()
            } else {
                BTreeSet::new()
            };
            labels.insert((*name).to_owned(), values);
        }
    }
    labels
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// What of a query names no metric, label or value of the handbook.
#[must_use]
pub fn unknown(query: &str) -> Vec<String> {
    let documented = documented();
    let mut found = Vec::new();
    let mut labels: BTreeSet<&str> = BTreeSet::from(["instance", "job", "le"]);
    for (at, _) in query.match_indices("towpath_") {
        let rest = query.get(at + "towpath_".len()..).unwrap_or_default();
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let parts = ["_bucket", "_sum", "_count"];
        let family = parts.iter().find_map(|part| name.strip_suffix(part));
        let metric = documented.get(name);
        let Some(metric) = metric.or_else(|| documented.get(family?)) else {
            found.push(format!("towpath_{name}"));
            continue;
        };
        labels.extend(metric.keys().map(String::as_str));
        let chosen = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        for matcher in chosen.map_or("", |(inside, _)| inside).split(',') {
            let Some((label, value)) = matcher.split_once('=') else {
                continue;
            };
            let label = label.trim_end_matches('!');
            let value = value.trim_matches(['~', '"']);
            match metric.get(label) {
                None if label.starts_with("instance") => {}
                None => found.push(format!("{label} of {name}")),
                Some(values) if values.is_empty() => {}
                Some(values) => {
                    let strange = value.split('|').filter(|value| !values.contains(*value));
                    found.extend(strange.map(|value| format!("{label}={value}")));
                }
            }
        }
    }
    found.extend(
        grouped(query)
            .filter(|label| !labels.contains(label))
            .map(str::to_owned),
    );
    found
}

/// The labels of every `by (…)` and `on (…)`.
fn grouped(query: &str) -> impl Iterator<Item = &str> {
    let lists = ["by (", "on ("]
        .into_iter()
        .flat_map(|word| query.split(word).skip(1));
    let inside = lists.filter_map(|rest| rest.split_once(')'));
    inside.flat_map(|(inside, _)| inside.split(',').map(str::trim))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, expected: &[&str]) {
        assert_eq!(unknown(query), expected, "{query}");
    }

    #[test]
    fn what_there_is_not_is_found() {
        check("sum by (state) (towpath_calls{state=\"answered\"})", &[]);
        check("towpath_call", &["towpath_call"]);
        check("towpath_calls{way=\"x\"}", &["way of calls"]);
        check("towpath_calls{state=\"open\"}", &["state=open"]);
        check(
            "towpath_calls{state=~\"answered|lost\",instance=\"a\"}",
            &["state=lost"],
        );
        check("sum by (le, kind) (towpath_jitter_seconds_bucket)", &[]);
        check(
            "sum by (network) (towpath_jitter_seconds_sum)",
            &["network"],
        );
    }
}
