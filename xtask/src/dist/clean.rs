//! `dist --try`: the package in a clean Debian: installed, run by its own user with the four
//! capabilities of its unit, calls through the kernel, removed, and nothing left.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::output;
use crate::run::{cargo, say, step, target};

/// The release the package is built on.
const SUITE: &str = "bookworm";
/// As in `AmbientCapabilities=` of the unit.
const CAPABILITIES: &str = "+bpf,+net_admin,+perfmon,+net_raw";
/// Where no file of ours may be left.
const LISTED: &str = "find . -xdev -path ./var/log -prune -o -path ./var/cache -prune -o -path \
                      ./var/lib/dpkg -prune -o -path ./tmp -prune -o -print | LC_ALL=C sort";

pub(super) fn install_and_call(deb: &Path) -> Result<()> {
    let root = Root::debootstrap(&target()?.join("clean"))?;
    let before = root.list()?;
    fs::copy(deb, root.0.join("tmp/towpath.deb"))?;
    root.run(&["dpkg", "-i", "/tmp/towpath.deb"])?;
    let told = root.run(&["towpath", "version"])?;
    ensure!(told.contains("built in, ABI"), "the package: {told}");
    root.run(&["sh", "-c", "towpath completions bash | bash -n"])?;
    let config = root.run(&["stat", "-c", "%a %U:%G", "/etc/towpath/towpath.toml"])?;
    ensure!(
        config.trim() == "640 root:towpath",
        "/etc/towpath/towpath.toml: {config}"
    );
    let refused = root.command(&["towpath", "run", "--config", "/etc/towpath/towpath.toml"]);
    let code = refused?.output()?.status.code();
    ensure!(
        code == Some(78),
        "without a configuration `run` ends with {code:?}, not 78"
    );
    calls(&root)?;
    root.run(&["dpkg", "-r", "towpath"])?;
    ensure!(
        root.0.join("etc/towpath/towpath.toml").exists(),
        "removed, not purged"
    );
    root.run(&["dpkg", "-P", "towpath"])?;
    let after = root.list()?;
    let left: Vec<&str> = after.lines().filter(|l| !before.contains(l)).collect();
    ensure!(left.is_empty(), "purged, and still there: {left:?}");
    let known = root.run(&[
        "sh",
        "-c",
        "getent passwd towpath; getent group towpath; true",
    ])?;
    ensure!(known.is_empty(), "purged, and still there: {known}");
    say("the package: installed, called, removed; nothing is left");
    Ok(())
}

/// The demonstration with the installed daemon: phones that register, calls with sound and
/// picture, each through the kernel.
fn calls(root: &Root) -> Result<()> {
    let wrapper = root.0.join("tmp/as-unit");
    fs::write(&wrapper, root.as_unit())?;
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    step(
        "the demonstration",
        &mut cargo(&["build", "-p", "towpath-tests", "--bin", "demo"])?,
    )?;
    let mut demo = Command::new(target()?.join("debug/demo"));
    demo.args(["--json", "--embedded", "--towpath"])
        .arg(&wrapper);
    let told = output(&mut demo)?;
    say(told.trim());
    Ok(())
}

/// A Debian system in a directory.
struct Root(PathBuf);

impl Root {
    /// It is made once, and as good as new after each purge.
    fn debootstrap(directory: &Path) -> Result<Self> {
        if !directory.join("usr/bin/dpkg").exists() {
            let mut make = Command::new("debootstrap");
            make.args([
                "--variant=minbase",
                "--include=init-system-helpers,systemd",
                SUITE,
            ]);
            step("a clean Debian", make.arg(directory))?;
        }
        Ok(Self(directory.to_owned()))
    }

    /// In a mount and a network namespace of its own: nothing of this machine is reached.
    fn command(&self, words: &[&str]) -> Result<Command> {
        let mut command = Command::new("unshare");
        let root = self.0.to_str().context("a path that is not UTF-8")?;
        let mounts = format!(
            "mount --bind /dev {root}/dev && mount -t proc proc {root}/proc && mount -t sysfs sys \
             {root}/sys && mount -t bpf bpf {root}/sys/fs/bpf && ip link set lo up && exec \
             chroot {root} \"$@\""
        );
        command.args([
            "--mount", "--net", "--pid", "--fork", "sh", "-c", &mounts, "sh",
        ]);
        command.args(words).env("DEBIAN_FRONTEND", "noninteractive");
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        Ok(command)
    }

    fn run(&self, words: &[&str]) -> Result<String> {
        output(&mut self.command(words)?)
    }

    fn list(&self) -> Result<String> {
        output(Command::new("sh").args(["-c", LISTED]).current_dir(&self.0))
    }

    /// A program that takes the daemon's arguments, and runs it as the unit would: in whichever
    /// network it is started, with the laboratory's directory in sight.
    fn as_unit(&self) -> String {
        let root = self.0.display();
        format!(
            "#!/bin/sh\nset -e\ncase \"$1\" in run) ;; *) exec {root}/usr/bin/towpath \"$@\" ;; \
             esac\nhere=$(dirname \"$3\")\nlab=$(dirname \"$here\")\n\
             exec unshare --mount sh -c '\n\
             set -e\nroot=$1 here=$2 lab=$3; shift 3\n\
             mkdir -p \"$root$lab\"\nmount --rbind \"$lab\" \"$root$lab\"\n\
             mount --bind /dev \"$root/dev\"\nmount -t proc proc \"$root/proc\"\n\
             mount -t sysfs sys \"$root/sys\"\n\
             id=$(chroot \"$root\" id -u towpath)\nchown -R \"$id\" \"$here\" \"$lab/bpf\"\n\
             chmod 0755 \"$lab\"\n\
             exec chroot \"$root\" setpriv --reuid towpath --regid towpath --init-groups \
             --no-new-privs --bounding-set=-all,{CAPABILITIES} --inh-caps=-all,{CAPABILITIES} \
             --ambient-caps=-all,{CAPABILITIES} /usr/bin/towpath \"$@\"\n' sh \"{root}\" \
             \"$here\" \"$lab\" \"$@\"\n"
        )
    }
}
