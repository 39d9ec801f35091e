//! What others see of us, against what we tell them.

use std::net::IpAddr;

use super::{Config, Facts, Verdict};
use crate::config::Network;
use crate::doctor::Status;
use crate::doctor::facts::{Arrival, Observed};
use crate::doctor::init::is_private;

/// An address told to peers who are elsewhere than it is.
pub(super) fn view(config: &Config, _: &Facts) -> Verdict {
    let (mut evidence, mut wrong, mut fix) = (Vec::new(), Vec::new(), Vec::new());
    for network in &config.networks {
        let (name, told) = (&network.name, network.advertise);
        let media = network.advertise_media;
        evidence.push(format!("network {name} is told {told}, for media {media}"));
        let public = network.peers.iter().any(|net| !is_private_net(*net));
        if public && (is_private(told) || is_private(media)) {
            wrong.push(format!(
                "network {name} has peers outside ({}) and is told {}",
                spell(network),
                if is_private(told) { told } else { media }
            ));
            fix.push(format!(
                "# [[network]] \"{name}\": advertise = \"THE ADDRESS THE ROUTER MAPS\", or peers \
                 that are inside only"
            ));
        }
    }
    if wrong.is_empty() {
        return Verdict::pass("Nobody is told an address of another place.").seen(evidence);
    }
    Verdict::warn("Clients outside are told a private address: they hear and see nothing.")
        .seen(wrong)
        .fix(fix)
}

fn spell(network: &Network) -> String {
    let nets: Vec<String> = network
        .peers
        .iter()
        .take(3)
        .map(ToString::to_string)
        .collect();
    nets.join(", ")
}

fn is_private_net(net: ipnet::IpNet) -> bool {
    net.prefix_len() > 0 && is_private(net.addr())
}

fn network<'a>(config: &'a Config, name: &str) -> Option<&'a Network> {
    config.networks.iter().find(|network| network.name == name)
}

/// The port outside of one of our media ports, as the network numbers them.
#[must_use]
pub fn outer_port(network: &Network, port: u16) -> u16 {
    let shift = network
        .advertise_ports
        .first
        .wrapping_sub(network.media_ports.first);
    port.wrapping_add(shift)
}

pub(super) fn observed(config: &Config, facts: &Facts) -> Verdict {
    if facts.stun.is_empty() {
        return Verdict::skip("No STUN server was named.")
            .fix(["towpath doctor --stun stun.example.com:3478".to_owned()]);
    }
    let mut seen = Seen::default();
    for answer in &facts.stun {
        if let Some(network) = network(config, &answer.network) {
            seen.take(network, answer, &facts.stun);
        }
    }
    let Seen {
        evidence,
        address,
        varies,
        port,
        silent,
    } = seen;
    if let Some((name, told, mapped)) = address {
        return Verdict::fail(format!(
            "Network {name} is told {told}, but the world sees us at {mapped}: media does not come."
        ))
        .seen(evidence)
        .fix([format!(
            "# [[network]] \"{name}\": advertise = \"{mapped}\""
        )]);
    }
    if let Some(name) = varies {
        return Verdict::fail(format!(
            "The router in front of network {name} maps each destination to another port: what is \
             advertised is never what peers see."
        ))
        .seen(evidence)
        .fix(["# map media_ports statically on the router, one to one".to_owned()]);
    }
    if let Some((name, local, mapped)) = port {
        return Verdict::warn(format!(
            "The router in front of network {name} sends from other ports than we do ({local} \
             becomes {mapped}): peers that answer to the source of media miss us."
        ))
        .seen(evidence)
        .fix(["# map media_ports statically on the router, one to one, both ways".to_owned()]);
    }
    if silent {
        return Verdict::unknown("A STUN server did not answer.")
            .seen(evidence)
            .fix(["towpath doctor --check nat.observed --stun OTHER:3478".to_owned()]);
    }
    Verdict::pass("The world sees us at the advertised address, at our own ports.").seen(evidence)
}

#[derive(Default)]
struct Seen {
    evidence: Vec<String>,
    address: Option<(String, IpAddr, IpAddr)>,
    varies: Option<String>,
    port: Option<(String, u16, u16)>,
    silent: bool,
}

impl Seen {
    fn take(&mut self, network: &Network, answer: &Observed, all: &[Observed]) {
        let (server, local) = (answer.server, answer.local);
        let mapped = match &answer.mapped {
            Ok(mapped) => *mapped,
            Err(why) => {
                self.silent = true;
                self.evidence
                    .push(format!("{server} asked from {local}: {why}"));
                return;
            }
        };
        self.evidence
            .push(format!("{server} sees {local} as {mapped}"));
        let name = network.name.clone();
        if mapped.ip() != network.advertise_media {
            let told = network.advertise_media;
            self.address
                .get_or_insert((name.clone(), told, mapped.ip()));
        }
        let other = all.iter().any(|other| {
            other.local == local && other.mapped.as_ref().is_ok_and(|seen| *seen != mapped)
        });
        if other {
            self.varies.get_or_insert(name.clone());
        }
        if mapped.port() != outer_port(network, local.port()) {
            self.port.get_or_insert((name, local.port(), mapped.port()));
        }
    }
}

pub(super) fn inbound(config: &Config, facts: &Facts) -> Verdict {
    if facts.inbound.is_empty() {
        return Verdict::skip("No second node was named that could knock from outside.").fix([
            "towpath doctor --peer unix:/run/towpath/towpath.sock   # of a node outside".to_owned(),
        ]);
    }
    let (missing, evidence) = arrivals(&facts.inbound);
    let Some(first) = missing.first() else {
        return Verdict::pass("What is sent to the advertised ports from outside arrives.")
            .seen(evidence);
    };
    let Some(network) = network(config, &first.network) else {
        return Verdict::unknown("The network is gone.").seen(evidence);
    };
    let (inside, outside) = (network.media_ports, network.advertise_ports);
    Verdict::fail(format!(
        "What peers of network {} send to {} does not arrive: the router does not map these ports.",
        first.network, network.advertise_media
    ))
    .seen(evidence)
    .fix([
        format!(
            "# on the router: map UDP {} ports {}-{} to {} ports {}-{}",
            network.advertise_media,
            outside.first,
            outside.last,
            network.address,
            inside.first,
            inside.last
        ),
        "towpath doctor --check fw.nft,fw.xt,fw.legacy".to_owned(),
    ])
}

pub(super) fn hairpin(config: &Config, facts: &Facts) -> Verdict {
    if facts.hairpin.is_empty() {
        return Verdict::skip("Every network is told an address this host has.");
    }
    if view(config, facts).status != Status::Pass {
        return Verdict::skip("nat.legacy_view comes first: what is advertised is in doubt.");
    }
    let (missing, evidence) = arrivals(&facts.hairpin);
    let inside = |arrival: &&&Arrival| {
        let network = network(config, &arrival.network);
        let told_inner = |n: &Network| n.advertise_media == n.address;
        let beside = |n: &&Network| network.is_some_and(|own| own.interface == n.interface);
        !config.networks.iter().filter(beside).any(told_inner)
    };
    if missing.is_empty() {
        return Verdict::pass("The router turns around what is sent to the advertised address.")
            .seen(evidence);
    }
    if !missing.iter().any(|arrival| inside(&arrival)) {
        return Verdict::pass(
            "The advertised address does not work from inside, and nobody inside is told it.",
        )
        .seen(evidence);
    }
    Verdict::warn(
        "The advertised address does not work from inside: whoever is inside must be in a network \
         of its own that is told the inner address.",
    )
    .seen(evidence)
    .fix(["towpath explain peer IP-OF-A-CLIENT-INSIDE".to_owned()])
}

fn arrivals(all: &[Arrival]) -> (Vec<&Arrival>, Vec<String>) {
    let line = |arrival: &Arrival| {
        let (to, at) = (arrival.sent_to, arrival.expected_at);
        match &arrival.arrived {
            Ok(from) => format!("sent to {to}: arrived at {at} from {from}"),
            Err(why) => format!("sent to {to}: not at {at}: {why}"),
        }
    };
    let missing = all
        .iter()
        .filter(|arrival| arrival.arrived.is_err())
        .collect();
    (missing, all.iter().map(line).collect())
}

/// Whether SIP from a second node comes to us at all.
pub(super) fn sip_inbound(_: &Config, facts: &Facts) -> Verdict {
    if facts.sip.is_empty() {
        return Verdict::skip("No second node was named that could call from outside.");
    }
    let udp = facts.sip.iter().map(|heard| {
        let (to, network) = (format!("udp {}", heard.sent_to), &heard.network);
        (network, to, heard.came.as_ref().err())
    });
    let tcp = facts.sip_tcp.iter().map(|reached| {
        let to = format!("tcp {}", reached.to);
        (&reached.network, to, reached.refused.as_ref())
    });
    let (mut evidence, mut missing) = (Vec::new(), Vec::new());
    for (network, to, why) in udp.chain(tcp) {
        match why {
            None => evidence.push(format!("{to}: arrived")),
            Some(why) => {
                evidence.push(format!("{to}: {why}"));
                missing.push((network, to));
            }
        }
    }
    let Some((network, _)) = missing.first() else {
        return Verdict::pass("What is sent to SIP's ports from outside arrives.").seen(evidence);
    };
    let router = missing
        .iter()
        .map(|(_, to)| format!("# on the router: map {to} to this host"));
    Verdict::fail(format!(
        "SIP from outside does not arrive in network {network}: nobody there can register or call."
    ))
    .seen(evidence)
    .fix(router)
    .fix(["towpath doctor --check fw.nft,fw.xt,fw.legacy".to_owned()])
}

/// Lines shown of a message that was changed.
const CHANGES_MAX: usize = 6;

/// Whether SIP comes as it was sent.
pub(super) fn alg(_: &Config, facts: &Facts) -> Verdict {
    if facts.sip.is_empty() {
        return Verdict::skip("No second node was named that could call from outside.");
    }
    let changed = facts.sip.iter().find_map(|heard| {
        let came = heard.came.as_ref().ok()?;
        (*came != heard.sent).then_some((heard, changes(&heard.sent, came)))
    });
    let Some((heard, changes)) = changed else {
        return Verdict::pass("SIP from outside arrives as it was sent, to the byte.");
    };
    Verdict::fail(format!(
        "Something between network {} and us rewrites SIP (an ALG): addresses in Contact, Via and \
         SDP are no longer those that were meant.",
        heard.network
    ))
    .seen(changes.into_iter().take(CHANGES_MAX))
    .fix([
        "# on the router: switch off SIP ALG (also called SIP helper, SIP inspection, VoIP \
         passthrough)"
            .to_owned(),
        "modprobe -r nf_nat_sip nf_conntrack_sip   # where the router is a Linux".to_owned(),
        "# or let phones use TLS, which nobody on the way can read".to_owned(),
    ])
}

/// What differs, line by line.
fn changes(sent: &str, came: &str) -> Vec<String> {
    let mut left: Vec<&str> = came.lines().collect();
    let mut gone = Vec::new();
    for line in sent.lines() {
        match left.iter().position(|other| *other == line) {
            Some(at) => drop(left.remove(at)),
            None => gone.push(line),
        }
    }
    let sent = gone.into_iter().map(|line| format!("sent: {line}"));
    let came = left.into_iter().map(|line| format!("came: {line}"));
    let mut all: Vec<String> = sent.chain(came).collect();
    if all.is_empty() {
        all.push("the same lines, with other ends or in another order".to_owned());
    }
    all
}
