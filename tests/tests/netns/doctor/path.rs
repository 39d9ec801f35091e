//! Routes, ports, NAT: the way of packets to us and back.

use super::{CASE, Case, Patient, at};

const CASES: &[Case] = &[
    Case {
        name: "no way to the world",
        does: "ip route del default",
        undoes: "ip route add default via 203.0.113.2",
        finds: &[("net.routes", "fail")],
        says: "ip route get 198.51.100.77 from 203.0.113.10",
        ..CASE
    },
    Case {
        name: "the gateway is dead",
        does: "ip route replace default via 203.0.113.99",
        undoes: "ip route replace default via 203.0.113.2; ip neigh flush dev wan",
        finds: &[("net.routes", "fail")],
        says: "the gateway does not answer ARP",
        ..CASE
    },
    Case {
        name: "the way back is another card",
        config: |config| config.networks[1].peers = "10.50.0.0/16",
        does: "ip route add 10.50.0.0/16 via 10.9.0.20",
        undoes: "ip route del 10.50.0.0/16",
        finds: &[("net.routes", "warn")],
        says: "network lan: 10.1.0.1 to 10.50.0.10: via 10.9.0.20 by core",
        ..CASE
    },
    Case {
        name: "and sources are checked strictly",
        config: |config| config.networks[1].peers = "10.50.0.0/16",
        does: "ip route add 10.50.0.0/16 via 10.9.0.20; sysctl -qw net.ipv4.conf.lan.rp_filter=1",
        undoes: "ip route del 10.50.0.0/16; sysctl -qw net.ipv4.conf.lan.rp_filter=0",
        finds: &[("net.rp_filter", "fail")],
        says: "sysctl -w net.ipv4.conf.lan.rp_filter=2",
        ..CASE
    },
    Case {
        name: "strict, and every way back is the way in",
        does: "sysctl -qw net.ipv4.conf.all.rp_filter=1",
        undoes: "sysctl -qw net.ipv4.conf.all.rp_filter=0",
        ..CASE
    },
    Case {
        name: "a card that is down",
        does: "ip link set core down",
        undoes: "ip link set core up",
        finds: &[("net.link", "fail")],
        says: "ip link set dev core up",
        ..CASE
    },
    Case {
        name: "two cards in one subnet",
        does: "ip link add twin type veth peer name twin2; ip link set twin up; \
               ip link set twin2 up; ip addr add 10.9.0.7/24 dev twin metric 500",
        undoes: "ip link del twin",
        finds: &[("net.arp", "warn")],
        says: "net.ipv4.conf.core.arp_ignore=1",
        ..CASE
    },
    Case {
        name: "somebody has our SIP port",
        holds: &["203.0.113.10:5060"],
        finds: &[("port.busy", "fail")],
        says: "udp 203.0.113.10:5060 is held by",
        ..CASE
    },
    Case {
        name: "somebody has SIP's port everywhere",
        holds: &["0.0.0.0:5060"],
        finds: &[("port.busy", "fail")],
        says: "udp 0.0.0.0:5060 is held by",
        ..CASE
    },
    Case {
        name: "somebody has a media port",
        holds: &["10.1.0.1:20010"],
        finds: &[("port.busy", "warn")],
        says: "it is media of network lan",
        ..CASE
    },
    Case {
        name: "a port of somebody else's address is his",
        holds: &["10.1.0.2:20010", "127.0.0.1:5060"],
        ..CASE
    },
    Case {
        name: "media ports that anybody gets",
        config: |config| config.networks[0] = at(config.networks[0].clone(), (40_000, 40_199)),
        finds: &[("port.range", "warn")],
        says: "net.ipv4.ip_local_reserved_ports = 40000-40199",
        ..CASE
    },
    Case {
        name: "media ports that anybody got until they were reserved",
        config: |config| config.networks[0] = at(config.networks[0].clone(), (40_000, 40_199)),
        does: "sysctl -qw net.ipv4.ip_local_reserved_ports=40000-40199",
        undoes: "sysctl -qw net.ipv4.ip_local_reserved_ports=",
        ..CASE
    },
    Case {
        name: "anybody gets any port",
        does: "sysctl -qw 'net.ipv4.ip_local_port_range=1024 65535'",
        undoes: "sysctl -qw 'net.ipv4.ip_local_port_range=32768 60999'",
        finds: &[("port.range", "warn")],
        says: "20000-20199",
        ..CASE
    },
    Case {
        name: "the world is told an address of the LAN",
        config: |config| config.networks[0].more = "advertise = \"10.1.0.1\"\n",
        finds: &[("nat.legacy_view", "warn")],
        says: "network wan has peers outside (0.0.0.0/0) and is told 10.1.0.1",
        ..CASE
    },
];

#[test]
fn what_is_in_the_way_is_named() {
    let patient = Patient::new();
    patient.all(CASES);
}
