//! The demonstration: real phones call each other and a conference peer through a running
//! daemon, and the receivers prove what arrived.

pub mod config;
pub mod progress;
pub mod summary;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use crate::calls::{Call, Flow};
use crate::clock;
use crate::lab::{Lab, Parts, Role, plan};
use crate::observer::{Observed, Observer};
use crate::packet::Direction;
use crate::phone::{Codec, Phone, Settings};
use crate::process::{self, Towpath};
use progress::Progress;
use summary::{Heard, Leg, Packets, Summary};

/// How long a phone may take to register, to be answered, to hear the first packet.
const STEP_LIMIT: Duration = Duration::from_secs(15);

/// How long after the answer the kernel may take to have every stream.
const LATCH_LIMIT: Duration = Duration::from_secs(8);

/// How often the calls are shown.
const SHOW_EVERY: Duration = Duration::from_secs(1);

/// The part of a recording, at its end, in which the tone must be.
const TONE_TIME: Duration = Duration::from_secs(3);

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The daemon's binary.
    pub towpath: PathBuf,
    /// The kernel object; none is the one in the binary.
    pub object: Option<PathBuf>,
    /// How long each call lasts after every stream is in the kernel.
    pub time: Duration,
}

/// Who takes part, the user it is, and the tone it plays.
const CAST: [(Role, &str, u32); 4] = [
    (Role::C1, "1001", 440),
    (Role::C2, "1002", 620),
    (Role::C3, "1003", 520),
    (Role::Mcu, "9000", 740),
];

/// The calls: those of one round stand at the same time.
const ROUNDS: [&[(Role, Role)]; 2] = [
    &[(Role::C3, Role::C1)], // LAN to a phone behind the NAT
    &[(Role::C1, Role::C2), (Role::C3, Role::Mcu)], // hairpin behind one NAT; conference peer
];

/// The demonstration on its stage. Everything goes on drop.
#[derive(Debug)]
pub struct Demo {
    // Phones and the daemon end before the lab they live in.
    actors: BTreeMap<Role, Actor>,
    towpath: Towpath,
    lab: Lab,
    time: Duration,
}

#[derive(Debug)]
struct Actor {
    user: &'static str,
    tone_hz: u32,
    phone: Phone,
    observer: Observer,
}

/// A call that stands.
struct Standing {
    caller: Role,
    callee: Role,
    setup: Duration,
    /// Streams that were observed before it began.
    earlier: BTreeSet<u32>,
    /// Its flows at the moment every stream was in the kernel.
    latched: Vec<Flow>,
}

impl Demo {
    /// Raises the lab, starts the daemon and registers the phones. `stop` ends it early.
    ///
    /// # Errors
    /// Whatever does not come up, with its log.
    pub fn set_up(options: &Options, progress: &Progress, stop: &dyn Fn() -> bool) -> Result<Self> {
        progress.step("raise the lab: edge, conference peer, LAN phone, two phones behind a NAT");
        let parts = Parts {
            mcu: true,
            c3: true,
            nat: true,
            ..Parts::default()
        };
        let lab = Lab::raise(&parts)?;
        progress.step("start towpath");
        let directory = lab.directory("towpath")?;
        let config = config::towpath_toml(&config::Paths {
            state: lab.directory("state")?,
            pins: lab.bpffs().to_owned(),
            object: options.object.clone(),
        });
        let edge = lab.namespace(Role::Edge)?;
        let towpath = Towpath::start(edge, &options.towpath, &directory, &config)?;
        let time = options.time;
        let mut this = Self {
            actors: BTreeMap::new(),
            towpath,
            lab,
            time,
        };
        for (role, user, tone_hz) in CAST {
            ensure!(!stop(), "interrupted");
            let actor = this.actor(role, user, tone_hz)?;
            this.actors.insert(role, actor);
        }
        for (role, actor) in &this.actors {
            if outbound(*role).is_some() {
                actor.phone.registered(STEP_LIMIT)?;
                progress.step(&format!("{} registered as {}", role.name(), actor.user));
            }
        }
        Ok(this)
    }

    fn actor(&self, role: Role, user: &'static str, tone_hz: u32) -> Result<Actor> {
        let namespace = self.lab.namespace(role)?;
        let outbound = outbound(role).map(|ip| format!("sip:{ip}:5060"));
        let registers = outbound.is_some();
        let domain = if registers {
            config::DOMAIN
        } else {
            plan::ip(plan::MCU_V4)
        };
        let settings = Settings {
            user: user.to_owned(),
            domain: domain.to_owned(),
            outbound,
            password: registers.then(|| config::password(user)),
            auto_answer: role != Role::C3,
            tone_hz,
            video: Some(Codec::Vp8),
            srtp: false,
            ca: None,
        };
        let observer = Observer::start(namespace, "eth0")?;
        let phone = Phone::start(namespace, &self.lab.directory(role.name())?, &settings)?;
        Ok(Actor {
            user,
            tone_hz,
            phone,
            observer,
        })
    }

    /// Places the calls, round by round, and judges them. `stop` ends it early.
    ///
    /// # Errors
    /// A call that does not stand. One that does but fails its proof is in the summary.
    pub fn run(&self, progress: &Progress, stop: &dyn Fn() -> bool) -> Result<Summary> {
        let mut legs = Vec::new();
        for round in ROUNDS {
            let mut standing = Vec::new();
            for (caller, callee) in round {
                standing.push(self.place(*caller, *callee, progress)?);
            }
            self.latch(&mut standing)?;
            self.watch(&standing, progress, stop)?;
            let calls = self.towpath.calls()?;
            for call in &standing {
                legs.extend(self.judge(call, &calls)?);
            }
            for call in &standing {
                self.end(call)?;
            }
            ensure!(!stop(), "interrupted");
        }
        Ok(Summary::new(legs))
    }

    fn place(&self, caller: Role, callee: Role, progress: &Progress) -> Result<Standing> {
        let (from, to) = (self.cast(caller)?, self.cast(callee)?);
        let earlier = |actor: &Actor| actor.observer.streams().into_iter().map(|s| s.ssrc);
        let earlier = earlier(from).chain(earlier(to)).collect();
        for actor in [from, to] {
            actor.phone.forget_events();
        }
        let uri = format!("sip:{}@{}", to.user, config::DOMAIN);
        let setup = from
            .phone
            .call(&uri, STEP_LIMIT)
            .map_err(|e| anyhow!("{e:#}\n{}", self.towpath.tail()))?;
        to.phone.established(STEP_LIMIT)?;
        for actor in [from, to] {
            for stream in ["audio", "video"] {
                actor.phone.media(stream, STEP_LIMIT)?;
            }
        }
        let name = call_name(caller, callee);
        progress.step(&format!("{name}: stands after {} ms", setup.as_millis()));
        Ok(Standing {
            caller,
            callee,
            setup,
            earlier,
            latched: Vec::new(),
        })
    }

    /// Waits until the kernel has every media flow; notes the counters then. If it never has, the
    /// counters are those at the limit and the summary will say so.
    fn latch(&self, standing: &mut [Standing]) -> Result<()> {
        let deadline = clock::now() + LATCH_LIMIT;
        let all_in_kernel = || -> Result<Option<Vec<Call>>> {
            let calls = self.towpath.calls()?;
            let done = standing.iter().all(|s| {
                let flows = self.flows(s, &calls);
                !flows.is_empty() && flows.iter().all(|f| f.path == "xdp")
            });
            Ok((done || clock::now() >= deadline).then_some(calls))
        };
        let limit = LATCH_LIMIT + SHOW_EVERY;
        let calls = clock::until("media flows in the kernel", limit, all_in_kernel)?;
        let latched: Vec<_> = standing.iter().map(|s| self.flows(s, &calls)).collect();
        for (call, latched) in std::iter::zip(standing, latched) {
            call.latched = latched;
        }
        Ok(())
    }

    fn watch(
        &self,
        standing: &[Standing],
        progress: &Progress,
        stop: &dyn Fn() -> bool,
    ) -> Result<()> {
        let end = clock::now() + self.time;
        while clock::now() < end && !stop() {
            clock::wait_until(end.min(clock::now() + SHOW_EVERY));
            let calls = self.towpath.calls()?;
            for call in standing {
                let name = call_name(call.caller, call.callee);
                progress.flows(&name, &self.flows(call, &calls));
            }
        }
        Ok(())
    }

    /// The two legs of a call: what each phone received.
    fn judge(&self, call: &Standing, calls: &[Call]) -> Result<[Leg; 2]> {
        let flows = self.flows(call, calls);
        let leg = |phone, other, feeding: &str| -> Result<Leg> {
            let (receiver, sender) = (self.cast(phone)?, self.cast(other)?);
            let heard = receiver.observer.received();
            let new = |s: &&Observed| !call.earlier.contains(&s.ssrc);
            let heard: Vec<_> = heard.iter().filter(new).collect();
            let sent = sender.observer.streams();
            let of = |audio| stream(&heard, &sent, audio);
            Ok(Leg {
                call: call_name(call.caller, call.callee),
                phone: phone.name(),
                setup_ms: u64::try_from(call.setup.as_millis())?,
                total: packets(&flows, feeding),
                after_latch: packets(&flows, feeding) - packets(&call.latched, feeding),
                audio: of(true),
                video: of(false),
                tone_expected_hz: f64::from(sender.tone_hz),
                tone_heard_hz: receiver.phone.received_tone_of_last(TONE_TIME),
            })
        };
        // What arrives from one leg is what the other one gets.
        Ok([
            leg(call.caller, call.callee, "callee")?,
            leg(call.callee, call.caller, "caller")?,
        ])
    }

    fn end(&self, call: &Standing) -> Result<()> {
        self.cast(call.caller)?.phone.hangup()?;
        self.cast(call.callee)?.phone.closed(STEP_LIMIT)?;
        Ok(())
    }

    /// The media flows of a call, found by who talks to whom.
    fn flows(&self, call: &Standing, calls: &[Call]) -> Vec<Flow> {
        let user = |role| self.actors.get(&role).map_or("", |a| a.user);
        let (from, to) = (user(call.caller), user(call.callee));
        let live = calls.iter().filter(|c| c.state == "established");
        let ours = live.filter(|c| is_user(&c.from, from) && is_user(&c.to, to));
        ours.flat_map(|c| c.flows.iter().filter(|f| f.is_media()).cloned())
            .collect()
    }

    fn cast(&self, role: Role) -> Result<&Actor> {
        self.actors
            .get(&role)
            .with_context(|| format!("{role:?} has no phone"))
    }

    /// How to look around, in commands.
    #[must_use]
    pub fn tour(&self) -> String {
        let socket = self.towpath.socket().display();
        let namespaces: String = self
            .lab
            .roles()
            .map(|(_, n)| format!("  ip netns exec {} bash\n", n.name()))
            .collect();
        // Not installed: named by its path.
        let towpath = process::binary().map_or("towpath".into(), |b| b.display().to_string());
        format!(
            "  {towpath} status --socket {socket}\n  {towpath} call list --socket {socket}\n\
             {namespaces}  tail -f {}\n",
            self.towpath.log().display()
        )
    }
}

/// The edge's address a phone registers at; the conference peer registers nowhere.
fn outbound(role: Role) -> Option<&'static str> {
    match role {
        Role::C1 | Role::C2 => Some(plan::EDGE_WAN),
        Role::C3 => Some(plan::EDGE_LAN),
        Role::Mcu
        | Role::Edge
        | Role::Nat1
        | Role::Carrier
        | Role::PortMap
        | Role::Outside
        | Role::Attacker
        | Role::Delay
        | Role::Far
        | Role::Switch => None,
    }
}

fn call_name(caller: Role, callee: Role) -> String {
    format!("{}→{}", caller.name(), callee.name())
}

/// Whether `party` (`1001`, `sip:1001@example.com`) is a user.
fn is_user(party: &str, user: &str) -> bool {
    let party = party.strip_prefix("sip:").unwrap_or(party);
    party.split('@').next() == Some(user)
}

fn packets(flows: &[Flow], leg: &str) -> Packets {
    let of_leg = || flows.iter().filter(|f| f.leg == leg);
    Packets {
        xdp: of_leg().map(|f| f.packets_xdp).sum(),
        user: of_leg().map(|f| f.packets_user).sum(),
    }
}

/// What was heard of the audio or the video: the stream with most packets, as a phone that
/// changes its SSRC within a call would be a fault of its own.
fn stream(heard: &[&Observed], sent: &[Observed], audio: bool) -> Option<Heard> {
    let of_kind = heard.iter().filter(|s| s.is_audio() == audio);
    let best = of_kind.max_by_key(|s| s.judgement.packets)?;
    let same = |s: &&Observed| s.direction == Direction::Out && s.ssrc == best.ssrc;
    Some(Heard {
        sent: sent.iter().find(same).map(|s| s.judgement.packets),
        judgement: best.judgement,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(party: &str, user: &str, expected: bool) {
        assert_eq!(is_user(party, user), expected, "{party} {user}");
    }

    #[test]
    fn parties_are_recognised() {
        check("1001", "1001", true);
        check("sip:1001@example.com", "1001", true);
        check("1001@example.com", "1001", true);
        check("sip:10011@example.com", "1001", false);
        check("", "1001", false);
    }
}
