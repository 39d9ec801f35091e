//! baresip's control protocol: netstrings of JSON, both ways, over TCP.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::clock;

/// How long a phone may take to answer a command.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Events kept for whoever waits; the oldest go first.
const EVENTS_MAX: usize = 256;

/// Longest message.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Something that happened at a phone.
#[derive(Clone, Debug)]
pub struct Event {
    /// As baresip calls it: `CALL_ESTABLISHED`.
    pub kind: String,
    pub parameter: String,
    /// The other party, if it is about a call.
    pub peer: String,
    /// Baresip's name of the call, which is its Call-ID.
    pub call: String,
    pub at: Instant,
}

/// One stream as RTCP reports it (RFC 3550 §6.4).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RtcpStats {
    pub sent: u64,
    /// Of ours, as the other side reports.
    pub sent_lost: i64,
    pub received: u64,
    pub received_lost: i64,
    /// Of what we received, in milliseconds as baresip computes it.
    pub jitter_ms: f64,
}

#[derive(Debug)]
pub(super) struct Control {
    stream: TcpStream,
    shared: Arc<Shared>,
    tokens: AtomicU64,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Event>,
    answers: BTreeMap<String, Value>,
    rtcp: BTreeMap<String, RtcpStats>,
    ended: bool,
}

impl Control {
    pub(super) fn new(stream: TcpStream) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let (theirs, reading) = (Arc::clone(&shared), stream.try_clone()?);
        // Ends when the phone does.
        thread::Builder::new()
            .name("phone events".to_owned())
            .spawn(move || read(reading, &theirs))
            .context("start a thread")?;
        Ok(Self {
            stream,
            shared,
            tokens: AtomicU64::new(1),
        })
    }

    /// Sends a command and waits for its answer.
    pub(super) fn command(&self, command: &str, parameter: &str) -> Result<String> {
        let token = self.tokens.fetch_add(1, Ordering::Relaxed).to_string();
        let message = json!({ "command": command, "params": parameter, "token": token });
        let message = message.to_string();
        let what = format!("answer to `{command} {parameter}`");
        write!(&self.stream, "{}:{message},", message.len()).context("phone's control socket")?;
        let answer = self.until(&what, ANSWER_LIMIT, |state| {
            Ok(state.answers.remove(&token))
        })?;
        let data = answer
            .get("data")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if answer.get("ok").and_then(Value::as_bool) != Some(true) {
            bail!("`{command} {parameter}`: {data}");
        }
        Ok(data.to_owned())
    }

    /// Takes the first event that is wanted; one of the kinds in `instead` is an error.
    pub(super) fn wait(
        &self,
        what: &str,
        wanted: impl Fn(&Event) -> bool,
        instead: &[&str],
        limit: Duration,
    ) -> Result<Event> {
        self.until(what, limit, |state| {
            let stopping = |e: &Event| instead.contains(&e.kind.as_str());
            let position = state.events.iter().position(|e| wanted(e) || stopping(e));
            let Some(event) = position.and_then(|p| state.events.remove(p)) else {
                return Ok(None);
            };
            if !wanted(&event) {
                bail!("{} ({}) instead of {what}", event.kind, event.parameter);
            }
            Ok(Some(event))
        })
    }

    pub(super) fn forget(&self) {
        self.shared.lock().events.clear();
    }

    pub(super) fn rtcp(&self, stream: &str) -> Option<RtcpStats> {
        self.shared.lock().rtcp.get(stream).copied()
    }

    fn until<T>(
        &self,
        what: &str,
        limit: Duration,
        mut ready: impl FnMut(&mut State) -> Result<Option<T>>,
    ) -> Result<T> {
        let deadline = clock::now() + limit;
        let mut state = self.shared.lock();
        loop {
            if let Some(answer) = ready(&mut state)? {
                return Ok(answer);
            }
            if state.ended {
                bail!("{what}: the phone ended");
            }
            let left = deadline.saturating_duration_since(clock::now());
            if left.is_zero() {
                let seen: Vec<_> = state.events.iter().map(|e| e.kind.as_str()).collect();
                bail!(
                    "{what}: not within {} ms; seen: {seen:?}",
                    limit.as_millis()
                );
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(mut stream: TcpStream, shared: &Shared) {
    let mut buffer = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut piece) {
        buffer.extend(piece.get(..length).unwrap_or_default());
        let at = clock::now();
        let mut state = shared.lock();
        loop {
            match take(&mut buffer) {
                Taken::Message(message) => file(&mut state, &message, at),
                Taken::More => break,
                Taken::Garbage => {
                    eprintln!("lab: a phone's control socket talks garbage");
                    buffer.clear();
                }
            }
        }
        drop(state);
        shared.changed.notify_all();
    }
    shared.lock().ended = true;
    shared.changed.notify_all();
}

#[derive(Debug, PartialEq)]
enum Taken {
    Message(Vec<u8>),
    More,
    Garbage,
}

/// Takes a netstring, `3:abc,`, off the front.
fn take(buffer: &mut Vec<u8>) -> Taken {
    let Some(colon) = buffer.iter().position(|b| *b == b':') else {
        return if buffer.len() > 8 {
            Taken::Garbage
        } else {
            Taken::More
        };
    };
    let digits = buffer
        .get(..colon)
        .and_then(|d| std::str::from_utf8(d).ok());
    let Some(length) = digits.and_then(|d| d.parse::<usize>().ok()) else {
        return Taken::Garbage;
    };
    if length > MESSAGE_BYTES_MAX {
        return Taken::Garbage;
    }
    let (start, end) = (colon + 1, colon + 1 + length);
    match buffer.get(end) {
        None => Taken::More,
        Some(b',') => {
            let message = buffer.get(start..end).unwrap_or_default().to_vec();
            buffer.drain(..=end);
            Taken::Message(message)
        }
        Some(_) => Taken::Garbage,
    }
}

fn file(state: &mut State, message: &[u8], at: Instant) {
    let Ok(value) = serde_json::from_slice::<Value>(message) else {
        return;
    };
    let text = |key| {
        value
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    if value.get("response").is_some() {
        state.answers.insert(text("token"), value);
        return;
    }
    let (kind, parameter) = (text("type"), text("param"));
    if kind == "CALL_RTCP" {
        let stats = value.get("rtcp_stats").map(rtcp_stats).unwrap_or_default();
        state.rtcp.insert(parameter, stats);
        return;
    }
    if state.events.len() >= EVENTS_MAX {
        state.events.pop_front();
    }
    state.events.push_back(Event {
        kind,
        parameter,
        peer: text("peeruri"),
        call: text("id"),
        at,
    });
}

fn rtcp_stats(value: &Value) -> RtcpStats {
    let of = |way: &str, key: &str| value.get(way).and_then(|w| w.get(key)).cloned();
    let count = |way, key| of(way, key).and_then(|v| v.as_u64()).unwrap_or_default();
    let signed = |way, key| of(way, key).and_then(|v| v.as_i64()).unwrap_or_default();
    RtcpStats {
        sent: count("tx", "sent"),
        sent_lost: signed("tx", "lost"),
        received: count("rx", "sent"),
        received_lost: signed("rx", "lost"),
        jitter_ms: of("rx", "jit").and_then(|v| v.as_f64()).unwrap_or_default() / 1000.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expected: &Taken, left: &str) {
        let mut buffer = input.as_bytes().to_vec();
        assert_eq!(take(&mut buffer), *expected, "{input:?}");
        assert_eq!(String::from_utf8_lossy(&buffer), left, "{input:?}");
    }

    #[test]
    fn netstrings_are_taken_whole() {
        check("3:abc,2:de,", &Taken::Message(b"abc".into()), "2:de,");
        check("0:,", &Taken::Message(Vec::new()), "");
        for part in ["", "3", "3:", "3:ab", "3:abc"] {
            check(part, &Taken::More, part);
        }
        for wrong in [
            "3:abcd",
            "x:abc,",
            "-1:a,",
            "no colon at all",
            "99999999999:x",
        ] {
            check(wrong, &Taken::Garbage, wrong);
        }
    }

    #[test]
    fn messages_are_filed() {
        let mut state = State::default();
        let at = clock::now();
        file(
            &mut state,
            br#"{"response":true,"ok":true,"data":"x","token":"7"}"#,
            at,
        );
        file(
            &mut state,
            br#"{"event":true,"type":"REGISTER_OK","param":"200 OK"}"#,
            at,
        );
        file(
            &mut state,
            br#"{"event":true,"type":"CALL_RTCP","param":"audio",
                "rtcp_stats":{"tx":{"sent":9,"lost":-1,"jit":0},"rx":{"sent":8,"jit":1500}}}"#,
            at,
        );
        file(&mut state, b"not JSON", at);
        assert!(state.answers.contains_key("7"));
        let kinds: Vec<_> = state.events.iter().map(|e| &e.kind).collect();
        assert_eq!(kinds, ["REGISTER_OK"]);
        let stats = RtcpStats {
            sent: 9,
            sent_lost: -1,
            received: 8,
            jitter_ms: 1.5,
            received_lost: 0,
        };
        assert_eq!(state.rtcp.get("audio"), Some(&stats));
    }
}
