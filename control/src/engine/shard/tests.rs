use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::config::check::check;
use crate::effect::{Effect, Kept};
use crate::engine::event::{EVENTS_MAX, Kind, Log};
use crate::engine::input::Input;
use crate::id::{Listener, Transport};
use crate::sip::digest::{Attempt, Secret, answer};
use crate::sip::index::{Message, Name};

const CONFIG: &str = r#"
[sip]
domain = "example.com"
address_grace = "10s"
[[sip.account]]
user = "1001"
password = "pw"
[[network]]
name = "lan"
interface = "eth1"
address = "10.0.0.3"
peers = ["10.0.0.0/8"]
media_ports = "20000-20255"
"#;
const WAN: &str = r#"
[[network]]
name = "wan"
interface = "eth0"
address = "192.0.2.3"
peers = ["0.0.0.0/0"]
media_ports = "30000-30255"
"#;
const PHONE: &str = "10.0.0.31:5060";
const SEED: [u8; 32] = [9; 32];

/// Engines of one node, and whose a message is.
struct Site {
    engines: Vec<Engine>,
    shards: Shards,
    now: Instant,
    branch: u32,
    /// What outlives it.
    kept: Vec<Kept>,
}

impl Site {
    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant can be had from the clock only; the tests count from this one"
    )]
    fn new(count: u16, text: &str) -> Self {
        let (config, now) = (Arc::new(config(text)), Instant::now());
        let engine = |shard| Engine::shard(config.clone(), SEED, shard, now);
        Self {
            engines: Shard::all(count).map(engine).collect(),
            shards: shards(SEED, count),
            now,
            branch: 0,
            kept: Vec::new(),
        }
    }

    /// A Call-ID of this shard's.
    fn call_id(&self, shard: usize) -> String {
        let mut names = (0..).map(|n| format!("call-{n}"));
        let its = |id: &String| self.shards.of_call_id(id.as_bytes()) == shard;
        names.find(its).unwrap()
    }

    /// What is sent when the phone has sent this; the other engines hear what there is for them.
    fn send(&mut self, method: &str, call_id: &str, lines: &str) -> Vec<Message> {
        self.branch += 1;
        self.now += Duration::from_millis(1);
        let user = if method == "REGISTER" { "" } else { "1001@" };
        // Strangers are answered with no more bytes than they sent.
        let agent = "a".repeat(500);
        let text = format!(
            "{method} sip:{user}example.com SIP/2.0\r\n\
             Via: SIP/2.0/UDP {PHONE};branch=z9hG4bK{}\r\nMax-Forwards: 70\r\n\
             From: <sip:1001@example.com>;tag=a\r\nTo: <sip:1001@example.com>\r\n\
             Call-ID: {call_id}\r\nCSeq: {} {method}\r\n\
             Contact: <sip:1001@{PHONE}>\r\n{lines}\
             X-Agent: {agent}\r\nContent-Length: 0\r\n\r\n",
            self.branch, self.branch
        );
        let on = Listener {
            transport: Transport::Udp,
            local: "10.0.0.3:5060".parse().unwrap(),
        };
        let from: SocketAddr = PHONE.parse().unwrap();
        let bytes = Bytes::from(text);
        let shard = self.shards.of(&bytes);
        let mut effects = Effects::new();
        self.engines[shard].handle(Input::Sip { on, from, bytes }, self.now, &mut effects);
        self.perform(shard, effects)
    }

    fn perform(&mut self, shard: usize, effects: Effects) -> Vec<Message> {
        let mut sent = Vec::new();
        for effect in effects {
            if let Effect::Send { bytes, .. } = effect {
                sent.push(Message::parse(bytes).unwrap());
                continue;
            }
            if let Effect::Ban { net, account, why } = effect {
                let others = self.engines.iter_mut().enumerate();
                for (_, engine) in others.filter(|(other, _)| *other != shard) {
                    let account = account.clone();
                    let told = Input::Banned { net, account, why };
                    engine.handle(told, self.now, &mut vec![]);
                }
                continue;
            }
            if let Effect::Spent(spent) = effect {
                assert!(sent.is_empty(), "nobody hears of it before the others know");
                let others = self.engines.iter_mut().enumerate();
                for (_, engine) in others.filter(|(other, _)| *other != shard) {
                    engine.handle(Input::Spent(spent), self.now, &mut vec![]);
                }
                continue;
            }
            if let Effect::Store { table, key, record } = effect {
                assert!(sent.is_empty(), "nobody hears of it before it is kept");
                let record = record.unwrap();
                self.kept.push(Kept { table, key, record });
                continue;
            }
            let Effect::Publish { aor } = effect else {
                panic!("{effect:?}");
            };
            assert!(sent.is_empty(), "nobody hears of it before the others know");
            let bindings = self.engines[shard].bindings(&aor);
            for engine in &mut self.engines[1..] {
                let (aor, bindings) = (aor.clone(), bindings.clone());
                engine.handle(Input::Published { aor, bindings }, self.now, &mut vec![]);
            }
        }
        sent
    }

    /// The code that answers a request with credentials for this challenge.
    fn authorized(&mut self, method: &str, call_id: &str, challenge: &[u8], count: u32) -> u16 {
        let uri = match method {
            "REGISTER" => "sip:example.com",
            _ => "sip:1001@example.com",
        };
        let attempt = Attempt {
            user: "1001",
            secret: Secret::Password("pw"),
            method: method.as_bytes(),
            uri,
            body: b"",
            count,
            cnonce: "c",
        };
        let value = answer(challenge, &attempt).unwrap();
        let name = if method == "REGISTER" { "" } else { "Proxy-" };
        let sent = self.send(
            method,
            call_id,
            &format!("{name}Authorization: {value}\r\n"),
        );
        sent[0].code().unwrap()
    }

    fn registered(count: u16) -> (Self, Vec<u8>) {
        let mut site = Self::new(count, CONFIG);
        let call_id = site.call_id(usize::from(count) - 1);
        let sent = site.send("REGISTER", &call_id, "");
        let challenge = sent[0].get(Name::WwwAuthenticate).unwrap().to_vec();
        assert_eq!(site.authorized("REGISTER", &call_id, &challenge, 1), 200);
        (site, challenge)
    }
}

fn config(text: &str) -> Config {
    check("t", text, None, &mut |_| {
        Err(std::io::ErrorKind::NotFound.into())
    })
    .unwrap()
}

const PEER: &str = r#"
[[sip.peer]]
name = "mcu"
uri = "sip:10.0.0.20"
probe = "10s"
probe_failures = 2
"#;

/// One shard asks, with Call-IDs of its own, and all know what came of it.
#[test]
fn a_peer_is_probed_by_one_shard_for_all() {
    let mut site = Site::new(3, &format!("{CONFIG}{PEER}"));
    let mut probes = BTreeSet::new();
    for _ in 0..20 {
        site.now += Duration::from_secs(1);
        for shard in 0..3 {
            let mut effects = Effects::new();
            site.engines[shard].expire(site.now, &mut effects);
            for effect in effects {
                if let Effect::Send { bytes, .. } = effect {
                    assert_eq!((shard, site.shards.of(&bytes)), (0, 0));
                    let message = Message::parse(bytes).unwrap();
                    probes.insert(message.call_id().to_vec());
                    continue;
                }
                let Effect::Peer { address, sign } = effect else {
                    panic!("{effect:?}");
                };
                assert_eq!(shard, 0);
                for other in &mut site.engines[1..] {
                    let told = Input::Peer { address, sign };
                    other.handle(told, site.now, &mut vec![]);
                }
            }
        }
    }
    assert_eq!(probes.len(), 2);
    let now = site.now;
    let states = |engine: &Engine| engine.peers(now)[0].state;
    let states: Vec<_> = site.engines.iter().map(states).collect();
    assert_eq!(states, ["down"; 3]);
    let noted = |engine: &Engine| engine.counters().get("peer", "down");
    let noted: Vec<u64> = site.engines.iter().map(noted).collect();
    assert_eq!(noted, [1, 0, 0]);
}

/// A nonce is taken by every engine, whichever request it comes in, and once by all of them.
#[test]
fn credentials_are_taken_once_in_all_shards() {
    let (mut site, registered) = Site::registered(2);
    for shard in [0, 1] {
        let call_id = site.call_id(shard);
        let other = format!("{}-other", site.call_id(1 - shard));
        let other = (0..).map(|n| format!("{other}{n}"));
        let other = other.into_iter();
        let mut other = other.filter(|id| site.shards.of_call_id(id.as_bytes()) == 1 - shard);
        let other = other.next().unwrap();
        // What was good for REGISTER is good here too, once in either call.
        let count = 2 + u32::try_from(shard).unwrap();
        let again = format!("{call_id}-again");
        let again = (0..).map(|n| format!("{again}{n}"));
        let mut again = again.filter(|id| site.shards.of_call_id(id.as_bytes()) == shard);
        let again = again.next().unwrap();
        for (id, expected) in [(&again, 100), (&call_id, 407), (&other, 407)] {
            let code = site.authorized("INVITE", id, &registered, count);
            assert_eq!(code, expected, "{shard}");
        }
        let sent = site.send("INVITE", &call_id, "");
        let challenge = sent[0].get(Name::ProxyAuthenticate).unwrap().to_vec();
        assert_eq!(site.authorized("INVITE", &call_id, &challenge, 1), 100);
        assert_eq!(site.authorized("INVITE", &call_id, &challenge, 1), 407);
        // The same in another call.
        assert_eq!(site.authorized("INVITE", &other, &challenge, 1), 407);
    }
}

#[test]
fn registrations_are_known_everywhere_and_kept_once() {
    let (site, _) = Site::registered(3);
    let aor = Aor::new("1001", "example.com");
    for engine in &site.engines {
        assert_eq!(engine.bindings(&aor).len(), 1);
        let shown = engine.totals().registrations;
        assert_eq!(shown, usize::from(engine.shard.is_first()));
    }
    let totals = Totals::sum(site.engines.iter().map(Engine::totals));
    assert_eq!(totals.registrations, 1);
    // One engine has nobody to tell.
    let (site, _) = Site::registered(1);
    assert_eq!(site.engines[0].bindings(&aor).len(), 1);
}

/// What an earlier process kept is the first one's, and all know of it.
#[test]
fn restored_registrations_are_known_everywhere() {
    let (site, _) = Site::registered(1);
    assert_eq!(site.kept.len(), 1);
    let aor = Aor::new("1001", "example.com");
    for count in [1, 3] {
        let mut next = Site::new(count, CONFIG);
        let mut effects = Effects::new();
        let restored = Input::Restored(site.kept.clone());
        next.engines[0].handle(restored, next.now, &mut effects);
        assert_eq!(next.perform(0, effects).len(), 0);
        let known = next
            .engines
            .iter()
            .map(|engine| engine.bindings(&aor).len());
        assert_eq!(known.collect::<Vec<_>>(), vec![1; count.into()]);
        // It is kept already.
        assert_eq!(next.kept, []);
    }
}

#[test]
fn whom_one_engine_bans_all_ban() {
    let mut site = Site::new(3, CONFIG);
    let call_id = site.call_id(2);
    let scanner = "User-Agent: friendly-scanner\r\n";
    // A third of `ban_after`.
    for n in 1..=6 {
        assert!(
            site.engines
                .iter()
                .all(|engine| engine.bans_count(site.now) == 0),
            "{n}"
        );
        assert_eq!(site.send("OPTIONS", &call_id, scanner).len(), 0);
    }
    assert!(
        site.engines
            .iter()
            .all(|engine| engine.bans_count(site.now) == 1)
    );
    for shard in 0..3 {
        let call_id = site.call_id(shard);
        assert_eq!(site.send("OPTIONS", &call_id, "").len(), 0);
    }
    let noted = |engine: &Engine| {
        engine
            .events(0)
            .filter(|e| e.kind == Kind::SourceBanned)
            .count()
    };
    assert_eq!(site.engines.iter().map(noted).sum::<usize>(), 1);
}

#[test]
fn engines_have_names_of_their_own() {
    let mut site = Site::new(3, CONFIG);
    let mut names: Vec<String> = Vec::new();
    for engine in &mut site.engines {
        names.extend((0..5).map(|_| engine.names.token()));
    }
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
    // What strangers are asked for does not tell the engines apart.
    let engines = site.engines.iter();
    let mut asked: Vec<_> = engines.map(|e| e.names.name_of(&[b"1001"])).collect();
    asked.dedup();
    assert_eq!(asked.len(), 1);
    // A request of its own is answered to it.
    for (shard, engine) in site.engines.iter_mut().enumerate() {
        for _ in 0..5 {
            let call_id = engine.own_call_id();
            assert_eq!(site.shards.of_call_id(call_id.as_bytes()), shard);
        }
    }
    // The first one's are those of a single engine.
    let [mut one, mut three] = [1, 3].map(|count| Site::new(count, CONFIG));
    assert_eq!(one.engines[0].names.token(), three.engines[0].names.token());
}

/// A network has one number in all engines, also if only one of them still uses a former one.
#[test]
fn networks_are_numbered_together() {
    let mut site = Site::new(2, &format!("{CONFIG}{WAN}"));
    let (second, at) = (Shard::all(2).nth(1).unwrap(), "192.0.2.3:30002");
    assert!(second.owns_port(30_002));
    let flows = Input::Adopted(vec![(at.parse().unwrap(), at.parse().unwrap())]);
    site.engines[1].handle(flows, site.now, &mut vec![]);
    site.reconfigure(CONFIG);
    // Long after the grace, and before the flow counts as silent.
    site.now += Duration::from_secs(30);
    for engine in &mut site.engines {
        engine.expire(site.now, &mut vec![]);
    }
    let known = site
        .engines
        .iter()
        .map(|engine| engine.networks_retired().len());
    assert_eq!(known.collect::<Vec<_>>(), [0, 1]);
    site.reconfigure(&format!(
        "{CONFIG}{}",
        WAN.replace("192.0.2.3", "192.0.2.4")
    ));
    let wan = |engine: &Engine| engine.config().networks[1].id;
    assert_eq!(wan(&site.engines[0]), wan(&site.engines[1]));
    let former = site.engines[1].networks_retired()[0].network.id;
    assert_ne!(wan(&site.engines[0]), former);
    let applied = |engine: &Engine| {
        let kinds = engine.events(0).map(|event| event.kind);
        kinds
            .filter(|kind| *kind == Kind::ConfigurationApplied)
            .count()
    };
    assert_eq!(site.engines.iter().map(applied).collect::<Vec<_>>(), [2, 0]);
}

impl Site {
    fn reconfigure(&mut self, text: &str) {
        let mut effects = vec![Effects::new(); self.engines.len()];
        let mut shards: Vec<_> = self.engines.iter_mut().zip(&mut effects).collect();
        reconfigure(&mut shards, config(text), self.now);
    }
}

#[test]
fn events_of_all_engines_are_one_row() {
    let mut site = Site::new(2, CONFIG);
    let mut log = Log::default();
    let note = |site: &mut Site, shard: usize, after: u64, subject: &str| {
        let at = site.now + Duration::from_secs(after);
        site.engines[shard].note(at, Kind::CallStarted, subject, Vec::new());
    };
    note(&mut site, 0, 1, "a");
    note(&mut site, 1, 2, "b");
    note(&mut site, 0, 3, "c");
    gather(&site, &mut log);
    note(&mut site, 1, 4, "d");
    gather(&site, &mut log);
    let row = |log: &Log, since| {
        let events = log.after(since);
        events
            .map(|e| (e.seq, e.subject.clone()))
            .collect::<Vec<_>>()
    };
    let expected = [(1, "a"), (2, "b"), (3, "c"), (4, "d")].map(|(n, s)| (n, s.to_owned()));
    assert_eq!(row(&log, 0), expected);
    assert_eq!(row(&log, 3), expected[3..]);
    assert_eq!(log.last(), 4);
    // More than an engine remembers: the numbers go on, and say so.
    for n in 0..EVENTS_MAX as u64 + 5 {
        note(&mut site, 1, 5 + n, "e");
    }
    gather(&site, &mut log);
    assert_eq!(log.last(), 4 + EVENTS_MAX as u64 + 5);
    assert_eq!(row(&log, 4).first().unwrap().0, 10);
    gather(&site, &mut log);
    assert_eq!(row(&log, log.last()), []);

    fn gather(site: &Site, log: &mut Log) {
        let news = site.engines.iter().enumerate().map(|(shard, engine)| {
            let events = engine.events(log.seen(shard)).cloned().collect();
            (engine.last_event(), events)
        });
        let news = news.collect();
        log.take(news);
    }
}
