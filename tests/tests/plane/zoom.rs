//! Zoom in, then out, 20 ms apart, over a network that holds each message back by 20 ms on
//! average: the client ends in the state that was asked for last.

use std::time::{Duration, Instant};

use control::bus::moment::Now;
use control::conference::envelope::Command;
use control::conference::floor::Policy;
use control::conference::roster::{Role, Way};
use control::conference::{Conference, From, Names, Steps};
use serde_json::{Value, json};
use towpath_tests::sim::rng::Rng;

const TRIALS: u64 = 20_000;
const GAP: Duration = Duration::from_millis(20);
const JITTER: Duration = Duration::from_millis(20);
const WHO: From<'_> = From {
    pid: "1001",
    name: "1001",
    role: Role::Participant,
    connected: true,
};

/// A client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Manner {
    /// Sequence numbers in commands, revisions of states.
    New,
    /// Neither; what it sends comes over one connection, what it is told may overtake.
    Legacy,
    /// Neither, and nothing is done about it: how it was.
    Ungated,
}

#[test]
fn the_last_word_is_what_is_seen() {
    for manner in [Manner::New, Manner::Legacy] {
        assert_eq!(wrong(manner), 0, "{manner:?}");
    }
    // The same model without any of that is wrong often: the test can fail.
    let wrong = wrong(Manner::Ungated);
    assert!(wrong > TRIALS / 5, "{wrong} of {TRIALS}");
}

/// How many trials end with the first word.
fn wrong(manner: Manner) -> u64 {
    let mut chance = Rng::new(7);
    let trials = (0..TRIALS).filter(|_| trial(manner, &mut chance) != 1.0);
    u64::try_from(trials.count()).unwrap()
}

/// Exponential, so that some are late by a lot.
fn late(chance: &mut Rng) -> Duration {
    let uniform = (chance.below(1 << 30) + 1) as f64 / (1u64 << 30) as f64;
    JITTER.mul_f64(-uniform.ln())
}

/// The zoom a client shows in the end.
#[allow(clippy::disallowed_methods, reason = "a base for virtual time")]
fn trial(manner: Manner, chance: &mut Rng) -> f64 {
    let began = Instant::now();
    let now = |at: Duration| Now {
        at: began + at,
        wall_ms: 0,
    };
    let mut conference = conference(now(Duration::ZERO));
    let mut commands: Vec<(Duration, Command)> = [(1, 2.0, "zoom_in"), (2, 1.0, "zoom_out")]
        .into_iter()
        .map(|(n, zoom, word)| (GAP * (n - 1) + late(chance), command(manner, n, zoom, word)))
        .collect();
    if manner == Manner::Legacy {
        // One connection: nothing overtakes.
        commands[1].0 = commands[1].0.max(commands[0].0);
    }
    commands.sort_by_key(|(at, _)| *at);
    let mut states = Vec::new();
    for (at, command) in &commands {
        let mut steps = Steps::default();
        conference.command(WHO, command, now(*at), &mut steps);
        arrive(&steps, *at, chance, &mut states);
    }
    if manner != Manner::Ungated {
        while let Some(at) = conference
            .next()
            .filter(|at| *at < began + Duration::from_secs(5))
        {
            let at = at - began;
            let mut steps = Steps::default();
            conference.expire(now(at), &mut steps);
            arrive(&steps, at, chance, &mut states);
        }
    }
    states.sort_by_key(|(at, _)| *at);
    shown(manner, &states)
}

/// What the client shows after all that came to it.
fn shown(manner: Manner, states: &[(Duration, Value)]) -> f64 {
    let revision = |state: &Value| (state["epoch"].as_u64(), state["rev"].as_u64());
    let mut shown: Option<&Value> = None;
    for (_, state) in states {
        let newer = shown.is_none_or(|shown| revision(state) > revision(shown));
        if manner != Manner::New || newer {
            shown = Some(state);
        }
    }
    shown.map_or(0.0, |state| state["data"]["zoom"].as_f64().unwrap())
}

fn arrive(steps: &Steps, at: Duration, chance: &mut Rng, states: &mut Vec<(Duration, Value)>) {
    for publication in &steps.publish {
        if publication.topic.ends_with("/view/main") {
            let state = serde_json::from_slice(&publication.payload).unwrap();
            states.push((at + late(chance), state));
        }
    }
}

fn command(manner: Manner, n: u32, zoom: f64, word: &str) -> Command {
    let text = match manner {
        Manner::New => json!({
            "id": format!("c{n}"), "type": "view.set", "cseq": n,
            "data": { "target": { "zoom": zoom } },
        }),
        Manner::Legacy => json!({ "type": word }),
        Manner::Ungated => json!({ "type": "view.set", "data": { "target": { "zoom": zoom } } }),
    };
    Command::read(text.to_string().as_bytes()).unwrap()
}

fn conference(now: Now) -> Conference {
    let names = Names {
        sid: "edge",
        cid: "edge~1",
        uri: "8001",
    };
    let floors: [(String, Policy); 0] = [];
    let mut steps = Steps::default();
    let mut conference = Conference::start(names, true, &floors, now, &mut steps);
    let who = (WHO.pid, WHO.name);
    assert!(conference.join(who, WHO.role, Way::Bus, None, now, &mut steps));
    conference
}
