//! A broker behind the daemon: mosquitto, which is away, comes back, and forgets nothing that was
//! accepted.

use std::io::{BufRead, BufReader};
use std::sync::mpsc::{Receiver, channel};

use towpath_tests::pki::{Authority, Issued};
use towpath_tests::scratch::Scratch;

use super::*;

const MOSQUITTO: &str = "/usr/sbin/mosquitto";
const SUBSCRIBER: &str = "/usr/bin/mosquitto_sub";
const EXTERNAL: &str = "\n[mqtt]\nmode = \"external\"\nurl = \"mqtt://127.0.0.1:1883\"\n\
                        [mqtt.broker]\nuser = \"edge\"\npassword_file = \"DIRECTORY/secret\"\n";
/// Many for a second, few for a store.
const PHONES: u32 = 300;

/// In a directory of its own, with names and an ACL as the handbook shows them.
struct Broker {
    directory: PathBuf,
    process: Option<Child>,
}

impl Broker {
    fn new(name: &str) -> Self {
        Self::with(name, "")
    }

    /// `more` is added to its configuration.
    fn with(name: &str, more: &str) -> Self {
        let name = format!("mosquitto-{name}-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory).unwrap();
        let at = directory.display();
        let config = format!(
            "listener 1883 127.0.0.1\nallow_anonymous false\npassword_file {at}/passwords\n\
             acl_file {at}/acl\nset_tcp_nodelay true\nmax_inflight_messages 100\n\
             max_queued_messages 100000\nuser root\nlog_type error\n{more}"
        );
        let acl = "user edge\ntopic readwrite towpath/v1/s/towpath/#\n\
                   topic write towpath/v1/c/#\ntopic read towpath/v1/c/+/cmd/+\n\
                   user watcher\ntopic read towpath/v1/#\n\
                   user p1\ntopic write towpath/v1/c/+/cmd/p1\n";
        fs::write(directory.join("mosquitto.conf"), config).unwrap();
        fs::write(directory.join("acl"), acl).unwrap();
        for (user, create) in [("edge", "-c"), ("watcher", "-b"), ("p1", "-b")] {
            let mut command = Command::new("/usr/bin/mosquitto_passwd");
            command.arg("-b");
            if create == "-c" {
                command.arg("-c");
            }
            let passwords = directory.join("passwords");
            let made = command.arg(passwords).args([user, "secret"]).status();
            assert!(made.unwrap().success());
        }
        Self {
            directory,
            process: None,
        }
    }

    fn start(&mut self) {
        let process = Command::new(MOSQUITTO)
            .arg("-c")
            .arg(self.directory.join("mosquitto.conf"))
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto: `cargo xtask setup` installs it");
        self.process = Some(process);
        comes("mosquitto listens", || {
            std::net::TcpStream::connect("127.0.0.1:1883").is_ok()
        });
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
        drop(fs::remove_dir_all(&self.directory));
    }
}

/// What is published at the broker: topic and payload, a line each.
struct Watcher {
    process: Child,
    lines: Receiver<String>,
}

impl Watcher {
    /// Returns when the broker has its subscription.
    fn start() -> Self {
        // Its words come one by one: it would keep them back in a pipe.
        let mut process = Command::new("stdbuf")
            .args(["-oL", SUBSCRIBER, "-d"])
            .args([
                "-h",
                "127.0.0.1",
                "-u",
                "watcher",
                "-P",
                "secret",
                "-V",
                "5",
            ])
            .args(["-q", "1", "-v", "-t", "towpath/v1/#"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("mosquitto_sub: `cargo xtask setup` installs it");
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let subscribed = || lines.recv_timeout(LIMIT).expect("a subscription");
        while !subscribed().starts_with("Subscribed ") {}
        Self { process, lines }
    }

    /// The next message under a topic.
    fn next(&self, topic: &str) -> Value {
        loop {
            let line = self.lines.recv_timeout(LIMIT);
            let line = line.unwrap_or_else(|_| panic!("nothing under {topic}"));
            // It tells what it does between messages.
            let Some((at, payload)) = line.split_once(' ') else {
                continue;
            };
            if at == format!("towpath/v1/{topic}") {
                return serde_json::from_str(payload).unwrap();
            }
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn daemon(name: &str, broker: &Broker) -> Daemon {
    fs::write(broker.directory.join("secret"), "secret\n").unwrap();
    let external = EXTERNAL.replace("DIRECTORY", broker.directory.to_str().unwrap());
    Daemon::with(name, &format!("{CONFIG}{external}"))
}

fn comes(what: &str, mut is: impl FnMut() -> bool) {
    clock::until(what, LIMIT, || Ok(is().then_some(()))).unwrap();
}

fn waiting(daemon: &Daemon) -> u64 {
    daemon.documented("status", "status")["broker"]["waiting"]
        .as_u64()
        .unwrap()
}

/// The server's state and events are at the broker, soon; and it says that it is gone.
#[test]
fn a_broker_hears_of_registrations_and_of_the_server() {
    let test = "broker::a_broker_hears_of_registrations_and_of_the_server";
    in_private_network(test, || {
        ip(LINKS)?;
        let mut broker = Broker::new("broker-hears");
        broker.start();
        let watcher = Watcher::start();
        let mut daemon = daemon("broker-hears", &broker);
        let state = watcher.next("s/towpath/state");
        assert_eq!(state["data"]["online"], true);
        assert_eq!(state["data"]["networks"][1]["media"][0], 30000);
        let inst = state["data"]["inst"].clone();
        let _phone = Phone::register(&daemon, "1001", "10.0.0.20", "10.0.0.3");
        let added = watcher.next("s/towpath/evt/reg");
        assert_eq!(added["type"], "reg.added");
        assert_eq!(added["data"]["aor"], "1001@example.com");
        assert_eq!(
            daemon.documented("status", "status")["broker"]["state"],
            "up"
        );
        let (code, status) = daemon.ask(&["status"]);
        assert_eq!(code, 0, "{status}");
        assert!(
            status.contains("\nbroker         mqtt://127.0.0.1:1883, reached"),
            "{status}"
        );
        // Killed, the broker speaks for it; the next run says so itself.
        daemon.kill(|_| ());
        let will = watcher.next("s/towpath/state");
        assert_eq!(will["data"]["online"], false);
        assert_eq!(will["data"]["inst"], inst);
        let again = watcher.next("s/towpath/state");
        assert_eq!(again["data"]["online"], true);
        assert_ne!(again["data"]["inst"], inst);
        Ok(())
    })
    .unwrap();
}

/// Killed with messages that wait: the next run delivers all of them, in order.
#[test]
fn what_waits_for_the_broker_survives_a_kill() {
    in_private_network("broker::what_waits_for_the_broker_survives_a_kill", || {
        ip(LINKS)?;
        let mut broker = Broker::new("broker-kill");
        let mut daemon = daemon("broker-kill", &broker);
        let phone = Phone::register(&daemon, "1001", "10.0.0.20", "10.0.0.3");
        let users: Vec<String> = (2..PHONES + 2).map(|n| format!("u{n}")).collect();
        for (cseq, user) in (2..).zip(&users) {
            phone.request("REGISTER", "sip:example.com", user, cseq, "", "");
            phone.receive("SIP/2.0 200");
        }
        let all = u64::from(PHONES) + 1;
        comes("all wait", || waiting(&daemon) == all);
        let metrics = daemon.metrics();
        for line in [
            format!("towpath_outbox_depth{{link=\"broker\"}} {all}"),
            "towpath_mqtt_upstream_up{link=\"broker\"} 0".to_owned(),
            "towpath_outbox_lost_total{link=\"broker\",reason=\"full\"} 0".to_owned(),
        ] {
            assert!(metrics.lines().any(|l| l == line), "{line}\n{metrics}");
        }
        comes("all is on disk", || {
            daemon
                .metrics()
                .lines()
                .any(|l| l == "towpath_store_pending 0")
        });
        daemon.kill(|_| ());
        assert!(waiting(&daemon) >= all, "{}", waiting(&daemon));
        // It reaches the broker as soon as there is one: it is held until somebody listens there.
        daemon.signal(Signal::SIGSTOP);
        broker.start();
        let watcher = Watcher::start();
        daemon.signal(Signal::SIGCONT);
        let mut added = Vec::new();
        while added.len() < users.len() + 1 {
            let event = watcher.next("s/towpath/evt/reg");
            if event["type"] == "reg.added" {
                added.push(event["data"]["aor"].as_str().unwrap().to_owned());
            }
        }
        let expected = std::iter::once("1001").chain(users.iter().map(String::as_str));
        let expected: Vec<String> = expected.map(|u| format!("{u}@example.com")).collect();
        assert_eq!(added, expected);
        comes("nothing waits", || waiting(&daemon) == 0);
        // A broker that goes is an event, and after a while a matter of health.
        broker.kill();
        comes("it is an event", || {
            let (_, events) = daemon.ask(&["events"]);
            events.contains("broker.up") && events.contains("broker.down")
        });
        Ok(())
    })
    .unwrap();
}

/// Over TLS; and not with a broker that somebody else vouches for.
#[test]
fn a_broker_is_reached_over_tls() {
    in_private_network("broker::a_broker_is_reached_over_tls", || {
        ip(LINKS)?;
        let name = format!("towpath-broker-certificates-{}", std::process::id());
        let files = Scratch::create(&name)?;
        let [ours, others] = ["ours", "others"].map(|name| files.directory(name).unwrap());
        let (ours, others) = (Authority::new(&ours)?, Authority::new(&others)?);
        let Issued { certificate, key } = ours.issue("broker", "IP:127.0.0.1", 30)?;
        let (certificate, key) = (certificate.display(), key.display());
        let tls = format!("listener 8883 127.0.0.1\ncertfile {certificate}\nkeyfile {key}\n");
        let mut broker = Broker::with("broker-tls", &tls);
        broker.start();
        let watcher = Watcher::start();
        let with = |ca: &Authority| {
            let ca = ca.certificate();
            let url = EXTERNAL.replace("mqtt://127.0.0.1:1883", "mqtts://127.0.0.1:8883");
            let directory = broker.directory.to_str().unwrap();
            fs::write(broker.directory.join("secret"), "secret\n").unwrap();
            format!(
                "{CONFIG}{}ca = {ca:?}\n",
                url.replace("DIRECTORY", directory)
            )
        };
        {
            let daemon = Daemon::with("broker-tls-others", &with(&others));
            let why = || {
                let broker = daemon.documented("status", "status")["broker"].clone();
                broker["why"].as_str().unwrap_or_default().to_lowercase()
            };
            comes("it is not taken for the broker", || {
                why().contains("certificate")
            });
        }
        let daemon = Daemon::with("broker-tls", &with(&ours));
        assert_eq!(watcher.next("s/towpath/state")["data"]["online"], true);
        let (code, status) = daemon.ask(&["status"]);
        assert_eq!(code, 0, "{status}");
        assert!(
            status.contains("\nbroker         mqtts://127.0.0.1:8883, reached"),
            "{status}"
        );
        Ok(())
    })
    .unwrap();
}
