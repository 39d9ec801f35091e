//! The simulator: virtual time, virtual networks, one seed. It drives the real engine and the real
//! `forward`; phones, NAT boxes and strangers are scripted.
//!
//! A network is a set of addresses with one kind of link. A packet that leaves a host for an
//! address its network does not hold goes to the network's NAT box, if it has one. Everything that
//! happens follows from the seed: the same seed gives the same trace.

pub mod edge;
pub mod life;
pub mod nat;
pub mod oracle;
pub mod phone;
pub mod plan;
pub mod rng;
pub mod rtp;
pub mod sdp;
pub mod stranger;
pub mod wire;
pub mod world;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;

use edge::Edge;
use nat::Nat;
use oracle::Oracle;
use phone::Phone;
use rng::Rng;
use stranger::Stranger;

/// Packets on their way at a time; a scenario that has more is a storm.
const FLYING_MAX: usize = 100_000;
/// SIP lines kept for the report of a failure.
const LINES_MAX: usize = 120;
/// RFC 3261's port: how the simulator tells signalling from media.
const SIP_PORT: u16 = 5060;

/// A UDP datagram.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Packet {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub bytes: Bytes,
}

impl Packet {
    /// Between two SIP sockets, or at least to or from one.
    #[must_use]
    pub fn is_sip(&self) -> bool {
        self.from.port() == SIP_PORT || self.to.port() == SIP_PORT
    }

    /// The first line, without its end.
    #[must_use]
    pub fn start_line(&self) -> String {
        let line = self.bytes.split(|b| *b == b'\r').next();
        String::from_utf8_lossy(line.unwrap_or_default()).into_owned()
    }
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct NetId(usize);

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct NodeId(usize);

/// What a network does to packets; chances in a thousand.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Link {
    pub delay: Duration,
    /// At most this much more, by chance: packets overtake each other.
    pub jitter: Duration,
    pub sip_loss: u64,
    pub media_loss: u64,
    pub duplicate: u64,
}

struct Net {
    members: BTreeMap<IpAddr, NodeId>,
    gateway: Option<NodeId>,
    link: Link,
}

enum Node {
    Edge(Box<Edge>),
    Phone(Box<Phone>),
    Stranger(Stranger),
    Nat {
        nat: Nat,
        inside: NetId,
        outside: NetId,
    },
}

struct Flying {
    net: NetId,
    node: NodeId,
    packet: Packet,
}

/// Whether a packet is lost on the way: asked for each, in order.
pub type Thief = Box<dyn FnMut(&Packet) -> bool>;

pub struct Sim {
    pub seed: u64,
    started: Instant,
    now: Instant,
    pub rng: Rng,
    nets: Vec<Net>,
    nodes: Vec<Node>,
    /// Which network a node's address is in.
    homes: BTreeMap<(NodeId, IpAddr), NetId>,
    flying: BTreeMap<(Instant, u64), Flying>,
    sequence: u64,
    thief: Option<Thief>,
    /// Packets nobody could be found for.
    pub unroutable: u64,
    /// Judges what phones hear, if it is told to.
    pub oracle: Option<Oracle>,
    trace: Trace,
}

/// Everything that was delivered: a digest of all, the last SIP lines in words.
#[derive(Debug)]
struct Trace {
    digest: u64,
    lines: VecDeque<String>,
}

impl Sim {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let started = crate::clock::now();
        Self {
            seed,
            started,
            now: started,
            rng: Rng::new(seed),
            nets: Vec::new(),
            nodes: Vec::new(),
            homes: BTreeMap::new(),
            flying: BTreeMap::new(),
            sequence: 0,
            thief: None,
            unroutable: 0,
            oracle: None,
            trace: Trace {
                digest: 0xcbf2_9ce4_8422_2325,
                lines: VecDeque::new(),
            },
        }
    }

    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Virtual time since the beginning.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.now - self.started
    }

    pub fn net(&mut self, link: Link) -> NetId {
        self.nets.push(Net {
            members: BTreeMap::new(),
            gateway: None,
            link,
        });
        NetId(self.nets.len() - 1)
    }

    /// Changes what a network does to packets.
    pub fn set_link(&mut self, net: NetId, link: Link) {
        self.net_mut(net).link = link;
    }

    pub fn add_edge(&mut self, edge: Edge, at: &[(NetId, IpAddr)]) -> NodeId {
        self.add(Node::Edge(Box::new(edge)), at)
    }

    pub fn add_phone(&mut self, phone: Phone, net: NetId) -> NodeId {
        let ips = [Some(phone.id.at.ip()), phone.id.media];
        let at: Vec<_> = ips.into_iter().flatten().map(|ip| (net, ip)).collect();
        self.add(Node::Phone(Box::new(phone)), &at)
    }

    /// A phone gets another address in its network.
    ///
    /// # Panics
    /// If somebody has it.
    pub fn move_phone(&mut self, id: NodeId, ip: IpAddr) {
        let old = self.phone(id).id.at.ip();
        let net = self.homes.remove(&(id, old));
        let net = net.expect("a phone has a home");
        self.net_mut(net).members.remove(&old);
        let before = self.net_mut(net).members.insert(ip, id);
        assert!(before.is_none(), "{ip} is taken in that network");
        self.homes.insert((id, ip), net);
        self.phone_mut(id).move_to(ip);
    }

    /// Whether somebody in a network has an address.
    #[must_use]
    pub fn lives_at(&self, net: Option<NetId>, ip: IpAddr) -> bool {
        let net = net.and_then(|net| self.nets.get(net.0));
        net.is_some_and(|net| net.members.contains_key(&ip))
    }

    /// Gives a node one more address.
    pub fn join(&mut self, id: NodeId, net: NetId, ip: IpAddr) {
        self.net_mut(net).members.insert(ip, id);
        self.homes.insert((id, ip), net);
    }

    /// Phones, by their numbers.
    pub fn phones(&self) -> impl Iterator<Item = (NodeId, &Phone)> {
        let nodes = self.nodes.iter().enumerate();
        nodes.filter_map(|(index, node)| match node {
            Node::Phone(phone) => Some((NodeId(index), &**phone)),
            Node::Edge(_) | Node::Stranger(_) | Node::Nat { .. } => None,
        })
    }

    pub fn add_stranger(&mut self, net: NetId, at: SocketAddr) -> NodeId {
        self.add(Node::Stranger(Stranger::new(at)), &[(net, at.ip())])
    }

    /// A box between `inside` and `outside`; it becomes the way out of `inside`.
    pub fn add_nat(&mut self, nat: Nat, inside: NetId, outside: NetId) -> NodeId {
        let (ip, rewrites) = (nat.outside, nat.rewrites);
        let node = Node::Nat {
            nat,
            inside,
            outside,
        };
        let id = self.add(node, &[(outside, ip)]);
        if let Some(ip) = rewrites {
            self.join(id, inside, ip);
        }
        self.net_mut(inside).gateway = Some(id);
        id
    }

    /// Takes packets off the wire: those for which `thief` says so.
    pub fn steal(&mut self, thief: impl FnMut(&Packet) -> bool + 'static) {
        self.thief = Some(Box::new(thief));
    }

    /// # Panics
    /// If the node is none.
    #[must_use]
    pub fn edge(&self, id: NodeId) -> &Edge {
        match self.nodes.get(id.0) {
            Some(Node::Edge(edge)) => edge,
            _ => unreachable!("not an edge"),
        }
    }

    /// # Panics
    /// If the node is none.
    pub fn edge_mut(&mut self, id: NodeId) -> &mut Edge {
        match self.nodes.get_mut(id.0) {
            Some(Node::Edge(edge)) => edge,
            _ => unreachable!("not an edge"),
        }
    }

    /// # Panics
    /// If the node is none.
    #[must_use]
    pub fn phone(&self, id: NodeId) -> &Phone {
        match self.nodes.get(id.0) {
            Some(Node::Phone(phone)) => phone,
            _ => unreachable!("not a phone"),
        }
    }

    /// # Panics
    /// If the node is none.
    pub fn phone_mut(&mut self, id: NodeId) -> &mut Phone {
        match self.nodes.get_mut(id.0) {
            Some(Node::Phone(phone)) => phone,
            _ => unreachable!("not a phone"),
        }
    }

    /// # Panics
    /// If the node is none.
    pub fn stranger(&mut self, id: NodeId) -> &mut Stranger {
        match self.nodes.get_mut(id.0) {
            Some(Node::Stranger(stranger)) => stranger,
            _ => unreachable!("not a stranger"),
        }
    }

    /// # Panics
    /// If the node is none.
    pub fn nat(&mut self, id: NodeId) -> &mut Nat {
        match self.nodes.get_mut(id.0) {
            Some(Node::Nat { nat, .. }) => nat,
            _ => unreachable!("not a NAT box"),
        }
    }

    /// Lets a phone do something now; what it sends is on its way.
    pub fn act<T>(
        &mut self,
        id: NodeId,
        deed: impl FnOnce(&mut Phone, Instant, &mut Vec<Packet>) -> T,
    ) -> T {
        let (now, mut out) = (self.now, Vec::new());
        let result = deed(self.phone_mut(id), now, &mut out);
        self.send_all(id, out);
        result
    }

    /// The same for an edge.
    pub fn order<T>(
        &mut self,
        id: NodeId,
        deed: impl FnOnce(&mut Edge, Instant, &mut Vec<Packet>) -> T,
    ) -> T {
        let (now, mut out) = (self.now, Vec::new());
        let result = deed(self.edge_mut(id), now, &mut out);
        self.send_all(id, out);
        self.check(id);
        result
    }

    /// Puts a packet on the wire as if `id` had sent it.
    pub fn inject(&mut self, id: NodeId, packet: Packet) {
        self.send_all(id, vec![packet]);
    }

    pub fn run_for(&mut self, time: Duration) {
        let limit = self.now + time;
        while self.step(limit) {}
    }

    /// Runs until `done`, at most for `time`. False if it did not come.
    pub fn run_until(&mut self, time: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let limit = self.now + time;
        loop {
            if done(self) {
                return true;
            }
            if !self.step(limit) {
                return done(self);
            }
        }
    }

    /// A number for everything that was delivered, when, to whom.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.trace.digest
    }

    /// The seed and the last SIP lines, for the message of a failed test.
    #[must_use]
    pub fn story(&self) -> String {
        let lines: Vec<&str> = self.trace.lines.iter().map(String::as_str).collect();
        format!("seed {}\n{}", self.seed, lines.join("\n"))
    }

    /// The next event, if it comes before `limit`; otherwise time goes to `limit`.
    fn step(&mut self, limit: Instant) -> bool {
        let arrival = self.flying.first_key_value().map(|((at, _), _)| *at);
        let timer = self.next_timer();
        let next = [arrival, timer.map(|(at, _)| at)]
            .into_iter()
            .flatten()
            .min();
        let Some(next) = next.filter(|next| *next <= limit) else {
            self.now = limit;
            return false;
        };
        self.now = next.max(self.now);
        if arrival == Some(next)
            && let Some((_, flying)) = self.flying.pop_first()
        {
            self.arrive(flying);
        } else if let Some((_, id)) = timer {
            self.expire(id);
        }
        true
    }

    fn next_timer(&self) -> Option<(Instant, NodeId)> {
        let due = |(index, node): (usize, &Node)| {
            let at = match node {
                Node::Edge(edge) => Some(edge.next_timeout()),
                Node::Phone(phone) => phone.next_timeout(),
                Node::Stranger(stranger) => stranger.next_timeout(),
                Node::Nat { .. } => None,
            };
            at.map(|at| (at, NodeId(index)))
        };
        self.nodes.iter().enumerate().filter_map(due).min()
    }

    fn expire(&mut self, id: NodeId) {
        let (now, mut out) = (self.now, Vec::new());
        match self.nodes.get_mut(id.0) {
            Some(Node::Edge(edge)) => edge.expire(now, &mut out),
            Some(Node::Phone(phone)) => phone.expire(now, &mut out),
            Some(Node::Stranger(stranger)) => stranger.expire(now, &mut out),
            Some(Node::Nat { .. }) | None => {}
        }
        self.send_all(id, out);
        self.check(id);
    }

    fn arrive(&mut self, flying: Flying) {
        let Flying { net, node, packet } = flying;
        self.record(node, &packet);
        self.judge(node, &packet);
        let (now, mut out) = (self.now, Vec::new());
        match self.nodes.get_mut(node.0) {
            Some(Node::Edge(edge)) => edge.receive(packet, now, &mut out),
            Some(Node::Phone(phone)) => phone.receive(&packet, now, &mut out),
            Some(Node::Stranger(stranger)) => stranger.received.push(packet),
            Some(Node::Nat { .. }) | None => return self.translate(node, net, packet),
        }
        self.send_all(node, out);
        self.check(node);
    }

    /// A packet at a NAT box, from `from_net`.
    fn translate(&mut self, id: NodeId, from_net: NetId, mut packet: Packet) {
        let (now, rng) = (self.now, &mut self.rng);
        let Some(Node::Nat {
            nat,
            inside,
            outside,
        }) = self.nodes.get_mut(id.0)
        else {
            return;
        };
        let (inside, outside) = (*inside, *outside);
        let mut to_net = outside;
        let meant = nat.outsider(packet.to.port());
        let meant = meant.filter(|_| from_net == inside && Some(packet.to.ip()) == nat.rewrites);
        if let Some(outsider) = meant {
            packet.from.set_ip(nat.outside);
            packet.to = outsider;
        } else if from_net == inside {
            packet.from = nat.outbound(packet.from, packet.to, now, rng);
            if packet.to.ip() == nat.outside && !nat.behaviour.hairpin {
                return;
            }
        }
        if packet.to.ip() == nat.outside {
            let Some(to) = nat.inbound(packet.from, packet.to, now) else {
                return;
            };
            if nat.mapped == Some(to.ip()) {
                packet.from = nat.disguise(packet.from);
            }
            packet.to = to;
            to_net = inside;
        } else if from_net == outside {
            // An address it has no more.
            return;
        }
        self.route(to_net, packet);
    }

    fn send_all(&mut self, id: NodeId, out: Vec<Packet>) {
        for packet in out {
            let home = self.homes.get(&(id, packet.from.ip())).copied();
            let net = home.unwrap_or_else(|| unreachable!("{} is nobody's", packet.from));
            self.route(net, packet);
        }
    }

    fn route(&mut self, net: NetId, packet: Packet) {
        let there = self.net_mut(net);
        let link = there.link;
        let node = there
            .members
            .get(&packet.to.ip())
            .copied()
            .or(there.gateway);
        let Some(node) = node else {
            self.unroutable += 1;
            return;
        };
        let stolen = self.thief.as_mut().is_some_and(|thief| thief(&packet));
        let loss = if packet.is_sip() {
            link.sip_loss
        } else {
            link.media_loss
        };
        if stolen || self.rng.permille(loss) {
            if packet.is_sip() {
                self.note(format!("lost: {} {}", packet.to, packet.start_line()));
            }
            return;
        }
        let copies = 1 + usize::from(self.rng.permille(link.duplicate));
        for _ in 0..copies {
            let at = self.now + link.delay + self.rng.duration(link.jitter);
            self.sequence += 1;
            let packet = packet.clone();
            self.flying
                .insert((at, self.sequence), Flying { net, node, packet });
        }
        assert!(self.flying.len() < FLYING_MAX, "a storm\n{}", self.story());
    }

    /// What must hold after each event.
    fn check(&mut self, id: NodeId) {
        let now = self.now;
        let wrong = match self.nodes.get_mut(id.0) {
            Some(Node::Edge(edge)) => edge.check_touched(now).err(),
            Some(Node::Phone(phone)) => phone.faults.pop(),
            Some(Node::Stranger(_) | Node::Nat { .. }) | None => None,
        };
        if let Some(what) = wrong {
            unreachable!("{what}\n{}", self.story());
        }
    }

    /// What a phone may hear.
    fn judge(&mut self, id: NodeId, packet: &Packet) {
        if packet.is_sip() || !matches!(self.nodes.get(id.0), Some(Node::Phone(_))) {
            return;
        }
        // A pinhole is kept open by nothing (RFC 6263 §4.1).
        if packet.bytes.is_empty() {
            return;
        }
        let Some(mut oracle) = self.oracle.take() else {
            return;
        };
        let verdict = oracle.judge(self, id, packet);
        self.oracle = Some(oracle);
        if let Err(what) = verdict {
            let at = self.elapsed().as_secs_f64();
            unreachable!("{at:.3} {what}\n{}", self.story());
        }
    }

    fn record(&mut self, node: NodeId, packet: &Packet) {
        let elapsed = self.elapsed();
        let when = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let who = u64::try_from(node.0).unwrap_or(u64::MAX);
        let ends = [packet.from, packet.to].map(|at| format!("{at}"));
        let mut digest = self.trace.digest;
        let parts = [
            &when.to_be_bytes()[..],
            &who.to_be_bytes(),
            ends[0].as_bytes(),
            ends[1].as_bytes(),
            &packet.bytes,
        ];
        for byte in parts.into_iter().flatten() {
            // FNV-1a.
            digest = (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.trace.digest = digest;
        if packet.is_sip() {
            let (seconds, from, to) = (elapsed.as_secs_f64(), packet.from, packet.to);
            self.note(format!(
                "{seconds:9.3} {from} > {to} {}",
                packet.start_line()
            ));
        }
    }

    fn note(&mut self, line: String) {
        if self.trace.lines.len() >= LINES_MAX {
            self.trace.lines.pop_front();
        }
        self.trace.lines.push_back(line);
    }

    fn add(&mut self, node: Node, at: &[(NetId, IpAddr)]) -> NodeId {
        let id = NodeId(self.nodes.len());
        self.nodes.push(node);
        for (net, ip) in at {
            let before = self.net_mut(*net).members.insert(*ip, id);
            assert!(before.is_none(), "{ip} is taken in that network");
            self.homes.insert((id, *ip), *net);
        }
        id
    }

    fn net_mut(&mut self, net: NetId) -> &mut Net {
        self.nets
            .get_mut(net.0)
            .expect("a network of this simulation")
    }
}
