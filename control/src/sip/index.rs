//! One buffer plus ranges: where the start line, the headers and the body of a message lie.
//!
//! Nothing is copied, decoded or repaired. Compact names, folded values, white space before the
//! colon, bare LF line ends and bytes that are not UTF-8 are all accepted (RFC 3261 §7.3), so a
//! message can be forwarded with every byte that is not ours to change.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

pub use super::malformed::{Limit, Malformed};
pub use super::name::Name;
use super::value::{CSeq, NameAddr, Via, is_lws, is_token, number, slice, split_list, trim_range};
use super::vocabulary::Method;

/// Largest datagram, in bytes (RFC 3261 §18.1.1).
pub const MESSAGE_BYTES_MAX: usize = 65_535;
/// Largest message on a stream, in bytes. Every parse is bounded by it.
pub const STREAM_MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Start line and headers together, in bytes.
pub const HEADER_BYTES_MAX: usize = 32 * 1024;
/// Header fields in one message; a folded field counts once.
pub const HEADER_LINES_MAX: usize = 200;
/// The start line, or one header field with its folds, in bytes.
pub const LINE_BYTES_MAX: usize = 8 * 1024;
/// `Via` values in one message.
pub const VIAS_MAX: usize = 64;
/// `Route` values, and `Record-Route` values, in one message.
pub const ROUTES_MAX: usize = 64;

/// A message whose structure is sound and whose mandatory headers can be relied upon.
#[derive(Clone, Debug)]
pub struct Message {
    bytes: Bytes,
    start: StartLine,
    /// Shared with every copy.
    fields: Arc<[Field]>,
    header: Range<usize>,
    body: Range<usize>,
    dropped: usize,
    cseq: u32,
    cseq_method: Range<usize>,
    call_id: Range<usize>,
    from_tag: Option<Range<usize>>,
    to_tag: Option<Range<usize>>,
    top_via: Range<usize>,
}

/// One header field; all ranges are into [`Message::bytes`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Field {
    pub name: Name,
    pub name_range: Range<usize>,
    /// Trimmed; may contain folds.
    pub value: Range<usize>,
    /// The whole line or lines, line ends included.
    pub line: Range<usize>,
}

/// The start line of a message (RFC 3261 §7.1, §7.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Start<'m> {
    Request { method: &'m [u8], uri: &'m [u8] },
    Response { code: u16, reason: &'m [u8] },
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum StartLine {
    Request {
        method: Range<usize>,
        uri: Range<usize>,
    },
    Response {
        code: u16,
        reason: Range<usize>,
    },
}

impl Message {
    /// Parses one whole message. CRLFs before the start line are dropped (RFC 3261 §7.5), and so
    /// are bytes after the body that `Content-Length` announces (RFC 3261 §18.3).
    ///
    /// # Errors
    /// The first fault found; `vocabulary::refusal` answers it where an answer is due.
    pub fn parse(bytes: Bytes) -> Result<Self, Malformed> {
        let mut message = Self::scan(bytes)?;
        message.settle_body()?;
        message.settle_identity()?;
        Ok(message)
    }

    /// Finds the lines and nothing more: the parts that `parse` guarantees are not settled.
    pub(super) fn scan(mut bytes: Bytes) -> Result<Self, Malformed> {
        let blank = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
        bytes = bytes.slice(blank.ok_or(Malformed::Empty)?..);
        if bytes.len() > STREAM_MESSAGE_BYTES_MAX {
            return Err(Malformed::TooLarge(Limit::Message));
        }
        let end = line_end(&bytes, 0).ok_or(Malformed::NotSip)?;
        let start = start_line(&bytes, end)?;
        // As many as most messages have; more room than this is slow to get.
        let mut fields = Vec::with_capacity(16);
        scan_fields(&bytes, end, &mut fields)?;
        let header = end..fields.last().map_or(end, |field| field.line.end);
        let body = line_end(&bytes, header.end).ok_or(Malformed::Header)?..bytes.len();
        Ok(Self::unsettled(bytes, start, fields, header, body))
    }

    /// Whatever can be read of a request that `parse` refused, so that it can be answered.
    pub(super) fn salvage(bytes: Bytes) -> Option<Self> {
        let blank = bytes
            .iter()
            .position(|byte| !matches!(byte, b'\r' | b'\n'))?;
        let bytes = bytes.slice(blank..);
        let end = line_end(&bytes, 0)?;
        let line = trim_range(&bytes, 0..end);
        let space = slice(&bytes, &line).iter().position(|&byte| byte == b' ')?;
        let method = line.start..line.start + space;
        if !is_token(slice(&bytes, &method)) {
            return None;
        }
        let start = StartLine::Request { method, uri: 0..0 };
        let mut fields = Vec::new();
        // Fields before the fault are as good as any.
        scan_fields(&bytes, end, &mut fields).ok();
        let header = end..fields.last().map_or(end, |field| field.line.end);
        let body = bytes.len()..bytes.len();
        let mut message = Self::unsettled(bytes, start, fields, header, body);
        message.to_tag = message.settle_tag(Name::To).ok().flatten();
        Some(message)
    }

    fn unsettled(
        bytes: Bytes,
        start: StartLine,
        fields: Vec<Field>,
        header: Range<usize>,
        body: Range<usize>,
    ) -> Self {
        let none = 0..0;
        Self {
            bytes,
            start,
            fields: fields.into(),
            header,
            body,
            dropped: 0,
            cseq: 0,
            cseq_method: none.clone(),
            call_id: none.clone(),
            from_tag: None,
            to_tag: None,
            top_via: none,
        }
    }

    /// RFC 3261 §20.14, §18.3: a datagram may be longer than it says, never shorter.
    fn settle_body(&mut self) -> Result<(), Malformed> {
        let announced = self.announced_length()?;
        let Some(length) = announced else {
            return Ok(());
        };
        if length > self.body.len() {
            return Err(Malformed::ContentLength);
        }
        self.dropped = self.body.len() - length;
        self.body.end = self.body.start + length;
        self.bytes.truncate(self.body.end);
        Ok(())
    }

    /// `Content-Length`, if there is one.
    pub(super) fn announced_length(&self) -> Result<Option<usize>, Malformed> {
        let mut lengths = self.all(Name::ContentLength);
        let Some(field) = lengths.next() else {
            return Ok(None);
        };
        if lengths.next().is_some() {
            return Err(Malformed::RepeatedHeader(Name::ContentLength));
        }
        number(self.slice(&field.value))
            .map(Some)
            .ok_or(Malformed::ContentLength)
    }

    /// Checks the headers every message must have (RFC 3261 §8.1.1) and remembers what they say.
    fn settle_identity(&mut self) -> Result<(), Malformed> {
        let mut seen: Vec<Name> = Vec::with_capacity(self.fields.len());
        for field in self.fields.iter() {
            if field.name.is_single() && seen.contains(&field.name) {
                return Err(Malformed::RepeatedHeader(field.name));
            }
            seen.push(field.name);
        }
        self.top_via = self.settle_vias()?;
        for routes in [Name::Route, Name::RecordRoute] {
            if self.values(routes).len() > ROUTES_MAX {
                return Err(Malformed::TooLarge(Limit::Routes));
            }
        }
        self.from_tag = self.settle_tag(Name::From)?;
        self.to_tag = self.settle_tag(Name::To)?;
        self.call_id = self.only(Name::CallId)?;
        if self.call_id.is_empty() || self.slice(&self.call_id).iter().any(|&byte| is_lws(byte)) {
            return Err(Malformed::BadHeader(Name::CallId));
        }
        self.settle_cseq()?;
        match self.get(Name::MaxForwards).map(number::<u8>) {
            Some(None) => Err(Malformed::BadHeader(Name::MaxForwards)),
            Some(Some(_)) | None => Ok(()),
        }
    }

    fn settle_vias(&self) -> Result<Range<usize>, Malformed> {
        let vias = self.values(Name::Via);
        if vias.len() > VIAS_MAX {
            return Err(Malformed::TooLarge(Limit::Vias));
        }
        if !vias.iter().all(|via| Via::parse(self.slice(via)).is_some()) {
            return Err(Malformed::BadHeader(Name::Via));
        }
        match (vias.into_iter().next(), self.get(Name::Via)) {
            (Some(top), _) => Ok(top),
            (None, Some(_)) => Err(Malformed::BadHeader(Name::Via)),
            (None, None) => Err(Malformed::MissingHeader(Name::Via)),
        }
    }

    fn settle_tag(&self, name: Name) -> Result<Option<Range<usize>>, Malformed> {
        let value = self.only(name)?;
        let text = self.slice(&value);
        let addr = NameAddr::parse(text).ok_or(Malformed::BadHeader(name))?;
        // A tag behind a quote that never ends would be part of what is quoted.
        if addr.params.clone().any(|param| param.open) {
            return Err(Malformed::BadHeader(name));
        }
        let mut tags = addr
            .params
            .filter(|param| param.name.eq_ignore_ascii_case(b"tag"));
        let (tag, second) = (tags.next(), tags.next());
        let Some(tag) = tag else { return Ok(None) };
        // An empty or doubled tag would name two dialogs, or none.
        match tag
            .value_range
            .filter(|range| !range.is_empty() && second.is_none())
        {
            Some(range) => Ok(Some(value.start + range.start..value.start + range.end)),
            None => Err(Malformed::BadHeader(name)),
        }
    }

    fn settle_cseq(&mut self) -> Result<(), Malformed> {
        let value = self.only(Name::CSeq)?;
        let text = self.slice(&value);
        let cseq = CSeq::parse(text).ok_or(Malformed::BadHeader(Name::CSeq))?;
        if self
            .method()
            .is_some_and(|method| method.as_bytes() != cseq.method)
        {
            return Err(Malformed::MethodMismatch);
        }
        let (number, length) = (cseq.number, cseq.method.len());
        // The method is the last thing in the trimmed value.
        self.cseq_method = value.end - length..value.end;
        self.cseq = number;
        Ok(())
    }

    fn only(&self, name: Name) -> Result<Range<usize>, Malformed> {
        let field = self
            .all(name)
            .next()
            .ok_or(Malformed::MissingHeader(name))?;
        Ok(field.value.clone())
    }

    /// The message from its start line to the end of its body.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How many bytes after the body were dropped: a sign of smuggling or of a broken peer.
    #[must_use]
    pub const fn dropped(&self) -> usize {
        self.dropped
    }

    #[must_use]
    pub fn start(&self) -> Start<'_> {
        match &self.start {
            StartLine::Request { method, uri } => Start::Request {
                method: self.slice(method),
                uri: self.slice(uri),
            },
            StartLine::Response { code, reason } => Start::Response {
                code: *code,
                reason: self.slice(reason),
            },
        }
    }

    /// The method of a request; `None` for a response.
    #[must_use]
    pub fn method(&self) -> Option<Method<'_>> {
        match self.start() {
            Start::Request { method, .. } => Some(Method::parse(method)),
            Start::Response { .. } => None,
        }
    }

    /// The status code of a response, 100 to 699; `None` for a request.
    #[must_use]
    pub const fn code(&self) -> Option<u16> {
        match self.start {
            StartLine::Response { code, .. } => Some(code),
            StartLine::Request { .. } => None,
        }
    }

    /// Where the Request-URI lies.
    #[must_use]
    pub fn uri_range(&self) -> Option<Range<usize>> {
        match &self.start {
            StartLine::Request { uri, .. } => Some(uri.clone()),
            StartLine::Response { .. } => None,
        }
    }

    /// From just after the start line to just after the last header field.
    #[must_use]
    pub fn header_range(&self) -> Range<usize> {
        self.header.clone()
    }

    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The first field of that name, trimmed; for a list header this may be several values.
    #[must_use]
    pub fn get(&self, name: Name) -> Option<&[u8]> {
        self.all(name).next().map(|field| self.slice(&field.value))
    }

    /// All fields of that name, in order.
    pub fn all(&self, name: Name) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(move |field| field.name == name)
    }

    /// All values of that name over all its fields, in order; list headers are split at commas.
    #[must_use]
    pub fn values(&self, name: Name) -> Vec<Range<usize>> {
        self.all(name)
            .flat_map(|field| self.elements(field))
            .collect()
    }

    /// The values one field holds.
    #[must_use]
    pub fn elements(&self, field: &Field) -> Vec<Range<usize>> {
        if !field.name.is_list() {
            return vec![field.value.clone()];
        }
        let mut elements = split_list(self.slice(&field.value));
        for element in &mut elements {
            *element = field.value.start + element.start..field.value.start + element.end;
        }
        elements
    }

    /// The bytes of a range of this message; empty if it is not one.
    #[must_use]
    pub fn slice(&self, range: &Range<usize>) -> &[u8] {
        slice(&self.bytes, range)
    }

    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.slice(&self.body)
    }

    #[must_use]
    pub fn body_range(&self) -> Range<usize> {
        self.body.clone()
    }

    #[must_use]
    pub fn call_id(&self) -> &[u8] {
        self.slice(&self.call_id)
    }

    #[must_use]
    pub fn cseq(&self) -> (u32, &[u8]) {
        (self.cseq, self.slice(&self.cseq_method))
    }

    #[must_use]
    pub fn from_tag(&self) -> Option<&[u8]> {
        self.from_tag.as_ref().map(|tag| self.slice(tag))
    }

    #[must_use]
    pub fn to_tag(&self) -> Option<&[u8]> {
        self.to_tag.as_ref().map(|tag| self.slice(tag))
    }

    #[must_use]
    pub fn top_via(&self) -> Via<'_> {
        // `parse` saw it succeed on these very bytes.
        Via::parse(self.slice(&self.top_via)).unwrap_or_default()
    }

    /// Where the topmost `Via` value lies.
    #[must_use]
    pub fn top_via_range(&self) -> Range<usize> {
        self.top_via.clone()
    }

    /// Whether an option tag is listed (RFC 3261 §19.2), in `Require`, `Supported` or another.
    #[must_use]
    pub fn has_option(&self, name: Name, tag: &[u8]) -> bool {
        self.values(name)
            .iter()
            .any(|value| self.slice(value).eq_ignore_ascii_case(tag))
    }
}

/// The end of the line that begins at `from`, just after its LF.
fn line_end(bytes: &[u8], from: usize) -> Option<usize> {
    let length = bytes.get(from..)?.iter().position(|&byte| byte == b'\n')?;
    Some(from + length + 1)
}

fn start_line(bytes: &[u8], end: usize) -> Result<StartLine, Malformed> {
    if end > LINE_BYTES_MAX {
        return Err(Malformed::TooLarge(Limit::Line));
    }
    if stray_cr(slice(bytes, &(0..end))) {
        return Err(Malformed::StartLine);
    }
    // RFC 4475 §3.1.2.8, §3.1.2.9: surplus spaces are forgiven where they cannot mislead.
    let line = trim_range(bytes, 0..end);
    let text = slice(bytes, &line);
    let is_space = |&byte: &u8| matches!(byte, b' ' | b'\t');
    let is_version = |word: &[u8]| {
        word.get(..4)
            .is_some_and(|sip| sip.eq_ignore_ascii_case(b"SIP/"))
    };
    let first = text.iter().position(is_space).unwrap_or(text.len());
    if is_version(text) {
        check_version(slice(text, &(0..first)))?;
        return status_line(bytes, line.start + first..line.end);
    }
    let last = text
        .iter()
        .rposition(is_space)
        .map_or(text.len(), |place| place + 1);
    let version = slice(text, &(last..text.len()));
    if !is_token(slice(text, &(0..first))) || !is_version(version) {
        return Err(Malformed::NotSip);
    }
    check_version(version)?;
    let uri = trim_range(bytes, line.start + first..line.start + last.max(first));
    let unfit = |&byte: &u8| byte <= b' ' || matches!(byte, b'<' | b'>' | b'"' | 0x7f);
    if uri.is_empty() || slice(bytes, &uri).iter().any(unfit) {
        return Err(Malformed::StartLine);
    }
    Ok(StartLine::Request {
        method: line.start..line.start + first,
        uri,
    })
}

fn status_line(bytes: &[u8], rest: Range<usize>) -> Result<StartLine, Malformed> {
    let rest = trim_range(bytes, rest);
    let text = slice(bytes, &rest);
    let digits = text
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    let code = number(slice(text, &(0..digits))).filter(|_| digits == 3);
    let code = code
        .filter(|code| (100..700).contains(code))
        .ok_or(Malformed::StartLine)?;
    let reason = rest.start + digits..rest.end;
    if slice(bytes, &reason)
        .first()
        .is_some_and(|&byte| !is_lws(byte))
    {
        return Err(Malformed::StartLine);
    }
    Ok(StartLine::Response {
        code,
        reason: trim_range(bytes, reason),
    })
}

fn check_version(version: &[u8]) -> Result<(), Malformed> {
    if version.get(4..) == Some(b"2.0") {
        Ok(())
    } else {
        Err(Malformed::Version)
    }
}

/// Reads header fields until the blank line; linear in the size of the header section.
fn scan_fields(bytes: &[u8], from: usize, fields: &mut Vec<Field>) -> Result<(), Malformed> {
    let mut at = from;
    loop {
        let mut end = line_end(bytes, at).ok_or(too_long_or(bytes, at, Malformed::Header))?;
        if matches!(slice(bytes, &(at..end)), b"\r\n" | b"\n") {
            return Ok(());
        }
        while bytes
            .get(end)
            .is_some_and(|byte| matches!(byte, b' ' | b'\t'))
        {
            end = line_end(bytes, end).ok_or(too_long_or(bytes, at, Malformed::Header))?;
        }
        if end - at > LINE_BYTES_MAX {
            return Err(Malformed::TooLarge(Limit::Line));
        }
        if end > HEADER_BYTES_MAX {
            return Err(Malformed::TooLarge(Limit::Header));
        }
        if fields.len() == HEADER_LINES_MAX {
            return Err(Malformed::TooLarge(Limit::Lines));
        }
        fields.push(field(bytes, at..end).ok_or(Malformed::Header)?);
        at = end;
    }
}

fn too_long_or(bytes: &[u8], at: usize, otherwise: Malformed) -> Malformed {
    let long = bytes.len().saturating_sub(at) > LINE_BYTES_MAX;
    if long {
        Malformed::TooLarge(Limit::Line)
    } else {
        otherwise
    }
}

/// A CR alone ends a line for some readers and not for others: nobody gets to see it.
fn stray_cr(line: &[u8]) -> bool {
    line.windows(2)
        .any(|pair| matches!(pair, [b'\r', next] if *next != b'\n'))
}

fn field(bytes: &[u8], line: Range<usize>) -> Option<Field> {
    let text = slice(bytes, &line);
    let colon = text.iter().position(|&byte| byte == b':')?;
    let name = line.start..line.start + colon;
    let name_range = name.start..trim_range(bytes, name.clone()).end;
    if stray_cr(text) || !is_token(slice(bytes, &name_range)) {
        return None;
    }
    let value = trim_range(bytes, name.end + 1..line.end);
    Some(Field {
        name: Name::parse(slice(bytes, &name_range)),
        name_range,
        value,
        line,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: &str = "INVITE sip:bob@b.example SIP/2.0\r\n\
        Via: SIP/2.0/UDP a.example;branch=z9hG4bKx\r\nFrom: \"A\" <sip:a@a>;tag=\"t 1\"\r\n\
        To: <sip:b@b>\r\nCall-ID: id@a\r\nCSeq: 42 INVITE\r\nMax-Forwards: 70\r\n\
        Route: <sip:p1;lr>, <sip:p2;lr>\r\nSupported: path,\r\n 100rel\r\nRoute: <sip:p3>\r\n\
        Content-Length: 4\r\n\r\nv=0\n";

    const ODD: &[u8] = b"\r\n\r\nOPTIONS sip:b SIP/2.0\ns : caf\xe9\r\nv:SIP/2.0/UDP a\n \
        ;branch=z9hG4bKy\r\nV: SIP/2.0/TCP b , SIP/2.0/TCP c\r\nf:sip:a@a;\r\n\ttag=1\r\n\
        t:<sip:b>;tag=2\r\ni:x\r\nXx:\r\ncseq:\t1\r\n  OPTIONS \r\n\r\n\0\xff";

    fn parse(bytes: &[u8]) -> Result<Message, Malformed> {
        Message::parse(Bytes::copy_from_slice(bytes))
    }

    fn values(message: &Message, name: Name) -> Vec<&[u8]> {
        message
            .values(name)
            .iter()
            .map(|range| message.slice(range))
            .collect()
    }

    #[test]
    fn plain() {
        let message = parse(PLAIN.as_bytes()).unwrap();
        let start = Start::Request {
            method: b"INVITE",
            uri: b"sip:bob@b.example",
        };
        assert_eq!(message.start(), start);
        assert_eq!(
            message.slice(&message.uri_range().unwrap()),
            b"sip:bob@b.example"
        );
        assert_eq!(message.method(), Some(Method::Invite));
        assert_eq!(message.cseq(), (42, &b"INVITE"[..]));
        assert_eq!(message.call_id(), b"id@a");
        assert_eq!(
            (message.from_tag(), message.to_tag()),
            (Some(&b"t 1"[..]), None)
        );
        assert_eq!(message.top_via().branch, Some(&b"z9hG4bKx"[..]));
        assert_eq!(
            values(&message, Name::Route),
            [&b"<sip:p1;lr>"[..], b"<sip:p2;lr>", b"<sip:p3>"]
        );
        assert!(message.has_option(Name::Supported, b"100REL"));
        assert!(!message.has_option(Name::Supported, b"rel"));
        assert_eq!(message.body(), b"v=0\n");
        assert_eq!(message.bytes(), PLAIN);
        let lines: usize = message.fields().iter().map(|field| field.line.len()).sum();
        assert_eq!(lines, message.header_range().len());
    }

    #[test]
    fn odd_but_good() {
        let message = parse(ODD).unwrap();
        assert_eq!(message.bytes(), &ODD[4..]);
        assert_eq!(message.get(Name::Subject), Some(&b"caf\xe9"[..]));
        assert_eq!(message.top_via().branch, Some(&b"z9hG4bKy"[..]));
        assert_eq!(values(&message, Name::Via).len(), 3);
        assert_eq!(
            (message.from_tag(), message.to_tag()),
            (Some(&b"1"[..]), Some(&b"2"[..]))
        );
        assert_eq!(message.cseq(), (1, &b"OPTIONS"[..]));
        assert_eq!(message.body(), b"\0\xff");
        assert_eq!(message.get(Name::Other), Some(&b""[..]));
    }

    #[test]
    fn status_lines() {
        fn check(line: &str, expected: Result<(u16, &str), Malformed>) {
            let wire = PLAIN.replace("INVITE sip:bob@b.example SIP/2.0", line);
            let seen = parse(wire.as_bytes()).map(|message| match message.start() {
                Start::Response { code, reason } => (code, String::from_utf8_lossy(reason).into()),
                Start::Request { .. } => panic!("{line} is a request"),
            });
            assert_eq!(
                seen,
                expected.map(|(code, reason)| (code, String::from(reason))),
                "{line}"
            );
        }
        check("SIP/2.0 200 OK", Ok((200, "OK")));
        check("sip/2.0 486  Busy  Here ", Ok((486, "Busy  Here")));
        check("SIP/2.0 100 ", Ok((100, "")));
        check("SIP/2.0 100", Ok((100, "")));
        for bad in [
            "SIP/2.0 99 x",
            "SIP/2.0 1000 x",
            "SIP/2.0 OK",
            "SIP/2.0",
            "SIP/2.0 700 x",
        ] {
            check(bad, Err(Malformed::StartLine));
        }
        check("SIP/3.0 200 OK", Err(Malformed::Version));
    }

    #[test]
    fn refused() {
        use Malformed::{BadHeader, MissingHeader, RepeatedHeader, TooLarge};
        fn check(from: &str, to: &str, expected: Malformed) {
            let wire = PLAIN.replacen(from, to, 1);
            assert_ne!(wire, PLAIN, "{from} is not there");
            assert_eq!(
                parse(wire.as_bytes()).err(),
                Some(expected),
                "{from} -> {to}"
            );
        }
        check(PLAIN, "", Malformed::Empty);
        check(PLAIN, "\r\n\r\n", Malformed::Empty);
        check(PLAIN, "hello", Malformed::NotSip);
        check(" SIP/2.0\r", " HTTP/1.1\r", Malformed::NotSip);
        check("SIP/2.0\r", "SIP/7.0\r", Malformed::Version);
        check(
            "sip:bob@b.example",
            "<sip:bob@b.example>",
            Malformed::StartLine,
        );
        check("sip:bob@b.example", "sip:bob@b; lr", Malformed::StartLine);
        check(" sip:bob@b.example", "", Malformed::StartLine);
        check(
            "Max-Forwards: 70",
            " Max-Forwards: 70\r\nno colon",
            Malformed::Header,
        );
        check("Max-Forwards: 70", ": 70", Malformed::Header);
        check("Max-Forwards: 70", "Max Forwards: 70", Malformed::Header);
        check("Max-Forwards: 70", "X: a\rb", Malformed::Header);
        check("\r\n\r\nv=0\n", "\r\n", Malformed::Header);
        check("\r\n\r\nv=0\n", "", Malformed::Header);
        check("SIP/2.0\r\nVia", "SIP/2.0\r\n Via", Malformed::Header);
        check("Length: 4", "Length: 5", Malformed::ContentLength);
        check("Length: 4", "Length: -4", Malformed::ContentLength);
        check("Length: 4", "Length:", Malformed::ContentLength);
        check(
            "Length: 4",
            "Length: 4\r\nl: 4",
            RepeatedHeader(Name::ContentLength),
        );
        check(
            "Max-Forwards: 70",
            "To: <sip:b@b>",
            RepeatedHeader(Name::To),
        );
        check(
            "Max-Forwards: 70",
            "Max-Forwards: 256",
            BadHeader(Name::MaxForwards),
        );
        check("Via", "X", MissingHeader(Name::Via));
        check("From", "X", MissingHeader(Name::From));
        check("To", "X", MissingHeader(Name::To));
        check("Call-ID", "X", MissingHeader(Name::CallId));
        check("CSeq", "X", MissingHeader(Name::CSeq));
        check("id@a", "", BadHeader(Name::CallId));
        check("42 INVITE", "42", BadHeader(Name::CSeq));
        check("42 INVITE", "42 ACK", Malformed::MethodMismatch);
        check(
            "a.example;branch",
            "a.example;;branch",
            BadHeader(Name::Via),
        );
        check(
            "SIP/2.0/UDP a.example;branch=z9hG4bKx",
            ",,",
            BadHeader(Name::Via),
        );
        check("To: <sip:b@b>", "To: \"b <sip:b@b>", BadHeader(Name::To));
        check("To: <sip:b@b>", "To: <sip:b@b>;tag", BadHeader(Name::To));
        check("To: <sip:b@b>", "To: <sip:b@b>;tag=", BadHeader(Name::To));
        check(
            "To: <sip:b@b>",
            "To: <sip:b@b>;tag=1;Tag=2",
            BadHeader(Name::To),
        );
        let many = |what: &str, count: usize| what.repeat(count) + "Max-Forwards: 70";
        let lines = TooLarge(Limit::Lines);
        check(
            "Max-Forwards: 70",
            &many("X: y\r\n", HEADER_LINES_MAX),
            lines,
        );
        check(
            "Max-Forwards: 70",
            &many("v: SIP/2.0/UDP a\r\n", VIAS_MAX),
            TooLarge(Limit::Vias),
        );
        check(
            "<sip:p3>",
            &format!("<sip:p>{}", ",<sip:p>".repeat(62)),
            TooLarge(Limit::Routes),
        );
        let long = "x".repeat(LINE_BYTES_MAX);
        check(
            "Max-Forwards: 70",
            &format!("X: {long}"),
            TooLarge(Limit::Line),
        );
        check("sip:bob@b", &format!("sip:{long}"), TooLarge(Limit::Line));
        let long = format!("X: {}\r\n", "x".repeat(LINE_BYTES_MAX / 2));
        check("Max-Forwards: 70", &many(&long, 9), TooLarge(Limit::Header));
        check(
            "v=0\n",
            &"x".repeat(STREAM_MESSAGE_BYTES_MAX),
            TooLarge(Limit::Message),
        );
    }

    #[test]
    fn what_follows_the_body_is_dropped() {
        let wire = format!("{PLAIN}INVITE sip:evil SIP/2.0\r\n\r\n");
        let message = parse(wire.as_bytes()).unwrap();
        assert_eq!(message.bytes(), PLAIN);
        assert_eq!(message.dropped(), wire.len() - PLAIN.len());
    }

    /// Work grows with the bytes, not with their square: the largest hostile inputs end at once.
    #[test]
    fn hostile_sizes_end() {
        let fill = |unit: &str| unit.repeat(STREAM_MESSAGE_BYTES_MAX / unit.len());
        for unit in [
            "\r\n", "A", "a:\n", "a:b,\n ", "\n", ";", "SIP/2.0 ", "\"", ",", "<",
        ] {
            let junk = fill(unit);
            for place in ["INVITE sip:bob", "42 INVITE", "z9hG4bKx", "p1;lr", "v=0\n"] {
                let wire = PLAIN.replacen(place, &junk, 1);
                assert!(parse(wire.as_bytes()).is_err(), "{unit:?} at {place}");
            }
            assert!(parse(junk.as_bytes()).is_err());
        }
    }

    /// Reads everything there is to read.
    fn exercise(message: &Message) {
        for field in message.fields() {
            assert!(field.line.end <= message.bytes().len());
            assert!(
                message
                    .elements(field)
                    .iter()
                    .all(|element| element.end <= field.line.end)
            );
        }
        assert!(Via::parse(message.slice(&message.top_via_range())).is_some());
        assert!(!message.call_id().is_empty());
        assert!(!message.cseq().1.is_empty());
        assert!(message.method().is_some() != message.code().is_some());
        assert_eq!(message.body_range().end, message.bytes().len());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(message) = parse(&bytes) {
                exercise(&message);
            }
        }

        #[test]
        fn mutated_messages_never_panic(
            odd in any::<bool>(),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), 0_usize..6,
                prop_oneof![Just(&b"\r\n"[..]), Just(&b"\""[..]), Just(&b","[..]), Just(&b"<"[..]),
                    Just(&b";"[..]), Just(&b":"[..]), Just(&b"\0"[..]), Just(&b"\xff"[..]),
                    Just(&b" "[..]), Just(&b"["[..]), Just(&b"="[..]), Just(&b"%"[..]),
                    Just(&b""[..]), Just(&b"4294967296"[..]), Just(&b"Via: x\r\n"[..])]), 1..5),
        ) {
            let mut wire = if odd { ODD.to_vec() } else { PLAIN.as_bytes().to_vec() };
            for (at, length, with) in changes {
                let start = at.index(wire.len() + 1);
                let end = (start + length).min(wire.len());
                wire.splice(start..end, with.iter().copied());
            }
            match parse(&wire) {
                Ok(message) => {
                    exercise(&message);
                    let again = parse(message.bytes()).unwrap();
                    prop_assert_eq!(again.fields(), message.fields());
                }
                Err(fault) => {
                    prop_assert!(!fault.reason().is_empty());
                    let bytes = Bytes::from(wire);
                    if let Some(answer) = super::super::build::refusal(&bytes, fault, Some("t")) {
                        prop_assert!(answer.starts_with(b"SIP/2.0 "));
                    }
                }
            }
        }
    }
}
