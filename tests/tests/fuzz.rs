//! What the fuzzer has found (`cargo xtask fuzz sip`), replayed without it, and our vectors.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]
#![allow(clippy::indexing_slicing, reason = "what is wrong fails the test")]
#![allow(clippy::panic, reason = "what is wrong fails the test")]

#[path = "fuzz/targets.rs"]
mod targets;

use std::fs;
use std::path::{Path, PathBuf};

/// What may be kept in the repository.
const FILES_MAX: usize = 300;
const BYTES_MAX: usize = 500_000;

#[test]
fn what_the_fuzzer_found_is_understood() {
    let (mut files, mut bytes) = (0, 0);
    for path in below(&vectors().join("fuzz")) {
        let data = fs::read(&path).unwrap();
        files += 1;
        bytes += data.len();
        // `framing/07` or `framing-crash-…`: whose it is.
        let relative = path.strip_prefix(vectors().join("fuzz")).unwrap();
        let name = relative.to_str().unwrap();
        let mut ours = targets::TARGETS.iter();
        let target = ours.find(|(target, _)| name.starts_with(target));
        let (_, run) = target.unwrap_or_else(|| panic!("{name} is no target's"));
        run(&data);
    }
    assert!(files > 0, "nothing is kept");
    assert!(
        files < FILES_MAX && bytes < BYTES_MAX,
        "{files} files, {bytes} octets"
    );
}

#[test]
fn every_target_takes_every_vector() {
    for path in below(&vectors()) {
        let kind = path.extension().and_then(|kind| kind.to_str());
        if matches!(kind, Some("sip" | "sdp")) {
            let data = fs::read(&path).unwrap();
            for (_, run) in targets::TARGETS {
                run(&data);
            }
            for line in data.split(|byte| *byte == b'\n') {
                targets::values(line);
            }
        }
    }
}

fn below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(below(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn vectors() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors")
}
