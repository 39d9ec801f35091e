//! The kernel path: loads the program, attaches it, keeps its maps.
//!
//! Links and maps are pinned below `pin_dir/abi-N/`. The daemon may die; media may not: whoever
//! starts next finds them there, takes over the maps with all that is in them, and puts its own
//! program in place of the old one in a single step (`bpf_link_update`).
//!
//! A flow is written completely to a slot nobody refers to, then PORTS is turned to that slot, and
//! the old one rests. One daemon at a time may hold a `Kernel` over one directory: it is
//! locked.

mod adopt;
mod ban;
mod clock;
pub mod detach;
mod error;
mod inspect;
mod link;
mod note;
mod reach;
mod report;
mod selftest;
mod slots;
mod upgrade;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aya::Ebpf;
use aya::maps::{Array, DevMapHash, Map, MapData, PerCpuArray};
use aya::programs::links::PinnedLink;
use common::flow::{Endpoint, Flags, Flow};
use common::forward::Reason;
use common::map::{self, LOCALS_MAX, Port, SLOT_NONE, Settings, port_index};
use common::media::Media;
use common::stats::FlowStats;

pub(crate) use self::adopt::ABI_DIRECTORY;
use self::ban::BanMap;
pub use self::ban::Bans;
pub use self::clock::{Position, rate};
pub use self::error::KernelError;
pub use self::inspect::{Attachment, Fill, Program};
use self::note::Note;
pub use self::reach::Reach;
use self::reach::check_locals;
pub use self::report::{Events, Logs};
use self::slots::Slots;
use self::upgrade::Kept;
pub(super) use selftest::abi;
pub(crate) use selftest::bench::costs;

/// What to load and where to keep it.
pub struct Attach<'a> {
    /// The ELF file.
    pub object: &'a [u8],
    /// A directory on a BPF file system, or one to be made there.
    pub pin_dir: &'a Path,
    pub interfaces: &'a [Interface],
    /// In the driver; otherwise in the stack, for tests.
    pub native: bool,
    /// Flows installed at once. Fixed for the life of the pinned maps.
    pub flows_max: u32,
    /// Media addresses, at most `LOCALS_MAX`.
    pub locals: &'a [IpAddr],
}

/// Where media arrives or leaves.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Interface {
    pub name: String,
    pub index: u32,
}

/// A flow that was there before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Adopted {
    pub at: SocketAddr,
    pub flow: Flow,
}

/// What became of the packets that arrived at an address, in the kernel, since the first flow was
/// installed there.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Totals {
    /// Forwarded.
    pub packets: u64,
    /// Of those, from the IP header on.
    pub bytes: u64,
    /// When the first and the latest were forwarded: `CLOCK_MONOTONIC`, with the resolution of a
    /// timer tick; zero if none was.
    pub first_ns: u64,
    pub last_ns: u64,
    /// From somebody who is not the peer.
    pub strangers: u64,
    /// Left to userspace for another reason.
    pub punted: u64,
    /// The RTP stream, of a flow that is measured.
    pub stream: Option<Stream>,
}

/// What is known about an RTP stream, over all sources it has had (RFC 3550 §A.3, §A.8).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Stream {
    pub ssrc: u32,
    /// Further sources than the first.
    pub ssrc_changes: u32,
    pub received: u64,
    pub lost: u32,
    /// Late or twice.
    pub reordered: u32,
    /// None while the rate of the stream's clock is not known.
    pub jitter: Option<Duration>,
}

impl Stream {
    /// Reads the account of a stream whose clock runs at that rate; zero: not known.
    #[must_use]
    pub fn of(media: &Media, clock_hz: u32) -> Self {
        Self {
            ssrc: media.ssrc,
            ssrc_changes: media.changes,
            received: media.received(),
            lost: media.lost(),
            reordered: media.reordered,
            // Sixteenths of ticks.
            jitter: (u64::from(media.jitter) * 1_000_000_000 / 16)
                .checked_div(clock_hz.into())
                .map(Duration::from_nanos),
        }
    }

    /// This account and one of the same stream at a later time, or by another way.
    #[must_use]
    pub fn followed_by(self, later: Self) -> Self {
        Self {
            ssrc_changes: self.ssrc_changes.saturating_add(later.ssrc_changes),
            received: self.received.saturating_add(later.received),
            lost: self.lost.saturating_add(later.lost),
            reordered: self.reordered.saturating_add(later.reordered),
            ..later
        }
    }
}

/// The loaded program, its links and maps. Dropping it leaves everything pinned and running.
pub struct Kernel {
    ebpf: Ebpf,
    /// The program in place of the object's, if that did not pass its test.
    kept: Option<Kept>,
    dir: PathBuf,
    native: bool,
    flows_max: u32,
    settings: Settings,
    settings_map: Array<MapData, Settings>,
    ports: Array<MapData, Port>,
    flows: Array<MapData, Flow>,
    stats: PerCpuArray<MapData, FlowStats>,
    media: Array<MapData, Media>,
    reasons: PerCpuArray<MapData, u64>,
    egress: DevMapHash<MapData>,
    bans: BanMap,
    flow_slots: Slots,
    stats_slots: Slots,
    installed: BTreeMap<SocketAddr, Installed>,
    note: Note,
    links: BTreeMap<u32, PinnedLink>,
    /// Interfaces that were let go.
    released: BTreeSet<u32>,
    /// Held as long as we are.
    _lock: File,
}

/// A flow and where it lies.
struct Installed {
    slot: u32,
    flow: Flow,
}

impl Kernel {
    /// Loads and attaches, or takes over what is pinned. Whatever fails, a program that was
    /// running before goes on.
    ///
    /// # Errors
    /// What stands in the way and what to do about it.
    pub fn start(attach: &Attach<'_>, now: Instant) -> Result<(Self, Vec<Adopted>), KernelError> {
        let dir = adopt::directory(attach.pin_dir)?;
        let lock = adopt::lock(attach.pin_dir)?;
        adopt::check_sizes(&dir, attach.flows_max)?;
        let (mut ebpf, kept) = upgrade::load(&dir, attach)?;
        let settings_map: Array<_, Settings> = take(&mut ebpf, map::SETTINGS)?;
        let settings = settings_map
            .get(&0, 0)
            .map_err(|e| KernelError::map(map::SETTINGS, e))?;
        let mut kernel = Self {
            settings,
            settings_map,
            ports: take(&mut ebpf, map::PORTS)?,
            flows: take(&mut ebpf, map::FLOWS)?,
            stats: take(&mut ebpf, map::STATS)?,
            media: take(&mut ebpf, map::MEDIA)?,
            reasons: take(&mut ebpf, map::REASONS)?,
            egress: take(&mut ebpf, map::EGRESS)?,
            bans: BanMap::adopt(take(&mut ebpf, map::BANS)?)?,
            ebpf,
            kept,
            dir,
            native: attach.native,
            flows_max: attach.flows_max,
            flow_slots: Slots::new(0..0, BTreeSet::new()),
            stats_slots: Slots::new(0..0, BTreeSet::new()),
            installed: BTreeMap::new(),
            note: Note::default(),
            links: BTreeMap::new(),
            released: BTreeSet::new(),
            _lock: lock,
        };
        kernel.adopt_flows()?;
        kernel.set_locals(attach.locals, now)?;
        kernel.attach_all(attach.interfaces)?;
        kernel.forget_interfaces(attach.interfaces)?;
        let adopted = kernel.installed.iter().map(|(at, i)| Adopted {
            at: *at,
            flow: i.flow,
        });
        let adopted = adopted.collect();
        Ok((kernel, adopted))
    }

    /// Forwards what arrives at `at` by this flow, in place of the one that was there. Its counts
    /// go on.
    ///
    /// # Errors
    /// `NotLocal`, `Full`, or that a map cannot be written; then the old flow still stands.
    pub fn install(&mut self, at: SocketAddr, flow: Flow, now: Instant) -> Result<(), KernelError> {
        let index = self.port_index(at)?;
        let full = KernelError::Full {
            flows_max: self.flows_max,
        };
        let mut flow = flow;
        flow.local = Endpoint::from(at);
        let old = self.installed.get(&at).map(|old| (old.slot, old.flow));
        let fresh_stats = match old {
            Some((_, old)) => {
                flow.stats = old.stats;
                flow.generation = old.generation;
                if flow == old {
                    return Ok(());
                }
                false
            }
            None if self.installed.len() >= self.flows_max as usize => return Err(full),
            None => {
                flow.generation = self.next_generation()?;
                flow.stats = self.stats_slots.take(now).ok_or(full)?;
                true
            }
        };
        let full = KernelError::Full {
            flows_max: self.flows_max,
        };
        let written = match self.flow_slots.take(now) {
            None => Err(full),
            Some(slot) => self
                .point(index, slot, flow)
                .map(|()| slot)
                .inspect_err(|_| {
                    self.flow_slots.give(slot, now);
                }),
        };
        if written.is_err() && fresh_stats {
            self.stats_slots.give(flow.stats, now);
        }
        self.installed.insert(
            at,
            Installed {
                slot: written?,
                flow,
            },
        );
        if let Some((slot, _)) = old {
            self.flow_slots.give(slot, now);
        }
        Ok(())
    }

    /// Leaves what arrives at `at` to the stack. True if a flow was there.
    ///
    /// # Errors
    /// That the map cannot be written; then the flow still stands.
    pub fn remove(&mut self, at: SocketAddr, now: Instant) -> Result<bool, KernelError> {
        let Some(installed) = self.installed.get(&at) else {
            return Ok(false);
        };
        let (slot, stats) = (installed.slot, installed.flow.stats);
        let index = self.port_index(at)?;
        self.ports
            .set(index, Port::default(), 0)
            .map_err(|e| KernelError::map(map::PORTS, e))?;
        self.installed.remove(&at);
        self.flow_slots.give(slot, now);
        self.stats_slots.give(stats, now);
        Ok(true)
    }

    /// The flow installed at `at`, as the kernel has it.
    #[must_use]
    pub fn flow(&self, at: SocketAddr) -> Option<&Flow> {
        self.installed.get(&at).map(|installed| &installed.flow)
    }

    /// Addresses with a flow, in order.
    pub fn installed(&self) -> impl Iterator<Item = SocketAddr> {
        self.installed.keys().copied()
    }

    /// Whose flow an event is about.
    #[must_use]
    pub fn at(&self, stats: u32, generation: u32) -> Option<SocketAddr> {
        self.installed
            .iter()
            .find(|(_, i)| i.flow.stats == stats && i.flow.generation == generation)
            .map(|(at, _)| *at)
    }

    /// The counts of the flow at `at`, added over the CPUs.
    #[must_use]
    pub fn stats(&self, at: SocketAddr) -> Option<Totals> {
        let flow = &self.installed.get(&at)?.flow;
        let cpus = self.stats.get(&flow.stats, 0).ok()?;
        let mut totals = Totals::default();
        for cpu in cpus.iter().filter(|cpu| cpu.generation == flow.generation) {
            totals.packets += cpu.packets;
            totals.bytes += cpu.bytes;
            totals.strangers += cpu.strangers;
            totals.punted += cpu.punted;
            totals.last_ns = totals.last_ns.max(cpu.last_ns);
            if cpu.packets > 0 && (totals.first_ns == 0 || cpu.first_ns < totals.first_ns) {
                totals.first_ns = cpu.first_ns;
            }
        }
        totals.stream = self.stream(flow);
        Some(totals)
    }

    /// The account of a flow's stream; none before its first packet.
    fn stream(&self, flow: &Flow) -> Option<Stream> {
        let media = self.media.get(&flow.stats, 0).ok()?;
        if !flow.flags.has(Flags::MEASURE) || media.generation != flow.generation {
            return None;
        }
        Some(Stream::of(&media, flow.clock_hz))
    }

    /// Where the stream of a measured flow is; none before its first packet.
    #[must_use]
    pub fn position(&self, at: SocketAddr) -> Option<Position> {
        let flow = &self.installed.get(&at)?.flow;
        let media = self.media.get(&flow.stats, 0).ok()?;
        (media.generation == flow.generation).then(|| Position::of(&media))
    }

    /// Packets by verdict, indexed by `Reason`, since the maps were made.
    #[must_use]
    pub fn reasons(&self) -> [u64; Reason::COUNT as usize] {
        let mut totals = [0; Reason::COUNT as usize];
        for (index, total) in (0..).zip(&mut totals) {
            if let Ok(cpus) = self.reasons.get(&index, 0) {
                *total = cpus.iter().sum();
            }
        }
        totals
    }

    /// The media addresses from now on. One that stays keeps its flows; the flows of one that goes
    /// go with it.
    ///
    /// # Errors
    /// `TooManyLocals`, and nothing has changed; or that a map cannot be written.
    pub fn set_locals(&mut self, locals: &[IpAddr], now: Instant) -> Result<(), KernelError> {
        let wanted: BTreeSet<IpAddr> = locals.iter().copied().collect();
        check_locals(&wanted)?;
        let gone: Vec<_> = self
            .installed
            .keys()
            .filter(|at| !wanted.contains(&at.ip()))
            .copied()
            .collect();
        for at in gone {
            self.remove(at, now)?;
        }
        self.write_locals(&wanted)
    }

    /// Interface indices the program is attached to, in order.
    pub fn attached(&self) -> impl Iterator<Item = u32> {
        self.links.keys().copied()
    }

    /// Whether the program runs in the drivers.
    #[must_use]
    pub fn is_native(&self) -> bool {
        self.native
    }

    /// What the kernel tells; once.
    ///
    /// # Errors
    /// That they have been taken, or that the ring cannot be mapped.
    pub fn events(&mut self) -> Result<Events, KernelError> {
        Events::new(take(&mut self.ebpf, map::EVENTS)?)
    }

    /// The program's log; once.
    ///
    /// # Errors
    /// That it has been taken, or that the ring cannot be mapped.
    pub fn logs(&mut self) -> Result<Logs, KernelError> {
        Logs::new(&mut self.ebpf)
    }

    /// Writes a flow where nobody looks yet, then makes its port look there.
    fn point(&mut self, index: u32, slot: u32, flow: Flow) -> Result<(), KernelError> {
        if let Some(note) = self.note.writing(slot) {
            self.leave_note(note)?;
        }
        self.flows
            .set(slot, flow, 0)
            .map_err(|e| KernelError::map(map::FLOWS, e))?;
        let port = Port {
            flow: slot,
            stats: flow.stats,
        };
        self.ports
            .set(index, port, 0)
            .map_err(|e| KernelError::map(map::PORTS, e))
    }

    fn next_generation(&mut self) -> Result<u32, KernelError> {
        let generation = self.note.generation;
        self.leave_note(self.note.counted())?;
        Ok(generation)
    }

    fn leave_note(&mut self, note: Note) -> Result<(), KernelError> {
        self.flows
            .set(SLOT_NONE, Flow::from(note), 0)
            .map_err(|e| KernelError::map(map::FLOWS, e))?;
        self.note = note;
        Ok(())
    }

    fn port_index(&self, at: SocketAddr) -> Result<u32, KernelError> {
        let Endpoint { ip, port, .. } = at.into();
        match self.settings.slot(ip) {
            address if address < LOCALS_MAX => Ok(port_index(address, port)),
            _ => Err(KernelError::NotLocal { at }),
        }
    }
}

/// A map out of the object, as what it is.
fn take<M: TryFrom<Map>>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, KernelError> {
    let missing = || KernelError::Object {
        why: format!("no map `{name}`"),
    };
    let map = ebpf.take_map(name).ok_or_else(missing)?;
    M::try_from(map).map_err(|_| missing())
}
