//! Borrowed, typed views of single header values (RFC 3261 §20, §25.1).
//!
//! Every parser here takes the raw value as it lies in the message: folded, spaced, quoted. Nothing
//! is copied and nothing is unescaped; ranges are relative to the slice that was handed in.

use std::net::IpAddr;
use std::ops::Range;
use std::str;

use super::uri::host_address;

/// SP, HTAB and the line ends that remain inside a folded value (RFC 3261 §25.1, LWS).
#[must_use]
pub const fn is_lws(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// One byte of a `token` (RFC 3261 §25.1).
#[must_use]
pub const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~'
        )
}

/// A non-empty `token` (RFC 3261 §25.1).
#[must_use]
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

/// The value without surrounding white space and folds.
#[must_use]
pub fn trim(bytes: &[u8]) -> &[u8] {
    slice(bytes, &trim_range(bytes, 0..bytes.len()))
}

/// Shrinks `range` until it neither begins nor ends with white space.
#[must_use]
pub fn trim_range(bytes: &[u8], range: Range<usize>) -> Range<usize> {
    let within = slice(bytes, &range);
    let Some(first) = within.iter().position(|&byte| !is_lws(byte)) else {
        return range.start..range.start;
    };
    let last = within
        .iter()
        .rposition(|&byte| !is_lws(byte))
        .unwrap_or(first);
    range.start + first..range.start + last + 1
}

/// Splits a comma-separated list into trimmed, non-empty elements; quotes and angle brackets
/// protect their commas (RFC 3261 §7.3.1).
#[must_use]
pub fn split_list(value: &[u8]) -> Vec<Range<usize>> {
    let mut elements = Vec::new();
    let mut start = 0;
    loop {
        let end = scan(value, start, Angles::Protect, |byte| byte == b',').at;
        let element = trim_range(value, start..end);
        if !element.is_empty() {
            elements.push(element);
        }
        if end >= value.len() {
            return elements;
        }
        start = end + 1;
    }
}

/// Seconds (RFC 3261 §25.1, delta-seconds), also when a comment or parameters follow, as in
/// `Retry-After` and `Session-Expires`. `None` for anything that does not fit 32 bits.
#[must_use]
pub fn delta_seconds(value: &[u8]) -> Option<u32> {
    let value = trim(value);
    let end = value
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(value.len());
    let follows = value.get(end).copied().unwrap_or(b';');
    if !(is_lws(follows) || matches!(follows, b';' | b'(')) {
        return None;
    }
    number(value.get(..end)?)
}

/// One `Via` value (RFC 3261 §20.42, RFC 3581).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Via<'m> {
    /// `UDP`, `TCP`, … as written.
    pub transport: &'m [u8],
    /// The sent-by host as written; IPv6 keeps its brackets.
    pub host: &'m [u8],
    pub port: Option<u16>,
    pub branch: Option<&'m [u8]>,
    pub received: Option<&'m [u8]>,
    /// `Some(None)`: asked for; `Some(Some(port))`: filled in.
    pub rport: Option<Option<u16>>,
    pub maddr: Option<&'m [u8]>,
    pub params: Params<'m>,
}

/// What a request starts its life with (RFC 3261 §8.1.1.6).
pub const MAX_FORWARDS: u8 = 70;

/// What every RFC 3261 branch begins with (§8.1.1.7).
pub const MAGIC_COOKIE: &[u8] = b"z9hG4bK";

impl<'m> Via<'m> {
    /// Strict about structure: empty parameters and open quotes make it unusable for routing.
    #[must_use]
    pub fn parse(value: &'m [u8]) -> Option<Self> {
        let mut cursor = Cursor {
            bytes: value,
            at: 0,
        };
        if !cursor.token()?.eq_ignore_ascii_case(b"SIP") || !cursor.eat(b'/') {
            return None;
        }
        if cursor.token()? != b"2.0" || !cursor.eat(b'/') {
            return None;
        }
        let transport = cursor.token()?;
        let host = cursor.host()?;
        let port = if cursor.eat(b':') {
            Some(number(cursor.token()?)?)
        } else {
            None
        };
        let params = Params {
            value,
            at: cursor.after_lws(),
        };
        if cursor.peek().is_some_and(|byte| byte != b';') {
            return None;
        }
        Self {
            transport,
            host,
            port,
            params,
            ..Self::default()
        }
        .with_params()
    }

    fn with_params(mut self) -> Option<Self> {
        for param in self.params.clone() {
            if !is_token(param.name) || param.open {
                return None;
            }
            let (name, value) = (param.name, param.value);
            if name.eq_ignore_ascii_case(b"branch") {
                self.branch = self.branch.or(Some(value?));
            } else if name.eq_ignore_ascii_case(b"received") {
                self.received = self.received.or(Some(value?));
            } else if name.eq_ignore_ascii_case(b"maddr") {
                self.maddr = self.maddr.or(Some(value?));
            } else if name.eq_ignore_ascii_case(b"rport") {
                let port = value.filter(|digits| !digits.is_empty());
                self.rport = self.rport.or(Some(match port {
                    Some(digits) => Some(number(digits)?),
                    None => None,
                }));
            }
        }
        Some(self)
    }

    /// Whether the branch is a transaction identifier. A bare cookie is not: it says nothing
    /// (RFC 4475 §3.3.11), so the message is matched by the rules of RFC 2543.
    #[must_use]
    pub fn is_rfc3261(&self) -> bool {
        self.branch.is_some_and(|branch| {
            branch.len() > MAGIC_COOKIE.len()
                && branch
                    .get(..MAGIC_COOKIE.len())
                    .is_some_and(|cookie| cookie.eq_ignore_ascii_case(MAGIC_COOKIE))
        })
    }

    /// The sent-by host when it is an address rather than a name.
    #[must_use]
    pub fn host_ip(&self) -> Option<IpAddr> {
        host_address(self.host)
    }

    /// The `received` address; IPv6 with or without brackets (RFC 5118 §4.5).
    #[must_use]
    pub fn received_ip(&self) -> Option<IpAddr> {
        host_address(self.received?)
    }

    /// `Some(None)` for a parameter without a value.
    #[must_use]
    pub fn param(&self, name: &[u8]) -> Option<Option<&'m [u8]>> {
        self.params.get(name)
    }
}

/// `"Alice" <sip:alice@example.org>;tag=x`, or the same without brackets (RFC 3261 §20.10).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NameAddr<'m> {
    /// Without its quotes, escapes untouched; empty when there is none.
    pub display: &'m [u8],
    pub uri: &'m [u8],
    /// Where `uri` lies in the parsed value.
    pub uri_range: Range<usize>,
    /// Whether the URI stands in angle brackets; only then may it carry its own parameters.
    pub bracketed: bool,
    pub params: Params<'m>,
}

impl<'m> NameAddr<'m> {
    /// Tolerates unquoted commas in a display name and spaces inside the brackets (RFC 4475
    /// §3.1.2.14, §3.1.2.15); refuses open quotes and a `?` outside brackets (RFC 3261 §20).
    #[must_use]
    pub fn parse(value: &'m [u8]) -> Option<Self> {
        let stop = scan(value, 0, Angles::Plain, |byte| matches!(byte, b'<' | b';'));
        if stop.open {
            return None;
        }
        if value.get(stop.at) != Some(&b'<') {
            return Self::bare(value, stop.at);
        }
        let tail = value.get(stop.at + 1..)?;
        let close = stop.at + 1 + tail.iter().position(|&byte| byte == b'>')?;
        let uri_range = trim_range(value, stop.at + 1..close);
        let params = Params {
            value,
            at: close + 1,
        };
        let next = slice(value, &trim_range(value, close + 1..value.len())).first();
        if uri_range.is_empty() || next.is_some_and(|&byte| byte != b';') {
            return None;
        }
        let display = unquoted(trim(value.get(..stop.at)?));
        let uri = slice(value, &uri_range);
        Some(Self {
            display,
            uri,
            uri_range,
            bracketed: true,
            params,
        })
    }

    fn bare(value: &'m [u8], end: usize) -> Option<Self> {
        let uri_range = trim_range(value, 0..end);
        let uri = slice(value, &uri_range);
        let forbidden = |&byte: &u8| is_lws(byte) || matches!(byte, b'?' | b',' | b'"' | b'>');
        if !uri.contains(&b':') || uri.iter().any(forbidden) {
            return None;
        }
        let params = Params { value, at: end };
        Some(Self {
            display: &[],
            uri,
            uri_range,
            bracketed: false,
            params,
        })
    }

    /// A header parameter, never one of the URI's. `Some(None)`: present without a value.
    #[must_use]
    pub fn param(&self, name: &[u8]) -> Option<Option<&'m [u8]>> {
        self.params.get(name)
    }

    #[must_use]
    pub fn tag(&self) -> Option<&'m [u8]> {
        self.param(b"tag").flatten().filter(|tag| !tag.is_empty())
    }

    /// Preference in thousandths, 0 to 1000 (RFC 3261 §20.10).
    #[must_use]
    pub fn q(&self) -> Option<u16> {
        let text = self.param(b"q").flatten()?;
        let (whole, fraction) = match text.iter().position(|&byte| byte == b'.') {
            Some(dot) => (text.get(..dot)?, text.get(dot + 1..)?),
            None => (text, &[][..]),
        };
        if fraction.len() > 3 || !fraction.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let mut thousandths: u16 = if whole.is_empty() { 0 } else { number(whole)? };
        for place in 0..3 {
            let digit = fraction
                .get(place)
                .map_or(0, |digit| u16::from(digit - b'0'));
            thousandths = thousandths.checked_mul(10)?.checked_add(digit)?;
        }
        (thousandths <= 1000).then_some(thousandths)
    }

    /// Seconds (RFC 3261 §10.2.1.1).
    #[must_use]
    pub fn expires(&self) -> Option<u32> {
        delta_seconds(self.param(b"expires").flatten()?)
    }

    /// `+sip.instance` without quotes and angle brackets (RFC 5626 §4.1).
    #[must_use]
    pub fn instance(&self) -> Option<&'m [u8]> {
        let value = self.param(b"+sip.instance").flatten()?;
        value
            .strip_prefix(b"<")
            .and_then(|inner| inner.strip_suffix(b">"))
            .or(Some(value))
    }

    /// `reg-id` (RFC 5626 §4.2), 1 or more.
    #[must_use]
    pub fn reg_id(&self) -> Option<u32> {
        number(self.param(b"reg-id").flatten()?).filter(|&id: &u32| id > 0)
    }
}

/// One `Contact` value (RFC 3261 §20.10).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Contact<'m> {
    /// `*`, meaningful only in REGISTER with `Expires: 0`.
    Star,
    Addr(NameAddr<'m>),
}

impl<'m> Contact<'m> {
    #[must_use]
    pub fn parse(value: &'m [u8]) -> Option<Self> {
        if trim(value) == b"*" {
            Some(Self::Star)
        } else {
            NameAddr::parse(value).map(Self::Addr)
        }
    }
}

/// `CSeq` (RFC 3261 §20.16).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CSeq<'m> {
    pub number: u32,
    pub method: &'m [u8],
}

impl<'m> CSeq<'m> {
    #[must_use]
    pub fn parse(value: &'m [u8]) -> Option<Self> {
        let mut cursor = Cursor {
            bytes: value,
            at: 0,
        };
        let digits = cursor.token()?;
        let method = cursor.token()?;
        let end = cursor.after_lws();
        if end != value.len() {
            return None;
        }
        Some(Self {
            number: number(digits)?,
            method,
        })
    }
}

/// One `;name=value` of a header or a URI.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Param<'m> {
    pub name: &'m [u8],
    /// Without quotes, escapes untouched.
    pub value: Option<&'m [u8]>,
    /// Where `value` lies in the parsed header value.
    pub value_range: Option<Range<usize>>,
    /// A quoted string that never ends.
    pub open: bool,
    /// From the semicolon to the end of the value, in the parsed header value.
    pub range: Range<usize>,
}

/// Iterates over the parameters that follow a value; empty ones (`;;`) come out with an empty name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Params<'m> {
    value: &'m [u8],
    at: usize,
}

impl<'m> Params<'m> {
    /// `value` begins at or before the first semicolon.
    #[must_use]
    pub const fn new(value: &'m [u8]) -> Self {
        Self { value, at: 0 }
    }

    /// The first parameter of that name; `Some(None)` when it has no value.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<Option<&'m [u8]>> {
        let mut params = self.clone();
        params
            .find(|param| param.name.eq_ignore_ascii_case(name))
            .map(|param| param.value)
    }
}

impl<'m> Iterator for Params<'m> {
    type Item = Param<'m>;

    fn next(&mut self) -> Option<Param<'m>> {
        let start = scan(self.value, self.at, Angles::Plain, |byte| byte == b';').at;
        if start >= self.value.len() {
            self.at = start;
            return None;
        }
        let stop = scan(self.value, start + 1, Angles::Plain, |byte| byte == b';');
        self.at = stop.at;
        let whole = trim_range(self.value, start + 1..stop.at);
        let text = slice(self.value, &whole);
        let equals = text.iter().position(|&byte| byte == b'=');
        let name = trim_range(
            self.value,
            whole.start..whole.start + equals.unwrap_or(text.len()),
        );
        let value_range = equals.map(|equals| {
            let value = trim_range(self.value, whole.start + equals + 1..whole.end);
            let quotes =
                slice(self.value, &value).len() - unquoted(slice(self.value, &value)).len();
            value.start + quotes / 2..value.end - quotes / 2
        });
        Some(Param {
            name: slice(self.value, &name),
            value: value_range.as_ref().map(|range| slice(self.value, range)),
            value_range,
            open: stop.open,
            range: start..whole.end.max(start + 1),
        })
    }
}

pub(super) fn slice<'m>(bytes: &'m [u8], range: &Range<usize>) -> &'m [u8] {
    bytes.get(range.clone()).unwrap_or_default()
}

/// Decimal digits only; `None` when empty or too large for the type.
pub(super) fn number<N: str::FromStr>(digits: &[u8]) -> Option<N> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(digits).ok()?.parse().ok()
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Angles {
    /// A separator inside `<…>` does not count.
    Protect,
    Plain,
}

struct Stop {
    /// Where the scan stopped; the length of the input when nothing was found.
    at: usize,
    /// The input ended inside a quoted string.
    open: bool,
}

/// Finds the first byte that `stops`, outside quoted strings (RFC 3261 §25.1, quoted-pair).
fn scan(bytes: &[u8], from: usize, angles: Angles, stops: impl Fn(u8) -> bool) -> Stop {
    let (mut quoted, mut escaped, mut angled) = (false, false, false);
    for (at, &byte) in bytes.iter().enumerate().skip(from) {
        if escaped {
            escaped = false;
        } else if quoted {
            escaped = byte == b'\\';
            quoted = byte != b'"';
        } else if byte == b'"' && !angled {
            quoted = true;
        } else if !angled && stops(byte) {
            return Stop { at, open: false };
        } else if angles == Angles::Protect {
            angled = (angled || byte == b'<') && byte != b'>';
        }
    }
    Stop {
        at: bytes.len(),
        open: quoted,
    }
}

fn unquoted(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\"")
        .and_then(|inner| inner.strip_suffix(b"\""))
        .unwrap_or(text)
}

struct Cursor<'m> {
    bytes: &'m [u8],
    at: usize,
}

impl<'m> Cursor<'m> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn after_lws(&mut self) -> usize {
        while self.peek().is_some_and(is_lws) {
            self.at += 1;
        }
        self.at
    }

    fn eat(&mut self, wanted: u8) -> bool {
        self.after_lws();
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn run(&mut self, belongs: impl Fn(u8) -> bool) -> &'m [u8] {
        let start = self.at;
        while self.peek().is_some_and(&belongs) {
            self.at += 1;
        }
        slice(self.bytes, &(start..self.at))
    }

    fn token(&mut self) -> Option<&'m [u8]> {
        self.after_lws();
        Some(self.run(is_token_byte)).filter(|token| !token.is_empty())
    }

    /// A host name, an IPv4 address or a bracketed IPv6 reference.
    fn host(&mut self) -> Option<&'m [u8]> {
        self.after_lws();
        let start = self.at;
        if self.peek() == Some(b'[') {
            self.run(|byte| byte.is_ascii_hexdigit() || matches!(byte, b'[' | b':' | b'.'));
            if self.peek() != Some(b']') {
                return None;
            }
            self.at += 1;
        } else {
            self.run(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
        }
        Some(slice(self.bytes, &(start..self.at))).filter(|host| !host.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> &str {
        str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn lists_split_outside_quotes_and_brackets() {
        fn check(value: &str, expected: &[&str]) {
            let found: Vec<_> = split_list(value.as_bytes())
                .into_iter()
                .map(|range| &value[range])
                .collect();
            assert_eq!(found, expected, "{value:?}");
        }
        check("", &[]);
        check("a", &["a"]);
        check(" a , b\r\n ,c", &["a", "b", "c"]);
        check(",,a,,", &["a"]);
        check(
            r#""a,b" <sip:x>, <sip:y,z>"#,
            &[r#""a,b" <sip:x>"#, "<sip:y,z>"],
        );
        check(r#""a\",b" <sip:x>,c"#, &[r#""a\",b" <sip:x>"#, "c"]);
        check(r#"<sip:"x>,b"#, &[r#"<sip:"x>"#, "b"]);
        check(r#"a;x="<",b"#, &[r#"a;x="<""#, "b"]);
        check(r#""open, b"#, &[r#""open, b"#]);
        check("<open, b", &["<open, b"]);
    }

    #[test]
    fn vias() {
        fn check(value: &str, expected: Option<(&str, &str, Option<u16>, Option<&str>)>) {
            let via = Via::parse(value.as_bytes());
            let seen = via.map(|via| {
                (
                    text(via.transport),
                    text(via.host),
                    via.port,
                    via.branch.map(text),
                )
            });
            assert_eq!(seen, expected, "{value:?}");
        }
        check(
            "SIP/2.0/UDP a.example",
            Some(("UDP", "a.example", None, None)),
        );
        check(
            "SIP/2.0/UDP a:5;branch=x",
            Some(("UDP", "a", Some(5), Some("x"))),
        );
        check(
            "SIP  / 2.0\r\n / TLS-SCTP   [2001:db8::1] : 5061\r\n ;branch  =\r\n x ;rport",
            Some(("TLS-SCTP", "[2001:db8::1]", Some(5061), Some("x"))),
        );
        check(
            "SIP/2.0/UDP a_b;x=\"a;branch=z\";branch=y",
            Some(("UDP", "a_b", None, Some("y"))),
        );
        check(
            "SIP/2.0/UDP a;branch=x;branch=y",
            Some(("UDP", "a", None, Some("x"))),
        );
        for bad in [
            "",
            "SIP/2.0/UDP",
            "SIP/3.0/UDP a",
            "HTTP/2.0/UDP a",
            "SIP/2.0/UDP a;;",
            "SIP/2.0/UDP a:",
            "SIP/2.0/UDP a:65536",
            "SIP/2.0/UDP [::1",
            "SIP/2.0/UDP a b",
            "SIP/2.0/UDP a;x=\"y",
            "SIP/2.0/UDP a;branch",
            "SIP/2.0/UDP a;rport=x",
            "SIP/2.0/UDP ;branch=x",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn via_of_a_nat() {
        let via =
            Via::parse(b"SIP/2.0/UDP [2001:db8::9]:6;received=2001:db8::7;branch=z9hG4bKa;rport=5");
        let via = via.unwrap();
        assert_eq!(via.received_ip(), "2001:db8::7".parse().ok());
        assert_eq!(via.host_ip(), "2001:db8::9".parse().ok());
        assert_eq!(via.rport, Some(Some(5)));
        assert!(via.is_rfc3261());
        assert!(
            !Via::parse(b"SIP/2.0/UDP a;branch=z9hG4bK")
                .unwrap()
                .is_rfc3261()
        );
        assert_eq!(
            Via::parse(b"SIP/2.0/UDP a;rport").unwrap().rport,
            Some(None)
        );
        assert_eq!(
            Via::parse(b"SIP/2.0/UDP a;rport=").unwrap().rport,
            Some(None)
        );
    }

    #[test]
    fn name_addrs() {
        fn check(value: &str, expected: Option<(&str, &str, Option<&str>)>) {
            let parsed = NameAddr::parse(value.as_bytes());
            if let Some(addr) = &parsed {
                assert_eq!(addr.uri, &value.as_bytes()[addr.uri_range.clone()]);
            }
            let seen =
                parsed.map(|addr| (text(addr.display), text(addr.uri), addr.tag().map(text)));
            assert_eq!(seen, expected, "{value:?}");
        }
        check("sip:a@b;tag=1", Some(("", "sip:a@b", Some("1"))));
        check("<sip:a@b;tag=1>", Some(("", "sip:a@b;tag=1", None)));
        check(
            "<sip:a@b?x=y>;;tag  = 1",
            Some(("", "sip:a@b?x=y", Some("1"))),
        );
        check(
            r#""A \" <x>" <sip:a@b>"#,
            Some((r#"A \" <x>"#, "sip:a@b", None)),
        );
        check(
            "Bell, Alexander <sip:a@b>;tag=43",
            Some(("Bell, Alexander", "sip:a@b", Some("43"))),
        );
        check("\"W\" < sip:a@b >", Some(("W", "sip:a@b", None)));
        check("sip:a@b\r\n ; tag\t= x", Some(("", "sip:a@b", Some("x"))));
        check("tel:+1-2", Some(("", "tel:+1-2", None)));
        for bad in [
            "",
            "a",
            "<>",
            "<sip:a",
            "\"open <sip:a@b>",
            "sip:a@b?x=y",
            "<sip:a> x",
            "<sip:a>,<sip:b>",
            "x y:z",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn contact_parameters() {
        let value = br#"<sip:a@b>;+sip.instance="<urn:uuid:0-;1>";reg-id=2;q=0.75;expires=60"#;
        let Some(Contact::Addr(contact)) = Contact::parse(value) else {
            panic!("no contact")
        };
        assert_eq!(contact.instance(), Some(&b"urn:uuid:0-;1"[..]));
        assert_eq!(contact.reg_id(), Some(2));
        assert_eq!(contact.q(), Some(750));
        assert_eq!(contact.expires(), Some(60));
        assert_eq!(Contact::parse(b" * "), Some(Contact::Star));
    }

    #[test]
    fn q_values() {
        fn check(q: &str, expected: Option<u16>) {
            let value = format!("<sip:a>;q={q}");
            assert_eq!(
                NameAddr::parse(value.as_bytes()).unwrap().q(),
                expected,
                "{q}"
            );
        }
        check("1", Some(1000));
        check("1.000", Some(1000));
        check("0.5", Some(500));
        check(".25", Some(250));
        check("0", Some(0));
        for bad in ["1.001", "2", "0.1234", "x", "-1", "70000", "0.x"] {
            check(bad, None);
        }
    }

    #[test]
    fn cseqs() {
        fn check(value: &str, expected: Option<(u32, &str)>) {
            let seen = CSeq::parse(value.as_bytes()).map(|cseq| (cseq.number, text(cseq.method)));
            assert_eq!(seen, expected, "{value:?}");
        }
        check("1 INVITE", Some((1, "INVITE")));
        check(" 0009\r\n \tINVITE ", Some((9, "INVITE")));
        check("4294967295 X", Some((u32::MAX, "X")));
        for bad in [
            "",
            "1",
            "INVITE",
            "4294967296 X",
            "-1 X",
            "1 X Y",
            "1 X;y",
            "+1 X",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn seconds() {
        fn check(value: &str, expected: Option<u32>) {
            assert_eq!(delta_seconds(value.as_bytes()), expected, "{value:?}");
        }
        check("0", Some(0));
        check(" 3600 ", Some(3600));
        check("1800;refresher=uac", Some(1800));
        check("120 (in a meeting)", Some(120));
        check("4294967295", Some(u32::MAX));
        for bad in ["", "x", "-1", "4294967296", "1x", "1.5", ";x"] {
            check(bad, None);
        }
    }

    #[test]
    fn parameters_tell_where_they_lie() {
        let value = b"a ; x = \"1;2\" ;y;;z=";
        let seen: Vec<_> = Params::new(value)
            .map(|param| {
                (
                    text(param.name),
                    param.value.map(text),
                    text(&value[param.range]),
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("x", Some("1;2"), "; x = \"1;2\""),
                ("y", None, ";y"),
                ("", None, ";"),
                ("z", Some(""), ";z="),
            ]
        );
    }
}
