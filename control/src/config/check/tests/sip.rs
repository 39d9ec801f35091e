use super::*;

#[test]
fn listeners() {
    let check = |listen: &str, column: usize, message: &str, help: &str| {
        sip_refused(
            &format!("listen = [{listen}]\n"),
            &[(7, column, message, help)],
        );
    };
    check(
        "'tls:0.0.0.0:5061'",
        11,
        "TLS needs a certificate",
        "add [sip.tls]",
    );
    check(
        "'udp:0.0.0.0:5060', 'ws:0.0.0.0:80'",
        31,
        "SIP over ws",
        "udp, tcp and tls",
    );
    check(
        "'udp:0.0.0.0:5060', 'udp:10.0.0.3:5060'",
        31,
        "already listened on (line 7)",
        "remove",
    );
    check(
        "'udp:0.0.0.0:5060', 'udp:192.0.2.1:5060'",
        31,
        "covers no network",
        "10.0.0.3",
    );
    check("'udp:[::]:5060'", 10, "nothing listens", "10.0.0.3");
    check("", 10, "nothing listens in network `lan`", "10.0.0.3");
}

#[test]
fn sip_values() {
    sip_refused(
        "auth = 'diggest'\n",
        &[(7, 8, "not a choice", "did you mean \"digest\"?")],
    );
    sip_refused(
        "expires_min = '60'\n",
        &[(7, 15, "`60` has no unit", "\"30s\"")],
    );
    sip_refused(
        "expires_max = '48h'\n",
        &[(7, 15, "48h is out of range", "1s to 24h")],
    );
    sip_refused(
        "address_grace = '200h'\n",
        &[(7, 17, "200h is out of range", "0s to 168h")],
    );
    sip_refused(
        "shards = 9\n",
        &[(7, 10, "9 is not a number of shards", "1 to 8")],
    );
    sip_refused("shards = 0\n", &[(7, 10, "0 is not a number", "1 to 8")]);
    refused(
        &format!("{SIP}shards = 4\n{LAN}media_ports = '20000-20199'\n"),
        &[(
            3,
            10,
            "`lan` (20000-20199) are too few for 4 shards",
            "shards = 3",
        )],
    );
    sip_refused(
        "expires_min = '2h'\n",
        &[(
            7,
            15,
            "expires_min (2h) is longer than expires_max (1h)",
            "lower",
        )],
    );
    refused(
        &format!("[sip]\ndomain = 'a b'\n{LAN}"),
        &[(2, 10, "`a b` is not a domain", "after the @")],
    );
    refused(
        &format!("[node]\nid = '10.0.0.1'\n{SIP}{LAN}"),
        &[(2, 6, "is an address, not an identity", "stays")],
    );
    refused(
        &format!("[node]\nstate_dir = 'var'\n{SIP}{LAN}"),
        &[(2, 13, "not an absolute path", "root")],
    );
    let long = format!("[node]\nsocket = '/{}'\n{SIP}{LAN}", "s".repeat(107));
    refused(&long, &[(2, 10, "has 108 bytes", "107")]);
}

#[test]
fn accounts() {
    let account = |rest: &str| format!("[[sip.account]]\n{rest}");
    let check = |rest: &str, expected: &[(usize, usize, &str, &str)]| {
        sip_refused(&account(rest), expected);
    };
    check("password = 'x'\n", &[(7, 1, "`user` is missing", "1001")]);
    check(
        "user = '1'\n",
        &[(8, 8, "has no password", "password_file")],
    );
    check(
        "user = '1'\npassword = ''\n",
        &[(9, 12, "the password is empty", "write one")],
    );
    check(
        "user = '1'\npassword = 'x'\nha1_sha256 = 'y'\n",
        &[(8, 8, "has password and ha1_sha256", "keep one")],
    );
    check(
        "user = '1'\nha1_sha256 = 'y'\n",
        &[(9, 14, "not a SHA-256", "64")],
    );
    check(
        "user = 'a@b'\npassword = 'x'\n",
        &[(8, 8, "not a user", "before the @")],
    );
    check(
        "user = '1'\npassword_file = 'none'\n",
        &[(9, 17, "cannot read /etc/towpath/none", "may read")],
    );
    check(
        "user = '1'\npassword_file = 'empty'\n",
        &[(9, 17, "is empty", "first line")],
    );
    check(
        "user = '1'\npassword_file = 'two'\n",
        &[(9, 17, "more than one line", "alone")],
    );
    let one = "[[sip.account]]\nuser = '1'\npassword = 'x'\n";
    check(
        "user = '1'\nha1_md5 = 'y'\n",
        &[(9, 11, "not an MD5", "32")],
    );
    check(
        "user = '1'\nha1_md5 = '0123456789abcdef0123456789ABCDEF'\nalgorithm = 'sha256'\n",
        &[(10, 13, "for accounts with a password", "say which")],
    );
    sip_refused(
        &format!("{one}{one}"),
        &[(11, 8, "stands in line 8 too", "remove")],
    );
    let good = account("user = '1'\npassword_file = 'good'\n");
    let config = accepted(&format!("{LAN}{SIP}{good}"));
    let expected = crate::config::Secret::Password("hunter2".to_owned());
    assert_eq!(config.sip.accounts[0].secret, expected);
}

#[test]
fn connections() {
    let check = |lines: &str, expected: &[(usize, usize, &str, &str)]| {
        refused(&format!("{LAN}{SIP}{lines}"), expected);
    };
    check(
        "[sip.tcp]\nidle = '8d'\n",
        &[(8, 8, "`d` is not a unit", "\"30s\"")],
    );
    check(
        "[sip.tcp]\nidle = '0s'\nconnections = 0\nconnections_per_source = -1\n",
        &[
            (8, 8, "0s is out of range", "1s to 168h"),
            (9, 15, "0 is not a number of connections", "1 to 1000000"),
            (10, 26, "-1 is not a number of connections", "1 to"),
        ],
    );
    check(
        "[sip.tls]\ncertificate = 'good'\n",
        &[(7, 1, "`key` is missing from [sip.tls]", "key = ")],
    );
    check(
        "[sip.tls]\ncertificate = 'none'\nkey = 'good'\n",
        &[(8, 15, "cannot read /etc/towpath/none", "may read")],
    );
    check(
        "[sip.tls]\ncertificate = 'good'\nkey = 'good'\nverify = 'peers'\n",
        &[(10, 10, "without `ca`", "ca = ")],
    );
    check(
        "[sip.tls]\ncertificate = 'good'\nkey = 'good'\nverify = 'some'\n",
        &[(10, 10, "`some` is not a choice", "did you mean \"none\"?")],
    );
    let config = accepted(&format!(
        "{LAN}{SIP}listen = ['tls:0.0.0.0:5061']\n[sip.tls]\ncertificate = 'good'\nkey = 'good'\n"
    ));
    assert_eq!(config.sip.listen[0].to_string(), "tls:10.0.0.3:5061");
    let tls = config.sip.tls.unwrap();
    assert_eq!(tls.key.path, Path::new("/etc/towpath/good"));
    assert_eq!(format!("{:?}", tls.key), "Pem(/etc/towpath/good)");
    let config = accepted(&format!("{LAN}{SIP}[sip.tls]\n"));
    assert_eq!(config.sip.tls, None);
}

#[test]
fn peers() {
    let peer = |uri: &str| format!("[[sip.peer]]\nname = 'mcu'\nuri = '{uri}'\n");
    let check = |uri: &str, message: &str, help: &str| {
        sip_refused(&peer(uri), &[(9, 7, message, help)]);
    };
    check(
        "sip:192.168.0.1:5060",
        "192.168.0.1 belongs to no [[network]]",
        "add a prefix",
    );
    check("sip:10.0.0.3:5060", "is ourselves", "other system");
    check(
        "sip:mcu",
        "`mcu` is neither an address nor the full name of a host",
        "\"sip:mcu.example.com\"",
    );
    check(
        "sips:mcu.example.com",
        "nothing listens for tls",
        "add \"tls:0.0.0.0:5061\"",
    );
    let named = peer("sip:mcu.example.com:5070");
    sip_refused(
        &format!("{named}uris = ['sip:10.0.0.21']\n"),
        &[(9, 7, "is a name beside other places", "one name")],
    );
    let config = accepted(&format!("{LAN}{SIP}{named}"));
    let host = config.sip.peers[0].host.as_ref().unwrap();
    assert_eq!(host.to_string(), "sip:mcu.example.com:5070");
    check(
        "sips:10.0.0.20",
        "nothing listens for tls: the peer could not call back",
        "add \"tls:0.0.0.0:5061\"",
    );
    check(
        "sip:10.0.0.20;transport=tcp",
        "nothing listens for tcp",
        "\"tcp:0.0.0.0:5060\"",
    );
    let good = peer("sip:10.0.0.20");
    let other = good.replace("mcu", "pbx");
    sip_refused(
        &format!("{good}{other}"),
        &[(12, 7, "is the peer of line 9 too", "join")],
    );
    let other = good.replace("20", "21");
    sip_refused(
        &format!("{good}{other}"),
        &[(11, 8, "`mcu` is taken in line 8", "its own")],
    );
    sip_refused(
        &format!("{good}routes = ['']\n"),
        &[(10, 11, "never matches", "user part")],
    );
    sip_refused(
        &format!("{good}register = 'forwards'\n"),
        &[(10, 12, "not a choice", "did you mean \"forward\"")],
    );
    sip_refused(
        &format!("{good}tls_name = 'mcu.example.com'\n"),
        &[(10, 12, "not reached over TLS", "sips:")],
    );
    sip_refused(
        &format!("{good}register_by = 'path'\nregister_expires = '2h'\n"),
        &[
            (10, 15, "stay here", "register = \"forward\""),
            (11, 20, "stay here", "register = \"forward\""),
        ],
    );
    let second = good.replace("mcu", "pbx").replace("20", "21");
    sip_refused(
        &format!("{good}register = 'forward'\n{second}register = 'forward'\n"),
        &[(14, 12, "the peer of line 10", "one peer")],
    );
    let forward = format!("{good}register = 'forward'\nregister_by = 'path'\n");
    let config = accepted(&format!("{LAN}{SIP}{forward}register_expires = '2h'\n"));
    let forward = config.sip.peers[0].forward.unwrap();
    assert_eq!(forward.by, crate::config::RegisterBy::Path);
    assert_eq!(forward.expires, Duration::from_secs(7200));
    sip_refused(
        &format!("{good}uris = ['sip:10.0.0.20']\n"),
        &[(10, 9, "is the peer of line 9 too", "join")],
    );
    sip_refused(
        &format!("{good}probe_failures = 0\n"),
        &[(10, 18, "0 is out of range", "1 to 100")],
    );
    sip_refused(
        &format!("{good}max_calls = 0\nmax_bandwidth = 1000000001\n"),
        &[
            (10, 13, "0 is out of range", "no limit"),
            (11, 17, "1000000001 is out of range", "kbit/s"),
        ],
    );
    let config = accepted(&format!("{LAN}{SIP}{good}max_calls = 2\n"));
    let limits = config.sip.peers[0].limits;
    assert_eq!((limits.calls, limits.bandwidth), (Some(2), None));
    let more = "uris = ['sip:10.0.0.21;transport=udp;weight=2', 'sip:10.0.0.22;priority=0']\n";
    let config = accepted(&format!("{LAN}{SIP}{good}{more}"));
    let addresses = config.sip.peers[0].addresses.iter();
    let addresses: Vec<String> = addresses.map(ToString::to_string).collect();
    assert_eq!(
        addresses,
        [
            "sip:10.0.0.20:5060;priority=0;weight=1",
            "sip:10.0.0.21:5060;transport=udp;priority=1;weight=2",
            "sip:10.0.0.22:5060;priority=0;weight=1",
        ]
    );
    let config = accepted(&format!(
        "{LAN}{SIP}{good}register = 'local'\nroutes = ['8???']\n"
    ));
    assert_eq!(
        config.sip.peers[0].addresses[0].address,
        "10.0.0.20:5060".parse().unwrap()
    );
}
