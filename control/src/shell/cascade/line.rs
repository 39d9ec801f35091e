//! What crosses a connection between two servers: lines of JSON, each a frame or none, each saying
//! how far its sender has heard the other.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::cascade::link::{Had, Link, Numbered};
use crate::cascade::wire::FRAME_BYTES_MAX;

/// The version of what is written here.
const VERSION: u32 = 1;
/// A line holds a frame and a little more.
pub(super) const LINE_BYTES_MAX: usize = FRAME_BYTES_MAX + 4096;

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Line {
    v: u32,
    /// Who says it.
    pub(super) sid: String,
    boot: String,
    pub(super) oldest: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    had: Option<Heard>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    f: Option<Box<RawValue>>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Heard {
    boot: String,
    n: u64,
}

impl Line {
    pub(super) fn of(sid: &str, link: &Link, numbered: Option<Numbered>) -> Self {
        let boot = |boot: u64| format!("{boot:016x}");
        let raw = |frame: &Bytes| {
            let text = std::str::from_utf8(frame).ok()?;
            RawValue::from_string(text.to_owned()).ok()
        };
        Self {
            v: VERSION,
            sid: sid.to_owned(),
            boot: boot(link.boot()),
            oldest: link.oldest(),
            had: link.heard().map(|had| Heard {
                boot: boot(had.boot),
                n: had.number,
            }),
            n: numbered.as_ref().map(|numbered| numbered.number),
            f: numbered.and_then(|numbered| raw(&numbered.frame)),
        }
    }

    /// None: it is none of ours.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let line: Self = serde_json::from_slice(text).ok()?;
        (line.v == VERSION).then_some(line)
    }

    /// With its end.
    pub(super) fn write(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec(self).unwrap_or_default();
        text.push(b'\n');
        text
    }

    pub(super) fn boot(&self) -> Option<u64> {
        u64::from_str_radix(&self.boot, 16).ok()
    }

    pub(super) fn had(&self) -> Option<Had> {
        let had = self.had.as_ref()?;
        Some(Had {
            boot: u64::from_str_radix(&had.boot, 16).ok()?,
            number: had.n,
        })
    }

    /// The frame in it; empty if it was not worth sending any more.
    pub(super) fn numbered(&self) -> Option<Numbered> {
        let frame = self.f.as_ref().map(|f| f.get().as_bytes());
        Some(Numbered {
            number: self.n?,
            frame: Bytes::copy_from_slice(frame.unwrap_or_default()),
        })
    }
}

/// Cuts what arrives into lines.
#[derive(Debug, Default)]
pub(super) struct Lines(Vec<u8>);

impl Lines {
    /// Those that are whole now; none: a line is longer than one may be.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
        self.0.extend_from_slice(bytes);
        let mut lines = Vec::new();
        while let Some(end) = self.0.iter().position(|byte| *byte == b'\n') {
            let rest = self.0.split_off(end + 1);
            let mut line = std::mem::replace(&mut self.0, rest);
            line.pop();
            lines.push(line);
        }
        (self.0.len() <= LINE_BYTES_MAX).then_some(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_are_written() {
        let mut link = Link::new(0xab);
        let mut other = Link::new(0xcd);
        let frame = Bytes::from_static(br#"{"a":  1.50}"#);
        other.push(frame.clone(), None).unwrap();
        let sent = other.take(crate::shell::clock::now()).unwrap();
        assert_eq!(link.receive(0xcd, 1, sent.clone()), [frame]);
        let line = Line::of("edge-01", &link, Some(sent.clone()));
        let text = line.write();
        assert_eq!(
            String::from_utf8(text.clone()).unwrap(),
            "{\"v\":1,\"sid\":\"edge-01\",\"boot\":\"00000000000000ab\",\"oldest\":1,\
             \"had\":{\"boot\":\"00000000000000cd\",\"n\":1},\"n\":1,\"f\":{\"a\":  1.50}}\n"
        );
        let read = Line::read(&text).unwrap();
        assert_eq!(
            (read.boot(), read.had(), read.numbered()),
            (Some(0xab), link.heard(), Some(sent))
        );
        for other in [
            "",
            "{}",
            "{\"v\":2,\"sid\":\"a\",\"boot\":\"1\",\"oldest\":1}",
        ] {
            assert!(Line::read(other.as_bytes()).is_none(), "{other}");
        }
    }

    #[test]
    fn lines_come_in_pieces() {
        let mut lines = Lines::default();
        let mut all = Vec::new();
        for piece in ["a", "b\nc", "", "\n\nd"] {
            all.extend(lines.push(piece.as_bytes()).unwrap());
        }
        assert_eq!(all, [&b"ab"[..], b"c", b""]);
        assert!(lines.push(&vec![b'x'; LINE_BYTES_MAX]).is_none());
    }
}
