//! From datagrams and streams to whole messages (RFC 3261 §18.3, RFC 5626 §3.5, §4.4).

use bytes::{Buf, Bytes, BytesMut};

use super::index::{
    HEADER_BYTES_MAX, LINE_BYTES_MAX, Limit, Malformed, Message, Name, STREAM_MESSAGE_BYTES_MAX,
};
use super::value::is_token_byte;

/// Bytes a stream may hold unread, in bytes: one message being completed and one read more.
pub const STREAM_BUFFER_BYTES_MAX: usize = 2 * STREAM_MESSAGE_BYTES_MAX;

/// What a datagram on a SIP port is, told from its first bytes before anything is parsed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Datagram<'a> {
    /// Empty, four NULs, or line ends: holds a binding open, wants no answer.
    KeepAlive,
    /// Exactly CRLFCRLF: wants a CRLF back (RFC 5626 §3.5.1).
    Ping,
    /// Carries the STUN magic cookie (RFC 8489 §5).
    Stun(&'a [u8]),
    /// Worth handing to [`Message::parse`].
    Sip,
    Garbage,
}

/// Sorts a datagram without looking further than its first line.
#[must_use]
pub fn classify(bytes: &[u8]) -> Datagram<'_> {
    if bytes == CRLF_CRLF {
        return Datagram::Ping;
    }
    let line_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let Some(start) = bytes.iter().position(|byte| !line_end(byte)) else {
        return Datagram::KeepAlive;
    };
    if bytes == [0; 4] {
        return Datagram::KeepAlive;
    }
    let aligned = bytes.len() >= STUN_HEADER_BYTES && bytes.len().is_multiple_of(4);
    let stun = bytes.first().is_some_and(|byte| byte >> 6 == 0);
    if aligned && stun && bytes.get(4..8) == Some(&STUN_COOKIE) {
        return Datagram::Stun(bytes);
    }
    if is_sip(bytes.get(start..).unwrap_or_default()) {
        Datagram::Sip
    } else {
        Datagram::Garbage
    }
}

/// Whether the first line looks like a request or status line of any SIP version.
fn is_sip(bytes: &[u8]) -> bool {
    if !bytes.first().is_some_and(|&byte| is_token_byte(byte)) {
        return false;
    }
    let bounded = bytes.get(..LINE_BYTES_MAX).unwrap_or(bytes);
    let end = bounded
        .iter()
        .position(|&byte| byte == b'\n')
        .unwrap_or(bounded.len());
    let line = bounded.get(..end).unwrap_or_default();
    line.windows(4)
        .any(|word| word.eq_ignore_ascii_case(b"SIP/"))
}

/// What a stream yields.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unit {
    /// One framed message, for [`Message::parse`].
    Message(Bytes),
    /// A single CRLF: the answer to a ping (RFC 5626 §3.5.1).
    KeepAlive,
    /// The second CRLF of a pair: answer with one CRLF.
    Ping,
}

/// Nothing more can be framed: answer if [`super::vocabulary::refusal`] finds a way, then close.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Broken {
    pub fault: Malformed,
    /// What is known of the offending message.
    pub head: Bytes,
}

/// Cuts a TCP or TLS stream into messages. `Content-Length` is mandatory here (RFC 3261 §18.3).
///
/// After each `push`, call `pop` until it yields nothing; how long a message may stay incomplete
/// is for the owner of the clock to decide.
#[derive(Debug, Default)]
pub struct Stream {
    buffer: BytesMut,
    /// The line being looked at begins here; no blank line lies before it.
    line: usize,
    /// No LF lies between `line` and here, so no byte is searched twice.
    scanned: usize,
    /// Length of the message under way, once its header is complete.
    total: Option<usize>,
    /// The last unit was a single CRLF.
    half_ping: bool,
    broken: Option<Broken>,
}

impl Stream {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what was read from the connection.
    ///
    /// # Errors
    /// Refuses bytes beyond [`STREAM_BUFFER_BYTES_MAX`]: the caller does not pop.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        if self.buffer.len() + bytes.len() > STREAM_BUFFER_BYTES_MAX {
            return Err(Malformed::TooLarge(Limit::Message));
        }
        if self.broken.is_none() {
            self.buffer.extend_from_slice(bytes);
        }
        Ok(())
    }

    /// Bytes of a message that is not complete yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }

    /// The next unit, or nothing until more bytes arrive.
    ///
    /// # Errors
    /// Once broken, a stream stays broken.
    pub fn pop(&mut self) -> Result<Option<Unit>, Broken> {
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        let line_end = if self.total.is_none() {
            self.pop_line_end()
        } else {
            None
        };
        if line_end.is_some() {
            return Ok(line_end);
        }
        match self.find_total() {
            Ok(Some(total)) if total <= self.buffer.len() => {
                (self.line, self.scanned, self.total) = (0, 0, None);
                self.half_ping = false;
                Ok(Some(Unit::Message(self.buffer.split_to(total).freeze())))
            }
            Ok(_) => Ok(None),
            Err(fault) => {
                let head = std::mem::take(&mut self.buffer).freeze();
                let head = head.slice(..head.len().min(HEADER_BYTES_MAX + LINE_BYTES_MAX));
                let broken = Broken { fault, head };
                self.broken = Some(broken.clone());
                Err(broken)
            }
        }
    }

    fn pop_line_end(&mut self) -> Option<Unit> {
        if self.buffer.starts_with(CRLF_CRLF) && !self.half_ping {
            self.buffer.advance(CRLF_CRLF.len());
            return Some(Unit::Ping);
        }
        // Half a pair or a whole pong: told apart by what follows, which may never come.
        if self.buffer.starts_with(b"\r\n") {
            self.buffer.advance(2);
            self.half_ping = !self.half_ping;
            return Some(if self.half_ping {
                Unit::KeepAlive
            } else {
                Unit::Ping
            });
        }
        None
    }

    /// The length of the first message in the buffer, when its header is there.
    fn find_total(&mut self) -> Result<Option<usize>, Malformed> {
        if self.total.is_some() {
            return Ok(self.total);
        }
        if matches!(&self.buffer[..], b"" | b"\r") {
            return Ok(None);
        }
        let Some(head) = self.find_head()? else {
            return Ok(None);
        };
        let head_bytes = self.buffer.get(..head).unwrap_or_default();
        let message = Message::scan(Bytes::copy_from_slice(head_bytes))?;
        let missing = Malformed::MissingHeader(Name::ContentLength);
        let length = message.announced_length()?.ok_or(missing)?;
        let total = head.saturating_add(length);
        if total > STREAM_MESSAGE_BYTES_MAX {
            return Err(Malformed::TooLarge(Limit::Message));
        }
        self.total = Some(total);
        Ok(self.total)
    }

    /// Just after the blank line, by the same rules as [`Message::parse`].
    fn find_head(&mut self) -> Result<Option<usize>, Malformed> {
        loop {
            let rest = self.buffer.get(self.scanned..).unwrap_or_default();
            let Some(lf) = rest.iter().position(|&byte| byte == b'\n') else {
                self.scanned = self.buffer.len();
                return bounded(self.scanned - self.line).map(|()| None);
            };
            let (start, end) = (self.line, self.scanned + lf + 1);
            // The same whether its end came with it or later.
            bounded(self.scanned + lf - start)?;
            let line = self.buffer.get(start..end).unwrap_or_default();
            if start == 0 && !is_sip(line) {
                return Err(Malformed::NotSip);
            }
            if matches!(line, b"\r\n" | b"\n") {
                return Ok(Some(end));
            }
            if end > HEADER_BYTES_MAX {
                return Err(Malformed::TooLarge(Limit::Header));
            }
            (self.line, self.scanned) = (end, end);
        }
    }
}

fn bounded(line: usize) -> Result<(), Malformed> {
    if line > LINE_BYTES_MAX {
        return Err(Malformed::TooLarge(Limit::Line));
    }
    Ok(())
}

const CRLF_CRLF: &[u8] = b"\r\n\r\n";
const STUN_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const STUN_HEADER_BYTES: usize = 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn datagrams() {
        fn check(bytes: &[u8], expected: Datagram<'_>) {
            assert_eq!(
                classify(bytes),
                expected,
                "{:?}",
                String::from_utf8_lossy(bytes)
            );
        }
        let mut stun = [0; 20];
        stun[1] = 1;
        stun[4..8].copy_from_slice(&STUN_COOKIE);
        check(&stun, Datagram::Stun(&stun));
        check(&stun[..16], Datagram::Garbage);
        check(b"", Datagram::KeepAlive);
        check(&[0; 4], Datagram::KeepAlive);
        check(&[0; 5], Datagram::Garbage);
        check(b"\r\n", Datagram::KeepAlive);
        check(b"\r\n\r\n", Datagram::Ping);
        check(b"\r\n\r\n\r\n", Datagram::KeepAlive);
        check(b"\r\nOPTIONS sip:a SIP/2.0\r\n", Datagram::Sip);
        check(b"SIP/2.0 200 OK\r\n", Datagram::Sip);
        check(b"INVITE sip:a SIP/7.0\r\n", Datagram::Sip);
        check(b"GET / HTTP/1.1\r\nX: SIP/2.0\r\n", Datagram::Garbage);
        check(b"\x16\x03\x01 SIP/2.0", Datagram::Garbage);
        check(&[b'A'; 65_535], Datagram::Garbage);
    }

    fn message(body: &str) -> String {
        format!("OPTIONS sip:a SIP/2.0\r\nl: {}\r\n\r\n{body}", body.len())
    }

    /// One letter per unit; messages by length; the fault at the end, if any.
    fn units(stream: &mut Stream) -> (String, Option<Malformed>) {
        let mut seen = String::new();
        loop {
            match stream.pop() {
                Ok(Some(Unit::Message(bytes))) => seen.push_str(&format!("m{}", bytes.len())),
                Ok(Some(Unit::KeepAlive)) => seen.push('k'),
                Ok(Some(Unit::Ping)) => seen.push('p'),
                Ok(None) => return (seen, None),
                Err(broken) => return (seen, Some(broken.fault)),
            }
        }
    }

    #[test]
    fn streams() {
        fn check(input: &str, expected: &str, fault: Option<Malformed>) {
            let mut stream = Stream::new();
            stream.push(input.as_bytes()).unwrap();
            assert_eq!(
                units(&mut stream),
                (expected.to_owned(), fault),
                "{input:?}"
            );
        }
        let one = message("body");
        let missing = Malformed::MissingHeader(Name::ContentLength);
        check(&one, "m35", None);
        check(&format!("{one}\r\n{one}\r\n\r\n{one}"), "m35km35pm35", None);
        check(&one[..one.len() - 1], "", None);
        check("\r", "", None);
        check("OPTIONS sip:a SIP/2.0\nl:0\n\n\r\n", "m27k", None);
        check("OPTIONS sip:a SIP/2.0\r\n\r\n", "", Some(missing));
        check(
            "OPTIONS sip:a SIP/2.0\r\nl: -1\r\n\r\n",
            "",
            Some(Malformed::ContentLength),
        );
        check(
            "OPTIONS sip:a SIP/2.0\r\nl: 0\r\nl: 0\r\n\r\n",
            "",
            Some(Malformed::RepeatedHeader(Name::ContentLength)),
        );
        check(
            "OPTIONS sip:a SIP/2.0\r\nl: 262144\r\n\r\n",
            "",
            Some(Malformed::TooLarge(Limit::Message)),
        );
        check(
            "OPTIONS sip:a SIP/2.0\r\nl: 99999999999999999999999\r\n\r\n",
            "",
            Some(Malformed::ContentLength),
        );
        check("GET / HTTP/1.1\r\n", "", Some(Malformed::NotSip));
        check(
            &"A".repeat(9000),
            "",
            Some(Malformed::TooLarge(Limit::Line)),
        );
        let long = format!("OPTIONS sip:a SIP/2.0\r\n{}", "X: y\r\n".repeat(6000));
        check(&long, "", Some(Malformed::TooLarge(Limit::Header)));
    }

    #[test]
    fn broken_stays_broken_and_tells_why() {
        let mut stream = Stream::new();
        stream
            .push(b"OPTIONS sip:a SIP/2.0\r\nv: SIP/2.0/TCP a\r\n\r\n")
            .unwrap();
        let broken = stream.pop().unwrap_err();
        assert!(broken.head.starts_with(b"OPTIONS"));
        stream.push(message("").as_bytes()).unwrap();
        assert_eq!(stream.pop(), Err(broken));
        assert_eq!(stream.pending(), 0);
    }

    #[test]
    fn a_stream_nobody_reads_is_bounded() {
        let mut stream = Stream::new();
        assert_eq!(stream.push(&vec![0; STREAM_BUFFER_BYTES_MAX]), Ok(()));
        assert_eq!(stream.push(b"x"), Err(Malformed::TooLarge(Limit::Message)));
    }

    proptest! {
        /// However the network cuts the bytes, the same messages come out.
        #[test]
        fn cuts_do_not_matter(
            bodies in proptest::collection::vec("[ -~\r\n]{0,40}", 1..6),
            cuts in proptest::collection::vec(1_usize..30, 1..40),
        ) {
            let wanted: Vec<String> = bodies.iter().map(|body| message(body)).collect();
            let wire = wanted.concat().into_bytes();
            let mut stream = Stream::new();
            let mut seen = Vec::new();
            let mut rest = &wire[..];
            let mut cuts = cuts.into_iter().cycle();
            while !rest.is_empty() {
                let (chunk, tail) = rest.split_at(cuts.next().unwrap().min(rest.len()));
                rest = tail;
                stream.push(chunk).unwrap();
                while let Some(unit) = stream.pop().unwrap() {
                    let Unit::Message(bytes) = unit else { panic!("{unit:?}") };
                    seen.push(String::from_utf8(bytes.to_vec()).unwrap());
                }
            }
            prop_assert_eq!(seen, wanted);
            prop_assert_eq!(stream.pending(), 0);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_ne!(classify(&bytes), Datagram::Stun(b"x"));
            let mut stream = Stream::new();
            stream.push(&bytes).unwrap();
            units(&mut stream);
        }
    }
}
