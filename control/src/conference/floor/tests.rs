use super::*;

const POLICY: Policy = Policy {
    mode: Mode::Fifo,
    holders_max: 1,
    queue_max: 3,
    grant_ttl: None,
    request_ttl: Duration::from_secs(60),
    priority_max: 3,
    preempt: false,
};

/// A floor, and a clock in seconds.
struct Stage {
    floor: Floor,
    began: Instant,
    at_s: u64,
}

impl Stage {
    #[allow(clippy::disallowed_methods, reason = "a base for virtual time")]
    fn new(policy: Policy) -> Self {
        Self {
            floor: Floor::new(policy, Revision::default()),
            began: Instant::now(),
            at_s: 0,
        }
    }

    fn now(&self) -> Now {
        Now {
            at: self.began + Duration::from_secs(self.at_s),
            wall_ms: self.at_s * 1000,
        }
    }

    fn ask(&mut self, pid: &str, priority: u8) -> Result<Changes, Refused> {
        let wish = Wish {
            id: format!("r-{pid}"),
            pid: pid.to_owned(),
            asked_by: None,
            priority,
            text: None,
            chair: pid == "chair",
        };
        let now = self.now();
        self.floor.request(wish, now).map(|(_, changes)| changes)
    }

    fn decide(&mut self, id: &str, decision: Decision) -> Result<Changes, Refused> {
        let now = self.now();
        self.floor.decide(id, decision, "chair", now)
    }

    fn give_up(&mut self, pid: &str) -> Result<Changes, Refused> {
        let now = self.now();
        self.floor.give_up(pid, None, now)
    }

    /// `a|b c?`: who holds it, who waits, who is pending.
    fn shown(&self) -> String {
        let names = |requests: &[Request]| {
            let name = |r: &Request| match r.state {
                State::Pending => format!("{}?", r.pid),
                State::Accepted | State::Granted => r.pid.clone(),
            };
            requests.iter().map(name).collect::<Vec<_>>().join(" ")
        };
        let (holders, queue) = (names(&self.floor.holders), names(&self.floor.queue));
        format!("{holders}|{queue}")
    }
}

#[track_caller]
fn ended(changes: &Changes, expected: &[(&str, &str, &str)]) {
    let ended = changes.ended.iter();
    let ended = ended.map(|end| (&*end.request.pid, end.state.word(), &*end.reason));
    assert_eq!(ended.collect::<Vec<_>>(), expected);
}

#[test]
fn first_come_first_served() {
    let mut stage = Stage::new(POLICY);
    for (pid, shown) in [("a", "a|"), ("b", "a|b"), ("c", "a|b c"), ("a", "a|b c")] {
        stage.ask(pid, 2).unwrap();
        assert_eq!(stage.shown(), shown);
    }
    assert_eq!(stage.floor.position("r-c"), Some(2));
    stage.at_s = 5;
    let changes = stage.give_up("a").unwrap();
    ended(&changes, &[("a", "released", "participant")]);
    assert_eq!(changes.granted, [Duration::from_secs(5)]);
    assert_eq!(stage.shown(), "b|c");
    ended(
        &stage.give_up("c").unwrap(),
        &[("c", "cancelled", "participant")],
    );
    assert_eq!(stage.give_up("c"), Err(Refused::NoSuchRequest));
    assert_eq!(stage.shown(), "b|");
}

#[test]
fn a_full_queue_denies_and_keeps_the_order_of_those_in_it() {
    let mut stage = Stage::new(POLICY);
    for pid in ["a", "b", "c", "d"] {
        stage.ask(pid, 2).unwrap();
    }
    assert_eq!(stage.ask("e", 4), Err(Refused::QueueFull));
    assert_eq!(stage.shown(), "a|b c d");
    // Who is in it is told so again.
    assert!(stage.ask("d", 2).unwrap().none());
}

#[test]
fn priorities_go_before_and_are_bounded() {
    let mut stage = Stage::new(POLICY);
    for (pid, priority) in [("a", 2), ("b", 1), ("c", 2), ("d", 4)] {
        stage.ask(pid, priority).unwrap();
    }
    assert_eq!(stage.shown(), "a|d c b");
    assert_eq!(stage.floor.open("d").unwrap().priority, 3);
    stage.floor.reorder("r-b", 1).unwrap();
    assert_eq!(stage.shown(), "a|b d c");
    stage.floor.reorder("r-b", 99).unwrap();
    assert_eq!(stage.shown(), "a|d c b");
    assert!(stage.floor.reorder("r-b", 3).unwrap().none());
    assert_eq!(stage.floor.reorder("r-a", 1), Err(Refused::Granted));
    assert_eq!(stage.floor.reorder("r-x", 1), Err(Refused::NoSuchRequest));
}

#[test]
fn a_higher_priority_takes_the_floor_if_it_may() {
    let mut stage = Stage::new(Policy {
        preempt: true,
        holders_max: 2,
        queue_max: 0,
        ..POLICY
    });
    stage.ask("a", 2).unwrap();
    stage.ask("b", 1).unwrap();
    assert_eq!(stage.ask("c", 1), Err(Refused::QueueFull));
    ended(
        &stage.ask("d", 3).unwrap(),
        &[("b", "revoked", "preempted")],
    );
    ended(
        &stage.ask("e", 3).unwrap(),
        &[("a", "revoked", "preempted")],
    );
    assert_eq!(stage.ask("f", 3), Err(Refused::QueueFull));
    ended(
        &stage.ask("chair", 4).unwrap(),
        &[("e", "revoked", "preempted")],
    );
    assert_eq!(stage.shown(), "d chair|");
}

#[test]
fn a_chair_decides() {
    let mut stage = Stage::new(Policy {
        mode: Mode::Chair,
        ..POLICY
    });
    for pid in ["a", "b", "c"] {
        stage.ask(pid, 2).unwrap();
    }
    assert_eq!(stage.shown(), "|a? b? c?");
    stage.decide("r-b", Decision::Grant).unwrap();
    assert_eq!(stage.shown(), "b|a? c?");
    stage.decide("r-c", Decision::Grant).unwrap();
    assert_eq!(stage.shown(), "b|c a?");
    assert!(stage.decide("r-c", Decision::Grant).unwrap().none());
    assert_eq!(stage.decide("r-b", Decision::Grant), Err(Refused::Granted));
    assert_eq!(stage.decide("r-b", Decision::Deny), Err(Refused::Granted));
    assert_eq!(
        stage.decide("r-a", Decision::Revoke),
        Err(Refused::NotGranted)
    );
    assert_eq!(
        stage.decide("r-x", Decision::Grant),
        Err(Refused::NoSuchRequest)
    );
    let changes = stage.decide("r-b", Decision::Revoke).unwrap();
    ended(&changes, &[("b", "revoked", "chair")]);
    assert_eq!(stage.shown(), "c|a?");
    let changes = stage.decide("r-a", Decision::Deny).unwrap();
    ended(&changes, &[("a", "denied", "chair")]);
    // The chair's own needs no decision.
    stage.ask("chair", 2).unwrap();
    assert_eq!(stage.shown(), "c|chair");
}

#[test]
fn time_ends_what_nobody_does() {
    let mut stage = Stage::new(Policy {
        grant_ttl: Some(Duration::from_secs(90)),
        ..POLICY
    });
    stage.ask("a", 2).unwrap();
    stage.ask("b", 2).unwrap();
    stage.at_s = 59;
    let now = stage.now();
    assert!(stage.floor.expire(now).none());
    assert_eq!(
        stage.floor.next(),
        Some(stage.began + Duration::from_secs(60))
    );
    stage.ask("c", 2).unwrap();
    stage.at_s = 60;
    let now = stage.now();
    ended(&stage.floor.expire(now), &[("b", "denied", "timeout")]);
    stage.at_s = 90;
    let now = stage.now();
    ended(&stage.floor.expire(now), &[("a", "revoked", "timeout")]);
    assert_eq!(stage.shown(), "c|");
    let now = stage.now();
    ended(
        &stage.floor.lose("c", "presence_lost", now),
        &[("c", "revoked", "presence_lost")],
    );
    assert!(stage.floor.lose("c", "presence_lost", now).none());
    assert_eq!(stage.floor.next(), None);
}
