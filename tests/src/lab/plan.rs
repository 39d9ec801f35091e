//! The lab's address plan. Documentation prefixes (RFC 5737, RFC 3849) and private ones.

/// The edge's interfaces, named like their networks, and their addresses.
pub const EDGE: [(&str, &[&str]); 3] = [
    ("wan", &["203.0.113.10/24", "2001:db8:1::10/64"]),
    ("lan", &["10.1.0.1/24", "10.1.0.2/24", "2001:db8:a::1/64"]),
    ("core", &["10.9.0.1/24", "2001:db8:9::1/64"]),
];

pub const EDGE_WAN: &str = "203.0.113.10";
pub const EDGE_LAN: &str = "10.1.0.1";
/// A second address in the LAN, for what a port-mapping router sends.
pub const EDGE_LAN_SECOND: &str = "10.1.0.2";
pub const EDGE_CORE: &str = "10.9.0.1";
pub const EDGE_WAN_V6: &str = "2001:db8:1::10";
pub const EDGE_LAN_V6: &str = "2001:db8:a::1";
pub const EDGE_CORE_V6: &str = "2001:db8:9::1";

pub const MCU_V4: &str = "10.9.0.20/24";
pub const MCU_V6: &str = "2001:db8:9::20/64";
pub const C3_V4: &str = "10.1.0.30/24";
pub const C3_V6: &str = "2001:db8:a::30/64";
pub const ATTACKER_V4: &str = "203.0.113.66/24";
pub const ATTACKER_V6: &str = "2001:db8:1::66/64";
pub const FAR_V4: &str = "203.0.113.77/24";
pub const FAR_V6: &str = "2001:db8:1::77/64";

pub const NAT1_WAN: &str = "203.0.113.2/24";
pub const NAT1_HOME: &str = "192.168.1.1/24";
/// Between a home router and a carrier's (RFC 6598).
pub const NAT1_CARRIER: &str = "100.64.0.2/10";
pub const CARRIER_HOME: &str = "100.64.0.1/10";
pub const C1_V4: &str = "192.168.1.10/24";
pub const C2_V4: &str = "192.168.1.11/24";

pub const PORT_MAP_LAN: &str = "10.1.0.254/24";
pub const PORT_MAP_OUT: &str = "198.51.100.1/24";
pub const OUTSIDE: &str = "198.51.100.7/24";
pub const OUTSIDE_NET: &str = "198.51.100.0/24";

/// The address of a prefix: `10.9.0.20/24` without its length.
#[must_use]
pub fn ip(prefix: &str) -> &str {
    prefix.split_once('/').map_or(prefix, |(ip, _)| ip)
}
