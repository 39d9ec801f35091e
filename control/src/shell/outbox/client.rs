//! The one place that knows the client library: options, packets, and its event loop on a task that
//! does nothing else. It is made anew for each connection, so that nothing it had queued is ever
//! sent again: whatever must be is the outbox's.

use std::sync::Arc;
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    Filter, LastWill, Packet, PubAckReason, Publish, PublishProperties, RetainForwardRule,
    SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use rumqttc::{NetworkOptions, Outgoing, TlsConfiguration, Transport};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::rustls::ClientConfig;

use super::WINDOW;
use crate::bus::topic::{PREFIX, id_of};
use crate::bus::{Publication, Qos};
use crate::config::Config;
use crate::config::broker::Mode;
use crate::shell::sip::{self, Wrong};

/// A ping at least so often; two that are not answered end the connection. The library takes no
/// less.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// The library's write has no time limit: nothing at all for so long ends the connection.
const SILENCE: Duration = Duration::from_secs(12);
/// How long the broker keeps the session of one that is gone: commands published meanwhile come.
const SESSION_S: u32 = 3600;
/// In both directions; payloads of ours are smaller.
const PACKET_BYTES_MAX: u32 = 256 * 1024;
/// Commands that are not acknowledged: the broker holds more back.
const RECEIVE_MAX: u16 = 64;
/// Subscriptions and a disconnect beside messages and acknowledgements.
const REQUESTS_BESIDE: usize = 16;
/// Events that wait for the link's task.
const EVENTS_MAX: usize = 256;

/// Where the broker is, and as whom we come.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Over TLS, and what is believed there. Compared by its texts, `tls_texts`.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) tls_texts: Vec<String>,
    /// As whom; the client identifier.
    pub(crate) client: String,
    pub(crate) credentials: Option<(String, String)>,
    /// What we want to hear.
    pub(crate) filters: Vec<String>,
    /// What the broker says for us when the connection ends.
    pub(crate) will: Option<Publication>,
}

impl Settings {
    /// None: there is no broker behind us.
    pub(crate) fn of(config: &Config, will: Publication) -> Result<Option<Self>, Wrong> {
        let broker = &config.mqtt.broker;
        let (Mode::External, Some(url)) = (config.mqtt.mode, &broker.url) else {
            return Ok(None);
        };
        let mut tls_texts = Vec::new();
        let tls = if url.tls {
            let identity = broker.identity.as_ref();
            let pems = identity.map(|(own, key)| [own, key]);
            let pems = pems.into_iter().flatten().chain(&broker.ca);
            tls_texts.extend(pems.map(|pem| pem.text.clone()));
            let own = identity.map(|(own, key)| (own, key));
            let made = sip::client_config(broker.ca.as_ref(), own);
            let made = made.map_err(|(is_ours, error)| Wrong {
                key: if is_ours {
                    "mqtt.broker.certificate"
                } else {
                    "mqtt.broker.ca"
                },
                error,
            })?;
            Some(Arc::new(made))
        } else {
            None
        };
        let password = broker.password.as_ref().map(|pem| pem.text.lines().next());
        let password = password.flatten().unwrap_or_default().to_owned();
        let sid = id_of(&config.node.id);
        Ok(Some(Self {
            host: url.host.clone(),
            port: url.port,
            tls,
            tls_texts,
            client: format!("towpath-{sid}"),
            credentials: broker.user.clone().map(|user| (user, password)),
            filters: vec![format!("{PREFIX}/c/+/cmd/+")],
            will: Some(will),
        }))
    }
}

impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        let all = |of: &Self| {
            let Self {
                host,
                port,
                tls: _,
                tls_texts,
                client,
                credentials,
                filters,
                will,
            } = of.clone();
            (host, port, tls_texts, client, credentials, filters, will)
        };
        all(self) == all(other) && self.tls.is_some() == other.tls.is_some()
    }
}

impl std::fmt::Display for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls.is_some() { "mqtts" } else { "mqtt" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

/// What happens on a connection.
pub(super) enum Happened {
    Connected {
        /// The broker remembers us, and what we want to hear.
        present: bool,
        receive_max: Option<u16>,
        packet_max: Option<u32>,
    },
    /// Filters, by their place, that we were not granted.
    Subscribed {
        refused: Vec<(usize, String)>,
    },
    Sent {
        packet: u16,
    },
    Acknowledged {
        packet: u16,
        how: Acknowledged,
    },
    Received(Box<Received>),
    /// Our word of farewell has been written.
    Left,
    Nothing,
}

pub(super) enum Acknowledged {
    Taken,
    /// It will never be.
    Refused(String),
    /// It may be another time.
    NotNow(String),
}

/// A message of the broker's, and what acknowledges it.
pub(super) struct Received {
    pub(super) publication: Publication,
    ack: Option<Publish>,
}

/// One connection.
pub(super) struct Connection {
    client: AsyncClient,
    events: mpsc::Receiver<Result<Event, String>>,
    poller: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.poller.abort();
    }
}

impl Connection {
    pub(super) fn start(settings: &Settings) -> Self {
        let requests = usize::from(WINDOW) + usize::from(RECEIVE_MAX) + REQUESTS_BESIDE;
        let (client, event_loop) = AsyncClient::new(options(settings), requests);
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        Self {
            client,
            events,
            poller: tokio::spawn(poll(event_loop, sender)),
        }
    }

    /// Cancel safe.
    pub(super) async fn happened(&mut self) -> Result<Happened, String> {
        match self.events.recv().await {
            Some(event) => event.map(read),
            None => Err("the client ended".to_owned()),
        }
    }

    /// The library has room for as much as may be in flight.
    pub(super) fn publish(&self, publication: Publication) -> Result<(), String> {
        let properties = PublishProperties {
            message_expiry_interval: publication.expiry.map(whole_seconds),
            ..PublishProperties::default()
        };
        let published = self.client.try_publish_with_properties(
            publication.topic,
            qos(publication.qos),
            publication.retain,
            publication.payload,
            properties,
        );
        published.map_err(|_| "the client took no message".to_owned())
    }

    pub(super) fn subscribe(&self, filters: &[String]) -> Result<(), String> {
        let filters = filters.iter().map(|filter| {
            let mut filter = Filter::new(filter.clone(), QoS::AtLeastOnce);
            filter.nolocal = true;
            // A command that was kept for whoever comes is nobody's word now.
            filter.retain_forward_rule = RetainForwardRule::Never;
            filter
        });
        let subscribed = self.client.try_subscribe_many(filters);
        subscribed.map_err(|_| "the client took no subscription".to_owned())
    }

    pub(super) fn acknowledge(&self, received: &Received) -> Result<(), String> {
        let Some(publish) = &received.ack else {
            return Ok(());
        };
        let acknowledged = self.client.try_ack(publish);
        acknowledged.map_err(|_| "the client took no acknowledgement".to_owned())
    }

    /// The broker need not speak for us then.
    pub(super) fn leave(&self) -> Result<(), String> {
        let left = self.client.try_disconnect();
        left.map_err(|_| "the client did not take its leave".to_owned())
    }
}

impl Received {
    pub(super) fn must_be_acknowledged(&self) -> bool {
        self.ack.is_some()
    }
}

/// Publishes nothing itself, or it would wait for itself.
async fn poll(mut event_loop: EventLoop, events: mpsc::Sender<Result<Event, String>>) {
    loop {
        let event = match tokio::time::timeout(SILENCE, event_loop.poll()).await {
            Ok(event) => event.map_err(|error| error.to_string()),
            Err(_) => Err("it takes nothing and says nothing".to_owned()),
        };
        let ended = event.is_err();
        if events.send(event).await.is_err() || ended {
            return;
        }
    }
}

fn options(settings: &Settings) -> MqttOptions {
    let mut options = MqttOptions::new(&settings.client, &settings.host, settings.port);
    options.set_keep_alive(KEEP_ALIVE);
    options.set_clean_start(false);
    options.set_session_expiry_interval(Some(SESSION_S));
    options.set_receive_maximum(Some(RECEIVE_MAX));
    options.set_max_packet_size(Some(PACKET_BYTES_MAX));
    options.set_outgoing_inflight_upper_limit(WINDOW);
    options.set_manual_acks(true);
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options.set_network_options(network);
    if let Some((user, password)) = &settings.credentials {
        options.set_credentials(user, password);
    }
    if let Some(tls) = &settings.tls {
        let tls = TlsConfiguration::Rustls(tls.clone());
        options.set_transport(Transport::Tls(tls));
    }
    if let Some(will) = &settings.will {
        let payload = will.payload.clone();
        let will = LastWill::new(&will.topic, payload, qos(will.qos), will.retain, None);
        options.set_last_will(will);
    }
    options
}

fn read(event: Event) -> Happened {
    let packet = match event {
        Event::Outgoing(Outgoing::Publish(packet)) => return Happened::Sent { packet },
        Event::Outgoing(Outgoing::Disconnect) => return Happened::Left,
        Event::Outgoing(_) => return Happened::Nothing,
        Event::Incoming(packet) => packet,
    };
    match packet {
        Packet::ConnAck(ack) => {
            let properties = ack.properties;
            Happened::Connected {
                present: ack.session_present,
                receive_max: properties.as_ref().and_then(|its| its.receive_max),
                packet_max: properties.as_ref().and_then(|its| its.max_packet_size),
            }
        }
        Packet::PubAck(ack) => Happened::Acknowledged {
            packet: ack.pkid,
            how: acknowledged(ack.reason),
        },
        Packet::SubAck(ack) => {
            let refused = ack.return_codes.iter().enumerate();
            let refused = refused.filter_map(|(place, code)| match code {
                SubscribeReasonCode::Success(_) => None,
                SubscribeReasonCode::Failure
                | SubscribeReasonCode::Unspecified
                | SubscribeReasonCode::ImplementationSpecific
                | SubscribeReasonCode::NotAuthorized
                | SubscribeReasonCode::TopicFilterInvalid
                | SubscribeReasonCode::PkidInUse
                | SubscribeReasonCode::QuotaExceeded
                | SubscribeReasonCode::SharedSubscriptionsNotSupported
                | SubscribeReasonCode::SubscriptionIdNotSupported
                | SubscribeReasonCode::WildcardSubscriptionsNotSupported => {
                    Some((place, format!("{code:?}")))
                }
            });
            Happened::Subscribed {
                refused: refused.collect(),
            }
        }
        Packet::Publish(publish) => {
            received(publish).map_or(Happened::Nothing, |it| Happened::Received(Box::new(it)))
        }
        Packet::Auth(_)
        | Packet::Connect(..)
        | Packet::PingReq(_)
        | Packet::PingResp(_)
        | Packet::Subscribe(_)
        | Packet::PubRec(_)
        | Packet::PubRel(_)
        | Packet::PubComp(_)
        | Packet::Unsubscribe(_)
        | Packet::UnsubAck(_)
        | Packet::Disconnect(_) => Happened::Nothing,
    }
}

fn acknowledged(reason: PubAckReason) -> Acknowledged {
    match reason {
        PubAckReason::Success | PubAckReason::NoMatchingSubscribers => Acknowledged::Taken,
        PubAckReason::NotAuthorized
        | PubAckReason::TopicNameInvalid
        | PubAckReason::PayloadFormatInvalid => Acknowledged::Refused(format!("{reason:?}")),
        PubAckReason::UnspecifiedError
        | PubAckReason::ImplementationSpecificError
        | PubAckReason::PacketIdentifierInUse
        | PubAckReason::QuotaExceeded => Acknowledged::NotNow(format!("{reason:?}")),
    }
}

/// None: its topic is no text.
fn received(publish: Publish) -> Option<Received> {
    let properties = publish.properties.as_ref();
    let expiry_s = properties.and_then(|its| its.message_expiry_interval);
    let publication = Publication {
        topic: str::from_utf8(&publish.topic).ok()?.to_owned(),
        payload: publish.payload.clone(),
        qos: match publish.qos {
            QoS::AtMostOnce => Qos::AtMostOnce,
            QoS::AtLeastOnce | QoS::ExactlyOnce => Qos::AtLeastOnce,
        },
        retain: publish.retain,
        expiry: expiry_s.map(|seconds| Duration::from_secs(seconds.into())),
    };
    let ack = (publish.qos != QoS::AtMostOnce).then_some(publish);
    Some(Received { publication, ack })
}

fn qos(qos: Qos) -> QoS {
    match qos {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
    }
}

/// MQTT 5 §3.3.2.3.3 knows no parts of seconds.
fn whole_seconds(time: Duration) -> u32 {
    let up = u64::from(time.subsec_nanos() > 0);
    u32::try_from(time.as_secs() + up).unwrap_or(u32::MAX)
}
