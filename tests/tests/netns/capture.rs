//! A call is captured while it goes on: every packet that entered left, and none is missing.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use towpath_tests::clock;
use towpath_tests::lab::{Parts, Role};
use towpath_tests::rtp::Header;

use super::stage::{LIMIT, Mode, Stage, assert_whole};

/// A packet of the file: its interface, its comment, and the payload of the datagram.
struct Packet {
    interface: u32,
    comment: String,
    /// From, to: addresses and ports of IPv4.
    ends: Vec<u8>,
    rtp: Option<Header>,
}

/// Reads blocks of a pcapng file (draft-ietf-opsawg-pcapng §4): interface names, packets.
fn read(file: &[u8]) -> (Vec<String>, Vec<Packet>) {
    let (mut names, mut packets) = (Vec::new(), Vec::new());
    let mut rest = file;
    while !rest.is_empty() {
        let word = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
        let length = word(4) as usize;
        assert_eq!(word(length - 4) as usize, length);
        let body = &rest[8..length - 4];
        let text = |at: usize| {
            let bytes = usize::from(u16::from_le_bytes([body[at + 2], body[at + 3]]));
            String::from_utf8(body[at + 4..at + 4 + bytes].to_vec()).unwrap()
        };
        match word(0) {
            1 => names.push(text(8)),
            6 => {
                let bytes = word(8 + 12) as usize;
                let data = &body[20..20 + bytes];
                assert_eq!(data[0], 0x45);
                packets.push(Packet {
                    interface: word(8),
                    comment: text(20 + bytes.next_multiple_of(4)),
                    ends: data[12..24].to_vec(),
                    rtp: Header::parse(&data[28..]),
                });
            }
            _ => {}
        }
        rest = &rest[length..];
    }
    (names, packets)
}

fn captured(mode: Mode) {
    let parts = Parts {
        nat: true,
        c3: true,
        ..Parts::default()
    };
    let stage = Stage::raise(mode, &parts);
    let (c1, c3) = (stage.phone(Role::C1, "1001"), stage.phone(Role::C3, "1003"));
    let call = stage.call(&c3, &c1, mode.path());
    let id = stage.towpath.get("/api/v1/calls").unwrap()["calls"][0]["id"].to_string();
    let talk = call.talk_every(Duration::from_millis(10));
    talk.hear(10, LIMIT).unwrap();
    let path = stage.lab.directory("capture").unwrap().join("call.pcapng");
    let edge = stage.lab.namespace(Role::Edge).unwrap();
    let file = path.to_string_lossy().into_owned();
    let arguments = [
        "trace",
        &id,
        "--pcap",
        &file,
        "--packets",
        "401",
        "--seconds",
        "20",
    ];
    let output = stage.towpath.client(edge, &arguments).unwrap();
    assert!(output.status.success(), "{output:?}");
    let (names, packets) = read(&fs::read(&path).unwrap());
    assert_eq!(names, ["lan", "wan"]);
    assert_eq!(packets.len(), 401);
    // Every packet that left had entered, by the other interface, with the same SSRC and number.
    let mut entered: BTreeMap<(u32, u16), u32> = BTreeMap::new();
    let (mut left, mut sides) = (0, BTreeMap::new());
    for packet in &packets {
        assert_eq!(packet.ends.len(), 12);
        if packet.comment.contains(" rtcp ") {
            assert_eq!(packet.rtp, None, "{}", packet.comment);
            continue;
        }
        let rtp = packet.rtp.unwrap();
        let key = (rtp.ssrc, rtp.sequence);
        *sides.entry(packet.comment.clone()).or_insert(0_u32) += 1;
        if packet.comment.ends_with(" enters") {
            assert!(entered.insert(key, packet.interface).is_none());
        } else {
            let by = entered.get(&key).unwrap();
            assert_ne!(*by, packet.interface);
            left += 1;
        }
    }
    let kinds = ["enters", "leaves"];
    let expected =
        ["callee", "caller"].map(|leg| kinds.map(|kind| format!("{leg} audio rtp {kind}")));
    assert!(sides.keys().eq(expected.as_flattened()), "{sides:?}");
    assert!(sides.values().all(|count| *count > 50), "{sides:?}");
    assert!(
        entered.len() - left <= 2,
        "{} entered, {left} left",
        entered.len()
    );

    // Back where it was, and nobody has missed anything.
    stage.settled(&call, mode.path());
    talk.hear(20, LIMIT).unwrap();
    assert_whole(&talk.finish().unwrap());
}

#[test]
fn a_call_of_the_kernel_is_captured() {
    captured(Mode::Xdp);
}

#[test]
fn a_call_of_userspace_is_captured() {
    captured(Mode::Userspace);
}

/// A capture says where the flow is meanwhile, is bounded, ends in time, and one call has one.
#[test]
fn a_capture_is_bounded_and_said() {
    let parts = Parts {
        nat: true,
        c3: true,
        ..Parts::default()
    };
    let stage = Stage::raise(Mode::Xdp, &parts);
    let (c1, c3) = (stage.phone(Role::C1, "1001"), stage.phone(Role::C3, "1003"));
    let call = stage.call(&c3, &c1, "xdp");
    let edge = stage.lab.namespace(Role::Edge).unwrap();
    let id = stage.towpath.get("/api/v1/calls").unwrap()["calls"][0]["id"].to_string();
    let trace = |more: &[&str]| {
        let arguments = [&["trace", &id, "--pcap", "/dev/null"], more].concat();
        let output = stage.towpath.client(edge, &arguments).unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    for wrong in [
        ["--packets", "0"],
        ["--packets", "100001"],
        ["--seconds", "61"],
    ] {
        let (code, said) = trace(&wrong);
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains("packets=1..100000 and seconds=1..60"),
            "{said}"
        );
    }
    let since = clock::now();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| trace(&["--seconds", "3"]));
        clock::until("captured", LIMIT, || {
            let flows = stage.flows(&call);
            let why = "captured: both sides are seen in userspace";
            let moved = flows.iter().all(|f| f.path == "user" && f.why == why);
            Ok(moved.then_some(()))
        })
        .unwrap();
        let (code, said) = trace(&[]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("this call is being captured"), "{said}");
        assert_eq!(first.join().unwrap().0, Some(0));
    });
    assert!(
        since.elapsed() < Duration::from_secs(6),
        "{:?}",
        since.elapsed()
    );
    stage.settled(&call, "xdp");
}
