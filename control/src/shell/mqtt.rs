//! The edge that MQTT clients connect to: sockets, codecs and clock around the broker
//! (`crate::mqtt`). One lock holds broker and connections: what a client sends is handled, and what
//! follows from it queued, in one step.

mod bridge;
mod connection;
mod known;
mod listen;
mod login;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::BytesMut;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::sleep_until;
use tokio_rustls::rustls::ServerConfig;

use self::login::Failures;
use crate::bus::{Access, Client, Principal, Publication};
use crate::config::Config;
use crate::engine::event::{Event, Kind};
use crate::mqtt::address::Identity;
use crate::mqtt::broker::{Broker, ClientView, ConnId, Counters, Effect, Input, Totals};
use crate::mqtt::filter;
use crate::mqtt::packet::{Incoming, Outgoing, Reason, Version};
use crate::plane;
use crate::shell::clock;
use crate::shell::plane::{Gate, Inbox};

pub(in crate::shell) use self::known::{Known, Moved};
pub(crate) use self::listen::{Listeners, tls};

/// What waits for the plane; beyond it clients are not read.
const FOR_PLANE_MAX: usize = 1024;
/// Bytes that wait for one connection, beyond which nothing more is read from it.
const UNREAD_BYTES_MAX: usize = 256 * 1024;
/// Connections that have not said who they are.
const STRANGERS_MAX: usize = 512;
/// Events between two looks at them.
const NOTES_MAX: usize = 64;

/// The edge, for all who have something for its clients.
#[derive(Clone)]
pub(crate) struct Edge(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// There is something for the plane.
    told: Notify,
    /// The plane has taken something.
    room: Notify,
    /// The broker's next time-out has moved.
    due: Notify,
    known: Known,
}

struct State {
    broker: Broker,
    config: Arc<Config>,
    gate: Gate,
    tls: Option<Arc<ServerConfig>>,
    lines: HashMap<ConnId, Line>,
    last: u64,
    strangers: usize,
    failures: Failures,
    for_plane: VecDeque<plane::Input>,
    effects: Vec<Effect>,
    notes: VecDeque<Event>,
    /// When the clock wakes.
    wakes: Option<Instant>,
    /// Connections that were turned away before anybody read them.
    turned_away: u64,
}

/// A connection as the broker's effects reach it.
struct Line {
    version: Version,
    /// None: it is not let in.
    who: Option<Principal>,
    local: SocketAddr,
    remote: SocketAddr,
    out: BytesMut,
    closing: bool,
    wake: Arc<Notify>,
}

/// What clients may do: that of the plane's topics is the plane's to say.
struct Rules<'a> {
    topics: &'a [String],
    gate: &'a Gate,
}

impl Rules<'_> {
    fn among_clients(&self, topic: &str) -> bool {
        let topics = self.topics.iter();
        !topic.starts_with(crate::bus::topic::PREFIX)
            && topics
                .clone()
                .any(|own| own == topic || filter::matches(own, topic))
    }
}

impl Access for Rules<'_> {
    fn may_publish(&self, client: &Client, topic: &str) -> bool {
        let looks_on = matches!(client.principal, Principal::Viewer(_));
        let among_clients = !looks_on && self.among_clients(topic);
        among_clients || self.gate.may_publish(client, topic)
    }

    fn may_read(&self, client: &Client, topic: &str) -> bool {
        self.among_clients(topic) || self.gate.may_read(client, topic)
    }
}

impl Edge {
    /// An edge nobody can connect to yet.
    pub(in crate::shell) fn start(config: &Config, inbox: Inbox, gate: Gate, known: Known) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                broker: Broker::new(config.mqtt.limits.clone()),
                config: Arc::new(config.clone()),
                gate,
                tls: None,
                lines: HashMap::new(),
                last: 0,
                strangers: 0,
                failures: Failures::default(),
                for_plane: VecDeque::new(),
                effects: Vec::new(),
                notes: VecDeque::new(),
                wakes: None,
                turned_away: 0,
            }),
            told: Notify::new(),
            room: Notify::new(),
            due: Notify::new(),
            known,
        });
        tokio::spawn(tell(shared.clone(), inbox));
        tokio::spawn(known::watch_tokens(shared.clone()));
        tokio::spawn(keep_time(shared.clone()));
        Self(shared)
    }

    /// What connections may do from now on, and the certificate of those to come.
    pub(crate) fn configure(&self, config: &Config, tls: Option<Arc<ServerConfig>>) {
        let mut state = self.0.state();
        state.config = Arc::new(config.clone());
        state.tls = tls;
        let limits = config.mqtt.limits.clone();
        let input = Input::Configure(limits, identity(config));
        self.0.handle(&mut state, input);
        drop(state);
        self.registered(&Moved::ALL);
    }

    /// To whoever subscribed and may read it.
    pub(crate) fn publish(&self, publication: Publication) {
        let mut state = self.0.state();
        self.0.handle(&mut state, Input::Publish(publication));
    }

    /// What became of a client's publication.
    pub(crate) fn acknowledge(&self, ticket: u64, refused: Option<&'static str>) {
        let mut state = self.0.state();
        if let Some(refused) = refused {
            tracing::debug!(ticket, refused, "a publication is refused");
        }
        self.0
            .handle(&mut state, Input::Acknowledge { ticket, refused });
    }

    /// Clients are told, and their connections end.
    pub(crate) fn shut_down(&self) {
        let mut state = self.0.state();
        self.0.handle(&mut state, Input::Shutdown);
    }

    /// What happened that an operator would want to see, since it was asked last.
    pub(crate) fn noted(&self) -> Vec<Event> {
        self.0.state().notes.drain(..).collect()
    }

    pub(crate) fn clients(&self, now: Instant) -> Vec<ClientView> {
        self.0.state().broker.clients(now)
    }

    pub(crate) fn totals(&self) -> Totals {
        self.0.state().broker.totals()
    }

    pub(crate) fn counters(&self) -> Counters {
        self.0.state().broker.counters().clone()
    }

    /// Connections there was no room for.
    pub(crate) fn turned_away(&self) -> u64 {
        self.0.state().turned_away
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the broker handle one input and does what it wants done.
    fn handle(&self, state: &mut State, input: Input) {
        let State {
            broker,
            config,
            gate,
            lines,
            for_plane,
            effects,
            notes,
            wakes,
            ..
        } = state;
        let rules = Rules {
            topics: &config.mqtt.topics,
            gate,
        };
        let now = clock::now();
        broker.handle(input, &rules, now, effects);
        let before = for_plane.len();
        for effect in effects.drain(..) {
            match effect {
                Effect::Send { conn, packet } => {
                    if let Some(line) = lines.get_mut(&conn) {
                        line.send(&packet);
                    }
                }
                Effect::Close { conn } => {
                    if let Some(line) = lines.get_mut(&conn) {
                        line.closing = true;
                        line.wake.notify_one();
                    }
                }
                Effect::Submit {
                    ticket,
                    by,
                    publication,
                } => for_plane.push_back(plane::Input::Published {
                    ticket,
                    by,
                    publication,
                }),
                Effect::Foreign { by, topic, address } => {
                    let fields = vec![
                        ("reason", "foreign_server".to_owned()),
                        ("client", by.id),
                        ("topic", topic),
                    ];
                    note(notes, Kind::MqttDropped, address, fields, now);
                }
                Effect::Connected(client) => {
                    for_plane.push_back(plane::Input::Connected(client));
                }
                Effect::Disconnected(client) => {
                    for_plane.push_back(plane::Input::Disconnected(client));
                }
            }
        }
        if for_plane.len() > before {
            self.told.notify_one();
        }
        let next = broker.next();
        if next.is_some_and(|next| wakes.is_none_or(|wakes| next < wakes)) {
            *wakes = next;
            self.due.notify_one();
        }
    }

    fn packets(&self, conn: ConnId, packets: Vec<Incoming>, fault: Option<Reason>) {
        let mut state = self.state();
        for packet in packets {
            self.handle(&mut state, Input::Packet { conn, packet });
        }
        if let Some(reason) = fault {
            self.handle(&mut state, Input::Fault { conn, reason });
        }
    }
}

impl Line {
    fn send(&mut self, packet: &Outgoing) {
        bridge::encode(packet, self.version, &mut self.out);
        self.wake.notify_one();
    }
}

impl State {
    /// The address that somebody who reached us there from there knows us by.
    fn known_as(&self, local: SocketAddr, remote: SocketAddr) -> IpAddr {
        let (local, remote) = (local.ip(), remote.ip());
        let network = self.config.network_of(local, remote);
        let network = network.and_then(|id| self.config.network(id));
        network.map_or(local, |network| network.advertise)
    }
}

/// What operators are told; of more than they can read, the first.
fn note(
    notes: &mut VecDeque<Event>,
    kind: Kind,
    subject: IpAddr,
    fields: Vec<(&'static str, String)>,
    at: Instant,
) {
    if notes.len() < NOTES_MAX {
        notes.push_back(Event {
            seq: 0,
            at,
            kind,
            subject: subject.to_string(),
            fields,
        });
    }
}

/// By what our clients know us, and may have known us.
fn identity(config: &Config) -> Identity {
    let networks = config.networks.iter();
    let addresses = networks.flat_map(|n| [n.address, n.advertise, n.advertise_media]);
    let listening = config.mqtt.listen.iter().map(|on| on.local.ip());
    let addresses = addresses.chain(listening).filter(|ip| !ip.is_unspecified());
    Identity {
        sid: config.node.id.clone(),
        fields: config.mqtt.legacy_address_fields.clone(),
        addresses: addresses.collect(),
        grace: config.sip.address_grace,
    }
}

/// Hands the plane what is for it, in order, as fast as it takes it.
async fn tell(shared: Arc<Shared>, inbox: Inbox) {
    loop {
        let input = shared.state().for_plane.pop_front();
        match input {
            Some(input) => {
                inbox.tell(input).await;
                shared.room.notify_waiters();
            }
            None => shared.told.notified().await,
        }
    }
}

/// Wakes the broker when it wants to be woken.
async fn keep_time(shared: Arc<Shared>) {
    loop {
        let next = {
            let mut state = shared.state();
            state.wakes = state.broker.next();
            state.wakes
        };
        let Some(next) = next else {
            shared.due.notified().await;
            continue;
        };
        tokio::select! {
            () = sleep_until(next.into()) => {
                let mut state = shared.state();
                shared.handle(&mut state, Input::Tick);
            }
            () = shared.due.notified() => {}
        }
    }
}

/// A task that ends with whoever holds it.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
