//! A scripted SIP phone: registers, calls, answers as it was told, retransmits by RFC 3261's
//! timers, sends and judges RTP. Written apart from the edge's own machines.

mod call;
mod client;
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use control::sip::index::{Message, Name, Start};

use super::Packet;
use super::rng::Rng;
use super::rtp::{Pace, Rtp};
use super::sdp::{Description, Direction, Kind};
use super::wire::{self, Draft};

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
    /// What it offers and accepts beside audio.
    pub extras: Extras,
    /// Names its sources in SDP (RFC 5576).
    pub names_sources: bool,
    /// Writes a `c=` for each line.
    pub apart: bool,
}

/// What a phone offers and accepts beside audio.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Extras {
    None,
    Video,
    /// Two videos and floor control.
    Conference,
}

impl Extras {
    fn kinds(self) -> &'static [Kind] {
        match self {
            Self::None => &[],
            Self::Video => &[Kind::Video],
            Self::Conference => &[Kind::Video, Kind::Video, Kind::Floor],
        }
    }

    fn accepts(self, kind: Kind) -> bool {
        kind == Kind::Audio || self.kinds().contains(&kind)
    }
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
        extras: Extras::None,
        names_sources: false,
        apart: false,
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
    /// Its SDP and Contact say this instead of `at`'s address.
    pub claims: Option<IpAddr>,
    /// Its media has an address of its own.
    pub media: Option<IpAddr>,
    /// Where its SDP says the first line is instead.
    pub points_at: Option<SocketAddr>,
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

/// An offer inside a call: what it changes. A delayed one changes what our answer says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Offer {
    /// A new direction, and whether hold is said with `c=0.0.0.0` (RFC 2543).
    pub direction: Option<(Direction, bool)>,
    /// This line is taken out, or in again.
    pub switch: Option<usize>,
    /// A new line.
    pub adds: Option<Kind>,
    /// Every line goes to other ports.
    pub moves: bool,
    pub by: By,
}

/// How an offer is made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum By {
    #[default]
    Invite,
    /// A re-INVITE without SDP: the other side offers.
    InviteWithout,
    Update,
}

/// Most `m=` lines of a phone.
const LINES_MAX: usize = 6;

pub struct Phone {
    pub id: Identity,
    pub manner: Manner,
    pub calls: Vec<Call>,
    pub pace: Pace,
    /// What SDP, Contact and Via of the edge may say to it; empty: not looked at.
    pub expects: BTreeSet<IpAddr>,
    /// What it was told that cannot be.
    pub faults: Vec<String>,
    /// The final response to each of its INVITEs, by branch.
    finals: BTreeMap<Vec<u8>, (u16, Vec<u8>)>,
    /// The preference its registration names.
    pub q: Option<&'static str>,
    /// What its answers to INVITE and UPDATE say of the session timer (RFC 4028).
    pub session_expires: Option<&'static str>,
    /// Instead of its SDP, wherever it would write one.
    pub says: Option<Vec<u8>>,
    /// Every message received, retransmissions included.
    pub heard: Vec<Message>,
    /// Status of the last REGISTER; zero while none was answered.
    pub registered: u16,
    /// Granted lifetime of the last registration.
    pub granted: u32,
    refresh: Option<Instant>,
    /// Does not refresh its registration.
    resting: bool,
    registration: (String, u32),
    clients: Vec<Client>,
    servers: Vec<Server>,
    names: Rng,
    /// Its next media port.
    pub next_port: u16,
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
            pace: Pace::G711,
            expects: BTreeSet::new(),
            faults: Vec::new(),
            finals: BTreeMap::new(),
            q: None,
            session_expires: None,
            says: None,
            heard: Vec::new(),
            registered: 0,
            granted: 0,
            refresh: None,
            resting: false,
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
        self.resting = false;
        self.registration.1 += 1;
        let (call_id, cseq) = self.registration.clone();
        let uri = format!("sip:{}", self.id.domain);
        let own = format!("<sip:{}@{}>", self.name(), self.id.domain);
        let tag = self.token();
        let q = self.q.map(|q| format!(";q={q}")).unwrap_or_default();
        let contact = format!("{}{q}", self.contact());
        let draft = Draft::request("REGISTER", &uri)
            .with("Via", self.via())
            .with("From", format!("{own};tag={tag}"))
            .with("To", own)
            .with("Call-ID", call_id)
            .with("CSeq", format!("{cseq} REGISTER"))
            .with("Max-Forwards", "70")
            .with("Contact", contact)
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
        self.resting = true;
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
        let offer = Offer {
            direction: Some((direction, zero)),
            ..Offer::default()
        };
        self.offer(index, &offer, now, out);
    }

    /// Makes an offer inside a call that is up.
    pub fn offer(&mut self, index: usize, offer: &Offer, now: Instant, out: &mut Out) {
        let call = self.call_mut(index);
        if call.before.is_none() {
            call.keep();
        }
        if let Some((direction, zero)) = offer.direction {
            (call.direction, call.zero) = (direction, zero);
        }
        call.version += 1;
        let count = self.call(index).streams().count();
        for line in 0..count {
            let switched = offer.switch == Some(line);
            let off = self.call(index).streams().nth(line).is_some_and(|s| !s.on);
            let port = (switched && off || offer.moves && !off).then(|| self.new_port());
            let stream = self.call_mut(index).streams_mut().nth(line);
            let Some(stream) = stream else { continue };
            stream.on ^= switched;
            stream.move_to(port.unwrap_or(stream.local));
        }
        let adds = offer.adds.filter(|_| count < LINES_MAX);
        // An answer has the lines of its offer (RFC 3264 §6).
        if let Some(kind) = adds.filter(|_| offer.by != By::InviteWithout) {
            let stream = self.new_stream(kind);
            self.call_mut(index).more.push(stream);
        }
        match offer.by {
            By::Invite => self.reinvite(index, true, now, out),
            By::InviteWithout => self.reinvite(index, false, now, out),
            By::Update => self.update(index, now, out),
        }
    }

    /// Its address has changed: everything it sends comes from there.
    pub fn move_to(&mut self, ip: IpAddr) {
        self.id.at.set_ip(ip);
        for stream in self.calls.iter_mut().flat_map(Call::streams_mut) {
            stream.local.set_ip(self.id.media.unwrap_or(ip));
        }
    }

    /// The plug is pulled.
    pub fn vanish(&mut self, now: Instant) {
        self.manner.dead = true;
        self.refresh = None;
        self.clients.clear();
        self.servers.clear();
        for call in &mut self.calls {
            call.success = None;
            call.over(now);
        }
    }

    /// The other side has forgotten its transactions: it may answer again, and otherwise.
    pub fn forget_finals(&mut self) {
        self.finals.clear();
    }

    /// INVITEs that wait for a final response.
    #[must_use]
    pub fn open_invites(&self) -> usize {
        self.clients.iter().filter(|c| c.is_open_invite()).count()
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
            let live = self.calls.iter_mut().filter(|c| c.state != State::Over);
            let ours = |s: &&mut Rtp| s.local == packet.to || s.rtcp() == packet.to;
            if let Some(stream) = live.flat_map(Call::streams_mut).find(ours) {
                stream.receive(packet);
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
        self.examine(&message);
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
            && !call.updating
    }

    /// What the edge says of itself must be what this phone can reach.
    fn examine(&mut self, message: &Message) {
        if self.expects.is_empty() || message.cseq().1 == b"REGISTER" {
            return;
        }
        let contact = wire::contact(message).and_then(|uri| wire::address(&uri));
        let via = message.top_via().host_ip();
        let via = via.filter(|_| message.code().is_none());
        let sdp = description(message);
        let lines = sdp.iter().flat_map(|sdp| &sdp.lines).map(|line| line.at);
        let media = lines.map(|at| at.ip()).filter(|ip| !ip.is_unspecified());
        let told = contact
            .map(|at| at.ip())
            .into_iter()
            .chain(via)
            .chain(media);
        let wrong = told.filter(|ip| !self.expects.contains(ip));
        let wrong: Vec<String> = wrong.map(|ip| ip.to_string()).collect();
        if !wrong.is_empty() {
            let line = message.bytes().split(|b| *b == b'\r').next();
            let line = String::from_utf8_lossy(line.unwrap_or_default()).into_owned();
            self.faults.push(format!("told {wrong:?} in {line}"));
        }
    }

    /// Whether a call is up and an offer may be made now (RFC 3261 §14.1, RFC 3311 §5.1).
    #[must_use]
    pub fn may_offer(&self, index: usize) -> bool {
        self.is_settled(index) && !self.call(index).leaving
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

/// The SDP of a message.
fn description(message: &Message) -> Option<Description> {
    let kind = wire::text(message, Name::ContentType);
    Description::read(message.body()).filter(|_| kind == "application/sdp")
}
