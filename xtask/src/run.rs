//! Runs commands, each with a line of progress. Everything goes to standard error: standard output
//! belongs to what a command is asked for.

use std::ffi::OsStr;
use std::fmt;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

/// A line of progress.
pub(crate) fn say(line: &str) {
    eprintln!("{line}");
}

/// The workspace's directory.
pub(crate) fn root() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here
        .parent()
        .context("xtask stands outside the workspace")?;
    ensure!(
        root.join("Cargo.toml").is_file(),
        "{} is gone: run `cargo xtask` from the checkout it was built in",
        root.display()
    );
    Ok(root.to_owned())
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> Result<PathBuf> {
    let root = root()?;
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    Ok(root.join(target))
}

/// The cargo that runs us.
pub(crate) fn cargo(arguments: &[&str]) -> Result<Command> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(root()?);
    Ok(command)
}

/// Flags of the compiler that hide where sources lie on this machine: it is nobody's business, and
/// would change what is built.
pub(crate) fn remap() -> Result<[String; 3]> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let told = Command::new(rustc).args(["--print", "sysroot"]).output();
    let sysroot = String::from_utf8(told.context("rustc does not start")?.stdout)?;
    let home = match std::env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo"),
    };
    Ok([
        format!("--remap-path-prefix={}=/towpath", root()?.display()),
        format!("--remap-path-prefix={}=/cargo", home.display()),
        format!("--remap-path-prefix={}=/rust", sysroot.trim()),
    ])
}

/// Another of our own commands.
pub(crate) fn ourselves(name: &str) -> Result<Command> {
    let program = std::env::current_exe().context("cannot find ourselves")?;
    let mut command = Command::new(program);
    command.arg(name).current_dir(root()?);
    Ok(command)
}

/// Runs a command that must succeed; its output is shown on standard error.
pub(crate) fn step(what: &str, command: &mut Command) -> Result<()> {
    let (_, success) = watch(what, command)?;
    ensure!(success, "{what} failed: {}", spelt(command));
    Ok(())
}

/// Runs a command, shows its output, adds up test results; whether it succeeded.
pub(crate) fn watch(what: &str, command: &mut Command) -> Result<(Tally, bool)> {
    say(&format!("==> {what}: {}", spelt(command)));
    let clock = Clock::start();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", spelt(command)))?;
    let mut tally = Tally::default();
    let output = child.stdout.take().context("no output to read")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("cannot read the output")?;
        let line = String::from_utf8_lossy(&line);
        tally.add(&line);
        say(&line);
    }
    let status = child.wait().context("cannot wait for it")?;
    let verdict = if status.success() { "done" } else { "failed" };
    say(&format!("==> {what}: {verdict} in {clock}"));
    Ok((tally, status.success()))
}

/// How long something took: shown as `4.2 s` or `3 min 5 s`.
pub(crate) struct Clock(Instant);

impl Clock {
    #[allow(
        clippy::disallowed_methods,
        reason = "shows a person how long a step took"
    )]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let passed = self.0.elapsed();
        match passed.as_secs() {
            0..60 => write!(f, "{:.1} s", passed.as_secs_f32()),
            seconds => write!(f, "{} min {} s", seconds / 60, seconds % 60),
        }
    }
}

fn spelt(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    let words: Vec<_> = [name]
        .into_iter()
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect();
    words.join(" ")
}

/// Results of tests.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
}

impl Tally {
    /// Reads a line such as `test result: ok. 5 passed; 0 failed; 1 ignored; …`.
    fn add(&mut self, line: &str) {
        let Some(result) = line.trim_start().strip_prefix("test result: ") else {
            return;
        };
        let counts = result.split_once(". ").map_or("", |(_, counts)| counts);
        for count in counts.split("; ") {
            let (number, what) = count.split_once(' ').unwrap_or(("", ""));
            let number: u64 = number.parse().unwrap_or(0);
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_add_up() {
        let mut tally = Tally::default();
        tally.add("test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out");
        tally.add("test result: FAILED. 7 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
        tally.add("test sip::passed ... ok");
        let expected = Tally {
            passed: 12,
            failed: 2,
            ignored: 1,
        };
        assert_eq!(tally, expected);
    }

    #[test]
    fn a_failing_command_is_an_error() {
        assert!(step("true", &mut Command::new("true")).is_ok());
        let error = step("false", Command::new("false").arg("x")).unwrap_err();
        assert_eq!(error.to_string(), "false failed: false x");
        assert!(step("none", &mut Command::new("/does/not/exist")).is_err());
    }
}
