//! Who answers: Towpath, Kamailio, and Kamailio with rtpengine. Each trial has a fresh one.

use std::fs;
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::load::{PASSWORD, Users, Work, end, listens, quiet};
use super::site::{RELAY_IN, RELAY_OUT, SINK, SIP_PORT, SOURCE, Site};
use crate::bench::rtpengine;
use crate::clock;
use crate::process::Towpath;
use crate::{bench::Programs, netns::Namespace};

const KAMAILIO: &str = "/usr/sbin/kamailio";
/// Shared and private memory of Kamailio, in MiB.
const SHARED_MIB: &str = "-m768";
const PRIVATE_MIB: &str = "-M16";
const LIMIT: Duration = Duration::from_secs(10);
const MEDIA_PORTS: [u16; 2] = [10_000, 65_001];
pub(super) const DOMAIN: &str = "bench.test";
/// All users share the address of one host here.
const UNLIMITED: &str = "[sip.protection]\nsource_rate = 0\naccount_rate = 0\nban_after = 0\n\n";

/// Who is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum System {
    Towpath,
    Kamailio { workers: u8 },
    KamailioWithRtpengine,
}

/// A running one; ended on drop.
pub(super) enum Server {
    Towpath { daemon: Box<Towpath> },
    Kamailio { proxy: Child, relay: Option<Child> },
}

impl Server {
    pub(super) fn start(
        system: System,
        work: Work,
        users: Users,
        site: &Site,
        programs: &Programs,
    ) -> Result<Self> {
        match system {
            System::Towpath => {
                let state = site.files().join("state");
                if state.exists() {
                    fs::remove_dir_all(&state)?;
                }
                fs::create_dir(&state)?;
                let config = towpath_configuration(work, users, &state.to_string_lossy());
                let daemon = Towpath::start(&site.relay, &programs.towpath, &state, &config)?;
                Ok(Self::Towpath {
                    daemon: Box::new(daemon),
                })
            }
            System::Kamailio { workers } => kamailio(site, work, workers, false),
            System::KamailioWithRtpengine => kamailio(site, work, 1, true),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Self::Kamailio { proxy, relay } = self {
            // Its workers end with it, if it is asked.
            let asked = Pid::from_raw(proxy.id().cast_signed());
            let ended = kill(asked, Signal::SIGTERM)
                .map_err(anyhow::Error::from)
                .and_then(|()| clock::until("kamailio to end", LIMIT, || Ok(proxy.try_wait()?)));
            if ended.is_err() {
                end(proxy, "kamailio");
            }
            if let Some(relay) = relay {
                end(relay, "rtpengine");
            }
        }
    }
}

/// What Kamailio says of itself.
pub(super) fn version() -> Result<String> {
    let output = Command::new(KAMAILIO)
        .arg("-v")
        .output()
        .with_context(|| format!("{KAMAILIO}: install Debian's package kamailio"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().next().unwrap_or_default();
    Ok(line.replace("version: ", ""))
}

fn kamailio(site: &Site, work: Work, workers: u8, anchored: bool) -> Result<Server> {
    let text = if work.is_call() {
        include_str!("proxy.cfg")
    } else {
        include_str!("registrar.cfg")
    };
    let text = text
        .replace("RELAY_IN", RELAY_IN)
        .replace("SINK", SINK)
        .replace("PASSWORD", PASSWORD)
        .replace("CHILDREN", &workers.to_string());
    let file = site.files().join("kamailio.cfg");
    fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    let relay = anchored.then(|| media_relay(&site.relay)).transpose()?;
    let mut command = site.relay.command(KAMAILIO)?;
    command.arg("-f").arg(&file).args(["-DD", "-E"]);
    command.args([SHARED_MIB, PRIVATE_MIB]);
    command.arg("-Y").arg(site.files());
    for (name, set) in [
        ("WITH_AUTH", work == Work::RegisterMd5),
        ("WITH_RTPENGINE", anchored),
    ] {
        if set {
            command.args(["-A", name]);
        }
    }
    let mut server = Server::Kamailio {
        proxy: quiet(&mut command, site.files())?,
        relay,
    };
    clock::until("kamailio to listen", LIMIT, || {
        if let Server::Kamailio { proxy, .. } = &mut server
            && let Some(status) = proxy.try_wait()?
        {
            bail!("kamailio ended: {status}; try `kamailio -c -f` with the configuration");
        }
        // Workers are forked after the socket is there; the last one is the timer.
        let forked = site.relay.processes()?.len() > usize::from(workers) + 2;
        Ok((forked && listens(&site.relay)?).then_some(()))
    })?;
    Ok(server)
}

fn media_relay(host: &Namespace) -> Result<Child> {
    let interfaces = [("in", RELAY_IN), ("out", RELAY_OUT)];
    rtpengine::spawn(host, &interfaces, MEDIA_PORTS, None).map(|(child, _)| child)
}

fn towpath_configuration(work: Work, users: Users, state: &str) -> String {
    let [first, last] = MEDIA_PORTS;
    let auth = match work {
        Work::RegisterMd5 => "digest",
        Work::Register | Work::Call => "none",
    };
    let accounts: String = users
        .names()
        .filter(|_| work == Work::RegisterMd5)
        .map(|name| format!("[[sip.account]]\nuser = \"{name}\"\npassword = \"{PASSWORD}\"\n"))
        .collect();
    let peer = |name: &str, ip: &str, port: u16, routes: &str| {
        format!(
            "[[sip.peer]]\nname = \"{name}\"\nuri = \"sip:{ip}:{port}\"\nroutes = [{routes}]\n\n"
        )
    };
    let peers = match work {
        Work::Call => peer("trunk", SOURCE, SIP_PORT, "") + &peer("mcu", SINK, SIP_PORT, "\"9*\""),
        Work::Register | Work::RegisterMd5 => String::new(),
    };
    let network = |name: &str, interface: &str, address: &str, peers: &str| {
        format!(
            "[[network]]\nname = \"{name}\"\ninterface = \"{interface}\"\n\
             address = \"{address}\"\npeers = [\"{peers}\"]\nmedia_ports = \"{first}-{last}\"\n\n"
        )
    };
    format!(
        "[node]\nid = \"bench\"\nstate_dir = \"{state}\"\n\n\
         [sip]\ndomain = \"{DOMAIN}\"\nauth = \"{auth}\"\n\
         listen = [\"udp:{RELAY_IN}:{SIP_PORT}\", \"udp:{RELAY_OUT}:{SIP_PORT}\"]\n\n\
         {UNLIMITED}{peers}{accounts}\n{}{}\
         [datapath]\nmode = \"userspace\"\nmedia_timeout = \"1h\"\n",
        network("in", "a0", RELAY_IN, "10.81.1.0/24"),
        network("out", "b0", RELAY_OUT, "10.81.2.0/24"),
    )
}
