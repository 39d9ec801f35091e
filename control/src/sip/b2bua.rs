//! Two legs of one call: the same message on the other side. Call-ID, tags, sequence numbers and
//! every header we have no business with cross byte for byte (the dialog-preserving B2BUA).

use bytes::Bytes;

use crate::sip::edit::Edit;
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
    set_contact(&mut edit, message, onward.contact);
    if let Some(body) = onward.body {
        edit.set_body(body);
    }
    edit.finish()
}

/// What differs between a response as it came and as it goes back.
pub struct Back<'a> {
    /// The request it answers, as that leg sent it (with `received` and `rport` filled in).
    pub request: &'a Message,
    /// Our Contact on that leg; written only where the response had one.
    pub contact: Option<&'a str>,
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
    set_contact(&mut edit, message, back.contact);
    if let Some(body) = back.body {
        edit.set_body(body);
    }
    edit.finish()
}

/// Puts `vias` where the message's own stood.
fn set_vias(edit: &mut Edit<'_>, message: &Message, vias: &[&[u8]]) {
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
