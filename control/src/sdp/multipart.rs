//! Finds the SDP inside a MIME body (RFC 5621, RFC 2046 §5.1), so that only that part is edited.

use std::ops::Range;

/// Most parts looked at.
pub const PARTS_MAX: usize = 16;

/// Where the SDP is, if the body has one: all of it for `application/sdp`, the first such part of
/// a `multipart/*`; none for anything else. `content_type` is the header's value.
#[must_use]
pub fn find(content_type: &[u8], body: &[u8]) -> Option<Range<usize>> {
    if is_type(content_type, b"application/sdp") {
        return Some(0..body.len());
    }
    let multipart = content_type
        .get(..MULTIPART.len())
        .is_some_and(|head| head.eq_ignore_ascii_case(MULTIPART));
    if !multipart {
        return None;
    }
    parts(body, &boundary(content_type)?).find_map(|part| sdp_of(body, &part))
}

/// The body with the SDP at `at` replaced.
#[must_use]
pub fn splice(body: &[u8], at: &Range<usize>, sdp: &[u8]) -> Vec<u8> {
    let before = body.get(..at.start).unwrap_or_default();
    let behind = body.get(at.end..).unwrap_or_default();
    [before, sdp, behind].concat()
}

const MULTIPART: &[u8] = b"multipart/";

/// The `boundary` parameter, quoted or not.
fn boundary(content_type: &[u8]) -> Option<Vec<u8>> {
    const NAME: &[u8] = b"boundary=";
    let at = content_type
        .windows(NAME.len())
        .position(|w| w.eq_ignore_ascii_case(NAME))?;
    let value = content_type.get(at + NAME.len()..)?;
    let value: Vec<u8> = match value.strip_prefix(b"\"") {
        Some(quoted) => quoted.iter().copied().take_while(|b| *b != b'"').collect(),
        None => value
            .iter()
            .copied()
            .take_while(|b| !matches!(b, b';' | b' ' | b'\t' | b'\r' | b'\n'))
            .collect(),
    };
    (!value.is_empty()).then_some(value)
}

/// The parts between delimiter lines, without the line end that belongs to the delimiter.
fn parts<'a>(body: &'a [u8], boundary: &[u8]) -> impl Iterator<Item = Range<usize>> + use<'a> {
    let mut delimiters = Vec::new();
    let mut start = 0;
    for line in body.split_inclusive(|b| *b == b'\n') {
        let end = start + line.len();
        let rest = line
            .strip_prefix(b"--")
            .and_then(|l| l.strip_prefix(boundary));
        if let Some(rest) = rest {
            let rest = rest.trim_ascii_end();
            if (rest.is_empty() || rest == b"--") && delimiters.len() <= PARTS_MAX {
                delimiters.push(start..end);
            }
        }
        start = end;
    }
    let next: Vec<_> = delimiters.iter().skip(1).map(|d| d.start).collect();
    delimiters.into_iter().zip(next).map(move |(from, to)| {
        let part = body.get(from.end..to).unwrap_or_default();
        let bare = part.strip_suffix(b"\n").unwrap_or(part);
        let bare = bare.strip_suffix(b"\r").unwrap_or(bare);
        from.end..from.end + bare.len()
    })
}

/// The content of a part, if its header says it is SDP.
fn sdp_of(body: &[u8], part: &Range<usize>) -> Option<Range<usize>> {
    const NAME: &[u8] = b"content-type:";
    let mut start = part.start;
    let mut found = false;
    for line in body.get(part.clone())?.split_inclusive(|b| *b == b'\n') {
        start += line.len();
        let text = line.trim_ascii();
        if text.is_empty() {
            return found.then_some(start..part.end);
        }
        if text
            .get(..NAME.len())
            .is_some_and(|n| n.eq_ignore_ascii_case(NAME))
        {
            let value = text.get(NAME.len()..).unwrap_or_default();
            found = is_type(value, b"application/sdp");
        }
    }
    None
}

fn is_type(value: &[u8], wanted: &[u8]) -> bool {
    let bare: &[u8] = value.split(|b| *b == b';').next().unwrap_or_default();
    bare.trim_ascii().eq_ignore_ascii_case(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_sdp() {
        check("application/sdp", SDP, Some(SDP));
        check("Application/SDP;charset=utf-8", SDP, Some(SDP));
        check("application/media_control+xml", SDP, None);
        check("multipart/mixed;boundary=xx", &mixed("xx"), Some(SDP));
        check(
            "multipart/related; boundary=\"x x\"; a=b",
            &mixed("x x"),
            Some(SDP),
        );
        check("multipart/mixed;boundary=other", &mixed("xx"), None);
        check("multipart/mixed", &mixed("xx"), None);
        check(
            "multipart/mixed;boundary=x",
            "--x\r\n\r\nno header\r\n--x--",
            None,
        );
        check(
            "multipart/mixed;boundary=x",
            "--x\r\nContent-Type: application/sdp\r\n",
            None,
        );

        fn check(content_type: &str, body: &str, expected: Option<&str>) {
            let at = find(content_type.as_bytes(), body.as_bytes());
            assert_eq!(at.map(|at| &body[at]), expected, "{content_type}");
        }
    }

    #[test]
    fn other_parts_survive() {
        let body = mixed("xx");
        let at = find(b"multipart/mixed;boundary=xx", body.as_bytes()).unwrap();
        let out = splice(body.as_bytes(), &at, b"NEW");
        assert_eq!(String::from_utf8(out).unwrap(), body.replace(SDP, "NEW"));
    }

    const SDP: &str = "v=0\r\nm=audio 1 RTP/AVP 0\r\n";

    fn mixed(boundary: &str) -> String {
        format!(
            "preamble\r\n--{boundary}\r\nContent-Type: application/x\r\n\r\nbinary\r\n\
             --{boundary}\r\ncontent-type: application/sdp\r\nContent-Length: 9\r\n\r\n{SDP}\r\n\
             --{boundary}--\r\n"
        )
    }
}
