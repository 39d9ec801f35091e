//! Branches, tags and tokens: unguessable to others, repeatable from the seed.

use sha2::{Digest, Sha256};

use crate::id::Shard;

/// RFC 3261 §8.1.1.7.
const MAGIC_COOKIE: &str = "z9hG4bK";

pub(super) struct Names {
    seed: [u8; 32],
    /// Of the node: the same in every shard.
    common: [u8; 32],
    counter: u64,
}

impl Names {
    /// Each shard has names of its own; those of the first follow from the seed alone.
    pub(super) fn new(seed: [u8; 32], shard: Shard) -> Self {
        let mut names = Self {
            seed,
            common: seed,
            counter: 0,
        };
        if !shard.is_first() {
            names.seed = names.secret(&format!("shard {}", shard.index()));
        }
        names
    }

    pub(super) fn branch(&mut self) -> String {
        format!("{MAGIC_COOKIE}{}", self.token())
    }

    /// 64 unguessable bits in hexadecimal (§19.3 asks for 32 in a tag).
    pub(super) fn token(&mut self) -> String {
        self.counter = self.counter.wrapping_add(1);
        let hash = Sha256::new()
            .chain_update(self.seed)
            .chain_update(self.counter.to_be_bytes())
            .finalize();
        name(&hash)
    }

    /// The same for the same parts, in every shard, and unguessable.
    pub(super) fn name_of(&self, parts: &[&[u8]]) -> String {
        let mut hash = Sha256::new().chain_update(self.common).chain_update("name");
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        name(&hash.finalize())
    }

    /// An unguessable number.
    pub(super) fn number(&mut self) -> u64 {
        u64::from_str_radix(&self.token(), 16).unwrap_or_default()
    }

    /// The same in every shard.
    pub(super) fn common_secret(&self, label: &str) -> [u8; 32] {
        Sha256::new()
            .chain_update(self.common)
            .chain_update(label)
            .finalize()
            .into()
    }

    /// A secret of its own for another component.
    pub(super) fn secret(&self, label: &str) -> [u8; 32] {
        Sha256::new()
            .chain_update(self.seed)
            .chain_update(label)
            .finalize()
            .into()
    }
}

/// 64 bits of a hash in hexadecimal: every message has one, most have several.
fn name(hash: &[u8]) -> String {
    let octets = hash.first_chunk().copied().unwrap_or_default();
    format!("{:016x}", u64::from_be_bytes(octets))
}
