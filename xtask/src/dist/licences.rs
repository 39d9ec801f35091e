//! The libraries that are linked into the binary, and the terms they come under.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::output;
use crate::run::cargo;

/// A text that names every library, then every text of a licence once.
pub(super) fn third_party() -> Result<String> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let metadata = ["metadata", "--format-version", "1", "--locked", "--offline"];
    let metadata = output(cargo(&metadata)?.args(["--filter-platform", &target]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata")?;
    let linked = linked(&metadata).context("cargo metadata: no packages")?;
    let mut text = "Libraries that are linked into towpath, and their licences.\n\n".to_owned();
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for library in &linked {
        writeln!(
            text,
            "{} {}  {}",
            library.name, library.version, library.licence
        )?;
        for file in library.texts()? {
            let name = format!("{} {}", library.name, library.version);
            texts.entry(file).or_default().insert(name);
        }
    }
    for (licence, libraries) in &texts {
        let names: Vec<&str> = libraries.iter().map(String::as_str).collect();
        let line = "-".repeat(80);
        write!(
            text,
            "\n{line}\n{}:\n\n{}\n",
            names.join(", "),
            licence.trim_end()
        )?;
    }
    Ok(text)
}

#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Library {
    name: String,
    version: String,
    licence: String,
    directory: PathBuf,
}

impl Library {
    /// Files that are called like licences.
    fn texts(&self) -> Result<BTreeSet<String>> {
        let mut texts = BTreeSet::new();
        for entry in self.directory.read_dir()? {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .to_uppercase();
            let is_meant = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE"];
            if path.is_file() && is_meant.iter().any(|begin| name.starts_with(begin)) {
                texts.insert(String::from_utf8_lossy(&fs::read(&path)?).into_owned());
            }
        }
        Ok(texts)
    }
}

/// What `towpath` needs, and what that needs, at run time; not what is ours.
fn linked(metadata: &Value) -> Option<BTreeSet<Library>> {
    let nodes = metadata.pointer("/resolve/nodes")?.as_array()?;
    let packages = metadata.get("packages")?.as_array()?;
    let text = |value: &Value, key: &str| Some(value.get(key)?.as_str()?.to_owned());
    let package = |id: &str| {
        packages
            .iter()
            .find(|p| p.get("id").is_some_and(|i| i == id))
    };
    let ours = packages
        .iter()
        .find(|p| p.get("name").is_some_and(|n| n == "towpath"))?;
    let mut left = vec![text(ours, "id")?];
    let mut seen = BTreeSet::new();
    let mut found = BTreeSet::new();
    while let Some(id) = left.pop() {
        if !seen.insert(id.clone()) {
            continue;
        }
        let node = nodes
            .iter()
            .find(|n| n.get("id").is_some_and(|i| *i == id))?;
        for dependency in node.get("deps")?.as_array()? {
            let kinds = dependency.get("dep_kinds")?.as_array()?;
            if kinds.iter().any(|k| k.get("kind") == Some(&Value::Null)) {
                left.push(text(dependency, "pkg")?);
            }
        }
        let package = package(&id)?;
        let is_macro = package.get("targets")?.as_array()?.iter().any(|target| {
            let kinds = target.get("kind").and_then(Value::as_array);
            kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind == "proc-macro"))
        });
        if package.get("source") == Some(&Value::Null) || is_macro {
            continue;
        }
        let manifest = text(package, "manifest_path")?;
        found.insert(Library {
            name: text(package, "name")?,
            version: text(package, "version")?,
            licence: text(package, "license").unwrap_or_else(|| "see its text".to_owned()),
            directory: Path::new(&manifest).parent()?.to_owned(),
        });
    }
    Some(found)
}
