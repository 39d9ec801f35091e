//! The document of `doctor`.

use serde_json::{Value, json};

use crate::doctor::{Finding, Status};
use crate::shell::clock;

/// What was found, with a sum.
#[must_use]
pub fn document(findings: &[Finding]) -> Value {
    let count = |status: Status| findings.iter().filter(|f| f.status() == status).count();
    let checks: Vec<Value> = findings.iter().map(finding).collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "at": clock::rfc3339(clock::wall_s()),
        "summary": {
            "pass": count(Status::Pass),
            "warn": count(Status::Warn),
            "fail": count(Status::Fail),
            "skip": count(Status::Skip),
            "unknown": count(Status::Unknown),
        },
        "checks": checks,
    })
}

fn finding(finding: &Finding) -> Value {
    let verdict = &finding.verdict;
    json!({
        "id": finding.id,
        "title": finding.title,
        "severity": finding.severity.name(),
        "status": verdict.status.name(),
        "evidence": verdict.evidence,
        "meaning": verdict.meaning,
        "fix": verdict.fix,
        "docs": finding.docs(),
        "depends_on": finding.depends_on,
    })
}
