//! Octets as people and files have them: lower-case hexadecimal.

use sha2::{Digest as _, Sha256};

pub(crate) fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// SHA-256 of something, in hexadecimal.
pub(crate) fn sha256(of: impl AsRef<[u8]>) -> String {
    hex(&Sha256::digest(of))
}
