//! The tree of what is installed.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::{Release, licences, output};
use crate::run::{root, step};

/// What is copied as it is: from the workspace, to below `usr`.
const FILES: [(&str, &str); 7] = [
    (
        "control/package/towpath.service",
        "lib/systemd/system/towpath.service",
    ),
    (
        "control/package/towpath.sysusers",
        "lib/sysusers.d/towpath.conf",
    ),
    (
        "control/package/towpath.tmpfiles",
        "lib/tmpfiles.d/towpath.conf",
    ),
    (
        "control/package/towpath.sysctl",
        "lib/sysctl.d/60-towpath.conf",
    ),
    (
        "control/towpath.example.toml",
        "share/doc/towpath/examples/towpath.toml",
    ),
    (
        "control/monitoring/grafana.json",
        "share/towpath/monitoring/grafana.json",
    ),
    (
        "control/monitoring/alerts.yml",
        "share/towpath/monitoring/alerts.yml",
    ),
];

/// Shells, and where each looks for what completes command lines.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "share/bash-completion/completions/towpath"),
    ("zsh", "share/zsh/vendor-completions/_towpath"),
    ("fish", "share/fish/vendor_completions.d/towpath.fish"),
];

/// A directory that is filled with files.
pub(super) struct Stage {
    directory: PathBuf,
}

impl Stage {
    /// Whatever was there before is gone.
    pub(super) fn new(directory: &Path) -> Result<Self> {
        if directory.exists() {
            fs::remove_dir_all(directory)?;
        }
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
        let directory = directory.to_owned();
        Ok(Self { directory })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// All that package and tarball share, below `usr`.
    pub(super) fn fill(&mut self, release: &Release, binary: &Path, usr: &str) -> Result<()> {
        let at = |place: &str| format!("{usr}{place}");
        self.put(&at("bin/towpath"), &fs::read(binary)?, 0o755)?;
        for (from, to) in FILES {
            self.copy(from, &at(to), 0o644)?;
        }
        self.copy(
            "control/package/towpath.toml",
            "etc/towpath/towpath.toml",
            0o644,
        )?;
        for below in ["", "images/"] {
            for page in root()?.join("docs").join(below).read_dir()? {
                let page = page?.path();
                let shown = |e: &OsStr| ["md", "svg", "png"].map(OsStr::new).contains(&e);
                if page.extension().is_some_and(shown) {
                    let name = page.file_name().unwrap_or_default().to_string_lossy();
                    let to = at(&format!("share/doc/towpath/book/{below}{name}"));
                    self.put(&to, &fs::read(&page)?, 0o644)?;
                }
            }
        }
        for (shell, to) in COMPLETIONS {
            let script = output(Command::new(binary).args(["completions", shell]))?;
            self.put(&at(to), script.as_bytes(), 0o644)?;
        }
        let pages = self.make(&at("share/man/man1"))?;
        output(Command::new(binary).arg("man").arg("--dir").arg(&pages))?;
        for page in pages.read_dir()? {
            gzip(&page?.path())?;
        }
        let licences = licences::third_party()?;
        self.packed(&at("share/doc/towpath/third-party.txt"), &licences)?;
        let changes = fs::read_to_string(root()?.join("CHANGELOG.md"))?;
        self.packed(&at("share/doc/towpath/changelog"), &changes)?;
        let build = format!("towpath {}\ncommit {}\n", release.version, release.commit);
        self.put(&at("share/doc/towpath/BUILD"), build.as_bytes(), 0o644)
    }

    /// From the workspace.
    pub(super) fn copy(&mut self, from: &str, to: &str, mode: u32) -> Result<()> {
        let from = root()?.join(from);
        let bytes = fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
        self.put(to, &bytes, mode)
    }

    /// Compressed: `.gz` is added to its name.
    pub(super) fn packed(&mut self, to: &str, text: &str) -> Result<()> {
        self.put(to, text.as_bytes(), 0o644)?;
        gzip(&self.directory.join(to))
    }

    pub(super) fn put(&mut self, to: &str, bytes: &[u8], mode: u32) -> Result<()> {
        let path = self.directory.join(to);
        let parent = Path::new(to).parent().unwrap_or(Path::new(""));
        self.make(&parent.to_string_lossy())?;
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    /// A directory and those above it, readable by all whatever our umask is.
    pub(super) fn make(&mut self, path: &str) -> Result<PathBuf> {
        let mut directory = self.directory.clone();
        for part in Path::new(path) {
            directory.push(part);
            if !directory.exists() {
                fs::create_dir(&directory)?;
                fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
            }
        }
        Ok(directory)
    }
}

/// Without name and time: the same text gives the same bytes.
fn gzip(path: &Path) -> Result<()> {
    step("gzip", Command::new("gzip").args(["-9n", "-f"]).arg(path))?;
    let name = format!("{}.gz", path.display());
    fs::set_permissions(name, fs::Permissions::from_mode(0o644))?;
    Ok(())
}
