//! Which of several workers a message belongs to, told from its bytes before anything is parsed.
//!
//! Every message of a dialog has its Call-ID (RFC 3261 §12), and so has the other leg's: one
//! worker sees all of a call, in order. Registrations are one table: REGISTER goes to the first
//! worker whatever its Call-ID, and so do the answers to those that were passed on. So does what
//! has no Call-ID: keep-alives, and what is refused.

use std::hash::{DefaultHasher, Hasher as _};

use super::index::HEADER_BYTES_MAX;
use super::value::is_lws;

/// How many workers there are, and which Call-ID is whose.
#[derive(Clone, Copy)]
pub struct Shards {
    count: u16,
    /// Unknown to others: who could choose the worker could overload one.
    key: [u8; KEY_BYTES],
}

pub const KEY_BYTES: usize = 16;

impl std::fmt::Debug for Shards {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shards")
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

impl Shards {
    #[must_use]
    pub fn new(count: u16, key: [u8; KEY_BYTES]) -> Self {
        Self {
            count: count.max(1),
            key,
        }
    }

    #[must_use]
    pub fn count(&self) -> u16 {
        self.count
    }

    /// For whoever must decide the same another time.
    #[must_use]
    pub fn key(&self) -> [u8; KEY_BYTES] {
        self.key
    }

    /// The index of the worker that a datagram, or a message of a stream, belongs to.
    #[must_use]
    pub fn of(&self, bytes: &[u8]) -> usize {
        if self.count == 1 {
            return FIRST;
        }
        match whose(bytes) {
            Whose::Registrar | Whose::Nobody => FIRST,
            Whose::Dialog(call_id) => self.of_call_id(call_id),
        }
    }

    /// The same for a Call-ID alone.
    #[must_use]
    pub fn of_call_id(&self, call_id: &[u8]) -> usize {
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.key);
        hasher.write(call_id);
        usize::try_from(hasher.finish() % u64::from(self.count)).unwrap_or(FIRST)
    }
}

const FIRST: usize = 0;

/// What a message is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Whose<'m> {
    Dialog(&'m [u8]),
    Registrar,
    Nobody,
}

fn whose(bytes: &[u8]) -> Whose<'_> {
    let bytes = bytes.get(..HEADER_BYTES_MAX).unwrap_or(bytes);
    let line_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let start = bytes.iter().position(|byte| !line_end(byte));
    let (line, mut rest) = line(bytes.get(start.unwrap_or_default()..).unwrap_or_default());
    if line.starts_with(b"REGISTER ") {
        return Whose::Registrar;
    }
    let is_response = line
        .get(..4)
        .is_some_and(|w| w.eq_ignore_ascii_case(b"SIP/"));
    let mut call_id = None;
    // The method of a request is known already.
    let mut method = (!is_response).then_some(&b""[..]);
    while call_id.is_none() || method.is_none() {
        let (field, after) = field(rest);
        rest = after;
        let Some((name, value)) = split(field) else {
            break;
        };
        if name.eq_ignore_ascii_case(b"Call-ID") || name.eq_ignore_ascii_case(b"i") {
            call_id = call_id.or(Some(value));
        } else if name.eq_ignore_ascii_case(b"CSeq") && method.is_none() {
            method = value.rsplit(|byte| is_lws(*byte)).next();
        }
    }
    match call_id {
        _ if method == Some(b"REGISTER") => Whose::Registrar,
        Some(call_id) if !call_id.is_empty() => Whose::Dialog(call_id),
        Some(_) | None => Whose::Nobody,
    }
}

/// The Call-ID of a message, told from its bytes.
#[must_use]
pub fn call_id(bytes: &[u8]) -> Option<&[u8]> {
    match whose(bytes) {
        Whose::Dialog(call_id) => Some(call_id),
        Whose::Registrar | Whose::Nobody => None,
    }
}

/// Up to the line feed, and what is behind it.
fn line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    bytes.split_at(end.map_or(bytes.len(), |end| end + 1))
}

/// One header field with its folds (RFC 3261 §7.3.1), and what is behind it.
fn field(bytes: &[u8]) -> (&[u8], &[u8]) {
    let mut length = line(bytes).0.len();
    if !matches!(bytes, [b'\r' | b'\n', ..]) {
        while let Some(more) = bytes.get(length..)
            && matches!(more, [b' ' | b'\t', ..])
        {
            length += line(more).0.len();
        }
    }
    bytes.split_at(length)
}

/// Name and value; none for the blank line, and for what is no field.
fn split(field: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = field.iter().position(|byte| *byte == b':')?;
    let (name, value) = field.split_at(colon);
    Some((trim(name), trim(value.get(1..)?)))
}

fn trim(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| !is_lws(*byte));
    let end = bytes.iter().rposition(|byte| !is_lws(*byte));
    let both = start
        .zip(end)
        .and_then(|(start, end)| bytes.get(start..=end));
    both.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::sip::index::Message;

    const INVITE: &str = "INVITE sip:b@b SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\n\
        From: <sip:a@a>;tag=1\r\nTo: <sip:b@b>\r\n";

    fn check(text: &str, expected: Whose<'_>) {
        assert_eq!(whose(text.as_bytes()), expected, "{text:?}");
    }

    #[test]
    fn call_ids_in_every_form() {
        let call_id = Whose::Dialog(b"x@y");
        for line in [
            "Call-ID: x@y\r\n",
            "CALL-id\t:x@y \r\n",
            "i:x@y\n",
            "I : \r\n  x@y\t\r\n",
            "Subject: a\r\n Call-ID: no\r\n\tCall-ID: no\r\ni: x@y\r\nCall-ID: second\r\n",
        ] {
            check(&format!("{INVITE}{line}\r\n"), call_id);
            check(&format!("\r\n\r\n{INVITE}{line}\r\nCall-ID: body"), call_id);
            let response = INVITE.replace("INVITE sip:b@b SIP/2.0", "SIP/2.0 200 OK");
            check(&format!("{response}{line}CSeq: 1 INVITE\r\n\r\n"), call_id);
            check(
                &format!("{response}CSeq:1\r\n INVITE\r\n{line}\r\n"),
                call_id,
            );
            check(
                &format!("{response}CSeq: 1 REGISTER\r\n{line}\r\n"),
                Whose::Registrar,
            );
            check(&format!("{response}{line}\r\n"), call_id);
            let register = INVITE.replace("INVITE", "REGISTER");
            check(&format!("{register}{line}\r\n"), Whose::Registrar);
        }
    }

    #[test]
    fn what_has_no_call_id_is_nobodys() {
        for text in [
            "",
            "\r\n\r\n",
            "\0\0\0\0",
            "garbage",
            "INVITE sip:b@b SIP/2.0\r\n\r\nCall-ID: body\r\n",
            "INVITE sip:b@b SIP/2.0\r\nCall-ID:  \r\n\r\n",
            "SIP/2.0 200 OK\r\n\r\nCSeq: 1 REGISTER\r\n",
            "INVITE sip:b@b SIP/2.0\r\nno colon\r\nCall-ID: x\r\n\r\n",
        ] {
            check(text, Whose::Nobody);
        }
    }

    #[test]
    fn workers_get_about_the_same() {
        let shards = Shards::new(3, [7; KEY_BYTES]);
        let mut counts = [0; 3];
        for n in 0..3_000 {
            let message = format!("{INVITE}Call-ID: {n}@host\r\n\r\n");
            counts[shards.of(message.as_bytes())] += 1;
        }
        assert!(
            counts.iter().all(|n| (900..1_100).contains(n)),
            "{counts:?}"
        );
        assert_eq!(Shards::new(0, [7; KEY_BYTES]).of(INVITE.as_bytes()), 0);
    }

    proptest! {
        /// What the index accepts has the worker of its Call-ID, however it is written.
        #[test]
        fn agrees_with_the_index(
            name in "(Call-ID|call-id|CALL-ID|i|I)[ \t]{0,2}",
            before in "[ \t]{0,3}(\r\n[ \t]{1,3}|\n )?",
            id in "[!-~]{1,30}",
            after in "([ \t]{0,2}|\r\n )",
            odd in "([A-Z][a-z]{0,8}: [ -~]{0,20}\r\n([ \t][ -~]{0,20}\r\n){0,2}){0,3}",
            response in any::<bool>(),
        ) {
            let start = if response { "SIP/2.0 200 OK" } else { "BYE sip:b@b SIP/2.0" };
            let text = format!(
                "{start}\r\n{odd}Via: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@a>;tag=1\r\n\
                 To: <sip:b@b>\r\nCSeq: 1 BYE\r\n{name}:{before}{id}{after}\r\n\r\nCall-ID: b"
            );
            if let Ok(message) = Message::parse(Bytes::from(text.clone())) {
                let expected = Whose::Dialog(message.call_id());
                prop_assert_eq!(whose(text.as_bytes()), expected);
            }
        }

        #[test]
        fn takes_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let shards = Shards::new(5, [1; KEY_BYTES]);
            prop_assert!(shards.of(&bytes) < 5);
        }
    }
}
