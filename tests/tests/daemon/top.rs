//! `towpath top` in a terminal and in a pipe, against a daemon with calls.

use super::*;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/daemon/terminal.py");

/// `top` in a terminal where this is to be done.
fn start(socket: &Path, steps: &[&str]) -> Command {
    let binary = process::binary().unwrap();
    let mut command = vec![binary.to_str().unwrap(), "top", "--socket"];
    command.extend([socket.to_str().unwrap(), "-d", "0.25"]);
    let mut python = Command::new("python3");
    python.arg(SCRIPT).arg(command.join("\x1f")).args(steps);
    python.env_remove("NO_COLOR");
    python
}

/// What the terminal was sent meanwhile.
fn terminal(daemon: &Daemon, steps: &[&str]) -> String {
    let output = start(&daemon.socket(), steps).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Another screen is entered and left, and the cursor is there again.
fn given_back(sent: &str) {
    assert!(sent.starts_with("code 0\n"), "{sent:?}");
    let (entered, left) = (sent.find("\x1b[?1049h"), sent.rfind("\x1b[?1049l"));
    assert!(entered.is_some() && left > entered, "{sent:?}");
    assert!(sent.rfind("\x1b[?25h") > sent.find("\x1b[?25l"), "{sent:?}");
}

#[test]
fn a_terminal_shows_what_goes_on_and_is_given_back() {
    let name = "top::a_terminal_shows_what_goes_on_and_is_given_back";
    in_private_network(name, || {
        ip(LINKS)?;
        let mut daemon = Daemon::start("top");
        let caller = Phone::register(&daemon, "1001", "10.0.0.20", "10.0.0.3");
        let callee = Phone::register(&daemon, "1002", "10.0.1.20", "10.0.1.3");
        caller.call(&callee).speak();

        let sent = terminal(
            &daemon,
            &[
                "expect:EVENTS",
                "expect:INTERFACE",
                "expect:eth1",
                "expect:1001",
                "send:?",
                "expect:PgUp",
                "send:q",
                "ends",
            ],
        );
        given_back(&sent);
        assert!(sent.contains("\x1b[3"), "colours: {sent:?}");

        // Why a call's media goes where it goes; and a signal ends it as a key does.
        let sent = terminal(
            &daemon,
            &[
                "expect:INTERFACE",
                "expect:1002",
                "send:\r",
                "expect:10.0.1.20",
                "signal:SIGTERM",
                "ends",
            ],
        );
        given_back(&sent);

        // A terminal that goes away takes it along.
        let sent = terminal(&daemon, &["expect:INTERFACE", "close", "ends"]);
        assert!(sent.starts_with("code 0\n"), "{sent:?}");

        // A pipe gets text.
        let (code, text) = daemon.ask(&["top"]);
        assert_eq!(code, 0, "{text}");
        assert!(!text.contains('\x1b') && text.contains(" 1001 "), "{text}");
        let (code, text) = daemon.ask(&["top", "--batch", "-n", "2", "-d", "0.25"]);
        assert_eq!((code, text.matches("INTERFACE").count()), (0, 2), "{text}");
        assert_eq!(
            text.matches("call.answered").count(),
            2,
            "the tail stays: {text}"
        );
        let (_, text) = daemon.ask(&["top", "-b", "-n", "1", "-o", "jsonl"]);
        let document: Value = serde_json::from_str(&text)?;
        assert_eq!(document["top"]["calls"][0]["from"], "1001");
        assert!(document["bpf"]["interfaces"][0]["rx_packets"].is_u64());

        // A daemon that is gone is missed, and shown when it is back.
        let (socket, mut child) = (daemon.socket(), None);
        daemon.kill(|directory| {
            let missed = directory.join("missed");
            let step = format!("touch:{}", missed.display());
            let steps = ["expect:answers", &step, "expect:eth1", "send:q", "ends"];
            child = Some(
                start(&socket, &steps)
                    .stdout(Stdio::piped())
                    .spawn()
                    .unwrap(),
            );
            let is_missed = || Ok(missed.exists().then_some(()));
            clock::until("the daemon is missed", LIMIT, is_missed).unwrap();
        });
        let output = child.unwrap().wait_with_output()?;
        assert!(output.status.success());
        given_back(&String::from_utf8_lossy(&output.stdout));
        Ok(())
    })
    .unwrap();
}
