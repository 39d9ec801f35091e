use std::collections::BTreeSet;

use super::*;
use crate::config::check::check as read;

const HANDBOOK: &str = include_str!("../../../docs/doctor.md");

/// Headings of the second level, in order.
fn entries() -> Vec<&'static str> {
    HANDBOOK
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .collect()
}

#[test]
fn every_check_has_its_entry_and_every_entry_a_check() {
    let ids: Vec<&str> = checks().iter().map(|check| check.id).collect();
    assert_eq!(entries(), ids, "docs/doctor.md, in the order of the checks");
    let anchors: BTreeSet<String> = ids.iter().map(|id| anchor(id)).collect();
    assert_eq!(anchors.len(), ids.len(), "anchors differ");
}

#[test]
fn a_check_builds_on_what_comes_before_it() {
    let mut seen = BTreeSet::new();
    for check in checks() {
        for id in check.depends_on {
            let unknown = super::check(id).is_none();
            assert!(!unknown, "{}: there is no {id}", check.id);
        }
        assert!(seen.insert(check.id), "{} is there twice", check.id);
    }
}

pub(super) fn config(text: &str) -> Config {
    let mut none = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
    read("t", text, None, &mut none).unwrap()
}

/// Two networks, as most hosts have them.
pub(super) fn two() -> Config {
    config(
        "[sip]\ndomain = 'example.com'\nlisten = ['udp:0.0.0.0:5060', 'tcp:0.0.0.0:5060']\n\
         [[network]]\nname = 'wan'\ninterface = 'eth0'\naddress = '203.0.113.10'\n\
         peers = ['0.0.0.0/0']\nmedia_ports = '30000-30199'\n\
         [[network]]\nname = 'lan'\ninterface = 'eth1'\naddress = '10.1.0.1'\n\
         peers = ['10.1.0.0/24']\nmedia_ports = '20000-20199'\n",
    )
}

#[test]
fn what_builds_on_a_failure_says_nothing() {
    let facts = Facts::default();
    let found = judge(&two(), &facts, None);
    let status = |id: &str| found.iter().find(|f| f.id == id).map(Finding::status);
    // No interface is there at all.
    assert_eq!(status("net.link"), Some(Status::Fail));
    assert_eq!(status("net.routes"), Some(Status::Skip));
    assert_eq!(status("port.busy"), Some(Status::Skip));
}

#[test]
fn what_could_not_be_read_is_unknown() {
    let mut facts = Facts::default();
    facts
        .missing
        .insert(Source::Nft, "nft is not installed".to_owned());
    let found = judge(&two(), &facts, Some(&BTreeSet::from(["fw.nft", "fw.xt"])));
    let shown: Vec<_> = found.iter().map(|f| (f.id, f.status())).collect();
    assert_eq!(
        shown,
        [("fw.nft", Status::Unknown), ("fw.xt", Status::Pass)]
    );
    assert_eq!(found[0].verdict.evidence, ["nft is not installed"]);
}
