//! How long the store's disk takes to keep a write. The file it is measured with has no name, and
//! is gone when it is closed.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use super::files::there;
use crate::config::Config;
use crate::doctor::facts::Trips;
use crate::shell::clock;

/// As large as a small commit.
const BYTES: usize = 4096;
const WRITES: usize = 5;
/// A message that has waited so long for the disk is sent without: docs/operations.md.
const LIMIT: Duration = Duration::from_secs(1);

pub(super) fn read(config: &Config) -> Trips {
    let path = &config.store.path;
    let directory = there(path.parent().unwrap_or(path));
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .mode(0o600)
            .custom_flags(libc::O_TMPFILE)
            .open(directory)?;
        let mut took = Vec::new();
        for _ in 0..WRITES {
            let began = clock::now();
            file.write_all(&[0; BYTES])?;
            file.sync_data()?;
            took.push(began.elapsed());
        }
        Ok(took)
    };
    let to = directory.display().to_string();
    let told = |error: std::io::Error| format!("{to}: {error}");
    Trips {
        took: write().map_err(told),
        limit: LIMIT,
        to,
    }
}
