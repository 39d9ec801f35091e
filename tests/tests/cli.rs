//! The binary as operators meet it: what it says to wrong input, and what it shows while it runs.
//! Needs no root: what needs a network runs in one of its own.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]
#![allow(
    clippy::indexing_slicing,
    reason = "an index that is wrong fails the test"
)]

#[path = "cli/init.rs"]
mod init;

use std::collections::BTreeSet;
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use towpath_tests::clock;
use towpath_tests::private::{in_private_network, ip};
use towpath_tests::process;

/// Configurations and what is said about them.
const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/cli");

/// The interfaces that the vectors of `host-…` and `run-…` speak of.
const LINKS: &str = "link add eth1 type veth peer name eth2\n\
                     address add 10.0.0.3/8 dev eth1\nlink set eth1 up";

fn towpath(arguments: &[&str]) -> Command {
    let mut command = Command::new(process::binary().unwrap());
    command
        .args(arguments)
        .current_dir(VECTORS)
        .env("TOWPATH_LOG", "off");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Exit code, standard output, standard error.
#[track_caller]
fn check(arguments: &[&str], code: i32, stdout: &str, stderr: &str) {
    let Output {
        status,
        stdout: out,
        stderr: err,
    } = towpath(arguments).output().unwrap();
    assert_eq!(text(&out), stdout, "towpath {arguments:?}");
    assert_eq!(text(&err), stderr, "towpath {arguments:?}");
    assert_eq!(status.code(), Some(code), "towpath {arguments:?}");
}

/// Names of the vectors that begin like this.
fn vectors(wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let names = |extension: &str| -> BTreeSet<String> {
        fs::read_dir(VECTORS)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == extension))
            .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names("toml"), names("txt"), "a vector is one of two");
    let found: Vec<String> = names("toml").into_iter().filter(|n| wanted(n)).collect();
    assert!(!found.is_empty());
    found
}

/// A wrong configuration exits with this code and says exactly what is beside it in the vectors.
#[track_caller]
fn refused(name: &str, code: i32, arguments: &[&str]) {
    let expected = fs::read_to_string(Path::new(VECTORS).join(format!("{name}.txt"))).unwrap();
    check(arguments, code, "", &expected);
}

#[test]
fn a_wrong_configuration_is_explained() {
    for name in vectors(|n| !n.starts_with("host-") && !n.starts_with("run-")) {
        refused(&name, 1, &["check", "--no-host", &format!("{name}.toml")]);
    }
}

#[test]
fn a_configuration_is_compared_with_the_host() {
    in_private_network("a_configuration_is_compared_with_the_host", || {
        ip(LINKS)?;
        for name in vectors(|n| n.starts_with("host-")) {
            refused(&name, 1, &["check", &format!("{name}.toml")]);
        }
        let good = "run-busy-port.toml: ok; networks: lan; accounts: 0\n";
        check(&["check", "run-busy-port.toml"], 0, good, "");
        Ok(())
    })
    .unwrap();
}

#[test]
fn the_daemon_says_what_keeps_it_from_starting() {
    in_private_network("the_daemon_says_what_keeps_it_from_starting", || {
        ip(LINKS)?;
        let _busy = UdpSocket::bind("10.0.0.3:5060")?;
        let _taken = TcpListener::bind("10.0.0.3:8080")?;
        let scratch = Scratch::new("refused");
        let socket = scratch.0.join("socket");
        for name in vectors(|n| n.starts_with("run-")) {
            // Where SIP's port is not the matter, another one is free.
            let file = format!("{name}.toml");
            let socket = socket.to_str().unwrap();
            let code = if name == "run-refused" { 78 } else { 69 };
            refused(&name, code, &["run", "--config", &file, "--socket", socket]);
        }
        Ok(())
    })
    .unwrap();
}

/// Where the API's socket cannot be, and what is said about it.
#[test]
fn the_daemon_says_what_is_wrong_with_its_socket() {
    in_private_network("the_daemon_says_what_is_wrong_with_its_socket", || {
        ip(LINKS)?;
        let scratch = Scratch::new("socket");
        let own = scratch.0.display().to_string();
        let long = format!("{own}/{}", "x".repeat(120));
        let (file, help) = (
            "run-busy-port.toml",
            "name a file, of at most 107 bytes, in a directory that this user may write, with \
             `--socket` or as socket = \"/run/towpath/towpath.sock\"",
        );
        for (socket, why) in [
            (
                "/proc/none/socket",
                "cannot create /proc/none: No such file or directory (os error 2)".to_owned(),
            ),
            (
                &own,
                "cannot remove the old API socket: Is a directory (os error 21)".to_owned(),
            ),
            (
                &long,
                format!("cannot open the API socket {long}: path must be shorter than SUN_LEN"),
            ),
        ] {
            let expected = format!(
                "{file}:1:1: {why}\n  |\n1 | [sip]\n  | ^\n  = help: {help}\n\n\
                 error: {file}: 1 problem\n"
            );
            check(
                &["run", "--config", file, "--socket", socket],
                69,
                "",
                &expected,
            );
        }
        Ok(())
    })
    .unwrap();
}

/// Without a file the host's interfaces do, nobody may register, and it is said.
#[test]
fn without_a_configuration_it_runs_and_says_so() {
    in_private_network("without_a_configuration_it_runs_and_says_so", || {
        ip(&format!("{LINKS}\nlink set eth2 up"))?;
        let scratch = Scratch::new("bare");
        let (socket, log) = (scratch.0.join("socket"), scratch.0.join("log"));
        let mut child = Running(
            towpath(&["run", "--socket"])
                .arg(&socket)
                .env("TOWPATH_LOG", "info")
                .stderr(fs::File::create(&log)?)
                .spawn()?,
        );
        let asked = || {
            let status = towpath(&["status", "--socket"]).arg(&socket).output()?;
            Ok((status.status.code() != Some(3)).then_some(status))
        };
        let status = clock::until("the daemon to answer", LIMIT, asked)?;
        let shown = text(&status.stdout);
        assert_eq!(status.status.code(), Some(1), "{shown}");
        assert!(shown.starts_with("state          DEGRADED\n"), "{shown}");
        assert!(
            shown.contains("kernel path    off: no kernel program"),
            "{shown}"
        );
        let networks = towpath(&["network", "list", "--socket"])
            .arg(&socket)
            .output()?;
        assert!(text(&networks.stdout).contains("10.0.0.3"), "{networks:?}");
        kill(Pid::from_raw(child.0.id().try_into()?), Signal::SIGTERM)?;
        assert!(child.0.wait()?.success());
        let log = fs::read_to_string(&log)?;
        assert!(
            log.contains("no --config: embedded defaults, and nobody may register"),
            "{log}"
        );
        Ok(())
    })
    .unwrap();
}

/// Ends with the test, whatever that finds.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

const LIMIT: Duration = Duration::from_secs(10);

#[test]
fn files_that_cannot_be_read() {
    let cannot = |file: &str, why: &str| {
        format!(
            "error: cannot read {file}: name a file that exists and that this user may read\n  \
             because: {why}\n"
        )
    };
    let missing = cannot("/no/such/file", "No such file or directory (os error 2)");
    check(&["check", "/no/such/file"], 1, "", &missing);
    check(&["run", "--config", "/no/such/file"], 66, "", &missing);
    let directory = cannot("/", "Is a directory (os error 21)");
    check(&["check", "--no-host", "/"], 1, "", &directory);

    let scratch = Scratch::new("files");
    let file = scratch.0.join("latin1.toml");
    fs::write(&file, b"[sip]\n# caf\xe9\n").unwrap();
    let file = file.to_str().unwrap();
    let expected =
        format!("error: {file}:2: not UTF-8: save the file as UTF-8, or mend the line\n");
    check(&["check", "--no-host", file], 1, "", &expected);
    let expected = format!(
        "/dev/zero:1:1: the file is larger than 16777216 bytes\n  |\n1 | {}\n  | ^\n  = help: is \
         this the right file?\n\nerror: /dev/zero: 1 problem\n",
        " ".repeat(160)
    );
    check(&["check", "--no-host", "/dev/zero"], 1, "", &expected);
}

#[test]
fn nobody_to_ask() {
    let socket = "/no/such/socket";
    let expected = format!(
        "error: no daemon has its socket at {socket}: start it (`systemctl start towpath`; \
         `systemctl status towpath` says why it ended), or name its socket (`--socket PATH`, \
         node.socket)\n  because: No such file or directory (os error 2)\n"
    );
    let good = "run-busy-port.toml";
    let asking: [(&[&str], i32); 11] = [
        (&["config", "show"], 1),
        (&["config", "diff", good], 1),
        (&["config", "apply", good], 1),
        (&["config", "history"], 1),
        (&["config", "rollback", "1"], 1),
        (&["status"], 3),
        (&["call", "list"], 1),
        (&["call", "kill", "1"], 1),
        (&["reg", "list"], 1),
        (&["reg", "drop", "1001@example.com"], 1),
        (&["network", "list", "-o", "json"], 1),
    ];
    for (arguments, code) in asking {
        check(
            &[arguments, &["--socket", socket]].concat(),
            code,
            "",
            &expected,
        );
    }
}

#[test]
fn command_lines_that_make_no_sense() {
    let refused = |arguments: &[&str], told: &str| {
        let output = towpath(arguments).output().unwrap();
        let stderr = text(&output.stderr);
        assert!(stderr.contains(told), "towpath {arguments:?}\n{stderr}");
        assert_eq!(output.status.code(), Some(64), "towpath {arguments:?}");
        assert_eq!(text(&output.stdout), "");
    };
    refused(&[], "Usage: towpath");
    refused(&["stats"], "a similar subcommand exists: 'status'");
    refused(&["status", "--verbos"], "'--verbose'");
    refused(
        &["call", "kill", "first"],
        "invalid value 'first' for '<ID>'",
    );
    refused(&["reg", "drop"], "<AOR>");
    refused(
        &["config", "rollback", "last"],
        "invalid value 'last' for '<GENERATION>'",
    );
    refused(&["config", "apply"], "<FILE>");
    refused(
        &["status", "-o", "yaml"],
        "[possible values: table, json, jsonl]",
    );
    let version = format!("towpath {}\n", env!("CARGO_PKG_VERSION"));
    check(&["--version"], 0, &version, "");
    let output = towpath(&["version", "-o", "json"]).output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(told["abi"], common::map::ABI);
}

/// What is removed must be ours.
#[test]
fn detach_touches_nothing_else() {
    let scratch = Scratch::new("detach");
    let directory = scratch.0.to_str().unwrap();
    let kept = scratch.0.join("abi-1").join("kept");
    fs::create_dir(kept.parent().unwrap()).unwrap();
    fs::write(&kept, "x").unwrap();
    let expected = format!(
        "error: {directory}: not on a BPF file system; name the directory that datapath.pin_dir \
         names\n"
    );
    let detach = ["bpf", "detach", "--socket", "/no/such/socket", "--pin-dir"];
    check(&[&detach[..], &[directory]].concat(), 1, "", &expected);
    assert!(kept.exists());
    let nothing = "error: /no/such/dir: nothing is pinned there\n";
    check(&[&detach[..], &["/no/such/dir"]].concat(), 1, "", nothing);
}

/// A directory of this test's own, removed on drop.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("towpath-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}
