//! A TCP or TLS connection as SIP sees it: bytes in, messages out, and how long each may take
//! (RFC 3261 §18.3, RFC 5626 §4.4.1). Bytes are bounded by [`Stream`], time by [`Limits`].

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::build::refusal;
use super::framing::{Broken, STREAM_BUFFER_BYTES_MAX, Stream, Unit};
use super::index::Message;

/// How long a sender may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// To its first valid message: until then anybody may have connected.
    pub first: Duration,
    /// From the first byte of a message to its last.
    pub message: Duration,
    /// From one message or keep-alive to the next.
    pub idle: Duration,
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Why {
    /// The other side closed it.
    Ended,
    /// It broke: reset, or no acknowledgement any more.
    Broken,
    /// What came cannot be cut into messages.
    Malformed,
    /// No valid message came in time.
    NoMessage,
    /// A message was begun and not finished in time.
    SlowSender,
    /// Nothing came for too long.
    Idle,
    /// The other side does not take what we send.
    SlowReader,
    /// TLS did not come about.
    Handshake,
    /// We could not connect.
    Unreachable,
    /// The listener is no longer configured.
    Withdrawn,
}

impl Why {
    pub const ALL: [Self; 10] = [
        Self::Ended,
        Self::Broken,
        Self::Malformed,
        Self::NoMessage,
        Self::SlowSender,
        Self::Idle,
        Self::SlowReader,
        Self::Handshake,
        Self::Unreachable,
        Self::Withdrawn,
    ];

    /// A metric's label.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Broken => "broken",
            Self::Malformed => "malformed",
            Self::NoMessage => "no_message",
            Self::SlowSender => "slow_sender",
            Self::Idle => "idle",
            Self::SlowReader => "slow_reader",
            Self::Handshake => "tls_handshake",
            Self::Unreachable => "unreachable",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// The connection must be closed; the answer goes out first.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Close {
    pub why: Why,
    pub answer: Option<Bytes>,
}

/// The receiving half of a connection.
#[derive(Debug)]
pub struct Connection {
    limits: Limits,
    stream: Stream,
    opened: Instant,
    /// When the last whole unit came.
    heard: Instant,
    /// Since when a message is incomplete.
    partial: Option<Instant>,
    /// A valid message has come.
    proven: bool,
    /// In what we answer ourselves (RFC 3261 §8.2.6.2).
    tag: String,
}

impl Connection {
    #[must_use]
    pub fn new(limits: Limits, tag: String, now: Instant) -> Self {
        Self {
            limits,
            stream: Stream::new(),
            opened: now,
            heard: now,
            partial: None,
            proven: false,
            tag,
        }
    }

    /// Takes what was read, at most [`STREAM_BUFFER_BYTES_MAX`] beyond what is incomplete. Call
    /// `pop` until it yields nothing.
    ///
    /// # Errors
    /// More bytes than may wait.
    pub fn push(&mut self, bytes: &[u8], now: Instant) -> Result<(), Close> {
        debug_assert!(bytes.len() < STREAM_BUFFER_BYTES_MAX);
        self.partial.get_or_insert(now);
        self.stream.push(bytes).map_err(|_| Close {
            why: Why::Malformed,
            answer: None,
        })
    }

    /// The next message or keep-alive.
    ///
    /// # Errors
    /// What came is not SIP, or too large, or does not say how long it is.
    pub fn pop(&mut self, now: Instant) -> Result<Option<Unit>, Close> {
        let unit = self.stream.pop().map_err(|Broken { fault, head }| Close {
            why: Why::Malformed,
            answer: refusal(&head, fault, Some(&self.tag)),
        })?;
        match &unit {
            Some(Unit::Message(bytes)) => {
                // Only until one is valid: the engine looks at each anyway.
                self.proven = self.proven || Message::parse(bytes.clone()).is_ok();
                self.heard = now;
            }
            Some(Unit::KeepAlive | Unit::Ping) => self.heard = now,
            None if self.stream.pending() == 0 => self.partial = None,
            None => {}
        }
        if unit.is_some() {
            self.partial = (self.stream.pending() > 0).then_some(now);
        }
        Ok(unit)
    }

    /// A valid message has come.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.proven
    }

    /// When `overdue` has to be asked next, at the latest.
    #[must_use]
    pub fn next_timeout(&self) -> Instant {
        self.expiry().0
    }

    /// Why it must be closed now, if time is up.
    #[must_use]
    pub fn overdue(&self, now: Instant) -> Option<Why> {
        let (at, why) = self.expiry();
        (now >= at).then_some(why)
    }

    fn expiry(&self) -> (Instant, Why) {
        let rest = if self.proven {
            (self.heard + self.limits.idle, Why::Idle)
        } else {
            (self.opened + self.limits.first, Why::NoMessage)
        };
        match self.partial {
            Some(since) => rest.min((since + self.limits.message, Why::SlowSender)),
            None => rest,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits {
        first: Duration::from_secs(30),
        message: Duration::from_secs(10),
        idle: Duration::from_secs(100),
    };
    const OPTIONS: &str = "OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\n\
         From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\n";

    fn whole() -> String {
        format!("{OPTIONS}Content-Length: 0\r\n\r\n")
    }

    #[allow(clippy::disallowed_methods, reason = "a test's time begins somewhere")]
    fn begin() -> (Connection, Instant) {
        let now = Instant::now();
        (Connection::new(LIMITS, "t".to_owned(), now), now)
    }

    fn units(connection: &mut Connection, now: Instant) -> String {
        let mut seen = String::new();
        loop {
            seen.push(match connection.pop(now) {
                Ok(Some(Unit::Message(_))) => 'm',
                Ok(Some(Unit::KeepAlive)) => 'k',
                Ok(Some(Unit::Ping)) => 'p',
                Ok(None) => return seen,
                Err(_) => 'x',
            });
            if seen.ends_with('x') {
                return seen;
            }
        }
    }

    /// Bytes at seconds, what each yields, and when the connection is given up and why.
    #[track_caller]
    fn check(script: &[(u64, &str, &str)], expected: (u64, Why)) {
        let (mut connection, start) = begin();
        for (at, bytes, seen) in script {
            let now = start + Duration::from_secs(*at);
            assert_eq!(connection.overdue(now), None, "at {at}");
            connection.push(bytes.as_bytes(), now).unwrap();
            assert_eq!(units(&mut connection, now), *seen, "at {at}: {bytes:?}");
        }
        let (at, why) = expected;
        let end = start + Duration::from_secs(at);
        assert_eq!(connection.next_timeout(), end);
        let early = end.checked_sub(Duration::from_millis(1)).unwrap();
        assert_eq!(connection.overdue(early), None);
        assert_eq!(connection.overdue(end), Some(why));
    }

    #[test]
    fn silence_and_slowness_have_an_end() {
        let whole = whole();
        let (head, tail) = whole.split_at(20);
        check(&[], (30, Why::NoMessage));
        // Keep-alives prove nothing.
        check(&[(5, "\r\n\r\n", "p")], (30, Why::NoMessage));
        // Nor does a message that is not valid.
        let invalid = "OPTIONS sip:a SIP/2.0\r\nl: 0\r\n\r\n";
        check(&[(5, invalid, "m")], (30, Why::NoMessage));
        check(&[(5, head, "")], (15, Why::SlowSender));
        check(&[(25, head, "")], (30, Why::NoMessage));
        // Byte after byte does not gain time.
        check(&[(5, "O", ""), (9, "P", "")], (15, Why::SlowSender));
        check(&[(5, head, ""), (14, tail, "m")], (114, Why::Idle));
        let pair = format!("{whole}{head}");
        check(&[(5, &pair, "m")], (15, Why::SlowSender));
        check(&[(5, &whole, "m"), (90, "\r\n\r\n", "p")], (190, Why::Idle));
        check(
            &[(5, &whole, "m"), (104, "\r\n", "k"), (203, &whole, "m")],
            (303, Why::Idle),
        );
    }

    #[test]
    fn a_message_without_length_is_answered_and_the_end() {
        let (mut connection, now) = begin();
        let bytes = format!("{OPTIONS}\r\n");
        connection.push(bytes.as_bytes(), now).unwrap();
        let close = connection.pop(now).unwrap_err();
        let answer = String::from_utf8(close.answer.unwrap().to_vec()).unwrap();
        assert_eq!(close.why, Why::Malformed);
        assert!(answer.starts_with("SIP/2.0 400 "), "{answer}");
        assert!(answer.contains("To: <sip:c@d>;tag=t\r\n"), "{answer}");
    }

    #[test]
    fn what_is_not_sip_is_not_answered() {
        let (mut connection, now) = begin();
        connection.push(b"GET / HTTP/1.1\r\n\r\n", now).unwrap();
        let close = connection.pop(now).unwrap_err();
        assert_eq!((close.why, close.answer), (Why::Malformed, None));
    }

    #[test]
    fn words_are_distinct() {
        let mut words = Why::ALL.map(Why::word).to_vec();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Why::ALL.len());
    }

    proptest! {
        /// Whatever comes, in whatever pieces: it ends within its bounds.
        #[test]
        fn any_bytes_in_any_pieces(
            pieces in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..60),
                    Just(b"\r\n".to_vec()),
                    Just(OPTIONS.as_bytes().to_vec()),
                    Just(b"Content-Length: 3\r\n\r\nabc".to_vec()),
                ],
                0..30,
            ),
        ) {
            let (mut connection, now) = begin();
            for piece in pieces {
                if connection.push(&piece, now).is_err() {
                    break;
                }
                if units(&mut connection, now).ends_with('x') {
                    break;
                }
                prop_assert!(connection.next_timeout() <= now + LIMITS.idle);
            }
        }
    }
}
