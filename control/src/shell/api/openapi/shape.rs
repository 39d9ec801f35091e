//! From lines such as `calls[].setup_ms null|number` to JSON Schema. Lines of orders also have
//! limits behind the types: `seconds integer 1..60`, `tcp array items=0..63`, `text string
//! len=0..256`, `role string =viewer,admin`, `pid string ~id`, which names a pattern.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::pattern;

/// What is sent with an order, as its schema says; patterns are its reader's to check.
pub(in crate::shell::api) fn fits(lines: &str, document: &[u8]) -> bool {
    serde_json::from_slice(document).is_ok_and(|value| Shape::of(lines).takes(&value))
}

/// From and to, both among what may be.
type Range = (u64, u64);

#[derive(Default)]
struct Shape {
    /// Of a number.
    within: Option<Range>,
    /// Letters of a text.
    length: Option<Range>,
    /// Of an array.
    count: Option<Range>,
    words: Vec<String>,
    pattern: Option<String>,
    types: BTreeSet<&'static str>,
    /// It may be missing.
    absent: bool,
    members: BTreeMap<String, Self>,
    /// Members of any name.
    any: Option<Box<Self>>,
    items: Option<Box<Self>>,
}

/// The schema of a document, which is an object.
pub(super) fn schema(lines: &str) -> Value {
    Shape::of(lines).schema()
}

fn name(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "null" => "null",
        "bool" => "boolean",
        "number" => "number",
        "integer" => "integer",
        "string" => "string",
        "array" => "array",
        "object" => "object",
        _ => return None,
    })
}

fn range(text: &str) -> Option<Range> {
    let (from, to) = text.split_once("..")?;
    Some((from.parse().ok()?, to.parse().ok()?))
}

impl Shape {
    fn of(lines: &str) -> Self {
        let mut root = Self::default();
        root.types.insert("object");
        for line in lines.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some(path), Some(types)) = (words.next(), words.next()) else {
                continue;
            };
            let shape = root.at(path);
            for kind in types.split('|') {
                match kind {
                    "absent" => shape.absent = true,
                    kind => shape.types.extend(name(kind)),
                }
            }
            words.for_each(|limit| shape.limit(limit));
        }
        root
    }

    fn limit(&mut self, limit: &str) {
        if let Some(words) = limit.strip_prefix('=') {
            self.words = words.split(',').map(str::to_owned).collect();
        } else if let Some(pattern) = limit.strip_prefix('~') {
            self.pattern = Some(pattern.to_owned());
        } else if let Some(length) = limit.strip_prefix("len=") {
            self.length = range(length);
        } else if let Some(count) = limit.strip_prefix("items=") {
            self.count = range(count);
        } else {
            self.within = range(limit);
        }
    }

    /// Whether a value is of our types and within our limits, and all that is in it.
    fn takes(&self, value: &Value) -> bool {
        let inside = |range: Option<Range>, number: usize| {
            let number = u64::try_from(number).unwrap_or(u64::MAX);
            range.is_none_or(|(from, to)| (from..=to).contains(&number))
        };
        let (kind, fits) = match value {
            Value::Null => ("null", true),
            Value::Bool(_) => ("boolean", true),
            Value::Number(number) => match number.as_u64() {
                Some(whole) => {
                    let within = self.within;
                    let within = within.is_none_or(|(from, to)| (from..=to).contains(&whole));
                    ("integer", within)
                }
                None => ("number", self.takes_fraction(number.as_f64())),
            },
            Value::String(text) => {
                let known = self.words.is_empty() || self.words.contains(text);
                ("string", known && inside(self.length, text.chars().count()))
            }
            Value::Array(list) => {
                let items = self.items.as_deref();
                let all = items.is_none_or(|items| list.iter().all(|item| items.takes(item)));
                ("array", all && inside(self.count, list.len()))
            }
            Value::Object(members) => {
                let each = self.members.iter().all(|(name, shape)| {
                    let found = members.get(name);
                    found.map_or(shape.absent, |found| shape.takes(found))
                });
                ("object", each)
            }
        };
        let whole = kind == "integer" && self.types.contains("number");
        fits && (self.types.contains(kind) || whole)
    }

    /// Limits are small where there are any.
    #[allow(clippy::cast_precision_loss, reason = "limits of fractions are small")]
    fn takes_fraction(&self, number: Option<f64>) -> bool {
        let within = self.within;
        let inside = |n: f64| within.is_none_or(|(a, b)| (a as f64..=b as f64).contains(&n));
        number.is_some_and(inside)
    }

    fn at(&mut self, path: &str) -> &mut Self {
        let mut shape = self;
        for part in path.split('.') {
            let (name, depth) = match part.find("[]") {
                Some(end) => part.split_at(end),
                None => (part, ""),
            };
            shape = match name {
                "" => shape,
                "*" => shape.any.get_or_insert_default(),
                name => shape.members.entry(name.to_owned()).or_default(),
            };
            for _ in 0..depth.len() / 2 {
                shape = shape.items.get_or_insert_default();
            }
        }
        shape
    }

    fn schema(&self) -> Value {
        let mut schema = Map::new();
        let types: Vec<&str> = self.types.iter().copied().collect();
        match types[..] {
            [] => {}
            [one] => drop(schema.insert("type".to_owned(), one.into())),
            _ => drop(schema.insert("type".to_owned(), types.into())),
        }
        self.put_limits(&mut schema);
        if !self.members.is_empty() {
            let members = self.members.iter();
            let members = members.map(|(name, shape)| (name.clone(), shape.schema()));
            schema.insert(
                "properties".to_owned(),
                members.collect::<Map<_, _>>().into(),
            );
            let needed = self.members.iter().filter(|(_, shape)| !shape.absent);
            let needed: Vec<&str> = needed.map(|(name, _)| name.as_str()).collect();
            schema.insert("required".to_owned(), json!(needed));
        }
        if let Some(any) = &self.any {
            schema.insert("additionalProperties".to_owned(), any.schema());
        }
        if let Some(items) = &self.items {
            schema.insert("items".to_owned(), items.schema());
        }
        Value::Object(schema)
    }

    fn put_limits(&self, schema: &mut Map<String, Value>) {
        for (range, least, most) in [
            (self.within, "minimum", "maximum"),
            (self.length, "minLength", "maxLength"),
            (self.count, "minItems", "maxItems"),
        ] {
            if let Some((from, to)) = range {
                schema.insert(least.to_owned(), from.into());
                schema.insert(most.to_owned(), to.into());
            }
        }
        if !self.words.is_empty() {
            let nothing = self.types.contains("null").then_some(Value::Null);
            let words = self.words.iter().map(|word| Value::from(word.as_str()));
            let words: Vec<Value> = words.chain(nothing).collect();
            schema.insert("enum".to_owned(), words.into());
        }
        if let Some(name) = &self.pattern {
            schema.insert("pattern".to_owned(), pattern::of(name).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_said_and_kept() {
        let lines = "n integer|null 1..5\nt string|absent len=1..2\nw string|absent =a,b\n\
                     l array|absent items=0..1\nl[] number|absent 0..1\np string|absent ~layout\n";
        let schema = schema(lines);
        let said = |path: &str| schema.pointer(&format!("/properties/{path}")).unwrap();
        let number = json!({ "type": ["integer", "null"], "minimum": 1, "maximum": 5 });
        assert_eq!(*said("n"), number);
        let text = json!({ "type": "string", "minLength": 1, "maxLength": 2 });
        assert_eq!(*said("t"), text);
        assert_eq!(*said("w/enum"), json!(["a", "b"]));
        assert_eq!([said("l/minItems"), said("l/maxItems")], [0, 1]);
        assert_eq!(*said("p/pattern"), pattern::of("layout"));
        for (document, expected) in [
            (r#"{"n":5}"#, true),
            (
                r#"{"n":null,"t":"\u00e9\u00e9","w":"a","l":[0.5],"more":1}"#,
                true,
            ),
            (r#"{"n":0}"#, false),
            (r#"{"n":6}"#, false),
            (r#"{"n":1.5}"#, false),
            (r#"{"n":"1"}"#, false),
            (r#"{}"#, false),
            (r#"{"n":1,"t":""}"#, false),
            (r#"{"n":1,"t":"aaa"}"#, false),
            (r#"{"n":1,"w":"c"}"#, false),
            (r#"{"n":1,"l":[0,1]}"#, false),
            (r#"{"n":1,"l":[1.5]}"#, false),
            (r#"[1]"#, false),
            ("{", false),
        ] {
            assert_eq!(fits(lines, document.as_bytes()), expected, "{document}");
        }
    }

    #[test]
    fn lines_become_a_schema() {
        let lines = "calls array\ncalls[] object\ncalls[].id number\n\
                     calls[].odd string|absent|null\nn object\nn.* number\n";
        let expected = json!({
            "type": "object",
            "properties": {
                "calls": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "id": { "type": "number" },
                            "odd": { "type": ["null", "string"] },
                        },
                        "required": ["id"],
                    },
                },
                "n": { "type": "object", "additionalProperties": { "type": "number" } },
            },
            "required": ["calls", "n"],
        });
        assert_eq!(schema(lines), expected);
    }
}
