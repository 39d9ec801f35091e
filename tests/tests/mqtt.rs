//! The MQTT edge: what it does, packet by packet, beside mosquitto; and clients that others wrote.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use towpath_tests::mqtt::broker::Broker;
use towpath_tests::mqtt::script;
use towpath_tests::private::in_private_network;
use towpath_tests::scratch::Scratch;

use cases::{CASES, DIFFERENCES};

#[path = "mqtt/cases.rs"]
mod cases;
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

#[test]
fn every_play_ends_as_with_mosquitto() {
    in_private_network("every_play_ends_as_with_mosquitto", || {
        let directory = directory("plays");
        let theirs = Broker::mosquitto(directory.path(), THEIRS, "")?;
        let ours = Broker::towpath(directory.path(), OURS, "topics = [\"#\"]", "")?;
        let mut plays = Vec::new();
        for (name, versions, text) in CASES {
            plays.extend(versions.chars().map(|version| (*name, version, *text)));
        }
        let known: BTreeSet<String> = DIFFERENCES
            .iter()
            .flat_map(|(name, versions, _)| versions.chars().map(move |v| format!("{name} ({v})")))
            .collect();
        let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..STAGES {
                scope.spawn(|| {
                    while let Some((name, version, text)) =
                        plays.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        let prefix = format!("p{}", next.load(Ordering::Relaxed));
                        let prefix = format!("{prefix}v{version}{}", name.len());
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
