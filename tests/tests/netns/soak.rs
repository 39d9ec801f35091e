//! The daemon under load for long: killed again and again, and with calls that come and go. Short
//! unless `cargo xtask soak` asks for the whole length.

use std::fs;
use std::time::{Duration, Instant};

use towpath_tests::clock;
use towpath_tests::crowd::{Crowd, Sum};
use towpath_tests::lab::{Parts, Role};
use towpath_tests::ua::{Dialog, Ua};

use super::stage::{LIMIT, Mode, Stage};

/// A packet of every stream in this time.
const EVERY: Duration = Duration::from_millis(200);
/// How long a start may take, as the whole run asks for.
const START_LIMIT: Duration = Duration::from_secs(2);

/// A registration lasts five minutes.
const REGISTER_EVERY: Duration = Duration::from_secs(100);

/// How long calls come and go before anything is counted, at most.
const WARM: Duration = Duration::from_secs(30);

/// How much of a soak is run.
pub(crate) fn whole() -> bool {
    std::env::var_os("TOWPATH_SOAK").is_some_and(|how| how == "whole")
}

pub(crate) fn parts() -> Parts {
    Parts {
        mcu: true,
        c3: true,
        ..Parts::default()
    }
}

/// Calls from the LAN to the core, whose flows are all in the kernel.
pub(crate) fn calls(stage: &Stage, c3: &Ua, mcu: &Ua, number: usize) -> Vec<Dialog> {
    let calls: Vec<Dialog> = (0..number).map(|_| c3.call(mcu).unwrap()).collect();
    // Whoever has not been heard yet is learnt now.
    let crowd = Crowd::start(c3, mcu, &calls, EVERY).unwrap();
    let wanted = number as u64 * 2;
    let mut placed = 0;
    clock::until("every flow in the kernel", LIMIT * 3, || {
        placed = stage.number("flows.kernel");
        Ok((placed >= wanted).then_some(()))
    })
    .unwrap_or_else(|e| panic!("{e:#}: {placed} of {wanted}\n{}", stage.towpath.tail()));
    crowd.finish().unwrap();
    calls
}

/// All that was sent arrived, once.
pub(crate) fn assert_whole(sum: Sum) {
    assert_eq!((sum.received, sum.duplicates), (sum.sent, 0), "{sum:?}");
}

fn wide(stage: &mut super::stage::Config) {
    stage.flows = 8_192;
    stage.media_timeout = "600s";
    for network in &mut stage.networks {
        // Pairs rest after use: many calls a second take many. The networks' addresses differ.
        network.ports = (20_000, 59_999);
    }
}

#[test]
fn killed_again_and_again() {
    let (kills, number) = if whole() { (200, 500) } else { (5, 50) };
    let mut stage = Stage::with(Mode::Xdp, &parts(), wide);
    let (c3, mcu) = (
        stage.phone(Role::C3, "1003"),
        stage.phone(Role::Mcu, "9001"),
    );
    let calls = calls(&stage, &c3, &mcu, number);
    let before = verdicts(&stage);
    let crowd = Crowd::start(&c3, &mcu, &calls, EVERY).unwrap();
    let mut starts: Vec<Duration> = Vec::new();
    for _ in 0..kills {
        crowd.hear(1, LIMIT).unwrap();
        stage.towpath.kill().unwrap();
        let before = clock::now();
        stage.restart();
        starts.push(before.elapsed());
        assert!(stage.known_flows() >= number as u64 * 2);
    }
    crowd.hear(2, LIMIT).unwrap();
    let sum = crowd.finish().unwrap();
    starts.sort_unstable();
    let (median, longest) = (starts[starts.len() / 2], starts[starts.len() - 1]);
    eprintln!(
        "{kills} kills under {} streams: {sum:?}; starts {median:?}, longest {longest:?}",
        sum.streams
    );
    let after = verdicts(&stage);
    let forwarded = after["forwarded"].as_u64().unwrap() - before["forwarded"].as_u64().unwrap();
    assert_eq!(
        forwarded, sum.sent,
        "before {before}, after {after}, {sum:?}"
    );
    assert_whole(sum);
    assert!(longest < START_LIMIT, "{starts:?}");
}

/// What became of packets in the kernel; the counts outlive the daemon.
fn verdicts(stage: &Stage) -> serde_json::Value {
    stage.towpath.get("/api/v1/status").unwrap()["verdicts"].take()
}

/// Memory, descriptors and slots, as the system counts them.
#[derive(Clone, Copy, Debug)]
struct Held {
    rss_kib: u64,
    descriptors: usize,
}

fn held(stage: &Stage) -> Held {
    let id = stage.towpath.id().unwrap();
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let rss = rss.and_then(|rss| rss.split_whitespace().next()?.parse().ok());
    Held {
        rss_kib: rss.unwrap(),
        descriptors: fs::read_dir(format!("/proc/{id}/fd")).unwrap().count(),
    }
}

/// Calls are set up and ended for as long, by several pairs at once; returns how many.
fn churn(stage: &Stage, pairs: &[(Ua, Ua)], time: Duration, a_second: f64) -> u64 {
    let start = clock::now();
    let each = Duration::from_secs_f64(pairs.len() as f64 / a_second);
    let one = |pair: &(Ua, Ua)| -> u64 {
        let (caller, callee) = pair;
        let mut done = 0_u32;
        let mut registered = start;
        while start.elapsed() < time {
            if registered.elapsed() > REGISTER_EVERY {
                registered = clock::now();
                caller.register().unwrap();
                callee.register().unwrap();
            }
            let mut dialog = caller.call(callee).unwrap();
            caller.hang_up(callee, &mut dialog).unwrap();
            done += 1;
            clock::wait_until(start + each * done);
        }
        u64::from(done)
    };
    let total = std::thread::scope(|scope| {
        let threads: Vec<_> = pairs
            .iter()
            .map(|pair| scope.spawn(move || one(pair)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    stage.is_empty();
    total
}

/// Pairs of phones, registered, at addresses of their own in the LAN and the core.
fn pairs(stage: &Stage, number: u8) -> Vec<(Ua, Ua)> {
    let phone = |role: Role, user: String, ip: String, edge: &str| {
        let namespace = stage.lab.namespace(role).unwrap();
        namespace.addresses("eth0", &[&format!("{ip}/24")]).unwrap();
        let ua = stage.ua(role, &user, &ip, edge);
        ua.register().unwrap();
        ua
    };
    let lan = super::stage::LAN.address;
    let core = super::stage::CORE.address;
    (0..number)
        .map(|n| {
            let host = 100 + n;
            (
                phone(Role::C3, format!("20{host}"), format!("10.1.0.{host}"), lan),
                phone(
                    Role::Mcu,
                    format!("30{host}"),
                    format!("10.9.0.{host}"),
                    core,
                ),
            )
        })
        .collect()
}

#[test]
fn calls_that_come_and_go_leave_nothing() {
    let (minutes, a_second, threads) = if whole() {
        (10, 500.0, 16)
    } else {
        (0, 100.0, 4)
    };
    let stage = Stage::with(Mode::Xdp, &parts(), wide);
    let pairs = pairs(&stage, threads);
    let time = Duration::from_secs((minutes * 60).max(4));
    // What the first calls take is kept for the next.
    churn(&stage, &pairs, (time / 4).min(WARM), a_second);
    let (before, start): (Held, Instant) = (held(&stage), clock::now());
    let mut calls = churn(&stage, &pairs, time / 2, a_second);
    let middle = held(&stage);
    calls += churn(&stage, &pairs, time / 2, a_second);
    let after = held(&stage);
    let rate = calls as f64 / start.elapsed().as_secs_f64();
    eprintln!("{calls} calls, {rate:.0} a second; {before:?}, {middle:?}, {after:?}");
    if whole() {
        let least = a_second * 0.95;
        assert!(rate >= least, "{rate} a second, {least} wanted");
        // Everything bounded is full by then; what is left is the allocator's own.
        assert!(
            after.rss_kib <= middle.rss_kib + 2_048,
            "{middle:?} {after:?}"
        );
    }
    // Idle clients of the API may still be on their way out.
    assert!(
        after.descriptors <= before.descriptors + 4,
        "{before:?} {after:?}"
    );
    assert!(
        after.rss_kib < before.rss_kib + before.rss_kib / 4 + 4_096,
        "{before:?} {after:?}"
    );
    let networks = stage.towpath.get("/api/v1/networks").unwrap();
    for network in networks["networks"].as_array().unwrap() {
        assert_eq!(network["pairs_used"], 0, "{network}");
    }
}
