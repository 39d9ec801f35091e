//! The servers, the paths between them, and what goes wrong with both.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use control::cascade::Cascade;
use control::cascade::link::{Had, Numbered};

use super::server::Server;
use super::{Report, Terms, Wiring};
use crate::clock;
use crate::sim::rng::Rng;

/// Nothing acknowledged for so long: it is sent again.
const RESEND: Duration = Duration::from_millis(600);
/// A link that carries nothing is noticed within this time.
const NOTICE: Duration = Duration::from_secs(3);
/// After the trouble everything is well again within this time.
const HEAL: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(50);

struct World {
    terms: Terms,
    rng: Rng,
    now: Instant,
    began: Instant,
    servers: BTreeMap<&'static str, Server>,
    /// Links over which nothing comes, and until when.
    broken: BTreeMap<(&'static str, &'static str), Instant>,
    events: BTreeMap<(Instant, u64), Event>,
    numbered: u64,
    boots: u64,
    envelopes: u64,
    /// Who ever shared a conference, its home among them.
    ever: BTreeMap<String, BTreeSet<String>>,
    /// Frames that a server has handled since its start.
    handled: BTreeSet<(String, u64, String)>,
    wanted: BTreeSet<u64>,
    report: Report,
}

enum Event {
    Packet {
        from: &'static str,
        to: &'static str,
        packet: Packet,
    },
    Notice {
        at: &'static str,
        of: &'static str,
        up: bool,
    },
}

#[derive(Clone)]
struct Packet {
    boot: u64,
    oldest: u64,
    had: Option<Had>,
    /// None: it only acknowledges.
    frame: Option<(u64, Bytes)>,
}

/// Runs one seed.
///
/// # Errors
/// What must not happen has happened.
pub fn run(seed: u64, terms: Terms) -> Result<Report, String> {
    let mut world = World::new(seed, terms);
    let end = world.began + terms.lasts;
    while world.now < end {
        world.trouble();
        world.step()?;
    }
    world.heal()?;
    while world.now < end + HEAL {
        world.step()?;
    }
    world.well()?;
    for server in world.servers.values() {
        world.report.answers += server.told;
        world.report.unreachable += server.unreachable;
        for (reason, count) in server.dropped.iter().chain(server.cascade.dropped()) {
            *world.report.dropped.entry(*reason).or_default() += count;
        }
    }
    Ok(world.report)
}

impl World {
    fn new(seed: u64, terms: Terms) -> Self {
        let began = clock::now();
        let mut world = Self {
            terms,
            rng: Rng::new(seed),
            now: began,
            began,
            servers: BTreeMap::new(),
            broken: BTreeMap::new(),
            events: BTreeMap::new(),
            numbered: 0,
            boots: 0,
            envelopes: 0,
            ever: BTreeMap::new(),
            handled: BTreeSet::new(),
            wanted: BTreeSet::new(),
            report: Report::default(),
        };
        for sid in terms.wiring.servers() {
            let boot = world.boot();
            let server = Server::new(sid, &neighbours(terms.wiring, sid), boot, began);
            world.servers.insert(sid, server);
        }
        for (a, b) in terms.wiring.links() {
            world.notice(a, b, true);
            world.notice(b, a, true);
        }
        // One at each server, and one that nobody else shares.
        for sid in terms.wiring.servers() {
            for name in ["shared", "own"] {
                let cid = format!("{sid}~{name}");
                let own = BTreeSet::from([(*sid).to_owned()]);
                world.ever.insert(cid.clone(), own);
                if name == "shared" {
                    world.share(&cid);
                }
            }
        }
        world
    }

    fn boot(&mut self) -> u64 {
        self.boots += 1;
        self.boots
    }

    /// The home shares it with some; all of those on the way to them are among them.
    fn share(&mut self, cid: &str) {
        let Some(home) = Cascade::home(cid).map(str::to_owned) else {
            return;
        };
        let others = self.terms.wiring.servers().iter().filter(|s| **s != home);
        let mut members: BTreeSet<String> = others.map(|&sid| sid.to_owned()).collect();
        let ends = match self.terms.wiring {
            Wiring::Pair => &["core-01", "edge-01"][..],
            Wiring::Tree if home == "core-01" => &["edge-01", "edge-02"],
            Wiring::Tree => &["edge-01", "edge-02"],
            Wiring::Chain => &["edge-01", "core-01"],
            Wiring::Ring => &["core-01", "edge-01", "edge-02"],
        };
        for end in ends {
            if self.rng.permille(200) {
                members.remove(*end);
            }
        }
        let ever = self.ever.entry(cid.to_owned()).or_default();
        ever.extend(members.iter().cloned());
        let now = self.now;
        if let Some(server) = self.servers.get_mut(home.as_str()) {
            server.share(cid, members, now);
        }
    }

    fn trouble(&mut self) {
        let tick = u64::try_from(TICK.as_millis()).unwrap_or(1);
        let once_in = |seconds: u64| seconds * 1000 / tick;
        let wanted = u64::try_from(self.terms.every.as_millis()).unwrap_or(1);
        for _ in 0..tick.div_ceil(wanted) {
            if wanted <= tick || self.rng.below(wanted / tick) == 0 {
                self.want();
            }
        }
        if self.terms.breaks > 0 && self.rng.below(once_in(self.terms.breaks)) == 0 {
            let link = self.rng.pick(self.terms.wiring.links());
            let lasts = self.rng.duration(Duration::from_secs(20));
            self.cut(link, lasts);
        }
        if self.terms.restarts > 0 && self.rng.below(once_in(self.terms.restarts)) == 0 {
            let sid = self.rng.pick(self.terms.wiring.servers());
            self.restart(sid);
        }
        if self.rng.below(once_in(15)) == 0 {
            let home = self.rng.pick(self.terms.wiring.servers());
            self.share(&format!("{home}~shared"));
        }
    }

    fn want(&mut self) {
        let at = self.rng.pick(self.terms.wiring.servers());
        let home = self.rng.pick(self.terms.wiring.servers());
        let name = if at == home && self.rng.permille(300) {
            "own"
        } else {
            "shared"
        };
        let cid = format!("{home}~{name}");
        let now = self.now;
        self.envelopes += 1;
        let envelope = self.envelopes;
        if let Some(server) = self.servers.get_mut(at) {
            let shares = server.cascade.members(&cid).any(|sid| sid == at);
            if at == home || shares {
                self.report.commands += 1;
                self.wanted.insert(envelope);
                server.want(&cid, envelope, now);
            }
        }
    }

    /// Nothing goes over a link for a while, and both sides may notice.
    fn cut(&mut self, link: (&'static str, &'static str), lasts: Duration) {
        let until = self.now + lasts;
        self.broken.insert(link, until);
        let (a, b) = link;
        for (at, of) in [(a, b), (b, a)] {
            let after = self.rng.duration(NOTICE);
            // A short break goes unnoticed, perhaps by one side only.
            if after < lasts {
                self.later(after, Event::Notice { at, of, up: false });
                let back = lasts + self.rng.duration(NOTICE);
                self.later(back, Event::Notice { at, of, up: true });
            }
        }
    }

    fn restart(&mut self, sid: &'static str) {
        let (boot, now) = (self.boot(), self.now);
        let neighbours = neighbours(self.terms.wiring, sid);
        self.handled.retain(|(at, _, _)| at != sid);
        if let Some(server) = self.servers.get_mut(sid) {
            server.restart(&neighbours, boot, now);
        }
        for of in neighbours {
            if self.rng.permille(500) {
                let (at, of, up) = (of, sid, false);
                self.later(Duration::ZERO, Event::Notice { at, of, up });
            }
            let up = true;
            for (at, of) in [(sid, of), (of, sid)] {
                let after = self.rng.duration(NOTICE);
                self.later(after, Event::Notice { at, of, up });
            }
        }
    }

    fn notice(&mut self, at: &'static str, of: &'static str, up: bool) {
        self.later(Duration::ZERO, Event::Notice { at, of, up });
    }

    fn later(&mut self, after: Duration, event: Event) {
        self.numbered += 1;
        self.events.insert((self.now + after, self.numbered), event);
    }

    fn heal(&mut self) -> Result<(), String> {
        self.broken.clear();
        self.terms.lost = 0;
        for (a, b) in self.terms.wiring.links() {
            self.notice(a, b, true);
            self.notice(b, a, true);
        }
        self.step()
    }

    fn step(&mut self) -> Result<(), String> {
        let until = self.now + TICK;
        while let Some(((at, _), _)) = self.events.first_key_value()
            && *at <= until
        {
            let Some(((at, _), event)) = self.events.pop_first() else {
                break;
            };
            self.now = at.max(self.now);
            match event {
                Event::Packet { from, to, packet } => self.arrive(from, to, packet)?,
                Event::Notice { at, of, up } => {
                    let is_cut = self.is_cut(at, of);
                    let now = self.now;
                    if let Some(server) = self.servers.get_mut(at)
                        && !(up && is_cut)
                    {
                        self.report.shown += server.link(of, up, now)?;
                    }
                }
            }
            self.send();
        }
        self.now = until;
        let now = self.now;
        for server in self.servers.values_mut() {
            self.report.shown += server.expire(now)?;
            let due = server.again.iter().filter(|(_, (at, _))| *at <= now);
            let due: Vec<(u64, String)> = due.map(|(e, (_, cid))| (*e, cid.clone())).collect();
            for (envelope, cid) in due {
                server.again.remove(&envelope);
                // Who shares it no more lets its clients go.
                let home = Cascade::home(&cid) == Some(server.sid.as_str());
                if home || server.cascade.members(&cid).next().is_some() {
                    server.want(&cid, envelope, now);
                } else {
                    self.wanted.remove(&envelope);
                }
            }
            for neighbour in server.links.values_mut() {
                let quiet = now.saturating_duration_since(neighbour.quiet_since);
                if neighbour.link.in_flight() > 0 && quiet >= RESEND {
                    neighbour.link.rewind();
                    neighbour.quiet_since = now;
                }
            }
        }
        self.send();
        Ok(())
    }

    fn is_cut(&self, a: &'static str, b: &'static str) -> bool {
        let until = self.broken.get(&(a, b)).or(self.broken.get(&(b, a)));
        until.is_some_and(|until| self.now < *until)
    }

    /// Everything that the links let go.
    fn send(&mut self) {
        let mut packets = Vec::new();
        for (from, server) in &mut self.servers {
            for (to, neighbour) in server.links.iter_mut().filter(|(_, n)| n.up) {
                let to = self.terms.wiring.servers().iter().find(|sid| *sid == to);
                while let Some(numbered) = neighbour.link.take(self.now) {
                    let frame = Some((numbered.number, numbered.frame));
                    packets.extend(to.map(|to| (*from, *to, packet(neighbour, frame))));
                }
            }
        }
        for (from, to, packet) in packets {
            self.post(from, to, packet);
        }
    }

    fn post(&mut self, from: &'static str, to: &'static str, packet: Packet) {
        if self.is_cut(from, to) {
            return;
        }
        self.report.frames += u64::from(packet.frame.is_some());
        let copies = 1 + u64::from(self.rng.permille(self.terms.doubled));
        for _ in 0..copies {
            let after = self.rng.duration(self.terms.delay);
            if !self.rng.permille(self.terms.lost) {
                let packet = packet.clone();
                self.later(after, Event::Packet { from, to, packet });
            }
        }
    }

    fn arrive(
        &mut self,
        from: &'static str,
        to: &'static str,
        packet: Packet,
    ) -> Result<(), String> {
        let now = self.now;
        let Some(server) = self.servers.get_mut(to) else {
            return Ok(());
        };
        let Some(neighbour) = server.links.get_mut(from) else {
            return Ok(());
        };
        if let Some(had) = packet.had {
            let before = neighbour.link.oldest();
            neighbour.link.acknowledged(had);
            if neighbour.link.oldest() != before {
                neighbour.quiet_since = now;
            }
        }
        let Some((number, frame)) = packet.frame else {
            return Ok(());
        };
        let numbered = Numbered { number, frame };
        let frames = neighbour.link.receive(packet.boot, packet.oldest, numbered);
        let acknowledge = self::packet(neighbour, None);
        for text in frames {
            self.witness(to, &text)?;
            if let Some(server) = self.servers.get_mut(to) {
                self.report.shown += server.frame(from, &text, now)?;
            }
        }
        self.post(to, from, acknowledge);
        Ok(())
    }

    /// What must hold of anything that reaches a server, whether it is let in or not.
    fn witness(&mut self, at: &'static str, text: &[u8]) -> Result<(), String> {
        let value: serde_json::Value = serde_json::from_slice(text).map_err(|e| e.to_string())?;
        let cid = value.pointer("/data/cid").and_then(|cid| cid.as_str());
        let cid = cid.unwrap_or_default();
        let shares = self.ever.get(cid).is_some_and(|sids| sids.contains(at));
        if !shares {
            return Err(format!("{at} is no member of {cid}: {value}"));
        }
        let path = value.get("path").and_then(|path| path.as_array());
        let path = path.map_or(0, Vec::len);
        if path > control::cascade::PATH_MAX {
            return Err(format!("{at}: {path} servers: {value}"));
        }
        Ok(())
    }

    /// Everything is where it belongs.
    fn well(&self) -> Result<(), String> {
        for (sid, server) in &self.servers {
            for (cid, decided) in &server.decided {
                for member in &decided.members {
                    let at = self.servers.get(member.as_str());
                    let at = at.ok_or("no such server")?;
                    let is_linked = self.reaches(sid, member, &decided.members);
                    if !is_linked {
                        continue;
                    }
                    let shown = at.shown.get(cid).map(|shown| &shown.parts);
                    let shown = shown.cloned().unwrap_or_default();
                    if shown != decided.parts {
                        return Err(format!(
                            "{cid} at {member}: {shown:?}, not {:?}",
                            decided.parts
                        ));
                    }
                    if !at.cascade.home_there(cid) {
                        return Err(format!("{cid} at {member}: frozen"));
                    }
                }
            }
        }
        let mut open = self.wanted.clone();
        for server in self.servers.values() {
            open.retain(|envelope| !server.answered.contains(envelope));
        }
        // Who was made to leave with a command under way has no answer to expect.
        open.retain(|envelope| {
            let waiting = self
                .servers
                .values()
                .any(|s| s.again.contains_key(envelope));
            !waiting
        });
        if open.is_empty() {
            Ok(())
        } else {
            Err(format!("never answered: {open:?}"))
        }
    }

    /// Whether members lead from a home to one of them.
    fn reaches(&self, home: &str, member: &str, members: &BTreeSet<String>) -> bool {
        let links = self.terms.wiring.links();
        let linked = |a: &str, b: &str| links.contains_any(a, b);
        if linked(home, member) {
            return true;
        }
        members
            .iter()
            .any(|way| linked(home, way) && linked(way, member))
    }
}

trait Links {
    fn contains_any(&self, a: &str, b: &str) -> bool;
}

impl Links for [(&str, &str)] {
    fn contains_any(&self, a: &str, b: &str) -> bool {
        self.iter().any(|link| *link == (a, b) || *link == (b, a))
    }
}

fn packet(neighbour: &super::server::Neighbour, frame: Option<(u64, Bytes)>) -> Packet {
    Packet {
        boot: neighbour.link.boot(),
        oldest: neighbour.link.oldest(),
        had: neighbour.link.heard(),
        frame,
    }
}

fn neighbours(wiring: Wiring, sid: &str) -> Vec<&'static str> {
    let links = wiring.links().iter();
    links
        .filter_map(|(a, b)| match (*a == sid, *b == sid) {
            (true, _) => Some(*b),
            (_, true) => Some(*a),
            _ => None,
        })
        .collect()
}
