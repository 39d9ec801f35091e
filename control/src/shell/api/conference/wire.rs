//! Conferences as documents.

use serde_json::{Value, json};

use crate::conference::Conference;
use crate::conference::tell::{floor_document, revised};
use crate::conference::view::View;

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
    document["revision"] = conference.revision().to_string().into();
    document["participants"] = conference.roster().participants.len().into();
    document["holders"] = holders.into();
    document["waiting"] = waiting.into();
    document["views"] = conference.views().len().into();
    document
}

pub(super) fn whole(conference: &Conference) -> Value {
    let mut document = conference.document();
    document["revision"] = conference.revision().to_string().into();
    document["seq"] = conference.seq().into();
    document["roster"] = roster(conference)["participants"].take();
    document["floors"] = floors(conference)["floors"].take();
    document["views"] = views(conference)["views"].take();
    document
}

pub(super) fn roster(conference: &Conference) -> Value {
    let participants = conference.roster().participants.iter();
    let one = |(pid, participant): (&String, &crate::conference::roster::Participant)| {
        revised(participant.document(pid), participant.revision)
    };
    json!({ "participants": participants.map(one).collect::<Vec<_>>() })
}

pub(super) fn floors(conference: &Conference) -> Value {
    let floors = conference.floors().iter();
    let floors = floors.map(|(fid, floor)| revised(floor_document(fid, floor), floor.revision));
    json!({ "floors": floors.collect::<Vec<_>>() })
}

pub(super) fn views(conference: &Conference) -> Value {
    let views = conference.views().iter();
    let views: Vec<Value> = views.map(|(vid, shown)| view(vid, shown)).collect();
    json!({ "views": views })
}

pub(super) fn view(vid: &str, view: &View) -> Value {
    revised(view.document(vid), view.revision)
}
