//! Where peers are that are known by name: looked up at the start, when the configuration changes,
//! and whenever what was found is no longer valid. What was found is kept while nothing else is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::{Resolver, TokioResolver};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::config::{Config, PeerAddress, PeerHost};
use crate::engine::locate::{Answer, Question, Search, Server, Service};
use crate::id::Transport;
use crate::shell::clock;

/// However short the records are said to be valid, and however long.
const AGAIN_MIN: Duration = Duration::from_secs(10);
const AGAIN_MAX: Duration = Duration::from_secs(3600);
/// When a search that found nothing is repeated.
const AGAIN_FAILED: Duration = Duration::from_secs(10);
/// Results on their way to the loop.
const NEWS_MAX: usize = 64;

/// What is known of names.
pub(crate) struct Names {
    found: BTreeMap<PeerHost, Vec<PeerAddress>>,
    /// Why the last search found nothing.
    failing: BTreeMap<PeerHost, String>,
    sender: mpsc::Sender<News>,
    news: mpsc::Receiver<News>,
    /// Who looks up what is in force now.
    tasks: JoinSet<()>,
    /// What they were started for.
    wanted: Option<Wanted>,
}

/// What came of a search.
pub(crate) struct News {
    host: PeerHost,
    found: Result<Vec<PeerAddress>, String>,
}

/// What is to be looked up, and how.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Wanted {
    hosts: BTreeSet<PeerHost>,
    servers: Vec<SocketAddr>,
    supported: Vec<Transport>,
}

impl Names {
    /// Looks up the names of a configuration.
    pub(crate) fn of(config: &Config) -> Self {
        let (sender, news) = mpsc::channel(NEWS_MAX);
        let mut names = Self {
            found: BTreeMap::new(),
            failing: BTreeMap::new(),
            sender,
            news,
            tasks: JoinSet::new(),
            wanted: None,
        };
        names.watch(config);
        names
    }

    /// Looks up the names of a configuration from now on, and no others.
    pub(crate) fn watch(&mut self, config: &Config) {
        let hosts = config.sip.peers.iter().filter_map(|peer| peer.host.clone());
        let listeners = config.sip.listen.iter().map(|on| on.transport);
        let wanted = Wanted {
            hosts: hosts.collect(),
            servers: config.sip.dns.clone(),
            supported: listeners.collect::<BTreeSet<_>>().into_iter().collect(),
        };
        if self.wanted.as_ref() == Some(&wanted) {
            return;
        }
        self.tasks.abort_all();
        self.found.retain(|host, _| wanted.hosts.contains(host));
        self.failing.retain(|host, _| wanted.hosts.contains(host));
        if !wanted.hosts.is_empty() {
            match resolver(&wanted.servers) {
                Ok(resolver) => {
                    for host in wanted.hosts.clone() {
                        let (resolver, sender) = (resolver.clone(), self.sender.clone());
                        let supported = wanted.supported.clone();
                        self.tasks.spawn(follow(host, supported, resolver, sender));
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "names of peers cannot be looked up");
                    let why = |host: &PeerHost| (host.clone(), error.to_string());
                    self.failing = wanted.hosts.iter().map(why).collect();
                }
            }
        }
        self.wanted = Some(wanted);
    }

    /// The next result.
    pub(crate) async fn heard(&mut self) -> News {
        match self.news.recv().await {
            Some(news) => news,
            None => std::future::pending().await,
        }
    }

    /// Takes a result in; true if a peer is somewhere else now.
    pub(crate) fn take(&mut self, News { host, found }: News) -> bool {
        let known = self.wanted.as_ref();
        if !known.is_some_and(|wanted| wanted.hosts.contains(&host)) {
            return false;
        }
        match found {
            Err(why) => {
                if self.failing.insert(host.clone(), why.clone()).is_none() {
                    tracing::warn!(name = host.name, why, "a peer's name is not found");
                }
                false
            }
            Ok(found) => {
                if self.failing.remove(&host).is_some() {
                    tracing::info!(name = host.name, "a peer's name is found again");
                }
                let news = self.found.get(&host) != Some(&found);
                if news {
                    let places: Vec<String> = found.iter().map(PeerAddress::to_string).collect();
                    tracing::info!(
                        name = host.name,
                        places = places.join(" "),
                        "a peer is there"
                    );
                    self.found.insert(host, found);
                }
                news
            }
        }
    }

    /// Enters what is known into a configuration. An address in no network cannot be reached, and
    /// one that is ours would lead requests round.
    pub(crate) fn fill(&self, config: &mut Config) {
        let networks = config.clone();
        let usable = |found: &&PeerAddress| {
            let own = networks
                .sip
                .listen
                .iter()
                .any(|on| on.local == found.address);
            let network = networks.network_to(found.address.ip());
            if own || network.is_none() {
                let why = if own {
                    "it is ourselves"
                } else {
                    "it belongs to no [[network]]"
                };
                tracing::warn!(address = %found.address, why, "a peer's address is left out");
            }
            !own && network.is_some()
        };
        for peer in &mut config.sip.peers {
            if let Some(host) = &peer.host {
                let found = self.found.get(host).into_iter().flatten();
                peer.addresses = found.filter(usable).copied().collect();
            }
        }
    }

    /// What an operator should know.
    pub(crate) fn warnings(&self, config: &Config) -> Vec<String> {
        let mut warnings = Vec::new();
        for peer in &config.sip.peers {
            let Some(host) = &peer.host else { continue };
            let name = (&peer.name, &host.name);
            if let Some(why) = self.failing.get(host) {
                let until = match self.found.get(host) {
                    Some(_) => "where it was found before counts",
                    None => "nothing can be sent to it",
                };
                warnings.push(format!(
                    "peer {}: {} is not found ({why}); {until}",
                    name.0, name.1
                ));
            } else if peer.addresses.is_empty() && self.found.contains_key(host) {
                warnings.push(format!(
                    "peer {}: no address of {} belongs to a [[network]]; add its prefix to the \
                     `peers` of one",
                    name.0, name.1
                ));
            }
        }
        warnings
    }
}

/// As configured, or as the system says.
fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    if servers.is_empty() {
        return Resolver::builder_tokio()?.build();
    }
    let connection = |at: &SocketAddr, mut connection: ConnectionConfig| {
        connection.port = at.port();
        connection
    };
    let servers = servers.iter().map(|at| {
        let mut server = NameServerConfig::udp_and_tcp(at.ip());
        server.connections = vec![
            connection(at, ConnectionConfig::udp()),
            connection(at, ConnectionConfig::tcp()),
        ];
        server
    });
    let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
    Resolver::builder_with_config(config, TokioRuntimeProvider::default()).build()
}

/// Looks a name up for as long as anybody wants to know.
async fn follow(
    host: PeerHost,
    supported: Vec<Transport>,
    resolver: TokioResolver,
    sender: mpsc::Sender<News>,
) {
    loop {
        let (found, again) = match search(&host, &supported, &resolver).await {
            Ok((found, until)) => {
                let left = until.saturating_duration_since(clock::now());
                (Ok(found), left.clamp(AGAIN_MIN, AGAIN_MAX))
            }
            Err(why) => (Err(why), AGAIN_FAILED),
        };
        let host = host.clone();
        if sender.send(News { host, found }).await.is_err() {
            return;
        }
        tokio::time::sleep(again).await;
    }
}

/// Asks until all is known; and until when that is valid.
async fn search(
    host: &PeerHost,
    supported: &[Transport],
    resolver: &TokioResolver,
) -> Result<(Vec<PeerAddress>, Instant), String> {
    let mut search = Search::new(host, supported);
    let mut until = clock::now() + AGAIN_MAX;
    while let Some(question) = search.question() {
        let (answer, valid) = ask(question, resolver).await?;
        until = valid.map_or(until, |valid| until.min(valid));
        search.answer(answer);
    }
    let found = search.found();
    if found.is_empty() {
        return Err("it has no records that lead anywhere".to_owned());
    }
    Ok((found, until))
}

/// That there are no such records is an answer; that nobody answers is not.
async fn ask(
    question: &Question,
    resolver: &TokioResolver,
) -> Result<(Answer, Option<Instant>), String> {
    let (name, types) = match question {
        Question::Services(name) => (name, &[RecordType::NAPTR][..]),
        Question::Servers(name) => (name, &[RecordType::SRV][..]),
        Question::Addresses(name) => (name, &[RecordType::A, RecordType::AAAA][..]),
    };
    let (mut answer, mut until): (Answer, Option<Instant>) = (Answer::default(), None);
    // A name that ends in a dot is not looked for below the domains of this host.
    let name = format!("{}.", name.trim_end_matches('.'));
    for kind in types {
        let found = match resolver.lookup(name.as_str(), *kind).await {
            Ok(found) => found,
            Err(error) if error.is_no_records_found() || error.is_nx_domain() => continue,
            Err(error) => return Err(format!("{name}: {error}")),
        };
        let valid = found.valid_until();
        until = Some(until.map_or(valid, |until| until.min(valid)));
        for record in found.answers() {
            enter(&record.data, &mut answer);
        }
    }
    Ok((answer, until))
}

fn enter(data: &RData, answer: &mut Answer) {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    if let RData::A(address) = data {
        answer.addresses.push(address.0.into());
    } else if let RData::AAAA(address) = data {
        answer.addresses.push(address.0.into());
    } else if let RData::SRV(server) = data {
        answer.servers.push(Server {
            priority: server.priority,
            weight: server.weight,
            port: server.port,
            target: server.target.to_ascii(),
        });
    } else if let RData::NAPTR(service) = data {
        answer.services.push(Service {
            order: service.order,
            preference: service.preference,
            flags: text(&service.flags),
            service: text(&service.services),
            replacement: service.replacement.to_ascii(),
        });
    }
}
