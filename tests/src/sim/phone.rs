//! A scripted SIP phone: registers, calls, answers as it was told, retransmits by RFC 3261's
//! timers, sends and judges RTP. Written apart from the edge's own machines.

mod call;
mod client;
mod server;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use control::sip::index::{Message, Start};

use super::Packet;
use super::rng::Rng;
use super::sdp::Direction;
use super::wire::Draft;

pub use call::{Call, State};
use client::{Client, Purpose};
use server::Server;

/// RFC 3261 table 4.
const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(32);

/// How it takes calls.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Manner {
    /// 180 after this; none: silent until the final answer.
    pub ring: Option<Duration>,
    /// 183 with SDP instead of 180.
    pub early: bool,
    /// Final answer after this; none: rings for ever.
    pub answer: Option<Duration>,
    /// The final answer.
    pub code: u16,
    /// Hears nothing, says nothing.
    pub dead: bool,
    /// Answers re-INVITEs; otherwise leaves them open.
    pub renegotiates: bool,
}

impl Manner {
    /// Rings at once, answers soon.
    pub const EAGER: Self = Self {
        ring: Some(Duration::from_millis(10)),
        early: false,
        answer: Some(Duration::from_millis(200)),
        code: 200,
        dead: false,
        renegotiates: true,
    };
    pub const RINGS: Self = Self {
        answer: None,
        ..Self::EAGER
    };
    pub const BUSY: Self = Self {
        code: 486,
        ..Self::EAGER
    };
    pub const DEAD: Self = Self {
        dead: true,
        ..Self::EAGER
    };
}

/// Who and where.
#[derive(Clone, Debug)]
pub struct Identity {
    pub user: String,
    pub password: String,
    pub domain: String,
    pub at: SocketAddr,
    /// Where its requests go first.
    pub proxy: SocketAddr,
    /// Whose SDP and Contact say this instead of `at`'s address.
    pub claims: Option<IpAddr>,
    /// The user its From and To name instead of its own.
    pub speaks_as: Option<String>,
}

/// A call to be made.
#[derive(Clone, Debug, Default)]
pub struct Dial {
    /// Request-URI; empty: the user at our domain.
    pub uri: String,
    pub user: String,
    /// No SDP in the INVITE: the answer is in ACK (RFC 3261 §13.2.1).
    pub delayed: bool,
    /// Whole header lines.
    pub lines: Vec<u8>,
    /// Instead of the SDP, with its type.
    pub body: Option<(String, Vec<u8>)>,
    pub max_forwards: Option<u8>,
}

pub struct Phone {
    pub id: Identity,
    pub manner: Manner,
    pub calls: Vec<Call>,
    /// Instead of its SDP, wherever it would write one.
    pub says: Option<Vec<u8>>,
    /// Every message received, retransmissions included.
    pub heard: Vec<Message>,
    /// Status of the last REGISTER; zero while none was answered.
    pub registered: u16,
    /// Granted lifetime of the last registration.
    pub granted: u32,
    refresh: Option<Instant>,
    registration: (String, u32),
    clients: Vec<Client>,
    servers: Vec<Server>,
    names: Rng,
    next_port: u16,
    nonce_count: u32,
}

/// Packets a phone wants sent.
pub type Out = Vec<Packet>;

impl Phone {
    #[must_use]
    pub fn new(id: Identity, manner: Manner, seed: u64) -> Self {
        let mut names = Rng::new(seed);
        let registration = (format!("reg-{:x}", names.number()), 0);
        Self {
            id,
            manner,
            calls: Vec::new(),
            says: None,
            heard: Vec::new(),
            registered: 0,
            granted: 0,
            refresh: None,
            registration,
            clients: Vec::new(),
            servers: Vec::new(),
            names,
            next_port: 4000,
            nonce_count: 0,
        }
    }

    /// Registers, and again and again before it expires. Zero ends it.
    pub fn register(&mut self, expires: u32, now: Instant, out: &mut Out) {
        self.refresh = None;
        self.registration.1 += 1;
        let (call_id, cseq) = self.registration.clone();
        let uri = format!("sip:{}", self.id.domain);
        let own = format!("<sip:{}@{}>", self.name(), self.id.domain);
        let tag = self.token();
        let draft = Draft::request("REGISTER", &uri)
            .with("Via", self.via())
            .with("From", format!("{own};tag={tag}"))
            .with("To", own)
            .with("Call-ID", call_id)
            .with("CSeq", format!("{cseq} REGISTER"))
            .with("Max-Forwards", "70")
            .with("Contact", self.contact())
            .with("Expires", expires.to_string());
        let to = self.id.proxy;
        self.launch(
            draft.body(None),
            to,
            Purpose::Register { expires },
            now,
            out,
        );
    }

    /// Lets its registration run out.
    pub fn rest(&mut self) {
        self.refresh = None;
    }

    /// Calls a user of our domain.
    pub fn dial(&mut self, user: &str, now: Instant, out: &mut Out) -> usize {
        let dial = Dial {
            user: user.to_owned(),
            ..Dial::default()
        };
        self.dial_as(&dial, now, out)
    }

    /// The call's index in `calls`.
    pub fn dial_as(&mut self, dial: &Dial, now: Instant, out: &mut Out) -> usize {
        let call = self.new_call(true, now);
        let index = self.calls.len();
        self.calls.push(call);
        self.invite(index, dial, now, out);
        index
    }

    /// Ends a call in the way its state asks for.
    pub fn hang_up(&mut self, index: usize, now: Instant, out: &mut Out) {
        self.call_mut(index).leaving = true;
        match self.call(index).state {
            State::Calling => self.cancel(index, now, out),
            State::Ringing => self.answer(index, 603, now, out),
            State::Up if self.call(index).success.is_some() => {}
            State::Up => self.bye(index, now, out),
            State::Over => {}
        }
    }

    /// Offers a new direction; `zero` says it with `c=0.0.0.0` (RFC 2543).
    pub fn hold(
        &mut self,
        index: usize,
        direction: Direction,
        zero: bool,
        now: Instant,
        out: &mut Out,
    ) {
        let call = self.call_mut(index);
        call.direction = direction;
        call.zero = zero;
        call.version += 1;
        self.reinvite(index, now, out);
    }

    /// A request inside a call, with header lines and a body of one's own.
    pub fn request(
        &mut self,
        index: usize,
        method: &str,
        lines: &[u8],
        body: Option<(&str, &[u8])>,
        now: Instant,
        out: &mut Out,
    ) {
        let (draft, to) = self.within(index, method);
        let draft = draft.with("Contact", self.contact()).lines(lines);
        let purpose = Purpose::Other { call: index };
        self.launch(draft.body(body), to, purpose, now, out);
    }

    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let clients = self.clients.iter().filter_map(Client::next_timeout);
        let servers = self.servers.iter().map(Server::next_timeout);
        let calls = self.calls.iter().filter_map(Call::next_timeout);
        clients
            .chain(servers)
            .chain(calls)
            .chain(self.refresh)
            .min()
    }

    pub fn expire(&mut self, now: Instant, out: &mut Out) {
        if self.refresh.is_some_and(|at| at <= now) {
            self.register(3600, now, out);
        }
        self.expire_clients(now, out);
        self.expire_servers(now, out);
        for index in 0..self.calls.len() {
            self.expire_call(index, now, out);
        }
    }

    /// A packet for our address.
    pub fn receive(&mut self, packet: &Packet, now: Instant, out: &mut Out) {
        if self.manner.dead {
            return;
        }
        if packet.to.port() != self.id.at.port() {
            let ours = |c: &&mut Call| c.rtp.local == packet.to || c.rtp.rtcp() == packet.to;
            if let Some(call) = self.calls.iter_mut().find(ours)
                && call.state != State::Over
            {
                call.rtp.receive(packet);
            }
            return;
        }
        if packet.bytes.iter().all(|b| matches!(b, b'\r' | b'\n')) {
            return;
        }
        let message = Message::parse(packet.bytes.clone());
        let message = message.unwrap_or_else(|why| {
            unreachable!(
                "the edge sent what it would refuse: {why:?} {:?}",
                packet.bytes
            )
        });
        self.heard.push(message.clone());
        match message.start() {
            Start::Request { .. } => self.receive_request(&message, packet.from, now, out),
            Start::Response { .. } => self.receive_response(&message, now, out),
        }
    }

    /// A call that exists.
    ///
    /// # Panics
    /// If it does not.
    #[must_use]
    pub fn call(&self, index: usize) -> &Call {
        self.calls.get(index).expect("a call of this phone")
    }

    /// The same, to be changed.
    ///
    /// # Panics
    /// If it does not exist.
    pub fn call_mut(&mut self, index: usize) -> &mut Call {
        self.calls.get_mut(index).expect("a call of this phone")
    }

    /// The latest call there is.
    #[must_use]
    pub fn last(&self) -> Option<usize> {
        self.calls.len().checked_sub(1)
    }

    /// Requests of a method that were received, retransmissions included.
    #[must_use]
    pub fn requests(&self, method: &str) -> Vec<&Message> {
        let is = |m: &&Message| {
            m.method()
                .is_some_and(|m| m.as_bytes() == method.as_bytes())
        };
        self.heard.iter().filter(is).collect()
    }

    /// Status codes received for a method, retransmissions included.
    #[must_use]
    pub fn codes(&self, method: &str) -> Vec<u16> {
        let of = |m: &&Message| m.cseq().1 == method.as_bytes();
        self.heard
            .iter()
            .filter(of)
            .filter_map(Message::code)
            .collect()
    }

    /// Whether a call is up and no offer of it is open.
    #[must_use]
    pub fn is_settled(&self, index: usize) -> bool {
        let call = self.call(index);
        call.state == State::Up
            && call.success.is_none()
            && call.retry_at.is_none()
            && call.invited.is_none()
            && !call.inviting
    }

    fn name(&self) -> &str {
        self.id.speaks_as.as_ref().unwrap_or(&self.id.user)
    }

    fn token(&mut self) -> String {
        format!("{:016x}", self.names.number())
    }

    fn via(&mut self) -> String {
        let branch = self.token();
        format!("SIP/2.0/UDP {};branch=z9hG4bK{branch};rport", self.id.at)
    }

    fn contact(&self) -> String {
        let at = self
            .id
            .claims
            .map_or(self.id.at, |ip| SocketAddr::new(ip, self.id.at.port()));
        format!("<sip:{}@{at}>", self.id.user)
    }

    fn send(&self, bytes: &Bytes, to: SocketAddr, out: &mut Out) {
        out.push(Packet {
            from: self.id.at,
            to,
            bytes: bytes.clone(),
        });
    }
}
