//! Media sockets: the userspace path. One socket per local media address; what a rule claims is
//! forwarded here and now, the rest goes to the engine.

mod account;
mod batch;
mod room;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use common::rtp::Kind;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::effect::Rule;
use crate::id::NetworkId;
use crate::shell::Event;
use crate::shell::capture::Tap;
use crate::shell::clock;
use crate::shell::device::{self, Link};
use crate::shell::shard::Queues;

pub(crate) use self::account::Account;
pub(crate) use self::batch::Marks;
use self::batch::{Batch, PACKETS_MAX, Way};
use self::room::Room;

/// Every open media address.
pub(crate) struct Media {
    ports: HashMap<SocketAddr, Open>,
    queues: Queues,
    borders: Arc<Borders>,
    /// Of all ports there ever were.
    total: Arc<Count>,
    /// What of the open files is left to others.
    room: Room,
}

struct Open {
    port: Arc<Port>,
    /// Who reads it.
    reader: Option<AbortHandle>,
}

/// For each of our addresses, the links by which nothing may come to it.
type Borders = RwLock<HashMap<IpAddr, Arc<BTreeSet<Link>>>>;

pub(crate) struct Port {
    at: SocketAddr,
    borders: Arc<Borders>,
    socket: UdpSocket,
    out: RwLock<Option<Out>>,
    tap: RwLock<Option<Tap>>,
    account: Mutex<Account>,
    /// Whose it is; none of a flow of an earlier run.
    pub(crate) network: Option<NetworkId>,
    pub(crate) count: Count,
    total: Arc<Count>,
}

/// What the userspace path did at one address.
#[derive(Default)]
pub(crate) struct Count {
    /// Forwarded.
    pub(crate) packets: AtomicU64,
    pub(crate) bytes: AtomicU64,
    /// Packets no rule claimed.
    pub(crate) unclaimed: AtomicU64,
    /// Claimed, and may not travel further.
    pub(crate) hop_limit: AtomicU64,
    /// Claimed, and the network would not take them.
    pub(crate) send_failed: AtomicU64,
    /// Came by another network's interface than that of our address.
    pub(crate) wrong_interface: AtomicU64,
    /// Unclaimed, and the engine's queue was full.
    pub(crate) queue_full: AtomicU64,
    /// When the latest packet was forwarded, as `clock::monotonic_ns` counts; zero if none was.
    pub(crate) last_ns: AtomicU64,
}

#[derive(Clone)]
struct Out {
    rule: Rule,
    /// The link to the target, where the routing table could not tell.
    link: Option<Link>,
    port: Arc<Port>,
    /// By which RTCP leaves, where it has a way of its own.
    rtcp: Option<Arc<Port>>,
}

impl Media {
    pub(crate) fn new(queues: Queues) -> Self {
        Self {
            ports: HashMap::new(),
            queues,
            borders: Arc::default(),
            total: Arc::default(),
            room: Room::now(),
        }
    }

    /// Lets nothing in by these links, at these addresses.
    pub(crate) fn set_borders(&self, borders: HashMap<IpAddr, Arc<BTreeSet<Link>>>) {
        let mut own = self.borders.write().unwrap_or_else(PoisonError::into_inner);
        *own = borders;
    }

    /// Opens the socket and starts reading. An address that is open already stays as it is.
    pub(crate) fn open(&mut self, at: SocketAddr, network: Option<NetworkId>) -> io::Result<()> {
        if self.ports.contains_key(&at) {
            return Ok(());
        }
        let port = Arc::new(Port {
            at,
            borders: self.borders.clone(),
            socket: self.bind(at)?,
            out: RwLock::new(None),
            tap: RwLock::new(None),
            account: Mutex::default(),
            network,
            count: Count::default(),
            total: self.total.clone(),
        });
        let events = self.queues.of_port(at.port());
        let reader = events.map(|events| {
            let task = tokio::spawn(read(port.clone(), events.clone()));
            task.abort_handle()
        });
        self.ports.insert(at, Open { port, reader });
        Ok(())
    }

    fn bind(&self, at: SocketAddr) -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::for_address(at), Type::DGRAM, Some(Protocol::UDP))?;
        self.room.holds(&socket)?;
        socket.set_nonblocking(true)?;
        batch::show_marks(&socket, at)?;
        socket.bind(&at.into())?;
        UdpSocket::from_std(socket.into())
    }

    pub(crate) fn close(&mut self, at: SocketAddr) {
        let open = self.ports.remove(&at);
        if let Some(reader) = open.and_then(|open| open.reader) {
            reader.abort();
        }
    }

    /// False if either address is not open.
    pub(crate) fn install(&self, at: SocketAddr, rule: Rule, link: Option<Link>) -> bool {
        let (Some(port), Some(source)) = (self.port(at), self.port(rule.source)) else {
            return false;
        };
        port.set(Some(Out {
            rule,
            link,
            port: source.clone(),
            rtcp: rule.rtcp.and_then(|way| self.port(way.source)).cloned(),
        }));
        true
    }

    pub(crate) fn remove(&self, at: SocketAddr) {
        if let Some(port) = self.port(at) {
            port.set(None);
        }
    }

    /// Sends a datagram that no rule sends; a full socket buffer loses it like the network would.
    pub(crate) fn send(&self, at: SocketAddr, to: SocketAddr, bytes: &[u8], link: Option<Link>) {
        if let Some(port) = self.port(at)
            && let Err(error) = device::try_send(&port.socket, bytes, to, at.ip(), link)
        {
            tracing::debug!(%at, %to, %error, "cannot send from a media socket");
        }
    }

    pub(crate) fn port(&self, at: SocketAddr) -> Option<&Arc<Port>> {
        self.ports.get(&at).map(|open| &open.port)
    }

    pub(crate) fn len(&self) -> usize {
        self.ports.len()
    }

    /// Counts of all ports, those that are closed too.
    pub(crate) fn total(&self) -> &Count {
        &self.total
    }
}

impl Port {
    fn set(&self, out: Option<Out>) {
        *self.out.write().unwrap_or_else(PoisonError::into_inner) = out;
    }

    /// Shows a capture what goes through, or no more.
    pub(crate) fn tap(&self, tap: Option<Tap>) {
        *self.tap.write().unwrap_or_else(PoisonError::into_inner) = tap;
    }

    fn tapped(&self) -> Option<Tap> {
        let tap = self.tap.read().unwrap_or_else(PoisonError::into_inner);
        tap.clone()
    }

    fn border(&self) -> Option<Arc<BTreeSet<Link>>> {
        let borders = self.borders.read().unwrap_or_else(PoisonError::into_inner);
        borders.get(&self.at.ip()).cloned()
    }

    fn out(&self) -> Option<Out> {
        let out = self.out.read().unwrap_or_else(PoisonError::into_inner);
        out.clone()
    }

    /// Forwards a packet if a rule claims it.
    pub(crate) fn forward(&self, from: SocketAddr, marks: Marks, packet: &[u8]) -> bool {
        let Some(out) = self.out().filter(|out| out.rule.peer == from) else {
            return false;
        };
        let apart = out.takes_apart(packet);
        match out.way(marks, apart) {
            None => self.add(|c| &c.hop_limit, 1),
            Some(way) => match batch::send_one(&out.port(apart).socket, packet, &way) {
                Ok(()) => {
                    self.forwarded(1, packet.len());
                    self.account().receive(packet, clock::monotonic_ns());
                }
                Err(_) => self.add(|c| &c.send_failed, 1),
            },
        }
        true
    }

    /// Takes what has come and forwards what the rule claims, the rest goes to the engine.
    fn turn(&self, batch: &mut Batch, events: &mpsc::Sender<Event>) -> io::Result<()> {
        let mut received = 0;
        let read = self.socket.try_io(Interest::READABLE, || {
            received = batch.receive(&self.socket)?;
            if received < PACKETS_MAX {
                // There is no more: the next look waits for more, without asking again.
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(())
        });
        if received == 0 {
            return read;
        }
        let (out, tap, border) = (self.out(), self.tapped(), self.border());
        if let Some(tap) = &tap {
            self.show(batch, out.as_ref(), tap);
        }
        let mut next = 0;
        while let Some(packet) = batch.packet(next) {
            let foreign = |link: Link| border.as_ref().is_some_and(|b| b.contains(&link));
            if packet.link.is_some_and(foreign) {
                self.add(|c| &c.wrong_interface, 1);
                next += 1;
                continue;
            }
            match out.as_ref().filter(|out| out.rule.peer == packet.from) {
                None => {
                    self.tell(packet.from, packet.marks, batch.bytes(next), events);
                    next += 1;
                }
                Some(out) => next = self.pass_on(batch, next, out, tap.as_ref()),
            }
        }
        Ok(())
    }

    /// Forwards the packet at `first` and those behind it that go the same way; which is next.
    fn pass_on(&self, batch: &mut Batch, first: usize, out: &Out, tap: Option<&Tap>) -> usize {
        let Some(packet) = batch.packet(first) else {
            return first;
        };
        let alike = |p: &batch::Packet| (p.from, p.marks, p.link);
        let same = |other: &batch::Packet| alike(other) == alike(&packet);
        let apart = out.takes_apart(batch.bytes(first));
        let apart_too = |index: &usize| out.takes_apart(batch.bytes(*index)) == apart;
        let more = (first..)
            .take_while(apart_too)
            .map_while(|index| batch.packet(index).filter(same));
        let end = first + more.count();
        let Some(way) = out.way(packet.marks, apart) else {
            self.add(|c| &c.hop_limit, (end - first) as u64);
            return end;
        };
        let mut next = first;
        while next < end {
            // UDP is sent at once or not at all: a full socket buffer is loss, and counted.
            match batch.send(&out.port(apart).socket, next..end, &way) {
                Ok(sent) => {
                    let bytes = (next..next + sent)
                        .map(|index| batch.bytes(index).len())
                        .sum();
                    self.forwarded(sent, bytes);
                    self.keep_account(batch, next..next + sent);
                    if let Some(tap) = tap {
                        for index in next..next + sent {
                            tap.leaves([way.source, way.to], way.marks, batch.bytes(index));
                        }
                    }
                    next += sent.max(1);
                }
                Err(_) => {
                    self.add(|c| &c.send_failed, 1);
                    next += 1;
                }
            }
        }
        end
    }

    /// Shows a capture what came in.
    fn show(&self, batch: &Batch, out: Option<&Out>, tap: &Tap) {
        let mut index = 0;
        while let Some(packet) = batch.packet(index) {
            let claimed = out.is_some_and(|out| out.rule.peer == packet.from);
            let (ends, bytes) = ([packet.from, self.at], batch.bytes(index));
            tap.enters(ends, packet.marks, bytes, claimed);
            index += 1;
        }
    }

    /// Shows the engine a packet no rule claims.
    fn tell(&self, from: SocketAddr, marks: Marks, packet: &[u8], events: &mpsc::Sender<Event>) {
        self.add(|c| &c.unclaimed, 1);
        let unclaimed = Event::Unclaimed {
            at: self.at,
            from,
            marks,
            packet: Bytes::copy_from_slice(packet),
        };
        if events.try_send(unclaimed).is_err() {
            self.add(|c| &c.queue_full, 1);
        }
    }

    pub(crate) fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep_account(&self, batch: &Batch, sent: Range<usize>) {
        let (mut account, now) = (self.account(), clock::monotonic_ns());
        for index in sent {
            account.receive(batch.bytes(index), now);
        }
    }

    fn forwarded(&self, packets: usize, bytes: usize) {
        self.add(|c| &c.packets, packets as u64);
        self.add(|c| &c.bytes, bytes as u64);
        let now = clock::monotonic_ns();
        self.count.last_ns.store(now, Ordering::Relaxed);
    }

    fn add(&self, counter: fn(&Count) -> &AtomicU64, more: u64) {
        for count in [&self.count, &*self.total] {
            counter(count).fetch_add(more, Ordering::Relaxed);
        }
    }
}

impl Out {
    fn takes_apart(&self, packet: &[u8]) -> bool {
        let bytes = u16::try_from(packet.len()).unwrap_or(u16::MAX);
        let is_rtcp = |head| Kind::of(head, bytes) == Kind::Rtcp;
        self.rtcp.is_some() && packet.first_chunk().copied().is_some_and(is_rtcp)
    }

    fn port(&self, apart: bool) -> &Port {
        self.rtcp.as_ref().filter(|_| apart).unwrap_or(&self.port)
    }

    /// How a packet that came with these marks is sent, as the kernel program would; none if it
    /// may not travel further. `apart`: as RTCP that has a way of its own.
    fn way(&self, came: Marks, apart: bool) -> Option<Way> {
        let left = came.hops.checked_sub(1).filter(|hops| *hops > 0)?;
        let hops = self.rule.hops.unwrap_or(left);
        let tos = match self.rule.tos {
            // The sender's two ECN bits stay (RFC 3168 §5).
            Some(tos) => (tos & 0xfc) | (came.tos & 3),
            None => came.tos,
        };
        let (source, to) = match self.rule.rtcp {
            Some(rtcp) if apart => (rtcp.source, rtcp.target),
            Some(_) | None => (self.rule.source, self.rule.target),
        };
        Some(Way {
            to,
            source,
            marks: Marks { tos, hops },
            link: self.link,
        })
    }
}

async fn read(port: Arc<Port>, events: mpsc::Sender<Event>) {
    loop {
        let turn = match port.socket.readable().await {
            Ok(()) => batch::with(port.at, |batch| port.turn(batch, &events)),
            Err(error) => Err(error),
        };
        if let Err(error) = turn
            && error.kind() != io::ErrorKind::WouldBlock
        {
            tracing::debug!(at = %port.at, %error, "media socket");
        }
        // A socket that is never empty leaves the others their turn.
        tokio::task::coop::consume_budget().await;
    }
}

#[cfg(test)]
mod tests;
