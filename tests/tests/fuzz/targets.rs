//! What is asked of any input, however odd: the fuzzer runs these, and so does a test, on what the
//! fuzzer has found before. A panic is a finding.

use std::hint::black_box;
use std::net::SocketAddr;
use std::ops::Range;

use bytes::Bytes;
use control::sdp::edit::{Anchor, Mux, Rewrite, rewrite};
use control::sdp::lines::Sdp;
use control::sdp::{multipart, understand};
use control::sip::b2bua::{self, Back, Onward};
use control::sip::digest::Credentials;
use control::sip::edit::Edit;
use control::sip::framing::{Stream, Unit, classify};
use control::sip::identity::Told;
use control::sip::index::{Malformed, Message, Name};
use control::sip::registrar::upstream;
use control::sip::shard::Shards;
use control::sip::terse::terse;
use control::sip::uri::Uri;
use control::sip::value::{CSeq, Contact, NameAddr, Params, Via, delta_seconds, split_list};
use control::sip::{verdict, vocabulary};

/// A name, and what it does with an input.
pub(crate) type Target = (&'static str, fn(&[u8]));

pub(crate) const TARGETS: [Target; 5] = [
    ("framing", framing),
    ("index", index),
    ("values", values),
    ("editor", editor),
    ("sdp", sdp),
];

/// A stream yields the same, however it is cut.
pub(crate) fn framing(data: &[u8]) {
    let whole = cut(data, |_| 4096);
    let single = cut(data, |_| 1);
    assert_eq!(whole, single, "cut into octets");
    let mut state = fingerprint(data) | 1;
    let odd = cut(data, |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % 97).unwrap_or(0) + 1
    });
    assert_eq!(whole, odd, "cut at random");
    // What came out lies in the stream, one after the other, with line ends between.
    let mut at = 0;
    for unit in &whole.0 {
        if let Unit::Message(message) = unit {
            let rest = &data[at..];
            let (between, own) = (leading(rest), leading(message));
            assert!(rest[between..].starts_with(&message[own..]), "never sent");
            at += between + message.len() - own;
        }
    }
}

fn cut(data: &[u8], mut size: impl FnMut(usize) -> usize) -> (Vec<Unit>, Option<Malformed>) {
    let mut stream = Stream::new();
    let mut units = Vec::new();
    let mut rest = data;
    loop {
        loop {
            match stream.pop() {
                // Nobody answers one, and of a ping in two pieces the first is one.
                Ok(Some(Unit::KeepAlive)) => {}
                Ok(Some(unit)) => units.push(unit),
                Ok(None) => break,
                Err(broken) => return (units, Some(broken.fault)),
            }
        }
        if rest.is_empty() {
            return (units, None);
        }
        let (now, later) = rest.split_at(size(rest.len()).min(rest.len()));
        stream
            .push(now)
            .expect("there is room: everything was taken out");
        rest = later;
    }
}

fn leading(bytes: &[u8]) -> usize {
    let ends = bytes
        .iter()
        .take_while(|byte| matches!(byte, b'\r' | b'\n'));
    ends.count()
}

/// The index accounts for every octet, and a message that is indexed again is the same.
pub(crate) fn index(data: &[u8]) {
    black_box(classify(data));
    let shards = Shards::new(4, [7; 16]);
    let shard = shards.of(data);
    assert!(shard < 4);
    let wire = Bytes::copy_from_slice(data);
    let message = match Message::parse(wire.clone()) {
        Ok(message) => message,
        Err(fault) => {
            if let Some(answer) = vocabulary::refusal(&wire, fault, Some("t")) {
                assert!(answer.starts_with(b"SIP/2.0 "), "{answer:?}");
                assert!(terse(&answer).len() <= answer.len());
            }
            return;
        }
    };
    let bytes = message.bytes();
    let kept = leading(data) + bytes.len();
    assert!(data[leading(data)..].starts_with(bytes));
    assert_eq!(kept + message.dropped(), data.len(), "octets nobody has");
    let header = message.header_range();
    let mut at = header.start;
    for field in message.fields() {
        assert_eq!(field.line.start, at, "a gap before a field");
        assert!(within(&field.name_range, &field.line) && within(&field.value, &field.line));
        assert_eq!(Name::parse(message.slice(&field.name_range)), field.name);
        for element in message.elements(field) {
            assert!(within(&element, &field.value));
        }
        at = field.line.end;
    }
    assert_eq!(at, header.end, "a gap behind the last field");
    let blank = &bytes[header.end..message.body_range().start];
    assert!(blank == b"\r\n" || blank == b"\n", "{blank:?}");
    assert_eq!(message.body_range().end, bytes.len());
    if message.cseq().1 != b"REGISTER" {
        assert_eq!(shard, shards.of_call_id(message.call_id()), "another shard");
    }
    black_box(verdict::judge(&message, &[]));
    let again = Message::parse(bytes.clone()).expect("it was one before");
    assert_eq!(again.fields(), message.fields());
    assert_eq!(again.top_via(), message.top_via());
}

/// What values say of their places is true, and their parts mean the same alone.
pub(crate) fn values(data: &[u8]) {
    let mut end = 0;
    for element in split_list(data) {
        assert!(element.start >= end && element.end <= data.len());
        end = element.end;
        value(&data[element]);
    }
    value(data);
    black_box(delta_seconds(data));
    if let Some(credentials) = Credentials::parse(data) {
        assert!(credentials.username.len() <= data.len());
    }
    if let Some(cseq) = CSeq::parse(data) {
        assert!(!cseq.method.is_empty());
    }
}

fn value(data: &[u8]) {
    params(data, Params::new(data));
    if let Some(via) = Via::parse(data) {
        params(data, via.params.clone());
        let _ = (via.host_ip(), via.received_ip(), via.is_rfc3261());
    }
    if let Some(addr) = NameAddr::parse(data) {
        assert_eq!(&data[addr.uri_range.clone()], addr.uri);
        params(data, addr.params.clone());
        let _ = (
            addr.tag(),
            addr.q(),
            addr.expires(),
            addr.instance(),
            addr.reg_id(),
        );
        uri(addr.uri);
    }
    if let Some(Contact::Addr(addr)) = Contact::parse(data) {
        assert_eq!(Some(addr), NameAddr::parse(data));
    }
    uri(data);
}

fn params(data: &[u8], params: Params<'_>) {
    let mut end = 0;
    for param in params {
        assert!(param.range.start >= end && param.range.end <= data.len());
        end = param.range.end;
        if let (Some(value), Some(range)) = (param.value, param.value_range) {
            assert_eq!(&data[range], value);
        }
    }
}

fn uri(data: &[u8]) {
    let Some(uri) = Uri::parse(data) else { return };
    black_box(uri.user_decoded());
    assert!(
        uri.equivalent(&uri),
        "not itself: {:?}",
        data.escape_ascii().to_string()
    );
    if let Some(view) = vocabulary::view_uri(data) {
        assert_eq!(view.to_string().as_bytes(), data);
    }
}

/// What is sent on is a message with our lines in it, and all others as they came.
pub(crate) fn editor(data: &[u8]) {
    let Ok(message) = Message::parse(Bytes::copy_from_slice(data)) else {
        return;
    };
    assert_eq!(Edit::new(&message).finish(), message.bytes());
    let from: SocketAddr = "[2001:db8::7]:5062".parse().expect("an address");
    let stamped = Message::parse(vocabulary::stamp_received_forced(&message, from));
    if let Ok(stamped) = &stamped {
        same(&message, stamped, &[Name::Via]);
        assert_eq!(stamped.top_via().received_ip(), Some(from.ip()));
    }
    let contact = "<sip:us@192.0.2.1:5060>";
    let uri = b"sip:them@192.0.2.2:5060";
    if message.method().is_none() {
        let back = Back {
            request: &message,
            contact: Some(contact),
            told: Told::Public,
            body: None,
        };
        let bytes = b2bua::response(&message, back);
        let ours = [
            Name::Via,
            Name::RecordRoute,
            Name::Contact,
            Name::CSeq,
            Name::ContentLength,
        ];
        crossed(&message, bytes, &ours);
        return;
    }
    let answer = vocabulary::response(&message, 486, None, Some("t"), &[], None);
    crossed_identity(&message, answer);
    let onward = Onward {
        uri,
        via: "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKx;rport",
        contact: Some(contact),
        routes: &[Bytes::from_static(b"<sip:r@192.0.2.9;lr>")],
        max_forwards: 69,
        realm: "example.com",
        cseq: 77,
        invite_cseq: None,
        told: Told::Public,
        body: None,
    };
    let ours = [
        Name::Via,
        Name::Route,
        Name::RecordRoute,
        Name::MaxForwards,
        Name::Authorization,
        Name::ProxyAuthorization,
        Name::Contact,
        Name::CSeq,
    ];
    crossed(&message, b2bua::request(&message, onward), &ours);
    register(&message);
}

fn register(message: &Message) {
    let onward: Vec<_> = message
        .values(Name::Contact)
        .iter()
        .map(|_| upstream::Onward {
            uri: "sip:us@192.0.2.1:5060;tpr=1".to_owned(),
            expires: std::time::Duration::from_secs(3600),
        })
        .collect();
    for by in [upstream::By::Contact, upstream::By::Path] {
        let via = "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKx";
        let bytes = upstream::request(message, via, 69, by, &onward);
        let ours = [
            Name::Via,
            Name::Route,
            Name::MaxForwards,
            Name::Contact,
            Name::Path,
            Name::Supported,
        ];
        crossed(message, bytes, &ours);
    }
}

/// The edited message is one, unless it grew over a limit; what we did not touch is the same.
fn crossed(before: &Message, bytes: Bytes, ours: &[Name]) {
    match Message::parse(bytes.clone()) {
        Ok(after) => same(before, &after, ours),
        Err(Malformed::TooLarge(_)) => {}
        Err(fault) => panic!("{fault:?}: {}", bytes.escape_ascii()),
    }
}

fn same(before: &Message, after: &Message, ours: &[Name]) {
    let kept = |message: &Message| {
        let fields = message.fields().iter();
        let fields = fields.filter(|field| !ours.contains(&field.name));
        let lines = fields.map(|field| message.slice(&field.line).to_vec());
        lines.collect::<Vec<_>>()
    };
    assert_eq!(kept(before), kept(after));
    assert_eq!(before.body(), after.body());
    assert_eq!(before.call_id(), after.call_id());
    assert_eq!(
        (before.from_tag(), before.to_tag()),
        (after.from_tag(), after.to_tag())
    );
}

/// An answer of ours belongs to the request.
fn crossed_identity(request: &Message, bytes: Bytes) {
    match Message::parse(bytes.clone()) {
        Ok(answer) => {
            assert_eq!(answer.call_id(), request.call_id());
            assert_eq!(answer.cseq(), request.cseq());
            assert_eq!(answer.from_tag(), request.from_tag());
            assert_eq!(answer.to_tag(), request.to_tag().or(Some(b"t")));
            assert_eq!(answer.top_via(), request.top_via());
        }
        Err(Malformed::TooLarge(_)) => {}
        Err(fault) => panic!("{fault:?}: {}", bytes.escape_ascii()),
    }
}

/// A body that was rewritten is one still, has no address but ours where we act, and no other line
/// has changed. The first line may name a content type instead.
pub(crate) fn sdp(data: &[u8]) {
    let (kind, body) = match data.strip_prefix(b"Content-Type: ") {
        Some(rest) => {
            let end = rest
                .iter()
                .position(|byte| *byte == b'\n')
                .unwrap_or(rest.len());
            let (kind, body) = rest.split_at(end);
            (kind.trim_ascii_end(), body.get(1..).unwrap_or_default())
        }
        None => (&b"application/sdp"[..], data),
    };
    let Some(at) = multipart::find(kind, body) else {
        return;
    };
    assert!(at.start <= at.end && at.end <= body.len());
    let part = &body[at.clone()];
    assert_eq!(multipart::splice(body, &at, part), body);
    for line in part.split(|byte| *byte == b'\n') {
        if let Some(attribute) = line.strip_prefix(b"a=") {
            let _ = (
                understand::attribute(attribute),
                understand::is_ice(attribute),
            );
        }
    }
    let Ok(sdp) = Sdp::parse(part) else { return };
    for address in ["192.0.2.7", "2001:db8::7"] {
        let to = Rewrite {
            address: address.parse().expect("an address"),
            version: Some(44),
            media: sdp.media.iter().map(|_| HERE).collect(),
            strip_ice: true,
        };
        let out = rewrite(part, &sdp, &to);
        let again = match Sdp::parse(&out) {
            Ok(again) => again,
            // Addresses of ours may be longer than those that stood there.
            Err(fault) => {
                assert!(out.len() > control::sdp::lines::SDP_BYTES_MAX, "{fault:?}");
                return;
            }
        };
        assert_eq!(again.media.len(), sdp.media.len());
        assert!(again.ice.is_empty() && again.stray_rtcp.is_empty());
        assert_eq!(
            others(part, &sdp),
            others(&out, &again),
            "{}",
            out.escape_ascii()
        );
        for media in &again.media {
            let rtcp = media
                .rtcp
                .iter()
                .filter_map(|rtcp| rtcp.connection.as_ref());
            for connection in media
                .connections
                .iter()
                .chain(rtcp)
                .chain(&again.connection)
            {
                let fixed = connection.is_nowhere() || connection.is_multicast();
                assert!(
                    fixed || connection.ip == Some(to.address),
                    "an address got through"
                );
            }
        }
        assert_eq!(
            rewrite(&out, &again, &to),
            out,
            "not the same when done twice"
        );
    }
}

const HERE: Anchor = Anchor::Here {
    rtp: 30_000,
    rtcp: 30_001,
    mux: Mux::Kept,
};

/// The lines that have nothing to do with where media goes.
fn others<'b>(body: &'b [u8], sdp: &Sdp) -> Vec<&'b [u8]> {
    let gone = |start: usize| {
        let mut lines = sdp.ice.iter().chain(&sdp.stray_rtcp);
        lines.any(|line: &Range<usize>| line.start == start)
    };
    let mut at = 0;
    let mut kept = Vec::new();
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let start = at;
        at += line.len();
        let acted_on = matches!(line, [b'm' | b'c' | b'o', b'=', ..]);
        let (name, behind) = line.split_at(line.len().min(b"a=rtcp".len()));
        let ended = matches!(behind, [] | [b':' | b' ' | b'\r' | b'\n', ..]);
        let rtcp = name.eq_ignore_ascii_case(b"a=rtcp") && ended;
        if !(acted_on || rtcp || gone(start)) {
            kept.push(line);
        }
    }
    kept
}

fn within(inner: &Range<usize>, outer: &Range<usize>) -> bool {
    inner.start >= outer.start && inner.end <= outer.end && inner.start <= inner.end
}

fn fingerprint(data: &[u8]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
