use super::*;
use crate::config::Config;
use crate::config::check::{Interface, check as read};

fn link(index: u32, name: &str, addresses: &[&str]) -> Link {
    Link {
        index,
        name: name.to_owned(),
        up: true,
        loopback: name == "lo",
        addresses: addresses.iter().map(|net| net.parse().unwrap()).collect(),
        ..Link::default()
    }
}

/// What a host looks like, and the networks it becomes: name, peers, ports.
#[track_caller]
fn check(links: &[Link], defaults: &[(&str, &str)], ports: (u16, u16), expected: &[&str]) -> Draft {
    let seen = Seen {
        hostname: "edge.example.com".to_owned(),
        links: links.to_vec(),
        defaults: defaults
            .iter()
            .map(|(name, ip)| ((*name).to_owned(), ip.parse().unwrap()))
            .collect(),
        local_ports: Some(ports),
    };
    let found = draft(&seen);
    let host = |link: &Link| Interface {
        name: link.name.clone(),
        up: true,
        addresses: link.addresses.iter().map(ipnet::IpNet::addr).collect(),
    };
    let host: Vec<Interface> = links.iter().map(host).collect();
    let mut none = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
    let config = read("towpath.toml", &found.text, Some(&host), &mut none);
    let config = config.unwrap_or_else(|problems| panic!("{problems:?}\n{}", found.text));
    assert_eq!(networks(&config), expected, "\n{}", found.text);
    assert_eq!(config.node.id, "edge");
    assert_eq!(config.sip.domain, "example.com");
    found
}

fn networks(config: &Config) -> Vec<String> {
    let one = |n: &crate::config::Network| {
        let peers: Vec<String> = n.peers.iter().map(ToString::to_string).collect();
        let ports = n.media_ports;
        format!(
            "{} {} {} {}",
            n.name,
            n.interface,
            peers.join(","),
            ports.first
        )
    };
    config.networks.iter().map(one).collect()
}

const USUAL: (u16, u16) = (32_768, 60_999);

#[test]
fn one_network_for_each_address() {
    let lo = link(1, "lo", &["127.0.0.1/8", "::1/128"]);
    let public = link(2, "eth0", &["203.0.113.10/24", "fe80::1/64"]);
    let lan = link(3, "eth1", &["10.1.0.1/24"]);
    let docker = link(4, "docker0", &["172.17.0.1/16"]);
    let found = check(
        &[lo.clone(), public, lan, docker],
        &[("eth0", "203.0.113.1")],
        USUAL,
        &["wan eth0 0.0.0.0/0 20000", "lan eth1 10.1.0.0/24 20000"],
    );
    assert!(
        found
            .text
            .contains("# source_rewriting_gateways = [\"203.0.113.1\"]")
    );
    assert!(
        found
            .assumed
            .iter()
            .any(|line| line.starts_with("docker0 is for containers"))
    );

    let home = link(2, "eth0", &["192.168.1.5/24"]);
    let inside = "lan eth0 10.0.0.0/8,172.16.0.0/12,192.168.0.0/16 20000";
    let found = check(
        &[lo.clone(), home],
        &[("eth0", "192.168.1.1")],
        USUAL,
        &[inside],
    );
    assert!(
        found.text.contains("# advertise = \"203.0.113.9\""),
        "{}",
        found.text
    );

    let both = link(2, "ens3", &["198.51.100.4/24", "2001:db8::4/64"]);
    let defaults = [("ens3", "198.51.100.1"), ("ens3", "fe80::1")];
    check(
        &[lo, both],
        &defaults,
        USUAL,
        &["wan ens3 0.0.0.0/0 20000", "wan6 ens3 ::/0 20000"],
    );
}

#[test]
fn the_block_for_those_outside_is_valid_too() {
    let home = link(2, "eth0", &["192.168.1.5/24"]);
    let found = draft(&Seen {
        hostname: String::new(),
        links: vec![home],
        defaults: vec![("eth0".to_owned(), "192.168.1.1".parse().unwrap())],
        local_ports: None,
    });
    let (before, block) = found.text.split_once("# [[network]]\n").unwrap();
    let (block, after) = block.split_once("\n\n").unwrap();
    let lines = block.lines().map(|line| line.trim_start_matches("# "));
    let block = lines.collect::<Vec<_>>().join("\n");
    let text = format!("{before}[[network]]\n{block}\n\n{after}");
    let mut none = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
    let config = read("t", &text, None, &mut none).unwrap_or_else(|p| panic!("{p:?}\n{text}"));
    assert_eq!(networks(&config)[1], "outside eth0 0.0.0.0/0 16384");
    assert_eq!(config.node.id, "edge-01");
}

#[test]
fn media_ports_are_nobody_elses() {
    let card = || link(2, "eth0", &["198.51.100.4/24"]);
    let defaults = [("eth0", "198.51.100.1")];
    check(
        &[card()],
        &defaults,
        (15_000, 35_000),
        &["wan eth0 0.0.0.0/0 40000"],
    );
    let all = check(
        &[card()],
        &defaults,
        (1024, 65_535),
        &["wan eth0 0.0.0.0/0 20000"],
    );
    assert!(
        all.assumed
            .iter()
            .any(|line| line.contains("ip_local_port_range 1024-65535"))
    );
}
