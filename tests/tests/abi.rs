//! The built object's maps are the ones `common` describes. Needs no privileges.

#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use aya_obj::Object;
use common::event::Event;
use common::flow::Flow;
use common::forward::Reason;
use common::map::{self, Port, Settings};
use common::media::Media;
use common::stats::FlowStats;
use towpath_tests::process;

// Kinds of maps, from the kernel's `enum bpf_map_type`.
const ARRAY: u32 = 2;
const PERCPU_ARRAY: u32 = 6;
const LPM_TRIE: u32 = 11;
const DEVMAP_HASH: u32 = 25;
const RINGBUF: u32 = 27;

/// Bytes of a device map's value: an interface index and a program.
const DEVICE_BYTES: usize = 8;

#[test]
fn the_object_has_our_maps() {
    let object = Object::parse(&std::fs::read(process::object().unwrap()).unwrap()).unwrap();
    let check = |name, kind, key: usize, value: usize, entries| {
        let map = object
            .maps
            .get(name)
            .unwrap_or_else(|| panic!("no map {name}"));
        assert_eq!(map.map_type(), kind, "{name}: type");
        assert_eq!(map.key_size() as usize, key, "{name}: key");
        assert_eq!(map.value_size() as usize, value, "{name}: value");
        assert_eq!(map.max_entries(), entries, "{name}: entries");
    };
    check(map::SETTINGS, ARRAY, 4, size_of::<Settings>(), 1);
    check(map::PORTS, ARRAY, 4, size_of::<Port>(), map::PORTS_MAX);
    check(map::FLOWS, ARRAY, 4, size_of::<Flow>(), map::FLOWS_DEFAULT);
    check(
        map::STATS,
        PERCPU_ARRAY,
        4,
        size_of::<FlowStats>(),
        map::FLOWS_DEFAULT,
    );
    check(map::MEDIA, ARRAY, 4, size_of::<Media>(), map::FLOWS_DEFAULT);
    check(
        map::REASONS,
        PERCPU_ARRAY,
        4,
        size_of::<u64>(),
        Reason::COUNT,
    );
    check(map::EVENTS, RINGBUF, 0, 0, map::EVENTS_BYTES);
    check(map::BANS, LPM_TRIE, 20, size_of::<u32>(), map::BANS_MAX);
    check(map::EGRESS, DEVMAP_HASH, 4, DEVICE_BYTES, map::EGRESS_MAX);

    // No map is shared that this test does not know.
    let ours = |name: &&String| !name.starts_with("AYA_LOG") && !name.starts_with('.');
    assert_eq!(object.maps.keys().filter(ours).count(), map::NAMES.len());
    assert!(object.programs.contains_key(map::PROGRAM));
    assert_eq!(object.maps[map::ABI_SECTION].data(), map::ABI.to_le_bytes());
}

/// What the maps mean is in these sizes; a change of one needs a new `map::ABI`.
#[test]
fn the_abi_number_covers_these_sizes() {
    let sizes = [
        size_of::<Settings>(),
        size_of::<Port>(),
        size_of::<Flow>(),
        size_of::<FlowStats>(),
        size_of::<Media>(),
        size_of::<Event>(),
        Reason::ALL.len(),
    ];
    assert_eq!((map::ABI, sizes), (5, [376, 8, 128, 64, 64, 56, 19]));
}
