//! Where every column is measured: callers, the edge and what is called, each a host of its own.
//!
//! ```text
//! source a1 ── a0 relay b0 ── b1 sink
//! ```

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::netns::{Namespace, stale};
use crate::scratch::Scratch;

pub(super) const SOURCE: &str = "10.81.1.2";
pub(super) const RELAY_IN: &str = "10.81.1.1";
pub(super) const RELAY_OUT: &str = "10.81.2.1";
pub(super) const SINK: &str = "10.81.2.2";
pub(super) const SIP_PORT: u16 = 5060;

/// The hosts and a directory for everybody's files.
pub(super) struct Site {
    pub(super) source: Namespace,
    pub(super) relay: Namespace,
    pub(super) sink: Namespace,
    files: Scratch,
}

impl Site {
    pub(super) fn lay() -> Result<Self> {
        let name = stale::unique_name();
        let [source, relay, sink] =
            ["source", "relay", "sink"].map(|host| Namespace::create(&format!("{name}-{host}")));
        let (source, relay, sink) = (source?, relay?, sink?);
        relay.veth("a0", &source, "a1")?;
        relay.veth("b0", &sink, "b1")?;
        relay.ip(&format!(
            "addr add {RELAY_IN}/24 dev a0\naddr add {RELAY_OUT}/24 dev b0"
        ))?;
        source.ip(&format!(
            "addr add {SOURCE}/24 dev a1\nroute add default via {RELAY_IN}"
        ))?;
        sink.ip(&format!(
            "addr add {SINK}/24 dev b1\nroute add default via {RELAY_OUT}"
        ))?;
        Ok(Self {
            source,
            relay,
            sink,
            files: Scratch::create(&name)?,
        })
    }

    pub(super) fn files(&self) -> &Path {
        self.files.path()
    }

    /// What the processes of the edge have taken until now.
    pub(super) fn processor_time(&self) -> Result<Duration> {
        let mut ticks = 0;
        for id in self.relay.processes()? {
            // One that has just ended took nothing that counts.
            if let Ok(stat) = fs::read_to_string(format!("/proc/{id}/stat")) {
                ticks += user_and_system(&stat).with_context(|| format!("/proc/{id}/stat"))?;
            }
        }
        Ok(Duration::from_millis(ticks * TICK_MS))
    }

    /// What they hold, pages they share counted once.
    pub(super) fn memory_bytes(&self) -> Result<u64> {
        let mut kib = 0;
        for id in self.relay.processes()? {
            let path = format!("/proc/{id}/smaps_rollup");
            let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
            kib += proportional_kib(&text).with_context(|| path.clone())?;
        }
        Ok(kib * 1024)
    }
}

/// `USER_HZ` is 100 on every platform that Debian has.
const TICK_MS: u64 = 10;

/// Of `/proc/PID/stat`: the twelfth and thirteenth field after the name, which may hold spaces.
pub(in crate::bench) fn user_and_system(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(11);
    let user: u64 = times.next()?.parse().ok()?;
    let system: u64 = times.next()?.parse().ok()?;
    Some(user + system)
}

fn proportional_kib(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_counts() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 9 0 0 0 120 34 0 0 20 0 1 0 5 6 7";
        assert_eq!(user_and_system(stat), Some(154));
        assert_eq!(user_and_system("7 (a"), None);
        let rollup =
            "55d-7ff ---p 0 00:00 0 [rollup]\nRss: 40 kB\nPss:     31 kB\nPss_Dirty: 9 kB\n";
        assert_eq!(proportional_kib(rollup), Some(31));
    }
}
