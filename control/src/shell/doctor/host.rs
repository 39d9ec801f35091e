//! Disks, limits, memory.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};

use super::files::{field, line, there};
use crate::config::Config;
use crate::doctor::facts::{Container, Disk, Host};

/// `daemon` is the process whose limits count, if one runs.
pub(super) fn read(config: &Config, daemon: Option<u32>) -> Host {
    let store = config.store.path.parent().unwrap_or(Path::new("/"));
    let mut disks = vec![disk("state", &config.node.state_dir)];
    if store != config.node.state_dir {
        disks.push(disk("store", store));
    }
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = |text: &str| text.split(' ').next()?.parse::<u64>().ok();
    Host {
        disks,
        nofile: nofile(daemon),
        memory_available: field(&memory, "MemAvailable")
            .and_then(kib)
            .map(|kib| kib * 1024),
        memory_limit: group().and_then(|path| line(path.join("memory.max"))?.parse().ok()),
        processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        container: container(),
    }
}

fn disk(what: &'static str, path: &Path) -> Disk {
    let there = there(path);
    let mut disk = Disk {
        what,
        path: path.to_path_buf(),
        there: there.to_path_buf(),
        // A directory that is not there yet is made where one may write.
        writable: access(there, AccessFlags::W_OK | AccessFlags::X_OK).is_ok(),
        ..Disk::default()
    };
    if let Ok(found) = statvfs(there) {
        let size = found.fragment_size();
        disk.free = found.blocks_available().saturating_mul(size);
        disk.size = found.blocks().saturating_mul(size);
        disk.files_free = (found.files() > 0).then(|| found.files_available());
    }
    disk
}

fn nofile(daemon: Option<u32>) -> Option<(u64, u64)> {
    let of = |pid: u32| {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
        let line = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"))?;
        let mut numbers = line
            .split_whitespace()
            .map(|n| n.parse().unwrap_or(u64::MAX));
        numbers.next().zip(numbers.next())
    };
    daemon
        .and_then(of)
        .or_else(|| getrlimit(Resource::RLIMIT_NOFILE).ok())
}

/// The memory group of this process (cgroups(7), version 2).
fn group() -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/')))
}

fn container() -> Option<Container> {
    let marks = [("/.dockerenv", "docker"), ("/run/.containerenv", "podman")];
    let found = marks.iter().find(|(mark, _)| Path::new(mark).exists());
    let found = found.map(|(_, name)| (*name).to_owned());
    // A namespace made in a container is somebody's on purpose.
    let network = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    Some(Container {
        kind: found.or_else(|| line("/run/systemd/container"))?,
        own_network: network("1")
            .zip(network("self"))
            .map(|(first, own)| first == own),
    })
}
