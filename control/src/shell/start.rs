//! From a configuration file to a running daemon; every refusal says what to do.

mod plane;
mod shards;

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use tokio::net::UnixListener;
use tokio::sync::mpsc;

use crate::config::check::Interface;
use crate::config::{Config, Datapath as DatapathConfig, DatapathMode, XdpAttach};
use crate::effect::Table;
use crate::shell::api::{Api, Doors};
use crate::shell::configuration::{Options, Refused, Source};
use crate::shell::datapath::Datapath;
use crate::shell::kernel::detach::detach;
use crate::shell::kernel::{Adopted, Attach, Events, Interface as Nic, Kernel, KernelError};
use crate::shell::mqtt::Known;
use crate::shell::netlink::Netlink;
use crate::shell::news::News;
use crate::shell::node::Node;
use crate::shell::reload::Reloads;
use crate::shell::shard::{self, Queues};
use crate::shell::sip::{Sip, Tls, Wrong};
use crate::shell::store::{Store, Tables};
use crate::shell::{Exit, QUESTIONS_MAX, Shell, api, clock, dns, log, notify, object, stream};

pub(super) use plane::MQTT_LISTEN;
use plane::raise;

/// Runs the daemon until SIGTERM or SIGINT.
///
/// # Errors
/// Whatever keeps it from starting.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let netlink = Netlink::start().await?;
    let (config, source, history) = options.first(&netlink.interfaces())?;
    log::configure(&config.log);
    if options.config.is_none() {
        tracing::warn!("no --config: embedded defaults, and nobody may register");
    }
    raise_file_limit();
    // Before anything another daemon may be using is touched: if one runs, these are taken.
    let socket = claim(&config, &source)?;
    let seed = clock::seed().context("cannot read /dev/urandom")?;
    let (store, mut kept) = Store::open(&config.store);
    let whose = shards::whose(&config, &store, &mut kept, seed);
    let (queues, events) = Queues::new(whose);
    let sip = Sip::new(queues.clone(), netlink.links());
    let sip = listen(sip, &config, &source).await?;
    let path = kernel_path(&config, &netlink, &options, &source)?;
    let mut datapath = Datapath::new(queues.clone(), netlink, path.kernel);
    datapath.set_borders(borders(&config));
    for Adopted { at, flow } in &path.adopted {
        datapath.adopt(*at, flow);
    }
    let started = clock::now();
    let engine = Node::new(Arc::new(config.clone()), seed, whose, started);
    restore(&datapath, &mut kept, &engine, started);
    let noted = queues.noted();
    let (tasks, work) = shard::start(engine.slots().zip(events), &queues, &sip.out(), &store);
    let (sender, questions) = mpsc::channel(QUESTIONS_MAX);
    let access = Arc::new(api::Access::new(&config.node.state_dir, &config.api));
    let known = Known::new(&access, engine.slots().next());
    let raised = raise(&config, &source, seed, &store, &mut kept, known).await?;
    let api = Api::new(&config, sender, raised.plane.clone(), access);
    let mut doors = api::serve(api.clone(), socket, &config.node.socket);
    open(&mut doors, &config, &source)?;
    let reloads = Reloads::start(history, &options, &config, source);
    let (generation, socket) = (reloads.generation(), config.node.socket.display());
    api.started(generation);
    tracing::info!(node = config.node.id, %socket, generation, shards = whose.count(), "running");
    let names = dns::Names::of(&config);
    let served = Shell {
        options,
        engine,
        queues,
        shards: tasks,
        datapath,
        sip,
        mqtt_listeners: raised.listeners,
        reloads,
        streams: stream::Streams::new(stream::Limits::DEFAULT),
        store,
        names,
        plane: raised.plane,
        told: 0,
        news: News::new(noted),
        announcer: raised.announcer,
        publisher: raised.publisher,
        questions,
        work,
        reports: path.reports,
        started,
        rates: api::Rates::default(),
        doctor: api::doctor::Latest::default(),
        api,
        doors,
        links: raised.links,
    };
    let served = served.serve().await;
    leave(&config.node.socket);
    served
}

/// The API's socket, if no other daemon has it.
fn claim(config: &Config, source: &Source) -> Result<UnixListener, Refused> {
    api::claim(&config.node.socket).map_err(|error| {
        let of_the_system = error.chain().any(|cause| cause.is::<io::Error>());
        let help = if of_the_system { SOCKET_PATH } else { SOCKET };
        source
            .refuse(&["node.socket", "node"], format!("{error:#}"), help)
            .because(exit(&error))
    })
}

/// SIP is listened for wherever the configuration says.
async fn listen(mut sip: Sip, config: &Config, source: &Source) -> Result<Sip, Refused> {
    let tls = Tls::load(config).map_err(|wrong| tls_refused(source, &wrong))?;
    sip.configure(config, tls);
    sip.open(&config.sip.listen).await.map_err(|busy| {
        source
            .refuse(&["sip.listen", "sip"], busy.to_string(), LISTEN)
            .because(Exit::of(&busy.error))
    })?;
    Ok(sip)
}

/// Nobody is answered any more.
fn leave(socket: &Path) {
    notify::tell(notify::State::Stopping);
    if let Err(error) = fs::remove_file(socket) {
        tracing::debug!(%error, "the API socket was gone");
    }
}

struct KernelPath {
    /// Or why there is none.
    kernel: Result<Kernel, String>,
    /// What an earlier daemon left.
    adopted: Vec<Adopted>,
    reports: Option<Events>,
}

/// The kernel path, if it is wanted and can be had.
fn kernel_path(
    config: &Config,
    netlink: &Netlink,
    options: &Options,
    source: &Source,
) -> anyhow::Result<KernelPath> {
    let (mut kernel, adopted) = kernel_or_why(config, netlink)
        .map_err(|error| impossible(&error, config, options, source))?;
    announce(&kernel, config.datapath.mode);
    let reports = kernel.as_mut().ok().map(Kernel::events).transpose()?;
    if let Some(logs) = kernel.as_mut().ok().map(Kernel::logs).transpose()? {
        tokio::spawn(logs.run());
    }
    Ok(KernelPath {
        kernel,
        adopted,
        reports,
    })
}

/// The API is listened at wherever the configuration says.
fn open(doors: &mut Doors, config: &Config, source: &Source) -> Result<(), Refused> {
    let certificate = api::certificate(&config.api).map_err(|w| tls_refused(source, &w))?;
    let wanted = &config.api.listen;
    let opened = doors.open(wanted).map_err(|busy| {
        source
            .refuse(&["api.listen", "api"], busy.to_string(), API_LISTEN)
            .because(Exit::of(&busy.error))
    })?;
    doors.admit(opened, wanted, certificate);
    Ok(())
}

/// What an earlier daemon kept goes on.
fn restore(datapath: &Datapath, tables: &mut Tables, engine: &Node, now: Instant) {
    take_over(datapath, engine, now);
    let kept = tables.remove(&Table::Registrations).unwrap_or_default();
    if !kept.is_empty() {
        engine.restored(kept, now);
        let bindings = engine.totals().registrations;
        tracing::info!(bindings, "registrations of before the start go on");
    }
    let kept = tables.remove(&Table::Bans).unwrap_or_default();
    if !kept.is_empty() {
        engine.restored_bans(&kept, now);
        let bans = engine.bans_count(now);
        tracing::info!(bans, "bans of before the start go on");
    }
    let kept = tables.remove(&Table::Calls).unwrap_or_default();
    if !kept.is_empty() {
        engine.restored_calls(&kept, now);
        let calls = engine.totals().calls;
        tracing::info!(calls, "calls of before the start go on");
    }
}

/// The kernel path, or why there is none; an error if it must be had.
fn kernel_or_why(
    config: &Config,
    netlink: &Netlink,
) -> anyhow::Result<(Result<Kernel, String>, Vec<Adopted>)> {
    match kernel(config, netlink) {
        Ok((kernel, adopted)) => Ok((Ok(kernel), adopted)),
        Err(error) if config.datapath.mode == DatapathMode::Xdp => Err(error),
        Err(error) => Ok((Err(format!("{error:#}")), Vec::new())),
    }
}

/// The kernel path was asked for and cannot be had.
fn impossible(
    error: &anyhow::Error,
    config: &Config,
    options: &Options,
    source: &Source,
) -> Refused {
    let key = key(error, config, options.object.is_none());
    let message = format!("the kernel path cannot be had: {error:#}");
    let exit = match error.downcast_ref() {
        Some(KernelError::Permission { .. }) => Exit::Permission,
        _ => Exit::Unavailable,
    };
    source
        .refuse(&[&key, "datapath.mode"], message, USERSPACE)
        .because(exit)
}

/// Of an error of the system's, at whatever depth.
fn exit(error: &anyhow::Error) -> Exit {
    let found = error.chain().find_map(|cause| cause.downcast_ref());
    found.map_or(Exit::Unavailable, Exit::of)
}

/// Flows of an earlier daemon become the engines'.
fn take_over(datapath: &Datapath, engine: &Node, now: Instant) {
    let adopted = datapath.adopted();
    if !adopted.is_empty() {
        tracing::info!(flows = adopted.len(), "took over running flows");
        engine.adopted(&adopted, now);
    }
}

/// Says which path media takes.
fn announce(kernel: &Result<Kernel, String>, mode: DatapathMode) {
    match kernel {
        Ok(kernel) => {
            if let Some(why) = kernel.refused() {
                tracing::error!(%why, "the kernel program that ran before goes on");
            }
            let native = kernel.is_native();
            tracing::info!(
                interfaces = kernel.attached().count(),
                native,
                "kernel path is on"
            );
        }
        Err(_) if mode == DatapathMode::Userspace => {
            tracing::info!("media is forwarded in userspace, as configured");
        }
        Err(why) => tracing::warn!(why, "kernel path is off: media is forwarded in userspace"),
    }
}

/// A certificate that cannot be used, at its key.
pub(super) fn tls_refused(source: &Source, wrong: &Wrong) -> Refused {
    let message = format!("{:#}", wrong.error);
    source.refuse(&[wrong.key, "sip.tls"], message, TLS)
}

/// What to do if a certificate cannot be used.
const TLS: &str = "`openssl x509 -text -in FILE` and `openssl pkey -in FILE` show what is there; \
                   the key must be the certificate's, both in PEM form, the key not encrypted";
/// What to do if the API cannot be listened at.
pub(super) const API_LISTEN: &str = "`ss -ltnp` shows who has the port, `ip address` which \
                                     addresses there are";
/// What to do if the API's socket cannot be had.
const SOCKET: &str = "end the other daemon, or give this one a socket of its own: socket = \
                      \"/run/towpath/second.sock\"";
const SOCKET_PATH: &str = "name a file, of at most 107 bytes, in a directory that this user may \
                           write, with `--socket` or as socket = \"/run/towpath/towpath.sock\"";
/// What to do if SIP cannot be listened on.
pub(super) const LISTEN: &str = "`ss -tulpn` shows who listens there, `ip address` which addresses \
                                 this host has; ports below 1024 take root or CAP_NET_BIND_SERVICE";
/// What to do if the kernel path was asked for and cannot be had.
const USERSPACE: &str = "mend this, or forward media in userspace meanwhile: mode = \"auto\"";

/// The key that what went wrong is about.
pub(super) fn key(error: &anyhow::Error, config: &Config, object_is_configured: bool) -> String {
    match error.downcast_ref::<KernelError>() {
        Some(
            KernelError::NotBpffs { .. } | KernelError::PinDir { .. } | KernelError::InUse { .. },
        ) => "datapath.pin_dir".to_owned(),
        Some(KernelError::OtherSize { .. } | KernelError::Full { .. }) => {
            "datapath.flows".to_owned()
        }
        Some(
            KernelError::NoInterface { name }
            | KernelError::NoDriverSupport { name }
            | KernelError::Occupied { name }
            | KernelError::Attach { name, .. },
        ) => {
            let network = config.networks.iter().position(|n| n.interface == *name);
            format!("network.{}.interface", network.unwrap_or_default())
        }
        // None: the object cannot be read.
        Some(KernelError::Object { .. } | KernelError::SelfTest { .. }) | None
            if object_is_configured =>
        {
            "datapath.object".to_owned()
        }
        Some(
            KernelError::Object { .. }
            | KernelError::Permission { .. }
            | KernelError::Refused { .. }
            | KernelError::SelfTest { .. }
            | KernelError::NotLocal { .. }
            | KernelError::TooManyLocals { .. }
            | KernelError::Map { .. },
        )
        | None => "datapath.mode".to_owned(),
    }
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
    let object = object::bytes(object.as_deref())?;
    let interfaces = interfaces(config, netlink)?;
    let locals = locals(config);
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

/// The interfaces the program must be on, each once.
pub(super) fn interfaces(config: &Config, netlink: &Netlink) -> anyhow::Result<Vec<Nic>> {
    let mut interfaces: Vec<Nic> = Vec::new();
    for network in &config.networks {
        let name = &network.interface;
        let index = netlink
            .index_of(name)
            .with_context(|| format!("network {}: there is no interface {name}", network.name))?;
        // A VLAN's frames are seen on the interface that carries it.
        let (index, _) = netlink.carrier(index);
        if !interfaces.iter().any(|known| known.index == index) {
            interfaces.push(Nic {
                name: name.clone(),
                index,
            });
        }
    }
    Ok(interfaces)
}

/// The interfaces of the networks.
pub(super) fn borders(config: &Config) -> Vec<String> {
    let networks = config.networks.iter();
    networks.map(|network| network.interface.clone()).collect()
}

/// The addresses the program must know, each once.
pub(super) fn locals(config: &Config) -> Vec<IpAddr> {
    let mut locals: Vec<IpAddr> = config.networks.iter().map(|n| n.address).collect();
    locals.sort_unstable();
    locals.dedup();
    locals
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

/// Every media port is a file descriptor: take as many as the system lets us have.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}
