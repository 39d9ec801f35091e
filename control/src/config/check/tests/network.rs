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
