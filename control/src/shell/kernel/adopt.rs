//! What is pinned: found, checked, taken over.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::maps::MapInfo;
use aya::{Ebpf, EbpfLoader};
use common::flow::Flow;
use common::forward::Reason;
use common::map::{self, ABI, Port, SLOT_NONE, Settings};
use common::media::Media;
use common::stats::FlowStats;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::error::errno;
use super::note::Note;
use super::slots::Slots;
use super::{Attach, Installed, Kernel, KernelError};

/// A signal to this process interrupts the verifier, which then wants to be asked again.
const LOADS_MAX: u32 = 5;

/// The directory of this ABI, made if it is not there.
pub(super) fn directory(pin_dir: &Path) -> Result<PathBuf, KernelError> {
    let there = pin_dir
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"));
    if !is_bpffs(there) {
        return Err(KernelError::NotBpffs {
            path: pin_dir.to_path_buf(),
        });
    }
    let dir = pin_dir.join(format!("{ABI_DIRECTORY}{ABI}"));
    match std::fs::create_dir_all(&dir) {
        Ok(()) => Ok(dir),
        Err(source) => Err(KernelError::PinDir { path: dir, source }),
    }
}

/// What the directory of an ABI is called, before its number.
pub(crate) const ABI_DIRECTORY: &str = "abi-";

pub(super) fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC)
}

/// Takes the directory for this process, whatever its ABI: two daemons would take each other's
/// flows away. The lock ends with the process, however it ends; one that is just ending is waited
/// for, `LOCK_TRIES` times.
pub(super) fn lock(pin_dir: &Path) -> Result<File, KernelError> {
    let error = |source| KernelError::PinDir {
        path: pin_dir.to_path_buf(),
        source,
    };
    let dir = File::open(pin_dir).map_err(error)?;
    for _ in 0..LOCK_TRIES {
        match dir.try_lock() {
            Ok(()) => return Ok(dir),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_EVERY),
            Err(TryLockError::Error(source)) => return Err(error(source)),
        }
    }
    Err(KernelError::InUse {
        path: pin_dir.to_path_buf(),
    })
}

const LOCK_TRIES: u32 = 20;
const LOCK_EVERY: Duration = Duration::from_millis(50);

/// Refuses pinned maps of other sizes: the program would read beyond them or beside them.
pub(super) fn check_sizes(dir: &Path, flows_max: u32) -> Result<(), KernelError> {
    for (name, key, value, entries) in sizes(flows_max) {
        let path = dir.join(name);
        if !path.exists() {
            continue;
        }
        let info = MapInfo::from_pin(&path).map_err(|e| match errno(&e) {
            Some(libc::EPERM | libc::EACCES) => KernelError::Permission {
                what: "open pinned BPF maps",
            },
            _ => KernelError::map(name, e),
        })?;
        for (what, found, needed) in [
            ("a key size of", info.key_size(), key),
            ("a value size of", info.value_size(), value),
            ("a capacity of", info.max_entries(), entries),
        ] {
            if found != needed {
                return Err(KernelError::OtherSize {
                    path,
                    what,
                    found,
                    needed,
                });
            }
        }
    }
    Ok(())
}

/// Key, value and capacity of every pinned map.
fn sizes(flows_max: u32) -> [(&'static str, u32, u32, u32); map::NAMES.len()] {
    const fn bytes<T>() -> u32 {
        #[allow(clippy::cast_possible_truncation, reason = "a map's value is small")]
        let bytes = size_of::<T>() as u32;
        bytes
    }
    [
        (map::SETTINGS, 4, bytes::<Settings>(), 1),
        (map::PORTS, 4, bytes::<Port>(), map::PORTS_MAX),
        (map::FLOWS, 4, bytes::<Flow>(), map::flow_entries(flows_max)),
        (
            map::STATS,
            4,
            bytes::<FlowStats>(),
            map::stats_entries(flows_max),
        ),
        (
            map::MEDIA,
            4,
            bytes::<Media>(),
            map::stats_entries(flows_max),
        ),
        (map::REASONS, 4, 8, Reason::COUNT),
        (map::EVENTS, 0, 0, map::EVENTS_BYTES),
        (map::EGRESS, 4, 8, map::EGRESS_MAX),
        (map::BANS, 20, 4, map::BANS_MAX),
    ]
}

/// Opens the object over the pinned maps, or over new ones, which it pins.
pub(super) fn open(dir: &Path, attach: &Attach<'_>) -> Result<Ebpf, KernelError> {
    let mut loader = EbpfLoader::new();
    loader
        .map_max_entries(map::FLOWS, map::flow_entries(attach.flows_max))
        .map_max_entries(map::STATS, map::stats_entries(attach.flows_max))
        .map_max_entries(map::MEDIA, map::stats_entries(attach.flows_max));
    for name in map::NAMES {
        loader.map_pin_path(name, dir.join(name));
    }
    loader.load(attach.object).map_err(KernelError::load)
}

/// Loads the program: the verifier's judgement.
pub(super) fn verify(ebpf: &mut Ebpf) -> Result<(), KernelError> {
    let program = ebpf
        .program_mut(map::PROGRAM)
        .and_then(|program| <&mut aya::programs::Xdp>::try_from(program).ok())
        .ok_or_else(|| KernelError::Object {
            why: format!("no program `{}`", map::PROGRAM),
        })?;
    for _ in 1..LOADS_MAX {
        match program.load() {
            Ok(()) => return Ok(()),
            Err(e) if errno(&e) == Some(libc::EAGAIN) => {}
            Err(e) => return Err(KernelError::verify(e)),
        }
    }
    program.load().map_err(KernelError::verify)
}

impl Kernel {
    /// Finds the flows that are in force: those a port points at. The others were replaced or
    /// removed. Slots that were never written are not read: there are as many as flows may be.
    pub(super) fn adopt_flows(&mut self) -> Result<(), KernelError> {
        let error = |e| KernelError::map(map::FLOWS, e);
        let note = Note::from(self.flows.get(&SLOT_NONE, 0).map_err(error)?);
        let (mut slots, mut stats) = (BTreeSet::new(), BTreeSet::new());
        for slot in 1..self.flows.len().min(note.unwritten) {
            let flow = self.flows.get(&slot, 0).map_err(error)?;
            let at = SocketAddr::from(flow.local);
            // A flow that was never written is at port 0 of no address.
            let Ok(index) = self.port_index(at) else {
                continue;
            };
            let points = self
                .ports
                .get(&index, 0)
                .map_err(|e| KernelError::map(map::PORTS, e))?;
            if points.flow != slot || at.port() == 0 {
                continue;
            }
            slots.insert(slot);
            stats.insert(flow.stats);
            self.installed.insert(at, Installed { slot, flow });
        }
        self.note = note.reaching(slots.last().copied().unwrap_or(SLOT_NONE));
        self.flow_slots = Slots::new(1..self.flows.len(), slots);
        self.stats_slots = Slots::new(1..self.stats.len(), stats);
        Ok(())
    }
}
