//! A directory of our own below the system's temporary one, with a BPF file system if wanted.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Removed on drop, and unmounted before that.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Creates `name` below the temporary directory.
    ///
    /// # Errors
    /// It exists already, or cannot be created.
    pub fn create(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self { path })
    }

    /// Takes over a directory that a dead process left, to remove it.
    pub(crate) fn adopt(path: PathBuf) -> Self {
        Self { path }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A new directory in it.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(path)
    }

    /// Mounts a BPF file system of our own; the machine's, if it has one, is not used.
    ///
    /// # Errors
    /// No CAP_SYS_ADMIN, or a kernel without BPF.
    pub fn bpffs(&self) -> Result<PathBuf> {
        let path = self.directory(BPFFS)?;
        let nothing: Option<&str> = None;
        mount(Some("bpf"), &path, Some("bpf"), MsFlags::empty(), nothing)
            .with_context(|| format!("mount a BPF file system at {}", path.display()))?;
        Ok(path)
    }
}

const BPFFS: &str = "bpf";

impl Drop for Scratch {
    fn drop(&mut self) {
        // Not mounted is the usual case. Detached, so that a dying process cannot hold it.
        while umount2(&self.path.join(BPFFS), MntFlags::MNT_DETACH).is_ok() {}
        if let Err(e) = fs::remove_dir_all(&self.path) {
            eprintln!("lab: could not remove {}: {e}", self.path.display());
        }
    }
}
