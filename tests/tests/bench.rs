//! The measurement measures: every column forwards, nothing is lost, and what is written is whole.
//! Needs root.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use serde_json::Value;
use towpath_tests::bench::{self, Column, Depth, Programs};
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
        assert_eq!(measured.latency.lost, 0, "{:?}", row.column);
        assert!(rate > 50_000.0, "{:?}: {rate}", row.column);
        // Far below what is reached, far above what a packet by the stack would.
        let of_limit = report.of_limit(measured);
        assert!(row.column != Column::Xdp || of_limit > 0.5, "{of_limit}");
    }
    for cost in &report.costs {
        assert!(cost.ns > 0.0 && cost.nop_ns > 0.0, "{cost:?}");
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
    assert!(read("datapath-rate.svg").starts_with("<svg "));
    assert!(read("datapath-cost.svg").ends_with("</svg>\n"));
}
