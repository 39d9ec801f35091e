//! The kernel path as a document: program, links, the rung every interface stands on, maps,
//! verdicts with their rates.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant, SystemTime};

use common::forward::Reason;
use common::map::ABI;
use serde_json::{Value, json};

use crate::shell::Shell;
use crate::shell::kernel::{Attachment, Fill, Program};

type Counts = [u64; Reason::COUNT as usize];

/// Verdicts as they stood at the last two looks.
#[derive(Default)]
pub(crate) struct Rates {
    before: Option<(Instant, Counts)>,
    last: Option<(Instant, Counts)>,
}

impl Rates {
    pub(crate) fn look(&mut self, now: Instant, counts: Counts) {
        self.before = self.last.replace((now, counts));
    }

    /// Packets a second between the two, by reason.
    fn per_second(&self) -> Counts {
        let (Some((since, before)), Some((now, last))) = (&self.before, &self.last) else {
            return Counts::default();
        };
        let time = now.saturating_duration_since(*since).max(SHORTEST);
        let mut rates = Counts::default();
        for (rate, (before, last)) in rates.iter_mut().zip(before.iter().zip(last)) {
            let more = u128::from(last.saturating_sub(*before)) * 1_000;
            *rate = u64::try_from(more / time.as_millis()).unwrap_or(u64::MAX);
        }
        rates
    }
}

/// Two looks in one millisecond have no rate.
const SHORTEST: Duration = Duration::from_millis(1);

pub(super) fn bpf(shell: &mut Shell, now: SystemTime) -> Value {
    let datapath = &mut shell.datapath;
    let (why, refused, counts) = match &datapath.kernel {
        Ok(kernel) => (
            None,
            kernel.refused().map(ToString::to_string),
            kernel.reasons(),
        ),
        Err(why) => (Some(why.clone()), None, Counts::default()),
    };
    let kernel = datapath.kernel.as_mut().ok();
    let program = kernel.and_then(|kernel| kernel.describe().ok());
    let kernel = datapath.kernel.as_ref().ok();
    let maps = kernel.map(|k| k.fills()).unwrap_or_default();
    let verdicts: Vec<Value> = Reason::ALL
        .iter()
        .zip(std::iter::zip(counts, shell.rates.per_second()))
        .map(|(reason, (packets, per_s))| {
            json!({ "reason": reason.name(), "packets": packets, "per_s": per_s })
        })
        .collect();
    json!({
        "state": if why.is_none() { "on" } else { "off" },
        "why": why,
        "refused": refused,
        "abi": ABI,
        "pin_dir": shell.engine.config().datapath.pin_dir.display().to_string(),
        "program": program.map(|program| described(&program, now)),
        "interfaces": interfaces(shell, why.as_deref()),
        "maps": maps.iter().map(filled).collect::<Vec<_>>(),
        "verdicts": verdicts,
    })
}

fn described(program: &Program, now: SystemTime) -> Value {
    let age = program.loaded_at.and_then(|at| now.duration_since(at).ok());
    json!({
        "id": program.id,
        "tag": format!("{:016x}", program.tag),
        "loaded_s": age.map(|age| age.as_secs()),
        "instructions": program.instructions,
        "verified_instructions": program.verified,
        "machine_bytes": program.bytes,
    })
}

fn filled(fill: &Fill) -> Value {
    json!({
        "name": fill.name,
        "id": fill.id,
        "kind": fill.kind,
        "used": fill.used,
        "capacity": fill.capacity,
        "bytes": fill.bytes,
    })
}

/// Every interface of the configuration, once.
fn interfaces(shell: &Shell, off: Option<&str>) -> Vec<Value> {
    let datapath = &shell.datapath;
    let kernel = datapath.kernel.as_ref().ok();
    let attachments = kernel.map(|k| k.attachments()).unwrap_or_default();
    let native = kernel.is_some_and(|k| k.is_native());
    let devices = fs::read_to_string(DEVICES).unwrap_or_default();
    let counters = counters(&devices);
    let mut names: Vec<&str> = Vec::new();
    for network in &shell.engine.config().networks {
        if !names.contains(&network.interface.as_str()) {
            names.push(&network.interface);
        }
    }
    let interface = |name: &str| {
        let index = datapath.netlink.index_of(name);
        let carrier = index.map(|index| datapath.netlink.carrier(index).0);
        let own = |a: &&Attachment| Some(a.index) == carrier;
        let attachment = attachments.iter().find(own);
        let (rung, why) = rung(attachment.is_some(), native, index.is_some(), off);
        let of = counters.get(name).copied().unwrap_or_default();
        json!({
            "name": name,
            "index": index,
            "rung": rung,
            "why": why,
            "link": attachment.map(|a| a.link),
            "program": attachment.map(|a| a.program),
            "rx_packets": of.rx_packets,
            "rx_bytes": of.rx_bytes,
            "tx_packets": of.tx_packets,
            "tx_bytes": of.tx_bytes,
            "rx_errors": of.rx_errors,
            "rx_dropped": of.rx_dropped,
            "tx_errors": of.tx_errors,
            "tx_dropped": of.tx_dropped,
        })
    };
    names.into_iter().map(interface).collect()
}

/// Where media of an interface is forwarded, and why there.
fn rung(attached: bool, native: bool, there: bool, off: Option<&str>) -> (&'static str, String) {
    match (attached, off) {
        (true, _) if native => ("native", "in the driver".to_owned()),
        (true, _) => (
            "generic",
            "datapath.xdp = \"generic\": for tests".to_owned(),
        ),
        (false, Some(off)) => ("userspace", off.to_owned()),
        (false, None) if !there => ("userspace", "there is no such interface now".to_owned()),
        (false, None) => ("userspace", "the program is not attached to it".to_owned()),
    }
}

/// What the driver took and sent, and could not, of every interface of this network namespace.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Counters {
    rx_bytes: u64,
    rx_packets: u64,
    tx_bytes: u64,
    tx_packets: u64,
    rx_errors: u64,
    rx_dropped: u64,
    tx_errors: u64,
    tx_dropped: u64,
}

/// proc(5).
const DEVICES: &str = "/proc/net/dev";

fn counters(text: &str) -> BTreeMap<&str, Counters> {
    text.lines()
        .filter_map(|line| {
            let (name, numbers) = line.split_once(':')?;
            let numbers = numbers.split_whitespace().map(str::parse::<u64>);
            let numbers: Vec<u64> = numbers.collect::<Result<_, _>>().ok()?;
            let at = |index: usize| numbers.get(index).copied();
            let counters = Counters {
                rx_bytes: at(0)?,
                rx_packets: at(1)?,
                tx_bytes: at(8)?,
                tx_packets: at(9)?,
                rx_errors: at(2)?,
                rx_dropped: at(3)?,
                tx_errors: at(10)?,
                tx_dropped: at(11)?,
            };
            Some((name.trim(), counters))
        })
        .collect()
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "a test needs one instant to count from"
)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_last_two_looks() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let counts = |forwarded| {
            let mut counts = Counts::default();
            counts[Reason::Forwarded as usize] = forwarded;
            counts
        };
        let mut rates = Rates::default();
        for (ms, packets, expected) in [
            (0, 1_000, 0),
            (1_000, 1_500, 500),
            (3_000, 1_700, 100),
            (3_000, 1_701, 1_000),
            (4_000, 0, 0),
        ] {
            rates.look(at(ms), counts(packets));
            assert_eq!(rates.per_second()[0], expected, "at {ms} ms");
        }
    }

    #[test]
    fn what_the_driver_counted_is_read() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes packets errs drop fifo frame \
                    compressed multicast|bytes packets errs drop fifo colls carrier compressed\n  \
                    lan: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n";
        let expected = Counters {
            rx_bytes: 1,
            rx_packets: 2,
            tx_bytes: 9,
            tx_packets: 10,
            rx_errors: 3,
            rx_dropped: 4,
            tx_errors: 11,
            tx_dropped: 12,
        };
        assert_eq!(counters(text), BTreeMap::from([("lan", expected)]));
    }

    #[test]
    fn every_rung_has_its_reason() {
        for (attached, native, there, off, expected) in [
            (true, true, true, None, "native: in the driver"),
            (
                true,
                false,
                true,
                None,
                "generic: datapath.xdp = \"generic\": for tests",
            ),
            (
                false,
                true,
                true,
                None,
                "userspace: the program is not attached to it",
            ),
            (
                false,
                true,
                false,
                None,
                "userspace: there is no such interface now",
            ),
            (false, true, true, Some("no BTF"), "userspace: no BTF"),
        ] {
            let (rung, why) = rung(attached, native, there, off);
            assert_eq!(format!("{rung}: {why}"), expected);
        }
    }
}
