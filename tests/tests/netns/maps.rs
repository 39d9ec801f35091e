//! What the kernel's maps hold, read from their pins as an operator with bpftool would.

use aya::maps::{Array, Map, MapData};
use common::map;
use common::wire::Be16;

use super::stage::Config;

/// Media ports that some flow is installed at, over all local addresses.
pub(crate) fn ports_in_use(config: &Config) -> usize {
    let path = config
        .pin_dir
        .join(format!("abi-{}", map::ABI))
        .join(map::PORTS);
    let pinned = Map::Array(MapData::from_pin(&path).unwrap());
    let ports: Array<MapData, map::Port> = Array::try_from(pinned).unwrap();
    let ranges = || config.networks.iter().map(|n| n.ports);
    let mut used = 0;
    for local in 0..map::LOCALS_MAX {
        let mut seen = std::collections::BTreeSet::new();
        for (first, last) in ranges() {
            for port in first..=last {
                let index = map::port_index(local, Be16::new(port));
                if seen.insert(port) && ports.get(&index, 0).unwrap().flow != map::SLOT_NONE {
                    used += 1;
                }
            }
        }
    }
    used
}
