//! `[mqtt]`: where clients connect, and what they may cost us.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::stream::pem;
use super::{broker, lifetime, parsed, value};
use crate::config::file;
use crate::config::mqtt::{Mqtt, Tls};
use crate::config::problem::{At, Problems};
use crate::id::{Listener, Transport};
use crate::mqtt::{Limits, PACKET_BYTES_MAX, filter};

/// Bounds of the limits: what one client may cost, and what all of them may.
const CLIENTS_MAX: usize = 100_000;
const QUEUE_MESSAGES_MAX: usize = 100_000;
const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
const FILTERS_MAX: usize = 10_000;
const RETAINED_BYTES_MAX: usize = 1024 * 1024 * 1024;
const EXPIRY_MIN: Duration = Duration::from_secs(1);
const EXPIRY_MAX: Duration = Duration::from_secs(24 * 3600);
const EXPIRY_S: u64 = 3600;
/// Fields whose addresses are written for each receiver.
const FIELDS_MAX: usize = 16;

pub(super) fn read(
    written: file::Mqtt,
    sip_tls: bool,
    files: &mut dyn FnMut(&Path) -> io::Result<String>,
    problems: &mut Problems<'_>,
) -> Mqtt {
    let listen = listeners(written.listen, problems);
    let has_tls = written.tls.certificate.is_some() || written.tls.key.is_some();
    let tls = tls(written.tls, files, problems);
    let secured = |on: &&At<Listener>| on.value.transport == Transport::Tls;
    if let (Some(on), false) = (listen.iter().find(secured), has_tls || sip_tls) {
        let help = "add [mqtt.tls] or [sip.tls] with certificate and key";
        let message = "TLS needs a certificate";
        problems.add(&on.span, "mqtt.listen", message, help);
    }
    let range = EXPIRY_MIN..=EXPIRY_MAX;
    let (expiry, key) = (written.session_expiry, "mqtt.session_expiry");
    let mut number = |written: Option<At<i64>>, key: &str, (default, least, most)| {
        count(
            written,
            &format!("mqtt.{key}"),
            (default, least, most),
            problems,
        )
    };
    let least = PACKET_BYTES_MAX;
    let default = Limits::DEFAULT;
    let limits = Limits {
        clients: number(
            written.clients,
            "clients",
            (default.clients, 1, CLIENTS_MAX),
        ),
        queue_messages: number(
            written.queue_messages,
            "queue_messages",
            (default.queue_messages, 1, QUEUE_MESSAGES_MAX),
        ),
        queue_bytes: number(
            written.queue_bytes,
            "queue_bytes",
            (default.queue_bytes, least, QUEUE_BYTES_MAX),
        ),
        filters: number(
            written.filters,
            "filters",
            (default.filters, 1, FILTERS_MAX),
        ),
        retained_bytes: number(
            written.retained_bytes,
            "retained_bytes",
            (default.retained_bytes, least, RETAINED_BYTES_MAX),
        ),
        session_expiry: lifetime(expiry, key, EXPIRY_S, &range, problems),
    };
    let (mode, broker) = broker::read(written.mode, written.url, written.broker, files, problems);
    Mqtt {
        mode,
        broker,
        listen: listen.into_iter().map(|on| on.value).collect(),
        topics: all(written.topics, "mqtt.topics", topics, problems),
        legacy_address_fields: fields(written.legacy_address_fields, problems),
        limits,
        tls,
    }
}

fn listeners(
    written: Option<At<Vec<At<String>>>>,
    problems: &mut Problems<'_>,
) -> Vec<At<Listener>> {
    const KEY: &str = "mqtt.listen";
    let mut listeners: Vec<At<Listener>> = Vec::new();
    for text in written.map_or(Vec::new(), |list| list.value) {
        let Some(value) = parsed(&text.value, &text.span, KEY, listener, problems) else {
            continue;
        };
        if let Some(first) = listeners.iter().find(|l| l.value.local == value.local) {
            let line = problems.line(&first.span);
            let message = format!("{} is listened on (line {line})", value.local);
            problems.add(&text.span, KEY, message, "remove one of the two");
        }
        let span = text.span;
        listeners.push(At { value, span });
    }
    listeners
}

fn listener(text: &str) -> Result<Listener, value::Refusal> {
    let help = "write \"tcp:0.0.0.0:1883\", \"tls:[::]:8883\" or one of our addresses";
    match value::listen(text) {
        Ok(on) if on.transport.is_reliable() => Ok(on),
        _ => Err((
            format!("`{text}` is not a listener for MQTT"),
            help.to_owned(),
        )),
    }
}

fn tls(
    written: file::MqttTls,
    files: &mut dyn FnMut(&Path) -> io::Result<String>,
    problems: &mut Problems<'_>,
) -> Option<Tls> {
    let file::MqttTls {
        at,
        certificate,
        key,
    } = written;
    for (name, this, other) in [
        ("certificate", &certificate, &key),
        ("key", &key, &certificate),
    ] {
        let full = format!("mqtt.tls.{name}");
        if this.is_none() && other.is_some() && !problems.mentions(&full) {
            let message = format!("`{name}` is missing from [mqtt.tls]");
            let help = format!("name a file in PEM form: {name} = \"/etc/towpath/{name}.pem\"");
            problems.add(&at, &full, message, help);
        }
    }
    let mut read = |path: Option<At<String>>, key: &str| pem(&path?, key, files, problems);
    let certificate = read(certificate, "mqtt.tls.certificate");
    let key = read(key, "mqtt.tls.key");
    Some(Tls {
        certificate: certificate?,
        key: key?,
    })
}

fn all(
    written: Option<At<Vec<At<String>>>>,
    key: &str,
    parse: fn(&str) -> Result<String, value::Refusal>,
    problems: &mut Problems<'_>,
) -> Vec<String> {
    let list = written.map_or(Vec::new(), |list| list.value);
    let read = |text: At<String>| parsed(&text.value, &text.span, key, parse, problems);
    list.into_iter().filter_map(read).collect()
}

fn topics(text: &str) -> Result<String, value::Refusal> {
    if filter::is_filter(text) && !text.starts_with('$') {
        return Ok(text.to_owned());
    }
    let message = format!("`{text}` is not a filter of topics");
    Err((
        message,
        "write topics with + and #: \"room/+/state\"".to_owned(),
    ))
}

fn fields(written: Option<At<Vec<At<String>>>>, problems: &mut Problems<'_>) -> Vec<String> {
    const KEY: &str = "mqtt.legacy_address_fields";
    let many = written
        .as_ref()
        .filter(|list| list.value.len() > FIELDS_MAX);
    if let Some(list) = many {
        let message = format!("{} fields are too many", list.value.len());
        let help = format!("every message is searched for them: name {FIELDS_MAX} at most");
        problems.add(&list.span, KEY, message, help);
    }
    all(written, KEY, pointer, problems)
}

/// RFC 6901 §3.
fn pointer(text: &str) -> Result<String, value::Refusal> {
    let escaped = text.split('~').skip(1);
    let mut escaped = escaped.map(|rest| rest.starts_with(['0', '1']));
    if text.starts_with('/') && text.len() > 1 && escaped.all(|good| good) {
        return Ok(text.to_owned());
    }
    let message = format!("`{text}` is not a JSON pointer");
    Err((message, "begin with a slash: \"/server/ip\"".to_owned()))
}

pub(super) fn count(
    written: Option<At<i64>>,
    key: &str,
    (default, least, most): (usize, usize, usize),
    problems: &mut Problems<'_>,
) -> usize {
    let Some(written) = written else {
        return default;
    };
    let number = usize::try_from(written.value).ok();
    number
        .filter(|number| (least..=most).contains(number))
        .unwrap_or_else(|| {
            let message = format!("{} is out of range", written.value);
            problems.add(
                &written.span,
                key,
                message,
                format!("write {least} to {most}"),
            );
            default
        })
}
