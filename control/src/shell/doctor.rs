//! Reads a host for `doctor`: every source by itself, all at once, each within a limit of time.
//! Nothing here changes anything. What does not answer is told as that.

mod clock;
mod command;
mod disk;
mod drops;
mod files;
mod firewall;
mod genl;
mod host;
mod kernel;
mod links;
mod nft;
mod peer;
mod probe;
mod routes;
mod sip;
mod sockets;
mod stun;
mod wire;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::config::Config;
use crate::doctor::facts::{
    Arrival, Clock, ConfigFile, Conntrack, Facts, Host, Kernel, Link, Observed, Route, Socket,
    Source, Trips,
};
use crate::doctor::firewall::Ruleset;
use crate::doctor::init::Seen;
use crate::doctor::{Finding, checks, judge};
use crate::shell::hex::hex;
use crate::shell::{cascade, outbox};

pub use peer::Peer;
pub(crate) use probe::TOKEN_PREFIX;
pub use wire::document;

/// How long one source may take.
pub const LIMIT: Duration = Duration::from_secs(10);

/// Sources that open ports of ours for a moment.
const PROBES: [Source; 4] = [Source::Stun, Source::Hairpin, Source::Inbound, Source::Alg];

/// What is looked at, and how far.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Checks by their ids; none is all of them.
    pub wanted: Option<BTreeSet<&'static str>>,
    /// The file and the running daemon, as far as whoever asks knows of them.
    pub config: ConfigFile,
    /// Who is asked what we look like from outside.
    pub stun: Vec<String>,
    /// The second node: it knocks at our advertised ports.
    pub peer: Option<Peer>,
    /// Only what costs little.
    pub cheap: bool,
}

/// A part of the facts, as one reader brings it.
enum Part {
    Kernel(Box<Kernel>),
    Links(Vec<Link>, Vec<(String, String)>, Option<Conntrack>),
    Routes(Vec<Route>),
    Nft(Ruleset),
    Xt(Ruleset),
    Legacy(Ruleset),
    Sockets(Vec<Socket>),
    Stun(Vec<Observed>),
    Inbound(Vec<Arrival>),
    Hairpin(Vec<Arrival>),
    Sip(sip::Tried),
    Store(Trips),
    Broker(Option<Trips>),
    Upper(Option<Trips>),
    Host(Box<Host>),
    Clock(Clock),
}

/// What became of each source of a reader.
type Brought = Vec<(Source, Result<Part, String>)>;

/// Reads what the checks need and judges it. `done` is told of every source that has been read.
pub async fn examine(
    config: Arc<Config>,
    look: &Look,
    mut done: impl FnMut(Source, usize, usize),
) -> Vec<Finding> {
    let chosen = |id: &str| {
        look.wanted
            .as_ref()
            .is_none_or(|wanted| wanted.contains(id))
    };
    let chosen: BTreeSet<&str> = checks()
        .iter()
        .filter(|check| chosen(check.id) && (check.cheap || !look.cheap))
        .map(|check| check.id)
        .collect();
    let needed = checks().iter().filter(|check| chosen.contains(check.id));
    let needed = needed.flat_map(|check| check.reads).copied();
    // Whoever asks has told this one.
    let needed = needed.filter(|source| *source != Source::Config);
    let mut facts = Facts {
        config: look.config.clone(),
        ..Facts::default()
    };
    let (probes, others): (BTreeSet<_>, BTreeSet<_>) = needed
        .into_iter()
        .partition(|source| PROBES.contains(source));
    let all = probes.len() + others.len();
    let mut count = 0;
    // It lasts as long as everything else.
    let drops = match others.contains(&Source::Drops) {
        true => Some(drops::before().await),
        false => None,
    };
    // Probes open our ports: after the look at who has them, and one after the other.
    let probes = probes.into_iter().map(|probe| BTreeSet::from([probe]));
    for sources in std::iter::once(others).chain(probes) {
        let mut readers = readers(&config, look, &sources);
        while let Some(brought) = readers.join_next().await {
            for (source, part) in brought.unwrap_or_default() {
                count += 1;
                done(source, count, all);
                match part {
                    Ok(part) => facts.take(part),
                    Err(why) => drop(facts.missing.insert(source, why)),
                }
            }
        }
    }
    if let Some(before) = drops {
        facts.drops = drops::since(before).await;
        done(Source::Drops, all, all);
    }
    judge(&config, &facts, Some(&chosen))
}

/// A task for each source that is needed.
fn readers(config: &Arc<Config>, look: &Look, needed: &BTreeSet<Source>) -> JoinSet<Brought> {
    let mut set = JoinSet::new();
    if needed.contains(&Source::Nft) || needed.contains(&Source::Xt) {
        set.spawn(async move {
            let read = tokio::time::timeout(LIMIT, firewall::nft_and_xt()).await;
            read.unwrap_or_else(|_| vec![late(Source::Nft), late(Source::Xt)])
        });
    }
    for source in needed {
        let config = Arc::clone(config);
        // Those two are read above.
        if !matches!(source, Source::Nft | Source::Xt | Source::Drops) {
            spawn(&mut set, *source, reader(*source, config, look.clone()));
        }
    }
    set
}

async fn reader(source: Source, config: Arc<Config>, look: Look) -> Result<Part, String> {
    match source {
        Source::Kernel => blocking(move || Ok(Part::Kernel(Box::new(kernel::read(&config))))).await,
        Source::Links => links::read(&config).await,
        Source::Routes => routes::read(&config).await.map(Part::Routes),
        Source::Legacy => firewall::legacy().await.map(Part::Legacy),
        Source::Sockets => blocking(move || sockets::read(&config).map(Part::Sockets)).await,
        Source::Stun => stun::read(&config, &look.stun).await.map(Part::Stun),
        Source::Hairpin => probe::hairpin(&config).await.map(Part::Hairpin),
        Source::Inbound => probe::inbound(&config, look.peer).await.map(Part::Inbound),
        Source::Alg => {
            let tried = sip::read(&config, look.peer.as_ref()).await;
            tried.map(Part::Sip)
        }
        Source::Store => blocking(move || Ok(Part::Store(disk::read(&config)))).await,
        Source::Broker => {
            let trips = outbox::trip::round_trips(&config, PATIENCE).await;
            Ok(Part::Broker(measured(trips, outbox::trip::LIMIT)))
        }
        Source::Upper => {
            let trips = cascade::trip::round_trips(&config, PATIENCE).await;
            Ok(Part::Upper(measured(trips, config.cascade.deadline)))
        }
        Source::Host => {
            let pid = look.config.running.as_ref().and_then(|running| running.pid);
            blocking(move || Ok(Part::Host(Box::new(host::read(&config, pid))))).await
        }
        Source::Clock => Ok(Part::Clock(clock::read().await)),
        Source::Config | Source::Nft | Source::Xt | Source::Drops => {
            Err("it has another reader".to_owned())
        }
    }
}

/// How long a way may take to be measured; more is none.
const PATIENCE: Duration = Duration::from_secs(8);

fn measured(
    trips: Option<(String, Result<Vec<Duration>, String>)>,
    limit: Duration,
) -> Option<Trips> {
    trips.map(|(to, took)| Trips { to, limit, took })
}

fn spawn(
    set: &mut JoinSet<Brought>,
    source: Source,
    read: impl Future<Output = Result<Part, String>> + Send + 'static,
) {
    set.spawn(async move {
        match tokio::time::timeout(LIMIT, read).await {
            Ok(part) => vec![(source, part)],
            Err(_) => vec![late(source)],
        }
    });
}

fn late(source: Source) -> (Source, Result<Part, String>) {
    let (name, limit) = (source.name(), LIMIT.as_secs());
    (source, Err(format!("{name}: no answer within {limit} s")))
}

async fn blocking(
    read: impl FnOnce() -> Result<Part, String> + Send + 'static,
) -> Result<Part, String> {
    let read = tokio::task::spawn_blocking(read).await;
    read.unwrap_or_else(|_| Err("the reader broke".to_owned()))
}

impl Facts {
    fn take(&mut self, part: Part) {
        match part {
            Part::Kernel(kernel) => self.kernel = *kernel,
            Part::Links(links, sysctls, conntrack) => {
                self.links = links;
                self.sysctls.extend(sysctls);
                self.conntrack = conntrack;
            }
            Part::Routes(routes) => self.routes = routes,
            Part::Nft(rules) => self.nft = Some(rules),
            Part::Xt(rules) => self.xt = Some(rules),
            Part::Legacy(rules) => self.legacy = Some(rules),
            Part::Sockets(sockets) => self.sockets = sockets,
            Part::Stun(seen) => self.stun = seen,
            Part::Inbound(arrivals) => self.inbound = arrivals,
            Part::Hairpin(arrivals) => self.hairpin = arrivals,
            Part::Sip((udp, tcp)) => {
                self.sip = udp;
                self.sip_tcp = tcp;
            }
            Part::Store(trips) => self.store = Some(trips),
            Part::Broker(trips) => self.broker = trips,
            Part::Upper(trips) => self.upper = trips,
            Part::Host(host) => self.host = *host,
            Part::Clock(clock) => self.clock = clock,
        }
    }
}

/// What `init` looks at.
///
/// # Errors
/// That netlink does not answer.
pub async fn first_look() -> Result<Seen, String> {
    let (links, defaults) = tokio::try_join!(links::links(), routes::defaults())?;
    let range = files::line("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = range
        .split_whitespace()
        .filter_map(|text| text.parse().ok());
    Ok(Seen {
        hostname: files::line("/proc/sys/kernel/hostname").unwrap_or_default(),
        links,
        defaults,
        local_ports: numbers.next().zip(numbers.next()),
    })
}

/// Of such a length that nobody guesses it, and short enough to be typed into a phone.
const PASSWORD_BYTES: usize = 8;

/// A password for an account that `init` makes.
///
/// # Errors
/// That there is no randomness.
pub fn password() -> std::io::Result<String> {
    let seed = crate::shell::clock::seed()?;
    Ok(hex(seed.get(..PASSWORD_BYTES).unwrap_or(&seed)))
}

/// Sends a nonce to a port, for another node that asked: one small packet.
///
/// # Errors
/// That it could not be sent.
pub async fn knock(to: SocketAddr, token: &str) -> std::io::Result<()> {
    probe::knock(to, token).await
}

/// Sends a SIP request to a port, for another node that asked; what was sent.
///
/// # Errors
/// That it could not be sent.
pub async fn call(to: SocketAddr, token: &str) -> std::io::Result<String> {
    sip::call(to, token).await
}

/// Whether a TCP port can be connected to, for another node that asked: why not.
pub async fn connect(to: SocketAddr) -> Option<String> {
    sip::connect(to).await
}
