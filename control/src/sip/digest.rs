//! Digest authentication (RFC 7616, RFC 8760; RFC 3261 §22): challenge, verify, answer.
//!
//! A challenge costs no memory: its nonce carries the time and proves by a keyed hash that it is
//! ours. Only requests with the right password leave a trace, in a bounded table of used counts.
//! The nonce is not bound to an address: a client may have another one at its next request.

mod credentials;
mod replay;

use std::fmt::Write as _;
use std::time::Duration;

use md5::{Digest as _, Md5};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

pub use self::credentials::{Credentials, Protection, Qop};
use self::replay::Replays;
use crate::effect::Spent;

/// A nonce older than this is answered with `stale`.
pub const NONCE_AGE_MAX: Duration = Duration::from_secs(300);

/// Octets of the keyed hash in a nonce.
const PROOF_BYTES: usize = 16;
/// Octets of the time in a nonce: nanoseconds since the caller's epoch.
const TIME_BYTES: usize = 8;
/// SHA-256's block (RFC 2104 §2: B).
const HMAC_BLOCK_BYTES: usize = 64;

/// The hash, and whether it makes a key per session (RFC 7616 §3.4.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Algorithm {
    Md5,
    Md5Sess,
    Sha256,
    Sha256Sess,
}

/// What a user's digest is computed from.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Secret<'a> {
    Password(&'a str),
    /// H(user ":" realm ":" password) in hexadecimal, by the hash of the challenge.
    Ha1(&'a [u8]),
}

impl std::fmt::Debug for Secret<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What credentials are worth. Everything but `Ok` is answered by a challenge.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    Ok,
    /// The right password and a nonce that is too old or not ours: challenge with `stale`.
    Stale,
    /// Wrong password, realm or algorithm, or no such user: all look the same.
    Wrong,
    /// The right password in a request that was seen before: challenge with `stale`.
    Replay,
}

/// Makes challenges for one realm and judges what comes back.
pub struct Challenger {
    realm: String,
    secret: [u8; 32],
    algorithm: Algorithm,
    replays: Replays,
}

impl std::fmt::Debug for Challenger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Challenger")
            .field("realm", &self.realm)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

impl Challenger {
    /// `secret` must be random and this process's own; whoever has the same takes the same nonces.
    /// Control characters are left out of `realm`.
    #[must_use]
    pub fn new(realm: &str, secret: [u8; 32], algorithm: Algorithm) -> Self {
        Self {
            realm: realm.chars().filter(|c| !c.is_control()).collect(),
            secret,
            algorithm,
            replays: Replays::default(),
        }
    }

    /// Challenges and judges by another hash from now on, that of whoever is asked next;
    /// credentials by any other are challenged again.
    pub fn set_algorithm(&mut self, algorithm: Algorithm) {
        self.algorithm = algorithm;
    }

    /// The value of a WWW-Authenticate or Proxy-Authenticate header. `at` counts from an epoch of
    /// the caller's, which must not go back.
    ///
    /// One challenge with one algorithm: many clients give up when they see two (RFC 8760 §2.6
    /// allows several).
    #[must_use]
    pub fn challenge(&self, at: Duration, stale: bool) -> String {
        let realm = quoted(self.realm.as_bytes());
        let nonce = self.nonce(at);
        let algorithm = self.algorithm.token();
        let stale = if stale { ", stale=true" } else { "" };
        format!(
            "Digest realm={realm}, nonce=\"{nonce}\", algorithm={algorithm}, qop=\"auth\"{stale}"
        )
    }

    /// Judges the credentials of a request. An unknown user (`secret` is none) costs the same work
    /// and gets the same answer as a wrong password. That `credentials.uri` names what the request
    /// asks for is the caller's to compare: the two forms of one URI need not be equal octets.
    pub fn verify(
        &mut self,
        method: &[u8],
        credentials: &Credentials,
        secret: Option<Secret<'_>>,
        body: &[u8],
        at: Duration,
    ) -> Verdict {
        let known = secret.is_some();
        let secret = secret.unwrap_or(Secret::Password(""));
        let expected = response(self.algorithm, credentials, secret, method, body);
        let given = credentials.response.to_ascii_lowercase();
        let matches = bool::from(expected.as_bytes().ct_eq(&given));
        let ours = credentials.realm == self.realm.as_bytes()
            && credentials.algorithm.unwrap_or(Algorithm::Md5) == self.algorithm;
        if !(known & matches & ours) {
            return Verdict::Wrong;
        }
        let Some(spent) = self.spent(credentials, at) else {
            return Verdict::Stale;
        };
        self.replays.forget(at.saturating_sub(NONCE_AGE_MAX));
        self.replays.judge(spent.issued, spent.by, spent.count)
    }

    /// Which use of which nonce credentials are; none if it is not ours or too old.
    #[must_use]
    pub fn spent(&self, credentials: &Credentials, at: Duration) -> Option<Spent> {
        let issued = self.issued(&credentials.nonce, at)?;
        let given = credentials.response.to_ascii_lowercase();
        // Without qop there is no count: the same response is taken once (RFC 2069).
        let (distinction, count) = match &credentials.protection {
            Some(protection) => (&protection.cnonce, protection.count),
            None => (&given, 0),
        };
        let user = Sha256::digest(&credentials.username);
        let by = hmac(&self.secret, &[b"used", &user, distinction]);
        Some(Spent { issued, by, count })
    }

    /// Another with our secret has taken them.
    pub fn spend(&mut self, spent: &Spent) {
        self.replays.judge(spent.issued, spent.by, spent.count);
    }

    /// How old a nonce of ours is; none if it is not ours or too old.
    #[must_use]
    pub fn age(&self, nonce: &[u8], at: Duration) -> Option<Duration> {
        at.checked_sub(self.issued(nonce, at)?)
    }

    /// Time, then proof, in hexadecimal.
    fn nonce(&self, at: Duration) -> String {
        let time = u64::try_from(at.as_nanos())
            .unwrap_or(u64::MAX)
            .to_be_bytes();
        let proof = hmac(&self.secret, &[b"nonce", &time, self.realm.as_bytes()]);
        let mut text = hex(&time);
        text.push_str(&hex(proof.get(..PROOF_BYTES).unwrap_or_default()));
        text
    }

    /// When a nonce was made, if we made it and it is not too old.
    fn issued(&self, nonce: &[u8], at: Duration) -> Option<Duration> {
        let text = std::str::from_utf8(nonce).ok()?;
        let time = u64::from_str_radix(text.get(..2 * TIME_BYTES)?, 16).ok()?;
        let issued = Duration::from_nanos(time);
        let ours = bool::from(self.nonce(issued).as_bytes().ct_eq(nonce));
        let age = at.checked_sub(issued)?;
        (ours && age <= NONCE_AGE_MAX).then_some(issued)
    }
}

/// What a client needs to answer a challenge.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    pub user: &'a str,
    pub secret: Secret<'a>,
    pub method: &'a [u8],
    pub uri: &'a str,
    pub body: &'a [u8],
    /// Times this nonce was answered, this one included.
    pub count: u32,
    /// Without a `"` or a `\`.
    pub cnonce: &'a str,
}

/// The value of the Authorization header that answers a challenge (RFC 7616 §3.4). None if it is
/// not a Digest challenge we know.
#[must_use]
pub fn answer(challenge: &[u8], attempt: &Attempt<'_>) -> Option<String> {
    let credentials = Credentials::answering(challenge, attempt)?;
    let algorithm = credentials.algorithm.unwrap_or(Algorithm::Md5);
    let body = attempt.body;
    let response = response(
        algorithm,
        &credentials,
        attempt.secret,
        attempt.method,
        body,
    );
    let mut text = format!(
        "Digest username={}, realm={}, nonce={}, uri={}, response=\"{response}\"",
        quoted(&credentials.username),
        quoted(&credentials.realm),
        quoted(&credentials.nonce),
        quoted(&credentials.uri),
    );
    if let Some(algorithm) = credentials.algorithm {
        write!(text, ", algorithm={}", algorithm.token()).ok()?;
    }
    if let Some(protection) = &credentials.protection {
        let cnonce = quoted(&protection.cnonce);
        let nc = String::from_utf8_lossy(&protection.nc);
        let qop = protection.qop.token();
        write!(text, ", qop={qop}, nc={nc}, cnonce={cnonce}").ok()?;
    }
    if let Some(opaque) = &credentials.opaque {
        write!(text, ", opaque={}", quoted(opaque)).ok()?;
    }
    Some(text)
}

/// RFC 7616 §3.4.1: what `response` must be, in lower-case hexadecimal.
fn response(
    algorithm: Algorithm,
    credentials: &Credentials,
    secret: Secret<'_>,
    method: &[u8],
    body: &[u8],
) -> String {
    let nonce = credentials.nonce.as_slice();
    let protection = credentials.protection.as_ref();
    let cnonce = protection.map_or(&b""[..], |p| p.cnonce.as_slice());
    let password = match secret {
        Secret::Password(password) => password.as_bytes(),
        Secret::Ha1(_) => b"",
    };
    // Also where the hash is known: a guess costs the same whomever it is about.
    let mut ha1 = algorithm.hash(&[&credentials.username, &credentials.realm, password]);
    if let Secret::Ha1(known) = secret {
        ha1 = String::from_utf8_lossy(known).to_ascii_lowercase();
    }
    if algorithm.is_per_session() {
        ha1 = algorithm.hash(&[ha1.as_bytes(), nonce, cnonce]);
    }
    let qop = protection.map(|protection| protection.qop);
    let ha2 = match qop {
        None | Some(Qop::Auth) => algorithm.hash(&[method, &credentials.uri]),
        Some(Qop::AuthInt) => {
            let body = algorithm.hash(&[body]);
            algorithm.hash(&[method, &credentials.uri, body.as_bytes()])
        }
    };
    match protection {
        None => algorithm.hash(&[ha1.as_bytes(), nonce, ha2.as_bytes()]),
        Some(protection) => algorithm.hash(&[
            ha1.as_bytes(),
            nonce,
            &protection.nc,
            cnonce,
            protection.qop.token().as_bytes(),
            ha2.as_bytes(),
        ]),
    }
}

impl Algorithm {
    /// The value of the `algorithm` parameter.
    #[must_use]
    pub fn token(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Md5Sess => "MD5-sess",
            Self::Sha256 => "SHA-256",
            Self::Sha256Sess => "SHA-256-sess",
        }
    }

    fn of(token: &[u8]) -> Option<Self> {
        [Self::Md5, Self::Md5Sess, Self::Sha256, Self::Sha256Sess]
            .into_iter()
            .find(|algorithm| token.eq_ignore_ascii_case(algorithm.token().as_bytes()))
    }

    fn is_per_session(self) -> bool {
        match self {
            Self::Md5 | Self::Sha256 => false,
            Self::Md5Sess | Self::Sha256Sess => true,
        }
    }

    /// The hash of the parts with a colon between each two, in hexadecimal.
    fn hash(self, parts: &[&[u8]]) -> String {
        #[cfg(test)]
        tests::HASHED.with(|count| count.set(count.get() + 1));
        let text = parts.join(&b':');
        match self {
            Self::Md5 | Self::Md5Sess => hex(&Md5::digest(text)),
            Self::Sha256 | Self::Sha256Sess => hex(&Sha256::digest(text)),
        }
    }
}

/// RFC 2104 with SHA-256, over the parts one after the other. The key is shorter than a block.
fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let pad = |octet: u8| {
        let mut block = [octet; HMAC_BLOCK_BYTES];
        for (to, from) in block.iter_mut().zip(key) {
            *to ^= from;
        }
        block
    };
    let mut inner = Sha256::new_with_prefix(pad(0x36));
    for part in parts {
        inner.update(part);
    }
    let mut outer = Sha256::new_with_prefix(pad(0x5c));
    outer.update(inner.finalize());
    outer.finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 0xf])
        .filter_map(|nibble| char::from_digit(u32::from(nibble), 16))
        .collect()
}

/// A quoted-string (RFC 3261 §25.1).
fn quoted(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in String::from_utf8_lossy(text).chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    std::thread_local! {
        /// Hashes this thread has computed.
        pub(super) static HASHED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    }

    const REALM: &str = "example.com";
    const SECRET: [u8; 32] = *b"0123456789abcdef0123456789abcdef";
    const AT: Duration = Duration::from_secs(1_000);

    const ALL: [Algorithm; 4] = [
        Algorithm::Md5,
        Algorithm::Md5Sess,
        Algorithm::Sha256,
        Algorithm::Sha256Sess,
    ];

    fn challenger(algorithm: Algorithm) -> Challenger {
        Challenger::new(REALM, SECRET, algorithm)
    }

    fn attempt<'a>(password: &'a str, count: u32) -> Attempt<'a> {
        Attempt {
            user: "1001",
            secret: Secret::Password(password),
            method: b"REGISTER",
            uri: "sip:example.com",
            body: b"",
            count,
            cnonce: "c1",
        }
    }

    /// What `answer` makes of a challenge, as the server reads it.
    fn answered(challenge: &str, attempt: &Attempt<'_>) -> Credentials {
        let text = answer(challenge.as_bytes(), attempt).unwrap();
        Credentials::parse(text.as_bytes()).unwrap()
    }

    /// Judges a REGISTER against the password `right`.
    fn judge(challenger: &mut Challenger, credentials: &Credentials, at: Duration) -> Verdict {
        let secret = Some(Secret::Password("right"));
        challenger.verify(b"REGISTER", credentials, secret, b"", at)
    }

    #[test]
    fn responses_of_the_rfcs() {
        let check = |challenge: &str, password, cnonce, expected: &str| {
            let attempt = Attempt {
                user: "Mufasa",
                secret: Secret::Password(password),
                method: b"GET",
                uri: "/dir/index.html",
                body: b"",
                count: 1,
                cnonce,
            };
            let credentials = answered(challenge, &attempt);
            assert_eq!(String::from_utf8_lossy(&credentials.response), expected);
        };
        // RFC 7616 §3.9.1
        let both = |algorithm: &str| {
            format!(
                "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", \
                 algorithm={algorithm}, \
                 nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", \
                 opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
            )
        };
        let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        let md5 = "8ca523f5e9506fed4657c9700eebdbec";
        check(&both("MD5"), "Circle of Life", cnonce, md5);
        let sha = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1";
        check(&both("SHA-256"), "Circle of Life", cnonce, sha);
        // RFC 2617 §3.5, and the same without qop (RFC 2069).
        let old = "Digest realm=\"testrealm@host.com\", \
                   nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\"";
        let with_qop = format!("{old}, qop=\"auth,auth-int\"");
        let md5 = "6629fae49393a05397450978507c4ef1";
        check(&with_qop, "Circle Of Life", "0a4f113b", md5);
        check(
            old,
            "Circle Of Life",
            "",
            "670fd8c2df070c60b045671b8b24ff02",
        );
    }

    /// What a guess costs tells nothing about its user: none, one with a password, with a hash.
    #[test]
    fn every_guess_costs_the_same() {
        let ha1 = [b'0'; 32];
        for algorithm in ALL {
            let mut challenger = challenger(algorithm);
            let challenge = challenger.challenge(AT, false);
            let credentials = answered(&challenge, &attempt("wrong", 1));
            let secrets = [
                None,
                Some(Secret::Password("right")),
                Some(Secret::Ha1(&ha1)),
            ];
            let costs = secrets.map(|secret| {
                let before = HASHED.get();
                let verdict = challenger.verify(b"REGISTER", &credentials, secret, b"", AT);
                assert_eq!(verdict, Verdict::Wrong);
                HASHED.get() - before
            });
            let session = usize::from(algorithm.is_per_session());
            assert_eq!(costs, [3 + session; 3], "{algorithm:?}");
        }
    }

    #[test]
    fn keyed_hash_of_rfc_4231() {
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        assert_eq!(
            hex(&hmac(&key, &[b"what do ya want ", b"for nothing?"])),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn a_challenge_is_one_and_readable() {
        let text = Challenger::new("a\"b\\c\r\nd", SECRET, Algorithm::Md5).challenge(AT, true);
        let (head, rest) = text.split_once("nonce=\"").unwrap();
        let (nonce, tail) = rest.split_once('"').unwrap();
        assert_eq!(head, "Digest realm=\"a\\\"b\\\\cd\", ");
        assert_eq!(nonce.len(), 2 * (TIME_BYTES + PROOF_BYTES));
        assert_eq!(tail, ", algorithm=MD5, qop=\"auth\", stale=true");
        let fresh = challenger(Algorithm::Sha256).challenge(AT, false);
        assert!(
            fresh.ends_with(", algorithm=SHA-256, qop=\"auth\""),
            "{fresh}"
        );
    }

    #[test]
    fn the_right_password_is_accepted_with_every_algorithm() {
        for algorithm in ALL {
            let mut challenger = challenger(algorithm);
            let challenge = challenger.challenge(AT, false);
            let credentials = answered(&challenge, &attempt("right", 1));
            assert_eq!(judge(&mut challenger, &credentials, AT), Verdict::Ok);
            let ha1 = algorithm.hash(&[b"1001", REALM.as_bytes(), b"right"]);
            for (count, ha1) in [(2, ha1.clone()), (3, ha1.to_ascii_uppercase())] {
                let credentials = answered(&challenge, &attempt("right", count));
                let secret = Some(Secret::Ha1(ha1.as_bytes()));
                let verdict = challenger.verify(b"REGISTER", &credentials, secret, b"", AT);
                assert_eq!(verdict, Verdict::Ok, "{algorithm:?}");
            }
        }
    }

    #[test]
    fn whatever_was_changed_is_wrong() {
        let check = |what: &str, change: fn(&mut Credentials)| {
            let mut challenger = challenger(Algorithm::Md5);
            let challenge = challenger.challenge(AT, false);
            let mut credentials = answered(&challenge, &attempt("right", 1));
            change(&mut credentials);
            assert_eq!(
                judge(&mut challenger, &credentials, AT),
                Verdict::Wrong,
                "{what}"
            );
        };
        check("username", |c| c.username = b"1002".to_vec());
        check("realm", |c| c.realm = b"example.org".to_vec());
        check("nonce", |c| c.nonce[0] ^= 1);
        check("uri", |c| c.uri.push(b'x'));
        check("response", |c| c.response[31] ^= 1);
        check("short response", |c| c.response.truncate(31));
        check("no response", |c| c.response.clear());
        check("algorithm", |c| c.algorithm = Some(Algorithm::Sha256));
        check("nc", |c| {
            c.protection.as_mut().unwrap().nc = b"00000002".to_vec()
        });
        check("cnonce", |c| {
            c.protection.as_mut().unwrap().cnonce.push(b'x')
        });
        check("qop", |c| c.protection.as_mut().unwrap().qop = Qop::AuthInt);
        check("no qop", |c| c.protection = None);
    }

    #[test]
    fn realm_and_algorithm_are_ours_even_if_the_password_is_right() {
        let check = |other: Challenger| {
            let mut challenger = challenger(Algorithm::Md5);
            let credentials = answered(&other.challenge(AT, false), &attempt("right", 1));
            assert_eq!(judge(&mut challenger, &credentials, AT), Verdict::Wrong);
        };
        check(Challenger::new("example.org", SECRET, Algorithm::Md5));
        check(challenger(Algorithm::Sha256));
        check(challenger(Algorithm::Md5Sess));
    }

    #[test]
    fn an_unknown_user_looks_like_a_wrong_password() {
        let mut challenger = challenger(Algorithm::Md5);
        let challenge = challenger.challenge(AT, false);
        for password in ["right", "wrong", ""] {
            let credentials = answered(&challenge, &attempt(password, 1));
            let verdict = challenger.verify(b"REGISTER", &credentials, None, b"", AT);
            assert_eq!(verdict, Verdict::Wrong, "{password}");
        }
        let credentials = answered(&challenge, &attempt("right", 1));
        let other_method = challenger.verify(
            b"INVITE",
            &credentials,
            Some(Secret::Password("right")),
            b"",
            AT,
        );
        assert_eq!(other_method, Verdict::Wrong);
        let ha1 = Algorithm::Sha256.hash(&[b"1001", REALM.as_bytes(), b"right"]);
        let secret = Some(Secret::Ha1(ha1.as_bytes()));
        let other_hash = challenger.verify(b"REGISTER", &credentials, secret, b"", AT);
        assert_eq!(other_hash, Verdict::Wrong);
    }

    #[test]
    fn a_nonce_has_its_time() {
        let check = |age: Duration, expected: Verdict| {
            let mut challenger = challenger(Algorithm::Md5);
            let challenge = challenger.challenge(AT, false);
            let credentials = answered(&challenge, &attempt("right", 1));
            assert_eq!(judge(&mut challenger, &credentials, AT + age), expected);
            let guessed = answered(&challenge, &attempt("wrong", 1));
            assert_eq!(judge(&mut challenger, &guessed, AT + age), Verdict::Wrong);
        };
        let tick = Duration::from_nanos(1);
        check(Duration::ZERO, Verdict::Ok);
        check(NONCE_AGE_MAX, Verdict::Ok);
        check(NONCE_AGE_MAX + tick, Verdict::Stale);
        let mut early = challenger(Algorithm::Md5);
        let credentials = answered(&early.challenge(AT, false), &attempt("right", 1));
        assert_eq!(judge(&mut early, &credentials, AT - tick), Verdict::Stale);
    }

    #[test]
    fn a_nonce_of_someone_else_is_stale() {
        let check = |nonce: &str| {
            let mut challenger = challenger(Algorithm::Md5);
            let challenge = format!("Digest realm=\"{REALM}\", nonce=\"{nonce}\", qop=\"auth\"");
            let credentials = answered(&challenge, &attempt("right", 1));
            assert_eq!(
                judge(&mut challenger, &credentials, AT),
                Verdict::Stale,
                "{nonce}"
            );
        };
        let ours = challenger(Algorithm::Md5).nonce(AT);
        let restarted = Challenger::new(REALM, [7; 32], Algorithm::Md5).nonce(AT);
        check(&restarted);
        check(&ours[1..]);
        check(&format!("{ours}0"));
        check(&ours.to_ascii_uppercase());
        check("");
        check("é");
        check("+00000000000000é");
    }

    #[test]
    fn a_request_is_taken_once() {
        let mut challenger = challenger(Algorithm::Md5);
        let challenge = challenger.challenge(AT, false);
        let mut check = |count, cnonce: &str, expected: Verdict| {
            let attempt = Attempt {
                cnonce,
                ..attempt("right", count)
            };
            let credentials = answered(&challenge, &attempt);
            let verdict = judge(&mut challenger, &credentials, AT);
            assert_eq!(verdict, expected, "{count} {cnonce}");
        };
        check(1, "c1", Verdict::Ok);
        check(1, "c1", Verdict::Replay);
        check(3, "c1", Verdict::Ok);
        check(2, "c1", Verdict::Ok);
        check(2, "c1", Verdict::Replay);
        // Another client, challenged in the same instant.
        check(1, "c2", Verdict::Ok);
    }

    #[test]
    fn a_nonce_is_remembered_no_longer_than_it_lives() {
        let mut challenger = challenger(Algorithm::Md5);
        for (at, remembered) in [(0, 1), (300, 2), (301, 2), (1_000, 1)] {
            let at = Duration::from_secs(at);
            let credentials = answered(&challenger.challenge(at, false), &attempt("right", 1));
            assert_eq!(judge(&mut challenger, &credentials, at), Verdict::Ok);
            assert_eq!(challenger.replays.len(), remembered, "{at:?}");
        }
    }

    #[test]
    fn a_client_without_qop_is_served_once_per_request() {
        let mut challenger = challenger(Algorithm::Md5);
        let challenge = challenger.challenge(AT, false);
        let (old, _) = challenge.split_once(", algorithm").unwrap();
        let credentials = answered(old, &attempt("right", 1));
        assert_eq!(credentials.protection, None);
        assert_eq!(judge(&mut challenger, &credentials, AT), Verdict::Ok);
        assert_eq!(judge(&mut challenger, &credentials, AT), Verdict::Replay);
        let mut loud = credentials.clone();
        loud.response.make_ascii_uppercase();
        assert_eq!(judge(&mut challenger, &loud, AT), Verdict::Replay);
    }

    #[test]
    fn auth_int_covers_the_body() {
        let mut challenger = challenger(Algorithm::Sha256);
        let challenge = challenger
            .challenge(AT, false)
            .replace("\"auth\"", "\"auth-int\"");
        let attempt = Attempt {
            body: b"body",
            ..attempt("right", 1)
        };
        let credentials = answered(&challenge, &attempt);
        let mut check = |body: &[u8], expected: Verdict| {
            let secret = Some(Secret::Password("right"));
            let verdict = challenger.verify(b"REGISTER", &credentials, secret, body, AT);
            assert_eq!(verdict, expected);
        };
        check(b"", Verdict::Wrong);
        check(b"body", Verdict::Ok);
    }

    #[test]
    fn secrets_are_not_printed() {
        let challenger = challenger(Algorithm::Md5);
        let text = format!("{challenger:?} {:?}", attempt("hush", 1));
        assert!(!text.contains("hush") && !text.contains("secret: [") && text.contains(REALM));
    }
}
