//! `forward` on the host: what it does to a frame, by an oracle that shares no code with it.

#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "../../tests/src/frame.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "a module of the whole-system tests"
)]
mod frame;
#[path = "../../tests/src/table.rs"]
#[allow(unreachable_pub, reason = "a module of the whole-system tests")]
mod table;

#[path = "forward/link.rs"]
mod link;

use std::net::SocketAddr;

use common::event::EventKind;
use common::flow::{Endpoint, Flags, Flow, Hop, Rewrite};
use common::forward::{Action, Reason, Verdict};
use common::map::{BANNED, Guarded, HEARD, Port, Settings, ban_prefix, port_index};
use common::wire::Mac;
use frame::{Checksum, Datagram, Seen, read, rtcp, rtp, stun};
use proptest::prelude::*;
use table::Table;

const ETH_SRC: [u8; 6] = [0x02, 0x01, 0x03, 0x05, 0x07, 0x09];
const ETH_DST: [u8; 6] = [0x02, 0x0b, 0x0d, 0x11, 0x13, 0x17];
const INGRESS: u32 = 3;
const EGRESS: u32 = 5;
const MTU: u16 = 1500;
const STATS: u32 = 9;
const GENERATION: u32 = 77;

/// A call's one direction: peer → local, leaves as source → target.
#[derive(Clone, Copy, Debug)]
struct Way {
    peer: SocketAddr,
    local: SocketAddr,
    source: SocketAddr,
    target: SocketAddr,
}

fn v4() -> Way {
    let at = |text: &str| text.parse().unwrap();
    Way {
        peer: at("198.51.100.23:40010"),
        local: at("203.0.113.9:30000"),
        source: at("10.1.2.3:20002"),
        target: at("10.20.30.41:5064"),
    }
}

fn v6() -> Way {
    let at = |text: &str| text.parse().unwrap();
    Way {
        peer: at("[2001:db8:1:2:3:4:5:6]:40010"),
        local: at("[2001:db8:a::9]:30000"),
        source: at("[fd00:1:2::3]:20002"),
        target: at("[fd00:7:8:9:a:b:c:d]:5064"),
    }
}

fn table(way: Way, tos: Option<u8>, flags: Flags, egress: u32) -> Table {
    let rewrite = Rewrite {
        peer: way.peer.into(),
        source: way.source.into(),
        target: way.target.into(),
        tos,
        flags,
    };
    let hop = Hop {
        eth_src: Mac::from(ETH_SRC),
        eth_dst: Mac::from(ETH_DST),
        egress,
        mtu: MTU,
    };
    let local = Endpoint::from(way.local);
    let mut flow = Flow::compile(local, rewrite, hop);
    flow.stats = STATS;
    flow.generation = GENERATION;
    // The address is not the first one, so that slot 0 does not hide a missing shift.
    let other = Endpoint::from("192.0.2.77:1".parse::<SocketAddr>().unwrap()).ip;
    let mut table = Table::default();
    table.settings = Settings::new(&[other, local.ip]);
    let port = Port {
        flow: 4,
        stats: STATS,
    };
    table.ports.insert(port_index(1, local.port), port);
    table.flows.insert(4, flow);
    table.egress.insert(EGRESS);
    table
}

fn datagram(way: Way) -> Datagram {
    Datagram::new(way.peer, way.local, rtp(7, b"some media"))
}

/// Runs one frame through one flow; the frame must be untouched unless it is sent on, and every
/// counter must move by exactly what the verdict says.
fn run(table: &mut Table, frame: &mut Vec<u8>) -> Verdict {
    let (before, reasons, stats) = (frame.to_vec(), table.reasons, table.stats(STATS));
    let verdict = table.run(frame, INGRESS, 1_000);
    if !matches!(verdict.action, Action::Transmit | Action::Redirect) {
        let redirected = verdict.reason == Reason::NoEgress;
        assert!(
            redirected || *frame == before,
            "{:?} changed the frame",
            verdict.reason
        );
    }
    for reason in Reason::ALL {
        let more = u64::from(reason == verdict.reason);
        assert_eq!(
            table.reasons[reason as usize],
            reasons[reason as usize] + more
        );
    }
    let after = table.stats(STATS);
    let sent = matches!(verdict.action, Action::Transmit | Action::Redirect);
    assert_eq!(after.packets, stats.packets + u64::from(sent));
    assert_eq!(after.bytes, stats.bytes + u64::from(verdict.bytes));
    verdict
}

fn check(way: Way, change: impl Fn(&mut Datagram), action: Action, reason: Reason) {
    check_bytes(way, change, |_| {}, action, reason);
}

fn check_bytes(
    way: Way,
    change: impl Fn(&mut Datagram),
    damage: impl Fn(&mut Vec<u8>),
    action: Action,
    reason: Reason,
) {
    let mut datagram = datagram(way);
    change(&mut datagram);
    let mut frame = datagram.build();
    damage(&mut frame);
    let verdict = run(&mut table(way, None, Flags::NONE, EGRESS), &mut frame);
    assert_eq!(
        (verdict.action, verdict.reason),
        (action, reason),
        "{way:?}"
    );
}

#[test]
fn media_is_rewritten_and_redirected() {
    for way in [v4(), v6()] {
        for payload in [rtp(1, b""), rtp(2, &[7; 160]), rtp(3, &[9; 161]), rtcp()] {
            let mut datagram = datagram(way);
            datagram.payload = payload.clone();
            datagram.tos = 0x02;
            let mut frame = datagram.build();
            let bytes = u16::try_from(frame.len() - 14).unwrap();
            let verdict = run(&mut table(way, None, Flags::NONE, EGRESS), &mut frame);
            let expected = Verdict {
                action: Action::Redirect,
                reason: Reason::Forwarded,
                stats: STATS,
                generation: GENERATION,
                egress: EGRESS,
                bytes,
                change: EventKind::NONE,
            };
            assert_eq!(verdict, expected);
            assert_eq!(read(&frame), Ok(as_sent(way, payload, 0x02)));
        }
    }
}

fn as_sent(way: Way, payload: Vec<u8>, tos: u8) -> Seen {
    Seen {
        tag: None,
        eth_dst: ETH_DST,
        eth_src: ETH_SRC,
        from: way.source,
        to: way.target,
        tos,
        hops: 63,
        checksum: true,
        payload,
    }
}

#[test]
fn a_hop_limit_may_be_written() {
    for way in [v4(), v6()] {
        for (came, written) in [(64, 255), (2, 1), (255, 64)] {
            let mut table = table(way, Some(0xb8), Flags::NONE, EGRESS);
            let flow = table.flows.get_mut(&4).unwrap();
            *flow = flow.with_hops(written);
            let mut datagram = datagram(way);
            datagram.hops = came;
            let mut frame = datagram.build();
            assert_eq!(run(&mut table, &mut frame).reason, Reason::Forwarded);
            assert_eq!(read(&frame).unwrap().hops, written, "{came}");
        }
        let mut table = table(way, None, Flags::NONE, EGRESS);
        let flow = table.flows.get_mut(&4).unwrap();
        *flow = flow.with_hops(64);
        let mut spent = datagram(way);
        spent.hops = 1;
        assert_eq!(run(&mut table, &mut spent.build()).reason, Reason::HopLimit);
    }
}

#[test]
fn a_stream_is_measured_and_its_reports_are_not() {
    for way in [v4(), v6()] {
        let mut table = table(way, None, Flags::NONE, EGRESS);
        let flow = table.flows.get_mut(&4).unwrap();
        *flow = flow.measured(8000);
        let mut send = |payload| {
            let mut datagram = datagram(way);
            datagram.payload = payload;
            let verdict = run(&mut table, &mut datagram.build());
            assert_eq!(verdict.reason, Reason::Forwarded);
            (verdict.change, table.media(STATS))
        };
        send(rtp(5, b"one"));
        send(rtcp());
        let (change, media) = send(rtp(8, b"four"));
        assert_eq!(change, EventKind::NONE);
        assert_eq!((media.received(), media.lost()), (2, 2));
        assert_eq!((media.ssrc, media.generation), (0xdead_beef, GENERATION));
        let mut other = rtp(9, b"other");
        other[11] ^= 1;
        assert_eq!(send(other).0, EventKind::SSRC_CHANGED);
    }
    let mut table = table(v4(), None, Flags::NONE, EGRESS);
    run(&mut table, &mut datagram(v4()).build());
    assert_eq!(table.media(STATS).received(), 0, "nobody asked for it");
}

#[test]
fn a_flow_that_was_silent_resumes() {
    let mut table = table(v4(), None, Flags::NONE, EGRESS);
    table.settings.silence_ns = 100;
    let mut account = common::stats::FlowStats::default();
    let mut at = |now| {
        let verdict = table.run(&mut datagram(v4()).build(), INGRESS, now);
        account.count(&verdict, now, 100)
    };
    let told = [1_000, 1_099, 1_199, 1_298].map(&mut at);
    let expected = [
        EventKind::FIRST_PACKET,
        EventKind::NONE,
        EventKind::RESUMED,
        EventKind::NONE,
    ];
    assert_eq!(told, expected);
}

#[test]
fn back_out_of_the_same_interface_is_a_transmit() {
    let mut frame = datagram(v4()).build();
    let verdict = run(&mut table(v4(), None, Flags::NONE, INGRESS), &mut frame);
    assert_eq!(
        (verdict.action, verdict.reason),
        (Action::Transmit, Reason::Forwarded)
    );
}

#[test]
fn an_egress_that_is_not_there_drops() {
    let mut frame = datagram(v4()).build();
    let mut table = table(v4(), None, Flags::NONE, 99);
    let verdict = run(&mut table, &mut frame);
    assert_eq!(
        (verdict.action, verdict.reason),
        (Action::Drop, Reason::NoEgress)
    );
    assert_eq!(table.stats(STATS).punted, 1);
}

#[test]
fn the_class_is_written_and_the_ecn_bits_stay() {
    for way in [v4(), v6()] {
        for (sent, written, expected) in [
            (0x00, 0xb8, 0xb8),
            (0xff, 0xb8, 0xbb),
            (0x01, 0x8b, 0x89),
            (0xb9, 0x00, 0x01),
        ] {
            let mut datagram = datagram(way);
            datagram.tos = sent;
            let mut frame = datagram.build();
            run(
                &mut table(way, Some(written), Flags::NONE, EGRESS),
                &mut frame,
            );
            assert_eq!(
                read(&frame).unwrap().tos,
                expected,
                "{sent:#04x} {written:#04x}"
            );
        }
    }
}

#[test]
fn what_is_not_ours_passes() {
    let pass = Action::Pass;
    for way in [v4(), v6()] {
        let to_port = |d: &mut Datagram| d.to.set_port(30_001);
        check(way, to_port, pass, Reason::NoFlow);
        let elsewhere = if way.peer.is_ipv4() {
            "203.0.113.8"
        } else {
            "2001:db8:a::8"
        };
        let to_address = |d: &mut Datagram| d.to.set_ip(elsewhere.parse().unwrap());
        check(way, to_address, pass, Reason::NoFlow);
        check(way, |d| d.payload = stun(), pass, Reason::NotRtp);
        check(way, |d| d.payload = vec![], pass, Reason::NotRtp);
        check(
            way,
            |d| d.payload = b"\r\n\r\n".to_vec(),
            pass,
            Reason::NotRtp,
        );
        check(way, |d| d.payload = vec![20; 60], pass, Reason::NotRtp);
        check(way, |d| d.payload.truncate(11), pass, Reason::NotRtp);
        check(
            way,
            |d| d.checksum = Checksum::Partial,
            pass,
            Reason::PartialChecksum,
        );
        check(
            way,
            |d| d.payload = rtp(1, &[0; 1500]),
            pass,
            Reason::TooBig,
        );
        check_bytes(way, |_| {}, |f| f[12..14].fill(0x08), pass, Reason::NotIp);
    }
    check(
        v6(),
        |d| d.checksum = Checksum::None,
        pass,
        Reason::NoChecksum,
    );
}

/// A port of ours in the range of media is not all of it: the host asks questions of its own, and
/// their answers come to whatever port the system chose.
#[test]
fn answers_to_the_host_pass_at_every_port() {
    for way in [v4(), v6()] {
        let mut table = table(way, None, Flags::NONE, EGRESS);
        for port in (1..=u16::MAX).filter(|port| *port != way.local.port()) {
            let mut answer = datagram(way);
            (answer.to, answer.payload) = (way.local, b"\x12\x34\x81\x80".to_vec());
            answer.to.set_port(port);
            answer.from.set_port(53);
            let verdict = run(&mut table, &mut answer.build());
            let expected = (Action::Pass, Reason::NoFlow);
            assert_eq!((verdict.action, verdict.reason), expected, "{port}");
        }
    }
}

/// Nothing is learnt from whoever sends: what a frame leaves with is what its flow says.
#[test]
fn hardware_addresses_are_never_learnt() {
    for way in [v4(), v6()] {
        let mut table = table(way, None, Flags::NONE, EGRESS);
        for odd in [[0xff; 6], [0; 6], [0x01, 0, 0x5e, 0, 0, 0xfb], ETH_SRC] {
            let mut media = datagram(way);
            (media.eth_src, media.eth_dst) = (odd, odd);
            let mut frame = media.build();
            assert_eq!(run(&mut table, &mut frame).reason, Reason::Forwarded);
            let seen = read(&frame).unwrap();
            assert_eq!((seen.eth_dst, seen.eth_src), (ETH_DST, ETH_SRC));
        }
    }
}

/// Addresses of one family are enough, and settings nobody has written own no address.
#[test]
fn one_family_is_enough_and_none_is_nobodys() {
    for (way, other) in [(v4(), v6()), (v6(), v4())] {
        let mut table = table(way, None, Flags::NONE, EGRESS);
        let local = Endpoint::from(way.local);
        table.settings = Settings::new(&[local.ip]);
        table.ports = [(
            port_index(0, local.port),
            table.ports[&port_index(1, local.port)],
        )]
        .into();
        let mut reason = |way, settings: Option<Settings>| {
            table.settings = settings.unwrap_or(table.settings);
            run(&mut table, &mut datagram(way).build()).reason
        };
        assert_eq!(reason(way, None), Reason::Forwarded);
        assert_eq!(reason(other, None), Reason::NoFlow);
        assert_eq!(reason(way, Some(Settings::default())), Reason::NoFlow);
    }
}

#[test]
fn contradictions_pass() {
    let (pass, same) = (Action::Pass, |_: &mut Datagram| {});
    check_bytes(v4(), same, |f| f[14] = 0x55, pass, Reason::NotIp);
    check_bytes(v4(), same, |f| f[14] = 0x46, pass, Reason::Options);
    check_bytes(v4(), same, |f| f[23] = 6, pass, Reason::NotUdp);
    check_bytes(v4(), same, |f| f[20] = 0x20, pass, Reason::Fragment);
    check_bytes(v4(), same, |f| f[21] = 0x01, pass, Reason::Fragment);
    check_bytes(v4(), same, |f| f[17] += 1, pass, Reason::Truncated);
    check_bytes(v4(), same, |f| f[17] -= 1, pass, Reason::Truncated);
    check_bytes(v4(), same, |f| f[39] += 1, pass, Reason::Truncated);
    check_bytes(v4(), same, |f| f[39] = 7, pass, Reason::Truncated);
    check_bytes(v6(), same, |f| f[14] = 0x45, pass, Reason::NotIp);
    check_bytes(v6(), same, |f| f[20] = 0, pass, Reason::Options);
    check_bytes(v6(), same, |f| f[20] = 44, pass, Reason::Fragment);
    check_bytes(v6(), same, |f| f[20] = 58, pass, Reason::NotUdp);
    check_bytes(v6(), same, |f| f[19] += 1, pass, Reason::Truncated);
    check_bytes(v6(), same, |f| f[18] = 0xff, pass, Reason::Truncated);
    check_bytes(v6(), same, |f| f[59] += 1, pass, Reason::Truncated);
}

#[test]
fn a_frame_cut_anywhere_passes_as_it_came() {
    for way in [v4(), v6()] {
        let whole = datagram(way).build();
        for bytes in 0..whole.len() {
            let mut frame = whole[..bytes].to_vec();
            let verdict = run(&mut table(way, None, Flags::NONE, EGRESS), &mut frame);
            assert_eq!(
                (verdict.action, verdict.reason),
                (Action::Pass, Reason::Truncated)
            );
        }
    }
}

#[test]
fn padding_is_carried_along() {
    let mut frame = datagram(v4()).build();
    let bytes = u16::try_from(frame.len() - 14).unwrap();
    frame.extend([0; 6]);
    let verdict = run(&mut table(v4(), None, Flags::NONE, EGRESS), &mut frame);
    assert_eq!((verdict.reason, verdict.bytes), (Reason::Forwarded, bytes));
    assert!(read(&frame).is_ok());
}

/// Who is banned is not heard at our ports, by whatever protocol; a flow's own peer is, and so is
/// everybody at ports that are not ours.
#[test]
fn the_banned_are_dropped_at_our_ports() {
    let local_only = Guarded {
        first: 30_000,
        last: 30_001,
    };
    for way in [v4(), v6()] {
        let ban = |table: &mut Table, bits: u8, word| {
            let ip = Endpoint::from(way.peer).ip;
            let key = (ban_prefix(ip.is_v4(), bits), ip.0);
            table.bans.insert(key, word);
            table.settings.bans = table.bans.len() as u32;
            table.settings.guarded_used = 1;
            table.settings.guarded[0] = local_only;
        };
        let all = if way.peer.is_ipv4() { 32 } else { 128 };
        let check = |bits, heard: bool, change: &dyn Fn(&mut Datagram), tcp: bool, expected| {
            let mut table = table(way, None, Flags::SHOW_STRANGERS, EGRESS);
            ban(&mut table, bits, BANNED);
            if heard {
                ban(&mut table, all, HEARD);
            }
            let mut datagram = datagram(way);
            change(&mut datagram);
            let mut frame = datagram.build();
            if tcp {
                frame[if way.peer.is_ipv4() { 23 } else { 20 }] = 6;
            }
            let verdict = run(&mut table, &mut frame);
            assert_eq!((verdict.action, verdict.reason), expected, "{way:?}");
            table.stats(STATS).strangers
        };
        let (drop, pass) = (Action::Drop, Action::Pass);
        let banned = (drop, Reason::Banned);
        let part = all - 3;
        let same = |_: &mut Datagram| {};
        let own_port = |d: &mut Datagram| d.from.set_port(40_011);
        let next_port = |d: &mut Datagram| d.to.set_port(30_001);
        let other_port = |d: &mut Datagram| d.to.set_port(30_002);
        let below = |d: &mut Datagram| d.to.set_port(29_999);
        let not_rtp = |d: &mut Datagram| {
            d.from.set_port(40_011);
            d.payload = stun();
        };
        let forwarded = (Action::Redirect, Reason::Forwarded);
        assert_eq!(check(all, false, &same, false, forwarded), 0);
        assert_eq!(check(all, false, &own_port, false, banned), 1);
        check(part, false, &own_port, false, banned);
        check(part, true, &own_port, false, (pass, Reason::WrongSource));
        check(all, false, &not_rtp, false, banned);
        let own_stun = |d: &mut Datagram| d.payload = stun();
        check(all, false, &own_stun, false, (pass, Reason::NotRtp));
        assert_eq!(check(all, false, &next_port, false, banned), 0);
        check(part, true, &next_port, false, (pass, Reason::NoFlow));
        check(all, false, &other_port, false, (pass, Reason::NoFlow));
        check(all, false, &below, false, (pass, Reason::NoFlow));
        check(all, false, &same, true, banned);
        check(all, false, &other_port, true, (pass, Reason::NotUdp));
        let elsewhere = |d: &mut Datagram| {
            let ip = if way.peer.is_ipv4() {
                "203.0.113.8"
            } else {
                "2001:db8:a::8"
            };
            d.to.set_ip(ip.parse().unwrap());
        };
        check(all, false, &elsewhere, false, (pass, Reason::NoFlow));
        check(all, false, &elsewhere, true, (pass, Reason::NotUdp));
    }
}

#[test]
fn strangers_are_dropped() {
    for way in [v4(), v6()] {
        let other = if way.peer.is_ipv4() {
            "198.51.100.22"
        } else {
            "2001:db8:1:2:3:4:5:7"
        };
        let source = |d: &mut Datagram| d.from.set_ip(other.parse().unwrap());
        check(way, source, Action::Drop, Reason::WrongSource);
        check(
            way,
            |d| d.from.set_port(40_011),
            Action::Drop,
            Reason::WrongSource,
        );
        check(
            way,
            |d| d.from.set_port(0),
            Action::Drop,
            Reason::WrongSource,
        );
    }
}

#[test]
fn a_stranger_is_shown_now_and_then() {
    let mut table = table(v4(), None, Flags::SHOW_STRANGERS, EGRESS);
    table.settings.stranger_flow_ns = 100;
    table.settings.stranger_all_ns = 100;
    let mut stranger = datagram(v4());
    stranger.from.set_port(40_011);
    let shown: Vec<u64> = (1_000..1_350)
        .filter(|now| table.run(&mut stranger.build(), INGRESS, *now).action == Action::Pass)
        .collect();
    assert_eq!(shown, [1_000, 1_100, 1_200, 1_300]);
    assert_eq!(table.stats(STATS).strangers, 350);
    // Who it was, and how it began, is told with it.
    let told = table.shown.borrow().clone();
    assert_eq!(told.len(), 4);
    assert_eq!(SocketAddr::from(told[1].from), stranger.from);
    assert_eq!(
        (told[1].at_ns, told[1].stats, told[1].head_bytes),
        (1_100, STATS, 12)
    );
    assert_eq!(told[1].head, stranger.payload[..12]);
    // Nobody can be answered at port 0.
    stranger.from.set_port(0);
    assert_eq!(
        table.run(&mut stranger.build(), INGRESS, 9_000).action,
        Action::Drop
    );
}

#[test]
fn the_hop_limit_ends() {
    for way in [v4(), v6()] {
        check(way, |d| d.hops = 0, Action::Drop, Reason::HopLimit);
        check(way, |d| d.hops = 1, Action::Drop, Reason::HopLimit);
        check(way, |d| d.hops = 2, Action::Redirect, Reason::Forwarded);
    }
}

#[test]
fn no_checksum_stays_none_in_ipv4() {
    let mut datagram = datagram(v4());
    datagram.checksum = Checksum::None;
    let mut frame = datagram.build();
    let verdict = run(&mut table(v4(), None, Flags::NONE, EGRESS), &mut frame);
    assert_eq!(verdict.reason, Reason::Forwarded);
    assert!(!read(&frame).unwrap().checksum);
}

#[test]
fn a_marked_flow_is_for_userspace() {
    let mut frame = datagram(v4()).build();
    let verdict = run(&mut table(v4(), None, Flags::USERSPACE, EGRESS), &mut frame);
    assert_eq!(
        (verdict.action, verdict.reason),
        (Action::Pass, Reason::Userspace)
    );
}

#[test]
fn an_empty_flow_forwards_nothing() {
    for way in [v4(), v6()] {
        let mut table = table(way, None, Flags::NONE, EGRESS);
        let mut empty = Flow::default();
        empty.stats = STATS;
        table.flows.insert(4, empty);
        let verdict = run(&mut table, &mut datagram(way).build());
        assert_eq!(
            (verdict.action, verdict.reason),
            (Action::Drop, Reason::WrongSource)
        );
    }
}

#[test]
fn a_new_generation_counts_from_zero() {
    let mut table = table(v4(), None, Flags::NONE, EGRESS);
    for _ in 0..3 {
        table.run(&mut datagram(v4()).build(), INGRESS, 5);
    }
    assert_eq!(table.stats(STATS).packets, 3);
    table.flows.get_mut(&4).unwrap().generation += 1;
    table.run(&mut datagram(v4()).build(), INGRESS, 8);
    let stats = table.stats(STATS);
    assert_eq!((stats.packets, stats.first_ns, stats.last_ns), (1, 8, 8));
}

fn endpoint(v6: bool) -> impl Strategy<Value = SocketAddr> {
    (any::<u128>(), 1..=u16::MAX).prop_map(move |(bits, port)| {
        let ip = if v6 {
            std::net::Ipv6Addr::from(bits | 1 << 125).into()
        } else {
            std::net::Ipv4Addr::from((bits & 0xffff_ffff) as u32).into()
        };
        SocketAddr::new(ip, port)
    })
}

fn way() -> impl Strategy<Value = Way> {
    any::<bool>().prop_flat_map(|v6| {
        (endpoint(v6), endpoint(v6), endpoint(v6), endpoint(v6)).prop_map(
            |(peer, local, source, target)| Way {
                peer,
                local,
                source,
                target,
            },
        )
    })
}

/// One whole checksum in 65,536 is what a partial one would be.
#[test]
fn a_whole_checksum_that_looks_partial_is_whole() {
    for way in [v4(), v6()] {
        for media in (0..200).chain([1_000, 1_399, 1_400]) {
            let mut datagram = Datagram::new(way.peer, way.local, rtp(5, &vec![0xa5; media]));
            let udp = if way.local.is_ipv4() { 34 } else { 54 };
            datagram.checksum = Checksum::Partial;
            datagram.disguise();
            let mut frame = datagram.build();
            let partial = frame[udp + 6..udp + 8].to_vec();
            datagram.checksum = Checksum::Full;
            frame.clone_from(&datagram.build());
            assert_eq!(frame[udp + 6..udp + 8], partial, "not disguised at {media}");

            let verdict = run(&mut table(way, None, Flags::NONE, EGRESS), &mut frame);
            assert_eq!(verdict.reason, Reason::Forwarded, "{media} bytes");
            let hops = datagram.hops - 1;
            let expected = Seen {
                hops,
                ..as_sent(way, datagram.payload.clone(), 0)
            };
            assert_eq!(read(&frame), Ok(expected), "{media} bytes");

            datagram.payload[11] ^= 1;
            let verdict = run(&mut table(way, None, Flags::NONE, EGRESS), &mut {
                partial_of(&datagram)
            });
            assert_eq!(verdict.reason, Reason::PartialChecksum, "{media} bytes");
        }
    }
}

/// A stream goes through every checksum there is, and no packet of it is left to the stack.
#[test]
fn every_packet_of_a_long_stream_is_sent_on() {
    for way in [v4(), v6()] {
        let mut table = table(way, None, Flags::NONE, EGRESS);
        for sequence in 0..=u16::MAX {
            let payload = rtp(sequence, &[0xa5; 20]);
            let mut frame = Datagram::new(way.peer, way.local, payload).build();
            let verdict = run(&mut table, &mut frame);
            assert_eq!(verdict.reason, Reason::Forwarded, "{sequence}");
        }
    }
}

fn partial_of(datagram: &Datagram) -> Vec<u8> {
    Datagram {
        checksum: Checksum::Partial,
        ..datagram.clone()
    }
    .build()
}

proptest! {
    /// Whatever the addresses, what leaves is what was asked for, and its checksums are right.
    #[test]
    fn any_flow_any_media(
        way in way(),
        media in proptest::collection::vec(any::<u8>(), 0..200),
        hops in 2..=255u8,
        sent in any::<u8>(),
        tos in any::<Option<u8>>(),
    ) {
        let mut datagram = Datagram::new(way.peer, way.local, rtp(5, &media));
        datagram.hops = hops;
        datagram.tos = sent;
        let mut frame = datagram.build();
        let verdict = run(&mut table(way, tos, Flags::NONE, EGRESS), &mut frame);
        prop_assert_eq!(verdict.reason, Reason::Forwarded);
        let tos = tos.map_or(sent, |tos| (tos & 0xfc) | (sent & 3));
        let expected = Seen { hops: hops - 1, ..as_sent(way, datagram.payload, tos) };
        prop_assert_eq!(read(&frame), Ok(expected));
    }

    /// A wrong checksum stays wrong: the update carries the error along.
    #[test]
    fn damage_is_not_repaired(way in way(), at in 0usize..20, bit in 0u8..8) {
        let mut frame = Datagram::new(way.peer, way.local, rtp(5, &[1; 40])).build();
        let payload = frame.len() - 52;
        frame[payload + 12 + at] ^= 1 << bit;
        let verdict = run(&mut table(way, None, Flags::NONE, EGRESS), &mut frame);
        prop_assume!(verdict.reason != Reason::PartialChecksum);
        prop_assert_eq!(verdict.reason, Reason::Forwarded);
        prop_assert!(read(&frame).unwrap_err().starts_with("UDP checksum"));
    }

    /// Noise is never sent on and never changed.
    #[test]
    fn noise_passes(mut frame in proptest::collection::vec(any::<u8>(), 0..120), ip in 0..3u8) {
        if let Some(kind) = frame.get_mut(12..14) {
            kind.copy_from_slice(match ip { 0 => &[8, 0], 1 => &[0x86, 0xdd], _ => &[1, 2] });
        }
        let verdict = run(&mut table(v4(), None, Flags::NONE, EGRESS), &mut frame);
        prop_assert_eq!(verdict.action, Action::Pass);
    }
}
