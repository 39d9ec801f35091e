//! Who somebody is said to be (RFC 3325, RFC 3323, and Remote-Party-ID before them): believed of
//! those who are trusted, and withheld from others where the caller wants that.

use bytes::Bytes;

use crate::sip::edit::Edit;
use crate::sip::index::{Message, Name};
use crate::sip::value::NameAddr;

const CLAIMS: [Name; 3] = [
    Name::PAssertedIdentity,
    Name::PPreferredIdentity,
    Name::RemotePartyId,
];

/// What a receiver is told of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Told<'a> {
    /// What there is.
    All,
    /// That, and this identity.
    Asserted(&'a str),
    /// What is not private (RFC 3325 §7).
    Public,
}

/// Whether a message makes claims that only the trusted may make.
#[must_use]
pub fn is_claimed(message: &Message) -> bool {
    let mut fields = message.fields().iter();
    fields.any(|field| CLAIMS.contains(&field.name))
}

/// The same message without them (RFC 3325 §5).
#[must_use]
pub fn unclaimed(message: &Message) -> Bytes {
    let mut edit = Edit::new(message);
    for name in CLAIMS {
        edit.remove_all(name);
    }
    edit.finish()
}

/// Whether something in a message is to be withheld from those who are not trusted.
#[must_use]
pub fn is_private(message: &Message) -> bool {
    message.get(Name::PAssertedIdentity).is_some() && wants_privacy(message)
        || message.all(Name::RemotePartyId).next().is_some()
            && (wants_privacy(message) || has_private_party(message))
}

/// `Privacy: id` (RFC 3325 §9.3).
fn wants_privacy(message: &Message) -> bool {
    message.all(Name::Privacy).any(|field| {
        let mut words = message.slice(&field.value).split(|byte| *byte == b';');
        words.any(|word| word.trim_ascii().eq_ignore_ascii_case(b"id"))
    })
}

/// Remote-Party-ID says of itself how private it is.
fn has_private_party(message: &Message) -> bool {
    let values = message.values(Name::RemotePartyId);
    values.iter().any(|range| {
        let party = NameAddr::parse(message.slice(range));
        let privacy = party.and_then(|party| party.param(b"privacy").flatten());
        privacy.is_some_and(|privacy| !privacy.eq_ignore_ascii_case(b"off"))
    })
}

/// Writes what a receiver is told.
pub(in crate::sip) fn tell(edit: &mut Edit<'_>, message: &Message, told: Told<'_>) {
    match told {
        Told::All => {}
        Told::Asserted(identity) => edit.append(Name::PAssertedIdentity.as_str(), identity),
        Told::Public => {
            edit.remove_all(Name::PPreferredIdentity);
            if is_private(message) {
                edit.remove_all(Name::PAssertedIdentity);
                edit.remove_all(Name::RemotePartyId);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(lines: &str) -> Message {
        let text = format!(
            "INVITE sip:b@192.0.2.9 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n\
             From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: x\r\nCSeq: 7 INVITE\r\n{lines}\
             Content-Length: 0\r\n\r\n"
        );
        Message::parse(Bytes::from(text)).unwrap()
    }

    #[track_caller]
    fn check(lines: &str, told: Told<'_>, expected: &str) {
        let message = message(lines);
        let mut edit = Edit::new(&message);
        tell(&mut edit, &message, told);
        let text = String::from_utf8(edit.finish().to_vec()).unwrap();
        let (_, rest) = text.split_once("CSeq: 7 INVITE\r\n").unwrap();
        let (found, _) = rest.split_once("\r\n\r\n").unwrap();
        let found = format!("{found}\r\n");
        let found = found.replace("Content-Length: 0\r\n", "");
        assert_eq!(found, expected, "{lines:?} {told:?}");
    }

    const ASSERTED: &str = "P-Asserted-Identity: \"A, B\" <sip:a@b>, <tel:+1>\r\n";
    const OLD: &str = "remote-party-id: \"A\" <sip:a@b>;party=calling;privacy=off\r\n";

    #[test]
    fn what_a_receiver_is_told() {
        let private = format!("{ASSERTED}{OLD}Privacy: header; ID\r\n");
        let public = format!("{ASSERTED}{OLD}Privacy: none\r\n");
        for lines in [&private, &public] {
            check(lines, Told::All, lines);
        }
        check(&private, Told::Public, "Privacy: header; ID\r\n");
        check(&public, Told::Public, &public);
        check(
            &format!("p-preferred-identity: <sip:a@b>\r\n{ASSERTED}"),
            Told::Public,
            ASSERTED,
        );
        let old = OLD.replace("=off", "=full");
        check(&old, Told::Public, "");
        check(OLD, Told::Public, OLD);
        let mine = "P-Asserted-Identity: <sip:1001@example.com>\r\n";
        check(
            "X: y\r\n",
            Told::Asserted("<sip:1001@example.com>"),
            &format!("X: y\r\n{mine}"),
        );
    }

    #[test]
    fn claims_of_the_untrusted() {
        let claims = format!("X: 1\r\n{ASSERTED}{OLD}P-Preferred-Identity: <sip:x@y>\r\nY:  2\r\n");
        let found = message(&claims);
        assert!(is_claimed(&found) && !is_private(&found));
        let left = unclaimed(&found);
        assert_eq!(left, message("X: 1\r\nY:  2\r\n").bytes());
        assert!(!is_claimed(&Message::parse(left).unwrap()));
    }
}
