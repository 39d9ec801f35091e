//! The journal of calls: what another process must know to carry on with those that are up when
//! this one ends, however it ends. Their media goes on in the kernel meanwhile.
//!
//! Only calls that are up are kept, and of those only what has changed, once a second: a set-up
//! never waits for the disk, and a call that ends before it is written never costs anything. What
//! that leaves open is a call that was answered in the last second before a crash: its flows are
//! adopted without it, as are all in a daemon without a store.
//!
//! A call has three records: its dialog, and what each party said last in an offer or answer that
//! was agreed. The media is made again from those, at the same ports.

mod record;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher as _};
use std::time::Instant;

use bytes::Bytes;

use self::record::{Dialog, Party, decode, encode};
use crate::effect::{Effect, Effects, Kept, Record, Table};
use crate::engine::call::{Call, Sources};
use crate::engine::event::Kind;
use crate::engine::media::Part;
use crate::engine::refresh::SessionTimer;
use crate::engine::{CallKey, Engine};
use crate::id::SessionId;
use crate::media::session::{Both, Session, Side};
use crate::sip::dialog::Leg;

/// What a call has yet to have written, and what was. Before it is answered each dialog with one of
/// those asked has its own: the offers differ by where they go, and only one answer counts.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// An offer that is not answered, and whose.
    offer: Option<(Side, Bytes)>,
    offerer: Option<Side>,
    /// Said in an exchange that was agreed, and not yet written.
    said: Both<Option<Bytes>>,
    /// Whether each party has said something.
    known: Both<bool>,
    /// Of the dialog as it was written; none: nothing was.
    written: Option<u64>,
}

impl Journal {
    /// SDP that was accepted.
    pub(super) fn hear(&mut self, from: Side, part: Part, sdp: &[u8]) {
        let sdp = Bytes::copy_from_slice(sdp);
        if part == Part::Offer {
            self.offer = Some((from, sdp));
            return;
        }
        if let Some((offerer, offer)) = self.offer.take_if(|(side, _)| *side != from) {
            self.say(offerer, offer);
            self.offerer = Some(offerer);
        }
        self.say(from, sdp);
    }

    /// The offer came to nothing.
    pub(super) fn forget_offer(&mut self) {
        self.offer = None;
    }

    fn say(&mut self, side: Side, sdp: Bytes) {
        *self.said.of_mut(side) = Some(sdp);
        *self.known.of_mut(side) = true;
    }

    /// That of another dialog with the same offer: its answer is its own.
    pub(super) fn another(&self) -> Self {
        let answered = self.offerer.and_then(|offerer| {
            let said = self.said.of(offerer).clone();
            said.map(|offer| (offerer, offer))
        });
        Self {
            offer: answered.or_else(|| self.offer.clone()),
            ..Self::default()
        }
    }
}

/// Which record of a call.
#[derive(Clone, Copy)]
enum What {
    Dialog,
    Said(Side),
}

impl What {
    const ALL: [Self; 3] = [Self::Dialog, Self::Said(Side::A), Self::Said(Side::B)];

    fn octet(self) -> u8 {
        match self {
            Self::Dialog => 0,
            Self::Said(Side::A) => 1,
            Self::Said(Side::B) => 2,
        }
    }

    fn key(self, call: u64) -> Bytes {
        let mut key = call.to_be_bytes().to_vec();
        key.push(self.octet());
        key.into()
    }
}

/// The number of the call that a record is of.
#[must_use]
pub fn call_of(key: &[u8]) -> Option<u64> {
    let (number, rest) = key.split_first_chunk()?;
    (rest.len() == 1).then(|| u64::from_be_bytes(*number))
}

/// The records of one call.
#[derive(Default)]
struct Found {
    dialog: Option<Record>,
    said: Both<Option<Bytes>>,
}

impl Engine {
    /// Something of a call has changed that another process would have to know.
    pub(super) fn journal(&mut self, key: CallKey) {
        self.unkept.insert(key);
    }

    /// Writes down what has changed.
    pub(super) fn sweep_journal(&mut self, now: Instant, effects: &mut Effects) {
        for key in std::mem::take(&mut self.unkept) {
            let Some(call) = self.calls.get(&key) else {
                continue;
            };
            let Some(dialog) = self.dialog_of(call) else {
                // It is not up yet, or about to change: then it is written.
                if call.setup.is_some() {
                    self.unkept.insert(key);
                }
                continue;
            };
            let hash = hash(&dialog, call.started);
            let Some(call) = self.calls.get_mut(&key) else {
                continue;
            };
            let mut keep = |what: What, bytes: Bytes| {
                effects.push(Effect::Store {
                    table: Table::Calls,
                    key: what.key(key.0),
                    record: Some(Record { at: now, bytes }),
                });
            };
            for side in Side::BOTH {
                if let Some(said) = call.journal.said.of_mut(side).take() {
                    keep(What::Said(side), said);
                }
            }
            if call.journal.written != Some(hash) {
                keep(What::Dialog, encode(&dialog, now).into());
                call.journal.written = Some(hash);
            }
        }
    }

    /// A call is over.
    pub(super) fn forget_kept(&mut self, key: CallKey, call: &Call, effects: &mut Effects) {
        self.unkept.remove(&key);
        if call.journal.written.is_some() {
            forget(key.0, effects);
        }
    }

    /// What is kept of a call: none unless it is up, with nothing under way, and known whole.
    fn dialog_of(&self, call: &Call) -> Option<Dialog> {
        let Journal { offerer, known, .. } = &call.journal;
        let settled = call.setup.is_none() && call.rivals.is_empty() && call.delayed.is_none();
        if !(settled && known.a && known.b) {
            return None;
        }
        let timer = call.timer.as_ref();
        Some(Dialog {
            call_id: call.call_id.clone(),
            token: call.token.clone(),
            from: call.from.clone(),
            to: call.to.clone(),
            status: call.status,
            legs: Both {
                a: self.party_of(&call.caller)?,
                b: self.party_of(call.callee.as_ref()?)?,
            },
            offerer: (*offerer)?,
            lines: call.session.as_ref()?.lines(),
            timer: timer.map(|timer| (timer.interval.clone(), timer.refresher)),
            started: call.started,
            answered: call.answered?,
            refreshed: call.refreshed,
            alive: call.alive,
        })
    }

    fn party_of(&self, leg: &Leg) -> Option<Party> {
        Some(Party {
            network: self.network(leg.network)?.name.clone(),
            path: leg.path,
            natted: leg.natted,
            tag: leg.tag.clone()?,
            party: leg.party.clone(),
            target: leg.target.clone(),
            routes: leg.routes.clone(),
            numbers: leg.numbers.clone(),
        })
    }

    /// Calls of an earlier process go on, as far as they still have a place.
    pub(super) fn restore_calls(&mut self, kept: Vec<Kept>, now: Instant, effects: &mut Effects) {
        let mut all: BTreeMap<u64, Found> = BTreeMap::new();
        for Kept { key, record, .. } in kept {
            let Some(number) = call_of(&key) else {
                self.counters.count("call_restored", "damaged");
                effects.push(Effect::Store {
                    table: Table::Calls,
                    key,
                    record: None,
                });
                continue;
            };
            let found = all.entry(number).or_default();
            match key.last() {
                Some(0) => found.dialog = Some(record),
                Some(1) => found.said.a = Some(record.bytes),
                _ => found.said.b = Some(record.bytes),
            }
        }
        let mut restored = 0_usize;
        for (number, found) in all {
            let done = self.restore_call(number, found, now, effects);
            self.counters
                .count("call_restored", done.err().unwrap_or("restored"));
            match done {
                Ok(()) => restored += 1,
                Err(_) => forget(number, effects),
            }
        }
        if restored > 0 {
            let fields = vec![("calls", restored.to_string())];
            let node = self.config.node.id.clone();
            self.note(now, Kind::CallsRestored, node, fields);
        }
    }

    fn restore_call(
        &mut self,
        number: u64,
        found: Found,
        now: Instant,
        effects: &mut Effects,
    ) -> Result<(), &'static str> {
        let record = found.dialog.ok_or("damaged")?;
        let dialog = decode(&record.bytes, record.at).ok_or("damaged")?;
        let (Some(a), Some(b)) = (found.said.a, found.said.b) else {
            return Err("damaged");
        };
        let mine = self.whose.of_call_id(&dialog.call_id) == self.shard.index();
        let ports = dialog.lines.ports.iter().flatten();
        let mut ports = ports.flat_map(|pair| [pair.a, pair.b]);
        // Another number of shards has shared everything out anew.
        if !mine || !self.shard.owns_number(number) || !ports.all(|p| self.shard.owns_port(p)) {
            return Err("of_another_shard");
        }
        let key = CallKey(number);
        let (offerer, lines) = (dialog.offerer, dialog.lines.clone());
        let mut call = self.call_of(dialog).ok_or("network_gone")?;
        let settings = (
            self.leg_settings(&call.caller),
            call.callee.as_ref().and_then(|leg| self.leg_settings(leg)),
        );
        let (Some(one), Some(other)) = settings else {
            return Err("network_gone");
        };
        call.session = Some(Session::new(SessionId(number), one, other));
        self.inform(&mut call);
        let said = Both {
            a: &a[..],
            b: &b[..],
        };
        let mut whole = false;
        self.with_session(key, &mut call, effects, |session, pools, effects| {
            whole = session.restore(offerer, &lines, said, pools, now, effects);
        });
        if !whole {
            self.close_media(key, &mut call, now, effects);
            return Err("media_lost");
        }
        let sockets = call.session.as_ref().map(Session::locals);
        for (_, at) in sockets.unwrap_or_default() {
            let peer = self.adopted.remove(&at).map(|adopted| adopted.peer);
            if let Some(peer) = peer {
                self.with_session(key, &mut call, effects, |session, _, effects| {
                    session.adopt(at, peer, now, effects);
                });
            }
        }
        call.journal.known = Both { a: true, b: true };
        call.journal.offerer = Some(offerer);
        call.journal.written = Some(0);
        self.calls_made = self.calls_made.max(number / u64::from(self.shard.of()) + 1);
        let keys = self.dialogs.entry(call.call_id.clone()).or_default();
        keys.push(key);
        self.calls.insert(key, call);
        Ok(())
    }

    fn call_of(&self, dialog: Dialog) -> Option<Box<Call>> {
        let leg = |party: Party| {
            let networks = &mut self.config.networks.iter();
            let network = networks.find(|n| n.name == party.network)?.id;
            let listened = self.config.sip.listen.contains(&party.path.on);
            listened.then_some(Leg {
                network,
                path: party.path,
                natted: party.natted,
                tag: Some(party.tag),
                party: party.party,
                target: party.target,
                routes: party.routes,
                numbers: party.numbers,
            })
        };
        Some(Box::new(Call {
            call_id: dialog.call_id,
            token: dialog.token,
            from: dialog.from,
            to: dialog.to,
            caller: leg(dialog.legs.a)?,
            callee: Some(leg(dialog.legs.b)?),
            branch: 0,
            rivals: Vec::new(),
            session: None,
            claims: Vec::new(),
            journal: Journal::default(),
            setup: None,
            success: None,
            acked: None,
            delayed: None,
            offers: 0,
            refresh: None,
            timer: dialog.timer.map(|(interval, refresher)| SessionTimer {
                interval,
                refresher,
            }),
            refreshed: dialog.refreshed,
            alive: dialog.alive,
            sources: Sources::default(),
            started: dialog.started,
            answered: Some(dialog.answered),
            status: dialog.status,
            ended_by: None,
        }))
    }
}

fn forget(number: u64, effects: &mut Effects) {
    effects.extend(What::ALL.map(|what| Effect::Store {
        table: Table::Calls,
        key: what.key(number),
        record: None,
    }));
}

/// The same as long as nothing has changed: times count from a fixed one.
fn hash(dialog: &Dialog, since: Instant) -> u64 {
    let mut hasher = DefaultHasher::new();
    // Whoever is heard is there; how long ago is not worth a record.
    let alive = Both { a: since, b: since };
    let still = Dialog {
        alive,
        ..dialog.clone()
    };
    hasher.write(&encode(&still, since));
    hasher.finish()
}
