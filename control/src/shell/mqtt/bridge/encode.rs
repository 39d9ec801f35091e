//! Our packets as bytes.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a packet has words for few of the reasons; the rest is unspecified"
)]

use std::time::Duration;

use bytes::BytesMut;
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5;

use crate::bus::Qos;
use crate::mqtt::packet::{ConnAck, Delivery, Outgoing, Reason, Version};
use crate::mqtt::{PACKET_BYTES_MAX, RECEIVE_MAX, TOPIC_ALIAS_MAX};

/// What somebody is told whose first packet was not taken, if anything.
pub(in crate::shell::mqtt) fn refused(reason: Reason) -> BytesMut {
    let mut bytes = BytesMut::new();
    match reason {
        // In the oldest form there is (MQTT 3.1.1 §3.1.2.2).
        Reason::Version => bytes.extend_from_slice(&[0x20, 2, 0, 1]),
        Reason::AuthMethod => {
            let refusal = ConnAck {
                present: false,
                reason,
                assigned: None,
                session_expiry: None,
            };
            encode(&Outgoing::ConnAck(refusal), Version::V5, &mut bytes);
        }
        _ => {}
    }
    bytes
}

pub(in crate::shell::mqtt) fn encode(packet: &Outgoing, version: Version, into: &mut BytesMut) {
    let before = into.len();
    let written = match version {
        Version::V4 => match in_v4(packet) {
            Some(packet) => packet.write(into, usize::MAX).is_ok(),
            None => true,
        },
        Version::V5 => match in_v5(packet) {
            Ok(packet) => packet.write(into, None).is_ok(),
            // The codec says one byte and writes two.
            Err(reason) => {
                into.extend_from_slice(&[0xe0, 1, disconnect_v5(reason) as u8]);
                true
            }
        },
    };
    if !written {
        // Nothing we make is too large for the codecs; half a packet must not leave.
        into.truncate(before);
    }
}

fn in_v4(packet: &Outgoing) -> Option<v4::Packet> {
    Some(match packet {
        Outgoing::ConnAck(ack) => v4::Packet::ConnAck(v4::ConnAck {
            session_present: ack.present,
            code: match ack.reason {
                Reason::Success => v4::ConnectReturnCode::Success,
                Reason::Version => v4::ConnectReturnCode::RefusedProtocolVersion,
                Reason::ClientId => v4::ConnectReturnCode::BadClientId,
                Reason::NotAuthorized => v4::ConnectReturnCode::NotAuthorized,
                _ => v4::ConnectReturnCode::ServiceUnavailable,
            },
        }),
        Outgoing::Publish(delivery) => v4::Packet::Publish(v4::Publish {
            dup: delivery.again,
            qos: match delivery.pkid {
                None => rumqttc::QoS::AtMostOnce,
                Some(_) => rumqttc::QoS::AtLeastOnce,
            },
            retain: delivery.retain,
            topic: delivery.message.topic.clone(),
            pkid: delivery.pkid.unwrap_or(0),
            payload: payload(delivery),
        }),
        Outgoing::PubAck { pkid, .. } => v4::Packet::PubAck(v4::PubAck::new(*pkid)),
        Outgoing::PubRec { pkid, .. } => v4::Packet::PubRec(v4::PubRec::new(*pkid)),
        Outgoing::PubComp { pkid, .. } => v4::Packet::PubComp(v4::PubComp::new(*pkid)),
        Outgoing::SubAck { pkid, codes } => {
            let code = |code: &Result<Qos, Reason>| match code {
                Ok(Qos::AtMostOnce) => v4::SubscribeReasonCode::Success(rumqttc::QoS::AtMostOnce),
                Ok(Qos::AtLeastOnce) => v4::SubscribeReasonCode::Success(rumqttc::QoS::AtLeastOnce),
                Err(_) => v4::SubscribeReasonCode::Failure,
            };
            v4::Packet::SubAck(v4::SubAck::new(*pkid, codes.iter().map(code).collect()))
        }
        Outgoing::UnsubAck { pkid, .. } => v4::Packet::UnsubAck(v4::UnsubAck::new(*pkid)),
        Outgoing::Pong => v4::Packet::PingResp,
        // MQTT 3.1.1 has no word for it: the connection ends.
        Outgoing::Disconnect(_) => return None,
    })
}

/// A DISCONNECT is left to the caller.
fn in_v5(packet: &Outgoing) -> Result<v5::Packet, Reason> {
    Ok(match packet {
        Outgoing::ConnAck(ack) => v5::Packet::ConnAck(connack_v5(ack)),
        Outgoing::Publish(delivery) => v5::Packet::Publish(publish_v5(delivery)),
        Outgoing::PubAck { pkid, reason } => v5::Packet::PubAck(v5::PubAck {
            pkid: *pkid,
            reason: match reason {
                Reason::Success => v5::PubAckReason::Success,
                Reason::NoMatch => v5::PubAckReason::NoMatchingSubscribers,
                Reason::NotAuthorized => v5::PubAckReason::NotAuthorized,
                Reason::Quota => v5::PubAckReason::QuotaExceeded,
                _ => v5::PubAckReason::ImplementationSpecificError,
            },
            properties: None,
        }),
        Outgoing::PubRec { pkid, reason } => v5::Packet::PubRec(v5::PubRec {
            pkid: *pkid,
            reason: match reason {
                Reason::Success => v5::PubRecReason::Success,
                Reason::NoMatch => v5::PubRecReason::NoMatchingSubscribers,
                Reason::NotAuthorized => v5::PubRecReason::NotAuthorized,
                Reason::Quota => v5::PubRecReason::QuotaExceeded,
                _ => v5::PubRecReason::ImplementationSpecificError,
            },
            properties: None,
        }),
        Outgoing::PubComp { pkid, reason } => v5::Packet::PubComp(v5::PubComp {
            pkid: *pkid,
            reason: match reason {
                Reason::Success => v5::PubCompReason::Success,
                _ => v5::PubCompReason::PacketIdentifierNotFound,
            },
            properties: None,
        }),
        Outgoing::SubAck { pkid, codes } => v5::Packet::SubAck(v5::SubAck {
            pkid: *pkid,
            return_codes: codes.iter().map(suback_v5).collect(),
            properties: None,
        }),
        Outgoing::UnsubAck { pkid, codes } => v5::Packet::UnsubAck(v5::UnsubAck {
            pkid: *pkid,
            reasons: codes.iter().map(|code| unsuback_v5(*code)).collect(),
            properties: None,
        }),
        Outgoing::Pong => v5::Packet::PingResp(v5::PingResp),
        Outgoing::Disconnect(reason) => return Err(*reason),
    })
}

fn connack_v5(ack: &ConnAck) -> v5::ConnAck {
    let there = ack.reason == Reason::Success;
    let most = u32::try_from(PACKET_BYTES_MAX).unwrap_or(u32::MAX);
    v5::ConnAck {
        session_present: ack.present,
        code: match ack.reason {
            Reason::Success => v5::ConnectReturnCode::Success,
            Reason::Malformed => v5::ConnectReturnCode::MalformedPacket,
            Reason::Protocol => v5::ConnectReturnCode::ProtocolError,
            Reason::Version => v5::ConnectReturnCode::UnsupportedProtocolVersion,
            Reason::ClientId => v5::ConnectReturnCode::ClientIdentifierNotValid,
            Reason::AuthMethod => v5::ConnectReturnCode::BadAuthenticationMethod,
            Reason::NotAuthorized => v5::ConnectReturnCode::NotAuthorized,
            Reason::Busy => v5::ConnectReturnCode::ServerBusy,
            Reason::TooLarge => v5::ConnectReturnCode::PacketTooLarge,
            Reason::TopicInvalid => v5::ConnectReturnCode::TopicNameInvalid,
            _ => v5::ConnectReturnCode::UnspecifiedError,
        },
        properties: there.then(|| v5::ConnAckProperties {
            session_expiry_interval: ack.session_expiry.map(whole_seconds),
            receive_max: Some(RECEIVE_MAX),
            max_qos: None,
            retain_available: None,
            max_packet_size: Some(most),
            assigned_client_identifier: ack.assigned.clone(),
            topic_alias_max: Some(TOPIC_ALIAS_MAX),
            reason_string: None,
            user_properties: Vec::new(),
            wildcard_subscription_available: None,
            subscription_identifiers_available: None,
            shared_subscription_available: Some(0),
            server_keep_alive: None,
            response_information: None,
            server_reference: None,
            authentication_method: None,
            authentication_data: None,
        }),
    }
}

fn publish_v5(delivery: &Delivery) -> v5::Publish {
    let message = &delivery.message;
    let said = message.properties.as_deref().cloned().unwrap_or_default();
    let properties = v5::PublishProperties {
        payload_format_indicator: said.utf8.map(u8::from),
        message_expiry_interval: delivery.expiry.map(whole_seconds),
        topic_alias: None,
        response_topic: said.response_topic,
        correlation_data: said.correlation,
        user_properties: said.user,
        subscription_identifiers: delivery
            .ids
            .iter()
            .filter_map(|id| usize::try_from(*id).ok())
            .collect(),
        content_type: said.content_type,
    };
    let silent = properties == v5::PublishProperties::default();
    let qos = match delivery.pkid {
        None => rumqttc::v5::mqttbytes::QoS::AtMostOnce,
        Some(_) => rumqttc::v5::mqttbytes::QoS::AtLeastOnce,
    };
    let mut publish = v5::Publish::new(
        message.topic.as_str(),
        qos,
        payload(delivery),
        (!silent).then_some(properties),
    );
    publish.dup = delivery.again;
    publish.retain = delivery.retain;
    publish.pkid = delivery.pkid.unwrap_or(0);
    publish
}

fn payload(delivery: &Delivery) -> bytes::Bytes {
    let payload = delivery.payload.as_ref();
    payload.unwrap_or(&delivery.message.payload).clone()
}

/// A message that lives is never said to be over.
fn whole_seconds(time: Duration) -> u32 {
    let up = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    u32::try_from(up).unwrap_or(u32::MAX)
}

fn suback_v5(code: &Result<Qos, Reason>) -> v5::SubscribeReasonCode {
    use rumqttc::v5::mqttbytes::QoS;
    match code {
        Ok(Qos::AtMostOnce) => v5::SubscribeReasonCode::Success(QoS::AtMostOnce),
        Ok(Qos::AtLeastOnce) => v5::SubscribeReasonCode::Success(QoS::AtLeastOnce),
        Err(Reason::NotAuthorized) => v5::SubscribeReasonCode::NotAuthorized,
        Err(Reason::FilterInvalid) => v5::SubscribeReasonCode::TopicFilterInvalid,
        Err(Reason::Quota) => v5::SubscribeReasonCode::QuotaExceeded,
        Err(Reason::SharedSubscription) => v5::SubscribeReasonCode::SharedSubscriptionsNotSupported,
        Err(_) => v5::SubscribeReasonCode::Unspecified,
    }
}

fn unsuback_v5(code: Reason) -> v5::UnsubAckReason {
    match code {
        Reason::Success => v5::UnsubAckReason::Success,
        Reason::NoSubscription => v5::UnsubAckReason::NoSubscriptionExisted,
        Reason::FilterInvalid => v5::UnsubAckReason::TopicFilterInvalid,
        _ => v5::UnsubAckReason::UnspecifiedError,
    }
}

fn disconnect_v5(reason: Reason) -> v5::DisconnectReasonCode {
    use v5::DisconnectReasonCode as Code;
    match reason {
        Reason::Success => Code::NormalDisconnection,
        Reason::Malformed => Code::MalformedPacket,
        Reason::Protocol => Code::ProtocolError,
        Reason::NotAuthorized => Code::NotAuthorized,
        Reason::Busy => Code::ServerBusy,
        Reason::ShuttingDown => Code::ServerShuttingDown,
        Reason::KeepAlive => Code::KeepAliveTimeout,
        Reason::TakenOver => Code::SessionTakenOver,
        Reason::FilterInvalid => Code::TopicFilterInvalid,
        Reason::TopicInvalid => Code::TopicNameInvalid,
        Reason::ReceiveMaximum => Code::ReceiveMaximumExceeded,
        Reason::AliasInvalid => Code::TopicAliasInvalid,
        Reason::TooLarge => Code::PacketTooLarge,
        Reason::Quota => Code::QuotaExceeded,
        Reason::Implementation => Code::ImplementationSpecificError,
        _ => Code::UnspecifiedError,
    }
}
