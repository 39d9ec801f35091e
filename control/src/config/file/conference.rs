//! `[conference]` as it is written.

use super::table::Table;
use crate::config::problem::{At, Problems};

/// `[conference]`
#[derive(Debug, Default)]
pub(in crate::config) struct Conference {
    pub(in crate::config) uris: Option<At<Vec<At<String>>>>,
    pub(in crate::config) chairs: Option<At<Vec<At<String>>>>,
    pub(in crate::config) share: Option<At<Vec<At<String>>>>,
    pub(in crate::config) view_hook: Option<At<String>>,
    pub(in crate::config) floors: Vec<Floor>,
}

/// `[[conference.floor]]`
#[derive(Debug)]
pub(in crate::config) struct Floor {
    pub(in crate::config) id: Option<At<String>>,
    pub(in crate::config) policy: Option<At<String>>,
    pub(in crate::config) max_holders: Option<At<i64>>,
    pub(in crate::config) max_queue: Option<At<i64>>,
    pub(in crate::config) grant_ttl: Option<At<String>>,
    pub(in crate::config) request_ttl: Option<At<String>>,
    pub(in crate::config) priority: Option<At<i64>>,
    pub(in crate::config) preempt: Option<At<bool>>,
}

impl Conference {
    pub(super) fn read(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Self {
        Self {
            uris: table.texts("uris", problems),
            chairs: table.texts("chairs", problems),
            share: table.texts("share", problems),
            view_hook: table.text("view_hook", problems),
            floors: table.tables("floor", problems, Floor::read),
        }
    }
}

impl Floor {
    pub(super) fn read(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Self {
        Self {
            id: table.required("id", problems),
            policy: table.text("policy", problems),
            max_holders: table.integer("max_holders", problems),
            max_queue: table.integer("max_queue", problems),
            grant_ttl: table.text("grant_ttl", problems),
            request_ttl: table.text("request_ttl", problems),
            priority: table.integer("priority", problems),
            preempt: table.boolean("preempt", problems),
        }
    }
}
