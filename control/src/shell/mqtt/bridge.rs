//! The only place that knows rumqttc's codecs: bytes become our packets and the other way round.
//! What a peer sends is bounded and looked at before they see it, and copied out of the buffer it
//! came in: a message that is kept keeps nothing else.

mod encode;
mod vet;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5;

use crate::bus::Qos;
use crate::mqtt::packet::{
    Connect, Incoming, Message, Properties, Publish, Reason, Replay, Version, Wanted, Will,
};
use crate::mqtt::{CONNECT_BYTES_MAX, PACKET_BYTES_MAX};

pub(super) use self::encode::{encode, refused};

/// The first packet.
#[derive(Debug)]
pub(super) struct First {
    pub(super) connect: Connect,
    /// User and password.
    pub(super) login: Option<(String, String)>,
}

/// Takes the first packet from the buffer. None: it is not all there yet.
///
/// # Errors
/// [`Reason::Version`] for a version we do not speak; anything else is no MQTT.
pub(super) fn first(buffer: &mut BytesMut) -> Result<Option<First>, Reason> {
    let Some(length) = vet::frame(buffer, CONNECT_BYTES_MAX)? else {
        return Ok(None);
    };
    let mut packet = buffer.split_to(length);
    match vet::connect(&packet)? {
        Version::V4 => match v4::Packet::read(&mut packet, CONNECT_BYTES_MAX) {
            Ok(v4::Packet::Connect(connect)) => Ok(Some(connect_v4(connect))),
            _ => Err(Reason::Malformed),
        },
        Version::V5 => {
            let most = u32::try_from(CONNECT_BYTES_MAX).ok();
            match v5::Packet::read(&mut packet, most) {
                Ok(v5::Packet::Connect(connect, will, login)) => {
                    connect_v5(connect, will, login).map(Some)
                }
                _ => Err(Reason::Malformed),
            }
        }
    }
}

/// Takes one packet from the buffer of a client that is let in. None: it is not all there yet.
///
/// # Errors
/// What the client is to be told before it is cut off.
pub(super) fn next(buffer: &mut BytesMut, version: Version) -> Result<Option<Incoming>, Reason> {
    let Some(length) = vet::frame(buffer, PACKET_BYTES_MAX)? else {
        return Ok(None);
    };
    let mut packet = buffer.split_to(length);
    vet::packet(&packet, version)?;
    match version {
        Version::V4 => next_v4(&mut packet),
        Version::V5 => next_v5(&mut packet),
    }
    .map(Some)
}

fn connect_v4(connect: v4::Connect) -> First {
    let keep_alive = u64::from(connect.keep_alive);
    let will = connect.last_will.map(|will| Will {
        message: Message {
            topic: will.topic,
            payload: copy(&will.message),
            qos: qos_v4(will.qos),
            retain: will.retain,
            properties: None,
            spans: Vec::new(),
        },
        delay: Duration::ZERO,
        expiry: None,
    });
    First {
        connect: Connect {
            version: Version::V4,
            id: connect.client_id,
            clean: connect.clean_session,
            keep_alive: (keep_alive > 0).then_some(Duration::from_secs(keep_alive)),
            session_expiry: match connect.clean_session {
                true => Duration::ZERO,
                false => Duration::MAX,
            },
            receive_max: u16::MAX,
            packet_max: usize::MAX,
            will,
        },
        login: connect.login.map(|login| (login.username, login.password)),
    }
}

fn connect_v5(
    connect: v5::Connect,
    will: Option<v5::LastWill>,
    login: Option<v5::Login>,
) -> Result<First, Reason> {
    let properties = connect.properties.unwrap_or_default();
    if properties.authentication_method.is_some() {
        return Err(Reason::AuthMethod);
    }
    // §3.1.2.11.3 and .4: neither may be zero.
    if properties.receive_maximum == Some(0) || properties.max_packet_size == Some(0) {
        return Err(Reason::Protocol);
    }
    let keep_alive = u64::from(connect.keep_alive);
    let packet_max = properties.max_packet_size.unwrap_or(u32::MAX);
    let connect = Connect {
        version: Version::V5,
        id: connect.client_id,
        clean: connect.clean_start,
        keep_alive: (keep_alive > 0).then_some(Duration::from_secs(keep_alive)),
        session_expiry: expiry(properties.session_expiry_interval),
        receive_max: properties.receive_maximum.unwrap_or(u16::MAX),
        packet_max: usize::try_from(packet_max).unwrap_or(usize::MAX),
        will: will.map(will_v5).transpose()?,
    };
    let login = login.map(|login| (login.username, login.password));
    Ok(First { connect, login })
}

fn will_v5(will: v5::LastWill) -> Result<Will, Reason> {
    let properties = will.properties;
    let delay = properties.as_ref().and_then(|p| p.delay_interval);
    let life = properties.as_ref().and_then(|p| p.message_expiry_interval);
    let properties = properties.map(|p| Properties {
        utf8: p.payload_format_indicator.map(|utf8| utf8 == 1),
        content_type: p.content_type,
        response_topic: p.response_topic,
        correlation: p.correlation_data.as_ref().map(copy),
        user: p.user_properties,
    });
    Ok(Will {
        message: Message {
            topic: text(&will.topic)?,
            payload: copy(&will.message),
            qos: qos_v5(will.qos),
            retain: will.retain,
            properties: kept(properties),
            spans: Vec::new(),
        },
        delay: seconds(delay.unwrap_or(0)),
        expiry: life.map(seconds),
    })
}

/// The largest number of seconds means for ever (§3.1.2.11.2).
fn expiry(written: Option<u32>) -> Duration {
    match written {
        None => Duration::ZERO,
        Some(u32::MAX) => Duration::MAX,
        Some(s) => seconds(s),
    }
}

fn next_v4(packet: &mut BytesMut) -> Result<Incoming, Reason> {
    match v4::Packet::read(packet, PACKET_BYTES_MAX) {
        Ok(v4::Packet::Publish(publish)) => Ok(Incoming::Publish(Publish {
            pkid: (publish.pkid != 0).then_some(publish.pkid),
            exactly: publish.qos == rumqttc::QoS::ExactlyOnce,
            alias: None,
            expiry: None,
            message: Message {
                topic: publish.topic,
                payload: copy(&publish.payload),
                qos: qos_v4(publish.qos),
                retain: publish.retain,
                properties: None,
                spans: Vec::new(),
            },
        })),
        Ok(v4::Packet::PubAck(ack)) => Ok(Incoming::PubAck { pkid: ack.pkid }),
        Ok(v4::Packet::PubRel(release)) => Ok(Incoming::PubRel { pkid: release.pkid }),
        Ok(v4::Packet::Subscribe(subscribe)) => Ok(Incoming::Subscribe {
            pkid: subscribe.pkid,
            id: None,
            filters: subscribe
                .filters
                .into_iter()
                .map(|wanted| Wanted {
                    filter: wanted.path,
                    qos: qos_v4(wanted.qos),
                    no_local: false,
                    as_published: false,
                    replay: Replay::Always,
                })
                .collect(),
        }),
        Ok(v4::Packet::Unsubscribe(unsubscribe)) => Ok(Incoming::Unsubscribe {
            pkid: unsubscribe.pkid,
            filters: unsubscribe.topics,
        }),
        Ok(v4::Packet::PingReq) => Ok(Incoming::Ping),
        Ok(v4::Packet::Disconnect) => Ok(Incoming::Disconnect {
            quiet: true,
            session_expiry: None,
        }),
        // Not from a client, or not from one we sent nothing of QoS 2.
        Ok(
            v4::Packet::Connect(_)
            | v4::Packet::ConnAck(_)
            | v4::Packet::PubRec(_)
            | v4::Packet::PubComp(_)
            | v4::Packet::SubAck(_)
            | v4::Packet::UnsubAck(_)
            | v4::Packet::PingResp,
        ) => Err(Reason::Protocol),
        Err(_) => Err(Reason::Malformed),
    }
}

fn next_v5(packet: &mut BytesMut) -> Result<Incoming, Reason> {
    if let Some(reason) = vet::short_disconnect(packet) {
        return Ok(Incoming::Disconnect {
            quiet: reason == 0,
            session_expiry: None,
        });
    }
    let most = u32::try_from(PACKET_BYTES_MAX).ok();
    match v5::Packet::read(packet, most) {
        Ok(v5::Packet::Publish(publish)) => publish_v5(publish).map(Incoming::Publish),
        Ok(v5::Packet::PubAck(ack)) => Ok(Incoming::PubAck { pkid: ack.pkid }),
        Ok(v5::Packet::PubRel(release)) => Ok(Incoming::PubRel { pkid: release.pkid }),
        Ok(v5::Packet::Subscribe(subscribe)) => subscribe_v5(subscribe),
        Ok(v5::Packet::Unsubscribe(unsubscribe)) => Ok(Incoming::Unsubscribe {
            pkid: unsubscribe.pkid,
            filters: unsubscribe.filters,
        }),
        Ok(v5::Packet::PingReq(_)) => Ok(Incoming::Ping),
        Ok(v5::Packet::Disconnect(disconnect)) => {
            let normal = v5::DisconnectReasonCode::NormalDisconnection;
            let properties = disconnect.properties;
            let written = properties.and_then(|p| p.session_expiry_interval);
            Ok(Incoming::Disconnect {
                quiet: disconnect.reason_code == normal,
                session_expiry: written.map(|s| expiry(Some(s))),
            })
        }
        Ok(
            v5::Packet::Auth(_)
            | v5::Packet::Connect(..)
            | v5::Packet::ConnAck(_)
            | v5::Packet::PubRec(_)
            | v5::Packet::PubComp(_)
            | v5::Packet::SubAck(_)
            | v5::Packet::UnsubAck(_)
            | v5::Packet::PingResp(_),
        ) => Err(Reason::Protocol),
        Err(_) => Err(Reason::Malformed),
    }
}

fn publish_v5(publish: v5::Publish) -> Result<Publish, Reason> {
    let exactly = publish.qos == rumqttc::v5::mqttbytes::QoS::ExactlyOnce;
    let properties = publish.properties;
    let alias = properties.as_ref().and_then(|p| p.topic_alias);
    let life = properties.as_ref().and_then(|p| p.message_expiry_interval);
    if let Some(p) = &properties {
        let wild = |topic: &String| crate::mqtt::filter::has_wildcard(topic);
        // §3.3.4, §3.3.2.3.5: neither is a client's to send.
        if !p.subscription_identifiers.is_empty() || p.response_topic.as_ref().is_some_and(wild) {
            return Err(Reason::Protocol);
        }
        if p.payload_format_indicator.is_some_and(|form| form > 1) {
            return Err(Reason::Protocol);
        }
    }
    let properties = properties.map(|p| Properties {
        utf8: p.payload_format_indicator.map(|utf8| utf8 == 1),
        content_type: p.content_type,
        response_topic: p.response_topic,
        correlation: p.correlation_data.as_ref().map(copy),
        user: p.user_properties,
    });
    Ok(Publish {
        pkid: (publish.pkid != 0).then_some(publish.pkid),
        exactly,
        alias,
        expiry: life.map(seconds),
        message: Message {
            topic: text(&publish.topic)?,
            payload: copy(&publish.payload),
            qos: qos_v5(publish.qos),
            retain: publish.retain,
            properties: kept(properties),
            spans: Vec::new(),
        },
    })
}

fn subscribe_v5(subscribe: v5::Subscribe) -> Result<Incoming, Reason> {
    let id = subscribe.properties.and_then(|p| p.id);
    // §3.8.2.1.2
    if id == Some(0) {
        return Err(Reason::Protocol);
    }
    let wanted = |wanted: v5::Filter| Wanted {
        filter: wanted.path,
        qos: qos_v5(wanted.qos),
        no_local: wanted.nolocal,
        as_published: wanted.preserve_retain,
        replay: match wanted.retain_forward_rule {
            v5::RetainForwardRule::OnEverySubscribe => Replay::Always,
            v5::RetainForwardRule::OnNewSubscribe => Replay::New,
            v5::RetainForwardRule::Never => Replay::Never,
        },
    };
    Ok(Incoming::Subscribe {
        pkid: subscribe.pkid,
        id: id.and_then(|id| u32::try_from(id).ok()),
        filters: subscribe.filters.into_iter().map(wanted).collect(),
    })
}

/// What says nothing takes no room.
fn kept(properties: Option<Properties>) -> Option<Box<Properties>> {
    let properties = properties?;
    (properties != Properties::default()).then(|| Box::new(properties))
}

fn copy(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn text(bytes: &Bytes) -> Result<String, Reason> {
    let text = std::str::from_utf8(bytes);
    text.map(str::to_owned).map_err(|_| Reason::Malformed)
}

fn seconds(s: u32) -> Duration {
    Duration::from_secs(s.into())
}

/// Level 2 is granted as 1.
fn qos_v4(qos: rumqttc::QoS) -> Qos {
    match qos {
        rumqttc::QoS::AtMostOnce => Qos::AtMostOnce,
        rumqttc::QoS::AtLeastOnce | rumqttc::QoS::ExactlyOnce => Qos::AtLeastOnce,
    }
}

fn qos_v5(qos: rumqttc::v5::mqttbytes::QoS) -> Qos {
    use rumqttc::v5::mqttbytes::QoS;
    match qos {
        QoS::AtMostOnce => Qos::AtMostOnce,
        QoS::AtLeastOnce | QoS::ExactlyOnce => Qos::AtLeastOnce,
    }
}

#[cfg(test)]
mod tests;
