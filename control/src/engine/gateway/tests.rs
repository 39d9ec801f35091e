use std::time::Duration;

use super::*;
use crate::engine::explain::testing::config;

const LAN: &str = "[[network]]\nname = 'lan'\ninterface = 'eth1'\naddress = '10.0.0.3'\n\
                   peers = ['10.0.0.0/8', '192.168.1.0/24']\nmedia_ports = '20000-20099'\n";
const WAN: &str = "[[network]]\nname = 'wan'\ninterface = 'eth1'\naddress = '10.0.0.3'\n\
                   advertise = '203.0.113.9'\npeers = ['0.0.0.0/0']\n\
                   media_ports = '30000-30099'\n";

#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can be had from the clock only; the tests count from this one"
)]
fn start() -> Instant {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    *START
}

/// `aor source via contact`, a `-` for what is not an address.
fn sighting(line: &str) -> Sighting<'_> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = |text: &str| text.parse::<SocketAddr>().ok();
    Sighting {
        aor: words[0],
        client: words[0].as_bytes(),
        local: "10.0.0.3".parse().unwrap(),
        source: words[1].parse().unwrap(),
        via: at(words[2]),
        contact: at(words[3]),
    }
}

/// The suspects, each as `address clients/hosts → network`.
fn suspects(networks: &str, clients: &[&str]) -> Vec<String> {
    let config = config(networks);
    let mut watch = Watch::default();
    watch.look(&config, clients.iter().map(|c| sighting(c)), start());
    let name = |id: Option<NetworkId>| {
        let network = id.and_then(|id| config.network(id));
        network.map_or("?".to_owned(), |n| n.name.clone())
    };
    let shown = |s: &Suspect| {
        let outside = name(s.outside);
        format!("{} {}/{} → {outside}", s.address, s.clients, s.hosts)
    };
    watch.suspects().map(shown).collect()
}

/// The situation of the trouble book: a router at 192.168.1.1 maps and rewrites.
const MAPPED: [&str; 3] = [
    "1001 192.168.1.1:40001 192.168.3.12:5060 192.168.3.12:5060",
    "1002 192.168.1.1:40002 192.168.3.13:5060 192.168.3.13:5060",
    "1003 192.168.1.1:40003 192.168.9.2:5060 192.168.9.2:5060",
];

#[test]
fn clients_from_elsewhere_behind_a_neighbour_are_a_router_that_rewrites() {
    let both = format!("{LAN}{WAN}");
    assert_eq!(suspects(&both, &MAPPED), ["192.168.1.1 3/3 → wan"]);
    assert_eq!(suspects(LAN, &MAPPED), ["192.168.1.1 3/3 → ?"]);
    // Via stays the client's own, Contact was learnt from the router.
    let learnt = MAPPED.map(|c| c.replace(" 192.168.3.12:5060 192", " 192.168.3.12:5060 -192"));
    let learnt: Vec<&str> = learnt.iter().map(String::as_str).collect();
    assert_eq!(suspects(&both, &learnt), ["192.168.1.1 3/3 → wan"]);
}

#[test]
fn what_is_no_such_router() {
    let both = format!("{LAN}{WAN}");
    let none = |why: &str, clients: [&str; 3]| {
        assert_eq!(suspects(&both, &clients), [""; 0], "{why}");
    };
    none(
        "private addresses that are where they say they are",
        [
            "1001 10.0.0.5:5060 10.0.0.5:5060 10.0.0.5:5060",
            "1002 10.0.0.6:5060 10.0.0.6:5060 10.0.0.6:5060",
            "1003 10.0.0.7:5060 10.0.0.7:5060 10.0.0.7:5060",
        ],
    );
    none(
        "a home router in front of the network of everybody",
        [
            "1001 203.0.113.2:1024 192.168.3.10:5060 192.168.3.10:5060",
            "1002 203.0.113.2:1025 192.168.3.11:5060 192.168.3.11:5060",
            "1003 203.0.113.2:1026 192.168.3.12:5060 192.168.3.12:5060",
        ],
    );
    none(
        "a neighbour with another address of the same network",
        [
            "1001 10.0.0.5:5060 10.4.0.1:5060 10.4.0.1:5060",
            "1002 10.0.0.5:5061 10.4.0.2:5060 10.4.0.2:5060",
            "1003 10.0.0.5:5062 192.168.1.9:5060 192.168.1.9:5060",
        ],
    );
    none(
        "one phone with three lines that asked a STUN server",
        [
            "1001 10.0.0.5:5060 203.0.113.9:5060 203.0.113.9:5060",
            "1002 10.0.0.5:5060 203.0.113.9:5060 203.0.113.9:5060",
            "1003 10.0.0.5:5060 203.0.113.9:5060 203.0.113.9:5060",
        ],
    );
    none(
        "a proxy that registers its users",
        [
            "1001 10.0.0.5:5060 10.0.0.5:5060 192.168.3.12:5060",
            "1002 10.0.0.5:5060 10.0.0.5:5060 192.168.3.13:5060",
            "1003 10.0.0.5:5060 10.0.0.5:5060 192.168.3.14:5060",
        ],
    );
    none(
        "names are no addresses, and too few",
        [
            "1001 192.168.1.1:40001 - -",
            "1002 192.168.1.1:40002 192.168.3.13:5060 192.168.3.13:5060",
            "1003 192.168.1.1:40003 127.0.0.1:5060 0.0.0.0:5060",
        ],
    );
}

#[test]
fn public_prefixes_are_neighbours_too_but_their_routers_are_ordinary() {
    let office = "[[network]]\nname = 'office'\ninterface = 'eth1'\naddress = '10.0.0.3'\n\
                  peers = ['203.0.113.0/24']\nmedia_ports = '20000-20099'\n";
    let clients = [
        "1001 203.0.113.2:1024 192.168.3.10:5060 192.168.3.10:5060",
        "1002 203.0.113.2:1025 192.168.3.11:5060 192.168.3.11:5060",
        "1003 203.0.113.2:1026 192.168.3.12:5060 192.168.3.12:5060",
    ];
    assert_eq!(suspects(&format!("{office}{WAN}"), &clients), [""; 0]);
}

#[test]
fn a_suspicion_is_raised_once_and_cleared_by_the_line() {
    let both = format!("{LAN}{WAN}");
    let before = config(&both);
    let mut watch = Watch::default();
    let mut look = |config: &Config, clients: &[&str], at: u64| {
        let now = start() + Duration::from_secs(at);
        let changes = watch.look(config, clients.iter().map(|c| sighting(c)), now);
        let since: Vec<Instant> = watch.suspects().map(|s| s.since).collect();
        (changes.raised, changes.cleared, since)
    };
    let since = start() + Duration::from_secs(5);
    assert_eq!(look(&before, &MAPPED[..2], 1), (0, 0, vec![]));
    assert_eq!(look(&before, &MAPPED, 5), (1, 0, vec![since]));
    assert_eq!(look(&before, &MAPPED, 9), (0, 0, vec![since]));
    let line = "source_rewriting_gateways = ['192.168.1.1']";
    let after = config(&format!("{both}{line}\n"));
    assert_eq!(look(&after, &MAPPED, 10), (0, 1, vec![]));
    assert_eq!(
        look(&before, &MAPPED, 11),
        (1, 0, vec![start() + Duration::from_secs(11)])
    );
    assert_eq!(look(&before, &[], 12), (0, 1, vec![]));
}

#[test]
fn the_remedy_is_the_line_to_write() {
    let listed = format!("{LAN}{WAN}source_rewriting_gateways = ['10.0.0.8']\n");
    let config_listed = config(&listed);
    let mut watch = Watch::default();
    watch.look(&config_listed, MAPPED.iter().map(|c| sighting(c)), start());
    let suspect = watch.suspects().next().unwrap();
    let expected = "source_rewriting_gateways = [\"10.0.0.8\", \"192.168.1.1\"]";
    assert_eq!(
        remedy(&config_listed, suspect),
        Remedy {
            network: Some("wan".to_owned()),
            lines: vec![expected.to_owned()],
        }
    );
    // Where nothing is outside yet, the section that is missing; it is valid once it is filled in.
    let alone = config(LAN);
    watch.look(&alone, MAPPED.iter().map(|c| sighting(c)), start());
    let found = remedy(&alone, watch.suspects().next().unwrap());
    assert_eq!(found.network, None);
    let section = found.lines.join("\n");
    let filled = section
        .replace("advertise = \"…\"", "advertise = \"203.0.113.9\"")
        .replace("media_ports = \"…\"", "media_ports = \"30000-30099\"");
    let mended = config(&format!("{LAN}{filled}\n"));
    let mut watch = Watch::default();
    watch.look(&mended, MAPPED.iter().map(|c| sighting(c)), start());
    assert_eq!(watch.suspects().count(), 0);
}

#[test]
fn suspects_and_examples_have_a_limit() {
    let both = config(&format!("{LAN}{WAN}"));
    let lines: Vec<String> = (1..=40)
        .flat_map(|router| {
            let client = move |n: u8| {
                format!("{n} 10.0.0.{router}:{n} 192.168.3.{n}:5060 192.168.3.{n}:5060")
            };
            (1..=5).map(client)
        })
        .collect();
    let mut watch = Watch::default();
    watch.look(&both, lines.iter().map(|c| sighting(c)), start());
    assert_eq!(watch.suspects().count(), SUSPECTS_MAX);
    let first = watch.suspects().next().unwrap();
    assert_eq!((first.clients, first.examples.len()), (5, EXAMPLES_MAX));
}
