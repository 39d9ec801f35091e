//! The engine: (time, input) in, effects out. Owns every call, registration and transaction of a
//! shard; no locks, no clock, no randomness beyond the seed it was given.

pub mod admin;
mod admission;
pub mod event;
pub mod explain;
pub mod flow;
pub mod gateway;
pub mod glance;
pub mod input;
mod load;
pub mod locate;
pub mod shard;
pub mod trace;

mod abandoned;
mod call;
mod capacity;
mod dialog;
mod fork;
mod gate;
mod guard;
mod identity;
mod invite;
pub mod journal;
mod media;
mod names;
mod outside;
mod own;
mod peer;
mod pulse;
mod reconfigure;
mod refresh;
mod register;
mod relay;
mod restore;
mod route;
mod subscription;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::config::{Config, Protection};
use crate::effect::{Effect, Effects};
use crate::id::{Listener, NetworkId, Path, Shard};
use crate::media::Silence;
use crate::media::ours::Ours;
use crate::media::port::Pools;
use crate::sip::digest::{Algorithm, Challenger};
use crate::sip::framing::{Datagram, classify};
use crate::sip::index::{Message, Name, Start};
use crate::sip::registrar::Registrar;
use crate::sip::transaction::{
    ClientKey, Expired, Incoming, Kind, ServerKey, Timing, Transactions,
};
use crate::sip::verdict::{self, judge};
use crate::sip::vocabulary::{self, Method};

use call::Call;
use capacity::Capacity;
pub use capacity::Load;
use event::Events;
use guard::Guard;
pub use guard::ban::BanView;
use input::Input;
use load::Drain;
pub use load::DrainView;
use names::Names;
pub use peer::PeerView;
use peer::Peers;
use reconfigure::Former;
pub use reconfigure::RetiredView;
use refresh::Schedule;
use relay::Relay;
pub(crate) use route::glob;
use shard::Shards;
use subscription::Parties;

/// Calls at a time; the next INVITE is answered 503.
pub const CALLS_MAX: usize = 100_000;
/// How often silent calls, expired bindings and pinholes are looked at.
const SWEEP: Duration = Duration::from_secs(1);

/// When a caller may ask again that was answered 503: ports that rest and calls that end come back
/// within seconds.
const RETRY_AFTER_S: &str = "10";

/// Names a call for the life of the daemon.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct CallKey(pub(crate) u64);

/// What happened, by (what, which): every refused or odd message is counted with its reason.
#[derive(Clone, Debug, Default)]
pub struct Counters(BTreeMap<(&'static str, &'static str), u64>);

impl Counters {
    /// Adds what another shard counted.
    pub fn add(&mut self, other: &Self) {
        for ((what, which), n) in &other.0 {
            let counter = self.0.entry((*what, *which)).or_default();
            *counter = counter.saturating_add(*n);
        }
    }

    fn count(&mut self, what: &'static str, which: &'static str) {
        let counter = self.0.entry((what, which)).or_default();
        *counter = counter.saturating_add(1);
    }

    /// In alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        self.0.iter().map(|((what, which), n)| (*what, *which, *n))
    }

    #[must_use]
    pub fn get(&self, what: &'static str, which: &'static str) -> u64 {
        self.0.get(&(what, which)).copied().unwrap_or(0)
    }
}

pub struct Engine {
    shard: Shard,
    /// Which Call-ID is whose.
    whose: Shards,
    config: Arc<Config>,
    started: Instant,
    names: Names,
    transactions: Transactions,
    /// Of the first shard; a replica in the others.
    registrar: Registrar,
    challenger: Challenger,
    /// Places in the configuration, by user.
    accounts: BTreeMap<String, usize>,
    guard: Guard,
    peers: Peers,
    /// This shard's part of it.
    protection: Protection,
    pools: Pools,
    /// Every media port of ours.
    ours: Arc<Ours>,
    /// What peers and networks carry, in all shards.
    capacity: Capacity,
    calls: BTreeMap<CallKey, Box<Call>>,
    /// Calls by Call-ID: more than one when a call crosses the edge twice.
    dialogs: BTreeMap<Bytes, Vec<CallKey>>,
    /// Requests we sent on behalf of someone, by our transaction.
    relays: BTreeMap<ClientKey, Box<Relay>>,
    /// The same by the transaction they came in on, for CANCEL.
    relayed: BTreeMap<ServerKey, ClientKey>,
    /// Which call a local media address belongs to.
    sockets: BTreeMap<SocketAddr, CallKey>,
    /// Flows taken over from a previous daemon, whose calls are not known.
    adopted: BTreeMap<SocketAddr, Adopted>,
    /// Calls of which something has changed that is to be kept.
    unkept: BTreeSet<CallKey>,
    /// Calls there were.
    calls_made: u64,
    next_sweep: Instant,
    sweeps: u64,
    gateways: gateway::Watch,
    /// Connections, of TCP and TLS.
    flows: flow::Flows,
    counters: Counters,
    /// The messages of calls.
    ladders: trace::Ladders,
    events: Events,
    /// Who is silent, as it was last looked at.
    silence: BTreeMap<NetworkId, Silence>,
    strangers: pulse::Budget,
    former: Former,
    /// When which call's parties are told a new address.
    refreshes: Schedule,
    /// Of dialogs that are no calls.
    parties: Parties,
    /// It takes no new calls, and why.
    drain: Option<Drain>,
    overloaded: bool,
}

/// A flow of a previous daemon.
#[derive(Clone, Copy, Debug)]
struct Adopted {
    /// When it was last seen alive.
    heard: Instant,
    /// Its source.
    peer: SocketAddr,
}

/// A request that opened a transaction.
struct Request {
    key: ServerKey,
    message: Message,
    path: Path,
    network: NetworkId,
}

impl Engine {
    /// The only engine of a node. `seed` decides every branch, tag and nonce.
    #[must_use]
    pub fn new(config: Config, seed: [u8; 32], now: Instant) -> Self {
        Self::shard(Arc::new(config), seed, Shard::ONLY, now)
    }

    /// One of the engines of a node. All get the same seed, and count from the same time: each
    /// takes a nonce of any.
    #[must_use]
    pub fn shard(config: Arc<Config>, seed: [u8; 32], shard: Shard, now: Instant) -> Self {
        let mut names = Names::new(seed, shard);
        let secret = names.common_secret("digest nonce");
        let guard = Guard::new(names.secret("guard"));
        let mut engine = Self {
            challenger: Challenger::new(&config.sip.domain, secret, Algorithm::Md5),
            accounts: gate::places(&config.sip),
            registrar: Registrar::new(register::settings(&config.sip)),
            guard,
            protection: shard::protection(&config.sip.protection, shard),
            peers: Peers::default(),
            pools: Pools::new(names.number(), shard),
            ours: Arc::default(),
            transactions: Transactions::new(Timing::default()),
            names,
            started: now,
            capacity: Capacity::default().of(&config),
            calls: BTreeMap::new(),
            dialogs: BTreeMap::new(),
            relays: BTreeMap::new(),
            relayed: BTreeMap::new(),
            sockets: BTreeMap::new(),
            adopted: BTreeMap::new(),
            unkept: BTreeSet::new(),
            calls_made: 0,
            next_sweep: now + SWEEP,
            sweeps: 0,
            gateways: gateway::Watch::default(),
            flows: flow::Flows::default(),
            ladders: trace::Ladders::default(),
            counters: Counters::default(),
            events: Events::default(),
            silence: BTreeMap::new(),
            strangers: pulse::Budget::default(),
            former: Former::default(),
            refreshes: Schedule::new(shard),
            parties: Parties::default(),
            drain: None,
            overloaded: false,
            config,
            shard,
            whose: shard::shards(seed, shard.of()),
        };
        engine.configure_pools();
        engine
    }

    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Something happened.
    pub fn handle(&mut self, input: Input, now: Instant, effects: &mut Effects) {
        match input {
            Input::Sip { on, from, bytes } => {
                let (path, before) = (Path { on, to: from }, effects.len());
                self.datagram(on, from, bytes.clone(), now, effects);
                self.trace_received(path, &bytes, effects.len() > before, now);
            }
            Input::Connected(path) => self.connected(path),
            Input::Closed(path) => self.closed(path, now, effects),
            Input::Unsent { path, bytes } => {
                self.ladders.unsent(path, &bytes);
                self.unsent(path, bytes, now, effects);
            }
            Input::Media { at, from, packet } => self.media(at, from, &packet, now, effects),
            Input::Active(flows) => self.active(&flows),
            Input::OpenFailed { at } => self.open_failed(at, now, effects),
            Input::Adopted(flows) => self.adopt(&flows, now),
            Input::Restored(records) => self.restore(records, now, effects),
            Input::Published { aor, bindings } => self.published(aor, bindings, now),
            Input::Banned { net, account, why } => {
                self.banned(net, account, why, now);
                self.keep_bans(now, effects);
            }
            Input::Peer { address, sign } => self.peer_found(address, sign, now),
            Input::Spent(spent) => self.challenger.spend(&spent),
        }
    }

    /// When `expire` wants to be called next.
    #[must_use]
    pub fn next_timeout(&self) -> Instant {
        let timers = [
            self.transactions.next_timeout(),
            self.refreshes.next_timeout(),
        ];
        let timers = timers.into_iter().flatten();
        timers.fold(self.next_sweep, Instant::min)
    }

    /// Time passed.
    pub fn expire(&mut self, now: Instant, effects: &mut Effects) {
        for expired in self.transactions.expire(now, effects) {
            match expired {
                Expired::TimedOut(key) => self.timed_out(&key, now, effects),
                Expired::NoAck(_) => self.counters.count("sip_transaction", "no_ack"),
                Expired::Unanswered(_) => self.counters.count("sip_transaction", "unanswered"),
                Expired::ClientGone(_) | Expired::ServerGone(_) => {}
            }
        }
        self.run_refreshes(now, effects);
        if now >= self.next_sweep {
            self.next_sweep = now + SWEEP;
            self.sweeps = self.sweeps.wrapping_add(1);
            self.sweep_calls(now, effects);
            self.sweep_drain(now, effects);
            self.feel_pulses(now);
            self.sweep_refreshes(now, effects);
            self.sweep_adopted(now, effects);
            self.sweep_former(now);
            self.guard.sweep(now);
            self.keep_bans(now, effects);
            self.sweep_peers(now, effects);
            self.sweep_journal(now, effects);
            self.ladders.rest(now);
            self.parties.expire(now);
            self.flows.expire(now);
            if self.shard.is_first() {
                self.sweep_registrations(now, effects);
                self.watch_gateways(now);
            }
            self.relays
                .retain(|_, relay| relay.until.is_none_or(|until| now < until));
            let relays = &self.relays;
            self.relayed.retain(|_, client| relays.contains_key(client));
        }
    }

    fn datagram(
        &mut self,
        on: Listener,
        from: SocketAddr,
        bytes: Bytes,
        now: Instant,
        effects: &mut Effects,
    ) {
        if !self.hears(from, bytes.len(), now) {
            return;
        }
        match classify(&bytes) {
            Datagram::Sip => {}
            Datagram::KeepAlive => return self.counters.count("sip_datagram", "keep_alive"),
            Datagram::Ping => {
                // RFC 5626 §4.4.1: a pong for a ping, also over UDP where it refreshes the pinhole.
                self.counters.count("sip_datagram", "ping");
                let bytes = Bytes::from_static(b"\r\n");
                return effects.push(Effect::Send {
                    on,
                    to: from,
                    bytes,
                });
            }
            Datagram::Stun(_) => return self.counters.count("sip_datagram", "stun"),
            Datagram::Garbage => {
                self.unreadable(from, now, effects);
                return self.counters.count("sip_malformed", "garbage");
            }
        }
        if from.port() == 0 {
            return self.counters.count("sip_malformed", "source_port_zero");
        }
        match Message::parse(bytes.clone()) {
            Ok(message) => match message.start() {
                Start::Request { .. } => self.request(message, on, from, now, effects),
                Start::Response { .. } => self.response(&message, now, effects),
            },
            Err(malformed) => {
                self.counters.count("sip_malformed", malformed.reason());
                self.unreadable(from, now, effects);
                let tag = self.names.token();
                let answer = vocabulary::refusal(&bytes, malformed, Some(&tag));
                if let Some(answer) = answer.and_then(|a| self.sendable(on, from, a, now)) {
                    effects.push(Effect::Send {
                        on,
                        to: from,
                        bytes: answer,
                    });
                }
            }
        }
    }

    fn request(
        &mut self,
        message: Message,
        on: Listener,
        from: SocketAddr,
        now: Instant,
        effects: &mut Effects,
    ) {
        // RFC 3261 §18.2.1, RFC 3581: answers go where the request really came from.
        let stamped = vocabulary::stamp_received_forced(&message, from);
        let Ok(message) = Message::parse(stamped) else {
            return self.counters.count("sip_malformed", "too_large");
        };
        let Some(network) = self.network_of_request(on, from, &message, now) else {
            return self.counters.count("sip_refused", "no_network");
        };
        if !self.may_ask(&message, Path { on, to: from }, now, effects) {
            return;
        }
        let message = self.believed(&message, from.ip()).unwrap_or(message);
        let method = message.method().unwrap_or(Method::Other(b""));
        let kind = Kind::of(method.as_bytes());
        self.counters.count("sip_request", method_label(method));
        let path = Path { on, to: from };
        let key = relay::server_key(&message);
        let displaced = self.transactions.displaced();
        let transactions = &mut self.transactions;
        let incoming = transactions.receive_request(&key, kind, path, now, effects);
        if self.transactions.displaced() > displaced {
            self.counters.count("sip_transaction", "displaced");
        }
        match incoming {
            Incoming::New => {
                let request = Request {
                    key,
                    message,
                    path,
                    network,
                };
                self.new_request(request, now, effects);
            }
            Incoming::Absorbed => self.counters.count("sip_transaction", "absorbed"),
            Incoming::AckForSuccess => self.ack(&message, path, now, effects),
            Incoming::Refused => {
                let extra = [("Retry-After", "5".to_owned())];
                let bytes = vocabulary::response(&message, 503, None, None, &extra, None);
                self.counters.count("sip_refused", "overload");
                if let Some(bytes) = self.sendable(on, from, bytes, now) {
                    effects.push(Effect::Send {
                        on,
                        to: from,
                        bytes,
                    });
                }
            }
        }
    }

    fn new_request(&mut self, request: Request, now: Instant, effects: &mut Effects) {
        if let Some(refused) = judge(&request.message, &[]) {
            self.counters.count("sip_refused", verdict_reason(refused));
            let tags = verdict::unsupported(&request.message, Name::ProxyRequire, &[]);
            let tags = admin::text(tags.join(&b", "[..]));
            let extra = [("Unsupported", tags)];
            let extra = if refused == verdict::Refused::Extension {
                &extra[..]
            } else {
                &[]
            };
            return self.answer_with(&request, refused.code(), extra, now, effects);
        }
        let (_, method) = request.message.cseq();
        match method {
            b"REGISTER" => self.register(request, now, effects),
            b"CANCEL" => self.cancel(&request, now, effects),
            _ if request.message.to_tag().is_some() => self.in_dialog(request, now, effects),
            b"INVITE" => self.invite(request, now, effects),
            _ => self.outside(request, now, effects),
        }
    }

    /// Answers a request ourselves.
    fn answer(&mut self, request: &Request, code: u16, now: Instant, effects: &mut Effects) {
        let later = [("Retry-After", RETRY_AFTER_S.to_owned())];
        let extra = if code == 503 { &later[..] } else { &[] };
        self.answer_with(request, code, extra, now, effects);
    }

    fn answer_with(
        &mut self,
        request: &Request,
        code: u16,
        extra: &[(&str, String)],
        now: Instant,
        effects: &mut Effects,
    ) {
        // What belongs to a call comes from somebody who was let in.
        let outside = request.message.to_tag().is_none() || code == 481;
        let stranger = outside && self.is_unproven(request.path, now);
        let tag = if stranger {
            self.stateless_tag(&request.message)
        } else {
            self.names.token()
        };
        let tag = (code > 100).then_some(tag.as_str());
        let bytes = vocabulary::response(&request.message, code, None, tag, extra, None);
        if stranger {
            return self.answer_stranger(request, code, bytes, now, effects);
        }
        self.respond(&request.key, code, bytes, now, effects);
    }

    /// The one way out for responses: counted, and through the transaction.
    fn respond(
        &mut self,
        key: &ServerKey,
        code: u16,
        bytes: Bytes,
        now: Instant,
        effects: &mut Effects,
    ) {
        self.counters.count("sip_response", class_label(code));
        if !self.transactions.respond(key, code, bytes, now, effects) {
            self.counters
                .count("sip_transaction", "response_without_request");
        }
    }
}

/// RFC 3261 §20.22: 70 is the recommended start where the field is missing.
const MAX_FORWARDS: u8 = 70;

/// The request's Max-Forwards, if it has a valid one.
fn max_forwards(message: &Message) -> Option<u8> {
    std::str::from_utf8(message.get(Name::MaxForwards)?)
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// What goes on: one less, or the recommended start.
fn forwards_left(message: &Message) -> u8 {
    max_forwards(message).map_or(MAX_FORWARDS, |n| n.saturating_sub(1))
}

fn verdict_reason(refused: verdict::Refused) -> &'static str {
    match refused {
        verdict::Refused::RequestUri => "request_uri",
        verdict::Refused::Scheme => "scheme",
        verdict::Refused::MaxForwards => "max_forwards",
        verdict::Refused::Extension => "extension",
        verdict::Refused::Contact => "contact",
    }
}

fn class_label(code: u16) -> &'static str {
    match code / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        5 => "5xx",
        _ => "6xx",
    }
}

fn method_label(method: Method<'_>) -> &'static str {
    match method {
        Method::Invite => "INVITE",
        Method::Ack => "ACK",
        Method::Cancel => "CANCEL",
        Method::Bye => "BYE",
        Method::Register => "REGISTER",
        Method::Options => "OPTIONS",
        Method::Info => "INFO",
        Method::Update => "UPDATE",
        Method::Prack => "PRACK",
        Method::Refer => "REFER",
        Method::Subscribe => "SUBSCRIBE",
        Method::Notify => "NOTIFY",
        Method::Message => "MESSAGE",
        Method::Publish => "PUBLISH",
        Method::Other(_) => "other",
    }
}
