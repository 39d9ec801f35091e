//! The torture messages of RFC 4475 and RFC 5118, and some of our own, with what becomes of each
//! before anybody looks at its method.
//!
//! What a later layer decides is `Forward` here: 401 for regaut01, 404 for unksm2, 415 for invut,
//! and dropping bcast, whose topmost Via is not ours. mpart01 is not in the set: its signature
//! cannot be written down by hand; own-binary-body stands in for it.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests: a panic is the failure"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use control::sip::edit::Edit;
use control::sip::index::{Malformed, Message, Name};
use control::sip::uri::Uri;
use control::sip::value::{Contact, NameAddr, Via};
use control::sip::{framing, verdict, vocabulary};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    /// Understood, and every byte survives.
    Forward,
    /// Understood, after so many bytes behind the body were cut off.
    Cut(usize),
    /// Answered with this status.
    Refuse(u16),
    /// Counted, not answered.
    Drop,
}

use Fate::{Cut, Drop, Forward, Refuse};

const FATES: [(&str, Fate); 65] = [
    // RFC 4475 §3.1.1: valid.
    ("rfc4475-wsinv", Forward),
    ("rfc4475-intmeth", Forward),
    ("rfc4475-esc01", Forward),
    ("rfc4475-escnull", Forward),
    ("rfc4475-esc02", Forward),
    ("rfc4475-lwsdisp", Forward),
    ("rfc4475-longreq", Forward),
    ("rfc4475-dblreq", Cut(447)),
    ("rfc4475-semiuri", Forward),
    ("rfc4475-transports", Forward),
    ("rfc4475-unreason", Forward),
    ("rfc4475-noreason", Forward),
    // §3.1.2: invalid, some of it harmless.
    ("rfc4475-badinv01", Refuse(400)),
    ("rfc4475-clerr", Refuse(400)),
    ("rfc4475-ncl", Refuse(400)),
    ("rfc4475-scalar02", Refuse(400)),
    ("rfc4475-scalarlg", Drop),
    ("rfc4475-quotbal", Refuse(400)),
    ("rfc4475-ltgtruri", Refuse(400)),
    ("rfc4475-lwsruri", Refuse(400)),
    ("rfc4475-lwsstart", Forward),
    ("rfc4475-trws", Forward),
    ("rfc4475-escruri", Refuse(400)),
    ("rfc4475-baddate", Forward),
    ("rfc4475-regbadct", Refuse(400)),
    ("rfc4475-badaspec", Forward),
    ("rfc4475-baddn", Forward),
    ("rfc4475-badvers", Refuse(505)),
    ("rfc4475-mismatch01", Refuse(400)),
    ("rfc4475-mismatch02", Refuse(400)),
    ("rfc4475-bigcode", Drop),
    // §3.2 to §3.4: transaction layer, application layer, RFC 2543.
    ("rfc4475-badbranch", Forward),
    ("rfc4475-insuf", Refuse(400)),
    ("rfc4475-unkscm", Refuse(416)),
    ("rfc4475-novelsc", Refuse(416)),
    ("rfc4475-unksm2", Forward),
    ("rfc4475-bext01", Refuse(420)),
    ("rfc4475-invut", Forward),
    ("rfc4475-regaut01", Forward),
    ("rfc4475-multi01", Refuse(400)),
    ("rfc4475-mcl01", Refuse(400)),
    ("rfc4475-bcast", Forward),
    ("rfc4475-zeromf", Forward),
    ("rfc4475-cparam01", Forward),
    ("rfc4475-cparam02", Forward),
    ("rfc4475-regescrt", Forward),
    ("rfc4475-sdp01", Forward),
    ("rfc4475-inv2543", Forward),
    // RFC 5118 §4.
    ("rfc5118-ipv6-good", Forward),
    ("rfc5118-ipv6-bad", Refuse(400)),
    ("rfc5118-port-ambiguous", Forward),
    ("rfc5118-port-unambiguous", Forward),
    ("rfc5118-via-received-param-with-delim", Forward),
    ("rfc5118-via-received-param-no-delim", Forward),
    ("rfc5118-ipv6-in-sdp", Forward),
    ("rfc5118-mult-ip-in-header", Forward),
    ("rfc5118-mult-ip-in-sdp", Forward),
    ("rfc5118-ipv4-mapped-ipv6", Forward),
    ("rfc5118-ipv6-bug-abnf-3-colons", Forward),
    ("rfc5118-ipv6-correct-abnf-2-colons", Forward),
    // Met in the field.
    ("own-gbk-display", Forward),
    ("own-binary-body", Forward),
    ("own-bare-lf", Forward),
    ("own-instance", Forward),
    ("own-stray-cr", Refuse(400)),
];

#[test]
fn every_vector_meets_its_fate() {
    for (name, expected) in FATES {
        assert_eq!(fate(name), expected, "{name}");
    }
}

#[test]
fn no_vector_is_forgotten() {
    let listed: BTreeSet<String> = FATES
        .iter()
        .map(|(name, _)| format!("{name}.sip"))
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

/// Every vector, cut short at every place and with every byte replaced, is judged without panic.
#[test]
fn damaged_vectors() {
    for (name, _) in FATES {
        let wire = read(name);
        for at in 0..wire.len().min(1200) {
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
    assert_eq!(framing::classify(&wire), framing::Datagram::Sip, "{name}");
    judge(wire)
}

fn judge(wire: Bytes) -> Fate {
    let message = match Message::parse(wire.clone()) {
        Ok(message) => message,
        Err(fault) => return answered(&wire, fault),
    };
    if let Some(refused) = verdict::judge(&message, &[]) {
        return Refuse(refused.code());
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
        Forward
    } else {
        Cut(cut.len())
    }
}

fn answered(wire: &Bytes, fault: Malformed) -> Fate {
    let Some(answer) = vocabulary::refusal(wire, fault, Some("t")) else {
        return Drop;
    };
    let code = std::str::from_utf8(&answer[8..11])
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(Some(code), fault.status());
    Refuse(code)
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
