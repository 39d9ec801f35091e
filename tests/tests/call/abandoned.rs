//! Calls whose parties are gone, or have agreed to be taken for gone (RFC 4028).

use control::sip::index::Name;
use towpath_tests::sim::NodeId;
use towpath_tests::sim::edge::Datapath;
use towpath_tests::sim::phone::{By, Manner, Offer, State};
use towpath_tests::sim::sdp::Direction;
use towpath_tests::sim::world::World;

use super::{SECOND, connect, far_pair, ms};

const MINUTE: std::time::Duration = std::time::Duration::from_secs(60);

fn hold(world: &mut World, phone: NodeId, call: usize, direction: Direction, by: By) {
    let offer = Offer {
        direction: Some((direction, false)),
        by,
        ..Offer::default()
    };
    world
        .sim
        .act(phone, |p, now, out| p.offer(call, &offer, now, out));
}

/// The agreed interval without a re-INVITE or UPDATE: both get a BYE. Each of these begins it anew.
#[test]
fn a_session_timer_ends_a_call() {
    for direction in [Direction::Inactive, Direction::SendRecv] {
        let mut world = World::new(300, Datapath::Sockets);
        let (a, b) = far_pair(&mut world, Manner::EAGER);
        for phone in [a, b] {
            world.sim.phone_mut(phone).session_expires = Some("100;refresher=uac");
        }
        let (call, other) = connect(&mut world, a, b, "1002");
        for by in [By::Invite, By::Update, By::Invite] {
            world.sim.run_for(90 * SECOND);
            hold(&mut world, a, call, direction, by);
            world.sim.run_for(SECOND);
        }
        let heard = world.sim.phone(a).heard.iter();
        let agreed = heard.filter_map(|m| m.get(Name::SessionExpires));
        let agreed: Vec<_> = agreed
            .map(|value| value.escape_ascii().to_string())
            .collect();
        assert_eq!(agreed, ["100;refresher=uac"; 4]);
        world.sim.run_for(98 * SECOND);
        let states = |world: &World| {
            let state = |phone, call: usize| world.sim.phone(phone).call(call).state;
            (state(a, call), state(b, other))
        };
        assert_eq!(states(&world), (State::Up, State::Up));
        world.sim.run_for(3 * SECOND);
        assert_eq!(states(&world), (State::Over, State::Over));
        assert_eq!(world.counted("call_ended", "session_timer"), 1);
        assert_eq!(world.edge().records[0].ended_by, "session timer");
        world.finished(&[a, b]);
    }
}

/// An agreement that is not repeated is over (RFC 4028 §10).
#[test]
fn a_session_timer_that_is_given_up() {
    let mut world = World::new(301, Datapath::Sockets);
    let (a, b) = far_pair(&mut world, Manner::EAGER);
    world.sim.phone_mut(b).session_expires = Some("90");
    let (call, other) = connect(&mut world, a, b, "1002");
    world.sim.phone_mut(b).session_expires = None;
    hold(&mut world, a, call, Direction::SendRecv, By::Update);
    world.sim.run_for(200 * SECOND);
    world.talk((a, call), (b, other), SECOND);
    world.finish(&[a, b]);
}

/// A call on hold lasts as long as both are there, without a timer too.
#[test]
fn held_calls_last() {
    let mut world = World::new(302, Datapath::Sockets);
    let (a, b) = far_pair(&mut world, Manner::EAGER);
    let (call, other) = connect(&mut world, a, b, "1002");
    hold(&mut world, a, call, Direction::Inactive, By::Invite);
    world.sim.run_for(40 * MINUTE);
    assert_eq!(world.counted("call_probe", "sent"), 4);
    assert_eq!(world.counted("call_probe", "alive"), 4);
    hold(&mut world, b, other, Direction::SendRecv, By::Invite);
    world.sim.run_for(ms(500));
    hold(&mut world, a, call, Direction::SendRecv, By::Invite);
    world.sim.run_for(ms(500));
    world.talk((a, call), (b, other), SECOND);
    world.finish(&[a, b]);
}

#[test]
fn a_held_call_of_the_dead_ends() {
    for forgets in [false, true] {
        let mut world = World::new(303, Datapath::Sockets);
        let (a, b) = far_pair(&mut world, Manner::EAGER);
        let (call, _) = connect(&mut world, a, b, "1002");
        hold(&mut world, a, call, Direction::Inactive, By::Invite);
        world.sim.run_for(SECOND);
        if forgets {
            // Restarted: it knows nothing of the call, and says so (481).
            world.sim.phone_mut(b).calls.clear();
        } else {
            world.sim.phone_mut(b).manner.dead = true;
        }
        world.sim.run_for(14 * MINUTE);
        assert_eq!(world.sim.phone(a).call(call).state, State::Up);
        world.sim.run_for(2 * MINUTE);
        let state = world.sim.phone(a).call(call).state;
        assert_eq!(state, State::Over, "{forgets} {}", world.sim.story());
        assert_eq!(world.edge().records[0].ended_by, "party gone");
        assert_eq!(world.counted("call_ended", "party_gone"), 1);
        world.sim.phone_mut(b).calls.clear();
        world.finished(&[a, b]);
    }
}
