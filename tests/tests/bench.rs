//! The measurement measures: every column forwards, nothing is lost, and what is written is whole.
//! Needs root.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use serde_json::Value;
use towpath_tests::bench::sip::api;
use towpath_tests::bench::{self, Column, Depth, LOADS, Programs};
use towpath_tests::netns::stale;
use towpath_tests::process;
use towpath_tests::scratch::Scratch;

#[test]
fn every_column_forwards_and_is_reported() {
    let relay = process::object().unwrap();
    let programs = Programs {
        towpath: process::binary().unwrap(),
        bench: relay.with_file_name("yardstick"),
        relay,
    };
    let report = bench::run(&programs, Depth::KERNEL, &|_| {}).unwrap();
    assert_eq!(report.rows.len(), 5);
    for row in &report.rows {
        let measured = row.measured.as_ref().unwrap_or_else(|e| panic!("{e}"));
        let (rate, lost) = (measured.rate(), measured.lost);
        assert_eq!(lost, 0, "{:?}", row.column);
        // A machine that does other things as well takes its time, or the whole core for a while.
        let latency = measured.latency;
        assert!(
            latency.lost * 4 < latency.packets,
            "{:?}: {latency:?}",
            row.column
        );
        assert!(0 < latency.p50 && latency.p50 <= latency.p99, "{latency:?}");
        assert_eq!(measured.loaded.len(), LOADS.len());
        assert!(measured.sustained.packets > 0);
        assert!(rate > 1_000.0, "{:?}: {rate}", row.column);
    }
    // Far below what is reached, far above what a packet by the stack would; in the round that was
    // disturbed least.
    let rates = |column| {
        let row = report.rows.iter().find(|row| row.column == column);
        row.unwrap().measured.as_ref().unwrap().rates.clone()
    };
    let limit = rates(Column::Redirect);
    let shares = rates(Column::Xdp)
        .into_iter()
        .zip(limit)
        .map(|(xdp, limit)| xdp / limit);
    let best = shares.fold(0.0, f64::max);
    assert!(best > 0.5, "{best}");
    for cost in &report.costs {
        assert!(cost.nop_ns > 0.0, "{cost:?}");
        assert_eq!(cost.floor_ns.is_some(), !cost.v6 && !cost.measured);
    }
    // 100,000 flows, ports included, on two CPUs.
    let memory = &report.memory;
    if memory.cpus == 2 {
        assert!(memory.bytes() < 64 << 20, "{memory:?}");
    }

    let files = Scratch::create(&stale::unique_name()).unwrap();
    report.write(files.path()).unwrap();
    let read = |name: &str| std::fs::read_to_string(files.path().join(name)).unwrap();
    let document: Value = serde_json::from_str(&read("datapath.json")).unwrap();
    assert_eq!(document, report.json());
    assert_eq!(document["columns"][1]["name"], "towpath-xdp");
    assert_eq!(document["columns"][0]["of_limit"], 1.0);
    assert!(read("datapath.md").contains("| Towpath, XDP | "));
    let goals = document["goals"].as_array().unwrap();
    assert_eq!(goals.len(), 11);
    let measured = goals.iter().filter(|goal| !goal["measured"].is_null());
    assert_eq!(
        measured.count(),
        9,
        "all but rtpengine's and 65,536 flows': {goals:#?}"
    );
    assert!(read("datapath-rate.svg").starts_with("<svg "));
    assert!(read("datapath-cost.svg").ends_with("</svg>\n"));
}

/// Calls are set up and stand, every path is asked meanwhile, and what is written is whole.
#[test]
fn the_api_is_asked_while_calls_are_set_up() {
    let programs = Programs {
        towpath: process::binary().unwrap(),
        // Neither is loaded: the data path is userspace.
        bench: Default::default(),
        relay: Default::default(),
    };
    let report = api::run(&programs, api::Depth::QUICK, &|_| {}).unwrap();
    assert_eq!((report.calls, report.with_media), (200, 200));
    assert_eq!(report.answers.len(), api::PATHS.len() + 1);
    for (path, answers) in &report.answers {
        assert!(answers.count > 0, "{path}");
        assert!(answers.p50 <= answers.p99 && answers.p99 <= answers.longest);
    }
    assert_eq!(report.scrapes.len(), 3);
    for scrape in &report.scrapes {
        assert!(
            (100..api::SERIES_MAX).contains(&scrape.series),
            "{scrape:?}"
        );
    }
    let files = Scratch::create(&stale::unique_name()).unwrap();
    report.write(files.path()).unwrap();
    let read = |name: &str| std::fs::read_to_string(files.path().join(name)).unwrap();
    let document: Value = serde_json::from_str(&read("api.json")).unwrap();
    assert_eq!(document, report.json());
    let goals = document["goals"].as_array().unwrap();
    let names: Vec<&str> = goals
        .iter()
        .map(|goal| goal["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "ms for 99 of 100 answers",
            "series in a scrape",
            "% of a processor for top"
        ]
    );
    assert_eq!(goals[1]["reached"], true, "{goals:#?}");
    assert!(read("api.md").contains("| `/metrics` | "));
}
