//! Peers: which of their addresses are well, and where a request for one goes.

mod select;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::config::{Peer, PeerAddress};
use crate::effect::Effects;
use crate::engine::admin::{Refused, text};
use crate::engine::event::Kind;
use crate::engine::relay::Purpose;
use crate::engine::route::{Target, glob};
use crate::engine::{CallKey, Engine, MAX_FORWARDS};
use crate::id::Path;
use crate::sip::index::{Message, Name};
use crate::sip::transaction::ClientKey;
use crate::sip::vocabulary::{Method, NewRequest};

/// An INVITE that nobody answers goes to the next address after this long (RFC 3263 §4.3): three
/// times it was repeated.
const FAILOVER_AFTER: Duration = Duration::from_secs(4);
/// The same for a probe, which then counts as failed.
const PROBE_WAIT: Duration = Duration::from_secs(4);
/// An address that is down and not probed is tried again after this long.
const REST: Duration = Duration::from_secs(30);
/// A longer Retry-After is not believed.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// What is known of one address.
#[derive(Clone, Copy, Debug, Default)]
struct Health {
    /// In a row.
    failures: u32,
    /// The last of them.
    failed: Option<Instant>,
    why: &'static str,
    /// Since when it counts as down.
    down: Option<Instant>,
    /// It asked to be left alone (503 with Retry-After).
    away_until: Option<Instant>,
    answered: Option<Instant>,
    rtt: Option<Duration>,
    next_probe: Option<Instant>,
}

/// What waits for a peer.
#[derive(Default)]
pub(super) struct Peers {
    health: BTreeMap<SocketAddr, Health>,
    probes: BTreeMap<ClientKey, (SocketAddr, Instant)>,
    /// INVITEs without any response yet.
    attempts: BTreeMap<ClientKey, (SocketAddr, CallKey, Instant)>,
}

/// One address of a peer, as an operator sees it.
#[derive(Clone, Debug)]
pub struct PeerView {
    pub name: String,
    pub address: PeerAddress,
    /// `up`, `down`, `away`, `probing` (down or never heard, and asked) or `unknown`.
    pub state: &'static str,
    /// Failures in a row.
    pub failures: u32,
    pub why: Option<&'static str>,
    pub answered: Option<Duration>,
    pub rtt: Option<Duration>,
}

impl Engine {
    /// Places to try for a user that peers are asked for, best first; none if no peer has a route
    /// for it. Addresses that are down are left out.
    pub(super) fn peer_targets(&self, user: &str, now: Instant) -> Option<Vec<Target>> {
        let matches = |pattern: &String| glob(pattern.as_bytes(), user.as_bytes());
        let peers = self.config.sip.peers.iter();
        let mut asked = peers.filter(|p| p.routes.iter().any(matches)).peekable();
        asked.peek()?;
        let mut turn = 0_u64;
        let mut random = || {
            turn += 1;
            let parts = [&self.next_call.to_be_bytes()[..], &turn.to_be_bytes()];
            u64::from_str_radix(&self.names.name_of(&parts), 16).unwrap_or_default()
        };
        let mut targets = Vec::new();
        for peer in asked {
            let well = |a: &PeerAddress| self.is_well(peer, a.address, now);
            let well = peer.addresses.iter().copied().filter(well);
            let ordered = select::order(well, &mut random);
            let found = ordered.iter().filter_map(|a| {
                Some(Target {
                    uri: format!("sip:{user}@{}", a.address).into(),
                    path: self.way_to_address(a.address)?,
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

    fn way_to_address(&self, to: SocketAddr) -> Option<Path> {
        let on = self.listener(self.config.network_to(to.ip())?)?;
        Some(Path { on, to })
    }

    fn is_well(&self, peer: &Peer, address: SocketAddr, now: Instant) -> bool {
        let Some(health) = self.peers.health.get(&address) else {
            return true;
        };
        let rested = health.failed.is_none_or(|failed| now >= failed + REST);
        health.away_until.is_none_or(|until| now >= until)
            && (health.down.is_none() || (peer.probe.is_zero() && rested))
    }

    /// The peer that has this address.
    pub(super) fn peer_of(&self, address: SocketAddr) -> Option<&Peer> {
        let has = |peer: &&Peer| peer.addresses.iter().any(|a| a.address == address);
        self.config.sip.peers.iter().find(has)
    }

    /// The peer that is trusted by this source.
    pub(super) fn peer_from(&self, ip: IpAddr) -> Option<&Peer> {
        self.config.sip.peers.iter().find(|peer| {
            peer.addresses.iter().any(|a| a.address.ip() == ip)
                || peer.sources.iter().any(|net| net.contains(&ip))
        })
    }

    /// An INVITE of a call left for an address.
    pub(super) fn attempted(
        &mut self,
        client: &ClientKey,
        to: SocketAddr,
        call: CallKey,
        now: Instant,
    ) {
        if self.peer_of(to).is_some() {
            self.peers.attempts.insert(client.clone(), (to, call, now));
        }
    }

    /// A response came: whoever sends one is there, unless it says that it cannot serve.
    pub(super) fn peer_answered(
        &mut self,
        key: &ClientKey,
        from: SocketAddr,
        code: u16,
        message: &Message,
        now: Instant,
    ) {
        self.peers.attempts.remove(key);
        let probe = self.peers.probes.remove(key);
        let Some(peer) = self.peer_of(from) else {
            return;
        };
        if code == 503 {
            let wait = message.get(Name::RetryAfter).and_then(seconds);
            return self.peer_failed(from, "503", wait, now);
        }
        let name = peer.name.clone();
        let health = self.peers.health.entry(from).or_default();
        (health.failures, health.failed, health.away_until) = (0, None, None);
        health.answered = Some(now);
        if let Some((_, sent)) = probe {
            health.rtt = Some(now.saturating_duration_since(sent));
        }
        if health.down.take().is_some() {
            self.counters.count("peer", "up");
            let fields = vec![("address", from.to_string())];
            self.note(now, Kind::PeerUp, name, fields);
        }
    }

    /// An address gave no answer, or none that helps.
    pub(super) fn peer_failed(
        &mut self,
        address: SocketAddr,
        why: &'static str,
        wait: Option<Duration>,
        now: Instant,
    ) {
        let Some(peer) = self.peer_of(address) else {
            return;
        };
        let (name, enough) = (peer.name.clone(), peer.probe_failures);
        self.counters.count("peer", "failed");
        let health = self.peers.health.entry(address).or_default();
        health.failures = health.failures.saturating_add(1);
        (health.failed, health.why) = (Some(now), why);
        health.away_until = wait.map(|wait| now + wait.min(RETRY_AFTER_MAX));
        if health.failures >= enough && health.down.is_none() {
            health.down = Some(now);
            self.counters.count("peer", "down");
            let fields = vec![("address", address.to_string()), ("why", why.to_owned())];
            self.note(now, Kind::PeerDown, name, fields);
        }
    }

    /// Once a second: asks those that are due, and gives up on those that do not answer.
    pub(super) fn sweep_peers(&mut self, now: Instant, effects: &mut Effects) {
        let late = |sent: &Instant, wait| now >= *sent + wait;
        let probes = self.peers.probes.iter();
        let silent: Vec<ClientKey> = probes
            .filter(|(_, (_, sent))| late(sent, PROBE_WAIT))
            .map(|(key, _)| key.clone())
            .collect();
        for key in silent {
            if let Some((address, _)) = self.peers.probes.remove(&key) {
                self.transactions.forget_client(&key);
                self.relays.remove(&key);
                self.peer_failed(address, "no answer to OPTIONS", None, now);
            }
        }
        let attempts = self.peers.attempts.iter();
        let silent: Vec<ClientKey> = attempts
            .filter(|(_, (_, _, sent))| late(sent, FAILOVER_AFTER))
            .map(|(key, _)| key.clone())
            .collect();
        for key in silent {
            if let Some((address, call, _)) = self.peers.attempts.remove(&key) {
                self.peer_failed(address, "no answer to INVITE", None, now);
                self.fail_over(call, &key, now, effects);
            }
        }
        let peers = self.config.sip.peers.iter();
        let probed = peers.filter(|peer| !peer.probe.is_zero());
        let each = probed.flat_map(|p| p.addresses.iter().map(|a| (a.address, p.probe)));
        for (address, every) in each.collect::<Vec<_>>() {
            let health = self.peers.health.entry(address).or_default();
            if health.next_probe.is_none_or(|at| now >= at) {
                health.next_probe = Some(now + every);
                self.probe(address, now, effects);
            }
        }
        let peers = self.config.sip.peers.iter();
        let known: Vec<SocketAddr> = peers
            .flat_map(|peer| peer.addresses.iter().map(|a| a.address))
            .collect();
        self.peers
            .health
            .retain(|address, _| known.contains(address));
    }

    /// The next target, if there is one; else the INVITE may still be answered.
    fn fail_over(&mut self, call: CallKey, key: &ClientKey, now: Instant, effects: &mut Effects) {
        let setup = self.calls.get(&call).and_then(|call| call.setup.as_ref());
        if setup.is_some_and(|setup| !setup.targets.is_empty()) {
            self.invite_unanswered(call, key, now, effects);
        }
    }

    /// RFC 3261 §11: whoever answers OPTIONS, with whatever it may be, is there.
    fn probe(&mut self, address: SocketAddr, now: Instant, effects: &mut Effects) {
        let Some(path) = self.way_to_address(address) else {
            return;
        };
        let Some(network) = self.config.network_to(address.ip()) else {
            return;
        };
        let branch = self.names.branch();
        let Some(via) = self.via(network, path, &branch) else {
            return;
        };
        let (tag, call_id) = (self.names.token(), self.names.token());
        let domain = &self.config.sip.domain;
        let bytes = NewRequest {
            method: Method::Options,
            uri: format!("sip:{address}").as_bytes(),
            via: via.as_bytes(),
            from: format!("<sip:{domain}>;tag={tag}").as_bytes(),
            to: format!("<sip:{address}>").as_bytes(),
            call_id: format!("{call_id}@{domain}").as_bytes(),
            cseq: 1,
            max_forwards: MAX_FORWARDS,
            contact: None,
            routes: &[],
            extra: &[],
            body: None,
        }
        .build();
        self.counters.count("peer", "probed");
        if let Some(key) = self.launch(branch, bytes, path, Purpose::Own, now, effects) {
            self.peers.probes.insert(key, (address, now));
        }
    }

    /// # Errors
    /// There is no such peer.
    pub(super) fn probe_now(
        &mut self,
        name: &str,
        now: Instant,
        effects: &mut Effects,
    ) -> Result<(), Refused> {
        let peer = self.config.sip.peers.iter().find(|p| p.name == name);
        let addresses = peer.ok_or(Refused::NoSuchPeer)?.addresses.clone();
        for address in addresses {
            self.probe(address.address, now, effects);
        }
        Ok(())
    }

    /// Every address of every peer, in the order of the file.
    #[must_use]
    pub fn peers(&self, now: Instant) -> Vec<PeerView> {
        let peers = self.config.sip.peers.iter();
        let each = peers.flat_map(|peer| peer.addresses.iter().map(move |a| (peer, *a)));
        each.map(|(peer, address)| self.peer_view(peer, address, now))
            .collect()
    }

    fn peer_view(&self, peer: &Peer, address: PeerAddress, now: Instant) -> PeerView {
        let health = self.peers.health.get(&address.address);
        let health = health.copied().unwrap_or_default();
        let mut probed = self.peers.probes.values();
        let probing = probed.any(|(at, _)| *at == address.address);
        let state = match health {
            _ if !self.is_well(peer, address.address, now) && health.down.is_none() => "away",
            Health { down: Some(_), .. } if probing => "probing",
            Health { down: Some(_), .. } => "down",
            Health {
                answered: Some(_), ..
            } => "up",
            _ if probing => "probing",
            _ => "unknown",
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
