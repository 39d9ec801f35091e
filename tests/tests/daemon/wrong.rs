//! What operators get wrong: each answer says what is wrong, where, and what to do.

use super::*;

/// Words, exit code, and what the answer must say, in this order.
type Row = (&'static str, i32, &'static [&'static str]);

const LISTED: &str = "`towpath call list` shows those that go on";
const WHO: &str = "nobody is registered under this name; `towpath reg list` shows who is";
const CONFERENCES: &str = "`towpath conf list` shows those that go on";

const ROWS: &[Row] = &[
    // What is not there is named, and where what is there can be seen.
    ("call show 99", 1, &["call 99: no such call", LISTED]),
    ("call kill 99", 1, &["call 99: no such call", LISTED]),
    ("call refresh 99", 1, &["call 99: no such call", LISTED]),
    (
        "call media 99 caller sdp",
        1,
        &["call 99: no such call", LISTED],
    ),
    ("explain call 99", 1, &["call 99: no such call", LISTED]),
    (
        "trace 99",
        1,
        &["call 99: no messages", "`towpath call list`", "trace.calls"],
    ),
    (
        "trace a@b",
        1,
        &["call a@b: no messages", "Call-ID", "trace.ladder"],
    ),
    (
        "trace 99 --pcap DIR/x",
        1,
        &["call 99: no such call", LISTED],
    ),
    (
        "trace 99 --pcap /no/x",
        1,
        &[
            "cannot write /no/x",
            "directory that this user may write",
            "No such file",
        ],
    ),
    ("reg show 1002@example.com", 1, &["1002@example.com: ", WHO]),
    ("reg drop sip:1002", 1, &["1002: ", WHO, "(user@domain)"]),
    ("explain reg a/b", 1, &["a/b: ", WHO]),
    (
        "explain peer 10.0.0.20 --local 10.9.9.9",
        1,
        &["`towpath network list`"],
    ),
    (
        "peer probe nobody",
        1,
        &["peer nobody: ", "`towpath peer list`"],
    ),
    ("conf show nosuch", 1, &["conference nosuch: ", CONFERENCES]),
    ("conf end nosuch", 1, &["conference nosuch: ", CONFERENCES]),
    (
        "conf share nosuch edge-02",
        1,
        &["conference nosuch: ", CONFERENCES],
    ),
    (
        "ban remove 192.0.2.7",
        1,
        &["192.0.2.7: ", "`towpath ban list`"],
    ),
    ("token revoke y", 1, &["token y: ", "`towpath token list`"]),
    (
        "config history 99",
        1,
        &["generation 99", "`towpath config history`"],
    ),
    (
        "config rollback 99",
        1,
        &["generation 99", "`towpath config history`"],
    ),
    (
        "doctor --check nosuch",
        3,
        &["no check `nosuch`", "choose of", "fw.nft"],
    ),
    (
        "doctor --config /no/file",
        3,
        &["cannot read /no/file", "name a file that exists"],
    ),
    ("man nosuch", 1, &["\"nosuch\"", "`towpath --help`"]),
    // Values that cannot be, with those that can.
    ("call media 1 both sdp", 64, &["'both'", "caller, callee"]),
    (
        "explain peer 10.0.0.300",
        64,
        &["'10.0.0.300'", "<IP>", "--help"],
    ),
    (
        "ban add example.com",
        64,
        &["`example.com`", "192.0.2.0/24"],
    ),
    (
        "ban add 10.0.0.0/33",
        64,
        &["`10.0.0.0/33`", "192.0.2.0/24"],
    ),
    (
        "ban add 192.0.2.1 --for 10",
        64,
        &["`10` is not a time", "10m"],
    ),
    ("ban add 192.0.2.1 --for 0s", 64, &["`0s`", "1s or more"]),
    (
        "ban add 192.0.2.1 --for 9999d",
        1,
        &["`seconds` is 1 to 31622400 (a year)"],
    ),
    ("token create a:b", 1, &["`name` has 1 to 64 letters"]),
    (
        "token create x --role root",
        64,
        &["'root'", "viewer, operator, admin"],
    ),
    (
        "token create x --for 99999d",
        1,
        &["`seconds` is 1 to 316224000 (ten years)"],
    ),
    (
        "drain --deadline 1000d",
        1,
        &["`seconds` is 0 to 604800 (a week)"],
    ),
    (
        "log level loud",
        1,
        &["`level` is off, error, warn, info, debug or trace"],
    ),
    (
        "log level info,control=loud",
        1,
        &["info,control::engine=debug"],
    ),
    (
        "events --kind Calls",
        1,
        &["small letters", "call,media.silent"],
    ),
    (
        "config apply BAD",
        1,
        &["unknown key `domian`", "did you mean `domain`?"],
    ),
    (
        "config diff BAD",
        1,
        &["unknown key `domian`", "did you mean `domain`?"],
    ),
    (
        "check --no-host BAD",
        1,
        &["unknown key `domian`", "did you mean `domain`?"],
    ),
    (
        "config apply OTHER",
        1,
        &["`node.id` takes a restart", "systemctl restart towpath"],
    ),
    (
        "config diff /no/file",
        1,
        &[
            "cannot read /no/file",
            "that this user may read",
            "No such file",
        ],
    ),
    ("statsu", 64, &["'statsu'", "'status'"]),
    ("status --verbos", 64, &["'--verbos'", "'--verbose'"]),
    ("completions tcsh", 64, &["'tcsh'", "bash, zsh, fish"]),
    (
        "bpf detach --pin-dir /tmp",
        1,
        &["/tmp: not on a BPF file system", "datapath.pin_dir"],
    ),
    (
        "doctor --peer /no/socket --check sip",
        3,
        &["/no/socket: No such file"],
    ),
];

#[test]
fn what_is_wrong_is_said_and_what_to_do() {
    in_private_network("wrong::what_is_wrong_is_said_and_what_to_do", || {
        ip(LINKS)?;
        let daemon = Daemon::start("wrong");
        let file = |name: &str, text: &str| {
            let path = daemon.directory.join(name);
            fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let own = CONFIG.replace("DIRECTORY", &daemon.directory.display().to_string());
        let bad = file("bad.toml", &own.replace("domain", "domian"));
        let other = file(
            "other.toml",
            &own.replacen("[node]", "[node]\nid = \"other\"", 1),
        );
        let directory = daemon.directory.display().to_string();
        for (words, expected, told) in ROWS {
            let words: Vec<String> = words
                .split(' ')
                .map(|word| word.replace("BAD", &bad).replace("OTHER", &other))
                .map(|word| word.replace("DIR", &directory))
                .collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let (code, text) = daemon.ask(&words);
            assert_eq!(code, *expected, "{words:?}: {text}");
            let mut rest = text.as_str();
            for part in *told {
                let at = rest.find(part);
                let at = at.unwrap_or_else(|| panic!("{words:?}: no {part:?} in {text}"));
                rest = &rest[at..];
            }
        }
        nobody(&daemon);
        Ok(())
    })
    .unwrap();
}

/// Where there is no daemon, or it is not for this user.
fn nobody(daemon: &Daemon) {
    let plain = daemon.directory.join("plain");
    fs::write(&plain, "").unwrap();
    let absent = daemon.directory.join("absent");
    for (socket, told) in [
        (&absent, "no daemon has its socket at"),
        (&plain, "no daemon answers on"),
    ] {
        let output = Command::new(process::binary().unwrap())
            .args(["status", "--socket"])
            .arg(socket)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{text}");
        let expected = format!("error: {told} {}: start it", socket.display());
        assert!(text.starts_with(&expected), "{text}");
        assert!(
            text.contains("`systemctl start towpath`") && text.contains("--socket"),
            "{text}"
        );
    }
}
