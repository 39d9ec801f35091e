use super::*;

#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can be had from the clock only; the tests count from this one"
)]
fn start() -> Instant {
    Instant::now()
}

fn settings() -> Protection {
    Protection {
        source_rate: 10,
        account_rate: 1,
        ban_after: 5,
        ban_window: Duration::from_secs(60),
        ban_time: Duration::from_secs(600),
        exempt: Vec::new(),
        scanners: Vec::new(),
    }
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn guard() -> (Guard, Instant) {
    (Guard::new([7; 32]), start())
}

/// How many of `n` requests at once are heard.
fn heard(guard: &mut Guard, from: &str, origin: Origin, n: usize, now: Instant) -> usize {
    let from = at(from);
    (0..n)
        .filter(|_| guard.may_ask(from, origin, &settings(), now))
        .count()
}

#[test]
fn a_source_has_ten_seconds_of_its_rate_at_once() {
    let (mut guard, now) = guard();
    let stranger = Origin::Stranger;
    assert_eq!(heard(&mut guard, "192.0.2.1:1", stranger, 500, now), 100);
    // Another port is the same source, another address is not; of IPv6 a /64 is one.
    assert_eq!(heard(&mut guard, "192.0.2.1:2", stranger, 500, now), 0);
    assert_eq!(heard(&mut guard, "192.0.2.2:1", stranger, 500, now), 100);
    assert_eq!(heard(&mut guard, "[2001:db8::1]:1", stranger, 90, now), 90);
    assert_eq!(heard(&mut guard, "[2001:db8::2]:1", stranger, 90, now), 10);
    assert_eq!(
        heard(&mut guard, "[2001:db8:0:1::2]:1", stranger, 90, now),
        90
    );
    let later = now + Duration::from_secs(3);
    assert_eq!(heard(&mut guard, "192.0.2.1:1", stranger, 500, later), 30);
    assert_eq!(
        heard(&mut guard, "192.0.2.1:1", Origin::Trusted, 500, later),
        500
    );
}

#[test]
fn a_known_flow_has_an_allowance_of_its_own() {
    let (mut guard, now) = guard();
    let phone = at("192.0.2.1:5060");
    guard.proven(
        phone,
        b"1001",
        now + Duration::from_secs(60),
        &settings(),
        now,
    );
    assert!(guard.knows(phone, now));
    assert!(!guard.knows(at("192.0.2.1:5061"), now));
    assert!(!guard.knows(phone, now + Duration::from_secs(60)));
    heard(&mut guard, "192.0.2.1:666", Origin::Stranger, 500, now);
    assert_eq!(
        heard(&mut guard, "192.0.2.1:5060", Origin::Known, 500, now),
        100
    );
}

#[test]
fn what_proves_itself_costs_nothing() {
    let (mut guard, now) = guard();
    let settings = settings();
    for phone in 0..10_000_u16 {
        let from = SocketAddr::new(IpAddr::from([192, 0, 2, 1]), 1024 + phone);
        let account = phone.to_string();
        for _ in 0..2 {
            assert!(
                guard.may_ask(from, Origin::Stranger, &settings, now),
                "{phone}"
            );
            assert!(guard.may_try(from.ip(), account.as_bytes(), &settings, now));
        }
        let until = now + Duration::from_secs(60);
        guard.proven(from, account.as_bytes(), until, &settings, now);
    }
}

#[test]
fn a_flood_of_forged_sources_neither_locks_out_nor_frees() {
    let (mut guard, now) = guard();
    let stranger = Origin::Stranger;
    assert_eq!(heard(&mut guard, "198.51.100.6:1", stranger, 500, now), 100);
    for n in 0..400_000_u32 {
        let forged = SocketAddr::new(IpAddr::from((0x0a00_0000 + n).to_be_bytes()), 5060);
        guard.may_ask(forged, stranger, &settings(), now);
    }
    assert_eq!(heard(&mut guard, "198.51.100.6:1", stranger, 500, now), 0);
    assert_eq!(heard(&mut guard, "192.0.2.77:1", stranger, 50, now), 50);
}

#[test]
fn no_more_is_sent_than_was_received() {
    let (mut guard, now) = guard();
    let to = at("192.0.2.1:5060");
    assert!(!guard.may_send(to, 1, now));
    guard.received(to, 300, now);
    assert!(!guard.may_send(to, 301, now));
    assert!(guard.may_send(to, 250, now));
    assert!(!guard.may_send(to, 51, now));
    guard.received(to, 300, now);
    assert!(guard.may_send(to, 350, now));
}

/// Wrong passwords for these accounts, one after the other; who is banned for the last.
fn guesses<'a>(
    guard: &mut Guard,
    from: &str,
    accounts: impl Iterator<Item = &'a str>,
    now: Instant,
) -> Option<Banned> {
    let mut last = None;
    for account in accounts {
        last = guard.wrong(at(from), account.as_bytes(), &settings(), now);
    }
    last
}

#[test]
fn guesses_at_one_account_shut_out_that_account_from_there() {
    let (mut guard, now) = guard();
    let four = std::iter::repeat_n("1001", 4);
    assert_eq!(guesses(&mut guard, "192.0.2.1:1", four, now), None);
    let banned = guesses(&mut guard, "192.0.2.1:1", ["1001"].into_iter(), now);
    let expected = Banned {
        net: "192.0.2.1/32".parse().unwrap(),
        account: Some("1001".to_owned()),
        why: "password",
        time: Duration::from_secs(600),
    };
    assert_eq!(banned, Some(expected));
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let bans = &guard.bans;
    assert!(bans.by_us(ip("192.0.2.1"), Some(b"1001"), now));
    assert!(!bans.by_us(ip("192.0.2.1"), Some(b"1002"), now));
    assert!(!bans.by_us(ip("192.0.2.1"), None, now));
    assert!(!bans.by_us(ip("192.0.2.2"), Some(b"1001"), now));
    assert!(!bans.by_us(
        ip("192.0.2.1"),
        Some(b"1001"),
        now + Duration::from_secs(600)
    ));
}

#[test]
fn a_phone_with_a_wrong_password_bans_nobody() {
    let (mut guard, now) = guard();
    for minute in 0..100 {
        let now = now + Duration::from_secs(20 * minute);
        let banned = guesses(&mut guard, "192.0.2.1:1", ["1001"].into_iter(), now);
        assert_eq!(banned, None, "{minute}");
    }
}

#[test]
fn guesses_at_many_accounts_ban_the_source_unless_phones_are_there() {
    let five = ["1", "2", "3", "4", "5"];
    let (mut guard, now) = guard();
    let banned = guesses(&mut guard, "192.0.2.1:1", five.into_iter(), now).unwrap();
    assert_eq!((banned.account, banned.why), (None, "passwords"));
    let (mut guard, now) = self::guard();
    for port in 0..5 {
        let phone = SocketAddr::new([192, 0, 2, 1].into(), 5060 + port);
        guard.proven(phone, b"a", now + Duration::from_secs(60), &settings(), now);
    }
    assert_eq!(
        guesses(&mut guard, "192.0.2.1:1", five.into_iter(), now),
        None
    );
    let more = ["6", "7", "8", "9", "10", "11"];
    let banned = guesses(&mut guard, "192.0.2.1:1", more.into_iter(), now);
    assert_eq!(banned, None, "counted anew");
}

#[test]
fn scanners_count_ten_times_what_garbage_does() {
    let (mut guard, now) = guard();
    let from = at("192.0.2.1:1");
    let garbage = (1..).find(|_| guard.unreadable(from, &settings(), now).is_some());
    assert_eq!(garbage, Some(50));
    let from = at("192.0.2.2:1");
    let scans = (1..).find(|_| guard.scanned(from, &settings(), now).is_some());
    assert_eq!(scans, Some(5));
}

#[test]
fn bans_grow_and_are_forgotten() {
    let mut bans = Bans::default();
    let net: IpNet = "192.0.2.1/32".parse().unwrap();
    let time = Duration::from_secs(600);
    let mut now = start();
    for expected in [600, 1200, 2400] {
        let lasts = bans.add(net, None, "scanner", time, now);
        assert_eq!(lasts, Some(Duration::from_secs(expected)));
        assert_eq!(bans.add(net, None, "scanner", time, now), None);
        now += Duration::from_secs(expected);
    }
    for _ in 0..20 {
        let lasts = bans.add(net, None, "scanner", time, now).unwrap();
        assert!(lasts <= ban::BAN_MAX);
        now += lasts;
    }
    now += Duration::from_secs(24 * 3600);
    bans.sweep(now);
    assert_eq!(bans.add(net, None, "scanner", time, now), Some(time));
    assert!(bans.remove(net, now));
    assert!(!bans.remove(net, now));
    assert_eq!(bans.list(now), []);
}

#[test]
fn bans_are_bounded() {
    let mut bans = Bans::default();
    let now = start();
    for n in 0..=u32::try_from(ban::BANS_MAX).unwrap() {
        let net = IpNet::from(IpAddr::from(n.to_be_bytes()));
        let later = now + Duration::from_millis(n.into());
        assert!(
            bans.add(net, None, "scanner", Duration::from_secs(600), later)
                .is_some()
        );
    }
    assert_eq!(bans.count(now), ban::BANS_MAX);
    assert!(!bans.by_us([0, 0, 0, 0].into(), None, now));
    assert!(bans.by_us([0, 0, 0, 1].into(), None, now));
    for n in 0..=u32::try_from(ban::MANUAL_MAX).unwrap() {
        let net = IpNet::from(IpAddr::from(n.to_be_bytes()));
        assert_eq!(
            bans.add_manual(net, None, now),
            usize::try_from(n).unwrap() < ban::MANUAL_MAX
        );
    }
}
