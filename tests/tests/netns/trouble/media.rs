//! Row 6: where media goes.

use towpath_tests::lab::{Parts, Role};
use towpath_tests::sim::nat::Behaviour;

use super::super::stage::{Between, CORE, LAN, LIMIT, Mode, Net, Stage, WAN};
use super::{PACKETS, heard};

/// Row 6: where media goes. A phone behind a NAT is answered along the path its packets came, and
/// a system whose media comes from another box than its signalling is believed.
fn row_6(mode: Mode) {
    let parts = Parts {
        boxes: vec![Behaviour::SYMMETRIC],
        c3: true,
        mcu: true,
        ..Parts::default()
    };
    let raise = |wan, core| {
        Stage::with(mode, &parts, |config| {
            let chosen = [(WAN, wan), (LAN, ""), (CORE, core)];
            config.networks = chosen.map(|(net, more)| Net { more, ..net }).to_vec();
        })
    };
    let cast = |stage: &Stage| {
        let (home, lan) = (stage.phone(Role::C1, "1001"), stage.phone(Role::C3, "1003"));
        let mut split = stage.phone(Role::Mcu, "9000");
        let mcu = stage.lab.namespace(Role::Mcu).unwrap();
        mcu.addresses("eth0", &["10.9.0.21/24"]).unwrap();
        split
            .move_media(mcu, "10.9.0.21:10000".parse().unwrap())
            .unwrap();
        [home, lan, split]
    };
    for (wan, core) in [
        ("media = \"symmetric\"\n", "media = \"sdp\"\n"),
        ("media = \"auto\"\n", "media = \"auto\"\n"),
    ] {
        let stage = raise(wan, core);
        let [home, lan, split] = cast(&stage);
        for (caller, callee) in [
            (&home, &lan),
            (&lan, &home),
            (&lan, &split),
            (&split, &home),
        ] {
            let call = stage.call(caller, callee, mode.path());
            stage.carries(&call, PACKETS, mode.path());
            call.hang_up();
        }
        stage.is_empty();
    }

    let stage = raise("media = \"sdp\"\n", "media = \"symmetric\"\n");
    let [home, lan, split] = cast(&stage);
    let call = stage.set_up(&home, &lan);
    assert_eq!(heard(&call), [0, 0], "by SDP, to a phone behind a NAT");
    chosen(&stage, &call, "caller", "symmetric");
    comes(&stage, &call);
    call.hang_up();
    let call = stage.set_up(&split, &lan);
    assert_eq!(heard(&call), [0, 0], "symmetric, with media on another box");
    chosen(&stage, &call, "caller", "sdp");
    comes(&stage, &call);
    call.hang_up();
    stage.is_empty();
}

/// Has it the other way for a party of one call, at once.
fn chosen(stage: &Stage, call: &Between<'_>, party: &str, media: &str) {
    let all = stage.towpath.calls().unwrap();
    let ours = all.iter().find(|c| c.call_id == call.dialog.id).unwrap();
    let edge = stage.lab.namespace(Role::Edge).unwrap();
    let arguments = ["call", "media", &ours.id.to_string(), party, media];
    let output = stage.towpath.client(edge, &arguments).unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Media that did not flow does now.
fn comes(stage: &Stage, call: &Between<'_>) {
    let talk = call.talk();
    talk.hear(PACKETS, LIMIT).unwrap();
    talk.hear_reports(2, LIMIT).unwrap();
    talk.finish().unwrap();
    stage.carries(call, PACKETS, stage.mode.path());
}

#[test]
fn row_6_media_goes_by_sdp_or_back_along_its_path_in_the_kernel() {
    row_6(Mode::Xdp);
}

#[test]
fn row_6_media_goes_by_sdp_or_back_along_its_path_in_userspace() {
    row_6(Mode::Userspace);
}
