//! Clients that others wrote, unchanged: mosquitto's own and Python's.

use std::process::{Command, Output};

use towpath_tests::mqtt::client::LIMIT;
use towpath_tests::pki::{Authority, Issued};
use towpath_tests::{clock, http};

use super::*;

const ACCOUNTS: &str = "[[sip.account]]\nuser = \"1001\"\npassword = \"hunter2\"\n\
    [[sip.account]]\nuser = \"1002\"\n\
    ha1_md5 = \"0be7624611ba0a6276f8f601afefa640\"\n";

fn run(program: &str, words: &[&str]) -> Output {
    Command::new(program).args(words).output().unwrap()
}

#[test]
fn mosquittos_clients_work_unchanged() {
    in_private_network("clients::mosquittos_clients_work_unchanged", || {
        let directory = directory("clients");
        let _broker = Broker::towpath(directory.path(), OURS, "topics = [\"#\"]", "")?;
        for version in ["mqttv311", "5"] {
            for qos in ["0", "1", "2"] {
                let topic = format!("room/{version}/{qos}");
                let publish = ["-V", version, "-q", qos, "-r", "-t", &topic, "-m", "hello"];
                let output = run("mosquitto_pub", &publish);
                assert!(output.status.success(), "{output:?}");
                let filter = format!("room/{version}/+");
                let subscribe = [
                    "-V", version, "-q", qos, "-t", &filter, "-C", "1", "-W", "5",
                ];
                let output = run("mosquitto_sub", &[&subscribe[..], &["-v"]].concat());
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(said.starts_with(&format!("room/{version}/")), "{output:?}");
                let forget = ["-V", version, "-q", "1", "-r", "-n", "-t", &topic];
                assert!(run("mosquitto_pub", &forget).status.success());
            }
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn accounts_are_those_of_sip() {
    in_private_network("clients::accounts_are_those_of_sip", || {
        let directory = directory("accounts");
        let _broker = Broker::towpath(directory.path(), OURS, "topics = [\"#\"]", ACCOUNTS)?;
        let mut said = Vec::new();
        for (user, password, expected) in [
            ("1001", "hunter2", true),
            ("1001", "hunter3", false),
            ("1002", "hunter2", true),
            ("1003", "hunter2", false),
        ] {
            for version in ["mqttv311", "5"] {
                let words = [
                    "-V", version, "-u", user, "-P", password, "-t", "x", "-m", "y",
                ];
                let output = run("mosquitto_pub", &words);
                assert_eq!(output.status.success(), expected, "{user}: {output:?}");
                if !expected {
                    let text = String::from_utf8_lossy(&output.stderr).into_owned();
                    said.push((version, text));
                }
            }
        }
        // Whoever is unknown is told what a wrong password is told.
        said.sort();
        said.dedup();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(
            !run("mosquitto_pub", &["-t", "x", "-m", "y"])
                .status
                .success()
        );
        Ok(())
    })
    .unwrap();
}

/// What a developer would write first.
const PYTHON: &str = r#"
import sys, threading
import paho.mqtt.client as mqtt
version, got = int(sys.argv[1]), threading.Event()
def connected(client, *rest):
    client.subscribe("room/#", 1)
def subscribed(client, *rest):
    client.publish("room/1", "from python", 1)
def message(client, userdata, message):
    assert (message.topic, message.payload, message.qos) == ("room/1", b"from python", 1)
    got.set()
extra = [mqtt.CallbackAPIVersion.VERSION1] if hasattr(mqtt, "CallbackAPIVersion") else []
client = mqtt.Client(*extra, client_id="python", protocol=version)
client.on_connect, client.on_subscribe, client.on_message = connected, subscribed, message
client.connect("127.0.0.1", 1883)
client.loop_start()
assert got.wait(10)
client.disconnect()
client.loop_stop()
"#;

#[test]
fn a_python_client_works_unchanged() {
    in_private_network("clients::a_python_client_works_unchanged", || {
        let directory = directory("python");
        let _broker = Broker::towpath(directory.path(), OURS, "topics = [\"#\"]", "")?;
        for version in ["4", "5"] {
            let output = run("/usr/bin/python3", &["-c", PYTHON, version]);
            assert!(output.status.success(), "{version}: {output:?}");
        }
        Ok(())
    })
    .unwrap();
}

/// Both families, in the open and over TLS.
#[test]
fn mosquittos_clients_come_over_tls_and_ipv6() {
    in_private_network("clients::mosquittos_clients_come_over_tls_and_ipv6", || {
        let directory = directory("tls");
        let authority = Authority::new(&directory.directory("ours")?)?;
        let stranger = Authority::new(&directory.directory("others")?)?;
        let names = "IP:127.0.0.1,IP:::1";
        let Issued { certificate, key } = authority.issue("edge", names, 30)?;
        let listen = [
            "tcp:0.0.0.0:1883",
            "tcp:[::]:1883",
            "tls:0.0.0.0:8883",
            "tls:[::]:8883",
        ];
        let mqtt = format!("topics = [\"#\"]\nlisten = {listen:?}");
        let tls = format!("[mqtt.tls]\ncertificate = {certificate:?}\nkey = {key:?}\n");
        let _broker = Broker::towpath(directory.path(), OURS, &mqtt, &tls)?;
        let own = authority.certificate();
        for (host, port, ca) in [
            ("127.0.0.1", "1883", None),
            ("::1", "1883", None),
            ("127.0.0.1", "8883", Some(&own)),
            ("::1", "8883", Some(&own)),
        ] {
            for version in ["mqttv311", "5"] {
                let topic = format!("room/{host}/{port}/{version}");
                let mut words = vec!["-h", host, "-p", port, "-V", version, "-t", &topic];
                if let Some(ca) = ca {
                    words.extend(["--cafile", ca.to_str().unwrap()]);
                }
                let hello = ["-q", "1", "-r", "-m", "hello"];
                let output = run("mosquitto_pub", &[&words[..], &hello].concat());
                assert!(output.status.success(), "{words:?}: {output:?}");
                let one = ["-q", "1", "-C", "1", "-W", "5", "-v"];
                let output = run("mosquitto_sub", &[&words[..], &one].concat());
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                assert_eq!(said, format!("{topic} hello\n"), "{output:?}");
            }
        }
        // It is no TLS without, and nobody else's certificate is taken for ours.
        let words = ["-h", "::1", "-p", "8883", "-t", "x", "-m", "y"];
        assert!(!run("mosquitto_pub", &words).status.success());
        let other = stranger.certificate();
        let other = ["--cafile", other.to_str().unwrap()];
        assert!(
            !run("mosquitto_pub", &[&words[..], &other].concat())
                .status
                .success()
        );
        Ok(())
    })
    .unwrap();
}

/// Tools come in with a token of the API, and out when it is revoked.
#[test]
fn a_token_is_a_login() {
    in_private_network("clients::a_token_is_a_login", || {
        let directory = directory("token");
        let more = format!(
            "{ACCOUNTS}[conference]\nuris = [\"8*\"]\n[[conference.floor]]\nid = \"audio\"\n"
        );
        let _broker = Broker::towpath(directory.path(), OURS, "topics = [\"room/#\"]", &more)?;
        let socket = directory.path().join("socket");
        let order = |method: &str, path: &str, body: &str| {
            let json = "Content-Type: application/json\r\n";
            http::send(&socket, method, &format!("/api/v1/{path}"), json, body).unwrap()
        };
        let token = |role: &str| {
            let body = format!("{{\"name\":\"{role}\",\"role\":\"{role}\"}}");
            let made = order("POST", "tokens", &body);
            made.body["token"]
                .as_str()
                .unwrap_or_else(|| panic!("{made:?}"))
                .to_owned()
        };
        let [viewer, operator, admin] = ["viewer", "operator", "admin"].map(token);
        let made = order("POST", "conferences", "{\"uri\":\"8001\"}");
        let cid = made.body["cid"]
            .as_str()
            .unwrap_or_else(|| panic!("{made:?}"))
            .to_owned();
        let state = format!("towpath/v1/c/{cid}/state");
        let command = format!("towpath/v1/c/{cid}/cmd/1001");
        let ask = r#"{"id":"a","type":"conference.query","data":{}}"#;
        for (user, password, reads, commands) in [
            ("viewer", &viewer, true, false),
            ("operator", &operator, true, true),
            ("admin", &admin, true, true),
            // Somebody else's, none of ours, and who is in no roster.
            ("viewer", &operator, false, false),
            (
                "viewer",
                &format!("towpath_{}", "0".repeat(64)),
                false,
                false,
            ),
            ("1001", &"hunter2".to_owned(), false, true),
        ] {
            let login = ["-u", user, "-P", password, "-V", "5", "-q", "1"];
            let words = ["-t", &state, "-C", "1", "-W", "2"];
            let output = run("mosquitto_sub", &[&login[..], &words].concat());
            assert_eq!(!output.stdout.is_empty(), reads, "{user} reads: {output:?}");
            let words = ["-t", &command, "-m", ask];
            let output = run("mosquitto_pub", &[&login[..], &words].concat());
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let done = output.status.success() && said.is_empty();
            assert_eq!(done, commands, "{user} commands: {output:?}");
            // Nor does it speak among clients.
            let words = ["-t", "room/1", "-m", "x"];
            let output = run("mosquitto_pub", &[&login[..], &words].concat());
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let done = output.status.success() && !said.contains("Not authorized");
            assert_eq!(done, commands, "{user} among clients: {output:?}");
        }
        let listed = |id: &str| {
            let found = http::get(&socket, "/api/v1/mqtt/clients").unwrap();
            let clients = found["clients"].as_array().unwrap().clone();
            clients.into_iter().find(|client| client["id"] == id)
        };
        let mut watching = Command::new("mosquitto_sub")
            .args([
                "-u", "viewer", "-P", &viewer, "-i", "wall", "-V", "5", "-t", "room/#",
            ])
            .spawn()?;
        let there = || Ok(listed("wall").map(|client| client["kind"].clone()));
        let kind = clock::until("the viewer is listed", LIMIT, there)?;
        assert_eq!(kind, "viewer");
        order("DELETE", "tokens/viewer", "");
        let gone = || Ok(listed("wall").is_none().then_some(()));
        clock::until("its connection ends with its token", LIMIT, gone)?;
        watching.kill()?;
        watching.wait()?;
        Ok(())
    })
    .unwrap();
}
