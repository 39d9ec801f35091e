//! What the document of the API permits is not refused for its shape, and what it forbids is: the
//! edges of every parameter and of every member of what is sent, one at a time.

use serde_json::{Map, json};
use towpath_tests::pattern;

use super::*;

/// Conferences, so that their commands get as far as they can.
const ROOM: &str = "[conference]\nuris = [\"8*\"]\n";

#[test]
fn what_the_document_permits_is_taken_and_the_rest_is_not() {
    let name = "api::permits::what_the_document_permits_is_taken_and_the_rest_is_not";
    in_private_network(name, || {
        ip(LINKS)?;
        let daemon = open("permits", &format!("rate = 0\n{ROOM}"));
        let asking = Asking {
            token: daemon.token("t", "admin"),
            document: daemon
                .tcp(("GET", "/api/v1/openapi.json"), None, "")
                .json()
                .unwrap(),
            cid: String::new(),
            daemon,
        };
        let made = asking.ask(("POST", "/api/v1/conferences"), "", r#"{"uri":"8001"}"#);
        let cid = made.json().unwrap()["cid"].as_str().unwrap().to_owned();
        let asking = Asking { cid, ..asking };
        let (mut permitted, mut forbidden) = (0, 0);
        for operation in operations(&asking.document) {
            for case in cases(&asking, &operation) {
                asking.judge(&operation, &case);
                match case.permitted {
                    true => permitted += 1,
                    false => forbidden += 1,
                }
            }
        }
        assert!(
            permitted > 250 && forbidden > 250,
            "{permitted} {forbidden}"
        );
        assert_eq!(asking.daemon.ask(&["undrain"]).0, 0);
        assert_eq!(asking.daemon.ask(&["status"]).0, 0);
        Ok(())
    })
    .unwrap();
}

struct Asking {
    daemon: Daemon,
    token: String,
    document: Value,
    /// A conference that goes on.
    cid: String,
}

/// One request.
#[derive(Clone, Debug)]
struct Case {
    path: String,
    head: String,
    body: String,
    permitted: bool,
}

impl Asking {
    fn ask(&self, operation: (&str, &str), head: &str, body: &str) -> Reply {
        let head = format!("Authorization: Bearer {}\r\n{head}", self.token);
        self.daemon.tcp_with(operation, &head, body)
    }

    #[track_caller]
    fn judge(&self, operation: &Operation, case: &Case) {
        let verb = (operation.verb.as_str(), case.path.as_str());
        let reply = self.ask(verb, &case.head, &case.body);
        let what = format!("{} {case:?}: {reply:?}", operation.verb);
        assert!(reply.status < 500, "{what}");
        operation.described(&self.document, &reply);
        match case.permitted {
            true => assert!(![400, 413, 422].contains(&reply.status), "{what}"),
            false => assert!((400..500).contains(&reply.status), "{what}"),
        }
    }

    /// Something for a part of a path that is not looked at now.
    fn part(&self, name: &str) -> String {
        match name {
            "cid" => self.cid.clone(),
            "fid" => "audio".to_owned(),
            "id" | "number" => "4000000000".to_owned(),
            "source" => "192.0.2.99".to_owned(),
            _ => "nobody".to_owned(),
        }
    }
}

/// Every parameter and every member at its edges, the others as in the example.
fn cases(asking: &Asking, operation: &Operation) -> Vec<Case> {
    let described = &operation.described;
    let content = &described["requestBody"]["content"];
    // Looks at the host for seconds; and what is sent to the others is a configuration.
    if operation.path == "/api/v1/doctor" || content.get("application/toml").is_some() {
        return Vec::new();
    }
    let parameters = described["parameters"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let sent = &content["application/json"];
    let with = |changed: &str, value: Option<&str>, permitted: bool| {
        request(asking, operation, (changed, value), permitted)
    };
    let mut cases = vec![with("", None, true)];
    for parameter in &parameters {
        let name = parameter["name"].as_str().unwrap();
        let (good, bad) = texts(&parameter["schema"]);
        // Whatever the tag says, it is another one's.
        let is_tag = name == "If-Match";
        let in_head = parameter["in"] == "header";
        let fits = |text: &&String| !in_head || text.is_ascii();
        let of = |texts: &[String], permitted| -> Vec<Case> {
            let texts = texts.iter().filter(fits).filter(|_| !is_tag);
            texts
                .map(|text| with(name, Some(text), permitted))
                .collect()
        };
        cases.extend(of(&good, true));
        let sendable = |text: &String| !(in_head && text.contains('\0'));
        let bad: Vec<String> = bad.into_iter().filter(sendable).collect();
        cases.extend(of(&bad, false));
        if parameter["required"] == true && parameter["in"] == "query" {
            cases.push(with(name, None, false));
        }
    }
    if let Some(schema) = sent.get("schema") {
        let schema = resolved(&asking.document, schema);
        let (good, bad) = objects(schema, &sent["example"]);
        let usual = with("", None, true);
        let all = good
            .iter()
            .map(|body| (body, true))
            .chain(bad.iter().map(|body| (body, false)));
        cases.extend(all.map(|(body, permitted)| Case {
            body: body.to_string(),
            permitted,
            ..usual.clone()
        }));
    }
    cases
}

/// A request with one parameter as given, or left out, and the others as usual.
fn request(
    asking: &Asking,
    operation: &Operation,
    (changed, value): (&str, Option<&str>),
    permitted: bool,
) -> Case {
    let parameters = operation.described["parameters"].as_array();
    let (mut path, mut query, mut head) = (operation.path.clone(), Vec::new(), String::new());
    for parameter in parameters.into_iter().flatten() {
        let name = parameter["name"].as_str().unwrap();
        let usual = match parameter["in"].as_str().unwrap() {
            "path" => Some(asking.part(name)),
            _ if parameter["required"] == true => Some(usual(name).to_owned()),
            _ => None,
        };
        let value = match name == changed {
            true => value.map(str::to_owned),
            false => usual,
        };
        let Some(value) = value else { continue };
        match parameter["in"].as_str().unwrap() {
            "path" => path = path.replace(&format!("{{{name}}}"), &encoded(&value)),
            "query" => query.push(format!("{name}={}", encoded(&value))),
            _ => head.push_str(&format!("{name}: {value}\r\n")),
        }
    }
    if !query.is_empty() {
        path = format!("{path}?{}", query.join("&"));
    }
    let sent = &operation.described["requestBody"]["content"]["application/json"];
    let body = match sent.get("example") {
        Some(example) => example.to_string(),
        None => String::new(),
    };
    Case {
        path,
        head,
        body,
        permitted,
    }
}

fn usual(name: &str) -> &'static str {
    match name {
        "ip" => "10.0.0.20",
        _ => "*",
    }
}

fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let reference = schema["$ref"].as_str();
    reference.map_or(schema, |at| {
        document.pointer(at.trim_start_matches('#')).unwrap()
    })
}

fn encoded(text: &str) -> String {
    let letter = |byte: u8| match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(letter).collect()
}

/// What no pattern of ours takes.
const STRANGE: &str = " \0";

type Edges<T> = (Vec<T>, Vec<T>);

/// Of a parameter: what it may be, and what not.
fn texts(schema: &Value) -> Edges<String> {
    let (good, bad) = values(schema);
    let text = |value: Value| match value.as_str() {
        Some(text) => text.to_owned(),
        None => value.to_string(),
    };
    // Everything is a text here; a number with a fraction, or a word, is none.
    let is_text = schema["type"] == "string";
    let bad = bad
        .into_iter()
        .filter(|value| !is_text || value.is_string());
    let empty = |text: &String| !text.is_empty();
    let good = good.into_iter().map(text).filter(empty).collect();
    (good, bad.map(text).filter(empty).collect())
}

/// Of a value with this schema.
fn values(schema: &Value) -> Edges<Value> {
    let types: Vec<&str> = match schema["type"].as_str() {
        Some(one) => vec![one],
        None => schema["type"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect(),
    };
    let (mut good, mut bad): Edges<Value> = (Vec::new(), Vec::new());
    let kind = types.iter().find(|kind| **kind != "null").unwrap();
    match types.contains(&"null") {
        true => good.push(Value::Null),
        false => bad.push(Value::Null),
    }
    match *kind {
        "integer" | "number" => numbers(schema, &mut good, &mut bad),
        "string" => words(schema, &mut good, &mut bad),
        "boolean" => {
            good.extend([json!(true), json!(false)]);
            bad.extend([json!("yes"), json!(1)]);
        }
        "array" => arrays(schema, &mut good, &mut bad),
        other => panic!("{other}"),
    }
    if *kind != "string" {
        bad.push(json!("x"));
    }
    bad.push(json!({}));
    (good, bad)
}

fn numbers(schema: &Value, good: &mut Vec<Value>, bad: &mut Vec<Value>) {
    let (least, most) = (
        schema["minimum"].as_u64().unwrap(),
        schema["maximum"].as_u64().unwrap(),
    );
    good.extend([json!(least), json!(most)]);
    bad.push(least.checked_sub(1).map_or(json!(-1), |below| json!(below)));
    bad.extend(most.checked_add(1).map(|above| json!(above)));
    if schema["type"] != "number" && !schema["type"].to_string().contains("\"number\"") {
        bad.push(json!(1.5));
    }
}

fn words(schema: &Value, good: &mut Vec<Value>, bad: &mut Vec<Value>) {
    bad.push(json!(5));
    if let Some(words) = schema["enum"].as_array() {
        good.extend(words.iter().filter(|word| word.is_string()).cloned());
        bad.push(json!("no such word"));
    } else if let Some(pattern) = schema["pattern"].as_str() {
        good.extend(pattern::samples(pattern).into_iter().map(Value::from));
        bad.push(json!(STRANGE));
    } else {
        let least = schema["minLength"].as_u64().unwrap_or(0);
        let letters = |count: u64| json!("é".repeat(usize::try_from(count).unwrap()));
        good.push(letters(least.max(1)));
        if let Some(most) = schema["maxLength"].as_u64() {
            good.push(letters(most));
            bad.push(letters(most + 1));
        }
    }
}

fn arrays(schema: &Value, good: &mut Vec<Value>, bad: &mut Vec<Value>) {
    let bound = |name: &str| usize::try_from(schema[name].as_u64().unwrap()).unwrap();
    let (least, most) = (bound("minItems"), bound("maxItems"));
    let (one, wrong) = values(&schema["items"]);
    let many = |count: usize, of: &Value| Value::from(vec![of.clone(); count]);
    // The parts of an array of fixed length depend on each other.
    if least < most {
        good.extend([least, most].map(|count| many(count, &one[0])));
        good.extend(one.iter().map(|of| many(least.max(1), of)));
    }
    bad.extend(wrong.iter().map(|of| many(least.max(1), of)));
    bad.extend(least.checked_sub(1).map(|below| many(below, &one[0])));
    bad.push(many(most + 1, &one[0]));
}

/// An example with one member after the other at its edges.
fn objects(schema: &Value, example: &Value) -> Edges<Value> {
    let example = example.as_object().unwrap();
    let (mut good, mut bad): Edges<Value> = (Vec::new(), vec![json!([]), json!(null), json!("x")]);
    let members = schema["properties"].as_object().unwrap();
    let required = schema["required"].as_array().unwrap();
    for (name, member) in members {
        let with = |value: &Value| -> Value {
            let mut changed = example.clone();
            changed.insert(name.clone(), value.clone());
            alike(members, &mut changed, member, value);
            changed.into()
        };
        let (may, may_not) = match member["type"] == "object" {
            true => objects(member, &example[name]),
            false => values(member),
        };
        good.extend(may.iter().map(with));
        bad.extend(may_not.iter().map(with));
        let mut without = example.clone();
        without.remove(name);
        match required.contains(&json!(name)) {
            true => bad.push(without.into()),
            false => good.push(without.into()),
        }
    }
    (good, bad)
}

/// Members of one pattern are about one thing: all targets are at one host.
fn alike(
    members: &Map<String, Value>,
    changed: &mut Map<String, Value>,
    member: &Value,
    value: &Value,
) {
    let pattern = |schema: &Value| schema["pattern"].as_str().map(str::to_owned);
    let of = pattern(member).or_else(|| pattern(&member["items"]));
    let text = value
        .as_array()
        .map_or(value, |list| list.first().unwrap_or(value));
    let (Some(of), Value::String(text)) = (of, text) else {
        return;
    };
    for (name, other) in members {
        if !changed.contains_key(name) || std::ptr::eq(other, member) {
            continue;
        }
        if pattern(other).as_ref() == Some(&of) {
            changed.insert(name.clone(), json!(text));
        } else if pattern(&other["items"]).as_ref() == Some(&of) {
            changed.insert(name.clone(), json!([text]));
        }
    }
}
