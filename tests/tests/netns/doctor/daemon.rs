//! The same with a daemon: it is asked, and it looks by itself.

use std::fs;

use towpath_tests::lab::Role;
use towpath_tests::process::{self, Towpath};
use towpath_tests::schema;

use super::{CASE, Patient, findings};

const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/api/doctor.schema");

#[test]
fn a_daemon_is_asked_and_looks_by_itself() {
    let patient = Patient::new();
    let edge = patient.lab.namespace(Role::Edge).unwrap();
    let directory = patient.file.parent().unwrap();
    let text = patient.config.toml();
    let binary = process::binary().unwrap();
    let towpath = Towpath::start(edge, &binary, directory, &text).unwrap();

    // Its sockets and programs are ours.
    let socket = towpath.socket().to_str().unwrap().to_owned();
    let with = ["--socket", socket.as_str()];
    let (value, found) = patient.asked(&CASE, &with);
    assert_eq!(found, patient.usual, "{value:#}");
    let attached = value["checks"].as_array().unwrap().iter();
    let mut attached = attached.filter(|check| check["id"] == "xdp.attach");
    assert_eq!(attached.next().unwrap()["status"], "pass");

    // The same by the API, in the shape that is written down.
    let found = towpath.get("/api/v1/doctor").unwrap();
    let schema = fs::read_to_string(SCHEMA).unwrap();
    assert_eq!(schema::differences(&schema, &found), [""; 0]);
    assert_eq!(findings(&found), patient.usual, "{found:#}");

    // What fails is a warning of `status` and a number.
    let warned = |what: &str| {
        let status = towpath.get("/api/v1/status").unwrap();
        status["warnings"].to_string().contains(what)
    };
    let metric = |line: &str| {
        let text = towpath_tests::http::text(towpath.socket(), "/metrics").unwrap();
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    };
    assert!(!warned("fw.nft"));
    metric("towpath_doctor_check_status{check=\"fw.nft\"} 0");
    let shut = "table inet f {\nchain in {\ntype filter hook input priority 0; policy drop;\n}\n}";
    edge.nft(shut).unwrap();
    towpath.get("/api/v1/doctor").unwrap();
    assert!(warned(
        "fw.nft: The firewall stops SIP that arrives in network wan."
    ));
    metric("towpath_doctor_check_status{check=\"fw.nft\"} 2");
    edge.nft("flush ruleset").unwrap();
    towpath.get("/api/v1/doctor").unwrap();
    assert!(!warned("fw.nft"));

    // A file that was changed is not what runs.
    let case = super::Case {
        name: "the file is not what runs",
        config: |config| config.media_timeout = "90s",
        finds: &[("config", "warn")],
        says: "datapath.media_timeout: 1m runs, the file says 90s",
        ..CASE
    };
    patient.broken(&case, &with);
}
