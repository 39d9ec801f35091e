//! Where a party's media is sent and from whom it is taken: the table of `docs/networks.md`, and
//! what happens in the course of a call.

use super::*;
use crate::nat::latch::ANYWHERE_PACKETS;

/// What happens to the party the row is about.
enum Then {
    /// A packet from there to our RTP port, and what becomes of it.
    Rtp(&'static str, Learned),
    /// So many of them in a row, all but the last on probation.
    Probation(&'static str, u8),
    /// To our RTCP port.
    Rtcp(&'static str, Learned),
    Stun(&'static str, Learned),
    /// The next second: where empty datagrams are sent to.
    Second(&'static [&'static str]),
}

use Then::{Probation, Rtcp, Rtp, Second, Stun};

/// Row, situation, the party's settings, its SDP, where media is sent first, what happens, where
/// media is sent at the end, and by which rule.
type Row = (
    u8,
    &'static str,
    fn() -> LegSettings,
    &'static str,
    &'static str,
    &'static [Then],
    &'static str,
    &'static str,
);

const NOT_SDP: Learned = Learned::Stranger("not the address in SDP");
const NOT_SIGNALLING: Learned = Learned::Stranger("not the signalling address");
const NEITHER: Learned = Learned::Stranger("neither the address in SDP nor the signalling address");
const OTHER_PORT: Learned = Learned::Stranger("the peer is heard on another port");

/// The party signals from 203.0.113.9; 203.0.113.66 is an attacker.
const TABLE: &[Row] = &[
    (
        1,
        "trusted: a conference server or a LAN room",
        || LegSettings {
            mode: Mode::Sdp,
            ..honest_outside()
        },
        "c=IN IP4 198.51.100.20|m=audio 4000 RTP/AVP 0",
        "198.51.100.20:4000",
        &[
            Rtp("198.51.100.20:4002", NOT_SDP),
            Rtp("203.0.113.9:4000", NOT_SDP),
            Rtp("198.51.100.20:4000", Learned::Held),
        ],
        "198.51.100.20:4000",
        "sdp-strict",
    ),
    (
        2,
        "no NAT: SDP names the address signalling comes from",
        honest_outside,
        "c=IN IP4 203.0.113.9|m=audio 4000 RTP/AVP 0",
        "203.0.113.9:4000",
        &[
            Rtp("203.0.113.66:4000", NEITHER),
            Rtp("203.0.113.9:4002", Learned::Held),
            Rtp("203.0.113.9:4000", OTHER_PORT),
        ],
        "203.0.113.9:4002",
        "sdp-port",
    ),
    (
        3,
        "NAT, a private address in SDP: a hole is pierced, packets are waited for",
        natted,
        "c=IN IP4 192.168.1.10|m=audio 4000 RTP/AVP 0",
        "",
        &[
            Second(&["203.0.113.9:4000", "203.0.113.9:4001"]),
            Rtp("203.0.113.66:4000", NOT_SIGNALLING),
            Rtp("192.168.1.10:4000", NOT_SIGNALLING),
            Rtp("203.0.113.9:40000", Learned::Held),
            Rtp("203.0.113.9:40002", OTHER_PORT),
            Second(&["203.0.113.9:4001"]),
        ],
        "203.0.113.9:40000",
        "learn-signalling",
    ),
    (
        4,
        "NAT, its public address in SDP (STUN, or the router wrote it)",
        natted,
        "c=IN IP4 203.0.113.9|m=audio 4000 RTP/AVP 0",
        "203.0.113.9:4000",
        &[
            Second(&[]),
            Rtp("203.0.113.66:4000", NOT_SIGNALLING),
            Rtp("203.0.113.9:40000", Learned::Held),
        ],
        "203.0.113.9:40000",
        "learn-signalling",
    ),
    (
        5,
        "media on another public box than signalling",
        honest_outside,
        "c=IN IP4 198.51.100.20|m=audio 4000 RTP/AVP 0",
        "198.51.100.20:4000",
        &[
            Rtp("203.0.113.66:4000", NEITHER),
            Probation("203.0.113.9:4000", 3),
            Rtp(
                "198.51.100.20:4000",
                Learned::Stranger("the peer is held at another address"),
            ),
        ],
        "203.0.113.9:4000",
        "sdp-signalling",
    ),
    (
        6,
        "media from beside the signalling address (media_from = \"subnet\")",
        || LegSettings {
            accept: Accept::Subnet,
            ..natted()
        },
        "c=IN IP4 192.168.1.10|m=audio 4000 RTP/AVP 0",
        "",
        &[
            Rtp("198.51.100.66:4000", NOT_SIGNALLING),
            Probation("203.0.113.200:4000", 3),
            Rtp("203.0.113.66:4000", OTHER_PORT),
        ],
        "203.0.113.200:4000",
        "subnet",
    ),
    (
        6,
        "media from anywhere (media_from = \"anywhere\")",
        || LegSettings {
            accept: Accept::Anywhere,
            ..natted()
        },
        "c=IN IP4 192.168.1.10|m=audio 4000 RTP/AVP 0",
        "",
        &[
            Probation("198.51.100.7:4000", ANYWHERE_PACKETS),
            Rtp("198.51.100.66:4000", OTHER_PORT),
        ],
        "198.51.100.7:4000",
        "anywhere",
    ),
    (
        7,
        "back along the path, whatever SDP says",
        || LegSettings {
            mode: Mode::Symmetric,
            ..honest_outside()
        },
        "c=IN IP4 203.0.113.9|m=audio 4000 RTP/AVP 0",
        "",
        &[
            Rtp("203.0.113.66:4000", NOT_SIGNALLING),
            Rtp("203.0.113.9:40000", Learned::Held),
        ],
        "203.0.113.9:40000",
        "learn-signalling",
    ),
    (
        8,
        "a gateway that sends from other addresses than it listens at",
        || LegSettings {
            mode: Mode::Sdp,
            senders: vec!["198.51.100.64/26".parse().unwrap()],
            ..honest_outside()
        },
        "c=IN IP4 198.51.100.20|m=audio 4000 RTP/AVP 0",
        "198.51.100.20:4000",
        &[
            Rtp("198.51.100.130:4000", NOT_SDP),
            Rtp("198.51.100.70:9000", Learned::Held),
            Rtp("198.51.100.71:9000", NOT_SDP),
            Rtcp("198.51.100.70:9001", Learned::Held),
        ],
        "198.51.100.20:4000",
        "declared-sender",
    ),
    (
        9,
        "ICE passes: checks cross, and teach nothing",
        || LegSettings {
            ice: true,
            ..natted()
        },
        "c=IN IP4 192.168.1.10|m=audio 4000 RTP/AVP 0|a=ice-ufrag:x",
        "",
        &[
            Stun("203.0.113.66:4000", Learned::NotMedia),
            Stun("203.0.113.9:40000", Learned::Passed),
        ],
        "",
        "learn-signalling",
    ),
    (
        10,
        "a rejected line",
        natted,
        "c=IN IP4 203.0.113.9|m=audio 0 RTP/AVP 0",
        "",
        &[],
        "",
        "",
    ),
    (
        11,
        "on hold from the start, the old way",
        honest_outside,
        "c=IN IP4 0.0.0.0|m=audio 4000 RTP/AVP 0",
        "",
        &[Second(&[]), Rtp("203.0.113.9:4000", Learned::Held)],
        "203.0.113.9:4000",
        "learn-signalling",
    ),
    (
        12,
        "NAT, and it only receives: RTCP shows where",
        natted,
        "c=IN IP4 192.168.1.10|m=audio 4000 RTP/AVP 0|a=recvonly",
        "",
        &[
            Rtcp("203.0.113.66:40001", NOT_SIGNALLING),
            Rtcp("203.0.113.9:40001", Learned::Held),
        ],
        "203.0.113.9:40000",
        "rtcp-guess",
    ),
    (
        13,
        "TCP: the connection is the latch",
        natted,
        "c=IN IP4 192.168.1.10|m=audio 4000 TCP/RTP/AVP 0|a=setup:actpass",
        "203.0.113.9:4000",
        &[Second(&[])],
        "203.0.113.9:4000",
        "tcp-relay",
    ),
];

#[test]
fn the_decision_table() {
    let mut rows: Vec<u8> = TABLE.iter().map(|row| row.0).collect();
    rows.dedup();
    assert!(rows.iter().copied().eq(1..=13), "every row has a line");
    for (row, name, leg, sdp, first, then, end, code) in TABLE {
        let name = format!("row {row}: {name}");
        let mut world = World::new(
            leg(),
            LegSettings {
                ice: true,
                ..honest(INSIDE)
            },
        );
        world
            .session
            .set_prefixes(Side::A, vec!["0.0.0.0/0".parse().unwrap()]);
        let body = format!("v=0\r\n{}\r\n", sdp.replace('|', "\r\n"));
        let answer = "v=0\r\nc=IN IP4 10.1.0.30\r\nm=audio 7078 RTP/AVP 0\r\n";
        let answer = answer.replace(" RTP", if *row == 13 { " TCP/RTP" } else { " RTP" });
        world.offer(Side::A, &body).unwrap();
        world.answer(Side::B, &answer).unwrap();
        let target = |world: &World| {
            let streams = world.session.streams();
            let target = streams.first().and_then(|stream| stream.a.target);
            target.map(|at| at.to_string()).unwrap_or_default()
        };
        assert_eq!(target(&world), *first, "{name}: first");
        for (step, then) in then.iter().enumerate() {
            world.then(&format!("{name}, step {step}"), step, then);
        }
        assert_eq!(target(&world), *end, "{name}: in the end");
        let streams = world.session.streams();
        assert_eq!(streams.first().map_or("", |s| s.a.code), *code, "{name}");
        assert_eq!(world.sockets.is_empty(), [10, 13].contains(row), "{name}");
        assert_eq!(
            world.listening.len(),
            if *row == 13 { 2 } else { 0 },
            "{name}"
        );
        if [10, 11, 12].contains(row) {
            assert_eq!(world.session.idle_since(), None, "{name}: no media timeout");
        }
        world.close();
    }
}

impl World {
    fn then(&mut self, name: &str, step: usize, then: &Then) {
        let (rtp_at, rtcp_at) = (at("192.0.2.1:20000"), at("192.0.2.1:20001"));
        let sequence = u16::try_from(step * 100).unwrap();
        match then {
            Rtp(from, learned) => {
                assert_eq!(
                    self.media(rtp_at, from, rtp(7, sequence)),
                    *learned,
                    "{name}"
                );
            }
            Probation(from, packets) => {
                for count in 1..=*packets {
                    let last = count == *packets;
                    let expected = if last {
                        Learned::Held
                    } else {
                        Learned::Tentative
                    };
                    let head = rtp(7, sequence + u16::from(count));
                    assert_eq!(self.media(rtp_at, from, head), expected, "{name}: {count}");
                }
            }
            Rtcp(from, learned) => {
                assert_eq!(self.media(rtcp_at, from, RTCP), *learned, "{name}");
            }
            Stun(from, learned) => {
                assert_eq!(self.media(rtp_at, from, STUN), *learned, "{name}");
            }
            Second(sent) => {
                let to: Vec<_> = self.sweep().iter().map(|(_, to)| to.to_string()).collect();
                assert_eq!(to, *sent, "{name}");
            }
        }
    }
}

/// Trigger (a): signalling names another address. The old path carries on until the new one shows.
#[test]
fn relatch_after_new_sdp() {
    let mut world = established();
    let moved = BARESIP_OFFER.replace("audio 17394", "audio 17500");
    world.offer(Side::A, &moved).unwrap();
    world.answer(Side::B, LINPHONE_ANSWER).unwrap();
    let local = "192.0.2.1:20000";
    assert_eq!(world.flows[&at(local)].peer, at("203.0.113.9:40000"));
    assert_eq!(world.session.streams()[0].a.latch, "waiting (old kept)");
    world.packet(local, "203.0.113.9:41000", rtp(SSRC, 9), Learned::Held);
    assert_eq!(world.flows[&at(local)].peer, at("203.0.113.9:41000"));
    world.close();
}

/// Trigger (b): the party registered anew from another address. Only that one is let in.
#[test]
fn relatch_after_a_new_flow() {
    let mut world = established();
    let (local, old) = ("192.0.2.1:20000", "203.0.113.9:40000");
    let signalled_from = ip("198.51.100.9");
    world.follow(
        Side::A,
        LegSettings {
            signalled_from,
            ..natted()
        },
    );
    assert_eq!(
        world.flows[&at(local)].peer,
        at(old),
        "until the new one shows"
    );
    world.packet(local, "203.0.113.66:40000", rtp(SSRC, 2), NOT_SIGNALLING);
    world.packet(local, old, rtp(SSRC, 2), Learned::Held);
    world.packet(local, "198.51.100.9:50000", rtp(SSRC, 3), Learned::Held);
    assert_eq!(world.flows[&at(local)].peer, at("198.51.100.9:50000"));
    world.packet(local, old, rtp(SSRC, 4), NOT_SIGNALLING);
    world.close();
}

/// Trigger (c): the NAT gave it another port. Same source, sequence goes on, old port silent.
#[test]
fn relatch_after_a_new_port() {
    let mut world = established();
    let (local, new) = ("192.0.2.1:20000", "203.0.113.9:41000");
    world.packet(local, new, rtp(SSRC, 2), OTHER_PORT);
    world.now += Duration::from_secs(2);
    for (sequence, learned) in [
        (3, Learned::Tentative),
        (4, Learned::Tentative),
        (5, Learned::Held),
    ] {
        world.packet(local, new, rtp(SSRC, sequence), learned);
    }
    assert_eq!(world.flows[&at(local)].peer, at(new));
    world.close();
}

/// Trigger (d): another address without a word in signalling: only if the network says so.
#[test]
fn relatch_to_another_address_only_where_allowed() {
    check(Accept::Signalling, "203.0.113.200:40000", None);
    check(Accept::Subnet, "203.0.113.200:40000", Some(3));
    check(Accept::Subnet, "198.51.100.200:40000", None);
    check(
        Accept::Anywhere,
        "198.51.100.200:40000",
        Some(ANYWHERE_PACKETS),
    );

    fn check(accept: Accept, from: &str, packets: Option<u8>) {
        let mut world = established();
        let local = "192.0.2.1:20000";
        world.follow(Side::A, LegSettings { accept, ..natted() });
        world.packet(local, "203.0.113.9:40000", rtp(SSRC, 1), Learned::Held);
        world.now += Duration::from_secs(31);
        world.packet(local, "203.0.113.9:40000", rtp(SSRC, 1), Learned::Held);
        if packets.is_some() {
            world.packet(local, from, rtp(SSRC, 2), OTHER_PORT);
        }
        world.now += Duration::from_secs(2);
        for count in 1..=packets.unwrap_or(40) {
            let expected = match packets {
                None => NOT_SIGNALLING,
                Some(last) if count == last => Learned::Held,
                Some(_) => Learned::Tentative,
            };
            world.packet(local, from, rtp(SSRC, 10 + u16::from(count)), expected);
        }
        world.close();
    }
}

/// Trigger (e) does not exist: a copied synchronisation source opens nothing, whatever is silent.
#[test]
fn no_relatch_on_the_source_alone() {
    let mut world = established();
    let local = "192.0.2.1:20000";
    for round in 0..40u16 {
        world.now += Duration::from_secs(3);
        world.packet(
            local,
            "203.0.113.66:40000",
            rtp(SSRC, 2 + round),
            NOT_SIGNALLING,
        );
    }
    assert_eq!(world.flows[&at(local)].peer, at("203.0.113.9:40000"));
    assert_eq!(world.session.streams()[0].a.strangers, 40);
    world.close();
}

/// Who signalling or SDP speaks for is let in before whoever only passed a probation.
#[test]
fn the_better_ground_wins() {
    let local = "192.0.2.1:20000";
    let mut world = World::new(
        LegSettings {
            accept: Accept::Anywhere,
            ..natted()
        },
        honest(INSIDE),
    );
    world.offer(Side::A, BARESIP_OFFER).unwrap();
    world.answer(Side::B, LINPHONE_ANSWER).unwrap();
    let busy = Learned::Stranger("another source is on probation");
    world.packet(
        local,
        "198.51.100.66:4000",
        rtp(SSRC, 1),
        Learned::Tentative,
    );
    world.packet(local, "198.51.100.67:4000", rtp(SSRC, 1), busy);
    let candidate = world.session.streams()[0].a.candidate.unwrap();
    assert_eq!(
        (candidate.at, candidate.count),
        (at("198.51.100.66:4000"), 1)
    );
    world.packet(
        local,
        "203.0.113.200:4000",
        rtp(SSRC, 1),
        Learned::Tentative,
    );
    world.packet(local, "198.51.100.66:4000", rtp(SSRC, 2), busy);
    world.packet(
        local,
        "203.0.113.200:4000",
        rtp(SSRC, 2),
        Learned::Tentative,
    );
    world.packet(local, "203.0.113.200:4000", rtp(SSRC, 3), Learned::Held);
    // Even then, for as long as the window is open.
    world.packet(local, "203.0.113.9:4000", rtp(SSRC, 9), Learned::Held);
    world.packet(local, "203.0.113.200:4000", rtp(SSRC, 4), OTHER_PORT);
    assert_eq!(world.session.streams()[0].a.code, "learn-signalling");
    world.close();
}

/// A declared sender hands over to another one when it falls silent, and survives a re-INVITE.
#[test]
fn declared_senders_take_turns() {
    let senders = vec!["198.51.100.64/26".parse().unwrap()];
    let strict = LegSettings {
        mode: Mode::Sdp,
        senders,
        ..honest_outside()
    };
    let mut world = World::new(strict, honest(INSIDE));
    let (local, sdp) = ("192.0.2.1:20000", "203.0.113.9:4000");
    let offer = "v=0\r\nc=IN IP4 203.0.113.9\r\nm=audio 4000 RTP/AVP 0\r\n";
    let answer = offer.replace(OUTSIDE, INSIDE);
    world.offer(Side::A, offer).unwrap();
    world.answer(Side::B, &answer).unwrap();
    let (one, two) = ("198.51.100.70:9000", "198.51.100.71:9000");
    world.packet(local, one, rtp(7, 1), Learned::Held);
    assert_eq!(world.flows[&at(local)].peer, at(one));
    assert_eq!(world.flows[&at("10.1.0.1:30000")].target, at(sdp));
    world.packet(local, two, rtp(8, 1), NOT_SDP);
    let busy = Learned::Stranger("a declared sender is heard");
    world.packet(local, sdp, rtp(8, 1), busy);
    world.now += Duration::from_secs(2);
    world.packet(local, two, rtp(8, 2), Learned::Held);
    assert_eq!(world.flows[&at(local)].peer, at(two));
    let moved = offer.replace("4000", "4100");
    world.offer(Side::A, &moved).unwrap();
    world.answer(Side::B, &answer).unwrap();
    assert_eq!(world.flows[&at(local)].peer, at(two));
    assert_eq!(
        world.flows[&at("10.1.0.1:30000")].target,
        at("203.0.113.9:4100")
    );
    world.now += Duration::from_secs(2);
    world.packet(local, "203.0.113.9:4100", rtp(9, 1), Learned::Held);
    assert_eq!(world.session.streams()[0].a.code, "sdp-strict");
    world.close();
}

/// A party behind a NAT to which nothing is sent any more: hold, or one-way media.
#[test]
fn pinholes_are_kept_open() {
    let mut world = established();
    let phone = (at("192.0.2.1:20000"), at("203.0.113.9:40000"));
    world.packet("192.0.2.1:20001", "203.0.113.9:40001", RTCP, Learned::Held);
    world.offer(Side::A, BARESIP_HOLD).unwrap();
    world.answer(Side::B, LINPHONE_ANSWER).unwrap();
    let mut sent = Vec::new();
    for second in 1..=31 {
        // The inside still sends reports, which keep that pinhole open.
        world
            .session
            .note_activity(at("10.1.0.1:30001"), None, world.now);
        sent.extend(world.sweep().into_iter().map(|what| (second, what)));
    }
    assert_eq!(sent, [(15, phone), (30, phone)]);
    // Media flows again: nothing is needed.
    world.offer(Side::A, BARESIP_OFFER).unwrap();
    world.answer(Side::B, LINPHONE_ANSWER).unwrap();
    for _ in 0..60 {
        for port in ["10.1.0.1:30000", "10.1.0.1:30001"] {
            world.session.note_activity(at(port), None, world.now);
        }
        assert_eq!(world.sweep(), []);
    }
    world.close();
}

/// A party that is not heard is knocked at, but not for ever; new terms begin anew.
#[test]
fn holes_are_pierced_a_few_times() {
    let mut world = World::new(natted(), honest(INSIDE));
    world.offer(Side::A, BARESIP_OFFER).unwrap();
    world.answer(Side::B, LINPHONE_ANSWER).unwrap();
    let knocks = |world: &mut World| (0..60).map(|_| world.sweep().len()).sum::<usize>();
    assert_eq!(
        knocks(&mut world),
        2 * usize::from(crate::media::stream::PIERCE_MAX)
    );
    let moved = BARESIP_OFFER.replace("17394", "17400");
    world.offer(Side::A, &moved).unwrap();
    world.answer(Side::B, LINPHONE_ANSWER).unwrap();
    let to: Vec<_> = world.sweep().iter().map(|(_, to)| *to).collect();
    assert_eq!(to, [at("203.0.113.9:17400"), at("203.0.113.9:17395")]);
    world.close();
}

/// One party silent is shown, both silent ends the call.
#[test]
fn silence_of_one_party_is_shown() {
    let mut world = established();
    let start = world.now;
    let silent = |world: &World| {
        let stream = &world.session.streams()[0];
        (stream.a.silent, stream.b.silent)
    };
    for _ in 0..9 {
        world.now += Duration::from_secs(1);
        world
            .session
            .note_activity(at("10.1.0.1:30000"), None, world.now);
    }
    assert_eq!(silent(&world), (None, None));
    world.now += Duration::from_secs(1);
    world
        .session
        .note_activity(at("10.1.0.1:30000"), None, world.now);
    assert_eq!(silent(&world), (Some(start), None));
    assert_eq!(world.session.idle_since(), Some(world.now));
    world
        .session
        .note_activity(at("192.0.2.1:20000"), None, world.now);
    assert_eq!(silent(&world), (None, None));
    // On hold it may be silent.
    world.now += Duration::from_secs(20);
    world
        .session
        .note_activity(at("10.1.0.1:30000"), None, world.now);
    world.offer(Side::A, BARESIP_HOLD).unwrap();
    world.answer(Side::B, LINPHONE_ANSWER).unwrap();
    assert_eq!(silent(&world), (None, None));
    world.close();
}

/// Everything a chain of decisions needs, for one party.
#[test]
fn what_is_shown() {
    let mut world = established();
    let network = ["203.0.113.0/24", "0.0.0.0/0", "192.168.0.0/16"];
    let network = network.map(|prefix| prefix.parse().unwrap());
    world.session.set_prefixes(Side::A, network.to_vec());
    let a = world.session.streams()[0].a.clone();
    assert_eq!(a.signalled, Some(at("192.168.1.10:17394")));
    assert_eq!(a.signalled_in, Some("192.168.0.0/16".parse().unwrap()));
    assert_eq!(a.signalling, ip(OUTSIDE));
    assert_eq!(a.signalling_in, Some("203.0.113.0/24".parse().unwrap()));
    assert_eq!(a.why, "signalling shows a NAT");
    assert_eq!((a.since, a.heard), (world.now, Some(world.now)));
    assert_eq!(
        (a.latch, a.code, a.rtcp_code),
        ("held", "learn-signalling", "learn-signalling")
    );
    assert_eq!((a.risk, a.candidate), (None, None));
    world.close();
}
