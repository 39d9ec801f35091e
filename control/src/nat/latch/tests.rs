//! The golden transition table, new terms, and what the kernel forwards.

use super::*;

const SDP: &str = "198.51.100.5:4000";
const SAME_IP: &str = "198.51.100.5:4444";
const SIGNALLING: &str = "203.0.113.9:1024";
const SIGNALLING_2: &str = "203.0.113.9:2048";
const ELSEWHERE: &str = "192.0.2.66:4000";

#[test]
fn transitions() {
    for (name, terms, steps) in TRANSITIONS {
        let policy = match terms {
            Terms::Nobody => Policy::Nobody,
            Terms::Strict => strict(),
            Terms::Believe => believe(),
            Terms::Learn => learn(),
        };
        check(name, policy, steps);
    }
}

enum Terms {
    Nobody,
    Strict,
    Believe,
    Learn,
}

/// The whole transition table: packets as (ms, from, ssrc, sequence), and after each one the
/// verdict, the state and the peer.
const TRANSITIONS: &[(&str, Terms, &[Step])] = &[
    (
        "strict",
        Terms::Strict,
        &[
            (0, SDP, 7, 1, "held", "held", SDP),
            (1, SAME_IP, 7, 2, "stranger", "held", SDP),
            (9000, SAME_IP, 7, 3, "stranger", "held", SDP),
            (9001, SIGNALLING, 7, 4, "stranger", "held", SDP),
        ],
    ),
    (
        "believed and right",
        Terms::Believe,
        &[
            (0, SDP, 7, 1, "held", "held", SDP),
            (20, SAME_IP, 7, 2, "stranger", "held", SDP),
            (40, SIGNALLING, 7, 3, "stranger", "held", SDP),
        ],
    ),
    (
        "believed, other port, once",
        Terms::Believe,
        &[
            (0, SAME_IP, 7, 1, "held", "held", SAME_IP),
            (20, SDP, 7, 2, "stranger", "held", SAME_IP),
            (40, ELSEWHERE, 7, 3, "stranger", "held", SAME_IP),
        ],
    ),
    (
        "believed, other port, too late",
        Terms::Believe,
        &[(30_000, SAME_IP, 7, 1, "stranger", "held", SDP)],
    ),
    (
        "believed, from signalling",
        Terms::Believe,
        &[
            (0, SIGNALLING, 7, 1, "tentative", "tentative", SDP),
            (20, SIGNALLING_2, 7, 1, "stranger", "tentative", SDP),
            (40, SIGNALLING, 7, 2, "tentative", "tentative", SDP),
            (60, SIGNALLING, 7, 3, "held", "held", SIGNALLING),
        ],
    ),
    (
        "believed, candidate loses to the peer",
        Terms::Believe,
        &[
            (0, SIGNALLING, 7, 1, "tentative", "tentative", SDP),
            (20, SDP, 7, 2, "held", "held", SDP),
            (40, SIGNALLING, 7, 3, "stranger", "held", SDP),
        ],
    ),
    (
        "candidate out of sequence begins anew",
        Terms::Believe,
        &[
            (0, SIGNALLING, 7, 9, "tentative", "tentative", SDP),
            (20, SIGNALLING, 7, 8, "tentative", "tentative", SDP),
            (40, SIGNALLING, 8, 9, "tentative", "tentative", SDP),
            (60, SIGNALLING, 8, 10, "tentative", "tentative", SDP),
            (80, SIGNALLING, 8, 11, "held", "held", SIGNALLING),
        ],
    ),
    (
        "candidate grows stale",
        Terms::Believe,
        &[
            (0, SIGNALLING, 7, 1, "tentative", "tentative", SDP),
            (2001, SIGNALLING_2, 7, 1, "tentative", "tentative", SDP),
        ],
    ),
    (
        "learnt",
        Terms::Learn,
        &[
            (0, ELSEWHERE, 7, 1, "stranger", "waiting", ""),
            (1, SDP, 7, 1, "stranger", "waiting", ""),
            (90_000, SIGNALLING, 7, 1, "held", "held", SIGNALLING),
            (90_001, SIGNALLING_2, 7, 2, "stranger", "held", SIGNALLING),
            (90_002, ELSEWHERE, 7, 2, "stranger", "held", SIGNALLING),
        ],
    ),
    (
        "rebound by its NAT",
        Terms::Learn,
        &[
            (0, SIGNALLING, 7, 65_534, "held", "held", SIGNALLING),
            (
                1999,
                SIGNALLING_2,
                7,
                65_535,
                "stranger",
                "held",
                SIGNALLING,
            ),
            (
                2000,
                SIGNALLING_2,
                8,
                65_535,
                "stranger",
                "held",
                SIGNALLING,
            ),
            (
                2000,
                SIGNALLING_2,
                7,
                65_533,
                "stranger",
                "held",
                SIGNALLING,
            ),
            (
                2000,
                SIGNALLING_2,
                7,
                65_535,
                "tentative",
                "tentative",
                SIGNALLING,
            ),
            (
                2020,
                SIGNALLING_2,
                7,
                0,
                "tentative",
                "tentative",
                SIGNALLING,
            ),
            (2040, SIGNALLING_2, 7, 1, "held", "held", SIGNALLING_2),
        ],
    ),
    (
        "a copied source from elsewhere",
        Terms::Learn,
        &[
            (0, SIGNALLING, 7, 1, "held", "held", SIGNALLING),
            (60_000, ELSEWHERE, 7, 2, "stranger", "held", SIGNALLING),
        ],
    ),
    (
        "a copied source from elsewhere, SDP believed",
        Terms::Believe,
        &[
            (0, SDP, 7, 1, "held", "held", SDP),
            (60_000, SIGNALLING, 7, 2, "stranger", "held", SDP),
            (60_001, ELSEWHERE, 7, 2, "stranger", "held", SDP),
        ],
    ),
    (
        "nobody",
        Terms::Nobody,
        &[
            (0, SDP, 7, 1, "stranger", "waiting", ""),
            (0, SIGNALLING, 7, 1, "stranger", "waiting", ""),
        ],
    ),
];

type Step = (
    u64,
    &'static str,
    u32,
    u16,
    &'static str,
    &'static str,
    &'static str,
);

fn check(name: &str, policy: Policy, steps: &[Step]) {
    let start = start();
    let mut latch = Latch::new(policy, Reach::default(), &Pace::RTP, start);
    for &(ms, from, ssrc, sequence, verdict, state, peer) in steps {
        let got = latch.receive(at(from), rtp(ssrc, sequence), start + millis(ms));
        let got = match got {
            Verdict::Held => "held",
            Verdict::Tentative => "tentative",
            Verdict::Stranger(_) => "stranger",
        };
        let held = latch.peer().map(|p| p.to_string()).unwrap_or_default();
        let step = format!("{name}: {from} after {ms} ms");
        assert_eq!(
            (got, latch.state(), held.as_str()),
            (verdict, state, peer),
            "{step}"
        );
    }
    let refused = steps.iter().filter(|s| s.4 == "stranger").count();
    assert_eq!(latch.strangers(), refused as u64, "{name}: counted");
}

#[test]
fn new_terms() {
    // Before, after, and state and peer then.
    check("equal", learn(), learn(), "held", SIGNALLING);
    check("now believed", learn(), believe(), "held", SDP);
    check("now strict", learn(), strict(), "held", SDP);
    check("nobody", learn(), Policy::Nobody, "waiting", "");
    check(
        "other socket behind the NAT",
        learn(),
        learn_anew(SIGNALLING),
        "waiting (old kept)",
        SIGNALLING,
    );
    check(
        "moved",
        learn(),
        learn_anew(ELSEWHERE),
        "waiting (old kept)",
        SIGNALLING,
    );

    fn check(name: &str, before: Policy, after: Policy, state: &str, peer: &str) {
        let start = start();
        let mut latch = Latch::new(before, Reach::default(), &Pace::RTP, start);
        latch.receive(at(SIGNALLING), rtp(7, 1), start);
        latch.expect(after, &Reach::default(), start);
        let held = latch.peer().map(|p| p.to_string()).unwrap_or_default();
        assert_eq!((latch.state(), held.as_str()), (state, peer), "{name}");
    }
}

/// Make before break: the old peer carries on until the new one shows.
#[test]
fn old_peer_is_kept_for_the_window() {
    check(
        learn_anew(SIGNALLING),
        &[
            (0, SIGNALLING, SIGNALLING),
            (20, SIGNALLING_2, SIGNALLING_2),
        ],
    );
    check(
        learn_anew(SIGNALLING),
        &[(30_000, SIGNALLING_2, SIGNALLING)],
    );
    check(
        learn_anew(ELSEWHERE),
        &[(0, SIGNALLING_2, SIGNALLING), (20, ELSEWHERE, ELSEWHERE)],
    );
    check(
        learn_anew(ELSEWHERE),
        &[
            (29_999, SIGNALLING_2, SIGNALLING),
            (30_000, SIGNALLING_2, ""),
        ],
    );

    fn check(after: Policy, packets: &[(u64, &str, &str)]) {
        let start = start();
        let mut latch = Latch::new(learn(), Reach::default(), &Pace::RTP, start);
        latch.receive(at(SIGNALLING), rtp(7, 1), start);
        latch.expect(after, &Reach::default(), start);
        for (ms, from, peer) in packets {
            latch.receive(at(from), rtp(9, 1), start + millis(*ms));
            let held = latch.peer().map(|p| p.to_string()).unwrap_or_default();
            assert_eq!(held, *peer, "{after:?}: {from} after {ms} ms");
        }
    }
}

/// What the kernel forwards counts as heard.
#[test]
fn activity_keeps_the_port() {
    let start = start();
    let mut latch = Latch::new(learn(), Reach::default(), &Pace::RTP, start);
    latch.receive(at(SIGNALLING), rtp(7, 1), start);
    latch.heard(None, start + millis(5000));
    let got = latch.receive(at(SIGNALLING_2), rtp(7, 2), start + millis(6000));
    assert_eq!(got, Verdict::Stranger("the peer is heard on another port"));
    let mut latch = Latch::new(believe(), Reach::default(), &Pace::RTP, start);
    latch.heard(None, start + millis(100));
    let got = latch.receive(at(SAME_IP), rtp(7, 2), start + millis(200));
    assert_eq!(got, Verdict::Stranger("the peer is heard on another port"));
}

/// A party may begin a new stream where nobody but the kernel sees it; its NAT may move afterwards.
#[test]
fn a_source_that_changed_unseen_is_followed() {
    check(Some(9), 9, Verdict::Held);
    check(Some(9), 7, Verdict::Stranger(OTHER));
    check(None, 9, Verdict::Stranger(OTHER));

    const OTHER: &str = "another source than the peer's";

    fn check(carried: Option<u32>, comes: u32, expected: Verdict) {
        let start = start();
        let mut latch = Latch::new(learn(), Reach::default(), &Pace::RTP, start);
        latch.receive(at(SIGNALLING), rtp(7, 1), start);
        latch.heard(carried, start + millis(1000));
        let mut last = None;
        for sequence in 0..3u16 {
            let when = start + millis(3000 + 20 * u64::from(sequence));
            last = Some(latch.receive(at(SIGNALLING_2), rtp(comes, 500 + sequence), when));
        }
        assert_eq!(last, Some(expected), "{carried:?}, {comes}");
    }
}

/// The time of a packet counts, not that of the look at the counters.
#[test]
fn silence_begins_with_the_last_packet() {
    let start = start();
    let mut latch = Latch::new(learn(), Reach::default(), &Pace::RTP, start);
    latch.receive(at(SIGNALLING), rtp(7, 1), start);
    let from = |latch: &mut Latch, ms, sequence| {
        latch.receive(at(SIGNALLING_2), rtp(7, sequence), start + millis(ms))
    };
    assert_eq!(from(&mut latch, 2100, 2), Verdict::Tentative);
    // A report that comes late, of a packet that came before.
    latch.heard(Some(7), start + millis(90));
    assert_eq!(from(&mut latch, 2120, 3), Verdict::Tentative);
    assert_eq!(from(&mut latch, 2140, 4), Verdict::Held);
}

fn strict() -> Policy {
    Policy::Strict { at: at(SDP) }
}

fn believe() -> Policy {
    Policy::Believe {
        at: at(SDP),
        also: Some(at(SIGNALLING).ip()),
    }
}

fn learn() -> Policy {
    Policy::Learn {
        from: at(SIGNALLING).ip(),
        signalled: None,
        first: None,
    }
}

fn learn_anew(from: &str) -> Policy {
    Policy::Learn {
        from: at(from).ip(),
        signalled: Some(at(SDP)),
        first: None,
    }
}

fn rtp(ssrc: u32, sequence: u16) -> Packet {
    Packet::Rtp {
        payload_type: 0,
        sequence,
        ssrc,
    }
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[expect(
    clippy::disallowed_methods,
    reason = "any instant will do as the origin"
)]
fn start() -> Instant {
    Instant::now()
}
