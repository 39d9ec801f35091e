//! `[trace]`: what is kept of calls for those who ask later what happened, and who is told at once.

use std::fmt;

use super::entry::{Entry, Value, count, plain, text};
use super::{Pem, Secret};

/// `[trace]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trace {
    /// SIP messages of calls are kept.
    pub ladder: bool,
    /// Calls whose messages are kept after their end.
    pub calls: usize,
    /// Who gets a copy of every SIP message (HEP version 3).
    pub hep: Option<Collector>,
    /// This node's number there.
    pub hep_id: u32,
    /// Its first line counts.
    pub hep_password: Option<Pem>,
    /// Copies leave with the secrets in them.
    pub hep_secrets: bool,
}

/// `udp:host:port`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Collector {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        match host.contains(':') {
            true => write!(f, "udp:[{host}]:{port}"),
            false => write!(f, "udp:{host}:{port}"),
        }
    }
}

impl Trace {
    pub(super) fn entries(&self) -> Vec<Entry> {
        let Self {
            ladder,
            calls,
            hep,
            hep_id,
            hep_password,
            hep_secrets,
        } = self;
        let password = hep_password.as_ref();
        let password = password.map(|pem| Value::Secret(Secret::Password(pem.text.clone())));
        vec![
            plain("trace.ladder", Value::Flag(*ladder)),
            plain("trace.calls", count(*calls)),
            plain("trace.hep", hep.as_ref().map_or(Value::Unset, text)),
            plain("trace.hep_id", Value::Number((*hep_id).into())),
            plain("trace.hep_password_file", password.unwrap_or(Value::Unset)),
            plain("trace.hep_secrets", Value::Flag(*hep_secrets)),
        ]
    }
}
