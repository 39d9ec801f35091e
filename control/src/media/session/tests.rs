//! Whole exchanges against a simulated flow table and socket set. Network 0 is the outside
//! (ports from 20000), network 1 the inside (ports from 30000).

mod bodies;
mod mux;
mod own;
mod pulse;
mod rules;
mod tcp;

use std::time::Duration;

use proptest::prelude::*;

use std::collections::BTreeSet;

use super::exchange::NO_CONNECTION;
use super::*;
use crate::effect::{JoinRule, MediaKind};
use crate::media::stream::SideView;

const ROOM_OFFER: &str = include_str!("../../../../tests/vectors/room-offer.sdp");
const ROOM_ANSWER: &str = include_str!("../../../../tests/vectors/room-answer.sdp");
const BARESIP_OFFER: &str = include_str!("../../../../tests/vectors/baresip-offer.sdp");
const BARESIP_HOLD: &str = include_str!("../../../../tests/vectors/baresip-hold.sdp");
const OLD_HOLD: &str = include_str!("../../../../tests/vectors/old-hold.sdp");
const LINPHONE_ANSWER: &str = include_str!("../../../../tests/vectors/linphone-answer.sdp");
const WEBRTC_OFFER: &str = include_str!("../../../../tests/vectors/webrtc-offer.sdp");
const TCP_BFCP_OFFER: &str = include_str!("../../../../tests/vectors/tcp-bfcp-offer.sdp");
const GB28181_OFFER: &[u8] = include_bytes!("../../../../tests/vectors/gb28181-offer.sdp");
const IPV6_ANSWER: &str = include_str!("../../../../tests/vectors/ipv6-answer.sdp");

const OUTSIDE: &str = "203.0.113.9";
const INSIDE: &str = "10.1.0.30";
const SSRC: u32 = 1_804_289_383;

#[test]
fn only_addresses_and_ports_change() {
    check(
        "room",
        ROOM_OFFER.as_bytes(),
        &[
            ("IN IP4 10.9.0.20", "IN IP4 10.1.0.1"),
            ("audio 50000 ", "audio 30000 "),
            ("video 50002 ", "video 30002 "),
            ("application 50008 ", "application 30004 "),
            ("video 50004 ", "video 30006 "),
            ("application 50006 ", "application 30008 "),
        ],
    );
    check(
        "baresip",
        BARESIP_OFFER.as_bytes(),
        &[
            ("IN IP4 192.168.1.10", "IN IP4 10.1.0.1"),
            ("audio 17394 ", "audio 30000 "),
            ("a=rtcp:17395", "a=rtcp:30001"),
            ("video 22842 ", "video 30002 "),
            ("a=rtcp:22843", "a=rtcp:30003"),
        ],
    );
    // Nothing but o= and the ports: "nowhere" stays.
    check(
        "hold by c=0.0.0.0",
        OLD_HOLD.as_bytes(),
        &[
            ("IN IP4 192.168.1.10", "IN IP4 10.1.0.1"),
            ("audio 17394 ", "audio 30000 "),
            ("a=rtcp:17395", "a=rtcp:30001"),
            ("video 22842 ", "video 30002 "),
            ("a=rtcp:22843", "a=rtcp:30003"),
        ],
    );
    check(
        "browser",
        WEBRTC_OFFER.as_bytes(),
        &[
            ("IN IP4 127.0.0.1", "IN IP4 10.1.0.1"),
            ("c=IN IP4 198.51.100.5", "c=IN IP4 10.1.0.1"),
            ("audio 61234 ", "audio 30000 "),
            ("a=rtcp:9 IN IP4 0.0.0.0", "a=rtcp:30001 IN IP4 0.0.0.0"),
            ("a=ice-options:trickle\r\n", ""),
            ("a=ice-ufrag:Fx3k\r\n", ""),
            ("a=ice-pwd:aaaabbbbccccddddeeeeffff\r\n", ""),
            ("a=end-of-candidates\r\n", ""),
            (
                "a=candidate:1 1 udp 2122260223 192.168.1.4 61234 typ host generation 0\r\n",
                "",
            ),
        ],
    );
    check(
        "BFCP over TCP",
        TCP_BFCP_OFFER.as_bytes(),
        &[
            ("IN IP4 10.9.0.20", "IN IP4 10.1.0.1"),
            ("audio 50000 ", "audio 30000 "),
            ("application 50010 ", "application 30002 "),
        ],
    );
    check(
        "a name in GBK",
        GB28181_OFFER,
        &[
            ("IN IP4 10.9.0.20", "IN IP4 10.1.0.1"),
            ("video 50000 ", "video 30000 "),
        ],
    );

    fn check(name: &str, body: &[u8], changes: &[(&str, &str)]) {
        let mut expected = latin1(body);
        for (from, to) in changes {
            assert!(expected.contains(from), "{name}: {from}");
            expected = expected.replace(from, to);
        }
        let out = World::new(natted(), honest(INSIDE))
            .offer_bytes(Side::A, body)
            .unwrap();
        assert_eq!(latin1(&out), expected, "{name}");
    }
}

/// Five streams of a video room, all flowing from the first packet: RTP, and RTCP but for BFCP.
#[test]
fn a_video_room() {
    let mut room = honest("10.9.0.20");
    room.network = NetworkId(1);
    room.local = ip("10.1.0.1");
    room.advertise = room.local;
    let mut peer = honest("203.0.113.77");
    peer.network = NetworkId(0);
    peer.local = ip("192.0.2.1");
    peer.advertise = ip("198.51.100.1");
    peer.tos = Some(0x88);
    peer.hops = Some(64);
    let mut world = World::new(room, peer);
    let offer = world.offer(Side::A, ROOM_OFFER).unwrap();
    assert!(offer.contains("c=IN IP4 198.51.100.1"));
    assert!(world.flows.is_empty());
    world.answer(Side::B, ROOM_ANSWER).unwrap();
    assert_eq!(world.flows.len(), 2 * (5 + 4));
    let slides = &world.flows[&at("10.1.0.1:30006")];
    assert_eq!(
        slides,
        &Rule {
            peer: at("10.9.0.20:50004"),
            source: at("192.0.2.1:20006"),
            target: at("203.0.113.77:6004"),
            tos: Some(0x88),
            hops: Some(64),
            kind: MediaKind::Video,
            rtcp: None,
        }
    );
    let kinds: Vec<_> = world
        .session
        .streams()
        .into_iter()
        .map(|s| s.kind)
        .collect();
    assert_eq!(
        kinds,
        ["audio", "video", "application", "video", "application"]
    );
    // BFCP has no RTCP.
    assert!(!world.flows.contains_key(&at("10.1.0.1:30005")));
    world.close();
}

/// A phone behind a NAT calls one in the LAN: its side waits for the first packet.
#[test]
fn a_phone_behind_a_nat() {
    let mut world = World::new(natted(), honest(INSIDE));
    world.offer(Side::A, BARESIP_OFFER).unwrap();
    let answer = world.answer(Side::B, LINPHONE_ANSWER).unwrap();
    assert!(answer.contains("c=IN IP4 198.51.100.1\r\n"));
    assert!(answer.contains("m=audio 20000 RTP/AVP 0 101\r\n"));
    assert!(answer.contains("m=video 0 RTP/AVP 96\r\n"));
    assert!(world.flows.is_empty());
    // The inside sends first: nowhere to go yet.
    world.packet("10.1.0.1:30000", "10.1.0.30:7078", rtp(5, 1), Learned::Held);
    assert!(world.flows.is_empty());
    world.packet(
        "192.0.2.1:20000",
        "203.0.113.9:40000",
        rtp(SSRC, 1),
        Learned::Held,
    );
    assert_eq!(world.flows.len(), 2);
    assert_eq!(
        world.flows[&at("10.1.0.1:30000")].target,
        at("203.0.113.9:40000")
    );
    assert_eq!(
        world.flows[&at("192.0.2.1:20000")].target,
        at("10.1.0.30:7078")
    );
    // RTCP is learnt on its own.
    world.packet("192.0.2.1:20001", "203.0.113.9:40001", RTCP, Learned::Held);
    assert_eq!(world.flows.len(), 4);
    // The rejected video line keeps its ports for another branch, until the answer is final.
    assert_eq!(world.sockets.len(), 8);
    world.settle();
    assert_eq!(world.sockets.len(), 4);
    world.close();
}

/// RTP bleed: whatever strangers send, nothing is installed and nothing moves.
#[test]
fn strangers_get_nothing() {
    let mut world = World::new(natted(), honest(INSIDE));
    world.offer(Side::A, BARESIP_OFFER).unwrap();
    world.answer(Side::B, LINPHONE_ANSWER).unwrap();
    let flood = |world: &mut World| {
        let before = world.flows.clone();
        for round in 0..50u16 {
            for (_, local) in world.session.locals() {
                for from in ["203.0.113.66:40000", "10.1.0.66:7078", "192.168.1.10:17394"] {
                    for head in [rtp(SSRC, round), rtp(5, round), RTCP, STUN] {
                        let learned = world.media(local, from, head);
                        let refused = matches!(learned, Learned::Stranger(_) | Learned::NotMedia);
                        assert!(refused, "{local} {from} {learned:?}");
                    }
                }
            }
            world.now += Duration::from_secs(1);
        }
        assert_eq!(world.flows, before);
    };
    flood(&mut world);
    assert!(world.flows.is_empty());
    world.packet(
        "192.0.2.1:20000",
        "203.0.113.9:40000",
        rtp(SSRC, 1),
        Learned::Held,
    );
    assert_eq!(world.flows.len(), 2);
    flood(&mut world);
    assert_eq!(
        world.session.streams()[0].a.held,
        Some(at("203.0.113.9:40000"))
    );
    assert_eq!(
        world.session.streams()[0].b.held,
        Some(at("10.1.0.30:7078"))
    );
    world.close();
}

#[test]
fn what_teaches_a_source() {
    check("agreed payload type", rtp(SSRC, 1), Learned::Held);
    check(
        "payload type nobody listed",
        [0x80, 77, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5],
        Learned::NotMedia,
    );
    check(
        "source not in SDP",
        rtp(5, 1),
        Learned::Stranger("not a source named in SDP"),
    );
    check("RTCP on the RTP port", RTCP, Learned::NotMedia);
    check("STUN crosses", STUN, Learned::Passed);
    check("keep-alive", [0; 12], Learned::NotMedia);

    fn check(name: &str, head: [u8; 12], expected: Learned) {
        let mut world = World::new(natted(), honest(INSIDE));
        world.offer(Side::A, BARESIP_OFFER).unwrap();
        world.answer(Side::B, LINPHONE_ANSWER).unwrap();
        let learned = world.media(at("192.0.2.1:20000"), "203.0.113.9:40000", head);
        assert_eq!(learned, expected, "{name}");
    }
}

#[test]
fn hold_moves_nothing_and_stops_the_clock() {
    check(BARESIP_HOLD);
    check(OLD_HOLD);

    fn check(hold: &str) {
        let mut world = established();
        assert_eq!(world.session.idle_since(), Some(world.now));
        let flows = world.flows.clone();
        world.effects = 0;
        world.now += Duration::from_secs(60);
        world.offer(Side::A, hold).unwrap();
        world.answer(Side::B, LINPHONE_ANSWER).unwrap();
        assert_eq!(world.flow_effects(), 0);
        assert_eq!(world.session.streams()[0].a.latch, "held");
        assert_eq!(world.session.idle_since(), None);
        world.now += Duration::from_secs(600);
        world.offer(Side::A, BARESIP_OFFER).unwrap();
        world.answer(Side::B, LINPHONE_ANSWER).unwrap();
        assert_eq!((world.flow_effects(), &world.flows), (0, &flows));
        // The clock begins anew.
        assert_eq!(world.session.idle_since(), Some(world.now));
        world.close();
    }
}

/// A party that is where it says holds by c=0.0.0.0: its address is not forgotten.
#[test]
fn hold_keeps_a_believed_address() {
    let mut world = established();
    world.effects = 0;
    let hold = LINPHONE_ANSWER.replace("c=IN IP4 10.1.0.30", "c=IN IP4 0.0.0.0");
    world.offer(Side::B, &hold).unwrap();
    world.answer(Side::A, BARESIP_OFFER).unwrap();
    assert_eq!(world.flow_effects(), 0);
    assert_eq!(world.flows.len(), 2);
    assert_eq!(world.session.idle_since(), None);
}

#[test]
fn media_is_never_sent_to_our_own_sockets() {
    check("10.1.0.1", 30_000, false);
    check("10.1.0.1", 30_001, false);
    check("198.51.100.1", 20_000, false);
    check("10.1.0.1", 30_004, true);

    fn check(address: &str, port: u16, held: bool) {
        let mut world = World::new(natted(), strict());
        world.offer(Side::A, BARESIP_OFFER).unwrap();
        let audio = format!("audio {port}");
        let echo = LINPHONE_ANSWER
            .replace(INSIDE, address)
            .replace("audio 7078", &audio);
        world.answer(Side::B, &echo).unwrap();
        let got = world.session.streams()[0].b.held;
        assert_eq!(got.is_some(), held, "{address}:{port}");
        world.close();
    }
}

/// Wrong or incomplete names are found out, but open the door to nobody else.
#[test]
fn misnamed_sources() {
    let mut world = World::new(natted(), honest(INSIDE));
    world.offer(Side::A, BARESIP_OFFER).unwrap();
    world.answer(Side::B, LINPHONE_ANSWER).unwrap();
    let (local, phone) = ("192.0.2.1:20000", "203.0.113.9:40000");
    for sequence in 0..u16::from(crate::media::stream::MISNAMED_MAX) {
        let refused = Learned::Stranger("not a source named in SDP");
        world.packet(local, phone, rtp(5, sequence), refused);
    }
    let refused = Learned::Stranger("not the signalling address");
    world.packet(local, "203.0.113.66:40000", rtp(5, 99), refused);
    world.packet(local, phone, rtp(5, 100), Learned::Held);
    world.close();
}

#[test]
fn silence_counts_from_the_last_packet_of_any_stream() {
    let mut world = established();
    let start = world.now;
    world.now += Duration::from_secs(20);
    assert_eq!(world.session.idle_since(), Some(start));
    world
        .session
        .note_activity(at("10.1.0.1:30000"), None, world.now);
    assert_eq!(world.session.idle_since(), Some(world.now));
    world
        .session
        .note_activity(at("10.1.0.1:9"), None, world.now + Duration::from_secs(9));
    assert_eq!(world.session.idle_since(), Some(world.now));
    // A refresh that changes nothing (RFC 4028) is no sign of life.
    let heard = world.now;
    world.now += Duration::from_secs(20);
    world.offer(Side::A, BARESIP_OFFER).unwrap();
    world.answer(Side::B, LINPHONE_ANSWER).unwrap();
    assert_eq!(world.session.idle_since(), Some(heard));
}

#[test]
fn re_invite() {
    // The same again: nothing.
    let mut world = established();
    world.effects = 0;
    world.offer(Side::B, LINPHONE_ANSWER).unwrap();
    world.answer(Side::A, BARESIP_OFFER).unwrap();
    assert_eq!(world.flow_effects(), 0);
    // The inside moves: its new address is in force with the answer, not with the offer.
    let moved = LINPHONE_ANSWER.replace("audio 7078", "audio 7100");
    world.offer(Side::B, &moved).unwrap();
    assert_eq!(world.flow_effects(), 0);
    world.answer(Side::A, BARESIP_OFFER).unwrap();
    assert_eq!(
        world.flows[&at("192.0.2.1:20000")].target,
        at("10.1.0.30:7100")
    );
    assert_eq!(
        world.flows[&at("10.1.0.1:30000")].peer,
        at("10.1.0.30:7100")
    );
    // The outside moves behind its NAT: the old path carries on until the new one shows.
    let moved = BARESIP_OFFER.replace("audio 17394", "audio 17500");
    world.offer(Side::A, &moved).unwrap();
    world.answer(Side::B, LINPHONE_ANSWER).unwrap();
    assert_eq!(
        world.flows[&at("192.0.2.1:20000")].peer,
        at("203.0.113.9:40000")
    );
    world.packet(
        "192.0.2.1:20000",
        "203.0.113.9:41000",
        rtp(SSRC, 9),
        Learned::Held,
    );
    assert_eq!(
        world.flows[&at("192.0.2.1:20000")].peer,
        at("203.0.113.9:41000")
    );
    world.close();
}

#[test]
fn removed_and_recycled_lines() {
    let mut world = established();
    let with_video = LINPHONE_ANSWER.replace("video 0", "video 9078");
    world.offer(Side::A, BARESIP_OFFER).unwrap();
    world.answer(Side::B, &with_video).unwrap();
    let video = world.session.streams()[1].a.local;
    assert_eq!(world.sockets.len(), 8);
    let removed = BARESIP_OFFER.replace("video 22842", "video 0");
    let out = world.offer(Side::A, &removed).unwrap();
    assert!(out.contains("m=video 0 RTP/AVP 96\r\n"));
    assert!(world.sockets.contains(&video), "until it is answered");
    world.answer(Side::B, LINPHONE_ANSWER).unwrap();
    assert_eq!(world.sockets.len(), 4);
    // Offered again and rejected: its new ports go at once, no fork can answer otherwise.
    world.offer(Side::A, BARESIP_OFFER).unwrap();
    assert_eq!(world.sockets.len(), 8);
    world.answer(Side::B, LINPHONE_ANSWER).unwrap();
    assert_eq!(world.sockets.len(), 4);
    world.offer(Side::A, BARESIP_OFFER).unwrap();
    world.answer(Side::B, &with_video).unwrap();
    assert_ne!(
        world.session.streams()[1].a.local,
        video,
        "the old ports rest"
    );
    world.close();
}

#[test]
fn a_refused_offer_leaves_everything() {
    let mut world = established();
    let (flows, sockets) = (world.flows.clone(), world.sockets.clone());
    let more = format!("{BARESIP_OFFER}m=application 5000 UDP/BFCP *\r\n");
    world.effects = 0;
    world
        .offer(Side::A, &more.replace("17394", "17396"))
        .unwrap();
    assert!(world.sockets.len() > sockets.len());
    world.roll_back();
    assert_eq!((&world.flows, &world.sockets), (&flows, &sockets));
    world.roll_back();
    assert_eq!(
        world.offer(Side::B, "v=0\r\nm=audio 7 RTP/AVP 0\r\n"),
        Err(NO_CONNECTION)
    );
    assert_eq!(
        world.session.streams()[0].a.held,
        Some(at("203.0.113.9:40000"))
    );
    world.close();
}

#[test]
fn delayed_offer() {
    // The inside offers in its 200, the outside answers in its ACK.
    let mut world = World::new(natted(), honest(INSIDE));
    world.offer(Side::B, LINPHONE_ANSWER).unwrap();
    world.answer(Side::A, BARESIP_OFFER).unwrap();
    world.packet(
        "192.0.2.1:20000",
        "203.0.113.9:40000",
        rtp(SSRC, 1),
        Learned::Held,
    );
    assert_eq!(world.flows.len(), 2);
    world.close();
}

/// The first branch answers early without video, the second one, elsewhere, with it.
#[test]
fn forks_answer_one_after_the_other() {
    let mut world = World::new(natted(), honest(INSIDE));
    world.offer(Side::A, BARESIP_OFFER).unwrap();
    world.answer(Side::B, LINPHONE_ANSWER).unwrap();
    let other = LINPHONE_ANSWER
        .replace("10.1.0.30", "10.1.0.31")
        .replace("video 0", "video 9078");
    world.session.set_leg(Side::B, honest("10.1.0.31"));
    world.answer(Side::B, &other).unwrap();
    let streams = world.session.streams();
    assert_eq!(streams[0].b.held, Some(at("10.1.0.31:7078")));
    assert_eq!(streams[1].b.held, Some(at("10.1.0.31:9078")));
    // The third is in the outside network: other ports for it, the same for the caller.
    let mut third = honest("203.0.113.77");
    third.network = NetworkId(0);
    third.local = ip("192.0.2.1");
    world.session.set_leg(Side::B, third);
    world.offer(Side::A, BARESIP_OFFER).unwrap();
    world
        .answer(Side::B, &other.replace("10.1.0.31", "203.0.113.77"))
        .unwrap();
    world.settle();
    let again = world.session.streams();
    assert_eq!(again[0].a.local, streams[0].a.local);
    assert_eq!(again[0].b.local.ip(), ip("192.0.2.1"));
    assert_eq!(world.sockets.len(), 8);
    world.close();
}

/// The caller's own next offer ends the wait for other branches.
#[test]
fn a_new_offer_gives_back_what_was_rejected() {
    let mut world = World::new(natted(), honest(INSIDE));
    world.offer(Side::A, BARESIP_OFFER).unwrap();
    world.answer(Side::B, LINPHONE_ANSWER).unwrap();
    assert_eq!(world.sockets.len(), 8);
    let audio = BARESIP_OFFER.split("m=video").next().unwrap();
    world.offer(Side::A, audio).unwrap();
    assert_eq!(world.sockets.len(), 4);
    world.close();
}

/// A fax takes over the audio's line and ports (RFC 3362), and is learnt anew.
#[test]
fn another_protocol_on_the_same_line() {
    let mut world = established();
    let local = world.session.streams()[0].a.local;
    let fax = |sdp: &str, port: &str| {
        let session = sdp.split("m=audio").next().unwrap();
        format!("{session}m=image {port} udptl t38\r\n")
    };
    world.offer(Side::A, &fax(BARESIP_OFFER, "17394")).unwrap();
    world
        .answer(Side::B, &fax(LINPHONE_ANSWER, "7078"))
        .unwrap();
    let stream = &world.session.streams()[0];
    assert_eq!((stream.kind.as_str(), stream.a.local), ("image", local));
    assert_eq!((stream.a.held, world.flows.len()), (None, 0));
    let (local, fax) = ("192.0.2.1:20000", "203.0.113.9:40009");
    world.packet(local, fax, STUN, Learned::Passed);
    let udptl = [0, 0, 1, 6, 2, 0, 0, 0, 0, 0, 0, 0];
    world.packet(local, fax, udptl, Learned::Held);
    assert_eq!(world.flows.len(), 2);
    world.close();
}

#[test]
fn refusals() {
    let mut world = World::new(natted(), honest(INSIDE));
    assert_eq!(
        world.answer(Side::B, LINPHONE_ANSWER),
        Err(Refusal::NotAnAnswer)
    );
    world.offer(Side::A, BARESIP_OFFER).unwrap();
    assert_eq!(world.offer(Side::B, BARESIP_OFFER), Err(Refusal::Glare));
    assert_eq!(
        world.answer(Side::A, LINPHONE_ANSWER),
        Err(Refusal::NotAnAnswer)
    );
    assert_eq!(
        world.answer(Side::B, ROOM_ANSWER),
        Err(Refusal::NotAnAnswer)
    );
    assert_eq!(
        world.offer(Side::A, "hello"),
        Err(Refusal::Malformed("SDP does not begin with v="))
    );
    let huge = format!("v=0\r\n{}", "a=x\r\n".repeat(2000));
    assert_eq!(world.offer(Side::A, &huge), Err(Refusal::TooLarge));
    // Only three pairs are left inside, five are needed: none is taken.
    let mut world = World::new(natted(), honest(INSIDE));
    world
        .pools
        .configure(NetworkId(1), ip("10.1.0.1"), 30_000, 30_005);
    let none = Err(Refusal::NoPorts(NetworkId(1)));
    assert_eq!(world.offer(Side::A, ROOM_OFFER), none);
    assert!(
        world
            .pools
            .usage(world.now)
            .all(|(_, usage)| usage.taken + usage.resting == 0)
    );
    world.offer(Side::A, BARESIP_OFFER).unwrap();
    world.close();
}

#[test]
fn between_families() {
    let mut six = honest("2001:db8::20");
    six.local = ip("2001:db8::1");
    six.advertise = six.local;
    let mut world = World::new(natted(), six);
    world
        .pools
        .configure(NetworkId(1), ip("2001:db8::1"), 30_000, 30_099);
    let offer = world.offer(Side::A, BARESIP_OFFER).unwrap();
    assert!(
        offer.contains("IN IP6 2001:db8::1\r\ns=-\r\nc=IN IP6 2001:db8::1\r\n"),
        "{offer}"
    );
    let answer = world.answer(Side::B, IPV6_ANSWER).unwrap();
    assert!(answer.contains("c=IN IP4 198.51.100.1\r\n"));
    world.packet(
        "192.0.2.1:20000",
        "203.0.113.9:40000",
        rtp(SSRC, 1),
        Learned::Held,
    );
    let rule = world.flows[&at("192.0.2.1:20000")];
    assert_eq!(
        (rule.source, rule.target),
        (at("[2001:db8::1]:30000"), at("[2001:db8::20]:4000"))
    );
    world.close();
}

/// One port for both, on both sides.
#[test]
fn multiplexed_rtcp() {
    let offer = "v=0\r\nc=IN IP4 203.0.113.9\r\nm=audio 4000 RTP/AVP 0\r\na=rtcp-mux\r\n";
    let answer = offer.replace(OUTSIDE, INSIDE);
    let mut world = World::new(honest_outside(), honest(INSIDE));
    world.offer(Side::A, offer).unwrap();
    world.answer(Side::B, &answer).unwrap();
    assert_eq!(world.flows.len(), 2);
    world.packet("192.0.2.1:20000", "203.0.113.9:4000", RTCP, Learned::Held);
    world.packet(
        "192.0.2.1:20001",
        "203.0.113.9:4001",
        RTCP,
        Learned::Stranger("nobody is expected"),
    );
    // The other side does not: pairs again, and RTCP where RTP says.
    world.offer(Side::A, offer).unwrap();
    world
        .answer(Side::B, &answer.replace("a=rtcp-mux", "a=rtcp:4007"))
        .unwrap();
    assert_eq!(
        world.flows[&at("192.0.2.1:20001")].target,
        at("10.1.0.30:4007")
    );
    world.close();
}

#[test]
fn rtcp_follows_rtp_to_another_address() {
    // Media is believed to be at another box of the network, but comes from the signalling one.
    let sdp = "v=0\r\nc=IN IP4 203.0.113.40\r\nm=audio 4000 RTP/AVP 0\r\n";
    let mut world = World::new(honest_outside(), honest(INSIDE));
    world
        .session
        .set_prefixes(Side::A, vec!["203.0.113.0/24".parse().unwrap()]);
    world.offer(Side::A, sdp).unwrap();
    world
        .answer(Side::B, LINPHONE_ANSWER.split("m=video").next().unwrap())
        .unwrap();
    assert_eq!(
        world.flows[&at("10.1.0.1:30001")].target,
        at("203.0.113.40:4001")
    );
    for (sequence, learned) in [
        (1, Learned::Tentative),
        (2, Learned::Tentative),
        (3, Learned::Held),
    ] {
        world.packet(
            "192.0.2.1:20000",
            "203.0.113.9:5000",
            rtp(5, sequence),
            learned,
        );
    }
    assert_eq!(
        world.flows[&at("10.1.0.1:30000")].target,
        at("203.0.113.9:5000")
    );
    world.packet("192.0.2.1:20001", "203.0.113.9:5001", RTCP, Learned::Held);
    assert_eq!(
        world.flows[&at("10.1.0.1:30001")].target,
        at("203.0.113.9:5001")
    );
    world.close();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Damaged SDP is refused or relayed, never more.
    #[test]
    fn damaged_bodies(
        bodies in (0..BODIES.len(), 0..BODIES.len()),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let mut world = World::new(natted(), strict());
        for (side, body) in [(Side::A, bodies.0), (Side::B, bodies.1)] {
            let mut body = BODIES[body].as_bytes().to_vec();
            for (at, byte) in &damage {
                let at = at.index(body.len());
                body[at] = *byte;
            }
            drop(world.offer_bytes(side, &body));
            drop(world.answer_bytes(side.other(), &body));
        }
        world.close();
    }

    /// Whatever happens in whatever order: what was installed is what is wanted, flows only run
    /// between open sockets, strangers move nothing, and a closed call leaves nothing behind.
    #[test]
    fn installed_is_wanted(steps in proptest::collection::vec(step(), 1..60)) {
        let mut world = World::new(natted(), honest(INSIDE));
        for step in steps {
            world.step(step);
        }
        world.close();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Offer(Side, usize),
    Answer(Side, usize),
    RollBack,
    Settle,
    Leg(Side, usize),
    Follow(Side, usize),
    Mode(Side, Option<Mode>),
    Reoffer(Side),
    Packet {
        local: usize,
        from: usize,
        head: usize,
        sequence: u16,
    },
    Activity(usize),
    Wait(u64),
    Sweep,
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let side = || prop_oneof![Just(Side::A), Just(Side::B)];
    let packet = (0usize..20, 0..FROM.len(), 0usize..5, 0u16..50);
    prop_oneof![
        4 => (side(), 0..BODIES.len()).prop_map(|(s, b)| Step::Offer(s, b)),
        6 => (side(), 0..BODIES.len()).prop_map(|(s, b)| Step::Answer(s, b)),
        1 => Just(Step::RollBack),
        1 => Just(Step::Settle),
        1 => (side(), 0usize..4).prop_map(|(s, l)| Step::Leg(s, l)),
        1 => (side(), 0usize..4).prop_map(|(s, l)| Step::Follow(s, l)),
        1 => (side(), prop_oneof![
            Just(None), Just(Some(Mode::Sdp)), Just(Some(Mode::Symmetric)), Just(Some(Mode::Auto)),
        ]).prop_map(|(s, m)| Step::Mode(s, m)),
        2 => side().prop_map(Step::Reoffer),
        9 => packet.prop_map(|(local, from, head, sequence)| {
            Step::Packet { local, from, head, sequence }
        }),
        2 => (0usize..20).prop_map(Step::Activity),
        2 => (0u64..40_000).prop_map(Step::Wait),
        1 => Just(Step::Sweep),
        1 => Just(Step::Close),
    ]
}

const BODIES: [&str; 9] = [
    ROOM_OFFER,
    ROOM_ANSWER,
    BARESIP_OFFER,
    BARESIP_HOLD,
    OLD_HOLD,
    LINPHONE_ANSWER,
    WEBRTC_OFFER,
    TCP_BFCP_OFFER,
    IPV6_ANSWER,
];
const FROM: [&str; 6] = [
    "203.0.113.9:40000",
    "203.0.113.9:40002",
    "10.1.0.30:7078",
    "10.9.0.20:50000",
    "203.0.113.66:40000",
    "10.1.0.66:9",
];
/// Addresses of `FROM` that no leg signals from and no body names.
const STRANGERS: [usize; 2] = [4, 5];

const RTCP: [u8; 12] = [0x80, 200, 0, 6, 0, 0, 0, 5, 0, 0, 0, 0];
const STUN: [u8; 12] = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0];

/// The shell, simulated: every effect must make sense when it comes.
struct World {
    session: Session,
    pools: Pools,
    now: Instant,
    flows: BTreeMap<SocketAddr, Rule>,
    sockets: BTreeSet<SocketAddr>,
    listening: BTreeMap<SocketAddr, JoinRule>,
    /// What was sent from our sockets without a flow.
    sent: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
    /// Flow effects since it was last set to zero.
    effects: usize,
}

impl World {
    fn new(a: LegSettings, b: LegSettings) -> Self {
        let mut pools = Pools::default();
        pools.configure(NetworkId(0), ip("192.0.2.1"), 20_000, 20_099);
        pools.configure(NetworkId(1), ip("10.1.0.1"), 30_000, 30_099);
        Self {
            session: Session::new(SessionId(1), a, b),
            pools,
            now: start(),
            flows: BTreeMap::new(),
            sockets: BTreeSet::new(),
            listening: BTreeMap::new(),
            sent: Vec::new(),
            effects: 0,
        }
    }

    fn offer(&mut self, from: Side, body: &str) -> Result<String, Refusal> {
        self.offer_bytes(from, body.as_bytes())
            .map(|out| latin1(&out))
    }

    fn offer_bytes(&mut self, from: Side, body: &[u8]) -> Result<Vec<u8>, Refusal> {
        let mut effects = Vec::new();
        let out = self
            .session
            .offer(from, body, &mut self.pools, self.now, &mut effects);
        assert!(out.is_ok() || effects.is_empty());
        self.perform(effects);
        out
    }

    fn answer(&mut self, from: Side, body: &str) -> Result<String, Refusal> {
        self.answer_bytes(from, body.as_bytes())
            .map(|out| latin1(&out))
    }

    fn answer_bytes(&mut self, from: Side, body: &[u8]) -> Result<Vec<u8>, Refusal> {
        let mut effects = Vec::new();
        let out = self
            .session
            .answer(from, body, &mut self.pools, self.now, &mut effects);
        assert!(out.is_ok() || effects.is_empty());
        self.perform(effects);
        if out.is_ok() {
            let mut more = Vec::new();
            let again = self
                .session
                .answer(from, body, &mut self.pools, self.now, &mut more);
            assert_eq!(
                (&again, more),
                (&out, Vec::new()),
                "a repeated answer changes nothing"
            );
        }
        out
    }

    fn roll_back(&mut self) {
        let mut effects = Vec::new();
        self.session
            .roll_back(&mut self.pools, self.now, &mut effects);
        self.perform(effects);
    }

    fn settle(&mut self) {
        let mut effects = Vec::new();
        self.session.settle(&mut self.pools, self.now, &mut effects);
        self.perform(effects);
    }

    fn follow(&mut self, side: Side, leg: LegSettings) {
        let mut effects = Vec::new();
        self.session.follow(side, leg, self.now, &mut effects);
        self.perform(effects);
    }

    fn set_mode(&mut self, side: Side, mode: Option<Mode>) {
        let mut effects = Vec::new();
        self.session.set_mode(side, mode, self.now, &mut effects);
        self.perform(effects);
    }

    /// A second passes; what was sent in it.
    fn sweep(&mut self) -> Vec<(SocketAddr, SocketAddr)> {
        self.now += Duration::from_secs(1);
        self.sent.clear();
        let mut effects = Vec::new();
        self.session.keep_alive(self.now, &mut effects);
        self.perform(effects);
        self.sent.iter().map(|(at, to, _)| (*at, *to)).collect()
    }

    fn reoffer(&mut self, to: Side) -> Option<String> {
        let mut effects = Vec::new();
        let pools = &mut self.pools;
        let out = self.session.reoffer(to, pools, self.now, &mut effects);
        assert!(out.is_some() || effects.is_empty());
        self.perform(effects);
        out.map(|out| latin1(&out))
    }

    fn media(&mut self, local: SocketAddr, from: &str, head: [u8; 12]) -> Learned {
        let mut effects = Vec::new();
        let learned = self
            .session
            .media(local, at(from), &head, self.now, &mut effects);
        assert!(
            matches!(learned, Learned::Held | Learned::Passed) || effects.is_empty(),
            "{learned:?} {effects:?}"
        );
        self.perform(effects);
        learned
    }

    fn packet(&mut self, local: &str, from: &str, head: [u8; 12], expected: Learned) {
        assert_eq!(
            self.media(at(local), from, head),
            expected,
            "{local} {from}"
        );
    }

    fn close(&mut self) {
        let mut effects = Vec::new();
        self.session.close(&mut self.pools, self.now, &mut effects);
        self.perform(effects);
        assert!(self.flows.is_empty() && self.sockets.is_empty());
        assert!(self.listening.is_empty());
        assert!(
            self.pools
                .usage(self.now)
                .all(|(_, usage)| usage.taken == 0)
        );
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Offer(side, body) => drop(self.offer(side, BODIES[body])),
            Step::Answer(side, body) => drop(self.answer(side, BODIES[body])),
            Step::RollBack => self.roll_back(),
            Step::Settle => self.settle(),
            Step::Leg(side, which) => self.session.set_leg(side, leg(which)),
            Step::Follow(side, which) => self.follow(side, leg(which)),
            Step::Mode(side, mode) => self.set_mode(side, mode),
            Step::Reoffer(to) => drop(self.reoffer(to)),
            Step::Packet {
                local,
                from,
                head,
                sequence,
            } => {
                let locals = self.session.locals();
                let Some((_, local)) = locals.get(local) else {
                    return;
                };
                let head = [rtp(SSRC, sequence), rtp(5, sequence), RTCP, STUN, [0; 12]][head];
                let learned = self.media(*local, FROM[from], head);
                let stranger = STRANGERS.contains(&from);
                let refused = matches!(learned, Learned::Stranger(_) | Learned::NotMedia);
                assert!(!stranger || refused);
            }
            Step::Activity(local) => {
                if let Some((_, local)) = self.session.locals().get(local) {
                    self.session.note_activity(*local, None, self.now);
                }
            }
            Step::Sweep => drop(self.sweep()),
            Step::Wait(ms) => self.now += Duration::from_millis(ms),
            Step::Close => self.close(),
        }
    }

    fn flow_effects(&self) -> usize {
        self.effects
    }

    fn perform(&mut self, effects: Effects) {
        for effect in effects {
            match effect {
                Effect::Open { at, network } => {
                    assert!(self.sockets.insert(at), "{at} is open already");
                    let outside = at.ip() == ip("192.0.2.1");
                    assert_eq!(network, NetworkId(u16::from(!outside)));
                }
                Effect::Close { at } => {
                    assert!(self.sockets.remove(&at), "{at} is not open");
                    assert!(!self.flows.contains_key(&at), "{at} still has a flow");
                }
                Effect::Install { at, rule } => {
                    assert!(self.sockets.contains(&at) && self.sockets.contains(&rule.source));
                    assert_ne!(
                        self.flows.insert(at, rule),
                        Some(rule),
                        "nothing new at {at}"
                    );
                    self.effects += 1;
                }
                Effect::Remove { at } => {
                    assert!(self.flows.remove(&at).is_some(), "no flow at {at}");
                    self.effects += 1;
                }
                Effect::KeepAlive { at, to } => {
                    assert!(self.sockets.contains(&at), "{at} is not open");
                    self.sent.push((at, to, Vec::new()));
                }
                Effect::Forward { at, to, bytes } => {
                    assert!(self.sockets.contains(&at), "{at} is not open");
                    self.sent.push((at, to, bytes.to_vec()));
                }
                Effect::Listen { at, rule } => {
                    assert!(!self.sockets.contains(&at), "{at} is for UDP");
                    assert_ne!(self.listening.insert(at, rule.clone()), Some(rule));
                }
                Effect::Unlisten { at } => assert!(self.listening.remove(&at).is_some()),
                Effect::Send { .. }
                | Effect::Publish { .. }
                | Effect::Ban { .. }
                | Effect::Peer { .. }
                | Effect::Spent(_)
                | Effect::Dial { .. }
                | Effect::Store { .. }
                | Effect::Record(_) => {
                    panic!("not a media effect")
                }
            }
        }
        assert_eq!(self.flows, self.session.wanted());
        let locals: BTreeSet<_> = self
            .session
            .locals()
            .into_iter()
            .map(|(_, at)| at)
            .collect();
        assert_eq!(self.sockets, locals);
    }
}

fn leg(which: usize) -> LegSettings {
    [natted(), honest(INSIDE), honest_outside(), strict()][which].clone()
}

/// A call from behind a NAT to the inside, audio only, latched.
fn established() -> World {
    let mut world = World::new(natted(), honest(INSIDE));
    world.offer(Side::A, BARESIP_OFFER).unwrap();
    world.answer(Side::B, LINPHONE_ANSWER).unwrap();
    world.settle();
    world.packet(
        "192.0.2.1:20000",
        "203.0.113.9:40000",
        rtp(SSRC, 1),
        Learned::Held,
    );
    world
}

fn natted() -> LegSettings {
    LegSettings {
        natted: true,
        ..honest_outside()
    }
}

fn honest_outside() -> LegSettings {
    LegSettings {
        network: NetworkId(0),
        local: ip("192.0.2.1"),
        advertise: ip("198.51.100.1"),
        ..honest(OUTSIDE)
    }
}

fn strict() -> LegSettings {
    LegSettings {
        mode: Mode::Sdp,
        ..honest(INSIDE)
    }
}

fn honest(signalled_from: &str) -> LegSettings {
    LegSettings {
        network: NetworkId(1),
        local: ip("10.1.0.1"),
        advertise: ip("10.1.0.1"),
        signalled_from: ip(signalled_from),
        natted: false,
        mode: Mode::Auto,
        port_offset: 0,
        accept: Accept::Signalling,
        senders: Vec::new(),
        ice: false,
        tos: None,
        hops: None,
    }
}

fn rtp(ssrc: u32, sequence: u16) -> [u8; 12] {
    let ([a, b], [w, x, y, z]) = (sequence.to_be_bytes(), ssrc.to_be_bytes());
    [0x80, 0, a, b, 0, 0, 0, 0, w, x, y, z]
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn ip(text: &str) -> std::net::IpAddr {
    text.parse().unwrap()
}

/// Every byte a character, so that bodies compare readably whatever they hold.
fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "any instant will do as the origin"
)]
fn start() -> Instant {
    Instant::now()
}
