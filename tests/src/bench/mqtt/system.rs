//! Who passes messages on: our edge or mosquitto, as each trial starts it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::bench::sip::user_and_system;
use crate::mqtt::broker::{Broker, MOSQUITTO};
use crate::netns::stale;
use crate::scratch::Scratch;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum System {
    Towpath,
    Mosquitto,
}

/// Both listen where nobody else does: the network is the measurement's own.
const PORT: u16 = 1883;
const OURS: &str = "topics = [\"bench/#\"]";
/// Without these its receivers wait for each other, or lose what they are slow to take.
const THEIRS: &str = "max_inflight_messages 64\nmax_queued_messages 10000\nlog_type error";
/// `USER_HZ` is 100 on every platform that Debian has.
const TICK_MS: u64 = 10;

impl System {
    pub const BOTH: [Self; 2] = [Self::Towpath, Self::Mosquitto];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Towpath => "towpath",
            Self::Mosquitto => "mosquitto",
        }
    }

    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Towpath => "Towpath",
            Self::Mosquitto => "mosquitto",
        }
    }
}

/// A running one; ended on drop.
pub(super) struct Running {
    broker: Broker,
    socket: PathBuf,
    _files: Scratch,
}

impl Running {
    pub(super) fn start(system: System) -> Result<Self> {
        let files = Scratch::create(&stale::unique_name())?;
        let broker = match system {
            System::Towpath => Broker::towpath(files.path(), PORT, OURS, "")?,
            System::Mosquitto => Broker::mosquitto(files.path(), PORT, THEIRS)?,
        };
        Ok(Self {
            broker,
            socket: files.path().join("socket"),
            _files: files,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.broker.address
    }

    /// Of the API; Towpath's alone.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(super) fn resident(&self) -> Result<u64> {
        let status = self.told("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Ok(kib.context("the kernel does not say what is resident")? * 1024)
    }

    pub(super) fn processor_time(&self) -> Result<Duration> {
        let ticks = user_and_system(&self.told("stat")?);
        let ticks = ticks.context("the kernel does not say what it took")?;
        Ok(Duration::from_millis(ticks * TICK_MS))
    }

    fn told(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.broker.id());
        fs::read_to_string(&path).with_context(|| format!("read {path}"))
    }
}

/// What mosquitto says of itself.
pub(super) fn version() -> Result<String> {
    // It says so with its usage, which is no success.
    let output = Command::new(MOSQUITTO)
        .arg("-h")
        .output()
        .with_context(|| format!("{MOSQUITTO}: install Debian's package mosquitto"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
