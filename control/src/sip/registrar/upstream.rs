//! Registrations that another registrar keeps, and we in front of it: what it is sent, and what it
//! granted.

use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::sip::b2bua::set_vias;
use crate::sip::edit::Edit;
use crate::sip::index::{Message, Name};
use crate::sip::uri::Uri;
use crate::sip::value::{Contact, NameAddr, delta_seconds, is_token};

/// How long the registrar's word on a client's credentials is taken for its next refreshes: as long
/// as a nonce of ours lives.
pub const VOUCHED_MAX: Duration = Duration::from_secs(300);

/// The same binding at the registrar that its REGISTER was forwarded to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Upstream {
    /// The peer's name.
    pub peer: String,
    /// Names this binding in the Contact or the Path that the registrar was given.
    pub token: String,
    /// When it forgets the binding.
    pub expires_at: Instant,
    /// When it last took the client's word, and which: a hash of user, realm and nonce.
    pub vouched_at: Instant,
    pub vouched: u64,
}

impl Upstream {
    /// Whether a refresh that names these credentials may be answered here, for this long.
    #[must_use]
    pub fn covers(&self, vouched: u64, granted: Duration, now: Instant) -> bool {
        self.vouched == vouched
            && now.saturating_duration_since(self.vouched_at) < VOUCHED_MAX
            && self.expires_at > now + granted
    }
}

/// How the registrar is to reach a client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum By {
    /// At a Contact of ours.
    Contact,
    /// At its own Contact, through us (RFC 3327).
    Path,
}

/// One contact as it goes on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Onward {
    /// Where it is reached through us: `sip:1001@192.0.2.1:5060;tpr=…`.
    pub uri: String,
    /// How long it is wished for; zero removes it.
    pub expires: Duration,
}

/// The REGISTER as it goes on: another Via, contacts of ours or a Path to us, another lifetime.
/// Credentials stay: they are for the registrar to judge. `onward` has one for each contact.
#[must_use]
pub fn request(message: &Message, via: &str, forwards: u8, by: By, onward: &[Onward]) -> Bytes {
    let mut edit = Edit::new(message);
    set_vias(&mut edit, message, &[via.as_bytes()]);
    edit.remove_all(Name::Route);
    edit.set(Name::MaxForwards, forwards.to_string().as_bytes());
    match by {
        By::Contact => set_contacts(&mut edit, message, onward),
        By::Path => set_expiries(&mut edit, message, onward),
    }
    let first = onward.first().filter(|_| by == By::Path);
    if let Some(first) = first {
        // RFC 3327 §5.2: the nearest to the registrar comes first.
        edit.prepend("Path", format!("<{};lr>", first.uri));
        if !message.has_option(Name::Supported, b"path") {
            edit.append("Supported", "path");
        }
    }
    edit.finish()
}

/// Contacts of ours in place of the client's; of its parameters the preference alone is ours too.
fn set_contacts(edit: &mut Edit<'_>, message: &Message, onward: &[Onward]) {
    let mut contacts = Vec::new();
    for (contact, _, onward) in contacts_of(message, onward) {
        let seconds = onward.expires.as_secs();
        let q = contact.param(b"q").flatten().filter(|q| is_token(q));
        let q = q.map_or(Vec::new(), |q| [b";q=", q].concat());
        let uri = onward.uri.as_bytes();
        let expires = format!(";expires={seconds}").into_bytes();
        contacts.push([b"<", uri, b">", &q, &expires].concat());
    }
    if !contacts.is_empty() {
        edit.set(Name::Contact, &contacts.join(&b", "[..]));
    }
}

/// The client's own contacts, each with another lifetime and not another byte.
fn set_expiries(edit: &mut Edit<'_>, message: &Message, onward: &[Onward]) {
    for (contact, range, onward) in contacts_of(message, onward) {
        let expires = format!(";expires={}", onward.expires.as_secs());
        let mut params = contact.params.clone();
        let said = params.find(|param| param.name.eq_ignore_ascii_case(b"expires"));
        let place = said.map_or(range.end..range.end, |param| {
            range.start + param.range.start..range.start + param.range.end
        });
        edit.replace(place, expires);
    }
}

fn contacts_of<'m>(
    message: &'m Message,
    onward: &'m [Onward],
) -> impl Iterator<Item = (NameAddr<'m>, Range<usize>, &'m Onward)> {
    let ranges = message.values(Name::Contact).into_iter().zip(onward);
    ranges.filter_map(
        |(range, onward)| match Contact::parse(message.slice(&range)) {
            Some(Contact::Addr(contact)) => Some((contact, range, onward)),
            Some(Contact::Star) | None => None,
        },
    )
}

/// How long the registrar granted a contact: what its 200 says of it (RFC 3261 §10.2.4), or else of
/// all, or else what was wished for.
#[must_use]
pub fn granted(answer: &Message, uri: &[u8], wished: Duration) -> Duration {
    let ours = Uri::parse(uri);
    let ranges = answer.values(Name::Contact);
    let listed = ranges.iter().find_map(|range| {
        let Some(Contact::Addr(contact)) = Contact::parse(answer.slice(range)) else {
            return None;
        };
        let theirs = Uri::parse(contact.uri)?;
        let same = contact.uri == uri || ours.as_ref().is_some_and(|o| o.equivalent(&theirs));
        same.then(|| contact.expires())
    });
    let all = || answer.get(Name::Expires).and_then(delta_seconds);
    let seconds = listed.flatten().or_else(all);
    seconds.map_or(wished, |s| Duration::from_secs(s.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTER: &str = "REGISTER sip:example.com SIP/2.0\r\n\
        Via: SIP/2.0/UDP 192.168.1.10;branch=z9hG4bKa;received=198.51.100.1\r\n\
        Max-Forwards: 70\r\n\
        From: <sip:1001@example.com>;tag=f\r\n\
        To: <sip:1001@example.com>\r\n\
        Call-ID: c\r\n\
        CSeq: 2 REGISTER\r\n\
        Contact: \"A\" <sip:1001@192.168.1.10;ob>;+sip.instance=\"<urn:x>\";reg-id=1;q=0.5;\
        expires=60\r\n\
        Authorization: Digest username=\"1001\", realm=\"example.com\", nonce=\"n\"\r\n\
        Expires: 60\r\n\
        X-Odd: kept\r\n\
        Content-Length: 0\r\n\r\n";

    fn sent(by: By, seconds: u64) -> String {
        let message = Message::parse(Bytes::from_static(REGISTER.as_bytes())).unwrap();
        let onward = Onward {
            uri: "sip:1001@10.9.0.1:5060;tpr=ab".to_owned(),
            expires: Duration::from_secs(seconds),
        };
        let bytes = request(&message, "SIP/2.0/UDP 10.9.0.1;branch=z", 69, by, &[onward]);
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    /// Everything but these lines crosses as it came.
    fn check(by: By, seconds: u64, changed: &[(&str, &str)]) {
        let mut expected = REGISTER.replace(
            "SIP/2.0/UDP 192.168.1.10;branch=z9hG4bKa;received=198.51.100.1",
            "SIP/2.0/UDP 10.9.0.1;branch=z",
        );
        expected = expected.replace("Max-Forwards: 70", "Max-Forwards: 69");
        for (from, to) in changed {
            assert!(expected.contains(from));
            expected = expected.replace(from, to);
        }
        assert_eq!(sent(by, seconds), expected);
    }

    #[test]
    fn what_the_registrar_is_sent() {
        let contact = REGISTER.lines().find(|l| l.starts_with("Contact")).unwrap();
        let ours = "Contact: <sip:1001@10.9.0.1:5060;tpr=ab>;q=0.5;expires=3600";
        check(By::Contact, 3600, &[(contact, ours)]);
        let gone = "Contact: <sip:1001@10.9.0.1:5060;tpr=ab>;q=0.5;expires=0";
        check(By::Contact, 0, &[(contact, gone)]);
        let theirs = contact.replace("expires=60", "expires=3600");
        let path = "REGISTER sip:example.com SIP/2.0\r\n\
                    Path: <sip:1001@10.9.0.1:5060;tpr=ab;lr>\r\n";
        check(
            By::Path,
            3600,
            &[
                (contact, &theirs),
                ("REGISTER sip:example.com SIP/2.0\r\n", path),
                (
                    "\r\nContent-Length: 0\r\n",
                    "\r\nContent-Length: 0\r\nSupported: path\r\n",
                ),
            ],
        );
    }

    #[test]
    fn what_the_registrar_grants() {
        let check = |lines: &str, expected: u64| {
            let answer = format!(
                "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 10.9.0.1;branch=z\r\nFrom: <sip:a@b>;tag=f\r\n\
                 To: <sip:a@b>;tag=t\r\nCall-ID: c\r\nCSeq: 2 REGISTER\r\n{lines}\
                 Content-Length: 0\r\n\r\n"
            );
            let answer = Message::parse(answer.into()).unwrap();
            let wished = Duration::from_secs(3600);
            let found = granted(&answer, b"sip:1001@10.9.0.1:5060;tpr=ab", wished);
            assert_eq!(found, Duration::from_secs(expected), "{lines}");
        };
        let other = "Contact: <sip:1001@10.9.0.2>;expires=9\r\n";
        check("", 3600);
        check("Expires: 120\r\n", 120);
        check(other, 3600);
        let ours = "Contact: <sip:1001@10.9.0.2>;expires=9, \
                    <sip:1001@10.9.0.1:5060;tpr=ab>;expires=300\r\nExpires: 120\r\n";
        check(ours, 300);
        check(
            "Contact: <sip:1001@10.9.0.1:5060;tpr=ab>\r\nExpires: 7\r\n",
            7,
        );
    }

    #[test]
    fn who_vouched_for_whom_and_when() {
        #[expect(
            clippy::disallowed_methods,
            reason = "an Instant can be had from the clock only"
        )]
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let upstream = Upstream {
            peer: "pbx".to_owned(),
            token: "ab".to_owned(),
            expires_at: now + 600 * second,
            vouched_at: now,
            vouched: 7,
        };
        assert!(upstream.covers(7, 60 * second, now));
        assert!(!upstream.covers(8, 60 * second, now), "another nonce");
        assert!(upstream.covers(7, 60 * second, now + 299 * second));
        assert!(
            !upstream.covers(7, 60 * second, now + 300 * second),
            "too long ago"
        );
        assert!(
            !upstream.covers(7, 600 * second, now),
            "it would outlive the registrar's"
        );
    }
}
