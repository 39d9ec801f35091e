//! `towpath doctor` on hosts that were broken on purpose, one way at a time: exactly the check that
//! is meant says so, and on a healthy host none does.

#[path = "doctor/daemon.rs"]
mod daemon;
#[path = "doctor/firewall.rs"]
mod firewall;
#[path = "doctor/host.rs"]
mod host;
#[path = "doctor/nat.rs"]
mod nat;
#[path = "doctor/path.rs"]
mod path;
#[path = "doctor/way.rs"]
mod way;

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;
use std::path::PathBuf;

use serde_json::Value;
use towpath_tests::lab::{Lab, Parts, Role, plan};
use towpath_tests::netns::Namespace;
use towpath_tests::process;

use super::stage::{CORE, Config, LAN, Mode, Net, WAN};

/// Checks that are not `pass` or `skip`, with their status.
type Found = BTreeMap<String, String>;

/// One way to break a host.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    /// Another configuration.
    config: fn(&mut Config),
    /// Run by a shell in the edge, before and after.
    does: &'static str,
    undoes: &'static str,
    /// Run by the shell that becomes the doctor.
    under: &'static str,
    /// UDP sockets of somebody else.
    holds: &'static [&'static str],
    /// The only findings.
    finds: &'static [(&'static str, &'static str)],
    /// What the evidence, the meaning or the fix must say.
    says: &'static str,
}

const CASE: Case = Case {
    name: "",
    config: |_| {},
    does: "true",
    undoes: "true",
    under: "true",
    holds: &[],
    finds: &[],
    says: "",
};

/// A healthy host with three networks and a router.
struct Patient {
    lab: Lab,
    config: Config,
    file: PathBuf,
    /// What this machine cannot tell even then.
    usual: Found,
}

fn at(net: Net, ports: (u16, u16)) -> Net {
    Net { ports, ..net }
}

impl Patient {
    fn new() -> Self {
        let parts = Parts {
            nat: true,
            c3: true,
            mcu: true,
            ..Parts::default()
        };
        let networks = [
            at(WAN, (22_000, 22_199)),
            at(LAN, (20_000, 20_199)),
            at(CORE, (24_000, 24_199)),
        ];
        let lab = Lab::raise(&parts).unwrap();
        let gateway = plan::ip(plan::NAT1_WAN);
        let edge = lab.namespace(Role::Edge).unwrap();
        edge.ip(&format!("route add default via {gateway}"))
            .unwrap();
        Self::of(lab, &networks)
    }

    fn of(lab: Lab, networks: &[Net]) -> Self {
        let mut config = Config::new(&lab, Mode::Xdp);
        config.networks = networks.to_vec();
        let file = lab.directory("towpath").unwrap().join("towpath.toml");
        let mut this = Self {
            lab,
            config,
            file,
            usual: Found::new(),
        };
        this.usual = this.healthy(&[]);
        this
    }

    fn edge(&self) -> &Namespace {
        self.lab.namespace(Role::Edge).unwrap()
    }

    /// Nothing is wrong; what cannot be told is the machine's.
    fn healthy(&self, more: &[&str]) -> Found {
        let (_, found) = self.asked(&CASE, more);
        for (id, status) in &found {
            let machine = ["kernel.jit", "clock", "container"].contains(&id.as_str());
            assert!(
                machine && status == "unknown",
                "a healthy host: {id} {status}"
            );
        }
        found
    }

    /// What the binary prints for a case, and its findings.
    fn asked(&self, case: &Case, more: &[&str]) -> (Value, Found) {
        let mut config = self.config.clone();
        (case.config)(&mut config);
        fs::write(&self.file, config.toml()).unwrap();
        let scratch = self.file.parent().unwrap().to_str().unwrap().to_owned();
        let script = format!("set -e; D={scratch}; {}; exec \"$@\"", case.under);
        let mut command = self.edge().command("sh").unwrap();
        command.args(["-c", &script, "sh"]);
        command.arg(process::binary().unwrap());
        command.args(["doctor", "-o", "json", "--config"]);
        command.arg(&self.file).args(more);
        if !more.contains(&"--socket") {
            command.args(["--socket", "/no/such/socket"]);
        }
        let output = command.output().unwrap();
        let (out, err) = (&output.stdout, String::from_utf8_lossy(&output.stderr));
        let value: Value = serde_json::from_slice(out).unwrap_or_else(|e| {
            panic!(
                "{}: {e}: {err}\n{}",
                case.name,
                String::from_utf8_lossy(out)
            )
        });
        assert_eq!(err, "", "{}: progress is for terminals", case.name);
        let found = findings(&value);
        let worst = |status: &str| found.values().any(|s| s == status);
        let code = match () {
            () if worst("fail") => 2,
            () if worst("warn") => 1,
            () if worst("unknown") => 3,
            () => 0,
        };
        assert_eq!(output.status.code(), Some(code), "{}: {found:?}", case.name);
        (value, found)
    }

    /// Breaks it, looks, mends it.
    fn broken(&self, case: &Case, more: &[&str]) {
        let shell = |script: &str| {
            let done = self.edge().run("sh", &["-ec", script]);
            done.unwrap_or_else(|e| panic!("{}: {e:#}", case.name));
        };
        shell(case.does);
        let hold = || {
            case.holds
                .iter()
                .map(UdpSocket::bind)
                .collect::<Result<Vec<_>, _>>()
        };
        let held = self.edge().enter(hold).unwrap().unwrap();
        let (value, mut found) = self.asked(case, more);
        drop(held);
        shell(case.undoes);
        let expected = |id: &str| case.finds.iter().any(|(known, _)| *known == id);
        found.retain(|id, status| self.usual.get(id) != Some(status) || expected(id));
        let expected: Found = case
            .finds
            .iter()
            .map(|(id, status)| ((*id).to_owned(), (*status).to_owned()))
            .collect();
        let told = told(&value);
        assert_eq!(found, expected, "{}:\n{told}", case.name);
        assert!(
            told.contains(case.says),
            "{}: `{}` in\n{told}",
            case.name,
            case.says
        );
    }

    fn all(&self, cases: &[Case]) {
        for case in cases {
            self.broken(case, &[]);
        }
        // Everything was mended: what is found comes from its case alone.
        assert_eq!(self.asked(&CASE, &[]).1, self.usual);
    }
}

fn findings(value: &Value) -> Found {
    let checks = value["checks"].as_array().unwrap().iter();
    let text = |check: &Value, key: &str| check[key].as_str().unwrap().to_owned();
    checks
        .map(|check| (text(check, "id"), text(check, "status")))
        .filter(|(_, status)| !matches!(status.as_str(), "pass" | "skip"))
        .collect()
}

/// Everything that is said of what is not well.
fn told(value: &Value) -> String {
    let checks = value["checks"].as_array().unwrap().iter();
    let wrong = checks.filter(|check| !matches!(check["status"].as_str(), Some("pass" | "skip")));
    let mut lines = Vec::new();
    for check in wrong {
        lines.push(check["meaning"].as_str().unwrap().to_owned());
        for key in ["evidence", "fix"] {
            let all = check[key].as_array().unwrap().iter();
            lines.extend(all.map(|line| line.as_str().unwrap().to_owned()));
        }
    }
    lines.join("\n")
}
