//! What is told of running media: who is heard, who is not any more, who is not its party.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::engine::call::Call;
use crate::engine::event::Kind;
use crate::engine::{CallKey, Engine};
use crate::id::NetworkId;
use crate::media::session::Side;
use crate::media::{Change, Heard, Silence};

/// A call may name so many strangers; an attacker has more addresses than the ring has places.
pub(super) const STRANGERS_MAX: usize = 4;
/// All calls together may name so many in `STRANGERS_EVERY`.
const STRANGERS_PER_WINDOW: u32 = 60;
const STRANGERS_EVERY: Duration = Duration::from_secs(60);

/// How many strangers were named lately.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Budget {
    began: Option<Instant>,
    spent: u32,
}

impl Budget {
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let over = |began: Instant| now.saturating_duration_since(began) >= STRANGERS_EVERY;
        if self.began.is_none_or(over) {
            (self.began, self.spent) = (Some(now), 0);
        }
        self.spent = self.spent.saturating_add(1);
        self.spent <= STRANGERS_PER_WINDOW
    }
}

impl Engine {
    /// Tells what has changed, and counts who is silent.
    pub(super) fn feel_pulses(&mut self, now: Instant) {
        let mut silence: BTreeMap<NetworkId, Silence> = BTreeMap::new();
        let mut told = Vec::new();
        for (key, call) in &mut self.calls {
            let Some(session) = call.session.as_mut() else {
                continue;
            };
            told.extend(session.changes(now).into_iter().map(|heard| (*key, heard)));
            for side in Side::BOTH {
                let (now, network) = (session.silence(side), session.leg(side).network);
                if now != Silence::default() {
                    let here = silence.entry(network).or_default();
                    here.streams += now.streams;
                    // Calls, not streams.
                    here.one_way += now.one_way.min(1);
                }
            }
        }
        self.silence = silence;
        for (key, heard) in told {
            self.tell(key, heard, now);
        }
    }

    fn tell(&mut self, key: CallKey, heard: Heard, now: Instant) {
        let kind = match heard.change {
            Change::First => Kind::MediaFirst,
            Change::Silent => Kind::MediaSilent,
            Change::OneWay => Kind::MediaOneWay,
            Change::Resumed => Kind::MediaResumed,
            Change::Source { .. } => Kind::MediaSource,
        };
        self.counters.count("media_event", kind.name());
        let mut fields = vec![
            ("leg", leg(heard.side).to_owned()),
            ("media", heard.index.to_string()),
            ("kind", heard.kind),
            ("at", heard.at.to_string()),
        ];
        if let Change::Source { before, now } = heard.change {
            fields.push(("ssrc", format!("{now:#010x}")));
            fields.push(("before", format!("{before:#010x}")));
        }
        // A party may take another source for every packet; once in a while is enough.
        let subject = key.0.to_string();
        if kind == Kind::MediaSource {
            self.note_rarely(now, kind, &subject, fields);
        } else {
            self.note(now, kind, subject, fields);
        }
    }

    /// Silence as it was last looked at, by the network of the silent party.
    #[must_use]
    pub fn silence(&self) -> &BTreeMap<NetworkId, Silence> {
        &self.silence
    }
}

fn leg(side: Side) -> &'static str {
    match side {
        Side::A => "caller",
        Side::B => "callee",
    }
}

impl Call {
    /// Which party's packets an address of ours takes.
    pub(super) fn leg_at(&self, at: std::net::SocketAddr) -> &'static str {
        let session = self.session.as_ref();
        session.and_then(|s| s.side_at(at)).map_or("", leg)
    }
}
