//! SIP, SIPS and tel URIs (RFC 3261 §19.1, RFC 3966), borrowed from the message.
//!
//! A view decides; it never rewrites. Escapes are decoded for comparison and look-up only.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str;

use super::value::{Params, is_lws, number};

/// URIs with more parameters, or more headers, than this are not understood.
pub const URI_PARTS_MAX: usize = 64;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scheme<'m> {
    Sip,
    Sips,
    Tel,
    /// As written.
    Other(&'m [u8]),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Host<'m> {
    Name(&'m [u8]),
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

impl Host<'_> {
    #[must_use]
    pub const fn ip(&self) -> Option<IpAddr> {
        match *self {
            Self::Name(_) => None,
            Self::V4(ip) => Some(IpAddr::V4(ip)),
            Self::V6(ip) => Some(IpAddr::V6(ip)),
        }
    }

    fn matches(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(one), Self::Name(two)) => one.eq_ignore_ascii_case(two),
            (one, two) => one == two,
        }
    }
}

/// A parsed URI. Only `sip` and `sips` have password, host, port and headers; `tel` has its number
/// in `user`; of other schemes nothing but `opaque` is known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Uri<'m> {
    pub scheme: Scheme<'m>,
    /// Raw, escapes kept.
    pub user: Option<&'m [u8]>,
    pub password: Option<&'m [u8]>,
    /// An empty name unless `sip` or `sips`.
    pub host: Host<'m>,
    pub port: Option<u16>,
    /// From the first semicolon, or empty.
    pub params: &'m [u8],
    /// After the question mark.
    pub headers: Option<&'m [u8]>,
    /// All that follows the scheme's colon.
    pub opaque: &'m [u8],
}

impl<'m> Uri<'m> {
    /// Parses a bare URI, without angle brackets.
    #[must_use]
    pub fn parse(bytes: &'m [u8]) -> Option<Self> {
        let colon = bytes.iter().position(|&byte| byte == b':')?;
        let (scheme, opaque) = (bytes.get(..colon)?, bytes.get(colon + 1..)?);
        let unfit = |&byte: &u8| is_lws(byte) || matches!(byte, b'<' | b'>' | b'"' | 0 | 0x7f);
        if opaque.is_empty() || opaque.iter().any(unfit) || !is_scheme(scheme) {
            return None;
        }
        if scheme.eq_ignore_ascii_case(b"sip") {
            Self::sip(Scheme::Sip, opaque)
        } else if scheme.eq_ignore_ascii_case(b"sips") {
            Self::sip(Scheme::Sips, opaque)
        } else if scheme.eq_ignore_ascii_case(b"tel") {
            Self::tel(opaque)
        } else {
            Some(Self::opaque(Scheme::Other(scheme), opaque))
        }
    }

    const fn opaque(scheme: Scheme<'m>, opaque: &'m [u8]) -> Self {
        let host = Host::Name(&[]);
        let (user, password, port, headers) = (None, None, None, None);
        Self {
            scheme,
            user,
            password,
            host,
            port,
            params: &[],
            headers,
            opaque,
        }
    }

    fn sip(scheme: Scheme<'m>, opaque: &'m [u8]) -> Option<Self> {
        let mut uri = Self::opaque(scheme, opaque);
        // RFC 3261 §25.1: the user may hold `;` and `?`, but nobody else may hold `@`.
        let hostport = match cut(opaque, b'@') {
            Some((userinfo, rest)) => {
                (uri.user, uri.password) = match cut(userinfo, b':') {
                    Some((user, password)) => (Some(user), Some(password)),
                    None => (Some(userinfo), None),
                };
                rest
            }
            None => opaque,
        };
        if uri.user.is_some_and(<[u8]>::is_empty) {
            return None;
        }
        let (hostport, headers) = match cut(hostport, b'?') {
            Some((rest, headers)) => (rest, Some(headers)),
            None => (hostport, None),
        };
        uri.headers = headers;
        let semicolon = hostport
            .iter()
            .position(|&byte| byte == b';')
            .unwrap_or(hostport.len());
        uri.params = hostport.get(semicolon..)?;
        (uri.host, uri.port) = host_port(hostport.get(..semicolon)?)?;
        uri.is_bounded().then_some(uri)
    }

    fn tel(opaque: &'m [u8]) -> Option<Self> {
        let mut uri = Self::opaque(Scheme::Tel, opaque);
        let semicolon = opaque
            .iter()
            .position(|&byte| byte == b';')
            .unwrap_or(opaque.len());
        let digits = opaque.get(..semicolon)?;
        let fits = |byte: &u8| {
            byte.is_ascii_hexdigit()
                || matches!(byte, b'+' | b'*' | b'#' | b'-' | b'.' | b'(' | b')' | b'%')
        };
        if digits.is_empty() || !digits.iter().all(fits) {
            return None;
        }
        uri.user = Some(digits);
        uri.params = opaque.get(semicolon..)?;
        uri.is_bounded().then_some(uri)
    }

    fn is_bounded(&self) -> bool {
        let params = self.params.iter().filter(|&&byte| byte == b';').count();
        let headers = self.headers.unwrap_or_default();
        params <= URI_PARTS_MAX
            && headers.iter().filter(|&&byte| byte == b'&').count() < URI_PARTS_MAX
    }

    /// The user with its escapes resolved; `None` when there is none, or when it is not text.
    #[must_use]
    pub fn user_decoded(&self) -> Option<String> {
        let mut decoded = Vec::new();
        let mut rest = self.user?;
        while let Some((&byte, tail)) = rest.split_first() {
            rest = tail;
            if byte == b'%' {
                decoded.push(escaped(tail)?);
                rest = tail.get(2..)?;
            } else {
                decoded.push(byte);
            }
        }
        String::from_utf8(decoded).ok()
    }

    /// A URI parameter; `Some(None)` when it has no value.
    #[must_use]
    pub fn param(&self, name: &[u8]) -> Option<Option<&'m [u8]>> {
        Params::new(self.params).get(name)
    }

    /// Loose routing (RFC 3261 §16.4).
    #[must_use]
    pub fn lr(&self) -> bool {
        self.param(b"lr").is_some()
    }

    /// RFC 3261 §19.1.4 for `sip` and `sips`, RFC 3966 §4 for `tel`, byte by byte for the rest.
    #[must_use]
    pub fn equivalent(&self, other: &Uri<'_>) -> bool {
        match (self.scheme, other.scheme) {
            (Scheme::Sip, Scheme::Sip) | (Scheme::Sips, Scheme::Sips) => self.same_sip(other),
            (Scheme::Tel, Scheme::Tel) => {
                same_number(
                    self.user.unwrap_or_default(),
                    other.user.unwrap_or_default(),
                ) && covers(self.params, other.params, &|_| true)
                    && covers(other.params, self.params, &|_| true)
            }
            (Scheme::Other(one), Scheme::Other(two)) => {
                one.eq_ignore_ascii_case(two) && self.opaque == other.opaque
            }
            (Scheme::Sip | Scheme::Sips | Scheme::Tel | Scheme::Other(_), _) => false,
        }
    }

    fn same_sip(&self, other: &Uri<'_>) -> bool {
        same_option(self.user, other.user)
            && same_option(self.password, other.password)
            && self.host.matches(&other.host)
            && self.port == other.port
            && covers(self.params, other.params, &decides)
            && covers(other.params, self.params, &decides)
            && same_headers(self.headers, other.headers)
    }
}

/// An address as it stands in a host position; IPv6 with or without brackets.
#[must_use]
pub fn host_address(host: &[u8]) -> Option<IpAddr> {
    let bare = host
        .strip_prefix(b"[")
        .and_then(|inner| inner.strip_suffix(b"]"));
    let text = str::from_utf8(bare.unwrap_or(host)).ok()?;
    if text.contains(':') {
        // RFC 5118 §4.10: a mistake in the old grammar lets three colons stand for two.
        let parsed = text
            .parse()
            .or_else(|_| text.replacen(":::", "::", 1).parse());
        return parsed.ok().map(IpAddr::V6);
    }
    if bare.is_some() {
        None
    } else {
        text.parse().ok().map(IpAddr::V4)
    }
}

fn host_port(bytes: &[u8]) -> Option<(Host<'_>, Option<u16>)> {
    if bytes.first() == Some(&b'[') {
        let close = bytes.iter().position(|&byte| byte == b']')?;
        let Some(IpAddr::V6(ip)) = host_address(bytes.get(..=close)?) else {
            return None;
        };
        return match bytes.get(close + 1..)? {
            [] => Some((Host::V6(ip), None)),
            [b':', port @ ..] => Some((Host::V6(ip), Some(number(port)?))),
            [..] => None,
        };
    }
    let (host, port) = match cut(bytes, b':') {
        Some((host, port)) => (host, Some(number(port)?)),
        None => (bytes, None),
    };
    let fits = |byte: &u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_') || *byte > 0x7f
    };
    if host.is_empty() || !host.iter().all(fits) {
        return None;
    }
    match host_address(host) {
        Some(IpAddr::V4(ip)) => Some((Host::V4(ip), port)),
        Some(IpAddr::V6(_)) | None => Some((Host::Name(host), port)),
    }
}

fn is_scheme(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte))
}

fn cut(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = bytes.iter().position(|&byte| byte == at)?;
    Some((bytes.get(..place)?, bytes.get(place + 1..)?))
}

fn escaped(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*digits.get(at)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

/// Whether the parameter, present in one URI only, makes the two differ (RFC 3261 §19.1.4; the
/// section's examples add `transport` to the four it lists).
fn decides(name: &[u8]) -> bool {
    let list: [&[u8]; 5] = [b"user", b"ttl", b"method", b"maddr", b"transport"];
    list.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Every parameter of `one` is matched by `two`, or is absent there and does not matter.
fn covers(one: &[u8], two: &[u8], matters: &dyn Fn(&[u8]) -> bool) -> bool {
    // None may stand twice (RFC 3261 §19.1.1); one that does is still equal to itself.
    let mut named: BTreeMap<Vec<u8>, BTreeSet<Option<Vec<u16>>>> = BTreeMap::new();
    for (name, value) in comparable(two) {
        named.entry(name).or_default().insert(value);
    }
    comparable(one).all(|(name, value)| match named.get(&name) {
        Some(values) => values.contains(&value),
        None => !matters(&name),
    })
}

/// Parameters in the form in which equal ones are the same.
fn comparable(params: &[u8]) -> impl Iterator<Item = (Vec<u8>, Option<Vec<u16>>)> {
    Params::new(params)
        .filter(|param| !param.name.is_empty())
        .map(|param| {
            let value = param.value.map(|value| units(value, true).collect());
            (param.name.to_ascii_lowercase(), value)
        })
}

fn same_headers(one: Option<&[u8]>, two: Option<&[u8]>) -> bool {
    let pairs = |headers: Option<&[u8]>| -> Vec<(Vec<u16>, Vec<u16>)> {
        headers
            .unwrap_or_default()
            .split(|&byte| byte == b'&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| cut(pair, b'=').unwrap_or((pair, &[])))
            .map(|(name, value)| (units(name, true).collect(), units(value, false).collect()))
            .collect()
    };
    let (one, two) = (pairs(one), pairs(two));
    let each = |pairs: &[(Vec<u16>, Vec<u16>)]| pairs.iter().cloned().collect::<BTreeSet<_>>();
    one.len() == two.len() && each(&one) == each(&two)
}

fn same_option(one: Option<&[u8]>, two: Option<&[u8]>) -> bool {
    match (one, two) {
        (Some(one), Some(two)) => units(one, false).eq(units(two, false)),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// RFC 3966 §4: visual separators do not count.
fn same_number(one: &[u8], two: &[u8]) -> bool {
    let bare = |number: &'_ [u8]| -> Vec<u8> {
        let visual = |byte: &u8| matches!(byte, b'-' | b'.' | b'(' | b')');
        number
            .iter()
            .filter(|byte| !visual(byte))
            .map(u8::to_ascii_lowercase)
            .collect()
    };
    bare(one) == bare(two)
}

/// The comparable units of escaped text: an escape equals its character unless that character is
/// reserved (RFC 3261 §19.1.4), in which case the two stay apart.
fn units(text: &[u8], fold_case: bool) -> impl Iterator<Item = u16> {
    const ESCAPED: u16 = 0x100;
    let mut rest = text;
    std::iter::from_fn(move || {
        let (&byte, tail) = rest.split_first()?;
        rest = tail;
        let (byte, mark) = match escaped(tail).filter(|_| byte == b'%') {
            Some(inner) => {
                rest = tail.get(2..).unwrap_or_default();
                (
                    inner,
                    if b";/?:@&=+$,".contains(&inner) {
                        ESCAPED
                    } else {
                        0
                    },
                )
            }
            None => (byte, 0),
        };
        Some(
            mark + u16::from(if fold_case {
                byte.to_ascii_lowercase()
            } else {
                byte
            }),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Uri<'_> {
        Uri::parse(text.as_bytes()).unwrap_or_else(|| panic!("{text} does not parse"))
    }

    #[test]
    fn parts() {
        fn check(text: &str, user: Option<&str>, host: Host<'_>, port: Option<u16>, params: &str) {
            let uri = parse(text);
            assert_eq!(
                uri.user.map(|user| str::from_utf8(user).unwrap()),
                user,
                "{text}"
            );
            assert_eq!((uri.host, uri.port), (host, port), "{text}");
            assert_eq!(uri.params, params.as_bytes(), "{text}");
        }
        let name = |text: &'static str| Host::Name(text.as_bytes());
        let v6: Ipv6Addr = "2001:db8::10".parse().unwrap();
        check("sip:b", None, name("b"), None, "");
        check("SIP:a@b:5", Some("a"), name("b"), Some(5), "");
        check("sip:a:pw@b;lr", Some("a"), name("b"), None, ";lr");
        check(
            "sips:1.2.3.4:5061",
            None,
            Host::V4([1, 2, 3, 4].into()),
            Some(5061),
            "",
        );
        check("sip:a@[2001:db8::10]", Some("a"), Host::V6(v6), None, "");
        check(
            "sip:a@[2001:db8::10]:5070;x",
            Some("a"),
            Host::V6(v6),
            Some(5070),
            ";x",
        );
        check(
            "sip:u;par=u%40x@example.com",
            Some("u;par=u%40x"),
            name("example.com"),
            None,
            "",
        );
        check("sip:a_b@c_d", Some("a_b"), name("c_d"), None, "");
        check(
            "tel:+1-201;phone-context=x",
            Some("+1-201"),
            name(""),
            None,
            ";phone-context=x",
        );
        check("urn:service:sos", None, name(""), None, "");
        assert_eq!(
            parse("sip:b?Replaces=x%40y").headers,
            Some(&b"Replaces=x%40y"[..])
        );
        assert_eq!(parse("sip:a@b;c=d?X=y@z").params, b";c=d");
        assert_eq!(
            parse("nobodyKnowsThisScheme:x").scheme,
            Scheme::Other(b"nobodyKnowsThisScheme")
        );
    }

    #[test]
    fn refused() {
        for bad in [
            "",
            "sip",
            "sip:",
            ":x",
            "1:x",
            "sip:a@",
            "sip:@b",
            "sip:a@b@c",
            "sip:a@b:",
            "sip:a@b:x",
            "sip:a@b:65536",
            "sip:a@2001:db8::10",
            "sip:a@[2001:db8::10",
            "sip:a@[zz]",
            "sip:a@[::1]x",
            "sip:a b@c",
            "<sip:a@b>",
            "sip:a@b c",
            "tel:",
            "tel:alice",
            "sip:a@b/c",
            "sip:[1.2.3.4]",
        ] {
            assert_eq!(Uri::parse(bad.as_bytes()), None, "{bad}");
        }
        let many = format!("sip:a@b{}", ";x".repeat(URI_PARTS_MAX + 1));
        assert_eq!(Uri::parse(many.as_bytes()), None);
    }

    #[test]
    fn users_decode() {
        fn check(text: &str, expected: Option<&str>) {
            assert_eq!(parse(text).user_decoded().as_deref(), expected, "{text}");
        }
        check("sip:%61lice@b", Some("alice"));
        check("sip:a%C3%BC@b", Some("a\u{fc}"));
        check("sip:null-%00-null@b", Some("null-\0-null"));
        check("sip:b", None);
        check("sip:a%4@b", None);
        check("sip:a%@b", None);
        check("sip:a%ff@b", None);
        check("sip:a%+1@b", None);
    }

    /// The examples of RFC 3261 §19.1.4, then the corners.
    #[test]
    fn equivalence() {
        fn check(one: &str, two: &str, expected: bool) {
            assert_eq!(
                parse(one).equivalent(&parse(two)),
                expected,
                "{one} / {two}"
            );
            assert_eq!(
                parse(two).equivalent(&parse(one)),
                expected,
                "{two} / {one}"
            );
        }
        check(
            "sip:%61lice@atlanta.com;transport=TCP",
            "sip:alice@AtLanTa.CoM;Transport=tcp",
            true,
        );
        check(
            "sip:carol@chicago.com",
            "sip:carol@chicago.com;newparam=5",
            true,
        );
        check("sip:a@b;x=1;x=2", "sip:a@b;x=1;x=2", true);
        check(
            "sip:carol@chicago.com;security=on",
            "sip:carol@chicago.com;newparam=5",
            true,
        );
        check(
            "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
            "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
            true,
        );
        check(
            "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
            "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
            true,
        );
        check(
            "SIP:ALICE@AtLanTa.CoM;Transport=udp",
            "sip:alice@AtLanTa.CoM;Transport=UDP",
            false,
        );
        check("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060", false);
        check(
            "sip:bob@biloxi.com",
            "sip:bob@biloxi.com;transport=udp",
            false,
        );
        check(
            "sip:bob@biloxi.com",
            "sip:bob@biloxi.com:6000;transport=tcp",
            false,
        );
        check(
            "sip:carol@chicago.com",
            "sip:carol@chicago.com?Subject=next%20meeting",
            false,
        );
        check("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4", false);
        check("sip:carol@c;security=on", "sip:carol@c;security=off", false);
        check("sip:a%40b@c", "sip:a%40b@c", true);
        check("sip:a%3ab@c", "sip:a%3Ab@c", true);
        check("sip:a%3bb@c", "sip:a;b@c", false);
        check("sip:a@[2001:db8::1]", "sip:a@[2001:DB8:0::1]", true);
        check("sip:a@b", "sips:a@b", false);
        check("sip:a@b", "sip:b", false);
        check("sip:b;lr", "sip:b;lr=x", false);
        check("tel:+1-201-555", "tel:+1201555", true);
        check("tel:+1201;phone-context=a", "tel:+1201", false);
        check("urn:service:sos", "URN:service:sos", true);
    }

    #[test]
    fn three_colons_are_read_as_two() {
        let uri = parse("sip:a@[2001:db8:::192.0.2.1]");
        assert_eq!(uri.host.ip(), "2001:db8::192.0.2.1".parse().ok());
    }
}
