//! What an operator may ask and order, and what the engine shows. Plain values: JSON is the
//! shell's business.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::effect::Effects;
use crate::engine::{Counters, Engine};
use crate::id::{Aor, NetworkId, Path};
use crate::media::session::StreamView;

/// An order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Command {
    /// End a call: BYE to both parties.
    HangUp { call: u64 },
    /// Forget every binding of an address-of-record.
    DropRegistration { aor: String },
}

/// Why an order was not carried out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refused {
    NoSuchCall,
    NoSuchRegistration,
}

/// One call as it is now.
#[derive(Clone, Debug)]
pub struct CallView {
    pub id: u64,
    pub call_id: String,
    pub from: String,
    pub to: String,
    pub state: &'static str,
    pub age: Duration,
    pub setup: Option<Duration>,
    pub caller: LegView,
    pub callee: Option<LegView>,
    pub streams: Vec<StreamView>,
}

/// One party of a call.
#[derive(Clone, Debug)]
pub struct LegView {
    pub network: NetworkId,
    pub signalling: Path,
    pub natted: bool,
    pub target: String,
}

/// One binding.
#[derive(Clone, Debug)]
pub struct RegistrationView {
    pub aor: Aor,
    pub contact: String,
    pub instance: Option<String>,
    /// Where the REGISTER really came from.
    pub seen: Path,
    /// The address its Contact names.
    pub claimed: Option<SocketAddr>,
    pub network: NetworkId,
    pub natted: bool,
    pub expires_in: Duration,
    pub user_agent: Option<String>,
}

/// The numbers of `status`.
#[derive(Clone, Debug)]
pub struct Totals {
    pub calls: usize,
    pub calls_answered: usize,
    pub registrations: usize,
    pub transactions: usize,
    pub adopted_flows: usize,
}

impl Engine {
    /// # Errors
    /// Says why nothing was done.
    pub fn command(
        &mut self,
        command: Command,
        now: Instant,
        effects: &mut Effects,
    ) -> Result<(), Refused> {
        match command {
            Command::HangUp { call } => self
                .hang_up_call(super::CallKey(call), "administrator", now, effects)
                .then_some(())
                .ok_or(Refused::NoSuchCall),
            Command::DropRegistration { aor } => match aor.split_once('@') {
                Some((user, domain)) if self.registrar.remove(&Aor::new(user, domain)) > 0 => {
                    Ok(())
                }
                _ => Err(Refused::NoSuchRegistration),
            },
        }
    }

    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            calls: self.calls.len(),
            calls_answered: self.calls.values().filter(|c| c.answered.is_some()).count(),
            registrations: self.registrar.len(),
            transactions: self.transactions.len(),
            adopted_flows: self.adopted.len(),
        }
    }

    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    #[must_use]
    pub fn calls(&self, now: Instant) -> Vec<CallView> {
        self.calls.iter().map(|(key, call)| call.view(key.0, now)).collect()
    }

    #[must_use]
    pub fn registrations(&self, now: Instant) -> Vec<RegistrationView> {
        self.registrar
            .iter()
            .map(|(aor, binding)| RegistrationView {
                aor: aor.clone(),
                contact: text(&binding.contact),
                instance: binding.instance.as_deref().map(text),
                seen: binding.path,
                claimed: binding.claimed,
                network: binding.network,
                natted: binding.natted,
                expires_in: binding.expires_at.saturating_duration_since(now),
                user_agent: binding.user_agent.clone(),
            })
            .collect()
    }
}

/// Bytes from the wire for an operator's eyes.
pub(super) fn text(bytes: impl AsRef<[u8]>) -> String {
    String::from_utf8_lossy(bytes.as_ref()).into_owned()
}
