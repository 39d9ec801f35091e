use super::*;

const CID: &str = "core-01~01k";
const ID: Id = Id {
    boot: 0xab,
    number: 7,
};

fn octets_of(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn change() -> Change {
    let document = |part: &str, payload: &str| Document {
        part: part.to_owned(),
        payload: octets_of(payload),
    };
    Change {
        mark: Mark {
            epoch: 7,
            rev: 43,
            seq: 1031,
        },
        documents: vec![
            document("evt", r#"{"z": 1,  "a":[1.50]}"#),
            document("roster/p1", ""),
        ],
    }
}

/// A frame is written so, and read back.
fn check(body: Body, expected: &str) {
    let frame = Frame {
        id: ID,
        path: vec!["edge-01".to_owned()],
        body,
    };
    let text = encode(&frame).unwrap();
    let head = r#"{"v":1,"type":"#;
    assert_eq!(
        std::str::from_utf8(&text).unwrap(),
        format!("{head}{expected}")
    );
    assert_eq!(decode(&text), Ok(frame));
}

#[test]
fn frames_are_read_as_they_are_written() {
    let (cid, to, re) = (CID.to_owned(), "edge-01".to_owned(), ID);
    let head = r#""id":"00000000000000ab-7","path":["edge-01"],"data":{"cid":"core-01~01k""#;
    let at = r#""at":{"epoch":7,"rev":43,"seq":1031}"#;
    let docs = r#""docs":[{"part":"evt","msg":{"z": 1,  "a":[1.50]}},{"part":"roster/p1"}]"#;
    let mark = change().mark;
    check(
        Body::Members {
            cid: cid.clone(),
            version: mark,
            members: vec!["edge-01".to_owned()],
        },
        &format!(r#""x.members",{head},"members":["edge-01"],{at}}}}}"#),
    );
    check(
        Body::Change {
            cid: cid.clone(),
            change: change(),
        },
        &format!(r#""x.forward",{head},"kind":"evt",{at},{docs}}}}}"#),
    );
    check(
        Body::Command {
            cid: cid.clone(),
            document: octets_of(r#"{"type": "floor.request"}"#),
        },
        &format!(r#""x.forward",{head},"kind":"cmd","msg":{{"type": "floor.request"}}}}}}"#),
    );
    let names = r#""to":"edge-01","re":"00000000000000ab-7""#;
    check(
        Body::Answer {
            cid: cid.clone(),
            to: to.clone(),
            re,
            document: octets_of("{}"),
        },
        &format!(r#""x.forward",{head},"kind":"rsp",{names},"msg":{{}}}}}}"#),
    );
    check(
        Body::Refused {
            cid: cid.clone(),
            to: to.clone(),
            re,
        },
        &format!(r#""x.refused",{head},{names},"code":"home_unreachable"}}}}"#),
    );
    for (have, expected) in [(None, String::new()), (Some(mark), format!(",{at}"))] {
        check(
            Body::Ask {
                cid: cid.clone(),
                have,
            },
            &format!(r#""x.snapshot_request",{head}{expected}}}}}"#),
        );
    }
    for (catch_up, expected) in [
        (CatchUp::Nothing, String::new()),
        (
            CatchUp::Changes(vec![change()]),
            format!(r#","changes":[{{{at},{docs}}}]"#),
        ),
        (
            CatchUp::State(change()),
            format!(r#","state":{{{at},{docs}}}"#),
        ),
    ] {
        check(
            Body::Snapshot {
                cid: cid.clone(),
                to: to.clone(),
                catch_up,
            },
            &format!(r#""x.snapshot",{head},"to":"edge-01"{expected}}}}}"#),
        );
    }
    check(
        Body::Reach {
            cid,
            sid: to,
            there: false,
        },
        &format!(r#""x.reach",{head},"sid":"edge-01","there":false}}}}"#),
    );
}

#[test]
fn what_is_no_frame_is_told_apart() {
    let refuse = |text: &str, expected: Malformed| {
        assert_eq!(decode(text.as_bytes()), Err(expected), "{text}");
    };
    let with = |v: &str, kind: &str, id: &str, path: &str, data: &str| {
        let head = format!(r#"{{"v":{v},"type":"{kind}","id":"{id}","path":[{path}]"#);
        format!(r#"{head},"data":{{"cid":"a~b"{data}}}}}"#)
    };
    let id = "00000000000000ab-7";
    let reach = r#","sid":"a","there":true"#;
    assert!(decode(with("1", "x.reach", id, r#""a""#, reach).as_bytes()).is_ok());
    refuse("", Malformed::NotWritten);
    refuse("{}", Malformed::NotWritten);
    refuse("[1]", Malformed::NotWritten);
    refuse(&with("2", "x.reach", id, "", reach), Malformed::Version);
    refuse(&with("1", "x.else", id, "", reach), Malformed::Unknown);
    refuse(&with("1", "x.forward", id, "", reach), Malformed::Unknown);
    refuse(&with("1", "evt", id, "", ""), Malformed::Unknown);
    refuse(&with("1", "x.reach", "7", "", reach), Malformed::Id);
    refuse(&with("1", "x.reach", id, r#""A""#, reach), Malformed::Id);
    refuse(&with("1", "x.reach", id, "", ""), Malformed::NotWritten);
    refuse(
        &with("1", "x.reach", id, "", r#","sid":"+","there":true"#),
        Malformed::Id,
    );
    let long = [r#""a""#; PATH_MAX + 2].join(",");
    refuse(&with("1", "x.reach", id, &long, reach), Malformed::TooMany);
    let members = [r#""a""#; MEMBERS_MAX + 1].join(",");
    let data = format!(r#","at":{{"epoch":1,"rev":1,"seq":1}},"members":[{members}]"#);
    refuse(&with("1", "x.members", id, "", &data), Malformed::TooMany);
    refuse(&" ".repeat(FRAME_BYTES_MAX + 1), Malformed::TooLong);
    let frame = Frame {
        id: ID,
        path: Vec::new(),
        body: Body::Command {
            cid: CID.to_owned(),
            document: octets_of("no JSON"),
        },
    };
    assert_eq!(encode(&frame), Err(Malformed::NotWritten));
}
