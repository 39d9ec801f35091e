//! What the maps take, as the kernel accounts for it.

use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::maps::{Map, MapData};

use super::stand::{Programs, room};

/// The maps with room for so many flows at once, and for as many replacements.
#[derive(Clone, Debug)]
pub struct Memory {
    pub flows: u32,
    pub cpus: usize,
    /// Name and bytes.
    pub maps: Vec<(String, u64)>,
    /// Of those, in maps that every CPU has one of.
    pub per_cpu: u64,
}

impl Memory {
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.maps.iter().map(|(_, bytes)| bytes).sum()
    }

    /// What they would take on another machine.
    #[must_use]
    pub fn on(&self, cpus: u64) -> u64 {
        let shared = self.bytes() - self.per_cpu;
        shared + self.per_cpu / (self.cpus as u64).max(1) * cpus
    }
}

pub(super) fn measure(programs: &Programs, flows: u32) -> Result<Memory> {
    let ebpf = room(programs, flows)?;
    let mut maps = Vec::new();
    let mut per_cpu = 0;
    for name in common::map::NAMES {
        let bytes = bytes(&ebpf, name)?;
        if matches!(ebpf.map(name), Some(Map::PerCpuArray(_))) {
            per_cpu += bytes;
        }
        maps.push((name.to_owned(), bytes));
    }
    let cpus = aya::util::nr_cpus().map_err(|(what, e)| anyhow::anyhow!("{what}: {e}"))?;
    Ok(Memory {
        flows,
        cpus,
        maps,
        per_cpu,
    })
}

/// What a map takes.
fn bytes(ebpf: &Ebpf, name: &str) -> Result<u64> {
    let map = ebpf.map(name).with_context(|| format!("no map {name}"))?;
    let (Map::Array(data)
    | Map::PerCpuArray(data)
    | Map::RingBuf(data)
    | Map::DevMapHash(data)
    | Map::LpmTrie(data)
    | Map::HashMap(data)) = map
    else {
        anyhow::bail!("map {name}: a type whose memory is not known");
    };
    charged(data).with_context(|| format!("map {name}"))
}

fn charged(data: &MapData) -> Result<u64> {
    let descriptor = data.fd().as_fd().as_raw_fd();
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}"))?;
    let line = info.lines().find_map(|line| line.strip_prefix("memlock:"));
    Ok(line
        .context("the kernel does not say what it takes")?
        .trim()
        .parse()?)
}
