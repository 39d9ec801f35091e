//! What others see of us and reach of us, behind a router that maps ports.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use towpath_tests::lab::{Lab, Parts, PortMap, Role, plan};
use towpath_tests::process::{self, Towpath};

use super::{CASE, Case, Config, LAN, Mode, Net, Patient, at};

/// What the router maps.
const MAPPED: (u16, u16) = (21_000, 21_199);
const OUTSIDE: Net = Net {
    name: "outside",
    peers: "0.0.0.0/0",
    ports: MAPPED,
    more: "advertise = \"198.51.100.1\"\n",
    ..LAN
};
const SERVERS: [&str; 2] = ["198.51.100.7:3478", "198.51.100.8:3478"];

/// A STUN server (RFC 8489) that answers until it is dropped.
struct Stun {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stun {
    fn start(lab: &Lab, at: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&stop);
        let open = move || {
            let socket = UdpSocket::bind(at)?;
            socket.set_read_timeout(Some(Duration::from_millis(50)))?;
            Ok(socket)
        };
        let serve = move |socket: UdpSocket| {
            while !over.load(Ordering::Relaxed) {
                let mut request = [0; 512];
                if let Ok((20.., from)) = socket.recv_from(&mut request) {
                    socket.send_to(&answer(&request, from), from).unwrap();
                }
            }
        };
        let outside = lab.namespace(Role::Outside).unwrap();
        let thread = Some(outside.spawn("stun", open, serve).unwrap());
        Self { stop, thread }
    }
}

impl Drop for Stun {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// A success response with the address, masked by the cookie.
fn answer(request: &[u8], from: SocketAddr) -> Vec<u8> {
    let IpAddr::V4(ip) = from.ip() else {
        panic!("{from}");
    };
    let mut bytes = vec![1, 1, 0, 12];
    bytes.extend(&request[4..20]);
    bytes.extend([0, 0x20, 0, 8, 0, 1]);
    bytes.extend((from.port() ^ 0x2112).to_be_bytes());
    bytes.extend((u32::from(ip) ^ 0x2112_a442).to_be_bytes());
    bytes
}

/// The LAN by its own address, and everybody else by the router's.
pub(super) fn inside_and_outside() -> [Net; 2] {
    [at(LAN, (20_000, 20_199)), OUTSIDE]
}

pub(super) fn behind_a_router(networks: &[Net]) -> Patient {
    let map = PortMap {
        to: plan::EDGE_LAN.parse().unwrap(),
        sip_port: 5060,
        media_ports: MAPPED,
        offset: 0,
        rewrite_source: false,
    };
    let parts = Parts {
        port_map: Some(map),
        ..Parts::default()
    };
    let lab = Lab::raise(&parts).unwrap();
    let edge = lab.namespace(Role::Edge).unwrap();
    let router = plan::ip(plan::PORT_MAP_LAN);
    edge.ip(&format!("route add default via {router}")).unwrap();
    let outside = lab.namespace(Role::Outside).unwrap();
    outside.addresses("eth0", &["198.51.100.8/24"]).unwrap();
    Patient::of(lab, networks)
}

#[test]
fn what_a_stun_server_sees_is_compared() {
    let patient = behind_a_router(&inside_and_outside());
    let _servers = SERVERS.map(|at| Stun::start(&patient.lab, at));
    let one = ["--stun", SERVERS[0]];
    let both = [one, ["--stun", SERVERS[1]]].concat();
    assert_eq!(patient.healthy(&both), patient.usual);
    let wrong = Case {
        name: "a wrong address is advertised",
        config: |config| config.networks[1].more = "advertise = \"198.51.100.99\"\n",
        finds: &[("nat.observed", "fail")],
        says: "# [[network]] \"outside\": advertise = \"198.51.100.1\"",
        ..CASE
    };
    patient.broken(&wrong, &both);
    let unmapped = Case {
        name: "the router chooses ports, for each destination others",
        config: |config| config.networks[1] = at(OUTSIDE, (23_000, 23_199)),
        finds: &[("nat.observed", "fail")],
        says: "maps each destination to another port",
        ..CASE
    };
    patient.broken(&unmapped, &both);
    let moved = Case {
        name: "the router does not keep ports",
        finds: &[("nat.observed", "warn")],
        says: "sends from other ports than we do",
        ..unmapped
    };
    patient.broken(&moved, &one);
    let silent = Case {
        name: "a server that does not answer",
        finds: &[("nat.observed", "unknown")],
        says: "198.51.100.50:3478 asked from 10.1.0.1:21000: no answer",
        ..CASE
    };
    patient.broken(&silent, &["--stun", "198.51.100.50:3478"]);
}

/// A second node, outside, knocks at every port that is tried.
#[test]
fn what_a_node_outside_reaches_is_told() {
    let patient = behind_a_router(&inside_and_outside());
    let mut config = Config::new(&patient.lab, Mode::Userspace);
    config.networks = vec![Net {
        name: "far",
        interface: "eth0",
        address: "198.51.100.7",
        peers: "0.0.0.0/0",
        ports: (30_000, 30_199),
        more: "",
    }];
    let directory = patient.lab.directory("far").unwrap();
    let outside = patient.lab.namespace(Role::Outside).unwrap();
    let binary = process::binary().unwrap();
    config.store = directory.join("state.redb");
    let far = Towpath::start(outside, &binary, &directory, &config.toml()).unwrap();
    let peer = ["--peer", far.socket().to_str().unwrap()];
    assert_eq!(patient.healthy(&peer), patient.usual);
    let half = Case {
        name: "half of the ports are mapped",
        config: |config| config.networks[1] = at(OUTSIDE, (21_000, 21_399)),
        finds: &[("nat.inbound", "fail")],
        says: "# on the router: map UDP 198.51.100.1 ports 21000-21399 to 10.1.0.1 ports",
        ..CASE
    };
    patient.broken(&half, &peer);
    let nobody = Case {
        name: "the node outside does not run",
        finds: &[
            ("nat.inbound", "unknown"),
            ("sip.alg", "unknown"),
            ("sip.inbound", "unknown"),
        ],
        says: "/no/such/socket: No such file or directory",
        ..CASE
    };
    patient.broken(&nobody, &["--peer", "unix:/no/such/socket"]);
}

#[test]
fn an_address_that_does_not_work_from_inside_is_named() {
    let patient = behind_a_router(&inside_and_outside());
    let case = Case {
        name: "no hairpin, and nobody is told the inner address",
        config: |config| {
            config.networks.remove(0);
        },
        finds: &[("nat.hairpin", "warn")],
        says: "sent to 198.51.100.1:21000: not at 10.1.0.1:21000: nothing came",
        ..CASE
    };
    patient.broken(&case, &[]);
}
