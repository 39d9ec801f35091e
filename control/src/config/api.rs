//! `[api]` and `[log]`: who may ask the daemon from where, and what it writes down.

use std::net::SocketAddr;

use super::Pem;
use super::check::choice::{LOG_FORMAT, METRICS_FOR};
use super::entry::{Entry, Value, file, plain, text, texts, word};

/// `[api]`: the HTTP API beside the Unix socket.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Api {
    pub listen: Vec<SocketAddr>,
    /// An address others can reach may be listened at without TLS.
    pub plaintext: bool,
    pub metrics: MetricsFor,
    /// Requests a second of one principal; zero is no limit.
    pub rate: u32,
    pub tls: Option<ApiTls>,
}

/// `[api.tls]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApiTls {
    pub certificate: Pem,
    pub key: Pem,
}

/// Who may read `/metrics` over TCP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MetricsFor {
    /// Who has a token.
    Viewers,
    Anyone,
}

/// `[log]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Log {
    pub format: LogFormat,
    /// Levels, of everything and by part: `info,kernel=warn`.
    pub level: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// The journal where standard error goes to it, else text.
    Auto,
    Text,
    Json,
    Journal,
}

/// What is logged unless something else is said. The kernel program speaks about every flow,
/// which is for the curious.
pub const LOG_LEVEL: &str = "info,kernel=warn";

impl Api {
    pub(super) fn entries(&self) -> Vec<Entry> {
        let Self {
            listen,
            plaintext,
            metrics,
            rate,
            tls,
        } = self;
        let tls = tls.as_ref();
        let pem = |pem: Option<&Pem>| pem.map_or(Value::Unset, file);
        vec![
            plain("api.listen", texts(listen)),
            plain("api.plaintext", Value::Flag(*plaintext)),
            plain("api.metrics", word(&METRICS_FOR, *metrics)),
            plain("api.rate", Value::Number((*rate).into())),
            plain("api.tls.certificate", pem(tls.map(|tls| &tls.certificate))),
            plain("api.tls.key", pem(tls.map(|tls| &tls.key))),
        ]
    }
}

impl Log {
    pub(super) fn entries(&self) -> Vec<Entry> {
        let Self { format, level } = self;
        vec![
            plain("log.format", word(&LOG_FORMAT, *format)),
            plain("log.level", text(level)),
        ]
    }
}
