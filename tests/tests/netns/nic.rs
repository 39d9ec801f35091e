//! The network below a call changes, again and again: media is back within two seconds.

use std::time::Duration;

use towpath_tests::lab::{Parts, Role, plan};
use towpath_tests::{clock, http};

use super::soak::whole;
use super::stage::{Mode, Stage};

/// Media has to be back within this.
const BACK: Duration = Duration::from_secs(2);
/// Packets each way that say so.
const HEARD: u64 = 10;

/// What happens to the edge's LAN, and what undoes it.
struct Change {
    name: &'static str,
    does: String,
    undoes: String,
    /// Takes the way to the phone away, and `call list` says so.
    cuts: bool,
}

/// What is told of flows whose way is cut.
const CUT: &str = "no route to the peer";

fn changes() -> Vec<Change> {
    let change = |name, cuts, does: &str, undoes: &str| Change {
        name,
        does: does.to_owned(),
        undoes: undoes.to_owned(),
        cuts,
    };
    let c3 = plan::ip(plan::C3_V4);
    let net = "10.1.0.0/24";
    vec![
        change("link down", true, "link set lan down", "link set lan up"),
        change(
            "MTU",
            false,
            "link set lan mtu 600",
            "link set lan mtu 1500",
        ),
        change(
            "address",
            false,
            "addr add 10.1.0.200/24 dev lan",
            "addr del 10.1.0.200/24 dev lan",
        ),
        change(
            "own address",
            true,
            &format!("addr del {}/24 dev lan", plan::EDGE_LAN),
            &format!("addr add {}/24 dev lan", plan::EDGE_LAN),
        ),
        change(
            "route flap",
            true,
            &format!("route del {net} dev lan"),
            &format!("route add {net} dev lan src {}", plan::EDGE_LAN),
        ),
        change(
            "neighbour lost",
            false,
            &format!("neigh del {c3} dev lan"),
            "link set lan up",
        ),
    ]
}

/// A link that is down, for whatever reason, is told once; so is that it is up again.
#[test]
fn a_link_that_goes_down_is_told() {
    let parts = Parts {
        nat: true,
        c3: true,
        ..Parts::default()
    };
    let stage = Stage::raise(Mode::Userspace, &parts);
    let (edge, switch) = (
        stage.lab.namespace(Role::Edge).unwrap(),
        stage.lab.namespace(Role::Switch).unwrap(),
    );
    let warning = "network lan: lan is down: look at the cable, or `ip link set lan up`";
    // By hand, and the cable.
    for (namespace, link) in [(edge, "lan"), (switch, "lan-edge")] {
        told(&stage, 1);
        namespace.ip(&format!("link set {link} down")).unwrap();
        told(&stage, 0);
        let status = stage.towpath.get("/api/v1/status").unwrap();
        let warnings = status["warnings"].as_array().unwrap();
        assert!(warnings.iter().any(|w| w == warning), "{warnings:?}");
        assert_eq!(status["state"], "degraded");
        namespace.ip(&format!("link set {link} up")).unwrap();
    }
    told(&stage, 1);
    let log = std::fs::read_to_string(stage.towpath.log()).unwrap();
    let lines = |start: &str| {
        let end = format!("{start}{warning}");
        log.lines().filter(|line| line.ends_with(&end)).count()
    };
    assert_eq!((lines(": "), lines("no longer so: ")), (4, 2), "{log}");
}

/// So is an address of ours that is taken away, and that it is back.
#[test]
fn an_address_that_goes_is_told() {
    let parts = Parts {
        c3: true,
        ..Parts::default()
    };
    let stage = Stage::raise(Mode::Userspace, &parts);
    let edge = stage.lab.namespace(Role::Edge).unwrap();
    let warning = format!("network lan: {} is not on lan any more", plan::EDGE_LAN);
    for (does, told) in [("del", true), ("add", false)] {
        let address = format!("addr {does} {}/24 dev lan", plan::EDGE_LAN);
        edge.ip(&address).unwrap();
        clock::until(&address, super::stage::LIMIT, || {
            let status = stage.towpath.get("/api/v1/status")?;
            let warnings = status["warnings"].as_array().into_iter().flatten();
            let is_told = warnings.into_iter().any(|w| *w == *warning);
            Ok((is_told == told).then_some(()))
        })
        .unwrap();
    }
    let log = std::fs::read_to_string(stage.towpath.log()).unwrap();
    let lines = log.lines().filter(|line| line.contains(&warning));
    assert_eq!(lines.count(), 2, "{log}");
}

/// Waits until the metrics say so of the LAN's link.
fn told(stage: &Stage, up: u64) {
    let line = format!("towpath_link_up{{interface=\"lan\"}} {up}\n");
    clock::until(&line, super::stage::LIMIT, || {
        let text = http::text(stage.towpath.socket(), "/metrics")?;
        Ok(text.contains(&line).then_some(()))
    })
    .unwrap();
}

#[test]
fn media_is_back_after_every_change() {
    let times = if whole() { 50 } else { 3 };
    let parts = Parts {
        nat: true,
        c3: true,
        ..Parts::default()
    };
    let stage = Stage::raise(Mode::Xdp, &parts);
    let edge = stage.lab.namespace(Role::Edge).unwrap();
    let (c1, c3) = (stage.phone(Role::C1, "1001"), stage.phone(Role::C3, "1003"));
    let call = stage.call(&c3, &c1, "xdp");
    for change in changes() {
        let talk = call.talk_every(Duration::from_millis(20));
        let mut longest = Duration::ZERO;
        for round in 0..times {
            edge.ip(&change.does).unwrap();
            if change.cuts {
                clock::until(CUT, BACK, || {
                    let is_told = stage.flows(&call).iter().any(|flow| flow.why == CUT);
                    Ok(is_told.then_some(()))
                })
                .unwrap_or_else(|e| panic!("{} {round}: {e:#}", change.name));
            }
            edge.ip(&change.undoes).unwrap();
            let since = clock::now();
            talk.hear(HEARD, BACK).unwrap_or_else(|e| {
                panic!("{} {round}: {e:#}\n{}", change.name, stage.towpath.tail())
            });
            longest = longest.max(since.elapsed());
        }
        let heard = talk.finish().unwrap();
        stage.settled(&call, "xdp");
        eprintln!(
            "{}: {times} times, back after {longest:?}; {heard:?}",
            change.name
        );
    }
}
