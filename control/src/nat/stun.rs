//! STUN binding, the client's part: what does another host see of us? (RFC 8489)

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// RFC 8489 §5.
pub const TRANSACTION_BYTES: usize = 12;
const HEADER_BYTES: usize = 20;
const COOKIE: u32 = 0x2112_A442;
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
/// RFC 8489 §18.3.
const MAPPED_ADDRESS: u16 = 0x0001;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;

/// RFC 8489 §6.2.1: sent again after 500 ms, then after twice as long each time.
pub const RETRANSMIT_MS: [u64; 3] = [500, 1000, 2000];

/// A request without attributes.
#[must_use]
pub fn request(transaction: [u8; TRANSACTION_BYTES]) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    let parts = BINDING_REQUEST
        .to_be_bytes()
        .into_iter()
        .chain([0, 0])
        .chain(COOKIE.to_be_bytes())
        .chain(transaction);
    for (byte, part) in bytes.iter_mut().zip(parts) {
        *byte = part;
    }
    bytes
}

/// The address in a success response to that transaction; none if it is anything else.
#[must_use]
pub fn mapped(message: &[u8], transaction: [u8; TRANSACTION_BYTES]) -> Option<SocketAddr> {
    let header = message.get(..HEADER_BYTES)?;
    if number(header, 0)? != BINDING_SUCCESS
        || header.get(4..8)? != COOKIE.to_be_bytes()
        || header.get(8..)? != transaction
    {
        return None;
    }
    let length = usize::from(number(header, 2)?);
    let mut rest = message.get(HEADER_BYTES..HEADER_BYTES + length)?;
    let mut plain = None;
    while let (Some(kind), Some(length)) = (number(rest, 0), number(rest, 2)) {
        let length = usize::from(length);
        let value = rest.get(4..4 + length)?;
        match kind {
            XOR_MAPPED_ADDRESS => return unmasked(address(value)?, transaction),
            // Servers older than RFC 5389.
            MAPPED_ADDRESS => plain = address(value),
            _ => {}
        }
        rest = rest
            .get(4 + length.next_multiple_of(4)..)
            .unwrap_or_default();
    }
    plain
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes(pair.try_into().ok()?))
}

/// RFC 8489 §14.1.
fn address(value: &[u8]) -> Option<SocketAddr> {
    let port = number(value, 2)?;
    let ip = match value.get(1)? {
        1 => IpAddr::from(<[u8; 4]>::try_from(value.get(4..8)?).ok()?),
        2 => IpAddr::from(<[u8; 16]>::try_from(value.get(4..20)?).ok()?),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// RFC 8489 §14.2.
fn unmasked(at: SocketAddr, transaction: [u8; TRANSACTION_BYTES]) -> Option<SocketAddr> {
    let high = u16::try_from(COOKIE >> 16).ok()?;
    let ip = match at.ip() {
        IpAddr::V4(ip) => Ipv4Addr::from(u32::from(ip) ^ COOKIE).into(),
        IpAddr::V6(ip) => {
            let mut mask = [0; 16];
            let parts = COOKIE.to_be_bytes().into_iter().chain(transaction);
            for (byte, part) in mask.iter_mut().zip(parts) {
                *byte = part;
            }
            Ipv6Addr::from(u128::from(ip) ^ u128::from_be_bytes(mask)).into()
        }
    };
    Some(SocketAddr::new(ip, at.port() ^ high))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5769 §2.2 and §2.3.
    const TRANSACTION: [u8; 12] = [
        0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae,
    ];

    fn success(attributes: &[u8]) -> Vec<u8> {
        let length = u16::try_from(attributes.len()).unwrap();
        let mut message = vec![1, 1];
        message.extend(length.to_be_bytes());
        message.extend(COOKIE.to_be_bytes());
        message.extend(TRANSACTION);
        message.extend(attributes);
        message
    }

    #[test]
    fn a_request_is_a_header() {
        let bytes = request(TRANSACTION);
        assert_eq!(bytes[..8], [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
        assert_eq!(bytes[8..], TRANSACTION);
    }

    #[test]
    fn the_mapped_address_of_the_rfc() {
        let software = [
            0x80, 0x22, 0, 11, b't', b'e', b's', b't', 0, 0, 0, 0, 0, 0, 0, 32,
        ];
        let v4 = [0, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43];
        let check = |attributes: &[u8], expected: &str| {
            let found = mapped(&success(attributes), TRANSACTION);
            assert_eq!(found, expected.parse().ok(), "{attributes:x?}");
        };
        check(&[&software[..], &v4].concat(), "192.0.2.1:32853");
        let v6 = [
            0, 0x20, 0, 20, 0, 2, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79, 0xbc,
            0x25, 0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9,
        ];
        check(&v6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853");
        check(
            &[0, 1, 0, 8, 0, 1, 0x13, 0xc4, 198, 51, 100, 1],
            "198.51.100.1:5060",
        );
        check(&[], "");
    }

    #[test]
    fn what_is_not_ours_or_cut_is_nothing() {
        let good = success(&[0, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43]);
        assert!(mapped(&good, TRANSACTION).is_some());
        assert_eq!(mapped(&good, [0; 12]), None);
        for length in 0..good.len() {
            assert_eq!(mapped(&good[..length], TRANSACTION), None, "{length}");
        }
        let mut refused = good;
        refused[1] = 0x11;
        assert_eq!(mapped(&refused, TRANSACTION), None);
    }
}
