use super::*;

#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can be had from the clock only; the tests count from this one"
)]
fn start() -> Instant {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    *START
}

fn party(last: u8) -> Party {
    let on = Listener {
        transport: Transport::Tcp,
        local: "10.0.0.3:5060".parse().unwrap(),
    };
    let to = ([10, 0, 0, last], 40_000).into();
    let mut numbers = Numbers::with_invite(5);
    numbers.take();
    Party {
        network: "lan".to_owned(),
        path: Path { on, to },
        natted: last.is_multiple_of(2),
        tag: Bytes::from_static(b"t\xff"),
        party: Bytes::from_static(b"<sip:a@b>;tag=t\xff"),
        target: Bytes::from_static(b"sip:a@b"),
        routes: vec![Bytes::from_static(b"<sip:r;lr>")],
        numbers,
    }
}

fn dialog() -> Dialog {
    let s = Duration::from_secs;
    Dialog {
        call_id: Bytes::from_static(b"x@y"),
        token: "tok".to_owned(),
        from: "1001".to_owned(),
        to: String::new(),
        status: 200,
        legs: Both {
            a: party(1),
            b: party(2),
        },
        offerer: Side::B,
        lines: Lines {
            ports: vec![
                Some(Both {
                    a: 20_000,
                    b: 30_002,
                }),
                None,
            ],
            shifts: Both { a: 0, b: 3 },
        },
        timer: Some((Bytes::from_static(b"1800"), Side::B)),
        started: start(),
        answered: start() + s(2),
        refreshed: start() + s(60),
        alive: Both {
            a: start() + s(61),
            b: start() + s(90),
        },
    }
}

#[test]
fn what_is_read_is_what_was_written() {
    let at = start() + Duration::from_secs(70);
    let bytes = encode(&dialog(), at);
    assert_eq!(decode(&bytes, at), Some(dialog()));
    let without = Dialog {
        timer: None,
        ..dialog()
    };
    assert_eq!(decode(&encode(&without, at), at), Some(without));
}

#[test]
fn what_is_damaged_is_not_read() {
    let at = start();
    let bytes = encode(&dialog(), at);
    for end in 0..bytes.len() {
        assert_eq!(decode(&bytes[..end], at), None, "{end}");
    }
    assert_eq!(decode(&[&bytes[..], b"x"].concat(), at), None);
    let mut newer = bytes;
    newer[0] += 1;
    assert_eq!(decode(&newer, at), None);
}
