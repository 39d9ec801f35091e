//! The checked configuration: what the engine and the shell run on. A `Config` is valid; there is
//! no other way to make one than `check::check`.

pub mod api;
pub mod broker;
mod cascade;
pub mod change;
pub mod check;
pub mod entry;
mod file;
mod limits;
pub mod mqtt;
mod origin;
mod problem;
pub mod redact;
pub mod trace;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

pub use self::mqtt::Mqtt;
use self::origin::Origins;
use crate::conference::floor::Policy;
use crate::id::{Listener, NetworkId, Transport};

pub use self::cascade::{Cascade, Lower, ServerListener, Upper};
pub use self::limits::Limits;

/// Everything the daemon was told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    pub node: Node,
    pub sip: Sip,
    /// In file order. At least one.
    pub networks: Vec<Network>,
    pub datapath: Datapath,
    pub store: Store,
    pub conference: Conference,
    pub api: api::Api,
    pub log: api::Log,
    pub trace: trace::Trace,
    pub mqtt: Mqtt,
    pub cascade: Cascade,
    origins: Origins,
}

/// `[node]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Node {
    /// Stable identity; never an address.
    pub id: String,
    pub state_dir: PathBuf,
    /// The API's Unix socket.
    pub socket: PathBuf,
    /// Whether a change of the file is applied as soon as it is seen.
    pub watch: bool,
}

/// `[sip]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sip {
    pub domain: String,
    /// One per network address that `listen` covers: a wildcard in the file is spelt out here.
    pub listen: Vec<Listener>,
    pub auth: Auth,
    /// What accounts with a password authenticate by, unless they say so themselves.
    pub algorithm: Algorithm,
    /// Who is asked for the names of peers; none: as the system says.
    pub dns: Vec<SocketAddr>,
    pub accounts: Vec<Account>,
    pub peers: Vec<Peer>,
    /// Registration lifetimes we grant (RFC 3261 §10.3 step 7).
    pub expires_min: Duration,
    pub expires_max: Duration,
    /// Granted at most behind a NAT: a changed mapping is soon noticed.
    pub expires_natted_max: Duration,
    /// How long an address that is no longer advertised is still recognised as ours.
    pub address_grace: Duration,
    /// Engines that share the work; none: one for each processor.
    pub shards: Option<u16>,
    pub tcp: Tcp,
    /// None: nothing listens for TLS and no peer is reached over it.
    pub tls: Option<Tls>,
    pub protection: Protection,
}

/// `[sip.tcp]`: connections, of TLS too.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tcp {
    /// A connection on which nothing comes for so long is closed.
    pub idle: Duration,
    /// That others have made to us, at a time.
    pub connections: usize,
    pub connections_per_source: usize,
}

/// `[sip.tls]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tls {
    /// Ours, and those that lead to its issuer.
    pub certificate: Pem,
    pub key: Pem,
    /// Who issues the certificates of others; none: those the system trusts.
    pub ca: Option<Pem>,
    pub verify: Verify,
}

/// Who must show a certificate when connecting to us.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verify {
    None,
    /// Whoever comes from the address of a `[[sip.peer]]`.
    Peers,
    All,
}

/// A file, and what was in it when the configuration was read. Debug output is redacted.
#[derive(Clone, Eq, PartialEq)]
pub struct Pem {
    pub path: PathBuf,
    pub text: String,
}

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pem({})", self.path.display())
    }
}

/// `[sip.protection]`: what those may cost us who have proved nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Protection {
    /// Requests a second from one source (an IPv4 address, an IPv6 /64); zero is no limit.
    pub source_rate: u32,
    /// The same that name one account.
    pub account_rate: u32,
    /// Wrong passwords or scanner messages from one source after which it is banned; zero is never.
    pub ban_after: u32,
    /// Within this time.
    pub ban_window: Duration,
    /// How long the first ban lasts.
    pub ban_time: Duration,
    /// Never limited or banned.
    pub exempt: Vec<IpNet>,
    /// Scanners beside those we know, by a part of their User-Agent in lower case.
    pub scanners: Vec<String>,
}

/// The hash of a digest (RFC 7616 §3.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Algorithm {
    /// Every phone knows it.
    Md5,
    Sha256,
}

/// Engines of a node.
pub const SHARDS_MAX: u16 = 8;
/// Pairs of media ports that each must have in each network: calls are not spread evenly, and one
/// may have none left while another has some.
pub const PAIRS_PER_SHARD_MIN: u16 = 32;

/// How many shards a range of media ports is wide enough for; one at least.
#[must_use]
pub fn shards_for(ports: PortRange) -> u16 {
    let pairs = ports.last.saturating_sub(ports.first).div_ceil(2);
    (pairs / PAIRS_PER_SHARD_MIN).clamp(1, SHARDS_MAX)
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Auth {
    Digest,
    None,
}

/// `[[sip.account]]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Account {
    pub user: String,
    pub secret: Secret,
    /// Of the secret, or chosen for it; none is the domain's.
    pub algorithm: Option<Algorithm>,
}

/// What a digest is computed from. Debug output is redacted.
#[derive(Clone, Eq, PartialEq)]
pub enum Secret {
    Password(String),
    /// MD5 of `user:realm:password`, lower-case hexadecimal (RFC 7616 §3.4.2).
    Ha1Md5(String),
    /// SHA-256 of `user:realm:password`, lower-case hexadecimal (RFC 8760).
    Ha1Sha256(String),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// `[[sip.peer]]`: a trusted SIP system, known by its address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Peer {
    pub name: String,
    /// `uri` and `uris`, one at least; with `host`, where that was last found to be.
    pub addresses: Vec<PeerAddress>,
    /// It is known by name, and looked up.
    pub host: Option<PeerHost>,
    /// It keeps the registrations of those who have no account here.
    pub forward: Option<Forward>,
    /// The name its TLS certificates must bear; none: the address asked.
    pub tls_name: Option<String>,
    /// Prefixes that are trusted as it is, beside its addresses.
    pub sources: Vec<IpNet>,
    /// How often each address is asked whether it is well; zero is never.
    pub probe: Duration,
    /// Failures in a row after which an address counts as down.
    pub probe_failures: u32,
    /// How much goes there and comes from there at a time.
    pub limits: Limits,
    /// It is told which account a request is from (RFC 3325).
    pub assert_identity: bool,
    /// Request-URI user parts that go there: `*` any run of characters, `?` one.
    pub routes: Vec<String>,
}

impl Sip {
    /// Every address of every peer, in the order of the file.
    pub fn addresses(&self) -> impl Iterator<Item = (&Peer, PeerAddress)> {
        let peers = self.peers.iter();
        peers.flat_map(|peer| peer.addresses.iter().map(move |found| (peer, *found)))
    }
}

impl Peer {
    /// Whence it is trusted.
    pub fn nets(&self) -> impl Iterator<Item = IpNet> {
        let addresses = self
            .addresses
            .iter()
            .map(|found| IpNet::from(found.address.ip()));
        addresses.chain(self.sources.iter().copied())
    }
}

/// The name of a peer, to be looked up (RFC 3263).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PeerHost {
    pub name: String,
    /// Then it alone is looked up, else its services.
    pub port: Option<u16>,
    pub transport: Option<Transport>,
}

impl std::fmt::Display for PeerHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = match self.transport {
            Some(Transport::Tls) => "sips",
            Some(Transport::Udp | Transport::Tcp) | None => "sip",
        };
        write!(f, "{scheme}:{}", self.name)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        match self.transport {
            Some(transport @ (Transport::Udp | Transport::Tcp)) => {
                write!(f, ";transport={}", transport.word())
            }
            Some(Transport::Tls) | None => Ok(()),
        }
    }
}

/// One address of a peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PeerAddress {
    pub address: SocketAddr,
    /// How it is reached; none: UDP, and large requests over TCP if it listens there.
    pub transport: Option<Transport>,
    /// Lower ones first (RFC 2782).
    pub priority: u16,
    /// Share among those of one priority.
    pub weight: u16,
}

impl PeerAddress {
    /// Without what says how it is chosen.
    #[must_use]
    pub fn uri(&self) -> String {
        // What it says of UDP counts: large requests then stay there.
        let transport = match self.transport {
            Some(Transport::Udp) => ";transport=udp",
            Some(other) => other.param(),
            None => "",
        };
        format!("sip:{}{transport}", self.address)
    }
}

impl std::fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (uri, priority, weight) = (self.uri(), self.priority, self.weight);
        write!(f, "{uri};priority={priority};weight={weight}")
    }
}

/// How registrations are forwarded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Forward {
    pub by: RegisterBy,
    /// Asked of the registrar at least, however short the phone's own wish.
    pub expires: Duration,
}

/// How a registrar reaches our clients.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RegisterBy {
    /// At a Contact of ours.
    Contact,
    /// At their own Contact, through us (RFC 3327).
    Path,
}

/// `[[network]]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Network {
    /// Stays with the name when a running configuration is replaced.
    pub id: NetworkId,
    pub name: String,
    pub interface: String,
    /// Our own address in it: SIP and media sockets bind here.
    pub address: IpAddr,
    /// The address its peers are told in signalling (RFC 3261 Contact and Via).
    pub advertise: IpAddr,
    /// The SIP port they are told; none is the listener's own.
    pub advertise_port: Option<u16>,
    /// The address they are told for media (SDP c=).
    pub advertise_media: IpAddr,
    /// Who belongs here: longest prefix wins, over all networks.
    pub peers: Vec<IpNet>,
    /// Traffic that arrives from one of these is this network's, whatever its prefix says.
    pub source_rewriting_gateways: Vec<IpAddr>,
    pub media_ports: PortRange,
    /// The same ports as a router in front of us numbers them: a range of the same size.
    pub advertise_ports: PortRange,
    /// Whether peers are taken to be behind a NAT.
    pub nat: NatMode,
    /// What keeps the way to clients behind a NAT open, and how often.
    pub keepalive: KeepAlive,
    pub keepalive_interval: Duration,
    pub media: MediaMode,
    /// From where media may be learnt.
    pub media_from: MediaFrom,
    /// Gateways that send media from addresses they do not name: accepted beside the usual ones.
    pub media_senders: Vec<IpNet>,
    pub ice: Ice,
    /// What happens to running calls when `advertise` changes.
    pub address_change: AddressChange,
    /// DSCP of media sent into this network, 0..=63; none leaves the sender's.
    pub dscp: Option<u8>,
    /// Hop limit of media sent into this network, 1..=255; none takes one off the sender's.
    pub hop_limit: Option<u8>,
    /// How much goes through it at a time.
    pub limits: Limits,
}

/// An even first port and an odd last one, so that it holds whole RTP/RTCP pairs (RFC 3550 §11).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

/// What is sent to clients behind a NAT between calls.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeepAlive {
    /// Two line ends (RFC 5626 §4.4.1): enough where packets from outside keep a mapping.
    Crlf,
    /// A request the client answers: its own packets keep the mapping.
    Options,
    Off,
}

/// Where media is sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MediaMode {
    /// Where SDP says.
    Sdp,
    /// Back along the path the packets came from (RFC 4961).
    Symmetric,
    /// SDP for peers that are where they say they are, symmetric for the others.
    Auto,
}

/// Whether a peer is behind a NAT.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NatMode {
    /// If its Via or Contact contradicts the source of its packets.
    Auto,
    Always,
    Never,
}

/// From which addresses a media source may be learnt, beside the one in SDP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MediaFrom {
    /// The address signalling comes from.
    Signalling,
    /// Its neighbourhood too (/24, /64): carriers that map each flow to another address.
    Subnet,
    /// Anyone who passes a long probation: carriers with several uplinks.
    Anywhere,
}

/// What becomes of ICE attributes in SDP (RFC 8839).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ice {
    Strip,
    /// Kept if the other party's network keeps them too: the parties then find each other.
    Pass,
}

/// What happens to running calls when a network's advertised address changes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AddressChange {
    /// Each party is told by a re-INVITE, paced.
    Reinvite,
    /// They go on as they are.
    Ignore,
    /// They end, paced.
    Drop,
}

/// `[datapath]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Datapath {
    pub mode: DatapathMode,
    pub xdp: XdpAttach,
    /// The BPF object; none is the one compiled in (feature `embed`).
    pub object: Option<PathBuf>,
    /// A directory on a BPF file system: link and maps are pinned below it.
    pub pin_dir: PathBuf,
    /// Capacity of the flow table.
    pub flows_max: u32,
    /// A flow whose both directions are silent this long ends its call.
    pub media_timeout: Duration,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DatapathMode {
    /// Refuse to start without the kernel path.
    Xdp,
    /// The best available, and say which.
    Auto,
    Userspace,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum XdpAttach {
    Native,
    /// Slow, sees merged packets: for tests only.
    Generic,
}

/// `[store]`: what outlives the process.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Store {
    /// One file.
    pub path: PathBuf,
    pub sync: Sync,
}

/// `[conference]`: which calls are conferences, and who decides in them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Conference {
    /// User parts of URIs that name one: `*` any run of characters, `?` one.
    pub uris: Vec<String>,
    /// Accounts that chair every conference, in the same manner.
    pub chairs: Vec<String>,
    /// Servers that every conference is shared with, by their ids.
    pub share: Vec<String>,
    /// Where accepted views are posted to; none: they are published only.
    pub view_hook: Option<String>,
    /// At least one.
    pub floors: Vec<(String, Policy)>,
}

/// When a REGISTER is answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sync {
    /// Once the binding is on disk.
    Before,
    /// At once: the disk follows.
    Behind,
}

impl Config {
    /// Where a value was written: `towpath.toml:17` for `network.wan.peers[0]`, `sip.auth`,
    /// `sip.peer.mcu.uri` or `sip.account.1001`; an option of the command line; none for a default.
    #[must_use]
    pub fn origin(&self, key: &str) -> Option<String> {
        self.origins.of(key)
    }

    /// The command line decided this key.
    pub fn overrule(&mut self, key: &str, option: &'static str) {
        self.origins.overrule(key, option);
    }

    /// How many shards its media ports are wide enough for.
    #[must_use]
    pub fn shards_max(&self) -> u16 {
        let most = self.networks.iter().map(|n| shards_for(n.media_ports));
        most.min().unwrap_or(1)
    }

    /// The network of that name in the core.
    #[must_use]
    pub fn network(&self, id: NetworkId) -> Option<&Network> {
        self.networks.iter().find(|network| network.id == id)
    }

    /// Networks with their names in the core, in file order.
    pub fn networks(&self) -> impl Iterator<Item = (NetworkId, &Network)> {
        self.networks.iter().map(|network| (network.id, network))
    }

    /// Which network a packet belongs to (the rule is documented in `docs/networks.md`): among the
    /// networks whose address received it, one that names the source as a rewriting gateway; else
    /// the one with the longest prefix that holds the source; else the first.
    #[must_use]
    pub fn network_of(&self, local: IpAddr, from: IpAddr) -> Option<NetworkId> {
        let here = || self.networks().filter(move |(_, n)| n.address == local);
        here()
            .find(|(_, n)| n.source_rewriting_gateways.contains(&from))
            .map(|(id, _)| id)
            .or_else(|| {
                let holding = here().filter_map(|(id, n)| Some((n.prefix_for(from)?, id)));
                longest(holding)
            })
            .or_else(|| here().next().map(|(id, _)| id))
    }

    /// Which network reaches an address: the longest prefix over all networks.
    #[must_use]
    pub fn network_to(&self, to: IpAddr) -> Option<NetworkId> {
        longest(
            self.networks()
                .filter_map(|(id, n)| Some((n.prefix_for(to)?, id))),
        )
    }
}

impl Network {
    /// Length of the longest of our prefixes that holds `ip`.
    fn prefix_for(&self, ip: IpAddr) -> Option<u8> {
        self.peers
            .iter()
            .filter(|p| p.contains(&ip))
            .map(IpNet::prefix_len)
            .max()
    }
}

/// The longest prefix; of equals, the first in the file.
fn longest(holding: impl Iterator<Item = (u8, NetworkId)>) -> Option<NetworkId> {
    let first_of_equals = |(length, at, _): &(u8, usize, _)| (*length, std::cmp::Reverse(*at));
    holding
        .enumerate()
        .map(|(at, (length, id))| (length, at, id))
        .max_by_key(first_of_equals)
        .map(|(_, _, id)| id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(names: &[&str]) -> Config {
        let network = |(at, name): (usize, &&str)| {
            format!(
                "[[network]]\nname = '{name}'\ninterface = 'e'\naddress = '10.0.0.{}'\n",
                at + 1
            )
        };
        let networks: String = names.iter().enumerate().map(network).collect();
        let text = format!("[sip]\ndomain = 'example.com'\n{networks}");
        let mut none = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
        check::check("t", &text, None, &mut none).unwrap()
    }

    #[test]
    fn of_equal_prefixes_the_first_in_the_file_counts() {
        let mut config = config(&["a", "b"]);
        let ip: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(config.network_to(ip), Some(NetworkId(0)));
        config.networks.reverse();
        assert_eq!(config.network_to(ip), Some(NetworkId(1)));
    }
}
