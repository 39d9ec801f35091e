//! `[mqtt]` as it is written.

use super::super::problem::{At, Problems, Span};
use super::table::Table;

/// Its keys, in the order of the handbook.
pub(super) const MQTT_KEYS: &[&str] = &[
    "mode",
    "url",
    "listen",
    "topics",
    "legacy_address_fields",
    "clients",
    "queue_messages",
    "queue_bytes",
    "filters",
    "retained_bytes",
    "session_expiry",
];

/// `[mqtt]`
#[derive(Debug, Default)]
pub(in crate::config) struct Mqtt {
    pub(in crate::config) mode: Option<At<String>>,
    pub(in crate::config) url: Option<At<String>>,
    pub(in crate::config) listen: Option<At<Vec<At<String>>>>,
    pub(in crate::config) topics: Option<At<Vec<At<String>>>>,
    pub(in crate::config) legacy_address_fields: Option<At<Vec<At<String>>>>,
    pub(in crate::config) clients: Option<At<i64>>,
    pub(in crate::config) queue_messages: Option<At<i64>>,
    pub(in crate::config) queue_bytes: Option<At<i64>>,
    pub(in crate::config) filters: Option<At<i64>>,
    pub(in crate::config) retained_bytes: Option<At<i64>>,
    pub(in crate::config) session_expiry: Option<At<String>>,
    pub(in crate::config) tls: MqttTls,
    pub(in crate::config) broker: MqttBroker,
}

/// Its keys.
pub(super) const BROKER_KEYS: &[&str] = &[
    "user",
    "password_file",
    "ca",
    "certificate",
    "key",
    "outbox_messages",
    "outbox_bytes",
];

/// `[mqtt.broker]`
#[derive(Debug, Default)]
pub(in crate::config) struct MqttBroker {
    pub(in crate::config) user: Option<At<String>>,
    pub(in crate::config) password_file: Option<At<String>>,
    pub(in crate::config) ca: Option<At<String>>,
    pub(in crate::config) certificate: Option<At<String>>,
    pub(in crate::config) key: Option<At<String>>,
    pub(in crate::config) outbox_messages: Option<At<i64>>,
    pub(in crate::config) outbox_bytes: Option<At<i64>>,
}

impl MqttBroker {
    fn read(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Self {
        Self {
            user: table.text("user", problems),
            password_file: table.text("password_file", problems),
            ca: table.text("ca", problems),
            certificate: table.text("certificate", problems),
            key: table.text("key", problems),
            outbox_messages: table.integer("outbox_messages", problems),
            outbox_bytes: table.integer("outbox_bytes", problems),
        }
    }
}

/// `[mqtt.tls]`
#[derive(Debug, Default)]
pub(in crate::config) struct MqttTls {
    /// The section's header; empty if there is none.
    pub(in crate::config) at: Span,
    pub(in crate::config) certificate: Option<At<String>>,
    pub(in crate::config) key: Option<At<String>>,
}

impl Mqtt {
    pub(super) fn read(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Self {
        Self {
            mode: table.text("mode", problems),
            url: table.text("url", problems),
            listen: table.texts("listen", problems),
            topics: table.texts("topics", problems),
            legacy_address_fields: table.texts("legacy_address_fields", problems),
            clients: table.integer("clients", problems),
            queue_messages: table.integer("queue_messages", problems),
            queue_bytes: table.integer("queue_bytes", problems),
            filters: table.integer("filters", problems),
            retained_bytes: table.integer("retained_bytes", problems),
            session_expiry: table.text("session_expiry", problems),
            tls: table.table("tls", problems, MqttTls::read),
            broker: table.table("broker", problems, MqttBroker::read),
        }
    }
}

impl MqttTls {
    fn read(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Self {
        Self {
            at: table.at.clone(),
            certificate: table.text("certificate", problems),
            key: table.text("key", problems),
        }
    }
}
