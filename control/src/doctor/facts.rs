//! What was read of a host: plain data. `Err` says why something could not be read.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::firewall::{Backend, Ruleset};

/// Where facts come from; each is read by itself, within a limit of time.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Source {
    /// The configuration file, and what the running daemon says of it.
    Config,
    /// This process, the kernel, what is pinned.
    Kernel,
    /// Interfaces, addresses, rules, neighbours.
    Links,
    /// Answers of the routing table.
    Routes,
    Nft,
    Xt,
    Legacy,
    Sockets,
    /// What STUN servers see of us.
    Stun,
    /// What a second node reaches of us.
    Inbound,
    /// Our own advertised addresses, from here.
    Hairpin,
    /// What the kernel counts as dropped, while everything else is looked at.
    Drops,
    /// SIP that a second node sends, as it comes here.
    Alg,
    /// How long a write to the store's disk takes.
    Store,
    /// The broker behind us.
    Broker,
    /// The server above.
    Upper,
    Host,
    Clock,
}

impl Source {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Config => "the configuration",
            Self::Kernel => "the kernel",
            Self::Links => "interfaces",
            Self::Routes => "routes",
            Self::Nft => "nftables",
            Self::Xt => "iptables (nft)",
            Self::Legacy => "iptables (legacy)",
            Self::Sockets => "sockets",
            Self::Stun => "STUN servers",
            Self::Inbound => "the other node",
            Self::Hairpin => "advertised addresses",
            Self::Drops => "what the kernel drops",
            Self::Alg => "SIP from the other node",
            Self::Store => "the store's disk",
            Self::Broker => "the broker",
            Self::Upper => "the upper server",
            Self::Host => "the host",
            Self::Clock => "the clock",
        }
    }
}

/// Everything that was read.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Sources that did not answer, or not in time, and why.
    pub missing: BTreeMap<Source, String>,
    pub config: ConfigFile,
    pub kernel: Kernel,
    pub links: Vec<Link>,
    /// Kernel parameters by their path below `/proc/sys`.
    pub sysctls: BTreeMap<String, String>,
    pub routes: Vec<Route>,
    pub nft: Option<Ruleset>,
    pub xt: Option<Ruleset>,
    pub legacy: Option<Ruleset>,
    pub conntrack: Option<Conntrack>,
    pub sockets: Vec<Socket>,
    pub stun: Vec<Observed>,
    pub inbound: Vec<Arrival>,
    pub hairpin: Vec<Arrival>,
    pub drops: Drops,
    pub sip: Vec<Heard>,
    pub sip_tcp: Vec<Reached>,
    pub store: Option<Trips>,
    pub broker: Option<Trips>,
    pub upper: Option<Trips>,
    pub host: Host,
    pub clock: Clock,
}

/// The file, and how it differs from what runs.
#[derive(Clone, Debug, Default)]
pub struct ConfigFile {
    pub path: Option<PathBuf>,
    /// What `towpath check` says against it.
    pub problems: Vec<String>,
    /// The running daemon's; none: no daemon answers.
    pub running: Option<Running>,
}

/// A daemon that answers on the socket.
#[derive(Clone, Debug, Default)]
pub struct Running {
    pub pid: Option<u32>,
    /// Its version of the configuration differs from the file: each difference.
    pub drift: Vec<String>,
    /// Programs its interfaces run, by id.
    pub programs: BTreeSet<u32>,
    /// Its kernel path is off, and why.
    pub datapath_off: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct Kernel {
    /// `uname -r`.
    pub release: String,
    pub btf: bool,
    /// Effective capabilities, as bits.
    pub capabilities: u64,
    pub uid: u32,
    pub seccomp: Option<u8>,
    pub lsm: Option<String>,
    /// `none`, `integrity` or `confidentiality`.
    pub lockdown: Option<String>,
    /// `RLIMIT_MEMLOCK` in bytes; none is no limit.
    pub memlock: Option<u64>,
    pub bpffs: Bpffs,
    /// Programs whose links are pinned where ours are, by id.
    pub own_programs: BTreeSet<u32>,
    /// The kernel program: where it is, and whether it can be read.
    pub object: Option<Result<PathBuf, String>>,
}

/// The directory links and maps are pinned in.
#[derive(Clone, Debug, Default)]
pub struct Bpffs {
    /// It, or the nearest directory above that exists.
    pub there: PathBuf,
    pub is_bpffs: bool,
    pub writable: bool,
    /// Directories of layouts in it: `abi-7`.
    pub layouts: Vec<String>,
    /// The one this version uses.
    pub own: String,
}

#[derive(Clone, Debug, Default)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub up: bool,
    pub mtu: u32,
    pub loopback: bool,
    /// The other end of a veth, the carrier of a VLAN.
    pub kind: Option<String>,
    pub addresses: Vec<IpNet>,
    /// The program it runs, by id.
    pub xdp: Option<u32>,
    /// Bits of `enum netdev_xdp_act`.
    pub xdp_features: Option<u64>,
    pub ethtool: Ethtool,
}

/// What ethtool says; none where the driver does not.
#[derive(Clone, Debug, Default)]
pub struct Ethtool {
    /// Features that are on, by the kernel's names.
    pub features: Option<BTreeSet<String>>,
    /// Receive queues now, and at most.
    pub channels: Option<(u32, u32)>,
    /// Slots of the receive ring now, and at most.
    pub rx_ring: Option<(u32, u32)>,
}

/// How a packet from one of our addresses gets to somebody.
#[derive(Clone, Debug)]
pub struct Route {
    pub network: String,
    pub source: IpAddr,
    pub target: IpAddr,
    pub answer: Result<Hop, String>,
}

/// What the routing table said.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Hop {
    pub interface: String,
    pub gateway: Option<IpAddr>,
    /// A neighbour by the network's own card, whatever the table says: the card is named.
    pub direct: bool,
    /// State of the gateway: `reachable` or `failed`.
    pub neighbour: Option<String>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Conntrack {
    pub count: u64,
    pub max: u64,
    /// For UDP both ways, and one way, in seconds.
    pub udp_stream_s: Option<u64>,
    pub udp_s: Option<u64>,
}

/// A bound or listening socket.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Socket {
    pub tcp: bool,
    pub at: SocketAddr,
    /// `towpath (812)`; none: it may not be seen.
    pub owner: Option<String>,
    pub pid: Option<u32>,
}

/// What a STUN server saw of one of our ports.
#[derive(Clone, Debug)]
pub struct Observed {
    pub network: String,
    pub server: SocketAddr,
    pub local: SocketAddr,
    pub mapped: Result<SocketAddr, String>,
}

/// Whether something sent to an advertised address arrived.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub network: String,
    pub sent_to: SocketAddr,
    pub expected_at: SocketAddr,
    pub arrived: Result<SocketAddr, String>,
}

/// What was counted as dropped meanwhile.
#[derive(Clone, Debug, Default)]
pub struct Drops {
    pub within: Duration,
    /// By what counts it.
    pub counted: Vec<Dropped>,
}

/// A counter that went up.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Dropped {
    pub by: Dropper,
    /// As the kernel calls it: a rule, a counter.
    pub what: String,
    pub packets: u64,
}

/// Who drops: what mends it follows from that.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Dropper {
    Firewall(Backend),
    /// The reverse path filter.
    Sources,
    /// The table of connections is full.
    Connections,
    /// A socket's buffer is full.
    Buffer,
    /// Wrong sums.
    Checksum,
    /// The queue of a processor.
    Backlog,
    /// No route back or onward.
    Route,
}

/// A SIP request of a second node, as it was sent and as it came.
#[derive(Clone, Debug)]
pub struct Heard {
    pub network: String,
    pub sent_to: SocketAddr,
    pub sent: String,
    pub came: Result<String, String>,
}

/// A TCP port of ours that a second node tried.
#[derive(Clone, Debug)]
pub struct Reached {
    pub network: String,
    pub to: String,
    pub refused: Option<String>,
}

/// A way there and back, measured.
#[derive(Clone, Debug)]
pub struct Trips {
    /// Whereto: a URL, a directory.
    pub to: String,
    /// What waits for it gives up, or does it again, after so long.
    pub limit: Duration,
    pub took: Result<Vec<Duration>, String>,
}

#[derive(Clone, Debug, Default)]
pub struct Host {
    /// What the store and the state directory have left.
    pub disks: Vec<Disk>,
    /// Open files: soft and hard limit.
    pub nofile: Option<(u64, u64)>,
    pub memory_available: Option<u64>,
    pub memory_limit: Option<u64>,
    pub processors: usize,
    pub container: Option<Container>,
}

#[derive(Clone, Debug, Default)]
pub struct Container {
    /// `docker`, `podman`.
    pub kind: String,
    /// The network here is that of the container as a whole; none: it cannot be told.
    pub own_network: Option<bool>,
}

#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub what: &'static str,
    pub path: PathBuf,
    /// The nearest directory that exists.
    pub there: PathBuf,
    pub writable: bool,
    pub free: u64,
    pub size: u64,
    /// Free inodes; none where the file system has no such limit.
    pub files_free: Option<u64>,
}

#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// Who was asked.
    pub by: Option<&'static str>,
    pub synchronised: Option<bool>,
    pub offset: Option<Duration>,
}

impl Facts {
    /// A kernel parameter as a number.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<i64> {
        self.sysctls.get(key)?.trim().parse().ok()
    }

    #[must_use]
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// The process id of the daemon that answers.
    #[must_use]
    pub fn daemon(&self) -> Option<u32> {
        self.config.running.as_ref()?.pid
    }
}
