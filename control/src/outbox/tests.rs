use super::*;

const LIMITS: Limits = Limits {
    messages: 200,
    bytes: 200 * 400,
    window: 10,
};

fn message(topic: &str, payload: u32) -> Publication {
    Publication {
        topic: topic.to_owned(),
        payload: payload.to_string().into(),
        qos: Qos::AtLeastOnce,
        retain: false,
        expiry: None,
    }
}

fn at_most_once(topic: &str, payload: u32) -> Publication {
    Publication {
        qos: Qos::AtMostOnce,
        ..message(topic, payload)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can be had from the clock only; the tests count from this one"
)]
fn start() -> Instant {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    *START
}

fn submitted(effects: &Effects) -> Vec<String> {
    let submits = effects.iter().filter_map(|effect| match effect {
        Effect::Submit(publication) => Some(String::from_utf8_lossy(&publication.payload).into()),
        Effect::Keep { .. } | Effect::GiveUp { .. } => None,
    });
    submits.collect()
}

fn given_up(effects: &Effects) -> Vec<(String, Lost)> {
    let lost = effects.iter().filter_map(|effect| match effect {
        Effect::GiveUp { topic, why } => Some((topic.clone(), *why)),
        Effect::Keep { .. } | Effect::Submit(_) => None,
    });
    lost.collect()
}

/// Numbers of the records that were made, and that were forgotten.
fn kept(effects: &Effects) -> (Vec<u64>, Vec<u64>) {
    let (mut made, mut forgotten) = (Vec::new(), Vec::new());
    for effect in effects {
        match effect {
            Effect::Keep {
                id,
                record: Some(_),
            } => made.push(*id),
            Effect::Keep { id, record: None } => forgotten.push(*id),
            Effect::Submit(_) | Effect::GiveUp { .. } => {}
        }
    }
    (made, forgotten)
}

#[test]
fn what_was_in_flight_goes_first_and_in_order() {
    let now = start();
    let mut outbox = Outbox::new(Limits {
        window: 3,
        ..LIMITS
    });
    let mut effects = Effects::new();
    for payload in 1..=6 {
        outbox
            .push(message("t", payload), now, &mut effects)
            .unwrap();
    }
    assert_eq!(submitted(&effects), [""; 0]);
    assert_eq!(kept(&effects).0, [1, 2, 3, 4, 5, 6]);
    effects.clear();
    outbox.connected(None, None, now, &mut effects);
    assert_eq!(submitted(&effects), ["1", "2", "3"]);
    effects.clear();
    for packet in [7, 8, 9] {
        outbox.sent(packet, now, &mut effects);
    }
    assert!(outbox.acknowledged(7, false, now, &mut effects));
    assert!(!outbox.acknowledged(7, false, now, &mut effects));
    assert_eq!(
        (submitted(&effects), kept(&effects).1),
        (vec!["4".to_owned()], vec![1])
    );
    effects.clear();
    outbox.disconnected();
    outbox.push(message("t", 7), now, &mut effects).unwrap();
    assert_eq!(submitted(&effects), [""; 0]);
    // The broker takes fewer at a time.
    outbox.connected(Some(2), None, now, &mut effects);
    assert_eq!(submitted(&effects), ["2", "3"]);
    effects.clear();
    outbox.sent(1, now, &mut effects);
    outbox.sent(2, now, &mut effects);
    // Out of order.
    assert!(outbox.acknowledged(2, false, now, &mut effects));
    assert!(outbox.acknowledged(1, false, now, &mut effects));
    assert_eq!(
        (submitted(&effects), kept(&effects).1),
        (vec!["4".into(), "5".into()], vec![3, 2])
    );
    let expected = Counts {
        accepted: 7,
        delivered: 3,
        redelivered: 3,
        ..Counts::default()
    };
    assert_eq!((outbox.counts(), outbox.len()), (&expected, 4));
}

#[test]
fn a_full_outbox_gives_up_what_may_be_and_refuses_the_rest() {
    let now = start();
    let mut outbox = Outbox::new(Limits {
        messages: 4,
        ..LIMITS
    });
    let mut effects = Effects::new();
    let soon = Publication {
        expiry: Some(Duration::from_secs(1)),
        ..message("soon", 1)
    };
    outbox
        .push(at_most_once("loose", 1), now, &mut effects)
        .unwrap();
    outbox.push(message("t", 1), now, &mut effects).unwrap();
    outbox.push(soon, now, &mut effects).unwrap();
    outbox
        .push(at_most_once("loose", 2), now, &mut effects)
        .unwrap();
    assert_eq!(outbox.next_timeout(), Some(now + Duration::from_secs(1)));
    effects.clear();
    let later = now + Duration::from_secs(2);
    for payload in 2..=4 {
        outbox
            .push(message("t", payload), later, &mut effects)
            .unwrap();
    }
    let lost = |topic: &str, why| (topic.to_owned(), why);
    assert_eq!(
        given_up(&effects),
        [
            lost("soon", Lost::Expired),
            lost("loose", Lost::Displaced),
            lost("loose", Lost::Displaced)
        ]
    );
    assert_eq!(kept(&effects).1, [3]);
    assert_eq!(outbox.push(message("t", 5), later, &mut effects), Err(Full));
    assert_eq!(outbox.counts().full, 1);
    assert_eq!(outbox.oldest(later), Duration::from_secs(2));
    // Bytes are limited as well.
    let mut outbox = Outbox::new(Limits {
        bytes: 500,
        ..LIMITS
    });
    outbox.push(message("t", 1), now, &mut effects).unwrap();
    let large = Publication {
        payload: vec![0; 300].into(),
        ..message("t", 2)
    };
    assert_eq!(outbox.push(large, now, &mut effects), Err(Full));
    assert_eq!(outbox.bytes(), 202);
}

#[test]
fn what_a_broker_will_not_have_stands_in_nobodys_way() {
    let now = start();
    let mut outbox = Outbox::new(LIMITS);
    let mut effects = Effects::new();
    let large = Publication {
        payload: vec![b'x'; 300].into(),
        ..message("large", 0)
    };
    let soon = Publication {
        expiry: Some(Duration::from_millis(1500)),
        ..message("soon", 1)
    };
    for publication in [
        large,
        soon.clone(),
        message("t", 2),
        at_most_once("loose", 3),
    ] {
        outbox.push(publication, now, &mut effects).unwrap();
    }
    effects.clear();
    let later = now + Duration::from_secs(1);
    outbox.connected(None, Some(200), later, &mut effects);
    assert_eq!(submitted(&effects), ["1", "2", "3"]);
    // What is left of it.
    let left = Publication {
        expiry: Some(Duration::from_millis(500)),
        ..soon
    };
    assert!(effects.contains(&Effect::Submit(left)));
    for packet in [1, 2, 0] {
        outbox.sent(packet, later, &mut effects);
    }
    assert!(outbox.acknowledged(2, true, later, &mut effects));
    assert_eq!(
        given_up(&effects),
        [
            ("large".into(), Lost::TooLarge),
            ("t".into(), Lost::Refused)
        ]
    );
    // In flight it is the broker's; on the next connection it is over.
    effects.clear();
    outbox.expire(later + Duration::from_secs(1), &mut effects);
    assert_eq!(effects, []);
    outbox.connected(None, None, later + Duration::from_secs(1), &mut effects);
    assert_eq!(given_up(&effects), [("soon".into(), Lost::Expired)]);
    assert!(outbox.is_empty());
    assert_eq!((outbox.bytes(), outbox.next_timeout()), (0, None));
}

#[test]
fn records_are_read_as_they_were_written() {
    for publication in [
        message("a/b", 1),
        Publication {
            retain: true,
            payload: Bytes::new(),
            ..message("ü", 0)
        },
        Publication {
            expiry: Some(Duration::from_millis(1234)),
            ..message("", 0)
        },
    ] {
        let record = record::encode(&publication);
        assert_eq!(record::decode(&record), Some(publication.clone()));
        for length in 0..12 + publication.topic.len() {
            assert_eq!(record::decode(&record[..length]), None, "{length}");
        }
        let mut newer = record.to_vec();
        newer[0] += 1;
        assert_eq!(record::decode(&newer), None);
    }
}

/// A broker that reads what arrives of what is sent, in order, and acknowledges it; connections
/// end at any moment, and so does the process.
struct World {
    random: u64,
    now: Instant,
    outbox: Outbox,
    records: BTreeMap<u64, Bytes>,
    /// Submitted and not yet written by the client; written, with their numbers; on their way back.
    submitted: VecDeque<Publication>,
    written: VecDeque<(u16, Publication)>,
    acks: VecDeque<u16>,
    packet: u16,
    up: bool,
    /// What the broker has, in order.
    arrived: Vec<(String, u32)>,
    accepted: BTreeMap<String, Vec<u32>>,
    /// How often messages may come twice.
    twice: usize,
    /// Nobody publishes any more.
    ending: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            random: seed,
            now: start(),
            outbox: Outbox::new(LIMITS),
            records: BTreeMap::new(),
            submitted: VecDeque::new(),
            written: VecDeque::new(),
            acks: VecDeque::new(),
            packet: 0,
            up: false,
            arrived: Vec::new(),
            accepted: BTreeMap::new(),
            twice: 0,
            ending: false,
        }
    }

    /// SplitMix64.
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn perform(&mut self, effects: Effects) {
        for effect in effects {
            match effect {
                Effect::Keep {
                    id,
                    record: Some(r),
                } => assert!(self.records.insert(id, r).is_none()),
                Effect::Keep { id, record: None } => assert!(self.records.remove(&id).is_some()),
                Effect::Submit(publication) => {
                    assert!(self.up);
                    self.submitted.push_back(publication);
                }
                Effect::GiveUp { topic, why } => panic!("{topic}: {why:?}"),
            }
        }
        let in_flight = self.submitted.len() + self.written.len() + self.acks.len();
        assert!(in_flight <= usize::from(LIMITS.window), "{in_flight}");
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(1);
        let mut effects = Effects::new();
        match self.below(100) {
            0..30 if !self.ending => self.push(&mut effects),
            30..55 => {
                if let Some(publication) = self.submitted.pop_front() {
                    self.packet = self.packet % LIMITS.window + 1;
                    self.outbox.sent(self.packet, self.now, &mut effects);
                    self.written.push_back((self.packet, publication));
                }
            }
            55..77 => {
                if let Some((packet, publication)) = self.written.pop_front() {
                    let payload = str::from_utf8(&publication.payload).unwrap();
                    self.arrived
                        .push((publication.topic, payload.parse().unwrap()));
                    self.acks.push_back(packet);
                }
            }
            77..95 => {
                if let Some(packet) = self.acks.pop_front() {
                    let known = self
                        .outbox
                        .acknowledged(packet, false, self.now, &mut effects);
                    assert!(known, "{packet}");
                }
            }
            95..98 if self.up => self.disconnect(),
            98 => self.restart(),
            _ if !self.up => {
                self.up = true;
                self.packet = 0;
                self.outbox.connected(None, None, self.now, &mut effects);
            }
            _ => {}
        }
        self.perform(effects);
    }

    fn push(&mut self, effects: &mut Effects) {
        let key = format!("key/{}", self.below(5));
        let mut next = 1;
        if let Some(last) = self.accepted.get(&key).and_then(|all| all.last()) {
            next = last + 1;
        }
        if self
            .outbox
            .push(message(&key, next), self.now, effects)
            .is_ok()
        {
            self.accepted.entry(key).or_default().push(next);
        }
    }

    fn disconnect(&mut self) {
        self.up = false;
        self.twice += self.acks.len() + self.written.len();
        self.outbox.disconnected();
        self.submitted.clear();
        self.acks.clear();
        // What is on the wire may arrive yet.
        let arrives = usize::try_from(self.below(11))
            .unwrap()
            .min(self.written.len());
        for (_, publication) in self.written.drain(..).take(arrives) {
            let payload = str::from_utf8(&publication.payload).unwrap();
            self.arrived
                .push((publication.topic, payload.parse().unwrap()));
        }
    }

    fn restart(&mut self) {
        self.disconnect();
        self.outbox = Outbox::new(LIMITS);
        for (id, record) in &self.records {
            assert!(self.outbox.restore(*id, record, self.now));
        }
    }
}

/// Nothing accepted is lost, each key's messages are in order, and only what was in flight when a
/// connection ended comes twice.
#[test]
fn nothing_accepted_is_lost_whatever_ends() {
    for seed in 0..400 {
        let mut world = World::new(seed);
        for _ in 0..600 {
            world.step();
        }
        // In the end all of it arrives.
        world.ending = true;
        for step in 0.. {
            if world.outbox.is_empty() {
                break;
            }
            assert!(step < 100_000, "seed {seed}: it does not end");
            world.step();
        }
        let mut first: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        let mut twice = 0;
        for (key, payload) in world.arrived {
            let seen = first.entry(key.clone()).or_default();
            if seen.contains(&payload) {
                twice += 1;
            } else {
                seen.push(payload);
            }
        }
        assert_eq!(first, world.accepted, "seed {seed}");
        assert!(
            twice <= world.twice,
            "seed {seed}: {twice} of {}",
            world.twice
        );
    }
}
