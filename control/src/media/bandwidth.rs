//! How much of a network a call takes, by what its parties say (`b=`, RFC 8866 §5.8).

use crate::sdp::lines::{Fault, Sdp, slice};

/// An audio line of which nobody says it: G.711 in packets of 20 ms, with all headers.
pub const AUDIO_KBITS: u32 = 88;
/// A video line of which nobody says it: 720p as rooms send it.
pub const VIDEO_KBITS: u32 = 2_000;
/// Any other line: floor control, far-end cameras and fax are small.
pub const OTHER_KBITS: u32 = 0;

/// What one party says with a line, in kbit/s.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Said {
    pub line: Option<u32>,
    /// Of all its lines together.
    pub session: Option<u32>,
}

/// What the party of an SDP says of its lines that are not rejected.
pub fn offered(body: &[u8]) -> Result<u64, Fault> {
    let sdp = Sdp::parse(body)?;
    let lines = sdp.media.iter().filter(|media| media.port != 0);
    let lines = lines.map(|media| {
        let said = Said {
            line: media.bandwidth,
            session: sdp.bandwidth,
        };
        (slice(body, &media.kind), said)
    });
    let lines: Vec<_> = lines.collect();
    Ok(of(&lines).unwrap_or_else(|| usual(lines.iter().map(|(kind, _)| *kind))))
}

/// What one party says of all its lines; none if it says nothing. A line it is silent about is the
/// session's matter, or takes what is usual.
#[must_use]
pub fn of(lines: &[(&[u8], Said)]) -> Option<u64> {
    let session = lines.iter().find_map(|(_, said)| said.session);
    let silent = lines.iter().any(|(_, said)| said.line.is_none());
    if lines.iter().all(|(_, said)| said.line.is_none()) && session.is_none() {
        return None;
    }
    let each = lines.iter();
    let sum = each.map(|(kind, said)| u64::from(said.line.unwrap_or_else(|| default_of(kind))));
    let sum = sum.sum();
    Some(match session {
        None => sum,
        Some(session) if silent => session.into(),
        Some(session) => sum.min(session.into()),
    })
}

/// What lines take of which nobody says it.
#[must_use]
pub fn usual<'a>(kinds: impl Iterator<Item = &'a [u8]>) -> u64 {
    kinds.map(|kind| u64::from(default_of(kind))).sum()
}

fn default_of(kind: &[u8]) -> u32 {
    match kind {
        b"audio" => AUDIO_KBITS,
        b"video" => VIDEO_KBITS,
        _ => OTHER_KBITS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_offer_takes() {
        let audio = "m=audio 4000 RTP/AVP 0\r\n";
        let video = "m=video 4002 RTP/AVP 96\r\n";
        check(&[audio], 88);
        check(&[audio, video], 2_088);
        check(&[audio, "b=AS:64\r\n", video, "b=AS:1024\r\n"], 1_088);
        check(&[audio, video, "b=AS:1024\r\n"], 1_112);
        check(&[audio, "b=TIAS:64001\r\n"], 65);
        check(&[audio, "b=AS:80\r\nb=TIAS:64000\r\n"], 80);
        // The session's: alone, above the sum, below it.
        check(&["b=AS:1920\r\n", audio, video], 1_920);
        check(&["b=CT:9000\r\n", audio, "b=AS:64\r\n"], 64);
        check(&["b=AS:50\r\n", audio, "b=AS:64\r\n"], 50);
        // What is not the media's, not a number, too large.
        check(&[audio, "b=RS:800\r\nb=RR:2400\r\nb=X-a:7\r\n"], 88);
        check(&[audio, "b=AS:-1\r\nb=AS:\r\nb=AS\r\nb=as:5\r\n"], 88);
        check(&[audio, "b=AS:99999999999999999999\r\n"], u32::MAX.into());
        // Rejected, and small ones.
        check(&["m=video 0 RTP/AVP 96\r\nb=AS:512\r\n"], 0);
        check(&[audio, "m=application 4004 UDP/BFCP *\r\n"], 88);
        check(&[], 0);

        fn check(lines: &[&str], expected: u64) {
            let body = format!("v=0\r\nc=IN IP4 192.0.2.1\r\n{}", lines.concat());
            assert_eq!(offered(body.as_bytes()), Ok(expected), "{lines:?}");
        }
    }
}
