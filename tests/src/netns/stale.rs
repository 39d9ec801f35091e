//! What labs of dead processes left behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{NAMES, Namespace};
use crate::scratch::Scratch;

/// What every name begins with; the process id and a counter follow.
const PREFIX: &str = "towpath";

/// A name no other lab has: labs run side by side, in one process and in several. The first call
/// of a process removes what dead ones left.
pub fn unique_name() -> String {
    static CLEANED: Once = Once::new();
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    CLEANED.call_once(remove_stale);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}-{}-{count}", std::process::id())
}

/// Removes namespaces and directories whose process is no more.
fn remove_stale() {
    for name in entries(Path::new(NAMES)).filter_map(|p| stale_name(&p)) {
        drop(Namespace::existing(&name));
    }
    for path in entries(&std::env::temp_dir()).filter(|p| stale_name(p).is_some()) {
        drop(Scratch::adopt(path));
    }
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.filter_map(|e| Some(e.ok()?.path()))
}

fn stale_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let pid = owner(name)?;
    (!Path::new("/proc").join(pid.to_string()).exists()).then(|| name.to_owned())
}

/// The process a name belongs to, if it is one of ours.
fn owner(name: &str) -> Option<u32> {
    let mut parts = name.split('-');
    (parts.next() == Some(PREFIX)).then_some(())?;
    let pid = parts.next()?.parse().ok()?;
    let _count: u32 = parts.next()?.parse().ok()?;
    Some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: Option<u32>) {
        assert_eq!(owner(name), expected, "{name}");
    }

    #[test]
    fn only_our_names_have_an_owner() {
        check("towpath-12-0", Some(12));
        check("towpath-12-0-edge", Some(12));
        check("towpath-12", None);
        check("towpath-edge-1", None);
        check("towpathd-12-0", None);
        check("other-12-0-edge", None);
        check("", None);
    }
}
