//! Network namespaces, the links between them, and the processes in them.
//!
//! A link is created inside a namespace with its other end in another one: nothing ever appears
//! among the machine's own interfaces.

pub mod stale;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::xdp::{self, Attached, Verdict};
use crate::{clock, sys};

/// Where `ip netns` keeps its names.
const NAMES: &str = "/run/netns";

/// How long killed processes may take to vanish.
const KILL_LIMIT: Duration = Duration::from_secs(3);

/// What hands bridged frames to the routing rules, below `/proc/sys`.
const BRIDGE_HOOKS: [&str; 3] = [
    "net/bridge/bridge-nf-call-iptables",
    "net/bridge/bridge-nf-call-ip6tables",
    "net/bridge/bridge-nf-call-arptables",
];

/// A network namespace. Dropping it kills the processes in it and deletes it, and with it every
/// link that ends in it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    /// What `accept_xdp` attached.
    programs: Mutex<Vec<Attached>>,
}

/// Who computes checksums of what a link sends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Checksums {
    /// The stack, before the frame leaves: what a network card's receiver sees.
    Complete,
    /// Left to a device that does not exist on a veth: a reader of raw frames sees partial sums.
    Offloaded,
}

impl Namespace {
    /// Creates a namespace with the loopback interface up, and without duplicate address
    /// detection, router advertisements, reverse-path filter and forwarding.
    ///
    /// # Errors
    /// The name is taken, or we are not root.
    pub fn create(name: &str) -> Result<Self> {
        run(Command::new("ip").args(["netns", "add", name]))?;
        let this = Self::existing(name);
        this.sysctls(&[
            ("net/ipv6/conf/all/accept_dad", "0"),
            ("net/ipv6/conf/default/accept_dad", "0"),
            ("net/ipv6/conf/default/accept_ra", "0"),
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/conf/default/rp_filter", "0"),
            ("net/ipv4/ip_forward", "0"),
        ])?;
        this.unfilter_bridges()?;
        this.ip("link set lo up")?;
        Ok(this)
    }

    /// One that is there already.
    fn existing(name: &str) -> Self {
        let programs = Mutex::new(Vec::new());
        Self {
            name: name.to_owned(),
            programs,
        }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs lines of `ip` in it, in one process: `addr add 10.0.0.1/24 dev eth0`.
    ///
    /// # Errors
    /// The first line that `ip` refuses, in its words.
    pub fn ip(&self, lines: &str) -> Result<()> {
        let mut command = Command::new("ip");
        command.args(["-n", &self.name, "-batch", "-"]);
        fed(&mut command, lines).with_context(|| format!("in {}:\n{lines}", self.name))?;
        Ok(())
    }

    /// Lays a veth pair to `peer`; both ends up, checksums complete.
    ///
    /// # Errors
    /// A name is taken, or too long for an interface (15 bytes).
    pub fn veth(&self, here: &str, peer: &Self, there: &str) -> Result<()> {
        let peer_name = peer.name();
        self.ip(&format!(
            "link add {here} type veth peer name {there} netns {peer_name}\nlink set {here} up"
        ))?;
        peer.ip(&format!("link set {there} up"))?;
        self.checksums(here, Checksums::Complete)?;
        peer.checksums(there, Checksums::Complete)
    }

    /// Adds addresses in prefix notation, of either family.
    ///
    /// # Errors
    /// `ip` refuses one.
    pub fn addresses(&self, interface: &str, prefixes: &[&str]) -> Result<()> {
        let line = |p: &&str| {
            let nodad = if p.contains(':') { " nodad" } else { "" };
            format!("addr add {p} dev {interface}{nodad}\n")
        };
        self.ip(&prefixes.iter().map(line).collect::<String>())
    }

    /// The hardware address of an interface.
    ///
    /// # Errors
    /// No such interface, or none of Ethernet.
    pub fn mac(&self, interface: &str) -> Result<[u8; 6]> {
        let printed = self.run("ip", &["-json", "link", "show", "dev", interface])?;
        let links: serde_json::Value = serde_json::from_str(&printed)?;
        let text = links.pointer("/0/address").and_then(|a| a.as_str());
        let parse = |text: &str| {
            let bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16));
            bytes.collect::<Result<Vec<_>, _>>().ok()?.try_into().ok()
        };
        text.and_then(parse)
            .with_context(|| format!("{interface}: no Ethernet address"))
    }

    /// Sets kernel parameters, named by their path below `/proc/sys`.
    ///
    /// # Errors
    /// No such parameter here, or a value it does not take.
    pub fn sysctls(&self, values: &[(&str, &str)]) -> Result<()> {
        self.enter(|| {
            for (key, value) in values {
                fs::write(PathBuf::from("/proc/sys").join(key), value)
                    .with_context(|| format!("sysctl {key} = {value}"))?;
            }
            Ok(())
        })?
    }

    /// Where the kernel has the bridge's netfilter hooks, they would show bridged frames to the
    /// routing rules; a switch has none.
    fn unfilter_bridges(&self) -> Result<()> {
        for hook in BRIDGE_HOOKS {
            if Path::new("/proc/sys").join(hook).exists() {
                self.sysctls(&[(hook, "0")])?;
            }
        }
        Ok(())
    }

    /// Chooses who computes checksums of what `interface` sends.
    ///
    /// # Errors
    /// `ethtool` is missing or refuses.
    pub fn checksums(&self, interface: &str, by: Checksums) -> Result<()> {
        let value = match by {
            Checksums::Complete => "off",
            Checksums::Offloaded => "on",
        };
        self.run("ethtool", &["-K", interface, "tx", value])
            .map(drop)
    }

    /// Lets the *other* end of this link send frames from XDP (`XDP_TX`, `XDP_REDIRECT`) to here:
    /// a veth takes them only if it polls, and polls for them only if it has a program itself.
    /// (With GRO it polls too, but what `XDP_TX` sends then waits until something else wakes it.)
    ///
    /// # Errors
    /// No such interface, or no CAP_BPF.
    pub fn accept_xdp(&self, interface: &str) -> Result<()> {
        let program = xdp::attach(self, interface, Verdict::Pass)?;
        self.programs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(program);
        Ok(())
    }

    /// Loads an nftables ruleset.
    ///
    /// # Errors
    /// What `nft` says about it.
    pub fn nft(&self, rules: &str) -> Result<()> {
        let mut command = self.command("nft")?;
        command.args(["-f", "-"]);
        fed(&mut command, rules).with_context(|| format!("nft in {}", self.name))?;
        Ok(())
    }

    /// A command that will run in this namespace, in a process group of its own.
    ///
    /// # Errors
    /// The namespace is gone.
    pub fn command(&self, program: &str) -> Result<Command> {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(program);
        command.process_group(0);
        sys::enter_before_exec(&mut command, self.open()?);
        Ok(command)
    }

    /// Runs a program in it to its end and returns what it printed.
    ///
    /// # Errors
    /// It cannot be started, or ends with a failure; its error output is in the message.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        run(self.command(program)?.args(arguments)).with_context(|| format!("in {}", self.name))
    }

    /// Runs a closure on a fresh thread in this namespace: sockets it opens stay in it.
    ///
    /// # Errors
    /// The namespace is gone, or the closure panicked.
    pub fn enter<T: Send>(&self, body: impl FnOnce() -> T + Send) -> Result<T> {
        let namespace = self.open()?;
        let entered = move || -> Result<T> {
            setns(&namespace, CloneFlags::CLONE_NEWNET).context("setns")?;
            Ok(body())
        };
        thread::scope(|scope| scope.spawn(entered).join())
            .map_err(|_| anyhow!("a thread in {} panicked", self.name))?
    }

    /// Starts a named thread in this namespace. `open` runs in it before this returns, so that
    /// sockets exist when the caller goes on; `body` gets what `open` made.
    ///
    /// # Errors
    /// What `open` refuses with.
    pub fn spawn<S, T>(
        &self,
        name: &str,
        open: impl FnOnce() -> Result<S> + Send,
        body: impl FnOnce(S) -> T + Send + 'static,
    ) -> Result<JoinHandle<T>>
    where
        S: Send + 'static,
        T: Send + 'static,
    {
        let opened = self.enter(open)??;
        let namespace = self.open()?;
        let start = move || {
            // The sockets are open already; this is for whatever else the body does.
            if let Err(e) = setns(&namespace, CloneFlags::CLONE_NEWNET) {
                eprintln!("lab: setns: {e}");
            }
            body(opened)
        };
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(start)
            .context("start a thread")
    }

    /// Ends every process in this namespace, by its id.
    ///
    /// # Errors
    /// One of them does not go away.
    pub fn kill_all(&self) -> Result<()> {
        clock::until(
            &format!("processes in {} to end", self.name),
            KILL_LIMIT,
            || {
                let left = self.processes()?;
                for pid in &left {
                    // It may have ended by itself meanwhile.
                    kill(*pid, Signal::SIGKILL).or_else(|e| ignore_gone(e).context("kill"))?;
                }
                Ok(left.is_empty().then_some(()))
            },
        )
    }

    /// The processes in this namespace, ours excepted.
    ///
    /// # Errors
    /// The namespace is gone.
    pub fn processes(&self) -> Result<Vec<Pid>> {
        use std::os::unix::fs::MetadataExt;
        let ours = self.open()?.metadata()?.ino();
        let inode = |pid: i32| Some(fs::metadata(format!("/proc/{pid}/ns/net")).ok()?.ino());
        let own = Pid::this();
        Ok(fs::read_dir("/proc")?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|pid| inode(*pid) == Some(ours))
            .map(Pid::from_raw)
            .filter(|pid| *pid != own)
            .collect())
    }

    fn open(&self) -> Result<File> {
        let path = PathBuf::from(NAMES).join(&self.name);
        File::open(&path).with_context(|| format!("network namespace {}", path.display()))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let removed = self
            .kill_all()
            .and_then(|()| run(Command::new("ip").args(["netns", "del", &self.name])));
        if let Err(e) = removed {
            eprintln!("lab: could not remove namespace {}: {e:#}", self.name);
        }
    }
}

fn ignore_gone(e: nix::Error) -> nix::Result<()> {
    if e == nix::Error::ESRCH {
        Ok(())
    } else {
        Err(e)
    }
}

/// Runs a command to its end; its output, or what it complained about.
fn run(command: &mut Command) -> Result<String> {
    fed(command, "")
}

/// Runs a command with `input` on its standard input.
fn fed(command: &mut Command, input: &str) -> Result<String> {
    let named = || command_line(command);
    let what = named();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start `{what}`"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that does not read its input closes it; its exit code says what matters.
        if let Err(e) = stdin.write_all(input.as_bytes())
            && e.kind() != std::io::ErrorKind::BrokenPipe
        {
            return Err(e).with_context(|| format!("write to `{what}`"));
        }
    }
    let output = child
        .wait_with_output()
        .with_context(|| format!("wait for `{what}`"))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("`{what}`: {}: {}", output.status, complaint.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|w| w.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
