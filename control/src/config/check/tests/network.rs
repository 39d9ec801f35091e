use super::*;

#[test]
fn networks_against_the_host() {
    let net = |rest: &str| format!("name = 'n'\n{rest}");
    network_refused(
        &net("interface = 'eth9'\n"),
        &[(5, 13, "no interface `eth9`", "lo, eth0, eth1, eth2")],
    );
    network_refused(
        &net("interface = 'eth2'\n"),
        &[(5, 13, "eth2 has no address", "ip address add")],
    );
    network_refused(
        &net("interface = 'eth1'\naddress = '10.0.0.9'\n"),
        &[(
            6,
            11,
            "10.0.0.9 is not an address of eth1",
            "10.0.0.3, 10.0.0.4",
        )],
    );
    network_refused(
        &net("interface = 'eth1'\naddress = '192.0.2.10'\n"),
        &[(6, 11, "not an address of eth1", "it is on eth0")],
    );
    network_refused(
        &net("interface = 'eth1'\nadvertise = '2001:db8::9'\n"),
        &[(6, 13, "of two families", "another [[network]]")],
    );
    network_refused(
        &net("interface = 'eth1'\nadvertise = 'stun:stun.example.com'\n"),
        &[(6, 13, "STUN server is not available", "address itself")],
    );
    network_refused(
        &net("interface = 'eth1'\npeers = ['2001:db8::/32']\n"),
        &[(6, 10, "of two families", "another")],
    );
    network_refused(
        &net("interface = 'eth1'\npeers = []\n"),
        &[(6, 9, "nobody belongs", "10.0.0.0/8")],
    );
    network_refused(
        &net("interface = 'eth1'\npeers = ['::/0']\n"),
        &[(6, 9, "nobody belongs", "peers")],
    );
    network_refused(
        &net("interface = 'eth1'\nsource_rewriting_gateways = ['10.0.0.3']\n"),
        &[(6, 30, "our own address", "router")],
    );
    network_refused(
        &net("interface = 'eth1'\ndscp = 64\n"),
        &[(6, 8, "64 is not a DSCP", "0 to 63")],
    );
    network_refused(
        &net("interface = 'eth1'\nmax_calls = -1\n"),
        &[(6, 13, "-1 is out of range", "1 to 1000000")],
    );
    for hops in ["0", "256"] {
        network_refused(
            &net(&format!("interface = 'eth1'\nhop_limit = {hops}\n")),
            &[(6, 13, &format!("{hops} is not a hop limit"), "1 to 255")],
        );
    }
    network_refused(
        &net("interface = 'eth1'\nmedia = 'symetric'\n"),
        &[(
            6,
            9,
            "`symetric` is not a choice",
            "did you mean \"symmetric\"?",
        )],
    );
    let text = format!("{SIP}[[network]]\nname = 'n'\ninterface = 'eth1'\n");
    let problems = check("t", &text, None, &mut files).unwrap_err();
    assert!(
        problems[0].message.contains("not known here"),
        "{}",
        shown(&problems)
    );
    let text = format!("{text}address = '198.51.100.1'\n");
    assert!(check("t", &text, None, &mut files).is_ok());
}

/// A line in a network of its own, which begins in line 3.
#[track_caller]
fn line_refused(line: &str, column: usize, message: &str, help: &str) {
    network_refused(
        &format!("name = 'n'\ninterface = 'eth1'\n{line}\n"),
        &[(6, column, message, help)],
    );
}

#[test]
fn what_peers_are_told() {
    let check = line_refused;
    check("advertise = '203.0.113.9:0'", 13, "port 0", "5060");
    check(
        "advertise = '[203.0.113.9]'",
        13,
        "not an address",
        "[2001:",
    );
    check(
        "advertise = '[2001:db8::9]:5060'",
        13,
        "of two families",
        "another",
    );
    check(
        "advertise = 'edge.test:5060'",
        13,
        "`edge.test:5060` is not an",
        "not a name",
    );
    check(
        "advertise_media = '203.0.113.9:1'",
        19,
        "is not an address",
        "203.0.113.9",
    );
    check(
        "advertise_media = '2001:db8::9'",
        19,
        "of two families",
        "another",
    );
    check(
        "advertise_ports = '40001-50000'",
        19,
        "is odd",
        "\"40000-50001\"",
    );
    check(
        "advertise_ports = '40000-49997'",
        19,
        "40000-49997 are 9998 ports, and media_ports, 20000-29999, are 10000",
        "write \"40000-49999\"",
    );
    check(
        "advertise_ports = '60000-65535'",
        19,
        "are 5536 ports",
        "begin at 55536",
    );
    check(
        "nat = 'sometimes'",
        7,
        "is not a choice",
        "auto, always, never",
    );
    check(
        "nat = 'alway'",
        7,
        "is not a choice",
        "did you mean \"always\"?",
    );
    check(
        "media_from = 'any'",
        14,
        "is not a choice",
        "signalling, subnet, anywhere",
    );
    check(
        "media_senders = ['10.0.0.1']",
        18,
        "no prefix length",
        "10.0.0.1/32",
    );
    check(
        "media_senders = ['2001:db8::/32']",
        18,
        "of two families",
        "another",
    );
    check(
        "media_senders = ['10.0.0.0/8', '10.0.0.0/8']",
        32,
        "already listed",
        "remove",
    );
    check("ice = 'lite'", 7, "is not a choice", "strip, pass");
    check(
        "address_change = 'hangup'",
        18,
        "is not a choice",
        "reinvite, ignore, drop",
    );
    check(
        "advertise_ports = 40000",
        19,
        "is an integer",
        "text in quotes",
    );
    check("ice = true", 7, "is a boolean", "text in quotes");
}

#[test]
fn what_peers_are_told_is_understood() {
    let text = format!(
        "{SIP}address_grace = '24h'\n[node]\nwatch = true\n{LAN}\
         advertise = '203.0.113.9:15060'\nadvertise_ports = '40000-49999'\nnat = 'always'\n\
         media_from = 'subnet'\nmedia_senders = ['198.51.100.0/24']\nice = 'pass'\n\
         address_change = 'drop'\n\
         [[network]]\nname = 'b'\ninterface = 'eth1'\naddress = '10.0.0.4'\n\
         advertise = '203.0.113.10'\nadvertise_media = '203.0.113.11'\n"
    );
    let config = accepted(&text);
    assert!(config.node.watch);
    assert_eq!(config.sip.address_grace, Duration::from_secs(24 * 3600));
    let [lan, b] = &config.networks[..] else {
        panic!("{:?}", config.networks)
    };
    let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
    assert_eq!(lan.advertise, ip("203.0.113.9"));
    assert_eq!(lan.advertise_port, Some(15060));
    assert_eq!(lan.advertise_media, ip("203.0.113.9"));
    assert_eq!(
        (lan.advertise_ports.first, lan.advertise_ports.last),
        (40000, 49999)
    );
    assert_eq!(lan.nat, super::super::super::NatMode::Always);
    assert_eq!(lan.media_from, super::super::super::MediaFrom::Subnet);
    assert_eq!(lan.media_senders, ["198.51.100.0/24".parse().unwrap()]);
    assert_eq!(lan.ice, super::super::super::Ice::Pass);
    assert_eq!(lan.address_change, super::super::super::AddressChange::Drop);
    assert_eq!((b.advertise, b.advertise_port), (ip("203.0.113.10"), None));
    assert_eq!(b.advertise_media, ip("203.0.113.11"));
    assert_eq!(b.advertise_ports, b.media_ports);
}

#[test]
fn what_networks_tell_does_not_overlap() {
    let second = |rest: &str| {
        format!("[[network]]\nname = 'b'\ninterface = 'eth1'\naddress = '10.0.0.4'\n{rest}")
    };
    let first = "advertise = '203.0.113.9'\n";
    let told = "`b` tells the media ports 20000-29999 of 203.0.113.9, `lan` tells 20000-29999";
    after_refused(
        &format!("{first}{}", second(first)),
        &[(12, 13, told, "advertise_ports")],
    );
    after_refused(
        &format!("{first}{}", second("advertise_media = '203.0.113.9'\n")),
        &[(12, 19, told, "another address")],
    );
    let ports = "advertise_ports = '28000-37999'\n";
    after_refused(
        &format!("{first}{}", second(&format!("{first}{ports}"))),
        &[(13, 19, "28000-37999 of 203.0.113.9", "(line 7)")]
            .map(|(l, c, m, _)| (l, c, m, "router")),
    );
    let apart = "advertise_ports = '30000-39999'\n";
    accepted(&format!(
        "{SIP}{LAN}{first}{}",
        second(&format!("{first}{apart}"))
    ));
    // A router maps SIP and media apart.
    after_refused(
        "advertise = '203.0.113.9:40000'\nadvertise_ports = '40000-49999'\n",
        &[(
            8,
            19,
            "the advertised media ports 40000-49999 hold SIP's 40000",
            "move",
        )],
    );
    after_refused(
        "advertise_ports = '5000-14999'\n",
        &[(7, 19, "5000-14999 hold SIP's 5060", "router")],
    );
    accepted(&format!(
        "{SIP}{LAN}advertise = '203.0.113.9:40000'\nadvertise_media = '203.0.113.10'\n\
         advertise_ports = '40000-49999'\n"
    ));
}

#[test]
fn networks_against_each_other() {
    let second = |rest: &str| format!("[[network]]\nname = 'b'\ninterface = 'eth1'\n{rest}");
    let ports = "media_ports = '30000-39999'\n";
    after_refused(
        &second(&format!("peers = ['10.0.0.0/8']\n{ports}")),
        &[(
            10,
            10,
            "`lan` and `b` overlap: both hold 10.0.0.0/8 (line 6)",
            "longer prefix",
        )],
    );
    after_refused(
        &second(&format!("peers = ['10.1.0.0/16', '10.1.0.0/16']\n{ports}")),
        &[(
            10,
            25,
            "10.1.0.0/16 is already listed, in line 10",
            "remove",
        )],
    );
    after_refused(
        &second("peers = ['10.1.0.0/16']\nmedia_ports = '29000-30999'\n"),
        &[(
            11,
            15,
            "overlap 20000-29999 of network `lan` (line 3)",
            "its own range",
        )],
    );
    after_refused(
        "[[network]]\nname = 'lan'\ninterface = 'eth0'\n",
        &[(8, 8, "`lan` is taken in line 4", "its own name")],
    );
    // The same prefix twice, on two addresses: two LANs with one private range.
    let other = "[[network]]\nname = 'b'\ninterface = 'eth1'\naddress = '10.0.0.4'\n";
    accepted(&format!("{SIP}{LAN}{other}peers = ['10.0.0.0/8']\n"));
    let gateways = "source_rewriting_gateways = ['10.0.0.1']\n";
    let rest = format!(
        "{gateways}{}",
        second(&format!("peers = ['10.1.0.0/16']\n{gateways}{ports}"))
    );
    after_refused(
        &rest,
        &[(12, 30, "10.0.0.1 is listed in line 7", "one network only")],
    );
}

#[test]
fn media_ports() {
    let check = |ports: &str, message: &str, help: &str| {
        after_refused(
            &format!("media_ports = '{ports}'\n"),
            &[(7, 15, message, help)],
        );
    };
    check(
        "20001-29999",
        "the first port, 20001, is odd",
        "write \"20000-29999\"",
    );
    check(
        "20000-29998",
        "the last port, 29998, is even",
        "write \"20000-29999\"",
    );
    check("29999-20000", "is reversed", "write \"20000-29999\"");
    check("80-1999", "privileged", "1024");
    check("5000-5999", "hold the SIP port 5060", "move one");
    check("many", "is not a port range", "20000-29999");
}

#[test]
fn networks_and_addresses_are_bounded() {
    let network = |n: usize, address: String| {
        format!("[[network]]\nname = 'n{n}'\ninterface = 'e'\naddress = '{address}'\n")
    };
    let some = |count: usize| -> String {
        (0..count)
            .map(|n| network(n, format!("10.0.0.{}", n + 1)))
            .collect()
    };
    let told = |text: &str| match check("t", text, None, &mut files) {
        Ok(_) => String::new(),
        Err(problems) => shown(&problems),
    };
    assert_eq!(told(&format!("{SIP}{}", some(ADDRESSES_MAX))), "");
    let one_more = told(&format!("{SIP}{}", some(ADDRESSES_MAX + 1)));
    assert!(
        one_more.contains("`n16` brings one address too many"),
        "{one_more}"
    );
    let many = told(&format!("{SIP}{}", some(NETWORKS_MAX + 1)));
    assert!(many.contains("there are 65 networks"), "{many}");
}
