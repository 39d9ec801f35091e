//! Decisions that registrations, calls and peers have in common.

use std::net::{IpAddr, SocketAddr};

use super::network::{Choice, Lost, Rule, choose};
use super::{Loser, Reason, Step, words};
use crate::config::{Config, Limits, MediaMode, NatMode, Network};
use crate::engine::Load;
use crate::id::{Listener, NetworkId, Path};

/// Which network, of a packet that arrives at `local` from `from`. `taken` is the network the
/// party was given when it came; the configuration may have changed since.
pub(super) fn network(
    config: &Config,
    local: IpAddr,
    from: IpAddr,
    taken: Option<NetworkId>,
) -> Option<Step> {
    let choice = choose(config, local, from)?;
    let id = taken.unwrap_or(choice.network);
    let network = config.network(id)?;
    let mut step = Step {
        topic: "network",
        question: "Which network?",
        decision: network.name.clone(),
        facts: vec![format!("packets arrive at {local} from {from}")],
        reason: rule(config, &choice, local, from),
        losers: losers(config, &choice, local, from),
        means: Some(format!("it is told {}", words::told(network))),
    };
    if choice.network != id {
        let now = words::name(config, choice.network);
        step.reason = Reason::fixed(format!(
            "so it was when it came; by the configuration of now it is {now}, from its next \
             request on"
        ));
        step.losers.clear();
    }
    Some(step)
}

fn rule(config: &Config, choice: &Choice, local: IpAddr, from: IpAddr) -> Reason {
    let name = words::name(config, choice.network);
    match choice.rule {
        Rule::Gateway(index) => Reason::of(
            config,
            format!("{from} rewrites sources: what comes from there is of this network"),
            format!("network.{name}.source_rewriting_gateways[{index}]"),
        ),
        Rule::Prefix(index, net) => Reason::of(
            config,
            format!("{net} is the longest prefix that holds {from}"),
            format!("network.{name}.peers[{index}]"),
        ),
        Rule::First => Reason::of(
            config,
            format!("no prefix holds {from}: it is the first network with {local}"),
            format!("network.{name}"),
        ),
    }
}

fn losers(config: &Config, choice: &Choice, local: IpAddr, from: IpAddr) -> Vec<Loser> {
    let why = |network: &Network, lost: Lost| match lost {
        Lost::Address => format!("it listens at {}, not at {local}", network.address),
        Lost::NotItsGateway(Some(net)) => {
            format!("{net} holds {from}, but a gateway comes before any prefix")
        }
        Lost::NotItsGateway(None) => format!("it does not name {from} as a gateway"),
        Lost::Shorter(net) => match choice.rule {
            Rule::Prefix(_, won) if won.prefix_len() == net.prefix_len() => {
                format!("{net} is as long, but stands later in the file")
            }
            Rule::Prefix(..) | Rule::Gateway(_) | Rule::First => {
                format!("{net} holds {from} too, but is shorter")
            }
        },
        Lost::NoPrefix => format!("none of its prefixes holds {from}"),
    };
    let lost = choice.losers.iter();
    lost.filter_map(|(id, lost)| {
        let network = config.network(*id)?;
        Some(Loser {
            network: network.name.clone(),
            why: why(network, *lost),
        })
    })
    .collect()
}

/// Whether it is behind a NAT.
pub(super) fn nat(config: &Config, network: &Network, natted: bool, why: String) -> Step {
    let key = format!("network.{}.nat", network.name);
    let reason = match network.nat {
        NatMode::Auto => Reason::fixed(why),
        NatMode::Always | NatMode::Never => Reason::of(config, why, key),
    };
    Step {
        topic: "nat",
        question: "Is it behind a NAT?",
        decision: words::yes_no(natted),
        facts: vec!["a private address alone is no sign of a NAT".to_owned()],
        reason,
        ..Step::default()
    }
}

/// Where our requests to it go.
pub(super) fn requests(natted: bool, path: Path, goes: Path) -> Step {
    let words = if goes.on.transport.is_reliable() {
        "a client is reached on the connection it made, a peer on the one there is or a new one"
    } else if natted {
        "behind a NAT only the way its packets came leads back to it"
    } else if goes.to == path.to {
        "its Contact says so, and its packets come from there"
    } else {
        "its Contact or its route says so"
    };
    Step {
        topic: "requests",
        question: "Where do requests to it go?",
        decision: goes.to.to_string(),
        facts: vec![format!("they leave from {}", goes.on)],
        reason: Reason::fixed(words),
        ..Step::default()
    }
}

/// Which address of ours it is told.
pub(super) fn told(config: &Config, network: &Network, on: Option<Listener>) -> Step {
    let decision = match on {
        Some(on) => words::told_sip(network, on).to_string(),
        None => network.advertise.to_string(),
    };
    let ours = network.advertise == network.address;
    let words = if ours {
        "its network is told our own address"
    } else {
        "its network is told another address, which a router leads to ours"
    };
    let (used, shown) = (network.media_ports, network.advertise_ports);
    let ports = if used == shown {
        format!("ports {}", words::range(used))
    } else {
        let (used, shown) = (words::range(used), words::range(shown));
        format!("ports {shown}, which are our {used}")
    };
    let listens = on.map(|on| format!("we listen at {on}"));
    let media = format!("media: {}, {ports}", network.advertise_media);
    let router = "without a mapping in that router nothing from outside would arrive here";
    Step {
        topic: "told",
        question: "Which address of ours is it told?",
        decision,
        facts: listens.into_iter().chain([media]).collect(),
        reason: Reason::of(config, words, format!("network.{}.advertise", network.name)),
        means: (!ours).then(|| router.to_owned()),
        ..Step::default()
    }
}

/// Where its media will go, before any SDP was seen.
pub(super) fn media(config: &Config, network: &Network, natted: Option<bool>) -> Step {
    let back = "back to where its packets come from";
    let (decision, words) = match (network.media, natted) {
        (MediaMode::Sdp, _) => ("where its SDP says", "SDP is taken by the letter"),
        (MediaMode::Symmetric, _) => (back, "the address in its SDP is not used"),
        (MediaMode::Auto, Some(true)) => (back, "it is behind a NAT"),
        (MediaMode::Auto, Some(false)) => (
            "where its SDP says, if that is in its network",
            "it is where it says it is",
        ),
        (MediaMode::Auto, None) => (
            "where its SDP says; if it is behind a NAT, back to where its packets come from",
            "each is treated as it shows itself",
        ),
    };
    let words = format!("media = \"{}\": {words}", words::media_mode(network.media));
    Step {
        topic: "media",
        question: "Where will its media go?",
        decision: decision.to_owned(),
        reason: Reason::of(config, words, format!("network.{}.media", network.name)),
        ..Step::default()
    }
}

/// Whether there is room for one more call in its network; none if that has no limit.
pub(super) fn capacity(config: &Config, network: &Network, load: Load) -> Option<Step> {
    let Limits { calls, bandwidth } = network.limits;
    let of = |limit: Option<u32>| limit.map_or(String::new(), |limit| format!(" of {limit}"));
    let key = |key: &str| format!("network.{}.{key}", network.name);
    let by = calls.map(|_| "max_calls");
    let by = by.or_else(|| bandwidth.map(|_| "max_bandwidth"))?;
    let full = |limit: Option<u32>, now: u64| limit.is_some_and(|limit| now >= limit.into());
    let full = full(calls, load.calls) || full(bandwidth, load.bandwidth);
    Some(Step {
        topic: "capacity",
        question: "Is there room for another call?",
        decision: words::yes_no(!full),
        facts: vec![
            format!("calls: {}{}", load.calls, of(calls)),
            format!("kbit/s: {}{}", load.bandwidth, of(bandwidth)),
        ],
        reason: Reason::of(config, "its network has a limit", key(by)),
        ..Step::default()
    })
}

/// `SocketAddr`s of the same host and port, whichever form they have.
pub(super) fn same(a: SocketAddr, b: SocketAddr) -> bool {
    (a.ip().to_canonical(), a.port()) == (b.ip().to_canonical(), b.port())
}
