//! A router that rewrites the sources of what it maps: it is found, the line against it is named,
//! and with that line everything is explained otherwise.

use std::path::Path;

use serde_json::Value;
use towpath_tests::clock;
use towpath_tests::lab::{Parts, PortMap, Role, plan};
use towpath_tests::ua::Ua;

use super::stage::{LAN, LIMIT, Mode, Net, Stage};

const PUBLIC: &str = "198.51.100.1";
const ROUTER: &str = "10.1.0.254";
const LINE: &str = "source_rewriting_gateways = [\"10.1.0.254\"]";

/// Whoever comes through the router, at the same card and address as the LAN.
const OUTSIDE: Net = Net {
    name: "outside",
    peers: "0.0.0.0/0",
    ports: (21_000, 21_199),
    more: "advertise = \"198.51.100.1\"\n",
    ..LAN
};

fn raise(mode: Mode) -> Stage {
    let map = PortMap {
        to: plan::EDGE_LAN.parse().unwrap(),
        sip_port: 5060,
        media_ports: OUTSIDE.ports,
        offset: 0,
        rewrite_source: true,
    };
    let parts = Parts {
        c3: true,
        port_map: Some(map),
        ..Parts::default()
    };
    Stage::with(mode, &parts, |config| config.networks = vec![LAN, OUTSIDE])
}

/// Three clients outside, each at an address of its own; not registered.
fn clients(stage: &Stage) -> Vec<Ua> {
    let outside = stage.lab.namespace(Role::Outside).unwrap();
    let more = ["198.51.100.8/24", "198.51.100.9/24"];
    outside.addresses("eth0", &more).unwrap();
    let hosts = [
        ("1007", plan::OUTSIDE),
        ("1008", more[0]),
        ("1009", more[1]),
    ];
    hosts
        .map(|(user, ip)| stage.ua(Role::Outside, user, plan::ip(ip), PUBLIC))
        .into()
}

fn get(stage: &Stage, path: &str) -> Value {
    stage.towpath.get(&format!("/api/v1/{path}")).unwrap()
}

/// What `towpath` prints, in one line.
fn told(stage: &Stage, arguments: &[&str]) -> String {
    let edge = stage.lab.namespace(Role::Edge).unwrap();
    let output = stage.towpath.client(edge, arguments).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    eprintln!("$ towpath {}\n{text}", arguments.join(" "));
    assert!(text.lines().all(|l| l.chars().count() <= 80));
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn suspects(stage: &Stage) -> Vec<Value> {
    let networks = get(stage, "networks");
    let networks = networks["networks"].as_array().unwrap().iter();
    let all = networks.flat_map(|n| n["suspected_gateways"].as_array().unwrap());
    all.cloned().collect()
}

/// Waits until so many routers are suspected.
fn suspected(stage: &Stage, number: usize) -> Vec<Value> {
    clock::until(&format!("{number} suspected"), LIMIT, || {
        let found = suspects(stage);
        Ok((found.len() == number).then_some(found))
    })
    .unwrap()
}

/// The configuration with the line of a remedy below the header it names.
fn mended(config: &str, remedy: &Value) -> String {
    let place = remedy["place"].as_str().unwrap();
    let (file, line) = place.rsplit_once(':').unwrap();
    assert_eq!(Path::new(file).file_name().unwrap(), "towpath.toml");
    let header: usize = line.parse().unwrap();
    let mut lines: Vec<&str> = config.lines().collect();
    assert_eq!(lines[header - 1], "[[network]]");
    assert_eq!(lines[header], "name = \"outside\"");
    let new = remedy["lines"].as_array().unwrap().iter();
    let new: Vec<&str> = new.map(|l| l.as_str().unwrap()).collect();
    lines.splice(header..header, new);
    lines.join("\n")
}

/// The decision about a topic in the chain of a registration.
fn decision(stage: &Stage, topic: &str) -> [String; 2] {
    let explained = get(stage, "registrations/1007@towpath.test/explain");
    let steps = explained["bindings"][0]["steps"].as_array().unwrap();
    let step = steps.iter().find(|s| s["topic"] == topic).unwrap();
    ["decision", "rule"].map(|key| step[key].as_str().unwrap().to_owned())
}

fn a_gateway_is_found_and_mended(mode: Mode) {
    let mut stage = raise(mode);
    let clients = clients(&stage);
    for client in &clients[..2] {
        client.register().unwrap();
    }
    // Fewer may be phones that are set up wrongly; and in the LAN private addresses are right.
    let inside = stage.phone(Role::C3, "1003");
    assert_eq!(suspects(&stage), [Value::Null; 0]);
    clients[2].register().unwrap();
    let found = suspected(&stage, 1);
    assert_eq!(found[0]["address"], ROUTER);
    assert_eq!(found[0]["clients"], 3);
    let remedy = found[0]["remedy"].clone();
    assert_eq!(remedy["network"], "outside");
    assert_eq!(remedy["lines"], serde_json::json!([LINE]));
    for command in [&["status"][..], &["network", "list"]] {
        assert!(told(&stage, command).contains(LINE), "{command:?}");
    }
    let prefix = format!("10.1.0.0/24 is the longest prefix that holds {ROUTER}");
    assert_eq!(decision(&stage, "network"), ["lan".to_owned(), prefix]);
    assert_eq!(decision(&stage, "told")[0], "10.1.0.1:5060");

    let config = mended(&stage.config.toml(), &remedy);
    stage.towpath.configure(&config).unwrap();
    stage.restart();
    for ua in clients.iter().chain([&inside]) {
        ua.register().unwrap();
    }
    let rule = format!("{ROUTER} rewrites sources: what comes from there is of this network");
    assert_eq!(decision(&stage, "network"), ["outside".to_owned(), rule]);
    assert_eq!(decision(&stage, "told")[0], "198.51.100.1:5060");
    let answer = told(&stage, &["explain", "reg", "1007@towpath.test"]);
    let outside =
        "It belongs to network outside, so it is told 198.51.100.1 in Contact, Via and SDP.";
    assert!(answer.contains(outside), "{answer}");
    assert!(answer.contains("Its Contact says 198.51.100.7:5060; the packets decide."));

    let call = stage.call(&inside, &clients[0], mode.path());
    stage.carries(&call, 100, mode.path());
    // Ten seconds have two looks: nobody is suspected any more.
    assert_eq!(suspected(&stage, 0), [Value::Null; 0]);
    assert!(!told(&stage, &["status"]).contains("rewrites"));
    let id = get(&stage, "calls")["calls"][0]["id"].to_string();
    let answer = told(&stage, &["explain", "call", &id]);
    assert!(answer.contains("flows go through the kernel."), "{answer}");
    let explained = get(&stage, &format!("calls/{id}/explain"));
    let flows = explained["flows"].as_array().unwrap().iter();
    for flow in flows.filter(|flow| flow["component"] == "rtp") {
        let steps = flow["steps"].as_array().unwrap();
        let path = steps.iter().find(|s| s["topic"] == "path").unwrap();
        let expected = match mode {
            Mode::Xdp => "yes",
            Mode::Userspace => "no, the daemon forwards it",
        };
        assert_eq!(path["decision"], expected, "{flow}");
    }
    let shown = told(&stage, &["call", "show", &id]);
    assert!(shown.contains("told to send to 198.51.100.1:21"), "{shown}");
    let peer = told(&stage, &["explain", "peer", ROUTER]);
    assert!(peer.contains("belongs to network outside"), "{peer}");
    for command in [
        &["call", "list"][..],
        &["reg", "list"],
        &["reg", "show", "1007@towpath.test"],
    ] {
        told(&stage, command);
    }
    call.hang_up();
    stage.is_empty();
}

#[test]
fn a_router_that_rewrites_is_found_and_mended_in_the_kernel() {
    a_gateway_is_found_and_mended(Mode::Xdp);
}

#[test]
fn a_router_that_rewrites_is_found_and_mended_in_userspace() {
    a_gateway_is_found_and_mended(Mode::Userspace);
}
