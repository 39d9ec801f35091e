//! The usual site: an edge with one foot in the LAN and one in the internet, an MCU in the LAN,
//! phones here, there and behind routers.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use control::config::{Config, check};

use super::edge::{Datapath, Edge};
use super::nat::{Behaviour, Nat};
use super::phone::{Dial, Identity, Manner, Phone, State};
use super::{Link, NetId, NodeId, Sim};

pub const DOMAIN: &str = "example.com";
pub const LAN: &str = "10.0.0.3";
pub const WAN: &str = "203.0.113.9";
pub const WAN6: &str = "2001:db8::9";
pub const MCU: &str = "10.0.0.20:5060";

/// The networks of the edge, ports few enough to be sprayed.
pub const NETWORKS: &str = r#"
[[network]]
name = "lan"
interface = "eth1"
address = "10.0.0.3"
peers = ["10.0.0.0/8"]
media_ports = "20000-20039"

[[network]]
name = "wan"
interface = "eth0"
address = "203.0.113.9"
peers = ["0.0.0.0/0"]
media_ports = "30000-30039"

[[network]]
name = "wan6"
interface = "eth0"
address = "2001:db8::9"
peers = ["::/0"]
media_ports = "40000-40039"
"#;

pub struct World {
    pub sim: Sim,
    pub edge: NodeId,
    pub lan: NetId,
    pub wan: NetId,
    /// Where the edge is when its address is not the one it advertises.
    dmz: NetId,
    routers: u8,
}

impl World {
    /// The usual edge.
    #[must_use]
    pub fn new(seed: u64, datapath: Datapath) -> Self {
        Self::with(seed, datapath, NETWORKS)
    }

    /// An edge with these networks, the first in the LAN, the others in the internet.
    #[must_use]
    pub fn with(seed: u64, datapath: Datapath, networks: &str) -> Self {
        let mut sim = Sim::new(seed);
        let lan = sim.net(Link {
            delay: Duration::from_millis(1),
            ..Link::default()
        });
        let wan = sim.net(Link {
            delay: Duration::from_millis(20),
            ..Link::default()
        });
        let dmz = sim.net(Link::default());
        let config = config(networks);
        let mut homes = Vec::new();
        for network in &config.networks {
            let home = match network.address {
                ip if ip.to_string() == LAN => lan,
                ip if ip == network.advertise => wan,
                _ => dmz,
            };
            if !homes.contains(&(home, network.address)) {
                homes.push((home, network.address));
            }
        }
        let edge = Edge::new(config, seed, datapath, sim.now());
        let edge = sim.add_edge(edge, &homes);
        Self {
            sim,
            edge,
            lan,
            wan,
            dmz,
            routers: 0,
        }
    }

    /// A router in the internet with a network behind it.
    pub fn router(&mut self, behaviour: Behaviour) -> (NodeId, NetId) {
        self.routers += 1;
        let outside = IpAddr::from([198, 51, 100, self.routers]);
        let inside = self.sim.net(Link {
            delay: Duration::from_millis(1),
            ..Link::default()
        });
        let nat = Nat::new(outside, behaviour);
        (self.sim.add_nat(nat, inside, self.wan), inside)
    }

    /// A router that maps every port of `outside` to the edge's address `inside`.
    ///
    /// # Panics
    /// If they are no addresses.
    pub fn map_edge(&mut self, inside: &str, outside: &str) -> NodeId {
        let outside = outside.parse().expect("an address");
        let mut nat = Nat::new(outside, Behaviour::CONE);
        nat.mapped = Some(inside.parse().expect("an address"));
        self.sim.add_nat(nat, self.dmz, self.wan)
    }

    /// A phone that knows its password; it does not register by itself.
    pub fn phone(&mut self, user: &str, net: NetId, ip: &str, manner: Manner) -> NodeId {
        let ip: IpAddr = ip.parse().expect("an address");
        let proxy = match ip {
            IpAddr::V6(_) => WAN6,
            IpAddr::V4(_) if net == self.lan => LAN,
            IpAddr::V4(_) => WAN,
        };
        let id = Identity {
            user: user.to_owned(),
            password: format!("secret-{user}"),
            domain: DOMAIN.to_owned(),
            at: SocketAddr::new(ip, 5060),
            proxy: SocketAddr::new(proxy.parse().expect("an address"), 5060),
            claims: None,
            media: None,
            points_at: None,
            speaks_as: None,
        };
        let seed = self.sim.rng.number();
        self.sim.add_phone(Phone::new(id, manner, seed), net)
    }

    /// A phone that is registered.
    ///
    /// # Panics
    /// If it cannot.
    pub fn registered(&mut self, user: &str, net: NetId, ip: &str, manner: Manner) -> NodeId {
        let phone = self.phone(user, net, ip, manner);
        assert_eq!(self.register(phone), 200, "{user}\n{}", self.sim.story());
        phone
    }

    /// The same, with a preference.
    ///
    /// # Panics
    /// If it cannot.
    pub fn prefers(&mut self, phone: NodeId, q: &'static str) {
        self.sim.phone_mut(phone).q = Some(q);
        assert_eq!(self.register(phone), 200, "{}", self.sim.story());
    }

    /// What became of a registration.
    pub fn register(&mut self, phone: NodeId) -> u16 {
        self.sim.phone_mut(phone).registered = 0;
        self.sim
            .act(phone, |p, now, out| p.register(3600, now, out));
        let limit = Duration::from_secs(40);
        self.sim.run_until(limit, |s| s.phone(phone).registered > 0);
        self.sim.phone(phone).registered
    }

    /// The trusted conference server.
    pub fn mcu(&mut self, manner: Manner) -> NodeId {
        let mcu: SocketAddr = MCU.parse().expect("an address");
        self.phone("mcu", self.lan, &mcu.ip().to_string(), manner)
    }

    pub fn dial(&mut self, phone: NodeId, user: &str) -> usize {
        self.sim.act(phone, |p, now, out| p.dial(user, now, out))
    }

    pub fn dial_as(&mut self, phone: NodeId, dial: &Dial) -> usize {
        self.sim.act(phone, |p, now, out| p.dial_as(dial, now, out))
    }

    pub fn hang_up(&mut self, phone: NodeId, call: usize) {
        self.sim.act(phone, |p, now, out| p.hang_up(call, now, out));
    }

    /// Dials and waits for the final answer: its status.
    pub fn call(&mut self, phone: NodeId, user: &str) -> u16 {
        let call = self.dial(phone, user);
        self.settle(phone, call)
    }

    /// Waits for the final answer of a call: its status.
    pub fn settle(&mut self, phone: NodeId, call: usize) -> u16 {
        let limit = Duration::from_secs(240);
        self.sim
            .run_until(limit, |s| s.phone(phone).call(call).status > 0);
        self.sim.phone(phone).call(call).status
    }

    /// Media for a while between two calls that are up: everything sent arrives, once, from where
    /// SDP said, and nothing else does. The first half second is for latches to learn.
    ///
    /// # Panics
    /// If it is not so.
    pub fn talk(&mut self, a: (NodeId, usize), b: (NodeId, usize), time: Duration) {
        self.sim.run_for(Duration::from_millis(500));
        let starts = [self.sent(a), self.sent(b)];
        self.sim.run_for(time);
        let ends = [self.sent(a), self.sent(b)];
        self.sim.run_for(Duration::from_millis(300));
        for ((from, to), (start, end)) in [(a, b), (b, a)]
            .into_iter()
            .zip(starts.into_iter().zip(ends))
        {
            let ssrc = self.sim.phone(from.0).call(from.1).rtp.ssrc;
            let rtp = &self.sim.phone(to.0).call(to.1).rtp;
            let story = || self.sim.story();
            assert!(end > start, "nothing was sent\n{}", story());
            let missing = rtp.missing(ssrc, start, end);
            assert_eq!(missing, 0, "lost of {start}..{end}\n{}", story());
            assert_eq!(rtp.received.misplaced, 0, "from elsewhere\n{}", story());
            let foreign = rtp.foreign(ssrc);
            assert!(foreign.is_empty(), "strangers {foreign:x?}\n{}", story());
            let faults = (rtp.received.duplicates, rtp.received.garbage);
            assert_eq!(faults, (0, 0), "duplicates, garbage\n{}", story());
            assert!(
                rtp.received.rtcp.contains_key(&ssrc),
                "no RTCP\n{}",
                story()
            );
        }
    }

    /// Ends every call that is left, waits for the last timer, and looks for leftovers.
    ///
    /// # Panics
    /// If there are any.
    pub fn finish(&mut self, phones: &[NodeId]) {
        for phone in phones {
            for call in 0..self.sim.phone(*phone).calls.len() {
                self.hang_up(*phone, call);
            }
        }
        self.finished(phones);
    }

    /// Waits for the last timer, and looks for leftovers. Registrations run out meanwhile.
    ///
    /// # Panics
    /// If there are any.
    pub fn finished(&mut self, phones: &[NodeId]) {
        for phone in phones {
            self.sim.phone_mut(*phone).rest();
        }
        // Longer than timer C, a CANCEL and the patience after it.
        self.sim.run_for(Duration::from_secs(330));
        self.quiet(phones);
    }

    /// No call anywhere, nothing left at the edge.
    ///
    /// # Panics
    /// If there is.
    pub fn quiet(&mut self, phones: &[NodeId]) {
        let calls = |p: &NodeId| {
            self.sim
                .phone(*p)
                .calls
                .iter()
                .map(|c| c.state)
                .collect::<Vec<_>>()
        };
        for phone in phones {
            let all = calls(phone);
            let over = all.iter().all(|s| *s == State::Over);
            assert!(over, "{all:?}\n{}", self.sim.story());
        }
        let edge = self.sim.edge(self.edge);
        if let Err(what) = edge.check_empty(self.sim.now()) {
            unreachable!("{what}\n{}", self.sim.story());
        }
    }

    #[must_use]
    pub fn edge(&self) -> &Edge {
        self.sim.edge(self.edge)
    }

    /// One of the engine's counters.
    #[must_use]
    pub fn counted(&self, what: &'static str, which: &'static str) -> u64 {
        self.edge().engine.counters().get(what, which)
    }

    fn sent(&self, (phone, call): (NodeId, usize)) -> u32 {
        self.sim.phone(phone).call(call).rtp.sent
    }
}

/// A checked configuration with these networks.
///
/// # Panics
/// If it is refused.
#[must_use]
pub fn config(networks: &str) -> Config {
    let mut text = format!(
        "[sip]\ndomain = \"{DOMAIN}\"\nlisten = [\"udp:0.0.0.0:5060\", \"udp:[::]:5060\"]\n\
         [[sip.peer]]\nname = \"mcu\"\nuri = \"sip:{MCU}\"\nroutes = [\"8???\"]\n"
    );
    for user in 1001..=1020 {
        let account = format!("[[sip.account]]\nuser = \"{user}\"\npassword = \"secret-{user}\"\n");
        text.push_str(&account);
    }
    text.push_str(networks);
    parsed(&text)
}

/// A checked configuration.
///
/// # Panics
/// If it is refused.
#[must_use]
pub fn parsed(text: &str) -> Config {
    let mut secrets = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
    let checked = check::check("sim.toml", text, None, &mut secrets);
    checked.unwrap_or_else(|problems| unreachable!("{problems:#?}"))
}
