//! From text to `Config`, or every problem at once. Does no I/O: what the host has, and what stands
//! in a password file, are arguments.

mod account;
mod api;
mod broker;
mod cascade;
pub(super) mod choice;
mod conference;
pub mod later;
mod limits;
mod mqtt;
mod network;
mod peer;
mod protection;
mod shards;
mod sip;
mod stream;
mod trace;
mod value;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::api::levels;
pub use self::network::{ADDRESSES_MAX, NETWORKS_MAX};
pub use super::file::{ENTRIES_MAX, TEXT_BYTES_MAX};
pub use super::problem::{PROBLEMS_MAX, Problem};

use toml::de::DeTable;

use self::choice::{MODE, SYNC, XDP, choose};
use self::value::Refusal;
pub(super) use self::value::spell;
use super::problem::{At, Problems, Span};
use super::{Config, Datapath, DatapathMode, Network, Node, Store, Sync, XdpAttach, file};
use crate::id::NetworkId;

/// A network interface the host has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Interface {
    pub name: String,
    /// It is switched on, and so is the other end.
    pub up: bool,
    pub addresses: Vec<IpAddr>,
}

impl Interface {
    /// Addresses a network can live on, IPv4 first.
    pub(super) fn usable(&self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.addresses.iter().filter(|ip| ip.is_ipv4());
        let v6 = self.addresses.iter().filter(|ip| match ip {
            IpAddr::V4(_) => false,
            // RFC 4291 §2.5.6: meaningless without an interface, so nothing to tell a peer.
            IpAddr::V6(ip) => !ip.is_unicast_link_local(),
        });
        v4.chain(v6).copied()
    }
}

/// Reads and checks a configuration. `name` is the file's, for messages and for relative paths in
/// it; without `host` interfaces are not checked; `secrets` reads a password file.
///
/// # Errors
///
/// Every problem found, in the order of the file, at most [`PROBLEMS_MAX`].
pub fn check(
    name: &str,
    text: &str,
    host: Option<&[Interface]>,
    secrets: &mut dyn FnMut(&Path) -> io::Result<String>,
) -> Result<Config, Vec<Problem>> {
    let mut problems = Problems::new(name, text);
    let Some(file) = file::File::read(text, &mut problems) else {
        return Err(problems.into_vec());
    };
    let origins = file.origins;
    let node = node(file.node, &mut problems);
    let drafts = network::read(file.networks, host, &mut problems);
    let sip = sip::read(file.sip, &drafts, secrets, &mut problems);
    let datapath = datapath(file.datapath, &mut problems);
    let store = store(file.store, &node.state_dir, &mut problems);
    let conference = conference::read(file.conference, &mut problems);
    let listeners = sip.as_ref().map_or(&[][..], |sip| &sip.listen);
    let api = api::api(file.api, listeners, secrets, &mut problems);
    let log = api::log(file.log, &mut problems);
    let trace = trace::read(&file.trace, secrets, &mut problems);
    let sip_tls = sip.as_ref().is_some_and(|sip| sip.tls.is_some());
    let mqtt = mqtt::read(file.mqtt, sip_tls, secrets, &mut problems);
    let cascade = cascade::read(file.cascade, &node.id, secrets, &mut problems);
    let numbered = (0u16..).map(NetworkId).zip(drafts);
    let networks: Option<Vec<Network>> = numbered.map(|(id, draft)| draft.finish(id)).collect();
    match (sip, networks) {
        (Some(sip), Some(networks)) if problems.none() => Ok(Config {
            node,
            sip,
            networks,
            datapath,
            store,
            conference,
            api,
            log,
            trace,
            mqtt,
            cascade,
            origins,
        }),
        _ => Err(problems.into_vec()),
    }
}

/// The configuration assumed for a host that was told nothing: one network for each interface with
/// an address, the first for everyone, the others for their neighbourhood; nobody may register
/// until an account is added. A text, so that it can be read, checked and kept.
#[must_use]
pub fn defaults(host: &[Interface]) -> String {
    let mut text = format!("[sip]\ndomain = \"{DOMAIN}\"\n");
    let mut everyone = [false; 2];
    for interface in host {
        for ipv4 in [true, false] {
            let mut usable = interface.usable().filter(|ip| !ip.is_loopback());
            let Some(address) = usable.find(|ip| ip.is_ipv4() == ipv4) else {
                continue;
            };
            let first = everyone
                .get_mut(usize::from(ipv4))
                .map(|e| std::mem::replace(e, true));
            let length = match (first, ipv4) {
                (Some(false), _) => 0,
                (_, true) => 24,
                (_, false) => 64,
            };
            let Ok(prefix) = ipnet::IpNet::new(address, length) else {
                continue;
            };
            let label = format!("{}-{}", interface.name, if ipv4 { "ipv4" } else { "ipv6" });
            let (prefix, interface) = (prefix.trunc(), &interface.name);
            text.push_str(&format!(
                "\n[[network]]\nname = \"{label}\"\ninterface = \"{interface}\"\n\
                 address = \"{address}\"\npeers = [\"{prefix}\"]\n"
            ));
        }
    }
    text
}

/// The state directory of a text that may have problems, to find out whether another text is to be
/// used in its place.
#[must_use]
pub fn state_dir(text: &str) -> PathBuf {
    let (root, _) = DeTable::parse_recoverable(text);
    let node = root
        .get_ref()
        .iter()
        .find(|(key, _)| key.get_ref() == "node");
    let node = node.and_then(|(_, value)| value.get_ref().as_table());
    let path = node.and_then(|node| node.iter().find(|(key, _)| key.get_ref() == "state_dir"));
    let path = path.and_then(|(_, value)| value.get_ref().as_str());
    PathBuf::from(path.unwrap_or(STATE_DIR))
}

/// A domain that is nobody's, for a host that was told none.
const DOMAIN: &str = "towpath.internal";

fn node(node: file::Node, problems: &mut Problems<'_>) -> Node {
    let id = node.id.map_or("towpath".to_owned(), |id| {
        let help = "use letters, digits, `-`, `_` and `.`; it stays when addresses change";
        if id.value.parse::<IpAddr>().is_ok() {
            let message = format!("`{}` is an address, not an identity", id.value);
            problems.add(&id.span, "node.id", message, help);
        } else if !is_label(&id.value) {
            let message = format!("`{}` is not an identity", id.value);
            problems.add(&id.span, "node.id", message, help);
        }
        id.value
    });
    let socket = absolute(
        node.socket,
        "node.socket",
        "/run/towpath/towpath.sock",
        problems,
    );
    let length = socket.value.as_os_str().len();
    if length > SOCKET_PATH_BYTES_MAX {
        let message = format!("the path of the socket has {length} bytes");
        let help = format!("the system allows {SOCKET_PATH_BYTES_MAX}: choose a shorter one");
        problems.add(&socket.span, "node.socket", message, help);
    }
    let state_dir = absolute(node.state_dir, "node.state_dir", STATE_DIR, problems);
    Node {
        id,
        state_dir: state_dir.value,
        socket: socket.value,
        watch: node.watch.is_some_and(|watch| watch.value),
    }
}

/// The default of `node.state_dir`.
const STATE_DIR: &str = "/var/lib/towpath";

/// `sun_path` of unix(7) without its final zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;

fn datapath(datapath: file::Datapath, problems: &mut Problems<'_>) -> Datapath {
    let flows_max = match datapath.flows {
        None => FLOWS,
        Some(flows) => match u32::try_from(flows.value) {
            Ok(count) if (FLOWS_MIN..=FLOWS_MAX).contains(&count) => count,
            _ => {
                let message = format!("{} is not a number of flows", flows.value);
                let help = format!("write {FLOWS_MIN} to {FLOWS_MAX}; a video call takes 8");
                problems.add(&flows.span, "datapath.flows", message, help);
                FLOWS
            }
        },
    };
    let range = MEDIA_TIMEOUT_MIN..=MEDIA_TIMEOUT_MAX;
    let (timeout, key) = (datapath.media_timeout, "datapath.media_timeout");
    let pin_dir = absolute(
        datapath.pin_dir,
        "datapath.pin_dir",
        "/sys/fs/bpf/towpath",
        problems,
    );
    Datapath {
        mode: choose(
            datapath.mode,
            "datapath.mode",
            DatapathMode::Auto,
            &MODE,
            problems,
        ),
        xdp: choose(
            datapath.xdp,
            "datapath.xdp",
            XdpAttach::Native,
            &XDP,
            problems,
        ),
        object: datapath.object.map(|o| beside(problems.file(), &o.value)),
        pin_dir: pin_dir.value,
        flows_max,
        media_timeout: lifetime(timeout, key, 60, &range, problems),
    }
}

/// A relative path is meant from the state directory.
fn store(store: file::Store, state_dir: &Path, problems: &mut Problems<'_>) -> Store {
    let path = store.path.map_or(STORE.to_owned(), |path| {
        if path.value.is_empty() || path.value.ends_with('/') {
            let message = format!("`{}` is not a file", path.value);
            let help = format!("name one, in the state directory: path = \"{STORE}\"");
            problems.add(&path.span, "store.path", message, help);
        }
        path.value
    });
    Store {
        path: state_dir.join(path),
        sync: choose(store.sync, "store.sync", Sync::Before, &SYNC, problems),
    }
}

/// The default of `store.path`.
const STORE: &str = "state.redb";

/// Default and bounds of `datapath.flows`: one flow is one direction of one stream.
const FLOWS: u32 = 65_536;
const FLOWS_MIN: u32 = 64;
const FLOWS_MAX: u32 = 1_048_576;

const MEDIA_TIMEOUT_MIN: Duration = Duration::from_secs(1);
const MEDIA_TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// A duration within bounds; `seconds` if it is not written.
fn lifetime(
    text: Option<At<String>>,
    key: &str,
    seconds: u64,
    range: &std::ops::RangeInclusive<Duration>,
    problems: &mut Problems<'_>,
) -> Duration {
    let default = Duration::from_secs(seconds);
    let Some(text) = text else { return default };
    let Some(found) = parsed(&text.value, &text.span, key, value::duration, problems) else {
        return default;
    };
    if !range.contains(&found) {
        let (from, to) = (spell(*range.start()), spell(*range.end()));
        let message = format!("{} is out of range", text.value);
        problems.add(&text.span, key, message, format!("write {from} to {to}"));
    }
    found
}

fn absolute(
    path: Option<At<String>>,
    key: &str,
    default: &str,
    problems: &mut Problems<'_>,
) -> At<PathBuf> {
    let path = path.unwrap_or(At {
        value: default.to_owned(),
        span: 0..0,
    });
    if !path.value.starts_with('/') {
        let message = format!("`{}` is not an absolute path", path.value);
        let help = format!("begin at the root: \"{default}\"");
        problems.add(&path.span, key, message, help);
    }
    At {
        value: PathBuf::from(path.value),
        span: path.span,
    }
}

/// A relative path is meant from the configuration's directory.
fn beside(file: &str, path: &str) -> PathBuf {
    Path::new(file).parent().unwrap_or(Path::new("")).join(path)
}

fn parsed<T>(
    text: &str,
    span: &Span,
    key: &str,
    parse: fn(&str) -> Result<T, Refusal>,
    problems: &mut Problems<'_>,
) -> Option<T> {
    match parse(text) {
        Ok(value) => Some(value),
        Err((message, help)) => {
            problems.add(span, key, message, help);
            None
        }
    }
}

/// A name for logs, topics and paths.
fn is_label(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=LABEL_BYTES_MAX).contains(&text.len()) && text.chars().all(allowed)
}

const LABEL_BYTES_MAX: usize = 64;

fn list(addresses: impl Iterator<Item = IpAddr>) -> String {
    let texts: Vec<String> = addresses.map(|ip| ip.to_string()).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests;
