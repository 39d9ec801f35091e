//! `[trace]` as it is written.

use super::super::problem::{At, Problems};
use super::table::Table;

/// `[trace]`
#[derive(Debug, Default)]
pub(in crate::config) struct Trace {
    pub(in crate::config) ladder: Option<At<bool>>,
    pub(in crate::config) calls: Option<At<i64>>,
}

impl Trace {
    pub(super) fn read(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Self {
        Self {
            ladder: table.boolean("ladder", problems),
            calls: table.integer("calls", problems),
        }
    }
}
