//! Multiplexed RTCP (RFC 5761) where only one party does it.

use super::*;
use crate::effect::RtcpWay;

const OFFER: &str = "v=0\r\nc=IN IP4 203.0.113.9\r\nm=audio 4000 UDP/TLS/RTP/SAVPF 0\r\n\
    a=rtcp-mux\r\na=x\r\nm=video 4002 RTP/AVP 96\r\n";
const ANSWER: &str = "v=0\r\nc=IN IP4 10.1.0.30\r\nm=audio 7078 UDP/TLS/RTP/SAVPF 0\r\na=y\r\n\
    m=video 0 RTP/AVP 96\r\n";

#[test]
fn who_is_told_what() {
    // A browser cannot do without, whether it says so or not.
    check("UDP/TLS/RTP/SAVPF", "rtcp-mux", true);
    check("RTP/AVP", "rtcp-mux-only", true);
    check("RTP/AVP", "rtcp-mux", false);

    fn check(protocol: &str, line: &str, bridged: bool) {
        let like = |sdp: &str| sdp.replace("UDP/TLS/RTP/SAVPF", protocol);
        let offer = like(OFFER).replace("rtcp-mux", line);
        let mut world = World::new(honest_outside(), honest(INSIDE));
        let told = world.offer(Side::A, &offer).unwrap();
        assert!(told.contains(&format!("a={line}\r\na=x\r\n")), "{told}");
        let told = world.answer(Side::B, &like(ANSWER)).unwrap();
        let added = if bridged {
            "a=y\r\na=rtcp-mux\r\nm="
        } else {
            "a=y\r\nm="
        };
        assert!(told.contains(added), "{told}");
        assert_eq!(world.flows.len(), if bridged { 3 } else { 4 });
        world.close();
    }
}

#[test]
fn two_ports_on_one_side_are_one_on_the_other() {
    let mut world = World::new(honest_outside(), honest(INSIDE));
    world.offer(Side::A, OFFER).unwrap();
    world.answer(Side::B, ANSWER).unwrap();
    let outward = world.flows[&at("10.1.0.1:30000")];
    assert_eq!(
        (outward.source, outward.target),
        (at("192.0.2.1:20000"), at("203.0.113.9:4000"))
    );
    let reports = world.flows[&at("10.1.0.1:30001")];
    assert_eq!(reports.peer, at("10.1.0.30:7079"));
    assert_eq!(
        (reports.source, reports.target),
        (outward.source, outward.target)
    );
    let inward = world.flows[&at("192.0.2.1:20000")];
    assert_eq!(
        (inward.source, inward.target),
        (at("10.1.0.1:30000"), at("10.1.0.30:7078"))
    );
    let way = RtcpWay {
        source: at("10.1.0.1:30001"),
        target: at("10.1.0.30:7079"),
    };
    assert_eq!(
        (inward.rtcp, outward.rtcp, reports.rtcp),
        (Some(way), None, None)
    );
    // Its RTCP comes by the RTP port, and is the party's.
    world.packet("192.0.2.1:20000", "203.0.113.9:4000", RTCP, Learned::Held);
    // The others' is found by itself.
    world.packet("10.1.0.1:30001", "10.1.0.30:7100", RTCP, Learned::Held);
    let way = RtcpWay {
        target: at("10.1.0.30:7100"),
        ..way
    };
    assert_eq!(world.flows[&at("192.0.2.1:20000")].rtcp, Some(way));
    world.close();
}

/// The party that does not multiplex never hears of it, whoever offers.
#[test]
fn it_stays_so() {
    let mut world = World::new(honest_outside(), honest(INSIDE));
    world.offer(Side::A, OFFER).unwrap();
    world.answer(Side::B, ANSWER).unwrap();
    world.settle();
    let flows = world.flows.clone();
    let told = world.offer(Side::B, ANSWER).unwrap();
    assert!(told.contains("a=y\r\na=rtcp-mux\r\nm="), "{told}");
    let told = world.answer(Side::A, OFFER).unwrap();
    assert!(told.contains("SAVPF 0\r\na=x\r\n"), "{told}");
    assert_eq!(world.flows, flows);
    for side in Side::BOTH {
        let told = world.reoffer(side).unwrap();
        assert_eq!(told.contains("a=rtcp-mux"), side == Side::A, "{told}");
        world
            .answer(side, [OFFER, ANSWER][usize::from(side == Side::B)])
            .unwrap();
        assert_eq!(world.flows, flows, "{side:?}");
    }
    world.close();
}
