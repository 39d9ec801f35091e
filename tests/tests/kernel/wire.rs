//! Tags on real links: two programs in a row on veth pairs, in their drivers. The second lets in
//! what the first has tagged, and nothing else.

use std::net::SocketAddr;
use std::time::Duration;

use common::flow::{Flow, Hop, Rewrite};
use nix::net::if_::if_nametoindex;
use towpath_tests::clock;
use towpath_tests::frame::{Datagram, Seen};
use towpath_tests::netns::{Namespace, stale};
use towpath_tests::packet::{Direction, PacketSocket};

use super::*;

const LIMIT: Duration = Duration::from_secs(5);
const HARDWARE: [u8; 6] = [0x02, 0x70, 0x57, 0, 0, 1];

/// (as it is sent, as the first flow sends it on, in between)
#[test]
fn tags_go_over_real_links() {
    let wire = Wire::lay();
    for v6 in [false, true] {
        wire.check(v6, None, 0, 200);
        wire.check(v6, Some(0x6064), 100, 0);
        wire.check(v6, Some(0x6064), 100, 200);
        wire.check(v6, None, 0, 0);
    }
}

/// a1 → a0 [first] b0 → b1 [second] → b0: who listens there sees what comes back.
struct Wire {
    source: Namespace,
    relay: Namespace,
    far: Namespace,
}

impl Wire {
    fn lay() -> Self {
        let [source, relay, far] =
            [(); 3].map(|()| Namespace::create(&stale::unique_name()).unwrap());
        relay.veth("a0", &source, "a1").unwrap();
        relay.veth("b0", &far, "b1").unwrap();
        for (end, name) in [
            (&source, "a1"),
            (&relay, "a0"),
            (&relay, "b0"),
            (&far, "b1"),
        ] {
            let tags = ["-K", name, "txvlan", "off", "rxvlan", "off"];
            end.run("ethtool", &tags).unwrap();
        }
        Self { source, relay, far }
    }

    fn check(&self, v6: bool, tag: Option<u16>, vlan_in: u16, between: u16) {
        let at = |host: u8, port: u16| -> SocketAddr {
            let ip = if v6 {
                format!("fd00:70::{host:x}")
            } else {
                format!("10.70.0.{host}")
            };
            SocketAddr::new(ip.parse().unwrap(), port)
        };
        let [peer, first, out, second, back, target] = [
            (1, 4000),
            (2, 5000),
            (3, 6000),
            (4, 7000),
            (5, 8000),
            (6, 9000),
        ]
        .map(|(host, port)| at(host, port));
        let mut there = self.far.enter(|| program(None, "b1")).unwrap();
        let mut here = self.relay.enter(|| program(Some("b0"), "a0")).unwrap();
        let ingress = self.relay.enter(|| if_nametoindex("a0").unwrap()).unwrap();
        here.install(&[flow(first, [peer, out, second], here.egress)
            .arriving(ingress, vlan_in)
            .leaving(between)]);
        let turned = there.egress;
        there.install(&[flow(second, [out, back, target], turned).arriving(turned, between)]);
        let sent = Datagram {
            tag,
            ..Datagram::new(peer, first, rtp(7, b"over real links"))
        };
        let seen = self
            .relay
            .enter(|| PacketSocket::open("b0"))
            .unwrap()
            .unwrap();
        let send = self
            .source
            .enter(|| PacketSocket::open("a1"))
            .unwrap()
            .unwrap();
        send.send(&sent.build()).unwrap();
        let mut buffer = [0; 2048];
        let frame = clock::until("the frame that comes back", LIMIT, || {
            while let Some((frame, direction)) = seen.receive(&mut buffer)? {
                match read(frame) {
                    Ok(frame) if direction == Direction::In && frame.from == back => {
                        return Ok(Some(frame));
                    }
                    Ok(_) | Err(_) => {}
                }
            }
            Ok(None)
        });
        let expected = Seen {
            eth_dst: HARDWARE,
            eth_src: HARDWARE,
            tag: None,
            from: back,
            to: target,
            tos: 0,
            hops: sent.hops - 2,
            checksum: true,
            payload: sent.payload,
        };
        assert_eq!(frame.unwrap(), expected);
    }
}

/// A program at an interface, with a way out: back, or by another one.
fn program(out: Option<&str>, interface: &str) -> Both {
    let egress = if_nametoindex(out.unwrap_or(interface)).unwrap();
    let mut both = Both::beside(egress);
    both.attach(interface);
    // A veth takes frames from programs only where one is attached.
    if let Some(out) = out {
        both.attach(out);
    }
    both
}

fn flow(local: SocketAddr, [peer, source, target]: [SocketAddr; 3], egress: u32) -> Flow {
    let rewrite = Rewrite {
        peer: peer.into(),
        source: source.into(),
        target: target.into(),
        tos: None,
        flags: Flags::NONE,
    };
    let hop = Hop {
        eth_src: HARDWARE.into(),
        eth_dst: HARDWARE.into(),
        egress,
        mtu: 1500,
    };
    let mut flow = Flow::compile(local.into(), rewrite, hop);
    (flow.stats, flow.generation) = (1, 1);
    flow
}
