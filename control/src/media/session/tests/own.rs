//! What is ours in SDP: ports by another number, versions, offers of our own, an operator's word,
//! ICE that passes.

use super::*;

#[test]
fn ports_by_another_number() {
    let shifted = LegSettings {
        port_offset: 10_000,
        ..natted()
    };
    let mut world = World::new(shifted.clone(), honest(INSIDE));
    let told = world.offer(Side::B, BARESIP_OFFER).unwrap();
    assert!(told.contains("m=audio 30000 "), "{told}");
    assert!(told.contains("a=rtcp:30001\r\n"), "{told}");
    assert!(told.contains("m=video 30002 "), "{told}");
    assert!(world.sockets.contains(&at("192.0.2.1:20000")));
    // It names us by the number it was told: nowhere to send to.
    let echo = LINPHONE_ANSWER.replace("audio 7078", "audio 30000");
    let echo = echo.replace(INSIDE, "198.51.100.1");
    let strict = LegSettings {
        mode: Mode::Sdp,
        ..shifted
    };
    world.session.set_leg(Side::A, strict);
    world.answer(Side::A, &echo).unwrap();
    let view = world.session.streams()[0].a.clone();
    assert_eq!(view.advertised, at("198.51.100.1:30000"));
    assert_eq!((view.local, view.held), (at("192.0.2.1:20000"), None));
    world.close();
}

/// The sender repeats itself, we do not: each side counts for itself.
#[test]
fn versions_grow_with_what_we_change() {
    let mut world = audio_call();
    let (mut to_b, mut to_a) = (Vec::new(), Vec::new());
    let mut round = |world: &mut World| {
        to_b.push(version(
            &world.offer(Side::A, audio(BARESIP_OFFER)).unwrap(),
        ));
        to_a.push(version(
            &world.answer(Side::B, audio(LINPHONE_ANSWER)).unwrap(),
        ));
    };
    round(&mut world);
    let moved = LegSettings {
        advertise: ip("10.1.0.2"),
        ..honest(INSIDE)
    };
    world.session.set_leg(Side::B, moved);
    round(&mut world);
    round(&mut world);
    let moved = LegSettings {
        advertise: ip("198.51.100.2"),
        ..natted()
    };
    world.session.set_leg(Side::A, moved);
    round(&mut world);
    let told = |first: u64, steps: [u64; 4]| steps.map(|step| first + step).to_vec();
    assert_eq!(to_b, told(version(BARESIP_OFFER), [0, 1, 1, 1]));
    assert_eq!(to_a, told(version(LINPHONE_ANSWER), [0, 0, 0, 1]));
    world.close();
}

#[test]
fn odd_versions_pass() {
    check("o=Polycom HDX 9006 1 -2 IN IP4 ");
    check("o=x y 1.5 IN IP4 ");
    check("o=- 1 99999999999999999999 IN IP4 ");

    fn check(origin: &str) {
        let rest = "10.9.9.9\r\nc=IN IP4 10.1.0.30\r\nm=audio 4 RTP/AVP 0\r\n";
        let body = format!("v=0\r\n{origin}{rest}");
        let mut world = World::new(natted(), honest(INSIDE));
        for advertise in ["198.51.100.1", "198.51.100.2"] {
            let leg = LegSettings {
                advertise: ip(advertise),
                ..natted()
            };
            world.session.set_leg(Side::A, leg);
            let out = world.offer(Side::B, &body).unwrap();
            assert!(
                out.contains(&format!("\r\n{origin}{advertise}\r\n")),
                "{out}"
            );
            world.answer(Side::A, audio(BARESIP_OFFER)).unwrap();
            world.settle();
        }
        assert!(
            world
                .reoffer(Side::A)
                .unwrap()
                .contains(&format!("\r\n{origin}198."))
        );
        world.close();
    }
}

/// Our address changes in mid-call: one party is told, the other notices nothing.
#[test]
fn an_offer_of_our_own() {
    let mut world = audio_call();
    let told = world.offer(Side::B, audio(LINPHONE_ANSWER)).unwrap();
    world.answer(Side::A, audio(BARESIP_OFFER)).unwrap();
    let flows = world.flows.clone();
    let advertise = ip("198.51.100.77");
    let moved = LegSettings {
        advertise,
        port_offset: 1000,
        ..natted()
    };
    world.session.set_leg(Side::A, moved);
    let offer = world.reoffer(Side::A).unwrap();
    let expected = told
        .replace("198.51.100.1", "198.51.100.77")
        .replace("audio 20000", "audio 21000")
        .replace(" 1947 IN", " 1948 IN");
    assert_eq!(offer, expected);
    let advertised = |world: &World| world.session.streams()[0].a.advertised;
    assert_eq!(advertised(&world), at("198.51.100.1:20000"));
    // Until it is answered nobody else may begin.
    assert_eq!(world.reoffer(Side::A), None);
    assert_eq!(world.reoffer(Side::B), None);
    assert_eq!(
        world.offer(Side::A, audio(BARESIP_OFFER)),
        Err(Refusal::Glare)
    );
    assert_eq!(
        world.offer(Side::B, audio(LINPHONE_ANSWER)),
        Err(Refusal::Glare)
    );
    let other = world.answer(Side::B, audio(LINPHONE_ANSWER));
    assert_eq!(other, Err(Refusal::NotAnAnswer));
    world.answer(Side::A, audio(BARESIP_OFFER)).unwrap();
    assert_eq!(advertised(&world), at("198.51.100.77:21000"));
    assert_eq!(world.flows, flows);
    // The inside repeats itself: the outside is told nothing new. The inside was told nothing.
    assert_eq!(world.offer(Side::B, audio(LINPHONE_ANSWER)).unwrap(), offer);
    let answer = world.answer(Side::A, audio(BARESIP_OFFER)).unwrap();
    assert_eq!(version(&answer), version(BARESIP_OFFER));
    world.close();
}

#[test]
fn an_offer_of_our_own_may_be_refused() {
    let mut world = established();
    let state = |w: &World| (w.flows.clone(), w.sockets.clone(), w.session.streams());
    let before = state(&world);
    let first = world.reoffer(Side::B).unwrap();
    world.roll_back();
    assert_eq!(state(&world), before);
    let second = world.reoffer(Side::B).unwrap();
    assert_eq!(version(&second), version(&first) + 1);
    world.answer(Side::B, LINPHONE_ANSWER).unwrap();
    // A refused offer of the other party's is not what the party goes by.
    world.offer(Side::A, BARESIP_HOLD).unwrap();
    world.roll_back();
    let third = world.reoffer(Side::B).unwrap();
    assert!(!third.contains("a=sendonly"), "{third}");
    world.close();
}

#[test]
fn what_the_answer_to_our_offer_may_change() {
    let here = Some("10.1.0.30:7078");
    let same = |name, from, to| check(name, from, to, here, 2, true);
    same("nothing", "v=0", "v=0");
    same("order of codecs", "RTP/AVP 0 101", "RTP/AVP 101 0");
    check("address", "7078", "7100", Some("10.1.0.30:7100"), 2, true);
    check("hold", "a=rtpmap", "a=sendonly\r\na=rtpmap", here, 2, false);
    check("rejected", "audio 7078", "audio 0", None, 0, false);

    /// What is written instead of what; where the party is held then, how many flows there are,
    /// and whether silence would end the call.
    fn check(name: &str, from: &str, to: &str, held: Option<&str>, flows: usize, counts: bool) {
        let mut world = established();
        let sockets = world.sockets.clone();
        let before = world.session.streams()[0].a.clone();
        world.reoffer(Side::B).unwrap();
        world
            .answer(Side::B, &LINPHONE_ANSWER.replace(from, to))
            .unwrap();
        let streams = world.session.streams();
        assert_eq!(streams[0].b.held, held.map(at), "{name}");
        assert_eq!(world.flows.len(), flows, "{name}");
        assert_eq!(world.session.idle_since().is_some(), counts, "{name}");
        // The other side: same socket, same terms, same latch.
        let flow = flows > 0;
        assert_eq!(streams[0].a, SideView { flow, ..before }, "{name}");
        assert_eq!(world.sockets, sockets, "{name}");
        // It may come back with the next one.
        world.reoffer(Side::B).unwrap();
        world.answer(Side::B, LINPHONE_ANSWER).unwrap();
        assert_eq!(world.flows.len(), 2, "{name}");
        world.close();
    }
}

/// To another network: ports of that network, and the old ones go when it is answered.
#[test]
fn an_offer_of_our_own_from_another_address() {
    let mut world = established();
    assert!(world.sockets.contains(&at("10.1.0.1:30000")));
    let (local, network) = (ip("192.0.2.1"), NetworkId(0));
    let moved = LegSettings {
        local,
        network,
        ..honest(INSIDE)
    };
    world.session.set_leg(Side::B, moved);
    let offer = world.reoffer(Side::B).unwrap();
    assert!(offer.contains("m=audio 20004 "), "{offer}");
    // The video line was rejected: it is not offered again.
    assert!(offer.contains("m=video 0 "), "{offer}");
    assert_eq!(world.sockets.len(), 6);
    world.answer(Side::B, LINPHONE_ANSWER).unwrap();
    assert_eq!(world.sockets.len(), 4);
    assert_eq!(
        world.flows[&at("192.0.2.1:20000")].source,
        at("192.0.2.1:20004")
    );
    // Without a free port nothing is offered, and nothing lost.
    let taken = |w: &World| -> usize { w.pools.usage(w.now).map(|(_, u)| u.taken).sum() };
    let before = taken(&world);
    world.pools.configure(NetworkId(1), ip("10.1.0.1"), 9, 9);
    world.session.set_leg(Side::B, honest(INSIDE));
    assert_eq!(world.reoffer(Side::B), None);
    assert_eq!(taken(&world), before);
    world.close();
}

#[test]
fn nothing_to_offer() {
    let mut world = World::new(natted(), honest(INSIDE));
    assert_eq!(world.reoffer(Side::A), None);
    world.offer(Side::A, BARESIP_OFFER).unwrap();
    assert_eq!(world.reoffer(Side::B), None);
    world.answer(Side::B, LINPHONE_ANSWER).unwrap();
    assert_eq!(world.reoffer(Side::B), None, "another branch may answer");
    world.settle();
    assert!(world.reoffer(Side::B).is_some());
    world.close();
}

/// Running calls keep how their media is treated; where a party is and what it is told is of now.
#[test]
fn a_party_is_informed() {
    let mut world = established();
    world.set_mode(Side::A, Some(Mode::Sdp));
    let otherwise = LegSettings {
        mode: Mode::Symmetric,
        tos: Some(184),
        hops: Some(32),
        ice: true,
        advertise: ip("198.51.100.9"),
        port_offset: 100,
        ..natted()
    };
    world.session.inform(Side::A, otherwise.clone());
    let leg = world.session.leg(Side::A).clone();
    assert_eq!((leg.advertise, leg.port_offset), (ip("198.51.100.9"), 100));
    assert_eq!((leg.mode, leg.tos, leg.ice), (Mode::Sdp, None, false));
    world.set_mode(Side::A, None);
    assert_eq!(world.session.leg(Side::A).mode, Mode::Auto);
    // In another network everything is another's.
    let network = NetworkId(7);
    let moved = LegSettings {
        network,
        ..otherwise
    };
    world.session.inform(Side::A, moved.clone());
    assert_eq!(*world.session.leg(Side::A), moved);
}

#[test]
fn an_operators_word() {
    let mut world = established();
    let held = |world: &World| world.session.streams()[0].a.held;
    let (claimed, seen) = (
        Some(at("192.168.1.10:17394")),
        Some(at("203.0.113.9:40000")),
    );
    assert_eq!(held(&world), seen);
    world.set_mode(Side::A, Some(Mode::Sdp));
    assert_eq!(held(&world), claimed);
    assert_eq!(world.session.streams()[0].a.mode, Some(Mode::Sdp));
    assert_eq!(world.session.streams()[0].b.mode, None);
    // It stands above the network's, whatever that becomes.
    let symmetric = LegSettings {
        mode: Mode::Symmetric,
        ..natted()
    };
    world.session.set_leg(Side::A, symmetric);
    world.offer(Side::A, BARESIP_OFFER).unwrap();
    world.answer(Side::B, LINPHONE_ANSWER).unwrap();
    assert_eq!(held(&world), claimed);
    // Taken back: the path that was there stays until packets show another.
    world.set_mode(Side::A, None);
    assert_eq!(world.session.leg(Side::A).mode, Mode::Symmetric);
    assert_eq!(held(&world), claimed);
    let local = "192.0.2.1:20000";
    world.packet(local, "203.0.113.9:40000", rtp(SSRC, 2), Learned::Held);
    assert_eq!(held(&world), seen);
    world.close();
}

#[test]
fn ice_passes_where_both_networks_let_it() {
    check(true, true, 5);
    check(true, false, 0);
    check(false, true, 0);

    fn check(a: bool, b: bool, lines: usize) {
        let a = LegSettings { ice: a, ..natted() };
        let b = LegSettings {
            ice: b,
            ..honest(INSIDE)
        };
        let mut world = World::new(a, b);
        let out = world.offer(Side::A, WEBRTC_OFFER).unwrap();
        let ice = ["a=ice-", "a=candidate", "a=end-of"];
        let kept = WEBRTC_OFFER
            .lines()
            .filter(|line| ice.iter().any(|ice| line.starts_with(ice)) && out.contains(line));
        assert_eq!(kept.count(), lines, "{out}");
        world.close();
    }
}

/// STUN crosses between the parties, before and after RTP did, and teaches nothing by itself.
#[test]
fn stun_crosses_end_to_end() {
    let mut world = World::new(natted(), honest(INSIDE));
    world.offer(Side::A, BARESIP_OFFER).unwrap();
    world.answer(Side::B, LINPHONE_ANSWER).unwrap();
    // The inside is where it says; the outside is not known yet.
    let (outside, inside) = ("192.0.2.1:20000", "10.1.0.1:30000");
    world.packet(outside, "203.0.113.9:40000", STUN, Learned::Passed);
    let crossed = (at(inside), at("10.1.0.30:7078"), STUN.to_vec());
    assert_eq!(world.sent, [crossed]);
    world.packet(inside, "10.1.0.30:7078", STUN, Learned::NotMedia);
    world.packet(outside, "203.0.113.66:40000", STUN, Learned::NotMedia);
    let view = world.session.streams()[0].a.clone();
    assert_eq!((view.held, view.strangers), (None, 0));
    assert!(world.flows.is_empty());
    // RTCP's way is RTCP's.
    world.sent.clear();
    world.packet(
        "192.0.2.1:20001",
        "203.0.113.9:40001",
        STUN,
        Learned::Passed,
    );
    assert_eq!(world.sent[0].1, at("10.1.0.30:7079"));
    world.close();
}

/// A DTLS handshake comes before any RTP, and is all there is to latch to (RFC 5764).
#[test]
fn dtls_crosses_before_rtp() {
    let hello = [22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut world = World::new(natted(), honest(INSIDE));
    world.offer(Side::A, WEBRTC_OFFER).unwrap();
    let session = LINPHONE_ANSWER.split("m=audio").next().unwrap();
    let media = "m=audio 7078 UDP/TLS/RTP/SAVPF 111\r\na=setup:active\r\na=rtcp-mux\r\n\
        a=fingerprint:sha-256 AA:BB\r\n";
    let told = world.answer(Side::B, &format!("{session}{media}")).unwrap();
    assert!(told.ends_with(&media.replace("7078", "20000")), "{told}");
    assert!(world.flows.is_empty());
    let local = "192.0.2.1:20000";
    world.packet(local, "203.0.113.9:40000", hello, Learned::Held);
    assert_eq!(world.flows[&at(local)].target, at("10.1.0.30:7078"));
    let back = world.flows[&at("10.1.0.1:30000")];
    assert_eq!(back.target, at("203.0.113.9:40000"));
    world.close();
}

fn version(body: &str) -> u64 {
    let line = body.lines().find(|line| line.starts_with("o=")).unwrap();
    line.split(' ').nth(2).unwrap().parse().unwrap()
}

/// The same as `established`, without the rejected video line.
fn audio_call() -> World {
    let mut world = World::new(natted(), honest(INSIDE));
    world.offer(Side::A, audio(BARESIP_OFFER)).unwrap();
    world.answer(Side::B, audio(LINPHONE_ANSWER)).unwrap();
    world.settle();
    let phone = "203.0.113.9:40000";
    world.packet("192.0.2.1:20000", phone, rtp(SSRC, 1), Learned::Held);
    world
}

pub(super) fn audio(sdp: &str) -> &str {
    sdp.split("m=video").next().unwrap()
}
