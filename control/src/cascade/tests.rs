//! What is let through, and what is dropped for which reason.

use super::*;

/// Some moment; only differences count.
#[allow(
    clippy::disallowed_methods,
    reason = "virtual time needs a beginning, which one does not matter"
)]
pub(super) fn start() -> Instant {
    Instant::now()
}

const CID: &str = "core-01~a";
const ANSWER: &[u8] = b"{}";

fn mark(rev: u64) -> Mark {
    Mark {
        epoch: 1,
        rev,
        seq: rev,
    }
}

fn change(rev: u64, part: &str) -> Change {
    let document = |part: &str| Document {
        part: part.to_owned(),
        payload: Bytes::from_static(ANSWER),
    };
    Change {
        mark: mark(rev),
        documents: vec![document(part), document("evt")],
    }
}

fn frame(number: u64, path: &[&str], body: Body) -> Frame {
    Frame {
        id: Id { boot: 5, number },
        path: path.iter().map(|&sid| sid.to_owned()).collect(),
        body,
    }
}

fn members(version: u64, members: &[&str]) -> Body {
    Body::Members {
        cid: CID.to_owned(),
        version: mark(version),
        members: members.iter().map(|&sid| sid.to_owned()).collect(),
    }
}

fn changed(rev: u64) -> Body {
    Body::Change {
        cid: CID.to_owned(),
        change: change(rev, "state"),
    }
}

fn command() -> Body {
    Body::Command {
        cid: CID.to_owned(),
        document: Bytes::from_static(ANSWER),
    }
}

fn snapshot(to: &str, rev: u64) -> Body {
    Body::Snapshot {
        cid: CID.to_owned(),
        to: to.to_owned(),
        catch_up: frame::CatchUp::State(Change {
            mark: mark(rev),
            documents: change(rev, "state").documents,
        }),
    }
}

/// `own` with its neighbours, all there, after these frames from neighbours.
fn server(own: &str, neighbours: &[&str], frames: &[(&str, Frame)]) -> Cascade {
    let mut cascade = Cascade::new(own, 1);
    let mut out = Vec::new();
    for sid in neighbours {
        cascade.link(sid, true, start(), &mut out);
    }
    for (from, frame) in frames {
        cascade.receive(from, frame.clone(), start(), &mut out);
    }
    cascade
}

/// Why a frame is dropped, if it is.
fn check(cascade: &mut Cascade, from: &str, frame: Frame, expected: Option<Reason>) {
    let before = cascade.dropped().clone();
    let shown = format!("{from}: {frame:?}");
    let mut out = Vec::new();
    let told = cascade.receive(from, frame, start(), &mut out);
    let grown = |(reason, count): (&Reason, &u64)| {
        (before.get(reason).copied().unwrap_or(0) != *count).then_some(*reason)
    };
    let reason = cascade.dropped().iter().find_map(grown);
    assert_eq!(reason, expected, "{shown}");
    if expected.is_some() {
        // Who takes itself for a member is told that it is none, and nothing else.
        let is_door =
            |body: &Body| matches!(body, Body::Members { members, .. } if members.is_empty());
        let door = |out: &Out| is_door(&out.frame.body);
        assert!(
            told.is_empty() && out.iter().all(door),
            "{shown}: {told:?} {out:?}"
        );
    }
}

#[test]
fn a_member_believes_the_home_alone() {
    let edge = || {
        server(
            "edge-01",
            &["core-01", "edge-02"],
            &[
                (
                    "core-01",
                    frame(1, &["core-01"], members(1, &["edge-01", "edge-02"])),
                ),
                ("core-01", frame(2, &["core-01"], snapshot("edge-01", 1))),
            ],
        )
    };
    let home = |body| frame(9, &["core-01"], body);
    let round = |body| frame(9, &["core-01", "edge-02"], body);
    check(&mut edge(), "core-01", home(changed(2)), None);
    check(
        &mut edge(),
        "edge-02",
        round(changed(2)),
        Some(Reason::Detour),
    );
    check(
        &mut edge(),
        "edge-02",
        round(members(2, &[])),
        Some(Reason::Detour),
    );
    check(
        &mut edge(),
        "edge-02",
        frame(9, &["edge-02"], changed(2)),
        Some(Reason::Detour),
    );
    check(
        &mut edge(),
        "core-01",
        frame(9, &["edge-02", "core-01"], changed(2)),
        Some(Reason::ForeignTopic),
    );
    check(&mut edge(), "core-01", home(changed(1)), None);
    check(
        &mut edge(),
        "core-01",
        home(members(0, &[])),
        Some(Reason::Stale),
    );
    check(
        &mut edge(),
        "core-01",
        home(command()),
        Some(Reason::NotMember),
    );
    let cmd = Body::Change {
        cid: CID.to_owned(),
        change: change(2, "cmd/p1"),
    };
    check(
        &mut edge(),
        "core-01",
        home(cmd),
        Some(Reason::ForeignTopic),
    );
    let answer = Body::Answer {
        cid: CID.to_owned(),
        to: "edge-01".to_owned(),
        re: Id { boot: 1, number: 1 },
        document: Bytes::from_static(ANSWER),
    };
    check(&mut edge(), "core-01", home(answer), Some(Reason::Late));
}

#[test]
fn a_home_hears_members_alone() {
    let core = || {
        let mut core = server("core-01", &["edge-01", "edge-02"], &[]);
        core.share(CID, &["edge-01"], mark(1), &mut Vec::new());
        core
    };
    check(
        &mut core(),
        "edge-01",
        frame(9, &["edge-01"], command()),
        None,
    );
    check(
        &mut core(),
        "edge-02",
        frame(9, &["edge-02"], command()),
        Some(Reason::NotMember),
    );
    // Through a member, for one that is none.
    check(
        &mut core(),
        "edge-01",
        frame(9, &["edge-03", "edge-01"], command()),
        Some(Reason::NotMember),
    );
    check(
        &mut core(),
        "edge-01",
        frame(9, &["edge-01"], changed(3)),
        Some(Reason::ForeignTopic),
    );
    check(
        &mut core(),
        "edge-01",
        frame(9, &["edge-01"], members(3, &["edge-01", "edge-02"])),
        Some(Reason::ForeignTopic),
    );
    let other = Body::Command {
        cid: "core-01~b".to_owned(),
        document: Bytes::from_static(ANSWER),
    };
    check(
        &mut core(),
        "edge-01",
        frame(9, &["edge-01"], other),
        Some(Reason::NotMember),
    );
    let nobody = Body::Command {
        cid: "core-01".to_owned(),
        document: Bytes::from_static(ANSWER),
    };
    check(
        &mut core(),
        "edge-01",
        frame(9, &["edge-01"], nobody),
        Some(Reason::ForeignTopic),
    );
}

#[test]
fn paths_and_repetitions() {
    let mut core = server("core-01", &["edge-01"], &[]);
    let all = ["a", "b", "c", "d", "edge-01"];
    core.share(CID, &all, mark(1), &mut Vec::new());
    let from = |number, path: &[&str]| frame(number, path, command());
    check(&mut core, "edge-01", from(1, &["edge-01"]), None);
    check(
        &mut core,
        "edge-01",
        from(1, &["edge-01"]),
        Some(Reason::Duplicate),
    );
    check(
        &mut core,
        "edge-01",
        from(2, &["core-01", "edge-01"]),
        Some(Reason::Loop),
    );
    check(&mut core, "edge-01", from(3, &["a"]), Some(Reason::Forged));
    check(&mut core, "edge-01", from(4, &[]), Some(Reason::Forged));
    check(
        &mut core,
        "edge-01",
        from(5, &["a", "b", "c", "edge-01"]),
        None,
    );
    check(
        &mut core,
        "edge-01",
        from(6, &["a", "b", "c", "d", "edge-01"]),
        Some(Reason::TooFar),
    );
}

#[test]
fn nobody_hears_of_what_is_not_shared_with_it() {
    let mut core = server("core-01", &["edge-01", "edge-02"], &[]);
    let mut out = Vec::new();
    let to = |out: &mut Vec<Out>| -> Vec<String> { out.drain(..).map(|out| out.to).collect() };
    core.change(CID, change(1, "state"), &mut out);
    assert_eq!(to(&mut out), Vec::<String>::new());
    core.share(CID, &["edge-01"], mark(1), &mut out);
    assert_eq!(to(&mut out), ["edge-01"]);
    core.change(CID, change(2, "state"), &mut out);
    assert_eq!(to(&mut out), ["edge-01"]);
    core.share(CID, &["edge-02"], mark(2), &mut out);
    assert_eq!(to(&mut out), ["edge-01", "edge-02"]);
    core.change(CID, change(3, "state"), &mut out);
    assert_eq!(to(&mut out), ["edge-02"]);
    // Not ours to decide.
    core.share("edge-01~x", &["edge-02"], mark(1), &mut out);
    core.change("edge-01~x", change(1, "state"), &mut out);
    assert_eq!(to(&mut out), Vec::<String>::new());
}

/// Each link has what crosses it, and who is beyond it.
#[test]
fn links_know_what_crosses_them() {
    let mut out = Vec::new();
    let mut core = server("core-01", &["edge-01", "edge-02"], &[]);
    core.share(CID, &["edge-01", "edge-02"], mark(1), &mut out);
    let over = |server: &Cascade, sid: &str| -> Vec<(String, Vec<String>)> {
        let own = |sids: Vec<&str>| sids.into_iter().map(str::to_owned).collect();
        let each = server.over(sid);
        each.map(|(cid, sids)| (cid.to_owned(), own(sids)))
            .collect()
    };
    let only = |sid: &str| vec![(CID.to_owned(), vec![sid.to_owned()])];
    assert_eq!(over(&core, "edge-01"), only("edge-01"));
    assert_eq!(over(&core, "edge-02"), only("edge-02"));
    assert_eq!(over(&core, "edge-03"), []);
    assert_eq!(core.shares(CID, "edge-01"), Some(true));
    core.change(CID, change(1, "state"), &mut out);
    let mut edge = server("edge-01", &["core-01"], &[]);
    let now = start();
    carry(&mut out, &mut core, &mut edge, now);
    assert_eq!(over(&edge, "core-01"), only("core-01"));
    assert_eq!(edge.shares(CID, "core-01"), Some(true));
    assert!(edge.told(CID).is_some());
    edge.link("core-01", false, now, &mut out);
    assert_eq!(edge.shares(CID, "core-01"), Some(false));
}

#[test]
fn a_partition_freezes_and_healing_catches_up() {
    let now = start();
    let mut out = Vec::new();
    let mut core = server("core-01", &["edge-01"], &[]);
    core.share(CID, &["edge-01"], mark(1), &mut out);
    core.change(CID, change(1, "state"), &mut out);
    let mut edge = server("edge-01", &["core-01"], &[]);
    let told = carry(&mut out, &mut core, &mut edge, now);
    assert!(
        matches!(
            &told[..],
            [(_, Up::Changed { documents, .. }), (_, Up::Caught { .. })] if documents.len() == 1
        ),
        "{told:?}"
    );
    let re = edge.command(CID, Bytes::from_static(ANSWER), now, &mut out);
    let re = re.unwrap();
    out.clear();
    let cid = CID.to_owned();
    let told = edge.link("core-01", false, now, &mut out);
    let there = |there| Up::Home {
        cid: cid.clone(),
        there,
    };
    let lost = Up::Unreachable {
        cid: cid.clone(),
        re,
    };
    assert_eq!(told, [lost, there(false)]);
    assert!(!edge.home_there(CID));
    let refused = edge.command(CID, Bytes::from_static(ANSWER), now, &mut out);
    assert_eq!(refused, Err(Refused::HomeUnreachable));
    let told = core.link("edge-01", false, now, &mut out);
    let sid = "edge-01".to_owned();
    let member = |there| Up::Member {
        cid: cid.clone(),
        sid: sid.clone(),
        there,
    };
    assert_eq!(told, [member(false)]);
    core.change(CID, change(2, "floor/audio"), &mut out);
    core.change(CID, change(3, "view/main"), &mut out);
    out.clear();
    assert_eq!(core.link("edge-01", true, now, &mut out), [member(true)]);
    let told = edge.link("core-01", true, now, &mut out);
    assert_eq!(told, [there(true)]);
    let told = carry(&mut out, &mut core, &mut edge, now);
    let parts: Vec<String> = told
        .iter()
        .filter_map(|(_, up)| {
            let Up::Changed { documents, .. } = up else {
                return None;
            };
            Some(documents)
        })
        .flatten()
        .map(|document| document.part.clone())
        .collect();
    assert_eq!(parts, ["floor/audio", "evt", "view/main", "evt"]);
}

/// Carries frames between two servers until there are none.
fn carry(
    out: &mut Vec<Out>,
    core: &mut Cascade,
    edge: &mut Cascade,
    now: Instant,
) -> Vec<(String, Up)> {
    let mut told = Vec::new();
    while !out.is_empty() {
        for Out { to, frame } in std::mem::take(out) {
            let (server, from) = if to == "core-01" {
                (&mut *core, "edge-01")
            } else {
                (&mut *edge, "core-01")
            };
            let up = server.receive(from, frame, now, out);
            told.extend(up.into_iter().map(|up| (to.clone(), up)));
        }
    }
    told
}
