//! `[mqtt]`: the edge that MQTT clients connect to.

use super::Pem;
use super::broker::{Broker, Mode};
use crate::id::Listener;
use crate::mqtt::Limits;

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mqtt {
    pub mode: Mode,
    pub broker: Broker,
    /// TCP and TLS; empty: there is no edge.
    pub listen: Vec<Listener>,
    /// Filters outside `towpath/v1` that name what clients use among themselves.
    pub topics: Vec<String>,
    /// JSON pointers (RFC 6901) to members that hold a server's address.
    pub legacy_address_fields: Vec<String>,
    pub limits: Limits,
    /// None: that of SIP.
    pub tls: Option<Tls>,
}

/// `[mqtt.tls]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tls {
    pub certificate: Pem,
    pub key: Pem,
}
