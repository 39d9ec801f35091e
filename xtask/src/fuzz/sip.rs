//! libFuzzer on the readers of SIP and SDP. The package `tests/fuzz` is a workspace of its own: its
//! coverage is the compiler's, its runtime is built with the machine's C++ compiler.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::run::{cargo, root, say, step, target};

const TARGETS: [&str; 5] = ["framing", "index", "values", "editor", "sdp"];
/// More would be no faster: the machine that decides has two processors.
const AT_ONCE: usize = 2;
/// The longest datagram, and a stream of several messages.
const INPUT_BYTES_MAX: usize = 65_535;
const HOST: &str = "x86_64-unknown-linux-gnu";
/// What the compiler weaves in for libFuzzer: it counts edges and sees what is compared.
const COVERAGE: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Ccodegen-units=1";
/// What is kept of each target, smallest first: the tests replay all of it.
const KEPT_FILES_MAX: usize = 50;
const KEPT_BYTES_MAX: u64 = 80_000;

pub(super) fn fuzz(minutes: u32, only: Option<&str>, keep: bool) -> Result<()> {
    let chosen: Vec<&str> = TARGETS
        .into_iter()
        .filter(|name| only.is_none_or(|only| only == *name))
        .collect();
    ensure!(
        !chosen.is_empty(),
        "no such target; there are {}",
        TARGETS.join(", ")
    );
    let directory = target()?.join("fuzz");
    build(&directory)?;
    let program = directory.join(HOST).join("release/sip");
    let mut found = Vec::new();
    for some in chosen.chunks(AT_ONCE) {
        let mut running = Vec::new();
        for name in some {
            running.push((*name, start(&program, &directory, name, minutes)?));
        }
        for (name, mut child) in running {
            let status = child.wait().context("cannot wait for the fuzzer")?;
            say(&format!("==> {name}: {status}"));
            if !status.success() {
                found.push(name);
            }
        }
    }
    if keep {
        for name in &chosen {
            keep_corpus(&program, &directory, name)?;
        }
    }
    if !found.is_empty() {
        let kept = vectors()?;
        bail!(
            "findings of {}: {}/NAME-crash-*",
            found.join(", "),
            kept.display()
        );
    }
    Ok(())
}

fn build(directory: &Path) -> Result<()> {
    let manifest = root()?.join("tests/fuzz/Cargo.toml");
    let mut build = cargo(&["build", "--release", "--target", HOST, "--manifest-path"])?;
    build
        .arg(manifest)
        .env("RUSTFLAGS", COVERAGE)
        .env("CARGO_TARGET_DIR", directory);
    step("fuzzer", &mut build)
}

fn start(program: &Path, directory: &Path, name: &str, minutes: u32) -> Result<Child> {
    let corpus = directory.join("corpus").join(name);
    fs::create_dir_all(&corpus).with_context(|| format!("cannot make {}", corpus.display()))?;
    let seeds = seeds(directory, name)?;
    let log = directory.join(format!("{name}.log"));
    let output =
        fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut command = Command::new(program);
    command
        .arg(&corpus)
        .args(
            [vectors()?.join(name), seeds]
                .iter()
                .filter(|path| path.is_dir()),
        )
        .arg(format!("-max_total_time={}", u64::from(minutes) * 60))
        .arg(format!("-max_len={INPUT_BYTES_MAX}"))
        .arg(format!("-artifact_prefix={}/{name}-", vectors()?.display()))
        .args(["-timeout=10", "-print_final_stats=1"])
        .env("TOWPATH_FUZZ_TARGET", name)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(output);
    say(&format!(
        "==> {name}: {minutes} min, told in {}",
        log.display()
    ));
    command.spawn().context("the fuzzer does not start")
}

/// What a target begins with: our vectors, in the shape it reads.
fn seeds(directory: &Path, name: &str) -> Result<PathBuf> {
    let seeds = directory.join("seeds").join(name);
    fs::create_dir_all(&seeds).with_context(|| format!("cannot make {}", seeds.display()))?;
    let vectors = root()?.join("tests/vectors");
    for entry in fs::read_dir(&vectors).context("tests/vectors cannot be listed")? {
        let path = entry.context("tests/vectors cannot be listed")?.path();
        let kind = path.extension().and_then(|kind| kind.to_str());
        if !matches!(kind, Some("sip" | "sdp")) {
            continue;
        }
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        for (number, piece) in pieces(name, kind == Some("sdp"), &bytes)
            .into_iter()
            .enumerate()
        {
            let seed = seeds.join(format!("{stem}-{number}"));
            fs::write(&seed, piece).with_context(|| format!("cannot write {}", seed.display()))?;
        }
    }
    Ok(seeds)
}

/// The parts of a vector that a target reads: whole messages, the values of their headers, or
/// bodies.
fn pieces<'v>(name: &str, is_body: bool, bytes: &'v [u8]) -> Vec<&'v [u8]> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.map_or(bytes.len(), |at| at + 4);
    match name {
        "sdp" if is_body => vec![bytes],
        "sdp" => bytes
            .get(end..)
            .filter(|body| !body.is_empty())
            .into_iter()
            .collect(),
        _ if is_body => Vec::new(),
        "values" => bytes
            .get(..end)
            .unwrap_or_default()
            .split(|byte| *byte == b'\n')
            .filter_map(|line| line.splitn(2, |byte| *byte == b':').nth(1))
            .map(<[u8]>::trim_ascii)
            .filter(|value| !value.is_empty())
            .collect(),
        _ => vec![bytes],
    }
}

/// Puts a small part of what was learnt, with as much coverage as it can have, beside the vectors.
fn keep_corpus(program: &Path, directory: &Path, name: &str) -> Result<()> {
    let merged = directory.join("merged").join(name);
    fs::remove_dir_all(&merged).ok();
    fs::create_dir_all(&merged).with_context(|| format!("cannot make {}", merged.display()))?;
    let mut merge = Command::new(program);
    merge
        .args(["-merge=1", "-max_len=4096"])
        .arg(&merged)
        .arg(directory.join("corpus").join(name))
        .env("TOWPATH_FUZZ_TARGET", name);
    step("merge", &mut merge)?;
    let mut files = Vec::new();
    for entry in fs::read_dir(&merged).context("the merged corpus cannot be listed")? {
        let entry = entry.context("the merged corpus cannot be listed")?;
        files.push((entry.metadata().context("no size")?.len(), entry.path()));
    }
    files.sort();
    let kept = vectors()?.join(name);
    fs::remove_dir_all(&kept).ok();
    fs::create_dir_all(&kept).with_context(|| format!("cannot make {}", kept.display()))?;
    // From small to large in equal steps: neither trifles alone nor giants.
    let stride = files.len().div_ceil(KEPT_FILES_MAX).max(1);
    let mut bytes = 0;
    for (number, (size, path)) in files.iter().step_by(stride).enumerate() {
        bytes += size;
        if bytes > KEPT_BYTES_MAX {
            break;
        }
        fs::copy(path, kept.join(format!("{number:02}"))).context("cannot copy")?;
    }
    Ok(())
}

fn vectors() -> Result<PathBuf> {
    Ok(root()?.join("tests/vectors/fuzz"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_begins_with_what_it_reads() {
        let wire = b"OPTIONS sip:b SIP/2.0\r\nVia: a;b\r\nSubject:\r\nl: 4\r\n\r\nv=0\n";
        let check = |name, is_body, expected: &[&[u8]]| {
            assert_eq!(pieces(name, is_body, wire), expected, "{name}");
        };
        check("index", false, &[wire]);
        check("index", true, &[]);
        check("values", false, &[b"b SIP/2.0", b"a;b", b"4"]);
        check("sdp", false, &[b"v=0\n"]);
        check("sdp", true, &[wire]);
    }
}
