//! Networks in VLANs: the program sits on the interface that carries them, and takes tags off, puts
//! them on and changes them. Needs a kernel with `CONFIG_VLAN_8021Q`, and fails without: feature
//! `vlan`.

use towpath_tests::lab::{Lab, Parts, Role, plan};

use super::stage::{CORE, Config, LAN, Mode, Net, Stage, WAN};

/// Who takes tags off the frames that come to the edge.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Tags {
    /// Nobody: they are in the frame, where the program sees them.
    Shown,
    /// The card, before the program: a veth gets them beside the frame.
    Hidden,
}

/// A network whose edge and hosts are in a VLAN of the same wire.
#[derive(Clone)]
struct Tagged {
    net: Net,
    host: Role,
    /// Of the edge, and of the host.
    addresses: [&'static str; 2],
    interface: &'static str,
    vlan: u16,
}

const LAN_100: Tagged = Tagged {
    net: LAN,
    host: Role::C3,
    addresses: ["10.1.0.1/24", plan::C3_V4],
    interface: "lan.100",
    vlan: 100,
};
const CORE_200: Tagged = Tagged {
    net: CORE,
    host: Role::Mcu,
    addresses: ["10.9.0.1/24", plan::MCU_V4],
    interface: "core.200",
    vlan: 200,
};

impl Tagged {
    fn lay(&self, lab: &Lab, tags: Tags) {
        let (wire, vlan) = (self.net.interface, self.vlan);
        let host = lab.namespace(self.host).unwrap();
        let edge = lab.namespace(Role::Edge).unwrap();
        for (end, below, above, address) in [
            (edge, wire, self.interface, self.addresses[0]),
            (host, "eth0", "tagged", self.addresses[1]),
        ] {
            end.ip(&format!(
                "addr flush dev {below}\n\
                 link add link {below} name {above} type vlan id {vlan}\n\
                 link set {above} up"
            ))
            .unwrap();
            end.addresses(above, &[address]).unwrap();
            let off = ["-K", below, "txvlan", "off", "rxvlan", "off"];
            end.run("ethtool", &off).unwrap();
        }
        if tags == Tags::Shown {
            let switch = lab.namespace(Role::Switch).unwrap();
            let port = format!("{wire}-edge");
            let off = ["-K", &port, "txvlan", "off"];
            switch.run("ethtool", &off).unwrap();
        }
    }
}

fn stage(mode: Mode, tagged: &[Tagged], tags: Tags) -> Stage {
    let lab = Lab::raise(&Parts {
        c3: true,
        mcu: true,
        ..Parts::default()
    })
    .unwrap();
    for network in tagged {
        network.lay(&lab, tags);
    }
    Stage::on(lab, mode, |config: &mut Config| {
        config.networks = vec![WAN];
        for plain in [LAN, CORE] {
            let of = |t: &&Tagged| t.net.name == plain.name;
            let interface = tagged.iter().find(of).map(|t| t.interface);
            config.networks.push(Net {
                interface: interface.unwrap_or(plain.interface),
                ..plain
            });
        }
    })
}

/// Packets by what the program did with them.
fn reason(stage: &Stage, name: &str) -> u64 {
    let bpf = stage.towpath.get("/api/v1/bpf").unwrap();
    let rows = bpf["verdicts"].as_array().unwrap();
    let row = rows.iter().find(|row| row["reason"] == name);
    row.unwrap()["packets"].as_u64().unwrap()
}

fn media_goes_through(mode: Mode, tagged: &[Tagged]) {
    let stage = stage(mode, tagged, Tags::Shown);
    let (lan, core) = (
        stage.phone(Role::C3, "1003"),
        stage.phone(Role::Mcu, "9000"),
    );
    let call = stage.call(&lan, &core, mode.path());
    stage.carries(&call, 300, mode.path());
    if mode == Mode::Xdp {
        assert_eq!(reason(&stage, "vlan"), 0);
        assert_eq!(reason(&stage, "wrong-interface"), 0);
        let status = stage.towpath.get("/api/v1/bpf").unwrap();
        for network in tagged {
            let rows = status["interfaces"].as_array().unwrap();
            let row = rows.iter().find(|row| row["name"] == network.interface);
            assert_eq!(row.unwrap()["rung"], "native", "{status}");
        }
    }
    call.hang_up();
    stage.is_empty();
}

#[test]
fn a_tag_is_taken_off_and_put_on_in_the_kernel() {
    media_goes_through(Mode::Xdp, &[LAN_100]);
}

#[test]
fn a_tag_is_changed_in_the_kernel() {
    media_goes_through(Mode::Xdp, &[LAN_100, CORE_200]);
}

#[test]
fn tags_in_userspace() {
    media_goes_through(Mode::Userspace, &[LAN_100, CORE_200]);
}

/// The program does not see tags that the card takes off: media goes on in userspace, and the
/// reason is counted.
#[test]
fn tags_that_a_card_takes_off_leave_media_to_userspace() {
    let stage = stage(Mode::Xdp, &[LAN_100, CORE_200], Tags::Hidden);
    let (lan, core) = (
        stage.phone(Role::C3, "1003"),
        stage.phone(Role::Mcu, "9000"),
    );
    let call = stage.call(&lan, &core, "xdp");
    stage.carries(&call, 300, "user");
    assert!(reason(&stage, "vlan") >= 600);
    assert_eq!(reason(&stage, "wrong-interface"), 0);
}
