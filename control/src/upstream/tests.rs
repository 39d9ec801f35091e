//! Requests over a modelled path, in virtual time.

use super::*;

/// Some moment; only differences count.
#[allow(
    clippy::disallowed_methods,
    reason = "virtual time needs a beginning, which one does not matter"
)]
pub(super) fn start() -> Instant {
    Instant::now()
}

const TERMS: Terms = Terms {
    class: Class::Link,
    deadline: DEADLINE,
    repeatable: true,
};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What happens to a call at a time: `a1` attempt 1 is answered, `b1` it breaks. The calls made of
/// `next`, with their times in milliseconds, until it is over.
fn check(terms: Terms, events: &[(u64, &str)], expected: &[&str]) {
    let begin = start();
    let mut upstream = Upstream::new(0, begin);
    upstream.estimator_mut(terms.class).sample(ms(100));
    let mut call = Call::begin(terms, &mut upstream, begin).unwrap();
    let (mut now, mut events, mut told) = (begin, events.iter(), Vec::new());
    let mut event = events.next();
    loop {
        let at = now.duration_since(begin).as_millis();
        match call.next(&mut upstream, now) {
            Next::Send(number) => told.push(format!("send {number}")),
            Next::Over(result) => {
                told.push(format!("{at} {result:?}"));
                break;
            }
            Next::Wait(until) => {
                let next = event.map(|(at, _)| begin + ms(*at));
                now = next.map_or(until, |next| next.min(until));
                if let Some((at, what)) = event
                    && begin + ms(*at) <= until
                {
                    match *what {
                        "a1" | "a2" => call.answered(&mut upstream, now),
                        "b1" => call.broken(1, &mut upstream, now),
                        "b2" => call.broken(2, &mut upstream, now),
                        other => panic!("{other}"),
                    }
                    event = events.next();
                }
            }
        }
    }
    assert_eq!(told, expected, "{terms:?}");
}

#[test]
fn attempts_within_a_deadline() {
    let once = Terms {
        repeatable: false,
        ..TERMS
    };
    let short = Terms {
        deadline: ms(250),
        ..TERMS
    };
    check(TERMS, &[(100, "a1")], &["send 1", "100 Ok(())"]);
    // Its time is 300 ms; the late answer of the first attempt counts as well.
    check(TERMS, &[(400, "a1")], &["send 1", "send 2", "400 Ok(())"]);
    check(TERMS, &[(900, "a2")], &["send 1", "send 2", "900 Ok(())"]);
    check(
        TERMS,
        &[(10, "b1"), (150, "a2")],
        &["send 1", "send 2", "150 Ok(())"],
    );
    check(
        TERMS,
        &[(10, "b1"), (150, "b2")],
        &["send 1", "send 2", "150 Err(Broken)"],
    );
    check(
        TERMS,
        &[(400, "b1"), (500, "b2")],
        &["send 1", "send 2", "500 Err(Broken)"],
    );
    check(
        TERMS,
        &[(400, "b2")],
        &["send 1", "send 2", "3000 Err(Unanswered)"],
    );
    check(TERMS, &[], &["send 1", "send 2", "3000 Err(Unanswered)"]);
    check(once, &[], &["send 1", "3000 Err(Unanswered)"]);
    check(once, &[(900, "a1")], &["send 1", "900 Ok(())"]);
    check(once, &[(10, "b1")], &["send 1", "10 Err(Broken)"]);
    check(short, &[], &["send 1", "250 Err(Unanswered)"]);
}

#[test]
fn an_answer_to_what_was_sent_twice_is_no_sample() {
    let begin = start();
    let mut upstream = Upstream::new(0, begin);
    let mut call = Call::begin(TERMS, &mut upstream, begin).unwrap();
    assert_eq!(call.next(&mut upstream, begin), Next::Send(1));
    let late = begin + estimator::TIMEOUT_START;
    let Next::Wait(rested) = call.next(&mut upstream, late) else {
        panic!("it rests");
    };
    assert_eq!(call.next(&mut upstream, rested), Next::Send(2));
    call.answered(&mut upstream, rested + ms(5));
    assert_eq!(upstream.rtt(), None);
    assert_eq!(upstream.timeout(Class::Link), 2 * estimator::TIMEOUT_START);
    let mut call = Call::begin(TERMS, &mut upstream, rested).unwrap();
    assert_eq!(call.next(&mut upstream, rested), Next::Send(1));
    call.answered(&mut upstream, rested + ms(80));
    assert_eq!(upstream.rtt(), Some(ms(80)));
    assert_eq!(upstream.timeout(Class::Link), ms(240));
    // Known from elsewhere until it has a measure of its own.
    let mut upstream = Upstream::new(0, begin);
    upstream.estimator_mut(Class::Ping).sample(ms(400));
    assert_eq!(upstream.timeout(Class::View), ms(1200));
}

#[test]
fn an_open_breaker_answers_at_once() {
    let begin = start();
    let mut upstream = Upstream::new(0, begin);
    let mut now = begin;
    for _ in 0..breaker::CALLS_MIN {
        let mut call = Call::begin(TERMS, &mut upstream, now).unwrap();
        while let Next::Send(number) = call.next(&mut upstream, now) {
            call.broken(number, &mut upstream, now);
            if let Next::Wait(until) = call.next(&mut upstream, now) {
                now = until;
            }
        }
    }
    let refused = Call::begin(TERMS, &mut upstream, now).unwrap_err();
    assert!(refused.until > now && refused.until <= now + breaker::OPEN_MIN);
    assert_eq!(upstream.counts().refused, 1);
    assert_eq!(upstream.counts().broken, u64::from(breaker::CALLS_MIN));
    let half = Call::begin(TERMS, &mut upstream, refused.until).unwrap();
    half.abandon(&mut upstream);
    assert_eq!(upstream.counts().abandoned, 1);
}

#[test]
fn a_fixed_deadline_is_compared_with_the_path() {
    for (deadline, rtt, expected) in [(50, 53, true), (100, 53, true), (106, 53, false)] {
        assert_eq!(too_short(ms(deadline), ms(rtt)), expected);
    }
}

/// What a path does to requests.
#[derive(Clone, Copy, Debug)]
struct Path {
    rtt: u64,
    /// Added to some answers, milliseconds.
    jitter: u64,
    /// One in a thousand answers is late by so many milliseconds.
    spikes: (u64, u64),
    /// In a thousand segments, each way; TCP sends them again.
    loss: u64,
}

struct Random(Upstream);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        let drawn = self.0.pause(Duration::from_micros(most.saturating_sub(1)));
        u64::try_from(drawn.as_micros()).unwrap()
    }
}

impl Path {
    /// How long a request takes to be answered on a connection that is open, or has to be made.
    fn exchange(self, open: bool, random: &mut Random) -> Duration {
        // TCP, then TLS 1.3.
        let trips = if open { 1 } else { 3 };
        let mut takes = 0;
        for _ in 0..trips {
            takes += self.rtt;
            for _ in 0..2 {
                // Linux: 200 ms above the round trip, doubled.
                let mut timeout = 200 + self.rtt;
                while random.below(1000) < self.loss {
                    takes += timeout;
                    timeout *= 2;
                }
            }
        }
        takes += random.below(self.jitter + 1);
        if random.below(1000) < self.spikes.0 {
            takes += self.spikes.1;
        }
        ms(takes.max(1))
    }
}

const REQUESTS: u64 = 1000;

/// Requests one after the other, as our client sends them.
fn ours(path: Path, seed: u64) -> (u64, Counts, Duration) {
    let begin = start();
    let mut random = Random(Upstream::new(seed, begin));
    let mut upstream = Upstream::new(!seed, begin);
    let (mut now, mut idle, mut succeeded) = (begin, 0_u32, 0);
    // Exchanges that nobody waits for any more give their connection back.
    let mut behind: Vec<Instant> = Vec::new();
    for _ in 0..REQUESTS {
        let mut call = Call::begin(TERMS, &mut upstream, now).unwrap();
        let mut under_way: Vec<Instant> = Vec::new();
        let result = loop {
            behind.retain(|done| {
                idle += u32::from(*done <= now);
                *done > now
            });
            match call.next(&mut upstream, now) {
                Next::Send(_) => {
                    let takes = path.exchange(idle > 0, &mut random);
                    idle = idle.saturating_sub(1);
                    under_way.push(now + takes);
                }
                Next::Wait(until) => {
                    let first = under_way.iter().min().copied();
                    match first.filter(|first| *first <= until) {
                        Some(first) => {
                            now = first;
                            call.answered(&mut upstream, now);
                        }
                        None => now = until,
                    }
                }
                Next::Over(result) => break result,
            }
        };
        behind.append(&mut under_way);
        succeeded += u64::from(result.is_ok());
        now += ms(20);
    }
    (succeeded, upstream.counts(), now - begin)
}

/// The same with a time that does not follow the path: given up, the connection is closed.
fn fixed(path: Path, timeout: Duration, seed: u64) -> u64 {
    let mut random = Random(Upstream::new(seed, start()));
    let (mut open, mut succeeded) = (false, 0);
    for _ in 0..REQUESTS {
        open = path.exchange(open, &mut random) <= timeout;
        succeeded += u64::from(open);
    }
    succeeded
}

#[test]
fn any_path_within_the_deadline() {
    for rtt in [0, 20, 53, 166, 500] {
        for (jitter, spikes, loss) in [
            (0, (0, 0), 0),
            (20, (0, 0), 0),
            (100, (0, 0), 0),
            (0, (10, 200), 0),
            (10, (50, 400), 0),
            (0, (0, 0), 10),
            (10, (10, 200), 20),
        ] {
            let path = Path {
                rtt,
                jitter,
                spikes,
                loss,
            };
            for seed in 0..5 {
                let (succeeded, counts, took) = ours(path, seed);
                assert!(
                    succeeded * 1000 >= REQUESTS * 999,
                    "{path:?}: {succeeded} of {REQUESTS}, {counts:?}"
                );
                let budget = 1 + REQUESTS / 10 + took.as_secs() + 1;
                assert!(counts.retries <= budget, "{path:?}: {counts:?}");
            }
        }
    }
}

#[test]
fn a_fixed_time_fails_where_the_path_is_longer() {
    let path = |rtt| Path {
        rtt,
        jitter: 0,
        spikes: (10, 200),
        loss: 0,
    };
    // Row 7 of the trouble book: 50 ms on a path of 50 ms.
    assert_eq!(fixed(path(53), ms(50), 1), 0);
    assert_eq!(fixed(path(166), ms(50), 1), 0);
    // Long enough for the path, not for a new connection after the first late answer.
    assert!(fixed(path(53), ms(100), 1) < REQUESTS / 2);
    assert!(fixed(path(10), ms(50), 1) > REQUESTS * 9 / 10);
}
