//! The engines of a node, for those who ask all of them: one is asked after the other, none waits.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;

use crate::config::Config;
use crate::effect::{Effect, Kept};
use crate::engine::admin::{CallView, Command, Refused, RegistrationView, Totals};
use crate::engine::event::{Event, Kind, Log};
use crate::engine::explain::call::CallExplained;
use crate::engine::explain::peer::PeerExplained;
use crate::engine::explain::registration::RegistrationExplained;
use crate::engine::explain::usage::NetworkUsage;
use crate::engine::gateway::Suspect;
use crate::engine::glance::Glance;
use crate::engine::input::{Activity, Input};
use crate::engine::journal::call_of;
use crate::engine::shard::{self, Shards, Silence, retired};
use crate::engine::trace::{LadderView, Usage};
use crate::engine::{BanView, Counters, DrainView, Engine, Load, PeerView, RetiredView};
use crate::id::{Listener, NetworkId, Shard};
use crate::shell::shard::{Slot, State};

pub(crate) struct Node {
    /// In order; one at least.
    slots: Vec<(Shard, Arc<Slot>)>,
    config: Arc<Config>,
    events: Log,
}

impl Node {
    pub(super) fn new(config: Arc<Config>, seed: [u8; 32], whose: Shards, now: Instant) -> Self {
        let slot = |shard| {
            let mut engine = Engine::shard(config.clone(), seed, shard, now);
            engine.route_by(whose);
            (shard, Arc::new(Slot::new(engine)))
        };
        let slots: Vec<_> = Shard::all(whose.count()).map(slot).collect();
        let mut states: Vec<_> = slots.iter().map(|(_, slot)| slot.lock()).collect();
        shard::share(states.iter_mut().map(|state| &mut state.engine));
        drop(states);
        Self {
            slots,
            config,
            events: Log::default(),
        }
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = &Arc<Slot>> {
        self.slots.iter().map(|(_, slot)| slot)
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Of every shard.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    fn each<T>(&self, mut ask: impl FnMut(&Engine) -> T) -> Vec<T> {
        let slots = self.slots.iter();
        slots.map(|(_, slot)| ask(&slot.lock().engine)).collect()
    }

    /// The shard with the registrations.
    fn first<T>(&self, ask: impl FnOnce(&Engine) -> T) -> Option<T> {
        let (_, slot) = self.slots.first()?;
        Some(ask(&slot.lock().engine))
    }

    /// The shard that a call is in, by its number.
    fn of_call<T>(&self, call: u64, ask: impl FnOnce(&mut State) -> T) -> Option<T> {
        let mut slots = self.slots.iter();
        let (_, slot) = slots.find(|(shard, _)| shard.owns_number(call))?;
        Some(ask(&mut slot.lock()))
    }

    /// Somebody else than its own task has something for each shard that it concerns.
    fn give(&self, input: impl Fn(Shard) -> Option<Input>, now: Instant) {
        for (shard, slot) in &self.slots {
            if let Some(input) = input(*shard) {
                let mut state = slot.lock();
                let State { engine, effects } = &mut *state;
                engine.handle(input, now, effects);
                let wake = !effects.is_empty();
                drop(state);
                if wake {
                    slot.wake();
                }
            }
        }
    }

    /// Flows that carried packets, for those who have them.
    pub(super) fn active(&self, flows: &[Activity], now: Instant) {
        let its = |shard: Shard| {
            let flows = flows.iter().filter(|flow| shard.owns_port(flow.at.port()));
            let flows: Vec<Activity> = flows.copied().collect();
            (!flows.is_empty()).then_some(Input::Active(flows))
        };
        self.give(its, now);
    }

    /// Flows found in the kernel: each port has its owner, whoever had it before.
    pub(super) fn adopted(&self, flows: &[(SocketAddr, SocketAddr)], now: Instant) {
        let its = |shard: Shard| {
            let flows = flows.iter().filter(|(at, _)| shard.owns_port(at.port()));
            let flows: Vec<(SocketAddr, SocketAddr)> = flows.copied().collect();
            (!flows.is_empty()).then_some(Input::Adopted(flows))
        };
        self.give(its, now);
    }

    /// Calls that were kept are each its shard's; what is of no call is for the first to forget.
    pub(super) fn restored_calls(&self, kept: &[Kept], now: Instant) {
        let its = |shard: Shard| {
            let own = |kept: &&Kept| match call_of(&kept.key) {
                Some(number) => shard.owns_number(number),
                None => shard.is_first(),
            };
            let own: Vec<Kept> = kept.iter().filter(own).cloned().collect();
            (!own.is_empty()).then_some(Input::Restored(own))
        };
        self.give(its, now);
    }

    /// Every shard knows all bans.
    pub(super) fn restored_bans(&self, kept: &[Kept], now: Instant) {
        self.give(|_| Some(Input::Restored(kept.to_vec())), now);
    }

    /// What was kept is the first shard's; the others know of it before they hear anything.
    pub(super) fn restored(&self, kept: Vec<Kept>, now: Instant) {
        let Some(((_, first), others)) = self.slots.split_first() else {
            return;
        };
        let mut state = first.lock();
        let State { engine, effects } = &mut *state;
        engine.handle(Input::Restored(kept), now, effects);
        for effect in std::mem::take(effects) {
            let Effect::Publish { aor } = effect else {
                effects.push(effect);
                continue;
            };
            let bindings = engine.bindings(&aor);
            for (_, other) in others {
                let (aor, bindings) = (aor.clone(), bindings.clone());
                let mut its = other.lock();
                let State { engine, effects } = &mut *its;
                engine.handle(Input::Published { aor, bindings }, now, effects);
            }
        }
        drop(state);
        first.wake();
    }

    /// When it returns, every shard has the new configuration, and none handled anything between
    /// the first and the last taking it.
    pub(crate) fn reconfigure(&mut self, config: Config, now: Instant) {
        let mut states: Vec<_> = self.slots.iter().map(|(_, slot)| slot.lock()).collect();
        let states_now = states.iter_mut().map(|state| {
            let State { engine, effects } = &mut **state;
            (engine, effects)
        });
        self.config = shard::reconfigure(&mut states_now.collect::<Vec<_>>(), config, now);
        drop(states);
        self.slots().for_each(|slot| slot.wake());
    }

    pub(crate) fn command(&self, command: Command, now: Instant) -> Result<(), Refused> {
        if is_for_all(&command) {
            return self.command_all(&command, now);
        }
        let none = match &command {
            Command::DropRegistration { .. } => Refused::NoSuchRegistration,
            Command::ProbePeer { .. } => Refused::NoSuchPeer,
            Command::HangUp { .. }
            | Command::SetMedia { .. }
            | Command::Refresh { .. }
            | Command::Ban { .. }
            | Command::Unban { .. }
            | Command::Drain { .. }
            | Command::Undrain => Refused::NoSuchCall,
        };
        let mut slots = self.slots.iter();
        let owner = slots.find(|(shard, _)| match &command {
            Command::DropRegistration { .. } | Command::ProbePeer { .. } => shard.is_first(),
            Command::HangUp { call }
            | Command::SetMedia { call, .. }
            | Command::Refresh { call } => shard.owns_number(*call),
            Command::Ban { .. }
            | Command::Unban { .. }
            | Command::Drain { .. }
            | Command::Undrain => false,
        });
        let (_, slot) = owner.ok_or(none)?;
        let mut state = slot.lock();
        let State { engine, effects } = &mut *state;
        let done = engine.command(command, now, effects);
        drop(state);
        slot.wake();
        done
    }

    /// What is the same in all shards.
    fn command_all(&self, command: &Command, now: Instant) -> Result<(), Refused> {
        let mut done = Ok(());
        for (_, slot) in self.slots.iter().rev() {
            let mut state = slot.lock();
            let State { engine, effects } = &mut *state;
            done = engine.command(command.clone(), now, effects);
            drop(state);
            slot.wake();
        }
        // The first one's word.
        done
    }

    /// Takes in what the shards have noted: often enough that they forget nothing.
    /// `plane` is what the conference plane has noted since: the number of its last event, and
    /// those it still knows.
    pub(super) fn gather_events(&mut self, plane: (u64, Vec<Event>)) {
        let news = self.slots.iter().enumerate().map(|(index, (_, slot))| {
            let engine = &slot.lock().engine;
            let known = engine.events(self.events.seen(index));
            (engine.last_event(), known.cloned().collect())
        });
        let news = news.chain([plane]).collect();
        self.events.take(news);
    }

    /// Something happened that no engine has to do with; it is said each time.
    pub(super) fn note_each(
        &self,
        at: Instant,
        kind: Kind,
        subject: String,
        fields: Vec<(&'static str, String)>,
    ) {
        if let Some((_, slot)) = self.slots.first() {
            slot.lock().engine.note(at, kind, subject, fields);
        }
    }

    /// What the shell has noted.
    pub(super) fn note(&mut self, events: Vec<Event>) {
        for event in events {
            self.events.note_rarely(event);
        }
    }

    /// As they were when they were gathered last.
    pub(crate) fn events(&self) -> &Log {
        &self.events
    }

    pub(crate) fn shard_totals(&self) -> Vec<Totals> {
        self.each(Engine::totals)
    }

    pub(crate) fn totals(&self) -> Totals {
        Totals::sum(self.shard_totals())
    }

    pub(crate) fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        for (_, slot) in &self.slots {
            sum.add(slot.lock().engine.counters());
        }
        sum
    }

    /// In the order of their numbers.
    pub(crate) fn calls(&self, now: Instant) -> Vec<CallView> {
        let mut calls = self.each(|engine| engine.calls(now)).concat();
        calls.sort_by_key(|call| call.id);
        calls
    }

    /// Shows every call, shard after shard.
    pub(crate) fn glance(&self, now: Instant, each: &mut dyn FnMut(Glance<'_>)) {
        for (_, slot) in &self.slots {
            slot.lock().engine.glance(now, each);
        }
    }

    /// Shows one call, if it is still there.
    pub(crate) fn glance_at<T>(
        &self,
        id: u64,
        now: Instant,
        show: impl FnOnce(Glance<'_>) -> T,
    ) -> Option<T> {
        self.of_call(id, |state| state.engine.glance_at(id, now).map(show))?
    }

    pub(crate) fn call(&self, id: u64, now: Instant) -> Option<CallView> {
        self.of_call(id, |state| state.engine.call(id, now))?
    }

    /// The messages of a call, by its number or by its Call-ID, with names or without.
    pub(crate) fn ladder(&self, call: &str, names: bool) -> Option<LadderView> {
        let number = call.parse::<u64>().ok();
        let by_number = |call| {
            let view = |state: &mut State| state.engine.ladders().view_of(call, names);
            self.of_call(call, view).flatten()
        };
        number.and_then(by_number).or_else(|| {
            let all = self.each(|engine| engine.ladders().view(call.as_bytes(), names));
            all.into_iter().flatten().next()
        })
    }

    /// How many messages of calls are kept.
    pub(crate) fn ladders_usage(&self) -> Usage {
        let all = self.each(|engine| engine.ladders().usage()).into_iter();
        all.fold(Usage::default(), |mut sum, one| {
            sum += one;
            sum
        })
    }

    pub(crate) fn explain_call(&self, id: u64, now: Instant) -> Option<CallExplained> {
        self.of_call(id, |state| state.engine.explain_call(id, now))?
    }

    pub(crate) fn registrations(&self, now: Instant) -> Vec<RegistrationView> {
        self.first(|engine| engine.registrations(now))
            .unwrap_or_default()
    }

    pub(crate) fn registrations_of(&self, aor: &str, now: Instant) -> Vec<RegistrationView> {
        let found = self.first(|engine| engine.registrations_of(aor, now));
        found.unwrap_or_default()
    }

    pub(crate) fn explain_registration(
        &self,
        aor: &str,
        now: Instant,
    ) -> Option<RegistrationExplained> {
        self.first(|engine| engine.explain_registration(aor, now))?
    }

    pub(crate) fn explain_peer(
        &self,
        ip: IpAddr,
        local: Option<IpAddr>,
        now: Instant,
    ) -> Option<PeerExplained> {
        let all = self.each(|engine| engine.explain_peer(ip, local, now));
        all.into_iter().flatten().reduce(|mut sum, one| {
            sum.add(one);
            sum
        })
    }

    pub(crate) fn suspected_gateways(&self) -> Vec<Suspect> {
        self.first(Engine::suspected_gateways).unwrap_or_default()
    }

    /// As the first shard has them, which probes; heard by any.
    pub(crate) fn peers(&self, now: Instant) -> Vec<PeerView> {
        let all = self.each(|engine| engine.peers(now));
        let all = all.into_iter().reduce(|mut sum, one| {
            for (sum, one) in sum.iter_mut().zip(&one) {
                sum.add(one);
            }
            sum
        });
        all.unwrap_or_default()
    }

    /// Every shard knows of them.
    pub(crate) fn bans(&self, now: Instant) -> Vec<BanView> {
        self.first(|engine| engine.bans(now)).unwrap_or_default()
    }

    /// The same as a packet filter takes them.
    pub(crate) fn bans_at_border(&self, max: usize, now: Instant) -> BTreeMap<IpNet, bool> {
        self.first(|engine| engine.bans_at_border(max, now))
            .unwrap_or_default()
    }

    pub(crate) fn draining(&self, now: Instant) -> Option<DrainView> {
        self.first(|engine| engine.draining(now)).flatten()
    }

    pub(crate) fn bans_count(&self, now: Instant) -> usize {
        self.first(|engine| engine.bans_count(now))
            .unwrap_or_default()
    }

    /// Where a key of the configuration stands.
    pub(crate) fn place(&self, key: &str) -> Option<String> {
        self.first(|engine| engine.place(key))?
    }

    pub(crate) fn network_usage(&self, now: Instant) -> BTreeMap<NetworkId, NetworkUsage> {
        let mut sum: BTreeMap<NetworkId, NetworkUsage> = BTreeMap::new();
        for (id, usage) in self
            .each(|engine| engine.network_usage(now))
            .into_iter()
            .flatten()
        {
            sum.entry(id).or_default().add(usage);
        }
        sum
    }

    /// All shards count together.
    pub(crate) fn network_load(&self, id: NetworkId) -> Load {
        self.first(|engine| engine.network_load(id))
            .unwrap_or_default()
    }

    pub(crate) fn peer_load(&self, name: &str) -> Load {
        self.first(|engine| engine.peer_load(name))
            .unwrap_or_default()
    }

    pub(crate) fn silence(&self) -> BTreeMap<NetworkId, Silence> {
        shard::silence(self.each(|engine| engine.silence().clone()))
    }

    pub(crate) fn ports_used(&self, network: NetworkId, now: Instant) -> usize {
        self.each(|engine| engine.ports_used(network, now))
            .iter()
            .sum()
    }

    pub(crate) fn touched_by(&self, networks: &[NetworkId]) -> usize {
        self.each(|engine| engine.touched_by(networks)).iter().sum()
    }

    pub(crate) fn listeners_in_use(&self, now: Instant) -> BTreeSet<Listener> {
        let all = self.each(|engine| engine.listeners_in_use(now));
        all.into_iter().flatten().collect()
    }

    pub(crate) fn networks_retired(&self) -> Vec<RetiredView> {
        retired(self.each(Engine::networks_retired))
    }
}

/// Whether every shard must do it.
fn is_for_all(command: &Command) -> bool {
    match command {
        Command::Ban { .. } | Command::Unban { .. } | Command::Drain { .. } | Command::Undrain => {
            true
        }
        Command::HangUp { .. }
        | Command::DropRegistration { .. }
        | Command::SetMedia { .. }
        | Command::Refresh { .. }
        | Command::ProbePeer { .. } => false,
    }
}
