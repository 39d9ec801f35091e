//! Another configuration for a daemon that runs: whatever asks for it, it is in force as a whole or
//! nothing has changed.

use std::net::SocketAddr;

use towpath_tests::http::Answer;

use super::*;

/// A third network, on an address that is free.
const DMZ: &str = "\n[[network]]\nname = \"dmz\"\ninterface = \"eth1\"\naddress = \"10.0.2.3\"\n\
                   peers = [\"10.0.2.0/24\"]\n";
const ACCOUNT: &str = "\n[[sip.account]]\nuser = \"1001\"\npassword = \"hunter2\"\n";

impl Daemon {
    /// The configuration it was started with.
    fn config(&self) -> String {
        CONFIG.replace("DIRECTORY", self.directory.to_str().unwrap())
    }

    fn api(&self, method: &str, path: &str, head: &str, body: &str) -> Answer {
        let path = format!("/api/v1/config{path}");
        http::send(&self.socket(), method, &path, head, body).unwrap()
    }

    /// Puts a text in force, whichever is.
    pub(super) fn put(&self, text: &str) -> Answer {
        self.api("PUT", "", "If-Match: *\r\n", text)
    }

    fn generation(&self) -> u64 {
        let status = http::get(&self.socket(), "/api/v1/status").unwrap();
        status["config"]["generation"].as_u64().unwrap()
    }

    /// The effective value of a key.
    pub(super) fn value(&self, key: &str) -> Value {
        let shown = self.api("GET", "", "", "").body;
        let values = shown["values"].as_array().unwrap();
        let entry = values.iter().find(|entry| entry["key"] == key);
        entry.map_or(Value::Null, |entry| entry["value"].clone())
    }

    #[track_caller]
    fn shaped(&self, document: &str, found: &Value) {
        let root = env!("CARGO_MANIFEST_DIR");
        let schema = fs::read_to_string(format!("{root}/vectors/api/{document}.schema")).unwrap();
        let differences = schema::differences(&schema, found);
        assert!(differences.is_empty(), "{differences:#?}\n{found:#}");
    }
}

/// Whether a UDP port of ours is free.
fn is_free(at: &str) -> bool {
    UdpSocket::bind(at.parse::<SocketAddr>().unwrap()).is_ok()
}

#[test]
fn sighup_applies_the_file_or_changes_nothing() {
    in_private_network("reload::sighup_applies_the_file_or_changes_nothing", || {
        ip(LINKS)?;
        ip("address add 10.0.2.3/24 dev eth1")?;
        let mut daemon = Daemon::start("sighup");
        assert_eq!(daemon.generation(), 1);
        assert!(is_free("10.0.2.3:5060"));

        daemon.configure(&format!("{CONFIG}{DMZ}{ACCOUNT}"));
        daemon.reloads("SIGHUP: configuration applied generation=2");
        assert!(!is_free("10.0.2.3:5060"));
        let changed = "sip.listen (hot), sip.account.1001 (hot), network.dmz (hot)";
        assert!(daemon.log().contains(changed), "{}", daemon.log());

        // Wrong: each problem, and nothing changes.
        daemon.configure("[sip]\n");
        daemon.reloads("towpath.toml: 2 problems; nothing has changed");
        let (code, status) = daemon.ask(&["status"]);
        assert_eq!(code, 1, "{status}");
        let warned = "warning        the configuration file was refused, generation 2 stays in \
                      force:\n               towpath.toml: 2 problems\n               \
                      towpath.toml:1:1: there is no [[network]]\n               \
                      towpath.toml:1:1: `domain` is missing from [sip]\n";
        assert!(status.contains(warned), "{status}");
        let document = http::get(&daemon.socket(), "/api/v1/status").unwrap();
        let refused = &document["config"]["refused"];
        assert_eq!(refused["code"], "invalid_configuration");
        assert_eq!(refused["problems"][1]["key"], "sip.domain");
        assert!(!is_free("10.0.2.3:5060"));

        // What takes a restart is refused as a whole.
        let changed = CONFIG
            .replace("\"none\"", "\"digest\"")
            .replace("\"userspace\"", "\"auto\"");
        daemon.configure(&changed.replace("example.com", "example.net"));
        daemon.reloads("towpath.toml: not applied: it takes a restart; nothing has changed");
        for told in [
            "towpath.toml:5:10: `sip.domain` takes a restart: \"example.com\" runs, \
             \"example.net\" is written",
            "towpath.toml:22:8: `datapath.mode` takes a restart: \"userspace\" runs, \"auto\" is \
             written",
        ] {
            assert!(daemon.log().contains(told), "{told}\n{}", daemon.log());
        }
        assert_eq!(daemon.value("sip.auth"), "none");

        // A file that is good again.
        daemon.configure(&CONFIG.replace("\"none\"", "\"digest\""));
        daemon.reloads("configuration applied generation=3");
        assert_eq!(daemon.value("sip.auth"), "digest");
        assert_eq!(daemon.ask(&["status"]).0, 0);
        daemon.reloads("SIGHUP: the configuration is the one that runs");
        fs::remove_file(daemon.directory.join("towpath.toml"))?;
        daemon.reloads("cannot read towpath.toml");
        assert_eq!(daemon.generation(), 3);

        let metrics = daemon.metrics();
        for line in [
            "towpath_config_generation 3",
            "towpath_config_reloads_total{result=\"applied\"} 2",
            "towpath_config_reloads_total{result=\"refused\"} 3",
            "towpath_config_reloads_total{result=\"unchanged\"} 1",
        ] {
            assert!(metrics.lines().any(|l| l == line), "{line}\n{metrics}");
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn what_was_got_is_given_back() {
    in_private_network("reload::what_was_got_is_given_back", || {
        ip(LINKS)?;
        ip("address add 10.0.2.3/24 dev eth1")?;
        let mut daemon = Daemon::start("undo");
        let other = UdpSocket::bind("10.0.2.3:5060")?;
        let listen = "listen = [\"udp:0.0.0.0:5060\", \"udp:10.0.0.3:5070\"]\n";
        let text = CONFIG.replace("[sip]\n", &format!("[sip]\n{listen}"));
        // Of three new sockets the last cannot be had.
        let text = text.replace(
            "udp:10.0.0.3:5070\"",
            "udp:10.0.0.3:5070\", \"udp:10.0.1.3:5080\"",
        );
        daemon.configure(&format!("{text}{DMZ}"));
        daemon.reloads("cannot listen on udp:10.0.2.3:5060: Address already in use");
        assert!(
            daemon.log().contains("towpath.toml:5:10: cannot listen"),
            "{}",
            daemon.log()
        );
        assert_eq!(daemon.generation(), 1);
        for at in ["10.0.0.3:5070", "10.0.1.3:5080"] {
            assert!(is_free(at), "{at}");
        }
        assert!(!is_free("10.0.0.3:5060"));
        drop(other);
        daemon.reloads("configuration applied generation=2");
        for at in ["10.0.0.3:5070", "10.0.1.3:5080", "10.0.2.3:5060"] {
            assert!(!is_free(at), "{at}");
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn the_api_replaces_what_the_client_has_seen() {
    in_private_network("reload::the_api_replaces_what_the_client_has_seen", || {
        ip(LINKS)?;
        let daemon = Daemon::start("api");
        let config = daemon.config();
        let shown = daemon.api("GET", "", "", "");
        daemon.shaped("config", &shown.body);
        let etag = shown.etag.unwrap();
        assert_eq!(
            etag,
            format!("\"{}\"", shown.body["hash"].as_str().unwrap())
        );
        assert_eq!(shown.body["values"][0]["key"], "node.id");
        assert_eq!(shown.body["values"][0]["origin"], Value::Null);
        assert_eq!(shown.body["values"][1]["origin"], "towpath.toml:2");

        let with_account = format!("{config}{ACCOUNT}");
        let plan = daemon.api("POST", "/plan", "", &with_account);
        daemon.shaped("config-plan", &plan.body);
        assert_eq!(plan.body["changes"][0]["key"], "sip.account.1001");
        assert_eq!(
            (plan.body["takes"].as_str(), plan.status),
            (Some("hot"), 200)
        );
        assert_eq!(daemon.generation(), 1);

        let refused = |answer: Answer, status: u16, code: &str| {
            assert_eq!(
                (answer.status, answer.body["code"].as_str()),
                (status, Some(code))
            );
            assert_eq!(answer.body["status"], status, "{:#}", answer.body);
            answer.body
        };
        refused(
            daemon.api("PUT", "", "", &config),
            428,
            "precondition_required",
        );
        refused(
            daemon.api("PUT", "", "If-Match: \"other\"\r\n", &config),
            412,
            "not_in_force",
        );
        let wrong = refused(daemon.put("[sip]\n"), 422, "invalid_configuration");
        daemon.shaped("config-refused", &wrong);
        let restart = with_account.replace("example.com", "example.net");
        let restart = refused(daemon.put(&restart), 409, "takes_restart");
        assert_eq!(restart["problems"][0]["key"], "sip.domain");
        assert_eq!(restart["changes"][0]["takes"], "restart");
        refused(
            daemon.api("GET", "/history/9", "", ""),
            404,
            "no_such_generation",
        );
        refused(
            daemon.api("GET", "/history/x", "", ""),
            400,
            "bad_generation",
        );
        assert_eq!(daemon.generation(), 1);
        // What a client got wrong is not the node's trouble.
        assert_eq!(daemon.ask(&["status"]).0, 0);

        let head = format!("If-Match: {etag}\r\n");
        let applied = daemon.api("PUT", "", &head, &with_account);
        assert_eq!(applied.status, 200, "{:#}", applied.body);
        daemon.shaped("config-applied", &applied.body);
        assert_eq!(applied.body["generation"], 2);
        assert_ne!(applied.etag, Some(etag.clone()));
        // Too late: somebody else was faster.
        refused(daemon.api("PUT", "", &head, &config), 412, "not_in_force");

        let history = daemon.api("GET", "/history", "", "").body;
        daemon.shaped("config-history", &history);
        assert_eq!(history["generations"][0]["source"], "API");
        let who = format!("uid {}", nix::unistd::Uid::effective());
        assert_eq!(history["generations"][0]["who"], who);
        let one = daemon.api("GET", "/history/2", "", "").body;
        let text = one["text"].as_str().unwrap();
        assert!(text.contains("password = \"…\""), "{text}");
        let everything = format!("{one} {:#} {history}", daemon.api("GET", "", "", "").body);
        assert!(!everything.contains("hunter2"), "{everything}");

        let head = format!("If-Match: {}\r\n", applied.etag.unwrap());
        let back = daemon.api("POST", "/rollback/1", &head, "");
        assert_eq!(
            (back.status, &back.body["generation"]),
            (200, &Value::from(3))
        );
        assert_eq!(back.etag, Some(etag));
        let history = daemon.api("GET", "/history", "", "").body;
        assert_eq!(history["generations"][0]["rollback_to"], 1);
        assert_eq!(history["generations"][0]["running"], true);
        assert_eq!(history["generations"][1]["running"], false);
        Ok(())
    })
    .unwrap();
}

#[test]
fn the_last_word_counts_after_a_restart() {
    in_private_network("reload::the_last_word_counts_after_a_restart", || {
        ip(LINKS)?;
        let mut daemon = Daemon::start("last");
        let digest = daemon.config().replace("\"none\"", "\"digest\"");
        assert_eq!(daemon.put(&digest).status, 200);
        daemon.restart();
        assert_eq!(
            (daemon.generation(), daemon.value("sip.auth")),
            (2, "digest".into())
        );
        let told = "the configuration is one that was applied over the API, not the file's";
        assert!(daemon.log().contains(told), "{}", daemon.log());
        let (_, shown) = daemon.ask(&["config", "show"]);
        let head = "; a restart uses it too, unless the file changes\n";
        assert!(
            shown.lines().next().unwrap().ends_with(head.trim_end()),
            "{shown}"
        );
        daemon.reloads("what was applied over the API stays in force");
        assert_eq!(daemon.value("sip.auth"), "digest");

        // Once the file changes, it counts.
        daemon.configure(&format!("{CONFIG}# touched\n"));
        let (_, shown) = daemon.ask(&["config", "show"]);
        assert!(shown.contains("a restart uses the file"), "{shown}");
        daemon.restart();
        assert_eq!(
            (daemon.generation(), daemon.value("sip.auth")),
            (3, "none".into())
        );
        daemon.restart();
        assert_eq!(daemon.generation(), 3);

        // A text that no longer fits the host leaves the file.
        ip("address add 10.0.2.3/24 dev eth1")?;
        let text = format!("{}{DMZ}", daemon.config());
        assert_eq!(daemon.put(&text).status, 200);
        ip("address del 10.0.2.3/24 dev eth1")?;
        daemon.restart();
        assert_eq!(
            (daemon.generation(), daemon.value("network.dmz.nat")),
            (5, Value::Null)
        );
        let told = "does not fit this host any more: the file is used";
        assert!(daemon.log().contains(told), "{}", daemon.log());

        // Without its directory the daemon runs on, and says what that means.
        fs::remove_dir_all(daemon.directory.join("config"))?;
        fs::write(daemon.directory.join("config"), "not a directory")?;
        daemon.restart();
        assert_eq!(daemon.generation(), 1);
        assert_eq!(daemon.put(&digest).body["stored"], false);
        assert!(
            daemon.log().contains("are kept in memory only"),
            "{}",
            daemon.log()
        );
        let (_, shown) = daemon.ask(&["config", "show"]);
        assert!(shown.contains("a restart uses the file"), "{shown}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_watched_file_is_applied_when_it_is_saved() {
    in_private_network("reload::a_watched_file_is_applied_when_it_is_saved", || {
        ip(LINKS)?;
        let mut daemon = Daemon::start("watch");
        let watched = CONFIG.replace("[sip]\n", "watch = true\n[sip]\n");
        let until = |daemon: &Daemon, generation: u64| {
            clock::until(&format!("generation {generation}"), LIMIT, || {
                Ok((daemon.generation() == generation).then_some(()))
            })
            .unwrap_or_else(|error| panic!("{error:#}\n{}", daemon.log()));
        };
        daemon.configure(&watched);
        daemon.reloads("configuration applied generation=2");
        // In place.
        daemon.configure(&watched.replace("\"none\"", "\"digest\""));
        until(&daemon, 3);
        // Another file in its place, as editors do.
        let beside = daemon.directory.join("towpath.toml.new");
        let text = watched.replace("DIRECTORY", daemon.directory.to_str().unwrap());
        fs::write(&beside, text)?;
        fs::rename(&beside, daemon.directory.join("towpath.toml"))?;
        until(&daemon, 4);
        assert_eq!(daemon.value("sip.auth"), "none");
        let history = daemon.api("GET", "/history", "", "").body;
        assert_eq!(history["generations"][0]["source"], "watch");
        // The last that is seen.
        daemon.configure(&CONFIG.replace("\"none\"", "\"digest\""));
        until(&daemon, 5);
        assert_eq!(daemon.value("node.watch"), false);
        daemon.configure(CONFIG);
        daemon.reloads("SIGHUP: configuration applied generation=6");
        Ok(())
    })
    .unwrap();
}

#[test]
fn the_command_line_shows_compares_replaces_and_goes_back() {
    in_private_network(
        "reload::the_command_line_shows_compares_replaces_and_goes_back",
        || {
            ip(LINKS)?;
            let daemon = Daemon::start("commands");
            let write = |name: &str, text: &str| {
                let path = daemon.directory.join(name);
                fs::write(&path, text).unwrap();
                path.to_str().unwrap().to_owned()
            };
            let same = write("same.toml", &daemon.config());
            let other = write("other.toml", &format!("{}{ACCOUNT}", daemon.config()));
            let restart = write(
                "restart.toml",
                &daemon.config().replace("example.com", "x.test"),
            );
            let wrong = write("wrong.toml", "[sip]\ndomain = 5\n");
            let answer = |code: i32, text: &str| (code, text.to_owned());

            let nothing = answer(0, "nothing: it is the configuration in force\n");
            assert_eq!(daemon.ask(&["config", "diff", &same]), nothing);
            let plan = "KEY               FROM  TO  TAKES  CALLS\n\
                    sip.account.1001  -     …   hot    0\n";
            assert_eq!(daemon.ask(&["config", "diff", &other]), answer(2, plan));
            assert_eq!(
                daemon.ask(&["config", "apply", "--dry-run", &other]),
                answer(0, plan)
            );
            let (code, told) = daemon.ask(&["config", "apply", "--dry-run", &restart]);
            assert_eq!(code, 1);
            let expected = format!("{restart}:5:10: `sip.domain` takes a restart: \"example.com\"");
            assert!(told.contains(&expected), "{told}");
            let expected = format!(
                "{wrong}:1:1: there is no [[network]]\n  |\n1 | [sip]\n  | ^\n  = help: add one: \
             [[network]] with name, interface and peers\n\n{wrong}:2:10: `domain` is an \
             integer\n  |\n2 | domain = 5\n  |          ^\n  = help: write text in quotes\n\n\
             error: {wrong}: 2 problems\n"
            );
            for command in [
                &["config", "apply", &wrong][..],
                &["config", "diff", &wrong],
            ] {
                assert_eq!(daemon.ask(command), answer(1, &expected));
            }
            assert_eq!(daemon.generation(), 1);

            let (code, told) = daemon.ask(&["config", "apply", &other]);
            assert_eq!(
                (code, told.lines().next()),
                (0, Some("generation 2 is in force"))
            );
            let again = "nothing to do: generation 2 is this configuration\n";
            assert_eq!(daemon.ask(&["config", "apply", &other]), answer(0, again));
            let (_, shown) = daemon.ask(&["config", "show", "--origin"]);
            assert!(shown.starts_with("generation 2, API by uid "), "{shown}");
            let row = |key: &str| -> Vec<String> {
                let line = shown.lines().find(|line| line.starts_with(key)).unwrap();
                line.split_whitespace().map(str::to_owned).collect()
            };
            let secret = row("sip.account.1001.password");
            assert_eq!(
                secret[1..],
                ["…", "hot", "towpath.toml", "(API):26"],
                "{shown}"
            );
            assert_eq!(
                row("sip.auth")[1..],
                ["none", "hot", "towpath.toml", "(API):6"]
            );
            assert_eq!(row("sip.expires_max")[1..], ["1h", "hot", "-"]);
            assert_eq!(row("node.socket")[1..], ["socket", "restart", "--socket"]);

            let (_, history) = daemon.ask(&["config", "history"]);
            assert_eq!(history.lines().count(), 3, "{history}");
            let (_, text) = daemon.ask(&["config", "history", "2"]);
            assert!(
                text.ends_with("user = \"1001\"\npassword = \"…\"\n"),
                "{text}"
            );
            let (code, told) = daemon.ask(&["config", "rollback", "1"]);
            assert_eq!(
                (code, told.lines().next()),
                (0, Some("generation 3 is in force"))
            );
            let unknown = answer(
                1,
                "error: generation 9 is not known, or not any more; `towpath config history` lists \
                 those that are\n",
            );
            assert_eq!(daemon.ask(&["config", "rollback", "9"]), unknown);
            let (_, lines) = daemon.ask(&["config", "history", "-o", "jsonl"]);
            assert_eq!(lines.lines().count(), 3);
            Ok(())
        },
    )
    .unwrap();
}
