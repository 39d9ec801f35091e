//! The OpenAPI document (3.1), made of the route table: what an operation is stands in one place.

mod pattern;
pub(super) mod shape;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::Json;
use axum::routing::get;
use serde_json::{Map, Value, json};

use crate::shell::api::error::Problem;
use crate::shell::api::route;
use crate::shell::api::stream::FILTER_LETTERS_MAX;
use crate::shell::api::table::{
    Answer, Body, IfMatch, Kind, Parameter, Role, Route, Schema, VIEW, Verb,
};

pub(super) const ROUTES: &[Route] = &[Route {
    path: "/api/v1/openapi.json",
    role: Role::Anyone,
    about: "This document",
    answer: Answer::Other("application/json"),
    handler: || get(|| async { Json(&*DOCUMENT) }),
    ..VIEW
}];

static DOCUMENT: LazyLock<Value> = LazyLock::new(document);

fn document() -> Value {
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    let mut schemas = Map::new();
    schemas.insert("Problem".to_owned(), problem_schema());
    schemas.insert(
        "Done".to_owned(),
        json!({
            "type": "object",
            "properties": { "done": { "const": true } },
            "required": ["done"],
        }),
    );
    for route in route::all().filter(|route| is_for_programs(route)) {
        let operations = paths.entry(route.path).or_default();
        operations.insert(route.verb.name().to_ascii_lowercase(), operation(route));
        let body = match route.body {
            Body::Document(schema, _) => Some(schema),
            Body::Nothing | Body::Toml => None,
        };
        let answer = match route.answer {
            Answer::Document(schema) | Answer::Stream(schema) => Some(schema),
            Answer::Done | Answer::Other(_) | Answer::Page => None,
        };
        for schema in [body, answer].into_iter().flatten() {
            schemas.insert(schema.name.to_owned(), shape::schema(schema.lines));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Towpath",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "A media relay for SIP video conferencing",
            "description": ABOUT,
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "made by `towpath token create`; not needed on the Unix socket",
                },
            },
        },
    })
}

/// What a browser is shown is not described.
fn is_for_programs(route: &Route) -> bool {
    !matches!(route.answer, Answer::Page)
}

const ABOUT: &str = "Every refusal is a problem document (RFC 9457) with a stable `code`. Members \
                     may be added to a document; none vanishes or changes its type in a minor \
                     version.";

fn problem_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "type": { "type": "string" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "code": { "type": "string" },
            "detail": { "type": "string" },
        },
        "required": ["type", "title", "status", "code", "detail"],
    })
}

fn operation(route: &Route) -> Value {
    let mut operation = json!({
        "operationId": id(route),
        "summary": route.about,
        "x-towpath-role": route.role.name(),
        "responses": responses(route),
    });
    let Some(members) = operation.as_object_mut() else {
        return operation;
    };
    if route.role == Role::Anyone {
        members.insert("security".to_owned(), json!([]));
    }
    let parameters = parameters(route);
    if !parameters.is_empty() {
        members.insert("parameters".to_owned(), parameters.into());
    }
    let content = match route.body {
        Body::Nothing => None,
        Body::Document(schema, example) => {
            let example: Value = serde_json::from_str(example).unwrap_or_default();
            let schema = reference(schema);
            Some(json!({ "application/json": { "schema": schema, "example": example } }))
        }
        Body::Toml => Some(json!({ "application/toml": { "schema": { "type": "string" } } })),
    };
    if let Some(content) = content {
        let body = json!({ "required": true, "content": content });
        members.insert("requestBody".to_owned(), body);
    }
    operation
}

/// `get_calls_id_explain`
fn id(route: &Route) -> String {
    let path = route.path.trim_start_matches("/api/v1");
    let words = path.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let verb = route.verb.name().to_ascii_lowercase();
    format!("{verb}_{}", words.join("_"))
}

fn parameters(route: &Route) -> Vec<Value> {
    let parts = route.path.split('/');
    let named = parts.filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path = named.map(|name| {
        let schema = part(route, name);
        json!({ "name": name, "in": "path", "required": true, "schema": schema })
    });
    let in_query = route.query.iter().map(|parameter: &Parameter| {
        let kind = match parameter.kind {
            Kind::Text => json!({ "type": "string" }),
            Kind::Short => json!({ "type": "string", "maxLength": FILTER_LETTERS_MAX }),
            Kind::Number => number(),
            Kind::Within(from, to) => json!({ "type": "integer", "minimum": from, "maximum": to }),
            Kind::OneOf(words) => json!({ "type": "string", "enum": words }),
            Kind::Flag => json!({ "type": "boolean" }),
            Kind::Like(name) => json!({ "type": "string", "pattern": pattern::of(name) }),
        };
        json!({
            "name": parameter.name,
            "in": "query",
            "required": parameter.required,
            "description": parameter.about,
            "schema": kind,
        })
    });
    let text = json!({ "type": "string" });
    let if_match = (route.if_match != IfMatch::Never).then(|| {
        let about = "the ETag of what is changed, or *";
        json!({
            "name": "If-Match", "in": "header", "required": route.if_match == IfMatch::Must,
            "description": about, "schema": text,
        })
    });
    let is_command = matches!(
        route.answer,
        Answer::Document(Schema {
            name: COMMANDED,
            ..
        })
    );
    let key = pattern::of(if is_command { "command" } else { "key" });
    let key = (route.verb == Verb::Post).then(|| {
        let about = "an order sent again under the same key is not carried out twice";
        json!({
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": about, "schema": { "type": "string", "pattern": key },
        })
    });
    in_path.chain(in_query).chain(if_match).chain(key).collect()
}

/// What commands of conferences are answered with.
const COMMANDED: &str = "conference-answer";

/// A part of the path that has a name.
fn part(route: &Route, name: &str) -> Value {
    let text = |pattern: &str| json!({ "type": "string", "pattern": pattern::of(pattern) });
    match name {
        // Its Call-ID does as well.
        "id" if route.path.ends_with("/ladder") => json!({ "type": "string", "minLength": 1 }),
        "id" | "number" => number(),
        "source" => text("source"),
        "sid" | "vid" => text("id"),
        _ => json!({ "type": "string", "minLength": 1 }),
    }
}

fn number() -> Value {
    json!({ "type": "integer", "minimum": 0, "maximum": u64::MAX })
}

fn reference(schema: Schema) -> Value {
    json!({ "$ref": format!("#/components/schemas/{}", schema.name) })
}

fn responses(route: &Route) -> Map<String, Value> {
    let done = |content: Value| json!({ "description": "done", "content": content });
    let json = |schema: Value| json!({ "application/json": { "schema": schema } });
    let answer = match route.answer {
        Answer::Document(schema) => done(json(reference(schema))),
        Answer::Done => done(json(json!({ "$ref": "#/components/schemas/Done" }))),
        Answer::Other(kind) => done(json!({ kind: {} })),
        Answer::Page => done(json!({})),
        Answer::Stream(schema) => done(json!({
            "application/json": { "schema": reference(schema) },
            "text/event-stream": {},
        })),
    };
    let mut responses = Map::from_iter([("200".to_owned(), answer)]);
    let mut refusals: BTreeMap<u16, Vec<Problem>> = BTreeMap::new();
    for problem in refusals_of(route) {
        let status = problem.status.as_u16();
        refusals.entry(status).or_default().push(problem);
    }
    for (status, problems) in refusals {
        let said = problems
            .iter()
            .map(|p| format!("`{}`: {}", p.code, p.detail));
        let codes: Vec<&str> = problems.iter().map(|problem| problem.code).collect();
        let schema = json!({
            "allOf": [{ "$ref": "#/components/schemas/Problem" }],
            "properties": { "code": { "enum": codes } },
        });
        let refusal = json!({
            "description": said.collect::<Vec<_>>().join("\n\n"),
            "content": { "application/problem+json": { "schema": schema } },
        });
        responses.insert(status.to_string(), refusal);
    }
    responses
}

/// Those of its own, and those that any such operation has.
fn refusals_of(route: &Route) -> Vec<Problem> {
    let mut all = route.refuses.to_vec();
    all.push(Problem::BAD_REQUEST);
    if route.role != Role::Anyone {
        all.extend([
            Problem::UNAUTHORIZED,
            Problem::BAD_TOKEN,
            Problem::FORBIDDEN,
            Problem::TOO_MANY_REQUESTS,
            Problem::TOO_MANY_FAILURES,
            Problem::BUSY,
        ]);
    }
    if !matches!(route.body, Body::Toml) {
        all.extend([Problem::BODY_TOO_LARGE, Problem::BODY_TOO_SLOW]);
    }
    if route.verb == Verb::Post {
        all.extend([Problem::BAD_KEY, Problem::KEY_REUSED, Problem::IN_PROGRESS]);
    }
    all
}

#[cfg(test)]
mod tests;
