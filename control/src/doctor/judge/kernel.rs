//! What the kernel path needs of the kernel.

use super::{Config, Facts, Verdict};
use crate::config::DatapathMode;

/// The kernel path is not wanted.
pub(super) fn unwanted(config: &Config) -> Option<Verdict> {
    (config.datapath.mode == DatapathMode::Userspace)
        .then(|| Verdict::skip("datapath.mode = \"userspace\": the kernel path is not wanted."))
}

/// Without it there is no daemon, or a slower one.
pub(super) fn missing(config: &Config, what: &str) -> Verdict {
    match config.datapath.mode {
        DatapathMode::Xdp => Verdict::fail(format!(
            "{what}: the daemon will not start (datapath.mode = \"xdp\")."
        )),
        DatapathMode::Auto | DatapathMode::Userspace => {
            Verdict::warn(format!("{what}: media goes through userspace."))
        }
    }
}

/// Bounded loops, links of XDP, ring buffers: all are there.
const RELEASE_MIN: (u32, u32) = (5, 15);

pub(super) fn version(config: &Config, facts: &Facts) -> Verdict {
    if let Some(skip) = unwanted(config) {
        return skip;
    }
    let release = &facts.kernel.release;
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next()?.parse::<u32>().ok();
    let evidence = [format!("Linux {release}")];
    match number().zip(number()) {
        None => Verdict::unknown("The kernel's version cannot be read.").seen(evidence),
        Some(found) if found >= RELEASE_MIN => {
            Verdict::pass("The kernel is new enough.").seen(evidence)
        }
        Some(_) => missing(config, "The kernel is older than 5.15")
            .seen(evidence)
            .fix([
                "apt install linux-image-amd64".to_owned(),
                "reboot".to_owned(),
            ]),
    }
}

pub(super) fn btf(config: &Config, facts: &Facts) -> Verdict {
    if let Some(skip) = unwanted(config) {
        return skip;
    }
    if facts.kernel.btf {
        return Verdict::pass("The kernel describes its types.");
    }
    Verdict::warn("Without its types the kernel cannot say why it dropped a packet.")
        .seen(["/sys/kernel/btf/vmlinux is missing".to_owned()])
        .fix(["grep CONFIG_DEBUG_INFO_BTF /boot/config-$(uname -r)".to_owned()])
}

pub(super) fn jit(config: &Config, facts: &Facts) -> Verdict {
    const KEY: &str = "net/core/bpf_jit_enable";
    if let Some(skip) = unwanted(config) {
        return skip;
    }
    let seen = |value: i64| [format!("net.core.bpf_jit_enable = {value}")];
    match facts.number(KEY) {
        None => Verdict::unknown("Whether BPF is compiled cannot be read."),
        Some(0) => {
            Verdict::warn("The kernel interprets BPF programs: a packet costs several times more.")
                .seen(seen(0))
                .fix([
                    "sysctl -w net.core.bpf_jit_enable=1".to_owned(),
                    "echo net.core.bpf_jit_enable=1 > /etc/sysctl.d/60-towpath.conf".to_owned(),
                ])
        }
        Some(value) => Verdict::pass("The kernel compiles BPF programs.").seen(seen(value)),
    }
}

/// Since this version maps are charged to the memory group instead.
const MEMCG_RELEASE: &str = "5.11";
const MEMLOCK_MIN: u64 = 256 * 1024 * 1024;

pub(super) fn memlock(config: &Config, facts: &Facts) -> Verdict {
    if let Some(skip) = unwanted(config) {
        return skip;
    }
    let release = &facts.kernel.release;
    let numbers = release
        .split('.')
        .filter_map(|part| part.parse::<u32>().ok());
    if numbers.take(2).collect::<Vec<_>>() >= vec![5, 11] {
        let meaning = format!("Since {MEMCG_RELEASE} this limit does not count for maps.");
        return Verdict::pass(meaning).seen([format!("Linux {release}")]);
    }
    match facts.kernel.memlock {
        Some(limit) if limit < MEMLOCK_MIN => missing(config, "There is no room for the maps")
            .seen([format!("RLIMIT_MEMLOCK {limit}")])
            .fix(["systemctl edit towpath   # [Service] LimitMEMLOCK=infinity".to_owned()]),
        _ => Verdict::pass("There is room for the maps."),
    }
}

/// capabilities(7)
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_BPF: u32 = 39;

pub(super) fn capabilities(config: &Config, facts: &Facts) -> Verdict {
    if let Some(skip) = unwanted(config) {
        return skip;
    }
    let kernel = &facts.kernel;
    let has = |bit: u32| kernel.capabilities >> bit & 1 == 1;
    let mut evidence = vec![
        format!("uid {}, CapEff {:016x}", kernel.uid, kernel.capabilities),
        format!(
            "seccomp {}",
            kernel
                .seccomp
                .map_or("?".to_owned(), |mode| mode.to_string())
        ),
    ];
    let disabled = facts.number("kernel/unprivileged_bpf_disabled");
    evidence.extend(disabled.map(|value| format!("kernel.unprivileged_bpf_disabled = {value}")));
    evidence.extend(kernel.lsm.as_ref().map(|lsm| format!("LSM context {lsm}")));
    evidence.extend(
        kernel
            .lockdown
            .as_ref()
            .map(|mode| format!("lockdown {mode}")),
    );
    if kernel.lockdown.as_deref() == Some("confidentiality") {
        return missing(config, "The kernel is locked down and lets nobody load BPF")
            .seen(evidence)
            .fix(["cat /sys/kernel/security/lockdown".to_owned()]);
    }
    if has(CAP_NET_ADMIN) && (has(CAP_BPF) || has(CAP_SYS_ADMIN)) {
        return Verdict::pass("This user may load the program and attach it.").seen(evidence);
    }
    if let Some(running) = &facts.config.running {
        return match &running.datapath_off {
            None => Verdict::pass("This user may not load the program; the running daemon has.")
                .seen(evidence),
            Some(_) => Verdict::unknown("This user may not load the program; the daemon's may.")
                .seen(evidence),
        };
    }
    missing(config, "This user may not load a kernel program")
        .seen(evidence)
        .fix([
            "systemctl edit towpath   # [Service] AmbientCapabilities=CAP_BPF CAP_NET_ADMIN"
                .to_owned(),
            "sudo towpath doctor".to_owned(),
        ])
}

pub(super) fn bpffs(config: &Config, facts: &Facts) -> Verdict {
    if let Some(skip) = unwanted(config) {
        return skip;
    }
    let (pins, wanted) = (&facts.kernel.bpffs, config.datapath.pin_dir.display());
    let there = pins.there.display();
    let mut evidence = vec![format!("datapath.pin_dir = {wanted}")];
    if !pins.is_bpffs {
        evidence.push(format!("{there} is not on a BPF file system"));
        let mount = config.datapath.pin_dir.parent().unwrap_or(&pins.there);
        return missing(config, "There is nowhere to pin the program")
            .seen(evidence)
            .fix([format!("mount -t bpf bpf {}", mount.display())]);
    }
    let others = pins.layouts.iter().filter(|layout| **layout != pins.own);
    let others: Vec<&String> = others.collect();
    evidence.extend(
        pins.layouts
            .iter()
            .map(|layout| format!("{wanted}/{layout}")),
    );
    if !others.is_empty() {
        return Verdict::warn(format!(
            "Another version left its program and maps: this one uses {}, and both may forward.",
            pins.own
        ))
        .seen(evidence)
        .fix([format!("towpath bpf detach --pin-dir {wanted}")]);
    }
    if !pins.writable && facts.daemon().is_none() {
        evidence.push(format!("{there} may not be written by this user"));
        return missing(config, "This user may not pin the program")
            .seen(evidence)
            .fix([format!("install -d -o towpath -g towpath -m 0700 {wanted}")]);
    }
    Verdict::pass("Program and maps can be pinned, so that media outlives the daemon.")
        .seen(evidence)
}

pub(super) fn object(config: &Config, facts: &Facts) -> Verdict {
    if let Some(skip) = unwanted(config) {
        return skip;
    }
    match &facts.kernel.object {
        Some(Ok(path)) => {
            Verdict::pass("The kernel program can be read.").seen([path.display().to_string()])
        }
        Some(Err(why)) => missing(config, "The kernel program cannot be read")
            .seen([why.clone()])
            .fix(["towpath config show --origin | grep datapath.object".to_owned()]),
        None => match &facts.config.running {
            Some(running) if running.datapath_off.is_none() => {
                Verdict::pass("The running daemon has a kernel program.")
            }
            _ => missing(config, "No kernel program is named")
                .seen(["datapath.object is not set".to_owned()])
                .fix(["towpath config show --origin | grep datapath.object".to_owned()]),
        },
    }
}
