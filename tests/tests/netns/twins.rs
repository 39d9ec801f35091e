//! Two LANs with one private range, each on a card of its own, and in each a phone with the same
//! address: only the address that received a packet tells them apart.

use std::net::SocketAddr;

use towpath_tests::demo::config::DOMAIN;
use towpath_tests::lab::{Lab, Parts, Role};
use towpath_tests::netns::Namespace;
use towpath_tests::ua::Ua;

use super::stage::{Between, CORE, LIMIT, Mode, Net, Stage, assert_whole};

const HOME: Net = Net {
    name: "home",
    interface: "twin-a",
    address: "192.168.7.1",
    peers: "192.168.7.0/24",
    ports: (22_000, 22_199),
    more: "",
};
const SHOP: Net = Net {
    name: "shop",
    interface: "twin-b",
    address: "192.168.7.2",
    ports: (23_000, 23_199),
    ..HOME
};
/// Of both phones.
const PHONE: &str = "192.168.7.50";

fn two_lans_with_one_range(mode: Mode) {
    let lab = Lab::raise(&Parts::default()).unwrap();
    let edge = lab.namespace(Role::Edge).unwrap();
    let phones = [HOME, SHOP].map(|net| {
        let phone = Namespace::create(&format!("{}-{}", lab.name(), net.name)).unwrap();
        edge.veth(net.interface, &phone, "eth0").unwrap();
        let prefix = format!("{}/24", net.address);
        edge.addresses(net.interface, &[&prefix]).unwrap();
        phone.addresses("eth0", &[&format!("{PHONE}/24")]).unwrap();
        // What the edge sends from XDP arrives at this end of the link.
        phone.accept_xdp("eth0").unwrap();
        phone
    });
    let stage = Stage::on(lab, mode, |config| config.networks = vec![HOME, SHOP, CORE]);
    let [home, shop] =
        [(&phones[0], "1001", HOME), (&phones[1], "1002", SHOP)].map(|(namespace, user, net)| {
            let edge = SocketAddr::new(net.address.parse().unwrap(), 5060);
            let ip = PHONE.parse().unwrap();
            let ua = Ua::new(namespace, user, DOMAIN, ip, 10_000, edge).unwrap();
            ua.register().unwrap();
            ua
        });
    for (caller, callee) in [(&home, &shop), (&shop, &home)] {
        let dialog = caller.call(callee).unwrap();
        let call = Between {
            caller,
            callee,
            dialog,
        };
        stage.settled(&call, mode.path());
        let talk = call.talk();
        talk.hear(250, LIMIT).unwrap();
        assert_whole(&talk.finish().unwrap());
        let told = [&call.dialog.caller_sends_to, &call.dialog.callee_sends_to];
        let own = [caller, callee].map(|ua| match std::ptr::eq(ua, &home) {
            true => HOME.address,
            false => SHOP.address,
        });
        assert_eq!(told.map(|at| at.ip().to_string()), own);
        call.hang_up();
    }
    stage.is_empty();
}

#[test]
fn two_lans_with_one_range_meet_in_the_kernel() {
    two_lans_with_one_range(Mode::Xdp);
}

#[test]
fn two_lans_with_one_range_meet_in_userspace() {
    two_lans_with_one_range(Mode::Userspace);
}
