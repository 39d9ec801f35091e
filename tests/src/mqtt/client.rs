//! A client that does what it is told, right or wrong, and writes down what it gets.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::wire::{Property, Reader, Writer, properties};
use crate::clock;

/// How long an answer may take.
pub const LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    v5: bool,
    buffer: Vec<u8>,
    /// Nothing more comes.
    pub closed: bool,
    /// Publications are not acknowledged, but kept here.
    pub holds: bool,
    held: Vec<u16>,
    last: u16,
}

/// What came.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Came {
    Packet {
        kind: u8,
        shown: String,
    },
    Closed,
    /// Nothing until the deadline.
    Nothing,
}

impl Client {
    /// # Errors
    /// Nobody listens there.
    pub fn connect(to: SocketAddr, v5: bool) -> Result<Self> {
        let stream = TcpStream::connect(to).with_context(|| format!("connect to {to}"))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            v5,
            buffer: Vec::new(),
            closed: false,
            holds: false,
            held: Vec::new(),
            last: 0,
        })
    }

    #[must_use]
    pub fn is_v5(&self) -> bool {
        self.v5
    }

    /// An identifier that was not used before.
    pub fn fresh(&mut self) -> u16 {
        self.last = self.last.wrapping_add(1).max(1);
        self.last
    }

    /// Whoever is gone hears nothing; what it last said is still to be read.
    pub fn send(&mut self, bytes: &[u8]) {
        // A broker that has closed says so when it is read.
        drop(self.stream.write_all(bytes));
    }

    pub fn ping(&mut self) {
        self.send(&[0xc0, 0]);
    }

    /// Acknowledges what was held.
    pub fn acknowledge(&mut self) {
        self.holds = false;
        for pkid in std::mem::take(&mut self.held) {
            self.puback(pkid);
        }
    }

    fn puback(&mut self, pkid: u16) {
        let mut ack = Writer::default();
        ack.short(pkid);
        self.send(&ack.packet(0x40));
    }

    /// The next packet, acknowledged if it is to be.
    ///
    /// # Errors
    /// It is not one.
    pub fn next(&mut self, deadline: Instant) -> Result<Came> {
        loop {
            if let Some((first, body)) = self.whole()? {
                let shown = self.show(first, &body)?;
                return Ok(Came::Packet {
                    kind: first >> 4,
                    shown,
                });
            }
            if self.closed {
                return Ok(Came::Closed);
            }
            let left = deadline.saturating_duration_since(clock::now());
            if left.is_zero() {
                return Ok(Came::Nothing);
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut chunk = [0; 16 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => self.closed = true,
                Ok(count) => self.buffer.extend(chunk.iter().take(count)),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.closed = true,
            }
        }
    }

    fn whole(&mut self) -> Result<Option<(u8, Vec<u8>)>> {
        let mut reader = Reader(&self.buffer);
        let Ok(first) = reader.byte() else {
            return Ok(None);
        };
        let before = reader.0.len();
        let length = match reader.number() {
            Ok(length) => length,
            Err(_) if before < 4 => return Ok(None),
            Err(error) => return Err(error),
        };
        let Ok(body) = reader.take(length) else {
            return Ok(None);
        };
        let body = body.to_vec();
        let rest = reader.0.len();
        self.buffer.drain(..self.buffer.len() - rest);
        Ok(Some((first, body)))
    }

    /// One line for a packet, without what brokers may choose.
    fn show(&mut self, first: u8, body: &[u8]) -> Result<String> {
        let mut reader = Reader(body);
        let shown = match first >> 4 {
            2 => {
                let (present, code) = (reader.byte()?, reader.byte()?);
                let more = self.properties(&mut reader)?;
                let more = shown(&more, &["session_expiry"]);
                format!("connack present={present} code={code:#04x}{more}")
            }
            3 => self.publication(first, &mut reader)?,
            4 | 5 | 7 => {
                let name = match first >> 4 {
                    4 => "puback",
                    5 => "pubrec",
                    _ => "pubcomp",
                };
                let pkid = reader.short()?;
                let code = reader.byte().unwrap_or(0);
                format!("{name} {pkid} code={code:#04x}")
            }
            6 => format!("pubrel {}", reader.short()?),
            9 | 11 => {
                let name = if first >> 4 == 9 {
                    "suback"
                } else {
                    "unsuback"
                };
                let pkid = reader.short()?;
                self.properties(&mut reader)?;
                let codes: Vec<String> = reader.0.iter().map(|c| format!("{c:#04x}")).collect();
                format!("{name} {pkid} [{}]", codes.join(" "))
            }
            13 => "pingresp".to_owned(),
            14 => format!("disconnect {:#04x}", reader.byte().unwrap_or(0)),
            other => bail!("packet of kind {other}"),
        };
        Ok(shown)
    }

    fn publication(&mut self, first: u8, reader: &mut Reader<'_>) -> Result<String> {
        let topic = reader.text()?;
        let qos = first >> 1 & 3;
        let pkid = if qos > 0 { reader.short()? } else { 0 };
        let more = self.properties(reader)?;
        let payload = match reader.0.len() {
            0..=64 => String::from_utf8_lossy(reader.0).into_owned(),
            length => format!("({length} bytes)"),
        };
        let (dup, retain) = (first >> 3 & 1, first & 1);
        if qos == 1 {
            match self.holds {
                true => self.held.push(pkid),
                false => self.puback(pkid),
            }
        }
        if qos == 2 {
            let mut received = Writer::default();
            received.short(pkid);
            self.send(&received.packet(0x50));
        }
        let mut more = more;
        more.sort();
        let more = shown(&more, &[]);
        Ok(format!(
            "publish {topic} '{payload}' qos={qos} retain={retain} dup={dup}{more}"
        ))
    }

    fn properties(&self, reader: &mut Reader<'_>) -> Result<Vec<Property>> {
        match self.v5 && !reader.0.is_empty() {
            true => properties(reader),
            false => Ok(Vec::new()),
        }
    }
}

/// All of them, or those of a list.
fn shown(properties: &[Property], only: &[&str]) -> String {
    let wanted = |p: &&Property| only.is_empty() || only.contains(&p.name);
    let found = properties.iter().filter(wanted);
    found.map(|p| format!(" {}={}", p.name, p.value)).collect()
}
