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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINIMAL: &str = r#"username="u", realm="r", nonce="n", uri="sip:x", response="00""#;

    fn text(value: &[u8]) -> String {
        String::from_utf8_lossy(value).into_owned()
    }

    /// The fields in order, `-` for what is absent, or `none`.
    fn check(value: &str, expected: &str) {
        let seen = Credentials::parse(value.as_bytes()).map_or("none".to_owned(), |c| {
            let protection = c.protection.map_or("-".to_owned(), |p| {
                let count = p.count;
                format!(
                    "{}/{}/{}={count}",
                    p.qop.token(),
                    text(&p.cnonce),
                    text(&p.nc)
                )
            });
            let fields = [&c.username, &c.realm, &c.nonce, &c.uri, &c.response].map(|f| text(f));
            let algorithm = c.algorithm.map_or("-", Algorithm::token);
            let opaque = c.opaque.map_or("-".to_owned(), |opaque| text(&opaque));
            format!("{} {algorithm} {protection} {opaque}", fields.join(" "))
        });
        assert_eq!(seen, expected, "{value}");
    }

    #[test]
    fn parameters_in_every_spelling() {
        let plain = "u r n sip:x 00 - - -";
        let with = |more: &str, expected: &str| check(&format!("Digest {MINIMAL}{more}"), expected);
        with("", plain);
        with(",", plain);
        with(" , ,\r\n ", plain);
        with(", unknown=1, other=\"a, b=\\\"c\"", plain);
        with(", algorithm=MD5", "u r n sip:x 00 MD5 - -");
        with(", Algorithm = \"sha-256\"", "u r n sip:x 00 SHA-256 - -");
        with(", opaque=\"\"", "u r n sip:x 00 - - ");
        let protected = "u r n sip:x 00 - auth/c/0000000A=10 -";
        with(", qop=auth, nc=0000000A, cnonce=\"c\"", protected);
        with(", cnonce=c,NC=\"0000000A\",qop=\"auth\"", protected);
        with(", nc=00000001, cnonce=\"c\"", plain);
        let session = "u r n sip:x 00 MD5-sess auth-int/c/ffffffff=4294967295 -";
        let sess = ", algorithm=MD5-sess, qop=auth-int, nc=ffffffff, cnonce=\"c\"";
        with(sess, session);
        check(&format!("  dIGEST\t{MINIMAL}  "), plain);
        check(
            "Digest username=\"a\\\"b,\\\\c\",realm=r,nonce=n,uri=sip:x;a=b,response=0",
            "a\"b,\\c r n sip:x;a=b 0 - - -",
        );
    }

    #[test]
    fn what_cannot_be_verified_is_no_credentials() {
        let with = |more: &str| check(&format!("Digest {MINIMAL}{more}"), "none");
        with(", algorithm=SHA-512-256");
        with(", algorithm=");
        with(", algorithm=MD5-sess");
        with(", qop=auth-conf, nc=00000001, cnonce=\"c\"");
        with(", qop=auth, cnonce=\"c\"");
        with(", qop=auth, nc=00000001");
        with(", qop=auth, nc=0000000g, cnonce=\"c\"");
        with(", qop=auth, nc=+0000001, cnonce=\"c\"");
        with(", qop=auth, nc=100000000, cnonce=\"c\"");
        with(", qop=auth, nc=000000001, cnonce=\"c\"");
        with(", qop=auth, nc=, cnonce=\"c\"");
        with(", username=\"v\"");
        with(", USERNAME=\"u\"");
        with(", opaque=\"open");
        with(", opaque=\"open\\");
        with(", opaque=\"a\"b");
        with(", opaque=a b");
        with(", opaque");
        with(", =a");
        with(" opaque=a");
        for missing in ["username", "realm", "nonce", "uri", "response"] {
            check(&format!("Digest {}", MINIMAL.replace(missing, "x")), "none");
        }
        check("", "none");
        check("Digest", "none");
        check("Digest ", "none");
        check(&format!("Basic {MINIMAL}"), "none");
        check(&format!("Digestive {MINIMAL}"), "none");
        check(MINIMAL, "none");
    }

    #[test]
    fn size_and_number_are_limited() {
        let plain = "u r n sip:x 00 - - -";
        let more = |count: usize| (0..count).map(|n| format!(", p{n}=1")).collect::<String>();
        check(
            &format!("Digest {MINIMAL}{}", more(PARAMETERS_MAX - 5)),
            plain,
        );
        check(
            &format!("Digest {MINIMAL}{}", more(PARAMETERS_MAX - 4)),
            "none",
        );
        let room = HEADER_BYTES_MAX - format!("Digest {MINIMAL}").len();
        check(&format!("Digest {MINIMAL}{}", " ".repeat(room)), plain);
        check(&format!("Digest {MINIMAL}{}", " ".repeat(room + 1)), "none");
    }

    proptest! {
        #[test]
        fn no_octets_cause_a_panic(value in prop::collection::vec(any::<u8>(), 0..300)) {
            let digest = [b"Digest ", value.as_slice()].concat();
            for text in [&value, &digest] {
                let bounded = |c: Credentials| c.username.len() + c.nonce.len() <= text.len();
                prop_assert!(Credentials::parse(text).is_none_or(bounded));
            }
        }

        #[test]
        fn nor_does_what_is_nearly_right(value in "Digest ([a-c,= \"\\\\]|nc=|qop=auth,){0,40}") {
            // None of these names a user.
            prop_assert_eq!(Credentials::parse(value.as_bytes()), None);
        }

        /// What `answer` writes, `parse` reads.
        #[test]
        fn what_is_written_is_read(user in "\\PC{0,20}", realm in "[ -~]{0,20}", count: u32) {
            let realm = realm.replace('\\', "\\\\").replace('"', "\\\"");
            let challenge = format!("Digest realm=\"{realm}\", nonce=\"n\", qop=\"auth\"");
            let attempt = Attempt {
                user: &user,
                secret: super::super::Secret::Password("p"),
                method: b"REGISTER",
                uri: "sip:x",
                body: b"",
                count,
                cnonce: "c",
            };
            let answer = super::super::answer(challenge.as_bytes(), &attempt).unwrap();
            let credentials = Credentials::parse(answer.as_bytes()).unwrap();
            prop_assert_eq!(text(&credentials.username), user);
            prop_assert_eq!(credentials.protection.unwrap().count, count);
        }
    }
}
