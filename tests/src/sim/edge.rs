//! The edge under test: the real engine, its effects performed in the virtual network. Media takes
//! the path it takes in the daemon: the kernel's table first if there is one, then the userspace
//! rule, then the engine. There may be several engines; each message goes to the one it belongs to.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::flow::{Flags, Flow, Hop, Rewrite};
use common::forward::Action;
use common::map::{Port, SLOT_NONE, Settings, port_index};
use common::wire::{Be16, Ip};
use control::config::{Config, Network};
use control::effect;
use control::effect::{CallRecord, Effect, Effects, Kept, Record, Rule};
use control::engine::admin::{CallView, Command, Totals};
use control::engine::input::{Activity, Input};
use control::engine::journal;
use control::engine::shard::{self, Shards};
use control::engine::{Counters, Engine, Load};
use control::id::{Listener, NetworkId, Path, Shard};
use control::media::port::QUARANTINE;
use control::nat::packet as media;

use super::Packet;
use super::sdp::Description;
use crate::frame::{self, Datagram};
use crate::table::Table;

/// How often carried flows are reported to the engine, as in the daemon.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// What carries media.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Datapath {
    /// Userspace sockets alone.
    Sockets,
    /// Frames through `common::forward`, sockets behind it.
    Frames,
}

pub struct Edge {
    /// The first; in most scenarios the only one.
    pub engine: Engine,
    others: Vec<Engine>,
    shards: Shards,
    started: Instant,
    listeners: BTreeMap<SocketAddr, Listener>,
    sockets: BTreeMap<SocketAddr, NetworkId>,
    /// When a socket was closed last: it rests for a while.
    closed: BTreeMap<SocketAddr, Instant>,
    /// Bodies that were sent: a repeat may say what was true when it was new.
    told: BTreeSet<u64>,
    /// The engine was asked something since the last check.
    touched: bool,
    /// The first thing that was sent and must not have been.
    wrong: Option<String>,
    /// It had another configuration before.
    reconfigured: bool,
    /// Calls of an earlier process get their ports back, whichever range they are from.
    restoring: bool,
    /// What was counted before it was restarted.
    former: Counters,
    rules: BTreeMap<SocketAddr, Rule>,
    kernel: Option<Kernel>,
    /// Flows that carried packets since the last report.
    carried: BTreeMap<SocketAddr, Activity>,
    next_report: Instant,
    /// Calls that ended.
    pub records: Vec<CallRecord>,
    /// What outlives the daemon.
    pub kept: BTreeMap<(effect::Table, Bytes), Record>,
    /// Connections of TCP and TLS: in order and without loss if the link between is so.
    connections: BTreeSet<Path>,
    /// Peers that do not listen for connections.
    pub deaf: BTreeSet<SocketAddr>,
    /// Addresses that cannot be bound.
    pub unbindable: BTreeSet<SocketAddr>,
    pub count: Count,
}

/// What became of media packets.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Count {
    pub kernel: u64,
    pub userspace: u64,
    /// Dropped by the kernel's table.
    pub dropped: u64,
    /// Given to the engine.
    pub unclaimed: u64,
    /// To a port nobody listens on.
    pub closed: u64,
}

impl Edge {
    /// An edge whose names follow from `seed`.
    #[must_use]
    pub fn new(config: Config, seed: u64, datapath: Datapath, now: Instant) -> Self {
        Self::sharded(config, seed, datapath, 1, now)
    }

    /// The same with several engines.
    ///
    /// # Panics
    /// If there is to be none.
    #[must_use]
    pub fn sharded(
        config: Config,
        seed: u64,
        datapath: Datapath,
        shards: u16,
        now: Instant,
    ) -> Self {
        let mut whole = [0; 32];
        for (byte, seed) in whole.iter_mut().zip(seed.to_be_bytes()) {
            *byte = seed;
        }
        Self::begin(config, whole, datapath, shards, now)
    }

    fn begin(
        config: Config,
        whole: [u8; 32],
        datapath: Datapath,
        shards: u16,
        now: Instant,
    ) -> Self {
        let listen = config.sip.listen.iter().map(|l| (l.local, *l)).collect();
        let kernel = (datapath == Datapath::Frames).then(|| Kernel::new(&config));
        let config = Arc::new(config);
        let engine = |shard| Engine::shard(config.clone(), whole, shard, now);
        let mut engines: Vec<Engine> = Shard::all(shards).map(engine).collect();
        shard::share(engines.iter_mut());
        let mut engines = engines.into_iter();
        Self {
            engine: engines.next().expect("one at least"),
            others: engines.collect(),
            shards: shard::shards(whole, shards),
            started: now,
            listeners: listen,
            sockets: BTreeMap::new(),
            closed: BTreeMap::new(),
            told: BTreeSet::new(),
            touched: true,
            wrong: None,
            reconfigured: false,
            restoring: false,
            former: Counters::default(),
            rules: BTreeMap::new(),
            kernel,
            carried: BTreeMap::new(),
            next_report: now + REPORT_EVERY,
            records: Vec::new(),
            kept: BTreeMap::new(),
            connections: BTreeSet::new(),
            deaf: BTreeSet::new(),
            unbindable: BTreeSet::new(),
            count: Count::default(),
        }
    }

    /// A packet for one of our addresses; answers go into `out`.
    pub fn receive(&mut self, packet: Packet, now: Instant, out: &mut Vec<Packet>) {
        match self.listeners.get(&packet.to) {
            Some(on) => {
                let (on, from, bytes) = (*on, packet.from, packet.bytes);
                let path = Path { on, to: from };
                // The first message makes the connection.
                if on.transport.is_reliable() && self.connections.insert(path) {
                    self.tell_all(&Input::Connected(path), now, out);
                }
                let shard = self.shards.of(&bytes);
                self.input(shard, Input::Sip { on, from, bytes }, now, out);
            }
            None => self.media(packet, now, out),
        }
    }

    /// A connection breaks.
    ///
    /// # Panics
    /// If there is none.
    pub fn cut(&mut self, path: Path, now: Instant, out: &mut Vec<Packet>) {
        assert!(self.connections.remove(&path), "{path:?} is not connected");
        self.tell_all(&Input::Closed(path), now, out);
    }

    #[must_use]
    pub fn next_timeout(&self) -> Instant {
        let timeouts = self.engines().map(Engine::next_timeout);
        timeouts.fold(self.next_report, Instant::min)
    }

    pub fn expire(&mut self, now: Instant, out: &mut Vec<Packet>) {
        if now >= self.next_report {
            self.next_report = now + REPORT_EVERY;
            let carried: Vec<_> = std::mem::take(&mut self.carried).into_values().collect();
            for shard in self.all() {
                let its = |a: &&Activity| shard.owns_port(a.at.port());
                let carried = carried.iter().filter(its).copied().collect();
                self.input(shard.index(), Input::Active(carried), now, out);
            }
        }
        for shard in self.all() {
            let engine = self.engine_mut(shard.index());
            if now >= engine.next_timeout() {
                let mut effects = Effects::new();
                engine.expire(now, &mut effects);
                self.touched = true;
                self.perform(shard.index(), effects, now, out);
            }
        }
    }

    /// The administrator's order; false if it was refused.
    pub fn command(&mut self, command: Command, now: Instant, out: &mut Vec<Packet>) -> bool {
        let owner = self.all().find(|shard| match &command {
            Command::DropRegistration { .. } => shard.is_first(),
            Command::HangUp { call }
            | Command::SetMedia { call, .. }
            | Command::Refresh { call } => shard.owns_number(*call),
            Command::Ban { .. }
            | Command::Unban { .. }
            | Command::Drain { .. }
            | Command::Undrain
            | Command::ProbePeer { .. } => shard.is_first(),
        });
        let Some(shard) = owner.map(Shard::index) else {
            return false;
        };
        let mut effects = Effects::new();
        let engine = self.engine_mut(shard);
        let done = engine.command(command, now, &mut effects).is_ok();
        self.touched = true;
        self.perform(shard, effects, now, out);
        done
    }

    /// Another configuration, as the daemon takes it over.
    pub fn reconfigure(&mut self, config: Config, now: Instant, out: &mut Vec<Packet>) {
        if let Some(kernel) = &mut self.kernel {
            kernel.learn(&config);
        }
        let mut effects = vec![Effects::new(); self.all().count()];
        let engines = std::iter::once(&mut self.engine).chain(&mut self.others);
        let mut shards: Vec<_> = engines.zip(&mut effects).collect();
        shard::reconfigure(&mut shards, config, now);
        self.reconfigured = true;
        let listeners = self.engines().flat_map(|e| e.listeners_in_use(now));
        self.listeners = listeners.map(|on| (on.local, on)).collect();
        self.touched = true;
        for (shard, effects) in effects.into_iter().enumerate() {
            self.perform(shard, effects, now, out);
        }
    }

    fn all(&self) -> impl Iterator<Item = Shard> + use<> {
        Shard::all(self.shards.count())
    }

    fn engines(&self) -> impl Iterator<Item = &Engine> {
        std::iter::once(&self.engine).chain(&self.others)
    }

    fn engine_mut(&mut self, shard: usize) -> &mut Engine {
        match shard.checked_sub(1) {
            None => &mut self.engine,
            Some(other) => self.others.get_mut(other).expect("a shard there is"),
        }
    }

    /// Of all engines.
    #[must_use]
    pub fn calls(&self, now: Instant) -> Vec<CallView> {
        self.engines()
            .flat_map(|engine| engine.calls(now))
            .collect()
    }

    /// Of all engines.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut sum = self.former.clone();
        self.engines().for_each(|engine| sum.add(engine.counters()));
        sum
    }

    /// Of all engines.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals::sum(self.engines().map(Engine::totals))
    }

    /// The daemon dies, and another begins with what was kept.
    pub fn restart(&mut self, config: Config, now: Instant, out: &mut Vec<Packet>) {
        let mut seed = [0xa5; 32];
        for (byte, part) in seed.iter_mut().zip(self.engine.last_event().to_be_bytes()) {
            *byte ^= part;
        }
        let datapath = match self.kernel {
            Some(_) => Datapath::Frames,
            None => Datapath::Sockets,
        };
        let kept = std::mem::take(&mut self.kept);
        let records = std::mem::take(&mut self.records);
        let former = self.counters();
        let unbindable = std::mem::take(&mut self.unbindable);
        let whose = self.shards;
        *self = Self {
            kept: kept.clone(),
            records,
            unbindable,
            former,
            restoring: true,
            ..Self::begin(config, seed, datapath, self.shards.count(), now)
        };
        self.shards = whose;
        let engines = std::iter::once(&mut self.engine).chain(&mut self.others);
        engines.for_each(|engine| engine.route_by(whose));
        let records = kept.into_iter();
        let records = records.map(|((table, key), record)| Kept { table, key, record });
        let (calls, others): (Vec<_>, Vec<_>) =
            records.partition(|kept| kept.table == effect::Table::Calls);
        let first = Shard::ONLY.index();
        let (bans, others): (Vec<_>, Vec<_>) = others
            .into_iter()
            .partition(|kept| kept.table == effect::Table::Bans);
        self.tell_all(&Input::Restored(bans), now, out);
        self.input(first, Input::Restored(others), now, out);
        for shard in self.all() {
            let own =
                |kept: &&Kept| journal::call_of(&kept.key).is_some_and(|n| shard.owns_number(n));
            let own = calls.iter().filter(own).cloned().collect();
            self.input(shard.index(), Input::Restored(own), now, out);
        }
        self.restoring = false;
    }

    /// Whether a media port is open.
    #[must_use]
    pub fn has_open(&self, at: SocketAddr) -> bool {
        self.sockets.contains_key(&at)
    }

    /// What must hold after every event, if the engine had a part in it.
    ///
    /// # Errors
    /// What does not.
    pub fn check_touched(&mut self, now: Instant) -> Result<(), String> {
        if !std::mem::take(&mut self.touched) {
            return Ok(());
        }
        if let Some(what) = self.wrong.take() {
            return Err(what);
        }
        self.check()?;
        self.check_kept()?;
        self.check_ports(now)?;
        self.check_replicas(now)
    }

    /// Every engine knows the registrations of the first.
    fn check_replicas(&self, now: Instant) -> Result<(), String> {
        if self.others.is_empty() {
            return Ok(());
        }
        let all = self.engine.registrations(now);
        for other in &self.others {
            let same = all.iter().all(|view| {
                let (ours, theirs) = (self.engine.bindings(&view.aor), other.bindings(&view.aor));
                Arc::ptr_eq(&ours, &theirs)
            });
            if !same || other.registrations(now).len() != all.len() {
                return Err(format!(
                    "an engine knows {:#?}, the first has {all:#?}",
                    other.registrations(now)
                ));
            }
        }
        Ok(())
    }

    /// What was installed and opened is what calls want; flows begin and end at open sockets, and
    /// none leads back to us.
    ///
    /// # Errors
    /// The difference.
    pub fn check(&self) -> Result<(), String> {
        let wanted = self.engines().flat_map(Engine::flows_wanted).collect();
        let sockets = self.engines().flat_map(Engine::sockets_wanted).collect();
        let (wanted, sockets): (BTreeMap<_, _>, BTreeSet<_>) = (wanted, sockets);
        if self.rules != wanted {
            return Err(format!("installed {:?}, wanted {wanted:?}", self.rules));
        }
        if !self.sockets.keys().eq(&sockets) {
            return Err(format!("open {:?}, wanted {sockets:?}", self.sockets));
        }
        for (at, rule) in &self.rules {
            let open = |at| self.sockets.contains_key(at);
            if !open(at) || !open(&rule.source) {
                return Err(format!("a flow without its sockets: {at} {rule:?}"));
            }
            if self.is_own(rule.target) || self.is_own(rule.peer) {
                return Err(format!("a flow between sockets of ours: {at} {rule:?}"));
            }
        }
        self.check_loads()?;
        match &self.kernel {
            Some(kernel) if !kernel.holds(&self.rules) => Err("the kernel's table differs".into()),
            Some(_) | None => Ok(()),
        }
    }

    /// No network carries more than it may. Another configuration may find it otherwise.
    fn check_loads(&self) -> Result<(), String> {
        let within = |limit: Option<u32>, now| limit.is_none_or(|limit| now <= u64::from(limit));
        let over = self.engine.config().networks().find(|(id, network)| {
            let load = self.engine.network_load(*id);
            let limits = network.limits;
            !(within(limits.calls, load.calls) && within(limits.bandwidth, load.bandwidth))
        });
        match over.filter(|_| !self.reconfigured) {
            Some((id, network)) => {
                let load = self.engine.network_load(id);
                Err(format!("{} carries {load:?}", network.name))
            }
            None => Ok(()),
        }
    }

    /// What would be restored is what there is.
    fn check_kept(&self) -> Result<(), String> {
        let kept = self.kept.keys();
        let kept = kept.filter(|(table, _)| *table == effect::Table::Registrations);
        let kept: BTreeSet<&[u8]> = kept.map(|(_, key)| &key[..]).collect();
        let aors = self.engine.registered();
        let there: BTreeSet<&[u8]> = aors.map(|aor| aor.as_str().as_bytes()).collect();
        if kept == there {
            return Ok(());
        }
        Err(format!("{kept:?} is kept, {there:?} is registered"))
    }

    /// Pairs that a network has taken are pairs whose sockets it has open.
    fn check_ports(&self, now: Instant) -> Result<(), String> {
        let mut open: BTreeMap<NetworkId, usize> = BTreeMap::new();
        for (at, network) in &self.sockets {
            if at.port() % 2 == 0 {
                *open.entry(*network).or_default() += 1;
            }
        }
        let networks = self.engine.config().networks().map(|(id, _)| id);
        let ids: BTreeSet<NetworkId> = networks.chain(open.keys().copied()).collect();
        for id in ids {
            let (taken, open) = (self.ports_used(id.0, now), open.get(&id).copied());
            if taken != open.unwrap_or(0) {
                return Err(format!(
                    "{id:?}: {taken} pairs are taken, {open:?} are open"
                ));
            }
        }
        Ok(())
    }

    /// An open socket of ours, by either of its names.
    fn is_own(&self, at: SocketAddr) -> bool {
        if self.sockets.contains_key(&at) {
            return true;
        }
        self.networks().into_iter().any(|network| {
            let local = SocketAddr::new(network.address, at.port());
            network.advertise_media == at.ip() && self.sockets.get(&local) == Some(&network.id)
        })
    }

    /// Those of the configuration, and those that only calls still use.
    fn networks(&self) -> Vec<Network> {
        let configured = self.engine.config().networks.iter().cloned();
        let retired = self.engines().map(Engine::networks_retired);
        let retired = shard::retired(retired).into_iter();
        configured.chain(retired.map(|view| view.network)).collect()
    }

    /// Addresses a party is told lead to open sockets of ours, by the name its network has now.
    fn check_told(&mut self, bytes: &[u8]) -> Result<(), String> {
        let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else {
            return Ok(());
        };
        let (head, body) = bytes.split_at(at + 4);
        let is_sdp = head.windows(15).any(|w| w == b"application/sdp");
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        if !is_sdp || body.is_empty() || !self.told.insert(hasher.finish()) {
            return Ok(());
        }
        let Some(sdp) = Description::read(body) else {
            return Ok(());
        };
        for line in sdp.lines {
            let nowhere = line.at.port() == 0 || line.at.ip().is_unspecified();
            if !nowhere && !self.is_own(line.at) {
                let text = String::from_utf8_lossy(bytes);
                return Err(format!(
                    "{} is told, and no socket of ours:\n{text}",
                    line.at
                ));
            }
        }
        Ok(())
    }

    /// What must hold once every call has ended and every transaction is over.
    ///
    /// # Errors
    /// What is left.
    pub fn check_empty(&self, now: Instant) -> Result<(), String> {
        self.check()?;
        let totals = self.totals();
        let networks = self.engine.config().networks();
        let ports: usize = networks.map(|(id, _)| self.ports_used(id.0, now)).sum();
        let networks = self.engine.config().networks();
        let loads = networks.map(|(id, _)| self.engine.network_load(id));
        let peers = self.engine.config().sip.peers.iter();
        let peers = peers.map(|peer| self.engine.peer_load(&peer.name));
        let held = loads.chain(peers).filter(|load| *load != Load::default());
        let left = [
            ("places in use", held.count()),
            ("kept calls", self.kept_calls()),
            ("calls", totals.calls),
            ("transactions", totals.transactions),
            ("flows", self.rules.len()),
            ("sockets", self.sockets.len()),
            ("ports", ports),
        ];
        match left.iter().find(|(_, count)| *count > 0) {
            Some((what, count)) => Err(format!("{count} {what} are left")),
            None => Ok(()),
        }
    }

    /// Records of calls that would be restored.
    #[must_use]
    pub fn kept_calls(&self) -> usize {
        let calls = |(table, _): &&(effect::Table, Bytes)| *table == effect::Table::Calls;
        self.kept.keys().filter(calls).count()
    }

    #[must_use]
    pub fn flows(&self) -> &BTreeMap<SocketAddr, Rule> {
        &self.rules
    }

    #[must_use]
    pub fn sockets(&self) -> &BTreeMap<SocketAddr, NetworkId> {
        &self.sockets
    }

    #[must_use]
    pub fn ports_used(&self, network: u16, now: Instant) -> usize {
        let used = |engine: &Engine| engine.ports_used(NetworkId(network), now);
        self.engines().map(used).sum()
    }

    /// Something that every engine must know.
    fn tell_all(&mut self, input: &Input, now: Instant, out: &mut Vec<Packet>) {
        for shard in self.all() {
            self.input(shard.index(), input.clone(), now, out);
        }
    }

    fn input(&mut self, shard: usize, input: Input, now: Instant, out: &mut Vec<Packet>) {
        let mut effects = Effects::new();
        self.engine_mut(shard).handle(input, now, &mut effects);
        self.touched = true;
        self.perform(shard, effects, now, out);
    }

    /// In order; what fails comes back as input, after the effects it came with.
    fn perform(&mut self, shard: usize, mut effects: Effects, now: Instant, out: &mut Vec<Packet>) {
        while !effects.is_empty() {
            for effect in std::mem::take(&mut effects) {
                match effect {
                    Effect::Send { on, to, bytes } => {
                        let from = on.local;
                        let path = Path { on, to };
                        if on.transport.is_reliable() && !self.connections.contains(&path) {
                            let unsent = Input::Unsent { path, bytes };
                            self.engine.handle(unsent, now, &mut effects);
                            continue;
                        }
                        if let Err(what) = self.check_told(&bytes) {
                            self.wrong.get_or_insert(what);
                        }
                        let owner = self.shards.of(&bytes);
                        if owner != shard && bytes.len() > 4 {
                            let text = String::from_utf8_lossy(&bytes);
                            let what =
                                format!("what {shard} sends is answered to {owner}:\n{text}");
                            self.wrong.get_or_insert(what);
                        }
                        if on.transport.is_reliable() && self.deaf.contains(&to) {
                            // What waits for a connection is lost with it.
                            self.connections.remove(&path);
                            self.tell_all(&Input::Closed(path), now, out);
                            continue;
                        }
                        out.push(Packet { from, to, bytes });
                    }
                    Effect::Dial { on, to, .. } => {
                        let path = Path { on, to };
                        self.connections.insert(path);
                        if !self.deaf.contains(&to) {
                            self.engine
                                .handle(Input::Connected(path), now, &mut effects);
                        }
                    }
                    Effect::Open { at, network } => {
                        self.open(at, network, now);
                        if self.unbindable.contains(&at) {
                            let failed = Input::OpenFailed { at };
                            let engine = self.engine_mut(shard);
                            engine.handle(failed, now, &mut effects);
                        }
                    }
                    Effect::Close { at } => {
                        assert!(!self.rules.contains_key(&at), "{at} is closed under a flow");
                        let open = self.sockets.remove(&at);
                        assert!(open.is_some(), "{at} is closed, and was not open");
                        self.closed.insert(at, now);
                    }
                    Effect::Install { at, rule } => self.install(at, rule),
                    Effect::Remove { at } => {
                        assert!(
                            self.rules.remove(&at).is_some(),
                            "no flow to remove at {at}"
                        );
                        if let Some(kernel) = &mut self.kernel {
                            kernel.remove(at);
                        }
                    }
                    Effect::KeepAlive { at, to } => {
                        assert!(self.sockets.contains_key(&at), "{at} is not open");
                        let bytes = Bytes::new();
                        out.push(Packet {
                            from: at,
                            to,
                            bytes,
                        });
                    }
                    Effect::Forward { at, to, bytes } => {
                        assert!(self.sockets.contains_key(&at), "{at} is not open");
                        let from = at;
                        out.push(Packet { from, to, bytes });
                    }
                    // The simulated network has no TCP.
                    Effect::Listen { .. } | Effect::Unlisten { .. } => {}
                    Effect::Publish { aor } => {
                        let bindings = self.engine.bindings(&aor);
                        for other in &mut self.others {
                            let (aor, bindings) = (aor.clone(), bindings.clone());
                            let mut none = Effects::new();
                            other.handle(Input::Published { aor, bindings }, now, &mut none);
                            assert!(none.is_empty(), "a replica does nothing: {none:?}");
                        }
                    }
                    Effect::Ban { net, account, why } => {
                        for other in self.all().map(Shard::index).filter(|other| *other != shard) {
                            let account = account.clone();
                            let told = Input::Banned { net, account, why };
                            self.input(other, told, now, out);
                        }
                    }
                    Effect::Peer { address, sign } => {
                        for other in self.all().map(Shard::index).filter(|other| *other != shard) {
                            let told = Input::Peer { address, sign };
                            let mut none = Effects::new();
                            self.engine_mut(other).handle(told, now, &mut none);
                            assert!(none.is_empty(), "what is told is not told on: {none:?}");
                        }
                    }
                    Effect::Spent(spent) => {
                        for other in self.all().map(Shard::index).filter(|other| *other != shard) {
                            self.input(other, Input::Spent(spent), now, out);
                        }
                    }
                    Effect::Record(record) => self.records.push(record),
                    Effect::Store { table, key, record } => match record {
                        Some(record) => drop(self.kept.insert((table, key), record)),
                        None => drop(self.kept.remove(&(table, key))),
                    },
                }
            }
        }
    }

    /// In the range of its network, and long after it was closed last.
    fn open(&mut self, at: SocketAddr, id: NetworkId, now: Instant) {
        let network = self.networks().into_iter().find(|network| network.id == id);
        let fits = network.as_ref().is_some_and(|n| {
            let ports = n.media_ports.first..=n.media_ports.last;
            n.address == at.ip() && ports.contains(&at.port())
        });
        assert!(fits || self.restoring, "{at} is not one of {network:?}");
        let rested = self.closed.get(&at).map(|closed| now - *closed);
        assert!(
            rested.is_none_or(|time| time >= QUARANTINE),
            "{at} rested for {rested:?}"
        );
        let before = self.sockets.insert(at, id);
        assert!(before.is_none(), "{at} is opened twice");
    }

    fn install(&mut self, at: SocketAddr, rule: Rule) {
        let open = |at: &SocketAddr| self.sockets.contains_key(at);
        assert!(open(&at), "a flow without a socket at {at}");
        assert!(
            open(&rule.source),
            "a flow leaves by {}: not open",
            rule.source
        );
        match &mut self.kernel {
            // Taking RTCP apart is done in userspace.
            Some(kernel) if rule.rtcp.is_some() => kernel.remove(at),
            Some(kernel) => kernel.install(at, rule),
            None => {}
        }
        self.rules.insert(at, rule);
    }

    fn media(&mut self, packet: Packet, now: Instant, out: &mut Vec<Packet>) {
        let now_ns = u64::try_from((now - self.started).as_nanos()).unwrap_or(u64::MAX);
        if let Some(kernel) = &mut self.kernel {
            match kernel.run(&packet, now_ns + 1) {
                Fate::Sent(sent) => {
                    self.count.kernel += 1;
                    self.carry(&packet, now);
                    return out.push(sent);
                }
                Fate::Dropped => {
                    self.count.dropped += 1;
                    return;
                }
                Fate::Passed => {}
            }
        }
        if !self.sockets.contains_key(&packet.to) {
            self.count.closed += 1;
            return;
        }
        if self.forward(&packet, now, out) {
            return;
        }
        self.count.unclaimed += 1;
        let (at, from) = (packet.to, packet.from);
        let shown = Input::Media {
            at,
            from,
            packet: packet.bytes.clone(),
        };
        let owner = self.all().find(|shard| shard.owns_port(at.port()));
        let owner = owner.map_or(0, Shard::index);
        self.input(owner, shown, now, out);
        // The packet that taught the latch is media too.
        self.forward(&packet, now, out);
    }

    /// A flow carried a packet: the engine hears of it with the next report.
    fn carry(&mut self, packet: &Packet, now: Instant) {
        let ssrc = match media::Packet::read(&packet.bytes) {
            media::Packet::Rtp { ssrc, .. } => Some(ssrc),
            media::Packet::Rtcp { .. }
            | media::Packet::Stun
            | media::Packet::Dtls
            | media::Packet::Other => None,
        };
        let (at, last) = (packet.to, now);
        self.carried.insert(at, Activity { at, last, ssrc });
    }

    /// The userspace path: forwards a packet if a rule claims it.
    fn forward(&mut self, packet: &Packet, now: Instant, out: &mut Vec<Packet>) -> bool {
        let rule = self.rules.get(&packet.to).copied();
        let Some(rule) = rule.filter(|rule| rule.peer == packet.from) else {
            return false;
        };
        self.count.userspace += 1;
        self.carry(packet, now);
        let is_rtcp = matches!(*packet.bytes, [128..=191, 192..=223, ..]);
        let way = rule.rtcp.filter(|_| is_rtcp);
        out.push(Packet {
            from: way.map_or(rule.source, |way| way.source),
            to: way.map_or(rule.target, |way| way.target),
            bytes: packet.bytes.clone(),
        });
        true
    }
}

/// The kernel's side: flows compiled into tables, frames through `forward`.
struct Kernel {
    table: Table,
    addresses: Vec<IpAddr>,
    slots: BTreeMap<SocketAddr, u32>,
    next_slot: u32,
}

enum Fate {
    Sent(Packet),
    Passed,
    Dropped,
}

/// What one Ethernet carries.
const MTU: u16 = 1500;

impl Kernel {
    fn new(config: &Config) -> Self {
        let mut kernel = Self {
            table: Table::default(),
            addresses: Vec::new(),
            slots: BTreeMap::new(),
            next_slot: SLOT_NONE + 1,
        };
        kernel.learn(config);
        kernel
    }

    /// Addresses keep their places; new ones follow.
    fn learn(&mut self, config: &Config) {
        for network in &config.networks {
            if !self.addresses.contains(&network.address) {
                self.addresses.push(network.address);
            }
        }
        let locals: Vec<Ip> = self.addresses.iter().map(|ip| Ip::from(*ip)).collect();
        self.table.settings = Settings::new(&locals);
        let indices = self.addresses.iter().zip(1..).map(|(_, index)| index);
        self.table.egress.extend(indices);
    }

    /// One interface for each address.
    fn interface(&self, ip: IpAddr) -> u32 {
        let of = self
            .addresses
            .iter()
            .zip(1..)
            .find(|(ours, _)| **ours == ip);
        of.map_or(0, |(_, index)| index)
    }

    fn key(&self, at: SocketAddr) -> u32 {
        port_index(
            self.table.settings.slot(at.ip().into()),
            Be16::new(at.port()),
        )
    }

    /// A new slot is complete before the port names it; the old one is freed after.
    fn install(&mut self, at: SocketAddr, rule: Rule) {
        let rewrite = Rewrite {
            peer: rule.peer.into(),
            source: rule.source.into(),
            target: rule.target.into(),
            tos: rule.tos,
            flags: Flags::SHOW_STRANGERS,
        };
        let hop = Hop {
            egress: self.interface(rule.source.ip()),
            mtu: MTU,
            ..Hop::default()
        };
        let slot = self.next_slot;
        self.next_slot += 1;
        let mut flow = Flow::compile(at.into(), rewrite, hop);
        flow.stats = slot;
        flow.generation = slot;
        self.table.flows.insert(slot, flow);
        let port = Port {
            flow: slot,
            stats: slot,
        };
        self.table.ports.insert(self.key(at), port);
        if let Some(old) = self.slots.insert(at, slot) {
            self.table.flows.remove(&old);
        }
    }

    fn remove(&mut self, at: SocketAddr) {
        self.table.ports.remove(&self.key(at));
        if let Some(slot) = self.slots.remove(&at) {
            self.table.flows.remove(&slot);
        }
    }

    fn holds(&self, rules: &BTreeMap<SocketAddr, Rule>) -> bool {
        let same = |(at, rule): (&SocketAddr, &Rule)| {
            let flow = self
                .slots
                .get(at)
                .and_then(|slot| self.table.flows.get(slot));
            flow.is_some_and(|flow| SocketAddr::from(flow.peer) == rule.peer)
        };
        let placed = || rules.iter().filter(|(_, rule)| rule.rtcp.is_none());
        let count = placed().count();
        self.slots.len() == count
            && self.table.flows.len() == count
            && self.table.ports.len() == count
            && placed().all(same)
    }

    fn run(&mut self, packet: &Packet, now_ns: u64) -> Fate {
        let built = Datagram::new(packet.from, packet.to, packet.bytes.to_vec());
        let mut bytes = built.build();
        let before = bytes.clone();
        let ingress = self.interface(packet.to.ip());
        match self.table.run(&mut bytes, ingress, now_ns).action {
            Action::Drop => Fate::Dropped,
            Action::Pass => {
                assert_eq!(bytes, before, "a frame that is passed is as it came");
                Fate::Passed
            }
            Action::Transmit | Action::Redirect => {
                let seen = frame::read(&bytes).expect("what is sent is a whole frame");
                assert_eq!(seen.hops + 1, built.hops, "one hop is taken");
                Fate::Sent(Packet {
                    from: seen.from,
                    to: seen.to,
                    bytes: seen.payload.into(),
                })
            }
        }
    }
}
