//! Peers: which of their addresses are well, and where a request for one goes. Each shard keeps
//! books of its own and tells the others what it finds; those of the first are the node's.

mod probe;
mod select;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::config::{Peer, PeerAddress};
use crate::effect::{Effect, Effects, PeerSign};
use crate::engine::admin::text;
use crate::engine::event::Kind;
use crate::engine::relay::Purpose;
use crate::engine::route::{Target, glob};
use crate::engine::{CallKey, Engine};
use crate::id::{NetworkId, Path, Transport};
use crate::sip::index::{Message, Name};
use crate::sip::transaction::ClientKey;
use crate::sip::uri::Uri;

/// A request that nobody answers goes to the next address after this long (RFC 3263 §4.3): three
/// times it was repeated.
const FAILOVER_AFTER: Duration = Duration::from_secs(4);
/// An address that is down and not probed is tried again after this long.
const REST: Duration = Duration::from_secs(30);
/// Failures of one kind within this time count once: a connection that ends is the end of all that
/// waited on it, in every shard.
const TOGETHER: Duration = Duration::from_secs(1);
/// A longer Retry-After is not believed.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// What is known of one address.
#[derive(Clone, Copy, Debug, Default)]
struct Health {
    /// In a row.
    failures: u32,
    /// When the last of them was counted.
    failed: Option<Instant>,
    why: &'static str,
    is_down: bool,
    /// It asked to be left alone (503 with Retry-After).
    away_until: Option<Instant>,
    answered: Option<Instant>,
    rtt: Option<Duration>,
    next_probe: Option<Instant>,
}

impl Health {
    /// Whether it was down until now.
    fn answer(&mut self, rtt: Option<Duration>, now: Instant) -> bool {
        (self.failures, self.failed, self.away_until) = (0, None, None);
        self.answered = Some(now);
        self.rtt = rtt.or(self.rtt);
        std::mem::take(&mut self.is_down)
    }

    /// Whether it is down from now on, with `enough` failures.
    fn fail(
        &mut self,
        why: &'static str,
        wait: Option<Duration>,
        enough: u32,
        now: Instant,
    ) -> bool {
        if let Some(wait) = wait {
            self.away_until = Some(now + wait.min(RETRY_AFTER_MAX));
        }
        let together = |failed| self.why == why && now < failed + TOGETHER;
        if self.failed.is_some_and(together) {
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        (self.failed, self.why) = (Some(now), why);
        let turns = !self.is_down && self.failures >= enough;
        self.is_down |= turns;
        turns
    }
}

/// What waits for a peer.
#[derive(Default)]
pub(super) struct Peers {
    health: BTreeMap<SocketAddr, Health>,
    probes: BTreeMap<ClientKey, (Path, Instant)>,
    /// INVITEs without any response yet, and other requests that may go elsewhere.
    attempts: BTreeMap<ClientKey, (Path, Instant)>,
}

impl Peers {
    /// Nobody waits for this any more. Returned is since when a probe did.
    pub(super) fn forget(&mut self, key: &ClientKey) -> Option<Instant> {
        self.attempts.remove(key);
        self.probes.remove(key).map(|(_, sent)| sent)
    }
}

/// One address of a peer, as an operator sees it.
#[derive(Clone, Debug)]
pub struct PeerView {
    pub name: String,
    pub address: PeerAddress,
    /// `up`, `down`, `away`, `probing` (asked, and not heard yet) or `unknown`.
    pub state: &'static str,
    /// Failures in a row.
    pub failures: u32,
    pub why: Option<&'static str>,
    pub answered: Option<Duration>,
    pub rtt: Option<Duration>,
}

impl Engine {
    /// Places to try for a user that peers are asked for, best first; none if no peer has a route
    /// for it. Addresses that are down are left out. Peers are told the user as it was written:
    /// what stands behind its escapes may be no part of a URI.
    pub(super) fn peer_targets(
        &self,
        uri: &Uri<'_>,
        user: &str,
        now: Instant,
    ) -> Option<Vec<Target>> {
        let matches = |pattern: &String| glob(pattern.as_bytes(), user.as_bytes());
        let peers = self.config.sip.peers.iter();
        let mut asked = peers.filter(|p| p.routes.iter().any(matches)).peekable();
        asked.peek()?;
        let mut turn = 0_u64;
        let mut random = || {
            turn += 1;
            let parts = [&self.calls_made.to_be_bytes()[..], &turn.to_be_bytes()];
            u64::from_str_radix(&self.names.name_of(&parts), 16).unwrap_or_default()
        };
        let mut targets = Vec::new();
        for peer in asked {
            let well = |a: &PeerAddress| self.is_well(peer, a.address, now);
            let well = peer.addresses.iter().copied().filter(well);
            let ordered = select::order(well, &mut random);
            let found = ordered.iter().filter_map(|a| {
                let path = self.way_to_address(a)?;
                let there = format!("{}{}", a.address, path.on.transport.param());
                let asked = match (uri.user, uri.password) {
                    (Some(user), Some(password)) => {
                        [&b"sip:"[..], user, b":", password, b"@", there.as_bytes()].concat()
                    }
                    (Some(user), None) => [&b"sip:"[..], user, b"@", there.as_bytes()].concat(),
                    (None, _) => [&b"sip:"[..], there.as_bytes()].concat(),
                };
                Some(Target {
                    uri: asked.into(),
                    path,
                    network: self.config.network_to(a.address.ip())?,
                    natted: false,
                    // One after the other.
                    q: None,
                })
            });
            targets.extend(found);
        }
        Some(targets)
    }

    fn way_to_address(&self, found: &PeerAddress) -> Option<Path> {
        let to = found.address;
        let network = self.config.network_to(to.ip())?;
        let on = self.listener_of(network, found.transport.unwrap_or(Transport::Udp))?;
        Some(Path { on, to })
    }

    /// The ways to a peer, best first; if none of its addresses is well, to one. All that is sent
    /// for one user goes the same way as long as it is well: whoever challenged a request is to
    /// judge the credentials.
    pub(super) fn ways_to_peer(
        &self,
        peer: &Peer,
        user: &[u8],
        now: Instant,
    ) -> Vec<(NetworkId, Path)> {
        let mut turn = 0_u64;
        let chosen = || {
            turn += 1;
            let name = self.names.name_of(&[user, &turn.to_be_bytes()]);
            u64::from_str_radix(&name, 16).unwrap_or_default()
        };
        let well = |a: &PeerAddress| self.is_well(peer, a.address, now);
        let well = peer.addresses.iter().copied().filter(well);
        let mut ordered = select::order(well, chosen);
        if ordered.is_empty() {
            ordered.extend(peer.addresses.first().copied());
        }
        let way = |a: &PeerAddress| {
            let path = self.way_to_address(a)?;
            Some((self.config.network_to(path.to.ip())?, path))
        };
        ordered.iter().filter_map(way).collect()
    }

    fn is_well(&self, peer: &Peer, address: SocketAddr, now: Instant) -> bool {
        let Some(health) = self.peers.health.get(&address) else {
            return true;
        };
        let rested = health.failed.is_none_or(|failed| now >= failed + REST);
        health.away_until.is_none_or(|until| now >= until)
            && (!health.is_down || (peer.probe.is_zero() && rested))
    }

    /// The peer that has this address.
    fn peer_of(&self, address: SocketAddr) -> Option<(&Peer, PeerAddress)> {
        let mut each = self.config.sip.addresses();
        each.find(|(_, found)| found.address == address)
    }

    /// Whether this is the way to an address of a peer. A large request that tries TCP first (RFC
    /// 3261 §18.1.1) takes another.
    fn leads_to_peer(&self, path: Path) -> bool {
        let transport = path.on.transport;
        self.peer_of(path.to)
            .is_some_and(|(_, found)| found.transport.unwrap_or(Transport::Udp) == transport)
    }

    /// The peer that is trusted by this source.
    pub(super) fn peer_from(&self, ip: IpAddr) -> Option<&Peer> {
        let mut peers = self.config.sip.peers.iter();
        peers.find(|peer| peer.nets().any(|net| net.contains(&ip)))
    }

    /// A request that another address may serve left for this one.
    pub(super) fn attempted(&mut self, client: &ClientKey, path: Path, now: Instant) {
        if self.peer_of(path.to).is_some() {
            self.peers.attempts.insert(client.clone(), (path, now));
        }
    }

    /// A response came: whoever sends one is there, unless it says that it cannot serve.
    pub(super) fn peer_answered(
        &mut self,
        key: &ClientKey,
        path: Path,
        code: u16,
        message: &Message,
        now: Instant,
        effects: &mut Effects,
    ) {
        let probed = self.peers.forget(key);
        let sign = if code == 503 {
            let wait = message.get(Name::RetryAfter).and_then(seconds);
            PeerSign::Failed { why: "503", wait }
        } else {
            let rtt = probed.map(|sent| now.saturating_duration_since(sent));
            PeerSign::Answered { rtt }
        };
        self.peer_gave(path, sign, now, effects);
    }

    /// An address gave no answer.
    pub(super) fn peer_failed(
        &mut self,
        path: Path,
        why: &'static str,
        now: Instant,
        effects: &mut Effects,
    ) {
        let sign = PeerSign::Failed { why, wait: None };
        self.peer_gave(path, sign, now, effects);
    }

    /// A connection came to nothing, or ended before these were answered. INVITEs that were given
    /// up before count no more.
    pub(super) fn peer_undelivered(
        &mut self,
        path: Path,
        waiting: &[ClientKey],
        now: Instant,
        effects: &mut Effects,
    ) {
        let given_up = |key: &ClientKey| {
            key.method[..] == *b"INVITE" && !self.peers.attempts.contains_key(key)
        };
        if !waiting.iter().all(given_up) {
            self.peer_failed(path, "no connection", now, effects);
        }
    }

    fn peer_gave(&mut self, path: Path, sign: PeerSign, now: Instant, effects: &mut Effects) {
        if !self.leads_to_peer(path) {
            return;
        }
        let address = path.to;
        if self.shard.of() > 1 && self.is_news(address, sign) {
            effects.push(Effect::Peer { address, sign });
        }
        self.peer_found(address, sign, now);
    }

    /// An answer in a call among others says nothing new.
    fn is_news(&self, address: SocketAddr, sign: PeerSign) -> bool {
        let health = self.peers.health.get(&address);
        let well = health.is_some_and(|h| h.answered.is_some() && h.failures == 0);
        !well || sign != PeerSign::Answered { rtt: None }
    }

    /// This shard or another has found something of an address.
    pub(super) fn peer_found(&mut self, address: SocketAddr, sign: PeerSign, now: Instant) {
        let Some((peer, _)) = self.peer_of(address) else {
            return;
        };
        let enough = peer.probe_failures;
        let health = self.peers.health.entry(address).or_default();
        let turned = match sign {
            PeerSign::Answered { rtt } => health.answer(rtt, now),
            PeerSign::Failed { why, wait } => health.fail(why, wait, enough, now),
        };
        if self.shard.is_first() {
            if let PeerSign::Failed { .. } = sign {
                self.counters.count("peer", "failed");
            }
            if turned {
                self.note_turned(address, sign, now);
            }
        }
    }

    fn note_turned(&mut self, address: SocketAddr, sign: PeerSign, now: Instant) {
        let peer = self.peer_of(address);
        let name = peer.map_or_else(String::new, |(peer, _)| peer.name.clone());
        let mut fields = vec![("address", address.to_string())];
        let (kind, which) = match sign {
            PeerSign::Answered { .. } => (Kind::PeerUp, "up"),
            PeerSign::Failed { why, .. } => {
                fields.push(("why", why.to_owned()));
                (Kind::PeerDown, "down")
            }
        };
        self.counters.count("peer", which);
        self.note(now, kind, name, fields);
    }

    /// Once a second: gives up on those that do not answer, and asks those that are due.
    pub(super) fn sweep_peers(&mut self, now: Instant, effects: &mut Effects) {
        let attempts = self.peers.attempts.iter();
        let silent: Vec<ClientKey> = attempts
            .filter(|(_, (_, sent))| now >= *sent + FAILOVER_AFTER)
            .map(|(key, _)| key.clone())
            .collect();
        for key in silent {
            if let Some((path, _)) = self.peers.attempts.remove(&key) {
                let invite = key.method[..] == *b"INVITE";
                let why = match invite {
                    true => "no answer to INVITE",
                    false => "no answer",
                };
                self.peer_failed(path, why, now, effects);
                let relay = self.relays.get(&key).map(|relay| &relay.purpose);
                match relay {
                    Some(Purpose::Invite { call, .. }) => {
                        self.fail_over(*call, &key, now, effects);
                    }
                    _ => self.pass_over(&key, now, effects),
                }
            }
        }
        if self.shard.is_first() {
            self.sweep_probes(now, effects);
        }
        let config = &self.config;
        let known = |at: &SocketAddr| config.sip.addresses().any(|(_, a)| a.address == *at);
        self.peers.health.retain(|address, _| known(address));
    }

    /// The next target, if there is one; else the INVITE may still be answered.
    fn fail_over(&mut self, call: CallKey, key: &ClientKey, now: Instant, effects: &mut Effects) {
        let setup = self.calls.get(&call).and_then(|call| call.setup.as_ref());
        if setup.is_some_and(|setup| !setup.targets.is_empty()) {
            self.invite_unanswered(call, key, 408, now, effects);
        }
    }

    /// Every address of every peer, in the order of the file.
    #[must_use]
    pub fn peers(&self, now: Instant) -> Vec<PeerView> {
        let each = self.config.sip.addresses();
        each.map(|(peer, address)| self.peer_view(peer, address, now))
            .collect()
    }

    fn peer_view(&self, peer: &Peer, address: PeerAddress, now: Instant) -> PeerView {
        let health = self.peers.health.get(&address.address);
        let health = health.copied().unwrap_or_default();
        let mut probed = self.peers.probes.values();
        let state = if health.is_down {
            "down"
        } else if !self.is_well(peer, address.address, now) {
            "away"
        } else if health.answered.is_some() {
            "up"
        } else if probed.any(|(path, _)| path.to == address.address) {
            "probing"
        } else {
            "unknown"
        };
        PeerView {
            name: peer.name.clone(),
            address,
            state,
            failures: health.failures,
            why: (health.failures > 0).then_some(health.why),
            answered: health.answered.map(|at| now.saturating_duration_since(at)),
            rtt: health.rtt,
        }
    }
}

/// RFC 3261 §20.33, without comment and parameters.
fn seconds(value: &[u8]) -> Option<Duration> {
    let text = text(value);
    let digits = text.trim().split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok().map(Duration::from_secs)
}
