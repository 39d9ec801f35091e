//! Interfaces: what their drivers can, and how they are set.

use super::kernel::{missing, unwanted};
use super::{Config, Facts, Verdict};
use crate::doctor::facts::Link;

/// The interfaces of the networks, each once.
fn used<'a>(config: &'a Config, facts: &'a Facts) -> Vec<&'a Link> {
    let mut found: Vec<&Link> = Vec::new();
    for network in &config.networks {
        if let Some(link) = facts.link(&network.interface)
            && !found.iter().any(|known| known.index == link.index)
        {
            found.push(link);
        }
    }
    found
}

/// Bits of `enum netdev_xdp_act` (linux/netdev.h).
const BASIC: u64 = 1;
const REDIRECT: u64 = 2;
const NDO_XMIT: u64 = 4;
const RX_SG: u64 = 32;

pub(super) fn features(config: &Config, facts: &Facts) -> Verdict {
    if let Some(skip) = unwanted(config) {
        return skip;
    }
    let (mut evidence, mut lacking, mut unknown) = (Vec::new(), Vec::new(), false);
    let links = used(config, facts);
    for link in &links {
        let Some(bits) = link.xdp_features else {
            unknown = true;
            evidence.push(format!("{}: the kernel does not tell", link.name));
            continue;
        };
        let named = |bit: u64, name: &'static str| (bits & bit != 0).then_some(name);
        let names = [
            named(BASIC, "BASIC"),
            named(REDIRECT, "REDIRECT"),
            named(NDO_XMIT, "NDO_XMIT"),
            named(RX_SG, "RX_SG"),
        ];
        let names: Vec<&str> = names.into_iter().flatten().collect();
        evidence.push(format!("{}: {}", link.name, names.join(" ")));
        // Attached, a driver says so by itself.
        let sends = bits & NDO_XMIT != 0 || links.len() < 2;
        if bits & BASIC == 0 || bits & REDIRECT == 0 || !sends {
            lacking.push((*link, bits));
        }
    }
    if let Some((link, bits)) = lacking.first() {
        let name = &link.name;
        let virtual_pair = link.kind.as_deref() == Some("veth");
        let (what, fix) = match (*bits & BASIC != 0, virtual_pair) {
            (true, true) => (
                format!("{name} takes no frames from XDP until its other end receives them so"),
                vec![format!(
                    "ethtool -K PEER-OF-{name} gro on   # in the peer's namespace"
                )],
            ),
            (true, false) => (
                format!("{name} takes no frames from XDP until it has a program of its own"),
                vec![
                    format!("ethtool -l {name}"),
                    "towpath bpf status".to_owned(),
                ],
            ),
            (false, _) => (
                format!("The driver of {name} cannot run XDP"),
                vec![format!("ethtool -i {name}")],
            ),
        };
        // A driver that sends only once it has a program itself gets one from us.
        if *bits & BASIC != 0 && !virtual_pair {
            return Verdict::pass(format!("{what}; it will get ours.")).seen(evidence);
        }
        return missing(config, &what).seen(evidence).fix(fix);
    }
    if unknown {
        return Verdict::unknown("Kernels before 6.3 do not tell what a driver can.")
            .seen(evidence);
    }
    Verdict::pass("The drivers run XDP and send what it redirects.").seen(evidence)
}

pub(super) fn foreign(config: &Config, facts: &Facts) -> Verdict {
    if let Some(skip) = unwanted(config) {
        return skip;
    }
    let running = facts.config.running.as_ref();
    let ours = |id: u32| {
        facts.kernel.own_programs.contains(&id)
            || running.is_some_and(|running| running.programs.contains(&id))
    };
    let mut evidence = Vec::new();
    for link in used(config, facts) {
        if let Some(id) = link.xdp.filter(|id| !ours(*id)) {
            evidence.push(format!("{} runs program {id}", link.name));
        }
    }
    let Some(first) = evidence.first() else {
        return Verdict::pass("No interface runs somebody else's program.");
    };
    let name = first.split(' ').next().unwrap_or_default().to_owned();
    missing(config, "Another XDP program has an interface of ours")
        .seen(evidence)
        .fix([
            "bpftool net".to_owned(),
            format!("ip link set dev {name} xdp off"),
        ])
}

pub(super) fn attach(config: &Config, facts: &Facts) -> Verdict {
    if let Some(skip) = unwanted(config) {
        return skip;
    }
    let Some(running) = &facts.config.running else {
        return Verdict::skip("No daemon runs: nothing is attached.");
    };
    match &running.datapath_off {
        Some(why) => missing(config, "The kernel path is off")
            .seen([why.clone()])
            .fix([
                "towpath bpf status".to_owned(),
                "journalctl -u towpath -b".to_owned(),
            ]),
        None => Verdict::pass("The daemon's program runs on every interface."),
    }
}

/// Features by the kernel's names that hand XDP frames it did not receive so.
const MERGING: [(&str, &str); 2] = [("rx-lro", "lro"), ("rx-gro-hw", "rx-gro-hw")];

pub(super) fn offload(config: &Config, facts: &Facts) -> Verdict {
    if let Some(skip) = unwanted(config) {
        return skip;
    }
    let (mut evidence, mut fix, mut known) = (Vec::new(), Vec::new(), false);
    for link in used(config, facts) {
        let Some(features) = &link.ethtool.features else {
            continue;
        };
        known = true;
        for (name, option) in MERGING {
            if features.contains(name) {
                evidence.push(format!("{}: {name} is on", link.name));
                fix.push(format!("ethtool -K {} {option} off", link.name));
            }
        }
    }
    if !evidence.is_empty() {
        return missing(
            config,
            "The card merges packets, so its driver refuses native XDP",
        )
        .seen(evidence)
        .fix(fix);
    }
    if !known {
        return Verdict::unknown("No driver tells its offloads.");
    }
    Verdict::pass("No card merges packets before the program sees them.")
}

pub(super) fn queues(config: &Config, facts: &Facts) -> Verdict {
    let (mut evidence, mut fix) = (Vec::new(), Vec::new());
    let processors = u32::try_from(facts.host.processors).unwrap_or(1);
    for link in used(config, facts) {
        let (None, Some((now, most))) = (&link.kind, link.ethtool.channels) else {
            continue;
        };
        let wanted = processors.min(most);
        if now < wanted {
            evidence.push(format!("{}: {now} of {most} queues", link.name));
            fix.push(format!("ethtool -L {} combined {wanted}", link.name));
        }
    }
    if evidence.is_empty() {
        return Verdict::pass("Received packets are spread as far as the cards can.");
    }
    evidence.push(format!("{processors} processors"));
    Verdict::warn("One processor receives what several could.")
        .seen(evidence)
        .fix(fix)
}

/// Slots that hold a burst of a hundred video streams.
const RING_MIN: u32 = 1024;

pub(super) fn ring(config: &Config, facts: &Facts) -> Verdict {
    let (mut evidence, mut fix) = (Vec::new(), Vec::new());
    for link in used(config, facts) {
        if let Some((now, most)) = link.ethtool.rx_ring
            && now < RING_MIN.min(most)
        {
            let wanted = most.min(RING_MIN * 2);
            evidence.push(format!("{}: {now} of {most} slots", link.name));
            fix.push(format!("ethtool -G {} rx {wanted}", link.name));
        }
    }
    if evidence.is_empty() {
        return Verdict::pass("The cards hold bursts.");
    }
    Verdict::warn("A burst of packets overruns the card's ring.")
        .seen(evidence)
        .fix(fix)
}

/// Below this a video packet of common size does not fit (RFC 8200 §5).
const MTU_MIN: u32 = 1280;
/// One page less its head- and tailroom: more takes a driver that knows several buffers.
const XDP_MTU_MAX: u32 = 3498;

pub(super) fn mtu(config: &Config, facts: &Facts) -> Verdict {
    let links = used(config, facts);
    let evidence: Vec<String> = links
        .iter()
        .map(|l| format!("{}: {}", l.name, l.mtu))
        .collect();
    let (Some(least), Some(most)) = (
        links.iter().min_by_key(|link| link.mtu),
        links.iter().max_by_key(|link| link.mtu),
    ) else {
        return Verdict::skip("No network has an interface.");
    };
    if least.mtu < MTU_MIN {
        return Verdict::fail(format!("Video packets do not fit through {}.", least.name))
            .seen(evidence)
            .fix([format!("ip link set dev {} mtu 1500", least.name)]);
    }
    if least.mtu < most.mtu {
        return Verdict::warn(format!(
            "What comes in by {} may be too large for {}: it is dropped there.",
            most.name, least.name
        ))
        .seen(evidence)
        .fix([format!("ip link set dev {} mtu {}", most.name, least.mtu)]);
    }
    let single = |link: &&&Link| link.xdp_features.is_some_and(|bits| bits & RX_SG == 0);
    let large = |link: &&&Link| link.mtu > XDP_MTU_MAX;
    if unwanted(config).is_none()
        && let Some(link) = links.iter().filter(single).find(large)
    {
        return missing(
            config,
            &format!("{} runs XDP only below an MTU of {XDP_MTU_MAX}", link.name),
        )
        .seen(evidence)
        .fix([format!("ip link set dev {} mtu 1500", link.name)]);
    }
    Verdict::pass("Packets that fit in fit out.").seen(evidence)
}
