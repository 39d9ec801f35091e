//! What real phones do with each other across the edge: transfer, encrypted media, H.264; and what
//! a scanner does not find.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::time::Duration;

use towpath_tests::clock;
use towpath_tests::demo::config::DOMAIN;
use towpath_tests::lab::{Parts, Role, plan};
use towpath_tests::netns::Namespace;
use towpath_tests::phone::{Codec, Phone, Settings};
use towpath_tests::wav;

use super::stage::{Mode, Stage};

/// Real phones take their time.
const LIMIT: Duration = Duration::from_secs(20);
/// Long enough for a tone to be told from noise.
const LISTEN: Duration = Duration::from_secs(4);

fn parts() -> Parts {
    Parts {
        nat: true,
        c3: true,
        ..Parts::default()
    }
}

/// A baresip that is registered.
fn phone(stage: &Stage, role: Role, user: &str, hz: u32, video: Option<Codec>) -> Phone {
    let ip = if role == Role::C3 {
        plan::EDGE_LAN
    } else {
        plan::EDGE_WAN
    };
    let settings = Settings {
        user: user.to_owned(),
        domain: DOMAIN.to_owned(),
        outbound: Some(format!("sip:{ip}:5060")),
        password: Some("unasked".to_owned()),
        auto_answer: true,
        tone_hz: hz,
        video,
        srtp: video.is_some(),
        ca: None,
    };
    let directory = stage.lab.directory(user).unwrap();
    let namespace = stage.lab.namespace(role).unwrap();
    let phone = Phone::start(namespace, &directory, &settings).unwrap();
    phone.registered(LIMIT).unwrap();
    phone
}

fn uri(user: &str) -> String {
    format!("sip:{user}@{DOMAIN}")
}

/// The last it heard was this tone.
fn hears(stage: &Stage, phone: &Phone, tone: f64) {
    let heard = phone.received_tone_of_last(LISTEN / 2);
    let right = heard.is_some_and(|heard| (heard - tone).abs() <= 10.0);
    assert!(right, "{heard:?}, not {tone}\n{}", stage.towpath.tail());
}

#[test]
fn a_phone_transfers_its_call() {
    let stage = Stage::raise(Mode::Userspace, &parts());
    let boss = phone(&stage, Role::C1, "1001", 440, None);
    let office = phone(&stage, Role::C2, "1002", 660, None);
    let caller = phone(&stage, Role::C3, "1003", 880, None);
    caller.call(&uri("1001"), LIMIT).unwrap();
    boss.established(LIMIT).unwrap();
    for phone in [&boss, &office, &caller] {
        phone.forget_events();
    }
    boss.command("transfer", &uri("1002")).unwrap();
    office.established(LIMIT).unwrap();
    boss.closed(LIMIT).unwrap();
    stage.becomes("calls.now", 1);
    clock::wait_until(clock::now() + LISTEN);
    caller.hangup().unwrap();
    office.closed(LIMIT).unwrap();
    hears(&stage, &office, 880.0);
    hears(&stage, &caller, 660.0);
    stage.becomes("calls.now", 0);
}

#[test]
fn encrypted_audio_and_h264_cross_through_hold_and_resume() {
    let stage = Stage::raise(Mode::Xdp, &parts());
    let video = Some(Codec::H264);
    let caller = phone(&stage, Role::C1, "1001", 440, video);
    let callee = phone(&stage, Role::C3, "1003", 880, video);
    caller.call(&uri("1003"), LIMIT).unwrap();
    callee.established(LIMIT).unwrap();
    for phone in [&caller, &callee] {
        phone.media("audio", LIMIT).unwrap();
        phone.media("video", LIMIT).unwrap();
        phone.forget_events();
    }
    clock::wait_until(clock::now() + LISTEN);
    caller.hangup().unwrap();
    callee.closed(LIMIT).unwrap();
    hears(&stage, &callee, 440.0);
    hears(&stage, &caller, 880.0);
    for phone in [&caller, &callee] {
        phone.forget_events();
    }
    caller.call(&uri("1003"), LIMIT).unwrap();
    callee.established(LIMIT).unwrap();
    caller.hold().unwrap();
    callee.remote_sdp(LIMIT).unwrap();
    callee.forget_events();
    caller.resume().unwrap();
    callee.remote_sdp(LIMIT).unwrap();
    caller.hangup().unwrap();
    callee.closed(LIMIT).unwrap();
    stage.is_empty();
}

/// linphonec on a terminal of its own, which it insists on.
struct Linphone {
    child: Child,
    keys: ChildStdin,
}

impl Linphone {
    fn start(namespace: &Namespace, directory: &Path, hz: f64) -> Self {
        for needed in [".local/share/linphone", ".config/linphone"] {
            fs::create_dir_all(directory.join(needed)).unwrap();
        }
        wav::write_tone(&directory.join("tone.wav"), hz, LIMIT * 6).unwrap();
        fs::write(
            directory.join("rc"),
            "[sip]\nsip_port=5060\nguess_hostname=1\n",
        )
        .unwrap();
        let mut child = namespace
            .command("script")
            .unwrap()
            .args(["-qfc", "linphonec -c rc -a -d 3 -l linphone.log", "screen"])
            .env("HOME", directory)
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("script");
        let keys = child.stdin.take().unwrap();
        Self { child, keys }
    }

    fn types(&mut self, line: &str) {
        self.keys.write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

impl Drop for Linphone {
    fn drop(&mut self) {
        // Without its terminal it ends as well.
        self.keys.write_all(b"quit\n").ok();
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn linphone_registers_calls_and_is_called() {
    let stage = Stage::raise(Mode::Userspace, &parts());
    let other = phone(&stage, Role::C1, "1001", 440, None);
    let directory = stage.lab.directory("linphone").unwrap();
    let namespace = stage.lab.namespace(Role::C3).unwrap();
    let mut linphone = Linphone::start(namespace, &directory, 660.0);
    let edge = plan::EDGE_LAN;
    linphone.types("soundcard use files");
    linphone.types(&format!("play {}", directory.join("tone.wav").display()));
    linphone.types(&format!("register sip:1003@{edge} sip:{edge} unasked"));
    stage.becomes("registrations", 2);
    // It answers by itself.
    other.call(&uri("1003"), LIMIT).unwrap();
    clock::wait_until(clock::now() + LISTEN);
    other.hangup().unwrap();
    stage.becomes("calls.now", 0);
    hears(&stage, &other, 660.0);
    other.forget_events();
    linphone.types(&format!("call sip:1001@{edge}"));
    other.established(LIMIT).unwrap();
    stage.becomes("calls.now", 1);
    linphone.types("terminate");
    other.closed(LIMIT).unwrap();
    stage.is_empty();
}

#[test]
fn a_scanner_finds_nobody() {
    let stage = Stage::raise(
        Mode::Userspace,
        &Parts {
            attacker: true,
            ..Parts::default()
        },
    );
    let attacker = stage.lab.namespace(Role::Attacker).unwrap();
    let ip = plan::ip(plan::EDGE_WAN);
    let output = attacker
        .command("svmap")
        .unwrap()
        .args(["--randomize", ip])
        .env("HOME", stage.lab.directory("svmap").unwrap())
        .output()
        .unwrap();
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    assert!(!told.contains(&format!("{ip}:5060")), "{told}");
    assert!(stage.counted("sip_dropped.scanner") > 0, "{told}");
}
