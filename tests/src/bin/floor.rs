//! A conference client in one file, for those who write their own: it finds its conference, asks
//! for the floor, shows every newer state, and gives the floor back when standard input ends.
//! `docs/conference.md` is the contract. Run it beside a call that is in a conference:
//!
//! ```text
//! floor-client edge.example.com:1883 1001 secret
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write as _};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use rumqttc::{Client, Connection, Event, MqttOptions, Packet, QoS};
use serde_json::{Value, json};
use towpath_tests::clock;

/// Asks for the floor of the conference one is in.
#[derive(Parser)]
struct Arguments {
    /// HOST:PORT of the edge
    edge: String,
    /// The account, in small letters and digits: others are escaped in topics
    user: String,
    password: String,
    #[arg(long, default_value = "audio")]
    floor: String,
    /// Join this conference, without a call
    #[arg(long, value_name = "CID")]
    join: Option<String>,
}

/// A command without an answer is sent again after this time, with the same id.
const AGAIN: Duration = Duration::from_secs(2);

fn main() -> Result<()> {
    let Arguments {
        edge,
        user,
        password,
        floor,
        join,
    } = Arguments::parse();
    let (host, port) = edge.rsplit_once(':').context("HOST:PORT")?;
    let inst = random()?;
    let mut options = MqttOptions::new(format!("{user}-{inst}"), host, port.parse()?);
    options.set_credentials(&user, password);
    options.set_keep_alive(Duration::from_secs(20));
    let (client, connection) = Client::new(options, 64);
    let mut me = Me {
        client,
        pid: user,
        inst,
        cid: join.clone(),
        entered: false,
        cseq: 0,
        waits: BTreeMap::new(),
        shown: BTreeMap::new(),
        request: None,
        floor,
    };
    // Whoever is in a conference finds it by what is retained there.
    let own = format!("towpath/v1/c/+/roster/{}", me.pid);
    me.client.subscribe(own, QoS::AtLeastOnce)?;
    if let Some(cid) = join {
        me.follow(&cid, &[&format!("rsp/{}", me.pid)])?;
        me.command("conference.join", json!({}))?;
    }
    me.run(connection, &ends()?)
}

struct Me {
    client: Client,
    pid: String,
    /// Of this run of the program.
    inst: String,
    cid: Option<String>,
    /// It is in the roster, and may read.
    entered: bool,
    cseq: u64,
    /// Commands without an answer, by id, and when they were sent last.
    waits: BTreeMap<String, (Value, Instant)>,
    /// The revision of what is shown, by topic.
    shown: BTreeMap<String, (u64, u64)>,
    /// Our request for the floor.
    request: Option<String>,
    floor: String,
}

impl Me {
    fn run(&mut self, mut connection: Connection, over: &Receiver<()>) -> Result<()> {
        loop {
            match connection.recv_timeout(Duration::from_millis(100)) {
                Ok(Ok(Event::Incoming(Packet::Publish(message)))) => {
                    let state = serde_json::from_slice(&message.payload).unwrap_or_default();
                    if self.told(&message.topic, &state)? {
                        return Ok(());
                    }
                }
                Ok(Ok(Event::Incoming(_) | Event::Outgoing(_))) => {}
                Ok(Err(error)) => bail!("the connection: {error}"),
                // Nothing came.
                Err(_) => {}
            }
            if over.try_recv().is_ok() {
                let request = self.request.clone();
                let data = json!({ "fid": self.floor, "request_id": request });
                self.command("floor.release", data)?;
            }
            self.repeat()?;
        }
    }

    /// True: the floor was given back.
    fn told(&mut self, topic: &str, message: &Value) -> Result<bool> {
        let mut levels = topic.split('/').skip(3);
        let (Some(cid), Some(part)) = (levels.next(), levels.next()) else {
            return Ok(false);
        };
        let ours = self.cid.as_deref().is_none_or(|own| own == cid);
        if !self.entered && ours && part == "roster" && !message.is_null() {
            self.enter(cid)?;
        }
        if part == "rsp" {
            return self.answered(message);
        }
        // An older state never takes the place of a newer one, in whatever order they come.
        let number = |name: &str| message.get(name).and_then(Value::as_u64).unwrap_or(0);
        let revision = (number("epoch"), number("rev"));
        let newer = self.shown.get(topic).is_none_or(|shown| revision > *shown);
        if newer && part != "evt" {
            self.shown.insert(topic.to_owned(), revision);
            say(&format!(
                "{topic} {}.{} {}",
                revision.0,
                revision.1,
                data(message)
            ))?;
        }
        Ok(false)
    }

    /// Reads a conference from now on, and asks for its floor.
    fn enter(&mut self, cid: &str) -> Result<()> {
        say(&format!("conference {cid}"))?;
        self.cid = Some(cid.to_owned());
        self.entered = true;
        let answers = format!("rsp/{}", self.pid);
        self.follow(cid, &["state", "roster/+", "floor/+", "evt", &answers])?;
        let data = json!({ "fid": self.floor });
        self.command("floor.request", data)
    }

    fn follow(&self, cid: &str, parts: &[&str]) -> Result<()> {
        for part in parts {
            let filter = format!("towpath/v1/c/{cid}/{part}");
            self.client.subscribe(filter, QoS::AtLeastOnce)?;
        }
        Ok(())
    }

    /// An answer says what became of a command; what is shown is a state's to say.
    fn answered(&mut self, answer: &Value) -> Result<bool> {
        let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default();
        let Some((command, _)) = self.waits.remove(text("cause")) else {
            return Ok(false);
        };
        let kind = command
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        say(&format!("{kind}: {} {}", text("status"), data(answer)))?;
        if kind == "floor.request" {
            let request = data(answer).get("request_id").and_then(Value::as_str);
            self.request = request.map(str::to_owned);
        }
        Ok(kind == "floor.release")
    }

    fn command(&mut self, kind: &str, data: Value) -> Result<()> {
        self.cseq += 1;
        let id = random()?;
        let command = json!({
            "v": 1, "id": id, "type": kind, "cseq": self.cseq,
            "src": { "pid": self.pid, "inst": self.inst }, "data": data,
        });
        self.send(&command)?;
        self.waits.insert(id, (command, clock::now()));
        Ok(())
    }

    /// What has no answer is sent again: the id makes that harmless.
    fn repeat(&mut self) -> Result<()> {
        let now = clock::now();
        let late = self.waits.values_mut();
        let late = late.filter(|(_, sent)| now.saturating_duration_since(*sent) >= AGAIN);
        let mut again = Vec::new();
        for (command, sent) in late {
            *sent = now;
            again.push(command.clone());
        }
        again.iter().try_for_each(|command| self.send(command))
    }

    fn send(&self, command: &Value) -> Result<()> {
        let Some(cid) = &self.cid else {
            bail!("no conference yet");
        };
        let topic = format!("towpath/v1/c/{cid}/cmd/{}", self.pid);
        let client = &self.client;
        client.publish(topic, QoS::AtLeastOnce, false, command.to_string())?;
        Ok(())
    }
}

fn data(message: &Value) -> &Value {
    message.get("data").unwrap_or(&Value::Null)
}

fn say(line: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{line}").context("standard output")
}

/// Tells when standard input has ended.
fn ends() -> Result<Receiver<()>> {
    let (sender, over) = channel();
    let read = move || {
        // However it ends, it has ended.
        drop(std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        sender.send(()).unwrap_or_default();
    };
    std::thread::Builder::new().spawn(read)?;
    Ok(over)
}

fn random() -> Result<String> {
    let mut octets = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut octets)?;
    Ok(format!("{:032x}", u128::from_be_bytes(octets)))
}
