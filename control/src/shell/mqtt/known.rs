//! What the edge asks others about its clients: whom a token stands for, and by which address of
//! ours somebody is registered. Neither is asked while the edge is locked.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::{Edge, Shared};
use crate::bus::Principal;
use crate::engine::event::{Event, Kind};
use crate::mqtt::broker::{ConnId, Input};
use crate::mqtt::packet::Reason;
use crate::shell::api::Access;
use crate::shell::clock;
use crate::shell::shard::Slot;

/// A connection outlives the token it was opened with by as much at most.
const TOKENS_EVERY: Duration = Duration::from_secs(5);

/// Those who know.
#[derive(Clone)]
pub(in crate::shell) struct Known {
    access: Arc<Access>,
    /// The shard with the registrations.
    registrar: Option<Arc<Slot>>,
}

impl Known {
    pub(in crate::shell) fn new(access: &Arc<Access>, registrar: Option<&Arc<Slot>>) -> Self {
        Self {
            access: access.clone(),
            registrar: registrar.cloned(),
        }
    }

    /// Whom a password stands for that may be a token; none: it is no valid one of that name.
    pub(super) fn token(&self, login: Option<&(String, String)>) -> Option<Principal> {
        let (user, password) = login?;
        self.access.on_the_bus(user, password, clock::wall_s())
    }

    /// The address of ours that a client's registration was told: of the one that came from where
    /// the client is, else of the newest.
    pub(super) fn told(&self, who: &Principal, domain: &str, remote: IpAddr) -> Option<IpAddr> {
        let (Principal::Account(user) | Principal::Anonymous(user)) = who else {
            return None;
        };
        let slot = self.registrar.as_ref()?;
        let aor = format!("{user}@{domain}");
        let found = slot.lock().engine.registrations_of(&aor, clock::now());
        let near = found
            .iter()
            .find(|r| r.seen.to.ip().to_canonical() == remote);
        let told = near.or(found.first())?.told?;
        Some(told.ip().to_canonical())
    }
}

/// Whose registration is new, elsewhere or gone, or may be told another address.
#[derive(Debug, Default)]
pub(in crate::shell) struct Moved {
    all: bool,
    users: BTreeSet<String>,
}

impl Moved {
    pub(super) const ALL: Self = Self {
        all: true,
        users: BTreeSet::new(),
    };

    pub(in crate::shell) fn note(&mut self, event: &Event) {
        let one = [
            Kind::RegistrationNew,
            Kind::RegistrationMoved,
            Kind::RegistrationEnded,
        ];
        let all = [Kind::RegistrationsRestored, Kind::ConfigurationApplied];
        self.all |= all.contains(&event.kind);
        if one.contains(&event.kind) {
            let aor = event.subject.as_str();
            let user = aor.split_once('@').map_or(aor, |(user, _)| user);
            self.users.insert(user.to_owned());
        }
    }

    fn is_empty(&self) -> bool {
        !self.all && self.users.is_empty()
    }

    fn is(&self, user: &str) -> bool {
        self.all || self.users.contains(user)
    }
}

impl Edge {
    /// What it knows of their registrations is another thing now.
    pub(in crate::shell) fn registered(&self, moved: &Moved) {
        if moved.is_empty() {
            return;
        }
        let shared = &self.0;
        let (domain, clients) = {
            let state = shared.state();
            let domain = state.config.sip.domain.clone();
            let lines = state.lines.iter().filter_map(|(conn, line)| {
                let who = line.who.clone()?;
                let is_it = match &who {
                    Principal::Account(own) | Principal::Anonymous(own) => moved.is(own),
                    Principal::Server(_) | Principal::Operator(_) | Principal::Viewer(_) => false,
                };
                is_it.then_some((*conn, who, line.local, line.remote))
            });
            (domain, lines.collect::<Vec<_>>())
        };
        for (conn, who, local, remote) in clients {
            let told = shared.known.told(&who, &domain, remote.ip());
            let mut state = shared.state();
            let known_as = told.unwrap_or_else(|| state.known_as(local, remote));
            shared.handle(&mut state, Input::KnownAs { conn, known_as });
        }
    }
}

/// Ends connections whose token is nobody's any more.
pub(super) async fn watch_tokens(shared: Arc<Shared>) {
    loop {
        sleep(TOKENS_EVERY).await;
        let holders: Vec<(ConnId, Principal)> = {
            let state = shared.state();
            let lines = state.lines.iter();
            let who = lines.filter_map(|(conn, line)| Some((*conn, line.who.clone()?)));
            who.filter(|(_, who)| matches!(who, Principal::Operator(_) | Principal::Viewer(_)))
                .collect()
        };
        for (conn, who) in holders {
            if !shared.known.access.is_still(&who, clock::wall_s()) {
                let reason = Reason::NotAuthorized;
                let mut state = shared.state();
                shared.handle(&mut state, Input::Fault { conn, reason });
            }
        }
    }
}
