//! One server: its plane, what it has on disk, and what its edge does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use control::bus::moment::Now;
use control::cascade::link::Link;
use control::effect::Record;
use control::plane::access::Rules;
use control::plane::{Effects, Plane, Settings};

/// What is kept under a key, or not any more.
pub(super) type Write = (Bytes, Option<Record>);

/// The time of day when it all begins.
const WALL_MS: u64 = 1_700_000_000_000;

/// A server with its store and its links.
pub(super) struct Node {
    pub(super) sid: &'static str,
    pub(super) settings: Settings,
    pub(super) plane: Plane,
    /// Which run of it this is.
    pub(super) life: u64,
    pub(super) rules: Rules,
    /// What is on disk.
    pub(super) disk: BTreeMap<Bytes, Record>,
    /// Writes on their way to it, and what waits for each.
    pub(super) writes: VecDeque<(Vec<Write>, Effects)>,
    /// What the edge retains.
    pub(super) retained: BTreeMap<String, Bytes>,
    /// Publications that are not acknowledged.
    pub(super) tickets: BTreeSet<u64>,
    /// Answers published, and publications acknowledged.
    pub(super) answers: u64,
    pub(super) acknowledged: u64,
    /// By the number of the neighbour.
    pub(super) lines: BTreeMap<usize, Line>,
}

/// One side of a link.
pub(super) struct Line {
    pub(super) link: Link,
    pub(super) up: bool,
    /// Until then nothing is sent again.
    pub(super) patience: Duration,
}

impl Node {
    pub(super) fn new(
        sid: &'static str,
        settings: Settings,
        seed: u64,
        now: Instant,
        neighbours: &[usize],
    ) -> Self {
        let mut node = Self {
            sid,
            plane: plane(sid, &settings, seed, now),
            settings,
            life: 1,
            rules: Rules::default(),
            disk: BTreeMap::new(),
            writes: VecDeque::new(),
            retained: BTreeMap::new(),
            tickets: BTreeSet::new(),
            answers: 0,
            acknowledged: 0,
            lines: BTreeMap::new(),
        };
        node.wire(neighbours, seed);
        node
    }

    /// The process ends and another begins: what was in memory is gone.
    pub(super) fn begin(&mut self, seed: u64, now: Instant) {
        self.life += 1;
        self.writes.clear();
        self.retained.clear();
        self.tickets.clear();
        (self.answers, self.acknowledged) = (0, 0);
        self.rules = Rules::default();
        self.plane = plane(self.sid, &self.settings, seed, now);
        let neighbours: Vec<usize> = self.lines.keys().copied().collect();
        self.wire(&neighbours, seed);
    }

    fn wire(&mut self, neighbours: &[usize], seed: u64) {
        let line = |of: &usize| {
            let line = Line {
                link: Link::new(seed >> 1),
                up: false,
                patience: Duration::ZERO,
            };
            (*of, line)
        };
        self.lines = neighbours.iter().map(line).collect();
    }
}

fn plane(sid: &str, settings: &Settings, seed: u64, at: Instant) -> Plane {
    let now = Now {
        at,
        wall_ms: WALL_MS,
    };
    Plane::new(sid, settings.clone(), seed, now)
}
