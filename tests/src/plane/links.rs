//! The paths between servers: packets on them are lost, doubled and overtaken, and paths break.

use std::time::Duration;

use bytes::Bytes;
use control::cascade::link::{Had, Numbered};
use control::plane::Input;

use super::node::Line;
use super::{Ahead, World};

/// Nothing acknowledged for so long: it is sent again.
const RESEND: Duration = Duration::from_millis(800);
/// A link that carries nothing is noticed within this time, and one that does again.
const NOTICE: Duration = Duration::from_secs(3);

/// Who is linked to whom.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wiring {
    Alone,
    Pair,
    /// The second between the others.
    Row,
    Ring,
}

impl Wiring {
    pub const ALL: [Self; 4] = [Self::Alone, Self::Pair, Self::Row, Self::Ring];

    #[must_use]
    pub fn nodes(self) -> &'static [&'static str] {
        match self {
            Self::Alone => &["edge-01"],
            Self::Pair => &["edge-01", "core-01"],
            Self::Row | Self::Ring => &["edge-01", "core-01", "edge-02"],
        }
    }

    #[must_use]
    pub fn links(self) -> &'static [(usize, usize)] {
        match self {
            Self::Alone => &[],
            Self::Pair => &[(0, 1)],
            Self::Row => &[(0, 1), (1, 2)],
            Self::Ring => &[(0, 1), (1, 2), (0, 2)],
        }
    }

    pub(super) fn neighbours(self, node: usize) -> Vec<usize> {
        let other = |(a, b): &(usize, usize)| match (*a == node, *b == node) {
            (true, _) => Some(*b),
            (_, true) => Some(*a),
            _ => None,
        };
        self.links().iter().filter_map(other).collect()
    }
}

/// What crosses a path at a time.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    boot: u64,
    oldest: u64,
    had: Option<Had>,
    /// None: it only acknowledges.
    frame: Option<(u64, Bytes)>,
}

impl World {
    /// Nothing crosses between two neighbours for a while; one or both may notice.
    pub fn cut(&mut self, link: (usize, usize), lasts: Duration) {
        let until = self.now + lasts;
        self.broken.insert(link, until);
        for (at, of) in [link, (link.1, link.0)] {
            let after = self.chance.duration(NOTICE);
            if after < lasts {
                self.after(after, Ahead::Notice { at, of, up: false });
                let back = lasts + self.chance.duration(NOTICE);
                self.after(back, Ahead::Notice { at, of, up: true });
            }
        }
    }

    /// All paths are well, and that is noticed.
    pub(super) fn heal(&mut self) {
        self.broken.clear();
        for (a, b) in self.wiring.links().iter().copied() {
            for (at, of) in [(a, b), (b, a)] {
                let after = self.chance.duration(NOTICE);
                self.after(after, Ahead::Notice { at, of, up: true });
            }
        }
    }

    /// Its links are gone with a server that starts again; neighbours may not notice.
    pub(super) fn unlink(&mut self, node: usize) {
        for of in self.wiring.neighbours(node) {
            if self.chance.permille(500) {
                let (at, of, up) = (of, node, false);
                self.after(Duration::ZERO, Ahead::Notice { at, of, up });
            }
            for (at, of) in [(node, of), (of, node)] {
                let after = self.chance.duration(NOTICE);
                self.after(after, Ahead::Notice { at, of, up: true });
            }
        }
    }

    pub(super) fn notice(&mut self, at: usize, of: usize, up: bool) {
        if up && self.is_cut(at, of) {
            return;
        }
        let to = self.nodes[of].sid.to_owned();
        let Some(line) = self.nodes[at].lines.get_mut(&of) else {
            return;
        };
        if std::mem::replace(&mut line.up, up) == up {
            return;
        }
        line.link.rewind();
        self.give(at, Input::Link { to, up });
        self.pump(at, of);
    }

    pub(super) fn push(
        &mut self,
        at: usize,
        to: &str,
        frame: Bytes,
        expires: Option<std::time::Instant>,
    ) {
        self.witness(&frame);
        let of = self.nodes.iter().position(|node| node.sid == to);
        let of = of.expect("a neighbour");
        if let Some(line) = self.nodes[at].lines.get_mut(&of) {
            assert!(line.link.push(frame, expires).is_ok(), "a queue is full");
        }
        self.frames += 1;
        self.pump(at, of);
    }

    /// What must hold of anything one server sends another.
    fn witness(&self, frame: &[u8]) {
        let frame: serde_json::Value = serde_json::from_slice(frame).expect("a frame is JSON");
        let path = frame["path"].as_array().map_or(0, Vec::len);
        assert!(path <= control::cascade::PATH_MAX, "{frame}");
    }

    /// Sends what the window allows.
    fn pump(&mut self, at: usize, of: usize) {
        let now = self.at();
        let mut packets = Vec::new();
        if let Some(line) = self.nodes[at].lines.get_mut(&of)
            && line.up
        {
            while let Some(numbered) = line.link.take(now) {
                packets.push(packet(line, Some((numbered.number, numbered.frame))));
            }
        }
        if packets.is_empty() {
            return;
        }
        for packet in packets {
            self.post(at, of, packet);
        }
        let life = self.nodes[at].life;
        self.after(RESEND, Ahead::Resend { at, of, life });
    }

    pub(super) fn resend(&mut self, at: usize, of: usize) {
        let now = self.now;
        let Some(line) = self.nodes[at].lines.get_mut(&of) else {
            return;
        };
        if line.link.in_flight() == 0 || !line.up {
            return;
        }
        if line.patience > now {
            let (after, life) = (line.patience - now, self.nodes[at].life);
            return self.after(after, Ahead::Resend { at, of, life });
        }
        line.patience = now + RESEND;
        line.link.rewind();
        self.pump(at, of);
    }

    fn post(&mut self, from: usize, to: usize, packet: Packet) {
        if self.is_cut(from, to) {
            return;
        }
        let copies = 1 + u64::from(self.chance.permille(self.link.duplicates));
        for _ in 0..copies {
            // Connections lose little: what is lost here was broken off with one.
            if !self.chance.permille(self.link.loss / 4) {
                let after = self.link.delay + self.chance.duration(self.link.jitter);
                let packet = packet.clone();
                self.after(after, Ahead::Packet { from, to, packet });
            }
        }
    }

    pub(super) fn arrive(&mut self, from: usize, to: usize, packet: Packet) {
        let now = self.now;
        let sid = self.nodes[from].sid.to_owned();
        let Some(line) = self.nodes[to].lines.get_mut(&from) else {
            return;
        };
        if let Some(had) = packet.had {
            let before = line.link.oldest();
            line.link.acknowledged(had);
            if line.link.oldest() != before {
                line.patience = now + RESEND;
            }
        }
        let reborn = line.link.heard().is_some_and(|had| had.boot != packet.boot);
        let reborn = reborn && packet.frame.is_some();
        let frames = packet.frame.map(|(number, frame)| {
            let numbered = Numbered { number, frame };
            line.link.receive(packet.boot, packet.oldest, numbered)
        });
        let answer = frames.is_some().then(|| self::packet(line, None));
        if reborn {
            let (to_sid, up) = (sid.clone(), true);
            self.give(to, Input::Link { to: to_sid, up });
        }
        for frame in frames.into_iter().flatten() {
            let from = sid.clone();
            self.give(to, Input::Frame { from, frame });
        }
        if let Some(answer) = answer {
            self.post(to, from, answer);
        }
        self.pump(to, from);
    }

    fn is_cut(&self, a: usize, b: usize) -> bool {
        let until = self.broken.get(&(a, b)).or(self.broken.get(&(b, a)));
        until.is_some_and(|until| self.now < *until)
    }
}

fn packet(line: &Line, frame: Option<(u64, Bytes)>) -> Packet {
    Packet {
        boot: line.link.boot(),
        oldest: line.link.oldest(),
        had: line.link.heard(),
        frame,
    }
}
