//! Whole bodies, byte for byte: what the room, the fax, the camera and the browser said comes
//! through but for addresses and ports. Offers from outside, as the inside is told them.

use super::*;

#[test]
fn bodies_cross() {
    check(
        "a fax (RFC 3362)",
        &body(
            "m=image 4000 udptl t38|a=T38FaxVersion:0|a=T38FaxUdpEC:t38UDPRedundancy|a=T38MaxBitRate:14400",
        ),
        &[("image 4000 ", "image 30000 ")],
    );
    check(
        "rejected lines keep their place and their address is ours",
        &body(
            "m=audio 0 RTP/AVP 0|c=IN IP4 192.168.1.9|a=x|m=video 4002 RTP/AVP 96|m=audio 0 RTP/AVP 8",
        ),
        &[("192.168.1.9", "10.1.0.1"), ("video 4002", "video 30000")],
    );
    check(
        "two videos, and floor control for the second",
        &body(
            "m=video 4000 RTP/AVP 96|a=rtpmap:96 H264/90000|a=content:main|a=label:1|\
             m=video 4002 RTP/AVP 97|a=rtpmap:97 H264/90000|a=content:slides|a=label:2|\
             m=application 4004 UDP/BFCP *|a=floorctrl:c-s|a=confid:1|a=userid:7|\
             a=floorid:1 mstrm:2|a=bfcpver:1|a=setup:actpass|a=connection:new",
        ),
        &[
            ("video 4000", "video 30000"),
            ("video 4002", "video 30002"),
            ("application 4004", "application 30004"),
        ],
    );
    check(
        "a far-end camera",
        &body("m=application 4000 RTP/AVP 100|a=rtpmap:100 H224/4800|a=sendrecv"),
        &[("application 4000", "application 30000")],
    );
    check(
        "an RTCP port of its own, and a host name for it",
        &body(
            "m=audio 4000 RTP/AVP 0|a=rtcp:53020|m=video 4002 RTP/AVP 96|a=rtcp:7 IN IP4 h.example",
        ),
        &[
            ("audio 4000", "audio 30000"),
            ("rtcp:53020", "rtcp:30001"),
            ("video 4002", "video 30002"),
            ("rtcp:7 IN IP4 h.example", "rtcp:30003 IN IP4 10.1.0.1"),
        ],
    );
    check(
        "layers on further ports are not offered",
        &body("m=video 4000/3 RTP/AVP 31|a=x|m=audio 4008/1 RTP/AVP 0"),
        &[("4000/3", "30000"), ("4008/1", "30002/1")],
    );
    check(
        "keys, fingerprints and roles",
        &body(
            "a=fingerprint:sha-256 AA:BB|a=setup:actpass|m=audio 4000 RTP/SAVP 0|\
             a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:abc|a=zrtp-hash:1.10 fe|\
             m=video 4002 UDP/TLS/RTP/SAVPF 96|a=rtcp-mux|a=tls-id:1|a=dtls-id:2",
        ),
        &[("audio 4000", "audio 30000"), ("video 4002", "video 30002")],
    );
    check(
        "feedback, bandwidth, groups, simulcast, what nobody knows",
        &body(
            "b=CT:2048|a=group:BUNDLE a v|a=msid-semantic: WMS *|m=video 4000 RTP/AVPF 96 97|b=AS:1|\
             b=TIAS:1000|k=clear:x|a=rtcp-fb:* ccm fir|a=rtcp-fb:96 nack pli|a=rtcp-rsize|\
             a=extmap:1 urn:x|a=imageattr:96 send [x=1]|a=rid:1 send|a=simulcast:send 1|\
             a=fmtp:96 profile-level-id=42E01F;packetization-mode=0; sprop=A==,B==|a= |a=|q=?|=",
        ),
        &[("video 4000", "video 30000")],
    );
    check(
        "a name in Latin-1, blanks at the ends, a blank line, no end at the end",
        b"v=0\r\no=J\xfcrgen \xe9 1 2 IN IP4 192.168.1.10 \r\ns=Caf\xe9\xff\r\nc=IN IP4 192.168.1.10\t\r\n\
          \r\nm=audio 4000 RTP/AVP 0 \r\na=x\xfe",
        &[("audio 4000", "audio 30000")],
    );
    check(
        "bare line feeds",
        b"v=0\no=- 1 2 IN IP4 192.168.1.10\nc=IN IP4 192.168.1.10\nm=audio 4000 RTP/AVP 0\n",
        &[("audio 4000", "audio 30000")],
    );
    check(
        "a recorder's stream (GB/T 28181)",
        &body(
            "u=34020000001320000001:0|m=video 4000 TCP/RTP/AVP 96|a=setup:passive|y=0100000001|f=v/2/4///a///",
        ),
        &[("video 4000", "video 30000")],
    );
    check(
        "multicast is not ours",
        &body("m=audio 4000 RTP/AVP 0|c=IN IP4 224.2.1.1/127|a=rtcp:4007"),
        &[],
    );

    /// Beside what is listed, the party's own address becomes ours.
    fn check(name: &str, body: &[u8], changes: &[(&str, &str)]) {
        let mut expected = latin1(body).replace("192.168.1.10", "10.1.0.1");
        for (from, to) in changes {
            assert_eq!(expected.matches(from).count(), 1, "{name}: {from}");
            expected = expected.replace(from, to);
        }
        let mut world = World::new(natted(), honest(INSIDE));
        let out = world.offer_bytes(Side::A, body).unwrap();
        assert_eq!(latin1(&out), expected, "{name}");
        // A second time, as in a re-INVITE: the same.
        let again = world.offer_bytes(Side::A, body).unwrap();
        assert_eq!(again, out, "{name}");
        world.close();
    }

    fn body(lines: &str) -> Vec<u8> {
        let head = "v=0|o=- 20 3 IN IP4 192.168.1.10|s=-|c=IN IP4 192.168.1.10|t=0 0";
        let all = format!("{head}|{lines}|");
        all.replace('|', "\r\n").into_bytes()
    }
}

/// A line is taken away, and its place taken by another kind of media.
#[test]
fn a_recycled_line() {
    let mut world = established();
    let with = |media: &str| format!("{}{media}", own::audio(BARESIP_OFFER));
    let answer = |media: &str| format!("{}{media}", own::audio(LINPHONE_ANSWER));
    let video = "m=video 22842 RTP/AVP 96\r\n";
    world.offer(Side::A, &with(video)).unwrap();
    world.answer(Side::B, &answer(video)).unwrap();
    let gone = "m=video 0 RTP/AVP 96\r\n";
    assert!(world.offer(Side::A, &with(gone)).unwrap().ends_with(gone));
    assert!(
        world
            .answer(Side::B, &answer(gone))
            .unwrap()
            .ends_with(gone)
    );
    assert_eq!(world.sockets.len(), 4);
    let floor = "m=application 5070 UDP/BFCP *\r\na=floorctrl:c-only\r\n";
    let told = world.offer(Side::A, &with(floor)).unwrap();
    // The first ports rest.
    assert!(told.ends_with(&floor.replace("5070", "30006")), "{told}");
    let told = world.answer(Side::B, &answer(floor)).unwrap();
    assert!(told.ends_with(&floor.replace("5070", "20006")), "{told}");
    let kinds: Vec<_> = world
        .session
        .streams()
        .into_iter()
        .map(|s| s.kind)
        .collect();
    assert_eq!(kinds, ["audio", "application"]);
    world.close();
}
