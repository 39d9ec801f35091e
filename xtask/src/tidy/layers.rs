//! Who may use whom in `control`: the table of ARCHITECTURE.md. Nothing points back.

use super::source::Source;

const LAYERS: [(&str, &[&str]); 18] = [
    ("id", &[]),
    ("effect", &["id", "common"]),
    ("bus", &["id"]),
    ("upstream", &["id"]),
    ("mqtt", &["id", "bus"]),
    ("outbox", &["id", "bus"]),
    ("conference", &["id", "bus"]),
    ("cascade", &["id", "bus", "upstream"]),
    ("sip", &["id", "effect"]),
    ("sdp", &["id"]),
    ("nat", &["id"]),
    ("media", &["id", "effect", "sdp", "nat", "common"]),
    (
        "config",
        &["id", "bus", "conference", "sip", "nat", "media", "mqtt"],
    ),
    (
        "engine",
        &[
            "id", "effect", "sip", "sdp", "nat", "media", "config", "common",
        ],
    ),
    (
        "plane",
        &[
            "id",
            "effect",
            "bus",
            "mqtt",
            "conference",
            "cascade",
            "config",
            "engine",
        ],
    ),
    ("doctor", &["id", "nat", "config"]),
    (
        "shell",
        &[
            "id",
            "effect",
            "bus",
            "upstream",
            "mqtt",
            "outbox",
            "conference",
            "cascade",
            "config",
            "engine",
            "plane",
            "doctor",
            "common",
        ],
    ),
    ("cli", &["config", "doctor", "shell"]),
];

/// Uses of a module that the table does not allow.
pub(super) fn violations(source: &Source) -> Vec<String> {
    let Ok(inside) = source.path().strip_prefix("control/src") else {
        return Vec::new();
    };
    let first = inside.components().next();
    let module = first.map(|part| part.as_os_str().to_string_lossy().into_owned());
    let module = module.as_deref().unwrap_or("").trim_end_matches(".rs");
    if module == "lib" || module == "main" {
        return Vec::new();
    }
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == module) else {
        let what = format!("`{module}` has no place in the table of layers");
        return vec![source.finding(1, &what)];
    };
    let code: Vec<_> = source
        .shipped()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .collect();
    let mut found = Vec::new();
    for (number, line) in &code {
        for used in used(line) {
            if used != module && !allowed.contains(&used) {
                let what = format!("`{module}` may not use `{used}`; see ARCHITECTURE.md");
                found.push(source.finding(*number, &what));
            }
        }
    }
    found
}

/// Modules of the crate, and `common`, that a line names.
fn used(line: &str) -> Vec<&str> {
    let mut used: Vec<&str> = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        let rest = line.get(at + "crate::".len()..).unwrap_or("");
        match rest.strip_prefix('{') {
            // Only the first name of each part of `crate::{a::b, c}`.
            Some(group) => used.extend(top_level(group).into_iter().map(identifier)),
            None => used.push(identifier(rest)),
        }
    }
    let external = line
        .trim_start()
        .trim_start_matches("pub ")
        .starts_with("use common::");
    used.extend(external.then_some("common"));
    used.retain(|name| LAYERS.iter().any(|(known, _)| known == name) || *name == "common");
    used
}

fn identifier(text: &str) -> &str {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    text.get(..end.unwrap_or(text.len())).unwrap_or("")
}

/// Splits at the commas that stand in no inner braces.
fn top_level(group: &str) -> Vec<&str> {
    let (mut depth, mut begin, mut parts) = (0usize, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.extend(group.get(begin..at));
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.extend(group.get(begin..));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(file: &str, line: &str, expected: Option<&str>) {
        let path = format!("control/src/{file}");
        let source = Source::new(path.into(), format!("//! It.\n{line}\n"));
        let found = violations(&source);
        match expected {
            None => assert!(found.is_empty(), "{found:?}"),
            Some(part) => {
                assert_eq!(found.len(), 1, "{found:?}");
                assert!(found[0].contains(part), "{found:?}");
            }
        }
    }

    #[test]
    fn nothing_points_back() {
        check(
            "id.rs",
            "use crate::effect::Effect;",
            Some(":2: `id` may not use `effect`"),
        );
        check("sip/uri.rs", "use crate::id::Aor;", None);
        check("sip/uri.rs", "use crate::sip::edit;", None);
        check("sip.rs", "use crate::nat;", Some("may not use `nat`"));
        check(
            "sdp/edit.rs",
            "let x = crate::media::port();",
            Some("may not use `media`"),
        );
        check(
            "media/plan.rs",
            "use crate::{effect::Rule, id, sip::Uri};",
            Some("`sip`"),
        );
        check(
            "media/plan.rs",
            "use crate::{effect::{Rule, sip}, id};",
            None,
        );
        check(
            "config.rs",
            "use crate::engine::Engine;",
            Some("may not use `engine`"),
        );
        check("nat.rs", "use common::map;", Some("may not use `common`"));
        check("media.rs", "use common::map;", None);
        check("shell.rs", "// use crate::sip;", None);
        check("shell.rs", "#[cfg(test)]\nuse crate::sip;", None);
        check("helper.rs", "", Some("no place"));
        check("lib.rs", "pub mod helper;", None);
    }
}
