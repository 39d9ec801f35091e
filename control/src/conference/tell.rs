//! What is published of a conference: absolute states that are retained, and one log.

use bytes::Bytes;
use serde_json::{Value, json};
use std::time::Duration;

use crate::bus::moment::{Now, rfc3339_ms};
use crate::bus::topic::{Part, Topic};
use crate::bus::{Publication, Qos};

use super::envelope::{Message, Revision};
use super::floor::{Changes, Floor, Mode, Request};
use super::record;
use super::{Conference, Place, Steps, What};

/// What an event is worth afterwards; who was away longer reads the states.
pub const EVENT_FOR: Duration = Duration::from_secs(60);

impl Conference {
    /// The data of `state`.
    #[must_use]
    pub fn document(&self) -> Value {
        json!({
            "cid": self.cid,
            "uri": self.uri,
            "home": self.sid,
            "began": rfc3339_ms(self.began_ms),
            "floors": self.floors.keys().collect::<Vec<_>>(),
        })
    }

    /// All of it at once, for who has missed something.
    #[must_use]
    pub fn snapshot(&self) -> Value {
        let floors = self.floors.iter().map(|(fid, floor)| {
            (
                fid.clone(),
                revised(floor_document(fid, floor), floor.revision),
            )
        });
        let views = self
            .views
            .iter()
            .map(|(vid, view)| (vid.clone(), revised(view.document(vid), view.revision)));
        let roster = self.roster.participants.iter().map(|(pid, participant)| {
            (
                pid.clone(),
                revised(participant.document(pid), participant.revision),
            )
        });
        json!({
            "conference": self.document(),
            "epoch": self.revision.epoch,
            "rev": self.revision.rev,
            "seq": self.seq,
            "roster": roster.collect::<serde_json::Map<_, _>>(),
            "floors": floors.collect::<serde_json::Map<_, _>>(),
            "views": views.collect::<serde_json::Map<_, _>>(),
        })
    }

    /// Everything that is retained of it, as it was published but for the time and the cause.
    #[must_use]
    pub fn retained(&self, now: Now) -> Vec<Publication> {
        let one = |part: Part<'_>, kind: &str, revision, data: &Value| {
            let message = self.message(kind, revision, None, data);
            self.publication(part, message.document(now), true)
        };
        let state = one(
            Part::State,
            "conference.state",
            self.revision,
            &self.document(),
        );
        let roster = self.roster.participants.iter();
        let roster = roster.map(|(pid, participant)| {
            let data = participant.document(pid);
            one(
                Part::Roster { pid },
                "roster.state",
                participant.revision,
                &data,
            )
        });
        let floors = self.floors.iter().map(|(fid, floor)| {
            let data = floor_document(fid, floor);
            one(Part::Floor { fid }, "floor.state", floor.revision, &data)
        });
        let views = self.views.iter().map(|(vid, view)| {
            let data = view.document(vid);
            one(Part::View { vid }, "view.state", view.revision, &data)
        });
        let all = roster.chain(floors).chain(views);
        std::iter::once(state).chain(all).collect()
    }

    /// It began, goes on after a start, or ended.
    pub(super) fn tell_conference(
        &mut self,
        event: &str,
        cause: Option<&str>,
        now: Now,
        steps: &mut Steps,
    ) {
        let data = self.document();
        self.publish(
            Part::State,
            "conference.state",
            cause,
            Some(&data),
            now,
            steps,
        );
        self.event(event, cause, &data, now, steps);
        self.keep_head(steps);
    }

    /// Somebody is in the roster, in some way or another.
    pub(super) fn tell_participant(
        &mut self,
        pid: &str,
        cause: Option<&str>,
        now: Now,
        steps: &mut Steps,
    ) {
        let revision = self.revision;
        let Some(participant) = self.roster.participants.get_mut(pid) else {
            return;
        };
        participant.revision = revision;
        let data = participant.document(pid);
        steps.keep.push(record::participant(pid, participant));
        self.publish(
            Part::Roster { pid },
            "roster.state",
            cause,
            Some(&data),
            now,
            steps,
        );
        self.event("roster.changed", cause, &data, now, steps);
        self.keep_head(steps);
    }

    /// Somebody is in it no more.
    pub(super) fn tell_left(
        &mut self,
        pid: &str,
        reason: &str,
        cause: Option<&str>,
        now: Now,
        steps: &mut Steps,
    ) {
        let data = json!({ "pid": pid, "state": "left", "reason": reason });
        steps.keep.push((record::participant_key(pid), None));
        self.publish(Part::Roster { pid }, "", None, None, now, steps);
        self.event("roster.changed", cause, &data, now, steps);
        self.keep_head(steps);
    }

    /// Something has changed on a floor: a revision of its own, one state, one event.
    pub(super) fn floor_changed(
        &mut self,
        fid: &str,
        changes: Changes,
        cause: Option<&str>,
        now: Now,
        steps: &mut Steps,
    ) {
        if changes.none() {
            return;
        }
        self.advance();
        self.tell_floor(fid, changes, cause, now, steps);
    }

    /// The same at the revision there is.
    pub(super) fn tell_floor(
        &mut self,
        fid: &str,
        changes: Changes,
        cause: Option<&str>,
        now: Now,
        steps: &mut Steps,
    ) {
        let mut data = self.show_floor(fid, cause, now, steps);
        let terminal = changes.ended.iter().map(|end| {
            json!({
                "request_id": end.request.id,
                "pid": end.request.pid,
                "state": end.state.word(),
                "reason": end.reason,
            })
        });
        put(&mut data, "terminal", terminal.collect::<Value>());
        self.event("floor.changed", cause, &data, now, steps);
        self.keep_head(steps);
        for end in &changes.ended {
            steps.outcomes.push(end.state.word());
            let fields = vec![
                ("floor", fid.to_owned()),
                ("pid", end.request.pid.clone()),
                ("request", end.request.id.clone()),
                ("state", end.state.word().to_owned()),
                ("why", end.reason.clone()),
            ];
            self.note(What::FloorEnded, fields, steps);
        }
        let holders = self.floors.get(fid).map_or(&[][..], Floor::holders);
        let news = holders.iter().rev().take(changes.granted.len()).rev();
        for (request, waited) in news.zip(&changes.granted) {
            steps.outcomes.push("granted");
            steps.waits.push(*waited);
            let fields = vec![
                ("floor", fid.to_owned()),
                ("pid", request.pid.clone()),
                ("request", request.id.clone()),
            ];
            steps.notes.push(super::Note {
                what: What::FloorGranted,
                fields,
            });
        }
    }

    /// A floor's state alone. Returned is its data.
    pub(super) fn show_floor(
        &mut self,
        fid: &str,
        cause: Option<&str>,
        now: Now,
        steps: &mut Steps,
    ) -> Value {
        let revision = self.revision;
        let Some(floor) = self.floors.get_mut(fid) else {
            return json!({});
        };
        floor.revision = revision;
        steps.keep.push(record::floor(fid, floor, now.at));
        let data = floor_document(fid, floor);
        self.publish(
            Part::Floor { fid },
            "floor.state",
            cause,
            Some(&data),
            now,
            steps,
        );
        data
    }

    /// A view is another now, and the conference's server is to show it.
    pub(super) fn tell_view(
        &mut self,
        vid: &str,
        cause: Option<&str>,
        now: Now,
        steps: &mut Steps,
    ) {
        let revision = self.revision;
        let Some(view) = self.views.get_mut(vid) else {
            return;
        };
        view.revision = revision;
        let data = view.document(vid);
        steps.keep.push(record::view(vid, view));
        let document = self.publish(
            Part::View { vid },
            "view.state",
            cause,
            Some(&data),
            now,
            steps,
        );
        steps.shown.push((vid.to_owned(), document));
        self.event("view.changed", cause, &data, now, steps);
        self.keep_head(steps);
    }

    /// A view's state again, as it is.
    pub(super) fn repeat_view(&self, vid: &str, now: Now, steps: &mut Steps) {
        if let Some(view) = self.views.get(vid) {
            let data = view.document(vid);
            let message = self.message("view.state", view.revision, None, &data);
            let document = message.document(now);
            steps
                .publish
                .push(self.publication(Part::View { vid }, document, true));
        }
    }

    /// Everything retained is forgotten: the conference is over.
    pub fn end(&mut self, reason: &str, now: Now, steps: &mut Steps) {
        let pids: Vec<String> = self.roster.participants.keys().cloned().collect();
        for pid in pids {
            self.roster.participants.remove(&pid);
            self.gone(&pid, reason, None, now, steps);
        }
        self.advance();
        let data = json!({ "cid": self.cid, "reason": reason });
        self.event("conference.ended", None, &data, now, steps);
        let (floors, views) = (self.floors.keys(), self.views.keys());
        let floors = floors.map(|fid| Part::Floor { fid });
        let parts = floors.chain(views.map(|vid| Part::View { vid }));
        for part in parts.chain([Part::State]) {
            steps
                .publish
                .push(self.publication(part, Bytes::new(), true));
        }
        let fields = vec![("uri", self.uri.clone()), ("why", reason.to_owned())];
        self.note(What::Ended, fields, steps);
        // Nothing of it is kept: those above that are to be stay no longer than this.
        let mut keys: Vec<String> = self.keys();
        keys.extend(steps.keep.drain(..).map(|(key, _)| key));
        keys.sort_unstable();
        keys.dedup();
        steps.keep.extend(keys.into_iter().map(|key| (key, None)));
    }

    /// Puts a state up under its topic; without data it is taken down.
    fn publish(
        &self,
        part: Part<'_>,
        kind: &str,
        cause: Option<&str>,
        data: Option<&Value>,
        now: Now,
        steps: &mut Steps,
    ) -> Bytes {
        let document =
            data.map(|data| self.message(kind, self.revision, cause, data).document(now));
        let document = document.unwrap_or_default();
        steps
            .publish
            .push(self.publication(part, document.clone(), true));
        document
    }

    /// One line of the log.
    pub(super) fn event(
        &mut self,
        kind: &str,
        cause: Option<&str>,
        data: &Value,
        now: Now,
        steps: &mut Steps,
    ) {
        self.seq += 1;
        let message = Message {
            seq: Some(self.seq),
            ..self.message(kind, self.revision, cause, data)
        };
        let document = message.document(now);
        self.log.push(self.seq, document.clone());
        let mut publication = self.publication(Part::Events, document, false);
        publication.expiry = Some(EVENT_FOR);
        steps.publish.push(publication);
        steps.events.push(Place {
            published: steps.publish.len(),
            revision: self.revision,
            seq: self.seq,
        });
    }

    fn message<'a>(
        &'a self,
        kind: &'a str,
        revision: Revision,
        cause: Option<&'a str>,
        data: &'a Value,
    ) -> Message<'a> {
        Message {
            sid: &self.sid,
            kind,
            revision,
            seq: None,
            cause,
            data,
        }
    }

    fn publication(&self, part: Part<'_>, payload: Bytes, retain: bool) -> Publication {
        let topic = Topic::Conference {
            cid: &self.cid,
            part,
        };
        Publication {
            topic: topic.to_string(),
            payload,
            qos: Qos::AtLeastOnce,
            retain,
            expiry: None,
        }
    }
}

/// Adds a member to a document.
pub fn put(document: &mut Value, name: &str, value: impl Into<Value>) {
    if let Some(members) = document.as_object_mut() {
        members.insert(name.to_owned(), value.into());
    }
}

/// A state with its revision in it.
#[must_use]
pub fn revised(mut data: Value, revision: Revision) -> Value {
    put(&mut data, "epoch", revision.epoch);
    put(&mut data, "rev", revision.rev);
    data
}

/// The data of a floor's state.
#[must_use]
pub fn floor_document(fid: &str, floor: &Floor) -> Value {
    let one = |request: &Request| {
        json!({
            "pid": request.pid,
            "request_id": request.id,
            "state": request.state.word(),
            "priority": request.priority,
            "since": rfc3339_ms(request.since_ms),
            "asked_by": request.asked_by,
            "text": request.text,
        })
    };
    json!({
        "fid": fid,
        "policy": match floor.policy.mode {
            Mode::Chair => "chair",
            Mode::Fifo => "fifo",
        },
        "max_holders": floor.policy.holders_max,
        "holders": floor.holders().iter().map(one).collect::<Vec<_>>(),
        "queue": floor.queue().iter().map(one).collect::<Vec<_>>(),
    })
}
