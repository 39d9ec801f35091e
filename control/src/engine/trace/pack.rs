//! The messages of a call at rest: they repeat each other nearly word for word, so that most of
//! them is told by where it stood before.
//!
//! ```text
//! literal octets: varint length, octets      copy: varint length, varint how far back
//! ```
//!
//! Both in turn, to the end; a copy of nothing is the last.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Direction, MESSAGE_BYTES_MAX, MESSAGES_MAX, Message};
use crate::id::Path;

/// Octets that are alike before a copy is shorter than they are.
const COPY_MIN: usize = 6;
/// Places that are remembered by the octets that stand there.
const PLACES: usize = 2_048;

/// All messages of a call, and what else is known of each.
const OCTETS_MAX: usize = MESSAGES_MAX * (MESSAGE_BYTES_MAX + 64);

/// Messages in few octets.
#[derive(Debug)]
pub(super) struct Packed {
    /// When the first of them came or went.
    since: Instant,
    paths: Box<[Path]>,
    octets: Box<[u8]>,
}

impl Packed {
    /// None if there are none.
    pub(super) fn new<'m>(messages: impl Iterator<Item = &'m Message> + Clone) -> Option<Self> {
        let since = messages.clone().next()?.at;
        let mut paths: Vec<Path> = Vec::new();
        let (mut heads, mut text) = (Vec::new(), Vec::new());
        for message in messages {
            let known = paths.iter().position(|path| *path == message.path);
            let place = known.unwrap_or_else(|| {
                paths.push(message.path);
                paths.len() - 1
            });
            let out = message.direction == Direction::Out;
            let after = message.at.saturating_duration_since(since);
            number(
                &mut heads,
                place << 2 | usize::from(out) << 1 | usize::from(message.unsent),
            );
            number(
                &mut heads,
                usize::try_from(after.as_nanos()).unwrap_or(usize::MAX),
            );
            number(&mut heads, message.length);
            number(&mut heads, message.bytes.len());
            text.extend_from_slice(&message.bytes);
        }
        let mut all = Vec::with_capacity(heads.len() + text.len() + 10);
        number(&mut all, heads.len());
        all.append(&mut heads);
        all.append(&mut text);
        Some(Self {
            since,
            paths: paths.into(),
            octets: compress(&all).into(),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.octets.len() + size_of_val(&*self.paths)
    }

    /// All of them, as they were.
    pub(super) fn messages(&self) -> Vec<Message> {
        self.read().unwrap_or_default()
    }

    fn read(&self) -> Option<Vec<Message>> {
        let all = Bytes::from(decompress(&self.octets)?);
        let mut rest = &all[..];
        let heads = take_number(&mut rest)?;
        let start = all.len() - rest.len();
        let mut at = start.checked_add(heads)?;
        let mut heads = all.get(start..at)?;
        let mut messages = Vec::new();
        while !heads.is_empty() {
            let flags = take_number(&mut heads)?;
            let after = u64::try_from(take_number(&mut heads)?).ok()?;
            let length = take_number(&mut heads)?;
            let end = at.checked_add(take_number(&mut heads)?)?;
            messages.push(Message {
                at: self.since + Duration::from_nanos(after),
                direction: match flags & 2 {
                    0 => Direction::In,
                    _ => Direction::Out,
                },
                path: *self.paths.get(flags >> 2)?,
                // Memory of its own: all of them stay for as long as one does otherwise.
                bytes: Bytes::copy_from_slice(all.get(at..end)?),
                length,
                unsent: flags & 1 != 0,
            });
            at = end;
        }
        Some(messages)
    }
}

fn compress(input: &[u8]) -> Vec<u8> {
    // One more than the place; zero: none.
    let mut places = [0_u32; PLACES];
    let mut out = Vec::with_capacity(input.len() / 4);
    let (mut at, mut loose) = (0, 0);
    while let Some(word) = input.get(at..).and_then(<[u8]>::first_chunk::<4>) {
        let before = known(&mut places, *word, at);
        let (alike, back) = before.map_or((0, 0), |b| (alike(input, b, at), at - b));
        if alike < COPY_MIN {
            at += 1;
            continue;
        }
        literals(&mut out, input.get(loose..at));
        number(&mut out, alike);
        number(&mut out, back);
        loose = at + alike;
        for inside in at + 1..loose {
            if let Some(word) = input.get(inside..).and_then(<[u8]>::first_chunk::<4>) {
                known(&mut places, *word, inside);
            }
        }
        at = loose;
    }
    literals(&mut out, input.get(loose..));
    number(&mut out, 0);
    out
}

/// Where octets like these stood last; from now on, here.
fn known(places: &mut [u32; PLACES], word: [u8; 4], here: usize) -> Option<usize> {
    let spread = u32::from_le_bytes(word).wrapping_mul(0x9E37_79B1);
    // The upper bits depend on all octets.
    let slot = usize::try_from(spread >> 16).unwrap_or(0) % PLACES;
    let here = u32::try_from(here + 1).unwrap_or(0);
    let before = std::mem::replace(places.get_mut(slot)?, here);
    usize::try_from(before).ok()?.checked_sub(1)
}

fn alike(input: &[u8], one: usize, other: usize) -> usize {
    let tails = input.get(one..).zip(input.get(other..));
    tails.map_or(0, |(one, other)| {
        let pairs = one.iter().zip(other);
        pairs.take_while(|(one, other)| one == other).count()
    })
}

fn literals(out: &mut Vec<u8>, octets: Option<&[u8]>) {
    let octets = octets.unwrap_or_default();
    number(out, octets.len());
    out.extend_from_slice(octets);
}

/// None if it is not what `compress` writes.
fn decompress(mut octets: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(octets.len() * 4);
    loop {
        let literals = take_number(&mut octets)?;
        let (own, rest) = octets.split_at_checked(literals)?;
        out.extend_from_slice(own);
        octets = rest;
        let alike = take_number(&mut octets)?;
        if alike == 0 {
            return octets.is_empty().then_some(out);
        }
        let from = out.len().checked_sub(take_number(&mut octets)?)?;
        (alike <= OCTETS_MAX.saturating_sub(out.len())).then_some(())?;
        // What is copied may reach into itself.
        for at in from..from + alike {
            out.push(*out.get(at)?);
        }
    }
}

/// Seven bits an octet, the lowest first.
fn number(out: &mut Vec<u8>, mut number: usize) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or(0);
        number >>= 7;
        if number == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

fn take_number(octets: &mut &[u8]) -> Option<usize> {
    let mut number = 0;
    for place in 0..10_u32 {
        let (first, rest) = octets.split_first()?;
        *octets = rest;
        number |= usize::from(first & 0x7f).checked_shl(7 * place)?;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::start;
    use super::*;
    use crate::id::{Listener, Transport};

    fn path(port: u16) -> Path {
        let on = Listener {
            transport: Transport::Udp,
            local: "192.0.2.1:5060".parse().unwrap(),
        };
        let to = ([198, 51, 100, 7], port).into();
        Path { on, to }
    }

    fn message(since: Instant, number: u16, text: &[u8]) -> Message {
        Message {
            at: since + Duration::from_nanos(u64::from(number) * 1_000_003),
            direction: match number % 2 {
                0 => Direction::In,
                _ => Direction::Out,
            },
            path: path(number % 3),
            bytes: Bytes::copy_from_slice(text),
            length: text.len() + usize::from(number / 5),
            unsent: number % 7 == 3,
        }
    }

    #[test]
    fn messages_alike_take_little_and_come_back_as_they_were() {
        let since = start();
        let text = |number: u16| {
            format!(
                "INVITE sip:9000@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.{number};\
                 branch=z9hG4bK{number}\r\nFrom: <sip:1001@example.com>;tag=a8f3\r\n\
                 To: <sip:9000@example.com>\r\nCall-ID: 0123456789abcdef@192.0.2.7\r\n\
                 User-Agent: Example Room System 4.21.7 (build 1234)\r\n\r\n"
            )
        };
        let all: Vec<_> = (0..12)
            .map(|number| message(since, number, text(number).as_bytes()))
            .collect();
        let packed = Packed::new(all.iter()).unwrap();
        assert_eq!(format!("{:?}", packed.messages()), format!("{all:?}"));
        let plain: usize = all.iter().map(|message| message.bytes.len()).sum();
        assert!(packed.len() * 3 < plain, "{} of {plain}", packed.len());
        assert!(Packed::new([].iter()).is_none());
    }

    proptest! {
        #[test]
        fn whatever_is_packed_comes_back(texts in prop::collection::vec(
            prop::collection::vec(prop::sample::select(b"ab\r\n\x00\xff".to_vec()), 0..300), 1..12))
        {
            let since = start();
            let number = |at: usize| u16::try_from(at).unwrap();
            let all: Vec<_> = texts
                .iter()
                .enumerate()
                .map(|(at, text)| message(since, number(at), text))
                .collect();
            let packed = Packed::new(all.iter()).unwrap();
            prop_assert_eq!(format!("{:?}", packed.messages()), format!("{all:?}"));
        }

        #[test]
        fn nothing_unpacks_by_chance_into_a_panic(octets in prop::collection::vec(0_u8.., 0..64)) {
            decompress(&octets);
        }
    }
}
