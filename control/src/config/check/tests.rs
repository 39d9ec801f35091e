//! Wrong configurations and what is said about them; right ones and what they mean.

mod network;
mod sip;

use std::io;
use std::path::Path;

use proptest::prelude::*;

use super::super::file::KEYS;
use super::*;

fn host() -> Vec<Interface> {
    let interface = |name: &str, addresses: &[&str]| Interface {
        name: name.to_owned(),
        up: true,
        addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
    };
    vec![
        interface("lo", &["127.0.0.1", "::1"]),
        interface("eth0", &["192.0.2.10", "fe80::1", "2001:db8::10"]),
        interface("eth1", &["10.0.0.3", "10.0.0.4"]),
        interface("eth2", &[]),
    ]
}

fn files(path: &Path) -> io::Result<String> {
    match path.to_str() {
        Some("/etc/towpath/good") => Ok("hunter2\n".to_owned()),
        Some("/etc/towpath/empty") => Ok("\n".to_owned()),
        Some("/etc/towpath/two") => Ok("a\nb\n".to_owned()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    }
}

fn read(text: &str) -> Result<Config, Vec<Problem>> {
    check("/etc/towpath/t.toml", text, Some(&host()), &mut files)
}

#[track_caller]
fn accepted(text: &str) -> Config {
    read(text).unwrap_or_else(|problems| panic!("refused:\n{}", shown(&problems)))
}

fn shown(problems: &[Problem]) -> String {
    problems.iter().map(|p| format!("{p}\n\n")).collect()
}

const SIP: &str = "[sip]\ndomain = 'example.com'\n";
const LAN: &str = "[[network]]\nname = 'lan'\ninterface = 'eth1'\npeers = ['10.0.0.0/8']\n";

/// Each text is refused with exactly these problems: `(line, column, message part, help part)`.
#[track_caller]
fn refused(text: &str, expected: &[(usize, usize, &str, &str)]) {
    let problems = read(text).expect_err("accepted");
    let all = shown(&problems);
    assert_eq!(problems.len(), expected.len(), "{all}");
    for (problem, (line, column, message, help)) in problems.iter().zip(expected) {
        assert_eq!((problem.line, problem.column), (*line, *column), "{all}");
        assert!(problem.message.contains(message), "{message:?} in\n{all}");
        assert!(problem.help.contains(help), "{help:?} in\n{all}");
    }
}

/// The lines stand in the network that begins in line 3.
#[track_caller]
fn network_refused(lines: &str, expected: &[(usize, usize, &str, &str)]) {
    refused(&format!("{SIP}[[network]]\n{lines}"), expected);
}

/// The lines follow a good network; they begin in line 7.
#[track_caller]
fn after_refused(lines: &str, expected: &[(usize, usize, &str, &str)]) {
    refused(&format!("{SIP}{LAN}{lines}"), expected);
}

/// The lines follow `domain` in `[sip]`; they begin in line 7.
#[track_caller]
fn sip_refused(lines: &str, expected: &[(usize, usize, &str, &str)]) {
    refused(&format!("{LAN}{SIP}{lines}"), expected);
}

#[test]
fn the_minimum_is_a_domain_and_a_network() {
    let config = accepted(&format!("{SIP}{LAN}"));
    assert_eq!(config.node.id, "towpath");
    assert_eq!(config.node.state_dir, Path::new("/var/lib/towpath"));
    assert_eq!(config.node.socket, Path::new("/run/towpath/towpath.sock"));
    assert_eq!(config.sip.auth, super::super::Auth::Digest);
    let listen: Vec<String> = config.sip.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["udp:10.0.0.3:5060"]);
    let network = &config.networks[0];
    assert_eq!(network.address, network.advertise);
    assert_eq!(network.media, super::super::MediaMode::Auto);
    assert_eq!(
        (network.media_ports.first, network.media_ports.last),
        (20000, 29999)
    );
    assert_eq!(config.datapath.mode, DatapathMode::Auto);
    assert_eq!(config.datapath.xdp, XdpAttach::Native);
    assert_eq!(config.datapath.media_timeout, Duration::from_secs(60));
}

#[test]
fn the_state_directory_is_found_in_a_bad_text_too() {
    let check = |text: &str, expected: &str| assert_eq!(state_dir(text), Path::new(expected));
    check("[node]\nstate_dir = '/srv'\nidd = 5\n", "/srv");
    check("[node]\nstate_dir = 5\n", "/var/lib/towpath");
    check("[node]\nstate_dir = '/srv'\n[sip\n", "/srv");
    check("", "/var/lib/towpath");
}

#[test]
fn a_wildcard_is_spelt_out_once_for_each_address() {
    let text = format!(
        "{SIP}{LAN}\
         [[network]]\nname = 'room'\ninterface = 'eth1'\npeers = ['10.9.0.0/16']\n\
         media_ports = '30000-39999'\n\
         [[network]]\nname = 'wan'\ninterface = 'eth0'\npeers = ['0.0.0.0/0', '::/0']\n\
         [[network]]\nname = 'wan6'\ninterface = 'eth0'\naddress = '2001:db8::10'\n"
    );
    let config = accepted(&text);
    let listen: Vec<String> = config.sip.listen.iter().map(ToString::to_string).collect();
    let expected = [
        "udp:10.0.0.3:5060",
        "udp:192.0.2.10:5060",
        "udp:[2001:db8::10]:5060",
    ];
    assert_eq!(listen, expected);
    // "Everyone" of the other family is not in an IPv4 network.
    assert_eq!(config.networks[2].peers, ["0.0.0.0/0".parse().unwrap()]);
    assert_eq!(config.networks[3].peers, ["::/0".parse().unwrap()]);
}

#[test]
fn shape() {
    refused(
        "",
        &[
            (1, 1, "there is no [[network]]", "add one"),
            (1, 1, "`domain` is missing", "example.com"),
        ],
    );
    after_refused(
        "medai = 'sdp'\n",
        &[(
            7,
            1,
            "unknown key `medai` in [network]",
            "did you mean `media`?",
        )],
    );
    after_refused(
        "mtu = 1500\n",
        &[(7, 1, "unknown key `mtu`", "media_ports")],
    );
    after_refused(
        "[datapth]\n",
        &[(7, 2, "unknown section `datapth`", "`datapath`")],
    );
    after_refused(
        "[cascade]\nupper = 'x'\n",
        &[(8, 9, "`x` is not an http or https URL", "https://core-01")],
    );
    after_refused(
        "media = 5\n",
        &[(7, 9, "`media` is an integer", "text in quotes")],
    );
    after_refused(
        "dscp = '46'\n",
        &[(7, 8, "`dscp` is a string", "whole number")],
    );
    after_refused(
        "dscp = 99999999999999999999\n",
        &[(7, 8, "`dscp` is an integer", "whole number")],
    );
    after_refused(
        "[node]\nwatch = 'yes'\n",
        &[(8, 9, "`watch` is a string", "true or false")],
    );
    after_refused(
        "source_rewriting_gateways = '10.0.0.1'\n",
        &[(7, 29, "is a string", "a list of texts")],
    );
    after_refused(
        "source_rewriting_gateways = [5]\n",
        &[(7, 30, "is an integer", "text in quotes")],
    );
    refused(
        &format!("network = 5\n{SIP}"),
        &[(1, 11, "`network` is an integer", "[[network]]")],
    );
    refused(
        &format!("node = 5\n{SIP}{LAN}"),
        &[(1, 8, "`node` is an integer", "[node]")],
    );
    refused(
        &format!("{SIP}{LAN}media = 'sdp\n"),
        &[(7, 13, "invalid", "toml.io")],
    );
    network_refused(
        "peers = ['10.0.0.0/8']\n",
        &[
            (3, 1, "`name` is missing from [[network]]", "lan"),
            (3, 1, "`interface` is missing from [[network]]", "eth0"),
        ],
    );
}

#[test]
fn datapaths() {
    let check = |line: &str, column: usize, message: &str, help: &str| {
        after_refused(
            &format!("[datapath]\n{line}\n"),
            &[(8, column, message, help)],
        );
    };
    check(
        "mode = 'kernel'",
        8,
        "`kernel` is not a choice",
        "auto, xdp, userspace",
    );
    check("xdp = 'offload'", 7, "is not a choice", "native, generic");
    check("flows = 0", 9, "0 is not a number of flows", "64 to");
    check("flows = -1", 9, "-1 is not", "64 to");
    check("media_timeout = '0s'", 17, "out of range", "1s to 1h");
    check("pin_dir = 'bpf'", 11, "not an absolute path", "/sys/fs/bpf");
    let config = accepted(&format!("{SIP}{LAN}[datapath]\nobject = 'relay.o'\n"));
    assert_eq!(
        config.datapath.object.unwrap(),
        Path::new("/etc/towpath/relay.o")
    );
}

#[test]
fn every_problem_is_reported_at_once_in_the_order_of_the_file() {
    let text = format!(
        "[node]\nidd = 'x'\n{LAN}medai = 'sdp'\nmedia_ports = '20001-29999'\n\
         [sip]\nlisten = ['wss:0.0.0.0:5061']\nauth = 5\n[datapath]\nflows = 1\n"
    );
    let expected = [
        (2, 1, "`idd`", "`id`"),
        (7, 1, "`medai`", "`media`"),
        (8, 15, "is odd", "20000"),
        (9, 1, "`domain` is missing", "add"),
        (10, 11, "wss", "udp"),
        (11, 8, "is an integer", "text"),
        (13, 9, "1 is not", "64"),
    ];
    let expected = expected.map(|(l, c, m, h)| (l, c, m, if h == "add" { "@" } else { h }));
    refused(&text, &expected);
}

#[test]
fn a_flood_of_problems_is_counted() {
    let text: String = (0..500).map(|n| format!("key{n} = 1\n")).collect();
    let problems = read(&text).unwrap_err();
    assert_eq!(problems.len(), PROBLEMS_MAX);
    let last = &problems[PROBLEMS_MAX - 1].message;
    assert!(last.contains("and 402 more"), "{last}");
}

#[test]
fn the_defaults_for_a_host_are_a_good_configuration() {
    let config = accepted(&defaults(&host()));
    let networks: Vec<_> = config
        .networks
        .iter()
        .map(|n| (n.name.as_str(), n.peers[0].to_string()))
        .collect();
    let expected = [
        ("eth0-ipv4", "0.0.0.0/0"),
        ("eth0-ipv6", "::/0"),
        ("eth1-ipv4", "10.0.0.0/24"),
    ];
    assert_eq!(networks, expected.map(|(name, net)| (name, net.to_owned())));
    let problems = read(&defaults(&[])).unwrap_err();
    assert!(problems[0].message.contains("no [[network]]"));
}

const EXAMPLE: &str = include_str!("../../../towpath.example.toml");

#[test]
fn the_example_shows_every_key_and_the_defaults_of_the_code() {
    let example = check("towpath.example.toml", EXAMPLE, None, &mut files);
    let example = example.unwrap_or_else(|problems| panic!("{}", shown(&problems)));
    let written: String = EXAMPLE
        .lines()
        .map(|line| {
            let default = line
                .strip_prefix('#')
                .filter(|l| l.starts_with(|c: char| c.is_ascii_lowercase()));
            format!("{}\n", default.unwrap_or(line))
        })
        .collect();
    assert_ne!(written, EXAMPLE);
    let spelt_out = check("towpath.example.toml", &written, None, &mut files).unwrap();
    assert_eq!(example, spelt_out);

    for (section, keys) in KEYS {
        let text = section_of(EXAMPLE, section);
        for key in keys {
            let line = |l: &&str| {
                l.trim_start_matches(['#', ' '])
                    .starts_with(&format!("{key} ="))
            };
            assert!(
                text.lines().find(line).is_some(),
                "{section}.{key} is not in the example"
            );
        }
    }
}

#[test]
fn the_handbook_explains_every_key() {
    const HANDBOOK: &str = include_str!("../../../../docs/configuration.md");
    for (section, keys) in KEYS {
        let header = |line: &&str| {
            let line = line.trim_start_matches('#').trim();
            line == format!("`[{section}]`") || line == format!("`[[{section}]]`")
        };
        let rows: Vec<&str> = HANDBOOK
            .lines()
            .skip_while(|l| !header(l))
            .skip(1)
            .collect();
        let mut rows = rows.iter().take_while(|line| !line.starts_with('#'));
        for key in keys {
            let row = |line: &&&str| line.starts_with(&format!("| `{key}` |"));
            assert!(
                rows.find(row).is_some(),
                "{section}.{key} is not explained in this order"
            );
        }
    }
}

/// All lines under this section's headers.
fn section_of(text: &str, section: &str) -> String {
    let mut inside = false;
    let mut lines = String::new();
    for line in text.lines() {
        if line.starts_with('[') {
            inside = line.trim_matches(['[', ']']) == section;
        } else if inside {
            lines.push_str(line);
            lines.push('\n');
        }
    }
    lines
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}|[\\[\\]a-z.=\"'\n0-9#:/-]{0,200}") {
        if let Err(problems) = read(&text) {
            assert!(!shown(&problems).is_empty());
        }
    }

    #[test]
    fn a_damaged_example_never_panics(
        at in 0..EXAMPLE.len(),
        cut in 0usize..40,
        put in "\\PC{0,6}",
    ) {
        let (Some(head), Some(tail)) = (EXAMPLE.get(..at), EXAMPLE.get(at + cut..)) else {
            return Ok(());
        };
        let text = format!("{head}{put}{tail}");
        if let Err(problems) = check("t", &text, Some(&host()), &mut files) {
            assert!(!shown(&problems).is_empty());
        }
    }
}
