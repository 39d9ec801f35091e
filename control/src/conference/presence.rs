//! Who comes and goes, and what follows from it for what they asked for.

use crate::bus::moment::Now;

use super::roster::{Became, Role, Way};
use super::{Conference, Steps, What};

impl Conference {
    /// Somebody is there. False: there is no room.
    pub fn join(
        &mut self,
        (pid, name): (&str, &str),
        role: Role,
        way: Way,
        cause: Option<&str>,
        now: Now,
        steps: &mut Steps,
    ) -> bool {
        let was_there = self.roster.find(pid).is_some();
        let Some(changed) = self.roster.join(pid, name, role, way, now) else {
            return false;
        };
        if changed {
            self.joined(pid, was_there, cause, now, steps);
        }
        true
    }

    fn joined(
        &mut self,
        pid: &str,
        was_there: bool,
        cause: Option<&str>,
        now: Now,
        steps: &mut Steps,
    ) {
        self.empty_since = None;
        if !was_there {
            steps.admitted.push((pid.to_owned(), true));
            let fields = vec![("pid", pid.to_owned())];
            self.note(What::Joined, fields, steps);
        }
        self.advance();
        self.tell_participant(pid, cause, now, steps);
    }

    /// A client of theirs is connected again.
    pub fn connected(&mut self, pid: &str, now: Now, steps: &mut Steps) {
        if self.roster.back(pid) {
            self.advance();
            self.tell_participant(pid, None, now, steps);
        }
    }

    /// No client of theirs is connected any more.
    pub fn disconnected(&mut self, pid: &str, now: Now, steps: &mut Steps) {
        let became = self.roster.disconnected(pid, now.at);
        self.became(pid, became, None, now, steps);
    }

    /// A call of theirs is over; `meant` if they hung up.
    pub fn hung_up(&mut self, pid: &str, call: u64, meant: bool, now: Now, steps: &mut Steps) {
        let became = self.roster.hung_up(pid, call, meant, now.at);
        self.became(pid, became, None, now, steps);
    }

    /// What is heard of a kind of media of theirs.
    pub fn heard(
        &mut self,
        pid: &str,
        kind: &str,
        what: &'static str,
        now: Now,
        steps: &mut Steps,
    ) {
        let Some(participant) = self.roster.participants.get_mut(pid) else {
            return;
        };
        if participant.media.insert(kind.to_owned(), what) != Some(what) {
            self.advance();
            self.tell_participant(pid, None, now, steps);
        }
    }

    /// They leave by their own word, or an operator's.
    pub fn leave(&mut self, pid: &str, cause: Option<&str>, now: Now, steps: &mut Steps) -> bool {
        let became = self.roster.leave(pid);
        self.became(pid, became, cause, now, steps);
        became != Became::Same
    }

    fn became(
        &mut self,
        pid: &str,
        became: Became,
        cause: Option<&str>,
        now: Now,
        steps: &mut Steps,
    ) {
        match became {
            Became::Same => {}
            Became::Less => {
                self.advance();
                self.tell_participant(pid, cause, now, steps);
            }
            Became::Lost => {
                self.note(What::Lost, vec![("pid", pid.to_owned())], steps);
                self.advance();
                self.tell_participant(pid, cause, now, steps);
            }
            Became::Left => self.gone(pid, "left", cause, now, steps),
        }
    }

    /// They are in the roster no more: what they asked for ends.
    pub(super) fn gone(
        &mut self,
        pid: &str,
        reason: &str,
        cause: Option<&str>,
        now: Now,
        steps: &mut Steps,
    ) {
        self.advance();
        self.tell_left(pid, reason, cause, now, steps);
        let fids: Vec<String> = self.floors.keys().cloned().collect();
        for fid in fids {
            let changes = self.floors.get_mut(&fid);
            let changes = changes.map(|floor| floor.lose(pid, reason, now));
            if let Some(changes) = changes.filter(|changes| !changes.none()) {
                self.tell_floor(&fid, changes, cause, now, steps);
            }
        }
        self.turns.retain(|(of, _), _| of != pid);
        steps.admitted.push((pid.to_owned(), false));
        let fields = vec![("pid", pid.to_owned()), ("why", reason.to_owned())];
        self.note(What::Left, fields, steps);
        if self.roster.participants.is_empty() {
            self.empty_since = Some(now.at);
        }
    }
}
