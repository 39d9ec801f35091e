//! `towpath bpf`: what an operator sees of the kernel path while a call goes through it.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use serde_json::Value;
use towpath_tests::lab::{Parts, Role, plan};
use towpath_tests::{clock, process, schema};

use super::stage::{LIMIT, Mode, Stage};

fn parts() -> Parts {
    Parts {
        nat: true,
        c3: true,
        ..Parts::default()
    }
}

fn shown(stage: &Stage, arguments: &[&str]) -> String {
    let edge = stage.lab.namespace(Role::Edge).unwrap();
    let output = stage.towpath.client(edge, arguments).unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_kernel_path_is_shown() {
    let stage = Stage::raise(Mode::Xdp, &parts());
    let (c1, c3) = (stage.phone(Role::C1, "1001"), stage.phone(Role::C3, "1003"));
    let call = stage.call(&c3, &c1, "xdp");
    let document = stage.towpath.get("/api/v1/bpf").unwrap();
    let path = format!("{}/vectors/api/bpf.schema", env!("CARGO_MANIFEST_DIR"));
    let differences = schema::differences(&fs::read_to_string(path).unwrap(), &document);
    assert!(differences.is_empty(), "{differences:#?}\n{document:#}");
    for interface in document["interfaces"].as_array().unwrap() {
        assert_eq!(interface["rung"], "native", "{interface}");
        assert_eq!(interface["program"], document["program"]["id"]);
    }
    let used = |name: &str| {
        let document = stage.towpath.get("/api/v1/bpf").unwrap();
        let maps = document["maps"].as_array().unwrap();
        let map = maps.iter().find(|map| map["name"] == name).unwrap();
        map["used"].as_u64().unwrap()
    };
    let installed = stage.number("flows.kernel");
    assert_eq!(used("PORTS"), installed);
    assert_eq!(used("EGRESS"), 3);

    let talk = call.talk();
    let rate = || {
        let document = stage.towpath.get("/api/v1/bpf").unwrap();
        let verdicts = document["verdicts"].as_array().unwrap();
        let forwarded = verdicts
            .iter()
            .find(|v| v["reason"] == "forwarded")
            .unwrap();
        forwarded["per_s"].as_u64().unwrap()
    };
    // 250 packets a second each way.
    clock::until("a rate", LIMIT, || Ok((rate() > 300).then_some(()))).unwrap();
    talk.finish().unwrap();

    let status = shown(&stage, &["bpf", "status"]);
    assert!(
        status.starts_with("kernel path    on\nprogram        "),
        "{status}"
    );
    assert!(
        status.contains("\nlan        native  in the driver"),
        "{status}"
    );
    let maps = shown(&stage, &["bpf", "maps"]);
    assert!(maps.contains("\nPORTS     array          "), "{maps}");
    let drops = shown(&stage, &["bpf", "drops"]);
    assert!(drops.contains("\nforwarded "), "{drops}");
    let lines = shown(&stage, &["bpf", "maps", "-o", "jsonl"]);
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(first["name"], "SETTINGS");
    call.hang_up();
    clock::until("an empty table", LIMIT, || {
        Ok((used("PORTS") == 0).then_some(()))
    })
    .unwrap();
}

/// A ban is the program's within a second: what a banned phone sends to SIP or to ports of media is
/// dropped and counted, over UDP and TCP; its running call goes on.
#[test]
fn a_banned_source_is_dropped_in_the_driver() {
    let stage = Stage::raise(Mode::Xdp, &parts());
    let (c1, c3) = (stage.phone(Role::C1, "1001"), stage.phone(Role::C3, "1003"));
    let call = stage.call(&c3, &c1, "xdp");
    let document = || stage.towpath.get("/api/v1/bpf").unwrap();
    let bans = || {
        let document = document();
        let mut maps = document["maps"].as_array().unwrap().iter();
        let map = maps.find(|map| map["name"] == "BANS").unwrap();
        map["used"].as_u64().unwrap()
    };
    let dropped = || {
        let document = document();
        let mut verdicts = document["verdicts"].as_array().unwrap().iter();
        let verdict = verdicts.find(|v| v["reason"] == "banned").unwrap();
        verdict["packets"].as_u64().unwrap()
    };
    let become_known = |number| {
        let what = format!("{number} bans in the kernel");
        clock::until(&what, LIMIT, || Ok((bans() == number).then_some(()))).unwrap();
    };
    let (home, own) = (
        stage.lab.namespace(Role::C3).unwrap(),
        plan::ip(plan::C3_V4),
    );
    let edge = |port: u16| SocketAddr::new(plan::EDGE_LAN.parse().unwrap(), port);
    let knock = |port| {
        home.enter(|| {
            let socket = UdpSocket::bind((own, 0)).unwrap();
            (0..10).for_each(|_| assert_eq!(socket.send_to(b"hello", edge(port)).unwrap(), 5));
        })
        .unwrap();
    };
    let connect = || {
        let patience = Duration::from_millis(300);
        let connected = home.enter(|| TcpStream::connect_timeout(&edge(5060), patience));
        connected.unwrap().unwrap_err().kind()
    };
    assert_eq!(connect(), ErrorKind::ConnectionRefused);

    shown(&stage, &["ban", "add", own]);
    become_known(1);
    let heard = stage.counted("sip_dropped.");
    knock(5060);
    knock(20_198);
    // Neither SIP's nor one of media.
    knock(9);
    clock::until("drops", LIMIT, || Ok((dropped() >= 20).then_some(()))).unwrap();
    assert_eq!((dropped(), stage.counted("sip_dropped.")), (20, heard));
    assert_eq!(connect(), ErrorKind::TimedOut);
    assert!(dropped() > 20);
    stage.carries(&call, 100, "xdp");

    shown(&stage, &["ban", "remove", own]);
    become_known(0);
    assert_eq!(connect(), ErrorKind::ConnectionRefused);
    call.hang_up();
}

#[test]
fn without_it_the_reason_is_shown() {
    let stage = Stage::raise(Mode::Userspace, &Parts::default());
    let document = stage.towpath.get("/api/v1/bpf").unwrap();
    assert_eq!(document["state"], "off");
    assert_eq!(document["program"], Value::Null);
    for interface in document["interfaces"].as_array().unwrap() {
        let at = (&interface["rung"], &interface["why"]);
        assert_eq!(at.0, "userspace");
        assert_eq!(at.1, "datapath.mode = \"userspace\"");
    }
    let expected = "the kernel path is off: datapath.mode = \"userspace\"\n";
    assert_eq!(shown(&stage, &["bpf", "maps"]), expected);
}

/// The installed binary tries both paths by itself, and leaves nothing behind.
#[test]
fn the_bench_tries_both_paths() {
    let bench = |arguments: &[&str]| {
        let mut command = std::process::Command::new(process::binary().unwrap());
        let output = command
            .args(["bench", "--seconds", "1", "-o", "json"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let object = process::object().unwrap();
    let document = bench(&["--object", object.to_str().unwrap()]);
    let path = format!("{}/vectors/api/bench.schema", env!("CARGO_MANIFEST_DIR"));
    let differences = schema::differences(&fs::read_to_string(path).unwrap(), &document);
    assert!(differences.is_empty(), "{differences:#?}");
    assert_eq!(document["kernel"]["why"], Value::Null);
    assert_eq!(document["kernel"]["costs"].as_array().unwrap().len(), 5);
    let user = |name: &str| document["user"][name].as_u64().unwrap();
    assert!(
        user("packets") > 0 && user("lost") < user("packets"),
        "{document}"
    );
    // Something else than the program: said, and userspace is tried all the same.
    let other = object.with_file_name("yardstick");
    let document = bench(&["--object", other.to_str().unwrap()]);
    assert_eq!(document["kernel"]["works"], false);
    assert_ne!(document["kernel"]["why"], Value::Null);
}
