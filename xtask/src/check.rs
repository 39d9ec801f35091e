//! `check`: what every change must pass; needs no root, once `setup` has been run.

use std::process::{Command, Stdio};

use anyhow::Result;

use crate::run::{Clock, cargo, ourselves, say, step};
use crate::test::EVERYTHING;

pub(crate) fn check() -> Result<()> {
    let clock = Clock::start();
    let mut unseen = Vec::new();
    step("format", &mut cargo(&["fmt", "--all", "--check"])?)?;
    step(
        "lints",
        cargo(&["clippy", "--all-targets"])?
            .args(EVERYTHING)
            .args(["--", "--deny", "warnings"]),
    )?;
    // A test compares its maps with ours, and lints want the library it is built with.
    step("the kernel program", &mut ourselves("ebpf")?)?;
    step("lints of the kernel program", &mut kernel_clippy()?)?;
    step(
        "core without the shell",
        cargo(&["clippy", "-p", "towpath", "--no-default-features", "--lib"])?
            .args(["--", "--deny", "warnings"]),
    )?;
    crate::tidy::tidy()?;
    if exists("cargo-deny") {
        let known = ["deny", "check", "bans", "licenses", "sources"];
        step("licences, sources and duplicates", &mut cargo(&known)?)?;
        if quietly(&mut cargo(&["deny", "fetch", "db"])?) {
            step("advisories", &mut cargo(&["deny", "check", "advisories"])?)?;
        } else {
            unseen.push("advisories: their database cannot be fetched from here");
        }
    } else {
        unseen.push("licences, sources, duplicates, advisories: cargo-deny is not installed");
    }
    // Whole-system tests start the daemon; cargo does not know that they need it.
    let bins = [&["build", "--bins", "--tests"], &WITHOUT_ROOT[..]].concat();
    step("the programs", &mut cargo(&bins)?)?;
    let test = [&["test"], &WITHOUT_ROOT[..]].concat();
    step("tests without root", &mut cargo(&test)?)?;
    for what in &unseen {
        say(&format!("NOT CHECKED: {what}"));
    }
    say(&format!("check: passed, in {clock}"));
    Ok(())
}

const WITHOUT_ROOT: [&str; 1] = ["--workspace"];

/// As `ebpf` builds it, so that both share what they compile for the host. Core comes from source,
/// which stable Rust allows only when told so.
fn kernel_clippy() -> Result<Command> {
    let mut clippy = cargo(&["clippy", "--release", "-p", "relay-ebpf"])?;
    clippy
        .args(["--target", "bpfel-unknown-none", "-Zbuild-std=core"])
        .args(["--target-dir", "target/ebpf"])
        .args(["--", "--deny", "warnings"])
        .env("RUSTC_BOOTSTRAP", "1")
        .env_remove("RUSTFLAGS");
    Ok(clippy)
}

fn exists(program: &str) -> bool {
    quietly(Command::new(program).arg("--version"))
}

fn quietly(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let status = command.stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
