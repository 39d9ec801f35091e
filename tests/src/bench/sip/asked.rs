//! How soon the API answers while calls are set up.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::load::{Callee, Load, Work};
use super::server::{Server, System};
use super::site::Site;
use super::{TIMED_PER_S, USERS};
use crate::bench::Programs;
use crate::{clock, http};

/// What is asked in turns, and how often: a dashboard, `top` and Prometheus at once.
const PATHS: [&str; 4] = [
    "/api/v1/status",
    "/api/v1/history",
    "/api/v1/events?since=0",
    "/metrics",
];
const EVERY: Duration = Duration::from_millis(20);
/// A process of its own answers at once; the API has to within this time, for 99 of 100.
pub const LIMIT: Duration = Duration::from_millis(50);

/// How long answers took, while so many calls a second were set up.
#[derive(Clone, Debug)]
pub struct Asked {
    pub calls_per_s: u32,
    pub calls: u64,
    pub failed: u64,
    pub answers: usize,
    pub p50: Duration,
    pub p99: Duration,
    pub longest: Duration,
}

/// Asks while calls are set up for so many seconds.
///
/// # Errors
/// No root, or something does not start or answer.
pub fn asked(programs: &Programs, seconds: u32) -> Result<Asked> {
    let site = Site::lay()?;
    let server = Server::start(System::Towpath, Work::Call, USERS, &site, programs)?;
    let Server::Towpath { daemon } = &server else {
        bail!("Towpath was started");
    };
    let _callee = Callee::start(&site)?;
    let load = Load {
        work: Work::Call,
        per_s: TIMED_PER_S,
        operations: TIMED_PER_S * seconds,
        hold: Duration::ZERO,
    };
    let over = AtomicBool::new(false);
    let running = load.start(&site, USERS)?;
    let (outcome, mut times) = thread::scope(|scope| -> Result<_> {
        let socket = daemon.socket();
        let asking = scope.spawn(|| ask(socket, &over));
        let outcome = running.finish();
        over.store(true, Ordering::Relaxed);
        let times = asking.join().ok().context("whoever asked panicked")?;
        Ok((outcome?, times?))
    })?;
    times.sort();
    let at = |percent: usize| {
        let place = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times.get(place).copied().unwrap_or_default()
    };
    Ok(Asked {
        calls_per_s: TIMED_PER_S,
        calls: outcome.done,
        failed: outcome.failed,
        answers: times.len(),
        p50: at(50),
        p99: at(99),
        longest: at(100),
    })
}

fn ask(socket: &Path, over: &AtomicBool) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for path in PATHS.iter().cycle() {
        if over.load(Ordering::Relaxed) {
            return Ok(times);
        }
        let start = clock::now();
        http::text(socket, path)?;
        let took = clock::now().saturating_duration_since(start);
        times.push(took);
        thread::sleep(EVERY.saturating_sub(took));
    }
    Ok(times)
}
