//! Takes the kernel path away: the one thing that ends media on purpose.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

/// Removes everything pinned below `pin_dir`; the kernel detaches a program with its last pin.
/// Returns how many pins there were.
///
/// # Errors
/// If the directory does not exist or a pin cannot be removed.
pub fn detach(pin_dir: &Path) -> anyhow::Result<usize> {
    if !pin_dir.exists() {
        bail!("{}: nothing is pinned there", pin_dir.display());
    }
    let mut removed = 0;
    for version in fs::read_dir(pin_dir).with_context(|| format!("{}", pin_dir.display()))? {
        let version = version?.path();
        if !version.is_dir() {
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
