//! What of a message is not to be seen: secrets never, names and numbers only by those who ask.

use std::ops::Range;

use bytes::Bytes;

/// Parameters of credentials that a password could be tried against (RFC 7616 §3.4, §3.5).
const CREDENTIALS: [&str; 3] = ["response", "cnonce", "rspauth"];
/// In the name of a header, these say that its value is somebody's secret.
const SECRET_NAMES: [&str; 5] = ["password", "secret", "token", "api-key", "cookie"];
/// Lines of SDP whose rest is a key (RFC 4568 §4, RFC 8839 §5.4, RFC 4567 §3, RFC 4566 §5.12).
const SECRET_LINES: [&str; 4] = ["a=crypto:", "a=ice-pwd:", "a=key-mgmt:", "k="];
/// Headers that name somebody in front of an address.
const NAMED: [&str; 12] = [
    "from",
    "f",
    "to",
    "t",
    "contact",
    "m",
    "p-asserted-identity",
    "p-preferred-identity",
    "remote-party-id",
    "diversion",
    "referred-by",
    "reply-to",
];
/// Headers in which a number that is also a user's name is something else.
const NUMBERS: [&str; 15] = [
    "cseq",
    "content-length",
    "l",
    "max-forwards",
    "expires",
    "session-expires",
    "x",
    "min-se",
    "min-expires",
    "rseq",
    "rack",
    "retry-after",
    "call-id",
    "i",
    "timestamp",
];
/// A shorter name is not looked for outside addresses.
const NAME_BYTES_MIN: usize = 3;

/// The message with its secrets written over: as long as it was, and everything else as it was.
#[must_use]
pub fn secrets_out(bytes: &Bytes) -> Bytes {
    let secrets = secrets(bytes);
    if secrets.is_empty() {
        return bytes.clone();
    }
    let mut shown = bytes.to_vec();
    for secret in secrets {
        if let Some(part) = shown.get_mut(secret) {
            part.fill(b'*');
        }
    }
    shown.into()
}

/// One line of a message, without its end.
struct Line {
    at: Range<usize>,
    /// Of the header it belongs to, in lower case; none in the body and of the first line.
    header: Option<String>,
    in_body: bool,
}

fn lines(bytes: &[u8]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let (mut from, mut in_body, mut header) = (0, false, None);
    for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
        let text = piece.strip_suffix(b"\n").unwrap_or(piece);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let first = lines.is_empty();
        if !in_body && !first && !text.starts_with(b" ") && !text.starts_with(b"\t") {
            let colon = text.iter().position(|byte| *byte == b':');
            let name = text.get(..colon.unwrap_or_default()).unwrap_or_default();
            let name = String::from_utf8_lossy(name).trim().to_ascii_lowercase();
            header = Some(name);
        }
        let ends = !in_body && !first && text.is_empty();
        let header = if in_body || ends {
            None
        } else {
            header.clone()
        };
        if !(first && text.is_empty()) {
            let at = from..from + text.len();
            lines.push(Line {
                at,
                header,
                in_body,
            });
        }
        in_body |= ends;
        from += piece.len();
    }
    lines
}

fn secrets(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut tones = false;
    for line in lines(bytes) {
        let text = bytes.get(line.at.clone()).unwrap_or_default();
        let lower = String::from_utf8_lossy(text).to_ascii_lowercase();
        let mut hide = |part: Range<usize>| {
            found.push(line.at.start + part.start..line.at.start + part.end);
        };
        // Lower case of what is not UTF-8 may have another length; then all of it goes.
        let whole = lower.len() != text.len();
        let value = lower.find(':').map_or(0, |colon| colon + 1);
        match line.header.as_deref() {
            Some("authorization" | "proxy-authorization") => {
                match lower.find("digest").filter(|_| !whole) {
                    Some(_) => parameters(&lower).for_each(&mut hide),
                    // The rest of a folded line has no scheme.
                    None if lower.starts_with([' ', '\t']) && !whole => {
                        parameters(&lower).for_each(&mut hide);
                    }
                    None => hide(value..text.len()),
                }
            }
            Some("authentication-info" | "proxy-authentication-info") => {
                parameters(&lower).for_each(&mut hide);
            }
            Some(name) if SECRET_NAMES.iter().any(|secret| name.contains(secret)) => {
                hide(value..text.len());
            }
            Some("content-type" | "c") if lower.contains("dtmf") => tones = true,
            None if line.in_body && tones => hide(0..text.len()),
            None if line.in_body => {
                let secret = SECRET_LINES.iter().find(|start| lower.starts_with(**start));
                if let Some(start) = secret {
                    // The suite in front of the key is none.
                    let key = lower.find("inline:").map(|at| at + "inline:".len());
                    hide(key.unwrap_or(start.len())..text.len());
                }
            }
            Some(_) | None => passwords(&lower).for_each(hide),
        }
    }
    found
}

/// The values that are secret, among the parameters of credentials.
fn parameters(lower: &str) -> impl Iterator<Item = Range<usize>> {
    CREDENTIALS.iter().flat_map(move |name| {
        lower.match_indices(name).filter_map(move |(at, _)| {
            let before = lower.get(..at)?.chars().next_back();
            let starts = before.is_none_or(|c| c == ',' || c.is_whitespace());
            let after = lower.get(at + name.len()..)?;
            let rest = after.trim_start().strip_prefix('=')?.trim_start();
            let quoted = rest.strip_prefix('"');
            let value = quoted.unwrap_or(rest);
            let start = lower.len() - value.len();
            let end = match quoted {
                Some(_) => value.find('"'),
                None => value.find([',', ' ']),
            };
            starts.then(|| start..start + end.unwrap_or(value.len()))
        })
    })
}

/// Passwords in addresses: `sip:user:password@host` (RFC 3261 §19.1.1).
fn passwords(lower: &str) -> impl Iterator<Item = Range<usize>> {
    users(lower).filter_map(|user| {
        let text = lower.get(user.clone())?;
        let colon = text.find(':')?;
        Some(user.start + colon + 1..user.end)
    })
}

/// Where the parts before `@` are, and the numbers of `tel:`.
fn users(lower: &str) -> impl Iterator<Item = Range<usize>> {
    const SCHEMES: [&str; 3] = ["sip:", "sips:", "tel:"];
    const ENDS: [char; 6] = ['@', '>', '<', '"', ' ', '\t'];
    let starts = lower.match_indices(':').filter_map(move |(colon, _)| {
        let start = colon + 1;
        let before = lower.get(..start)?;
        let scheme = SCHEMES.iter().find(|scheme| before.ends_with(**scheme))?;
        let front = before.get(..before.len() - scheme.len())?;
        let alone = !front.ends_with(|c: char| c.is_ascii_alphanumeric());
        alone.then_some((start, *scheme))
    });
    starts.filter_map(move |(start, scheme)| {
        let rest = lower.get(start..)?;
        if scheme == "tel:" {
            let end = rest.find([';', '>', ',', ' ', '"']).unwrap_or(rest.len());
            return Some(start..start + end);
        }
        let end = rest.find(ENDS)?;
        let found = rest.get(end..)?.starts_with('@');
        found.then(|| start..start + end)
    })
}

/// Whom a row of messages is about, by other names.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: Vec<String>,
}

impl Names {
    fn label(&mut self, name: &str) -> String {
        let known = self.known.iter().position(|known| known == name);
        let place = known.unwrap_or_else(|| {
            self.known.push(name.to_owned());
            self.known.len() - 1
        });
        format!("user{}", place + 1)
    }

    /// What somebody may see who did not ask for names.
    pub(super) fn hide(&mut self, bytes: &[u8]) -> String {
        let (mut shown, mut kind, mut hidden) = (String::new(), String::new(), 0);
        for line in lines(bytes) {
            let text = String::from_utf8_lossy(bytes.get(line.at).unwrap_or_default());
            let lower = text.to_ascii_lowercase();
            let text = match line.header.as_deref() {
                Some(name) => {
                    if let "content-type" | "c" = name {
                        kind = lower.split_once(':').map_or("", |(_, v)| v.trim()).into();
                    }
                    self.header(name, &text, &lower)
                }
                None if !line.in_body => self.addresses(&text, &lower),
                None if kind.contains("sdp") || kind.starts_with("multipart/") => self.sdp(&text),
                None => {
                    hidden += text.len();
                    continue;
                }
            };
            shown.push_str(&text);
            shown.push_str("\r\n");
        }
        if hidden > 0 {
            let kind = kind.split(';').next().unwrap_or_default();
            shown.push_str(&format!("[{hidden} octets, {kind}, are not shown]\r\n"));
        }
        shown
    }

    fn header(&mut self, name: &str, text: &str, lower: &str) -> String {
        let text = match text.find('<') {
            Some(_) if NAMED.contains(&name) => without_display_names(text),
            Some(_) | None => text.to_owned(),
        };
        let lower = match lower.len() == text.len() {
            true => lower.to_owned(),
            false => text.to_ascii_lowercase(),
        };
        let text = self.addresses(&text, &lower);
        let text = match name {
            "authorization" | "proxy-authorization" => self.username(&text),
            _ => text,
        };
        match NUMBERS.contains(&name) {
            true => text,
            false => self.elsewhere(text),
        }
    }

    /// Every user of an address.
    fn addresses(&mut self, text: &str, lower: &str) -> String {
        let mut shown = String::new();
        let mut from = 0;
        for user in users(lower) {
            shown.push_str(text.get(from..user.start).unwrap_or_default());
            let name = text.get(user.clone()).unwrap_or_default();
            let name = name.split([':', ';']).next().unwrap_or_default();
            shown.push_str(&self.label(name));
            from = user.end;
        }
        shown.push_str(text.get(from..).unwrap_or_default());
        shown
    }

    fn username(&mut self, text: &str) -> String {
        let Some((front, rest)) = text.split_once("username=") else {
            return text.to_owned();
        };
        let (quote, rest) = match rest.strip_prefix('"') {
            Some(rest) => ("\"", rest),
            None => ("", rest),
        };
        let end = rest.find(['"', ',', ' ']).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let name = self.label(name.split('@').next().unwrap_or_default());
        format!("{front}username={quote}{name}{rest}")
    }

    /// Names that are known from addresses, in headers of any kind.
    fn elsewhere(&self, mut text: String) -> String {
        let begin = text.find(':').map_or(0, |colon| colon + 1);
        for (place, name) in self.known.iter().enumerate() {
            if name.len() < NAME_BYTES_MIN {
                continue;
            }
            let mut from = begin;
            while let Some(at) = text.get(from..).and_then(|rest| rest.find(name.as_str())) {
                let (start, end) = (from + at, from + at + name.len());
                let joins = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '.');
                let before = text.get(..start).and_then(|t| t.chars().next_back());
                let after = text.get(end..).and_then(|t| t.chars().next());
                from = end;
                if !joins(before) && !joins(after) {
                    let label = format!("user{}", place + 1);
                    from = start + label.len();
                    text.replace_range(start..end, &label);
                }
            }
        }
        text
    }

    /// RFC 4566 §5: who made the session, and what is said of it in words.
    fn sdp(&mut self, line: &str) -> String {
        match line.get(..2) {
            Some("o=") => {
                let rest = line.get(2..).unwrap_or_default();
                match rest.split_once(' ') {
                    Some((name, rest)) if name != "-" => format!("o={} {rest}", self.label(name)),
                    Some(_) | None => line.to_owned(),
                }
            }
            Some(kind @ ("s=" | "i=" | "u=" | "e=" | "p=")) => {
                let said = line.get(2..).unwrap_or_default().trim();
                let shown = if said.is_empty() || said == "-" {
                    said
                } else {
                    "…"
                };
                format!("{kind}{shown}")
            }
            Some(_) | None => match line.split_once("cname:") {
                Some((front, _)) => format!("{front}cname:…"),
                None => line.to_owned(),
            },
        }
    }
}

/// What stands in front of an address in angle brackets.
fn without_display_names(text: &str) -> String {
    let Some((name, mut rest)) = text.split_once(':') else {
        return text.to_owned();
    };
    let mut shown = format!("{name}:");
    while let Some((front, address)) = rest.split_once('<') {
        // Behind the comma that ends the address before it.
        let quote = front.find('"').unwrap_or(front.len());
        let kept = front.get(..quote).and_then(|front| front.rfind(','));
        let kept = kept.map_or(0, |comma| comma + 1);
        let (kept, display) = front.split_at(kept);
        shown.push_str(kept);
        shown.push_str(if display.trim().is_empty() {
            " <"
        } else {
            " \"…\" <"
        });
        let (address, behind) = address.split_once('>').unwrap_or((address, ""));
        shown.push_str(address);
        shown.push('>');
        rest = behind;
    }
    shown.push_str(rest);
    shown
}

/// Octets as text that a terminal takes for nothing else.
pub(super) fn plain(text: &str) -> String {
    let odd = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    let lines = text.replace("\r\n", "\n");
    lines
        .chars()
        .map(|c| if odd(c) { '\u{fffd}' } else { c })
        .collect()
}
