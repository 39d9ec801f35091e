//! The MQTT edge: what it does, packet by packet, beside mosquitto; and clients that others wrote.

#![allow(clippy::panic, reason = "helpers of tests fail the test")]
#![allow(
    clippy::indexing_slicing,
    reason = "an index that is wrong fails the test"
)]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use towpath_tests::mqtt::broker::Broker;
use towpath_tests::mqtt::script;
use towpath_tests::private::in_private_network;
use towpath_tests::scratch::Scratch;

#[path = "mqtt/bench.rs"]
mod bench;
#[path = "mqtt/clients.rs"]
mod clients;
#[path = "mqtt/identity.rs"]
mod identity;

/// Where the brokers of a test's private network listen.
const OURS: u16 = 1883;
const THEIRS: u16 = 1893;

/// Plays that are on stage together: most of them only wait.
const STAGES: usize = 12;

fn directory(test: &str) -> Scratch {
    Scratch::create(&format!("towpath-mqtt-{test}-{}", std::process::id())).unwrap()
}

/// Name, version and script of each.
fn plays() -> Vec<(String, char, String)> {
    let mut plays = Vec::new();
    let text = include_str!("../vectors/mqtt/plays.txt");
    for play in text.split("\n== ").skip(1) {
        let (title, script) = play.split_once('\n').unwrap();
        let (name, versions) = versions(title);
        let lines = script.lines().filter(|line| !line.starts_with('#'));
        let script = lines.collect::<Vec<_>>().join("\n");
        plays.extend(versions.map(|v| (name.to_owned(), v, script.clone())));
    }
    plays
}

/// Those that are known not to end as with mosquitto.
fn known() -> BTreeSet<String> {
    let text = include_str!("../vectors/mqtt/differences.txt");
    let lines = text
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'));
    let mut known = BTreeSet::new();
    for line in lines {
        let (title, reason) = line.split_once("): ").unwrap();
        assert!(!reason.is_empty(), "{line}");
        let (name, versions) = versions(title);
        known.extend(versions.map(|v| format!("{name} ({v})")));
    }
    known
}

/// `name (45)`
fn versions(title: &str) -> (&str, impl Iterator<Item = char>) {
    let (name, versions) = title.rsplit_once(" (").unwrap();
    (name, versions.trim_end_matches(')').chars())
}

#[test]
fn every_play_ends_as_with_mosquitto() {
    in_private_network("every_play_ends_as_with_mosquitto", || {
        let directory = directory("plays");
        let theirs = Broker::mosquitto(directory.path(), THEIRS, "")?;
        let ours = Broker::towpath(directory.path(), OURS, "topics = [\"#\"]", "")?;
        let (plays, known) = (plays(), known());
        let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..STAGES {
                scope.spawn(|| {
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some((name, version, text)) = plays.get(at) else {
                            return;
                        };
                        let prefix = format!("p{at}");
                        let play = |broker: &Broker| {
                            let v5 = *version == '5';
                            let seen = script::play(broker.address, v5, &prefix, text);
                            seen.unwrap_or_else(|e| vec![format!("{e:#}")]).join("\n")
                        };
                        let (ours, theirs) = (play(&ours), play(&theirs));
                        let full = format!("{name} ({version})");
                        let expected = !known.contains(&full);
                        if (ours == theirs) != expected {
                            let report =
                                format!("== {full}\n-- ours\n{ours}\n-- mosquitto\n{theirs}\n");
                            wrong.lock().unwrap().push(report);
                        }
                    }
                });
            }
        });
        assert!(plays.len() >= 150, "{} plays", plays.len());
        let wrong = wrong.into_inner().unwrap();
        anyhow::ensure!(
            wrong.is_empty(),
            "{} of {}:\n{}",
            wrong.len(),
            plays.len(),
            wrong.join("\n")
        );
        Ok(())
    })
    .unwrap();
}
