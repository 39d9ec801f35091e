//! The host itself: files, memory, disks, time.

use std::time::Duration;

use super::{Config, Facts, Verdict};

pub(super) fn config(_: &Config, facts: &Facts) -> Verdict {
    let file = &facts.config;
    let name = file.path.as_ref().map(|path| path.display().to_string());
    let Some(name) = name else {
        return Verdict::warn("There is no configuration file: what init would write is judged.")
            .fix(["towpath init /etc/towpath/towpath.toml".to_owned()]);
    };
    if !file.problems.is_empty() {
        return Verdict::fail("The daemon will not start with this file, nor reload it.")
            .seen(file.problems.clone())
            .fix([format!("towpath check {name}")]);
    }
    let drift = file.running.as_ref().map(|running| &running.drift);
    match drift {
        Some(drift) if !drift.is_empty() => {
            Verdict::warn("What runs is not what the file says: the next start changes it.")
                .seen(drift.clone())
                .fix([
                    format!("towpath config diff {name}"),
                    format!("towpath config apply {name}"),
                ])
        }
        Some(_) => Verdict::pass("The file is valid, and it is what runs.").seen([name]),
        None => Verdict::pass("The file is valid; no daemon runs.").seen([name]),
    }
}

pub(super) fn container(_: &Config, facts: &Facts) -> Verdict {
    let Some(container) = &facts.host.container else {
        return Verdict::pass("Not in a container.");
    };
    let evidence = [format!("container: {}", container.kind)];
    let mut real = facts.links.iter().filter(|link| !link.loopback).peekable();
    let paired = real.peek().is_some() && real.all(|link| link.kind.as_deref() == Some("veth"));
    match (paired, container.own_network) {
        (true, Some(true)) => Verdict::warn(
            "In a container with a network of its own every packet is translated on its way: \
             addresses and ports are not those of the host.",
        )
        .fix(["docker run --network host …".to_owned()]),
        (true, None) => {
            Verdict::unknown("In a container; whether this is its network cannot be told.")
        }
        (false, _) => Verdict::pass("In a container that sees the host's interfaces."),
        (true, Some(false)) => Verdict::pass("In a network that was made in the container."),
    }
    .seen(evidence)
}

/// An offset that certificates, registrations and logs do not mind.
const OFFSET_MAX: Duration = Duration::from_millis(500);

pub(super) fn clock(_: &Config, facts: &Facts) -> Verdict {
    let clock = &facts.clock;
    let by = clock.by.unwrap_or("nobody");
    let offset = clock.offset.map(|offset| format!("offset {offset:?}"));
    let evidence = [Some(format!("asked: {by}")), offset];
    let evidence = evidence.into_iter().flatten();
    let fix = [
        "apt install chrony".to_owned(),
        "chronyc makestep".to_owned(),
    ];
    match clock.synchronised {
        None => Verdict::unknown("Nobody here could say whether the clock is synchronised."),
        Some(false) => Verdict::warn(
            "The clock follows no time server: certificates, registrations and the logs of two \
             nodes will disagree.",
        )
        .fix(fix),
        Some(true) if clock.offset.is_some_and(|offset| offset > OFFSET_MAX) => {
            Verdict::warn("The clock is off by more than half a second.").fix(fix)
        }
        Some(true) => Verdict::pass("The clock follows a time server."),
    }
    .seen(evidence)
}

/// The store and its journal at their largest, twice.
const FREE_MIN: u64 = 64 * 1024 * 1024;
const FREE_WARN: u64 = 512 * 1024 * 1024;
const FILES_FREE_MIN: u64 = 64;

pub(super) fn disk(_: &Config, facts: &Facts) -> Verdict {
    let mut evidence = Vec::new();
    let (mut full, mut closed, mut narrow) = (Vec::new(), Vec::new(), Vec::new());
    for disk in &facts.host.disks {
        let path = disk.path.display().to_string();
        let (free, size) = (disk.free / MIB, disk.size / MIB);
        let files = disk
            .files_free
            .map_or(String::new(), |n| format!(", {n} inodes free"));
        evidence.push(format!(
            "{} {path}: {free} of {size} MiB free{files}",
            disk.what
        ));
        if !disk.writable {
            closed.push(path);
        } else if disk.free < FREE_MIN || disk.files_free.is_some_and(|n| n < FILES_FREE_MIN) {
            full.push(path);
        } else if disk.free < FREE_WARN && disk.free * 10 < disk.size {
            narrow.push(path);
        }
    }
    if let Some(path) = closed.first() {
        return Verdict::fail(
            "This user may not write there: registrations do not survive a restart.",
        )
        .seen(evidence)
        .fix([
            format!("install -d -o towpath -g towpath {path}"),
            format!("ls -ld {path}"),
        ]);
    }
    if let Some(path) = full.first() {
        return Verdict::fail("The disk is full: registrations will not survive a restart.")
            .seen(evidence)
            .fix([
                format!("df -h {path}"),
                format!("du -xh {path} | sort -h | tail"),
            ]);
    }
    if let Some(path) = narrow.first() {
        return Verdict::warn("The disk is nearly full.")
            .seen(evidence)
            .fix([format!("df -h {path}")]);
    }
    Verdict::pass("There is room for the store.").seen(evidence)
}

const MIB: u64 = 1024 * 1024;
/// Beside media ports: connections, files, the kernel's objects.
const FILES_SPARE: u64 = 1024;

/// Every media port in use is an open file.
pub(super) fn files(config: &Config, facts: &Facts) -> Verdict {
    let Some((_, hard)) = facts.host.nofile else {
        return Verdict::unknown("The limit of open files cannot be read.");
    };
    let ports = |n: &crate::config::Network| {
        u64::from(n.media_ports.last.saturating_sub(n.media_ports.first)) + 1
    };
    let ports: u64 = config.networks.iter().map(ports).sum();
    let connections = u64::try_from(config.sip.tcp.connections).unwrap_or(u64::MAX);
    let wanted = ports
        .saturating_add(connections)
        .saturating_add(FILES_SPARE);
    let evidence = [
        format!("RLIMIT_NOFILE {hard}"),
        format!("media ports {ports}, connections {connections}"),
    ];
    let fix = [
        "systemctl edit towpath   # [Service] LimitNOFILE=262144".to_owned(),
        "systemctl restart towpath".to_owned(),
    ];
    if hard >= wanted {
        Verdict::pass("Every media port can be open at once.").seen(evidence)
    } else if hard < FILES_SPARE {
        Verdict::fail("Calls will be refused: there are not even files for a few hundred ports.")
            .seen(evidence)
            .fix(fix)
    } else {
        Verdict::warn("Calls will be refused before all media ports are in use.")
            .seen(evidence)
            .fix(fix)
    }
}

/// A flow in the maps and what the daemon keeps of it.
const FLOW_BYTES: u64 = 1024;
const DAEMON_BYTES: u64 = 64 * MIB;

pub(super) fn memory(config: &Config, facts: &Facts) -> Verdict {
    let Some(available) = facts.host.memory_available else {
        return Verdict::unknown("Free memory cannot be read.");
    };
    let limit = facts.host.memory_limit.unwrap_or(u64::MAX);
    let wanted = u64::from(config.datapath.flows_max) * FLOW_BYTES + DAEMON_BYTES;
    let evidence = [
        format!("available {} MiB", available / MIB),
        match facts.host.memory_limit {
            Some(limit) => format!("limit of the group {} MiB", limit / MIB),
            None => "no limit of the group".to_owned(),
        },
        format!(
            "flows = {} takes {} MiB",
            config.datapath.flows_max,
            wanted / MIB
        ),
    ];
    if available.min(limit) >= wanted {
        return Verdict::pass("There is memory for all flows.").seen(evidence);
    }
    Verdict::warn("There is not enough memory for as many flows as are configured.")
        .seen(evidence)
        .fix([
            "free -m".to_owned(),
            "systemctl show towpath -p MemoryMax".to_owned(),
        ])
}
