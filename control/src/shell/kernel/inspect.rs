//! What an operator wants to know of the kernel path: the program, its links, how full maps are.

use std::os::fd::{AsFd, AsRawFd};
use std::time::SystemTime;

use aya::maps::{MapInfo, MapType};
use aya::programs::ProgramInfo;
use aya::programs::links::{FdLink, PinnedLink};
use common::map;

use super::{Kernel, KernelError};

/// A loaded program, as the kernel describes it.
#[derive(Clone, Debug)]
pub struct Program {
    pub id: u32,
    /// A hash of the instructions: the same build has the same.
    pub tag: u64,
    pub loaded_at: Option<SystemTime>,
    /// After the verifier's rewriting.
    pub instructions: u32,
    /// Those it looked at, over all branches.
    pub verified: Option<u32>,
    /// Of machine code.
    pub bytes: u32,
}

/// The program in an interface.
#[derive(Clone, Copy, Debug)]
pub struct Attachment {
    pub index: u32,
    pub link: u32,
    pub program: u32,
}

/// How full a map is.
#[derive(Clone, Debug)]
pub struct Fill {
    pub name: &'static str,
    pub id: u32,
    pub kind: &'static str,
    /// None for a ring: what is read is gone.
    pub used: Option<usize>,
    pub capacity: u32,
    /// What the kernel charges for it.
    pub bytes: Option<u64>,
}

impl Kernel {
    /// The program that forwards.
    ///
    /// # Errors
    /// That the kernel does not tell.
    pub fn describe(&mut self) -> Result<Program, KernelError> {
        let refused = |e| KernelError::verify(e);
        let info: ProgramInfo = self.program()?.info().map_err(refused)?;
        Ok(Program {
            id: info.id(),
            tag: info.tag(),
            loaded_at: info.loaded_at(),
            instructions: info.size_translated().unwrap_or_default() / INSTRUCTION_BYTES,
            verified: info.verified_instruction_count(),
            bytes: info.size_jitted(),
        })
    }

    /// Which program every link holds, in order of interfaces.
    #[must_use]
    pub fn attachments(&self) -> Vec<Attachment> {
        let attachment = |index: u32| {
            let link = FdLink::from(PinnedLink::from_pin(self.pin(index)).ok()?);
            let info = link.info().ok()?;
            Some(Attachment {
                index,
                link: info.id(),
                program: info.program_id(),
            })
        };
        self.attached().filter_map(attachment).collect()
    }

    /// Every map the program shares with us.
    #[must_use]
    pub fn fills(&self) -> Vec<Fill> {
        map::NAMES
            .iter()
            .filter_map(|name| self.fill(name))
            .collect()
    }

    fn fill(&self, name: &'static str) -> Option<Fill> {
        let info = MapInfo::from_pin(self.dir.join(name)).ok()?;
        let capacity = info.max_entries();
        let used = match name {
            map::PORTS => Some(self.installed.len()),
            map::FLOWS => Some(self.flow_slots.used()),
            map::STATS => Some(self.stats_slots.used()),
            map::EGRESS => Some(self.links.len()),
            map::BANS => Some(self.bans.len()),
            map::EVENTS => None,
            _ => Some(usize::try_from(capacity).unwrap_or(usize::MAX)),
        };
        #[allow(clippy::wildcard_enum_match_arm, reason = "the program has these five")]
        let kind = match info.map_type().ok()? {
            MapType::Array => "array",
            MapType::PerCpuArray => "per-cpu array",
            MapType::DevMapHash => "device hash",
            MapType::RingBuf => "ring",
            MapType::LpmTrie => "longest prefix",
            _ => "other",
        };
        Some(Fill {
            name,
            id: info.id(),
            kind,
            used,
            capacity,
            bytes: charged(&info),
        })
    }
}

const INSTRUCTION_BYTES: u32 = 8;

/// proc(5), `/proc/pid/fdinfo`: bytes the kernel set aside.
fn charged(info: &MapInfo) -> Option<u64> {
    let map = info.fd().ok()?;
    let path = format!("/proc/self/fdinfo/{}", map.as_fd().as_raw_fd());
    let text = std::fs::read_to_string(path).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("memlock:"))?;
    line.trim().parse().ok()
}
