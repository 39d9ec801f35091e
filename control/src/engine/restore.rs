//! What is kept beyond the end of the process, and what is made of it at the next start.

use std::time::Instant;

use bytes::Bytes;

use crate::config::Auth;
use crate::effect::{Effect, Effects, Kept, Record, Table};
use crate::engine::Engine;
use crate::engine::event::Kind;
use crate::id::{Aor, NetworkId, Path};
use crate::sip::registrar::record::{Unreadable, decode, encode};

impl Engine {
    /// Every address-of-record that changed is told to the other shards, and kept as it is now.
    pub(super) fn tell_registrations(&mut self, now: Instant, effects: &mut Effects) {
        let networks = &self.config.networks;
        let former = &self.former;
        let name = |id: NetworkId| {
            let configured = networks.iter().find(|network| network.id == id);
            let network = configured.or_else(|| former.network(id));
            network.map_or("", |network| network.name.as_str())
        };
        for (aor, bindings) in self.registrar.changes() {
            let bytes = (!bindings.is_empty()).then(|| encode(&bindings, now, name));
            if self.shard.of() > 1 {
                effects.push(Effect::Publish { aor: aor.clone() });
            }
            effects.push(Effect::Store {
                table: Table::Registrations,
                key: Bytes::copy_from_slice(aor.as_str().as_bytes()),
                record: bytes.map(|bytes| Record {
                    at: now,
                    bytes: bytes.into(),
                }),
            });
        }
    }

    /// What an earlier process kept goes on, as far as it still has a place.
    pub(super) fn restore(&mut self, kept: Vec<Kept>, now: Instant, effects: &mut Effects) {
        let before = self.registrar.len();
        let mut calls = Vec::new();
        let mut bans = Vec::new();
        for Kept { table, key, record } in kept {
            match table {
                Table::Calls => calls.push(Kept { table, key, record }),
                Table::Registrations => self.restore_registration(&key, &record, now),
                Table::Bans => bans.push((key, record)),
                // Not the engine's.
                Table::Conferences | Table::Outbox => {}
            }
        }
        self.restore_calls(calls, now, effects);
        self.restore_bans(&bans, now, effects);
        if !self.shard.is_first() {
            return;
        }
        // What was not taken over is forgotten there too; what was is there already.
        self.tell_registrations(now, effects);
        if self.shard.of() > 1 {
            let aors = self.registrar.registered().cloned();
            effects.extend(aors.map(|aor| Effect::Publish { aor }));
        }
        let restored = self.registrar.len().saturating_sub(before);
        if restored > 0 {
            let count = vec![("bindings", restored.to_string())];
            let node = self.config.node.id.clone();
            self.note(now, Kind::RegistrationsRestored, node, count);
        }
    }

    /// Every shard has all of them; the first forgets what is over.
    fn restore_bans(&mut self, kept: &[(Bytes, Record)], now: Instant, effects: &mut Effects) {
        for (key, record) in kept {
            let lasts = self.guard.bans.restore(key, record, now);
            if self.shard.is_first() && !lasts {
                effects.push(Effect::Store {
                    table: Table::Bans,
                    key: key.clone(),
                    record: None,
                });
            }
        }
    }

    /// Every ban that changed is kept as it is now, by the first shard: all know of all.
    pub(super) fn keep_bans(&mut self, now: Instant, effects: &mut Effects) {
        let changes = self.guard.bans.changes(now).into_iter();
        if self.shard.is_first() {
            effects.extend(changes.map(|(key, record)| Effect::Store {
                table: Table::Bans,
                key,
                record,
            }));
        }
    }

    fn restore_registration(&mut self, key: &[u8], record: &Record, now: Instant) {
        let lost = |engine: &mut Self, why: &'static str| {
            engine.counters.count("sip_registration", why);
            let subject = String::from_utf8_lossy(key).into_owned();
            let why = vec![("why", why.to_owned())];
            engine.note(now, Kind::RegistrationEnded, subject, why);
        };
        let aor = std::str::from_utf8(key).ok();
        let Some((user, domain)) = aor.and_then(|aor| aor.rsplit_once('@')) else {
            return lost(self, "record_damaged");
        };
        let networks = &self.config.networks;
        let named = |name: &str| networks.iter().find(|n| n.name == name).map(|n| n.id);
        let bindings = match decode(&record.bytes, record.at, named) {
            Ok(bindings) => bindings,
            Err(Unreadable::Damaged) => return lost(self, "record_damaged"),
            Err(Unreadable::Version(_)) => return lost(self, "record_newer"),
        };
        let aor = Aor::new(user, domain);
        let known = self.may_register(user, domain);
        let count = bindings.len();
        let mut kept = Vec::with_capacity(count);
        for (network, mut binding) in bindings {
            let Path { on, to } = binding.path;
            let here = || self.config.network_of(on.local.ip(), to.ip());
            let listened = self.config.sip.listen.contains(&on);
            let network = network.or_else(here).filter(|_| listened);
            match network {
                _ if binding.expires_at <= now => {
                    self.counters.count("sip_registration", "expired");
                }
                Some(network)
                    if !known
                        && binding.upstream.is_none()
                        && self.peer_at(binding.path, network).is_none() =>
                {
                    lost(self, "account_removed");
                }
                Some(network) => {
                    binding.network = network;
                    // Whoever made it had proved itself.
                    self.proven(to, user.as_bytes(), now);
                    kept.push(binding);
                }
                None => lost(self, "network_gone"),
            }
        }
        let whole = kept.len() == count;
        if !kept.is_empty() && !self.registrar.restore(&aor, kept) {
            lost(self, "too_many");
        } else if !whole {
            self.registrar.touch(&aor);
        }
    }

    /// Whether a user has a place here, as far as configuration tells.
    fn may_register(&self, user: &str, domain: &str) -> bool {
        let sip = &self.config.sip;
        domain == sip.domain && (sip.auth == Auth::None || self.account(user).is_some())
    }
}
