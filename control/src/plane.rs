//! The conference plane: whom of those who publish it hears, and what becomes of it. One for a
//! node, on a task of its own.

pub mod access;

use std::time::Instant;

use bytes::Bytes;

use crate::bus::{Client, Publication};
use crate::effect::{Kept, Record, Table};
use crate::engine::event::Event;

/// The bit that tickets of the broker behind us have, and those of the edge have not.
pub const BEYOND: u64 = 1 << 63;

/// What happens to the plane.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Input {
    /// A client of the edge published; it is acknowledged once [`Effect::Acknowledge`] says so.
    Published {
        ticket: u64,
        by: Client,
        publication: Publication,
    },
    /// A client is there.
    Connected(Client),
    /// It is gone: its connection ended, was taken over or timed out.
    Disconnected(Client),
    /// Somebody published at the broker behind us (`mqtt.mode = "external"`); the broker is
    /// acknowledged once [`Effect::Acknowledge`] says so. The ticket has [`BEYOND`] set.
    Beyond {
        ticket: u64,
        publication: Publication,
    },
    /// What the engines noted of registrations, calls and media, in order.
    Noted(Event),
    /// Another server sent this over the link between us.
    Frame { from: String, frame: Bytes },
    /// A link to another server came up or went down.
    Link { to: String, up: bool },
    /// What was kept of conferences before the start.
    Restored(Vec<Kept>),
    /// The time that [`Plane::next`] named has come.
    Tick,
}

/// What the plane wants done, in order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Effect {
    /// To whoever subscribed and may read it, and to the broker behind us.
    Publish(Publication),
    /// What a client published is accepted, or not; the reason is for the log and MQTT 5 clients.
    Acknowledge {
        ticket: u64,
        refused: Option<&'static str>,
    },
    /// Over the link to another server; kept until that one has it.
    Frame { to: String, frame: Bytes },
    /// Keep this, as `effect::Effect::Store`: effects behind it in the list wait until it is kept.
    Store {
        table: Table,
        key: Bytes,
        record: Option<Record>,
    },
    /// From now on a participant may read what is published of a conference ([`access::Rules`]).
    Admit { cid: String, pid: String },
    /// It may not any more.
    Dismiss { cid: String, pid: String },
    /// The view that was accepted is the conference server's to show.
    HandOver {
        cid: String,
        vid: String,
        document: Bytes,
    },
}

/// The list effects are pushed into.
pub type Effects = Vec<Effect>;

/// The plane.
#[derive(Debug, Default)]
pub struct Plane {}

impl Plane {
    /// Handles one input; time is the caller's.
    pub fn handle(&mut self, input: Input, _now: Instant, effects: &mut Effects) {
        if let Input::Published { ticket, .. } | Input::Beyond { ticket, .. } = input {
            effects.push(Effect::Acknowledge {
                ticket,
                refused: Some("no conference of ours"),
            });
        }
    }

    /// When it wants [`Input::Tick`].
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        None
    }
}
