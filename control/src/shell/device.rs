//! Sending through a named link. Where two links have the same prefix, the destination does not say
//! which one is meant; the source address does.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrLike, sendmsg};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Index of a network interface.
pub(crate) type Link = u32;

/// Sends at once or not at all; `link` overrules the routing table (ip(7), IP_PKTINFO; RFC 3542
/// §6.2).
pub(crate) fn try_send(
    socket: &UdpSocket,
    packet: &[u8],
    to: SocketAddr,
    source: IpAddr,
    link: Option<Link>,
) -> io::Result<usize> {
    match link {
        Some(link) => try_send_from(socket, packet, to, source, link),
        None => socket.try_send_to(packet, to),
    }
}

/// The same from a socket that is bound to no address; link 0 is the routing table's.
pub(crate) fn try_send_from(
    socket: &UdpSocket,
    packet: &[u8],
    to: SocketAddr,
    source: IpAddr,
    link: Link,
) -> io::Result<usize> {
    socket.try_io(Interest::WRITABLE, || match (to, source) {
        (SocketAddr::V4(to), IpAddr::V4(source)) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: i32::try_from(link).unwrap_or_default(),
                ipi_spec_dst: libc::in_addr {
                    s_addr: u32::from_ne_bytes(source.octets()),
                },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            let how = ControlMessage::Ipv4PacketInfo(&info);
            send(socket, packet, how, &SockaddrIn::from(to))
        }
        (SocketAddr::V6(to), IpAddr::V6(source)) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr {
                    s6_addr: source.octets(),
                },
                ipi6_ifindex: link,
            };
            let how = ControlMessage::Ipv6PacketInfo(&info);
            send(socket, packet, how, &SockaddrIn6::from(to))
        }
        (SocketAddr::V4(_) | SocketAddr::V6(_), _) => Err(io::ErrorKind::AddrNotAvailable.into()),
    })
}

fn send<A: SockaddrLike>(
    socket: &UdpSocket,
    packet: &[u8],
    how: ControlMessage<'_>,
    to: &A,
) -> io::Result<usize> {
    let packet = [IoSlice::new(packet)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    Ok(sendmsg(
        socket.as_raw_fd(),
        &packet,
        &[how],
        flags,
        Some(to),
    )?)
}
