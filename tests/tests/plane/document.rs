//! The document for programs says what the code does.

use std::collections::BTreeSet;
use std::time::Duration;

use control::bus::topic::Topic;
use control::conference::commands::COMMANDS;
use control::conference::view::Legacy;
use serde_json::Value;
use towpath_tests::plane::{Link, World};

const DOCUMENT: &str = include_str!("../../../docs/conference.asyncapi.json");
const HANDBOOK: &str = include_str!("../../../docs/conference.md");

fn document() -> Value {
    serde_json::from_str(DOCUMENT).unwrap()
}

fn messages(channel: &str) -> BTreeSet<String> {
    let document = document();
    let messages = document["channels"][channel]["messages"]
        .as_object()
        .unwrap();
    messages.keys().cloned().collect()
}

#[test]
fn every_command_is_in_it_and_in_the_handbook() {
    let (legacy, commands): (BTreeSet<_>, BTreeSet<_>) = messages("command")
        .into_iter()
        .partition(|kind| Legacy::read(kind).is_some());
    let known: BTreeSet<String> = COMMANDS.iter().map(|kind| (*kind).to_owned()).collect();
    assert_eq!(commands, known);
    for kind in commands.union(&legacy) {
        assert!(
            HANDBOOK.contains(&format!("`{kind}`")) || HANDBOOK.contains(kind),
            "{kind}"
        );
    }
}

#[test]
fn every_channel_is_a_topic() {
    let document = document();
    for channel in document["channels"].as_object().unwrap().values() {
        let address = channel["address"].as_str().unwrap();
        let topic = address.replace(['{', '}'], "");
        assert!(Topic::parse(&topic).is_some(), "{address}");
    }
}

/// What a run publishes is in it, and no command in it is unknown.
#[test]
fn what_is_published_is_in_it() {
    let link = Link {
        delay: Duration::from_millis(1),
        jitter: Duration::ZERO,
        loss: 0,
        duplicates: 0,
    };
    let mut world = World::new(3, link, World::floors(false));
    let cid = world.open("8001");
    let client = world.client("1000", &cid);
    let mut commands = messages("command");
    commands.remove("conference.leave");
    for kind in ["conference.join"]
        .into_iter()
        .map(str::to_owned)
        .chain(commands)
    {
        let data = serde_json::json!({ "fid": "audio", "target": {} });
        world.clients[client].say(&kind, &data);
        world.clients[client].only_repeat = true;
        world.act(client, true);
        world.run(Duration::from_secs(1));
        assert!(world.clients[client].waiting().is_none(), "{kind}");
    }
    assert!(
        !world.oracle.codes.contains("unsupported"),
        "{:?}",
        world.oracle.codes
    );
    world.restart();
    let published: BTreeSet<String> = world.oracle.kinds.clone();
    let document = document();
    let all: BTreeSet<String> = document["components"]["messages"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    let unknown: Vec<_> = published.difference(&all).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    assert!(published.len() > 8, "{published:?}");
}
