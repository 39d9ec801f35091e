//! What a single attribute line means, by webrtc-sdp. It is a WebRTC parser: it is only asked
//! about single lines, of bounded length, that we act on; an error means "not understood".

use std::str::FromStr;

use webrtc_sdp::attribute_type::{SdpAttribute, SdpAttributeSetup};

use super::lines::{Direction, Setup};

/// Longest attribute that is handed on.
pub const ATTRIBUTE_BYTES_MAX: usize = 1024;

/// The attributes the relay acts on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Meaning {
    Direction(Direction),
    /// `a=rtcp-mux`, `a=rtcp-mux-only`.
    Mux,
    /// `a=rtcp`: the caller finds the port and the address in place.
    Rtcp,
    /// `a=setup`: who connects.
    Setup(Setup),
    /// `a=ssrc`: a source this party sends with.
    Ssrc(u32),
}

/// The meaning of an attribute (the text after `a=`); none if it does not concern the relay or is
/// not understood.
#[must_use]
pub fn attribute(value: &[u8]) -> Option<Meaning> {
    let name = name(value);
    // A host name in a=rtcp is beyond the parser, but the line must never be left as it is.
    if name.eq_ignore_ascii_case(b"rtcp") {
        return Some(Meaning::Rtcp);
    }
    let ours = ACTED_ON
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known));
    if !ours || value.len() > ATTRIBUTE_BYTES_MAX {
        return None;
    }
    let text = std::str::from_utf8(value).ok()?.trim_end();
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "some forty attributes of a foreign enum"
    )]
    match SdpAttribute::from_str(text).ok()? {
        SdpAttribute::Sendrecv => Some(Meaning::Direction(Direction::SendRecv)),
        SdpAttribute::Sendonly => Some(Meaning::Direction(Direction::SendOnly)),
        SdpAttribute::Recvonly => Some(Meaning::Direction(Direction::RecvOnly)),
        SdpAttribute::Inactive => Some(Meaning::Direction(Direction::Inactive)),
        SdpAttribute::RtcpMux | SdpAttribute::RtcpMuxOnly => Some(Meaning::Mux),
        SdpAttribute::Setup(setup) => Some(Meaning::Setup(match setup {
            SdpAttributeSetup::Active => Setup::Active,
            SdpAttributeSetup::Passive => Setup::Passive,
            SdpAttributeSetup::Actpass => Setup::Either,
            SdpAttributeSetup::Holdconn => Setup::None,
        })),
        SdpAttribute::Ssrc(ssrc) => Some(Meaning::Ssrc(ssrc.id)),
        _ => None,
    }
}

/// Whether an attribute belongs to ICE (RFC 8839 §5, RFC 8840), which the relay does not speak.
#[must_use]
pub fn is_ice(value: &[u8]) -> bool {
    let name = name(value);
    ICE.iter().any(|known| name.eq_ignore_ascii_case(known))
}

const ACTED_ON: [&[u8]; 8] = [
    b"sendrecv",
    b"sendonly",
    b"recvonly",
    b"inactive",
    b"rtcp-mux",
    b"rtcp-mux-only",
    b"setup",
    b"ssrc",
];

const ICE: [&[u8]; 9] = [
    b"candidate",
    b"remote-candidates",
    b"end-of-candidates",
    b"ice-ufrag",
    b"ice-pwd",
    b"ice-options",
    b"ice-lite",
    b"ice-mismatch",
    b"ice-pacing",
];

fn name(value: &[u8]) -> &[u8] {
    value
        .split(|b| matches!(b, b':' | b' '))
        .next()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn understands_what_it_acts_on() {
        check("sendonly", Some(Meaning::Direction(Direction::SendOnly)));
        check("inactive ", Some(Meaning::Direction(Direction::Inactive)));
        check("setup:active", Some(Meaning::Setup(Setup::Active)));
        check("setup:actpass ", Some(Meaning::Setup(Setup::Either)));
        check("setup:holdconn", Some(Meaning::Setup(Setup::None)));
        check("setup:never", None);
        check("rtcp-mux", Some(Meaning::Mux));
        check("rtcp-mux-only", Some(Meaning::Mux));
        check("rtcp:5 IN IP4 media.example.com", Some(Meaning::Rtcp));
        check("ssrc:4294967295 cname:a", Some(Meaning::Ssrc(u32::MAX)));
        check("ssrc:4294967296 cname:a", None);
        check("sendonly:maybe", None);
        check("content:slides", None);
        check("rtcp-fb:* nack pli", None);

        fn check(value: &str, expected: Option<Meaning>) {
            assert_eq!(attribute(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn knows_ice() {
        check("candidate:1 1 UDP 2130706431 10.0.0.1 5000 typ host", true);
        check("ICE-ufrag:abcd", true);
        check("ice-lite", true);
        check("icefish", false);
        check("setup:actpass", false);

        fn check(value: &str, expected: bool) {
            assert_eq!(is_ice(value.as_bytes()), expected, "{value}");
        }
    }
}
