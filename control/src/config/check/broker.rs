//! `[mqtt]` `mode` and `url`, `[mqtt.broker]`: where the broker behind us is, and as whom we come.

use std::io;
use std::net::Ipv6Addr;
use std::path::Path;

use super::choice::{MQTT_MODE, choose};
use super::stream::pem;
use super::{mqtt, parsed, value};
use crate::config::Pem;
use crate::config::broker::{Broker, Mode, Url};
use crate::config::file;
use crate::config::problem::{At, Problems};

const MESSAGES: usize = 65_536;
const MESSAGES_MAX: usize = 1_000_000;
const BYTES: usize = 64 * 1024 * 1024;
const BYTES_MIN: usize = 1024 * 1024;
const BYTES_MAX: usize = 1024 * 1024 * 1024;
const PORT: u16 = 1883;
const TLS_PORT: u16 = 8883;

pub(super) fn read(
    mode: Option<At<String>>,
    url: Option<At<String>>,
    written: file::MqttBroker,
    files: &mut dyn FnMut(&Path) -> io::Result<String>,
    problems: &mut Problems<'_>,
) -> (Mode, Broker) {
    let mode_at = mode.as_ref().map(|mode| mode.span.clone());
    let mode = choose(mode, "mqtt.mode", Mode::Embedded, &MQTT_MODE, problems);
    let url_at = url.as_ref().map(|url| url.span.clone());
    let url = url.and_then(|url| parsed(&url.value, &url.span, "mqtt.url", self::url, problems));
    if let (Mode::External, Some(at), None) = (mode, &mode_at, &url_at) {
        let help = "say where the broker is: url = \"mqtt://127.0.0.1:1883\"";
        let message = "`url` is missing: mode is \"external\"";
        problems.add(at, "mqtt.url", message, help);
    }
    let plain = url.as_ref().is_some_and(|url| !url.tls);
    for (key, written) in [
        ("mqtt.broker.ca", &written.ca),
        ("mqtt.broker.certificate", &written.certificate),
    ] {
        if let (true, Some(written), Some(_)) = (plain, written, &url_at) {
            let message = "without TLS nobody shows a certificate";
            let help = "write the url with mqtts://, or remove this key";
            problems.add(&written.span, key, message, help);
        }
    }
    let user_at = written.user.as_ref().map(|user| user.span.clone());
    if let (Some(password), None) = (&written.password_file, &user_at) {
        let help = "add the broker's name for us: user = \"towpath\"";
        let message = "a password without a user";
        problems.add(&password.span, "mqtt.broker.password_file", message, help);
    }
    let identity = identity(&written.certificate, &written.key, files, problems);
    let mut read = |path: &Option<At<String>>, key| pem(path.as_ref()?, key, files, problems);
    let password = read(&written.password_file, "mqtt.broker.password_file");
    let ca = read(&written.ca, "mqtt.broker.ca");
    let broker = Broker {
        url,
        user: written.user.map(|user| user.value),
        password,
        ca,
        identity,
        outbox_messages: mqtt::count(
            written.outbox_messages,
            "mqtt.broker.outbox_messages",
            (MESSAGES, 1, MESSAGES_MAX),
            problems,
        ),
        outbox_bytes: mqtt::count(
            written.outbox_bytes,
            "mqtt.broker.outbox_bytes",
            (BYTES, BYTES_MIN, BYTES_MAX),
            problems,
        ),
    };
    (mode, broker)
}

fn identity(
    certificate: &Option<At<String>>,
    key: &Option<At<String>>,
    files: &mut dyn FnMut(&Path) -> io::Result<String>,
    problems: &mut Problems<'_>,
) -> Option<(Pem, Pem)> {
    const CERTIFICATE: &str = "mqtt.broker.certificate";
    const KEY: &str = "mqtt.broker.key";
    for (this, other, missing) in [(certificate, key, KEY), (key, certificate, CERTIFICATE)] {
        if let (Some(this), None) = (this, other) {
            let message = format!("`{missing}` is missing beside it");
            let help = "name both: our certificate, and the key it is for";
            problems.add(&this.span, missing, message, help);
        }
    }
    let (certificate, key) = (certificate.as_ref()?, key.as_ref()?);
    let certificate = pem(certificate, CERTIFICATE, files, problems);
    let key = pem(key, KEY, files, problems);
    Some((certificate?, key?))
}

fn url(text: &str) -> Result<Url, value::Refusal> {
    let refused = || {
        let message = format!("`{text}` is not the address of a broker");
        let help = "write \"mqtt://host:1883\", or \"mqtts://host:8883\" for TLS";
        (message, help.to_owned())
    };
    let (scheme, rest) = text.split_once("://").ok_or_else(refused)?;
    let (tls, default) = match scheme {
        "mqtt" => (false, PORT),
        "mqtts" => (true, TLS_PORT),
        _ => return Err(refused()),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or_else(refused)?;
            host.parse::<Ipv6Addr>().map_err(|_| refused())?;
            (host, port.strip_prefix(':'))
        }
        None => match rest.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    let port = port
        .map_or(Ok(default), str::parse)
        .map_err(|_| refused())?;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '_');
    if host.is_empty() || !host.chars().all(fits) || port == 0 {
        return Err(refused());
    }
    let host = host.to_owned();
    Ok(Url { tls, host, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (text, expected) in [
            ("mqtt://127.0.0.1:1884", Some("mqtt://127.0.0.1:1884")),
            (
                "mqtt://broker.example.com",
                Some("mqtt://broker.example.com:1883"),
            ),
            ("mqtts://broker/", Some("mqtts://broker:8883")),
            ("mqtts://[2001:db8::1]", Some("mqtts://[2001:db8::1]:8883")),
            ("mqtt://[::1]:1", Some("mqtt://[::1]:1")),
            ("broker:1883", None),
            ("tcp://broker:1883", None),
            ("mqtt://", None),
            ("mqtt://broker:0", None),
            ("mqtt://broker:65536", None),
            ("mqtt://user@broker", None),
            ("mqtt://broker/path", None),
            ("mqtt://[broker]", None),
            ("mqtt://[::1", None),
        ] {
            let read = url(text).ok().map(|url| url.to_string());
            assert_eq!(read.as_deref(), expected, "{text}");
        }
    }
}
