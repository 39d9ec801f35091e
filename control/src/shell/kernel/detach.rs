//! Takes the kernel path away: the one thing that ends media on purpose.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

use super::adopt::{self, ABI_DIRECTORY};

/// Removes what daemons of any version pinned below `pin_dir`; the kernel detaches a program with
/// its last pin. Returns how many pins there were.
///
/// # Errors
/// If the directory does not exist, is not on a BPF file system, is a running daemon's, or a pin
/// cannot be removed.
pub fn detach(pin_dir: &Path) -> anyhow::Result<usize> {
    if !pin_dir.exists() {
        bail!("{}: nothing is pinned there", pin_dir.display());
    }
    // A mistyped directory must not lose its files.
    if !adopt::is_bpffs(pin_dir) {
        bail!(
            "{}: not on a BPF file system; name the directory that datapath.pin_dir names",
            pin_dir.display()
        );
    }
    let _lock = adopt::lock(pin_dir)?;
    let mut removed = 0;
    for version in fs::read_dir(pin_dir).with_context(|| format!("{}", pin_dir.display()))? {
        let version = version?.path();
        let name = version.file_name().unwrap_or_default().to_string_lossy();
        if !version.is_dir() || !name.starts_with(ABI_DIRECTORY) {
            continue;
        }
        for pin in fs::read_dir(&version)? {
            let pin = pin?.path();
            fs::remove_file(&pin).with_context(|| format!("cannot remove {}", pin.display()))?;
            removed += 1;
        }
        fs::remove_dir(&version).with_context(|| format!("cannot remove {}", version.display()))?;
    }
    Ok(removed)
}
