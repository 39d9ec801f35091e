//! The plays: name, versions of MQTT, script (`towpath_tests::mqtt::script`).

pub(crate) const CASES: &[(&str, &str, &str)] = &[
    // Connections.
    ("connect", "45", "a connect"),
    ("connect without an id", "45", "a connect id= clean=1"),
    (
        "connect without an id, to stay",
        "45",
        "a connect id= clean=0",
    ),
    ("a user nobody asked for", "45", "a connect user=u pass=p"),
    ("no keep alive", "45", "a connect keep=0"),
    ("a version there is not", "45", "a connect level=9 !"),
    ("the reserved flag", "45", "a connect flags=3 !"),
    ("a will flag without a will", "45", "a connect flags=34 !"),
    ("a will of QoS 3", "45", "a connect will=%/w,x,3,0"),
    ("a will for no topic", "45", "a connect will=%/+,x,0,0"),
    ("a password without a user", "4", "a connect pass=p"),
    (
        "a second connect",
        "45",
        "a connect\na raw 100c00044d5154540402003c0000!\na closed",
    ),
    ("good-bye", "45", "a connect\na disconnect"),
    (
        "good-bye with more behind it",
        "4",
        "a connect\na raw e00100!\na closed",
    ),
    ("an authentication method", "5", "a connect auth=SCRAM"),
    ("receive maximum zero", "5", "a connect rmax=0"),
    ("maximum packet size zero", "5", "a connect pmax=0"),
    (
        "auth out of the blue",
        "5",
        "a connect\na raw f000!\na closed",
    ),
    ("first a ping", "45", "a connect\na look"),
    ("keep alive runs out", "45", "a connect keep=1\na closed"),
    (
        "pings keep it alive",
        "45",
        "a connect keep=1\npause 800\na look\npause 800\na look\npause 800\na look",
    ),
    // Malformed packets.
    ("kind 0", "45", "a connect\na raw 0000!\na closed"),
    ("kind 15", "4", "a connect\na raw f000!\na closed"),
    (
        "a ping with flags",
        "45",
        "a connect\na raw c100!\na closed",
    ),
    (
        "a ping with a body",
        "45",
        "a connect\na raw c00100!\na closed",
    ),
    (
        "a length without end",
        "45",
        "a connect\na raw c0ffffffffff!\na closed",
    ),
    (
        "subscribe without its flag",
        "45",
        "a connect\na raw 80080001000361626300!\na closed",
    ),
    (
        "subscribe to nothing",
        "4",
        "a connect\na raw 82020001!\na closed",
    ),
    (
        "subscribe to nothing, 5",
        "5",
        "a connect\na raw 8203000100!\na closed",
    ),
    (
        "subscribe with identifier 0",
        "4",
        "a connect\na raw 82080000000361626300!\na closed",
    ),
    (
        "subscribe with QoS 3",
        "4",
        "a connect\na raw 82080001000361626303!\na closed",
    ),
    (
        "subscribe with QoS 3, 5",
        "5",
        "a connect\na raw 8209000100000361626303!\na closed",
    ),
    (
        "subscribe with reserved options",
        "4",
        "a connect\na raw 82080001000361626340!\na closed",
    ),
    (
        "subscribe with reserved options, 5",
        "5",
        "a connect\na raw 8209000100000361626340!\na closed",
    ),
    (
        "subscribe with retain handling 3",
        "5",
        "a connect\na raw 8209000100000361626330!\na closed",
    ),
    (
        "unsubscribe from nothing",
        "4",
        "a connect\na raw a2020001!\na closed",
    ),
    (
        "unsubscribe without its flag",
        "45",
        "a connect\na raw a00700010003616263!\na closed",
    ),
    (
        "publish with QoS 3",
        "45",
        "a connect\na raw 3607000161000178!\na closed",
    ),
    (
        "publish with identifier 0",
        "4",
        "a connect\na raw 320600016100007800!\na closed",
    ),
    (
        "publish without identifier",
        "4",
        "a connect\na raw 3203000161!\na closed",
    ),
    (
        "publish with half a topic",
        "45",
        "a connect\na raw 30030005616200!\na closed",
    ),
    (
        "publish of no UTF-8",
        "45",
        "a connect\na raw 30050003ff6162!\na closed",
    ),
    (
        "a connack from a client",
        "45",
        "a connect\na raw 20020000!\na closed",
    ),
    (
        "a suback from a client",
        "4",
        "a connect\na raw 9003000100!\na closed",
    ),
    (
        "a pingresp from a client",
        "45",
        "a connect\na raw d000!\na closed",
    ),
    (
        "an acknowledgement of nothing",
        "4",
        "a connect\na raw 40020001\na look",
    ),
    (
        "a release of nothing",
        "4",
        "a connect\na raw 62020001\na look",
    ),
    (
        "a property twice",
        "5",
        "a connect\na raw 300d000161050201020101020200000078!\na closed",
    ),
    (
        "a property of another packet",
        "5",
        "a connect\na raw 30090001610511000000ff!\na closed",
    ),
    (
        "an unknown property",
        "5",
        "a connect\na raw 3006000161027f00!\na closed",
    ),
    (
        "properties longer than the packet",
        "5",
        "a connect\na raw 3005000161ff01!\na closed",
    ),
    (
        "subscription identifier 0",
        "5",
        "a connect\na raw 820b0001020b000003616263 00!\na closed",
    ),
    // Topics and filters.
    (
        "publish to a filter",
        "45",
        "a connect\na pub %/+ x !\na closed",
    ),
    (
        "publish to a filter with #",
        "45",
        "a connect\na pub %/# x q=1 !\na closed",
    ),
    (
        "publish to no topic",
        "45",
        "a connect\na pub - x !\na closed",
    ),
    (
        "a filter with # inside",
        "45",
        "a connect\na sub %/#/x:0 !\na closed",
    ),
    (
        "a filter with # in a word",
        "45",
        "a connect\na sub %/x#:0 !\na closed",
    ),
    (
        "a filter with + in a word",
        "45",
        "a connect\na sub %/x+:0 !\na closed",
    ),
    (
        "one level",
        "45",
        "a connect\na sub %/+:1\na pub %/x 1 q=1\na pub %/x/y 2 q=1\na pub % 3 q=1",
    ),
    (
        "all levels",
        "45",
        "a connect\na sub %/#:1\na pub %/x 1 q=1\na pub %/x/y 2 q=1\na pub % 3 q=1",
    ),
    (
        "empty levels",
        "45",
        "a connect\na sub %/+/b:1\na pub %//b 1 q=1\na pub %/b 2 q=1",
    ),
    (
        "a slash at the end",
        "45",
        "a connect\na sub %/x/:1\na pub %/x 1 q=1\na pub %/x/ 2 q=1",
    ),
    (
        "+ and # together",
        "45",
        "a connect\na sub %/+/#:1\na pub %/x 1 q=1\na pub % 2 q=1\na pub %/x/y/z 3 q=1",
    ),
    (
        "case counts",
        "45",
        "a connect\na sub %/X:1\na pub %/x 1 q=1\na pub %/X 2 q=1",
    ),
    (
        "words beyond ASCII",
        "45",
        "a connect\na sub %/grün/+:1\na pub %/grün/π 1 q=1",
    ),
    (
        "reserved topics are not everybody's",
        "45",
        "a connect\na sub +/%:1\na pub $%/% 1 q=1\na sub $%/#:1\na pub $%/% 2 q=1",
    ),
    (
        "a filter of two words",
        "45",
        "a connect\na sub %/x:1 %/y:0\na pub %/x 1 q=1\na pub %/y 2 q=1",
    ),
    (
        "a shared subscription",
        "4",
        "a connect\na sub $share/g/%/x:1\na pub %/x 1 q=1",
    ),
    // Subscriptions.
    (
        "QoS 0 to 0",
        "45",
        "a connect\nb connect\nb sub %/x:0\na pub %/x 1",
    ),
    (
        "QoS 0 to 1",
        "45",
        "a connect\nb connect\nb sub %/x:1\na pub %/x 1",
    ),
    (
        "QoS 1 to 0",
        "45",
        "a connect\nb connect\nb sub %/x:0\na pub %/x 1 q=1",
    ),
    (
        "QoS 1 to 1",
        "45",
        "a connect\nb connect\nb sub %/x:1\na pub %/x 1 q=1",
    ),
    (
        "QoS 2 to 0",
        "45",
        "a connect\nb connect\nb sub %/x:0\na pub %/x 1 q=2",
    ),
    (
        "QoS 2 to 1",
        "45",
        "a connect\nb connect\nb sub %/x:1\na pub %/x 1 q=2",
    ),
    (
        "QoS 2 to 2",
        "45",
        "a connect\nb connect\nb sub %/x:2\na pub %/x 1 q=2",
    ),
    (
        "QoS 2 twice before its release",
        "45",
        "a connect\nb connect\nb sub %/x:1\na pub %/x 1 q=2 pkid=7 half\na pub %/x 1 q=2 pkid=7 dup half\na rel 7",
    ),
    (
        "QoS 2 again after its release",
        "45",
        "a connect\nb connect\nb sub %/x:1\na pub %/x 1 q=2 pkid=7\na pub %/x 2 q=2 pkid=7",
    ),
    (
        "to oneself",
        "45",
        "a connect\na sub %/x:1\na pub %/x 1 q=1",
    ),
    (
        "to two",
        "45",
        "a connect\nb connect\nc connect\nb sub %/x:1\nc sub %/+:0\na pub %/x 1 q=1",
    ),
    ("to nobody", "45", "a connect\na pub %/x 1 q=1"),
    (
        "to nobody any more",
        "45",
        "a connect\nb connect\nb sub %/x:1\nb disconnect\na pub %/x 1 q=1",
    ),
    (
        "unsubscribed",
        "45",
        "a connect\na sub %/x:1\na unsub %/x\na pub %/x 1 q=1",
    ),
    (
        "unsubscribed from one of two",
        "45",
        "a connect\na sub %/x:1 %/y:1\na unsub %/x\na pub %/x 1 q=1\na pub %/y 2 q=1",
    ),
    (
        "unsubscribed from what was not",
        "45",
        "a connect\na unsub %/x",
    ),
    (
        "subscribed anew with less",
        "45",
        "a connect\na sub %/x:1\na sub %/x:0\na pub %/x 1 q=1",
    ),
    (
        "a filter that is named otherwise stays",
        "45",
        "a connect\na sub %/+:1\na unsub %/x\na pub %/x 1 q=1",
    ),
    (
        "overlapping filters",
        "45",
        "a connect\na sub %/x:0\na sub %/+:1\na pub %/x 1 q=1",
    ),
    (
        "order",
        "45",
        "a connect\nb connect\nb sub %/#:1\na pub %/1 1 q=1\na pub %/2 2\na pub %/3 3 q=1\na pub %/1 4\na pub %/2 5 q=2",
    ),
    (
        "an empty payload",
        "45",
        "a connect\na sub %/x:1\na pub %/x - q=1",
    ),
    (
        "sixty thousand bytes",
        "45",
        "a connect\na sub %/x:1\na pub %/x x q=1 size=60000",
    ),
    (
        "more than a packet may have",
        "45",
        "a connect\na pub %/x x q=1 size=70000 !\na closed",
    ),
    (
        "three filters and all their codes",
        "45",
        "a connect\na sub %/x:0 %/y:1 %/z:1",
    ),
    (
        "the same filter twice",
        "45",
        "a connect\na sub %/x:1 %/x:0\na pub %/x 1 q=1",
    ),
    // Retained messages.
    (
        "retained",
        "45",
        "a connect\na pub %/x 1 q=1 r\nb connect\nb sub %/x:1\na pub %/x - q=1 r",
    ),
    (
        "retained of QoS 0",
        "45",
        "a connect\na pub %/x 1 r\nb connect\nb sub %/x:1\na pub %/x - q=1 r",
    ),
    (
        "retained for QoS 0",
        "45",
        "a connect\na pub %/x 1 q=1 r\nb connect\nb sub %/x:0\na pub %/x - q=1 r",
    ),
    (
        "retained and replaced",
        "45",
        "a connect\na pub %/x 1 q=1 r\na pub %/x 2 q=1 r\nb connect\nb sub %/x:1\na pub %/x - q=1 r",
    ),
    (
        "retained and forgotten",
        "45",
        "a connect\na pub %/x 1 q=1 r\na pub %/x - q=1 r\nb connect\nb sub %/x:1",
    ),
    (
        "what is not retained replaces nothing",
        "45",
        "a connect\na pub %/x 1 q=1 r\na pub %/x 2 q=1\nb connect\nb sub %/x:1\na pub %/x - q=1 r",
    ),
    (
        "retained is live for who is there",
        "45",
        "a connect\nb connect\nb sub %/x:1\na pub %/x 1 q=1 r\na pub %/x - q=1 r",
    ),
    (
        "retained for a filter of one level",
        "45",
        "a connect\na pub %/x 1 q=1 r\nb connect\nb sub %/+:1\na pub %/x - q=1 r",
    ),
    (
        "retained for a filter of all",
        "45",
        "a connect\na pub %/x/y 1 q=1 r\nb connect\nb sub %/#:1\na pub %/x/y - q=1 r",
    ),
    (
        "retained, and subscribed twice",
        "45",
        "a connect\na pub %/x 1 q=1 r\nb connect\nb sub %/x:1\nb sub %/x:1\na pub %/x - q=1 r",
    ),
    (
        "retained reserved topics",
        "45",
        "a connect\na pub $%/x 1 q=1 r\nb connect\nb sub +/x:1\na pub $%/x - q=1 r",
    ),
    (
        "retained outlives its sender",
        "45",
        "a connect\na pub %/x 1 q=1 r\na disconnect\nb connect\nb sub %/x:1\nb pub %/x - q=1 r",
    ),
    (
        "retain as published",
        "5",
        "a connect\nb connect\nb sub %/x:1 rap\na pub %/x 1 q=1 r\na pub %/x 2 q=1\na pub %/x - q=1 r",
    ),
    (
        "retain handling 1, new",
        "5",
        "a connect\na pub %/x 1 q=1 r\nb connect\nb sub %/x:1 rh=1\na pub %/x - q=1 r",
    ),
    (
        "retain handling 1, known",
        "5",
        "a connect\na pub %/x 1 q=1 r\nb connect\nb sub %/x:1 rh=1\nb sub %/x:1 rh=1\na pub %/x - q=1 r",
    ),
    (
        "retain handling 2",
        "5",
        "a connect\na pub %/x 1 q=1 r\nb connect\nb sub %/x:1 rh=2\na pub %/x - q=1 r",
    ),
    (
        "retained until it expires",
        "5",
        "a connect\na pub %/x 1 q=1 r expiry=1\npause 2100\nb connect\nb sub %/x:1",
    ),
    (
        "retained with properties",
        "5",
        "a connect\na pub %/x 1 q=1 r type=t user=k:v\nb connect\nb sub %/x:1\na pub %/x - q=1 r",
    ),
    // Sessions.
    (
        "a clean session forgets",
        "45",
        "a connect clean=1\na sub %/x:1\na disconnect\nb connect\nb pub %/x 1 q=1\na connect clean=1\na look",
    ),
    (
        "a session waits",
        "4",
        "a connect clean=0\na sub %/x:1\na disconnect\nb connect\nb pub %/x 1 q=1\nb pub %/x 2 q=1\na connect clean=0\na pub %/y 3\na connect clean=1",
    ),
    (
        "a session waits, 5",
        "5",
        "a connect expiry=60\na sub %/x:1\na disconnect\nb connect\nb pub %/x 1 q=1\na connect clean=0 expiry=60\na connect clean=1",
    ),
    (
        "a session waits after a drop",
        "4",
        "a connect clean=0\na sub %/x:1\na drop\nb connect\nb pub %/x 1 q=1\na connect clean=0\na connect clean=1",
    ),
    (
        "QoS 0 does not wait",
        "4",
        "a connect clean=0\na sub %/x:1\na disconnect\nb connect\nb pub %/x 1\na connect clean=0\na connect clean=1",
    ),
    (
        "a clean start forgets",
        "45",
        "a connect clean=0 expiry=60\na sub %/x:1\na disconnect\na connect clean=1 expiry=60\nb connect\nb pub %/x 1 q=1",
    ),
    (
        "a session without expiry ends",
        "5",
        "a connect clean=1\na sub %/x:1\na disconnect\na connect clean=0",
    ),
    (
        "a session ends in time",
        "5",
        "a connect expiry=1\na sub %/x:1\na disconnect\npause 2500\na connect clean=0",
    ),
    (
        "expiry said at the end",
        "5",
        "a connect expiry=60\na sub %/x:1\na disconnect expiry=0\na connect clean=0",
    ),
    (
        "expiry said too late",
        "5",
        "a connect\na disconnect expiry=60",
    ),
    (
        "what was not acknowledged comes again",
        "4",
        "a connect clean=0\na sub %/x:1\na hold\nb connect\nb pub %/x 1 q=1\nb pub %/x 2 q=1\na drop\na connect clean=0\na connect clean=1",
    ),
    (
        "what was acknowledged does not",
        "4",
        "a connect clean=0\na sub %/x:1\nb connect\nb pub %/x 1 q=1\na drop\na connect clean=0\na connect clean=1",
    ),
    (
        "unsubscribed in one life, so in the next",
        "4",
        "a connect clean=0\na sub %/x:1\na unsub %/x\na disconnect\na connect clean=0\nb connect\nb pub %/x 1 q=1\na connect clean=1",
    ),
    (
        "subscriptions stay",
        "4",
        "a connect clean=0\na sub %/x:1\na disconnect\na connect clean=0\nb connect\nb pub %/x 1 q=1\na connect clean=1",
    ),
    // Takeover.
    (
        "the newer connection counts",
        "45",
        "a connect id=%t\nb connect id=%t\nb look",
    ),
    (
        "a session is taken over",
        "4",
        "a connect id=%t clean=0\na sub %/x:1\nb connect id=%t clean=0\nc connect\nc pub %/x 1 q=1\nb connect id=%t clean=1",
    ),
    (
        "a session is taken over, 5",
        "5",
        "a connect id=%t expiry=60\na sub %/x:1\nb connect id=%t clean=0 expiry=60\nc connect\nc pub %/x 1 q=1\nb disconnect expiry=0",
    ),
    (
        "a clean takeover",
        "45",
        "a connect id=%t clean=0 expiry=60\na sub %/x:1\nb connect id=%t clean=1\nc connect\nc pub %/x 1 q=1",
    ),
    (
        "takeover of what was in flight",
        "4",
        "a connect id=%t clean=0\na sub %/x:1\na hold\nc connect\nc pub %/x 1 q=1\nb connect id=%t clean=0\nb connect id=%t clean=1",
    ),
    (
        "the will of who was taken over",
        "45",
        "b connect\nb sub %/w:1\na connect id=%t will=%/w,gone,1,0\nc connect id=%t\nb look",
    ),
    // Wills.
    (
        "a will",
        "45",
        "b connect\nb sub %/w:1\na connect will=%/w,gone,1,0\na drop\nb await gone",
    ),
    (
        "a will of QoS 0",
        "45",
        "b connect\nb sub %/w:1\na connect will=%/w,gone,0,0\na drop\nb await gone",
    ),
    (
        "a retained will",
        "45",
        "b connect\nb sub %/w:1\na connect will=%/w,gone,1,1\na drop\nb await gone\nc connect\nc sub %/w:1\nc pub %/w - r q=1",
    ),
    (
        "no will after good-bye",
        "45",
        "b connect\nb sub %/w:1\na connect will=%/w,gone,1,0\na disconnect\nb look",
    ),
    (
        "a will after good-bye with it",
        "5",
        "b connect\nb sub %/w:1\na connect will=%/w,gone,1,0\na disconnect code=4\nb look",
    ),
    (
        "a will after silence",
        "45",
        "b connect\nb sub %/w:1\na connect keep=1 will=%/w,gone,1,0\nb await gone",
    ),
    (
        "a will after a malformed packet",
        "45",
        "b connect\nb sub %/w:1\na connect will=%/w,gone,1,0\na raw 0000!\na closed\nb look",
    ),
    (
        "a will that waits",
        "5",
        "b connect\nb sub %/w:1\na connect expiry=60 delay=1 will=%/w,gone,1,0\na drop\nb await gone\na connect clean=1",
    ),
    (
        "a will that waits no longer than its session",
        "5",
        "b connect\nb sub %/w:1\na connect expiry=1 delay=9 will=%/w,gone,1,0\na drop\nb await gone",
    ),
    (
        "a will without a session waits for nothing",
        "5",
        "b connect\nb sub %/w:1\na connect delay=9 will=%/w,gone,1,0\na drop\nb await gone",
    ),
    (
        "back in time: no will",
        "5",
        "b connect\nb sub %/w:1\na connect expiry=60 delay=2 will=%/w,gone,1,0\na drop\na connect clean=0 expiry=60\npause 2600\nb look\na disconnect expiry=0",
    ),
    (
        "a will to oneself",
        "45",
        "a connect will=%/w,gone,1,0\na sub %/w:1\na drop\nb connect",
    ),
    (
        "a will with a life of its own",
        "5",
        "b connect\nb sub %/w:1\na connect will=%/w,gone,1,0 wexpiry=99\na drop\nb await gone",
    ),
    // No local, identifiers, limits and other things of version 5.
    (
        "no local",
        "5",
        "a connect\nb connect\na sub %/x:1 nl\na pub %/x 1 q=1\nb pub %/x 2 q=1",
    ),
    (
        "no local on one of two filters",
        "5",
        "a connect\na sub %/x:1 nl\na sub %/y:1\na pub %/x 1 q=1\na pub %/y 2 q=1",
    ),
    (
        "no local knows retained",
        "5",
        "a connect\na pub %/x 1 q=1 r\na sub %/x:1 nl\na pub %/x - q=1 r",
    ),
    (
        "no local for another session of one name",
        "5",
        "a connect\na sub %/x:1 nl\na disconnect\na connect\na sub %/x:1\na pub %/x 1 q=1",
    ),
    (
        "a subscription identifier",
        "5",
        "a connect\na sub %/x:1 id=7\na pub %/x 1 q=1",
    ),
    (
        "a large subscription identifier",
        "5",
        "a connect\na sub %/x:1 id=268435455\na pub %/x 1 q=1",
    ),
    (
        "a subscription identifier is replaced",
        "5",
        "a connect\na sub %/x:1 id=7\na sub %/x:1 id=8\na pub %/x 1 q=1",
    ),
    (
        "a subscription identifier is taken back",
        "5",
        "a connect\na sub %/x:1 id=7\na sub %/x:1\na pub %/x 1 q=1",
    ),
    (
        "a subscription identifier of retained",
        "5",
        "a connect\na pub %/x 1 q=1 r\na sub %/x:1 id=7\na pub %/x - q=1 r",
    ),
    (
        "a subscription identifier from a client",
        "5",
        "a connect\na pub %/x 1 q=1 id=7 !\na closed",
    ),
    (
        "properties cross",
        "5",
        "a connect\na sub %/x:1\na pub %/x 1 q=1 utf8 type=t response=%/r correlation=c user=k:v",
    ),
    (
        "properties cross to 3.1.1 not at all",
        "4",
        "a connect\na sub %/x:1\na pub %/x 1 q=1",
    ),
    (
        "expiry counts down",
        "5",
        "a connect\nb connect\nb sub %/x:1\na pub %/x 1 q=1 expiry=500",
    ),
    (
        "what waits expires",
        "5",
        "a connect expiry=60\na sub %/x:1\na disconnect\nb connect\nb pub %/x 1 q=1 expiry=1\nb pub %/x 2 q=1 expiry=500\npause 2100\na connect clean=1\na look",
    ),
    (
        "what waits expires, and the rest comes",
        "5",
        "a connect expiry=60\na sub %/x:1\na disconnect\nb connect\nb pub %/x 1 q=1 expiry=1\nb pub %/x 2 q=1\npause 2100\na connect clean=0 expiry=60\na disconnect expiry=0",
    ),
    (
        "an alias",
        "5",
        "a connect\na sub %/x:1\na pub %/x 1 q=1 alias=1\na pub - 2 q=1 alias=1",
    ),
    (
        "an alias is moved",
        "5",
        "a connect\na sub %/#:1\na pub %/x 1 q=1 alias=1\na pub %/y 2 q=1 alias=1\na pub - 3 q=1 alias=1",
    ),
    (
        "an alias nobody knows",
        "5",
        "a connect\na pub - 1 q=1 alias=1 !\na closed",
    ),
    (
        "alias 0",
        "5",
        "a connect\na pub %/x 1 q=1 alias=0 !\na closed",
    ),
    (
        "an alias beyond the maximum",
        "5",
        "a connect\na pub %/x 1 q=1 alias=60000 !\na closed",
    ),
    (
        "an alias ends with its connection",
        "5",
        "a connect expiry=60\na pub %/x 1 q=1 alias=1\na disconnect\na connect clean=0 expiry=0\na pub - 2 q=1 alias=1 !\na closed",
    ),
    (
        "receive maximum 1",
        "5",
        "a connect rmax=1\na sub %/x:1\na hold\nb connect\nb pub %/x 1 q=1\nb pub %/x 2 q=1\nb pub %/x 3 q=1\na ack",
    ),
    (
        "receive maximum and QoS 0 behind",
        "5",
        "a connect rmax=1\na sub %/x:1\na hold\nb connect\nb pub %/x 1 q=1\nb pub %/x 2 q=1\na ack",
    ),
    (
        "packets larger than it takes",
        "5",
        "a connect pmax=100\na sub %/x:1\nb connect\nb pub %/x x q=1 size=200\nb pub %/x 2 q=1",
    ),
    (
        "a response topic with wildcards",
        "5",
        "a connect\na pub %/x 1 q=1 response=%/+ !\na closed",
    ),
    (
        "a reason with good-bye",
        "5",
        "a connect\na disconnect code=0",
    ),
    (
        "good-bye with an error",
        "5",
        "b connect\nb sub %/w:1\na connect will=%/w,gone,1,0\na disconnect code=128\nb look",
    ),
];

/// Where our edge and mosquitto 2.0.11 are not the same, and why ours is as it is.
pub(crate) const DIFFERENCES: &[(&str, &str, &str)] = &[
    (
        "a second connect",
        "5",
        "the client is told why it ends (MQTT 5 §4.13)",
    ),
    (
        "auth out of the blue",
        "5",
        "the client is told why it ends (§4.13)",
    ),
    (
        "a connack from a client",
        "5",
        "the client is told why it ends (§4.13)",
    ),
    (
        "a length without end",
        "5",
        "the client is told why it ends (§4.13)",
    ),
    (
        "keep alive runs out",
        "5",
        "the client is told why it ends (§3.1.2.10)",
    ),
    (
        "the newer connection counts",
        "5",
        "the older one is told 0x8E (§3.1.4)",
    ),
    (
        "a session is taken over, 5",
        "5",
        "the older one is told 0x8E (§3.1.4)",
    ),
    (
        "a clean takeover",
        "5",
        "the older one is told 0x8E (§3.1.4)",
    ),
    (
        "the will of who was taken over",
        "5",
        "the older one is told 0x8E (§3.1.4)",
    ),
    (
        "kind 0",
        "5",
        "what cannot be parsed is malformed, 0x81 (§4.13.1)",
    ),
    (
        "a will after a malformed packet",
        "5",
        "what cannot be parsed is malformed, 0x81 (§4.13.1)",
    ),
    (
        "subscribe to nothing, 5",
        "5",
        "no filter is a protocol error, 0x82 (§3.8.3)",
    ),
    (
        "publish to a filter",
        "5",
        "0x90, topic name invalid, says more than 0x82 (§3.3.2.1)",
    ),
    (
        "publish to a filter with #",
        "5",
        "0x90, topic name invalid, says more than 0x82 (§3.3.2.1)",
    ),
    (
        "publish to no topic",
        "5",
        "0x90, topic name invalid, says more than 0x82 (§3.3.2.1)",
    ),
    ("alias 0", "5", "0x94, topic alias invalid (§3.3.2.3.4)"),
    (
        "a ping with flags",
        "45",
        "reserved flags are malformed (§2.1.3)",
    ),
    ("a ping with a body", "45", "a PINGREQ has none (§3.12)"),
    (
        "a pingresp from a client",
        "45",
        "a client does not send it: a protocol error",
    ),
    (
        "a suback from a client",
        "4",
        "a client does not send it: a protocol error",
    ),
    (
        "reserved topics are not everybody's",
        "45",
        "topics that begin with $ are nobody's here",
    ),
    (
        "retained reserved topics",
        "5",
        "topics that begin with $ are nobody's here",
    ),
    (
        "a shared subscription",
        "4",
        "there are none; each client sees every message",
    ),
    (
        "QoS 2 to 2",
        "45",
        "QoS 2 is granted as 1: commands carry ids, a repetition is harmless",
    ),
    (
        "QoS 2 twice before its release",
        "45",
        "passed on when it comes, not when it is released: once all the same (§4.3.3)",
    ),
    (
        "overlapping filters",
        "45",
        "one copy with the highest QoS (§3.3.4), not one for each filter",
    ),
    (
        "a filter with # inside",
        "45",
        "refused in the SUBACK (§3.9.3); other filters beside it count",
    ),
    (
        "a filter with # in a word",
        "45",
        "refused in the SUBACK (§3.9.3); other filters beside it count",
    ),
    (
        "a filter with + in a word",
        "45",
        "refused in the SUBACK (§3.9.3); other filters beside it count",
    ),
    (
        "good-bye with an error",
        "5",
        "only reason 0 takes the will back (§3.14.4)",
    ),
    (
        "a subscription identifier from a client",
        "5",
        "a protocol error (§3.3.4)",
    ),
    (
        "a response topic with wildcards",
        "5",
        "a protocol error (§3.3.2.3.5)",
    ),
];
