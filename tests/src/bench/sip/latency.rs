//! How long a request takes from the caller's wire to the callee's, by the kernel's own times.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::load::quiet;
use super::site::{SINK, SIP_PORT, SOURCE, Site};
use crate::bench::quantile;
use crate::clock;
use crate::netns::Namespace;

const LIMIT: Duration = Duration::from_secs(5);
/// What a capture begins with.
const HEAD_BYTES: usize = 24;
const RECORD_BYTES: usize = 16;
/// The magic number of captures in nanoseconds.
const NANOSECONDS: u32 = 0xa1b2_3c4d;

/// Of INVITE, ACK and BYE.
#[derive(Clone, Copy, Debug, Default)]
pub struct Added {
    pub p50_us: f64,
    pub p99_us: f64,
    pub requests: usize,
    /// Sent and never seen at the other side.
    pub lost: usize,
}

/// Two captures under way.
pub(super) struct Captures([Capture; 2]);

struct Capture {
    child: Child,
    file: PathBuf,
}

impl Captures {
    pub(super) fn start(site: &Site) -> Result<Self> {
        let sent = format!("udp and src host {SOURCE} and dst port {SIP_PORT}");
        let arrived = format!("udp and dst host {SINK} and dst port {SIP_PORT}");
        Ok(Self([
            Capture::start(&site.source, "a1", &sent, site.files().join("sent.pcap"))?,
            Capture::start(
                &site.sink,
                "b1",
                &arrived,
                site.files().join("arrived.pcap"),
            )?,
        ]))
    }

    pub(super) fn finish(self) -> Result<Added> {
        let [sent, arrived] = self.0;
        let (sent, arrived) = (sent.finish()?, arrived.finish()?);
        let mut waits: Vec<f64> = Vec::new();
        let mut lost = 0;
        for (request, left) in &sent {
            match arrived.get(request) {
                Some(came) => waits.push(came.saturating_sub(*left) as f64 / 1000.0),
                None => lost += 1,
            }
        }
        Ok(Added {
            p50_us: quantile(&mut waits, 0.5),
            p99_us: quantile(&mut waits, 0.99),
            requests: waits.len(),
            lost,
        })
    }
}

impl Capture {
    fn start(host: &Namespace, interface: &str, filter: &str, file: PathBuf) -> Result<Self> {
        if file.exists() {
            fs::remove_file(&file)?;
        }
        let mut command = host.command("tcpdump")?;
        command
            .args(["-i", interface, "-s", "0", "-B", "65536", "-U", "-n"])
            .args(["--time-stamp-precision=nano", "-Z", "root", "-w"])
            .arg(&file)
            .arg(filter);
        let directory = file.parent().context("a directory")?.to_owned();
        let mut this = Self {
            child: quiet(&mut command, &directory)?,
            file,
        };
        clock::until("tcpdump to capture", LIMIT, || {
            if let Some(status) = this.child.try_wait()? {
                bail!("tcpdump ended: {status}");
            }
            let bytes = fs::metadata(&this.file).map_or(0, |file| file.len());
            Ok((bytes >= HEAD_BYTES as u64).then_some(()))
        })?;
        Ok(this)
    }

    fn finish(mut self) -> Result<BTreeMap<Request, u64>> {
        kill(
            Pid::from_raw(i32::try_from(self.child.id())?),
            Signal::SIGINT,
        )?;
        clock::until("tcpdump to end", LIMIT, || Ok(self.child.try_wait()?))?;
        requests(&self.file)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        super::load::end(&mut self.child, "tcpdump");
    }
}

/// Method and Call-ID; the first of each counts.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Request(Vec<u8>, Vec<u8>);

fn requests(file: &Path) -> Result<BTreeMap<Request, u64>> {
    let capture = fs::read(file).with_context(|| format!("read {}", file.display()))?;
    let word = |at: usize| -> Option<u32> {
        let bytes = capture.get(at..)?.first_chunk()?;
        Some(u32::from_ne_bytes(*bytes))
    };
    if word(0) != Some(NANOSECONDS) {
        bail!("{}: not a capture in nanoseconds", file.display());
    }
    let mut seen = BTreeMap::new();
    let mut at = HEAD_BYTES;
    while let (Some(s), Some(ns), Some(bytes)) = (word(at), word(at + 4), word(at + 8)) {
        let frame = at + RECORD_BYTES..at + RECORD_BYTES + bytes as usize;
        at = frame.end;
        let Some(request) = capture.get(frame).and_then(request) else {
            continue;
        };
        let time = u64::from(s) * 1_000_000_000 + u64::from(ns);
        seen.entry(request).or_insert(time);
    }
    Ok(seen)
}

/// Ethernet, IPv4 without options, UDP.
const HEADERS_BYTES: usize = 42;

fn request(frame: &[u8]) -> Option<Request> {
    let message = frame.get(HEADERS_BYTES..)?;
    let method = message.split(|byte| *byte == b' ').next()?;
    let wanted: [&[u8]; 3] = [b"INVITE", b"ACK", b"BYE"];
    wanted.contains(&method).then_some(())?;
    let id = message
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(b"Call-ID:"))?;
    Some(Request(method.to_owned(), id.trim_ascii().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_known_by_method_and_call() {
        let frame = |text: &str| [&[0; HEADERS_BYTES], text.as_bytes()].concat();
        let check = |text, expected: Option<(&str, &str)>| {
            let found = request(&frame(text));
            let expected = expected.map(|(m, id)| Request(m.into(), id.into()));
            assert_eq!(found, expected, "{text}");
        };
        check(
            "ACK sip:a SIP/2.0\r\nCall-ID: 1@b\r\n\r\n",
            Some(("ACK", "1@b")),
        );
        check("SIP/2.0 200 OK\r\nCall-ID: 1@b\r\n\r\n", None);
        check("INVITE sip:a SIP/2.0\r\n\r\n", None);
    }
}
