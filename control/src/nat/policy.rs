//! Who is behind a NAT, and whose word about addresses is taken: pure functions.
//!
//! The only sign of a NAT is a contradiction between what a message says and where it came from.
//! A private address (RFC 1918) says nothing: in a LAN it is the right one.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// What a request said about its sender, and where it came from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Seen {
    pub source: SocketAddr,
    /// Via sent-by, with the default port filled in; none for a host name.
    pub via: Option<(IpAddr, u16)>,
    /// Contact host and port likewise.
    pub contact: Option<(IpAddr, u16)>,
}

/// What follows from it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Treatment {
    /// Via sent-by is not the source: answer to the source (RFC 3581, forced).
    pub via: bool,
    /// Contact is not the source: requests go back along the recorded path.
    pub contact: bool,
}

/// What a request's addresses say about its sender.
#[must_use]
pub fn treatment(seen: &Seen) -> Treatment {
    Treatment {
        via: !is_source(seen.via, seen.source),
        contact: !is_source(seen.contact, seen.source),
    }
}

/// Whether the sender is behind a NAT: Via or Contact contradicts the source. A host name is a
/// contradiction: it is not known to mean the source.
#[must_use]
pub fn natted(seen: &Seen) -> bool {
    let treatment = treatment(seen);
    treatment.via || treatment.contact
}

/// Whether media may be sent where SDP says, although signalling comes from `source`: either it is
/// the same address, or another one of the same network (media on another box) that is not private
/// while the source is public.
#[must_use]
pub fn believable(source: IpAddr, claimed: IpAddr, network: &[IpNet]) -> bool {
    let (source, claimed) = (source.to_canonical(), claimed.to_canonical());
    source == claimed
        || network.iter().any(|prefix| prefix.contains(&claimed))
            && (is_routable(claimed) || !is_routable(source))
}

fn is_source(said: Option<(IpAddr, u16)>, source: SocketAddr) -> bool {
    said.is_some_and(|(ip, port)| {
        ip.to_canonical() == source.ip().to_canonical() && port == source.port()
    })
}

/// Not from a range that is private to a site, a link or a host (RFC 6890).
#[must_use]
pub fn is_routable(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            // RFC 6598: shared between carrier and customer.
            let shared = matches!(ip.octets(), [100, 64..=127, _, _]);
            !(shared || ip.is_private() || ip.is_link_local() || ip.is_loopback())
        }
        IpAddr::V6(ip) => !(ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_loopback()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_contradiction_is_a_nat() {
        let home = "203.0.113.9:1024";
        check("public, honest", home, Some(home), Some(home), false);
        check(
            "private, honest",
            "10.0.0.5:5060",
            Some("10.0.0.5:5060"),
            Some("10.0.0.5:5060"),
            false,
        );
        check(
            "via behind",
            home,
            Some("192.168.1.2:5060"),
            Some(home),
            true,
        );
        check(
            "contact behind",
            home,
            Some(home),
            Some("192.168.1.2:5060"),
            true,
        );
        check(
            "contact port differs",
            home,
            Some(home),
            Some("203.0.113.9:5060"),
            true,
        );
        check("contact is a name", home, Some(home), None, true);
        check("via is a name", home, None, Some(home), true);
        check(
            "mapped",
            "[::ffff:10.0.0.5]:5060",
            Some("10.0.0.5:5060"),
            Some("10.0.0.5:5060"),
            false,
        );

        fn check(
            name: &str,
            source: &str,
            via: Option<&str>,
            contact: Option<&str>,
            expected: bool,
        ) {
            let pair = |text: &str| -> (IpAddr, u16) {
                let at: SocketAddr = text.parse().unwrap();
                (at.ip(), at.port())
            };
            let seen = Seen {
                source: source.parse().unwrap(),
                via: via.map(pair),
                contact: contact.map(pair),
            };
            assert_eq!(natted(&seen), expected, "{name}");
        }
    }

    #[test]
    fn believes_the_same_network() {
        check("10.0.0.5", "10.0.0.5", &[], true);
        check("10.0.0.5", "10.0.0.6", &[], false);
        check("10.0.0.5", "10.0.0.6", &["10.0.0.0/8"], true);
        check("10.0.0.5", "192.168.0.6", &["10.0.0.0/8"], false);
        check("203.0.113.9", "192.168.1.2", &["0.0.0.0/0"], false);
        check("203.0.113.9", "100.64.1.2", &["0.0.0.0/0"], false);
        check("203.0.113.9", "198.51.100.2", &["0.0.0.0/0"], true);
        check("2001:db8::1", "2001:db8::2", &["::/0"], true);
        check("2001:db8::1", "fd00::2", &["::/0"], false);

        fn check(source: &str, claimed: &str, network: &[&str], expected: bool) {
            let network: Vec<IpNet> = network.iter().map(|p| p.parse().unwrap()).collect();
            let got = believable(source.parse().unwrap(), claimed.parse().unwrap(), &network);
            assert_eq!(got, expected, "{source} {claimed}");
        }
    }
}
