//! Generic netlink: XDP features (family `netdev`, kernels from 6.3) and ethtool, read only.

use std::collections::BTreeSet;
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto,
    setsockopt, socket, sockopt::ReceiveTimeout,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::doctor::facts::Ethtool;

/// `nlctrl` (linux/genetlink.h).
const CONTROL: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// linux/netdev.h
const DEV_GET: u8 = 1;
const DEV_IFINDEX: u16 = 1;
const DEV_XDP_FEATURES: u16 = 3;
/// linux/ethtool_netlink.h
const FEATURES_GET: u8 = 11;
const RINGS_GET: u8 = 15;
const CHANNELS_GET: u8 = 17;
const HEADER: u16 = 1;
const HEADER_INDEX: u16 = 1;
const ACTIVE: u16 = 4;
const BITS: u16 = 3;
const BIT_NAME: u16 = 2;
const NESTED: u16 = 1 << 15;
/// Both bits that a kind of attribute may carry beside its number.
const KIND_MASK: u16 = 0x3fff;

const REQUEST: u16 = 1;
const ERROR: u16 = 2;
const HEADER_BYTES: usize = 20;
const ANSWER_BYTES_MAX: usize = 32 * 1024;
const PATIENCE_S: i64 = 2;

/// Bits of `enum netdev_xdp_act`.
pub(super) fn xdp_features(index: u32) -> Option<u64> {
    let family = family("netdev")?;
    let answer = ask(
        family,
        DEV_GET,
        &attribute(DEV_IFINDEX, &index.to_ne_bytes()),
    )?;
    let value = attributes(&answer)
        .find(|(kind, _)| *kind == DEV_XDP_FEATURES)?
        .1;
    Some(u64::from_ne_bytes(value.try_into().ok()?))
}

pub(super) fn ethtool(index: u32) -> Ethtool {
    let Some(family) = family("ethtool") else {
        return Ethtool::default();
    };
    let device = attribute(HEADER_INDEX, &index.to_ne_bytes());
    let device = attribute(HEADER | NESTED, &device);
    let number = |answer: &[u8], wanted: u16| {
        let value = attributes(answer).find(|(kind, _)| *kind == wanted)?.1;
        Some(u32::from_ne_bytes(value.try_into().ok()?))
    };
    let channels = ask(family, CHANNELS_GET, &device).and_then(|answer| {
        // Combined queues where the driver has them, else those for receiving.
        let pair = |now, most| number(&answer, now).zip(number(&answer, most));
        pair(9, 5)
            .filter(|(_, most)| *most > 0)
            .or_else(|| pair(6, 2))
    });
    let rx_ring = ask(family, RINGS_GET, &device)
        .and_then(|answer| number(&answer, 6).zip(number(&answer, 2)))
        .filter(|(_, most)| *most > 0);
    Ethtool {
        features: ask(family, FEATURES_GET, &device).map(|answer| active(&answer)),
        channels,
        rx_ring,
    }
}

/// Names in the bit set of active features.
fn active(answer: &[u8]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (_, set) in attributes(answer).filter(|(kind, _)| *kind == ACTIVE) {
        for (_, bits) in attributes(set).filter(|(kind, _)| *kind == BITS) {
            for (_, bit) in attributes(bits) {
                let name = attributes(bit).find(|(kind, _)| *kind == BIT_NAME);
                let name = name.and_then(|(_, name)| std::str::from_utf8(name).ok());
                names.extend(name.map(|name| name.trim_end_matches('\0').to_owned()));
            }
        }
    }
    names
}

fn family(name: &str) -> Option<u16> {
    let mut text = name.as_bytes().to_vec();
    text.push(0);
    let answer = ask(CONTROL, GET_FAMILY, &attribute(FAMILY_NAME, &text))?;
    let value = attributes(&answer).find(|(kind, _)| *kind == FAMILY_ID)?.1;
    Some(u16::from_ne_bytes(value.try_into().ok()?))
}

/// One question, one answer: its attributes.
fn ask(family: u16, command: u8, attributes: &[u8]) -> Option<Vec<u8>> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let protocol = SockProtocol::NetlinkGeneric;
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol).ok()?;
    bind(netlink.as_raw_fd(), &NetlinkAddr::new(0, 0)).ok()?;
    setsockopt(&netlink, ReceiveTimeout, &TimeVal::seconds(PATIENCE_S)).ok()?;
    let length = u32::try_from(HEADER_BYTES + attributes.len()).ok()?;
    let mut request = Vec::with_capacity(HEADER_BYTES + attributes.len());
    request.extend(length.to_ne_bytes());
    request.extend(family.to_ne_bytes());
    request.extend(REQUEST.to_ne_bytes());
    request.extend([0; 8]); // sequence number, port id
    request.extend([command, 1, 0, 0]); // genlmsghdr: version 1
    request.extend(attributes);
    let (there, none) = (NetlinkAddr::new(0, 0), MsgFlags::empty());
    sendto(netlink.as_raw_fd(), &request, &there, none).ok()?;
    let mut answer = vec![0; ANSWER_BYTES_MAX];
    let length = recv(netlink.as_raw_fd(), &mut answer, none).ok()?;
    let whole = answer.get(..length)?;
    let own = usize::try_from(u32::from_ne_bytes(whole.get(..4)?.try_into().ok()?)).ok()?;
    let kind = u16::from_ne_bytes(whole.get(4..6)?.try_into().ok()?);
    (kind != ERROR).then(|| whole.get(HEADER_BYTES..own).map(<[u8]>::to_vec))?
}

/// Length and kind, the value, and what fills up to four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = Vec::with_capacity(8 + value.len());
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Kind and value, until one does not fit.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let number = |at: usize| {
            let pair = rest.get(at..at + 2)?;
            Some(u16::from_ne_bytes(pair.try_into().ok()?))
        };
        let (length, kind) = (usize::from(number(0)?), number(2)?);
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & KIND_MASK, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_until_one_does_not_fit() {
        let mut bytes = attribute(2, b"abc");
        bytes.extend(attribute(7 | NESTED, &attribute(1, &5u32.to_ne_bytes())));
        bytes.extend([200, 0, 1, 0]);
        let found: Vec<_> = attributes(&bytes).collect();
        let nested = attribute(1, &5u32.to_ne_bytes());
        assert_eq!(found, [(2, &b"abc"[..]), (7, &nested[..])]);
    }

    #[test]
    fn names_of_active_bits() {
        let bit = |name: &str| attribute(1 | NESTED, &attribute(2, name.as_bytes()));
        let bits = attribute(3 | NESTED, &[bit("rx-lro\0"), bit("rx-gro\0")].concat());
        let answer = attribute(4 | NESTED, &bits);
        let names: Vec<_> = active(&answer).into_iter().collect();
        assert_eq!(names, ["rx-gro", "rx-lro"]);
    }
}
