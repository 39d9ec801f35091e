//! A hostile host sprays every media port before, during and after a call.

use std::thread;
use std::time::Duration;

use towpath_tests::attacker::{Spray, spray};
use towpath_tests::http;
use towpath_tests::lab::{Parts, Role, plan};

use super::stage::{LIMIT, Mode, Stage, assert_whole};

fn nothing_in_nothing_out(mode: Mode) {
    let parts = Parts {
        nat: true,
        c3: true,
        attacker: true,
        ..Parts::default()
    };
    let stage = Stage::raise(mode, &parts);
    let (c1, c3) = (stage.phone(Role::C1, "1001"), stage.phone(Role::C3, "1003"));
    let attacker = stage.lab.namespace(Role::Attacker).unwrap();
    let (first, last) = super::stage::WAN.ports;
    let how = Spray {
        target: plan::EDGE_WAN.parse().unwrap(),
        ports: (first, last),
        rounds_per_second: 20,
        time: Duration::from_secs(5),
        ssrc: 0x6666,
    };
    let (loot, strangers) = thread::scope(|scope| {
        let attack = scope.spawn(|| spray(attacker, how).unwrap());
        // Ports open while the attack is on, and the phone behind the NAT has not spoken yet.
        let dialog = c3.call(&c1).unwrap();
        let call = super::stage::Between {
            caller: &c3,
            callee: &c1,
            dialog,
        };
        let talk = call.talk();
        stage.settled(&call, mode.path());
        talk.hear(500, LIMIT).unwrap();
        let [to_c1, to_c3] = talk.finish().unwrap();
        // Before the phone behind the NAT was found nothing could reach it.
        assert_eq!(
            (to_c1.foreign, to_c3.foreign),
            (0, 0),
            "{to_c1:?} {to_c3:?}"
        );
        let talk = call.talk();
        talk.hear(250, LIMIT).unwrap();
        assert_whole(&talk.finish().unwrap());
        let flows = stage.flows(&call);
        let strangers: u64 = flows.iter().map(|f| f.strangers + f.strangers_xdp).sum();
        call.hang_up();
        (attack.join().unwrap(), strangers)
    });
    eprintln!(
        "sprayed {}, {strangers} strangers counted, {} came back",
        loot.sent, loot.received
    );
    assert!(loot.sent > 10_000, "{loot:?}");
    assert_eq!(loot.received, 0, "{loot:?}");
    assert!(strangers > 10, "{strangers}");
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

#[test]
fn an_attacker_gets_nothing_in_and_nothing_out_of_the_kernel_path() {
    nothing_in_nothing_out(Mode::Xdp);
}

#[test]
fn an_attacker_gets_nothing_in_and_nothing_out_of_userspace() {
    nothing_in_nothing_out(Mode::Userspace);
}
