//! The configuration is replaced again and again while calls go on; half of what is asked for is
//! wrong. Nobody hears anything of it.
//!
//! `TOWPATH_RELOADS=1000` runs the long form: so many reloads, and 200 calls.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use towpath_tests::demo::config::DOMAIN;
use towpath_tests::lab::{Lab, Parts, Role, plan};
use towpath_tests::process::{self, Towpath};
use towpath_tests::rtp::RtpSocket;
use towpath_tests::talk::{End, Talk, ssrc};
use towpath_tests::ua::{Dialog, Ua};
use towpath_tests::{clock, http};

use super::stage::{CORE, Config, LAN, LIMIT, Mode, Net, Stage, WAN, assert_whole};

/// Reloads in the short form.
const RELOADS: usize = 100;
/// Calls meanwhile, in the short and in the long form.
const CALLS: (usize, usize) = (40, 200);
/// Between two packets of one party.
const EVERY: Duration = Duration::from_millis(100);
/// Our port in the core network, which somebody else has.
const BUSY: u16 = 5099;

/// What the daemon is told, and what becomes of it.
struct Word {
    text: String,
    accepted: bool,
}

/// A call and its sockets; both parties talk.
struct Talking {
    dialog: Dialog,
    talk: Talk,
    _sockets: [(RtpSocket, UdpSocket); 2],
}

/// The text of every turn: each differs from all before it.
fn word(config: &Config, turn: usize) -> Word {
    let mut config = config.clone();
    let mut accepted = true;
    let base = Config::toml;
    let lan = |config: &mut Config, more| {
        for net in config.networks.iter_mut().filter(|net| net.name == "lan") {
            net.more = more;
        }
    };
    let text = match turn % 16 {
        // Right, and wrong, in turn.
        0 => base(&config).replace("auth = \"none\"", "auth = \"none\"\nexpires_max = \"2h\""),
        2 => {
            lan(
                &mut config,
                "advertise = \"198.51.100.1:15060\"\naddress_change = \"ignore\"\n",
            );
            base(&config)
        }
        12 => {
            config.networks.push(WAN);
            base(&config)
        }
        6 => {
            let ports = |net: &mut Net| net.ports = (40_000, 41_999);
            config
                .networks
                .iter_mut()
                .filter(|net| net.name == "lan")
                .for_each(ports);
            base(&config)
        }
        8 => {
            lan(
                &mut config,
                "address_change = \"ignore\"\nmedia = \"symmetric\"\nnat = \"always\"\ndscp = 34\n",
            );
            base(&config)
        }
        4 => {
            // Our address in the callers' network moves; they stay where they are.
            for net in config.networks.iter_mut().filter(|net| net.name == "lan") {
                net.address = plan::EDGE_LAN_SECOND;
            }
            base(&config)
        }
        14 => base(&config).replace("name = \"lan\"", "name = \"office\""),
        10 => base(&config).replace("auth = \"none\"", "auth = \"digest\""),
        wrong => {
            accepted = false;
            if wrong == 7 {
                // Its interface is got before the port that cannot be had.
                config.networks.push(WAN);
            }
            let text = base(&config);
            match wrong {
                1 => format!("{text}[[network\n"),
                3 => text.replace("media_ports", "media_prots"),
                5 => text.replace("flows = 1024", "flows = 2048"),
                7 => text.replace("listen = [", &format!("listen = [\"udp:{}\", ", busy())),
                11 => text.replace("peers = [\"10.1.0.0/24\"]", "peers = [\"10.1.0.1/24\"]"),
                13 => text.replace("[node]\n", "[node]\nsocket = \"towpath.sock\"\n"),
                9 => text.replace("interface = \"lan\"", "interface = \"nal\""),
                _ => text.replace("id = \"lab\"", "id = \"other\""),
            }
        }
    };
    Word {
        text: format!("{text}# turn {turn}\n"),
        accepted,
    }
}

fn busy() -> SocketAddr {
    SocketAddr::new(plan::EDGE_CORE.parse().unwrap(), BUSY)
}

/// Asks for a configuration, by turns over the API and by SIGHUP; waits until it was decided.
fn ask(stage: &Stage, turn: usize, word: &Word) {
    let socket = stage.towpath.socket();
    if turn % 4 < 2 {
        let before = decided(stage);
        stage.towpath.configure(&word.text).unwrap();
        stage.towpath.reload().unwrap();
        let more = || Ok((decided(stage) > before).then_some(()));
        clock::until(&format!("reload {turn}"), LIMIT, more).unwrap();
    } else {
        let path = "/api/v1/config";
        let answer = http::send(socket, "PUT", path, "If-Match: *\r\n", &word.text).unwrap();
        assert_eq!(
            answer.status == 200,
            word.accepted,
            "{turn}: {:#}",
            answer.body
        );
    }
}

/// Reloads so far, whatever became of them.
fn decided(stage: &Stage) -> u64 {
    let text = http::text(stage.towpath.socket(), "/metrics").unwrap();
    let lines = text
        .lines()
        .filter(|line| line.starts_with("towpath_config_reloads_total{"));
    lines
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

/// Generation and hash of the configuration in force.
fn in_force(stage: &Stage) -> (u64, String) {
    let status = stage.towpath.get("/api/v1/status").unwrap();
    let config = &status["config"];
    let hash = config["hash"].as_str().unwrap().to_owned();
    (config["generation"].as_u64().unwrap(), hash)
}

/// Interfaces the program is on.
fn attached(stage: &Stage) -> Vec<String> {
    let status = stage.towpath.get("/api/v1/status").unwrap();
    let interfaces = status["datapath"]["interfaces"].as_array().unwrap();
    let names = interfaces
        .iter()
        .map(|name| name.as_str().unwrap().to_owned());
    names.collect()
}

/// A call between two phones that have many: each with sockets of its own.
fn call(stage: &Stage, caller: &mut Ua, callee: &mut Ua, number: u16) -> Talking {
    let socket = |role: Role, ua: &mut Ua| {
        let namespace = stage.lab.namespace(role).unwrap();
        let at = SocketAddr::new(ua.media.ip(), 20_000 + 2 * number);
        let above = SocketAddr::new(at.ip(), at.port() + 1);
        ua.media = at;
        let rtcp = namespace.enter(|| UdpSocket::bind(above)).unwrap().unwrap();
        (RtpSocket::bind(namespace, at).unwrap(), rtcp)
    };
    let sockets = [socket(Role::C3, caller), socket(Role::Mcu, callee)];
    let dialog = caller.call(callee).unwrap();
    let to = [dialog.caller_sends_to, dialog.callee_sends_to];
    let ends = [0, 1].map(|n| End {
        rtp: &sockets[n].0,
        rtcp: &sockets[n].1,
        sends_to: to[n],
        ssrc: ssrc(),
    });
    let talk = Talk::start(ends, EVERY).unwrap();
    Talking {
        dialog,
        talk,
        _sockets: sockets,
    }
}

/// Everybody stops talking, was heard wholly, and hangs up; how many packets were sent.
fn finish(talking: Vec<Talking>, caller: &Ua, callee: &Ua) -> u64 {
    let finishing = |Talking { dialog, talk, .. }| {
        let finish = move || (dialog, talk.finish().unwrap());
        thread::spawn(finish)
    };
    let finishing: Vec<_> = talking.into_iter().map(finishing).collect();
    let mut sent = 0;
    for finished in finishing {
        let (mut dialog, heard) = finished.join().unwrap();
        assert_whole(&heard);
        sent += heard.iter().map(|h| u64::from(h.sent)).sum::<u64>();
        caller.hang_up(callee, &mut dialog).unwrap();
    }
    sent
}

fn raise(mode: Mode) -> Stage {
    let parts = Parts {
        c3: true,
        mcu: true,
        ..Parts::default()
    };
    let lab = Lab::raise(&parts).unwrap();
    let mut config = Config::new(&lab, mode);
    let wide = |net: Net, first| Net {
        ports: (first, first + 999),
        more: "address_change = \"ignore\"\n",
        ..net
    };
    config.networks = vec![wide(LAN, 20_000), wide(CORE, 40_000)];
    let directory = lab.directory("towpath").unwrap();
    let text = config.toml();
    let edge = lab.namespace(Role::Edge).unwrap();
    let binary = process::binary().unwrap();
    let towpath = Towpath::start(edge, &binary, &directory, &text).unwrap();
    Stage {
        towpath,
        lab,
        mode,
        config,
    }
}

fn reloads_under_load(mode: Mode) {
    let reloads = std::env::var("TOWPATH_RELOADS").map_or(RELOADS, |n| n.parse().unwrap());
    let calls = if reloads > RELOADS { CALLS.1 } else { CALLS.0 };
    let stage = raise(mode);
    let edge = stage.lab.namespace(Role::Edge).unwrap();
    let _busy = edge.enter(|| UdpSocket::bind(busy())).unwrap().unwrap();
    let mut caller = stage.phone(Role::C3, "1003");
    let mut callee = stage.phone(Role::Mcu, "9000");
    let talking: Vec<Talking> = (0..u16::try_from(calls).unwrap())
        .map(|number| call(&stage, &mut caller, &mut callee, number))
        .collect();
    // The first packets find the way; from here on none may be lost.
    for talking in &talking {
        talking.talk.hear(2, LIMIT).unwrap();
    }

    let (mut generation, mut hash) = in_force(&stage);
    let mut interfaces = attached(&stage);
    let mut seen = BTreeSet::from([hash.clone()]);
    for turn in 0..reloads {
        let word = word(&stage.config, turn);
        ask(&stage, turn, &word);
        let (now, found) = in_force(&stage);
        if word.accepted {
            assert_eq!(now, generation + 1, "{turn}: {}", stage.towpath.tail());
            assert!(
                seen.insert(found.clone()),
                "{turn}: a text of before is in force"
            );
            (generation, hash) = (now, found);
            interfaces = attached(&stage);
        } else {
            assert_eq!(
                (now, &found),
                (generation, &hash),
                "{turn}: refused, and yet in force"
            );
            assert_eq!(
                attached(&stage),
                interfaces,
                "{turn}: got, and not given back"
            );
        }
        assert_eq!(stage.number("calls.now"), calls as u64, "{turn}");
    }
    assert_eq!(seen.len(), 1 + reloads.div_ceil(2));

    // The last is not digest, so that everybody may hang up.
    let last = word(&stage.config, 16 * reloads);
    ask(&stage, 0, &last);
    let sent: u64 = finish(talking, &caller, &callee);
    eprintln!("{reloads} reloads, {calls} calls: {sent} packets, 0 lost");
    let history = stage.towpath.get("/api/v1/config/history").unwrap();
    let numbers: Vec<u64> = history["generations"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|g: &Value| g["generation"].as_u64())
        .collect();
    assert!(
        numbers.windows(2).all(|pair| pair[0] == pair[1] + 1),
        "{numbers:?}"
    );
    stage.is_empty();
}

#[test]
fn reloads_under_load_in_the_kernel() {
    reloads_under_load(Mode::Xdp);
}

#[test]
fn reloads_under_load_in_userspace() {
    reloads_under_load(Mode::Userspace);
}

/// A network that is removed stays for those who use it, and no longer.
#[test]
fn a_network_goes_when_nothing_uses_it() {
    let parts = Parts {
        c3: true,
        mcu: true,
        ..Parts::default()
    };
    let stage = Stage::raise(Mode::Xdp, &parts);
    let caller = stage.phone(Role::C3, "1003");
    let callee = stage.phone(Role::Mcu, "9000");
    let call = stage.call(&caller, &callee, "xdp");
    let edge = stage.lab.namespace(Role::Edge).unwrap();
    let is_free = |address: &str| {
        let at = SocketAddr::new(address.parse().unwrap(), 5060);
        edge.enter(|| UdpSocket::bind(at)).unwrap().is_ok()
    };
    let becomes = |what: &str, address: &str, interfaces: &[&str]| {
        let gone = || Ok((is_free(address) && attached(&stage) == interfaces).then_some(()));
        let waited = clock::until(what, GONE_LIMIT, gone);
        waited
            .unwrap_or_else(|e| panic!("{e:#}: {:?}\n{}", attached(&stage), stage.towpath.tail()));
    };
    assert_eq!(attached(&stage), ["wan", "lan", "core"]);

    let mut config = stage.config.clone();
    config.networks = vec![CORE];
    let text = config
        .toml()
        .replace("auth = \"none\"", "auth = \"none\"\naddress_grace = \"0s\"");
    let word = Word {
        text,
        accepted: true,
    };
    ask(&stage, 2, &word);
    // Nobody uses the one; the other has a call and a registration.
    becomes("the unused network to go", plan::EDGE_WAN, &["lan", "core"]);
    assert!(!is_free(plan::EDGE_LAN));
    stage.carries(&call, 50, "xdp");
    call.hang_up();
    let name = format!("/api/v1/registrations/1003@{DOMAIN}");
    assert_eq!(
        http::send(stage.towpath.socket(), "DELETE", &name, "", "")
            .unwrap()
            .status,
        200
    );
    becomes("the used network to go", plan::EDGE_LAN, &["core"]);
    stage.is_empty();
}

/// An answer may be repeated for 32 s (RFC 3261 §17.2.2, timer J); so long sockets stay.
const GONE_LIMIT: Duration = Duration::from_secs(60);
