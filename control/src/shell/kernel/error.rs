//! What keeps the kernel path from working, and what to do about it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use aya::EbpfError;
use aya::programs::ProgramError;
use aya::programs::links::LinkError;
use aya::programs::xdp::XdpError;
use common::map::LOCALS_MAX;

#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error(
        "no permission to {what}: run as root, or with the capabilities CAP_BPF, CAP_NET_ADMIN and \
         CAP_PERFMON"
    )]
    Permission { what: &'static str },
    #[error(
        "datapath.pin_dir {path}: not on a BPF file system; mount one with `mount -t bpf bpf \
         /sys/fs/bpf` and choose a directory below it"
    )]
    NotBpffs { path: PathBuf },
    #[error(
        "datapath.pin_dir {path}: another towpath keeps its kernel path there; stop it, or choose \
         another directory and other interfaces"
    )]
    InUse { path: PathBuf },
    #[error("{path}: {source}")]
    PinDir { path: PathBuf, source: io::Error },
    #[error(
        "{path}: the running kernel path has {what} {found}, this daemon needs {needed}; go back \
         to the setting it was started with (datapath.flows), or end its media with `towpath bpf \
         detach --pin-dir {dir}` and start again",
        dir = .path.ancestors().nth(2).unwrap_or(.path).display()
    )]
    OtherSize {
        path: PathBuf,
        what: &'static str,
        found: u32,
        needed: u32,
    },
    #[error(
        "datapath.object: not the kernel program of this daemon: {why}; build it \
         with `cargo xtask ebpf`"
    )]
    Object { why: String },
    #[error("the kernel refuses the program (Linux 5.11 or newer is needed): {why}")]
    Refused { why: String },
    #[error(
        "the kernel program does not do in this kernel what it should: {why}; build one from the \
         sources of this daemon with `cargo xtask ebpf`"
    )]
    SelfTest { why: String },
    #[error("interface {name}: does not exist (any more)")]
    NoInterface { name: String },
    #[error("interface {name}: its driver has no native XDP")]
    NoDriverSupport { name: String },
    #[error(
        "interface {name}: another XDP program is attached; `bpftool net show dev {name}` names \
         it, `ip link set dev {name} xdp off` removes one that is not held by a link"
    )]
    Occupied { name: String },
    #[error(
        "interface {name}: XDP cannot be attached: {why}; the usual reasons are a large MTU, \
         LRO, or too many queues in use (see `ethtool -k {name}` and `ethtool -l {name}`)"
    )]
    Attach { name: String, why: String },
    #[error("{at}: its address is not one of the local media addresses")]
    NotLocal { at: SocketAddr },
    #[error(
        "{ip}: more than {LOCALS_MAX} local media addresses; the kernel path compares with so many"
    )]
    TooManyLocals { ip: IpAddr },
    #[error("the flow table is full at {flows_max} flows; raise datapath.flows")]
    Full { flows_max: u32 },
    #[error("map {map}: {why}")]
    Map { map: &'static str, why: String },
}

impl KernelError {
    pub(super) fn load(error: EbpfError) -> Self {
        match denied(&error) {
            true => Self::Permission {
                what: "create BPF maps",
            },
            false => Self::Object { why: chain(&error) },
        }
    }

    pub(super) fn verify(error: ProgramError) -> Self {
        let why = chain(&error);
        // Without CAP_PERFMON the verifier itself says so, by what only that capability allows.
        match denied(&error) || why.contains("pointer comparison prohibited") {
            true => Self::Permission {
                what: "load the XDP program",
            },
            false => Self::Refused { why },
        }
    }

    pub(super) fn test_run(error: ProgramError) -> Self {
        match denied(&error) {
            true => Self::Permission {
                what: "try the XDP program",
            },
            false => Self::SelfTest { why: chain(&error) },
        }
    }

    pub(super) fn map(map: &'static str, error: impl std::error::Error) -> Self {
        Self::Map {
            map,
            why: chain(&error),
        }
    }

    pub(super) fn attach(name: &str, error: ProgramError) -> Self {
        let name = name.to_owned();
        match errno(&error) {
            Some(libc::EPERM) => Self::Permission {
                what: "attach the XDP program",
            },
            Some(libc::ENODEV) => Self::NoInterface { name },
            Some(libc::EOPNOTSUPP) => Self::NoDriverSupport { name },
            Some(libc::EBUSY | libc::EEXIST) => Self::Occupied { name },
            _ => Self::Attach {
                name,
                why: chain(&error),
            },
        }
    }

    pub(super) fn link(name: &str, error: LinkError) -> Self {
        Self::Attach {
            name: name.to_owned(),
            why: chain(&error),
        }
    }
}

/// The system's error number at the bottom of an error.
pub(super) fn errno(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return io.raw_os_error();
        }
        // Carries its cause without naming it as the source.
        if let Some(ProgramError::XdpError(XdpError::NetlinkError(netlink))) = error.downcast_ref()
        {
            return netlink.raw_os_error();
        }
        next = error.source();
    }
    None
}

fn denied(error: &(dyn std::error::Error + 'static)) -> bool {
    errno(error) == Some(libc::EPERM)
}

/// An error and its causes, each once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
