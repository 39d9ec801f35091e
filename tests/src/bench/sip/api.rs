//! `cargo xtask bench api`: what it costs to be looked at. How soon the API answers while calls are
//! set up; then, with many calls standing, what one scrape weighs and what `top` takes.

mod report;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::{TimeVal, TimeValLike as _};

pub use self::report::Report;
use super::load::{CALLEE, Callee, Load, Running, Work};
use super::server::{Server, System};
use super::site::Site;
use super::{TIMED_PER_S, USERS};
use crate::bench::Programs;
use crate::{clock, http};

/// How thorough.
#[derive(Clone, Copy, Debug)]
pub struct Depth {
    per_s: u32,
    calls: u32,
    scrapes: u32,
    /// How long `top` looks, and nobody before it.
    watched: Duration,
}

impl Depth {
    pub const FULL: Self = Self {
        per_s: TIMED_PER_S,
        calls: 10_000,
        scrapes: 20,
        watched: Duration::from_secs(30),
    };
    /// Shows that everything runs; the numbers say little.
    pub const QUICK: Self = Self {
        per_s: 100,
        calls: 200,
        scrapes: 3,
        watched: Duration::from_secs(2),
    };
}

/// What is asked in turns: what a dashboard, the command line and Prometheus ask.
pub const PATHS: [&str; 12] = [
    "/api/v1/status",
    "/api/v1/top?n=50&sort=bits_per_s&order=desc",
    "/api/v1/history",
    "/api/v1/events?since=0",
    "/api/v1/networks",
    "/api/v1/registrations",
    "/api/v1/conferences",
    "/api/v1/bpf",
    "/api/v1/peers",
    "/api/v1/config",
    "/readyz",
    "/metrics",
];
/// Clients that ask at the same time, and how often each does.
const CLIENTS: usize = 2;
const EVERY: Duration = Duration::from_millis(20);

/// For 99 of 100 answers.
pub const ANSWER_MAX: Duration = Duration::from_millis(50);
/// Of one scrape.
pub const SERIES_MAX: usize = 3_000;
/// Of one processor, for `top` and the daemon's work for it.
pub const TOP_PERCENT_MAX: f64 = 2.0;

/// How long calls stand: longer than everything takes.
const STAND: Duration = Duration::from_secs(300);
/// Each media port is an open file of the daemon; it needs some beside.
const FILES_SPARE: u64 = 1_500;
/// A pair of ports on each side; that of RTCP stays open where both share one.
const FILES_PER_CALL: u64 = 4;

/// How long answers took, from the first octet asked to the last one read.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    pub count: usize,
    pub p50: Duration,
    pub p99: Duration,
    pub longest: Duration,
}

/// One reading of `/metrics`.
#[derive(Clone, Copy, Debug)]
pub struct Scrape {
    pub series: usize,
    pub bytes: usize,
    pub took: Duration,
}

/// Shares of one processor.
#[derive(Clone, Copy, Debug)]
pub struct Watched {
    /// The daemon's, while nobody looks.
    pub idle_percent: f64,
    /// The daemon's, while `top` looks.
    pub daemon_percent: f64,
    /// That of `top` itself.
    pub top_percent: f64,
}

impl Watched {
    /// What it costs that somebody looks.
    #[must_use]
    pub fn cost_percent(&self) -> f64 {
        (self.daemon_percent - self.idle_percent).max(0.0) + self.top_percent
    }
}

/// Measures all of it in one run. `say` is told what is under way.
///
/// # Errors
/// No root, something does not start or answer, or a call fails.
pub fn run(programs: &Programs, depth: Depth, say: &dyn Fn(&str)) -> Result<Report> {
    let conditions = report::conditions()?;
    let site = Site::lay()?;
    let server = Server::start(System::Towpath, Work::Call, USERS, &site, programs)?;
    let Server::Towpath { daemon } = &server else {
        bail!("Towpath was started");
    };
    let _callee = Callee::play(&site, &callee())?;
    let with_media = with_media(depth.calls)?;
    let asked = Asked {
        site: &site,
        socket: daemon.socket(),
        depth,
    };
    say(&format!("{with_media} calls, {} a second", depth.per_s));
    let (answers, loud) = asked.while_set_up(with_media)?;
    let silent = depth.calls.saturating_sub(with_media);
    say(&format!("{silent} more, without media"));
    let rest = asked.start(silent, Streams::None, 2)?;
    rest.stand(silent.into())?;
    ensure!(
        standing(asked.socket)? == u64::from(depth.calls),
        "calls have ended"
    );
    say("scrapes");
    let scrapes = asked.scrapes()?;
    say("nobody looks, then top does");
    let watched = asked.watched(&programs.towpath)?;
    let all = standing(asked.socket)?;
    let retransmitted = loud.outcome()?.retransmitted;
    drop((loud, rest));
    Ok(Report {
        conditions,
        per_s: depth.per_s,
        calls: all,
        with_media: with_media.into(),
        retransmitted,
        answers,
        scrapes,
        watched,
    })
}

/// What a call carries.
#[derive(Clone, Copy)]
enum Streams {
    /// One of sound, RTP and RTCP on one port (RFC 5761).
    Sound,
    /// One that is refused.
    None,
}

/// It takes what it is offered: the port is that of the offer, zero too (RFC 3264 §6).
fn callee() -> String {
    let offer = "<recv request=\"INVITE\" crlf=\"true\">\n    <action><ereg \
                 regexp=\"m=audio ([0-9]+)\" search_in=\"body\" assign_to=\"all,port\"/>\
                 </action>\n  </recv>\n  <Reference variables=\"all\"/>";
    CALLEE
        .replace("<recv request=\"INVITE\" crlf=\"true\"/>", offer)
        .replace("m=audio 7000 ", "m=audio [$port] ")
        .replace("    a=sendrecv\n", "    a=rtcp-mux\n    a=sendrecv\n")
}

/// As many as the daemon's open files allow; the others go without.
fn with_media(calls: u32) -> Result<u32> {
    let (files, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let most = files.saturating_sub(FILES_SPARE) / FILES_PER_CALL;
    // Generators share them evenly.
    let most = u32::try_from(most).unwrap_or(u32::MAX) & !1;
    Ok(calls.min(most))
}

fn standing(socket: &Path) -> Result<u64> {
    let status = http::get(socket, "/api/v1/status")?;
    let now = status.pointer("/calls/now").and_then(|now| now.as_u64());
    now.context("status tells of calls")
}

struct Asked<'a> {
    site: &'a Site,
    socket: &'a Path,
    depth: Depth,
}

impl Asked<'_> {
    fn start(&self, calls: u32, streams: Streams, first: u32) -> Result<Running> {
        let load = Load {
            work: Work::Call,
            per_s: self.depth.per_s,
            operations: calls,
            hold: STAND,
        };
        let scenario = load.work.scenario(load.hold);
        let scenario = match streams {
            Streams::Sound => {
                scenario.replace("    a=sendrecv\n", "    a=rtcp-mux\n    a=sendrecv\n")
            }
            Streams::None => scenario.replace("m=audio 6000 ", "m=audio 0 "),
        };
        load.play(self.site, USERS, &scenario, first)
    }

    /// How long each path's answers took until all calls stood; the last row is all of them.
    fn while_set_up(&self, calls: u32) -> Result<(Vec<(&'static str, Answers)>, Running)> {
        let over = AtomicBool::new(false);
        let running = self.start(calls, Streams::Sound, 0)?;
        let (stood, times) = thread::scope(|scope| -> Result<_> {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|client| {
                    scope.spawn({
                        let over = &over;
                        move || ask(self.socket, client * PATHS.len() / CLIENTS, over)
                    })
                })
                .collect();
            let stood = running.stand(calls.into());
            over.store(true, Ordering::Relaxed);
            let mut times = Vec::new();
            for client in clients {
                times.extend(client.join().ok().context("a client panicked")??);
            }
            Ok((stood, times))
        })?;
        stood?;
        let of = |path: Option<&str>| {
            let times = times
                .iter()
                .filter(|(asked, _)| path.is_none_or(|path| path == *asked));
            answers(times.map(|(_, took)| *took).collect())
        };
        let mut rows: Vec<_> = PATHS.iter().map(|path| (*path, of(Some(path)))).collect();
        rows.push((report::ALL, of(None)));
        Ok((rows, running))
    }

    fn scrapes(&self) -> Result<Vec<Scrape>> {
        let scrape = |_| {
            let start = clock::now();
            let text = http::text(self.socket, "/metrics")?;
            let took = clock::now().saturating_duration_since(start);
            let series = text
                .lines()
                .filter(|line| !line.is_empty() && !line.starts_with('#'));
            Ok(Scrape {
                series: series.count(),
                bytes: text.len(),
                took,
            })
        };
        (0..self.depth.scrapes).map(scrape).collect()
    }

    /// What nobody's and what `top`'s looking costs.
    fn watched(&self, towpath: &Path) -> Result<Watched> {
        let (idle, _) = self.daemon_percent(|| {
            clock::wait_until(clock::now() + self.depth.watched);
            Ok(())
        })?;
        let (daemon, own) = self.daemon_percent(|| self.top(towpath))?;
        Ok(Watched {
            idle_percent: idle,
            daemon_percent: daemon,
            top_percent: own,
        })
    }

    /// `towpath top` for as long, a picture a second.
    fn top(&self, towpath: &Path) -> Result<()> {
        let pictures = self.depth.watched.as_secs().max(2);
        let status = Command::new(towpath)
            .arg("--socket")
            .arg(self.socket)
            .args(["top", "--batch", "--delay", "1"])
            .args(["--iterations", &pictures.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .context("start towpath top")?;
        ensure!(status.success(), "towpath top: {status}");
        Ok(())
    }

    /// The share of a processor the daemon takes meanwhile, and that of processes that ended.
    fn daemon_percent(&self, meanwhile: impl FnOnce() -> Result<()>) -> Result<(f64, f64)> {
        let start = clock::now();
        let (daemon, gone) = (self.site.processor_time()?, ended()?);
        meanwhile()?;
        let took = clock::now().saturating_duration_since(start).as_secs_f64();
        let percent = |spent: Duration| spent.as_secs_f64() / took * 100.0;
        let daemon = self.site.processor_time()?.saturating_sub(daemon);
        Ok((percent(daemon), percent(ended()?.saturating_sub(gone))))
    }
}

/// Processor time of those of our processes that have ended.
fn ended() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let time = |time: TimeVal| {
        let micros = u64::try_from(time.num_microseconds()).unwrap_or(0);
        Duration::from_micros(micros)
    };
    Ok(time(usage.user_time()) + time(usage.system_time()))
}

/// Asks one path after the other, beginning with `first`, until it is over.
fn ask(socket: &Path, first: usize, over: &AtomicBool) -> Result<Vec<(&'static str, Duration)>> {
    let mut times = Vec::new();
    for path in PATHS.iter().cycle().skip(first) {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let start = clock::now();
        http::text(socket, path)?;
        times.push((*path, clock::now().saturating_duration_since(start)));
        clock::wait_until(start + EVERY);
    }
    Ok(times)
}

fn answers(mut times: Vec<Duration>) -> Answers {
    times.sort_unstable();
    let at = |percent: usize| {
        let place = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times.get(place).copied().unwrap_or_default()
    };
    Answers {
        count: times.len(),
        p50: at(50),
        p99: at(99),
        longest: at(100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ninety_nine_of_a_hundred() {
        let times = (1..=200).rev().map(Duration::from_millis).collect();
        let found = answers(times);
        let ms = [found.p50, found.p99, found.longest].map(|time| time.as_millis());
        assert_eq!((found.count, ms), (200, [101, 199, 200]));
        assert_eq!(answers(Vec::new()).longest, Duration::ZERO);
    }

    #[test]
    fn the_callee_takes_what_is_offered() {
        let text = callee();
        for part in ["ereg", "m=audio [$port] ", "a=rtcp-mux"] {
            assert!(text.contains(part), "{part}");
        }
    }
}
