//! The same thing is always said in the same words.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::{Config, MediaMode, NatMode, Network, PortRange};
use crate::id::{Listener, NetworkId, Transport};
use crate::media::Mode;
use crate::nat::latch::Policy;

/// What is known of a party's own words about its address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::engine) enum Said {
    /// It was not kept.
    Unknown,
    /// It is a host name.
    Name,
    At(SocketAddr),
}

impl Said {
    pub(in crate::engine) fn of(said: Option<SocketAddr>) -> Self {
        said.map_or(Self::Name, Self::At)
    }

    /// The same host at another port.
    pub(in crate::engine) fn at_port(self, port: u16) -> Self {
        match self {
            Self::At(at) => Self::At(SocketAddr::new(at.ip(), port)),
            Self::Unknown | Self::Name => self,
        }
    }

    fn contradicts(self, source: SocketAddr) -> bool {
        match self {
            Self::Unknown => false,
            Self::Name => true,
            Self::At(at) => {
                (at.ip().to_canonical(), at.port()) != (source.ip().to_canonical(), source.port())
            }
        }
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown => f.write_str("what was not kept"),
            Self::Name => f.write_str("a host name"),
            Self::At(at) => write!(f, "{at}"),
        }
    }
}

/// Why a party is taken to be behind a NAT, or not to be.
pub(in crate::engine) fn nat(
    mode: NatMode,
    natted: bool,
    source: SocketAddr,
    via: Said,
    contact: Said,
) -> String {
    let odd = (via.contradicts(source), contact.contradicts(source));
    match (mode, natted, odd) {
        (NatMode::Always, true, _) => "its network says so: nat = \"always\"".to_owned(),
        (NatMode::Never, false, (true, _) | (_, true)) => {
            "its network says so: nat = \"never\"".to_owned()
        }
        (_, _, (true, true)) if via == contact => {
            format!("Via and Contact say {via}, its packets come from {source}")
        }
        (_, _, (true, true)) => {
            format!("Via says {via} and Contact {contact}, its packets come from {source}")
        }
        (_, _, (true, false)) => format!("Via says {via}, its packets come from {source}"),
        (_, _, (false, true)) => format!("Contact says {contact}, its packets come from {source}"),
        (_, true, (false, false)) => {
            format!("Via says another address than its packets come from, {source}")
        }
        (_, false, (false, false)) => {
            "Via and Contact say the address its packets come from".to_owned()
        }
    }
}

/// What peers of a network are told of us.
pub(in crate::engine) fn told(network: &Network) -> String {
    let (sip, media) = (network.advertise, network.advertise_media);
    if sip == media {
        format!("{sip} in Contact, Via and SDP")
    } else {
        format!("{sip} in Contact and Via, {media} in SDP")
    }
}

/// Our SIP address as peers of a network are told it.
pub(in crate::engine) fn told_sip(network: &Network, on: Listener) -> SocketAddr {
    // The port that is mapped is SIP's own, over UDP and TCP alike.
    let mapped = network.advertise_port;
    let mapped = mapped.filter(|_| on.transport != Transport::Tls);
    let port = mapped.unwrap_or(on.local.port());
    SocketAddr::new(network.advertise, port)
}

pub(in crate::engine) fn range(ports: PortRange) -> String {
    format!("{}-{}", ports.first, ports.last)
}

pub(in crate::engine) fn name(config: &Config, id: NetworkId) -> String {
    let network = config.network(id);
    network.map_or_else(String::new, |n| n.name.clone())
}

pub(super) fn media_mode(mode: MediaMode) -> &'static str {
    match mode {
        MediaMode::Auto => "auto",
        MediaMode::Sdp => "sdp",
        MediaMode::Symmetric => "symmetric",
    }
}

/// The word of the configuration for it.
#[must_use]
pub fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Auto => "auto",
        Mode::Sdp => "sdp",
        Mode::Symmetric => "symmetric",
    }
}

pub(super) fn yes_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

pub(super) fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs())
}

/// Whether the address in a party's SDP is believed.
pub(super) fn believed(policy: Policy) -> &'static str {
    match policy {
        Policy::Strict { .. } | Policy::Believe { .. } => "yes",
        Policy::Learn { first: Some(_), .. } => "as a first guess",
        Policy::Learn { first: None, .. } | Policy::Nobody => "no",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nat_is_a_contradiction_or_an_order() {
        let source: SocketAddr = "203.0.113.2:1024".parse().unwrap();
        let own = Said::At(source);
        let inner = Said::At("192.168.1.10:5060".parse().unwrap());
        let other = Said::At("192.168.1.10:5062".parse().unwrap());
        let check = |mode, natted, via, contact, expected: &str| {
            assert_eq!(nat(mode, natted, source, via, contact), expected);
        };
        let auto = NatMode::Auto;
        let same = "Via and Contact say the address its packets come from";
        check(auto, false, own, own, same);
        let from = "its packets come from 203.0.113.2:1024";
        let both = format!("Via and Contact say 192.168.1.10:5060, {from}");
        check(auto, true, inner, inner, &both);
        let each = format!("Via says 192.168.1.10:5060 and Contact 192.168.1.10:5062, {from}");
        check(auto, true, inner, other, &each);
        let via = format!("Via says 192.168.1.10:5060, {from}");
        check(auto, true, inner, own, &via);
        let name = format!("Contact says a host name, {from}");
        check(auto, true, own, Said::Name, &name);
        let kept = "Via says another address than its packets come from, 203.0.113.2:1024";
        check(auto, true, Said::Unknown, own, kept);
        let always = "its network says so: nat = \"always\"";
        check(NatMode::Always, true, own, own, always);
        let never = "its network says so: nat = \"never\"";
        check(NatMode::Never, false, inner, own, never);
        check(NatMode::Never, false, own, own, same);
    }
}
