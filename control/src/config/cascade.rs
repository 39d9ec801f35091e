//! `[cascade]`: the servers that share conferences with this one.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::{Pem, Secret};

/// `[cascade]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cascade {
    /// Where lower servers reach us.
    pub listen: Vec<ServerListener>,
    /// What we show to others, of either side.
    pub certificate: Option<Pem>,
    pub key: Option<Pem>,
    /// Who issues the certificates of others; none: those the system trusts.
    pub ca: Option<Pem>,
    pub upper: Option<Upper>,
    /// What we show to the upper server.
    pub token: Option<Secret>,
    /// The whole of what a request to another server may take.
    pub deadline: Duration,
    pub lowers: Vec<Lower>,
}

/// Where servers connect to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ServerListener {
    pub tls: bool,
    pub local: SocketAddr,
}

impl fmt::Display for ServerListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "tls" } else { "tcp" };
        write!(f, "{scheme}:{}", self.local)
    }
}

/// The server above.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Upper {
    pub tls: bool,
    /// Name or address, and the port.
    pub authority: String,
}

impl fmt::Display for Upper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority)
    }
}

/// `[[cascade.lower]]`: a server that may connect, and what proves that it is the one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lower {
    pub id: String,
    /// SHA-256 of its token, lower-case hexadecimal.
    pub token: Option<Secret>,
    /// The name its certificate bears.
    pub tls_name: Option<String>,
}
