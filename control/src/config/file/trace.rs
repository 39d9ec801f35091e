//! `[trace]` as it is written.

use super::super::problem::{At, Problems};
use super::table::Table;

/// Its keys, in the order of the handbook.
pub(super) const TRACE_KEYS: &[&str] = &[
    "ladder",
    "calls",
    "hep",
    "hep_id",
    "hep_password_file",
    "hep_secrets",
];

/// `[trace]`
#[derive(Debug, Default)]
pub(in crate::config) struct Trace {
    pub(in crate::config) ladder: Option<At<bool>>,
    pub(in crate::config) calls: Option<At<i64>>,
    pub(in crate::config) hep: Option<At<String>>,
    pub(in crate::config) hep_id: Option<At<i64>>,
    pub(in crate::config) hep_password_file: Option<At<String>>,
    pub(in crate::config) hep_secrets: Option<At<bool>>,
}

impl Trace {
    pub(super) fn read(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Self {
        Self {
            ladder: table.boolean("ladder", problems),
            calls: table.integer("calls", problems),
            hep: table.text("hep", problems),
            hep_id: table.integer("hep_id", problems),
            hep_password_file: table.text("hep_password_file", problems),
            hep_secrets: table.boolean("hep_secrets", problems),
        }
    }
}
