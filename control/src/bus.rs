//! The bus of the conference plane: what is published, under which topic, and by whom. Whether it
//! travels through our own edge, through a broker behind it or between servers is not said here.

pub mod moment;
pub mod topic;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

/// One message, as every receiver may see it before addresses in it are written for that receiver.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Publication {
    pub topic: String,
    pub payload: Bytes,
    pub qos: Qos,
    /// Replaces what is retained under the topic; an empty payload forgets it (MQTT 5 §3.3.1.3).
    pub retain: bool,
    /// Worth nothing after this time; none: for ever.
    pub expiry: Option<Duration>,
}

/// MQTT 5 §4.3; level 2 is granted as 1.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Qos {
    AtMostOnce,
    AtLeastOnce,
}

/// Who is at the other end of a connection, proved.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Principal {
    /// The user part of an account's address-of-record.
    Account(String),
    /// Another server, by its id.
    Server(String),
    /// A tool of the operator's, by its name.
    Operator(String),
    /// The same, of one that only looks on.
    Viewer(String),
    /// Nobody asked who (`auth = "none"`); the client's own word.
    Anonymous(String),
}

/// One connection of a client to the edge.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Client {
    pub principal: Principal,
    /// MQTT's client identifier.
    pub id: String,
    /// The address of ours that it reached us at.
    pub local: SocketAddr,
    pub remote: SocketAddr,
}

/// What identities may do, asked for every subscription, publication and delivery.
pub trait Access {
    /// Whether the client may publish under a topic.
    fn may_publish(&self, client: &Client, topic: &str) -> bool;
    /// Whether it may see what is published under a topic.
    fn may_read(&self, client: &Client, topic: &str) -> bool;
}
