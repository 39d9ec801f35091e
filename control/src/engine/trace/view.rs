//! A row of messages as people see it.

use std::collections::BTreeMap;
use std::time::Instant;

use super::redact::{Names, plain, secrets_out};
use super::{Direction, Ladder, MESSAGES_FIRST, Message};
use crate::engine::admin::text;
use crate::id::Path;

/// The messages of one call.
#[derive(Clone, Debug)]
pub struct LadderView {
    pub call_id: String,
    /// Its numbers, the first passage first; none if it was never let in.
    pub calls: Vec<u64>,
    /// It is being set up or goes on.
    pub live: bool,
    /// Whoever we spoke with, in the order of their first messages.
    pub parties: Vec<Party>,
    pub steps: Vec<Step>,
    /// Messages that are missing, and in front of which.
    pub left_out: Option<(u64, usize)>,
    /// Names and numbers are those of the messages.
    pub names: bool,
}

/// Somebody at the other end of a way.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Party {
    pub path: Path,
    /// `caller` sent the first request, `callee` are those whom it was passed on to.
    pub role: &'static str,
}

/// One message.
#[derive(Clone, Debug)]
pub struct Step {
    pub at: Instant,
    pub direction: Direction,
    /// Index among the parties.
    pub party: usize,
    pub start: Start,
    /// RFC 3261 §20.16, as it is written: `1 INVITE`.
    pub cseq: Option<String>,
    pub has_sdp: bool,
    /// Index of the message that it repeats.
    pub repeats: Option<usize>,
    /// It found no connection.
    pub unsent: bool,
    /// As it was, in octets.
    pub length: usize,
    /// The rest was not kept.
    pub cut: bool,
    pub text: String,
}

/// The first line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Start {
    Request { method: String, uri: String },
    Response { code: u16, reason: String },
    Other(String),
}

pub(super) fn view(ladder: &Ladder, names: bool) -> LadderView {
    let mut others = (!names).then(Names::default);
    let mut parties: Vec<Party> = Vec::new();
    let mut first: BTreeMap<(Direction, Path, &[u8]), usize> = BTreeMap::new();
    let mut steps = Vec::new();
    let messages = ladder.whole();
    for (index, message) in messages.iter().enumerate() {
        let party = party(&mut parties, message);
        let mut step = step(message, party, others.as_mut());
        let same = (message.direction, message.path, &*message.bytes);
        step.repeats = match first.get(&same) {
            Some(known) => Some(*known),
            None => {
                first.insert(same, index);
                None
            }
        };
        steps.push(step);
    }
    LadderView {
        call_id: plain(&text(&ladder.call_id)),
        calls: ladder.calls.clone(),
        live: ladder.ended.is_none(),
        parties,
        steps,
        left_out: (ladder.left_out > 0).then_some((ladder.left_out, MESSAGES_FIRST)),
        names,
    }
}

fn party(parties: &mut Vec<Party>, message: &Message) -> usize {
    let known = parties.iter().position(|party| party.path == message.path);
    known.unwrap_or_else(|| {
        let role = match message.direction {
            Direction::In if parties.is_empty() => "caller",
            Direction::Out => "callee",
            // Somebody answers or asks from another address than we know.
            Direction::In => "other",
        };
        let path = message.path;
        parties.push(Party { path, role });
        parties.len() - 1
    })
}

fn step(message: &Message, party: usize, others: Option<&mut Names>) -> Step {
    let bytes = secrets_out(&message.bytes);
    let shown = match others {
        Some(names) => names.hide(&bytes),
        None => String::from_utf8_lossy(&bytes).into_owned(),
    };
    let shown = plain(shown.trim_start());
    let head = shown.split_once("\n\n").map_or(&*shown, |(head, _)| head);
    let field = |long: &str, short: &str| {
        head.lines().skip(1).find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let name = name.trim();
            let found = name.eq_ignore_ascii_case(long) || name.eq_ignore_ascii_case(short);
            found.then(|| value.trim().to_owned())
        })
    };
    let kind = field("Content-Type", "c").unwrap_or_default();
    Step {
        at: message.at,
        direction: message.direction,
        party,
        start: start(head.lines().next().unwrap_or_default()),
        cseq: field("CSeq", "CSeq"),
        has_sdp: kind.to_ascii_lowercase().contains("sdp"),
        repeats: None,
        unsent: message.unsent,
        length: message.length,
        cut: message.bytes.len() < message.length,
        text: shown,
    }
}

fn start(line: &str) -> Start {
    let mut words = line.splitn(3, ' ');
    let words = [words.next(), words.next(), words.next()].map(Option::unwrap_or_default);
    match (words, words[1].parse()) {
        ([version, _, reason], Ok(code)) if version.to_ascii_uppercase().starts_with("SIP/") => {
            let reason = reason.to_owned();
            Start::Response { code, reason }
        }
        ([method, uri, version], _) if version.to_ascii_uppercase().starts_with("SIP/") => {
            let (method, uri) = (method.to_owned(), uri.to_owned());
            Start::Request { method, uri }
        }
        _ => Start::Other(line.to_owned()),
    }
}
