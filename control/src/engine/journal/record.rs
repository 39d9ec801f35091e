//! A call that is up, as octets that outlive the process.
//!
//! ```text
//! version  field…      number: u64      text: u32 length, octets      none: length 0xffffffff
//! ```
//!
//! Numbers are big-endian. Times are milliseconds after the record was written, negative before. A
//! network goes by its name: its number lives as long as the process.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::id::{Listener, Path, Transport};
use crate::media::session::{Both, Lines, Side};
use crate::sip::dialog::{NUMBERS, Numbers, ROUTES_MAX};

/// Records of another version are not read.
pub(super) const VERSION: u8 = 1;
/// The length of a text that is not there.
const NONE: u32 = u32::MAX;
/// Lines of a call's media.
const LINES_MAX: u64 = crate::sdp::lines::MEDIA_MAX as u64;

/// What is kept of a call beside what its parties said.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Dialog {
    pub(super) call_id: Bytes,
    pub(super) token: String,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) status: u16,
    pub(super) legs: Both<Party>,
    /// Who offered what is agreed.
    pub(super) offerer: Side,
    pub(super) lines: Lines,
    /// Interval in the party's words, and who refreshes.
    pub(super) timer: Option<(Bytes, Side)>,
    pub(super) started: Instant,
    pub(super) answered: Instant,
    pub(super) refreshed: Instant,
    pub(super) alive: Both<Instant>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Party {
    pub(super) network: String,
    pub(super) path: Path,
    pub(super) natted: bool,
    pub(super) tag: Bytes,
    pub(super) party: Bytes,
    pub(super) target: Bytes,
    pub(super) routes: Vec<Bytes>,
    pub(super) numbers: Numbers,
}

pub(super) fn encode(dialog: &Dialog, at: Instant) -> Vec<u8> {
    let mut out = Writer {
        bytes: Vec::with_capacity(1024),
        at,
    };
    out.bytes.push(VERSION);
    out.dialog(dialog);
    out.bytes
}

/// None if it is not what this program writes.
pub(super) fn decode(bytes: &[u8], at: Instant) -> Option<Dialog> {
    let (version, rest) = bytes.split_first()?;
    let mut reader = Reader { rest, at };
    let dialog = reader.dialog().filter(|_| *version == VERSION)?;
    reader.rest.is_empty().then_some(dialog)
}

struct Writer {
    bytes: Vec<u8>,
    at: Instant,
}

impl Writer {
    fn dialog(&mut self, dialog: &Dialog) {
        // Taken apart by name, so that a new field must be thought about.
        let Dialog {
            call_id,
            token,
            from,
            to,
            status,
            legs,
            offerer,
            lines,
            timer,
            started,
            answered,
            refreshed,
            alive,
        } = dialog;
        self.text(call_id);
        for text in [token, from, to] {
            self.text(text.as_bytes());
        }
        self.number((*status).into());
        for party in [&legs.a, &legs.b] {
            self.party(party);
        }
        self.side(*offerer);
        self.number(lines.shifts.a);
        self.number(lines.shifts.b);
        self.number(lines.ports.len() as u64);
        for ports in &lines.ports {
            let ports = ports.unwrap_or_default();
            self.number(ports.a.into());
            self.number(ports.b.into());
        }
        self.optional(timer.as_ref().map(|(interval, _)| &interval[..]));
        self.side(timer.as_ref().map_or(Side::A, |(_, refresher)| *refresher));
        for time in [started, answered, refreshed, &alive.a, &alive.b] {
            self.time(*time);
        }
    }

    fn party(&mut self, party: &Party) {
        let Party {
            network,
            path,
            natted,
            tag,
            party,
            target,
            routes,
            numbers,
        } = party;
        self.text(network.as_bytes());
        self.text(path.on.transport.token().as_bytes());
        self.text(path.on.local.to_string().as_bytes());
        self.text(path.to.to_string().as_bytes());
        self.number((*natted).into());
        for text in [tag, party, target] {
            self.text(text);
        }
        self.number(routes.len() as u64);
        for route in routes {
            self.text(route);
        }
        for number in numbers.to_words() {
            self.number(number.map_or(0, |number| u64::from(number) + 1));
        }
    }

    fn side(&mut self, side: Side) {
        self.number((side == Side::B).into());
    }

    fn text(&mut self, text: &[u8]) {
        self.optional(Some(text));
    }

    /// No message is as long as a length that means something else.
    fn optional(&mut self, text: Option<&[u8]>) {
        let length = text.map_or(NONE, |text| u32::try_from(text.len()).unwrap_or(NONE));
        self.bytes.extend(length.to_be_bytes());
        self.bytes.extend(text.unwrap_or_default());
    }

    fn time(&mut self, time: Instant) {
        let ms = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        let offset = match time.checked_duration_since(self.at) {
            Some(after) => ms(after),
            None => -ms(self.at.saturating_duration_since(time)),
        };
        self.bytes.extend(offset.to_be_bytes());
    }

    fn number(&mut self, number: u64) {
        self.bytes.extend(number.to_be_bytes());
    }
}

struct Reader<'r> {
    rest: &'r [u8],
    at: Instant,
}

impl Reader<'_> {
    fn dialog(&mut self) -> Option<Dialog> {
        Some(Dialog {
            call_id: self.text()?,
            token: self.string()?,
            from: self.string()?,
            to: self.string()?,
            status: u16::try_from(self.number()?).ok()?,
            legs: Both {
                a: self.party()?,
                b: self.party()?,
            },
            offerer: self.side()?,
            lines: self.lines()?,
            timer: {
                let (interval, refresher) = (self.optional()?, self.side()?);
                interval.map(|interval| (interval, refresher))
            },
            started: self.time()?,
            answered: self.time()?,
            refreshed: self.time()?,
            alive: Both {
                a: self.time()?,
                b: self.time()?,
            },
        })
    }

    fn lines(&mut self) -> Option<Lines> {
        let shifts = Both {
            a: self.number()?,
            b: self.number()?,
        };
        let count = self.number()?;
        (count <= LINES_MAX).then_some(())?;
        let mut ports = Vec::new();
        for _ in 0..count {
            let pair = Both {
                a: u16::try_from(self.number()?).ok()?,
                b: u16::try_from(self.number()?).ok()?,
            };
            ports.push(Some(pair).filter(|pair| pair.a != 0 && pair.b != 0));
        }
        Some(Lines { ports, shifts })
    }

    fn party(&mut self) -> Option<Party> {
        let network = self.string()?;
        let transport = transport_of(&self.text()?)?;
        let (local, to) = (self.address()?, self.address()?);
        let on = Listener { transport, local };
        let natted = self.number()? != 0;
        let (tag, party, target) = (self.text()?, self.text()?, self.text()?);
        let count = usize::try_from(self.number()?).ok()?;
        (count <= ROUTES_MAX).then_some(())?;
        let mut routes = Vec::new();
        for _ in 0..count {
            routes.push(self.text()?);
        }
        let mut words = [None; NUMBERS];
        for word in &mut words {
            *word = match self.number()? {
                0 => None,
                number => Some(u32::try_from(number - 1).ok()?),
            };
        }
        Some(Party {
            network,
            path: Path { on, to },
            natted,
            tag,
            party,
            target,
            routes,
            numbers: Numbers::of_words(words),
        })
    }

    fn side(&mut self) -> Option<Side> {
        let b = self.number()? != 0;
        Some(if b { Side::B } else { Side::A })
    }

    fn address(&mut self) -> Option<SocketAddr> {
        self.string()?.parse().ok()
    }

    fn string(&mut self) -> Option<String> {
        String::from_utf8(self.text()?.to_vec()).ok()
    }

    fn text(&mut self) -> Option<Bytes> {
        self.optional()?
    }

    fn optional(&mut self) -> Option<Option<Bytes>> {
        let (length, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        let length = u32::from_be_bytes(*length);
        if length == NONE {
            return Some(None);
        }
        let length = usize::try_from(length).ok()?;
        let (text, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(Some(Bytes::copy_from_slice(text)))
    }

    fn time(&mut self) -> Option<Instant> {
        let offset = i64::from_be_bytes(self.number()?.to_be_bytes());
        let span = Duration::from_millis(offset.unsigned_abs());
        if offset < 0 {
            // A machine that has started since has no such time; then it began with it.
            Some(self.at.checked_sub(span).unwrap_or(self.at))
        } else {
            self.at.checked_add(span)
        }
    }

    fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(u64::from_be_bytes(*number))
    }
}

fn transport_of(token: &[u8]) -> Option<Transport> {
    [Transport::Udp, Transport::Tcp, Transport::Tls]
        .into_iter()
        .find(|transport| transport.token().as_bytes() == token)
}

#[cfg(test)]
mod tests;
