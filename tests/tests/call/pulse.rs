//! What an operator is told of running media: first packets, silence, one-way, strangers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use control::engine::event::Kind;
use towpath_tests::sim::phone::Manner;
use towpath_tests::sim::world::World;

use super::{BOTH, SECOND, connect, ms, pair};

const MEDIA: [Kind; 5] = [
    Kind::MediaFirst,
    Kind::MediaSilent,
    Kind::MediaOneWay,
    Kind::MediaResumed,
    Kind::MediaSource,
];

/// Each with its leg, from the `since`th event on.
fn told(world: &World, since: u64) -> Vec<(&'static str, String)> {
    let events = world.edge().engine.events(since);
    let mut told: Vec<_> = events
        .filter(|event| MEDIA.contains(&event.kind))
        .map(|event| {
            assert_eq!(event.subject, "1");
            let leg = event.fields.iter().find(|(name, _)| *name == "leg");
            (event.kind.name(), leg.unwrap().1.clone())
        })
        .collect();
    told.sort();
    told
}

fn one(kind: &'static str, leg: &str) -> (&'static str, String) {
    (kind, leg.to_owned())
}

#[test]
fn silence_is_told_when_it_begins_and_when_it_ends() {
    for datapath in BOTH {
        let mut world = World::new(90, datapath);
        let (a, b) = pair(&mut world, Manner::EAGER);
        let (call, other) = connect(&mut world, a, b, "1002");
        world.talk((a, call), (b, other), 3 * SECOND);
        let first = [one("media.first", "callee"), one("media.first", "caller")];
        assert_eq!(told(&world, 0), first);

        // Nothing of b comes through any more.
        let mute = Arc::new(AtomicBool::new(true));
        let muted = mute.clone();
        let deaf: std::net::IpAddr = "10.0.0.32".parse().unwrap();
        world.sim.steal(move |packet| {
            let silent = muted.load(Ordering::Relaxed);
            silent && packet.from.ip() == deaf && !packet.is_sip()
        });
        let since = world.edge().engine.last_event();
        world.sim.run_for(20 * SECOND);
        assert_eq!(told(&world, since), [one("media.one_way", "callee")]);
        let silence = |world: &World| {
            let all = world.edge().engine.silence().values();
            all.fold((0, 0), |sum, s| (sum.0 + s.streams, sum.1 + s.one_way))
        };
        assert_eq!(silence(&world), (1, 1));

        let since = world.edge().engine.last_event();
        mute.store(false, Ordering::Relaxed);
        world.sim.run_for(3 * SECOND);
        assert_eq!(told(&world, since), [one("media.resumed", "callee")]);
        assert_eq!(silence(&world), (0, 0));
        world.finish(&[a, b]);
    }
}

/// Each stranger once, a few in a call; all are counted.
#[test]
fn a_few_strangers_are_named() {
    for datapath in BOTH {
        let mut world = World::new(91, datapath);
        let lan = world.lan;
        let at = |n: u8| SocketAddr::from(([10, 0, 0, 100 + n], 4444));
        let strangers: Vec<_> = (0..9).map(|n| world.sim.add_stranger(lan, at(n))).collect();
        let (a, b) = pair(&mut world, Manner::EAGER);
        let (call, other) = connect(&mut world, a, b, "1002");
        world.talk((a, call), (b, other), SECOND);
        let ssrc = world.sim.phone(b).call(other).rtp.ssrc;
        let port = world.edge().engine.sockets_wanted();
        let port = *port.iter().find(|at| at.port() % 2 == 0).unwrap();
        for stranger in strangers {
            let now = world.sim.now();
            let ports = port.port()..=port.port();
            world
                .sim
                .stranger(stranger)
                .spray(port, ports, ms(20), ssrc, now);
            world.sim.run_for(5 * SECOND);
            world.sim.stranger(stranger).stop();
        }
        let events = world.edge().engine.events(0);
        let named: Vec<_> = events
            .filter(|event| event.kind == Kind::Stranger)
            .map(|event| {
                let field = |name: &str| {
                    let field = event.fields.iter().find(|(n, _)| *n == name);
                    field.unwrap().1.clone()
                };
                (
                    event.subject.clone(),
                    field("source"),
                    field("at"),
                    field("leg"),
                )
            })
            .collect();
        assert_eq!(named.len(), 4, "{named:?}");
        for (n, named) in (0..).zip(&named) {
            assert_eq!(named.0, "1");
            assert_eq!(named.1, at(n).to_string());
            assert_eq!(named.2, port.to_string());
            assert!(
                ["caller", "callee"].contains(&named.3.as_str()),
                "{named:?}"
            );
        }
        world.finish(&[a, b]);
    }
}
