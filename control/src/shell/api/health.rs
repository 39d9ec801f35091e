//! What an operator should know before users call: warnings, and the one word for all of it.

use std::collections::BTreeSet;

use crate::config::check::Interface;
use crate::config::{DatapathMode, Network};
use crate::engine::gateway::{Remedy, Suspect, remedy};
use crate::id::NetworkId;
use crate::shell::outbox::Link;
use crate::shell::{Shell, clock};

/// Port pairs in use, in hundredths of those there are, above which it is time to act.
const PORTS_USED_PERCENT_MAX: usize = 90;

/// Most are renewed 30 days before their end.
const EXPIRY_WARNING_DAYS: u64 = 21;

/// A broker that restarts is back within this time.
const BROKER_AWAY_S: u64 = 10;

#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Health {
    pub(super) state: &'static str,
    pub(super) warnings: Vec<String>,
}

pub(super) fn health(shell: &Shell, now: std::time::Instant) -> Health {
    let config = shell.engine.config();
    let mut warnings = Vec::new();
    if let Err(why) = &shell.datapath.kernel
        && config.datapath.mode != DatapathMode::Userspace
    {
        warnings.push(format!("the kernel path is off: {why}"));
    }
    warnings.extend(shell.reloads.warning());
    warnings.extend(shell.store.warnings());
    warnings.extend(broker(shell, now));
    warnings.extend(shell.doctor.warnings());
    warnings.extend(shell.names.warnings(config));
    warnings.extend(shell.api.audit.warning());
    if let Ok(kernel) = &shell.datapath.kernel
        && let Some(why) = kernel.refused()
    {
        warnings.push(format!("the kernel program that ran before goes on: {why}"));
    }
    warnings.extend(left_out(shell.datapath.left_out()));
    let expires_s = shell.sip.certificate_expires_s();
    warnings.extend(expires_s.and_then(|at_s| expiry(at_s, clock::wall_s())));
    let interfaces = shell.datapath.netlink.interfaces();
    let all_missing = config
        .networks
        .iter()
        .all(|n| missing(n, &interfaces).is_some());
    let suspects = shell.engine.suspected_gateways();
    for network in config.networks() {
        warnings.extend(network_warnings(shell, network, &suspects, now));
    }
    let state = match (all_missing, warnings.is_empty()) {
        (true, _) => "down",
        (false, false) => "degraded",
        (false, true) => "ok",
    };
    Health { state, warnings }
}

/// Flows the kernel has no room for.
fn left_out(flows: usize) -> Option<String> {
    (flows > 0).then(|| {
        format!("{flows} flows are in userspace, as the flow table is full; raise datapath.flows")
    })
}

/// What does not reach the broker behind us.
fn broker(shell: &Shell, now: std::time::Instant) -> Option<String> {
    let view = shell.publisher.outbox.view(now)?;
    let url = view.broker;
    match view.link {
        Link::Up { refused, .. } => refused,
        Link::Down { since, why } => {
            let for_s = now.saturating_duration_since(since).as_secs();
            let (waiting, lost) = (view.depth, view.counts.full);
            let full = match lost {
                0 => String::new(),
                lost => format!(", and {lost} there was no room for"),
            };
            (for_s >= BROKER_AWAY_S).then(|| {
                format!(
                    "the broker {url} has not been reached for {for_s} s ({why}): {waiting} \
                     messages wait for it{full}"
                )
            })
        }
    }
}

/// A certificate that clients will soon refuse, or do already.
fn expiry(expires_s: u64, now_s: u64) -> Option<String> {
    let at = clock::rfc3339(expires_s);
    let days = expires_s.saturating_sub(now_s) / 86_400;
    let when = match expires_s.checked_sub(now_s) {
        None => format!("expired at {at}"),
        Some(_) if days < EXPIRY_WARNING_DAYS => format!("expires at {at}, in {days} days"),
        Some(_) => return None,
    };
    Some(format!(
        "the certificate for SIP over TLS {when}; put a new one into its file and \
         `systemctl reload towpath`"
    ))
}

/// What is wrong with one network.
pub(super) fn network_warnings(
    shell: &Shell,
    (id, network): (NetworkId, &Network),
    suspects: &[Suspect],
    now: std::time::Instant,
) -> Vec<String> {
    let mut warnings = Vec::new();
    warnings.extend(missing(network, &shell.datapath.netlink.interfaces()));
    let (used, pairs) = (shell.engine.ports_used(id, now), port_pairs(network));
    if used.saturating_mul(100) >= pairs.saturating_mul(PORTS_USED_PERCENT_MAX) {
        warnings.push(format!(
            "network {}: {used} of {pairs} port pairs are in use; widen media_ports",
            network.name
        ));
    }
    let here = suspects.iter().filter(|suspect| suspect.network == id);
    warnings.extend(here.map(|suspect| {
        let remedy = remedy(shell.engine.config(), suspect);
        let key = remedy
            .network
            .as_ref()
            .map(|name| format!("network.{name}"));
        let place = key.and_then(|key| shell.engine.place(&key));
        rewrites(network, suspect, &remedy, place)
    }));
    warnings
}

/// A router that rewrites sources, and the lines to write; each line is one of the text.
fn rewrites(
    network: &Network,
    suspect: &Suspect,
    remedy: &Remedy,
    place: Option<String>,
) -> String {
    let (name, address) = (&network.name, suspect.address);
    let examples = suspect.examples.iter();
    let examples: Vec<String> = examples
        .map(|e| format!("{} at {}", e.aor, e.claimed))
        .collect();
    let place = place.map(|place| format!(" ({place})")).unwrap_or_default();
    let place = match &remedy.network {
        Some(network) => format!("into [[network]] \"{network}\"{place}"),
        None => "a network for them".to_owned(),
    };
    format!(
        "network {name}: {address} looks like a router that rewrites sources: {} clients come from \
         it and say they are elsewhere ({}); they are told {}, which they may not reach. Write \
         {place}:\n{}\nIf it is an ordinary NAT inside {name}, add the prefix behind it to the \
         peers of {name} instead.",
        suspect.clients,
        examples.join(", "),
        network.advertise,
        remedy.lines.join("\n"),
    )
}

impl Shell {
    /// Links, addresses, routes or neighbours changed: flows are placed anew, and what is wrong
    /// with a network now, or is not any more, is a line in the log.
    pub(in crate::shell) async fn network_changed(&mut self) {
        self.datapath.replace_all().await;
        let netlink = &mut self.datapath.netlink;
        let interfaces = netlink.interfaces();
        let networks = &self.engine.config().networks;
        let now: BTreeSet<String> = networks
            .iter()
            .filter_map(|network| missing(network, &interfaces))
            .collect();
        for warning in now.difference(&netlink.said) {
            tracing::warn!("{warning}");
        }
        for warning in netlink.said.difference(&now) {
            tracing::info!("no longer so: {warning}");
        }
        netlink.said = now;
    }
}

/// Why nobody can reach us in this network, if its address has gone.
pub(super) fn missing(network: &Network, interfaces: &[Interface]) -> Option<String> {
    let (name, address) = (&network.name, network.address);
    match interfaces.iter().find(|i| i.name == network.interface) {
        None => Some(format!(
            "network {name}: interface {} is gone",
            network.interface
        )),
        Some(interface) if !interface.addresses.contains(&address) => Some(format!(
            "network {name}: {address} is not on {} any more",
            network.interface
        )),
        Some(interface) if !interface.up => Some(format!(
            "network {name}: {} is down: look at the cable, or `ip link set {} up`",
            interface.name, interface.name
        )),
        Some(_) => None,
    }
}

pub(super) fn port_pairs(network: &Network) -> usize {
    let ports = network.media_ports;
    usize::from(ports.last.saturating_sub(ports.first)).div_ceil(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check::check as read;

    fn network() -> Network {
        let text = "[sip]\ndomain = 'example.com'\n[[network]]\nname = 'lan'\n\
                    interface = 'eth1'\naddress = '10.0.0.3'\nmedia_ports = '20000-20099'\n";
        let config = read("t", text, None, &mut |_| {
            Err(std::io::ErrorKind::NotFound.into())
        });
        config.unwrap().networks[0].clone()
    }

    fn check(interface: &str, addresses: &[&str], expected: Option<&str>) {
        check_link(interface, true, addresses, expected);
    }

    fn check_link(interface: &str, up: bool, addresses: &[&str], expected: Option<&str>) {
        let interfaces = [Interface {
            name: interface.to_owned(),
            up,
            addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
        }];
        assert_eq!(missing(&network(), &interfaces).as_deref(), expected);
    }

    #[test]
    fn a_network_without_its_address_is_missed() {
        check("eth1", &["10.0.0.4", "10.0.0.3"], None);
        check(
            "eth1",
            &["10.0.0.4"],
            Some("network lan: 10.0.0.3 is not on eth1 any more"),
        );
        check(
            "eth0",
            &["10.0.0.3"],
            Some("network lan: interface eth1 is gone"),
        );
        check_link(
            "eth1",
            false,
            &["10.0.0.3"],
            Some("network lan: eth1 is down: look at the cable, or `ip link set eth1 up`"),
        );
    }

    #[test]
    fn a_certificate_is_missed_before_its_end() {
        const END_S: u64 = 1_798_761_600;
        let said = |before_s: u64| expiry(END_S, END_S - before_s);
        assert_eq!(said(21 * 86_400), None);
        let soon = said(21 * 86_400 - 1).unwrap();
        assert!(
            soon.contains("expires at 2027-01-01T00:00:00Z, in 20 days"),
            "{soon}"
        );
        let over = expiry(END_S, END_S + 1).unwrap();
        assert!(
            over.contains("TLS expired at 2027-01-01T00:00:00Z;"),
            "{over}"
        );
    }

    #[test]
    fn pairs_are_even_and_odd() {
        assert_eq!(port_pairs(&network()), 50);
    }
}
