//! Under what conditions a run was made: numbers without them say nothing.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

#[derive(Clone, Debug)]
pub struct Conditions {
    kernel: String,
    processor: String,
    cores: usize,
    /// Of the last minute, when the run began: above zero, something else was running.
    load: String,
    /// What ran beside us: its name and what it says of its version.
    programs: Vec<(&'static str, String)>,
    /// Of the source, with a mark if it was changed since.
    commit: String,
    date: String,
    notes: &'static [&'static str],
}

impl Conditions {
    pub(super) fn read(
        programs: Vec<(&'static str, String)>,
        notes: &'static [&'static str],
    ) -> Result<Self> {
        let read = |path: &str| fs::read_to_string(path).with_context(|| format!("read {path}"));
        let processor = read("/proc/cpuinfo")?
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or_else(|| "unknown".to_owned(), |(_, name)| name.to_owned());
        Ok(Self {
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            processor,
            cores: std::thread::available_parallelism()?.get(),
            load: read("/proc/loadavg")?
                .split(' ')
                .next()
                .unwrap_or_default()
                .to_owned(),
            programs,
            commit: told("git", &["describe", "--always", "--dirty"]),
            date: told("date", &["-u", "+%F"]),
            notes,
        })
    }

    /// As a document shows them.
    pub(super) fn json(&self) -> Value {
        let mut document = json!({
            "kernel": self.kernel, "processor": self.processor, "cores": self.cores,
            "load_1min": self.load, "commit": self.commit, "date": self.date, "notes": self.notes,
        });
        if let Some(members) = document.as_object_mut() {
            let programs = self.programs.iter();
            members.extend(programs.map(|(name, version)| ((*name).to_owned(), json!(version))));
        }
        document
    }

    /// As the last part of a page shows them.
    pub(super) fn section(&self) -> String {
        let Self {
            kernel,
            processor,
            cores,
            load,
            programs,
            commit,
            date,
            notes,
        } = self;
        let programs: Vec<&str> = programs.iter().map(|(_, version)| &**version).collect();
        let programs = programs.join("; ");
        let notes: String = notes.iter().map(|note| format!("- {note}\n")).collect();
        format!(
            "## Conditions\n\n- Linux {kernel}, {cores} cores, {processor}; load {load} when it \
             began\n- {programs}\n- Towpath {commit}, {date}\n{notes}"
        )
    }
}

/// Writes the files of a report.
pub(super) fn write(directory: &Path, files: &[(&str, String)]) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("{}", directory.display()))?;
    for (name, text) in files {
        let file = directory.join(name);
        fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    }
    Ok(())
}

/// A document as a file holds it.
pub(super) fn pretty(document: &Value) -> Result<String> {
    Ok(serde_json::to_string_pretty(document)? + "\n")
}

/// What a program says in one line; a word if it cannot.
fn told(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.ok()
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| "unknown".to_owned())
}
