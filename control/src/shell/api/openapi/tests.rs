use std::collections::BTreeSet;

use super::*;
use crate::shell::api::table::Verb;

const REVIEWED: &str = include_str!("../../../../../tests/vectors/api/operations.txt");

/// Refusals that most operations have.
const COMMON: [&str; 11] = [
    "unauthorized",
    "bad_token",
    "forbidden",
    "too_many_requests",
    "too_many_failures",
    "body_too_large",
    "body_too_slow",
    "busy",
    "bad_key",
    "key_reused",
    "in_progress",
];

/// What clients rely on, a line for each operation.
fn operations(document: &Value) -> String {
    let mut lines = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (verb, operation) in operations.as_object().unwrap() {
            let responses = operation["responses"].as_object().unwrap();
            let codes = responses.iter().filter(|(status, _)| *status != "200");
            let codes = codes.map(|(status, refusal)| {
                let schema = &refusal["content"]["application/problem+json"]["schema"];
                let codes = schema["properties"]["code"]["enum"].as_array().unwrap();
                let codes: Vec<_> = codes.iter().map(|code| code.as_str().unwrap()).collect();
                let codes: Vec<&str> = codes.into_iter().filter(|c| !COMMON.contains(c)).collect();
                (!codes.is_empty()).then(|| format!("{status} {}", codes.join(" ")))
            });
            let codes: Vec<String> = codes.flatten().collect();
            let answer = responses["200"]["content"].as_object().unwrap();
            let answer = answer.iter().map(|(kind, content)| {
                let schema = content["schema"]["$ref"].as_str();
                schema.map_or(kind.as_str(), |schema| schema.rsplit('/').next().unwrap())
            });
            let answer: Vec<&str> = answer.collect();
            let role = operation["x-towpath-role"].as_str().unwrap();
            let (verb, answer) = (verb.to_uppercase(), answer.join("+"));
            lines.push(format!(
                "{verb} {path} {role} {answer}: {}\n",
                codes.join("; ")
            ));
        }
    }
    lines.concat()
}

#[test]
fn what_clients_rely_on_was_reviewed() {
    let found = operations(&document());
    let write = std::env::var_os("TOWPATH_WRITE_VECTORS").is_some();
    if write {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/vectors/api/operations.txt"
        );
        std::fs::write(path, &found).unwrap();
    }
    assert!(
        write || found == REVIEWED,
        "the API has changed: if that is meant, run this test with TOWPATH_WRITE_VECTORS=1 and \
         look at the difference of tests/vectors/api/operations.txt\n{found}"
    );
}

#[test]
fn every_operation_is_in_it_and_named_once() {
    let document = document();
    let mut ids = BTreeSet::new();
    for route in route::all().filter(|route| !matches!(route.answer, Answer::Page)) {
        let verb = route.verb.name().to_ascii_lowercase();
        let operation = &document["paths"][route.path][&verb];
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id.to_owned()), "{id} twice");
        assert!(
            !route.about.is_empty() && !route.about.ends_with('.'),
            "{id}"
        );
        // Who changes something is somebody.
        assert!(route.verb == Verb::Get || route.role > Role::Viewer, "{id}");
        assert_eq!(
            route.path.starts_with("/api/v1/"),
            !is_root(route.path),
            "{id}"
        );
        if let Body::Document(_, example) = route.body {
            serde_json::from_str::<Value>(example).unwrap();
        }
        let codes = refusals_of(route);
        let once: BTreeSet<&str> = codes.iter().map(|problem| problem.code).collect();
        assert_eq!(once.len(), codes.len(), "{id}");
    }
}

fn is_root(path: &str) -> bool {
    ["/livez", "/readyz", "/healthz", "/metrics"].contains(&path)
}

#[test]
fn references_lead_somewhere() {
    let document = document();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let text = document.to_string();
    let mut references = text.split("\"#/components/schemas/").skip(1);
    assert!(references.clone().count() > 20);
    let lost = references.find(|rest| {
        let name = rest.split('"').next().unwrap();
        !schemas.contains_key(name)
    });
    assert_eq!(lost, None);
}
