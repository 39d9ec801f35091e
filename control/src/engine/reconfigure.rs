//! Another configuration under running calls: what is new serves the next message, what is gone
//! stays known to those who use it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use crate::config::{Auth, Config, Network};
use crate::effect::Effects;
use crate::engine::event::Kind;
use crate::engine::relay::REPEATS;
use crate::engine::{Engine, gate, register, shard};
use crate::id::{Aor, Listener, NetworkId, Path};
use crate::media::ours::Ours;
use crate::media::session::Session;
use crate::sip::index::Message;

/// What a running configuration no longer names.
#[derive(Debug, Default)]
pub(super) struct Former {
    /// Networks that calls or registrations still use.
    networks: Vec<Retired>,
    /// Addresses that were ours, and until when they count as ours.
    addresses: BTreeMap<IpAddr, Instant>,
    /// Sockets that were listened on, and until when at least they are.
    listeners: BTreeMap<Listener, Instant>,
    /// Ranges of media ports that were ours and that calls still hold ports of.
    ranges: Vec<PortNames>,
    /// Configurations applied, the first included.
    generation: u64,
}

/// By its own name and by the one peers are told.
#[derive(Debug, Eq, PartialEq)]
struct PortNames {
    own: (IpAddr, u16, u16),
    told: (IpAddr, u16, u16),
}

#[derive(Debug)]
struct Retired {
    network: Network,
    /// Until its address is forgotten, although nothing uses it.
    until: Instant,
}

/// What another configuration changes for those who are here.
#[derive(Debug)]
pub(super) struct Touched {
    pub(super) networks: Vec<String>,
    pub(super) calls: usize,
}

/// A network that is no longer configured but still in use.
#[derive(Clone, Debug)]
pub struct RetiredView {
    pub network: Network,
    /// Parties of calls in it.
    pub legs: usize,
    pub registrations: usize,
    /// Sockets that calls or adopted flows have open in it.
    pub media_sockets: usize,
}

impl Former {
    /// A network that is no longer configured.
    pub(super) fn network(&self, id: NetworkId) -> Option<&Network> {
        let mut former = self.networks.iter();
        former.find(|r| r.network.id == id).map(|r| &r.network)
    }
}

impl Engine {
    /// Another configuration, already checked against this one: the next message uses it. A network
    /// is the same as long as its address is, and its name or its ports are; then it keeps its
    /// number in the core. Any
    /// other is new. Running calls go on; those to be told are told in turn, none at once.
    pub fn reconfigure(&mut self, config: Config, now: Instant, effects: &mut Effects) {
        shard::reconfigure(&mut [(self, effects)], config, now);
    }

    /// Takes over a configuration whose networks are numbered. Returns what it touches.
    pub(super) fn take_over(
        &mut self,
        config: Arc<Config>,
        now: Instant,
        effects: &mut Effects,
    ) -> Touched {
        let old = std::mem::replace(&mut self.config, config);
        self.former.generation += 1;
        self.protection = shard::protection(&self.config.sip.protection, self.shard);
        self.retire(&old, now);
        self.configure_pools();
        self.registrar.set(register::settings(&self.config.sip));
        self.accounts = gate::places(&self.config.sip);
        if self.shard.is_first() {
            self.drop_former_accounts(&old, now);
            self.tell_registrations(now, effects);
        }
        let changed = self.told_otherwise(&old);
        let retired: Vec<NetworkId> = old
            .networks()
            .map(|(id, _)| id)
            .filter(|id| self.config.network(*id).is_none())
            .collect();
        let touched = [&changed[..], &retired].concat();
        let calls = self.touched_by(&touched);
        self.tell_calls(&changed, &retired, now);
        let names = touched.iter().filter_map(|id| self.network(*id));
        let networks = names.map(|network| network.name.clone()).collect();
        Touched { networks, calls }
    }

    pub(super) fn note_applied(&mut self, networks: &[String], calls: usize, now: Instant) {
        let fields = vec![
            ("generation", (self.former.generation + 1).to_string()),
            ("networks", networks.join(" ")),
            ("calls", calls.to_string()),
        ];
        let node = self.config.node.id.clone();
        self.note(now, Kind::ConfigurationApplied, node, fields);
    }

    /// A configured network, or a former one that is still in use.
    pub(super) fn network(&self, id: NetworkId) -> Option<&Network> {
        let configured = self.config.network(id);
        configured.or_else(|| self.former.network(id))
    }

    /// Where a request belongs: by the rule of the configuration; what comes to an address that was
    /// ours belongs to the network that took its place. What is part of a call is heard for as long
    /// as the call lasts.
    pub(super) fn network_of_request(
        &self,
        on: Listener,
        from: SocketAddr,
        message: &Message,
        now: Instant,
    ) -> Option<NetworkId> {
        let local = on.local.ip();
        if let Some(id) = self.config.network_of(local, from.ip()) {
            return Some(id);
        }
        let former = self.former_at(local)?;
        if self.is_former(local, now) {
            let heir = self.heir(&former.network);
            if let Some(id) = heir.or_else(|| self.config.network_to(from.ip())) {
                return Some(id);
            }
        }
        let known = message.to_tag().is_some() || matches!(message.cseq().1, b"CANCEL" | b"ACK");
        known.then_some(former.network.id)
    }

    /// The network at the near end of a path.
    pub(super) fn network_of_path(&self, path: Path) -> Option<NetworkId> {
        let local = path.on.local.ip();
        let configured = self.config.network_of(local, path.to.ip());
        configured.or_else(|| self.former_at(local).map(|r| r.network.id))
    }

    /// The network in which a party is called that was last seen in `id`, along `path`; none if
    /// that is no more.
    pub(super) fn home(&self, id: NetworkId, path: Path) -> Option<NetworkId> {
        if self.config.network(id).is_some() {
            return Some(id);
        }
        let heir = self.heir(self.network(id)?);
        let same_address = || self.config.network_of(path.on.local.ip(), path.to.ip());
        heir.or_else(same_address)
    }

    /// The network whose ports an address is one of.
    pub(super) fn network_at(&self, at: SocketAddr) -> Option<NetworkId> {
        let mut networks = self.networks_known();
        networks.find(|n| holds(n, at)).map(|network| network.id)
    }

    /// Whether an address was ours a short while ago.
    pub(super) fn is_former(&self, ip: IpAddr, now: Instant) -> bool {
        let until = self.former.addresses.get(&ip);
        until.is_some_and(|until| now < *until)
    }

    /// How many calls have a party in one of these networks.
    #[must_use]
    pub fn touched_by(&self, networks: &[NetworkId]) -> usize {
        let touched = |id: NetworkId| networks.contains(&id);
        let calls = self.calls.values();
        calls
            .filter(|call| call.legs().any(|leg| touched(leg.network)))
            .count()
    }

    /// The sockets that must be open: those configured, those that calls, registrations and
    /// requests under way still use, and those of an address that counts as ours.
    #[must_use]
    pub fn listeners_in_use(&self, now: Instant) -> BTreeSet<Listener> {
        let mut used: BTreeSet<Listener> = self.config.sip.listen.iter().copied().collect();
        let former = self.former.listeners.iter();
        used.extend(former.filter(|(_, until)| now < **until).map(|(on, _)| *on));
        let legs = self.calls.values().flat_map(|call| call.legs());
        used.extend(legs.map(|leg| leg.path.on));
        used.extend(self.registrar.iter().map(|(_, binding)| binding.path.on));
        used.extend(self.relays.values().map(|relay| relay.path.on));
        used
    }

    /// Networks that are no longer configured, but that calls or registrations still use: their
    /// addresses and interfaces must stay as they are.
    #[must_use]
    pub fn networks_retired(&self) -> Vec<RetiredView> {
        let view = |retired: &Retired| {
            let network = retired.network.clone();
            let id = network.id;
            let legs = self.calls.values().flat_map(|call| call.legs());
            let bindings = self.own_registrations();
            let adopted = self.adopted.keys();
            let adopted = adopted.filter(|at| self.network_at(**at) == Some(id));
            let sessions = self.calls.values().filter_map(|call| call.session.as_ref());
            let open = sessions.flat_map(Session::locals);
            let open = open.filter(|(network, _)| *network == id);
            RetiredView {
                legs: legs.filter(|leg| leg.network == id).count(),
                registrations: bindings.filter(|(_, b)| b.network == id).count(),
                media_sockets: adopted.count() + open.count(),
                network,
            }
        };
        self.former.networks.iter().map(view).collect()
    }

    /// Every media port of ours by every name, those of former ranges too while calls hold some.
    pub(super) fn all_ours(&self) -> Ours {
        let now = self.networks_known().map(PortNames::of);
        let names = |range: &PortNames| [range.own, range.told];
        let former = self.former.ranges.iter().flat_map(names);
        Ours::new(now.flat_map(|range| names(&range)).chain(former))
    }

    fn sweep_ranges(&mut self) {
        let sockets = &self.sockets;
        let before = self.former.ranges.len();
        self.former.ranges.retain(
            |PortNames {
                 own: (ip, first, last),
                 ..
             }| {
                let ports = SocketAddr::new(*ip, *first)..=SocketAddr::new(*ip, *last);
                sockets.range(ports).next().is_some()
            },
        );
        if self.former.ranges.len() < before {
            self.ours = Arc::new(self.all_ours());
        }
    }

    /// Forgets what nothing uses any more.
    pub(super) fn sweep_former(&mut self, now: Instant) {
        self.sweep_ranges();
        self.former.addresses.retain(|_, until| now < *until);
        if !self.former.listeners.is_empty() {
            let used = self.listeners_in_use(now);
            self.former.listeners.retain(|on, _| used.contains(on));
        }
        if self.former.networks.is_empty() {
            return;
        }
        let views = self.networks_retired();
        let unused = |v: &&RetiredView| v.legs + v.registrations + v.media_sockets == 0;
        let unused: BTreeSet<NetworkId> =
            views.iter().filter(unused).map(|v| v.network.id).collect();
        let is_over = |r: &mut Retired| r.until <= now && unused.contains(&r.network.id);
        for gone in self
            .former
            .networks
            .extract_if(.., is_over)
            .collect::<Vec<_>>()
        {
            let Network { id, name, .. } = gone.network;
            self.pools.remove(id);
            // Others may use it longer.
            let shard = self.shard.index().to_string();
            let fields = if self.shard.of() > 1 {
                vec![("shard", shard)]
            } else {
                Vec::new()
            };
            self.counters.count("network", "gone");
            self.note(now, Kind::NetworkGone, name, fields);
        }
    }

    pub(super) fn networks_known(&self) -> impl Iterator<Item = &Network> {
        let former = self.former.networks.iter().map(|r| &r.network);
        self.config.networks.iter().chain(former)
    }

    fn former_at(&self, local: IpAddr) -> Option<&Retired> {
        let mut former = self.former.networks.iter().rev();
        former.find(|r| r.network.address == local)
    }

    /// The configured network that has a former one's name.
    fn heir(&self, former: &Network) -> Option<NetworkId> {
        let mut networks = self.config.networks.iter();
        networks.find(|n| n.name == former.name).map(|n| n.id)
    }

    /// Keeps what `old` named and the configuration no longer does.
    fn retire(&mut self, old: &Config, now: Instant) {
        let until = now + self.config.sip.address_grace;
        for on in &old.sip.listen {
            // An answer may be repeated after the last use.
            self.former.listeners.insert(*on, until.max(now + REPEATS));
        }
        let listen = &self.config.sip.listen;
        self.former.listeners.retain(|on, _| !listen.contains(on));
        for network in &old.networks {
            for ip in [network.address, network.advertise, network.advertise_media] {
                self.former.addresses.insert(ip, until);
            }
        }
        for n in &self.config.networks {
            for ip in [n.address, n.advertise, n.advertise_media] {
                self.former.addresses.remove(&ip);
            }
        }
        let former = old.networks.iter().map(PortNames::of);
        let former: Vec<PortNames> = former
            .filter(|range| !self.former.ranges.contains(range))
            .collect();
        self.former.ranges.extend(former);
        let config = &self.config;
        // One that came back is configured again, with its old number.
        self.former
            .networks
            .retain(|r| config.network(r.network.id).is_none());
        for network in &old.networks {
            if self.config.network(network.id).is_some() {
                continue;
            }
            if self.shard.is_first() {
                self.counters.count("network", "retired");
                let fields = vec![("address", network.address.to_string())];
                self.note(now, Kind::NetworkRetired, network.name.clone(), fields);
            }
            let network = network.clone();
            self.former.networks.push(Retired { network, until });
        }
    }

    /// An account that is gone has no bindings; with `auth = none` nobody needs an account.
    fn drop_former_accounts(&mut self, old: &Config, now: Instant) {
        let sip = &self.config.sip;
        if sip.auth == Auth::None {
            return;
        }
        let stays = |user: &str| self.accounts.contains_key(user);
        let gone = old.sip.accounts.iter().filter(|a| !stays(&a.user));
        let gone: Vec<Aor> = gone.map(|a| Aor::new(&a.user, &sip.domain)).collect();
        for aor in gone {
            for _ in 0..self.registrar.remove(&aor) {
                self.counters.count("sip_registration", "account_removed");
                let why = vec![("why", "account removed".to_owned())];
                self.note(now, Kind::RegistrationEnded, aor.as_str(), why);
            }
        }
    }

    /// Networks whose peers are told something else than before.
    fn told_otherwise(&self, old: &Config) -> Vec<NetworkId> {
        let told = |network: &Network| {
            let offset =
                i32::from(network.advertise_ports.first) - i32::from(network.media_ports.first);
            (
                network.advertise,
                network.advertise_port,
                network.advertise_media,
                offset,
            )
        };
        let differs = |new: &&Network| {
            let old = old.network(new.id);
            old.is_some_and(|old| told(old) != told(new))
        };
        let networks = self.config.networks.iter().filter(differs);
        networks.map(|network| network.id).collect()
    }
}

impl PortNames {
    fn of(network: &Network) -> Self {
        let (own, told) = (network.media_ports, network.advertise_ports);
        Self {
            own: (network.address, own.first, own.last),
            told: (network.advertise_media, told.first, told.last),
        }
    }
}

/// Whether an address is one of a network's media ports.
fn holds(network: &Network, at: SocketAddr) -> bool {
    let ports = network.media_ports;
    network.address == at.ip() && (ports.first..=ports.last).contains(&at.port())
}
