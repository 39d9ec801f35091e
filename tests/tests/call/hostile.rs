//! Strangers, nonsense, and resources that run out.

use std::net::SocketAddr;

use bytes::Bytes;
use towpath_tests::sim::edge::Datapath;
use towpath_tests::sim::nat::Behaviour;
use towpath_tests::sim::phone::{Dial, Manner, State};
use towpath_tests::sim::sdp::Direction;
use towpath_tests::sim::world::{LAN, NETWORKS, WAN, World};
use towpath_tests::sim::{NodeId, Packet};

use super::{BOTH, SECOND, connect, far_pair, ms, pair};

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A stranger sprays every media port before, while and after a call is set up: nothing leaks to
/// it, nothing of it arrives, nothing is lost (study of the reference's weakness).
#[test]
fn a_sprayer_gets_nothing_and_injects_nothing() {
    for start in [0, 1, 2] {
        for (far, datapath) in [false, true]
            .into_iter()
            .flat_map(|far| BOTH.map(|d| (far, d)))
        {
            let mut world = World::new(80, datapath);
            let wan = world.wan;
            let stranger = world.sim.add_stranger(wan, at("203.0.113.66:9000"));
            let pair = if far { far_pair } else { far_both };
            let (a, b) = pair(&mut world, Manner::EAGER);
            if start == 0 {
                spray(&mut world, stranger);
                world.sim.run_for(SECOND);
            }
            let call = world.dial(a, "1002");
            if start == 1 {
                world.sim.run_for(ms(100));
                spray(&mut world, stranger);
            }
            assert_eq!(world.settle(a, call), 200);
            world.sim.run_for(ms(200));
            if start == 2 {
                spray(&mut world, stranger);
            }
            let other = world.sim.phone(b).last().unwrap();
            world.talk((a, call), (b, other), 3 * SECOND);
            // A copy of the victim's own source does not help.
            let ssrc = world.sim.phone(b).call(other).rtp.ssrc;
            let now = world.sim.now();
            world.sim.stranger(stranger).spray(
                at("203.0.113.9:0"),
                30_000..=30_039,
                ms(20),
                ssrc,
                now,
            );
            let before = world.sim.phone(a).call(call).rtp.received.duplicates;
            world.talk((a, call), (b, other), 3 * SECOND);
            assert_eq!(
                world.sim.phone(a).call(call).rtp.received.duplicates,
                before
            );
            assert!(world.sim.stranger(stranger).received.is_empty());
            let count = world.edge().count;
            let refused = count.dropped + count.unclaimed;
            assert!(refused > 500, "the spray missed: {count:?}");
            world.hang_up(a, call);
            world.sim.run_for(SECOND);
            world.sim.stranger(stranger).stop();
            world.finish(&[a, b]);
            assert!(world.sim.stranger(stranger).received.is_empty());
        }
    }
}

fn far_both(world: &mut World, answers: Manner) -> (NodeId, NodeId) {
    let (_, one) = world.router(Behaviour::SYMMETRIC);
    let (_, other) = world.router(Behaviour::CONE);
    let a = world.registered("1001", one, "192.168.1.10", Manner::EAGER);
    let b = world.registered("1002", other, "192.168.1.10", answers);
    (a, b)
}

fn spray(world: &mut World, stranger: NodeId) {
    let now = world.sim.now();
    let ssrc = towpath_tests::sim::stranger::SSRC;
    world
        .sim
        .stranger(stranger)
        .spray(at("203.0.113.9:0"), 30_000..=30_039, ms(20), ssrc, now);
}

/// The network has ports for one call: the second is refused, and there is room again once the
/// first one's ports have rested.
#[test]
fn ports_run_out() {
    let networks = NETWORKS.replace("20000-20039", "20000-20003");
    let mut world = World::with(81, Datapath::Frames, &networks);
    let (a, b) = pair(&mut world, Manner::EAGER);
    let lan = world.lan;
    let c = world.registered("1003", lan, "10.0.0.33", Manner::EAGER);
    let (call, other) = connect(&mut world, a, b, "1002");
    assert_eq!(world.call(c, "1002"), 503);
    assert_eq!(world.counted("sdp_refused", "no_ports"), 1);
    world.talk((a, call), (b, other), SECOND);
    world.hang_up(a, call);
    world.sim.run_for(SECOND);
    assert_eq!(world.call(c, "1002"), 503, "the ports rest");
    world.sim.run_for(31 * SECOND);
    assert_eq!(world.call(c, "1002"), 200);
    world.finish(&[a, b, c]);
}

/// A media port that somebody else on the machine holds: the call is refused, not broken.
#[test]
fn a_port_that_cannot_be_opened() {
    let mut world = World::new(82, Datapath::Frames);
    let (a, b) = pair(&mut world, Manner::EAGER);
    let edge = world.edge;
    let ports = (20_000..=20_039).map(|port| SocketAddr::new(LAN.parse().unwrap(), port));
    world.sim.edge_mut(edge).unbindable = ports.collect();
    let call = world.dial(a, "1002");
    let status = world.settle(a, call);
    assert!((480..=503).contains(&status), "{status}");
    world.finished(&[a, b]);
}

/// Nonsense is counted and answered at most once; calls do not notice.
#[test]
fn malformed_messages_are_counted() {
    let mut world = World::new(83, Datapath::Frames);
    // Each message shall be read.
    let mut config = world.edge().engine.config().clone();
    config.sip.protection.ban_after = 0;
    let edge = world.edge;
    world
        .sim
        .order(edge, |edge, now, out| edge.reconfigure(config, now, out));
    let wan = world.wan;
    let stranger = world.sim.add_stranger(wan, at("203.0.113.66:9000"));
    let (a, b) = far_pair(&mut world, Manner::EAGER);
    let (call, other) = connect(&mut world, a, b, "1002");
    let invite = world.sim.phone(b).requests("INVITE")[0].bytes().clone();
    let mut sent = 0;
    let mut inject = |world: &mut World, bytes: Vec<u8>| {
        sent += 1;
        let packet = Packet {
            from: at("203.0.113.66:9000"),
            to: SocketAddr::new(WAN.parse().unwrap(), 5060),
            bytes: Bytes::from(bytes),
        };
        world.sim.inject(stranger, packet);
        world.sim.run_for(ms(5));
    };
    for length in 0..invite.len() {
        inject(&mut world, invite[..length].to_vec());
    }
    for at in 0..invite.len() {
        let mut bytes = invite.to_vec();
        bytes[at] ^= 0x80 >> (at % 8);
        inject(&mut world, bytes);
    }
    for nonsense in [
        &b""[..],
        b"\0",
        b"\r\n\r\n\r\n",
        b"SIP/2.0",
        b"SIP/2.0 200 OK\r\n\r\n",
        &[0xff; 9000],
    ] {
        inject(&mut world, nonsense.to_vec());
    }
    world.talk((a, call), (b, other), SECOND);
    assert!(
        world.sim.stranger(stranger).received.len() <= 12 * sent,
        "an amplifier"
    );
    let counters = world.edge().engine.counters();
    let malformed: u64 = counters
        .iter()
        .filter(|(what, _, _)| *what == "sip_malformed")
        .map(|(_, _, n)| n)
        .sum();
    assert!(malformed > 300, "{malformed}");
    assert_eq!(world.sim.phone(b).calls.len(), 1, "a stranger got through");
    world.finish(&[a, b]);
}

/// SDP that is none: refused or passed, never fatal, nothing left.
#[test]
fn malformed_sdp_is_refused() {
    let good = "v=0\r\no=- 1 1 IN IP4 10.0.0.31\r\ns=-\r\nc=IN IP4 10.0.0.31\r\nt=0 0\r\n\
        m=audio 4000 RTP/AVP 0\r\n";
    let mut world = World::new(84, Datapath::Frames);
    let (a, b) = pair(&mut world, Manner::BUSY);
    let mut bodies: Vec<Vec<u8>> = (1..good.len())
        .map(|n| good.as_bytes()[..n].to_vec())
        .collect();
    for at in 0..good.len() {
        let mut body = good.as_bytes().to_vec();
        body[at] = b"\0\xff9 \r="[at % 6];
        bodies.push(body);
    }
    bodies.push(b"v=0\r\n".repeat(20_000)[..60_000].to_vec());
    bodies.push([good.as_bytes(), &b"m=audio 4000 RTP/AVP 0\r\n".repeat(40)].concat());
    let mut codes = std::collections::BTreeMap::<u16, u32>::new();
    for body in bodies {
        let dial = Dial {
            user: "1002".into(),
            body: Some(("application/sdp".into(), body)),
            ..Dial::default()
        };
        let call = world.dial_as(a, &dial);
        let limit = 40 * SECOND;
        world
            .sim
            .run_until(limit, |s| s.phone(a).call(call).status > 0);
        let status = world.sim.phone(a).call(call).status;
        *codes.entry(status).or_default() += 1;
        assert_eq!(
            world.sim.phone(a).call(call).state,
            State::Over,
            "{}",
            world.sim.story()
        );
        world.sim.run_for(4 * SECOND);
    }
    assert!(codes[&488] > 20 && codes[&486] > 20, "{codes:?}");
    assert!(
        codes.keys().all(|code| [486, 488, 503, 513].contains(code)),
        "{codes:?}"
    );
    world.finished(&[a, b]);
}

/// A stranger's requests that name a running call do nothing to it.
#[test]
fn a_stranger_cannot_end_a_call() {
    let mut world = World::new(85, Datapath::Sockets);
    let wan = world.wan;
    let stranger = world.sim.add_stranger(wan, at("203.0.113.66:9000"));
    let (a, b) = far_pair(&mut world, Manner::EAGER);
    let (call, other) = connect(&mut world, a, b, "1002");
    let invite = world.sim.phone(b).requests("INVITE")[0].clone();
    let id = String::from_utf8_lossy(invite.call_id()).into_owned();
    for (method, tag) in [
        ("BYE", "guess"),
        ("CANCEL", ""),
        ("INVITE", "guess"),
        ("ACK", "guess"),
    ] {
        let to = if tag.is_empty() {
            String::new()
        } else {
            format!(";tag={tag}")
        };
        let text = format!(
            "{method} sip:1002@example.com SIP/2.0\r\n\
             Via: SIP/2.0/UDP 203.0.113.66:9000;branch=z9hG4bKx{method}\r\n\
             From: <sip:1001@example.com>;tag=guess\r\n\
             To: <sip:1002@example.com>{to}\r\nCall-ID: {id}\r\n\
             CSeq: 9 {method}\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        );
        let packet = Packet {
            from: at("203.0.113.66:9000"),
            to: SocketAddr::new(WAN.parse().unwrap(), 5060),
            bytes: text.into(),
        };
        world.sim.inject(stranger, packet);
        world.sim.run_for(SECOND);
    }
    world.talk((a, call), (b, other), SECOND);
    world.finish(&[a, b]);
}

/// SDP the edge cannot rewrite never crosses as it is: its addresses would leak into the other
/// network, and media would go past the edge.
#[test]
fn sdp_that_cannot_be_rewritten_does_not_cross() {
    let audio = "m=audio 4000 RTP/AVP 0\r\n";
    let head = "v=0\r\no=- 1 1 IN IP4 10.0.0.31\r\ns=-\r\nc=IN IP4 10.0.0.31\r\nt=0 0\r\n";
    let more = format!("{head}{audio}{audio}{audio}");
    let broken = format!("{head}m=audio\r\n");
    for bad in [more, broken] {
        // The caller's phone is the one in the LAN; its addresses must not be seen outside.
        for place in ["ACK", "re-INVITE", "UPDATE", "repeated ACK"] {
            let mut world = World::new(86, Datapath::Frames);
            let (a, b) = far_pair(&mut world, Manner::EAGER);
            let says = Some(bad.clone().into_bytes());
            if place.ends_with("ACK") {
                world.sim.phone_mut(a).says = says.filter(|_| place == "ACK");
                let dial = Dial {
                    user: "1002".into(),
                    delayed: true,
                    ..Dial::default()
                };
                let call = world.dial_as(a, &dial);
                world.settle(a, call);
                if place == "repeated ACK" {
                    repeat_ack_during_a_re_invite(&mut world, a, call);
                }
            } else {
                let (_, other) = connect(&mut world, a, b, "1002");
                world.sim.phone_mut(a).says = says;
                let offer = world.sim.phone(b).call(other).remote_sdp.clone();
                let body = offer.map(|o| o.write());
                world.sim.act(b, |p, now, out| match body {
                    Some(body) if place == "UPDATE" => {
                        let body = Some(("application/sdp", &body[..]));
                        p.request(other, "UPDATE", b"", body, now, out);
                    }
                    _ => p.hold(other, Direction::SendRecv, false, now, out),
                });
            }
            world.sim.run_for(2 * SECOND);
            for message in &world.sim.phone(b).heard {
                let body = message.body().escape_ascii().to_string();
                assert!(!body.contains("10.0.0.31"), "{place}: {body}");
            }
            world.finish(&[a, b]);
        }
    }
}

/// The ACK of the first INVITE again, with its answer, while the next offer is open.
fn repeat_ack_during_a_re_invite(world: &mut World, a: NodeId, call: usize) {
    let ack = world.sim.phone(a).last_ack(call).unwrap();
    world.sim.run_for(SECOND);
    world.sim.act(a, |p, now, out| {
        p.hold(call, Direction::SendRecv, false, now, out);
    });
    world.sim.run_for(ms(10));
    let from = at("10.0.0.31:5060");
    let to = SocketAddr::new(LAN.parse().unwrap(), 5060);
    world.sim.inject(
        a,
        Packet {
            from,
            to,
            bytes: ack,
        },
    );
}
