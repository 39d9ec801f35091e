//! Networks and peers that carry so many calls, and so much of their bandwidth, and no more.

use control::config::Limits;
use control::engine::Load;
use control::id::NetworkId;
use control::sip::index::{Message, Name};
use towpath_tests::sim::edge::Datapath;
use towpath_tests::sim::phone::{Dial, Manner, Offer, State};
use towpath_tests::sim::sdp::{Direction, Kind};
use towpath_tests::sim::world::World;

use super::*;

const LAN: NetworkId = NetworkId(0);

/// An audio line of which nobody says how much it takes.
const AUDIO: u64 = 88;

fn limits(calls: Option<u32>, bandwidth: Option<u32>) -> Limits {
    Limits { calls, bandwidth }
}

/// The usual site, with limits for the LAN and for the conference server.
fn stage(seed: u64, lan: Limits, mcu: Limits) -> World {
    let mut world = World::new(seed, Datapath::Frames);
    limit(&mut world, lan, mcu);
    world
}

fn limit(world: &mut World, lan: Limits, mcu: Limits) {
    let mut config = world.edge().engine.config().clone();
    config.networks[0].limits = lan;
    config.sip.peers[0].limits = mcu;
    let edge = world.edge;
    let sim = &mut world.sim;
    sim.order(edge, |edge, now, out| edge.reconfigure(config, now, out));
}

fn load(world: &World) -> (u64, u64) {
    let Load { calls, bandwidth } = world.edge().engine.network_load(LAN);
    (calls, bandwidth)
}

fn refusal(world: &World, phone: NodeId, code: u16) -> Message {
    let heard = &world.sim.phone(phone).heard;
    heard
        .iter()
        .rfind(|m| m.code() == Some(code))
        .unwrap()
        .clone()
}

#[test]
fn a_network_takes_so_many_calls() {
    let mut world = stage(95, limits(Some(1), None), Limits::default());
    let (a, b) = pair(&mut world, Manner::EAGER);
    let (lan, wan) = (world.lan, world.wan);
    let c = world.registered("1003", lan, "10.0.0.33", Manner::EAGER);
    let d = world.registered("1004", wan, "192.0.2.44", Manner::EAGER);
    let e = world.registered("1005", wan, "192.0.2.45", Manner::EAGER);
    // Both parties are in it: one call, each leg's media.
    let (call, _) = connect(&mut world, a, b, "1002");
    assert_eq!(load(&world), (1, 2 * AUDIO));
    // A caller in it hears when to come again; one who calls into it may call others.
    assert_eq!(world.call(c, "1002"), 503);
    assert_eq!(
        refusal(&world, c, 503).get(Name::RetryAfter),
        Some(&b"10"[..])
    );
    assert_eq!(world.call(d, "1002"), 503);
    assert_eq!(refusal(&world, d, 503).get(Name::RetryAfter), None);
    assert_eq!(world.counted("sip_refused", "network_calls"), 2);
    assert_eq!(world.call(d, "1005"), 200);
    world.hang_up(a, call);
    world.sim.run_for(SECOND);
    assert_eq!(load(&world), (0, 0));
    assert_eq!(world.call(c, "1002"), 200);
    // A lower limit ends nothing.
    limit(&mut world, limits(Some(1), Some(10)), Limits::default());
    assert_eq!(load(&world), (1, 2 * AUDIO));
    world.finish(&[a, b, c, d, e]);
}

#[test]
fn a_peer_takes_so_many_calls_and_the_next_one_the_others() {
    let mut world = stage(96, Limits::default(), limits(Some(1), None));
    let mcu = world.mcu(Manner::EAGER);
    let (a, b) = pair(&mut world, Manner::EAGER);
    assert_eq!(world.call(a, "8001"), 200);
    assert_eq!(world.call(b, "8002"), 503);
    assert_eq!(refusal(&world, b, 503).get(Name::RetryAfter), None);
    // It calls: that counts as well.
    assert_eq!(world.call(mcu, "1002"), 503);
    assert_eq!(
        refusal(&world, mcu, 503).get(Name::RetryAfter),
        Some(&b"10"[..])
    );
    assert_eq!(world.counted("sip_refused", "peer_calls"), 2);
    // Another peer has the same route.
    let lan = world.lan;
    let other = world.phone("mcu2", lan, "10.0.0.21", Manner::EAGER);
    let mut config = world.edge().engine.config().clone();
    let mut second = config.sip.peers[0].clone();
    second.name = "second".to_owned();
    second.addresses[0].address = "10.0.0.21:5060".parse().unwrap();
    config.sip.peers.push(second);
    let edge = world.edge;
    world
        .sim
        .order(edge, |edge, now, out| edge.reconfigure(config, now, out));
    assert_eq!(world.call(b, "8002"), 200);
    assert_eq!(world.sim.phone(other).calls.len(), 1);
    assert_eq!(world.edge().engine.peer_load("mcu").calls, 1);
    assert_eq!(world.edge().engine.peer_load("second").calls, 1);
    world.finish(&[a, b, mcu, other]);
}

#[test]
fn a_call_that_asks_for_too_much_is_refused_and_one_that_grows_goes_on() {
    let mut world = stage(97, limits(None, Some(400)), Limits::default());
    let (a, b) = pair(&mut world, Manner::EAGER);
    let lan = world.lan;
    let c = world.registered("1003", lan, "10.0.0.33", Manner::EAGER);
    let (call, other) = connect(&mut world, a, b, "1002");
    assert_eq!(load(&world), (1, 2 * AUDIO));
    // Video is more than there is: the call stays as it was.
    let grow = Offer {
        adds: Some(Kind::Video),
        ..Offer::default()
    };
    world
        .sim
        .act(a, |p, now, out| p.offer(call, &grow, now, out));
    world.sim.run_for(2 * SECOND);
    let warning = &b"370 example.com \"Insufficient bandwidth\""[..];
    assert_eq!(refusal(&world, a, 488).get(Name::Warning), Some(warning));
    assert_eq!(world.counted("sip_refused", "network_bandwidth"), 1);
    assert_eq!(load(&world), (1, 2 * AUDIO));
    assert_eq!(world.sim.phone(a).call(call).state, State::Up);
    world.talk((a, call), (b, other), SECOND);
    // What says how much it takes counts so much: 112 twice is more than what is left, by one.
    let sdp = |kbits: u32| {
        let at = "10.0.0.33:4000".parse().unwrap();
        let mut body =
            towpath_tests::sim::sdp::Description::audio(at, Direction::SendRecv, 1).write();
        body.extend(format!("b=AS:{kbits}\r\n").bytes());
        Dial {
            user: "1002".to_owned(),
            body: Some(("application/sdp".to_owned(), body)),
            ..Dial::default()
        }
    };
    let refused = world.dial_as(c, &sdp(113));
    assert_eq!(world.settle(c, refused), 488);
    let fits = world.dial_as(c, &sdp(112));
    assert_eq!(world.settle(c, fits), 200);
    assert_eq!(load(&world), (2, 400));
    // Hold takes nothing more.
    world.sim.act(a, |p, now, out| {
        p.hold(call, Direction::SendOnly, false, now, out)
    });
    world.sim.run_for(SECOND);
    assert_eq!(load(&world), (2, 400));
    world.finish(&[a, b, c]);
}
