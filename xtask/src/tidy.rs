//! `tidy`: the rules of the house that neither the compiler nor a lint knows.

mod layers;
mod source;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::run::{root, say};
use source::Source;

const COLUMNS_MAX: usize = 100;
const FUNCTION_LINES_MAX: usize = 70;
/// Without its unit tests, which may be long tables.
const FILE_LINES_MAX: usize = 600;

const PACKAGES: [&str; 5] = ["common", "relay-ebpf", "control", "tests", "xtask"];

pub(crate) fn tidy() -> Result<()> {
    let found = findings(&root()?)?;
    for finding in &found {
        say(finding);
    }
    if !found.is_empty() {
        bail!("tidy: {} findings", found.len());
    }
    say("tidy: nothing to say");
    Ok(())
}

/// Each `file:line: what is wrong`.
fn findings(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for package in PACKAGES {
        let directory = root.join(package);
        let manifest = read(&directory.join("Cargo.toml"))?;
        if !manifest.contains("[lints]\nworkspace = true") {
            found.push(format!(
                "{package}/Cargo.toml:1: lints.workspace is not set"
            ));
        }
        let mut sources = Vec::new();
        for file in rust_files(&directory)? {
            let path = file.strip_prefix(root).unwrap_or(&file).to_owned();
            sources.push(Source::new(path, read(&file)?));
        }
        for source in &sources {
            found.extend(lengths(source));
        }
        found.extend(source::lost(&sources));
        if package == "control" {
            for source in &sources {
                found.extend(layers::violations(source));
            }
        }
    }
    found.extend(untracked(root));
    Ok(found)
}

fn lengths(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let lines = source.shipped().count();
    if lines > FILE_LINES_MAX {
        let what = format!("{lines} lines; a file has one noun and at most {FILE_LINES_MAX}");
        found.push(source.finding(1, &what));
    }
    for (number, line) in source.lines() {
        let columns = line.chars().count();
        if columns > COLUMNS_MAX {
            let what = format!("{columns} columns; at most {COLUMNS_MAX}");
            found.push(source.finding(number, &what));
        }
    }
    for function in source.functions() {
        if function.lines > FUNCTION_LINES_MAX {
            let (name, lines) = (&function.name, function.lines);
            let what = format!("`{name}` has {lines} lines; at most {FUNCTION_LINES_MAX}");
            found.push(source.finding(function.line, &what));
        }
    }
    found
}

/// Sources that would not be part of the next commit. Without git there is nothing to ask.
fn untracked(root: &Path) -> Vec<String> {
    let arguments = ["ls-files", "--others", "--exclude-standard", "--", "*.rs"];
    let output = Command::new("git")
        .args(arguments)
        .current_dir(root)
        .output();
    let listed = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&listed)
        .lines()
        .map(|file| format!("{file}:1: not tracked; `git add` it or remove it"))
        .collect()
}

fn rust_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let context = || format!("cannot list {}", directory.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if path.is_dir() && !path.ends_with("target") {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_house_is_tidy() {
        let found = findings(&root().unwrap()).unwrap();
        assert!(found.is_empty(), "\n{}\n", found.join("\n"));
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let source = Source::new("control/src/x.rs".into(), text.to_owned());
        let found = lengths(&source);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found:?}");
        }
    }

    #[test]
    fn lengths_are_measured() {
        let line = |columns: usize| "ä".repeat(columns);
        check(&line(100), &[]);
        check(&line(101), &["control/src/x.rs:1: 101 columns"]);
        let function = |lines: usize| format!("fn long() {{\n{}}}\n", "    x;\n".repeat(lines - 2));
        check(&function(70), &[]);
        check(&function(71), &["`long` has 71 lines"]);
        check(
            &format!("#[cfg(test)]\nmod tests {{\n{}}}\n", function(71)),
            &[],
        );
        check(&"x\n".repeat(601), &["601 lines"]);
    }
}
