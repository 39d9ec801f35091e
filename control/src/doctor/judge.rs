//! The list of checks. Their ids are for ever: documents, alerts and scripts name them.

mod firewall;
mod host;
mod kernel;
mod live;
mod nat;
mod net;
mod nic;
mod port;
mod way;

pub use nat::outer_port;

use super::facts::Source;
use super::{Check, Config, Facts, Severity, Verdict};

const fn check(
    id: &'static str,
    title: &'static str,
    severity: Severity,
    reads: &'static [Source],
    judge: fn(&Config, &Facts) -> Verdict,
) -> Check {
    Check {
        id,
        title,
        severity,
        depends_on: if matches!(id.as_bytes(), b"config") {
            &[]
        } else {
            &["config"]
        },
        reads,
        cheap: true,
        judge,
    }
}

impl Check {
    const fn after(self, depends_on: &'static [&'static str]) -> Self {
        Self { depends_on, ..self }
    }

    /// It asks others, or takes long.
    const fn costly(self) -> Self {
        Self {
            cheap: false,
            ..self
        }
    }
}

use Severity::{Critical, Major, Minor};
use Source::{
    Alg, Broker, Clock, Drops, Hairpin, Host, Inbound, Kernel, Legacy, Links, Nft, Routes, Sockets,
    Store, Stun, Upper, Xt,
};

#[rustfmt::skip]
pub(super) static CHECKS: &[Check] = &[
    check("config", "The file is valid, and what runs", Major, &[Source::Config], host::config),
    check("container", "The host's own network", Major, &[Host, Links], host::container),
    check("kernel.version", "A kernel new enough", Major, &[Kernel], kernel::version),
    check("kernel.btf", "The kernel describes its types", Minor, &[Kernel], kernel::btf),
    check("kernel.jit", "BPF programs are compiled", Major, &[Kernel], kernel::jit),
    check("kernel.memlock", "Memory for maps", Major, &[Kernel], kernel::memlock),
    check("caps.bpf", "The right to load the program", Critical, &[Kernel], kernel::capabilities),
    check("bpffs", "Where the program is pinned", Critical, &[Kernel], kernel::bpffs),
    check("xdp.object", "The kernel program is there", Critical, &[Kernel], kernel::object),
    check("net.link", "Every network's interface and address", Critical, &[Links], net::link),
    check("xdp.attach", "The kernel path is on", Critical, &[Links, Source::Config], nic::attach)
        .after(&["caps.bpf", "bpffs", "xdp.object", "xdp.foreign"]),
    check("xdp.features", "The driver forwards in the kernel", Major, &[Links], nic::features)
        .after(&["net.link"]),
    check("xdp.foreign", "Nobody else's program", Critical, &[Links, Kernel], nic::foreign)
        .after(&["net.link"]),
    check("nic.offload", "No merged packets", Critical, &[Links], nic::offload),
    check("nic.queues", "A queue for each processor", Minor, &[Links, Host], nic::queues),
    check("nic.ring", "Room for bursts", Minor, &[Links], nic::ring),
    check("nic.mtu", "Packets fit on both sides", Major, &[Links], nic::mtu).after(&["net.link"]),
    check("net.routes", "A way back to every network", Critical, &[Links, Routes], net::routes)
        .after(&["net.link"]),
    check("net.rp_filter", "Sources are not refused", Critical, &[Links, Routes], net::rp_filter)
        .after(&["net.link", "net.routes"]),
    check("net.forward", "Forwarding by the stack", Minor, &[Links], net::forward),
    check("net.arp", "The right card answers", Major, &[Links], net::arp),
    check("fw.nft", "nftables lets calls through", Critical, &[Nft], firewall::nft),
    check("fw.xt", "iptables lets calls through", Critical, &[Xt], firewall::xt),
    check("fw.legacy", "Legacy iptables lets calls through", Critical, &[Legacy], firewall::legacy),
    check("fw.other", "Who manages the firewall", Minor, &[Nft, Xt, Legacy], firewall::other),
    check("fw.conntrack", "Connection tracking", Major, &[Links], firewall::conntrack),
    check("fw.live", "Nothing is dropped now", Critical, &[Drops], live::live)
        .after(&["fw.nft", "fw.xt", "fw.legacy", "net.rp_filter", "fw.conntrack"]).costly(),
    check("port.range", "Media ports are nobody else's", Major, &[Links], port::range),
    check("port.busy", "Our ports are free", Critical, &[Sockets], port::busy).after(&["net.link"]),
    check("nat.legacy_view", "Everyone is told an address he can reach", Critical, &[], nat::view),
    check("nat.observed", "The advertised address is ours", Critical, &[Stun], nat::observed)
        .after(&["net.link", "net.routes"]).costly(),
    check("nat.inbound", "Advertised ports arrive", Critical, &[Inbound], nat::inbound)
        .after(&["net.link", "nat.observed"]).costly(),
    check("nat.hairpin", "Advertised addresses from inside", Minor, &[Hairpin], nat::hairpin)
        .after(&["net.link"]).costly(),
    check("sip.inbound", "SIP's ports arrive", Critical, &[Alg], nat::sip_inbound)
        .after(&["net.link", "nat.observed"]).costly(),
    check("sip.alg", "Nobody rewrites SIP on the way", Critical, &[Alg], nat::alg)
        .after(&["sip.inbound"]).costly(),
    check("clock", "The clock is right", Major, &[Clock], host::clock),
    check("disk", "Room for the store", Critical, &[Host], host::disk),
    check("store.path", "The disk is quick enough", Major, &[Store], way::store)
        .after(&["disk"]).costly(),
    check("mqtt.path", "The broker answers in time", Critical, &[Broker], way::broker).costly(),
    check("upstream.path", "The upper server answers in time", Critical, &[Upper], way::upper)
        .costly(),
    check("fd", "Open files", Critical, &[Host], host::files),
    check("mem", "Memory", Major, &[Host], host::memory),
];
