//! REFER and what follows it (RFC 3515, RFC 3891, RFC 3892).

use control::engine::admin::Command;
use control::sip::index::{Message, Name};
use towpath_tests::sim::NodeId;
use towpath_tests::sim::edge::Datapath;
use towpath_tests::sim::phone::{Dial, Manner};
use towpath_tests::sim::world::World;

use super::{SECOND, connect, far_pair};

fn ask(world: &mut World, from: NodeId, call: usize, method: &str, lines: &str) {
    world.sim.act(from, |p, now, out| {
        p.request(call, method, lines.as_bytes(), None, now, out);
    });
    world.sim.run_for(SECOND);
}

fn last(world: &World, at: NodeId, method: &str) -> Message {
    let requests = world.sim.phone(at).requests(method);
    (*requests.last().unwrap()).clone()
}

/// The subscription a REFER makes is named by its number (RFC 3515 §2.4.6), which differs between
/// the legs once a request of our own took one.
#[test]
fn a_notify_names_its_refer() {
    let mut world = World::new(310, Datapath::Sockets);
    let (a, b) = far_pair(&mut world, Manner::EAGER);
    let (call, other) = connect(&mut world, a, b, "1002");
    let ends = [(a, call, b, other), (b, other, a, call)];
    for moved in [false, true] {
        if moved {
            let edge = world.edge;
            world.sim.order(edge, |edge, now, _| {
                let order = Command::Refresh { call: 1 };
                let mut effects = Vec::new();
                edge.engine.command(order, now, &mut effects).unwrap();
            });
            world.sim.run_for(5 * SECOND);
        }
        for (from, its, to, theirs) in ends {
            let mut numbers = Vec::new();
            for _ in 0..2 {
                let refer = "Refer-To: <sip:1003@example.com>\r\nReferred-By: <sip:x@y>\r\n";
                ask(&mut world, from, its, "REFER", refer);
                let there = last(&world, to, "REFER").cseq().0;
                let answers = world.sim.phone(from).heard.iter();
                let mut answers = answers.filter(|m| m.code() == Some(202));
                numbers.push((answers.next_back().unwrap().cseq().0, there));
            }
            for (here, there) in &numbers {
                assert_eq!(here != there, moved);
                let event = format!("Event: refer ;id={there};x=\"{there}\"\r\n");
                ask(&mut world, to, theirs, "NOTIFY", &event);
                let notify = last(&world, from, "NOTIFY");
                let expected = format!("refer ;id={here};x=\"{there}\"");
                assert_eq!(notify.get(Name::Event).unwrap(), expected.as_bytes());
                // Its sender ends the subscription.
                let event = format!("Event: refer;id={here}\r\nExpires: 0\r\n");
                ask(&mut world, from, its, "SUBSCRIBE", &event);
                let subscribe = last(&world, to, "SUBSCRIBE");
                let expected = format!("refer;id={there}");
                assert_eq!(subscribe.get(Name::Event).unwrap(), expected.as_bytes());
            }
        }
    }
    world.finish(&[a, b]);
}

/// Call-ID and tags are the same on both legs, so that a Replaces header of one phone names what
/// the other one knows.
#[test]
fn replaces_names_the_same_call_on_both_sides() {
    let mut world = World::new(311, Datapath::Sockets);
    let (a, b) = far_pair(&mut world, Manner::EAGER);
    connect(&mut world, a, b, "1002");
    let lan = world.lan;
    let c = world.registered("1003", lan, "10.0.0.33", Manner::EAGER);
    let invite = last(&world, b, "INVITE");
    let mut heard = world.sim.phone(a).heard.iter();
    let answer = heard.rfind(|m| m.code() == Some(200) && m.cseq().1 == b"INVITE");
    let answer = answer.unwrap().clone();
    assert_eq!(invite.call_id(), answer.call_id());
    let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
    let lines = format!(
        "Replaces: {};to-tag={};from-tag={}\r\nReferred-By: <sip:1002@example.com>;cid=\"1@x\"\r\n",
        text(Some(answer.call_id())),
        text(answer.from_tag()),
        text(answer.to_tag()),
    );
    let dial = Dial {
        user: "1001".into(),
        lines: lines.clone().into_bytes(),
        ..Dial::default()
    };
    let replacing = world.dial_as(c, &dial);
    assert_eq!(world.settle(c, replacing), 200);
    let replacing = last(&world, a, "INVITE");
    let bytes = replacing.bytes();
    let whole = bytes.windows(lines.len()).any(|w| w == lines.as_bytes());
    assert!(whole, "{}", bytes.escape_ascii());
    // What it names is a dialog of its receiver's.
    assert_eq!(text(invite.from_tag()), text(answer.from_tag()));
    world.finish(&[a, b, c]);
}
