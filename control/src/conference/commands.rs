//! Commands, one by one. Each has one answer; what it changes is told at one revision.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::bus::moment::Now;
use crate::bus::topic::is_id;

use super::envelope::{Answer, Command, Revision, Status};
use super::floor::{self, Decision, Floor, PRIORITY, PRIORITY_MAX, Wish};
use super::roster::Way;
use super::seen::Answered;
use super::tell::floor_document;
use super::view::{Legacy, Target, VIEWS_MAX, View};
use super::{Conference, From, Steps, What, record};

/// Every command, beside the legacy ones.
pub const COMMANDS: [&str; 10] = [
    "conference.join",
    "conference.leave",
    "conference.query",
    "floor.request",
    "floor.cancel",
    "floor.release",
    "floor.decide",
    "floor.reorder",
    "floor.query",
    "view.set",
];

/// The view of those who name none.
const VIEW: &str = "main";

impl Conference {
    pub(super) fn carry_out(
        &mut self,
        from: From<'_>,
        command: &Command,
        now: Now,
        steps: &mut Steps,
    ) -> Answer {
        if command.pid.as_deref().is_some_and(|pid| pid != from.pid) {
            return Answer::refused(Status::Denied, "not_you");
        }
        if command.kind == "conference.join" {
            return self.join_by_command(from, command, now, steps);
        }
        if self.roster.find(from.pid).is_none() {
            return Answer::refused(Status::Denied, "not_in_roster");
        }
        let cause = command.id.as_deref();
        match command.kind.as_str() {
            "conference.leave" => {
                self.leave(from.pid, cause, now, steps);
                Answer::ok(json!({}))
            }
            "conference.query" => Answer::ok(self.snapshot()),
            "floor.query" => self.query_floor(command),
            "floor.request" | "floor.cancel" | "floor.release" | "floor.decide"
            | "floor.reorder" => self.floor_command(from.pid, command, now, steps),
            "view.set" => self.set_view(from.pid, command, now, steps),
            kind => match Legacy::read(kind) {
                Some(legacy) => self.turn_view(from.pid, command, legacy, now, steps),
                None => Answer::refused(Status::Error, "unsupported"),
            },
        }
    }

    fn join_by_command(
        &mut self,
        from: From<'_>,
        command: &Command,
        now: Now,
        steps: &mut Steps,
    ) -> Answer {
        if !from.connected {
            return Answer::refused(Status::Denied, "no_connection");
        }
        let who = (from.pid, from.name);
        let cause = command.id.as_deref();
        if !self.join(who, from.role, Way::Bus, cause, now, steps) {
            return Answer::refused(Status::Denied, "conference_full");
        }
        Answer::ok(self.snapshot())
    }

    fn floor_command(
        &mut self,
        pid: &str,
        command: &Command,
        now: Now,
        steps: &mut Steps,
    ) -> Answer {
        let Some(fid) = command.text("fid").map(str::to_owned) else {
            return Answer::refused(Status::Error, "no_fid");
        };
        let Some(floor) = self.floors.get(&fid) else {
            return Answer::refused(Status::Error, "no_such_floor");
        };
        let object = format!("floor/{fid}");
        let current = floor.revision;
        if let Some(refused) = self.overtaken(pid, command, &object, current, now, steps) {
            let floor = self.floors.get(&fid);
            let data = floor.map(|floor| json!({ "current": floor_document(&fid, floor) }));
            return Answer {
                data: data.unwrap_or_default(),
                ..refused
            };
        }
        match command.kind.as_str() {
            "floor.request" => self.request_floor(pid, &fid, command, now, steps),
            "floor.decide" => self.decide_floor(pid, &fid, command, now, steps),
            "floor.reorder" => self.reorder_floor(pid, &fid, command, now, steps),
            _ => {
                let id = command.text("request_id");
                let given_up = self.floor(&fid, |floor| floor.give_up(pid, id, now));
                self.changed(&fid, given_up, command, now, steps)
            }
        }
    }

    fn request_floor(
        &mut self,
        pid: &str,
        fid: &str,
        command: &Command,
        now: Now,
        steps: &mut Steps,
    ) -> Answer {
        let chair = self.roster.is_chair(pid);
        let beneficiary = command.text("beneficiary").filter(|other| *other != pid);
        if beneficiary.is_some() && !chair {
            return Answer::refused(Status::Denied, "not_chair");
        }
        if beneficiary.is_some_and(|other| self.roster.find(other).is_none()) {
            return Answer::refused(Status::Denied, "beneficiary_not_in_roster");
        }
        let priority = match command.data.get("priority") {
            None | Some(Value::Null) => PRIORITY,
            Some(priority) => match priority.as_u64().and_then(|p| u8::try_from(p).ok()) {
                Some(priority) if priority <= PRIORITY_MAX => priority,
                _ => return Answer::refused(Status::Error, "bad_priority"),
            },
        };
        let owner = beneficiary.unwrap_or(pid);
        let wish = Wish {
            id: format!("r{}", self.requests + 1),
            pid: owner.to_owned(),
            asked_by: beneficiary.map(|_| pid.to_owned()),
            priority,
            text: command.text("text").map(str::to_owned),
            chair,
        };
        let asked = self.floor(fid, |floor| floor.request(wish, now));
        let (id, changes) = match asked {
            Ok(asked) => asked,
            Err(refused) => {
                steps.outcomes.push("refused");
                return Answer::refused(Status::Denied, refused.word());
            }
        };
        if !changes.none() {
            self.requests += 1;
            let fields = vec![
                ("floor", fid.to_owned()),
                ("pid", owner.to_owned()),
                ("request", id.clone()),
            ];
            self.note(What::FloorRequested, fields, steps);
        }
        let cause = command.id.as_deref();
        self.floor_changed(fid, changes, cause, now, steps);
        self.request_answer(fid, &id)
    }

    /// Where a request stands.
    fn request_answer(&self, fid: &str, id: &str) -> Answer {
        let floor = self.floors.get(fid);
        let Some((floor, request)) = floor.and_then(|floor| Some((floor, floor.find(id)?))) else {
            return Answer::ok(json!({ "fid": fid, "request_id": id }));
        };
        let position = floor.position(id);
        Answer {
            status: match request.state {
                floor::State::Granted => Status::Ok,
                floor::State::Pending | floor::State::Accepted => Status::Accepted,
            },
            code: None,
            data: json!({
                "fid": fid,
                "request_id": id,
                "state": request.state.word(),
                "position": position,
            }),
        }
    }

    fn decide_floor(
        &mut self,
        pid: &str,
        fid: &str,
        command: &Command,
        now: Now,
        steps: &mut Steps,
    ) -> Answer {
        if !self.roster.is_chair(pid) {
            return Answer::refused(Status::Denied, "not_chair");
        }
        let Some(id) = command.text("request_id") else {
            return Answer::refused(Status::Error, "no_request_id");
        };
        let decision = match command.text("action") {
            Some("grant") => Decision::Grant,
            Some("deny") => Decision::Deny,
            Some("revoke") => Decision::Revoke,
            Some(_) | None => return Answer::refused(Status::Error, "bad_action"),
        };
        let reason = command.text("reason").unwrap_or("chair");
        let decided = self.floor(fid, |floor| floor.decide(id, decision, reason, now));
        let answer = self.changed(fid, decided, command, now, steps);
        match (answer.status, decision) {
            (Status::Ok, Decision::Grant) => self.request_answer(fid, id),
            _ => answer,
        }
    }

    fn reorder_floor(
        &mut self,
        pid: &str,
        fid: &str,
        command: &Command,
        now: Now,
        steps: &mut Steps,
    ) -> Answer {
        if !self.roster.is_chair(pid) {
            return Answer::refused(Status::Denied, "not_chair");
        }
        let position = command.data.get("position").and_then(Value::as_u64);
        let position = position.and_then(|p| usize::try_from(p).ok());
        let (Some(id), Some(position)) = (command.text("request_id"), position) else {
            return Answer::refused(Status::Error, "no_position");
        };
        let reordered = self.floor(fid, |floor| floor.reorder(id, position));
        self.changed(fid, reordered, command, now, steps)
    }

    /// Does something on a floor that is there.
    fn floor<T>(
        &mut self,
        fid: &str,
        act: impl FnOnce(&mut Floor) -> Result<T, floor::Refused>,
    ) -> Result<T, floor::Refused> {
        let floor = self.floors.get_mut(fid);
        floor.map_or(Err(floor::Refused::NoSuchRequest), act)
    }

    fn changed(
        &mut self,
        fid: &str,
        changes: Result<floor::Changes, floor::Refused>,
        command: &Command,
        now: Now,
        steps: &mut Steps,
    ) -> Answer {
        match changes {
            Ok(changes) => {
                self.floor_changed(fid, changes, command.id.as_deref(), now, steps);
                Answer::ok(json!({ "fid": fid }))
            }
            Err(refused) => Answer::refused(Status::Error, refused.word()),
        }
    }

    fn query_floor(&self, command: &Command) -> Answer {
        let all = || self.floors.iter();
        let asked = command.text("fid");
        if asked.is_some_and(|fid| !self.floors.contains_key(fid)) {
            return Answer::refused(Status::Error, "no_such_floor");
        }
        let asked = all().filter(|(fid, _)| asked.is_none_or(|asked| asked == *fid));
        let floors: Vec<Value> = asked
            .map(|(fid, floor)| floor_document(fid, floor))
            .collect();
        Answer::ok(json!({ "floors": floors }))
    }

    fn set_view(&mut self, pid: &str, command: &Command, now: Now, steps: &mut Steps) -> Answer {
        let vid = match self.vid(command) {
            Ok(vid) => vid,
            Err(code) => return Answer::refused(Status::Error, code),
        };
        let target = command.data.get("target").and_then(Value::as_object);
        let Some(target) = target.and_then(Target::read) else {
            return Answer::refused(Status::Error, "bad_target");
        };
        let object = format!("view/{vid}");
        let current = self.views.get(&vid);
        let revision = current.map_or_else(Revision::default, |view| view.revision);
        if let Some(refused) = self.overtaken(pid, command, &object, revision, now, steps) {
            return Answer {
                data: json!({ "current": self.view_document(&vid) }),
                ..refused
            };
        }
        self.show(pid, &vid, target, command.id.as_deref(), now, steps);
        Answer::ok(json!({ "vid": vid }))
    }

    /// A client that knows no targets: what is under way is answered at once here, so that one
    /// command never waits for another.
    fn turn_view(
        &mut self,
        pid: &str,
        command: &Command,
        legacy: Legacy,
        now: Now,
        steps: &mut Steps,
    ) -> Answer {
        let vid = match self.vid(command) {
            Ok(vid) => vid,
            Err(code) => return Answer::refused(Status::Error, code),
        };
        let focus = command
            .text("focus")
            .filter(|focus| is_id(focus))
            .map(str::to_owned);
        let turns = self.turns.entry((pid.to_owned(), vid.clone())).or_default();
        let mut next = turns.command(legacy, focus.as_deref(), now.at);
        while let Some(target) = next {
            self.show(pid, &vid, target, command.id.as_deref(), now, steps);
            let turns = self.turns.get_mut(&(pid.to_owned(), vid.clone()));
            next = turns.and_then(|turns| turns.answered(now.at));
        }
        Answer::ok(self.view_document(&vid))
    }

    /// The view a command is about; it may be a new one.
    fn vid(&self, command: &Command) -> Result<String, &'static str> {
        let vid = match command.data.get("vid") {
            None => VIEW,
            Some(_) => command
                .text("vid")
                .filter(|vid| is_id(vid))
                .ok_or("bad_vid")?,
        };
        if self.views.len() >= VIEWS_MAX && !self.views.contains_key(vid) {
            return Err("too_many_views");
        }
        Ok(vid.to_owned())
    }

    fn show(
        &mut self,
        pid: &str,
        vid: &str,
        target: Target,
        cause: Option<&str>,
        now: Now,
        steps: &mut Steps,
    ) {
        self.advance();
        let view = View {
            target,
            by: pid.to_owned(),
            revision: self.revision,
        };
        self.views.insert(vid.to_owned(), view);
        self.tell_view(vid, cause, now, steps);
    }

    fn view_document(&self, vid: &str) -> Value {
        self.views
            .get(vid)
            .map_or(Value::Null, |view| view.document(vid))
    }

    /// Whether a later command of the same client was carried out, or the state is another than
    /// the one it was meant for.
    fn overtaken(
        &mut self,
        pid: &str,
        command: &Command,
        object: &str,
        current: Revision,
        now: Now,
        steps: &mut Steps,
    ) -> Option<Answer> {
        if let Some(cseq) = command.cseq
            && self.seen.is_stale(pid, &command.inst, object, cseq, now.at)
        {
            steps.stale.push("old_cseq");
            return Some(Answer::refused(Status::Stale, "old_cseq"));
        }
        let meant = command.if_rev?;
        if (current..=self.revision).contains(&meant) {
            return None;
        }
        steps.stale.push("rev_conflict");
        Some(Answer::refused(Status::Conflict, "rev_conflict"))
    }

    /// Says the last word again to clients that may have heard another after it.
    pub(super) fn repeat_last_words(&mut self, now: Now, steps: &mut Steps) {
        let turns = self.turns.iter_mut();
        let due = turns.filter_map(|((_, vid), turns)| turns.is_due(now.at).then(|| vid.clone()));
        for vid in due.collect::<std::collections::BTreeSet<String>>() {
            self.repeat_view(&vid, now, steps);
        }
    }

    /// A command that comes again is answered the same, also after a start.
    pub(super) fn remember(
        &mut self,
        pid: &str,
        command: &Command,
        id: &str,
        answer: Bytes,
        now: Now,
        steps: &mut Steps,
    ) {
        let answered = Answered {
            id: id.to_owned(),
            at: now.at,
            answer,
        };
        if !command.kind.ends_with(".query") {
            let gate = command.cseq.map(|cseq| (object(command), cseq));
            steps
                .keep
                .push(record::answer(pid, &command.inst, &answered, gate));
        }
        for forgotten in self.seen.remember(pid, &command.inst, answered) {
            let key = record::answer_key(&forgotten.pid, &forgotten.inst, &forgotten.id);
            steps.keep.push((key, None));
        }
    }
}

/// What a command is counted for.
fn object(command: &Command) -> String {
    match command.kind.split('.').next() {
        Some("floor") => format!("floor/{}", command.text("fid").unwrap_or_default()),
        _ => format!("view/{}", command.text("vid").unwrap_or(VIEW)),
    }
}
