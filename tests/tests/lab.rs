//! The lab proves itself: what the scenarios rely on is true. Needs root.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]
#![allow(
    clippy::indexing_slicing,
    reason = "an index that is wrong fails the test"
)]

#[path = "lab/boxes.rs"]
mod boxes;

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use towpath_tests::attacker::{Spray, Watch, What, spray};
use towpath_tests::clock;
use towpath_tests::delay::Impairment;
use towpath_tests::lab::{Lab, Parts, PortMap, Role, plan};
use towpath_tests::netns::{Checksums, Namespace, stale};
use towpath_tests::observer::Observer;
use towpath_tests::packet::{Direction, PacketSocket};
use towpath_tests::phone::{Codec, Phone, Settings};
use towpath_tests::rtp::{Report, RtpSocket, Stream};
use towpath_tests::scratch::Scratch;
use towpath_tests::xdp::{Verdict, attach};

/// How long a datagram may take through a NAT box.
const PASS_LIMIT: Duration = Duration::from_millis(200);

const LIMIT: Duration = Duration::from_secs(10);

fn address(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(plan::ip(ip).parse().unwrap(), port)
}

fn everything() -> Parts {
    Parts {
        mcu: true,
        c3: true,
        nat: true,
        boxes: Vec::new(),
        port_map: Some(port_map(false)),
        attacker: true,
        far: Some(Impairment::default()),
    }
}

fn port_map(rewrite_source: bool) -> PortMap {
    let to = plan::EDGE_LAN_SECOND.parse().unwrap();
    PortMap {
        to,
        sip_port: 5060,
        media_ports: (20_000, 20_099),
        offset: 0,
        rewrite_source,
    }
}

/// Who answers whom: one datagram and its echo.
fn echo(lab: &Lab, from: Role, (to, at): (Role, &str), limit: Duration) -> Option<Duration> {
    let at = address(at, 0);
    let any = if at.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let answering = namespace(lab, to)
        .enter(|| UdpSocket::bind(at))
        .unwrap()
        .unwrap();
    let asking = namespace(lab, from)
        .enter(|| UdpSocket::bind(any))
        .unwrap()
        .unwrap();
    let at = answering.local_addr().unwrap();
    for socket in [&answering, &asking] {
        socket.set_read_timeout(Some(limit)).unwrap();
    }
    let start = clock::now();
    let mut buffer = [0; 16];
    asking.send_to(b"who?", at).ok()?;
    let (_, source) = answering.recv_from(&mut buffer).ok()?;
    answering.send_to(b"me", source).ok()?;
    let (_, source) = asking.recv_from(&mut buffer).ok()?;
    (source == at).then(|| start.elapsed())
}

#[test]
fn everyone_reaches_whom_they_should_and_nobody_else() {
    let start = clock::now();
    let lab = Lab::raise(&everything()).unwrap();
    eprintln!("everything raised in {:?}", start.elapsed());
    let check = |from: Role, to: (Role, &str), reachable: bool| {
        let limit = if reachable {
            LIMIT
        } else {
            Duration::from_millis(100)
        };
        let answer = echo(&lab, from, to, limit);
        assert_eq!(answer.is_some(), reachable, "{from:?} → {to:?}");
    };
    for (from, to) in [
        (Role::Mcu, plan::EDGE_CORE),
        (Role::Mcu, plan::EDGE_CORE_V6),
        (Role::C3, plan::EDGE_LAN),
        (Role::C3, plan::EDGE_LAN_SECOND),
        (Role::C3, plan::EDGE_LAN_V6),
        (Role::C1, plan::EDGE_WAN),
        (Role::C2, plan::EDGE_WAN),
        (Role::Attacker, plan::EDGE_WAN),
        (Role::Attacker, plan::EDGE_WAN_V6),
        (Role::Far, plan::EDGE_WAN),
        (Role::Far, plan::EDGE_WAN_V6),
    ] {
        check(from, (Role::Edge, to), true);
    }
    check(Role::C1, (Role::C2, plan::C2_V4), true);
    check(Role::Edge, (Role::Outside, plan::OUTSIDE), true);
    check(Role::C3, (Role::Mcu, plan::MCU_V4), false); // the edge does not forward
    check(Role::Mcu, (Role::C3, plan::C3_V4), false);
    check(Role::Edge, (Role::C1, plan::C1_V4), false); // behind the NAT
    check(Role::Attacker, (Role::C1, plan::C1_V4), false);
    check(Role::Outside, (Role::C3, plan::C3_V4), false); // behind the port map
}

#[test]
fn a_small_lab_is_quick_and_two_live_side_by_side() {
    let start = clock::now();
    let one = Lab::raise(&Parts {
        c3: true,
        ..Parts::default()
    })
    .unwrap();
    let took = start.elapsed();
    eprintln!("a small lab raised in {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    let two = Lab::raise(&Parts {
        c3: true,
        ..Parts::default()
    })
    .unwrap();
    assert_ne!(one.name(), two.name());
    assert!(one.bpffs().join("..").is_dir() && two.bpffs().is_dir());
    drop(one);
    assert!(echo(&two, Role::C3, (Role::Edge, plan::EDGE_LAN), LIMIT).is_some());
}

/// Sends a short stream and lets the other side receive; what it received.
fn stream(
    lab: &Lab,
    (from, source): (Role, SocketAddr),
    (to, target): (Role, SocketAddr),
    via: SocketAddr,
) -> Result<Report> {
    let sender = RtpSocket::bind(lab.namespace(from)?, source)?;
    let receiver = RtpSocket::bind(lab.namespace(to)?, target)?;
    let stream = Stream {
        every: Duration::from_millis(2),
        ..Stream::voice(1, 50)
    };
    std::thread::scope(|scope| {
        let receiving = scope.spawn(|| receiver.receive(Duration::from_millis(300)));
        sender.exchange(via, stream, Duration::ZERO)?;
        receiving.join().unwrap()
    })
}

#[test]
fn the_nat_maps_to_random_ports_and_lets_nobody_in() {
    let parts = Parts {
        nat: true,
        attacker: true,
        ..Parts::default()
    };
    let lab = Lab::raise(&parts).unwrap();
    let edge = address(plan::EDGE_WAN, 30_000);
    let mut ports = Vec::new();
    for from in [plan::C1_V4, plan::C1_V4, plan::C2_V4] {
        let role = if from == plan::C1_V4 {
            Role::C1
        } else {
            Role::C2
        };
        let report = stream(&lab, (role, address(from, 4000)), (Role::Edge, edge), edge).unwrap();
        let sources: Vec<_> = report.received.keys().map(|(source, _)| *source).collect();
        let &[source] = &sources[..] else {
            panic!("{sources:?}")
        };
        assert_eq!(source.ip(), address(plan::NAT1_WAN, 0).ip());
        let judgement = report.received.values().next().unwrap();
        assert_eq!((judgement.packets, judgement.lost), (50, 0));
        ports.push(source.port());
        // The attacker, who knows the mapped port, does not get through it.
        let attacker = (Role::Attacker, address(plan::ATTACKER_V4, 4000));
        let phone = (role, address(from, 4000));
        let report = stream(&lab, attacker, phone, source).unwrap();
        assert_eq!(report.received.len(), 0, "{report:?}");
        if from == plan::C1_V4 {
            lab.rebind_nat().unwrap();
        }
    }
    let chance = ports.iter().filter(|port| **port == 4000).count();
    assert_eq!(chance, 0, "{ports:?}: a mapped port equals the phone's own");
    assert_ne!(ports[0], ports[1], "the mapping survived");
}

fn socket(lab: &Lab, role: Role, at: SocketAddr) -> UdpSocket {
    let bound = namespace(lab, role).enter(|| UdpSocket::bind(at));
    bound.unwrap().unwrap()
}

/// Sends a datagram to `to`; where it seems to come from at `receiver`, if it gets there.
fn pass(sender: &UdpSocket, to: SocketAddr, receiver: &UdpSocket) -> Option<SocketAddr> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    sender.send_to(&number, to).unwrap();
    receiver.set_read_timeout(Some(PASS_LIMIT)).unwrap();
    let mut buffer = [0; 16];
    loop {
        let (bytes, from) = receiver.recv_from(&mut buffer).ok()?;
        // A late one of those before is none.
        if buffer[..bytes] == number {
            return Some(from);
        }
    }
}

#[test]
fn the_port_map_rewrites_sources_only_if_told_to() {
    for rewrite_source in [false, true] {
        let port_map = Some(port_map(rewrite_source));
        let lab = Lab::raise(&Parts {
            port_map,
            ..Parts::default()
        })
        .unwrap();
        let outside = (Role::Outside, address(plan::OUTSIDE, 4000));
        let source = if rewrite_source {
            plan::PORT_MAP_LAN
        } else {
            plan::OUTSIDE
        };
        for (port, arrives) in [
            (5060, true),
            (20_000, true),
            (20_099, true),
            (20_100, false),
        ] {
            let edge = (Role::Edge, address(plan::EDGE_LAN_SECOND, port));
            let via = address(plan::PORT_MAP_OUT, port);
            let report = stream(&lab, outside, edge, via).unwrap();
            let expected = if arrives {
                vec![address(source, 0).ip()]
            } else {
                Vec::new()
            };
            let sources: Vec<_> = report.received.keys().map(|(s, _)| s.ip()).collect();
            assert_eq!(sources, expected, "port {port}, rewrite {rewrite_source}");
        }
        // The way back: what the edge sends to where it came from arrives from the mapped port.
        let edge = RtpSocket::bind(
            lab.namespace(Role::Edge).unwrap(),
            address(plan::EDGE_LAN_SECOND, 20_010),
        )
        .unwrap();
        let host = RtpSocket::bind(lab.namespace(Role::Outside).unwrap(), outside.1).unwrap();
        let mapped = address(plan::PORT_MAP_OUT, 20_010);
        host.exchange(mapped, Stream::voice(1, 1), Duration::ZERO)
            .unwrap();
        let heard = edge.receive(Duration::from_millis(100)).unwrap();
        let ((seen, _), _) = heard.received.first_key_value().unwrap();
        edge.exchange(*seen, Stream::voice(2, 1), Duration::ZERO)
            .unwrap();
        let back = host.receive(Duration::from_millis(100)).unwrap();
        assert_eq!(back.from(mapped, 2).map(|j| j.packets), Some(1), "{back:?}");
        assert_eq!(back.unexpected(mapped), 0);
    }
}

#[test]
fn the_port_map_shifts_ports_there_and_back() {
    let map = PortMap {
        offset: 10_000,
        ..port_map(false)
    };
    let lab = Lab::raise(&Parts {
        port_map: Some(map),
        ..Parts::default()
    })
    .unwrap();
    for port in [5060, 20_000, 20_099] {
        let inside = address(plan::EDGE_LAN_SECOND, port);
        let outside = address(plan::PORT_MAP_OUT, port + 10_000);
        let edge = socket(&lab, Role::Edge, inside);
        let host = socket(&lab, Role::Outside, address(plan::OUTSIDE, 4000));
        let seen = host.local_addr().unwrap();
        // From inside first: the host sees the port that is mapped to where it came from.
        assert_eq!(pass(&edge, seen, &host), Some(outside));
        assert_eq!(pass(&host, outside, &edge), Some(seen));
        assert_eq!(pass(&host, address(plan::PORT_MAP_OUT, port), &edge), None);
    }
}

#[test]
fn the_delay_line_delays_loses_and_reorders() {
    let far = Impairment {
        delay: Duration::from_millis(40),
        jitter: Duration::from_millis(5),
        loss: 0.1,
        reorder: 0.05,
        seed: 7,
    };
    let lab = Lab::raise(&Parts {
        far: Some(far),
        ..Parts::default()
    })
    .unwrap();
    let edge = namespace(&lab, Role::Edge);
    // Lost ones are not counted, and those that skipped the queue do not move the median.
    let limit = Duration::from_millis(300);
    let far = || echo(&lab, Role::Edge, (Role::Far, plan::FAR_V4), limit);
    let mut times: Vec<_> = std::iter::repeat_with(far).take(15).flatten().collect();
    times.sort();
    let median = times[times.len() / 2];
    let expected = Duration::from_millis(70)..Duration::from_millis(120);
    assert!(expected.contains(&median), "{times:?}");

    let stream = Stream {
        every: Duration::from_millis(5),
        ..Stream::voice(9, 400)
    };
    let (from, to) = (address(plan::FAR_V4, 4000), address(plan::EDGE_WAN, 4000));
    let sender = RtpSocket::bind(lab.namespace(Role::Far).unwrap(), from).unwrap();
    let receiver = RtpSocket::bind(edge, to).unwrap();
    let report = std::thread::scope(|scope| {
        let receiving = scope.spawn(|| receiver.receive(Duration::from_millis(2500)));
        sender.exchange(to, stream, Duration::ZERO).unwrap();
        receiving.join().unwrap().unwrap()
    });
    let judgement = report.from(from, 9).unwrap();
    assert!((20..=65).contains(&judgement.lost), "{judgement:?}");
    assert!((20..=250).contains(&judgement.reordered), "{judgement:?}");
    assert_eq!(judgement.duplicates, 0);
    let counts = lab.delay().unwrap().counts();
    assert!(
        counts.lost > 0 && counts.reordered > 0 && counts.dropped == 0,
        "{counts:?}"
    );
}

#[test]
fn the_attacker_sprays_and_gets_nothing_from_a_silent_edge() {
    let lab = Lab::raise(&Parts {
        attacker: true,
        ..Parts::default()
    })
    .unwrap();
    let edge = address(plan::EDGE_WAN, 30_002);
    let victim = RtpSocket::bind(lab.namespace(Role::Edge).unwrap(), edge).unwrap();
    let how = Spray {
        target: edge.ip(),
        ports: (30_000, 30_009),
        rounds_per_second: 50,
        time: Duration::from_millis(400),
        ssrc: 5,
        what: What::Rtp,
    };
    let watch = Watch::default();
    let attacker = lab.namespace(Role::Attacker).unwrap();
    let (loot, heard) = std::thread::scope(|scope| {
        let hearing = scope.spawn(|| victim.receive(Duration::from_millis(700)));
        (
            spray(attacker, how, &watch).unwrap(),
            hearing.join().unwrap().unwrap(),
        )
    });
    let packets: u64 = heard.received.values().map(|j| j.packets).sum();
    assert_eq!(packets, 20, "{heard:?}");
    assert!(loot.sent <= 200 && loot.received == 0, "{loot:?}");
    assert!(
        spray(
            attacker,
            Spray {
                rounds_per_second: 100_000,
                ..how
            },
            &watch
        )
        .is_err()
    );
}

#[test]
fn nothing_is_left_behind() {
    let lab = Lab::raise(&everything()).unwrap();
    let names: Vec<_> = lab.roles().map(|(_, n)| n.name().to_owned()).collect();
    assert_eq!(names.len(), 12);
    let (c3, bpffs) = (lab.namespace(Role::C3).unwrap(), lab.bpffs().to_owned());
    let mut sleeper = c3.command("sleep").unwrap().arg("600").spawn().unwrap();
    assert_eq!(c3.processes().unwrap().len(), 1);
    assert!(bpffs.is_dir());
    // Nothing of the lab is among the machine's own interfaces.
    let links = String::from_utf8(output("ip", &["-o", "link"])).unwrap();
    for mine in ["wan", "lan", "core", "home", "-c3"] {
        assert!(!links.contains(&format!(": {mine}")), "{mine} in {links}");
    }
    let machine = links.lines().count();
    drop(lab);
    let left = String::from_utf8(output("ip", &["netns", "list"])).unwrap();
    for name in names {
        assert!(!left.contains(&name), "{name} in {left}");
    }
    assert_eq!(
        String::from_utf8(output("ip", &["-o", "link"]))
            .unwrap()
            .lines()
            .count(),
        machine
    );
    assert!(!bpffs.exists());
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(bpffs.to_str().unwrap()));
    assert!(!sleeper.wait().unwrap().success(), "the process was ended");
}

#[test]
fn what_a_dead_process_left_is_removed() {
    let mut dead = Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    let name = format!("towpath-{}-0", dead.id());
    let left = Namespace::create(&format!("{name}-edge")).unwrap();
    let scratch = Scratch::create(&name).unwrap();
    scratch.bpffs().unwrap();
    let path = scratch.path().to_owned();
    let mut sleeper = left.command("sleep").unwrap().arg("600").spawn().unwrap();
    std::mem::forget((left, scratch));
    stale::remove_stale();
    assert!(!sleeper.wait().unwrap().success(), "the process was ended");
    assert!(!path.exists());
    let left = String::from_utf8(output("ip", &["netns", "list"])).unwrap();
    assert!(!left.contains(&name), "{left}");
}

fn output(program: &str, arguments: &[&str]) -> Vec<u8> {
    Command::new(program)
        .args(arguments)
        .output()
        .unwrap()
        .stdout
}

#[test]
fn phones_call_each_other_and_hear_the_other_ones_tone() {
    let lab = Lab::raise(&Parts {
        nat: true,
        ..Parts::default()
    })
    .unwrap();
    let phone = |role: Role, ip: &str, tone_hz: u32, auto_answer: bool| {
        let settings = Settings {
            user: role.name().to_owned(),
            domain: plan::ip(ip).to_owned(),
            outbound: None,
            password: None,
            auto_answer,
            tone_hz,
            video: Some(Codec::Vp8),
            srtp: false,
            ca: None,
        };
        let directory = lab.directory(role.name()).unwrap();
        Phone::start(namespace(&lab, role), &directory, &settings).unwrap()
    };
    let observer = Observer::start(namespace(&lab, Role::C2), "eth0").unwrap();
    let c1 = phone(Role::C1, plan::C1_V4, 440, false);
    let c2 = phone(Role::C2, plan::C2_V4, 620, false);
    let uri = format!("sip:c2@{}", plan::ip(plan::C2_V4));
    c1.dial(&uri).unwrap();
    c2.incoming(LIMIT).unwrap();
    c2.accept().unwrap();
    for phone in [&c1, &c2] {
        phone.established(LIMIT).unwrap();
        phone.media("audio", LIMIT).unwrap();
        phone.media("video", LIMIT).unwrap();
    }
    assert!(c1.list_calls().unwrap().contains("ESTABLISHED"));
    let heard = |phone: &Phone, hertz: f64| {
        clock::until(&format!("{hertz} Hz"), LIMIT, || {
            let long_enough = phone.received().is_ok_and(|s| s.len() > 8000);
            Ok(long_enough.then(|| phone.received_tone()))
        })
    };
    assert_eq!(heard(&c1, 620.0).unwrap(), Some(620.0));
    assert_eq!(heard(&c2, 440.0).unwrap(), Some(440.0));

    c1.hold().unwrap();
    c2.remote_sdp(LIMIT).unwrap();
    c1.resume().unwrap();
    c1.hangup().unwrap();
    c2.closed(LIMIT).unwrap();

    for direction in [Direction::In, Direction::Out] {
        for audio in [true, false] {
            let streams = observer.streams();
            let matching = |s: &&_| matches(s, direction, audio);
            let stream = streams
                .iter()
                .find(matching)
                .unwrap_or_else(|| panic!("{streams:?}"));
            assert_eq!(stream.judgement.lost, 0, "{stream:?}");
            assert!(stream.judgement.packets > 10, "{stream:?}");
        }
    }
}

/// A registrar that challenges once and then accepts whoever answers, until its socket times out.
/// Returns the sources that were accepted, and the user names they gave.
fn register_everyone(socket: &UdpSocket) -> Vec<(SocketAddr, String)> {
    let (mut accepted, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        let request = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if !request.starts_with("REGISTER ") {
            continue;
        }
        let same = |name: &str| {
            let line = request.lines().find(|l| l.starts_with(name));
            line.map(|l| format!("{l}\r\n")).unwrap_or_default()
        };
        let user = request
            .split("Digest username=\"")
            .nth(1)
            .and_then(|r| r.split('"').next());
        let (status, extra) = match user {
            Some("wrong") => ("403 Forbidden", String::new()),
            Some(_) => ("200 OK", format!("{}Expires: 60\r\n", same("Contact:"))),
            None => (
                "401 Unauthorized",
                "WWW-Authenticate: Digest realm=\"lab\", nonce=\"1\", algorithm=MD5\r\n".into(),
            ),
        };
        let head: String = ["Via:", "From:", "To:", "Call-ID:", "CSeq:"]
            .map(same)
            .concat();
        let answer = format!("SIP/2.0 {status}\r\n{head}{extra}Content-Length: 0\r\n\r\n");
        socket.send_to(answer.as_bytes(), from).unwrap();
        if let ("200 OK", Some(user)) = (status, user) {
            accepted.push((from, user.to_owned()));
        }
    }
    accepted
}

#[test]
fn phones_register_with_digest_through_the_nat() {
    let lab = Lab::raise(&Parts {
        nat: true,
        ..Parts::default()
    })
    .unwrap();
    let edge = address(plan::EDGE_WAN, 5060);
    let registrar = namespace(&lab, Role::Edge)
        .enter(|| UdpSocket::bind(edge))
        .unwrap()
        .unwrap();
    registrar
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    let registering = std::thread::spawn(move || register_everyone(&registrar));
    let phone = |role: Role, user: &str| {
        let settings = Settings {
            user: user.to_owned(),
            domain: "towpath.test".to_owned(),
            outbound: Some(format!("sip:{edge}")),
            password: Some("x".to_owned()),
            auto_answer: true,
            tone_hz: 440,
            video: None,
            srtp: false,
            ca: None,
        };
        let directory = lab.directory(user).unwrap();
        Phone::start(namespace(&lab, role), &directory, &settings).unwrap()
    };
    phone(Role::C1, "1001").registered(LIMIT).unwrap();
    let refused = phone(Role::C2, "wrong").registered(LIMIT).unwrap_err();
    assert!(
        format!("{refused:#}").contains("REGISTER_FAIL"),
        "{refused:#}"
    );
    let accepted = registering.join().unwrap();
    let &[(source, ref user)] = &accepted[..] else {
        panic!("{accepted:?}")
    };
    assert_eq!(
        (source.ip(), user.as_str()),
        (address(plan::NAT1_WAN, 0).ip(), "1001")
    );
    assert_ne!(source.port(), 5060);
}

/// Sends 20 packets to an address on `far`'s `interface`, where a program sends everything back;
/// how many come back to `near`, the other end of that link.
fn bounced(
    sender: (&Namespace, SocketAddr),
    (far, interface, target): (&Namespace, &str, SocketAddr),
    near: (&Namespace, &str),
) -> u64 {
    let socket = RtpSocket::bind(sender.0, sender.1).unwrap();
    let stream = Stream {
        every: Duration::from_millis(1),
        ..Stream::voice(3, 20)
    };
    // Finds the neighbour, which a program that sends everything back would prevent.
    socket
        .exchange(
            target,
            Stream {
                packets: 1,
                ..stream
            },
            Duration::from_millis(50),
        )
        .unwrap();
    let _program = attach(far, interface, Verdict::Transmit).unwrap();
    let observer = Observer::start(near.0, near.1).unwrap();
    socket
        .exchange(target, stream, Duration::from_millis(100))
        .unwrap();
    let back = observer.received();
    back.iter()
        .filter(|s| s.ssrc == stream.ssrc)
        .map(|s| s.judgement.packets)
        .sum()
}

#[test]
fn what_the_edge_sends_from_xdp_arrives() {
    let lab = Lab::raise(&Parts {
        c3: true,
        mcu: true,
        nat: true,
        ..Parts::default()
    })
    .unwrap();
    let switch = namespace(&lab, Role::Switch);
    for (role, ip, network, edge) in [
        (Role::C3, plan::C3_V4, "lan", plan::EDGE_LAN),
        (Role::Mcu, plan::MCU_V4, "core", plan::EDGE_CORE),
        (Role::Nat1, plan::NAT1_WAN, "wan", plan::EDGE_WAN),
    ] {
        let sender = (namespace(&lab, role), address(ip, 4000));
        let far = (namespace(&lab, Role::Edge), network, address(edge, 4000));
        let port = format!("{network}-edge");
        assert_eq!(bounced(sender, far, (switch, &port)), 20, "{network}");
    }
}

#[test]
fn a_bare_veth_takes_frames_from_xdp_once_it_was_told_to() {
    let name = stale::unique_name();
    let near = Namespace::create(&format!("{name}-near")).unwrap();
    let far = Namespace::create(&format!("{name}-far")).unwrap();
    near.veth("eth0", &far, "eth0").unwrap();
    near.addresses("eth0", &["10.0.0.1/24"]).unwrap();
    far.addresses("eth0", &["10.0.0.2/24"]).unwrap();
    let send = || {
        let sender = (&near, address("10.0.0.1", 4000));
        bounced(
            sender,
            (&far, "eth0", address("10.0.0.2", 4000)),
            (&near, "eth0"),
        )
    };
    assert_eq!(send(), 0);
    near.accept_xdp("eth0").unwrap();
    assert_eq!(send(), 20);
}

#[test]
fn checksums_on_the_wire_are_complete_unless_left_to_a_device() {
    let lab = Lab::raise(&Parts {
        c3: true,
        ..Parts::default()
    })
    .unwrap();
    let check = |expected: bool| {
        let (c3, edge) = (address(plan::C3_V4, 4000), address(plan::EDGE_LAN, 4000));
        let sender = RtpSocket::bind(namespace(&lab, Role::C3), c3).unwrap();
        let open = || PacketSocket::open("lan-c3").unwrap();
        let wire = namespace(&lab, Role::Switch).enter(open).unwrap();
        sender
            .exchange(edge, Stream::voice(3, 2), Duration::ZERO)
            .unwrap();
        let sum_is_right = clock::until("a UDP packet", LIMIT, || {
            let mut buffer = [0; 2048];
            let frame = wire.receive(&mut buffer)?.map(|(frame, _)| frame);
            Ok(frame
                .filter(|f| f.len() == 14 + 20 + 8 + 172)
                .map(|f| udp_sum(&f[14..]) == 0xffff))
        });
        assert_eq!(sum_is_right.unwrap(), expected);
    };
    check(true);
    lab.checksums(Role::C3, "eth0", Checksums::Offloaded)
        .unwrap();
    check(false);
    lab.checksums(Role::C3, "eth0", Checksums::Complete)
        .unwrap();
    check(true);
}

/// Sum over a UDP packet without IP options and its pseudo-header (RFC 768): 0xffff if right.
fn udp_sum(packet: &[u8]) -> u32 {
    let udp = &packet[20..];
    let words = packet[12..20].chunks(2).chain(udp.chunks(2));
    let word = |w: &[u8]| u32::from(w[0]) << 8 | u32::from(w.get(1).copied().unwrap_or(0));
    let mut sum = words.map(word).sum::<u32>() + 17 + u32::try_from(udp.len()).unwrap();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

fn matches(s: &towpath_tests::observer::Observed, direction: Direction, audio: bool) -> bool {
    s.direction == direction && s.is_audio() == audio
}

fn namespace(lab: &Lab, role: Role) -> &Namespace {
    lab.namespace(role).unwrap()
}
