//! A link beyond us is narrower than ours: whoever sends too much is told, by us.

use towpath_tests::lab::{Parts, Role, plan};
use towpath_tests::rtp::Stream;
use towpath_tests::{clock, http};

use super::stage::{Between, LIMIT, Mode, Stage};

/// Of the link between c1's router and c1.
const NARROW: u32 = 1000;

fn told(mode: Mode) {
    let parts = Parts {
        nat: true,
        c3: true,
        ..Parts::default()
    };
    let stage = Stage::raise(mode, &parts);
    let (c1, c3) = (stage.phone(Role::C1, "1001"), stage.phone(Role::C3, "1003"));
    let call = stage.call(&c3, &c1, mode.path());
    assert_eq!(mtu_of(&stage), None);
    let router = stage.lab.namespace(Role::Nat1).unwrap();
    router.ip(&format!("link set c1 mtu {NARROW}")).unwrap();
    // Short enough for every link but that one; Linux asks that it is not broken up.
    let sender = call.caller.rtp.socket().unwrap();
    let wide = Stream {
        payload_bytes: 1300,
        ..Stream::voice(call.caller.ssrc, 1)
    };
    let to = call.dialog.caller_sends_to;
    let learnt = clock::until("c3 learns how narrow the way is", LIMIT, || {
        // The first may fail here, being what the news is about.
        drop(sender.send_to(&wide.packet(0), to));
        Ok(mtu_of(&stage))
    });
    let metrics = http::text(stage.towpath.socket(), "/metrics").unwrap();
    assert_eq!(
        learnt.ok(),
        Some(NARROW),
        "{metrics}\n{}",
        stage.towpath.tail()
    );
    let line = |result: &str| {
        let start = format!("towpath_icmp_too_big_total{{result=\"{result}\"}} ");
        let mut lines = metrics.lines();
        let count = lines.find_map(|line| line.strip_prefix(&start));
        count.unwrap().parse::<u32>().unwrap()
    };
    assert!(line("told") >= 1, "{metrics}");
    assert_eq!((line("unmatched"), line("failed")), (0, 0), "{metrics}");

    // From now on c3's system breaks up what is too long, and it arrives.
    arrives_whole(&call, &wide);
    router.ip("link set c1 mtu 1500").unwrap();
    call.hang_up();
    stage.is_empty();
}

/// What c3 knows of the way to the edge, if it is not what its link says.
fn mtu_of(stage: &Stage) -> Option<u32> {
    let c3 = stage.lab.namespace(Role::C3).unwrap();
    let route = c3.run("ip", &["route", "get", plan::EDGE_LAN]).unwrap();
    let mtu = route.split("mtu ").nth(1)?;
    mtu.split_whitespace().next()?.parse().ok()
}

fn arrives_whole(call: &Between<'_>, wide: &Stream) {
    let (sender, receiver) = (call.caller.rtp.socket(), call.callee.rtp.socket());
    let (sender, receiver) = (sender.unwrap(), receiver.unwrap());
    receiver.set_read_timeout(Some(LIMIT)).unwrap();
    let packet = wide.packet(7);
    sender
        .send_to(&packet, call.dialog.caller_sends_to)
        .unwrap();
    let mut buffer = [0; 2048];
    loop {
        let bytes = receiver.recv(&mut buffer).unwrap();
        if buffer[..bytes] == packet {
            return;
        }
    }
}

#[test]
fn the_sender_is_told_what_does_not_fit_further_on_in_the_kernel() {
    told(Mode::Xdp);
}

#[test]
fn the_sender_is_told_what_does_not_fit_further_on_in_userspace() {
    told(Mode::Userspace);
}
