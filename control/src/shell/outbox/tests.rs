//! Against mosquitto on the loopback, which stalls, is killed and starts again.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rumqttc::{AsyncClient, Event, MqttOptions, NetworkOptions, Packet, QoS};
use tokio::net::{TcpListener as Listener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::*;
use crate::bus::Qos;
use crate::config::{self, Sync};
use crate::shell::plane;
use crate::shell::store::Store;

const MOSQUITTO: &str = "/usr/sbin/mosquitto";
const LIMIT: Duration = Duration::from_secs(120);
const KEYS: u32 = 10;
/// 5,000 messages a second.
const BATCH: u32 = 50;
const EVERY: Duration = Duration::from_millis(10);
/// As much may wait when a round begins.
const BACKLOG: usize = 10_000;

/// A broker with a configuration and a directory of its own.
struct Broker {
    directory: PathBuf,
    port: u16,
    process: Option<Child>,
}

impl Broker {
    async fn new(name: &str, persistence: bool) -> Self {
        let name = format!("towpath-broker-{name}-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory).unwrap();
        let port = free_port();
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n\
             max_inflight_messages 100\nmax_queued_messages 0\npersistence {persistence}\n\
             persistence_location {}/\nautosave_interval 1\nuser root\nlog_type error\n",
            directory.display()
        );
        fs::write(directory.join("mosquitto.conf"), config).unwrap();
        let mut broker = Self {
            directory,
            port,
            process: None,
        };
        broker.start().await;
        broker
    }

    async fn start(&mut self) {
        let process = Command::new(MOSQUITTO)
            .arg("-c")
            .arg(self.directory.join("mosquitto.conf"))
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto: `cargo xtask setup` installs it");
        self.process = Some(process);
        let port = self.port;
        let reached = until(async || TcpStream::connect(("127.0.0.1", port)).await.is_ok());
        reached.await;
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().unwrap();
        kill(Pid::from_raw(i32::try_from(process.id()).unwrap()), signal).unwrap();
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

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

async fn until(mut is: impl AsyncFnMut() -> bool) {
    let wait = async {
        let mut look = interval(Duration::from_millis(5));
        while !is().await {
            look.tick().await;
        }
    };
    timeout(LIMIT, wait).await.expect("it did not come about");
}

/// Between the link and the broker: nobody publishes before the observer listens.
struct Gate {
    port: u16,
    open: watch::Sender<bool>,
}

impl Gate {
    async fn new(broker: u16) -> Self {
        let listener = Listener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (open, is_open) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut is_open = is_open.clone();
                if !*is_open.borrow() {
                    continue;
                }
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(("127.0.0.1", broker)).await else {
                        return;
                    };
                    far.set_nodelay(true).unwrap();
                    near.set_nodelay(true).unwrap();
                    let copy = tokio::io::copy_bidirectional(&mut near, &mut far);
                    tokio::select! {
                        _ = copy => {}
                        _ = is_open.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Self { port, open }
    }

    fn set(&self, open: bool) {
        self.open.send_replace(open);
    }
}

/// Everything that arrived, by topic, in order.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<BTreeMap<String, Vec<u32>>>>);

impl Heard {
    /// Listens until the broker is gone; returns when it is heard.
    async fn listen(&self, port: u16) -> JoinHandle<()> {
        let mut options = MqttOptions::new("observer", "127.0.0.1", port);
        options.set_keep_alive(Duration::from_secs(60));
        options.set_max_packet_size(1 << 20, 1 << 20);
        let (client, mut events) = AsyncClient::new(options, 10);
        events.set_network_options(nodelay());
        let (subscribed, is_subscribed) = oneshot::channel();
        let mut subscribed = Some(subscribed);
        let heard = self.clone();
        client.try_subscribe("t/#", QoS::AtMostOnce).unwrap();
        let task = tokio::spawn(async move {
            let _client = client;
            while let Ok(event) = events.poll().await {
                match event {
                    Event::Incoming(Packet::SubAck(_)) => {
                        if let Some(subscribed) = subscribed.take() {
                            subscribed.send(()).unwrap();
                        }
                    }
                    Event::Incoming(Packet::Publish(publish)) => {
                        let number = str::from_utf8(&publish.payload).unwrap().parse().unwrap();
                        let mut heard = heard.0.lock().unwrap();
                        heard.entry(publish.topic).or_default().push(number);
                    }
                    Event::Incoming(_) | Event::Outgoing(_) => {}
                }
            }
        });
        timeout(LIMIT, is_subscribed).await.unwrap().unwrap();
        task
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().values().map(Vec::len).sum()
    }

    /// Without those that came twice, and how many these are.
    fn sorted_out(&self) -> (BTreeMap<String, Vec<u32>>, usize) {
        let mut twice = 0;
        let heard = self.0.lock().unwrap().clone();
        let heard = heard.into_iter().map(|(topic, numbers)| {
            let mut seen = std::collections::BTreeSet::new();
            let all = numbers.len();
            let mut first = numbers;
            first.retain(|number| seen.insert(*number));
            twice += all - first.len();
            (topic, first)
        });
        (heard.collect(), twice)
    }
}

fn nodelay() -> NetworkOptions {
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network
}

/// Publishes as long as the test lasts, and knows what was accepted.
#[derive(Default)]
struct Producer {
    accepted: BTreeMap<String, Vec<u32>>,
    last: u32,
    refused: u32,
}

impl Producer {
    fn next(&mut self) -> (String, u32) {
        self.last += 1;
        (format!("t/{}", self.last % KEYS), self.last)
    }

    fn accepted(&mut self, topic: String, number: u32) {
        self.accepted.entry(topic).or_default().push(number);
    }

    /// A number of messages at the rate, into the outbox.
    async fn push(&mut self, outbox: &Outbox, count: u32) {
        let mut pace = interval(EVERY);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for _ in 0..count / BATCH {
            pace.tick().await;
            for _ in 0..BATCH {
                let (topic, number) = self.next();
                if outbox.push(publication(&topic, number)).is_err() {
                    self.refused += 1;
                    continue;
                }
                self.accepted(topic, number);
            }
        }
    }
}

fn publication(topic: &str, number: u32) -> Publication {
    Publication {
        topic: topic.to_owned(),
        payload: number.to_string().into(),
        qos: Qos::AtLeastOnce,
        retain: false,
        expiry: None,
    }
}

fn settings(port: u16) -> Settings {
    Settings {
        host: "127.0.0.1".to_owned(),
        port,
        tls: None,
        tls_texts: Vec::new(),
        client: "towpath-edge-01".to_owned(),
        credentials: None,
        filters: vec!["c/+/cmd/+".to_owned()],
        will: None,
    }
}

/// A round's troubles.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    Stall,
    Kill,
    StallAndKill,
}

impl Trouble {
    fn of(round: u32) -> Self {
        [Self::StallAndKill, Self::Kill, Self::Stall][usize::try_from(round % 3).unwrap()]
    }
}

fn rounds() -> u32 {
    match std::env::var("TOWPATH_SOAK") {
        Ok(_) => 50,
        Err(_) => 4,
    }
}

/// All rounds with one broker, at most: both take less than twelve minutes.
const ROUNDS_LIMIT: Duration = Duration::from_secs(340);

/// Of this process.
fn resident_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().split_whitespace().next().unwrap();
    kib.parse::<u64>().unwrap() / 1024
}

async fn nothing_is_lost(name: &str, persistence: bool) {
    let mut broker = Broker::new(name, persistence).await;
    let gate = Gate::new(broker.port).await;
    let heard = Heard::default();
    let mut listening = heard.listen(broker.port).await;
    gate.set(true);
    let (store, _) = Store::open(&config::Store {
        path: broker.directory.join("state.redb"),
        sync: Sync::Before,
    });
    let (inbox, _mail) = plane::inbox();
    let limits = Limits {
        messages: 65_536,
        bytes: 64 << 20,
        window: WINDOW,
    };
    let outbox = Outbox::start(limits, store.keeper(None), Vec::new(), inbox);
    outbox.configure(limits, Some(settings(gate.port)));
    let mut producer = Producer::default();
    let started = clock::now();
    for round in 0..rounds() {
        let trouble = Trouble::of(round);
        let depth = outbox.view(clock::now()).unwrap().depth;
        println!(
            "{name}: round {} of {}, {} s: {trouble:?}, {} accepted, {depth} wait, {} MiB",
            round + 1,
            rounds(),
            started.elapsed().as_secs(),
            producer.last - producer.refused,
            resident_mib(),
        );
        assert!(started.elapsed() < ROUNDS_LIMIT, "the rounds take too long");
        producer.push(&outbox, 1500).await;
        if !matches!(trouble, Trouble::Kill) {
            broker.signal(Signal::SIGSTOP);
            producer.push(&outbox, 2500).await;
        }
        if let Trouble::Stall = trouble {
            broker.signal(Signal::SIGCONT);
            continue;
        }
        gate.set(false);
        broker.kill();
        listening.await.unwrap();
        producer.push(&outbox, 1000).await;
        broker.start().await;
        listening = heard.listen(broker.port).await;
        gate.set(true);
        until(async || outbox.view(clock::now()).unwrap().depth < BACKLOG).await;
    }
    until(async || outbox.view(clock::now()).unwrap().depth == 0).await;
    let all = usize::try_from(producer.last - producer.refused).unwrap();
    // Sorting takes its time.
    until(async || heard.count() >= all).await;
    until(async || heard.sorted_out().0 == producer.accepted).await;
    let (_, twice) = heard.sorted_out();
    let view = outbox.view(clock::now()).unwrap();
    let ends = outbox
        .news()
        .iter()
        .filter(|news| news.down.is_some())
        .count();
    println!(
        "{name}: {} messages in {} rounds and {} s, none lost, order kept, {twice} twice, {ends} \
         connections lost, {} submitted again, {} never accepted, {} MiB",
        producer.last,
        rounds(),
        started.elapsed().as_secs(),
        view.counts.redelivered,
        producer.refused,
        resident_mib(),
    );
    assert!(ends > 0);
    assert!(
        twice <= ends * usize::from(WINDOW),
        "{twice} twice, {ends} ends"
    );
    assert_eq!(
        view.counts.delivered,
        u64::from(producer.last - producer.refused)
    );
    assert_eq!(view.counts.lost, BTreeMap::new());
    store.close();
}

#[tokio::test]
async fn a_broker_that_stalls_dies_and_comes_back_gets_everything_in_order() {
    nothing_is_lost("plain", false).await;
}

#[tokio::test]
async fn so_does_one_that_keeps_its_sessions() {
    nothing_is_lost("persistent", true).await;
}

/// The library alone, as one would use it: what it accepted and lost without a word.
#[tokio::test]
async fn the_client_library_alone_loses_messages() {
    let mut broker = Broker::new("alone", true).await;
    let gate = Gate::new(broker.port).await;
    let heard = Heard::default();
    let mut listening = heard.listen(broker.port).await;
    gate.set(true);
    let mut options = rumqttc::v5::MqttOptions::new("alone", "127.0.0.1", gate.port);
    options.set_keep_alive(Duration::from_secs(5));
    options.set_clean_start(false);
    options.set_session_expiry_interval(Some(3600));
    options.set_network_options(nodelay());
    let (client, mut events) = rumqttc::v5::AsyncClient::new(options, 100);
    let polling = tokio::spawn(async move {
        let mut again = interval(Duration::from_millis(50));
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if events.poll().await.is_err() {
                again.tick().await;
            }
        }
    });
    let mut producer = Producer::default();
    let mut pace = interval(Duration::from_micros(200));
    for round in 0..2 {
        for phase in [300, 400] {
            for _ in 0..phase {
                let (topic, number) = producer.next();
                let qos = rumqttc::v5::mqttbytes::QoS::AtLeastOnce;
                let accepted = client.try_publish(&topic, qos, false, number.to_string());
                if accepted.is_ok() {
                    producer.accepted(topic, number);
                }
                pace.tick().await;
            }
            if phase == 300 {
                broker.signal(Signal::SIGSTOP);
            }
        }
        gate.set(false);
        broker.kill();
        listening.await.unwrap();
        broker.start().await;
        listening = heard.listen(broker.port).await;
        gate.set(true);
        // What it still sends has been sent when this arrives.
        let last = format!("t/last-{round}");
        let qos = rumqttc::v5::mqttbytes::QoS::AtLeastOnce;
        timeout(LIMIT, client.publish(&last, qos, false, "1"))
            .await
            .unwrap()
            .unwrap();
        until(async || heard.0.lock().unwrap().contains_key(&last)).await;
    }
    polling.abort();
    let (heard, _) = heard.sorted_out();
    let lost = producer.accepted.iter().map(|(topic, numbers)| {
        let heard = heard.get(topic).cloned().unwrap_or_default();
        numbers
            .iter()
            .filter(|number| !heard.contains(number))
            .count()
    });
    let lost: usize = lost.sum();
    println!("{lost} of {} messages lost in 2 rounds", producer.last);
    assert!(lost > 0, "then the outbox is not needed");
}
