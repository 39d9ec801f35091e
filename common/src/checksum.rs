//! Internet checksums by difference (RFC 1624).
//!
//! Nothing here swaps bytes: a one's complement sum of halfwords comes out in the byte order they
//! were read in (RFC 1071 §1.B), so halfwords are taken and stored as they lie in memory.

use crate::wire::{Be16, Frame, Ip};

/// The difference between old and new contents, as a one's complement sum: `~m + m'` over every
/// halfword that changes (RFC 1624 §3, equation 3). Constant for a flow, whose old contents are
/// known in advance.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Update(u32);

impl Update {
    #[must_use]
    pub const fn new() -> Self {
        Self(0)
    }

    /// One halfword changes.
    #[must_use]
    #[inline(always)]
    pub const fn halfword(self, old: Be16, new: Be16) -> Self {
        Self(fold(self.0 + (!old.0) as u32 + new.0 as u32) as u32)
    }

    /// An address changes. A mapped IPv4 address brings its constant prefix on both sides, which
    /// cancels.
    #[must_use]
    pub const fn ip(self, old: Ip, new: Ip) -> Self {
        self.complement(old.sum()).add(new.sum())
    }

    /// The sum to keep in a flow.
    #[must_use]
    pub const fn folded(self) -> u16 {
        fold(self.0)
    }

    const fn complement(self, sum: u16) -> Self {
        self.add(!sum)
    }

    const fn add(self, sum: u16) -> Self {
        Self(fold(self.0 + sum as u32) as u32)
    }
}

/// The checksum after a change: `HC' = ~(~HC + ~m + m')`.
#[must_use]
#[inline(always)]
pub const fn apply(checksum: Be16, update: u16) -> Be16 {
    Be16(!fold((!checksum.0) as u32 + update as u32))
}

/// As `apply`, for UDP: a sum of zero is sent as all ones (RFC 768), because zero says that there
/// is no checksum. The caller keeps zero zero.
#[must_use]
#[inline(always)]
pub const fn apply_udp(checksum: Be16, update: u16) -> Be16 {
    match apply(checksum, update) {
        Be16(0) => Be16(0xffff),
        sum => sum,
    }
}

/// Adds the carries back in until they are gone (RFC 1071 §2).
#[must_use]
#[inline(always)]
#[allow(
    clippy::cast_possible_truncation,
    reason = "the carries have been folded in"
)]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum + (sum >> 16)) as u16
}

/// Whether the UDP checksum of a segment at `udp` that looks partial is whole after all, as one in
/// 65,536 is: adds the segment to the pseudo-header (RFC 768). One that is longer than
/// `SUMMED_BYTES_MAX` is taken for what it looks like.
#[must_use]
#[inline(always)]
pub fn is_whole(frame: &mut impl Frame, udp: usize, bytes: Be16, pseudo: u16) -> bool {
    let mut sum = u32::from(pseudo) + u32::from(bytes.0);
    let (mut at, mut left) = (udp, bytes.get());
    for _ in 0..SUMMED_BYTES_MAX / BLOCK_BYTES {
        if left < BLOCK_BYTES {
            break;
        }
        let Some(block) = frame.view::<[[u8; 2]; BLOCK_BYTES as usize / 2]>(at) else {
            return false;
        };
        for half in block {
            sum += u32::from(u16::from_ne_bytes(*half));
        }
        at += BLOCK_BYTES as usize;
        left -= BLOCK_BYTES;
    }
    for _ in 0..BLOCK_BYTES / 2 {
        if left < 2 {
            break;
        }
        let Some(half) = frame.view::<[u8; 2]>(at) else {
            return false;
        };
        sum += u32::from(u16::from_ne_bytes(*half));
        at += 2;
        left -= 2;
    }
    if left == 1 {
        // With its neighbour: the verifier follows no check of a single byte.
        let Some([_, last]) = frame.view::<[u8; 2]>(at - 1) else {
            return false;
        };
        sum += u32::from(u16::from_ne_bytes([*last, 0]));
        left = 0;
    }
    left == 0 && fold(sum) == 0xffff
}

/// What `is_whole` adds up at most: a segment on an Ethernet without jumbo frames.
const SUMMED_BYTES_MAX: u16 = 1504;
const BLOCK_BYTES: u16 = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1624 §4: 0xDD2F, 0x5555 becomes 0x3285; equation 3 gives 0x0000.
    #[test]
    fn rfc_example() {
        let update = Update::new().halfword(Be16(0x5555), Be16(0x3285)).folded();
        assert_eq!(apply(Be16(0xdd2f), update), Be16(0x0000));
        assert_eq!(apply_udp(Be16(0xdd2f), update), Be16(0xffff));
    }

    /// Two carries: the second comes from adding the first.
    #[test]
    fn every_carry_is_added_back() {
        assert_eq!(fold(0xffff), 0xffff);
        assert_eq!(fold(0x1_ffff), 1);
        assert_eq!(fold(0xffff_ffff), 0xffff);
    }

    fn from_scratch(words: &[u16]) -> u16 {
        let sum: u64 = words.iter().map(|w| u64::from(*w)).sum();
        let mut sum = sum;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !u16::try_from(sum).unwrap()
    }

    proptest! {
        /// The update equals a recomputation, for any contents that are not all zeros.
        #[test]
        fn equals_recomputation(
            mut words in proptest::collection::vec(any::<u16>(), 3..20),
            new in any::<[u16; 2]>(),
        ) {
            words[2] |= 1;
            let before = from_scratch(&words);
            let update = Update::new()
                .halfword(Be16(words[0]), Be16(new[0]))
                .halfword(Be16(words[1]), Be16(new[1]));
            words[..2].copy_from_slice(&new);
            prop_assert_eq!(apply(Be16(before), update.folded()).0, from_scratch(&words));
        }

        #[test]
        fn address_update_equals_halfwords(old in any::<[u32; 4]>(), new in any::<[u32; 4]>()) {
            let by_ip = Update::new().ip(Ip(old), Ip(new)).folded();
            let mut by_halfword = Update::new();
            for (o, n) in old.iter().zip(new) {
                let halves = |w: u32| [Be16((w & 0xffff) as u16), Be16((w >> 16) as u16)];
                for (o, n) in halves(*o).into_iter().zip(halves(n)) {
                    by_halfword = by_halfword.halfword(o, n);
                }
            }
            // 0 and 0xffff are the same number in one's complement.
            let norm = |sum: u16| if sum == 0xffff { 0 } else { sum };
            prop_assert_eq!(norm(by_ip), norm(by_halfword.folded()));
        }
    }
}
