//! Row 5 as it was: the request to speak, sent over MQTT, which clients drop that know the server
//! by another address than the message says. Clients register by SIP and connect by MQTT where they
//! live: in the LAN, behind a router that maps ports, at a second card.

use std::net::SocketAddr;

use serde_json::{Value, json};
use towpath_tests::mqtt::client::{Came, Client};
use towpath_tests::mqtt::wire::Writer;
use towpath_tests::{clock, http};

use super::super::stage::LIMIT;
use super::*;

/// Who lives where, and the address each registers with.
const PLACES: [(Role, &str, &str); 3] = [
    (Role::C3, "1003", PRIVATE),
    (Role::Outside, "1007", PUBLIC),
    (Role::Attacker, "1006", plan::EDGE_WAN), // an ordinary host here
];
/// The router maps TCP of one port as well: MQTT is served there.
const AT: u16 = 5060;
const REWRITTEN: &str = "[mqtt]\nlisten = [\"tcp:0.0.0.0:5060\"]\ntopics = [\"room/#\"]\n\
                         legacy_address_fields = [\"/server/ip\"]\n[conference]\nuris = [\"8*\"]\n\
                         [[conference.floor]]\nid = \"audio\"\n";
const AS_SENT: &str = "[mqtt]\nlisten = [\"tcp:0.0.0.0:5060\"]\ntopics = [\"room/#\"]\n\
                       [conference]\nuris = [\"8*\"]\n[[conference.floor]]\nid = \"audio\"\n";

fn stage(mqtt: &'static str) -> Stage {
    let parts = Parts {
        c3: true,
        attacker: true,
        port_map: Some(port_map(false)),
        ..Parts::default()
    };
    Stage::with(Mode::Userspace, &parts, |config| {
        config.networks = vec![LAN, OUTSIDE, WAN];
        config.sip = mqtt;
    })
}

/// A client of one account: registered by SIP, connected by MQTT, both by the same address.
struct Member<'a> {
    user: &'a str,
    server: &'a str,
    client: Client,
    _phone: Ua,
}

fn members(stage: &Stage) -> Vec<Member<'static>> {
    let member = |(role, user, server): (Role, &'static str, &'static str)| {
        let phone = stage.phone(role, user);
        let namespace = stage.lab.namespace(role).unwrap();
        let edge = SocketAddr::new(server.parse().unwrap(), AT);
        let client = namespace.enter(|| Client::connect(edge, false)).unwrap();
        let mut member = Member {
            user,
            server,
            client: client.unwrap_or_else(|e| panic!("{user}: {e:#}")),
            _phone: phone,
        };
        let mut connect = Writer::default();
        connect.text("MQTT");
        connect.byte(4);
        connect.byte(0x82); // a user name, and a clean session
        connect.short(60);
        connect.text(&format!("client-{user}"));
        connect.text(user);
        member.client.send(&connect.packet(0x10));
        member.told("connack");
        member
    };
    PLACES.map(member).into()
}

impl Member<'_> {
    fn subscribe(&mut self, filter: &str) {
        let mut subscribe = Writer::default();
        subscribe.short(1);
        subscribe.text(filter);
        subscribe.byte(1);
        self.client.send(&subscribe.packet(0x82));
        self.told("suback");
    }

    fn publish(&mut self, topic: &str, payload: &Value) {
        let mut publish = Writer::default();
        publish.text(topic);
        publish.short(9);
        publish.0.extend(payload.to_string().as_bytes());
        self.client.send(&publish.packet(0x32));
    }

    /// The next packet with this in it.
    fn told(&mut self, what: &str) -> String {
        let deadline = clock::now() + LIMIT;
        loop {
            match self.client.next(deadline).unwrap() {
                Came::Packet { shown, .. } if shown.contains(what) => return shown,
                Came::Packet { .. } => {}
                other @ (Came::Closed | Came::Nothing) => {
                    panic!("{}: no {what}: {other:?}", self.user)
                }
            }
        }
    }

    /// As the old client does it: a message of another server than it registered with is dropped.
    fn accepts(&mut self, sender: &str) -> bool {
        let came = self.told(&format!("room/{sender}"));
        came.contains(&format!("\"ip\":\"{}\"", self.server))
    }
}

/// Who of all accepts the request of each: a line for each sender.
fn accepted(members: &mut [Member<'_>]) -> Vec<Vec<bool>> {
    for member in &mut *members {
        member.subscribe("room/#");
    }
    let mut all = Vec::new();
    for sender in 0..members.len() {
        let (user, server) = (members[sender].user, members[sender].server);
        let request = json!({ "server": { "ip": server } });
        members[sender].publish(&format!("room/{user}"), &request);
        all.push(members.iter_mut().map(|m| m.accepts(user)).collect());
    }
    all
}

/// New clients know no addresses: they join, one asks, and everybody sees who has the floor.
fn everybody_sees_who_asks(stage: &Stage, members: &mut [Member<'_>]) {
    let json = "Content-Type: application/json\r\n";
    let path = "/api/v1/conferences";
    let body = "{\"uri\":\"8001\"}";
    let made = http::send(stage.towpath.socket(), "POST", path, json, body).unwrap();
    let cid = made.body["cid"]
        .as_str()
        .unwrap_or_else(|| panic!("{made:?}"));
    for member in &mut *members {
        let user = member.user;
        member.subscribe(&format!("towpath/v1/c/{cid}/rsp/{user}"));
        let join = json!({ "id": format!("join-{user}"), "type": "conference.join", "data": {} });
        member.publish(&format!("towpath/v1/c/{cid}/cmd/{user}"), &join);
        member.told(&format!("/rsp/{user}"));
        member.subscribe(&format!("towpath/v1/c/{cid}/roster/{user}"));
    }
    for asks in PLACES.map(|(_, user, _)| user) {
        let data = json!({ "fid": "audio" });
        for member in &mut *members {
            member.subscribe(&format!("towpath/v1/c/{cid}/floor/audio"));
        }
        let topic = format!("towpath/v1/c/{cid}/cmd/{asks}");
        let index = members.iter().position(|m| m.user == asks).unwrap();
        members[index].publish(&topic, &command(asks, "floor.request", &data));
        let held = || {
            let path = format!("/api/v1/conferences/{cid}/floor");
            let floors = stage.towpath.get(&path)?;
            Ok((floors["floors"][0]["holders"][0]["pid"] == asks).then_some(()))
        };
        clock::until("the floor is granted", LIMIT, held).unwrap();
        for member in &mut *members {
            // Whoever reads now sees it: it is retained, and was told.
            member.subscribe(&format!("towpath/v1/c/{cid}/floor/audio"));
            member.told("/floor/audio '(");
        }
        members[index].publish(&topic, &command(asks, "floor.release", &data));
        members[index].told(&format!("/rsp/{asks}"));
        let free = || {
            let path = format!("/api/v1/conferences/{cid}/floor");
            let floors = stage.towpath.get(&path)?;
            Ok(floors["floors"][0]["holders"][0].is_null().then_some(()))
        };
        clock::until("the floor is given back", LIMIT, free).unwrap();
    }
}

fn command(who: &str, kind: &str, data: &Value) -> Value {
    json!({ "id": format!("{kind}-{who}"), "type": kind, "data": data })
}

#[test]
fn row_5_a_request_to_speak_reaches_old_and_new_clients_wherever_they_registered() {
    let with = stage(REWRITTEN);
    let mut all = members(&with);
    assert_eq!(accepted(&mut all), vec![vec![true; 3]; 3]);
    everybody_sees_who_asks(&with, &mut all);
    drop(all);
    drop(with);

    // Without rewriting each old client accepts what comes from its own network and nothing else.
    let without = stage(AS_SENT);
    let mut all = members(&without);
    let own = |sender: usize| (0..3).map(|receiver| receiver == sender).collect();
    assert_eq!(
        accepted(&mut all),
        (0..3).map(own).collect::<Vec<Vec<bool>>>()
    );
    everybody_sees_who_asks(&without, &mut all);
}
