//! The chain: how a line is written, and what is wrong with one.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use crate::shell::hex::sha256;
use serde_json::{Map, Value};

use super::{FILE, HEAD};

/// Before the first line.
const BEGINNING: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// Stands before the hash of what stands before it.
const MARK: &str = ",\"hash\":\"";

/// What came of looking at all lines.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) lines: u64,
    /// Numbers of the first and the last line there are.
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// The first that is wrong: file, line, and what.
    pub(crate) problem: Option<String>,
}

/// A document as a line of the chain.
pub(super) fn line(document: &Value, before: &str) -> String {
    let mut text = document.to_string();
    text.pop();
    text.push_str(&format!(",\"prev\":\"{before}\""));
    let hash = sha256(&text);
    format!("{text}{MARK}{hash}\"}}")
}

/// Number and hash of a line; of one that is none, the beginning.
pub(super) fn end(line: &str) -> (u64, String) {
    let document: Map<String, Value> = serde_json::from_str(line).unwrap_or_default();
    let seq = document.get("seq").and_then(Value::as_u64);
    let hash = document.get("hash").and_then(Value::as_str);
    (seq.unwrap_or(0), hash.unwrap_or(BEGINNING).to_owned())
}

/// Files put aside, the oldest first.
pub(super) fn files(directory: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(directory).into_iter().flatten().flatten();
    let is_aside = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.and_then(|name| name.strip_prefix("audit.")?.strip_suffix(".jsonl"))
            .is_some_and(|number| number.len() == 20)
    };
    let mut files: Vec<PathBuf> = found.map(|entry| entry.path()).filter(is_aside).collect();
    files.sort();
    files
}

/// The end of what was put aside.
pub(super) fn end_of_files(directory: &Path) -> (u64, String) {
    let newest = files(directory).pop();
    let text = newest.and_then(|file| fs::read_to_string(file).ok());
    let text = text.unwrap_or_default();
    end(text.lines().next_back().unwrap_or_default())
}

/// Looks at every line there is; `written` is what was written last.
pub(super) fn verify(directory: &Path, written: Option<(u64, &str)>) -> Verdict {
    let mut verdict = Verdict::default();
    let mut before: Option<(u64, String)> = None;
    let mut files = files(directory);
    files.push(directory.join(FILE));
    for file in files {
        let Ok(open) = fs::File::open(&file) else {
            continue;
        };
        for (index, line) in BufReader::new(open).lines().enumerate() {
            let wrong = match &line {
                Ok(line) => wrong(line, before.as_ref()),
                Err(error) => Some(error.to_string()),
            };
            if let Some(wrong) = wrong {
                let place = format!("{}:{}", file.display(), index + 1);
                verdict.problem = Some(format!("{place}: {wrong}"));
                return verdict;
            }
            let (seq, hash) = end(&line.unwrap_or_default());
            if before.is_none() {
                verdict.first = seq;
            }
            (verdict.lines, verdict.last) = (verdict.lines + 1, seq);
            before = Some((seq, hash));
        }
    }
    let (seq, hash) = before.unwrap_or((0, BEGINNING.to_owned()));
    let head = fs::read_to_string(directory.join(HEAD)).ok();
    let head = head.as_deref().and_then(|head| head.trim().split_once(' '));
    let head = head.and_then(|(seq, hash)| Some((seq.parse::<u64>().ok()?, hash)));
    for (last, its) in [written, head].into_iter().flatten() {
        if (last, its) != (seq, hash.as_str()) {
            let what = format!("the end is missing: line {last} was written last, {seq} is there");
            verdict.problem = Some(what);
        }
    }
    verdict
}

/// What is wrong with a line behind another one.
fn wrong(line: &str, before: Option<&(u64, String)>) -> Option<String> {
    let Some((text, rest)) = line.rsplit_once(MARK) else {
        return Some("not a line of the log".to_owned());
    };
    let Ok(Value::Object(document)) = serde_json::from_str(line) else {
        return Some("not a line of the log".to_owned());
    };
    let seq = document.get("seq").and_then(Value::as_u64).unwrap_or(0);
    if rest.strip_suffix("\"}") != Some(sha256(text).as_str()) {
        return Some(format!("line {seq} was changed"));
    }
    let prev = document.get("prev").and_then(Value::as_str);
    match before {
        // Older ones may have been thrown away with their file.
        None if seq > 1 || prev == Some(BEGINNING) => None,
        None => Some("the beginning is missing".to_owned()),
        Some((number, hash)) if prev == Some(hash) && seq == number + 1 => None,
        Some((number, _)) => Some(format!("line {seq} does not follow line {number}")),
    }
}
