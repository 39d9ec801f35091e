//! Clients that others wrote, unchanged: mosquitto's own and Python's.

use std::process::{Command, Output};

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
