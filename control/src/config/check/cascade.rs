//! `[cascade]` and `[[cascade.lower]]`.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::stream::pem;
use super::value::Refusal;
use super::{beside, lifetime, parsed};
use crate::config::problem::{At, Problems, Span};
use crate::config::{Cascade, Lower, Secret, ServerListener, Upper, file};
use crate::id::is_server_id;

/// Bounds and default of `cascade.deadline`.
const DEADLINE_MIN: Duration = Duration::from_millis(100);
const DEADLINE_MAX: Duration = Duration::from_secs(30);
const DEADLINE_S: u64 = 3;
/// A token shorter than this can be guessed.
const TOKEN_BYTES_MIN: usize = 16;
const TOKEN_BYTES_MAX: usize = 1024;

pub(super) fn read(
    written: file::Cascade,
    node: &str,
    files: &mut dyn FnMut(&Path) -> io::Result<String>,
    problems: &mut Problems<'_>,
) -> Cascade {
    let file::Cascade {
        at,
        listen,
        certificate,
        key,
        ca,
        upper,
        token_file,
        deadline,
        lowers,
    } = written;
    let in_use = listen.is_some() || upper.is_some() || !lowers.is_empty();
    if in_use && !is_server_id(node) {
        let message = format!("node.id `{node}` cannot be a server's name in a cascade");
        let help = "use a-z, 0-9 and `-`: conferences are named after their home server";
        problems.add(&at, "cascade", message, help);
    }
    let listen = listeners(listen, problems);
    let has_certificate = certificate.is_some() && key.is_some();
    if let (Some(on), false) = (listen.iter().find(|l| l.value.tls), has_certificate) {
        let message = format!("{} needs a certificate and its key", on.value);
        let help = "name both: certificate = \"/etc/towpath/edge.pem\", key = \"…\"";
        problems.add(&on.span, "cascade.listen", message, help);
    }
    for (one, other, name, missing) in [
        (&certificate, &key, "cascade.certificate", "key"),
        (&key, &certificate, "cascade.key", "certificate"),
    ] {
        if let (Some(one), None) = (one, other) {
            let message = format!("`{missing}` is missing beside it");
            let help =
                format!("name a file in PEM form: {missing} = \"/etc/towpath/{missing}.pem\"");
            problems.add(&one.span, name, message, help);
        }
    }
    let (upper, token) = above(upper, token_file, has_certificate, files, problems);
    let has_ca = ca.is_some();
    let lowers = lowers_of(lowers, node, has_ca, problems);
    let mut read = |path: Option<At<String>>, key: &str| pem(&path?, key, files, problems);
    Cascade {
        listen: listen.into_iter().map(|listen| listen.value).collect(),
        certificate: read(certificate, "cascade.certificate"),
        key: read(key, "cascade.key"),
        ca: read(ca, "cascade.ca"),
        upper,
        token,
        deadline: lifetime(
            deadline,
            "cascade.deadline",
            DEADLINE_S,
            &(DEADLINE_MIN..=DEADLINE_MAX),
            problems,
        ),
        lowers,
    }
}

/// The upper server, and what proves to it who we are.
fn above(
    upper: Option<At<String>>,
    token_file: Option<At<String>>,
    has_certificate: bool,
    files: &mut dyn FnMut(&Path) -> io::Result<String>,
    problems: &mut Problems<'_>,
) -> (Option<Upper>, Option<Secret>) {
    let written = upper.as_ref().map(|upper| upper.span.clone());
    let key = "cascade.upper";
    let upper = upper.and_then(|text| parsed(&text.value, &text.span, key, url_of, problems));
    let token_at = token_file.as_ref().map(|path| path.span.clone());
    let token = token_file.and_then(|path| token(&path, files, problems));
    match (written, &upper, token_at) {
        (Some(span), Some(upper), None) if !(upper.tls && has_certificate) => {
            let message = "nothing proves to the upper server who we are";
            let help = "add token_file, or certificate and key with an https:// upper";
            problems.add(&span, key, message, help);
        }
        (None, _, Some(span)) => {
            let message = "there is no upper server to show the token to";
            let help = "remove it, or name the upper server: upper = \"https://core:8443\"";
            problems.add(&span, "cascade.token_file", message, help);
        }
        _ => {}
    }
    (upper, token)
}

fn listeners(
    written: Option<At<Vec<At<String>>>>,
    problems: &mut Problems<'_>,
) -> Vec<At<ServerListener>> {
    let mut listeners: Vec<At<ServerListener>> = Vec::new();
    for text in written.map(|list| list.value).unwrap_or_default() {
        let key = "cascade.listen";
        let Some(value) = parsed(&text.value, &text.span, key, listener, problems) else {
            continue;
        };
        let same = |other: &&At<ServerListener>| other.value.local == value.local;
        if let Some(known) = listeners.iter().find(same) {
            let line = problems.line(&known.span);
            let message = format!("{} is already listened on (line {line})", text.value);
            problems.add(&text.span, key, message, "remove one of the two");
            continue;
        }
        listeners.push(At::new(value, text.span));
    }
    listeners
}

fn listener(text: &str) -> Result<ServerListener, Refusal> {
    let help = "write \"tls:0.0.0.0:8443\", or \"tcp:10.0.0.3:8443\" inside a tunnel";
    let (tls, rest) = match text.split_once(':') {
        Some(("tls", rest)) => (true, rest),
        Some(("tcp", rest)) => (false, rest),
        _ => return Err((format!("`{text}` is not a listener"), help.to_owned())),
    };
    match rest.parse::<SocketAddr>() {
        Ok(local) if local.port() != 0 => Ok(ServerListener { tls, local }),
        Ok(_) => Err(("a listener needs a port".to_owned(), help.to_owned())),
        Err(_) => Err((
            format!("`{rest}` is not an address and port"),
            help.to_owned(),
        )),
    }
}

fn url_of(text: &str) -> Result<Upper, Refusal> {
    let help = || "write \"https://core-01.example.com:8443\"".to_owned();
    let (tls, rest) = match text.split_once("://") {
        Some(("https", rest)) => (true, rest),
        Some(("http", rest)) => (false, rest),
        _ => return Err((format!("`{text}` is not an http or https URL"), help())),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#', '@']) {
        let message = format!("`{text}` has more than a name and a port");
        return Err((message, help()));
    }
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') => (host, port),
        _ => return Err((format!("`{text}` has no port"), help())),
    };
    if !port.parse::<u16>().is_ok_and(|port| port != 0) {
        return Err((format!("`{port}` is not a port"), help()));
    }
    let v6 = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let good = match v6 {
        Some(ip) => ip.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
            !host.is_empty() && host.chars().all(allowed)
        }
    };
    if !good {
        return Err((format!("`{host}` is not a name or an address"), help()));
    }
    let authority = rest.to_owned();
    Ok(Upper { tls, authority })
}

fn token(
    path: &At<String>,
    files: &mut dyn FnMut(&Path) -> io::Result<String>,
    problems: &mut Problems<'_>,
) -> Option<Secret> {
    const KEY: &str = "cascade.token_file";
    let full = beside(problems.file(), &path.value);
    let text = match files(&full) {
        Ok(text) => text,
        Err(error) => {
            let message = format!("cannot read {}: {error}", full.display());
            let help = "check the path, and that the daemon's user may read the file";
            problems.add(&path.span, KEY, message, help);
            return None;
        }
    };
    let token = text.trim_end_matches(['\r', '\n']);
    let range = TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX;
    if !range.contains(&token.len()) || !token.bytes().all(|c| c.is_ascii_graphic()) {
        let message = format!("{} holds no token", full.display());
        let help = format!(
            "one line of {TOKEN_BYTES_MIN} or more letters and digits: `openssl rand -hex 32`"
        );
        problems.add(&path.span, KEY, message, help);
        return None;
    }
    Some(Secret::Password(token.to_owned()))
}

fn lowers_of(
    written: Vec<file::CascadeLower>,
    node: &str,
    has_ca: bool,
    problems: &mut Problems<'_>,
) -> Vec<Lower> {
    let mut seen: BTreeMap<String, Span> = BTreeMap::new();
    let mut lowers = Vec::new();
    for lower in written {
        let Some(id) = lower.id else { continue };
        if !is_server_id(&id.value) || id.value == node {
            let message = format!("`{}` cannot be a lower server's name", id.value);
            let help = "write its node.id: a-z, 0-9 and `-`, not our own";
            problems.add(&id.span, "cascade.lower.id", message, help);
        } else if let Some(first) = seen.insert(id.value.clone(), id.span.clone()) {
            let line = problems.line(&first);
            let message = format!("the server `{}` stands in line {line} too", id.value);
            let help = "remove one of the two";
            problems.add(&id.span, "cascade.lower.id", message, help);
        }
        if lower.token_sha256.is_none() && lower.tls_name.is_none() {
            let message = format!("nothing proves that `{}` is who it says", id.value);
            let help = "add token_sha256 (`sha256sum` of its token), or tls_name with `ca`";
            problems.add(&lower.at, "cascade.lower", message, help);
        }
        if let (Some(name), false) = (&lower.tls_name, has_ca) {
            let message = "no certificate of a lower server can be verified without `ca`";
            let help = "name the file of those who issue them: ca = \"/etc/towpath/ca.pem\"";
            problems.add(&name.span, "cascade.lower.tls_name", message, help);
        }
        let token = lower.token_sha256.and_then(|text| {
            let key = "cascade.lower.token_sha256";
            parsed(&text.value, &text.span, key, sha256, problems)
        });
        lowers.push(Lower {
            id: id.value,
            token,
            tls_name: lower.tls_name.map(|name| name.value),
        });
    }
    lowers
}

fn sha256(text: &str) -> Result<Secret, Refusal> {
    let digits = text.len() == 64 && text.bytes().all(|c| c.is_ascii_hexdigit());
    if digits {
        return Ok(Secret::Ha1Sha256(text.to_ascii_lowercase()));
    }
    let help = "64 hexadecimal digits: `tr -d '\\n' < token | sha256sum`";
    Err(("this is not a SHA-256".to_owned(), help.to_owned()))
}
