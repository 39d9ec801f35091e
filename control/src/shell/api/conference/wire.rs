//! Conferences as documents.

use serde_json::{Value, json};

use crate::conference::Conference;
use crate::conference::tell::{floor_document, put, revised};
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
    put(&mut document, "revision", conference.revision().to_string());
    put(
        &mut document,
        "participants",
        conference.roster().participants.len(),
    );
    put(&mut document, "holders", holders);
    put(&mut document, "waiting", waiting);
    put(&mut document, "views", conference.views().len());
    document
}

pub(super) fn whole(conference: &Conference) -> Value {
    let mut document = conference.document();
    put(&mut document, "revision", conference.revision().to_string());
    put(&mut document, "seq", conference.seq());
    put(&mut document, "roster", participants(conference));
    put(&mut document, "floors", all_floors(conference));
    put(&mut document, "views", all_views(conference));
    document
}

pub(super) fn roster(conference: &Conference) -> Value {
    json!({ "participants": participants(conference) })
}

fn participants(conference: &Conference) -> Vec<Value> {
    let participants = conference.roster().participants.iter();
    let documents = participants
        .map(|(pid, participant)| revised(participant.document(pid), participant.revision));
    documents.collect()
}

pub(super) fn floors(conference: &Conference) -> Value {
    json!({ "floors": all_floors(conference) })
}

fn all_floors(conference: &Conference) -> Vec<Value> {
    let floors = conference.floors().iter();
    let documents = floors.map(|(fid, floor)| revised(floor_document(fid, floor), floor.revision));
    documents.collect()
}

pub(super) fn views(conference: &Conference) -> Value {
    json!({ "views": all_views(conference) })
}

fn all_views(conference: &Conference) -> Vec<Value> {
    let views = conference.views().iter();
    views.map(|(vid, shown)| view(vid, shown)).collect()
}

pub(super) fn view(vid: &str, view: &View) -> Value {
    revised(view.document(vid), view.revision)
}
