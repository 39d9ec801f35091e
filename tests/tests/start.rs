//! What keeps the kernel path from being had, each with the key of the configuration that asked for
//! it and what to do. Needs root: everything happens in a lab.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]
#![allow(
    clippy::indexing_slicing,
    reason = "an index that is wrong fails the test"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use towpath_tests::lab::{Lab, Parts, Role};
use towpath_tests::netns::Namespace;
use towpath_tests::process::{self, Towpath};
use towpath_tests::xdp::{Verdict, attach};

/// An edge without anybody, and a directory for its configuration.
struct Edge {
    lab: Lab,
    directory: PathBuf,
}

impl Edge {
    fn raise() -> Self {
        let lab = Lab::raise(&Parts::default()).unwrap();
        let directory = lab.directory("start").unwrap();
        Self { lab, directory }
    }

    fn namespace(&self) -> &Namespace {
        self.lab.namespace(Role::Edge).unwrap()
    }

    /// Writes a configuration that is good but for what the lines of `[datapath]` say.
    fn configure(&self, interface: &str, address: &str, datapath: &str) {
        let pins = self.lab.bpffs().join("towpath");
        let text = format!(
            "[sip]\ndomain = \"example.com\"\n\n[[network]]\nname = \"lan\"\ninterface = \
             \"{interface}\"\naddress = \"{address}\"\n\n[datapath]\nmode = \"xdp\"\npin_dir = \
             {pins:?}\n{datapath}"
        );
        fs::write(self.directory.join("towpath.toml"), text).unwrap();
    }

    /// Runs the daemon, which must refuse with exactly this, the object's path and the directory
    /// of pins left out.
    #[track_caller]
    fn refuses(&self, wrapper: &[&str], expected: &str) {
        let binary = process::binary().unwrap();
        let mut words = wrapper.iter().map(ToString::to_string).collect::<Vec<_>>();
        words.push(binary.display().to_string());
        let (program, arguments) = words.split_first().unwrap();
        let output = self
            .command(program)
            .args(arguments)
            .args(["run", "--config", "towpath.toml", "--socket", "socket"])
            .output()
            .unwrap();
        let pins = self.lab.bpffs().display().to_string();
        let told = String::from_utf8(output.stderr)
            .unwrap()
            .replace(&pins, "PINS");
        assert_eq!(told, expected, "\n{told}");
        let code = if wrapper.is_empty() { 69 } else { 77 };
        assert_eq!(output.status.code(), Some(code));
    }

    fn command(&self, program: &str) -> Command {
        let mut command = self.namespace().command(program).unwrap();
        command
            .current_dir(&self.directory)
            .env("TOWPATH_LOG", "off");
        command
    }
}

/// What is said about a place (`line:column`, the line, the part of it that is meant).
fn refusal((place, line, meant): (&str, &str, &str), why: &str) -> String {
    let number = place.split(':').next().unwrap();
    let margin = " ".repeat(number.len());
    let indent = " ".repeat(line.find(meant).unwrap());
    let carets = "^".repeat(meant.len());
    format!(
        "towpath.toml:{place}: the kernel path cannot be had: {why}\n{margin} |\n{number} | \
         {line}\n{margin} | {indent}{carets}\n{margin} = help: mend this, or forward media in \
         userspace meanwhile: mode = \"auto\"\n\nerror: towpath.toml: 1 problem\n"
    )
}

/// A line of `[datapath]` that names the kernel program.
fn object() -> String {
    let path = process::object().unwrap();
    fs::metadata(&path).unwrap();
    format!("object = {path:?}\n")
}

const LAN: (&str, &str) = ("lan", towpath_tests::lab::plan::EDGE_LAN);

#[test]
fn without_permission() {
    let edge = Edge::raise();
    edge.configure(LAN.0, LAN.1, &object());
    let wrapper = ["setpriv", "--bounding-set=-bpf,-sys_admin,-perfmon"];
    edge.refuses(
        &wrapper,
        &refusal(
            ("10:8", "mode = \"xdp\"", "\"xdp\""),
            "no permission to create BPF maps: run as root, or with the capabilities CAP_BPF, \
         CAP_NET_ADMIN and CAP_PERFMON",
        ),
    );
}

#[test]
fn with_something_else_as_program() {
    let edge = Edge::raise();
    edge.configure(LAN.0, LAN.1, "object = \"towpath.toml\"\n");
    edge.refuses(&[], &refusal(
        ("12:10", "object = \"towpath.toml\"", "\"towpath.toml\""),
        "datapath.object: not the kernel program of this daemon: error parsing BPF object: error \
         parsing ELF data; build it with `cargo xtask ebpf`",
    ));
}

#[test]
fn on_an_interface_without_native_xdp() {
    let edge = Edge::raise();
    edge.configure("lo", "127.0.0.1", &object());
    edge.refuses(
        &[],
        &refusal(
            ("6:13", "interface = \"lo\"", "\"lo\""),
            "interface lo: its driver has no native XDP",
        ),
    );
}

#[test]
fn on_an_interface_that_is_taken() {
    let edge = Edge::raise();
    edge.configure(LAN.0, LAN.1, &object());
    let _other = attach(edge.namespace(), LAN.0, Verdict::Pass).unwrap();
    edge.refuses(&[], &refusal(
        ("6:13", "interface = \"lan\"", "\"lan\""),
        "interface lan: another XDP program is attached; `bpftool net show dev lan` names it, `ip \
         link set dev lan xdp off` removes one that is not held by a link",
    ));
}

#[test]
fn over_maps_of_another_size_until_they_are_detached() {
    let edge = Edge::raise();
    let small = format!("{}flows = 64\n", object());
    edge.configure(LAN.0, LAN.1, &small);
    let config = fs::read_to_string(edge.directory.join("towpath.toml")).unwrap();
    let binary = process::binary().unwrap();
    let running = edge.lab.directory("running").unwrap();
    let mut daemon = Towpath::start(edge.namespace(), &binary, &running, &config).unwrap();
    let pins = edge.lab.bpffs().join("towpath");
    let detach = |expected: i32, told: &str| {
        let output = edge
            .command(&binary.to_string_lossy())
            .args(["bpf", "detach", "--pin-dir"])
            .arg(&pins)
            .arg("--socket")
            .arg(daemon_socket(&running))
            .output()
            .unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(text.contains(told), "{text}");
        assert_eq!(output.status.code(), Some(expected), "{text}");
    };
    detach(1, "works with what is pinned in");
    daemon.stop().unwrap();

    edge.configure(LAN.0, LAN.1, &small.replace("64", "128"));
    let why = "PINS/towpath/abi-ABI/FLOWS: the running kernel path has a capacity of 129, this \
               daemon needs 257; go back to the setting it was started with (datapath.flows), or \
               end its media with `towpath bpf detach --pin-dir PINS/towpath` and start again";
    let why = why.replace("ABI", &common::map::ABI.to_string());
    edge.refuses(&[], &refusal(("13:9", "flows = 128", "128"), &why));

    detach(0, " pins removed; no interface runs the program any more");
    let config = fs::read_to_string(edge.directory.join("towpath.toml")).unwrap();
    daemon.configure(&config).unwrap();
    daemon.restart(edge.namespace()).unwrap();
    let status = daemon.get("/api/v1/status").unwrap();
    assert_eq!(status["datapath"]["interfaces"][0], "lan", "{status:#}");
}

fn daemon_socket(directory: &Path) -> PathBuf {
    directory.join("towpath.sock")
}
