//! `test`: every test there is. Those that need root fail without it; none is skipped.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::ebpf;
use crate::run::{cargo, ourselves, say, step, target, watch};

pub(crate) fn test() -> Result<()> {
    let built = Built::all()?;
    let suites = [
        (
            "tests of the packages",
            &[
                "test",
                "--workspace",
                "--exclude",
                "towpath-tests",
                "--no-fail-fast",
            ][..],
        ),
        (
            "tests of the whole system, some as root",
            &[
                "test",
                "-p",
                "towpath-tests",
                "--features",
                "root",
                "--no-fail-fast",
            ][..],
        ),
    ];
    let mut all = crate::run::Tally::default();
    let mut red = Vec::new();
    for (what, arguments) in suites {
        let (tally, success) = watch(what, built.tell(&mut cargo(arguments)?))?;
        all = all.plus(tally);
        if !success {
            red.push(what);
        }
    }
    let (passed, failed, ignored) = (all.passed, all.failed, all.ignored);
    say(&format!(
        "all tests: {passed} passed, {failed} failed, {ignored} ignored"
    ));
    if !red.is_empty() {
        bail!("failed: {}", red.join("; "));
    }
    Ok(())
}

/// What whole-system tests and the demonstration run.
pub(crate) struct Built {
    daemon: PathBuf,
    object: PathBuf,
}

impl Built {
    /// Sets up, builds the kernel program and the daemon.
    pub(crate) fn all() -> Result<Self> {
        // As commands of their own: whatever they print stays off our standard output.
        step("set-up", &mut ourselves("setup")?)?;
        step("the kernel program", &mut ourselves("ebpf")?)?;
        let object = ebpf::build()?;
        step(
            "the daemon",
            &mut cargo(&["build", "-p", "towpath", "--bins"])?,
        )?;
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
