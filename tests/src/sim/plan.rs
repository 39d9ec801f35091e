//! Random sites: an edge with one to five networks, routers of every kind, phones here and there.

mod network;
mod reload;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub use network::Planned;
use network::{Uplink, belongs, networks, text};

use super::edge::{Datapath, Edge};
use super::nat::{Behaviour, Dependence, Nat};
use super::oracle::Oracle;
use super::phone::{Extras, Identity, Manner, Phone};
use super::rng::Rng;
use super::rtp::Pace;
use super::world::{DOMAIN, parsed};
use super::{Link, NetId, NodeId, Sim};

/// Most networks of an edge, and phones of a site.
const NETWORKS_MAX: usize = 5;
const PHONES_MAX: u64 = 6;
/// The address the internet knows the edge by.
const OUTSIDE: &str = "203.0.113.9";
/// Ends a call whose media fell silent.
pub const MEDIA_TIMEOUT: Duration = Duration::from_secs(20);

/// A phone of the site.
#[derive(Clone, Debug)]
pub struct Resident {
    pub node: NodeId,
    pub user: String,
    /// Our address that it uses, and the one it is seen by.
    pub uses: IpAddr,
    pub seen: IpAddr,
    /// Its own address is the one the edge sees.
    pub direct: bool,
    /// Nothing ever happened to it.
    pub steady: bool,
    /// Calls it had when something happened to it last: they may be mute.
    pub mute: usize,
    pub gone: bool,
    /// Free addresses it may move to.
    pub spare: Option<IpAddr>,
}

pub struct Site {
    pub sim: Sim,
    pub chance: Rng,
    pub edge: NodeId,
    pub networks: Vec<Planned>,
    pub residents: Vec<Resident>,
    pub routers: Vec<NodeId>,
    /// Strangers, and where the edge is for them.
    pub strangers: Vec<(NodeId, IpAddr)>,
    pub links: Vec<NetId>,
    pub mcu: bool,
    /// Packets are lost in some network.
    pub lossy: bool,
    uplink: Uplink,
    /// Networks that were taken out.
    removed: Vec<Planned>,
    border: Option<NodeId>,
    wan: NetId,
    lan: NetId,
    twins: [NetId; 2],
    /// Networks behind routers, and by which address each is seen.
    homes: Vec<(NetId, IpAddr)>,
}

/// Where a phone is put.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    Internet,
    /// Behind a router, perhaps one that somebody else is behind too.
    Home,
    /// Behind a router behind a carrier's.
    Carrier,
    Lan,
    /// In the LAN, but it uses the public address.
    Hairpin,
    /// Behind a router in the LAN.
    Nested,
    Twin(usize),
    Internet6,
    Lan6,
}

impl Site {
    /// The site of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut chance = Rng::new(seed ^ 0x517e);
        let datapath = chance.pick(&[Datapath::Sockets, Datapath::Frames]);
        let mut sim = Sim::new(seed);
        sim.oracle = Some(Oracle::default());
        let lossy = chance.permille(500);
        let mut links = Vec::new();
        let mut net = |sim: &mut Sim, chance: &mut Rng| {
            let link = weather(chance, lossy);
            links.push(sim.net(link));
            *links.last().expect("just pushed")
        };
        let [wan, lan, dmz, one, other] = [(); 5].map(|()| net(&mut sim, &mut chance));
        let (uplink, networks) = networks(&mut chance);
        let mcu = networks.iter().any(|n| n.name == "lan") && chance.permille(500);
        let config = parsed(&text(&networks, mcu));
        let mut homes: Vec<(NetId, IpAddr)> = Vec::new();
        for network in &networks {
            let home = match network.name {
                "wan" | "branch" => match uplink {
                    Uplink::Direct | Uplink::None => wan,
                    Uplink::Mapped => dmz,
                    Uplink::Shared | Uplink::Rewritten => lan,
                },
                "wan6" => wan,
                "twin" => one,
                "twin2" => other,
                _ => lan,
            };
            if !homes.contains(&(home, network.address)) {
                homes.push((home, network.address));
            }
        }
        let shards = 1 + u16::try_from(seed % 3).expect("below three");
        let edge = Edge::sharded(config, seed, datapath, shards, sim.now());
        let edge = sim.add_edge(edge, &homes);
        let mut site = Self {
            sim,
            chance,
            edge,
            networks,
            residents: Vec::new(),
            routers: Vec::new(),
            strangers: Vec::new(),
            links,
            mcu,
            lossy,
            uplink,
            removed: Vec::new(),
            border: None,
            wan,
            lan,
            twins: [one, other],
            homes: Vec::new(),
        };
        site.border(dmz);
        site.people();
        site.outlaws();
        site
    }

    /// A network by its name.
    #[must_use]
    pub fn network(&self, name: &str) -> Option<&Planned> {
        self.networks.iter().find(|n| n.name == name)
    }

    /// The network a phone belongs to now.
    #[must_use]
    pub fn network_of(&self, resident: &Resident) -> Option<&Planned> {
        belongs(&self.networks, resident.uses, resident.seen)
    }

    /// The configuration as it is planned now.
    #[must_use]
    pub fn text(&self) -> String {
        text(&self.networks, self.mcu)
    }

    fn border(&mut self, dmz: NetId) {
        let (inside, host) = match self.uplink {
            Uplink::None | Uplink::Direct => return,
            Uplink::Mapped => (dmz, "172.16.0.2"),
            Uplink::Shared | Uplink::Rewritten => (self.lan, "10.0.0.3"),
        };
        let mut nat = Nat::new(ip(OUTSIDE), Behaviour::CONE);
        nat.mapped = Some(ip(host));
        nat.rewrites = (self.uplink == Uplink::Rewritten).then(|| ip("10.0.0.1"));
        self.border = Some(self.sim.add_nat(nat, inside, self.wan));
    }

    fn people(&mut self) {
        if self.mcu {
            self.settle("mcu".into(), Place::Lan, ip("10.0.0.20"), 20);
        }
        let places = self.places();
        let count = 2 + self.chance.below(PHONES_MAX - 1);
        let mut before: Option<(String, IpAddr)> = None;
        for number in 1..=count {
            let place = self.chance.pick(&places);
            let at = match place {
                Place::Internet => ip(&format!("198.18.0.{number}")),
                Place::Home => ip(&format!("192.168.1.{}", 30 + number)),
                Place::Carrier => ip(&format!("192.168.2.{}", 30 + number)),
                Place::Lan | Place::Hairpin => ip(&format!("10.0.0.{}", 30 + number)),
                Place::Nested => ip(&format!("192.168.77.{}", 30 + number)),
                // As often as not the same address in both.
                Place::Twin(twin) => {
                    let free = ip("192.168.1.30");
                    let used = self.sim.lives_at(self.twins.get(twin).copied(), free);
                    if used {
                        ip(&format!("192.168.1.{}", 30 + number))
                    } else {
                        free
                    }
                }
                Place::Internet6 => ip(&format!("2001:db8:{number}::1")),
                Place::Lan6 => ip(&format!("fd00::3{number}")),
            };
            let mut user = format!("{}", 1000 + number);
            if let Some((other, there)) = &before
                && *there != at
                && self.chance.permille(100)
            {
                user.clone_from(other);
            }
            before = Some((user.clone(), at));
            self.settle(user, place, at, number);
        }
    }

    fn places(&self) -> Vec<Place> {
        let mut places = Vec::new();
        for network in &self.networks {
            match network.name {
                "wan" => {
                    places.extend([Place::Internet, Place::Home, Place::Home, Place::Carrier]);
                    if matches!(self.uplink, Uplink::Shared | Uplink::Rewritten) {
                        places.push(Place::Hairpin);
                    }
                }
                "lan" => places.extend([Place::Lan, Place::Lan, Place::Nested]),
                "twin" => places.push(Place::Twin(0)),
                "twin2" => places.push(Place::Twin(1)),
                "wan6" => places.push(Place::Internet6),
                "lan6" => places.push(Place::Lan6),
                _ => {}
            }
        }
        places
    }

    /// Puts a phone somewhere.
    fn settle(&mut self, user: String, place: Place, at: IpAddr, number: u64) {
        let direct = matches!(
            place,
            Place::Internet | Place::Lan | Place::Twin(_) | Place::Internet6 | Place::Lan6
        );
        let (net, seen, proxy) = self.home(place, at, number);
        let rewritten = self.uplink == Uplink::Rewritten;
        let outside = matches!(
            place,
            Place::Internet | Place::Home | Place::Carrier | Place::Hairpin
        );
        let seen = if rewritten && outside {
            ip("10.0.0.1")
        } else {
            seen
        };
        let local = match place {
            Place::Internet | Place::Home | Place::Carrier | Place::Hairpin => "wan",
            Place::Lan | Place::Nested => "lan",
            Place::Twin(0) => "twin",
            Place::Twin(_) => "twin2",
            Place::Internet6 => "wan6",
            Place::Lan6 => "lan6",
        };
        let local = self.network(local).expect("places have networks").address;
        let network = belongs(&self.networks, local, seen).expect("a network");
        let expects = BTreeSet::from([network.advertise]);
        let (network_ports, told) = (network.ports, [network.address, network.advertise]);
        let (claims, media, spare) = self.quirks(place, seen, number, &user);
        let points_at = self.trap(network_ports, told);
        let id = Identity {
            password: format!("secret-{user}"),
            user: user.clone(),
            domain: DOMAIN.to_owned(),
            at: SocketAddr::new(at, 5060),
            proxy: SocketAddr::new(proxy, 5060),
            claims,
            media,
            points_at,
            speaks_as: None,
        };
        let manner = manner(&mut self.chance);
        let mut phone = Phone::new(id, manner, self.chance.number());
        // A port is one phone's only, so that an address that lies leads to nobody.
        phone.next_port = u16::try_from(4000 + 400 * number).unwrap_or(4000);
        phone.expects = expects;
        phone.pace = Pace {
            rtp: Duration::from_millis(120 + self.chance.below(200)),
            rtcp: Duration::from_millis(900),
        };
        let node = self.sim.add_phone(phone, net);
        self.reveal(node, seen);
        for shown in media.into_iter().chain(spare) {
            self.reveal(node, shown);
        }
        self.residents.push(Resident {
            node,
            user,
            uses: local,
            seen,
            direct: direct && !(rewritten && outside),
            steady: true,
            mute: 0,
            gone: false,
            spare,
        });
    }

    /// Now and then a phone's SDP names a media port of ours.
    fn trap(&mut self, (first, last): (u16, u16), ours: [IpAddr; 2]) -> Option<SocketAddr> {
        if !self.chance.permille(100) {
            return None;
        }
        let pairs = u64::from(last - first).div_ceil(2).min(4);
        let port = first + 2 * u16::try_from(self.chance.below(pairs)).unwrap_or(0);
        Some(SocketAddr::new(self.chance.pick(&ours), port))
    }

    /// Whether it lies about its address, where its media lives, where it may move.
    fn quirks(
        &mut self,
        place: Place,
        seen: IpAddr,
        number: u64,
        user: &str,
    ) -> (Option<IpAddr>, Option<IpAddr>, Option<IpAddr>) {
        let other = |last: u64| match place {
            Place::Internet => Some(ip(&format!("198.18.{last}.{number}"))),
            Place::Lan => Some(ip(&format!("10.0.{}.{number}", 10 + last))),
            Place::Twin(_) => Some(ip(&format!("192.168.1.{}", 100 + 40 * last + number))),
            Place::Internet6 => Some(ip(&format!("2001:db8:{number}::{}", 1 + last))),
            Place::Lan6 => Some(ip(&format!("fd00::{last}:{number}"))),
            Place::Home | Place::Carrier | Place::Hairpin | Place::Nested => None,
        };
        let spare = other(1).filter(|_| user != "mcu");
        match self.chance.below(8) {
            0 if place == Place::Home => (Some(seen), None, spare),
            0 => (other(3), None, spare),
            1 => (None, other(2), spare),
            _ => (None, None, spare),
        }
    }

    /// The network a phone lives in, the address it is seen by, and where the edge is for it.
    fn home(&mut self, place: Place, at: IpAddr, number: u64) -> (NetId, IpAddr, IpAddr) {
        let outside = ip(OUTSIDE);
        match place {
            Place::Internet => (self.wan, at, outside),
            Place::Lan => (self.lan, at, ip("10.0.0.3")),
            Place::Hairpin => (self.lan, outside, outside),
            Place::Twin(0) => (self.twins[0], at, ip("192.168.1.3")),
            Place::Twin(_) => (self.twins[1], at, ip("192.168.1.4")),
            Place::Internet6 => (self.wan, at, ip("2001:db8::9")),
            Place::Lan6 => (self.lan, at, ip("fd00::3")),
            Place::Nested => {
                let seen = ip(&format!("10.0.1.{number}"));
                let net = self.router(seen, self.lan);
                (net, seen, ip("10.0.0.3"))
            }
            Place::Home => {
                if !self.homes.is_empty() && self.chance.permille(500) {
                    let (net, seen) = self.chance.pick(&self.homes);
                    return (net, seen, outside);
                }
                let seen = self.public(number);
                let net = self.router(seen, self.wan);
                self.homes.push((net, seen));
                (net, seen, outside)
            }
            Place::Carrier => {
                let seen = self.public(number);
                let shared = self.router(seen, self.wan);
                let net = self.router(ip(&format!("100.64.0.{number}")), shared);
                (net, seen, outside)
            }
        }
    }

    /// In the branch's prefix or elsewhere.
    fn public(&mut self, number: u64) -> IpAddr {
        let prefix = self.chance.pick(&["198.51.100", "192.0.2"]);
        ip(&format!("{prefix}.{number}"))
    }

    fn router(&mut self, seen: IpAddr, outside: NetId) -> NetId {
        let timeouts = [30, 60, 120];
        let mut behaviour = Behaviour {
            mapping: self.chance.pick(&Dependence::ALL),
            filtering: self.chance.pick(&Dependence::ALL),
            preserve: self.chance.permille(500),
            hairpin: self.chance.permille(500),
            timeout: Duration::from_secs(self.chance.pick(&timeouts)),
            inbound_refresh: self.chance.permille(600),
        };
        if !behaviour.inbound_refresh {
            // Longer than a phone waits before it registers again.
            behaviour.timeout = Duration::from_secs(120);
        }
        let inside = self.sim.net(weather(&mut self.chance, self.lossy));
        self.links.push(inside);
        let nat = Nat::new(seen, behaviour);
        let id = self.sim.add_nat(nat, inside, outside);
        self.routers.push(id);
        inside
    }

    /// Strangers wherever the edge is; none of them shares an address with anybody.
    fn outlaws(&mut self) {
        let mut places = Vec::new();
        for network in &self.networks {
            places.push(match network.name {
                // Behind a router that rewrites sources all outsiders look alike.
                "wan" if self.uplink != Uplink::Rewritten => {
                    (self.wan, "203.0.113.66", ip(OUTSIDE))
                }
                "lan" => (self.lan, "10.0.0.66", network.address),
                "twin" => (self.twins[0], "192.168.1.66", network.address),
                "twin2" => (self.twins[1], "192.168.1.66", network.address),
                "wan6" => (self.wan, "2001:db8:66::1", network.address),
                "lan6" => (self.lan, "fd00::66", network.address),
                _ => continue,
            });
        }
        for (net, at, towards) in places {
            let at = SocketAddr::new(ip(at), 9000);
            let node = self.sim.add_stranger(net, at);
            self.strangers.push((node, towards));
        }
    }

    fn reveal(&mut self, node: NodeId, seen: IpAddr) {
        if let Some(oracle) = &mut self.sim.oracle {
            oracle.sites.entry(node).or_default().insert(seen);
        }
    }
}

/// What a network does to packets.
pub fn weather(chance: &mut Rng, lossy: bool) -> Link {
    Link {
        delay: Duration::from_millis(chance.below(60)),
        jitter: Duration::from_millis(if lossy { chance.below(60) } else { 0 }),
        sip_loss: if lossy { chance.below(200) } else { 0 },
        media_loss: if lossy { chance.below(100) } else { 0 },
        duplicate: if lossy { chance.below(100) } else { 0 },
    }
}

fn manner(chance: &mut Rng) -> Manner {
    let ms = Duration::from_millis;
    let mut manner = Manner {
        ring: chance.pick(&[None, Some(ms(0)), Some(ms(300))]),
        early: chance.permille(300),
        answer: chance.pick(&[
            Some(ms(0)),
            Some(ms(100)),
            Some(ms(900)),
            Some(ms(3000)),
            None,
        ]),
        code: chance.pick(&[200, 200, 200, 200, 200, 200, 486, 480]),
        dead: false,
        renegotiates: chance.permille(950),
        extras: chance.pick(&[Extras::None, Extras::Video, Extras::Conference]),
        names_sources: chance.permille(200),
        apart: chance.permille(300),
    };
    if manner.answer.is_none() {
        // A phone that says nothing at all cannot be cancelled either (RFC 3261 §9.1).
        manner.ring = manner.ring.or(Some(ms(1000)));
    }
    manner
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
