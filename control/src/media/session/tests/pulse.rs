//! Who is heard: said once when it changes, and not while silence is agreed.

use super::*;
use crate::media::stream::SILENT;

const CALLER: &str = "192.0.2.1:20000";
const CALLEE: &str = "10.1.0.1:30000";
const SECOND: Duration = Duration::from_secs(1);

/// A call whose only stream is audio, both parties known.
fn audio() -> World {
    let mut world = World::new(honest_outside(), honest(INSIDE));
    world
        .offer(Side::A, &BARESIP_OFFER.replace("192.168.1.10", OUTSIDE))
        .unwrap();
    world.answer(Side::B, LINPHONE_ANSWER).unwrap();
    world.settle();
    assert_eq!(world.flows.len(), 4, "{:?}", world.flows);
    world
}

impl World {
    /// A second passes in which these ports hear these sources.
    fn hears(&mut self, heard: &[(&str, u32)]) -> Vec<(Side, Change)> {
        self.now += SECOND;
        for (port, ssrc) in heard {
            self.session.note_activity(at(port), Some(*ssrc), self.now);
        }
        let changes = self.session.changes(self.now);
        changes.into_iter().map(|h| (h.side, h.change)).collect()
    }

    /// How many seconds pass like this before something is said, and what.
    fn until_said(&mut self, heard: &[(&str, u32)]) -> (u32, Vec<(Side, Change)>) {
        for second in 1..100 {
            let changes = self.hears(heard);
            if !changes.is_empty() {
                return (second, changes);
            }
        }
        panic!("nothing was said");
    }

    fn silence(&self) -> [(usize, usize); 2] {
        Side::BOTH.map(|side| {
            let silence = self.session.silence(side);
            (silence.streams, silence.one_way)
        })
    }
}

const BOTH: [(&str, u32); 2] = [(CALLER, SSRC), (CALLEE, 7)];

#[test]
fn each_change_is_said_once() {
    let limit = u32::try_from(SILENT.as_secs()).unwrap();
    let mut world = audio();
    let first = [(Side::A, Change::First), (Side::B, Change::First)];
    assert_eq!(world.hears(&BOTH), first);
    assert_eq!(world.hears(&BOTH), []);
    assert_eq!(world.silence(), [(0, 0), (0, 0)]);

    let one_way = vec![(Side::B, Change::OneWay)];
    assert_eq!(world.until_said(&BOTH[..1]), (limit, one_way));
    assert_eq!(world.hears(&BOTH[..1]), []);
    assert_eq!(world.silence(), [(0, 0), (1, 1)]);

    // The other one too: it is not alone in that.
    assert_eq!(
        world.until_said(&[]),
        (limit, vec![(Side::A, Change::Silent)])
    );
    assert_eq!(world.hears(&[]), []);
    assert_eq!(world.silence(), [(1, 0), (1, 0)]);

    let resumed = [(Side::A, Change::Resumed), (Side::B, Change::Resumed)];
    assert_eq!(world.hears(&BOTH), resumed);
    assert_eq!(world.silence(), [(0, 0), (0, 0)]);

    let other = [(CALLER, SSRC), (CALLEE, 8)];
    let source = Change::Source { before: 7, now: 8 };
    assert_eq!(world.hears(&other), [(Side::B, source)]);
    assert_eq!(world.hears(&other), []);
    world.close();
}

#[test]
fn a_party_that_never_sends_is_missed() {
    let mut world = audio();
    assert_eq!(world.hears(&BOTH[1..]), [(Side::B, Change::First)]);
    let (seconds, said) = world.until_said(&BOTH[1..]);
    assert_eq!((seconds + 1, said), (10, vec![(Side::A, Change::OneWay)]));
    world.close();
}

#[test]
fn hold_is_no_silence() {
    let mut world = audio();
    world.hears(&BOTH);
    let hold = BARESIP_OFFER
        .replace("192.168.1.10", OUTSIDE)
        .replace("a=sendrecv", "a=sendonly");
    world.offer(Side::A, &hold).unwrap();
    world.answer(Side::B, LINPHONE_ANSWER).unwrap();
    for _ in 0..60 {
        assert_eq!(world.hears(&[]), []);
    }
    assert_eq!(world.silence(), [(0, 0), (0, 0)]);
    // Silence counts from the end of the hold.
    let talk = BARESIP_OFFER.replace("192.168.1.10", OUTSIDE);
    world.offer(Side::A, &talk).unwrap();
    world.answer(Side::B, LINPHONE_ANSWER).unwrap();
    let silent = vec![(Side::A, Change::Silent), (Side::B, Change::Silent)];
    assert_eq!(world.until_said(&[]), (10, silent));
    world.close();
}
