//! Real programs over connections: baresip by TCP and TLS, sipp and sipsak by TCP.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use towpath_tests::clock;
use towpath_tests::demo::config::DOMAIN;
use towpath_tests::lab::{Lab, Parts, Role, plan};
use towpath_tests::phone::{Phone, Settings};
use towpath_tests::pki::Authority;

use super::stage::{LIMIT, Mode, Stage};

/// Long enough for a tone to be told from noise.
const LISTEN: Duration = Duration::from_secs(4);

fn parts() -> Parts {
    Parts {
        nat: true,
        c3: true,
        ..Parts::default()
    }
}

/// A stage that listens for all three transports.
fn stage() -> (Stage, PathBuf) {
    let lab = Lab::raise(&parts()).unwrap();
    let authority = Authority::new(&lab.directory("pki").unwrap()).unwrap();
    let names = [plan::EDGE_WAN, plan::EDGE_LAN, plan::EDGE_CORE];
    let names = names.map(|ip| format!("IP:{ip}")).join(",");
    let issued = authority.issue("edge", &names, 30).unwrap();
    let ca = authority.certificate();
    let stage = Stage::on(lab, Mode::Userspace, |config| {
        config.streams = Some((issued.certificate, issued.key));
    });
    (stage, ca)
}

fn phone(stage: &Stage, role: Role, user: &str, transport: &str, ca: &Path, hz: u32) -> Phone {
    let ip = if role == Role::C3 {
        plan::EDGE_LAN
    } else {
        plan::EDGE_WAN
    };
    let port = if transport == "tls" { 5061 } else { 5060 };
    let namespace = stage.lab.namespace(role).unwrap();
    let directory = stage.lab.directory(&format!("{user}-{transport}")).unwrap();
    let settings = Settings {
        user: user.to_owned(),
        domain: DOMAIN.to_owned(),
        outbound: Some(format!("sip:{ip}:{port};transport={transport}")),
        password: Some("unasked".to_owned()),
        auto_answer: true,
        tone_hz: hz,
        video: None,
        srtp: false,
        ca: Some(ca.to_owned()),
    };
    let phone = Phone::start(namespace, &directory, &settings).unwrap();
    phone.registered(LIMIT).unwrap();
    phone
}

/// Both hear the other's tone.
fn hear(stage: &Stage, caller: &Phone, callee: &Phone, user: &str, tones: [f64; 2]) {
    caller.forget_events();
    callee.forget_events();
    if let Err(e) = caller.call(&format!("sip:{user}@{DOMAIN}"), LIMIT) {
        panic!("{e:#}\n{}", stage.towpath.tail());
    }
    callee.established(LIMIT).unwrap();
    clock::wait_until(clock::now() + LISTEN);
    caller.hangup().unwrap();
    callee.closed(LIMIT).unwrap();
    for (phone, tone) in [(caller, tones[1]), (callee, tones[0])] {
        let heard = phone.received_tone();
        let right = heard.is_some_and(|heard| (heard - tone).abs() <= 10.0);
        assert!(
            right,
            "{heard:?} instead of {tone}\n{}",
            stage.towpath.tail()
        );
    }
    stage.becomes("calls.now", 0);
}

#[test]
fn baresip_calls_from_transport_to_transport() {
    let (stage, ca) = stage();
    let tcp = phone(&stage, Role::C1, "1001", "tcp", &ca, 440);
    let tls = phone(&stage, Role::C2, "1002", "tls", &ca, 660);
    let udp = phone(&stage, Role::C3, "1003", "udp", &ca, 880);
    let registered = stage
        .towpath
        .get("/api/v1/registrations")
        .unwrap()
        .to_string();
    for via in [
        "tcp:203.0.113.10:5060",
        "tls:203.0.113.10:5061",
        "udp:10.1.0.1:5060",
    ] {
        assert!(registered.contains(via), "{via} in {registered}");
    }
    hear(&stage, &tcp, &tls, "1002", [440.0, 660.0]);
    hear(&stage, &tls, &udp, "1003", [660.0, 880.0]);
    hear(&stage, &udp, &tcp, "1001", [880.0, 440.0]);
}

#[test]
fn sipp_and_sipsak_speak_tcp() {
    let (stage, _) = stage();
    let c3 = stage.lab.namespace(Role::C3).unwrap();
    let uri = format!("sip:{}", plan::EDGE_LAN);
    let said = c3.run("sipsak", &["-vv", "-E", "tcp", "-s", &uri]).unwrap();
    assert!(said.contains("200 OK"), "{said}");
    let directory = stage.lab.directory("sipp").unwrap();
    let scenario = directory.join("register.xml");
    fs::write(&scenario, REGISTER).unwrap();
    let edge = format!("{}:5060", plan::EDGE_LAN);
    let arguments = [
        edge.as_str(),
        "-sf",
        scenario.to_str().unwrap(),
        "-t",
        "t1",
        "-i",
        plan::ip(plan::C3_V4),
        "-p",
        "5070",
        "-m",
        "500",
        "-r",
        "250",
        "-nostdin",
    ];
    c3.run("sipp", &arguments).unwrap();
    stage.becomes("registrations", 500);
}

const REGISTER: &str = r#"<?xml version="1.0" encoding="ISO-8859-1" ?>
<scenario name="register">
<send><![CDATA[
REGISTER sip:[remote_ip] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:u[call_number]@[remote_ip]>;tag=[call_number]
To: <sip:u[call_number]@[remote_ip]>
Call-ID: [call_id]
CSeq: 1 REGISTER
Contact: <sip:u[call_number]@[local_ip]:[local_port];transport=tcp>
Max-Forwards: 70
Expires: 600
Content-Length: 0

]]></send>
<recv response="200"></recv>
</scenario>
"#;
