use bytes::Bytes;

use crate::engine::trace::redact::{Names, plain, secrets_out};

const INVITE: &str = "INVITE sip:1002:pin@example.com;user=phone SIP/2.0
Via: SIP/2.0/UDP 10.0.0.5;branch=z9hG4bK1
From: \"Ann Other, x\" <sip:1001@example.com>;tag=1001
To: Bob <sip:1002@example.com>
Contact: <sip:1001@10.0.0.5>, \"A, b\" <tel:+4930123;phone-context=x>
Call-ID: 1001-abc
CSeq: 1001 INVITE
Authorization: Digest username=\"1001\", realm=\"e\", nonce=\"n\", uri=\"sip:1002@e\",
 cnonce=\"c0ffee\" , response=\"0123456789abcdef\", qop=auth
X-Caller: 1001 of 10010
X-Auth-Token: abc
Content-Type: application/sdp
Content-Length: 1001

v=0
o=1001 1 1 IN IP4 10.0.0.5
s=Ann's call
m=audio 1001 RTP/SAVP 0
a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj
a=ice-pwd:asd88fgpdd777uzjYhagZg
a=ssrc:1 cname:ann@pc
";

const SECRETS_OUT: &str = "INVITE sip:1002:***@example.com;user=phone SIP/2.0
Via: SIP/2.0/UDP 10.0.0.5;branch=z9hG4bK1
From: \"Ann Other, x\" <sip:1001@example.com>;tag=1001
To: Bob <sip:1002@example.com>
Contact: <sip:1001@10.0.0.5>, \"A, b\" <tel:+4930123;phone-context=x>
Call-ID: 1001-abc
CSeq: 1001 INVITE
Authorization: Digest username=\"1001\", realm=\"e\", nonce=\"n\", uri=\"sip:1002@e\",
 cnonce=\"******\" , response=\"****************\", qop=auth
X-Caller: 1001 of 10010
X-Auth-Token:****
Content-Type: application/sdp
Content-Length: 1001

v=0
o=1001 1 1 IN IP4 10.0.0.5
s=Ann's call
m=audio 1001 RTP/SAVP 0
a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:****************************************
a=ice-pwd:**********************
a=ssrc:1 cname:ann@pc
";

const NAMES_OUT: &str = "INVITE sip:user1@example.com;user=phone SIP/2.0
Via: SIP/2.0/UDP 10.0.0.5;branch=z9hG4bK1
From: \"…\" <sip:user2@example.com>;tag=user2
To: \"…\" <sip:user1@example.com>
Contact: <sip:user2@10.0.0.5>, \"…\" <tel:user3;phone-context=x>
Call-ID: 1001-abc
CSeq: 1001 INVITE
Authorization: Digest username=\"user2\", realm=\"e\", nonce=\"n\", uri=\"sip:user1@e\",
 cnonce=\"******\" , response=\"****************\", qop=auth
X-Caller: user2 of 10010
X-Auth-Token:****
Content-Type: application/sdp
Content-Length: 1001

v=0
o=user2 1 1 IN IP4 10.0.0.5
s=…
m=audio 1001 RTP/SAVP 0
a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:****************************************
a=ice-pwd:**********************
a=ssrc:1 cname:…
";

fn wire(text: &str) -> Bytes {
    Bytes::from(text.replace('\n', "\r\n"))
}

fn hidden(bytes: &Bytes) -> String {
    plain(&Names::default().hide(&secrets_out(bytes)))
}

#[test]
fn secrets_are_written_over_and_nothing_else_changes() {
    let found = secrets_out(&wire(INVITE));
    assert_eq!(plain(std::str::from_utf8(&found).unwrap()), SECRETS_OUT);
    assert_eq!(found.len(), wire(INVITE).len());
    let harmless = wire("BYE sip:1001@example.com SIP/2.0\nCall-ID: x\n\n");
    let same = secrets_out(&harmless);
    assert_eq!(same.as_ptr(), harmless.as_ptr(), "it is not copied");
}

#[test]
fn names_become_others_the_same_each_time() {
    let found = hidden(&wire(INVITE));
    assert_eq!(found, NAMES_OUT, "\n{found}");
}

#[track_caller]
fn check(line: &str, secrets: &str, names: &str) {
    let message = wire(&format!("OPTIONS sip:e.com SIP/2.0\n{line}\n\n"));
    let line = |text: &str| {
        let lines: Vec<&str> = text
            .lines()
            .skip(1)
            .take_while(|line| !line.is_empty())
            .collect();
        lines.join("\n")
    };
    let found = secrets_out(&message);
    assert_eq!(line(&plain(&String::from_utf8_lossy(&found))), secrets);
    assert_eq!(line(&hidden(&message)), names);
}

#[test]
fn headers_of_every_form() {
    check(
        "Proxy-Authorization:Bearer abc.def",
        "Proxy-Authorization:**************",
        "Proxy-Authorization:**************",
    );
    check(
        "authorization : Digest RESPONSE = \"x,y\",username=bob",
        "authorization : Digest RESPONSE = \"***\",username=bob",
        "authorization : Digest RESPONSE = \"***\",username=user1",
    );
    check(
        "Authentication-Info: rspauth=\"abc\", nextnonce=\"n\"",
        "Authentication-Info: rspauth=\"***\", nextnonce=\"n\"",
        "Authentication-Info: rspauth=\"***\", nextnonce=\"n\"",
    );
    check(
        "f: sip:1001@e.com;tag=1",
        "f: sip:1001@e.com;tag=1",
        "f: sip:user1@e.com;tag=1",
    );
    check(
        "P-Asserted-Identity: \"N\" <sip:+4930@e.com>, <tel:+4930>",
        "P-Asserted-Identity: \"N\" <sip:+4930@e.com>, <tel:+4930>",
        "P-Asserted-Identity: \"…\" <sip:user1@e.com>, <tel:user1>",
    );
    check(
        "Refer-To: <sips:a:b@e.com?Replaces=1%401>",
        "Refer-To: <sips:a:*@e.com?Replaces=1%401>",
        "Refer-To: <sips:user1@e.com?Replaces=1%401>",
    );
    check(
        "Route: <sip:e.com;lr>",
        "Route: <sip:e.com;lr>",
        "Route: <sip:e.com;lr>",
    );
    check(
        "Subject: \u{1b}[2J",
        "Subject: \u{fffd}[2J",
        "Subject: \u{fffd}[2J",
    );
}

#[test]
fn bodies_are_shown_only_where_they_say_nothing() {
    let tones = wire(
        "INFO sip:e.com SIP/2.0\nContent-Type: application/dtmf-relay\n\nSignal=5\nDuration=160\n",
    );
    let found = secrets_out(&tones);
    assert!(!String::from_utf8_lossy(&found).contains("Signal"), "never");
    let text = wire("MESSAGE sip:e.com SIP/2.0\nContent-Type: text/plain;x=y\n\nhello\nyou\n");
    assert_eq!(secrets_out(&text), text);
    let shown = hidden(&text);
    assert!(!shown.contains("hello"), "{shown}");
    assert!(
        shown.ends_with("\n\n[8 octets, text/plain, are not shown]\n"),
        "{shown}"
    );
}

#[test]
fn whatever_comes_is_shown() {
    for odd in [
        &b""[..],
        b"\r\n\r\n",
        b"\xff\xfe: \xff\r\n",
        b"x\n\n\n",
        b":\n:\n",
        b"sip:@",
    ] {
        hidden(&Bytes::copy_from_slice(odd));
    }
}
