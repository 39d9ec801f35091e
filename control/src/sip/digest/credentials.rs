//! The parameters of a Digest header (RFC 7616 §3.3, §3.4), quote-aware and bounded.

use super::{Algorithm, Attempt};

/// Longer values are not looked at.
const HEADER_BYTES_MAX: usize = 4_096;
/// Nor are values with more parameters.
const PARAMETERS_MAX: usize = 32;

/// What a client says in Authorization or Proxy-Authorization. Quoted values are unescaped.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Credentials {
    pub username: Vec<u8>,
    pub realm: Vec<u8>,
    pub nonce: Vec<u8>,
    pub uri: Vec<u8>,
    /// As sent: hexadecimal, if it is worth anything.
    pub response: Vec<u8>,
    /// Absent means MD5.
    pub algorithm: Option<Algorithm>,
    /// Absent in the manner of RFC 2069.
    pub protection: Option<Protection>,
    pub opaque: Option<Vec<u8>>,
}

/// The three parameters that come together or not at all.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Protection {
    pub qop: Qop,
    pub cnonce: Vec<u8>,
    /// `nc` as sent: it is part of what is hashed.
    pub nc: Vec<u8>,
    /// `nc` as a number.
    pub count: u32,
}

/// Quality of protection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Qop {
    Auth,
    AuthInt,
}

impl Qop {
    /// The value of the `qop` parameter.
    #[must_use]
    pub fn token(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::AuthInt => "auth-int",
        }
    }

    fn of(token: &[u8]) -> Option<Self> {
        [Self::Auth, Self::AuthInt]
            .into_iter()
            .find(|qop| token.eq_ignore_ascii_case(qop.token().as_bytes()))
    }
}

impl Credentials {
    /// Parses a header value. None if it is not Digest, malformed, ambiguous, or in an algorithm
    /// or quality we do not know: as good as no credentials, to be answered by a challenge.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let mut parameters = Parameters::parse(value)?;
        let algorithm = match parameters.take("algorithm") {
            Some(token) => Some(Algorithm::of(&token)?),
            None => None,
        };
        let protection = match parameters.take("qop") {
            Some(token) => {
                let nc = parameters.take("nc")?;
                Some(Protection {
                    qop: Qop::of(&token)?,
                    cnonce: parameters.take("cnonce")?,
                    count: count(&nc)?,
                    nc,
                })
            }
            None => None,
        };
        // RFC 7616 §3.4.2: without a cnonce there is no session key.
        if algorithm.is_some_and(Algorithm::is_per_session) && protection.is_none() {
            return None;
        }
        Some(Self {
            username: parameters.take("username")?,
            realm: parameters.take("realm")?,
            nonce: parameters.take("nonce")?,
            uri: parameters.take("uri")?,
            response: parameters.take("response")?,
            algorithm,
            protection,
            opaque: parameters.take("opaque"),
        })
    }

    /// The credentials that answer a challenge, but for the response. Of several qualities the
    /// simplest is taken.
    pub(super) fn answering(challenge: &[u8], attempt: &Attempt<'_>) -> Option<Self> {
        let mut parameters = Parameters::parse(challenge)?;
        let algorithm = match parameters.take("algorithm") {
            Some(token) => Some(Algorithm::of(&token)?),
            None => None,
        };
        let protection = match parameters.take("qop") {
            Some(offered) => {
                let known = offered.split(|octet| *octet == b',');
                let qops: Vec<_> = known.filter_map(|t| Qop::of(t.trim_ascii())).collect();
                let qop = qops.iter().find(|qop| **qop == Qop::Auth);
                Some(Protection {
                    qop: *qop.or(qops.first())?,
                    cnonce: attempt.cnonce.into(),
                    nc: format!("{:08x}", attempt.count).into(),
                    count: attempt.count,
                })
            }
            None => None,
        };
        Some(Self {
            username: attempt.user.into(),
            realm: parameters.take("realm")?,
            nonce: parameters.take("nonce")?,
            uri: attempt.uri.into(),
            response: Vec::new(),
            algorithm,
            protection,
            opaque: parameters.take("opaque"),
        })
    }
}

/// `nc`: hexadecimal, eight digits by the grammar; fewer do no harm.
fn count(nc: &[u8]) -> Option<u32> {
    let digits = (1..=8).contains(&nc.len()) && nc.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(nc).ok().filter(|_| digits)?;
    u32::from_str_radix(text, 16).ok()
}

/// Names in lower case, each once, with their values.
struct Parameters {
    list: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Parameters {
    fn parse(value: &[u8]) -> Option<Self> {
        if value.len() > HEADER_BYTES_MAX {
            return None;
        }
        let value = value.trim_ascii();
        let (scheme, mut rest) = value.split_at_checked("Digest".len())?;
        if !scheme.eq_ignore_ascii_case(b"Digest") || !rest.first()?.is_ascii_whitespace() {
            return None;
        }
        let mut list: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        loop {
            rest = rest.trim_ascii_start();
            match rest.split_first() {
                None => return Some(Self { list }),
                // An empty element of a list (RFC 7230 §7).
                Some((b',', after)) => {
                    rest = after;
                    continue;
                }
                Some(_) => {}
            }
            let (name, value, after) = parameter(rest)?;
            let known = list.iter().any(|(other, _)| *other == name);
            if known || list.len() >= PARAMETERS_MAX {
                return None;
            }
            list.push((name, value));
            rest = after.trim_ascii_start();
            if rest.first().is_some_and(|octet| *octet != b',') {
                return None;
            }
        }
    }

    fn take(&mut self, name: &str) -> Option<Vec<u8>> {
        let at = self.list.iter().position(|(n, _)| n == name.as_bytes())?;
        Some(self.list.swap_remove(at).1)
    }
}

/// `name = value` and what follows it.
fn parameter(text: &[u8]) -> Option<(Vec<u8>, Vec<u8>, &[u8])> {
    let end = text.iter().position(|octet| !is_token(*octet))?;
    let (name, rest) = text.split_at_checked(end)?;
    let rest = rest.trim_ascii_start().strip_prefix(b"=")?;
    let rest = rest.trim_ascii_start();
    let (value, rest) = match rest.strip_prefix(b"\"") {
        Some(rest) => unquoted(rest)?,
        None => {
            let bare = |octet: &u8| *octet == b',' || octet.is_ascii_whitespace() || *octet == b'"';
            let end = rest.iter().position(bare).unwrap_or(rest.len());
            let (value, rest) = rest.split_at_checked(end)?;
            (value.to_vec(), rest)
        }
    };
    let named = !name.is_empty();
    named.then(|| (name.to_ascii_lowercase(), value, rest))
}

/// The value of a quoted-string after its opening quote, and what follows the closing one.
fn unquoted(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut value = Vec::new();
    let mut rest = text;
    loop {
        let (octet, after) = rest.split_first()?;
        rest = after;
        match octet {
            b'"' => return Some((value, rest)),
            b'\\' => {
                let (escaped, after) = rest.split_first()?;
                value.push(*escaped);
                rest = after;
            }
            octet => value.push(*octet),
        }
    }
}

/// RFC 3261 §25.1: token.
fn is_token(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&octet)
}
