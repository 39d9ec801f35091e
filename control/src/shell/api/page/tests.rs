use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// The page's own code, without what others wrote.
fn own() -> impl Iterator<Item = (&'static str, &'static str)> {
    let scripts = FILES
        .iter()
        .filter(|f| f.kind == SCRIPT && f.name != "uplot.js");
    scripts.map(|file| (file.name, text(file)))
}

fn text(file: &'static File) -> &'static str {
    std::str::from_utf8(file.bytes).unwrap()
}

fn named(name: &str) -> &'static File {
    FILES.iter().find(|file| file.name == name).unwrap()
}

fn words(name: &str) -> BTreeMap<String, String> {
    serde_json::from_slice(named(name).bytes).unwrap()
}

/// What stands in braces.
fn blanks(text: &str) -> BTreeSet<&str> {
    let blanks = text.split('{').skip(1);
    blanks
        .filter_map(|rest| Some(rest.split_once('}')?.0))
        .collect()
}

#[test]
fn both_languages_say_the_same_things() {
    let (en, zh) = (words("en.json"), words("zh.json"));
    let keys = |words: &BTreeMap<String, String>| words.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&en), keys(&zh));
    for (key, english) in &en {
        let chinese = &zh[key];
        assert!(!english.is_empty() && !chinese.is_empty(), "{key}");
        assert_eq!(blanks(english), blanks(chinese), "{key}");
    }
}

/// `t("key")` in the code.
fn keys(code: &str) -> BTreeSet<String> {
    let calls = code.match_indices("t(\"").filter(|(at, _)| {
        let before = code[..*at].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != '.')
    });
    let keys = calls.filter_map(|(at, call)| code[at + call.len()..].split('"').next());
    keys.map(str::to_owned).collect()
}

#[test]
fn every_word_is_in_the_dictionary_and_is_used() {
    let known = words("en.json");
    let mut used = BTreeSet::new();
    let mut whole = String::new();
    for (name, code) in own() {
        for key in keys(code) {
            assert!(known.contains_key(&key), "{name}: no word for {key}");
            used.insert(key);
        }
        whole.push_str(code);
    }
    for key in known.keys() {
        // `term("state", word)`, and keys that are put together.
        let (kind, _) = key.rsplit_once('.').unwrap_or((key, ""));
        let made = [
            format!("\"{kind}\""),
            format!("`{kind}."),
            format!("\"{key}\""),
        ];
        let is_used = used.contains(key) || made.iter().any(|made| whole.contains(made));
        assert!(is_used, "{key} is never said");
    }
}

/// A sentence in the code would be seen in one language only.
#[test]
fn no_sentence_stands_in_the_code() {
    for (name, code) in own() {
        for (number, line) in (1..).zip(code.lines()) {
            let line = line.split("//").next().unwrap_or_default();
            for (index, quoted) in line.split('"').enumerate() {
                let spoken = index % 2 == 1 && quoted.split(' ').filter(is_word).count() > 1;
                let allowed = line.contains("classList") || line.contains("class:");
                assert!(!spoken || allowed, "{name}:{number}: {quoted}");
            }
        }
    }
    let html = text(named("index.html"));
    let body = html.split_once("<body>").unwrap().1;
    let outside: String = body
        .split('<')
        .filter_map(|tag| Some(tag.split_once('>')?.1))
        .collect();
    assert_eq!(outside.trim(), "");
}

fn is_word(word: &&str) -> bool {
    word.len() > 1 && word.chars().all(|c| c.is_ascii_lowercase())
        || word.chars().next().is_some_and(|c| c.is_ascii_uppercase())
            && word.len() > 2
            && word.chars().skip(1).all(|c| c.is_ascii_lowercase())
}

/// Markup is never made of text, and nothing is fetched from elsewhere.
#[test]
fn text_never_becomes_markup() {
    for (name, code) in own() {
        // The name of SVG; nothing is fetched from there.
        let code = code.replace("\"http://www.w3.org/2000/svg\"", "");
        for word in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "DOMParser",
            "eval(",
            "new Function",
            "javascript:",
            "http://",
            "https://",
        ] {
            assert!(!code.contains(word), "{name}: {word}");
        }
    }
    let html = text(named("index.html"));
    for word in ["style=", "onload", "<script>", "<style", "//"] {
        assert!(!html.contains(word), "{word}");
    }
}

/// A file that is imported or linked is there, and none is there for nothing.
#[test]
fn every_file_is_served_and_used() {
    let whole: String = own().map(|(_, code)| code).collect();
    let html = text(named("index.html"));
    for file in FILES.iter().skip(1) {
        let imported = whole.contains(&format!("\"./{}\"", file.name));
        let linked = html.contains(&format!("/page/{}\"", file.name));
        let language = file.kind == JSON;
        assert!(imported || linked || language, "{}", file.name);
    }
    for (name, code) in own() {
        for import in code.split("\"./").skip(1) {
            let import = import.split('"').next().unwrap_or_default();
            assert!(FILES.iter().any(|f| f.name == import), "{name}: {import}");
        }
    }
}

const BYTES_MAX: usize = 300_000;

#[test]
fn the_page_is_small() {
    let bytes: usize = FILES.iter().map(|file| file.bytes.len()).sum();
    assert!(bytes < BYTES_MAX, "{bytes}");
}

#[test]
fn what_has_not_changed_is_not_sent_again() {
    let tag = &TAGS[0];
    for (held, status) in [
        (None, 200),
        (Some("\"old\"".to_owned()), 200),
        (Some(tag.clone()), 304),
        (Some(format!("\"old\", {tag}")), 304),
    ] {
        let mut head = HeaderMap::new();
        if let Some(held) = held {
            head.insert(IF_NONE_MATCH, held.parse().unwrap());
        }
        let answer = file("index.html", &head);
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers()[ETAG], tag.as_str());
        assert_eq!(answer.headers()[CONTENT_SECURITY_POLICY], POLICY);
    }
    assert_eq!(file("../page.rs", &HeaderMap::new()).status(), 404);
}
