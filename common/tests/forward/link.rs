//! Interfaces and VLANs: what may come in by which, and how it leaves.

use super::*;
use common::forward::forward;
use common::wire::Buffer;

/// Priority 5, drop eligible.
const MARKS: u16 = 0xb000;

/// A flow whose peer is at `vlan_in` of the ingress and which leaves in `vlan_out`.
fn between(way: Way, vlan_in: u16, vlan_out: u16, egress: u32) -> Table {
    let mut table = table(way, Some(0xb8), Flags::NONE, egress);
    let flow = table.flows.get_mut(&4).unwrap();
    *flow = flow.arriving(INGRESS, vlan_in).leaving(vlan_out);
    table
}

#[test]
fn tags_are_pushed_popped_and_translated() {
    let check = |tag: Option<u16>, vlan_in, vlan_out, leaves: Option<u16>| {
        for way in [v4(), v6()] {
            for egress in [EGRESS, INGRESS] {
                let mut sent = datagram(way);
                sent.tag = tag;
                let mut frame = sent.build();
                let before = read(&frame).unwrap();
                let verdict = run(&mut between(way, vlan_in, vlan_out, egress), &mut frame);
                assert_eq!(verdict.reason, Reason::Forwarded, "{tag:?} {vlan_out}");
                let expected = Seen {
                    eth_dst: ETH_DST,
                    eth_src: ETH_SRC,
                    tag: leaves,
                    from: way.source,
                    to: way.target,
                    tos: 0xb8,
                    hops: before.hops - 1,
                    ..before
                };
                assert_eq!(read(&frame), Ok(expected));
            }
        }
    };
    check(None, 0, 0, None);
    check(None, 0, 200, Some(200));
    check(Some(MARKS | 100), 100, 0, None);
    check(Some(MARKS | 100), 100, 200, Some(MARKS | 200));
    check(Some(100), 100, 4094, Some(4094));
    // Nothing but a priority is no VLAN (IEEE 802.1Q §6.9).
    check(Some(MARKS), 0, 0, None);
    check(Some(MARKS), 0, 200, Some(MARKS | 200));
}

/// What comes by another interface or VLAN is dropped, whoever it says it is from.
#[test]
fn the_wrong_way_in_is_closed() {
    let check = |ingress, vlan_in, tag, reason| {
        for way in [v4(), v6()] {
            for payload in [rtp(7, b"some media"), stun()] {
                let mut table = table(way, None, Flags::SHOW_STRANGERS, EGRESS);
                let flow = table.flows.get_mut(&4).unwrap();
                *flow = flow.arriving(ingress, vlan_in);
                let mut sent = datagram(way);
                (sent.tag, sent.payload) = (tag, payload);
                let media = sent.payload[0] == 0x80;
                if reason == Reason::WrongInterface {
                    sent.from.set_port(9);
                }
                let verdict = run(&mut table, &mut sent.build());
                let (action, reason) = match (reason, media) {
                    (Reason::Forwarded, true) => (Action::Redirect, reason),
                    (Reason::Forwarded, false) => (Action::Pass, Reason::NotRtp),
                    (Reason::Vlan, _) => (Action::Pass, reason),
                    (_, _) => (Action::Drop, reason),
                };
                assert_eq!((verdict.action, verdict.reason), (action, reason));
                assert!(table.shown.borrow().is_empty());
            }
        }
    };
    check(0, 0, None, Reason::Forwarded);
    check(0, 0, Some(9), Reason::Forwarded);
    check(INGRESS, 0, None, Reason::Forwarded);
    check(INGRESS, 9, Some(9), Reason::Forwarded);
    check(INGRESS, 9, Some(MARKS | 9), Reason::Forwarded);
    check(INGRESS + 1, 0, None, Reason::WrongInterface);
    check(INGRESS, 0, Some(9), Reason::WrongInterface);
    check(INGRESS, 9, None, Reason::Vlan);
    check(INGRESS, 9, Some(MARKS), Reason::Vlan);
    check(INGRESS + 1, 9, None, Reason::WrongInterface);
    check(INGRESS, 9, Some(8), Reason::WrongInterface);
    check(INGRESS, 9, Some(0x109), Reason::WrongInterface);
    check(INGRESS + 1, 9, Some(9), Reason::WrongInterface);
}

#[test]
fn other_tags_are_for_the_stack() {
    let tagged = |tags: &[u8]| {
        let mut frame = datagram(v4()).build();
        frame.splice(12..12, tags.iter().copied());
        let mut table = between(v4(), 0, 0, EGRESS);
        run(&mut table, &mut frame).reason
    };
    for tags in [
        &[0x88, 0xa8, 0, 7][..],
        &[0x91, 0, 0, 7],
        &[0x88, 0xa8, 0, 7, 0x81, 0, 0, 8],
        &[0x81, 0, 0, 7, 0x81, 0, 0, 8],
        &[0x81, 0, 0, 7, 0x88, 0xa8, 0, 8],
    ] {
        assert_eq!(tagged(tags), Reason::Vlan, "{tags:x?}");
    }
    assert_eq!(tagged(&[0x81, 0, 0, 7, 8, 6]), Reason::NotIp);
}

/// A tagged frame is as long as its headers say with the tag, or it is cut.
#[test]
fn a_tag_does_not_hide_a_cut() {
    for way in [v4(), v6()] {
        let mut sent = datagram(way);
        sent.tag = Some(100);
        let whole = sent.build();
        for bytes in 14..whole.len() {
            let mut frame = whole[..bytes].to_vec();
            let verdict = run(&mut between(way, 100, 0, EGRESS), &mut frame);
            assert_eq!(verdict.reason, Reason::Truncated, "{bytes} bytes");
        }
    }
}

/// Without room for a tag nothing has happened to the frame.
#[test]
fn no_room_for_a_tag() {
    for way in [v4(), v6()] {
        let mut frame = datagram(way).build();
        let before = frame.clone();
        let table = between(way, 0, 100, EGRESS);
        let mut buffer = Buffer::new(&mut frame, 0);
        let verdict = forward(&mut buffer, INGRESS, &table.settings, &table, 0);
        assert_eq!(
            (verdict.action, verdict.reason),
            (Action::Pass, Reason::NoRoom)
        );
        assert_eq!(frame, before);
    }
}

/// Two numbers that do not belong together belong to nobody.
#[test]
fn half_an_entry_of_the_ports_is_none() {
    let mut table = table(v4(), None, Flags::NONE, EGRESS);
    table.ports.values_mut().for_each(|port| port.stats += 1);
    let verdict = run(&mut table, &mut datagram(v4()).build());
    assert_eq!(
        (verdict.action, verdict.reason),
        (Action::Pass, Reason::NoFlow)
    );
}

proptest! {
    /// The short way comes to what the whole one comes to, with the same bytes and counts.
    #[test]
    fn the_short_way_is_the_whole_one(
        family in any::<bool>(),
        flags in 0u8..16,
        tag in prop_oneof![3 => Just(None), 1 => any::<u16>().prop_map(Some)],
        vlans in prop_oneof![2 => Just((0, 0)), 1 => (0u16..3, 0u16..3)],
        ingress in 0..4u32,
        at in 0usize..300,
        bit in 0u32..16,
        cut in 0usize..80,
        full in any::<bool>(),
    ) {
        let way = if family { v4() } else { v6() };
        let all = [Flags::USERSPACE, Flags::SHOW_STRANGERS, Flags::HOPS, Flags::MEASURE];
        let flags = (0..)
            .zip(all)
            .filter(|(bit, _)| flags & 1 << bit != 0)
            .fold(Flags::NONE, |some, (_, flag)| some.with(flag));
        let tables: [Table; 2] = std::array::from_fn(|_| {
            let mut table = table(way, Some(0x28), flags, EGRESS);
            let flow = table.flows.get_mut(&4).unwrap();
            *flow = flow.arriving(ingress, vlans.0).leaving(vlans.1);
            flow.hops = 9;
            table
        });
        let mut sent = datagram(way);
        sent.tag = tag;
        sent.checksum = if full { Checksum::Full } else { Checksum::None };
        let mut frame = sent.build();
        if let Some(byte) = frame.get_mut(at) {
            *byte ^= (1u16 << bit) as u8;
        }
        frame.truncate(frame.len() - cut.saturating_sub(70));
        let [mut short, mut whole] = tables;
        let mut frames = [frame.clone(), frame];
        let verdicts = [
            short.run(&mut frames[0], INGRESS, 1_000),
            whole.run_whole(&mut frames[1], INGRESS, 1_000),
        ];
        prop_assert_eq!(verdicts[0], verdicts[1]);
        prop_assert_eq!(&frames[0], &frames[1]);
        prop_assert_eq!(short.reasons, whole.reasons);
        prop_assert_eq!(short.stats(STATS), whole.stats(STATS));
        prop_assert_eq!(short.media(STATS), whole.media(STATS));
    }
}
