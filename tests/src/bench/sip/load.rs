//! SIPp: registers, calls and answers by scenarios of our own; its built-in ones ignore
//! Record-Route.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::server::DOMAIN;
use super::site::{RELAY_IN, SINK, SIP_PORT, SOURCE, Site};
use crate::clock;
use crate::netns::Namespace;

const SIPP: &str = "/usr/bin/sipp";
/// Processes that share the load; each has one core to itself at best, and a port of its own.
const GENERATORS: u32 = 2;
const FIRST_PORT: u16 = 5070;
/// Transactions that time out do so after 32 s; nobody waits for them here.
const DRAIN: Duration = Duration::from_secs(6);
/// Calls one generator may have open.
const OPEN_MAX: u32 = 60_000;
const BUFFER_BYTES: u32 = 4 << 20;

/// What is asked of the edge.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Work {
    Register,
    /// Answered with a challenge first: two transactions.
    RegisterMd5,
    /// INVITE, 180, 200, ACK, BYE, 200.
    Call,
}

impl Work {
    pub(super) fn is_call(self) -> bool {
        self == Self::Call
    }

    /// The caller's side; `hold` is how long a call stands.
    pub(super) fn scenario(self, hold: Duration) -> String {
        match self {
            Self::Register => include_str!("register.xml").to_owned(),
            Self::RegisterMd5 => include_str!("register-md5.xml").to_owned(),
            Self::Call => include_str!("caller.xml").replace("HOLD", &hold.as_millis().to_string()),
        }
    }
}

/// So many operations at this rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) work: Work,
    pub(super) per_s: u32,
    pub(super) operations: u32,
    pub(super) hold: Duration,
}

/// What became of them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Outcome {
    pub done: u64,
    pub failed: u64,
    pub retransmitted: u64,
    /// Open at this moment.
    pub(super) open: u64,
    pub(super) created: u64,
    /// Of the generator that took longest.
    pub(super) took: Duration,
}

/// Who may register, with the password everybody has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Users(pub(super) u32);

pub(super) const PASSWORD: &str = "benchmark";

impl Users {
    pub(super) fn names(self) -> impl Iterator<Item = String> {
        (0..self.0).map(|n| format!("u{n}"))
    }
}

/// Generators at work; killed on drop.
pub(super) struct Running {
    processes: Vec<Child>,
    statistics: Vec<PathBuf>,
    limit: Duration,
}

impl Load {
    /// Starts the generators. Each takes its share of the users in turn.
    pub(super) fn start(self, site: &Site, users: Users) -> Result<Running> {
        self.play(site, users, &self.work.scenario(self.hold), 0)
    }

    /// The same by another scenario; `first` is the number of the first generator: those that run
    /// at the same time differ.
    pub(super) fn play(self, site: &Site, users: Users, text: &str, first: u32) -> Result<Running> {
        let scenario = site.files().join(format!("scenario-{first}.xml"));
        fs::write(&scenario, text)?;
        let seconds = self.operations.div_ceil(self.per_s.max(1));
        let mut running = Running {
            processes: Vec::new(),
            statistics: Vec::new(),
            limit: self.hold + DRAIN + Duration::from_secs(seconds.into()),
        };
        for number in first..first + GENERATORS {
            let statistics = site.files().join(format!("statistics-{number}.csv"));
            remove(&statistics)?;
            let port = FIRST_PORT + u16::try_from(number)?;
            let mut command = site.source.command(SIPP)?;
            command
                .arg(format!("{RELAY_IN}:{SIP_PORT}"))
                .arg("-sf")
                .arg(&scenario)
                .args(["-i", SOURCE, "-p", &port.to_string()])
                .args(["-r", &(self.per_s / GENERATORS).to_string()])
                .args(["-m", &(self.operations / GENERATORS).to_string()])
                .args(["-l", &OPEN_MAX.to_string()])
                .args(["-buff_size", &BUFFER_BYTES.to_string()])
                .args(["-nostdin", "-trace_stat", "-fd", "1", "-stf"])
                .arg(&statistics);
            if self.work == Work::RegisterMd5 {
                // Credentials name what is asked for (RFC 7616 §3.4.3), not where it is sent.
                command.args(["-auth_uri", DOMAIN]);
            }
            if !self.work.is_call() {
                let list = site.files().join(format!("users-{number}.csv"));
                fs::write(&list, list_of(users, number))?;
                command.arg("-inf").arg(list);
            }
            running.processes.push(quiet(&mut command, site.files())?);
            running.statistics.push(statistics);
        }
        Ok(running)
    }
}

impl Running {
    /// Waits until all are done, or time is up: what is open then has failed.
    pub(super) fn finish(mut self) -> Result<Outcome> {
        let ended = clock::until("the generators to end", self.limit, || {
            for child in &mut self.processes {
                if child.try_wait()?.is_none() {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        });
        let mut outcome = self.outcome()?;
        if ended.is_err() {
            outcome.failed += outcome.open.max(1);
        }
        Ok(outcome)
    }

    /// As of the last second.
    pub(super) fn outcome(&self) -> Result<Outcome> {
        let mut sum = Outcome::default();
        for path in &self.statistics {
            let text = fs::read_to_string(path).unwrap_or_default();
            let one = statistics(&text).with_context(|| {
                format!("{}: not what sipp writes: {text:.300}", path.display())
            })?;
            sum = Outcome {
                done: sum.done + one.done,
                failed: sum.failed + one.failed,
                retransmitted: sum.retransmitted + one.retransmitted,
                open: sum.open + one.open,
                created: sum.created + one.created,
                took: sum.took.max(one.took),
            };
        }
        Ok(sum)
    }

    /// Waits until so many calls stand.
    pub(super) fn stand(&self, calls: u64) -> Result<()> {
        let mut last = Outcome::default();
        let stand = clock::until("calls to stand", self.limit, || {
            // Nothing is written in the first second.
            last = self.outcome().unwrap_or_default();
            ensure!(last.failed == 0, "{} calls failed", last.failed);
            Ok((last.open >= calls).then_some(()))
        });
        stand.with_context(|| format!("{} of {calls} stand", last.open))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.processes {
            end(child, "sipp");
        }
    }
}

pub(super) const CALLEE: &str = include_str!("callee.xml");

/// Answers every call; killed on drop.
pub(super) struct Callee(Child);

impl Callee {
    pub(super) fn start(site: &Site) -> Result<Self> {
        Self::play(site, CALLEE)
    }

    /// The same by another scenario.
    pub(super) fn play(site: &Site, text: &str) -> Result<Self> {
        let scenario = site.files().join("callee.xml");
        fs::write(&scenario, text)?;
        let mut command = site.sink.command(SIPP)?;
        command
            .arg("-sf")
            .arg(&scenario)
            .args(["-i", SINK, "-p", &SIP_PORT.to_string()])
            .args(["-buff_size", &BUFFER_BYTES.to_string()])
            .args(["-deadcall_wait", "0", "-nostdin"]);
        let mut callee = Self(quiet(&mut command, site.files())?);
        clock::until("the callee to listen", DRAIN, || {
            if let Some(status) = callee.0.try_wait()? {
                bail!("sipp ended: {status}");
            }
            Ok(listens(&site.sink)?.then_some(()))
        })?;
        Ok(callee)
    }
}

impl Drop for Callee {
    fn drop(&mut self) {
        end(&mut self.0, "sipp");
    }
}

/// What SIPp says of itself.
pub(super) fn version() -> Result<String> {
    let output = std::process::Command::new(SIPP)
        .arg("-v")
        .output()
        .with_context(|| format!("{SIPP}: install Debian's package sip-tester"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.contains("SIPp"));
    Ok(line
        .unwrap_or_default()
        .trim()
        .trim_end_matches('.')
        .to_owned())
}

/// Whether somebody has SIP's port in a host.
pub(super) fn listens(host: &Namespace) -> Result<bool> {
    let sockets = host.enter(|| fs::read_to_string("/proc/thread-self/net/udp"))??;
    let port = format!(":{SIP_PORT:04X}");
    let mut locals = sockets.lines().filter_map(|l| l.split_whitespace().nth(1));
    Ok(locals.any(|local| local.ends_with(&port)))
}

pub(super) fn end(child: &mut Child, name: &str) {
    // One that has ended is only waited for.
    drop(child.kill());
    if let Err(error) = child.wait() {
        eprintln!("bench: {name}: {error}");
    }
}

pub(super) fn quiet(command: &mut std::process::Command, directory: &Path) -> Result<Child> {
    command
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let program = command.get_program().to_string_lossy().into_owned();
    command.spawn().with_context(|| format!("start {program}"))
}

fn remove(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", file.display()))
        }
        _ => Ok(()),
    }
}

/// Every generator has users of its own: no two register the same at once.
fn list_of(users: Users, generator: u32) -> String {
    let mut list = "SEQUENTIAL\n".to_owned();
    let ours = users.names().skip(generator as usize);
    for name in ours.step_by(GENERATORS as usize) {
        list += &format!("{name};[authentication username={name} password={PASSWORD}]\n");
    }
    list
}

/// The last line of what `-trace_stat` writes, by the names in its first.
fn statistics(text: &str) -> Option<Outcome> {
    let mut lines = text.lines().filter(|line| !line.is_empty());
    let names: Vec<&str> = lines.next()?.split(';').collect();
    let last: Vec<&str> = lines.next_back()?.split(';').collect();
    let field = |name: &str| {
        let place = names.iter().position(|n| *n == name)?;
        last.get(place).copied()
    };
    let number = |name: &str| field(name)?.parse::<u64>().ok();
    Some(Outcome {
        done: number("SuccessfulCall(C)")?,
        failed: number("FailedCall(C)")?,
        retransmitted: number("Retransmissions(C)")?,
        open: number("CurrentCall")?,
        created: number("TotalCallCreated")?,
        took: since_1970(field("CurrentTime")?)?.saturating_sub(since_1970(field("StartTime")?)?),
    })
}

/// Date, time of day, and the same as seconds since 1970.
fn since_1970(text: &str) -> Option<Duration> {
    let seconds: f64 = text.split_whitespace().next_back()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts() {
        let head = "StartTime;CurrentTime;TotalCallCreated;CurrentCall;SuccessfulCall(C);\
                    FailedCall(C);Retransmissions(C);\n";
        let start = "2026-11-22\t22:35:01.4\t1795386901.4";
        let rows = format!(
            "{start};2026-11-22\t22:35:02.4\t1795386902.4;9;9;0;0;0;\n\
             {start};2026-11-22\t22:36:03.9\t1795386963.9;20;3;15;2;7;\n"
        );
        let expected = Outcome {
            done: 15,
            failed: 2,
            retransmitted: 7,
            open: 3,
            created: 20,
            took: Duration::from_millis(62_500),
        };
        let mut found = statistics(&format!("{head}{rows}")).unwrap();
        found.took = Duration::from_millis(found.took.as_millis().try_into().unwrap());
        assert_eq!(found, expected);
        assert_eq!(statistics(head), None);
        assert_eq!(statistics(""), None);
    }

    #[test]
    fn generators_share_the_users() {
        let first = list_of(Users(3), 0);
        assert_eq!(first.lines().count(), 3);
        assert!(first.contains("u2;[authentication username=u2 password="));
        assert!(
            list_of(Users(3), 1)
                .lines()
                .nth(1)
                .is_some_and(|l| l.starts_with("u1;"))
        );
    }
}
