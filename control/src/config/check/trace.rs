//! `[trace]`.

use super::mqtt::count;
use crate::config::file::trace as written;
use crate::config::problem::Problems;
use crate::config::trace::Trace;

const CALLS: usize = 1_000;
const CALLS_MAX: usize = 100_000;

pub(super) fn read(written: &written::Trace, problems: &mut Problems<'_>) -> Trace {
    Trace {
        ladder: written.ladder.as_ref().is_none_or(|ladder| ladder.value),
        calls: count(
            written.calls.clone(),
            "trace.calls",
            (CALLS, 0, CALLS_MAX),
            problems,
        ),
    }
}

#[cfg(test)]
mod tests {
    fn check(text: &str, expected: &[&str]) {
        let text = format!(
            "[sip]\ndomain = 'e.com'\nlisten = ['udp:0.0.0.0:5060']\n[[network]]\nname = 'lan'\n\
             interface = 'eth1'\naddress = '10.0.0.3'\n[trace]\n{text}"
        );
        let mut files = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
        let found = crate::config::check::check("t", &text, None, &mut files);
        let found = found.err().unwrap_or_default();
        let found: Vec<String> = found
            .iter()
            .map(|p| format!("{}: {}", p.key, p.message))
            .collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        check("", &[]);
        check("ladder = false\ncalls = 0", &[]);
        check("calls = 100000", &[]);
        check("calls = 100001", &["trace.calls: 100001 is out of range"]);
        check("calls = -1", &["trace.calls: -1 is out of range"]);
    }
}
