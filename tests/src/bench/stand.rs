//! The columns: who forwards.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use aya::maps::{Array, xdp::DevMap, xdp::DevMapHash};
use aya::programs::Xdp;
use aya::programs::links::FdLink;
use aya::{Ebpf, EbpfLoader};
use common::flow::{Flags, Flow, Hop, Rewrite};
use common::map::{self, Port, Settings, port_index};
use common::wire::Mac;
use nix::net::if_::if_nametoindex;

use super::path::{
    self, MAC_A0, MAC_A1, MAC_B0, MAC_B1, Path, RELAY_IN, RELAY_OUT, SINK, SINK_PORT, SOURCE,
    SOURCE_PORT,
};
use super::{rtpengine, userspace};
use crate::frame::{Datagram, rtp};

/// A timer tick; nobody looks at the time here.
const TICK_NS: u64 = 4_000_000;
/// G.711 in packets of 20 ms makes a frame of 214 bytes.
const MEDIA_BYTES: usize = 160;
/// Of its RTP clock.
pub(super) const CLOCK_HZ: u32 = 8000;
/// Where relays listen.
const RELAY_PORT: u16 = 30_000;
/// Where they send from.
const RELAY_OUT_PORT: u16 = 20_002;

/// Who forwards.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Column {
    Redirect,
    Xdp,
    /// With loss and jitter kept.
    Measured,
    Userspace,
    Nftables,
    Forward,
    Rtpengine,
}

impl Column {
    pub const ALL: [Self; 7] = [
        Self::Redirect,
        Self::Xdp,
        Self::Measured,
        Self::Forward,
        Self::Nftables,
        Self::Userspace,
        Self::Rtpengine,
    ];

    /// Its name in the JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Redirect => "xdp-redirect",
            Self::Xdp => "towpath-xdp",
            Self::Measured => "towpath-xdp-measured",
            Self::Userspace => "towpath-userspace",
            Self::Nftables => "nftables-nat",
            Self::Forward => "ip-forward",
            Self::Rtpengine => "rtpengine-userspace",
        }
    }

    /// What it is.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Redirect => "bare XDP redirect (the limit)",
            Self::Xdp => "Towpath, XDP",
            Self::Measured => "Towpath, XDP, loss and jitter kept",
            Self::Userspace => "Towpath, userspace",
            Self::Nftables => "nftables DNAT and SNAT",
            Self::Forward => "ip_forward, no NAT",
            Self::Rtpengine => "rtpengine, userspace",
        }
    }

    /// Whether packets wait for a process to be scheduled.
    #[must_use]
    pub fn has_process(self) -> bool {
        matches!(self, Self::Userspace | Self::Rtpengine)
    }
}

/// What is needed to set columns up.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The daemon.
    pub towpath: PathBuf,
    /// The kernel program.
    pub relay: PathBuf,
    /// Source and sink.
    pub bench: PathBuf,
}

/// A column ready to be measured.
pub(super) struct Stand {
    pub(super) column: Column,
    pub(super) path: Path,
    /// What the source sends.
    pub(super) frame: Vec<u8>,
    pub(super) held: Held,
}

/// What forwards, for as long as it is held.
pub(super) enum Held {
    Nothing,
    Programs { _ebpf: Box<Ebpf>, _link: FdLink },
    Userspace(Box<userspace::Call>),
    Rtpengine(rtpengine::Rtpengine),
}

impl Held {
    /// The process that forwards.
    pub(super) fn process(&self) -> Option<u32> {
        match self {
            Self::Nothing | Self::Programs { .. } => None,
            Self::Userspace(call) => call.id(),
            Self::Rtpengine(rtpengine) => Some(rtpengine.id()),
        }
    }
}

impl Stand {
    pub(super) fn raise(column: Column, programs: &Programs) -> Result<Self> {
        let mut path = Path::lay(&programs.bench)?;
        let mut to = at(RELAY_IN, RELAY_PORT)?;
        let held = match column {
            Column::Redirect => bare(&path, programs)?,
            Column::Xdp => relay(&path, programs, false)?,
            Column::Measured => relay(&path, programs, true)?,
            Column::Nftables => nat(&path)?,
            Column::Forward => {
                to = at(SINK, SINK_PORT)?;
                path.relay.sysctls(&[("net/ipv4/ip_forward", "1")])?;
                Held::Nothing
            }
            Column::Userspace => {
                let call = userspace::Call::place(&mut path, programs)?;
                to = call.sends_to();
                Held::Userspace(Box::new(call))
            }
            Column::Rtpengine => {
                let rtpengine = rtpengine::Rtpengine::start(&path)?;
                to = rtpengine.sends_to();
                Held::Rtpengine(rtpengine)
            }
        };
        Ok(Self {
            column,
            path,
            frame: frame(to)?,
            held,
        })
    }

    /// Starts anew what ends a call nobody speaks in: other columns were measured meanwhile.
    pub(super) fn wake(&mut self, programs: &Programs) -> Result<()> {
        if self.column == Column::Userspace {
            // The old one holds the ports.
            self.held = Held::Nothing;
            let call = userspace::Call::place(&mut self.path, programs)?;
            self.frame = frame(call.sends_to())?;
            self.held = Held::Userspace(Box::new(call));
        }
        self.revive()
    }

    /// Starts anew what does not come back by itself: an rtpengine whose queue has overflowed
    /// leaves its socket alone.
    pub(super) fn revive(&mut self) -> Result<()> {
        if self.column == Column::Rtpengine {
            // The old one holds the ports.
            self.held = Held::Nothing;
            let rtpengine = rtpengine::Rtpengine::start(&self.path)?;
            self.frame = frame(rtpengine.sends_to())?;
            self.held = Held::Rtpengine(rtpengine);
        }
        Ok(())
    }
}

fn at(ip: &str, port: u16) -> Result<SocketAddr> {
    Ok(SocketAddr::new(ip.parse()?, port))
}

/// What the source sends. The first halfword of media complements the sequence number, so that the
/// source need not work out checksums.
fn frame(to: SocketAddr) -> Result<Vec<u8>> {
    let mut media = [0; MEDIA_BYTES];
    media[..2].fill(0xff);
    let mut datagram = Datagram::new(at(SOURCE, SOURCE_PORT)?, to, rtp(0, &media));
    (datagram.eth_src, datagram.eth_dst) = (MAC_A1, MAC_A0);
    Ok(datagram.build())
}

fn bare(path: &Path, programs: &Programs) -> Result<Held> {
    path.relay.enter(|| {
        let (mut ebpf, link) = path::attached(&programs.bench, "redirect", "a0")?;
        let mut out = DevMap::try_from(ebpf.map_mut("OUT").context("no map OUT")?)?;
        out.set(0, if_nametoindex("b0")?, None, 0)?;
        Ok(Held::Programs {
            _ebpf: Box::new(ebpf),
            _link: link,
        })
    })?
}

fn relay(path: &Path, programs: &Programs, measured: bool) -> Result<Held> {
    path.relay.enter(|| {
        let egress = if_nametoindex("b0")?;
        let local = at(RELAY_IN, RELAY_PORT)?;
        let rewrite = Rewrite {
            peer: at(SOURCE, SOURCE_PORT)?.into(),
            source: at(RELAY_OUT, RELAY_OUT_PORT)?.into(),
            target: at(SINK, SINK_PORT)?.into(),
            tos: Some(0xb8),
            flags: Flags::SHOW_STRANGERS,
        };
        let hop = Hop {
            eth_src: Mac::from(MAC_B0),
            eth_dst: Mac::from(MAC_B1),
            egress,
            mtu: 1500,
        };
        let mut ebpf = loaded(programs, 16)?;
        let mut flow = Flow::compile(local.into(), rewrite, hop);
        if measured {
            flow = flow.measured(CLOCK_HZ);
        }
        install(&mut ebpf, &[flow])?;
        let link = path::attach(&mut ebpf, map::PROGRAM, "a0")?;
        Ok(Held::Programs {
            _ebpf: Box::new(ebpf),
            _link: link,
        })
    })?
}

/// The relay's program, with room for so many flows as the daemon makes it.
pub(super) fn loaded(programs: &Programs, flows_max: u32) -> Result<Ebpf> {
    let mut ebpf = room(programs, flows_max)?;
    let program: &mut Xdp = ebpf
        .program_mut(map::PROGRAM)
        .context("no program")?
        .try_into()?;
    program.load()?;
    Ok(ebpf)
}

/// The maps alone.
pub(super) fn room(programs: &Programs, flows_max: u32) -> Result<Ebpf> {
    with_room(&programs.relay, flows_max)
}

/// An object with tables of the relay's, and room in them as the daemon makes it.
pub(super) fn with_room(object: &std::path::Path, flows_max: u32) -> Result<Ebpf> {
    let bytes = std::fs::read(object).with_context(|| format!("read {}", object.display()))?;
    EbpfLoader::new()
        .map_max_entries(map::FLOWS, map::flow_entries(flows_max))
        .map_max_entries(map::STATS, map::stats_entries(flows_max))
        .map_max_entries(map::MEDIA, map::stats_entries(flows_max))
        .load(&bytes)
        .with_context(|| format!("load {}", object.display()))
}

/// Flows at slots 1…, the addresses they are at and the interfaces they leave by.
pub(super) fn install(ebpf: &mut Ebpf, flows: &[Flow]) -> Result<()> {
    let mut egress: Vec<u32> = flows.iter().map(|f| f.egress).collect();
    egress.dedup();
    let mut devices = DevMapHash::try_from(ebpf.map_mut(map::EGRESS).context("no EGRESS")?)?;
    for index in egress {
        devices.insert(index, index, None, 0)?;
    }
    let settings = ebpf.map_mut(map::SETTINGS).context("no SETTINGS")?;
    let mut array = Array::<_, Settings>::try_from(settings)?;
    array.set(0, settings_of(flows), 0)?;
    place(ebpf, flows)
}

/// The flows alone.
pub(super) fn place(ebpf: &mut Ebpf, flows: &[Flow]) -> Result<()> {
    let settings = settings_of(flows);
    let map = |name| move || format!("no map {name}");
    let mut array =
        Array::<_, Flow>::try_from(ebpf.map_mut(map::FLOWS).with_context(map(map::FLOWS))?)?;
    for (slot, flow) in (1..).zip(flows) {
        let mut flow = *flow;
        (flow.stats, flow.generation) = (slot, 1);
        array.set(slot, flow, 0)?;
    }
    let mut array =
        Array::<_, Port>::try_from(ebpf.map_mut(map::PORTS).with_context(map(map::PORTS))?)?;
    for (slot, flow) in (1..).zip(flows) {
        let index = port_index(settings.slot(flow.local.ip), flow.local.port);
        let port = Port {
            flow: slot,
            stats: slot,
        };
        array.set(index, port, 0)?;
    }
    Ok(())
}

/// The addresses flows are at, in their order.
fn settings_of(flows: &[Flow]) -> Settings {
    let mut locals: Vec<_> = flows.iter().map(|f| f.local.ip).collect();
    locals.dedup();
    Settings::new(&locals).with_tick(TICK_NS)
}

fn nat(path: &Path) -> Result<Held> {
    path.relay.sysctls(&[("net/ipv4/ip_forward", "1")])?;
    path.relay.nft(&format!(
        "table ip nat {{
            chain in {{
                type nat hook prerouting priority dstnat;
                ip daddr {RELAY_IN} udp dport {RELAY_PORT} dnat to {SINK}:{SINK_PORT}
            }}
            chain out {{
                type nat hook postrouting priority srcnat;
                oifname b0 ip protocol udp snat to {RELAY_OUT}:{RELAY_OUT_PORT}
            }}
        }}"
    ))?;
    Ok(Held::Nothing)
}
