use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::engine::explain::testing::config;
use crate::engine::input::Input;
use crate::id::{Listener, Transport};

const NETWORKS: &str = "
[[network]]
name = 'lan'
interface = 'eth1'
address = '10.0.0.3'
peers = ['10.0.0.0/8', '192.168.1.0/24']
media_ports = '20000-20099'

[[network]]
name = 'wan'
interface = 'eth1'
address = '10.0.0.3'
advertise = '203.0.113.9'
advertise_ports = '40000-40099'
peers = ['0.0.0.0/0']
media_ports = '30000-30099'
source_rewriting_gateways = ['192.168.1.1']
";

#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can be had from the clock only; the tests count from this one"
)]
fn start() -> Instant {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    *START
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn send(engine: &mut Engine, from: &str, message: &str) -> String {
    let on = Listener {
        transport: Transport::Udp,
        local: at("10.0.0.3:5060"),
    };
    let bytes = Bytes::from(message.replace('\n', "\r\n"));
    let input = Input::Sip {
        on,
        from: at(from),
        bytes,
    };
    let mut effects = Vec::new();
    engine.handle(input, start(), &mut effects);
    format!("{effects:?}")
}

fn register(engine: &mut Engine, user: &str, from: &str, claimed: &str) {
    let answer = send(
        engine,
        from,
        &format!(
            "REGISTER sip:example.com SIP/2.0\nVia: SIP/2.0/UDP {claimed};branch=z9hG4bK{user}\n\
             Max-Forwards: 70\nFrom: <sip:{user}@example.com>;tag=1\n\
             To: <sip:{user}@example.com>\nCall-ID: {user}\nCSeq: 1 REGISTER\n\
             Contact: <sip:{user}@{claimed}>\nExpires: 600\nContent-Length: 0\n\n"
        ),
    );
    assert!(answer.contains("SIP/2.0 200"), "{answer}");
}

fn engine(networks: &str) -> Engine {
    Engine::new(config(networks), [7; 32], start())
}

/// A chain as text: questions and decisions, with `=` before facts, `<` before the rule, `@` before
/// its place, `-` before who lost and `>` before what follows.
fn text(explanation: &Explanation) -> String {
    let mut text = explanation.answer.join("\n");
    for step in &explanation.steps {
        text.push_str(&format!(
            "\n{}: {} {}",
            step.topic, step.question, step.decision
        ));
        for fact in &step.facts {
            text.push_str(&format!("\n  = {fact}"));
        }
        text.push_str(&format!("\n  < {}", step.reason.words));
        if let Some(key) = &step.reason.key {
            let place = step.reason.place.as_deref().unwrap_or("-");
            text.push_str(&format!("\n  @ {place} {key}"));
        }
        for loser in &step.losers {
            text.push_str(&format!("\n  - {}: {}", loser.network, loser.why));
        }
        if let Some(means) = &step.means {
            text.push_str(&format!("\n  > {means}"));
        }
    }
    text
}

#[track_caller]
fn check(found: &str, expected: &str) {
    let expected = expected.strip_prefix('\n').unwrap_or(expected);
    assert_eq!(found, expected, "\n{found}");
}

#[test]
fn a_client_behind_a_router_that_rewrites_sources() {
    let mut engine = engine(NETWORKS);
    register(
        &mut engine,
        "1001",
        "192.168.1.1:40213",
        "192.168.3.12:5060",
    );
    let now = start() + Duration::from_secs(6);
    let found = engine
        .explain_registration("1001@example.com", now)
        .unwrap();
    check(
        &text(&found.bindings[0].1),
        "
1001@example.com is registered with 192.168.1.1:40213, where its packets come from. Its Contact \
         says 192.168.3.12:5060; the packets decide.
The address in SDP has no part in registering; it is looked at in calls only.
It belongs to network wan, so it is told 203.0.113.9 in Contact, Via and SDP.
arrived: Where do its requests come from? 192.168.1.1:40213
  = REGISTER arrived at udp:10.0.0.3:5060 from 192.168.1.1:40213, 6 s ago
  = Via says 192.168.3.12:5060
  = Contact says 192.168.3.12:5060
  < the packet's source counts, whatever the message says of itself
  > answers go back there, from the address it was sent to
network: Which network? wan
  = packets arrive at 10.0.0.3 from 192.168.1.1
  < 192.168.1.1 rewrites sources: what comes from there is of this network
  @ towpath.toml:20 network.wan.source_rewriting_gateways[0]
  - lan: 192.168.1.0/24 holds 192.168.1.1, but a gateway comes before any prefix
  > it is told 203.0.113.9 in Contact, Via and SDP
nat: Is it behind a NAT? yes
  = a private address alone is no sign of a NAT
  < Via and Contact say 192.168.3.12:5060, its packets come from 192.168.1.1:40213
requests: Where do requests to it go? 192.168.1.1:40213
  = they leave from udp:10.0.0.3:5060
  < behind a NAT only the way its packets came leads back to it
told: Which address of ours is it told? 203.0.113.9:5060
  = we listen at udp:10.0.0.3:5060
  = media: 203.0.113.9, ports 40000-40099, which are our 30000-30099
  < its network is told another address, which a router leads to ours
  @ towpath.toml:16 network.wan.advertise
  > without a mapping in that router nothing from outside would arrive here
media: Where will its media go? back to where its packets come from
  < media = \"auto\": it is behind a NAT
  @ - network.wan.media
expiry: How long? another 54 s
  = it was granted 60 s
  = it has been registered for 6 s
  < behind a NAT at most 60 s: a changed mapping is soon noticed
  @ - sip.expires_natted_max
  > a packet every 25 s keeps the way to it open",
    );
}

#[test]
fn a_neighbour_is_where_it_says_it_is() {
    let mut engine = engine(NETWORKS);
    register(&mut engine, "1003", "10.0.0.5:5060", "10.0.0.5:5060");
    let found = engine
        .explain_registration("1003@example.com", start())
        .unwrap();
    let (view, explanation) = &found.bindings[0];
    assert_eq!(
        view.nat_why,
        "Via and Contact say the address its packets come from"
    );
    let found = text(explanation);
    for line in [
        "1003@example.com is registered with 10.0.0.5:5060: its packets come from there, and its \
         Contact says the same.\n",
        "network: Which network? lan\n",
        "\n  < 10.0.0.0/8 is the longest prefix that holds 10.0.0.5\n  @ towpath.toml:9 \
         network.lan.peers[0]\n  - wan: 0.0.0.0/0 holds 10.0.0.5 too, but is shorter\n",
        "nat: Is it behind a NAT? no\n",
        "\n  @ - network.lan.advertise\n",
        "expiry: How long? another 600 s\n",
    ] {
        assert!(found.contains(line), "{line}\n{found}");
    }
    assert!(
        engine
            .explain_registration("1004@example.com", start())
            .is_none()
    );
    assert!(engine.explain_registration("1003", start()).is_none());
}

/// The same client before and after the line is written: until it registers again it keeps what it
/// was given, and that is said.
#[test]
fn a_changed_configuration_counts_from_the_next_request_on() {
    let before = NETWORKS.replace("source_rewriting_gateways = ['192.168.1.1']\n", "");
    let mut engine = engine(&before);
    register(
        &mut engine,
        "1001",
        "192.168.1.1:40213",
        "192.168.3.12:5060",
    );
    engine.reconfigure(config(NETWORKS), start(), &mut Vec::new());
    let found = engine
        .explain_registration("1001@example.com", start())
        .unwrap();
    let found = text(&found.bindings[0].1);
    let expected = "network: Which network? lan\n\
                    \x20 = packets arrive at 10.0.0.3 from 192.168.1.1\n\
                    \x20 < so it was when it came; by the configuration of now it is wan, from its \
                    next request on\n\
                    \x20 > it is told 10.0.0.3 in Contact, Via and SDP\n";
    assert!(found.contains(expected), "{found}");
}

#[test]
fn what_would_become_of_a_stranger() {
    let engine = engine(&format!("{NETWORKS}max_calls = 8\n"));
    let ip = "198.51.100.7".parse().unwrap();
    let found = engine.explain_peer(ip, None, start()).unwrap();
    assert_eq!(found.towards, Some(crate::id::NetworkId(1)));
    assert_eq!((found.registrations.len(), found.calls.len()), (0, 0));
    check(
        &text(&found.locals[0].1),
        "
A packet from 198.51.100.7 that arrives at 10.0.0.3 belongs to network wan; its sender is told \
         203.0.113.9 in Contact, Via and SDP.
network: Which network? wan
  = packets arrive at 10.0.0.3 from 198.51.100.7
  < 0.0.0.0/0 is the longest prefix that holds 198.51.100.7
  @ towpath.toml:18 network.wan.peers[0]
  - lan: none of its prefixes holds 198.51.100.7
  > it is told 203.0.113.9 in Contact, Via and SDP
told: Which address of ours is it told? 203.0.113.9:5060
  = we listen at udp:10.0.0.3:5060
  = media: 203.0.113.9, ports 40000-40099, which are our 30000-30099
  < its network is told another address, which a router leads to ours
  @ towpath.toml:16 network.wan.advertise
  > without a mapping in that router nothing from outside would arrive here
media: Where will its media go? where its SDP says; if it is behind a NAT, back to where its \
         packets come from
  < media = \"auto\": each is treated as it shows itself
  @ - network.wan.media
capacity: Is there room for another call? yes
  = calls: 0 of 8
  = kbit/s: 0
  < its network has a limit
  @ towpath.toml:21 network.wan.max_calls",
    );
    assert!(engine.explain_peer(ip, Some(ip), start()).is_none());
}

#[test]
fn who_uses_a_network() {
    let mut engine = engine(NETWORKS);
    register(
        &mut engine,
        "1001",
        "192.168.1.1:40213",
        "192.168.3.12:5060",
    );
    register(
        &mut engine,
        "1002",
        "192.168.1.1:40214",
        "192.168.3.13:5060",
    );
    register(&mut engine, "1003", "10.0.0.5:5060", "10.0.0.5:5060");
    let usage = engine.network_usage(start());
    let shown: Vec<(usize, usize, usize)> = usage
        .values()
        .map(|u| (u.registrations, u.peers.len(), u.ports.free))
        .collect();
    assert_eq!(shown, [(1, 1, 50), (2, 1, 50)]);
}
