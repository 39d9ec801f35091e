//! How many calls, and how much of their bandwidth, a peer or a network carries (call admission
//! control). What is held is counted in all shards of a node together, so that a limit is met
//! exactly: these numbers are all that shards share.
//!
//! A call holds its part as long as it lives; there is no way to forget to give it back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::config::{Config, Limits};
use crate::effect::Effects;
use crate::engine::call::Call;
use crate::engine::event::Kind;
use crate::engine::media::sdp_range;
use crate::engine::{Engine, RETRY_AFTER_S, Request};
use crate::id::NetworkId;
use crate::media::bandwidth;
use crate::media::session::Session;
use crate::sip::dialog::Leg;
use crate::sip::index::Message;

/// By peer and by network, what is held.
#[derive(Clone, Debug, Default)]
pub(super) struct Capacity {
    peers: BTreeMap<String, Arc<Held>>,
    networks: BTreeMap<NetworkId, Arc<Held>>,
}

/// What calls hold of one peer or network.
#[derive(Debug, Default)]
struct Held {
    calls: AtomicU64,
    kbits: AtomicU64,
}

/// The part of one call.
#[derive(Debug)]
pub(super) struct Claim {
    of: Arc<Held>,
    kbits: u64,
}

/// What a peer or a network carries now.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Load {
    pub calls: u64,
    /// In kbit/s.
    pub bandwidth: u64,
}

/// What there is no more of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum What {
    Calls,
    Bandwidth,
}

/// Where, and whereof.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Full {
    kind: &'static str,
    name: String,
    pub(super) what: What,
}

/// A place that a call passes, as it is counted.
struct Wanted {
    kind: &'static str,
    name: String,
    held: Arc<Held>,
    limits: Limits,
    /// Legs of the call there: each takes the bandwidth once.
    legs: u64,
}

/// Whether a call is to be let in, or is there already.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum How {
    /// All or nothing.
    Ask,
    /// What the call is, it is: bandwidth is counted as far as there is some.
    Note,
}

impl What {
    /// 503: no more calls. 488: this one asks for too much (RFC 3261 §21.4.26).
    pub(super) fn code(self) -> u16 {
        match self {
            Self::Calls => 503,
            Self::Bandwidth => 488,
        }
    }
}

impl Full {
    fn reason(&self) -> &'static str {
        match (self.kind, self.what) {
            ("peer", What::Calls) => "peer_calls",
            ("peer", What::Bandwidth) => "peer_bandwidth",
            (_, What::Calls) => "network_calls",
            (_, What::Bandwidth) => "network_bandwidth",
        }
    }
}

impl Held {
    fn load(&self) -> Load {
        Load {
            calls: self.calls.load(Ordering::Relaxed),
            bandwidth: self.kbits.load(Ordering::Relaxed),
        }
    }
}

/// Adds to a number unless it would pass a limit.
fn add(number: &AtomicU64, more: u64, limit: Option<u32>) -> bool {
    let fits = |sum: u64| limit.is_none_or(|limit| sum <= limit.into());
    let step = |now: u64| now.checked_add(more).filter(|sum| fits(*sum));
    number
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, step)
        .is_ok()
}

/// Adds as much as the limit leaves room for. Returned is how much that was.
fn add_some(number: &AtomicU64, more: u64, limit: Option<u32>) -> u64 {
    let room = |now: u64| limit.map_or(u64::MAX, |limit| u64::from(limit).saturating_sub(now));
    let step = |now: u64| Some(now.saturating_add(more.min(room(now))));
    let before = number.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
    before.map_or(0, |before| more.min(room(before)))
}

impl Claim {
    fn take(wanted: &Wanted, how: How) -> Option<Self> {
        let limit = match how {
            How::Ask => wanted.limits.calls,
            How::Note => None,
        };
        add(&wanted.held.calls, 1, limit).then(|| Self {
            of: wanted.held.clone(),
            kbits: 0,
        })
    }

    fn grow(&mut self, more: u64, limits: Limits, how: How) -> bool {
        let grown = match how {
            How::Ask if add(&self.of.kbits, more, limits.bandwidth) => more,
            How::Ask => return false,
            How::Note => add_some(&self.of.kbits, more, limits.bandwidth),
        };
        self.kbits = self.kbits.saturating_add(grown);
        true
    }

    fn shrink(&mut self, less: u64) {
        let less = less.min(self.kbits);
        self.kbits -= less;
        self.of.kbits.fetch_sub(less, Ordering::Relaxed);
    }

    fn is_of(&self, held: &Arc<Held>) -> bool {
        Arc::ptr_eq(&self.of, held)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.of.calls.fetch_sub(1, Ordering::Relaxed);
        self.of.kbits.fetch_sub(self.kbits, Ordering::Relaxed);
    }
}

impl Capacity {
    /// The same numbers for whatever is still there, none for what is new.
    pub(super) fn of(&self, config: &Config) -> Self {
        let peers = config.sip.peers.iter().map(|peer| {
            let held = self.peers.get(&peer.name).cloned();
            (peer.name.clone(), held.unwrap_or_default())
        });
        let networks = config.networks().map(|(id, _)| {
            let held = self.networks.get(&id).cloned();
            (id, held.unwrap_or_default())
        });
        let mut capacity = Self {
            peers: peers.collect(),
            networks: networks.collect(),
        };
        // What has gone may come back while calls still hold some of it.
        let held = |held: &Held| held.load().calls > 0;
        for (name, gone) in self.peers.iter().filter(|(_, peer)| held(peer)) {
            let entry = capacity.peers.entry(name.clone());
            entry.or_insert_with(|| gone.clone());
        }
        for (id, gone) in self.networks.iter().filter(|(_, network)| held(network)) {
            capacity.networks.entry(*id).or_insert_with(|| gone.clone());
        }
        capacity
    }

    pub(super) fn of_peer(&self, name: &str) -> Load {
        self.peers.get(name).map_or(Load::default(), |p| p.load())
    }

    pub(super) fn of_network(&self, id: NetworkId) -> Load {
        let held = self.networks.get(&id);
        held.map_or(Load::default(), |network| network.load())
    }
}

impl Engine {
    /// The places a call passes: its caller's, and those of everybody who is or may become its
    /// callee. Several who are asked in one place are one there.
    fn places(&self, call: &Call) -> Vec<Wanted> {
        let mut places: Vec<Wanted> = Vec::new();
        let callees = call.legs().skip(1);
        self.add_places([&call.caller].into_iter(), &mut places);
        self.add_places(callees, &mut places);
        places
    }

    /// Those of one side.
    fn add_places<'a>(&self, legs: impl Iterator<Item = &'a Leg>, places: &mut Vec<Wanted>) {
        let mut side: Vec<Wanted> = Vec::new();
        let mut want = |kind, name: &str, held: Option<&Arc<Held>>, limits| {
            let Some(held) = held else { return };
            if !side.iter().any(|known| Arc::ptr_eq(&known.held, held)) {
                side.push(Wanted {
                    kind,
                    name: name.to_owned(),
                    held: held.clone(),
                    limits,
                    legs: 1,
                });
            }
        };
        for leg in legs {
            if let Some(peer) = self.peer_from(leg.path.to.ip()) {
                let held = self.capacity.peers.get(&peer.name);
                want("peer", &peer.name, held, peer.limits);
            }
            if let Some(network) = self.network(leg.network) {
                let held = self.capacity.networks.get(&network.id);
                want("network", &network.name, held, network.limits);
            }
        }
        for wanted in side {
            let mut known = places.iter_mut();
            match known.find(|known| Arc::ptr_eq(&known.held, &wanted.held)) {
                Some(known) => known.legs += 1,
                None => places.push(wanted),
            }
        }
    }

    /// Lets a call hold what it needs for so much bandwidth, no more and no less. If there is not
    /// enough, what it held stays.
    pub(super) fn hold(&mut self, call: &mut Call, kbits: u64, how: How) -> Result<(), Full> {
        let places = self.places(call);
        let fresh = call.claims.len();
        let mut grown: Vec<(usize, u64)> = Vec::new();
        let mut full = None;
        for place in &places {
            let wanted = kbits.saturating_mul(place.legs);
            let known = call.claims.iter().position(|c| c.is_of(&place.held));
            let lacks = |what| Full {
                kind: place.kind,
                name: place.name.clone(),
                what,
            };
            let at = match known {
                Some(at) => at,
                None => match Claim::take(place, how) {
                    Some(claim) => {
                        call.claims.push(claim);
                        call.claims.len() - 1
                    }
                    None => {
                        full = Some(lacks(What::Calls));
                        break;
                    }
                },
            };
            let Some(claim) = call.claims.get_mut(at) else {
                continue;
            };
            let more = wanted.saturating_sub(claim.kbits);
            if more > 0 && !claim.grow(more, place.limits, how) {
                full = Some(lacks(What::Bandwidth));
                break;
            }
            grown.push((at, more));
        }
        if let Some(full) = full {
            call.claims.truncate(fresh);
            for (at, more) in grown {
                if let Some(claim) = call.claims.get_mut(at) {
                    claim.shrink(more);
                }
            }
            return Err(full);
        }
        call.claims.retain_mut(|claim| {
            let Some(place) = places.iter().find(|place| claim.is_of(&place.held)) else {
                return false;
            };
            let wanted = kbits.saturating_mul(place.legs);
            claim.shrink(claim.kbits.saturating_sub(wanted));
            true
        });
        Ok(())
    }

    /// What its SDP has come to.
    pub(super) fn hold_agreed(&mut self, call: &mut Call) {
        let session = call.session.as_ref();
        let kbits = session.map_or(0, Session::bandwidth);
        // Nothing is refused here.
        let _held = self.hold(call, kbits, How::Note);
    }

    /// Whether a message's SDP fits beside what its call has, as an offer.
    pub(super) fn hold_offer(&mut self, call: &mut Call, sdp: &[u8], now: Instant) -> bool {
        let Ok(offered) = bandwidth::offered(sdp) else {
            // Whoever reads it next says what is wrong with it.
            return true;
        };
        let agreed = call.session.as_ref().map_or(0, Session::bandwidth);
        match self.hold(call, offered.max(agreed), How::Ask) {
            Ok(()) => true,
            Err(full) => {
                self.note_full(&full, now);
                false
            }
        }
    }

    /// Whether everybody on a new call, as far as they are known, has room for it.
    pub(super) fn hold_invite(
        &mut self,
        call: &mut Call,
        request: &Message,
        now: Instant,
    ) -> Result<(), Full> {
        let agreed = call.session.as_ref().map_or(0, Session::bandwidth);
        let held = self.hold(call, asked_kbits(request).max(agreed), How::Ask);
        held.inspect_err(|full| self.note_full(full, now))
    }

    /// Answers whoever has no room for what it asks.
    pub(super) fn answer_full(
        &mut self,
        request: &Request,
        what: What,
        now: Instant,
        effects: &mut Effects,
    ) {
        let extra = match what {
            // All that it could send us would be refused.
            What::Calls => ("Retry-After", RETRY_AFTER_S.to_owned()),
            What::Bandwidth => self.no_bandwidth(),
        };
        self.answer_with(request, what.code(), &[extra], now, effects);
    }

    /// What the refusal of a call says beside its code.
    pub(super) fn refusal_fields(&self, code: u16, crowded: bool) -> Vec<(&'static str, String)> {
        match code {
            // Whoever else is called may have room: no word of waiting (RFC 3261 §21.5.4).
            503 if crowded => Vec::new(),
            503 => vec![("Retry-After", RETRY_AFTER_S.to_owned())],
            488 if crowded => vec![self.no_bandwidth()],
            _ => Vec::new(),
        }
    }

    /// RFC 3261 §20.43.
    fn no_bandwidth(&self) -> (&'static str, String) {
        let agent = &self.config.sip.domain;
        ("Warning", format!("370 {agent} \"Insufficient bandwidth\""))
    }

    fn note_full(&mut self, full: &Full, now: Instant) {
        self.counters.count("sip_refused", full.reason());
        let what = match full.what {
            What::Calls => "calls",
            What::Bandwidth => "bandwidth",
        };
        let fields = vec![("of", full.kind.to_owned()), ("what", what.to_owned())];
        self.note_rarely(now, Kind::CapacityReached, &full.name, fields);
    }

    /// What a network carries now, in all shards.
    #[must_use]
    pub fn network_load(&self, id: NetworkId) -> Load {
        self.capacity.of_network(id)
    }

    /// What a peer carries now, in all shards.
    #[must_use]
    pub fn peer_load(&self, name: &str) -> Load {
        self.capacity.of_peer(name)
    }
}

/// What an INVITE offers to take.
fn asked_kbits(request: &Message) -> u64 {
    let sdp = sdp_range(request).and_then(|range| request.body().get(range));
    sdp.and_then(|sdp| bandwidth::offered(sdp).ok())
        .unwrap_or(0)
}
