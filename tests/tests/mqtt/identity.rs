//! "Request to speak" of row 5: clients that drop a message whose server address is not the one
//! they registered with. Each receiver reads the address that it uses itself.

use std::net::{IpAddr, SocketAddr};

use towpath_tests::mqtt::client::{Came, Client, LIMIT};
use towpath_tests::mqtt::wire::Writer;
use towpath_tests::private::ip;
use towpath_tests::{clock, http};

use super::*;

/// The address reached, and the one that its clients know: a LAN, a mapping, a second card.
const NETWORKS: [(&str, &str, &str); 3] = [
    ("lan", "10.0.0.3", "10.0.0.3"),
    ("wan", "10.0.1.3", "203.0.113.9"),
    ("second", "192.168.7.3", "192.168.7.3"),
];

fn networks() -> String {
    let network = |(name, address, advertise): &(&str, &str, &str)| {
        ip(&format!("address add {address}/24 dev lo")).unwrap();
        format!(
            "[[network]]\nname = \"{name}\"\ninterface = \"lo\"\naddress = \"{address}\"\n\
             advertise = \"{advertise}\"\npeers = [\"{address}/32\"]\n"
        )
    };
    NETWORKS.iter().map(network).collect()
}

fn member(id: &str, reached: &str) -> Client {
    let to = SocketAddr::new(reached.parse::<IpAddr>().unwrap(), OURS);
    let mut client = Client::connect(to, false).unwrap();
    let mut connect = Writer::default();
    connect.text("MQTT");
    connect.byte(4);
    connect.byte(2);
    connect.short(60);
    connect.text(id);
    client.send(&connect.packet(0x10));
    let mut subscribe = Writer::default();
    subscribe.short(1);
    subscribe.text("room/#");
    subscribe.byte(1);
    client.send(&subscribe.packet(0x82));
    told(&mut client, "suback");
    client
}

/// The next packet of this kind.
fn told(client: &mut Client, kind: &str) -> String {
    loop {
        match client.next(clock::now() + LIMIT).unwrap() {
            Came::Packet { shown, .. } if shown.starts_with(kind) => return shown,
            Came::Packet { .. } => {}
            other @ (Came::Closed | Came::Nothing) => panic!("no {kind}: {other:?}"),
        }
    }
}

fn asks_to_speak(client: &mut Client, server: &str) {
    let mut publish = Writer::default();
    publish.text("room/1/request");
    publish.short(9);
    publish.0.extend(request(server).as_bytes());
    client.send(&publish.packet(0x32));
}

fn request(server: &str) -> String {
    format!("{{\"server\":{{\"ip\":\"{server}\"}}}}")
}

const FIELDS: &str = "topics = [\"room/#\"]\nlegacy_address_fields = [\"/server/ip\"]";

#[test]
fn each_receiver_reads_the_address_that_it_uses() {
    in_private_network(
        "identity::each_receiver_reads_the_address_that_it_uses",
        || {
            let directory = directory("identity");
            let _broker = Broker::towpath(directory.path(), OURS, FIELDS, &networks())?;
            let mut members = NETWORKS.map(|(name, reached, _)| member(name, reached));
            for (sender, (_, _, known)) in NETWORKS.iter().enumerate() {
                asks_to_speak(&mut members[sender], known);
                for (member, (name, _, own)) in members.iter_mut().zip(NETWORKS) {
                    let came = told(member, "publish");
                    assert!(came.contains(&request(own)), "{known} to {name}: {came}");
                }
            }
            // A server nobody knows: nobody is told, and the operator sees why.
            asks_to_speak(&mut members[0], "198.51.100.7");
            told(&mut members[0], "puback");
            asks_to_speak(&mut members[1], "203.0.113.9");
            for (member, (_, _, own)) in members.iter_mut().zip(NETWORKS) {
                assert!(told(member, "publish").contains(&request(own)));
            }
            let socket = directory.path().join("socket");
            let events = http::get(&socket, "/api/v1/events").unwrap().to_string();
            assert!(
                events.contains("mqtt.dropped") && events.contains("198.51.100.7"),
                "{events}"
            );
            assert!(events.contains("foreign_server"), "{events}");
            let metrics = http::text(&socket, "/metrics").unwrap();
            let line = "towpath_mqtt_dropped_total{reason=\"foreign_server\"} 1";
            assert!(metrics.contains(line), "{metrics}");
            Ok(())
        },
    )
    .unwrap();
}

/// The trouble itself: clients of another network read an address that they do not know.
#[test]
fn without_it_the_others_read_an_address_they_do_not_know() {
    let test = "identity::without_it_the_others_read_an_address_they_do_not_know";
    in_private_network(test, || {
        let directory = directory("no-identity");
        let topics = "topics = [\"room/#\"]";
        let _broker = Broker::towpath(directory.path(), OURS, topics, &networks())?;
        let mut members = NETWORKS.map(|(name, reached, _)| member(name, reached));
        asks_to_speak(&mut members[0], "10.0.0.3");
        for member in &mut members {
            assert!(told(member, "publish").contains(&request("10.0.0.3")));
        }
        Ok(())
    })
    .unwrap();
}
