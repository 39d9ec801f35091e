//! The shape of a JSON document: which members there are, and of what type. Clients rely on it, so
//! a member that vanishes, appears or changes its type is a finding.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Compares a document with lines such as `calls[].setup_ms null|number`; `counters.* number`
/// stands for members of any name. Every line must be met, unless `absent` is among its types. What
/// differs, in words.
#[must_use]
pub fn differences(schema: &str, document: &Value) -> Vec<String> {
    let expected: BTreeMap<&str, BTreeSet<&str>> = schema
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(path, types)| (path, types.trim().split('|').collect()))
        .collect();
    let mut found = BTreeMap::new();
    walk("", document, &expected, &mut found);
    let mut differences = Vec::new();
    for (path, types) in &found {
        match expected.get(path.as_str()) {
            None => differences.push(format!("{path} is new")),
            Some(allowed) => differences.extend(
                types
                    .difference(allowed)
                    .map(|other| format!("{path} is {other}")),
            ),
        }
    }
    let missing = expected
        .iter()
        .filter(|(path, types)| !found.contains_key(**path) && !types.contains("absent"));
    differences.extend(missing.map(|(path, _)| format!("{path} is missing")));
    differences
}

/// Compares a value with a JSON Schema of an OpenAPI document, as far as our documents use it. What
/// differs, in words.
#[must_use]
pub fn violations(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    violated(document, schema, value, "", &mut found);
    found
}

fn violated(document: &Value, schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        match document.pointer(reference.trim_start_matches('#')) {
            Some(schema) => violated(document, schema, value, path, found),
            None => found.push(format!("{path}: {reference} leads nowhere")),
        }
    }
    for schema in schema
        .get("allOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        violated(document, schema, value, path, found);
    }
    let allowed: Vec<&str> = match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let is_number = kind == "integer" && allowed.contains(&"number");
    if !allowed.is_empty() && !allowed.contains(&kind) && !is_number {
        found.push(format!("{path} is {kind}"));
    }
    let one_of = schema.get("enum").and_then(Value::as_array);
    if one_of.is_some_and(|words| !words.contains(value)) {
        found.push(format!("{path} is {value}"));
    }
    if schema.get("const").is_some_and(|only| only != value) {
        found.push(format!("{path} is {value}"));
    }
    let required = schema.get("required").and_then(Value::as_array);
    if let Some(members) = value.as_object() {
        for name in required.into_iter().flatten().filter_map(Value::as_str) {
            if !members.contains_key(name) {
                found.push(format!("{} is missing", join(path, name)));
            }
        }
        for (name, member) in members {
            let its = schema.pointer(&format!("/properties/{}", name.replace('/', "~1")));
            if let Some(its) = its.or_else(|| schema.get("additionalProperties")) {
                violated(document, its, member, &join(path, name), found);
            }
        }
    }
    if let (Some(items), Some(schema)) = (value.as_array(), schema.get("items")) {
        for item in items {
            violated(document, schema, item, &format!("{path}[]"), found);
        }
    }
}

fn walk(
    path: &str,
    value: &Value,
    expected: &BTreeMap<&str, BTreeSet<&str>>,
    found: &mut BTreeMap<String, BTreeSet<&'static str>>,
) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(items) => {
            for item in items {
                walk(&format!("{path}[]"), item, expected, found);
            }
            "array"
        }
        Value::Object(members) => {
            let any = join(path, "*");
            for (name, member) in members {
                let path = match expected.contains_key(any.as_str()) {
                    true => any.clone(),
                    false => join(path, name),
                };
                walk(&path, member, expected, found);
            }
            "object"
        }
    };
    if !path.is_empty() {
        found.entry(path.to_owned()).or_default().insert(kind);
    }
}

fn join(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SCHEMA: &str = "calls array\ncalls[] object\ncalls[].id number\n\
                          calls[].setup_ms null|number\nn object\nn.* number\n\
                          calls[].odd number|absent\n";

    #[track_caller]
    fn check(document: &Value, expected: &[&str]) {
        assert_eq!(differences(SCHEMA, document), expected);
    }

    #[test]
    fn schemas_are_kept_or_not() {
        let document = json!({ "components": { "schemas": { "call": {
            "type": "object",
            "properties": { "id": { "type": "number" }, "state": { "enum": ["up"] } },
            "required": ["id"],
            "additionalProperties": { "type": ["null", "string"] },
        } } } });
        let calls = json!({
            "type": "array", "items": { "$ref": "#/components/schemas/call" },
        });
        let check = |value: &Value, expected: &[&str]| {
            assert_eq!(violations(&document, &calls, value), expected);
        };
        check(
            &json!([{ "id": 1, "state": "up", "a": null, "b": "" }]),
            &[],
        );
        check(&json!({}), &[" is object"]);
        check(
            &json!([{ "id": "1", "state": "down" }, { "a": 1 }]),
            &[
                "[].id is string",
                "[].state is \"down\"",
                "[].id is missing",
                "[].a is integer",
            ],
        );
    }

    #[test]
    fn members_and_types_are_compared() {
        let call = json!({ "id": 1, "setup_ms": null });
        check(&json!({ "calls": [call], "n": { "a": 1, "b": 2 } }), &[]);
        let odd = json!({ "id": 1, "setup_ms": 2, "odd": "x" });
        check(
            &json!({ "calls": [odd], "n": { "a": 1 } }),
            &["calls[].odd is string"],
        );
        check(
            &json!({ "calls": [call, { "id": "1" }], "n": { "a": 1 } }),
            &["calls[].id is string"],
        );
        check(
            &json!({ "calls": [], "n": { "a": null }, "x": true }),
            &[
                "n.* is null",
                "x is new",
                "calls[] is missing",
                "calls[].id is missing",
                "calls[].setup_ms is missing",
            ],
        );
    }
}
