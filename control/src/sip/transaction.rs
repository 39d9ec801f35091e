//! Transactions (RFC 3261 §17): match a message to its machine (§17.1.3, §17.2.3), run the
//! machines' timers, and forget the ones that ended.
//!
//! Up is the return value, out is pushed into effects, time is an argument. A transaction nobody
//! forgets ends in exactly one `Expired`, also where the RFC sets its last timer to zero.

mod client;
mod client_invite;
mod key;
mod machine;
mod server;
mod server_invite;
#[cfg(test)]
mod testing;
mod timer;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use self::client::Client;
use self::client_invite::ClientInvite;
use self::key::Key;
pub use self::key::{ClientKey, ServerKey};
use self::machine::{Class, ClientEnd, ClientMachine, ServerEnd, ServerMachine, send};
use self::server::Server;
use self::server_invite::ServerInvite;
pub use self::timer::Timing;
use crate::effect::Effects;
use crate::id::Path;

/// Transactions of one direction. Server and client side have a limit each, so that a flood of
/// requests cannot keep us from ending calls.
pub const TRANSACTIONS_MAX: usize = 65_536;
/// Requests outside calls have this part of the server side at most: one of so many.
const OUTSIDE_SHARE: usize = 2;
/// Places for answered ones that stay when there are none.
const ANSWERED_KEPT: usize = 64;

/// Which machine a request takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Invite,
    NonInvite,
    Ack,
}

/// What a received request is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Incoming {
    /// The first of its transaction: the TU's to answer.
    New,
    /// A retransmission, or the ACK of a failure: done with.
    Absorbed,
    /// An ACK no failure waits for: the TU's, if it is anyone's.
    AckForSuccess,
    /// `TRANSACTIONS_MAX` is reached, or what requests outside calls have of it: no machine was
    /// made.
    Refused,
}

/// What a received response is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Response {
    /// The TU must see it. Repeated 2xx to an INVITE too (RFC 6026 §7.2).
    Up,
    /// A retransmission: done with.
    Absorbed,
    /// No transaction of ours.
    Stray,
}

/// How a transaction ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Expired {
    /// No final response: timer B or F, or 64*T1 after a CANCEL (RFC 3261 §9.1).
    TimedOut(ClientKey),
    /// Timer H: a failure was never acknowledged.
    NoAck(ServerKey),
    /// The TU left a non-INVITE request without a final response until none is of use.
    Unanswered(ServerKey),
    /// It did its work.
    ClientGone(ClientKey),
    /// It did its work.
    ServerGone(ServerKey),
}

/// All transactions of one engine.
#[derive(Debug)]
pub struct Transactions {
    timing: Timing,
    /// Of one direction.
    max: usize,
    servers: BTreeMap<Arc<ServerKey>, Box<Running<ServerKey, ServerMachine>>>,
    clients: BTreeMap<Arc<ClientKey>, Box<Running<ClientKey, ClientMachine>>>,
    /// Servers of requests that neither make nor end calls.
    outside: usize,
    /// Those of them with a final response, oldest first, and when they end: until then repeats
    /// have the same answer, unless others need the room.
    answered: VecDeque<(Instant, Arc<ServerKey>)>,
    /// How many ended before their time.
    displaced: u64,
    /// The next timer of each machine that has one running.
    due: BTreeSet<(Instant, Key)>,
}

/// A machine and its key, which is kept once for all who speak of it: most transactions stay for
/// half a minute after their work is done.
#[derive(Debug)]
struct Running<K, M> {
    key: Arc<K>,
    machine: M,
}

impl Kind {
    /// By method name, which is case-sensitive (RFC 3261 §7.1).
    #[must_use]
    pub fn of(method: &[u8]) -> Self {
        match method {
            b"INVITE" => Self::Invite,
            b"ACK" => Self::Ack,
            _ => Self::NonInvite,
        }
    }
}

impl Transactions {
    /// Values of `timing` no machine can run on are brought to the nearest that one can.
    #[must_use]
    pub fn new(timing: Timing) -> Self {
        Self::with_limit(timing, TRANSACTIONS_MAX)
    }

    /// With a limit of its own for each direction.
    #[must_use]
    pub fn with_limit(timing: Timing, max: usize) -> Self {
        Self {
            timing: timing.bounded(),
            max,
            servers: BTreeMap::new(),
            clients: BTreeMap::new(),
            outside: 0,
            answered: VecDeque::new(),
            displaced: 0,
            due: BTreeSet::new(),
        }
    }

    /// Finds or makes the machine of a request. A retransmission is answered with the last
    /// response, along the path of the first request: a forged copy cannot redirect it.
    pub fn receive_request(
        &mut self,
        key: &ServerKey,
        kind: Kind,
        reply: Path,
        now: Instant,
        effects: &mut Effects,
    ) -> Incoming {
        if let Some(running) = self.servers.get_mut(key) {
            let (key, machine) = (running.key.clone(), &mut running.machine);
            let before = machine.next_timeout();
            let incoming = machine.receive(kind, now, effects);
            let after = machine.next_timeout();
            self.reschedule(Key::Server(key), before, after);
            return incoming;
        }
        let reliable = reply.on.transport.is_reliable();
        let machine = match kind {
            Kind::Ack => return Incoming::AckForSuccess,
            Kind::Invite | Kind::NonInvite if !self.has_room(key) => {
                return Incoming::Refused;
            }
            Kind::Invite => ServerMachine::Invite(ServerInvite::new(reply, reliable, self.timing)),
            Kind::NonInvite => {
                ServerMachine::NonInvite(Server::new(reply, reliable, self.timing, now))
            }
        };
        let key = Arc::new(key.detached());
        if let Some(at) = machine.next_timeout() {
            self.due.insert((at, Key::Server(key.clone())));
        }
        self.outside += usize::from(is_outside(&key));
        let running = Running {
            key: key.clone(),
            machine,
        };
        self.servers.insert(key, Box::new(running));
        Incoming::New
    }

    /// Whether there is room for another request, if need be in place of one that was answered.
    fn has_room(&mut self, key: &ServerKey) -> bool {
        let full = self.servers.len() >= self.max
            || is_outside(key) && self.outside >= self.max / OUTSIDE_SHARE;
        !full || self.displace()
    }

    fn displace(&mut self) -> bool {
        while let Some((until, key)) = self.answered.pop_front() {
            let running = self.servers.get(&key);
            if running.is_some_and(|running| running.machine.next_timeout() == Some(until)) {
                self.displaced += 1;
                return self.forget_server(&key);
            }
        }
        false
    }

    /// How many had to make room for others, so far.
    #[must_use]
    pub fn displaced(&self) -> u64 {
        self.displaced
    }

    /// Sends the TU's response. False if it was not sent: there is no such transaction, it has its
    /// final response already, or RFC 4320 forbids this one.
    pub fn respond(
        &mut self,
        key: &ServerKey,
        code: u16,
        response: Bytes,
        now: Instant,
        effects: &mut Effects,
    ) -> bool {
        let Some(running) = self.servers.get_mut(key) else {
            return false;
        };
        let (key, machine) = (running.key.clone(), &mut running.machine);
        let before = machine.next_timeout();
        let sent = machine.respond(code, response, now, effects);
        let after = machine.next_timeout();
        self.reschedule(Key::Server(key.clone()), before, after);
        if let Some(until) = after.filter(|until| sent && code >= 200 && *until > now)
            && is_outside(&key)
        {
            self.answered.push_back((until, key));
        }
        sent
    }

    /// Sends a request and waits for its responses; an ACK is sent only (RFC 3261 §13.2.2.4).
    /// False, and nothing is sent, at the limit or if the key is in use.
    pub fn start(
        &mut self,
        key: ClientKey,
        kind: Kind,
        path: Path,
        request: Bytes,
        now: Instant,
        effects: &mut Effects,
    ) -> bool {
        let reliable = path.on.transport.is_reliable();
        if kind == Kind::Ack {
            send(&path, &request, effects);
            return true;
        }
        if self.clients.len() >= self.max || self.clients.contains_key(&key) {
            return false;
        }
        let machine = if kind == Kind::Invite {
            let machine = ClientInvite::start(request, path, reliable, self.timing, now, effects);
            ClientMachine::Invite(machine)
        } else {
            let machine = Client::start(request, path, reliable, self.timing, now, effects);
            ClientMachine::NonInvite(machine)
        };
        let key = Arc::new(key.detached());
        if let Some(at) = machine.next_timeout() {
            self.due.insert((at, Key::Client(key.clone())));
        }
        let running = Running {
            key: key.clone(),
            machine,
        };
        self.clients.insert(key, Box::new(running));
        true
    }

    /// Hands a response to its machine. `ack` makes the ACK for a failure of an INVITE (RFC 3261
    /// §17.1.1.3); it is called at most once per transaction.
    pub fn receive_response(
        &mut self,
        key: &ClientKey,
        code: u16,
        ack: impl FnOnce() -> Bytes,
        now: Instant,
        effects: &mut Effects,
    ) -> Response {
        let (Some(running), Some(class)) = (self.clients.get_mut(key), Class::of(code)) else {
            return Response::Stray;
        };
        let (key, machine) = (running.key.clone(), &mut running.machine);
        let before = machine.next_timeout();
        let response = machine.receive(class, ack, now, effects);
        let after = machine.next_timeout();
        self.reschedule(Key::Client(key), before, after);
        response
    }

    /// Says that a CANCEL is sent for an INVITE of ours: without a final response within 64*T1 it
    /// ends as `TimedOut` (RFC 3261 §9.1). False if a CANCEL may not be sent now.
    pub fn cancel(&mut self, key: &ClientKey, now: Instant) -> bool {
        let Some(running) = self.clients.get_mut(key) else {
            return false;
        };
        let (key, machine) = (running.key.clone(), &mut running.machine);
        let before = machine.next_timeout();
        let cancelled = machine.cancel(now);
        let after = machine.next_timeout();
        self.reschedule(Key::Client(key), before, after);
        cancelled
    }

    /// Forgets a server transaction without a word, such as an INVITE the TU will not answer.
    pub fn forget_server(&mut self, key: &ServerKey) -> bool {
        let Some(running) = self.servers.remove(key) else {
            return false;
        };
        let Running { key, machine } = *running;
        self.outside -= usize::from(is_outside(&key));
        self.reschedule(Key::Server(key), machine.next_timeout(), None);
        true
    }

    /// Forgets a client transaction without a word, such as one whose request could not be sent
    /// (RFC 3261 §17.1.4).
    pub fn forget_client(&mut self, key: &ClientKey) -> bool {
        let Some(running) = self.clients.remove(key) else {
            return false;
        };
        let Running { key, machine } = *running;
        self.reschedule(Key::Client(key), machine.next_timeout(), None);
        true
    }

    #[must_use]
    pub fn has_server(&self, key: &ServerKey) -> bool {
        self.servers.contains_key(key)
    }

    #[must_use]
    pub fn has_client(&self, key: &ClientKey) -> bool {
        self.clients.contains_key(key)
    }

    /// Whether a provisional response was seen and no final one: a CANCEL may be sent (RFC 3261
    /// §9.1).
    #[must_use]
    pub fn is_proceeding(&self, key: &ClientKey) -> bool {
        self.clients
            .get(key)
            .is_some_and(|running| running.machine.is_proceeding())
    }

    /// Fires every timer that is due and returns the transactions that ended. A repeated timer is
    /// started again from `now`, so this ends however late it is called.
    pub fn expire(&mut self, now: Instant, effects: &mut Effects) -> Vec<Expired> {
        let mut expired = Vec::new();
        while self
            .answered
            .front()
            .is_some_and(|(until, _)| *until <= now)
        {
            self.answered.pop_front();
        }
        if self.answered.is_empty() {
            // What a flood has taken is given back.
            self.answered.shrink_to(ANSWERED_KEPT);
        }
        while self.due.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = self.due.pop_first() else {
                break;
            };
            let after = match &key {
                Key::Server(key) => self.expire_server(key, now, effects, &mut expired),
                Key::Client(key) => self.expire_client(key, now, effects, &mut expired),
            };
            if let Some(at) = after {
                self.due.insert((at, key));
            }
        }
        expired
    }

    /// When `expire` has something to do.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Transactions of both directions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.servers.len() + self.clients.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn expire_server(
        &mut self,
        key: &ServerKey,
        now: Instant,
        effects: &mut Effects,
        expired: &mut Vec<Expired>,
    ) -> Option<Instant> {
        let machine = &mut self.servers.get_mut(key)?.machine;
        let Some(end) = machine.expire(now, effects) else {
            return machine.next_timeout();
        };
        self.servers.remove(key);
        self.outside -= usize::from(is_outside(key));
        expired.push(match end {
            ServerEnd::NoAck => Expired::NoAck(key.clone()),
            ServerEnd::Unanswered => Expired::Unanswered(key.clone()),
            ServerEnd::Gone => Expired::ServerGone(key.clone()),
        });
        None
    }

    fn expire_client(
        &mut self,
        key: &ClientKey,
        now: Instant,
        effects: &mut Effects,
        expired: &mut Vec<Expired>,
    ) -> Option<Instant> {
        let machine = &mut self.clients.get_mut(key)?.machine;
        let Some(end) = machine.expire(now, effects) else {
            return machine.next_timeout();
        };
        self.clients.remove(key);
        expired.push(match end {
            ClientEnd::TimedOut => Expired::TimedOut(key.clone()),
            ClientEnd::Gone => Expired::ClientGone(key.clone()),
        });
        None
    }

    /// Keeps `due` in step with a machine whose next timer was `before` and is `after`.
    fn reschedule(&mut self, key: Key, before: Option<Instant>, after: Option<Instant>) {
        if before == after {
            return;
        }
        let key = match before {
            Some(at) => {
                let entry = (at, key);
                self.due.remove(&entry);
                entry.1
            }
            None => key,
        };
        if let Some(at) = after {
            self.due.insert((at, key));
        }
    }
}

/// Whether a request neither makes nor ends a call.
fn is_outside(key: &ServerKey) -> bool {
    !matches!(&key.method[..], b"INVITE" | b"BYE" | b"CANCEL")
}

#[cfg(test)]
mod tests {
    use super::testing::{ms, path, sent, start};
    use super::*;
    use crate::effect::Effect;

    const INVITE: Bytes = Bytes::from_static(b"INVITE");
    const OPTIONS: Bytes = Bytes::from_static(b"OPTIONS");

    fn server(n: usize, method: &'static str) -> ServerKey {
        let branch = Bytes::from(format!("z9hG4bK{n}"));
        ServerKey::new(
            branch,
            b"Host.example:5060",
            Bytes::from_static(method.as_bytes()),
        )
    }

    fn client(n: usize, method: Bytes) -> ClientKey {
        let branch = Bytes::from(format!("z9hG4bK{n}"));
        ClientKey { branch, method }
    }

    /// A script of requests, responses and waits; what comes up and what is sent, in words.
    struct Script {
        transactions: Transactions,
        now: Instant,
    }

    impl Script {
        fn new() -> Self {
            Self::with_limit(3)
        }

        fn with_limit(max: usize) -> Self {
            Self {
                transactions: Transactions::with_limit(Timing::default(), max),
                now: start(),
            }
        }

        fn request(&mut self, n: usize, method: &'static str, expected: &str) {
            let mut effects = Vec::new();
            let kind = Kind::of(method.as_bytes());
            let key = server(n, method);
            let up = self
                .transactions
                .receive_request(&key, kind, path(), self.now, &mut effects);
            assert_eq!(
                format!("{up:?} {}", sent(&effects)),
                expected,
                "{n} {method}"
            );
        }

        fn respond(&mut self, n: usize, method: &'static str, code: u16, expected: bool) {
            let mut effects = Vec::new();
            let bytes = Bytes::from(code.to_string());
            let key = server(n, method);
            let done = self
                .transactions
                .respond(&key, code, bytes, self.now, &mut effects);
            assert_eq!(done, expected, "{n} {method} {code}");
            assert_eq!(effects.len(), usize::from(expected), "{n} {method} {code}");
        }

        fn start(&mut self, n: usize, method: Bytes, expected: bool) {
            let mut effects = Vec::new();
            let kind = Kind::of(&method);
            let key = client(n, method.clone());
            let done = self
                .transactions
                .start(key, kind, path(), method, self.now, &mut effects);
            assert_eq!(done, expected, "{n}");
            assert_eq!(effects.len(), usize::from(expected), "{n}");
        }

        fn response(&mut self, n: usize, method: Bytes, code: u16, expected: &str) {
            let mut effects = Vec::new();
            let ack = || Bytes::from_static(b"ACK");
            let key = client(n, method);
            let up = self
                .transactions
                .receive_response(&key, code, ack, self.now, &mut effects);
            assert_eq!(format!("{up:?} {}", sent(&effects)), expected, "{n} {code}");
        }

        fn wait(&mut self, wait_ms: u64, expected: &str) {
            self.now += ms(wait_ms);
            let mut effects = Vec::new();
            let expired = self.transactions.expire(self.now, &mut effects);
            let ends: Vec<String> = expired
                .iter()
                .map(|end| {
                    let (word, branch) = match end {
                        Expired::TimedOut(key) => ("timed-out", &key.branch),
                        Expired::NoAck(key) => ("no-ack", &key.branch),
                        Expired::Unanswered(key) => ("unanswered", &key.branch),
                        Expired::ClientGone(key) => ("client-gone", &key.branch),
                        Expired::ServerGone(key) => ("server-gone", &key.branch),
                    };
                    format!("{word} {}", String::from_utf8_lossy(&branch[7..]))
                })
                .collect();
            assert_eq!(
                format!("[{}] {}", ends.join(", "), sent(&effects)),
                expected
            );
            assert!(
                self.transactions
                    .next_timeout()
                    .is_none_or(|at| at > self.now)
            );
        }

        fn over(self) {
            assert!(self.transactions.is_empty());
            assert_eq!(
                self.transactions.due.len(),
                0,
                "no deadline outlives its machine"
            );
        }
    }

    #[test]
    fn a_refused_call() {
        let mut script = Script::new();
        script.request(1, "INVITE", "New -");
        script.request(1, "INVITE", "Absorbed -");
        script.respond(1, "INVITE", 100, true);
        script.request(1, "INVITE", "Absorbed 100");
        script.respond(1, "INVITE", 486, true);
        script.respond(1, "INVITE", 200, false);
        script.wait(500, "[] 486");
        script.request(1, "ACK", "Absorbed -");
        script.request(1, "ACK", "Absorbed -");
        script.wait(4_999, "[] -");
        script.wait(1, "[server-gone 1] -");
        script.request(1, "ACK", "AckForSuccess -");
        script.over();
    }

    #[test]
    fn an_accepted_call() {
        let mut script = Script::new();
        script.request(1, "INVITE", "New -");
        script.respond(1, "INVITE", 200, true);
        script.request(1, "INVITE", "Absorbed -");
        script.respond(1, "INVITE", 200, true);
        script.respond(1, "INVITE", 180, false);
        script.request(1, "ACK", "AckForSuccess -");
        script.request(2, "ACK", "AckForSuccess -");
        script.wait(32_000, "[server-gone 1] -");
        script.over();
    }

    #[test]
    fn a_cancel_is_a_transaction_of_its_own() {
        let mut script = Script::new();
        script.request(1, "INVITE", "New -");
        script.request(1, "CANCEL", "New -");
        let cancel = server(1, "CANCEL");
        assert!(script.transactions.has_server(&cancel.of_invite()));
        script.respond(1, "CANCEL", 200, true);
        script.respond(1, "INVITE", 487, true);
        script.request(1, "CANCEL", "Absorbed 200");
        script.request(1, "ACK", "Absorbed -");
        script.wait(32_000, "[server-gone 1, server-gone 1] -");
        script.over();
    }

    #[test]
    fn a_call_of_ours_that_is_cancelled() {
        let mut script = Script::new();
        let key = client(1, INVITE);
        assert!(
            !script.transactions.cancel(&key, script.now),
            "no such call"
        );
        script.start(1, INVITE, true);
        assert!(!script.transactions.cancel(&key, script.now), "too early");
        assert!(!script.transactions.is_proceeding(&key));
        script.response(1, INVITE, 180, "Up -");
        assert!(script.transactions.is_proceeding(&key));
        assert_eq!(script.transactions.next_timeout(), None);
        assert!(script.transactions.cancel(&key, script.now));
        script.wait(32_000, "[timed-out 1] -");
        script.response(1, INVITE, 487, "Stray -");
        script.over();
    }

    #[test]
    fn responses_match_by_branch_and_method() {
        let mut script = Script::new();
        script.start(1, INVITE, true);
        script.start(1, OPTIONS, true);
        script.start(1, INVITE, false);
        script.response(2, INVITE, 200, "Stray -");
        script.response(1, OPTIONS, 200, "Up -");
        script.response(1, OPTIONS, 200, "Absorbed -");
        script.response(1, INVITE, 99, "Stray -");
        script.response(1, INVITE, 503, "Up ACK");
        script.response(1, INVITE, 503, "Absorbed ACK");
        script.wait(32_000, "[client-gone 1, client-gone 1] -");
        script.over();
    }

    #[test]
    fn every_2xx_of_a_call_goes_up() {
        let mut script = Script::new();
        script.start(1, INVITE, true);
        script.response(1, INVITE, 200, "Up -");
        script.response(1, INVITE, 200, "Up -");
        script.response(1, INVITE, 180, "Absorbed -");
        script.wait(32_000, "[client-gone 1] -");
        script.response(1, INVITE, 200, "Stray -");
        script.over();
    }

    #[test]
    fn an_ack_is_sent_and_forgotten() {
        let mut script = Script::new();
        script.start(1, Bytes::from_static(b"ACK"), true);
        script.over();
    }

    #[test]
    fn each_direction_has_its_limit() {
        let mut script = Script::new();
        for n in 0..3 {
            script.request(n, "INVITE", "New -");
            script.start(n, OPTIONS, true);
        }
        script.request(3, "INVITE", "Refused -");
        script.request(3, "OPTIONS", "Refused -");
        script.request(3, "ACK", "AckForSuccess -");
        script.request(2, "INVITE", "Absorbed -");
        script.start(3, OPTIONS, false);
        assert_eq!(script.transactions.len(), 6);
        assert!(script.transactions.forget_server(&server(0, "INVITE")));
        assert!(!script.transactions.forget_server(&server(0, "INVITE")));
        assert!(script.transactions.forget_client(&client(0, OPTIONS)));
        assert!(!script.transactions.forget_client(&client(0, OPTIONS)));
        script.request(3, "INVITE", "New -");
        script.start(3, OPTIONS, true);
        for n in 1..4 {
            assert!(script.transactions.forget_server(&server(n, "INVITE")));
            assert!(script.transactions.forget_client(&client(n, OPTIONS)));
        }
        script.over();
    }

    /// Whatever comes beside calls, calls have room, and repeats their answer as long as they may.
    #[test]
    fn a_flood_leaves_room_for_calls() {
        let mut script = Script::with_limit(8);
        for n in 0..6 {
            script.request(n, "REGISTER", "New -");
            script.respond(n, "REGISTER", 401, true);
        }
        // The four youngest are known.
        assert_eq!(
            (script.transactions.len(), script.transactions.displaced()),
            (4, 2)
        );
        for n in 2..6 {
            script.request(n, "REGISTER", "Absorbed 401");
        }
        for n in 10..13 {
            script.request(n, "INVITE", "New -");
        }
        script.request(10, "CANCEL", "New -");
        // There are eight: a call takes the place of the oldest answer.
        script.request(13, "INVITE", "New -");
        script.request(14, "BYE", "New -");
        for n in 4..6 {
            script.request(n, "REGISTER", "Absorbed 401");
        }
        script.request(15, "INVITE", "New -");
        script.request(16, "INVITE", "New -");
        script.request(17, "INVITE", "Refused -");
        script.request(18, "REGISTER", "Refused -");
        assert_eq!(
            (script.transactions.len(), script.transactions.displaced()),
            (8, 6)
        );
        // What is not answered gives no way.
        let mut script = Script::with_limit(8);
        for n in 0..4 {
            script.request(n, "REGISTER", "New -");
        }
        script.request(4, "REGISTER", "Refused -");
        script.request(4, "BYE", "New -");
        script.respond(1, "REGISTER", 200, true);
        script.request(5, "REGISTER", "New -");
        script.request(2, "REGISTER", "Absorbed -");
    }

    #[test]
    fn an_unanswered_request_is_given_up() {
        let mut script = Script::new();
        script.request(1, "OPTIONS", "New -");
        script.respond(1, "OPTIONS", 408, false);
        script.wait(32_000, "[unanswered 1] -");
        script.respond(1, "OPTIONS", 200, false);
        script.over();
    }

    #[test]
    fn a_forged_repeat_does_not_redirect_the_response() {
        let mut script = Script::new();
        script.request(1, "OPTIONS", "New -");
        script.respond(1, "OPTIONS", 200, true);
        let mut effects = Vec::new();
        let forged = Path {
            to: "198.51.100.66:5060".parse().unwrap(),
            ..path()
        };
        let key = server(1, "OPTIONS");
        script.transactions.receive_request(
            &key,
            Kind::NonInvite,
            forged,
            script.now,
            &mut effects,
        );
        assert!(matches!(effects[..], [Effect::Send { to, .. }] if to == path().to));
    }

    #[test]
    fn values_that_would_spin_are_bounded() {
        let timing = Timing {
            t1: ms(0),
            t2: ms(0),
            t4: ms(0),
        };
        let mut transactions = Transactions::new(timing);
        let mut effects = Vec::new();
        let now = start();
        let key = client(1, OPTIONS);
        assert!(transactions.start(key, Kind::NonInvite, path(), OPTIONS, now, &mut effects));
        let ends = transactions.expire(now + ms(10_000), &mut effects);
        assert_eq!(ends, [Expired::TimedOut(client(1, OPTIONS))]);
    }

    mod random {
        use proptest::prelude::*;

        use super::*;

        proptest! {
            /// Whatever happens, `due` holds exactly the machines' next timers, and in the end
            /// only calls that ring are left.
            #[test]
            fn due_is_in_step(
                steps in prop::collection::vec((0usize..4, 0u8..10, 0u64..9_000), 0..80),
            ) {
                let mut all = Transactions::with_limit(Timing::default(), 3);
                let mut now = start();
                let mut effects = Vec::new();
                for (n, what, wait) in steps {
                    let method = ["INVITE", "OPTIONS"][n % 2];
                    let theirs = server(n, method);
                    let ours = client(n, Bytes::from_static(method.as_bytes()));
                    let kind = Kind::of(method.as_bytes());
                    let bytes = Bytes::from_static(b"x");
                    let code = [100, 180, 200, 408, 603][usize::from(what) % 5];
                    match what {
                        0 | 1 => {
                            all.receive_request(&theirs, kind, path(), now, &mut effects);
                        }
                        2 | 3 => {
                            all.start(ours, kind, path(), bytes, now, &mut effects);
                        }
                        4 => {
                            all.receive_request(&theirs, Kind::Ack, path(), now, &mut effects);
                        }
                        5 => {
                            all.cancel(&ours, now);
                        }
                        6 | 7 => {
                            all.respond(&theirs, code, bytes, now, &mut effects);
                        }
                        _ => {
                            all.receive_response(&ours, code, || bytes, now, &mut effects);
                        }
                    }
                    now += ms(wait);
                    all.expire(now, &mut effects);
                    let servers = all.servers.iter().filter_map(|(key, running)| {
                        Some((running.machine.next_timeout()?, Key::Server(key.clone())))
                    });
                    let clients = all.clients.iter().filter_map(|(key, running)| {
                        Some((running.machine.next_timeout()?, Key::Client(key.clone())))
                    });
                    let expected: BTreeSet<_> = servers.chain(clients).collect();
                    prop_assert_eq!(&all.due, &expected);
                    let outside = all.servers.keys().filter(|key| is_outside(key)).count();
                    prop_assert_eq!(all.outside, outside);
                    prop_assert!(all.next_timeout().is_none_or(|at| at > now));
                }
                for _ in 0..200 {
                    now += ms(1_000);
                    all.expire(now, &mut effects);
                }
                prop_assert!(all.due.is_empty() && all.answered.is_empty());
                let ringing = |method: &[u8]| method == b"INVITE";
                prop_assert!(all.servers.keys().all(|key| ringing(&key.method)));
                prop_assert!(all.clients.keys().all(|key| ringing(&key.method)));
            }
        }
    }
}
