//! Ids we make up.

/// An ULID: time, then chance, in the letters of Crockford's base 32, small ones.
pub(super) fn ulid(wall_ms: u64, random: &mut u64) -> String {
    let chance = u128::from(next(random)) << 64 | u128::from(next(random));
    let number = u128::from(wall_ms) << 80 | chance >> 48;
    let letter = |at: u32| {
        let five = usize::try_from(number >> (5 * at) & 31).unwrap_or(0);
        char::from(LETTERS.get(five).copied().unwrap_or(b'0'))
    };
    (0..LENGTH).rev().map(letter).collect()
}

const LENGTH: u32 = 26;
const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use crate::bus::topic::is_id;

    use super::*;

    #[test]
    fn ids_grow_with_time() {
        let mut random = 1;
        let ids: Vec<String> = (0..100).map(|at| ulid(at, &mut random)).collect();
        assert!(ids.is_sorted());
        assert!(ids.iter().all(|id| id.len() == 26 && is_id(id)));
        assert!(ulid(0, &mut random).starts_with("0000000000"));
        assert_eq!(&ulid((1 << 48) - 1, &mut random)[..10], "7zzzzzzzzz");
        assert_ne!(ulid(7, &mut random), ulid(7, &mut random));
    }
}
