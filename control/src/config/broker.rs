//! `[mqtt]` `mode` and `url`, `[mqtt.broker]`: the broker behind us.

use super::Pem;

/// Who carries what is published beyond our own clients.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// Nobody: whoever wants to hear it connects to us.
    Embedded,
    /// A broker.
    External,
}

/// The broker behind us; used in mode `external`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Broker {
    /// In mode `external` there is one.
    pub url: Option<Url>,
    pub user: Option<String>,
    /// Its first line counts.
    pub password: Option<Pem>,
    /// Who issues the broker's certificate; none: those the system trusts.
    pub ca: Option<Pem>,
    /// Our certificate and its key.
    pub identity: Option<(Pem, Pem)>,
    /// What may wait for it.
    pub outbox_messages: usize,
    pub outbox_bytes: usize,
}

/// `mqtt://host:port`, `mqtts://host:port`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Url {
    pub tls: bool,
    pub host: String,
    pub port: u16,
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        let Self { host, port, .. } = self;
        if host.contains(':') {
            return write!(f, "{scheme}://[{host}]:{port}");
        }
        write!(f, "{scheme}://{host}:{port}")
    }
}
