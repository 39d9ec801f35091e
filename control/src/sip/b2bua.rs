//! Two legs of one call: the same message on the other side. Call-ID, tags and every header we have
//! no business with cross byte for byte (the dialog-preserving B2BUA); so do sequence numbers,
//! until requests of our own on a leg move them (`dialog::Numbers`).

use std::ops::Range;

use bytes::Bytes;

use crate::sip::edit::Edit;
use crate::sip::identity::{self, Told};
use crate::sip::index::{Message, Name};
use crate::sip::value;

/// What differs between a request as it came and as it goes on.
pub struct Onward<'a> {
    /// New request-URI: the remote target of the other leg.
    pub uri: &'a [u8],
    /// Our Via on the other leg (RFC 3261 §8.1.1.7).
    pub via: &'a str,
    /// Our Contact on the other leg; written only where the request had one.
    pub contact: Option<&'a str>,
    /// Route set of the other leg (§12.2.1.1).
    pub routes: &'a [Bytes],
    /// Already decremented.
    pub max_forwards: u8,
    /// Credentials for this realm were meant for us and stay here.
    pub realm: &'a str,
    /// Its sequence number on the other leg.
    pub cseq: u32,
    /// That of the INVITE a PRACK speaks of.
    pub invite_cseq: Option<u32>,
    /// Of who sends it.
    pub told: Told<'a>,
    pub body: Option<Vec<u8>>,
}

/// The request for the other leg.
#[must_use]
pub fn request(message: &Message, onward: Onward<'_>) -> Bytes {
    let mut edit = Edit::new(message);
    if let Some(uri) = message.uri_range() {
        edit.replace(uri, onward.uri);
    }
    set_vias(&mut edit, message, &[onward.via.as_bytes()]);
    edit.remove_all(Name::Route);
    edit.remove_all(Name::RecordRoute);
    for route in onward.routes {
        edit.append("Route", route);
    }
    edit.set(
        Name::MaxForwards,
        onward.max_forwards.to_string().as_bytes(),
    );
    for name in [Name::Authorization, Name::ProxyAuthorization] {
        for field in message.all(name) {
            if names_realm(message.slice(&field.value), onward.realm) {
                edit.remove_field(field);
            }
        }
    }
    identity::tell(&mut edit, message, onward.told);
    set_contact(&mut edit, message, onward.contact);
    set_cseq(&mut edit, message, onward.cseq);
    if let Some(number) = onward.invite_cseq {
        set_rack(&mut edit, message, number);
    }
    let datagram = onward.via.starts_with("SIP/2.0/UDP");
    set_body(&mut edit, message, onward.body, datagram);
    edit.finish()
}

/// What differs between a response as it came and as it goes back.
pub struct Back<'a> {
    /// The request it answers, as that leg sent it (with `received` and `rport` filled in).
    pub request: &'a Message,
    /// Our Contact on that leg; written only where the response had one.
    pub contact: Option<&'a str>,
    /// Of who answers.
    pub told: Told<'a>,
    pub body: Option<Vec<u8>>,
}

/// The response for the leg that sent the request: its Vias (§8.2.6.2), its Record-Routes
/// (§12.1.1).
#[must_use]
pub fn response(message: &Message, back: Back<'_>) -> Bytes {
    let mut edit = Edit::new(message);
    let vias: Vec<&[u8]> = back
        .request
        .all(Name::Via)
        .map(|f| back.request.slice(&f.value))
        .collect();
    set_vias(&mut edit, message, &vias);
    edit.remove_all(Name::RecordRoute);
    for field in back.request.all(Name::RecordRoute) {
        edit.append("Record-Route", back.request.slice(&field.value));
    }
    identity::tell(&mut edit, message, back.told);
    set_contact(&mut edit, message, back.contact);
    set_cseq(&mut edit, message, back.request.cseq().0);
    let datagram = back.request.top_via().transport == b"UDP";
    set_body(&mut edit, message, back.body, datagram);
    edit.finish()
}

/// The INVITE's number in a PRACK's RAck, as its sender knows it (RFC 3262 §7.2).
#[must_use]
pub fn rack_cseq(message: &Message) -> Option<u32> {
    rack(message).map(|[_, number, _]| number)?.parse().ok()
}

/// Response number, CSeq number and method.
fn rack(message: &Message) -> Option<[&str; 3]> {
    let text = std::str::from_utf8(message.get(Name::RAck)?).ok()?;
    let mut words = text.split_ascii_whitespace();
    Some([words.next()?, words.next()?, words.next()?])
}

fn set_rack(edit: &mut Edit<'_>, message: &Message, number: u32) {
    if rack_cseq(message) != Some(number)
        && let Some([response, _, method]) = rack(message)
    {
        let value = format!("{response} {number} {method}");
        edit.set(Name::RAck, value.as_bytes());
    }
}

/// Which REFER an Event speaks of (RFC 3515 §2.4.6): the place of the number, and the number.
#[must_use]
pub fn refer_id(message: &Message) -> Option<(Range<usize>, u32)> {
    let field = message.all(Name::Event).next()?;
    let text = std::str::from_utf8(message.slice(&field.value)).ok()?;
    let (package, params) = text.split_once(';')?;
    if !package.trim().eq_ignore_ascii_case("refer") {
        return None;
    }
    let mut at = package.len() + 1;
    for param in params.split(';') {
        let (name, value) = param.split_once('=').unwrap_or((param, ""));
        if name.trim().eq_ignore_ascii_case("id") {
            let start = at + name.len() + 1 + (value.len() - value.trim_start().len());
            let start = field.value.start + start;
            let value = value.trim();
            return Some((start..start + value.len(), value.parse().ok()?));
        }
        at += param.len() + 1;
    }
    None
}

/// The same message, about the REFER by its number on the other leg.
#[must_use]
pub fn with_refer_id(message: &Message, at: Range<usize>, number: u32) -> Option<Message> {
    let mut edit = Edit::new(message);
    edit.replace(at, number.to_string());
    Message::parse(edit.finish()).ok()
}

/// Writes the number only where it differs: the bytes of one that crosses stay as they are.
fn set_cseq(edit: &mut Edit<'_>, message: &Message, number: u32) {
    let (old, method) = message.cseq();
    if old != number {
        let value = [number.to_string().as_bytes(), b" ", method].concat();
        edit.set(Name::CSeq, &value);
    }
}

/// A stream cannot be cut into messages that do not say how long they are (RFC 3261 §18.3).
fn set_body(edit: &mut Edit<'_>, message: &Message, body: Option<Vec<u8>>, datagram: bool) {
    match body {
        Some(body) => edit.set_body(body),
        None if !datagram && message.get(Name::ContentLength).is_none() => {
            let length = message.body().len().to_string();
            edit.set(Name::ContentLength, length.as_bytes());
        }
        None => {}
    }
}

/// Puts `vias` where the message's own stood.
pub(in crate::sip) fn set_vias(edit: &mut Edit<'_>, message: &Message, vias: &[&[u8]]) {
    let mut fields = message.all(Name::Via);
    if let Some(first) = fields.next() {
        edit.replace(first.value.clone(), vias.join(&b"\r\nVia: "[..]));
    }
    for field in fields {
        edit.remove_field(field);
    }
}

/// Replaces Contact where there was one; `Contact: *` and lists do not occur in dialogs.
fn set_contact(edit: &mut Edit<'_>, message: &Message, contact: Option<&str>) {
    if let Some(contact) = contact
        && message.get(Name::Contact).is_some()
    {
        edit.set(Name::Contact, contact.as_bytes());
    }
}

/// Whether credentials are for `realm`.
fn names_realm(credentials: &[u8], realm: &str) -> bool {
    let Some(at) = credentials.iter().position(u8::is_ascii_whitespace) else {
        return false;
    };
    value::split_list(credentials.get(at..).unwrap_or_default())
        .into_iter()
        .any(|range| {
            let item = credentials
                .get(at..)
                .and_then(|c| c.get(range))
                .unwrap_or_default();
            let Ok(text) = std::str::from_utf8(item) else {
                return false;
            };
            let Some((name, quoted)) = text.trim().split_once('=') else {
                return false;
            };
            name.trim().eq_ignore_ascii_case("realm") && quoted.trim().trim_matches('"') == realm
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRACK: &str = "PRACK sip:b@192.0.2.9 SIP/2.0\r\n\
         Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n\
         From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\nCall-ID: x\r\nCSeq:   7  PRACK\r\n\
         RAck: 1  6\tINVITE\r\nContent-Length: 0\r\n\r\n";

    /// What came by UDP may not say how long it is; what goes by a stream must.
    #[test]
    fn a_stream_is_told_the_length() {
        let bytes = PRACK.replace("Content-Length: 0\r\n", "") + "body";
        let message = Message::parse(Bytes::from(bytes)).unwrap();
        for (via, expected) in [("SIP/2.0/UDP", false), ("SIP/2.0/TCP", true)] {
            let onward = Onward {
                uri: b"sip:b@10.0.0.2",
                via,
                contact: None,
                routes: &[],
                max_forwards: 69,
                realm: "d",
                cseq: 7,
                invite_cseq: None,
                told: Told::All,
                body: None,
            };
            let text = String::from_utf8(request(&message, onward).to_vec()).unwrap();
            assert_eq!(
                text.contains("\r\nContent-Length: 4\r\n"),
                expected,
                "{text}"
            );
            assert!(text.ends_with("\r\n\r\nbody"), "{text}");
        }
    }

    #[track_caller]
    fn check(cseq: u32, invite: u32, expected: &[&str]) {
        let message = Message::parse(Bytes::from_static(PRACK.as_bytes())).unwrap();
        assert_eq!(rack_cseq(&message), Some(6));
        let onward = Onward {
            uri: b"sip:b@10.0.0.2",
            via: "SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK2",
            contact: None,
            routes: &[],
            max_forwards: 69,
            realm: "d",
            cseq,
            invite_cseq: Some(invite),
            told: Told::All,
            body: None,
        };
        let sent = Message::parse(request(&message, onward)).unwrap();
        let text = String::from_utf8(sent.bytes().to_vec()).unwrap();
        for line in expected {
            assert!(text.contains(line), "{line:?} in {text}");
        }
        let answer = text
            .replace("PRACK sip:b@10.0.0.2 SIP/2.0", "SIP/2.0 200 OK")
            .replace("Max-Forwards: 69\r\n", "");
        let answer = Message::parse(Bytes::from(answer)).unwrap();
        let back = Back {
            request: &message,
            contact: None,
            told: Told::All,
            body: None,
        };
        let back = Message::parse(response(&answer, back)).unwrap();
        assert_eq!(back.cseq(), (7, &b"PRACK"[..]));
    }

    #[test]
    fn the_refer_of_an_event() {
        check("refer;id=93", Some(93), "refer;id=7");
        check(
            "Refer ; x=1; ID = 93 ;y",
            Some(93),
            "Refer ; x=1; ID = 7 ;y",
        );
        check("refer", None, "");
        check("refer;id=x", None, "");
        check("presence;id=93", None, "");

        #[track_caller]
        fn check(event: &str, id: Option<u32>, moved: &str) {
            let text = PRACK.replace("RAck: 1  6\tINVITE", &format!("Event: {event}"));
            let message = Message::parse(Bytes::from(text)).unwrap();
            let found = refer_id(&message);
            assert_eq!(found.as_ref().map(|(_, id)| *id), id, "{event}");
            if let Some((at, _)) = found {
                let message = with_refer_id(&message, at, 7).unwrap();
                assert_eq!(message.get(Name::Event).unwrap(), moved.as_bytes());
            }
        }
    }

    #[test]
    fn numbers_cross_or_are_moved() {
        check(
            7,
            6,
            &["\r\nCSeq:   7  PRACK\r\n", "\r\nRAck: 1  6\tINVITE\r\n"],
        );
        check(
            9,
            8,
            &["\r\nCSeq:   9 PRACK\r\n", "\r\nRAck: 1 8 INVITE\r\n"],
        );
    }
}
