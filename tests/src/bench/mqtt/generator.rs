//! The load: publishers and receivers of one thread, so that it costs both brokers the same.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::mqtt::wire::{Reader, Writer};
use crate::{clock, sys};

/// Who publishes to whom.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Publishers; each has topics and receivers of its own.
    pub publishers: usize,
    pub topics: usize,
    pub readers: usize,
    pub qos: u8,
}

impl Load {
    /// Four publishers, each with one receiver, over 100 topics.
    pub const PAIRS: Self = Self {
        publishers: 4,
        topics: 25,
        readers: 1,
        qos: 1,
    };
}

/// How much, and how fast.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// As fast as they arrive, for so long.
    Time(Duration),
    /// As fast as they arrive, so many.
    Messages(u64),
    /// So many a second, for so long, whether they arrive or not.
    Rate(u32, Duration),
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub arrived: u64,
    pub lost: u64,
    pub repeated: u64,
    pub disordered: u64,
    pub took: Duration,
    /// From when a message was due until it was read; at a steady rate alone.
    pub waits_us: Vec<f64>,
}

impl Outcome {
    /// Messages a second that arrived.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.arrived as f64 / self.took.as_secs_f64().max(1e-9)
    }

    #[must_use]
    pub fn wrong(&self) -> u64 {
        self.lost + self.repeated + self.disordered
    }
}

/// Of a message, which is one that a conference sends.
const PAYLOAD_BYTES: usize = 200;
/// Messages of one publisher on their way, where they are sent as fast as they arrive.
const WINDOW: u64 = 64;
/// What still is under way at the end of a steady load may take so long.
const REST: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_millis(100);
const CHUNK_BYTES: usize = 256 * 1024;

/// Runs a load against a broker.
///
/// # Errors
/// The broker refuses a client, ends a connection, or nothing arrives for 10 s.
pub(super) fn run(to: SocketAddr, load: Load, pace: Pace) -> Result<Outcome> {
    let mut publishers = Vec::new();
    for number in 0..load.publishers {
        publishers.push(Publisher::connect(to, load, number)?);
    }
    let mut run = Run {
        qos: load.qos,
        publishers,
        outcome: Outcome::default(),
        chunk: vec![0; CHUNK_BYTES],
        began: clock::now(),
        timed: matches!(pace, Pace::Rate(..)),
    };
    run.drive(pace)?;
    Ok(run.outcome)
}

struct Run {
    qos: u8,
    publishers: Vec<Publisher>,
    outcome: Outcome,
    chunk: Vec<u8>,
    began: Instant,
    timed: bool,
}

impl Run {
    fn drive(&mut self, pace: Pace) -> Result<()> {
        self.began = clock::now();
        let mut progress = self.began;
        loop {
            let now = clock::now();
            let over = match pace {
                Pace::Rate(per_s, time) => self.keep_pace(per_s, time, now),
                Pace::Time(time) => self.keep_full(u64::MAX, Some(time), now),
                Pace::Messages(all) => self.keep_full(all, None, now),
            };
            if self.exchange()? {
                progress = clock::now();
                continue;
            }
            let waited = now.saturating_duration_since(progress);
            if (over && self.is_quiet()) || waited > REST {
                break;
            }
            self.wait(pace, over)?;
        }
        self.outcome.took = progress.saturating_duration_since(self.began);
        for publisher in &self.publishers {
            for reader in &publisher.readers {
                self.outcome.lost += reader.missing + publisher.sent - reader.next;
            }
        }
        if self.outcome.arrived == 0 {
            bail!("nothing arrived");
        }
        Ok(())
    }

    fn sent(&self) -> u64 {
        self.publishers.iter().map(|publisher| publisher.sent).sum()
    }

    /// Publishes what is due, by turns; true: there is no more.
    fn keep_pace(&mut self, per_s: u32, time: Duration, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.began);
        let due = since.min(time).as_nanos() * u128::from(per_s) / 1_000_000_000;
        let count = self.publishers.len().max(1);
        let mut sent = self.sent();
        while u128::from(sent) < due {
            let turn = usize::try_from(sent).unwrap_or_default() % count;
            let Some(publisher) = self.publishers.get_mut(turn) else {
                break;
            };
            publisher.publish(self.qos, sent * 1_000_000_000 / u64::from(per_s));
            sent += 1;
        }
        since >= time
    }

    /// Publishes what may be under way; true: there is no more.
    fn keep_full(&mut self, all: u64, time: Option<Duration>, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.began);
        let mut left = all.saturating_sub(self.sent());
        if left == 0 || time.is_some_and(|time| since >= time) {
            return true;
        }
        for publisher in &mut self.publishers {
            while publisher.under_way() < WINDOW && left > 0 {
                publisher.publish(self.qos, 0);
                left -= 1;
            }
        }
        false
    }

    /// Writes and reads what can be; true: something arrived.
    fn exchange(&mut self) -> Result<bool> {
        let mut any = false;
        for publisher in &mut self.publishers {
            publisher.link.flush()?;
            if publisher.link.read(&mut self.chunk)? {
                publisher.link.packets(|_, _| Ok(()))?;
            }
            for reader in &mut publisher.readers {
                if reader.link.read(&mut self.chunk)? {
                    let since = self.began;
                    let timed = self.timed.then_some(since);
                    any |= reader.take(timed, &mut self.outcome)?;
                }
                reader.link.flush()?;
            }
        }
        Ok(any)
    }

    fn is_quiet(&self) -> bool {
        self.publishers.iter().all(|p| p.under_way() == 0)
    }

    /// Until something can be read, or is due.
    fn wait(&self, pace: Pace, over: bool) -> Result<()> {
        let links = self.publishers.iter().flat_map(|publisher| {
            let readers = publisher.readers.iter().map(|reader| &reader.link);
            std::iter::once(&publisher.link).chain(readers)
        });
        let sockets: Vec<_> = links.map(|link| link.stream.as_fd()).collect();
        let limit = match pace {
            Pace::Rate(per_s, _) if !over => {
                let next = Duration::from_nanos(self.sent() * 1_000_000_000 / u64::from(per_s));
                next.saturating_sub(clock::now().saturating_duration_since(self.began))
            }
            Pace::Rate(..) | Pace::Time(_) | Pace::Messages(_) => PATIENCE,
        };
        sys::wait_readable(&sockets, limit).context("wait for a broker")?;
        Ok(())
    }
}

struct Publisher {
    link: Link,
    topics: Vec<String>,
    readers: Vec<Receiver>,
    sent: u64,
    pkid: u16,
}

impl Publisher {
    fn connect(to: SocketAddr, load: Load, number: usize) -> Result<Self> {
        let mut readers = Vec::new();
        for reader in 0..load.readers {
            let mut link = Link::connect(to, &format!("reader-{number}-{reader}"))?;
            let mut subscribe = Writer::default();
            subscribe.short(1);
            subscribe.text(&format!("bench/{number}/+"));
            subscribe.byte(load.qos);
            link.ask(&subscribe.packet(0x82), 9)?;
            readers.push(Receiver {
                link: link.swift()?,
                next: 0,
                missing: 0,
            });
        }
        let link = Link::connect(to, &format!("publisher-{number}"))?.swift()?;
        let topics = (0..load.topics).map(|topic| format!("bench/{number}/{topic}"));
        Ok(Self {
            link,
            topics: topics.collect(),
            readers,
            sent: 0,
            pkid: 0,
        })
    }

    /// Until the slowest of its receivers has it.
    fn under_way(&self) -> u64 {
        let slowest = self.readers.iter().map(|reader| reader.next).min();
        self.sent.saturating_sub(slowest.unwrap_or(self.sent))
    }

    fn publish(&mut self, qos: u8, due_ns: u64) {
        let place = usize::try_from(self.sent).unwrap_or_default() % self.topics.len().max(1);
        let Some(topic) = self.topics.get(place) else {
            return;
        };
        let mut packet = Writer::default();
        packet.text(topic);
        if qos > 0 {
            self.pkid = self.pkid.checked_add(1).unwrap_or(1);
            packet.short(self.pkid);
        }
        packet.0.extend(self.sent.to_be_bytes());
        packet.0.extend(due_ns.to_be_bytes());
        packet.0.resize(packet.0.len() + PAYLOAD_BYTES - 16, b'x');
        self.link.output.extend(packet.packet(0x30 | qos << 1));
        self.sent += 1;
    }
}

struct Receiver {
    link: Link,
    /// The number of the message that comes next.
    next: u64,
    missing: u64,
}

impl Receiver {
    /// Counts and acknowledges what was read; true: there was something.
    fn take(&mut self, since: Option<Instant>, outcome: &mut Outcome) -> Result<bool> {
        let waited = since.map(|since| clock::now().saturating_duration_since(since));
        let (mut next, mut missing, mut any) = (self.next, self.missing, false);
        self.link.packets(|packet, output| {
            let Packet { first, mut body } = packet;
            if first >> 4 != 3 {
                return Ok(());
            }
            let topic = usize::from(body.short()?);
            body.take(topic)?;
            if first >> 1 & 3 == 1 {
                let pkid = body.short()?;
                let [high, low] = pkid.to_be_bytes();
                output.extend([0x40, 2, high, low]);
            }
            let (number, due) = (number(&mut body)?, number(&mut body)?);
            any = true;
            if number < next {
                // It was missed before, and comes late; or it came before.
                match missing > 0 {
                    true => {
                        missing -= 1;
                        outcome.disordered += 1;
                    }
                    false => outcome.repeated += 1,
                }
                return Ok(());
            }
            missing += number - next;
            next = number + 1;
            outcome.arrived += 1;
            if let Some(waited) = waited {
                let waited = waited.saturating_sub(Duration::from_nanos(due));
                outcome.waits_us.push(waited.as_secs_f64() * 1e6);
            }
            Ok(())
        })?;
        (self.next, self.missing) = (next, missing);
        Ok(any)
    }
}

fn number(body: &mut Reader<'_>) -> Result<u64> {
    Ok(u64::from(body.long()?) << 32 | u64::from(body.long()?))
}

/// A packet that came.
pub(super) struct Packet<'a> {
    pub(super) first: u8,
    pub(super) body: Reader<'a>,
}

/// One connection, MQTT 3.1.1.
pub(super) struct Link {
    stream: TcpStream,
    input: Vec<u8>,
    pub(super) output: Vec<u8>,
}

impl Link {
    pub(super) fn connect(to: SocketAddr, id: &str) -> Result<Self> {
        let stream = TcpStream::connect(to).with_context(|| format!("connect to {to}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REST))?;
        let mut link = Self {
            stream,
            input: Vec::new(),
            output: Vec::new(),
        };
        let mut connect = Writer::default();
        connect.text("MQTT");
        connect.byte(4);
        connect.byte(2);
        connect.short(600);
        connect.text(id);
        link.ask(&connect.packet(0x10), 2)?;
        Ok(link)
    }

    /// Sends, and waits for a packet of this kind.
    fn ask(&mut self, packet: &[u8], kind: u8) -> Result<()> {
        self.stream.write_all(packet)?;
        self.until(|first| first >> 4 == kind)
    }

    /// Reads until such a packet has come; publications are acknowledged.
    pub(super) fn until(&mut self, mut is: impl FnMut(u8) -> bool) -> Result<()> {
        let mut chunk = [0; 4096];
        let mut found = false;
        while !found {
            let count = self.stream.read(&mut chunk).context("no answer")?;
            if count == 0 {
                bail!("the broker ended the connection");
            }
            self.input.extend(chunk.iter().take(count));
            self.packets(|Packet { first, mut body }, output| {
                if first >> 1 == 0b11001 {
                    let topic = usize::from(body.short()?);
                    body.take(topic)?;
                    let [high, low] = body.short()?.to_be_bytes();
                    output.extend([0x40, 2, high, low]);
                }
                found |= is(first);
                Ok(())
            })?;
            self.stream.write_all(&std::mem::take(&mut self.output))?;
        }
        Ok(())
    }

    /// Reads and writes do not wait any longer.
    fn swift(self) -> Result<Self> {
        self.stream.set_nonblocking(true)?;
        Ok(self)
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("write to a broker"),
            }
        }
        Ok(())
    }

    /// True: there was something to read.
    fn read(&mut self, chunk: &mut [u8]) -> Result<bool> {
        match self.stream.read(chunk) {
            Ok(0) => bail!("the broker ended the connection"),
            Ok(count) => {
                self.input.extend(chunk.iter().take(count));
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error).context("read from a broker"),
        }
    }

    /// Every packet that is whole, and where answers go.
    fn packets(
        &mut self,
        mut each: impl FnMut(Packet<'_>, &mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let mut rest = Reader(&self.input);
        loop {
            let mut reader = rest;
            let (Ok(first), Ok(length)) = (reader.byte(), reader.number()) else {
                break;
            };
            let Ok(body) = reader.take(length) else {
                break;
            };
            let body = Reader(body);
            each(Packet { first, body }, &mut self.output)?;
            rest = reader;
        }
        let done = self.input.len() - rest.0.len();
        self.input.drain(..done);
        Ok(())
    }
}
