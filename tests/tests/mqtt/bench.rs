//! `cargo xtask bench mqtt`, short: everything runs, all that is sent arrives once and in order,
//! and what is written is whole.

use serde_json::Value;
use towpath_tests::bench::mqtt::{self, Depth};

use super::*;

#[test]
fn both_are_measured_and_reported() {
    in_private_network("bench::both_are_measured_and_reported", || {
        let report = mqtt::run(Depth::QUICK, &|_| {})?;
        for row in &report.rows {
            let label = row.column.label;
            let measured = row
                .measured
                .as_ref()
                .unwrap_or_else(|e| panic!("{label}: {e}"));
            assert_eq!(measured.wrong, 0, "{label}");
            assert!(measured.rate() > 500.0, "{label}: {measured:?}");
        }
        for held in &report.held {
            let label = held.system.label();
            let timed = held
                .timed
                .as_ref()
                .unwrap_or_else(|e| panic!("{label}: {e}"));
            // Half a second of 1,000 messages a second.
            assert_eq!((timed.messages, timed.wrong), (500, 0), "{label}");
            assert!(
                0.0 < timed.p50_us && timed.p50_us <= timed.p99_us,
                "{timed:?}"
            );
            let memory = held
                .memory
                .as_ref()
                .unwrap_or_else(|e| panic!("{label}: {e}"));
            assert!(
                memory.start > 0 && memory.warm >= memory.start,
                "{memory:?}"
            );
        }
        let files = directory("bench");
        report.write(files.path())?;
        let read = |name: &str| std::fs::read_to_string(files.path().join(name)).unwrap();
        let document: Value = serde_json::from_str(&read("mqtt.json"))?;
        assert_eq!(document, report.json());
        assert_eq!(document["ratios"][0]["target"], 0.7);
        assert_eq!(document["systems"][0]["latency"]["target"], 2000.0);
        assert_eq!(document["systems"][0]["memory"]["target"], 4 << 20);
        let page = read("mqtt.md");
        for part in ["| QoS 1, Towpath | ", "## Conditions", "| mosquitto | "] {
            assert!(page.contains(part), "{page}");
        }
        Ok(())
    })
    .unwrap();
}
