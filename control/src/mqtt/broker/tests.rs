use bytes::Bytes;

use super::*;
use crate::bus::Qos;
use crate::mqtt::packet::{Message, Publish, Replay, Wanted};

/// Everybody may do everything.
struct Free;

impl Access for Free {
    fn may_publish(&self, _: &Client, _: &str) -> bool {
        true
    }

    fn may_read(&self, _: &Client, _: &str) -> bool {
        true
    }
}

struct Stage {
    broker: Broker,
    now: Instant,
    effects: Effects,
}

impl Stage {
    #[allow(clippy::disallowed_methods, reason = "any moment will do")]
    fn new(limits: Limits) -> Self {
        Self {
            broker: Broker::new(limits),
            now: Instant::now(),
            effects: Effects::new(),
        }
    }

    fn tell(&mut self, input: Input) -> Effects {
        self.broker
            .handle(input, &Free, self.now, &mut self.effects);
        std::mem::take(&mut self.effects)
    }

    fn connect_as(&mut self, conn: u64, id: &str, user: &str, keeps: bool) -> Effects {
        let local = SocketAddr::from(([10, 0, 0, 3], 1883));
        self.tell(Input::Connect {
            conn: ConnId(conn),
            connect: Connect {
                version: Version::V5,
                id: id.to_owned(),
                clean: !keeps,
                keep_alive: None,
                session_expiry: if keeps { Duration::MAX } else { Duration::ZERO },
                receive_max: 2,
                packet_max: usize::MAX,
                will: None,
            },
            login: Ok(Principal::Account(user.to_owned())),
            local,
            remote: local,
            known_as: local.ip(),
        })
    }

    fn connect(&mut self, conn: u64, id: &str) -> Effects {
        self.connect_as(conn, id, "1001", false)
    }

    fn packet(&mut self, conn: u64, packet: Incoming) -> Effects {
        let conn = ConnId(conn);
        self.tell(Input::Packet { conn, packet })
    }

    fn subscribe(&mut self, conn: u64, filter: &str) -> Effects {
        let wanted = Wanted {
            filter: filter.to_owned(),
            qos: Qos::AtLeastOnce,
            no_local: false,
            as_published: false,
            replay: Replay::Always,
        };
        let filters = vec![wanted];
        self.packet(
            conn,
            Incoming::Subscribe {
                pkid: 1,
                id: None,
                filters,
            },
        )
    }

    fn publish(&mut self, topic: &str, qos: Qos, size: usize) -> Effects {
        self.tell(Input::Publish(Publication {
            topic: topic.to_owned(),
            payload: Bytes::from(vec![b'x'; size]),
            qos,
            retain: false,
            expiry: None,
        }))
    }
}

/// What a connection is sent.
fn said(effects: &Effects, conn: u64) -> Vec<&Outgoing> {
    let mut sent = Vec::new();
    for effect in effects {
        if let Effect::Send { conn: to, packet } = effect
            && to.0 == conn
        {
            sent.push(packet);
        }
    }
    sent
}

/// Whether a CONNACK gives this reason.
fn said_why(effects: &Effects, conn: u64, reason: Reason) -> bool {
    let said = said(effects, conn);
    let mut acks = said.iter();
    acks.any(|packet| matches!(packet, Outgoing::ConnAck(ack) if ack.reason == reason))
}

#[test]
fn a_full_queue_loses_qos_0_first_and_then_its_session() {
    let mut stage = Stage::new(Limits {
        queue_messages: 3,
        ..Limits::DEFAULT
    });
    stage.connect_as(1, "a", "1001", true);
    stage.subscribe(1, "x");
    // Two in flight, then what waits.
    for _ in 0..2 {
        assert_eq!(said(&stage.publish("x", Qos::AtLeastOnce, 1), 1).len(), 1);
    }
    for qos in [Qos::AtLeastOnce, Qos::AtMostOnce, Qos::AtLeastOnce] {
        assert_eq!(stage.publish("x", qos, 1), []);
    }
    // The one of QoS 0 makes room; another one of QoS 0 finds none.
    assert_eq!(stage.publish("x", Qos::AtLeastOnce, 1), []);
    assert_eq!(stage.publish("x", Qos::AtMostOnce, 1), []);
    assert_eq!(stage.broker.counters().dropped[&Dropped::QueueFull], 2);
    let effects = stage.publish("x", Qos::AtLeastOnce, 1);
    assert_eq!(said(&effects, 1), [&Outgoing::Disconnect(Reason::Quota)]);
    assert_eq!(stage.broker.totals(), Totals::default());
    let effects = stage.connect_as(2, "a", "1001", true);
    let present = |packet: &&Outgoing| matches!(packet, Outgoing::ConnAck(ack) if ack.present);
    assert!(!said(&effects, 2).iter().any(present));
}

#[test]
fn bytes_are_limited_too() {
    let mut stage = Stage::new(Limits {
        queue_bytes: 100_000,
        ..Limits::DEFAULT
    });
    stage.connect(1, "a");
    stage.subscribe(1, "x");
    let mut sent = 0;
    while stage.broker.totals().connected == 1 {
        stage.publish("x", Qos::AtLeastOnce, 30_000);
        sent += 1;
        assert!(stage.broker.totals().queue_bytes < 200_000);
    }
    assert_eq!(sent, 2 + 3 + 1);
}

#[test]
fn a_name_is_not_enough_to_take_over() {
    let mut stage = Stage::new(Limits::DEFAULT);
    stage.connect_as(1, "a", "1001", true);
    let effects = stage.connect_as(2, "a", "1002", true);
    assert!(said_why(&effects, 2, Reason::ClientId));
    assert_eq!(stage.broker.totals().connected, 1);
    let effects = stage.connect_as(3, "a", "1001", true);
    assert_eq!(
        said(&effects, 1),
        [&Outgoing::Disconnect(Reason::TakenOver)]
    );
}

#[test]
fn sessions_are_limited_and_the_oldest_that_is_away_makes_room() {
    let mut stage = Stage::new(Limits {
        clients: 2,
        ..Limits::DEFAULT
    });
    stage.connect_as(1, "a", "1001", true);
    stage.connect_as(2, "b", "1002", true);
    let effects = stage.connect_as(3, "c", "1003", true);
    assert!(said_why(&effects, 3, Reason::Busy));
    stage.tell(Input::Closed { conn: ConnId(1) });
    let effects = stage.connect_as(4, "c", "1003", true);
    assert!(said_why(&effects, 4, Reason::Success));
    let names: Vec<String> = stage
        .broker
        .clients(stage.now)
        .into_iter()
        .map(|c| c.client.id)
        .collect();
    assert_eq!(names, ["b", "c"]);
}

#[test]
fn the_planes_topics_are_acknowledged_when_the_plane_says_so() {
    let mut stage = Stage::new(Limits::DEFAULT);
    stage.connect(1, "a");
    let command = Incoming::Publish(Publish {
        message: Message {
            topic: "towpath/v1/c/x/cmd/p".to_owned(),
            payload: Bytes::from_static(b"{}"),
            qos: Qos::AtLeastOnce,
            retain: false,
            properties: None,
            spans: Vec::new(),
        },
        pkid: Some(7),
        exactly: false,
        alias: None,
        expiry: None,
    });
    for (ticket, refused, reason) in [
        (1, None, Reason::Success),
        (2, Some("no conference"), Reason::Implementation),
    ] {
        let effects = stage.packet(1, command.clone());
        assert!(matches!(effects[..], [Effect::Submit { ticket: t, .. }] if t == ticket));
        let effects = stage.tell(Input::Acknowledge { ticket, refused });
        assert_eq!(said(&effects, 1), [&Outgoing::PubAck { pkid: 7, reason }]);
        assert_eq!(stage.tell(Input::Acknowledge { ticket, refused }), []);
    }
}

#[test]
fn nothing_is_left_of_conferences_and_clients_that_are_over() {
    let mut stage = Stage::new(Limits::DEFAULT);
    for round in 0..2_000 {
        stage.connect(round, "a");
        let topic = format!("c/{round}/state");
        stage.subscribe(round, &topic);
        stage.publish(&topic, Qos::AtLeastOnce, 10);
        stage.packet(
            round,
            Incoming::Unsubscribe {
                pkid: 1,
                filters: vec![topic],
            },
        );
        stage.packet(
            round,
            Incoming::Disconnect {
                quiet: true,
                session_expiry: None,
            },
        );
    }
    assert_eq!(stage.broker.totals(), Totals::default());
    let Broker {
        names,
        timers,
        tickets,
        conns,
        ..
    } = &stage.broker;
    assert!(names.is_empty() && timers.is_empty() && tickets.is_empty() && conns.is_empty());
    assert!(stage.broker.tree.is_empty());
}
