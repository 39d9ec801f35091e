//! Topics: no address occurs in one. Ids consist of `a-z`, `0-9`, `-` and `~`, 1 to 64 of them.

use std::fmt;

/// What every topic of ours begins with.
pub const PREFIX: &str = "towpath/v1";

/// A topic of the contract. `Display` writes it, [`Topic::parse`] reads it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Topic<'a> {
    /// `s/{sid}/state`, retained: a server and what it has.
    ServerState { sid: &'a str },
    /// `s/{sid}/evt/{about}`: events of registrations, calls and media.
    ServerEvent { sid: &'a str, about: About },
    /// `c/{cid}/…`
    Conference { cid: &'a str, part: Part<'a> },
}

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum About {
    Registrations,
    Calls,
    Media,
}

/// What of a conference.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Part<'a> {
    /// `state`, retained.
    State,
    /// `roster/{pid}`, retained; empty once the participant is gone.
    Roster { pid: &'a str },
    /// `floor/{fid}`, retained.
    Floor { fid: &'a str },
    /// `view/{vid}`, retained.
    View { vid: &'a str },
    /// `evt`: one ordered log, `seq` without gaps.
    Events,
    /// `cmd/{pid}`, written by that participant alone.
    Command { pid: &'a str },
    /// `rsp/{pid}`: one answer to each command.
    Response { pid: &'a str },
}

impl About {
    const ALL: [Self; 3] = [Self::Registrations, Self::Calls, Self::Media];

    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Registrations => "reg",
            Self::Calls => "call",
            Self::Media => "media",
        }
    }
}

impl<'a> Topic<'a> {
    /// None: it is not one of the contract's, or an id in it is no id.
    #[must_use]
    pub fn parse(topic: &'a str) -> Option<Self> {
        let rest = topic.strip_prefix(PREFIX)?.strip_prefix('/')?;
        let levels: Vec<&str> = rest.split('/').collect();
        match *levels.as_slice() {
            ["s", sid, "state"] if is_id(sid) => Some(Self::ServerState { sid }),
            ["s", sid, "evt", about] if is_id(sid) => {
                let about = About::ALL.into_iter().find(|a| a.word() == about)?;
                Some(Self::ServerEvent { sid, about })
            }
            ["c", cid, ref part @ ..] if is_id(cid) => {
                let part = Part::parse(part)?;
                Some(Self::Conference { cid, part })
            }
            _ => None,
        }
    }
}

impl<'a> Part<'a> {
    fn parse(levels: &[&'a str]) -> Option<Self> {
        match *levels {
            ["state"] => Some(Self::State),
            ["evt"] => Some(Self::Events),
            [_, id] if !is_id(id) => None,
            ["roster", pid] => Some(Self::Roster { pid }),
            ["floor", fid] => Some(Self::Floor { fid }),
            ["view", vid] => Some(Self::View { vid }),
            ["cmd", pid] => Some(Self::Command { pid }),
            ["rsp", pid] => Some(Self::Response { pid }),
            _ => None,
        }
    }
}

impl fmt::Display for Topic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServerState { sid } => write!(f, "{PREFIX}/s/{sid}/state"),
            Self::ServerEvent { sid, about } => write!(f, "{PREFIX}/s/{sid}/evt/{}", about.word()),
            Self::Conference { cid, part } => write!(f, "{PREFIX}/c/{cid}/{part}"),
        }
    }
}

impl fmt::Display for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State => f.write_str("state"),
            Self::Events => f.write_str("evt"),
            Self::Roster { pid } => write!(f, "roster/{pid}"),
            Self::Floor { fid } => write!(f, "floor/{fid}"),
            Self::View { vid } => write!(f, "view/{vid}"),
            Self::Command { pid } => write!(f, "cmd/{pid}"),
            Self::Response { pid } => write!(f, "rsp/{pid}"),
        }
    }
}

/// Whether a text may stand as an id in a topic.
#[must_use]
pub fn is_id(text: &str) -> bool {
    let fits = |c: u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'~');
    (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(fits)
}

/// The id that stands for a name of any letters: octets an id may not have, and `~`, are written as
/// `~` and two digits, so that no two names share one. A name too long for that ends in its hash.
#[must_use]
pub fn id_of(name: &str) -> String {
    let mut id = String::new();
    for octet in name.bytes() {
        match octet {
            b'a'..=b'z' | b'0'..=b'9' | b'-' => id.push(char::from(octet)),
            _ => id.push_str(&format!("~{octet:02x}")),
        }
    }
    if id.is_empty() {
        return "~".to_owned();
    }
    if id.len() > ID_BYTES_MAX {
        // FNV-1a.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, octet| {
            (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3)
        });
        id.truncate(ID_BYTES_MAX - HASH_BYTES);
        id.push_str(&format!("~~{hash:016x}"));
    }
    id
}

/// Of an id.
const ID_BYTES_MAX: usize = 64;
const HASH_BYTES: usize = 18;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_written_as_they_are_read() {
        for text in [
            "towpath/v1/s/edge-01/state",
            "towpath/v1/s/edge-01/evt/reg",
            "towpath/v1/s/edge-01/evt/call",
            "towpath/v1/s/edge-01/evt/media",
            "towpath/v1/c/edge-01~01k/state",
            "towpath/v1/c/edge-01~01k/evt",
            "towpath/v1/c/edge-01~01k/roster/p1",
            "towpath/v1/c/edge-01~01k/floor/audio",
            "towpath/v1/c/edge-01~01k/view/main",
            "towpath/v1/c/edge-01~01k/cmd/p1",
            "towpath/v1/c/edge-01~01k/rsp/p1",
        ] {
            let topic = Topic::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(topic.to_string(), text);
        }
        for text in [
            "",
            "towpath/v1",
            "towpath/v2/s/edge-01/state",
            "towpath/v1/s//state",
            "towpath/v1/s/EDGE/state",
            "towpath/v1/s/edge-01/evt/else",
            "towpath/v1/s/edge-01/state/more",
            "towpath/v1/c/x",
            "towpath/v1/c/x/cmd/+",
            "towpath/v1/c/x/cmd/p/q",
            "towpath/v1/c/x/cmd",
        ] {
            assert_eq!(Topic::parse(text), None, "{text}");
        }
        assert!(is_id(&"a".repeat(64)) && !is_id(&"a".repeat(65)));
    }

    #[test]
    fn every_name_has_an_id_of_its_own() {
        for (name, id) in [
            ("1001", "1001"),
            ("edge-01", "edge-01"),
            ("Edge_01", "~45dge~5f01"),
            ("a~b", "a~7eb"),
            ("", "~"),
            ("é", "~c3~a9"),
        ] {
            assert_eq!(id_of(name), id);
        }
        let (one, other) = (id_of(&"A".repeat(64)), id_of(&"A".repeat(65)));
        assert!(is_id(&one) && is_id(&other) && one != other);
    }
}
