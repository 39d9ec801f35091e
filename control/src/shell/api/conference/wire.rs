//! Conferences as documents.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cascade::Cascade;
use crate::conference::Conference;
use crate::conference::envelope::Revision;
use crate::conference::tell::{floor_document, put, revised};

/// One line of the list.
pub(super) fn summary(conference: &Conference) -> Value {
    let floors = conference.floors().values();
    let (holders, waiting) = floors.fold((0, 0), |(holders, waiting), floor| {
        (
            holders + floor.holders().len(),
            waiting + floor.queue().len(),
        )
    });
    let mut document = conference.document();
    put(&mut document, "revision", conference.revision().to_string());
    put(
        &mut document,
        "participants",
        conference.roster().participants.len(),
    );
    put(&mut document, "holders", holders);
    put(&mut document, "waiting", waiting);
    put(&mut document, "views", conference.views().len());
    put(&mut document, "reachable", true);
    put(
        &mut document,
        "members",
        conference.sharing().members().len(),
    );
    document
}

pub(super) fn whole(whole: Value) -> Value {
    whole
}

/// All of one that is at home here.
pub(super) fn home(conference: &Conference, cascade: &Cascade) -> Value {
    let mut document = conference.document();
    put(&mut document, "revision", conference.revision().to_string());
    put(&mut document, "seq", conference.seq());
    put(&mut document, "reachable", true);
    put(&mut document, "members", members(conference.cid(), cascade));
    put(&mut document, "roster", participants(conference));
    put(&mut document, "floors", all_floors(conference));
    put(&mut document, "views", all_views(conference));
    document
}

/// All of one that is at home elsewhere, as its home tells it; none: nothing is known of it yet.
pub(super) fn foreign(cascade: &Cascade, cid: &str) -> Option<Value> {
    let known = cascade.documents(cid)?;
    let mut document = Value::Null;
    let mut parts: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for one in &known.documents {
        let message: Value = serde_json::from_slice(&one.payload).ok()?;
        let number = |name: &str| message.get(name).and_then(Value::as_u64).unwrap_or(0);
        let (epoch, rev) = (number("epoch"), number("rev"));
        let data = message.get("data").cloned().unwrap_or_default();
        match one.part.split_once('/') {
            Some((kind, _)) => {
                let data = revised(data, Revision { epoch, rev });
                parts.entry(kind).or_default().push(data);
            }
            None => document = data,
        }
    }
    let revision = Revision {
        epoch: known.mark.epoch,
        rev: known.mark.rev,
    };
    put(&mut document, "revision", revision.to_string());
    put(&mut document, "seq", known.mark.seq);
    put(&mut document, "reachable", cascade.home_there(cid));
    put(&mut document, "members", members(cid, cascade));
    for (kind, name) in [("roster", "roster"), ("floor", "floors"), ("view", "views")] {
        put(&mut document, name, parts.remove(kind).unwrap_or_default());
    }
    Some(document)
}

/// Servers that share it, and whether they can be reached from here.
fn members(cid: &str, cascade: &Cascade) -> Vec<Value> {
    let one = |sid: &str| {
        let state = match cascade.reaches(cid, sid) {
            _ if sid == cascade.own() => "here",
            Some(true) => "up",
            Some(false) => "down",
            None => "unknown",
        };
        json!({ "server": sid, "state": state })
    };
    cascade.members(cid).map(one).collect()
}

/// One line of the list, of one that is at home elsewhere.
pub(super) fn summary_of(whole: &Value) -> Value {
    let list = |value: &Value, name: &str| {
        let list = value.get(name).and_then(Value::as_array);
        list.map_or(0, Vec::len)
    };
    let floors = whole.get("floors").and_then(Value::as_array);
    let floors = || floors.into_iter().flatten();
    let holders: usize = floors().map(|floor| list(floor, "holders")).sum();
    let waiting: usize = floors().map(|floor| list(floor, "queue")).sum();
    let fids = floors().filter_map(|floor| floor.get("fid").cloned());
    let mut document = json!({
        "floors": fids.collect::<Vec<_>>(),
        "participants": list(whole, "roster"),
        "holders": holders,
        "waiting": waiting,
        "views": list(whole, "views"),
        "members": list(whole, "members"),
    });
    for name in ["cid", "uri", "home", "began", "revision", "reachable"] {
        let value = whole.get(name).cloned().unwrap_or_default();
        put(&mut document, name, value);
    }
    document
}

/// Whose a request is.
pub(super) fn owner(floors: &Value, fid: &str, rid: &str) -> Option<String> {
    let floors = floors.get("floors")?.as_array()?;
    let named =
        |value: &&Value, name: &str, id: &str| value.get(name).and_then(Value::as_str) == Some(id);
    let floor = floors.iter().find(|floor| named(floor, "fid", fid))?;
    let requests = ["holders", "queue"].into_iter();
    let mut requests = requests
        .filter_map(|of| floor.get(of)?.as_array())
        .flatten();
    let request = requests.find(|request| named(request, "request_id", rid))?;
    request.get("pid")?.as_str().map(str::to_owned)
}

pub(super) fn roster(whole: Value) -> Value {
    json!({ "participants": part(whole, "roster") })
}

pub(super) fn floors(whole: Value) -> Value {
    json!({ "floors": part(whole, "floors") })
}

pub(super) fn views(whole: Value) -> Value {
    json!({ "views": part(whole, "views") })
}

fn part(mut whole: Value, name: &str) -> Value {
    whole.get_mut(name).map(Value::take).unwrap_or_default()
}

fn participants(conference: &Conference) -> Vec<Value> {
    let participants = conference.roster().participants.iter();
    let documents = participants
        .map(|(pid, participant)| revised(participant.document(pid), participant.revision));
    documents.collect()
}

fn all_floors(conference: &Conference) -> Vec<Value> {
    let floors = conference.floors().iter();
    let documents = floors.map(|(fid, floor)| revised(floor_document(fid, floor), floor.revision));
    documents.collect()
}

fn all_views(conference: &Conference) -> Vec<Value> {
    let views = conference.views().iter();
    views
        .map(|(vid, view)| revised(view.document(vid), view.revision))
        .collect()
}
