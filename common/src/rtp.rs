//! What a datagram on a media port is, from its first two bytes.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::wire::Be16;

/// The fixed header (RFC 3550 §5.1).
#[repr(C, packed)]
#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
pub struct Rtp {
    head: [u8; 2],
    sequence: Be16,
    timestamp: u32,
    ssrc: u32,
}

impl Rtp {
    /// Marker and payload type; of RTCP the packet type.
    #[must_use]
    #[inline(always)]
    pub const fn second(&self) -> u8 {
        self.head[1]
    }

    #[must_use]
    #[inline(always)]
    pub const fn sequence(&self) -> u16 {
        self.sequence.get()
    }

    #[must_use]
    #[inline(always)]
    pub const fn timestamp(&self) -> u32 {
        u32::from_be(self.timestamp)
    }

    #[must_use]
    #[inline(always)]
    pub const fn ssrc(&self) -> u32 {
        u32::from_be(self.ssrc)
    }
}

/// Shortest RTP header (RFC 3550 §5.1).
pub const RTP_BYTES_MIN: u16 = 12;
/// Shortest RTCP packet that says anything: a header and one SSRC (RFC 3550 §6.4).
pub const RTCP_BYTES_MIN: u16 = 8;

/// Who a datagram is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Rtp,
    Rtcp,
    Stun,
    Dtls,
    /// Keep-alives, ZRTP, TURN channels, noise.
    Other,
}

impl Kind {
    /// By first byte (RFC 7983 §7), then RTCP apart from RTP by packet type (RFC 5761 §4).
    #[must_use]
    #[inline(always)]
    pub const fn of(head: [u8; 2], payload_bytes: u16) -> Self {
        match head[0] {
            0..=3 => Self::Stun,
            20..=63 => Self::Dtls,
            128..=191 => match head[1] {
                192..=223 if payload_bytes >= RTCP_BYTES_MIN => Self::Rtcp,
                192..=223 => Self::Other,
                _ if payload_bytes >= RTP_BYTES_MIN => Self::Rtp,
                _ => Self::Other,
            },
            _ => Self::Other,
        }
    }

    /// Whether what `is_media` is RTCP, by its second byte.
    #[must_use]
    #[inline(always)]
    pub const fn is_rtcp(second: u8) -> bool {
        matches!(second, 192..=223)
    }

    /// Whether the kernel may forward it.
    #[must_use]
    #[inline(always)]
    pub const fn is_media(self) -> bool {
        matches!(self, Self::Rtp | Self::Rtcp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        check([0x80, 0], 12, Kind::Rtp);
        check([0x80, 0x80 | 96], 12, Kind::Rtp); // marker set
        check([0xbf, 127], 12, Kind::Rtp);
        check([0x80, 191], 12, Kind::Rtp);
        check([0x80, 224], 12, Kind::Rtp);
        check([0x80, 0], 11, Kind::Other);
        check([0x80, 192], 8, Kind::Rtcp);
        check([0x81, 200], 28, Kind::Rtcp);
        check([0x80, 223], 8, Kind::Rtcp);
        check([0x80, 200], 7, Kind::Other);
        check([0, 1], 20, Kind::Stun);
        check([3, 1], 20, Kind::Stun);
        check([4, 1], 20, Kind::Other);
        check([16, 1], 20, Kind::Other); // ZRTP
        check([19, 1], 20, Kind::Other);
        check([20, 254], 20, Kind::Dtls);
        check([63, 254], 20, Kind::Dtls);
        check([64, 0], 20, Kind::Other); // TURN channel
        check([127, 0], 20, Kind::Other);
        check([192, 0], 20, Kind::Other);
        check([255, 255], 20, Kind::Other);
        check([b'\r', b'\n'], 2, Kind::Other);
    }

    fn check(head: [u8; 2], bytes: u16, expected: Kind) {
        assert_eq!(Kind::of(head, bytes), expected, "{head:?}, {bytes} bytes");
    }
}
