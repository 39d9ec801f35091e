//! Where flows live: always in userspace, and in the kernel whenever routes and neighbours allow.

mod books;
mod border;
mod flow;
mod passage;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use common::event::{Event, EventKind};
use common::flow::{Flags, Flow, Hop, Rewrite};

use crate::effect::{MediaKind, Rule};
use crate::engine::input::Activity;
use crate::shell::capture::{Capture, Tap};
use crate::shell::clock;
use crate::shell::device::Link;
use crate::shell::icmp::{Icmp, TooBig};
use crate::shell::kernel::{Kernel, KernelError, Totals, rate};
use crate::shell::media::{Media, Port};
use crate::shell::netlink::Netlink;
use crate::shell::shard::Queues;

pub(crate) use self::books::{Books, Carried, Histogram, JITTER_US, LOSS_PPM, MILLION};
pub(crate) use self::border::BORDER_MAX;
use self::flow::{Counted, Installed};
pub(crate) use self::flow::{FlowNow, Glance, Placement};
use self::passage::Passages;

pub(crate) struct Datapath {
    pub(crate) media: Media,
    pub(crate) netlink: Netlink,
    /// None: every flow is forwarded in userspace, for this reason.
    pub(crate) kernel: Result<Kernel, String>,
    /// Interfaces of the networks.
    borders: Vec<String>,
    // Boxed: nodes of a map are half empty.
    flows: BTreeMap<SocketAddr, Box<Installed>>,
    passages: Passages,
    /// Ports that are captured, their flows in userspace meanwhile.
    taps: BTreeMap<SocketAddr, Tap>,
    pub(crate) books: Books,
    pub(crate) icmp: Icmp,
    /// Whether the program could not be told of bans.
    border_fails: bool,
    /// Flows that are in userspace because the kernel's table is full.
    left_out: BTreeSet<SocketAddr>,
}

impl Datapath {
    pub(crate) fn new(queues: Queues, netlink: Netlink, kernel: Result<Kernel, String>) -> Self {
        Self {
            media: Media::new(queues),
            netlink,
            kernel,
            borders: Vec::new(),
            flows: BTreeMap::new(),
            passages: Passages::default(),
            taps: BTreeMap::new(),
            books: Books::default(),
            icmp: Icmp::start(),
            border_fails: false,
            left_out: BTreeSet::new(),
        }
    }

    /// A flow found in the kernel at start.
    pub(crate) fn adopt(&mut self, at: SocketAddr, flow: &Flow) {
        let rule = Rule {
            rtcp: None,
            peer: flow.peer.into(),
            source: flow.source.into(),
            target: flow.target.into(),
            tos: flow.flags.has(Flags::DSCP).then_some(flow.tos),
            hops: flow.flags.has(Flags::HOPS).then_some(flow.hops),
            kind: MediaKind::Data,
        };
        for at in [at, rule.source] {
            if let Err(error) = self.media.open(at, None) {
                tracing::warn!(%at, %error, "cannot open the socket of an adopted flow");
            }
        }
        let mut installed =
            Installed::new(rule, Placement::Kernel).adopted(&totals(&self.kernel, at));
        installed.clock.hz = flow.clock_hz;
        self.flows.insert(at, Box::new(installed));
    }

    /// Gives adopted flows their userspace twin, once all sockets are open. Each with its source.
    pub(crate) fn adopted(&self) -> Vec<(SocketAddr, SocketAddr)> {
        for (at, flow) in &self.flows {
            self.media.install(*at, flow.rule, self.link(flow.rule));
        }
        let each = self.flows.iter();
        each.map(|(at, flow)| (*at, flow.rule.peer)).collect()
    }

    pub(crate) async fn install(&mut self, at: SocketAddr, rule: Rule) {
        if !self.media.install(at, rule, self.link(rule)) {
            tracing::warn!(%at, source = %rule.source, "a flow names a socket that is not open");
        }
        match self.flows.get_mut(&at) {
            Some(flow) => flow.rule = rule,
            None => {
                let flow = Installed::new(rule, Placement::User("new"));
                self.flows.insert(at, Box::new(flow));
            }
        }
        let is_ours = self.media.port(rule.target).is_some();
        self.passages.lead(at, is_ours.then_some(rule.target));
        self.place_with_feeders(at).await;
    }

    /// The link a rule's packets leave by, where the routing table could not tell.
    fn link(&self, rule: Rule) -> Option<Link> {
        self.netlink.link_for(rule.source.ip(), rule.target.ip())
    }

    /// Sends a datagram that no rule sends.
    pub(crate) fn send(&self, at: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let link = self.netlink.link_for(at.ip(), to.ip());
        self.media.send(at, to, bytes, link);
    }

    pub(crate) async fn remove(&mut self, at: SocketAddr) {
        self.look(at, clock::now());
        self.media.remove(at);
        if let Some(flow) = self.flows.remove(&at)
            && flow.placement == Placement::Kernel
        {
            self.leave_kernel(at);
        }
        self.passages.lead(at, None);
        self.place_with_feeders(at).await;
        self.left_out.remove(&at);
        // One that waits has the place.
        if let Some(next) = self.left_out.first().copied() {
            self.place(next).await;
        }
    }

    fn leave_kernel(&mut self, at: SocketAddr) {
        if let Ok(kernel) = &mut self.kernel
            && let Err(error) = kernel.remove(at, clock::now())
        {
            tracing::error!(%at, %error, "cannot take a flow out of the kernel");
        }
    }

    /// A packet of a flow was too big for its way on: whoever sent it is told. The flow the other
    /// way says where it had come from.
    pub(crate) fn too_big(&mut self, news: TooBig) {
        let back = self.flows.get(&news.from).map(|flow| flow.rule.source);
        let flow = back.and_then(|at| Some((at, self.flows.get(&at)?.rule)));
        match flow {
            Some((at, rule)) if (rule.source, rule.target) == (news.from, news.to) => {
                // Where they first came in.
                let at = self.passages.first(at);
                let rule = self.flows.get(&at).map_or(rule, |flow| flow.rule);
                let link = self.netlink.link_for(at.ip(), rule.peer.ip());
                self.icmp.tell(rule.peer, at, news, link, clock::now());
            }
            Some(_) | None => self.icmp.count.unmatched += 1,
        }
    }

    /// Puts a flow into the kernel if it can go there, and takes it out if it cannot.
    async fn place(&mut self, at: SocketAddr) {
        let time = clock::now();
        let Some(flow) = self.flows.get(&at) else {
            return;
        };
        let (rule, was, clock) = (flow.rule, flow.placement, flow.clock);
        let now = match self.compile(at, rule).await {
            Ok(flow) => match self
                .kernel
                .as_mut()
                .map(|kernel| kernel.install(at, flow.measured(clock.hz), time))
            {
                Ok(Ok(())) => Placement::Kernel,
                Ok(Err(error)) => {
                    let refused = Placement::User(reason(&error));
                    if was != refused {
                        self.refused(at, &error);
                    }
                    refused
                }
                Err(_) => Placement::User(NO_KERNEL),
            },
            Err(why) => Placement::User(why),
        };
        if was == Placement::Kernel && now != Placement::Kernel {
            let counted = Counted::of(&totals(&self.kernel, at));
            self.leave_kernel(at);
            if let Some(flow) = self.flows.get_mut(&at) {
                flow.before = flow.before.plus(counted);
            }
        }
        if was != now {
            tracing::debug!(%at, ?was, ?now, "flow placed");
            if let Some(port) = self.media.port(at) {
                port.account().rest();
            }
        }
        if now == Placement::User(FULL) {
            self.left_out.insert(at);
        } else {
            self.left_out.remove(&at);
        }
        if let Some(flow) = self.flows.get_mut(&at) {
            flow.placement = now;
        }
    }

    /// A full table refuses flow after flow: that is one line in the log, and a warning of `status`
    /// as long as it goes on.
    fn refused(&mut self, at: SocketAddr, error: &KernelError) {
        if !matches!(error, KernelError::Full { .. }) {
            tracing::warn!(%at, %error, "the kernel does not take a flow");
        } else if self.left_out.is_empty() {
            tracing::warn!(%error, "the kernel takes no more flows: they go through userspace");
        }
    }

    /// How many flows are in userspace because the kernel's table is full.
    pub(crate) fn left_out(&self) -> usize {
        self.left_out.len()
    }

    async fn compile(&mut self, at: SocketAddr, rule: Rule) -> Result<Flow, &'static str> {
        if self.kernel.is_err() {
            return Err(NO_KERNEL);
        }
        if self.passages.is_fed(at) {
            return Err(
                "the call passes us more than once: its packets are forwarded where they come in",
            );
        }
        let rule = self.through(at, rule);
        if rule.rtcp.is_some() {
            return Err("RTCP is taken apart for a party that does not multiplex");
        }
        if at.is_ipv4() != rule.target.is_ipv4() {
            return Err("the two parties use different IP versions");
        }
        if self.passages.of(at).any(|at| self.is_tapped(at)) {
            return Err("captured: both sides are seen in userspace");
        }
        let hop = self
            .netlink
            .next_hop(rule.target.ip(), rule.source.ip())
            .await
            .map_err(|unresolved| unresolved.reason())?;
        let kernel = self.kernel.as_ref().map_err(|_| NO_KERNEL)?;
        let (egress, vlan) = self.netlink.carrier(hop.ifindex);
        if !kernel.attached().any(|index| index == egress) {
            return Err("no program on the egress interface");
        }
        let ingress = self.netlink.ingress(at.ip());
        // Where the program is not, nothing comes in by.
        let (ingress, vlan_in) = match kernel.attached().any(|index| index == ingress.0) {
            true => ingress,
            false => (0, 0),
        };
        let rewrite = Rewrite {
            peer: rule.peer.into(),
            source: rule.source.into(),
            target: rule.target.into(),
            tos: rule.tos,
            flags: Flags::SHOW_STRANGERS,
        };
        let hop = Hop {
            eth_src: hop.eth_src,
            eth_dst: hop.eth_dst,
            egress,
            mtu: u16::try_from(hop.mtu).unwrap_or(u16::MAX),
        };
        let flow = Flow::compile(at.into(), rewrite, hop)
            .arriving(ingress, vlan_in)
            .leaving(vlan);
        Ok(rule.hops.map_or(flow, |hops| flow.with_hops(hops)))
    }

    /// The interfaces of the networks from now on: what comes by that of one is not let in at the
    /// address of another.
    pub(crate) fn set_borders(&mut self, interfaces: Vec<String>) {
        self.borders = interfaces;
        self.keep_borders();
    }

    fn keep_borders(&self) {
        let indices = self.borders.iter().map(|name| self.netlink.index_of(name));
        let all: BTreeSet<u32> = indices.flatten().collect();
        let mut borders = HashMap::new();
        for own in &all {
            let others: BTreeSet<u32> = all.iter().filter(|l| *l != own).copied().collect();
            let others = Arc::new(others);
            let at_home = |ip: &IpAddr| self.netlink.home(*ip) == Some(*own);
            let addresses = self.netlink.addresses_of(*own).filter(at_home);
            borders.extend(addresses.map(|ip| (ip, others.clone())));
        }
        self.media.set_borders(borders);
    }

    /// Routes, neighbours or links changed: every flow is placed anew.
    pub(crate) async fn replace_all(&mut self) {
        self.keep_borders();
        let all: Vec<(SocketAddr, Rule)> = self.flows.iter().map(|(at, f)| (*at, f.rule)).collect();
        for (at, rule) in all {
            self.media.install(at, rule, self.link(rule));
            self.place(at).await;
        }
    }

    /// Captures what goes through a port; its flow goes to userspace.
    pub(crate) async fn tap(&mut self, at: SocketAddr, tap: Tap) {
        if let Some(port) = self.media.port(at) {
            port.tap(Some(tap.clone()));
        }
        self.taps.insert(at, tap);
        self.place(at).await;
    }

    pub(crate) fn is_tapped(&self, at: SocketAddr) -> bool {
        self.taps.contains_key(&at)
    }

    /// Captures under way.
    pub(crate) fn captures(&self) -> usize {
        let all: BTreeSet<_> = self
            .taps
            .values()
            .map(|t| Arc::as_ptr(&t.capture))
            .collect();
        all.len()
    }

    /// Flows whose capture is over go back to where they belong.
    pub(crate) async fn end_captures(&mut self) {
        let now = clock::now();
        let over: Vec<(SocketAddr, Arc<Capture>)> = self
            .taps
            .iter()
            .filter(|(_, tap)| tap.capture.is_over(now))
            .map(|(at, tap)| (*at, tap.capture.clone()))
            .collect();
        for (at, capture) in over {
            capture.finish();
            self.taps.remove(&at);
            if let Some(port) = self.media.port(at) {
                port.tap(None);
            }
            self.place(at).await;
        }
    }

    /// Flows that carried packets since the last call.
    pub(crate) fn active(&mut self) -> Vec<Activity> {
        let now = clock::now();
        let all: Vec<SocketAddr> = self.flows.keys().copied().collect();
        let mut active = Vec::new();
        for at in all {
            if let Some(activity) = self.look(at, now) {
                // The kernel takes all passages in one step.
                let passed = self.passages.of(at);
                active.extend(passed.map(|at| Activity { at, ..activity }));
            }
        }
        active
    }

    /// Enters a flow into the books; its latest packet, if there were any since the last look.
    fn look(&mut self, at: SocketAddr, now: Instant) -> Option<Activity> {
        let source = self.flows.get(&at)?.left_by(|rule| self.through(at, rule));
        let flow = self.flows.get_mut(&at)?;
        let (kernel, port) = (totals(&self.kernel, at), self.media.port(at));
        let network = |at| self.media.port(at).and_then(|port| port.network);
        let networks = [network(at), network(source)];
        flow.look(&kernel, port, networks, now, &mut self.books)
            .then(|| latest(at, &kernel, port))
    }

    /// Finds what events did not tell, and keeps the neighbours of kernel flows fresh: their
    /// packets do not pass the stack that would.
    pub(crate) async fn refresh_neighbours(&mut self) {
        if self.netlink.resync().await {
            tracing::debug!("links or neighbours had changed unnoticed");
        }
        self.replace_all().await;
        let targets: BTreeSet<(IpAddr, IpAddr)> = self
            .flows
            .values()
            .filter(|flow| flow.placement == Placement::Kernel)
            .map(|flow| (flow.rule.target.ip(), flow.rule.source.ip()))
            .collect();
        for (target, source) in targets {
            self.netlink.refresh(target, source).await;
        }
    }

    /// Finds out the clocks of streams, without which their jitter says nothing.
    pub(crate) async fn look_at_clocks(&mut self) {
        let mut found = Vec::new();
        for (at, flow) in &mut self.flows {
            if flow.clock.hz != 0 {
                continue;
            }
            let port = self.media.port(*at);
            let now = match (flow.placement, &self.kernel) {
                (Placement::Kernel, Ok(kernel)) => kernel.position(*at),
                _ => port.and_then(|port| port.account().position()),
            };
            let rate = flow.clock.looked.zip(now).and_then(|(a, b)| rate(a, b));
            flow.clock.looked = now;
            if let Some(hz) = rate {
                flow.clock.hz = hz;
                if let Some(port) = port {
                    port.account().set_clock(hz);
                }
                found.push(*at);
            }
        }
        for at in found {
            self.place(at).await;
        }
    }

    pub(crate) fn flow(&self, at: SocketAddr) -> Option<FlowNow> {
        let its = |at: SocketAddr| {
            let flow = self.flows.get(&at)?;
            Some(flow.now(at, &totals(&self.kernel, at), self.media.port(at)))
        };
        let mut flow = its(at)?;
        // The kernel takes all passages in one step, and counts them where packets come in.
        if let Some(first) = Some(self.passages.first(at)).filter(|first| *first != at)
            && let Some(first) = its(first)
            && first.placement == Placement::Kernel
        {
            flow.placement = Placement::Kernel;
            flow.kernel = first.kernel;
            flow.stream = first.stream;
            flow.bits_per_s = first.bits_per_s;
        }
        Some(flow)
    }

    pub(crate) fn glance(&self, at: SocketAddr) -> Option<Glance> {
        let its = |at: SocketAddr| self.flows.get(&at).map(|flow| flow.glance());
        let first = its(self.passages.first(at));
        let in_kernel = first.filter(|first| first.placement == Placement::Kernel);
        its(at).map(|own| in_kernel.unwrap_or(own))
    }

    /// A state change of a flow, told by the kernel program.
    pub(crate) fn report(&self, event: Event) {
        let Ok(kernel) = &self.kernel else { return };
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let Some(at) = kernel.at(event.stats, event.generation) else {
            return;
        };
        match event.kind {
            EventKind::FIRST_PACKET => tracing::debug!(%at, "first packet in the kernel path"),
            EventKind::STRANGER => {
                let from = SocketAddr::from(event.from);
                tracing::debug!(%at, %from, "a stranger's packet was shown to the latch");
            }
            EventKind::RESUMED => tracing::debug!(%at, "media again after silence"),
            EventKind::SSRC_CHANGED => tracing::debug!(%at, "another RTP source"),
            EventKind(kind) => tracing::debug!(%at, kind, "unknown event"),
        }
    }

    /// Names of the interfaces the program is attached to.
    pub(crate) fn interfaces(&self) -> Vec<String> {
        let Ok(kernel) = &self.kernel else {
            return Vec::new();
        };
        kernel
            .attached()
            .flat_map(|index| std::iter::once(index).chain(self.netlink.vlans_on(index)))
            .filter_map(|index| self.netlink.name_of(index))
            .collect()
    }

    /// (in the kernel, in userspace)
    pub(crate) fn placements(&self) -> (usize, usize) {
        let kernel = self
            .flows
            .values()
            .filter(|flow| flow.placement == Placement::Kernel)
            .count();
        (kernel, self.flows.len() - kernel)
    }
}

const NO_KERNEL: &str = "the kernel path is off";
const FULL: &str = "the flow table is full: raise datapath.flows";

/// The latest packet of a flow, whichever path it took.
fn latest(at: SocketAddr, kernel: &Totals, port: Option<&Arc<Port>>) -> Activity {
    let in_kernel = (kernel.last_ns, kernel.stream.map(|stream| stream.ssrc));
    let by_user = port.map(|port| {
        let ssrc = port.account().stream().map(|stream| stream.ssrc);
        (port.count.last_ns.load(Ordering::Relaxed), ssrc)
    });
    let both = [in_kernel].into_iter().chain(by_user);
    let (last, ssrc) = both.max_by_key(|(last, _)| *last).unwrap_or_default();
    Activity {
        at,
        last: clock::moment(last),
        ssrc,
    }
}

/// What the kernel program counts of a flow; zeros where it has none.
fn totals(kernel: &Result<Kernel, String>, at: SocketAddr) -> Totals {
    let kernel = kernel.as_ref().ok();
    kernel.and_then(|k| k.stats(at)).unwrap_or_default()
}

/// Why the kernel did not take a flow, for those who look at the call.
fn reason(error: &KernelError) -> &'static str {
    match error {
        KernelError::Full { .. } => FULL,
        KernelError::NotLocal { .. } => "the program does not know the local address",
        KernelError::Permission { .. }
        | KernelError::NotBpffs { .. }
        | KernelError::InUse { .. }
        | KernelError::PinDir { .. }
        | KernelError::OtherSize { .. }
        | KernelError::Object { .. }
        | KernelError::Refused { .. }
        | KernelError::SelfTest { .. }
        | KernelError::NoInterface { .. }
        | KernelError::NoDriverSupport { .. }
        | KernelError::Occupied { .. }
        | KernelError::Attach { .. }
        | KernelError::TooManyLocals { .. }
        | KernelError::Map { .. } => "a map cannot be written: see the log",
    }
}
