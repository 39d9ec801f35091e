//! The SIP messages of calls as they came and went, for whoever asks what happened: a bounded row
//! for each call, kept for a while after its end. Messages are not copied; what is not to be seen
//! is taken out when they are shown.

mod pack;
mod redact;
#[cfg(test)]
mod tests;
mod view;

pub use crate::sip::shard::call_id;
pub use redact::secrets_out;
pub use view::{LadderView, Party, Start, Step};

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::effect::Effect;
use crate::engine::Engine;
use crate::id::{Path, Shard};

use pack::Packed;

/// Messages of one call. When there are more, those in the middle are left out.
pub const MESSAGES_MAX: usize = 256;
/// The first so many always stay: they say how the call came about.
pub const MESSAGES_FIRST: usize = 32;
/// Of one message; the rest is cut off.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// Of all messages that a node keeps; the oldest calls go first, those that have ended before the
/// others.
pub const BYTES_MAX: usize = 64 * 1024 * 1024;
/// What a message takes beside its octets.
const MESSAGE_OVERHEAD: usize = 160;
/// What a call takes beside its messages.
const LADDER_OVERHEAD: usize = 512;

/// A call without messages for this long is at rest: those it has take little from then on.
pub const REST: Duration = Duration::from_secs(5);

/// Which way a message went.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Direction {
    In,
    Out,
}

impl Direction {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// A message that came or went.
#[derive(Clone, Debug)]
struct Message {
    at: Instant,
    direction: Direction,
    path: Path,
    bytes: Bytes,
    /// As long as it was.
    length: usize,
    /// It found no connection.
    unsent: bool,
}

/// The messages of one call, on both legs: those with its Call-ID.
#[derive(Debug)]
struct Ladder {
    call_id: Bytes,
    /// Its numbers: several if it passes us several times.
    calls: Vec<u64>,
    /// It is not there any more, or never came about: when it ended, among others.
    ended: Option<u64>,
    /// Those before the others, while it was at rest.
    packed: Option<Packed>,
    messages: VecDeque<Message>,
    left_out: u64,
}

impl Ladder {
    fn whole(&self) -> Vec<Message> {
        let mut all = self
            .packed
            .as_ref()
            .map(Packed::messages)
            .unwrap_or_default();
        all.extend(self.messages.iter().cloned());
        all
    }

    /// What is counted of it.
    fn bytes(&self) -> usize {
        let loose = self.messages.iter().map(Message::counted).sum::<usize>();
        LADDER_OVERHEAD + self.packed.as_ref().map_or(0, Packed::len) + loose
    }

    /// All messages are at hand again.
    fn unpack(&mut self) {
        if self.packed.is_some() {
            self.messages = self.whole().into();
            self.packed = None;
        }
    }

    fn pack(&mut self) {
        self.unpack();
        self.packed = Packed::new(self.messages.iter());
        self.messages = VecDeque::new();
    }
}

impl Message {
    fn counted(&self) -> usize {
        self.bytes.len() + MESSAGE_OVERHEAD
    }
}

/// What may be kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Limits {
    /// Calls after their end.
    ended: usize,
    bytes: usize,
}

impl Limits {
    /// One shard's part of it; nothing if calls are not to be traced.
    fn of(engine: &Engine) -> Option<Self> {
        let (trace, shard) = (&engine.config().trace, engine.shard);
        trace.ladder.then(|| Self::share(shard, trace.calls))
    }

    fn share(shard: Shard, calls: usize) -> Self {
        Self {
            // Every shard keeps one at least, if any are kept.
            ended: shard.share(calls).max(calls.min(1)),
            bytes: shard.share(BYTES_MAX),
        }
    }
}

/// How much is kept, for metrics.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    pub calls: usize,
    pub bytes: usize,
    /// Messages and calls that had to go for others.
    pub left_out: u64,
    pub forgotten: u64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.calls += other.calls;
        self.bytes += other.bytes;
        self.left_out += other.left_out;
        self.forgotten += other.forgotten;
    }
}

/// Those of one shard's calls.
#[derive(Debug, Default)]
pub struct Ladders {
    places: BTreeMap<Bytes, u64>,
    /// In the order in which they began.
    ladders: BTreeMap<u64, Ladder>,
    /// In the order in which they ended.
    ended: BTreeMap<u64, u64>,
    /// Those that are not at rest.
    awake: BTreeSet<u64>,
    /// Ladders begun and ended so far.
    count: u64,
    usage: Usage,
}

impl Ladders {
    /// A message came, and `heard` says whether anything followed from it: strangers that are not
    /// heard are not written down either.
    fn received(&mut self, engine: &Engine, path: Path, bytes: &Bytes, heard: bool, now: Instant) {
        let Some(limits) = Limits::of(engine) else {
            return self.clear();
        };
        let Some(id) = call_id(bytes) else { return };
        let invites = bytes.starts_with(b"INVITE ");
        let place = match self.places.get(id) {
            Some(place) => *place,
            None if invites && heard => self.begin(id),
            None => return,
        };
        if invites {
            self.number(place, engine);
        }
        self.push(place, Direction::In, path, bytes, now);
        self.keep(limits);
    }

    /// A message goes.
    fn sent(&mut self, engine: &Engine, path: Path, bytes: &Bytes, now: Instant) {
        let Some(limits) = Limits::of(engine) else {
            return self.clear();
        };
        let place = call_id(bytes).and_then(|id| self.places.get(id).copied());
        if let Some(place) = place {
            self.push(place, Direction::Out, path, bytes, now);
            self.keep(limits);
        }
    }

    /// It came back: there is no connection.
    pub(super) fn unsent(&mut self, path: Path, bytes: &Bytes) {
        let place = call_id(bytes).and_then(|id| self.places.get(id));
        let Some(place) = place.copied() else { return };
        let Some(ladder) = self.wake(place) else {
            return;
        };
        let is_it = |message: &&mut Message| {
            let same = message.path == path && message.bytes == bytes;
            same && message.direction == Direction::Out
        };
        if let Some(message) = ladder.messages.iter_mut().rfind(is_it) {
            message.unsent = true;
        }
    }

    /// Packs what has come to rest; to be called about once a second.
    pub(super) fn rest(&mut self, now: Instant) {
        let (ladders, usage) = (&mut self.ladders, &mut self.usage);
        self.awake.retain(|place| {
            let Some(ladder) = ladders.get_mut(place) else {
                return false;
            };
            let last = ladder.messages.back().map(|message| message.at);
            if last.is_some_and(|last| now.saturating_duration_since(last) < REST) {
                return true;
            }
            usage.bytes -= ladder.bytes();
            ladder.pack();
            usage.bytes += ladder.bytes();
            false
        });
    }

    /// One that something is to be said of.
    fn wake(&mut self, place: u64) -> Option<&mut Ladder> {
        let ladder = self.ladders.get_mut(&place)?;
        if self.awake.insert(place) {
            self.usage.bytes -= ladder.bytes();
            ladder.unpack();
            self.usage.bytes += ladder.bytes();
        }
        Some(ladder)
    }

    /// A call has its last line in the books.
    fn over(&mut self, engine: &Engine, call_id: &[u8]) {
        let Some(limits) = Limits::of(engine) else {
            return self.clear();
        };
        if let Some(place) = self.places.get(call_id).copied()
            && engine.numbers_of(call_id).next().is_none()
        {
            self.end(place);
            self.keep(limits);
        }
    }

    /// By Call-ID.
    #[must_use]
    pub fn view(&self, call_id: &[u8], names: bool) -> Option<LadderView> {
        let ladder = self.ladders.get(self.places.get(call_id)?)?;
        Some(view::view(ladder, names))
    }

    /// By the number of a call.
    #[must_use]
    pub fn view_of(&self, call: u64, names: bool) -> Option<LadderView> {
        let mut ladders = self.ladders.values().rev();
        let ladder = ladders.find(|ladder| ladder.calls.contains(&call))?;
        Some(view::view(ladder, names))
    }

    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage {
            calls: self.ladders.len(),
            ..self.usage
        }
    }

    fn begin(&mut self, call_id: &[u8]) -> u64 {
        self.count += 1;
        let (place, call_id) = (self.count, Bytes::copy_from_slice(call_id));
        self.places.insert(call_id.clone(), place);
        let ladder = Ladder {
            call_id,
            calls: Vec::new(),
            ended: Some(place),
            packed: None,
            messages: VecDeque::new(),
            left_out: 0,
        };
        self.ended.insert(place, place);
        self.ladders.insert(place, ladder);
        self.usage.bytes += LADDER_OVERHEAD;
        place
    }

    /// Its numbers are known once an INVITE was let in.
    fn number(&mut self, place: u64, engine: &Engine) {
        let Some(ladder) = self.ladders.get_mut(&place) else {
            return;
        };
        let mut goes_on = false;
        for call in engine.numbers_of(&ladder.call_id) {
            goes_on = true;
            if !ladder.calls.contains(&call) {
                ladder.calls.push(call);
            }
        }
        if goes_on && let Some(ended) = ladder.ended.take() {
            self.ended.remove(&ended);
        }
    }

    fn end(&mut self, place: u64) {
        self.count += 1;
        if let Some(ladder) = self.ladders.get_mut(&place)
            && ladder.ended.is_none()
        {
            ladder.ended = Some(self.count);
            self.ended.insert(self.count, place);
        }
    }

    fn push(&mut self, place: u64, direction: Direction, path: Path, bytes: &Bytes, now: Instant) {
        let kept = match bytes.get(..MESSAGE_BYTES_MAX) {
            // A part of it would keep all of it.
            Some(part) if bytes.len() > MESSAGE_BYTES_MAX => Bytes::copy_from_slice(part),
            Some(_) | None => bytes.clone(),
        };
        let message = Message {
            at: now,
            direction,
            path,
            bytes: kept,
            length: bytes.len(),
            unsent: false,
        };
        let more = message.counted();
        let Some(ladder) = self.wake(place) else {
            return;
        };
        ladder.messages.push_back(message);
        let too_many = ladder.messages.len() > MESSAGES_MAX;
        let gone = too_many.then(|| ladder.messages.remove(MESSAGES_FIRST));
        let gone = gone.flatten();
        ladder.left_out += u64::from(gone.is_some());
        self.usage.left_out += u64::from(gone.is_some());
        self.usage.bytes += more;
        self.usage.bytes -= gone.map_or(0, |gone| gone.counted());
    }

    /// Forgets what is too much.
    fn keep(&mut self, limits: Limits) {
        while self.ended.len() > limits.ended || self.usage.bytes > limits.bytes {
            let ended = self.ended.values().next();
            let Some(place) = ended.or_else(|| self.ladders.keys().next()).copied() else {
                return;
            };
            self.forget(place);
        }
    }

    fn forget(&mut self, place: u64) {
        let Some(ladder) = self.ladders.remove(&place) else {
            return;
        };
        self.places.remove(&ladder.call_id);
        if let Some(ended) = ladder.ended {
            self.ended.remove(&ended);
        }
        self.awake.remove(&place);
        self.usage.bytes -= ladder.bytes();
        self.usage.forgotten += 1;
    }

    /// Calls are not to be traced any more.
    fn clear(&mut self) {
        if !self.ladders.is_empty() {
            let usage = Usage {
                bytes: 0,
                ..self.usage
            };
            *self = Self {
                count: self.count,
                usage,
                ..Self::default()
            };
        }
    }
}

impl Engine {
    /// A message was handled; `heard`: something followed from it.
    pub(super) fn trace_received(&mut self, path: Path, bytes: &Bytes, heard: bool, now: Instant) {
        let mut ladders = std::mem::take(&mut self.ladders);
        ladders.received(self, path, bytes, heard, now);
        self.ladders = ladders;
    }

    /// These are being done.
    pub fn trace(&mut self, effects: &[Effect], now: Instant) {
        let mut ladders = std::mem::take(&mut self.ladders);
        for effect in effects {
            match effect {
                Effect::Send { on, to, bytes } => {
                    let path = Path { on: *on, to: *to };
                    ladders.sent(self, path, bytes, now);
                }
                Effect::Record(record) => ladders.over(self, record.call_id.as_bytes()),
                Effect::Dial { .. }
                | Effect::Open { .. }
                | Effect::Close { .. }
                | Effect::Install { .. }
                | Effect::Remove { .. }
                | Effect::KeepAlive { .. }
                | Effect::Forward { .. }
                | Effect::Listen { .. }
                | Effect::Unlisten { .. }
                | Effect::Publish { .. }
                | Effect::Ban { .. }
                | Effect::Peer { .. }
                | Effect::Spent(_)
                | Effect::Store { .. } => {}
            }
        }
        self.ladders = ladders;
    }

    /// The messages of calls.
    #[must_use]
    pub fn ladders(&self) -> &Ladders {
        &self.ladders
    }

    /// The numbers of the calls with a Call-ID.
    pub(super) fn numbers_of(&self, call_id: &[u8]) -> impl Iterator<Item = u64> {
        let keys = self.dialogs.get(call_id).into_iter().flatten();
        keys.map(|key| key.0)
    }
}
