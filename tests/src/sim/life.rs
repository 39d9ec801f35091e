//! Random life at a random site: calls, changes, accidents, strangers. What must hold after each
//! event is checked by the edge and the oracle; what must hold at rest is checked here.

use std::collections::BTreeMap;
use std::time::Duration;

use control::engine::admin::Command;

use super::phone::{By, Dial, Offer, State};
use super::plan::{MEDIA_TIMEOUT, Resident, Site, weather};
use super::sdp::{Direction, Kind};
use super::{NodeId, Packet};

/// Longer than timer C, a CANCEL and the patience after it.
const REST: Duration = Duration::from_secs(330);
/// Calls a phone takes part in at a time.
const CALLS_MAX: usize = 2;
/// How often a run looks whether everybody hears everybody.
const TALKS_MAX: u64 = 2;

/// What happened in a run, by name: a sweep in which something never happens proves nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    pub digest: u64,
    pub seen: BTreeMap<&'static str, u64>,
}

impl Report {
    pub fn count(&mut self, what: &'static str, times: u64) {
        *self.seen.entry(what).or_default() += times;
    }

    /// Adds up what several runs saw.
    pub fn add(&mut self, other: &Self) {
        for (what, times) in &other.seen {
            self.count(what, *times);
        }
    }
}

/// One direction of a stream that must flow.
struct Heard {
    from: (NodeId, usize),
    to: (NodeId, usize),
    line: usize,
    start: u32,
    misplaced: u32,
}

struct Life {
    site: Site,
    report: Report,
    /// A thief takes packets.
    robbed: bool,
    talks: u64,
}

/// Lives the life of a seed.
///
/// # Panics
/// If something does not hold; the message has the story.
#[must_use]
pub fn live(seed: u64) -> Report {
    let mut life = Life {
        site: Site::new(seed),
        report: Report::default(),
        robbed: false,
        talks: 0,
    };
    life.register();
    for _ in 0..8 + life.site.chance.below(32) {
        life.act();
        let pause = life.site.chance.below(2000);
        life.run(Duration::from_millis(pause));
        if life.site.chance.permille(250) {
            life.talk();
        }
    }
    life.end();
    life.sum_up()
}

impl Life {
    fn run(&mut self, time: Duration) {
        self.site.sim.run_for(time);
    }

    fn register(&mut self) {
        let phones: Vec<Resident> = self.site.residents.clone();
        for phone in &phones {
            if phone.user != "mcu" {
                let sim = &mut self.site.sim;
                sim.act(phone.node, |p, now, out| p.register(3600, now, out));
            }
        }
        self.run(Duration::from_secs(3));
        for phone in phones.iter().filter(|p| p.user != "mcu") {
            let status = self.site.sim.phone(phone.node).registered;
            let good = status == 200 || self.site.lossy;
            assert!(good, "{phone:?}: {status}\n{}", self.site.sim.story());
        }
    }

    fn act(&mut self) {
        match self.site.chance.below(100) {
            0..30 => self.dial(),
            30..39 => self.hang_up(),
            39..43 => self.cancel(),
            43..60 => self.offer(),
            60..64 => self.glare(),
            64..67 => self.talk_aside(),
            67..71 => self.rebind(),
            71..73 => self.vanish(),
            73..77 => self.relocate(),
            77..83 => self.spray(),
            83..86 => self.kill(),
            86..88 => self.drop_registration(),
            88..91 => self.weather(),
            91..94 => self.rob(),
            94..96 => self.block_ports(),
            96..97 => self.wait(),
            97..99 => self.reload(),
            _ => self.reregister(),
        }
    }

    fn anyone(&mut self) -> Option<Resident> {
        let here: Vec<usize> = (0..self.site.residents.len())
            .filter(|i| self.site.residents.get(*i).is_some_and(|r| !r.gone))
            .collect();
        if here.is_empty() {
            return None;
        }
        let index = self.site.chance.pick(&here);
        self.site.residents.get(index).cloned()
    }

    /// A call of somebody in a state.
    fn any_call(&mut self, is: impl Fn(State) -> bool) -> Option<(NodeId, usize)> {
        let residents = self.site.residents.iter().filter(|r| !r.gone);
        let sim = &self.site.sim;
        let calls = residents.flat_map(|r| {
            let calls = sim.phone(r.node).calls.iter().enumerate();
            let fit = calls.filter(|(_, c)| is(c.state));
            fit.map(|(index, _)| (r.node, index)).collect::<Vec<_>>()
        });
        let calls: Vec<_> = calls.collect();
        (!calls.is_empty()).then(|| self.site.chance.pick(&calls))
    }

    fn dial(&mut self) {
        let (Some(who), Some(whom)) = (self.anyone(), self.anyone()) else {
            return;
        };
        let busy = |node: NodeId| {
            let calls = &self.site.sim.phone(node).calls;
            calls.iter().filter(|c| c.state != State::Over).count() >= CALLS_MAX
        };
        if who.user == whom.user || busy(who.node) || busy(whom.node) {
            return;
        }
        let user = match self.site.chance.below(20) {
            0 => "1999".to_owned(),
            _ if whom.user == "mcu" => "8123".to_owned(),
            _ => whom.user,
        };
        let dial = Dial {
            user,
            delayed: self.site.chance.permille(200),
            ..Dial::default()
        };
        self.report.count("dialled", 1);
        let sim = &mut self.site.sim;
        sim.act(who.node, |p, now, out| p.dial_as(&dial, now, out));
    }

    fn hang_up(&mut self) {
        if let Some((who, call)) = self.any_call(|s| s != State::Over) {
            let sim = &mut self.site.sim;
            sim.act(who, |p, now, out| p.hang_up(call, now, out));
        }
    }

    fn cancel(&mut self) {
        if let Some((who, call)) = self.any_call(|s| s == State::Calling) {
            self.report.count("cancelled", 1);
            let sim = &mut self.site.sim;
            sim.act(who, |p, now, out| p.cancel(call, now, out));
        }
    }

    fn random_offer(&mut self) -> Offer {
        let chance = &mut self.site.chance;
        let directions = [
            Direction::SendRecv,
            Direction::SendRecv,
            Direction::SendOnly,
            Direction::RecvOnly,
            Direction::Inactive,
        ];
        let direction = chance.permille(600).then(|| {
            let zero = chance.permille(250);
            (chance.pick(&directions), zero)
        });
        let line = usize::try_from(chance.below(5)).unwrap_or(0);
        Offer {
            direction,
            switch: chance.permille(300).then_some(line),
            adds: chance
                .permille(150)
                .then(|| chance.pick(&[Kind::Video, Kind::Floor])),
            moves: chance.permille(300),
            by: chance.pick(&[By::Invite, By::Invite, By::InviteWithout, By::Update]),
        }
    }

    fn offer(&mut self) {
        if let Some((who, call)) = self.any_call(|s| s == State::Up) {
            self.offer_from(who, call);
        }
    }

    fn offer_from(&mut self, who: NodeId, call: usize) {
        if !self.site.sim.phone(who).may_offer(call) {
            return;
        }
        let offer = self.random_offer();
        let what = match offer.by {
            By::Invite => "re-INVITE",
            By::InviteWithout => "re-INVITE without SDP",
            By::Update => "UPDATE",
        };
        self.report.count(what, 1);
        self.report.count("moved media", u64::from(offer.moves));
        let sim = &mut self.site.sim;
        sim.act(who, |p, now, out| p.offer(call, &offer, now, out));
    }

    /// Both sides at once.
    fn glare(&mut self) {
        let Some((who, call)) = self.any_call(|s| s == State::Up) else {
            return;
        };
        let other = self.other_side(who, call);
        self.offer_from(who, call);
        if let Some((other, call)) = other {
            self.report.count("both offer", 1);
            self.offer_from(other, call);
        }
    }

    fn talk_aside(&mut self) {
        if let Some((who, call)) = self.any_call(|s| s == State::Up) {
            let sim = &mut self.site.sim;
            sim.act(who, |p, now, out| {
                p.request(call, "INFO", b"", Some(("text/plain", b"hello")), now, out);
            });
        }
    }

    fn rebind(&mut self) {
        if self.site.routers.is_empty() {
            return;
        }
        self.report.count("rebound", 1);
        let router = self.site.chance.pick(&self.site.routers);
        self.site.sim.nat(router).rebind();
        // Whoever was behind it may miss a message meanwhile.
        for resident in self.site.residents.iter_mut().filter(|r| !r.direct) {
            resident.steady = false;
            resident.mute = self.site.sim.phone(resident.node).calls.len();
        }
    }

    fn vanish(&mut self) {
        let Some(who) = self.anyone() else { return };
        self.report.count("vanished", 1);
        let sim = &mut self.site.sim;
        sim.act(who.node, |p, now, _| p.vanish(now));
        self.mark(who.node, |r| r.gone = true);
    }

    /// Another address: its calls hear of it, or do not.
    fn relocate(&mut self) {
        let Some(who) = self.anyone() else { return };
        let Some(spare) = who.spare else { return };
        self.report.count("relocated", 1);
        self.site.sim.move_phone(who.node, spare);
        let calls = self.site.sim.phone(who.node).calls.len();
        self.mark(who.node, |r| {
            r.spare = None;
            r.steady = false;
            r.mute = calls;
        });
        let sim = &mut self.site.sim;
        sim.act(who.node, |p, now, out| p.register(3600, now, out));
        if self.site.chance.permille(700) {
            self.run(Duration::from_millis(300));
            for call in 0..calls {
                let phone = self.site.sim.phone(who.node);
                if phone.call(call).state == State::Up && phone.may_offer(call) {
                    let offer = Offer::default();
                    let sim = &mut self.site.sim;
                    sim.act(who.node, |p, now, out| p.offer(call, &offer, now, out));
                }
            }
        }
    }

    fn mark(&mut self, node: NodeId, change: impl Fn(&mut Resident)) {
        for resident in &mut self.site.residents {
            if resident.node == node {
                change(resident);
            }
        }
    }

    /// A stranger tries every port there is, or stops.
    fn spray(&mut self) {
        if self.site.strangers.is_empty() {
            return;
        }
        let (stranger, towards) = self.site.chance.pick(&self.site.strangers);
        if self.site.chance.permille(300) {
            return self.site.sim.stranger(stranger).stop();
        }
        self.report.count("sprayed", 1);
        let ssrc = match self.any_call(|s| s != State::Over) {
            Some((who, call)) if self.site.chance.permille(600) => {
                self.site.sim.phone(who).call(call).rtp.ssrc
            }
            _ => super::stranger::SSRC,
        };
        let open: Vec<u16> = {
            let edge = self.site.sim.edge(self.site.edge);
            edge.sockets().keys().map(std::net::SocketAddr::port).collect()
        };
        let first = match open.is_empty() {
            true => 20_000,
            false => self.site.chance.pick(&open) & !7,
        };
        let now = self.site.sim.now();
        let every = Duration::from_millis(50 + self.site.chance.below(400));
        let at = std::net::SocketAddr::new(towards, 0);
        let ports = first..=first.saturating_add(15);
        let stranger = self.site.sim.stranger(stranger);
        stranger.spray(at, ports, every, ssrc, now);
    }

    fn kill(&mut self) {
        let (edge, now) = (self.site.edge, self.site.sim.now());
        let calls = self.site.sim.edge(edge).engine.calls(now);
        let ids: Vec<u64> = calls.iter().map(|c| c.id).collect();
        if ids.is_empty() {
            return;
        }
        self.report.count("killed", 1);
        let order = Command::HangUp {
            call: self.site.chance.pick(&ids),
        };
        let sim = &mut self.site.sim;
        sim.order(edge, |e, now, out| e.command(order, now, out));
    }

    fn drop_registration(&mut self) {
        let Some(who) = self.anyone() else { return };
        let aor = format!("{}@example.com", who.user);
        let (sim, edge) = (&mut self.site.sim, self.site.edge);
        let order = Command::DropRegistration { aor };
        sim.order(edge, |e, now, out| e.command(order, now, out));
    }

    fn reregister(&mut self) {
        let Some(who) = self.anyone() else { return };
        if who.user != "mcu" {
            let expires = self.site.chance.pick(&[0, 3600, 3600, 3600, 3600, 3600]);
            let sim = &mut self.site.sim;
            sim.act(who.node, |p, now, out| p.register(expires, now, out));
        }
    }

    fn weather(&mut self) {
        if self.site.lossy {
            let net = self.site.chance.pick(&self.site.links);
            let link = weather(&mut self.site.chance, true);
            self.site.sim.set_link(net, link);
        }
    }

    /// The next few messages of a kind are lost.
    fn rob(&mut self) {
        let first = self.site.chance.pick(&["ACK ", "BYE ", "CANCEL ", "SIP/2.0 200", "INVITE "]);
        let mut left = 1 + self.site.chance.below(6);
        self.report.count("robbed", 1);
        self.robbed = true;
        self.site.sim.steal(move |packet: &Packet| {
            let takes = left > 0 && packet.is_sip() && packet.bytes.starts_with(first.as_bytes());
            left -= u64::from(takes);
            takes
        });
    }

    /// Some ports cannot be opened from now on, or all can.
    fn block_ports(&mut self) {
        let mut blocked = std::collections::BTreeSet::new();
        for network in &self.site.networks {
            for port in network.ports.0..=network.ports.1 {
                if self.site.chance.permille(30) {
                    blocked.insert(std::net::SocketAddr::new(network.address, port));
                }
            }
        }
        if self.site.chance.permille(500) {
            blocked.clear();
        }
        self.site.sim.edge_mut(self.site.edge).unbindable = blocked;
    }

    fn reload(&mut self) {
        let what = self.site.reload();
        self.report.count(what, 1);
    }

    fn wait(&mut self) {
        let time = Duration::from_secs(5 + self.site.chance.below(35));
        self.run(time);
    }

    fn other_side(&self, who: NodeId, call: usize) -> Option<(NodeId, usize)> {
        let mine = self.site.sim.phone(who).call(call);
        let mut phones = self.site.sim.phones();
        phones.find_map(|(id, phone)| {
            let fits = |c: &super::phone::Call| {
                let same = c.call_id == mine.call_id && c.outgoing != mine.outgoing;
                same && c.state == State::Up
            };
            phone.calls.iter().position(fits).map(|call| (id, call))
        })
    }

    /// Whether media must reach this phone: its network's mode suits it, and nothing happened that
    /// takes signalling to mend.
    fn hears(&self, node: NodeId, call: usize) -> bool {
        let resident = self.site.residents.iter().find(|r| r.node == node);
        let phone = self.site.sim.phone(node);
        resident.is_some_and(|r| {
            let mode = self.site.network_of(r).map(|n| n.media);
            let suits = match mode {
                Some("sdp") => r.direct && phone.id.claims.is_none(),
                Some("symmetric") => phone.id.media.is_none(),
                Some(_) => true,
                None => false,
            };
            suits && !r.gone && call >= r.mute
        })
    }

    /// Both directions of every stream that must flow now.
    fn streams(&self) -> Vec<Heard> {
        let mut heard = Vec::new();
        for (a, phone) in self.site.sim.phones() {
            for (index, call) in phone.calls.iter().enumerate() {
                let up = call.state == State::Up && call.outgoing;
                let Some((b, other)) = self.other_side(a, index).filter(|_| up) else {
                    continue;
                };
                let settled = phone.is_settled(index);
                let settled = settled && self.site.sim.phone(b).is_settled(other);
                if !settled || !self.hears(a, index) || !self.hears(b, other) {
                    continue;
                }
                let theirs = self.site.sim.phone(b).call(other);
                for (line, (one, two)) in call.streams().zip(theirs.streams()).enumerate() {
                    if one.sending && two.sending {
                        let (x, y) = ((a, index), (b, other));
                        let ways = [(x, y, one, two), (y, x, two, one)];
                        heard.extend(ways.map(|(from, to, sender, receiver)| Heard {
                            from,
                            to,
                            line,
                            start: sender.sent,
                            misplaced: receiver.received.misplaced,
                        }));
                    }
                }
            }
        }
        heard
    }

    /// In calm weather everybody hears everybody, from where SDP said.
    fn talk(&mut self) {
        if self.site.lossy || self.robbed || self.talks >= TALKS_MAX {
            return;
        }
        if self.streams().is_empty() {
            return;
        }
        self.talks += 1;
        // Latches may have to learn; a port that was given up is silent for two seconds first.
        self.run(Duration::from_secs(5));
        let before = self.streams();
        self.run(Duration::from_millis(1500));
        let after = self.streams();
        let ends: Vec<u32> = before.iter().map(|h| self.stream(h.from, h.line).sent).collect();
        self.run(Duration::from_secs(1));
        for (heard, end) in before.iter().zip(ends) {
            let same = |h: &&Heard| (h.from, h.to, h.line) == (heard.from, heard.to, heard.line);
            if !after.iter().any(|h| same(&h)) {
                continue;
            }
            let ssrc = self.stream(heard.from, heard.line).ssrc;
            let received = &self.stream(heard.to, heard.line).received;
            let missing = self.stream(heard.to, heard.line).missing(ssrc, heard.start, end);
            let misplaced = received.misplaced - heard.misplaced;
            let (from, to, line) = (heard.from, heard.to, heard.line);
            assert!(
                missing == 0 && misplaced == 0 && end > heard.start,
                "line {line} from {from:?} to {to:?}: of {}..{end} {missing} are missing, \
                 {misplaced} came from elsewhere\n{:#?}\n{}",
                heard.start,
                self.views(),
                self.site.sim.story()
            );
            self.report.count("streams heard", 1);
        }
    }

    fn views(&self) -> Vec<control::engine::admin::CallView> {
        let edge = self.site.sim.edge(self.site.edge);
        edge.engine.calls(self.site.sim.now())
    }

    fn stream(&self, (node, call): (NodeId, usize), line: usize) -> &super::rtp::Rtp {
        let call = self.site.sim.phone(node).call(call);
        call.streams().nth(line).expect("a line of the call")
    }

    /// Everybody hangs up; nothing is left.
    fn end(&mut self) {
        for (stranger, _) in self.site.strangers.clone() {
            self.site.sim.stranger(stranger).stop();
        }
        let here: Vec<Resident> = self.site.residents.iter().filter(|r| !r.gone).cloned().collect();
        for resident in &here {
            for call in 0..self.site.sim.phone(resident.node).calls.len() {
                let sim = &mut self.site.sim;
                sim.act(resident.node, |p, now, out| p.hang_up(call, now, out));
            }
            self.site.sim.phone_mut(resident.node).rest();
        }
        self.run(REST + MEDIA_TIMEOUT);
        self.orphans();
        let story = || self.site.sim.story();
        for resident in here.iter().filter(|r| r.steady) {
            let phone = self.site.sim.phone(resident.node);
            let over = phone.calls.iter().all(|c| c.state == State::Over);
            let calm = !self.site.lossy && !self.robbed;
            assert!(over || !calm, "{resident:?} has calls\n{}", story());
            let open = phone.open_invites();
            assert!(open == 0 || !calm, "{resident:?}: {open} INVITEs are open\n{}", story());
        }
        let edge = self.site.sim.edge(self.site.edge);
        if let Err(what) = edge.check_empty(self.site.sim.now()) {
            unreachable!("{what}\n{}", story());
        }
    }

    /// Calls whose parties are all gone, and on hold: silence is no failure there, so nobody but
    /// the administrator ends them.
    fn orphans(&mut self) {
        let left = self.views();
        for call in &left {
            let live = self.site.sim.phones().any(|(id, phone)| {
                let gone = self.site.residents.iter().any(|r| r.node == id && r.gone);
                !gone && phone.calls.iter().any(|c| c.call_id == call.call_id && c.state == State::Up)
            });
            assert!(!live, "a call is up\n{}", self.site.sim.story());
            let parties = self.site.sim.phones().filter(|(_, phone)| {
                phone.calls.iter().any(|c| c.call_id == call.call_id)
            });
            let gone = |id| self.site.residents.iter().any(|r| r.node == id && (r.gone || !r.steady));
            let excused = parties.map(|(id, _)| id).any(gone);
            let excused = excused || self.site.lossy || self.robbed;
            assert!(excused, "nobody is left of {call:#?}\n{}", self.site.sim.story());
        }
        self.report.count("orphaned calls", left.len() as u64);
        let (sim, edge) = (&mut self.site.sim, self.site.edge);
        for call in left {
            let order = Command::HangUp { call: call.id };
            sim.order(edge, |e, now, out| e.command(order, now, out));
        }
        sim.run_for(Duration::from_secs(70));
    }

    fn sum_up(mut self) -> Report {
        let sim = &self.site.sim;
        let edge = sim.edge(self.site.edge);
        let counted = [
            ("no ports", ("sdp_refused", "no_ports")),
            ("glare", ("sip_refused", "glare")),
            ("media timeouts", ("call_ended", "media_timeout")),
            ("blocked ports", ("media_socket", "open_failed")),
            ("registrations moved", ("sip_registration", "moved")),
            ("next target", ("call_setup", "next_target")),
        ];
        let counters = edge.engine.counters();
        let counted = counted.map(|(name, (what, which))| (name, counters.get(what, which)));
        let strays = sim.oracle.as_ref().map_or(0, |oracle| oracle.strays);
        let answered = edge.records.iter().filter(|r| r.status == 200).count();
        self.report.digest = sim.digest();
        self.report.count("calls answered", answered as u64);
        self.report.count("media of a neighbour's old call", strays);
        for (name, times) in counted {
            self.report.count(name, times);
        }
        self.report
    }
}
