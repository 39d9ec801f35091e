//! How long the way to the broker takes, for doctor: a connection of its own that subscribes to
//! nothing and leaves nothing behind.

use std::time::Duration;

use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use rumqttc::{TlsConfiguration, Transport};
use tokio::time::timeout;

use super::client::{KEEP_ALIVE, Settings};
use crate::bus::{Publication, Qos};
use crate::config::Config;
use crate::shell::clock;

/// Taking back a subscription that was never made: answered by every broker, and changes nothing.
const NOTHING: &str = "towpath/v1/doctor";
const TRIPS: usize = 3;
/// What else the client library may say between an order and its answer.
const EVENTS_MAX: usize = 16;

/// How long an order may take before the connection counts as dead.
pub(crate) const LIMIT: Duration = KEEP_ALIVE;

/// Where the broker is, and how long each order took; none: there is no broker behind us.
pub(crate) async fn round_trips(
    config: &Config,
    patience: Duration,
) -> Option<(String, Result<Vec<Duration>, String>)> {
    let url = config.mqtt.broker.url.as_ref()?.to_string();
    let settings = match Settings::of(config, no_will()) {
        Ok(settings) => settings?,
        Err(wrong) => return Some((url, Err(format!("{}: {:#}", wrong.key, wrong.error)))),
    };
    let (client, mut events) = AsyncClient::new(options(&settings), TRIPS + 1);
    let trips = async {
        awaited(&mut events, |packet| matches!(packet, Packet::ConnAck(_))).await?;
        let mut took = Vec::new();
        for _ in 0..TRIPS {
            let began = clock::now();
            let asked = client.try_unsubscribe(NOTHING);
            asked.map_err(|error| error.to_string())?;
            awaited(&mut events, |packet| matches!(packet, Packet::UnsubAck(_))).await?;
            took.push(began.elapsed());
        }
        // Whether it hears our farewell or not.
        drop(client.try_disconnect());
        drop(timeout(LIMIT, events.poll()).await);
        Ok(took)
    };
    let late = |_| Err(format!("no answer within {} s", patience.as_secs()));
    Some((url, timeout(patience, trips).await.unwrap_or_else(late)))
}

async fn awaited(events: &mut EventLoop, wanted: fn(&Packet) -> bool) -> Result<(), String> {
    for _ in 0..EVENTS_MAX {
        match events.poll().await {
            Ok(Event::Incoming(packet)) if wanted(&packet) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Err("it answers other things than were asked".to_owned())
}

/// Ours is the daemon's: a session of that name would end its own.
fn options(settings: &Settings) -> MqttOptions {
    let name = format!("{}-doctor", settings.client);
    let mut options = MqttOptions::new(name, &settings.host, settings.port);
    options.set_keep_alive(KEEP_ALIVE);
    options.set_clean_start(true);
    if let Some((user, password)) = &settings.credentials {
        options.set_credentials(user, password);
    }
    if let Some(tls) = &settings.tls {
        options.set_transport(Transport::Tls(TlsConfiguration::Rustls(tls.clone())));
    }
    options
}

/// It is not used: nothing is said for a doctor who is gone.
fn no_will() -> Publication {
    Publication {
        topic: NOTHING.to_owned(),
        payload: bytes::Bytes::new(),
        qos: Qos::AtMostOnce,
        retain: false,
        expiry: None,
    }
}
