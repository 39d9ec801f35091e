//! Known faults of rsip 0.4 and webrtc-sdp 0.3.17, each as short as it gets. A failure here is
//! good news: the fault is gone, and the test names what of ours may go with it. Faults of whole
//! messages that the bridge meets are pinned beside it (`sip/vocabulary.rs`).

#![allow(clippy::unwrap_used, reason = "a canary that cannot sing has failed")]

use std::str::FromStr as _;

use rsip::headers::{ToTypedHeader as _, UntypedHeader as _};
use webrtc_sdp::attribute_type::SdpAttribute;
use webrtc_sdp::{SdpSession, parse_sdp};

const HEAD: &str = "Via: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@a>;tag=1\r\n\
                    To: <sip:b@b>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n";

/// What rsip makes of a request with these lines and this body, printed again.
fn printed(first: &str, lines: &str, body: &str) -> Option<String> {
    let wire = format!("{first}\r\n{HEAD}{lines}\r\n{body}");
    let message = rsip::SipMessage::try_from(wire.as_bytes()).ok()?;
    Some(message.to_string())
}

const OPTIONS: &str = "OPTIONS sip:b@b SIP/2.0";

/// Kept for it: `index::scan_fields`.
#[test]
fn rsip_refuses_a_space_before_the_colon() {
    assert_eq!(printed(OPTIONS, "X : y\r\n", ""), None);
}

/// Kept for it: the cut before the start line in `Message::scan`.
#[test]
fn rsip_refuses_line_ends_before_the_message() {
    assert_eq!(printed("\r\nOPTIONS sip:b@b SIP/2.0", "", ""), None);
}

/// Kept for it: `index::line_end`.
#[test]
fn rsip_refuses_bare_line_feeds() {
    let wire = format!("{OPTIONS}\r\n{HEAD}\r\n").replace('\r', "");
    assert!(rsip::SipMessage::try_from(wire.as_bytes()).is_err());
}

/// Kept for it: `Message::settle_body` and all of `framing::Stream`.
#[test]
fn rsip_does_not_look_at_content_length() {
    for lines in [
        "Content-Length: 0\r\n",
        "Content-Length: 9999\r\n",
        "Content-Length: 1\r\nContent-Length: 2\r\n",
    ] {
        let whole = printed(OPTIONS, lines, "smuggled").unwrap();
        assert!(whole.ends_with("smuggled"), "{whole}");
    }
}

/// Kept for it: the version of our own start line, which can be answered 505.
#[test]
fn rsip_cannot_tell_another_version_from_nonsense() {
    assert_eq!(printed("OPTIONS sip:b@b SIP/3.0", "", ""), None);
}

fn uri(text: &str) -> Option<String> {
    rsip::Uri::try_from(text).ok().map(|uri| uri.to_string())
}

/// Kept for it: `Uri::user_decoded`.
#[test]
fn rsip_does_not_resolve_escapes() {
    let user = |text: &str| {
        rsip::Uri::try_from(text)
            .unwrap()
            .user()
            .unwrap()
            .to_owned()
    };
    assert_eq!(user("sip:%61lice@a"), "%61lice");
    assert_ne!(
        rsip::Uri::try_from("sip:%61lice@a").unwrap(),
        rsip::Uri::try_from("sip:alice@a").unwrap()
    );
}

/// Kept for it: `uri::Scheme`.
#[test]
fn rsip_damages_uris_of_other_schemes() {
    assert_eq!(printed("OPTIONS tel:+15551234 SIP/2.0", "", ""), None);
    assert_ne!(uri("tel:+15551234").as_deref(), Some("tel:+15551234"));
    assert_eq!(printed("OPTIONS urn:service:sos SIP/2.0", "", ""), None);
}

/// Kept for it: URIs cross by their bytes alone.
#[test]
fn rsip_writes_parameters_its_own_way() {
    assert_eq!(
        uri("sip:a@b;transport=udp").as_deref(),
        Some("sip:a@b;transport=UDP")
    );
}

fn via(value: &str) -> Option<rsip::typed::Via> {
    rsip::headers::Via::new(value).typed().ok()
}

/// Kept for it: `value::Via`.
#[test]
fn rsip_cuts_vias_at_what_it_does_not_know() {
    let branch = |value: &str| Some(via(value)?.branch()?.to_string());
    let known = "SIP/2.0/UDP a;branch=z9hG4bK1";
    assert_eq!(branch(known).as_deref(), Some("z9hG4bK1"));
    for cut in [
        "SIP/2.0/UDP a;received=2001:db8::7;branch=z9hG4bK1",
        "SIP/2.0/UDP a ;branch=z9hG4bK1",
        "SIP/2.0/UDP a;x=\"a;b\";branch=z9hG4bK1",
    ] {
        assert_eq!(branch(cut), None, "{cut}");
    }
    assert!(via("SIP/2.0/SCTPX a;branch=z9hG4bK1").is_none());
    let two = via("SIP/2.0/UDP a;branch=z9hG4bK1, SIP/2.0/UDP b").unwrap();
    assert!(!two.to_string().contains(", SIP/2.0/UDP b"), "{two}");
}

/// Kept for it: `value::NameAddr`, `value::Contact` and `value::split_list`.
#[test]
fn rsip_does_not_read_contacts_of_phones() {
    let read = |value: &str| rsip::headers::Contact::new(value).typed();
    assert!(read("<sip:a@b>;q=0.5").is_ok());
    let star = read("*");
    assert!(star.is_err() || star.unwrap().to_string() != "*");
    for phone in [
        "<sip:a@b>;+sip.instance=\"<urn:uuid:1>\"",
        "\"A <B>\" <sip:a@b>",
        "<sip:a@b>, <sip:c@d>",
    ] {
        let same = read(phone).is_ok_and(|contact| contact.to_string() == phone);
        assert!(!same, "{phone}");
    }
}

/// Kept for it: `dialog::record_routes`.
#[test]
fn rsip_loses_values_of_routes() {
    let read = |value: &str| rsip::headers::Route::new(value).typed();
    let quoted = "<sip:a;lr>;x=\"q\"";
    let same = read(quoted).is_ok_and(|route| route.to_string() == quoted);
    assert!(!same, "{quoted}");
}

/// Kept for it: all of `sip::digest`.
#[test]
fn rsip_does_not_know_the_algorithms_of_rfc_8760() {
    assert!(rsip::headers::auth::Algorithm::from_str("SHA-256").is_err());
    let printed = rsip::headers::auth::Algorithm::Sha256.to_string();
    assert_ne!(printed, "SHA-256");
    let tenth = "Digest username=\"a\", realm=\"r\", nonce=\"n\", uri=\"sip:b\", response=\"0\", \
                 qop=auth, nc=0000000a, cnonce=\"c\"";
    assert!(rsip::headers::Authorization::new(tenth).typed().is_err());
}

/// Kept for it: `value::CSeq`.
#[test]
fn rsip_refuses_a_tab_in_cseq() {
    assert!(rsip::headers::CSeq::new("1\tINVITE").typed().is_err());
    assert!(rsip::headers::CSeq::new("1 INVITE").typed().is_ok());
}

const SESSION: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n";

fn session(sections: &str) -> Option<SdpSession> {
    parse_sdp(&format!("{SESSION}{sections}"), false).ok()
}

/// Kept for it: `lines::Sdp`, which counts every section whatever it is of.
#[test]
fn webrtc_sdp_drops_sections_and_gives_their_attributes_away() {
    let room = "m=audio 4000 RTP/AVP 0\r\nm=application 4002 UDP/BFCP *\r\na=setup:active\r\n";
    let Some(read) = session(room) else { return };
    assert_eq!(read.media.len(), 1, "the floor's section is there");
}

/// Kept for it: nothing is ever written by it; `edit::rewrite` keeps lines as they are.
#[test]
fn webrtc_sdp_drops_attributes() {
    for line in [
        "a=content:slides",
        "a=floorctrl:c-only",
        "a=confid:1",
        "a=userid:2",
        "a=floorid:1 mstrm:2",
        "a=connection:new",
        "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj",
        "a=zrtp-hash:1.10 0123",
        "a=T38FaxVersion:0",
        "a=x-vendor:1",
    ] {
        let sections = format!("m=audio 4000 RTP/AVP 0\r\n{line}\r\n");
        let kept = session(&sections).is_some_and(|read| read.to_string().contains(line));
        assert!(!kept, "{line}");
    }
}

/// Kept for it: the same.
#[test]
fn webrtc_sdp_writes_formats_its_own_way() {
    let line = "fmtp:96 profile-level-id=42E01F;packetization-mode=0";
    let read = SdpAttribute::from_str(line);
    let same = read.is_ok_and(|attribute| attribute.to_string() == line);
    assert!(!same, "{line}");
}

/// Kept for it: `lines::Sdp::parse`, which refuses nothing that it need not understand.
#[test]
fn webrtc_sdp_refuses_what_rooms_send() {
    let audio = "m=audio 4000 RTP/AVP 0\r\n";
    assert!(session(audio).is_some());
    for odd in [
        "m=audio 4000 RTP/AVP 0\r\ny=0100000001\r\n",
        "m=audio 4000 RTP/AVP 0\r\nf=v/////a///\r\n",
        "k=clear:x\r\nm=audio 4000 RTP/AVP 0\r\n",
        "m=audio 4000 RTP/AVP 0\r\nc=IN IP4 192.0.2.1\r\nc=IN IP4 192.0.2.2\r\n",
        "m=audio 4000 RTP/AVP 0\r\nb=AS:4294967296\r\n",
        "a=rtcp:4001\r\nm=audio 4000 RTP/AVP 0\r\n",
        "m=audio 4000 TCP/RTP/AVP 0\r\n",
    ] {
        let whole = session(odd).is_some_and(|read| read.media.len() == 1);
        let same = whole && session(odd).unwrap().to_string().contains(odd);
        assert!(!same, "{odd}");
    }
    for origin in [
        "o=Polycom HDX 1 1 IN IP4 192.0.2.1",
        "o=- 18446744073709551617 1 IN IP4 192.0.2.1",
        "o= 1 1 IN IP4 192.0.2.1",
    ] {
        let body = SESSION.replace("o=- 1 1 IN IP4 192.0.2.1", origin);
        assert!(
            parse_sdp(&format!("{body}{audio}"), false).is_err(),
            "{origin}"
        );
    }
}

/// Kept for it: `understand::ATTRIBUTE_BYTES_MAX`, and that it sees single lines only.
#[test]
fn webrtc_sdp_takes_time_that_grows_with_the_square() {
    #[expect(clippy::disallowed_methods, reason = "compares two durations")]
    let cost = |lines: usize| {
        let body = format!(
            "m=audio 4000 RTP/AVP 0\r\n{}",
            "a=ssrc:1 cname:a\r\n".repeat(lines)
        );
        let tries = (0..3).map(|_| {
            let start = std::time::Instant::now();
            drop(session(&body));
            start.elapsed()
        });
        tries.min().unwrap()
    };
    let (few, many) = (cost(500), cost(8_000));
    assert!(many > few * 48, "{few:?} for 500 lines, {many:?} for 8,000");
}
