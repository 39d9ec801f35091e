//! What crosses a connection, in either version of MQTT: 3.1.1 and 5.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::bus::Qos;

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Version {
    V4,
    V5,
}

impl Version {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::V4 => "3.1.1",
            Self::V5 => "5",
        }
    }
}

/// What a client asks for when it connects (MQTT 5 §3.1).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Connect {
    pub version: Version,
    /// Empty: it wants one from us.
    pub id: String,
    /// Forget what was.
    pub clean: bool,
    /// None: it is never taken for dead.
    pub keep_alive: Option<Duration>,
    /// MQTT 3.1.1 clients want theirs for ever if they are not clean.
    pub session_expiry: Duration,
    /// Publications it takes before it acknowledges one.
    pub receive_max: u16,
    /// The largest packet it takes.
    pub packet_max: usize,
    pub will: Option<Will>,
}

/// Published for a client that went without a word (§3.1.2.5).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Will {
    pub message: Message,
    pub delay: Duration,
    pub expiry: Option<Duration>,
}

/// A message on its way.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message {
    pub topic: String,
    pub payload: Bytes,
    pub qos: Qos,
    pub retain: bool,
    pub properties: Option<Box<Properties>>,
    /// Where our id stands for an address that each receiver is to read its own of.
    pub spans: Vec<Range<usize>>,
}

impl Message {
    /// What it costs to keep.
    #[must_use]
    pub fn size(&self) -> usize {
        let properties = self.properties.as_deref().map_or(0, Properties::size);
        self.topic.len() + self.payload.len() + properties + MESSAGE_BYTES
    }
}

/// A message without its content.
const MESSAGE_BYTES: usize = 128;

/// What MQTT 5 lets a sender say beside the payload (§3.3.2.3); passed on unchanged.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Properties {
    pub utf8: Option<bool>,
    pub content_type: Option<String>,
    pub response_topic: Option<String>,
    pub correlation: Option<Bytes>,
    pub user: Vec<(String, String)>,
}

impl Properties {
    fn size(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let user = self
            .user
            .iter()
            .map(|(key, value)| key.len() + value.len() + 64);
        text(&self.content_type)
            + text(&self.response_topic)
            + self.correlation.as_ref().map_or(0, Bytes::len)
            + user.sum::<usize>()
            + MESSAGE_BYTES
    }
}

/// From a client that is let in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Incoming {
    Publish(Publish),
    /// It has a publication of QoS 1.
    PubAck {
        pkid: u16,
    },
    /// The second half of a publication of QoS 2.
    PubRel {
        pkid: u16,
    },
    Subscribe {
        pkid: u16,
        /// The identifier of all its filters.
        id: Option<u32>,
        filters: Vec<Wanted>,
    },
    Unsubscribe {
        pkid: u16,
        filters: Vec<String>,
    },
    Ping,
    Disconnect {
        /// Its will is not published.
        quiet: bool,
        session_expiry: Option<Duration>,
    },
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Publish {
    pub message: Message,
    /// None: QoS 0.
    pub pkid: Option<u16>,
    /// Exactly once: §4.3.3, towards us alone.
    pub exactly: bool,
    pub alias: Option<u16>,
    pub expiry: Option<Duration>,
}

/// One filter of a SUBSCRIBE (§3.8.3.1).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wanted {
    pub filter: String,
    pub qos: Qos,
    pub no_local: bool,
    pub as_published: bool,
    pub replay: Replay,
}

/// When retained messages are sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Replay {
    Always,
    /// If the subscription is new.
    New,
    Never,
}

/// To a client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outgoing {
    ConnAck(ConnAck),
    Publish(Delivery),
    PubAck {
        pkid: u16,
        reason: Reason,
    },
    PubRec {
        pkid: u16,
        reason: Reason,
    },
    PubComp {
        pkid: u16,
        reason: Reason,
    },
    SubAck {
        pkid: u16,
        codes: Vec<Result<Qos, Reason>>,
    },
    UnsubAck {
        pkid: u16,
        codes: Vec<Reason>,
    },
    Pong,
    /// Said to MQTT 5 clients alone.
    Disconnect(Reason),
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConnAck {
    pub present: bool,
    pub reason: Reason,
    /// The identifier we chose.
    pub assigned: Option<String>,
    /// What it gets, if it asked for more.
    pub session_expiry: Option<Duration>,
}

/// A message for one client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Delivery {
    pub message: Arc<Message>,
    /// As this receiver is to see it; none: as it is.
    pub payload: Option<Bytes>,
    /// None: QoS 0.
    pub pkid: Option<u16>,
    pub again: bool,
    pub retain: bool,
    /// Of its subscriptions.
    pub ids: Vec<u32>,
    /// What is left of its life.
    pub expiry: Option<Duration>,
}

impl Delivery {
    /// Bytes on the wire, at least.
    #[must_use]
    pub fn size(&self) -> usize {
        let payload = self.payload.as_ref().unwrap_or(&self.message.payload);
        let message = &self.message;
        let properties = message.properties.as_deref().map_or(0, Properties::size);
        payload.len() + message.topic.len() + properties + self.ids.len() * 5 + 16
    }
}

/// Reason codes (§2.4), as many as we use.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Reason {
    Success,
    NoMatch,
    NoSubscription,
    PacketIdNotFound,
    Unspecified,
    Malformed,
    Protocol,
    Implementation,
    Version,
    ClientId,
    AuthMethod,
    NotAuthorized,
    Busy,
    ShuttingDown,
    KeepAlive,
    TakenOver,
    FilterInvalid,
    TopicInvalid,
    ReceiveMaximum,
    AliasInvalid,
    TooLarge,
    Quota,
    SharedSubscription,
}

impl Reason {
    /// For logs and metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::NoMatch => "no_match",
            Self::NoSubscription => "no_subscription",
            Self::PacketIdNotFound => "packet_id_not_found",
            Self::Unspecified => "unspecified",
            Self::Malformed => "malformed",
            Self::Protocol => "protocol_error",
            Self::Implementation => "not_accepted",
            Self::Version => "version",
            Self::ClientId => "client_id",
            Self::AuthMethod => "authentication_method",
            Self::NotAuthorized => "not_authorized",
            Self::Busy => "busy",
            Self::ShuttingDown => "shutting_down",
            Self::KeepAlive => "keep_alive",
            Self::TakenOver => "taken_over",
            Self::FilterInvalid => "filter_invalid",
            Self::TopicInvalid => "topic_invalid",
            Self::ReceiveMaximum => "receive_maximum",
            Self::AliasInvalid => "alias_invalid",
            Self::TooLarge => "packet_too_large",
            Self::Quota => "quota",
            Self::SharedSubscription => "shared_subscription",
        }
    }
}
