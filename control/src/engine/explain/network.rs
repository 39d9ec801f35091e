//! Which network a packet belongs to, and what every other network lacked. The decision itself is
//! `Config::network_of`; a test holds the two together.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::{Config, Network};
use crate::id::NetworkId;

/// The network of a packet that arrives at `local` from `from`, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::engine) struct Choice {
    pub(in crate::engine) network: NetworkId,
    pub(in crate::engine) rule: Rule,
    /// The others, in file order, each with why it was not this one.
    pub(in crate::engine) losers: Vec<(NetworkId, Lost)>,
}

/// What decided.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::engine) enum Rule {
    /// It names the source as a gateway that rewrites sources: the n-th of its list.
    Gateway(usize),
    /// Its prefix is the longest that holds the source: the n-th of its list.
    Prefix(usize, IpNet),
    /// No prefix holds the source; it is the first with this address.
    First,
}

/// Why a network was not chosen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::engine) enum Lost {
    /// Packets to its address are its own; this one came to another.
    Address,
    /// A network names the source as a gateway; this one would have had it by its prefix, if any.
    NotItsGateway(Option<IpNet>),
    /// The chosen prefix is longer, or of the same length and earlier in the file.
    Shorter(IpNet),
    /// None of its prefixes holds the source.
    NoPrefix,
}

/// None if no network has this address.
pub(in crate::engine) fn choose(config: &Config, local: IpAddr, from: IpAddr) -> Option<Choice> {
    let (network, rule) = decide(config, local, from)?;
    let others = config.networks().filter(|(id, _)| *id != network);
    let losers = others
        .map(|(id, other)| (id, lost(rule, other, local, from)))
        .collect();
    Some(Choice {
        network,
        rule,
        losers,
    })
}

/// The decision alone.
pub(in crate::engine) fn decide(
    config: &Config,
    local: IpAddr,
    from: IpAddr,
) -> Option<(NetworkId, Rule)> {
    let here = || config.networks().filter(move |(_, n)| n.address == local);
    let gateway = here().find_map(|(id, n)| {
        let listed = &n.source_rewriting_gateways;
        Some((id, Rule::Gateway(listed.iter().position(|g| *g == from)?)))
    });
    let prefix = || {
        let held = here().filter_map(|(id, n)| Some((id, longest(n, from)?)));
        // The longest; of equals, the first in the file.
        held.max_by_key(|(id, (_, net))| (net.prefix_len(), std::cmp::Reverse(*id)))
            .map(|(id, (index, net))| (id, Rule::Prefix(index, net)))
    };
    let first = || here().next().map(|(id, _)| (id, Rule::First));
    gateway.or_else(prefix).or_else(first)
}

fn lost(rule: Rule, other: &Network, local: IpAddr, from: IpAddr) -> Lost {
    let held = longest(other, from).map(|(_, net)| net);
    match (rule, held) {
        _ if other.address != local => Lost::Address,
        (Rule::Gateway(_), held) => Lost::NotItsGateway(held),
        (Rule::Prefix(..) | Rule::First, Some(net)) => Lost::Shorter(net),
        (Rule::Prefix(..) | Rule::First, None) => Lost::NoPrefix,
    }
}

/// The longest prefix of a network that holds an address, and where it stands in its list.
pub(in crate::engine) fn longest(network: &Network, ip: IpAddr) -> Option<(usize, IpNet)> {
    let held = network.peers.iter().enumerate();
    held.filter(|(_, net)| net.contains(&ip))
        .max_by_key(|(index, net)| (net.prefix_len(), std::cmp::Reverse(*index)))
        .map(|(index, net)| (index, *net))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::explain::testing::config;

    /// Two cards, one of which serves two networks; a gateway in the one with the longer prefix.
    const NETWORKS: &str = "
        [[network]]\nname = 'lan'\ninterface = 'eth1'\naddress = '10.0.0.3'
        peers = ['10.0.0.0/8', '10.1.0.0/16']\nmedia_ports = '20000-20099'
        [[network]]\nname = 'wan'\ninterface = 'eth1'\naddress = '10.0.0.3'
        peers = ['0.0.0.0/0']\nmedia_ports = '30000-30099'
        source_rewriting_gateways = ['10.0.0.8', '10.0.0.9']
        [[network]]\nname = 'other'\ninterface = 'eth2'\naddress = '10.9.0.3'
        peers = ['10.0.0.0/8']\n";

    #[test]
    fn the_rule_and_why_the_others_lost() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let (ten, sixteen, all) = (net("10.0.0.0/8"), net("10.1.0.0/16"), net("0.0.0.0/0"));
        let (lan, wan, other) = (NetworkId(0), NetworkId(1), NetworkId(2));
        check(
            "10.0.0.3",
            "10.0.0.9",
            (wan, Rule::Gateway(1)),
            &[
                (lan, Lost::NotItsGateway(Some(ten))),
                (other, Lost::Address),
            ],
        );
        check(
            "10.0.0.3",
            "10.1.2.3",
            (lan, Rule::Prefix(1, sixteen)),
            &[(wan, Lost::Shorter(all)), (other, Lost::Address)],
        );
        check(
            "10.0.0.3",
            "192.168.3.12",
            (wan, Rule::Prefix(0, all)),
            &[(lan, Lost::NoPrefix), (other, Lost::Address)],
        );
        check(
            "10.9.0.3",
            "192.168.3.12",
            (other, Rule::First),
            &[(lan, Lost::Address), (wan, Lost::Address)],
        );

        fn check(
            local: &str,
            from: &str,
            expected: (NetworkId, Rule),
            losers: &[(NetworkId, Lost)],
        ) {
            let config = config(NETWORKS);
            let found = choose(&config, local.parse().unwrap(), from.parse().unwrap()).unwrap();
            assert_eq!((found.network, found.rule), expected, "{local} {from}");
            assert_eq!(found.losers, losers, "{local} {from}");
        }
    }

    #[test]
    fn it_is_the_decision_the_engine_takes() {
        let config = config(NETWORKS);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for local in ["10.0.0.3", "10.9.0.3", "192.0.2.1"] {
            for from in [
                "10.0.0.8", "10.0.0.9", "10.1.0.1", "10.2.0.1", "8.8.8.8", "::1",
            ] {
                let chosen = choose(&config, ip(local), ip(from)).map(|choice| choice.network);
                let taken = config.network_of(ip(local), ip(from));
                assert_eq!(chosen, taken, "{local} {from}");
            }
        }
    }
}
