//! From a configuration file to a running daemon; every refusal says what to do.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use tokio::sync::mpsc;

use crate::config::check::Interface;
use crate::config::{Config, Datapath as DatapathConfig, DatapathMode, XdpAttach};
use crate::effect::Effects;
use crate::engine::Engine;
use crate::engine::input::Input;
use crate::shell::configuration::Options;
use crate::shell::datapath::Datapath;
use crate::shell::kernel::detach::detach;
use crate::shell::kernel::{Adopted, Attach, Interface as Nic, Kernel};
use crate::shell::media::Media;
use crate::shell::netlink::Netlink;
use crate::shell::sip::Sip;
use crate::shell::{EVENTS_MAX, Shell, api, clock, notify};

/// Runs the daemon until SIGTERM or SIGINT.
///
/// # Errors
/// Whatever keeps it from starting.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let netlink = Netlink::start().await?;
    let config = options.read(&netlink.interfaces())?;
    raise_file_limit();
    let (sender, events) = mpsc::channel(EVENTS_MAX);
    // What another daemon may hold comes first: nothing of its media is touched before.
    let listener = api::listen(&config.node.socket)?;
    let sip = Sip::open(&config.sip.listen, &sender).await?;
    let (mut kernel, adopted) = match kernel(&config, &netlink) {
        Ok((kernel, adopted)) => (Ok(kernel), adopted),
        Err(error) if config.datapath.mode == DatapathMode::Xdp => {
            return Err(error.context("datapath.mode = \"xdp\" and the kernel path cannot be had"));
        }
        Err(error) => (Err(format!("{error:#}")), Vec::new()),
    };
    match &kernel {
        Ok(kernel) => {
            let native = kernel.is_native();
            tracing::info!(
                interfaces = kernel.attached().count(),
                native,
                "kernel path is on"
            );
        }
        Err(why) => tracing::warn!(why, "kernel path is off: media is forwarded in userspace"),
    }
    let reports = kernel.as_mut().ok().map(Kernel::events).transpose()?;
    if let Some(logs) = kernel.as_mut().ok().map(Kernel::logs).transpose()? {
        tokio::spawn(logs.run());
    }
    let mut datapath = Datapath::new(Media::new(sender.clone()), netlink, kernel);
    for Adopted { at, flow } in &adopted {
        datapath.adopt(*at, flow);
    }
    let started = clock::now();
    let seed = clock::seed().context("cannot read /dev/urandom")?;
    let mut engine = Engine::new(config.clone(), seed, started);
    let adopted = datapath.adopted();
    if !adopted.is_empty() {
        tracing::info!(flows = adopted.len(), "took over running flows");
        engine.handle(Input::Adopted(adopted), started, &mut Effects::new());
    }
    let api = api::serve(listener, sender);
    tracing::info!(node = config.node.id, socket = %config.node.socket.display(), "running");
    notify::tell(notify::State::Ready);
    let served = Shell {
        options,
        engine,
        datapath,
        sip,
        events,
        reports,
        started,
    }
    .serve()
    .await;
    notify::tell(notify::State::Stopping);
    api.abort();
    if let Err(error) = fs::remove_file(&config.node.socket) {
        tracing::debug!(%error, "the API socket was gone");
    }
    served
}

/// The interfaces of this host, for `towpath check`.
///
/// # Errors
/// If netlink does not answer.
pub async fn host_interfaces() -> anyhow::Result<Vec<Interface>> {
    Ok(Netlink::start().await?.interfaces())
}

fn kernel(config: &Config, netlink: &Netlink) -> anyhow::Result<(Kernel, Vec<Adopted>)> {
    let DatapathConfig {
        mode,
        xdp,
        object,
        pin_dir,
        flows_max,
        ..
    } = &config.datapath;
    if *mode == DatapathMode::Userspace {
        leave_kernel(pin_dir);
        bail!("datapath.mode = \"userspace\"");
    }
    let object = object_bytes(object.as_deref())?;
    let mut interfaces: Vec<Nic> = Vec::new();
    for network in &config.networks {
        let name = &network.interface;
        let index = netlink
            .index_of(name)
            .with_context(|| format!("network {}: there is no interface {name}", network.name))?;
        if !interfaces.iter().any(|known| known.index == index) {
            interfaces.push(Nic {
                name: name.clone(),
                index,
            });
        }
    }
    let mut locals: Vec<std::net::IpAddr> = config.networks.iter().map(|n| n.address).collect();
    locals.sort_unstable();
    locals.dedup();
    let attach = Attach {
        object: &object,
        pin_dir,
        interfaces: &interfaces,
        native: *xdp == XdpAttach::Native,
        flows_max: *flows_max,
        locals: &locals,
    };
    Ok(Kernel::start(&attach, clock::now())?)
}

/// A program of an earlier daemon would go on forwarding from ports that are ours to give away.
fn leave_kernel(pin_dir: &Path) {
    if !pin_dir.exists() {
        return;
    }
    match detach(pin_dir) {
        Ok(0) => {}
        Ok(pins) => tracing::warn!(pins, "took away the kernel path of an earlier daemon"),
        Err(error) => tracing::warn!(%error, "an earlier daemon's kernel path stays"),
    }
}

fn object_bytes(object: Option<&Path>) -> anyhow::Result<Vec<u8>> {
    let Some(path) = object else {
        bail!(
            "no kernel object: build one with `cargo xtask ebpf` and name it in datapath.object or \
             with --object"
        );
    };
    fs::read(path).with_context(|| {
        format!(
            "cannot read the kernel object {}: build it with `cargo xtask ebpf`",
            path.display()
        )
    })
}

/// Every media port is a file descriptor: take as many as the system lets us have.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}
