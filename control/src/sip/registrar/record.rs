//! The bindings of an address-of-record as octets that outlive the process.
//!
//! ```text
//! version  count  binding…       text: u16 length, octets       none: length 0xffff
//! ```
//!
//! Numbers are big-endian. Times are milliseconds after the record was written, negative before. A
//! network goes by its name: its number lives as long as the process.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::upstream::Upstream;
use super::{BINDINGS_PER_AOR_MAX, Binding, FIELD_BYTES_MAX, Q_DEFAULT, ROUTES_MAX};
use crate::id::{Listener, NetworkId, Path, Transport};

/// Records of another version are not read.
const VERSION: u8 = 1;
/// The length of a text that is not there.
const NONE: u16 = u16::MAX;

/// Why a record cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unreadable {
    /// Written by a version of this program that knows more.
    Version(u8),
    /// Not what this program writes.
    Damaged,
}

/// `network` names a network.
#[must_use]
pub fn encode<'n>(
    bindings: &[Binding],
    at: Instant,
    network: impl Fn(NetworkId) -> &'n str,
) -> Vec<u8> {
    let mut out = Writer {
        bytes: Vec::with_capacity(512),
        at,
    };
    out.bytes.push(VERSION);
    out.bytes
        .push(u8::try_from(bindings.len()).unwrap_or(u8::MAX));
    for binding in bindings.iter().take(u8::MAX.into()) {
        out.binding(binding, network(binding.network));
    }
    out.bytes
}

/// `network` finds a network by its name; a binding in one that is no more gets `None` there.
///
/// # Errors
/// Why there are no bindings to be had.
pub fn decode(
    bytes: &[u8],
    at: Instant,
    network: impl Fn(&str) -> Option<NetworkId>,
) -> Result<Vec<(Option<NetworkId>, Binding)>, Unreadable> {
    let mut reader = Reader { rest: bytes, at };
    match reader.octet().ok_or(Unreadable::Damaged)? {
        VERSION => {}
        other => return Err(Unreadable::Version(other)),
    }
    let mut read = || {
        let count = reader.octet()?;
        let mut bindings = Vec::new();
        for _ in 0..count {
            bindings.push(reader.binding(&network)?);
        }
        let whole = reader.rest.is_empty() && bindings.len() <= BINDINGS_PER_AOR_MAX;
        whole.then_some(bindings)
    };
    read().ok_or(Unreadable::Damaged)
}

struct Writer {
    bytes: Vec<u8>,
    at: Instant,
}

impl Writer {
    fn binding(&mut self, binding: &Binding, network: &str) {
        // Taken apart by name, so that a new field must be thought about.
        let Binding {
            contact,
            instance,
            reg_id,
            call_id,
            cseq,
            path,
            moved_from,
            route,
            network: _,
            claimed,
            via,
            natted,
            expires_at,
            user_agent,
            registered_at,
            refreshed_at,
            q,
            upstream,
        } = binding;
        self.text(Some(contact));
        self.text(instance.as_deref());
        self.number(reg_id.map_or(0, |id| u64::from(id) + 1));
        self.text(Some(call_id));
        self.number((*cseq).into());
        self.path(Some(path));
        self.path(moved_from.as_ref());
        self.number(route.len() as u64);
        for value in route {
            self.text(Some(value));
        }
        self.text(Some(network.as_bytes()));
        self.address(*claimed);
        self.address(*via);
        self.bytes.push((*natted).into());
        self.time(*expires_at);
        self.text(user_agent.as_deref().map(str::as_bytes));
        self.time(*registered_at);
        self.time(*refreshed_at);
        self.number((*q).into());
        self.upstream(upstream.as_deref());
    }

    fn upstream(&mut self, upstream: Option<&Upstream>) {
        self.text(upstream.map(|upstream| upstream.peer.as_bytes()));
        let Some(upstream) = upstream else { return };
        self.text(Some(upstream.token.as_bytes()));
        self.time(upstream.expires_at);
        self.time(upstream.vouched_at);
        self.number(upstream.vouched);
    }

    fn path(&mut self, path: Option<&Path>) {
        self.text(path.map(|path| path.on.transport.token().as_bytes()));
        if let Some(path) = path {
            self.address(Some(path.on.local));
            self.address(Some(path.to));
        }
    }

    fn address(&mut self, address: Option<SocketAddr>) {
        let text = address.map(|address| address.to_string());
        self.text(text.as_deref().map(str::as_bytes));
    }

    /// What the registrar keeps is shorter than any length that means something else.
    fn text(&mut self, text: Option<&[u8]>) {
        let length = text.map_or(Ok(NONE), |text| u16::try_from(text.len()));
        let length = length.unwrap_or(NONE);
        self.bytes.extend(length.to_be_bytes());
        if length != NONE {
            self.bytes.extend(text.unwrap_or_default());
        }
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
    fn binding(
        &mut self,
        network: &impl Fn(&str) -> Option<NetworkId>,
    ) -> Option<(Option<NetworkId>, Binding)> {
        let contact = self.text()??;
        let instance = self.text()?;
        let reg_id = match self.number()? {
            0 => None,
            id => Some(u32::try_from(id - 1).ok()?),
        };
        let call_id = self.text()??;
        let cseq = u32::try_from(self.number()?).ok()?;
        let path = self.path()??;
        let moved_from = self.path()?;
        let routes = usize::try_from(self.number()?).ok()?;
        let mut route = Vec::new();
        for _ in 0..routes {
            route.push(self.text()??);
            (route.len() <= ROUTES_MAX).then_some(())?;
        }
        let network = network(std::str::from_utf8(&self.text()??).ok()?);
        let claimed = self.address()?;
        let via = self.address()?;
        let natted = self.octet()? != 0;
        let expires_at = self.time()?;
        let user_agent = self.text()?;
        let user_agent = user_agent.map(String::from_utf8).transpose().ok()?;
        let binding = Binding {
            contact,
            instance,
            reg_id,
            call_id,
            cseq,
            path,
            moved_from,
            route,
            network: network.unwrap_or(NetworkId(0)),
            claimed,
            via,
            natted,
            expires_at,
            user_agent,
            registered_at: self.time()?,
            refreshed_at: self.time()?,
            q: u16::try_from(self.number()?).ok()?.min(Q_DEFAULT),
            upstream: self.upstream()?,
        };
        Some((network, binding))
    }

    fn upstream(&mut self) -> Option<Option<Box<Upstream>>> {
        let Some(peer) = self.text()? else {
            return Some(None);
        };
        Some(Some(Box::new(Upstream {
            peer: String::from_utf8(peer).ok()?,
            token: String::from_utf8(self.text()??).ok()?,
            expires_at: self.time()?,
            vouched_at: self.time()?,
            vouched: self.number()?,
        })))
    }

    fn path(&mut self) -> Option<Option<Path>> {
        let Some(transport) = self.text()? else {
            return Some(None);
        };
        let transport = transport_of(&transport)?;
        let (local, to) = (self.address()??, self.address()??);
        let on = Listener { transport, local };
        Some(Some(Path { on, to }))
    }

    fn address(&mut self) -> Option<Option<SocketAddr>> {
        match self.text()? {
            None => Some(None),
            Some(text) => Some(Some(std::str::from_utf8(&text).ok()?.parse().ok()?)),
        }
    }

    fn text(&mut self) -> Option<Option<Vec<u8>>> {
        let (length, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        let length = u16::from_be_bytes(*length);
        if length == NONE {
            return Some(None);
        }
        let (text, rest) = self.rest.split_at_checked(length.into())?;
        self.rest = rest;
        (text.len() <= FIELD_BYTES_MAX).then(|| Some(text.to_vec()))
    }

    fn time(&mut self) -> Option<Instant> {
        let offset = i64::from_be_bytes(self.number()?.to_be_bytes());
        let span = Duration::from_millis(offset.unsigned_abs());
        if offset < 0 {
            self.at.checked_sub(span)
        } else {
            self.at.checked_add(span)
        }
    }

    fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(u64::from_be_bytes(*number))
    }

    fn octet(&mut self) -> Option<u8> {
        let (octet, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*octet)
    }
}

fn transport_of(token: &[u8]) -> Option<Transport> {
    [Transport::Udp, Transport::Tcp, Transport::Tls]
        .into_iter()
        .find(|transport| transport.token().as_bytes() == token)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant can be had from the clock only; the tests count from this one"
    )]
    fn start() -> Instant {
        static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        *START
    }

    fn path(to: &str) -> Path {
        let on = Listener {
            transport: Transport::Udp,
            local: "[2001:db8::1]:5060".parse().unwrap(),
        };
        let to = to.parse().unwrap();
        Path { on, to }
    }

    fn binding(number: u8) -> Binding {
        let optional = number.is_multiple_of(2);
        let ms = |ms: u64| Duration::from_millis(ms);
        Binding {
            contact: vec![b'c', number, 0xff],
            instance: optional.then(|| b"<urn:uuid:1>".to_vec()),
            reg_id: optional.then_some(u32::from(number)),
            call_id: b"call".to_vec(),
            cseq: u32::MAX,
            path: path("[2001:db8::2]:5061"),
            moved_from: optional.then(|| path("192.0.2.7:1024")),
            route: vec![b"<sip:p;lr>".to_vec(); number.into()],
            network: NetworkId(number.into()),
            claimed: optional.then(|| "10.0.0.1:5060".parse().unwrap()),
            via: None,
            natted: optional,
            expires_at: start() + ms(60_001),
            user_agent: optional.then(|| "é".to_owned()),
            registered_at: start() - ms(5),
            refreshed_at: start(),
            q: 500,
            upstream: optional.then(|| {
                Box::new(Upstream {
                    peer: "pbx".to_owned(),
                    token: "0123".to_owned(),
                    expires_at: start() + ms(3_600_000),
                    vouched_at: start() - ms(7),
                    vouched: u64::MAX,
                })
            }),
        }
    }

    /// Networks go by name: their numbers are others after a restart.
    fn read(bytes: &[u8], at: Instant) -> Result<Vec<Binding>, Unreadable> {
        let id = |name: &str| Some(NetworkId(name.strip_prefix("net")?.parse().ok()?));
        let bindings = decode(bytes, at, id)?;
        assert!(bindings.iter().all(|(id, b)| *id == Some(b.network)));
        Ok(bindings.into_iter().map(|(_, binding)| binding).collect())
    }

    fn written(bindings: &[Binding]) -> Vec<u8> {
        const NAMES: [&str; 4] = ["net0", "net1", "net2", "net3"];
        encode(bindings, start(), |id| NAMES[usize::from(id.0)])
    }

    #[test]
    fn what_is_written_is_read() {
        for count in 0..=3 {
            let bindings: Vec<Binding> = (0..=count).map(binding).collect();
            let bytes = written(&bindings);
            assert_eq!(read(&bytes, start()).as_ref(), Ok(&bindings));
            // A second after, a second is gone.
            let read = read(&bytes, start() - Duration::from_secs(1)).unwrap();
            let left = read[0].expires_at - start();
            assert_eq!(left, Duration::from_millis(59_001));
        }
    }

    #[test]
    fn what_is_not_whole_is_not_read() {
        let bytes = written(&[binding(1), binding(2)]);
        for length in 0..bytes.len() {
            assert_eq!(read(&bytes[..length], start()), Err(Unreadable::Damaged));
        }
        let longer = [&bytes[..], b"x"].concat();
        assert_eq!(read(&longer, start()), Err(Unreadable::Damaged));
        let newer = [&[VERSION + 1], &bytes[1..]].concat();
        assert_eq!(read(&newer, start()), Err(Unreadable::Version(VERSION + 1)));
        let many = vec![binding(1); BINDINGS_PER_AOR_MAX + 1];
        assert_eq!(read(&written(&many), start()), Err(Unreadable::Damaged));
    }

    proptest! {
        #[test]
        fn nothing_read_panics(at in 0usize..400, octet: u8) {
            let mut bytes = written(&[binding(2)]);
            if let Some(place) = bytes.get_mut(at) {
                *place = octet;
            }
            drop(decode(&bytes, start(), |_| None));
        }
    }
}
