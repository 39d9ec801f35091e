use std::net::SocketAddr;
use std::time::Instant;

use super::*;
use crate::bus::{Access, Client, Principal};
use crate::mqtt::broker::{Broker, ConnId, Effect, Input};
use crate::mqtt::packet::Outgoing;
use crate::mqtt::{Limits, filter};

struct Free;

impl Access for Free {
    fn may_publish(&self, _: &Client, _: &str) -> bool {
        true
    }

    fn may_read(&self, _: &Client, _: &str) -> bool {
        true
    }
}

/// xorshift64*: a failure is repeated by its seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap()
    }
}

/// Packets as clients send them: 3.1.1, then 5.
const SEEDS: [&[&[u8]]; 2] = [
    &[
        b"\x10\x15\x00\x04MQTT\x04\x06\x00\x3c\x00\x01a\x00\x03w/x\x00\x01g",
        b"\x82\x09\x00\x01\x00\x04a/+x\x01",
        b"\x82\x08\x00\x01\x00\x03a/#\x01",
        b"\x32\x09\x00\x03a/b\x00\x07hi",
        b"\x31\x07\x00\x03a/bhi",
        b"\x34\x09\x00\x03a/b\x00\x08hi",
        b"\x62\x02\x00\x08",
        b"\x40\x02\x00\x01",
        b"\xa2\x07\x00\x02\x00\x03a/#",
        b"\xc0\x00",
        b"\xe0\x00",
    ],
    &[
        b"\x10\x13\x00\x04MQTT\x05\x02\x00\x3c\x05\x11\x00\x00\x00\x05\x00\x01a",
        b"\x82\x0b\x00\x01\x02\x0b\x07\x00\x03a/#\x01",
        b"\x32\x12\x00\x03a/b\x00\x07\x08\x02\x00\x00\x00\x05\x23\x00\x01hi",
        b"\x32\x0d\x00\x00\x00\x07\x03\x23\x00\x01hihi",
        b"\x40\x04\x00\x01\x00\x00",
        b"\xa2\x08\x00\x02\x00\x00\x03a/#",
        b"\xe0\x02\x04\x00",
        b"\xc0\x00",
    ],
];

/// Mutated packets through bridge and broker and back: no panic, nothing beyond its limit.
#[test]
#[allow(clippy::disallowed_methods, reason = "any moment will do")]
fn mutations_do_no_harm() {
    let mut dice = Dice(0x70_6f77_7061_7468);
    let limits = Limits {
        clients: 8,
        queue_messages: 16,
        retained_bytes: 65_536,
        ..Limits::DEFAULT
    };
    let (mut broker, mut effects) = (Broker::new(limits), Vec::new());
    let now = Instant::now();
    let mut decoded = 0_u32;
    for round in 0..40_000_u64 {
        let conn = ConnId(round / 8);
        let seeds = SEEDS[dice.next() % 2];
        let begins = round % 8 == 0;
        let seed = seeds[if begins { 0 } else { dice.next() % seeds.len() }];
        let mut bytes = BytesMut::from(seed);
        for _ in 0..dice.next() % 4 {
            let at = dice.next() % bytes.len();
            bytes[at] = u8::try_from(dice.next() % 256).unwrap();
        }
        if begins {
            if let Ok(Some(First { connect, login: _ })) = first(&mut bytes) {
                let local = SocketAddr::from(([10, 0, 0, 3], 1883));
                let input = Input::Connect {
                    conn,
                    connect,
                    login: Ok(Principal::Anonymous(String::new())),
                    local,
                    remote: local,
                    known_as: local.ip(),
                };
                broker.handle(input, &Free, now, &mut effects);
                decoded += 1;
            }
            continue;
        }
        let version = [Version::V4, Version::V5][dice.next() % 2];
        match next(&mut bytes, version) {
            Ok(Some(packet)) => {
                decoded += 1;
                broker.handle(Input::Packet { conn, packet }, &Free, now, &mut effects);
            }
            Ok(None) => {}
            Err(reason) => broker.handle(Input::Fault { conn, reason }, &Free, now, &mut effects),
        }
        if round % 8 == 7 {
            broker.handle(Input::Closed { conn }, &Free, now, &mut effects);
        }
        for effect in effects.drain(..) {
            if let Effect::Send { packet, .. } = effect {
                come_back(&packet);
            }
        }
        let totals = broker.totals();
        assert!(
            totals.sessions <= 8 && totals.queue_messages <= 8 * (16 + 64),
            "{totals:?}"
        );
        assert!(totals.retained_bytes <= 65_536, "{totals:?}");
    }
    assert!(decoded > 10_000, "{decoded}");
}

/// What is sent is a packet in both versions.
fn come_back(packet: &Outgoing) {
    for version in [Version::V4, Version::V5] {
        let mut bytes = BytesMut::new();
        encode(packet, version, &mut bytes);
        let silent = bytes.is_empty() && matches!(packet, Outgoing::Disconnect(_));
        assert!(
            silent || vet::frame(&bytes, usize::MAX) == Ok(Some(bytes.len())),
            "{packet:?}"
        );
        if let Outgoing::Publish(delivery) = packet {
            assert!(filter::is_topic(&delivery.message.topic));
        }
    }
}

#[test]
fn a_packet_is_taken_when_it_is_whole() {
    let whole: &[u8] = SEEDS[0][0];
    for cut in 0..whole.len() {
        let mut bytes = BytesMut::from(&whole[..cut]);
        assert!(first(&mut bytes).unwrap().is_none(), "{cut}");
        assert_eq!(bytes.len(), cut);
    }
    let mut bytes = BytesMut::from(whole);
    let connect = first(&mut bytes).unwrap().unwrap().connect;
    assert_eq!((connect.id.as_str(), connect.version), ("a", Version::V4));
    assert!(connect.will.is_some() && bytes.is_empty());
}

#[test]
fn what_comes_first_is_small() {
    let mut bytes = BytesMut::from(&b"\x10\xff\x7f"[..]);
    assert_eq!(first(&mut bytes).err(), Some(Reason::TooLarge));
    let mut bytes = BytesMut::from(&b"\x30\xff\xff\x7f"[..]);
    assert_eq!(next(&mut bytes, Version::V4), Err(Reason::TooLarge));
}
