//! Kernel, cards, files: everything but packets' way.

use towpath_tests::lab::Role;
use towpath_tests::xdp::{self, Verdict};

use super::{CASE, Case, LAN, Net, Patient};

const CASES: &[Case] = &[
    Case {
        name: "the file is wrong",
        config: |config| config.media_timeout = "soon",
        finds: &[("config", "fail")],
        says: "soon",
        ..CASE
    },
    Case {
        name: "the address has gone",
        does: "ip addr del 10.9.0.1/24 dev core; ip addr add 10.9.0.3/24 dev core",
        undoes: "ip addr del 10.9.0.3/24 dev core; ip addr add 10.9.0.1/24 dev core",
        finds: &[("config", "fail")],
        says: "10.9.0.1 is not an address of core",
        ..CASE
    },
    Case {
        name: "no BPF file system",
        config: |config| config.pin_dir = "/tmp/no-bpffs/towpath".into(),
        finds: &[("bpffs", "fail")],
        says: "mount -t bpf bpf /tmp/no-bpffs",
        ..CASE
    },
    Case {
        name: "no kernel program",
        config: |config| config.object = Some("/no/such/relay".into()),
        finds: &[("xdp.object", "fail")],
        says: "/no/such/relay: No such file",
        ..CASE
    },
    Case {
        name: "no right to load it",
        under: "set -- setpriv --bounding-set=-bpf,-sys_admin -- \"$@\"",
        finds: &[("caps.bpf", "fail")],
        says: "CAP_BPF CAP_NET_ADMIN",
        ..CASE
    },
    Case {
        name: "a card that takes no frames from XDP",
        config: |config| {
            config.networks[2] = Net {
                name: "core",
                interface: "lone",
                address: "10.77.0.1",
                peers: "10.77.0.0/24",
                ..config.networks[2].clone()
            }
        },
        does: "ip link add lone type veth peer name lone2; ip link set lone up; \
               ip link set lone2 up; ip addr add 10.77.0.1/24 dev lone",
        undoes: "ip link del lone",
        finds: &[("xdp.features", "fail")],
        says: "lone: BASIC REDIRECT RX_SG",
        ..CASE
    },
    Case {
        name: "MTUs that differ",
        does: "ip link set core mtu 1400",
        undoes: "ip link set core mtu 1500",
        finds: &[("nic.mtu", "warn")],
        says: "mtu 1400",
        ..CASE
    },
    Case {
        name: "an MTU too small for video",
        does: "ip link set core mtu 1000",
        undoes: "ip link set core mtu 1500",
        finds: &[("nic.mtu", "fail")],
        says: "core: 1000",
        ..CASE
    },
    Case {
        name: "a full disk",
        config: |config| config.store = "/tmp/towpath-full/state.redb".into(),
        does: "mkdir -p /tmp/towpath-full",
        undoes: "rmdir /tmp/towpath-full",
        under: "set -- unshare -m sh -c 'mount -t tmpfs -o size=1m none /tmp/towpath-full; \
                exec \"$@\"' sh \"$@\"",
        finds: &[("disk", "fail")],
        says: "state /tmp/towpath-full: 1 of 1 MiB free",
        ..CASE
    },
    Case {
        name: "a disk that may not be written",
        config: |config| config.store = "/tmp/towpath-closed/state.redb".into(),
        does: "mkdir -p /tmp/towpath-closed",
        undoes: "rmdir /tmp/towpath-closed",
        under: "set -- unshare -m sh -c 'mount -t tmpfs -o ro none /tmp/towpath-closed; \
                exec \"$@\"' sh \"$@\"",
        finds: &[("disk", "fail")],
        says: "install -d -o towpath -g towpath /tmp/towpath-closed",
        ..CASE
    },
    Case {
        name: "few open files",
        under: "ulimit -n 1500",
        finds: &[("fd", "warn")],
        says: "RLIMIT_NOFILE 1500",
        ..CASE
    },
    Case {
        name: "hardly any open files",
        under: "ulimit -n 256",
        finds: &[("fd", "fail")],
        says: "RLIMIT_NOFILE 256",
        ..CASE
    },
    Case {
        name: "a clock that follows nobody",
        under: "mkdir -p $D/bin; printf '#!/bin/sh\\necho no\\n' > $D/bin/timedatectl; \
                chmod +x $D/bin/timedatectl; PATH=$D/bin:$PATH",
        finds: &[("clock", "warn")],
        says: "asked: timedatectl",
        ..CASE
    },
    Case {
        name: "more flows than memory",
        config: |config| config.flows = 1_048_576,
        under: "set -- unshare -m sh -c 'printf \"MemAvailable: 204800 kB\\n\" > $D/meminfo; \
                mount --bind $D/meminfo /proc/meminfo; exec \"$@\"' sh \"$@\"; export D",
        finds: &[("mem", "warn")],
        says: "available 200 MiB",
        ..CASE
    },
];

#[test]
fn what_is_wrong_with_the_host_is_named() {
    let patient = Patient::new();
    patient.all(CASES);
}

/// What another version pinned: with it, two programs would forward.
#[test]
fn leftovers_of_another_layout_are_named() {
    let patient = Patient::new();
    let left = patient.config.pin_dir.join("abi-4242");
    std::fs::create_dir_all(&left).unwrap();
    let case = Case {
        name: "leftovers of another layout",
        finds: &[("bpffs", "warn")],
        says: "towpath bpf detach --pin-dir",
        ..CASE
    };
    patient.broken(&case, &[]);
    std::fs::remove_dir(&left).unwrap();
    assert_eq!(patient.healthy(&[]), patient.usual);
}

/// Somebody else's program at a card of ours.
#[test]
fn a_foreign_program_is_named() {
    let patient = Patient::new();
    let edge = patient.lab.namespace(Role::Edge).unwrap();
    let program = xdp::attach(edge, LAN.interface, Verdict::Pass).unwrap();
    let case = Case {
        name: "a foreign program",
        finds: &[("xdp.foreign", "fail")],
        says: "ip link set dev lan xdp off",
        ..CASE
    };
    patient.broken(&case, &[]);
    drop(program);
}
