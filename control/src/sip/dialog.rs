//! Dialogs (RFC 3261 §12): what we know of one party of a call.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::id::{NetworkId, Path};
use crate::sip::index::{Message, Name};
use crate::sip::uri::Uri;
use crate::sip::value::NameAddr;

/// Routes kept per leg; a longer Record-Route is refused where it arrives.
pub const ROUTES_MAX: usize = 64;

/// REFERs per leg whose subscriptions we can name (RFC 3515 §2.4.6).
pub const REFERS_MAX: usize = 16;

/// One party's half of a call. Call-ID and tags are the same on both legs; everything here is not.
#[derive(Clone, Debug)]
pub struct Leg {
    pub network: NetworkId,
    /// Where its signalling really comes from, and the socket it came to.
    pub path: Path,
    /// Contact or Via did not say where the packets came from.
    pub natted: bool,
    /// Its tag, once known (§12.1).
    pub tag: Option<Bytes>,
    /// Its From or To value with tag, as it stands in its own requests.
    pub party: Bytes,
    /// Remote target: the URI of its last Contact (§12.2.1.1).
    pub target: Bytes,
    /// Route set, in the order it is written into requests (§12.1).
    pub routes: Vec<Bytes>,
    /// Sequence numbers of requests towards it.
    pub numbers: Numbers,
}

/// Sequence numbers on one leg (§12.2.1.1). The other party's requests keep theirs until a request
/// of our own takes one; from then on theirs are moved up, so that this party sees them rise.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Numbers {
    /// Highest sent.
    sent: u32,
    /// Highest the other party has used.
    theirs: Option<u32>,
    /// Added to the other party's; none while no request was our own.
    shift: Option<u32>,
    /// The other party's last INVITE: its number and the one it bears here.
    invite: Option<(u32, u32)>,
    /// The same of its latest REFERs that bear another number here.
    refers: Vec<(u32, u32)>,
}

impl Numbers {
    /// Requests of our own continue after `sent`.
    #[must_use]
    pub fn after(sent: u32) -> Self {
        Self {
            sent,
            ..Self::default()
        }
    }

    /// A leg that begins with the other party's INVITE.
    #[must_use]
    pub fn with_invite(theirs: u32) -> Self {
        let mut numbers = Self::default();
        numbers.pass(theirs, b"INVITE");
        numbers
    }

    /// The number a request of the other party's bears here.
    pub fn pass(&mut self, theirs: u32, method: &[u8]) -> u32 {
        let fresh = self.theirs.is_none_or(|last| theirs > last);
        if let Some(shift) = self.shift.as_mut()
            && fresh
            && theirs.saturating_add(*shift) <= self.sent
        {
            *shift = self.sent.saturating_add(1).saturating_sub(theirs);
        }
        let number = theirs.saturating_add(self.shift.unwrap_or(0));
        self.theirs = self.theirs.max(Some(theirs));
        self.sent = self.sent.max(number);
        if method == b"INVITE" {
            self.invite = Some((theirs, number));
        }
        if method == b"REFER" && number != theirs {
            if self.refers.len() >= REFERS_MAX {
                self.refers.remove(0);
            }
            self.refers.push((theirs, number));
        }
        number
    }

    /// The number for a request of our own.
    pub fn take(&mut self) -> u32 {
        self.sent = self.sent.saturating_add(1);
        self.shift.get_or_insert(0);
        self.sent
    }

    /// The number the other party gave a REFER that bore `number` here.
    #[must_use]
    pub fn refer_of(&self, number: u32) -> u32 {
        let mut refers = self.refers.iter();
        let known = refers.find(|(_, sent)| *sent == number);
        known.map_or(number, |(theirs, _)| *theirs)
    }

    /// The number a REFER of the other party's bore here.
    #[must_use]
    pub fn of_refer(&self, theirs: u32) -> u32 {
        let mut refers = self.refers.iter();
        let known = refers.find(|(number, _)| *number == theirs);
        known.map_or(theirs, |(_, sent)| *sent)
    }

    /// The number the other party's INVITE went out with, for its ACK and for RAck (RFC 3262 §7.2).
    #[must_use]
    pub fn of_invite(&self, theirs: u32) -> u32 {
        match self.invite {
            Some((known, number)) if known == theirs => number,
            Some(_) | None => theirs.saturating_add(self.shift.unwrap_or(0)),
        }
    }
}

/// Words that sequence numbers are kept in.
pub const NUMBERS: usize = 5;

impl Numbers {
    /// As they are kept. Those of REFERs are not: their subscriptions end with the process.
    #[must_use]
    pub fn to_words(&self) -> [Option<u32>; NUMBERS] {
        let invite = self.invite;
        [
            Some(self.sent),
            self.theirs,
            self.shift,
            invite.map(|(theirs, _)| theirs),
            invite.map(|(_, number)| number),
        ]
    }

    #[must_use]
    pub fn of_words([sent, theirs, shift, invite, number]: [Option<u32>; NUMBERS]) -> Self {
        Self {
            sent: sent.unwrap_or_default(),
            theirs,
            shift,
            invite: invite.zip(number),
            refers: Vec::new(),
        }
    }
}

impl Leg {
    /// Takes over the Contact of a message from this party (§12.2.1.2: target refresh).
    pub fn refresh_target(&mut self, message: &Message) {
        if let Some(uri) = contact_uri(message) {
            self.target = uri;
        }
    }

    /// Where the next request goes: the first route, else the recorded flow of a party behind NAT,
    /// else its remote target. Host names go along the recorded flow.
    #[must_use]
    pub fn next_hop(&self) -> Path {
        let hop = match self.routes.first() {
            Some(route) => NameAddr::parse(route).map(|n| n.uri),
            None if self.natted => None,
            None => Some(&self.target[..]),
        };
        let address = hop
            .and_then(Uri::parse)
            .and_then(|uri| Some((uri.host.ip()?, uri.port)));
        let transport = self.path.on.transport;
        let default = transport.port();
        let address: Option<SocketAddr> =
            address.map(|(ip, port)| (ip, port.unwrap_or(default)).into());
        match address {
            // The connection that is there leads to the same host.
            Some(to) if transport.is_reliable() && to.ip() == self.path.to.ip() => self.path,
            Some(to) => Path {
                on: self.path.on,
                to,
            },
            None => self.path,
        }
    }
}

/// The URI of the first Contact, as sent.
#[must_use]
pub fn contact_uri(message: &Message) -> Option<Bytes> {
    let value = message.values(Name::Contact).into_iter().next()?;
    let contact = NameAddr::parse(message.slice(&value))?;
    Some(Bytes::copy_from_slice(contact.uri))
}

/// Record-Route values in message order.
#[must_use]
pub fn record_routes(message: &Message) -> Vec<Bytes> {
    message
        .values(Name::RecordRoute)
        .iter()
        .take(ROUTES_MAX)
        .map(|range| message.bytes().slice(range.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers the other party uses, `own` for a request of our own, and what each becomes.
    #[track_caller]
    fn check(mut numbers: Numbers, script: &[(&str, u32)]) {
        for (step, expected) in script {
            let number = match *step {
                "own" => numbers.take(),
                theirs => numbers.pass(theirs.parse().unwrap(), b"INFO"),
            };
            assert_eq!(number, *expected, "{step} of {script:?}");
        }
    }

    #[test]
    fn numbers_are_the_partys_own_until_we_take_one() {
        check(Numbers::with_invite(5), &[("6", 6), ("9", 9), ("7", 7)]);
        check(Numbers::after(100), &[("1", 1), ("2", 2)]);
    }

    #[test]
    fn numbers_rise_after_one_of_ours() {
        let script = [("own", 6), ("6", 7), ("7", 8), ("own", 9), ("own", 10)];
        check(Numbers::with_invite(5), &script);
        check(
            Numbers::with_invite(5),
            &[("own", 6), ("10", 10), ("11", 11)],
        );
        check(
            Numbers::with_invite(5),
            &[("own", 6), ("own", 7), ("6", 8), ("7", 9)],
        );
        // A leg on which the other party has sent nothing yet.
        check(Numbers::after(100), &[("own", 101), ("1", 102), ("2", 103)]);
        check(Numbers::after(0), &[("7", 7), ("own", 8), ("8", 9)]);
    }

    /// A request that was overtaken stays behind the ones that overtook it.
    #[test]
    fn a_late_request_is_not_moved_up() {
        check(
            Numbers::with_invite(5),
            &[("7", 7), ("own", 8), ("6", 6), ("8", 9)],
        );
    }

    #[test]
    fn an_invite_is_remembered() {
        let mut numbers = Numbers::with_invite(5);
        numbers.take();
        assert_eq!(numbers.of_invite(5), 5, "sent before ours");
        assert_eq!(numbers.pass(6, b"INVITE"), 7);
        numbers.take();
        assert_eq!(numbers.pass(7, b"PRACK"), 9);
        assert_eq!(numbers.of_invite(6), 7);
    }

    #[test]
    fn numbers_have_an_end() {
        let script = [("own", u32::MAX), ("own", u32::MAX), ("9", u32::MAX)];
        check(Numbers::after(u32::MAX - 1), &script);
    }
}
