//! `dist --try`: the package in a clean Debian that systemd has booted: installed, configured, run
//! as its unit says, called through, upgraded, removed, and nothing left. What is done there is in
//! `try.sh`; it happens in namespaces, and nothing of this machine is reached.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::output;
use crate::run::{step, target};

/// The release the package is built on.
const SUITE: &str = "bookworm";
/// What a machine has that is no container.
const INCLUDED: &str = "--include=init-system-helpers,systemd,systemd-sysv,dbus";
const SCRIPT: &str = include_str!("try.sh");

pub(super) fn install_and_call(deb: &Path) -> Result<()> {
    let root = debootstrap(&target()?.join("clean"))?;
    let packages = target()?.join("try");
    fs::create_dir_all(&packages)?;
    fs::copy(deb, packages.join("new.deb"))?;
    older(deb, &packages)?;
    let script = packages.join("try.sh");
    fs::write(&script, SCRIPT)?;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--pid", "--fork", "bash"]);
    command.arg(&script).arg(&root).arg(&packages);
    step(
        "the package in a clean Debian",
        command.args(["new.deb", "old.deb"]),
    )
}

/// It is made once: whatever is done in it is done in a layer above, which is thrown away.
fn debootstrap(directory: &Path) -> Result<PathBuf> {
    let whole = directory.join("usr/bin/dpkg-deb");
    if !whole.exists() {
        // One that was broken off is no Debian.
        let making = directory.with_extension("part");
        if making.exists() {
            fs::remove_dir_all(&making)?;
        }
        let mut make = Command::new("debootstrap");
        make.args(["--variant=minbase", INCLUDED, SUITE]);
        step("a clean Debian", make.arg(&making))?;
        fs::rename(&making, directory)?;
    }
    fs::canonicalize(directory).context("the clean Debian is gone")
}

/// The same package as the one that came before it.
fn older(deb: &Path, packages: &Path) -> Result<()> {
    let tree = packages.join("old");
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    output(Command::new("dpkg-deb").arg("-R").arg(deb).arg(&tree))?;
    let control = tree.join("DEBIAN/control");
    let text = fs::read_to_string(&control)?;
    let version = text.lines().find_map(|l| l.strip_prefix("Version: "));
    let version = version.context("a package without a version")?;
    ensure!(!version.contains('~'), "{version} has nothing before it");
    let text = text.replace(
        &format!("Version: {version}\n"),
        &format!("Version: {version}~1\n"),
    );
    fs::write(&control, text)?;
    let mut build = Command::new("dpkg-deb");
    build.args(["--root-owner-group", "-Znone", "--build"]);
    output(build.arg(&tree).arg(packages.join("old.deb")))?;
    fs::remove_dir_all(&tree)?;
    Ok(())
}
