//! The lab: an edge between three networks, and whoever a scenario needs around it.
//!
//! ```text
//!  c1 .10 ┐ 192.168.1.0/24        203.0.113.0/24 wan             10.9.0.0/24 core
//!  c2 .11 ┴── nat1 .1 ─────── .2 ──┬───────── .10 edge .1 ───────────── .20 mcu
//!  far .77 ──── delay line ────────┤               .1 │ and .2
//!  attacker .66 ───────────────────┘                  │ 10.1.0.0/24 lan
//!                                                     ├── .30 c3
//!  outside 198.51.100.7 ── .1 portmap ────────── .254 ┘
//! ```
//!
//! Switches are bridges in one namespace. Only what `Parts` asks for is built. Instead of nat1's
//! masquerading there can be NAT boxes of any behaviour, one or two in series:
//!
//! ```text
//!  c1, c2 ── .1 nat1 100.64.0.2 ── 100.64.0.1 carrier 203.0.113.2 ── wan
//! ```

mod boxes;
pub mod plan;
mod router;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};

use crate::delay::{DelayLine, Impairment};
use crate::natbox::NatBox;
use crate::netns::{Checksums, Namespace, stale};
use crate::scratch::Scratch;
use crate::sim::nat::Behaviour;

/// What to build around the edge. `Parts::default()` is the edge alone.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// The conference peer in the core network.
    pub mcu: bool,
    /// A phone in the LAN.
    pub c3: bool,
    /// A masquerading router with phones c1 and c2 behind it.
    pub nat: bool,
    /// NAT boxes with phones c1 and c2 behind the last of them, the first one in the wan: one, or
    /// a carrier's and a home's. Not together with `nat`.
    pub boxes: Vec<Behaviour>,
    /// A router that maps ports of its outer address to an address of the edge in the LAN, and a
    /// host outside it.
    pub port_map: Option<PortMap>,
    /// A hostile host in the wan.
    pub attacker: bool,
    /// A host in the wan behind a delay line.
    pub far: Option<Impairment>,
}

/// What a static port-mapping router does.
#[derive(Clone, Copy, Debug)]
pub struct PortMap {
    /// Where mapped packets go.
    pub to: std::net::Ipv4Addr,
    /// Inside, UDP and TCP.
    pub sip_port: u16,
    /// First and last mapped UDP port of media, inside.
    pub media_ports: (u16, u16),
    /// How much higher the same ports are outside.
    pub offset: u16,
    /// Whether mapped packets also get the router's own LAN address as source.
    pub rewrite_source: bool,
}

/// Who lives in a namespace of the lab.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Role {
    Edge,
    Mcu,
    C1,
    C2,
    C3,
    Nat1,
    /// The carrier's NAT box, in front of nat1.
    Carrier,
    PortMap,
    Outside,
    Attacker,
    Delay,
    Far,
    /// The bridges.
    Switch,
}

/// Networks that are bridges in the switch.
const BRIDGES: [&str; 3] = ["wan", "lan", "core"];

/// A running lab; removed on drop, with the processes in it.
#[derive(Debug)]
pub struct Lab {
    name: String,
    // Fields drop in this order: threads, then namespaces, then the directory they may use.
    delay: Option<DelayLine>,
    boxes: Vec<NatBox>,
    namespaces: BTreeMap<Role, Namespace>,
    bpffs: PathBuf,
    scratch: Scratch,
}

impl Lab {
    /// Builds the edge and the parts asked for.
    ///
    /// # Errors
    /// We are not root, or a tool (`ip`, `ethtool`, `nft`) is missing or refuses.
    pub fn raise(parts: &Parts) -> Result<Self> {
        let name = stale::unique_name();
        let scratch = Scratch::create(&name)?;
        let bpffs = scratch.bpffs()?;
        let namespaces = BTreeMap::new();
        let mut lab = Self {
            name,
            delay: None,
            boxes: Vec::new(),
            namespaces,
            bpffs,
            scratch,
        };
        lab.raise_switch()?;
        lab.raise_edge()?;
        if parts.mcu {
            lab.host(Role::Mcu, "core", &[plan::MCU_V4, plan::MCU_V6])?;
        }
        if parts.c3 {
            lab.host(Role::C3, "lan", &[plan::C3_V4, plan::C3_V6])?;
        }
        if parts.attacker {
            lab.host(
                Role::Attacker,
                "wan",
                &[plan::ATTACKER_V4, plan::ATTACKER_V6],
            )?;
        }
        if parts.nat {
            lab.raise_nat()?;
        }
        lab.raise_boxes(&parts.boxes)?;
        if let Some(map) = &parts.port_map {
            lab.raise_port_map(map)?;
        }
        if let Some(impairment) = parts.far {
            lab.raise_far(impairment)?;
        }
        Ok(lab)
    }

    /// The namespace someone lives in.
    ///
    /// # Errors
    /// `Parts` did not ask for it.
    pub fn namespace(&self, role: Role) -> Result<&Namespace> {
        self.namespaces
            .get(&role)
            .ok_or_else(|| anyhow!("{role:?} is not a part of this lab"))
    }

    /// Its unique name: the prefix of its namespaces' names.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A directory of the lab's own, for configurations, recordings and logs.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn directory(&self, name: &str) -> Result<PathBuf> {
        self.scratch.directory(name)
    }

    /// A BPF file system of the lab's own.
    #[must_use]
    pub fn bpffs(&self) -> &std::path::Path {
        &self.bpffs
    }

    /// The delay line in front of `Role::Far`.
    #[must_use]
    pub fn delay(&self) -> Option<&DelayLine> {
        self.delay.as_ref()
    }

    /// The NAT boxes, from the wan inwards.
    #[must_use]
    pub fn boxes(&self) -> &[NatBox] {
        &self.boxes
    }

    /// Everyone in this lab.
    pub fn roles(&self) -> impl Iterator<Item = (Role, &Namespace)> {
        self.namespaces
            .iter()
            .map(|(role, namespace)| (*role, namespace))
    }

    /// Makes the masquerading router forget every mapping: the next packet of a phone behind it
    /// leaves from another port.
    ///
    /// # Errors
    /// There is no NAT in this lab.
    pub fn rebind_nat(&self) -> Result<()> {
        self.namespace(Role::Nat1)?.enter(router::flush_mappings)?
    }

    fn create(&mut self, role: Role) -> Result<()> {
        let name = format!("{}-{}", self.name, role.name());
        self.namespaces.insert(role, Namespace::create(&name)?);
        Ok(())
    }

    fn raise_switch(&mut self) -> Result<()> {
        self.create(Role::Switch)?;
        let switch = self.namespace(Role::Switch)?;
        // A switch has no addresses and says nothing by itself.
        switch.sysctls(&[("net/ipv6/conf/default/disable_ipv6", "1")])?;
        let mut lines = String::new();
        for bridge in BRIDGES {
            writeln!(lines, "link add {bridge} type bridge mcast_snooping 0")?;
            writeln!(lines, "link set {bridge} up")?;
        }
        switch.ip(&lines)
    }

    fn raise_edge(&mut self) -> Result<()> {
        self.create(Role::Edge)?;
        for (network, addresses) in plan::EDGE {
            self.plug(Role::Edge, network, network, addresses)?;
            // What the edge sends from XDP arrives at the switch's end of the link.
            self.namespace(Role::Switch)?
                .accept_xdp(&port(network, Role::Edge))?;
        }
        Ok(())
    }

    /// A host with one interface, `eth0`, in one network.
    fn host(&mut self, role: Role, network: &str, addresses: &[&str]) -> Result<()> {
        self.create(role)?;
        self.plug(role, "eth0", network, addresses)
    }

    /// Connects an interface to a switch.
    fn plug(&self, role: Role, interface: &str, network: &str, addresses: &[&str]) -> Result<()> {
        let (host, switch) = (self.namespace(role)?, self.namespace(Role::Switch)?);
        let port = port(network, role);
        host.veth(interface, switch, &port)?;
        switch.ip(&format!("link set {port} master {network}"))?;
        host.addresses(interface, addresses)
    }

    fn raise_nat(&mut self) -> Result<()> {
        self.create(Role::Nat1)?;
        self.plug(Role::Nat1, "wan", "wan", &[plan::NAT1_WAN])?;
        let router = self.namespace(Role::Nat1)?;
        router.sysctls(&[("net/ipv4/ip_forward", "1")])?;
        router.nft(router::MASQUERADE)?;
        self.raise_home()?;
        let router = self.namespace(Role::Nat1)?;
        router.addresses("home", &[plan::NAT1_HOME])
    }

    /// The phones behind nat1, at the bridge `home` in it.
    fn raise_home(&mut self) -> Result<()> {
        let router = self.namespace(Role::Nat1)?;
        router.ip("link add home type bridge mcast_snooping 0\nlink set home up")?;
        for (role, address) in [(Role::C1, plan::C1_V4), (Role::C2, plan::C2_V4)] {
            self.create(role)?;
            let (phone, router) = (self.namespace(role)?, self.namespace(Role::Nat1)?);
            phone.veth("eth0", router, role.name())?;
            router.ip(&format!("link set {} master home", role.name()))?;
            phone.addresses("eth0", &[address])?;
            phone.ip(&format!(
                "route add default via {}",
                plan::ip(plan::NAT1_HOME)
            ))?;
        }
        Ok(())
    }

    fn raise_port_map(&mut self, map: &PortMap) -> Result<()> {
        self.create(Role::PortMap)?;
        self.plug(Role::PortMap, "lan", "lan", &[plan::PORT_MAP_LAN])?;
        self.create(Role::Outside)?;
        let (router, outside) = (
            self.namespace(Role::PortMap)?,
            self.namespace(Role::Outside)?,
        );
        router.veth("out", outside, "eth0")?;
        router.addresses("out", &[plan::PORT_MAP_OUT])?;
        router.sysctls(&[("net/ipv4/ip_forward", "1")])?;
        router.nft(&router::port_map(map))?;
        outside.addresses("eth0", &[plan::OUTSIDE])?;
        let provider = plan::ip(plan::PORT_MAP_OUT);
        outside.ip(&format!("route add default via {provider}"))?;
        let gateway = plan::ip(plan::PORT_MAP_LAN);
        self.namespace(Role::Edge)?
            .ip(&format!("route add {} via {gateway}", plan::OUTSIDE_NET))
    }

    fn raise_far(&mut self, impairment: Impairment) -> Result<()> {
        self.create(Role::Delay)?;
        self.namespace(Role::Delay)?
            .sysctls(&[("net/ipv6/conf/default/disable_ipv6", "1")])?;
        self.plug(Role::Delay, "near", "wan", &[])?;
        self.create(Role::Far)?;
        let (line, far) = (self.namespace(Role::Delay)?, self.namespace(Role::Far)?);
        far.veth("eth0", line, "far")?;
        far.addresses("eth0", &[plan::FAR_V4, plan::FAR_V6])?;
        let delay = DelayLine::start(line, ("near", "far"), impairment);
        self.delay = Some(delay.context("start the delay line")?);
        Ok(())
    }

    /// Chooses who computes the checksums of what a host sends on `interface`.
    ///
    /// # Errors
    /// It is not a part of this lab, or `ethtool` refuses.
    pub fn checksums(&self, role: Role, interface: &str, by: Checksums) -> Result<()> {
        self.namespace(role)?.checksums(interface, by)
    }
}

impl Role {
    /// What it is called in the names of namespaces and switch ports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Mcu => "mcu",
            Self::C1 => "c1",
            Self::C2 => "c2",
            Self::C3 => "c3",
            Self::Nat1 => "nat1",
            Self::Carrier => "carrier",
            Self::PortMap => "portmap",
            Self::Outside => "outside",
            Self::Attacker => "attacker",
            Self::Delay => "delay",
            Self::Far => "far",
            Self::Switch => "switch",
        }
    }
}

/// The switch's end of a link.
fn port(network: &str, role: Role) -> String {
    format!("{network}-{}", role.name())
}
