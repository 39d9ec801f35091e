//! Small plays for a few clients and one broker: each line is somebody's deed, and what everybody
//! gets after it is written down. The same play at two brokers shows where they differ.
//!
//! ```text
//! a connect id=%a clean=0 keep=5 user=u pass=p will=%/w,gone,1,0 delay=1 expiry=30 rmax=1
//! a sub %/x:1 %/y/+:0 nl rap rh=1 id=7        a unsub %/x
//! a pub %/x hello q=1 r dup expiry=9 alias=1 response=t correlation=c type=t user=k:v utf8 size=9
//! a disconnect code=4 expiry=0                a drop
//! a raw c000                                  a hold / a ack / a rel 1
//! a closed      waits until the broker has closed, or says that it has not
//! a await TEXT  waits for a publication with this in it
//! pause 1100    milliseconds, where time itself is the condition
//! ```
//!
//! `%` is the play's own prefix of identifiers and topics. A deed that ends with `!` is not
//! followed by a look at what everybody gets: `closed` or another deed follows.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::client::{Came, Client, LIMIT};
use super::wire::Writer;
use crate::clock;

/// How long a broker that is to close a connection may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(9);

/// Plays `script` at a broker; returns what everybody got, a line each.
///
/// # Errors
/// The script is none, or a broker does not answer.
pub fn play(to: SocketAddr, v5: bool, prefix: &str, script: &str) -> Result<Vec<String>> {
    let mut stage = Stage {
        to,
        v5,
        prefix,
        clients: BTreeMap::new(),
        seen: Vec::new(),
    };
    for line in script.lines().map(str::trim).filter(|l| !l.is_empty()) {
        stage.step(line).with_context(|| line.to_owned())?;
    }
    Ok(stage.seen)
}

struct Stage<'a> {
    to: SocketAddr,
    v5: bool,
    prefix: &'a str,
    clients: BTreeMap<String, Client>,
    seen: Vec<String>,
}

/// What stands behind a deed.
struct Words<'a> {
    plain: Vec<&'a str>,
    named: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    fn of(words: &[&'a str]) -> Self {
        let named = |word: &&'a str| word.split_once('=');
        Self {
            plain: words.iter().copied().filter(|w| !w.contains('=')).collect(),
            named: words.iter().filter_map(named).collect(),
        }
    }

    fn has(&self, word: &str) -> bool {
        self.plain.contains(&word)
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>> {
        let Some(text) = self.named.get(name) else {
            return Ok(None);
        };
        let number = text.parse().ok();
        number.map(Some).with_context(|| format!("{name}={text}"))
    }
}

impl Stage<'_> {
    fn step(&mut self, line: &str) -> Result<()> {
        let line = line.replace('%', self.prefix);
        let (line, looks) = match line.strip_suffix('!') {
            Some(line) => (line.to_owned(), false),
            None => (line, true),
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["pause", milliseconds] = *words {
            let time = Duration::from_millis(milliseconds.parse()?);
            clock::wait_until(clock::now() + time);
            return Ok(());
        }
        let [who, deed, rest @ ..] = words.as_slice() else {
            bail!("who does what?");
        };
        self.seen
            .push(format!("# {line}").replace(self.prefix, "%"));
        let words = Words::of(rest);
        match *deed {
            "connect" => return self.connect(who, &words),
            "drop" => {
                self.clients.remove(*who);
                return Ok(());
            }
            "closed" => return self.closes(who),
            "await" => return self.waits_for(who, rest.first().context("for what?")?),
            _ => {}
        }
        let client = self.clients.get_mut(*who).context("nobody of that name")?;
        match *deed {
            "sub" => subscribe(client, &words)?,
            "unsub" => unsubscribe(client, &words),
            "pub" => publish(client, &words)?,
            "hold" => client.holds = true,
            "ack" => client.acknowledge(),
            "rel" => {
                let mut release = Writer::default();
                release.short(rest.first().context("which?")?.parse()?);
                client.send(&release.packet(0x62));
            }
            "raw" => client.send(&hex(rest.first().context("which bytes?")?)?),
            "look" => {}
            "disconnect" => {
                disconnect(client, &words)?;
                return self.closes(who);
            }
            other => bail!("{other} is no deed"),
        }
        if looks { self.look(who) } else { Ok(()) }
    }

    fn connect(&mut self, who: &str, words: &Words<'_>) -> Result<()> {
        let mut client = Client::connect(self.to, self.v5)?;
        let own = format!("{}{who}", self.prefix);
        let id = words.named.get("id").copied().unwrap_or(&own);
        client.send(&connect(self.v5, id, words)?);
        let came = client.next(clock::now() + LIMIT)?;
        self.note(who, &came);
        let refused = !matches!(&came, Came::Packet { shown, .. } if shown.contains("code=0x00"));
        self.clients.insert(who.to_owned(), client);
        if refused {
            self.closes(who)
        } else {
            self.look(who)
        }
    }

    /// What everybody gets, the one who acted first: whoever has its answer to a ping has
    /// everything that came before.
    fn look(&mut self, first: &str) -> Result<()> {
        let others = self.clients.keys().filter(|name| *name != first);
        let mut names: Vec<String> = others.cloned().collect();
        names.insert(0, first.to_owned());
        // What is acknowledged in the first round makes room for what comes in the second.
        for _ in 0..2 {
            for name in &names {
                self.drain(name)?;
            }
        }
        Ok(())
    }

    fn drain(&mut self, name: &str) -> Result<()> {
        let Some(client) = self.clients.get_mut(name) else {
            return Ok(());
        };
        client.ping();
        let deadline = clock::now() + LIMIT;
        loop {
            let Some(client) = self.clients.get_mut(name) else {
                return Ok(());
            };
            let came = client.next(deadline)?;
            match &came {
                Came::Packet { kind: 13, .. } => return Ok(()),
                Came::Packet { .. } => self.note(name, &came),
                Came::Closed => {
                    self.note(name, &came);
                    self.clients.remove(name);
                    return Ok(());
                }
                Came::Nothing => bail!("{name}: no answer to a ping"),
            }
        }
    }

    fn closes(&mut self, name: &str) -> Result<()> {
        let deadline = clock::now() + CLOSE_LIMIT;
        loop {
            let client = self.clients.get_mut(name).context("nobody of that name")?;
            let came = client.next(deadline)?;
            self.note(name, &came);
            match came {
                Came::Packet { .. } => {}
                Came::Nothing => return Ok(()),
                Came::Closed => {
                    self.clients.remove(name);
                    return self.look(name);
                }
            }
        }
    }

    fn waits_for(&mut self, name: &str, text: &str) -> Result<()> {
        let deadline = clock::now() + LIMIT;
        loop {
            let client = self.clients.get_mut(name).context("nobody of that name")?;
            let came = client.next(deadline)?;
            self.note(name, &came);
            match came {
                Came::Packet { shown, .. } if shown.contains(text) => return Ok(()),
                Came::Packet { .. } => {}
                Came::Closed | Came::Nothing => return Ok(()),
            }
        }
    }

    fn note(&mut self, who: &str, came: &Came) {
        let what = match came {
            Came::Packet { shown, .. } => shown.replace(self.prefix, "%"),
            Came::Closed => "closed".to_owned(),
            Came::Nothing => "open".to_owned(),
        };
        self.seen.push(format!("{who} < {what}"));
    }
}

/// A CONNECT packet.
///
/// # Errors
/// A number is none.
fn connect(v5: bool, id: &str, words: &Words<'_>) -> Result<Vec<u8>> {
    let named = |name: &str| words.named.get(name).copied();
    let mut flags = if named("clean") == Some("0") { 0 } else { 2 };
    let will: Option<Vec<&str>> = named("will").map(|will| will.split(',').collect());
    if let Some([_, _, qos, retain]) = will.as_deref() {
        flags |= 4 | qos.parse::<u8>()? << 3 | retain.parse::<u8>()? << 5;
    }
    flags |= if named("user").is_some() { 0x80 } else { 0 };
    flags |= if named("pass").is_some() { 0x40 } else { 0 };
    let mut packet = Writer::default();
    packet.text("MQTT");
    packet.byte(words.number("level")?.unwrap_or(if v5 { 5 } else { 4 }));
    packet.byte(words.number("flags")?.unwrap_or(flags));
    packet.short(words.number("keep")?.unwrap_or(60));
    if v5 {
        let mut properties = Writer::default();
        if let Some(expiry) = words.number("expiry")? {
            properties.byte(0x11);
            properties.long(expiry);
        }
        if let Some(max) = words.number("rmax")? {
            properties.byte(0x21);
            properties.short(max);
        }
        if let Some(max) = words.number("pmax")? {
            properties.byte(0x27);
            properties.long(max);
        }
        if let Some(method) = named("auth") {
            properties.byte(0x15);
            properties.text(method);
        }
        packet.properties(&properties);
    }
    packet.text(id);
    if let Some([topic, payload, ..]) = will.as_deref() {
        if v5 {
            let mut properties = Writer::default();
            if let Some(delay) = words.number("delay")? {
                properties.byte(0x18);
                properties.long(delay);
            }
            if let Some(life) = words.number("wexpiry")? {
                properties.byte(0x02);
                properties.long(life);
            }
            packet.properties(&properties);
        }
        packet.text(topic);
        packet.text(payload);
    }
    for name in ["user", "pass"] {
        if let Some(text) = named(name) {
            packet.text(text);
        }
    }
    Ok(packet.packet(0x10))
}

fn subscribe(client: &mut Client, words: &Words<'_>) -> Result<()> {
    let mut packet = Writer::default();
    packet.short(client.fresh());
    let mut options = 0;
    if client.is_v5() {
        let mut properties = Writer::default();
        if let Some(id) = words.number("id")? {
            properties.byte(0x0b);
            properties.number(id);
        }
        packet.properties(&properties);
        options |= if words.has("nl") { 4 } else { 0 };
        options |= if words.has("rap") { 8 } else { 0 };
        options |= words.number::<u8>("rh")?.unwrap_or(0) << 4;
    }
    for word in &words.plain {
        if let Some((filter, qos)) = word.rsplit_once(':') {
            packet.text(filter);
            packet.byte(options | qos.parse::<u8>()?);
        }
    }
    client.send(&packet.packet(0x82));
    Ok(())
}

fn unsubscribe(client: &mut Client, words: &Words<'_>) {
    let mut packet = Writer::default();
    packet.short(client.fresh());
    if client.is_v5() {
        packet.properties(&Writer::default());
    }
    for filter in &words.plain {
        packet.text(filter);
    }
    client.send(&packet.packet(0xa2));
}

fn publish(client: &mut Client, words: &Words<'_>) -> Result<()> {
    let [topic, payload, ..] = *words.plain else {
        bail!("what, and where?");
    };
    let qos: u8 = words.number("q")?.unwrap_or(0);
    let mut first = 0x30 | qos << 1;
    first |= if words.has("r") { 1 } else { 0 };
    first |= if words.has("dup") { 8 } else { 0 };
    let mut packet = Writer::default();
    packet.text(if topic == "-" { "" } else { topic });
    let mut pkid = 0;
    if qos > 0 {
        pkid = match words.number("pkid")? {
            Some(pkid) => pkid,
            None => client.fresh(),
        };
        packet.short(pkid);
    }
    if client.is_v5() {
        packet.properties(&said(words)?);
    }
    match words.number("size")? {
        Some(size) => packet.0.extend(std::iter::repeat_n(b'x', size)),
        None if payload == "-" => {}
        None => packet.0.extend(payload.as_bytes()),
    }
    client.send(&packet.packet(first));
    if qos == 2 && !words.has("half") {
        let mut release = Writer::default();
        release.short(pkid);
        client.send(&release.packet(0x62));
    }
    Ok(())
}

/// Properties of a publication.
fn said(words: &Words<'_>) -> Result<Writer> {
    let mut properties = Writer::default();
    if words.has("utf8") {
        properties.byte(1);
        properties.byte(1);
    }
    if let Some(life) = words.number("expiry")? {
        properties.byte(2);
        properties.long(life);
    }
    for (name, id) in [("type", 3), ("response", 8), ("correlation", 9)] {
        if let Some(text) = words.named.get(name) {
            properties.byte(id);
            properties.text(text);
        }
    }
    if let Some(id) = words.number("id")? {
        properties.byte(0x0b);
        properties.number(id);
    }
    if let Some(alias) = words.number("alias")? {
        properties.byte(0x23);
        properties.short(alias);
    }
    if let Some((key, value)) = words.named.get("user").and_then(|u| u.split_once(':')) {
        properties.byte(0x26);
        properties.text(key);
        properties.text(value);
    }
    Ok(properties)
}

fn disconnect(client: &mut Client, words: &Words<'_>) -> Result<()> {
    let mut packet = Writer::default();
    if client.is_v5() && !words.named.is_empty() {
        packet.byte(words.number("code")?.unwrap_or(0));
        let mut properties = Writer::default();
        if let Some(expiry) = words.number("expiry")? {
            properties.byte(0x11);
            properties.long(expiry);
        }
        packet.properties(&properties);
    }
    client.send(&packet.packet(0xe0));
    Ok(())
}

fn hex(text: &str) -> Result<Vec<u8>> {
    let digits = |at: usize| text.get(at..at + 2).context("an odd digit");
    let bytes = (0..text.len()).step_by(2);
    bytes
        .map(|at| Ok(u8::from_str_radix(digits(at)?, 16)?))
        .collect()
}
