//! What the four machines have in common for those who run them.

use std::time::Instant;

use bytes::Bytes;

use super::client::Client;
use super::client_invite::ClientInvite;
use super::server::Server;
use super::server_invite::ServerInvite;
use super::{Incoming, Kind, Response};
use crate::effect::{Effect, Effects};
use crate::id::Path;

#[derive(Debug)]
pub(super) enum ServerMachine {
    Invite(ServerInvite),
    NonInvite(Server),
}

#[derive(Debug)]
pub(super) enum ClientMachine {
    Invite(ClientInvite),
    NonInvite(Client),
}

/// How a server machine ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ServerEnd {
    NoAck,
    Unanswered,
    Gone,
}

/// How a client machine ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ClientEnd {
    TimedOut,
    Gone,
}

/// What a machine distinguishes in a status code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Class {
    Provisional,
    Success,
    Failure,
}

impl Class {
    pub(super) fn of(code: u16) -> Option<Self> {
        match code {
            100..=199 => Some(Self::Provisional),
            200..=299 => Some(Self::Success),
            300..=699 => Some(Self::Failure),
            _ => None,
        }
    }
}

impl ServerMachine {
    pub(super) fn receive(&mut self, kind: Kind, now: Instant, effects: &mut Effects) -> Incoming {
        match (self, kind) {
            (Self::Invite(machine), Kind::Ack) => machine.acknowledge(now),
            (Self::Invite(machine), Kind::Invite | Kind::NonInvite) => machine.repeat(effects),
            (Self::NonInvite(machine), Kind::Invite | Kind::NonInvite | Kind::Ack) => {
                machine.repeat(effects)
            }
        }
    }

    pub(super) fn respond(
        &mut self,
        code: u16,
        response: Bytes,
        now: Instant,
        effects: &mut Effects,
    ) -> bool {
        match self {
            Self::Invite(machine) => {
                Class::of(code).is_some_and(|class| machine.respond(class, response, now, effects))
            }
            Self::NonInvite(machine) => machine.respond(code, response, now, effects),
        }
    }

    pub(super) fn expire(&mut self, now: Instant, effects: &mut Effects) -> Option<ServerEnd> {
        match self {
            Self::Invite(machine) => machine.expire(now, effects),
            Self::NonInvite(machine) => machine.expire(now),
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        match self {
            Self::Invite(machine) => machine.next_timeout(),
            Self::NonInvite(machine) => machine.next_timeout(),
        }
    }
}

impl ClientMachine {
    pub(super) fn receive(
        &mut self,
        class: Class,
        ack: impl FnOnce() -> Bytes,
        now: Instant,
        effects: &mut Effects,
    ) -> Response {
        match self {
            Self::Invite(machine) => machine.receive(class, ack, now, effects),
            Self::NonInvite(machine) => machine.receive(class, now),
        }
    }

    pub(super) fn cancel(&mut self, now: Instant) -> bool {
        match self {
            Self::Invite(machine) => machine.cancel(now),
            // RFC 3261 §9.1: only an INVITE is cancelled.
            Self::NonInvite(_) => false,
        }
    }

    pub(super) fn is_proceeding(&self) -> bool {
        match self {
            Self::Invite(machine) => machine.is_proceeding(),
            Self::NonInvite(machine) => machine.is_proceeding(),
        }
    }

    pub(super) fn expire(&mut self, now: Instant, effects: &mut Effects) -> Option<ClientEnd> {
        match self {
            Self::Invite(machine) => machine.expire(now, effects),
            Self::NonInvite(machine) => machine.expire(now, effects),
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        match self {
            Self::Invite(machine) => machine.next_timeout(),
            Self::NonInvite(machine) => machine.next_timeout(),
        }
    }
}

pub(super) fn send(path: &Path, bytes: &Bytes, effects: &mut Effects) {
    effects.push(Effect::Send {
        on: path.on,
        to: path.to,
        bytes: bytes.clone(),
    });
}
