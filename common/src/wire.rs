//! Headers as they lie on the wire. Fields are in memory order; a view is borrowed in place and
//! needs no alignment.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of an Ethernet header without tags.
pub const ETHERNET_BYTES: u16 = 14;
/// Bytes of a tag (IEEE 802.1Q).
pub const TAG_BYTES: usize = 4;

/// A halfword in network byte order.
#[repr(transparent)]
#[derive(
    Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout,
)]
pub struct Be16(pub u16);

impl Be16 {
    #[must_use]
    #[inline(always)]
    pub const fn new(host: u16) -> Self {
        Self(host.to_be())
    }

    #[must_use]
    #[inline(always)]
    pub const fn get(self) -> u16 {
        u16::from_be(self.0)
    }
}

/// An address as four words in memory order. IPv4 is held in mapped form (RFC 4291 §2.5.5.2), so
/// there is one key type and one code path for both families.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, FromBytes, Immutable, IntoBytes, KnownLayout)]
pub struct Ip(pub [u32; 4]);

impl Ip {
    /// An IPv4 address as its word lies in memory.
    #[must_use]
    #[inline(always)]
    pub const fn mapped(word: u32) -> Self {
        Self([0, 0, MAPPED_PREFIX, word])
    }

    #[must_use]
    #[inline(always)]
    pub const fn is_v4(self) -> bool {
        self.0[0] | self.0[1] == 0 && self.0[2] == MAPPED_PREFIX
    }

    /// One's complement sum of its halfwords.
    #[must_use]
    pub const fn sum(self) -> u16 {
        let [a, b, c, d] = self.0;
        crate::checksum::fold(half(a) + half(b) + half(c) + half(d))
    }
}

const fn half(word: u32) -> u32 {
    (word & 0xffff) + (word >> 16)
}

/// `::ffff:` as the third word of a mapped address.
const MAPPED_PREFIX: u32 = 0x0000_ffff_u32.to_be();

impl PartialEq for Ip {
    /// Word by word: a comparison of arrays would call `memcmp`.
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        let [a, b, c, d] = self.0;
        let [e, f, g, h] = other.0;
        (d ^ h) | (c ^ g) | (b ^ f) | (a ^ e) == 0
    }
}

impl From<IpAddr> for Ip {
    fn from(ip: IpAddr) -> Self {
        let octets = match ip {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        let mut words = [0; 4];
        for (word, chunk) in words.iter_mut().zip(octets.as_chunks::<4>().0) {
            *word = u32::from_ne_bytes(*chunk);
        }
        Self(words)
    }
}

impl From<Ip> for IpAddr {
    fn from(ip: Ip) -> Self {
        let mut octets = [0; 16];
        for (chunk, word) in octets.as_chunks_mut::<4>().0.iter_mut().zip(ip.0) {
            *chunk = word.to_ne_bytes();
        }
        Ipv6Addr::from(octets).to_canonical()
    }
}

impl From<Ipv4Addr> for Ip {
    fn from(ip: Ipv4Addr) -> Self {
        Self::mapped(u32::from_ne_bytes(ip.octets()))
    }
}

/// A hardware address as three halfwords in memory order.
#[repr(transparent)]
#[derive(
    Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout,
)]
pub struct Mac(pub [u16; 3]);

impl Mac {
    /// The same, taken apart and put together: BPF would call a function to copy six bytes.
    #[must_use]
    #[inline(always)]
    pub const fn halfwords(&self) -> Self {
        let [a, b, c] = self.0;
        Self([a, b, c])
    }
}

impl From<[u8; 6]> for Mac {
    fn from([a, b, c, d, e, f]: [u8; 6]) -> Self {
        Self([[a, b], [c, d], [e, f]].map(u16::from_ne_bytes))
    }
}

impl From<Mac> for [u8; 6] {
    fn from(mac: Mac) -> Self {
        let [[a, b], [c, d], [e, f]] = mac.0.map(u16::to_ne_bytes);
        [a, b, c, d, e, f]
    }
}

/// IEEE 802.3 with a type field.
#[repr(C, packed)]
#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
pub struct Ethernet {
    pub dst: Mac,
    pub src: Mac,
    pub ethertype: Be16,
}

/// IEEE 802.1Q: an Ethernet header with a tag, up to the type of what it carries.
#[repr(C, packed)]
#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
pub struct Tagged {
    pub dst: Mac,
    pub src: Mac,
    pub tag_type: Be16,
    /// Priority, drop eligibility, VLAN: pppd vvvv vvvv vvvv.
    pub tag: Be16,
}

/// IPv4 without options (RFC 791 §3.1).
#[repr(C, packed)]
#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
pub struct Ip4 {
    pub version_ihl: u8,
    pub tos: u8,
    pub total_bytes: Be16,
    pub id: Be16,
    pub fragment: Be16,
    pub ttl: u8,
    pub protocol: u8,
    pub checksum: Be16,
    pub src: u32,
    pub dst: u32,
}

/// IPv6 (RFC 8200 §3).
#[repr(C, packed)]
#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
pub struct Ip6 {
    /// Version, traffic class and the top of the flow label.
    pub version_class: [u8; 2],
    pub label: Be16,
    pub payload_bytes: Be16,
    pub next_header: u8,
    pub hop_limit: u8,
    pub src: [u32; 4],
    pub dst: [u32; 4],
}

/// UDP (RFC 768).
#[repr(C, packed)]
#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
pub struct Udp {
    pub src: Be16,
    pub dst: Be16,
    pub bytes: Be16,
    pub checksum: Be16,
}

/// A whole IPv4 packet's headers, under one bounds check.
#[repr(C)]
#[derive(FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
pub struct Udp4 {
    pub ethernet: Ethernet,
    pub ip: Ip4,
    pub udp: Udp,
}

/// A whole IPv6 packet's headers, under one bounds check.
#[repr(C)]
#[derive(FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
pub struct Udp6 {
    pub ethernet: Ethernet,
    pub ip: Ip6,
    pub udp: Udp,
}

const _: () = assert!(size_of::<Tagged>() == ETHERNET_BYTES as usize - 2 + TAG_BYTES);
const _: () = assert!(size_of::<Udp4>() == 42);
const _: () = assert!(size_of::<Udp6>() == 62);

/// A frame to look at and to change.
pub trait Frame {
    /// Bytes from the Ethernet header to the end, padding included.
    fn bytes(&self) -> usize;

    /// The bytes at `at` as a `T`; none if the frame ends before it does.
    fn view<T: View>(&mut self, at: usize) -> Option<&mut T>;

    /// Lets the frame begin so many bytes later, or earlier if it is negative; false if there is no
    /// room, and nothing has changed.
    fn shift(&mut self, by: i32) -> bool;

    /// `checksum::is_whole`, for the kernel to work out apart from the rest.
    fn is_whole(&mut self, udp: usize, bytes: Be16, pseudo: u16) -> bool;
}

/// What may be laid over raw bytes: any bit pattern is valid, there is no padding and no alignment.
pub trait View: FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned {}

impl<T: FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned> View for T {}

/// A frame in ordinary memory, with room before it.
pub struct Buffer<'a> {
    bytes: &'a mut [u8],
    start: usize,
}

impl<'a> Buffer<'a> {
    /// The frame begins at `start` of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a mut [u8], start: usize) -> Self {
        Self { bytes, start }
    }

    #[must_use]
    pub fn frame(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }
}

impl Frame for Buffer<'_> {
    fn bytes(&self) -> usize {
        self.frame().len()
    }

    fn view<T: View>(&mut self, at: usize) -> Option<&mut T> {
        let bytes = self.bytes.get_mut(self.start.checked_add(at)?..)?;
        let (view, _) = T::mut_from_prefix(bytes).ok()?;
        Some(view)
    }

    fn shift(&mut self, by: i32) -> bool {
        let start = isize::try_from(by)
            .ok()
            .and_then(|by| self.start.checked_add_signed(by))
            .filter(|start| *start <= self.bytes.len());
        if let Some(start) = start {
            self.start = start;
        }
        start.is_some()
    }

    fn is_whole(&mut self, udp: usize, bytes: Be16, pseudo: u16) -> bool {
        crate::checksum::is_whole(self, udp, bytes, pseudo)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_their_bytes() {
        check(
            "10.1.2.3",
            [0, 0, 0xffff_u32.to_be(), 0x0a01_0203_u32.to_be()],
        );
        check(
            "2001:db8::1:2",
            [0x2001_0db8_u32.to_be(), 0, 0, 0x0001_0002_u32.to_be()],
        );
        check("::", [0; 4]);
    }

    fn check(text: &str, words: [u32; 4]) {
        let ip: IpAddr = text.parse().unwrap();
        assert_eq!(Ip::from(ip).0, words);
        assert_eq!(IpAddr::from(Ip(words)), ip);
        assert_eq!(Ip(words).is_v4(), ip.is_ipv4());
    }

    #[test]
    fn a_difference_in_any_word_is_a_difference() {
        for word in 0..4 {
            let mut words = [1, 2, 3, 4];
            words[word] ^= 0x8000_0000;
            assert_ne!(Ip(words), Ip([1, 2, 3, 4]));
        }
    }

    #[test]
    fn hardware_addresses_keep_their_bytes() {
        let mac = [2, 0, 0x5e, 0x10, 0x20, 0x30];
        assert_eq!(<[u8; 6]>::from(Mac::from(mac)), mac);
    }

    #[test]
    fn a_view_ends_with_the_frame() {
        let mut bytes = [0u8; 46];
        let mut frame = Buffer::new(&mut bytes, 4);
        assert!(frame.view::<Udp4>(0).is_some());
        assert!(frame.view::<Udp4>(1).is_none());
        assert!(frame.view::<Udp6>(0).is_none());
        assert!(frame.view::<[u8; 2]>(43).is_none());
    }

    #[test]
    fn a_frame_begins_where_there_is_room() {
        let mut bytes = [1, 2, 3, 4, 5, 6];
        let mut frame = Buffer::new(&mut bytes, 4);
        assert!(!frame.shift(-5));
        assert_eq!(frame.frame(), [5, 6]);
        assert!(frame.shift(-4));
        assert_eq!(frame.frame(), [1, 2, 3, 4, 5, 6]);
        assert!(frame.shift(4));
        assert_eq!((frame.frame(), frame.bytes()), (&[5, 6][..], 2));
        assert!(!frame.shift(3));
        assert!(frame.shift(2));
        assert_eq!(frame.bytes(), 0);
    }
}
