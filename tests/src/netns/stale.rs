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

/// Removes namespaces, with the processes in them, and directories whose owner is no more.
pub fn remove_stale() {
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
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    (!stat.is_ok_and(|stat| is_alive(&stat))).then(|| name.to_owned())
}

/// Reads `/proc/PID/stat`: a zombie that nobody has waited for is as good as gone.
fn is_alive(stat: &str) -> bool {
    // The state follows the name, which is in parentheses and may contain some.
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !"ZX".contains(state))
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
    fn zombies_are_not_alive() {
        let check = |stat, expected| assert_eq!(is_alive(stat), expected, "{stat}");
        check("12 (demo) S 1 12", true);
        check("12 (a) Z (b) R 1 12", true);
        check("12 (demo) Z 1 12", false);
        check("", false);
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
