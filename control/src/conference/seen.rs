//! What has been answered already, and how far each client has come: a command that comes twice is
//! carried out once, and one that was overtaken not at all.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

/// Answers remembered of one run of a client.
pub const ANSWERS_MAX: usize = 256;
/// How long.
pub const ANSWERS_FOR: Duration = Duration::from_secs(600);
/// Runs remembered of one participant; the oldest is forgotten.
const RUNS_MAX: usize = 8;
/// Things of a conference one run of a client may count commands for.
const OBJECTS_MAX: usize = 128;

/// By participant and run of its client.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Seen {
    runs: BTreeMap<(String, String), Run>,
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Run {
    answers: VecDeque<Answered>,
    /// The last number that was carried out, by what it was for.
    gates: BTreeMap<String, u64>,
    last: Option<Instant>,
}

/// An answer that was given.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answered {
    pub id: String,
    pub at: Instant,
    pub answer: Bytes,
}

/// An answer nobody needs any more.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Forgotten {
    pub pid: String,
    pub inst: String,
    pub id: String,
}

impl Seen {
    /// What a command was answered when it came first.
    #[must_use]
    pub fn answer(&self, pid: &str, inst: &str, id: &str, now: Instant) -> Option<&Bytes> {
        let run = self.runs.get(&(pid.to_owned(), inst.to_owned()))?;
        let known = run.answers.iter().rev().find(|known| known.id == id)?;
        let fresh = now.saturating_duration_since(known.at) < ANSWERS_FOR;
        fresh.then_some(&known.answer)
    }

    /// Remembers an answer; returned are those that are forgotten for it.
    pub fn remember(&mut self, pid: &str, inst: &str, answered: Answered) -> Vec<Forgotten> {
        let mut forgotten = Vec::new();
        let now = answered.at;
        let run = self.run(pid, inst, now, &mut forgotten);
        run.answers.push_back(answered);
        let old = |known: &Answered| now.saturating_duration_since(known.at) >= ANSWERS_FOR;
        while run.answers.len() > ANSWERS_MAX || run.answers.front().is_some_and(old) {
            let Some(known) = run.answers.pop_front() else {
                break;
            };
            forgotten.push(Forgotten {
                pid: pid.to_owned(),
                inst: inst.to_owned(),
                id: known.id,
            });
        }
        forgotten
    }

    /// Whether a later command for the same thing has been seen; if not, this is the last now.
    pub fn is_stale(
        &mut self,
        pid: &str,
        inst: &str,
        object: &str,
        cseq: u64,
        now: Instant,
    ) -> bool {
        let run = self.run(pid, inst, now, &mut Vec::new());
        if let Some(last) = run.gates.get_mut(object) {
            let stale = cseq <= *last;
            *last = cseq.max(*last);
            return stale;
        }
        if run.gates.len() < OBJECTS_MAX {
            run.gates.insert(object.to_owned(), cseq);
        }
        false
    }

    fn run(
        &mut self,
        pid: &str,
        inst: &str,
        now: Instant,
        forgotten: &mut Vec<Forgotten>,
    ) -> &mut Run {
        let key = (pid.to_owned(), inst.to_owned());
        if !self.runs.contains_key(&key) {
            self.forget_run(pid, forgotten);
        }
        let run = self.runs.entry(key).or_default();
        run.last = Some(now);
        run
    }

    /// Makes room for another run of a participant's client.
    fn forget_run(&mut self, pid: &str, forgotten: &mut Vec<Forgotten>) {
        let own = || self.runs.iter().filter(|((of, _), _)| of == pid);
        if own().count() < RUNS_MAX {
            return;
        }
        let oldest = own().min_by_key(|(_, run)| run.last);
        if let Some(key) = oldest.map(|(key, _)| key.clone())
            && let Some(run) = self.runs.remove(&key)
        {
            forgotten.extend(run.answers.into_iter().map(|known| Forgotten {
                pid: key.0.clone(),
                inst: key.1.clone(),
                id: known.id,
            }));
        }
    }

    /// Forgets what is too old, and runs nobody has heard of since.
    pub fn expire(&mut self, now: Instant) -> Vec<Forgotten> {
        let old = |at: Instant| now.saturating_duration_since(at) >= ANSWERS_FOR;
        let mut forgotten = Vec::new();
        for ((pid, inst), run) in &mut self.runs {
            while run.answers.front().is_some_and(|known| old(known.at)) {
                forgotten.extend(run.answers.pop_front().map(|known| Forgotten {
                    pid: pid.clone(),
                    inst: inst.clone(),
                    id: known.id,
                }));
            }
        }
        self.runs.retain(|_, run| !run.last.is_none_or(old));
        forgotten
    }

    /// Every answer that is remembered, by participant and run.
    pub fn answers(&self) -> impl Iterator<Item = (&str, &str, &Answered)> {
        self.runs.iter().flat_map(|((pid, inst), run)| {
            let answers = run.answers.iter();
            answers.map(move |known| (pid.as_str(), inst.as_str(), known))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::disallowed_methods, reason = "a base for virtual time")]
    fn began() -> Instant {
        Instant::now()
    }

    fn answered(id: u32, at: Instant) -> Answered {
        Answered {
            id: id.to_string(),
            at,
            answer: Bytes::from(id.to_string()),
        }
    }

    #[test]
    fn the_first_answer_stands() {
        let (mut seen, at) = (Seen::default(), began());
        for id in 0..256 {
            assert_eq!(seen.remember("p", "i", answered(id, at)), []);
        }
        assert_eq!(seen.answer("p", "i", "0", at), Some(&Bytes::from("0")));
        assert_eq!(seen.answer("p", "other", "0", at), None);
        assert_eq!(seen.answer("q", "i", "0", at), None);
        let forgotten = seen.remember("p", "i", answered(256, at));
        assert_eq!(forgotten.len(), 1);
        assert_eq!(forgotten[0].id, "0");
        assert_eq!(seen.answer("p", "i", "0", at), None);
        let later = at + ANSWERS_FOR;
        assert_eq!(seen.answer("p", "i", "1", later), None);
        assert_eq!(seen.expire(later).len(), 256);
        assert_eq!(seen, Seen::default());
    }

    #[test]
    fn overtaken_commands_are_stale() {
        let (mut seen, at) = (Seen::default(), began());
        for (inst, object, cseq, stale) in [
            ("i", "view/main", 2, false),
            ("i", "view/main", 1, true),
            ("i", "view/main", 2, true),
            ("i", "view/side", 1, false),
            ("j", "view/main", 1, false),
            ("i", "view/main", 3, false),
        ] {
            assert_eq!(seen.is_stale("p", inst, object, cseq, at), stale);
        }
    }

    #[test]
    fn runs_are_bounded() {
        let (mut seen, at) = (Seen::default(), began());
        for run in 0..20u32 {
            let at = at + Duration::from_secs(run.into());
            let forgotten = seen.remember("p", &run.to_string(), answered(run, at));
            assert_eq!(forgotten.len(), usize::from(run >= 8), "{run}");
        }
        assert_eq!(seen.answers().count(), 8);
    }
}
