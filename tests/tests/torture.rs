//! The torture messages of RFC 4475 and RFC 5118, and some of our own, with what becomes of each
//! before anybody looks at its method, and what is seen of it on both sides of a running edge.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests: a panic is the failure"
)]

#[path = "torture/compare.rs"]
mod compare;
#[path = "torture/edge.rs"]
mod edge;
#[path = "torture/table.rs"]
mod table;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use control::sip::edit::Edit;
use control::sip::index::{Malformed, Message, Name};
use control::sip::uri::Uri;
use control::sip::value::{Contact, NameAddr, Via};
use control::sip::{framing, verdict, vocabulary};
use table::{Fate, TABLE};

#[test]
fn every_vector_meets_its_fate() {
    for (name, expected, _) in TABLE {
        assert_eq!(fate(name), expected, "{name}");
    }
}

/// What crosses is compared byte by byte at the other side.
#[test]
fn every_vector_is_sent_through_an_edge() {
    let mut wrong = Vec::new();
    for (name, _, expected) in TABLE {
        let Ok(seen) = std::panic::catch_unwind(|| edge::send(name, &read(name))) else {
            wrong.push(format!("{name}: see above"));
            continue;
        };
        if seen != expected {
            wrong.push(format!("{name}: {seen:?}, not {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_vector_is_forgotten() {
    let listed: BTreeSet<String> = TABLE
        .iter()
        .map(|(name, ..)| format!("{name}.sip"))
        .collect();
    let files = fs::read_dir(directory()).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let present: BTreeSet<String> = names.filter(|name| name.ends_with(".sip")).collect();
    assert_eq!(present, listed);
}

#[test]
fn wsinv_is_understood() {
    let message = parse("rfc4475-wsinv");
    let vias = message.values(Name::Via);
    let vias: Vec<Via<'_>> = vias
        .iter()
        .map(|via| Via::parse(message.slice(via)).unwrap())
        .collect();
    let hosts: Vec<&[u8]> = vias.iter().map(|via| via.host).collect();
    assert_eq!(
        hosts,
        [
            &b"192.0.2.2"[..],
            b"spindle.example.com",
            b"192.168.255.111"
        ]
    );
    assert_eq!(vias[0].branch, Some(&b"390skdjuw"[..]));
    assert!(!vias[0].is_rfc3261() && vias[1].is_rfc3261());
    assert_eq!(message.cseq(), (9, &b"INVITE"[..]));
    assert_eq!(message.to_tag(), Some(&b"1918181833n"[..]));
    let contact = NameAddr::parse(message.get(Name::Contact).unwrap()).unwrap();
    assert_eq!(
        (contact.q(), contact.uri),
        (Some(330), &b"sip:jdrosen@example.com"[..])
    );
    assert_eq!(message.body().len(), 150);
}

#[test]
fn escapes_are_resolved_for_comparison_only() {
    let message = parse("rfc4475-esc01");
    let uri = Uri::parse(message.slice(&message.uri_range().unwrap())).unwrap();
    assert_eq!(uri.user_decoded().as_deref(), Some("sips:user@example.com"));
    let to = NameAddr::parse(message.get(Name::To).unwrap()).unwrap();
    assert_eq!(
        Uri::parse(to.uri).unwrap().user_decoded().as_deref(),
        Some("user")
    );
    let message = parse("rfc4475-esc02");
    assert_eq!(message.method().unwrap().as_bytes(), b"RE%47IST%45R");
    assert_eq!(message.values(Name::Contact).len(), 2);
}

#[test]
fn addresses_of_both_families() {
    let port = |name| {
        let message = parse(name);
        let uri = Uri::parse(message.slice(&message.uri_range().unwrap())).unwrap();
        (uri.host.ip().unwrap().to_string(), uri.port)
    };
    assert_eq!(
        port("rfc5118-port-ambiguous"),
        ("2001:db8::10:5070".to_owned(), None)
    );
    assert_eq!(
        port("rfc5118-port-unambiguous"),
        ("2001:db8::10".to_owned(), Some(5070))
    );
    for name in [
        "rfc5118-via-received-param-with-delim",
        "rfc5118-via-received-param-no-delim",
    ] {
        let message = parse(name);
        let received = message.top_via().received_ip().unwrap();
        assert_eq!(received.to_string(), "2001:db8::9:255", "{name}");
    }
    let three = parse("rfc5118-ipv6-bug-abnf-3-colons");
    let two = parse("rfc5118-ipv6-correct-abnf-2-colons");
    let host = |message: &Message| {
        Uri::parse(message.slice(&message.uri_range().unwrap()))
            .unwrap()
            .host
            .ip()
    };
    assert_eq!(host(&three), host(&two));
}

#[test]
fn contacts_with_quoted_everything() {
    let message = parse("own-instance");
    let values = message.values(Name::Contact);
    assert_eq!(values.len(), 2);
    let Some(Contact::Addr(first)) = Contact::parse(message.slice(&values[0])) else {
        panic!("no contact");
    };
    assert_eq!(first.display, b"A, <B>; C");
    assert_eq!(first.param(b"methods"), Some(Some(&b"INVITE,ACK"[..])));
    let instance = &b"urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF"[..];
    assert_eq!(
        (first.instance(), first.reg_id()),
        (Some(instance), Some(1))
    );
}

/// Every vector, cut short and with bytes replaced all along, is judged without panic.
#[test]
fn damaged_vectors() {
    for (name, ..) in TABLE {
        let wire = read(name);
        let step = if name.starts_with("rfc") { 1 } else { 7 };
        for at in (0..wire.len().min(1200)).step_by(step) {
            judge(wire.slice(..at));
            for with in [b'"', b',', b'\n', b'\r', b' ', 0xff] {
                let mut damaged = wire.to_vec();
                damaged[at] = with;
                judge(damaged.into());
            }
        }
    }
}

fn fate(name: &str) -> Fate {
    let wire = read(name);
    if framing::classify(&wire) == framing::Datagram::Sip {
        judge(wire)
    } else {
        Fate::Drop
    }
}

fn judge(wire: Bytes) -> Fate {
    let message = match Message::parse(wire.clone()) {
        Ok(message) => message,
        Err(fault) => return answered(&wire, fault),
    };
    if let Some(refused) = verdict::judge(&message, &[]) {
        return Fate::Refuse(refused.code());
    }
    let untouched = Edit::new(&message).finish();
    assert_eq!(&untouched, message.bytes());
    let leading = wire
        .iter()
        .take_while(|byte| matches!(byte, b'\r' | b'\n'))
        .count();
    let (kept, cut) = wire[leading..].split_at(untouched.len());
    assert_eq!(kept, &untouched[..]);
    assert_eq!(cut.len(), message.dropped());
    if cut.is_empty() {
        Fate::Forward
    } else {
        Fate::Cut(cut.len())
    }
}

fn answered(wire: &Bytes, fault: Malformed) -> Fate {
    let Some(answer) = vocabulary::refusal(wire, fault, Some("t")) else {
        return Fate::Drop;
    };
    let code = std::str::from_utf8(&answer[8..11])
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(Some(code), fault.status());
    Fate::Refuse(code)
}

fn parse(name: &str) -> Message {
    Message::parse(read(name)).unwrap()
}

fn read(name: &str) -> Bytes {
    fs::read(directory().join(format!("{name}.sip")))
        .unwrap()
        .into()
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors")
}
