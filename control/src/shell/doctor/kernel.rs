//! This process, the kernel, and what is pinned.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use aya::programs::links::{FdLink, PinnedLink};
use common::map::ABI;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use nix::unistd::{AccessFlags, access, geteuid};

use super::files::{field, line, there};
use crate::config::Config;
use crate::doctor::facts::{Bpffs, Kernel};
use crate::shell::kernel::ABI_DIRECTORY;

pub(super) fn read(config: &Config) -> Kernel {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bits = field(&status, "CapEff").and_then(|text| u64::from_str_radix(text, 16).ok());
    let pin_dir = &config.datapath.pin_dir;
    let object = config.datapath.object.as_ref();
    Kernel {
        release: line("/proc/sys/kernel/osrelease").unwrap_or_default(),
        btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        capabilities: bits.unwrap_or(0),
        uid: geteuid().as_raw(),
        seccomp: field(&status, "Seccomp").and_then(|text| text.parse().ok()),
        lsm: line("/proc/self/attr/current")
            .map(|context| context.trim_end_matches('\0').to_owned())
            .filter(|context| !context.is_empty()),
        lockdown: line("/sys/kernel/security/lockdown").and_then(|modes| chosen(&modes)),
        memlock: getrlimit(Resource::RLIMIT_MEMLOCK)
            .ok()
            .map(|(_, hard)| hard)
            .filter(|limit| *limit != u64::MAX),
        own_programs: programs(pin_dir),
        bpffs: bpffs(pin_dir),
        object: object.map(|path| match fs::File::open(path) {
            Ok(_) => Ok(path.clone()),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }),
    }
}

/// `none [integrity] confidentiality`
fn chosen(modes: &str) -> Option<String> {
    let (_, rest) = modes.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

fn bpffs(pin_dir: &Path) -> Bpffs {
    let there = there(pin_dir);
    Bpffs {
        there: there.to_path_buf(),
        is_bpffs: statfs(there).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC),
        writable: access(there, AccessFlags::W_OK | AccessFlags::X_OK).is_ok(),
        layouts: layouts(pin_dir),
        own: format!("{ABI_DIRECTORY}{ABI}"),
    }
}

fn layouts(pin_dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(pin_dir).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut layouts: Vec<String> = names.filter(|n| n.starts_with(ABI_DIRECTORY)).collect();
    layouts.sort();
    layouts
}

/// Programs that pinned links hold; without the right to ask, none.
fn programs(pin_dir: &Path) -> BTreeSet<u32> {
    let pins = layouts(pin_dir).into_iter().flat_map(|layout| {
        fs::read_dir(pin_dir.join(layout))
            .into_iter()
            .flatten()
            .flatten()
    });
    let program = |pin: fs::DirEntry| {
        if !pin.file_name().to_string_lossy().starts_with("link-") {
            return None;
        }
        let link = FdLink::from(PinnedLink::from_pin(pin.path()).ok()?);
        Some(link.info().ok()?.program_id())
    };
    pins.filter_map(program).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_in_force_is_in_brackets() {
        assert_eq!(
            chosen("none [integrity] confidentiality").as_deref(),
            Some("integrity")
        );
        assert_eq!(chosen("none"), None);
    }
}
