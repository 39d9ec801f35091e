//! How many engines there are, and which Call-ID is whose: as before while calls of before are up,
//! because each of them is its engine's, with its number and its ports.

use bytes::Bytes;

use crate::config::{Config, SHARDS_MAX};
use crate::effect::{Record, Table};
use crate::engine::journal::call_of;
use crate::engine::shard::{KEY_BYTES, Shards, shards};
use crate::shell::clock;
use crate::shell::store::{Store, Tables};

/// Under which keys both are kept, among the calls.
const CALL_IDS: &[u8] = b"call-ids";
const COUNT: &[u8] = b"shards";

pub(super) fn whose(config: &Config, store: &Store, tables: &mut Tables, seed: [u8; 32]) -> Shards {
    let calls = tables.entry(Table::Calls).or_default();
    let mut take = |key: &[u8]| {
        let at = calls.iter().position(|kept| kept.key == key);
        at.map(|at| calls.swap_remove(at).record.bytes)
    };
    let (key, before) = (take(CALL_IDS), take(COUNT));
    let key = key.and_then(|bytes| <[u8; KEY_BYTES]>::try_from(&bytes[..]).ok());
    let before = before.and_then(|bytes| <[u8; 2]>::try_from(&bytes[..]).ok());
    let before = before.map(u16::from_be_bytes);
    let up = calls.iter().any(|kept| call_of(&kept.key).is_some());
    let wanted = wanted(config);
    let count = before.filter(|before| up && (1..=config.shards_max()).contains(before));
    let count = count.unwrap_or(wanted);
    if count != wanted {
        tracing::warn!(
            shards = count,
            wanted,
            "calls of before are up: the number of shards stays until a start without calls"
        );
    }
    let fresh = || shards(seed, 1).key();
    let whose = Shards::new(count, key.unwrap_or_else(fresh));
    let record = |key: &'static [u8], bytes: &[u8]| {
        let record = Record {
            at: clock::now(),
            bytes: Bytes::copy_from_slice(bytes),
        };
        ((Table::Calls, Bytes::from_static(key)), Some(record))
    };
    let mut writes = Vec::new();
    if key.is_none() {
        writes.push(record(CALL_IDS, &whose.key()));
    }
    if before != Some(count) {
        writes.push(record(COUNT, &count.to_be_bytes()));
    }
    if !writes.is_empty() {
        let mut keeper = store.keeper::<()>(None);
        drop(keeper.write(writes, Vec::new()));
    }
    whose
}

/// As many as are configured; else one for each processor, if media ports are enough.
fn wanted(config: &Config) -> u16 {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let processors = u16::try_from(processors).unwrap_or(SHARDS_MAX);
    let most = processors.min(config.shards_max());
    config.sip.shards.unwrap_or(most)
}
