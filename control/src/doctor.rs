//! What is wrong with a host, judged from what was read of it. Every check is a function of the
//! configuration and the facts; none reads anything. What a fact does not tell is *unknown*: a
//! firewall that cannot be evaluated has not passed.

pub mod facts;
pub mod firewall;
pub mod init;
mod judge;
pub mod sample;

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Config;
use facts::{Facts, Source};

pub use crate::nat::stun;
pub use judge::outer_port;

/// How a check ended.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Status {
    Pass,
    /// There was nothing to check, or what it builds on has failed.
    Skip,
    /// It could not be found out.
    Unknown,
    Warn,
    Fail,
}

impl Status {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Skip => "skip",
            Self::Unknown => "unknown",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What it means for callers when a check fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Severity {
    /// There is no picture, or no call.
    Critical,
    /// It works, until load, another peer or a restart.
    Major,
    /// It costs time or processor.
    Minor,
}

impl Severity {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Major => "major",
            Self::Minor => "minor",
        }
    }
}

/// One check: what it is called for ever, and how it judges.
#[derive(Clone, Copy)]
pub struct Check {
    pub id: &'static str,
    pub title: &'static str,
    pub severity: Severity,
    /// If one of these fails, this one says nothing of its own.
    pub depends_on: &'static [&'static str],
    /// What it has to be told.
    pub reads: &'static [Source],
    /// Cheap enough for the daemon to repeat.
    pub cheap: bool,
    judge: fn(&Config, &Facts) -> Verdict,
}

/// What a check found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdict {
    pub status: Status,
    /// Raw values, and whence they are.
    pub evidence: Vec<String>,
    /// One sentence: what it means.
    pub meaning: String,
    /// Commands, as they are typed.
    pub fix: Vec<String>,
}

impl Verdict {
    fn new(status: Status, meaning: impl Into<String>) -> Self {
        Self {
            status,
            evidence: Vec::new(),
            meaning: meaning.into(),
            fix: Vec::new(),
        }
    }

    pub(crate) fn pass(meaning: impl Into<String>) -> Self {
        Self::new(Status::Pass, meaning)
    }

    pub(crate) fn skip(meaning: impl Into<String>) -> Self {
        Self::new(Status::Skip, meaning)
    }

    pub(crate) fn unknown(meaning: impl Into<String>) -> Self {
        Self::new(Status::Unknown, meaning)
    }

    pub(crate) fn warn(meaning: impl Into<String>) -> Self {
        Self::new(Status::Warn, meaning)
    }

    pub(crate) fn fail(meaning: impl Into<String>) -> Self {
        Self::new(Status::Fail, meaning)
    }

    pub(crate) fn seen(mut self, evidence: impl IntoIterator<Item = String>) -> Self {
        self.evidence.extend(evidence);
        self
    }

    pub(crate) fn fix(mut self, commands: impl IntoIterator<Item = String>) -> Self {
        self.fix.extend(commands);
        self
    }
}

/// A check and what it found.
#[derive(Clone, Debug)]
pub struct Finding {
    pub id: &'static str,
    pub title: &'static str,
    pub severity: Severity,
    pub depends_on: &'static [&'static str],
    pub verdict: Verdict,
}

impl Finding {
    #[must_use]
    pub fn status(&self) -> Status {
        self.verdict.status
    }

    /// Where the handbook speaks of it.
    #[must_use]
    pub fn docs(&self) -> String {
        format!("docs/doctor.md#{}", anchor(self.id))
    }
}

/// The anchor of a heading that is a check's id, as renderers of Markdown make it.
#[must_use]
pub fn anchor(id: &str) -> String {
    id.chars().filter(|c| *c != '.').collect()
}

/// Every check, in the order they are shown.
#[must_use]
pub fn checks() -> &'static [Check] {
    judge::CHECKS
}

/// The check of that id.
#[must_use]
pub fn check(id: &str) -> Option<&'static Check> {
    checks().iter().find(|check| check.id == id)
}

/// Judges by the checks that `wanted` names, or by all. What depends on a check that failed is
/// skipped, so that one fault is named once.
#[must_use]
pub fn judge(config: &Config, facts: &Facts, wanted: Option<&BTreeSet<&str>>) -> Vec<Finding> {
    // What failed, and what was skipped because of it: to the failure itself.
    let mut failed: BTreeMap<&str, &str> = BTreeMap::new();
    let mut findings = Vec::new();
    for check in checks() {
        if wanted.is_some_and(|wanted| !wanted.contains(check.id)) {
            continue;
        }
        let blocked = check
            .depends_on
            .iter()
            .find_map(|id| failed.get(id).copied());
        let verdict = match blocked {
            Some(id) => Verdict::skip(format!("{id} comes first: it failed.")),
            None => match check.reads.iter().find_map(|s| facts.missing.get(s)) {
                Some(why) => Verdict::unknown("It could not be looked at.").seen([why.clone()]),
                None => (check.judge)(config, facts),
            },
        };
        if let Some(first) = blocked {
            failed.insert(check.id, first);
        } else if verdict.status == Status::Fail {
            failed.insert(check.id, check.id);
        }
        findings.push(Finding {
            id: check.id,
            title: check.title,
            severity: check.severity,
            depends_on: check.depends_on,
            verdict,
        });
    }
    findings
}

#[cfg(test)]
mod tests;
