//! `check`: what every change must pass; needs no root.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;

use crate::run::{cargo, say, step};

pub(crate) fn check() -> Result<()> {
    let mut unseen = Vec::new();
    step("format", &mut cargo(&["fmt", "--all", "--check"])?)?;
    step(
        "lints",
        cargo(&["clippy", "--workspace", "--all-targets"])?
            .args(["--features", "towpath-tests/root"])
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
    step("tests without root", &mut cargo(&["test", "--workspace"])?)?;
    for what in &unseen {
        say(&format!("NOT CHECKED: {what}"));
    }
    say("check: passed");
    Ok(())
}

/// As `ebpf` builds it: core comes from source, which stable Rust allows only when told so.
fn kernel_clippy() -> Result<Command> {
    let mut clippy = cargo(&["clippy", "-p", "relay-ebpf"])?;
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
