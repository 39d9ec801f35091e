//! The kernel path with real packets on veth pairs: it carries media, survives the daemon, and is
//! taken over by the next one. Needs root.

#![allow(
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and lives in real time"
)]

use std::fs::File;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::slice;
use std::time::{Duration, Instant};

use aya::maps::{Array, Map, MapData};
use common::flow::{Endpoint, Flags, Flow, Hop, Rewrite};
use common::forward::Reason;
use common::map::{self, ABI};
use common::wire::Mac;
use control::shell::detach;
use control::shell::kernel::{Adopted, Attach, Interface, Kernel, KernelError, Reach, Stream};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use towpath_tests::frame::rtp;
use towpath_tests::{clock, process};

const FLOWS_MAX: u32 = 8;
const WIDE: u32 = 65_536;
const MANY: u16 = 1_500;
const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn media_survives_the_daemon() {
    for family in [V4, V6] {
        let lab = Lab::new();
        let (mut kernel, adopted) = lab.start().unwrap();
        assert_eq!(adopted, []);
        let (at, flow) = lab.flow(family, lab.core, 5004);
        let (phone, mcu) = (lab.phone(family), lab.mcu(family, 5004));
        kernel.install(at, flow, Instant::now()).unwrap();
        carry(&phone, at, &mcu, lab.source(family), 0..5);
        assert_eq!(kernel.stats(at).unwrap().packets, 5);
        let installed = *kernel.flow(at).unwrap();

        // Nobody is there, and media flows.
        drop(kernel);
        carry(&phone, at, &mcu, lab.source(family), 5..10);

        let (mut kernel, adopted) = lab.start().unwrap();
        assert_eq!(adopted.len(), 1);
        assert_eq!((adopted[0].at, adopted[0].flow), (at, installed));
        carry(&phone, at, &mcu, lab.source(family), 10..15);
        let stats = kernel.stats(at).unwrap();
        let bytes = 15 * (12 + 8 + if family.v6 { 40 } else { 20 } + 5);
        assert_eq!((stats.packets, stats.bytes), (15, bytes));
        assert!(stats.first_ns > 0 && stats.first_ns <= stats.last_ns);
        assert_eq!(kernel.reasons()[Reason::Forwarded as usize], 15);

        // Another route for the same media: its counts go on.
        let (_, other) = lab.flow(family, lab.core, 5006);
        kernel.install(at, other, Instant::now()).unwrap();
        carry(
            &phone,
            at,
            &lab.mcu(family, 5006),
            lab.source(family),
            15..18,
        );
        assert_eq!(kernel.stats(at).unwrap().packets, 18);

        // Without a flow, the stack's socket gets it.
        assert!(kernel.remove(at, Instant::now()).unwrap());
        assert!(!kernel.remove(at, Instant::now()).unwrap());
        assert_eq!(kernel.stats(at), None);
        let own = lab.inside(&lab.edge, || UdpSocket::bind(at).unwrap());
        carry(&phone, at, &own, phone.local_addr().unwrap(), 18..20);

        // The next use of the port counts from zero.
        kernel.install(at, flow, Instant::now()).unwrap();
        assert_eq!(kernel.stats(at).unwrap().packets, 0);
        carry(&phone, at, &mcu, lab.source(family), 20..22);
        assert_eq!(kernel.stats(at).unwrap().packets, 2);
    }
}

#[test]
fn media_turns_back_on_the_same_interface() {
    let lab = Lab::new();
    let (mut kernel, _) = lab.start().unwrap();
    let (at, mut flow) = lab.flow(V4, lab.access, 5004);
    let target: SocketAddr = "10.9.1.2:5004".parse().unwrap();
    let rewrite = Rewrite {
        peer: flow.peer,
        source: flow.source,
        target: target.into(),
        tos: None,
        flags: Flags::NONE,
    };
    let hop = Hop {
        eth_src: mac(0xa0),
        eth_dst: mac(0xa1),
        egress: lab.access,
        mtu: 1500,
    };
    flow = Flow::compile(flow.local, rewrite, hop);
    kernel.install(at, flow, Instant::now()).unwrap();
    let phone = lab.phone(V4);
    let other = lab.inside(&lab.phone, || UdpSocket::bind(target).unwrap());
    // A veth pair wakes the receiver of a transmit only if that runs a program too; ours without
    // addresses passes everything.
    let (object, pins) = (object(), lab.bpffs.join("phone"));
    lab.inside(&lab.phone, || {
        let index = nix::net::if_::if_nametoindex("a1").unwrap();
        let attach = Attach {
            object: &object,
            pin_dir: &pins,
            interfaces: &[Interface {
                name: "a1".into(),
                index,
            }],
            native: true,
            flows_max: FLOWS_MAX,
            locals: &[],
        };
        drop(Kernel::start(&attach, Instant::now()).unwrap());
    });
    // Its own address comes back from outside: another one of ours is the source.
    carry(&phone, at, &other, lab.source(V4), 0..5);
    assert_eq!(kernel.stats(at).unwrap().packets, 5);
}

#[test]
fn events_tell_of_first_packets_and_strangers() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let lab = Lab::new();
    let (mut kernel, _) = lab.start().unwrap();
    let (at, mut flow) = lab.flow(V4, lab.core, 5004);
    flow.flags = flow.flags.with(Flags::SHOW_STRANGERS);
    kernel.install(at, flow, Instant::now()).unwrap();
    let (phone, mcu) = (lab.phone(V4), lab.mcu(V4, 5004));
    let own = lab.inside(&lab.edge, || UdpSocket::bind(at).unwrap());
    let stranger = lab.inside(&lab.phone, || UdpSocket::bind("10.9.1.2:4444").unwrap());
    runtime.block_on(async {
        let mut events = kernel.events().unwrap();
        carry(&phone, at, &mcu, lab.source(V4), 0..1);
        let event = tokio::time::timeout(PATIENCE, events.next())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(event.kind, common::event::EventKind::FIRST_PACKET);
        assert_eq!(kernel.at(event.stats, event.generation), Some(at));
        carry(&stranger, at, &own, stranger.local_addr().unwrap(), 0..1);
        let event = tokio::time::timeout(PATIENCE, events.next())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(event.kind, common::event::EventKind::STRANGER);
    });
    assert_eq!(kernel.stats(at).unwrap().strangers, 1);
}

#[test]
fn a_stream_is_measured_in_the_kernel() {
    for family in [V4, V6] {
        let lab = Lab::new();
        let (mut kernel, _) = lab.start().unwrap();
        let (at, flow) = lab.flow(family, lab.core, 5004);
        let (phone, mcu) = (lab.phone(family), lab.mcu(family, 5004));
        kernel.install(at, flow, Instant::now()).unwrap();
        carry(&phone, at, &mcu, lab.source(family), 0..2);
        assert_eq!(kernel.stats(at).unwrap().stream, None, "not asked for");
        // From now on, under the same count.
        kernel
            .install(at, flow.measured(8000), Instant::now())
            .unwrap();
        assert_eq!(kernel.stats(at).unwrap().stream, None, "nothing came yet");
        for sequence in [65_533, 65_534, 2, 1, 1] {
            carry(&phone, at, &mcu, lab.source(family), sequence..sequence + 1);
        }
        let stream = kernel.stats(at).unwrap().stream.unwrap();
        let expected = Stream {
            ssrc: 0xdead_beef,
            ssrc_changes: 0,
            received: 5,
            // 65,535 and 0; one that comes twice makes up for one (RFC 3550 §A.3).
            lost: 1,
            reordered: 2,
            jitter: stream.jitter,
        };
        assert_eq!(stream, expected);
        // The timestamp stands still, so that what passes is jitter.
        assert!(stream.jitter.is_some_and(|j| j < PATIENCE), "{stream:?}");
        let position = kernel.position(at).unwrap();
        assert_eq!((position.ssrc, position.timestamp), (0xdead_beef, 0x1020));
        assert!(position.at_ns > 0);
    }
}

#[test]
fn an_address_that_goes_takes_its_flows_along() {
    let lab = Lab::new();
    let (mut kernel, _) = lab.start().unwrap();
    let (v4, v4_flow) = lab.flow(V4, lab.core, 5004);
    let (v6, v6_flow) = lab.flow(V6, lab.core, 5004);
    kernel.install(v4, v4_flow, Instant::now()).unwrap();
    kernel.install(v6, v6_flow, Instant::now()).unwrap();
    kernel.set_locals(&[v6.ip()], Instant::now()).unwrap();
    assert_eq!(kernel.installed().collect::<Vec<_>>(), [v6]);
    let refused = kernel.install(v4, v4_flow, Instant::now()).unwrap_err();
    assert!(matches!(refused, KernelError::NotLocal { .. }), "{refused}");
    carry(&lab.phone(V6), v6, &lab.mcu(V6, 5004), lab.source(V6), 0..3);
    let many: Vec<IpAddr> = (1..=17).map(|i| IpAddr::from([10, 9, 8, i])).collect();
    let refused = kernel.set_locals(&many, Instant::now()).unwrap_err();
    assert!(
        matches!(refused, KernelError::TooManyLocals { .. }),
        "{refused}"
    );
}

#[test]
fn the_table_has_an_end() {
    let lab = Lab::new();
    let (mut kernel, _) = lab.start().unwrap();
    let (at, flow) = lab.flow(V4, lab.core, 5004);
    let port = |i: u32| SocketAddr::new(at.ip(), at.port() + i as u16);
    let now = Instant::now();
    for i in 0..FLOWS_MAX {
        kernel.install(port(i), flow, now).unwrap();
    }
    let refused = kernel.install(port(FLOWS_MAX), flow, now).unwrap_err();
    assert!(matches!(refused, KernelError::Full { .. }), "{refused}");
    // All of them can be replaced at once.
    let (_, other) = lab.flow(V4, lab.core, 5006);
    for i in 0..FLOWS_MAX {
        kernel.install(port(i), other, now).unwrap();
    }
}

/// Whoever takes over looks at the slots that were written and at no others: there is one for every
/// flow that may be, and looking at one is a system call.
#[test]
fn a_takeover_reads_what_was_written() {
    let lab = Lab::new();
    let mut kernel = lab.start_wide().0;
    let (at, flow) = lab.flow(V4, lab.core, 5004);
    let port = |i: u16| SocketAddr::new(at.ip(), at.port() + i);
    // More than a note reaches.
    for i in 0..MANY {
        kernel.install(port(i), flow, Instant::now()).unwrap();
    }
    drop(kernel);
    let (mut kernel, adopted) = lab.start_wide();
    assert_eq!(adopted.len(), usize::from(MANY));
    // The slots taken from now on lie before, behind and between those that were taken over.
    for i in (0..MANY).filter(|i| i % 3 > 0) {
        kernel.remove(port(i), Instant::now()).unwrap();
    }
    let (_, other) = lab.flow(V4, lab.core, 5006);
    for i in (0..MANY).step_by(3) {
        kernel.install(port(i), other, Instant::now()).unwrap();
    }
    drop(kernel);
    let (kernel, adopted) = lab.start_wide();
    let theirs: Vec<_> = adopted.iter().map(|a| (a.at, a.flow.target)).collect();
    let ours = (0..MANY).step_by(3).map(|i| (port(i), other.target));
    assert_eq!(theirs, ours.collect::<Vec<_>>());
    drop(kernel);

    // What somebody else put where no daemon has written is not found.
    let pinned = |name: &str| Map::Array(MapData::from_pin(lab.pinned(name)).unwrap());
    let mut flows: Array<_, Flow> = pinned(map::FLOWS).try_into().unwrap();
    let mut ports: Array<_, map::Port> = pinned(map::PORTS).try_into().unwrap();
    let (mut stray, slot) = (flow, flows.len() - 1);
    stray.local = port(MANY).into();
    flows.set(slot, stray, 0).unwrap();
    let points = map::Port {
        flow: slot,
        stats: 0,
    };
    for local in 0..lab.locals().len() as u32 {
        let index = map::port_index(local, stray.local.port);
        ports.set(index, points, 0).unwrap();
    }
    let before = Instant::now();
    let (_kernel, adopted) = lab.start_wide();
    eprintln!(
        "a start over {} slots took {:?}",
        flows.len(),
        before.elapsed()
    );
    assert_eq!(adopted.len(), theirs.len());
}

#[test]
fn refusals_say_what_to_do() {
    let lab = Lab::new();
    let refuse = |attach: &Attach<'_>, expected: &str| {
        let text = Kernel::start(attach, Instant::now())
            .err()
            .expect("a refusal")
            .to_string();
        assert!(text.contains(expected), "{text}");
    };
    let object = object();
    let interfaces = lab.interfaces();
    let locals = lab.locals();
    let (pins, other) = (lab.pins(), lab.bpffs.join("other"));
    let (gone, loopback) = (
        [Interface {
            name: "gone0".into(),
            index: 4711,
        }],
        [Interface {
            name: "lo".into(),
            index: 1,
        }],
    );
    let attach = |pin_dir, interfaces, flows_max| Attach {
        object: &object,
        pin_dir,
        interfaces,
        native: true,
        flows_max,
        locals: &locals,
    };
    refuse(
        &attach(Path::new("/proc/no"), &interfaces, FLOWS_MAX),
        "not on a BPF file system",
    );
    refuse(&attach(&pins, &gone, FLOWS_MAX), "gone0: does not exist");
    refuse(
        &attach(&pins, &loopback, FLOWS_MAX),
        "lo: its driver has no native XDP",
    );
    let nonsense = Attach {
        object: b"nonsense",
        ..attach(&pins, &interfaces, FLOWS_MAX)
    };
    refuse(&nonsense, "not the kernel program");
    drop(lab.start().unwrap());
    refuse(
        &attach(&pins, &interfaces, FLOWS_MAX + 1),
        "a capacity of 17, this daemon needs 19",
    );
    // Another daemon's directory: its program holds the interface.
    refuse(
        &attach(&other, &interfaces, FLOWS_MAX),
        "another XDP program",
    );
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // SAFETY: the raw system call changes this thread alone, which ends here.
            let done = unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) };
            assert_eq!(done, 0);
            refuse(&attach(&pins, &interfaces, FLOWS_MAX), "CAP_BPF");
        });
    });
}

/// Drivers refuse when the program would need what the card does not have; what is asked of the
/// operator then is in the refusal, and the interfaces that could have had it are as before.
#[test]
fn a_card_with_too_few_queues_or_too_large_frames_says_so() {
    let lab = Lab::new();
    // A veth end hands each transmit queue of its peer to a receive queue of its own.
    ip(
        "link add few numrxqueues 1 numtxqueues 1 type veth peer name many numrxqueues 1 \
        numtxqueues 4",
    );
    ip("link add large mtu 9000 type veth peer name larger mtu 9000");
    for (name, said) in [("few", "too many queues in use"), ("large", "a large MTU")] {
        let index = nix::net::if_::if_nametoindex(name).unwrap();
        let [access, core] = lab.interfaces();
        let bad = Interface {
            name: name.into(),
            index,
        };
        let refused = lab.start_with(&[access, bad, core], &lab.locals());
        let text = refused.err().expect("a refusal").to_string();
        let expected = format!("interface {name}: XDP cannot be attached: ");
        let look = format!("`ethtool -l {name}`");
        assert!(text.starts_with(&expected), "{text}");
        assert!(text.contains(said) && text.contains(&look), "{text}");
        lab.programs_become([false, false]);
    }
}

#[test]
fn an_interface_that_is_no_longer_configured_is_let_go() {
    let lab = Lab::new();
    drop(lab.start().unwrap());
    let (object, interfaces, locals) = (object(), lab.interfaces(), lab.locals());
    let attach = Attach {
        object: &object,
        pin_dir: &lab.pins(),
        interfaces: &interfaces[..1],
        native: true,
        flows_max: FLOWS_MAX,
        locals: &locals,
    };
    let (kernel, _) = Kernel::start(&attach, Instant::now()).unwrap();
    assert_eq!(kernel.attached().collect::<Vec<_>>(), [lab.access]);
    lab.programs_become([true, false]);
}

#[test]
fn interfaces_and_addresses_come_and_go_around_live_flows() {
    let lab = Lab::new();
    let [access, core] = lab.interfaces();
    let v4 = lab.locals_of(V4);
    let mut kernel = lab
        .start_with(slice::from_ref(&access), &v4[..1])
        .unwrap()
        .0;
    let (at, flow) = lab.flow(V4, lab.core, 5004);
    let (phone, mcu) = (lab.phone(V4), lab.mcu(V4, 5004));

    // All or nothing: the good interface is let go when its neighbour cannot be had.
    let gone = Interface {
        name: "gone0".into(),
        index: 4711,
    };
    let refused = kernel.extend(&[core.clone(), gone], &v4).unwrap_err();
    assert!(
        matches!(refused, KernelError::NoInterface { .. }),
        "{refused}"
    );
    assert_eq!(kernel.attached().collect::<Vec<_>>(), [lab.access]);
    assert_eq!(kernel.locals().into_iter().collect::<Vec<_>>(), v4[..1]);
    lab.programs_become([true, false]);
    let many: Vec<IpAddr> = (1..=16).map(|i| IpAddr::from([10, 9, 8, i])).collect();
    let refused = kernel.extend(slice::from_ref(&core), &many).unwrap_err();
    assert!(
        matches!(refused, KernelError::TooManyLocals { .. }),
        "{refused}"
    );
    lab.programs_become([true, false]);

    let added = kernel.extend(&lab.interfaces(), &v4).unwrap();
    let expected = Reach {
        interfaces: vec![lab.core],
        locals: v4[1..].to_vec(),
    };
    assert_eq!(added, expected);
    assert_eq!(
        kernel.extend(&lab.interfaces(), &v4).unwrap(),
        Reach::default()
    );
    kernel.install(at, flow, Instant::now()).unwrap();
    carry(&phone, at, &mcu, lab.source(V4), 0..5);

    // Another address does not touch the flow; what it uses stays until it has ended.
    let v6 = kernel.extend(&[], &lab.locals_of(V6)).unwrap();
    carry(&phone, at, &mcu, lab.source(V4), 5..10);
    assert_eq!(kernel.withdraw(&v6).unwrap(), Reach::default());
    assert_eq!(kernel.locals().into_iter().collect::<Vec<_>>(), v4);
    let all = Reach {
        interfaces: vec![lab.access, lab.core],
        locals: v4.clone(),
    };
    let used = Reach {
        interfaces: vec![lab.core],
        locals: v4[..1].to_vec(),
    };
    assert_eq!(kernel.withdraw(&all).unwrap(), used);
    lab.programs_become([false, true]);
    kernel.extend(&lab.interfaces(), &v4).unwrap();
    carry(&phone, at, &mcu, lab.source(V4), 10..15);
    assert_eq!(kernel.stats(at).unwrap().packets, 15);

    // Who starts next finds what came later, and media goes on meanwhile.
    drop(kernel);
    carry(&phone, at, &mcu, lab.source(V4), 15..20);
    let (mut kernel, adopted) = lab.start_with(&lab.interfaces(), &v4).unwrap();
    assert_eq!(adopted.len(), 1);
    carry(&phone, at, &mcu, lab.source(V4), 20..25);
    assert_eq!(kernel.stats(at).unwrap().packets, 25);

    kernel.remove(at, Instant::now()).unwrap();
    assert_eq!(kernel.withdraw(&used).unwrap(), Reach::default());
    lab.programs_become([true, false]);
    kernel.extend(&[core], &[]).unwrap();
    drop(kernel);
    // Nine maps, two links, the program.
    assert_eq!(detach(&lab.pins()).unwrap(), 12);
    lab.programs_become([false, false]);
}

/// Sends RTP and expects every packet, in order, from the source it should have.
fn carry(
    from: &UdpSocket,
    at: SocketAddr,
    to: &UdpSocket,
    source: SocketAddr,
    sequence: std::ops::Range<u16>,
) {
    to.set_read_timeout(Some(PATIENCE)).unwrap();
    for sequence in sequence {
        let packet = rtp(sequence, b"media");
        from.send_to(&packet, at).unwrap();
        let mut buffer = [0; 100];
        let (bytes, by) = to
            .recv_from(&mut buffer)
            .unwrap_or_else(|e| panic!("{sequence}: {e}"));
        assert_eq!((&buffer[..bytes], by), (&packet[..], source));
    }
}

/// Phone — access a0 · edge · b0 core — MCU, each in a namespace of its own, and a BPF file
/// system only this thread sees. All of it goes with the last handle.
struct Lab {
    bpffs: PathBuf,
    before: File,
    phone: File,
    edge: File,
    mcu: File,
    access: u32,
    core: u32,
}

#[derive(Clone, Copy)]
struct Family {
    v6: bool,
    phone: &'static str,
    access: &'static str,
    core: &'static str,
    mcu: &'static str,
}

const V4: Family = Family {
    v6: false,
    phone: "10.9.1.2",
    access: "10.9.1.1",
    core: "10.9.2.1",
    mcu: "10.9.2.7",
};
const V6: Family = Family {
    v6: true,
    phone: "fd00:9:1::2",
    access: "fd00:9:1::1",
    core: "fd00:9:2::1",
    mcu: "fd00:9:2::7",
};

fn mac(last: u8) -> Mac {
    Mac::from([0x02, 0x10, 0x20, 0x30, 0x40, last])
}

impl Lab {
    fn new() -> Self {
        let before = namespace();
        let [phone, mcu, edge] = std::array::from_fn(|_| {
            unshare(CloneFlags::CLONE_NEWNET)
                .unwrap_or_else(|e| panic!("cannot make a network namespace ({e}); run as root"));
            namespace()
        });
        // We are in the edge.
        for (own, other, last, there) in [("a0", "a1", 0xa0, &phone), ("b0", "b1", 0xb0, &mcu)] {
            let hex = |last| {
                <[u8; 6]>::from(mac(last))
                    .map(|b| format!("{b:02x}"))
                    .join(":")
            };
            let (own_mac, other_mac) = (hex(last), hex(last + 1));
            ip(&format!(
                "link add {own} address {own_mac} type veth peer name {other} address {other_mac}"
            ));
            let there = format!("/proc/{}/fd/{}", std::process::id(), there.as_raw_fd());
            ip(&format!("link set {other} netns {there}"));
        }
        let lab = Self {
            bpffs: bpffs(),
            before,
            access: nix::net::if_::if_nametoindex("a0").unwrap(),
            core: nix::net::if_::if_nametoindex("b0").unwrap(),
            phone,
            edge,
            mcu,
        };
        for family in [V4, V6] {
            let [phone, access, core, mcu] = [family.phone, family.access, family.core, family.mcu]
                .map(|a| {
                    if family.v6 {
                        format!("{a}/64 nodad")
                    } else {
                        format!("{a}/24")
                    }
                });
            for (there, name, address) in [
                (&lab.edge, "a0", access),
                (&lab.edge, "b0", core),
                (&lab.phone, "a1", phone),
                (&lab.mcu, "b1", mcu),
            ] {
                lab.inside(there, || {
                    ip(&format!("address add {address} dev {name}"));
                    ip(&format!("link set {name} up"));
                });
            }
            let neighbour = <[u8; 6]>::from(mac(0xa0))
                .map(|b| format!("{b:02x}"))
                .join(":");
            let access = family.access;
            lab.inside(&lab.phone, || {
                ip(&format!(
                    "neigh add {access} lladdr {neighbour} dev a1 nud permanent"
                ));
            });
        }
        for (there, name) in [(&lab.phone, "a1"), (&lab.mcu, "b1")] {
            lab.inside(there, || {
                // Whole checksums from the sender; NAPI, so that frames can be redirected to it.
                run(Command::new("ethtool").args(["-K", name, "tx", "off", "gro", "on"]));
            });
        }
        lab
    }

    fn inside<T>(&self, namespace: &File, what: impl FnOnce() -> T) -> T {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        let result = what();
        setns(&self.edge, CloneFlags::CLONE_NEWNET).unwrap();
        result
    }

    fn pins(&self) -> PathBuf {
        self.bpffs.join("towpath")
    }

    fn interfaces(&self) -> [Interface; 2] {
        [("a0", self.access), ("b0", self.core)].map(|(name, index)| Interface {
            name: name.into(),
            index,
        })
    }

    fn locals(&self) -> Vec<IpAddr> {
        [self.locals_of(V4), self.locals_of(V6)].concat()
    }

    fn locals_of(&self, family: Family) -> Vec<IpAddr> {
        [family.access, family.core]
            .map(|a| a.parse().unwrap())
            .to_vec()
    }

    fn start(&self) -> Result<(Kernel, Vec<Adopted>), KernelError> {
        self.start_with(&self.interfaces(), &self.locals())
    }

    fn start_with(
        &self,
        interfaces: &[Interface],
        locals: &[IpAddr],
    ) -> Result<(Kernel, Vec<Adopted>), KernelError> {
        self.start_for(FLOWS_MAX, interfaces, locals)
    }

    /// With room for as many flows as a configuration has that says nothing.
    fn start_wide(&self) -> (Kernel, Vec<Adopted>) {
        self.start_for(WIDE, &self.interfaces(), &self.locals())
            .unwrap()
    }

    fn start_for(
        &self,
        flows_max: u32,
        interfaces: &[Interface],
        locals: &[IpAddr],
    ) -> Result<(Kernel, Vec<Adopted>), KernelError> {
        let attach = Attach {
            object: &object(),
            pin_dir: &self.pins(),
            interfaces,
            native: true,
            flows_max,
            locals,
        };
        Kernel::start(&attach, Instant::now())
    }

    fn pinned(&self, map: &str) -> PathBuf {
        self.pins().join(format!("abi-{ABI}")).join(map)
    }

    /// The kernel forgets a pin when it gets round to it.
    fn programs_become(&self, expected: [bool; 2]) {
        let what = format!("programs {expected:?}");
        let there = || Ok((self.programs() == expected).then_some(()));
        clock::until(&what, PATIENCE, there).unwrap();
    }

    /// Whether access and core have a program.
    fn programs(&self) -> [bool; 2] {
        ["a0", "b0"].map(|name| {
            let link = Command::new("ip")
                .args(["-d", "link", "show", name])
                .output()
                .unwrap();
            String::from_utf8(link.stdout).unwrap().contains("prog/xdp")
        })
    }

    /// From the phone's port 4000 to the MCU's.
    fn flow(&self, family: Family, egress: u32, mcu_port: u16) -> (SocketAddr, Flow) {
        let at = SocketAddr::new(family.access.parse().unwrap(), 30_000);
        let rewrite = Rewrite {
            peer: SocketAddr::new(family.phone.parse().unwrap(), 4000).into(),
            source: self.source(family).into(),
            target: SocketAddr::new(family.mcu.parse().unwrap(), mcu_port).into(),
            tos: Some(0xb8),
            flags: Flags::NONE,
        };
        let hop = Hop {
            eth_src: mac(0xb0),
            eth_dst: mac(0xb1),
            egress,
            mtu: 1500,
        };
        (at, Flow::compile(Endpoint::from(at), rewrite, hop))
    }

    fn source(&self, family: Family) -> SocketAddr {
        SocketAddr::new(family.core.parse().unwrap(), 20_002)
    }

    fn phone(&self, family: Family) -> UdpSocket {
        let at = SocketAddr::new(family.phone.parse().unwrap(), 4000);
        self.inside(&self.phone, || UdpSocket::bind(at).unwrap())
    }

    fn mcu(&self, family: Family, port: u16) -> UdpSocket {
        let at = SocketAddr::new(family.mcu.parse().unwrap(), port);
        self.inside(&self.mcu, || UdpSocket::bind(at).unwrap())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        umount2(&self.bpffs, MntFlags::MNT_DETACH).unwrap();
        std::fs::remove_dir(&self.bpffs).unwrap();
        setns(&self.before, CloneFlags::CLONE_NEWNET).unwrap();
    }
}

/// This thread's network namespace.
fn namespace() -> File {
    File::open("/proc/thread-self/ns/net").unwrap()
}

/// A BPF file system that only this thread sees.
fn bpffs() -> PathBuf {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    let thread = nix::unistd::gettid();
    let dir = std::env::temp_dir().join(format!("towpath-adopt-{thread}"));
    std::fs::create_dir_all(&dir).unwrap();
    mount(Some("bpf"), &dir, Some("bpf"), MsFlags::empty(), none).unwrap();
    dir
}

fn ip(line: &str) {
    run(Command::new("ip").args(line.split(' ')));
}

fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn object() -> Vec<u8> {
    std::fs::read(process::object().unwrap()).unwrap()
}
