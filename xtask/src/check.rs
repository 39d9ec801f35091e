//! `check`: what every change must pass; needs no root.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;

use crate::run::{Clock, cargo, say, step};
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
    if library_sources_exist() {
        step("lints of the kernel program", &mut kernel_clippy()?)?;
    } else {
        unseen.push("lints of the kernel program: rust-src is missing; run `cargo xtask setup`");
    }
    step(
        "core without the shell",
        &mut cargo(&["check", "-p", "towpath", "--no-default-features", "--lib"])?,
    )?;
    crate::tidy::tidy()?;
    if exists("cargo-deny") {
        step("licences and advisories", &mut cargo(&["deny", "check"])?)?;
    } else {
        unseen.push("licences and advisories: cargo-deny is not installed");
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

fn library_sources_exist() -> bool {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output();
    let Ok(sysroot) = sysroot else { return false };
    let sysroot = String::from_utf8_lossy(&sysroot.stdout).into_owned();
    let library = "lib/rustlib/src/rust/library/core/Cargo.toml";
    Path::new(sysroot.trim()).join(library).is_file()
}

fn exists(program: &str) -> bool {
    let mut version = Command::new(program);
    version.arg("--version").stdin(Stdio::null());
    let status = version.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
