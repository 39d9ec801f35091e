//! Media over TCP: who is told what, and who is joined to whom.

use super::*;

const HEAD: &str = "v=0\r\no=- 1 1 IN IP4 10.9.0.20\r\ns=-\r\nc=IN IP4 10.9.0.20\r\n";

/// What A offers and B answers, as `a=setup` and port; then who may connect to which port of ours,
/// and where that leads.
#[test]
fn who_is_joined_to_whom() {
    // The conference server waits, the phone behind its NAT connects.
    check(("passive", 50_010), ("active", 9), &[INWARD]);
    check(("active", 9), ("passive", 50_010), &[OUTWARD]);
    check(("actpass", 50_010), ("active", 9), &[INWARD]);
    check(("actpass", 50_010), ("passive", 6010), &[OUTWARD]);
    // Not said who: whoever names a port is waited for, from both sides.
    check(("", 50_010), ("", 6010), &[OUTWARD, INWARD]);
    check(("", 50_010), ("", 9), &[INWARD]);
    check(("holdconn", 50_010), ("active", 9), &[]);
    check(("active", 9), ("active", 9), &[]);
    check(("passive", 50_010), ("active", 0), &[]);

    const INWARD: &str = "192.0.2.1:20000 < 203.0.113.9/32: from 10.1.0.1 to 10.9.0.20:50010";
    const OUTWARD: &str = "10.1.0.1:30000 < 10.9.0.20/32: from 192.0.2.1 to 203.0.113.9:PORT";

    fn check(offer: (&str, u16), answer: (&str, u16), expected: &[&str]) {
        let mut world = World::new(
            LegSettings {
                mode: Mode::Sdp,
                ..honest("10.9.0.20")
            },
            natted(),
        );
        let told = world.offer(Side::A, &line(offer)).unwrap();
        assert_eq!(told, line_as(offer, "198.51.100.1", 20_000), "{offer:?}");
        assert!(world.sockets.is_empty() && world.listening.is_empty());
        let behind = line(answer).replace("10.9.0.20", "192.168.1.10");
        let told = world.answer(Side::B, &behind).unwrap();
        assert_eq!(told, line_as(answer, "10.1.0.1", 30_000), "{answer:?}");
        let joined: Vec<_> = world
            .listening
            .iter()
            .map(|(at, rule)| {
                let accept: Vec<_> = rule.accept.iter().map(ToString::to_string).collect();
                format!(
                    "{at} < {}: from {} to {}",
                    accept.join(" "),
                    rule.from,
                    rule.to
                )
            })
            .collect();
        let port = answer.1.to_string();
        let expected: Vec<_> = expected.iter().map(|e| e.replace("PORT", &port)).collect();
        assert_eq!(joined, expected, "{offer:?} {answer:?}");
        assert!(world.sockets.is_empty(), "no UDP");
        assert_eq!(world.sweep(), [], "nothing to keep open");
        assert_eq!(world.session.idle_since(), None);
        world.close();
    }
}

fn line(setup_and_port: (&str, u16)) -> String {
    let (setup, port) = setup_and_port;
    let setup = match setup {
        "" => String::new(),
        setup => format!("a=setup:{setup}\r\n"),
    };
    let rest = "a=connection:new\r\na=floorctrl:c-s\r\n";
    format!("{HEAD}m=application {port} TCP/TLS/BFCP *\r\n{setup}{rest}")
}

/// The same as we tell it.
fn line_as((setup, port): (&str, u16), address: &str, ours: u16) -> String {
    let port = if [0, 9].contains(&port) { port } else { ours };
    line((setup, port)).replace("10.9.0.20", address)
}

/// Ports, rules and the other lines of a call as it goes on.
#[test]
fn a_line_in_the_course_of_a_call() {
    let mut world = World::new(natted(), honest("10.9.0.20"));
    world.offer(Side::B, TCP_BFCP_OFFER).unwrap();
    let answer = format!(
        "{}m=application 9 TCP/BFCP *\r\na=setup:active\r\n",
        own::audio(BARESIP_OFFER)
    );
    world.answer(Side::A, &answer).unwrap();
    assert_eq!(world.sockets.len(), 4, "only audio's");
    let joined = world.listening.clone();
    assert_eq!(
        joined.keys().copied().collect::<Vec<_>>(),
        [at("192.0.2.1:20002")]
    );
    let view = world.session.streams()[1].b.clone();
    assert_eq!((view.code, view.latch), ("tcp-relay", "tcp"));
    assert_eq!(view.target, Some(at("10.9.0.20:50010")));
    // The same again: nothing. An offer of our own: the same line.
    world.offer(Side::B, TCP_BFCP_OFFER).unwrap();
    world.answer(Side::A, &answer).unwrap();
    world.settle();
    assert!(
        world
            .reoffer(Side::A)
            .unwrap()
            .contains("m=application 20002 TCP/BFCP *")
    );
    world.answer(Side::A, &answer).unwrap();
    assert_eq!(world.listening, joined);
    // Over UDP on the same line: other ports, and nobody listens any more.
    let udp = |sdp: &str| {
        sdp.replace("TCP/BFCP", "UDP/BFCP")
            .replace("application 9", "application 9000")
    };
    world.offer(Side::B, &udp(TCP_BFCP_OFFER)).unwrap();
    world.answer(Side::A, &udp(&answer)).unwrap();
    assert!(world.listening.is_empty());
    assert_eq!(world.sockets.len(), 8);
    assert_ne!(world.session.streams()[1].a.local, at("192.0.2.1:20002"));
    world.close();
}
