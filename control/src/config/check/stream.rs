//! `[sip.tcp]` and `[sip.tls]`: connections, and who may make them.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::choice::{VERIFY, choose};
use super::{beside, lifetime};
use crate::config::problem::{At, Problems};
use crate::config::{Pem, Tcp, Tls, Verify, file};

/// Bounds and default of `sip.tcp.idle`: longer than registrations last, so that a client that only
/// refreshes keeps its connection.
const IDLE_MIN: Duration = Duration::from_secs(1);
const IDLE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
const IDLE_S: u64 = 65 * 60;
/// Defaults of `sip.tcp.connections` and `connections_per_source`: a site behind one address may
/// have many phones.
const CONNECTIONS: usize = 16_384;
const PER_SOURCE: usize = 512;
const CONNECTIONS_MAX: usize = 1_000_000;

pub(super) fn tcp(tcp: file::Tcp, problems: &mut Problems<'_>) -> Tcp {
    let range = IDLE_MIN..=IDLE_MAX;
    let key = "sip.tcp.connections_per_source";
    Tcp {
        idle: lifetime(tcp.idle, "sip.tcp.idle", IDLE_S, &range, problems),
        connections: count(
            tcp.connections,
            "sip.tcp.connections",
            CONNECTIONS,
            problems,
        ),
        connections_per_source: count(tcp.connections_per_source, key, PER_SOURCE, problems),
    }
}

fn count(number: Option<At<i64>>, key: &str, default: usize, problems: &mut Problems<'_>) -> usize {
    let Some(number) = number else { return default };
    match usize::try_from(number.value) {
        Ok(count) if (1..=CONNECTIONS_MAX).contains(&count) => count,
        _ => {
            let message = format!("{} is not a number of connections", number.value);
            let help = format!("write 1 to {CONNECTIONS_MAX}");
            problems.add(&number.span, key, message, help);
            default
        }
    }
}

pub(super) fn tls(
    tls: file::Tls,
    files: &mut dyn FnMut(&Path) -> io::Result<String>,
    problems: &mut Problems<'_>,
) -> Option<Tls> {
    let written = is_written(&tls);
    for (key, is_there) in [
        ("certificate", tls.certificate.is_some()),
        ("key", tls.key.is_some()),
    ] {
        let full = format!("sip.tls.{key}");
        if written && !is_there && !problems.mentions(&full) {
            let message = format!("`{key}` is missing from [sip.tls]");
            let help = format!("name a file in PEM form: {key} = \"/etc/towpath/{key}.pem\"");
            problems.add(&tls.at, &full, message, help);
        }
    }
    let verify = tls.verify.as_ref().map(|verify| verify.span.clone());
    let who = choose(
        tls.verify,
        "sip.tls.verify",
        Verify::None,
        &VERIFY,
        problems,
    );
    if let (Some(span), Verify::Peers | Verify::All, None) = (verify, who, &tls.ca) {
        let message = "nobody's certificate can be verified without `ca`";
        let help = "name the file of those who issue them: ca = \"/etc/towpath/ca.pem\"";
        problems.add(&span, "sip.tls.verify", message, help);
    }
    let mut read = |path: Option<At<String>>, key: &str| pem(&path?, key, files, problems);
    let certificate = read(tls.certificate, "sip.tls.certificate");
    let key = read(tls.key, "sip.tls.key");
    let ca = read(tls.ca, "sip.tls.ca");
    Some(Tls {
        certificate: certificate?,
        key: key?,
        ca,
        verify: who,
    })
}

/// A header alone asks for nothing.
pub(super) fn is_written(tls: &file::Tls) -> bool {
    [&tls.certificate, &tls.key, &tls.ca, &tls.verify]
        .iter()
        .any(|key| key.is_some())
}

pub(super) fn pem(
    path: &At<String>,
    key: &str,
    files: &mut dyn FnMut(&Path) -> io::Result<String>,
    problems: &mut Problems<'_>,
) -> Option<Pem> {
    let full = beside(problems.file(), &path.value);
    match files(&full) {
        Ok(text) => Some(Pem { path: full, text }),
        Err(error) => {
            let message = format!("cannot read {}: {error}", full.display());
            let help = "check the path, and that the daemon's user may read the file";
            problems.add(&path.span, key, message, help);
            None
        }
    }
}
