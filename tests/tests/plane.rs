//! Conferences in virtual time: floors, rosters and views under loss, repetition, reordering,
//! partition and restart.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]
#![allow(
    clippy::indexing_slicing,
    reason = "an index that is wrong fails the test"
)]

#[path = "plane/document.rs"]
mod document;
#[path = "plane/zoom.rs"]
mod zoom;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use towpath_tests::plane::links::Wiring;
use towpath_tests::plane::{Link, World};
use towpath_tests::sim::rng::Rng;

/// Runs of a test; TOWPATH_SEEDS asks for more, `cargo xtask sim` for ten thousand.
const SEEDS: u64 = 200;

#[test]
fn any_seed() {
    let asked = std::env::var("TOWPATH_SEEDS").ok();
    let (first, last) = match asked.as_deref().map(|text| text.split_once("..")) {
        Some(Some((first, last))) => (first.parse().unwrap(), last.parse().unwrap()),
        Some(None) => (0, asked.unwrap().parse().unwrap()),
        None => (0, SEEDS),
    };
    let (mut answers, mut terminals) = (0, 0);
    let mut failed = Vec::new();
    for seed in first..last {
        match catch_unwind(AssertUnwindSafe(|| run(seed))) {
            Ok((some, ended)) => {
                answers += some;
                terminals += ended;
            }
            Err(_) => failed.push(seed),
        }
    }
    assert!(
        failed.is_empty(),
        "TOWPATH_SEEDS=n..n+1 shows one: {failed:?}"
    );
    let runs = last - first;
    assert!(
        answers as u64 > 20 * runs,
        "{answers} answers in {runs} runs"
    );
    assert!(
        terminals > runs,
        "{terminals} requests ended in {runs} runs"
    );
}

/// Two conferences, at home at one server or two and shared by all, each with a chair, two
/// participants and an observer who says nothing, wherever they are. Returned are commands
/// answered and requests ended.
fn run(seed: u64) -> (usize, u64) {
    let mut chance = Rng::new(seed ^ 0x5eed);
    let rough = chance.permille(700);
    let link = Link {
        delay: Duration::from_millis(chance.below(60)),
        jitter: Duration::from_millis(if rough { chance.below(80) } else { 0 }),
        loss: if rough { chance.below(300) } else { 0 },
        duplicates: if rough { chance.below(200) } else { 0 },
    };
    let wiring = Wiring::ALL[usize::try_from(seed % 4).unwrap()];
    let nodes = wiring.nodes().len();
    let mut world = World::wired(seed, link, World::floors(chance.permille(500)), wiring);
    let mut acting = Vec::new();
    for (n, uri) in ["8001", "8002"].into_iter().enumerate() {
        let cid = world.open_at(n % nodes, uri);
        for (at, account) in ["1000", "1001", "1002", "1009"].into_iter().enumerate() {
            let account = format!("{}{}{}", &account[..2], n, &account[3..]);
            let client = world.client_at(at % nodes, &account, &cid);
            let silent = account.ends_with('9');
            world.clients[client].say("conference.join", &serde_json::json!({}));
            world.clients[client].only_repeat = silent;
            world.act(client, true);
            acting.push((client, uri));
        }
    }
    world.run(Duration::from_secs(3));
    for _ in 0..4 + chance.below(8) {
        trouble(&mut world, wiring, &acting, &mut chance);
        world.run(Duration::from_millis(200 + chance.below(6000)));
    }
    world.converge();
    (world.oracle.answers(), world.oracle.terminals)
}

fn trouble(world: &mut World, wiring: Wiring, acting: &[(usize, &str)], chance: &mut Rng) {
    let (client, uri) = chance.pick(acting);
    if !wiring.links().is_empty() && chance.permille(400) {
        let link = chance.pick(wiring.links());
        world.cut(link, Duration::from_millis(chance.below(20_000)));
    }
    match chance.below(10) {
        0 | 1 => {
            let nodes = u64::try_from(wiring.nodes().len()).unwrap();
            world.restart_at(usize::try_from(chance.below(nodes)).unwrap());
        }
        2..=4 => world.disconnect(client),
        // Who was never told of it makes a conference of its own.
        5 | 6 if world.knows(client) => {
            let call = world.call(client, uri);
            world.run(Duration::from_millis(chance.below(4000)));
            world.hang_up(
                client,
                call,
                chance.pick(&["caller", "callee", "media timeout"]),
            );
        }
        // Long enough that grace and waiting times end.
        7 => world.run(Duration::from_secs(chance.below(40))),
        _ => {}
    }
    for (client, _) in acting {
        if chance.permille(700) {
            world.connect(*client);
        }
    }
}

/// A participant whose request waits is thrown off the network for good: the request ends, once,
/// and not before the grace is over.
#[test]
fn presence_is_lost_with_grace() {
    let link = Link {
        delay: Duration::from_millis(5),
        jitter: Duration::ZERO,
        loss: 0,
        duplicates: 0,
    };
    let mut world = World::new(1, link, World::floors(false));
    let cid = world.open("8001");
    let client = world.client("1001", &cid);
    for (kind, data) in [
        ("conference.join", serde_json::json!({})),
        ("floor.request", serde_json::json!({ "fid": "audio" })),
    ] {
        world.clients[client].say(kind, &data);
        world.clients[client].only_repeat = true;
        world.act(client, true);
        world.run(Duration::from_secs(1));
        assert!(world.clients[client].waiting().is_none(), "{kind}");
    }
    world.act(client, false);
    world.disconnect(client);
    world.run(Duration::from_millis(7_900));
    assert_eq!(world.oracle.terminals, 0);
    world.run(Duration::from_millis(200));
    assert_eq!(world.oracle.terminals, 1);
}
