//! `[trace]`.

use std::io;
use std::net::Ipv6Addr;
use std::path::Path;

use super::mqtt::count;
use super::stream::pem;
use super::{parsed, value};
use crate::config::file::trace as written;
use crate::config::problem::{At, Problems};
use crate::config::trace::{Collector, Trace};

const CALLS: usize = 1_000;
const CALLS_MAX: usize = 100_000;
/// What capture servers show where nobody has said anything.
const HEP_ID: u32 = 1;

pub(super) fn read(
    written: &written::Trace,
    files: &mut dyn FnMut(&Path) -> io::Result<String>,
    problems: &mut Problems<'_>,
) -> Trace {
    let hep = written.hep.as_ref();
    let hep = hep.and_then(|at| parsed(&at.value, &at.span, "trace.hep", collector, problems));
    let password = written.hep_password_file.as_ref();
    let password = password.and_then(|path| pem(path, "trace.hep_password_file", files, problems));
    let calls = (CALLS, 0, CALLS_MAX);
    Trace {
        ladder: written.ladder.as_ref().is_none_or(|ladder| ladder.value),
        calls: count(written.calls.clone(), "trace.calls", calls, problems),
        hep,
        hep_id: id(written.hep_id.as_ref(), problems),
        hep_password: password,
        hep_secrets: written.hep_secrets.as_ref().is_some_and(|s| s.value),
    }
}

fn id(written: Option<&At<i64>>, problems: &mut Problems<'_>) -> u32 {
    let Some(written) = written else {
        return HEP_ID;
    };
    u32::try_from(written.value).unwrap_or_else(|_| {
        let message = format!("{} is out of range", written.value);
        let help = format!("write 0 to {}", u32::MAX);
        problems.add(&written.span, "trace.hep_id", message, help);
        HEP_ID
    })
}

fn collector(text: &str) -> Result<Collector, value::Refusal> {
    let refused = || {
        let message = format!("`{text}` is not where a capture server listens");
        let help = "write \"udp:homer.example.com:9060\" or \"udp:[2001:db8::1]:9060\"";
        (message, help.to_owned())
    };
    let rest = text.strip_prefix("udp:").ok_or_else(refused)?;
    let (host, port) = rest.rsplit_once(':').ok_or_else(refused)?;
    let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let host = match inner {
        Some(inner) => inner
            .parse::<Ipv6Addr>()
            .map_err(|_| refused())?
            .to_string(),
        None => host.to_owned(),
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let named = inner.is_some() || !host.is_empty() && host.chars().all(fits);
    let port = port.parse().ok().filter(|port| *port > 0 && named);
    let port = port.ok_or_else(refused)?;
    Ok(Collector { host, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let text = format!(
            "[sip]\ndomain = 'e.com'\nlisten = ['udp:0.0.0.0:5060']\n[[network]]\nname = 'lan'\n\
             interface = 'eth1'\naddress = '10.0.0.3'\n[trace]\n{text}"
        );
        let mut files = |path: &Path| match path.to_str() {
            Some("secret") => Ok("hunter2\n".to_owned()),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
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

    #[test]
    fn capture_servers_are_checked() {
        check(
            "hep = 'udp:h:9060'\nhep_id = 0\nhep_password_file = 'secret'\nhep_secrets = true",
            &[],
        );
        check(
            "hep = 'tcp:h:9060'\nhep_id = -1\nhep_password_file = 'gone'",
            &[
                "trace.hep: `tcp:h:9060` is not where a capture server listens",
                "trace.hep_id: -1 is out of range",
                "trace.hep_password_file: cannot read gone: entity not found",
            ],
        );
        for (text, expected) in [
            (
                "udp:homer.example.com:9060",
                Some("udp:homer.example.com:9060"),
            ),
            ("udp:10.0.0.9:1", Some("udp:10.0.0.9:1")),
            ("udp:[2001:db8::1]:9060", Some("udp:[2001:db8::1]:9060")),
            ("udp:2001:db8::1:9060", None),
            ("udp:[h]:9060", None),
            ("udp:h", None),
            ("udp:h:0", None),
            ("udp::9060", None),
            ("udp:a b:9060", None),
            ("h:9060", None),
        ] {
            let read = collector(text).ok().map(|found| found.to_string());
            assert_eq!(read.as_deref(), expected, "{text}");
        }
    }
}
