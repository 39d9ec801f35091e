//! From lines such as `calls[].setup_ms null|number` to JSON Schema.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

#[derive(Default)]
struct Shape {
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
    let mut root = Shape::default();
    root.types.insert("object");
    for line in lines.lines() {
        let Some((path, types)) = line.split_once(' ') else {
            continue;
        };
        let shape = root.at(path);
        for kind in types.trim().split('|') {
            match kind {
                "absent" => shape.absent = true,
                kind => shape.types.extend(name(kind)),
            }
        }
    }
    root.schema()
}

fn name(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "null" => "null",
        "bool" => "boolean",
        "number" => "number",
        "string" => "string",
        "array" => "array",
        "object" => "object",
        _ => return None,
    })
}

impl Shape {
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
}

#[cfg(test)]
mod tests {
    use super::*;

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
