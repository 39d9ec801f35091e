//! Messages as they travel: commands that are read, answers and states that are written. JSON with
//! strict limits; fields nobody knows are ignored.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::bus::moment::{Now, rfc3339_ms};

/// Of one message.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// How deep objects and lists may lie in one another.
pub const DEPTH_MAX: usize = 16;
/// Of a name, a reason or a question in a message.
pub const TEXT_BYTES_MAX: usize = 256;
/// Of an id a client makes up.
const ID_BYTES_MAX: usize = 64;
/// What every JSON library holds exactly.
const NUMBER_MAX: u64 = 1 << 53;

/// The version of the envelope.
const VERSION: u64 = 1;

/// What state has come about: the home server's epoch, then a count that only grows. Ordered as a
/// pair.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Revision {
    pub epoch: u64,
    pub rev: u64,
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.rev)
    }
}

impl FromStr for Revision {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (epoch, rev) = text.split_once('.').ok_or(())?;
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
            let number = digits.then(|| text.parse::<u64>().ok()).flatten();
            number.filter(|n| *n <= NUMBER_MAX).ok_or(())
        };
        Ok(Self {
            epoch: number(epoch)?,
            rev: number(rev)?,
        })
    }
}

/// What a participant wants.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// The idempotency key; legacy clients give none.
    pub id: Option<String>,
    pub kind: String,
    /// The run of the client's program that sent it.
    pub inst: String,
    /// Whom it says it is from.
    pub pid: Option<String>,
    pub cseq: Option<u64>,
    pub if_rev: Option<Revision>,
    pub data: Map<String, Value>,
}

/// Why a message is no command; `id` is that of the message, if it has one that can be answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Malformed {
    pub id: Option<String>,
    pub code: &'static str,
}

impl Command {
    /// # Errors
    /// What is wrong with it.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let nameless = |code| Malformed { id: None, code };
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(nameless("too_large"));
        }
        if depth(bytes) > DEPTH_MAX {
            return Err(nameless("too_deep"));
        }
        let Ok(Value::Object(mut message)) = serde_json::from_slice(bytes) else {
            return Err(nameless("not_json"));
        };
        let id = match message.get("id") {
            None | Some(Value::Null) => None,
            Some(Value::String(id)) if is_name(id) => Some(id.clone()),
            Some(_) => return Err(nameless("bad_id")),
        };
        let wrong = |code| Malformed {
            id: id.clone(),
            code,
        };
        match message.get("v") {
            None => {}
            Some(v) if v.as_u64() == Some(VERSION) => {}
            Some(_) => return Err(wrong("bad_version")),
        }
        let kind = message.get("type").and_then(Value::as_str);
        let kind = kind.filter(|kind| (1..=TEXT_BYTES_MAX).contains(&kind.len()));
        let kind = kind.ok_or_else(|| wrong("no_type"))?.to_owned();
        let (pid, inst) = source(message.get("src")).ok_or_else(|| wrong("bad_src"))?;
        let cseq = match message.get("cseq") {
            None | Some(Value::Null) => None,
            Some(cseq) => {
                let cseq = cseq.as_u64().filter(|n| (1..=NUMBER_MAX).contains(n));
                Some(cseq.ok_or_else(|| wrong("bad_cseq"))?)
            }
        };
        let if_rev = match message.get("if_rev") {
            None | Some(Value::Null) => None,
            Some(rev) => {
                let rev = rev.as_str().and_then(|rev| rev.parse().ok());
                Some(rev.ok_or_else(|| wrong("bad_if_rev"))?)
            }
        };
        let data = match message.remove("data") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(data)) => data,
            Some(_) => return Err(wrong("bad_data")),
        };
        Ok(Self {
            id,
            kind,
            inst,
            pid,
            cseq,
            if_rev,
            data,
        })
    }

    /// A text in `data`, of bounded length.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        let text = self.data.get(name).and_then(Value::as_str);
        text.filter(|text| text.len() <= TEXT_BYTES_MAX)
    }
}

/// `src`: the participant, if it says so, and the run of its program; none if that cannot be.
fn source(src: Option<&Value>) -> Option<(Option<String>, String)> {
    let src = match src {
        None | Some(Value::Null) => return Some((None, String::new())),
        Some(src) => src.as_object()?,
    };
    let name = |name: &str| match src.get(name) {
        None | Some(Value::Null) => Some(None),
        Some(Value::String(text)) if is_name(text) => Some(Some(text.clone())),
        Some(_) => None,
    };
    Some((name("pid")?, name("inst")?.unwrap_or_default()))
}

/// A name that clients make up: an ULID, or any other of letters, digits, `-`, `_`, `~` and `.`.
fn is_name(text: &str) -> bool {
    let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'~' | b'.');
    (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(fits)
}

/// How deep brackets lie in one another, outside of texts.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut most, mut text, mut escaped) = (0usize, 0, false, false);
    for octet in json {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if text => escaped = true,
            b'"' => text = !text,
            b'{' | b'[' if !text => {
                depth += 1;
                most = most.max(depth);
            }
            b'}' | b']' if !text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    most
}

/// What became of a command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status {
    Ok,
    /// It waits its turn, and is kept.
    Accepted,
    Denied,
    /// A later command of the same client has been carried out.
    Stale,
    /// The state is not the one it was meant for.
    Conflict,
    Error,
}

impl Status {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Accepted => "accepted",
            Self::Denied => "denied",
            Self::Stale => "stale",
            Self::Conflict => "conflict",
            Self::Error => "error",
        }
    }
}

/// The one answer to a command.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub status: Status,
    /// Why it is not `ok`, as a stable word.
    pub code: Option<&'static str>,
    pub data: Value,
}

impl Answer {
    #[must_use]
    pub fn ok(data: Value) -> Self {
        Self {
            status: Status::Ok,
            code: None,
            data,
        }
    }

    #[must_use]
    pub fn refused(status: Status, code: &'static str) -> Self {
        Self {
            status,
            code: Some(code),
            data: json!({}),
        }
    }

    /// As it travels. `revision` is that of the conference; there may be none.
    #[must_use]
    pub fn document(
        &self,
        sid: &str,
        cause: Option<&str>,
        revision: Option<Revision>,
        now: Now,
    ) -> Bytes {
        let mut document = json!({
            "v": VERSION,
            "type": "rsp",
            "ts": rfc3339_ms(now.wall_ms),
            "src": { "sid": sid },
            "cause": cause,
            "status": self.status.word(),
            "code": self.code,
            "data": self.data,
        });
        if let (Some(revision), Some(fields)) = (revision, document.as_object_mut()) {
            fields.insert("epoch".to_owned(), revision.epoch.into());
            fields.insert("rev".to_owned(), revision.rev.into());
        }
        document.to_string().into()
    }
}

/// A state or an event of a home server.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub sid: &'a str,
    pub kind: &'a str,
    pub revision: Revision,
    /// Of events alone.
    pub seq: Option<u64>,
    /// The command that led to it.
    pub cause: Option<&'a str>,
    pub data: &'a Value,
}

impl Message<'_> {
    /// As it travels.
    #[must_use]
    pub fn document(&self, now: Now) -> Bytes {
        let mut document = json!({
            "v": VERSION,
            "type": self.kind,
            "ts": rfc3339_ms(now.wall_ms),
            "src": { "sid": self.sid },
            "epoch": self.revision.epoch,
            "rev": self.revision.rev,
            "cause": self.cause,
            "data": self.data,
        });
        if let (Some(seq), Some(fields)) = (self.seq, document.as_object_mut()) {
            fields.insert("seq".to_owned(), seq.into());
        }
        document.to_string().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read() {
        let command = Command::read(
            br#"{"v":1,"id":"01KA","type":"floor.request",
            "src":{"pid":"p17","inst":"01K","net":"lan"},
            "cseq":12,"if_rev":"7.42","data":{"fid":"audio"},"nobody":{"knows":"it"}}"#,
        );
        let command = command.unwrap();
        assert_eq!(command.id.as_deref(), Some("01KA"));
        assert_eq!(command.kind, "floor.request");
        assert_eq!(
            (command.pid.as_deref(), &*command.inst),
            (Some("p17"), "01K")
        );
        assert_eq!(command.cseq, Some(12));
        assert_eq!(command.if_rev, Some(Revision { epoch: 7, rev: 42 }));
        assert_eq!(command.text("fid"), Some("audio"));
        let bare = Command::read(br#"{"type":"zoom_in"}"#).unwrap();
        assert_eq!((bare.id, bare.cseq, &*bare.inst), (None, None, ""));
    }

    #[track_caller]
    fn refused(bytes: &[u8], id: Option<&str>, code: &str) {
        let malformed = Command::read(bytes).unwrap_err();
        assert_eq!((malformed.id.as_deref(), malformed.code), (id, code));
    }

    #[test]
    fn what_is_no_command_is_refused_by_name() {
        refused(b"", None, "not_json");
        refused(b"[]", None, "not_json");
        refused(b"{\"id\":", None, "not_json");
        refused(&vec![b' '; MESSAGE_BYTES_MAX + 1], None, "too_large");
        let deep = format!("{}1{}", "[".repeat(17), "]".repeat(17));
        let deep = format!(r#"{{"id":"a","type":"b","x":{deep}}}"#);
        refused(deep.as_bytes(), None, "too_deep");
        refused(br#"{"id":7,"type":"a"}"#, None, "bad_id");
        refused(br#"{"id":"a b","type":"a"}"#, None, "bad_id");
        refused(br#"{"id":"a"}"#, Some("a"), "no_type");
        refused(br#"{"id":"a","type":7}"#, Some("a"), "no_type");
        refused(br#"{"v":2,"id":"a","type":"t"}"#, Some("a"), "bad_version");
        refused(br#"{"id":"a","type":"t","src":"p"}"#, Some("a"), "bad_src");
        refused(
            br#"{"id":"a","type":"t","src":{"pid":""}}"#,
            Some("a"),
            "bad_src",
        );
        for cseq in ["0", "-1", "1.5", "9007199254740993", "\"1\""] {
            let text = format!(r#"{{"id":"a","type":"t","cseq":{cseq}}}"#);
            refused(text.as_bytes(), Some("a"), "bad_cseq");
        }
        for rev in ["7", "\"7\"", "\"7.\"", "\"+7.1\"", "\"7.1.2\""] {
            let text = format!(r#"{{"id":"a","type":"t","if_rev":{rev}}}"#);
            refused(text.as_bytes(), Some("a"), "bad_if_rev");
        }
        refused(br#"{"id":"a","type":"t","data":[]}"#, Some("a"), "bad_data");
    }

    #[test]
    fn brackets_in_texts_have_no_depth() {
        for (json, expected) in [
            (&br#"{"a":"[[[["}"#[..], 1),
            (br#"{"a":"\"[["}"#, 1),
            (br#"{"a":[[{}]],"b":[]}"#, 4),
            (b"]]][", 1),
        ] {
            assert_eq!(depth(json), expected);
        }
    }
}
