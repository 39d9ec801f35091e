//! A source file as formatted by rustfmt, which is what makes these simple readings true.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub(super) struct Source {
    path: PathBuf,
    text: String,
}

/// A function and its length, from its `fn` line to its closing brace.
pub(super) struct Function {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) lines: usize,
}

impl Source {
    /// `path` is relative to the workspace.
    pub(super) fn new(path: PathBuf, text: String) -> Self {
        Self { path, text }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// With their numbers, from 1.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }

    /// Lines that ship: not those of unit tests, which stand last in a file or in `tests.rs`.
    pub(super) fn shipped(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_test = self.path.components().any(|part| {
            let part = part.as_os_str();
            part == "tests.rs" || part == "tests"
        });
        self.lines()
            .take_while(move |(_, line)| !is_test && *line != "#[cfg(test)]")
    }

    pub(super) fn finding(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path.display())
    }

    /// Those that ship.
    pub(super) fn functions(&self) -> Vec<Function> {
        let mut functions = Vec::new();
        let lines: Vec<_> = self.shipped().collect();
        for (index, (number, line)) in lines.iter().enumerate() {
            let Some(name) = function_name(line) else {
                continue;
            };
            let indent = line.len() - line.trim_start().len();
            let end = lines.iter().skip(index).find(|(_, line)| {
                let same = line.len() - line.trim_start().len() == indent;
                same && (line.trim_start().starts_with('}') || line.ends_with([';', '}']))
            });
            let last = end.map_or(*number, |(last, _)| *last);
            functions.push(Function {
                name: name.to_owned(),
                line: *number,
                lines: last - number + 1,
            });
        }
        functions
    }

    /// Files that `#[path = "…"]` names, beside this one.
    fn named(&self) -> impl Iterator<Item = PathBuf> {
        let beside = self
            .path
            .parent()
            .map(Path::to_path_buf)
            .unwrap_or_default();
        self.text.lines().filter_map(move |line| {
            let name = line.trim().strip_prefix("#[path = \"")?;
            Some(beside.join(name.strip_suffix("\"]")?))
        })
    }

    /// `mod name;` of this file.
    fn modules(&self) -> impl Iterator<Item = &str> {
        self.text.lines().filter_map(|line| {
            let line = line.trim();
            let line = line.strip_prefix("pub(crate) ").unwrap_or(line);
            let line = line.strip_prefix("pub(super) ").unwrap_or(line);
            let line = line.strip_prefix("pub ").unwrap_or(line);
            line.strip_prefix("mod ")?.strip_suffix(';')
        })
    }
}

fn function_name(line: &str) -> Option<&str> {
    const BEFORE: [&str; 9] = [
        "pub",
        "pub(crate)",
        "pub(super)",
        "const",
        "async",
        "unsafe",
        "extern",
        "\"C\"",
        "default",
    ];
    let mut words = line.split_whitespace();
    let word = words.find(|word| !BEFORE.contains(word))?;
    if word != "fn" {
        return None;
    }
    words.next()?.split(['(', '<']).next()
}

/// Files of one package that no `mod` line leads to: they are not compiled.
pub(super) fn lost(sources: &[Source]) -> Vec<String> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&Source> = sources.iter().filter(|s| is_root(&s.path)).collect();
    while let Some(source) = open.pop() {
        if !reached.insert(source.path.clone()) {
            continue;
        }
        let directory = module_directory(&source.path);
        let named: Vec<PathBuf> = source.named().collect();
        open.extend(sources.iter().filter(|s| named.contains(&s.path)));
        for module in source.modules() {
            let candidates = [
                directory.join(format!("{module}.rs")),
                directory.join(module).join("mod.rs"),
            ];
            open.extend(sources.iter().filter(|s| candidates.contains(&s.path)));
        }
    }
    sources
        .iter()
        .filter(|source| !reached.contains(&source.path))
        .map(|source| source.finding(1, "no `mod` line leads here: it is never compiled"))
        .collect()
}

/// What cargo compiles by itself: `lib.rs`, `main.rs`, and each file beside others of its kind.
fn is_root(path: &Path) -> bool {
    let parent = path.parent().and_then(Path::file_name);
    let grandparent = path.parent().and_then(Path::parent);
    let of_package = grandparent.is_some_and(|p| p.components().count() == 1);
    let named = path.ends_with("src/lib.rs") || path.ends_with("src/main.rs");
    let listed = parent.is_some_and(|p| p == "tests" || p == "benches" || p == "examples");
    named || path.ends_with("build.rs") || listed && of_package || path.components().any(is_bin)
}

fn is_bin(part: std::path::Component<'_>) -> bool {
    part.as_os_str() == "bin" || part.as_os_str() == "fuzz_targets"
}

fn module_directory(path: &Path) -> PathBuf {
    let parent = path.parent().unwrap_or(Path::new(""));
    match path.file_stem() {
        _ if is_root(path) || path.ends_with("mod.rs") => parent.to_owned(),
        Some(stem) => parent.join(stem),
        None => parent.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured_to_their_closing_brace() {
        let text = "pub(crate) const fn a<T>(\n    x: T,\n) -> T {\n    if x {\n    }\n    x\n}\n\
                    trait B {\n    fn b(&self);\n    fn c(\n        &self,\n    );\n}\nfn d() {}\n\
                    // fn e() {\nlet f = g;\n";
        let source = Source::new("control/src/x.rs".into(), text.to_owned());
        let functions: Vec<_> = source
            .functions()
            .into_iter()
            .map(|f| (f.name, f.line, f.lines))
            .collect();
        let expected = [("a", 1, 7), ("b", 9, 1), ("c", 10, 3), ("d", 14, 1)];
        let expected: Vec<_> = expected.map(|(n, l, c)| (n.to_owned(), l, c)).into();
        assert_eq!(functions, expected);
    }

    #[test]
    fn files_nobody_names_are_lost() {
        let source = |path: &str, text: &str| Source::new(path.into(), text.to_owned());
        let sources = [
            source("control/src/lib.rs", "pub mod sip;\n"),
            source("control/src/sip.rs", "mod uri;\npub(crate) mod edit;\n"),
            source("control/src/sip/uri.rs", ""),
            source("control/src/sip/edit.rs", ""),
            source("control/src/sip/old.rs", ""),
            source("tests/tests/netns.rs", "mod call;\n"),
            source("tests/src/bin/demo.rs", ""),
            source("control/src/uri.rs", ""),
        ];
        let found = lost(&sources);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("control/src/sip/old.rs:1:"));
        assert!(found[1].starts_with("control/src/uri.rs:1:"));
    }
}
