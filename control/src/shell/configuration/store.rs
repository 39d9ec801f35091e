//! Generations on disk: a file for each, complete or not there. They hold passwords, so nobody but
//! the daemon's user may read them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nix::fcntl::{Flock, FlockArg};

use super::history::{GENERATIONS_MAX, Generation};

/// Larger than any generation: the largest text, escaped as JSON.
const FILE_BYTES_MAX: u64 = 128 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
    /// Nobody else writes here.
    _lock: Flock<File>,
}

impl Store {
    /// The directory `config` of the state directory, which must be there, and what it holds,
    /// oldest first.
    pub(super) fn open(state_dir: &Path) -> anyhow::Result<(Self, Vec<Generation>)> {
        if !state_dir.is_dir() {
            bail!(
                "node.state_dir: there is no directory {}: make it, and give it to the daemon's \
                 user",
                state_dir.display()
            );
        }
        let directory = state_dir.join("config");
        if !directory.is_dir() {
            DirBuilder::new()
                .mode(0o700)
                .create(&directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
        }
        let lock = directory.join("lock");
        let file = private()
            .open(&lock)
            .with_context(|| format!("cannot open {}", lock.display()))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| {
            let directory = directory.display();
            anyhow::anyhow!("another daemon keeps its configurations in {directory}: {error}")
        })?;
        let store = Self {
            directory,
            _lock: lock,
        };
        let generations = store.read()?;
        Ok((store, generations))
    }

    /// What cannot be read is left alone, and said.
    fn read(&self) -> anyhow::Result<Vec<Generation>> {
        let mut generations = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match read(&path) {
                Ok(generation) => generations.push(generation),
                Err(error) => {
                    let why = format!("{error:#}");
                    tracing::warn!(path = %path.display(), why, "not a configuration of ours");
                }
            }
        }
        generations.sort_by_key(|generation| generation.number);
        let surplus = generations.len().saturating_sub(GENERATIONS_MAX);
        Ok(generations.split_off(surplus))
    }

    /// On disk when it returns: written beside, then given its name.
    pub(super) fn write(&self, generation: &Generation) -> anyhow::Result<()> {
        let path = self.path(generation.number);
        let beside = path.with_extension("new");
        let text = serde_json::to_vec(generation)?;
        let write = || {
            let mut file = private().truncate(true).open(&beside)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            File::open(&self.directory)?.sync_all()
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    pub(super) fn remove(&self, number: u64) {
        let path = self.path(number);
        if let Err(error) = fs::remove_file(&path) {
            tracing::debug!(path = %path.display(), %error, "an old configuration stays");
        }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number:010}.json"))
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600);
    options
}

fn read(path: &Path) -> anyhow::Result<Generation> {
    if fs::metadata(path)?.len() > FILE_BYTES_MAX {
        bail!("larger than {FILE_BYTES_MAX} bytes");
    }
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::history::{Applied, By, History};
    use super::*;

    /// A directory of this test's own, removed on drop.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("towpath-{name}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    fn applied(text: &str) -> Applied {
        Applied {
            at: 7,
            by: By::Api {
                who: "uid 0".to_owned(),
            },
            file_hash: Some("f".to_owned()),
            name: "t".to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn generations_survive_and_are_bounded() {
        let scratch = Scratch::new("store");
        let mut history = History::open(&scratch.0);
        assert_eq!(history.in_memory(), None);
        // One writer at a time.
        assert!(History::open(&scratch.0).in_memory().is_some());
        for n in 1..=GENERATIONS_MAX + 2 {
            history.push(applied(&format!("text {n}")));
        }
        let before: Vec<Generation> = history.iter().cloned().collect();
        drop(history);

        let directory = scratch.0.join("config");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory), 0o700);
        assert_eq!(mode(&directory.join("0000000052.json")), 0o600);
        assert!(!directory.join("0000000002.json").exists());
        // What a daemon left that was killed while it wrote, and what is not ours.
        fs::write(directory.join("0000000053.new"), "{").unwrap();
        fs::write(directory.join("0000000054.json"), "{").unwrap();

        let mut history = History::open(&scratch.0);
        let after: Vec<Generation> = history.iter().cloned().collect();
        assert_eq!(after, before);
        assert_eq!(history.push(applied("next")), 53);
    }

    #[test]
    fn a_directory_that_is_not_there_is_not_made() {
        let scratch = Scratch::new("none");
        let history = History::open(&scratch.0.join("state"));
        let why = history.in_memory().unwrap();
        assert!(why.contains("there is no directory"), "{why}");
        assert!(!scratch.0.join("state").exists());
    }

    #[test]
    fn what_cannot_be_written_is_kept_in_memory() {
        let scratch = Scratch::new("full");
        let mut history = History::open(&scratch.0);
        fs::remove_dir_all(scratch.0.join("config")).unwrap();
        assert_eq!(history.push(applied("a")), 1);
        let why = history.in_memory().unwrap();
        assert!(why.contains("cannot write"), "{why}");
        assert_eq!(history.last().unwrap().text, "a");
    }
}
