//! Routers that rewrite the source of what they map: everybody behind them looks like a neighbour
//! and would be told an address only neighbours reach. Found by contradiction, never by an address
//! being private: several clients come from one neighbour's address, and each says it is somewhere
//! else, outside the network the address belongs to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use crate::config::{Config, Network};
use crate::engine::Engine;
use crate::engine::explain::network::{Rule, decide, longest};
use crate::id::NetworkId;
use crate::nat::policy::is_routable;

/// Clients that must come from one address: fewer may be phones that are set up wrongly.
pub const CLIENTS_MIN: usize = 3;
/// Different addresses they must say they have: one phone with many lines, or one told its public
/// address by STUN, says the same every time.
pub const HOSTS_MIN: usize = 2;
/// How often it is looked for, in sweeps of a second.
const LOOK_EVERY_S: u64 = 5;
/// Suspects remembered at a time.
pub const SUSPECTS_MAX: usize = 16;
/// Clients named as examples.
pub const EXAMPLES_MAX: usize = 3;

/// A client that registered: where it was seen and what it says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sighting<'a> {
    pub(super) aor: &'a str,
    /// Its instance, or else its contact: two of one account are two.
    pub(super) client: &'a [u8],
    /// Our address that its requests arrive at.
    pub(super) local: IpAddr,
    pub(super) source: SocketAddr,
    pub(super) via: Option<SocketAddr>,
    pub(super) contact: Option<SocketAddr>,
}

/// An address that looks like such a router.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Suspect {
    pub address: IpAddr,
    /// Our address that its packets arrive at.
    pub local: IpAddr,
    /// Where what comes from it is taken to be now.
    pub network: NetworkId,
    pub since: Instant,
    /// Clients that come from it and say they are elsewhere.
    pub clients: usize,
    /// Different addresses they say they have.
    pub hosts: usize,
    pub examples: Vec<Example>,
    /// The network its traffic belongs to; none if the configuration has no such network yet.
    pub outside: Option<NetworkId>,
}

/// One of the clients.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Example {
    pub aor: String,
    pub seen: SocketAddr,
    pub claimed: SocketAddr,
}

/// What changed at a look.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Changes {
    pub(super) raised: usize,
    pub(super) cleared: usize,
}

/// Remembers since when an address is suspected.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    /// By our address and theirs.
    suspects: BTreeMap<(IpAddr, IpAddr), Suspect>,
}

/// What was counted for one address.
#[derive(Default)]
struct Evidence<'a> {
    clients: BTreeSet<(&'a str, &'a [u8])>,
    hosts: BTreeSet<IpAddr>,
    examples: Vec<Example>,
}

impl Watch {
    /// Compares everybody who is registered with the configuration as it is now.
    pub(super) fn look<'a>(
        &mut self,
        config: &Config,
        sightings: impl Iterator<Item = Sighting<'a>>,
        now: Instant,
    ) -> Changes {
        let mut found: BTreeMap<(IpAddr, IpAddr), Evidence<'a>> = BTreeMap::new();
        for sighting in sightings {
            if let Some(claimed) = foreign(config, &sighting) {
                let key = (sighting.local, sighting.source.ip());
                found.entry(key).or_default().add(&sighting, claimed);
            }
        }
        let found = found.into_iter().filter(|(_, e)| e.is_enough());
        let suspects: BTreeMap<_, _> = found
            .filter_map(|(key, evidence)| {
                let since = self.suspects.get(&key).map_or(now, |old| old.since);
                Some((key, suspect(config, key, evidence, since)?))
            })
            .take(SUSPECTS_MAX)
            .collect();
        let missing = |these: &BTreeMap<_, Suspect>, those: &BTreeMap<_, Suspect>| {
            these.keys().filter(|key| !those.contains_key(*key)).count()
        };
        let changes = Changes {
            raised: missing(&suspects, &self.suspects),
            cleared: missing(&self.suspects, &suspects),
        };
        self.suspects = suspects;
        changes
    }

    /// By our address and theirs.
    pub(super) fn suspects(&self) -> impl Iterator<Item = &Suspect> {
        self.suspects.values()
    }
}

impl Engine {
    /// Looks at everybody who is registered; what changed is counted.
    pub(super) fn watch_gateways(&mut self, now: Instant) {
        if !self.sweeps.is_multiple_of(LOOK_EVERY_S) {
            return;
        }
        let sightings = self.registrar.iter().map(|(aor, binding)| Sighting {
            aor: aor.as_str(),
            client: binding.instance.as_ref().unwrap_or(&binding.contact),
            local: binding.path.on.local.ip(),
            source: binding.path.to,
            via: binding.via,
            contact: binding.claimed,
        });
        let changes = self.gateways.look(&self.config, sightings, now);
        for _ in 0..changes.raised {
            self.counters.count("gateway", "suspected");
        }
        for _ in 0..changes.cleared {
            self.counters.count("gateway", "cleared");
        }
    }

    /// Neighbours that look like routers which rewrite sources.
    #[must_use]
    pub fn suspected_gateways(&self) -> Vec<Suspect> {
        self.gateways.suspects().cloned().collect()
    }
}

impl<'a> Evidence<'a> {
    fn add(&mut self, sighting: &Sighting<'a>, claimed: SocketAddr) {
        if self.clients.insert((sighting.aor, sighting.client))
            && self.examples.len() < EXAMPLES_MAX
        {
            self.examples.push(Example {
                aor: sighting.aor.to_owned(),
                seen: sighting.source,
                claimed,
            });
        }
        self.hosts.insert(claimed.ip());
    }

    fn is_enough(&self) -> bool {
        self.clients.len() >= CLIENTS_MIN && self.hosts.len() >= HOSTS_MIN
    }
}

/// Where a client says it is, if that speaks for a router in between: it was taken for a neighbour
/// by a prefix, and its own network has no prefix for what it says.
fn foreign(config: &Config, sighting: &Sighting<'_>) -> Option<SocketAddr> {
    let source = sighting.source.ip().to_canonical();
    // A proxy on the way writes its own Via; a router leaves the client's.
    let via = sighting
        .via
        .filter(|via| via.ip().to_canonical() != source)?;
    let network = neighbourhood(config, sighting.local, sighting.source.ip())?;
    let elsewhere = |claimed: &SocketAddr| {
        let ip = claimed.ip().to_canonical();
        let ordinary = is_routable(source) && !is_routable(ip);
        ip != source
            && !ip.is_loopback()
            && !ip.is_unspecified()
            && longest(network, ip).is_none()
            // A public address before private ones is what every home router does.
            && !ordinary
    };
    [sighting.contact, Some(via)]
        .into_iter()
        .flatten()
        .find(elsewhere)
}

/// The network whose prefix makes a neighbour of a source.
fn neighbourhood(config: &Config, local: IpAddr, source: IpAddr) -> Option<&Network> {
    let (network, rule) = decide(config, local, source)?;
    match rule {
        Rule::Prefix(..) => config.network(network),
        Rule::Gateway(_) | Rule::First => None,
    }
}

fn suspect(
    config: &Config,
    (local, address): (IpAddr, IpAddr),
    evidence: Evidence<'_>,
    since: Instant,
) -> Option<Suspect> {
    let network = neighbourhood(config, local, address)?.id;
    let claimed = evidence.examples.first()?.claimed.ip();
    Some(Suspect {
        address,
        local,
        network,
        since,
        clients: evidence.clients.len(),
        hosts: evidence.hosts.len(),
        examples: evidence.examples,
        outside: outside(config, local, network, claimed),
    })
}

/// The network such clients belong to: among the others at the same address, the one that holds
/// what they say they are. The rule for gateways looks at the address that received a packet first.
fn outside(config: &Config, local: IpAddr, not: NetworkId, claimed: IpAddr) -> Option<NetworkId> {
    let others = config
        .networks()
        .filter(|(id, n)| n.address == local && *id != not);
    others
        .filter_map(|(id, n)| Some((longest(n, claimed)?.1.prefix_len(), id)))
        .max_by_key(|(length, id)| (*length, std::cmp::Reverse(*id)))
        .map(|(_, id)| id)
}

/// What has to be written, and below which header: the whole section if there is none yet.
#[must_use]
pub fn remedy(config: &Config, suspect: &Suspect) -> Remedy {
    let address = suspect.address;
    if let Some(outside) = suspect.outside.and_then(|id| config.network(id)) {
        let listed = outside.source_rewriting_gateways.iter().chain([&address]);
        let listed: Vec<String> = listed.map(|ip| format!("\"{ip}\"")).collect();
        return Remedy {
            network: Some(outside.name.clone()),
            lines: vec![format!(
                "source_rewriting_gateways = [{}]",
                listed.join(", ")
            )],
        };
    }
    let interface = config.network(suspect.network).map(|n| n.interface.clone());
    let all = if address.is_ipv4() {
        "0.0.0.0/0"
    } else {
        "::/0"
    };
    let lines = [
        "[[network]]".to_owned(),
        "name = \"outside\"".to_owned(),
        format!("interface = \"{}\"", interface.unwrap_or_default()),
        format!("address = \"{}\"", suspect.local),
        "advertise = \"…\"    # the router's outer address".to_owned(),
        format!("peers = [\"{all}\"]"),
        format!("source_rewriting_gateways = [\"{address}\"]"),
        "media_ports = \"…\"  # a range of its own, which the router maps".to_owned(),
    ];
    Remedy {
        network: None,
        lines: lines.to_vec(),
    }
}

/// A change of the configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Remedy {
    /// The `[[network]]` the lines go into; none if they are one.
    pub network: Option<String>,
    pub lines: Vec<String>,
}

#[cfg(test)]
mod tests;
