//! Strangers against the running daemon: bans, real scanners, a flood of nonsense.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use super::*;

/// One network with an account, and addresses of a phone and of a stranger.
const LINKS: &str = "link add eth1 type veth peer name eth2\nlink set eth1 up\nlink set eth2 up\n\
                     address add 10.0.0.3/24 dev eth1\naddress add 10.0.1.3/24 dev eth1\n\
                     address add 10.0.0.20/32 dev lo\naddress add 10.0.1.20/32 dev lo\n\
                     address add 10.0.0.66/32 dev lo";

const CONFIG: &str = r#"[node]
state_dir = "DIRECTORY"
[sip]
domain = "example.com"
[sip.protection]
exempt = []
[[sip.account]]
user = "1001"
password = "hunter2"
[[network]]
name = "lan"
interface = "eth1"
address = "10.0.0.3"
peers = ["10.0.0.0/24"]
[datapath]
mode = "userspace"
"#;

#[test]
fn bans_are_made_shown_and_lifted() {
    in_private_network("protection::bans_are_made_shown_and_lifted", || {
        ip(LINKS)?;
        let daemon = Daemon::with("bans", CONFIG);
        assert_eq!(
            daemon.ask(&["ban", "list"]),
            (0, "nobody is banned\n".to_owned())
        );
        let add = daemon.ask(&["ban", "add", "10.0.0.66", "--for", "10m"]);
        assert_eq!(add, (0, "10.0.0.66: banned\n".to_owned()));
        daemon.documented("bans", "bans");
        assert_eq!(daemon.ask(&["ban", "add", "2001:db8::/32"]).0, 0);
        let (_, list) = daemon.ask(&["ban", "list"]);
        let rows: Vec<_> = list.lines().skip(1).map(columns).collect();
        assert_eq!(rows[0][..3], ["10.0.0.66/32", "-", "manual"], "{list}");
        assert_eq!(rows[1][..3], ["2001:db8::/32", "-", "manual"], "{list}");
        let gauge = "towpath_banned_sources 2";
        assert!(daemon.metrics().lines().any(|line| line == gauge));
        let stranger = UdpSocket::bind("10.0.0.66:5070").unwrap();
        stranger.set_read_timeout(Some(LIMIT)).unwrap();
        let ping = || stranger.send_to(b"\r\n\r\n", "10.0.0.3:5060").unwrap();
        ping();
        let banned = || Ok((daemon.value_of("sip_dropped.banned") == 1).then_some(()));
        clock::until("the ban has an effect", LIMIT, banned)?;
        for source in ["10.0.0.66", "2001:db8::/32"] {
            let removed = daemon.ask(&["ban", "remove", source]);
            assert_eq!(removed, (0, format!("{source}: heard again\n")));
        }
        ping();
        assert_eq!(stranger.recv(&mut [0; 9]).unwrap(), 2);
        let (code, text) = daemon.ask(&["ban", "remove", "10.0.0.66"]);
        assert_eq!(code, 1);
        assert!(text.contains("is not banned"), "{text}");
        let (code, text) = daemon.ask(&["ban", "add", "somebody"]);
        assert_eq!((code, text.contains("no address or prefix")), (64, true));
        Ok(())
    })
    .unwrap();
}

/// Killed with bans in force: they go on, and end when they would have.
#[test]
fn bans_survive_a_kill() {
    in_private_network("protection::bans_survive_a_kill", || {
        ip(LINKS)?;
        let mut daemon = Daemon::with("bans-kept", CONFIG);
        let stranger = UdpSocket::bind("10.0.0.66:5070").unwrap();
        let scan = |n| {
            let text = format!(
                "OPTIONS sip:{n}@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.66:5070;\
                 branch=z9hG4bK{n}\r\nMax-Forwards: 70\r\nFrom: <sip:a@b>;tag={n}\r\n\
                 To: <sip:a@b>\r\nCall-ID: {n}\r\nCSeq: 1 OPTIONS\r\n\
                 User-Agent: friendly-scanner\r\nContent-Length: 0\r\n\r\n"
            );
            stranger.send_to(text.as_bytes(), "10.0.0.3:5060").unwrap();
        };
        // Each shard counts its own: together twice `ban_after` is enough for certain.
        (0..40).for_each(scan);
        let banned = |daemon: &Daemon| listed(daemon).len() == 1;
        clock::until("the scanner is banned", LIMIT, || {
            Ok(banned(&daemon).then_some(()))
        })?;
        for arguments in [
            &["ban", "add", "192.0.2.0/24"][..],
            &["ban", "add", "198.51.100.0/24", "--for", "1h"],
            &["ban", "add", "203.0.113.7", "--for", "1h"],
            &["ban", "remove", "203.0.113.7"],
        ] {
            assert_eq!(daemon.ask(arguments).0, 0);
        }
        let before = listed(&daemon);
        let nets: Vec<_> = before
            .iter()
            .map(|(net, why, _)| (&net[..], &why[..]))
            .collect();
        let expected = [
            ("192.0.2.0/24", "manual"),
            ("198.51.100.0/24", "manual"),
            ("10.0.0.66/32", "scanner"),
        ];
        assert_eq!(nets, expected);
        let written = || {
            let text = daemon.metrics();
            Ok(text
                .lines()
                .any(|line| line == "towpath_store_pending 0")
                .then_some(()))
        };
        clock::until("all is on disk", LIMIT, written)?;
        daemon.kill(|_| ());
        let after = listed(&daemon);
        for (old, new) in before.iter().zip(&after) {
            assert_eq!((&old.0, &old.1), (&new.0, &new.1), "{after:?}");
            let within = match (old.2, new.2) {
                (Some(old), Some(new)) => new <= old && new + 60 > old,
                (old, new) => old == new,
            };
            assert!(within, "{before:?} {after:?}");
        }
        assert_eq!(before.len(), after.len());
        scan(99);
        let dropped = || Ok((daemon.value_of("sip_dropped.banned") == 1).then_some(()));
        clock::until("it is not heard", LIMIT, dropped)?;
        assert_eq!(daemon.ask(&["ban", "remove", "10.0.0.66"]).0, 0);
        daemon.restart();
        assert_eq!(listed(&daemon).len(), 2);
        Ok(())
    })
    .unwrap();
}

/// Bans with their reasons and the seconds that are left.
fn listed(daemon: &Daemon) -> Vec<(String, String, Option<u64>)> {
    let (_, text) = daemon.ask(&["ban", "list", "-o", "json"]);
    let all: Value = serde_json::from_str(&text).unwrap();
    let rows = all["bans"].as_array().unwrap().iter();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    rows.map(|row| {
        (
            text(row, "source"),
            text(row, "why"),
            row["left_s"].as_u64(),
        )
    })
    .collect()
}

impl Daemon {
    /// A counter of `status`.
    fn value_of(&self, counter: &str) -> u64 {
        let status = http::get(&self.socket(), "/api/v1/status").unwrap();
        status["counters"][counter].as_u64().unwrap_or(0)
    }
}

/// svwar as Debian has it, or under another name than the one scanners are known by.
fn svwar(disguised: bool, method: &str) -> String {
    const SCRIPT: &str = "import sys; sys.path.insert(0, '/usr/share/sipvicious')\n\
        from sipvicious.libs.svhelper import makeRequest as m\n\
        m.__defaults__ = tuple(AGENT if d == 'friendly-scanner' else d for d in m.__defaults__)\n\
        from sipvicious.svwar import main; main()";
    let agent = if disguised { "'Phone 1.0'" } else { "d" };
    let output = Command::new("/usr/bin/python3")
        .args(["-c", &SCRIPT.replace("AGENT", agent)])
        .args(["-e", "995-1010", "-m", method, "-b", "10.0.0.66"])
        .args(["-x", "10.0.0.66", "--maximumtime", "5", "10.0.0.3"])
        .env("HOME", std::env::temp_dir())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn sipvicious_finds_no_account() {
    in_private_network("protection::sipvicious_finds_no_account", || {
        ip(LINKS)?;
        for method in ["REGISTER", "OPTIONS", "INVITE"] {
            let daemon = Daemon::with("svwar", CONFIG);
            let told = svwar(true, method);
            assert!(daemon.value_of("sip_auth.challenged") > 0, "{told}");
            assert!(!told.contains("1001"), "{method}: {told}");
            let told = svwar(false, method);
            assert!(daemon.value_of("sip_dropped.scanner") > 0, "{told}");
            assert!(!told.contains("1001"), "{method}: {told}");
        }
        Ok(())
    })
    .unwrap();
}

/// Datagrams a second, and for how long.
const FLOOD_RATE: u64 = 50_000;
const FLOOD_TIME: Duration = Duration::from_secs(3);

#[test]
fn a_flood_of_nonsense_leaves_calls_alone() {
    in_private_network("protection::a_flood_of_nonsense_leaves_calls_alone", || {
        ip(super::LINKS)?;
        ip("address add 10.0.0.66/32 dev lo")?;
        let daemon = Daemon::with("flood", super::CONFIG);
        let caller = Phone::register(&daemon, "1001", "10.0.0.20", "10.0.0.3");
        let callee = Phone::register(&daemon, "1002", "10.0.1.20", "10.0.1.3");
        let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            scope.spawn(|| flood(&stop, &sent));
            let dropped = || Ok((daemon.value_of("sip_dropped.banned") > 10_000).then_some(()));
            let reached = clock::until("the flood arrives", LIMIT, dropped);
            let call = caller.call(&callee);
            for _ in 0..100 {
                call.speak();
            }
            stop.store(true, Ordering::Relaxed);
            reached
        })?;
        assert_eq!(daemon.ask(&["ban", "list"]).1.lines().count(), 2);
        Ok(())
    })
    .unwrap();
}

/// Sends at the rate, in bursts of a millisecond.
fn flood(stop: &AtomicBool, sent: &AtomicU64) {
    let socket = UdpSocket::bind("10.0.0.66:666").unwrap();
    socket.connect("10.0.0.3:5060").unwrap();
    let begun = clock::now();
    while !stop.load(Ordering::Relaxed) && begun.elapsed() < 3 * FLOOD_TIME {
        let due = u64::try_from(begun.elapsed().as_millis()).unwrap() * FLOOD_RATE / 1000;
        while sent.load(Ordering::Relaxed) < due {
            // A full queue is the flood's loss.
            drop(socket.send(b"no SIP at all"));
            sent.fetch_add(1, Ordering::Relaxed);
        }
        thread::yield_now();
    }
}
