//! What the demonstration shows while it works, on standard error.

use std::time::Instant;

use crate::calls::Flow;
use crate::clock;

/// Lines with the time since the start.
#[derive(Debug)]
pub struct Progress {
    start: Instant,
}

impl Progress {
    #[must_use]
    pub fn start() -> Self {
        Self {
            start: clock::now(),
        }
    }

    /// Something was done, or is about to be.
    pub fn step(&self, what: &str) {
        eprintln!("[{:6.2}s] {what}", self.start.elapsed().as_secs_f64());
    }

    /// A call's media flows: what goes through the kernel, and why the rest does not.
    pub fn flows(&self, call: &str, flows: &[Flow]) {
        if flows.is_empty() {
            self.step(&format!("{call}: no media flows"));
        }
        for flow in flows {
            self.step(&format!("{call}: {}", line(flow)));
        }
    }
}

fn line(flow: &Flow) -> String {
    let Flow {
        leg,
        kind,
        at,
        path,
        packets_xdp,
        packets_user,
        ..
    } = flow;
    let why = if path == "xdp" || flow.why.is_empty() {
        String::new()
    } else {
        format!(" ({})", flow.why)
    };
    format!(
        "{leg:<6} {kind:<5} at {at:<20} {path:<4} {packets_xdp:>6} xdp {packets_user:>4} user{why}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(flow: &Flow, expected: &str) {
        assert_eq!(
            line(flow).split_whitespace().collect::<Vec<_>>().join(" "),
            expected
        );
    }

    #[test]
    fn a_flow_says_why_it_is_not_in_the_kernel() {
        let flow = Flow {
            leg: "caller".into(),
            kind: "audio".into(),
            at: "10.1.0.1:20000".into(),
            path: "xdp".into(),
            why: "latched".into(),
            packets_xdp: 412,
            packets_user: 3,
            ..Flow::default()
        };
        check(&flow, "caller audio at 10.1.0.1:20000 xdp 412 xdp 3 user");
        let flow = Flow {
            path: "user".into(),
            why: "not latched".into(),
            ..flow
        };
        check(
            &flow,
            "caller audio at 10.1.0.1:20000 user 412 xdp 3 user (not latched)",
        );
    }
}
