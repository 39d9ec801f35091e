//! The edge under test: the real engine, its effects performed in the virtual network. Media takes
//! the path it takes in the daemon: the kernel's table first if there is one, then the userspace
//! rule, then the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::flow::{Flags, Flow, Hop, Rewrite};
use common::forward::Action;
use common::map::{SLOT_NONE, Settings, port_index};
use common::wire::{Be16, Ip};
use control::config::Config;
use control::effect::{CallRecord, Effect, Effects, Rule};
use control::engine::Engine;
use control::engine::admin::Command;
use control::engine::input::Input;
use control::id::{Listener, NetworkId};

use super::Packet;
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
    pub engine: Engine,
    started: Instant,
    listeners: BTreeMap<SocketAddr, Listener>,
    sockets: BTreeSet<SocketAddr>,
    rules: BTreeMap<SocketAddr, Rule>,
    kernel: Option<Kernel>,
    /// Flows that carried packets since the last report.
    carried: BTreeSet<SocketAddr>,
    next_report: Instant,
    /// Calls that ended.
    pub records: Vec<CallRecord>,
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
        let mut whole = [0; 32];
        for (byte, seed) in whole.iter_mut().zip(seed.to_be_bytes()) {
            *byte = seed;
        }
        let listen = config.sip.listen.iter().map(|l| (l.local, *l)).collect();
        let kernel = (datapath == Datapath::Frames).then(|| Kernel::new(&config));
        Self {
            engine: Engine::new(config, whole, now),
            started: now,
            listeners: listen,
            sockets: BTreeSet::new(),
            rules: BTreeMap::new(),
            kernel,
            carried: BTreeSet::new(),
            next_report: now + REPORT_EVERY,
            records: Vec::new(),
            unbindable: BTreeSet::new(),
            count: Count::default(),
        }
    }

    /// A packet for one of our addresses; answers go into `out`.
    pub fn receive(&mut self, packet: Packet, now: Instant, out: &mut Vec<Packet>) {
        match self.listeners.get(&packet.to) {
            Some(on) => {
                let (on, from, bytes) = (*on, packet.from, packet.bytes);
                self.input(Input::Sip { on, from, bytes }, now, out);
            }
            None => self.media(packet, now, out),
        }
    }

    #[must_use]
    pub fn next_timeout(&self) -> Instant {
        self.engine.next_timeout().min(self.next_report)
    }

    pub fn expire(&mut self, now: Instant, out: &mut Vec<Packet>) {
        if now >= self.next_report {
            self.next_report = now + REPORT_EVERY;
            let carried = std::mem::take(&mut self.carried).into_iter().collect();
            self.input(Input::Active(carried), now, out);
        }
        if now >= self.engine.next_timeout() {
            let mut effects = Effects::new();
            self.engine.expire(now, &mut effects);
            self.perform(effects, now, out);
        }
    }

    /// The administrator's order; false if it was refused.
    pub fn command(&mut self, command: Command, now: Instant, out: &mut Vec<Packet>) -> bool {
        let mut effects = Effects::new();
        let done = self.engine.command(command, now, &mut effects).is_ok();
        self.perform(effects, now, out);
        done
    }

    /// What must hold after every event: what was installed and opened is what calls want.
    ///
    /// # Errors
    /// The difference.
    pub fn check(&self) -> Result<(), String> {
        let (wanted, sockets) = (self.engine.flows_wanted(), self.engine.sockets_wanted());
        if self.rules != wanted {
            return Err(format!("installed {:?}, wanted {wanted:?}", self.rules));
        }
        if self.sockets != sockets {
            return Err(format!("open {:?}, wanted {sockets:?}", self.sockets));
        }
        match &self.kernel {
            Some(kernel) if !kernel.holds(&self.rules) => Err("the kernel's table differs".into()),
            Some(_) | None => Ok(()),
        }
    }

    /// What must hold once every call has ended and every transaction is over.
    ///
    /// # Errors
    /// What is left.
    pub fn check_empty(&self, now: Instant) -> Result<(), String> {
        self.check()?;
        let totals = self.engine.totals();
        let networks = self.engine.config().networks();
        let ports: usize = networks
            .map(|(id, _)| self.engine.ports_used(id, now))
            .sum();
        let left = [
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

    #[must_use]
    pub fn flows(&self) -> &BTreeMap<SocketAddr, Rule> {
        &self.rules
    }

    #[must_use]
    pub fn sockets(&self) -> &BTreeSet<SocketAddr> {
        &self.sockets
    }

    #[must_use]
    pub fn ports_used(&self, network: u16, now: Instant) -> usize {
        self.engine.ports_used(NetworkId(network), now)
    }

    fn input(&mut self, input: Input, now: Instant, out: &mut Vec<Packet>) {
        let mut effects = Effects::new();
        self.engine.handle(input, now, &mut effects);
        self.perform(effects, now, out);
    }

    /// In order; what fails comes back as input, after the effects it came with.
    fn perform(&mut self, mut effects: Effects, now: Instant, out: &mut Vec<Packet>) {
        while !effects.is_empty() {
            for effect in std::mem::take(&mut effects) {
                match effect {
                    Effect::Send { on, to, bytes } => {
                        let from = on.local;
                        out.push(Packet { from, to, bytes });
                    }
                    Effect::Open { at, .. } => {
                        assert!(self.sockets.insert(at), "{at} is opened twice");
                        if self.unbindable.contains(&at) {
                            let failed = Input::OpenFailed { at };
                            self.engine.handle(failed, now, &mut effects);
                        }
                    }
                    Effect::Close { at } => {
                        assert!(!self.rules.contains_key(&at), "{at} is closed under a flow");
                        assert!(self.sockets.remove(&at), "{at} is closed, and was not open");
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
                        assert!(self.sockets.contains(&at), "{at} is not open");
                        let bytes = Bytes::new();
                        out.push(Packet {
                            from: at,
                            to,
                            bytes,
                        });
                    }
                    Effect::Forward { at, to, bytes } => {
                        assert!(self.sockets.contains(&at), "{at} is not open");
                        let from = at;
                        out.push(Packet { from, to, bytes });
                    }
                    Effect::Record(record) => self.records.push(record),
                }
            }
        }
    }

    fn install(&mut self, at: SocketAddr, rule: Rule) {
        let open = |at: &SocketAddr| self.sockets.contains(at);
        assert!(open(&at), "a flow without a socket at {at}");
        assert!(
            open(&rule.source),
            "a flow leaves by {}: not open",
            rule.source
        );
        if let Some(kernel) = &mut self.kernel {
            kernel.install(at, rule);
        }
        self.rules.insert(at, rule);
    }

    fn media(&mut self, packet: Packet, now: Instant, out: &mut Vec<Packet>) {
        let now_ns = u64::try_from((now - self.started).as_nanos()).unwrap_or(u64::MAX);
        if let Some(kernel) = &mut self.kernel {
            match kernel.run(&packet, now_ns + 1) {
                Fate::Sent(sent) => {
                    self.count.kernel += 1;
                    self.carried.insert(packet.to);
                    return out.push(sent);
                }
                Fate::Dropped => {
                    self.count.dropped += 1;
                    return;
                }
                Fate::Passed => {}
            }
        }
        if !self.sockets.contains(&packet.to) {
            self.count.closed += 1;
            return;
        }
        if self.forward(&packet, out) {
            return;
        }
        self.count.unclaimed += 1;
        let (at, from) = (packet.to, packet.from);
        let shown = Input::Media {
            at,
            from,
            packet: packet.bytes.clone(),
        };
        self.input(shown, now, out);
        // The packet that taught the latch is media too.
        self.forward(&packet, out);
    }

    /// The userspace path: forwards a packet if a rule claims it.
    fn forward(&mut self, packet: &Packet, out: &mut Vec<Packet>) -> bool {
        let rule = self.rules.get(&packet.to);
        let Some(rule) = rule.filter(|rule| rule.peer == packet.from) else {
            return false;
        };
        self.count.userspace += 1;
        self.carried.insert(packet.to);
        out.push(Packet {
            from: rule.source,
            to: rule.target,
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
        let mut addresses: Vec<IpAddr> = config.networks.iter().map(|n| n.address).collect();
        addresses.dedup();
        let locals: Vec<Ip> = addresses.iter().map(|ip| Ip::from(*ip)).collect();
        let mut table = Table::default();
        table.settings = Settings::new(&locals);
        table
            .egress
            .extend(addresses.iter().zip(1..).map(|(_, index)| index));
        Self {
            table,
            addresses,
            slots: BTreeMap::new(),
            next_slot: SLOT_NONE + 1,
        }
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
        self.table.ports.insert(self.key(at), slot);
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
        self.slots.len() == rules.len()
            && self.table.flows.len() == rules.len()
            && self.table.ports.len() == rules.len()
            && rules.iter().all(same)
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
