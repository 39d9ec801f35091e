//! Small files below `/proc` and `/sys`.

use std::fs;
use std::path::Path;

/// The first line, without its end.
pub(super) fn line(path: impl AsRef<Path>) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// The value of `Key:   value`.
pub(super) fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let found = |line: &'a str| line.strip_prefix(key)?.strip_prefix(':');
    text.lines().find_map(found).map(str::trim)
}

/// The nearest directory, upwards, that exists.
pub(super) fn there(path: &Path) -> &Path {
    let found = path.ancestors().find(|path| path.exists());
    found.unwrap_or(Path::new("/"))
}
