//! `test`: every test there is. Those that need root fail without it; none is skipped.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::run::{Clock, cargo, ourselves, say, step, target, watch};
use crate::{ebpf, variants};

/// What is built and tested: one choice of packages and features for `check`, `test` and CI, so
/// that nothing is compiled twice.
pub(crate) const EVERYTHING: [&str; 3] = ["--workspace", "--features", "towpath-tests/root"];

/// Packets that host and kernel are compared with; `fuzz` takes more.
const DIFFERENTIAL_FRAMES: &str = "2000000";

pub(crate) fn test() -> Result<()> {
    let clock = Clock::start();
    let built = Built::all(&[&["--tests"], &EVERYTHING[..]].concat())?;
    variants::build()?;
    let test = [&["test", "--no-fail-fast"], &EVERYTHING[..]].concat();
    let mut test = cargo(&test)?;
    test.env("TOWPATH_DIFFERENTIAL_FRAMES", DIFFERENTIAL_FRAMES);
    let (tally, success) = watch("all tests", built.tell(&mut test))?;
    let (passed, failed, ignored) = (tally.passed, tally.failed, tally.ignored);
    say(&format!(
        "test: {passed} passed, {failed} failed, {ignored} ignored, in {clock}"
    ));
    if !success {
        bail!("tests failed; the lines with FAILED above name them");
    }
    Ok(())
}

/// What whole-system tests and the demonstration run.
pub(crate) struct Built {
    daemon: PathBuf,
    object: PathBuf,
}

impl Built {
    /// Sets up, builds the kernel program, and the programs of the packages that are named.
    pub(crate) fn all(packages: &[&str]) -> Result<Self> {
        // As commands of their own: whatever they print stays off our standard output.
        step("set-up", &mut ourselves("setup")?)?;
        step("the kernel program", &mut ourselves("ebpf")?)?;
        let object = ebpf::build()?;
        let build = [&["build", "--bins"], packages].concat();
        step("the programs", &mut cargo(&build)?)?;
        let daemon = target()?.join("debug").join("towpath");
        Ok(Self { daemon, object })
    }

    /// Tells a command where they are.
    pub(crate) fn tell<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .env("TOWPATH_BIN", &self.daemon)
            .env("TOWPATH_OBJECT", &self.object)
    }
}
