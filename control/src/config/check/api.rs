//! `[api]` and `[log]`.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use super::choice::{LOG_FORMAT, METRICS_FOR, choose};
use super::stream::pem;
use super::{parsed, value};
use crate::config::api::{Api, ApiTls, LOG_LEVEL, Log, LogFormat, MetricsFor};
use crate::config::file::api as written;
use crate::config::problem::{At, Problems};
use crate::id::{Listener, Transport};

/// A dashboard asks ten times a second; so many of them may be open under one name.
const RATE: u32 = 100;
const RATE_MAX: u32 = 1_000_000;
/// Addresses listened at.
const LISTEN_MAX: usize = 32;

pub(super) fn api(
    api: written::Api,
    sip: &[Listener],
    files: &mut dyn FnMut(&Path) -> io::Result<String>,
    problems: &mut Problems<'_>,
) -> Api {
    let asked = api.tls.certificate.is_some() || api.tls.key.is_some();
    let plaintext = api.plaintext.is_some_and(|plaintext| plaintext.value);
    let listen = listen(api.listen, sip, plaintext || asked, problems);
    Api {
        listen,
        plaintext,
        metrics: choose(
            api.metrics,
            "api.metrics",
            MetricsFor::Viewers,
            &METRICS_FOR,
            problems,
        ),
        rate: rate(api.rate, problems),
        tls: tls(api.tls, files, problems),
    }
}

/// `exposed` allows addresses that others can reach.
fn listen(
    written: Option<At<Vec<At<String>>>>,
    sip: &[Listener],
    exposed: bool,
    problems: &mut Problems<'_>,
) -> Vec<SocketAddr> {
    const KEY: &str = "api.listen";
    let Some(written) = written else {
        return Vec::new();
    };
    if written.value.len() > LISTEN_MAX {
        let message = format!("{} addresses are too many", written.value.len());
        let help = format!("write at most {LISTEN_MAX}, or a wildcard: \"0.0.0.0:8080\"");
        problems.add(&written.span, KEY, message, help);
    }
    let mut found: Vec<SocketAddr> = Vec::new();
    for text in &written.value {
        let Some(at) = parsed(&text.value, &text.span, KEY, address, problems) else {
            continue;
        };
        let clash = |listener: &&Listener| {
            let Listener { transport, local } = listener;
            let (ours, theirs) = (at.ip(), local.ip());
            *transport != Transport::Udp
                && local.port() == at.port()
                && (ours == theirs || ours.is_unspecified() && ours.is_ipv4() == theirs.is_ipv4())
        };
        if found.contains(&at) {
            let message = format!("{at} is listened at twice");
            problems.add(&text.span, KEY, message, "remove one of the two");
        } else if let Some(listener) = sip.iter().find(clash) {
            let message = format!("SIP listens at {listener}");
            problems.add(&text.span, KEY, message, "give the API another port");
        } else if !exposed && !at.ip().to_canonical().is_loopback() {
            let message = format!("others can reach {at}, and could read tokens on the way");
            let help = "give [api.tls] a certificate and a key; or listen at 127.0.0.1 and [::1] \
                        only; or, in a network that is yours alone, write plaintext = true";
            problems.add(&text.span, KEY, message, help);
        }
        found.push(at);
    }
    found
}

/// With a port, and of this host by number: a name could be another host's tomorrow.
fn address(text: &str) -> Result<SocketAddr, value::Refusal> {
    let at = text.parse::<SocketAddr>().ok().filter(|at| at.port() > 0);
    at.ok_or_else(|| {
        (
            format!("`{text}` is not an address with a port"),
            "write ADDRESS:PORT: \"127.0.0.1:8080\", \"[::1]:8080\"".to_owned(),
        )
    })
}

fn rate(written: Option<At<i64>>, problems: &mut Problems<'_>) -> u32 {
    let Some(written) = written else { return RATE };
    let rate = u32::try_from(written.value).ok();
    rate.filter(|rate| *rate <= RATE_MAX).unwrap_or_else(|| {
        let message = format!("{} is out of range", written.value);
        let help = format!("write 0 (no limit) to {RATE_MAX}, requests a second");
        problems.add(&written.span, "api.rate", message, help);
        RATE
    })
}

fn tls(
    tls: written::ApiTls,
    files: &mut dyn FnMut(&Path) -> io::Result<String>,
    problems: &mut Problems<'_>,
) -> Option<ApiTls> {
    if tls.certificate.is_some() != tls.key.is_some() {
        let missing = if tls.key.is_some() {
            "certificate"
        } else {
            "key"
        };
        let message = format!("`{missing}` is missing from [api.tls]");
        let help =
            format!("name a file in PEM form: {missing} = \"/etc/towpath/api-{missing}.pem\"");
        problems.add(&tls.at, &format!("api.tls.{missing}"), message, help);
    }
    let mut read = |path: Option<At<String>>, key: &str| pem(&path?, key, files, problems);
    let certificate = read(tls.certificate, "api.tls.certificate");
    let key = read(tls.key, "api.tls.key");
    Some(ApiTls {
        certificate: certificate?,
        key: key?,
    })
}

pub(super) fn log(log: written::Log, problems: &mut Problems<'_>) -> Log {
    let level = log
        .level
        .and_then(|level| parsed(&level.value, &level.span, "log.level", levels, problems));
    Log {
        format: choose(
            log.format,
            "log.format",
            LogFormat::Auto,
            &LOG_FORMAT,
            problems,
        ),
        level: level.unwrap_or_else(|| LOG_LEVEL.to_owned()),
    }
}

/// A level, and levels by part.
///
/// # Errors
/// What is wrong with it, and what to write.
pub fn levels(text: &str) -> Result<String, (String, String)> {
    let part = |c: char| c.is_ascii_alphanumeric() || "_:-".contains(c);
    for one in text.split(',') {
        let (name, level) = one.split_once('=').unwrap_or(("", one));
        if !LEVELS.contains(&level) || !name.chars().all(part) {
            return Err((
                format!("`{one}` is not a level"),
                format!(
                    "write {}; by part: info,control::engine=debug",
                    LEVELS.join(", ")
                ),
            ));
        }
    }
    Ok(text.to_owned())
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let text = format!(
            "[sip]\ndomain = 'e.com'\nlisten = ['udp:0.0.0.0:5060', \
                            'tcp:0.0.0.0:5080']\n[[network]]\nname = 'lan'\ninterface = 'eth1'\n\
                            address = '10.0.0.3'\n{text}"
        );
        let found =
            crate::config::check::check("t", &text, None, &mut |path| match path.to_str() {
                Some("cert" | "key") => Ok("PEM".to_owned()),
                _ => Err(io::ErrorKind::NotFound.into()),
            });
        let found = match found {
            Ok(_) => Vec::new(),
            Err(problems) => problems,
        };
        let found: Vec<String> = found
            .iter()
            .map(|p| format!("{}: {}", p.key, p.message))
            .collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn listeners_are_checked() {
        check("", &[]);
        check(
            "[api]\nlisten = ['127.0.0.1:8080', '[::1]:8080', '127.0.0.9:8080']",
            &[],
        );
        check(
            "[api]\nlisten = ['localhost:8080', '127.0.0.1', '127.0.0.1:0']",
            &[
                "api.listen: `localhost:8080` is not an address with a port",
                "api.listen: `127.0.0.1` is not an address with a port",
                "api.listen: `127.0.0.1:0` is not an address with a port",
            ],
        );
        check(
            "[api]\nlisten = ['0.0.0.0:8080', '[::1]:9', '[::1]:9', '10.0.0.3:5080']",
            &[
                "api.listen: others can reach 0.0.0.0:8080, and could read tokens on the way",
                "api.listen: [::1]:9 is listened at twice",
                "api.listen: SIP listens at tcp:10.0.0.3:5080",
            ],
        );
        check("[api]\nlisten = ['0.0.0.0:8080']\nplaintext = true", &[]);
        check(
            "[api]\nlisten = ['0.0.0.0:8080']\n[api.tls]\ncertificate = 'cert'\nkey = 'key'",
            &[],
        );
        check(
            "[api]\nlisten = ['0.0.0.0:8080']\n[api.tls]\ncertificate = 'gone'",
            &[
                "api.tls.key: `key` is missing from [api.tls]",
                "api.tls.certificate: cannot read gone: entity not found",
            ],
        );
        check("[api]\nrate = -1", &["api.rate: -1 is out of range"]);
        check(
            "[api]\nmetrics = 'all'",
            &["api.metrics: `all` is not a choice"],
        );
    }

    #[test]
    fn levels_are_checked() {
        check(
            "[log]\nlevel = 'warn,control::engine=debug'\nformat = 'json'",
            &[],
        );
        check(
            "[log]\nlevel = 'loud'",
            &["log.level: `loud` is not a level"],
        );
        check(
            "[log]\nlevel = 'a b=info'",
            &["log.level: `a b=info` is not a level"],
        );
    }
}
