//! RTP bleed: a hostile host sprays every media port before, during and after the set-up of calls,
//! with RTP and RTCP, as a source of its own and as one of the parties.

use std::sync::atomic::Ordering;
use std::thread;

use towpath_tests::attacker::{ATTACK_MAX, Spray, Watch, What, spray};
use towpath_tests::clock;
use towpath_tests::frame::{Datagram, rtp};
use towpath_tests::http;
use towpath_tests::lab::{Parts, Role, plan};
use towpath_tests::packet::PacketSocket;
use towpath_tests::ua::Ua;

use super::stage::{Between, LIMIT, Mode, Stage, WAN, assert_whole};

/// Packets a second to each of the 200 ports.
const ROUNDS_PER_SECOND: u32 = 40;

/// Packets each way in every phase.
const PHASE: u64 = 250;

/// Rounds before anything else happens, and after.
const ROUNDS_BEFORE: u32 = 8;

/// As whom the attacker sends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Guise {
    Himself,
    /// With the SSRC of the party whose port it is.
    Party,
}

impl Guise {
    fn ssrc(self, party: u32) -> u32 {
        match self {
            Self::Himself => 0x6666_6666,
            Self::Party => party,
        }
    }
}

fn nothing_in_nothing_out(mode: Mode) {
    let parts = Parts {
        nat: true,
        c3: true,
        attacker: true,
        ..Parts::default()
    };
    let stage = Stage::raise(mode, &parts);
    let (c1, c3) = (stage.phone(Role::C1, "1001"), stage.phone(Role::C3, "1003"));
    for guise in [Guise::Himself, Guise::Party] {
        let strangers = from_before_the_call(&stage, guise, [&c3, &c1])
            + from_within_the_call(&stage, guise, [&c1, &c3]);
        assert!(strangers > 10, "{strangers}");
    }
    let metrics = http::text(stage.towpath.socket(), "/metrics").unwrap();
    let counted = |series: &str| -> u64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(series));
        line.map_or(0, |value| value.trim().parse().unwrap())
    };
    let stranger = "what=\"media_unclaimed\",which=\"not_the_signalling_address\"";
    let series = format!("towpath_events_total{{{stranger}}}");
    assert!(counted(&series) > 0, "{metrics}");
    if mode == Mode::Xdp {
        let series = "towpath_xdp_packets_total{reason=\"wrong-source\"}";
        assert!(counted(series) > 10, "{metrics}");
    }
    stage.is_empty();
}

/// Ports open while the attack is on, and the phone behind the NAT has not spoken yet; the attack
/// ends after the call: c1 is the callee. Strangers counted.
fn from_before_the_call(stage: &Stage, guise: Guise, [caller, callee]: [&Ua; 2]) -> u64 {
    under_attack(stage, guise.ssrc(callee.ssrc), || {
        let dialog = caller.call(callee).unwrap();
        let call = Between {
            caller,
            callee,
            dialog,
        };
        let talk = call.talk();
        stage.settled(&call, stage.mode.path());
        talk.hear(PHASE, LIMIT).unwrap();
        // Before the phone behind the NAT was found nothing could reach it.
        for heard in talk.finish().unwrap() {
            let (packets, reports) = (heard.judgement, heard.reports);
            let extra = (packets.duplicates, heard.foreign);
            assert_eq!(extra, (0, 0), "{heard:?}");
            assert_eq!((reports.duplicates, reports.foreign), (0, 0), "{heard:?}");
        }
        is_whole(stage, &call);
        let strangers = strangers(stage, &call);
        call.hang_up();
        strangers
    })
}

/// The attack begins when the call stands: c1 is the caller. Strangers counted.
fn from_within_the_call(stage: &Stage, guise: Guise, [caller, callee]: [&Ua; 2]) -> u64 {
    let call = stage.call(caller, callee, stage.mode.path());
    let strangers = under_attack(stage, guise.ssrc(caller.ssrc), || {
        is_whole(stage, &call);
        strangers(stage, &call)
    });
    call.hang_up();
    strangers
}

fn is_whole(stage: &Stage, call: &Between<'_>) {
    let talk = call.talk();
    talk.hear(PHASE, LIMIT).unwrap();
    assert_whole(&talk.finish().unwrap());
    stage.settled(call, stage.mode.path());
}

fn strangers(stage: &Stage, call: &Between<'_>) -> u64 {
    let flows = stage.all_flows(call);
    flows.iter().map(|f| f.strangers + f.strangers_xdp).sum()
}

/// Does something while every port of the wan is sprayed; nothing of it comes back.
fn under_attack(stage: &Stage, ssrc: u32, body: impl FnOnce() -> u64) -> u64 {
    let attacker = stage.lab.namespace(Role::Attacker).unwrap();
    let how = Spray {
        target: plan::EDGE_WAN.parse().unwrap(),
        ports: WAN.ports,
        rounds_per_second: ROUNDS_PER_SECOND,
        time: ATTACK_MAX,
        ssrc,
        what: What::RtpAndRtcp,
    };
    let watch = Watch::default();
    thread::scope(|scope| {
        let attack = scope.spawn(|| spray(attacker, how, &watch).unwrap());
        // Ended even if the body panics.
        let _end = End(&watch);
        let rounds = |least| {
            clock::until("the attack to go on", LIMIT, || {
                let rounds = watch.rounds.load(Ordering::Relaxed);
                Ok((rounds >= least).then_some(rounds))
            })
        };
        let before = rounds(ROUNDS_BEFORE).unwrap();
        let strangers = body();
        let during = rounds(before + 1).unwrap() - before;
        rounds(before + during + ROUNDS_BEFORE).unwrap();
        watch.stop.store(true, Ordering::Relaxed);
        let loot = attack.join().unwrap();
        eprintln!("{loot:?}, {during} rounds meanwhile, {strangers} strangers");
        assert_eq!(loot.received, 0, "{loot:?}");
        assert!(loot.sent > u64::from(during) * 199, "{loot:?}");
        strangers
    })
}

/// Ends an attack when it goes.
struct End<'w>(&'w Watch);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

#[test]
fn an_attacker_gets_nothing_in_and_nothing_out_of_the_kernel_path() {
    nothing_in_nothing_out(Mode::Xdp);
}

#[test]
fn an_attacker_gets_nothing_in_and_nothing_out_of_userspace() {
    nothing_in_nothing_out(Mode::Userspace);
}

/// A host in the wan that writes a LAN phone's address and port into its packets.
fn played_from_another_network(mode: Mode) {
    let parts = Parts {
        nat: true,
        c3: true,
        attacker: true,
        ..Parts::default()
    };
    let stage = Stage::raise(mode, &parts);
    let (c1, c3) = (stage.phone(Role::C1, "1001"), stage.phone(Role::C3, "1003"));
    let call = stage.call(&c3, &c1, mode.path());
    let edge = stage.lab.namespace(Role::Edge).unwrap();
    let attacker = stage.lab.namespace(Role::Attacker).unwrap();
    let forged = Datagram {
        eth_dst: edge.mac("wan").unwrap(),
        eth_src: attacker.mac("eth0").unwrap(),
        ..Datagram::new(c3.media, call.dialog.caller_sends_to, rtp(1, b"forged"))
    };
    let socket = attacker.enter(|| PacketSocket::open("eth0"));
    let socket = socket.unwrap().unwrap();
    let talk = call.talk();
    for _ in 0..20 {
        socket.send(&forged.build()).unwrap();
        talk.hear(2, LIMIT).unwrap();
    }
    assert_whole(&talk.finish().unwrap());
}

#[test]
fn nobody_plays_a_party_from_another_network_in_the_kernel() {
    played_from_another_network(Mode::Xdp);
}

#[test]
fn nobody_plays_a_party_from_another_network_in_userspace() {
    played_from_another_network(Mode::Userspace);
}
