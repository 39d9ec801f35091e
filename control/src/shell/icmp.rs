//! "Too big" (RFC 792, RFC 1191; RFC 4443 §3.2) about a packet that we sent on: routers tell us,
//! whose address it left with, and we tell the party it came from. The kernel's own sockets learn
//! the way's size by themselves; a packet that the kernel program forwards passes by them.

mod message;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc::{self, error::TrySendError};

use crate::shell::device::{self, Link};

pub(crate) use self::message::TooBig;

/// So many in a second are passed on; each may be forged, and each makes us send.
const TOLD_PER_S: u32 = 100;
/// The loop looks at no more before it rests: pings come here as well.
const READ_AT_ONCE: u32 = 64;
const REST: Duration = Duration::from_millis(10);
/// Every header of a quoted packet.
const MESSAGE_BYTES_MAX: usize = 256;

/// What was heard and waits for the loop; more is lost, and routers repeat it.
const HEARD_MAX: usize = 64;

/// Hears and says it, for each family there is.
pub(crate) struct Icmp {
    heard: mpsc::Receiver<TooBig>,
    v4: Option<Arc<UdpSocket>>,
    v6: Option<Arc<UdpSocket>>,
    window: Option<Instant>,
    in_window: u32,
    pub(crate) count: Count,
}

/// What became of messages.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    pub(crate) told: u64,
    /// Not about a packet of a flow, or not to be believed.
    pub(crate) unmatched: u64,
    /// Over the limit.
    pub(crate) limited: u64,
    pub(crate) failed: u64,
}

impl Icmp {
    /// Begins to listen. Without the right to, nothing is heard and nothing told.
    pub(crate) fn start() -> Self {
        let (news, heard) = mpsc::channel(HEARD_MAX);
        let start = |domain, protocol| match open(domain, protocol) {
            Ok(socket) => {
                let socket = Arc::new(socket);
                let is_v4 = domain == Domain::IPV4;
                tokio::spawn(read(socket.clone(), is_v4, news.clone()));
                Some(socket)
            }
            Err(error) => {
                tracing::warn!(
                    %error,
                    ?domain,
                    "no ICMP socket: parties are not told that their packets are too big for the \
                     way on; give the daemon CAP_NET_RAW"
                );
                None
            }
        };
        Self {
            v4: start(Domain::IPV4, Protocol::ICMPV4),
            v6: start(Domain::IPV6, Protocol::ICMPV6),
            heard,
            window: None,
            in_window: 0,
            count: Count::default(),
        }
    }

    /// The next message; waits for ever where nothing can be heard.
    pub(crate) async fn heard(&mut self) -> TooBig {
        match self.heard.recv().await {
            Some(news) => news,
            None => std::future::pending().await,
        }
    }

    /// Tells `peer` that what it sends to `at` may not be longer than that.
    pub(crate) fn tell(
        &mut self,
        peer: SocketAddr,
        at: SocketAddr,
        news: TooBig,
        link: Option<Link>,
        now: Instant,
    ) {
        if !self.may_tell(now) {
            self.count.limited += 1;
            return;
        }
        let Some(message) = message::about(peer, at, news) else {
            self.count.unmatched += 1;
            return;
        };
        let socket = if at.is_ipv4() { &self.v4 } else { &self.v6 };
        let Some(socket) = socket else { return };
        // Raw sockets have no ports.
        let to = SocketAddr::new(peer.ip(), 0);
        match device::try_send_from(socket, &message, to, at.ip(), link.unwrap_or(0)) {
            Ok(_) => {
                self.count.told += 1;
                tracing::debug!(%peer, %at, mtu = news.mtu, "told that its packets are too big");
            }
            Err(error) => {
                self.count.failed += 1;
                tracing::debug!(%peer, %at, %error, "cannot tell that packets are too big");
            }
        }
    }

    fn may_tell(&mut self, now: Instant) -> bool {
        let over = |began: Instant| now.saturating_duration_since(began) >= Duration::from_secs(1);
        if self.window.is_none_or(over) {
            (self.window, self.in_window) = (Some(now), 0);
        }
        self.in_window += 1;
        self.in_window <= TOLD_PER_S
    }
}

fn open(domain: Domain, protocol: Protocol) -> io::Result<UdpSocket> {
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.set_nonblocking(true)?;
    let any: IpAddr = match domain {
        Domain::IPV4 => Ipv4Addr::UNSPECIFIED.into(),
        _ => Ipv6Addr::UNSPECIFIED.into(),
    };
    socket.bind(&SocketAddr::new(any, 0).into())?;
    UdpSocket::from_std(socket.into())
}

async fn read(socket: Arc<UdpSocket>, is_v4: bool, heard: mpsc::Sender<TooBig>) {
    let mut buffer = [0; MESSAGE_BYTES_MAX];
    loop {
        for _ in 0..READ_AT_ONCE {
            let Ok((bytes, _)) = socket.recv_from(&mut buffer).await else {
                continue;
            };
            let message = buffer.get(..bytes).unwrap_or_default();
            let news = match is_v4 {
                true => TooBig::read_v4(message),
                false => TooBig::read_v6(message),
            };
            if let Some(news) = news {
                // When the loop has no time for it, the router will say it again.
                if let Err(TrySendError::Closed(_)) = heard.try_send(news) {
                    return;
                }
            }
        }
        tokio::time::sleep(REST).await;
    }
}
