//! Random life at a random site: calls, changes, accidents, strangers. What must hold after each
//! event is checked by the edge and the oracle; what must hold at rest is checked here.

mod deed;
mod restart;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use control::engine::admin::Command;

use super::NodeId;
use super::phone::State;
use super::plan::{MEDIA_TIMEOUT, Resident, Site};

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
    /// Call-IDs of which a restart may have forgotten something.
    forgotten: BTreeSet<String>,
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
        forgotten: BTreeSet::new(),
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
            0..28 => self.dial(),
            28..30 => self.restart(),
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
            let honest = phone.id.points_at.is_none();
            let known = !self.forgotten.contains(&phone.call(call).call_id);
            suits && honest && known && !r.gone && call >= r.mute
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
        let ends: Vec<u32> = before
            .iter()
            .map(|h| self.stream(h.from, h.line).sent)
            .collect();
        self.run(Duration::from_secs(1));
        for (heard, end) in before.iter().zip(ends) {
            let same = |h: &&Heard| (h.from, h.to, h.line) == (heard.from, heard.to, heard.line);
            if !after.iter().any(|h| same(&h)) {
                continue;
            }
            let ssrc = self.stream(heard.from, heard.line).ssrc;
            let received = &self.stream(heard.to, heard.line).received;
            let missing = self
                .stream(heard.to, heard.line)
                .missing(ssrc, heard.start, end);
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
        edge.calls(self.site.sim.now())
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
        let here: Vec<Resident> = self
            .site
            .residents
            .iter()
            .filter(|r| !r.gone)
            .cloned()
            .collect();
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
            let known = |c: &&super::phone::Call| !self.forgotten.contains(&c.call_id);
            let mut calls = phone.calls.iter().filter(known);
            let over = calls.all(|c| c.state == State::Over);
            let whole = phone.calls.iter().all(|c| known(&c));
            let calm = !self.site.lossy && !self.robbed;
            assert!(over || !calm, "{resident:?} has calls\n{}", story());
            let open = phone.open_invites();
            assert!(
                open == 0 || !calm || !whole,
                "{resident:?}: {open} INVITEs are open\n{}",
                story()
            );
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
                !gone
                    && phone
                        .calls
                        .iter()
                        .any(|c| c.call_id == call.call_id && c.state == State::Up)
            });
            let live = live && !self.forgotten.contains(&call.call_id);
            assert!(!live, "a call is up\n{}", self.site.sim.story());
            let parties = self
                .site
                .sim
                .phones()
                .filter(|(_, phone)| phone.calls.iter().any(|c| c.call_id == call.call_id));
            let gone = |id| {
                self.site
                    .residents
                    .iter()
                    .any(|r| r.node == id && (r.gone || !r.steady))
            };
            let excused = parties.map(|(id, _)| id).any(gone);
            let excused = excused || self.site.lossy || self.robbed;
            let excused = excused || self.forgotten.contains(&call.call_id);
            assert!(
                excused,
                "nobody is left of {call:#?}\n{}",
                self.site.sim.story()
            );
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
        let counters = edge.counters();
        let counted = counted.map(|(name, (what, which))| (name, counters.get(what, which)));
        let strays = sim.oracle.as_ref().map_or(0, |oracle| oracle.strays);
        let answered = edge.records.iter().filter(|r| r.status == 200).count();
        self.report.digest = sim.digest();
        self.report.count("calls answered", answered as u64);
        if strays > 0 {
            self.report.count("media of a neighbour's old call", strays);
        }
        for (name, times) in counted {
            self.report.count(name, times);
        }
        self.report
    }
}
