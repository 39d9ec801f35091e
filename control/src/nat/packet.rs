//! What the first bytes of a datagram on a media port are (RFC 7983, RFC 5761).

/// A datagram, as far as learning a source is concerned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Packet {
    /// RFC 3550 §5.1.
    Rtp {
        payload_type: u8,
        sequence: u16,
        ssrc: u32,
    },
    /// RFC 3550 §6.4.
    Rtcp { ssrc: u32 },
    /// RFC 8489 §5.
    Stun,
    /// RFC 9147 §4.
    Dtls,
    /// Anything else: keep-alives, BFCP, T.38, noise.
    Other,
}

/// RFC 8489 §5.
const STUN_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// Bytes needed to tell them apart: an RTP header.
pub const HEAD_BYTES: usize = 12;

impl Packet {
    /// Reads the head of a datagram; what is too short for its kind is `Other`.
    #[must_use]
    pub fn read(head: &[u8]) -> Self {
        let Some((&[first, second, s1, s2, t1, t2, t3, t4], rest)) = head.split_first_chunk()
        else {
            return Self::Other;
        };
        match first {
            // UDPTL counts from zero: only the cookie makes it STUN.
            0..=3 if [t1, t2, t3, t4] == STUN_COOKIE => Self::Stun,
            20..=63 => Self::Dtls,
            // RFC 5761 §4: RTCP types 192..=223, which RTP gives up as marked payload types.
            128..=191 if (192..=223).contains(&second) => Self::Rtcp {
                ssrc: u32::from_be_bytes([t1, t2, t3, t4]),
            },
            128..=191 => match rest {
                [a, b, c, d, ..] => Self::Rtp {
                    payload_type: second & 0x7f,
                    sequence: u16::from_be_bytes([s1, s2]),
                    ssrc: u32::from_be_bytes([*a, *b, *c, *d]),
                },
                _ => Self::Other,
            },
            _ => Self::Other,
        }
    }

    /// A BFCP message by its version bits: 1 over streams, 2 over datagrams (RFC 8855 §5.1).
    #[must_use]
    pub fn is_bfcp(head: &[u8]) -> bool {
        head.len() >= HEAD_BYTES && head.first().is_some_and(|b| matches!(b >> 5, 1 | 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_packets_apart() {
        let rtp = Packet::Rtp {
            payload_type: 8,
            sequence: 0x0102,
            ssrc: 0x0708_090a,
        };
        check(&[0x80, 8, 1, 2, 0, 0, 0, 0, 7, 8, 9, 10], rtp);
        check(&[0x80, 0x88, 1, 2, 0, 0, 0, 0, 7, 8, 9, 10, 0xff], rtp);
        check(&[0x80, 8, 1, 2, 0, 0, 0, 0, 7, 8, 9], Packet::Other);
        check(
            &[0x81, 200, 0, 1, 7, 8, 9, 10],
            Packet::Rtcp { ssrc: 0x0708_090a },
        );
        check(
            &[0x81, 223, 0, 1, 7, 8, 9, 10],
            Packet::Rtcp { ssrc: 0x0708_090a },
        );
        check(&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42], Packet::Stun);
        check(&[22, 0xfe, 0xfd, 0, 0, 0, 0, 0], Packet::Dtls);
        check(&[0x40, 0, 1, 2, 0, 0, 0, 0, 7, 8, 9, 10], Packet::Other);
        check(&[0, 1, 1, 6, 2, 0, 0, 0, 0], Packet::Other);
        check(&[0; 4], Packet::Other);
        check(&[], Packet::Other);

        fn check(head: &[u8], expected: Packet) {
            assert_eq!(Packet::read(head), expected, "{head:?}");
        }
    }
}
