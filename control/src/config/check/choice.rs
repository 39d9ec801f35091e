//! Keys that take one of a few words, and the words.

use super::super::{
    AddressChange, Algorithm, Auth, DatapathMode, Ice, KeepAlive, MediaFrom, MediaMode, NatMode,
    RegisterBy, Sync, Verify, XdpAttach,
};
use crate::config::api::{LogFormat, MetricsFor};
use crate::config::problem::{At, Problems, nearest};

pub(in crate::config) const AUTH: [(&str, Auth); 2] =
    [("digest", Auth::Digest), ("none", Auth::None)];
pub(in crate::config) const ALGORITHM: [(&str, Algorithm); 2] =
    [("md5", Algorithm::Md5), ("sha256", Algorithm::Sha256)];
pub(in crate::config) const REGISTER: [(&str, bool); 2] = [("local", false), ("forward", true)];
pub(in crate::config) const REGISTER_BY: [(&str, RegisterBy); 2] =
    [("contact", RegisterBy::Contact), ("path", RegisterBy::Path)];
pub(in crate::config) const KEEPALIVE: [(&str, KeepAlive); 3] = [
    ("crlf", KeepAlive::Crlf),
    ("options", KeepAlive::Options),
    ("off", KeepAlive::Off),
];
pub(in crate::config) const VERIFY: [(&str, Verify); 3] = [
    ("none", Verify::None),
    ("peers", Verify::Peers),
    ("all", Verify::All),
];
pub(in crate::config) const NAT: [(&str, NatMode); 3] = [
    ("auto", NatMode::Auto),
    ("always", NatMode::Always),
    ("never", NatMode::Never),
];
pub(in crate::config) const MEDIA: [(&str, MediaMode); 3] = [
    ("auto", MediaMode::Auto),
    ("sdp", MediaMode::Sdp),
    ("symmetric", MediaMode::Symmetric),
];
pub(in crate::config) const MEDIA_FROM: [(&str, MediaFrom); 3] = [
    ("signalling", MediaFrom::Signalling),
    ("subnet", MediaFrom::Subnet),
    ("anywhere", MediaFrom::Anywhere),
];
pub(in crate::config) const ICE: [(&str, Ice); 2] = [("strip", Ice::Strip), ("pass", Ice::Pass)];
pub(in crate::config) const ADDRESS_CHANGE: [(&str, AddressChange); 3] = [
    ("reinvite", AddressChange::Reinvite),
    ("ignore", AddressChange::Ignore),
    ("drop", AddressChange::Drop),
];
pub(in crate::config) const MODE: [(&str, DatapathMode); 3] = [
    ("auto", DatapathMode::Auto),
    ("xdp", DatapathMode::Xdp),
    ("userspace", DatapathMode::Userspace),
];
pub(in crate::config) const SYNC: [(&str, Sync); 2] =
    [("before", Sync::Before), ("behind", Sync::Behind)];
pub(in crate::config) const METRICS_FOR: [(&str, MetricsFor); 2] =
    [("token", MetricsFor::Viewers), ("open", MetricsFor::Anyone)];
pub(in crate::config) const LOG_FORMAT: [(&str, LogFormat); 4] = [
    ("auto", LogFormat::Auto),
    ("text", LogFormat::Text),
    ("json", LogFormat::Json),
    ("journal", LogFormat::Journal),
];
pub(in crate::config) const XDP: [(&str, XdpAttach); 2] = [
    ("native", XdpAttach::Native),
    ("generic", XdpAttach::Generic),
];

/// One of a few words.
pub(super) fn choose<T: Copy>(
    text: Option<At<String>>,
    key: &str,
    default: T,
    choices: &[(&str, T)],
    problems: &mut Problems<'_>,
) -> T {
    let Some(text) = text else { return default };
    if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == text.value) {
        return *choice;
    }
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    let help = match nearest(&text.value, &words) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("write one of: {}", words.join(", ")),
    };
    let message = format!("`{}` is not a choice", text.value);
    problems.add(&text.span, key, message, help);
    default
}
