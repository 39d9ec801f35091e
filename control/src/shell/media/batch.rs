//! Datagrams in two system calls, as many as are there: `recvmmsg`, `sendmmsg`. Each thread has
//! one set of buffers, made once; nothing is allocated for a packet.

use std::array;
use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::os::fd::AsRawFd;

use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrStorage,
    recvmmsg, sendmmsg, sendmsg, setsockopt, sockopt,
};
use socket2::Socket;

use crate::shell::device::Link;

/// Packets in one system call; the rest waits for the next, so that other sockets have their turn.
pub(super) const PACKETS_MAX: usize = 32;
/// Larger than any media datagram on an Ethernet with jumbo frames.
const DATAGRAM_BYTES_MAX: usize = 9_216;
/// What a packet is sent with of which we do not know how far it came (RFC 1122 §3.2.1.7).
const HOPS_DEFAULT: u8 = 64;

thread_local! {
    // The kernel shortens the room for an address to what the last one took: one set for each
    // family.
    static V4: RefCell<Batch> = RefCell::new(Batch::new(cmsg_space!(libc::in_pktinfo).len()));
    static V6: RefCell<Batch> = RefCell::new(Batch::new(cmsg_space!(libc::in6_pktinfo).len()));
}

/// This thread's buffers for sockets of that family.
pub(super) fn with<T>(at: SocketAddr, body: impl FnOnce(&mut Batch) -> T) -> T {
    let batch = if at.is_ipv4() { &V4 } else { &V6 };
    batch.with_borrow_mut(body)
}

/// What the IP header says beside the addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Marks {
    /// Differentiated services and congestion (RFC 2474, RFC 3168).
    pub(crate) tos: u8,
    /// TTL, hop limit.
    pub(crate) hops: u8,
}

impl Default for Marks {
    fn default() -> Self {
        Self {
            tos: 0,
            hops: HOPS_DEFAULT,
        }
    }
}

/// A datagram that came in.
#[derive(Clone, Copy)]
pub(super) struct Packet {
    pub(super) from: SocketAddr,
    pub(super) marks: Marks,
    /// The link it came by; none if the kernel did not say.
    pub(super) link: Option<Link>,
    pub(super) bytes: usize,
}

/// How to send.
#[derive(Clone, Copy)]
pub(super) struct Way {
    pub(super) to: SocketAddr,
    pub(super) source: SocketAddr,
    pub(super) marks: Marks,
    /// Overrules the routing table (ip(7), IP_PKTINFO; RFC 3542 §6.2).
    pub(super) link: Option<Link>,
}

pub(super) struct Batch {
    buffer: Vec<u8>,
    received: MultiHeaders<SockaddrStorage>,
    packets: Vec<Packet>,
    /// Without and with a link among the control messages, whose room has to be exact.
    sent: MultiHeaders<SockaddrStorage>,
    sent_by_link: MultiHeaders<SockaddrStorage>,
    to: [Option<SockaddrStorage>; PACKETS_MAX],
}

impl Batch {
    fn new(link_bytes: usize) -> Self {
        // IPv4's byte of service takes the room of a word, as IPv6's does.
        let marks = || cmsg_space!(libc::c_int, libc::c_int);
        let mut with_link = Vec::new();
        with_link.reserve_exact(marks().len() + link_bytes);
        Self {
            buffer: vec![0; PACKETS_MAX * DATAGRAM_BYTES_MAX],
            received: MultiHeaders::preallocate(
                PACKETS_MAX,
                Some(cmsg_space!(libc::c_int, libc::c_int, libc::in6_pktinfo)),
            ),
            packets: Vec::with_capacity(PACKETS_MAX),
            sent: MultiHeaders::preallocate(PACKETS_MAX, Some(marks())),
            sent_by_link: MultiHeaders::preallocate(PACKETS_MAX, Some(with_link)),
            to: [None; PACKETS_MAX],
        }
    }

    /// Takes what has come, without waiting; never nothing.
    pub(super) fn receive(&mut self, socket: &impl AsRawFd) -> io::Result<usize> {
        self.packets.clear();
        let mut chunks = self.buffer.chunks_exact_mut(DATAGRAM_BYTES_MAX);
        let mut slices: [_; PACKETS_MAX] =
            array::from_fn(|_| [IoSliceMut::new(chunks.next().unwrap_or_default())]);
        let flags = MsgFlags::MSG_DONTWAIT;
        let headers = &mut self.received;
        let received = recvmmsg(socket.as_raw_fd(), headers, &mut slices, flags, None)?;
        self.packets
            .extend(received.map(|message| packet(&message)));
        Ok(self.packets.len())
    }

    pub(super) fn packet(&self, index: usize) -> Option<Packet> {
        self.packets.get(index).copied()
    }

    pub(super) fn bytes(&self, index: usize) -> &[u8] {
        self.packet(index)
            .map_or(&[], |packet| datagram(&self.buffer, index, packet.bytes))
    }

    /// Sends packets that came in on, from the first of the range, without waiting; how many the
    /// network took, never none.
    pub(super) fn send(
        &mut self,
        socket: &impl AsRawFd,
        range: Range<usize>,
        way: &Way,
    ) -> io::Result<usize> {
        let packets = self.packets.get(range.clone()).unwrap_or_default();
        let slices: [_; PACKETS_MAX] = array::from_fn(|index| {
            let packet = packets.get(index);
            let bytes = packet.map(|p| datagram(&self.buffer, range.start + index, p.bytes));
            [IoSlice::new(bytes.unwrap_or_default())]
        });
        let slices = slices.get(..packets.len()).unwrap_or_default();
        let to = self.to.get_mut(..packets.len()).unwrap_or_default();
        to.fill(Some(SockaddrStorage::from(way.to)));
        let headers = match way.link {
            None => &mut self.sent,
            Some(_) => &mut self.sent_by_link,
        };
        way.control(|control| {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            let sent = sendmmsg(socket.as_raw_fd(), headers, slices, to, control, flags)?;
            Ok(sent.count())
        })
    }
}

impl Way {
    /// The control messages that say it.
    fn control<T>(&self, send: impl FnOnce(&[ControlMessage<'_>]) -> T) -> T {
        let Marks { tos, hops } = self.marks;
        let (class, hops) = (i32::from(tos), i32::from(hops));
        match self.source {
            SocketAddr::V4(source) => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: self.link.map_or(0, u32::cast_signed),
                    ipi_spec_dst: libc::in_addr {
                        s_addr: u32::from_ne_bytes(source.ip().octets()),
                    },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                let all = [
                    ControlMessage::Ipv4Ttl(&hops),
                    ControlMessage::Ipv4Tos(&tos),
                    ControlMessage::Ipv4PacketInfo(&info),
                ];
                send(with_link(&all, self.link))
            }
            SocketAddr::V6(source) => {
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr {
                        s6_addr: source.ip().octets(),
                    },
                    ipi6_ifindex: self.link.unwrap_or_default(),
                };
                let all = [
                    ControlMessage::Ipv6HopLimit(&hops),
                    ControlMessage::Ipv6TClass(&class),
                    ControlMessage::Ipv6PacketInfo(&info),
                ];
                send(with_link(&all, self.link))
            }
        }
    }
}

/// The link's message is the last.
fn with_link<'a, 'm>(
    all: &'a [ControlMessage<'m>],
    link: Option<Link>,
) -> &'a [ControlMessage<'m>] {
    match (link, all.split_last()) {
        (None, Some((_, marks))) => marks,
        _ => all,
    }
}

/// One packet that did not come in just now, on its own.
pub(super) fn send_one(socket: &impl AsRawFd, packet: &[u8], way: &Way) -> io::Result<()> {
    way.control(|control| {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let to = SockaddrStorage::from(way.to);
        let packet = [IoSlice::new(packet)];
        sendmsg(socket.as_raw_fd(), &packet, control, flags, Some(&to))?;
        Ok(())
    })
}

/// Makes a socket say the marks of what it receives, and the link it came by.
pub(super) fn show_marks(socket: &Socket, at: SocketAddr) -> io::Result<()> {
    match at {
        SocketAddr::V4(_) => {
            setsockopt(socket, sockopt::Ipv4RecvTtl, &true)?;
            setsockopt(socket, sockopt::IpRecvTos, &true)?;
            setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?;
        }
        SocketAddr::V6(_) => {
            setsockopt(socket, sockopt::Ipv6RecvHopLimit, &true)?;
            setsockopt(socket, sockopt::Ipv6RecvTClass, &true)?;
            setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        }
    }
    Ok(())
}

fn datagram(buffer: &[u8], index: usize, bytes: usize) -> &[u8] {
    let start = index * DATAGRAM_BYTES_MAX;
    buffer.get(start..start + bytes).unwrap_or_default()
}

fn packet(message: &RecvMsg<'_, '_, SockaddrStorage>) -> Packet {
    // The kernel names the sender of every datagram.
    let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let (marks, link) = marks(message);
    Packet {
        from: message.address.and_then(address).unwrap_or(nobody),
        marks,
        link,
        bytes: message.bytes,
    }
}

fn address(from: SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = from.as_sockaddr_in() {
        return Some(SocketAddr::V4((*v4).into()));
    }
    from.as_sockaddr_in6()
        .map(|v6| SocketAddr::V6((*v6).into()))
}

fn marks(message: &RecvMsg<'_, '_, SockaddrStorage>) -> (Marks, Option<Link>) {
    let mut marks = Marks::default();
    let mut link = None;
    let byte = |word: i32| u8::try_from(word & 0xff).unwrap_or_default();
    for control in message.cmsgs().into_iter().flatten() {
        #[allow(
            clippy::wildcard_enum_match_arm,
            reason = "of some sixty, we asked for six"
        )]
        match control {
            ControlMessageOwned::Ipv4Ttl(hops) | ControlMessageOwned::Ipv6HopLimit(hops) => {
                marks.hops = byte(hops);
            }
            ControlMessageOwned::Ipv4Tos(tos) => marks.tos = tos,
            ControlMessageOwned::Ipv6TClass(class) => marks.tos = byte(class),
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                link = Link::try_from(info.ipi_ifindex).ok();
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => link = Some(info.ipi6_ifindex),
            _ => {}
        }
    }
    (marks, link)
}
