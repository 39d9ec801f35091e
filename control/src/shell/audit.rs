//! Who changed what: one line for each order, carried out or refused, in a file of `state_dir`
//! that is only ever appended to. Each line holds the hash of the one before it, so that a line
//! that was changed, taken out or put in is found.

mod chain;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::shell::clock;

pub(crate) use chain::Verdict;

/// Lines that can be listed; older ones are in the files.
const LISTED_MAX: usize = 1_000;
/// A larger file is put aside.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// So many are kept aside.
const FILES_MAX: usize = 8;
/// Longest text of one member; the rest is cut.
const TEXT_CHARS_MAX: usize = 256;

const FILE: &str = "audit.jsonl";
/// Number and hash of the last line: a tail that was cut off is missed.
const HEAD: &str = "audit.head";

/// What is written down.
pub(crate) struct Entry<'a> {
    pub(crate) who: &'a str,
    pub(crate) address: &'a str,
    pub(crate) what: &'a str,
    /// `done`, or the code of the refusal.
    pub(crate) result: &'a str,
}

pub(crate) struct Audit {
    directory: PathBuf,
    /// Of the configuration in force.
    generation: AtomicU64,
    state: Mutex<State>,
}

struct State {
    file: io::Result<File>,
    head: Option<File>,
    bytes: u64,
    /// Of the last line.
    seq: u64,
    hash: String,
    lines: VecDeque<String>,
    failed: u64,
}

impl Audit {
    /// Goes on where an earlier daemon ended; without a directory, in memory only.
    pub(crate) fn open(directory: &Path) -> Self {
        let path = directory.join(FILE);
        let text = fs::read_to_string(&path).unwrap_or_default();
        let known = text.lines().rev().take(LISTED_MAX).map(str::to_owned);
        let mut lines: VecDeque<String> = known.collect();
        lines.make_contiguous().reverse();
        let last = lines.back().map(String::as_str).or_else(|| None);
        let (seq, hash) = match last {
            Some(last) => chain::end(last),
            // The file was put aside by the last line written.
            None => chain::end_of_files(directory),
        };
        let file = open(&path);
        if let Err(error) = &file {
            tracing::error!(
                file = %path.display(),
                %error,
                "orders are not written down: see that state_dir is writable"
            );
        }
        let head = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(directory.join(HEAD));
        let bytes = u64::try_from(text.len()).unwrap_or(u64::MAX);
        let state = State {
            file,
            head: head.ok(),
            bytes,
            seq,
            hash,
            lines,
            failed: 0,
        };
        Self {
            directory: directory.to_owned(),
            generation: AtomicU64::new(0),
            state: Mutex::new(state),
        }
    }

    /// The configuration in force from now on.
    pub(crate) fn set_generation(&self, generation: u64) {
        self.generation.store(generation, Ordering::Relaxed);
    }

    /// Writes one line. What cannot be written is said, counted, and in the log.
    pub(crate) fn note(&self, entry: &Entry<'_>) {
        let generation = self.generation.load(Ordering::Relaxed);
        let cut = |text: &str| text.chars().take(TEXT_CHARS_MAX).collect::<String>();
        let mut state = self.lock();
        let seq = state.seq.saturating_add(1);
        let line = chain::line(
            &json!({
                "seq": seq,
                "at": clock::rfc3339(clock::wall_s()),
                "who": cut(entry.who),
                "address": cut(entry.address),
                "what": cut(entry.what),
                "result": cut(entry.result),
                "generation": generation,
            }),
            &state.hash,
        );
        let (_, hash) = chain::end(&line);
        tracing::info!(
            who = entry.who,
            address = entry.address,
            what = entry.what,
            result = entry.result,
            seq,
            hash,
            "audit"
        );
        if state.bytes >= FILE_BYTES_MAX {
            self.put_aside(&mut state);
        }
        state.append(&line, seq, hash);
    }

    /// The file becomes one of those put aside; the chain goes on in a new one.
    fn put_aside(&self, state: &mut State) {
        let path = self.directory.join(FILE);
        let aside = self
            .directory
            .join(format!("audit.{:020}.jsonl", state.seq));
        if let Err(error) = fs::rename(&path, &aside) {
            tracing::error!(%error, "the audit log cannot be put aside: it grows on");
            return;
        }
        state.file = open(&path);
        state.bytes = 0;
        let old = chain::files(&self.directory);
        let surplus = old.len().saturating_sub(FILES_MAX);
        for file in old.iter().take(surplus) {
            if let Err(error) = fs::remove_file(file) {
                tracing::warn!(file = %file.display(), %error, "an old audit log stays");
            }
        }
    }

    /// Lines after this number, newest last, at most `count` of them.
    pub(crate) fn list(&self, since: u64, count: usize) -> Vec<Value> {
        let state = self.lock();
        let lines = state.lines.iter().rev();
        let lines = lines.take_while(|line| chain::end(line).0 > since);
        let lines = lines.take(count.min(LISTED_MAX));
        let mut found: Vec<Value> = lines
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        found.reverse();
        found
    }

    /// Reads all files, and compares them with themselves and with what was written last.
    pub(crate) fn verify(&self) -> Verdict {
        // Held: nothing is written meanwhile.
        let state = self.lock();
        let end = state
            .file
            .is_ok()
            .then_some((state.seq, state.hash.as_str()));
        chain::verify(&self.directory, end)
    }

    /// What an operator should know of it.
    pub(crate) fn warning(&self) -> Option<String> {
        let state = self.lock();
        let why = match &state.file {
            Err(error) => error.to_string(),
            Ok(_) if state.failed > 0 => format!("{} lines could not be written", state.failed),
            Ok(_) => return None,
        };
        Some(format!(
            "orders are not written down in {}: {why}",
            self.directory.join(FILE).display()
        ))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn append(&mut self, line: &str, seq: u64, hash: String) {
        let written = match &mut self.file {
            Ok(file) => file.write_all(format!("{line}\n").as_bytes()),
            // It was said at the start.
            Err(_) => Ok(()),
        };
        if let Err(error) = written {
            self.failed = self.failed.saturating_add(1);
            tracing::error!(%error, "an order is not written down: free the disk");
            return;
        }
        self.bytes = self
            .bytes
            .saturating_add(u64::try_from(line.len()).unwrap_or(0) + 1);
        if let Some(head) = &self.head
            && let Err(error) = head.write_all_at(format!("{seq:020} {hash}\n").as_bytes(), 0)
        {
            tracing::debug!(%error, "the audit log's head is not written");
        }
        (self.seq, self.hash) = (seq, hash);
        if self.lines.len() >= LISTED_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line.to_owned());
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests;
