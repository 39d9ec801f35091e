//! The daemon as its unit runs it: a user of its own with the capabilities that are named there,
//! and no other; and over a disk that is full. Needs root.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]
#![allow(
    clippy::indexing_slicing,
    reason = "an index that is wrong fails the test"
)]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::{MsFlags, mount, umount};
use towpath_tests::clock;
use towpath_tests::lab::{Lab, Parts, Role, plan};
use towpath_tests::process::{self, Refusal, Towpath};

const LIMIT: Duration = Duration::from_secs(10);
/// Nobody: a user without rights, who is there everywhere.
const USER: u32 = 65534;
const UNIT: &str = include_str!("../../control/package/towpath.service");

/// What the unit gives, without the prefix: `bpf`.
fn capabilities() -> Vec<String> {
    let of = |key: &str| {
        let line = UNIT.lines().find_map(|line| line.strip_prefix(key));
        let names = line.unwrap().split_whitespace();
        let names = names.map(|name| name.strip_prefix("CAP_").unwrap().to_lowercase());
        names.collect::<Vec<_>>()
    };
    let ambient = of("AmbientCapabilities=");
    assert_eq!(ambient, of("CapabilityBoundingSet="));
    ambient
}

/// Runs what follows as that user with these and no others.
fn with(capabilities: &[String]) -> Vec<String> {
    let set = capabilities.iter().map(|name| format!(",+{name}"));
    let set = format!("-all{}", set.collect::<String>());
    let id = USER.to_string();
    [
        "setpriv",
        "--reuid",
        &id,
        "--regid",
        &id,
        "--clear-groups",
        "--no-new-privs",
        &format!("--inh-caps={set}"),
        &format!("--ambient-caps={set}"),
        &format!("--bounding-set={set}"),
    ]
    .map(str::to_owned)
    .to_vec()
}

struct Edge {
    lab: Lab,
    directory: PathBuf,
}

impl Edge {
    fn raise() -> Self {
        let lab = Lab::raise(&Parts::default()).unwrap();
        let directory = lab.directory("unprivileged").unwrap();
        fs::create_dir(directory.join("refused")).unwrap();
        for place in [&directory, &directory.join("refused"), lab.bpffs()] {
            chown(place, Some(USER), Some(USER)).unwrap();
        }
        Self { lab, directory }
    }

    fn config(&self, state: &Path, more: &str) -> String {
        format!(
            "[node]\nstate_dir = {state:?}\n\n[sip]\ndomain = \"example.com\"\nauth = \"none\"\n\n\
             [[network]]\nname = \"lan\"\ninterface = \"lan\"\naddress = \"{}\"\n\n[datapath]\n\
             mode = \"xdp\"\npin_dir = {:?}\nflows = 64\nobject = {:?}\n{more}",
            plan::EDGE_LAN,
            self.lab.bpffs().join("towpath"),
            process::object().unwrap(),
        )
    }

    fn start(&self, under: &[String], config: &str) -> Towpath {
        let edge = self.lab.namespace(Role::Edge).unwrap();
        let under: Vec<&str> = under.iter().map(String::as_str).collect();
        let binary = process::binary().unwrap();
        Towpath::start_under(edge, &under, &binary, &self.directory, config).unwrap()
    }

    fn refusal(&self, under: &[String], config: &str) -> Refusal {
        let edge = self.lab.namespace(Role::Edge).unwrap();
        let under: Vec<&str> = under.iter().map(String::as_str).collect();
        let binary = process::binary().unwrap();
        Towpath::refusal(edge, &under, &binary, &self.directory, config, None).unwrap()
    }
}

fn log(edge: &Edge) -> String {
    fs::read_to_string(edge.directory.join("towpath.log")).unwrap()
}

#[test]
fn with_the_capabilities_of_the_unit_and_no_others() {
    let edge = Edge::raise();
    let given = capabilities();
    let config = edge.config(&edge.directory, "");
    let mut towpath = edge.start(&with(&given), &config);
    let status = towpath.get("/api/v1/status").unwrap();
    assert_eq!(status["state"], "ok", "{status:#}");
    assert_eq!(status["datapath"]["interfaces"][0], "lan", "{status:#}");
    let process = format!("/proc/{}", status["pid"]);
    assert_eq!(fs::metadata(&process).unwrap().uid(), USER);
    let held = fs::read_to_string(format!("{process}/status")).unwrap();
    let line = held.lines().find_map(|l| l.strip_prefix("CapEff:"));
    let held = u64::from_str_radix(line.unwrap().trim(), 16).unwrap();
    assert_eq!(held.count_ones() as usize, given.len(), "{held:x}");
    assert!(!log(&edge).contains("CAP_"), "{}", log(&edge));
    towpath.stop().unwrap();
}

const HANDBOOK: &str = include_str!("../../docs/security.md");
/// What could need a right, as `strace` calls it.
const WATCHED: &str = "trace=bpf,socket,setrlimit,unshare,setns,mount,umount2,chroot,pivot_root,\
                       ptrace,init_module,finit_module,reboot,swapon,settimeofday,clock_settime,\
                       perf_event_open,chown,fchown,fchownat,lchown,mknod,mknodat,setpriority,\
                       sched_setscheduler,mlockall,keyctl";

#[test]
fn every_privileged_call_is_in_the_handbook() {
    let edge = Edge::raise();
    let trace = edge.directory.join("trace");
    let mut under = ["strace", "-f", "-qq", "--seccomp-bpf", "-e", WATCHED, "-o"]
        .map(str::to_owned)
        .to_vec();
    under.push(trace.display().to_string());
    under.extend(with(&capabilities()));
    let config = edge.config(&edge.directory, "");
    let mut towpath = edge.start(&under, &config);
    let status = towpath.get("/api/v1/status").unwrap();
    assert_eq!(status["datapath"]["interfaces"][0], "lan", "{status:#}");
    towpath.stop().unwrap();
    let trace = fs::read_to_string(trace).unwrap();
    let (mut commands, mut raw) = (0, 0);
    for line in trace.lines().filter_map(|line| line.split_once(' ')) {
        let call = line.1.trim_start();
        if let Some(rest) = call.strip_prefix("bpf(") {
            let name = rest.split(',').next().unwrap();
            assert!(HANDBOOK.contains(name), "{call}");
            commands += 1;
        } else if call.starts_with("socket(") {
            let unprivileged = !call.contains("SOCK_RAW") && !call.contains("AF_PACKET");
            let named = call.contains("IPPROTO_ICMP") || call.contains("AF_NETLINK");
            assert!(unprivileged || named, "{call}");
            raw += u32::from(call.contains("IPPROTO_ICMP"));
        } else {
            let ours = call.starts_with("setrlimit(RLIMIT_NOFILE")
                || call.starts_with('<')
                || call.starts_with("+++")
                || call.starts_with("---");
            assert!(ours, "{call}");
        }
    }
    assert!(commands > 10 && raw == 2, "{commands} and {raw}:\n{trace}");
}

/// Each of them is needed, and its want is said by name.
#[test]
fn without_any_one_of_them() {
    for missing in capabilities() {
        let edge = Edge::raise();
        let mut given = capabilities();
        given.retain(|name| *name != missing);
        let config = edge.config(&edge.directory, "");
        let name = format!("CAP_{}", missing.to_uppercase());
        if missing == "net_raw" {
            let mut towpath = edge.start(&with(&given), &config);
            assert!(log(&edge).contains(&name), "{}", log(&edge));
            towpath.stop().unwrap();
            continue;
        }
        let refusal = edge.refusal(&with(&given), &config);
        assert_eq!(refusal.code, Some(77), "{missing}: {}", refusal.said);
        assert!(refusal.said.contains(&name), "{missing}: {}", refusal.said);
    }
}

/// A file system that ends on drop.
struct Small(PathBuf);

impl Small {
    fn mount(at: PathBuf) -> Self {
        fs::create_dir(&at).unwrap();
        let size = Some("size=256k,mode=0777");
        mount(Some("tmpfs"), &at, Some("tmpfs"), MsFlags::empty(), size).unwrap();
        Self(at)
    }

    /// Until nothing more goes in.
    fn fill(&self) {
        let filled = fs::write(self.0.join("filler"), vec![0; 1 << 20]);
        assert!(filled.is_err(), "larger than was asked for");
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        umount(&self.0).ok();
    }
}

#[test]
fn over_a_full_disk_it_runs_says_so_and_recovers() {
    let edge = Edge::raise();
    let disk = Small::mount(edge.directory.join("state"));
    disk.fill();
    let config = edge.config(&disk.0, "");
    let mut towpath = edge.start(&with(&capabilities()), &config);
    let status = towpath.get("/api/v1/status").unwrap();
    assert_eq!(status["state"], "degraded", "{status:#}");
    let warnings = status["warnings"].to_string();
    assert!(warnings.contains("No space left on device"), "{status:#}");
    let edges = edge.lab.namespace(Role::Edge).unwrap();
    let shown = towpath.client(edges, &["config", "show"]).unwrap();
    assert!(shown.status.success(), "{shown:?}");
    towpath.stop().unwrap();

    fs::remove_file(disk.0.join("filler")).unwrap();
    towpath.restart(edges).unwrap();
    let well = || {
        let status = towpath.get("/api/v1/status")?;
        Ok((status["state"] == "ok").then_some(()))
    };
    clock::until("the disk to do", LIMIT, well).unwrap();
    towpath.stop().unwrap();
}
