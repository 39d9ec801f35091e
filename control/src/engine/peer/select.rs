//! In which order addresses are tried (RFC 2782): lower priorities first, equals by weight. Shares
//! are exactly those of the weights: one of weight 0 comes after the others.

use crate::config::PeerAddress;

/// `random` gives a number for each choice.
pub(super) fn order(
    addresses: impl Iterator<Item = PeerAddress>,
    mut random: impl FnMut() -> u64,
) -> Vec<PeerAddress> {
    let mut left: Vec<PeerAddress> = addresses.collect();
    left.sort_by_key(|a| a.priority);
    let mut ordered = Vec::with_capacity(left.len());
    while let Some(first) = left.first() {
        let priority = first.priority;
        let equals = || left.iter().take_while(|a| a.priority == priority);
        let sum: u64 = equals().map(|a| u64::from(a.weight)).sum();
        let chosen = random().checked_rem(sum).map_or(0, |n| n + 1);
        let mut running = 0;
        let at = equals().position(|a| {
            running += u64::from(a.weight);
            running >= chosen
        });
        ordered.push(left.remove(at.unwrap_or(0)));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8, priority: u16, weight: u16) -> PeerAddress {
        PeerAddress {
            address: ([10, 0, 0, last], 5060).into(),
            transport: None,
            priority,
            weight,
        }
    }

    fn check(addresses: &[PeerAddress], random: u64, expected: &[u8]) {
        let ordered = order(addresses.iter().copied(), || random);
        let last = |a: &PeerAddress| match a.address.ip() {
            std::net::IpAddr::V4(ip) => ip.octets()[3],
            std::net::IpAddr::V6(_) => 0,
        };
        let found: Vec<u8> = ordered.iter().map(last).collect();
        assert_eq!(found, expected, "{random}");
    }

    #[test]
    fn priorities_then_weights() {
        let three = [at(1, 20, 1), at(2, 10, 3), at(3, 10, 1)];
        check(&three, 0, &[2, 3, 1]);
        check(&three, 2, &[2, 3, 1]);
        check(&three, 3, &[3, 2, 1]);
        check(&[at(2, 0, 0), at(1, 0, 5)], 0, &[1, 2]);
        check(&[at(1, 0, 0), at(2, 0, 0)], 7, &[1, 2]);
        check(&[], 1, &[]);
    }

    #[test]
    fn shares_are_those_of_the_weights() {
        let two = [at(1, 0, 1), at(2, 0, 3)];
        let mut firsts = [0; 2];
        for number in 0..5_000 {
            let ordered = order(two.iter().copied(), || number);
            firsts[usize::from(ordered[0].weight == 3)] += 1;
        }
        assert_eq!(firsts, [1250, 3750]);
    }
}
