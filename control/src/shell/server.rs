//! What this server says of itself: how it is, retained under `s/{sid}/state`, and what its engines
//! note, under `s/{sid}/evt/…`.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use ulid::Ulid;

use crate::bus::topic::{About, Topic, id_of};
use crate::bus::{Publication, Qos};
use crate::engine::event::{Event, Kind};
use crate::shell::{Shell, clock};

/// What only grows and falls, as calls do, is said at most so often.
const LOAD_EVERY: Duration = Duration::from_secs(5);
/// How long an event is worth something to those who were away.
const EVENT_EXPIRY: Duration = Duration::from_secs(3600);
const VERSION: u32 = 1;

/// How the server is: what is said at once when it changes, and what may wait.
pub(super) struct Data {
    fixed: Value,
    load: Value,
}

pub(super) struct Announcer {
    sid: String,
    /// Of this run of the daemon.
    inst: String,
    /// The time this run began at, in seconds: a later run's is greater.
    epoch: u64,
    rev: u64,
    last: Option<(Instant, Data)>,
}

impl Announcer {
    /// `random` is for names.
    pub(super) fn new(node: &str, random: [u8; 16]) -> Self {
        Self {
            sid: id_of(node),
            inst: name(random),
            epoch: clock::wall_s(),
            rev: 0,
            last: None,
        }
    }

    /// What a broker says for us once we are gone.
    pub(super) fn will(&self) -> Publication {
        let data = json!({ "online": false, "inst": self.inst });
        self.retained("server.state", &data)
    }

    /// None: there is nothing new, or it may wait.
    pub(super) fn state(&mut self, news: Data, now: Instant) -> Option<Publication> {
        if let Some((at, last)) = &self.last {
            let load_may = now.saturating_duration_since(*at) >= LOAD_EVERY;
            if last.fixed == news.fixed && (!load_may || last.load == news.load) {
                return None;
            }
        }
        self.rev += 1;
        let mut data = json!({ "online": true, "inst": self.inst, "load": news.load });
        if let (Value::Object(data), Value::Object(fixed)) = (&mut data, news.fixed.clone()) {
            data.extend(fixed);
        }
        self.last = Some((now, news));
        Some(self.retained("server.state", &data))
    }

    /// None: it is nothing of registrations, calls or media.
    pub(super) fn event(&self, event: &Event) -> Option<Publication> {
        let (about, kind) = named(event)?;
        let subject = match about {
            About::Registrations => ("aor", Value::from(event.subject.clone())),
            About::Calls | About::Media => ("call", number(&event.subject)),
        };
        let mut data = Map::new();
        data.insert(subject.0.to_owned(), subject.1);
        for (name, value) in &event.fields {
            data.insert((*name).to_owned(), value.clone().into());
        }
        let age = clock::now().saturating_duration_since(event.at);
        let at = clock::wall().checked_sub(age).unwrap_or(clock::wall());
        let sid = &self.sid;
        let id = Ulid::from_parts(since_1970_ms(at), u128::from(event.seq));
        let envelope = json!({
            "v": VERSION,
            "id": lower(id),
            "type": kind,
            "ts": stamp(at),
            "src": { "sid": sid, "inst": self.inst },
            "n": event.seq,
            "data": data,
        });
        Some(Publication {
            topic: Topic::ServerEvent { sid, about }.to_string(),
            payload: envelope.to_string().into(),
            qos: Qos::AtLeastOnce,
            retain: false,
            expiry: Some(EVENT_EXPIRY),
        })
    }

    fn retained(&self, kind: &str, data: &Value) -> Publication {
        let sid = &self.sid;
        let envelope = json!({
            "v": VERSION,
            "type": kind,
            "ts": stamp(clock::wall()),
            "src": { "sid": sid, "inst": self.inst },
            "epoch": self.epoch,
            "rev": self.rev,
            "data": data,
        });
        Publication {
            topic: Topic::ServerState { sid }.to_string(),
            payload: envelope.to_string().into(),
            qos: Qos::AtLeastOnce,
            retain: true,
            expiry: None,
        }
    }
}

/// How the server is now.
pub(super) fn data(shell: &Shell) -> Data {
    let config = shell.engine.config();
    let networks: Vec<Value> = config
        .networks
        .iter()
        .map(|network| {
            let ports = network.advertise_ports;
            json!({
                "name": network.name,
                "address": network.address.to_string(),
                "advertise": network.advertise.to_string(),
                "media": [ports.first, ports.last],
            })
        })
        .collect();
    let totals = shell.engine.totals();
    let (kernel, user) = shell.datapath.placements();
    Data {
        fixed: json!({
            "generation": shell.reloads.generation(),
            "drain": shell.engine.draining(clock::now()).is_some(),
            "networks": networks,
        }),
        load: json!({
            "calls": totals.calls,
            "registrations": totals.registrations,
            "flows": kernel.saturating_add(user),
        }),
    }
}

/// Under which topic, and its type there.
fn named(event: &Event) -> Option<(About, &'static str)> {
    let expired = event.fields.contains(&("why", "expired".to_owned()));
    Some(match event.kind {
        Kind::RegistrationNew => (About::Registrations, "reg.added"),
        Kind::RegistrationMoved => (About::Registrations, "reg.moved"),
        Kind::RegistrationEnded if expired => (About::Registrations, "reg.expired"),
        Kind::RegistrationEnded => (About::Registrations, "reg.removed"),
        Kind::RegistrationRefused => (About::Registrations, "reg.refused"),
        Kind::CallStarted => (About::Calls, "call.started"),
        Kind::CallAnswered => (About::Calls, "call.answered"),
        Kind::CallRefreshed => (About::Calls, "call.updated"),
        Kind::CallEnded => (About::Calls, "call.ended"),
        Kind::SourceLocked => (About::Media, "media.source_locked"),
        Kind::SourceChanged => (About::Media, "media.source_changed"),
        Kind::Stranger => (About::Media, "media.source_rejected"),
        Kind::MediaFirst => (About::Media, "media.first_packet"),
        Kind::MediaSilent => (About::Media, "media.silent"),
        Kind::MediaOneWay => (About::Media, "media.one_way"),
        Kind::MediaResumed => (About::Media, "media.resumed"),
        Kind::MediaSource => (About::Media, "media.other_source"),
        Kind::RegistrationsRestored
        | Kind::CallsRestored
        | Kind::PortsExhausted
        | Kind::CapacityReached
        | Kind::ConfigurationApplied
        | Kind::NetworkRetired
        | Kind::NetworkGone
        | Kind::GatewaySuspected
        | Kind::GatewayCleared
        | Kind::PeerUp
        | Kind::PeerDown
        | Kind::SourceBanned
        | Kind::SourceReleased
        | Kind::BrokerUp
        | Kind::BrokerDown
        | Kind::MqttRefused
        | Kind::MqttDropped
        // The plane publishes those of its conferences itself.
        | Kind::ConferenceStarted
        | Kind::ConferenceRestored
        | Kind::ConferenceEnded
        | Kind::ConferenceShared
        | Kind::ConferenceUnshared
        | Kind::ConferenceJoined
        | Kind::ConferenceLost
        | Kind::ConferenceLeft
        | Kind::FloorRequested
        | Kind::FloorGranted
        | Kind::FloorEnded
        | Kind::MessageUnplaced
        | Kind::LinkUp
        | Kind::LinkDown
        | Kind::LinkRefused
        | Kind::NodeDraining
        | Kind::NodeUndrained => return None,
    })
}

fn number(subject: &str) -> Value {
    let number: Result<u64, _> = subject.parse();
    number.map_or_else(|_| subject.into(), Value::from)
}

fn name(random: [u8; 16]) -> String {
    let now = since_1970_ms(clock::wall());
    lower(Ulid::from_parts(now, u128::from_be_bytes(random)))
}

fn since_1970_ms(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// RFC 3339 §5.6, to the millisecond.
fn stamp(at: SystemTime) -> String {
    let ms = since_1970_ms(at);
    let seconds = clock::rfc3339(ms / 1000);
    format!("{}.{:03}Z", seconds.trim_end_matches('Z'), ms % 1000)
}

/// As ids of topics are written.
fn lower(id: Ulid) -> String {
    Ulid::to_string(&id).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(generation: u32, calls: u32) -> Data {
        Data {
            fixed: json!({ "generation": generation }),
            load: json!({ "calls": calls }),
        }
    }

    fn payload(publication: &Publication) -> Value {
        serde_json::from_slice(&publication.payload).unwrap()
    }

    #[test]
    fn the_state_is_said_when_it_is_news() {
        let mut announcer = Announcer::new("Edge-01", [7; 16]);
        let now = clock::now();
        let first = announcer.state(load(1, 0), now).unwrap();
        assert_eq!(first.topic, "towpath/v1/s/~45dge-01/state");
        assert!(first.retain);
        let said = payload(&first);
        assert_eq!(said["rev"], 1);
        assert_eq!(said["data"]["online"], true);
        assert_eq!(said["data"]["generation"], 1);
        assert_eq!(said["data"]["load"]["calls"], 0);
        assert_eq!(said["data"]["inst"], said["src"]["inst"]);
        // A call more may wait, another configuration may not.
        assert_eq!(announcer.state(load(1, 1), now), None);
        assert!(announcer.state(load(2, 1), now).is_some());
        let later = now + LOAD_EVERY;
        assert_eq!(announcer.state(load(2, 1), later), None);
        let third = announcer.state(load(2, 2), later).unwrap();
        assert_eq!(payload(&third)["rev"], 3);
        let will = payload(&announcer.will());
        assert_eq!(will["data"]["online"], false);
        assert_eq!(will["data"]["inst"], said["data"]["inst"]);
    }

    #[test]
    fn events_have_a_topic_and_a_type() {
        let announcer = Announcer::new("edge-01", [7; 16]);
        let event = |kind, subject: &str, fields: &[(&'static str, &str)]| Event {
            seq: 7,
            at: clock::now(),
            kind,
            subject: subject.to_owned(),
            fields: fields.iter().map(|(n, v)| (*n, (*v).to_owned())).collect(),
        };
        let aor = "1001@example.com";
        let check = |event: Event, topic: &str, kind: &str, data: Value| {
            let said = announcer.event(&event).unwrap();
            assert_eq!(said.topic, format!("towpath/v1/s/edge-01/evt/{topic}"));
            let said = payload(&said);
            assert_eq!((said["type"].as_str(), &said["data"]), (Some(kind), &data));
            assert_eq!(said["n"], 7);
        };
        let moved = event(
            Kind::RegistrationMoved,
            aor,
            &[("source", "192.0.2.1:5060")],
        );
        let data = json!({ "aor": aor, "source": "192.0.2.1:5060" });
        check(moved, "reg", "reg.moved", data);
        let ended = event(Kind::RegistrationEnded, aor, &[("why", "expired")]);
        check(
            ended,
            "reg",
            "reg.expired",
            json!({ "aor": aor, "why": "expired" }),
        );
        let ended = event(Kind::RegistrationEnded, aor, &[("why", "client")]);
        check(
            ended,
            "reg",
            "reg.removed",
            json!({ "aor": aor, "why": "client" }),
        );
        let ended = event(Kind::CallEnded, "12", &[("status", "200")]);
        check(
            ended,
            "call",
            "call.ended",
            json!({ "call": 12, "status": "200" }),
        );
        check(
            event(Kind::MediaSilent, "12", &[]),
            "media",
            "media.silent",
            json!({ "call": 12 }),
        );
        assert_eq!(announcer.event(&event(Kind::PeerDown, "mcu", &[])), None);
    }
}
