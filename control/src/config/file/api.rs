//! The sections `[api]` and `[log]`.

use super::super::problem::{At, Problems, Span};
use super::table::Table;

/// `[api]`
#[derive(Debug, Default)]
pub(in crate::config) struct Api {
    pub(in crate::config) listen: Option<At<Vec<At<String>>>>,
    pub(in crate::config) plaintext: Option<At<bool>>,
    pub(in crate::config) metrics: Option<At<String>>,
    pub(in crate::config) rate: Option<At<i64>>,
    pub(in crate::config) tls: ApiTls,
}

/// `[api.tls]`
#[derive(Debug, Default)]
pub(in crate::config) struct ApiTls {
    /// The section's header; empty if there is none.
    pub(in crate::config) at: Span,
    pub(in crate::config) certificate: Option<At<String>>,
    pub(in crate::config) key: Option<At<String>>,
}

/// `[log]`
#[derive(Debug, Default)]
pub(in crate::config) struct Log {
    pub(in crate::config) format: Option<At<String>>,
    pub(in crate::config) level: Option<At<String>>,
}

impl Api {
    pub(super) fn read(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Self {
        Self {
            listen: table.texts("listen", problems),
            plaintext: table.boolean("plaintext", problems),
            metrics: table.text("metrics", problems),
            rate: table.integer("rate", problems),
            tls: table.table("tls", problems, ApiTls::read),
        }
    }
}

impl ApiTls {
    fn read(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Self {
        Self {
            at: table.at.clone(),
            certificate: table.text("certificate", problems),
            key: table.text("key", problems),
        }
    }
}

impl Log {
    pub(super) fn read(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Self {
        Self {
            format: table.text("format", problems),
            level: table.text("level", problems),
        }
    }
}
